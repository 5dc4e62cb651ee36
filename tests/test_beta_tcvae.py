"""beta-TCVAE: its decomposition against SciPy in loops, closed forms of Gaussians, and a toy whose answer is known; its
loss against one written out here. And what couples the images of a batch, here and in the FactorVAE.
"""

import itertools
import math
from dataclasses import fields

import numpy as np
import pytest
import scipy.special
import scipy.stats
import torch
from torch.distributions import Bernoulli, MultivariateNormal, Normal, kl_divergence

import beta_tcvae
import factor_vae
from beta_tcvae import (
    BetaTCConfig,
    BetaTCVAE,
    exact_kl_decomposition,
    kl_decomposition,
    log_densities,
    stratified_log_weights,
)
from comparison import normals
from experiment import TrainingConfig
from factor_vae import FactorConfig
from tiny_models import TINY, correlated, random_batch, some_images, tiny_model
from trainer import evaluate, train
from training_images import ResidentImages
from vae_paper import VAE, log_normal


def random_posteriors(seed, count, latent_dim):
    """z, mu, logvar of `count` images, z_i drawn from q(z|x_i)."""
    mu, logvar, eps = normals(seed, 3, count, latent_dim)
    return mu + torch.exp(logvar / 2) * eps, mu, logvar


def slow_log_q(z, mu, logvar, log_weights):
    """log q(z) and sum_d log q(z_d) of codes z (B, Z) under images mu, logvar (n, Z), log_weights (B, n)."""
    z, mu, sigma = z.numpy(), mu.numpy(), np.exp(logvar.numpy() / 2)
    log_q_z, log_prod_q_zd = np.zeros(len(z)), np.zeros(len(z))
    for i in range(len(z)):
        under = np.array([scipy.stats.norm.logpdf(z[i], mu[j], sigma[j]) for j in range(len(mu))])  # (n, Z)
        log_q_z[i] = scipy.special.logsumexp([log_weights[i, j] + under[j].sum() for j in range(len(mu))])
        for d in range(z.shape[1]):
            log_prod_q_zd[i] += scipy.special.logsumexp([log_weights[i, j] + under[j, d] for j in range(len(mu))])
    return log_q_z, log_prod_q_zd


def log_weights_of(estimator, batch_size, dataset_size):
    if estimator == "mss":
        return stratified_log_weights(batch_size, dataset_size).numpy()
    return np.full((batch_size, batch_size), -math.log(dataset_size * batch_size))


def log_q_given_own(z, mu, logvar):
    return Normal(mu, torch.exp(logvar / 2)).log_prob(z).sum(dim=1)


def log_prior(z):
    return Normal(torch.zeros_like(z), 1.0).log_prob(z).sum(dim=1)


# --- The exact decomposition -----------------------------------------------------------------------------------------


def test_the_log_density_per_latent_is_that_of_scipy():
    z, mu, logvar = random_posteriors(0, 5, 3)
    want = scipy.stats.norm.logpdf(z[:, None].numpy(), mu.numpy(), np.exp(logvar.numpy() / 2))
    got = log_normal(z.unsqueeze(1), mu, logvar)
    assert got.shape == (5, 5, 3)
    np.testing.assert_allclose(got, want, rtol=1e-12)


