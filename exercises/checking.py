"""Checks that say which mistake was made: an answer is compared with a reference, then with known wrong answers.

A check file (`checks/NN_name.py`) lists the functions of one exercise:

    FUNCTIONS = [Function(name, reference, inputs, misconceptions, special, gradient)]

The order of the questions is the order in which they can be answered: is it written, does it run, what type, shape and
dtype, is it finite, are the values right (on random inputs that change from run to run), the special cases, the
gradient, does it leave its inputs alone, does it work for other batch sizes and in float32. As soon as one answer is
no, the known misconceptions are tried: if one of them gives what the learner's function gives, its advice is shown.
"""

import contextlib
import copy
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch


@dataclass(frozen=True)
class Misconception:
    """A small wrong implementation with a name and one sentence of advice, which must not give the answer away."""

    name: str
    function: Callable
    advice: str


@dataclass(frozen=True)
class Function:
    """One function to write.

    name: as in the exercise. reference: a right implementation, independent of the solution where there is one.
    inputs(rng): keyword arguments for one call, float64, of a size that rng chooses (NumPy arrays, tensors, numbers).
    misconceptions: what learners get wrong. special: (what it shows, arguments) where a wrong answer may still be right
    elsewhere. gradient: compare the gradients with respect to the floating point tensors too. tolerance: relative.
    """

    name: str
    reference: Callable
    inputs: Callable
    misconceptions: Sequence[Misconception] = ()
    special: Sequence[tuple[str, dict]] = field(default_factory=tuple)
    gradient: bool = False
    tolerance: float = 1e-7


@dataclass(frozen=True)
class Result:
    """ok, and what to tell the learner. misconception: the name of the one that was recognised."""

    ok: bool
    message: str
    misconception: str | None = None


class Problem(Exception):
    """What is wrong with an answer, in words for the learner."""


NUM_CASES = 5


def check_function(function, answer, seed=None):
    """Compare a learner's function with the reference on random inputs. Returns a Result; never raises."""
    seed = int(np.random.SeedSequence().generate_state(1)[0]) if seed is None else seed
    rng = np.random.default_rng(seed)
    cases = [function.inputs(rng) for _ in range(NUM_CASES)]
    try:
        for number, case in enumerate(cases):
            try:
                compare(function, answer, case)
            except Problem as problem:
                if number == 0 or isinstance(problem, NotWritten):
                    raise
                raise Problem(
                    f"It is right for inputs {sizes(cases[0])} and wrong for {sizes(case)}. {problem}"
                ) from None
        for what, case in function.special:
            try:
                compare(function, answer, case)
            except Problem as problem:
                raise Problem(f"It is right for ordinary inputs, but not for {what}. {problem}") from None
        for case in cases[:2]:
            check_inputs_kept(answer, case)
            if function.gradient:
                check_gradient(function, answer, case)
        check_float32(function, answer, cases[0])
    except NotWritten as problem:
        return Result(False, str(problem))
    except Problem as problem:
        if found := diagnose(function, answer, [*cases, *(case for _, case in function.special)]):
            return Result(False, f"{found.name}: {found.advice}", found.name)
        return Result(False, f"{problem} (Random inputs from seed {seed}.)")
    return Result(True, "right")


class NotWritten(Problem):
    """The stub is still there."""


def call(answer, case):
    """answer(**case) on a copy of the arguments. Raises Problem for whatever it raises."""
    try:
        with np.errstate(all="ignore"):
            return answer(**copy.deepcopy(case))
    except NotImplementedError:
        raise NotWritten(
            "not written yet: replace the line that raises NotImplementedError by your own (and delete it)."
        ) from None
    except (Exception, SystemExit) as error:
        # The innermost line that is the learner's own, never one of ours.
        own = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.name == answer.__name__]
        where = f" in line {own[-1].lineno} of its cell" if own else ""
        raise Problem(f"It stops{where} with {type(error).__name__}: {error}.") from None


