"""Checks of exercise 14. The references are plain loops, SciPy's entropy and a hand-written gradient.

Where a model has many slips their values are functions, of which only the chosen one is called: `choose(...)()`.
"""

from itertools import permutations

import numpy as np
import torch
from scipy.stats import entropy

from checking import Function, Special
from mistakes import advised

# --- Inputs ----------------------------------------------------------------------------------------------------------


def vectors_and_codebook(rng):
    m, k, d = rng.integers(4, 40), rng.integers(3, 10), rng.integers(2, 5)
    lengths = np.linspace(0.3, 2.5, k)[rng.permutation(k), None]  # so that direction and distance disagree
    size = 10 ** rng.uniform(-2.5, 0.5)
    return {"vectors": size * rng.standard_normal((m, d)), "codebook": size * lengths * rng.standard_normal((k, d))}


def some_vectors(m, k, d, centre=0.0, away=0.0, size=1.0):
    """Of a fixed number and size, around `centre`, the vectors `away` from the entries."""
    rng = np.random.default_rng([m, k, d])
    codebook = centre + size * rng.standard_normal((k, d))
    return {"vectors": centre + away + size * rng.standard_normal((m, d)), "codebook": codebook}


def near_entries(k, chosen, apart):
    """Vectors `apart` from the chosen ones of k entries."""
    codebook = np.random.default_rng(k).standard_normal((k, 3))
    return {"vectors": codebook[chosen] + apart, "codebook": codebook}


def two_tensors(rng):
    z_e, z_q = rng.standard_normal((2, rng.integers(1, 5), 3))
    z_q[0, 0] = z_e[0, 0]  # a proposal may be an entry
    return tensors(z_e, z_q)


def tensors(z_e, z_q):
    return {"z_e": torch.tensor(z_e, dtype=torch.float64), "z_q": torch.tensor(z_q, dtype=torch.float64)}


def a_step(rng):
    k, m, d = rng.integers(4, 7), rng.integers(8, 15), rng.integers(2, 4)
    return {
        "counts": rng.uniform(0.2, 4, k),
        "sums": rng.standard_normal((k, d)),
        "vectors": rng.standard_normal((m, d)),
        "codes": rng.permutation(np.concatenate([np.arange(k), rng.integers(0, k, m - k)])),
        "decay": float(rng.uniform(0.6, 0.95)),
    }


STEP = {
    "counts": np.array([2.0, 3.0, 0.5, 1.0]),
    "sums": np.array([[1.0, -2.0], [0.5, 4.0], [-1.0, 1.5], [2.0, 3.0]]),
    "vectors": np.array([[0.3, 1.0], [-2.0, 0.7], [1.1, 0.2], [0.4, -0.6], [2.0, -1.0]]),
    "codes": np.array([2, 0, 3, 0, 1]),
    "decay": 0.9,
}
SMALL = {"counts": np.array([2.0, 2e-5, 0.5, 1.0]), "sums": STEP["sums"] * [[1], [1e-5], [1], [1]], "decay": 0.99999}
MANY = {"vectors": np.random.default_rng(0).standard_normal((404, 2)), "codes": np.repeat(range(4), [1, 400, 2, 1])}
SHARED = STEP | dict.fromkeys(("sums", "vectors"), STEP["sums"]) | {"codes": np.array([2, 0, 3, 1])}


def some_counts(rng):
    return {"counts": rng.integers(1, 9, rng.integers(3, 8)).astype(float)}


# --- References ------------------------------------------------------------------------------------------------------


def nearest(vectors, codebook):
    return np.array([min(range(len(codebook)), key=lambda k: np.sum((v - codebook[k]) ** 2)) for v in vectors])


class HandedThrough(torch.autograd.Function):
    """Forward z_q, backward the gradient to z_e alone."""

    @staticmethod
    def forward(context, z_e, z_q):
        return z_q.clone()

    @staticmethod
    def backward(context, gradient):
        return gradient, torch.zeros_like(gradient)


def running_means(counts, sums, vectors, codes, decay):
    counts, sums = decay * counts, decay * sums
    for vector, code in zip(vectors, codes, strict=True):
        counts[code] += (1 - decay) * 1
        sums[code] += (1 - decay) * vector
    return counts, sums, np.stack([total / count for total, count in zip(sums, counts, strict=True)])


# --- What may be done instead ----------------------------------------------------------------------------------------


