"""Checks of exercise 0. The references are loops and torch.distributions, not the solutions."""

import numpy as np
import torch
from torch.distributions import Categorical, MixtureSameFamily, Normal

from checking import Function, Special
from mistakes import Choose, advised

# --- Inputs ----------------------------------------------------------------------------------------------------------


def shells(rng):
    n, k = rng.integers(4, 8), rng.integers(2, 4)
    return {
        "x": 2 * rng.standard_normal(n),
        "weights": rng.dirichlet(np.full(k, 3.0)),
        "means": 2 * rng.standard_normal(k),
        "stds": rng.uniform(0.6, 1.8, k),
    }


def shells_and_guesses(rng):
    case = shells(rng)
    q = rng.dirichlet(np.ones(len(case["means"])), len(case["x"]))
    return {"x": case["x"], "q": q} | {name: case[name] for name in ("weights", "means", "stds")}


TWO = {"weights": np.array([0.3, 0.7]), "means": np.array([0.0, 4.0]), "stds": np.array([1.0, 2.0])}
FAR = Special(
    "a shell so far out that every density is too small for a float",
    {"x": np.array([120.0, 0.0, -150.0])} | TWO,
    "densities vanish there, their logarithms do not. How far do you get with logarithms?",
)
THREE = {"weights": np.array([0.3, 0.5, 0.2]), "means": np.array([4.0, 0.0, 1.0]), "stds": np.array([1.0, 2.0, 0.5])}
ALONE = {"weights": np.ones(1), "means": np.array([1.0]), "stds": np.array([2.0])}

# --- References ------------------------------------------------------------------------------------------------------


def posterior(x, weights, means, stds):
    """Bayes in log space, shell by shell."""
    rows = []
    for value in np.float64(x):
        log_joint = [
            np.log(w) - np.log(s) - 0.5 * ((value - m) / s) ** 2 for w, m, s in zip(weights, means, stds, strict=True)
        ]
        shares = np.exp(np.array(log_joint, dtype=np.float64) - max(log_joint))
        rows.append(shares / shares.sum())
    return np.array(rows)


def evidence_less_gap(x, q, weights, means, stds):
    """log p(x) - KL(q || posterior), both from torch.distributions."""
    x, q, weights, means, stds = (torch.as_tensor(np.float64(each)) for each in (x, q, weights, means, stds))
    kinds = Categorical(probs=weights)
    log_evidence = MixtureSameFamily(kinds, Normal(means, stds)).log_prob(x)
    log_posterior = kinds.logits + Normal(means, stds).log_prob(x[:, None]) - log_evidence[:, None]
    gap = torch.where(q > 0, q * (torch.log(q) - log_posterior), 0.0).sum(1)
    return (log_evidence - gap).numpy()


def expectation_maximisation(x, weights, means, stds):
    q = posterior(x, weights, means, stds)
    found = []
    for k in range(len(means)):
        mean = np.average(x, weights=q[:, k])
        found.append((q[:, k].mean(), mean, np.sqrt(np.average((x - mean) ** 2, weights=q[:, k]))))
    return tuple(np.array(values) for values in zip(*found, strict=True))


# --- What may be done instead ----------------------------------------------------------------------------------------

WIDTH = "how wide a kind is enters with the wrong power. What does stds hold?"


def log_density(choose, x, means, stds, constant=True):
    """log p(x|z = k), (N, K), and what may be wrong in it; a posterior knows nothing of the constant."""
    width = choose(stds, *advised(WIDTH, {"stds taken for variances": np.sqrt(stds), "the variance as width": stds**2}))
    distance = x[:, None] - means
    square = choose(
        0.5 * (distance / width) ** 2,
        ("the missing half in the exponent", (distance / width) ** 2, "the exponent of a Gaussian has a factor in it."),
        ("a distance not squared", np.abs(distance) / width, "a Gaussian falls with the square of the distance."),
        ("a distance not divided", 0.5 * distance**2, "the distance has to be measured in standard deviations."),
        ("divided by the width once", 0.5 * distance**2 / width,
         "the distance is squared: what is it divided by then?"),
    )  # fmt: skip
    height = choose(
        np.log(width),
        ("the height left out", 0 * width, "a wide Gaussian is a low one: a factor before the exponential is missing."),
        *advised(
            "the factor before the exponential has the wrong power.",
            {"the height twice": 2 * np.log(width), "half of the height": np.log(width) / 2},
        ),
        ("the sign of the height", -np.log(width), "is a wide Gaussian high or low?"),
    )
    if not constant:
        return -square - height
    return (
        -square
        - height
        - choose(
            0.5 * np.log(2 * np.pi),
            ("the constant left out", 0.0, "your density does not integrate to one: there is a constant in it."),
            ("the constant without its root", np.log(2 * np.pi), "your density does not integrate to one."),
        )
    )


