"""Checks of exercise 1. The references are explicit loops, a search tree and paper/likelihood.py, not the solutions."""

from statistics import NormalDist

import numpy as np
import torch
from scipy.spatial import KDTree
from scipy.special import ndtr, ndtri

import likelihood
from checking import Function, Special
from mistakes import advised

LOST_AXIS = "is an axis lost where it has length 1?"
TOO_MANY = "is the number of rows fixed somewhere, or does only a part of them count?"


# --- The manifold's codes --------------------------------------------------------------------------------------------


def sides(rng):
    return {"side": int(rng.integers(3, 13))}


def grid_by_hand(side):
    quantiles = [NormalDist().inv_cdf((i + 0.5) / side) for i in range(side)]
    codes = np.zeros((side, side, 2))
    for row in range(side):
        for column in range(side):
            codes[row, column] = quantiles[column], quantiles[side - 1 - row]
    return codes


WIDTHS = 1, 1.5, 1.96, 2, 2.5, 3, 3.5, 4, 5
MARGINS = 0.1, 0.05, 0.025, 0.02, 0.01, 0.005, 0.001, 1e-4, 1e-6


def density(z):
    return np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi)


def grid_model(choose, side):
    i = np.arange(side)
    middles = (i + 0.5) / side
    p = choose(
        middles,
        *advised(
            "the grid is lopsided, and its outermost code infinite. A code sits in the middle of its slice.",
            ("the start of each slice", i / side),
            ("the end of each slice", (i + 1) / side),
        ),
        ("the edges of the unit interval", np.linspace(0, 1, side),
         "your outermost codes are infinite: no z has probability 0 below it. Where in a slice is its code?"),
        ("the edges of all slices", np.linspace(0, 1, side + 1),
         "your steps are the edges of the slices, one more than there are slices. A code sits in the middle of its "
         "slice."),
        ("the edges between the slices", np.arange(1, side) / side,
         "your steps are the edges between the slices, one less than there are slices. A code sits in the middle of "
         "its slice."),
        ("the inner edges of more slices", (i + 1) / (side + 1),
         "your codes are the inner edges of side + 1 slices. They should be the middles of side slices."),
        *advised(
            "your middles are not all between 0 and 1. Where does i begin, and where in a slice is its middle?",
            ("counted from one", (i + 1.5) / side),
            ("half a slice too low", (i - 0.5) / side),
            ("one slice too few", (i + 0.5) / (side - 1)),
            ("half of everything added", i / side + 0.5),
            ("i not divided", i + 0.5 / side),
        ),
        ("one slice too many", (i + 0.5) / (side + 1),
         "your slices are too narrow: there is room for one more at the end."),
        ("divided without a rest", (i + 0.5) // side,
         "your division forgets what stands behind the point: all slices become one."),
        *advised(
            "there is a margin at both ends that is not half a slice. Where in its slice is the first code?",
            ("a whole slice as margin", np.linspace(1 / side, 1 - 1 / side, side)),
            *((f"a margin of {e:g}", np.linspace(e, 1 - e, side)) for e in MARGINS),
            *((f"edges cut off at {e:g}", np.clip(np.linspace(0, 1, side), e, 1 - e)) for e in MARGINS),
        ),
    )  # fmt: skip
    codes, right = ndtri(p), ndtri(middles)
    side_by_side = side * -np.diff(density(ndtri(np.arange(side + 1) / side)))
    odds = np.log(p / (1 - p))
    steps = choose(
        codes,
        ("probabilities instead of codes", p,
         "your codes lie between 0 and 1: these are probabilities. Which z has so much of the prior below it?"),
        ("the distribution function itself", ndtr(p),
         "you go from z to a probability (cdf). You have the probability and look for z: the other way round."),
        ("the density", density(p), "this is how dense the prior is (pdf). Which z has the probability p below it?"),
        *advised(
            "this is the quantile of another distribution. The prior is a Gaussian of variance 1.",
            ("a logistic quantile", odds),
            *((f"a logistic quantile over {scale}", odds / scale) for scale in (1.6, 1.7, 1.702)),
            ("a logistic quantile of variance 1", odds * np.sqrt(3) / np.pi),
            ("a Cauchy quantile", np.tan(np.pi * (p - 0.5))),
            ("a Laplace quantile", -np.sign(p - 0.5) * np.log(1 - 2 * np.abs(p - 0.5))),
            ("an exponential quantile", -np.log(1 - p)),
            ("a uniform quantile of variance 1", (2 * p - 1) * np.sqrt(3)),
            ("the root of 2 too little", codes / np.sqrt(2)),
            ("the root of 2 too much", codes * np.sqrt(2)),
            ("the upper half only", ndtri((1 + p) / 2)),
            ("the upper half, and the root of 2 too little", ndtri((1 + p) / 2) / np.sqrt(2)),
        ),
        ("the mean of each slice", side_by_side,
         "these are the means of the prior in each slice. The quantile of its middle is asked for."),
        *advised(
            "your steps are equally long. The prior is dense near 0, so equally probable steps are shorter there.",
            ("equal steps between the right ends", np.linspace(right[0], right[-1], side)),
            *((f"equal steps from -{r:g} to {r:g}", np.linspace(-r, r, side)) for r in WIDTHS),
            *((f"equal slices of -{r:g} to {r:g}", r * (2 * p - 1)) for r in WIDTHS),
        ),
        *advised(
            "the prior has no edge: is something cut off?",
            *((f"cut off at {r:g}", np.clip(codes, -r, r)) for r in (1, 1.5, 1.96, 2)),
        ),
    )  # fmt: skip
    z0, z1 = choose(
        (steps, steps),
        *advised(
            "the other coordinate is right.",
            ("only in z[0]", (steps, right)),
            ("only in z[1]", (right, steps)),
        ),
    )
    z0, z1 = np.meshgrid(z0, z1[::-1])
    down, left = z1[::-1], z0[:, ::-1]
    corner = choose(
        (z0, z1),
        ("upside down", (z0, down),
         "z[1] grows downwards in your grid. Row 0 of a picture is its top: which z[1] belongs there?"),
        ("mirrored", (left, z1), "z[0] grows to the left in your grid. Column 0 of a picture is on the left."),
        ("upside down and mirrored", (left, down),
         "z[0] grows to the left and z[1] downwards in your grid. Which code belongs to the corner [0, 0]?"),
        ("the two coordinates exchanged", (z1, z0),
         "the last axis holds (z[1], z[0]): the order of the two coordinates is wrong."),
        *advised(
            "z[0] changes from row to row in your grid. Along a row of the picture z[0] should grow.",
            ("z[0] from row to row, z[1] along a row", (down, z0)),
            ("rows and columns exchanged", (down, left)),
            ("z[0] upwards, z[1] to the left", (z1, left)),
        ),
        *advised(
            "the two coordinates of each code are the same number. One should change along a row, one from row to row.",
            ("z[0] for both", (z0, z0)),
            ("z[1] for both", (z1, z1)),
        ),
    )  # fmt: skip
    grid = np.stack(corner, axis=-1)
    return choose(
        grid,
        *advised(
            "you return one long list of codes. Keep rows and columns as two axes.",
            ("a flat list", grid.reshape(-1, 2)),
            ("a flat list, column by column", grid.swapaxes(0, 1).reshape(-1, 2)),
        ),
        *advised(
            "the coordinates do not have the last axis in yours: [row, column] should be one code.",
            ("the coordinates on the first axis", np.stack(corner)),
            ("the coordinates on the second axis", np.stack(corner, 1)),
        ),
        *advised(
            "you pair the steps one by one. Every z[0] has to meet every z[1].",
            ("one code for each step", np.stack([steps, steps], 1)),
            ("a diagonal", np.stack([steps, steps[::-1]], 1)),
            ("the steps alone", steps),
        ),
        *advised(
            "there is one number for each tile. A code has two.",
            ("z[0] alone", corner[0]),
            ("z[1] alone", corner[1]),
        ),
    )


