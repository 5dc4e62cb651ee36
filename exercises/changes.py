"""Mistakes that can be made in any function: an argument, or the result, is taken for something near it.

Each change is (words, what becomes of an array); it gives None where it means nothing, or changes nothing that tells.
"{}" stands for the argument's name, "{row}" and "{column}" for what its first and its second axis hold (`ENTRIES`). A
change of a result has advice as well.
"""

import numpy as np
import torch


def rows(change):
    """The change, for arrays with more than one row; None for others, which it cannot tell."""
    return lambda array: change(array) if array.ndim and len(array) > 1 else None


def columns(change):
    """The change, for matrices with more than one column, and for what has more axes."""
    return lambda array: change(array) if array.ndim > 1 and array.shape[1] > 1 else None


def for_all(reduce, axis):
    """One value along an axis, in every place of it."""

    def change(array):
        return np.broadcast_to(reduce(array, axis), array.shape).copy()

    return (rows, columns)[axis](change)


def first(array, axis):
    return np.take(array, [0], axis)


def last(array, axis):
    return np.take(array, [-1], axis)


def mean(array, axis):
    return array.mean(axis, keepdims=True)


def total(array, axis):
    return array.sum(axis, keepdims=True)


def flipped(*axes):
    return lambda array: np.flip(array, axes).copy()


OF_AN_ARGUMENT = [
    ("-{}", np.negative),
    ("|{}|", np.abs),
    ("{}^2", np.square),
    ("2 {}", lambda a: 2 * a),
    ("{} / 2", lambda a: a / 2),
    ("the square root of {}", np.sqrt),
    ("exp({})", np.exp),
    ("exp({} / 2)", lambda a: np.exp(a / 2)),
    ("log({})", np.log),
    ("1 / {}", lambda a: 1 / a),
    ("1 - {}", lambda a: 1 - a),
    ("{} + 1", lambda a: a + 1),
    ("{} - 1", lambda a: a - 1),
    ("0 for {}", np.zeros_like),
    ("1 for {}", np.ones_like),
    ("{} cut off below 0", lambda a: np.maximum(a, 0)),
    ("{} cut off at 0 and 1", lambda a: np.clip(a, 0, 1)),
    ("{} cut off at -1 and 1", lambda a: np.clip(a, -1, 1)),
    ("{} rounded", np.round),
    ("the sign of {}", np.sign),
    ("{} transposed", columns(lambda a: a.swapaxes(-1, -2).copy())),
    ("{} turned by 180 degrees", columns(flipped(-1, -2))),
    ("{} backwards", rows(flipped(0))),
    ("{} backwards along its last axis", columns(flipped(-1))),
    ("{} sorted", rows(lambda a: np.sort(a, 0))),
    ("{} less its mean {row}", rows(lambda a: a - mean(a, 0))),
    ("{} less its mean {column}", columns(lambda a: a - mean(a, 1))),
    ("the first {row} of {} for all", for_all(first, 0)),
    ("the last {row} of {} for all", for_all(last, 0)),
    ("the first {column} of {} for all", for_all(first, 1)),
    ("the mean {row} of {} for all", for_all(mean, 0)),
    ("the mean {column} of {} for all", for_all(mean, 1)),
    ("{} without its last {row}", rows(lambda a: a[:-1].copy())),
    ("{} without its first {row}", rows(lambda a: a[1:].copy())),
    ("{} divided by its sum", rows(lambda a: a / a.sum())),
    ("{} divided by its largest value", rows(lambda a: a / a.max())),
    ("{} less its largest value", rows(lambda a: a - a.max())),
]
ENTRIES = {1: ("entry", ""), 2: ("row", "column")}  # what the first two axes hold, by the number of axes
MORE_AXES = ("entry along axis 0", "entry along axis 1")
OF_A_RESULT = [
    ("zero everywhere", np.zeros_like, "every value is 0 in yours: does all cancel, or is nothing ever filled in?"),
    ("the sign", np.negative, "every value has the wrong sign."),
    ("the absolute value", np.abs, "no value is negative in yours, though some should be."),
    ("nothing below zero", lambda a: np.maximum(a, 0), "what is below zero is 0 in yours: is something cut off?"),
    ("nothing above one", lambda a: np.minimum(a, 1), "what is above one is 1 in yours: is something cut off?"),
    ("between 0 and 1", lambda a: np.clip(a, 0, 1), "what lies outside of 0 to 1 is cut off in yours."),
    ("signs only", np.sign, "only the signs are left of the values."),
    ("twice the value", lambda a: 2 * a, "every value is twice too large."),
    ("half the value", lambda a: a / 2, "every value is half of what it should be."),
    ("four times the value", lambda a: 4 * a, "every value is four times too large."),
    ("a quarter of the value", lambda a: a / 4, "every value is a quarter of what it should be."),
    ("one too many", lambda a: a + 1, "every value is too large by one."),
    ("one too few", lambda a: a - 1, "every value is too small by one."),
    ("the complement", lambda a: 1 - a, "every value is 1 minus the right one."),
    ("one over the value", lambda a: 1 / a, "every value is one over the right one."),
    ("the square", np.square, "every value is the square of the right one."),
    ("the square root", np.sqrt, "every value is the square root of the right one."),
    ("the logarithm", np.log, "every value is the logarithm of the right one."),
    ("the exponential", np.exp, "every value is the exponential of the right one."),
    ("bits for nats", lambda a: a / np.log(2), "every value is as in bits, where nats belong."),
    ("nats for bits", lambda a: a * np.log(2), "every value is ln 2 times the right one."),
    ("percent", lambda a: 100 * a, "every value is a hundred times too large."),
    ("whole numbers", np.floor, "every value is rounded down to a whole number: a division without a rest?"),
    ("rounded", np.round, "every value is rounded to a whole number."),
    (
        "divided by the length of the first axis",
        rows(lambda a: a / len(a)),
        "every value is too small by a factor, the length of the result's first axis.",
    ),
    (
        "times the length of the first axis",
        rows(lambda a: a * len(a)),
        "every value is too large by a factor, the length of the result's first axis.",
    ),
    (
        "divided by the length of the second axis",
        columns(lambda a: a / a.shape[1]),
        "every value is too small by a factor, the length of the result's second axis.",
    ),
    (
        "times the length of the second axis",
        columns(lambda a: a * a.shape[1]),
        "every value is too large by a factor, the length of the result's second axis.",
    ),
    (
        "the mean along the first axis",
        for_all(mean, 0),
        "along the result's first axis all are the same, the mean of the right ones. Keep them apart.",
    ),
    (
        "the sum along the first axis",
        for_all(total, 0),
        "along the result's first axis all are the same, the sum of the right ones. Keep them apart.",
    ),
    (
        "the mean along the second axis",
        for_all(mean, 1),
        "along the result's second axis all are the same, the mean of the right ones. Keep them apart.",
    ),
    (
        "the sum along the second axis",
        for_all(total, 1),
        "along the result's second axis all are the same, the sum of the right ones. Keep them apart.",
    ),
    ("the first for all", for_all(first, 0), "along the result's first axis all are like the first one."),
    ("less the mean", rows(lambda a: a - a.mean()), "the mean of all values has been taken off."),
    (
        "less the mean along the first axis",
        columns(lambda a: a - mean(a, 0)),
        "the mean along the first axis has been taken off.",
    ),
    ("divided by its sum", rows(lambda a: a / a.sum()), "the values add up to 1 in yours."),
    ("transposed", columns(lambda a: a.swapaxes(-1, -2)), "right, but transposed: the last two axes are exchanged."),
    ("as a column", lambda a: a[:, None] if a.ndim == 1 else None, "the values stand in a column: an axis too many."),
    ("as a row", lambda a: a[None] if a.ndim == 1 else None, "the values stand in a row: an axis too many."),
    ("backwards", rows(flipped(0)), "the right values come in the opposite order."),
    (
        "backwards along the last axis",
        columns(flipped(-1)),
        "along the last axis the right values come in the opposite order.",
    ),
    ("sorted", rows(lambda a: np.sort(a, 0)), "the right values come in order of size: whose are they then?"),
    (
        "one place too late",
        rows(lambda a: np.roll(a, 1, 0)),
        "along the first axis the right values come one place too late.",
    ),
    (
        "one place too early",
        rows(lambda a: np.roll(a, -1, 0)),
        "along the first axis the right values come one place too early.",
    ),
    ("the opposite truth", lambda a: ~a if a.dtype == bool else None, "true and false are exchanged."),
    ("always true", lambda a: np.ones_like(a) if a.dtype == bool else None, "the answer is always true."),
    ("always false", lambda a: np.zeros_like(a) if a.dtype == bool else None, "the answer is always false."),
]


