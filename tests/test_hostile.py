"""Hostile input, one row per case: the exit status, one line on stderr, nothing left behind.

Most rows call a script's main() or a function in the test's own process and cost milliseconds. Where the process is the
point (streams, locales, signals, races, a full disk) the row starts one; what takes more than a second is slow.
"""

import contextlib
import errno
import hashlib
import io
import itertools
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
from dataclasses import fields
from functools import cache, partial
from pathlib import Path
from types import SimpleNamespace
from typing import Literal, get_origin, get_type_hints

import numpy as np
import pytest
import sklearn.datasets
import torch
from PIL import Image
from safetensors.numpy import save_file

import experiment
import input_checks
import level_script
import likelihood
import pictures
import run_files
import vae_lowlevel
import vae_numpy
import vae_paper
from beta_tcvae import BetaTCVAE
from comparison import assert_one_line, random_inputs
from experiment import SHARED, initialised
from factor_vae import FactorVAE
from image_data import load_uint8_images
from iwae import IWAE
from run_files import weights_metadata
from script_runs import own_config
from trainable import alternatives
from trainer import train
from training_images import load_resident
from vae_paper import Autoencoder, ConditionalVAE
from vq_vae import VQVAE

ROOT = Path(__file__).resolve().parent.parent
PATHS = {
    "vae_numpy": "numpy/vae_numpy.py",
    "vae_lowlevel": "pytorch_lowlevel/vae_lowlevel.py",
    "compare_levels": "tests/compare_levels.py",
}
PARAMS = vae_numpy.init_params(0, 2)
DIGITS, LABELS = sklearn.datasets.load_digits(return_X_y=True)


@pytest.fixture(autouse=True)
def few_digits(monkeypatch):
    """Scikit-learn gives its first 100 digits only: 80 to train, 20 to test."""
    monkeypatch.setattr(sklearn.datasets, "load_digits", lambda return_X_y: (DIGITS[:100], LABELS[:100]))


ROWS = {}  # name: (script, arguments, what its line says, what is put into the current folder before)


def rows(scripts, cases):
    """Add every case for every script. cases: {name: (arguments, what the line says, given=None)}."""
    for script, (name, (args, says, *given)) in itertools.product(scripts, cases.items()):
        ROWS[f"{script}, {name}"] = (script, args, says, given[0] if given else None)


# --- Weights that are not what they seem -----------------------------------------------------------------------------


DESCRIBED = weights_metadata({"class": "VAE"})


def weights(metadata=DESCRIBED, **changes):
    """Writes the right tensors, some of them changed, with this metadata, as w.safetensors."""

    def given(folder):
        filled = {name: np.full_like(PARAMS[name], value) for name, value in changes.items()}
        save_file(PARAMS | filled, folder / "w.safetensors", metadata)

    return given


def described(**model):
    return weights(weights_metadata(model))


NAMED = ["--weights", "w.safetensors"]
rows(
    PATHS,
    {
        "an autoencoder": (NAMED, "class 'Autoencoder'", described(**{"class": "Autoencoder"})),
        "a VQ-VAE": (NAMED, "class 'VQVAE'", described(**{"class": "VQVAE"})),
        "a FactorVAE": (NAMED, "class 'FactorVAE'", described(**{"class": "FactorVAE"})),
        "a conditional VAE": (NAMED, "class 'ConditionalVAE'", described(**{"class": "ConditionalVAE"})),
        "a Gaussian likelihood": (NAMED, "likelihood 'gaussian'", described(likelihood="gaussian", sigma=1.0)),
        "a Gaussian IWAE": (
            NAMED,
            "'IWAE' with .*'gaussian'",
            described(**{"class": "IWAE", "likelihood": "gaussian"}),
        ),
        "an unknown class": (NAMED, "class 'GAN'", described(**{"class": "GAN"})),
        "a class that is a list": (NAMED, r"class \['VAE'\]", described(**{"class": ["VAE"]})),
        "a class of many lines": (NAMED, r"class 'a\\na", described(**{"class": "a\n" * 1000})),
        "a likelihood of null": (NAMED, "likelihood None", described(likelihood=None)),
        "metadata that is no JSON": (NAMED, "not JSON", weights({"model": "{class: VAE"})),
        "metadata that is empty": (NAMED, "not JSON", weights({"model": ""})),
        "metadata that is a list": (NAMED, "must be a JSON object, got", weights({"model": "[1, 2]"})),
        "metadata that is a text": (NAMED, "must be a JSON object, got", weights({"model": '"VAE"'})),
        "metadata without bottom": (NAMED, "not JSON", weights({"model": "[" * 100_000})),
        "logits that overflow": (NAMED, "logits must be finite", weights(**{"decoder.deconv2.weight": 3e38})),
        "a sum that overflows": (NAMED, "nll must be finite", weights(**{"decoder.deconv2.bias": 3e38})),
        "a sigma that overflows": (NAMED, "must be finite", weights(**{"encoder.logvar.bias": 1e4})),
        "a KL that overflows": (NAMED, "must be finite", weights(**{"encoder.mu.bias": 1e30})),
        "no path": (["--weights", ""], "argument --weights: expected a path, got nothing"),
        "a path with a null": (["--weights", "a\0b"], "no weights at|null"),
        "a path too long": (["--weights", "w" * 5000], "no weights at|too long"),
        "a home that is not there": (["--weights=~/absent.safetensors"], f"no weights at {Path.home()}/absent"),
        "seed 2^63": ([*NAMED, "--seed", 2**63], r"argument --seed: expected a seed from 0 to 2\^63 - 1", weights()),
        "seed -1": ([*NAMED, "--seed", -1], r"argument --seed: expected a seed", weights()),
        "seed 1.5": ([*NAMED, "--seed", 1.5], "argument --seed: invalid", weights()),
        "seed nan": ([*NAMED, "--seed", "nan"], "argument --seed: invalid", weights()),
        "a seed of 5,000 digits": ([*NAMED, "--seed", "9" * 5000], "argument --seed", weights()),
        "unknown data": ([*NAMED, "--data", ""], "argument --data: invalid choice", weights()),
    },
)

# --- Folders and sizes -----------------------------------------------------------------------------------------------


def link_to_nowhere(folder):
    (folder / "link").symlink_to(folder / "nowhere" / "at" / "all")


def locked_by_nobody(folder):
    """A lock's file that its owner left, and a result: the folder is not empty."""
    (folder / "run").mkdir()
    (folder / "run" / ".lock").touch()
    (folder / "run" / "samples.png").touch()


rows(
    ["vae_numpy", "vae_lowlevel"],
    {
        "no folder": (["--out", ""], "argument --out: expected a path, got nothing"),
        "a folder with a null": (["--out", "a\0b"], "null"),
        "a folder too long": (["--out", "d" * 5000], "too long"),
        "a link to nowhere": (["--out", "link"], "cannot write to --out link", link_to_nowhere),
        "a run that is done": (["--out", "run"], "--out run is not empty", locked_by_nobody),
        "the current folder, full": (["--out", "."], r"--out \. is not empty", weights()),
        "a device": (["--out", "/dev/null"], "cannot write to --out /dev/null"),
    },
)
rows(
    ["vae_lowlevel"],
    {
        "10^9 latents": (
            ["--latent-dim", 10**9],
            "latent_dim 1000000000 would need 5,7.. GiB of memory, and this mach",
        ),
        "10^30 latents": (["--latent-dim", 10**30], "latent_dim 10+ would need .* GiB of memory"),
        "10^300 latents": (["--latent-dim", 10**300], "latent_dim 10+ would need .* GiB of memory"),
        "latents beside weights": ([*NAMED, "--latent-dim", 10**9], "--latent-dim 1000000000, but .* has 2", weights()),
        "5,000 digits of latents": (["--latent-dim", "9" * 5000], "argument --latent-dim"),
        "epochs 0": (["--epochs", 0], "argument --epochs: expected an integer of at least 1"),
        "epochs inf": (["--epochs", "inf"], "argument --epochs: invalid"),
        "lr 0": (["--lr", 0], "argument --lr: expected a number above 0"),
        "lr 1e400": (["--lr", "1e400"], "argument --lr: expected a number above 0"),
    },
)


# --- Level 3: every option out of its range --------------------------------------------------------------------------

PAPERS = ("vae_paper", "iwae", "beta_tcvae", "factor_vae", "vq_vae")
OWN_COMMANDS = {"log-likelihood": likelihood.LogLikelihood, "anomalies": likelihood.Anomalies}