# --- Distances -------------------------------------------------------------------------------------------------------


def codes_and_images(rng):
    m, n = rng.choice(np.arange(5, 10), 2, replace=False)
    z = rng.integers(2, 5)
    return {"z": rng.standard_normal((m, z)), "mu": rng.standard_normal((n, z))}


FAR = 40 + np.random.default_rng(0).standard_normal((60, 3))
MANY = np.random.default_rng(1).standard_normal((270, 2))


def nearest(z, mu):
    return KDTree(mu).query(z)[0].astype(z.dtype)


def size(parts, axis=-1):
    return np.sqrt((parts**2).sum(axis))


def nearest_model(choose, z, mu):
    apart, spread = z[:, None] - mu, mu.std(0)
    s, v = np.linalg.svd(mu - mu.mean(0), full_matrices=False)[1:]
    whiten = v.T / s
    apart = choose(
        apart,
        ("the sum of both", z[:, None] + mu, "try a z that is itself the code of an image: how far apart are the two?"),
        ("mu left out", apart + mu, "this is how far z is from 0. Where do the images come in?"),
        ("z left out", apart - z[:, None], "this is how far the images are from 0. Where does z come in?"),
        *advised(
            "you divide by the spread of the codes. The distance is asked for in the unit of z.",
            ("by the spread of all images' codes", apart / mu.std()),
            ("by each latent's spread", apart / spread),
            ("by each latent's spread, with N - 1", apart / (spread * np.sqrt(np.float64(len(mu)) / (len(mu) - 1)))),
            ("by each latent's spread + 1e-6", apart / (spread + 1e-6)),
            ("by each latent's spread in z and mu", apart / np.vstack([z, mu]).std(0)),
            ("by the spread in every direction", apart @ whiten * np.sqrt(len(mu) - 1)),
        ),
        *advised(
            "this compares directions only. Two codes may point the same way and still be far apart.",
            ("codes made 1 long", z[:, None] / size(z)[:, None, None] - mu / size(mu)[:, None]),
        ),
        *advised(
            "the codes are rounded before they are compared.",
            ("rounded to tenths", np.round(z, 1)[:, None] - np.round(mu, 1)),
            ("whole numbers", np.trunc(z)[:, None] - np.trunc(mu)),
        ),
    )  # fmt: skip
    lengths, sides = size(apart), np.abs(apart)
    of_z, of_mu, product = size(z)[:, None], size(mu), z @ mu.T
    distance = choose(
        lengths,
        ("the squared distance", lengths**2, "these are squared distances: they have not the unit of z."),
        *advised(
            "you add up, or average, the differences along the axes. The Euclidean distance is the straight way.",
            ("the sum of the sides", sides.sum(2)),
            ("the mean of the sides", sides.mean(2)),
        ),
        ("the sum of the cubes", np.cbrt((sides**3).sum(2)),
         "that is a distance with another exponent than the Euclidean one."),
        *advised(
            "you keep the difference along one axis. The Euclidean distance counts all of them.",
            ("the longest side", sides.max(2)),
            ("the shortest side", sides.min(2)),
            ("the first latent only", sides[:, :, 0]),
            ("the last latent only", sides[:, :, -1]),
        ),
        *advised(
            "not every latent counts in your sum: where does it begin, and where does it end?",
            ("the first two latents only", size(apart[:, :, :2])),
            ("without the last latent", size(apart[:, :, :-1])),
            ("without the first latent", size(apart[:, :, 1:])),
        ),
        *advised(
            "you average over the latents. In a distance their squares add up.",
            ("the mean over the latents", np.sqrt((apart**2).mean(2))),
            ("the mean of the squares", (apart**2).mean(2)),
        ),
        *advised(
            "differences of opposite sign cancel in your sum. A distance is never below zero.",
            ("differences with their signs", apart.sum(2)),
            ("the size of the summed differences", np.abs(apart.sum(2))),
        ),
        ("the difference of the lengths", np.abs(of_z - of_mu),
         "you compare how far both are from 0. Two codes may be as long and still be far apart."),
        *advised(
            "multiply (a - b)^2 out again: what stands in its middle?",
            ("the mixed term once", np.sqrt(np.maximum(of_z**2 - product + of_mu**2, 0))),
            ("no mixed term", np.sqrt(of_z**2 + of_mu**2)),
            ("twice the mixed term", np.sqrt(np.maximum(of_z**2 - 4 * product + of_mu**2, 0))),
        ),
        *advised(
            "this compares directions. Two codes may point the same way and still be far apart.",
            ("one less the cosine", 1 - product / (of_z * of_mu)),
            ("the cosine", product / (of_z * of_mu)),
            ("the angle", np.arccos(np.clip(product / (of_z * of_mu), -1, 1))),
            ("the scalar product", product),
        ),
    )  # fmt: skip
    rows, least, which = np.arange(len(z)), distance.min(1), distance.argmin(1)
    order = np.pad(np.sort(distance, 1), ((0, 0), (0, 4)), constant_values=np.inf)

    def chosen_by(other):
        return distance[rows, other.argmin(1)]

    return choose(
        least,
        ("the farthest code", distance.max(1),
         "this is the distance to the farthest image. A hole is a place without a near one."),
        *advised(
            "you average over images, or add them up. One image nearby is enough to fill a hole.",
            ("the mean distance", distance.mean(1)),
            ("the median distance", np.median(distance, 1)),
            ("the sum of the distances", distance.sum(1)),
            ("a soft minimum", -np.log(np.exp(-distance).sum(1))),
            *((f"the mean of the {k} nearest", order[:, :k].mean(1)) for k in (2, 3, 4, 5)),
        ),
        *advised(
            "this is the distance to one middle of all codes. It may itself be a hole.",
            ("the distance to the centre", size(z - mu.mean(0))),
            ("the distance to the median code", size(z - np.median(mu, 0))),
        ),
        *advised(
            "a nearer image is left out.",
            ("the second nearest", order[:, 1]),
            ("the third nearest", order[:, 2]),
        ),
        *advised(
            "there is one number per image. It should be one per z: over which of the two do you take the minimum?",
            ("the roles swapped", distance.min(0)),
            ("the farthest z of each image", distance.max(0)),
        ),
        *advised(
            "one number comes out for all. Keep one for each z.",
            ("the smallest of all", distance.min()),
            ("the mean of the smallest", least.mean()),
            ("the sum of the smallest", least.sum()),
            ("the largest of the smallest", least.max()),
        ),
        ("the index instead of the distance", which, "this says which image is nearest, not how far away it is."),
        *advised(
            "this says where the nearest image is. How long is the way to it?",
            ("the nearest code itself", mu[which]),
            ("the difference to the nearest code", z - mu[which]),
        ),
        ("all distances", distance,
         "there is still one number for each pair. Which one says how near the nearest image is?"),
        ("each latent on its own", size(sides.min(1)),
         "you take the nearest value in each latent, from different images. The nearest code is one image's."),
        ("added up over the images", size(apart, 1).min(1),
         "you add the squares up over the images. A length is a sum over the latents."),
        ("carried over from code to code", np.minimum.accumulate(least),
         "the smallest distance so far is kept when the next z begins. Each z starts anew."),
        *advised(
            "not every image counts in yours.",
            ("without the first image", distance[:, 1:].min(1, initial=np.inf)),
            ("without the last image", distance[:, :-1].min(1, initial=np.inf)),
            ("the first image only", distance[:, 0]),
            ("the last image only", distance[:, -1]),
            ("every second image", distance[:, ::2].min(1)),
            ("the second, fourth, ... image", distance[:, 1::2].min(1, initial=np.inf)),
            ("the first half of the images", distance[:, : len(mu) // 2].min(1, initial=np.inf)),
            ("as many images as codes", distance[:, : len(z)].min(1)),
        ),
        *advised(
            "you compare the first z with the first image, the second with the second. Every z has to meet all images.",
            ("row by row", distance[rows, rows % len(mu)]),
            ("row by row as far as both go", np.diagonal(distance)),
        ),
        *advised(
            "you choose the image by something else than the distance that you return.",
            ("chosen by the sum of the sides", chosen_by(sides.sum(2))),
            ("chosen by the longest side", chosen_by(sides.max(2))),
            ("chosen by the first latent", chosen_by(sides[:, :, 0])),
            ("chosen by its length", chosen_by(np.abs(of_z - of_mu))),
            ("chosen by its direction", chosen_by(-product / of_mu)),
            ("chosen by the scalar product", chosen_by(-product)),
            ("the image nearest on average, for all", distance[:, distance.sum(0).argmin()]),
            ("chosen by its distance to the centre", chosen_by(np.tile(size(mu - mu.mean(0)), (len(z), 1)))),
        ),
    )  # fmt: skip


# --- Active units ----------------------------------------------------------------------------------------------------


def means(rng):
    """Variances are not so near to the threshold that dividing by N or by N - 1 would matter."""
    n, latents = 2 * int(rng.integers(4, 9)) + 1, 2 * int(rng.integers(12, 20))
    threshold = float(np.exp(rng.uniform(-5, 1)))
    mu = rng.standard_exponential((n, latents))
    mu = (mu - mu.mean(0)) / mu.std(0)
    over = np.where(rng.random(latents) < rng.uniform(0.1, 0.9), 1, -1)
    sigma = np.sqrt(threshold * np.exp(over * 0.2 * 30 ** rng.random(latents)))
    centres = np.sqrt(threshold) * np.exp(rng.uniform(-1, 2)) * rng.standard_normal(latents)
    return {"mu": sigma * mu + centres, "threshold": threshold}


LATE = np.repeat([[0.0, 1.0, 0.0], [2.0, -1.0, 0.001]], [250, 50], axis=0)
FAR_MEANS = 3001.7 + np.outer(np.tile([1.0, -1.0], 6), np.repeat([0.03, 0.3], 8))


def active(mu, threshold=0.01):
    return likelihood.active_units(torch.from_numpy(mu), threshold).numpy()


def active_model(choose, mu, threshold=0.01):
    centred = choose(
        mu - mu.mean(0),
        ("the mean not taken off", mu, "a latent that always says 3 says nothing. Does your measure of spread know?"),
        *advised(
            "a variance is about each latent's own mean over the images. Yours is about something else.",
            ("the mean of all latents taken off", mu - mu.mean()),
            ("the mean of each image taken off", mu - mu.mean(1, keepdims=True)),
            ("the first image taken off", mu - mu[0]),
            ("the last image taken off", mu - mu[-1]),
            ("the median taken off", mu - np.median(mu, 0)),
            ("1 taken off", mu - 1),
        ),
    )  # fmt: skip
    squares, sizes, steps = centred**2, np.abs(centred), np.diff(mu, axis=0)
    variance, mean, spread = squares.mean(0), mu.mean(0), mu.max(0) - mu.min(0)
    measure = choose(
        variance,
        ("the standard deviation, in effect", np.sqrt(variance),
         "what you compare is, in effect, the standard deviation. The threshold is one for its square."),
        ("a square too many, in effect", variance**2,
         "in effect you square the variance, which is a square already, or take the root of the threshold."),
        *advised(
            "your measure grows with the number of images. A variance is a mean.",
            ("the sum of the squares", squares.sum(0)),
            ("the root of the sum of the squares", np.sqrt(squares.sum(0))),
        ),
        *advised(
            "you divide by the number of images once too often. The spread of the single images counts.",
            ("the variance of the mean over the images", variance / len(mu)),
            ("the standard error", np.sqrt(variance / len(mu))),
        ),
        *advised(
            "this is another measure of spread than the variance, which is the mean of the squares.",
            ("the mean deviation", sizes.mean(0)),
            ("the median deviation", np.median(sizes, 0)),
            ("the range", spread),
            ("the range squared", spread ** 2),
            ("the largest deviation", sizes.max(0)),
            ("the largest square", squares.max(0)),
            ("the smallest deviation", sizes.min(0)),
        ),
        *advised(
            "not every image counts in yours.",
            ("the first half of the images", mu[: len(mu) // 2].var(0)),
            ("the second half of the images", mu[len(mu) // 2 :].var(0)),
            ("every second image", mu[::2].var(0)),
        ),
        *advised(
            "you compare each image with the one before. Their order means nothing.",
            ("the steps from image to image", (steps**2).mean(0)),
            ("half the steps from image to image", (steps**2).mean(0) / 2),
            ("the sizes of the steps from image to image", np.abs(steps).mean(0)),
            ("the variance of the steps from image to image", steps.var(0)),
        ),
        *advised(
            "you ask where the latents are on average. The question is how much they change from image to image.",
            ("the size of the mean", np.abs(mean)),
            ("the mean", mean),
            ("the square of the mean", mean**2),
        ),
        *advised(
            "the spread counts as it is, wherever its middle lies.",
            ("the spread over the mean", np.sqrt(variance) / np.abs(mean)),
            ("the variance over the mean", variance / np.abs(mean)),
            ("the variance over the mean's square", variance / mean**2),
        ),
        *advised(
            "you ask how far the variance is from 1, that of the prior. A latent that says nothing has none at all.",
            ("how far the variance is from 1", np.abs(variance - 1)),
            ("1 less the variance", 1 - variance),
            ("the variance less 1", variance - 1),
            ("how far the standard deviation is from 1", np.abs(np.sqrt(variance) - 1)),
        ),
        ("1 for every latent", np.ones_like(variance),
         "your measure is 1 for every latent, however little it changes: is it divided by itself?"),
        ("a KL in the variance", (variance - 1 - np.log(variance)) / 2,
         "this is the KL between two Gaussians. The text compares the variance itself."),
        *advised(
            "you go over the latents. There should be one answer per latent: over which axis does the variance go?",
            ("over the latents", mu.var(1)),
            ("the standard deviation over the latents", mu.std(1)),
        ),
        *advised(
            "one answer comes out for all latents together. Keep them apart.",
            ("over everything", mu.var()),
            ("over everything, for each latent", np.full(len(mean), mu.var())),
        ),
        *advised(
            "you compare single values with the threshold. How much does a latent change over the images?",
            ("the values themselves", mu),
            ("the sizes of the values", np.abs(mu)),
            ("the squares one by one", squares),
            ("the deviations one by one", sizes),
            ("the first image only", np.abs(mu[0])),
        ),
    )  # fmt: skip
    limit = choose(
        threshold,
        *advised(
            "your limit does not depend on the threshold that is given. There is an argument for it.",
            *((f"always {limit:g}", limit) for limit in (0.0, 0.01, 0.1, 1.0)),
            ("the mean over the latents", np.mean(measure)),
        ),
        ("twice the threshold, or half the measure", 2 * threshold,
         "a factor is missing, or too much, on one side of your comparison."),
        ("half the threshold, or twice the measure", threshold / 2,
         "a factor is missing, or too much, on one side of your comparison."),
        ("1 less the threshold", 1 - threshold,
         "you compare with 1 minus the threshold. It is one for the variance as it is."),
        *advised(
            "your limit depends on the latents themselves. The threshold is a number of its own.",
            ("a share of the largest", threshold * np.max(measure)),
            ("a share of the sum", threshold * np.sum(measure)),
            ("a share of the mean", threshold * np.mean(measure)),
            ("a share of the variance of all", threshold * mu.var()),
        ),
    )  # fmt: skip
    over = choose(
        measure > limit,
        ("the inactive ones", measure < limit, "your True stands at the latents that hardly change."),
        ("the threshold itself counts", measure >= limit,
         "a latent whose variance is just the threshold is active in yours. Which sign does the formula have?"),
    )  # fmt: skip
    return choose(
        over,
        *advised(
            "this is a number for each latent, not yet a decision: compare it with the threshold.",
            ("the measure itself", measure),
            ("how far above the threshold", measure - limit),
            ("how many times the threshold", measure / limit),
            ("zero where it is not active", np.where(over, measure, 0)),
        ),
        *advised(
            "you say how many there are. Which ones are they?",
            ("their number", np.sum(over)),
            ("their share", np.mean(over)),
        ),
        *advised(
            "you return something for the active latents only. Return True or False for every latent.",
            ("their places", np.flatnonzero(over)),
            ("their measures", np.atleast_1d(measure)[np.atleast_1d(over)]),
            ("their columns", mu[:, over] if np.shape(over) == mu.shape[1:] else mu),
        ),
        ("the active ones first", np.sort(over, axis=None)[::-1], "all that are true come first: whose are they then?"),
        *advised(
            "you join several answers to one. There is one for each latent, from the variance over all images.",
            ("if any is", np.any(over, axis=0)),
            ("if all are", np.all(over, axis=0)),
            ("if most are", np.mean(over, axis=0) > 0.5),
            ("if any is, of all together", np.full(mu.shape[1], np.any(over))),
            ("if all are, of all together", np.full(mu.shape[1], np.all(over))),
        ),
    )


FUNCTIONS = [
    Function(
        "prior_grid",
        grid_by_hand,
        sides,
        grid_model,
        special=[
            Special("a picture of one tile", {"side": 1}, "it shows the middle of the prior: what is your step there?"),
            Special(
                "a picture of two by two tiles",
                {"side": 2},
                "each half of the prior is one slice: where is its middle?",
            ),
            Special(
                "a picture of many tiles",
                {"side": 50},
                "the outermost slices are far out: is something cut off, or is the number of tiles fixed?",
            ),
        ],
    ),
    Function(
        "nearest_code_distance",
        nearest,
        codes_and_images,
        nearest_model,
        special=[
            Special(
                "more than a thousand images",
                {
                    "z": np.array([[0.0, 14.0], [1.0, 1.0]]),
                    "mu": np.stack([np.sin(range(1500)), np.arange(1500) / 99], 1),
                },
                "does every image count, up to the last?",
            ),
            Special(
                "a z that is itself the code of an image",
                {
                    "z": np.array([[3.0, -1.0], [2.0, 5.0], [9.0, 9.0]]),
                    "mu": np.array([[2.0, 5.0], [3.0, -1.0], [0.0, 0.0], [4.0, 4.0]]),
                },
                "the distance is 0 there: is a zero left out, or something small added?",
            ),
            Special(
                "codes of images far from 0",
                {"z": np.vstack([FAR, [[44.0, 37, 42]]]), "mu": FAR[::-1].copy()},
                "the distance of a code to itself is 0. Does rounding leave it so, and may its square be negative?",
            ),
            Special(
                "codes far from every image",
                {"z": np.array([[2e6, 0.0], [0.0, -3e7]]), "mu": np.array([[1.0, 1.0], [0.0, 2.0], [-1.0, 0.0]])},
                "is there a largest distance in your code?",
            ),
            Special("a single code", {"z": MANY[:1], "mu": MANY[1:4]}, LOST_AXIS),
            Special(
                "a single latent", {"z": np.array([[2.0], [0.0], [-3.0]]), "mu": np.array([[4.0], [1.0]])}, LOST_AXIS
            ),
            Special("many codes and images", {"z": 3 * MANY[:140], "mu": np.sort(MANY, axis=0)[::-1].copy()}, TOO_MANY),
        ],
    ),
    Function(
        "active_units",
        active,
        means,
        active_model,
        special=[
            Special(
                "latents that are far from zero but never move",
                {"mu": np.array([[3.0, 0.0], [3.0, 1.0], [3.0, -1.0]]), "threshold": 0.01},
                "is the spread that you measure one about the mean?",
            ),
            Special(
                "a threshold of 0 and latents that never move",
                {"mu": np.array([[3.0, 0.0, 0.1], [3.0, 0.0, -0.05], [3.0, 0.0, 0.0]]), "threshold": 0.0},
                "is a variance of 0 above a threshold of 0? Is the threshold used that is given?",
            ),
            Special(
                "latents that move a little, far from zero",
                {"mu": FAR_MEANS, "threshold": 0.01},
                "the spread is small beside the mean. Does it survive the rounding?",
            ),
            Special(
                "latents that move for few images",
                {"mu": np.outer([1.0, 1, 1, 0, 0, 0, 0, 0, 0, 0], [0.195, 0.1, 0.195, 0.23]), "threshold": 0.01},
                "from which middle do you measure, and does every image count?",
            ),
            Special(
                "images in a certain order",
                {"mu": np.stack([np.linspace(0, 2, 21), [0, *[0.09, -0.09] * 10]], 1), "threshold": 0.01},
                "does the order of the images change your answer?",
            ),
            Special("many images, of which the last ones differ", {"mu": LATE, "threshold": 0.01}, TOO_MANY),
            Special("a single latent", {"mu": np.array([[3.0], [1.0], [-1.0]]), "threshold": 0.01}, LOST_AXIS),
            Special(
                "the usual threshold, which nobody gave",
                {"mu": np.outer([1, -1] * 4, [0.05, 0.08, 0.12, 0.2, 2.0])},
                "which one does the first line of the function name, and is the variance rounded?",
            ),
        ],
    ),
]
