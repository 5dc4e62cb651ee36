"""A run that is stopped, by whatever and whenever, goes on to the same end as one that was not."""

import errno
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

import trainer
from experiment import ResidentImages, TrainingConfig, parse_config
from trainer import Interrupted, read_state, train
from vae_paper import VAE, ConditionalVAE, VaeConfig, main

ROOT = Path(__file__).resolve().parent.parent
SCRIPT = ROOT / "paper" / "vae_paper.py"


@pytest.fixture(scope="module")
def images():
    """Ten training and five test images: with a batch size of 4 an epoch has three steps, the last one short."""
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (15, 1, 28, 28), dtype=torch.uint8, generator=generator)
    labels = torch.arange(15) % 10
    return ResidentImages(pixels[:10], labels[:10]), ResidentImages(pixels[10:], labels[10:])


def new_model(conditional=False):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return (ConditionalVAE if conditional else VAE)(latent_dim=2)


def config(**options):
    return TrainingConfig(**{"epochs": 3, "batch_size": 4, "save_seconds": 0.0} | options)


def without_clock(rows):
    return [{name: value for name, value in row.items() if name != "seconds"} for row in rows]


def assert_same_weights(a, b):
    for name, tensor in a.state_dict().items():
        assert torch.equal(tensor, b.state_dict()[name]), name


class PowerCutError(Exception):
    """The process ends here."""


def cut_after(monkeypatch, number):
    """The power goes right after the resume state is committed for the given time, before anything else is written."""
    commits = []
    write = trainer.write_beside

    def write_and_die(path, content):
        write(path, content)
        if path.name == trainer.RESUME_STATE:
            commits.append(path)
            if len(commits) == number:
                raise PowerCutError

    monkeypatch.setattr(trainer, "write_beside", write_and_die)


@pytest.mark.parametrize("conditional", [False, True])
@pytest.mark.parametrize("commit", range(1, 11))  # before the first step, then after each of nine
def test_every_commit_is_a_place_to_go_on_from(images, tmp_path, monkeypatch, commit, conditional):
    whole = new_model(conditional)
    rows = train(whole, *images, config())
    with monkeypatch.context() as patch:
        cut_after(patch, commit)
        with pytest.raises(PowerCutError):
            train(new_model(conditional), *images, config(), tmp_path, script="s")
    state = read_state(tmp_path, "s")
    assert 3 * (state["epoch"] - 1) + state["step"] == commit - 1
    resumed = new_model(conditional)
    resumed_rows = train(resumed, *images, config(), tmp_path, state, "s")
    assert_same_weights(whole, resumed)
    assert without_clock(resumed_rows) == without_clock(rows)
    assert_same_weights(whole, VAE.load(tmp_path))
    assert len((tmp_path / "metrics.csv").read_text().splitlines()) == 4


def test_a_finished_run_can_get_more_epochs(images, tmp_path):
    whole = new_model()
    rows = train(whole, *images, config(epochs=4))
    train(new_model(), *images, config(epochs=2), tmp_path, script="s")
    resumed = new_model()
    more = train(resumed, *images, config(epochs=4), tmp_path, read_state(tmp_path, "s"), "s")
    assert_same_weights(whole, resumed)
    assert without_clock(more) == without_clock(rows)


