"""The Makefile installs when it must, and only then: with stand-ins for Python and for the virtual environment."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")

pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="there is no make here")

# A Python of any version: it notes how it is called, makes a virtual environment of itself and installs nothing.
STAND_IN = """#!/bin/sh
echo "$*" | head -1 >> "{calls}"
case "$1 $2" in
    -c*) code="$2"; shift 2; exec "{python}" -c "import sys; sys.version_info = ({version}, 'final', 0)
$code" "$@" ;;
    "-m venv") mkdir -p .venv/bin; test -e .venv/bin/python || cp "$0" .venv/bin/python ;;
esac
"""


@pytest.fixture
def clone(tmp_path):
    """A folder with a Makefile, and with nothing to install."""
    folder = tmp_path / "it's a clone"
    folder.mkdir()
    shutil.copy(ROOT / "Makefile", folder)
    for name in ("requirements.txt", "pyproject.toml"):
        (folder / name).touch()
    return folder


def make(folder, *words, version="3, 11, 0"):
    """(exit status, stderr, what Python was called for) of `make` where python3 is of this version."""
    calls = folder.parent / "calls"
    calls.write_text("")
    programs = folder.parent / "programs"
    programs.mkdir(exist_ok=True)
    python = programs / "python3"
    python.write_text(STAND_IN.format(calls=calls, python=sys.executable, version=version))
    python.chmod(0o755)
    inherited = {name: value for name, value in os.environ.items() if not re.match("MAKE|MFLAGS|PYTHON$", name)}
    environment = inherited | {"PATH": f"{programs}{os.pathsep}{os.environ['PATH']}", "LC_ALL": "C"}
    done = subprocess.run(["make", *words], cwd=folder, env=environment, capture_output=True, text=True)
    lines = [line for line in calls.read_text().splitlines() if line.startswith("-m")]
    commands = [re.split(" -r| check| format| -m (?:slow|course)|$", line)[0] for line in lines]
    return done.returncode, done.stderr, commands


INSTALL = ["-m venv .venv", "-m pip install"]
LINT = ["-m ruff", "-m ruff"]


@pytest.mark.parametrize("version", ["2, 7, 18", "3, 6, 15", "3, 10, 13"])
@pytest.mark.parametrize("goal", ["run", "test", "lint"])
def test_a_python_that_is_too_old_is_told_before_anything_is_installed(clone, version, goal):
    status, error, calls = make(clone, goal, version=version)
    found = ".".join(version.split(", ")[:2])
    assert status != 0
    [line, last] = error.splitlines()
    assert f"is Python {found}, and 3.11 or newer is needed" in line
    assert line.endswith(f"name another one, as in make PYTHON=python3.12 {goal}")
    assert last.startswith("make: ***")
    assert not calls
    assert not (clone / ".venv").exists()


@pytest.mark.parametrize("version", ["3, 11, 0", "3, 15, 2", "4, 0, 0"])
def test_it_installs_once(clone, version):
    assert make(clone, "lint", version=version) == (0, "", INSTALL + LINT)
    assert make(clone, "lint", version=version) == (0, "", LINT)
    assert (clone / ".venv" / "installed").read_text().strip() == str(clone.resolve())


@pytest.mark.parametrize("name", ["requirements.txt", "pyproject.toml"])
def test_it_installs_again_when_the_requirements_change(clone, name):
    make(clone, "lint")
    stamp = (clone / ".venv" / "installed").stat().st_mtime
    os.utime(clone / name, (stamp + 10, stamp + 10))
    assert make(clone, "lint")[2] == INSTALL + LINT


@pytest.mark.parametrize("move", [Path.rename, shutil.copytree])
def test_a_clone_in_another_place_installs_again(clone, move):
    """Its .pth file and the scripts of its virtual environment name the old place."""
    make(clone, "lint")
    moved = clone.with_name("moved")
    move(clone, moved)
    assert make(moved, "lint") == (0, "", INSTALL + LINT)
    assert make(moved, "lint") == (0, "", LINT)


def test_an_installation_that_does_not_say_where_it_is_is_made_again(clone):
    make(clone, "lint")
    (clone / ".venv" / "installed").write_text("")
    assert make(clone, "lint")[2] == INSTALL + LINT


def test_an_old_virtual_environment_is_told_before_anything_is_installed(clone):
    make(clone, "lint")
    shutil.rmtree(clone / ".venv")
    (clone / ".venv" / "bin").mkdir(parents=True)
    old = clone / ".venv" / "bin" / "python"
    old.write_text(STAND_IN.format(calls=clone.parent / "calls", python=sys.executable, version="3, 10, 0"))
    old.chmod(0o755)
    status, error, calls = make(clone, "lint")
    assert status != 0
    assert "is Python 3.10, and 3.11 or newer is needed: delete the folder .venv" in error
    assert calls == INSTALL[:1]


def test_nothing_is_started_by_a_script_of_the_virtual_environment():
    """Their first lines name the folder in which they were installed."""
    assert set(re.findall(r"\.venv/bin/\w+", MAKEFILE)) == {".venv/bin/python"}


def test_the_version_that_is_checked_is_the_one_that_is_required():
    required = re.search(r'requires-python = ">=(\d+)\.(\d+)"', (ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert f"sys.version_info >= ({required[1]}, {required[2]})" in MAKEFILE


def test_every_way_to_run_the_checks_runs_the_same_ones():
    """The workflow and the container only call what one calls at home."""
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8"))
    [job] = workflow["jobs"].values()
    assert [step["run"] for step in job["steps"] if "run" in step] == ["bash .ci/run"]
    assert job["strategy"]["matrix"]["python"][0] == "3.11"
    container = json.loads((ROOT / ".devcontainer" / "devcontainer.json").read_text(encoding="utf-8"))
    goals = re.findall(r"^make (\S+)$", (ROOT / ".ci" / "run").read_text(encoding="utf-8"), re.MULTILINE)
    assert goals == ["lint", "test", "course"]
    for goal in (*goals, container["postCreateCommand"].removeprefix("make ")):
        assert re.search(rf"^{re.escape(goal)}:", MAKEFILE, re.MULTILINE)
