"""What is said of a wrong answer: each output for itself, the formula, the input, and never more than is known."""

import numpy as np
import torch

from checking import Function, Special, check_function


def two_numbers(rng):
    n = rng.integers(2, 6)
    return {"x": rng.standard_normal((n, 3)), "y": rng.standard_normal((n, 3))}


def model(choose, x, y):
    factor = choose(2, ("the factor", 1, "a factor is missing."))
    first = choose(factor * x + y, ("y left out", factor * x, "where is y?"))
    return first, factor * x * choose(y, ("y squared", y**2, "y comes in once."))


F = Function(
    "f",
    lambda x, y: (2 * x + y, 2 * x * y),
    two_numbers,
    model,
    special=[Special("an x of zero", {"x": np.zeros((1, 3)), "y": np.ones((1, 3))}, "what is 0 / 0?")],
    terms=lambda x, y: {"x": x, "y": y, "x^2": x**2, "x y": x * y, "1": 1.0},
    probe="Try x = 1.",
    outputs=("the sum", "the product"),
)


def told(answer, function=F):
    result = check_function(function, answer)
    assert not result.ok
    return result.message, result.misconception


def test_right_outputs_are_said_to_be_right_and_wrong_ones_explained():
    assert told(lambda x, y: (2 * x, 2 * x * y)) == (
        "the product is right. the sum: y left out: where is y?",
        "y left out",
    )


def test_a_mistake_that_both_outputs_share_is_said_once():
    assert told(lambda x, y: (x + y, x * y)) == ("the factor: a factor is missing.", "the factor")


def test_a_mistake_of_all_outputs_is_not_blamed_for_one():
    """A factor that is missing in one output only is not that slip, which would show in both. What is said holds."""
    message, name = told(lambda x, y: (x + y, 2 * x * y))
    assert message.startswith(
        "the product is right. the sum: x / 2: your values are those with x / 2 in the place of x."
    )
    assert name == "x / 2"


def test_outputs_in_another_order():
    message = "the sum and the product are returned in another order than the docstring says."
    assert told(lambda x, y: (2 * x * y, 2 * x + y)) == (message, "the wrong order")


def test_two_outputs_with_a_mistake_each():
    message, name = told(lambda x, y: (2 * x, 2 * x * y**2))
    assert message == "the sum: y left out: where is y? the product: y squared: y comes in once."
    assert name == "y left out and y squared"


def test_a_strange_output_beside_a_known_one_leaves_the_whole_without_a_name():
    message, name = told(lambda x, y: (2 * x, np.sin(x * y)))
    assert name is None
    assert message.startswith("the sum: y left out: where is y? the product: The first wrong value at [0, 0]: expected")


def test_a_formula_is_read_back_and_the_right_one_never_shown():
    message, name = told(lambda x, y: (x**2 - 3 * y + 1, 2 * x * y))
    assert name == "-3 y + x^2 + 1"
    assert message == "the product is right. the sum: what you return is -3 y + x^2 + 1. Try x = 1."


def test_an_input_that_is_all_that_goes_wrong_is_named_with_its_advice():
    message, name = told(lambda x, y: (2 * x + y, 2 * x * y * (x / x)))
    assert name == "wrong for an x of zero"
    assert message == "the sum is right. the product: it is right but for an x of zero. what is 0 / 0?"


def zeros(number, advice="what is 0 / 0?"):
    return Special(f"{number} zeros", {"x": np.zeros((number, 3)), "y": np.ones((number, 3))}, advice)


def test_several_inputs_that_go_wrong_are_told_what_is_true_for_all_of_them():
    def stops_at_zero(x, y):
        return 2 * x + y, 2 * x * y * (x / x)

    alike, apart = (
        Function("f", F.reference, F.inputs, F.model, special=special, outputs=F.outputs)
        for special in ([zeros(1), zeros(2)], [zeros(1), zeros(2, "two?")])
    )
    message, name = told(stops_at_zero, alike)
    assert message.endswith("the product: it is right but for 1 zeros and 2 zeros. what is 0 / 0?")
    assert name == "wrong for 1 zeros and 2 zeros"
    message, name = told(stops_at_zero, apart)
    assert "it is right but for 1 zeros and 2 zeros. Have these inputs something in common?" in message
    assert "0 / 0" not in message
    assert name == "wrong for 1 zeros and 2 zeros"