def nearest_model(choose, vectors, codebook):
    difference = vectors[:, None] - codebook  # (M, K, D)
    dots, squared, d = vectors @ codebook.T, (codebook**2).sum(1), codebook.shape[1]

    def squares(a, b):
        return ((a[:, None] - b) ** 2).sum(2)

    def unit(a):
        return a / np.sqrt((a**2).sum(1, keepdims=True))

    distance = choose(
        lambda: squares(vectors, codebook),
        *advised("how long an entry is should not count for itself. What is the square of a difference?", {
            "the largest dot product": lambda: -dots,
            "the smallest dot product": lambda: dots,
            "the size of the dot product": lambda: -np.abs(dots),
            "the length of the entry alone": lambda: squared + 0 * dots,
        }),
        *advised("expand the square again: how often does the dot product appear, and with which sign?", {
            "the missing two": lambda: squared - dots,
            "too much of the dot product": lambda: squared - 4 * dots,
            "the sign of the dot product": lambda: squared + 2 * dots,
        }),
        *advised("expand the square again: is each term of it a sum, and is it squared?", {
            "a length not squared": lambda: np.sqrt(squared) - 2 * dots,
            "a mean beside a sum": lambda: squared / d - 2 * dots,
            "a sum beside a mean": lambda: squared - 2 * dots / d,
            "the dot product squared": lambda: squared - 2 * dots**2,
        }),
        *advised("you compare directions. Two entries in one direction can be far apart.", {
            "cosine similarity": lambda: -dots / np.sqrt(squared),
            "the opposite direction": lambda: dots / np.sqrt(squared),
            "the correlation": lambda: -unit(vectors - vectors.mean(1, keepdims=True))
            @ unit(codebook - codebook.mean(1, keepdims=True)).T,
            "vectors of length 1": lambda: squares(unit(vectors), codebook),
        }),
        *advised("that is another distance, for which other entries are the nearest.", {
            "absolute differences": lambda: np.abs(difference).sum(2),
            "the third power": lambda: (np.abs(difference) ** 3).sum(2),
            "the fourth power": lambda: (difference**4).sum(2),
            "roots of differences": lambda: np.sqrt(np.abs(difference)).sum(2),
            "the largest difference": lambda: np.abs(difference).max(2),
            "the smallest difference": lambda: np.abs(difference).min(2),
            "the variance of the differences": lambda: difference.var(2),
            "a difference of lengths": lambda: np.abs(np.sqrt((vectors**2).sum(1))[:, None] - np.sqrt(squared)),
            "in units of the codebook's spread": lambda: squares(vectors / codebook.std(0), codebook / codebook.std(0)),
            "divided by the length of the entry": lambda: squares(vectors, codebook) / np.sqrt(squared),
        }),
        *advised("differences of opposite sign cancel: what makes a distance of each of them?", {
            "differences not squared": lambda: difference.sum(2),
            "differences not squared, the other way round": lambda: -difference.sum(2),
            "the square of the sum": lambda: difference.sum(2) ** 2,
            "cubes": lambda: (difference**3).sum(2),
        }),
        *advised("not all the numbers of a vector count in your distance.", {
            "the first number only": lambda: difference[:, :, 0] ** 2,
            "the last number only": lambda: difference[:, :, -1] ** 2,
            "without the first number": lambda: (difference[:, :, 1:] ** 2).sum(2),
            "without the last number": lambda: (difference[:, :, :-1] ** 2).sum(2),
            "the first two numbers only": lambda: (difference[:, :, :2] ** 2).sum(2),
            "the first three numbers only": lambda: (difference[:, :, :3] ** 2).sum(2),
        }),
        *advised("which axis of the differences holds the numbers of a vector?", {
            "summed over the entries": lambda: (difference**2).sum(1),
            "summed over the vectors": lambda: (difference**2).sum(0),
        }),
        *advised("you round, so that many entries look alike.", {
            "distances cut to whole numbers": lambda: np.floor(squares(vectors, codebook) ** 0.5),
            "squares cut to whole numbers": lambda: np.floor(squares(vectors, codebook)),
            "numbers cut to integers": lambda: squares(np.trunc(vectors), np.trunc(codebook)),
            "numbers rounded": lambda: squares(np.round(vectors), np.round(codebook)),
            **{f"distances rounded to {n} digits": lambda n=n: np.round(squares(vectors, codebook) ** 0.5, n)
               for n in range(3)},
            **{f"squares rounded to {n} digits": lambda n=n: np.round(squares(vectors, codebook), n) for n in range(4)},
        }),
    )()  # fmt: skip
    distance = choose(
        distance,
        ("without the last entry", distance[:, :-1], "the last entry is never chosen: where does the range end?"),
        ("without the first entry", np.where(np.arange(distance.shape[1]) == 0, np.inf, distance),
         "the first entry is never chosen: where does the range start?"),
        ("the first entry cut off", distance[:, 1:], "the first entry is missing, and the others are numbered anew."),
    )  # fmt: skip
    index, least, columns = distance.argmin(1), distance.min(1), np.arange(distance.shape[1])
    record = least <= np.minimum.accumulate(least)
    nearer = distance < distance[:, :1]
    return choose(
        lambda: index,
        ("the farthest entry", lambda: distance.argmax(1), "you pick the entry that is farthest away."),
        ("the second nearest", lambda: distance.argsort(1)[:, 1], "there is an entry that is nearer than yours."),
        ("counted from one", lambda: index + 1, "you count the entries from one. NumPy does not."),
        *advised("one index per entry comes out. It should be one per vector: along which axis do you look?", {
            "the wrong axis": lambda: distance.argmin(0),
            "the farthest along the wrong axis": lambda: distance.argmax(0),
        }),
        *advised("you return how far an entry is. Which one is the nearest?", {
            "the least square": lambda: least,
            "the least distance": lambda: np.sqrt(least),
            "all squares": lambda: distance,
            "all distances": lambda: np.sqrt(distance),
        }),
        *advised("one integer per vector is asked for, the place of the nearest entry in the codebook.", {
            "all entries in order": lambda: distance.argsort(1),
            "the ranks": lambda: distance.argsort(1).argsort(1),
            "the entry itself": lambda: codebook.take(index, 0, mode="clip"),
            "one-hot": lambda: index[:, None] == columns,
            "the number of the vector": lambda: np.arange(len(index)),
            "how often each entry is chosen": lambda: np.bincount(index, minlength=len(columns)),
        }),
        *advised("one choice is made for the whole batch. Each vector has its own.", {
            "one place for all distances": lambda: distance.argmin(),
            "one least distance for all": lambda: distance.min(),
            "one entry for the batch": lambda: distance.sum(0).argmin() + 0 * index,
            "one index for the batch": lambda: distance.sum(0).argmin(),
            "a single zero": lambda: np.array(0),
        }),
        *advised("the best distance so far is not forgotten when the next vector comes.", {
            "the record carried over": lambda: index[np.maximum.accumulate(np.where(record, np.arange(len(index)), 0))],
            "the record carried over, the index not": lambda: np.where(record, index, 0),
        }),
        *advised("with what is each entry compared, and is the best so far renewed?", {
            "the last that is nearer than the first": lambda: np.where(nearer, columns, 0).max(1),
            "the first that is nearer than the first": lambda: nearer.argmax(1),
            "the last that is nearer than the one before": lambda: np.where(
                np.diff(distance, axis=1, prepend=np.inf) < 0, columns, 0).max(1),
            "only what is nearer than 1, else the first": lambda: np.where(least < 1, index, 0),
            "only what is nearer than 1, else none": lambda: np.where(least < 1, index, -1),
            "always the last entry": lambda: columns[-1] + 0 * index,
            "always the first entry": lambda: 0 * index,
        }),
    )()  # fmt: skip


