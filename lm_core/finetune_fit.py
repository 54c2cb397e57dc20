"""Whether a model with its task, its data and the settings of a run go together."""

from lm_core.batches import CausalData, LabelledData
from lm_core.finetune_config import FinetuneConfig
from lm_core.learner import Learner

Data = CausalData | LabelledData


def check_fit(learner: Learner, data: Data, config: FinetuneConfig) -> None:
    """Whether these three go together. Raises ValueError, with the numbers, before anything is computed."""
    rows, unit = config.batch_size * config.accumulate, "windows" if isinstance(data, CausalData) else "texts"
    if rows > data.n_units:
        how = f"{config.batch_size} × accumulate {config.accumulate}" if config.accumulate > 1 else "batch_size"
        raise ValueError(
            f"a step learns from {rows} {unit} ({how}), but there are {data.n_units}: "
            f"set batch_size to {max(1, data.n_units // config.accumulate)} or less"
        )
    if isinstance(data, LabelledData) != (learner.head is not None):
        raise ValueError(f"the data is {'labelled' if learner.head is None else 'plain text'}, the task {config.task}")
    longest = data.n_tokens if isinstance(data, CausalData) else max(len(ids) for ids, _ in data.train)
    context = learner.body.config.context_length
    if longest + len(learner.virtual_ids) > context:
        most = context - len(learner.virtual_ids)
        raise ValueError(
            f"windows of {longest} tokens, but the model has room for {most}: set n_tokens to {most} or less"
        )
