"""Checks of exercise 18. The references are counts in dictionaries, scikit-learn, loops and einsum."""

import math
from collections import Counter

import numpy as np
import torch
from sklearn.metrics import mutual_info_score

from checking import Function, Special
from mistakes import advised

LENGTH_1 = "Is an axis lost where it has length 1, or does something divide by zero?"
MANY = "Is there a number in your code, such as one of bins, that the values exceed?"
MANY_LABELS = np.repeat(np.arange(30), np.arange(30) % 3 + 1)
NAMES = "Labels are names: does the size of one, or its sign, matter in your code?"

# --- Entropy ---------------------------------------------------------------------------------------------------------


def labels_of(rng):
    values = int(rng.integers(3, 7))
    often = rng.permutation(np.arange(1, values + 1)) + rng.integers(0, 3, values)
    return {"labels": rng.permutation(np.repeat(np.arange(values), often))}


def column(*labels):
    return {"labels": np.array(labels)}


def of(*columns):
    """The entropy of one column, the joint one of several."""
    n, counts = len(columns[0]), Counter(zip(*(each.tolist() for each in columns), strict=True)).values()
    return np.float64(math.fsum(count / n * math.log(n / count) for count in counts))


def entropy_model(choose, labels):
    values, counts = np.unique(labels, return_counts=True)
    n, k = len(labels), len(values)
    borders = np.flatnonzero(np.concatenate([[True], labels[1:] != labels[:-1], [True]]))
    sizes = np.abs(labels) + 1.0
    counts = choose(
        counts.astype(float),
        ("how often is ignored", np.ones(k), "all values count the same in yours: how often does each occur?"),
        *advised("the labels are names. What is counted is how often each of them occurs.", {
            "labels taken for probabilities": labels[labels > 0] * n / labels.sum(),
            "labels and one taken for probabilities": sizes * n / sizes.sum(),
        }),
        *advised("something is added to every count.", {
            "one more of each value": counts + 1.0,
            "one more of each value, over their sum": (counts + 1) * n / (n + k),
        }),
        ("runs for values", np.diff(borders) * 1.0, "equal labels count together only if they are neighbours."),
        *advised("one of the values does not count in yours. Which one, and why?", {
            "without the first value": counts[1:], "without the last value": counts[:-1],
            "without the value 0": counts[values != 0], "without the most frequent value": np.sort(counts)[:-1],
        }),
        ("without what occurs once", counts[counts > 1], "a value that occurs once is a value as well."),
    )  # fmt: skip
    p = choose(
        counts / n,
        ("counts for probabilities", counts, "probabilities add up to 1. Do yours?"),
        ("divided by one less", counts / (n - 1), "probabilities add up to 1. Do yours?"),
        ("divided by the number of values", counts / k, "you divide by how many values there are."),
        ("divided by the largest count", counts / counts.max(), "probabilities add up to 1. Do yours?"),
    )
    log_p = choose(
        np.log(p),
        ("log2 for log", np.log2(p), "your logarithm has another base than nats ask for."),
        ("log(1 + p)", np.log1p(p), "log1p adds a one, and nothing is added here."),
        ("no logarithm", p, "where is the logarithm?"),
        *advised("a small number inside the logarithm changes the result. Which values have the probability 0?", {
            f"{tiny:g} added in the logarithm": np.log(p + tiny) for tiny in (1e-2, 1e-3, 1e-4, 1e-5, 1e-6)
        }),
    )  # fmt: skip
    parts = choose(
        -p * log_p,
        ("the mean without weights", -log_p, "it is a mean of - log p. How much does each value count in it?"),
        ("weighed twice", -p * p * log_p, "each value counts as often as it occurs, and not with that squared."),
        ("the chance of two alike", p * p, "this is the chance that two images have the same label."),
        ("the chance of two unlike", p * (1 - p), "this is the chance that two images differ in their labels."),
    )
    total = parts.sum()
    return choose(
        total,
        ("the mean over the values", parts.mean(), "the probabilities are the weights of the mean already: sum up."),
        ("the largest term", parts.max(), "you keep one term only."),
        ("a term for each value", parts, "one number is asked for, for all values together."),
        ("a sum over the images", n * total, "your sum goes over the images: each value comes in it once per image."),
        ("terms of the images", (counts * parts).sum(), "your sum goes over the images: does each value come once?"),
        *advised("you divide by the largest value that it might have. Nats are asked for, and not a share.", {
            "as a share of log K": total / np.log(k), "as a share of log N": total / np.log(n),
        }),
        ("corrected for the sample", total + (k - 1) / (2 * n), "a correction for small samples is not asked for."),
        ("of the most frequent value", -np.log(p.max()), "you look at the most frequent value only."),
        ("of a Gaussian", 0.5 * np.log(2 * np.pi * np.e * labels.var()), "labels are names: what is their variance?"),
    )  # fmt: skip


