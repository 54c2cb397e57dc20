"""What learns: the whole model, its head, its last layers, or a few numbers beside frozen weights.

Notation:  B batch · T positions · D d_model · r rank of a LoRA · k virtual tokens.

A LoRA or a soft prompt is put INTO a model: `LoraLinear` and `PromptEmbedding` are the layer they replace, with the
same frozen weight under the same name, and a few new parameters. The model's own code does not change.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lm_core.encoder import Encoder
from lm_core.model import Decoder

LORA_TARGETS = ("w_q", "w_k", "w_v", "w_o", "w_gate", "w_in", "w_out")

# --- LoRA -------------------------------------------------------------------------------------------------------------


def lora_forward(x: Tensor, weight: Tensor, bias: Tensor | None, a: Tensor, b: Tensor, scale: float) -> Tensor:
    """A linear layer with a thin detour beside it: `x·Wᵀ + bias + scale·(x·Aᵀ)·Bᵀ`.

    x [.. in], weight W [out in], a [r in], b [out r], bias [out] or None -> [.. out]; scale = alpha/r. W stays frozen:
    only A and B learn, r·(in + out) numbers in place of in·out. The detour is computed from right to left, never as the
    product B·A. Hu et al. 2022 (LoRA), eq. 3.

    >>> x, w, a, b = torch.tensor([[1.0, 2.0]]), torch.eye(2), torch.tensor([[1.0, 1.0]]), torch.tensor([[0.0], [1.0]])
    >>> lora_forward(x, w, None, a, b, scale=0.5)
    tensor([[1.0000, 3.5000]])
    """
    return F.linear(x, weight, bias) + scale * ((x @ a.mT) @ b.mT)


def lora_merge(weight: Tensor, a: Tensor, b: Tensor, scale: float) -> Tensor:
    """The detour built into the road: `W + scale·B·A`, the same layer without extra work. [out in] -> [out in].

    >>> lora_merge(torch.eye(2), torch.tensor([[1.0, 1.0]]), torch.tensor([[0.0], [1.0]]), scale=0.5)
    tensor([[1.0000, 0.0000],
            [0.5000, 1.5000]])
    """
    return weight + scale * (b @ a)


class LoraLinear(nn.Linear):
    """An `nn.Linear` with frozen weight and bias, and a learned detour A [r in], B [out r].

    B starts at 0, so at first nothing changes; A starts as `nn.Linear` does, uniform in ±√(3/in)·√(1/3) = ±1/√in.
    """

    def __init__(self, base: nn.Linear, rank: int, alpha: float, generator: torch.Generator | None = None) -> None:
        nn.Module.__init__(self)  # not Linear's: the weight is there already
        self.in_features, self.out_features = base.in_features, base.out_features
        self.rank, self.alpha = rank, float(alpha)
        self.weight, self.bias = base.weight, base.bias
        bound = 1 / math.sqrt(base.in_features)
        first = (torch.rand(rank, base.in_features, generator=generator) * 2 - 1) * bound
        self.lora_a = nn.Parameter(first.to(base.weight))
        self.lora_b = nn.Parameter(base.weight.new_zeros(base.out_features, rank))

    @property
    def scale(self) -> float:
        """alpha / rank: so that another rank needs no other learning rate."""
        return self.alpha / self.rank

    def forward(self, x: Tensor) -> Tensor:
        """[.. in] -> [.. out], see `lora_forward`."""
        return lora_forward(x, self.weight, self.bias, self.lora_a, self.lora_b, self.scale)


@dataclass(frozen=True)
class LoraConfig:
    """rank r, alpha (scale = alpha/r) and which matrices of every block: names of `LORA_TARGETS`.

    >>> LoraConfig(rank=0)
    Traceback (most recent call last):
    ValueError: lora rank 0 must be at least 1: a LoRA of rank 0 learns nothing
    """

    rank: int = 8
    alpha: float = 16.0
    targets: tuple[str, ...] = ("w_q", "w_v")

    def __post_init__(self) -> None:
        if self.rank < 1:
            raise ValueError(f"lora rank {self.rank} must be at least 1: a LoRA of rank {self.rank} learns nothing")
        if not 0 < self.alpha < math.inf:
            raise ValueError(f"lora alpha must be a positive number, not {self.alpha}")
        if unknown := set(self.targets) - set(LORA_TARGETS):
            raise ValueError(f"unknown lora targets {', '.join(sorted(unknown))}: use {', '.join(LORA_TARGETS)}")
        if not self.targets:
            raise ValueError(f"no lora targets: name at least one of {', '.join(LORA_TARGETS)}")


def lora_places(model: Decoder | Encoder, targets: Sequence[str]) -> Iterator[tuple[str, nn.Module, str, nn.Linear]]:
    """(path, the module that holds it, its name there, the layer) of every matrix that `targets` names."""
    for number, block in enumerate(model.blocks):
        for part_name in ("attention", "mlp"):
            part = getattr(block, part_name)
            for target in targets:
                layer = getattr(part, target, None)
                if isinstance(layer, nn.Linear):
                    yield f"blocks.{number}.{part_name}.{target}", part, target, layer


def add_lora(model: Decoder | Encoder, config: LoraConfig, generator: torch.Generator | None = None) -> None:
    """Freeze the model and give each target matrix its detour. Changes the model; `merge_lora` undoes it.

    Raises ValueError for a target that this model has nowhere (GPT-2 has no w_gate), and for a rank larger than a
    matrix, which could never pay.
    """
    places = list(lora_places(model, config.targets))
    if absent := set(config.targets) - {target for _, _, target, _ in places}:
        raise ValueError(f"this model has no {', '.join(sorted(absent))} to put a LoRA on")
    for path, _, _, layer in places:
        if isinstance(layer, LoraLinear):
            raise ValueError(f"{path} has a LoRA already: merge it first")
        if config.rank > (most := min(layer.weight.shape)):
            raise ValueError(f"lora rank {config.rank} is more than {path} can use: its matrix has rank {most} at most")
    model.requires_grad_(False)
    for _, part, target, layer in places:
        setattr(part, target, LoraLinear(layer, config.rank, config.alpha, generator))


def lora_layers(model: nn.Module) -> dict[str, LoraLinear]:
    """Every LoRA in a model by the path of its layer."""
    return {name: module for name, module in model.named_modules() if isinstance(module, LoraLinear)}


@torch.no_grad()
def merge_lora(model: nn.Module) -> int:
    """Turn every LoRA into the plain matrix `lora_merge` gives; returns how many there were."""
    layers = lora_layers(model)
    for path, layer in layers.items():
        plain = nn.Linear(layer.in_features, layer.out_features, bias=layer.bias is not None, device="meta")
        merged = lora_merge(layer.weight, layer.lora_a, layer.lora_b, layer.scale)
        plain.weight = nn.Parameter(merged, requires_grad=False)
        plain.bias = layer.bias
        parent, _, name = path.rpartition(".")
        setattr(model.get_submodule(parent), name, plain)
    return len(layers)


# --- soft prompt ------------------------------------------------------------------------------------------------------


class PromptEmbedding(nn.Embedding):
    """An embedding with k more tokens than the vocabulary: ids V … V+k−1 are the virtual ones, and only they learn.

    So a soft prompt is a text of k ids before the real one. Lester et al. 2021 (prompt tuning), section 2.
    """

    def __init__(self, base: nn.Embedding, prompt: Tensor) -> None:
        nn.Module.__init__(self)  # not Embedding's: the table is there already
        self.num_embeddings, self.embedding_dim = base.num_embeddings, base.embedding_dim
        self.weight = base.weight
        self.prompt = nn.Parameter(prompt)

    @property
    def virtual_ids(self) -> list[int]:
        """The ids of the k virtual tokens, in order."""
        return list(range(self.num_embeddings, self.num_embeddings + len(self.prompt)))

    def forward(self, token_ids: Tensor) -> Tensor:
        """int [.. T] -> [.. T D]: real ids from the frozen table, virtual ones from `prompt`."""
        virtual = token_ids >= self.num_embeddings
        real = F.embedding(token_ids.masked_fill(virtual, 0), self.weight)
        learned = F.embedding((token_ids - self.num_embeddings).clamp(min=0), self.prompt)
        return torch.where(virtual[..., None], learned, real)


def add_soft_prompt(model: Decoder, token_ids: Sequence[int]) -> PromptEmbedding:
    """Freeze the model and put k = len(token_ids) virtual tokens before its vocabulary's end; changes the model.

    They start as copies of the vectors of `token_ids`: real words are a better start than noise (Lester et al. 2021,
    section 3.2). Raises ValueError for none, and for so many that no room is left for text.
    """
    if not isinstance(model, Decoder):
        raise ValueError("a soft prompt is for causal models; this one is an encoder")
    n_virtual, room = len(token_ids), model.config.context_length
    if not 1 <= n_virtual < room:
        raise ValueError(f"{n_virtual} virtual tokens: use at least 1, and fewer than the context of {room}")
    if isinstance(model.embed_tokens, PromptEmbedding):
        raise ValueError("this model has a soft prompt already")
    model.requires_grad_(False)
    start = model.embed_tokens.weight.detach()[list(token_ids)].clone()
    model.embed_tokens = PromptEmbedding(model.embed_tokens, start)
    return model.embed_tokens


def soft_prompt(model: nn.Module) -> PromptEmbedding | None:
    """The model's soft prompt, or None."""
    found = (module for module in model.modules() if isinstance(module, PromptEmbedding))
    return next(found, None)


# --- which of the model's own numbers learn ---------------------------------------------------------------------------


def learn_last_layers(model: Decoder | Encoder, n_layers: int) -> None:
    """Freeze all but the last `n_layers` blocks and the final norm; with 0 everything (a head of its own still learns).

    Raises ValueError for more layers than there are.
    """
    if not 0 <= n_layers <= len(model.blocks):
        raise ValueError(f"the last {n_layers} layers, but this model has {len(model.blocks)}")
    model.requires_grad_(False)
    for block in list(model.blocks)[len(model.blocks) - n_layers :]:
        block.requires_grad_(True)
    if n_layers and isinstance(model, Decoder):
        model.final_norm.requires_grad_(True)


def n_learned(model: nn.Module) -> int:
    """How many numbers learn."""
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)


def learned(model: nn.Module) -> dict[str, Tensor]:
    """The parameters that learn, by name: what an adapter's checkpoint holds."""
    return cast(dict[str, Any], {name: p for name, p in model.named_parameters() if p.requires_grad})
