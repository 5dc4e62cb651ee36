"""Importance weighting against models whose log p(x) is known: a linear Gaussian VAE is probabilistic PCA, whose
evidence, posterior and maximum-likelihood solution are closed formulas. Gradients against sums written out per sample.
"""

import contextlib
import copy
import csv
import io
import math
import re
from dataclasses import dataclass

import matplotlib.image
import numpy as np
import pytest
import torch
from torch.distributions import Bernoulli, MultivariateNormal, Normal
from torch.distributions import kl_divergence as torch_kl_divergence

import iwae
import likelihood
import vae_paper
import vq_vae
from experiment import ResidentImages, TrainingConfig, load_resident
from iwae import IWAE, importance_weighted_bound
from likelihood import active_units, anomaly_scores, anomaly_threshold, log_likelihood, pixel_uncertainty
from trainer import train
from vae_paper import VAE, Autoencoder, ConditionalVAE, log_normal

CPU = torch.device("cpu")
SHAPE, NUM_PIXELS, Z = (1, 2, 3), 6, 2
SIGMA = 0.5
LINEAR = {"latent_dim": Z, "architecture": "mlp", "hidden_dims": (), "image_shape": SHAPE}


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def randn(seed, *shape):
    return torch.randn(shape, generator=seeded(seed), dtype=torch.float64)


def close(got, want, tolerance=1e-10):
    """Shape and dtype too, which a plain comparison would broadcast and cast away."""
    torch.testing.assert_close(got, want, rtol=0, atol=tolerance)


# --- Probabilistic PCA as a VAE --------------------------------------------------------------------------------------


def orthogonal_weight(scales=(1.5, 0.4), seed=0):
    """(6, 2) with orthogonal columns, so that the posterior has no correlation that the encoder could not have."""
    return torch.linalg.qr(randn(seed, NUM_PIXELS, Z)).Q * torch.tensor(scales, dtype=torch.float64)


def exact_encoder(weight, sigma=SIGMA):
    """q(z|x) = N(A (x - b), diag(v)), the posterior of x = W z + b + sigma noise: A (2, 6), v (2,)."""
    v = 1 / (1 + weight.square().sum(dim=0) / sigma**2)
    return v[:, None] * weight.T / sigma**2, v


def linear_model(cls=VAE, exact=True, num_classes=0, sigma=SIGMA, **options):
    """The model with an exact encoder, or with one that is wrong in mean and variance, and for each x differently."""
    classes = {"num_classes": num_classes} if num_classes else {}
    model = cls(**LINEAR, likelihood="gaussian", sigma=sigma, **classes, **options).double()
    weight, offset, of_class = orthogonal_weight(), randn(1, NUM_PIXELS), randn(2, NUM_PIXELS, num_classes)
    a, v = exact_encoder(weight)
    encoder, decoder = model.encoder, model.decoder
    with torch.no_grad():
        if sigma == "learned":
            model.log_sigma.fill_(math.log(SIGMA))
        decoder.logits.weight.copy_(torch.cat([weight, of_class], dim=1))
        decoder.logits.bias.copy_(offset)
        encoder.mu.weight.copy_(torch.cat([a, -a @ of_class], dim=1))
        encoder.mu.bias.copy_(-a @ offset)
        encoder.logvar.weight.zero_()
        encoder.logvar.bias.copy_(v.log())
        if not exact:
            encoder.mu.weight.mul_(0.8)
            encoder.mu.bias.add_(torch.tensor([0.2, -0.3]))
            encoder.logvar.weight.copy_(0.1 * randn(3, *encoder.logvar.weight.shape))
            encoder.logvar.bias.add_(torch.tensor([0.7, -0.4]))
    return model


def decoder_of(model):
    """W, b and sigma as the model's state holds them."""
    state = model.state_dict()
    weight, bias = state["decoder.logits.weight"], state["decoder.logits.bias"]
    sigma = state["log_sigma"].exp() if "log_sigma" in state else torch.tensor(model.sigma, dtype=torch.float64)
    return weight, bias, sigma


def evidence(model, x, c=None):
    """log p(x) = log N(x; b, W W^T + sigma^2 I), with a class the mean moved by its column: (N,) nats."""
    weight, bias, sigma = decoder_of(model)
    of_class = torch.zeros(NUM_PIXELS, dtype=torch.float64) if c is None else weight[:, Z:].T[c]
    weight = weight[:, :Z]
    covariance = weight @ weight.T + sigma**2 * torch.eye(NUM_PIXELS, dtype=torch.float64)
    return MultivariateNormal(bias + of_class, covariance).log_prob(x.flatten(1))


def exact_elbo(model, x):
    """E_q[log p(x|z)] - KL: the squared error's expectation is that at mu plus the variance that W lets through."""
    weight, bias, sigma = decoder_of(model)
    with torch.no_grad():
        mu, logvar = model.encode(x)
    error = (x.flatten(1) - bias - mu @ weight.T).square().sum(dim=1) + logvar.exp() @ weight.square().sum(dim=0)
    expected = -error / (2 * sigma**2) - NUM_PIXELS * torch.log(sigma * math.sqrt(2 * math.pi))
    prior = Normal(torch.zeros_like(mu), torch.ones_like(mu))
    return expected - torch_kl_divergence(Normal(mu, torch.exp(logvar / 2)), prior).sum(dim=1)


def images_near(model, count, seed=10):
    """Images that the model itself might have made, somewhat more spread out."""
    weight, bias, sigma = decoder_of(model)
    z, noise = 1.2 * randn(seed, count, Z), randn(seed + 1, count, NUM_PIXELS)
    return (z @ weight[:, :Z].T + bias + sigma * noise).unflatten(1, SHAPE)


@pytest.mark.parametrize("sigma", [SIGMA, "learned"])
@pytest.mark.parametrize("k", [1, 2, 7, 50])
def test_with_the_exact_posterior_every_weight_is_the_evidence(k, sigma):
    model = linear_model(sigma=sigma)
    x = images_near(model, 5)
    want = evidence(model, x)
    with torch.no_grad():
        log_w = model.log_weights(x, 3 * randn(0, 5, k, Z))  # also far out in the tails
        close(log_w, want[:, None].expand(5, k))
        close(importance_weighted_bound(log_w), want)
        close(log_likelihood(model, x, k, seeded(1)), want)
    assert want.max() - want.min() > 1


