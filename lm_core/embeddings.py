"""What can be read off an embedding matrix: which tokens point the same way, and a flat map of all of them.

    N points · D d_model · V vocab_size · K directions kept

A token's embedding is one row [D] of the matrix [V D]. Rows are compared by the angle between them, not by length.

Sources:  Mikolov et al. 2013, "Efficient Estimation of Word Representations in Vector Space": nearest words by cosine.
          Pearson 1901; Hotelling 1933, "Analysis of a complex of statistical variables into principal components".
"""

from dataclasses import dataclass

import torch
from torch import Tensor


def embed(matrix: Tensor, token_id: int) -> Tensor:
    """The vector of one token: row `token_id` of the matrix. matrix [V D] -> [D].

    The same as a product with a one-hot row (1 at the token's place, 0 elsewhere), without multiplying by zeros.
    Raises IndexError for an id that has no row.

    >>> matrix = torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
    >>> embed(matrix, 1).tolist(), (torch.tensor([0.0, 1.0, 0.0]) @ matrix).tolist()
    ([3.0, 4.0], [3.0, 4.0])
    """
    if not 0 <= token_id < matrix.shape[0]:
        raise IndexError(f"id {token_id} has no row in an embedding matrix of {matrix.shape[0]} rows")
    return matrix[token_id]


def cosine_similarities(vector: Tensor, matrix: Tensor) -> Tensor:
    """How far a vector points the way each row of a matrix does. vector [D], matrix [V D] -> [V], each within −1 … 1.

        cos(a, b) = a·b / (|a| |b|)

    1: the same direction; 0: at right angles; −1: opposite. A row of zeros has no direction: its cosine is given as 0.

    >>> cosine_similarities(torch.tensor([2.0, 0.0]), torch.tensor([[3.0, 0.0], [0.0, 1.0], [-1.0, 1.0]]))
    tensor([ 1.0000,  0.0000, -0.7071])
    """
    lengths = matrix.norm(dim=-1) * vector.norm()
    products = matrix @ vector
    return torch.where(lengths > 0, products / lengths, torch.zeros_like(products)).clamp(-1, 1)


def nearest_neighbours(matrix: Tensor, token_id: int, k: int) -> tuple[Tensor, Tensor]:
    """The `k` rows with the largest cosine to row `token_id`, itself left out. matrix [V D] -> ids [k], cosines [k].

    At most V − 1 rows are given; of equal cosines the lower id stands first.

    >>> matrix = torch.tensor([[1.0, 0.0], [1.0, 0.2], [0.0, 1.0], [-1.0, 0.0]])
    >>> ids, cosines = nearest_neighbours(matrix, 0, 2)
    >>> ids.tolist(), [round(c, 3) for c in cosines.tolist()]
    ([1, 2], [0.981, 0.0])
    """
    cosines = cosine_similarities(embed(matrix, token_id), matrix)
    order = torch.argsort(cosines, descending=True, stable=True)
    order = order[order != token_id][:k]
    return order, cosines[order]


@dataclass(frozen=True)
class PCA:
    """Where points lie along the directions in which they differ most.

    mean [D]: the middle of all points.  directions [K D]: orthonormal rows, the one of most variance first.
    variances [K]: of the points along each direction.  total_variance: along all D.  coordinates [N K].
    """

    mean: Tensor
    directions: Tensor
    variances: Tensor
    total_variance: float
    coordinates: Tensor

    @property
    def explained(self) -> Tensor:
        """The share of all variance that each direction holds, [K]."""
        return self.variances / self.total_variance if self.total_variance > 0 else torch.zeros_like(self.variances)


def pca(points: Tensor, k: int = 2) -> PCA:
    """Principal components: the `k` orthogonal directions along which the points vary most. points [N D], in float64.

        C = Xᵀ X / (N − 1)   with X = points − mean;   C u = λ u;   coordinate = (x − mean)·u;   λ = its variance

    An eigenvector's sign is free: here its entry of largest magnitude is positive. Raises ValueError for fewer than two
    points, or a k that is not 1 … D.

    >>> result = pca(torch.tensor([[0.0, 0.0], [1.0, 1.0], [2.0, 2.0], [3.0, 3.0]]), k=1)
    >>> [round(x, 3) for x in result.coordinates[:, 0].tolist()], round(result.explained.item(), 3)
    ([-2.121, -0.707, 0.707, 2.121], 1.0)
    """
    n, d = points.shape
    if n < 2 or not 1 <= k <= d:
        raise ValueError(f"{k} directions of {n} points with {d} numbers each: needs 2 points and k from 1 to {d}")
    x = points.double()
    mean = x.mean(dim=0)
    centred = x - mean
    covariance = centred.T @ centred / (n - 1)
    eigenvalues, eigenvectors = torch.linalg.eigh(covariance)  # from least to most
    directions = eigenvectors.T.flip(0)[:k]
    largest = directions.gather(1, directions.abs().argmax(dim=1, keepdim=True))
    directions = directions * torch.where(largest < 0, -1.0, 1.0)
    variances = eigenvalues.flip(0)[:k].clamp(min=0)  # rounding may leave −1e−17
    return PCA(mean, directions, variances, float(covariance.trace()), centred @ directions.T)