def out_of_range(kind, limits):
    """Values, as text, that an option of this type and range cannot have; those that tyro does not even read."""
    kinds = alternatives(kind)
    least, above, below, most = (limits.get(name) for name in ("least", "above", "below", "most"))
    bad = [least - 1] if least is not None else []
    bad += [limit for limit in (above, below) if limit is not None]
    bad += [most + 1] if most is not None else []
    if float in kinds:
        return [*bad, "nan", "inf"], ["text"]
    if int in kinds or kind == tuple[int, ...]:
        return bad, ["1.5", "nan", ""]
    return bad, ["text", ""] if all(get_origin(each) is Literal or each is type(None) for each in kinds) else []


def option_rows(script, options, before=(), without=()):
    """A row for every value that an option of this dataclass cannot have."""
    hints = get_type_hints(options)
    for each in fields(options):
        if each.name not in without:
            refused, unread = out_of_range(hints[each.name], each.metadata)
            named = f"--{each.name.replace('_', '-')}"
            cases = {
                f"{named}={value}": ([*before, f"{named}={value}"], f"error: {named}.* must be") for value in refused
            }
            cases |= {f"{named}={value}": ([*before, f"{named}={value}"], f"tyro: {named}") for value in unread}
            rows([script], {" ".join([*before[:1], name]): case for name, case in cases.items()})


for number, paper in enumerate(PAPERS):
    option_rows(paper, own_config(paper), without=SHARED if number else ())  # what all share is read by the same lines
for command, options in OWN_COMMANDS.items():
    option_rows("likelihood", options, (command, "--run", "run"))
rows(
    PAPERS,
    {
        "an option that it does not have": (["--gammma", 1], "tyro: Unrecognized options: --gammma"),
        "a word too many": (["digits"], "tyro: Unrecognized options: digits"),
        "no weights": (["--weights", ""], "--weights is empty: expected a path"),
        "no folder": (["--out="], "--out is empty: expected a path"),
        "no data": (["--data", ""], "--data is empty: expected a path"),
        "no run to go on with": (["--resume="], "--resume is empty: expected a path"),
        "a run that is not there": (["--resume", "run"], "no resume.pt in run"),
        "weights that are not there": (["--weights=~/absent.safetensors"], f"no weights at {Path.home()}/absent"),
        "a home that is not there": (["--resume=~/absent"], f"no resume.pt in {Path.home()}/absent"),
        "a mistyped name": (["--data", "digitz"], "unknown data set 'digitz': expected one of digits"),
        "a device of another kind": (["--device", "tpu"], "unknown --device tpu"),
        "a device without a name": (["--device", ""], "unknown --device : expected"),
        "a card that nobody has": (["--device", "cuda:999"], "--device cuda:999 is not on this machine"),
        "more training images than there are": (["--train-images", 2**63], "--train-images 9223.*: expected 1 to 80"),
    },
)

# --- Level 3: options that contradict each other, and sizes that no machine has --------------------------------------

rows(
    ["vae_paper"],
    {
        "a sigma of Bernoulli": (["--sigma", 0.1], "--sigma belongs to the gaussian --likelihood"),
        "a learned sigma of Bernoulli": (["--sigma", "learned"], "--sigma belongs to the gaussian --likelihood"),
        "hidden layers of convolutions": (["--hidden-dims", 10], "--hidden-dims and --activation belong to"),
        "an activation of convolutions": (["--activation", "tanh"], "--hidden-dims and --activation belong to"),
        "a capacity with a beta": (["--capacity", 5, "--kl-steps", 9, "--beta", 4], "leave out --beta"),
        "a capacity at once": (["--capacity", 5], "--capacity go together with --kl-steps above 1"),
        "a capacity with free bits": (["--capacity", 5, "--kl-steps", 9, "--free-bits", 1], "leave out .*--free-bits"),
        "a gamma without its capacity": (["--capacity-gamma", 5], "--capacity-gamma belongs to --capacity"),
        "steps without a schedule": (["--kl-steps", 9], "--kl-schedule and --capacity go together with --kl-steps"),
        "a schedule of one step": (["--kl-schedule", "linear"], "go together with --kl-steps above 1"),
        "a group without free bits": (["--group-size", 2], "--group-size belongs to --free-bits"),
        "groups that do not divide": (["--free-bits", 1, "--group-size", 3], "20 latents do not make groups of 3"),
        "an autoencoder with a beta": (["--autoencoder", "--beta", 4], "an autoencoder has no KL: leave out --beta"),
        "an autoencoder with free bits": (["--autoencoder", "--free-bits", 1], "an autoencoder has no KL"),
        "a conditional autoencoder": (
            ["--autoencoder", "--conditional"],
            "--autoencoder and --conditional: choose one",
        ),
        "10^9 latents": (["--latent-dim", 10**9], "this model, .*would need .* GiB"),
        "10^30 latents": (["--latent-dim", 10**30], "larger than any machine"),
        "a layer of 10^6 by 10^6": (
            ["--architecture", "mlp", "--hidden-dims", 10**6, 10**6],
            "this model, .*would need .* GiB",
        ),
        "hidden layers in text": (["--architecture", "mlp", "--hidden-dims", "a"], "tyro: --hidden-dims"),
        "sprites of another size": (["--data", "sprites32", "--image-size", 64], "sprites32 are 32x32 and grey"),
        "sprites in colour": (["--data", "sprites", "--channels", 3], "sprites are 64x64 and grey"),
    },
)
rows(
    ["iwae"],
    {
        "10^9 samples": (["--k", 10**9], "decoded images would need .* GiB"),
        "10^30 samples": (["--k", 10**30], "decoded images would need .* GiB"),
        "a beta": (["--beta", 4], "tyro: Unrecognized options: --beta"),
        "hidden layers of convolutions": (["--architecture", "conv", "--hidden-dims", 9], "--hidden-dims and"),
    },
)
rows(
    ["factor_vae"],
    {
        "a discriminator of 10^6 by 10^6": (["--discriminator-width", 10**6], "this model, .*would need .* GiB"),
        "a batch of one": (["--batch-size", 1], "needs batches of at least 4 images, got 1"),
        "one training image": (["--train-images", 1], "needs batches of at least 4 images, got 1"),
    },
)
rows(["beta_tcvae"], {"a batch of one": (["--batch-size", 1], "needs batches of at least 2 images, got 1")})
rows(
    ["vq_vae"],
    {
        "10^5 codes": (["--num-codes", 10**5], "--num-codes must be an integer of at least 1 up to 65536"),
        "codes of 10^9 numbers": (["--code-dim", 10**9], "this model, .*would need .* GiB"),
        "latents": (["--latent-dim", 9], "tyro: Unrecognized options: --latent-dim"),
    },
)

# --- Level 3: images that are none -----------------------------------------------------------------------------------


def array_file(**arrays):
    return lambda folder: np.savez(folder / "a.npz", **arrays)


def pictures_in(*files):
    """Writes a folder of pictures: (name, side) is a picture, (name, text) a file of that text."""

    def given(folder):
        for name, content in files:
            path = folder / "mine" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(content, str):
                path.write_text(content, encoding="utf-8")
            else:
                Image.fromarray(np.full((content, content), len(name), np.uint8)).save(path)

    return given


def empty_folder(folder):
    (folder / "mine").mkdir()