@pytest.mark.parametrize("exact", [True, False], ids=["exact posterior", "another one"])
def test_the_elbo_is_the_closed_form(exact):
    """The ELBO is quadratic in eps, and four points sqrt(2) from the origin have the moments that it needs."""
    model = linear_model(exact=exact)
    x = images_near(model, 5)
    points = math.sqrt(Z) * torch.cat([torch.eye(Z), -torch.eye(Z)]).double()
    with torch.no_grad():
        elbo = torch.stack([model.elbo(x, point.expand(5, Z)) for point in points]).mean(dim=0)
        scores = [model.posterior_samples(x, points.expand(5, 4, Z))[3].mean(dim=1), model.encode(x)]
    close(elbo, exact_elbo(model, x))
    close(scores[0] - model.kl_divergence(*scores[1]), exact_elbo(model, x))
    gap = evidence(model, x) - elbo
    assert gap.abs().max() < 1e-10 if exact else gap.min() > 0.1


def test_the_bound_climbs_from_the_elbo_towards_the_evidence():
    model, draws = linear_model(exact=False), 3000
    x = images_near(model, 3)
    want, means, errors = evidence(model, x), [], []
    for k in (1, 2, 8, 64):
        with torch.no_grad():
            log_w = model.log_weights(x, randn(k, 3, draws * k, Z))
        bounds = importance_weighted_bound(log_w.reshape(3 * draws, k)).view(3, draws)
        means.append(bounds.mean(dim=1))
        errors.append(bounds.std(dim=1) / draws**0.5)
    assert ((means[0] - exact_elbo(model, x)).abs() < 4 * errors[0]).all()
    for low, high, error_low, error_high in zip(means, means[1:], errors, errors[1:], strict=False):
        assert (high - low > 4 * torch.hypot(error_low, error_high)).all()
    assert (means[-1] < want + 4 * errors[-1]).all()
    assert (want - means[-1] < (want - means[0]) / 8).all()


def test_the_weights_have_the_evidence_as_their_mean():
    model, draws = linear_model(exact=False), 200_000
    x = images_near(model, 3)
    with torch.no_grad():
        ratio = torch.exp(model.log_weights(x, randn(0, 3, draws, Z)) - evidence(model, x)[:, None])
    error = ratio.std(dim=1) / draws**0.5
    assert error.max() < 0.02
    assert ((ratio.mean(dim=1) - 1).abs() < 4 * error).all()


@pytest.mark.parametrize("rows", [50_000, 999], ids=["at once", "in chunks"])
def test_log_likelihood_converges_to_the_evidence(rows):
    """With 20000 samples the standard error is a relative one of p(x): the weights' spread / sqrt(20000)."""
    model, k = linear_model(exact=False), 20_000
    x = images_near(model, 3)
    want = evidence(model, x)
    with torch.no_grad():
        spread = torch.exp(model.log_weights(x, randn(1, 3, 20_000, Z)) - want[:, None]).std(dim=1)
    error = spread / k**0.5
    assert error.max() < 0.05
    got = log_likelihood(model, x, k, seeded(2), rows=rows)
    assert ((got - want).abs() < 4 * error).all()
    assert ((want - exact_elbo(model, x)) > 20 * error).all()  # the ELBO would not pass for it


@pytest.mark.parametrize(("k", "rows"), [(1, 1), (7, 3), (10, 10), (10, 25), (5, 1000), (1000, 999), (6, 2)])
def test_log_likelihood_takes_its_samples_exactly(monkeypatch, k, rows):
    """However they are cut: each image gets k samples, no more than `rows` at once, and their log-mean-exp."""
    model, count = linear_model(exact=False), 5
    x = images_near(model, count)
    calls, log_weights = [], model.log_weights

    def recorded(images, eps, c=None):
        calls.append((images, eps))
        return log_weights(images, eps, c)

    monkeypatch.setattr(model, "log_weights", recorded)
    got = log_likelihood(model, x, k, seeded(0), rows=rows)
    assert all(eps.shape[0] * eps.shape[1] <= rows for _, eps in calls)
    for image, value in zip(x, got, strict=True):
        noise = [eps[images.eq(image).flatten(1).all(dim=1)] for images, eps in calls]
        noise = torch.cat([part for part in noise if len(part)], dim=1)
        assert noise.shape == (1, k, Z)
        assert len(noise.flatten().unique()) == k * Z  # no draw is used twice
        with torch.no_grad():
            log_w = log_weights(image[None], noise)
        close(value, torch.log(torch.exp(log_w - log_w.max()).mean()) + log_w.max())
    assert model.validate


def test_log_likelihood_draws_images_in_order_from_the_generator():
    model, generator = linear_model(exact=False), seeded(3)
    x = images_near(model, 5)
    want = []
    for start in (0, 2, 4):  # 10 samples in 25 rows: two images at a time
        images = x[start : start + 2]
        eps = torch.randn(len(images), 10, Z, generator=generator, dtype=torch.float64)
        with torch.no_grad():
            want.append(torch.logsumexp(model.log_weights(images, eps), dim=1) - math.log(10))
    close(log_likelihood(model, x, 10, seeded(3), rows=25), torch.cat(want), 1e-12)


@pytest.mark.parametrize("rows", [1, 2, 4, 7, 1000])
def test_each_image_is_weighed_under_its_own_class(rows):
    model = linear_model(ConditionalVAE, num_classes=3)
    x, c = images_near(model, 7), torch.tensor([0, 1, 2, 2, 1, 0, 2])
    want = evidence(model, x, c)
    close(log_likelihood(model, x, 3, seeded(0), c, rows=rows), want)
    assert (evidence(model, x, (c + 1) % 3) - want).abs().min() > 0.1
    with torch.no_grad():
        close(model.log_weights(x, randn(0, 7, 4, Z), c), want[:, None].expand(7, 4))


@pytest.mark.parametrize(("k", "rows"), [(0, 10), (-1, 10), (2.0, 10), (5, 0)])
def test_log_likelihood_refuses_counts_below_one(k, rows):
    model = linear_model()
    with pytest.raises(ValueError, match="must be an integer of at least 1"):
        log_likelihood(model, images_near(model, 2), k, seeded(0), rows=rows)


# --- The samples behind the weights ----------------------------------------------------------------------------------


def small_iwae(k=4, objective="iwae", **options):
    """A network with a bend in it, whose samples differ in weight."""
    torch.manual_seed(0)
    model = IWAE(k, objective, 2, hidden_dims=(5,), image_shape=SHAPE, **options).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return model


def grey_images(count, seed=0):
    return torch.rand(count, *SHAPE, generator=seeded(seed), dtype=torch.float64)


