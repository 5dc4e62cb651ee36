"""The same on every device that is there: numbers, training, resumed runs, bfloat16, and a process for each card.

Where there is no card these tests are tried on the CPU alone. On a machine with one:

    .venv/bin/python -m pytest tests/test_devices.py -n 0 -v
"""

import csv
import subprocess

import numpy as np
import pytest
import torch

import vae_lowlevel
from comparison import functions_of, paper_model, random_inputs, random_params, scaled_error
from experiment import TrainingConfig
from resume import read_state
from small_models import PowerCutError, cut_after, without_clock
from test_torchrun import LIMIT, torchrun_command
from train_in_processes import make_images, new_model
from trainer import train
from training_images import ResidentImages

DEVICES = ["cpu", *["cuda"] * torch.cuda.is_available(), *["mps"] * torch.backends.mps.is_available()]
LATENT_DIM = 7

each_device = pytest.mark.parametrize("device", DEVICES)


@pytest.fixture(autouse=True)
def float32_is_float32():
    """Not TF32, which keeps ten bits of a factor and is PyTorch's default for a card's convolutions."""
    backends = torch.backends.cuda.matmul, torch.backends.cudnn
    before = [backend.allow_tf32 for backend in backends]
    for backend in backends:
        backend.allow_tf32 = False
    yield
    for backend, allowed in zip(backends, before, strict=True):
        backend.allow_tf32 = allowed


# --- The levels ------------------------------------------------------------------------------------------------------


def terms_on(device, level, params, x, eps):
    """What level 2 or 3 computes of a batch on a device, and the gradients of its loss: {name: array}."""
    tensors = {name: torch.tensor(array, device=device, requires_grad=True) for name, array in params.items()}
    x, eps = (torch.tensor(array, device=device) for array in (x, eps))
    if level == "lowlevel":
        mu, logvar, _, logits = vae_lowlevel.forward(tensors, x, eps)
        nll, kl = vae_lowlevel.reconstruction_nll(logits, x), vae_lowlevel.kl_divergence(mu, logvar)
    else:
        model = paper_model(tensors)
        tensors = dict(model.named_parameters())
        mu, logvar, _, logits = model.forward(x, eps)
        nll, kl = model.reconstruction_nll(logits, x), model.kl_divergence(mu, logvar)
    found = {"mu": mu, "logvar": logvar, "logits": logits, "reconstruction_nll": nll, "kl_divergence": kl}
    gradients = torch.autograd.grad((nll + kl).mean(), list(tensors.values()))
    found |= {f"gradient of {name}": gradient for name, gradient in zip(tensors, gradients, strict=True)}
    assert {tensor.device.type for tensor in found.values()} == {device}
    return {name: tensor.detach().cpu().numpy() for name, tensor in found.items()}


@each_device
@pytest.mark.parametrize("level", ["lowlevel", "paper"])
def test_a_level_agrees_with_level_1_in_float32(device, level):
    params = random_params(0, LATENT_DIM, np.float32, gain=1.5)
    x, eps = random_inputs(0, 20, LATENT_DIM, np.float32)
    numpy_level = functions_of("numpy", params)
    mu, logvar, _, logits = numpy_level.forward(x, eps)
    want = {"mu": mu, "logvar": logvar, "logits": logits, "kl_divergence": numpy_level.kl_divergence(mu, logvar)}
    want["reconstruction_nll"] = numpy_level.reconstruction_nll(logits, x)
    got = terms_on(device, level, params, x, eps)
    for name, array in want.items():
        assert got[name].dtype == np.float32
        assert scaled_error(got[name], array) <= 1e-5, name


@each_device
@pytest.mark.parametrize("level", ["lowlevel", "paper"])
def test_gradients_agree_with_those_in_float64_on_the_cpu(device, level):
    params = random_params(1, LATENT_DIM, np.float32, gain=1.5)
    x, eps = random_inputs(1, 20, LATENT_DIM, np.float32)
    double = {name: array.astype(np.float64) for name, array in params.items()}
    want = terms_on("cpu", level, double, x.astype(np.float64), eps.astype(np.float64))
    for name, array in terms_on(device, level, params, x, eps).items():
        if name.startswith("gradient"):
            assert scaled_error(array.astype(np.float64), want[name]) <= 1e-4, name


# --- Training --------------------------------------------------------------------------------------------------------


def images_on(device):
    for images in (make_images(83, 1), make_images(23, 2)):
        yield ResidentImages(images.images.to(device), images.labels.to(device), images.binarisation)


def trained(device, name, folder=None, state=None, **options):
    """A small model after three epochs of five steps, and its rows."""
    config = TrainingConfig(**{"epochs": 3, "batch_size": 20, "lr": 3e-3, "save_seconds": 0.0} | options)
    model = new_model(name).to(device)
    rows = train(model, *images_on(device), config, folder, state, "s")
    return {key: tensor.cpu() for key, tensor in model.state_dict().items()}, without_clock(rows)


def same_bits(a, b):
    return all(torch.equal(tensor, b[0][name]) for name, tensor in a[0].items()) and a[1] == b[1]


@each_device
@pytest.mark.parametrize("name", ["VAE", "VAE, convolutions", "IWAE", "BetaTCVAE, mss", "FactorVAE", "VQVAE, ema"])
def test_a_run_that_was_cut_off_goes_on_bit_for_bit(device, name, tmp_path, monkeypatch):
    whole = trained(device, name)
    with monkeypatch.context() as patch:
        cut_after(patch, 9)  # within the second epoch
        with pytest.raises(PowerCutError):
            trained(device, name, tmp_path)
    resumed = trained(device, name, tmp_path, read_state(tmp_path, "s"))
    if not same_bits(whole, trained(device, name)):
        pytest.xfail(f"{device} does not repeat itself: two whole runs differ, so a resumed one may")
    assert same_bits(whole, resumed)


@each_device
@pytest.mark.parametrize("name", ["VAE", "VAE, convolutions", "IWAE", "VQVAE, ema"])
def test_bfloat16_trains(device, name):
    state, rows = trained(device, name, precision="bf16", epochs=10)
    _, in_single = trained(device, name, precision="float32", epochs=10)
    assert {tensor.dtype for tensor in state.values() if tensor.is_floating_point()} == {torch.float32}
    losses = [[row["train_loss"] for row in each] for each in (rows, in_single)]
    assert np.isfinite(losses).all()
    assert losses[0][-1] < losses[0][0] - 1
    assert losses[0][-1] == pytest.approx(losses[1][-1], rel=0.05)


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two cards")
def test_two_cards_train_as_one(tmp_path):
    options = ["--data", "digits", "--epochs", 2, "--architecture", "mlp", "--hidden-dims", 32, "--device", "cuda"]
    alone = torchrun_command("vae_paper", *options, "--out", tmp_path / "one")
    alone[alone.index("--nproc-per-node") + 1] = "1"
    for command in (alone, torchrun_command("vae_paper", *options, "--out", tmp_path / "two")):
        subprocess.run(command, check=True, timeout=LIMIT, capture_output=True)
    one, two = (list(csv.DictReader((tmp_path / name / "metrics.csv").open())) for name in ("one", "two"))
    for name in ("train_loss", "test_loss"):
        assert float(two[-1][name]) == pytest.approx(float(one[-1][name]), rel=1e-3)
