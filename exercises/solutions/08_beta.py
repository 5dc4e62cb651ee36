"""The rate-distortion curve. Among all encoders and decoders, let D(R) be the least distortion that a rate of R nats
allows. Minimising D(R) + beta R over R gives

    dD/dR = -beta

so beta is the price of a nat: one is bought as long as it saves at least beta nats of distortion. Training with each
beta finds one point of the curve, the one where the slope is -beta.
"""

import numpy as np


def beta_loss(reconstruction_nll, kl_per_latent, beta):
    """What a beta-VAE minimises: reconstruction_nll (N,), kl_per_latent (N, Z), both nats -> (N,) nats per image."""
    return reconstruction_nll + beta * kl_per_latent.sum(axis=1)


def rate_distortion_front(rate, distortion):
    """Which of M models no other beats: rate, distortion (M,) nats, less is better -> (M,) booleans.

    A model beats another if it is no worse in both and better in at least one. Two equal models do not beat each other.
    """
    # Row i, column j: does model j beat model i?
    no_worse = (rate <= rate[:, None]) & (distortion <= distortion[:, None])
    better = (rate < rate[:, None]) | (distortion < distortion[:, None])
    return ~(no_worse & better).any(axis=1)


def factor_correlations(mu, factors):
    """|Pearson correlation| of each latent with each factor, 0 to 1: mu (N, Z), factors (N, F) -> (Z, F)."""
    mu, factors = mu - mu.mean(axis=0), factors - factors.mean(axis=0)
    return abs((mu / np.linalg.norm(mu, axis=0)).T @ (factors / np.linalg.norm(factors, axis=0)))


def traversal_codes(mu, latent, values):
    """The code mu (Z,) once for each of the values (V,), which replace its entry `latent`: (V, Z)."""
    codes = np.tile(mu, (len(values), 1))
    codes[:, latent] = values
    return codes
