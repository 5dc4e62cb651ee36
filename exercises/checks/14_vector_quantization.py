"""Checks of exercise 14. The references are plain loops, SciPy's entropy and a hand-written gradient."""

import numpy as np
import torch
from scipy.stats import entropy

from checking import Function, Misconception


def vectors_and_codebook(rng):
    d = int(rng.integers(2, 5))
    lengths = np.linspace(0.3, 2.5, 7)[:, None]  # so that direction and distance disagree
    return {
        "vectors": rng.standard_normal((rng.integers(20, 40), d)),
        "codebook": lengths * rng.standard_normal((7, d)),
    }


def nearest(vectors, codebook):
    return np.array([min(range(len(codebook)), key=lambda k: np.sum((v - codebook[k]) ** 2)) for v in vectors])


def distances(vectors, codebook):
    return ((vectors[:, None] - codebook) ** 2).sum(2)


def two_tensors(rng):
    shape = (int(rng.integers(1, 5)), 3)
    return {name: torch.from_numpy(rng.standard_normal(shape)) for name in ("z_e", "z_q")}


class HandedThrough(torch.autograd.Function):
    """Forward z_q, backward the gradient to z_e alone."""

    @staticmethod
    def forward(context, z_e, z_q):
        return z_q.clone()

    @staticmethod
    def backward(context, gradient):
        return gradient, torch.zeros_like(gradient)


def a_step(rng):
    k, m, d = int(rng.integers(3, 6)), int(rng.integers(8, 15)), int(rng.integers(2, 4))
    return {
        "counts": rng.uniform(1, 5, k),
        "sums": rng.standard_normal((k, d)),
        "vectors": rng.standard_normal((m, d)),
        "codes": rng.integers(0, k, m),
        "decay": 0.8,
    }


def running_means(counts, sums, vectors, codes, decay):
    counts, sums = decay * counts, decay * sums
    for vector, code in zip(vectors, codes, strict=True):
        counts[code] += (1 - decay) * 1
        sums[code] += (1 - decay) * vector
    return counts, sums, np.stack([total / count for total, count in zip(sums, counts, strict=True)])


def step(counts, sums, vectors, codes, decay, old=None, new=None, divide=None):
    chosen = np.eye(len(counts), dtype=vectors.dtype)[codes]
    old, new = decay if old is None else old, 1 - decay if new is None else new
    after = old * counts + new * chosen.sum(0), old * sums + new * chosen.T @ vectors
    return *after, after[1] / (after[0] if divide is None else divide(counts, chosen))[:, None]


def some_counts(rng):
    return {"counts": rng.integers(1, 9, int(rng.integers(3, 8))).astype(float)}


