"""Solutions of exercise 17. With the precision matrix L = C^-1 of a Gaussian posterior N(m, C),

    KL(q || posterior) = 1/2 (sum_i L_ii sigma_i^2 + (mu - m)^T L (mu - m) - Z + log det C - sum_i log sigma_i^2),

whose derivatives vanish at mu = m and sigma_i^2 = 1 / L_ii. There the first sum is Z, and two logarithms remain.
"""

import math

import numpy as np
from scipy.special import logsumexp


def best_diagonal(covariance):
    precision = np.linalg.inv(covariance)
    logvar = -np.log(np.diagonal(precision, axis1=1, axis2=2))
    return logvar, (np.linalg.slogdet(covariance)[1] - logvar.sum(axis=1)) / 2


def log_evidence(log_joint, area):
    return logsumexp(log_joint, axis=(1, 2)) + math.log(area)


def log_weights(log_joint, logvar, eps):
    log_q = -0.5 * (eps.square() + logvar[:, None] + math.log(2 * math.pi)).sum(dim=2)
    return log_joint - log_q


def split_gap(log_p, best_elbo, encoder_elbo):
    return log_p - best_elbo, best_elbo - encoder_elbo, log_p - encoder_elbo
