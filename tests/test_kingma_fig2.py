"""Kingma 2013, figures 2 and 4: the model against Adagrad written out, the measures on models and curves with known
values, the claims on made-up results, and all of it on runs of a second.
"""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from in_process import few_digits
from reproduce import collect
from reproduction import Results, Run, Trained, carry_out
from reproductions import find, kingma_fig2
from reproductions.kingma_fig2 import REPRODUCTION, KingmaConfig, KingmaVAE
from resume import read_state
from script_runs import assert_is_a_picture
from small_models import (
    PowerCutError,
    assert_close,
    assert_same_weights,
    cut_after,
    new_model,
    nll_and_kl,
    random_batch,
    without_clock,
)
from trainer import train
from training_images import ResidentImages
from vae_paper import VAE

LABELS = ["N_z = 2", "N_z = 3", "N_z = 5", "N_z = 10", "N_z = 20", "N_z = 200"]

# --- The model -------------------------------------------------------------------------------------------------------


def test_the_default_is_the_paper_s_network():
    model = KingmaVAE()
    shapes = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items() if name.endswith("weight")}
    assert shapes == {
        "encoder.hidden.0.weight": (500, 784),
        "encoder.mu.weight": (20, 500),
        "encoder.logvar.weight": (20, 500),
        "decoder.hidden.0.weight": (500, 20),
        "decoder.logits.weight": (784, 500),
    }
    assert isinstance(model.encoder.hidden[1], torch.nn.Tanh)
    assert isinstance(model.decoder.hidden[1], torch.nn.Tanh)
    config = KingmaConfig()
    assert (config.batch_size, config.lr, config.binarisation) == (100, kingma_fig2.STEP, "none")


def test_all_parameters_are_drawn_from_a_normal_of_variance_0_01():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = KingmaVAE(latent_dim=200)
    for name, parameter in model.named_parameters():
        count = parameter.numel()
        assert abs(parameter.mean()) < 5 * 0.1 / math.sqrt(count), name
        assert parameter.var().item() == pytest.approx(0.01, rel=5 * math.sqrt(2 / count)), name
    kurtosis = (model.decoder.logits.weight / 0.1).pow(4).mean().item()
    assert kurtosis == pytest.approx(3, rel=0.05)  # of a uniform distribution 1.8


def test_the_loss_is_minus_the_elbo():
    model = new_model(KingmaVAE, gain=3.0)
    x, eps, _ = random_batch(model)
    nll, kl = nll_and_kl(model, x, eps)
    assert_close(model.terms(x, eps)["loss"], nll + kl.sum(dim=1))


def test_a_step_is_adagrad_s():
    """theta <- theta - lr g / sqrt(sum of g^2 over all steps so far)."""
    model = new_model(KingmaVAE)
    x, eps, _ = random_batch(model)
    [(name, optimizer)] = model.optimizers(0.02).items()
    expected = [parameter.detach().clone() for parameter in model.parameters()]
    sums = [torch.zeros_like(parameter) for parameter in expected]
    assert name == "loss"
    for _ in range(3):
        gradients = torch.autograd.grad(model.terms(x, eps)["loss"].mean(), list(model.parameters()))
        for parameter, total, gradient in zip(expected, sums, gradients, strict=True):
            total += gradient**2
            parameter -= 0.02 * gradient / (total.sqrt() + 1e-10)
        optimizer.zero_grad()
        model.terms(x, eps)["loss"].mean().backward()
        optimizer.step()
        for parameter, want in zip(model.parameters(), expected, strict=True):
            assert_close(parameter.detach(), want, tolerance=1e-9)


@pytest.mark.parametrize("commit", [1, 2, 5])  # before the first step, within the first epoch, within the second
def test_a_run_goes_on_to_the_same_end(images, tmp_path, monkeypatch, commit):
    config = KingmaConfig(epochs=2, batch_size=4, save_seconds=0.0)

    def new():
        return new_model(KingmaVAE).float()

    whole, resumed = new(), new()
    rows = train(whole, *images, config)
    with monkeypatch.context() as patch:
        cut_after(patch, commit)
        with pytest.raises(PowerCutError):
            train(new(), *images, config, tmp_path, script="s")
    resumed_rows = train(resumed, *images, config, tmp_path, read_state(tmp_path, "s"), "s")
    assert_same_weights(whole, resumed)
    assert without_clock(resumed_rows) == without_clock(rows)


# --- What is measured ------------------------------------------------------------------------------------------------


def silent_model():
    """All parameters zero: mu, logvar and all logits are 0, so that the bound of any image is -64 ln 2."""
    model = new_model(KingmaVAE).float().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    return model


