"""Checks of exercise 12. The references are scipy's logsumexp and softmax, in explicit loops over images and groups."""

import math

import numpy as np
from scipy.special import entr, logsumexp, softmax

from checking import Function, Misconception


def log_weights(rng):
    n, k = rng.integers(2, 6), rng.integers(3, 8)
    return {"log_w": 1.5 * rng.standard_normal((n, k)) - rng.uniform(2, 6, (n, 1))}


def pools(rng):
    k = int(rng.integers(2, 5))
    groups = k + rng.integers(1, 4)  # never k groups of k: the two must not be confused
    return {"log_w": 1.5 * rng.standard_normal((rng.integers(2, 6), groups * k)) - 4, "k": k}


SPREAD = np.array([[0.0, 1.0, 3.0, -2.0], [0.5, -1.0, 0.2, 2.0]])
HUGE, TINY = ("weights as large as exp(1000)", 1000 + SPREAD), ("weights as small as exp(-1000)", SPREAD - 1000)
FAR_APART = ("images whose weights lie far apart", SPREAD + np.array([[1000.0], [-1000.0]]))
EXTREMES = [(what, {"log_w": log_w}) for what, log_w in (HUGE, TINY, FAR_APART)]


def per_image(function):
    """The same for (N, K), image by image."""
    return lambda log_w: np.array([function(row) for row in log_w], dtype=log_w.dtype)


def lme(log_w, axis=1):
    return logsumexp(log_w, axis=axis) - math.log(log_w.shape[axis])


def mean_of_groups(log_w, k):
    bounds = []
    for row in log_w:
        starts = range(0, len(row), k)
        bounds.append(np.mean([logsumexp(row[start : start + k]) - math.log(k) for start in starts]))
    return np.array(bounds, dtype=log_w.dtype)


def grouped(log_w, k):
    return log_w.reshape(len(log_w), -1, k)  # (N, groups, k)


def effective(w, axis=1):
    return w.sum(axis) ** 2 / (w**2).sum(axis)


