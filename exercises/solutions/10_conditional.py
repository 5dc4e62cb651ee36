"""The conditional VAE: the class as a vector, put beside the features and beside z."""

import numpy as np


def one_hot(c, num_classes):
    """Labels c (N,) of integers -> (N, num_classes) float64, one 1 in each row."""
    return np.eye(num_classes)[c]


def append_condition(h, condition):
    """h (N, D) and condition (N, K) side by side, h first -> (N, D + K)."""
    return np.concatenate([h, condition], axis=1)


def nearest_mean_accuracy(mu, labels):
    """The share of codes whose nearest class mean is their own class's: mu (N, Z), labels (N,) -> a number, 0 to 1."""
    classes = np.unique(labels)
    means = np.stack([mu[labels == label].mean(axis=0) for label in classes])  # (C, Z)
    distances = np.sum((mu[:, None] - means) ** 2, axis=2)  # (N, C)
    return np.mean(classes[distances.argmin(axis=1)] == labels)
