"""Checks of exercise 8. The references are explicit loops and scipy, not the solutions."""

import numpy as np
from scipy.stats import pearsonr, spearmanr

from checking import Function, Misconception

# --- The loss --------------------------------------------------------------------------------------------------------


def terms(rng):
    n, z = rng.integers(2, 6), rng.integers(2, 5)
    return {
        "reconstruction_nll": rng.uniform(1, 9, n),
        "kl_per_latent": rng.uniform(0, 3, (n, z)),
        "beta": float(rng.uniform(2, 6)),
    }


def loss_by_loop(reconstruction_nll, kl_per_latent, beta):
    loss = reconstruction_nll.copy()
    for n, latents in enumerate(kl_per_latent):
        for kl in latents:
            loss[n] += beta * kl
    return loss


# --- The front -------------------------------------------------------------------------------------------------------


def models(rng):
    """Whole numbers, so that ties are common; the last model equals the first, which nothing beats."""
    m = rng.integers(4, 8)
    rate, distortion = (rng.integers(1, 5, m).astype(float) for _ in range(2))
    rate[0], distortion[0] = 0.0, 6.0
    return {"rate": np.append(rate, rate[0]), "distortion": np.append(distortion, distortion[0])}


def front_by_loop(rate, distortion):
    pairs = list(zip(rate, distortion, strict=True))
    return np.array([not any(r <= a and d <= b and (r, d) != (a, b) for r, d in pairs) for a, b in pairs])


def beaten(rate, distortion, test):
    """Which models are beaten, if `test` says whether (r, d) beats (a, b)."""
    return test(rate, distortion, rate[:, None], distortion[:, None])


def a_tie_beats(rate, distortion):
    others = ~np.eye(len(rate), dtype=bool)
    return ~(beaten(rate, distortion, lambda r, d, a, b: (r <= a) & (d <= b)) & others).any(1)


# --- The correlations ------------------------------------------------------------------------------------------------


def codes_and_factors(rng):
    n, z, f = rng.integers(12, 20), rng.integers(2, 5), rng.integers(2, 5)
    factors = rng.standard_normal((n, f)) * rng.uniform(1, 4, f) + rng.uniform(1, 5, f)
    mu = factors @ rng.standard_normal((f, z)) + rng.standard_normal((n, z))
    return {"mu": mu, "factors": factors}


def correlations_by_pairs(mu, factors, correlate=pearsonr):
    pairs = [[abs(correlate(code, factor)[0]) for factor in factors.T] for code in mu.T]
    return np.array(pairs, dtype=mu.dtype)


def correlation_matrix(mu, factors):
    return np.corrcoef(np.concatenate([mu, factors], axis=1).T)


def standardised(array, ddof=0):
    return (array - array.mean(0)) / array.std(0, ddof=ddof)


def cosines(mu, factors):
    return abs((mu / np.linalg.norm(mu, axis=0)).T @ (factors / np.linalg.norm(factors, axis=0)))


def covariances(mu, factors):
    return abs((mu - mu.mean(0)).T @ (factors - factors.mean(0))) / len(mu)


# --- The traversal ---------------------------------------------------------------------------------------------------


def code_and_values(rng):
    z = rng.integers(2, 6)
    return {
        "mu": rng.standard_normal(z),
        "latent": int(rng.integers(z)),
        "values": rng.standard_normal(rng.integers(3, 8)),
    }


def codes_by_loop(mu, latent, values):
    return np.array([[value if d == latent else mu[d] for d in range(len(mu))] for value in values], dtype=mu.dtype)


def moved(mu, latent, values, new):
    codes = np.tile(mu, (len(values), 1))
    codes[:, latent] = new
    return codes