def trained_with(model, images, train_losses, test_losses):
    columns = {"train_loss": list(train_losses), "test_loss": list(test_losses)}
    return SimpleNamespace(
        model=model,
        seed=0,
        rows=[{}] * len(columns["test_loss"]),
        column=columns.get,
        images=lambda split: images[split == "test"],
    )


def test_the_bounds_and_the_active_units_of_a_model_that_says_nothing(images):
    found = REPRODUCTION.measure(trained_with(silent_model(), images, [120.0, 90.0], [110.0, 95.0]))
    assert found["train"] == found["test"] == pytest.approx(-64 * math.log(2), abs=1e-4)
    assert found["best"] == -95
    assert found["active"] == 0
    assert found["images seen"].tolist() == [10, 20]
    assert found["train curve"].tolist() == [-120, -90]
    assert found["test curve"].tolist() == [-110, -95]


def test_the_two_bounds_are_those_of_their_own_images_and_a_latent_that_varies_is_active():
    dark, bright = (torch.full((n, 1, 8, 8), value, dtype=torch.uint8) for n, value in ((8, 0), (6, 255)))
    labels = torch.zeros(14, dtype=torch.int64)
    train_images = ResidentImages(torch.cat([dark, bright]), labels)
    test_images = ResidentImages(bright, labels[:6])
    model = silent_model()
    with torch.no_grad():
        model.decoder.logits.bias.fill_(1.0)  # white with probability sigmoid(1)
        model.encoder.hidden[0].weight.fill_(1 / 64)
        model.encoder.mu.weight[2].fill_(0.1)  # 0.6 tanh(1) for white images, 0 for black ones
    found = REPRODUCTION.measure(trained_with(model, (train_images, test_images), [1.0], [1.0]))
    white, black = 64 * math.log1p(math.exp(-1)), 64 * math.log1p(math.exp(1))
    kl = (0.6 * math.tanh(1)) ** 2 / 2
    assert found["test"] == pytest.approx(-white - kl, abs=1e-3)
    assert found["train"] == pytest.approx(-(8 * black + 6 * (white + kl)) / 14, abs=1e-3)
    assert found["active"] == 0  # the same for every test image
    varied = ResidentImages(torch.cat([dark, bright]), labels)
    assert REPRODUCTION.measure(trained_with(model, (train_images, varied), [1.0], [1.0]))["active"] == 1


