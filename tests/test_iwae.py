"""The importance weighted autoencoder against models whose log p(x) is known, and against sums written out per sample
with the densities of torch.distributions; its gradients likewise.
"""

import copy
import math
import re
from dataclasses import fields

import numpy as np
import pytest
import torch
from torch.distributions import Normal
from torch.distributions import kl_divergence as torch_kl_divergence

import iwae
from comparison import close, normals, seeded
from experiment import TrainingConfig, initialised
from iwae import IWAE, importance_weighted_bound
from linear_gaussian import (
    LINEAR,
    NUM_PIXELS,
    SHAPE,
    SIGMA,
    Z,
    evidence,
    exact_elbo,
    grey_images,
    images_near,
    linear_model,
    log_p_of_pixels,
    orthogonal_weight,
    small_iwae,
)
from trainer import train
from training_images import ImageOptions, ResidentImages, load_resident
from vae_paper import VAE, log_normal

# --- Weights and bounds where log p(x) is known ----------------------------------------------------------------------


@pytest.mark.parametrize("sigma", [SIGMA, "learned"])
@pytest.mark.parametrize("k", [1, 2, 7, 50])
def test_with_the_exact_posterior_every_weight_is_the_evidence(k, sigma):
    model = linear_model(sigma=sigma)
    x = images_near(model, 5)
    want = evidence(model, x)
    with torch.no_grad():
        log_w = model.log_weights(x, 3 * normals(0, 5, k, Z))  # also far out in the tails
        close(log_w, want[:, None].expand(5, k))
        close(importance_weighted_bound(log_w), want)
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
            log_w = model.log_weights(x, normals(k, 3, draws * k, Z))
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
        ratio = torch.exp(model.log_weights(x, normals(0, 3, draws, Z)) - evidence(model, x)[:, None])
    error = ratio.std(dim=1) / draws**0.5
    assert error.max() < 0.02
    assert ((ratio.mean(dim=1) - 1).abs() < 4 * error).all()


# --- The samples behind the weights ----------------------------------------------------------------------------------


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
    model, x, eps = small_iwae(**options), grey_images(3), normals(1, 3, 4, 2)
    with torch.no_grad():
        close(model.log_weights(x, eps), sample_by_sample(model, x, eps), 1e-12)


def test_posterior_samples_keep_image_and_sample_apart():
    model, x, eps = small_iwae(), grey_images(3), normals(1, 3, 4, 2)
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
    z, mu, logvar = normals(0, 3, 4, Z), normals(1, 3, 1, Z), normals(2, 3, 1, Z)
    close(log_normal(z, mu, logvar), Normal(mu, torch.exp(logvar).sqrt()).log_prob(z), 1e-12)
    prior = Normal(torch.zeros_like(z), torch.ones_like(z))
    close(log_normal(z), prior.log_prob(z), 1e-12)


# --- The known optimum -----------------------------------------------------------------------------------------------


class Points(ResidentImages):
    """Images that are floats already."""

    def __init__(self, x):
        super().__init__(x, torch.zeros(len(x), dtype=torch.long))

    def batch(self, index, generator=None, part=None):
        return self.images[index], self.labels[index]


def maximum_likelihood(x):
    """Tipping & Bishop's solution: sigma^2, the mean of the discarded eigenvalues, and the mean log-likelihood."""
    eigenvalues = np.linalg.eigvalsh(np.cov(x.flatten(1).numpy(), rowvar=False, bias=True))
    discarded = eigenvalues[: NUM_PIXELS - Z].mean()
    log_determinant = np.log(eigenvalues[-Z:]).sum() + (NUM_PIXELS - Z) * np.log(discarded)
    return math.sqrt(discarded), -0.5 * (NUM_PIXELS * math.log(2 * math.pi) + log_determinant + NUM_PIXELS)


@pytest.mark.parametrize("make", [VAE, IWAE], ids=["vae", "iwae"])
def test_training_finds_the_maximum_likelihood_solution(make):
    noise, scales = 0.3, (1.5, 0.8)
    clean = normals(1, 600, Z) @ orthogonal_weight(scales).T + normals(3, NUM_PIXELS)
    x = (clean + noise * normals(2, 600, NUM_PIXELS)).unflatten(1, SHAPE)
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
            -torch.stack([model.terms(x, normals(i, 600, *model.noise_shape))["loss"] for i in range(50)]).mean().item()
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
    log_w = normals(0, 6, 5)
    want = [math.log(sum(math.exp(value) for value in row) / 5) for row in log_w.tolist()]
    close(importance_weighted_bound(log_w), torch.tensor(want, dtype=torch.float64), 1e-12)


