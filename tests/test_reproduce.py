"""The command: an experiment from its first run to its page, whatever stops it on the way, and what it refuses."""

import contextlib
import errno
import importlib.util
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest

import reproduce
import reproduction
import vae_paper
from in_process import run_main
from reproduction import MEASURES, Run
from reproductions import REPRODUCTIONS, find
from results_page import results_page
from script_runs import assert_is_a_picture
from tiny_reproduction import Tiny, main

ROOT = Path(__file__).resolve().parent.parent
SCRIPT = ROOT / "tests" / "tiny_reproduction.py"
LIMIT = 240  # seconds for a process; it takes a tenth of them


def tiny(*args, cwd, main=main):
    return run_main(main, "--runs", "runs", "--results", "results", "--device", "cpu", *args, cwd=cwd)


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    """The experiment from its beginning: what it said, and the folder."""
    cwd = tmp_path_factory.mktemp("first")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pictures.draw_all", lambda *args: None)
        done = tiny("tiny", cwd=cwd)
    assert done.code == 0, done.stderr
    done.folder = cwd
    return done


@pytest.fixture
def copy(first, tmp_path, no_pictures):
    """The finished experiment once more."""
    shutil.copytree(first.folder, tmp_path / "copy")
    return tmp_path / "copy"


def times(folder):
    return {path.relative_to(folder): path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


def one_line(done, code=2):
    assert done.code == code, done.stderr
    assert "Traceback" not in done.stderr
    [line] = [line for line in done.stderr.splitlines() if line.startswith("reproduce.py: ")]
    assert done.stderr.endswith(f"{line}\n")
    return line


# --- From the first run to the page ----------------------------------------------------------------------------------


def test_the_table_is_on_stdout_and_progress_on_stderr(first):
    lines = first.stdout.splitlines()
    assert lines[:4] == ["tiny, quick: two betas on a few digits", "", "| run | rate |", "| --- | --- |"]
    assert re.fullmatch(r"\| beta=1 \| \d\.\d{4} ± \d\.\d{4} \|", lines[4])
    assert lines[6] == "| no model | 0.0000 |"
    assert lines[8:10] == ["beta lowers the rate", lines[9]]
    assert re.fullmatch(r"  paper: 1 \| 2; ours: .*; holds: (yes|no)", lines[9])
    said = first.stderr.splitlines()
    assert len(said) == 8  # no bar where stderr is no terminal
    assert said[0].startswith("tiny, quick: two betas on a few digits; 5 runs in ")
    assert said[1] == "expect 1 min on two cores"
    assert said[2:7] == [
        f"{i + 1} of 5: {name}"
        for i, name in enumerate(["beta=1-seed0", "beta=4-seed0", "no-model-seed0", "beta=1-seed1", "beta=4-seed1"])
    ]


def test_the_files_are_there(first):
    content = json.loads((first.folder / "results" / "tiny.json").read_text())["quick"]
    assert content["seeds"] == [0, 1]
    assert {label: len(run["seconds"]) for label, run in content["runs"].items()} == {
        "beta=1": 2, "beta=4": 2, "no model": 1
    }  # fmt: skip
    for seed in (0, 1):
        measured = json.loads((first.folder / f"runs/tiny/quick/beta=4-seed{seed}" / MEASURES).read_text())
        assert content["runs"]["beta=4"]["measures"]["rate"][seed] == measured["measures"]["rate"]
    assert_is_a_picture(first.folder / "results" / "tiny-quick.png")
    page = (first.folder / "RESULTS.md").read_text()
    assert "\n".join(first.stdout.splitlines()[2:7]) in page
    assert "Two runs that train and one that does not." in page
    assert "beta lowers the rate | 1 \\| 2 |" in page
    assert page == results_page({"tiny": Tiny()}, first.folder / "results")
    for name in ("commit", "machine"):
        assert ", ".join(content[name]) in page


def test_a_second_time_nothing_is_trained_or_measured(first, copy, monkeypatch):
    before = times(copy / "runs")
    monkeypatch.setattr(vae_paper, "main", None)
    monkeypatch.setattr(Tiny, "measure", None)
    again = tiny("tiny", cwd=copy)
    assert again.stdout == first.stdout
    assert "all of them are done" in again.stderr
    assert times(copy / "runs") == before
    assert (copy / "RESULTS.md").read_bytes() == (first.folder / "RESULTS.md").read_bytes()


def test_remeasure_measures_and_does_not_train(first, copy, monkeypatch):
    before = times(copy / "runs")
    monkeypatch.setattr(Tiny, "measure", lambda self, trained: {"rate": 7.0 - trained.seed, "distortion": 1.0})
    again = tiny("tiny", "--remeasure", cwd=copy)
    assert "| beta=1 | 6.5000 ± 0.7071 |" in again.stdout
    changed = {path.name for path, when in times(copy / "runs").items() if before.get(path) != when}
    assert MEASURES in changed
    assert "model.safetensors" not in {path.name for path in before if path not in times(copy / "runs")}


def test_fewer_seeds_use_the_first_of_the_runs(first, copy, monkeypatch):
    monkeypatch.setattr(vae_paper, "main", None)
    done = tiny("tiny", "--seeds", 1, cwd=copy)
    assert "±" not in done.stdout
    assert "tiny --budget quick --seeds 1`; 1 seed; " in (copy / "RESULTS.md").read_text()


def test_the_listing_says_how_far_everything_is(first, copy, tmp_path):
    none = tiny(cwd=tmp_path)
    assert re.search(r"^tiny +quick +1 min +- +two betas on a few digits \(nobody\)$", none.stdout, re.MULTILINE)
    assert re.search(r"^ +full +1 min +-$", none.stdout, re.MULTILINE)
    assert "The times are for two cores, one run after the other. " in none.stdout
    assert re.search(r"^tiny +quick +1 min +results of 2 seeds ", tiny(cwd=copy).stdout, re.MULTILINE)
    (copy / "results" / "tiny.json").unlink()
    (copy / "runs/tiny/quick/beta=4-seed1" / MEASURES).unlink()
    assert re.search(r"^tiny +quick +1 min +4 of 5 runs +two", tiny(cwd=copy).stdout, re.MULTILINE)


def test_another_budget_is_added_to_the_file(copy, monkeypatch):
    before = json.loads((copy / "results" / "tiny.json").read_text())
    assert tiny("all", "--budget", "full", "--seeds", 1, cwd=copy).code == 0
    after = json.loads((copy / "results" / "tiny.json").read_text())
    assert after["quick"] == before["quick"]
    assert after["full"]["budget"] == "full"
    page = (copy / "RESULTS.md").read_text()
    assert page.index("## tiny, quick") < page.index("## tiny, full")
    assert (copy / "results" / "tiny-full.png").is_file()


def test_measures_of_several_commits_are_all_named(copy, monkeypatch):
    (copy / "runs/tiny/quick/no-model-seed0" / MEASURES).unlink()
    monkeypatch.setattr(reproduction, "commit", lambda: "abc1234")
    assert tiny("tiny", cwd=copy).code == 0
    commits = json.loads((copy / "results" / "tiny.json").read_text())["quick"]["commit"]
    assert len(commits) == 2
    assert f"commit {', '.join(commits)}\n" in (copy / "RESULTS.md").read_text()


def test_all_takes_the_experiments_that_have_the_budget(tmp_path):
    class Other(Tiny):
        """Nothing."""

        name, budgets = "other", ("quick", "huge")

    known = {"tiny": Tiny(), "other": Other()}
    options = reproduce.ReproduceOptions(name="all", budget="huge")
    assert reproduce.chosen(known, options) == ["other"]
    assert reproduce.chosen(known, reproduce.ReproduceOptions(name="all")) == ["tiny", "other"]
    with pytest.raises(ValueError, match="no experiment has a --budget none"):
        reproduce.chosen(known, reproduce.ReproduceOptions(name="all", budget="none"))


class Speed(Tiny):
    """One that measures speed."""

    name, alone = "speed", True


ADDRESS = "tcp://127.0.0.1:8786"
SIDE_BY_SIDE = [["--jobs", 2], ["--cluster", ADDRESS]]


@pytest.mark.parametrize("flags", SIDE_BY_SIDE)
def test_runs_that_measure_speed_are_not_carried_out_side_by_side(tmp_path, flags):
    done = tiny("speed", *flags, cwd=tmp_path, main=partial(reproduce.main, known={"speed": Speed()}))
    assert one_line(done) == (
        "reproduce.py: error: speed measures speed, which runs side by side would spoil: expected one at a time on "
        "this machine, so leave out --jobs and --cluster"
    )
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("flags", SIDE_BY_SIDE)
def test_all_carries_out_one_at_a_time_what_measures_speed(tmp_path, monkeypatch, flags):
    used = []

    @contextlib.contextmanager
    def workers(options):
        used.append((options.jobs, options.cluster))
        yield reproduce.Parallel(1), 1, ()

    monkeypatch.setattr(reproduce, "workers", workers)
    monkeypatch.setattr(Tiny, "runs", lambda self, budget: {"no model": Run(None)})
    monkeypatch.setattr(Tiny, "claims", lambda self, results: [])
    known = {"speed": Speed(), "tiny": Tiny()}
    done = tiny("all", *flags, cwd=tmp_path, main=partial(reproduce.main, known=known))
    assert done.code == 0, done.stderr
    assert used == [(1, None), (2, None) if "--jobs" in flags else (1, ADDRESS)]
    assert done.stderr.count("it measures speed: one run at a time, on this machine") == 1
    expected = re.findall(r"^expect .*", done.stderr, re.MULTILINE)  # side by side is seldom slower, and often faster
    assert expected == ["expect 2 min on two cores", "expect at most 2 min on two cores"]


def test_the_bar_knows_what_was_there_and_ends_at_the_end(copy, monkeypatch):
    bars = []

    class Bar(reproduce.tqdm):
        def __init__(self, **options):
            super().__init__(**options | {"disable": False, "file": io.StringIO()})
            bars.append(self)

    monkeypatch.setattr(reproduce, "tqdm", Bar)
    (copy / "runs/tiny/quick/beta=4-seed1" / MEASURES).unlink()
    assert tiny("tiny", cwd=copy).code == 0
    [bar] = bars
    assert bar.total == pytest.approx(0.41)
    assert bar.initial == pytest.approx(0.41 - 0.05 * 0.1)  # it is trained and not measured
    assert bar.n == pytest.approx(bar.total)


def test_help_names_what_can_be_typed(tmp_path):
    done = tiny("--help", cwd=tmp_path)
    words = " ".join(re.sub("[│╭╮╰╯─]", " ", done.stdout).split())
    assert "usage: reproduce.py [-h] [OPTIONS] [NAME]" in words
    assert "--seeds INT Train each run" in words
    for name in REPRODUCTIONS:
        for budget in find(name).budgets:
            assert f"{budget}, " + ("" if budget in Tiny.budgets else f"of {name}") in words


# --- What is refused -------------------------------------------------------------------------------------------------

REFUSED = {
    "an unknown name": (["tony"], r"unknown experiment 'tony': expected all, tiny; did you mean tiny\?$"),
    "an unknown name unlike any": (["nothing"], r"unknown experiment 'nothing': expected all, tiny$"),
    "an unknown budget": (["tiny", "--budget", "huge"], r"tiny has no --budget huge: expected quick or full$"),
    "no seeds": (["tiny", "--seeds", 0], r"--seeds must be an integer of at least 1, got 0$"),
    "no jobs": (["tiny", "--jobs", 0], r"--jobs must be an integer of at least 1, got 0$"),
    "a device": (["tiny", "--device", "cuda:99"], r"--device cuda:99 is not on this machine: it has .*; --device auto"),
    "no address": (["tiny", "--cluster", "hello"], r"--cluster must be the address .* tcp://HOST:8786, got 'hello'$"),
    "half an address": (["tiny", "--cluster", "tcp://"], r"--cluster must be the address .*, got 'tcp://'$"),
    "no port": (["tiny", "--cluster", "tcp://a:99999999"], r"--cluster must be the address .*"),
}


@pytest.mark.parametrize(("args", "message"), REFUSED.values(), ids=REFUSED)
def test_a_mistake_is_one_line(tmp_path, args, message):
    done = run_main(main, "--runs", "runs", "--results", "results", *args, cwd=tmp_path)
    assert re.search(f"^reproduce.py: error: {message}", one_line(done))
    assert done.stdout == ""
    assert not list(tmp_path.rglob("*.json"))


@pytest.mark.parametrize("flag", ["--runs", "--results"])
def test_a_file_where_a_folder_should_be(tmp_path, flag):
    (tmp_path / "file").touch()
    for path in ("file", "file/below"):
        done = tiny("tiny", flag, path, cwd=tmp_path)
        line = one_line(done)
        assert line.startswith(f"reproduce.py: error: cannot write to {flag} {tmp_path / path} (")
        assert line.endswith("): choose a folder you may write to")


def test_a_folder_that_cannot_be_written_to(tmp_path, monkeypatch):
    def refuse(dir):
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr("tempfile.TemporaryFile", refuse)
    line = one_line(tiny("tiny", cwd=tmp_path))
    assert line.endswith("(Read-only file system): choose a folder you may write to")


def test_without_dask_a_cluster_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    line = one_line(tiny("tiny", "--cluster", "tcp://127.0.0.1:8786", cwd=tmp_path))
    assert "--cluster needs Dask, which is not installed: pip install" in line


def test_a_damaged_result_file_is_told_before_anything_is_trained(copy, monkeypatch):
    path = copy / "results" / "tiny.json"
    path.write_text("{")
    before = times(copy)
    monkeypatch.setattr(reproduce, "carry_out_all", None)
    for args in ([], ["tiny"]):
        line = one_line(tiny(*args, cwd=copy))
        assert line.startswith(f"reproduce.py: error: {path} is damaged: put it back, or delete it and ")
    assert times(copy) == before


def test_a_damaged_measures_file_is_told_before_anything_is_trained(copy, monkeypatch):
    (copy / "runs/tiny/quick/beta=4-seed1" / MEASURES).write_text("{")
    monkeypatch.setattr(reproduce, "carry_out_all", None)
    assert re.search(r"error: \S+beta=4-seed1/measures.json is damaged: delete it", one_line(tiny("tiny", cwd=copy)))


def test_runs_with_other_options_are_told_before_anything_is_trained(copy, monkeypatch):
    (copy / "runs/tiny/quick/beta=1-seed0" / MEASURES).unlink()
    monkeypatch.setattr(reproduce, "carry_out_all", None)
    monkeypatch.setenv("TINY_EPOCHS", "3")
    line = one_line(tiny("tiny", cwd=copy))
    assert re.search(r"beta=1-seed0 holds the run of another line, .*--epochs 2 .*; now .*--epochs 3 .*: move or", line)


def test_measures_of_an_older_version_ask_to_be_measured_again(copy, monkeypatch):
    monkeypatch.setattr(Tiny, "table", lambda self, results: [results.mean("beta=1", "new")])
    line = one_line(tiny("tiny", cwd=copy))
    assert line.endswith("without 'new': measure again with reproduce.py tiny --budget quick --remeasure")
    monkeypatch.undo()
    path = copy / "runs/tiny/quick/beta=1-seed1" / MEASURES
    path.write_text(path.read_text().replace('"rate"', '"old"'))
    assert "its seeds were measured by different versions: go on with --remeasure" in one_line(tiny("tiny", cwd=copy))


@pytest.mark.parametrize(("one", "other"), [("a b", "a-b"), ("a/b", "a+b"), ("VAE", "vae")])
def test_labels_that_share_a_folder_are_refused(tmp_path, monkeypatch, one, other):
    monkeypatch.setattr(Tiny, "runs", lambda self, budget: {one: Run(None), other: Run(None)})
    line = one_line(tiny("tiny", cwd=tmp_path))
    assert f"the runs {one!r} and {other!r} would share " in line


@pytest.mark.parametrize("label", ["../../up", "beta=0.5, k=5", "a/b", "ß β"])
def test_a_label_never_leaves_the_folder(tmp_path, label):
    name = reproduce.as_file_name(label)
    assert (tmp_path / name).resolve().parent == tmp_path.resolve()
    assert not set(name) & set('/\\:*?"<>| ')


def test_a_run_that_fails_is_one_line(tmp_path, monkeypatch, no_pictures):
    monkeypatch.setattr(Tiny, "runs", lambda self, budget: {"bad": Run("vae_paper", "--epochs 1 --lr 1e30")})
    line = one_line(tiny("tiny", cwd=tmp_path))
    assert re.match(r"reproduce.py: error: tiny, bad, seed 0: vae_paper.py: error: .* became NaN or infinite", line)


@pytest.mark.parametrize("room", [1, 5, 26, 30])
def test_a_full_disk_is_one_line_and_then_goes_on(first, tmp_path, monkeypatch, no_pictures, room):
    system_fsync, written = os.fsync, []

    def fsync(descriptor):
        if len(written) >= room:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written.append(descriptor)
        system_fsync(descriptor)

    monkeypatch.setenv("TINY_EPOCHS", "1")
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fsync)
        done = tiny("tiny", "--seeds", 1, cwd=tmp_path)
        if done.code == 0:
            assert len(written) < room + 1
            return
        line = one_line(done)
    assert "No space left on device" in line
    assert not list(tmp_path.rglob("*.tmp"))
    assert tiny("tiny", "--seeds", 1, cwd=tmp_path).code == 0


