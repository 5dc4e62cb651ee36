"""The training loop: against loops written out here, against level 1's numbers, and what it leaves behind."""

import copy
import csv
import json
import math
import os

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch.distributions import Bernoulli, Normal, kl_divergence

import vae_lowlevel
import vae_numpy
from comparison import assert_one_line
from experiment import TrainingConfig, initialised
from trainable import TrainableModel
from trainer import evaluate, train
from training_images import ResidentImages, load_resident
from vae_paper import VAE, ConditionalVAE, VaeConfig, build_model


@pytest.fixture(scope="module")
def digits():
    """A few of the digits, train and test."""
    splits = [(load_resident("digits", split), count) for split, count in (("train", 100), ("test", 40))]
    return [ResidentImages(data.images[:count], data.labels[:count]) for data, count in splits]


def small_model(**options):
    """A VAE that trains in no time."""
    torch.manual_seed(0)
    cls = ConditionalVAE if options.pop("conditional", False) else VAE
    if "architecture" not in options:
        options |= {"architecture": "mlp", "hidden_dims": (16,)}
    return cls(latent_dim=3, **options)


class Recorder(TrainableModel):
    """Stands in for a model: its loss is the sum of an image's pixels, and it remembers what it was asked."""

    noise_shape = (3,)

    def __init__(self, num_classes=0):
        super().__init__()
        self.num_classes = num_classes
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.calls = []

    def terms(self, x, eps, c=None, step=None):
        self.calls.append({"x": x, "eps": eps, "c": c, "training": torch.is_grad_enabled()})
        brightness = x.flatten(1).sum(1)
        return {"loss": brightness + self.weight, "twice": 2 * brightness}


def numbered_images(count):
    """Image i is filled with the grey value i % 251 and has the label i % 10, so that no two batches are alike."""
    position = torch.arange(count)
    images = (position % 251).to(torch.uint8)[:, None, None, None].expand(-1, 1, 28, 28).contiguous()
    return ResidentImages(images, position % 10)


# --- The loop --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{"architecture": "conv"}, {"conditional": True}])
def test_the_loss_falls(digits, options):
    rows = train(small_model(**options), *digits, TrainingConfig(epochs=3, batch_size=20))
    for split in ("train", "test"):
        loss = [row[f"{split}_loss"] for row in rows]
        assert loss[2] < loss[1] < loss[0] < 784  # from about 784 ln 2 = 543


def assert_same_steps(trained, expected):
    """Adam makes a whole step of 1e-3 out of any gradient, so among 800,000 weights a few gradients that are nearly
    zero leave differences of 1e-5; the rest agree to rounding.
    """
    difference = (trained - expected).abs()
    assert difference.mean() < 1e-7
    assert difference.max() < 1e-4


def falling(schedule, steps):
    """torch.optim.lr_scheduler's own, for so many steps."""
    kinds = {
        "constant": lambda optimizer: torch.optim.lr_scheduler.ConstantLR(optimizer, 1.0),
        "cosine": lambda optimizer: torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps),
    }
    return kinds[schedule]


@pytest.mark.parametrize(
    ("options", "batch_size", "schedule"),
    [
        ({}, 8, "constant"),
        ({}, 24, "constant"),
        ({"beta": 4.0}, 10, "constant"),
        ({"conditional": True}, 7, "constant"),
        ({"architecture": "conv"}, 10, "constant"),
        ({}, 8, "cosine"),
        ({}, 10, "cosine"),
    ],
    ids=[
        "even batches",
        "full batch",
        "beta, uneven batches",
        "conditional",
        "convolutions",
        "cosine",
        "uneven cosine",
    ],
)
def test_train_takes_the_same_steps_as_a_loop_written_out(digits, options, batch_size, schedule):
    model = small_model(**options)
    expected = copy.deepcopy(model)
    images, labels = digits[0].images[:24], digits[0].labels[:24]
    config = TrainingConfig(epochs=3, batch_size=batch_size, lr=1e-3, lr_schedule=schedule, seed=5)
    train(model, ResidentImages(images, labels), digits[1], config)

    optimizer = torch.optim.Adam(expected.parameters(), lr=1e-3)
    scheduler = falling(schedule, 3 * math.ceil(24 / batch_size))(optimizer)
    order, noise = torch.Generator().manual_seed(5), torch.Generator().manual_seed(5)
    for _ in range(3):
        permutation = torch.randperm(24, generator=order)
        for start in range(0, 24, batch_size):
            chosen = permutation[start : start + batch_size]
            x, c = images[chosen] / 255, labels[chosen] if options.get("conditional") else None
            mu, logvar = expected.encode(x, c)
            z = mu + torch.exp(logvar / 2) * torch.randn(len(chosen), 3, generator=noise)
            nll = F.binary_cross_entropy_with_logits(expected.decode(z, c), x, reduction="sum")
            kl = kl_divergence(Normal(mu, torch.exp(logvar / 2)), Normal(0.0, 1.0)).sum()
            optimizer.zero_grad()
            ((nll + options.get("beta", 1) * kl) / len(chosen)).backward()
            optimizer.step()
            scheduler.step()
    for name, parameter in expected.state_dict().items():
        assert_same_steps(model.state_dict()[name], parameter)