def test_an_output_that_goes_wrong_on_a_special_input_only_is_not_blamed_for_what_others_do():
    message, name = told(lambda x, y: (2 * x, 2 * x * y * (x / x)))
    assert message == (
        "the sum: y left out: where is y? For an x of zero this may not be all: mend it first, then check again."
    )
    assert name == "y left out"


def cancelling(choose, x):
    half = choose(x, ("half of x", x / 2, "where does the half come from?"))
    return choose(half, ("twice as much", 2 * half, "why two?")) ** 2 + choose(
        half, ("four times as much", 4 * half, "why four?")
    )


def test_a_formula_comes_before_two_mistakes_whose_effects_may_cancel():
    def both(x):
        return x**2 + x

    def terms(x):
        return {"x": x, "x^2": x**2}

    function = Function("f", both, lambda rng: {"x": rng.standard_normal(5)}, cancelling, terms=terms, probe="x = 1?")
    message, name = told(lambda x: x**2 + x / 2, function)
    assert message == "what you return is 1/2 x + x^2. x = 1?"
    assert name == "1/2 x + x^2"
    without = Function("f", both, function.inputs, cancelling)
    assert told(lambda x: x**2 + x / 2, without)[1] == "half of x and twice as much"


def test_a_mistake_that_would_spoil_another_output_otherwise_is_not_offered():
    def model(choose, x):
        factor = choose(1, ("both doubled", 2, "both are twice too large."))
        return factor * x, factor * choose(x**2, ("the square doubled", 2 * x**2, "it is twice too large."))

    function = Function("f", lambda x: (x, x**2), lambda rng: {"x": rng.standard_normal(5)}, model, outputs=("a", "b"))
    assert told(lambda x: (2 * x, 2 * x**2), function) == ("both doubled: both are twice too large.", "both doubled")
    message, name = told(lambda x: (x / 2, 2 * x**2), function)
    assert message.endswith("b: the square doubled: it is twice too large.")
    assert name == "half the value and the square doubled"


def positive(choose, x):
    total = choose(x.sum(), ("less ten", x.sum() - 10, "why ten?"), ("less twenty", x.sum() - 20, "why twenty?"))
    return total > 0


def test_an_answer_that_never_changes_is_not_explained_by_what_never_changes_either():
    function = Function(
        "f", lambda x: np.array(x.sum() > 0), lambda rng: {"x": rng.standard_normal(5)}, positive, shrink=False
    )
    message, name = told(lambda x: bool(x.sum() > 100), function)
    assert message == "always False: to every ordinary input you say False, right or not."
    assert name == "always False"


def test_few_values_that_agree_on_the_first_inputs_are_tried_on_more():
    def model(choose, x):
        return choose(x.sum() > 0, ("the first only", x[0] > 0, "which?"), ("the first two", x[:2].sum() > 0, "which?"))

    function = Function(
        "f", lambda x: np.array(x.sum() > 0), lambda rng: {"x": rng.standard_normal(3)}, model, shrink=False
    )
    assert told(lambda x: bool(x[0] > 0), function)[1] == "the first only"
    first = [function.case(number)[0][0] for number in range(8)]
    assert told(lambda x: bool((x[0] if x[0] in first else x.sum()) > 0), function)[1] is None


def test_a_known_mistake_with_another_one_on_a_special_input():
    message, name = told(lambda x, y: (2 * x * (x / x), 2 * x * y))
    assert name == "y left out"
    assert message.endswith("For an x of zero this may not be all: mend it first, then check again.")


