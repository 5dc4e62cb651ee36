"""Right is right in whatever form it comes; wrong is said to be wrong, whatever the form."""

import re

import numpy as np
import pytest
import torch

from checking import Function, Special, check_function, judge
from course import find
from evaluating import Outcome

KL = find(3).functions["kl_divergence"]
GRADIENT = find(3).functions["kl_gradient"]


def right(mu, logvar):
    return 0.5 * (mu**2 + np.exp(logvar) - 1 - logvar).sum(1)


def in_place(mu, logvar):
    mu *= mu
    return 0.5 * (mu + np.exp(logvar) - 1 - logvar).sum(1)


def with_torch(mu, logvar):
    mu, logvar = torch.as_tensor(mu), torch.as_tensor(logvar)
    return 0.5 * (mu**2 + logvar.exp() - 1 - logvar).sum(1)


class Callable:
    """Not a function, but as good as one."""

    def __call__(self, mu, logvar):
        return right(mu, logvar)


@pytest.mark.parametrize(
    ("answer", "remark"),
    [
        (right, ""),
        (lambda a, b: right(a, b), ""),
        (Callable(), ""),
        (lambda mu, logvar, extra=None: right(mu, logvar), ""),
        (lambda mu, logvar: right(mu, logvar).tolist(), ""),
        (lambda mu, logvar: tuple(right(mu, logvar)), ""),
        (lambda mu, logvar: right(mu.astype(np.float64), logvar), "float64 for float32 inputs"),
        (with_torch, "a tensor of float64 where the text goes on with an array of float64"),
        (in_place, "changes an input in place"),
    ],
)
def test_a_right_answer_passes_in_any_form_with_one_remark(answer, remark):
    result = check_function(KL, answer)
    assert result.ok, result.message
    assert result.misconception is None
    assert re.fullmatch(f"right; .*{remark}.*" if remark else "right", result.message)


@pytest.mark.parametrize("form", [tuple, list, np.stack, np.array])
def test_several_values_may_come_in_any_container(form):
    assert check_function(GRADIENT, lambda mu, logvar: form([mu, 0.5 * (np.exp(logvar) - 1)])).ok


def three_tensors(rng):
    return {name: torch.from_numpy(rng.standard_normal((3, 2))) for name in ("mu", "logvar", "eps")}


def draw_model(choose, mu, logvar, eps):
    sigma = torch.exp(logvar / 2)
    return mu + choose(sigma, ("a detached sigma", sigma.detach(), "what reaches logvar?")) * eps


DRAW = Function(
    "reparameterize",
    lambda mu, logvar, eps: mu + torch.exp(logvar / 2) * eps,
    three_tensors,
    draw_model,
    gradient=("mu", "logvar"),
)
NUMBER = Function(
    "f", lambda x: float(x.sum()), lambda rng: {"x": rng.random(3)}, lambda choose, x: x.sum(), tolerance=1e-6
)


@pytest.mark.parametrize(
    "number", [float, np.float64, np.float32, np.array, torch.tensor, lambda value: np.float64(value).item()]
)
def test_a_number_may_be_of_any_kind(number):
    assert check_function(NUMBER, lambda x: number(x.sum())).ok


TRUTH = Function(
    "f",
    lambda x: bool(x[0] > 0),
    lambda rng: {"x": rng.standard_normal(3)},
    lambda choose, x: choose(x[0] > 0, ("the last", x[-1] > 0, "which one?")),
)


@pytest.mark.parametrize("form", [bool, np.bool_, np.array, int, torch.tensor])
def test_a_truth_value_may_be_of_any_kind(form):
    assert check_function(TRUTH, lambda x: form(x[0] > 0)).ok


@pytest.mark.parametrize(
    "wrong", [lambda x: "yes", lambda x: None, lambda x: np.array([x[0] > 0]), lambda x: x[-1] > 0]
)
def test_another_truth_value_does_not_pass(wrong):
    assert not check_function(TRUTH, wrong).ok


