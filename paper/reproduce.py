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
import inspect
import json
import os
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from joblib import Parallel, delayed, parallel_config
from joblib.externals.loky.process_executor import TerminatedWorkerError
from tqdm import tqdm

from experiment import pick_device, say
from level_script import one_line_errors, typed
from reproduction import (
    MEASURES,
    Results,
    RunFailedError,
    StoppedError,
    Trained,
    carry_out,
    progress,
    read_measures,
)
from reproductions import DEPARTURES, REPRODUCTIONS, find
from run_files import write_beside
from trainable import Options, option, require

HERE = Path(__file__).resolve().parent


@dataclass
class ReproduceOptions(Options):
    """Reproduce an experiment of a paper. Without a name: list what there is, how long it takes and how far it is."""

    name: Annotated[str | None, tyro.conf.Positional] = None
    """The experiment, or all of them one after the other: all."""
    budget: str = "quick"
    """quick, minutes on two cores; full, the paper's recipe, which may take hours or a GPU; some have others."""
    seeds: int | None = option(None, least=1)
    """Train each run with so many seeds, from 0 on; by default as many as the budget asks for."""
    device: str = "auto"
    """cpu, cuda, mps, or auto for the best of them that is there."""
    jobs: int = option(1, least=1)
    """So many runs side by side, which share the machine's cores."""
    cluster: str | None = None
    """The address of a Dask scheduler, tcp://HOST:8786; all its machines must see --runs under the same path."""
    remeasure: bool = False
    """Measure again what was measured before, on the same trained runs."""
    runs: Path = Path("runs", "reproduce")
    """The folder that holds the runs."""
    results: Path = HERE / "results"
    """The folder of the result files and figures; RESULTS.md is written beside it."""


def main(argv=None, known=None):
    """known: {name: Reproduction} to choose from, by default those of reproductions/."""
    with one_line_errors("reproduce.py"):
        options = tyro.cli(ReproduceOptions, args=argv, prog="reproduce.py")
        options.check(flags=True)
        known = known or {name: find(name) for name in REPRODUCTIONS}
        # Absolute: the processes that train may have another current folder.
        options.runs, options.results = (path.expanduser().absolute() for path in (options.runs, options.results))
        if options.name is None:
            print(listing(known, options))
            return
        names = list(known) if options.name == "all" else [options.name]
        require(names[0] in known, f"unknown experiment {options.name!r}: expected all, {', '.join(known)}")
        for name in names:
            budgets = known[name].budgets
            require(options.budget in budgets, f"{name} has no --budget {options.budget}: it has {', '.join(budgets)}")
            read_results(options.results, name)  # damaged ones are told before anything is trained
        pick_device(options.device)
        for name in names:
            reproduce(known[name], options)
            write_beside(options.results.parent / "RESULTS.md", results_page(known, options.results))


# --- One experiment --------------------------------------------------------------------------------------------------


def reproduce(reproduction, options):
    """Carry all its runs out, write the result file and the figure, and print the table."""
    name, budget = reproduction.name, options.budget
    seeds = range(options.seeds or reproduction.seeds(budget))
    folders = run_folders(reproduction, options.runs, budget, seeds)
    minutes = reproduction.minutes(budget, len(seeds))
    say(f"{name}, {budget}: {reproduction.title}; {len(folders)} runs in {options.runs / name / budget}")
    say(f"expect {in_hours(minutes)} on two cores, less what is there already")
    if options.remeasure:
        for folder in folders.values():
            (folder / MEASURES).unlink(missing_ok=True)
    carry_out_all(reproduction, folders, options)
    content = collect(reproduction, folders, budget, list(seeds))
    results = Results(content)
    options.results.mkdir(parents=True, exist_ok=True)
    device = pick_device(options.device)
    trained = {
        label: [Trained(label, seed, budget, folders[label, seed], device) for seed in seeds] for label in results.runs
    }
    content = read_results(options.results, name) | {budget: content}
    write_beside(options.results / f"{name}.json", json.dumps(content, indent=2) + "\n")
    reproduction.draw(results, trained, options.results / f"{name}-{budget}.png")
    print(f"{heading(reproduction, results)}\n")
    print("\n".join(as_table(*reproduction.table(results))))
    for claim in reproduction.claims(results):
        print(f"\n{claim.text}\n  paper: {claim.paper}; ours: {claim.ours}; holds: {MARKS[claim.holds].strip('*')}")
    say(f"{name}: {options.results / name}.json, its figure, and {options.results.parent / 'RESULTS.md'}")


