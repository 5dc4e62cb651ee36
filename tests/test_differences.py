"""Two results that differ: whether, how and where, in words."""

import numpy as np
import pytest

from differences import close, compare, recognised, relation, where

RNG = np.random.default_rng(0)
WANTED = [RNG.standard_normal((n, 3)) for n in (2, 3, 4, 5)]


def pairs(change):
    return [((want,), change(want), want) for want in WANTED]


@pytest.mark.parametrize(
    ("got", "want", "verdict"),
    [
        (1.0, 1.0 + 1e-9, ""),
        (np.float32(1.0), np.array(1), ""),
        ([1.0, 2.0], [1, 2], ""),
        ([1.0, np.nan], [1.0, np.nan], ""),
        ([True, False], [True, False], ""),
        ([1.0, 2.0], [1.0, 3.0], "The first wrong value at [1]: expected 3, got 2."),
        (1.0, 2.0, "The first wrong value: expected 2, got 1."),
        ([True, False], [True, True], "The first wrong value at [1]: expected 1, got 0."),
        ([1.0, np.nan], [1.0, 2.0], "Some values are NaN or infinite."),
        ([[1.0]], [1.0], "Expected shape (1,), got (1, 1)."),
    ],
)
def test_the_first_difference_is_said(got, want, verdict):
    assert compare(np.asarray(got), np.asarray(want), 1e-7) == verdict


def test_a_small_value_beside_a_large_one_is_compared_by_the_large_one():
    assert close([1e-9, 1.0], [2e-9, 1.0], 1e-7).all()
    assert not close([1e-4, 1.0], [2e-4, 1.0], 1e-7).all()
    assert not close(np.inf, 1.0, 1e-7)


@pytest.mark.parametrize(
    ("change", "name"),
    [
        (lambda a: 1.7 * a, "1.7 times the right one"),
        (lambda a: a - 0.3, "off by -0.3"),
        (lambda a: np.minimum(a, 0.5), "cut off above 0.5"),
        (lambda a: np.clip(a, -0.5, 0.8), "cut off below -0.5 and above 0.8"),
        (lambda a: a * (1 + 1e-4 * np.sin(a)), "nearly right"),
        (lambda a: a.astype(np.float32), "nearly right"),
        (lambda a: a + np.sin(a), None),
        (lambda a: a.T, None),
        (lambda a: np.where(a > 0.5, 0.5 - a, a), None),
        (lambda a: np.where(a > 0.5, np.nan, a), None),
    ],
)
def test_what_is_right_but_for_one_number_has_a_name(change, name):
    found = recognised(pairs(change), 1e-9)
    assert (found and found[0]) == name


def test_a_number_that_depends_on_the_input_is_described_without_a_name():
    assert "how large depends on the input" in relation(pairs(lambda a: a * len(a)), 1e-7)
    assert "how much depends on the input" in relation(pairs(lambda a: a + len(a)), 1e-7)
    assert relation(pairs(np.sin), 1e-7) == ""
    assert recognised(pairs(lambda a: a * len(a)), 1e-7) is None


def put(index, axis):
    def change(array):
        array = array.copy()
        array[(slice(None),) * axis + (index,)] += 1
        return array

    return change


def after_the_first(array):
    return np.concatenate([array[:1], array[1:] + 1])


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (put(0, 0), "Only the first row is wrong."),
        (put(-1, 0), "Only the last row is wrong."),
        (put(0, 1), "Only the first column is wrong."),
        (put(-1, 1), "Only the last column is wrong."),
        (after_the_first, "Only the first row is right."),
        (np.abs, "It is wrong just where x is negative."),
        (lambda a: np.where(a > 1, 1, a), "It is wrong just where x is above 1."),
        (np.sin, ""),
        (lambda a: a, ""),
    ],
)
def test_where_it_is_wrong_is_said_if_there_is_a_rule(change, sentence):
    assert where(pairs(change), ["x"], 1e-7) == sentence
