"""What a reproduction is: its runs, its measures and where they come from; and that each one keeps the contract."""

import importlib
import json
import math
import os
import shlex
import shutil
import subprocess
import threading
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import torch
import tyro

import reproduction
import vae_paper
from experiment import TrainingConfig
from reproduction import (
    MEASURES,
    Claim,
    Reproduction,
    Results,
    Run,
    RunFailedError,
    StoppedError,
    Trained,
    as_json,
    carry_out,
    commit,
    progress,
    read_measures,
    source_file,
    spread_text,
)
from reproductions import DEPARTURES, REPRODUCTIONS, find
from tiny_reproduction import Tiny

ROOT = Path(__file__).resolve().parent.parent

# --- The contract, of every experiment -------------------------------------------------------------------------------

EVERY = [(name, budget) for name in REPRODUCTIONS for budget in find(name).budgets]


@pytest.mark.parametrize("name", REPRODUCTIONS)
def test_an_experiment_says_what_it_is(name):
    found = find(name)
    assert isinstance(found, Reproduction)
    assert found.name == name
    assert found.title
    assert found.source
    assert vars(type(found))["__doc__"], "its docstring is the text above its table"
    assert "quick" in found.budgets


@pytest.mark.parametrize(("name", "budget"), EVERY)
def test_the_runs_of_an_experiment_can_be_typed(name, budget):
    found = find(name)
    assert isinstance(found.protocol(budget), str)
    runs = found.runs(budget)
    assert runs
    for run in runs.values():
        assert run.minutes > 0
        if run.script is None:
            continue
        module = importlib.import_module(run.script)
        assert (ROOT / "paper" / f"{run.script.replace('.', '/')}.py").is_file()
        options = shlex.split(run.options)
        assert not {"--seed", "--device", "--out", "--resume"} & set(options), "these are the command's own"
        configs = [each for each in vars(module).values() if isinstance(each, type) and is_config(each, module)]
        [config] = configs
        tyro.cli(config, args=options).check(flags=True)


def is_config(kind, module):
    own = kind.__module__ in (module.__name__, "__main__")
    return own and issubclass(kind, TrainingConfig) and kind is not TrainingConfig


@pytest.mark.parametrize(("name", "budget"), EVERY)
def test_the_time_is_that_of_all_runs(name, budget):
    found, seeds = find(name), find(name).seeds(budget)
    runs = found.runs(budget).values()
    assert found.minutes(budget) == pytest.approx(sum(run.minutes * min(seeds, run.seeds or seeds) for run in runs))


def test_departures_name_files_that_are_there():
    for file, what, why in DEPARTURES:
        assert (ROOT / "paper" / file.strip("`").split()[0]).is_file()
        assert what
        assert why


# --- Words about numbers ---------------------------------------------------------------------------------------------


def test_a_run_has_the_line_that_one_types():
    assert Run("vae_paper", "--beta 4").command == "python paper/vae_paper.py --beta 4"
    assert Run("vae_paper").command == "python paper/vae_paper.py"
    assert (
        Run("reproductions.one", "--k 5", device="cpu").command
        == "python paper/reproductions/one.py --k 5 --device cpu"
    )
    assert Run(None).command == "nothing trained"
    assert Run(None, "python numpy/vae_numpy.py").command == "python numpy/vae_numpy.py"


def test_a_run_takes_the_first_of_the_seeds():
    assert Run(None).seeds_of(range(3)) == [0, 1, 2]
    assert Run(None, seeds=1).seeds_of(range(3)) == [0]
    assert Run(None, seeds=5).seeds_of(range(3)) == [0, 1, 2]


def test_spread_is_that_of_a_sample():
    assert spread_text([1.0]) == "1.00"
    assert spread_text([1, 2, 3], digits=1) == "2.0 ± 1.0"  # n - 1, not 0.8


def test_results_are_read_by_label_and_name():
    results = Results({"seeds": [0, 1], "runs": {"a": {"measures": {"nats": [1.0, 3.0]}}}})
    assert results["a", "nats"] == [1.0, 3.0]
    assert results.mean("a", "nats") == 2
    assert results.text("a", "nats", 1) == "2.0 ± 1.4"
    assert results.num_seeds == 2


def test_measures_become_plain_numbers():
    given = {"a": np.float32(0.1), "b": torch.tensor([1, 2]), "c": (np.int64(3), 4.0), "d": 1.23456789e-7}
    got = as_json(given)
    assert got == {"a": 0.1, "b": [1, 2], "c": [3, 4.0], "d": 1.2345679e-7}
    assert json.loads(json.dumps(got)) == got