def test_two_special_inputs_may_show_the_same():
    zeros = [Special("an x of zero", {"x": np.zeros((n, 3)), "y": np.ones((n, 3))}, "what is 0 / 0?") for n in (1, 2)]
    function = Function("f", F.reference, F.inputs, F.model, special=zeros, outputs=F.outputs)
    message, name = told(lambda x, y: (2 * x * (x / x) if len(x) == 2 else 2 * x, 2 * x * y), function)
    assert name == "y left out"
    assert message.endswith("For an x of zero this may not be all: mend it first, then check again.")


def test_noise_of_its_own_is_found_out():
    for draw in (np.random.default_rng().random, np.random.rand, lambda: float(torch.rand(()))):
        message, name = told(lambda x, y, draw=draw: (2 * x + y + draw(), 2 * x * y))
        assert name == "own noise or memory"
        assert "draws something itself" in message


def test_the_number_of_values_is_said():
    message, name = told(lambda x, y: (x, y, x))
    assert name is None
    assert "Expected 2 values, got 3." in message


def test_where_it_stops_for_some_inputs_the_others_are_named():
    def some(x, y):
        if len(x) > 3:
            raise IndexError("index 3 is out of bounds")
        return 2 * x + y, 2 * x * y

    message, name = told(some)
    assert name is None
    assert message.startswith("the sum (as wrong: the product): It is right for x (")
    assert "It stops in line" in message


def test_inputs_that_shapes_do_not_tell_apart_are_not_told_apart_by_them():
    function = Function(
        "f",
        lambda state, count: state["a"] + count,
        lambda rng: {"state": {"a": rng.standard_normal(3)}, "count": 2},
        lambda choose, state, count: choose(state["a"], ("no a", 0 * state["a"], "where is a?")) + count,
    )
    message, _ = told(lambda state, count: state["a"] + count if state["a"][0] > 0 else state["a"].sum(), function)
    assert "It is right for" not in message


def shared_name(choose, x):
    return choose(x, ("doubled", 2 * x, "why two?")) + choose(0 * x, ("added twice", x, "once is enough."))


def test_where_two_explanations_fit_both_are_offered():
    function = Function("f", lambda x: x, lambda rng: {"x": rng.standard_normal(5)}, shared_name)
    message, name = told(lambda x: 2 * x, function)
    assert message == "doubled: why two? Or: added twice: once is enough."
    assert name == "doubled or added twice"


def test_explanations_with_the_same_advice_share_it():
    def model(choose, x):
        both = "is it there once?"
        return choose(x, ("doubled", 2 * x, both)) + choose(0 * x, ("added twice", x, both))

    function = Function("f", lambda x: x, lambda rng: {"x": rng.standard_normal(5)}, model)
    assert told(lambda x: 2 * x, function) == ("doubled or added twice: is it there once?", "doubled or added twice")


def product(choose, x, y):
    left = choose(x, ("x detached", x.detach(), "what reaches x?"))
    right = choose(y, ("y detached", y.detach(), "what reaches y?"))
    return left * right


PRODUCT = Function(
    "f",
    torch.mul,
    lambda rng: {name: torch.from_numpy(rng.standard_normal(4)) for name in "xy"},
    product,
    gradient=("x", "y"),
)


def test_gradients_are_explained_by_the_same_grammar():
    start = "The values are right, but not the gradients. "
    assert told(lambda x, y: x.detach() * y, PRODUCT) == (start + "x detached: what reaches x?", "x detached")
    both = "x detached: what reaches x? Besides, y detached: what reaches y?"
    assert told(lambda x, y: (x * y).detach(), PRODUCT) == (start + both, "x detached and y detached")
    message, name = told(lambda x, y: x * y + (x**3 - x.detach() ** 3), PRODUCT)
    assert name is None
    assert message.startswith("The values are right, but not the gradient with respect to x. The first wrong value")
    message, name = told(lambda x, y: torch.from_numpy(x.detach().numpy() * y.numpy()), PRODUCT)
    assert "no gradient can pass" in message
