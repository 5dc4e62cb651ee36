"""Checks as inputs and expected numbers alone, for a hand-out whose readers are not to see how it is done.

`write(functions, path)` and `read(path)`: one JSON file for each exercise. What is left out are the references and the
grammars of mistakes; a recorded check says what is wrong and where, and what a special input asks for.
"""

import json
from dataclasses import dataclass

import numpy as np
import torch

from checking import Expected, Function, Special


@dataclass(frozen=True)
class Recorded(Function):
    """A `Function` that knows the right values for its own inputs only."""

    expected: Expected = None


def write(functions, path):
    """The functions' checks without their code."""
    found = [
        {
            "name": function.name,
            "special": [[each.what, each.advice] for each in function.special],
            "outputs": list(function.outputs),
            "gradient": list(function.gradient),
            "tolerance": function.tolerance,
            "in_place": function.in_place,
            "single": function.single,
            "dtype": function.dtype,
            "expected": {name: encoded(value) for name, value in vars(function.expected).items()},
        }
        for function in functions
    ]
    path.write_text(json.dumps(found), encoding="utf-8")


def read(path):
    """The list of recorded functions."""
    return [
        Recorded(
            name=each["name"],
            reference=None,
            inputs=None,
            model=None,
            special=[Special(what, {}, advice) for what, advice in each["special"]],
            outputs=each["outputs"],
            gradient=each["gradient"],
            tolerance=each["tolerance"],
            in_place=each["in_place"],
            single=each["single"],
            dtype=each["dtype"],
            expected=Expected(**{name: decoded(value) for name, value in each["expected"].items()}),
        )
        for each in json.loads(path.read_text(encoding="utf-8"))
    ]


def encoded(value):
    """Anything that a check's arguments and results are made of, for JSON; each float as its shortest exact digits."""
    if isinstance(value, torch.Tensor):
        return {"tensor": encoded(value.detach().numpy())}
    if isinstance(value, np.ndarray):
        return {"array": value.tolist(), "dtype": str(value.dtype), "shape": value.shape}
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, tuple):
        return {"tuple": [encoded(each) for each in value]}
    if isinstance(value, dict):
        return {"dict": [[encoded(key), encoded(each)] for key, each in value.items()]}
    return [encoded(each) for each in value] if isinstance(value, list) else value


def decoded(value):
    """What `encoded` was given."""
    if isinstance(value, list):
        return [decoded(each) for each in value]
    if not isinstance(value, dict):
        return value
    if "tensor" in value:
        return torch.from_numpy(decoded(value["tensor"]))
    if "array" in value:
        return np.array(value["array"], dtype=value["dtype"]).reshape(value["shape"])
    if "tuple" in value:
        return tuple(decoded(each) for each in value["tuple"])
    return {decoded(key): decoded(each) for key, each in value["dict"]}