def log_p_of_pixels(model, mean, x):
    if model.likelihood == "bernoulli":
        return Bernoulli(logits=mean, validate_args=False).log_prob(x).sum()
    return Normal(mean, torch.exp(torch.as_tensor(model.log_sigma, dtype=x.dtype))).log_prob(x).sum()


def log_weight_of(model, x, z, q):
    """log w of one image (1, C, H, W) and one sample (Z,), with somebody else's densities."""
    log_p = log_p_of_pixels(model, model.decode(z[None]), x)
    return log_p + Normal(torch.zeros_like(z), torch.ones_like(z)).log_prob(z).sum() - q.log_prob(z).sum()


def sample_by_sample(model, x, eps):
    """[[log w]], built one image and one sample at a time, with gradients."""
    rows = []
    for image, noise in zip(x, eps, strict=True):
        mu, logvar = (tensor[0] for tensor in model.encode(image[None]))
        q = Normal(mu, torch.exp(logvar).sqrt())
        rows.append(
            torch.stack([log_weight_of(model, image[None], mu + torch.exp(logvar).sqrt() * e, q) for e in noise])
        )
    return torch.stack(rows)


@pytest.mark.parametrize("options", [{}, {"likelihood": "gaussian", "sigma": 0.3}], ids=["bernoulli", "gaussian"])
def test_log_weights_are_those_of_torch_distributions(options):
    model, x, eps = small_iwae(**options), grey_images(3), randn(1, 3, 4, 2)
    with torch.no_grad():
        close(model.log_weights(x, eps), sample_by_sample(model, x, eps), 1e-12)


def test_posterior_samples_keep_image_and_sample_apart():
    model, x, eps = small_iwae(), grey_images(3), randn(1, 3, 4, 2)
    with torch.no_grad():
        mu, logvar, z, log_p = model.posterior_samples(x, eps)
        assert (mu.shape, logvar.shape, z.shape, log_p.shape) == ((3, 2), (3, 2), (3, 4, 2), (3, 4))
        for n, i in np.ndindex(3, 4):
            own_mu, own_logvar = model.encode(x[n : n + 1])
            close(mu[n], own_mu[0], 1e-14)
            close(logvar[n], own_logvar[0], 1e-14)
            close(z[n, i], mu[n] + torch.exp(logvar[n]).sqrt() * eps[n, i], 1e-14)
            close(log_p[n, i], log_p_of_pixels(model, model.decode(z[n, i][None]), x[n : n + 1]), 1e-12)


def test_log_normal_is_that_of_torch_distributions():
    z, mu, logvar = randn(0, 3, 4, Z), randn(1, 3, 1, Z), randn(2, 3, 1, Z)
    close(log_normal(z, mu, logvar), Normal(mu, torch.exp(logvar).sqrt()).log_prob(z).sum(dim=-1), 1e-12)
    prior = Normal(torch.zeros_like(z), torch.ones_like(z))
    close(log_normal(z), prior.log_prob(z).sum(dim=-1), 1e-12)


# --- The known optimum -----------------------------------------------------------------------------------------------


@dataclass
class Points:
    """Stands in for a data set: images that are floats already."""

    x: torch.Tensor

    def __post_init__(self):
        self.labels = torch.zeros(len(self.x), dtype=torch.long)

    def __len__(self):
        return len(self.x)

    def draw_thresholds(self, count, generator):
        return None

    def batch(self, index, thresholds=None):
        return self.x[index], self.labels[index]


def maximum_likelihood(x):
    """Tipping & Bishop's solution: sigma^2, the mean of the discarded eigenvalues, and the mean log-likelihood."""
    eigenvalues = np.linalg.eigvalsh(np.cov(x.flatten(1).numpy(), rowvar=False, bias=True))
    discarded = eigenvalues[: NUM_PIXELS - Z].mean()
    log_determinant = np.log(eigenvalues[-Z:]).sum() + (NUM_PIXELS - Z) * np.log(discarded)
    return math.sqrt(discarded), -0.5 * (NUM_PIXELS * math.log(2 * math.pi) + log_determinant + NUM_PIXELS)


@pytest.mark.parametrize("make", [VAE, IWAE], ids=["vae", "iwae"])
def test_training_finds_the_maximum_likelihood_solution(make):
    noise, scales = 0.3, (1.5, 0.8)
    clean = randn(1, 600, Z) @ orthogonal_weight(scales).T + randn(3, NUM_PIXELS)
    x = (clean + noise * randn(2, 600, NUM_PIXELS)).unflatten(1, SHAPE)
    best_sigma, best = maximum_likelihood(x)
    assert best_sigma == pytest.approx(noise, rel=0.05)
    torch.manual_seed(0)
    model = make(**({} if make is VAE else {"k": 5}), **LINEAR, likelihood="gaussian", sigma="learned")
    for lr, epochs in ((2e-2, 120), (2e-3, 80), (2e-4, 40)):  # ever smaller steps, as the noise would keep it moving
        train(
            model, Points(x), Points(x[:5]), TrainingConfig(epochs=epochs, batch_size=100, lr=lr, precision="float64")
        )
    reached = evidence(model, x).mean().item()
    assert best - 0.005 < reached <= best + 1e-9  # nothing can be above the maximum
    assert model.log_sigma.exp().item() == pytest.approx(best_sigma, rel=0.01)
    with torch.no_grad():
        bound = (
            -torch.stack([model.terms(x, randn(i, 600, *model.noise_shape))["loss"] for i in range(50)]).mean().item()
        )
    assert exact_elbo(model, x).mean().item() <= reached
    assert reached - 0.03 < bound < reached + 0.01  # tight, up to the draws: the posterior is found as well
    if make is VAE:
        assert reached - 0.01 < exact_elbo(model, x).mean().item()


# --- The objectives --------------------------------------------------------------------------------------------------


def gradients(loss, model, retain=False):
    """{name: gradient}, zeros where the loss does not depend on the parameter."""
    names, parameters = zip(*model.named_parameters(), strict=True)
    values = torch.autograd.grad(loss, parameters, allow_unused=True, retain_graph=retain)
    pairs = zip(names, values, parameters, strict=True)
    return {name: torch.zeros_like(parameter) if value is None else value for name, value, parameter in pairs}


def gradients_of_terms(model, x, eps):
    return gradients(model.terms(x, eps)["loss"].sum(), model)


LIKELIHOODS = pytest.mark.parametrize(
    "options", [{}, {"likelihood": "gaussian", "sigma": "learned"}], ids=["bernoulli", "gaussian"]
)


