"""Level 3's models beyond the one that all levels share: the Gaussian likelihood, the autoencoder, other networks,
colour, and the options that choose among them. Against torch.distributions, or the formula written out.
"""

import math

import numpy as np
import pytest
import scipy.optimize
import torch
import torch.nn.functional as F
from torch.distributions import Bernoulli, Normal

from comparison import assert_one_line
from experiment import TrainingConfig, initialised, parse_config
from schedules import KLSchedule
from small_models import LATENT_DIM, SIDE, assert_close, few_images, new_model, nll_and_kl, random_batch
from trainer import train
from training_images import ResidentImages
from vae_paper import VAE, Autoencoder, BaseVAE, ConditionalVAE, VaeConfig, build_model, load_model, log_normal

# --- The Gaussian likelihood -----------------------------------------------------------------------------------------


def gaussian_inputs(n=4, scale=2.0):
    """Means and images of any sign and size."""
    rng = np.random.default_rng(0)
    return (torch.tensor(scale * rng.standard_normal((n, 1, SIDE, SIDE))) for _ in range(2))


@pytest.mark.parametrize("learned", [False, True], ids=["fixed", "learned"])
@pytest.mark.parametrize("sigma", [0.01, 0.5, 1.0, 3.0])
def test_the_gaussian_nll_and_its_gradients_are_those_of_torch_distributions(sigma, learned):
    model = new_model(likelihood="gaussian", sigma="learned" if learned else sigma)
    if learned:
        model.log_sigma.data.fill_(math.log(sigma))
    mean, x = gaussian_inputs()
    mean.requires_grad_()
    log_sigma = torch.tensor(math.log(sigma), dtype=torch.float64, requires_grad=True)
    want = -Normal(mean, log_sigma.exp()).log_prob(x).sum(dim=(1, 2, 3))
    got = model.reconstruction_nll(mean, x)
    assert_close(got, want)
    ours = torch.autograd.grad(got.sum(), [mean, model.log_sigma] if learned else [mean])
    theirs = torch.autograd.grad(want.sum(), [mean, log_sigma])
    for a, b in zip(ours, theirs, strict=learned):
        assert_close(a, b)
    residual = (x - mean).detach() / sigma
    assert_close(ours[0], -residual / sigma)
    if learned:
        assert_close(ours[1], (1 - residual.square()).sum())


def test_at_sigma_1_the_gaussian_nll_is_half_the_squared_error_and_a_constant():
    mean, x = gaussian_inputs()
    constant = SIDE * SIDE * 0.9189385332046727  # log(2 pi) / 2
    for sigma in (1.0, "learned"):  # which starts there
        nll = new_model(likelihood="gaussian", sigma=sigma).reconstruction_nll(mean, x)
        assert_close(nll.detach() - constant, 0.5 * (x - mean).square().sum(dim=(1, 2, 3)))


def test_the_best_sigma_squared_is_the_mean_squared_error():
    model = new_model(likelihood="gaussian", sigma="learned")
    mean, x = gaussian_inputs(scale=0.3)
    mse = (x - mean).square().mean().item()

    def mean_nll(log_sigma):
        model.log_sigma.data.fill_(log_sigma)
        return model.reconstruction_nll(mean, x).mean()

    best = scipy.optimize.minimize_scalar(lambda value: mean_nll(value).item(), bracket=(-3, 0), tol=1e-10).x
    assert math.exp(2 * best) == pytest.approx(mse, rel=1e-6)
    (gradient,) = torch.autograd.grad(mean_nll(math.log(mse) / 2), model.log_sigma)
    assert abs(gradient.item()) < 1e-10  # of 64 pixels, each of which would add 1
    assert mean_nll(math.log(mse) / 2).item() == pytest.approx(
        SIDE * SIDE * (1 + math.log(2 * math.pi * mse)) / 2, rel=1e-12
    )


def test_a_learned_sigma_is_one_parameter_and_a_fixed_one_none():
    fixed, learned = (new_model(likelihood="gaussian", sigma=sigma) for sigma in (0.3, "learned"))
    assert learned.state_dict().keys() - fixed.state_dict().keys() == {"log_sigma"}
    assert learned.log_sigma.shape == ()
    assert learned.log_sigma.item() == 0
    assert not isinstance(fixed.log_sigma, torch.nn.Parameter)


