"""Checks of exercise 1. The references are explicit loops, a search tree and paper/likelihood.py, not the solutions."""

from statistics import NormalDist

import numpy as np
import torch
from scipy.spatial import KDTree
from scipy.stats import norm

import likelihood
from checking import Function, Misconception

# --- The manifold's codes --------------------------------------------------------------------------------------------


def sides(rng):
    return {"side": int(rng.integers(3, 9))}


def middles(side):
    return (np.arange(side) + 0.5) / side


def grid(steps):
    """Codes whose z[0] takes the steps from left to right, and z[1] from the bottom up."""
    return np.array([[(right, up) for right in steps] for up in steps[::-1]])


def grid_by_hand(side):
    codes = np.zeros((side, side, 2))
    for row in range(side):
        for column in range(side):
            codes[row, column, 0] = NormalDist().inv_cdf((column + 0.5) / side)
            codes[row, column, 1] = NormalDist().inv_cdf(1 - (row + 0.5) / side)
    return codes


# --- Distances -------------------------------------------------------------------------------------------------------


def codes(rng):
    m, n, z = rng.integers(2, 6), rng.integers(6, 9), rng.integers(2, 5)
    return {"z": rng.standard_normal((m, z)), "mu": rng.standard_normal((n, z))}


def nearest(z, mu):
    return KDTree(mu).query(z)[0].astype(z.dtype)


def distances(z, mu):
    return np.sqrt(((z[:, None] - mu) ** 2).sum(2))


# --- Active units ----------------------------------------------------------------------------------------------------

LATENTS = 12