def entropy_terms(labels):
    counts = np.unique(labels, return_counts=True)[1]
    p, n, k = counts / len(labels), len(labels), len(counts)
    return {
        "sum(p log p)": (p * np.log(p)).sum(), "sum(log p)": np.log(p).sum(), "log N": np.log(n), "log K": np.log(k),
        "sum(c log c)": (counts * np.log(counts)).sum(), "sum(p^2)": (p * p).sum(), "N": n, "K": k, "1": 1.0,
        "sum((1 - p) log(1 - p))": ((1 - p) * np.log(1 - p)).sum(),
    }  # fmt: skip


# --- Mutual information ----------------------------------------------------------------------------------------------


def two_columns(rng):
    sizes = rng.choice(np.arange(2, 6), 2, replace=False)
    table = rng.integers(1, 9, sizes) + np.eye(*sizes, dtype=int) * rng.integers(3, 12)
    rows = np.repeat(np.argwhere(table > 0), table.ravel(), axis=0)
    a, b = rng.permutation(rows).T
    return {"a": a.copy(), "b": b.copy()}


def pair(a, b):
    return {"a": np.array(a), "b": np.array(b)}


def information_by_sklearn(a, b):
    return np.float64(mutual_info_score(a, b))


def compared(table):
    """p(a, b), p(a) p(b) and the log of their ratio, from a table of counts."""
    p = table / table.sum()
    q = p.sum(1, keepdims=True) * p.sum(0)
    return p, q, np.log(np.where(p > 0, p / q, 1))


def unweighted(a, b):
    """The entropy of b for one value of a, averaged over these values."""
    return np.mean([of(b[a == value]) for value in np.unique(a)])