def test_level_2_takes_the_same_steps_as_a_loop_written_out(digits):
    images = digits[0].images[:24]
    params, expected = (vae_lowlevel.init_params(0, latent_dim=3) for _ in range(2))
    history = vae_lowlevel.train(params, images, digits[1].images, epochs=2, batch_size=10, lr=1e-3, seed=5)

    optimizer = torch.optim.Adam(expected.values(), lr=1e-3)
    generator = torch.Generator().manual_seed(5)
    for _ in range(2):
        sums = torch.zeros(2)
        permutation = torch.randperm(24, generator=generator)
        for chosen in permutation.split(10):
            x = images[chosen] / 255
            mu, logvar = vae_lowlevel.encode(expected, x)
            z = mu + torch.exp(logvar / 2) * torch.randn(len(chosen), 3, generator=generator)
            nll = F.binary_cross_entropy_with_logits(vae_lowlevel.decode(expected, z), x, reduction="sum")
            kl = kl_divergence(Normal(mu, torch.exp(logvar / 2)), Normal(0.0, 1.0)).sum()
            optimizer.zero_grad()
            ((nll + kl) / len(chosen)).backward()
            optimizer.step()
            sums += torch.stack([nll, kl]).detach()
    for name, parameter in expected.items():
        assert_same_steps(params[name], parameter)
    assert np.shape(history) == (2, 4)
    np.testing.assert_allclose(history[-1][:2], sums / 24, rtol=1e-5)

    with torch.no_grad():
        x = digits[1].images / 255
        eps = torch.randn(len(x), 3, generator=torch.Generator().manual_seed(5))
        test = vae_lowlevel.elbo(params, x, eps).mean()
    assert sum(history[-1][2:]) == pytest.approx(-test.item(), rel=1e-5)


def test_level_2_evaluates_every_image_once():
    images = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (23, 1, 28, 28), np.uint8))
    params = vae_lowlevel.init_params(0, latent_dim=1)
    # Uneven batches draw other noise, but for z = mu (a variance of nothing) the batches must not matter.
    with torch.no_grad():
        params["encoder.logvar.weight"].zero_()
        params["encoder.logvar.bias"].fill_(-80)
        mu, logvar = vae_lowlevel.encode(params, images / 255)
        nll = vae_lowlevel.reconstruction_nll(vae_lowlevel.decode(params, mu), images / 255).mean()
        kl = vae_lowlevel.kl_divergence(mu, logvar).mean()
    for batch_size in (5, 23, 1000):
        means = vae_lowlevel.evaluate(params, images, seed=0, batch_size=batch_size)
        np.testing.assert_allclose(means, [nll, kl], rtol=1e-5)


def test_every_image_is_seen_once_an_epoch_in_a_new_order_with_its_own_label():
    model = Recorder(num_classes=10)
    train(model, numbered_images(50), numbered_images(20), TrainingConfig(epochs=2, batch_size=8))
    calls = [call for call in model.calls if call["training"]]
    assert [len(call["x"]) for call in calls] == 2 * [8, 8, 8, 8, 8, 8, 2]
    x = torch.cat([call["x"] for call in calls])
    assert x.dtype == torch.float32
    positions = (255 * x[:, 0, 0, 0]).round().long()
    for epoch in positions.view(2, 50):
        assert sorted(epoch.tolist()) == list(range(50))
    assert positions[:50].tolist() != list(range(50))
    assert positions[:50].tolist() != positions[50:].tolist()
    assert torch.cat([call["c"] for call in calls]).tolist() == (positions % 10).tolist()


