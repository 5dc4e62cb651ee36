"""A grammar of mistakes explains what it can, and nothing else."""

import numpy as np
import pytest

from diagnosis import mistaken
from mistakes import Choose, explain


def model(choose, x, y):
    """x - y^2 summed over the rows' entries, and their product."""
    square = choose(y**2, ("not squared", y, "square it."), ("cubed", y**3, "not so high."))
    difference = choose(x - square, ("the sum", x + square, "which sign?"))
    product = x * y if not choose.slip("divided", "one operation is the wrong one.") else x / y
    return choose(difference.sum(1), ("the mean", difference.mean(1), "do not divide.")), product


def cases(number=8):
    rng = np.random.default_rng(0)
    return [(rng.standard_normal((n, 3)), rng.standard_normal((n, 3))) for n in rng.integers(2, 5, number)]


def explained(answer, inputs=None, wrong=(0,), **options):
    inputs = inputs or cases()
    got = [mistaken(answer, case, case) for case in inputs]
    right = [mistaken(lambda x, y: model(Choose(), x, y), case, case) for case in inputs]
    found = explain(model, mistaken, ("x", "y"), inputs, got, right, wrong, **options)
    return {place: [each.names for each in some] for place, some in found.items()}


def test_without_a_slip_the_model_is_right():
    x, y = cases()[0]
    total, product = model(Choose(), x, y)
    np.testing.assert_allclose(total, (x - y**2).sum(1))
    np.testing.assert_allclose(product, x * y)


@pytest.mark.parametrize(
    ("answer", "names"),
    [
        (lambda x, y: ((x - y).sum(1), x * y), ("not squared",)),
        (lambda x, y: ((x + y**2).sum(1), x * y), ("the sum",)),
        (lambda x, y: ((x + y**3).mean(1), x * y), None),  # three slips are too many
        (lambda x, y: ((x + y).sum(1), x * y), ("not squared", "the sum")),
        (lambda x, y: ((x - y**3).mean(1), x * y), ("cubed", "the mean")),
        (lambda x, y: (-(x - y**2).sum(1), x * y), ("the sign",)),  # of a result: nobody had to write it down
        (lambda x, y: ((abs(x) - y**2).sum(1), x * y), ("|x|",)),  # and of an argument
        (lambda x, y: ((y - x**2).sum(1), x * y), ("x and y exchanged",)),
        (lambda x, y: ((abs(x) + y**2).sum(1), x * y), ("|x|", "the sum")),
        (lambda x, y: (2 * (x - y**2).mean(1), x * y), ("the mean", "twice the value")),
        (lambda x, y: (np.sin(x).sum(1), x * y), None),
    ],
)
def test_the_fewest_mistakes_that_explain_an_answer_are_found(answer, names):
    assert explained(answer) == {0: [names] if names else []}


def test_each_output_is_explained_for_itself():
    found = explained(lambda x, y: ((x - y).sum(1), x / y), wrong=(0, 1))
    assert found == {0: [("not squared",)], 1: [("divided",)]}


def test_two_explanations_that_both_fit_are_both_found():
    def either(choose, x):
        return choose(x, ("doubled", 2 * x, "")) + choose(0 * x, ("added twice", x, ""))

    inputs = [(x,) for x, _ in cases()]
    got, right = ([(factor * x,) for (x,) in inputs] for factor in (2, 1))
    [found] = explain(either, mistaken, ("x",), inputs, got, right, [0]).values()
    assert [each.names for each in found] == [("doubled",), ("added twice",)]
    assert [each.advice for each in found] == [("",), ("",)]


def test_nothing_is_named_on_too_few_values():
    """One number that agrees by chance is no explanation, nor are the zeros of an answer that only stops."""
    one = [(np.array([[1.0, 2.0, 3.0]]), np.array([[1.0, 2.0, 1.0]]))]
    wrong = lambda x, y: ((x - y).sum(1), x * y)  # noqa: E731
    assert explained(wrong, inputs=one) == {0: []}
    assert explained(wrong, inputs=one, enough=1) == {0: [("not squared",)]}
    assert explained(lambda x, y: 1 / None) == {0: []}


def test_truth_values_count_by_the_inputs():
    def larger(choose, x):
        return choose(x.sum() > 0, ("the first only", x[0] > 0, ""))

    inputs = [(np.array(values),) for values in ([1.0, -2], [-1, 2], [2, -3], [-1, 3], [1, 1], [-1, -1], [2.0, -9])]
    right = [(np.array(x.sum() > 0),) for (x,) in inputs]
    got = [(np.array(x[0] > 0),) for (x,) in inputs]

    def named(number):
        [found] = explain(larger, mistaken, ("x",), inputs[:number], got[:number], right[:number], [0]).values()
        return [each.names for each in found]

    assert named(7)[0] == ("the first only",)
    assert named(3) == []


def test_two_slips_of_one_name_are_refused():
    with pytest.raises(ValueError, match="two slips have the name 'a'"):
        (lambda choose: (choose(1, ("a", 2, "")), choose(1, ("a", 3, ""))))(Choose())