GREY = np.zeros((20, 8, 8), np.uint8)
PICTURES = [(f"{number}.png", 8) for number in range(20)]
NPZ, MINE = ["--data", "a.npz", "--train-images", 4], ["--data", "mine"]
IMAGE_CASES = {
    "nothing there": (["--data", "absent/a.npz"], "nothing is at .*absent/a.npz"),
    "a null": (["--data", "a\0b"], "nothing is at|unknown data set"),
    "a path too long": (["--data", "d" * 5000], "unknown data set|too long|nothing is at"),
    "a path of many lines": (["--data", "a\nb/c\r\x1b[31m"], "nothing is at"),
    "no image in the npz": (NPZ, "a.npz: holds x, y: expected images", array_file(x=GREY, y=GREY)),
    "floats above 1": (NPZ, r"a.npz: .*\[0, 1\]", array_file(images=GREY + 255.0)),
    "floats below 0": (NPZ, r"a.npz: .*\[0, 1\]", array_file(images=GREY - 0.1)),
    "NaN": (NPZ, "a.npz: holds values from nan", array_file(images=GREY + np.nan)),
    "labels of another length": (NPZ, "a.npz: .*labels", array_file(images=GREY, labels=np.arange(3))),
    "labels that are floats": (NPZ, "a.npz: .*labels", array_file(images=GREY, labels=np.ones(20))),
    "a pickle": (NPZ, "a.npz: ", array_file(images=np.array([{"a": 1}] * 20, object))),
    "integers of 64 bits": (NPZ, "a.npz: .*(uint8|int64)", array_file(images=GREY.astype(np.int64))),
    "one axis": (NPZ, "a.npz: ", array_file(images=np.zeros(20, np.uint8))),
    "no image at all": (NPZ, "a.npz: ", array_file(images=GREY[:0])),
    "one image": (NPZ, "a.npz: ", array_file(images=GREY[:1])),
    "sides of 30": (NPZ, "a.npz: .*(multiple|size)", array_file(images=np.zeros((20, 30, 30), np.uint8))),
    "an npz that is text": (NPZ, "a.npz: ", lambda folder: (folder / "a.npz").write_text("no", encoding="utf-8")),
    "an empty npz": (NPZ, "a.npz: ", lambda folder: (folder / "a.npz").touch()),
    "a text": (["--data", "a.txt"], "is no folder and no array", lambda folder: (folder / "a.txt").touch()),
    "a device": (["--data", "/dev/null"], "is no folder and no array"),
    "an empty folder": (MINE, "mine: ", empty_folder),
    "a folder of texts": (MINE, "mine: ", pictures_in(("a.txt", "a"), ("b.md", "b"))),
    "a picture that is none": (MINE, "1 of 21 files is no image: x.png", pictures_in(*PICTURES, ("x.png", "none"))),
    "no picture that is one": ([*MINE, "--skip-bad"], "mine: ", pictures_in(("x.png", "none"), ("y.jpg", ""))),
    "one picture that is one": ([*MINE, "--skip-bad"], "mine: ", pictures_in(("x.png", "none"), ("y.png", 8))),
    "mixed sizes": (MINE, "mine: .*size", pictures_in(*PICTURES, ("x.png", 12))),
    "image size 30": ([*MINE, "--image-size", 30], "multiple of 4", pictures_in(*PICTURES)),
    "image size 2": ([*MINE, "--image-size", 2], "--image-size must be", pictures_in(*PICTURES)),
    "image size 10^6": ([*MINE, "--image-size", 10**6], "image size 1000000", pictures_in(*PICTURES)),
    "image size 10^6, digits": (["--image-size", 10**6], "image size 1000000"),
    "two channels": (["--channels", 2], "tyro: --channels"),
}  # fmt: skip
for script, (name, case) in zip(itertools.cycle(PAPERS), IMAGE_CASES.items(), strict=False):
    rows([script], {name: case})
rows(
    ["vae_paper"],
    {
        "classes that are not there": (
            ["--conditional", *NPZ], "--conditional needs classes, and --data .*a.npz has none", array_file(images=GREY)
        ),
        "classes of a flat folder": (["--conditional", *MINE], "--conditional needs classes", pictures_in(*PICTURES)),
    },
)  # fmt: skip

# --- Level 3: weights and runs that are another's --------------------------------------------------------------------

DEFAULT = run_files.default_model(2)
SMALL = {"architecture": "mlp", "hidden_dims": (4,), "latent_dim": 2}
MODELS = {
    "VAE": lambda: vae_paper.VAE(**SMALL),
    "Gaussian VAE": lambda: vae_paper.VAE(**SMALL, likelihood="gaussian"),
    "conditional VAE": lambda: ConditionalVAE(num_classes=10, **SMALL),
    "conditional VAE of 3": lambda: ConditionalVAE(num_classes=3, **SMALL),
    "autoencoder": lambda: Autoencoder(**SMALL),
    "VAE of 8x8": lambda: vae_paper.VAE(**SMALL, image_shape=(1, 8, 8)),
    "IWAE": lambda: IWAE(k=2, **SMALL),
    "beta-TCVAE": lambda: BetaTCVAE(dataset_size=80, **SMALL),
    "FactorVAE": lambda: FactorVAE(discriminator_width=4, discriminator_depth=1, **SMALL),
    "VQ-VAE": lambda: VQVAE(num_codes=2, code_dim=2),
}


@cache
def saved_model(name):
    with tempfile.TemporaryDirectory() as folder:
        MODELS[name]().save_weights(Path(folder, "w"))
        return Path(folder, "w").read_bytes()


def default_weights(model=(), **changes):
    return weights(weights_metadata(DEFAULT | dict(model)), **changes)


def model_of(name):
    return lambda folder: (folder / "w.safetensors").write_bytes(saved_model(name))


OWN_CLASS = {"iwae": "IWAE", "beta_tcvae": "BetaTCVAE", "factor_vae": "FactorVAE", "vq_vae": "VQVAE"}
for script, own in OWN_CLASS.items():
    for other in ("VAE", "autoencoder", "IWAE", "beta-TCVAE", "FactorVAE", "VQ-VAE"):
        if other.replace("-", "").lower() != own.lower():
            rows([script], {f"the weights of a {other}": (NAMED, f"does not describe a {own}", model_of(other))})
rows(["vae_paper"], {"the weights of a VQ-VAE": (NAMED, "does not describe a VAE", model_of("VQ-VAE"))})
rows(
    PATHS,
    {f"a real {name}": (NAMED, "holds another model", model_of(name)) for name in ("Gaussian VAE", "autoencoder")},
)
rows(
    PAPERS,
    {
        "weights that are text": (NAMED, "not a whole", lambda folder: (folder / "w.safetensors").write_bytes(b"no")),
        "weights that are empty": (NAMED, "is not a whole", lambda folder: (folder / "w.safetensors").touch()),
        "weights that are a folder": (["--weights", "."], "no weights at"),
        "weights of nobody": (NAMED, "does not describe a .*'GAN'", described(**{"class": "GAN"})),
        "weights of a list": (NAMED, "does not describe a", described(**{"class": ["VAE"]})),
        "weights of no class": (NAMED, "does not describe a", described(latent_dim=2)),
        "weights of 10^12 latents": (
            NAMED, "does not describe a|would need .* GiB", described(**{"class": "VAE", "latent_dim": 10**12})
        ),
        "weights of latents in text": (NAMED, "does not describe a", described(**{"class": "VAE", "latent_dim": "2"})),
        "weights of an unknown option": (NAMED, "does not describe a", described(**{"class": "VAE", "depth": 2})),
        "weights of images in text": (NAMED, "does not describe a", described(**{"class": "VAE", "image_shape": "a"})),
        "metadata that is no JSON": (NAMED, "not JSON", weights({"model": "{class: VAE"})),
        "metadata without bottom": (NAMED, "not JSON", weights({"model": "[" * 100_000})),
        "metadata that is a list": (NAMED, "must be a JSON object", weights({"model": "[1, 2]"})),
    },
)  # fmt: skip
rows(
    ["vae_paper"],
    {
        "a NaN in the weights": (NAMED, "holds NaN", default_weights(**{"encoder.mu.bias": np.nan})),
        "weights of other shapes": (NAMED, "has shape", default_weights({"latent_dim": 3})),
        "weights of other names": (NAMED, "missing or unknown", default_weights({"architecture": "mlp"})),
        "sigma 0": (NAMED, "sigma must be", default_weights({"likelihood": "gaussian", "sigma": 0})),
        "data of another size": (
            [*NAMED, "--data", "a.npz"], r"has images \(1, 8, 8\), the model takes \(1, 28, 28\)",
            lambda folder: (model_of("VAE")(folder), array_file(images=GREY)(folder)),
        ),
        "digits to a model of 8x8": (NAMED, r"has images \(1, 28, 28\), the model takes", model_of("VAE of 8x8")),
        "an option of the model": ([*NAMED, "--latent-dim", 5], "leave out --latent-dim", model_of("VAE")),
        "weights and a run": ([*NAMED, "--resume", "run"], "", lambda folder: (model_of("VAE")(folder), a_run(folder))),
    },
)  # fmt: skip


def train_run(folder, data="digits", train_images=None, name="run", **options):
    """A short run of the VAE, as a user's would lie in a folder."""
    config = vae_paper.VaeConfig(**SMALL | options, data=str(data), train_images=train_images, epochs=1)
    images = [load_resident(config, split) for split in ("train", "test")]
    model = initialised(vae_paper.build_model, config, images[0])
    (folder / name).mkdir()
    with contextlib.redirect_stderr(io.StringIO()):
        train(model, *images, config, folder / name, script="vae_paper.py")


@cache
def saved_run():
    with tempfile.TemporaryDirectory() as folder:
        train_run(Path(folder))
        return {path.name: path.read_bytes() for path in Path(folder, "run").iterdir()}