FUNCTIONS = [
    Function(
        "nearest_code",
        nearest,
        vectors_and_codebook,
        [
            Misconception(
                "argmax of the distance",
                lambda vectors, codebook: distances(vectors, codebook).argmax(1),
                "you pick the entry that is farthest away.",
            ),
            Misconception(
                "the wrong axis",
                lambda vectors, codebook: distances(vectors, codebook).argmin(0),
                "one index per entry comes out. It should be one per vector: along which axis do you look?",
            ),
            Misconception(
                "the largest dot product",
                lambda vectors, codebook: (vectors @ codebook.T).argmax(1),
                "the entry with the largest dot product is not the nearest: long entries win. A term is missing.",
            ),
            Misconception(
                "the smallest dot product",
                lambda vectors, codebook: (vectors @ codebook.T).argmin(1),
                "you look at dot products, and at the least of them: that entry points away from the vector.",
            ),
            Misconception(
                "the missing two",
                lambda vectors, codebook: ((codebook**2).sum(1) - vectors @ codebook.T).argmin(1),
                "expand the square again: how often does the dot product appear?",
            ),
            Misconception(
                "cosine similarity",
                lambda vectors, codebook: (vectors @ (codebook / np.linalg.norm(codebook, axis=1)[:, None]).T).argmax(
                    1
                ),
                "you compare directions only. Two entries in one direction can be far apart.",
            ),
            Misconception(
                "the distance itself",
                lambda vectors, codebook: distances(vectors, codebook).min(1),
                "you return how far the nearest entry is. Which one is it?",
            ),
        ],
    ),
    Function(
        "straight_through",
        lambda z_e, z_q: HandedThrough.apply(z_e, z_q),
        two_tensors,
        [
            Misconception(
                "no trick at all",
                lambda z_e, z_q: z_q + 0 * z_e,
                "the value is right, but the gradient goes to z_q, and nothing reaches the encoder.",
            ),
            Misconception(
                "everything detached",
                lambda z_e, z_q: z_q.detach(),
                "no gradient comes back at all: you cut both ways.",
            ),
            Misconception(
                "the encoder's value",
                lambda z_e, z_q: z_e + (z_q - z_e).detach() * 0,
                "the decoder would see z_e, as if nothing had been quantised.",
            ),
            Misconception(
                "the wrong one detached",
                lambda z_e, z_q: z_q + (z_e - z_q).detach(),
                "you have the two the wrong way round: value of z_e, gradient of z_q.",
            ),
            Misconception(
                "both gradients",
                lambda z_e, z_q: z_q + z_e - z_e.detach(),
                "the value is right and the encoder gets its gradient, but z_q gets one too: the codebook would follow "
                "the decoder.",
            ),
            Misconception(
                "the average of both",
                lambda z_e, z_q: (z_e + z_q) / 2,
                "the decoder should see z_q itself, and the encoder should get the whole gradient.",
            ),
        ],
        gradient=True,
    ),
    Function(
        "ema_update",
        running_means,
        a_step,
        [
            Misconception(
                "the decay the wrong way round",
                lambda counts, sums, vectors, codes, decay: step(counts, sums, vectors, codes, decay, 1 - decay, decay),
                "the old value is forgotten too fast. Which of the two does the decay belong to?",
            ),
            Misconception(
                "a sum instead of a mean",
                lambda counts, sums, vectors, codes, decay: step(counts, sums, vectors, codes, decay, decay, 1.0),
                "the new part has weight 1, so that counts and sums grow: the two weights must add up to one.",
            ),
            Misconception(
                "no memory",
                lambda counts, sums, vectors, codes, decay: step(counts, sums, vectors, codes, decay, 1.0, 1.0),
                "nothing is ever forgotten: where is the decay?",
            ),
            Misconception(
                "divided by the old counts",
                lambda counts, sums, vectors, codes, decay: step(
                    counts, sums, vectors, codes, decay, divide=lambda old, chosen: old
                ),
                "counts and sums are right, the codebook is divided by the counts from before the step.",
            ),
            Misconception(
                "divided by the batch",
                lambda counts, sums, vectors, codes, decay: step(
                    counts, sums, vectors, codes, decay, divide=lambda old, chosen: np.full_like(old, len(chosen))
                ),
                "the codebook is divided by the size of the batch. Each entry has its own count.",
            ),
            Misconception(
                "the codebook forgotten",
                lambda counts, sums, vectors, codes, decay: step(counts, sums, vectors, codes, decay)[:2],
                "the third value is missing: the new codebook.",
            ),
        ],
    ),
    Function(
        "perplexity",
        lambda counts: np.exp(entropy(counts)).astype(counts.dtype),
        some_counts,
        [
            Misconception(
                "the entropy itself",
                lambda counts: entropy(counts),
                "this is the entropy, in nats. What turns nats into a number of entries?",
            ),
            Misconception(
                "the sign",
                lambda counts: np.exp(-entropy(counts)),
                "it is below 1, and should lie between 1 and K: look at the sign of the sum.",
            ),
            Misconception(
                "counts not divided",
                lambda counts: np.exp(-np.sum(counts * np.log(counts))),
                "p log p is for shares: they add up to one, your numbers do not.",
            ),
            Misconception(
                "two to a sum of natural logs",
                lambda counts: 2 ** entropy(counts),
                "the logarithm and the power have different bases.",
            ),
            Misconception(
                "how many were used",
                lambda counts: np.float64((counts > 0).sum()),
                "you count the entries that were ever chosen. One that is chosen once in a thousand times should weigh "
                "less than one.",
            ),
            Misconception(
                "the mean instead of the sum",
                lambda counts: np.exp(-np.mean(counts / counts.sum() * np.log(counts / counts.sum()))),
                "an entropy is a sum over the entries, weighted by their shares, not their mean.",
            ),
        ],
        special=[("an entry that nobody chose", {"counts": np.array([3.0, 0.0, 1.0])})],
    ),
]
