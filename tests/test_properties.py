"""What holds for every input: batches, dtypes, extreme values, and one clear line for every mistake."""

import itertools
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

import vae_lowlevel
import vae_numpy
from comparison import LEVELS, assert_agree, assert_one_line, functions_of, random_inputs, random_params
from vae_paper import VAE, ConditionalVAE

LATENT_DIM = 3
PARAMS = {dtype: random_params(0, LATENT_DIM, dtype, gain=1.5) for dtype in (np.float32, np.float64)}
VAES = {(level, dtype): functions_of(level, params) for level in LEVELS for dtype, params in PARAMS.items()}
modest = settings(deadline=None, max_examples=10, derandomize=True)  # the same examples in every run


# --- Batches ---------------------------------------------------------------------------------------------------------


def everything(vae, x, eps):
    mu, logvar, z, logits = vae.forward(x, eps)
    terms = vae.reconstruction_nll(logits, x), vae.kl_divergence(mu, logvar)
    return (*vae.encode(x), mu, logvar, z, logits, *terms, vae.elbo(x, eps), vae.sample(eps))


@pytest.mark.parametrize("level", LEVELS)
@modest
@given(sizes=st.lists(st.integers(1, 40), min_size=2, max_size=4))
@example(sizes=[1] * 7)  # one by one
@example(sizes=[64, 1])  # level 1 works in chunks of 64
@example(sizes=[63, 2, 64])
def test_a_batch_equals_its_parts(level, sizes):
    """No image sees its neighbours, wherever the batch is cut."""
    vae = VAES[level, np.float64]
    x, eps = random_inputs(len(sizes), sum(sizes), LATENT_DIM)
    ends = list(itertools.accumulate(sizes))
    parts = [everything(vae, x[end - size : end], eps[end - size : end]) for size, end in zip(sizes, ends, strict=True)]
    for i, whole in enumerate(everything(vae, x, eps)):
        assert_agree(np.concatenate([part[i] for part in parts]), whole, 1e-12)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("level", LEVELS)
def test_results_have_the_dtype_of_the_inputs(level, dtype):
    x, eps = random_inputs(0, 2, LATENT_DIM, dtype)
    for result in everything(VAES[level, dtype], x, eps):
        assert result.dtype == dtype
    assert VAES[level, dtype].elbo(x, eps, 4.0).dtype == dtype


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_layers_of_level_1_keep_the_dtype(dtype):
    params = PARAMS[dtype]
    weight, bias = params["encoder.conv2.weight"], params["encoder.conv2.bias"]
    x = np.ones((2, 32, 6, 6), dtype)
    assert vae_numpy.conv2d(x, weight, bias).dtype == dtype
    assert vae_numpy.conv_transpose2d(x, weight.transpose(1, 0, 2, 3), bias).dtype == dtype
    assert vae_numpy.linear(np.ones((2, LATENT_DIM), dtype), params["decoder.fc1.weight"], bias[:1]).dtype == dtype
    for function in (vae_numpy.relu, vae_numpy.softplus, vae_numpy.sigmoid):
        assert function(x).dtype == dtype


@pytest.mark.parametrize("level", LEVELS)
def test_inputs_are_left_as_they_were(level):
    x, eps = random_inputs(0, 2, LATENT_DIM)
    x_before, eps_before = x.copy(), eps.copy()
    everything(VAES[level, np.float64], x, eps)
    np.testing.assert_array_equal(x, x_before)
    np.testing.assert_array_equal(eps, eps_before)


# --- Values ----------------------------------------------------------------------------------------------------------

latents = arrays(np.float32, (2, LATENT_DIM), elements=st.floats(-10, 10, width=32))


@pytest.mark.parametrize("level", LEVELS)
@settings(modest, max_examples=100)
@given(mu=latents, logvar=latents)
@example(mu=np.zeros((2, LATENT_DIM), np.float32), logvar=np.full((2, LATENT_DIM), 1e-4, np.float32))
def test_kl_is_positive_away_from_the_prior(level, mu, logvar):
    kl = VAES[level, np.float32].kl_divergence(mu, logvar)
    assert (kl >= -1e-6).all()  # the rounding of float32
    # Each latent gives at least mu^2 / 2, and 1/2 (sigma^2 - 1 - log sigma^2) >= 0.0023 if |log sigma^2| >= 0.1.
    assert (kl >= 0.499 * (mu**2).sum(axis=1) - 1e-6).all()
    assert (kl[(np.abs(logvar) >= 0.1).any(axis=1)] > 0.002).all()