@pytest.mark.parametrize(("images", "codes", "latent_dim"), [(7, 7, 3), (6, 2, 1), (5, 4, 2)])
def test_the_exact_decomposition_is_its_definition_in_loops(images, codes, latent_dim):
    z, mu, logvar = random_posteriors(images, images, latent_dim)
    z = z[:codes]
    got = exact_kl_decomposition(z, mu[:codes], logvar[:codes], mu, logvar)
    log_q_z, log_prod_q_zd = slow_log_q(z, mu, logvar, np.full((codes, images), -math.log(images)))
    own, prior = log_q_given_own(z, mu[:codes], logvar[:codes]).numpy(), log_prior(z).numpy()
    want = [np.mean(own - log_q_z), np.mean(log_q_z - log_prod_q_zd), np.mean(log_prod_q_zd - prior)]
    assert [term.shape for term in got] == 3 * [()]
    assert {term.dtype for term in got} == {torch.float64}
    np.testing.assert_allclose(torch.stack(got), want, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("kind", ["exact", "mss", "mws"])
def test_the_three_terms_add_up_to_the_sampled_kl(kind):
    z, mu, logvar = random_posteriors(3, 12, 4)
    if kind == "exact":
        terms = exact_kl_decomposition(z, mu, logvar, mu, logvar)
    else:
        terms = kl_decomposition(z, mu, logvar, 40, kind)
    want = (log_q_given_own(z, mu, logvar) - log_prior(z)).mean()
    torch.testing.assert_close(sum(terms), want, rtol=1e-12, atol=1e-12)


def test_the_mean_of_many_codes_adds_up_to_the_closed_form_kl():
    _, mu, logvar = random_posteriors(4, 10, 2)
    mu, logvar = mu.repeat(2000, 1), logvar.repeat(2000, 1)
    z = mu + torch.exp(logvar / 2) * normals(5, *mu.shape)
    terms = exact_kl_decomposition(z, mu, logvar, mu[:10], logvar[:10])
    want = kl_divergence(Normal(mu, torch.exp(logvar / 2)), Normal(0.0, 1.0)).sum(dim=1).mean()
    assert sum(terms).item() == pytest.approx(want.item(), rel=0.02)
    assert min(terms) > 0  # each is a KL


@pytest.mark.parametrize(
    ("sigma", "least", "most"), [(1e-3, 0.9999, 1.0), (0.3, 0.2, 0.9), (100.0, -0.001, 0.001)], ids=str
)
def test_the_mutual_information_lies_between_zero_and_the_log_of_the_number_of_images(sigma, least, most):
    mu = normals(6, 50, 2)
    repeated = mu.repeat(100, 1)
    logvar = torch.full_like(repeated, 2 * math.log(sigma))
    z = repeated + sigma * normals(7, *repeated.shape)
    mutual_information = exact_kl_decomposition(z, repeated, logvar, mu, logvar[:50])[0] / math.log(50)
    assert least <= mutual_information <= most + 1e-12


def test_identical_images_share_no_information_with_their_codes():
    mu = torch.tensor([[0.5, -1.0]], dtype=torch.float64).expand(9, 2)
    z, logvar = mu + normals(8, 9, 2), torch.zeros_like(mu)
    got = torch.stack(exact_kl_decomposition(z, mu, logvar, mu, logvar))
    torch.testing.assert_close(got[:2], torch.zeros(2, dtype=torch.float64), rtol=0, atol=1e-12)


def test_a_product_grid_of_posteriors_has_no_total_correlation():
    """Every mu of one latent with every mu of the other, each with its own width: q(z) is a product, code by code."""
    side, width = torch.linspace(-2, 2, 6, dtype=torch.float64), torch.linspace(-1, 1, 6, dtype=torch.float64)
    mu, logvar = torch.cartesian_prod(side, side.exp()), torch.cartesian_prod(width, -width)
    z = mu + torch.exp(logvar / 2) * normals(9, 36, 2)
    for code in range(36):
        one = slice(code, code + 1)
        assert abs(exact_kl_decomposition(z[one], mu[one], logvar[one], mu, logvar)[1]) < 1e-12


@pytest.mark.parametrize("r", [0.0, 0.6, -0.9])
def test_correlated_gaussian_codes_have_the_closed_forms(r):
    """q(z) = N(0, [[1, r], [r, 1]]): the mus have that covariance less the noise's, 0.2^2 I."""
    sigma, images, codes = 0.2, 10_000, 1_000
    scale = torch.linalg.cholesky(correlated(r) - sigma**2 * torch.eye(2))
    mu = normals(10, images, 2) @ scale.T
    z, logvar = mu + sigma * normals(11, images, 2), torch.full_like(mu, 2 * math.log(sigma))
    z, own = z[:codes], slice(codes)
    got = exact_kl_decomposition(z, mu[own], logvar[own], mu, logvar)
    closed = -0.5 * math.log(1 - r**2)
    want = [math.log(1 / sigma**2) - closed, closed, 0.0]
    np.testing.assert_allclose(torch.stack(got), want, atol=0.08)
    # With the closed form of log q(z) at the same codes most of the sampling error is left out.
    log_q_z = MultivariateNormal(torch.zeros(2, dtype=torch.float64), correlated(r)).log_prob(z)
    at_these = log_q_given_own(z, mu[own], logvar[own]) - log_q_z, log_q_z - log_prior(z)
    np.testing.assert_allclose(torch.stack(got), [at_these[0].mean(), at_these[1].mean(), 0.0], atol=0.02)


def test_latents_that_are_copies_cost_what_one_latent_says():
    """With every mu far from the next, q(z) = 1/N and each q(z_d) = 1/N, up to the densities: TC = (Z - 1) log N."""
    mu = 100.0 * torch.arange(20, dtype=torch.float64).view(-1, 1).expand(-1, 4)
    got = exact_kl_decomposition(mu + normals(12, 20, 4), mu, torch.zeros_like(mu), mu, torch.zeros_like(mu))
    assert got[0].item() == pytest.approx(math.log(20), rel=1e-12)
    assert got[1].item() == pytest.approx(3 * math.log(20), rel=1e-12)


def test_chunks_change_nothing():
    images, codes = 100_000, 230  # 2 x 10^5 numbers a code: chunks of 50, and one of 30
    z, mu, logvar = random_posteriors(13, images, 2)
    z, own = z[:codes].float(), (mu[:codes].float(), logvar[:codes].float())
    everything = mu.float(), logvar.float()
    got = torch.stack(exact_kl_decomposition(z, *own, *everything))
    one_by_one = [
        torch.stack(exact_kl_decomposition(z[i : i + 1], own[0][i : i + 1], own[1][i : i + 1], *everything))
        for i in range(codes)
    ]
    assert got.dtype == torch.float32
    torch.testing.assert_close(got, torch.stack(one_by_one).mean(dim=0), rtol=1e-5, atol=1e-4)


def test_more_than_ten_million_numbers_go_code_by_code():
    mu = torch.zeros(1, 1).expand(10_000_001, 1)
    z = torch.tensor([[0.3], [-2.0]])
    got = exact_kl_decomposition(z, mu[:2], mu[:2], mu, mu)
    np.testing.assert_allclose(torch.stack(got), 0, atol=1e-3)


# --- The weights of a batch ------------------------------------------------------------------------------------------

SIZES = [(2, 2), (2, 9), (3, 3), (5, 8), (64, 64), (64, 10_000), (128, 60_000)]


@pytest.mark.parametrize(("batch_size", "dataset_size"), SIZES)
def test_each_stratified_weight_stands_for_what_it_should(batch_size, dataset_size):
    others = batch_size - 1
    weights = stratified_log_weights(batch_size, dataset_size).exp()
    assert weights.shape == (batch_size, batch_size)
    assert weights.dtype == torch.float64
    np.testing.assert_allclose(weights.sum(dim=1), 1, rtol=1e-12)
    np.testing.assert_allclose(weights.diagonal(), 1 / dataset_size, rtol=1e-12)
    leftover = (dataset_size - others) / (dataset_size * others)
    want = sorted([leftover] + (others - 1) * [1 / others])
    for i, row in enumerate(weights):
        np.testing.assert_allclose(sorted(np.delete(row.numpy(), i)), want, rtol=1e-12)


def test_the_leftover_falls_on_every_image_once():
    """Otherwise one image of the batch would count for less in all codes."""
    weights = stratified_log_weights(10, 1000).exp()
    np.testing.assert_allclose(weights.sum(dim=0), 1, rtol=1e-12)


def test_the_weights_take_on_the_dtype_asked_for():
    like = torch.zeros(1, dtype=torch.float32)
    weights = stratified_log_weights(6, 100, like=like)
    assert weights.dtype == torch.float32
    torch.testing.assert_close(weights, stratified_log_weights(6, 100).float())


@pytest.mark.parametrize("latent_dim", [1, 2], ids=["one latent", "two latents"])
@pytest.mark.parametrize("batch_size", [2, 3, 5], ids="batches of {}".format)
def test_the_stratified_density_of_a_code_is_unbiased(batch_size, latent_dim):
    """Over all batches of 5 images, in all orders; for batch 5 of 5 too, where only the order is left to chance."""
    z, mu, logvar = random_posteriors(14, 5, latent_dim)
    log_q_z, log_prod_q_zd = slow_log_q(z, mu, logvar, np.full((5, 5), -math.log(5)))
    sums = torch.zeros(2, 5, dtype=torch.float64)
    batches = list(itertools.permutations(range(5), batch_size))
    for batch in map(list, batches):
        _, joint, product, _ = log_densities(z[batch], mu[batch], logvar[batch], 5, "mss")
        sums[:, batch] += torch.stack([joint.exp(), product.exp()])
    means = sums / (len(batches) * batch_size / 5)  # each image is in this many of them
    np.testing.assert_allclose(means[0], np.exp(log_q_z), rtol=1e-12)
    if latent_dim == 1:  # of several latents the factors are unbiased, their product is not
        np.testing.assert_allclose(means[1], np.exp(log_prod_q_zd), rtol=1e-12)


def test_two_images_that_are_the_data_set_get_the_exact_decomposition():
    z, mu, logvar = random_posteriors(15, 2, 3)
    got = torch.stack(kl_decomposition(z, mu, logvar, 2, "mss"))
    torch.testing.assert_close(got, torch.stack(exact_kl_decomposition(z, mu, logvar, mu, logvar)))


def test_weighted_sampling_of_the_whole_data_set_is_exact_up_to_its_weights():
    """1/(N B) in the place of 1/N: log q(z) is log N too low, and so is each of the Z factors."""
    z, mu, logvar = random_posteriors(16, 8, 3)
    exact = torch.stack(exact_kl_decomposition(z, mu, logvar, mu, logvar))
    shift = math.log(8) * torch.tensor([1, 2, -3], dtype=torch.float64)
    torch.testing.assert_close(torch.stack(kl_decomposition(z, mu, logvar, 8, "mws")), exact + shift)


@pytest.mark.parametrize("estimator", ["mss", "mws"])
@pytest.mark.parametrize(("batch_size", "dataset_size", "latent_dim"), [(2, 2, 1), (6, 6, 2), (5, 40, 3)])
def test_log_densities_are_their_definitions_in_loops(batch_size, dataset_size, latent_dim, estimator):
    z, mu, logvar = random_posteriors(batch_size, batch_size, latent_dim)
    log_weights = log_weights_of(estimator, batch_size, dataset_size)
    got = log_densities(z, mu, logvar, dataset_size, estimator)
    want = log_q_given_own(z, mu, logvar), *slow_log_q(z, mu, logvar, log_weights), log_prior(z)
    for name, ours, theirs in zip(("own", "joint", "product", "prior"), got, want, strict=True):
        assert ours.shape == (batch_size,)
        assert ours.dtype == torch.float64
        np.testing.assert_allclose(ours, theirs, rtol=1e-11, err_msg=name)
    means = [np.mean(a - b) for a, b in itertools.pairwise(map(np.asarray, want))]
    got = kl_decomposition(z, mu, logvar, dataset_size, estimator)
    assert [term.shape for term in got] == 3 * [()]
    np.testing.assert_allclose(torch.stack(got), means, rtol=1e-10)


@pytest.mark.parametrize("estimator", ["mss", "mws"])
def test_densities_stay_finite_and_in_float32_where_every_image_is_far_away(estimator):
    mu = 1e3 * torch.arange(4.0).view(-1, 1).expand(-1, 2)
    terms = log_densities(mu + 0.5, mu, torch.full_like(mu, -2.0), 100, estimator)
    for term in terms:
        assert term.dtype == torch.float32
        assert torch.isfinite(term).all()


@pytest.mark.parametrize("estimator", ["mss", "mws"])
def test_the_gradient_of_each_term_is_its_finite_difference(estimator):
    inputs = [tensor.clone().requires_grad_() for tensor in random_posteriors(17, 4, 2)]
    assert torch.autograd.gradcheck(lambda *tensors: kl_decomposition(*tensors, 30, estimator), inputs)


# --- A toy whose answer is known -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def toy():
    """mu ~ N(0, I) of 10,000 images in 10 latents, sigma = 0.1; a few batches of 64, and their exact terms."""
    mu = normals(18, 10_000, 10)
    z, logvar = mu + 0.1 * normals(19, 10_000, 10), torch.full_like(mu, 2 * math.log(0.1))
    first = slice(10 * 64)
    exact = torch.stack(exact_kl_decomposition(z[first], mu[first], logvar[first], mu, logvar))
    return exact, [batch.split(64) for batch in (z[first], mu[first], logvar[first])]


def averaged(toy_batches, estimator):
    terms = [torch.stack(kl_decomposition(*batch, 10_000, estimator)) for batch in zip(*toy_batches, strict=True)]
    return torch.stack(terms).mean(dim=0)


def test_the_toys_codes_name_their_image_and_its_latents_are_dependent_by_accident(toy):
    exact, _ = toy
    assert exact[0] == pytest.approx(math.log(10_000), abs=1e-3)
    # Were q(z) N(0, 1.01 I), the TC would be 0, but 10,000 points are too few to fill 10 dimensions.
    assert exact[1] == pytest.approx(10 * 0.5 * math.log(1.01 / 0.01) - math.log(10_000), abs=0.5)
    assert exact[2] == pytest.approx(0, abs=0.1)


def test_stratified_sampling_finds_the_toys_mutual_information_and_nearly_its_total_correlation(toy):
    exact, batches = toy
    got = averaged(batches, "mss")
    assert got[0].item() == pytest.approx(exact[0].item(), abs=0.05)
    assert 1 < got[1] - exact[1] < 2.5  # log of a mean of 64: too low in each of the 10 factors
    torch.testing.assert_close(got.sum(), exact.sum())


def test_weighted_sampling_is_off_by_its_weights(toy):
    """Its weights sum to 1/N: MI is log(N B) = 13.4, and each of 10 factors is log N = 9.2 too low."""
    exact, batches = toy
    got = averaged(batches, "mws")
    assert got[0] == pytest.approx(math.log(10_000 * 64), abs=0.05)
    assert got[1] == pytest.approx(100, abs=3)
    torch.testing.assert_close(got.sum(), exact.sum())


def test_the_toy_sees_an_own_weight_that_stands_in_a_column(toy, monkeypatch):
    """In column 0, every code's own image counts 1/M like any other, and q(z) is 150 times too large."""

    def in_a_column(batch_size, dataset_size, like):
        others = batch_size - 1
        weights = torch.full((batch_size, batch_size), 1 / others)
        weights[:, 0] = 1 / dataset_size
        weights[:, 1] = (dataset_size - others) / (dataset_size * others)
        return weights.log().to(like)

    monkeypatch.setattr(beta_tcvae, "stratified_log_weights", in_a_column)
    exact, batches = toy
    assert averaged(batches, "mss")[0] == pytest.approx(math.log(63), abs=0.3)  # 4.1
    assert exact[0] > 9


# --- The beta-TCVAE --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("estimator", ["mss", "mws"])
def test_with_all_weights_one_the_loss_is_that_of_the_vae_with_the_sampled_kl(estimator):
    model = tiny_model("BetaTCVAE", alpha=1.0, beta=1.0, gamma=1.0, estimator=estimator)
    x, eps = random_batch(model, 6)
    with torch.no_grad():
        terms = model.terms(x, eps)
        mu, logvar = model.encoder(x)
        z = mu + torch.exp(logvar / 2) * eps
        nll = -Bernoulli(logits=model.decoder(z), validate_args=False).log_prob(x).sum(dim=(1, 2, 3))
    closed_form = kl_divergence(Normal(mu, torch.exp(logvar / 2)), Normal(0.0, 1.0)).sum(dim=1)
    want = {
        "loss": nll + log_q_given_own(z, mu, logvar) - log_prior(z),
        "reconstruction_nll": nll,
        "kl_divergence": closed_form,
    }
    for name, value in want.items():
        torch.testing.assert_close(terms[name], value, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("estimator", ["mss", "mws"])
@pytest.mark.parametrize("weights", [(1.0, 6.0, 1.0), (0.5, 3.0, 2.0), (0.0, 0.0, 0.0)], ids=str)
def test_each_part_of_the_kl_has_its_own_weight(weights, estimator):
    alpha, beta, gamma = weights
    model = tiny_model("BetaTCVAE", alpha=alpha, beta=beta, gamma=gamma, estimator=estimator)
    x, eps = random_batch(model, 6)
    with torch.no_grad():
        terms = model.terms(x, eps)
        mu, logvar, z, _ = model(x, eps)
    log_weights = log_weights_of(estimator, 6, 50)
    log_q_z, log_prod_q_zd = slow_log_q(z, mu, logvar, log_weights)
    parts = {
        "mutual_information": log_q_given_own(z, mu, logvar).numpy() - log_q_z,
        "total_correlation": log_q_z - log_prod_q_zd,
        "dimension_wise_kl": log_prod_q_zd - log_prior(z).numpy(),
    }
    assert set(terms) == {"loss", "reconstruction_nll", "kl_divergence", *parts}
    assert {tuple(term.shape) for term in terms.values()} == {(6,)}
    assert {term.dtype for term in terms.values()} == {torch.float64}
    for name, value in parts.items():
        np.testing.assert_allclose(terms[name], value, rtol=1e-9, atol=1e-10, err_msg=name)
    penalty = sum(weight * part for weight, part in zip(weights, parts.values(), strict=True))
    np.testing.assert_allclose(terms["loss"], terms["reconstruction_nll"].numpy() + penalty, rtol=1e-10)


def test_by_default_only_the_total_correlation_weighs_more():
    options = BetaTCVAE(dataset_size=100).options
    assert (options.alpha, options.beta, options.gamma, options.estimator) == (1, 6, 1, "mss")


def test_more_test_images_than_training_images_are_a_data_set_of_their_own():
    small, large = tiny_model("BetaTCVAE", dataset_size=3), tiny_model("BetaTCVAE", dataset_size=7)
    x, eps = random_batch(small, 7)
    with torch.no_grad():
        got, want = small.terms(x, eps), large.terms(x, eps)
    for name, value in want.items():
        torch.testing.assert_close(got[name], value)


def test_the_loss_reaches_every_parameter_of_the_beta_tcvae():
    model = tiny_model("BetaTCVAE", likelihood="gaussian", sigma="learned")
    model.terms(*random_batch(model, 6))["loss"].sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dataset_size": 5}, "dataset_size 5 is smaller"),
        ({"batch": 1}, "at least 2"),
        ({"estimator": "exact"}, "mss or mws"),
        ({"estimator": None}, "mss or mws"),
        ({"mu": torch.zeros(6, 3)}, "alike"),
        ({"logvar": torch.zeros(5, 2)}, "alike"),
        ({"mu": torch.zeros(1, 2)}, "alike"),
    ],
    ids=["few images", "one image", "unknown estimator", "no estimator", "latents", "codes", "broadcast"],
)
def test_a_batch_that_cannot_be_decomposed_is_refused(change, message):
    z, mu, logvar = (tensor[: change.get("batch", 6)] for tensor in random_posteriors(20, 6, 2))
    mu, logvar = change.get("mu", mu), change.get("logvar", logvar)
    with pytest.raises(ValueError, match=message):
        kl_decomposition(z, mu, logvar, change.get("dataset_size", 10), change.get("estimator", "mss"))