@pytest.mark.parametrize("offset", [1000.0, -1000.0, 1e6])
def test_the_bound_survives_extreme_weights(offset):
    log_w = normals(0, 6, 5)
    got = importance_weighted_bound(log_w + offset)
    close(got, importance_weighted_bound(log_w) + offset, 1e-9)
    mixed = torch.tensor([[1000.0, -1000.0], [-1000.0, -3000.0]], dtype=torch.float64, requires_grad=True)
    bound = importance_weighted_bound(mixed)
    close(bound.detach(), torch.tensor([1000 - math.log(2), -1000 - math.log(2)], dtype=torch.float64))
    (gradient,) = torch.autograd.grad(bound.sum(), mixed)
    close(gradient, torch.tensor([[1.0, 0.0], [1.0, 0.0]], dtype=torch.float64), 0)


@pytest.mark.parametrize("objective", ["iwae", "vae", "dreg"])
def test_with_one_sample_every_loss_is_the_one_sample_bound(objective):
    model, x, eps = small_iwae(1, objective), grey_images(3), normals(1, 3, 1, 2)
    assert model.noise_shape == (1, 2)
    with torch.no_grad():
        close(model.terms(x, eps)["loss"], -sample_by_sample(model, x, eps)[:, 0], 1e-12)


@LIKELIHOODS
def test_the_terms_are_what_they_say(options):
    x, eps = grey_images(3), normals(1, 3, 4, 2)
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
    model, x, eps = small_iwae(4, objective, **options), grey_images(3), normals(1, 3, 4, 2)
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
    x, eps = grey_images(3), normals(1, 3, 4, 2)
    plain, double = (gradients_of_terms(small_iwae(4, objective, **options), x, eps) for objective in ("iwae", "dreg"))
    others = [name for name in plain if not name.startswith("encoder")]
    assert ("log_sigma" in others) == bool(options)
    for name in others:
        close(double[name], plain[name], 0)
    assert all(not torch.allclose(double[name], plain[name], rtol=0.01) for name in plain if name not in others)


@LIKELIHOODS
def test_the_dreg_gradient_of_the_encoder_is_its_formula(options):
    """sum_i w~_i^2 (d log w_i / d z_i) (d z_i / d phi), the parameters of q held fixed in log w (Tucker 2018)."""
    model, x, eps = small_iwae(4, "dreg", **options), grey_images(3), normals(1, 3, 4, 2)
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
    eps = normals(seed, batches, copies * len(x), k, Z)
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
    x, eps = images_near(linear_model(), 5), normals(0, 5, 6, Z)
    plain, double = (
        gradients_of_terms(linear_model(IWAE, k=6, objective=objective), x, eps) for objective in ("iwae", "dreg")
    )
    for name in (name for name in plain if name.startswith("encoder")):
        assert double[name].abs().max() < 1e-12, name
        assert plain[name].abs().max() > 1e-2, name


@pytest.mark.parametrize("objective", ["iwae", "vae", "dreg"])
def test_each_objective_trains(objective):
    images = load_resident(ImageOptions("digits", train_images=200), "train")
    torch.manual_seed(0)
    model = IWAE(k=5, objective=objective, latent_dim=4, hidden_dims=(20,))
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
    (group,) = IWAE(k=2, hidden_dims=(3,)).optimizers(2e-3)["loss"].param_groups
    assert (group["lr"], group["betas"], group["eps"]) == (2e-3, (0.9, 0.999), 1e-4)


