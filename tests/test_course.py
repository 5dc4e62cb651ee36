"""The course cannot rot: every text runs, and its command line says in one line what went wrong."""

import ast
import errno
import io
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import course
import explorer
from course import Progress, exercises, find, load_module
from vae_paper import VAE, ConditionalVAE

ROOT = Path(__file__).resolve().parent.parent
EXERCISES = exercises()
run = load_module(ROOT / "exercises" / "run.py")


def name_of(value):
    return getattr(value, "name", None)


each_exercise = pytest.mark.parametrize("exercise", EXERCISES, ids=name_of)


def solution(exercise, name):
    return getattr(load_module(exercise.solution), name)


# --- The texts -------------------------------------------------------------------------------------------------------


@each_exercise
def test_every_exercise_says_what_a_learner_wants_to_know(exercise):
    assert exercise.title
    assert 15 <= exercise.minutes <= 120
    assert f"({exercise.name}.md), {exercise.minutes} minutes" in (ROOT / "exercises" / "README.md").read_text()
    assert exercise.difficulty in (1, 2, 3)
    assert len(exercise.hints) >= 3
    assert 1 <= len(exercise.functions) <= 9
    assert "**Goal.**" in exercise.text
    assert "Predict" in exercise.text
    assert "next level of abstraction" in exercise.text
    assert sorted(exercise.names) == sorted(exercise.functions)  # which the text asks for with check(N, name)
    folded = re.findall(r"<details>.*?</details>", exercise.text, re.DOTALL)
    assert not any("```python" in block for block in folded)  # it would become a live cell
    assert "```bash" not in exercise.text


def as_notebook(exercise, solved):
    """The text as a notebook, with the solutions in place of the stubs if `solved`."""
    import jupytext

    notebook = jupytext.reads(exercise.text, fmt="md")
    if solved:
        source = exercise.solution.read_text()
        tree = ast.parse(source)
        imports = [ast.unparse(node) for node in tree.body if isinstance(node, (ast.Import, ast.ImportFrom))]
        written = {node.name: ast.get_source_segment(source, node) for node in tree.body if hasattr(node, "name")}
        for cell in notebook.cells:
            for name in exercise.functions:
                if cell.cell_type == "code" and re.search(rf"^def {name}\(", cell.source, re.MULTILINE):
                    cell.source = "\n".join([*imports, "", written[name]])
    return notebook


def execute(notebook, folder):
    from nbclient import NotebookClient

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return NotebookClient(
            notebook, timeout=120, kernel_name="python3", resources={"metadata": {"path": folder}}
        ).execute()


@pytest.fixture(scope="module")
def work(tmp_path_factory, worker_id):
    """Where models and progress go: a solved notebook is not the learner's progress. All processes share the models."""
    here = tmp_path_factory.getbasetemp()
    folder = (here if worker_id == "master" else here.parent) / "course-work"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.mark.course
@each_exercise
def test_the_text_runs_from_top_to_bottom_with_the_solutions_in(exercise, work, tmp_path, monkeypatch):
    monkeypatch.setenv("COURSE_WORK", str(work))
    done = execute(as_notebook(exercise, solved=True), str(tmp_path))
    outputs = [output for cell in done.cells for output in cell.get("outputs", [])]
    text = "".join(output.get("text", "") for output in outputs)
    for name in exercise.functions:
        assert f"✓ {name} is right" in text
    pictures = [output.data["image/png"] for output in outputs if "image/png" in output.get("data", {})]
    assert pictures
    assert all(len(picture) > 3000 for picture in pictures)  # base64 of more than an empty frame


@pytest.mark.course
def test_unsolved_a_text_stops_at_the_first_stub(work, tmp_path, monkeypatch):
    """Of one exercise; that every stub says so, `test_checks.py` knows."""
    from nbclient.exceptions import CellExecutionError

    monkeypatch.setenv("COURSE_WORK", str(work))
    with pytest.raises(CellExecutionError, match="not written yet"):
        execute(as_notebook(find(3), solved=False), str(tmp_path))


# --- The command line ------------------------------------------------------------------------------------------------


@pytest.fixture
def course_here(tmp_path):
    folder = tmp_path / "exercises"
    shutil.copytree(ROOT / "exercises", folder, ignore=shutil.ignore_patterns("work", "__pycache__"))
    return folder


