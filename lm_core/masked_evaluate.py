"""How good an encoder is on text it has never seen: words hidden and guessed, beside two baselines that only count.

Notation:  T positions of a row · A positions asked about · V vocab_size. Logarithms are natural, summed in float64.

    masked-token score     15 % of the words of a row hidden at once, each token of them guessed from the rest
    pseudo-log-likelihood  each token of a text hidden alone: PLL = Σ_t log P(token t | all the others)

exp(−PLL / T) is the pseudo-perplexity. It is no probability of the text, and lower than a causal model's perplexity:
each guess sees both sides. The second and third token of a word are easy, with the rest of the word in view.

Sources:  Salazar et al. 2020, "Masked Language Model Scoring", eq. 1-3. Counting: Witten and Bell 1991, method C.
"""

import math
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from lm_core import device as devices
from lm_core.encoder import Encoder
from lm_core.encoder_rows import Frame, SentenceStream
from lm_core.evaluate import MinimalPair, Progress
from lm_core.fast_tokenizer import Tokenizer
from lm_core.masks import padding_mask
from lm_core.objectives import UNTOUCHED, corrupt, draw, word_numbers
from lm_core.token_kinds import TokenKinds


@dataclass(frozen=True)
class Question:
    """One row [CLS] text [SEP], int64 [T], and the positions, int64 [A], that are hidden and asked about at once."""

    token_ids: np.ndarray
    asked: np.ndarray


@dataclass(frozen=True)
class Answer:
    """What was given to the true token at each place asked about: log_probs float64 [A], and whether it came first."""

    log_probs: np.ndarray
    right: np.ndarray


@dataclass(frozen=True)
class Score:
    """Totals over answers."""

    n_tokens: int
    accuracy: float
    nats: float

    @property
    def perplexity(self) -> float:
        """exp(nats / tokens): of how many equally likely tokens the true one is, on average."""
        return math.exp(self.nats / self.n_tokens)


def total(answers: Iterable[Answer]) -> Score:
    """Add answers up. Raises ValueError for none.

    >>> total([Answer(np.log([0.5, 0.125]), np.array([True, False]))]).perplexity
    4.0
    """
    answers = list(answers)
    log_probs = np.concatenate([a.log_probs for a in answers]) if answers else np.zeros(0)
    if not len(log_probs):
        raise ValueError("there is nothing to score: no token was asked about")
    right = np.concatenate([a.right for a in answers])
    return Score(len(log_probs), float(right.mean()), -float(log_probs.sum()))


# --- questions --------------------------------------------------------------------------------------------------------


def rows_of(texts: Iterable[str], tokenizer: Tokenizer, n_tokens: int) -> list[np.ndarray]:
    """Texts as rows [CLS] whole sentences [SEP] of at most n_tokens, one after the other; each int64 [T].

    As in training, newlines at the end of a row and the space at its beginning are left out.
    """
    frame, start = Frame.of(tokenizer.special_tokens), min(tokenizer.special_tokens.values())
    ids: list[int] = []
    for text in texts:
        ids += [start, *tokenizer.encode(text)]
    stream = SentenceStream(np.array(ids), TokenKinds.of(tokenizer))
    rows: list[np.ndarray] = []
    place = int(stream.starts[0])
    while place < len(ids):
        text_ids = stream.after(place, n_tokens - 2)
        rows.append(np.concatenate([[frame.cls], text_ids, [frame.sep]]))
        place += len(text_ids)
        while place < len(ids) and (stream.kinds.newline[ids[place]] or stream.kinds.special[ids[place]]):
            place += 1
    return rows


def hide_words(rows: list[np.ndarray], kinds: TokenKinds, seed: int, share: float = 0.15) -> list[Question]:
    """`share` of the words of each row, chosen by `seed` alone: the same for every model with this tokenizer."""
    questions = []
    for number, row in enumerate(rows):
        ids = torch.from_numpy(row)[None]
        may_select = torch.from_numpy(~kinds.special[row])[None]
        words = word_numbers(torch.from_numpy(kinds.begins_word(row))[None], may_select)
        generator = torch.Generator().manual_seed(seed * 1_000_003 + number)
        draws = draw(1, len(row), torch.zeros(1, dtype=torch.long), generator)
        kind = corrupt(ids, words, draws, 0, select_share=share, mask_share=1.0, replace_share=0.0).kind
        questions.append(Question(row, np.flatnonzero(kind[0].numpy() != UNTOUCHED)))
    return [question for question in questions if len(question.asked)]


def one_by_one(row: np.ndarray) -> list[Question]:
    """Every token between [CLS] and [SEP], each in a row of its own.

    >>> [question.asked.tolist() for question in one_by_one(np.array([1, 7, 8, 2]))]
    [[1], [2]]
    """
    return [Question(row, np.array([place])) for place in range(1, len(row) - 1)]


# --- answers ----------------------------------------------------------------------------------------------------------


