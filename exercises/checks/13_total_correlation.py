"""Checks of exercise 13. The references are torch.distributions, loops and beta_tcvae.py, not the solutions."""

import math

import numpy as np
import torch
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal

from beta_tcvae import stratified_log_weights
from checking import Function, Misconception
from vae_paper import log_normal


def normal(rng, *shape):
    return torch.from_numpy(rng.standard_normal(shape))


# --- The exact total correlation -------------------------------------------------------------------------------------


def codes_and_posteriors(rng, latents=None):
    b, n, z = rng.integers(2, 5), rng.integers(6, 10), latents or rng.integers(2, 5)
    return {"z": normal(rng, b, z), "all_mu": normal(rng, n, z), "all_logvar": normal(rng, n, z)}


def narrow_posteriors():
    n = torch.arange(12, dtype=torch.float64)
    return {
        "z": torch.tensor([[3.0, 4.0], [-2.0, 5.0]], dtype=torch.float64),
        "all_mu": torch.sin(n).reshape(6, 2),
        "all_logvar": -9 + torch.cos(n).reshape(6, 2),
    }


def mixture_total_correlation(z, all_mu, all_logvar):
    every = Categorical(logits=torch.zeros_like(all_mu[:, 0]))
    sigma = torch.exp(all_logvar / 2)
    log_q_z = MixtureSameFamily(every, Independent(Normal(all_mu, sigma), 1)).log_prob(z)
    for d in range(z.shape[1]):
        log_q_z = log_q_z - MixtureSameFamily(every, Normal(all_mu[:, d], sigma[:, d])).log_prob(z[:, d])
    return log_q_z.mean()


def pairwise(z, all_mu, all_logvar):
    return log_normal(z.unsqueeze(1), all_mu, all_logvar)  # (B, N, Z)


def per_code(log_q, dim=1, joint_n=None, latent_n=None):
    """log q(z) - sum_d log q(z_d), with what may go wrong as arguments."""
    n = log_q.shape[1]
    joint = log_q.sum(2).logsumexp(dim) - math.log(joint_n or n)
    return joint - (log_q.logsumexp(dim) - math.log(latent_n or n)).sum(1)


def one_log_n(z, all_mu, all_logvar):
    log_q = pairwise(z, all_mu, all_logvar)
    return per_code(log_q, joint_n=1, latent_n=1).mean()


def latents_averaged(z, all_mu, all_logvar):
    log_q = pairwise(z, all_mu, all_logvar)
    log_n = math.log(len(all_mu))
    return (log_q.sum(2).logsumexp(1) - log_n - (log_q.logsumexp(1) - log_n).mean(1)).mean()


def mean_of_logs(z, all_mu, all_logvar):
    log_q = pairwise(z, all_mu, all_logvar)
    return (log_q.sum(2).logsumexp(1) - math.log(len(all_mu)) - log_q.mean(1).sum(1)).mean()


def vanishing(z, all_mu, all_logvar):
    q = pairwise(z, all_mu, all_logvar).exp()
    return (q.prod(2).mean(1).log() - q.mean(1).log().sum(1)).mean()


EXACT = Function(
    "exact_total_correlation",
    mixture_total_correlation,
    codes_and_posteriors,
    [
        Misconception(
            "the sign",
            lambda z, all_mu, all_logvar: -per_code(pairwise(z, all_mu, all_logvar)).mean(),
            "this is minus the total correlation. Which of the two densities did the codes come from?",
        ),
        Misconception(
            "log N left out",
            one_log_n,
            "q(z) and each q(z_d) are means over the N images, and you add up densities without dividing.",
        ),
        Misconception(
            "divided by the batch",
            lambda z, all_mu, all_logvar: per_code(
                pairwise(z, all_mu, all_logvar), joint_n=len(z), latent_n=len(z)
            ).mean(),
            "you divide by the number of codes. Over what is q(z) a mean?",
        ),
        Misconception(
            "the wrong axis",
            lambda z, all_mu, all_logvar: per_code(pairwise(z, all_mu, all_logvar), dim=0, joint_n=len(all_mu)).mean(),
            "you add up the densities of different codes under one image. One code is judged by all the images.",
        ),
        Misconception(
            "the mean of the logs",
            mean_of_logs,
            "each q(z_d) is a mean of densities, and your log is inside that mean.",
        ),
        Misconception(
            "mean over the latents",
            latents_averaged,
            "the product of the q(z_d) has a log that is a sum over the latents; you take their mean.",
        ),
        Misconception(
            "logvar taken for log sigma",
            lambda z, all_mu, all_logvar: per_code(pairwise(z, all_mu, 2 * all_logvar)).mean(),
            "your posteriors have the wrong spread: all_logvar is the log of sigma squared.",
        ),
        Misconception(
            "summed over the codes",
            lambda z, all_mu, all_logvar: per_code(pairwise(z, all_mu, all_logvar)).sum(),
            "the result grows with the number of codes. A KL is a mean over them.",
        ),
        Misconception(
            "one number per code",
            lambda z, all_mu, all_logvar: per_code(pairwise(z, all_mu, all_logvar)),
            "there is still one number for each code. The total correlation belongs to all of them together.",
        ),
        Misconception(
            "densities that vanish",
            vanishing,
            "it is right until a density is too small for a float, and then its log is gone. Do not leave the logs.",
        ),
    ],
    special=[
        ("a single latent, which has nothing to depend on", codes_and_posteriors(np.random.default_rng(0), latents=1)),
        ("narrow posteriors far from the codes", narrow_posteriors()),
    ],
    gradient=True,
)