def information_model(choose, a, b):
    n = len(a)
    i, j = (np.unique(each, return_inverse=True)[1] for each in (a, b))
    table = np.zeros((i.max() + 1, j.max() + 1))
    np.add.at(table, (i, j), 1)
    p, q, ratio = compared(table)
    different = np.unique(np.stack([a, b], 1), axis=0)
    every, once = np.concatenate([a, b]), different.ravel()
    smoothed = [compared(table + each) for each in (0.5, 1)]
    joint = choose(
        of(a, b),
        *advised("you put one column below the other: what is a pair?", {
            "the columns as one list": of(every), "the columns as one list, over N": 2 * (of(every) - np.log(2)),
        }),
        *advised("each pair that occurs counts once in yours: how often does it occur?", {
            "the log of the number of pairs": np.log(len(different)), "the values of the different pairs": of(once),
            "the values of the different pairs, over their number": 2 * (of(once) - np.log(2)),
        }),
        *advised("different pairs of values may get the same name in yours. Which ones?", {
            "the pairs as a sum": of(a + b), "the pairs as a product": of(a * b), "exclusive or for a pair": of(a ^ b),
            "the product of both and one": of((a + 1) * (b + 1)), "the difference for a pair": of(a - b),
            "the larger of the two for a pair": of(np.maximum(a, b)), "only whether they are equal": of(a == b),
            "pairs without an order": of(np.minimum(a, b), np.maximum(a, b)),
            "a times the number of its own values, and b": of(i * len(table) + j),
            "a times one less than the number of b's values, and b": of(i * j.max() + j),
        }),
        ("the joint entropy in bits", of(a, b) / np.log(2), "your three entropies have different units."),
    )  # fmt: skip
    of_a = choose(of(a), ("the entropy of a left out", 0.0, "where is the entropy of a?"))
    of_b = choose(of(b), ("the entropy of b left out", 0.0, "where is the entropy of b?"))
    shared = of_a + of_b - joint
    return choose(
        shared,
        ("the joint entropy", joint, "this is all that the pairs hold. Which part of it is shared?"),
        ("what a says beyond b", joint - of_b, "this is what is still unknown of a when b is known."),
        ("what b says beyond a", joint - of_a, "this is what is still unknown of b when a is known."),
        ("what they do not share", 2 * joint - of_a - of_b, "this is what the two columns do not share."),
        *advised("you divide by an entropy. Here nats are asked for, and not a share.", {
            "as a share of the entropy of a": shared / of_a, "as a share of the entropy of b": shared / of_b,
            "as a share of the joint entropy": shared / joint, "as a share of the mean": 2 * shared / (of_a + of_b),
            "as a share of the root": shared / np.sqrt(of_a * of_b),
            "as a share of the larger": shared / max(of_a, of_b),
            "as a share of the smaller": shared / min(of_a, of_b),
        }),
        ("corrected for the sample", shared - (table.shape[0] - 1) * (table.shape[1] - 1) / (2 * n),
         "a correction for small samples is not asked for here."),
        ("the logs without weights", ratio.sum(), "you sum the logs of all pairs: how much does each pair count?"),
        ("the mean of the terms", (p * ratio).mean(), "the probabilities are the weights already: sum up."),
        ("weighed as if independent", (q * ratio).sum(), "the mean is over the pairs as they occur."),
        ("the divergence the other way", -(q * ratio).sum(), "you take the KL divergence the other way round."),
        ("only p log p", (p * np.log(np.where(p > 0, p, 1))).sum(), "p(a, b) is compared with something: with what?"),
        *advised("single terms may be negative, and count as they are.", {
            "absolute terms": np.abs(p * ratio).sum(), "only the positive terms": np.maximum(p * ratio, 0).sum(),
        }),
        ("each value with one other", np.trace(p * ratio), "how many pairs do you look at, and how many can there be?"),
        *advised("something is added to every count. What do pairs that never occur add?", {
            f"{each} added to every count": (x * y).sum() for each, (x, _, y) in zip((0.5, 1), smoothed, strict=True)
        }),
        *advised("you average over values as if all of them occurred equally often.", {
            "H(b) less a plain mean": of_b - unweighted(a, b), "H(a) less a plain mean": of_a - unweighted(b, a),
        }),
        ("the largest term", (p * ratio).max(), "you keep one pair of values only."),
        ("counts for probabilities", n * shared, "your weights do not add up to 1: are they counts?"),
        ("squares for logs", ((p - q) ** 2 / q).sum(), "you compare by squares, and not by logs."),
        ("for Gaussians", -0.5 * np.log(1 - np.corrcoef(a, b)[0, 1] ** 2) if n > 1 else np.nan,
         "this uses a correlation. Labels are names, with no order."),
        ("the correlation", np.abs(np.corrcoef(a, b)[0, 1]) if n > 1 else np.nan,
         "a correlation is no information: labels are names, with no order."),
    )  # fmt: skip


def information_terms(a, b):
    sizes = [len(np.unique(each)) for each in (a, b)]
    return {
        "H(a)": of(a), "H(b)": of(b), "H(a, b)": of(a, b), "1": 1.0, "log N": np.log(len(a)), "log A": np.log(sizes[0]),
        "log B": np.log(sizes[1]), "(A - 1)(B - 1) / N": (sizes[0] - 1) * (sizes[1] - 1) / len(a),
    }  # fmt: skip


# --- The gap ---------------------------------------------------------------------------------------------------------


def knowledge(rng):
    z, f = rng.choice(np.arange(3, 7), 2, replace=False)
    entropies = rng.uniform(0.7, 3, f)
    return {"information": rng.uniform(0.05, 0.95, (z, f)) * entropies, "entropies": entropies}


def table(information, entropies):
    return {"information": np.array(information, float), "entropies": np.array(entropies, float)}


