"""Checks that read a mistake back: an answer is called on many inputs, compared with a reference, and explained.

A check file (`checks/NN_name.py`) lists the functions of one exercise, each a `Function`: a reference that says what is
right, inputs, and a model (`mistakes.py`) that says how it goes wrong. What a docstring does not ask for is no reason
to fail: another type or dtype, a list for a tuple, an input changed in place pass with a remark. The inputs are the
same every time, so no verdict depends on a seed.
"""

import functools
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from diagnosis import Diagnosis
from differences import compare
from evaluating import Call, evaluate, leaves, values_of

NUM_CASES = 8  # ordinary inputs; the special ones come after them
SINGLE = 1e-3  # tolerance in single precision


@dataclass(frozen=True)
class Special:
    """Arguments for which a wrong answer goes wrong that is right elsewhere: what they show, and advice for that."""

    what: str
    arguments: dict
    advice: str = ""


@dataclass(frozen=True)
class Function:
    """One function to write.

    name: as in the exercise. reference: a right implementation, independent of the solution where there is one.
    inputs(rng): the arguments of one call by name, in the order of the signature, float64, of a size that rng chooses.
    model(choose, *arguments): the same as a grammar of mistakes. special: inputs that tell. terms(*arguments): what a
    formula may be made of (`formulas.py`), one dictionary, or a tuple of them for several outputs; probe: what to do
    with that formula. outputs: what the values are called, if they are several. gradient: the tensors with respect to
    which gradients are compared too. tolerance: relative. shrink: whether single entries of the arguments may be made 0
    or 1 to find a small example. in_place: whether arguments may be changed; False where the docstring forbids it.
    single: whether the inputs may be float32. dtype: of the result, where the docstring asks for one. changes: whether
    an argument or the result may have been changed as a whole (`changes.py`); False where a call takes long.
    """

    name: str
    reference: Callable
    inputs: Callable
    model: Callable
    special: Sequence[Special] = ()
    terms: Callable | None = None
    probe: str = "Which of these terms does not belong there, and which one is missing?"
    outputs: Sequence[str] = ()
    gradient: Sequence[str] = ()
    tolerance: float = 1e-7
    shrink: bool = True
    in_place: bool = True
    single: bool = True
    dtype: str = ""
    changes: bool = True

    def case(self, number):
        """The arguments of the ordinary input of that number: always the same."""
        rng = np.random.default_rng([zlib.crc32(self.name.encode()), number])
        return tuple(self.inputs(rng).values())

    def right(self, case):
        """The reference's values as a tuple of arrays."""
        with np.errstate(all="ignore"), torch.no_grad():
            returned = self.reference(*case)
        return values_of(returned)

    @functools.cached_property
    def expected(self):
        """The `Expected` of all inputs."""
        names = tuple(self.inputs(np.random.default_rng(0)))
        special = [tuple(each.arguments.values()) for each in self.special]
        cases = [self.case(number) for number in range(NUM_CASES)] + special
        places = tuple(map(names.index, self.gradient))
        gradients = [evaluate(self.reference, Call(case, places)).gradients for case in cases[:NUM_CASES]]
        double, single = (evaluate(self.reference, Call(case)) for case in (cases[0], to_single(cases[0])))
        return Expected(names, cases, list(map(self.right, cases)), double.kinds, single.kinds, gradients, double.names)


@dataclass(frozen=True)
class Expected:
    """The names of the arguments, all inputs, and for each what is right.

    kinds, single_kinds: what the reference returns, in words, for the first input in double and in single precision.
    gradients: for each ordinary input, None where they do not matter. keys: for each value that it returns
    the name in a dictionary, or "".
    """

    names: tuple
    cases: list
    wanted: list
    kinds: tuple
    single_kinds: tuple
    gradients: list
    keys: tuple = ()


@dataclass(frozen=True)
class Result:
    """ok, and what to tell the learner. misconception: the name, or the formula, of what was recognised."""

    ok: bool
    message: str
    misconception: str | None = None


def check_function(function, answer):
    """The `Result` of an answer that is called in this process; never raises."""
    return judge(function, lambda call: evaluate(answer, call))


