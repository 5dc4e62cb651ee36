"""The tables of the READMEs: made from the result file, whose measures come from the scripts themselves."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch

import reproductions.readme_tables as readme_tables
import vae_numpy
from beta_tcvae import exact_kl_decomposition
from image_data import load_images
from in_process import run_main
from reproduction import Results, Trained, carry_out, read_measures
from reproductions.readme_tables import (
    DIGITS,
    LATER,
    LEVEL_1,
    LEVEL_2,
    MNIST,
    REPRODUCTION,
    Found,
    found_results,
    pixel_entropy,
    refreshed,
    reported,
    sentences,
    tables,
)
from script_runs import assert_is_a_picture

ROOT = Path(__file__).resolve().parent.parent
PAGES = ("README.md", "paper/README.md")


def text(page):
    return (ROOT / page).read_text(encoding="utf-8")


# --- The pages themselves --------------------------------------------------------------------------------------------

there = found_results()
needs_results = pytest.mark.skipif(
    there is None, reason="paper/results/readme.json has no results of both budgets yet: run reproduce.py readme"
)


@needs_results
@pytest.mark.parametrize("page", PAGES)
def test_the_tables_of_a_page_are_those_of_the_result_file(page):
    assert refreshed(text(page), tables(there)[page]) == text(page)


@needs_results
@pytest.mark.parametrize("page", PAGES)
def test_the_sentences_with_numbers_are_those_of_the_result_file(page):
    words = " ".join(text(page).split())
    assert [sentence for sentence in sentences(there)[page] if sentence not in words] == []


# --- Made-up results -------------------------------------------------------------------------------------------------


def made_up(budget, **changes):
    """Results in which every run of a budget has values that its line and seed tell apart."""
    seeds, runs = range(REPRODUCTION.seeds(budget)), {}
    for place, (line, run) in enumerate(REPRODUCTION.runs(budget).items()):
        values = [100.0 + place + seed for seed in run.seeds_of(seeds)]
        names = ["loss", "reconstruction", "minutes", "-log p(x)", "standard error", "active", "entropy"]
        names += [*readme_tables.EXACT, "reported total correlation"]
        names += ["prior", "-ELBO"] if "vq_vae" in line else [] if "autoencoder" in line else ["KL", "-ELBO"]
        measures = {name: values for name in names} | {"minutes": [0.5] * len(values)}
        if line == LEVEL_1:
            measures = {name: [[500.0, 600.0]] for name in ("-ELBO", "reconstruction")} | {
                "KL": [[0.03]],
                "minutes": [[0.01]],
            }
        runs[line] = {
            "measures": measures | changes.get(line, {}),
            "command": run.command,
            "seconds": [1.0] * len(values),
        }
    return Results({"budget": budget, "seeds": list(seeds), "runs": runs})


MADE_UP = Found([made_up("quick"), made_up("mnist")])


@pytest.mark.parametrize("page", PAGES)
def test_every_table_finds_its_place(page):
    page_text = text(page)
    written = refreshed(page_text, tables(MADE_UP)[page])
    before, after = page_text.splitlines(), written.splitlines()
    outside = [line for line in before if not line.startswith("|")]
    assert [line for line in after if not line.startswith("|")] == outside
    assert written != page_text
    assert refreshed(written, tables(MADE_UP)[page]) == written
    for table in tables(MADE_UP)[page]:
        assert "\n".join(table) in written
        assert all(row.startswith("| ") and row.endswith(" |") for row in table)
        assert len({len(re.findall(r"\|", row)) for row in table}) == 1, "as many cells in each row"


def test_the_tables_have_the_rows_that_the_pages_have():
    """The commands that stand in the pages' tables; a row that is added there needs a run here."""
    for page in PAGES:
        for table in tables(MADE_UP)[page]:
            lines, start = text(page).splitlines(), None
            for start in (i for i, line in enumerate(lines) if line == table[0]):
                rows = [line.split("|")[1] for line in lines[start : start + len(table)]]
                if [command(row) for row in rows] == [command(row.split("|")[1]) for row in table]:
                    break
            else:
                raise AssertionError(f"{page}: no such table: {table[0]}, {start}")


def command(cell):
    return "".join(re.findall(r"`.*`", cell))


def test_a_page_without_the_table_is_not_written_to():
    with pytest.raises(ValueError, match="is not in list"):
        refreshed("# A page\n\n| another | table |\n", tables(MADE_UP)["README.md"])


