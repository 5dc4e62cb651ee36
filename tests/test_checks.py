"""The course's checks against answers that were written from the texts alone, before anybody looked at a check.

`answers/NN_name.md` holds right and wrong answers to each function (`## FUNCTION, right|wrong: WORDS`, then the code).
A right one must pass, a wrong one must not, and most wrong ones must be recognised. A part of them is tried here;
`make test-slow` tries all and prints the figures.
"""

import ast
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from answers import Answers
from checking import check_function
from course import exercises, load_module
from diagnosis import mistaken
from differences import compare
from mistakes import Choose, offered

HERE = Path(__file__).resolve().parent
EXERCISES = exercises()
FUNCTIONS = [(exercise, function) for exercise in EXERCISES for function in exercise.functions.values()]
RECOGNISED = 0.8  # of the wrong answers


def name_of(value):
    return getattr(value, "name", None)


each_exercise = pytest.mark.parametrize("exercise", EXERCISES, ids=name_of)
each_function = pytest.mark.parametrize(("exercise", "function"), FUNCTIONS, ids=name_of)


# --- The checks themselves -------------------------------------------------------------------------------------------


@each_function
def test_a_stub_is_not_written_yet(exercise, function):
    """The inputs come in the order of the stub's signature, since answers are called by position."""
    [stub] = [cell for cell in cells(exercise) if re.search(rf"^def {function.name}\(", cell, re.MULTILINE)]
    namespace = {}
    exec("import numpy as np, torch\n" + stub, namespace)
    result = check_function(function, namespace[function.name])
    assert not result.ok
    assert result.message.startswith("not written yet")
    [node] = [node for node in ast.parse(stub).body if isinstance(node, ast.FunctionDef)]
    assert ast.get_docstring(node)
    names = [argument.arg for argument in node.args.args]
    assert list(function.expected.names) == names
    assert all(list(special.arguments) == names[: len(special.arguments)] for special in function.special)


@each_function
def test_the_solution_passes_and_the_model_without_a_slip_is_right(exercise, function):
    result = check_function(function, getattr(load_module(exercise.solution), function.name))
    assert (result.ok, result.message) == (True, "right")
    for case, wanted in zip(function.expected.cases, function.expected.wanted, strict=True):
        got = mistaken(lambda *given: function.model(Choose(), *given), case, case)
        assert got is not None  # where the model stops, no slip could explain what an answer gives
        for a, b in zip(got, wanted, strict=True):
            assert compare(a, b, 10 * function.tolerance) == "" or not np.isfinite(a).all()


def nameless(function, part):
    """Of every `part`-th slip those that have no name when they are handed in as an answer, and how many were tried.

    Some are right alone and wrong only with another one, some stop, some go wrong on too few inputs to be sure.
    """
    slips = list(offered(function.model, function.expected.cases[0]))[::part]
    found = []
    for name in slips:
        result = check_function(function, lambda *case, name=name: function.model(Choose([name]), *case))
        assert not (result.ok and result.misconception), name
        if result.misconception is None:
            found.append(name)
    return found, len(slips)


@each_function
def test_slips_are_told_from_the_right_answer_and_recognised(exercise, function):
    found, tried = nameless(function, 160)
    assert len(found) <= 1 + 0.1 * tried, found


@pytest.mark.slow
@each_function
def test_all_slips_are_told_from_the_right_answer_and_recognised(exercise, function):
    slips = offered(function.model, function.expected.cases[0])
    assert len(slips) >= 5
    assert all(advice.endswith((".", "?")) for _, advice in slips.values())
    found, tried = nameless(function, 1)
    assert len(found) <= 1 + 0.1 * tried, found


@each_function
def test_a_formula_may_be_made_of_the_terms(exercise, function):
    if function.terms is not None:
        for case, wanted in zip(function.expected.cases[:3], function.expected.wanted, strict=False):
            terms = function.terms(*case)
            terms = terms if isinstance(terms, tuple) else (terms,) * len(wanted)
            for each, output in zip(terms, wanted, strict=True):
                for array in each.values():
                    np.broadcast_to(np.asarray(array), output.shape)


# --- Strangers' answers ----------------------------------------------------------------------------------------------


def cells(exercise):
    return re.findall(r"^```python\n(.*?)^```$", exercise.text, re.MULTILINE | re.DOTALL)


def strangers(exercise, part):
    """(name, label, words, code) of every `part`-th answer."""
    text = (HERE / "answers" / f"{exercise.name}.md").read_text(encoding="utf-8")
    found = re.findall(r"^## (\w+), (right|wrong): ([^\n]+)\n+```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return found[::part]


def judged(exercise, part, folder):
    """Counts of what became of the answers, and the failures in words."""
    counts, failures = Counter(), []
    path = folder / "answer.py"
    for name, label, words, code in strangers(exercise, part):
        there = [cell for cell in cells(exercise) if not re.search(rf"^def {name}\(", cell, re.MULTILINE)]
        path.write_text("\n\n".join([*there, code]), encoding="utf-8")
        answer = Answers(path).define(name)
        result = check_function(exercise.functions[name], answer)
        counts[label] += 1
        counts["recognised"] += result.misconception is not None
        if result.ok != (label == "right"):
            failures.append(f"{name}, {label}: {words}: {result.message}")
    return counts, failures


@each_exercise
def test_a_part_of_the_answers_is_judged_as_it_should_be(exercise, tmp_path):
    counts, failures = judged(exercise, 160, tmp_path)
    assert failures == []
    assert counts["recognised"] >= RECOGNISED * counts["wrong"] - 2  # a part is few answers


@pytest.mark.slow
def test_all_answers_are_judged_as_they_should_be(tmp_path, capsys):
    total, every = Counter(), []
    for exercise in EXERCISES:
        counts, failures = judged(exercise, 1, tmp_path)
        total += counts
        every += failures
        with capsys.disabled():
            print(f"\n{exercise.name}: {dict(counts)}", end="")
    assert every == []
    assert total["right"] >= 150
    assert total["wrong"] >= 400
    assert total["recognised"] >= RECOGNISED * total["wrong"]