def test_an_unconditional_model_gets_no_labels_and_fresh_standard_normal_noise():
    model = Recorder()
    train(model, numbered_images(2000), numbered_images(10), TrainingConfig(epochs=2, batch_size=100))
    assert all(call["c"] is None for call in model.calls)
    eps = torch.cat([call["eps"] for call in model.calls if call["training"]])
    assert eps.shape == (4000, 3)
    assert len(eps.unique(dim=0)) == 4000
    assert eps.mean() == pytest.approx(0, abs=0.05)
    assert eps.std() == pytest.approx(1, abs=0.05)


def test_another_seed_gives_another_order_and_other_noise():
    seen = []
    for seed in (0, 0, 1):
        model = Recorder()
        train(model, numbered_images(40), numbered_images(10), TrainingConfig(epochs=1, batch_size=40, seed=seed))
        seen.append(model.calls[0])
    assert torch.equal(seen[0]["x"], seen[1]["x"])
    assert torch.equal(seen[0]["eps"], seen[1]["eps"])
    assert not torch.equal(seen[0]["x"], seen[2]["x"])
    assert not torch.equal(seen[0]["eps"], seen[2]["eps"])


def test_no_global_random_state_is_touched(digits):
    before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002 - the global state is the point
    config = VaeConfig(epochs=1, seed=3, latent_dim=3, architecture="mlp", hidden_dims=(8,))
    train(initialised(build_model, config, digits[0]), *digits, config)
    assert torch.equal(torch.get_rng_state(), before[0])
    np.testing.assert_array_equal(np.random.get_state()[1], before[1])  # noqa: NPY002


def test_build_model_depends_on_the_seed_alone(digits):
    weights = []
    for outside, seed in ((1, 0), (2, 0), (2, 7)):
        torch.manual_seed(outside)
        weights.append(initialised(build_model, VaeConfig(seed=seed, latent_dim=3), digits[0]).encoder.fc.weight)
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_inputs_are_looked_at_again_after_training(digits):
    model = small_model()
    train(model, *digits, TrainingConfig(epochs=1))
    with pytest.raises(ValueError, match=r"\[0, 1\]"):
        model.encode(torch.full((1, 1, 28, 28), 2.0))


def test_inputs_are_looked_at_again_after_an_interrupt(digits):
    model = small_model()

    def interrupt(*args):
        raise KeyboardInterrupt

    model.terms = interrupt
    with pytest.raises(KeyboardInterrupt):
        train(model, *digits, TrainingConfig(epochs=1))
    assert model.validate


# --- The means -------------------------------------------------------------------------------------------------------


def test_means_are_per_image_whatever_the_batches():
    # 2005 test images make batches of 1000, 1000 and 5: a mean of their means would give the last one too much weight.
    train_images, test_images = numbered_images(57), numbered_images(2005)
    model = Recorder()
    [row] = train(model, train_images, test_images, TrainingConfig(epochs=1, batch_size=16, lr=1e-30))
    for split, images in (("train", train_images), ("test", test_images)):
        brightness = images.images.double().sum().item() / 255 / len(images)
        assert row[f"{split}_loss"] == pytest.approx(brightness, abs=2e-4)
        assert row[f"{split}_twice"] == pytest.approx(2 * brightness, abs=2e-4)
    assert sum(len(call["x"]) for call in model.calls if not call["training"]) == 2005


@pytest.mark.parametrize("batch_size", [1, 7, 999, 1000])
def test_evaluate_does_not_depend_on_its_batches(batch_size):
    images = numbered_images(100)
    sums, whole = (evaluate(Recorder(), images, seed=0, batch_size=n) for n in (batch_size, 100))
    assert sums.names == whole.names == ["loss", "twice"]
    torch.testing.assert_close(sums.totals, whole.totals, rtol=1e-6, atol=0)


def test_evaluate_uses_the_labels_the_same_noise_each_time_and_no_gradients():
    model = Recorder(num_classes=10)
    for seed in (4, 4, 5):
        evaluate(model, numbered_images(30), seed=seed)
    first, again, other = model.calls
    assert not first["training"]
    assert first["c"].tolist() == [i % 10 for i in range(30)]
    assert torch.equal(first["eps"], again["eps"])
    assert not torch.equal(first["eps"], other["eps"])


def test_train_and_test_come_from_the_same_terms(digits):
    model = Recorder()
    [row] = train(model, *digits, TrainingConfig(epochs=1))
    names = ["epoch", "seconds", "train_loss", "train_twice", "test_loss", "test_twice"]
    assert list(row) == names
    assert {call["training"] for call in model.calls} == {True, False}


