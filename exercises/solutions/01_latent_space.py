"""The latent space. Why quantiles: let u be uniform on (0, 1) and F the distribution function of N(0, 1). Then

    P(F^-1(u) <= z) = P(u <= F(z)) = F(z)

so F^-1(u) is a draw from N(0, 1), and equal slices of u become intervals of z with equal probability: narrow ones near
0, wide ones in the tails. `norm.ppf` is F^-1; the middle of slice i out of n is u = (i + 1/2) / n.
"""

import numpy as np
from scipy.stats import norm


def prior_grid(side):
    """The codes of a side x side picture of the prior: (side, side, 2), the last axis is (z[0], z[1])."""
    quantiles = norm.ppf((np.arange(side) + 0.5) / side)
    return np.stack(np.meshgrid(quantiles, quantiles[::-1]), axis=-1)


def nearest_code_distance(z, mu):
    """How far each code is from the nearest encoded image: z (M, Z), mu (N, Z) -> (M,) Euclidean distances."""
    return np.linalg.norm(z[:, None] - mu, axis=2).min(axis=1)


def active_units(mu, threshold=0.01):
    """Which latents say anything about the image, Var_x(mu) > threshold: mu (N, Z) -> (Z,) booleans."""
    return mu.var(axis=0) > threshold
