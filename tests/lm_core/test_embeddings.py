"""Cosines, neighbours and principal components against numpy, on shapes where a mixed-up axis shows."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lm_core.embeddings import PCA, cosine_similarities, embed, nearest_neighbours, pca


def _matrix(rows: int = 41, columns: int = 7, seed: int = 3) -> torch.Tensor:
    """Rows of very different lengths, with a mean far from zero and unequal variances."""
    generator = torch.Generator().manual_seed(seed)
    spread = torch.linspace(0.2, 5.0, columns)
    lengths = torch.linspace(0.1, 9.0, rows)[:, None]
    return (torch.randn(rows, columns, generator=generator) * spread + 2.0) * lengths


def test_embedding_is_the_product_with_a_one_hot_row() -> None:
    matrix = _matrix()
    one_hot = torch.nn.functional.one_hot(torch.tensor(17), 41).float()
    assert torch.equal(embed(matrix, 17), one_hot @ matrix)
    assert torch.equal(embed(matrix, 17), torch.nn.functional.embedding(torch.tensor(17), matrix))


@pytest.mark.parametrize("token_id", [-1, 41])
def test_an_id_without_a_row_is_refused(token_id: int) -> None:
    with pytest.raises(IndexError, match="41 rows"):
        embed(_matrix(), token_id)


def test_cosines_are_those_of_torch_and_ignore_lengths() -> None:
    matrix = _matrix()
    ours = cosine_similarities(matrix[5], matrix)
    theirs = torch.nn.functional.cosine_similarity(matrix[5][None], matrix, dim=1)
    assert torch.allclose(ours, theirs, atol=1e-6) and ours.shape == (41,)
    assert torch.allclose(cosine_similarities(1000 * matrix[5], matrix), ours, atol=1e-6)
    assert ours[5].item() == pytest.approx(1.0, abs=1e-6) and ours.abs().max() <= 1


def test_a_row_of_zeros_has_no_direction() -> None:
    matrix = _matrix()
    matrix[9] = 0
    assert cosine_similarities(matrix[5], matrix)[9] == 0
    assert torch.equal(cosine_similarities(matrix[9], matrix), torch.zeros(41))


def test_neighbours_are_the_largest_cosines_without_the_token_itself() -> None:
    matrix = _matrix()
    matrix[20] = 3 * matrix[5]  # as near as can be
    ids, cosines = nearest_neighbours(matrix, 5, 6)
    unit = matrix.double().numpy() / np.linalg.norm(matrix.double().numpy(), axis=1, keepdims=True)
    expected = unit @ unit[5]
    order = [int(i) for i in np.argsort(-expected, kind="stable") if i != 5][:6]
    assert ids.tolist() == order and ids[0] == 20
    assert np.allclose(cosines.numpy(), expected[order], atol=1e-6)
    assert len(nearest_neighbours(matrix, 5, 999)[0]) == 40


def test_of_equal_neighbours_the_lower_id_stands_first() -> None:
    matrix = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 2.0], [0.0, 3.0]])
    assert nearest_neighbours(matrix, 0, 3)[0].tolist() == [1, 2, 3]


def _svd(points: torch.Tensor, k: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Directions, their shares of the variance, and coordinates, by numpy's singular values; signs as ours."""
    x = points.double().numpy()
    centred = x - x.mean(axis=0)
    _, singular, rows = np.linalg.svd(centred, full_matrices=False)
    rows = rows * np.sign(rows[np.arange(len(rows)), np.abs(rows).argmax(axis=1)])[:, None]
    return rows[:k], (singular**2 / (singular**2).sum())[:k], centred @ rows[:k].T


@pytest.mark.parametrize("k", [1, 2, 7])
def test_pca_is_the_singular_value_decomposition(k: int) -> None:
    points = _matrix()
    directions, shares, coordinates = _svd(points, k)
    ours = pca(points, k)
    assert np.allclose(ours.directions.numpy(), directions, atol=1e-9)
    assert np.allclose(ours.explained.numpy(), shares, atol=1e-12)
    assert np.allclose(ours.coordinates.numpy(), coordinates, atol=1e-8)
    assert np.allclose(ours.variances.numpy(), coordinates.var(axis=0, ddof=1))
    assert np.allclose(ours.mean.numpy(), points.double().numpy().mean(axis=0))


def test_pca_of_more_dimensions_than_points() -> None:
    points = _matrix(5, 12)
    ours = pca(points, 2)
    directions, shares, _ = _svd(points, 2)
    assert np.allclose(ours.directions.numpy(), directions, atol=1e-8) and np.allclose(ours.explained.numpy(), shares)


def test_directions_are_orthonormal_and_all_of_them_explain_everything() -> None:
    ours = pca(_matrix(), 7)
    assert torch.allclose(ours.directions @ ours.directions.T, torch.eye(7, dtype=torch.float64), atol=1e-10)
    assert ours.explained.sum().item() == pytest.approx(1.0)
    assert (ours.variances[:-1] >= ours.variances[1:]).all()
    rebuilt = ours.coordinates @ ours.directions + ours.mean
    assert torch.allclose(rebuilt, _matrix().double(), atol=1e-9)


def test_equal_points_have_no_variance_to_explain() -> None:
    ours: PCA = pca(torch.ones(4, 3), 2)
    assert ours.explained.tolist() == [0.0, 0.0] and ours.coordinates.abs().max() == 0


@pytest.mark.parametrize(("rows", "k"), [(1, 1), (4, 0), (4, 8)])
def test_pca_refuses_what_has_no_answer(rows: int, k: int) -> None:
    with pytest.raises(ValueError, match="needs 2 points"):
        pca(_matrix(rows), k)
