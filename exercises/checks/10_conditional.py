"""Checks of exercise 10. The references are plain loops and scikit-learn's nearest centroid."""

import numpy as np
from sklearn.neighbors import NearestCentroid

from checking import Function, Misconception


def labels_and_classes(rng):
    classes = int(rng.integers(4, 8))
    return {"c": rng.integers(0, classes - 1, int(rng.integers(9, 14))), "num_classes": classes}


def written_out(c, num_classes):
    rows = np.zeros((len(c), num_classes))
    for row, label in zip(rows, c, strict=True):
        row[label] = 1
    return rows


def two_matrices(rng):
    n = int(rng.integers(2, 6))
    return {"h": rng.standard_normal((n, 4)), "condition": rng.standard_normal((n, 4))}


def side_by_side(h, condition):
    return np.array([[*row, *extra] for row, extra in zip(h, condition, strict=True)], h.dtype)


def codes_and_labels(rng):
    labels = np.concatenate([np.full(int(rng.integers(5, 15)), label) for label in (2, 3, 7, 8)])
    mu = 1.2 * rng.standard_normal((9, 3))[labels] + rng.standard_normal((len(labels), 3))
    return {"mu": mu, "labels": labels}


def accuracy(mu, labels):
    return np.float64(NearestCentroid().fit(mu.astype(np.float64), labels).score(mu.astype(np.float64), labels))


def means(mu, labels):
    return np.stack([mu[labels == label].mean(0) for label in np.unique(labels)])


def share(mu, labels, choose):
    return np.mean(np.unique(labels)[choose(((mu[:, None] - means(mu, labels)) ** 2).sum(2))] == labels)


FUNCTIONS = [
    Function(
        "one_hot",
        written_out,
        labels_and_classes,
        [
            Misconception(
                "columns for rows",
                lambda c, num_classes: written_out(c, num_classes).T,
                "the images run along the columns. Each row should be one image.",
            ),
            Misconception(
                "as many columns as labels occur",
                lambda c, num_classes: written_out(c, int(c.max()) + 1),
                "the width depends on the labels of this batch. A batch without a nine still needs its column.",
            ),
            Misconception(
                "counted from one",
                lambda c, num_classes: np.eye(num_classes)[(c - 1) % num_classes],
                "the ones stand one place too far left: classes are counted from 0.",
            ),
            Misconception(
                "whole numbers",
                lambda c, num_classes: written_out(c, num_classes).astype(np.int64),
                "a network multiplies these by weights: they should be floating point numbers.",
            ),
            Misconception(
                "truth values",
                lambda c, num_classes: np.arange(num_classes) == c[:, None],
                "these are True and False. The network needs numbers.",
            ),
            Misconception(
                "the label in its place",
                lambda c, num_classes: written_out(c, num_classes) * c[:, None],
                "you wrote the label itself in its place. Then class 0 leaves no trace, and 8 shouts.",
            ),
            Misconception(
                "one row for the whole batch",
                lambda c, num_classes: written_out(c, num_classes).sum(0),
                "one row comes out for the whole batch, with counts in it. Each image needs its own.",
            ),
        ],
    ),
    Function(
        "append_condition",
        side_by_side,
        two_matrices,
        [
            Misconception(
                "below instead of beside",
                lambda h, condition: np.concatenate([h, condition], axis=0),
                "the conditions follow as further images. Each image should get its own, in its row.",
            ),
            Misconception(
                "the condition first",
                lambda h, condition: np.concatenate([condition, h], axis=1),
                "the condition stands before h. The weights of trained models expect it behind.",
            ),
            Misconception(
                "added",
                lambda h, condition: h + condition,
                "you add the two. Then they share their places, and it works only when the sizes happen to agree.",
            ),
            Misconception(
                "interleaved",
                lambda h, condition: np.stack([h, condition], axis=2).reshape(len(h), -1),
                "the two take turns. First all of h, then all of the condition.",
            ),
            Misconception(
                "a third axis",
                lambda h, condition: np.stack([h, condition], axis=1),
                "a new axis appears. The row of an image should just become longer.",
            ),
            Misconception(
                "multiplied",
                lambda h, condition: h * condition,
                "you multiply the two, so that a zero in the condition wipes a feature out.",
            ),
        ],
    ),
    Function(
        "nearest_mean_accuracy",
        accuracy,
        codes_and_labels,
        [
            Misconception(
                "the farthest mean",
                lambda mu, labels: share(mu, labels, lambda d: d.argmax(1)),
                "you give each code the class of the mean that is farthest away.",
            ),
            Misconception(
                "places taken for classes",
                lambda mu, labels: np.mean(((mu[:, None] - means(mu, labels)) ** 2).sum(2).argmin(1) == labels),
                "you compare a place in the list of classes with a label. If a class is missing, they differ.",
            ),
            Misconception(
                "the share that is wrong",
                lambda mu, labels: 1 - accuracy(mu, labels),
                "this is the share of mistakes, not of right answers.",
            ),
            Misconception(
                "a count",
                lambda mu, labels: np.float64(round(accuracy(mu, labels) * len(labels))),
                "this is how many are right. Which share of all is it?",
            ),
            Misconception(
                "percent",
                lambda mu, labels: 100 * accuracy(mu, labels),
                "this is in percent: a share lies between 0 and 1.",
            ),
            Misconception(
                "one latent only",
                lambda mu, labels: share(mu[:, :1], labels, lambda d: d.argmin(1)),
                "only the first latent enters the distance. Sum the squares over all of them.",
            ),
        ],
    ),
]
