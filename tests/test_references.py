"""Each formula against one that somebody else wrote, or against its definition in loops. All in float64."""

import math

import numpy as np
import pytest
import scipy.special
import torch
import torch.nn.functional as F
from torch.distributions import Bernoulli, Normal
from torch.distributions import kl_divergence as torch_kl_divergence

import vae_lowlevel
import vae_numpy
import vae_paper
from comparison import (
    LEVELS,
    assert_agree,
    functions_of,
    paper_model,
    random_inputs,
    random_params,
    scaled_error,
    to_tensors,
)

LATENT_DIM = 3
PARAMS = random_params(0, LATENT_DIM, gain=1.5)


# --- The layers of level 1 -------------------------------------------------------------------------------------------


def random_convolution(seed, transposed=False):
    """x, weight, bias and options of a random convolution whose output has at least one pixel."""
    rng = np.random.default_rng(seed)
    while True:
        n, c, o, k, stride = (int(rng.integers(1, high + 1)) for high in (3, 4, 4, 5, 3))
        h, w = (int(size) for size in rng.integers(1, 10, 2))
        padding, extra = int(rng.integers(0, k)), int(rng.integers(0, stride))
        if transposed:
            sizes = [(size - 1) * stride - 2 * padding + k + extra for size in (h, w)]
        else:
            sizes = [size + 2 * padding - k + 1 for size in (h, w)]
        if min(sizes) >= 1:
            break
    shape = (c, o, k, k) if transposed else (o, c, k, k)
    options = {"stride": stride, "padding": padding} | ({"output_padding": extra} if transposed else {})
    return rng.standard_normal((n, c, h, w)), rng.standard_normal(shape), rng.standard_normal(o), options


