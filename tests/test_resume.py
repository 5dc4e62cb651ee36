"""A run that is stopped, by whatever and whenever, goes on to the same end as one that was not."""

import errno
import json
import math
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

import experiment
import resume
from experiment import TrainingConfig, initialised, parse_config
from resume import read_state
from small_models import PowerCutError, assert_same_weights, cut_after, few_images, new_model, without_clock
from trainer import Interrupted, train
from training_images import ResidentImages
from vae_paper import VAE, ConditionalVAE, VaeConfig, build_model, load_model, main

ROOT = Path(__file__).resolve().parent.parent
SCRIPT = ROOT / "paper" / "vae_paper.py"


def small(conditional=False):
    return new_model(ConditionalVAE if conditional else VAE, architecture="conv").float()


def config(**options):
    return TrainingConfig(**{"epochs": 3, "batch_size": 4, "save_seconds": 0.0} | options)


@pytest.mark.parametrize(("conditional", "schedule"), [(False, "constant"), (True, "constant"), (False, "cosine")])
@pytest.mark.parametrize("commit", range(1, 11))  # before the first step, then after each of nine
def test_every_commit_is_a_place_to_go_on_from(images, tmp_path, monkeypatch, commit, conditional, schedule):
    whole, options = small(conditional), {"lr_schedule": schedule}
    rows = train(whole, *images, config(**options))
    with monkeypatch.context() as patch:
        cut_after(patch, commit)
        with pytest.raises(PowerCutError):
            train(small(conditional), *images, config(**options), tmp_path, script="s")
    state = read_state(tmp_path, "s")
    assert 3 * (state["epoch"] - 1) + state["step"] == commit - 1
    resumed = small(conditional)
    resumed_rows = train(resumed, *images, config(**options), tmp_path, state, "s")
    assert_same_weights(whole, resumed)
    assert without_clock(resumed_rows) == without_clock(rows)
    assert_same_weights(whole, VAE.load(tmp_path))
    assert len((tmp_path / "metrics.csv").read_text().splitlines()) == 4


def test_a_finished_run_can_get_more_epochs(images, tmp_path):
    whole = small()
    rows = train(whole, *images, config(epochs=4))
    train(small(), *images, config(epochs=2), tmp_path, script="s")
    resumed = small()
    more = train(resumed, *images, config(epochs=4), tmp_path, read_state(tmp_path, "s"), "s")
    assert_same_weights(whole, resumed)
    assert without_clock(more) == without_clock(rows)