def gap_by_loop(information, entropies):
    gaps = []
    for known, entropy in zip(information.T.tolist(), entropies.tolist(), strict=True):
        if entropy > 1e-9:
            second, first = sorted([0.0, *known])[-2:]
            gaps.append((first - second) / entropy)
    return np.mean(gaps)


def without(array, rows):
    """array (Z, F) without the entry rows[f] of each column f: (Z - 1, F)."""
    return np.array([np.delete(each, row) for each, row in zip(array.T, rows, strict=True)]).T


def mig_model(choose, information, entropies):
    z, f = information.shape
    best = information.argmax(0)
    first = information.max(0)
    others = without(information, best) if z > 1 else np.zeros((1, f))
    lower = np.where(information < first, information, -np.inf).max(0)
    padded = np.pad(information, [(0, max(0, 2 - z)), (0, 0)])
    increasing, in_rows = np.sort(padded, 0), np.sort(padded[::-1] if z == 1 else padded, 1)
    of_all = padded[padded.sum(1).argsort()[::-1]]
    second = choose(
        others.max(0),
        ("the least instead of the second", information.min(0), "you subtract the worst latent: which comes second?"),
        ("the mean of all", information.mean(0), "you subtract a mean. Which single latent comes second?"),
        ("the mean of the others", others.mean(0), "you subtract a mean. Which single latent comes second?"),
        ("the sum of the others", others.sum(0), "you subtract all of the others. Which single latent comes second?"),
        ("no second", 0 * first, "nothing is subtracted from the best latent."),
        ("the third", np.sort(information, 0)[-3] if z > 2 else 0 * first, "you subtract the third: count again."),
        ("the second as a different value", np.where(np.isfinite(lower), lower, 0),
         "two latents that know equally much are the best and the second best."),
        ("the latent after the best", np.roll(information, -1, 0)[best, np.arange(f)],
         "you subtract a neighbour of the best latent. Which comes second is a matter of size."),
        ("the second before the best", np.where(np.arange(z)[:, None] < best, information, 0).max(0),
         "does a latent count as the second best if it comes after the best one?"),
    )  # fmt: skip
    first = choose(
        first,
        ("the mean instead of the best", information.mean(0), "you begin with a mean. Which latent is the best?"),
        ("the sum instead of the best", information.sum(0), "you begin with a sum. Which single latent is the best?"),
        ("one latent for all factors", of_all[0],
         "you take the same latent for all factors: which one is the best for each?"),
    )  # fmt: skip
    first, second = choose(
        (first, second),
        *advised("you take the two latents that know least. Which way is a column sorted?", {
            "the two smallest": increasing[1::-1], "the two smallest, exchanged": increasing[:2],
        }),
        *advised("which two latents are the best differs from factor to factor: what finds them in yours?", {
            "the first two latents": padded[:2], "the last two latents": padded[: -3 : -1],
            "the distance of the first two latents": np.sort(padded[:2], 0)[::-1],
            "the distance of the last two latents": np.sort(padded[-2:], 0)[::-1],
            "the same two latents for all factors": of_all[:2],
            "the distance of the same two latents": np.sort(of_all[:2], 0)[::-1],
        }),
        *advised("which axis do you sort along, and which one holds the latents?", {
            "sorted along the factors": in_rows[: -3 : -1],
            "the last latent, sorted along the factors": (np.sort(information, 1)[-1], 0 * first),
        }),
    )  # fmt: skip
    size = choose(
        np.where(entropies > 0, entropies, 1),
        ("not divided", np.ones(f), "a factor with many values holds more nats. Where do the entropies enter?"),
        ("divided by the best", first, "you divide by what the best latent knows. What could it know at most?"),
        ("divided by all that is known", information.sum(0), "you divide by what all latents know together."),
        *advised("each factor is divided by an entropy of its own.", {
            "the mean entropy": np.full(f, entropies.mean()), "the largest entropy": np.full(f, entropies.max()),
            "the sum of the entropies": np.full(f, entropies.sum()),
        }),
        ("the entropy in bits", entropies / np.log(2), "information and entropy have different units in yours."),
    )  # fmt: skip
    gap = choose(
        (first - second) / size,
        ("a ratio for a gap", second / first, "you divide by the best latent. A gap is a difference."),
        ("only the best is divided", first / size - second, "both of the two are divided by the entropy."),
    )
    varies = entropies > 0
    kept = choose(
        gap[varies],
        ("a constant factor counts as 0", np.where(varies, gap, 0), "is a factor that does not vary left out, or a 0?"),
        ("a constant factor counts as 1", np.where(varies, gap, 1), "is a factor that does not vary left out, or a 1?"),
        ("a constant factor is divided by 0", np.where(varies, gap, np.nan), "what is divided by an entropy of 0?"),
    )  # fmt: skip
    rows = np.sort(information / np.where(varies, entropies, 1), 1)
    of_latents = rows[:, -1] - (rows[:, -2] if f > 1 else 0)
    result = choose(
        kept.mean(),
        ("a sum", kept.sum(), "you add the gaps up. How many factors are there?"),
        ("the median", np.median(kept), "a mean is asked for."),
        ("the least", kept.min(), "you keep one factor only. A mean is asked for."),
        ("the largest", kept.max(), "you keep one factor only. A mean is asked for."),
        ("one gap for each factor", kept, "one number is asked for, the mean over the factors."),
        ("divided by the latents", kept.sum() / z, "you divide by the number of latents."),
        ("divided by the entropies last", ((first - second) * varies).sum() / entropies.sum(),
         "the mean is over gaps that have been divided already."),
        ("gaps of the latents", of_latents.mean(),
         "you compare the factors of one latent. What is compared are the latents, for one factor."),
        ("the gap of the mean", np.diff(np.sort((information / np.where(varies, entropies, 1)).mean(1))[-2:]).sum(),
         "you average first. Which latents are the best two may differ from factor to factor."),
    )  # fmt: skip
    return choose(
        result,
        *advised("if there is one latent, what does the second best know?", {
            "one latent has the gap 0": result if z > 1 else 0 * result,
            "one latent has the gap 1": result if z > 1 else 0 * result + 1,
        }),
    )  # fmt: skip


