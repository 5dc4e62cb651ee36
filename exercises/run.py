"""The course from the command line: what is next, start it, check it, take a hint.

python exercises/run.py                 the next exercise, and how far you are
python exercises/run.py start 3         your own copy as a notebook (--script: as plain Python)
python exercises/run.py check 3         what is right and what is not yet
python exercises/run.py hint 3          one hint more each time
"""

try:
    from level_script import run_as_script, typed  # before all others: it sees to Ctrl-C
    from run_files import write_beside
except ModuleNotFoundError as error:
    raise SystemExit(
        f"run.py: error: {error.name} is missing: install the repository that this course is a part of, with "
        "`pip install -r requirements.txt` in its folder"
    ) from None

# isort: split

import argparse
import shutil
import sys
import tempfile
import time
from pathlib import Path

import course
from course import Progress, check_file, exercises, find, shown, work_file, work_folder, writing


def main(argv=None, folder=course.HERE):
    options = parse(argv)
    try:
        return COMMANDS[options.command](options, Path(folder))
    except (ValueError, OSError) as error:
        print(shown(f"run.py: error: {' '.join(str(error).split())}", sys.stderr), file=sys.stderr)
        return 2


def say(text):
    print(shown(text))


def parse(argv):
    parser = argparse.ArgumentParser(prog="run.py", description="The exercises: without a command, what comes next.")
    parser.set_defaults(command="next")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")

    def add(name, help):
        command = commands.add_parser(name, help=help, description=help)
        command.set_defaults(command=name)
        return command

    add("list", "all exercises, and which are done")
    for name, help in (
        ("start", "make your own copy of an exercise"),
        ("check", "check your answers; your file is not run, only your functions"),
        ("hint", "show one more hint"),
        ("solution", "show the solution"),
        ("reset", "start an exercise again; a backup of your work is kept"),
    ):
        command = add(name, help)
        command.add_argument("number", nargs="?" if name == "check" else None, help="of the exercise")
        if name == "start":
            command.add_argument("--script", action="store_true", help="plain Python in place of a notebook")
        if name == "check":
            command.add_argument("--all", action="store_true", help="every exercise that was started")
    command = add("export", "write a hand-out for a class: texts and checks, no solutions")
    command.add_argument("folder", type=Path, help="a new folder")
    command.add_argument(
        "--without-references",
        action="store_true",
        help="the checks as expected numbers: they do not show how it is done, and say less of a mistake",
    )
    return parser.parse_args(argv)


def next_exercise(options, folder):
    progress = Progress(folder)
    course_exercises = exercises(folder)
    done = [exercise for exercise in course_exercises if progress.done(exercise)]
    width = 30
    filled = width * len(done) // len(course_exercises)
    say(f"[{'█' * filled}{'·' * (width - filled)}] {len(done)} of {len(course_exercises)} exercises")
    left = [exercise for exercise in course_exercises if exercise not in done]
    if not left:
        say("All done. The papers behind them are in paper/README.md.")
        return 0
    exercise = left[0]
    say(
        f"Next: {exercise.number}. {exercise.title} ({exercise.minutes} minutes, difficulty {exercise.difficulty} of 3)"
    )
    verb = "check" if work_file(exercise, folder) else "start"
    say(f"Type: {typed(__file__, verb, exercise.number)}")
    return 0


def list_exercises(options, folder):
    progress = Progress(folder)
    for exercise in exercises(folder):
        mark = "✓" if progress.done(exercise) else "…" if work_file(exercise, folder) else " "
        say(f"{mark} {exercise.number:2d}. {exercise.title} ({exercise.minutes} minutes, {exercise.difficulty} of 3)")
    return 0


def start(options, folder):
    exercise = find(options.number, folder)
    if path := work_file(exercise, folder):
        raise ValueError(
            f"{path} is already there: go on with it, or start again with {typed(__file__, 'reset', exercise.number)}"
        )
    path = work_folder(folder) / f"{exercise.name}{'.py' if options.script else '.ipynb'}"
    write_copy(exercise, path)
    return 0


