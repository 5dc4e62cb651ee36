"""The smallest input that goes wrong can be pasted, and goes wrong."""

import numpy as np
import pytest
import torch

from checking import Function, check_function


def vectors(rng):
    return {"x": rng.standard_normal((rng.integers(1, 6), rng.integers(2, 5))), "t": float(rng.uniform(1, 2))}


F = Function("f", lambda x, t: (x * t).sum(1), vectors, lambda choose, x, t: (x * t).sum(1))


def example(message):
    """(the call, what it gives, what is right) out of a message."""
    text = message.split("The smallest example found: ")[1].rstrip(".")
    call, rest = text.split(" gives ")
    return (call, *rest.split("; right is "))


@pytest.mark.parametrize(
    "wrong", [lambda x, t: (x * t + 0.1 * x**3).sum(1), lambda x, t: (x * t).sum(1) + np.sin(x[0, 0] - x[-1, -1] ** 2)]
)
def test_the_example_is_small_and_true(wrong):
    call, gives, right = example(check_function(F, wrong).message)
    assert len(call) < 60  # one row of two
    for function, want in ((wrong, gives), (F.reference, right)):
        np.testing.assert_allclose(eval(call, {"f": function, "np": np}), eval(want), rtol=1e-5)
    assert gives != right


def test_tensors_are_pasted_as_such():
    function = Function(
        "g",
        lambda x: x.square(),
        lambda rng: {"x": torch.from_numpy(rng.standard_normal((rng.integers(1, 4), 2)))},
        lambda choose, x: x.square(),
    )
    call, gives, _ = example(check_function(function, lambda x: torch.sin(x) + x**3).message)
    found = eval(call, {"g": lambda x: torch.sin(x) + x**3, "torch": torch})
    np.testing.assert_allclose(found, eval(gives), rtol=1e-5)


def test_a_long_example_is_left_out():
    long = Function("f", lambda x: x, lambda rng: {"x": rng.standard_normal((30, 10))}, lambda choose, x: x)
    assert "smallest" not in check_function(long, lambda x: np.sin(x) + x**3).message
