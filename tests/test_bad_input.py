"""A user's mistakes: each ends in exit status 2 and a short message on stderr, and leaves no trace on the disk."""

import json
import os
import re
import struct
import subprocess
import sys
import urllib.error
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

import vae_numpy
import vae_paper
from comparison import forget_description

FOLDERS = {"vae_numpy": "numpy", "vae_lowlevel": "pytorch_lowlevel", "vae_paper": "paper"}
TRAINING = ("vae_lowlevel", "vae_paper")


def per_script(scripts, cases):
    """Every case for every script. cases: {id: parameters}."""
    return [pytest.param(script, *case, id=f"{script}-{name}") for script in scripts for name, case in cases.items()]


# --- Flags -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("script", "args", "named"),
    [
        *per_script(
            FOLDERS,
            {
                "unknown data": (["--data", "cifar"], "cifar"),
                "unknown flag": (["--colour", "red"], "--colour"),
                "extra word": (["mnist"], "mnist"),
                "seed no number": (["--seed", "x"], "--seed"),
                "flag without value": (["--seed"], "--seed"),
            },
        ),
        *per_script(
            TRAINING,
            {
                "epochs 0": (["--epochs", 0], "--epochs"),
                "epochs -1": (["--epochs", -1], "--epochs"),
                "epochs 1.5": (["--epochs", 1.5], "--epochs"),
                "epochs x": (["--epochs", "x"], "--epochs"),
                "batch size 0": (["--batch-size", 0], "--batch-size"),
                "batch size -1": (["--batch-size", -128], "--batch-size"),
                "batch size x": (["--batch-size", "many"], "--batch-size"),
                "latent dim x": (["--latent-dim", "x"], "--latent-dim"),
                "lr x": (["--lr", "x"], "--lr"),
            },
        ),
        ("vae_lowlevel", ["--latent-dim", 0], "--latent-dim"),
        ("vae_lowlevel", ["--latent-dim", -3], "--latent-dim"),
        ("vae_paper", ["--beta", "x"], "--beta"),
        ("vae_paper", ["--architecture", "rnn"], "rnn"),
        ("vae_paper", ["--architecture", "mlp", "--hidden-dims", "x"], "--hidden-dims"),
    ],
)
def test_a_flag_that_cannot_be_read_is_named(refused, script, args, named):
    assert named in refused(script, *args, own=False)


@pytest.mark.parametrize("lr", [0, -0.001, "nan", "inf"])
@pytest.mark.parametrize("script", TRAINING)
def test_a_learning_rate_is_a_positive_number(refused, script, lr):
    assert "--lr" in refused(script, "--lr", lr, own=False)


@pytest.mark.parametrize(
    ("args", "named"),
    [
        (["--latent-dim", 0], "--latent-dim must be an integer of at least 1, got 0"),
        (["--latent-dim", -3], "--latent-dim must be an integer of at least 1, got -3"),
        (["--beta", -1], "--beta must be a finite number of at least 0, got -1"),
        (["--beta", "nan"], "--beta must be a finite number of at least 0, got nan"),
        (["--beta", "inf"], "--beta must be a finite number of at least 0, got inf"),
        (["--architecture", "mlp", "--hidden-dims", 0], "--hidden-dims[0] must be an integer of at least 1, got 0"),
        (
            ["--architecture", "mlp", "--hidden-dims", 32, -1],
            "--hidden-dims[1] must be an integer of at least 1, got -1",
        ),
        (["--device", "nonsense"], "unknown --device nonsense: expected auto, cpu, cuda, cuda:N or mps"),
        (["--device", "cuda"], "--device cuda is not on this machine"),
        (["--device", "cuda:1"], "--device cuda:1 is not on this machine"),
    ],
    ids=lambda value: " ".join(map(str, value)) if isinstance(value, list) else "",
)
def test_level_3_refuses_a_model_or_device_that_cannot_be(refused, monkeypatch, args, named):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert named in refused("vae_paper", *args)