def test_codes_that_are_no_matrix_are_refused():
    z = torch.zeros(4)
    with pytest.raises(ValueError, match=r"\(B, Z\)"):
        kl_decomposition(z, z, z, 10)


@pytest.mark.parametrize(
    "options",
    [{name: value} for name in ("alpha", "beta", "gamma") for value in (-0.1, math.inf, math.nan)]
    + [{"dataset_size": 0}, {"dataset_size": 2.5}, {"estimator": "best"}, {"latent_dim": 0}],
    ids=str,
)
def test_arguments_out_of_range_are_refused_by_the_beta_tcvae(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        BetaTCVAE(**{"dataset_size": 10} | TINY | options)


# --- Batches of both models ------------------------------------------------------------------------------------------

BOTH = pytest.mark.parametrize("name", ["BetaTCVAE", "FactorVAE"])


def spy_on(monkeypatch, model):
    """The batches that the model's terms are asked for, as they come: (while training, x)."""
    calls, terms = [], model.terms

    def spy(x, *rest):
        calls.append((model.training, x))
        return terms(x, *rest)

    monkeypatch.setattr(model, "terms", spy)
    return calls


def sorted_images(batches):
    return sorted(image.flatten().tolist() for image in torch.cat(batches))


@BOTH
def test_a_single_last_image_joins_the_batch_before_it(name, monkeypatch):
    model, images = tiny_model(name), some_images(9)
    calls = spy_on(monkeypatch, model)
    train(model, images, images, TrainingConfig(epochs=2, batch_size=4, precision="float64"))
    assert [(training, len(x)) for training, x in calls] == 2 * [(True, 4), (True, 5), (False, 4), (False, 5)]
    everything = sorted_images([images.batch(slice(None))[0].double()])
    for start in range(0, 8, 2):
        assert sorted_images([x for _, x in calls[start : start + 2]]) == everything


@BOTH
@pytest.mark.parametrize(
    ("count", "batch_size", "sizes"),
    [(9, 4, [4, 5]), (10, 4, [4, 4, 2]), (8, 4, [4, 4]), (3, 2, [3]), (3, 1000, [3])],
    ids=["joined", "two are enough", "even", "one batch of all", "large batch"],
)
def test_evaluation_joins_a_single_last_image_too(name, count, batch_size, sizes, monkeypatch):
    model = tiny_model(name)
    if name == "FactorVAE" and sizes[-1] < 4:  # it wants two codes to permute
        sizes = [*sizes[:-2], sum(sizes[-2:])]
    calls = spy_on(monkeypatch, model)
    sums = evaluate(model, some_images(count), seed=0, batch_size=batch_size)
    assert [len(x) for _, x in calls] == sizes
    assert sums.count == count


def test_a_vae_keeps_its_single_last_image(monkeypatch):
    model, images = VAE(**TINY), some_images(9)
    calls = spy_on(monkeypatch, model)
    train(model, images, images, TrainingConfig(epochs=1, batch_size=4))
    assert [len(x) for _, x in calls] == [4, 4, 1, 9]


@BOTH
@pytest.mark.parametrize(
    ("train_count", "test_count", "batch_size"),
    [(9, 9, 1), (1, 9, 4), (9, 1, 4)],
    ids=["batches of one", "one training image", "one test image"],
)
def test_training_on_single_images_is_refused(name, train_count, test_count, batch_size):
    config = TrainingConfig(epochs=1, batch_size=batch_size, precision="float64")
    with pytest.raises(ValueError, match=f"{name} needs batches of at least {tiny_model(name).smallest_batch}.*got 1"):
        train(tiny_model(name), some_images(train_count), some_images(test_count), config)


@BOTH
def test_a_saved_model_comes_back_as_what_it_was(name, tmp_path):
    options = {
        "BetaTCVAE": {"dataset_size": 77, "alpha": 0.5, "beta": 9.0, "gamma": 2.0, "estimator": "mws"},
        "FactorVAE": {"gamma": 3.5, "discriminator_width": 5, "discriminator_depth": 3},
    }[name]
    model = tiny_model(name, likelihood="gaussian", sigma="learned", activation="tanh", **options)
    model.save(tmp_path)
    loaded = VAE.load(tmp_path)
    assert type(loaded) is type(model)
    assert loaded.config() == model.config()
    assert loaded.config() | options == loaded.config()
    x, eps = random_batch(model, 5)
    with torch.no_grad():
        for term, value in model.terms(x, eps).items():
            assert torch.equal(loaded.terms(x, eps)[term], value), term


@BOTH
def test_the_options_of_the_script_reach_the_model(name):
    images = some_images(9)  # of 2x2 pixels, which the convolutions do not take
    images.images = images.images.repeat_interleave(4, dim=2).repeat_interleave(4, dim=3)
    if name == "BetaTCVAE":
        config = BetaTCConfig(alpha=2.0, beta=3.0, gamma=4.0, estimator="mws", latent_dim=5)
        want = {"alpha": 2.0, "beta": 3.0, "gamma": 4.0, "estimator": "mws"}
        model = beta_tcvae.build_model(config, images)
        assert model.dataset_size == 9
    else:
        config = FactorConfig(gamma=4.0, discriminator_width=6, discriminator_depth=2, latent_dim=5)
        want = {"gamma": 4.0, "discriminator_width": 6, "discriminator_depth": 2}
        model = factor_vae.build_model(config, images)
    assert type(model).__name__ == name
    want |= {"latent_dim": 5}
    assert {option: getattr(model.options, option) for option in want} == want
    assert model.image_shape == (1, 8, 8)


@BOTH
@pytest.mark.parametrize("option", ["kl_schedule", "kl_steps", "free_bits", "capacity", "k"])
def test_what_a_model_does_not_have_it_does_not_take(name, option):
    """A schedule of the KL would be ignored."""
    with pytest.raises(TypeError, match=f"{name} has no option '{option}': it has .*gamma"):
        tiny_model(name, **{option: 1})
    config = {"BetaTCVAE": BetaTCConfig, "FactorVAE": FactorConfig}[name]
    assert option not in {each.name for each in fields(config)}


@BOTH
def test_the_elbo_is_the_vaes_whatever_the_weights(name):
    """E log p(x|z) - KL, with the closed-form KL and a beta of 1 unless the caller gives another."""
    model = tiny_model(name, gamma=9.0)
    x, eps = random_batch(model, 4)
    eps = eps if name == "BetaTCVAE" else eps[:, 0]
    with torch.no_grad():
        mu, logvar = model.encoder(x)
        logits = model.decoder(mu + torch.exp(logvar / 2) * eps)
        log_p = Bernoulli(logits=logits, validate_args=False).log_prob(x).sum(dim=(1, 2, 3))
        kl = kl_divergence(Normal(mu, torch.exp(logvar / 2)), Normal(0.0, 1.0)).sum(dim=1)
        torch.testing.assert_close(model.elbo(x, eps), log_p - kl, rtol=1e-11, atol=1e-12)
        torch.testing.assert_close(model.elbo(x, eps, beta=6.0), log_p - 6 * kl, rtol=1e-11, atol=1e-12)
        assert model.log_weights(x, eps[:, None]).shape == (4, 1)


@BOTH
@pytest.mark.parametrize("estimator", ["mss", "mws"])
def test_one_image_is_refused_in_one_sentence(name, estimator):
    """It says nothing about the others: what it got for its total correlation would be a number all the same."""
    model = tiny_model(name, **({"estimator": estimator} if name == "BetaTCVAE" else {}))
    with pytest.raises(ValueError, match=r"^one image says nothing about the others: expected a batch of at least 2$"):
        model.terms(*random_batch(model, 1))


@BOTH
def test_colour_images_train(name):
    pixels = np.random.default_rng(0).integers(0, 256, (8, 3, 2, 2), dtype=np.uint8)
    images = ResidentImages(torch.from_numpy(pixels), torch.zeros(8, dtype=torch.long), binarisation="fresh")
    model = tiny_model(name, image_shape=(3, 2, 2))
    rows = train(model, images, images, TrainingConfig(epochs=2, batch_size=4, precision="float64"))
    assert all(math.isfinite(value) for value in rows[-1].values())