def a_run(folder, name="run", **changes):
    """Writes that run; changes: of its files, by name without ending, None for one that is not there."""
    (folder / name).mkdir()
    (folder / name / ".lock").touch()
    for file, content in saved_run().items():
        content = changes.get(file.partition(".")[0], content)
        if callable(content):
            content = content(saved_run()[file])
        if content is not None:
            (folder / name / file).write_bytes(content if isinstance(content, bytes) else content.encode())


def run_with(**changes):
    """changes: text, bytes, or a function of the file's own bytes."""
    return lambda folder: a_run(folder, **changes)


def run_of(name):
    """Writes that run with the weights of another model."""
    return run_with(model=lambda _: saved_model(name))


def state_with(**changes):
    """A resume state, some entries of which are others; its checksum fits."""

    def changed(content):
        state = torch.load(io.BytesIO(content[:-32]), weights_only=True) | changes
        buffer = io.BytesIO()
        torch.save(state, buffer)
        return buffer.getvalue() + hashlib.sha256(buffer.getvalue()).digest()

    return run_with(resume=changed)


def json_with(**changes):
    """The text of a .json file, some entries of which are others."""
    return lambda content: json.dumps(json.loads(content) | changes)


def run_of_changed_images(folder):
    array_file(images=GREY)(folder)
    train_run(folder, folder / "a.npz")
    array_file(images=GREY + np.uint8(9))(folder)


def run_of_lost_images(folder):
    array_file(images=GREY)(folder)
    train_run(folder, folder / "a.npz")
    (folder / "a.npz").unlink()


RESUME = ["--resume", "run", "--epochs", 2]
rows(
    ["vae_paper"],
    {
        "a flipped byte": (RESUME, "checksum", run_with(resume=lambda content: bytes([content[0] ^ 1]) + content[1:])),
        "half a state": (RESUME, "is not the whole state", run_with(resume=lambda content: content[:1000])),
        "an empty state": (RESUME, "is not the whole state", run_with(resume=b"")),
        "a state that is text": (RESUME, "is not the whole state", run_with(resume="state" * 100)),
        "a run without a state": (RESUME, "no resume.pt in run", run_with(resume=None)),
        "a state of another script": (RESUME, "was left by iwae.py", state_with(script="iwae.py")),
        "a state without options": (RESUME, "is not the whole state", state_with(config=[])),
        "a state with 10^12 latents": (RESUME, "would need .* GiB", state_with(config={"latent_dim": 10**12})),
        "a state of a NaN": (RESUME, "is not the whole state", state_with(config={"beta": float("nan")})),
        "a state of unknown options": (RESUME, "unknown options: gammma", state_with(config={"gammma": 1})),
        "a state of no threads": (RESUME, "is not the whole state", state_with(threads=0)),
        "images that are gone": (RESUME, "nothing is at .*a.npz", run_of_lost_images),
        "fewer epochs than it has": (["--resume", "run", "--epochs", 0], "--epochs", a_run),
        "another option": ([*RESUME, "--lr", 1], "--lr was 0.001, cannot become 1.0", a_run),
        "another folder": ([*RESUME, "--out", "new"], "--out was None, cannot become new", a_run),
        "other weights": ([*RESUME, "--weights", "w"], "--weights was None, cannot become w", a_run),
    },
)  # fmt: skip
rows(PAPERS[1:], {"the VAE's run": (RESUME, "was left by vae_paper.py: go on with that script", a_run)})
rows(PAPERS, {"a run that is done": (["--out", "run"], "--out run is not empty", a_run)})
rows(
    PAPERS,
    {
        "a folder with a null": (["--out", "a\0b"], "null"),
        "a folder too long": (["--out", "d" * 5000], "too long"),
        "a link to nowhere": (["--out", "link"], "cannot write to --out link", link_to_nowhere),
        "a device for a folder": (["--out", "/dev/null"], "cannot write to --out /dev/null"),
    },
)

# --- Level 3: what is asked of finished runs -------------------------------------------------------------------------

COMMANDS = {"log-likelihood": [], "anomalies": ["--out", "new.png"], "uncertainty": ["--out", "new.png"]}
LOOKED_AT = {
    "a run that is not there": ([], "no weights at run/model.safetensors"),
    "a run without weights": ([], "no weights at run/model.safetensors", run_with(model=None)),
    "a run without config": ([], "run/config.json does not say what the model was trained on", run_with(config=None)),
    "a config that is text": ([], "run/config.json is not the config.json of a run", run_with(config="text")),
    "a config that is empty": ([], "run/config.json is not the config.json of a run", run_with(config="")),
    "a config that is a list": ([], "run/config.json does not describe a model", run_with(config="[]")),
    "a config without bottom": ([], "run/config.json is not the config.json", run_with(config="[" * 100_000)),
    "a config that is no UTF-8": ([], "run/config.json is not the config.json", run_with(config=b"\xff{}")),
    "training that is text": ([], "training must be a table", run_with(config=json_with(training="text"))),
    "training without data": ([], "does not say what the model was trained", run_with(config=json_with(training={}))),
    "training on a number": ([], "config.json: data must be", run_with(config=json_with(training={"data": 1}))),
    "training on nobody's data": ([], "digitz", run_with(config=json_with(training={"data": "digitz"}))),
    "binarised somehow": (
        [], "binarisation must be", run_with(config=json_with(training={"data": "digits", "binarisation": "a"}))
    ),
    "damaged weights": ([], "is not a whole .safetensors file", run_with(model=b"no")),
    "an autoencoder": ([], "holds an autoencoder, which has no distribution", run_of("autoencoder")),
    "a VQ-VAE": ([], "does not describe a VAE", run_of("VQ-VAE")),
    "a model of 8x8": ([], r"has images \(1, 28, 28\), the model takes \(1, 8, 8\)", run_of("VAE of 8x8")),
    "a model of 3 classes": ([], "digits has 10 classes, .* one of 3", run_of("conditional VAE of 3")),
    "images above the set": (["--images", 21], "--images 21: expected 1 to 20", a_run),
    "2^63 images": (["--images", 2**63], "--images 9223.*: expected 1 to 20", a_run),
    "10^9 samples": (["--k", 10**9], "would need .* GiB|samples of", a_run),
    "seed 2^63": (["--seed", 2**63], "--seed must be", a_run),
    "no device": (["--device", "tpu"], "unknown --device tpu", a_run),
    "data that is not there": (["--data", "absent.npz"], "nothing is at .*absent.npz", a_run),
    "a mistyped name": (["--data", "digitz"], "unknown data set 'digitz'", a_run),
    "empty data": (["--data", ""], "", a_run),
    "an empty run": (["--run", ""], "", a_run),
    "no run": (None, "tyro: "),
}  # fmt: skip
for name, (arguments, *rest) in LOOKED_AT.items():
    for command, own in COMMANDS.items():
        if (command, name) != ("log-likelihood", "10^9 samples"):  # it takes so many, a few at a time
            given = [command, *own] if arguments is None else [command, "--run", "run", *own, *arguments]
            rows(["likelihood"], {f"{command}, {name}": (given, *rest)})
NEW = {
    "a picture that is there": ("old.png", "exists and is not overwritten"),
    "a missing folder": ("missing/new.png", "expected a .png in a folder that exists"),
    "no picture": ("new.jpg", "expected a .png in a folder that exists"),
    "a picture without a name": ("", "--out"),
    "a picture with a null": ("a\0b.png", "null"),
    "a name too long": ("n" * 5000 + ".png", "too long"),
    "a link to nowhere": ("link.png", "exists|cannot write"),
}


def old_picture(folder):
    a_run(folder)
    (folder / "old.png").touch()
    (folder / "old.csv").touch()
    (folder / "link.png").symlink_to(folder / "nowhere" / "at" / "all")


for name, (out, says) in NEW.items():
    for command in ("anomalies", "uncertainty"):
        rows(["likelihood"], {f"{command}, {name}": ([command, "--run", "run", "--out", out], says, old_picture)})
    rows(["pictures"], {name: (["--runs", "run", "--out", out], says, old_picture)})
rows(["likelihood"], {"no command": ([], "tyro: ")})


def two_runs(**changes):
    def given(folder):
        a_run(folder)
        a_run(folder, "other", **changes)

    return given


