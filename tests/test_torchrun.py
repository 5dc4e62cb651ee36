"""Real processes under torchrun against one process: the same weights, the same table, one report, one folder."""

import contextlib
import csv
import importlib
import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file

import trainer

PAPER = Path(__file__).resolve().parent.parent / "paper"
LIMIT = 120  # seconds for a subprocess; it takes a tenth of them
FLOAT64 = ["--precision", "float64", "--device", "cpu", "--data", "digits", "--batch-size", 16]
MLP = ["--architecture", "mlp", "--hidden-dims", 32]
RUNS = {  # name: script, options, epochs
    "even batches": ("vae_paper", [*MLP, "--train-images", 80], 4),  # 20 steps
    # Ends on a batch of one image, so that one of two processes has none.
    "k samples, drawn anew, an image left over": (
        "iwae",
        ["--k", 3, "--hidden-dims", 16, "--train-images", 81, "--binarisation", "fresh"],
        3,
    ),
    "convolutions and classes": ("vae_paper", ["--conditional", "--latent-dim", 3, "--train-images", 33], 2),
    "autoencoder": ("vae_paper", [*MLP, "--autoencoder", "--train-images", 33], 2),
}
SLOW = ("convolutions and classes", "autoencoder")
PICTURES = {"loss_curves", "reconstructions", "samples", "latent_space", "interpolation", "traversal"}
FILES = {"model.safetensors", "config.json", "resume.pt", "metrics.csv", "summary.json"} | {
    f"{name}.png" for name in PICTURES
}


def torchrun_command(script, *args):
    start = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    return [*start, str(PAPER / f"{script}.py"), *map(str, args)]


def environment():
    return os.environ | {"OMP_NUM_THREADS": "1", "TQDM_DISABLE": "1"}


def torchrun(script, *args, cwd):
    """Two processes of a script."""
    return subprocess.run(
        torchrun_command(script, *args), cwd=cwd, env=environment(), capture_output=True, text=True, timeout=LIMIT
    )


def alone(script, *args, cwd):
    """The script in this process, without pictures. Gives its stdout."""
    out = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.chdir(cwd):
        patch.setattr("pictures.draw_all", lambda *args: None)
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(io.StringIO()):
            importlib.import_module(script).main([str(arg) for arg in args])
    return out.getvalue()


@pytest.fixture(scope="module", params=[pytest.param(name, marks=[pytest.mark.slow] * (name in SLOW)) for name in RUNS])
def pair(request, tmp_path_factory):
    """One of RUNS, by one process and by two."""
    script, options, epochs = RUNS[request.param]
    cwd = tmp_path_factory.mktemp("pair")
    args = [*FLOAT64, *options, "--epochs", epochs]
    report = alone(script, *args, "--out", "one", cwd=cwd)
    done = torchrun(script, *args, "--out", "two", cwd=cwd)
    assert done.returncode == 0, done.stderr
    return SimpleNamespace(cwd=cwd, one=cwd / "one", two=cwd / "two", report=report, done=done, epochs=epochs)


def rows(folder):
    with (folder / "metrics.csv").open() as file:
        return [
            {name: float(value) for name, value in row.items() if name != "seconds"} for row in csv.DictReader(file)
        ]


def assert_same_run(one, two):
    weights, others = (load_file(folder / "model.safetensors") for folder in (one, two))
    assert weights.keys() == others.keys()
    for name, tensor in weights.items():
        assert others[name].dtype == tensor.dtype == torch.float64
        torch.testing.assert_close(others[name], tensor, rtol=0, atol=1e-8, msg=lambda text, name=name: name + text)
    for row, other in zip(rows(one), rows(two), strict=True):
        # The table rounds to four digits; beyond that the two may not differ.
        assert other == pytest.approx(row, rel=1e-6, abs=1.1e-4)


def test_two_processes_take_the_steps_of_one(pair):
    assert len(rows(pair.two)) == pair.epochs
    assert_same_run(pair.one, pair.two)


def test_two_processes_print_one_report_and_own_one_folder(pair):
    first, *more = pair.done.stdout.splitlines()
    assert first.startswith("digits, test set: 357 images")
    assert not any("test set" in line for line in more)
    for line, other in zip(pair.done.stdout.splitlines(), pair.report.splitlines(), strict=True):
        for word, expected in zip(line.split(), other.split(), strict=True):
            with contextlib.suppress(ValueError):
                expected, word = pytest.approx(float(expected), abs=1.1e-3), float(word)
            assert word == expected
    assert {path.name for path in pair.two.iterdir()} == FILES
    assert {path.name for path in pair.cwd.iterdir()} == {"one", "two"}
    assert pair.done.stderr.count("weights and pictures in two") == 1
    assert "Traceback" not in pair.done.stderr
    assert "Warning" not in pair.done.stderr