def test_the_gaussian_nll_stays_in_the_precision_of_the_images():
    mean, x = (tensor.float() for tensor in gaussian_inputs())
    for sigma in (0.3, "learned"):
        model = new_model(likelihood="gaussian", sigma=sigma).float()
        assert model.reconstruction_nll(mean, x).dtype == torch.float32


def test_a_gaussian_takes_any_finite_image_and_a_bernoulli_only_grey_values():
    gaussian, bernoulli = new_model(likelihood="gaussian"), new_model()
    mean, x = gaussian_inputs()
    eps = torch.zeros(len(x), LATENT_DIM, dtype=torch.float64)
    assert x.min() < 0
    assert x.max() > 1
    assert torch.isfinite(gaussian.terms(x, eps)["loss"]).all()
    for outside in (x.clamp(max=1), x.clamp(min=0)):
        with pytest.raises(ValueError, match=r"x must be floats in \[0, 1\]"):
            bernoulli.encode(outside)
        with pytest.raises(ValueError, match=r"x must be floats in \[0, 1\]"):
            bernoulli.reconstruction_nll(mean, outside)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize(
    ("likelihood", "message"), [("bernoulli", r"floats in \[0, 1\]"), ("gaussian", "finite, got NaN")]
)
def test_an_image_with_nan_or_infinity_is_refused(likelihood, message, bad):
    model = new_model(likelihood=likelihood)
    x, eps, _ = random_batch(model)
    x[3, 0, 2, 5] = bad
    for refused in (lambda: model.terms(x, eps), lambda: model.reconstruction_nll(torch.zeros_like(x), x)):
        with pytest.raises(ValueError, match=f"x must be {message}"):
            refused()


@pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian"])
def test_whole_numbers_are_no_images(likelihood):
    model = new_model(likelihood=likelihood)
    with pytest.raises(ValueError, match="x must be float32 or float64, got int64"):
        model.encode(torch.zeros(2, 1, SIDE, SIDE, dtype=torch.int64))


def test_a_sample_is_the_mean_image_within_0_and_1():
    z = torch.tensor(np.random.default_rng(0).normal(0, 5, (20, LATENT_DIM)))
    gaussian, bernoulli = (new_model(gain=3.0, likelihood=likelihood) for likelihood in ("gaussian", "bernoulli"))
    with torch.no_grad():
        logits, image = gaussian.decode(z), gaussian.sample(z)
        assert (logits < 0).any()
        assert (logits > 1).any()
        assert ((logits > 0) & (logits < 1)).any()
        np.testing.assert_array_equal(image.numpy(), np.clip(logits.numpy(), 0, 1))
        assert_close(bernoulli.sample(z), 1 / (1 + (-bernoulli.decode(z)).exp()))


# --- The autoencoder -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian"])
def test_the_autoencoder_decodes_mu_whatever_the_noise(likelihood):
    model = new_model(Autoencoder, gain=3.0, likelihood=likelihood)
    x, eps, _ = random_batch(model)
    z, logits = model(x)
    assert_close(z, model.encoder(x)[0])
    assert_close(z, model.embed(x))
    assert_close(logits, model.decode(z))
    p = Normal(logits, 1.0) if likelihood == "gaussian" else Bernoulli(logits=logits, validate_args=False)
    want = -p.log_prob(x).sum(dim=(1, 2, 3))
    for noise in (eps, 100 * eps, eps[:, :0]):
        terms = model.terms(x, noise, None, 3)
        assert list(terms) == ["loss", "reconstruction_nll"]
        assert_close(terms["loss"], want)
        assert_close(terms["reconstruction_nll"], want)
    assert model.elbo_terms == ()
    assert model.noise_shape == ()
    assert not model.couples_batch