def test_cells_are_means_and_spreads():
    found = Found([made_up("quick", **{"vae_paper.py": {"-ELBO": [192.0, 193.0, 194.0]}})])
    assert found.cells("vae_paper.py", ["-ELBO", "time"]) == ["193.0 ± 1.0", "0.5 min"]
    assert found.cells(LEVEL_1, ["-ELBO", "KL", "time"]) == ["550 ± 71", "0.03", "below 1 s"]
    assert found.cell("vae_paper.py --autoencoder", "-ELBO") == "no bound"
    assert found.cell("vae_paper.py --autoencoder", "KL") == ""
    assert found.cell("vq_vae.py", "KL").startswith("prior ")
    assert found.cell("beta_tcvae.py", "loss") == found.cell("vae_paper.py --beta 4", "loss") == ""
    assert found.cell("iwae.py", "loss") != ""
    assert found.command("vae_paper.py") == "`vae_paper.py`"
    assert found.command("vae_paper.py --latent-dim 2", "paper/") == "`paper/vae_paper.py --latent-dim 2` (seed 0)"
    assert found.command(LEVEL_1).endswith(" (random parameters, seeds 0 to 29)")
    assert Found(found.budgets, seeds=1).cell("vae_paper.py", "-ELBO") == "192.0"
    with pytest.raises(KeyError):
        found.cell("absent.py", "KL")


def test_sentences_hold_their_numbers():
    quick = made_up("quick", **{
        LEVEL_1: {"-ELBO": [[498.4, 600.0]]},
        "vae_paper.py": {"KL": [13.0, 14.0, 15.0], "entropy": [157.9] * 3},
        "vae_paper.py --conditional": {"KL": [10.0, 10.0, 11.5]},
        "factor_vae.py": {"reported total correlation": [-0.2, 0.1, 0], readme_tables.EXACT[1]: [2.3, 1.1, 1.7]},
    })  # fmt: skip
    found = sentences(Found([quick, made_up("mnist")]))
    assert found["README.md"][0] == "Seed 0's random parameters give 498."
    assert "157.9 nats" in found["README.md"][1]
    assert "saves 3.5 nats" in found["README.md"][2]
    assert "between -0.20 and 0.10 where the truth was 1.1 to 2.3:" in found["paper/README.md"][0]


def test_sentences_are_those_of_the_pages_but_for_their_numbers():
    for page, expected in sentences(MADE_UP).items():
        words = without_numbers(" ".join(text(page).split()))
        assert [each for each in expected if without_numbers(each) not in words] == []


def without_numbers(words):
    return re.sub(r"-?\d+(\.\d+)?", "#", words)


def claims(**changes):
    return [claim.holds for claim in REPRODUCTION.claims(made_up("quick", **changes))]


def test_claims_are_judged():
    fair = {
        "vae_paper.py": {"KL": [13.7] * 3, "total correlation": [6.7] * 3},
        "vae_paper.py --conditional": {"KL": [9.9] * 3},
        "iwae.py": {"loss": [188.9] * 3, "-ELBO": [205.0] * 3},
        "beta_tcvae.py": {"total correlation": [0.7] * 3},
        "factor_vae.py": {"total correlation": [1.7] * 3},
    }
    assert claims(**fair) == [True, True, True]
    assert claims(**fair | {"vae_paper.py --conditional": {"KL": [14.0] * 3}}) == [False, True, True]
    assert claims(**fair | {"iwae.py": {"loss": [206.0] * 3, "-ELBO": [205.0] * 3}}) == [True, False, True]
    assert claims(**fair | {"factor_vae.py": {"total correlation": [7.0] * 3}}) == [True, True, False]
    assert REPRODUCTION.claims(made_up("mnist")) == []


@pytest.mark.parametrize("budget", REPRODUCTION.budgets)
def test_the_table_and_the_figure_show_every_line(budget, tmp_path):
    results = made_up(budget)
    header, rows = REPRODUCTION.table(results)
    assert [row[0].strip("`") for row in rows] == list(REPRODUCTION.runs(budget))
    assert {len(row) for row in rows} == {len(header)}
    REPRODUCTION.draw(results, {}, tmp_path / "figure.png")
    assert_is_a_picture(tmp_path / "figure.png")