def means(rng):
    """Means whose variance is well below or well above the threshold, around centres that are not zero."""
    n, threshold = int(rng.integers(6, 20)), float(rng.uniform(0.01, 0.05))
    mu = rng.standard_normal((n, LATENTS))
    mu = (mu - mu.mean(0)) / mu.std(0)
    variance = threshold * rng.permutation(np.repeat([0.1, 0.6, 2.0, 20.0], LATENTS // 4))
    return {"mu": np.sqrt(variance) * mu + rng.standard_normal(LATENTS), "threshold": threshold}


def active(mu, threshold):
    return likelihood.active_units(torch.from_numpy(mu), threshold).numpy()


FUNCTIONS = [
    Function(
        "prior_grid",
        grid_by_hand,
        sides,
        [
            Misconception(
                "equal steps in z",
                lambda side: grid(np.linspace(-3, 3, side)),
                "your steps are equally long. The prior is dense near 0, so equally probable steps are shorter there.",
            ),
            Misconception(
                "probabilities instead of codes",
                lambda side: grid(middles(side)),
                "your codes lie between 0 and 1: these are probabilities. Which z has so much of the prior below it?",
            ),
            Misconception(
                "the distribution function itself",
                lambda side: grid(norm.cdf(middles(side))),
                "you go from z to a probability (cdf). You have the probability and look for z: the other way round.",
            ),
            Misconception(
                "the edges of the unit interval",
                lambda side: grid(norm.ppf(np.linspace(0, 1, side))),
                "your outermost codes are infinite: no z has probability 0 below it. Where in a slice is its code?",
            ),
            Misconception(
                "the start of each slice",
                lambda side: grid(norm.ppf(np.arange(side) / side)),
                "your first code is infinite and the grid is lopsided. A code sits in the middle of its slice.",
            ),
            Misconception(
                "one slice too many",
                lambda side: grid(norm.ppf(np.arange(1, side + 1) / (side + 1))),
                "your codes are the inner edges of side + 1 slices. They should be the middles of side slices.",
            ),
            Misconception(
                "upside down",
                lambda side: grid(norm.ppf(middles(side)))[::-1],
                "z[1] grows downwards in your grid. Row 0 of a picture is its top: which z[1] belongs there?",
            ),
            Misconception(
                "mirrored",
                lambda side: grid(norm.ppf(middles(side)))[:, ::-1],
                "z[0] grows to the left in your grid. Column 0 of a picture is on the left.",
            ),
            Misconception(
                "the axes swapped",
                lambda side: grid(norm.ppf(middles(side)))[..., ::-1],
                "the last axis holds (z[1], z[0]): the order of the two coordinates is wrong.",
            ),
            Misconception(
                "rows for z[0]",
                lambda side: grid(norm.ppf(middles(side)))[::-1].transpose(1, 0, 2),
                "z[0] changes from row to row in your grid. Along a row of the picture z[0] should grow.",
            ),
            Misconception(
                "a flat list",
                lambda side: grid(norm.ppf(middles(side))).reshape(-1, 2),
                "you return one long list of codes. Keep rows and columns as two axes.",
            ),
        ],
        special=[("a picture of one tile, which shows the middle of the prior", {"side": 1})],
    ),
    Function(
        "nearest_code_distance",
        nearest,
        codes,
        [
            Misconception(
                "the squared distance",
                lambda z, mu: (distances(z, mu) ** 2).min(1),
                "these are squared distances: they have not the unit of z.",
            ),
            Misconception(
                "the farthest code",
                lambda z, mu: distances(z, mu).max(1),
                "this is the distance to the farthest image. A hole is a place without a near one.",
            ),
            Misconception(
                "the mean distance",
                lambda z, mu: distances(z, mu).mean(1),
                "you average over all images. One image nearby is enough to fill a hole.",
            ),
            Misconception(
                "the distance to the centre",
                lambda z, mu: np.linalg.norm(z - mu.mean(0), axis=1),
                "this is the distance to the mean of all codes. The centre may itself be a hole.",
            ),
            Misconception(
                "the roles swapped",
                lambda z, mu: distances(z, mu).min(0),
                "there is one number per image. It should be one per z: over which of the two do you take the minimum?",
            ),
            Misconception(
                "the sum of the sides",
                lambda z, mu: np.abs(z[:, None] - mu).sum(2).min(1),
                "you add up the differences along the axes. The Euclidean distance is the straight way.",
            ),
            Misconception(
                "the index instead of the distance",
                lambda z, mu: distances(z, mu).argmin(1),
                "this says which image is nearest, not how far away it is.",
            ),
            Misconception(
                "each latent on its own",
                lambda z, mu: np.linalg.norm(np.abs(z[:, None] - mu).min(1), axis=1),
                "you take the nearest value in each latent, from different images. The nearest code is one image's.",
            ),
            Misconception(
                "one number for all",
                lambda z, mu: distances(z, mu).min(),
                "only the smallest of all distances is left. Keep one for each z.",
            ),
            Misconception(
                "row by row",
                lambda z, mu: np.linalg.norm(z - mu[: len(z)], axis=1),
                "you compare the first z with the first image only, and so on. Every z has to meet every image.",
            ),
        ],
        special=[
            (
                "a z that is itself the code of an image, where the distance is 0",
                {"z": np.array([[0.3, -1.1], [2.0, 0.7]]), "mu": np.array([[2.0, 0.7], [0.3, -1.1], [0.0, 0.0]])},
            )
        ],
    ),
    Function(
        "active_units",
        active,
        means,
        [
            Misconception(
                "the standard deviation",
                lambda mu, threshold: mu.std(0) > threshold,
                "you compare the standard deviation. The threshold is one for its square.",
            ),
            Misconception(
                "the mean not taken off",
                lambda mu, threshold: (mu**2).mean(0) > threshold,
                "a latent that always says 3 says nothing. Does your measure of spread know?",
            ),
            Misconception(
                "a mean that is not zero",
                lambda mu, threshold: np.abs(mu.mean(0)) > threshold,
                "you ask where the latents are on average. The question is how much they change from image to image.",
            ),
            Misconception(
                "over the latents",
                lambda mu, threshold: mu.var(1) > threshold,
                "there is one answer per image. It should be one per latent: over which axis does the variance go?",
            ),
            Misconception(
                "over everything",
                lambda mu, threshold: mu.var() > threshold,
                "one answer comes out for all latents together. Keep them apart.",
            ),
            Misconception(
                "the inactive ones",
                lambda mu, threshold: mu.var(0) < threshold,
                "your True stands at the latents that hardly change.",
            ),
            Misconception(
                "the variances themselves",
                lambda mu, threshold: mu.var(0),
                "these are the right numbers, but not yet a decision: compare them with the threshold.",
            ),
            Misconception(
                "their number",
                lambda mu, threshold: (mu.var(0) > threshold).sum(),
                "you return how many there are. Which ones are they?",
            ),
            Misconception(
                "their places",
                lambda mu, threshold: np.flatnonzero(mu.var(0) > threshold),
                "you return the numbers of the active latents. Return True or False for every latent.",
            ),
        ],
        special=[
            (
                "latents that are far from zero but never move",
                {"mu": np.array([[3.0, 0.0], [3.0, 1.0], [3.0, -1.0]]), "threshold": 0.01},
            )
        ],
    ),
]