BOTH = ["--runs", "run", "other", "--out", "new.png"]
rows(
    ["pictures"],
    {
        "one run twice": (["--runs", "run", "run", "--out", "new.png"], "--runs names run twice", a_run),
        "no run": (["--runs", "--out", "new.png"], "--runs"),
        "an empty run": (["--runs", "", "--out", "new.png"], ""),
        "a run that is not there": (BOTH, "no summary.json in other", a_run),
        "a summary that is text": (BOTH, "other/summary.json is not that of a VAE", two_runs(summary="text")),
        "a summary that is a list": (BOTH, "other/summary.json is not that of a VAE", two_runs(summary="[]")),
        "a summary without bottom": (BOTH, "other/summary.json is not that of a VAE", two_runs(summary="[" * 100_000)),
        "a summary of no epoch": (BOTH, "is not that of a VAE", two_runs(summary=json_with(last_epoch={}))),
        "a summary of text": (
            BOTH, "is not that of a VAE",
            two_runs(summary=json_with(last_epoch={"test_kl_divergence": "a", "test_reconstruction_nll": 1})),
        ),
        "a summary of NaN": (
            BOTH, "holds NaN or infinity",
            two_runs(summary=json_with(last_epoch={"test_kl_divergence": np.nan, "test_reconstruction_nll": 1})),
        ),
        "other data": (BOTH, "other has data mnist, run has digits", two_runs(summary=json_with(data="mnist"))),
        "another binarisation": (BOTH, "has binarisation fresh", two_runs(summary=json_with(binarisation="fresh"))),
        "another likelihood": (BOTH, "has likelihood gaussian", two_runs(summary=json_with(likelihood="gaussian"))),
        "a config that is text": (BOTH, "other/config.json is not", two_runs(config="text")),
    },
)  # fmt: skip


RESTORED = {  # what is found out when the run would go on
    "a state without a model": (state_with(model={}), "does not fit this model"),
    "a state without optimizers": (state_with(optimizers={}), "does not fit this model"),
    "a state without sums": (state_with(sums={}), "does not fit this model"),
    "a state of a step too many": (state_with(step=10**6), "does not fit this model"),
    "a state of other images": (state_with(images=["a", "b"]), "are not those that the run was started with"),
    "images that changed": (run_of_changed_images, "are not those that the run was started with"),
}


@pytest.mark.parametrize("name", RESTORED)
def test_a_run_is_not_gone_on_with_in_one_line(refused, monkeypatch, tmp_path, name):
    given, says = RESTORED[name]
    given(tmp_path)
    (tmp_path / "run" / ".lock").touch()
    monkeypatch.setattr(experiment, "train", train)
    assert says in refused("vae_paper", *RESUME)


@pytest.mark.parametrize("data", ["mine", "a.npz"])
def test_images_beyond_the_memory_are_refused_before_one_is_read(refused, monkeypatch, tmp_path, data):
    pictures_in(*PICTURES)(tmp_path)
    array_file(images=GREY)(tmp_path)
    monkeypatch.setattr(input_checks, "total_memory", lambda: 2**20)
    monkeypatch.setattr("image_folder.decode", lambda *args: pytest.fail("read a picture"))
    message = refused("vae_paper", "--data", data, "--image-size", 4096)
    assert "2 images of 4096x4096 would need 1 GiB of memory" in message


@pytest.mark.parametrize("script", ["vae_paper", "iwae"])
def test_a_folder_with_an_owner_is_not_shared(refused, tmp_path, script):
    (tmp_path / "run").mkdir()
    with run_files.lock_run_folder(tmp_path / "run"):
        assert "belongs to a run that is still going" in refused(script, "--out", "run")


def test_a_run_with_an_owner_is_not_gone_on_with(refused, tmp_path):
    a_run(tmp_path)
    with run_files.lock_run_folder(tmp_path / "run"):
        assert "another process is at work on the run in run" in refused("vae_paper", *RESUME)


@pytest.mark.parametrize("name", ROWS)
def test_it_is_refused_in_one_line(refused, tmp_path, name):
    script, args, says, given = ROWS[name]
    if given:
        given(tmp_path)
    # argparse's own messages show the usage too, tyro's stand in a box.
    message = refused(script, *args, own=not re.match(r"\(?argument|tyro: ", says))
    line = " ".join(message.replace("│", " ").split()) if says.startswith("tyro: ") else message.splitlines()[-1]
    assert re.search(says.removeprefix("tyro: "), line), message


def test_there_are_many_rows():
    assert len(ROWS) + 2 * len(CALLS) >= 150


# --- What is not refused ---------------------------------------------------------------------------------------------


@pytest.fixture
def here(monkeypatch, tmp_path):
    """An empty current folder; temporary files lie in the folder `temporary` beside it."""
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here"


def names_in(folder):
    return {path.name for path in folder.iterdir()} - {".lock"}


def test_a_batch_larger_than_the_data_is_all_of_it(here, monkeypatch, capsys):
    images = torch.from_numpy(load_uint8_images("digits", "train")[0][:20])
    trained = []
    for size in (20, 2**63, 10**30):
        trained.append(vae_lowlevel.init_params(0, 2))
        vae_lowlevel.train(trained[-1], images, images, epochs=2, batch_size=size)
    for other in trained[1:]:
        assert all(torch.equal(other[name], tensor) for name, tensor in trained[0].items())
    sizes = []
    monkeypatch.setattr(level_script, "save_figure", lambda *args: None)
    monkeypatch.setattr(vae_lowlevel, "train", lambda *args: sizes.append(args[4]) or [[1.0, 2.0, 3.0, 4.0]])
    vae_lowlevel.main(["--batch-size", str(2**63), "--out", "run"])
    assert sizes == [2**63]