def test_an_autoencoder_answers_nothing_that_asks_for_a_distribution():
    names = ("elbo", "log_weights", "reparameterize", "kl_divergence", "kl_per_latent", "posterior_samples")
    assert [name for name in names if hasattr(Autoencoder, name)] == []
    assert [name for name in names if not hasattr(VAE, name)] == []
    assert not issubclass(Autoencoder, BaseVAE)


def test_training_an_autoencoder_leaves_its_logvar_head_alone_and_moves_the_rest(images):
    model = new_model(Autoencoder)
    before = {name: tensor.float() for name, tensor in model.state_dict().items()}
    rows = train(model, *images, TrainingConfig(epochs=3, batch_size=4, lr=1e-2))
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name]) == name.startswith("encoder.logvar."), name
    assert rows[-1]["test_loss"] < rows[0]["test_loss"]
    terms = [f"{split}_{term}" for split in ("train", "test") for term in ("loss", "reconstruction_nll")]
    assert list(rows[0]) == ["epoch", "seconds", *terms]


@pytest.mark.parametrize("name", ["beta", "kl_schedule", "kl_steps", "free_bits", "group_size", "capacity"])
@pytest.mark.parametrize("cls", [Autoencoder, BaseVAE])
def test_an_option_of_another_model_is_no_option(cls, name):
    with pytest.raises(TypeError, match=f"^{cls.__name__} has no option '{name}': it has latent_dim, ") as error:
        cls(**{name: 1})
    assert_one_line(error)


# --- The bound -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{"beta": 6.0}, {"free_bits": 3.0}, {"capacity": 5.0, "kl_steps": 9}], ids=str)
def test_elbo_is_the_elbo_whatever_is_minimised(options):
    model = new_model(gain=3.0, **options)
    x, eps, _ = random_batch(model)
    nll, kl = nll_and_kl(model, x, eps)
    assert_close(model.elbo(x, eps), -nll - kl.sum(dim=1))
    assert_close(model.elbo(x, eps, 2.5), -nll - 2.5 * kl.sum(dim=1))


@pytest.mark.parametrize("beta", [math.nan, math.inf, -math.inf, -1.0, "1", None])
def test_a_beta_that_is_no_weight_is_refused(beta):
    model = new_model()
    x, eps, _ = random_batch(model)
    with pytest.raises(ValueError, match="beta must be a finite number of at least 0") as error:
        model.elbo(x, eps, beta)
    assert_one_line(error, beta)


def test_log_weights_are_written_out_by_torch_distributions():
    model = new_model(gain=2.0)
    x, _, _ = random_batch(model)
    eps = torch.tensor(np.random.default_rng(1).standard_normal((5, 3, LATENT_DIM)))
    got = model.log_weights(x, eps)
    mu, logvar = model.encode(x)
    q = Normal(mu, (logvar / 2).exp())
    for k in range(3):
        z = q.loc + q.scale * eps[:, k]
        likelihood = Bernoulli(logits=model.decode(z), validate_args=False).log_prob(x).sum(dim=(1, 2, 3))
        want = likelihood + Normal(0.0, 1.0).log_prob(z).sum(dim=1) - q.log_prob(z).sum(dim=1)
        assert_close(got[:, k], want, 1e-11)


def test_log_normal_is_that_of_torch_distributions_for_each_latent():
    z, mu, logvar = torch.tensor(np.random.default_rng(0).standard_normal((3, 5, LATENT_DIM)))
    assert_close(log_normal(z, mu, logvar), Normal(mu, (logvar / 2).exp()).log_prob(z))
    assert_close(log_normal(z), Normal(0.0, 1.0).log_prob(z))
    every_pair = log_normal(z[:, None], mu, logvar)  # broadcasts
    assert_close(every_pair, Normal(mu, (logvar / 2).exp()).log_prob(z[:, None]))


# --- The networks ----------------------------------------------------------------------------------------------------


def burgess(cls=VAE, gain=1.0, channels=1, **options):
    return new_model(cls, gain, architecture="conv", latent_dim=10, image_shape=(channels, 64, 64), **options)