@pytest.mark.parametrize("value", [math.nan, math.inf, np.float32("nan"), [1.0, -math.inf], "12", None, object()])
def test_what_is_no_finite_number_is_no_measure(value):
    with pytest.raises(ValueError, match=r"its rate is .*: expected a finite number"):
        as_json({"rate": value})


# --- Carrying a run out ----------------------------------------------------------------------------------------------


def carry(folder, label="beta=1", seed=0, tiny=None, **options):
    carry_out(tiny or Tiny(), label, seed, "quick", folder / f"{label}-{seed}", "cpu", **options)
    return folder / f"{label}-{seed}"


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """A folder of runs, one of which is done."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pictures.draw_all", lambda *args: None)
        return carry(tmp_path_factory.mktemp("runs"))


@pytest.fixture
def copy(done, tmp_path, no_pictures):
    shutil.copytree(done.parent, tmp_path / "runs")
    return tmp_path / "runs" / done.name


def test_a_run_is_the_scripts_own(done, tmp_path, no_pictures):
    [label] = [label for label in Tiny().runs("quick") if label == "beta=1"]
    options = shlex.split(Tiny().runs("quick")[label].options)
    vae_paper.main([*options, "--seed", "0", "--device", "cpu", "--out", str(tmp_path / "by-hand")])
    assert (done / "model.safetensors").read_bytes() == (tmp_path / "by-hand" / "model.safetensors").read_bytes()


def test_what_is_measured_says_where_it_comes_from(done):
    content = read_measures(done)
    last = Trained("beta=1", 0, "quick", done, "cpu").rows[-1]
    assert content["measures"] == {"rate": last["test_kl_divergence"], "distortion": last["test_reconstruction_nll"]}
    assert content["command"] == f"{Tiny().runs('quick')['beta=1'].command} --seed 0"
    assert content["commit"] == [commit()]
    assert content["versions"][0]["torch"] in torch.__version__
    assert content["machine"][0].startswith("cpu, ")
    assert content["machine"][0].endswith(", 1 thread")
    assert content["seconds"]["training"] == pytest.approx(
        sum(Trained("", 0, "", done, "cpu").column("seconds")), abs=0.1
    )


def test_what_is_done_is_not_done_again(copy, monkeypatch):
    before = {path: path.stat().st_mtime_ns for path in copy.rglob("*")}
    monkeypatch.setattr(vae_paper, "main", None)
    monkeypatch.setattr(Tiny, "measure", None)
    carry_out(Tiny(), "beta=1", 0, "quick", copy, "cpu")
    assert {path: path.stat().st_mtime_ns for path in copy.rglob("*")} == before


def test_another_commit_and_machine_are_named_beside_the_first(copy, monkeypatch):
    before = read_measures(copy)
    (copy / MEASURES).unlink()
    monkeypatch.setattr(reproduction, "commit", lambda: "abc1234")
    monkeypatch.setattr(reproduction, "cpu_type", lambda: "another")
    carry_out(Tiny(), "beta=1", 0, "quick", copy, "cpu")
    after = read_measures(copy)
    assert after["measures"] == before["measures"]
    assert after["commit"] == [*before["commit"], "abc1234"]
    assert after["machine"] == [*before["machine"], "cpu, another, 1 thread"]
    assert after["versions"] == before["versions"]
    assert after["seconds"]["training"] == before["seconds"]["training"]


@pytest.mark.parametrize("measured", [True, False])
def test_the_run_of_another_line_is_not_taken(copy, monkeypatch, measured):
    """Options that have gone are seen as well, which --resume could not."""
    if not measured:
        (copy / MEASURES).unlink()
    run = Tiny().runs("quick")["beta=1"]
    other = Run(run.script, run.options.removesuffix(" --beta=1"))
    monkeypatch.setattr(Tiny, "runs", lambda self, budget: {"beta=1": other})
    with pytest.raises(RunFailedError, match=r"holds the run of another line, .* --beta=1 --seed 0; now it is "):
        carry_out(Tiny(), "beta=1", 0, "quick", copy, "cpu")
    shutil.rmtree(copy)
    carry_out(Tiny(), "beta=1", 0, "quick", copy, "cpu")
    assert read_measures(copy)["command"] == f"{other.command} --seed 0"


def test_a_run_may_have_its_own_device_and_threads(tmp_path, monkeypatch):
    used, runs = [], {"own": Run(None, device="cpu", threads=2), "other": Run(None)}
    monkeypatch.setattr(Tiny, "runs", lambda self, budget: runs)
    monkeypatch.setattr(Tiny, "measure", lambda self, trained: used.append(torch.get_num_threads()) or {})
    carry_out(Tiny(), "own", 0, "quick", tmp_path / "own", "cuda:99", threads=1)
    carry_out(Tiny(), "other", 0, "quick", tmp_path / "other", "cpu")
    assert used == [2, reproduction.THREADS]  # and the next has its own again
    torch.set_num_threads(1)
    assert read_measures(tmp_path / "own")["machine"][0].endswith(", 2 threads")


FAILS = {
    "a bad option": ({"options": "--beta -1"}, r"tiny, beta=1, seed 0: .*vae_paper.py: error: --beta must be .*-1"),
    "divergence": ({"options": "--lr 1e30"}, r"became NaN or infinite in step 2 of epoch 1.*is in .*beta=1-0"),
    "a device": ({"device": "cuda:99"}, "--device cuda:99 is not on this machine: it has "),
    "NaN": ({"measure": {"rate": math.nan}}, "tiny, beta=1, seed 0: its rate is nan: expected a finite number"),
}


@pytest.mark.parametrize(("change", "message"), FAILS.values(), ids=FAILS)
def test_what_fails_is_one_line(tmp_path, monkeypatch, no_pictures, change, message):
    run = Tiny().runs("quick")["beta=1"]
    bad = Run(run.script, f"{run.options} {change.get('options', '')}".strip(), device=change.get("device"))
    monkeypatch.setattr(Tiny, "runs", lambda self, budget: {"beta=1": bad})
    if "measure" in change:
        monkeypatch.setattr(Tiny, "measure", lambda self, trained: change["measure"])
    with pytest.raises(RunFailedError, match=message) as failed:
        carry(tmp_path)
    assert "\n" not in str(failed.value)
    assert "delete" not in str(failed.value), "a state that one can go on from is not to be thrown away"
    assert not (tmp_path / "beta=1-0" / MEASURES).exists()


@pytest.mark.parametrize("damage", [lambda path: path.write_bytes(b"cut off"), Path.unlink], ids=["damaged", "gone"])
def test_a_run_without_a_state_to_go_on_from_says_how_to_begin_it_again(copy, damage):
    (copy / MEASURES).unlink()
    damage(copy / "resume.pt")
    with pytest.raises(RunFailedError, match="; to begin this run again, delete ") as failed:
        carry(copy.parent)
    assert str(failed.value).endswith(str(copy))
    shutil.rmtree(copy)
    assert read_measures(carry(copy.parent))


def test_after_a_bad_option_the_right_one_is_taken(tmp_path, monkeypatch, no_pictures):
    runs = Tiny().runs("quick")
    with monkeypatch.context() as patch:
        patch.setattr(Tiny, "runs", lambda self, budget: {"beta=1": Run("vae_paper", "--beta -1")})
        with pytest.raises(RunFailedError):
            carry(tmp_path)
    assert runs["beta=1"].command in read_measures(carry(tmp_path))["command"]


def test_a_stop_is_no_failure(tmp_path, monkeypatch):
    def stopped(argv):
        raise SystemExit(130)

    monkeypatch.setattr(vae_paper, "main", stopped)
    with pytest.raises(StoppedError):
        carry(tmp_path)


def test_a_run_that_another_process_trains_or_measures_is_left_to_it(copy):
    (copy / MEASURES).unlink()
    with (
        reproduction.lock_run_folder(copy),
        pytest.raises(RunFailedError, match=r"another process is at work .*: wait"),
    ):
        carry_out(Tiny(), "beta=1", 0, "quick", copy, "cpu")
    assert not (copy / MEASURES).exists()


def test_threads_of_one_process_take_turns(tmp_path, monkeypatch):
    inside, most = [], []

    def measure(self, trained):
        inside.append(trained.seed)
        most.append(len(inside))
        threading.Event().wait(0.05)
        inside.remove(trained.seed)
        return {}

    monkeypatch.setattr(Tiny, "measure", measure)
    threads = [threading.Thread(target=carry, args=(tmp_path, "no model", seed)) for seed in range(3)]
    for action in ("start", "join"):
        for thread in threads:
            getattr(thread, action)()
    assert most == [1, 1, 1]


DAMAGES = {
    "cut off": lambda text: text[:40],
    "a list": lambda text: "[1, 2]",
    "no measures": lambda text: json.dumps(
        {key: value for key, value in json.loads(text).items() if key != "measures"}
    ),
    "no commit": lambda text: json.dumps({key: value for key, value in json.loads(text).items() if key != "commit"}),
    "NaN": lambda text: text.replace('"rate": ', '"rate": NaN, "more": '),
    "deep": lambda text: "[" * 100000,
    "no seconds": lambda text: text.replace('"training"', '"resting"'),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_measures_file_is_named(copy, damage):
    path = copy / MEASURES
    path.write_text(damage(path.read_text()))
    with pytest.raises(ValueError, match=r"measures.json is damaged: delete it") as refused:
        read_measures(copy)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("damage", ["", "[]", "{}", "{"])
def test_a_damaged_source_file_is_named(copy, damage):
    (copy / MEASURES).unlink()
    source_file(copy).write_text(damage)
    with pytest.raises(RunFailedError, match=r"beta=1-0.json is damaged: delete it"):
        carry_out(Tiny(), "beta=1", 0, "quick", copy, "cpu")


def test_progress_is_that_of_the_epochs(copy, tmp_path):
    assert progress(tmp_path / "absent") == 0
    assert progress(copy) == 1
    (copy / MEASURES).unlink()
    assert progress(copy) == 0.95
    rows = (copy / "metrics.csv").read_text().splitlines(keepends=True)
    (copy / "metrics.csv").write_text("".join(rows[:2]))
    assert progress(copy) == pytest.approx(0.475)
    (copy / "config.json").write_text("{")
    assert progress(copy) == 0


def test_any_model_is_loaded_again(tmp_path):
    from vq_vae import VQVAE

    VQVAE(num_codes=4, code_dim=2).save(tmp_path)
    assert isinstance(Trained("", 0, "", tmp_path, "cpu").model, VQVAE)


# --- The commit ------------------------------------------------------------------------------------------------------


@pytest.fixture
def clone(tmp_path, monkeypatch):
    """A repository of two files, and a function that gives the commit as the code in it would."""
    root = tmp_path / "clone"
    for name in ("paper/results/a.json", "paper/code.py", "README.md"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("1")
    for key in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"):
        monkeypatch.delenv(key, raising=False)
    git(root, "init", "-q")
    git(root, "add", ".")
    git(root, "-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "one")
    monkeypatch.setattr(reproduction, "__file__", str(root / "paper" / "code.py"))
    return root


def git(root, *words):
    return subprocess.run(["git", *words], cwd=root, check=True, capture_output=True, text=True).stdout.strip()


def test_the_commit_has_a_plus_where_code_has_changed(clone):
    head = git(clone, "rev-parse", "--short", "HEAD")
    assert commit() == head
    (clone / "paper" / "results" / "a.json").write_text("2")  # the experiment before this one wrote it
    (clone / "README.md").write_text("2")
    (clone / "paper" / "results" / "new.json").write_text("2")
    assert commit() == head
    (clone / "paper" / "code.py").write_text("2")
    assert commit() == f"{head}+"


def test_a_worktree_has_its_own_commit(clone, monkeypatch, tmp_path):
    git(clone, "worktree", "add", "-q", str(tmp_path / "tree"))
    monkeypatch.setattr(reproduction, "__file__", str(tmp_path / "tree" / "paper" / "code.py"))
    assert commit() == git(clone, "rev-parse", "--short", "HEAD")


def test_without_a_clone_the_commit_is_unknown(clone, monkeypatch):
    unpacked = clone / "downloads" / "vae" / "paper"  # in somebody else's repository
    unpacked.mkdir(parents=True)
    with monkeypatch.context() as patch:
        patch.setattr(reproduction, "__file__", str(unpacked / "code.py"))
        assert commit() == "unknown"
    with monkeypatch.context() as patch:
        patch.setenv("PATH", str(clone))  # no git
        assert commit() == "unknown"
    shutil.rmtree(clone / ".git")
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(clone.parent))
    assert commit() == "unknown"


def test_a_claim_is_words_and_a_verdict():
    assert [each.name for each in fields(Claim)] == ["text", "paper", "ours", "holds", "why"]
    assert os.environ["OMP_NUM_THREADS"] == "1"