def test_more_epochs_than_anybody_can_wait_for_begin_to_train(here, monkeypatch):
    def interrupted(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(vae_lowlevel, "evaluate", interrupted)  # after the first epoch
    with pytest.raises(KeyboardInterrupt, match="nothing is kept"):
        vae_lowlevel.main(["--epochs", str(2**63), "--batch-size", "80"])


@pytest.mark.parametrize("script", ["vae_numpy", "vae_lowlevel"])
def test_a_tilde_is_the_home_folder(here, monkeypatch, capsys, script):
    monkeypatch.setenv("HOME", str(here / "home"))
    weights()(here)
    main = {"vae_numpy": vae_numpy, "vae_lowlevel": vae_lowlevel}[script].main
    main(["--weights", "w.safetensors", "--out=~/x"])
    assert names_in(here / "home" / "x") == {"samples.png", "reconstructions.png"}
    assert names_in(here) == {"home", "w.safetensors"}
    main(["--weights=~/../w.safetensors"])


def test_a_tilde_is_the_home_folder_at_level_3_too(here, monkeypatch, capsys):
    monkeypatch.setenv("HOME", str(here / "home"))
    (here / "home").mkdir()
    a_run(here / "home")
    monkeypatch.setattr("pictures.draw_all", lambda folder, *args: (folder / "samples.png").touch())
    vae_paper.main(["--weights=~/run/model.safetensors", "--out=~/x"])
    assert names_in(here / "home" / "x") == {"samples.png"}
    likelihood.main(["uncertainty", "--run=~/run", "--images", "1", "--k", "2", "--out=~/doubt.png"])
    pictures.main(["--runs=~/run", "--out=~/curve.png"])
    assert names_in(here / "home") == {"run", "x", "doubt.png", "curve.png"}
    assert not names_in(here) - {"home"}


def test_a_batch_of_any_size_and_own_images_train(here, monkeypatch, capsys):
    monkeypatch.setattr("pictures.draw_all", lambda *args: None)
    pictures_in(*PICTURES, ("x.png", "none"))(here)
    small = ["--architecture", "mlp", "--hidden-dims", "4", "--epochs", "1", "--batch-size", str(2**63)]
    vae_paper.main([*small, "--data", "mine", "--skip-bad", "--out", "run"])
    assert {"model.safetensors", "resume.pt", "metrics.csv"} < names_in(here / "run")
    assert "left out, as they are no images: 'x.png'" in capsys.readouterr().err


def test_a_run_of_level_2_is_looked_at(here, capsys):
    (here / "run").mkdir()
    vae_lowlevel.save_weights(here / "run" / "model.safetensors", vae_lowlevel.init_params(0, 2))
    run_files.write_config(here / "run", "vae_lowlevel.py", DEFAULT, {"data": "digits", "seed": 0})
    likelihood.main(["log-likelihood", "--run", "run", "--k", "2", "--images", "3"])
    assert "-log p(x), k=2" in capsys.readouterr().out


@pytest.mark.parametrize("script", PATHS)
def test_weights_without_metadata_are_read_with_a_note(refused, monkeypatch, tmp_path, capsys, script):
    weights(metadata=None)(tmp_path)
    monkeypatch.setattr("compare_levels.run_levels", lambda *args: {"1": ([np.ones(1)] * 2, 1.0)})
    main = __import__(script).main
    main(["--weights", "w.safetensors"])
    noted, plain = capsys.readouterr().err, []
    assert (
        noted == "note: w.safetensors does not say which model it is of: read as a VAE's, with a Bernoulli likelihood\n"
    )
    for model in ({"class": "VAE"}, {"class": "IWAE", "num_samples": 5}, {"class": "BetaTCVAE"}, {}):
        described(**model)(tmp_path)
        main(["--weights", "w.safetensors"])
        plain.append(capsys.readouterr().err)
    assert plain == [""] * 4


@pytest.mark.parametrize("level", [vae_numpy, vae_lowlevel])
def test_the_weights_of_levels_1_and_2_say_what_they_are(tmp_path, level):
    path = tmp_path / "w.safetensors"
    level.save_weights(path, level.init_params(0, 3))
    model = {"class": "VAE", "latent_dim": 3, "architecture": "conv", "image_shape": [1, 28, 28]}
    assert run_files.read_weights_metadata(path) == model | {"likelihood": "bernoulli"}


# --- Functions: a ValueError of one sentence that names the argument -------------------------------------------------

X, EPS = random_inputs(0, 2, 2, np.float32)


LEVELS = {
    "level 1": SimpleNamespace(
        module=vae_numpy,
        own="numpy.ndarray",
        array=np.asarray,
        foreign=torch.from_numpy,
        cast=lambda array, dtype: array.astype(dtype),
        params=PARAMS,
    ),
    "level 2": SimpleNamespace(
        module=vae_lowlevel,
        own="torch.Tensor",
        array=torch.tensor,
        foreign=lambda tensor: tensor.numpy(),
        cast=lambda tensor, dtype: tensor.to(getattr(torch, dtype)),
        params={name: torch.from_numpy(array) for name, array in PARAMS.items()},
    ),
}


def as_list(level, value):
    return value.tolist()


def as_foreign(level, value):
    return level.foreign(value)


def cast_to(dtype):
    return lambda level, value: level.cast(value, dtype)


def times(factor):
    return lambda level, value: value * 0 + factor


ARRAYS = {  # the arrays that each function takes
    "encode": ["x"], "reparameterize": ["mu", "logvar", "eps"], "decode": ["z"], "sample": ["z"],
    "kl_divergence": ["mu", "logvar"], "reconstruction_nll": ["logits", "x"], "forward": ["x", "eps"],
    "elbo": ["x", "eps"],
}  # fmt: skip
OF_PARAMS = ("encode", "decode", "sample", "forward", "elbo")
CALLS = {}  # name: (function, argument, how it is spoiled, words of the message)
for function, arguments in ARRAYS.items():
    for argument in arguments:
        name = f"{function}, {argument}"
        CALLS[f"{name} a list"] = (function, argument, as_list, f"{argument} must be a OWN, got list")
        CALLS[f"{name} of the other library"] = (function, argument, as_foreign, f"{argument} must be a OWN, got")
        CALLS[f"{name} None"] = (
            function,
            argument,
            lambda level, value: None,
            f"{argument} must be a OWN, got NoneType",
        )
        for dtype in ("int64", "bool", "float16", "complex64"):
            says = f"{argument} must be float32 or float64, got {dtype}"
            CALLS[f"{name} of {dtype}"] = (function, argument, cast_to(dtype), says)
for function, argument in (("encode", "x"), ("forward", "x"), ("elbo", "x"), ("decode", "z"), ("sample", "z")):
    says = rf"{argument} must have the dtype and device of the parameters \(float32, cpu\), got float64, cpu"
    CALLS[f"{function}, {argument} of float64"] = (function, argument, cast_to("float64"), says)
for beta in (float("nan"), float("inf"), -float("inf"), -1, -1e-9, "1", None, [1.0]):
    CALLS[f"elbo, beta {beta!r}"] = (
        "elbo",
        "beta",
        lambda level, value, beta=beta: beta,
        "beta must be a finite number",
    )
CALLS |= {
    "elbo, beta 1e308": ("elbo", "beta", lambda level, value: 1e308, "the ELBO must be finite"),
    "encode, uint8 images": ("encode", "x", cast_to("uint8"), "x must be .*, got uint8: scale it, as x / 255"),
    "decode, z 3e38": ("decode", "z", times(3e38), "logits must be finite"),
    "sample, z 3e38": ("sample", "z", times(3e38), "logits must be finite"),
    "reparameterize, eps 3e38": ("reparameterize", "eps", times(3e38), "z = mu .* must be finite"),
    "reparameterize, logvar 1e4": ("reparameterize", "logvar", times(1e4), "z = mu .* must be finite"),
    "forward, eps 3e38": ("forward", "eps", times(3e38), "must be finite"),
    "elbo, eps 1e38": ("elbo", "eps", times(1e38), "must be finite"),
    "elbo, eps minus infinity": ("elbo", "eps", times(-float("inf")), "eps must be finite"),
    "kl_divergence, logvar minus infinity": ("kl_divergence", "logvar", times(-float("inf")), "logvar must be finite"),
    "elbo, eps infinite": ("elbo", "eps", times(float("inf")), "eps must be finite"),
    "kl_divergence, mu 1e20": ("kl_divergence", "mu", times(1e20), "the KL divergence must be finite"),
    "kl_divergence, logvar 1e4": ("kl_divergence", "logvar", times(1e4), "the KL divergence must be finite"),
    "reconstruction_nll, logits 3e38": ("reconstruction_nll", "logits", times(3e38), "nll must be finite"),
    "reconstruction_nll, logits -3e38": ("reconstruction_nll", "logits", times(-3e38), "nll must be finite"),
    "reconstruction_nll, logits NaN": ("reconstruction_nll", "logits", times(float("nan")), "logits must be finite"),
}  # fmt: skip


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("level", LEVELS)
def test_a_function_refuses_in_one_sentence(level, name):
    function, argument, spoil, says = CALLS[name]
    level = LEVELS[level]
    latents = dict.fromkeys(("mu", "logvar", "eps", "z"), EPS)
    good = {key: level.array(value) for key, value in (latents | {"x": X, "logits": X + 1}).items()}
    values = [good[key] for key in ARRAYS[function]] + ([1.0] if function == "elbo" else [])
    place = [*ARRAYS[function], "beta"].index(argument)
    call = partial(getattr(level.module, function), *([level.params] if function in OF_PARAMS else []))
    call(*values)  # which must work
    values[place] = spoil(level, values[place])
    with pytest.raises(ValueError, match=says.replace("OWN", level.own)) as error:
        call(*values)
    assert_one_line(error)


@pytest.mark.parametrize("level", LEVELS)
def test_parameters_of_the_other_library_are_named(level):
    level, other = (LEVELS[level], *(LEVELS[other] for other in LEVELS if other != level))
    with pytest.raises(ValueError, match=f"the parameters must be {level.own}, got") as error:
        level.module.encode(other.params, level.array(X))
    assert_one_line(error)


@pytest.mark.parametrize("latent_dim", [10**9, 10**18, 10**300, np.int64(2**62)])
@pytest.mark.parametrize("level", [vae_numpy, vae_lowlevel])
def test_latents_that_no_memory_holds_are_refused_before_anything_is_allocated(monkeypatch, level, latent_dim):
    monkeypatch.setattr(np.random, "default_rng", lambda seed: pytest.fail("drew numbers"))
    with pytest.raises(MemoryError, match=f"latent_dim {latent_dim} would need .* GiB of memory") as error:
        level.init_params(0, latent_dim)
    assert_one_line(error)


@pytest.mark.parametrize("latent_dim", ["20", None, [20], 0, -1, 2.0, 1e30])
@pytest.mark.parametrize("level", [vae_numpy, vae_lowlevel])
def test_a_number_of_latents_is_an_integer(level, latent_dim):
    with pytest.raises(ValueError, match="latent_dim must be an integer of at least 1") as error:
        level.init_params(0, latent_dim)
    assert_one_line(error)


# --- Memory ----------------------------------------------------------------------------------------------------------

TORCH_WORDS = (
    "[enforce fail at alloc_cpu.cpp:117] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to allocate "
    "1024000000000 bytes. Error code 12 (Cannot allocate memory)"
)


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (MemoryError(), "not enough memory: the system gave no more"),
        (MemoryError("latent_dim 9 would need 5 GiB of memory, and this machine has 1 GiB"), "latent_dim 9 would need"),
        (RuntimeError(TORCH_WORDS), "not enough memory: PyTorch asked for 954 GiB more; this machine has"),
        (RuntimeError("Storage size calculation overflowed with sizes=[1, 2]"), "not enough memory: Storage size"),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB.\nSee documentation"), "out of memory"),
    ],
)
def test_memory_that_is_not_there_is_one_line(capsys, error, says):
    with pytest.raises(SystemExit) as stopped, level_script.one_line_errors("a.py"):
        raise error
    assert stopped.value.code == 2
    assert re.fullmatch(rf"a\.py: error: .*{re.escape(says)}.*\n", capsys.readouterr().err)