# --- Processes: what stops them, and many of them --------------------------------------------------------------------


def start(*args, cwd, epochs=12, **environment):
    line = [sys.executable, str(SCRIPT), "tiny", "--runs", "runs", "--results", "results", "--device", "cpu", *args]
    return subprocess.Popen(
        line, cwd=cwd, env=os.environ | {"TINY_EPOCHS": str(epochs), "COLUMNS": "100"} | environment, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip


def rows(folder):
    """Epochs that the runs have in their tables."""
    lines = [len(path.read_bytes().splitlines()) for path in folder.glob("runs/tiny/quick/*/metrics.csv")]
    return sum(lines) - len(lines)


def wait_for(condition, process=None):
    end = time.monotonic() + LIMIT
    while not condition():
        assert process is None or process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.02)


def finished(*args, cwd, **options):
    process = start(*args, cwd=cwd, **options)
    out, err = process.communicate(timeout=LIMIT)
    assert process.returncode == 0, err
    return out


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    """The table of one process that nobody disturbs."""
    return finished(cwd=tmp_path_factory.mktemp("uninterrupted"))


@pytest.mark.slow
@pytest.mark.parametrize("jobs", ["1", "2"])
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("all_of_them", [False, True])
def test_whatever_stops_it_it_goes_on_to_the_same_table(tmp_path, uninterrupted, number, jobs, all_of_them):
    """all_of_them: the signal also goes to the processes that train, as that of a terminal or a batch system does."""
    process = start("--jobs", jobs, cwd=tmp_path)
    wait_for(lambda: rows(tmp_path) >= 3, process)
    (os.killpg if all_of_them else os.kill)(process.pid, number)
    if number == signal.SIGKILL:  # those that train may be left; they own their runs
        assert process.wait(LIMIT) == -number
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
    out, err = process.communicate(timeout=LIMIT)
    assert out == ""
    if number != signal.SIGKILL:
        assert process.returncode == 130
        line = err.splitlines()[2]
        assert line.startswith("reproduce.py: stopped, and what was done is saved; go on with: ")
        assert line.endswith(f"tiny_reproduction.py tiny --runs runs --results results --device cpu --jobs {jobs}")
        assert err.count("\n") == 3, err
    assert finished("--jobs", jobs, cwd=tmp_path) == uninterrupted


