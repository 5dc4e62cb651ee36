"""What a reproduction is: a claim of a paper, the runs that test it, what is measured on each, a table and a figure.

Every file in `reproductions/` derives one class from `Reproduction` and reads like the paper's section. A run is one
line that can also be typed (`python paper/vae_paper.py --beta 4 ...`) and owns a folder like any other run, so that it
is resumed where it was cut off; what was measured on it lies beside its weights in measures.json, with the line, and
with every commit, version and machine that worked on it. `reproduce.py` carries the runs out, `results_page.py` writes
their tables.
"""

import contextlib
import csv
import io
import json
import math
import platform
import shlex
import statistics
import subprocess
import threading
import time
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module, metadata
from pathlib import Path

import torch
from tqdm import tqdm

from experiment import pick_device
from resume import RESUME_STATE, cpu_type, read_state
from run_files import lock_run_folder, write_beside
from trainable import TrainableModel, require
from training_images import load_resident, trained_images

MEASURES = "measures.json"
THREADS = torch.get_num_threads()  # PyTorch's own choice for this process

# --- What a paper's file says ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Run:
    """One training, for each seed: the script's module, what one types behind it, and how long that takes.

    script: "vae_paper", "reproductions.kingma_fig2", ...; None where the measure is all there is (options: its words).
    minutes: training and measuring, expected on two cores with nothing beside it.
    seeds: at most so many of those that are asked for. device, threads: instead of those that are asked for.
    """

    script: str | None
    options: str = ""
    minutes: float = 1.0
    seeds: int | None = None
    device: str | None = None
    threads: int | None = None

    @property
    def command(self):
        if not self.script:
            return self.options or "nothing trained"
        device = f" --device {self.device}" if self.device else ""
        return f"python paper/{self.script.replace('.', '/')}.py {self.options}".rstrip() + device

    def seeds_of(self, seeds):
        """Those seeds, in order, that this run is trained with."""
        return list(seeds)[: self.seeds]


@dataclass(frozen=True)
class Claim:
    """What the paper says, its number and where it stands, ours, and whether it holds (None: this cannot tell).

    why: said of a claim that does not hold or that cannot be told.
    """

    text: str
    paper: str
    ours: str
    holds: bool | None
    why: str = ""


class Reproduction:
    """A section of a paper, to be run. A subclass gives the words and the methods below.

    name        what one types, with hyphens
    title       what it is, in a few words
    source      paper and place, "Burda 2015, table 1"
    budgets     quick, full, and others if it has any
    alone       whether it measures speed, so that its runs must not be carried out side by side

    The docstring of a subclass is the text above its table.
    """

    name = title = source = ""
    budgets = ("quick", "full")
    alone = False

    def seeds(self, budget):
        """How many seeds it takes by default."""
        return 1 if budget == "quick" else 3

    def protocol(self, budget):
        """What is done otherwise than in the paper, in words: data, budget, batch, schedule."""
        raise NotImplementedError

    def runs(self, budget):
        """{label: Run}, in the order of the table."""
        raise NotImplementedError

    def measure(self, trained):
        """What is measured on a `Trained` run: {name: number, or list of numbers}, JSON's own types."""
        raise NotImplementedError

    def claims(self, results):
        """The paper's claims as list[Claim], judged by these `Results`."""
        raise NotImplementedError

    def table(self, results):
        """The table as its header and rows, lists of texts."""
        raise NotImplementedError

    def draw(self, results, trained, path):
        """Write the figure. trained: {label: [Trained of each seed]}, for what only the models can show."""
        raise NotImplementedError

    def minutes(self, budget, seeds=None):
        """What all runs take, one after the other, expected on two cores."""
        seeds = range(seeds or self.seeds(budget))
        return sum(run.minutes * len(run.seeds_of(seeds)) for run in self.runs(budget).values())


class Trained:
    """A run that is trained: its label and seed, its folder, and what is in it, on the device."""

    def __init__(self, label, seed, budget, folder, device):
        self.label, self.seed, self.budget, self.folder = label, seed, budget, Path(folder)
        self.device = torch.device(device)

    @cached_property
    def model(self):
        return TrainableModel.load(self.folder).to(self.device).eval()

    def images(self, split):
        """The run's own images as training_images.ResidentImages; split: "train" or "test"."""
        return load_resident(trained_images(self.folder)[0], split, self.device)

    @cached_property
    def rows(self):
        """metrics.csv: one dict of numbers per epoch."""
        with (self.folder / "metrics.csv").open(encoding="utf-8") as table:
            return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(table)]

    def column(self, name):
        return [row[name] for row in self.rows]


