"""The course's exercises: where they lie, what a learner has written, and what is done so far.

An exercise is one Markdown file, `NN_name.md`: text, cells (```python), the stubs to fill in, hints. Its checks are in
`checks/NN_name.py`, its solutions in `solutions/NN_name.py`. A learner works on a copy in `work/`, which git ignores.
"""

import ast
import importlib.util
import json
import os
import re
from dataclasses import dataclass
from pathlib import Path

from checking import check_function

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
        return self.path.read_text()

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
    def functions(self):
        """The checks of the functions to write, by name."""
        return {
            function.name: function
            for function in load_module(self.path.parent / "checks" / f"{self.name}.py").FUNCTIONS
        }

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


def load_module(path):
    """A Python file as a module, whatever its name."""
    spec = importlib.util.spec_from_file_location(f"exercise_{path.parent.name}_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# --- What a learner has written --------------------------------------------------------------------------------------


def code_cells(path):
    """The code of a notebook cell by cell, or a script as one cell. Raises ValueError for a damaged notebook."""
    if path.suffix == ".py":
        return [path.read_text()]
    try:
        cells = json.loads(path.read_text())["cells"]
        return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is not a notebook ({type(error).__name__}): `reset` makes a new one") from None


def learners_functions(path, names):
    """The functions of these names as the learner wrote them, without running anything else of the file.

    Imports, other functions and constants at the top level are taken along, since the functions may need them. Returns
    {name: function}; what is missing is left out. Raises ValueError, with the line, for code that cannot be read.
    """
    kept = []
    for cell in code_cells(path):
        code = "\n".join(" " * 0 if line.lstrip().startswith(("%", "!")) else line for line in cell.split("\n"))
        try:
            tree = ast.parse(code)
        except SyntaxError as error:
            if any(re.search(rf"def {name}\b", cell) for name in names):
                raise ValueError(
                    f"{error.msg}, in line {error.lineno} of its cell: {(error.text or '').strip()}"
                ) from None
            continue
        kept += [node for node in tree.body if is_definition(node)]
    namespace = {"__name__": "answer"}
    for node in kept:
        try:
            exec(compile(ast.Module([node], []), str(path), "exec"), namespace)
        except Exception:
            if isinstance(node, ast.FunctionDef) and node.name in names:
                raise
    return {name: namespace[name] for name in names if callable(namespace.get(name))}


def is_definition(node):
    """Whether a top-level statement only defines something: an import, a function, a class or a literal constant."""
    if isinstance(node, ast.Assign):
        try:
            ast.literal_eval(node.value)
        except ValueError:
            return False
        return True
    return isinstance(node, (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.ClassDef))


def trained_vae(latent_dim=20, epochs=30, folder=HERE, **options):
    """A VAE trained on the digits in some 15 seconds, behind a progress bar, and kept in work/models for the next time.

    options: those of vae_paper.VAE, and `conditional=True` for the CVAE.
    """
    import torch

    from experiment import TrainingConfig
    from trainer import train
    from training_images import load_resident
    from vae_paper import VAE, Autoencoder, ConditionalVAE

    words = "-".join(f"{name}={value}" for name, value in sorted(options.items()))
    path = (
        Path(os.environ.get("COURSE_WORK") or Path(folder) / "work") / "models" / f"vae-{latent_dim}-{epochs}-{words}"
    )
    if (path / "model.safetensors").is_file():
        return VAE.load(path)
    options = dict(options)
    kind = ConditionalVAE if options.pop("conditional", False) else VAE
    kind = Autoencoder if options.pop("autoencoder", False) else kind
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = kind(latent_dim=latent_dim, **options)
    images = [load_resident("digits", split) for split in ("train", "test")]
    train(model, *images, TrainingConfig(epochs=epochs))
    model.save(path)
    return model


class NotYet(Exception):
    """An answer that is not right yet; shown as its message alone in a notebook."""

    def _render_traceback_(self):
        return [str(self)]


def check(number, *answers, folder=HERE, seed=None):
    """The check cell of a notebook: prints what is right, raises NotYet with the advice for what is not."""
    exercise = find(number, folder)
    for answer in answers:
        result = check_function(exercise.functions[answer.__name__], answer, seed)
        if not result.ok:
            raise NotYet(f"✗ {answer.__name__}: {result.message}")
        print(f"✓ {answer.__name__} is {result.message}")
        Progress(folder).pass_function(exercise, answer.__name__)


def check_file(exercise, path, seed=None):
    """[(name, Result or None)] for each function of an exercise in a learner's file; None where it is missing."""
    functions = exercise.functions
    answers = learners_functions(path, functions)
    return [
        (name, check_function(function, answers[name], seed) if name in answers else None)
        for name, function in functions.items()
    ]


# --- What is done ----------------------------------------------------------------------------------------------------


class Progress:
    """Which functions were right once, and how many hints were taken: work/progress.json ($COURSE_WORK elsewhere)."""

    def __init__(self, folder=HERE):
        self.path = Path(os.environ.get("COURSE_WORK") or Path(folder) / "work") / "progress.json"
        try:
            content = json.loads(self.path.read_text())
            self.passed = {str(name): list(map(str, names)) for name, names in content["passed"].items()}
            self.hints = {str(name): int(count) for name, count in content["hints"].items()}
        except FileNotFoundError:
            self.passed, self.hints = {}, {}
        except (ValueError, KeyError, TypeError, AttributeError):
            self.path.replace(self.path.with_suffix(".damaged"))  # kept, in case it can be mended
            self.passed, self.hints = {}, {}

    def pass_function(self, exercise, name):
        names = self.passed.setdefault(exercise.name, [])
        if name not in names:
            names.append(name)
            self.save()

    def take_hint(self, exercise):
        """The number of hints that are now open."""
        self.hints[exercise.name] = min(self.hints.get(exercise.name, 0) + 1, len(exercise.hints))
        self.save()
        return self.hints[exercise.name]

    def forget(self, exercise):
        self.passed.pop(exercise.name, None)
        self.save()

    def done(self, exercise):
        return set(self.passed.get(exercise.name, ())) >= set(exercise.functions)

    def save(self):
        self.path.parent.mkdir(parents=True, exist_ok=True)
        beside = self.path.with_suffix(".tmp")
        beside.write_text(json.dumps({"passed": self.passed, "hints": self.hints}, indent=2) + "\n")
        os.replace(beside, self.path)