def test_the_way_through_an_exercise(course_here, capsys):
    folder = course_here

    def say(*words):
        code = run.main([str(word) for word in words], folder)
        captured = capsys.readouterr()
        return code, captured.out + captured.err

    code, text = say()
    assert code == 0
    assert f"0 of {len(EXERCISES)} exercises" in text
    code, text = say("start", 3, "--script")
    path = folder / "work" / "03_kl_divergence.py"
    assert (code, path.is_file()) == (0, True)
    assert "check 3" in text
    assert say("start", 3)[0] == 2  # never overwritten

    stub = re.compile(r'(def kl_divergence\(mu, logvar\):\n.*?"""\n)    raise NotImplementedError\([^)]*\)', re.DOTALL)
    template = path.read_text()
    wrong = r"\1    return -0.5 * np.sum(mu**2 + np.exp(logvar) - 1 - logvar, axis=1)"
    path.write_text(stub.sub(wrong, template))
    code, text = say("check", 3)
    assert code == 1
    assert "✗ kl_divergence: the sign: yours is minus the KL" in text
    assert "✗ kl_gradient: not written yet" in text
    assert "hint 3" in text
    for count in (1, 2):
        code, text = say("hint", 3)
        assert code == 0
        assert text.count("Hint ") == count

    path.write_text(path.read_text().replace("return -0.5", "return 0.5"))
    assert "✓ kl_divergence: right" in say("check", 3)[1]
    source = find(3, folder).solution.read_text()
    path.write_text(source)
    code, text = say("check", 3)
    assert (code, "All right." in text) == (0, True)
    assert say("check", "--all")[0] == 0
    assert "✓  3." in say("list")[1]

    code, text = say("reset", 3)
    [backup] = (folder / "work").glob("*.backup")
    assert backup.read_text() == source
    assert "raise NotImplementedError" in path.read_text()
    assert "…  3." in say("list")[1]
    say("reset", "03")  # within the same second: no backup takes another's place
    assert len(list((folder / "work").glob("*.backup"))) == 2


def test_a_function_that_uses_a_wrong_one_points_to_it(course_here, capsys):
    right = find(12, course_here).solution.read_text()
    (course_here / "work").mkdir()
    (course_here / "work" / "12_importance_weighting.py").write_text(right.replace("log_w.max(", "log_w.min("))
    assert run.main(["check", "12"], course_here) == 1
    text = capsys.readouterr().out
    assert "✗ importance_weighted_bound: it uses log_mean_exp, which is not right yet: mend that one first." in text


def test_a_notebook_is_the_default_and_is_checked_without_running_it(course_here, capsys):
    folder = course_here
    assert run.main(["start", "3"], folder) == 0
    path = folder / "work" / "03_kl_divergence.ipynb"
    notebook = json.loads(path.read_text())
    for cell in notebook["cells"]:
        source = "".join(cell["source"])
        if "def kl_gradient" in source:
            cell["source"] = ["def kl_gradient(mu, logvar):\n", "    return mu.copy(), 0.5 * (np.exp(logvar) - 1)"]
    path.write_text(json.dumps(notebook))
    assert run.main(["check", "3"], folder) == 1
    assert "✓ kl_gradient: right" in capsys.readouterr().out


def put(text):
    """Make the work folder's progress.json of this text, or of these bytes."""

    def spoil(folder):
        (folder / "work").mkdir(exist_ok=True)
        content = text if isinstance(text, bytes) else text.encode()
        (folder / "work" / "progress.json").write_bytes(content)

    return spoil


def started(content, suffix=".py"):
    """A learner's file for exercise 3 with this content."""

    def spoil(folder):
        (folder / "work").mkdir(exist_ok=True)
        (folder / "work" / f"03_kl_divergence{suffix}").write_bytes(content)

    return spoil


def work_is_a_file(folder):
    (folder / "work").write_text("")


def progress_is_a_folder(folder):
    (folder / "work" / "progress.json").mkdir(parents=True)


def copy_is_a_folder(folder):
    (folder / "work" / "03_kl_divergence.ipynb").mkdir(parents=True)


def nothing(folder):
    pass