class Results:
    """The measures of all runs, as a result file holds them: results[label, name] is a value for each of its seeds."""

    def __init__(self, content):
        self.content, self.runs = content, content["runs"]

    def __getitem__(self, key):
        label, name = key
        return self.runs[label]["measures"][name]

    @property
    def num_seeds(self):
        return len(self.content["seeds"])

    def mean(self, label, name):
        return statistics.mean(self[label, name])

    def deviation(self, label, name):
        """The standard deviation over the seeds, 0 for one."""
        return statistics.stdev(self[label, name]) if len(self[label, name]) > 1 else 0.0

    def text(self, label, name, digits=2):
        """The mean over the seeds and, where there are several, their standard deviation: "86.76 ± 0.05"."""
        return spread_text(self[label, name], digits)


def spread_text(values, digits=2):
    """Mean ± standard deviation of a few numbers, or the one there is."""
    mean = f"{statistics.mean(values):.{digits}f}"
    return mean if len(values) < 2 else f"{mean} ± {statistics.stdev(values):.{digits}f}"


# --- Carrying a run out ----------------------------------------------------------------------------------------------


class RunFailedError(Exception):
    """A run ended otherwise than by being done; the message is its own last line."""


class StoppedError(Exception):
    """A run was asked to stop, and is saved."""


ONE_AT_A_TIME = threading.Lock()  # in a process: threads, random state and streams are the process's own
tqdm.set_lock(threading.RLock())  # its default is one that processes share, and leaves a mess where one is killed


def carry_out(reproduction, label, seed, budget, folder, device, threads=None):
    """Train what is missing of one run, measure it, and leave measures.json in its folder; nothing if that is there.

    Whatever was cut off before, here or on another machine, goes on from the folder. threads: of PyTorch, by default
    its own choice. Raises RunFailedError in one line, StoppedError if asked to stop.
    """
    folder, run = Path(folder), reproduction.runs(budget)[label]
    try:
        with ONE_AT_A_TIME:
            require_same_command(folder, run, seed)
            if read_measures(folder) is None:
                torch.set_num_threads(run.threads or threads or THREADS)
                device = pick_device(run.device or device)
                source = note_source(folder, run, seed, device)
                if run.script:
                    train_run(run, seed, folder, device)
                folder.mkdir(parents=True, exist_ok=True)
                with lock_run_folder(folder):
                    measure(reproduction, Trained(label, seed, budget, folder, device), source)
    except (RunFailedError, ValueError, OSError) as error:
        raise RunFailedError(f"{reproduction.name}, {label}, seed {seed}: {error}") from None


def measure(reproduction, trained, source):
    """Measure a run and write measures.json. source: what `note_source` gave. Raises ValueError for NaN."""
    start = time.perf_counter()
    measures = as_json(reproduction.measure(trained))
    seconds = {"training": training_seconds(trained.folder), "measuring": round(time.perf_counter() - start, 1)}
    content = source | {"seconds": seconds, "measures": measures}
    write_beside(trained.folder / MEASURES, json.dumps(content, indent=2) + "\n")


def train_run(run, seed, folder, device):
    """Start the run in its folder, or go on with the one that is there. Its report and its progress are not shown."""
    options = [*shlex.split(run.options), "--seed", str(seed), "--device", str(device)]
    where = "--resume" if (folder / RESUME_STATE).is_file() else "--out"
    told = io.StringIO()
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(told):
            import_module(run.script).main([*options, where, str(folder)])
    except SystemExit as stopped:
        if stopped.code == 130:
            raise StoppedError(f"{folder} is saved") from None
        if stopped.code:
            lines = [line for line in told.getvalue().splitlines() if line.strip()]
            again = f"; to begin this run again, delete {folder}" if has_lost_its_state(run, folder) else ""
            reason = lines[-1] if lines else f"{run.command} ended with status {stopped.code}"
            raise RunFailedError(reason + again) from None


def has_lost_its_state(run, folder):
    """Whether a folder holds a run that nothing can go on from, as its state is damaged or gone."""
    if not folder.is_dir() or not any(folder.iterdir()):
        return False
    try:
        read_state(folder, Path(import_module(run.script).__file__).name)
    except (OSError, ValueError):
        return True
    return False


def read_measures(folder):
    """The content of a run's measures.json, None if it has none. Raises ValueError if it is damaged."""
    path = Path(folder) / MEASURES
    if (content := read_json(path)) is None:
        return None
    try:
        whole = content.keys() >= SOURCE and content["seconds"].keys() == {"training", "measuring"}
        as_json(content["seconds"] | content["measures"])
    except (ValueError, LookupError, TypeError, AttributeError):
        whole = False
    require(whole, f"{path} is damaged: delete it, and the run is measured again")
    return content


