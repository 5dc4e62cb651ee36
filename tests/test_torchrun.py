"""The scripts under torchrun: the same weights, table and report as by one process, one folder; and what ends them.

That every paper's steps are the same in two processes is tested in test_processes.py; here are whole scripts.
"""

import contextlib
import csv
import importlib
import io
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file

import resume
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
    # Losses that look at the whole batch; the last one of 33 images is a single one, or joins the one before it.
    "free bits": ("vae_paper", [*MLP, "--free-bits", 0.5, "--train-images", 33], 2),
    "capacity": ("vae_paper", [*MLP, "--capacity", 5, "--kl-steps", 4, "--train-images", 33], 2),
    "total correlation": ("beta_tcvae", ["--train-images", 33], 2),
    "total correlation, weighted": ("beta_tcvae", ["--estimator", "mws", "--train-images", 33], 2),
    "a discriminator": ("factor_vae", ["--discriminator-width", 32, "--train-images", 33], 2),
    "a codebook": ("vq_vae", ["--train-images", 33], 2),
    "a codebook with gradients": ("vq_vae", ["--codebook", "gradient", "--train-images", 33], 2),
}
FAST = "k samples, drawn anew, an image left over"
FILES = {"model.safetensors", "config.json", "resume.pt", "metrics.csv", "summary.json"}
PICTURES = {"loss_curves", "reconstructions", "samples", "latent_space", "interpolation", "traversal"}
VQ_PICTURES = {"loss_curves", "reconstructions", "samples", "codebook_use"}


def torchrun_command(script, *args, logs=None):
    """Two processes of a script, a paper's or any other; in the folder `logs`, each process's streams."""
    start = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    start += [] if logs is None else ["--redirects", "3", "--log-dir", str(logs)]
    return [*start, str(PAPER / f"{script}.py"), *map(str, args)]


def logged(logs):
    """What each process wrote to stderr."""
    return [path.read_text() for path in sorted(logs.glob("*/*/*/stderr.log"))]


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
        patch.setattr("vq_vae.draw", lambda *args: None)
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(io.StringIO()):
            importlib.import_module(script).main([str(arg) for arg in args])
    return out.getvalue()


@pytest.fixture(scope="module", params=[pytest.param(name, marks=[pytest.mark.slow] * (name != FAST)) for name in RUNS])
def pair(request, tmp_path_factory):
    """One of RUNS, by one process and by two."""
    script, options, epochs = RUNS[request.param]
    cwd = tmp_path_factory.mktemp("pair")
    args = [*FLOAT64, *options, "--epochs", epochs]
    report = alone(script, *args, "--out", "one", cwd=cwd)
    done = torchrun(script, *args, "--out", "two", cwd=cwd)
    assert done.returncode == 0, done.stderr
    pictures = VQ_PICTURES if script == "vq_vae" else PICTURES
    files = FILES | {f"{name}.png" for name in pictures}
    return SimpleNamespace(
        cwd=cwd, files=files, one=cwd / "one", two=cwd / "two", report=report, done=done, epochs=epochs
    )


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
    assert not any("digits, test set" in line for line in more)
    for line, other in zip(pair.done.stdout.splitlines(), pair.report.splitlines(), strict=True):
        for word, expected in zip(line.split(), other.split(), strict=True):
            with contextlib.suppress(ValueError):
                expected, word = pytest.approx(float(expected), abs=1.1e-3), float(word)
            assert word == expected
    assert {path.name for path in pair.two.iterdir()} - {".lock"} == pair.files
    assert {path.name for path in pair.cwd.iterdir()} == {"one", "two"}
    assert pair.done.stderr.count("weights and pictures in two") == 1
    assert "Traceback" not in pair.done.stderr
    assert "Warning" not in pair.done.stderr


def test_the_summary_counts_the_processes(pair):
    one, two = (json.loads((folder / "summary.json").read_text()) for folder in (pair.one, pair.two))
    assert (one["processes"], two["processes"]) == (1, 2)
    assert one["precision"] == two["precision"] == "float64"
    assert one["binarisation"] == two["binarisation"]


@pytest.mark.slow
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


@pytest.mark.slow
def test_a_batch_of_one_image_is_not_shared(tmp_path):
    done = torchrun("vae_paper", "--batch-size", 1, "--epochs", 1, "--device", "cpu", cwd=tmp_path)
    assert done.returncode != 0
    assert done.stdout == ""
    message = "2 processes cannot share batches of 1 images: start fewer, or give a larger --batch-size"
    line = f"vae_paper.py: error: {message}\n"
    assert done.stderr.count(line) == done.stderr.count("vae_paper.py: error:") == 1
    assert not list(tmp_path.iterdir())


def refusal(script, *args, cwd):
    """What a script says in this process, which takes itself for one of two."""
    err = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.chdir(cwd), contextlib.redirect_stderr(err):
        patch.setattr(trainer, "num_processes", lambda: 2)
        with pytest.raises(SystemExit) as stopped:
            importlib.import_module(script).main([*map(str, args), "--device", "cpu"])
    assert stopped.value.code == 2
    assert not list(cwd.iterdir())
    return err.getvalue()