def test_the_bound_is_a_loop_over_the_weights():
    log_w = randn(0, 6, 5)
    want = [math.log(sum(math.exp(value) for value in row) / 5) for row in log_w.tolist()]
    close(importance_weighted_bound(log_w), torch.tensor(want, dtype=torch.float64), 1e-12)


@pytest.mark.parametrize("offset", [1000.0, -1000.0, 1e6])
def test_the_bound_survives_extreme_weights(offset):
    log_w = randn(0, 6, 5)
    got = importance_weighted_bound(log_w + offset)
    close(got, importance_weighted_bound(log_w) + offset, 1e-9)
    mixed = torch.tensor([[1000.0, -1000.0], [-1000.0, -3000.0]], dtype=torch.float64, requires_grad=True)
    bound = importance_weighted_bound(mixed)
    close(bound.detach(), torch.tensor([1000 - math.log(2), -1000 - math.log(2)], dtype=torch.float64))
    (gradient,) = torch.autograd.grad(bound.sum(), mixed)
    close(gradient, torch.tensor([[1.0, 0.0], [1.0, 0.0]], dtype=torch.float64), 0)


@pytest.mark.parametrize("objective", ["iwae", "vae", "dreg"])
def test_with_one_sample_every_loss_is_the_one_sample_bound(objective):
    model, x, eps = small_iwae(1, objective), grey_images(3), randn(1, 3, 1, 2)
    assert model.noise_shape == (1, 2)
    with torch.no_grad():
        close(model.terms(x, eps)["loss"], -sample_by_sample(model, x, eps)[:, 0], 1e-12)


@LIKELIHOODS
def test_the_terms_are_what_they_say(options):
    x, eps = grey_images(3), randn(1, 3, 4, 2)
    with torch.no_grad():
        log_w = sample_by_sample(small_iwae(**options), x, eps)
        bound = torch.log(torch.exp(log_w).mean(dim=1))
        for objective, want in (("iwae", -bound), ("dreg", -bound), ("vae", -log_w.mean(dim=1))):
            model = small_iwae(4, objective, **options)
            terms = model.terms(x, eps)
            close(terms["loss"], want, 1e-12)
            mu, logvar = model.encode(x)
            one_sample = torch.stack([model.terms(x, eps[:, i : i + 1])["reconstruction_nll"] for i in range(4)])
            close(terms["reconstruction_nll"], one_sample.mean(dim=0), 1e-12)
            prior = Normal(torch.zeros_like(mu), torch.ones_like(mu))
            want_kl = torch_kl_divergence(Normal(mu, torch.exp(logvar / 2)), prior).sum(dim=1)
            close(terms["kl_divergence"], want_kl, 1e-12)
    assert (bound - log_w.mean(dim=1)).min() > 1e-3
    assert model.noise_shape == (4, 2)


@LIKELIHOODS
@pytest.mark.parametrize("objective", ["iwae", "vae"])
def test_the_gradient_is_that_of_a_loop_over_the_samples(objective, options):
    model, x, eps = small_iwae(4, objective, **options), grey_images(3), randn(1, 3, 4, 2)
    log_w = sample_by_sample(model, x, eps)
    # sum_i w~_i grad log w_i with the weights held fixed (Burda 2015, section 3); 1/k each for the mean of ELBOs
    weights = torch.exp(log_w.detach()) / torch.exp(log_w.detach()).sum(dim=1, keepdim=True)
    weights = weights if objective == "iwae" else torch.full_like(weights, 1 / 4)
    want = gradients(-(weights * log_w).sum(), model)
    for name, gradient in gradients_of_terms(model, x, eps).items():
        close(gradient, want[name], 1e-12)
        assert gradient.abs().max() > 1e-3, name


@LIKELIHOODS
def test_the_dreg_gradient_of_the_decoder_is_that_of_iwae(options):
    x, eps = grey_images(3), randn(1, 3, 4, 2)
    plain, double = (gradients_of_terms(small_iwae(4, objective, **options), x, eps) for objective in ("iwae", "dreg"))
    others = [name for name in plain if not name.startswith("encoder")]
    assert ("log_sigma" in others) == bool(options)
    for name in others:
        close(double[name], plain[name], 0)
    assert all(not torch.allclose(double[name], plain[name], rtol=0.01) for name in plain if name not in others)


@LIKELIHOODS
def test_the_dreg_gradient_of_the_encoder_is_its_formula(options):
    """sum_i w~_i^2 (d log w_i / d z_i) (d z_i / d phi), the parameters of q held fixed in log w (Tucker 2018)."""
    model, x, eps = small_iwae(4, "dreg", **options), grey_images(3), randn(1, 3, 4, 2)
    want = {name: torch.zeros_like(parameter) for name, parameter in model.named_parameters()}
    for image, noise in zip(x, eps, strict=True):
        mu, logvar = (tensor[0] for tensor in model.encode(image[None]))
        q = Normal(mu.detach(), torch.exp(logvar).sqrt().detach())
        leaves = [(mu + torch.exp(logvar / 2) * e).detach().requires_grad_() for e in noise]
        log_w = [log_weight_of(model, image[None], z, q) for z in leaves]
        total = sum(math.exp(value.item()) for value in log_w)
        for e, z, value in zip(noise, leaves, log_w, strict=True):
            (slope,) = torch.autograd.grad(value, z)
            weight = math.exp(value.item()) / total
            path = (mu + torch.exp(logvar / 2) * e) @ (weight**2 * slope)
            for name, gradient in gradients(-path, model, retain=True).items():
                want[name] += gradient
    got = gradients_of_terms(model, x, eps)
    encoder = [name for name in got if name.startswith("encoder")]
    assert encoder
    for name in encoder:
        close(got[name], want[name], 1e-12)
        assert want[name].abs().max() > 1e-3, name


def encoder_gradients(objective, x, batches, copies, k, seed):
    """The encoder's gradient of the linear model's mean loss, in many independent batches: (batches, parameters)."""
    model = linear_model(IWAE, exact=False, k=k, objective=objective)
    eps = randn(seed, batches, copies * len(x), k, Z)
    repeated, rows = x.repeat(copies, 1, 1, 1), []
    for noise in eps:
        found = gradients(model.terms(repeated, noise)["loss"].mean(), model)
        rows.append(torch.cat([value.flatten() for name, value in found.items() if name.startswith("encoder")]))
    return torch.stack(rows)