def conv2d_in_loops(x, weight, bias, stride, padding):
    """The definition: y[o, i, j] = bias[o] + sum over c, a, b of x[c, i s + a - p, j s + b - p] weight[o, c, a, b]."""
    (n, c, h, w), (o, _, k, _) = x.shape, weight.shape
    y = np.zeros((n, o, *((size + 2 * padding - k) // stride + 1 for size in (h, w))))
    for image, out, i, j in np.ndindex(y.shape):
        y[image, out, i, j] = bias[out]
        for channel, a, b in np.ndindex(c, k, k):
            row, column = i * stride + a - padding, j * stride + b - padding
            if 0 <= row < h and 0 <= column < w:
                y[image, out, i, j] += x[image, channel, row, column] * weight[out, channel, a, b]
    return y


def conv_transpose2d_in_loops(x, weight, bias, stride, padding, output_padding):
    """The definition: x[c, i, j] weight[c, o, a, b] goes to y[o, i s + a - p, j s + b - p], if that pixel exists."""
    (n, _, h, w), (_, o, k, _) = x.shape, weight.shape
    y = np.zeros((n, o, *((size - 1) * stride - 2 * padding + k + output_padding for size in (h, w))))
    y += bias[:, None, None]
    for image, channel, i, j in np.ndindex(x.shape):
        for out, a, b in np.ndindex(o, k, k):
            row, column = i * stride + a - padding, j * stride + b - padding
            if 0 <= row < y.shape[2] and 0 <= column < y.shape[3]:
                y[image, out, row, column] += x[image, channel, i, j] * weight[channel, out, a, b]
    return y


@pytest.mark.parametrize("transposed", [False, True], ids=["conv2d", "conv_transpose2d"])
@pytest.mark.parametrize("seed", range(40))
def test_convolution_is_that_of_pytorch(seed, transposed):
    x, weight, bias, options = random_convolution(seed, transposed)
    ours, theirs = (vae_numpy.conv_transpose2d, F.conv_transpose2d) if transposed else (vae_numpy.conv2d, F.conv2d)
    want = theirs(torch.tensor(x), torch.tensor(weight), torch.tensor(bias), **options).numpy()
    assert_agree(ours(x, weight, bias, **options), want, 1e-12, str(options))


@pytest.mark.parametrize("seed", range(10))
def test_convolutions_are_their_definitions(seed):
    x, weight, bias, options = random_convolution(seed)
    assert_agree(vae_numpy.conv2d(x, weight, bias, **options), conv2d_in_loops(x, weight, bias, **options), 1e-12)
    x, weight, bias, options = random_convolution(seed, transposed=True)
    want = conv_transpose2d_in_loops(x, weight, bias, **options)
    assert_agree(vae_numpy.conv_transpose2d(x, weight, bias, **options), want, 1e-12)


@pytest.mark.parametrize("seed", range(20))
def test_transposed_convolution_is_the_adjoint(seed):
    """<conv2d(x), y> = <x, conv_transpose2d(y)> for all x and y, with one and the same weight and no bias."""
    x, weight, bias, options = random_convolution(seed)
    stride, padding, k = options["stride"], options["padding"], weight.shape[2]
    side = min(x.shape[2:])
    x = x[:, :, :side, :side]  # a square has one output_padding that leads back to its size
    forward = vae_numpy.conv2d(x, weight, 0 * bias, **options)
    y = np.random.default_rng(seed).standard_normal(forward.shape)
    output_padding = (side + 2 * padding - k) % stride
    backward = vae_numpy.conv_transpose2d(y, weight, 0.0, **options, output_padding=output_padding)
    assert backward.shape == x.shape
    assert np.sum(forward * y) == pytest.approx(np.sum(x * backward), rel=1e-11, abs=1e-11)


def test_default_stride_and_padding_halve_and_double():
    """The defaults of level 1's convolutions are the model's own: 28 -> 14 and 14 -> 28."""
    rng = np.random.default_rng(0)
    x, weight = rng.standard_normal((1, 2, 28, 28)), rng.standard_normal((2, 2, 3, 3))
    options = {"stride": 2, "padding": 1}
    half = vae_numpy.conv2d(x, weight, np.zeros(2))
    assert_agree(half, F.conv2d(torch.tensor(x), torch.tensor(weight), **options).numpy(), 1e-12)
    want = F.conv_transpose2d(torch.tensor(half), torch.tensor(weight), **options, output_padding=1).numpy()
    assert_agree(vae_numpy.conv_transpose2d(half, weight, np.zeros(2)), want, 1e-12)


ARGUMENTS = np.concatenate([np.linspace(-1000, 1000, 4001), np.linspace(-40, 40, 4001), [0.0, -1e-300, 1e-300]])


def test_softplus_and_sigmoid_are_those_of_scipy():
    """Entry by entry, so that the tiny values on the left count as much as the large ones on the right."""
    np.testing.assert_allclose(vae_numpy.softplus(ARGUMENTS), np.logaddexp(0, ARGUMENTS), rtol=1e-14)
    np.testing.assert_allclose(vae_numpy.softplus(ARGUMENTS), -scipy.special.log_expit(-ARGUMENTS), rtol=1e-14)
    sigmoid, expit = vae_numpy.sigmoid(ARGUMENTS), scipy.special.expit(ARGUMENTS)
    np.testing.assert_allclose(sigmoid, expit, rtol=1e-12, atol=1e-307)  # below that float64 itself loses digits
    assert vae_numpy.softplus(np.array([-1000.0, 0.0, 1000.0])).tolist() == [0.0, math.log(2), 1000.0]
    assert vae_numpy.sigmoid(np.array([-1000.0, 0.0, 1000.0])).tolist() == [0.0, 0.5, 1.0]


# --- The two terms, at each level ------------------------------------------------------------------------------------


def random_posterior(seed, num_images=50):
    rng = np.random.default_rng(seed)
    return rng.normal(0, 2, (num_images, LATENT_DIM)), rng.uniform(-6, 3, (num_images, LATENT_DIM))


@pytest.mark.parametrize("level", LEVELS)
def test_kl_is_that_of_torch_distributions(level):
    mu, logvar = random_posterior(0)
    posterior = Normal(torch.tensor(mu), torch.tensor(logvar).exp().sqrt())
    want = torch_kl_divergence(posterior, Normal(0.0, 1.0)).sum(dim=1).numpy()
    kl_divergence = functions_of(level, PARAMS).kl_divergence
    assert_agree(kl_divergence(mu, logvar), want, 1e-12)
    zeros = np.zeros_like(mu)
    np.testing.assert_array_equal(kl_divergence(zeros, zeros), np.zeros(len(mu)))  # the posterior is the prior


@pytest.mark.parametrize("level", LEVELS)
def test_kl_is_the_mean_of_log_q_minus_log_p(level):
    """Monte Carlo with the level's own z: reparameterize and the KL must mean the same distribution."""
    vae = functions_of(level, PARAMS)
    num_draws = 200_000
    mu, logvar = np.array([[0.5, -1.0, 2.0]]), np.array([[-1.0, 0.7, -3.0]])
    eps = np.random.default_rng(0).standard_normal((num_draws, LATENT_DIM))
    z = vae.reparameterize(mu.repeat(num_draws, axis=0), logvar.repeat(num_draws, axis=0), eps)
    log_q = -0.5 * (np.log(2 * np.pi) + logvar + (z - mu) ** 2 / np.exp(logvar)).sum(axis=1)
    log_p = -0.5 * (np.log(2 * np.pi) + z**2).sum(axis=1)
    estimate, standard_error = (log_q - log_p).mean(), (log_q - log_p).std() / num_draws**0.5
    kl = vae.kl_divergence(mu, logvar)[0]
    assert standard_error < 0.01 * kl  # small enough to see a missing 1/2
    assert abs(estimate - kl) < 4 * standard_error


@pytest.mark.parametrize("level", LEVELS)
def test_reparameterize_draws_the_posterior(level):
    """z has the mean mu and the variance exp(logvar): a standard deviation of exp(logvar) would show at once."""
    mu, logvar = (
        values.repeat(50_000, axis=0) for values in (np.array([[1.0, -2.0, 0.0]]), np.array([[2.0, -2.0, 0.5]]))
    )
    eps = np.random.default_rng(1).standard_normal(mu.shape)
    z = functions_of(level, PARAMS).reparameterize(mu, logvar, eps)
    np.testing.assert_allclose(z.mean(axis=0), mu[0], atol=0.05)
    np.testing.assert_allclose(z.var(axis=0), np.exp(logvar[0]), rtol=0.03)


@pytest.mark.parametrize("scale", [0.0, 1.0, 10.0, 30.0])
@pytest.mark.parametrize("level", LEVELS)
def test_reconstruction_nll_is_that_of_torch_distributions(level, scale):
    x, _ = random_inputs(0, 20, LATENT_DIM)  # grey, hence validate_args=False
    logits = scale * np.random.default_rng(1).standard_normal(x.shape)
    log_prob = Bernoulli(logits=torch.tensor(logits), validate_args=False).log_prob(torch.tensor(x))
    want = -log_prob.sum(dim=(1, 2, 3)).numpy()
    assert_agree(functions_of(level, PARAMS).reconstruction_nll(logits, x), want, 1e-12)


@pytest.mark.parametrize(
    ("logit", "pixel", "nats"), [(1000, 1, 0), (-1000, 0, 0), (1000, 0, 1000), (-1000, 1, 1000), (1000, 0.25, 750)]
)
@pytest.mark.parametrize("level", LEVELS)
def test_reconstruction_nll_of_a_very_sure_decoder(level, logit, pixel, nats):
    logits, x = np.full((2, 1, 28, 28), float(logit)), np.full((2, 1, 28, 28), float(pixel))
    want = np.full(2, 784.0 * nats)
    np.testing.assert_array_equal(functions_of(level, PARAMS).reconstruction_nll(logits, x), want)


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("level", LEVELS)
def test_reconstruction_nll_keeps_its_last_digits(level, sign):
    """Logits of 20 to 25: a softplus that gives up its logarithm at 20, PyTorch's default, is off by 2e-9 a pixel."""
    logits = sign * np.linspace(20, 25, 784).reshape(1, 1, 28, 28)
    x = np.full(logits.shape, float(sign > 0))  # the decoder is right, so that nothing hides the small term
    want = math.fsum(math.log1p(math.exp(-abs(logit))) for logit in logits.ravel())
    assert want > 1e-7
    assert functions_of(level, PARAMS).reconstruction_nll(logits, x)[0] == pytest.approx(want, rel=0, abs=1e-11)


@pytest.mark.parametrize("level", ["lowlevel", "paper"])
def test_gradient_of_reconstruction_nll_is_sigmoid_minus_x(level):
    """Also at a logit of exactly 0, where max(x, 0) + log1p(exp(-|x|)) has a kink in each part."""
    x, _ = random_inputs(0, 3, LATENT_DIM)
    values = np.random.default_rng(1).normal(0, 8, x.shape)
    values[:, :, ::2] = 0.0
    values[0, 0, 1, :4] = [1000.0, -1000.0, 25.0, -25.0]
    logits = torch.tensor(values, requires_grad=True)
    vae = vae_lowlevel if level == "lowlevel" else vae_paper.VAE(latent_dim=LATENT_DIM).double()
    vae.reconstruction_nll(logits, torch.tensor(x)).sum().backward()
    np.testing.assert_allclose(logits.grad.numpy(), scipy.special.expit(values) - x, rtol=0, atol=1e-14)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("level", LEVELS)
def test_beta_enters_linearly(level, seed):
    """elbo(beta) = -reconstruction_nll - beta KL, and beta = 1 is the default."""
    vae = functions_of(level, random_params(seed, LATENT_DIM, gain=1.5))
    x, eps = random_inputs(seed, 5, LATENT_DIM)
    mu, logvar, _, logits = vae.forward(x, eps)
    nll, kl = vae.reconstruction_nll(logits, x), vae.kl_divergence(mu, logvar)
    assert kl.min() > 0.01
    np.testing.assert_array_equal(vae.elbo(x, eps), vae.elbo(x, eps, 1.0))
    for beta in (0.0, 0.5, 1.0, 4.0, 1000.0):
        assert_agree(vae.elbo(x, eps, beta), -nll - beta * kl, 1e-13, f"beta = {beta}")


@pytest.mark.parametrize("beta", [0.0, 1.0, 4.0])
def test_what_the_paper_level_minimises(beta):
    """terms()["loss"] is minus the bound with the model's own beta; elbo is the ELBO, whatever that beta is."""
    model = vae_paper.VAE(latent_dim=LATENT_DIM, beta=beta).double()
    model.load_state_dict(to_tensors(PARAMS))
    x, eps = (torch.tensor(array) for array in random_inputs(0, 4, LATENT_DIM))
    with torch.no_grad():
        terms = model.terms(x, eps)
        bound = paper_model(to_tensors(PARAMS)).elbo(x, eps)
        elbo, weighted = model.elbo(x, eps), model.elbo(x, eps, beta)
    nll, kl = terms["reconstruction_nll"], terms["kl_divergence"]
    assert_agree(terms["loss"], nll + beta * kl, 1e-14)
    assert_agree(weighted, -terms["loss"], 1e-14)
    assert_agree(elbo, bound, 1e-14)
    assert_agree(-nll - kl, bound, 1e-14)


# --- The whole model -------------------------------------------------------------------------------------------------


def elbo_in_pure_python(params, x, eps):
    """The ELBO of one image with nothing but the math module and loops. params, x (28, 28), eps (Z,): nested lists."""

    def relu(values):
        return [max(value, 0.0) for value in values]

    def linear(layer, values):
        rows = zip(params[f"{layer}.weight"], params[f"{layer}.bias"], strict=True)
        return [math.fsum(w * v for w, v in zip(row, values, strict=True)) + bias for row, bias in rows]

    def convolution(layer, maps):  # k 3, stride 2, padding 1
        size, outputs = len(maps[0]), []
        for kernels, bias in zip(params[f"{layer}.weight"], params[f"{layer}.bias"], strict=True):
            output = [[bias] * (size // 2) for _ in range(size // 2)]
            for i in range(size // 2):
                for j in range(size // 2):
                    for plane, kernel in zip(maps, kernels, strict=True):
                        for a in range(3):
                            for b in range(3):
                                row, column = 2 * i + a - 1, 2 * j + b - 1
                                if 0 <= row < size and 0 <= column < size:
                                    output[i][j] += plane[row][column] * kernel[a][b]
            outputs.append(output)
        return outputs

    def transposed_convolution(layer, maps):  # k 3, stride 2, padding 1, output_padding 1
        size = len(maps[0])
        outputs = [[[bias] * (2 * size) for _ in range(2 * size)] for bias in params[f"{layer}.bias"]]
        for plane, kernels in zip(maps, params[f"{layer}.weight"], strict=True):
            for output, kernel in zip(outputs, kernels, strict=True):
                for i in range(size):
                    for j in range(size):
                        for a in range(3):
                            for b in range(3):
                                row, column = 2 * i + a - 1, 2 * j + b - 1
                                if row >= 0 and column >= 0:
                                    output[row][column] += plane[i][j] * kernel[a][b]
        return outputs

    def relu_maps(maps):
        return [[relu(row) for row in plane] for plane in maps]

    maps = relu_maps(convolution("encoder.conv1", [x]))
    maps = relu_maps(convolution("encoder.conv2", maps))
    h = relu(linear("encoder.fc", [value for plane in maps for row in plane for value in row]))
    mu, logvar = linear("encoder.mu", h), linear("encoder.logvar", h)
    z = [m + math.sqrt(math.exp(v)) * e for m, v, e in zip(mu, logvar, eps, strict=True)]
    h = relu(linear("decoder.fc2", relu(linear("decoder.fc1", z))))
    maps = [[h[49 * c + 7 * i : 49 * c + 7 * i + 7] for i in range(7)] for c in range(64)]
    maps = relu_maps(transposed_convolution("decoder.deconv1", maps))
    [logits] = transposed_convolution("decoder.deconv2", maps)

    log_likelihood = 0.0
    for row, x_row in zip(logits, x, strict=True):
        for logit, pixel in zip(row, x_row, strict=True):
            p = 1 / (1 + math.exp(-logit))
            log_likelihood += pixel * math.log(p) + (1 - pixel) * math.log(1 - p)
    kl = sum((m**2 + math.exp(v) - 1 - v) / 2 for m, v in zip(mu, logvar, strict=True))
    return log_likelihood - kl


def test_elbo_is_that_of_pure_python():
    params = random_params(5, 2, gain=1.5)
    x, eps = random_inputs(6, 1, 2)
    want = elbo_in_pure_python(
        {name: array.tolist() for name, array in params.items()}, x[0, 0].tolist(), eps[0].tolist()
    )
    for level in LEVELS:
        assert scaled_error(functions_of(level, params).elbo(x, eps), np.array([want])) <= 1e-12, level