def test_an_answer_in_float32_alone_is_right_with_a_remark():
    def single(mu, logvar, eps):
        return mu + torch.exp(torch.tensor(0.5) * logvar) * eps

    def strict(mu, logvar, eps):
        return torch.matmul(mu + torch.exp(logvar / 2) * eps, torch.eye(mu.shape[1]))

    assert check_function(DRAW, single).message == "right"
    result = check_function(DRAW, strict)
    assert result.ok, result.message
    assert "float32 only" in result.message
    assert not check_function(DRAW, lambda mu, logvar, eps: strict(mu, 2 * logvar, eps)).ok


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda mu, logvar: None, "is there a `return`"),
        (lambda mu, logvar: right(mu, logvar)[:, None], "as a column|kept as a column"),
        (lambda mu, logvar: right(mu, logvar) * np.nan, "NaN or infinite"),
        (lambda mu, logvar: (1.0, 2.0), r"Expected shape \(\d,\), got \(2,\)"),
        (lambda mu, logvar: np.sin(right(mu, logvar)), r"The first wrong value at \[0\]: expected"),
        (lambda mu, logvar: mu / 0 + undefined, "It stops in line .* with NameError"),  # noqa: F821
        (lambda mu: mu, "TypeError"),
        (lambda mu, logvar: np.float32(mu) @ undefined, "NameError"),  # noqa: F821
    ],
)
def test_a_wrong_answer_is_told_what_is_wrong(answer, message):
    result = check_function(KL, answer)
    assert not result.ok
    assert re.search(message, result.message), result.message
    assert "Traceback" not in result.message


def test_what_is_wrong_in_float32_only_is_said():
    """exp(100) is a number in float64 only."""

    def overflows(mu, logvar):
        huge = np.exp(np.ones_like(mu) * 100)
        return right(mu, logvar) * (huge / huge).mean(1)

    result = check_function(KL, overflows)
    assert result.message.startswith("It is right in float64, but not in float32. Some values are NaN")


def test_a_verdict_never_changes():
    wrong = lambda mu, logvar: np.sin(right(mu, logvar))  # noqa: E731
    assert len({check_function(KL, wrong).message for _ in range(3)}) == 1
    assert [case[0].shape for case in map(KL.case, range(4))] == [case[0].shape for case in map(KL.case, range(4))]


def test_after_a_call_that_took_all_the_time_there_is_no_other():
    calls = []

    def run(call):
        calls.append(call)
        return Outcome(problem="It was still running.", fatal=True)

    result = judge(KL, run)
    assert (result.ok, result.message, len(calls)) == (False, "It was still running.", 1)


def test_gradients_count_only_where_they_are_asked_for():
    assert check_function(KL, lambda mu, logvar: right(mu, logvar)).ok
    result = check_function(DRAW, lambda mu, logvar, eps: (mu + torch.exp(logvar / 2) * eps).detach())
    assert not result.ok
    assert "values are right, but not the gradients" in result.message
    result = check_function(DRAW, lambda mu, logvar, eps: torch.from_numpy((mu + torch.exp(logvar / 2) * eps).numpy()))
    assert "no gradient can pass" in result.message or "gradients" in result.message
    assert not result.ok
    assert check_function(DRAW, lambda mu, logvar, eps: mu + torch.exp(logvar / 2) * eps.detach()).ok


def test_in_place_is_a_fault_only_where_it_is_forbidden():
    strict = Function("f", KL.reference, KL.inputs, KL.model, in_place=False)
    assert check_function(strict, right).ok
    assert check_function(strict, in_place).misconception == "changed in place"


def test_a_dtype_counts_where_it_is_asked_for():
    strict = Function("f", KL.reference, KL.inputs, KL.model, dtype="float64", tolerance=1e-5)
    assert check_function(strict, right).ok
    assert check_function(strict, lambda mu, logvar: right(mu, logvar).tolist()).ok
    result = check_function(strict, lambda mu, logvar: right(mu, logvar).astype(np.float32))
    assert result.misconception == "another dtype"