def straight_through_model(choose, z_e, z_q):
    step = z_q - z_e
    value = choose(
        z_q,
        ("the encoder's value", z_e, "the decoder would see z_e, as if nothing had been quantised."),
        *advised("z_e is left in the value. The decoder should see z_q alone.", {
            "the average of both": (z_e + z_q) / 2,
            "the sum of both": z_e + z_q,
            "the product of both": z_e * z_q,
        }),
        *advised("the value is the error of the quantisation. The decoder should see z_q.", {
            "the difference alone": step,
            "the difference alone, turned round": -step,
        }),
        *advised("where does the step start, and where does it lead?", {
            "the difference the wrong way round": z_e - step,
            "the step twice": z_q + step,
            "the step without its sign": z_e + step.abs(),
        }),
        *advised("the step from z_e to z_q is cut off or rounded.", {
            **{f"a step of at most {most:g}": z_e + step.clamp(-most, most) for most in (0.1, 0.5, 1.0)},
            "a step of whole numbers": z_e + step.round(),
            "the sign of the step": z_e + step.sign(),
        }),
        ("z_e rounded", z_e.round(), "you round z_e. What takes its place is an entry of the codebook, z_q."),
    ).detach()  # fmt: skip
    e, q = z_e.detach(), z_q.detach()
    to_encoder = choose(
        lambda: z_e,
        ("nothing for the encoder", lambda: 0 * z_e, "nothing reaches the encoder: is z_e cut off, or does it cancel?"),
        ("minus the gradient", lambda: -z_e, "the encoder gets the gradient with the wrong sign."),
        *advised("the encoder should get the gradient as it is, no more and no less.", {
            "half the gradient": lambda: z_e / 2,
            "twice the gradient": lambda: 2 * z_e,
            "the gradient over all numbers": lambda: z_e / z_e.numel(),
            "the gradient over the rows": lambda: z_e / len(z_e),
            "the gradient over the columns": lambda: z_e / z_e.shape[-1],
            "the gradient times z_e": lambda: e * z_e,
            "the gradient times z_q": lambda: q * z_e,
            "the gradient times the difference": lambda: (q - e) * z_e,
            "the gradient times the difference, turned round": lambda: (e - q) * z_e,
            "the gradient times z_q / z_e": lambda: q / e * z_e,
            "the gradient times the ratio of lengths": lambda: q.norm(dim=-1, keepdim=True)
            / e.norm(dim=-1, keepdim=True).clamp_min(1e-30) * z_e,
            "the gradient times the ratio of all lengths": lambda: q.norm() / e.norm().clamp_min(1e-30) * z_e,
        }),
        *advised("the encoder's gradient passes through a function on its way. It should come as it is.", {
            f"the gradient through {words}": lambda function=function: function(z_e)
            for words, function in CARRIERS.items()
        }),
        *advised("the encoder's gradient is mixed with that of other numbers. Each should come as it is.", {
            "the mean gradient over the rows": lambda: z_e.mean(0, keepdim=True).expand_as(z_e),
            "the mean gradient over the columns": lambda: z_e.mean(-1, keepdim=True).expand_as(z_e),
            "the mean gradient for all": lambda: z_e.mean().expand_as(z_e),
        }),
    )()  # fmt: skip
    to_codebook = choose(
        0 * z_q,
        *advised("z_q gets a gradient as well: the codebook would follow the decoder, or flee from it.", {
            "a gradient for the codebook too": z_q,
            "minus the gradient for the codebook": -z_q,
            "half the gradient for the codebook": z_q / 2,
        }),
    )  # fmt: skip
    both = choose(
        to_encoder + to_codebook,
        ("no trick at all", z_q, "the value is right, but the gradient goes to z_q, and nothing reaches the encoder."),
        ("the gradient shared by both", (z_e + z_q) / 2, "each gets half of the gradient. Whose is it?"),
        ("the gradient to z_q, and minus it to the encoder", step,
         "z_q gets the gradient, and z_e the same with the wrong sign: what is detached, and what should be?"),
    )  # fmt: skip
    return value + both - both.detach()


