"""Hostile input, one row per case: the exit status, one line on stderr, nothing left behind.

Most rows call a script's main() or a function in the test's own process and cost milliseconds. Where the process is the
point (streams, locales, signals, races, a full disk) the row starts one; what takes more than a second is slow.
"""

import errno
import itertools
import os
import re
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import sklearn.datasets
import torch
from comparison import assert_one_line, random_inputs
from safetensors.numpy import save_file

import input_checks
import level_script
import run_files
import vae_lowlevel
import vae_numpy
from image_data import load_uint8_images
from run_files import weights_metadata

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


VAE = weights_metadata({"class": "VAE"})


def weights(metadata=VAE, **changes):
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


@pytest.mark.parametrize("name", ROWS)
def test_it_is_refused_in_one_line(refused, tmp_path, name):
    script, args, says, given = ROWS[name]
    if given:
        given(tmp_path)
    message = refused(script, *args, own=not re.match(r"\(?argument", says))  # those of argparse show the usage too
    assert re.search(says, message.splitlines()[-1]), message


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
    ctrl_c = "import os, signal, time\nos.kill(os.getpid(), signal.SIGINT)\ntime.sleep(9)\n"
    (tmp_path / "library" / package / "__init__.py").write_text(ctrl_c, encoding="utf-8")
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
    print(folder, flush=True)
    (folder / "result").write_text("x", encoding="utf-8")
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
