"""The course cannot rot: stubs fail kindly, solutions pass, each misconception is recognised, every text runs."""

import ast
import json
import os
import re
import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

import course
import explorer
from checking import Function, Misconception, check_function
from course import Progress, exercises, find, learners_functions, load_module
from vae_paper import VAE, ConditionalVAE

ROOT = Path(__file__).resolve().parent.parent
EXERCISES = exercises()
FUNCTIONS = [(exercise, function) for exercise in EXERCISES for function in exercise.functions.values()]
MISTAKES = [(exercise, function, wrong) for exercise, function in FUNCTIONS for wrong in function.misconceptions]
run = load_module(ROOT / "exercises" / "run.py")


def name_of(value):
    return getattr(value, "name", None)


each_exercise = pytest.mark.parametrize("exercise", EXERCISES, ids=name_of)
each_function = pytest.mark.parametrize(("exercise", "function"), FUNCTIONS, ids=name_of)


def solution(exercise, name):
    return getattr(load_module(exercise.solution), name)


# --- Stubs, solutions, misconceptions --------------------------------------------------------------------------------


@each_function
def test_a_stub_is_not_written_yet(exercise, function):
    # The text itself as a learner's file.
    cells = re.findall(r"^```python\n(.*?)^```$", exercise.text, re.MULTILINE | re.DOTALL)
    namespace = {}
    [stub] = [cell for cell in cells if re.search(rf"^def {function.name}\(", cell, re.MULTILINE)]
    exec("import numpy as np, torch\n" + stub, namespace)
    result = check_function(function, namespace[function.name], seed=0)
    assert not result.ok
    assert result.message.startswith("not written yet")
    assert ast.get_docstring(next(node for node in ast.parse(stub).body if isinstance(node, ast.FunctionDef)))


@each_function
def test_the_solution_passes_whatever_the_random_inputs(exercise, function):
    for seed in range(20):
        result = check_function(function, solution(exercise, function.name), seed)
        assert result.ok, result.message
    assert check_function(function, solution(exercise, function.name)).ok


@pytest.mark.parametrize(("exercise", "function", "wrong"), MISTAKES, ids=name_of)
def test_a_misconception_is_recognised_as_itself(exercise, function, wrong):
    for seed in range(3):
        result = check_function(function, wrong.function, seed)
        assert not result.ok
        assert result.misconception == wrong.name, result.message
        assert wrong.advice in result.message


def test_an_answer_that_only_stops_is_not_taken_for_another_that_does():
    function = Function(
        "f", lambda x: x, lambda rng: {"x": rng.random(3)}, [Misconception("stops", np.linalg.inv, "no")]
    )
    result = check_function(function, lambda x: np.linalg.cholesky(x), seed=0)
    assert result.misconception is None
    assert "It stops" in result.message


@each_function
def test_there_are_enough_misconceptions_and_their_names_differ(exercise, function):
    names = [wrong.name for wrong in function.misconceptions]
    assert len(set(names)) == len(names) >= 5


# --- What the checker says to answers that no list foresees ----------------------------------------------------------

KL = find(3).functions["kl_divergence"]


def right(mu, logvar):
    return 0.5 * np.sum(mu**2 + np.exp(logvar) - 1 - logvar, axis=1)


def in_place(mu, logvar):
    mu *= mu
    return 0.5 * np.sum(mu + np.exp(logvar) - 1 - logvar, axis=1)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda mu, logvar: None, "is there a `return`"),
        (lambda mu, logvar: [1.0], "got a list"),
        (lambda mu, logvar: right(mu, logvar)[:, None], r"Expected shape \(\d,\), got \(\d, 1\)"),
        (lambda mu, logvar: torch.from_numpy(right(mu, logvar)), "Expected a NumPy array or number, got a Tensor"),
        (lambda mu, logvar: right(mu, logvar).astype(np.float32), "Expected dtype float64, got float32"),
        (lambda mu, logvar: right(mu, logvar) * np.nan, "NaN or infinite"),
        (lambda mu, logvar: 3 * right(mu, logvar), "Every value is 3 times the expected one"),
        (lambda mu, logvar: right(mu, logvar) + np.arange(len(mu)) ** 2, r"The first wrong value at \[1\]: expected"),
        (lambda mu, logvar: right(mu, logvar).astype(np.float64), "right in float64, but not in float32"),
        (lambda mu, logvar: mu / 0 + undefined, "It stops in line .* with NameError"),  # noqa: F821
        (lambda mu: mu, "TypeError"),
        (in_place, "changes its input mu in place"),
    ],
)
def test_a_wrong_answer_is_told_what_is_wrong(answer, message):
    result = check_function(KL, answer, seed=5)
    assert not result.ok
    assert re.search(message, result.message), result.message
    assert "Traceback" not in result.message
    assert "seed 5" in result.message


def test_an_answer_for_one_batch_size_only_is_told_so():
    n = len(KL.inputs(np.random.default_rng(5))["mu"])

    def one_size(mu, logvar):
        return right(mu, logvar)[:n] if len(mu) >= n else np.zeros(n)

    assert "It is right for inputs mu" in check_function(KL, one_size, seed=5).message


# --- The learner's file ----------------------------------------------------------------------------------------------


def test_only_definitions_are_taken_out_of_a_file(tmp_path):
    path = tmp_path / "answer.py"
    path.write_text(
        "import numpy as np\nraise SystemExit('this line must not run')\nHALF = 0.5\n"
        "def helper(x):\n    return HALF * x\n"
        "def kl_divergence(mu, logvar):\n    return helper(np.sum(mu**2 + np.exp(logvar) - 1 - logvar, axis=1))\n"
    )
    answers = learners_functions(path, ["kl_divergence", "other"])
    assert list(answers) == ["kl_divergence"]
    assert check_function(KL, answers["kl_divergence"]).ok


