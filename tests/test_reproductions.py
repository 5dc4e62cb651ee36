"""What holds for every reproduction: its runs are lines that can be typed, its words and papers are there."""

import ast
import inspect
import re
import shlex
from importlib import import_module
from pathlib import Path

import pytest

import reproduce
from experiment import TrainingConfig, parse_config
from reproductions import DEPARTURES, REFERENCES, REPRODUCTIONS, find
from results_page import cited

ALL = {name: find(name) for name in REPRODUCTIONS}
RUNS = [
    (name, budget, label)
    for name, reproduction in ALL.items()
    for budget in reproduction.budgets
    for label in reproduction.runs(budget)
]


def config_class(module):
    """The options that a script takes: the one dataclass of its own that derives from TrainingConfig."""
    found = [
        value
        for value in vars(import_module(module)).values()
        if inspect.isclass(value) and issubclass(value, TrainingConfig) and value.__module__ == module
    ]
    [found] = found
    return found


@pytest.mark.parametrize(("name", "budget", "label"), RUNS)
def test_a_run_is_a_line_that_can_be_typed(name, budget, label):
    run = ALL[name].runs(budget)[label]
    assert run.minutes > 0
    if run.script:
        argv = [*shlex.split(run.options), "--seed", "1", "--device", "cpu", "--out", "somewhere"]
        config, _, _ = parse_config(config_class(run.script), argv, f"{run.script}.py", None)
        assert config.seed == 1
        assert callable(import_module(run.script).main)


@pytest.mark.parametrize("name", ALL)
def test_it_says_what_it_is(name):
    reproduction = ALL[name]
    assert reproduction.name == name
    assert reproduction.title
    assert reproduction.source
    assert "quick" in reproduction.budgets
    assert "full" in reproduction.budgets or name == "readme"  # which has no paper
    assert type(reproduction).__doc__
    for budget in reproduction.budgets:
        assert reproduction.seeds(budget) >= 1
        assert reproduction.protocol(budget)
        labels = list(reproduction.runs(budget))
        assert len({reproduce.as_file_name(label) for label in labels}) == len(labels) > 0


def test_quick_is_two_hours_for_all_papers_together():
    assert sum(reproduction.minutes("quick") for name, reproduction in ALL.items() if name != "readme") <= 120


# --- References ------------------------------------------------------------------------------------------------------

ROOT = Path(__file__).resolve().parent.parent


def words(name):
    """Whatever an experiment may put on the page: the strings of its file but the file's own docstring."""
    file = ast.parse(inspect.getsource(import_module(f"reproductions.{REPRODUCTIONS[name]}")))
    nodes = [node for part in file.body[1:] for node in ast.walk(part)]
    return [
        " ".join(node.value.split()) for node in nodes if isinstance(node, ast.Constant) and type(node.value) is str
    ]


def test_the_papers_that_are_named_are_the_references():
    texts = [text for name in ALL for text in words(name)] + [text for row in DEPARTURES for text in row]
    for text in texts:
        for named in re.findall(r"\D*[A-Z]\w+ (?:19|20)\d\d\b", text):
            assert cited(named), named
    assert cited("\n".join(texts)) == list(REFERENCES)


def test_a_paper_has_one_number_everywhere():
    files = [ROOT / "README.md", *(ROOT / "paper").rglob("*.py")]
    text = " ".join(word for file in files for word in file.read_text(encoding="utf-8").split())
    found = 0
    for _, title, place in REFERENCES.values():
        numbers = re.findall(rf"{re.escape(title)}\W+(arXiv:\d+\.\d+)", text)
        assert set(numbers) <= {place}
        found += len(numbers)
    assert found > 10
