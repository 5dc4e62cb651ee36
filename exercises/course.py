"""The course's exercises: where they lie, what a learner has written, and what is done so far.

An exercise is one Markdown file, `NN_name.md`: text, cells (```python), the stubs to fill in, hints. Its checks are in
`checks/NN_name.py`, its solutions in `solutions/NN_name.py`. A learner works on a copy in `work/`, which git ignores.
"""

import contextlib
import functools
import importlib.util
import json
import os
import re
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from run_files import write_beside

# `checking` needs PyTorch, which takes seconds to import: who only wants a hint does not wait for it.

HERE = Path(__file__).resolve().parent


@dataclass(frozen=True)
class Exercise:
    """One exercise, by the path of its text."""

    path: Path

    @property
    def name(self):
        return self.path.stem  # such as 03_kl_divergence

    @property
    def number(self):
        return int(self.name[:2])

    @property
    def text(self):
        return self.path.read_text(encoding="utf-8")

    @property
    def title(self):
        return re.search(r"^# \d+\. (.+)$", self.text, re.MULTILINE)[1]

    @property
    def minutes(self):
        return int(re.search(r"(\d+) minutes", self.text)[1])

    @property
    def difficulty(self):
        return int(re.search(r"difficulty (\d) of 3", self.text)[1])

    @property
    def hints(self):
        """The folded hints, in the order in which they are given."""
        return [
            hint.strip() for hint in re.findall(r"<summary>Hint \d+</summary>\n(.*?)</details>", self.text, re.DOTALL)
        ]

    @property
    def names(self):
        """The functions to write, as the text asks for them: without a look at the checks, which need PyTorch."""
        return re.findall(rf"^check\({self.number}, (\w+)\)$", self.text, re.MULTILINE)

    @functools.cached_property
    def functions(self):
        """The checks of the functions to write, by name."""
        code = self.path.parent / "checks" / f"{self.name}.py"
        if code.is_file():
            functions = load_module(code).FUNCTIONS
        else:  # a hand-out without references
            from recorded import read

            functions = read(code.with_suffix(".json"))
        return {function.name: function for function in functions}

    @property
    def solution(self):
        return self.path.parent / "solutions" / f"{self.name}.py"


def exercises(folder=HERE):
    return [Exercise(path) for path in sorted(Path(folder).glob("[0-9][0-9]_*.md"))]


def find(number, folder=HERE):
    """The exercise of that number. Raises ValueError for one that is not there."""
    known = {exercise.number: exercise for exercise in exercises(folder)}
    try:
        return known[int(number)]
    except (ValueError, KeyError):
        raise ValueError(f"there is no exercise {number}: expected one of {', '.join(map(str, known))}") from None


def course_here():
    """The course in which somebody works: a hand-out, if the current folder lies in one, or else this one."""
    for folder in (Path.cwd(), *Path.cwd().parents):
        if (folder / "run.py").is_file() and (folder / "checks").is_dir():
            return folder
    return HERE


def work_folder(folder=HERE):
    """Where a learner's copies, models and progress lie: $COURSE_WORK, or else work/ in the course's folder."""
    return Path(os.environ.get("COURSE_WORK") or Path(folder) / "work")


def work_file(exercise, folder=HERE):
    """A learner's copy, or None; of a notebook and a script the one that was written last."""
    work = work_folder(folder)
    found = [path for suffix in (".ipynb", ".py") if (path := work / f"{exercise.name}{suffix}").is_file()]
    return max(found, key=lambda path: path.stat().st_mtime, default=None)