def test_a_syntax_error_is_told_with_its_line(tmp_path):
    path = tmp_path / "answer.py"
    path.write_text("def kl_divergence(mu, logvar):\n    return 0.5 * (mu\n")
    with pytest.raises(ValueError, match="in line 2 of its cell"):
        learners_functions(path, ["kl_divergence"])


# --- The texts -------------------------------------------------------------------------------------------------------


@each_exercise
def test_every_exercise_says_what_a_learner_wants_to_know(exercise):
    assert exercise.title
    assert 15 <= exercise.minutes <= 45
    assert exercise.difficulty in (1, 2, 3)
    assert len(exercise.hints) >= 3
    assert 1 <= len(exercise.functions) <= 4
    assert "**Goal.**" in exercise.text
    assert "Predict" in exercise.text
    assert "next level of abstraction" in exercise.text
    for name in exercise.functions:
        assert re.search(rf"^check\({exercise.number}, {name}\)$", exercise.text, re.MULTILINE)
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
def work(tmp_path_factory):
    """Where models and progress go: a solved notebook is not the learner's progress. The models are trained once."""
    return tmp_path_factory.mktemp("work")


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
@each_exercise
def test_unsolved_it_stops_at_the_first_stub(exercise, work, tmp_path, monkeypatch):
    from nbclient.exceptions import CellExecutionError

    monkeypatch.setenv("COURSE_WORK", str(work))
    with pytest.raises(CellExecutionError, match="not written yet"):
        execute(as_notebook(exercise, solved=False), str(tmp_path))


# --- The command line ------------------------------------------------------------------------------------------------


@pytest.fixture
def copy_of_the_course(tmp_path):
    folder = tmp_path / "exercises"
    shutil.copytree(ROOT / "exercises", folder, ignore=shutil.ignore_patterns("work", "__pycache__"))
    return folder


def test_the_way_through_an_exercise(copy_of_the_course, capsys):
    folder = copy_of_the_course

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
    code, text = say("check", 3)
    assert code == 1
    assert "✗ kl_divergence: not written yet" in text

    stub = re.compile(r'(def kl_divergence\(mu, logvar\):\n.*?"""\n)    raise NotImplementedError\([^)]*\)', re.DOTALL)
    template = path.read_text()
    wrong = r"\1    return -0.5 * np.sum(mu**2 + np.exp(logvar) - 1 - logvar, axis=1)"
    path.write_text(stub.sub(wrong, template))
    code, text = say("check", 3)
    assert code == 1
    assert "✗ kl_divergence: the sign: your KL is the negative of the right one" in text
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


def test_a_notebook_is_the_default_and_is_checked_without_running_it(copy_of_the_course, capsys):
    folder = copy_of_the_course
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


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["start", "99"], "there is no exercise 99"),
        (["check", "3"], "nothing was started yet"),
        (["check"], "wants the number"),
        (["reset", "3"], "was not started"),
    ],
)
def test_a_mistake_on_the_command_line_is_one_line(copy_of_the_course, capsys, words, message):
    assert run.main(words, copy_of_the_course) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not (copy_of_the_course / "work").exists()


def test_a_damaged_notebook_or_progress_file_is_told_and_kept(copy_of_the_course, capsys):
    folder = copy_of_the_course
    run.main(["start", "3"], folder)
    (folder / "work" / "03_kl_divergence.ipynb").write_text("{")
    assert run.main(["check", "3"], folder) == 2
    assert "not a notebook" in capsys.readouterr().err
    for content in ("", "[]", '{"passed": 3}'):
        (folder / "work" / "progress.json").write_text(content)
        assert run.main(["list"], folder) == 0
        assert (folder / "work" / "progress.damaged").read_text() == content


def test_an_interrupted_write_leaves_the_old_progress(copy_of_the_course, monkeypatch):
    exercise = find(3, copy_of_the_course)
    Progress(copy_of_the_course).pass_function(exercise, "kl_divergence")

    def power_cut(*args):
        raise OSError("power cut")

    monkeypatch.setattr(os, "replace", power_cut)
    with pytest.raises(OSError, match="power cut"):
        Progress(copy_of_the_course).pass_function(exercise, "kl_gradient")
    assert Progress(copy_of_the_course).passed == {exercise.name: ["kl_divergence"]}


def test_a_hand_out_has_no_solutions(copy_of_the_course, tmp_path, capsys):
    out = tmp_path / "class"
    run.main(["start", "3"], copy_of_the_course)
    assert run.main(["export", str(out)], copy_of_the_course) == 0
    assert not (out / "solutions").exists()
    assert not (out / "work").exists()
    assert len(list(out.glob("*.md"))) > len(EXERCISES) - 1
    assert run.main(["solution", "3"], out) == 2
    assert "ask your teacher" in capsys.readouterr().err
    assert run.main(["export", str(out)], copy_of_the_course) == 2  # nothing is overwritten
    assert course.check_file(find(3, out), find(3, copy_of_the_course).solution)[0][1].ok


@pytest.mark.parametrize("answer", [True, np.True_, False, None, np.array([True]), "yes"])
def test_a_truth_value_may_be_pythons_or_numpys(answer):
    function = Function("f", lambda x: True, lambda rng: {"x": rng.random(3)})
    assert check_function(function, lambda x: answer, seed=0).ok == (answer is True or answer is np.True_)
    several = Function("f", lambda x: x > 0.5, lambda rng: {"x": rng.random(9)})
    assert check_function(several, lambda x: x > 0.5, seed=0).ok
    assert "first wrong value" in check_function(several, lambda x: x < 0.5, seed=0).message


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