@pytest.mark.parametrize(
    ("spoil", "words", "message"),
    [
        (nothing, ["start", "99"], "there is no exercise 99: expected one of 0, 1, 2, 3"),
        (nothing, ["check", "99"], "there is no exercise 99"),
        (nothing, ["check", "-1"], "there is no exercise -1"),
        (nothing, ["hint", "x"], "there is no exercise x"),
        (nothing, ["solution", "3.5"], "there is no exercise 3.5"),
        (nothing, ["reset", ""], "there is no exercise"),
        (nothing, ["check", "3"], "nothing was started yet: .*start 3 makes"),
        (nothing, ["check", "03"], "nothing was started yet"),
        (nothing, ["check", "--all"], "nothing was started yet: .*start 0 makes"),
        (nothing, ["check"], "wants the number"),
        (nothing, ["check", "3", "--all"], "wants the number"),
        (nothing, ["reset", "3"], "was not started"),
        (nothing, ["export", "."], r"\. exists and is not overwritten"),
        (nothing, ["export", "{folder}/class"], "lies in the course itself"),
        (nothing, ["export", "{folder}/checks/class"], "lies in the course itself"),
        (nothing, ["export", "/dev/null/class"], r"cannot write /dev/null/class \(.+\): it needs"),
        (nothing, ["export", "/proc/class"], r"cannot write /proc/class \(.+\)"),
        (put(""), ["list"], "progress.json is damaged: mend it, or delete it"),
        (put("passed: 3"), [], "is damaged"),
        (put("[]"), ["hint", "3"], "is damaged"),
        (put("3"), ["list"], "is damaged"),
        (put("[" * 100_000), ["list"], "is damaged"),
        (put('{"passed": 3}'), ["list"], "is damaged"),
        (put('{"passed": {}}'), ["list"], "is damaged"),
        (put('{"passed": {"03_kl_divergence": "kl_gradient"}, "hints": {}}'), ["list"], "is damaged"),
        (put('{"passed": {}, "hints": {"03_kl_divergence": "many"}}'), ["hint", "3"], "is damaged"),
        (put('{"passed": {}, "hints": {"03_kl_divergence": Infinity}}'), ["hint", "3"], "is damaged"),
        (put(b"\xff\xfe{}"), ["list"], "is damaged"),
        (progress_is_a_folder, ["list"], r"cannot read .*progress.json \(Is a directory\)"),
        (work_is_a_file, [], r"cannot read .*progress.json \(Not a directory\)"),
        (work_is_a_file, ["start", "3"], r"cannot write .*03_kl_divergence.ipynb \(.+\): it needs a folder of yours"),
        (work_is_a_file, ["hint", "3"], "cannot read"),
        (copy_is_a_folder, ["start", "3"], r"cannot write .*ipynb \(Is a directory\)"),
        (started(b"x = '\xe4'\n"), ["check", "3"], r"03_kl_divergence.py is not UTF-8 text \(byte 0xe4 in line 1\)"),
        (started(b"\n\n# \xff"), ["check", "3"], r"not UTF-8 text \(byte 0xff in line 3\): save it as UTF-8"),
        (started(b"{", ".ipynb"), ["check", "3"], "is not a notebook .*: `reset` makes a new one"),
        (started(b"", ".ipynb"), ["check", "3"], "is not a notebook"),
        (started(b"[]", ".ipynb"), ["check", "3"], "is not a notebook"),
        (started(b"null", ".ipynb"), ["check", "3"], "is not a notebook"),
        (started(b"{}", ".ipynb"), ["check", "3"], "is not a notebook"),
        (started(b'{"cells": 3}', ".ipynb"), ["check", "3"], "is not a notebook"),
        (started(b'{"cells": [3]}', ".ipynb"), ["check", "3"], "is not a notebook"),
        (started(b'{"cells": [{"cell_type": "code", "source": 3}]}', ".ipynb"), ["check", "3"], "is not a notebook"),
        (started(b"[" * 100_000, ".ipynb"), ["check", "3"], "is not a notebook"),
        (started(b'{"cells": "\xe4"}', ".ipynb"), ["check", "3"], "not UTF-8 text"),
    ],
)
def test_a_mistake_or_a_damaged_file_is_one_line_and_nothing_changes(course_here, capsys, spoil, words, message):
    spoil(course_here)
    before = contents(course_here)
    assert run.main([word.format(folder=course_here) for word in words], course_here) == 2
    out, error = capsys.readouterr()
    assert re.search(message, error), error
    assert error.count("\n") == 1
    assert "Traceback" not in error
    assert not out.replace("3. The KL divergence\n", "")
    assert contents(course_here) == before


