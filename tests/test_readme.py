"""What README.md says is true: its Python blocks and script lines run, its links lead somewhere."""

import importlib
import re
import shlex
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import tyro

import disentanglement
import likelihood
import pictures
import reproduce
from experiment import initialised, parse_config
from reproductions import REPRODUCTIONS, find
from training_images import load_resident

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text()
PAPERS = (ROOT / "paper" / "README.md").read_text()


def blocks(language, text=README):
    return re.findall(rf"^ *```{language}\n(.*?)^ *```$", text, re.MULTILINE | re.DOTALL)


def shrink(line):
    """A console line at a tiny setting, or nothing for what cannot run here: installing, make, MNIST, this suite."""
    if re.match(r"make|python3|git", line) or re.search(r"-m (pip|pytest)|--data mnist", line):
        return ""
    trains = re.search(r"vae_(lowlevel|paper)\.py", line) and "--weights" not in line
    few = " --train-images 128" if "paper/" in line else ""
    line = re.sub(r"^([^#>]*[^#> ])", rf"\1 --epochs 1{few}", line) if trains else line
    line = f"{line} --images 20" if "likelihood.py" in line else line
    return line.replace(".venv/bin/python", sys.executable)


@pytest.fixture
def workplace(tmp_path):
    """A folder that looks like the repository and in which scripts may write."""
    for folder in ("numpy", "pytorch_lowlevel", "paper", "tests"):
        (tmp_path / folder).symlink_to(ROOT / folder)
    return tmp_path


@pytest.mark.course
def test_console_lines_run(workplace):
    for block in blocks("python"):  # one of them makes the images that are trained on
        subprocess.run([sys.executable, "-c", block], cwd=workplace, capture_output=True, check=True)
    script = "\n".join(shrink(line) for block in blocks("console") for line in block.splitlines())
    assert script.count(".py") >= 9
    done = subprocess.run(["bash", "-e", "-c", script], cwd=workplace, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "the same" in done.stdout  # the diff between the levels' reports is empty


@pytest.mark.course
def test_python_blocks_run(workplace):
    for block in blocks("python"):
        done = subprocess.run([sys.executable, "-c", block], cwd=workplace, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[-2000:]
        numbers = [float(number) for number in done.stdout.split()] or [0.0, 0.0, 0.0]
        assert numbers == pytest.approx([numbers[0]] * 3, rel=1e-5)


CONFIGS = {
    "vae_paper": "VaeConfig",
    "iwae": "IwaeConfig",
    "beta_tcvae": "BetaTCConfig",
    "factor_vae": "FactorConfig",
    "vq_vae": "VqConfig",
}
PAPER_LINES = [line for block in blocks("console", PAPERS) for line in map(str.strip, block.splitlines())]


@pytest.mark.parametrize("line", [line for line in PAPER_LINES if re.search(rf"/({'|'.join(CONFIGS)})\.py", line)])
def test_the_commands_of_the_papers_build_a_model(line):
    """The scripts themselves run in test_papers.py; here the flags must fit together."""
    script, flags = re.search(r"paper/(\w+)\.py(.*)", line).groups()
    module = importlib.import_module(script)
    config, *_ = parse_config(getattr(module, CONFIGS[script]), shlex.split(flags), f"{script}.py", None)
    images = load_resident(replace(config, train_images=10), "train")
    assert initialised(module.build_model, config, images).terms


@pytest.mark.parametrize(
    "line", [line for line in PAPER_LINES if re.search(r"/(likelihood|disentanglement|pictures)\.py", line)]
)
def test_the_commands_on_finished_runs_have_these_flags(line):
    script, flags = re.search(r"paper/(\w+)\.py(.*)", line).groups()
    config_class = {
        "likelihood": likelihood.COMMANDS,
        "disentanglement": disentanglement.DisentanglementConfig,
        "pictures": pictures.PictureConfig,
    }[script]
    assert tyro.cli(config_class, args=shlex.split(flags))


@pytest.mark.parametrize("line", [line for line in PAPER_LINES if "/reproduce.py" in line])
def test_the_commands_that_reproduce_name_what_is_there(line):
    options = tyro.cli(reproduce.ReproduceOptions, args=shlex.split(line.partition("reproduce.py")[2]))
    known = {name: find(name) for name in REPRODUCTIONS}
    assert options.name is None or reproduce.chosen(known, options)


def test_every_line_of_the_papers_readme_is_tried():
    assert len(PAPER_LINES) >= 23
    scripts = "|".join([*CONFIGS, "likelihood", "disentanglement", "pictures", "reproduce"])
    assert all(re.search(rf"/({scripts})\.py", line) for line in PAPER_LINES)


@pytest.mark.course
def test_the_papers_python_block_runs_on_the_folder_of_a_run(workplace):
    flags = ["--epochs", "1", "--discriminator-width", "8", "--out", "runs/factor"]
    for command in (["paper/factor_vae.py", *flags], ["-c", *blocks("python", PAPERS)]):
        done = subprocess.run([sys.executable, *command], cwd=workplace, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.count("tensor(") == 3


def anchor(heading):
    """GitHub's anchor of a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


PAGES = {
    "root": ROOT / "README.md",
    "paper": ROOT / "paper" / "README.md",
    "course": ROOT / "exercises" / "README.md",
    "contributing": ROOT / "CONTRIBUTING.md",
}


@pytest.mark.parametrize("page", PAGES.values(), ids=PAGES)
def test_links_resolve(page):
    links = re.findall(r"\]\(([^)]+)\)", page.read_text())
    assert len(links) > 10
    for link in links:
        if link.startswith("https://"):
            continue
        if "/actions/" in link:  # a page that GitHub makes
            continue
        path, _, heading = link.partition("#")
        target = page.parent / path if path else page
        assert target.exists(), link
        if heading:
            headings = re.findall(r"^#+ (.*)$", target.read_text(), re.MULTILINE)
            assert heading in map(anchor, headings), link


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
