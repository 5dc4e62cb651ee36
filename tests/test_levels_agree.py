"""The same weights, images and noise give the same numbers at all three levels."""

import numpy as np
import pytest
import torch

import vae_lowlevel
import vae_numpy
import vae_paper
from comparison import assert_agree, functions_of, random_inputs, random_params

TOLERANCE = {np.float64: 1e-12, np.float32: 1e-5}


def expected_parameters(latent_dim):
    """[(name, shape, bound of its initial values)] of all 18 tensors, in the order of the files.

    The bound is 1 / sqrt(fan_in), where fan_in is weight.shape[1] * k * k, for the transposed convolutions too.
    """
    layers = [
        # name, shape of the weight, length of the bias, fan_in
        ("encoder.conv1", (32, 1, 3, 3), 32, 9),
        ("encoder.conv2", (64, 32, 3, 3), 64, 288),
        ("encoder.fc", (256, 3136), 256, 3136),
        ("encoder.mu", (latent_dim, 256), latent_dim, 256),
        ("encoder.logvar", (latent_dim, 256), latent_dim, 256),
        ("decoder.fc1", (256, latent_dim), 256, latent_dim),
        ("decoder.fc2", (3136, 256), 3136, 256),
        ("decoder.deconv1", (64, 32, 3, 3), 32, 288),
        ("decoder.deconv2", (32, 1, 3, 3), 1, 9),
    ]
    parameters = []
    for name, weight, bias, fan_in in layers:
        parameters += [(f"{name}.weight", weight, fan_in**-0.5), (f"{name}.bias", (bias,), fan_in**-0.5)]
    return parameters


def everything(level, params, x, eps, beta):
    """Every number a level can compute from one batch, by name; forward must repeat its parts."""
    vae = functions_of(level, params)
    mu, logvar = vae.encode(x)
    z = vae.reparameterize(mu, logvar, eps)
    logits = vae.decode(z)
    for part, whole in zip((mu, logvar, z, logits), vae.forward(x, eps), strict=True):
        assert_agree(whole, part, TOLERANCE[part.dtype.type] / 10)
    return {
        "mu": mu,
        "logvar": logvar,
        "z": z,
        "logits": logits,
        "reconstruction_nll": vae.reconstruction_nll(logits, x),
        "kl_divergence": vae.kl_divergence(mu, logvar),
        "elbo": vae.elbo(x, eps),
        f"elbo, beta = {beta}": vae.elbo(x, eps, beta),
        "sample": vae.sample(eps),
    }


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("seed", range(30))
def test_every_number_agrees(seed, dtype):
    rng = np.random.default_rng(seed)
    num_images = int(rng.integers(65, 71) if seed % 6 == 0 else rng.integers(1, 25))  # level 1 works in chunks of 64
    latent_dim, gain, beta = int(rng.integers(1, 33)), rng.uniform(1, 2), rng.uniform(0, 8)
    params = random_params(seed, latent_dim, dtype, gain)
    x, eps = random_inputs(seed, num_images, latent_dim, dtype)
    numpy_level = everything("numpy", params, x, eps, beta)
    assert numpy_level["mu"].shape == (num_images, latent_dim)
    assert numpy_level["logits"].shape == (num_images, 1, 28, 28)
    assert numpy_level["elbo"].shape == (num_images,)
    for level in ("lowlevel", "paper"):
        for name, got in everything(level, params, x, eps, beta).items():
            want = numpy_level[name]
            if name == "kl_divergence" and dtype is np.float32:
                # Close to the prior the KL is a small difference of large numbers, so its error is absolute.
                assert (got.shape, got.dtype) == (want.shape, want.dtype)
                assert np.all(np.abs(got - want) <= 1e-5 * (1 + want)), level
            else:
                assert_agree(got, want, TOLERANCE[dtype], f"{name} of {level}")


@pytest.mark.parametrize("latent_dim", [1, 2, 20])
@pytest.mark.parametrize(("numpy_dtype", "torch_dtype"), [(np.float32, torch.float32), (np.float64, torch.float64)])
def test_one_seed_gives_levels_1_and_2_the_same_parameters(latent_dim, numpy_dtype, torch_dtype):
    first = vae_numpy.init_params(7, latent_dim, numpy_dtype)
    second = vae_lowlevel.init_params(7, latent_dim, torch_dtype)
    assert list(first) == list(second) == [name for name, _, _ in expected_parameters(latent_dim)]
    for name, shape, _ in expected_parameters(latent_dim):
        assert first[name].shape == tuple(second[name].shape) == shape
        assert (first[name].dtype, second[name].dtype) == (numpy_dtype, torch_dtype)
        assert second[name].requires_grad
        np.testing.assert_array_equal(first[name], second[name].detach().numpy())
    other = vae_numpy.init_params(8, latent_dim, numpy_dtype)
    assert all(not np.array_equal(first[name], other[name]) for name in first)


@pytest.mark.parametrize("latent_dim", [2, 20])
def test_paper_has_the_same_parameters_in_the_same_order(latent_dim):
    shapes = [(name, tuple(tensor.shape)) for name, tensor in vae_paper.VAE(latent_dim=latent_dim).state_dict().items()]
    assert shapes == [(name, shape) for name, shape, _ in expected_parameters(latent_dim)]


def test_default_latent_dim_is_20():
    assert vae_numpy.init_params(0)["encoder.mu.bias"].shape == (20,)
    assert vae_lowlevel.init_params(0)["encoder.mu.bias"].shape == (20,)
    assert vae_paper.VAE().latent_dim == 20


def initial_parameters(level, seed, latent_dim):
    if level == "numpy":
        return vae_numpy.init_params(seed, latent_dim)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return {name: tensor.numpy() for name, tensor in vae_paper.VAE(latent_dim=latent_dim).state_dict().items()}


@pytest.mark.parametrize("level", ["numpy", "paper"])
def test_initial_values_fill_the_same_interval(level):
    """U(-bound, bound), bound = 1 / sqrt(fan_in): over 25 seeds the largest value comes close to it, none exceeds it.

    A fan_in of the other axis would be wrong by at least sqrt(2).
    """
    latent_dim = 5
    draws = [initial_parameters(level, seed, latent_dim) for seed in range(25)]
    for name, _, bound in expected_parameters(latent_dim):
        values = np.concatenate([draw[name].ravel() for draw in draws])
        assert 0.8 * bound < np.abs(values).max() <= bound * (1 + 1e-6), name
        if values.size > 5000:  # enough to see the mean and the standard deviation of a uniform distribution
            assert abs(values.mean()) < 0.05 * bound, name
            assert values.std() == pytest.approx(bound / 3**0.5, rel=0.05), name