def contents(folder):
    """Every file below a folder and what is in it. What a lock leaves behind does not count."""
    return {
        path.relative_to(folder): path.is_file() and path.read_bytes()
        for path in folder.rglob("*")
        if path.suffix != ".lock" and "__pycache__" not in path.parts
    }


def full_disk(*arguments, **options):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize(
    ("words", "breaks"),
    [
        (["start", "4"], "os.fsync"),
        (["start", "4", "--script"], "os.replace"),
        (["reset", "3"], "os.fsync"),
        (["reset", "3"], "os.replace"),
        (["hint", "3"], "os.fsync"),
        (["check", "3"], "os.replace"),
        (["export", "{folder}/../class"], "shutil.copy2"),
        (["export", "{folder}/../class"], "pathlib.Path.rename"),
    ],
)
def test_a_full_disk_is_one_line_and_leaves_everything_as_it_was(course_here, capsys, monkeypatch, words, breaks):
    (course_here / "work").mkdir()
    shutil.copy(find(3).solution, course_here / "work")
    before = contents(course_here.parent)
    if breaks == "shutil.copy2":  # copytree's default, bound when it was defined
        monkeypatch.setattr(
            shutil.copytree, "__defaults__", (*shutil.copytree.__defaults__[:2], full_disk, False, False)
        )
    else:
        monkeypatch.setattr(breaks, full_disk)
    assert run.main([word.format(folder=course_here) for word in words], course_here) == 2
    error = capsys.readouterr().err
    assert "No space left on device" in error
    assert "cannot write" in error
    assert error.count("\n") == 1
    assert contents(course_here.parent) == before


def test_progress_that_cannot_be_read_or_noted_takes_no_answer_away(course_here, capsys):
    """In a notebook the check cell still says what is right."""
    put("{")(course_here)
    course.check(3, solution(find(3), "kl_gradient"), folder=course_here)
    assert re.search(r"✓ kl_gradient is right\n.*could not be noted: .* is damaged", capsys.readouterr().out)


def test_two_checks_at_once_both_count(course_here):
    exercise = find(3, course_here)
    first, second = Progress(course_here), Progress(course_here)
    first.pass_function(exercise, "kl_divergence")
    second.pass_function(exercise, "kl_gradient")
    first.take_hint(exercise)
    second.take_hint(exercise)
    third = Progress(course_here)
    assert sorted(third.passed[exercise.name]) == ["kl_divergence", "kl_gradient"]
    assert third.hints == {exercise.name: 2}


def test_progress_waits_for_its_turn(course_here):
    """Many processes that read, add and write at the same moment: none is lost."""
    exercise = find(3, course_here)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: Progress(course_here).pass_function(exercise, f"f{n}"), range(24)))
    assert len(Progress(course_here).passed[exercise.name]) == 24


def test_an_exercise_reads_its_checks_once(monkeypatch):
    reads = []
    monkeypatch.setattr(course, "load_module", lambda path: reads.append(path) or load_module(path))
    exercise = find(3)
    assert exercise.functions is exercise.functions
    assert len(reads) == 1


# --- What is printed, and where --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("encoding", "want"),
    [
        ("utf-8", "[██··] ✓ ✗ … nats²"),
        ("ascii", "[##..] + - ~ nats\\xb2"),
        ("cp1252", "[##..] + - ~ nats²"),
        (None, "[██··] ✓ ✗ … nats²"),
    ],
)
def test_what_a_terminal_cannot_show_is_put_into_ascii(encoding, want):
    assert course.shown("[██··] ✓ ✗ … nats²", SimpleNamespace(encoding=encoding)) == want


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "utf-8"])
def test_the_course_runs_on_a_terminal_of_another_encoding(course_here, monkeypatch, encoding):
    def say(*words):
        screen = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
        monkeypatch.setattr(sys, "stdout", screen)
        assert run.main(words, course_here) in (0, 1)
        screen.flush()
        return screen.buffer.getvalue().decode(encoding)

    right, wrong = ("✓", "✗") if encoding == "utf-8" else ("+", "-")
    begun = "~" if encoding == "ascii" else "…"
    assert f"0 of {len(EXERCISES)}" in say()
    assert "Your copy" in say("start", "03", "--script")
    path = course_here / "work" / "03_kl_divergence.py"
    source = find(3).solution.read_text(encoding="utf-8").replace("def kl_gradient", "def another")
    path.write_text("\ufeff# ä\n" + source, encoding="utf-8")
    text = say("check", "3")
    assert f"  {right} kl_divergence: right" in text
    assert f"  {wrong} kl_gradient: " in text
    assert f"{begun}  3. The KL" in say("list")
    for number in [exercise.number for exercise in EXERCISES]:
        assert "Hint 1" in say("hint", str(number))
        assert "def " in say("solution", str(number))


