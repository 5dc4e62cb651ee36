"""Each change of an argument or of a result is what its words say, and changes no input."""

import numpy as np
import pytest
import torch

import changes

X = np.array([[1.0, -2.0, 0.5], [3.0, 0.25, -1.5]])


@pytest.mark.parametrize(
    ("words", "want"),
    [
        ("-x", -X),
        ("|x|", abs(X)),
        ("x transposed", X.T),
        ("x backwards", X[::-1]),
        ("x backwards along its last axis", X[:, ::-1]),
        ("x turned by 180 degrees", X[::-1, ::-1]),
        ("x sorted", np.sort(X, 0)),
        ("the first row of x for all", X[[0, 0]]),
        ("the first column of x for all", X[:, [0, 0, 0]]),
        ("the mean row of x for all", np.stack([X.mean(0)] * 2)),
        ("x without its last row", X[:1]),
        ("x less its mean column", X - X.mean(1)[:, None]),
        ("x divided by its sum", X / X.sum()),
        ("1 - x", 1 - X),
        ("exp(x / 2)", np.exp(X / 2)),
    ],
)
@pytest.mark.parametrize("tensor", [False, True])
def test_a_change_of_an_argument(words, want, tensor):
    case = (torch.from_numpy(X.copy()) if tensor else X.copy(), 2)
    [change] = [each for name, _, each in changes.of_arguments(["x", "n"], case) if name == words]
    new, n = change(case)
    assert isinstance(new, torch.Tensor) == tensor
    np.testing.assert_allclose(new, want)
    np.testing.assert_array_equal(case[0], X)
    assert n == 2


def test_what_the_first_axis_holds_depends_on_the_number_of_axes():
    for shape, words in (((3,), "entry"), ((3, 2), "row"), ((3, 2, 2), "entry along axis 0")):
        names = [each for each, *_ in changes.of_arguments(["x"], (np.ones(shape),))]
        assert f"the first {words} of x for all" in names


def test_two_arguments_that_fit_together_may_be_exchanged():
    case = (X, 2 * X, X.T, np.ones((2, 3), int))
    names = [words for words, *_ in changes.of_arguments("abcd", case) if "exchanged" in words]
    assert names == ["a and b exchanged"]


def test_a_change_that_changes_nothing_is_none():
    found = {words: change((abs(X),)) for words, _, change in changes.of_arguments(["x"], (abs(X),))}
    assert found["|x|"] is None
    one = {words: change((np.ones((1, 1)),)) for words, _, change in changes.of_arguments(["x"], (np.ones((1, 1)),))}
    assert one["x transposed"] is None
    assert one["the first row of x for all"] is None


@pytest.mark.parametrize(
    ("words", "want"),
    [
        ("the sign", -X),
        ("transposed", X.T),
        ("divided by the length of the first axis", X / 2),
        ("times the length of the second axis", 3 * X),
        ("the mean along the first axis", np.stack([X.mean(0)] * 2)),
        ("the sum along the second axis", np.stack([X.sum(1)] * 3, axis=1)),
        ("one place too late", X[[1, 0]]),
        ("backwards along the last axis", X[:, ::-1]),
        ("whole numbers", np.floor(X)),
        ("between 0 and 1", np.clip(X, 0, 1)),
    ],
)
def test_a_change_of_a_result(words, want):
    [change] = [each for name, each, _ in changes.OF_A_RESULT if name == words]
    np.testing.assert_allclose(change(X), want)


def test_every_change_of_a_result_has_a_name_of_its_own_and_advice():
    names = [name for name, _, _ in changes.OF_A_RESULT]
    assert len(set(names)) == len(names)
    assert all(advice.endswith((".", "?")) for _, _, advice in changes.OF_A_RESULT)