@pytest.mark.slow
def test_a_process_that_is_killed_is_replaced(tmp_path, uninterrupted):
    process = start("--jobs", "2", cwd=tmp_path)
    wait_for(lambda: rows(tmp_path) >= 3, process)
    kill_one(process.pid, "popen_loky_posix")
    out, err = process.communicate(timeout=LIMIT)
    assert (process.returncode, out) == (0, uninterrupted), err


def kill_one(parent, word):
    """Kill a descendant of a process, one in whose line a word stands."""
    lines = subprocess.run(["ps", "-ewwo", "pid=,ppid=,args="], capture_output=True, text=True, check=True).stdout
    table = [line.split(None, 2) for line in lines.splitlines()]
    family = {str(parent)}
    for _ in range(5):
        family |= {pid for pid, above, _ in table if above in family}
    found = [pid for pid, _, args in table if pid in family and word in args]
    assert found, [line for line in table if line[0] in family]
    os.kill(int(found[-1]), signal.SIGKILL)


@pytest.mark.slow
def test_two_at_once_do_no_damage(tmp_path, uninterrupted):
    one = start(cwd=tmp_path)
    wait_for(lambda: rows(tmp_path) >= 1, one)
    other = start(cwd=tmp_path)
    out, err = other.communicate(timeout=LIMIT)
    assert (other.returncode, out) == (2, "")
    assert re.search(r"error: tiny, beta=\d, seed \d: .*(another process is at work|still going)", err.splitlines()[-1])
    assert one.communicate(timeout=LIMIT)[0] == uninterrupted


