"""What to expect from each script: every number of the tables in README.md and paper/README.md.

python paper/reproduce.py readme                           the digits, and MNIST with the VAE
python paper/reproduce.py readme --budget mnist            MNIST with the later papers
python paper/reproductions/readme_tables.py                writes the tables into the two pages
"""

from level_script import run_as_script

# isort: split

import argparse
import contextlib
import io
import itertools
import json
import re
import statistics
import tempfile
import time
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

import torch
from matplotlib.figure import Figure

from beta_tcvae import exact_kl_decomposition
from level_script import one_line_errors, save_figure
from likelihood import active_units, chosen_images, log_likelihood, posteriors
from reproduction import Claim, Reproduction, Results, Run, spread_text
from run_files import write_beside

ROOT = Path(__file__).resolve().parents[2]
LEVEL_1, LEVEL_2 = "numpy/vae_numpy.py", "pytorch_lowlevel/vae_lowlevel.py"
MNIST = " --data mnist --epochs 10"
RANDOM_SEEDS = range(30)

DIGITS = {  # what one types behind python paper/: minutes of a run, and at most so many seeds
    "vae_paper.py": (0.6, None),
    "vae_paper.py --beta 4": (0.6, None),
    "vae_paper.py --conditional": (0.6, None),
    "vae_paper.py --latent-dim 2": (0.6, 1),
    "vae_paper.py --architecture mlp": (0.4, 1),
    "vae_paper.py --autoencoder": (0.6, 1),
    "vae_paper.py --likelihood gaussian --sigma learned": (0.6, 1),
    "vae_paper.py --kl-schedule cyclical --kl-steps 500 --free-bits 0.1": (0.6, 1),
    "vae_paper.py --capacity 15 --capacity-gamma 3 --kl-steps 100": (0.6, 1),
    "iwae.py": (1.3, None),
    "iwae.py --objective vae": (1.3, 1),
    "iwae.py --objective dreg": (1.3, 1),
    "beta_tcvae.py": (0.6, None),
    "factor_vae.py": (1.2, None),
    "factor_vae.py --gamma 0": (1.2, 1),
    "vq_vae.py": (1.5, None),
    "vq_vae.py --codebook gradient": (1.5, 1),
}
LATER = {  # the same on MNIST; the VAE's own row is in the quick budget
    "vae_paper.py --precision bf16": 4,
    "iwae.py --binarisation fresh --batch-size 128": 15,
    "beta_tcvae.py": 5,
    "factor_vae.py": 9,
    "vq_vae.py": 10,
}
EXACT = ("mutual information", "total correlation", "dimension-wise KL")
IN_PARTS = ("vae_paper.py", "vae_paper.py --beta 4", "beta_tcvae.py", "factor_vae.py --gamma 0", "factor_vae.py")
OWN_LOSS = re.compile(
    "--(kl-schedule|capacity|beta)|(beta_tcvae|factor_vae|vq_vae)"
)  # which is neither bound nor -ELBO