def as_json(value, name="measure"):
    """Numbers, and lists of them, by name, in Python's own types, to 8 digits. Raises ValueError for all else."""
    if isinstance(value, dict):
        return {str(key): as_json(each, str(key)) for key, each in value.items()}
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, list | tuple):
        return [as_json(each, name) for each in value]
    fine = isinstance(value, int | float) and math.isfinite(value)
    require(fine, f"its {name} is {value!r:.60}: expected a finite number")
    return float(f"{value:.8g}") if isinstance(value, float) else value


def progress(folder):
    """How much of a run is done, from 0 to 1: its epochs, as last saved, and all of it once it is measured."""
    if (folder / MEASURES).is_file():
        return 1.0
    try:
        epochs = json.loads((folder / "config.json").read_text(encoding="utf-8"))["training"]["epochs"]
        done = max(0, (folder / "metrics.csv").read_bytes().count(b"\n") - 1)
    except (OSError, ValueError, LookupError, TypeError):
        return 0.0
    return min(0.95, 0.95 * done / epochs)


def training_seconds(folder):
    with contextlib.suppress(OSError, ValueError, LookupError):
        return json.loads((folder / "summary.json").read_text(encoding="utf-8"))["seconds"]
    return 0.0


# --- Where a number comes from ---------------------------------------------------------------------------------------

SOURCE = {"command", "commit", "versions", "machine"}


def source_file(folder):
    """Beside the run's folder, which has to be empty when its script begins."""
    return folder.with_name(f"{folder.name}.json")


def read_source(folder):
    """What `note_source` noted on a run, None if the run is not there. Raises ValueError if it is damaged."""
    path = source_file(folder)
    content = read_json(path) if folder.is_dir() else None
    fine = content is None or (isinstance(content, dict) and content.keys() == SOURCE)
    require(fine, f"{path} is damaged: delete it and {folder}, and the run begins again")
    return content


def require_same_command(folder, run, seed):
    """Raises ValueError if the folder holds a run that was made by another line: its options have changed since."""
    if (before := read_source(folder)) is not None:
        was, now = before["command"], command_line(run, seed)
        require(
            was == now, f"{folder} holds the run of another line, {was}; now it is {now}: move or delete the folder"
        )


def command_line(run, seed):
    return f"{run.command} --seed {seed}" if run.script else run.command


def note_source(folder, run, seed, device):
    """What a run is made with: its line, and every commit, versions and machine that worked on it, one after another.

    It is kept beside the folder from the beginning, so that a run which is resumed or measured elsewhere names both.
    """
    now = {"commit": commit(), "versions": package_versions(), "machine": machine(device)}
    before = read_source(folder) or {name: [] for name in now}
    source = {"command": command_line(run, seed)}
    source |= {name: distinct([*before[name], value]) for name, value in now.items()}
    folder.parent.mkdir(parents=True, exist_ok=True)
    write_beside(source_file(folder), json.dumps(source, indent=2) + "\n")
    return source


def distinct(values):
    return list({json.dumps(value): value for value in values}.values())


def read_json(path):
    """What a file holds, None if there is none. Raises ValueError that names it if it is damaged."""
    if not path.is_file():
        return None
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError):
        raise ValueError(f"{path} is damaged: delete it and try again") from None


def machine(device):
    """The device in words, and the threads."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else cpu_type()
    threads = torch.get_num_threads()
    return f"{device.type}, {name}, {threads} thread{'s' if threads > 1 else ''}"


def package_versions():
    names = ("torch", "numpy", "scikit-learn")
    return {"python": platform.python_version()} | {name: metadata.version(name) for name in names}


def commit():
    """The repository's commit, with a plus if code differs from it; "unknown" outside of a clone.

    Results are no code: what one experiment writes is not to mark the next.
    """
    root = Path(__file__).resolve().parents[1]
    try:
        if Path(git(root, "rev-parse", "--show-toplevel")).resolve() != root:  # unpacked in somebody else's repository
            return "unknown"
        head = git(root, "rev-parse", "--short", "HEAD")
        code = (".", ":!paper/results", ":!*.md")
        changed = git(root, "status", "--porcelain", "--untracked-files=no", "--", *code)
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return head + ("+" if changed else "")


def git(root, *words):
    done = subprocess.run(["git", *words], cwd=root, capture_output=True, text=True, check=True, timeout=30)
    return done.stdout.strip()