def compare(function, answer, case, tolerance=None):
    """Raises Problem that names the first difference between the answer and the reference."""
    got, want = call(answer, case), call(function.reference, case)
    if isinstance(want, tuple):
        if not isinstance(got, tuple) or len(got) != len(want):
            raise Problem(f"Expected {len(want)} values, got {describe(got)}.")
        for place, (a, b) in enumerate(zip(got, want, strict=True)):
            compare_values(a, b, f"Value {place + 1}: ", tolerance or function.tolerance)
    else:
        compare_values(got, want, "", tolerance or function.tolerance)


def compare_values(got, want, where, tolerance):
    if isinstance(want, (bool, float, int)):  # a plain number or truth value: any kind of it will do
        want = np.float64(want)
        got = np.float64(got) if isinstance(got, (bool, float, int, np.generic)) else got
    if isinstance(want, np.floating) and isinstance(got, np.ndarray) and got.ndim == 0:
        got = got[()]
    kind = torch.Tensor if isinstance(want, torch.Tensor) else (np.ndarray, np.generic)
    if got is None:
        raise Problem(f"{where}It returns nothing: is there a `return`?")
    if not isinstance(got, kind):
        expected = "a torch.Tensor" if kind is torch.Tensor else "a NumPy array or number"
        raise Problem(f"{where}Expected {expected}, got {describe(got)}.")
    if tuple(got.shape) != tuple(want.shape):
        raise Problem(f"{where}Expected shape {tuple(want.shape)}, got {tuple(got.shape)}.")
    if got.dtype != want.dtype:
        raise Problem(f"{where}Expected dtype {want.dtype}, got {got.dtype}: let it follow the inputs.")
    a, b = as_array(got), as_array(want)
    if b.dtype == bool:
        a, b = a.astype(float), b.astype(float)
    if np.isfinite(b).all() and not np.isfinite(a).all():
        raise Problem(f"{where}Some values are NaN or infinite.")
    wrong = ~np.isclose(
        a, b, rtol=tolerance, atol=tolerance * max(1.0, float(np.max(np.abs(b), initial=0))), equal_nan=True
    )
    if wrong.any():
        place = tuple(int(i) for i in np.argwhere(wrong)[0])
        at = f" at {list(place)}" if place else ""
        raise Problem(f"{where}The first wrong value{at}: expected {b[place]:.6g}, got {a[place]:.6g}.{ratio(a, b)}")


def ratio(a, b):
    """A sentence if one is a constant multiple of the other: often that is the mistake."""
    with np.errstate(all="ignore"):
        quotients = (a / b)[np.abs(b) > 1e-12]
    constant = quotients.size > 1 and np.allclose(quotients, quotients.flat[0], rtol=1e-5)
    if constant and np.isfinite(quotients).all() and not np.isclose(quotients.flat[0], 1):
        return f" Every value is {quotients.flat[0]:.6g} times the expected one."
    return ""


def diagnose(function, answer, cases):
    """The misconception whose function gives what the answer gives, on every case; None if there is none."""
    for misconception in function.misconceptions:
        pairs = [(outcome(misconception.function, case), outcome(answer, case)) for case in cases]
        # Two functions that only stop, for whatever reason, need not be the same mistake.
        if all(alike(*pair) for pair in pairs) and any(isinstance(values, list) for values, _ in pairs):
            return misconception
    return None


def outcome(function, case):
    """What a function does to a case: its values, its gradients, or that it stopped, and what it left in its inputs."""
    arguments = copy.deepcopy(case)
    tensors = [value for value in arguments.values() if isinstance(value, torch.Tensor) and value.is_floating_point()]
    for tensor in tensors:
        tensor.requires_grad_(True)
    try:
        # An answer that draws its own noise draws the same as the misconception that does.
        with np.errstate(all="ignore"), torch.random.fork_rng(devices=[]), numpy_seed(0):
            torch.manual_seed(0)
            values = function(**arguments)
            values = values if isinstance(values, tuple) else (values,)
            arrays = [as_array(value) for value in values]
            if not all(np.issubdtype(array.dtype, np.number) or array.dtype == bool for array in arrays):
                return TypeError
            scalars = [value.sum() for value in values if isinstance(value, torch.Tensor) and value.requires_grad]
            if scalars:
                gradients = torch.autograd.grad(sum(scalars), tensors, allow_unused=True)
                arrays += [np.zeros(()) if g is None else as_array(g) for g in gradients]
            left = [
                as_array(value) for value in flat(arguments).values() if isinstance(value, (np.ndarray, torch.Tensor))
            ]
            return arrays + left
    except Warning:  # a test's, not the answer's
        raise
    except (Exception, SystemExit) as error:
        return type(error)


