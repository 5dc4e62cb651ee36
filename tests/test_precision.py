"""Precision: which runs on which machine, the speed from metrics.csv, and when bf16 counts as good enough."""

import pytest
import torch

import reproductions.precision as precision
from reproduction import Results, Run, Trained, carry_out, read_measures
from reproductions.precision import MODELS, REPRODUCTION, label
from script_runs import assert_is_a_picture

FIRST = next(iter(MODELS))


@pytest.fixture
def machine(monkeypatch):
    def of(cuda=False, mps=False):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
        return REPRODUCTION.runs("quick")

    return of


def test_a_cpu_is_compared_with_itself_on_one_thread_and_two(machine):
    runs = machine()
    assert len(runs) == len(MODELS) * 2 * 3
    assert {run.device for run in runs.values()} == {"cpu"}
    assert {run.threads for run in runs.values()} == {1, 2}
    one = runs[label(FIRST, "cpu", 1, "bf16")]
    assert (one.seeds, one.threads) == (None, 1)
    assert one.options.endswith("--train-images 10000 --precision bf16")
    assert runs[label(FIRST, "cpu", 2, "bf16")].seeds == 1


def test_other_devices_are_there_if_the_machine_has_them(machine):
    assert {run.device for run in machine(cuda=True).values()} == {"cpu", "cuda"}
    runs = machine(mps=True)
    assert {run.device for run in runs.values()} == {"cpu", "mps"}
    assert not [run for run in runs.values() if run.device == "mps" and "float64" in run.options]


def test_the_recipe_takes_all_images():
    assert not [run for run in REPRODUCTION.runs("full").values() if "--train-images" in run.options]


def test_its_runs_are_carried_out_one_at_a_time():
    assert REPRODUCTION.alone


def test_speed_is_the_median_epoch(tmp_path, monkeypatch):
    rows = [{"seconds": seconds, "test_loss": 3.0, "test_reconstruction_nll": 1.0, "test_kl_divergence": 1.5}
            for seconds in (9.0, 2.0, 2.5)]  # fmt: skip
    trained = Trained("", 0, "quick", tmp_path, "cpu")
    trained.rows = rows
    monkeypatch.setattr(trained, "images", lambda split: {"train": range(100)}[split])
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    expected = {"loss": 3.0, "-ELBO": 2.5, "images/s": 40.0, "images/s per thread": 20.0}
    assert REPRODUCTION.measure(trained) == expected


def made_up(bf16=100.0, seeds=(99.5, 100.0, 100.5)):
    runs = {}
    for name, run in REPRODUCTION.runs("quick").items():
        values = list(seeds[: run.seeds])
        if "bf16" in name:
            values = [bf16] * len(values)
        measures = {"loss": values, "-ELBO": values, "images/s": [1000.0] * len(values)}
        runs[name] = {"measures": measures | {"images/s per thread": measures["images/s"]}}
    return Results({"budget": "quick", "seeds": list(range(len(seeds))), "runs": runs})


def test_the_claim_compares_with_the_spread_of_the_seeds():
    assert [claim.holds for claim in REPRODUCTION.claims(made_up(100.4))] == [True, True]
    assert [claim.holds for claim in REPRODUCTION.claims(made_up(99.0))] == [True, True]  # nothing is lost
    assert [claim.holds for claim in REPRODUCTION.claims(made_up(100.6))] == [False, False]
    assert [claim.holds for claim in REPRODUCTION.claims(made_up(100.4, (100.0,)))] == [None, None]
    [first, _] = REPRODUCTION.claims(made_up(100.4))
    assert first.ours == "0.40 ± 0.50 nats against the same seed in float32; its seeds spread by 0.50"


def test_the_table_and_the_figure(tmp_path):
    header, rows = REPRODUCTION.table(made_up())
    assert {len(row) for row in rows} == {len(header)}
    assert rows[0] == [label(FIRST, "cpu", 1, "float32"), "100.00 ± 0.50", "100.00 ± 0.50", "1000", "1000"]
    REPRODUCTION.draw(made_up(), {}, tmp_path / "figure.png")
    assert_is_a_picture(tmp_path / "figure.png")


def test_a_tiny_run_in_bf16(tmp_path, monkeypatch, no_pictures):
    small = "--architecture mlp --hidden-dims 8 --train-images 256 --epochs 1 --precision bf16"
    monkeypatch.setattr(type(REPRODUCTION), "runs", lambda self, budget: {"a": Run("vae_paper", small, 1, 1, "cpu", 1)})
    carry_out(REPRODUCTION, "a", 0, "quick", tmp_path / "run", "auto")
    got = read_measures(tmp_path / "run")["measures"]
    assert got["images/s"] > 0
    assert got["loss"] == pytest.approx(got["-ELBO"], abs=1e-3)
    assert precision.size("quick")[1] == 10_000
