"""The tricks: running means against a loop written out, the warm-up against its formula, and runs that go on."""

import pytest
import torch

from experiment import TrainingConfig
from iwae import IWAE
from reproduction import Results, Trained, carry_out, read_measures
from reproductions.iwae_tricks import BASE, REPRODUCTION, TRICKS, IwaeTricks, Run, TricksIWAE
from resume import read_state
from small_models import PowerCutError, assert_same_weights, cut_after, without_clock
from trainer import train
from training_images import ResidentImages
from vae_paper import VAE

SMALL = {"latent_dim": 3, "hidden_dims": (8,), "image_shape": (1, 4, 4)}


def small(**options):
    torch.manual_seed(0)
    return TricksIWAE(**SMALL, **options)


@pytest.fixture(scope="module")
def images():
    generator = torch.Generator().manual_seed(1)
    pixels = torch.randint(0, 256, (20, 1, 4, 4), dtype=torch.uint8, generator=generator)
    return [ResidentImages(pixels[:12], torch.zeros(12)), ResidentImages(pixels[12:], torch.zeros(8))]


def test_means_are_those_of_a_loop_written_out(images):
    model = small(average=0.8).double()
    optimizer = model.optimizers(0.01)["loss"]
    expected = {name: torch.zeros_like(parameter) for name, parameter in model.named_parameters()}
    generator = torch.Generator().manual_seed(2)
    for step in range(12):
        x, _ = images[0].batch(slice(None))
        eps = torch.randn(len(x), 1, 3, generator=generator, dtype=torch.float64)
        optimizer.zero_grad()
        model.terms(x.double(), eps)["loss"].mean().backward()
        optimizer.step()
        decay = min(0.8, step / (step + 1))
        for name, parameter in model.named_parameters():
            expected[name] = decay * expected[name] + (1 - decay) * parameter.detach()
    last = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    model.eval()
    for name, parameter in model.named_parameters():
        assert parameter.dtype == torch.float64
        torch.testing.assert_close(parameter.detach(), expected[name], rtol=1e-6, atol=1e-9)
        assert not torch.equal(parameter, last[name])
    model.eval()  # twice is once
    model.train()
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, last[name])


def test_without_tricks_it_is_burdas(images):
    plain, tricks = IWAE(k=1, **SMALL), small()
    tricks.load_state_dict(plain.state_dict())
    x, eps = images[0].batch(slice(None))[0], torch.randn(12, 1, 3)
    for name, term in plain.terms(x, eps, step=3).items():
        assert torch.equal(term, tricks.terms(x, eps, step=3)[name])


def test_the_kl_warms_up_in_training_alone(images):
    model = small(warm_up=10)
    x, eps = images[0].batch(slice(None))[0], torch.randn(12, 1, 3)
    whole = model.terms(x, eps)
    for step, weight in ((0, 0.0), (4, 0.4), (10, 1.0), (99, 1.0)):
        got = model.terms(x, eps, step=step)["loss"]
        nll = whole["reconstruction_nll"]
        torch.testing.assert_close(got, (1 - weight) * nll + weight * whole["loss"])
    model.eval()
    assert torch.equal(model.terms(x, eps, step=0)["loss"], whole["loss"])


def test_the_outputs_bias_starts_where_it_is_told(images):
    for zero_bias in (False, True):
        model = small(zero_bias=zero_bias)
        model.start_from(images[0], torch.Generator())
        mean = images[0].batch(slice(None))[0].mean(dim=0).flatten()
        expected = torch.zeros(16) if zero_bias else torch.logit(mean, eps=1e-3)
        torch.testing.assert_close(model.decoder.logits.bias.detach(), expected)


@pytest.mark.parametrize("commit", [2, 4, 6])
def test_a_run_with_means_goes_on_bit_by_bit(images, tmp_path, monkeypatch, commit):
    config = TrainingConfig(epochs=3, batch_size=6, save_seconds=0.0)
    whole = small(average=0.9)
    rows = train(whole, *images, config)
    with monkeypatch.context() as patch:
        cut_after(patch, commit)
        with pytest.raises(PowerCutError):
            train(small(average=0.9), *images, config, tmp_path, script="s")
    resumed = small(average=0.9)
    again = train(resumed, *images, config, tmp_path, read_state(tmp_path, "s"), "s")
    assert without_clock(again) == without_clock(rows)
    assert_same_weights(whole, resumed)
    loaded = VAE.load(tmp_path).eval()
    assert_same_weights(whole, loaded)


class Tiny(IwaeTricks):
    """Its first row, small."""

    def runs(self, budget):
        return {BASE: Run("reproductions.iwae_tricks", "--train-images 200 --epochs 2 --hidden-dims 8 --average 0.9")}


def test_end_to_end(tmp_path):
    carry_out(Tiny(), BASE, 0, "quick", tmp_path / "run", "cpu")
    measures = read_measures(tmp_path / "run")["measures"]
    rows = Trained(BASE, 0, "quick", tmp_path / "run", "cpu").rows
    assert measures["curve"] == pytest.approx([r["test_reconstruction_nll"] + r["test_kl_divergence"] for r in rows])
    assert measures["minus_elbo"] == measures["curve"][-1]


def made_up(gain):
    measures = {"minus_elbo": [100.0], "kl": [25.0], "curve": [[120.0, 100.0]], "minutes": [[0.5, 1.0]]}
    runs = {label: {"command": "", "seconds": [60.0], "measures": dict(measures)} for label in TRICKS}
    runs["step size 3e-3 along a cosine"]["measures"]["minus_elbo"] = [100.0 - gain]
    return Results({"budget": "quick", "seeds": [0], "runs": runs})


def test_the_claim_judges_and_the_figure_is_drawn(tmp_path):
    assert [claim.holds for claim in REPRODUCTION.claims(made_up(2.0))] == [True]
    assert [claim.holds for claim in REPRODUCTION.claims(made_up(0.5))] == [False]
    header, rows = REPRODUCTION.table(made_up(2.0))
    assert all(len(row) == len(header) for row in rows)
    assert rows[0][:3] == [BASE, "100.00", "+0.00"]
    assert ["step size 3e-3 along a cosine", "98.00", "-2.00"] in [row[:3] for row in rows]
    REPRODUCTION.draw(made_up(2.0), {}, tmp_path / "figure.png")
    assert (tmp_path / "figure.png").stat().st_size > 1000
