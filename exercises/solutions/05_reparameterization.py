"""The reparameterization trick, and what one would do without it. For one latent, z = mu + sigma eps:

    d/dmu log q(z) = (z - mu) / sigma^2 = eps / sigma                   z held fixed: the score
    d/dmu f(z)     = f'(z)                                              eps held fixed: the path
    d/dlogvar f(z) = f'(z) eps dsigma/dlogvar = f'(z) sigma eps / 2     since sigma = exp(logvar / 2)

With f(z) = sum_d (z_d - 1)^2 at mu = 0, sigma = 1, let S be the part of f from the other n = Z - 1 latents. It has mean
2n and variance 6n, so that the score function's estimate by the first mu has the variance

    E[f^2 eps^2] - 4 = E[(eps - 1)^4 eps^2] + 2 E[(eps - 1)^2 eps^2] E[S] + E[S^2] - 4 = 30 + 22 n + 4 n^2,

against 4 for the pathwise one. Subtracting the mean of f, 2Z, leaves 18 + 6 n.
"""

import numpy as np
import torch


def score_function_gradient(mu, logvar, eps, values):
    """f(z) d log q(z) / d mu for each draw z = mu + sigma * eps: one estimate of the gradient by mu per draw.

    mu, logvar (Z,), eps (K, Z) standard normal, values (K,) nats: f at the K draws -> (K, Z).
    """
    z = mu + np.exp(logvar / 2) * eps
    score = (z - mu) / np.exp(logvar)
    return values[:, None] * score


def pathwise_gradient(mu, logvar, eps):
    """The gradient of f(z) = sum_d (z_d - 1)^2 at z = mu + sigma * eps, by mu and by logvar, for each draw.

    mu, logvar (Z,), eps (K, Z) standard normal -> two arrays (K, Z).
    """
    sigma = np.exp(logvar / 2)
    slope = 2 * (mu + sigma * eps - 1)
    return slope, slope * sigma * eps / 2


def reparameterize(mu, logvar, eps):
    """z = mu + sigma * eps, a code drawn from q(z|x) that gradients pass through. Tensors, all (N, Z)."""
    return mu + torch.exp(logvar / 2) * eps