def test_the_summary_counts_the_processes(pair):
    one, two = (json.loads((folder / "summary.json").read_text()) for folder in (pair.one, pair.two))
    assert (one["processes"], two["processes"]) == (1, 2)
    assert one["precision"] == two["precision"] == "float64"
    assert one["binarisation"] == two["binarisation"]


def test_a_run_of_one_process_goes_on_in_two(tmp_path):
    args = [*FLOAT64, *MLP, "--train-images", 80]
    for out, epochs in (("whole", 4), ("run", 2)):
        alone("vae_paper", *args, "--epochs", epochs, "--out", out, cwd=tmp_path)
    done = torchrun("vae_paper", "--resume", "run", "--epochs", 4, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    note = "note: the run was started with processes 1, this is 2: last digits may differ\n"
    assert done.stderr.count(note) == done.stderr.count("note:") == 1
    assert len(rows(tmp_path / "run")) == 4
    assert_same_run(tmp_path / "whole", tmp_path / "run")


# --- What two processes cannot do ------------------------------------------------------------------------------------

COUPLED = {  # script: options, the model's name
    "vq_vae": ([], "VQVAE"),
    "factor_vae": (["--discriminator-width", 32], "FactorVAE"),
    "beta_tcvae": ([], "BetaTCVAE"),
    "vae_paper": (["--free-bits", 1], "VAE"),
}


@pytest.mark.parametrize(
    "script", [pytest.param(name, marks=[pytest.mark.slow] * (name != "vae_paper")) for name in COUPLED]
)
def test_a_loss_that_couples_the_batch_is_refused_once(tmp_path, script):
    options, name = COUPLED[script]
    done = torchrun(script, *options, "--epochs", 1, "--device", "cpu", cwd=tmp_path)
    assert done.returncode != 0
    assert done.stdout == ""
    line = f"{script}.py: error: the loss of this {name} couples the whole batch: train it in one process, not 2\n"
    assert done.stderr.count(line) == done.stderr.count(f"{script}.py: error:") == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_batch_of_one_image_is_not_shared(tmp_path):
    done = torchrun("vae_paper", "--batch-size", 1, "--epochs", 1, "--device", "cpu", cwd=tmp_path)
    assert done.returncode != 0
    assert done.stderr.count("2 processes cannot share batches of 1 images") == 1
    assert not list(tmp_path.iterdir())


def refusal(script, *args, cwd):
    """What a script says in this process, which takes itself for one of two."""
    err = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.chdir(cwd), contextlib.redirect_stderr(err):
        patch.setattr(trainer, "processes", lambda: 2)
        with pytest.raises(SystemExit) as stopped:
            importlib.import_module(script).main([*map(str, args), "--device", "cpu"])
    assert stopped.value.code == 2
    assert not list(cwd.iterdir())
    return err.getvalue()


@pytest.mark.parametrize("script", COUPLED)
def test_every_loss_that_couples_the_batch_knows_it(tmp_path, script):
    options, name = COUPLED[script]
    message = f"the loss of this {name} couples the whole batch: train it in one process, not 2"
    assert refusal(script, *options, cwd=tmp_path) == f"{script}.py: error: {message}\n"


def test_a_capacity_couples_the_batch_too(tmp_path):
    assert "couples the whole batch" in refusal("vae_paper", "--capacity", 5, "--kl-steps", 10, cwd=tmp_path)


@pytest.mark.parametrize("flags", [["--batch-size", 1], ["--train-images", 1]], ids=lambda flags: flags[0])
@pytest.mark.parametrize("script", ["vae_paper", "iwae"])
def test_no_process_may_be_left_without_images(tmp_path, script, flags):
    assert "2 processes cannot share batches of 1 images" in refusal(script, *flags, cwd=tmp_path)


# --- Stopping --------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_two_processes_that_are_asked_to_stop_leave_a_run_that_goes_on(tmp_path):
    args = [*FLOAT64, *MLP, "--train-images", 80, "--save-seconds", 0]
    process = subprocess.Popen(
        torchrun_command("vae_paper", *args, "--epochs", 100_000, "--out", "run"),
        cwd=tmp_path, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        deadline = time.monotonic() + LIMIT
        while not (tmp_path / "run" / "metrics.csv").exists() and time.monotonic() < deadline:
            time.sleep(0.2)
        process.send_signal(signal.SIGTERM)
        _, stderr = process.communicate(timeout=LIMIT)
    finally:
        process.kill()
    assert process.returncode != 0
    assert stderr.count("go on with: python") == 1
    state = trainer.read_state(tmp_path / "run", "vae_paper.py")
    done = len(state["rows"]) + 1
    assert state["processes"] == 2
    # The state's sums are those of both processes, so that one alone goes on as if it had been alone from the start.
    alone("vae_paper", "--resume", "run", "--epochs", done, cwd=tmp_path)
    alone("vae_paper", *args, "--epochs", done, "--out", "whole", cwd=tmp_path)
    assert_same_run(tmp_path / "whole", tmp_path / "run")