def log_prior(choose, weights):
    return choose(
        np.log(weights),
        ("the weights left out", 0 * weights, "you treat all kinds as equally frequent. Where do the weights enter?"),
        ("the weights not as logarithms", weights, "you add a probability to logarithms."),
        ("the weights twice", 2 * np.log(weights), "the weights enter more than once."),
        ("the weights in another logarithm", np.log10(weights), "two logarithms of different bases do not add up."),
        ("the weights averaged over", np.log(weights) / len(weights), "each kind's weight enters as it is."),
    )


def share(log_joint, axis=1):
    shares = np.exp(log_joint - log_joint.max(axis, keepdims=True))
    return shares / shares.sum(axis, keepdims=True)


def posterior_model(choose, x, weights, means, stds):
    log_joint = log_density(choose, x, means, stds, constant=False) + log_prior(choose, weights)
    joint, k = np.exp(log_joint), len(means)
    neighbour = np.roll(log_joint, 1, 1)
    density = log_density(Choose(), x, means, stds, constant=False)
    order = np.argsort(means)
    return choose(
        share(log_joint),
        ("divided by the sum over the shells", share(log_joint, 0), "your columns add up to 1. The rows should."),
        ("densities that vanish", joint / joint.sum(1, keepdims=True), FAR.advice),
        ("a small number added", joint / (joint.sum(1, keepdims=True) + 1e-300), FAR.advice),
        ("one maximum for all shells", np.exp(log_joint - log_joint.max())
         / np.exp(log_joint - log_joint.max()).sum(1, keepdims=True), "every shell needs its own largest one."),
        ("another than the largest subtracted", np.exp(log_joint - log_joint.min(1, keepdims=True))
         / np.exp(log_joint - log_joint.min(1, keepdims=True)).sum(1, keepdims=True),
         "subtract what leaves nothing to overflow."),
        *advised("your rows do not add up to 1.", {
            "not divided": joint,
            "divided by the sum of everything": joint / joint.sum(),
            "divided by the largest": joint / joint.max(1, keepdims=True),
            "divided by the number of kinds": joint / k,
        }),
        ("the logarithm", np.log(share(log_joint)), "these are logarithms of the responsibilities."),
        ("the most likely kind alone", np.eye(k)[log_joint.argmax(1)], "you decide for one kind. How sure can one be?"),
        *advised("you divide logarithms. Undo them first.", {
            "logarithms divided": log_joint / log_joint.sum(1, keepdims=True),
            "densities' logarithms divided": density / density.sum(1, keepdims=True),
        }),
        ("the weights as factors of logarithms", share(weights * density), "a weight multiplies the density itself."),
        ("the weights last of all", weights * share(density), "your rows do not add up to 1: weigh before you divide."),
        ("only one rival", 1 / (1 + np.exp(neighbour - log_joint)), "a kind has to be compared with all the others."),
        ("the kinds in order of size", share(log_joint)[:, order], "kind k is the k-th of means, in the order given."),
        ("one maximum for each kind", np.exp(log_joint - log_joint.max(0))
         / np.exp(log_joint - log_joint.max(0)).sum(1, keepdims=True), "what is subtracted must be the same in a row."),
        ("the weights alone", weights + 0 * log_joint, "these are the weights, whatever the shell."),
    )  # fmt: skip


