"""The JavaScript of the page, under Node, against level 1, and against level 3 for what level 1 does not have."""

import json
import re
import struct

import numpy as np
import pytest
import torch
from safetensors.numpy import save as save_numpy
from safetensors.torch import save as save_torch

import vae_lowlevel
import vae_numpy
from beta_tcvae import BetaTCVAE
from factor_vae import FactorVAE
from iwae import IWAE, importance_weighted_bound
from node import Refused, call, call_all, params_of
from run_files import weights_metadata
from vae_paper import VAE, Autoencoder, ConditionalVAE
from vq_vae import VQVAE

TOLERANCE = {"float64": 1e-12, "float32": 1e-5}  # of the largest value, as between the levels
both_dtypes = pytest.mark.parametrize("dtype", TOLERANCE)


def assert_agree(got, want, dtype="float64"):
    want = want.detach().numpy() if hasattr(want, "detach") else np.asarray(want)
    assert str(got.dtype) == dtype
    assert got.shape == want.shape
    assert np.abs(got - want).max() <= TOLERANCE[dtype] * max(np.abs(want).max(), 1e-300)


# --- Layers ----------------------------------------------------------------------------------------------------------


@both_dtypes
@pytest.mark.parametrize("seed", range(8))
def test_layers_of_any_shape(seed, dtype):
    rng = np.random.default_rng(seed)
    n, c, o, k = (int(rng.integers(1, high)) for high in (4, 5, 6, 5))
    stride, padding = int(rng.integers(1, 4)), int(rng.integers(0, k))
    h, w = (int(rng.integers(k, 10)) for _ in range(2))
    extra = int(rng.integers(0, stride))

    def normal(*shape):
        return rng.standard_normal(shape).astype(dtype)

    x, kernel, bias = normal(n, c, h, w), normal(o, c, k, k), normal(o)
    turned = normal(c, o, k, k)
    rows, matrix = normal(n, c), normal(o, c)
    results = call_all(
        ["conv2d", x, kernel, bias, stride, padding],
        ["convTranspose2d", x, turned, bias, stride, padding, extra],
        ["linear", rows, matrix, bias],
    )
    wanted = (
        vae_numpy.conv2d(x, kernel, bias, stride, padding),
        vae_numpy.conv_transpose2d(x, turned, bias, stride, padding, extra),
        vae_numpy.linear(rows, matrix, bias),
    )
    for got, want in zip(results, wanted, strict=True):
        assert_agree(got, want, dtype)


@both_dtypes
@pytest.mark.parametrize("name", ["relu", "softplus", "sigmoid"])
def test_activations_far_out_too(name, dtype):
    x = np.array([[-1000, -50, -1e-9, 0, 1e-9, 3, 50, 1000]], dtype)
    with np.errstate(under="ignore"):
        want = getattr(vae_numpy, name)(x)
    got = call(name, x)
    assert np.isfinite(got).all()
    np.testing.assert_allclose(got, want, rtol=TOLERANCE[dtype], atol=1e-300)


# --- The model -------------------------------------------------------------------------------------------------------