def test_derived_files_are_repaired(images, tmp_path):
    train(new_model(), *images, config(), tmp_path, script="s")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    for name in before.keys() - {trainer.RESUME_STATE}:
        (tmp_path / name).unlink()
    train(new_model(), *images, config(), tmp_path, read_state(tmp_path, "s"), "s")
    after = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert after.keys() == before.keys()
    assert after["metrics.csv"] == before["metrics.csv"]
    assert after["model.safetensors"] == before["model.safetensors"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_step_saves_and_stops(images, tmp_path, number):
    model, steps = new_model(), []
    terms = model.terms

    def terms_then_signal(*args):
        if model.training and torch.is_grad_enabled():
            steps.append(args)
            if len(steps) == 5:
                os.kill(os.getpid(), number)
        return terms(*args)

    model.terms = terms_then_signal
    before = signal.getsignal(number)
    with pytest.raises(Interrupted, match="epoch 2"):
        train(model, *images, config(save_seconds=1e9), tmp_path, script="s")
    assert signal.getsignal(number) is before
    state = read_state(tmp_path, "s")
    assert (state["epoch"], state["step"]) == (2, 2)  # the fifth step is done, not lost


def test_a_loss_that_is_not_finite_is_named_and_the_last_good_state_kept(images, tmp_path):
    model = new_model()
    terms, steps = model.terms, []

    def terms_then_nan(*args):
        result = terms(*args)
        if torch.is_grad_enabled():
            steps.append(args)
            if len(steps) == 5:
                result["kl_divergence"] = result["kl_divergence"] * torch.nan
        return result

    model.terms = terms_then_nan
    with pytest.raises(FloatingPointError, match="kl_divergence became NaN or infinite in step 2 of epoch 2"):
        train(model, *images, config(), tmp_path, script="s")
    state = read_state(tmp_path, "s")
    assert (state["epoch"], state["step"]) == (2, 1)
    assert all(torch.isfinite(tensor).all() for tensor in state["model"].values())


def test_a_full_disk_loses_nothing(images, tmp_path, monkeypatch):
    commits = []
    fsync = os.fsync

    def full(descriptor):
        commits.append(descriptor)
        if len(commits) > 20:
            raise OSError(errno.ENOSPC, "No space left on device")
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        train(new_model(), *images, config(), tmp_path, script="s")
    monkeypatch.undo()
    whole, resumed = new_model(), new_model()
    train(whole, *images, config())
    train(resumed, *images, config(), tmp_path, read_state(tmp_path, "s"), "s")
    assert_same_weights(whole, resumed)


# --- The command line ------------------------------------------------------------------------------------------------


@pytest.fixture
def finished(images, tmp_path):
    """The folder of a run of vae_paper.py with one epoch."""
    folder = tmp_path / "run"
    folder.mkdir()
    train(new_model(), *images, VaeConfig(epochs=1, latent_dim=2, beta=2.0), folder, script="vae_paper.py")
    return folder


def test_resume_needs_no_other_option(finished):
    parsed, state = parse_config(VaeConfig, ["--resume", str(finished)], "vae_paper.py")
    assert (parsed.epochs, parsed.latent_dim, parsed.beta, parsed.resume) == (1, 2, 2.0, finished)
    assert len(state["rows"]) == 1
    parsed, _ = parse_config(VaeConfig, [f"--resume={finished}", "--epochs", "5", "--device", "cpu"], "vae_paper.py")
    assert (parsed.epochs, parsed.device) == (5, "cpu")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--beta", "4"], "--beta was 2.0, cannot become 4.0"),
        (["--lr", "0.01"], "--lr was 0.001, cannot become 0.01"),
        (["--seed", "1"], "--seed was 0, cannot become 1"),
        (["--batch-size", "64"], "--batch-size was 128, cannot become 64"),
        (["--data", "mnist"], "--data was digits, cannot become mnist"),
        (["--conditional"], "--conditional was False, cannot become True"),
        (["--hidden-dims", "3"], "--hidden-dims was"),
        (["--out", "elsewhere"], "--out was None, cannot become elsewhere"),
    ],
)
def test_a_changed_option_is_refused_by_name(finished, capsys, flags, message):
    before = {path: path.read_bytes() for path in finished.iterdir()}
    with pytest.raises(SystemExit) as stopped:
        main(["--resume", str(finished), *flags])
    error = capsys.readouterr().err
    assert stopped.value.code == 2
    assert message in error
    assert error.count("\n") == 1
    assert {path: path.read_bytes() for path in finished.iterdir()} == before


