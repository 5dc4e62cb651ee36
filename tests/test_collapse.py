"""The PixelVAE: that no pixel sees what comes after it, its terms by torch.distributions, pixel by pixel, and that
without z it is a PixelCNN; then the experiment's measures, claims and figure.
"""

import json
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.distributions import Bernoulli, Normal, kl_divergence

import likelihood
from in_process import run_main
from reproduction import Results, Run, Trained, carry_out
from reproductions import collapse, find
from reproductions.collapse import SHORT, SHORT_WITHOUT, WITHOUT, PixelVAE, redrawn
from schedules import free_bits
from small_models import assert_close, assert_same_weights
from training_images import ResidentImages
from vae_paper import VAE

SHAPE = (1, 6, 5)
NETWORK = {"architecture": "mlp", "hidden_dims": (7,), "latent_dim": 3, "pixel_channels": 8}


def random(*shape, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape))


def uniform(*shape, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).random(shape))


def new_model(shape=SHAPE, blocks=2, **options):
    """In float64, with weights twice the usual, so that nothing is near zero by chance."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = PixelVAE(image_shape=shape, pixel_blocks=blocks, **(NETWORK | options)).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(2)
    return model


# --- The order of the pixels -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("blocks", [0, 1, 3])
@pytest.mark.parametrize("shape", [SHAPE, (3, 4, 5)], ids=["grey", "colour"])
def test_no_logit_depends_on_its_own_pixel_or_a_later_one(shape, blocks):
    """By the Jacobian; and the pixels just before it do count."""
    model = new_model(shape, blocks)
    colours, height, width = shape
    touched = torch.zeros(height * width, height * width, dtype=torch.bool)  # (pixel of the logit, pixel of the image)
    for seed in range(4):  # a ReLU may hide a pixel of one image
        context = model.decode(random(1, 3, seed=seed)).detach()
        logits = partial(model.logits, context)
        jacobian = torch.autograd.functional.jacobian(logits, uniform(1, *shape, seed=seed))
        jacobian = jacobian.view(colours, height * width, colours, height * width)
        touched |= (jacobian != 0).any(dim=2).any(dim=0)
    assert not touched.triu().any()
    place = torch.arange(1, height * width)
    same_row = place % width > 0
    assert touched[place, place - 1][same_row].all()
    assert touched[width + 1, 0]


def test_every_logit_depends_on_z():
    model, touched = new_model(), torch.zeros(30, dtype=torch.bool)
    for seed in range(4):  # a ReLU may hide the code of one image
        x = uniform(1, *SHAPE, seed=seed)
        jacobian = torch.autograd.functional.jacobian(
            lambda z, x=x: model.logits(model.decode(z), x), random(1, 3, seed=seed)
        )
        touched |= (jacobian.flatten(0, 3).flatten(1) != 0).any(dim=1)
    assert touched.all()


def test_the_probabilities_of_all_images_sum_to_one():
    model, z = new_model((1, 3, 3), blocks=1), random(2, 3)
    numbers = torch.arange(2**9)
    images = ((numbers[:, None] >> torch.arange(9)) & 1).double().view(-1, 1, 3, 3)
    for code in z:
        nll = model.reconstruction_nll(model.decode(code.expand(len(images), 3)), images)
        assert torch.exp(-nll).sum().item() == pytest.approx(1, rel=1e-12)


def test_draws_have_the_model_s_distribution():
    """Of the 16 images of four pixels each comes as often as it is probable."""
    model = new_model((1, 2, 2), blocks=1)
    z = random(1, 3).expand(20_000, 3)
    drawn = model.sample(z, uniform(20_000, 1, 2, 2)).flatten(1)
    counts = torch.bincount((drawn.long() * torch.tensor([1, 2, 4, 8])).sum(dim=1), minlength=16) / len(z)
    numbers = torch.arange(16)
    images = ((numbers[:, None] >> torch.arange(4)) & 1).double().view(-1, 1, 2, 2)
    p = torch.exp(-model.reconstruction_nll(model.decode(z[:16]), images)).detach()
    assert p.max() < 0.6
    assert (counts - p).abs().max() < 4 * 0.5 / 20_000**0.5


def test_a_row_of_draws_shares_its_code():
    model, z = new_model(), random(3, 3)
    drawn = redrawn(model, z, 4, torch.Generator().manual_seed(1))
    numbers = torch.rand(12, *SHAPE, generator=torch.Generator().manual_seed(1)).double()
    assert drawn.shape == (3, 4, *SHAPE)
    assert set(drawn.unique().tolist()) == {0, 1}
    assert torch.equal(drawn[2, 1], model.sample(z[2:], numbers[9:10])[0])


# --- The terms -------------------------------------------------------------------------------------------------------


def slowly(model, z, x):
    """log p(x|z): every pixel from an image in which nothing from it on is there."""
    total = torch.zeros(len(x), dtype=torch.float64)
    for place in range(SHAPE[1] * SHAPE[2]):
        before = x.flatten(1).clone()
        before[:, place:] = 0.5
        logits = model.decoder.logits(model.decoder(z), before.view(x.shape)).flatten(1)[:, place]
        total += Bernoulli(logits=logits, validate_args=False).log_prob(x.flatten(1)[:, place])
    return total


def test_terms_against_torch_distributions():
    model, x, eps = new_model(), uniform(5, *SHAPE), random(5, 3, seed=1)
    mu, logvar = model.encoder(x)
    q = Normal(mu, (logvar / 2).exp())
    nll, kl = -slowly(model, q.loc + q.scale * eps, x), kl_divergence(q, Normal(0.0, 1.0))
    terms = model.terms(x, eps)
    assert_close(terms["reconstruction_nll"], nll)
    assert_close(terms["kl_divergence"], kl.sum(dim=1))
    assert_close(terms["loss"], nll + kl.sum(dim=1))
    assert_close(model.elbo(x, eps), -nll - kl.sum(dim=1))
    parameters = list(model.parameters())
    want = torch.autograd.grad((nll + kl.sum(dim=1)).sum(), parameters)
    for got, expected in zip(torch.autograd.grad(terms["loss"].sum(), parameters), want, strict=True):
        assert_close(got, expected, 1e-9)


def test_log_weights_against_torch_distributions():
    model, x, eps = new_model(), uniform(4, *SHAPE), random(4, 6, 3, seed=1)
    q = Normal(*((f(part)) for f, part in zip((lambda m: m, lambda v: (v / 2).exp()), model.encoder(x), strict=True)))
    want = torch.zeros(4, 6, dtype=torch.float64)
    for k in range(6):
        z = q.loc + q.scale * eps[:, k]
        want[:, k] = slowly(model, z, x) + (Normal(0.0, 1.0).log_prob(z) - q.log_prob(z)).sum(dim=1)
    assert_close(model.log_weights(x, eps), want)


def test_schedules_weigh_its_kl():
    annealed = new_model(kl_schedule="linear", kl_steps=10)
    x, eps = uniform(5, *SHAPE), random(5, 3, seed=1)
    terms = annealed.terms(x, eps, step=3)
    assert_close(terms["loss"], terms["reconstruction_nll"] + 0.3 * terms["kl_divergence"])
    free = new_model(free_bits=0.7)
    terms = free.terms(x, eps)
    kl = free.kl_per_latent(*free.encode(x))
    assert_close(terms["loss"], terms["reconstruction_nll"] + free_bits(kl, 0.7))


def test_with_z_ignored_the_bound_is_a_pixel_cnn():
    """A posterior that is the prior and a decoder whose context is constant: -ELBO is -log p(x) of the PixelCNN."""
    model, x = new_model(), uniform(4, *SHAPE)
    with torch.no_grad():
        for head in (model.encoder.mu, model.encoder.logvar):
            head.weight.zero_()
            head.bias.zero_()
        model.decoder.context.weight.zero_()
    alone = -slowly(model, torch.zeros(4, 3, dtype=torch.float64), x)
    assert_close(-model.elbo(x, random(4, 3)), alone)
    assert_close(-model.log_weights(x, random(4, 7, 3)), alone[:, None].expand(4, 7))
    generator = torch.Generator().manual_seed(0)
    assert_close(-likelihood.log_likelihood(model, x, 5, generator), alone.detach())


def test_a_saved_model_is_the_same_model(tmp_path):
    model = new_model()
    model.save(tmp_path)
    again = VAE.load(tmp_path)
    assert type(again) is PixelVAE
    assert_same_weights(again, model)
    assert again.options == model.options


def test_a_mean_image_is_refused():
    with pytest.raises(ValueError, match="one by one"):
        new_model().sample(random(2, 3))


@pytest.mark.parametrize(
    ("options", "words"),
    [(["--likelihood", "gaussian"], "likelihood"), (["--pixel-channels", "0"], "--pixel-channels must be an integer")],
)
def test_bad_options_are_one_line(tmp_path, options, words):
    done = run_main(collapse.main, *options, "--epochs", "1", cwd=tmp_path)
    assert done.code == 2
    assert done.stderr.startswith("collapse.py: error: ")
    assert words in done.stderr
    assert len(done.stderr.splitlines()) == 1


# --- The experiment --------------------------------------------------------------------------------------------------

REPRODUCTION = find("collapse")


def results_of(budget="quick", seeds=1, **measures):
    """Made-up results. measures: "MLP, linear": {"kl": ...}, a number, or a list over the seeds."""
    runs = {}
    for label in REPRODUCTION.runs(budget):
        usual = {"kl": 5.0, "active": 8, "minus_elbo": 70.0, "reconstruction": 65.0}
        if label.endswith("constant") or label == WITHOUT:
            usual |= {"kl": 0.2, "active": 1, "minus_elbo": 70.2}
        if label == SHORT_WITHOUT:
            usual |= {"minus_elbo": 75.0}
        usual |= measures.get(label, {})
        found = {name: np.broadcast_to(value, seeds).tolist() for name, value in usual.items()}
        found["epochs"] = [[1, 2, 3]] * seeds
        found["kl_curve"] = [[0.0, 1.0, value] for value in found["kl"]]
        runs[label] = {"measures": found}
    return Results({"budget": budget, "seeds": list(range(seeds)), "runs": runs})


def judged(results):
    return [claim.holds for claim in REPRODUCTION.claims(results)]


def test_claims_that_hold_and_that_do_not():
    assert judged(results_of()) == [True] * 9
    assert judged(results_of(**{"MLP, constant": {"active": 6}})) == [False] + [True] * 8
    assert judged(results_of(**{"PixelCNN, constant": {"active": 6}})) == [True, False] + [True] * 7
    for place, schedule in enumerate(("linear", "sigmoid", "cyclical", "free bits"), start=2):
        for model in ("MLP", "PixelCNN"):
            for worse in ({"kl": 0.2}, {"active": 1}):
                expected = [True] * 9
                expected[place] = False
                assert judged(results_of(**{f"{model}, {schedule}": worse})) == expected
    assert judged(results_of(**{"MLP, linear": {"minus_elbo": 70.3}}))[-3:] == [False, True, True]
    assert judged(results_of(**{"PixelCNN, cyclical": {"minus_elbo": 69.0}}))[-2] is False
    assert judged(results_of(**{"MLP, cyclical": {"minus_elbo": 50.0}}))[-2] is True
    assert judged(results_of(**{SHORT: {"minus_elbo": 75.0}}))[-1] is False


def test_a_schedule_has_to_help_with_every_seed():
    assert judged(results_of(seeds=3)) == [True] * 9
    assert judged(results_of(seeds=3, **{"MLP, sigmoid": {"active": [9, 9, 1]}}))[3] is False


def test_the_table_has_a_row_for_each_run():
    header, rows = REPRODUCTION.table(results_of(seeds=2, **{"MLP, linear": {"active": [3, 4]}}))
    assert [row[0] for row in rows] == list(REPRODUCTION.runs("quick"))
    assert {len(row) for row in rows} == {len(header)}
    assert rows[1] == ["MLP, linear", "70.00 ± 0.00", "65.00 ± 0.00", "5.00 ± 0.00", "4 ± 1"]


@pytest.mark.parametrize("budget", REPRODUCTION.budgets)
def test_the_schedules_take_the_steps_of_their_runs(budget):
    runs = REPRODUCTION.runs(budget)
    for model in ("MLP", "PixelCNN"):
        images, epochs = collapse.LENGTHS[budget, model]
        steps = epochs * len(torch.arange(images).split(64))
        assert f"--kl-schedule linear --kl-steps {steps // 2}" in runs[f"{model}, linear"].options
        assert f"--kl-schedule cyclical --kl-steps {steps}" in runs[f"{model}, cyclical"].options
        assert f"{epochs} epochs of {images:,} images" in " ".join(REPRODUCTION.protocol(budget).split())
        assert f"--epochs {epochs}" in runs[f"{model}, constant"].options
        assert f"--train-images {images}" in runs[f"{model}, free bits"].options
    assert "--beta 100" in runs[WITHOUT].options
    assert "--beta 100" in runs[SHORT_WITHOUT].options


def test_the_decoder_sees_all_of_the_experiment_s_images_before_a_pixel():
    """By the Jacobian of the last pixel's logit, and of one in the middle."""
    model = new_model((1, 16, 16), blocks=6)
    touched = torch.zeros(2, 256, dtype=torch.bool)
    places = [8 * 16 + 5, 255]
    for seed in range(3):  # a ReLU may hide a pixel of one image
        x = uniform(1, 1, 16, 16, seed=seed).requires_grad_()
        logits = model.logits(model.decode(random(1, 3, seed=seed)).detach(), x).flatten()
        for i, place in enumerate(places):
            touched[i] |= torch.autograd.grad(logits[place], x, retain_graph=True)[0].flatten() != 0
    assert [row.nonzero().flatten().tolist() for row in touched] == [list(range(place)) for place in places]