def burgess_shapes(channels, num_classes):
    """Burgess 2018, appendix A.1: four convolutions of 32 channels, 4x4, stride 2, two layers of 256, and back."""
    weights = {
        "encoder.conv1": (32, channels, 4, 4),
        "encoder.conv2": (32, 32, 4, 4),
        "encoder.conv3": (32, 32, 4, 4),
        "encoder.conv4": (32, 32, 4, 4),
        "encoder.fc1": (256, 512 + num_classes),
        "encoder.fc2": (256, 256),
        "encoder.mu": (10, 256),
        "encoder.logvar": (10, 256),
        "decoder.fc1": (256, 10 + num_classes),
        "decoder.fc2": (256, 256),
        "decoder.fc3": (512, 256),
        "decoder.deconv1": (32, 32, 4, 4),
        "decoder.deconv2": (32, 32, 4, 4),
        "decoder.deconv3": (32, 32, 4, 4),
        "decoder.deconv4": (32, channels, 4, 4),
    }
    biases = {name: (channels if name == "decoder.deconv4" else shape[0],) for name, shape in weights.items()}
    return {f"{name}.weight": shape for name, shape in weights.items()} | {
        f"{name}.bias": shape for name, shape in biases.items()
    }


@pytest.mark.parametrize("num_classes", [0, 3], ids=["unconditional", "conditional"])
@pytest.mark.parametrize("channels", [1, 3])
def test_64x64_images_get_the_network_of_burgess(channels, num_classes):
    options = {"cls": ConditionalVAE, "num_classes": num_classes} if num_classes else {}
    model = burgess(channels=channels, gain=2.0, **options)
    assert {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()} == burgess_shapes(
        channels, num_classes
    )
    x, eps, c = random_batch(model, n=2)
    with torch.no_grad():
        mu, logvar, z, logits = model(x, eps, c)
    assert mu.shape == logvar.shape == z.shape == (2, 10)
    assert logits.shape == (2, channels, 64, 64)


def test_the_network_of_burgess_has_as_many_parameters_as_counted_by_hand():
    encoder = 544 + 3 * 16_416 + 131_328 + 65_792 + 2 * 2_570
    decoder = 2_816 + 65_792 + 131_584 + 3 * 16_416 + 513
    assert encoder + decoder == 502_005
    assert sum(parameter.numel() for parameter in burgess().parameters()) == 502_005
    with_labels = burgess(ConditionalVAE, num_classes=3)
    assert sum(parameter.numel() for parameter in with_labels.parameters()) == 502_005 + 2 * 3 * 256


@pytest.mark.parametrize("num_classes", [0, 3], ids=["unconditional", "conditional"])
def test_the_network_of_burgess_computes_what_its_layers_say(num_classes):
    options = {"cls": ConditionalVAE, "num_classes": num_classes} if num_classes else {}
    model = burgess(gain=1.5, **options)
    params = model.state_dict()
    x, eps, c = random_batch(model, n=2)
    one_hot = torch.zeros(2, 0).double() if c is None else F.one_hot(c, num_classes).double()

    def linear(layer, h):
        return h @ params[f"{layer}.weight"].T + params[f"{layer}.bias"]

    def convolution(function, layer, h):
        return function(h, params[f"{layer}.weight"], params[f"{layer}.bias"], stride=2, padding=1)

    h = x
    for i in range(1, 5):
        h = convolution(F.conv2d, f"encoder.conv{i}", h).relu()
    assert h.shape == (2, 32, 4, 4)
    h = linear("encoder.fc1", torch.cat([h.reshape(2, 512), one_hot], dim=1)).relu()
    h = linear("encoder.fc2", h).relu()
    mu, logvar = linear("encoder.mu", h), linear("encoder.logvar", h)
    z = mu + (logvar / 2).exp() * eps
    h = linear("decoder.fc1", torch.cat([z, one_hot], dim=1)).relu()
    h = linear("decoder.fc2", h).relu()
    h = linear("decoder.fc3", h).relu().reshape(2, 32, 4, 4)
    for i in range(1, 4):
        h = convolution(F.conv_transpose2d, f"decoder.deconv{i}", h).relu()
    logits = convolution(F.conv_transpose2d, "decoder.deconv4", h)
    with torch.no_grad():
        for got, want in zip(model(x, eps, c), (mu, logvar, z, logits), strict=True):
            assert_close(got, want, 1e-11)