@contextlib.contextmanager
def dask(cwd, *worker_flags):
    """A scheduler and, with flags, workers: gives the address, and the workers' process."""
    environment = os.environ | {"PYTHONPATH": str(SCRIPT.parent), "TINY_EPOCHS": "12"}
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "env": environment, "cwd": cwd}
    file, command = cwd / "scheduler.json", [sys.executable, "-m", "dask"]
    flags = ["--port", "0", "--host", "127.0.0.1", "--no-dashboard", "--scheduler-file", str(file)]
    started = [subprocess.Popen([*command, "scheduler", *flags], **quiet)]
    try:
        wait_for(file.is_file, started[0])
        time.sleep(0.5)
        address = json.loads(file.read_text())["address"]
        if worker_flags:
            started.append(subprocess.Popen([*command, "worker", address, "--no-dashboard", *worker_flags], **quiet))
            wait = "import sys, distributed; distributed.Client(sys.argv[1]).wait_for_workers(int(sys.argv[2]))"
            subprocess.run([sys.executable, "-c", wait, address, worker_flags[1]], check=True, timeout=LIMIT)
        yield address, started[-1].pid
    finally:
        for process in reversed(started):
            process.terminate()
        for process in started:
            process.wait(timeout=LIMIT)


needs_dask = pytest.mark.skipif(not importlib.util.find_spec("distributed"), reason="Dask is not installed")


