"""Nothing that stands in a learner's file can hurt the check: it costs one sentence for that function."""

import re
import time

import numpy as np
import pytest

import isolation
from evaluating import Call, evaluate
from isolation import Isolated, in_time

X = np.ones((2, 2))
FILE = """
import os, signal, sys, time
import numpy as np
import torch

def right(x):
    return x + 1

def ends(x):
    sys.exit()

def kills(x):
    os._exit(0)

def crashes(x):
    os.kill(os.getpid(), signal.SIGSEGV)

def hangs(x):
    while True:
        pass

def sleeps(x):
    time.sleep(1000)

def asks(x):
    return input()

def takes(x):
    return np.ones(10**9) + torch.ones(10**9).numpy()

def prints(x):
    os.write(1, b"x" * 10**6)
    os.write(2, b"x" * 10**6)
    for i in range(10**5):
        print(i)
    return x + 1

def replaces(x):
    np.exp = np.log
    return x

def interrupts(x):
    raise KeyboardInterrupt

@undefined
def decorated(x):
    return x

number = 3
"""


@pytest.fixture(scope="module")
def answers(tmp_path_factory):
    path = tmp_path_factory.mktemp("work") / "answers.py"
    path.write_text(FILE)
    with pytest.MonkeyPatch.context() as patch, Isolated(path) as opened:
        patch.setattr(isolation, "SECONDS", 1.5)
        yield opened


ENDED = "ended the whole process"


@pytest.mark.parametrize(
    ("name", "message", "fatal"),
    [
        ("ends", "It stops in line 10 of the file with SystemExit.", False),
        ("kills", ENDED, True),
        ("crashes", ENDED, True),
        ("interrupts", ENDED, True),
        ("hangs", "still running after", True),
        pytest.param("sleeps", "still running after", True, marks=pytest.mark.slow),
        ("asks", "waits for the keyboard", False),
        ("takes", "more memory than there is", False),
        ("replaces", "It replaces np.exp, which all code uses", True),
        ("decorated", "It cannot be defined, in line .*: NameError: name 'undefined' is not defined.", False),
        ("number", "number is no function", False),
        ("missing", "missing is no function", False),
    ],
)
def test_a_function_that_misbehaves_is_one_sentence_and_the_next_one_runs(answers, name, message, fatal):
    outcome = answers.run(name, Call((X,)))
    assert re.search(message, outcome.problem), outcome
    assert outcome.fatal == fatal
    if fatal:
        np.testing.assert_array_equal(answers.run("right", Call((X,))).values[0], X + 1)


def test_what_is_printed_does_not_get_between_the_answers(answers, capfd):
    for _ in range(2):
        np.testing.assert_array_equal(answers.run("prints", Call((X,))).values[0], X + 1)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("content", [b"def f():\n    return '\xe4'", None])
def test_a_file_that_cannot_be_read_is_told_at_once(tmp_path, content):
    path = tmp_path / "answers.py"
    if content:
        path.write_bytes(content)
    with Isolated(path) as opened, pytest.raises(ValueError, match=r"not UTF-8|No such file"):
        opened.run("f", Call((X,)))


def test_a_notebook_has_the_same_limit(monkeypatch):
    monkeypatch.setattr(isolation, "SECONDS", 0.3)

    def hangs(x):
        while True:
            x = x + 1

    outcome = in_time(evaluate, hangs, Call((X,)))
    assert "still running" in outcome.problem
    assert outcome.fatal
    np.testing.assert_array_equal(in_time(evaluate, lambda x: x, Call((X,))).values[0], X)
    time.sleep(0.5)  # the timer of a call that is over interrupts nobody


def test_in_a_notebook_ctrl_c_is_the_learners_own():
    def interrupted(x):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        in_time(evaluate, interrupted, Call((X,)))
