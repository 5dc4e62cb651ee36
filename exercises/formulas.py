"""Your formula, read back: which sum of known terms gives exactly the values that an answer returns?

A check offers terms, each an array of the output's shape for one input. The answer's values on many random inputs are
solved for the terms' coefficients. If nothing is left over and the coefficients are simple numbers, the sum is what the
answer computes, and can be said in words.
"""

import math
from fractions import Fraction

import numpy as np

FRACTIONS = sorted({Fraction(a, b) for a in range(1, 13) for b in (1, 2, 3, 4, 6, 8)}, key=lambda f: (f.denominator, f))
CONSTANTS = {"": 1.0, "log(2)": math.log(2), "log(2 pi)": math.log(2 * math.pi), "pi": math.pi}
MOST_TERMS = 8  # a longer sum tells nobody anything


def read_back(terms, got):
    """The formula in words, or None.

    terms: for each input {words: array that broadcasts to the output's shape}; "1" is the constant. got: for each the
    answer's output.
    """
    if not got or not all(np.isfinite(output).all() for output in got):
        return None
    matrix = np.concatenate(
        [
            np.stack([np.broadcast_to(np.asarray(term, float), output.shape).ravel() for term in each.values()], axis=1)
            for each, output in zip(terms, got, strict=True)
        ]
    )
    target = np.concatenate([np.asarray(output, float).ravel() for output in got])
    names = list(terms[0])
    kept = independent(matrix)
    if len(target) < 2 * len(kept):
        return None
    coefficients = np.zeros(len(names))
    scale = np.abs(matrix[:, kept]).max(axis=0)
    coefficients[kept] = np.linalg.lstsq(matrix[:, kept] / scale, target, rcond=None)[0] / scale
    spread = float(np.abs(target).max())
    # A coefficient that does not move any value is a zero that was not quite computed.
    coefficients[np.abs(coefficients) * np.abs(matrix).max(axis=0) < 1e-8 * spread] = 0
    found = {name: simple(value) for name, value in zip(names, coefficients, strict=True) if value != 0}
    if None in found.values() or not 0 < len(found) <= MOST_TERMS:
        return None
    exact = matrix[:, coefficients != 0] @ np.array([value for value, _ in found.values()])
    return in_words(found) if np.allclose(exact, target, rtol=1e-8, atol=1e-9 * spread) else None


def independent(matrix):
    """The columns that are finite and no sum of those before them."""
    kept, basis = [], np.zeros((len(matrix), 0))
    for place, column in enumerate(matrix.T):
        size = np.linalg.norm(column)
        if not np.isfinite(size) or size == 0:
            continue
        rest = column / size
        for _ in range(2):  # twice is enough, against rounding
            rest = rest - basis @ (basis.T @ rest)
        if np.linalg.norm(rest) > 1e-7:
            kept.append(place)
            basis = np.column_stack([basis, rest / np.linalg.norm(rest)])
    return kept


def simple(value):
    """(The simple number next to a value, in words), None if there is none within a millionth."""
    for words, constant in CONSTANTS.items():
        for fraction in FRACTIONS:
            if math.isclose(abs(value), float(fraction) * constant, rel_tol=1e-6):
                number = "" if fraction == 1 and words else str(fraction)
                return math.copysign(float(fraction) * constant, value), " ".join(filter(None, (number, words)))
    return None


def in_words(found):
    """{"mu^2": (0.5, "1/2"), "1": (-0.5, "1/2")} is "1/2 mu^2 - 1/2"."""
    text = ""
    for name, (value, number) in found.items():
        sign = (" - " if value < 0 else " + ") if text else ("-" if value < 0 else "")
        text += sign + (number if name == "1" else name if number == "1" else f"{number} {name}")
    return text


def sums_and_means(parts, axis=1):
    """Terms of an output that has lost an axis: sums and means of the parts over it, 1, and the axis's length."""
    terms = {}
    for name, array in parts.items():
        terms |= {f"sum({name})": array.sum(axis), f"mean({name})": array.mean(axis)}
    length = next(iter(parts.values())).shape[axis]
    return terms | {"1": 1.0, "Z": float(length)}
