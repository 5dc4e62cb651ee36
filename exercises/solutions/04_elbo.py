"""The evidence lower bound. With p = sigmoid(l), log p - log(1 - p) = l and log(1 - p) = -log(1 + e^l): a pixel costs

    -x log p - (1 - x) log(1 - p) = -log(1 - p) - x l = log(e^0 + e^l) - x l.

In the linear model W z + b has under q the mean W mu + b, and pixel i the variance sum_d W_id^2 sigma_d^2. Hence

    E_q |x - W z - b|^2 = |x - W mu - b|^2 + sum_d sigma_d^2 |w_d|^2,    w_d: column d of W.

The gap, by p(x, z) = p(z|x) p(x):

    log p(x) - ELBO = E_q[log p(x) - log p(x, z) + log q(z|x)] = E_q[log q(z|x) - log p(z|x)] = KL(q(z|x) || p(z|x)).
"""

import math

import numpy as np

from vae_numpy import kl_divergence


def bernoulli_nll(logits, x):
    """-log p(x|z) of Bernoulli pixels: logits, x (N, 1, H, W), x in [0, 1] -> (N,) nats, summed over the pixels."""
    return np.sum(np.logaddexp(0, logits) - x * logits, axis=(1, 2, 3))


def gaussian_nll(mean, x, sigma):
    """-log p(x|z) of Gaussian pixels: mean, x (N, D), sigma a number -> (N,) nats, summed over the D pixels."""
    return np.sum(((x - mean) / sigma) ** 2 / 2 + math.log(sigma) + math.log(2 * math.pi) / 2, axis=1)


def elbo(x, mu, logvar, W, b, sigma):
    """The exact ELBO for p(x|z) = N(W z + b, sigma^2 I): x (N, D), mu, logvar (N, Z), W (D, Z), b (D,) -> (N,) nats."""
    spread = np.exp(logvar) @ np.sum(W**2, axis=0)  # (N,), the variance that q gives to all pixels together
    reconstruction = gaussian_nll(mu @ W.T + b, x, sigma) + spread / (2 * sigma**2)
    return -reconstruction - kl_divergence(mu, logvar)


def bits_per_dim(nats, num_pixels):
    """Nats per image as bits per pixel: nats (N,), num_pixels a number -> (N,)."""
    return nats / (num_pixels * math.log(2))
