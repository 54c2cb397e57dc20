"""A model with its task: what is trained, and the loss it is trained on.

Notation:  B batch · T positions · D d_model · V vocab_size · C classes · k virtual tokens.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lm_core.adapters import add_lora, add_soft_prompt, learn_last_layers, soft_prompt
from lm_core.encoder import Encoder
from lm_core.finetune_config import FinetuneConfig
from lm_core.masks import padding_mask
from lm_core.model import Decoder
from lm_core.training_step import next_token_loss


def pool(hidden: Tensor, lengths: Tensor, pooling: str) -> Tensor:
    """One vector a text: hidden [B T D], lengths int [B] -> [B D].

    last: the last real token, the only one of a causal model that has seen the whole text; mean: over the real
    tokens; first: position 0.

    >>> hidden = torch.tensor([[[1.0], [3.0], [9.0]]])
    >>> [pool(hidden, torch.tensor([2]), p).item() for p in ("last", "mean", "first")]
    [3.0, 2.0, 1.0]
    """
    if pooling == "first":
        return hidden[:, 0]
    if pooling == "last":
        return hidden[torch.arange(len(hidden), device=hidden.device), lengths - 1]
    real = torch.arange(hidden.shape[1], device=hidden.device) < lengths[:, None]
    return (hidden * real[..., None]).sum(dim=1) / lengths[:, None]


class Learner(nn.Module):
    """A body (Decoder or Encoder), a task, and for classification a head: `logits = head(pool(body.hidden(ids)))`.

    The head has no bias on a decoder, and a bias after BERT's pooler (tanh) on an encoder: so do the classes of
    `transformers` that the folder is loaded into at the end. It starts at 0: the first loss is ln C exactly.
    """

    def __init__(self, body: Decoder | Encoder, n_classes: int = 0, pooling: str = "last") -> None:
        super().__init__()
        self.body, self.pooling = body, pooling
        d_model, like = body.config.d_model, body.embed_tokens.weight
        is_encoder = isinstance(body, Encoder)
        self.head = nn.Linear(d_model, n_classes, bias=is_encoder).to(like) if n_classes else None
        self.pooler = nn.Linear(d_model, d_model).to(like) if n_classes and is_encoder and pooling == "first" else None
        if self.head is not None:
            nn.init.zeros_(self.head.weight)
            if self.head.bias is not None:
                nn.init.zeros_(self.head.bias)

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return self.body.embed_tokens.weight.device

    @property
    def virtual_ids(self) -> list[int]:
        """The ids of the soft prompt that every text begins with; none without one."""
        prompt = soft_prompt(self.body)
        return [] if prompt is None else prompt.virtual_ids

    def forward(self, token_ids: Tensor, lengths: Tensor) -> Tensor:
        """int64 [B T], int64 [B] -> logits [B T V] of the next token, or [B C] of the class. No position of the soft
        prompt is in it.
        """
        virtual = self.virtual_ids
        if virtual:
            before = torch.tensor(virtual, device=token_ids.device).expand(len(token_ids), -1)
            token_ids, lengths = torch.cat([before, token_ids], dim=1), lengths + len(virtual)
        if self.head is None:
            return self.body(token_ids)[:, len(virtual) :]
        if isinstance(self.body, Encoder):
            hidden = self.body.hidden(token_ids, padding_mask(lengths, token_ids.shape[1]))
        else:  # what fills up a row stands on the right: a causal model never sees it, so no mask is needed
            hidden = self.body.hidden(token_ids)
        if self.pooling == "mean" and virtual:  # the mean is over the text alone
            hidden, lengths = hidden[:, len(virtual) :], lengths - len(virtual)
        pooled = pool(hidden, lengths, self.pooling)
        return self.head(pooled if self.pooler is None else torch.tanh(self.pooler(pooled)))

    def loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Mean −log P(target) in nats, a token or a text."""
        if self.head is None:
            return next_token_loss(logits, targets)
        return F.cross_entropy(logits.float(), targets)


def make_learner(
    body: Decoder | Encoder, config: FinetuneConfig, n_classes: int = 0, prompt_ids: Sequence[int] = ()
) -> Learner:
    """Give a model its task and freeze what shall not learn; changes `body`. Every draw comes from config.seed.

    n_classes is 0 for a causal task. `prompt_ids` are words a soft prompt starts from, repeated to n_virtual; without
    them it starts from ids drawn at random. Raises ValueError where model and config do not go together.
    """
    is_encoder = isinstance(body, Encoder)
    if config.task == "causal" and is_encoder:
        raise ValueError("an encoder sees what follows, so it cannot learn to continue a text: choose a causal model")
    if config.task == "classification":
        if n_classes < 2:
            raise ValueError(f"a classifier needs at least two classes, not {n_classes}")
        if config.pooling == "first" and not is_encoder:
            raise ValueError("pooling = first: the first position of a causal model has seen nothing of the text")
    random = torch.Generator().manual_seed(config.seed)
    if config.from_scratch:
        device = body.embed_tokens.weight.device
        body.to("cpu").init_weights(random).to(device)  # on the CPU, so that every device starts from the same numbers
    body.requires_grad_(True)
    if isinstance(body, Encoder):  # heads of pre-training that this task does not use
        for unused in (body.mlm_transform, body.mlm_norm, body.pooler, body.next_sentence):
            if unused is not None:
                unused.requires_grad_(False)
    if config.learns == "lora":
        add_lora(body, config.lora(), random)
    elif config.learns == "soft_prompt":
        drawn = torch.randint(body.config.vocab_size, (config.n_virtual,), generator=random).tolist()
        ids = (list(prompt_ids) * config.n_virtual)[: config.n_virtual] if prompt_ids else drawn
        add_soft_prompt(body, ids)  # type: ignore[arg-type]  # refuses an encoder itself
    elif config.learns == "last_layers":
        learn_last_layers(body, config.n_last_layers)
    elif config.learns == "head":
        body.requires_grad_(False)
    learner = Learner(body, n_classes if config.task == "classification" else 0, config.pooling)
    if isinstance(body, Encoder) and learner.pooler is not None:
        _start_pooler(learner.pooler, body, random)
    return learner.train()


@torch.no_grad()
def _start_pooler(pooler: nn.Linear, body: Encoder, random: torch.Generator) -> None:
    """BERT's trained pooler where the model has one, else small random numbers."""
    if body.pooler is not None:
        pooler.load_state_dict(body.pooler.state_dict())
    else:
        pooler.weight.copy_(torch.empty(pooler.weight.shape).normal_(0.0, 0.02, generator=random))
        pooler.bias.zero_()