def of_arguments(names, case):
    """(words, advice, change of all arguments), for each argument that holds floats, and each two that fit together."""
    for place, name in enumerate(names[: len(case)]):
        if is_float(case[place]):
            row, column = ENTRIES.get(len(shape(case[place])), MORE_AXES)
            for words, change in OF_AN_ARGUMENT:
                mistaken = words.format(name, row=row, column=column)
                yield (
                    mistaken,
                    f"your values are those with {mistaken} in the place of {name}.",
                    changed(place, change),
                )
    for i, a in enumerate(names[: len(case)]):
        for j in range(i + 1, len(case)):
            if shape(case[i]) == shape(case[j]) and kind_of(case[i]) == kind_of(case[j]):
                words = f"{a} and {names[j]} exchanged"
                yield words, f"your values are those with {a} and {names[j]} exchanged.", exchanged(i, j)


def shape(value):
    return tuple(getattr(value, "shape", ()))


def kind_of(value):
    return str(getattr(value, "dtype", type(value)))


def is_float(value):
    return isinstance(value, float) or "float" in kind_of(value)


def changed(place, change):
    def apply(case):
        if place >= len(case):  # an argument with a default, left out
            return None
        value = case[place]
        array = np.asarray(value) if not isinstance(value, torch.Tensor) else value.detach().numpy()
        with np.errstate(all="ignore"):
            new = change(array)
        if new is None or (np.shape(new) == array.shape and np.array_equal(new, array, equal_nan=True)):
            return None
        new = torch.from_numpy(np.ascontiguousarray(new)) if isinstance(value, torch.Tensor) else new
        new = float(new) if isinstance(value, float) else new
        return (*case[:place], new, *case[place + 1 :])

    return apply


def exchanged(i, j):
    def apply(case):
        if j >= len(case):
            return None
        case = list(case)
        case[i], case[j] = case[j], case[i]
        return tuple(case)

    return apply