def elbo_model(choose, x, q, weights, means, stds):
    density, prior = log_density(choose, x, means, stds), log_prior(choose, weights)
    log_q = np.where(q > 0, np.log(np.where(q > 0, q, 1)), 0)
    energy = choose(
        q * (density + prior),
        ("q left out of the first mean", density + prior, "the mean is under q: how much does each kind count?"),
        ("no log p(x|z)", q * prior, "a term is missing: how well does each kind explain the shell?"),
        ("the posterior for q", share(density + prior) * (density + prior), "the mean is under the q that was given."),
        ("densities not as logarithms", q * np.exp(density + prior), "what is averaged are logarithms."),
    )
    entropy = choose(
        -q * log_q,
        ("no entropy", 0 * q, "this is the first mean alone. Where is - log q?"),
        ("the sign of log q", q * log_q, "log q enters with the wrong sign."),
        ("q left out of the second mean", -log_q, "the mean is under q for log q too."),
        ("0 times infinity", -q * np.log(q), "q log q is 0 where q is 0, but a float thinks otherwise."),
        *advised("a small number beside q changes the result. What is q log q where q is 0?", {
            f"{tiny:g} added to q": -q * np.log(q + tiny) for tiny in (1e-3, 1e-4, 1e-5, 1e-6)
        }),
        ("the entropy in bits", -q * log_q / np.log(2), "one of your two terms is in bits."),
        ("the entropy of all shells", np.broadcast_to((-q * log_q).sum(0), q.shape), "each shell has a q of its own."),
        ("the entropy of a coin", -(q * np.log(q) + (1 - q) * np.log(1 - q)) * (np.arange(len(weights)) == 0),
         "there may be more than two kinds."),
        ("the entropy of the weights", -q * np.log(weights), "- log q is the logarithm of q, not of the weights."),
    )  # fmt: skip
    bound = energy + entropy
    log_joint = density + prior
    top = log_joint.max(1)
    return choose(
        bound.sum(1),
        ("the log of the mean", np.log(np.exp(log_joint - top[:, None]).sum(1)) + top,
         "this is log p(x), whatever q is."),
        ("the sign of the bound", -bound.sum(1), "this is minus the bound: the loss."),
        ("the mean over the kinds", bound.mean(1), "q weighs the kinds already: sum over them."),
        ("summed over the shells", bound.sum(0), "one number per kind comes out. Keep the shells apart."),
        ("one number for all shells", bound.sum(), "keep the shells apart."),
        ("not summed", bound, "there is still one number per kind."),
        ("the gap", np.where(q > 0, q * (np.log(q) - np.log(share(log_joint))), 0).sum(1),
         "this is the gap between the bound and log p(x)."),
        ("the KL to the weights", np.where(q > 0, q * (np.log(q) - np.log(weights)), 0).sum(1),
         "this is the KL between q and the weights."),
        *advised("you take a KL the other way round: which distribution is the mean under?", {
            "the KL to the weights turned round": (q * density).sum(1) - (weights * np.log(weights / q)).sum(1),
            "the gap turned round": np.log(np.exp(log_joint - top[:, None]).sum(1)) + top
            - (share(log_joint) * np.log(share(log_joint) / q)).sum(1),
        }),
        *advised("the logarithm belongs inside the mean under q.", {
            "the mean inside the logarithm": np.log((q * np.exp(density)).sum(1))
            - np.where(q > 0, q * (np.log(q) - np.log(weights)), 0).sum(1),
        }),
        ("a divergence of what does not add up to 1", -np.where(q > 0, q * log_q - q * log_joint - q
         + np.exp(log_joint), 0).sum(1), "scipy's kl_div holds two more terms, which cancel for probabilities only."),
    )  # fmt: skip


