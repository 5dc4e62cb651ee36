"""Whether two results differ, how, and where: in words for a learner."""

import numpy as np

ENOUGH = 4  # different wrong values that must agree before a mistake is named


# --- Whether ---------------------------------------------------------------------------------------------------------


def compare(got, want, tolerance):
    """The first difference in words, "" where there is none."""
    if got.shape != want.shape:
        return f"Expected shape {want.shape}, got {got.shape}."
    if np.isfinite(want.astype(float)).all() and not np.isfinite(got.astype(float)).all():
        return "Some values are NaN or infinite."
    wrong = ~close(got, want, tolerance)
    if not wrong.any():
        return ""
    place = tuple(int(i) for i in np.argwhere(wrong)[0])
    at = f" at {list(place)}" if place else ""
    return f"The first wrong value{at}: expected {float(want[place]):.6g}, got {float(got[place]):.6g}."


def same(a, b, tolerance):
    """Whether all of them are close. Tried very often: most pairs differ in their first value already."""
    if a.shape != b.shape or (a.size and abs(float(a.flat[0]) - float(b.flat[0])) > 1e-2 * np.abs(b).max()):
        return False
    return bool(close(a, b, tolerance).all())


def close(a, b, tolerance):
    """Elementwise, relative to the value and a little to the largest one of b; NaN is close to NaN."""
    a, b = np.asarray(a, dtype=float), np.asarray(b, dtype=float)
    scale = float(np.max(np.abs(b), initial=0.0, where=np.isfinite(b)))
    with np.errstate(all="ignore"):
        return np.isclose(a, b, rtol=tolerance, atol=tolerance * max(scale, 1e-3), equal_nan=True)


# --- How: the right values, but ... ----------------------------------------------------------------------------------


def recognised(pairs, tolerance):
    """(a name, a sentence) if what was got is, on every input, what is right but for one number; else None.

    pairs: (the arguments, what was got, what is right) for each input.
    """
    if not alike(pairs) or sum(want.size for _, _, want in pairs) < 2 * ENOUGH:
        return None
    factors, offsets = factors_of(pairs, tolerance), offsets_of(pairs, tolerance)
    if factors and np.allclose(factors, factors[0], rtol=1e-6) and abs(factors[0] - 1) > 1e-3:
        return (
            f"{factors[0]:.6g} times the right one",
            f"every value is {factors[0]:.6g} times the expected one.",
        )
    if offsets and np.allclose(offsets, offsets[0], rtol=1e-6) and abs(offsets[0]) > 1e-3:
        return (
            f"off by {offsets[0]:.6g}",
            f"every value is off by the same number, {offsets[0]:.6g}.",
        )
    return cut_off(pairs, tolerance) or nearly_right(pairs)


def relation(pairs, tolerance):
    """A sentence if what was got is what is right but for one number for each input; else ""."""
    if not alike(pairs) or sum(want.size for _, _, want in pairs) < 2 * len(pairs):
        return ""
    if factors_of(pairs, tolerance):
        return "For each input, all values are the same multiple of the expected ones: how large depends on the input."
    if offsets_of(pairs, tolerance):
        return "For each input, all values are off by the same number: how much depends on the input."
    return ""


def alike(pairs):
    return bool(pairs) and all(got.shape == want.shape and want.dtype != bool for _, got, want in pairs)


def factors_of(pairs, tolerance):
    """For each input the number that the right values are multiplied with, or None."""
    factors = []
    for _, got, want in pairs:
        with np.errstate(all="ignore"):
            quotients = (got.astype(float) / want)[np.abs(want) > 1e-12]
        if not quotients.size or not np.isfinite(quotients[0]) or not same(want * quotients[0], got, 10 * tolerance):
            return None
        factors.append(float(quotients[0]))
    return factors


def offsets_of(pairs, tolerance):
    """For each input the number that is added to the right values, or None."""
    offsets = []
    for _, got, want in pairs:
        if not want.size:
            return None
        offset = float(got.flat[0]) - float(want.flat[0])
        if not np.isfinite(offset) or not same(want + offset, got, 10 * tolerance):
            return None
        offsets.append(offset)
    return offsets


def cut_off(pairs, tolerance):
    """Whether all wrong values are one limit, beyond which the right ones lie (or two limits, on both sides)."""
    got, want = (np.concatenate([pair[i].ravel().astype(float) for pair in pairs]) for i in (1, 2))
    wrong = ~close(got, want, tolerance)
    limits = sorted(set(np.round(got[wrong], 9)))
    if wrong.sum() < ENOUGH or not 1 <= len(limits) <= 2 or not np.isfinite(limits).all() or (want == limits[0]).any():
        return None
    words = []
    for limit in limits:
        beyond = want[wrong & np.isclose(got, limit)]
        if (beyond > limit).all() and want[~wrong].max(initial=limit) <= limit:
            words.append(f"above {limit:.6g}")
        elif (beyond < limit).all() and want[~wrong].min(initial=limit) >= limit:
            words.append(f"below {limit:.6g}")
        else:
            return None
    if len({each.split()[0] for each in words}) < len(words) or len(set(np.round(want, 9))) < 2 * ENOUGH:
        return None  # two limits on one side, or few values that occur at all: no limits
    name = f"cut off {' and '.join(words)}"
    return name, f"values {' and '.join(words)} are cut off in yours."


def nearly_right(pairs):
    """Whether every value is right to two digits or more, and some to no more than ten."""
    for _, got, want in pairs:
        if not np.isfinite(got.astype(float)).all() or not close(got, want, 5e-3).all():
            return None
    return (
        "nearly right",
        "your values differ from the right ones by half a percent or less. What is added, left out, rounded, or done "
        "in another way, that makes so little of a difference?",
    )


# --- Where: only in some rows, only where an argument is zero --------------------------------------------------------


def where(pairs, names, tolerance):
    """A sentence on the entries that are wrong, if they have something in common; else ""."""
    if any(got.shape != want.shape for _, got, want in pairs):
        return ""
    wrong = [~close(got, want, tolerance) for _, got, want in pairs]
    some = [i for i, each in enumerate(wrong) if each.any()]
    if not some or all(wrong[i].all() for i in some):
        return ""
    for words, axis, index in (
        ("the first row", 0, 0),
        ("the last row", 0, -1),
        ("the first column", 1, 0),
        ("the last column", 1, -1),
    ):
        if all(only_there(wrong[i], axis, index) for i in some):
            return f"Only {words} is wrong."
    if all(wrong[i].ndim > 1 and only_there(wrong[i], 0, 0, right=True) for i in some):
        return "Only the first row is right."
    for place, name in enumerate(names):
        for words, holds in CONDITIONS.items():
            if all(just_there(wrong[i], pairs[i][0], place, holds) for i in range(len(pairs))):
                return f"It is wrong just where {name} is {words}."
    return ""


CONDITIONS = {
    "0": lambda a: a == 0,
    "1": lambda a: a == 1,
    "negative": lambda a: a < 0,
    "positive": lambda a: a > 0,
    "above 1": lambda a: a > 1,
    "below 1": lambda a: a < 1,
}


def only_there(wrong, axis, index, right=False):
    if wrong.ndim <= axis or wrong.shape[axis] < 2:
        return False
    there = np.zeros_like(wrong)
    there[(slice(None),) * axis + (index,)] = True
    return np.array_equal(wrong, ~there if right else wrong & there) and wrong.any()


def just_there(wrong, case, place, holds):
    value = case[place] if place < len(case) else None
    if not hasattr(value, "shape") or tuple(value.shape) != wrong.shape:
        return False
    return np.array_equal(holds(np.asarray(value)), wrong)