def run_folders(reproduction, runs, budget, seeds):
    """{(label, seed): its folder}, seed by seed, so that a first whole table is there early."""
    labels = reproduction.runs(budget)
    return {
        (label, seed): runs / reproduction.name / budget / f"{as_file_name(label)}-seed{seed}"
        for seed in seeds
        for label in labels
    }


def as_file_name(label):
    return "".join(letter if letter.isalnum() or letter in ".=" else "-" for letter in label).strip("-")


def collect(reproduction, folders, budget, seeds):
    """The content of a result file for one budget, from the measures.json of its runs."""
    found = {key: read_measures(folder) for key, folder in folders.items()}
    runs = {}
    for label, run in reproduction.runs(budget).items():
        of_seeds = [found[label, seed] for seed in seeds]
        runs[label] = {
            "command": run.command,
            "seconds": [round(sum(each["seconds"].values()), 1) for each in of_seeds],
            "measures": {name: [each["measures"][name] for each in of_seeds] for name in of_seeds[0]["measures"]},
        }
    sources = {name: distinct(each[name] for each in found.values()) for name in ("commit", "versions", "machine")}
    return {"budget": budget, "seeds": seeds} | sources | {"runs": runs}


def distinct(values):
    return list({json.dumps(value): value for value in values}.values())


# --- Carrying the runs out -------------------------------------------------------------------------------------------


def carry_out_all(reproduction, folders, options):
    """All runs, one after the other, side by side, or on a cluster, under one progress bar.

    A process that dies takes nothing with it: the runs it had go on in another. Raises ValueError in one line for a run
    that failed, SystemExit where it was asked to stop.
    """
    runs = reproduction.runs(options.budget)
    minutes = {folder: runs[label].minutes for (label, _), folder in folders.items()}
    left_alone = 0
    with workers(options) as (parallel, threads), watched(minutes, reproduction.name):
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
                parallel(tasks)
            except TerminatedWorkerError:
                left_alone = 0 if sum(map(progress, minutes)) > before else left_alone + 1
                require(left_alone < 3, "a process that trained was killed three times: is the memory full?")
            except RunFailedError as error:
                raise ValueError(str(error)) from None
            except StoppedError:
                say(f"reproduce.py: stopped; go on with: {typed(*sys.argv)}")
                raise SystemExit(130) from None


