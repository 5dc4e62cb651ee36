"""Whatever a learner's function does becomes an outcome: values, kinds, gradients, or a sentence."""

import re
import sys

import numpy as np
import pytest
import torch

from evaluating import Call, Outcome, evaluate

X = np.arange(6.0).reshape(2, 3)


@pytest.mark.parametrize(
    ("answer", "values", "kinds"),
    [
        (lambda x: x + 1, [X + 1], ["an array of float64"]),
        (lambda x: (x, 2), [X, 2], ["an array of float64", "a int"]),
        (lambda x: [x, x.sum()], [X, 15], ["an array of float64", "an array of float64"]),
        (lambda x: x.tolist(), [X], ["a list"]),  # a list of lists of numbers is one array
        (lambda x: (1.0, 2.0), [[1, 2]], ["a tuple"]),
        (lambda x: [row for row in x[:1]], [X[:1]], ["an array of float64"]),  # a list of one row has an axis
        (lambda x: torch.from_numpy(x).float(), [X], ["a tensor of float32"]),
        (lambda x: bool(x.any()), [True], ["a bool"]),
        (lambda x: x > 1, [X > 1], ["an array of bool"]),
    ],
)
def test_values_become_arrays_and_their_kinds_words(answer, values, kinds):
    outcome = evaluate(answer, Call((X,)))
    assert not outcome.problem
    assert list(outcome.kinds) == kinds
    for got, want in zip(outcome.values, values, strict=True):
        np.testing.assert_array_equal(got, want)


def in_place(x):
    x += 1
    return x


def test_an_argument_is_a_copy_and_its_change_is_noted():
    x = X.copy()
    assert evaluate(in_place, Call((x,))).changed
    assert not evaluate(lambda x: x + 1, Call((x,))).changed
    np.testing.assert_array_equal(x, X)
    assert evaluate(lambda both: in_place(both["a"]), Call(({"a": X.copy()},))).changed


def test_gradients_are_those_of_a_weighted_sum_and_zero_where_nothing_passes():
    x, y, number = torch.tensor([1.0, 2.0]), torch.tensor([3.0, 4.0]), torch.tensor([1, 2])
    outcome = evaluate(lambda x, y, n: (x**2 * n, x.detach() * y), Call((x, y, number), gradient=(0, 1)))
    weights = np.array([0.5, 1.5])  # an equal sum could not tell a gradient from its mean
    np.testing.assert_allclose(outcome.gradients, [weights * [2, 8], weights * [1, 2]])
    outcome = evaluate(lambda x, y, n: x * n, Call((x, y, number), gradient=(0, 1)))
    np.testing.assert_allclose(outcome.gradients[1], [0, 0])
    assert evaluate(lambda x, y, n: x.detach(), Call((x, y, number), gradient=(0, 1))).gradients is None
    assert evaluate(lambda x, y, n: x.clone(), Call((x, y, number))).gradients is None
    assert "numpy()" in evaluate(lambda x, y, n: x.numpy(), Call((x, y, number), gradient=(0, 1))).problem
    assert not x.requires_grad


def test_own_draws_depend_on_the_seed_of_the_call_alone():
    for draw in (lambda x: np.random.rand(3), lambda x: torch.rand(3)):  # noqa: NPY002
        first, again, other = (evaluate(draw, Call((X,), seed=seed)).values[0] for seed in (0, 0, 1))
        np.testing.assert_array_equal(first, again)
        assert not np.array_equal(first, other)


def test_the_global_generators_go_on_as_if_nothing_had_happened():
    np.random.seed(5)  # noqa: NPY002
    torch.manual_seed(5)
    want = np.random.rand(), torch.rand(())  # noqa: NPY002
    np.random.seed(5)  # noqa: NPY002
    torch.manual_seed(5)
    evaluate(lambda x: np.random.rand() + torch.rand(()), Call((X,)))  # noqa: NPY002
    assert (np.random.rand(), torch.rand(())) == want  # noqa: NPY002


def unfinished(x):
    raise NotImplementedError("your turn")


def forever(x):
    return forever(x)


def huge(x):
    return np.ones(10**15)


def keyboard(x):
    return input()


def stops(x):
    y = x
    return y[7]


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda x: None, r"It returns nothing: is there a `return`\?$"),
        (lambda x: "yes", "It returns a str, in which not everything is a number.$"),
        (lambda x: {1, 2}, "a set, in which not everything is a number"),
        (lambda x: [x, None], "It returns nothing"),
        (lambda x: [[1], [1, 2]], "It returns a list of arrays that differ in shape, where one array belongs"),
        (lambda x: sys.exit(), "^It stops in line .* with SystemExit.$"),
        (lambda: 0, "TypeError"),
        (forever, "RecursionError"),
        (stops, r"It stops in line \d+ of the file with IndexError: index 7 is out of bounds"),
        (keyboard, "It waits for the keyboard in line"),
        (huge, "more memory than there is in line"),
        (lambda x: torch.ones(10**15), "more memory than there is"),
        (unfinished, "^not written yet: replace the line"),
        (lambda x: unfinished(x), "^it calls unfinished, which is not written yet"),
    ],
)
def test_what_goes_wrong_is_one_sentence(answer, message):
    outcome = evaluate(answer, Call((X,)))
    assert re.search(message, outcome.problem), outcome.problem
    assert "\n" not in outcome.problem
    assert outcome.unwritten == ("written" in message)
    assert outcome.values == ()


def test_nothing_is_printed_and_no_warning_comes_through(capsys):
    def noisy(x):
        for i in range(10_000):
            print(i)
        return np.log(x - 1)

    assert not evaluate(noisy, Call((X,))).problem
    assert capsys.readouterr() == ("", "")


def test_an_outcome_can_be_sent_to_another_process():
    import pickle

    outcome = evaluate(lambda x: torch.from_numpy(x), Call((X,)))
    copy = pickle.loads(pickle.dumps(outcome))
    assert isinstance(copy, Outcome)
    np.testing.assert_array_equal(copy.values[0], X)


def test_the_values_of_a_dictionary_come_with_their_names():
    outcome = evaluate(lambda x: (x, {"b": 2 * x, "a": 3 * x}), Call((X,)))
    assert outcome.names == ("", "b", "a")
    for value, factor in zip(outcome.values, (1, 2, 3), strict=True):
        np.testing.assert_array_equal(value, factor * X)
    assert evaluate(lambda x: (x, x), Call((X,))).names == ("", "")