def mig_terms(information, entropies):
    ordered = np.sort(information, 0)[::-1]
    parts = {"best": ordered[0], "second": ordered[1], "worst": ordered[-1], "mean of all": information.mean(0)}
    terms = {f"mean({name} / H)": (part / entropies).mean() for name, part in parts.items()}
    terms |= {f"mean({name})": part.mean() for name, part in parts.items()}
    return terms | {"mean(H)": entropies.mean(), "1": 1.0, "F": len(entropies)}


# --- The rotation ----------------------------------------------------------------------------------------------------


def weights_and_rotation(rng, latents=None, hidden=None, inputs=None, Q=None):
    z = latents or int(rng.integers(2, 5))
    h, d = hidden or z + int(rng.integers(1, 3)), inputs or z + int(rng.integers(3, 5))
    random = np.linalg.qr(rng.standard_normal((z, z)))[0] * rng.choice([-1, 1], z)
    Q = random if Q is None else np.array(Q, float)
    given = rng.standard_normal((h, z)), rng.standard_normal((z, d)), rng.standard_normal(z), Q
    names = "decoder_weight", "mu_weight", "mu_bias", "Q"
    return dict(zip(names, map(torch.from_numpy, given), strict=True))


def fixed(**sizes):
    return weights_and_rotation(np.random.default_rng(0), **sizes)


def turned(decoder_weight, mu_weight, mu_bias, Q):
    return (
        torch.einsum("hz,yz->hy", decoder_weight, Q),
        torch.einsum("yz,zd->yd", Q, mu_weight),
        torch.einsum("yz,z->y", Q, mu_bias),
    )


DECODER = "the decoder is given z', and has to give what it gave for z. What undoes Q?"
ENCODER = "the encoder has to give Q mu, for every h."
ALREADY = "some of what you mix has been turned already."


def in_turn(Q, rows):
    """Q @ rows, done row by row in place."""
    rows = rows.copy()
    for place, weights in enumerate(Q):
        rows[place] = weights @ rows
    return rows