@pytest.mark.parametrize("flags", [["--batch-size", 1], ["--train-images", 1]], ids=lambda flags: flags[0])
@pytest.mark.parametrize("script", ["vae_paper", "iwae", "vq_vae"])
def test_no_process_may_be_left_without_images(tmp_path, script, flags):
    assert "2 processes cannot share batches of 1 images" in refusal(script, *flags, cwd=tmp_path)


@pytest.mark.slow
def test_what_the_first_process_refuses_alone_is_said_once(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "something").touch()
    command = torchrun_command("vae_paper", "--device", "cpu", "--out", "run", logs=tmp_path / "logs")
    done = subprocess.run(command, cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=LIMIT)
    assert done.returncode != 0
    first, second = logged(tmp_path / "logs")
    assert first.startswith("vae_paper.py: error: --out run is not empty")
    assert first.count("\n") == 1
    assert second == ""
    assert {path.name for path in (tmp_path / "run").iterdir()} == {"something"}


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
    assert stderr.count("; go on with: ") == 1
    state = resume.read_state(tmp_path / "run", "vae_paper.py")
    done = len(state["rows"]) + 1
    assert state["processes"] == 2
    # The state's sums are those of both processes, so that one alone goes on as if it had been alone from the start.
    alone("vae_paper", "--resume", "run", "--epochs", done, cwd=tmp_path)
    alone("vae_paper", *args, "--epochs", done, "--out", "whole", cwd=tmp_path)
    assert_same_run(tmp_path / "whole", tmp_path / "run")


def child(process, rank):
    """The number of one of torchrun's processes."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    return next(int(pid) for pid in children if f"RANK={rank}\0".encode() in Path(f"/proc/{pid}/environ").read_bytes())


def len_of_table(run):
    """The lines of metrics.csv, the header and one for each epoch; 0 before the first."""
    path = run / "metrics.csv"
    return len(path.read_text().splitlines()) if path.exists() else 0


def assert_says_that_the_other_is_lost(stderr, script):
    """One line, and in it a line to type."""
    lost = "another process of this run has ended or does not answer; go on with: "
    assert stderr.startswith(f"{script}.py: error: {lost}")
    assert stderr.endswith(".py --resume run\n")
    assert stderr.count("\n") == 1


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="looks for torchrun's processes in /proc")
def test_kill_9_of_one_process_ends_the_other_with_one_line_and_the_run_goes_on(tmp_path):
    args = ["--device", "cpu", "--train-images", 83, "--batch-size", 20, "--save-seconds", 0]
    options = [*args, "--out", "run"]
    for rank in (1, 0):  # the run is killed, goes on, and is killed again
        logs, before = tmp_path / f"logs-{rank}", len_of_table(tmp_path / "run")
        process = subprocess.Popen(
            torchrun_command("vq_vae", *options, "--epochs", 100_000, logs=logs),
            cwd=tmp_path, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        try:
            deadline = time.monotonic() + LIMIT
            while time.monotonic() < deadline and len_of_table(tmp_path / "run") < before + 3:
                time.sleep(0.01)
            time.sleep(random.uniform(0, 0.3))  # anywhere in an epoch
            os.kill(child(process, rank), signal.SIGKILL)
            process.communicate(timeout=20)
        finally:
            process.kill()
        assert process.returncode != 0
        stderr = logged(logs)
        assert stderr.pop(rank) == ""
        assert_says_that_the_other_is_lost(*stderr, "vq_vae")
        done = len(resume.read_state(tmp_path / "run", "vq_vae.py")["rows"])
        options = ["--resume", "run"]
    assert done > 1
    for options in (["--resume", "run"], [*args, "--out", "whole"]):
        finished = torchrun("vq_vae", *options, "--epochs", done + 1, cwd=tmp_path)
        assert finished.returncode == 0, finished.stderr
    whole, run = tmp_path / "whole", tmp_path / "run"
    assert (run / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()
    assert rows(run) == rows(whole)


@pytest.mark.slow
def test_a_process_that_falls_silent_ends_the_others_after_the_time_out(tmp_path):
    (tmp_path / "silent.py").write_text(
        """
import os, signal, time
from datetime import timedelta

import experiment, vae_paper

experiment.TIMEOUT = timedelta(seconds=2)
terms, steps = vae_paper.VAE.terms, []

def silent(*args):
    steps.append(args)
    if len(steps) == 5 and os.environ["RANK"] == "1":
        signal.signal(signal.SIGTERM, signal.SIG_DFL)  # it ends as soon as torchrun asks it to
        time.sleep(600)
    return terms(*args)

vae_paper.VAE.terms = silent
vae_paper.main()
"""
    )
    logs = tmp_path / "logs"
    command = torchrun_command(tmp_path / "silent", *MLP, "--device", "cpu", "--out", "run", logs=logs)
    done = subprocess.run(command, cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=LIMIT)
    assert done.returncode != 0
    first, second = logged(logs)
    assert_says_that_the_other_is_lost(first, "vae_paper")
    assert second == ""