@contextlib.contextmanager
def numpy_seed(seed):
    """NumPy's global generator, seeded for a while."""
    before = np.random.get_state()  # noqa: NPY002 - learners do use it
    np.random.seed(seed)  # noqa: NPY002
    try:
        yield
    finally:
        np.random.set_state(before)  # noqa: NPY002


def alike(a, b):
    if not isinstance(a, list) or not isinstance(b, list):
        return a == b
    return len(a) == len(b) and all(
        x.shape == y.shape and x.dtype.kind == y.dtype.kind and np.allclose(x, y, rtol=1e-7, atol=1e-9, equal_nan=True)
        for x, y in zip(a, b, strict=True)
    )


def check_inputs_kept(answer, case):
    arguments = copy.deepcopy(case)
    with np.errstate(all="ignore"):
        answer(**arguments)
    arguments = flat(arguments)
    for name, before in flat(case).items():
        if isinstance(before, (np.ndarray, torch.Tensor)) and not np.array_equal(
            as_array(before), as_array(arguments[name]), equal_nan=True
        ):
            raise Problem(f"The values are right, but it changes its input {name} in place: work on a new array.")


def flat(arguments):
    """Arguments by name, those inside a dictionary too."""
    return {
        name if key is None else f"{name}[{key!r}]": each
        for name, value in arguments.items()
        for key, each in (value.items() if isinstance(value, dict) else [(None, value)])
    }


def check_gradient(function, answer, case):
    """Gradients of the summed output with respect to every floating point tensor."""
    gradients = []
    for each in (function.reference, answer):
        arguments = copy.deepcopy(case)
        tensors = {
            k: v.requires_grad_(True) for k, v in arguments.items() if torch.is_tensor(v) and v.is_floating_point()
        }
        try:
            values = each(**arguments)
        except RuntimeError as error:
            raise Problem(f"The values are right, but no gradient can pass: {error}.") from None
        total = sum(value.sum() for value in (values if isinstance(values, tuple) else (values,)))
        if not total.requires_grad:
            raise Problem("The values are right, but no gradient comes back: is something detached or done in NumPy?")
        found = torch.autograd.grad(total, list(tensors.values()), allow_unused=True)
        gradients.append(
            {k: torch.zeros_like(v) if g is None else g for (k, v), g in zip(tensors.items(), found, strict=True)}
        )
    for name, want in gradients[0].items():
        try:
            compare_values(gradients[1][name], want, "", 1e-6)
        except Problem as problem:
            raise Problem(f"The values are right, but not the gradient with respect to {name}. {problem}") from None


def check_float32(function, answer, case):
    """The same call in single precision: the answer must follow its inputs' dtype."""
    single = {name: to_float32(value) for name, value in case.items()}
    try:
        compare(function, answer, single, tolerance=1e-3)
    except Problem as problem:
        hint = (
            " (A NumPy number, such as np.log(2), makes float64 of an array: math.log does not.)"
            if "dtype" in str(problem)
            else ""
        )
        raise Problem(f"It is right in float64, but not in float32. {problem}{hint}") from None


def to_float32(value):
    if isinstance(value, dict):
        return {name: to_float32(each) for name, each in value.items()}
    if isinstance(value, torch.Tensor) and value.is_floating_point():
        return value.float()
    if isinstance(value, np.ndarray) and value.dtype == np.float64:
        return value.astype(np.float32)
    return value


def as_array(value):
    return value.detach().cpu().numpy() if isinstance(value, torch.Tensor) else np.asarray(value)


def describe(value):
    if isinstance(value, tuple):
        return f"{len(value)} values"
    return "nothing" if value is None else f"a {type(value).__name__}"


def sizes(case):
    shapes = {name: tuple(value.shape) for name, value in case.items() if hasattr(value, "shape")}
    return ", ".join(f"{name} {shape}" for name, shape in shapes.items())