def test_float32_is_not_tried_where_it_does_not_occur():
    def needs_double(mu, logvar):
        return right(mu, logvar) if mu.dtype == np.float64 else mu

    assert not check_function(KL, needs_double).ok
    assert check_function(Function("f", KL.reference, KL.inputs, KL.model, single=False), needs_double).ok


def test_a_special_input_may_leave_out_arguments_with_defaults():
    function = Function(
        "f",
        lambda x, t=2.0: t * x,
        lambda rng: {"x": rng.random(3), "t": 3.0},
        lambda choose, x, t=2.0: t * x,
        special=[Special("no t", {"x": np.ones(3)}, "what is t then?")],
    )
    assert check_function(function, lambda x, t=2.0: t * x).ok
    assert check_function(function, lambda x, t=1.0: t * x).misconception == "wrong for no t"


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda x: (x, {"b": 3 * x, "a": 2 * x}), "right"),
        (lambda x: [x, {"a": 2 * x, "b": 3 * x}], "right"),
        (lambda x: (x, {"a": 2 * x, "b": -3 * x}), "x and a are right. b: the sign: "),
        (lambda x: (x, {"b": 2 * x, "a": 3 * x}), "x is right. a: "),
        (lambda x: {"a": 2 * x, "b": 3 * x}, "Missing: what stands beside the dictionary."),
        (lambda x: (x, (2 * x, 3 * x[:1])), "It returns a tuple of arrays that differ in shape"),
        (lambda x: (x, {"a": 2 * x}), "Missing: b."),
        (lambda x: (x, {"a": 2 * x, "c": 3 * x}), "Missing: b. Unknown: c."),
        (lambda x: (x, 2 * x, 3 * x), "Expected a dictionary, with the names a, b."),
    ],
)
def test_values_in_a_dictionary_are_told_apart_by_their_names(answer, message):
    def reference(x):
        return x, {"a": 2 * x, "b": 3 * x}

    def inputs(rng):
        return {"x": rng.standard_normal(5)}

    function = Function("f", reference, inputs, lambda choose, x: reference(x), outputs=("x", "a", "b"))
    result = check_function(function, answer)
    assert result.ok == (message == "right")
    assert message in result.message


def test_no_dictionary_where_none_is_asked_for():
    message = check_function(KL, lambda mu, logvar: {"kl": right(mu, logvar)}).message
    assert message.startswith("Expected no dictionary.")


def test_two_plain_numbers_are_two_values():
    def reference(x):
        return float(x.sum()), np.float64(x.max())

    function = Function("f", reference, lambda rng: {"x": rng.random(5)}, lambda choose, x: reference(x))
    assert [len(want) for want in function.expected.wanted] == [2] * 8
    assert "value 1 is right. value 2: " in check_function(function, lambda x: (x.sum(), x.min())).message


def test_a_question_without_inputs_is_judged_and_the_answer_not_given_away():
    def model(choose):
        return {"A": choose(7, ("8 for A", 8, "look at A again.")), "B": choose(3, ("4 for B", 4, "and at B."))}

    function = Function("f", lambda: {"A": 7, "B": 3}, lambda rng: {}, model, outputs=("run A", "run B"))
    assert check_function(function, lambda: {"A": 7, "B": 3}).message == "right"
    for answer, message in (
        ({"A": 7, "B": 4}, "run A is right. run B: 4 for B: and at B."),
        ({"A": 8, "B": 4}, "run A: 8 for A: look at A again. run B: 4 for B: and at B."),
        ({"A": 3, "B": 7}, "run A (as wrong: run B): this is not right."),
        ({"A": 7, "B": 99}, "run A is right. run B: this is not right."),
        ({"A": 7}, "Missing: B."),
    ):
        assert check_function(function, lambda answer=answer: answer).message == message