def test_dreg_and_iwae_have_the_same_encoder_gradient_on_average():
    x = images_near(linear_model(), 4)
    plain, double = (
        encoder_gradients(objective, x, batches=60, copies=500, k=3, seed=seed)
        for objective, seed in (("iwae", 1), ("dreg", 2))
    )
    error = torch.sqrt((plain.var(dim=0) + double.var(dim=0)) / 60)
    difference = plain.mean(dim=0) - double.mean(dim=0)
    assert error.norm() < 0.05 * plain.mean(dim=0).norm()
    assert (difference.abs() < 4 * error).all()
    assert double.var(dim=0).sum() < plain.var(dim=0).sum()  # what it is for


def test_with_the_exact_posterior_dreg_leaves_the_encoder_alone():
    """All weights are then equal whatever z is, so that nothing is left to learn and no noise either."""
    x, eps = images_near(linear_model(), 5), randn(0, 5, 6, Z)
    plain, double = (
        gradients_of_terms(linear_model(IWAE, k=6, objective=objective), x, eps) for objective in ("iwae", "dreg")
    )
    for name in (name for name in plain if name.startswith("encoder")):
        assert double[name].abs().max() < 1e-12, name
        assert plain[name].abs().max() > 1e-2, name


@pytest.mark.parametrize("objective", ["iwae", "vae", "dreg"])
def test_each_objective_trains(objective):
    images = load_resident("digits", "train", CPU, limit=200)
    torch.manual_seed(0)
    model = IWAE(5, objective, latent_dim=4, hidden_dims=(20,))
    rows = train(model, images, images, TrainingConfig(epochs=4, batch_size=20, lr=3e-3))
    losses = [row["test_loss"] for row in rows]
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] < 0.7 * 784 * math.log(2)
    assert rows[-1]["test_loss"] <= rows[-1]["test_reconstruction_nll"] + rows[-1]["test_kl_divergence"] + 0.5


# --- The model of the paper ------------------------------------------------------------------------------------------


def test_the_initial_weights_are_glorots():
    torch.manual_seed(0)
    layers = [layer for layer in IWAE().modules() if isinstance(layer, torch.nn.Linear)]
    shapes = [(784, 200), (200, 200), (200, 50), (200, 50), (50, 200), (200, 200), (200, 784)]
    assert [(layer.in_features, layer.out_features) for layer in layers] == shapes
    for layer in layers:
        bound = math.sqrt(6 / (layer.in_features + layer.out_features))
        assert 0.99 * bound < layer.weight.abs().max() <= bound
        assert layer.weight.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.03)  # uniform up to the bound
        assert not layer.bias.any()


def test_the_optimiser_is_the_papers():
    (group,) = IWAE(2, hidden_dims=(3,)).optimizers(2e-3)["loss"].param_groups
    assert (group["lr"], group["betas"], group["eps"]) == (2e-3, (0.9, 0.999), 1e-4)


def test_the_output_starts_at_the_mean_image():
    model = small_iwae()
    mean = torch.tensor([0.0, 0.2, 0.5, 0.9, 1.0, 0.001], dtype=torch.float64).view(SHAPE)
    before = copy.deepcopy(model.state_dict())
    model.set_output_bias(mean)
    want = torch.tensor([0.001, 0.2, 0.5, 0.9, 0.999, 0.001], dtype=torch.float64)
    close(torch.sigmoid(model.decoder.logits.bias.detach()), want, 1e-12)
    changed = [name for name, value in model.state_dict().items() if not torch.equal(value, before[name])]
    assert changed == ["decoder.logits.bias"]


def test_build_model_takes_the_mean_of_all_training_images():
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (2300, 1, 28, 28)) * rng.uniform(0.1, 0.9, (1, 1, 28, 28))
    pixels[1500:] /= 4  # a mean over the first batch, or of batch means, is another one
    images = ResidentImages(torch.from_numpy(pixels.astype(np.uint8)), torch.zeros(2300, dtype=torch.long))
    config = iwae.IwaeConfig(k=3, objective="dreg", latent_dim=4, hidden_dims=(6, 5))
    model = iwae.build_model(config, images)
    want = images.images.double().mean(dim=0).flatten() / 255
    close(torch.sigmoid(model.decoder.logits.bias.detach()).double(), want, 1e-6)
    assert (model.k, model.objective, model.latent_dim, model.hidden_dims) == (3, "dreg", 4, (6, 5))


def test_a_saved_model_comes_back_through_the_base_class(tmp_path):
    model = small_iwae(3, "dreg", likelihood="gaussian", sigma="learned")
    model.save(tmp_path)
    loaded = VAE.load(tmp_path)
    assert type(loaded) is IWAE
    assert loaded.config() == model.config()
    assert (loaded.k, loaded.objective, loaded.noise_shape) == (3, "dreg", (3, 2))
    x, eps = grey_images(2), randn(0, 2, 3, 2)
    with torch.no_grad():
        for name, term in model.terms(x, eps).items():
            close(loaded.terms(x, eps)[name], term, 0)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"k": 0}, "k must be an integer of at least 1, got 0"),
        ({"k": -1}, "k must be"),
        ({"k": 1.5}, "k must be"),
        ({"objective": "elbo"}, "objective must be iwae, dreg or vae, got 'elbo'"),
        ({"beta": 2.0}, "no beta"),
        ({"latent_dim": 0}, "latent_dim must be"),
        ({"kl_schedule": {"free_bits": 0.5}}, "schedule"),  # would be ignored
    ],
    ids=["k 0", "k -1", "k 1.5", "objective", "beta", "latent dim", "free bits"],
)
def test_arguments_out_of_range_are_refused(options, named):
    with pytest.raises(ValueError, match=re.escape(named)):
        IWAE(**{"hidden_dims": (3,)} | options)


# --- Active units, anomalies, doubt ----------------------------------------------------------------------------------


def test_active_units_are_those_whose_mean_varies():
    """Columns of +-a around an offset have the variance a^2 N / (N - 1) exactly."""
    signs = torch.tensor([1.0, -1.0]).repeat(10)[:, None].double()
    variances = torch.tensor([0.0101, 0.0099, 0.0, 4.0, 0.05], dtype=torch.float64)
    mu = 5 + signs * torch.sqrt(variances * 19 / 20)
    assert active_units(mu).tolist() == [True, False, False, True, True]
    assert active_units(mu, threshold=1.0).tolist() == [False, False, False, True, False]


