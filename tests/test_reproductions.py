"""What holds for every reproduction: its runs are lines that can be typed, its words are there, labels make files."""

import inspect
import shlex
from importlib import import_module

import pytest

import reproduce
from experiment import TrainingConfig, parse_config
from reproductions import REPRODUCTIONS, find

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