def batch(latent_dim, dtype, n=3, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.random((n, 1, 28, 28)).astype(dtype)
    return x, rng.standard_normal((n, latent_dim)).astype(dtype)


@both_dtypes
@pytest.mark.parametrize("latent_dim", [1, 2, 20])
def test_every_function_is_that_of_level_1(latent_dim, dtype):
    params = vae_numpy.init_params(latent_dim, latent_dim, np.dtype(dtype))
    x, eps = batch(latent_dim, dtype)
    mu, logvar, z, logits = vae_numpy.forward(params, x, eps)
    own = params_of(params)
    encoded, found, code, decoded, kl, nll, bound, heavier, seen = call_all(
        ["encode", own, x], ["forward", own, x, eps], ["reparameterize", mu, logvar, eps], ["decode", own, z],
        ["klDivergence", mu, logvar], ["reconstructionNll", logits, x], ["elbo", own, x, eps],
        ["elbo", own, x, eps, 4.0], ["sample", own, z],
    )  # fmt: skip
    for name, want in {"mu": mu, "logvar": logvar, "z": z, "logits": logits}.items():
        assert_agree(found[name], want, dtype)
    assert_agree(encoded["mu"], mu, dtype)
    assert_agree(encoded["logvar"], logvar, dtype)
    assert_agree(code, z, dtype)
    assert_agree(decoded, logits, dtype)
    want_kl = vae_numpy.kl_divergence(mu, logvar)
    assert np.abs(kl - want_kl).max() <= TOLERANCE[dtype] * (1 + want_kl.max())
    assert_agree(nll, vae_numpy.reconstruction_nll(logits, x), dtype)
    assert_agree(bound, vae_numpy.elbo(params, x, eps), dtype)
    assert_agree(heavier, vae_numpy.elbo(params, x, eps, 4.0), dtype)
    assert_agree(seen, vae_numpy.sample(params, z), dtype)


def test_nll_and_kl_far_out():
    """Where exp overflows, or a difference of large numbers would lose all digits."""
    logits = np.array([-1000.0, 1000, 40, -40] * 196).reshape(1, 1, 28, 28)
    x = np.tile([0.0, 1, 0.5, 1], 196).reshape(1, 1, 28, 28)
    assert_agree(call("reconstructionNll", logits, x), vae_numpy.reconstruction_nll(logits, x))
    mu, logvar = np.array([[0.0, 30, -1e-8]]), np.array([[-50.0, 5, 1e-9]])
    assert_agree(call("klDivergence", mu, logvar), vae_numpy.kl_divergence(mu, logvar))


MLP = {"architecture": "mlp", "hidden_dims": (7,)}
MODELS = {
    "convolutions": lambda: VAE(latent_dim=3),
    "fully connected": lambda: VAE(latent_dim=3, **MLP),
    "two hidden layers": lambda: VAE(latent_dim=2, architecture="mlp", hidden_dims=(9, 5), activation="tanh"),
    "linear": lambda: VAE(latent_dim=2, architecture="mlp", hidden_dims=()),
    "conditional": lambda: ConditionalVAE(latent_dim=2),
    "conditional, fully connected": lambda: ConditionalVAE(latent_dim=2, num_classes=4, **MLP),
    "Gaussian": lambda: VAE(latent_dim=2, likelihood="gaussian", sigma=0.3, **MLP),
    "Gaussian, sigma learned": lambda: VAE(latent_dim=2, likelihood="gaussian", sigma="learned", **MLP),
    "IWAE": lambda: IWAE(latent_dim=3, hidden_dims=(6, 5)),
    "BetaTCVAE": lambda: BetaTCVAE(latent_dim=3, dataset_size=70, **MLP),
    "FactorVAE": lambda: FactorVAE(latent_dim=3, discriminator_width=4, **MLP),
    "one latent": lambda: VAE(latent_dim=1, **MLP),
}


def made(name, dtype=torch.float64):
    with torch.random.fork_rng():
        torch.manual_seed(3)
        model = MODELS[name]().to(dtype)
        if hasattr(model, "log_sigma") and isinstance(model.log_sigma, torch.nn.Parameter):
            torch.nn.init.constant_(model.log_sigma, -0.7)
        return model


@pytest.mark.parametrize("name", MODELS)
def test_every_model_is_that_of_level_3(name):
    model = made(name)
    x, eps = (torch.from_numpy(array) for array in batch(model.latent_dim, "float64"))
    labels = [1, 0, 3] if model.num_classes else None
    c = None if labels is None else torch.tensor(labels)
    many = torch.randn(3, 5, model.latent_dim, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    own = params_of(model)
    found, bound, image, log_w = call_all(
        ["forward", own, x, eps, labels], ["elbo", own, x, eps, 1, labels], ["sample", own, eps, labels],
        ["logWeights", own, x, many, labels],
    )  # fmt: skip
    with torch.no_grad():
        for key, want in zip(("mu", "logvar", "z", "logits"), model(x, eps, c), strict=True):
            assert_agree(found[key], want)
        # The bound of an IWAE or a FactorVAE is in its base class: what it is trained on is something else.
        assert_agree(bound, model.elbo(x, eps, c=c))
        assert_agree(image, model.sample(eps, c))
        want = model.log_weights(x, many, c)
        assert_agree(log_w, want)
        assert_agree(call("importanceWeightedBound", want), importance_weighted_bound(want))


@pytest.mark.parametrize("seed", range(12))
def test_models_configured_at_random(seed):
    rng = np.random.default_rng(seed)
    options = {"latent_dim": int(rng.integers(1, 30))}
    if rng.random() < 0.8:
        options |= {
            "architecture": "mlp",
            "hidden_dims": tuple(int(n) for n in rng.integers(1, 40, rng.integers(0, 4))),
        }
        options |= {"activation": str(rng.choice(["relu", "tanh"]))}
    if rng.random() < 0.5:
        options |= {"likelihood": "gaussian", "sigma": "learned" if rng.random() < 0.5 else float(rng.uniform(0.05, 2))}
    classes = int(rng.integers(1, 12)) if rng.random() < 0.5 else 0
    dtype = str(rng.choice(list(TOLERANCE)))
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = ConditionalVAE(num_classes=classes, **options) if classes else VAE(**options)
    model.to(getattr(torch, dtype))
    x, eps = (torch.from_numpy(array) for array in batch(model.latent_dim, dtype, 2, seed))
    labels = [int(label) for label in rng.integers(0, classes, 2)] if classes else None
    found, bound = call_all(
        ["forward", params_of(model), x, eps, labels], ["elbo", params_of(model), x, eps, 1, labels]
    )
    with torch.no_grad():
        c = torch.tensor(labels) if classes else None
        for key, want in zip(("mu", "logvar", "z", "logits"), model(x, eps, c), strict=True):
            assert_agree(found[key], want, dtype)
        assert_agree(bound, model.elbo(x, eps, c=c), dtype)


def test_the_bound_of_many_samples_does_not_overflow():
    weights = torch.tensor([[-3000.0, -3001, -2999], [800, 10, 805]], dtype=torch.float64)
    assert_agree(call("importanceWeightedBound", weights), importance_weighted_bound(weights))


def test_an_autoencoder_has_a_code_and_no_bound():
    model = Autoencoder(latent_dim=2, **MLP).double()
    x, eps = batch(2, "float64")
    own = params_of(model)
    found, bound, log_w = call_all(
        ["forward", own, x, eps], ["elbo", own, x, eps], ["logWeights", own, x, eps[:, None]]
    )
    with torch.no_grad():
        z, logits = model(torch.from_numpy(x))
    assert_agree(found["z"], z)
    assert_agree(found["logits"], logits)
    assert "an autoencoder has no ELBO" in str(bound)
    assert isinstance(log_w, Refused)


def test_what_does_not_fit_is_refused():
    own, conditional = params_of(vae_numpy.init_params(0, 2)), params_of(made("conditional"))
    x, eps = batch(2, "float32")
    results = call_all(
        ["encode", own, x[:, :, 1:]], ["encode", own, x + 1], ["encode", own, x, [1, 2, 3]],
        ["decode", own, eps[:, :1]], ["decode", own, np.full_like(eps, np.inf)], ["reparameterize", eps, eps, eps[:2]],
        ["reparameterize", eps, eps + 1e5, eps + 9], ["encode", conditional, x.astype("float64")],
        ["encode", conditional, x.astype("float64"), [0, 1, 10]], ["klDivergence", eps, eps + 1e5],
    )  # fmt: skip
    words = (
        "x must have the shape (N, 1, 28, 28), got (3, 1, 27, 28)", "x must lie in [0, 1]",
        "a VAE takes no class labels",
        "z must have the shape (N, 2), got (3, 1)", "logits is not finite", "eps must have the shape of mu",
        "z = mu + exp(logvar / 2) * eps is not finite", "c must be 3 labels from 0 to 9",
        "c must be 3 labels from 0 to 9", "the KL divergence is not finite",
    )  # fmt: skip
    for result, expected in zip(results, words, strict=True):
        assert isinstance(result, Refused), expected
        assert expected in str(result)


# --- Weights ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("level", [vae_numpy, vae_lowlevel], ids=lambda level: level.__name__)
@both_dtypes
def test_weights_of_levels_1_and_2_are_read(tmp_path, level, dtype):
    params = level.init_params(0, 3, getattr(np if level is vae_numpy else torch, dtype))
    level.save_weights(tmp_path / "w.safetensors", params)
    assert_read((tmp_path / "w.safetensors").read_bytes(), params, {"class": "VAE", "latent_dim": 3})


@pytest.mark.parametrize("name", [*MODELS, "autoencoder"])
def test_weights_of_level_3_are_read(tmp_path, name):
    model = Autoencoder(latent_dim=2) if name == "autoencoder" else made(name, torch.float32)
    model.save(tmp_path)
    params = {key: value for key, value in model.state_dict().items() if not key.startswith("discriminator")}
    described = {"class": type(model).__name__, "latent_dim": model.latent_dim, "num_classes": model.num_classes}
    assert_read((tmp_path / "model.safetensors").read_bytes(), params, described)


def assert_read(content, params, described):
    found = call("loadWeights", content)
    assert described.items() <= found.pop("model").items()
    assert found.keys() == params.keys()
    for key, value in params.items():
        np.testing.assert_array_equal(found[key], value.detach() if hasattr(value, "detach") else value)


def test_float16_is_read_exactly():
    rng = np.random.default_rng(0)
    params = {name: array.astype(np.float16) for name, array in vae_numpy.init_params(0, 2).items()}
    every = np.arange(1 << 16, dtype=np.uint16).view(np.float16)  # all numbers that there are
    every = every[np.isfinite(every)]
    params["encoder.fc.weight"].flat[: len(every)] = rng.permutation(every)
    found = call("loadWeights", save_numpy(params))
    for name, array in params.items():
        np.testing.assert_array_equal(found[name], array.astype(np.float32))


def test_an_older_file_is_read_as_its_config_says():
    model = made("two hidden layers")
    content = save_torch(dict(model.state_dict()))
    found = call("loadWeights", content, {"model": json.loads(json.dumps(model.config()))})
    assert found["model"]["activation"] == "tanh"
    with pytest.raises(Refused, match=r"encoder\.conv1\.weight is missing"):
        call("loadWeights", content)


def damaged():
    """What it must say, and the bytes."""
    model = made("fully connected", torch.float32)
    good = save_torch(dict(model.state_dict()), weights_metadata(model.config()))
    (length,) = struct.unpack("<Q", good[:8])
    header = json.loads(good[8 : 8 + length])

    def with_header(change, numbers=good[8 + length :]):
        changed = json.loads(json.dumps(header))
        changed = change(changed) or changed
        text = json.dumps(changed).encode()
        return struct.pack("<Q", len(text)) + text + numbers

    def saved(other):
        return save_torch(dict(other.state_dict()), weights_metadata(other.config()))

    def described(**model_words):
        return with_header(lambda h: h["__metadata__"].update(model=json.dumps(model.config() | model_words)))

    nan = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    nan["encoder.mu.bias"][0] = torch.nan
    whole = r"this is not a whole .safetensors file \(.*\): train or copy it again"
    yield "empty", whole, b""
    yield "seven bytes", whole, good[:7]
    yield "the header cut off", whole, good[:100]
    yield "the end cut off", whole, good[:-1]
    yield "one byte more", whole, good + b"\0"
    yield "no JSON", whole, struct.pack("<Q", 4) + b"{{{{"
    yield "no UTF-8", whole, struct.pack("<Q", 2) + b"\xff\xfe"
    yield "a list", whole, struct.pack("<Q", 2) + b"[]"
    yield "a picture", whole, b"\x89PNG\r\n\x1a\n" + bytes(200)
    yield "a tensor that is no table", whole, with_header(lambda h: h.update({"encoder.mu.bias": 3}))
    yield "a shape of text", whole, with_header(lambda h: h["encoder.mu.bias"].update(shape="3"))
    yield "a shape that is not its bytes", whole, with_header(lambda h: h["encoder.mu.bias"].update(shape=[4]))
    yield "offsets beyond the end", whole, with_header(lambda h: h["encoder.mu.bias"].update(data_offsets=[0, 1 << 40]))
    yield "a tensor missing", "encoder.mu.bias is missing", with_header(lambda h: h.pop("encoder.mu.bias") and h)
    yield (
        "a tensor of another name",
        "zebra is unknown",
        with_header(lambda h: h.update(zebra=dict(h["encoder.mu.bias"]))),
    )
    yield (
        "numbers of another kind",
        "must be float16, float32 or float64, got BF16",
        save_torch(
            {name: tensor.bfloat16() for name, tensor in model.state_dict().items()}, weights_metadata(model.config())
        ),
    )
    yield (
        "two kinds",
        "numbers of one kind throughout, got F32, F64",
        save_torch(
            {**model.state_dict(), "encoder.mu.bias": torch.zeros(3, dtype=torch.float64)},
            weights_metadata(model.config()),
        ),
    )
    yield "NaN", "encoder.mu.bias holds NaN or infinity", save_torch(nan, weights_metadata(model.config()))
    yield "another size", r"encoder.mu.weight has the shape \(3, 7\), expected \(5, 7\)", described(latent_dim=5)
    yield "another class", "the file holds a VQVAE, and this page computes", saved(VQVAE(num_codes=5, code_dim=3))
    yield (
        "64x64",
        r"images have the shape \(1, 64, 64\), and this page shows \(1, 28, 28\)",
        saved(VAE(image_shape=(1, 64, 64), latent_dim=2)),
    )
    yield "colour", r"images have the shape \(3, 28, 28\)", saved(VAE(image_shape=(3, 28, 28), latent_dim=2))
    yield (
        "a description that is no JSON",
        "what the file says about its model is not JSON",
        with_header(lambda h: h["__metadata__"].update(model="{")),
    )
    yield (
        "a description that is a list",
        "must be a JSON object",
        with_header(lambda h: h["__metadata__"].update(model="[1]")),
    )
    for words in (
        {"latent_dim": 0}, {"latent_dim": "3"}, {"hidden_dims": 7}, {"hidden_dims": [1.5]}, {"activation": "gelu"},
        {"architecture": "transformer"}, {"likelihood": "beta"}, {"num_classes": -1},
        {"likelihood": "gaussian", "sigma": 0},
    ):  # fmt: skip
        yield str(words), "what the file says about its model cannot be", described(**words)


DAMAGED = {name: (words, content) for name, words, content in damaged()}


def test_damaged_truncated_and_foreign_files_are_one_sentence():
    results = call_all(*(["loadWeights", content] for _, content in DAMAGED.values()))
    for (name, (words, _)), result in zip(DAMAGED.items(), results, strict=True):
        assert isinstance(result, Refused), name
        assert re.search(words, str(result)), (name, str(result))
        assert "\n" not in str(result)
        assert len(str(result)) < 200


def test_bytes_changed_at_random_never_give_a_half_read_model():
    """Either the file is refused in a sentence of ours, or all numbers are there and finite."""
    model = made("one latent", torch.float32)
    good = save_torch(dict(model.state_dict()), weights_metadata(model.config()))
    rng = np.random.default_rng(0)
    files = []
    for _ in range(60):
        changed = bytearray(good)
        for place in rng.integers(0, 1500, rng.integers(1, 4)):
            changed[place] = rng.integers(0, 256)
        files.append(bytes(changed))
    for result in call_all(*(["loadWeights", content] for content in files)):
        if isinstance(result, Refused):
            assert not re.search("undefined|cannot read|not a function|Invalid", str(result)), str(result)
        else:
            result.pop("model")
            assert all(np.isfinite(array).all() for array in result.values())