def test_the_label_reaches_both_networks_of_burgess():
    model = burgess(ConditionalVAE, num_classes=3, gain=2.0)
    x, eps, _ = random_batch(model, n=1)
    labels = [torch.tensor([label]) for label in range(3)]
    with torch.no_grad():
        for outputs in ([model.encode(x, c)[0] for c in labels], [model.decode(eps, c) for c in labels]):
            assert not torch.allclose(outputs[0], outputs[1])
            assert not torch.allclose(outputs[1], outputs[2])
    with pytest.raises(ValueError, match="c must be classes from 0 to 2, got 3"):
        model.encode(x, torch.tensor([3]))


@pytest.mark.parametrize("shape", [(1, 64, 32), (1, 32, 64), (1, 32, 32)])
def test_other_sides_keep_the_default_convolutions(shape):
    model = new_model(architecture="conv", image_shape=shape)
    assert "encoder.conv2.weight" in model.state_dict()
    assert "encoder.conv3.weight" not in model.state_dict()
    x, eps, _ = random_batch(model, n=2)
    assert model(x, eps)[-1].shape == (2, *shape)


@pytest.mark.parametrize(("activation", "function"), [("relu", lambda h: h.clip(0, None)), ("tanh", np.tanh)])
def test_the_fully_connected_network_has_the_activation_it_was_given(activation, function):
    model = new_model(hidden_dims=(7, 5), activation=activation, gain=3.0)
    params = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
    x, eps, _ = random_batch(model)

    def linear(layer, h):
        return h @ params[f"{layer}.weight"].T + params[f"{layer}.bias"]

    def hidden(network, h):
        for i in (0, 2):
            h = function(linear(f"{network}.hidden.{i}", h))
        return h

    h = hidden("encoder", x.flatten(1).numpy())
    with torch.no_grad():
        mu, logvar, z, logits = (tensor.numpy() for tensor in model(x, eps))
    np.testing.assert_allclose(mu, linear("encoder.mu", h), rtol=1e-12)
    np.testing.assert_allclose(logvar, linear("encoder.logvar", h), rtol=1e-12)
    np.testing.assert_allclose(
        logits, linear("decoder.logits", hidden("decoder", z)).reshape(logits.shape), rtol=1e-9, atol=1e-12
    )
    assert params["decoder.hidden.0.weight"].shape == (5, LATENT_DIM)  # the encoder's, mirrored


def test_an_unknown_activation_is_refused():
    with pytest.raises(ValueError, match="activation must be relu or tanh, got 'gelu'"):
        VAE(architecture="mlp", activation="gelu")


@pytest.mark.parametrize("options", [{"activation": "tanh"}, {"hidden_dims": (16,)}, {"hidden_dims": ()}], ids=str)
def test_what_belongs_to_the_other_network_is_refused(options):
    with pytest.raises(ValueError, match="hidden_dims and activation belong to architecture mlp") as error:
        VAE(**options)
    assert_one_line(error)


@pytest.mark.parametrize("options", [{"architecture": "mlp"}, {"architecture": "conv"}], ids=str)
@pytest.mark.parametrize("side", [8, 64])
def test_colour_images_have_three_channels_at_both_ends(options, side):
    """Every channel is a pixel of its own to the likelihood."""
    model = new_model(image_shape=(3, side, side), **options)
    x, eps, _ = random_batch(model, n=2)
    with torch.no_grad():
        assert model(x, eps)[-1].shape == model.sample(eps).shape == (2, 3, side, side)
        nll, kl = nll_and_kl(model, x, eps)
        assert_close(model.elbo(x, eps), -nll - kl.sum(dim=1))
        swapped = model.terms(x.flip(1), eps)["reconstruction_nll"]
    assert not torch.allclose(swapped, nll, rtol=1e-6)
    with pytest.raises(ValueError, match=r"x must be at least one image, shape \(N, 3, "):
        model.encode(x[:, :1])