@pytest.mark.parametrize("with_weights", [False, True])
@pytest.mark.parametrize("script", FOLDERS)
def test_a_negative_seed_is_refused_by_name(refused, weights, script, with_weights):
    assert "seed" in refused(script, "--seed", -1, *(["--weights", weights] if with_weights else []), own=False)


@pytest.mark.parametrize("script", TRAINING)
def test_a_seed_that_pytorch_cannot_hold_is_refused_by_name(refused, script):
    assert "seed" in refused(script, "--seed", 2**64, own=False)


# --- Weights ---------------------------------------------------------------------------------------------------------

PARAMS = vae_numpy.init_params(0, 2)


@pytest.fixture
def weights(tmp_path):
    path = tmp_path / "weights" / "model.safetensors"
    path.parent.mkdir()
    vae_numpy.save_weights(path, PARAMS)
    return path


def truncate(path, size):
    vae_numpy.save_weights(path, PARAMS)
    path.write_bytes(path.read_bytes()[:size])


BAD_WEIGHTS = {  # name: (how the file is written, what the message says)
    "absent": (lambda path: None, "no weights at"),
    "a folder": (Path.mkdir, "no weights at"),
    "empty": (Path.touch, "not a whole .safetensors file"),
    "cut in the header": (lambda path: truncate(path, 100), "not a whole .safetensors file"),
    "cut in the numbers": (lambda path: truncate(path, -10), "not a whole .safetensors file"),
    "a pickle": (lambda path: torch.save({"a": torch.zeros(1)}, path), "not a whole .safetensors file"),
    "a text": (lambda path: path.write_text("not weights at all " * 50), "not a whole .safetensors file"),
    "of another model": (lambda path: save_file({"a": np.zeros(3, np.float32)}, path), "a is missing or unknown"),
    "without a tensor": (lambda path: save_file({}, path), "deconv1.bias is missing|is empty"),
    "one missing": (lambda path: save_file(dict(list(PARAMS.items())[1:]), path), "encoder.conv1.weight is missing"),
    "one too many": (
        lambda path: save_file(PARAMS | {"extra": np.zeros(1, np.float32)}, path),
        "extra is missing or unknown",
    ),
    "another shape": (
        lambda path: save_file(PARAMS | {"encoder.fc.bias": np.zeros(7, np.float32)}, path),
        r"encoder.fc.bias has shape \(7,\), expected \(256,\)",
    ),
    "holding NaN": (
        lambda path: save_file(PARAMS | {"decoder.fc1.bias": np.full(256, np.nan, np.float32)}, path),
        "decoder.fc1.bias",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD_WEIGHTS)
@pytest.mark.parametrize("script", FOLDERS)
def test_weights_that_are_not_there_damaged_or_foreign(refused, tmp_path, script, name):
    write, expected = BAD_WEIGHTS[name]
    path = tmp_path / "bad.safetensors"
    write(path)
    message = refused(script, "--weights", path, "--out", "new")
    assert str(path) in message
    assert re.search(expected, message)


@pytest.mark.parametrize("script", ["vae_numpy", "vae_lowlevel"])
@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"architecture": "mlp", "hidden_dims": (8,)}, "does not hold the convolutional VAE"),
        ({"image_shape": (1, 32, 32)}, "encoder.fc.weight has shape"),
        ({"image_shape": (3, 28, 28)}, "encoder.conv1.weight has shape"),
        ({"num_classes": 10}, "ConditionalVAE"),
    ],
)
def test_levels_1_and_2_refuse_level_3s_other_models(refused, tmp_path, script, options, expected):
    cls = vae_paper.ConditionalVAE if "num_classes" in options else vae_paper.VAE
    cls(**options).save(tmp_path / "run")
    assert expected in refused(script, "--weights", tmp_path / "run" / "model.safetensors")