def test_without_results_nothing_is_written(monkeypatch, tmp_path):
    monkeypatch.setattr(readme_tables, "ROOT", tmp_path)
    monkeypatch.setattr(readme_tables, "found_results", lambda: None)
    done = run_main(readme_tables.main, cwd=tmp_path)
    assert done.code == 2
    lines = "`reproduce.py readme --budget quick` and `reproduce.py readme --budget mnist`"
    assert f"no results to write yet: run {lines} first" in done.stderr
    assert "writes the tables into the two pages" in run_main(readme_tables.main, "--help", cwd=tmp_path).stdout


# --- Measures --------------------------------------------------------------------------------------------------------


def test_the_first_level_is_read_from_its_report():
    x, _ = load_images("digits", "test")
    eps = np.random.default_rng(2).standard_normal((len(x), 20)).astype(np.float32)
    expected = -vae_numpy.elbo(vae_numpy.init_params(seed=2), x, eps).mean()
    got = reported("vae_numpy", "--seed", "2")
    assert got.keys() == {"-ELBO", "reconstruction", "KL", "minutes"}
    assert got["-ELBO"] == pytest.approx(expected, abs=1e-3)
    assert got["-ELBO"] == pytest.approx(got["reconstruction"] + got["KL"], abs=2e-3)
    assert 0 < got["minutes"] < 1


def test_the_second_level_is_trained_with_its_seed(tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(readme_tables, "reported", lambda *words: seen.append(words) or {"-ELBO": 1.0})
    carry_out(REPRODUCTION, LEVEL_2, 2, "quick", tmp_path / "run", "cpu")
    [words] = seen
    assert words[:3] == ("vae_lowlevel", "--seed", "2")
    assert words[3] == "--out"
    assert read_measures(tmp_path / "run")["command"] == f"python {LEVEL_2}"


@pytest.fixture
def measured(tmp_path, monkeypatch, no_pictures):
    """A function: a line's run of one epoch on few digits, and its folder."""

    def run(line, small):
        short = readme_tables.typed_run(f"{line} --epochs 1 --train-images 64 {small}", 1)
        monkeypatch.setattr(type(REPRODUCTION), "runs", lambda self, budget: {line: short})
        carry_out(REPRODUCTION, line, 0, "quick", tmp_path / "run", "cpu")
        return read_measures(tmp_path / "run")["measures"], tmp_path / "run"

    return run


def test_a_vae_is_measured_by_its_last_row_and_its_parts(measured):
    got, folder = measured("vae_paper.py", "--architecture mlp --hidden-dims 8")
    trained = Trained("vae_paper.py", 0, "quick", folder, "cpu")
    assert got["-ELBO"] == pytest.approx(trained.rows[-1]["test_loss"], abs=1e-3)
    x, _ = trained.images("train").batch(slice(None))
    mu, logvar = (tensor.detach() for tensor in trained.model.encode(x))
    z = mu + (logvar / 2).exp() * torch.randn(mu.shape, generator=torch.Generator().manual_seed(0))
    expected = [float(part) for part in exact_kl_decomposition(z, mu, logvar, mu, logvar)]
    assert [got[name] for name in readme_tables.EXACT] == pytest.approx(expected, rel=1e-5)
    assert got["entropy"] == pytest.approx(157.9, abs=0.05)


def test_an_iwae_has_its_likelihood_and_its_units(measured, monkeypatch):
    monkeypatch.setattr(readme_tables, "log_likelihood", lambda model, x, k, generator: torch.arange(len(x)) - float(k))
    got, _ = measured("iwae.py", "--k 2 --hidden-dims 4")
    assert got["-log p(x)"] == pytest.approx(1000 - 178)  # of the 357 images 0 to 356, with a thousand samples
    assert got["standard error"] == pytest.approx(np.arange(357).std(ddof=1) / 357**0.5)
    assert 0 <= got["active"] <= 50


def test_a_vq_vae_pays_its_prior(measured):
    got, _ = measured("vq_vae.py", "--num-codes 4 --code-dim 2")
    assert got["-ELBO"] == pytest.approx(got["reconstruction"] + got["prior"])
    assert "KL" not in got


def test_entropy_is_that_of_coins():
    class Images:
        def __len__(self):
            return 3

        def batch(self, index):
            return torch.tensor([[[[0.5, 0.0]]], [[[1.0, 0.5]]], [[[0.5, 0.5]]]]), None

    assert pixel_entropy(Images()) == pytest.approx(4 / 3 * np.log(2))


def test_every_run_is_typed_with_a_script_of_the_house():
    for line in (*DIGITS, *(line + MNIST for line in LATER)):
        run = readme_tables.typed_run(line, 1)
        assert run.command == f"python paper/{line}"