def test_a_long_curve_is_thinned_evenly_on_the_log_axis_and_its_best_is_of_all_epochs(images):
    test_losses = 100 + 1000 / np.arange(1.0, 1668)
    test_losses[1233] = 42.0  # the best, in an epoch that no curve shows
    found = REPRODUCTION.measure(trained_with(silent_model(), images, np.arange(1667.0), test_losses))
    seen = found["images seen"]
    assert 50 < len(seen) <= 100
    assert (seen[0], seen[-1]) == (10, 16_670)
    assert 12_340 not in seen
    assert found["best"] == -42
    np.testing.assert_array_equal(found["test curve"], -test_losses[seen // 10 - 1])
    np.testing.assert_array_equal(found["train curve"], -(seen // 10 - 1.0))
    assert np.diff(np.log(seen))[-20:].max() < 2 * math.log(1667) / 99


# --- What is claimed -------------------------------------------------------------------------------------------------

BOUNDS = {2: -150.0, 3: -140.0, 5: -125.0, 10: -110.0, 20: -105.0, 200: -105.5}


def made_up(bounds=(), best=-105.4, seen=100_000_000, noise=(0.0,)):
    """Results with these test bounds; noise: what each seed adds to the model of 10 latents."""
    runs = {}
    for latents, bound in (BOUNDS | dict(bounds)).items():
        ends = [bound + (each if latents == 10 else 0.0) for each in noise]
        measures = {
            "train": [end + 3 for end in ends],
            "test": ends,
            "best": [best if latents == 200 else end for end in ends],
            "active": [min(latents, 25) for _ in ends],
            "images seen": [[60_000, seen] for _ in ends],
            "train curve": [[-200.0, end + 3] for end in ends],
            "test curve": [[-190.0, end] for end in ends],
        }
        runs[f"N_z = {latents}"] = {"measures": measures}
    return Results({"budget": "full", "seeds": list(range(len(noise))), "runs": runs})


def holds(**changes):
    return [claim.holds for claim in REPRODUCTION.claims(made_up(**changes))]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, [True, True, True]),
        ({"bounds": {10: -126.0}}, [False, True, True]),
        ({"bounds": {20: -110.5, 200: -111.0}, "best": -110.9}, [False, True, True]),
        ({"bounds": {3: -120.0}}, [False, True, True]),
        ({"bounds": {2: 0.0}}, [True, True, True]),  # the plane's model is not in the figure
        ({"best": -104.4}, [True, False, True]),
        ({"best": -104.6}, [True, True, True]),
        ({"seen": 1_200_000}, [True, None, True]),
        ({"seen": 1_200_000, "best": -100.0}, [True, False, True]),
        ({"bounds": {200: -107.5}, "best": -107.5}, [True, True, False]),
        ({"bounds": {200: -95.0}, "best": -95.0}, [True, True, True]),  # better is no loss
        ({"noise": (-0.5, 0.5)}, [True, True, True]),
        ({"noise": (-4.0, 4.0)}, [False, True, True]),  # 5 nats between 10 and 20, within the seeds' 5.7
    ],
)
def test_claims(changes, expected):
    assert holds(**changes) == expected


def test_the_worst_seed_decides_whether_the_bound_fell():
    results = made_up(noise=(0.0, 0.0))
    results.runs["N_z = 200"]["measures"]["best"] = [-105.4, -103.0]
    claim = REPRODUCTION.claims(results)[1]
    assert claim.holds is False
    assert "2.50 nats" in claim.ours


def test_claims_say_the_numbers_they_judge():
    ours = [claim.ours for claim in REPRODUCTION.claims(made_up(bounds={200: -107.5}, best=-107.25))]
    assert "-140.0, -125.0, -110.0, -105.0 nats with 3, 5, 10, 20 latents" in ours[0]
    assert "0.25 nats below its best after 100.0 million images" in ours[1]
    assert "2.50 nats below 20" in ours[2]
    assert "0.75 nats above 20" in REPRODUCTION.claims(made_up(bounds={200: -104.25}))[2].ours


def test_the_table():
    header, rows = REPRODUCTION.table(made_up(noise=(-0.5, 0.5)))
    assert header[:4] == ["latents", "test bound (nats)", "training bound", "training - test"]
    assert [row[0] for row in rows] == LABELS
    assert rows[3] == ["N_z = 10", "-110.00 ± 0.71", "-107.00 ± 0.71", "3.00", "-110.00 ± 0.71", "10 ± 0"]


# --- All of it -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("budget", REPRODUCTION.budgets)
def test_the_runs_of_a_budget(budget):
    runs = REPRODUCTION.runs(budget)
    assert list(runs) == LABELS
    for label, run in runs.items():
        assert f"--latent-dim {label.removeprefix('N_z = ')}" in run.options
        assert f"--epochs {kingma_fig2.EPOCHS[budget]} " in run.options
    assert ("instead of 100" in REPRODUCTION.protocol(budget)) == (budget == "quick")
    assert kingma_fig2.EPOCHS["full"] * 60_000 >= 1e8
    assert find("kingma-fig2") is REPRODUCTION


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """The folders of all runs, each of one epoch on a few digits, as {(label, seed): folder}."""
    where = tmp_path_factory.mktemp("kingma")
    options = "--train-images 160 --epochs 2 --hidden-dims 8 --latent-dim"
    runs = {label: Run("reproductions.kingma_fig2", f"{options} {label.split()[-1]}") for label in LABELS}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kingma_fig2.KingmaFigure2, "runs", lambda self, budget: runs)
        patch.setattr("pictures.draw_all", lambda *args: None)
        folders = {(label, 0): where / str(i) for i, label in enumerate(LABELS)}
        with few_digits():
            for (label, seed), folder in folders.items():
                carry_out(REPRODUCTION, label, seed, "quick", folder, "cpu")
        yield folders, Results(collect(REPRODUCTION, folders, "quick", [0]))


def test_tiny_runs_from_end_to_end(tiny, tmp_path):
    folders, results = tiny
    last = Trained("N_z = 2", 0, "quick", folders["N_z = 2", 0], "cpu")
    assert type(VAE.load(last.folder)) is KingmaVAE
    assert results["N_z = 2", "test"][0] == pytest.approx(-last.rows[-1]["test_loss"], abs=1e-3)
    assert results["N_z = 2", "images seen"] == [[160, 320]]
    assert [claim.holds for claim in REPRODUCTION.claims(results)][1] in (None, False)
    assert len(REPRODUCTION.table(results)[1]) == 6
    trained = {label: [Trained(label, 0, "quick", folders[label, 0], "cpu")] for label in LABELS}
    REPRODUCTION.draw(results, trained, tmp_path / "figure.png")
    assert_is_a_picture(tmp_path / "figure.png")
