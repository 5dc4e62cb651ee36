"""Checks of exercise 17. The references are triangular solves, torch.distributions and loops, not the solutions."""

import math

import numpy as np
import torch
from torch.distributions import MultivariateNormal, Normal, kl_divergence

from checking import Function, Special
from mistakes import advised

# --- Inputs ----------------------------------------------------------------------------------------------------------


def covariances(rng):
    z = int(rng.integers(2, 5))
    n = int(rng.choice([n for n in range(2, 7) if n != z]))
    factors = rng.standard_normal((n, z, z)) + np.eye(z)
    return {"covariance": factors @ factors.swapaxes(1, 2) + 0.3 * np.eye(z)}


def grids(rng):
    n, g, h = (int(size) for size in rng.choice(np.arange(2, 8), 3, replace=False))
    return {
        "log_joint": 1.5 * rng.standard_normal((n, g, h)) - rng.uniform(2, 6, (n, 1, 1)),
        "area": rng.uniform(0.1, 2),
    }


def draws(rng):
    n, k, z = (int(size) for size in rng.choice(np.arange(2, 7), 3, replace=False))
    arrays = {
        "log_joint": rng.standard_normal((n, k)) - 5,
        "logvar": rng.uniform(-3, 2, (n, z)),
        "eps": rng.standard_normal((n, k, z)),
    }
    return {name: torch.from_numpy(array) for name, array in arrays.items()}


def bounds(rng):
    n = int(rng.integers(4, 8))
    log_p = rng.uniform(-220, -180, n)
    best = log_p - rng.uniform(0.05, 1, n)
    return {"log_p": log_p, "best_elbo": best, "encoder_elbo": best - rng.uniform(0.5, 4, n)}


def tensors(**lists):
    return {name: torch.tensor(each, dtype=torch.float64) for name, each in lists.items()}


def equally_correlated(correlation, variances):
    deviations = np.sqrt(variances)
    same = np.full((len(variances),) * 2, correlation) + (1 - correlation) * np.eye(len(variances))
    return {"covariance": (same * deviations * deviations[:, None])[None]}


TABLE = np.array([[[0.0, 1.0, 3.0], [-2.0, 0.5, -1.0]], [[0.5, 2.0, 1.0], [0.1, -0.3, 0.4]]])
HIGH = np.array([list(image) for image in ("100000", "000010", "000001", "011101", "011000")], float).reshape(-1, 2, 3)
AXIS = "is an axis lost where it has length 1?"

# --- References ------------------------------------------------------------------------------------------------------


def by_cholesky(covariance):
    """The curvature in the direction of each latent by a Cholesky solve, the KL of that q by torch.distributions."""
    logvars, gaps = [], []
    for matrix in torch.as_tensor(np.asarray(covariance, dtype=np.float64)):
        posterior = MultivariateNormal(torch.zeros(len(matrix), dtype=torch.float64), matrix)
        along = torch.linalg.solve_triangular(posterior.scale_tril, torch.eye(len(matrix)).double(), upper=False)
        curvature = along.square().sum(0)
        logvars.append(-curvature.log().numpy())
        gaps.append(float(kl_divergence(MultivariateNormal(posterior.loc, torch.diag(1 / curvature)), posterior)))
    return np.array(logvars), np.array(gaps)


def sum_over_cells(log_joint, area):
    found = []
    for image in np.asarray(log_joint, dtype=np.float64):
        total = -math.inf
        for value in image.ravel():
            total = np.logaddexp(total, value + math.log(area))
        found.append(total)
    return np.array(found, dtype=log_joint.dtype)


def by_distributions(log_joint, logvar, eps):
    sigma = torch.exp(logvar / 2)[:, None]
    return log_joint - Normal(torch.zeros_like(sigma), sigma).log_prob(sigma * eps).sum(2)


# --- What may be done instead ----------------------------------------------------------------------------------------

# fmt: off


def diagonal(matrices):
    return np.diagonal(matrices, axis1=1, axis2=2)