FUNCTIONS = [
    Function(
        "log_mean_exp",
        per_image(lambda row: logsumexp(row) - math.log(len(row))),
        log_weights,
        [
            Misconception(
                "exp without a shift",
                lambda log_w: np.log(np.mean(np.exp(log_w), axis=1)),
                "right on paper, but exp overflows to infinity or rounds to zero. What could you divide by first?",
            ),
            Misconception(
                "one shift for the whole batch",
                lambda log_w: log_w.max() + np.log(np.mean(np.exp(log_w - log_w.max()), axis=1)),
                "an image far below the best image of the batch loses all its weights. The images know nothing of each "
                "other.",
            ),
            Misconception(
                "the shift not undone",
                lambda log_w: lme(log_w - log_w.max(axis=1, keepdims=True)),
                "your result does not change when every log weight grows by 5 nats. Should it?",
            ),
            Misconception(
                "the mean of the logs",
                lambda log_w: log_w.mean(axis=1),
                "this is the ELBO. Here the weights are averaged first, and the logarithm comes last.",
            ),
            Misconception(
                "a sum in place of the mean",
                lambda log_w: logsumexp(log_w, axis=1),
                "your result grows when every sample is counted twice. A mean would not.",
            ),
            Misconception(
                "divided outside the logarithm",
                lambda log_w: logsumexp(log_w, axis=1) / log_w.shape[1],
                "you divide the logarithm of the sum. It is the sum that has to be divided.",
            ),
            Misconception(
                "the largest alone",
                lambda log_w: log_w.max(axis=1),
                "this is the largest log weight. Where the weights differ, their mean is lower.",
            ),
            Misconception(
                "the logarithm forgotten",
                lambda log_w: np.mean(np.exp(log_w), axis=1),
                "this is the mean of the weights themselves. The result should be in nats.",
            ),
            Misconception(
                "the wrong axis",
                lambda log_w: lme(log_w, axis=0),
                "you average over the images, so that one number per sample is left. It should be one per image.",
            ),
            Misconception(
                "the whole batch",
                lambda log_w: logsumexp(log_w) - math.log(log_w.size),
                "one number comes out for the whole batch. Which axis holds the samples of one image?",
            ),
            Misconception(
                "an axis too many",
                lambda log_w: lme(log_w)[:, None],
                "the values are right, but they come as a column. What did keepdims keep?",
            ),
        ],
        special=EXTREMES,
    ),
    Function(
        "importance_weighted_bound",
        mean_of_groups,
        pools,
        [
            Misconception(
                "one group of all samples",
                lambda log_w, k: lme(log_w),
                "this is the bound for k = K. If you average before the logarithm, groups make no difference.",
            ),
            Misconception(
                "the first group only",
                lambda log_w, k: lme(log_w[:, :k]),
                "this is one estimate, from the first k samples. The other groups could make it less noisy.",
            ),
            Misconception(
                "k groups",
                lambda log_w, k: lme(log_w.reshape(len(log_w), k, -1), axis=2).mean(axis=1),
                "you make k groups of K / k samples. It should be the other way round.",
            ),
            Misconception(
                "groups that are not neighbours",
                lambda log_w, k: lme(log_w.reshape(len(log_w), k, -1)).mean(axis=1),
                "every group has k samples, and the estimate is as good, but the task asks for neighbours in a group: "
                "which axis of a reshaped array runs fastest?",
            ),
            Misconception(
                "the means swapped",
                lambda log_w, k: lme(grouped(log_w, k).mean(axis=2)),
                "inside a group you average the logs, between the groups the weights. Which of the two is the bound?",
            ),
            Misconception(
                "the mean of the logs",
                lambda log_w, k: log_w.mean(axis=1),
                "this is the ELBO, which does not depend on k.",
            ),
            Misconception(
                "a sum within the group",
                lambda log_w, k: logsumexp(grouped(log_w, k), axis=2).mean(axis=1),
                "every value is too large by the same number. Inside the logarithm stands a mean of k weights.",
            ),
            Misconception(
                "log K for log k",
                lambda log_w, k: logsumexp(grouped(log_w, k), axis=2).mean(axis=1) - math.log(log_w.shape[1]),
                "you divide each sum by the size of the pool. How many weights are in one sum?",
            ),
            Misconception(
                "a sum over the groups",
                lambda log_w, k: lme(grouped(log_w, k), axis=2).sum(axis=1),
                "the result grows with the number of groups. Each of them estimates the same quantity.",
            ),
            Misconception(
                "the best group",
                lambda log_w, k: lme(grouped(log_w, k), axis=2).max(axis=1),
                "you keep the highest of the estimates. A maximum is too high in the mean, and is no lower bound.",
            ),
            Misconception(
                "groups not averaged",
                lambda log_w, k: lme(grouped(log_w, k), axis=2),
                "there is still one number for each group. It should be one per image.",
            ),
            Misconception(
                "the groups of all images together",
                lambda log_w, k: lme(log_w.reshape(-1, k)),
                "the groups of all images stand in one row. Which of them belong to one image?",
            ),
            Misconception(
                "exp without a shift",
                lambda log_w, k: np.log(np.exp(grouped(log_w, k)).mean(axis=2)).mean(axis=1),
                "the weights themselves overflow or round to zero. You have a function that avoids it.",
            ),
        ],
        special=[
            ("k = 1, where it is the ELBO", {"log_w": SPREAD - 5, "k": 1}),
            ("k = K, one group of all samples", {"log_w": SPREAD - 5, "k": 4}),
            (TINY[0], {"log_w": TINY[1], "k": 2}),
        ],
    ),
    Function(
        "effective_sample_size",
        per_image(lambda row: 1 / sum(share**2 for share in softmax(row))),
        log_weights,
        [
            Misconception(
                "squared log weights",
                lambda log_w: effective(log_w),
                "you add up and square the logarithms. The formula speaks of the weights.",
            ),
            Misconception(
                "exp without a shift",
                lambda log_w: effective(np.exp(log_w)),
                "right on paper, but the weights or their squares overflow or round to zero, and the fraction is lost.",
            ),
            Misconception(
                "one shift for the whole batch",
                lambda log_w: effective(np.exp(log_w - log_w.max())),
                "an image far below the best one ends as 0 / 0. Each image may be scaled by its own number.",
            ),
            Misconception(
                "upside down",
                lambda log_w: 1 / effective(softmax(log_w, axis=1)),
                "your numbers lie between 1 / K and 1. Equal weights should give K.",
            ),
            Misconception(
                "a share of K",
                lambda log_w: effective(softmax(log_w, axis=1)) / log_w.shape[1],
                "your numbers lie below 1: this is a share. Asked for is a number of samples.",
            ),
            Misconception(
                "the square of the sum forgotten",
                lambda log_w: (w := np.exp(log_w - log_w.max(1, keepdims=True))).sum(1) / (w**2).sum(1),
                "your result changes with the scale of the weights. Count the powers of w above and below the line.",
            ),
            Misconception(
                "still a logarithm",
                lambda log_w: 2 * logsumexp(log_w, axis=1) - logsumexp(2 * log_w, axis=1),
                "this is the logarithm of the number. One sample of one should give 1, not 0.",
            ),
            Misconception(
                "the largest share alone",
                lambda log_w: 1 / softmax(log_w, axis=1).max(axis=1),
                "you look only at the largest weight. It is one way to count, but here all weights enter, squared.",
            ),
            Misconception(
                "the perplexity",
                lambda log_w: np.exp(entr(softmax(log_w, axis=1)).sum(axis=1)),
                "exp of the entropy of the shares counts too, but differently. The formula here has squares.",
            ),
            Misconception(
                "the wrong axis",
                lambda log_w: effective(softmax(log_w, axis=0), axis=0),
                "you compare the images with each other. It should be the samples of one image.",
            ),
            Misconception(
                "the whole batch",
                lambda log_w: effective(softmax(log_w, axis=None), axis=None),
                "one number comes out for the whole batch. Keep the images apart.",
            ),
            Misconception(
                "an axis too many",
                lambda log_w: effective(softmax(log_w, axis=1))[:, None],
                "the values are right, but they come as a column. What did keepdims keep?",
            ),
        ],
        special=[("equal weights, which are worth K samples", {"log_w": np.full((2, 4), -7.0)}), *EXTREMES],
    ),
]