CARRIERS = {
    "tanh": torch.tanh,
    "a sigmoid": torch.sigmoid,
    "a ReLU": torch.relu,
    "an exponential": torch.exp,
    "a square": torch.square,
    "an absolute value": torch.abs,
    "a clip at -1 and 1": lambda z: z.clamp(-1, 1),
    "a clip at 0 and 1": lambda z: z.clamp(0, 1),
    "a length of 1": lambda z: z / z.norm(dim=-1, keepdim=True).clamp_min(1e-30),
}


def straight_through_terms(z_e, z_q):
    return {
        "z_e": z_e, "z_q": z_q, "z_e z_q": z_e * z_q, "z_e^2": z_e**2, "z_q^2": z_q**2, "|z_e|": z_e.abs(),
        "|z_q|": z_q.abs(), "z_e / z_q": z_e / z_q, "z_q / z_e": z_q / z_e, "1": 1.0,
    }  # fmt: skip


WEIGHTS = [  # of the old, of the new: functions of the decay
    *advised("the old value is forgotten too fast. Which of the two does the decay belong to?", {
        "the decay the wrong way round": lambda g: (1 - g, g),
    }),
    *advised("the two weights must add up to one.", {
        "the new part at full weight": lambda g: (g, 1.0),
        "both at full weight": lambda g: (1.0, 1.0),
        "the old value at full weight": lambda g: (1.0, 1 - g),
        "both weighted by the decay": lambda g: (g, g),
    }),
    *advised("the old value has no say: where is the memory?", {"the new part alone": lambda g: (0.0, 1.0)}),
    *advised("the batch has no say: what does the new part add?", {
        "the old value as it was": lambda g: (1.0, 0.0),
        "the old value alone, faded": lambda g: (g, 0.0),
    }),
]  # fmt: skip
OF_BOTH = [
    *WEIGHTS,
    *advised("the two weights must add up to one.", {
        "the old value at full weight, the decay at the new part": lambda g: (1.0, g),
        "both weighted by the rest": lambda g: (1 - g, 1 - g),
        "the new part subtracted": lambda g: (g, g - 1),
        "divided by one minus the decay": lambda g: (g / (1 - g), 1.0),
    }),
]  # fmt: skip
OF_ONE = {of: [(f"{name} in the {of}", value, advice) for name, value, advice in WEIGHTS] for of in ("counts", "sums")}
OUTPUTS = ("the counts", "the sums", "the codebook")
ORDERS = {f"the order {', '.join(OUTPUTS[i] for i in order)}": order for order in list(permutations(range(3)))[1:]}


