"""Solutions of exercise 17. With the precision matrix L = C^-1 of a Gaussian posterior N(m, C),

    KL(q || posterior) = 1/2 (sum_i L_ii sigma_i^2 + (mu - m)^T L (mu - m) - Z + log det C - sum_i log sigma_i^2),

whose derivatives vanish at mu = m and sigma_i^2 = 1 / L_ii. There the first sum is Z, and two logarithms remain.
"""

import math

import numpy as np
from scipy.special import logsumexp


def best_diagonal(covariance):
    """The diagonal Gaussian q with the smallest KL(q || posterior), for Gaussian posteriors of these covariances.

    q has the posterior's mean. covariance (N, Z, Z), an array, symmetric and positive definite. Returns two arrays, the
    log variances of q (N, Z) and that KL (N,) in nats.
    Right also for many latents with small variances, whose determinant is too small for a float.
    """
    precision = np.linalg.inv(covariance)
    logvar = -np.log(np.diagonal(precision, axis1=1, axis2=2))
    return logvar, (np.linalg.slogdet(covariance)[1] - logvar.sum(axis=1)) / 2


def log_evidence(log_joint, area):
    """log of the integral of exp(log_joint) over a grid of cells, each of this area (a number).

    log_joint (N, G, H) in nats, for each image its values in the middles of the G x H cells; -> (N,) nats.
    Right for any finite log_joint, also where exp would overflow or give 0 in every cell; images may differ by
    thousands of nats.
    """
    return logsumexp(log_joint, axis=(1, 2)) + math.log(area)


def log_weights(log_joint, logvar, eps):
    """log p(x, z) - log q(z) of K draws z = mu + exp(logvar / 2) * eps from q = N(mu, diag(exp(logvar))).

    log_joint (N, K): log p(x, z) of the draws, in nats; logvar (N, Z); eps (N, K, Z), standard normal. -> (N, K) nats.
    Tensors; gradients pass through log_joint and logvar.
    """
    log_q = -0.5 * (eps.square() + logvar[:, None] + math.log(2 * math.pi)).sum(dim=2)
    return log_joint - log_q


def split_gap(log_p, best_elbo, encoder_elbo):
    """The two parts of what the encoder's bound misses, and the whole of it.

    log_p: log p(x); best_elbo, encoder_elbo: of the best q and of the encoder's q; each (N,) nats. -> the approximation
    gap, the amortisation gap and the whole gap, each (N,) nats. Estimates are noisy, and a search may fail: where that
    makes a gap negative, it stays negative.
    """
    return log_p - best_elbo, best_elbo - encoder_elbo, log_p - encoder_elbo