@pytest.mark.parametrize(
    "flags", [["--conditional"], ["--architecture", "mlp"], ["--beta", 4], ["--beta", -4], ["--hidden-dims", 0]]
)
def test_weights_that_are_told_to_be_another_model(refused, weights, flags):
    assert f"leave out {flags[0]}" in refused("vae_paper", "--weights", weights, *flags)


@pytest.mark.parametrize("script", TRAINING)
def test_a_latent_dim_that_is_not_the_weights_own(refused, weights, script):
    message = refused(script, "--weights", weights, "--latent-dim", 3)
    assert "--latent-dim" in message
    assert "2" in message.partition("--latent-dim")[2]


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        "null",
        '{"model_type": "bert"}',
        '{"model": null}',
        '{"model": {}}',
        '{"model": {"class": "GAN"}}',
        '{"model": {"class": ["VAE"]}}',
        '{"model": {"class": "VAE", "latent_dim": "two"}}',
        '{"model": {"class": "VAE", "latent_dim": 0}}',
        '{"model": {"class": "VAE", "depth": 3}}',
        '{"model": {"class": "VAE", "architecture": "rnn"}}',
    ],
)
def test_level_3_refuses_a_config_that_describes_no_model(refused, weights, content):
    forget_description(weights)
    config = weights.with_name("config.json")
    config.write_text(content)
    message = refused("vae_paper", "--weights", weights, noted=True)
    assert re.search(f"{config} (does not describe a (VAE|model)|is not the config.json of a run)", message)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"latent_dim": 5}, "encoder.mu.weight has shape (2, 256), expected (5, 256)"),
        ({"class": "ConditionalVAE", "num_classes": 4}, "encoder.fc.weight has shape"),
        ({"architecture": "mlp"}, "decoder.deconv1.bias is missing or unknown"),
    ],
)
def test_level_3_refuses_weights_of_another_model_than_their_config(refused, weights, change, expected):
    forget_description(weights)
    config = vae_paper.VAE(latent_dim=2).config() | change
    weights.with_name("config.json").write_text(json.dumps({"model": config}))
    message = refused("vae_paper", "--weights", weights, noted=True)
    assert str(weights) in message
    assert expected in message


# --- Folders ---------------------------------------------------------------------------------------------------------


def fill(kind, folder):
    """Make `folder` something that must not be written into."""
    if kind == "a run":
        vae_paper.VAE(latent_dim=1).save(folder)
    elif kind == "any file":
        folder.mkdir()
        (folder / "notes.txt").write_text("do not lose me")
    elif kind == "a hidden file":
        folder.mkdir()
        (folder / ".keep").touch()
    elif kind == "a folder in it":
        (folder / "inner").mkdir(parents=True)


@pytest.mark.parametrize("kind", ["a run", "any file", "a hidden file", "a folder in it"])
@pytest.mark.parametrize("with_weights", [False, True])
@pytest.mark.parametrize("script", FOLDERS)
def test_a_folder_that_holds_anything_is_left_as_it_is(refused, tmp_path, weights, script, with_weights, kind):
    fill(kind, tmp_path / "out")
    flags = ["--weights", weights] if with_weights else []
    assert "--out out is not empty" in refused(script, *flags, "--out", "out")  # refused() compares every byte


@pytest.mark.parametrize("out", ["file", "file/below", "file/far/below"])
@pytest.mark.parametrize("script", FOLDERS)
def test_a_folder_that_cannot_be_made(refused, tmp_path, script, out):
    (tmp_path / "file").write_text("a regular file")
    assert f"cannot write to --out {out} " in refused(script, "--out", out)