def rotate_model(choose, decoder_weight, mu_weight, mu_bias, Q):
    W, M, b, Q = (each.numpy() for each in (decoder_weight, mu_weight, mu_bias, Q))
    sign, two = np.linalg.det(Q).round(), np.eye(len(Q))
    two[:2, :2] = Q[:2, :2]
    largest = np.abs(Q) == np.abs(Q).max(1, keepdims=True)
    Q = choose(
        Q,
        ("turned the other way", Q.T, "this is the model with the codes z' = Q.T z. Which way is asked for?"),
        *advised("Q is orthogonal as it comes, and may be a reflection. What becomes of it in yours?", {
            "times the determinant": sign * Q, "made orthogonal once more": np.linalg.qr(Q)[0],
            "the first column made to fit a rotation": np.column_stack([sign * Q[:, 0], Q[:, 1:]]),
            "the first row made to fit a rotation": np.concatenate([sign * Q[:1], Q[1:]]),
        }),
        *advised("Q mixes all latents with each other. Are all of its entries in use in yours?", {
            "the first two latents only": two, "the diagonal of Q": np.diag(Q.diagonal()),
            "the largest of each row of Q": np.where(largest, np.sign(Q), 0),
        }),
    )  # fmt: skip
    decoder = choose(
        W @ Q.T,
        ("the decoder turns once more", W @ Q, DECODER),
        ("the decoder turns back twice", W @ Q.T @ Q.T, DECODER),
        ("the decoder as it was", W, "your decoder knows nothing of the new axes: what does it do with z'?"),
        ("columns of the decoder turned already", in_turn(Q, W.T).T, ALREADY),
    )
    weight = choose(
        Q @ M,
        ("the weight turned back", Q.T @ M, ENCODER),
        ("the weight turned twice", Q @ Q @ M, ENCODER),
        ("the weight as it was", M, "the weight of mu stays as it was. " + ENCODER.capitalize()),
        ("rows of the weight turned already", in_turn(Q, M), ALREADY),
    )
    bias = choose(
        Q @ b,
        ("the bias turned back", Q.T @ b, ENCODER),
        ("the bias turned twice", Q @ Q @ b, ENCODER),
        ("the bias as it was", b, "a bias is a point of the latent space as well: does it stay where it was?"),
        ("the bias left out", 0 * b, "the bias is 0 in yours."),
        ("the columns of Q summed", (Q * b).sum(0), "you multiply and add along the wrong axis of Q."),
        ("the rows of Q summed", Q.sum(1) * b, "you multiply and add along the wrong axis of Q."),
        ("entries of the bias turned already", in_turn(Q, b), ALREADY),
    )
    return decoder, weight, bias


def rotate_terms(decoder_weight, mu_weight, mu_bias, Q):
    W, M, b, Q = (each.numpy() for each in (decoder_weight, mu_weight, mu_bias, Q))
    return (
        {"decoder_weight": W, "decoder_weight @ Q": W @ Q, "decoder_weight @ Q.T": W @ Q.T, "1": 1.0},
        {"mu_weight": M, "Q @ mu_weight": Q @ M, "Q.T @ mu_weight": Q.T @ M, "1": 1.0},
        {"mu_bias": b, "Q @ mu_bias": Q @ b, "Q.T @ mu_bias": Q.T @ b, "1": 1.0},
    )


