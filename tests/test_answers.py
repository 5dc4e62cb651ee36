"""Out of a learner's file comes the function that is asked for, with what it needs, and nothing else is run."""

import json

import pytest

from answers import Answers


@pytest.fixture
def define(tmp_path):
    def defined(text, name="f", suffix=".py"):
        path = tmp_path / f"answer{suffix}"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return Answers(path).define(name)

    return defined


NEEDED = {
    "a lambda": "f = lambda x: x + 1",
    "another name": "def g(x):\n    return x + 1\nf = g",
    "a constant that is computed": "import math\nONE = math.exp(0)\ndef f(x):\n    return x + ONE",
    "constants one after the other": "A = 1\nB = A\ndef f(x):\n    return x + B",
    "two at once": "A, B = 0, 1\ndef f(x):\n    return x + B",
    "a table that is filled": "T = {}\nT['one'] = 1\ndef f(x):\n    return x + T['one']",
    "a list filled in a loop": "L = [0]\nfor i in range(3):\n    L[0] = 1\nf = lambda x: x + L[0]",
    "a helper further down": "def f(x):\n    return g(x)\ndef g(x):\n    return x + 1",
    "a class": "class One:\n    value = 1\ndef f(x):\n    return x + One.value",
    "a definition under if": "if True:\n    def f(x):\n        return x + 1",
    "a definition under try": "try:\n    import math\n    def f(x):\n        return x + 1\nfinally:\n    pass",
    "a decorator": "import functools\n@functools.lru_cache\ndef f(x):\n    return x + 1",
    "a default": "ONE = 1\ndef f(x, one=ONE):\n    return x + one",
    "a name from everywhere": "from math import *\ndef f(x):\n    return x + cos(0)",
    "the last of two definitions": "def f(x):\n    return 0\ndef f(x):\n    return x + 1",
    "a global that it sets": "COUNT = 0\ndef f(x):\n    global COUNT\n    COUNT += 1\n    return x + 1",
    "a mark before UTF-8": "\ufeffdef f(x):\n    return x + 1",
    "magic of a notebook": "%matplotlib inline\n!ls\ndef f(x):\n    return x + 1",
    "future": "from __future__ import annotations\ndef f(x: Nothing):\n    return x + 1",
}


@pytest.mark.parametrize("text", NEEDED.values(), ids=NEEDED)
def test_what_the_function_needs_is_there(define, text):
    assert define(text)(1) == 2


@pytest.mark.parametrize(
    "line",
    ["raise SystemExit", "print(1 / 0)", "x = 1 / 0", "while True:\n    y = 1", "import nothing", "@no\ndef g(): 0"],
)
def test_what_it_does_not_need_is_not_run(define, line):
    """A local variable of the same name as a global one does not make that one needed."""
    assert define(f"{line}\ndef f(z):\n    x = z\n    y = 1\n    return x + y\n{line}")(1) == 2


def test_what_is_there_is_known_before_anything_is_run(tmp_path):
    path = tmp_path / "answer.py"
    path.write_text("f = lambda x: x\nif True:\n    def g(): 0\nh(1 / 0)\ndef i():\n    def j(): 0\n")
    assert [name for name in "fghij" if Answers(path).has(name)] == ["f", "g", "i"]


def test_a_missing_function_is_none(define):
    assert define("def g(): 0") is None
    assert define("f(3)") is None
    assert define("import f_") is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("def f(x):\n    return (x", "in line 2 of the file"),
        ("def f(x):\nreturn x", "expected an indented block.*in line 2"),
        ("@nowhere\ndef f(x):\n    return x", "cannot be defined, in line 2 of the file: NameError: name 'nowhere'"),
        ("def f(x: Tensor):\n    return x", "in line 1 of the file: NameError: name 'Tensor'"),
        ("import nowhere\ndef f(x):\n    return nowhere.g(x)", "needs nowhere, which line 1 .* ModuleNotFoundError"),
        ("A = 1 / 0\ndef f(x):\n    return A", "it needs A, which line 1 of the file cannot make: ZeroDivisionError"),
        ("def f(x):\n    pass\x00", "null bytes"),
        (b"def f(x):\n    return '\xe4'\n", r"not UTF-8 text \(byte 0xe4 in line 2\)"),
    ],
)
def test_what_cannot_be_defined_is_told_with_its_line(define, text, message):
    with pytest.raises(ValueError, match=message):
        define(text)


def test_a_broken_cell_costs_only_the_functions_in_it(define):
    cells = ["def g(x):\n    return (", "def f(x):\n    return x + 1"]
    notebook = json.dumps({"cells": [{"cell_type": "code", "source": [cell]} for cell in cells]})
    assert define(notebook, suffix=".ipynb")(1) == 2
    with pytest.raises(ValueError, match="in line 2 of its cell"):
        define(notebook, "g", suffix=".ipynb")


def test_which_other_functions_a_function_uses(tmp_path):
    path = tmp_path / "work.py"
    path.write_text("def a(x): return x\n\nhelper = a\n\ndef b(x): return helper(x)\n\ndef c(x): return x\n")
    file = Answers(path)
    assert file.uses("b", "a")
    assert not file.uses("c", "a")
    assert not file.uses("a", "b")
