"""The papers' scripts, each with options that make it small, and what their output and their folders are read by."""

import contextlib
import csv
import importlib
import re
from dataclasses import dataclass, field

import numpy as np
import pytest
from PIL import Image

import experiment
import pictures
import vq_vae
from experiment import TrainingConfig
from in_process import run_main
from trainer import train

REAL = [(experiment, "train", train), (pictures, "draw_all", pictures.draw_all), (vq_vae, "draw", vq_vae.draw)]


@contextlib.contextmanager
def nothing_replaced():
    """For a fixture that trains, whatever the test that asks first has replaced."""
    with pytest.MonkeyPatch.context() as patch:
        for module, name, function in REAL:
            patch.setattr(module, name, function)
        yield


def run(script, *args, cwd):
    """Call a script's main() in a folder. Returns its exit code, its stdout and its stderr."""
    return run_main(importlib.import_module(script).main, *args, cwd=cwd)


@dataclass
class Paper:
    """A script with options that make it small, and what is expected of it."""

    flags: list  # of the model
    shared: list  # that a report needs as well
    binarised: str  # in the report's header
    terms: list
    elbo_terms: tuple = ("reconstruction_nll", "kl_divergence")
    pictures: tuple = (
        "loss_curves", "reconstructions", "samples", "latent_space", "interpolation", "traversal"
    )  # fmt: skip
    own_option: tuple = ()  # one that makes the model another
    units: dict = field(default_factory=dict)  # of the terms that are not in nats per image


GREY, FRESH, FIXED = "grey (not binarised)", "binarised for this report with seed 0", "binarised once with seed 0"
VAE_TERMS = ["loss", "reconstruction_nll", "kl_divergence"]
PAPERS = {
    "vae_paper": Paper(
        ["--architecture", "mlp", "--hidden-dims", 16, "--latent-dim", 3], [], GREY, VAE_TERMS,
        own_option=("--beta", 4),
    ),
    "iwae": Paper(
        ["--k", 3, "--hidden-dims", 16, "--latent-dim", 4], ["--binarisation", "fresh"], FRESH, VAE_TERMS,
        own_option=("--k", 7),
    ),
    "factor_vae": Paper(
        ["--discriminator-width", 32, "--discriminator-depth", 2, "--latent-dim", 3], [], GREY,
        [*VAE_TERMS, "total_correlation", "discriminator_nll"], own_option=("--gamma", 2),
        units={"discriminator_nll": "nats per decision"},
    ),
    "beta_tcvae": Paper(
        ["--latent-dim", 3], ["--binarisation", "fixed"], FIXED,
        [*VAE_TERMS, "mutual_information", "total_correlation", "dimension_wise_kl"], own_option=("--alpha", 2),
    ),
    "vq_vae": Paper(
        ["--num-codes", 16, "--code-dim", 4], [], GREY,
        ["loss", "reconstruction_nll", "prior_nll", "distance", "perplexity"], ("reconstruction_nll", "prior_nll"),
        ("loss_curves", "reconstructions", "samples", "codebook_use"), ("--num-codes", 3),
        {"distance": "squared distance", "perplexity": "entries of a batch"},
    ),
}  # fmt: skip
ON_CPU = ["--device", "cpu", "--batch-size", 50]  # four steps an epoch


def own_config(script):
    """The dataclass of a script's own options."""
    [config] = [
        value
        for value in vars(importlib.import_module(script)).values()
        if isinstance(value, type) and issubclass(value, TrainingConfig) and value is not TrainingConfig
    ]
    return config


def parsed(stdout):
    """The first line of a report, its named numbers, and their units where it is not the nat."""
    lines = stdout.splitlines()
    assert lines[1] == "mean over the images, in nats per image"
    named = [re.fullmatch(r"  (\S+) +(-?\d+\.\d{3})(?: (\D+))?", line) for line in lines[2:]]
    named = [match for match in named if match]
    units = {match[1]: match[3] for match in named if match[3]}
    return lines[0], {match[1]: float(match[2]) for match in named}, units


def metrics(folder):
    """The rows of metrics.csv as text, without the seconds, which no two runs share."""
    with (folder / "metrics.csv").open(encoding="utf-8") as file:
        return [{name: value for name, value in row.items() if name != "seconds"} for row in csv.DictReader(file)]


def assert_is_a_picture(path):
    with Image.open(path) as image:
        assert image.format == "PNG"
        grey = np.asarray(image.convert("L"))
    values, counts = np.unique(grey, return_counts=True)
    assert len(values) > 20, path
    assert counts.max() < 0.99 * counts.sum(), path
