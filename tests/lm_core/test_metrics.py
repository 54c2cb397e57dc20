"""Measures of a classifier: the same numbers as scikit-learn's, also for classes that never occur."""

import math
import sys

import pytest
import torch
from sklearn import metrics as sklearn_metrics

from lm_core.metrics import (
    accuracy,
    classification_report,
    confusion_matrix,
    f1,
    peak_memory_bytes,
    perplexity,
    precision,
    recall,
)


@pytest.mark.parametrize(("n_classes", "n", "seed"), [(2, 50, 0), (3, 40, 1), (5, 200, 2), (6, 8, 3), (2, 1, 4)])
def test_all_measures_equal_scikit_learn(n_classes: int, n: int, seed: int) -> None:
    random = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, n_classes, (n,), generator=random)
    predictions = torch.where(
        torch.rand(n, generator=random) < 0.6, labels, torch.randint(0, n_classes, (n,), generator=random)
    )
    confusion = confusion_matrix(labels, predictions, n_classes)
    classes = list(range(n_classes))
    options = {"labels": classes, "average": None, "zero_division": 0}
    y, p = labels.numpy(), predictions.numpy()
    assert confusion.tolist() == sklearn_metrics.confusion_matrix(y, p, labels=classes).tolist()
    assert accuracy(confusion) == pytest.approx(sklearn_metrics.accuracy_score(y, p))
    assert precision(confusion).tolist() == pytest.approx(list(sklearn_metrics.precision_score(y, p, **options)))
    assert recall(confusion).tolist() == pytest.approx(list(sklearn_metrics.recall_score(y, p, **options)))
    assert f1(confusion).tolist() == pytest.approx(list(sklearn_metrics.f1_score(y, p, **options)))
    report = classification_report(labels, predictions, n_classes)
    assert report.macro_f1 == pytest.approx(sklearn_metrics.f1_score(y, p, average="macro", zero_division=0))
    assert report.n_examples == n == sum(map(sum, report.confusion))
    assert report.accuracy == accuracy(confusion) and report.f1 == tuple(f1(confusion).tolist())


def test_a_class_that_never_occurs_counts_zero_and_not_nan() -> None:
    confusion = confusion_matrix(torch.tensor([0, 0]), torch.tensor([0, 0]), 3)
    for measure in (precision, recall, f1):
        assert measure(confusion).tolist() == [1.0, 0.0, 0.0]


@pytest.mark.parametrize(
    ("labels", "predictions", "message"),
    [
        ([0, 1], [0], "2 and 1"),
        ([], [], "at least one"),
        ([0, 2], [0, 1], "0 … 1; found 0 … 2"),
        ([0, 1], [-1, 1], "found -1"),
    ],
)
def test_impossible_labels(labels: list[int], predictions: list[int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        confusion_matrix(torch.tensor(labels), torch.tensor(predictions), 2)


def test_perplexity_of_a_loss() -> None:
    assert perplexity(0.0) == 1.0
    assert perplexity(math.log(50257)) == pytest.approx(50257)
    assert perplexity(1e4) == math.inf
    assert math.isnan(perplexity(math.nan))


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no resource module")
def test_peak_memory_grows_with_what_is_taken() -> None:
    before = peak_memory_bytes(torch.device("cpu"))
    assert before is not None and before > 50 * 2**20  # torch alone takes more
    taken = torch.ones(before // 4 + 2**26)  # 4 bytes each: more than ever before
    after = peak_memory_bytes(torch.device("cpu"))
    assert after is not None and after > before and len(taken) > 0