@pytest.mark.parametrize("script", FOLDERS)
def test_a_folder_that_cannot_be_written_to(refused, tmp_path, monkeypatch, script):
    system_open = os.open

    def read_only(path, *args, **kwargs):  # not by chmod: whoever is root may write anyway
        if "locked" in Path(path).parts:
            raise PermissionError(13, "Permission denied")
        return system_open(path, *args, **kwargs)

    (tmp_path / "locked").mkdir()
    monkeypatch.setattr(os, "open", read_only)
    assert "cannot write to --out locked (Permission denied)" in refused(script, "--out", "locked")


@pytest.mark.parametrize("script", TRAINING)
def test_a_default_folder_that_cannot_be_made(refused, tmp_path, script):
    (tmp_path / "runs").write_text("a regular file")
    assert f"cannot write to --out runs/{script}-001" in refused(script)


# --- Data ------------------------------------------------------------------------------------------------------------


def write_mnist(root):
    """Twelve random images in each split, in the files that torchvision reads."""
    rng, raw = np.random.default_rng(0), root / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for part in ("train", "t10k"):
        (raw / f"{part}-images-idx3-ubyte").write_bytes(
            struct.pack(">HBB3I", 0, 8, 3, 12, 28, 28) + rng.bytes(12 * 784)
        )
        (raw / f"{part}-labels-idx1-ubyte").write_bytes(struct.pack(">HBBI", 0, 8, 1, 12) + bytes(range(12)))
    return raw


@pytest.fixture
def no_network(monkeypatch, tmp_path_factory):
    """An empty VAE_DATA and no way to download. Gives the folder."""

    def unreachable(*args, **kwargs):
        raise urllib.error.URLError("no route to host")

    folder = tmp_path_factory.mktemp("data")
    monkeypatch.setenv("VAE_DATA", str(folder))
    monkeypatch.setattr("torchvision.datasets.mnist.download_and_extract_archive", unreachable)
    return folder


@pytest.mark.parametrize(("data", "name"), [("mnist", "MNIST"), ("fashion", "FashionMNIST")])
@pytest.mark.parametrize("script", FOLDERS)
def test_data_that_is_neither_here_nor_to_be_had(refused, no_network, script, data, name):
    message = refused(script, "--data", data, "--out", "new")
    assert f"{data} is not on this machine and cannot be downloaded" in message
    assert str(no_network / name / "raw") in message
    assert "--data digits" in message


@pytest.mark.parametrize(
    "size",
    [
        0,
        8,
        16,
        1000,
        2,
    ],
)
@pytest.mark.parametrize("script", FOLDERS)
def test_data_files_that_are_cut_short(refused, no_network, script, size):
    path = write_mnist(no_network) / "t10k-images-idx3-ubyte"
    path.write_bytes(path.read_bytes()[:size])
    message = refused(script, "--data", "mnist")
    assert f"the mnist files in {path.parent} are damaged" in message
    assert "delete them" in message


@pytest.mark.parametrize("script", TRAINING)
def test_training_files_that_are_cut_short(refused, no_network, script):
    path = write_mnist(no_network) / "train-labels-idx1-ubyte"
    path.write_bytes(path.read_bytes()[:8])
    assert "are damaged" in refused(script, "--data", "mnist")


@pytest.mark.parametrize("script", FOLDERS)
def test_a_data_folder_that_is_a_file(refused, no_network, monkeypatch, script):
    (no_network / "file").touch()
    monkeypatch.setenv("VAE_DATA", str(no_network / "file"))
    assert "mnist is not on this machine" in refused(script, "--data", "mnist")


@pytest.mark.parametrize("script", FOLDERS)
def test_a_library_that_is_not_installed(refused, monkeypatch, script):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    assert "sklearn" in refused(script)


# --- As a user sees it -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("script", FOLDERS)
def test_a_mistake_in_a_real_process(tmp_path, script):
    path = Path(__file__).resolve().parent.parent / FOLDERS[script] / f"{script}.py"
    command = [sys.executable, str(path), "--weights", "absent.safetensors"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith(f"{script}.py: error: no weights at absent.safetensors")
    assert done.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())