# --- Codes from the product of the marginals -------------------------------------------------------------------------


def codes_and_keys(rng):
    n, z = rng.integers(4, 9), rng.integers(2, 5)
    return {"z": normal(rng, n, z), "keys": torch.from_numpy(rng.random((n, z)))}


def permuted_one_by_one(z, keys):
    permuted = z.clone()
    for d in range(z.shape[1]):
        for place, n in enumerate(sorted(range(len(z)), key=lambda n: keys[n, d].item())):
            permuted[place, d] = z[n, d]
    return permuted


PERMUTE = Function(
    "permute_dims",
    permuted_one_by_one,
    codes_and_keys,
    [
        Misconception(
            "one permutation for all latents",
            lambda z, keys: z[keys[:, 0].argsort()],
            "whole codes have changed places, so each latent still stands beside its old neighbours.",
        ),
        Misconception(
            "permuted within the code",
            lambda z, keys: z.gather(1, keys.argsort(dim=1)),
            "values moved from one latent to another. Each latent keeps its own values; which axis holds the images?",
        ),
        Misconception(
            "ranks for the order",
            lambda z, keys: z.gather(0, keys.argsort(dim=0).argsort(dim=0)),
            "this is the inverse permutation: you ask where a row goes, the question is which row comes here.",
        ),
        Misconception(
            "from the largest key",
            lambda z, keys: z.gather(0, keys.argsort(dim=0, descending=True)),
            "you go through the keys backwards: the smallest one comes first.",
        ),
        Misconception(
            "the keys themselves",
            lambda z, keys: keys.sort(dim=0).values,
            "you return keys. They only say the order; the values are those of z.",
        ),
        Misconception(
            "the codes sorted",
            lambda z, keys: z.sort(dim=0).values,
            "each latent comes out in order of size, which ties the latents together more than ever.",
        ),
        Misconception(
            "rows without a column",
            lambda z, keys: z[keys.argsort(dim=0)],
            "an index with two axes picks a whole row for each of its entries, so a third axis appears.",
        ),
    ],
)


# --- The test of a weight matrix -------------------------------------------------------------------------------------


def right_matrix(batch_size, dataset_size):
    return stratified_log_weights(batch_size, dataset_size).exp()


def equal_shares(batch_size, dataset_size):
    share = (dataset_size - 1) / (dataset_size * (batch_size - 1))
    weights = torch.full((batch_size, batch_size), share, dtype=torch.float64)
    return weights.fill_diagonal_(1 / dataset_size)


def column_for_diagonal(batch_size, dataset_size):
    others = batch_size - 1
    rest = (dataset_size - others) / (dataset_size * others)
    weights = torch.full((batch_size, batch_size), 1 / others, dtype=torch.float64)
    weights[:, 0] = 1 / dataset_size
    weights[:, 1] = rest
    weights[others - 1, 0] = rest
    return weights


def no_remainder(batch_size, dataset_size):
    weights = torch.full((batch_size, batch_size), 1 / (batch_size - 1), dtype=torch.float64)
    return weights.fill_diagonal_(1 / dataset_size)


def changed(weights, *changes):
    """A copy with something added here and there: changes are (row, column, what to add)."""
    weights = weights.clone()
    for row, column, more in changes:
        weights[row, column] += more
    return weights


def matrices(rng):
    """A right matrix, or one with a mistake in it."""
    batch_size, dataset_size = int(rng.integers(4, 8)), int(rng.integers(10, 60))
    right = right_matrix(batch_size, dataset_size)
    row = int(rng.integers(batch_size))
    weights = [
        right,
        equal_shares(batch_size, dataset_size),
        right.roll(1, dims=1),  # the rows still sum to one
        changed(right, (row, row - 1, 0.2)),  # the diagonal is still right
    ][rng.integers(4)]
    return {"weights": weights, "dataset_size": dataset_size}