def scores_by_hand(model, x, kind, k, seed, c=None):
    """Image by image and sample by sample, with the noise that the generator gives a thousand pairs at a time."""
    generator, scores = seeded(seed), []
    for part in torch.arange(len(x)).split(max(1, 1000 // k)):
        noise = torch.randn(len(part), k, model.latent_dim, generator=generator, dtype=x.dtype)
        for n, eps in zip(part.tolist(), noise, strict=True):
            own = x[n : n + 1], None if c is None else c[n : n + 1]
            mu, logvar = model.encode(*own)
            q = Normal(mu[0], torch.exp(logvar[0]).sqrt())
            z = mu + torch.exp(logvar).sqrt() * eps
            means = [model.decode(sample[None], own[1]) for sample in z]
            log_p = torch.stack([log_p_of_pixels(model, mean, own[0]) for mean in means])
            prior = Normal(torch.zeros(model.latent_dim).double(), torch.ones(model.latent_dim).double())
            if kind == "elbo":
                scores.append(-log_p.mean() + torch_kl_divergence(q, prior).sum())
            elif kind == "reconstruction":
                scores.append(-log_p.mean())
            else:
                log_w = log_p + prior.log_prob(z).sum(dim=1) - q.log_prob(z).sum(dim=1)
                scores.append(-torch.log(torch.exp(log_w).mean()))
    return torch.stack(scores)


@pytest.mark.parametrize("k", [4, 400], ids=["one chunk", "three chunks"])
@pytest.mark.parametrize("kind", likelihood.SCORES)
def test_anomaly_scores_are_those_written_out(kind, k):
    model, x = small_iwae(), grey_images(5)
    with torch.no_grad():
        want = scores_by_hand(model, x, kind, k, seed=7)
    close(anomaly_scores(model, x, kind, k, seeded(7)), want)
    assert want.std() > 1e-2


@pytest.mark.parametrize("kind", likelihood.SCORES)
def test_anomaly_scores_look_at_the_class(kind):
    model = linear_model(ConditionalVAE, exact=False, num_classes=3)
    x, c = images_near(model, 5), torch.tensor([2, 0, 1, 1, 0])
    with torch.no_grad():
        want = scores_by_hand(model, x, kind, 3, seed=7, c=c)
        other = scores_by_hand(model, x, kind, 3, seed=7, c=(c + 1) % 3)
    close(anomaly_scores(model, x, kind, 3, seeded(7), c), want)
    assert (want - other).abs().min() > 1e-2


@pytest.mark.parametrize(("kind", "k"), [("surprise", 3), ("elbo", 0), ("likelihood", 0), ("reconstruction", -2)])
def test_anomaly_scores_refuse_what_they_do_not_know(kind, k):
    with pytest.raises(ValueError, match="must be"):
        anomaly_scores(small_iwae(), grey_images(2), kind, k, seeded(0))


def test_the_threshold_is_the_quantile_of_the_training_scores():
    scores = randn(0, 2001)
    for quantile in (0.05, 0.5, 0.95, 0.999):
        threshold = anomaly_threshold(scores, quantile)
        assert threshold.shape == ()
        assert threshold.item() == pytest.approx(np.quantile(scores.numpy(), quantile), abs=1e-12)
        assert (scores > threshold).double().mean().item() == pytest.approx(1 - quantile, abs=1 / 2000)
    assert torch.equal(anomaly_threshold(scores), anomaly_threshold(scores, 0.95))


@pytest.mark.parametrize("quantile", [0.0, 1.0, 1.5, -0.1, math.nan])
def test_a_threshold_outside_the_scores_is_refused(quantile):
    with pytest.raises(ValueError, match="the quantile must lie between 0 and 1"):
        anomaly_threshold(randn(0, 10), quantile)


@pytest.mark.parametrize("kind", ["bernoulli", "gaussian"])
def test_uncertainty_is_the_law_of_total_variance(kind):
    """Moments of pixels drawn from p(x|z), for the very codes that the model was given."""
    model = small_iwae(likelihood=kind, **({"sigma": 0.2} if kind == "gaussian" else {}))
    with torch.no_grad():
        model.decoder.logits.weight.mul_(2.0 if kind == "bernoulli" else 0.1)  # a Gaussian's means must stay in [0, 1]
        model.decoder.logits.bias.fill_(0.3 if kind == "bernoulli" else 0.5)
    x, eps, repeats = grey_images(2), randn(1, 2, 20, 2), 20_000
    mean, code_std, total_std = pixel_uncertainty(model, x, eps)
    assert mean.shape == code_std.shape == total_std.shape == x.shape
    assert mean.dtype == code_std.dtype == total_std.dtype == x.dtype
    with torch.no_grad():
        z = model.posterior_samples(x, eps)[2]
        decoded = torch.stack([model.decode(codes) for codes in z])  # (2, 20, C, H, W)
    if kind == "bernoulli":
        decoded = torch.sigmoid(decoded)
        want_total = torch.sqrt(decoded.mean(dim=1) * (1 - decoded.mean(dim=1)))  # of a 0 or 1, whatever the code
        pixels = (torch.rand(repeats, *decoded.shape, generator=seeded(2)) < decoded).double()
    else:
        assert decoded.min() >= 0
        assert decoded.max() <= 1
        want_total = torch.sqrt(decoded.var(dim=1, correction=0) + 0.2**2)
        pixels = decoded + 0.2 * torch.randn(repeats, *decoded.shape, generator=seeded(2))
    close(mean, decoded.mean(dim=1), 1e-12)
    close(code_std, decoded.std(dim=1, correction=0), 1e-12)
    assert ((pixels.mean(dim=(0, 2)) - mean).abs() < 4 * total_std / (20 * repeats) ** 0.5).all()
    torch.testing.assert_close(pixels.transpose(0, 1).flatten(1, 2).std(dim=1), total_std, rtol=0.01, atol=0)
    assert (code_std > 0.02 * total_std).all()
    close(total_std, want_total, 1e-12)


def test_uncertainty_of_a_learned_sigma_without_doubt_about_the_code():
    """All codes alike: what is left is the decoder's own sigma."""
    model = linear_model(sigma="learned")
    _, code_std, total_std = pixel_uncertainty(model, images_near(model, 3), randn(0, 3, 1, Z).repeat(1, 5, 1))
    assert code_std.max() < 1e-7
    close(total_std, torch.full_like(total_std, SIGMA), 1e-12)


def test_uncertainty_decodes_each_code_under_its_images_class():
    model = linear_model(ConditionalVAE, num_classes=3)
    x, c, eps = images_near(model, 4), torch.tensor([2, 0, 1, 2]), randn(0, 4, 3, Z)
    mean, _, _ = pixel_uncertainty(model, x, eps, c)
    with torch.no_grad():
        for n in range(4):
            z = model.posterior_samples(x[n : n + 1], eps[n : n + 1], c[n : n + 1])[2][0]
            close(mean[n], model.decode(z, c[n].expand(3)).clamp(0, 1).mean(dim=0), 1e-12)


@pytest.mark.parametrize("options", [{}, {"likelihood": "gaussian", "sigma": 0.5}], ids=["bernoulli", "gaussian"])
def test_uncertainty_stays_on_the_images_device(options):
    """The meta device stands in for a card: it holds no numbers, but refuses to mix with the CPU as any other."""
    model = VAE(**LINEAR, **options).to("meta")
    model.validate = False  # there are no values to look at
    x, eps = torch.zeros(2, *SHAPE, device="meta"), torch.zeros(2, 4, Z, device="meta")
    for tensor in pixel_uncertainty(model, x, eps):
        assert (tensor.device.type, tensor.shape) == ("meta", x.shape)


# --- The script ------------------------------------------------------------------------------------------------------


def call(main, *args):
    """What a script's main printed: (stdout, stderr)."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        main([str(arg) for arg in args])
    return out.getvalue(), err.getvalue()


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The folder of a small trained VAE."""
    folder = tmp_path_factory.mktemp("runs") / "vae"
    training = ["--epochs", 4, "--batch-size", 50, "--lr", 3e-3]
    call(vae_paper.main, *training, "--architecture", "mlp", "--hidden-dims", 16, "--out", folder, "--device", "cpu")
    return folder


@pytest.fixture(scope="module")
def iwae_run(tmp_path_factory):
    """The folder of a small importance weighted autoencoder, trained on images that are binarised anew each time."""
    folder = tmp_path_factory.mktemp("runs") / "iwae"
    network = ["--k", 3, "--latent-dim", 4, "--hidden-dims", 16, "--objective", "dreg"]
    call(iwae.main, "--epochs", 1, *network, "--binarisation", "fresh", "--out", folder, "--device", "cpu")
    return folder


def digits(split, count):
    """Images and labels as the script spreads them over the set."""
    images = load_resident("digits", split, CPU)
    index = [position * len(images) // count for position in range(count)]
    return images.images[index].float() / 255, images.labels[index]


@pytest.mark.parametrize("kind", likelihood.SCORES)
def test_noise_is_stranger_than_digits(run, kind):
    model = VAE.load(run)
    x, _ = digits("test", 50)
    noise = torch.rand(x.shape, generator=seeded(0))
    usual, strange = (anomaly_scores(model, images, kind, 10, seeded(1)) for images in (x, noise))
    assert strange.min() > usual.max()


def numbers_after(label, text):
    (line,) = [line for line in text.splitlines() if line.strip().startswith(label)]
    return [float(number) for number in re.findall(r"-?\d+\.?\d*", line.strip().removeprefix(label))]


def test_log_likelihood_reports_the_estimate_its_error_and_the_active_units(run):
    args = ["--run", run, "--images", 40, "--k", 30, "--seed", 3, "--device", "cpu"]
    out, _ = call(likelihood.main, "log-likelihood", *args)
    model, (x, _) = VAE.load(run), digits("test", 40)
    generator = seeded(3)
    log_p = log_likelihood(model, x, 30, generator).double()
    minus_elbo = anomaly_scores(model, x, "elbo", 10, generator).double().mean().item()
    assert out.startswith("digits, test set: 40 images, grey (not binarised), noise seed 3\n")
    assert numbers_after("-log p(x), k=30", out) == [pytest.approx(-log_p.mean().item(), abs=0.002)]
    assert numbers_after("-ELBO", out) == [pytest.approx(minus_elbo, abs=0.002)]
    error = np.std(log_p.numpy(), ddof=1) / math.sqrt(40)
    assert numbers_after("standard error over the images:", out) == [pytest.approx(error, abs=0.002)]
    with torch.no_grad():
        active = int((np.var(model.encode(x)[0].numpy(), axis=0, ddof=1) > 0.01).sum())
    assert numbers_after("active units:", out) == [active, 20]
    assert 0 < active <= 20
    assert -log_p.mean() < minus_elbo


def test_log_likelihood_reads_an_iwae_and_its_binarisation(iwae_run):
    args = ["--run", iwae_run, "--images", 30, "--k", 5, "--device", "cpu"]
    out, _ = call(likelihood.main, "log-likelihood", *args)
    assert out.startswith("digits, test set: 30 images, binarised for this report with seed 0, noise seed 0\n")
    model, (grey, _) = VAE.load(iwae_run), digits("test", 30)
    x = (torch.rand(grey.shape, generator=seeded(0)) < grey).float()
    want = -log_likelihood(model, x, 5, seeded(0)).double().mean().item()
    assert numbers_after("-log p(x), k=5", out) == [pytest.approx(want, abs=0.002)]
    with (iwae_run / "metrics.csv").open() as file:
        assert {"test_loss", "test_kl_divergence"} <= set(next(csv.reader(file)))


@pytest.mark.parametrize("score", likelihood.SCORES)
def test_anomalies_shows_the_highest_scores(run, tmp_path, score):
    picture = tmp_path / "strange.png"
    args = ["--run", run, "--images", 60, "--k", 4, "--score", score, "--quantile", 0.8, "--seed", 5]
    out, err = call(likelihood.main, "anomalies", *args, "--device", "cpu", "--out", picture)
    model, (x, labels), generator = VAE.load(run), digits("test", 60), seeded(5)
    known = anomaly_scores(model, digits("train", 1440)[0], score, 4, generator)
    scores = anomaly_scores(model, x, score, 4, generator)
    threshold = np.quantile(known.numpy(), 0.8)
    above = int((scores > threshold).sum())
    lines = [line.strip() for line in out.splitlines()]
    assert lines[0] == "digits, test set: 60 images, grey (not binarised), noise seed 5"
    assert lines[1] == f"score: {score}, 4 samples per image, in nats"
    assert lines[2] == f"threshold: {threshold:.1f}, the 80% quantile of 1440 training images"
    assert lines[3] == f"above it: {above} of 60 test images ({above / 60:.1%})"
    assert 0 < above < 30
    order = scores.argsort(descending=True)[:5].tolist()
    assert lines[4:] == [
        f"{place}. score {scores[n]:.1f}, class {labels[n].item()}" for place, n in enumerate(order, start=1)
    ]
    assert err == f"picture in {picture}\n"
    assert matplotlib.image.imread(picture)[..., :3].std() > 0.1


def test_uncertainty_draws_what_it_measures(run, tmp_path):
    picture = tmp_path / "doubt.png"
    args = ["--run", run, "--images", 12, "--k", 20, "--seed", 2, "--device", "cpu", "--out", picture]
    out, err = call(likelihood.main, "uncertainty", *args)
    model, (x, _) = VAE.load(run), digits("test", 12)
    eps = torch.randn(10, 20, model.latent_dim, generator=seeded(2))
    _, code_std, total_std = pixel_uncertainty(model, x[:10], eps)
    head, values = out.splitlines()
    assert head.startswith("digits, test set: 12 images, ")
    want = f"code {code_std.mean():.4f}, total {total_std.mean():.4f}"
    assert values == f"mean over pixels of the standard deviation: {want}"
    assert err == f"picture in {picture}\n"
    assert matplotlib.image.imread(picture)[..., :3].std() > 0.1


def hand_made_run(folder, model, **training):
    """A run's folder, as far as the script reads it."""
    model.save(folder, training={"data": "digits", "binarisation": "none", "seed": 0} | training)
    return folder


def tiny(cls=VAE, **options):
    torch.manual_seed(0)
    return cls(latent_dim=2, architecture="mlp", hidden_dims=(4,), **options)


COMMANDS = ("log-likelihood", "anomalies", "uncertainty")


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("variant", ["conditional", "gaussian", "double"])
def test_each_command_reads_each_kind_of_run(tmp_path, monkeypatch, command, variant):
    monkeypatch.chdir(tmp_path)
    model = {
        "conditional": lambda: tiny(ConditionalVAE, num_classes=10),
        "gaussian": lambda: tiny(likelihood="gaussian", sigma=0.3),
        "double": lambda: tiny().double(),
    }[variant]()
    hand_made_run(tmp_path / "run", model)
    out, _ = call(likelihood.main, command, "--run", "run", "--images", 5, "--k", 2, "--device", "cpu")
    assert out.startswith("digits, test set: 5 images")
    written = {"log-likelihood": set(), "anomalies": {"anomalies.png"}, "uncertainty": {"uncertainty.png"}}[command]
    assert {path.name for path in tmp_path.iterdir()} == {"run"} | written
    assert all((tmp_path / name).stat().st_size > 1000 for name in written)


def test_images_binarised_once_are_those_that_the_run_saw(tmp_path, monkeypatch):
    """They were drawn with the run's seed; --seed is that of the noise."""
    seen = []
    monkeypatch.setattr(likelihood, "report_likelihood", lambda *args: seen.append(args[4][0]))
    folder = hand_made_run(tmp_path / "run", tiny(), binarisation="fixed", seed=5)
    call(likelihood.main, "log-likelihood", "--run", folder, "--k", 1, "--device", "cpu")
    want = load_resident("digits", "test", CPU, "fixed", seed=5).images / 255
    assert torch.equal(seen[0], want)


def test_a_single_image_has_a_score_too(tmp_path):
    """Though there is no spread over one image to speak of."""
    folder = hand_made_run(tmp_path / "run", tiny())
    out, _ = call(likelihood.main, "log-likelihood", "--run", folder, "--images", 1, "--k", 2, "--device", "cpu")
    assert "1 images" in out
    assert "nan" not in out


@pytest.fixture
def refused(tmp_path, monkeypatch):
    """A function that runs the script on a bad request: one line, exit code 2, and nothing on the disk."""
    monkeypatch.chdir(tmp_path)

    def check(*args):
        before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), pytest.raises(SystemExit) as stopped:
            likelihood.main([str(arg) for arg in args])
        assert stopped.value.code == 2
        assert out.getvalue() == ""
        message = err.getvalue()
        assert message.startswith("likelihood.py: error: ")
        assert message.count("\n") == 1
        assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
        return message

    return check


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["--k", 0], "k must be an integer of at least 1, got 0"),
        (["--k", -3], "k must be"),
        (["--images", 0], "--images must be at least 1, got 0"),
        (["--seed", -1], "--seed must be at least 0, got -1"),
        (["--data", "sprites"], "--data sprites has images (1, 64, 64), the model takes (1, 28, 28)"),
        (["--device", "abacus"], "abacus"),
    ],
    ids=["k 0", "k -3", "images 0", "seed -1", "sprites", "device"],
)
def test_a_bad_option_is_one_line(refused, tmp_path, command, options, named):
    hand_made_run(tmp_path / "run", tiny())
    assert named in refused(command, "--run", "run", *options)