def black_to_white(count, binarisation="none"):
    """Images of three colours, each pixel with a brightness of its own; the first is always black, the last white."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (count, 3, 4, 4)) * rng.uniform(0.1, 0.9, (1, 3, 4, 4))
    pixels[count // 2 :] /= 4  # a mean over the first batch, or of batch means, is another one
    pixels[:, 0, 0, 0], pixels[:, 2, 3, 3] = 0, 255
    pixels = 255 * (pixels > 60) if binarisation == "fixed" else pixels
    return ResidentImages(torch.from_numpy(pixels.astype(np.uint8)), torch.zeros(count, dtype=torch.long), binarisation)


@pytest.mark.parametrize("count", [40, 2300])
@pytest.mark.parametrize("binarisation", ["none", "fixed", "fresh"])
def test_the_output_starts_at_the_mean_of_the_images_as_the_model_sees_them(binarisation, count):
    images = black_to_white(count, binarisation)
    x = images.images / 255
    if binarisation == "fresh":
        generator = seeded(9)
        x = torch.cat([(torch.rand(part.shape, generator=generator) < part).float() for part in x.split(1000)])
    model = IWAE(latent_dim=2, hidden_dims=(3,), image_shape=(3, 4, 4))
    before = copy.deepcopy(model.state_dict())
    model.start_from(images, seeded(9))
    want = x.double().mean(dim=0).flatten().clamp(1e-3, 1 - 1e-3)
    close(torch.sigmoid(model.decoder.logits.bias.detach()).double(), want, 1e-6)
    assert (want.min(), want.max()) == (1e-3, 1 - 1e-3)
    changed = [name for name, value in model.state_dict().items() if not torch.equal(value, before[name])]
    assert changed == ["decoder.logits.bias"]


@pytest.mark.parametrize("options", [{"architecture": "conv"}, {"likelihood": "gaussian"}], ids=["conv", "gaussian"])
def test_another_network_or_likelihood_starts_without_the_mean_image(options):
    model = IWAE(latent_dim=2, image_shape=(3, 4, 4), **options)
    before = copy.deepcopy(model.state_dict())
    model.start_from(black_to_white(4), seeded(0))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_a_run_starts_at_the_mean_of_its_training_images():
    config = iwae.IwaeConfig(k=3, objective="dreg", latent_dim=4, hidden_dims=(6, 5), binarisation="fresh", seed=9)
    images = black_to_white(40, "fresh")
    model, again = (initialised(iwae.build_model, config, images) for _ in range(2))
    options = model.options
    assert (options.k, options.objective, options.latent_dim, options.hidden_dims) == (3, "dreg", 4, (6, 5))
    assert model.image_shape == (3, 4, 4)
    x = images.images / 255
    want = (torch.rand(x.shape, generator=seeded(9)) < x).double().mean(dim=0).flatten().clamp(1e-3, 1 - 1e-3)
    close(torch.sigmoid(model.decoder.logits.bias.detach()).double(), want, 1e-6)
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in model.state_dict().items())


def test_a_saved_model_comes_back_through_the_base_class(tmp_path):
    model = small_iwae(3, "dreg", likelihood="gaussian", sigma="learned")
    model.save(tmp_path)
    loaded = VAE.load(tmp_path)
    assert type(loaded) is IWAE
    assert loaded.config() == model.config()
    assert (loaded.options.k, loaded.options.objective, loaded.noise_shape) == (3, "dreg", (3, 2))
    x, eps = grey_images(2), normals(0, 2, 3, 2)
    with torch.no_grad():
        for name, term in model.terms(x, eps).items():
            close(loaded.terms(x, eps)[name], term, 0)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"k": 0}, "k must be an integer of at least 1, got 0"),
        ({"k": -1}, "k must be"),
        ({"k": 1.5}, "k must be"),
        ({"k": True}, "k must be"),
        ({"objective": "elbo"}, "objective must be iwae or dreg or vae, got 'elbo'"),
        ({"latent_dim": 0}, "latent_dim must be"),
        ({"hidden_dims": (3, 0)}, "hidden_dims[1] must be"),
        ({"architecture": "conv"}, "hidden_dims and activation belong to architecture mlp"),  # would be ignored
    ],
    ids=["k 0", "k -1", "k 1.5", "k True", "objective", "latent dim", "hidden dims", "conv"],
)
def test_arguments_out_of_range_are_refused(options, named):
    with pytest.raises(ValueError, match=re.escape(named)):
        IWAE(**{"hidden_dims": (3,)} | options)


@pytest.mark.parametrize("option", ["beta", "kl_schedule", "free_bits", "capacity", "gamma", "num_codes"])
def test_what_an_iwae_does_not_have_it_does_not_take(option):
    """A weight of the KL would be ignored: there is no KL in the bound."""
    with pytest.raises(TypeError, match=f"IWAE has no option '{option}': it has .*objective"):
        IWAE(**{option: 1.0})
    assert option not in {each.name for each in fields(iwae.IwaeConfig)}


def test_the_papers_network_is_the_default():
    options = IWAE().options
    assert (options.k, options.objective, options.latent_dim, options.architecture) == (50, "iwae", 50, "mlp")
    assert (options.hidden_dims, options.activation) == ((200, 200), "tanh")
    assert iwae.IwaeConfig().batch_size == 20


def test_the_elbo_is_minus_the_two_terms():
    """Of one sample and with the closed-form KL, whatever the objective; the beta is the caller's."""
    model, x, eps = small_iwae(objective="dreg"), grey_images(3), normals(1, 3, 2)
    with torch.no_grad():
        mu, logvar = model.encode(x)
        z = mu + torch.exp(logvar).sqrt() * eps
        log_p = torch.stack([log_p_of_pixels(model, model.decode(z[n : n + 1]), x[n : n + 1]) for n in range(3)])
        prior = Normal(torch.zeros_like(mu), torch.ones_like(mu))
        kl = torch_kl_divergence(Normal(mu, torch.exp(logvar).sqrt()), prior).sum(dim=1)
        close(model.elbo(x, eps), log_p - kl, 1e-12)
        close(model.elbo(x, eps, beta=0.25), log_p - 0.25 * kl, 1e-12)