@contextlib.contextmanager
def workers(options):
    """Who carries the runs out: gives joblib's Parallel, and the threads of each (None: as its process has them)."""
    if options.cluster is None:
        threads = max(1, (os.cpu_count() or 1) // options.jobs) if options.jobs > 1 else None
        yield Parallel(n_jobs=options.jobs), threads
        return
    try:
        from distributed import Client
    except ImportError:
        raise ValueError(
            "--cluster needs Dask, which is not installed: pip install -e '.[cluster]' in the clone's folder"
        ) from None
    try:
        client = Client(options.cluster, timeout=10, set_as_default=False)
    except (OSError, ValueError, TypeError) as error:
        raise ValueError(
            f"no Dask scheduler answers at --cluster {options.cluster} ({error}): start one with `dask scheduler`"
        ) from None
    with client, parallel_config("dask", client=client):
        require(client.nthreads(), f"--cluster {options.cluster} has no workers: start some with `dask worker`")
        yield Parallel(n_jobs=-1), None


@contextlib.contextmanager
def watched(minutes, name):
    """One progress bar over all runs, in their expected minutes. What a run has done is seen in its folder.

    minutes: {folder: minutes}.
    """
    done = threading.Event()
    words = "{desc}: {percentage:3.0f}% |{bar}| {elapsed} gone, {remaining} left"

    def watch():
        while not done.wait(1):
            bar.n = sum(share * progress(folder) for folder, share in minutes.items())
            bar.refresh()

    with tqdm(total=sum(minutes.values()), desc=name, bar_format=words, disable=None) as bar:
        bar.initial = bar.n = sum(share * progress(folder) for folder, share in minutes.items())
        watcher = threading.Thread(target=watch, daemon=True)
        watcher.start()
        try:
            yield
        finally:
            done.set()
            watcher.join()


# --- Result files and the page that is made from them ----------------------------------------------------------------


def read_results(folder, name):
    """A result file, {budget: content}, empty if there is none. Raises ValueError if it is damaged."""
    path = folder / f"{name}.json"
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        for each in content.values():
            assert each["seeds"]
            for run in each["runs"].values():
                assert all(len(values) == len(each["seeds"]) for values in run["measures"].values())
    except (ValueError, LookupError, TypeError, AttributeError, AssertionError, RecursionError):
        raise ValueError(f"{path} is damaged: delete it; the runs are there, and what was measured is too") from None
    return content


def listing(known, options):
    """What there is: a line per experiment and budget."""
    rows = [["experiment", "budget", "about", "state", ""]]
    for name, reproduction in known.items():
        there = read_results(options.results, name)
        for budget in reproduction.budgets:
            folders = run_folders(reproduction, options.runs, budget, range(reproduction.seeds(budget))).values()
            done = sum((folder / MEASURES).is_file() for folder in folders)
            state = f"{done} of {len(folders)} runs" if done else "-"
            if budget in there:
                state = f"done, {count(len(there[budget]['seeds']), 'seed')}"
            first = budget == reproduction.budgets[0]
            words = f"{reproduction.title} ({reproduction.source})" if first else ""
            rows.append([name if first else "", budget, in_hours(reproduction.minutes(budget)), state, words])
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = ["  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join([*lines, "", "The times are for two cores. One of them: python paper/reproduce.py NAME"])


def in_hours(minutes):
    return f"{minutes / 60:.0f} h" if minutes >= 120 else f"{max(1, round(minutes))} min"


def count(number, noun):
    return f"{number} {noun}" + ("" if number == 1 else "s")


MARKS = {True: "yes", False: "**no**", None: "not tested"}


def results_page(known, results):
    """RESULTS.md: a function of the result files and of the experiments' words."""
    found = [
        (reproduction, Results(content))
        for name, reproduction in known.items()
        for content in read_results(results, name).values()
    ]
    lines = [
        "# Results: the papers' numbers and ours",
        "",
        f"Written by `python paper/reproduce.py` from the files in [`{results.name}/`]({results.name}), which hold",
        "every value of every seed. A budget called quick is minutes of training where the paper took hours or days:",
        "it shows directions, and its numbers are not the paper's. Values are means over seeds ± their standard",
        "deviation.",
        "",
        "| experiment | budget | claim | paper | ours | holds |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for reproduction, each in found:
        link = f"[{reproduction.name}](#{anchor(reproduction, each)})"
        for claim in reproduction.claims(each):
            cells = (link, each.content["budget"], claim.text, claim.paper, claim.ours, MARKS[claim.holds])
            lines.append(table_row(cells))
    lines += ["", "## Where this code departs from the papers on purpose", ""]
    lines += as_table(["file", "departure", "reason"], DEPARTURES)
    for reproduction, each in found:
        lines += ["", *section(reproduction, each, results.name)]
    return "\n".join(lines) + "\n"


def section(reproduction, results, figures):
    """One experiment's part of the page, as lines. figures: the folder of the figures, seen from the page."""
    content, budget = results.content, results.content["budget"]
    name, seeds = reproduction.name, results.num_seeds
    given = f" --seeds {seeds}" if seeds != reproduction.seeds(budget) else ""
    hours = in_hours(sum(sum(run["seconds"]) for run in results.runs.values()) / 60)
    versions = "; ".join(", ".join(f"{key} {value}" for key, value in each.items()) for each in content["versions"])
    lines = [f"## {heading(reproduction, results)}", "", *inspect.getdoc(type(reproduction)).splitlines(), ""]
    lines += as_table(*reproduction.table(results))
    lines += ["", f"![{reproduction.title}]({figures}/{name}-{budget}.png)", ""]
    if words := reproduction.protocol(budget):
        lines += [f"Otherwise than in the paper: {words}", ""]
    lines += [
        f"`python paper/reproduce.py {name} --budget {budget}{given}`; {count(seeds, 'seed')}; {hours} of training and "
        f"measuring; {', '.join(content['machine'])}; {versions}; commit {', '.join(content['commit'])}",
        "",
        "<details><summary>the runs</summary>",
        "",
    ]
    lines += as_table(
        ["run", "command", "minutes"],
        [
            [label, f"`{run['command']}`", f"{sum(run['seconds']) / len(run['seconds']) / 60:.1f}"]
            for label, run in results.runs.items()
        ],
    )
    return [*lines, "", "</details>"]


def heading(reproduction, results):
    return f"{reproduction.name}, {results.content['budget']}: {reproduction.title}"


def anchor(reproduction, results):
    """The heading's name in a link, as GitHub makes it."""
    text = heading(reproduction, results).lower().replace(" ", "-")
    return "".join(letter for letter in text if letter.isalnum() or letter in "-_")


def as_table(header, rows):
    return [table_row(header), table_row(["---"] * len(header)), *map(table_row, rows)]


def table_row(cells):
    return "| " + " | ".join(str(cell).replace("|", "\\|") for cell in cells) + " |"


if __name__ == "__main__":
    import reproduce  # by its own name, which the processes that train import

    run_as_script(reproduce.main)