def best_diagonal_model(choose, covariance):
    z, precision = covariance.shape[1], np.linalg.inv(covariance)
    roots = np.linalg.eigvalsh(covariance)
    factor = np.linalg.cholesky(covariance)
    alone = diagonal(covariance)
    pairs = np.log1p((np.eye(z) - 1) * covariance**2 / (alone[:, :, None] * alone[:, None]))
    conditional = 1 / diagonal(precision)
    variances = choose(
        conditional,
        ("the variances of the posterior", alone,
         "these are the variances of the posterior, latent by latent. Put them into the KL: is its slope 0 there?"),
        ("the precisions as variances", 1 / conditional,
         "your q is wide where the posterior is narrow. Where does the slope of the KL vanish?"),
        ("one over the variances", 1 / alone,
         "you take one over the variances of the posterior. Which matrix stands in the KL?"),
        ("the eigenvalues", roots,
         "eigenvalues belong to the axes of the posterior's ellipse, and q's axes are the latents."),
        ("one width for all", z / (1 / conditional).sum(1, keepdims=True) + 0 * roots,
         "your q has one width for all latents. Each has a width of its own."),
        ("the diagonal of a Cholesky factor", diagonal(factor) ** 2,
         "a Cholesky factor knows an order of the latents. The best q does not."),
        ("rows of the inverse Cholesky factor", 1 / np.square(np.linalg.inv(factor)).sum(2),
         "which product of the inverse factor with itself is the precision? Yours is that of another matrix."),
        ("correlations two by two", alone * np.exp(pairs.sum(2)),
         "you go through the correlations two by two. Is that right for three latents?"),
        ("one step of a series", alone**2 / (alone + (np.square(covariance) / alone[:, None]).sum(2) - alone),
         "your inverse is right for small correlations. They may be large."),
        *advised("a factor is left over in your variances: the KL has one half before both terms.", {
            "twice the variance": 2 * conditional,
            "half the variance": conditional / 2,
        }),
    )
    logvar = choose(
        np.log(variances),
        ("variances for their logarithms", variances, "these are variances. The logarithm is missing."),
        ("standard deviations", np.sqrt(variances), "these are standard deviations. What does logvar hold?"),
        ("the log of sigma", np.log(variances) / 2, "this is the log of sigma, half of what was asked for."),
        ("the log of the precision", -np.log(variances), "these are log precisions: the sign is wrong."),
        ("base 2", np.log2(variances), "the logarithm has another base than e."),
    )
    entropies = np.log(variances).sum(1)
    product = np.linalg.det(covariance)
    log_det = choose(
        np.linalg.slogdet(covariance)[1],
        ("a determinant too small for a float", np.log(product),
         "a product of many small numbers is 0 in a float. Is there a function for its logarithm?"),
        ("the determinant of the precision", -np.linalg.slogdet(covariance)[1],
         "log det of the precision enters with the other sign."),
        ("the determinant not as a logarithm", product, "the determinant itself is in your KL. It should be a log."),
        ("no determinant", 0 * product, "the KL has a log determinant, which does not vanish at the best widths."),
        ("the variances for the determinant", np.log(alone).sum(1),
         "the product of the variances is the determinant only where nothing is correlated."),
        *advised("you take a scale out of the determinant: how often is it in there?", {
            f"the {name} taken out once": np.linalg.slogdet(covariance)[1] - (z - 1) * np.log(scale)
            for name, scale in (("mean variance", alone.mean(1)), ("largest variance", alone.max(1)))
        }),
    )
    trace = (diagonal(precision) * variances).sum(1)
    first = choose(
        trace - z,
        *advised("two terms of the KL cancel at the best widths. Is one of them left over in yours?", {
            "the number of latents forgotten": trace,
            "only the number of latents": 0 * trace - z,
        }),
        ("two terms cancelled", 0 * trace, "two terms of the KL cancel at the best widths. Are yours the best ones?"),
        ("the whole precision in the first sum", (precision * np.sqrt(variances)[:, :, None]
         * np.sqrt(variances)[:, None]).sum((1, 2)) - z,
         "entries beside the diagonal have come into your first sum. Draws of q are not correlated."),
        ("the KL the other way round", (alone / variances).sum(1) - z,
         "this belongs to KL(posterior || q). Which distribution is the mean under?"),
    )
    spread = choose(
        entropies,
        ("no logarithms of the widths", 0 * entropies, "the sum of the log variances is missing in the KL."),
        ("the mean over the latents", entropies / z, "you average the log variances. The nats of latents add up."),
        ("a product too small for a float", np.log(variances.prod(1)),
         "a product of many small numbers is 0 in a float. What is its logarithm made of?"),
        ("the log of the sum", np.log(variances.sum(1)), "a log of a sum is no sum of logs."),
        ("the log variances of all posteriors", 0 * entropies + entropies.sum(),
         "the log variances of all posteriors are added up. Keep the posteriors apart."),
        ("log sigma in the KL", entropies / 2, "log sigma stands where log sigma^2 belongs."),
        ("the sign of the log variances", -entropies, "the log variances have the wrong sign in the KL."),
    )
    gap = choose(
        (first + log_det - spread) / 2,
        ("the missing half", first + log_det - spread, "the KL has a factor of one half before all of it."),
        ("the sign of the KL", -(first + log_det - spread) / 2, "a KL is never negative. Yours is."),
        ("the half on one term only", log_det - spread / 2, "the half stands before the whole bracket."),
        ("one number for the batch", ((first + log_det - spread) / 2).sum(), "keep the posteriors apart: (N,)."),
        ("the mean of the batch", ((first + log_det - spread) / 2).mean(), "keep the posteriors apart: (N,)."),
        ("a KL per latent", (first + log_det - spread) / 2 / z, "you divide by the number of latents. Nats add up."),
        *advised("this is right for two latents. Three can hold more together than their pairs.", {
            "the first two latents only": -pairs[:, 0, 1:2].sum(1) / 2, "pair by pair": -pairs.sum((1, 2)) / 4,
        }),
        ("bits", (first + log_det - spread) / 2 / np.log(2), "these are bits, and nats are asked for."),
    )
    return logvar, gap


