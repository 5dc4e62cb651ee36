"""Told one class c, the conditional VAE of level 3 is the plain VAE of levels 1 and 2 with two other biases.

Both networks see the class as a one-hot vector, so of the extra columns of `encoder.fc.weight` and
`decoder.fc1.weight` only column c counts, times one: it is added to the bias.
"""

import functools

import numpy as np
import pytest
import torch

import vae_lowlevel
from comparison import assert_agree, functions_of, random_inputs, random_params, to_tensors
from vae_paper import ConditionalVAE

NUM_CLASSES, LATENT_DIM, NUM_IMAGES = 10, 7, 5
CLASSES = range(NUM_CLASSES)
BETAS = (1.0, 0.0, 0.3, 4.0)
SHARED = random_params(3, LATENT_DIM, gain=1.5)  # the gain keeps mu, logvar and logits away from zero
X, EPS = random_inputs(4, NUM_IMAGES, LATENT_DIM)
COLUMNS = {  # one per class, as large as the biases that they are added to
    layer: np.random.default_rng(5).uniform(-1, 1, (256, NUM_CLASSES)) for layer in ("encoder.fc", "decoder.fc1")
}


def conditional_model(beta=1.0):
    """Level 3's CVAE: the shared parameters, and the columns of the classes behind those of the features and of z."""
    weights = {
        f"{layer}.weight": np.concatenate([SHARED[f"{layer}.weight"], columns], axis=1)
        for layer, columns in COLUMNS.items()
    }
    with torch.device("meta"):  # shapes alone: every value comes from here
        model = ConditionalVAE(num_classes=NUM_CLASSES, latent_dim=LATENT_DIM, beta=beta)
    model.load_state_dict(to_tensors(SHARED | weights), assign=True)
    return model


def params_of_class(c):
    """The parameters of levels 1 and 2 that are told nothing and know the class."""
    return SHARED | {f"{layer}.bias": SHARED[f"{layer}.bias"] + columns[:, c] for layer, columns in COLUMNS.items()}


@functools.cache
def plain(level, c):
    """What a level that knows no classes computes for class c, by name."""
    vae = functions_of(level, params_of_class(c))
    mu, logvar, z, logits = vae.forward(X, EPS)
    nll, kl = vae.reconstruction_nll(logits, X), vae.kl_divergence(mu, logvar)
    named = {"mu": mu, "logvar": logvar, "z": z, "logits": logits, "reconstruction_nll": nll, "kl_divergence": kl}
    return named | {f"elbo, beta = {beta}": vae.elbo(X, EPS, beta) for beta in BETAS} | {"sample": vae.sample(EPS)}


@torch.no_grad()
def conditional(c):
    """The same numbers by level 3's CVAE, for labels c (N,)."""
    model, x, eps = conditional_model(), torch.tensor(X), torch.tensor(EPS)
    mu, logvar, z, logits = model(x, eps, c)
    nll, kl = model.reconstruction_nll(logits, x), model.kl_divergence(mu, logvar)
    named = {"mu": mu, "logvar": logvar, "z": z, "logits": logits, "reconstruction_nll": nll, "kl_divergence": kl}
    named |= {f"elbo, beta = {beta}": model.elbo(x, eps, beta=beta, c=c) for beta in BETAS}
    return {name: tensor.numpy() for name, tensor in (named | {"sample": model.sample(eps, c)}).items()}


@pytest.mark.parametrize("c", CLASSES)
@pytest.mark.parametrize("level", ["numpy", "lowlevel"])
def test_one_class_is_the_plain_vae_with_two_other_biases(level, c):
    want = plain(level, c)
    for name, got in conditional(torch.full((NUM_IMAGES,), c)).items():
        assert np.abs(want[name]).min() > 1e-6, name  # a number near zero would agree by itself
        assert_agree(got, want[name], 1e-12, name)


@pytest.mark.parametrize("level", ["numpy", "lowlevel"])
def test_in_a_mixed_batch_each_image_follows_its_own_class(level):
    labels = torch.tensor([9, 0, 4, 0, 7])
    for name, got in conditional(labels).items():
        want = np.stack([plain(level, c)[name][i] for i, c in enumerate(labels.tolist())])
        assert_agree(got, want, 1e-12, name)


@pytest.mark.parametrize("beta", BETAS)
@pytest.mark.parametrize("level", ["numpy", "lowlevel"])
def test_the_objective_is_minus_the_plain_one(level, beta):
    """What training minimises, in the model's own beta."""
    for c in CLASSES:
        labels = torch.full((NUM_IMAGES,), c)
        with torch.no_grad():
            terms = conditional_model(beta).terms(torch.tensor(X), torch.tensor(EPS), labels)
        want = plain(level, c)
        assert_agree(terms["loss"].numpy(), -want[f"elbo, beta = {beta}"], 1e-12)
        for name in ("reconstruction_nll", "kl_divergence"):
            assert_agree(terms[name].numpy(), want[name], 1e-12, name)


def test_the_classes_differ():
    """Otherwise any class's column would do above."""
    for name in ("mu", "logvar", "logits", "elbo, beta = 1.0"):
        values = [plain("numpy", c)[name] for c in CLASSES]
        for c in CLASSES[1:]:
            for other in range(c):
                assert np.abs(values[c] - values[other]).max() > 1e-3 * np.abs(values[c]).max(), (name, c, other)


@pytest.mark.parametrize("beta", BETAS)
@pytest.mark.parametrize("c", CLASSES)
def test_the_gradients_are_those_of_level_2(c, beta):
    x, eps = torch.tensor(X), torch.tensor(EPS)
    params = {name: tensor.requires_grad_() for name, tensor in to_tensors(params_of_class(c)).items()}
    (-vae_lowlevel.elbo(params, x, eps, beta)).mean().backward()
    model = conditional_model(beta)
    model.terms(x, eps, torch.full((NUM_IMAGES,), c))["loss"].mean().backward()
    for name, parameter in model.named_parameters():
        got, layer = parameter.grad.numpy(), name.removesuffix(".weight")
        if layer in COLUMNS:
            got, columns = got[:, :-NUM_CLASSES], got[:, -NUM_CLASSES:]
            # Moving the class's column moves the bias; the other classes' columns were multiplied by zero.
            assert_agree(columns[:, c], params[f"{layer}.bias"].grad.numpy(), 1e-12, f"column of {name}")
            assert not np.delete(columns, c, axis=1).any(), name
        assert np.abs(got).max() > 0, name
        assert_agree(got, params[name].grad.numpy(), 1e-12, name)