@pytest.mark.slow
@needs_dask
def test_a_cluster_that_loses_a_worker_gives_the_same_table(tmp_path, uninterrupted):
    with dask(tmp_path, "--nworkers", "2", "--nthreads", "1") as (address, workers):
        process = start("--cluster", address, cwd=tmp_path)
        wait_for(lambda: rows(tmp_path) >= 3, process)
        kill_one(workers, "spawn_main")
        out, err = process.communicate(timeout=LIMIT)
        assert (process.returncode, out) == (0, uninterrupted), err


@pytest.mark.slow
@needs_dask
def test_a_cluster_that_is_left_ends_what_it_has_begun_and_no_more(tmp_path, uninterrupted):
    """One worker is a cluster too: the run is its, or it would end with the command."""
    with dask(tmp_path, "--nworkers", "1", "--nthreads", "1") as (address, _):
        process = start("--cluster", address, cwd=tmp_path)
        wait_for(lambda: rows(tmp_path) >= 3, process)
        os.kill(process.pid, signal.SIGINT)
        out, err = process.communicate(timeout=LIMIT)
        assert (process.returncode, out) == (130, "")
        assert err.count("\n") == 3, err
        assert "; what its workers have begun they end, unless they are stopped; go on with: " in err.splitlines()[2]
        begun = tmp_path / "runs" / "tiny" / "quick" / "beta=1-seed0"
        wait_for((begun / MEASURES).is_file)
        time.sleep(2)
        assert [path for path in begun.parent.iterdir() if path.is_dir()] == [begun]
        assert finished("--cluster", address, cwd=tmp_path) == uninterrupted


