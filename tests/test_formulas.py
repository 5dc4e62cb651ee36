"""A formula is read back only where it is exact, and then in the words of its terms."""

import numpy as np
import pytest

from formulas import read_back, sums_and_means

RNG = np.random.default_rng(0)
INPUTS = [RNG.standard_normal((2, n, z)) for n, z in RNG.integers(2, 6, (32, 2))]


def terms(x, y):
    return {"x": x, "x^2": x**2, "y": y, "x y": x * y, "exp(y)": np.exp(y), "1": 1.0}


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda x, y: x**2 / 2 - y, "1/2 x^2 - y"),
        (lambda x, y: -x + 3 * x * y, "-x + 3 x y"),
        (lambda x, y: np.exp(y) - 1, "exp(y) - 1"),
        (lambda x, y: np.log(2 * np.pi) * x - np.log(2), "log(2 pi) x - log(2)"),
        (lambda x, y: 0 * x + 2 / 3, "2/3"),
        (lambda x, y: 0.123 * x, None),  # no simple number
        (lambda x, y: np.sin(x), None),
        (lambda x, y: x + 1e-6 * np.sin(y), None),  # nearly is not exactly
        (lambda x, y: x / 0, None),
        (lambda x, y: 0 * x, None),
    ],
)
def test_the_formula_of_an_answer_is_said_in_words(answer, words):
    with np.errstate(all="ignore"):
        got = [answer(x, y) for x, y in INPUTS]
    assert read_back([terms(x, y) for x, y in INPUTS], got) == words


def test_sums_are_told_from_means_and_the_constant_from_the_length():
    parts = [sums_and_means({"x": x, "y": y}) for x, y in INPUTS]
    assert read_back(parts, [x.sum(1) - y.mean(1) + 1 for x, y in INPUTS]) == "sum(x) - mean(y) + 1"
    assert read_back(parts, [(x - 1).sum(1) for x, y in INPUTS]) == "sum(x) - Z"


def test_terms_that_are_not_independent_do_no_harm():
    with np.errstate(all="ignore"):
        dependent = [{"x": x, "2 x": 2 * x, "log x": np.log(-np.abs(x)), "y": y} for x, y in INPUTS]
    assert read_back(dependent, [4 * x + y for x, y in INPUTS]) == "4 x + y"


def test_too_few_values_for_the_terms_say_nothing():
    x, y = INPUTS[0][:, :1, :1]
    assert read_back([terms(x, y)], [x]) is None