def test_active_are_the_latents_whose_mean_moves():
    """Of three latents two have a mean that moves, and the third a variance."""
    model = new_model(latent_dim=3)
    with torch.no_grad():
        for head, moving in ((model.encoder.mu, [0, 2]), (model.encoder.logvar, [1])):
            head.weight[[d for d in range(3) if d not in moving]] = 0
            head.weight[moving] = 100
    images = (255 * uniform(50, *SHAPE)).to(torch.uint8)
    rows = {"epoch": [1.0, 2.0], "test_kl_divergence": [3.0, 2.0], "test_reconstruction_nll": [9.0, 8.0]}
    trained = SimpleNamespace(
        model=model.float().eval(),
        images=lambda split: ResidentImages(images, torch.zeros(50, dtype=torch.int64)),
        column=rows.get,
        rows=[{name: values[i] for name, values in rows.items()} for i in range(2)],
    )
    want = {"minus_elbo": 10.0, "reconstruction": 8.0, "kl": 2.0, "active": 2, "epochs": [1.0, 2.0]}
    want |= {"kl_curve": [3.0, 2.0], "minus_elbo_curve": [12.0, 10.0]}
    assert REPRODUCTION.measure(trained) == want


def test_tiny_runs_end_to_end(tmp_path, monkeypatch):
    shared = "--train-images 128 --image-size 8 --epochs 2 --architecture mlp --hidden-dims 8 --latent-dim 2"
    small = {
        "MLP, constant": Run("vae_paper", shared),
        "PixelCNN, free bits": Run(
            "reproductions.collapse", f"{shared} --pixel-channels 4 --pixel-blocks 1 --free-bits 2"
        ),
    }
    monkeypatch.setattr(REPRODUCTION, "runs", lambda budget: small)
    trained, content = {}, {}
    for label in small:
        folder = tmp_path / label
        carry_out(REPRODUCTION, label, 0, "quick", folder, "cpu")
        trained[label] = [Trained(label, 0, "quick", folder, "cpu")]
        measures = json.loads((folder / "measures.json").read_text())["measures"]
        content[label] = {"measures": {name: [value] for name, value in measures.items()}}
        last = trained[label][0].rows[-1]
        assert measures["kl"] == measures["kl_curve"][-1] == last["test_kl_divergence"]
        assert measures["minus_elbo"] == pytest.approx(measures["kl"] + measures["reconstruction"])
        assert measures["minus_elbo"] == pytest.approx(measures["minus_elbo_curve"][-1])
        assert measures["epochs"] == [1, 2]
        model = trained[label][0].model
        mu = model.encode(trained[label][0].images("test").batch(slice(None))[0])[0]
        assert measures["active"] == int(sum(np.var(mu[:, d].tolist(), ddof=1) > 0.01 for d in range(2)))
    assert (tmp_path / "PixelCNN, free bits" / "redrawn.png").is_file()
    assert (tmp_path / "PixelCNN, free bits" / "samples.png").is_file()
    results = Results({"budget": "quick", "seeds": [0], "runs": content})
    assert len(REPRODUCTION.table(results)[1]) == 2
    REPRODUCTION.draw(results, trained, tmp_path / "figure.png")
    assert (tmp_path / "figure.png").stat().st_size > 10_000


def test_the_figure_of_several_seeds(tmp_path):
    REPRODUCTION.draw(results_of(seeds=2), {}, tmp_path / "figure.png")
    assert (tmp_path / "figure.png").stat().st_size > 10_000