@pytest.mark.parametrize("num_classes", [0, 3], ids=["unconditional", "conditional"])
def test_without_hidden_layers_the_vae_is_linear(num_classes):
    options = {"cls": ConditionalVAE, "num_classes": num_classes} if num_classes else {}
    model = new_model(hidden_dims=(), likelihood="gaussian", sigma="learned", gain=2.0, **options)
    pixels = SIDE * SIDE
    assert {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()} == {
        "log_sigma": (),
        "encoder.mu.weight": (LATENT_DIM, pixels + num_classes),
        "encoder.mu.bias": (LATENT_DIM,),
        "encoder.logvar.weight": (LATENT_DIM, pixels + num_classes),
        "encoder.logvar.bias": (LATENT_DIM,),
        "decoder.logits.weight": (pixels, LATENT_DIM + num_classes),
        "decoder.logits.bias": (pixels,),
    }
    (x, z, c), (x_too, z_too, _) = (random_batch(model, seed=seed) for seed in (0, 1))
    with torch.no_grad():
        for share in (0.25, -3.0):
            mixed = share * z + (1 - share) * z_too
            want = share * model.decode(z, c) + (1 - share) * model.decode(z_too, c)
            assert_close(model.decode(mixed, c), want, 1e-11)
            mixed = share * x + (1 - share) * x_too
            for got, a, b in zip(model.encode(mixed, c), model.encode(x, c), model.encode(x_too, c), strict=True):
                assert_close(got, share * a + (1 - share) * b, 1e-11)
        weight = model.decoder.logits.weight[:, :LATENT_DIM]
        difference = (model.decode(z, c) - model.decode(z_too, c)).flatten(1)
        assert_close(difference, (z - z_too) @ weight.T, 1e-11)


# --- The options of the script ---------------------------------------------------------------------------------------


DIGITS = few_images(4, 0, (1, 28, 28))[0]


def built(images=DIGITS, **options):
    """The model that the script makes of its flags."""
    config = VaeConfig(**options)
    config.check(flags=True)
    return initialised(build_model, config, images)


def test_without_options_it_is_the_vae_of_the_other_levels():
    model = built()
    assert type(model) is VAE
    assert model.config() == VAE().config()
    chosen = (model.latent_dim, model.options.beta, model.options.likelihood, model.options.architecture)
    assert chosen == (20, 1.0, "bernoulli", "conv")
    schedule = {name: getattr(model.options, name) for name in vars(KLSchedule())}
    assert schedule == vars(KLSchedule(1.0, "constant", 1, 0.0, 1, None))


@pytest.mark.parametrize(
    ("options", "cls", "asked_for"),
    [
        ({"kl_schedule": "cyclical", "kl_steps": 500, "beta": 4.0, "free_bits": 0.25, "group_size": 4}, VAE, ...),
        ({"free_bits": 0.5}, VAE, ...),
        ({"capacity": 25.0, "kl_steps": 300, "capacity_gamma": 30.0}, VAE, ...),
        ({"likelihood": "gaussian", "sigma": 0.1}, VAE, ...),
        ({"likelihood": "gaussian", "sigma": "learned"}, VAE, ...),
        ({"autoencoder": True, "latent_dim": 2}, Autoencoder, {"latent_dim": 2}),
        ({"conditional": True, "beta": 2.0}, ConditionalVAE, {"beta": 2.0, "num_classes": 10}),
        ({"architecture": "mlp", "hidden_dims": (), "activation": "tanh"}, VAE, ...),
    ],
    ids=["schedule", "free bits", "capacity", "sigma", "learned", "autoencoder", "conditional", "linear"],
)
def test_the_model_is_the_one_that_the_options_ask_for(options, cls, asked_for):
    model = built(**options)
    assert type(model) is cls
    assert model.config() == model.config() | (options if asked_for is ... else asked_for)
    log_sigma = torch.as_tensor(model.log_sigma).item()
    assert log_sigma == pytest.approx(math.log(0.1) if options.get("sigma") == 0.1 else 0.0)


