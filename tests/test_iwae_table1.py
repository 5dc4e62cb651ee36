"""Burda's table 1: the recipe is the paper's, the measures are the same sums written out, the claims judge."""

import math

import pytest
import torch

from experiment import parse_config
from iwae import IwaeConfig
from reproduction import Results, Trained, carry_out, read_measures
from reproductions import iwae_table1
from reproductions.iwae_table1 import PUBLISHED, REPRODUCTION, IwaeTable1


def results(budget="own", **nll):
    """Made-up ones, label by label: "VAE, k=1" is given as VAE_1."""
    runs = {}
    for key, value in nll.items():
        label = key.replace("_", ", k=")
        measures = {"nll": [value], "standard_error": [0.2], "train_loss": [86.0]}
        measures |= {"active_units": [19 if key == "VAE_1" else 22]}
        measures |= {"test_loss": [87.0], "minutes": [[1.0, 2.0]], "curve": [[90.0, 87.0]], "samples": [5000]}
        runs[label] = {"command": "", "seconds": [120.0], "measures": measures}
    return Results({"budget": budget, "seeds": [0], "runs": runs})


def test_full_is_the_papers_recipe():
    runs = REPRODUCTION.runs("full")
    assert list(runs) == list(PUBLISHED)
    for label, run in runs.items():
        config, _, _ = parse_config(IwaeConfig, run.options.split(), "iwae.py", None)
        assert (config.latent_dim, config.hidden_dims, config.activation) == (50, (200, 200), "tanh")
        assert (config.batch_size, config.lr, config.epochs) == (20, 1e-3, sum(3**i for i in range(8)))
        assert (config.lr_schedule, config.binarisation, config.data) == ("staircase", "fresh", "mnist")
        kind, k = label.split(", k=")
        assert (config.objective, config.k) == (kind.lower(), int(k))


def test_own_says_how_many_cores_a_run_takes():
    protocol = REPRODUCTION.protocol("own")
    assert "k = 1 in batches of 200 alone on two cores, k = 5 in batches of 100 on one;" in protocol
    assert {label: run.threads for label, run in REPRODUCTION.runs("own").items()} == {"VAE, k=1": 2, "IWAE, k=5": 1}


def test_the_marks_are_reached_or_not():
    reached = REPRODUCTION.claims(results(VAE_1=86.76, IWAE_5=85.54))
    assert [claim.holds for claim in reached] == [True] * 4
    missed = REPRODUCTION.claims(results(VAE_1=87.4, IWAE_5=87.5))
    assert [claim.holds for claim in missed] == [False, True, False, False]
    assert "86.76" in missed[2].paper
    assert "87.40 nats (standard error over the images 0.20)" in missed[2].ours
    assert missed[2].why == "2 epochs instead of 3,280"
    # What is quick is not held against the paper's numbers, only against their order.
    assert len(REPRODUCTION.claims(results("quick", VAE_1=92.0, IWAE_5=91.0))) == 2


def test_the_table_has_the_papers_number_beside_ours():
    header, rows = REPRODUCTION.table(results(VAE_1=86.9, IWAE_5=85.9))
    assert all(len(row) == len(header) for row in rows)
    assert rows[0][:4] == ["VAE, k=1", "86.76 (19)", 86.35, "86.90 (19)"]
    assert rows[1][:4] == ["IWAE, k=5", "85.54 (22)", 85.18, "85.90 (22)"]


class Tiny(IwaeTable1):
    """One small run."""

    def runs(self, budget):
        tiny = "--train-images 200 --epochs 2 --binarisation fresh --hidden-dims 8 --latent-dim 3 --k 2"
        return {"IWAE, k=5": iwae_table1.Run("iwae", tiny, 0.1)}


def test_end_to_end(tmp_path, monkeypatch):
    """On a few digits: the measures against the same sums written out, and a picture."""
    monkeypatch.setattr(iwae_table1, "log_likelihood", fewer_samples)
    folder = tmp_path / "run"
    carry_out(Tiny(), "IWAE, k=5", 0, "quick", folder, "cpu")
    measures = read_measures(folder)["measures"]
    trained = Trained("IWAE, k=5", 0, "quick", folder, "cpu")
    x, _ = trained.images("test").batch(slice(None), torch.Generator().manual_seed(0))
    assert set(x.unique().tolist()) == {0.0, 1.0}
    with torch.no_grad():
        mu, _ = trained.model.encode(x)
        eps = torch.randn(len(x), 200, 3, generator=torch.Generator().manual_seed(7))
        log_p = torch.logsumexp(trained.model.log_weights(x, eps), dim=1) - math.log(200)
    assert measures["nll"] == pytest.approx(-log_p.mean().item(), abs=0.5)
    assert measures["standard_error"] == pytest.approx(log_p.std().item() / math.sqrt(len(x)), rel=0.05)
    assert measures["active_units"] == int((mu.var(dim=0) > 0.01).sum())
    assert len(measures["minutes"]) == len(measures["curve"]) == 2
    assert measures["samples"] == 1000
    found = {"command": "", "seconds": [1.0], "measures": {name: [value] for name, value in measures.items()}}
    made = Results({"budget": "quick", "seeds": [0], "runs": {"IWAE, k=5": found}})
    REPRODUCTION.draw(made, {}, tmp_path / "figure.png")
    assert (tmp_path / "figure.png").stat().st_size > 1000


def fewer_samples(model, x, num_samples, generator):
    from likelihood import log_likelihood

    assert num_samples == 1000
    return log_likelihood(model, x, 200, generator)
