"""The gradients that autograd gives levels 2 and 3 are those of the function that level 1 computes."""

import functools

import numpy as np
import pytest
import torch

import vae_lowlevel
import vae_numpy
from comparison import assert_agree, paper_model, random_inputs, random_params, to_tensors

LATENT_DIM = 3
PARAMS = random_params(1, LATENT_DIM, gain=1.3)
X, EPS = random_inputs(2, 3, LATENT_DIM)
BETAS = [1.0, 2.5]


@functools.cache
def gradients(level, beta):
    """d(sum of the ELBO over the batch) / d(parameter), by name, as arrays."""
    x, eps = torch.tensor(X), torch.tensor(EPS)
    if level == "lowlevel":
        params = {name: tensor.requires_grad_() for name, tensor in to_tensors(PARAMS).items()}
        elbo = vae_lowlevel.elbo(params, x, eps, beta)
    else:
        model = paper_model(to_tensors(PARAMS))
        params, elbo = dict(model.named_parameters()), model.elbo(x, eps, beta)
    elbo.sum().backward()
    return {name: tensor.grad.numpy() for name, tensor in params.items()}


def finite_difference(name, index, beta, h=1e-6):
    """The same derivative for one entry of one parameter, from two values of level 1's ELBO."""

    def elbo_at(step):
        moved = PARAMS[name].copy()
        moved[index] += step
        return vae_numpy.elbo(PARAMS | {name: moved}, X, EPS, beta).sum()

    return (elbo_at(h) - elbo_at(-h)) / (2 * h)


def sampled_entries(gradient, rng):
    """The entry with the largest gradient and four random ones that matter (a closed ReLU makes many exact zeros)."""
    flat = np.abs(gradient).ravel()
    useful = np.flatnonzero(flat > 1e-3 * flat.max())
    chosen = {int(flat.argmax()), *rng.choice(useful, min(4, len(useful)), replace=False).tolist()}
    return [np.unravel_index(i, gradient.shape) for i in sorted(chosen)]


@pytest.mark.parametrize("name", PARAMS)
@pytest.mark.parametrize("beta", BETAS)
def test_levels_2_and_3_have_one_gradient(name, beta):
    want = gradients("paper", beta)[name]
    assert np.abs(want).max() > 0
    assert_agree(gradients("lowlevel", beta)[name], want, 1e-10)


@pytest.mark.parametrize("name", PARAMS)
@pytest.mark.parametrize("level", ["lowlevel", "paper"])
@pytest.mark.parametrize("beta", BETAS)
def test_gradient_is_the_slope_of_level_1(name, level, beta):
    """Central differences; the tolerance is of the tensor's largest gradient, because a ReLU may switch in between."""
    gradient = gradients(level, beta)[name]
    rng = np.random.default_rng(sum(name.encode()))
    for index in sampled_entries(gradient, rng):
        slope = finite_difference(name, index, beta)
        assert abs(gradient[index] - slope) <= 1e-4 * np.abs(gradient).max(), (index, gradient[index], slope)


@pytest.mark.parametrize("level", ["lowlevel", "paper"])
def test_gradient_reaches_the_images_and_the_noise(level):
    """Nothing between the inputs and the ELBO is cut out of the graph: dz/deps = exp(logvar / 2), exactly."""
    mu, logvar = vae_numpy.encode(PARAMS, X)
    eps = torch.tensor(EPS, requires_grad=True)
    reparameterize = (
        vae_lowlevel.reparameterize if level == "lowlevel" else paper_model(to_tensors(PARAMS)).reparameterize
    )
    reparameterize(torch.tensor(mu), torch.tensor(logvar), eps).sum().backward()
    assert_agree(eps.grad.numpy(), np.exp(logvar / 2), 1e-14)
