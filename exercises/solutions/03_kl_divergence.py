"""The KL divergence. For one latent, with q = N(mu, sigma^2) and p = N(0, 1):

    E_q[log q] = -1/2 log(2 pi) - 1/2 log sigma^2 - 1/2
    E_q[log p] = -1/2 log(2 pi) - 1/2 (mu^2 + sigma^2)

and their difference is 1/2 (mu^2 + sigma^2 - 1 - log sigma^2).
"""

import numpy as np
from scipy.stats import norm


def kl_divergence(mu, logvar):
    """KL(N(mu, exp(logvar)) || N(0, I)): mu, logvar (N, Z) -> (N,) nats, summed over the latents."""
    return 0.5 * np.sum(mu**2 + np.exp(logvar) - 1 - logvar, axis=1)


def kl_monte_carlo(mu, logvar, eps):
    """The same KL, estimated from draws: mu, logvar (N, Z), eps (K, N, Z) standard normal -> (N,) nats."""
    sigma = np.exp(logvar / 2)
    z = mu + sigma * eps  # (K, N, Z)
    log_ratio = norm.logpdf(z, mu, sigma) - norm.logpdf(z)
    return log_ratio.sum(axis=2).mean(axis=0).astype(mu.dtype)


def kl_gradient(mu, logvar):
    """d KL / d mu and d KL / d logvar: mu, logvar (N, Z) -> two arrays (N, Z)."""
    return mu.copy(), 0.5 * (np.exp(logvar) - 1)