def test_every_file_of_the_course_is_opened_as_utf_8(course_here):
    """In the locale C with UTF-8 mode off, and with Python watching for files that are opened without an encoding."""
    environment = os.environ | {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    command = [sys.executable, "-X", "warn_default_encoding", "-c", WITHOUT_UTF_8, str(course_here)]
    done = subprocess.run(command, env=environment, capture_output=True, timeout=120)
    assert done.returncode == 0, done.stderr
    text = done.stdout.decode("ascii")
    assert "[........" in text
    assert "kl_divergence found" in text
    assert "?" not in text
    for path in (course_here.parent / "class").glob("[0-9]*.md"):
        assert path.read_bytes() == (course_here / path.name).read_bytes()


WITHOUT_UTF_8 = """
import pathlib, sys, warnings
import answers, course
warnings.filterwarnings("error", category=EncodingWarning, module="answers|course|exercise_|level_script")
folder = pathlib.Path(sys.argv[1])
run = course.load_module(folder / "run.py")
for words in ("", "start 11", "reset 11", "start 3 --script", "list", "hint 11", "hint 11", "solution 3"):
    assert run.main(words.split(), folder) == 0, words
for suffix in ("ipynb", "py"):
    path = folder / "work" / f"03_kl_divergence.{suffix}"
    path = path if path.is_file() else folder / "work" / "11_anomaly_detection.ipynb"
    path.write_bytes(path.read_bytes().replace(b"# ", b"# \\xc3\\xa4 "))
    for name in ("kl_divergence", "auroc"):
        if answers.Answers(path).define(name):
            print(name, "found")
assert run.main(["export", str(folder.parent / "class")], folder) == 0
"""


@pytest.mark.parametrize("name", ["exercises", "my exercises"])
@pytest.mark.parametrize("start_from", [".", "..", "{name}", "/", "/usr/share"])
def test_the_line_to_type_works_where_it_is_printed(tmp_path, name, start_from):
    """Here the interpreter is a folder's own, as .venv/bin/python is, and no `python` would do."""
    course_folder = tmp_path / "a clone" / name
    shutil.copytree(ROOT / "exercises", course_folder, ignore=shutil.ignore_patterns("work", "__pycache__"))
    interpreter = tmp_path / "a clone" / ".venv" / "python"
    interpreter.parent.mkdir()
    interpreter.symlink_to("/bin/sh")
    here = (tmp_path / "a clone" / start_from.format(name=name)).resolve()
    code = (
        "import os, sys; from pathlib import Path; from course import load_module; "
        f"run = load_module(Path({str(course_folder / 'run.py')!r})); "
        f"sys.executable = {str(interpreter)!r}; print(run.typed(run.__file__, 'start', 1))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=here, capture_output=True, text=True)
    words = shlex.split(done.stdout)
    assert words[2:] == ["start", "1"]
    assert all(os.path.dirname(word) for word in words[:2])
    assert [(here / word).resolve() for word in words[:2]] == [Path("/bin/sh").resolve(), course_folder / "run.py"]
    assert len(done.stdout) <= len(shlex.join([str(interpreter), str(course_folder / "run.py"), "start", "1"])) + 1


def test_an_interrupted_write_leaves_the_old_progress(course_here, monkeypatch):
    exercise = find(3, course_here)
    Progress(course_here).pass_function(exercise, "kl_divergence")

    def power_cut(*args):
        raise OSError("power cut")

    monkeypatch.setattr(os, "replace", power_cut)
    with pytest.raises(OSError, match="power cut"):
        Progress(course_here).pass_function(exercise, "kl_gradient")
    assert Progress(course_here).passed == {exercise.name: ["kl_divergence"]}


def test_a_hand_out_has_no_solutions(course_here, tmp_path, capsys):
    out = tmp_path / "class"
    run.main(["start", "3"], course_here)
    assert run.main(["export", str(out)], course_here) == 0
    assert not (out / "solutions").exists()
    assert not (out / "work").exists()
    assert len(list(out.glob("*.md"))) > len(EXERCISES) - 1
    assert run.main(["solution", "3"], out) == 2
    assert "ask your teacher" in capsys.readouterr().err
    assert run.main(["export", str(out)], course_here) == 2  # nothing is overwritten
    assert all(result.ok for _, result in course.check_file(find(3, out), find(3, course_here).solution))


def test_a_hand_out_says_what_to_type_there(course_here, tmp_path, capsys):
    out = tmp_path / "class"
    assert run.main(["export", str(out)], course_here) == 0
    assert capsys.readouterr().out.endswith("type there: python run.py start 1\n")
    readme = (out / "README.md").read_text()
    assert "python run.py check 3" in readme
    assert not re.search(r"\.venv|exercises/|make lab|teacher", readme)
    for words in ("start 1", "check 1"):
        done = subprocess.run([sys.executable, "run.py", *words.split()], cwd=out, capture_output=True, text=True)
        assert done.stderr == ""
        assert f"run.py {'check' if words[0] == 's' else 'hint'} 1" in done.stdout
    assert (out / "work" / "01_latent_space.ipynb").is_file()


def test_where_the_repository_is_not_installed_one_line_says_so(tmp_path):
    command = [sys.executable, "-S", str(ROOT / "exercises" / "run.py")]  # without site-packages
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 1
    assert re.fullmatch(r"run.py: error: level_script is missing: install .*\n", done.stderr)


def test_a_notebook_in_a_hand_out_belongs_to_it(course_here, monkeypatch, capsys):
    (course_here / "work").mkdir()
    monkeypatch.chdir(course_here / "work")
    course.check(3, solution(find(3), "kl_gradient"))
    assert Progress(course_here).passed == {"03_kl_divergence": ["kl_gradient"]}
    monkeypatch.chdir("/")
    assert course.course_here() == course.HERE


def test_everything_that_is_written_lies_where_it_is_asked_to(course_here, tmp_path, monkeypatch):
    before = contents(course_here)
    monkeypatch.setenv("COURSE_WORK", str(tmp_path / "mine"))
    for words in ("start 3 --script", "hint 3", "check 3", "reset 3"):
        assert run.main(words.split(), course_here) in (0, 1)
    assert contents(course_here) == before
    assert {path.suffix for path in (tmp_path / "mine").iterdir()} >= {".py", ".json", ".backup"}


# --- What a check cell takes ------------------------------------------------------------------------------------------


kl_gradient = lambda mu, logvar: (mu, 0.5 * (np.exp(logvar) - 1))  # noqa: E731


def any_name(mu, logvar):
    return mu, 0.5 * (np.exp(logvar) - 1)


kl_divergence = any_name


def test_a_function_is_known_by_the_name_it_is_bound_to(course_here, capsys):
    course.check(3, kl_gradient, folder=course_here)
    assert "✓ kl_gradient is right" in capsys.readouterr().out
    with pytest.raises(course.NotYet, match="✗ kl_divergence: Expected shape"):
        course.check(3, kl_divergence, folder=course_here)
    with pytest.raises(course.NotYet, match="exercise 4 asks for bernoulli_nll and gaussian_nll and"):
        course.check(4, any_name, folder=course_here)
    with pytest.raises(course.NotYet, match="✗ 3: exercise 3 asks for kl_divergence"):
        course.check(3, 3, folder=course_here)


def test_an_answer_that_hangs_in_a_notebook_is_stopped(course_here, monkeypatch):
    def kl_gradient(mu, logvar):
        while True:
            mu = mu + 1

    monkeypatch.setattr("isolation.SECONDS", 0.3)
    with pytest.raises(course.NotYet, match="still running"):
        course.check(3, kl_gradient, folder=course_here)


@pytest.mark.parametrize("words", ["", "list", "hint 3", "start 3"])
def test_what_needs_no_check_imports_no_pytorch(course_here, words):
    Progress(course_here).pass_function(find(1, course_here), "prior_grid")
    code = (
        "import sys; from course import load_module; from pathlib import Path; folder = Path(sys.argv[1]);"
        "status = load_module(folder / 'run.py').main(sys.argv[2].split(), folder);"
        "assert 'torch' not in sys.modules; sys.exit(status)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(course_here), words], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


# --- The explorer ----------------------------------------------------------------------------------------------------


@pytest.fixture
def figure(monkeypatch):
    """The figure that is shown, without a screen."""
    import matplotlib.pyplot as plt

    plt.switch_backend("agg")
    plt.close("all")
    monkeypatch.setattr(plt, "show", lambda: None)
    yield plt.gcf
    plt.close("all")


@pytest.mark.parametrize(("latent_dim", "rows", "columns"), [(2, 12, 12), (1, 1, 11), (10, 8, 11)])
def test_without_a_notebook_the_explorer_draws_a_picture(figure, latent_dim, rows, columns):
    model = VAE(latent_dim=latent_dim, architecture="mlp", hidden_dims=(8,))
    explorer.explore(model)
    [image] = figure().axes[0].images
    assert image.get_array().shape == (28 * rows, 28 * columns)


@pytest.mark.parametrize("latents", [[], [2], [-1], range(9)])
def test_the_explorer_refuses_latents_that_are_not_there(latents):
    with pytest.raises(ValueError, match="latents must be 1 to 8 of the numbers 0 to 1"):
        explorer.explore(VAE(latent_dim=2, architecture="mlp", hidden_dims=(8,)), latents)


@pytest.mark.parametrize("conditional", [False, True])
def test_turning_a_slider_draws_another_image(monkeypatch, conditional):
    import ipywidgets

    shown = []
    monkeypatch.setattr("IPython.display.display", shown.append)
    model = (ConditionalVAE if conditional else VAE)(latent_dim=3, architecture="mlp", hidden_dims=(8,))
    explorer.show_sliders(ipywidgets, model, [0, 2])
    sliders, picture = shown[0].children
    assert [slider.description for slider in sliders.children] == ["z[0]", "z[2]"] + conditional * ["class"]
    seen = {picture.value}
    for slider in sliders.children:
        slider.value = 1
        seen.add(picture.value)
    assert len(seen) == len(sliders.children) + 1


# --- Answers that a later exercise uses ------------------------------------------------------------------------------


def answered(folder, code, right=("kl_divergence",)):
    """A learner's copy of exercise 3, of whose functions some were right."""
    started(code.encode())(folder)
    for name in right:
        Progress(folder).pass_function(find(3, folder), name)


def test_a_later_exercise_uses_your_own_functions_once_they_were_right(course_here, capsys):
    solution_of_kl = solution(find(3), "kl_divergence")
    mu, logvar = np.random.default_rng(0).standard_normal((2, 4, 3))

    def values(*names):
        functions = course.yours(3, *names, folder=course_here)
        return [function(mu, logvar) for function in functions], capsys.readouterr().out.splitlines()

    [value], lines = values("kl_divergence")
    np.testing.assert_array_equal(value, solution_of_kl(mu, logvar))
    assert lines == ["kl_divergence: from the course, until `check 3` finds yours right"]

    answered(course_here, "ONE = 1\ndef kl_divergence(mu, logvar): return ONE\ndef kl_gradient(mu, logvar): return 2\n")
    (gradient, value), lines = values("kl_gradient", "kl_divergence")
    assert value == 1
    assert gradient != 2  # it was never right
    assert lines[1] == "kl_divergence: yours"


def test_a_function_that_a_later_exercise_needs_and_cannot_have(course_here):
    shutil.rmtree(course_here / "solutions")
    with pytest.raises(course.NotYet, match="kl_gradient is needed here: write it in exercise 3"):
        course.yours(3, "kl_gradient", folder=course_here)
    answered(course_here, "def kl_divergence(mu, logvar) return 1\n")
    with pytest.raises(course.NotYet, match=r"exercise 3: .* in line 1 of the file"):
        course.yours(3, "kl_divergence", folder=course_here)
