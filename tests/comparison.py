"""How the tests compare two tensors, and the three levels behind one interface: arrays in, arrays out."""

from functools import lru_cache, partial
from types import SimpleNamespace

import numpy as np
import torch
from safetensors.numpy import load_file, save_file

import vae_lowlevel
import vae_numpy
import vae_paper

LEVELS = ("numpy", "lowlevel", "paper")
OF_PARAMS = ("encode", "decode", "forward", "elbo", "sample")
OF_TENSORS = ("reparameterize", "kl_divergence", "reconstruction_nll")


def functions_of(level, params):
    """The eight functions of the model as one level computes them with `params`, {name: np.ndarray}."""
    if level == "numpy":
        bound = {name: partial(getattr(vae_numpy, name), params) for name in OF_PARAMS}
        return SimpleNamespace(**bound, **{name: getattr(vae_numpy, name) for name in OF_TENSORS})
    tensors = to_tensors(params)
    if level == "lowlevel":
        functions = {name: partial(getattr(vae_lowlevel, name), tensors) for name in OF_PARAMS}
        functions |= {name: getattr(vae_lowlevel, name) for name in OF_TENSORS}
    else:
        model = paper_model(tensors)
        functions = {name: getattr(model, name) for name in OF_PARAMS + OF_TENSORS}
    return SimpleNamespace(**{name: on_arrays(function) for name, function in functions.items()})


def to_tensors(params):
    return {name: torch.tensor(array) for name, array in params.items()}


def paper_model(tensors):
    """Level 3's default model with the given parameters."""
    with torch.device("meta"):  # shapes alone: random initial values would take most of a test's time
        model = vae_paper.VAE(latent_dim=len(tensors["encoder.mu.bias"]))
    model.load_state_dict(tensors, assign=True)
    return model


def on_arrays(function):
    """A function of tensors as a function of arrays."""

    def call(*arguments):
        arguments = [torch.tensor(value) if isinstance(value, np.ndarray) else value for value in arguments]
        with torch.no_grad():
            result = function(*arguments)
        return tuple(tensor.numpy() for tensor in result) if isinstance(result, tuple) else result.numpy()

    return call


def random_params(seed, latent_dim, dtype=np.float64, gain=1.0):
    """Initial parameters; a gain above 1 moves mu, logvar and logits away from zero, as training does."""
    return {name: array * dtype(gain) for name, array in initial_params(seed, latent_dim, dtype).items()}


initial_params = lru_cache(maxsize=8)(vae_numpy.init_params)


def random_inputs(seed, num_images, latent_dim, dtype=np.float64):
    """x, grey with some pixels at exactly 0 and 1, and eps."""
    rng = np.random.default_rng(seed)
    x = np.clip(rng.uniform(-0.3, 1.3, (num_images, 1, 28, 28)), 0, 1)
    return x.astype(dtype), rng.standard_normal((num_images, latent_dim)).astype(dtype)


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def normals(seed, *shape):
    """Standard normal numbers in float64."""
    return torch.randn(shape, generator=seeded(seed), dtype=torch.float64)


def scaled_error(got, want):
    """max|got - want| / max|want|: ratios element by element would explode at zeros."""
    return np.abs(got - want).max() / max(np.abs(want).max(), np.finfo(np.float64).tiny)


def assert_agree(got, want, tolerance, name=""):
    """Shape, then dtype, then values: the first difference is the one that explains the others."""
    got, want = np.asarray(got), np.asarray(want)
    assert got.shape == want.shape, name
    assert got.dtype == want.dtype, name
    assert scaled_error(got, want) <= tolerance, name


def close(got, want, tolerance=1e-10):
    """Shape and dtype too, which a plain comparison would broadcast and cast away."""
    torch.testing.assert_close(got, want, rtol=0, atol=tolerance)


def assert_one_line(error, *parts):
    """A message that a command line can show: one line that names the `parts`."""
    message = str(error.value)
    assert message
    assert "\n" not in message
    for part in parts:
        assert str(part) in message


def forget_description(path):
    """Make a .safetensors file one of an older version, which does not say what model it holds."""
    save_file(load_file(path), path)
