"""Rate against distortion: the measures are the last row's, and the claims judge."""

import pytest

from reproduction import Results, Run, Trained, carry_out, read_measures
from reproductions.rate_distortion import BETAS, REPRODUCTION, RateDistortion

RATES = (50.0, 45.0, 30.0, 21.0, 13.0, 7.0, 3.0)


def results(distortions, rates=RATES):
    runs = {}
    for beta, rate, distortion in zip(BETAS, rates, distortions, strict=True):
        measures = {"rate": [rate, rate + 1], "distortion": [distortion, distortion - 1]}
        runs[f"beta={beta}"] = {"command": "", "seconds": [1.0, 1.0], "measures": measures}
    return Results({"budget": "quick", "seeds": [0, 1], "runs": runs})


def test_the_claims_judge():
    lowest_at_1 = (60.0, 62.0, 72.0, 80.0, 95.0, 120.0, 150.0)
    assert [claim.holds for claim in REPRODUCTION.claims(results(lowest_at_1))] == [True, True]
    lowest_at_half = (60.0, 62.0, 70.0, 80.0, 95.0, 120.0, 150.0)
    judged = REPRODUCTION.claims(results(lowest_at_half))
    assert [claim.holds for claim in judged] == [True, False]
    assert "beta = 0.5" in judged[1].ours
    not_in_order = (60.0, 62.0, 72.0, 80.0, 79.0, 120.0, 150.0)
    assert REPRODUCTION.claims(results(not_in_order))[0].holds is False
    same_rates = (50.0, 45.0, 30.0, 21.0, 21.0, 7.0, 3.0)
    assert REPRODUCTION.claims(results(lowest_at_1, same_rates))[0].holds is False


def test_the_table_adds_up_seed_by_seed():
    header, rows = REPRODUCTION.table(results((60.0, 62.0, 72.0, 80.0, 95.0, 120.0, 150.0)))
    assert len(header) == len(rows[0])
    assert rows[3] == ["beta=1", "21.50 ± 0.71", "79.50 ± 0.71", "101.00 ± 0.00"]


class Tiny(RateDistortion):
    """Its runs, small."""

    def runs(self, budget):
        shared = "--train-images 200 --epochs 2 --architecture mlp --hidden-dims 8 --latent-dim 2"
        return {f"beta={beta}": Run("vae_paper", f"{shared} --beta {beta}") for beta in BETAS}


def test_measured_and_drawn(tmp_path):
    carry_out(Tiny(), "beta=2", 0, "quick", tmp_path / "run", "cpu")
    measures = read_measures(tmp_path / "run")["measures"]
    last = Trained("beta=2", 0, "quick", tmp_path / "run", "cpu").rows[-1]
    assert measures["rate"] == pytest.approx(last["test_kl_divergence"])
    assert measures["distortion"] == pytest.approx(last["test_reconstruction_nll"])
    REPRODUCTION.draw(results((60.0, 62.0, 72.0, 80.0, 95.0, 120.0, 150.0)), {}, tmp_path / "figure.png")
    assert (tmp_path / "figure.png").stat().st_size > 1000
