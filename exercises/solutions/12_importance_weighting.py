"""The importance weighted bound. For any number m,

    log 1/K sum_i exp(l_i) = m + log 1/K sum_i exp(l_i - m)

and with m = max_i l_i every term lies in [0, 1], one of them is 1, so that the mean lies in [1/K, 1]. The effective
sample size is a ratio in which exp(m)^2 cancels, so that the same shift leaves it as it is.

Why L_k grows with k: the mean of 2k weights is the mean of two means of k weights, and the logarithm is concave, so

    log (a + b)/2 >= (log a + log b)/2,   in the mean   L_2k >= L_k.
"""

import numpy as np


def log_mean_exp(log_w):
    """log of the mean of exp(log_w) over axis 1, finite for any finite log_w: (N, K) -> (N,) nats."""
    largest = log_w.max(axis=1)  # (N,)
    return largest + np.log(np.mean(np.exp(log_w - largest[:, None]), axis=1))


def importance_weighted_bound(log_w, k):
    """L_k, averaged over the K / k groups of k neighbouring samples: log_w (N, K), k divides K -> (N,) nats."""
    groups = log_w.reshape(-1, k)  # (N K / k, k)
    return log_mean_exp(groups).reshape(len(log_w), -1).mean(axis=1)


def effective_sample_size(log_w):
    """(sum w)^2 / sum w^2 over axis 1, for any finite log_w: (N, K) -> (N,) numbers between 1 and K."""
    w = np.exp(log_w - log_w.max(axis=1, keepdims=True))  # (N, K), the largest is 1
    return w.sum(axis=1) ** 2 / np.square(w).sum(axis=1)