@pytest.mark.parametrize("quantile", [1.5, 0, 1, -0.5, "nan"])
def test_a_quantile_outside_0_to_1_is_one_line(refused, tmp_path, quantile):
    hand_made_run(tmp_path / "run", tiny())
    assert "quantile" in refused("anomalies", "--run", "run", "--images", 3, "--k", 1, "--quantile", quantile)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_run_that_is_none_is_one_line(refused, tmp_path, command):
    assert "no config.json in nowhere" in refused(command, "--run", "nowhere")
    hand_made_run(tmp_path / "no_weights", tiny())
    (tmp_path / "no_weights" / "model.safetensors").unlink()
    assert "no weights at" in refused(command, "--run", "no_weights")
    hand_made_run(tmp_path / "broken", tiny())
    (tmp_path / "broken" / "config.json").write_text("{")
    assert "does not describe" in refused(command, "--run", "broken")


def test_a_run_of_vq_vae_is_one_line(refused, tmp_path):
    hand_made_run(tmp_path / "vq", vq_vae.VQVAE(num_codes=4, code_dim=2))
    assert "VQVAE" in refused("log-likelihood", "--run", "vq")


def test_an_autoencoder_is_one_line(refused, tmp_path):
    hand_made_run(tmp_path / "plain", tiny(Autoencoder))
    assert "no distribution over codes" in refused("log-likelihood", "--run", "plain")


def test_a_model_without_its_training_options_is_one_line(refused, tmp_path):
    tiny().save(tmp_path / "bare")
    refused("log-likelihood", "--run", "bare", "--images", 3, "--k", 1)


@pytest.mark.parametrize("command", ["anomalies", "uncertainty"])
def test_a_picture_is_never_overwritten(refused, tmp_path, command):
    hand_made_run(tmp_path / "run", tiny())
    (tmp_path / "mine.png").write_text("precious")
    assert "--out mine.png exists" in refused(command, "--run", "run", "--out", "mine.png")


@pytest.mark.parametrize("command", ["anomalies", "uncertainty"])
def test_a_picture_in_no_folder_is_one_line(refused, tmp_path, command):
    """Found out before the work is done, not when its result has no place to go."""
    hand_made_run(tmp_path / "run", tiny())
    refused(command, "--run", "run", "--images", 3, "--k", 1, "--out", "nowhere/mine.png")
