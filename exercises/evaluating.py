"""Calling a learner's function: whatever it returns, raises or changes becomes an `Outcome` of plain arrays.

This is the part of a check that runs in a process of its own (`isolation.py`): it knows nothing of what is right.
"""

import contextlib
import copy
import io
import sys
import traceback
import warnings
from dataclasses import dataclass

import numpy as np
import torch

MOST_VALUES = 10**7  # what an answer may return: far more than any right one does


@dataclass(frozen=True)
class Call:
    """One call: the arguments by position.

    gradient: the places of the tensors with respect to which gradients are asked for. seed: of the global generators of
    NumPy and PyTorch during the call.
    """

    arguments: tuple
    gradient: tuple = ()
    seed: int = 0


@dataclass(frozen=True)
class Outcome:
    """What came of a call.

    values: what was returned as NumPy arrays, in a tuple of one if it was not several. kinds: what each was, in words.
    gradients: of a weighted sum of the values, with respect to each tensor that was asked for; None where none was, or
    none can pass. changed: whether an argument was changed in place. problem: what went wrong instead, in words for the
    learner; unwritten: it is a stub still; fatal: no further call is worth it. names: for each value the one that it
    has in a dictionary, or "".
    """

    values: tuple = ()
    kinds: tuple = ()
    gradients: tuple | None = None
    changed: bool = False
    problem: str = ""
    unwritten: bool = False
    fatal: bool = False
    names: tuple = ()


def evaluate(answer, call):
    """The `Outcome` of answer(*call.arguments) on copies. Never raises, but for KeyboardInterrupt."""
    arguments = copy.deepcopy(call.arguments)
    tensors = [arguments[place].requires_grad_() for place in call.gradient]
    try:
        with quiet(), seeded(call.seed):
            returned = answer(*arguments)
            several = isinstance(returned, (tuple, list)) and not is_one_array(returned)
            each, names = one_by_one(returned, several)
            values, kinds = tuple(map(as_array, each)), tuple(map(kind, each))
            if several and len(values) == 1:  # a list of rows that has one row
                values = (values[0][None],)
            gradients = gradients_of(each, tensors) if call.gradient else None
    except NotImplementedError as error:
        return Outcome(unwritten=True, problem=unwritten(answer, error))
    except (Exception, SystemExit) as error:
        return Outcome(problem=stopped(answer, error))
    pairs = zip(leaves(call.arguments), leaves(arguments), strict=True)
    return Outcome(values, kinds, gradients, any(differ(*pair) for pair in pairs), names=names)


def one_by_one(returned, several):
    """The values that were returned one by one, and for each the name that it has in a dictionary, or "".

    several: whether a tuple or a list is several values, or one array.
    """
    if isinstance(returned, dict):
        return tuple(returned.values()), tuple(map(str, returned))
    if not several:
        return (returned,), ("",)
    parts = [one_by_one(value, False) for value in returned]
    return tuple(value for values, _ in parts for value in values), tuple(name for _, names in parts for name in names)


def values_of(returned):
    """What a function of our own returns, several values in a tuple, as a tuple of arrays."""
    return tuple(map(as_array, one_by_one(returned, isinstance(returned, tuple))[0]))


class Silence(io.TextIOBase):
    """A stream that forgets what is written to it: an answer may print as much as it likes."""

    def write(self, text):
        return len(text)


@contextlib.contextmanager
def quiet():
    """No warnings about overflow, nothing on the screen, and nothing to read from the keyboard."""
    keyboard = sys.stdin
    sys.stdin = io.StringIO()
    try:
        with np.errstate(all="ignore"), warnings.catch_warnings(), contextlib.redirect_stdout(Silence()):
            warnings.simplefilter("ignore")
            yield
    finally:
        sys.stdin = keyboard


