"""The smallest input that shows a mistake, found by trying smaller ones, and as a line to paste."""

import itertools

import numpy as np
import torch

from differences import same

MOST_CALLS = 150
MOST_CHARACTERS = 600  # a longer example helps nobody


class Smallest:
    """A generator for a check's inputs that gives the smallest sizes it may."""

    def __init__(self, seed):
        self.rng = np.random.default_rng(seed)

    def integers(self, low, high=None, size=None, **options):
        if size is not None:
            return self.rng.integers(low, high, size, **options)
        return 0 if high is None else low

    def __getattr__(self, name):
        return getattr(self.rng, name)


def smallest(judgement, place):
    """The smallest input found that goes wrong, as a line to paste, with both outputs; "" if that is a long line."""
    function = judgement.function
    calls = itertools.count()

    def differs(case):
        if next(calls) > MOST_CALLS:
            return None
        try:
            want = function.right(case)
        except Exception:  # a smaller input may be none that makes sense
            return None
        if not all(np.isfinite(each.astype(float)).all() for each in want):
            return None
        got = judgement.answer(case, want)
        if got is None or got[place].shape != want[place].shape or same(got[place], want[place], judgement.tolerance):
            return None
        return got[place], want[place]

    candidates = [tuple(function.inputs(Smallest(seed)).values()) for seed in range(3)]
    candidates += judgement.cases[:3] + judgement.cases[len(judgement.cases) - len(function.special) :]
    failing = [case for case in candidates if differs(case)]
    if not failing:
        return ""
    case = min(failing, key=lambda each: sum(np.size(as_plain(value)) for value in each))
    if function.shrink:
        case = simplified(case, differs)
    found = differs(case)
    if not found:
        return ""
    got, want = found
    text = (
        f"The smallest example found: {function.name}({', '.join(map(pasted, case))}) gives {shown(got)}; "
        f"right is {shown(want)}."
    )
    return text if len(text) < MOST_CHARACTERS else ""


def simplified(case, differs):
    """The case with as many of its entries as possible rounded, then made 0 or 1, as long as it goes wrong."""
    for change in (lambda array: np.round(array, 1), np.round):
        for place in range(len(case)):
            other = replaced(case, place, change)
            if other is not None and differs(other):
                case = other
    for place in range(len(case)):
        size = as_plain(case[place]).size if is_float(case[place]) else 0
        for entry in range(min(size, 12)):
            for number in (0.0, 1.0):

                def set_one(array, entry=entry, number=number):
                    array = array.copy()
                    array.flat[entry] = number
                    return array

                other = replaced(case, place, set_one)
                if other is not None and differs(other):
                    case = other
                    break
    return case


def is_float(value):
    return isinstance(value, float) or "float" in str(getattr(value, "dtype", ""))


def as_plain(value):
    return value.detach().numpy() if isinstance(value, torch.Tensor) else np.asarray(value)


def replaced(case, place, change):
    """The case with one float argument changed, None if that changes nothing."""
    value = case[place]
    if not is_float(value):
        return None
    before = as_plain(value)
    after = change(before) + 0.0  # no minus zero
    if np.array_equal(before, after):
        return None
    new = torch.from_numpy(after) if isinstance(value, torch.Tensor) else after if before.ndim else float(after)
    return (*case[:place], new, *case[place + 1 :])


def pasted(value):
    """A value as one would type it."""
    if isinstance(value, torch.Tensor):
        return f"torch.tensor({shown(value.detach().numpy())})"
    if isinstance(value, np.ndarray) and value.ndim:
        return f"np.array({shown(value)})"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{name!r}: {pasted(each)}" for name, each in value.items()) + "}"
    return shown(np.asarray(value))


def shown(array):
    """An array as nested lists, with six digits."""
    if array.dtype.kind == "f":
        rounded = np.vectorize(lambda number: float(f"{number:.6g}"), otypes=[float])(array) if array.size else array
        return str(rounded.tolist())
    return str(array.tolist())