def damage(kind, folder):
    path = folder / trainer.RESUME_STATE
    content = path.read_bytes()
    if kind == "missing folder":
        return folder / "none"
    if kind == "no state":
        path.unlink()
    elif kind == "truncated":
        path.write_bytes(content[:-1000])
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "text":
        path.write_text("not a state")
    elif kind == "another script's":
        state = torch.load(path, weights_only=True)
        torch.save(state | {"script": "iwae.py"}, path)
    elif kind == "something else":
        torch.save({"weights": torch.zeros(3)}, path)
    return folder


KINDS = ["missing folder", "no state", "truncated", "empty", "text", "another script's", "something else"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_that_is_missing_foreign_or_damaged_is_refused(finished, capsys, kind):
    folder = damage(kind, finished)
    with pytest.raises(SystemExit) as stopped:
        main(["--resume", str(folder)])
    error = capsys.readouterr().err
    assert stopped.value.code == 2
    assert error.count("\n") == 1
    assert str(folder) in error


def test_a_changed_version_is_said(finished, capsys):
    state = read_state(finished, "vae_paper.py")
    threads = torch.get_num_threads()
    trainer.prepare_resume(state | {"versions": {"python": "3.0", "torch": str(torch.__version__)}})
    assert "python 3.0" in capsys.readouterr().err
    assert torch.get_num_threads() == state["threads"] == threads


# --- Real processes --------------------------------------------------------------------------------------------------


def start(*flags):
    command = [sys.executable, str(SCRIPT), *flags]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "TQDM_DISABLE": "1"}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)


def finish(process):
    """Wait for the end; the exit status and what was written to stderr."""
    _, error = process.communicate()
    return process.returncode, error


def results(folder):
    table = [line.split(",") for line in (folder / "metrics.csv").read_text().splitlines()]
    return (folder / "model.safetensors").read_bytes(), [row[:1] + row[2:] for row in table]  # without the seconds


def test_sigterm_then_resume_in_real_processes(tmp_path):
    flags = ["--epochs", "2", "--architecture", "mlp", "--hidden-dims", "16", "--batch-size", "8"]
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    assert finish(start(*flags, "--out", str(whole)))[0] == 0
    process = start(*flags, "--out", str(stopped))
    while not (stopped / trainer.RESUME_STATE).exists():
        assert process.poll() is None
        time.sleep(0.01)
    time.sleep(0.2)  # some steps of the first epoch
    process.send_signal(signal.SIGTERM)
    status, error = finish(process)
    assert status == 130, error
    assert f"--resume {stopped}" in error
    assert "Traceback" not in error
    assert finish(start("--resume", str(stopped)))[0] == 0
    assert results(stopped) == results(whole)


@pytest.mark.slow
def test_kill_9_at_any_moment(tmp_path):
    flags = ["--epochs", "3", "--architecture", "mlp", "--hidden-dims", "16", "--batch-size", "16"]
    flags += ["--save-seconds", "0"]
    whole = tmp_path / "whole"
    assert finish(start(*flags, "--out", str(whole)))[0] == 0
    moments = random.Random(0)
    for attempt in range(10):
        folder = tmp_path / f"killed-{attempt}"
        command = [*flags, "--out", str(folder)]
        kills = 0
        while True:
            process = start(*command)
            while kills < 3 and process.poll() is None and not (folder / trainer.RESUME_STATE).exists():
                time.sleep(0.005)
            delay = moments.uniform(0, 3.0)
            try:
                _, error = process.communicate(timeout=delay if kills < 3 else None)
                assert process.returncode == 0, error
                break
            except subprocess.TimeoutExpired:
                process.kill()
                finish(process)
                kills += 1
            read_state(folder, "vae_paper.py")  # whole, whatever the moment
            for name in ("config.json", "summary.json"):
                if (folder / name).exists():
                    json.loads((folder / name).read_text())
            command = ["--resume", str(folder)]
        assert kills > 0
        assert results(folder) == results(whole)
