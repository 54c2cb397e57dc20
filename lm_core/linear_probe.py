"""The smallest honest training run: a linear classifier on fixed features, judged on examples it has not seen.

Notation:  N examples · D features · C classes.
"""

import torch
from torch import Tensor

from lm_core.probability import softmax


def held_out_accuracy(features: Tensor, labels: Tensor, n_train: int, lr: float, n_steps: int) -> float:
    """Train on the first n_train examples, and report the accuracy on the OTHERS.

    Gradient descent from zero on the mean cross-entropy of the training rows, `W ← W − lr · Xᵀ(P − Y)/n_train`.
    features [N D], labels int [N] from 0; 0 < n_train < N. Accuracy on the training rows would reward learning by
    heart: with as many features as rows it can be 1 for labels that are pure chance.  Hastie et al. 2009, section 7.2.

    >>> x = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.1], [0.2, 1.0]])
    >>> held_out_accuracy(x, torch.tensor([0, 1, 0, 0]), n_train=2, lr=1.0, n_steps=5)  # the last one is called 1
    0.5
    """
    n_classes = int(labels.max()) + 1
    x, y = features[:n_train], torch.eye(n_classes, dtype=features.dtype, device=features.device)[labels[:n_train]]
    weight = features.new_zeros(features.shape[1], n_classes)
    for _ in range(n_steps):
        weight = weight - lr * x.mT @ (softmax(x @ weight) - y) / n_train
    predictions = (features[n_train:] @ weight).argmax(dim=-1)
    return float((predictions == labels[n_train:]).double().mean())
