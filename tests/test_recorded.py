"""A recorded check judges as the one that it was made from, and holds no code."""

import json

import numpy as np
import pytest
import torch

import recorded
from checking import check_function
from course import exercises, find, load_module


@pytest.mark.parametrize(
    "exercise",
    [pytest.param(each, marks=[pytest.mark.slow] * (each.number % 3 > 0), id=each.name) for each in exercises()],
)
def test_solutions_pass_and_slips_do_not(exercise, tmp_path):
    path = tmp_path / "check.json"
    recorded.write(exercise.functions.values(), path)
    solution = load_module(exercise.solution)
    for function in recorded.read(path):
        right = getattr(solution, function.name)
        assert check_function(function, right).message == "right"
        assert not check_function(function, lambda *case, right=right: wrong(right(*case))).ok
    assert not {"reference", "model", "inputs"} & set(json.loads(path.read_text())[0])


def wrong(values):
    if isinstance(values, tuple):
        return tuple(map(wrong, values))
    return ~np.bool_(values) if isinstance(values, (bool, np.bool_)) else values + 1


def test_what_was_recorded_comes_back_exactly():
    value = [
        (np.array([1 / 3, np.nan, -np.inf]), torch.tensor([[0.1]]), {"a": 3, 0: "b"}),
        (np.zeros((0, 2), np.float32), np.arange(3), True, None, 0.1, np.float64(1 / 7)),
    ]
    back = recorded.decoded(json.loads(json.dumps(recorded.encoded(value))))
    for one, other in zip(sum(value, ()), sum(back, ()), strict=True):
        assert getattr(one, "shape", None) == getattr(other, "shape", None) or isinstance(one, np.float64)
        assert getattr(one, "dtype", None) == getattr(other, "dtype", None) or isinstance(one, np.float64)
        np.testing.assert_equal(np.asarray(other), np.asarray(one))


def test_a_hand_out_without_references_still_checks(tmp_path, monkeypatch, capsys):
    run = load_module(find(3).path.parent / "run.py")
    out = tmp_path / "class"
    assert run.main(["export", str(out), "--without-references"]) == 0
    assert not list((out / "checks").glob("*.py"))
    (out / "work").mkdir()
    text = find(3).solution.read_text().replace("0.5 *", "-0.5 *", 1)
    (out / "work" / "03_kl_divergence.py").write_text(text)
    assert run.main(["check", "3"], out) == 1
    said = capsys.readouterr().out
    assert "✗ kl_divergence: -1 times the right one: every value is -1 times the expected one." in said
    assert "✓ kl_gradient: right" in said