@contextlib.contextmanager
def seeded(seed):
    """The global generators of NumPy and PyTorch, seeded for a while: an answer that draws draws the same again."""
    before = np.random.get_state()  # noqa: NPY002 - learners do use it
    np.random.seed(seed)  # noqa: NPY002
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            yield
    finally:
        np.random.set_state(before)  # noqa: NPY002


def is_one_array(value):
    """Whether a list or tuple can only be meant as one array: its entries are plain numbers, or lists of them."""
    return isinstance(value, (bool, int, float)) or (
        isinstance(value, (list, tuple)) and bool(value) and all(map(is_one_array, value))
    )


def as_array(value):
    """Raises TypeError, with words for the learner, for what holds no numbers."""
    if value is None:
        raise TypeError("it returns nothing: is there a `return`?")
    try:
        array = value.detach().cpu().numpy() if isinstance(value, torch.Tensor) else np.asarray(value)
    except ValueError:
        raise TypeError(f"it returns {kind(value)} of arrays that differ in shape, where one array belongs") from None
    if array.size > MOST_VALUES:
        raise TypeError(f"it returns {array.size:,} values")
    if array.dtype.kind not in "biuf":
        raise TypeError(f"it returns {kind(value)}, in which not everything is a number")
    return np.array(array)


def kind(value):
    if isinstance(value, torch.Tensor):
        return f"a tensor of {str(value.dtype).removeprefix('torch.')}"
    if isinstance(value, (np.ndarray, np.generic)):
        return f"an array of {value.dtype}"
    return f"a {type(value).__name__}"


def gradients_of(returned, tensors):
    """Of a weighted sum of all returned values, with respect to each of `tensors`; zeros where one has no part."""
    sums = [
        (value * weights_like(value)).sum()
        for value in returned
        if isinstance(value, torch.Tensor) and value.requires_grad
    ]
    if not sums:
        return None
    found = torch.autograd.grad(sum(sums), tensors, allow_unused=True)
    pairs = zip(found, tensors, strict=True)
    return tuple(as_array(torch.zeros_like(tensor) if gradient is None else gradient) for gradient, tensor in pairs)


def weights_like(value):
    """Fixed numbers from 0.5 to 1.5, all different: under equal ones a gradient and its mean look the same."""
    return torch.linspace(0.5, 1.5, value.numel(), dtype=value.dtype).reshape(value.shape)


def unwritten(answer, error):
    [*_, innermost] = traceback.extract_tb(error.__traceback__)
    if innermost.name in (getattr(answer, "__name__", None), "evaluate"):
        return "not written yet: replace the line that raises NotImplementedError by your own (and delete it)."
    return f"it calls {innermost.name}, which is not written yet."


def stopped(answer, error):
    """In words, with the innermost line that is the learner's own."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if frame.name == getattr(answer, "__name__", None)]
    a_file = own and own[-1].filename.endswith(".py") and "ipykernel" not in own[-1].filename  # which cells are, too
    where = f" in line {own[-1].lineno} of {'the file' if a_file else 'its cell'}" if own else ""
    words = " ".join(str(error).split())[:300]
    if isinstance(error, TypeError) and words.startswith("it returns"):
        return f"I{words[1:]}" + "." * (not words.endswith("?"))
    if isinstance(error, EOFError):
        return f"It waits for the keyboard{where}: all it needs comes as an argument."
    if isinstance(error, MemoryError) or "can't allocate memory" in words or "not enough memory" in words:
        return f"It asks for more memory than there is{where}: how large do its arrays become?"
    return f"It stops{where} with {type(error).__name__}{f': {words}' if words else ''}."


def leaves(arguments):
    """The arguments one by one, those inside a dictionary too."""
    for each in arguments:
        yield from each.values() if isinstance(each, dict) else (each,)


def differ(before, after):
    if not isinstance(before, (np.ndarray, torch.Tensor)):
        return False
    before, after = as_array(before), as_array(after)
    return before.shape != after.shape or not np.array_equal(before, after, equal_nan=before.dtype.kind == "f")