def ema_model(choose, counts, sums, vectors, codes, decay):
    (k, m), places = (len(counts), len(codes)), np.arange(len(counts))
    old = sums / counts[:, None]
    chosen = (codes == places[:, None]).astype(float)  # (K, M)
    chosen = choose(
        lambda: chosen,
        *advised("what happens when a code comes twice in the batch?", {
            "the last of repeated codes": lambda: chosen * (chosen[:, ::-1].cumsum(1)[:, ::-1] == 1),
            "the first of repeated codes": lambda: chosen * (chosen.cumsum(1) == 1),
        }),
        *advised("not all the vectors of the batch count: where does the range start, and where does it end?", {
            "without the last vector": lambda: chosen * (np.arange(m) < m - 1),
            "without the first vector": lambda: chosen * (np.arange(m) > 0),
        }),
        *advised("the codes go to the wrong entries: has the first entry index 0 or 1?", {
            "codes counted from one": lambda: np.roll(chosen, -1, 0),
            "codes counted from one, the first lost": lambda: np.roll(chosen, -1, 0) * (places < k - 1)[:, None],
        }),
        *advised("for each entry, only the vectors that chose it should count.", {
            "all vectors for each entry": lambda: np.ones_like(chosen),
            "all but those that chose it": lambda: 1 - chosen,
            "codes in another order than the vectors": lambda: chosen[:, ::-1],
            "codes sorted, vectors not": lambda: (np.sort(codes) == places[:, None]).astype(float),
        }),
    )()  # fmt: skip
    number, total = chosen.sum(1), chosen @ vectors
    nobody, used = number == 0, np.maximum(number, 1)
    n = choose(
        lambda: number,
        *advised("n_k is the number of vectors of the batch that chose entry k.", {
            "shares of the batch for numbers": lambda: number / m,
            "one for each used code": lambda: np.minimum(number, 1.0),
            "one too many for each": lambda: number + 1,
            "one at least for each": lambda: used,
            "the size of the batch for each": lambda: np.full_like(number, m),
            "numbers that start again at 256": lambda: number % 256,
            "numbers that start again at -128": lambda: (number + 128) % 256 - 128,
            "the sum of the codes for each": lambda: number * places,
        }),
    )()  # fmt: skip
    v = choose(
        lambda: total,
        *advised("the new part of a sum is the sum of the vectors that chose the entry, undivided.", {
            "means of the vectors for sums": lambda: total / used[:, None],
            "means of the vectors for sums, NaN for none": lambda: total / number[:, None],
            "sums over the size of the batch": lambda: total / m,
            "sums times their number": lambda: total * number[:, None],
            "the old entry for the vectors": lambda: number[:, None] * old,
            "distances from the old entry": lambda: total - number[:, None] * old,
        }),
        *advised("for each entry, only the vectors that chose it should count.", {
            "the sum of the whole batch for each": lambda: 0 * total + vectors.sum(0),
            "the mean of the whole batch for each": lambda: 0 * total + vectors.mean(0),
        }),
        ("sums over the numbers of a vector", lambda: 0 * total + total.sum(1, keepdims=True),
         "you add up the numbers of a vector: which axis holds the vectors?"),
    )()  # fmt: skip
    old_sums = choose(
        sums,
        ("the old entry for the old sum", old, "the old part of a sum is divided already: the sums are kept as sums."),
        ("the old sum times its count", sums * counts[:, None], "the old sums are multiplied by their counts."),
    )  # fmt: skip
    both = choose(lambda g: (g, 1 - g), *OF_BOTH)
    of_counts, of_sums = (choose(both, *slips)(decay) for slips in OF_ONE.values())
    after = of_counts[0] * counts + of_counts[1] * n, of_sums[0] * old_sums + of_sums[1] * v

    def but(where):
        return np.where(where, counts, after[0]), np.where(where[:, None], sums, after[1])

    new_counts, new_sums = choose(
        lambda: after,
        *advised("what do the formulas say for an entry that nobody chose, for which n_k = 0?", {
            "unused entries do not fade": lambda: but(nobody),
            "unused entries do not fade in the counts": lambda: (but(nobody)[0], after[1]),
            "unused entries do not fade in the sums": lambda: (after[0], but(nobody)[1]),
            "entries beyond the largest code do not fade": lambda: but(places > codes.max()),
        }),
        *advised("one entry stays as it was: where does the range start, and where does it end?", {
            "the last entry not updated": lambda: but(places == k - 1),
            "the first entry not updated": lambda: but(places == 0),
        }),
        *advised("the whole batch is one step: how often is an old value faded?", {
            "a decay for every vector of an entry": lambda: one_by_one(counts, sums, vectors, chosen, decay, chosen),
            "a decay for every vector": lambda: one_by_one(counts, sums, vectors, chosen, decay, np.ones_like(chosen)),
        }),
        *advised("running means need not be whole numbers, and may be below 1.", {
            "counts rounded": lambda: (np.round(after[0]), after[1]),
            "counts cut to whole numbers": lambda: (np.floor(after[0]), after[1]),
            "sums cut to whole numbers": lambda: (after[0], np.trunc(after[1])),
            "counts and sums cut to whole numbers": lambda: tuple(map(np.trunc, after)),
            "counts not below 1": lambda: (np.maximum(after[0], 1), after[1]),
        }),
        ("counts that add up to 1", lambda: (after[0] / after[0].sum(), after[1]), "the counts are shares in yours."),
    )()  # fmt: skip
    divisor = choose(
        lambda: new_counts,
        *advised("the codebook is divided by something else than the new count of each entry.", {
            "divided by the old counts": lambda: counts,
            "divided by the faded old counts": lambda: decay * counts,
            "divided by the numbers of the batch": lambda: number,
            "divided by the numbers of the batch, one at least": lambda: used,
            "divided by the weighted numbers of the batch": lambda: (1 - decay) * number,
            "divided by the size of the batch": lambda: np.full_like(counts, m),
            "divided by the sum of the counts": lambda: np.full_like(counts, new_counts.sum()),
            "divided by the number of entries": lambda: np.full_like(counts, k),
            "divided by one more": lambda: new_counts + 1,
            "divided by one at least": lambda: np.maximum(new_counts, 1),
        }),
        ("not divided", lambda: np.ones_like(counts), "the codebook holds the sums themselves: what is missing?"),
        ("multiplied by the counts", lambda: 1 / new_counts, "you multiply by the counts where a division belongs."),
    )()[:, None]  # fmt: skip

    def blended(now):
        return decay * old + (1 - decay) * now

    def else_old(now):
        return np.where(nobody[:, None], old, now)

    mean = total / used[:, None]
    book = choose(
        lambda: new_sums / divisor,
        *advised("the codebook should be made of the new sums and counts.", {
            "the old codebook": lambda: old,
            "the old sums in the codebook": lambda: sums / divisor,
            "the faded old sums in the codebook": lambda: decay * sums / divisor,
        }),
        *advised("the codebook is made of this batch alone: where is the memory?", {
            "the sums of the batch in the codebook": lambda: total / divisor,
            "the means of the batch": lambda: total / number[:, None],
            "the means of the batch, else zero": lambda: mean,
            "the means of the batch, else the old entry": lambda: else_old(mean),
        }),
        *advised("you average entries. The memory is in the sums and counts: the codebook is their quotient.", {
            "a running mean of entries": lambda: blended(mean),
            "a running mean of used entries": lambda: else_old(blended(mean)),
            "the new codebook averaged with the old": lambda: blended(new_sums / divisor),
        }),
        ("unused entries at zero", lambda: np.where(nobody[:, None], 0, new_sums / divisor),
         "an entry that nobody chose moves to zero in yours."),
        ("the quotient upside down", lambda: divisor / new_sums, "you divide the counts by the sums."),
    )()  # fmt: skip
    outputs = new_counts, new_sums, book
    return choose(
        outputs,
        *advised("the three come in another order than the docstring says.", {
            name: tuple(outputs[i] for i in order) for name, order in ORDERS.items()
        }),
        *advised("not all that is returned is from after the step.", {
            "the old counts returned": (counts, new_sums, book),
            "the old sums returned": (new_counts, sums, book),
            "the old counts and sums returned": (counts, sums, book),
        }),
        ("the codebook for the sums", (new_counts, book, book), "your sums are divided: are they changed in place?"),
    )  # fmt: skip