FUNCTIONS = [
    Function(
        "entropy",
        of,
        labels_of,
        entropy_model,
        special=[
            Special("one value only", column(3, 3, 3), "What is known before anything is asked?"),
            Special("one image", column(7), LENGTH_1),
            Special("values of which some never occur", column(0, 5, 5, 2, 2, 2), "What does 0 log 0 give in a float?"),
            Special("negative labels", column(-3, -1, -3, 3, 0, -3, 1), NAMES),
            Special("labels far apart", column(100000, 34464, 5, 5, 261, 0), NAMES),
            Special("many values", {"labels": MANY_LABELS}, MANY),
            Special("as many values as images", column(4, 2, 0, 1, 3), "How often does each value occur?"),
        ],
        terms=entropy_terms,
        probe="Compare it with the mean of - log p under p.",
    ),
    Function(
        "mutual_information",
        information_by_sklearn,
        two_columns,
        information_model,
        special=[
            Special(
                "pairs that never occur", pair([0, 0, 1, 1, 2], [0, 1, 1, 1, 0]), "What does 0 log 0 give in a float?"
            ),
            Special("two equal columns", pair([0, 1, 1, 2], [0, 1, 1, 2]), "What does a column say about itself?"),
            Special("independent columns", pair([0, 0, 1, 1], [0, 1, 0, 1]), "What do they say about each other?"),
            Special("a constant column", pair([4, 4, 4, 4], [0, 1, 0, 2]), "Can a constant say anything?"),
            Special("one image", pair([2], [5]), LENGTH_1),
            Special("negative labels", pair([1, 0, -3, 0, 1, 1], [-1, 1, 1, 1, 1, -1]), NAMES),
            Special("many negative labels", {"a": MANY_LABELS % 7 - 4, "b": MANY_LABELS % 11 - 8}, NAMES),
            Special("labels far apart", pair([1000000, 16960, 5, 261, 5, 5], [7, 7, 150, 150, 1000000, 16960]), NAMES),
            Special("many values", {"a": MANY_LABELS, "b": MANY_LABELS**2 % 29}, MANY),
            Special(
                "labels of several digits",
                pair([2, 1, 1, 1, 1, 1, 1, 2, 11], [2, 12, 102, 1002, 10002, 100002, 1000000, 0, 2]),
                "Can two different pairs get the same name in your code?",
            ),
        ],
        terms=information_terms,
        probe="Which entropies count, and with which sign?",
    ),
    Function(
        "mig",
        gap_by_loop,
        knowledge,
        mig_model,
        special=[
            Special(
                "one latent", table([[1.0, 0.25, 0.5]], [2, 1, 0.5]), "What does the second best know if none is there?"
            ),
            Special("two latents", table([[1.0, 0.25], [0.5, 0.5]], [2, 1]), "Is there a latent that is not there?"),
            Special(
                "a factor that does not vary",
                table([[1.0, 0, 0.25], [0.5, 0, 0.75], [0.25, 0, 0.125]], [2, 0, 1]),
                "What is divided by an entropy of 0, and over how many factors is the mean?",
            ),
            Special(
                "two latents that know equally much",
                table([[1.0, 0.25], [1.0, 0.5], [0.25, 0.125]], [2, 1]),
                "Which latent comes second if two are the best, and does their gap count?",
            ),
            Special("one factor", table([[0.25], [1.0], [0.5]], [1.5]), LENGTH_1),
            Special("as many factors as latents", table([[1.0, 0.25], [0.125, 0.75]], [2, 1]), "Which axis is which?"),
            Special(
                "a code that says nothing", table(np.zeros((3, 2)), [2, 1]), "Is something divided by what is known?"
            ),
            Special(
                "a factor of which nothing is known",
                table([[1.0, 0], [0.5, 0], [0.25, 0]], [2, 1]),
                "What do the best and the second best know, and does their gap count?",
            ),
            Special(
                "a factor with little entropy",
                table([[1.0, 0.001], [0.5, 0.0018], [0.25, 0.0005]], [2, 0.002]),
                "It does vary: is it taken for a constant, or is something added to its entropy?",
            ),
        ],
        terms=mig_terms,
        probe="H is the entropy of each factor. Compare it with the best less the second, over H.",
        shrink=False,
        in_place=False,
    ),
    Function(
        "rotate",
        turned,
        weights_and_rotation,
        rotate_model,
        special=[
            Special("one latent", fixed(latents=1, Q=[[-1]]), LENGTH_1),
            Special(
                "as many hidden units as latents", fixed(latents=3, hidden=3), "Which axis of the weight is which?"
            ),
            Special("as many inputs as latents", fixed(latents=3, inputs=3), "Which axis of the weight is which?"),
            Special("two latents exchanged", fixed(latents=2, Q=[[0, 1], [1, 0]]), "Is Q a rotation in your code?"),
            Special(
                "three latents that change places",
                fixed(latents=3, Q=[[0, 1, 0], [0, 0, 1], [1, 0, 0]]),
                "Which latent goes where, in each of the weights?",
            ),
        ],
        terms=rotate_terms,
        probe="The decoder has to undo what was done to the code.",
        outputs=("the decoder's weight", "the weight of mu", "the bias of mu"),
        shrink=False,
        in_place=False,
    ),
]
