"""From logits to probabilities, and from the probability of each token to that of a text.

Notation:  B batch · T positions · V vocab_size.
Units: a logarithm to the base e counts nats, to the base 2 bits; 1 nat = 1.4427 bits.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

BITS_PER_NAT = 1 / math.log(2)


def softmax(logits: Tensor) -> Tensor:
    """Probabilities from logits: `p_i = exp(z_i) / Σ_j exp(z_j)`, over the last dimension.

    Subtracting the largest logit first changes nothing but keeps exp from overflowing.
    [.. V] -> [.. V].  Bridle 1990.

    >>> softmax(torch.tensor([1000.0, 1000.0]))
    tensor([0.5000, 0.5000])
    """
    exponentials = torch.exp(logits - logits.amax(dim=-1, keepdim=True))
    return exponentials / exponentials.sum(dim=-1, keepdim=True)


def log_softmax(logits: Tensor) -> Tensor:
    """log softmax in nats, without ever forming the probability: `z_i − log Σ_j exp(z_j)`; [.. V] -> [.. V].

    A probability of 1e-50 is 0 in float32; its logarithm, −115.1, is an ordinary number.

    >>> log_softmax(torch.tensor([0.0, -200.0]))
    tensor([   0., -200.])
    """
    shifted = logits - logits.amax(dim=-1, keepdim=True)
    return shifted - shifted.exp().sum(dim=-1, keepdim=True).log()


def entropy_bits(probabilities: Tensor) -> Tensor:
    """How undecided a distribution is: `−Σ p log2 p`, in bits; [.. V] -> [..]. 0·log 0 counts as 0.

    >>> entropy_bits(torch.tensor([[0.5, 0.5], [1.0, 0.0]]))
    tensor([1., 0.])
    """
    return torch.special.entr(probabilities).sum(dim=-1) * BITS_PER_NAT


def cross_entropy(logits: Tensor, targets: Tensor, ignored: int = -100) -> Tensor:
    """How surprised a model is on average: the mean of `−log P(target)` in nats, over the positions that count.

    logits [.. V], targets int [..] -> a scalar. A position whose target is `ignored` (padding, say) enters neither the
    sum nor the count. NaN where nothing counts.  `log_softmax` first, never the log of a softmax: that is −inf soon.

    >>> round(cross_entropy(torch.zeros(3, 4), torch.tensor([1, 0, -100])).item(), 4)  # ln 4
    1.3863
    """
    counted = targets != ignored
    picked = targets.masked_fill(~counted, 0)[..., None]
    nats = -log_softmax(logits).gather(-1, picked).squeeze(-1)
    return torch.where(counted, nats, 0).sum() / counted.sum()


def sequence_log_prob(token_ids: Tensor, logits: Tensor) -> Tensor:
    """The chain rule: `log P(w_1 … w_n | w_0) = Σ_t log P(w_t | w_<t)` in nats, read off one forward pass.

    token_ids int [T], logits [T V] of the same tokens: row t − 1 predicts token t -> a scalar.

    >>> round(sequence_log_prob(torch.tensor([0, 2, 1]), torch.zeros(3, 4)).item(), 4)  # two tokens at ¼ each
    -2.7726
    """
    log_probs = log_softmax(logits[:-1])
    return log_probs.gather(-1, token_ids[1:, None]).sum()


def perplexity_of(log_probs: Tensor) -> float:
    """As undecided as among this many equally likely tokens: `exp(−mean log P)`. log_probs [N] in nats, N ≥ 1.

    >>> round(perplexity_of(torch.log(torch.tensor([0.5, 0.125]))), 4)
    4.0
    """
    return math.exp(-float(log_probs.double().mean()))


def bits_per_byte_of(log_probs: Tensor, text: str) -> float:
    """What a text costs a byte: `−Σ log2 P / bytes`, its bytes in UTF-8. log_probs [N] in nats.

    Unlike perplexity it is comparable between tokenizers: all divide by the same bytes. Raises ValueError for an
    empty text.

    >>> round(bits_per_byte_of(torch.log(torch.tensor([0.25, 0.25])), "é"), 4)
    2.0
    """
    n_bytes = len(text.encode())
    if n_bytes == 0:
        raise ValueError("bits per byte of an empty text is not defined")
    return -float(log_probs.double().sum()) / math.log(2) / n_bytes


def next_token_nats(logits: Tensor, token_ids: Tensor) -> Tensor:
    """The loss of a causal model on whole texts: each row of logits is held against the token AFTER it.

    logits [B T V] of the texts token_ids int [B T], T ≥ 2 -> the mean of −log P in nats over B·(T − 1) predictions, a
    scalar. The last row predicts a token that is not there, and the first token is predicted by nobody.

    >>> logits = torch.tensor([[[0.0, 9.0], [9.0, 0.0], [0.0, 0.0]]])  # after the first token 1, then 0
    >>> round(next_token_nats(logits, torch.tensor([[0, 1, 0]])).item(), 4)
    0.0001
    """
    return cross_entropy(logits[:, :-1], token_ids[:, 1:])


@dataclass(frozen=True)
class SequenceScore:
    """What a causal model makes of one text. `first` is the first position that was scored.

    log_probs [T − first] in nats, P(w_t | everything before); ranks [T − first], 1 = the model's favourite.
    """

    token_ids: Tensor
    first: int
    log_probs: Tensor
    ranks: Tensor

    @property
    def probabilities(self) -> Tensor:
        """P(w_t | w_<t), [T − first]."""
        return self.log_probs.exp()

    @property
    def surprisal_bits(self) -> Tensor:
        """−log2 P(w_t | w_<t), [T − first]: how many bits each token costs."""
        return -self.log_probs * BITS_PER_NAT

    @property
    def total_nats(self) -> float:
        """log P of all scored tokens together: the chain rule as a sum."""
        return float(self.log_probs.double().sum())

    @property
    def mean_nats(self) -> float:
        """Cross-entropy a token: −total / count. NaN when nothing was scored."""
        return -self.total_nats / len(self.log_probs) if len(self.log_probs) else math.nan

    @property
    def perplexity(self) -> float:
        """exp(mean_nats): as undecided as among this many equally likely tokens."""
        return math.exp(self.mean_nats)

    def bits_per_byte(self, n_bytes: int) -> float:
        """Total bits divided by the length of the text in UTF-8 bytes: comparable between tokenizers."""
        if n_bytes < 1:
            raise ValueError("bits per byte of an empty text is not defined")
        return -self.total_nats * BITS_PER_NAT / n_bytes


def score_sequence(token_ids: Tensor, logits: Tensor) -> SequenceScore:
    """The chain rule: P(w_1 … w_n | w_0) = Π P(w_t | w_<t), read off one forward pass.

    token_ids int [T], logits [T V] of the same tokens: row t−1 predicts token t. With a document-start token as
    w_0 all tokens of the text are scored; without one the first has no condition and scoring starts at the second.
    Raises ValueError when the lengths differ.

    >>> uniform = torch.zeros(3, 4)
    >>> score_sequence(torch.tensor([0, 2, 1]), uniform).probabilities
    tensor([0.2500, 0.2500])
    """
    if token_ids.shape[0] != logits.shape[0]:
        raise ValueError(f"{token_ids.shape[0]} tokens but {logits.shape[0]} rows of logits")
    predictions, targets = logits[:-1].float(), token_ids[1:]
    actual = predictions.gather(-1, targets[:, None])
    log_probs = log_softmax(predictions).gather(-1, targets[:, None]).squeeze(-1)
    ranks = (predictions > actual).sum(dim=-1) + 1
    return SequenceScore(token_ids, 1, log_probs, ranks)


@dataclass(frozen=True)
class Underflow:
    """Where a product of probabilities leaves the numbers: `products` [T] after each factor; indices from 0, or None.

    `first_subnormal`: the first product that is not 0 but below the smallest number held in full precision;
    `first_zero`: the first one that is 0, after which nothing can be told any more.
    """

    products: Tensor
    first_subnormal: int | None
    first_zero: int | None


def naive_product(probabilities: Tensor, dtype: torch.dtype = torch.float32) -> Underflow:
    """Multiply the probabilities one after the other in `dtype`, as nobody should: the product dies of its smallness.

    float32 holds numbers in full precision down to 2⁻¹²⁶ ≈ 1.2e-38, with fewer and fewer digits ("subnormal") down to
    2⁻¹⁴⁹ ≈ 1.4e-45, and below that 0. probabilities [T] -> products [T].  IEEE 754-2019, section 3.4.

    >>> found = naive_product(torch.full((50,), 0.1))
    >>> found.first_subnormal, found.first_zero
    (37, 45)
    """
    products: list[Tensor] = []
    product = torch.ones((), dtype=dtype)
    for probability in probabilities.to(dtype):
        product = product * probability
        products.append(product)
    row = torch.stack(products) if products else torch.empty(0, dtype=dtype)
    zero, small = row == 0, (row != 0) & (row < torch.finfo(dtype).tiny)
    return Underflow(row, _first(small), _first(zero))


def _first(marks: Tensor) -> int | None:
    return int(marks.int().argmax()) if bool(marks.any()) else None


def guess_bits(shares: dict[int, float], actual: int, vocab_size: int) -> float:
    """How many bits a guess costs: −log₂ of the probability that it gave to what came.

    `shares` are probabilities for some tokens; what they leave of 1 is spread evenly over all other tokens, so that
    every outcome costs a finite number of bits. The logarithmic score is proper: nobody gains by stating anything but
    what he believes.  Good 1952.  Raises ValueError for a share outside [0, 1) or shares that leave nothing.

    >>> guess_bits({7: 0.5}, actual=7, vocab_size=1001), round(guess_bits({7: 0.5}, 3, 1001), 2)
    (1.0, 10.97)
    """
    total = sum(shares.values())
    if any(not 0 <= share < 1 for share in shares.values()) or not total < 1 or len(shares) >= vocab_size:
        raise ValueError(f"the shares add up to {total:.2f}: leave something for all other tokens")
    probability = shares.get(actual, (1 - total) / (vocab_size - len(shares)))
    return -math.log2(probability) if probability > 0 else math.inf