def test_what_numpy_and_pytorch_really_say(capsys):
    for allocate in (lambda: np.empty(2**60, np.int8), lambda: torch.empty(2**60, dtype=torch.int8)):
        with pytest.raises(SystemExit), level_script.one_line_errors("a.py"):
            allocate()
        message = capsys.readouterr().err
        assert message.startswith("a.py: error: not enough memory: ")
        assert message.count("\n") == 1


def test_any_other_runtime_error_is_our_bug():
    with pytest.raises(RuntimeError, match="shapes"), level_script.one_line_errors("a.py"):
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")


def test_a_machine_that_cannot_say_its_memory_refuses_nothing(monkeypatch):
    monkeypatch.delattr(os, "sysconf")
    input_checks.require_memory(2**80, "this")


# --- Training that ends badly ----------------------------------------------------------------------------------------


def test_a_divergence_in_the_first_epoch_leaves_no_folder(here, capsys):
    for out in ([], ["--out", "new/and/deep"]):
        with pytest.raises(SystemExit) as stopped:
            vae_lowlevel.main(["--lr", "1e30", "--batch-size", "10", "--epochs", "2", *out])
        assert stopped.value.code == 2
        assert re.search(
            r"vae_lowlevel.py: error: .* must be finite.*lower the learning rate\n$", capsys.readouterr().err
        )
        assert not list(here.iterdir())