def judge(function, run):
    """The `Result` of an answer that `run` calls: run(Call) -> Outcome, here or in another process."""
    return Judgement(function, run).result()


class Judgement:
    """One answer against one function: for each of its `cases` what is `wanted`, what was `got`, and the `verdicts`.

    A verdict is the first difference between an output and the right one in words, "" where there is none.
    """

    def __init__(self, function, run):
        self.function, self.call, self.fatal = function, run, None
        self.names, self.cases, self.wanted = (
            function.expected.names,
            function.expected.cases,
            function.expected.wanted,
        )
        self.tolerance = function.tolerance

    def result(self):
        stopped = self.call_all()
        if stopped:
            return Result(False, stopped)
        if any(map(any, self.verdicts)):
            return Result(False, *Diagnosis(self).of_values())
        return self.asked_for() or self.gradients() or self.single_precision() or self.right()

    # --- Calling -----------------------------------------------------------------------------------------------------

    def run(self, call):
        """The Outcome of a call; once one took all the time there is, the same again without a call."""
        outcome = self.fatal or self.call(call)
        self.fatal = outcome if outcome.fatal else None
        return outcome

    def call_all(self):
        """Fill outcomes, got and verdicts. Returns what to say of an answer that does not even run, or ""."""
        first = self.run(Call(self.cases[0]))
        if first.problem and mixes_dtypes(first, self.cases[0]):
            self.cases, self.tolerance = list(map(to_single, self.cases)), SINGLE
            first = self.run(Call(self.cases[0]))
        named = any(self.function.expected.keys)
        if stopped := first.problem or (named and self.counted(first, len(self.wanted[0]))):
            return stopped
        self.outcomes = [first, *(self.run(Call(case)) for case in self.cases[1:])]
        if self.fatal:
            return self.fatal.problem
        if any("float32" in kind for kind in first.kinds):  # as exact as that dtype is
            self.tolerance = max(self.tolerance, 1e-5)
        self.got = [self.as_wanted(each, want) for each, want in zip(self.outcomes, self.wanted, strict=True)]
        self.verdicts = [self.compared(number) for number in range(len(self.cases))]
        return ""

    def compared(self, number):
        """The verdicts of one case, one for each output."""
        got, wanted, outcome = (
            self.got[number],
            self.wanted[number],
            self.outcomes[number],
        )
        if got is None:
            return [outcome.problem or self.counted(outcome, len(wanted))] * len(wanted)
        return [compare(a, b, self.tolerance) for a, b in zip(got, wanted, strict=True)]

    def counted(self, outcome, count):
        """What is missing, or too much, among the values; "" if nothing is."""
        keys, mine = self.function.expected.keys, outcome.names
        if any(keys) != any(mine):
            names = [name for name in keys if name]
            words = f"{', '.join(names[:2])}{' and so on' * (len(names) > 2)}"
            return f"Expected a dictionary, with the names {words}." if names else "Expected no dictionary."
        words = {"Missing": set(keys) - set(mine), "Unknown": set(mine) - set(keys)}
        if any(keys) and any(words.values()):
            words = {word: ", ".join(sorted(names - {""})) for word, names in words.items() if names}
            return " ".join(f"{word}: {names or 'what stands beside the dictionary'}." for word, names in words.items())
        return f"Expected {count} values, got {len(outcome.values)}." if len(outcome.values) != count else ""

    def answer(self, case, wanted):
        """What the answer gives for any input, as the wanted values come; None where it stops."""
        return self.as_wanted(self.run(Call(case)), wanted)

    def as_wanted(self, outcome, wanted):
        """An outcome's values as the wanted ones come; None where that cannot be."""
        keys = self.function.expected.keys
        if not any(keys) and not any(outcome.names):
            return aligned(outcome.values, wanted)
        if sorted(keys) != sorted(outcome.names):
            return None
        unnamed = iter([value for value, name in zip(outcome.values, outcome.names, strict=True) if not name])
        named = dict(zip(outcome.names, outcome.values, strict=True))
        return tuple(named[key] if key else next(unnamed) for key in keys)

    # --- Values that are right ---------------------------------------------------------------------------------------

    def right(self):
        remark = next(self.remarks(), None)
        return Result(True, f"right; {remark}" if remark else "right")

    def asked_for(self):
        """A Result if an argument is changed in place, or the dtype is not the one, that the docstring asks for."""
        if not self.function.in_place and any(outcome.changed for outcome in self.outcomes):
            message = "the values are right, but an argument is changed in place, and the docstring asks it to stay."
            return Result(False, message, "changed in place")
        for kind in self.outcomes[0].kinds:
            if " of " in kind and not kind.endswith(self.function.dtype):
                message = f"the values are right, but it returns {kind}. What dtype does the docstring ask for?"
                return Result(False, message, "another dtype")
        return None

    def remarks(self):
        """What is worth a word although nobody asked for it."""
        mine, text = self.outcomes[0].kinds, self.function.expected.kinds
        if self.tolerance == SINGLE > self.function.tolerance:
            yield "it runs in float32 only: let it follow the dtype of its inputs"
        if any(outcome.changed for outcome in self.outcomes):
            yield "it changes an input in place, which whoever calls it may still need"
        if len(mine) != len(text):
            yield "it returns its values in another container than the text"
        for a, b in zip(mine, text, strict=False):
            if ("tensor" in a) != ("tensor" in b) and ("array" in a or "array" in b):
                yield f"it returns {a} where the text goes on with {b}"
        if "float64" in "".join(self.single.kinds) and "float64" not in "".join(self.function.expected.single_kinds):
            yield "it returns float64 for float32 inputs, which takes twice the memory"

    def single_precision(self):
        """A Result if the values are wrong for float32 inputs, in whatever dtype they come; else None."""
        case = to_single(self.cases[0]) if self.function.single else self.cases[0]
        self.single = self.run(Call(case))
        got = self.as_wanted(self.single, self.wanted[0])
        if got is None:
            return Result(
                False,
                f"It is right in float64, but not in float32. {self.single.problem}",
            )
        for a, b in zip(got, self.wanted[0], strict=True):
            if verdict := compare(a, b, SINGLE):
                return Result(False, f"It is right in float64, but not in float32. {verdict}")
        return None

    def gradients(self):
        """A Result if the gradients are wrong and the lesson is about them; else None."""
        if not self.function.gradient:
            return None
        cases, right = self.cases[:NUM_CASES], self.function.expected.gradients
        places = tuple(map(self.names.index, self.function.gradient))
        outcomes = [self.run(Call(case, places)) for case in cases]
        got = [
            outcome.gradients or tuple(map(np.zeros_like, want)) for outcome, want in zip(outcomes, right, strict=True)
        ]
        tolerance = max(1e-6, self.tolerance)
        pairs = zip(got, right, strict=True)
        if not any(outcome.problem for outcome in outcomes) and not any(
            compare(x, y, tolerance) for a, b in pairs for x, y in zip(a, b, strict=True)
        ):
            return None
        return Result(False, *Diagnosis(self).of_gradients(places, outcomes, got, right, tolerance))


def aligned(values, wanted):
    """An outcome's values as the wanted ones come, several or one; None where that cannot be."""
    if len(values) == len(wanted):
        return values
    if len(wanted) == 1 and len(values) > 1 and len({value.shape for value in values}) == 1:
        return (np.stack(values),)
    if len(values) == 1 and values[0].ndim and len(values[0]) == len(wanted):
        return tuple(map(np.asarray, values[0]))
    return None


def mixes_dtypes(outcome, case):
    """Whether an answer may have stopped because it mixes float32 tensors of its own with the float64 of its inputs."""
    words = outcome.problem.lower()
    return any(isinstance(value, torch.Tensor) for value in leaves(case)) and (
        "dtype" in words or "scalar type" in words
    )


def to_single(value):
    """Arguments with all their float64 as float32."""
    if isinstance(value, tuple):
        return tuple(map(to_single, value))
    if isinstance(value, dict):
        return {name: to_single(each) for name, each in value.items()}
    if isinstance(value, torch.Tensor) and value.is_floating_point():
        return value.float()
    if isinstance(value, np.ndarray) and value.dtype == np.float64:
        return value.astype(np.float32)
    return value
