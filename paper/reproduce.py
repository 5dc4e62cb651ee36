"""The papers' tables, ours beside theirs: trains what is missing, measures it, writes the table and the figure.

    python paper/reproduce.py                                  what there is, how long it takes, how far it is
    python paper/reproduce.py rate-distortion                  one experiment with its quick budget
    python paper/reproduce.py iwae-table1 --budget full --device cuda
    python paper/reproduce.py all --jobs 4                     four runs side by side on this machine
    python paper/reproduce.py all --cluster tcp://HOST:8786    on the machines of a Dask cluster

Everything may be stopped at any moment and started again with the same line: runs go on from their folders, and what is
measured is not measured again. The results lie in paper/results/NAME.json; the figures beside them and RESULTS.md are
made from them.
"""

from level_script import run_as_script  # before all others: it sees to Ctrl-C

# isort: split

import contextlib
import difflib
import json
import re
import signal
import sys
import tempfile
import threading
import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import tyro
from filelock import FileLock
from joblib import Parallel, delayed
from joblib.externals.loky.process_executor import TerminatedWorkerError
from tqdm import tqdm

from experiment import pick_device, say
from level_script import one_line_errors, typed
from reproduction import (
    MEASURES,
    SOURCE,
    THREADS,
    Results,
    RunFailedError,
    StoppedError,
    Trained,
    carry_out,
    distinct,
    progress,
    read_measures,
    require_same_command,
)
from reproductions import REPRODUCTIONS, find
from results_page import as_table, count, heading, in_hours, judged, read_results, results_page, verdict
from run_files import write_beside
from trainable import Options, option, parse_options, require

HERE = Path(__file__).resolve().parent


@dataclass
class ReproduceOptions(Options):
    """Reproduce an experiment of a paper. Without a name: list what there is, how long it takes and how far it is."""

    name: Annotated[str | None, tyro.conf.Positional, tyro.conf.arg(metavar="[NAME]")] = None
    """The experiment, or all of them one after the other: all."""
    budget: str = "quick"
    """quick, minutes on two cores; full, the paper's recipe, which may take hours or a GPU; own, of iwae-table1;
    mnist, of readme."""
    seeds: int | None = option(None, least=1)
    """Train each run with so many seeds, from 0 on; by default as many as the budget asks for."""
    device: str = "auto"
    """cpu, cuda, mps, or auto for the best of them that is there."""
    jobs: int = option(1, least=1)
    """So many runs side by side, which share the machine's cores."""
    cluster: str | None = None
    """The address of a Dask scheduler, tcp://HOST:8786; all its machines must see --runs under the same path, and its
    workers have one thread each: `dask worker tcp://HOST:8786 --nworkers 4 --nthreads 1`."""
    remeasure: bool = False
    """Measure again what was measured before, on the same trained runs."""
    runs: Path = Path("runs", "reproduce")
    """The folder that holds the runs."""
    results: Path = HERE / "results"
    """The folder of the result files and figures; RESULTS.md is written beside it."""


def main(argv=None, known=None):
    """known: {name: Reproduction} to choose from, by default those of reproductions/."""
    with one_line_errors("reproduce.py"):
        options = parse_options(ReproduceOptions, argv, "reproduce.py")
        options.check(flags=True)
        known = known or {name: find(name) for name in REPRODUCTIONS}
        # Absolute: the processes that train may have another current folder.
        options.runs, options.results = (path.expanduser().absolute() for path in (options.runs, options.results))
        if options.name is None:
            print(listing(known, options))
            return
        names = chosen(known, options)
        for name in known:
            read_results(options.results, name)  # damaged ones are told before anything is trained
        require(
            options.cluster is None or re.fullmatch(r"(tcp|tls)://[^\s/:]+:\d{1,5}", options.cluster),
            f"--cluster must be the address of a Dask scheduler, tcp://HOST:8786, got {options.cluster!r}",
        )
        require_folder(options.runs, "--runs")
        require_folder(options.results, "--results")
        if options.cluster is None:
            pick_device(options.device)
        try:
            with terminated_as_interrupted():
                for name in names:
                    reproduce(known[name], options)
                    with FileLock(options.results / ".lock"):
                        write_beside(options.results.parent / "RESULTS.md", results_page(known, options.results))
        except (KeyboardInterrupt, StoppedError):
            again = typed(sys.argv[0], *(sys.argv[1:] if argv is None else argv))
            left = "; what its workers have begun they end, unless they are stopped" if options.cluster else ""
            say(f"reproduce.py: stopped, and what was done is saved{left}; go on with: {again}")
            raise SystemExit(130) from None