@pytest.mark.slow
@needs_dask
def test_a_cluster_that_cannot_be_used_is_one_line(tmp_path):
    def refused(address):
        process = start("--cluster", address, cwd=tmp_path)
        out, err = process.communicate(timeout=LIMIT)
        assert (process.returncode, out) == (2, "")
        assert err.count("\n") == 3, err
        return err.splitlines()[-1]

    assert "no Dask scheduler answers at --cluster tcp://127.0.0.1:9 (" in refused("tcp://127.0.0.1:9")
    with dask(tmp_path) as (address, _):
        assert f"--cluster {address} has no workers: start some with `dask worker" in refused(address)
    (tmp_path / "scheduler.json").unlink(missing_ok=True)
    with dask(tmp_path, "--nworkers", "1", "--nthreads", "2") as (address, _):
        assert "each worker of --cluster must have one thread" in refused(address)


def test_a_reader_that_has_gone_is_no_error(copy):
    done = subprocess.run(
        f"{sys.executable} {SCRIPT} tiny --runs runs --results results --device cpu | head -1; exit ${{PIPESTATUS[0]}}",
        cwd=copy, shell=True, executable="/bin/bash", capture_output=True, text=True, timeout=LIMIT,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout == "tiny, quick: two betas on a few digits\n"
    assert "Error" not in done.stderr