def test_derived_files_are_repaired(images, tmp_path):
    train(small(), *images, config(), tmp_path, script="s")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    for name in before.keys() - {resume.RESUME_STATE}:
        (tmp_path / name).unlink()
    train(small(), *images, config(), tmp_path, read_state(tmp_path, "s"), "s")
    after = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert after.keys() == before.keys()
    assert after["metrics.csv"] == before["metrics.csv"]
    assert after["model.safetensors"] == before["model.safetensors"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_step_saves_and_stops(images, tmp_path, number):
    model, steps = small(), []
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
    model = small()
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
    files, replace = [], os.replace

    def full(*paths):
        files.append(paths)
        if len(files) > 20:
            raise OSError(errno.ENOSPC, "No space left on device")
        replace(*paths)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", full)
        with pytest.raises(OSError, match="No space left"):
            train(small(), *images, config(), tmp_path, script="s")
    whole, resumed = small(), small()
    train(whole, *images, config())
    train(resumed, *images, config(), tmp_path, read_state(tmp_path, "s"), "s")
    assert_same_weights(whole, resumed)


# --- Damage ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def finished(images, tmp_path_factory):
    """The folder of a run of vae_paper.py with one epoch; what a test does to its own copy, it does there alone."""
    folder = tmp_path_factory.mktemp("resume") / "run"
    folder.mkdir()
    options = VaeConfig(epochs=1, latent_dim=2, beta=2.0, architecture="mlp", hidden_dims=(4,), batch_size=4)
    model = initialised(build_model, options, images[0])
    train(model, *images, options, folder, script="vae_paper.py")
    return folder


@pytest.fixture
def run(finished, tmp_path):
    return Path(shutil.copytree(finished, tmp_path / "run"))


def content(folder):
    """What lies in a folder, but for the file that locks it."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != ".lock"}


def refused(folder, capsys, *flags):
    """The exit status and the one line in which the script refuses to go on, nothing changed on the disk."""
    before = content(folder) if folder.is_dir() else None
    with pytest.raises(SystemExit) as stopped:
        main(["--resume", str(folder), *flags])
    said = capsys.readouterr()
    assert said.out == ""
    assert "Traceback" not in said.err
    lines = [line for line in said.err.splitlines() if not line.startswith("note: ")]
    assert len(lines) == 1
    assert lines[0].startswith("vae_paper.py: error: ")
    assert (content(folder) if folder.is_dir() else None) == before
    return stopped.value.code, lines[0]


def test_resume_needs_no_other_option(run):
    def parse(*flags):
        return parse_config(VaeConfig, flags, "vae_paper.py", load_model)

    parsed, state, model = parse("--resume", str(run))
    assert (parsed.epochs, parsed.latent_dim, parsed.beta, parsed.resume) == (1, 2, 2.0, run)
    assert (len(state["rows"]), model) == (1, None)
    parsed, _, _ = parse(f"--resume={run}", "--epochs", "5", "--device", "cpu")
    assert (parsed.epochs, parsed.device) == (5, "cpu")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--beta", "4"], "--beta was 2.0, cannot become 4.0"),
        (["--beta", "nan"], "--beta was 2.0, cannot become nan"),
        (["--lr", "0.01"], "--lr was 0.001, cannot become 0.01"),
        (["--seed", "1"], "--seed was 0, cannot become 1"),
        (["--batch-size", "64"], "--batch-size was 4, cannot become 64"),
        (["--data", "mnist"], "--data was digits, cannot become mnist"),
        (["--conditional"], "--conditional was False, cannot become True"),
        (["--hidden-dims", "3"], "--hidden-dims was"),
        (["--architecture", "conv"], "--architecture was mlp, cannot become conv"),
        (["--train-images", "7"], "--train-images was None, cannot become 7"),
        (["--out", "elsewhere"], "--out was None, cannot become elsewhere"),
    ],
    ids=" ".join,
)
def test_a_changed_option_is_refused_by_name(run, capsys, flags, message):
    status, error = refused(run, capsys, *flags)
    assert status == 2
    assert message in error


def test_fewer_epochs_than_there_are_are_refused(images, tmp_path, capsys):
    options = VaeConfig(epochs=2, latent_dim=2, architecture="mlp", hidden_dims=(4,))
    train(initialised(build_model, options, images[0]), *images, options, tmp_path, script="vae_paper.py")
    capsys.readouterr()
    status, error = refused(tmp_path, capsys, "--epochs", "1")
    assert status == 2
    assert "--epochs 1, but the run in" in error


def test_a_step_size_that_falls_over_the_epochs_keeps_their_number(images, tmp_path, capsys):
    options = VaeConfig(epochs=2, latent_dim=2, architecture="mlp", hidden_dims=(4,), lr_schedule="cosine")
    train(initialised(build_model, options, images[0]), *images, options, tmp_path, script="vae_paper.py")
    capsys.readouterr()
    status, error = refused(tmp_path, capsys, "--epochs", "3")
    assert status == 2
    assert "--lr-schedule cosine falls over the 2 epochs of the run: leave out --epochs" in error


@pytest.mark.parametrize("kind", ["missing folder", "no state", "truncated", "empty", "text", "short", "a folder"])
def test_a_state_that_is_missing_or_cut_is_refused(run, capsys, kind):
    path = run / resume.RESUME_STATE
    whole = path.read_bytes()
    if kind in ("no state", "a folder"):
        path.unlink()
    else:
        path.write_bytes({"truncated": whole[:-1000], "text": b"not a state", "short": b"x" * 31}.get(kind, b""))
    folder = run / "none" if kind == "missing folder" else run
    status, error = refused(folder, capsys)
    assert status == 2
    expected = "no resume.pt in" if kind in ("missing folder", "no state", "a folder") else "is not the whole state"
    assert expected in error
    assert str(folder) in error


def test_every_flipped_byte_is_noticed(finished, tmp_path):
    whole = bytearray((finished / resume.RESUME_STATE).read_bytes())
    path = tmp_path / resume.RESUME_STATE
    path.write_bytes(whole)
    read_state(tmp_path, "vae_paper.py")
    places = [*range(0, len(whole), 50), len(whole) - 1]
    assert len(places) > 200
    for place in places:
        whole[place] ^= 1 << place % 8
        path.write_bytes(whole)
        with pytest.raises(ValueError, match="checksum does not fit"):
            read_state(tmp_path, "vae_paper.py")
        whole[place] ^= 1 << place % 8


def changed(**entries):
    return lambda state: state | entries


def option(**entries):
    return lambda state: state | {"config": state["config"] | entries}


def without(name):
    return lambda state: {key: value for key, value in state.items() if key != name}


ROW = {"epoch": 1, "seconds": 0.1, "train_loss": 3.0}
FOREIGN = {  # a right checksum around a wrong content: nothing of it is what a run saves
    "the script alone": lambda state: {"script": "vae_paper.py"},
    "a bare tensor": lambda state: torch.zeros(3),
    "a list": lambda state: [state],
    "a number": lambda state: 3,
    **{f"no {name}": without(name) for name in resume.STATE},
    "config a list": changed(config=[1, 2]),
    "config a text": changed(config="digits"),
    "epochs a text": option(epochs="x"),
    "epochs 0": option(epochs=0),
    "lr None": option(lr=None),
    "lr NaN": option(lr=math.nan),
    "data a number": option(data=5),
    "seed 2^63": option(seed=2**63),
    "hidden_dims a number": option(hidden_dims=4),
    "hidden_dims of text": option(hidden_dims=["a"]),
    "beta a tensor": option(beta=torch.ones(3)),
    "an unknown option": option(cosine=3),
    "an option without a name": lambda state: state | {"config": {3: 3}},
    "options that contradict": option(capacity=3.0),
    "threads 0": changed(threads=0),
    "threads beyond counting": changed(threads=2**60),
    "processes 0": changed(processes=0),
    "epoch negative": changed(epoch=-1),
    "epoch a text": changed(epoch="2"),
    "more epochs than rows": changed(epoch=5),
    "rows that are no dicts": changed(rows=[1]),
    "rows of text": changed(rows=[{"epoch": 1, "seconds": "a"}]),
    "rows without the clock": changed(rows=[{"epoch": 1}]),
    "rows of other epochs": changed(rows=[ROW | {"epoch": 3}]),
    "rows that differ": changed(rows=[ROW, {"epoch": 2, "seconds": 0.1}], epoch=3),
    "versions a list": changed(versions=["3.11"]),
    "model a list": changed(model=[]),
}


@pytest.mark.parametrize("damage", FOREIGN)
def test_a_state_that_no_run_saves_is_refused(run, capsys, damage):
    resume.write_state(run, FOREIGN[damage](read_state(run, "vae_paper.py")))
    status, error = refused(run, capsys, "--epochs", "2")
    assert status == 2
    assert f"{run / resume.RESUME_STATE} is not the whole state of a run (" in error


def test_the_state_of_another_script_is_refused(run, capsys):
    resume.write_state(run, read_state(run, "vae_paper.py") | {"script": "iwae.py"})
    assert refused(run, capsys) == (
        2,
        f"vae_paper.py: error: {run / resume.RESUME_STATE} was left by iwae.py: go on with that script, not with "
        "vae_paper.py",
    )


def model_of_another_size(state):
    return state | {"model": {name: torch.zeros(3, 3) for name in state["model"]}}


def optimizer_with(**moments):
    """Puts something else in the place of the moments of the first parameter."""

    def damage(state):
        optimizer = state["optimizers"]["loss"]
        first = optimizer["state"][0] | moments
        return state | {"optimizers": {"loss": optimizer | {"state": optimizer["state"] | {0: first}}}}

    return damage


def optimizer_of_steps_0(state):
    optimizer = state["optimizers"]["loss"]
    moments = {place: each | {"step": torch.tensor(0.0)} for place, each in optimizer["state"].items()}
    return state | {"optimizers": {"loss": optimizer | {"state": moments}}}


def optimizer_of_another_kind(state):
    """Adagrad's moments where Adam's are expected."""
    optimizer = state["optimizers"]["loss"]
    moments = {place: {"step": each["step"], "sum": each["exp_avg"]} for place, each in optimizer["state"].items()}
    return state | {"optimizers": {"loss": optimizer | {"state": moments}}}


def sums(**entries):
    return lambda state: state | {"sums": state["sums"] | entries}


MISFITS = {  # what only this model and these images can tell
    "a model of another size": model_of_another_size,
    "a model without a tensor": lambda state: state | {"model": dict(list(state["model"].items())[1:])},
    "a model of numbers": lambda state: state | {"model": dict.fromkeys(state["model"], 3.0)},
    "no optimizers": changed(optimizers={}),
    "optimizers of another name": lambda state: state | {"optimizers": {"gain": state["optimizers"]["loss"]}},
    "an optimizer that is a list": changed(optimizers={"loss": [1]}),
    "an optimizer without its steps": lambda state: (
        state | {"optimizers": {"loss": state["optimizers"]["loss"] | {"state": {}}}}
    ),
    "an optimizer of another shape": optimizer_with(exp_avg=torch.zeros(5)),
    "an optimizer of numbers": optimizer_with(exp_avg=torch.zeros(())),
    "an optimizer of text": optimizer_with(exp_avg_sq="x"),
    "an optimizer whose steps are 0": optimizer_of_steps_0,
    "an optimizer of another kind": optimizer_of_another_kind,
    "an optimizer of fewer parameters": lambda state: (
        state | {"optimizers": {"loss": state["optimizers"]["loss"] | {"param_groups": [{"params": [0]}]}}}
    ),
    "a permutation of another length": changed(permutation=torch.arange(7)),
    "a permutation with a number twice": changed(permutation=torch.zeros(10, dtype=torch.int64)),
    "a permutation of floats": changed(permutation=torch.arange(10) / 10),
    "a step beyond the epoch": changed(step=3),
    "a negative step": changed(step=-1),
    "a step without sums": changed(step=1),
    "sums without totals": lambda state: state | {"sums": {"names": ["loss"]}},
    "sums of another name": sums(gain=3),
    "totals of another length": lambda state: sums(totals=torch.zeros(3))(state) | {"step": 1},
    "an order of another length": changed(order=torch.zeros(3, dtype=torch.uint8)),
    "an order of floats": changed(order=torch.zeros(3)),
    "a noise of another length": changed(noise=torch.zeros(3, dtype=torch.uint8)),
    "other images": changed(images=["0" * 32, "1" * 32]),
    "one fingerprint": lambda state: state | {"images": state["images"][:1]},
}


@pytest.mark.parametrize("damage", MISFITS)
def test_a_state_that_does_not_fit_its_model_or_images_is_refused(run, capsys, monkeypatch, images, damage):
    monkeypatch.setattr(experiment, "load_resident", lambda config, split, device: images[split == "test"])
    resume.write_state(run, MISFITS[damage](read_state(run, "vae_paper.py")))
    status, error = refused(run, capsys, "--epochs", "2")
    assert status == 2
    assert "start a new run" in error


def test_the_same_state_undamaged_goes_on(run, capsys, monkeypatch, images):
    """Else the refusals above would show nothing."""
    monkeypatch.setattr(experiment, "load_resident", lambda config, split, device: images[split == "test"])
    monkeypatch.setattr("pictures.draw_all", lambda *args: None)
    resume.write_state(run, read_state(run, "vae_paper.py"))
    main(["--resume", str(run), "--epochs", "2"])
    assert "-ELBO" in capsys.readouterr().out
    assert len((run / "metrics.csv").read_text(encoding="utf-8").splitlines()) == 3


@pytest.mark.parametrize("change", ["a pixel", "a label", "the order", "the test set"])
def test_a_changed_data_set_is_noticed(images, tmp_path, change):
    train(small(), *images, config(epochs=1), tmp_path, script="s")
    before = content(tmp_path)
    pixels, labels = images[0].images.clone(), images[0].labels.clone()
    if change == "a pixel":
        pixels[3, 0, 5, 5] ^= 1
    elif change == "a label":
        labels[3] += 1
    elif change == "the order":
        pixels, labels = pixels.flip(0), labels.flip(0)
    others = [ResidentImages(pixels, labels), images[1]]
    if change == "the test set":
        others = [images[0], few_images(10, 4)[1]]
    with pytest.raises(ValueError, match="images of --data digits are not those that the run was started with"):
        train(small(), *others, config(epochs=2), tmp_path, read_state(tmp_path, "s"), "s")
    assert content(tmp_path) == before


def test_a_changed_version_is_said(finished, capsys):
    state = read_state(finished, "vae_paper.py")
    threads = torch.get_num_threads()
    resume.prepare_resume(state | {"versions": {"python": "3.0", "torch": str(torch.__version__)}})
    assert "python 3.0" in capsys.readouterr().err
    assert torch.get_num_threads() == state["threads"] == threads


# --- Adagrad, whose state is there before the first step ------------------------------------------------------------


class WithAdagrad(VAE):
    """The same model with the optimiser of the early papers."""

    def optimizers(self, lr):
        return {"loss": torch.optim.Adagrad(self.parameter_groups(lr), lr=lr)}


def small_with_adagrad():
    return new_model(WithAdagrad, architecture="conv").float()


@pytest.mark.parametrize("commit", range(1, 11))  # before the first step, then after each of nine
def test_adagrad_goes_on_from_every_commit(images, tmp_path, monkeypatch, commit):
    whole = small_with_adagrad()
    rows = train(whole, *images, config(lr=0.02))
    with monkeypatch.context() as patch:
        cut_after(patch, commit)
        with pytest.raises(PowerCutError):
            train(small_with_adagrad(), *images, config(lr=0.02), tmp_path, script="s")
    resumed = small_with_adagrad()
    resumed_rows = train(resumed, *images, config(lr=0.02), tmp_path, read_state(tmp_path, "s"), "s")
    assert_same_weights(whole, resumed)
    assert without_clock(resumed_rows) == without_clock(rows)


def no_moments_of_one(state):
    optimizer = state["optimizers"]["loss"]
    left = {place: moments for place, moments in optimizer["state"].items() if place > 0}
    return state | {"optimizers": {"loss": optimizer | {"state": left}}}


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (optimizer_of_steps_0, "has not seen the run's steps"),
        (changed(step=0, epoch=1, rows=[]), "has not seen the run's steps"),
        (no_moments_of_one, "lacks parameters"),
        (optimizer_with(sum=torch.zeros(5)), "is of another shape"),
        (optimizer_with(sum=3.0), "is of another shape"),
        (optimizer_with(exp_avg=torch.zeros(5)), "is not Adagrad's"),
        (changed(optimizers={}), "'loss'"),
        (None, None),
    ],
    ids=[
        "steps of 0", "steps before the first one", "a parameter without", "another shape", "a number", "Adam's",
        "none", "undamaged",
    ],
)  # fmt: skip
def test_adagrad_with_a_state_that_does_not_fit_is_refused(images, tmp_path, damage, reason):
    train(small_with_adagrad(), *images, config(epochs=1), tmp_path, script="s")
    state = read_state(tmp_path, "s")
    if damage is None:
        train(small_with_adagrad(), *images, config(epochs=2), tmp_path, state, "s")
        return
    with pytest.raises(ValueError, match=f"does not fit this model .*{reason}.*start a new run"):
        train(small_with_adagrad(), *images, config(epochs=2), tmp_path, damage(state), "s")


def test_an_optimizer_that_nobody_described_is_named(images, tmp_path):
    class WithSGD(VAE):
        def optimizers(self, lr):
            return {"loss": torch.optim.SGD(self.parameter_groups(lr), lr=lr, momentum=0.9)}

    train(new_model(WithSGD).float(), *images, config(epochs=1, lr=1e-4), tmp_path, script="s")
    with pytest.raises(ValueError, match=r"SGD .* not in resume\.MOMENTS"):
        train(new_model(WithSGD).float(), *images, config(epochs=2, lr=1e-4), tmp_path, read_state(tmp_path, "s"), "s")


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


@pytest.mark.slow
def test_sigterm_then_resume_in_real_processes(tmp_path):
    flags = ["--epochs", "2", "--architecture", "mlp", "--hidden-dims", "16", "--batch-size", "8"]
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    assert finish(start(*flags, "--out", str(whole)))[0] == 0
    process = start(*flags, "--out", str(stopped))
    while not (stopped / resume.RESUME_STATE).exists():
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
            while kills < 3 and process.poll() is None and not (folder / resume.RESUME_STATE).exists():
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


def test_images_that_moved_are_found_again_and_others_refused(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pixels = np.random.default_rng(0).integers(2, 256, (40, 8, 8), dtype=np.uint8)
    np.savez("here.npz", images=pixels)
    flags = ["--architecture", "mlp", "--hidden-dims", "8", "--latent-dim", "2", "--device", "cpu"]
    main(["--data", "here.npz", "--epochs", "1", "--out", "run", *flags])
    Path("here.npz").rename("there.npz")
    capsys.readouterr()
    np.savez("others.npz", images=255 - pixels)
    status, error = refused(Path("run"), capsys, "--epochs", "2", "--data", "others.npz")
    assert (status, "not those that the run was started with" in error) == (2, True)
    main(["--resume", "run", "--epochs", "2", "--data", "there.npz"])
    assert json.loads(Path("run", "config.json").read_text())["training"]["data"] == str(tmp_path / "there.npz")
    assert len(Path("run", "metrics.csv").read_text().splitlines()) == 3