def elbo_terms(x, q, weights, means, stds):
    distance = ((x[:, None] - means) / stds) ** 2
    parts = {
        "log pi": np.log(weights) + 0 * q,
        "log s": np.log(stds) + 0 * q,
        "((x - m) / s)^2": distance,
        "(x - m)^2": (x[:, None] - means) ** 2,
        "s": stds + 0 * q,
        "pi": weights + 0 * q,
    }
    terms = {f"E_q[{name}]": (q * part).sum(1) for name, part in parts.items()}
    terms |= {f"sum({name})": part.sum(1) for name, part in parts.items()}
    return terms | {
        "E_q[log q]": (q * np.log(q)).sum(1),
        "sum(log q)": np.log(q).sum(1),
        "E_q[q]": (q * q).sum(1),
        "1": 1.0,
    }


def weighted(q, values):
    return (q * values).sum(0) / q.sum(0)


def again(x, weights, means, stds):
    return share(np.log(weights) - np.log(stds) - 0.5 * ((x[:, None] - means) / stds) ** 2)


def step(x, weights, means, stds, hard=False):
    q = again(x, weights, means, stds)
    q = np.eye(len(means))[q.argmax(1)] if hard else q
    mean = weighted(q, x[:, None])
    return q.mean(0), mean, np.sqrt(weighted(q, (x[:, None] - mean) ** 2))


def em_model(choose, x, weights, means, stds):
    width = choose(stds, *advised(WIDTH, {"stds taken for variances": np.sqrt(stds), "the variance as width": stds**2}))
    prior = choose(
        np.log(weights),
        ("the weights left out", 0 * weights, "your E-step treats all kinds as equally frequent."),
    )
    log_joint = prior - np.log(width) - 0.5 * ((x[:, None] - means) / width) ** 2
    k = len(means)
    q = choose(
        share(log_joint),
        ("the height left out", share(log_joint + np.log(width)), "a wide Gaussian is a low one: look at your E-step."),
        *advised(
            "the rows of your q do not add up to 1.",
            ("responsibilities not divided", np.exp(log_joint)),
            ("responsibilities divided by their sum over the shells", share(log_joint, 0)),
        ),
    )  # fmt: skip
    hard = np.eye(k)[log_joint.argmax(1)]
    cut = np.where(q < 0.1, 0, q)
    cut = cut / cut.sum(1, keepdims=True)
    q = choose(
        q,
        *advised(
            "every shell counts as much as q says, however little that is.",
            {
                "small responsibilities cut off": cut,
                "very small responsibilities cut off": np.where(q < 0.01, 0, q),
            },
        ),
    )
    n = q.sum(0)
    mean = choose(
        x @ q / n,
        ("means divided by N", x @ q / len(x), "a mean is divided by the sum of its own weights."),
        ("the unweighted mean", np.full(k, x.mean()), "every shell counts the same for all kinds in your means."),
        ("the old means kept", means, "your means stay what they were."),
        ("means not divided", x @ q, "a weighted mean is divided by the sum of the weights."),
    )
    centre = choose(
        mean,
        ("the old means in the widths", means, "the widths are measured around means: around the old or the new ones?"),
        ("widths around zero", 0 * mean, "the widths are measured around zero."),
        ("widths around the mean of all", np.full(k, x.mean()), "each kind has a mean of its own."),
    )
    squares = (x[:, None] - centre) ** 2
    variance = choose(
        (q * squares).sum(0) / n,
        ("widths divided by N", (q * squares).sum(0) / len(x), "a mean is divided by the sum of its own weights."),
        ("widths divided by one less", (q * squares).sum(0) / (n - 1), "one less belongs to another estimate."),
        ("unweighted widths", squares.mean(0), "every shell counts the same for all kinds in your widths."),
        ("q squared", (q**2 * squares).sum(0) / n, "each shell counts as much as q says, not as q squared."),
        ("widths not divided", (q * squares).sum(0), "a mean is divided by the sum of the weights."),
        ("one width for all", np.full(k, (q * squares).sum() / len(x)), "each kind has a width of its own."),
        ("widths of hard decisions", (hard * squares).sum(0) / hard.sum(0), "a shell belongs to a kind as q says."),
        ("a second E-step before the widths", weighted(again(x, n / len(x), mean, width), squares),
         "one E-step, one M-step: the q in the widths is that of the means."),
    )  # fmt: skip
    new_weights = choose(
        n / len(x),
        ("weights not divided", n, "the weights should add up to 1."),
        ("weights divided by the kinds", n / k, "the weights should add up to 1: how many shells are there?"),
        ("the old weights kept", weights, "your weights stay what they were."),
        ("equal weights", np.full(k, 1 / k), "your kinds are equally frequent, whatever was seen."),
        ("weights of hard decisions", hard.mean(0), "a shell belongs to each kind as much as q says."),
        ("a shell too many in each kind", (n + 1) / (len(x) + k), "count what was seen, and no more."),
    )
    new_stds = choose(
        np.sqrt(variance),
        ("variances", variance, "the formula gives the square of what is asked for."),
        ("absolute deviations", (q * np.abs(x[:, None] - centre)).sum(0) / n, "what is averaged are squares."),
        ("the old widths kept", stds, "your widths stay what they were."),
    )
    found = (new_weights, mean, new_stds)
    order = np.argsort(mean)
    return choose(
        found,
        ("two steps in one", step(x, *step(x, weights, means, stds)), "you go further than one E-step and one M-step."),
        ("half of the way", tuple((a + b) / 2 for a, b in zip(found, (weights, means, stds), strict=True)),
         "you stop half way: the old values have no part in the new ones."),
        ("the kinds in order of size", tuple(each[order] for each in found), "the kinds keep their places."),
        ("hard decisions throughout", step(x, weights, means, stds, hard=True), "a shell belongs to kinds as q says."),
    )  # fmt: skip