def test_the_network_fits_the_training_images_and_their_classes():
    sprites = ResidentImages(
        torch.zeros(2, 1, 64, 64, dtype=torch.uint8), torch.zeros(2, dtype=torch.int64), class_names=("a", "b", "c")
    )
    model = built(sprites, conditional=True, latent_dim=10)
    assert model.image_shape == (1, 64, 64)
    assert {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()} == burgess_shapes(1, 3)


def test_images_without_classes_have_no_conditional_model():
    bare = ResidentImages(DIGITS.images, torch.zeros(4, dtype=torch.int64))
    with pytest.raises(ValueError, match="--conditional needs classes, and --data digits has none") as error:
        built(bare, conditional=True)
    assert_one_line(error)


def test_the_options_can_be_written_on_the_command_line():
    flags = ["--architecture", "mlp", "--hidden-dims", "--likelihood", "gaussian", "--sigma", "learned"]
    config, state, model = parse_config(VaeConfig, [*flags, "--capacity", "25", "--kl-steps", "9"], "s", load_model)
    assert (state, model) == (None, None)
    options = initialised(build_model, config, DIGITS).options
    assert (options.hidden_dims, options.likelihood, options.sigma) == ((), "gaussian", "learned")
    assert (options.capacity, options.kl_steps) == (25.0, 9)
    config, _, _ = parse_config(VaeConfig, ["--likelihood", "gaussian", "--sigma", "0.5"], "s", load_model)
    assert config.sigma == 0.5


NO_KL = "an autoencoder has no KL: leave out --beta and its schedule"
SCHEDULED = {"kl_schedule": "linear", "kl_steps": 10}
SIGMA = "--sigma must be a finite number above 0 or learned, got"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"autoencoder": True, "conditional": True}, "--autoencoder and --conditional: choose one"),
        ({"autoencoder": True, "beta": 4.0}, NO_KL),
        ({"autoencoder": True, "beta": 0.0}, NO_KL),
        ({"autoencoder": True, "free_bits": 0.5}, NO_KL),
        ({"autoencoder": True} | SCHEDULED, NO_KL),
        ({"autoencoder": True, "capacity": 5.0, "kl_steps": 10}, NO_KL),
        ({"capacity": 5.0, "kl_steps": 10, "beta": 4.0}, "leave out --beta"),
        ({"capacity": 5.0} | SCHEDULED, "leave out --kl-schedule and --free-bits"),
        ({"kl_steps": 10}, "--kl-schedule and --capacity go together with --kl-steps"),
        ({"capacity_gamma": 10.0}, "--capacity-gamma belongs to --capacity"),
        ({"free_bits": 1.0, "group_size": 3}, "20 latents do not make groups of 3"),
        ({"sigma": 0.5}, "--sigma belongs to the gaussian --likelihood"),
        ({"sigma": "learned"}, "--sigma belongs to the gaussian --likelihood"),
        ({"likelihood": "gaussian", "sigma": 0.0}, f"{SIGMA} 0.0"),
        ({"likelihood": "gaussian", "sigma": -1.0}, f"{SIGMA} -1.0"),
        ({"likelihood": "gaussian", "sigma": math.nan}, f"{SIGMA} nan"),
        ({"likelihood": "gaussian", "sigma": math.inf}, f"{SIGMA} inf"),
        ({"likelihood": "gaussian", "sigma": "free"}, f"{SIGMA} 'free'"),
        ({"likelihood": "laplace"}, "--likelihood must be bernoulli or gaussian, got 'laplace'"),
        ({"activation": "tanh"}, "--hidden-dims and --activation belong to --architecture mlp"),
        ({"beta": -1.0}, "--beta must be a finite number of at least 0, got -1.0"),
        ({"latent_dim": 0}, "--latent-dim must be an integer of at least 1, got 0"),
        ({"architecture": "mlp", "hidden_dims": (4, 0)}, "--hidden-dims[1] must be an integer of at least 1, got 0"),
    ],
    ids=lambda value: ", ".join(f"{k}={v}" for k, v in value.items()) if isinstance(value, dict) else "",
)
def test_options_that_contradict_each_other_are_refused_by_flag(options, message):
    with pytest.raises(ValueError) as error:  # noqa: PT011 - the message is looked at below
        built(**options)
    assert_one_line(error, message)