FUNCTIONS = [
    Function(
        "beta_loss",
        loss_by_loop,
        terms,
        [
            Misconception(
                "beta on the wrong term",
                lambda reconstruction_nll, kl_per_latent, beta: beta * reconstruction_nll + kl_per_latent.sum(1),
                "a larger beta now asks for better images. Which of the two terms should become dearer?",
            ),
            Misconception(
                "beta on both terms",
                lambda reconstruction_nll, kl_per_latent, beta: beta * (reconstruction_nll + kl_per_latent.sum(1)),
                "a factor in front of the whole loss changes no minimum. What does beta weigh?",
            ),
            Misconception(
                "divided by beta",
                lambda reconstruction_nll, kl_per_latent, beta: reconstruction_nll + kl_per_latent.sum(1) / beta,
                "here a larger beta makes the code cheaper. It is the price of a nat of rate.",
            ),
            Misconception(
                "a reward for the rate",
                lambda reconstruction_nll, kl_per_latent, beta: reconstruction_nll - beta * kl_per_latent.sum(1),
                "this loss falls as the KL grows. The ELBO has a minus there, but this is what you minimise.",
            ),
            Misconception(
                "the objective to maximise",
                lambda reconstruction_nll, kl_per_latent, beta: -reconstruction_nll - beta * kl_per_latent.sum(1),
                "every value has the wrong sign: a loss is what you minimise, and both terms are costs.",
            ),
            Misconception(
                "weights that add up to one",
                lambda reconstruction_nll, kl_per_latent, beta: (
                    (1 - beta) * reconstruction_nll + beta * kl_per_latent.sum(1)
                ),
                "you mix the two terms. Beta is a price and may be above one; the first term keeps its weight.",
            ),
            Misconception(
                "mean over the latents",
                lambda reconstruction_nll, kl_per_latent, beta: reconstruction_nll + beta * kl_per_latent.mean(1),
                "you average the KL over the latents, so the price of a nat depends on how many latents there are.",
            ),
            Misconception(
                "latents kept apart",
                lambda reconstruction_nll, kl_per_latent, beta: reconstruction_nll[:, None] + beta * kl_per_latent,
                "the reconstruction is now counted once for each latent. One number per image should be left.",
            ),
            Misconception(
                "averaged over the batch",
                lambda reconstruction_nll, kl_per_latent, beta: (
                    reconstruction_nll + beta * kl_per_latent.sum(1)
                ).mean(),
                "one number comes out for the whole batch. Keep the images apart.",
            ),
            Misconception(
                "beta left out",
                lambda reconstruction_nll, kl_per_latent, beta: reconstruction_nll + kl_per_latent.sum(1),
                "this is minus the ELBO, whatever beta is.",
            ),
        ],
    ),
    Function(
        "rate_distortion_front",
        front_by_loop,
        models,
        [
            Misconception(
                "the beaten ones",
                lambda rate, distortion: ~front_by_loop(rate, distortion),
                "you mark the models that some other beats. Mark those that none does.",
            ),
            Misconception(
                "a model that beats itself",
                lambda rate, distortion: ~beaten(rate, distortion, lambda r, d, a, b: (r <= a) & (d <= b)).any(1),
                "nothing is left on the front: each model is no worse than itself. What else must beating ask for?",
            ),
            Misconception(
                "better in both only",
                lambda rate, distortion: ~beaten(rate, distortion, lambda r, d, a, b: (r < a) & (d < b)).any(1),
                "two models may have the same rate and differ in distortion. Is the worse one still on your front?",
            ),
            Misconception(
                "better in one is enough",
                lambda rate, distortion: ~beaten(rate, distortion, lambda r, d, a, b: (r < a) | (d < b)).any(1),
                "you drop every model that some other undercuts in one of the two. Who pays for it in the other?",
            ),
            Misconception(
                "equal models beat each other",
                a_tie_beats,
                "two models with the same two numbers knock each other out. Neither is better than the other.",
            ),
            Misconception(
                "the lowest sum",
                lambda rate, distortion: rate + distortion == (rate + distortion).min(),
                "this finds the best loss for beta = 1 only. The front is about every beta at once.",
            ),
            Misconception(
                "more is better",
                lambda rate, distortion: front_by_loop(-rate, -distortion),
                "you look for the largest numbers. Rate and distortion are both costs.",
            ),
            Misconception(
                "distortion taken for quality",
                lambda rate, distortion: front_by_loop(rate, -distortion),
                "you treat a high distortion as good. It is what the image still costs once the code is known.",
            ),
            Misconception(
                "positions instead of booleans",
                lambda rate, distortion: np.flatnonzero(front_by_loop(rate, distortion)),
                "you return the positions of the models. Return one True or False for each.",
            ),
        ],
        special=[
            (
                "models with the same rate",
                {"rate": np.array([2.0, 2.0, 1.0, 3.0]), "distortion": np.array([5.0, 4.0, 7.0, 4.0])},
            ),
            ("a model that beats all others", {"rate": np.array([3.0, 1.0]), "distortion": np.array([5.0, 2.0])}),
        ],
    ),
    Function(
        "factor_correlations",
        correlations_by_pairs,
        codes_and_factors,
        [
            Misconception(
                "signed",
                lambda mu, factors: correlation_matrix(mu, factors)[: mu.shape[1], mu.shape[1] :],
                "some of your values are negative. Whether a latent grows or falls with a factor is chance.",
            ),
            Misconception(
                "squared",
                lambda mu, factors: correlation_matrix(mu, factors)[: mu.shape[1], mu.shape[1] :] ** 2,
                "your values are the squares of the right ones, the share of variance explained.",
            ),
            Misconception(
                "covariance",
                covariances,
                "your values change with the units of the factors. A correlation has none: what is missing?",
            ),
            Misconception(
                "not centred",
                cosines,
                "this is the cosine of the angle between columns. A correlation does not change if you add a constant.",
            ),
            Misconception(
                "factors in the rows",
                lambda mu, factors: correlations_by_pairs(mu, factors).T,
                "your table is transposed: latents go down, factors go across.",
            ),
            Misconception(
                "latents with latents",
                lambda mu, factors: abs(correlation_matrix(mu, factors)[: mu.shape[1], : mu.shape[1]]),
                "you compare the latents with each other, so the diagonal is one. Take another block of the matrix.",
            ),
            Misconception(
                "the whole matrix",
                lambda mu, factors: abs(correlation_matrix(mu, factors)),
                "the matrix holds latents and factors against both. Only one of its blocks was asked for.",
            ),
            Misconception(
                "ranks",
                lambda mu, factors: correlations_by_pairs(mu, factors, spearmanr),
                "this is the correlation of the ranks (Spearman). Pearson's takes the values as they are.",
            ),
            Misconception(
                "N in one place, N - 1 in the other",
                lambda mu, factors: abs(standardised(mu).T @ standardised(factors)) / (len(mu) - 1),
                "your values are a little too large for small N. Do the covariance and the spread divide by the same?",
            ),
            Misconception(
                "summed over the images",
                lambda mu, factors: abs(standardised(mu).T @ standardised(factors)),
                "your values grow with the number of images. A correlation is at most one.",
            ),
        ],
    ),
    Function(
        "traversal_codes",
        codes_by_loop,
        code_and_values,
        [
            Misconception(
                "added instead of set",
                lambda mu, latent, values: moved(mu, latent, values, mu[latent] + values),
                "you move the latent by the values. Set it to them, so that all images share one scale.",
            ),
            Misconception(
                "multiplied",
                lambda mu, latent, values: moved(mu, latent, values, mu[latent] * values),
                "you scale the latent by the values: where it is zero, nothing would move.",
            ),
            Misconception(
                "the others at zero",
                lambda mu, latent, values: moved(np.zeros_like(mu), latent, values, values),
                "the other latents lost their place, so this is no longer the image you started from.",
            ),
            Misconception(
                "all latents at once",
                lambda mu, latent, values: np.repeat(values[:, None], len(mu), axis=1),
                "every latent takes the value. Then the picture does not tell you which of them did what.",
            ),
            Misconception(
                "the last value everywhere",
                lambda mu, latent, values: moved(mu, latent, values, values[-1]),
                "all rows are the same: they share one array, which is changed again and again. Copy it for each.",
            ),
            Misconception(
                "the neighbouring latent",
                lambda mu, latent, values: moved(mu, latent - 1, values, values),
                "another latent moves: they are counted from zero.",
            ),
            Misconception(
                "codes in the columns",
                lambda mu, latent, values: codes_by_loop(mu, latent, values).T,
                "your result is transposed: one code per row.",
            ),
            Misconception(
                "nothing moves",
                lambda mu, latent, values: np.tile(mu, (len(values), 1)),
                "all the codes are still the one you started from.",
            ),
        ],
    ),
]