@torch.no_grad()
def ask(
    model: Encoder,
    questions: list[Question],
    frame: Frame,
    *,
    batch_tokens: int = 4096,
    progress: Progress | None = None,
) -> list[Answer]:
    """The model's answers, in the order of the questions: what is asked about becomes [MASK]; float32 throughout."""
    device = model.embed_tokens.weight.device
    order = sorted(range(len(questions)), key=lambda n: len(questions[n].token_ids))
    answers: dict[int, Answer] = {}
    while order:
        longest = len(questions[order[-1]].token_ids)
        chosen = [order.pop() for _ in range(min(len(order), max(1, batch_tokens // longest)))]
        batch = [questions[n] for n in chosen]
        inputs = torch.full((len(batch), longest), frame.pad)
        for row, question in zip(inputs, batch, strict=True):
            row[: len(question.token_ids)] = torch.from_numpy(question.token_ids)
            row[torch.from_numpy(question.asked)] = frame.mask
        lengths = torch.tensor([len(question.token_ids) for question in batch])
        places = torch.tensor([(i, int(t)) for i, question in enumerate(batch) for t in question.asked])
        with devices.autocast(device, enabled=False):
            hidden = model.hidden(inputs.to(device), padding_mask(lengths, longest).to(device))
            logits = model.mlm_logits(hidden[places[:, 0].to(device), places[:, 1].to(device)])
        true_ids = np.concatenate([question.token_ids[question.asked] for question in batch])
        log_probs, right = _judge(logits, torch.from_numpy(true_ids).to(device))
        edges = np.cumsum([len(question.asked) for question in batch])[:-1]
        for n, log_prob, hit in zip(chosen, np.split(log_probs, edges), np.split(right, edges), strict=True):
            answers[n] = Answer(log_prob, hit)
        if progress:
            progress(len(answers), len(questions))
    return [answers[n] for n in range(len(questions))]


def _judge(logits: Tensor, true_ids: Tensor) -> tuple[np.ndarray, np.ndarray]:
    log_probs = logits.float().log_softmax(-1).gather(-1, true_ids[:, None])[:, 0].double()
    return log_probs.cpu().numpy(), (logits.argmax(-1) == true_ids).cpu().numpy()


class Counts:
    """The baselines: how often each token, and each pair of neighbours, stands in a stream of training tokens.

    unigram  `P(b) = (c(b) + 1) / (N + V)`, wherever b stands.
    bigram   `P(b | a) = (c(a b) + k(a) · P(b)) / (c(a) + k(a))`, k(a) the number of different followers of a: from
             the LEFT neighbour alone, which is always shown to it, also where it is hidden from the model.

    >>> counts = Counts(np.array([0, 1, 0, 1, 0, 2]), vocab_size=3)
    >>> answer = counts.answer(Question(np.array([0, 1]), np.array([1])), pairs=True)
    >>> round(float(np.exp(answer.log_probs[0])), 4)  # (2 + 2 · 1/3) / (3 + 2)
    0.5333
    """

    def __init__(self, token_ids: np.ndarray, vocab_size: int) -> None:
        ids = np.asarray(token_ids).astype(np.int64)
        self.vocab_size = vocab_size
        singles = np.bincount(ids, minlength=vocab_size)
        self.unigram = (singles + 1) / (len(ids) + vocab_size)
        self.pairs, self.pair_counts = np.unique(ids[:-1] * vocab_size + ids[1:], return_counts=True)
        left = self.pairs // vocab_size
        self.n_after = np.bincount(left, weights=self.pair_counts, minlength=vocab_size)
        self.kinds_after = np.bincount(left, minlength=vocab_size)
        # After a, the best guess is the follower with the largest P(b | a); after a token never seen, the commonest.
        self.best_after = np.full(vocab_size, int(self.unigram.argmax()))
        chance = self.pair_counts + self.kinds_after[left] * self.unigram[self.pairs % vocab_size]
        by_chance = np.lexsort((chance, left))
        self.best_after[left[by_chance]] = self.pairs[by_chance] % vocab_size  # of several the last one stays

    def answer(self, question: Question, *, pairs: bool) -> Answer:
        """P of the true tokens, and whether the baseline's best guess is right."""
        before, true = question.token_ids[question.asked - 1], question.token_ids[question.asked]
        single = self.unigram[true]
        if not pairs:
            return Answer(np.log(single), true == self.unigram.argmax())
        key = before * self.vocab_size + true
        at = np.searchsorted(self.pairs, key).clip(max=len(self.pairs) - 1)
        seen = np.where(self.pairs[at] == key, self.pair_counts[at], 0)
        kinds = np.maximum(self.kinds_after[before], 1)
        return Answer(np.log((seen + kinds * single) / (self.n_after[before] + kinds)), true == self.best_after[before])


# --- minimal pairs ----------------------------------------------------------------------------------------------------


def pseudo_pair_accuracy(
    model: Encoder, tokenizer: Tokenizer, pairs: list[MinimalPair], *, progress: Progress | None = None
) -> dict[str, float]:
    """For each paradigm the share of pairs whose good sentence has the larger pseudo-log-likelihood; chance is 0.5.

    The sum over the tokens, not divided by their number. Salazar et al. 2020, section 4.4.
    """
    frame = Frame.of(tokenizer.special_tokens)
    questions: list[Question] = []
    edges = [0]
    for pair in pairs:
        for text in (pair.good, pair.bad):
            questions += one_by_one(np.array([frame.cls, *tokenizer.encode(text), frame.sep]))
            edges.append(len(questions))
    log_probs = np.array([answer.log_probs[0] for answer in ask(model, questions, frame, progress=progress)])
    sums = [log_probs[a:b].sum() for a, b in pairwise(edges)]
    right: dict[str, list[bool]] = defaultdict(list)
    for n, pair in enumerate(pairs):
        right[pair.paradigm].append(bool(sums[2 * n] > sums[2 * n + 1]))
    return {name: sum(hits) / len(hits) for name, hits in sorted(right.items())}


def first_of_each(pairs: list[MinimalPair], limit: int) -> list[MinimalPair]:
    """The first `limit` pairs of each paradigm.

    >>> first_of_each([MinimalPair("a", "b", "x"), MinimalPair("c", "d", "x"), MinimalPair("e", "f", "y")], 1)[1].good
    'e'
    """
    taken: dict[str, int] = defaultdict(int)
    kept = []
    for pair in pairs:
        taken[pair.paradigm] += 1
        if taken[pair.paradigm] <= limit:
            kept.append(pair)
    return kept