def best_diagonal_terms(covariance):
    precision, z = np.linalg.inv(covariance), covariance.shape[1]
    parts = {"log L_ii": np.log(diagonal(precision)), "log C_ii": np.log(diagonal(covariance)),
             "C_ii": diagonal(covariance), "L_ii": diagonal(precision), "1 / L_ii": 1 / diagonal(precision),
             "1 / C_ii": 1 / diagonal(covariance), "C_ii L_ii": diagonal(covariance) * diagonal(precision)}
    one = np.ones(covariance.shape[:2])
    log_det, det = np.linalg.slogdet(covariance)[1], np.linalg.det(covariance)
    sums = {f"sum({name})": part.sum(1) for name, part in parts.items()}
    return parts | {"1": one}, sums | {"log det C": log_det, "det C": det, "Z": 0 * det + z, "1": 1.0}


def log_evidence_model(choose, log_joint, area):
    inside = np.ones(log_joint.shape[1:])
    inside[[0, -1]] *= 0.5
    inside[:, [0, -1]] *= 0.5
    cells = choose(
        log_joint,
        ("the cells at the edge halved", log_joint + np.log(inside),
         "cells at the edge count less in yours. The values stand in the middles of whole cells."),
        *advised("some cells at the edge do not count in your sum.", {
            "without the last row and column": log_joint[:, :-1, :-1],
            "without the first row and column": log_joint[:, 1:, 1:],
            "without the last row": log_joint[:, :-1], "without the last column": log_joint[:, :, :-1],
        }),
        ("one row of cells", log_joint[:, :1], "only one row of the grid is in your sum."),
    )
    n, g, h = cells.shape
    flat = cells.reshape(n, -1)
    largest = flat.max(1)
    shift = choose(
        largest,
        ("an exp far from 0", 0 * largest,
         "right on paper, but exp overflows, or gives 0 everywhere. Which numbers does each exp of yours meet there?"),
        ("one shift for all images", 0 * largest + flat.max(),
         "an image far below the best of the batch loses all its cells. The images know nothing of each other."),
        *advised("what you subtract leaves cells for which exp may overflow.", {
            "the smallest subtracted": flat.min(1), "the mean subtracted": flat.mean(1),
            "the first subtracted": flat[:, 0], "the last subtracted": flat[:, -1],
            "the cell in the middle subtracted": cells[:, g // 2, h // 2],
            "the median subtracted": np.median(flat, 1), "the largest absolute value subtracted": np.abs(flat).max(1),
        }),
    )
    w = np.exp(cells - shift[:, None, None])
    whole = w.sum((1, 2))
    summed = choose(
        whole,
        ("a mean over the cells", w.mean((1, 2)),
         "you average over the cells. An integral adds up what each of them holds."),
        *advised("you average over one of the two axes, or divide by its length.", {
            "a mean over the rows of cells": w.sum(2).mean(1), "a mean over the columns of cells": w.sum(1).mean(1),
        }),
        ("the largest cell alone", w.max((1, 2)), "only the most probable cell counts in yours."),
        ("all images in one sum", 0 * whole + w.sum(), "your sum goes over the images too. Keep them apart."),
    )
    log_area = choose(
        math.log(area),
        ("no area", 0.0, "your result does not know how large a cell is. A sum over finer cells has more terms."),
        ("the area not as a logarithm", area, "you add the area to a logarithm."),
        ("divided by the area", -math.log(area), "you divide by the area of a cell. What does each cell add?"),
        ("the side for the area", math.log(area) / 2, "you take the side of a cell for its area, or its root."),
        ("the area squared", 2 * math.log(area), "the argument is an area already, not the side of a cell."),
        ("the area of the whole grid", math.log(area * g * h), "you use the area of the whole grid, not of a cell."),
        ("times the number of cells", g * h * math.log(area), "the log of the area comes in once for each cell."),
    )
    log = np.log(summed)
    base = choose(1.0, *advised("the logarithm has another base than exp.", {
        "base 2": 1 / math.log(2), "base 10": 1 / math.log(10),
    }))
    over_rows, over_columns = (np.logaddexp.reduce(cells, axis) for axis in (1, 2))
    right = largest + np.log(np.exp(flat - largest[:, None]).sum(1)) + math.log(area)
    return choose(
        shift + base * (log + log_area),
        ("the shift not undone", log + log_area, "your result does not change when all densities double. Should it?"),
        ("the shift subtracted again", log - shift + log_area, "you take the shift off twice. Where does it go?"),
        ("multiplied by the area at the end", (shift + log) * area,
         "the area is a factor of the sum. What becomes of a factor outside of the logarithm?"),
        ("the area inside exp", np.log(np.exp(flat * area - (flat * area).max(1, keepdims=True)).sum(1))
         + (flat * area).max(1), "you multiply log densities by the area. Which quantity has a volume under it?"),
        ("no logarithm", np.exp(right), "this is p(x) itself. Asked for is its logarithm."),
        ("the sum of the logarithms", flat.sum(1) + log_area,
         "you add up logarithms. What has to be added are densities."),
        ("the integral of the logarithm", flat.sum(1) * area,
         "you integrate the log density. The logarithm comes last."),
        ("the mean of the logarithms", flat.mean(1) + log_area, "you average logs: densities have to be added."),
        ("the highest log density", largest + 0 * log, "this is the highest log density. An integral has all cells."),
        *advised("one axis of the grid is still there. One number per image is asked for.", {
            "over the second axis only": over_rows + log_area, "over the last axis only": over_columns + log_area,
        }),
        *advised("along one axis of the grid you add up logarithms, or average them. Densities have to be added.", {
            "logarithms added along the last axis": over_rows.sum(1) + log_area,
            "logarithms added along the second axis": over_columns.sum(1) + log_area,
            "logarithms averaged along the last axis": over_rows.mean(1) + log_area,
            "logarithms averaged along the second axis": over_columns.mean(1) + log_area,
        }),
        ("over the images", np.logaddexp.reduce(cells, 0) + log_area,
         "you sum over the images, and the grid is still there."),
        ("one number for all images", np.logaddexp.reduce(right), "one number comes out. Keep the images apart."),
        *advised("your sum holds a one that is no cell. Where does it come from?", {
            "a one in the sum": np.logaddexp(0, shift + log) + log_area,
            "a one in the integral": np.logaddexp(0, right),
        }),
    )


def log_evidence_terms(log_joint, area):
    flat = log_joint.reshape(len(log_joint), -1)
    cells = np.logaddexp.reduce(flat, 1)
    return {"log sum": cells, "log area": math.log(area), "area": area, "area log sum": area * cells,
            "log G": math.log(log_joint.shape[1]), "log H": math.log(log_joint.shape[2]), "1": 1.0,
            "max": flat.max(1), "mean": flat.mean(1)}


LOG_2PI = math.log(2 * math.pi)


def log_weights_model(choose, log_joint, logvar, eps):
    (n, k, z), held = eps.shape, logvar[:, None].detach()
    wide = logvar[:, None] + 0 * eps
    sigma = torch.exp(wide / 2)
    noise = choose(
        eps.square(),
        ("the noise divided by the variance", eps.square() * torch.exp(-wide),
         "eps is (z - mu) / sigma already. Is it divided once more?"),
        ("the noise divided by sigma", eps.square() / sigma, "eps is (z - mu) / sigma already."),
        ("the noise times the variance", eps.square() * torch.exp(wide),
         "z - mu has to be measured in sigmas. What is that at z = mu + sigma eps?"),
        ("the noise times sigma", eps.square() * sigma, "z - mu has to be measured in sigmas, and squared."),
        ("the noise not squared", eps, "a Gaussian falls with the square of the distance."),
        ("the size of the noise", eps.abs(), "a Gaussian falls with the square of the distance."),
        ("no noise term", 0 * eps, "where in q the draw fell has to count: a term of log q is missing."),
        ("the mean for the noise", torch.ones_like(eps),
         "you put the mean of eps^2 in its place: right in the mean, and not for the draw."),
        ("the mean of the squared noise", eps.square() / z, "you average over the latents. Log densities add up."),
        *advised("the draw moves with sigma, and is measured in sigma. Which of the two is held fixed in yours?", {
            "sigma under the draw held fixed": eps.square() * torch.exp(wide - held),
            "the draw held fixed": eps.square() * torch.exp(held - wide),
        }),
    )
    width = choose(
        wide,
        ("logvar taken for log sigma", 2 * wide, "the width enters twice as strongly as it should: which log is it?"),
        ("half of the width's logarithm", wide / 2, "the width enters too weakly: is a half there twice?"),
        ("the variance for its logarithm", torch.exp(wide), "the variance stands where its logarithm belongs."),
        ("sigma for its logarithm", 2 * sigma, "sigma stands where its logarithm belongs."),
        ("the sign of logvar", -wide, "a wide q has a low density. Which sign does logvar have then?"),
        ("no width", 0 * wide, "how wide q is does not enter: a wide q is a low one."),
        ("the mean of the log variances", wide / z, "you average over the latents. Log densities add up."),
        ("the log variances of all images", 0 * wide + logvar.sum() / z,
         "the log variances of all images are added up. Which ones has the q of an image?"),
        ("the width held fixed", wide.detach(), "no gradient comes from the width itself. Is something detached?"),
    )
    constant = choose(
        LOG_2PI,
        ("no constant", 0.0, "your q does not integrate to one: a constant is missing."),
        ("the sign of the constant", -LOG_2PI, "the constant of q has the wrong sign."),
        ("the constant without its half", 2 * LOG_2PI, "the constant of q has lost its root."),
        *advised("how often does the constant come into a density? Count its factors.", {
            "the constant for one latent": LOG_2PI / z, "a constant for each draw": LOG_2PI * k / z,
            "a constant for each image": LOG_2PI * n / z, "the constant for two latents": LOG_2PI * 2 / z,
        }),
        ("pi without the 2", math.log(math.pi), "the constant of a Gaussian holds another number."),
    )
    whole = noise + width + constant
    summed = choose(
        whole.sum(2),
        ("the mean over the latents", whole.mean(2), "you average over the latents. Log densities add up."),
        ("not summed over the latents", whole, "there is still one number for each latent."),
        ("the first latent only", whole[:, :, 0], "only one latent is in your log q."),
        ("the first two latents only", whole[:, :, :2].sum(2), "only two latents are in your log q."),
        ("without the last latent", whole[:, :, :-1].sum(2), "the last latent is missing in your log q."),
        ("the sum for all draws", whole.sum((1, 2))[:, None] + 0 * log_joint, "each draw has a density of its own."),
        ("the mean for all draws", whole.sum(2).mean(1, keepdim=True) + 0 * log_joint,
         "each draw has a density of its own."),
    )
    joint = log_joint if summed.ndim == 2 else log_joint[:, :, None]
    log_w = choose(
        joint + summed / 2,
        ("log q added", joint - summed / 2, "log q comes in with the wrong sign: the weight is a quotient."),
        ("no half in log q", joint + summed, "a Gaussian has a half in its exponent, and in the height too."),
        ("log q alone", -summed / 2, "this is log q. Where is log p(x, z)?"),
        ("minus log q alone", summed / 2, "this is - log q. Where is log p(x, z)?"),
        ("log p(x, z) alone", joint + 0 * summed, "q itself does not enter. What is the weight divided by?"),
        ("the sign of log p(x, z)", -joint + summed / 2, "log p(x, z) comes in with the wrong sign."),
        ("turned round", -joint - summed / 2, "this is log q - log p(x, z): the quotient is upside down."),
        ("a quotient of logarithms", joint / (-summed / 2), "the log of a quotient is no quotient of logs."),
        ("no gradient through log_joint", joint.detach() + summed / 2,
         "no gradient comes through log_joint. Is something detached?"),
        ("q's density not as a logarithm", joint - torch.exp(-summed / 2),
         "the density of q is subtracted from a logarithm."),
    )
    return choose(
        log_w,
        ("the weights themselves", torch.exp(log_w), "these are the weights. Asked for is their logarithm."),
        ("the mean over the draws", log_w.mean(1), "this is the bound already. Keep the draws apart: (N, K)."),
        ("the sum over the draws", log_w.sum(1), "keep the draws apart: (N, K)."),
        ("less the largest", log_w - log_w.amax(1, keepdim=True), "you take something off all draws of an image."),
        ("normalised weights", torch.log_softmax(log_w, 1), "the weights of an image add up to 1 in yours."),
    )


def log_weights_terms(log_joint, logvar, eps):
    log_joint, logvar, eps = (tensor.detach().numpy() for tensor in (log_joint, logvar, eps))
    width = logvar[:, None] + 0 * eps
    parts = {"logvar": width, "eps^2": eps**2, "eps": eps, "sigma": np.exp(width / 2), "sigma^2": np.exp(width),
             "sigma^2 eps^2": np.exp(width) * eps**2, "eps^2 / sigma^2": eps**2 / np.exp(width)}
    return {"log p(x, z)": log_joint, **{f"sum({name})": part.sum(2) for name, part in parts.items()},
            "Z": float(eps.shape[2]), "1": 1.0}


MINUEND = "which of two bounds is the higher one? A gap is what the lower one misses."


def split_gap_model(choose, log_p, best, encoder):
    whole, family, network = log_p - encoder, log_p - best, best - encoder
    found = []
    for name, high, low, others in (
        ("approximation", log_p, best, {"down to the encoder": whole, "below the best q": network}),
        ("amortisation", best, encoder, {"down from log p(x)": whole, "above the best q": family}),
        ("whole", log_p, encoder, {"down to the best q only": family, "from the best q on": network}),
    ):
        found.append(choose(
            high - low,
            *advised(f"the {name} gap compares two other numbers. Which two?",
                     {f"the {name} gap {words}": other for words, other in others.items()}),
            (f"the {name} gap turned round", low - high, f"the {name} gap has the wrong sign: {MINUEND}"),
            (f"the size of the {name} gap", np.abs(high - low),
             f"the {name} gap is never negative in yours. Estimates may be: they stay as they are."),
            (f"the {name} gap cut off at 0", np.maximum(high - low, 0),
             f"the {name} gap is cut off at 0. Estimates may be negative: they stay as they are."),
            (f"the {name} gap as a ratio", high / low, f"the {name} gap is a difference in nats, not a ratio."),
            *advised(f"the {name} gap is a share in yours. Nats are asked for.", {
                f"the {name} gap as a share": (high - low) / whole,
                f"the {name} gap as a share of log p": (high - low) / log_p,
            }),
            (f"the {name} gap averaged", (high - low).mean(), f"the {name} gap has one number per image."),
            (f"the {name} gap summed up", (high - low).sum(), f"the {name} gap has one number per image."),
            (f"the {name} gap as a sum", high + low, f"you add two numbers for the {name} gap: {MINUEND}"),
        ))
    return choose(
        tuple(found),
        *advised("your gaps are rounded: small differences count here, image by image.", {
            f"rounded to {digits} digit{'s' * (digits > 1)}": tuple(np.round(gap, digits) for gap in found)
            for digits in (1, 2, 3)
        }),
        ("ratios of probabilities, less one", tuple(map(np.expm1, found)),
         "the bounds are logarithms, and so are their differences: nats are asked for."),
    )


def split_gap_terms(log_p, best, encoder):
    terms = {"log_p": log_p, "best_elbo": best, "encoder_elbo": encoder, "1": 1.0}
    return terms, terms, terms


# fmt: on
SMALL = (
    "a product of many small numbers is 0 in a float. Is something added, multiplied up, or shared by the posteriors?"
)
CLIMBED = [-200.0, -190.5, -210.0, -180.0]
FUNCTIONS = [
    Function(
        "best_diagonal",
        by_cholesky,
        covariances,
        best_diagonal_model,
        special=[
            Special("one posterior", equally_correlated(0.6, np.array([2.0, 0.5, 1.0])), AXIS),
            Special("one latent", {"covariance": np.array([[[2.0]], [[0.5]]])}, AXIS),
            Special(
                "latents that are not correlated",
                {"covariance": np.stack([np.diag([2.0, 0.5]), np.diag([0.3, 4.0])])},
                "the covariances may hold zeros, and the KL may be 0: do you divide by one, or take its log?",
            ),
            Special(
                "many narrow latents",
                equally_correlated(0.3, np.geomspace(1e-10, 1e-4, 120)),
                SMALL,
            ),
            Special(
                "a narrow posterior of many latents beside a wide one",
                {"covariance": np.stack([1e-8 * np.eye(60) + 1e-9, np.eye(60) + 0.3])},
                SMALL,
            ),
            Special(
                "very narrow posteriors",
                {"covariance": 1e-10 * np.array([[[2.0, 0.9], [0.9, 1.0]], [[1.0, -0.2], [-0.2, 3.0]]])},
                "is something added to the covariance, or cut off? A variance may be as small as it likes.",
            ),
            Special(
                "latents that are nearly the same",
                equally_correlated(0.9999, np.array([1.0, 1.0])),
                "strong correlations are allowed: is something added to the covariance, or cut off?",
            ),
        ],
        terms=best_diagonal_terms,
        probe="C is the covariance, L its inverse. Compare it with the text's KL where its slopes vanish.",
        outputs=("the log variances", "the KL"),
        shrink=False,
    ),
    Function(
        "log_evidence",
        sum_over_cells,
        grids,
        log_evidence_model,
        special=[
            *(
                Special(what, {"log_joint": table, "area": 0.01}, advice)
                for what, table, advice in (
                    (
                        "densities as large as exp(1000)",
                        TABLE + 1000,
                        "What is the largest number that your exp meets?",
                    ),
                    ("densities as small as exp(-1000)", TABLE - 1000, "What is left of them in a float?"),
                    (
                        "images whose densities lie far apart",
                        TABLE + np.array([1000.0, -1000.0])[:, None, None],
                        "Each image has densities of its own size. Does another one have a say in what it gets?",
                    ),
                    (
                        "cells whose densities lie far apart",
                        TABLE[:1] + 1000.0 * HIGH,
                        "Which is the largest number, and which the smallest, that your exp meets there?",
                    ),
                )
            ),
            Special("one image", {"log_joint": TABLE[:1], "area": 0.5}, AXIS),
            Special("a grid of one cell", {"log_joint": TABLE[:, :1, :1], "area": 0.5}, AXIS),
            Special(
                "very small cells", {"log_joint": TABLE, "area": 1e-12}, "is something added to the area, or rounded?"
            ),
            Special(
                "equal densities",
                {"log_joint": np.full((2, 3, 4), -7.0), "area": 0.5},
                "does each of some equal cells count?",
            ),
        ],
        terms=log_evidence_terms,
        probe="log sum is the log of the sum of exp(log_joint) over the cells. What does an area do to it?",
    ),
    Function(
        "log_weights",
        by_distributions,
        draws,
        log_weights_model,
        special=[
            Special("one image, one draw, one latent", tensors(log_joint=[[-3]], logvar=[[1]], eps=[[[0.5]]]), AXIS),
            Special(
                "a very wide and a very narrow q",
                tensors(
                    log_joint=[[-3.0, -4.0], [-2.0, -1.0]], logvar=[[12, 90], [-12, -90]], eps=[[[1, -2], [0.5, 1]]] * 2
                ),
                "logvar has no limits: is something cut off, added, or lost to rounding?",
            ),
            Special(
                "noise far out",
                tensors(log_joint=[[-3.0, -4.0]], logvar=[[0.5, -1.0]], eps=[[[9, -8], [40, 1]]]),
                "a normal distribution has no limits: a density may vanish in a float, its logarithm does not.",
            ),
            Special(
                "draws without noise",
                tensors(log_joint=[[-3.0, -4.0]], logvar=[[0.5, -1.0]], eps=[[[0, 0], [0, 0]]]),
                "the noise may be 0: do you divide by it, or take its log?",
            ),
            Special(
                "as many images as draws and latents",
                tensors(
                    log_joint=[[-3.0, -4.0], [-2.0, -1.0]],
                    logvar=[[1.0, -1.0], [0.3, 2.0]],
                    eps=[[[1, -2], [0.5, 1]], [[0.1, 2], [-1, 3]]],
                ),
                "which axis holds what? With sizes that differ it seems to be clear.",
            ),
            Special(
                "very improbable codes",
                tensors(log_joint=[[-3000.0, -4000.0]], logvar=[[0.5, -1.0]], eps=[[[1, -2], [0.5, 1]]]),
                "no float holds such a density: does it appear?",
            ),
        ],
        terms=log_weights_terms,
        probe="Compare it with log p(x, z) less the log of a Gaussian's density, latent by latent.",
        gradient=("log_joint", "logvar"),
        shrink=False,
    ),
    Function(
        "split_gap",
        lambda log_p, best, encoder: (
            np.subtract(log_p, best),
            np.subtract(best, encoder),
            np.subtract(log_p, encoder),
        ),
        bounds,
        split_gap_model,
        special=[
            Special(
                "noisy estimates, some above what they should be below",
                {
                    "log_p": np.array(CLIMBED),
                    "best_elbo": np.add(CLIMBED, [0.5, -1.0, 0.25, -2.0]),
                    "encoder_elbo": np.add(CLIMBED, [-1.0, -0.5, 0.5, -3.0]),
                },
                "a gap of noisy estimates may be negative. Is something cut off, exchanged, or made positive?",
            ),
            Special(
                "one image",
                {"log_p": np.array([-200.0]), "best_elbo": np.array([-201.0]), "encoder_elbo": np.array([-203.5])},
                AXIS,
            ),
            Special(
                "a best q that is the posterior",
                {"log_p": np.array(CLIMBED), "best_elbo": np.array(CLIMBED), "encoder_elbo": np.array(CLIMBED) - 2},
                "a gap may be 0: do you divide by one?",
            ),
        ],
        terms=split_gap_terms,
        probe="Each gap is a difference of two of the three.",
        outputs=("the approximation gap", "the amortisation gap", "the whole gap"),
    ),
]
