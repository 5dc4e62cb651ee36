"""What README.md says is true: its Python blocks and script lines run, its links lead somewhere."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text()


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def shrink(line):
    """A console line at a tiny setting, or nothing for what cannot run here: installing, make, MNIST, this suite."""
    if re.match(r"make|python3|git", line) or re.search(r"-m (pip|pytest)|--data mnist", line):
        return ""
    trains = re.search(r"vae_(lowlevel|paper)\.py", line) and "--weights" not in line
    line = re.sub(r"^([^#>]*[^#> ])", r"\1 --epochs 1", line) if trains else line
    return line.replace(".venv/bin/python", sys.executable)


@pytest.fixture
def workplace(tmp_path):
    """A folder that looks like the repository and in which scripts may write."""
    for folder in ("numpy", "pytorch_lowlevel", "paper", "tests"):
        (tmp_path / folder).symlink_to(ROOT / folder)
    return tmp_path


def test_console_lines_run(workplace):
    script = "\n".join(shrink(line) for block in blocks("console") for line in block.splitlines())
    assert script.count(".py") >= 9
    done = subprocess.run(["bash", "-e", "-c", script], cwd=workplace, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "the same" in done.stdout  # the diff between the levels' reports is empty


def test_python_blocks_run(workplace):
    for block in blocks("python"):
        done = subprocess.run([sys.executable, "-c", block], cwd=workplace, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[-2000:]
        numbers = [float(number) for number in done.stdout.split()]
        assert numbers == pytest.approx([numbers[0]] * 3, rel=1e-5)


def anchor(heading):
    """GitHub's anchor of a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def test_links_resolve():
    anchors = {anchor(heading) for heading in re.findall(r"^#+ (.*)$", README, re.MULTILINE)}
    links = re.findall(r"\]\(([^)]+)\)", README)
    assert len(links) > 20
    for link in links:
        if link.startswith("#"):
            assert link[1:] in anchors, link
        elif not link.startswith("https://"):
            assert (ROOT / link.split("#")[0]).exists(), link


def test_functions_that_the_map_names_exist():
    import trainer
    import vae_lowlevel
    import vae_numpy
    import vae_paper

    rows = re.findall(r"^\| \$.*\| .*`.*\|$", README[README.index("From each equation") :], re.MULTILINE)
    assert len(rows) >= 8
    modules = (vae_numpy, vae_lowlevel, vae_paper)
    for row in rows:
        for module, cell in zip(modules, re.split(r" \| ", row.strip("| "))[1:4], strict=True):
            for name in re.findall(r"`([\w.]+)", cell):
                owner = trainer if name.startswith("trainer.") else module
                for part in name.removeprefix("trainer.").split("."):
                    owner = getattr(owner, part)