def one_by_one(counts, sums, vectors, chosen, decay, steps):
    """The running means with one step for every vector; steps (K, M): whether it is one for that entry."""
    left = steps[:, ::-1].cumsum(1)[:, ::-1]  # steps from this vector on
    weight = chosen * (1 - decay) * decay ** (left - 1)
    faded = decay ** left[:, 0]
    return faded * counts + weight.sum(1), faded[:, None] * sums + weight @ vectors


def ema_terms(counts, sums, vectors, codes, decay):
    chosen = (codes == np.arange(len(counts))[:, None]).astype(float)
    n, v = chosen.sum(1), chosen @ vectors

    def weighted(terms):
        return terms | {f"gamma {name}": decay * term for name, term in terms.items()}

    of_counts = {"N": counts, "n": n, "M": float(len(codes)), "K": float(len(counts)), "1": 1.0}
    of_sums = {"m": sums, "v": v, "m/N": sums / counts[:, None], "v/n": v / n[:, None], "1": 1.0}
    after = (decay * sums + (1 - decay) * v) / (decay * counts + (1 - decay) * n)[:, None]
    return weighted(of_counts), weighted(of_sums), weighted(of_sums | {"new m/N": after})


def perplexity_model(choose, counts):
    k, whole = len(counts), counts.sum()
    numbers = choose(
        counts.astype(float),
        ("one added to every count", counts + 1.0, "every entry has one choice more than it had."),
        ("zeros made one", np.where(counts == 0, 1.0, counts), "an entry that nobody chose counts in yours."),
        ("counts not below 1", np.maximum(counts, 1.0), "counts below 1 are cut off in yours."),
        ("counts cut to whole numbers", np.floor(counts), "your counts lose what stands behind the point."),
        ("counts taken for codes", np.unique(counts, return_counts=True)[1].astype(float),
         "you count how often each count comes. They are counts already: one number for each entry."),
    )  # fmt: skip
    kept = choose(
        numbers > 0,
        ("zeros left in", numbers >= 0, "what is 0 times log 0 for NumPy? An entry with count 0 should add nothing."),
        ("counts up to 1 left out", numbers > 1, "an entry with a count of 1 adds nothing in yours."),
        ("counts below 1 left out", numbers >= 1, "an entry with a count below 1 adds nothing in yours. Should it?"),
        *advised("not all the entries count in your sum: where does the range start, and where does it end?", {
            "without the last entry": (numbers > 0) & (np.arange(len(numbers)) < len(numbers) - 1),
            "without the first entry": (numbers > 0) & (np.arange(len(numbers)) > 0),
        }),
    )  # fmt: skip
    c = numbers[kept]
    share = choose(
        c / numbers.sum(),
        *advised("p log p is for shares: do yours add up to one?", {
            "counts not divided": c,
            "divided by the number of entries": c / k,
            "divided by the number of used entries": c / len(c) if len(c) else c,
            "divided by the largest count": c / numbers.max(),
            "divided by the length": c / np.sqrt((c**2).sum()),
            "divided by one more": c / (numbers.sum() + 1),
        }),
        *advised("a share is a count over the sum of the counts.", {
            "a softmax of the counts": np.exp(c - numbers.max()) / np.exp(numbers - numbers.max()).sum(),
            "shares of squares": c**2 / (c**2).sum(),
            "shares of logarithms": np.log1p(c) / np.log1p(c).sum(),
        }),
    )  # fmt: skip
    log = choose(
        np.log(share),
        *advised("the logarithm and the power have different bases.", {
            "the binary logarithm": np.log2(share),
            "the decimal logarithm": np.log10(share),
        }),
        *advised("the logarithm should be that of the share itself.", {
            "log(1 + p)": np.log1p(share),
            "log(1 - p)": np.log(1 - share),
            "the logarithm of the count": np.log(c),
            "no logarithm": share,
        }),
    )  # fmt: skip
    terms = choose(
        share * log,
        *advised("each logarithm is weighted by the share, once.", {
            "weighted by the counts": c * log,
            "not weighted": log,
            "weighted by squares": share**2 * log,
            "divided by the share": log / share,
            "the logarithm squared": share * log**2,
        }),
        ("both sides of a choice between two", share * log + (1 - share) * np.log(1 - share),
         "you add what belongs to a choice between two. Each entry has one term."),
    )  # fmt: skip
    nats = choose(
        -terms.sum(),
        ("the sign", terms.sum(), "it is below 1, and should lie between 1 and K: look at the sign of the sum."),
        *advised("an entropy is a sum over the entries, weighted by their shares, not their mean.", {
            "the mean instead of the sum": -terms.sum() / k,
            "the mean over the used entries": -terms.sum() / (len(terms) or 1),
        }),
        ("not summed", -terms, "one number for each entry comes out: what belongs between logarithm and power?"),
        ("the largest term", (-terms).max(initial=0), "you keep the largest term only. All entries count."),
        *advised("the entropy is not compared with its largest value here.", {
            "the entropy over its largest value": -terms.sum() / np.log(k),
            "the entropy below its largest value": np.log(k) + terms.sum(),
        }),
        ("NaN made zero after the sum", np.nan_to_num(-terms.sum()), "if one term is NaN, the whole sum is lost."),
    )  # fmt: skip
    p = c / whole
    return choose(
        np.exp(nats),
        ("the entropy itself", nats, "this is the entropy. What turns it into a number of entries?"),
        *advised("the logarithm and the power have different bases.", {
            "two to a sum of natural logs": 2**nats,
            "ten to a sum of natural logs": 10**nats,
        }),
        ("one, whatever the counts are", 1.0, "1 comes out whatever the counts are: are your shares all 0?"),
        ("the power minus one", np.expm1(nats), "one entry that does all the work should give 1."),
        ("the powers summed", np.exp(-terms).sum(), "you sum the powers. The sum comes first."),
        ("a share of the entries", np.exp(nats) / k, "you divide by K. Is a share asked for?"),
        ("the entries not in use", k - np.exp(nats), "this is how many are not in use."),
        *advised("an entry chosen once in a thousand times should weigh less than one.", {
            "how many were used": np.count_nonzero(counts),
            "the share that was used": np.count_nonzero(counts) / k,
            "how many there are": k,
        }),
        *advised("that is another measure of how many are in use. Where is the logarithm?", {
            "one over the sum of squares": 1 / (p**2).sum(),
            "the sum of squares": (p**2).sum(),
            "one minus the sum of squares": 1 - (p**2).sum(),
            "one over the largest share": 1 / p.max(initial=1e-300),
        }),
    )  # fmt: skip