def is_close(a, b):
    return math.isclose(a, b, rel_tol=1e-5)


def right_row_by_row(weights, dataset_size):
    for i, row in enumerate(weights.tolist()):
        if not is_close(row[i], 1 / dataset_size) or not is_close(sum(row), 1):
            return False
    return True


def parts(weights, dataset_size, axis=1):
    """Which own weights are right, and which sums: two lists of booleans."""
    own = [is_close(value, 1 / dataset_size) for value in weights.diagonal().tolist()]
    return own, [is_close(value, 1) for value in weights.sum(axis).tolist()]


def first_row_only(weights, dataset_size):
    own, sums = parts(weights, dataset_size)
    return own[0] and sums[0]


def some_row(weights, dataset_size):
    return any(a and b for a, b in zip(*parts(weights, dataset_size), strict=True))


def total_only(weights, dataset_size):
    return all(parts(weights, dataset_size)[0]) and is_close(weights.sum().item(), len(weights))


def exactly_equal(weights, dataset_size):
    return bool((weights.diagonal() == 1 / dataset_size).all() and (weights.sum(1) == 1).all())


def one_arrangement(weights, dataset_size):
    return torch.allclose(weights, right_matrix(len(weights), dataset_size).to(weights))


def loose(weights, dataset_size):
    ones = torch.ones_like(weights[0])
    return torch.allclose(weights.diagonal(), ones / dataset_size, atol=1e-3) and torch.allclose(weights.sum(1), ones)


RIGHT = right_matrix(5, 50)

WEIGHTS_TEST = Function(
    "weights_are_right",
    right_row_by_row,
    matrices,
    [
        Misconception(
            "only the sums",
            lambda weights, dataset_size: all(parts(weights, dataset_size)[1]),
            "a matrix whose rows sum to one passes, even where the own image has the weight of another.",
        ),
        Misconception(
            "only the diagonal",
            lambda weights, dataset_size: all(parts(weights, dataset_size)[0]),
            "the own weights are tested, but the others may add up to anything.",
        ),
        Misconception(
            "columns for rows",
            lambda weights, dataset_size: all(map(all, parts(weights, dataset_size, axis=0))),
            "you add up columns. The weights of one code stand in a row, and the columns may sum to anything.",
        ),
        Misconception(
            "one sum for all",
            total_only,
            "a row that is too heavy passes if another is too light by the same amount: test each row.",
        ),
        Misconception(
            "the first row only",
            first_row_only,
            "only the first row is tested, and a bug may well begin in the second.",
        ),
        Misconception(
            "any row",
            some_row,
            "one right row is enough for your test. How many must be right?",
        ),
        Misconception(
            "1 / B on the diagonal",
            lambda weights, dataset_size: (
                parts(weights, len(weights))[0] == parts(weights, len(weights))[1] == [True] * len(weights)
            ),
            "the own image counts as one of the batch in your test. Of how many images is it one?",
        ),
        Misconception(
            "equal to the last bit",
            exactly_equal,
            "a right matrix fails because of rounding: floats that were computed are never compared with ==.",
        ),
        Misconception(
            "one arrangement only",
            one_arrangement,
            "you ask for one certain matrix. Another one that shares out the rest differently is as free of bias.",
        ),
        Misconception(
            "looser than the weights",
            loose,
            "for a large data set 1/N is smaller than your tolerance, so that zero passes for it.",
        ),
        Misconception(
            "a tensor for an answer",
            lambda weights, dataset_size: torch.tensor(right_row_by_row(weights, dataset_size)),
            "the answer is right, but it is a tensor; `bool` or `.item()` makes a True or False of it.",
        ),
        Misconception(
            "always content",
            lambda weights, dataset_size: True,
            "it accepts every matrix. A test that cannot fail tests nothing.",
        ),
    ],
    special=[
        (what, {"weights": weights, "dataset_size": dataset_size})
        for what, weights, dataset_size in [
            ("a right matrix with rounding errors", RIGHT * (1 + 1e-12), 50),
            ("a right matrix that gives equal shares to the others", equal_shares(5, 50), 50),
            (
                "a right matrix whose columns do not sum to one",
                changed(RIGHT, (0, 2, -0.1), (0, 3, 0.1)),
                50,
            ),
            ("a matrix with the own weights in a column", column_for_diagonal(5, 50), 50),
            ("a matrix with the own weights beside the diagonal", RIGHT.roll(1, dims=1), 50),
            ("a matrix whose rows sum to 1 + 1/N", no_remainder(5, 50), 50),
            ("a matrix with one heavy row and one light row", changed(RIGHT, (1, 3, 0.1), (2, 4, -0.1)), 50),
            ("a matrix with a wrong first row", changed(RIGHT, (0, 3, 0.1)), 50),
            ("the weights 1 / B", torch.full((5, 5), 0.2, dtype=torch.float64), 50),
            ("the weights 1 / (N B)", torch.full((5, 5), 1 / 250, dtype=torch.float64), 50),
            ("a large data set", equal_shares(5, 10_000).fill_diagonal_(0.0) * 10_000 / 9_999, 10_000),
        ]
    ],
)