FUNCTIONS = [
    Function(
        "responsibilities",
        posterior,
        shells,
        posterior_model,
        special=[
            FAR,
            Special("one shell", {"x": np.array([1.0])} | TWO, "is an axis lost where it has length 1?"),
            Special("a single shell, far out", {"x": np.array([120.0])} | TWO, FAR.advice),
            Special("one kind", {"x": np.array([1.0, 2.0])} | ALONE, "is an axis lost where it has length 1?"),
        ],
        shrink=False,
    ),
    Function(
        "elbo",
        evidence_less_gap,
        shells_and_guesses,
        elbo_model,
        special=[
            Special(
                "a q that rules a kind out",
                {"x": np.array([1.0, 3.0]), "q": np.array([[1.0, 0.0], [0.0, 1.0]])} | TWO,
                "what is q log q where q is 0, and what becomes of the other kinds?",
            ),
            Special(
                "a q that rules one of three kinds out",
                {"x": np.array([1.0, 3.0]), "q": np.array([[0.4, 0.0, 0.6], [0.0, 0.5, 0.5]])} | THREE,
                "what is q log q where q is 0, and what becomes of the other kinds?",
            ),
            Special(
                "shells so far out that every density is too small for a float",
                {"x": np.array([120.0, -150.0]), "q": np.array([[0.5, 0.5], [0.2, 0.8]])} | TWO,
                FAR.advice,
            ),
            Special(
                "one kind",
                {"x": np.array([1.0, 2.0]), "q": np.ones((2, 1))} | ALONE,
                "is an axis lost where it has length 1?",
            ),
        ],
        terms=elbo_terms,
        probe="E_q is the mean under q. Compare it with log p(x, z) - log q(z), term by term.",
        shrink=False,
    ),
    Function(
        "em_step",
        expectation_maximisation,
        shells,
        em_model,
        special=[
            Special(
                "a shell so far out that every density is too small for a float",
                {"x": np.array([120.0, 0.0, 3.0, 5.0])} | TWO,
                FAR.advice,
            ),
            Special("one kind", {"x": np.array([1.0, 2.0])} | ALONE, "is an axis lost where it has length 1?"),
            Special(
                "lengths in metres",
                {"x": 1e-5 * np.array([1.0, 2.0, 4.0, 5.0]), "weights": np.array([0.3, 0.7])}
                | {"means": np.array([1e-5, 5e-5]), "stds": np.array([1e-5, 2e-5])},
                "is something added, or cut off, that is small for one unit and large for another?",
            ),
        ],
        outputs=("the new weights", "the new means", "the new standard deviations"),
        shrink=False,
    ),
]