def listing(known, options):
    """What there is: a line per experiment and budget."""
    rows = [["experiment", "budget", "about", "state", ""]]
    for name, reproduction in known.items():
        there = read_results(options.results, name)
        for budget in reproduction.budgets:
            folders = run_folders(reproduction, options.runs, budget, range(reproduction.seeds(budget))).values()
            done = sum((folder / MEASURES).is_file() for folder in folders)
            state = f"{done} of {len(folders)} runs" if any(folder.is_dir() for folder in folders) else "-"
            if budget in there:
                state = f"results of {count(len(there[budget]['seeds']), 'seed')}"
            first = budget == reproduction.budgets[0]
            words = f"{reproduction.title} ({reproduction.source})" if first else ""
            rows.append([name if first else "", budget, in_hours(reproduction.minutes(budget)), state, words])
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = ["  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    lines += ["", "The times are for two cores, one run after the other. One of them: python paper/reproduce.py NAME"]
    return "\n".join(lines)


def chosen(known, options):
    """The names of the experiments that the command line asks for. Raises ValueError."""
    if options.name == "all":
        names = [name for name in known if options.budget in known[name].budgets]
        require(names, f"no experiment has a --budget {options.budget}")
        return names
    near = "".join(f"; did you mean {name}?" for name in difflib.get_close_matches(options.name, known, n=1))
    require(options.name in known, f"unknown experiment {options.name!r}: expected all, {', '.join(known)}{near}")
    budgets = known[options.name].budgets
    require(
        options.budget in budgets, f"{options.name} has no --budget {options.budget}: expected {' or '.join(budgets)}"
    )
    require(
        not known[options.name].alone or (options.jobs == 1 and options.cluster is None),
        f"{options.name} measures speed, which runs side by side would spoil: expected one at a time on this machine, "
        "so leave out --jobs and --cluster",
    )
    return [options.name]


def require_folder(path, flag):
    """Make the folder. Raises OSError, before hours are spent, if nothing can be written there."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=path).close()
    except OSError as error:
        raise OSError(f"cannot write to {flag} {path} ({error.strerror}): choose a folder you may write to") from None


@contextlib.contextmanager
def terminated_as_interrupted():
    """SIGTERM, the way in which batch systems ask a process to stop, does what Ctrl-C does."""
    if threading.current_thread() is not threading.main_thread():  # only there does Python take handlers
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


# --- One experiment --------------------------------------------------------------------------------------------------


def reproduce(reproduction, options):
    """Carry all its runs out, write the result file and the figure, and print the table."""
    name, budget = reproduction.name, options.budget
    seeds = range(options.seeds or reproduction.seeds(budget))
    folders = run_folders(reproduction, options.runs, budget, seeds)
    runs = reproduction.runs(budget)
    for (label, seed), folder in folders.items():  # what cannot be used is told before anything is trained
        require_same_command(folder, runs[label], seed)
        if options.remeasure:
            (folder / MEASURES).unlink(missing_ok=True)
        read_measures(folder)
    minutes = {folder: runs[label].minutes for (label, _), folder in folders.items()}
    left = sum(share * (1 - progress(folder)) for folder, share in minutes.items())
    say(f"{name}, {budget}: {reproduction.title}; {count(len(folders), 'run')} in {options.runs / name / budget}")
    done = sum((folder / MEASURES).is_file() for folder in folders.values())
    there = f"{done} of them are done; " if done else ""
    if reproduction.alone and (options.jobs > 1 or options.cluster):
        say("it measures speed: one run at a time, on this machine")
        options = replace(options, jobs=1, cluster=None)
    most = "at most " if options.jobs > 1 or options.cluster else ""  # minutes are those of one run after the other
    say(f"{there}expect {most}{in_hours(left)} on two cores" if left else "all of them are done")
    if left and budget in read_results(options.results, name):
        say(f"the results in {options.results / name}.json are replaced when all runs are done")
    if left:
        carry_out_all(reproduction, folders, minutes, options)
    results = Results(collect(reproduction, folders, budget, list(seeds)))
    table, claims = judged(reproduction, results)
    device = pick_device("auto" if options.cluster else options.device)
    trained = {label: [] for label in runs}
    for (label, seed), folder in folders.items():
        trained[label].append(Trained(label, seed, budget, folder, device))
    reproduction.draw(results, trained, options.results / f"{name}-{budget}.png")
    with FileLock(options.results / ".lock"):  # another budget's results may be written at the same time
        content = read_results(options.results, name) | {budget: results.content}
        write_beside(options.results / f"{name}.json", json.dumps(content, indent=2) + "\n")
    print(f"{heading(reproduction, results)}\n")
    print("\n".join(as_table(*table)))
    for claim in claims:
        print(f"\n{claim.text}\n  paper: {claim.paper}; ours: {claim.ours}; holds: {verdict(claim).replace('*', '')}")
    say(f"{name}: {options.results / name}.json, its figure, and {options.results.parent / 'RESULTS.md'}")


def run_folders(reproduction, runs, budget, seeds):
    """{(label, seed): its folder}, seed by seed, so that a first whole table is there early.

    Raises ValueError if two labels make one folder.
    """
    labelled = reproduction.runs(budget)
    folders = {
        (label, seed): runs / reproduction.name / budget / f"{as_file_name(label)}-seed{seed}"
        for seed in seeds
        for label, run in labelled.items()
        if seed in run.seeds_of(seeds)
    }
    used = {}
    for (label, seed), folder in folders.items():  # some file systems do not tell A from a
        other = used.setdefault((folder.name.casefold(), seed), label)
        require(other == label, f"{reproduction.name}: the runs {other!r} and {label!r} would share {folder}")
    return folders


def as_file_name(label):
    return "".join(letter if letter.isalnum() or letter in ".=" else "-" for letter in label).strip("-")


def collect(reproduction, folders, budget, seeds):
    """The content of a result file for one budget, from the measures.json of its runs."""
    found = {key: read_measures(folder) for key, folder in folders.items()}
    runs, noted = {}, SOURCE - {"command"}
    for label, run in reproduction.runs(budget).items():
        of_seeds = [found[label, seed] for seed in run.seeds_of(seeds)]
        names = [each["measures"].keys() for each in of_seeds]
        require(
            all(each == names[0] for each in names),
            f"{reproduction.name}, {label}: its seeds were measured by different versions: go on with --remeasure",
        )
        runs[label] = {
            "command": run.command,
            "seconds": [round(sum(each["seconds"].values()), 1) for each in of_seeds],
            **{name: distinct(value for each in of_seeds for value in each[name]) for name in sorted(noted)},
            "measures": {name: [each["measures"][name] for each in of_seeds] for name in names[0]},
        }
    sources = {name: distinct(each for run in found.values() for each in run[name]) for name in noted}
    return {"budget": budget, "seeds": seeds} | dict(sorted(sources.items())) | {"runs": runs}


# --- Carrying the runs out -------------------------------------------------------------------------------------------


def carry_out_all(reproduction, folders, minutes, options):
    """All runs, one after the other, side by side, or on a cluster, under one progress bar.

    A process that dies takes nothing with it: the runs it had go on in another. minutes: {folder: minutes}. Raises
    ValueError in one line for a run that failed, StoppedError or KeyboardInterrupt where it was asked to stop.
    """
    killed = 0
    with workers(options) as (carry_out_each, threads, lost), watched(minutes, reproduction.name):
        while True:
            tasks = [
                delayed(carry_out)(reproduction, label, seed, options.budget, folder, options.device, threads)
                for (label, seed), folder in folders.items()
                if read_measures(folder) is None
            ]
            if not tasks:
                return
            before = sum(map(progress, minutes))
            try:
                carry_out_each(tasks)
            except lost:
                killed = 1 if sum(map(progress, minutes)) > before else killed + 1
                require(killed < 3, "a process that trained was killed three times: is the memory full?")
            except RunFailedError as error:
                raise ValueError(str(error)) from None


@contextlib.contextmanager
def workers(options):
    """Who carries the runs out: a function of joblib's tasks, the threads of each run, the error for a lost process.

    The threads are None where each process chooses.
    """
    if options.cluster is None:
        # joblib replaces a process that has grown, as one does that has loaded its images, and would warn of it.
        warnings.filterwarnings("ignore", "A worker stopped while some jobs were given", UserWarning)
        yield Parallel(options.jobs, batch_size=1), max(1, THREADS // options.jobs), TerminatedWorkerError
        return
    try:
        from distributed import Client, KilledWorker, as_completed
    except ImportError:
        raise ValueError(
            "--cluster needs Dask, which is not installed: pip install -e '.[cluster]' in the clone's folder"
        ) from None
    try:
        client = Client(options.cluster, timeout=10)
    except (OSError, ValueError, TypeError) as error:
        raise ValueError(
            f"no Dask scheduler answers at --cluster {options.cluster} ({error}): start one with `dask scheduler`"
        ) from None

    def on_workers(tasks):  # joblib's own way to Dask takes a cluster of one worker for none, and trains here
        for future in as_completed([client.submit(function, *given, pure=False) for function, given, _ in tasks]):
            future.result()

    with client:  # its end takes back what no worker has begun
        line = f"dask worker {options.cluster} --nworkers 2 --nthreads 1"
        try:
            client.wait_for_workers(1, timeout=10)
        except OSError:
            raise ValueError(f"--cluster {options.cluster} has no workers: start some with `{line}`") from None
        require(
            max(client.nthreads().values()) == 1,
            f"each worker of --cluster must have one thread: start them with `{line}`",
        )
        yield on_workers, None, KilledWorker


@contextlib.contextmanager
def watched(minutes, name):
    """One progress bar over all runs, in their expected minutes, and a line for each that is done.

    What a run has done is seen in its folder. minutes: {folder: minutes}.
    """
    done, stderr = threading.Event(), sys.stderr  # a run that trains in this process has it redirected
    words = "{desc}: {percentage:3.0f}% |{bar}| {elapsed} gone, {remaining} left"
    told = {folder for folder in minutes if (folder / MEASURES).is_file()}

    def so_far():
        return sum(share * progress(folder) for folder, share in minutes.items())

    def look():
        bar.n = so_far()
        bar.refresh()
        for folder in minutes:
            if folder not in told and (folder / MEASURES).is_file():
                told.add(folder)
                bar.write(f"{len(told)} of {len(minutes)}: {folder.name}", file=stderr)

    def watch():
        while not done.wait(1):
            look()

    with tqdm(total=sum(minutes.values()), initial=so_far(), desc=name, bar_format=words, disable=None) as bar:
        watcher = threading.Thread(target=watch, daemon=True)
        watcher.start()
        try:
            yield
        finally:
            done.set()
            watcher.join()
            look()


if __name__ == "__main__":
    import reproduce  # by its own name, which the processes that train import

    run_as_script(reproduce.main)
