"""Completing images: the model's terms against torch.distributions and loops, its estimators against a model whose
p(y|x) is known, nearest neighbours against scikit-learn, and the experiment as a whole on a few digits.
"""

import json
import math

import numpy as np
import pytest
import torch
from sklearn.neighbors import NearestNeighbors
from torch.distributions import Bernoulli, Normal, kl_divergence

from in_process import run_main
from reproduction import Results, Run, Trained, carry_out
from reproductions import cvae_quadrants, find
from reproductions.cvae_quadrants import (
    COLUMNS,
    QuadrantCVAE,
    choose_neighbours,
    completions,
    conditional_nll,
    gaussian_kl,
    measure_neighbours,
    nearest,
    neighbours_nll,
    observed_pixels,
)
from small_models import assert_close
from trainable import TrainableModel
from training_images import ResidentImages

SHAPE = (1, 6, 8)


def random(*shape, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape))


def uniform(*shape, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).random(shape))


def new_model(quadrants=1, latent_dim=3, shape=SHAPE, gain=3):
    """In float64, with weights three times the usual, so that nothing is near zero by chance."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = QuadrantCVAE(shape, quadrants_observed=quadrants, latent_dim=latent_dim, hidden_dims=(7, 5)).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(gain)
    return model


# --- What is observed ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("quadrants", "picture"),
    [
        (1, ["....", "....", "xx..", "xx.."]),
        (2, ["xx..", "xx..", "xx..", "xx.."]),
        (3, ["xxxx", "xxxx", "xx..", "xx.."]),
    ],
)
def test_the_quadrants_are_observed_in_their_order(quadrants, picture):
    assert ["".join(".x"[seen] for seen in row) for row in observed_pixels(4, 4, quadrants).astype(int)] == picture


def test_of_odd_sides_every_pixel_is_in_one_quadrant():
    assert [int(observed_pixels(5, 7, n).sum()) for n in (1, 2, 3)] == [3 * 3, 3 * 3 + 2 * 3, 3 * 3 + 2 * 3 + 2 * 4]


@pytest.mark.parametrize("quadrants", [1, 2, 3])
def test_no_unobserved_pixel_reaches_the_condition(quadrants):
    """The guess, the prior and the draws depend on the observed pixels alone; q does see the others."""
    model, x = new_model(quadrants), uniform(4, *SHAPE).requires_grad_()
    seen = torch.from_numpy(observed_pixels(*SHAPE[1:], quadrants)).expand(4, *SHAPE)

    def touched(output):
        return torch.autograd.grad(output.sum(), x)[0] != 0

    baseline, guess = model.guess(x)
    assert (touched(baseline * random(4, *SHAPE)) & ~seen).sum() == 0
    assert (touched(model.prior(model.guess(x)[1])[0] * random(4, 3)) & ~seen).sum() == 0
    assert (touched(model.complete(x, random(4, 2, 3)) * random(4, 2, *SHAPE)) & ~seen).sum() == 0
    assert (touched(model.recognition(x)[0] * random(4, 3)) & ~seen).any()
    other = torch.where(seen, x, uniform(4, *SHAPE, seed=1))
    assert torch.equal(model.guess(other)[1], guess)
    assert torch.equal(guess[seen], x[seen])
    assert torch.equal(guess[~seen], torch.sigmoid(baseline)[~seen])


@pytest.mark.parametrize("quadrants", [1, 2, 3])
def test_observed_pixels_do_not_count_in_the_likelihood(quadrants):
    model, logits, x = new_model(quadrants), random(4, *SHAPE).requires_grad_(), uniform(4, *SHAPE)
    seen = observed_pixels(*SHAPE[1:], quadrants)
    gradient = torch.autograd.grad(model.unobserved_nll(logits, x).sum(), logits)[0]
    assert np.array_equal(gradient[0, 0] == 0, seen)
    p, pixels = (1 / (1 + np.exp(-logits.detach().numpy())))[:, 0], x.numpy()[:, 0]
    by_hand = [
        -sum(
            pixels[n, i, j] * math.log(p[n, i, j]) + (1 - pixels[n, i, j]) * math.log(1 - p[n, i, j])
            for i, j in np.argwhere(~seen)
        )
        for n in range(4)
    ]
    assert_close(model.unobserved_nll(logits, x).detach(), torch.tensor(by_hand, dtype=torch.float64))


# --- The terms -------------------------------------------------------------------------------------------------------


def distributions(model, x):
    """q(z|x, y) and p(z|x) by torch.distributions, and the logits of the baseline, from the networks alone."""
    seen = x * torch.from_numpy(observed_pixels(*SHAPE[1:], model.options.quadrants_observed))
    baseline = model.baseline(seen.flatten(1))
    unseen = 1 - torch.from_numpy(observed_pixels(*SHAPE[1:], model.options.quadrants_observed)).double()
    guess = (seen + unseen * torch.sigmoid(baseline)).detach()
    q, p = (Normal(mu, logvar.exp().sqrt()) for mu, logvar in (model.recognition(x), model.prior(guess)))
    return q, p, baseline, guess, unseen


def nll(logits, x, unseen):
    return -(Bernoulli(logits=logits, validate_args=False).log_prob(x) * unseen).sum(dim=(-3, -2, -1))


@pytest.mark.parametrize("quadrants", [1, 2, 3])
def test_terms_against_torch_distributions(quadrants):
    model, x, eps = new_model(quadrants), uniform(5, *SHAPE), random(5, 3, seed=1)
    q, p, baseline, guess, unseen = distributions(model, x)
    logits = model.generation(q.loc + q.scale * eps, guess.flatten(1))
    terms = model.terms(x, eps)
    assert_close(terms["reconstruction_nll"], nll(logits, x, unseen))
    assert_close(terms["kl_divergence"], kl_divergence(q, p).sum(dim=1))
    assert_close(terms["baseline_nll"], nll(baseline, x, unseen))
    want = nll(logits, x, unseen) + kl_divergence(q, p).sum(dim=1) + nll(baseline, x, unseen)
    assert_close(terms["loss"], want)
    parameters = list(model.parameters())
    got, expected = (torch.autograd.grad(each.sum(), parameters) for each in (terms["loss"], want))
    for a, b in zip(got, expected, strict=True):
        assert_close(a, b, 1e-10)


def test_gaussian_kl_against_torch_and_an_integral():
    parameters = [random(6, 4, seed=seed) for seed in range(4)]
    q, p = (Normal(mu, (logvar / 2).exp()) for mu, logvar in (parameters[:2], parameters[2:]))
    assert_close(gaussian_kl(*parameters), kl_divergence(q, p).sum(dim=1))
    assert_close(gaussian_kl(*parameters[:2], *parameters[:2]), torch.zeros(6, dtype=torch.float64))
    at = torch.linspace(-30, 30, 200_001, dtype=torch.float64)[:, None]
    one = [parameter[:1, :1] for parameter in parameters]
    q, p = (Normal(mu[0], (logvar[0] / 2).exp()) for mu, logvar in (one[:2], one[2:]))
    integral = torch.trapezoid((q.log_prob(at).exp() * (q.log_prob(at) - p.log_prob(at)))[:, 0], at[:, 0])
    assert gaussian_kl(*one).item() == pytest.approx(integral.item(), rel=1e-8)


def test_the_network_without_z_learns_from_its_own_loss_alone():
    model, x, eps = new_model(), uniform(5, *SHAPE), random(5, 3)
    terms = model.terms(x, eps)
    own, others = list(model.baseline.parameters()), [*model.prior.parameters(), *model.generation.parameters()]
    bound = (terms["reconstruction_nll"] + terms["kl_divergence"]).sum()
    assert all(each is None for each in torch.autograd.grad(bound, own, retain_graph=True, allow_unused=True))
    loss = terms["baseline_nll"].sum()
    assert all(each is None for each in torch.autograd.grad(loss, others, allow_unused=True))


@pytest.mark.parametrize("proposal", ["prior", "recognition"])
def test_log_weights_against_torch_distributions(proposal):
    model, x, eps = new_model(2), uniform(4, *SHAPE), random(4, 6, 3, seed=1)
    q, p, _, guess, unseen = distributions(model, x)
    want = torch.zeros(4, 6, dtype=torch.float64)
    for s in range(6):
        drawn_from = q if proposal == "recognition" else p
        z = drawn_from.loc + drawn_from.scale * eps[:, s]
        log_p = -nll(model.generation(z, guess.flatten(1)), x, unseen)
        want[:, s] = log_p + (p.log_prob(z) - drawn_from.log_prob(z)).sum(dim=1)
    assert_close(model.log_weights(x, eps, proposal), want)


@pytest.mark.parametrize("proposal", ["prior", "recognition"])
def test_the_estimate_is_the_integral_over_z(proposal):
    """Of one latent p(y|x) is an integral that a grid gives."""
    model, x = new_model(3, latent_dim=1, gain=1), uniform(3, *SHAPE)
    with torch.no_grad():
        model.generation.hidden[0].weight[:, 0] *= 20  # so that z decides about the pixels
    with torch.no_grad():
        _, p, _, guess, unseen = distributions(model, x)
        at = torch.linspace(-8, 8, 2001, dtype=torch.float64)
        z = p.loc + p.scale * at  # (3, 2001)
        logits = model.generation(z.reshape(-1, 1), guess.flatten(1).repeat_interleave(2001, dim=0))
        log_p = -nll(logits, x.repeat_interleave(2001, dim=0), unseen).view(3, 2001)
        density = Normal(0.0, 1.0).log_prob(at)
        integral = -torch.log(torch.trapezoid((log_p + density).exp(), at, dim=1))
    generator = torch.Generator().manual_seed(0)
    estimate = conditional_nll(model, x, 40_000, generator, proposal, rows=100_000)
    torch.testing.assert_close(estimate, integral, rtol=0, atol=0.02)
    assert (integral - model.unobserved_nll(logits[1000::2001], x)).abs().min() > 0.05  # what z's mean alone gives


def test_the_estimate_does_not_depend_on_how_it_is_cut():
    model, x = new_model(), uniform(7, *SHAPE)

    def estimate(rows):
        # Of noise that is the same whatever the parts are: the prior's scale is nothing.
        with torch.no_grad():
            model.prior.logvar.weight.zero_()
            model.prior.logvar.bias.fill_(-80)
        return conditional_nll(model, x, 10, torch.Generator().manual_seed(0), "prior", rows)

    assert estimate(1).shape == (7,)
    assert_close(estimate(1), estimate(10_000))
    with torch.no_grad():  # ... and then it is the nll of the prior's mean
        guess = model.guess(x)[1]
        logits = model.generation(model.prior(guess)[0], guess.flatten(1))
    assert_close(estimate(20), model.unobserved_nll(logits, x), 1e-9)


def test_completed_images_keep_what_is_observed():
    model, x, eps = new_model(2), uniform(4, *SHAPE), random(4, 5, 3)
    drawn = model.complete(x, eps)
    seen = torch.from_numpy(observed_pixels(*SHAPE[1:], 2))
    assert drawn.shape == (4, 5, *SHAPE)
    assert torch.equal(drawn[..., seen], x.unsqueeze(1).expand(drawn.shape)[..., seen])
    _, p, _, guess, _ = distributions(model, x)
    want = torch.sigmoid(model.generation(p.loc + p.scale * eps[:, 3], guess.flatten(1)))
    assert_close(drawn[:, 3][..., ~seen], want[..., ~seen].detach())
    columns = completions(model, x, seed=0)
    assert columns.shape == (4, len(COLUMNS), *SHAPE)
    assert np.array_equal(columns[:, -1], x)
    assert (columns[:, 0][..., ~seen.numpy()] == 0.4).all()


@pytest.mark.parametrize("shape", [(3, 6, 8), (1, 5, 7)])
def test_colour_and_odd_sides(shape):
    model, x = new_model(1, shape=shape), uniform(2, *shape)
    assert model.terms(x, random(2, 3))["loss"].shape == (2,)
    assert len(model.unobserved) == shape[0] * int((~observed_pixels(*shape[1:], 1)).sum())


def test_a_saved_model_is_the_same_model(tmp_path):
    model, x, eps = new_model(3), uniform(3, *SHAPE), random(3, 3)
    model.save(tmp_path)
    again = TrainableModel.load(tmp_path)
    assert type(again) is QuadrantCVAE
    assert torch.equal(again.terms(x, eps)["loss"], model.terms(x, eps)["loss"])


# --- Nearest neighbours ----------------------------------------------------------------------------------------------


def test_nearest_against_scikit_learn():
    queries, references = random(450, 5, seed=1), random(300, 5, seed=2)
    want = NearestNeighbors(n_neighbors=7, algorithm="brute").fit(references).kneighbors(queries)[1]
    assert np.array_equal(nearest(queries, references, 7), want)


def test_neighbours_nll_by_hand():
    neighbours, y = torch.tensor([[[1.0, 0.0], [1.0, 0.0], [0.0, 0.0]]]), torch.tensor([[1.0, 0.25]])
    p = [(2 + 0.5) / (3 + 1), 0.5 / (3 + 1)]
    want = -math.log(p[0]) - 0.25 * math.log(p[1]) - 0.75 * math.log(1 - p[1])
    assert neighbours_nll(neighbours.sum(dim=1), y, 3, 0.5).tolist() == pytest.approx([want])


def test_one_neighbour_is_chosen_where_it_knows_all_and_many_where_none_knows():
    x = torch.arange(200).repeat_interleave(2).double()[:, None]  # pairs that agree in all
    x += 1e-3 * torch.arange(400)[:, None]  # one of each pair is left out, the other one is its nearest
    y = (uniform(200, 30) < 0.5).double().repeat_interleave(2, dim=0)
    assert choose_neighbours(x, y, 200) == (1, 0.01)
    k, _ = choose_neighbours(random(400, 3), (uniform(400, 30) < 0.3).double(), 100)
    assert k == 100


def test_neighbours_of_images():
    """The nearest in the observed half decides about the other half."""
    pixels = torch.zeros(40, 1, 4, 4, dtype=torch.uint8)
    kind = torch.arange(40) % 2
    pixels[kind == 1, :, :, :] = 255
    images = ResidentImages(pixels, kind)
    observed = torch.from_numpy(observed_pixels(4, 4, 2))[None]
    costs, k, pseudo_count = measure_neighbours(images, images, observed)
    p = (k + pseudo_count) / (k + 2 * pseudo_count)
    assert costs.tolist() == pytest.approx([-8 * math.log(p)] * 40, rel=1e-4)


# --- The experiment --------------------------------------------------------------------------------------------------

REPRODUCTION = find("cvae-quadrants")


def results_of(budget="quick", **measures):
    """Made-up results: each measure a list over the quadrants of lists over the seeds, or of numbers."""
    usual = {
        "neighbours": (110.0, 70.0, 30.0),
        "network": (100.0, 62.0, 25.0),
        "minus_elbo": (72.0, 51.0, 24.0),
        "monte_carlo": (74.0, 52.0, 24.1),
        "importance": (70.0, 50.0, 23.0),
    }
    runs = {
        label: {"measures": {name: np.atleast_1d(each[i]).tolist() for name, each in (usual | measures).items()}}
        for i, label in enumerate(REPRODUCTION.runs(budget))
    }
    seeds = list(range(len(runs["1 quadrant"]["measures"]["network"])))
    return Results({"budget": budget, "seeds": seeds, "runs": runs})


def judged(results):
    return [claim.holds for claim in REPRODUCTION.claims(results)]


def test_claims_that_hold_and_that_do_not():
    assert judged(results_of()) == [True, True, True, None]
    assert judged(results_of("full"))[3] is False  # 72.0 is above 71.8
    assert judged(results_of("full", minus_elbo=(71.0, 51.0, 24.2)))[3] is True
    assert judged(results_of(monte_carlo=(74.0, 52.0, 25.1)))[:2] == [False, True]
    assert judged(results_of(monte_carlo=(111.0, 52.0, 24.1)))[:2] == [False, False]
    assert judged(results_of(network=(80.0, 75.0, 25.0)))[2] is False
    spread = {
        name: [[value, value] for value in values]
        for name, values in (
            ("neighbours", (110, 70, 30)),
            ("network", (100, 62, 25)),
            ("minus_elbo", (72, 51, 24)),
            ("importance", (70, 50, 23)),
        )
    }
    assert judged(results_of(**spread, monte_carlo=[[74, 74], [52, 52], [24, 24.9]]))[0] is True
    assert judged(results_of(**spread, monte_carlo=[[74, 74], [52, 52], [20, 25.1]]))[0] is False


def test_the_table_has_a_row_for_each_predictor():
    header, rows = REPRODUCTION.table(results_of())
    assert header[1:4] == ["1 quadrant", "2 quadrants", "3 quadrants"]
    assert {len(row) for row in rows} == {len(header)}
    by_name = {row[0]: row[1:] for row in rows}
    assert by_name["CVAE, Monte Carlo"] == ["74.00", "52.00", "24.10", ""]
    assert by_name["network without z"][3:] == ["100.4 / 61.9 / 25.4"]


def test_every_budget_has_its_words_and_runs():
    for budget in REPRODUCTION.budgets:
        assert f"{cvae_quadrants.EPOCHS[budget]} epochs" in REPRODUCTION.protocol(budget)
        assert f"{cvae_quadrants.SAMPLES[budget]} samples" in REPRODUCTION.protocol(budget)
        for n, run in enumerate(REPRODUCTION.runs(budget).values(), start=1):
            assert f"--quadrants-observed {n}" in run.options


def test_tiny_runs_end_to_end(tmp_path, monkeypatch):
    def runs(budget):
        shared = "--train-images 256 --image-size 8 --epochs 2 --hidden-dims 8 8 --latent-dim 2"
        return {
            label: Run("reproductions.cvae_quadrants", f"{shared} --quadrants-observed {n}")
            for n, label in enumerate(("1 quadrant", "2 quadrants", "3 quadrants"), start=1)
        }

    monkeypatch.setattr(REPRODUCTION, "runs", runs)
    monkeypatch.setitem(cvae_quadrants.SAMPLES, "quick", 5)
    trained, content = {}, {}
    for label in runs("quick"):
        folder = tmp_path / label
        carry_out(REPRODUCTION, label, 0, "quick", folder, "cpu")
        trained[label] = [Trained(label, 0, "quick", folder, "cpu")]
        measures = json.loads((folder / "measures.json").read_text())["measures"]
        content[label] = {"measures": {name: [value] for name, value in measures.items()}}
        rows = trained[label][0].rows
        assert measures["network"] == min(row["test_baseline_nll"] for row in rows)
        assert measures["minus_elbo"] == pytest.approx(
            rows[-1]["test_reconstruction_nll"] + rows[-1]["test_kl_divergence"]
        )
        assert measures["importance"] == pytest.approx(measures["monte_carlo"], rel=0.1)
        assert (folder / "completions.png").is_file()
    observed = [content[label]["measures"]["network"][0] for label in content]
    assert observed[0] > observed[1] > observed[2]  # nats of fewer and fewer pixels
    results = Results({"budget": "quick", "seeds": [0], "runs": content})
    assert len(REPRODUCTION.claims(results)) == 4
    assert len(REPRODUCTION.table(results)[1]) == 5
    REPRODUCTION.draw(results, trained, tmp_path / "figure.png")
    assert (tmp_path / "figure.png").stat().st_size > 10_000


def test_bad_options_are_one_line(tmp_path):
    done = run_main(cvae_quadrants.main, "--hidden-dims", "0", "--epochs", "1", cwd=tmp_path)
    assert done.code == 2
    assert done.stderr.startswith("cvae_quadrants.py: error: ")
    assert len(done.stderr.splitlines()) == 1


def test_bad_images_are_told():
    model = new_model()
    with pytest.raises(ValueError, match="x"):
        model.terms(torch.full((2, *SHAPE), 2.0, dtype=torch.float64), random(2, 3))