def perplexity_terms(counts):
    p = counts / counts.sum()
    h = -(p * np.log(p)).sum()
    return {
        "exp(H)": np.exp(h), "H": h, "2^H": 2**h, "exp(-H)": np.exp(-h), "exp(H) / K": np.exp(h) / len(counts),
        "sum(p^2)": (p**2).sum(), "1 / sum(p^2)": 1 / (p**2).sum(), "sum(log p)": np.log(p).sum(), "max(p)": p.max(),
        "log(sum(counts))": np.log(counts.sum()), "sum(counts)": counts.sum(), "K": float(len(counts)),
        "log K": np.log(len(counts)), "1": 1.0,
    }  # fmt: skip


ONE_LONG = "is an axis lost where it has length 1?"
WHICH_AXIS = "any shape will do: is one axis taken for another?"
UNUSED = "what does a count of 0 add in yours?"

FUNCTIONS = [
    Function(
        "nearest_code",
        nearest,
        vectors_and_codebook,
        nearest_model,
        special=[
            Special("a single vector", some_vectors(1, 7, 3), ONE_LONG),
            Special("a codebook of one entry", some_vectors(4, 1, 2), ONE_LONG),
            Special(
                "more than a thousand vectors", some_vectors(1500, 3, 2), "does every one get an entry, up to the last?"
            ),
            Special(
                "vectors of one number",
                {"vectors": np.array([[0.3], [-0.2], [-3.0], [2.0]]), "codebook": np.array([[-1.5], [0.4]])},
                ONE_LONG,
            ),
            Special("as many vectors as entries and numbers", some_vectors(4, 4, 4), "which axis is which?"),
            Special("more than 256 entries", near_entries(260, [258, 3, 257], 0.01), "is there room for so many?"),
            Special(
                "vectors far from all entries",
                some_vectors(5, 4, 2, away=-60.0),
                "is a number too large or too small on the way, or is it compared with a number of your own?",
            ),
            Special(
                "vectors and entries far from zero",
                some_vectors(30, 5, 3, centre=1000.0),
                "large numbers with small differences: is something rounded, scaled or cut off?",
            ),
            Special(
                "vectors and entries close to zero",
                some_vectors(12, 5, 3, size=1e-4),
                "small numbers are as good as large ones: is something rounded, added or cut off?",
            ),
            Special("vectors that are entries", near_entries(5, [3, 0, 4], 0), "a distance may be 0: what then?"),
        ],
        shrink=False,  # zeros and ones make ties, of which either entry is right
    ),
    Function(
        "straight_through",
        lambda z_e, z_q: HandedThrough.apply(z_e, z_q),
        two_tensors,
        straight_through_model,
        special=[
            Special("a z_e of zeros", tensors([[0.0] * 3], [[2.0, -1.0, 3.0]]), "what does a zero in z_e do?"),
            Special("a z_q of zeros", tensors([[2.0, -1.0, 3.0]], [[0.0] * 3]), "what does a zero in z_q do?"),
            Special("a z_q equal to z_e", tensors(*[[[0.5, -1.0, 2.0]]] * 2), "what happens where the two are equal?"),
            Special(
                "steps larger than one",
                tensors([[5.0, -9.0, 0.1]], [[-40.0, 3.0, 7.0]]),
                "a step may have any length: is something cut off?",
            ),
            Special("four axes", tensors(*np.random.default_rng(0).standard_normal((2, 2, 3, 4, 5))), WHICH_AXIS),
            Special("one axis", tensors([0.5, -1.0], [2.0, 0.3]), WHICH_AXIS),
        ],
        terms=straight_through_terms,
        probe="The value should be z_q alone: which term does not cancel?",
        gradient=("z_e", "z_q"),
    ),
    Function(
        "ema_update",
        running_means,
        a_step,
        ema_model,
        in_place=False,
        special=[
            Special(
                "an entry that nobody chose",
                STEP | {"codes": np.array([3, 0, 3, 0, 2])},
                "what do the formulas say for n_k = 0, and how long are your tables?",
            ),
            Special(
                "a last entry that nobody chose",
                STEP | {"codes": np.array([2, 0, 1, 0, 1])},
                "what do the formulas say for n_k = 0, and how long are your tables?",
            ),
            Special(
                "a count close to zero",
                STEP | SMALL,
                "its sum is as small, its quotient is not: is a small number added, or something cut off or rounded?",
            ),
            Special(
                "counts and sums that start at zero",
                STEP | {"counts": np.zeros(4), "sums": np.zeros((4, 2))},
                "by which counts do you divide?",
            ),
            Special("more than 255 vectors for one entry", STEP | MANY, "is there room for so many in your dtype?"),
            Special("a decay of 0", STEP | {"decay": 0.0}, "0 is a decay like any other."),
            Special("a decay of 1", STEP | {"decay": 1.0}, "1 is a decay like any other."),
            Special(
                "a single entry and vector",
                {name: value[:1] for name, value in STEP.items() if name != "decay"}
                | {"codes": np.array([0]), "decay": 0.9},
                ONE_LONG,
            ),
            Special(
                "vectors of one number",
                STEP | {name: STEP[name][:, :1] for name in ("sums", "vectors")},
                ONE_LONG,
            ),
            Special(
                "sums and vectors in one array",
                SHARED,
                "the arguments should stay as they are: is one of them changed on the way?",
            ),
        ],
        terms=ema_terms,
        probe="N and m are the old count and sum, n and v those of the batch. Compare it with the formulas.",
        outputs=OUTPUTS,
    ),
    Function(
        "perplexity",
        lambda counts: np.exp(entropy(counts)),
        some_counts,
        perplexity_model,
        special=[
            Special("an entry that nobody chose", {"counts": np.array([3.0, 0.0, 1.0])}, UNUSED),
            Special("many entries that nobody chose", {"counts": np.array([0.0, 0, 5, 0, 2, 0, 0])}, UNUSED),
            Special("one entry that does all the work", {"counts": np.array([0.0, 4, 0])}, "what should come out?"),
            Special("a codebook of one entry", {"counts": np.array([5.0])}, "what should come out?"),
            Special("entries chosen alike", {"counts": np.full(5, 2.0)}, "what should come out?"),
            Special(
                "counts below 1",
                {"counts": np.array([0.3, 1.6, 0.12, 2.7])},
                "counts may be running means: what happens to fractions of 1?",
            ),
            Special(
                "counts in the millions",
                {"counts": np.array([3e8, 2e9, 7e8, 5e7])},
                "only shares matter: is a number too large or too small on the way?",
            ),
            Special(
                "an entry that is hardly ever chosen",
                {"counts": np.array([4000.0, 2.0, 9000.0])},
                "a small share counts as well: is something left out, cut off or added?",
            ),
            Special(
                "integers",
                {"counts": np.array([3, 5, 2, 1])},
                "np.bincount gives integers: what does your function do with that dtype?",
            ),
        ],
        terms=perplexity_terms,
        probe="H is the entropy, p are the shares. Which number should come out if all counts are alike?",
    ),
]