class ReadmeTables(Reproduction):
    """Every script with its default options, in nats per test image. No paper has these numbers: they are what a reader
    of the two READMEs should find on another machine, up to the last digits, and their tables are made from this file.
    -ELBO is the sum of reconstruction and KL; a VQ-VAE has its prior's price of the codes in place of the KL, and an
    autoencoder has no bound.
    """

    name = "readme"
    title = "what to expect from each script"
    source = "README.md and paper/README.md"
    budgets = ("quick", "mnist")

    def seeds(self, budget):
        return 3 if budget == "quick" else 1

    def protocol(self, budget):
        shared = "nothing, as it compares with no paper: default options, grey images unless the line says otherwise, "
        return shared + f"{'60 epochs of the digits' if budget == 'quick' else '10 epochs of MNIST'} on one thread"

    def runs(self, budget):
        if budget == "mnist":
            return {line + MNIST: typed_run(line + MNIST, minutes) for line, minutes in LATER.items()}
        digits = {line: typed_run(line, minutes, seeds) for line, (minutes, seeds) in DIGITS.items()}
        return {
            LEVEL_1: Run(None, f"python {LEVEL_1}, seeds 0 to {RANDOM_SEEDS[-1]}", 0.5, seeds=1, threads=1),
            LEVEL_2: Run(None, f"python {LEVEL_2}", 0.6, threads=1),
            **digits,
            "vae_paper.py" + MNIST: typed_run("vae_paper.py" + MNIST, 4, 1),
        }

    def measure(self, trained):
        if trained.label == LEVEL_1:
            reports = [reported("vae_numpy", "--seed", str(seed)) for seed in RANDOM_SEEDS]
            return {name: [each[name] for each in reports] for name in reports[0]}
        if trained.label == LEVEL_2:
            with tempfile.TemporaryDirectory() as folder:
                return reported("vae_lowlevel", "--seed", str(trained.seed), "--out", f"{folder}/run")
        last = trained.rows[-1]
        measures = {"loss": last["test_loss"], "reconstruction": last["test_reconstruction_nll"]}
        measures["minutes"] = sum(trained.column("seconds")) / 60
        for term, name in (("test_kl_divergence", "KL"), ("test_prior_nll", "prior")):
            if term in last:
                measures |= {name: last[term], "-ELBO": last["test_reconstruction_nll"] + last[term]}
        if trained.label.startswith("iwae.py"):
            images, samples = (1000, 5000) if MNIST in trained.label else (None, 1000)
            measures |= measured_likelihood(trained, images, samples)
        if trained.label in IN_PARTS:
            measures |= exact_parts(trained)
        if trained.label == "factor_vae.py":
            measures["reported total correlation"] = last["test_total_correlation"]
        if trained.label in ("vae_paper.py", "vae_paper.py" + MNIST):
            measures["entropy"] = pixel_entropy(trained.images("test"))
        return measures

    def claims(self, results):
        if results.content["budget"] != "quick":
            return []

        def mean(line, name):
            return results.mean(line, name)

        plain, conditional = "vae_paper.py", "vae_paper.py --conditional"
        saved = mean(plain, "KL") - mean(conditional, "KL")
        bound, elbo = mean("iwae.py", "loss"), mean("iwae.py", "-ELBO")
        parts = {line: mean(line, "total correlation") for line in ("vae_paper.py", "beta_tcvae.py", "factor_vae.py")}
        return [
            Claim("Told the class, a model saves nats of code", "direction only", f"{saved:.1f} nats", saved > 0),
            Claim(
                "The bound of 50 samples is tighter than the ELBO",
                "Burda 2015, theorem 1",
                f"{bound:.1f} against {elbo:.1f} nats",
                bound < elbo,
            ),
            Claim(
                "Both penalties lower the exact total correlation",
                "direction only (Chen 2018, Kim & Mnih 2018)",
                ", ".join(f"`{line}` {value:.1f}" for line, value in parts.items()) + " nats",
                max(parts["beta_tcvae.py"], parts["factor_vae.py"]) < parts["vae_paper.py"],
            ),
        ]

    def table(self, results):
        columns = ("loss", "-ELBO", "reconstruction", "KL")
        found = Found([results])
        return ["command", *columns], [[f"`{line}`", *found.cells(line, columns)] for line in results.runs]

    def draw(self, results, trained, path):
        """Reconstruction and the price of the code, one bar for each line."""
        lines = [line for line in results.runs if "gaussian" not in line]  # a density's nats do not compare
        figure = Figure(figsize=(9, 0.32 * len(lines) + 1.3), layout="constrained")
        axes = figure.add_subplot()
        nats = [statistics.mean(flat(results[line, "reconstruction"])) for line in lines]
        price = [statistics.mean(flat(code_price(results, line))) for line in lines]
        axes.barh(lines, nats, label="reconstruction")
        axes.barh(lines, price, left=nats, label="price of the code: KL, or a prior's nll")
        axes.set_ylim(len(lines) - 0.4, -0.6)
        axes.set(xlabel="nats per test image", title="What an image costs")
        figure.legend(loc="outside lower center", ncols=2)
        save_figure(figure, path)


def typed_run(line, minutes, seeds=None):
    """On one thread: as many at once as there are cores take no longer each."""
    script, _, options = line.partition(".py")
    return Run(script, options.strip(), minutes, seeds, threads=1)


def reported(script, *options):
    """What a script of level 1 or 2 prints: {"-ELBO": nats, "reconstruction": ..., "KL": ..., "minutes": ...}."""
    printed, start = io.StringIO(), time.perf_counter()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(io.StringIO()):
        import_module(script).main(list(options))
    found = re.findall(r"^  (-ELBO|reconstruction|KL) +(-?\d+\.\d+)$", printed.getvalue(), re.MULTILINE)
    return {name: float(value) for name, value in found} | {"minutes": (time.perf_counter() - start) / 60}