@pytest.mark.parametrize("beta", [1.0, 4.0])
def test_the_numbers_of_a_row_are_level_1s(digits, beta):
    model = VAE(latent_dim=4, beta=beta)
    row = train(model, *digits, TrainingConfig(epochs=2, batch_size=50, seed=9))[-1]
    params = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
    x = digits[1].images.numpy() / np.float32(255)
    eps = torch.randn(len(x), 4, generator=torch.Generator().manual_seed(9)).numpy()
    mu, logvar, _, logits = vae_numpy.forward(params, x, eps)
    nll, kl = vae_numpy.reconstruction_nll(logits, x).mean(), vae_numpy.kl_divergence(mu, logvar).mean()
    assert row["test_reconstruction_nll"] == pytest.approx(nll, rel=1e-5)
    assert row["test_kl_divergence"] == pytest.approx(kl, rel=1e-5, abs=1e-4)
    assert row["test_loss"] == pytest.approx(nll + beta * kl, rel=1e-5)  # the objective, unlike the report


def test_terms_against_torch_distributions(digits):
    model = small_model(beta=3.0)
    x, _ = digits[1].batch(slice(0, 20))
    eps = torch.randn(20, 3, generator=torch.Generator().manual_seed(0))
    mu, logvar, z, logits = model(x, eps)
    q = Normal(mu, torch.exp(logvar / 2))
    torch.testing.assert_close(z, q.loc + q.scale * eps)
    terms = model.terms(x, eps)
    nll = -Bernoulli(logits=logits, validate_args=False).log_prob(x).sum(dim=(1, 2, 3))
    kl = kl_divergence(q, Normal(0.0, 1.0)).sum(dim=1)
    torch.testing.assert_close(terms["reconstruction_nll"], nll)
    torch.testing.assert_close(terms["kl_divergence"], kl)
    torch.testing.assert_close(terms["loss"], nll + 3 * kl)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epochs": 0}, "epochs must be an integer of at least 1, got 0"),
        ({"batch_size": -1}, "batch_size must be an integer of at least 1.*, got -1"),
        ({"lr": 0.0}, "lr must be a finite number above 0, got 0.0"),
        ({"lr": -1.0}, "lr must"),
        ({"lr": float("nan")}, "lr must"),
        ({"lr": float("inf")}, "lr must"),
        ({"precision": "float16"}, "precision must"),
        ({"save_seconds": -1.0}, "save_seconds must"),
        ({"seed": -1}, "seed must"),
    ],
    ids=str,
)
def test_options_out_of_range_are_refused_before_anything_is_trained_or_written(digits, tmp_path, options, message):
    model = Recorder()
    with pytest.raises(ValueError, match=f"^{message}") as error:
        train(model, *digits, TrainingConfig(**options), tmp_path)
    assert_one_line(error)
    assert model.calls == []
    assert os.listdir(tmp_path) == []


# --- What a run leaves behind ----------------------------------------------------------------------------------------


def test_a_run_folder_holds_the_model_the_settings_and_the_numbers(digits, tmp_path):
    config = VaeConfig(epochs=3, lr=2e-3, seed=4, out=tmp_path, architecture="mlp", hidden_dims=(16,))
    model = small_model(beta=2.0)
    rows = train(model, *digits, config, tmp_path, script="vae_paper.py")
    files = {"resume.pt", "model.safetensors", "config.json", "metrics.csv", "summary.json"}
    assert set(os.listdir(tmp_path)) == files

    loaded = VAE.load(tmp_path)
    assert loaded.config() == model.config()
    for name, tensor in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor)

    settings = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))
    assert settings["script"] == "vae_paper.py"
    assert settings["training"] | {"epochs": 3, "lr": 2e-3, "seed": 4, "batch_size": 128} == settings["training"]

    with open(tmp_path / "metrics.csv", newline="") as file:
        table = list(csv.DictReader(file))
    terms = ("loss", "reconstruction_nll", "kl_divergence")
    columns = ["epoch", "seconds", *(f"train_{term}" for term in terms), *(f"test_{term}" for term in terms)]
    assert [list(row) for row in table] == 3 * [columns]
    assert [{name: float(value) for name, value in row.items()} for row in table] == rows
    assert [row["epoch"] for row in table] == ["1", "2", "3"]
    assert all(float(row["seconds"]) > 0 for row in table)

    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["last_epoch"] == rows[-1]
    assert summary["seconds"] == pytest.approx(sum(row["seconds"] for row in rows), abs=0.06)
    assert summary["device"] == "cpu"
    assert "none" in summary["binarisation"]
    assert summary["versions"]["torch"] == torch.__version__