def test_an_interrupt_in_training_says_that_the_run_is_lost(here, monkeypatch):
    def interrupted(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(vae_lowlevel, "train", interrupted)
    with pytest.raises(KeyboardInterrupt, match="nothing is kept"):
        vae_lowlevel.main(["--out", "run"])
    assert not list(here.iterdir())


def test_a_folder_that_was_there_stays(here, monkeypatch):
    (here / "mine").mkdir()
    monkeypatch.setattr(vae_lowlevel, "train", lambda *args: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        vae_lowlevel.main(["--out", "mine"])
    assert list(here.rglob("*")) == [here / "mine"]


# --- Full disks ------------------------------------------------------------------------------------------------------


@pytest.fixture
def full_disk(monkeypatch):
    """A function: let this many files be written, then there is no more room, in any folder or in this one."""

    def after(count, folder=""):
        system_fsync, written = os.fsync, []

        def fsync(descriptor):
            if len(written) >= count and folder in os.readlink(f"/proc/self/fd/{descriptor}"):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            written.append(descriptor)
            system_fsync(descriptor)

        monkeypatch.setattr(os, "fsync", fsync)

    return after


FULL = {  # script, files that find room, files that are there in the end, what the line says
    "level 1, no picture": ("vae_numpy", 0, None, "cannot write run/reconstructions.png (No space left on device)"),
    "level 1, one picture": ("vae_numpy", 1, {"reconstructions.png"}, "cannot write run/samples.png"),
    "level 2, no room for weights": ("vae_lowlevel", 0, None, "cannot write run/model.safetensors (No space left"),
    "level 2, no room for config": ("vae_lowlevel", 2, {"model.safetensors"}, "cannot write run/config.json"),
    "level 2, no room for curves": (
        "vae_lowlevel", 3, {"model.safetensors", "config.json"}, "cannot write run/loss_curves.png"
    ),
    "level 2, no room for samples": (
        "vae_lowlevel", 5, {"model.safetensors", "config.json", "loss_curves.png", "reconstructions.png"},
        "cannot write run/samples.png",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FULL)
def test_a_full_disk_is_one_line_and_leaves_whole_files_only(here, monkeypatch, capsys, full_disk, name):
    script, count, files, says = FULL[name]
    monkeypatch.setattr(vae_lowlevel, "train", lambda *args: [[1.0, 2.0, 3.0, 4.0]])
    full_disk(count)
    with pytest.raises(SystemExit) as stopped:
        {"vae_numpy": vae_numpy, "vae_lowlevel": vae_lowlevel}[script].main(["--out", "run"])
    assert stopped.value.code == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith(f"{script}.py: error: ")
    assert says in last
    if files is None:
        assert not list(here.iterdir())
    else:
        assert names_in(here / "run") == files


def test_trained_weights_that_find_no_room_are_kept_elsewhere(here, monkeypatch, capsys, full_disk):
    def trained(params, *args):
        params["encoder.mu.bias"].data.fill_(0.25)
        full_disk(0, folder="/run/")

    monkeypatch.setattr(vae_lowlevel, "train", trained)
    with pytest.raises(SystemExit) as stopped:
        vae_lowlevel.main(["--out", "run"])
    assert stopped.value.code == 2
    said = re.search(r"cannot write run/\S+ \(No space.*\); they were saved as (\S+)\n$", capsys.readouterr().err)
    assert (vae_numpy.load_weights(said[1])["encoder.mu.bias"] == 0.25).all()
    assert not (here / "run").exists()


def test_trained_weights_that_find_no_room_anywhere(here, monkeypatch, capsys, full_disk):
    monkeypatch.setattr(vae_lowlevel, "train", lambda *args: full_disk(0))
    with pytest.raises(SystemExit):
        vae_lowlevel.main(["--out", "run"])
    assert re.search(r"error: cannot write run/.*; and cannot write .*: they are lost\n$", capsys.readouterr().err)
    assert names_in(here.parent / "temporary") == set()
    assert not list(here.iterdir())


# --- Processes -------------------------------------------------------------------------------------------------------


def process(command, cwd, **environment):
    """Run a shell line in which {script} names are commands; the status is that of the script in a pipe."""
    scripts = {name: f"{sys.executable} {ROOT / path}" for name, path in PATHS.items()}
    scripts["vae_paper"] = f"{sys.executable} {ROOT / 'paper' / 'vae_paper.py'}"
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command.format(**scripts)],
        cwd=cwd, capture_output=True, text=True, errors="replace", env=os.environ | environment,
    )  # fmt: skip
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr
    return done


ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
STREAMS = {  # name: (shell line, exit status, stdout, all of stderr, environment), each a regular expression
    "a reader of one line": ("{vae_numpy} --help | head -1", 0, r"usage: .*\n", ""),
    "a reader of nothing": ("{vae_numpy} --help | true", 0, "", ""),
    "a reader of nothing, unbuffered": ("{vae_numpy} --help | true", 0, "", "", {"PYTHONUNBUFFERED": "1"}),
    "a reader of nothing, of both": ("{vae_numpy} --weights absent 2>&1 | true", 2, "", ""),
    "a full stdout": ("{vae_numpy} --help > /dev/full", 1, "", r"vae_numpy.py: error: cannot .* stdout \(No .*\)\n"),
    "a full stdout, unbuffered": (
        "{vae_numpy} --help > /dev/full", 1, "", r"vae_numpy.py: error: cannot .*\n", {"PYTHONUNBUFFERED": "1"}
    ),
    "a full stderr": ("{vae_numpy} --weights absent 2> /dev/full", 2, "", ""),
    "no stdout": ("{vae_numpy} --help >&-", 0, "", ""),
    "no stderr": ("{vae_numpy} --weights absent 2>&-", 2, "", ""),
    "no stream at all": ("{vae_numpy} --weights absent <&- >&- 2>&-", 2, "", ""),
    "help in ASCII": ("{vae_numpy} --help", 0, "usage: .*", "", {"PYTHONIOENCODING": "ascii"}),
    "help in cp1252": ("{vae_numpy} --help", 0, "usage: .*", "", {"PYTHONIOENCODING": "cp1252"}),
    "a path that ASCII cannot say": ("{vae_numpy} --weights räder", 2, "", r".*no weights at r\?+der.*\n", ASCII),
    "level 3's help in ASCII": ("{vae_paper} --help", 0, "usage: .*", "", {"PYTHONIOENCODING": "ascii"}),
    "no current folder": ("mkdir x; cd x; rmdir ../x; {vae_numpy}", 1, "", r".*the current directory is gone.*\n"),
}  # fmt: skip


@pytest.mark.parametrize("name", STREAMS)
def test_streams(tmp_path, name):
    command, status, stdout, stderr, *environment = STREAMS[name]
    done = process(command, tmp_path, **dict(*environment))
    assert done.returncode == status, done.stderr
    assert re.fullmatch(stdout, done.stdout, re.DOTALL)
    assert re.fullmatch(stderr, done.stderr)
    assert not list(tmp_path.iterdir())


def test_pictures_are_saved_without_a_reader_in_any_locale_and_into_no_stream(tmp_path):
    """One process for three things: stdout's reader has gone, stderr is closed, and the locale knows ASCII alone."""
    done = process("{vae_numpy} --out 'bilder ü' 2>&- | true", tmp_path, **ASCII)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert names_in(tmp_path / "bilder ü") == {"samples.png", "reconstructions.png"}


TINY = "{vae_paper} --architecture mlp --hidden-dims 4 --latent-dim 2 --train-images 8 --epochs 1 --device cpu"
DRAWN = {f"{name}.png" for name in ("loss_curves", "reconstructions", "samples", "latent_space", "interpolation")}


@pytest.mark.slow
def test_level_3_trains_and_draws_without_a_reader_in_any_locale_and_into_no_stream(tmp_path):
    done = process(f"{TINY} --out 'lauf ü' 2>&- | true", tmp_path, **ASCII)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert {"resume.pt", "model.safetensors", "metrics.csv"} | DRAWN < names_in(tmp_path / "lauf ü")


@pytest.mark.slow
def test_level_3_may_lose_its_reader_after_a_line(tmp_path):
    done = process(f"{TINY} --out run | head -1", tmp_path)
    assert done.returncode == 0
    assert re.fullmatch("digits, test set: 357 images.*\n", done.stdout)
    assert names_in(tmp_path / "run") > DRAWN


def test_an_interrupt_in_the_pictures_is_one_line_and_the_run_goes_on(here, monkeypatch, capsys):
    library = here.parent / "library" / "matplotlib"
    library.mkdir(parents=True)
    library.joinpath("__init__.py").write_text(CTRL_C, encoding="utf-8")
    done = process(f"{TINY} --out run", here, PYTHONPATH=str(library.parent))
    assert done.returncode == 130
    assert done.stderr.splitlines()[-1].startswith("vae_paper.py: interrupted")
    assert {"resume.pt", "model.safetensors"} < names_in(here / "run")
    monkeypatch.setattr(sklearn.datasets, "load_digits", lambda return_X_y: (DIGITS, LABELS))  # that process's
    vae_paper.main(["--resume", "run"])
    assert names_in(here / "run") > DRAWN


def test_a_closed_stderr_does_not_stop_training(tmp_path):
    code = """
        from level_script import run_as_script
        import torch, vae_lowlevel
        images = torch.zeros(4, 1, 28, 28, dtype=torch.uint8)
        run_as_script(lambda: print(len(vae_lowlevel.train(vae_lowlevel.init_params(0, 1), images, images, 2))))
    """
    (tmp_path / "short.py").write_text(textwrap.dedent(code), encoding="utf-8")
    done = process(f"{sys.executable} short.py 2>&-", tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "2\n", "")


@pytest.mark.slow
def test_the_table_of_the_levels_may_lose_its_reader(tmp_path):
    weights()(tmp_path)
    done = process("{compare_levels} --weights w.safetensors | head -1", tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert re.fullmatch("digits, test set: 357 images.*\n", done.stdout)


CTRL_C = "import os, signal, time\nos.kill(os.getpid(), signal.SIGINT)\ntime.sleep(9)\n"
INTERRUPTS = {  # script and flags, the package whose import Ctrl-C meets
    "level 1 at its start": ("{vae_numpy}", "numpy"),
    "level 1 in its data": ("{vae_numpy} --out run", "sklearn"),
    "level 1 in its pictures": ("{vae_numpy} --out run", "matplotlib"),
    "level 2 at its start": ("{vae_lowlevel}", "torch"),
    "the comparison at its start": ("{compare_levels} --weights x", "torch"),
}


@pytest.mark.parametrize("name", INTERRUPTS)
def test_an_interrupt_is_one_line_and_leaves_nothing(tmp_path, name):
    command, package = INTERRUPTS[name]
    (tmp_path / "library" / package).mkdir(parents=True)
    (tmp_path / "library" / package / "__init__.py").write_text(CTRL_C, encoding="utf-8")
    (tmp_path / "here").mkdir()
    done = process(command, tmp_path / "here", PYTHONPATH=str(tmp_path / "library"))
    assert done.returncode == 130
    assert re.search(r"(^|\n)\w+\.py: interrupted\n$", done.stderr)
    assert not list((tmp_path / "here").iterdir())


def test_nobody_elses_interrupt_is_our_business(tmp_path):
    code = "import sys, level_script; assert sys.excepthook is sys.__excepthook__"
    (tmp_path / "own.py").write_text(code, encoding="utf-8")
    assert subprocess.run([sys.executable, "own.py"], cwd=tmp_path).returncode == 0


# --- Folders that two want -------------------------------------------------------------------------------------------

CLAIM = """
import sys, time
from level_script import one_line_errors
from run_files import claim_run_folder, lock_run_folder
import filelock
start, out = float(sys.argv[1]), sys.argv[2] or None
time.sleep(max(0, start - time.time()))
with one_line_errors("a.py"), claim_run_folder(out, "a") as folder:
    (folder / "result").write_text("x", encoding="utf-8")
    print(folder, flush=True)
    time.sleep(0.3)
"""


def claims(count, out, cwd):
    """So many processes that want a folder at the same moment; their exit status, stdout and stderr."""
    command = [sys.executable, "-c", CLAIM, str(time.time() + 0.5 + 0.2 * count), out]
    running = [
        subprocess.Popen(command, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(count)
    ]
    return [(*process.communicate(), process.returncode) for process in running]


@pytest.mark.parametrize("repetition", [0, 1, *(pytest.param(i, marks=pytest.mark.slow) for i in range(2, 8))])
def test_of_two_that_want_one_new_folder_one_gets_it(tmp_path, repetition):
    (won, silent, zero), (nothing, line, two) = sorted(claims(2, "run", tmp_path), key=lambda done: done[-1])
    assert (won, silent, zero, nothing, two) == ("run\n", "", 0, "", 2)
    assert re.fullmatch(r"a\.py: error: --out run (belongs to a run that is still going|is not empty).*\n", line)
    assert names_in(tmp_path / "run") == {"result"}


def test_six_that_number_themselves_get_six_folders(tmp_path):
    done = claims(6, "", tmp_path)
    assert {status for *_, status in done} == {0}
    assert {out for out, *_ in done} == {f"runs/a-00{n}\n" for n in range(1, 7)}


def test_a_killed_owner_frees_its_folder(tmp_path):
    command = [sys.executable, "-c", CLAIM.replace("sleep(0.3)", "sleep(60)"), "0", "run"]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout.readline() == "run\n"
        folder = tmp_path / "run"
        with pytest.raises(FileExistsError, match="another process is at work on the run"):
            run_files.lock_run_folder(folder).__enter__()
        owner.send_signal(signal.SIGKILL)
    with run_files.lock_run_folder(folder) as locked:
        assert locked == folder
        with pytest.raises(FileExistsError, match="another process"):
            run_files.lock_run_folder(folder).__enter__()
    with run_files.lock_run_folder(folder):  # released at the end of the block
        assert names_in(folder) == {"result"}


def test_a_lock_that_was_left_behind_leaves_a_folder_empty(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / ".lock").touch()
    with run_files.claim_run_folder(tmp_path / "run", "a") as folder:
        assert folder == tmp_path / "run"


def test_a_run_that_is_not_there_cannot_be_locked(tmp_path):
    with pytest.raises(FileNotFoundError, match="no run in"), run_files.lock_run_folder(tmp_path / "absent"):
        pass
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.parametrize("script", ["vae_numpy", "vae_lowlevel"])
def test_two_runs_of_a_script_with_one_folder(tmp_path, script):
    flags = "" if script == "vae_numpy" else " --epochs 1 --batch-size 2000"
    for repetition in range(3):
        one = f"{{{script}}}{flags} --out {repetition}"
        done = process(f"{one} & {one}; first=$?; wait $!; echo $first $?", tmp_path)
        assert done.stdout.splitlines()[-1] in ("0 2", "2 0")
        assert len(re.findall(f"{script}.py: error: --out {repetition} (?:belongs|is not empty)", done.stderr)) == 1


@pytest.mark.slow
@pytest.mark.parametrize("script", ["vae_numpy", "vae_lowlevel"])
def test_a_disk_that_is_really_full(tmp_path, script):
    """The system itself refuses to let a file grow beyond 8 KB."""
    done = process(f"ulimit -f 8; {{{script}}} --out run", tmp_path)
    assert done.returncode == 2
    assert re.search(rf"{script}.py: error: cannot write run/\S+ \(File too large\)\n$", done.stderr)
    assert not list(tmp_path.iterdir())