def measured_likelihood(trained, images, samples):
    """-log p(x), its standard error over the test images, and the active units, as likelihood.py reports them."""
    model, test = trained.model, trained.images("test")
    x, _, _ = chosen_images(test, images or len(test), model, 0)
    generator = torch.Generator(trained.device).manual_seed(0)
    log_p = log_likelihood(model, x, samples, generator).double()
    active = int(active_units(posteriors(model, x)[0]).sum())
    return {"-log p(x)": -log_p.mean(), "standard error": log_p.std() / len(x) ** 0.5, "active": active}


@torch.no_grad()
def exact_parts(trained):
    """The three parts of the KL over all training digits, with one code for each (Chen 2018, equation 2); nats."""
    x, _ = trained.images("train").batch(slice(None))
    mu, logvar = trained.model.encode(x)
    eps = torch.randn(mu.shape, generator=torch.Generator().manual_seed(0)).to(mu)
    z = trained.model.reparameterize(mu, logvar, eps)
    return dict(zip(EXACT, exact_kl_decomposition(z, mu, logvar, mu, logvar), strict=True))


def pixel_entropy(images):
    """What grey pixels, as probabilities, cost at the least: the sum of their binary entropies, nats per image."""
    x = images.batch(torch.arange(len(images)))[0].double()
    return (torch.special.entr(x) + torch.special.entr(1 - x)).sum(dim=(1, 2, 3)).mean()


def flat(values):
    """The values of all seeds; one entry may be a list of many."""
    return list(itertools.chain.from_iterable(value if isinstance(value, list) else [value] for value in values))


def code_price(results, line):
    measures = results.runs[line]["measures"]
    return measures.get("KL") or measures.get("prior") or [0.0]


# --- The pages -------------------------------------------------------------------------------------------------------


@dataclass
class Found:
    """The results of all budgets, a list of `Results`, as cells of a table; of all seeds, or of the first so many."""

    budgets: list
    seeds: int | None = None

    def values(self, line, name):
        """A measure of one line: its values, or None if it has none. Raises KeyError for a line that was not run."""
        for results in self.budgets:
            if line in results.runs:
                values = results.runs[line]["measures"].get(name)
                return None if values is None else flat(values[: self.seeds])
        raise KeyError(line)

    def mean(self, line, name):
        return statistics.mean(self.values(line, name))

    def cells(self, line, columns):
        return [self.cell(line, column) for column in columns]

    def cell(self, line, column):
        digits = 0 if line == LEVEL_1 else 1
        if column == "-ELBO" and "--autoencoder" in line:
            return "no bound"
        if column == "loss" and OWN_LOSS.search(line):
            return ""
        if column == "KL":
            if (prior := self.values(line, "prior")) is not None:
                return f"prior {spread_text(prior, digits)}"
            if line == LEVEL_1:
                return f"{self.mean(line, 'KL'):.2f}"
        if column == "time":
            minutes = self.mean(line, "minutes")
            if minutes < 1 / 60:
                return "below 1 s"
            return f"{minutes:.1f} min" if minutes >= 0.1 else f"{60 * minutes:.0f} s"
        if column == "active units":
            return f"{self.mean(line, 'active'):.0f} of 50"
        if column in EXACT:
            return ", ".join(f"{value:.1f}" for value in self.values(line, column))
        values = self.values(line, column)
        return "" if values is None else spread_text(values, digits)

    def command(self, line, prefix="", hide=""):
        """The first cell of a row: what one types, and the seeds if they are not 0, 1 and 2."""
        seeds = {LEVEL_1: f" (random parameters, seeds 0 to {RANDOM_SEEDS[-1]})"}.get(line)
        single = len(self.values(line, "reconstruction")) == 1
        return f"`{prefix}{line.removesuffix(hide)}`" + (seeds or (" (seed 0)" if single else ""))