def write_copy(exercise, path):
    """The learner's own copy of an exercise's text, as a notebook or as a script."""
    import jupytext

    notebook = jupytext.reads(exercise.text, fmt="md")
    notebook.metadata.setdefault("kernelspec", {"name": "python3", "display_name": "Python 3", "language": "python"})
    text = jupytext.writes(notebook, fmt="py:percent" if path.suffix == ".py" else "ipynb")
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_beside(path, text)
    say(f"Your copy: {path}")
    say(f"When you have an answer: {typed(__file__, 'check', exercise.number)}")


def check(options, folder):
    if options.all == (options.number is not None):
        raise ValueError("check wants the number of an exercise, or --all")
    chosen = [find(options.number, folder)] if options.number is not None else exercises(folder)
    started = [exercise for exercise in chosen if work_file(exercise, folder)]
    if not started:
        raise ValueError(f"nothing was started yet: {typed(__file__, 'start', chosen[0].number)} makes your copy")
    return max(check_exercise(exercise, folder) for exercise in started)


def check_exercise(exercise, folder):
    progress = Progress(folder)
    say(f"{exercise.number}. {exercise.title}")
    right = True
    for name, result in check_file(exercise, work_file(exercise, folder)):
        right &= result is not None and result.ok
        if result is None:
            say(f"  ✗ {name}: no function of this name in your file")
            continue
        say(f"  {'✓' if result.ok else '✗'} {name}: {result.message}")
        if result.ok:
            progress.pass_function(exercise, name)
    say("  All right." if right else f"  Stuck? {typed(__file__, 'hint', exercise.number)}")
    return 0 if right else 1


def hint(options, folder):
    exercise = find(options.number, folder)
    count = Progress(folder).take_hint(exercise)
    for number, text in enumerate(exercise.hints[:count], start=1):
        say(f"Hint {number} of {len(exercise.hints)}: {text}\n")
    return 0


def solution(options, folder):
    path = find(options.number, folder).solution
    if not path.is_file():
        raise ValueError("this copy of the course has no solutions: ask your teacher")
    say(path.read_text(encoding="utf-8").rstrip())
    return 0


def reset(options, folder):
    exercise = find(options.number, folder)
    path = work_file(exercise, folder)
    if path is None:
        raise ValueError(f"exercise {exercise.number} was not started")
    stamp = time.strftime("%Y%m%d-%H%M%S")
    while (backup := path.with_name(f"{path.stem}.{stamp}{path.suffix}.backup")).exists():
        stamp += "-again"
    with writing(backup):
        write_beside(backup, path.read_bytes())
    say(f"Your work is kept as {backup}")
    write_copy(exercise, path)
    Progress(folder).forget(exercise)
    return 0


def export(options, folder):
    out = options.folder
    if out.exists():
        raise ValueError(f"{out} exists and is not overwritten: choose a new folder")
    if out.resolve().is_relative_to(folder.resolve()):
        raise ValueError(f"{out} lies in the course itself: choose a folder elsewhere")
    with writing(out):
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{out.name}-", dir=out.parent) as beside:
            whole = Path(beside, out.name)  # copied aside: a hand-out is there as a whole, or not at all
            shutil.copytree(folder, whole, ignore=shutil.ignore_patterns("solutions", "work", "__pycache__"))
            write_readme(whole)
            if options.without_references:
                record_checks(whole)
            whole.rename(out)
    say(f"Hand-out without solutions{' and references' * options.without_references}: {out}")
    say("Where the repository is installed, type there: python run.py start 1")
    return 0


def write_readme(folder):
    """The course's README as a hand-out's: with what is to be typed there, and without the part for teachers."""
    path = folder / "README.md"
    text = path.read_text(encoding="utf-8").split("\n## For teachers\n")[0]
    text = "\n".join(line for line in text.split("\n") if not line.startswith("make "))
    text = text.replace(".venv/bin/python exercises/", "python ").replace("exercises/work", "work")
    path.write_text(text + "\n", encoding="utf-8")


def record_checks(folder):
    """In place of each check's code the numbers that it expects."""
    from recorded import write

    for exercise in exercises(folder):
        code = folder / "checks" / f"{exercise.name}.py"
        write(exercise.functions.values(), code.with_suffix(".json"))
        code.unlink()


COMMANDS = {
    "next": next_exercise,
    "list": list_exercises,
    "start": start,
    "check": check,
    "hint": hint,
    "solution": solution,
    "reset": reset,
    "export": export,
}

if __name__ == "__main__":
    run_as_script(main)