def load_module(path):
    """A Python file as a module, whatever its name."""
    spec = importlib.util.spec_from_file_location(f"exercise_{path.parent.name}_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# --- What a terminal can show ----------------------------------------------------------------------------------------

IN_ASCII = str.maketrans({"✓": "+", "✗": "-", "…": "~", "█": "#", "·": "."})


def shown(text, stream=None):
    """The text in characters that the stream can print, by default stdout: ticks and blocks have stand-ins in ASCII."""
    encoding = getattr(stream or sys.stdout, "encoding", None) or "utf-8"
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        return text.translate(IN_ASCII).encode(encoding, "backslashreplace").decode(encoding)
    return text


# --- Models, earlier answers, checks ---------------------------------------------------------------------------------


def trained_vae(latent_dim=20, epochs=30, folder=None, lr=1e-3, **options):
    """A VAE trained on the digits in some 15 seconds, behind a progress bar, and kept in work/models for the next time.

    options: those of vae_paper.VAE, and `conditional=True` for the CVAE.
    """
    import torch

    from experiment import TrainingConfig
    from trainer import train
    from training_images import load_resident
    from vae_paper import VAE, Autoencoder, ConditionalVAE

    named = options if lr == 1e-3 else options | {"lr": lr}
    words = "-".join(f"{name}={value}" for name, value in sorted(named.items()))
    path = work_folder(folder or course_here()) / "models" / f"vae-{latent_dim}-{epochs}-{words}"
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{path}.lock"):  # two notebooks may want the same model
        if (path / "model.safetensors").is_file():
            return VAE.load(path)
        options = dict(options)
        kind = ConditionalVAE if options.pop("conditional", False) else VAE
        kind = Autoencoder if options.pop("autoencoder", False) else kind
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            model = kind(latent_dim=latent_dim, **options)
        images = [load_resident("digits", split) for split in ("train", "test")]
        train(model, *images, TrainingConfig(epochs=epochs, lr=lr))
        model.save(path)
    return model


def yours(number, *names, folder=None):
    """The functions of these names out of your own exercise of that number, in a list; prints whose they are.

    One that has not been right yet is taken from the course's solutions. Raises NotYet where there are none, as in a
    hand-out, and for a function of yours that cannot be defined.
    """
    from answers import Answers

    folder = folder or course_here()
    exercise = find(number, folder)
    path, right = work_file(exercise, folder), Progress(folder).passed.get(exercise.name, ())
    try:
        mine = Answers(path) if path else None
        found = {name: mine.define(name) for name in names if mine and name in right and mine.has(name)}
    except ValueError as error:
        raise NotYet(shown(f"✗ exercise {number}: {error}")) from None
    missing = [name for name in names if name not in found]
    if missing and not exercise.solution.is_file():
        raise NotYet(shown(f"✗ {missing[0]} is needed here: write it in exercise {number}, and check it there"))
    if missing:
        solutions = load_module(exercise.solution)
        found |= {name: getattr(solutions, name) for name in missing}
    for name in names:
        print(f"{name}: {f'from the course, until `check {number}` finds yours right' if name in missing else 'yours'}")
    return [found[name] for name in names]


class NotYet(Exception):
    """An answer that is not right yet; shown as its message alone in a notebook."""

    def _render_traceback_(self):
        return [str(self)]


def check(number, *answers, folder=None):
    """The check cell of a notebook: prints what is right, raises NotYet with the advice for what is not."""
    folder = folder or course_here()
    from checking import judge
    from evaluating import evaluate
    from isolation import in_time

    exercise = find(number, folder)
    there = sys._getframe(1).f_globals
    for answer in answers:
        name = expected_name(answer, exercise, there)
        result = judge(exercise.functions[name], lambda call, answer=answer: in_time(evaluate, answer, call))
        if not result.ok:
            raise NotYet(shown(f"✗ {name}: {result.message}"))
        print(shown(f"✓ {name} is {result.message}"))
        try:
            Progress(folder).pass_function(exercise, name)
        except (ValueError, OSError) as error:
            print(shown(f"  This could not be noted: {error}"))


def expected_name(answer, exercise, there):
    """Which of the exercise's functions this is, whatever it calls itself, as `f = lambda ...` and `f = g` do.

    there: the names that are known where the check stands. Raises NotYet if it is none of them.
    """
    own = getattr(answer, "__name__", repr(answer))
    names = [name for name in exercise.names if there.get(name) is answer]
    if own in exercise.names and (own in names or not names):
        return own
    if not names:
        raise NotYet(shown(f"✗ {own}: exercise {exercise.number} asks for {' and '.join(exercise.names)}"))
    return names[-1]


def check_file(exercise, path):
    """(name, Result or None) of each function of an exercise in a learner's file, one by one; None where it is missing.

    Nothing in that file can hurt: it runs in another process. Raises ValueError for a file that cannot be read.
    """
    from answers import Answers
    from isolation import Isolated

    file, wrong = Answers(path), []
    with Isolated(path) as answers:
        from checking import Result, judge  # while the other process starts

        for name, function in exercise.functions.items():
            result = judge(function, functools.partial(answers.run, name)) if file.has(name) else None
            used = [other for other in wrong if file.uses(name, other)]
            if result and not result.ok and used:
                result = Result(False, f"it uses {used[0]}, which is not right yet: mend that one first.")
            wrong += [name] if result and not result.ok else []
            yield name, result


# --- What is done ----------------------------------------------------------------------------------------------------


class Progress:
    """Which functions were right once, and how many hints were taken: work/progress.json ($COURSE_WORK elsewhere).

    Raises ValueError for a file that is damaged or cannot be read, OSError for one that cannot be written; the file
    stays as it is.
    """

    def __init__(self, folder=HERE):
        self.path = work_folder(folder) / "progress.json"
        self.read()

    def read(self):
        self.passed, self.hints = {}, {}
        try:
            content = json.loads(self.path.read_text(encoding="utf-8"))
            if not all(isinstance(names, list) for names in content["passed"].values()):
                raise TypeError("the names of functions that were right must be lists")
            self.passed = {name: list(map(str, names)) for name, names in content["passed"].items()}
            self.hints = {name: max(int(count), 0) for name, count in content["hints"].items()}
        except FileNotFoundError:
            pass
        except OSError as error:
            raise ValueError(
                f"cannot read {self.path} ({error.strerror}): it must be a file of yours in a folder of yours"
            ) from None
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
            raise ValueError(
                f"{self.path} is damaged: mend it, or delete it to count again from the start (your answers stay)"
            ) from None

    def pass_function(self, exercise, name):
        def add():
            self.passed[exercise.name] = sorted({*self.passed.get(exercise.name, ()), name})

        if name not in self.passed.get(exercise.name, ()):
            self.change(add)

    def take_hint(self, exercise):
        """The number of hints that are now open."""

        def one_more():
            self.hints[exercise.name] = min(self.hints.get(exercise.name, 0) + 1, len(exercise.hints))

        self.change(one_more)
        return self.hints[exercise.name]

    def forget(self, exercise):
        self.change(lambda: self.passed.pop(exercise.name, None))

    def done(self, exercise):
        passed = self.passed.get(exercise.name)
        return bool(passed) and set(passed) >= set(exercise.names)

    def change(self, edit):
        """Read again, edit, write: what a notebook noted in the meantime stays."""
        with writing(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(self.path.with_suffix(".lock"), timeout=10):
                self.read()
                edit()
                write_beside(self.path, json.dumps({"passed": self.passed, "hints": self.hints}, indent=2) + "\n")


@contextlib.contextmanager
def writing(path):
    """Around what writes into a learner's folder: raises OSError with the one line that says what could not be done."""
    try:
        yield
    except OSError as error:
        # Of a whole folder's copy, the first file's reason.
        reason = error.args[0][0][2] if isinstance(error, shutil.Error) else error.strerror or error
        raise OSError(f"cannot write {path} ({reason}): it needs a folder of yours, with room on the disk") from None