def tables(found):
    """{page: [lines of each table, in the page's order]}. Raises KeyError for a line that was not run yet."""
    terms = ("loss", "-ELBO", "reconstruction", "KL", "time")
    mean_nats, likelihood = ("-ELBO", "reconstruction", "KL", "time"), ("loss", "-ELBO", "-log p(x)", "active units")
    first = ["vae_paper.py", *list(DIGITS)[1:5], "vae_paper.py" + MNIST]
    objectives = {"vae": "iwae.py --objective vae", "iwae": "iwae.py", "dreg": "iwae.py --objective dreg"}
    shown = ["vae_paper.py", *list(DIGITS)[5:10], "beta_tcvae.py", "factor_vae.py", *list(DIGITS)[-2:]]
    mnist = ["vae_paper.py" + MNIST, *(line + MNIST for line in LATER if "bf16" not in line)]
    return {
        "README.md": [
            as_lines(
                ["command", *mean_nats],
                [
                    *([found.command(line), *found.cells(line, mean_nats)] for line in (LEVEL_1, LEVEL_2)),
                    *([found.command(line, "paper/"), *found.cells(line, mean_nats)] for line in first),
                ],
            )
        ],
        "paper/README.md": [
            as_lines(
                ["digits, seed 0, 60 epochs", "loss", "-ELBO", "-log p(x), k = 1000", "active units"],
                [
                    [f"`--objective {name}`", *Found(found.budgets, seeds=1).cells(line, likelihood)]
                    for name, line in objectives.items()
                ],
            ),
            as_lines(
                ["exact, nats, training digits, seeds 0, 1, 2", *EXACT],
                [[found.command(line), *found.cells(line, EXACT)] for line in IN_PARTS],
            ),
            as_lines(["command", *terms], [[found.command(line), *found.cells(line, terms)] for line in shown]),
            as_lines(
                ["command", *terms],
                [
                    [found.command(line, hide=MNIST).removesuffix(" (seed 0)"), *found.cells(line, terms)]
                    for line in mnist
                ],
            ),
        ],
    }


def sentences(found):
    """{page: the sentences that hold numbers}, which must stand there as they are, however the lines are broken."""
    saved = found.mean("vae_paper.py", "KL") - found.mean("vae_paper.py --conditional", "KL")
    reported, exact = (found.values("factor_vae.py", name) for name in ("reported total correlation", EXACT[1]))
    bf16, iwae = (
        "vae_paper.py --precision bf16" + MNIST,
        next(line for line in LATER if line.startswith("iwae")) + MNIST,
    )
    return {
        "README.md": [
            f"Seed 0's random parameters give {found.values(LEVEL_1, '-ELBO')[0]:.0f}.",
            f"is {found.mean('vae_paper.py', 'entropy'):.1f} nats for a test image of the digits and "
            f"{found.mean('vae_paper.py' + MNIST, 'entropy'):.1f} for MNIST.",
            f"reconstructs as well as the plain one and saves {saved:.1f} nats of code",
        ],
        "paper/README.md": [
            f"The discriminator reported between {min(reported):.2f} and {max(reported):.2f} where the truth was "
            f"{min(exact):.1f} to {max(exact):.1f}:",
            f"With `--precision bf16` the first row becomes {found.mean(bf16, '-ELBO'):.1f} "
            f"({found.mean(bf16, 'reconstruction'):.1f} + {found.mean(bf16, 'KL'):.1f}).",
            f"-log p(x) = {found.mean(iwae, '-log p(x)'):.1f} (standard error over the images "
            f"{found.mean(iwae, 'standard error'):.1f}), {found.mean(iwae, 'active'):.0f} of 50 units active.",
        ],
    }


def as_lines(header, rows):
    return [f"| {' | '.join(cells)} |".replace("|  |", "| |") for cells in (header, ["---"] * len(header), *rows)]


def refreshed(text, wanted):
    """A page with its tables replaced by these, found by their headers. Raises ValueError if one is not there."""
    lines, place = text.splitlines(), 0
    for table in wanted:
        place = lines.index(table[0], place)
        end = next((i for i in range(place, len(lines)) if not lines[i].startswith("|")), len(lines))
        lines[place:end] = table
        place += len(table)
    return "\n".join(lines) + "\n"


def found_results(folder=ROOT / "paper" / "results"):
    """What the result file holds, or None if a budget is missing there."""
    path = folder / f"{ReadmeTables.name}.json"
    content = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return Found([Results(content[name]) for name in ReadmeTables.budgets]) if len(content) == 2 else None


def main(argv=None):
    argparse.ArgumentParser(
        prog="readme_tables.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args(argv)
    with one_line_errors("readme_tables.py"):
        if (found := found_results()) is None:
            lines = " and ".join(f"`reproduce.py readme --budget {budget}`" for budget in ReadmeTables.budgets)
            raise ValueError(f"there are no results to write yet: run {lines} first")
        for page, wanted in tables(found).items():
            text = (ROOT / page).read_text(encoding="utf-8")
            write_beside(ROOT / page, refreshed(text, wanted))
        for page, texts in sentences(found).items():
            words = " ".join((ROOT / page).read_text(encoding="utf-8").split())
            for text in texts:
                if text not in words:
                    print(f"{page} should say: {text}")


REPRODUCTION = ReadmeTables()

if __name__ == "__main__":
    run_as_script(main)