# --- The weights -----------------------------------------------------------------------------------------------------


def batch_and_dataset(rng):
    batch_size = int(rng.integers(3, 9))
    return {"batch_size": batch_size, "dataset_size": batch_size + int(rng.integers(2, 50))}


def weights_one_by_one(batch_size, dataset_size):
    rows = []
    for own in range(batch_size):
        row = [1 / (batch_size - 1)] * batch_size
        row[own] = 1 / dataset_size
        after = own + 1 if own + 1 < batch_size else 0
        row[after] = 1 - sum(row[:after]) - sum(row[after + 1 :])
        rows.append(row)
    return torch.tensor(rows, dtype=torch.float64)


def uniform(value):
    return lambda batch_size, dataset_size: torch.full(
        (batch_size, batch_size), value(batch_size, dataset_size), dtype=torch.float64
    )


def own_and_rest_swapped(batch_size, dataset_size):
    return right_matrix(batch_size, dataset_size).roll(-1, dims=1)


def no_way_round(batch_size, dataset_size):
    weights = right_matrix(batch_size, dataset_size)
    weights[-1, 0] = 1 / (batch_size - 1)
    return weights


def batch_for_others(batch_size, dataset_size):
    weights = torch.full((batch_size, batch_size), 1 / batch_size, dtype=torch.float64)
    row = torch.arange(batch_size)
    weights[row, row] = 1 / dataset_size
    weights[row, (row + 1) % batch_size] = (dataset_size - batch_size) / (dataset_size * batch_size)
    return weights


WEIGHTS = Function(
    "stratified_weights",
    weights_one_by_one,
    batch_and_dataset,
    [
        Misconception(
            "a column for a diagonal",
            column_for_diagonal,
            "this is the bug of the text: feed it to your test and look at the matrix.",
        ),
        Misconception(
            "M = B",
            batch_for_others,
            "you count the own image among the others.",
        ),
        Misconception(
            "no remainder",
            no_remainder,
            "every other image weighs the same, and the rows sum to more than one.",
        ),
        Misconception(
            "equal shares",
            equal_shares,
            "this has no bias either, but the paper shares out the rest otherwise: one image of each row is different.",
        ),
        Misconception(
            "weighted sampling",
            uniform(lambda batch_size, dataset_size: 1 / (dataset_size * batch_size)),
            "these are the weights of minibatch weighted sampling, and their rows do not sum to one.",
        ),
        Misconception(
            "the mean of the batch",
            uniform(lambda batch_size, dataset_size: 1 / batch_size),
            "you treat the batch as if it were the data set. The own image is there for sure, the others by chance.",
        ),
        Misconception(
            "own and remainder swapped",
            lambda batch_size, dataset_size: own_and_rest_swapped(batch_size, dataset_size),
            "the remainder lies on the diagonal, and 1/N beside it. Which of the two belongs to the own image?",
        ),
        Misconception(
            "the image before",
            lambda batch_size, dataset_size: right_matrix(batch_size, dataset_size).T.contiguous(),
            "the remainder belongs to the image after the own one. Which index is the row?",
        ),
        Misconception(
            "no way round",
            no_way_round,
            "all rows are right but the last: which image comes after the last one?",
        ),
        Misconception(
            "logs",
            lambda batch_size, dataset_size: stratified_log_weights(batch_size, dataset_size),
            "these are the logs of the weights.",
        ),
        Misconception(
            "single precision",
            lambda batch_size, dataset_size: right_matrix(batch_size, dataset_size).float(),
            "the values are right, but float32; ask for float64 where the matrix is made.",
        ),
    ],
    special=[
        ("a batch of two", {"batch_size": 2, "dataset_size": 9}),
        ("a batch that is the whole data set", {"batch_size": 4, "dataset_size": 4}),
    ],
)


FUNCTIONS = [EXACT, PERMUTE, WEIGHTS_TEST, WEIGHTS]