EXTREMES = [
    sign * size for size in (1e1, 88.0, 89.0, 177.0, 178.0, 700.0, 710.0, 1e3, 1419.0, 1420.0, 1e4) for sign in (1, -1)
]


def value_without_nan(function, *arguments):
    """The function's value, or None where it refuses with a ValueError; anything else is a failure."""
    try:
        with np.errstate(all="ignore"):  # a warning beside a NaN would not make the NaN right
            value = function(*arguments)
    except ValueError:
        return None
    assert not np.isnan(value).any()
    return value


@pytest.mark.parametrize("logvar", EXTREMES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("level", LEVELS)
def test_extreme_logvar_is_never_a_silent_nan(level, dtype, logvar):
    """Around each place where exp(logvar) or exp(logvar / 2) leaves the range of float32 or float64, and far beyond."""
    vae = VAES[level, dtype]
    x, eps = random_inputs(0, 2, LATENT_DIM, dtype)
    mu = np.zeros((2, LATENT_DIM), dtype)
    must_work = logvar < 80  # exp(logvar) has a place in float32: no reason to refuse
    kl = value_without_nan(vae.kl_divergence, mu, np.full_like(mu, logvar))
    assert (kl is None and not must_work) or (kl > 1).all()
    for noise in (eps, np.zeros_like(eps)):  # infinity times zero is a NaN too
        z = value_without_nan(vae.reparameterize, mu, np.full_like(mu, logvar), noise)
        assert not must_work or np.isfinite(z).all()
    params = PARAMS[dtype] | {"encoder.logvar.bias": np.full(LATENT_DIM, logvar, dtype)}
    for beta in (0.0, 1.0, 4.0):
        elbo = value_without_nan(functions_of(level, params).elbo, x, eps, beta)
        assert not must_work or np.isfinite(elbo).all()


def wide(limit):
    return arrays(np.float64, (2, LATENT_DIM), elements=st.floats(-limit, limit))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("level", LEVELS)
@settings(modest, max_examples=50)
@given(mu=wide(1e4), logvar=wide(1e4), eps=wide(5))
def test_no_posterior_is_a_silent_nan(level, dtype, mu, logvar, eps):
    """The same for latents that differ from each other."""
    vae = VAES[level, dtype]
    mu, logvar, eps = mu.astype(dtype), logvar.astype(dtype), eps.astype(dtype)
    value_without_nan(vae.kl_divergence, mu, logvar)
    value_without_nan(vae.reparameterize, mu, logvar, eps)


# --- Mistakes: each is a ValueError of one line, at every level ------------------------------------------------------

X, EPS = random_inputs(0, 2, LATENT_DIM, np.float32)


def with_value(array, value):
    """A copy with one wrong entry."""
    array = array.copy()
    array.flat[array.size // 2] = value
    return array


BAD_IMAGES = {
    "one image without its axes": X[0, 0],
    "no batch axis": X[0],
    "no channel axis": X[:, 0],
    "flat": X.reshape(2, 784),
    "channels last": X.transpose(0, 2, 3, 1),
    "three channels": X.repeat(3, axis=1),
    "27 columns": X[:, :, :, 1:],
    "56 rows": X.repeat(2, axis=2),
    "five axes": X[None],
    "empty": X[:0],
    "NaN": with_value(X, np.nan),
    "infinity": with_value(X, np.inf),
    "minus infinity": with_value(X, -np.inf),
    "slightly negative": with_value(X, -1e-3),
    "slightly above 1": with_value(X, 1.001),
    "0 to 255": X * 255,
    "-1 to 1": X * 2 - 1,
    "uint8": (X * 255).astype(np.uint8),
    "integers 0 and 1": (X > 0.5).astype(np.int64),
    "booleans": X > 0.5,
}
BAD_LATENTS = {
    "one row to broadcast": EPS[:1],
    "a vector to broadcast": EPS[0],
    "a column to broadcast": EPS[:, :1],
    "one number to broadcast": EPS[:1, :1],
    "a scalar to broadcast": np.array(0.5, np.float32),
    "one row too many": EPS.repeat(2, axis=0)[:3],
    "one latent too many": EPS.repeat(2, axis=1)[:, :4],
    "one latent too few": EPS[:, :2],
    "transposed": EPS.T,
    "three axes": EPS[None],
    "empty": EPS[:0],
    "NaN": with_value(EPS, np.nan),
    "infinity": with_value(EPS, np.inf),
}
# Alone, z of any batch size is right, and so is a mu with a logvar of its own shape.
BAD_ALONE = ("a vector to broadcast", "a scalar to broadcast", "three axes", "empty", "NaN", "infinity")
BAD_FOR_DECODE = (*BAD_ALONE, "a column to broadcast", "one latent too many", "one latent too few", "transposed")
BAD_LOGITS = {
    "one image to broadcast": X[:1],
    "one row to broadcast": X[:, :, :1],
    "flat": X.reshape(2, 784),
    "no channel axis": X[:, 0],
    "NaN": with_value(X, np.nan),
    "infinity": with_value(X, np.inf),
}

MISTAKES = {}  # {what is wrong: (function, arguments)}
for name, x in BAD_IMAGES.items():
    eps = EPS[: len(x)] if x.ndim == 4 else EPS
    MISTAKES[f"encode, x {name}"] = ("encode", x)
    MISTAKES[f"forward, x {name}"] = ("forward", x, eps)
    MISTAKES[f"elbo, x {name}"] = ("elbo", x, eps)
    MISTAKES[f"reconstruction_nll, x {name}"] = ("reconstruction_nll", np.zeros(x.shape, np.float32), x)
for name, latent in BAD_LATENTS.items():
    MISTAKES[f"forward, eps {name}"] = ("forward", X, latent)
    MISTAKES[f"elbo, eps {name}"] = ("elbo", X, latent)
    MISTAKES[f"reparameterize, mu {name}"] = ("reparameterize", latent, EPS, EPS)
    MISTAKES[f"reparameterize, logvar {name}"] = ("reparameterize", EPS, latent, EPS)
    MISTAKES[f"reparameterize, eps {name}"] = ("reparameterize", EPS, EPS, latent)
    MISTAKES[f"kl_divergence, mu {name}"] = ("kl_divergence", latent, EPS)
    MISTAKES[f"kl_divergence, logvar {name}"] = ("kl_divergence", EPS, latent)
    if name in BAD_ALONE:
        MISTAKES[f"kl_divergence, mu and logvar {name}"] = ("kl_divergence", latent, latent)
        MISTAKES[f"reparameterize, all {name}"] = ("reparameterize", latent, latent, latent)
    if name in BAD_FOR_DECODE:
        MISTAKES[f"decode, z {name}"] = ("decode", latent)
        MISTAKES[f"sample, z {name}"] = ("sample", latent)
for name, logits in BAD_LOGITS.items():
    MISTAKES[f"reconstruction_nll, logits {name}"] = ("reconstruction_nll", logits, X)


@pytest.mark.parametrize("mistake", MISTAKES)
@pytest.mark.parametrize("level", LEVELS)
def test_a_mistake_is_told_in_one_line(level, mistake):
    name, *arguments = MISTAKES[mistake]
    with pytest.raises(ValueError) as error:  # noqa: PT011 - the message differs, its form is looked at below
        getattr(VAES[level, np.float32], name)(*arguments)
    assert_one_line(error)


@pytest.mark.parametrize("latent_dim", [0, -1, 2.5, float("nan"), float("inf")])
@pytest.mark.parametrize(
    "make",
    [partial(vae_numpy.init_params, seed=0), partial(vae_lowlevel.init_params, seed=0), VAE, ConditionalVAE],
    ids=["numpy", "lowlevel", "VAE", "ConditionalVAE"],
)
def test_latent_dim_must_be_a_positive_integer(make, latent_dim):
    with pytest.raises(ValueError, match="latent_dim") as error:
        make(latent_dim=latent_dim)
    assert_one_line(error, latent_dim)


@pytest.mark.parametrize(
    "options",
    [
        {"beta": -1.0},
        {"beta": float("nan")},
        {"beta": float("inf")},
        {"architecture": "cnn"},
        {"architecture": None},
        {"architecture": "mlp", "hidden_dims": (400, 0)},
        {"architecture": "mlp", "hidden_dims": (2.5,)},
        {"image_shape": (28, 28)},
        {"image_shape": (1, 28, 28, 1)},
        {"image_shape": (0, 28, 28)},
        {"image_shape": (1, -28, 28)},
        {"image_shape": (1, 30, 28)},  # not a multiple of 4
        {"image_shape": (1, 28, 27)},
        {"image_shape": (1, 28.5, 28)},
    ],
    ids=str,
)
@pytest.mark.parametrize("model", [VAE, ConditionalVAE])
def test_a_bad_option_is_refused(model, options):
    with pytest.raises(ValueError) as error:  # noqa: PT011
        model(**options)
    assert_one_line(error)


@pytest.mark.parametrize("num_classes", [0, -1, 2.5, float("nan")])
def test_num_classes_must_be_a_positive_integer(num_classes):
    with pytest.raises(ValueError, match="num_classes") as error:
        ConditionalVAE(num_classes=num_classes)
    assert_one_line(error, num_classes)


# --- The conditional model -------------------------------------------------------------------------------------------

NUM_CLASSES = 4
TX, TEPS = torch.tensor(X), torch.tensor(EPS)


def conditional_model(architecture="conv"):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        hidden = {"hidden_dims": (32, 16)} if architecture == "mlp" else {}
        return ConditionalVAE(num_classes=NUM_CLASSES, latent_dim=LATENT_DIM, architecture=architecture, **hidden)


@pytest.mark.parametrize("architecture", ["conv", "mlp"])
def test_both_networks_see_the_label(architecture):
    model = conditional_model(architecture)
    with torch.no_grad():
        by_class = [torch.full((2,), c) for c in range(NUM_CLASSES)]
        mus = [model.encode(TX, c)[0] for c in by_class]
        logits = [model.decode(TEPS, c) for c in by_class]
        mixed = model.decode(TEPS, torch.tensor([3, 1]))
    for values in (mus, logits):
        for a, b in itertools.combinations(values, 2):
            assert (a - b).abs().amax(dim=tuple(range(1, a.ndim))).min() > 1e-4  # each image, not just one of them
    torch.testing.assert_close(mixed, torch.stack([logits[3][0], logits[1][1]]))  # each image gets its own label


def test_each_class_is_a_plain_vae_with_other_biases():
    """The one-hot class stands behind the features and behind z, so its weight column is a bias of its class."""
    model = conditional_model().double()
    x, eps = random_inputs(1, 6, LATENT_DIM)
    labels = np.array([3, 0, 1, 2, 0, 1])  # mixed: each image keeps its own label in both networks
    tensors = torch.tensor(x), torch.tensor(eps), torch.tensor(labels)
    with torch.no_grad():
        got = [*model(*tensors), model.elbo(*tensors[:2], c=tensors[2]), -model.terms(*tensors)["loss"]]
    for label in range(NUM_CLASSES):
        weights = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
        for layer, num_inputs in {"encoder.fc": 3136, "decoder.fc1": LATENT_DIM}.items():
            weight, bias = weights[f"{layer}.weight"], weights[f"{layer}.bias"]
            assert weight.shape == (256, num_inputs + NUM_CLASSES)
            weights[f"{layer}.weight"], weights[f"{layer}.bias"] = (
                weight[:, :num_inputs],
                bias + weight[:, num_inputs + label],
            )
        mine = labels == label
        elbo = vae_numpy.elbo(weights, x[mine], eps[mine])
        plain = (*vae_numpy.forward(weights, x[mine], eps[mine]), elbo, elbo)
        for tensor, array in zip(got, plain, strict=True):
            assert_agree(tensor[mine], array, 1e-12)


CALLS = {
    "encode": lambda model, c: model.encode(TX, c),
    "decode": lambda model, c: model.decode(TEPS, c),
    "sample": lambda model, c: model.sample(TEPS, c),
    "forward": lambda model, c: model(TX, TEPS, c),
    "elbo": lambda model, c: model.elbo(TX, TEPS, c=c),
    "terms": lambda model, c: model.terms(TX, TEPS, c),
}
BAD_LABELS = {
    "missing": None,
    "too large": torch.tensor([0, NUM_CLASSES]),
    "negative": torch.tensor([-1, 0]),
    "floats": torch.tensor([0.0, 1.0]),
    "booleans": torch.tensor([False, True]),
    "one too few": torch.tensor([0]),
    "one too many": torch.tensor([0, 1, 2]),
    "none at all": torch.tensor([], dtype=torch.int64),
    "a scalar": torch.tensor(1),
    "a column": torch.tensor([[0], [1]]),
    "one-hot": torch.eye(NUM_CLASSES, dtype=torch.int64)[:2],
}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("mistake", BAD_LABELS)
def test_bad_labels_are_refused(mistake, call):
    with pytest.raises(ValueError, match=r"c must|labels c") as error:
        CALLS[call](conditional_model(), BAD_LABELS[mistake])
    assert_one_line(error)


@pytest.mark.parametrize("dtype", [torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8])
def test_labels_may_be_integers_of_any_size(dtype):
    model = conditional_model()
    labels = torch.tensor([2, 1])
    with torch.no_grad():
        torch.testing.assert_close(model.decode(TEPS, labels.to(dtype)), model.decode(TEPS, labels))


@pytest.mark.parametrize("call", CALLS)
def test_an_unconditional_model_refuses_labels(call):
    with pytest.raises(ValueError, match="labels") as error:
        CALLS[call](VAE(latent_dim=LATENT_DIM), torch.tensor([0, 1]))
    assert_one_line(error)
    CALLS[call](VAE(latent_dim=LATENT_DIM), None)
