"""How many numbers a model learns, and how much arithmetic a token costs: by formula, from the config alone.

Notation:  V vocab_size · D d_model · L n_layers · H heads · H_kv key/value heads · Dh d_head · M d_mlp
           · C context_length · n positions that a token looks at (itself included).

One FLOP is one multiplication or one addition, so a matrix with P weights costs 2P a token. Norms, activations,
softmax and the rotation are left out, as is usual: they grow with D, the products with D².
Kaplan et al. 2020, "Scaling Laws for Neural Language Models", table 1.
"""

import math
from dataclasses import dataclass

from lm_core.config import DecoderConfig

Term = tuple[tuple[str, int], ...]  # a product of named sizes


@dataclass(frozen=True)
class Part:
    """One part of a model: its numbers as a sum of products, how often it stands there, and what it costs.

    `terms` are of one copy; `products` are those of them that multiply every token (matrices, no biases or look-ups).
    """

    name: str
    copies: int
    terms: tuple[Term, ...]
    products: tuple[Term, ...] = ()

    @property
    def parameters(self) -> int:
        """Learned numbers of all copies."""
        return self.copies * sum(math.prod(size for _, size in term) for term in self.terms)

    @property
    def flops(self) -> int:
        """FLOPs a token in all copies: one multiplication and one addition a weight."""
        return 2 * self.copies * sum(math.prod(size for _, size in term) for term in self.products)

    @property
    def formula(self) -> str:
        r"""The sum of products in letters, as LaTeX.

        >>> Part("mlp", 6, ((("2", 2), ("D", 8), ("M", 32)), (("D", 8),))).formula
        'L \\cdot (2 \\cdot D \\cdot M + D)'
        """
        return self._written([r" \cdot ".join(name for name, _ in term) for term in self.terms], "L")

    @property
    def numbers(self) -> str:
        r"""The same with the sizes in place of the letters.

        >>> Part("mlp", 6, ((("2", 2), ("D", 8), ("M", 32)), (("D", 8),))).numbers
        '6 \\cdot (2 \\cdot 8 \\cdot 32 + 8)'
        """
        return self._written([r" \cdot ".join(str(size) for _, size in term) for term in self.terms], str(self.copies))

    def _written(self, terms: list[str], copies: str) -> str:
        total = " + ".join(terms) or "0"
        if self.copies == 1:
            return total
        return rf"{copies} \cdot ({total})" if len(terms) > 1 else rf"{copies} \cdot {total}"


def model_parts(c: DecoderConfig) -> tuple[Part, ...]:
    """The parts of a model in the order of the computation; their `parameters` add up to all it learns.

    >>> from lm_core.config import gpt2_config
    >>> gpt2 = gpt2_config(vocab_size=50257, d_model=768, n_layers=12, n_heads=12, context_length=1024)
    >>> sum(part.parameters for part in model_parts(gpt2))
    124439808
    """
    d, m, v = ("D", c.d_model), ("M", c.d_mlp), ("V", c.vocab_size)
    h, kv, dh = ("H", c.n_heads), ("H_{kv}", c.n_kv_heads), ("D_h", c.d_head)
    two = ("2", 2)
    attention: tuple[Term, ...] = ((two, d, h, dh), (two, d, kv, dh))  # W_Q and W_O; W_K and W_V
    attention_biases: tuple[Term, ...] = ((h, dh), (two, kv, dh), (d,)) if c.attention_bias else ()
    mlp: tuple[Term, ...] = ((("3", 3), d, m),) if c.gated_mlp else ((two, d, m),)
    mlp_biases: tuple[Term, ...] = ()
    if c.mlp_bias:
        mlp_biases = ((two, m), (d,)) if c.gated_mlp else ((m,), (d,))
    norm: Term = (two, d) if c.norm == "layer_norm" else (d,)  # LayerNorm learns an offset too
    positions = (Part("positions", 1, ((("C", c.context_length), d),)),) if c.positions == "learned" else ()
    return (
        Part("embedding", 1, ((v, d),)),
        *positions,
        Part("attention", c.n_layers, attention + attention_biases, attention),
        Part("mlp", c.n_layers, mlp + mlp_biases, mlp),
        Part("norms", c.n_layers, ((two, *norm),)),
        Part("final_norm", 1, (norm,)),
        Part("unembedding", 1, () if c.tie_embeddings else ((v, d),), ((v, d),)),
    )


def attention_flops(c: DecoderConfig, n: int) -> int:
    """FLOPs a token spends on n positions: q·k with each and the weighted sum of their values, in every head.

    `L · H · (2 n Dh + 2 n Dh) = 4 L H Dh n`: the only cost that grows with the text.

    >>> from lm_core.config import gpt2_config
    >>> attention_flops(gpt2_config(vocab_size=9, d_model=8, n_layers=2, n_heads=4, context_length=5), n=3)
    192
    """
    return 4 * c.n_layers * c.n_heads * c.d_head * n


def flops_per_token(c: DecoderConfig, n: int) -> int:
    """FLOPs of one token that looks at n positions: 2 a weight that multiplies it, plus the attention term.

    A whole text of T tokens costs `T · flops_per_token(c, T)` as computed here: the masked half of the scores is
    computed too and thrown away. (Kernels that skip it save up to half of the attention term.)

    >>> from lm_core.config import gpt2_config
    >>> c = gpt2_config(vocab_size=50257, d_model=768, n_layers=12, n_heads=12, context_length=1024)
    >>> flops_per_token(c, n=1024) / 1e9
    0.2848128
    """
    return sum(part.flops for part in model_parts(c)) + attention_flops(c, n)


def cache_bytes(c: DecoderConfig, n: int, bytes_a_number: int = 4) -> int:
    """Memory of a KV cache that holds n positions of one text: `2 · L · H_kv · Dh · n` numbers, keys and values.

    bytes_a_number is 4 for float32, 2 for bfloat16.  Pope et al. 2022, section 3.3; Ainslie et al. 2023 for H_kv < H.

    >>> from lm_core.config import gpt2_config
    >>> gpt2 = gpt2_config(vocab_size=50257, d_model=768, n_layers=12, n_heads=12, context_length=1024)
    >>> cache_bytes(gpt2, n=1024) / 2**20
    72.0
    """
    return 2 * c.n_layers * c.n_kv_heads * c.d_head * n * bytes_a_number
