"""The papers' scripts from end to end, as a user runs them: options, data, binarisation, precision, files, refusals.

Reports are held against torch.distributions, sprites against `sprites.render`, random pixels against binomial bounds.
"""

import contextlib
import csv
import functools
import importlib
import io
import json
import math
import re
from dataclasses import dataclass, field, fields
from types import SimpleNamespace

import numpy as np
import pytest
import scipy.spatial
import sklearn.datasets
import torch
from PIL import Image
from safetensors.torch import load_file
from torch.distributions import Bernoulli, Categorical, Normal, kl_divergence

import experiment
import pictures
import vae_paper
import vq_vae
from experiment import RenderedSprites, ResidentImages, TrainingConfig, load_resident
from image_data import load_images
from sprites import NUM_SPRITES, factors_of, render
from trainer import TrainableModel, evaluate, train

CPU = torch.device("cpu")
DIGITS, LABELS = sklearn.datasets.load_digits(return_X_y=True)


REAL = [(experiment, "train", train), (pictures, "draw_all", pictures.draw_all), (vq_vae, "draw", vq_vae.draw)]


@contextlib.contextmanager
def few_digits():
    """Scikit-learn gives its first 250 digits only: 200 to train, 50 to test."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sklearn.datasets, "load_digits", lambda return_X_y: (DIGITS[:250], LABELS[:250]))
        yield


@contextlib.contextmanager
def nothing_replaced():
    """For a fixture that trains, whatever the test that asks first has replaced."""
    with pytest.MonkeyPatch.context() as patch:
        for module, name, function in REAL:
            patch.setattr(module, name, function)
        yield


@pytest.fixture(autouse=True)
def use_few_digits():
    with few_digits():
        yield


@pytest.fixture
def no_pictures(monkeypatch):
    """Most of a short run's time goes into them."""
    monkeypatch.setattr("pictures.draw_all", lambda *args: None)
    monkeypatch.setattr("vq_vae.draw", lambda *args: None)


def run(script, *args, cwd):
    """Call main() in a folder. Returns its exit code, its stdout and its stderr."""
    out, err, code = io.StringIO(), io.StringIO(), 0
    with contextlib.chdir(cwd), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            importlib.import_module(script).main([str(arg) for arg in args])
        except SystemExit as stop:
            code = stop.code or 0
    return SimpleNamespace(code=code, stdout=out.getvalue(), stderr=err.getvalue())


@dataclass
class Paper:
    """A script with options that make it small, and what is expected of it."""

    flags: list  # of the model
    shared: list  # that a report needs as well
    binarised: str  # in the report's header
    terms: list
    elbo_terms: tuple = ("reconstruction_nll", "kl_divergence")
    pictures: tuple = (
        "loss_curves", "reconstructions", "samples", "latent_space", "interpolation", "traversal"
    )  # fmt: skip
    own_option: tuple = ()  # one that makes the model another
    units: dict = field(default_factory=dict)  # of the terms that are not in nats per image


GREY, FRESH, FIXED = "grey (not binarised)", "binarised for this report with seed 0", "binarised once with seed 0"
VAE_TERMS = ["loss", "reconstruction_nll", "kl_divergence"]
PAPERS = {
    "vae_paper": Paper(
        ["--architecture", "mlp", "--hidden-dims", 16, "--latent-dim", 3], [], GREY, VAE_TERMS,
        own_option=("--beta", 4),
    ),
    "iwae": Paper(
        ["--k", 3, "--hidden-dims", 16, "--latent-dim", 4], ["--binarisation", "fresh"], FRESH, VAE_TERMS,
        own_option=("--k", 7),
    ),
    "factor_vae": Paper(
        ["--discriminator-width", 32, "--discriminator-depth", 2, "--latent-dim", 3], [], GREY,
        [*VAE_TERMS, "total_correlation", "discriminator_nll"], own_option=("--gamma", 2),
        units={"discriminator_nll": "nats per decision"},
    ),
    "beta_tcvae": Paper(
        ["--latent-dim", 3], ["--binarisation", "fixed"], FIXED,
        [*VAE_TERMS, "mutual_information", "total_correlation", "dimension_wise_kl"], own_option=("--alpha", 2),
    ),
    "vq_vae": Paper(
        ["--num-codes", 16, "--code-dim", 4], [], GREY,
        ["loss", "reconstruction_nll", "prior_nll", "distance", "perplexity"], ("reconstruction_nll", "prior_nll"),
        ("loss_curves", "reconstructions", "samples", "codebook_use"), ("--num-codes", 3),
        {"distance": "squared distance", "perplexity": "entries of a batch"},
    ),
}  # fmt: skip
ON_CPU = ["--device", "cpu", "--batch-size", 50]  # four steps an epoch


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A function that trains a paper for two epochs, once, and gives its output and its folder."""

    @functools.cache
    def train_once(script):
        cwd, paper = tmp_path_factory.mktemp(script), PAPERS[script]
        with few_digits(), nothing_replaced():
            done = run(script, *paper.flags, *paper.shared, *ON_CPU, "--epochs", 2, "--out", "run", cwd=cwd)
        assert done.code == 0, done.stderr
        done.folder = cwd / "run"
        return done

    return train_once


def parsed(stdout):
    """The first line of a report, its named numbers, and their units where it is not the nat."""
    lines = stdout.splitlines()
    assert lines[1] == "mean over the images, in nats per image"
    named = [re.fullmatch(r"  (\S+) +(-?\d+\.\d{3})(?: (\D+))?", line) for line in lines[2:]]
    named = [match for match in named if match]
    units = {match[1]: match[3] for match in named if match[3]}
    return lines[0], {match[1]: float(match[2]) for match in named}, units


def metrics(folder):
    """The rows of metrics.csv as text, without the seconds, which no two runs share."""
    with (folder / "metrics.csv").open() as file:
        return [{name: value for name, value in row.items() if name != "seconds"} for row in csv.DictReader(file)]


def assert_same_tensors(a, b):
    assert a.keys() == b.keys()
    for name in a:
        assert a[name].dtype == b[name].dtype, name
        assert torch.equal(a[name], b[name]), name


def assert_is_a_picture(path):
    with Image.open(path) as image:
        assert image.format == "PNG"
        grey = np.asarray(image.convert("L"))
    values, counts = np.unique(grey, return_counts=True)
    assert len(values) > 20, path
    assert counts.max() < 0.99 * counts.sum(), path


# --- Training and its report -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("script", PAPERS)
def test_the_report_names_data_count_binarisation_and_terms(trained, script):
    paper, done = PAPERS[script], trained(script)
    header, numbers, units = parsed(done.stdout)
    assert header == f"digits, test set: 50 images, {paper.binarised}, noise seed 0"
    terms = ["reconstruction", "KL"] if script == "vae_paper" else paper.terms  # its report is that of every level
    assert list(numbers) == ["-ELBO", *terms]
    assert units == paper.units
    assert done.stderr.endswith("weights and pictures in run\n")
    if script == "vq_vae":
        assert re.search(r"\ncodebook over the test set: perplexity \d+\.\d, \d+ of 16 entries used\n$", done.stdout)


@pytest.mark.parametrize("script", PAPERS)
def test_the_bound_is_the_sum_of_its_terms(trained, script):
    numbers = parsed(trained(script).stdout)[1]
    names = ("reconstruction", "KL") if script == "vae_paper" else PAPERS[script].elbo_terms
    assert numbers["-ELBO"] == pytest.approx(sum(numbers[name] for name in names), abs=2e-3)
    assert numbers["-ELBO"] > 100  # nats, of 784 pixels


@pytest.mark.parametrize("script", PAPERS)
def test_a_run_leaves_its_files_and_nothing_beside_them(trained, script):
    folder = trained(script).folder
    drawn = {f"{name}.png" for name in PAPERS[script].pictures}
    written = {"model.safetensors", "config.json", "resume.pt", "metrics.csv", "summary.json"}
    assert {path.name for path in folder.iterdir()} == written | drawn
    assert list(folder.parent.iterdir()) == [folder]
    for name in drawn:
        assert_is_a_picture(folder / name)


@pytest.mark.parametrize("script", PAPERS)
def test_the_table_has_each_term_for_train_and_test(trained, script):
    rows = metrics(trained(script).folder)
    columns = [f"{split}_{term}" for split in ("train", "test") for term in PAPERS[script].terms]
    assert [list(row) for row in rows] == 2 * [["epoch", *columns]]
    assert [row["epoch"] for row in rows] == ["1", "2"]
    assert all(math.isfinite(float(row[column])) for row in rows for column in columns)
    assert float(rows[1]["train_loss"]) < float(rows[0]["train_loss"])


@pytest.mark.parametrize("script", PAPERS)
def test_the_summary_says_under_what_conditions(trained, script):
    folder = trained(script).folder
    summary = json.loads((folder / "summary.json").read_text())
    kind = {GREY: "none", FRESH: "fresh", FIXED: "fixed"}[PAPERS[script].binarised]
    expected = {"data": "digits", "binarisation": kind, "precision": "float32", "seed": 0, "device": "cpu"}
    assert summary | expected | {"processes": 1, "threads": 1} == summary
    last = {name: str(value) for name, value in summary["last_epoch"].items() if name != "seconds"}
    assert last == metrics(folder)[-1]
    assert json.loads((folder / "config.json").read_text())["training"]["batch_size"] == 50


def written_out(script, model):
    """The means of a report's terms over the test images, computed with torch.distributions."""
    x = torch.from_numpy(load_images("digits", "test")[0])
    generator, shape = torch.Generator().manual_seed(0), (len(x), *model.noise_shape)
    if script == "vae_paper":
        eps = torch.from_numpy(np.random.default_rng(0).standard_normal(shape).astype(np.float32))
    else:
        eps = torch.randn(shape, generator=generator)
    if script == "iwae":
        x = (torch.rand(x.shape, generator=generator) < x).float()
    elif script == "beta_tcvae":
        x = (torch.rand(x.shape, generator=torch.Generator().manual_seed(0)) < x).float()
    if script == "vq_vae":
        codes = model.encode(x)
        logits = model.prior(codes).movedim(1, -1)
        nll = -Bernoulli(logits=model.decode(codes), validate_args=False).log_prob(x).flatten(1).sum(1)
        return {"reconstruction_nll": nll, "prior_nll": -Categorical(logits=logits).log_prob(codes).flatten(1).sum(1)}
    if script == "factor_vae":
        eps = eps[:, 0]  # the rest orders the permutations
    if eps.ndim == 2:
        eps = eps.unsqueeze(1)  # (N, k, Z)
    mu, logvar = model.encode(x)
    q, prior = Normal(mu, (logvar / 2).exp()), Normal(0.0, 1.0)
    likelihoods, ratios = [], []
    for sample in eps.unbind(1):
        z = q.loc + q.scale * sample
        p = Bernoulli(logits=model.decode(z), validate_args=False)
        likelihoods.append(p.log_prob(x).flatten(1).sum(1))
        ratios.append((prior.log_prob(z) - q.log_prob(z)).sum(1))
    nll = -torch.stack(likelihoods).mean(0)
    means = {"reconstruction_nll": nll, "kl_divergence": kl_divergence(q, prior).sum(1)}
    if script == "iwae":
        weights = torch.stack(likelihoods).double() + torch.stack(ratios)
        means["loss"] = -weights.exp().mean(0).log()
    return means


@pytest.mark.parametrize("script", PAPERS)
def test_the_report_agrees_with_torch_distributions(trained, script):
    done = trained(script)
    model = TrainableModel.load(done.folder)
    with torch.no_grad():
        expected = {name: term.mean().item() for name, term in written_out(script, model).items()}
    numbers = parsed(done.stdout)[1]
    if script == "vae_paper":
        numbers |= {"reconstruction_nll": numbers["reconstruction"], "kl_divergence": numbers["KL"]}
    for name, value in expected.items():
        assert numbers[name] == pytest.approx(value, abs=3e-3), name


# --- Weights ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def no_training(monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("started to train")

    monkeypatch.setattr(experiment, "train", refuse)


@pytest.mark.parametrize("script", PAPERS)
def test_weights_print_the_same_report_and_train_nothing(trained, tmp_path, no_training, script):
    done = trained(script)
    path = done.folder / "model.safetensors"
    before = path.read_bytes()
    again = run(script, "--weights", path, *PAPERS[script].shared, *ON_CPU, cwd=tmp_path)
    assert (again.code, again.stdout, again.stderr) == (0, done.stdout, "")
    assert path.read_bytes() == before
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("script", PAPERS)
def test_weights_refuse_an_option_of_the_model(trained, refused, script):
    flag, value = PAPERS[script].own_option
    message = refused(script, "--weights", trained(script).folder / "model.safetensors", flag, value)
    assert f"--weights names a model: leave out {flag}\n" in message


@pytest.mark.parametrize("script", PAPERS)
def test_weights_of_another_paper_are_refused(trained, refused, script):
    other = "iwae" if script == "vq_vae" else "vq_vae"
    assert "does not describe a" in refused(script, "--weights", trained(other).folder / "model.safetensors")


@pytest.mark.parametrize("script", PAPERS)
def test_weights_for_small_images_are_refused_for_sprites(trained, refused, monkeypatch, script):
    monkeypatch.setattr(experiment, "NUM_TEST_SPRITES", 10)
    message = refused(script, "--weights", trained(script).folder / "model.safetensors", "--data", "sprites")
    assert "--data sprites has images (1, 64, 64), the model takes (1, 28, 28)" in message


# --- Resume ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("script", PAPERS)
def test_a_resumed_run_equals_the_uninterrupted_one(trained, tmp_path, no_pictures, script):
    paper, whole = PAPERS[script], trained(script)
    first = run(script, *paper.flags, *paper.shared, *ON_CPU, "--epochs", 1, "--out", "run", cwd=tmp_path)
    assert first.code == 0
    assert len(metrics(tmp_path / "run")) == 1
    second = run(script, "--resume", "run", "--epochs", 2, cwd=tmp_path)  # every other option is the run's own
    assert second.code == 0, second.stderr
    assert second.stdout == whole.stdout
    weights = [load_file(folder / "model.safetensors") for folder in (tmp_path / "run", whole.folder)]
    assert_same_tensors(*weights)
    assert metrics(tmp_path / "run") == metrics(whole.folder)


@pytest.mark.parametrize("script", PAPERS)
def test_another_scripts_run_is_not_resumed(trained, refused, script):
    other = "vae_paper" if script == "iwae" else "iwae"
    message = refused(script, "--resume", trained(other).folder, "--epochs", 3)
    assert f"was left by {other}.py: go on with that script, not with {script}.py" in message


@pytest.mark.parametrize("script", PAPERS)
def test_a_resumed_run_keeps_its_own_options(trained, refused, script):
    flag, value = PAPERS[script].own_option
    message = refused(script, "--resume", trained(script).folder, "--epochs", 3, flag, value)
    assert f"{flag} was" in message
    assert "cannot become" in message


# --- The images ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("script", "flags", "data", "model"),
    [
        ("vae_paper", ["--latent-dim", 2], "sprites32", {"class": "VAE", "image_shape": [1, 32, 32]}),
        (
            "vae_paper",
            ["--conditional", "--latent-dim", 2],
            "sprites",
            {"class": "ConditionalVAE", "num_classes": 3, "image_shape": [1, 64, 64]},
        ),
        ("iwae", ["--k", 2, "--hidden-dims", 16], "sprites32", {"class": "IWAE", "image_shape": [1, 32, 32]}),
    ],
    ids=["vae, 32x32", "conditional, 64x64", "iwae, 32x32"],
)
def test_sprites_can_be_trained_on(monkeypatch, no_pictures, tmp_path, script, flags, data, model):
    monkeypatch.setattr(experiment, "NUM_TEST_SPRITES", 60)
    done = run(
        script, *flags, "--data", data, "--train-images", 40, "--epochs", 2, "--out", "run", *ON_CPU, cwd=tmp_path
    )
    assert done.code == 0, done.stderr
    header, numbers, _ = parsed(done.stdout)
    assert header == f"{data}, test set: 60 images, black and white, noise seed 0"
    assert all(map(math.isfinite, numbers.values()))
    config = json.loads((tmp_path / "run" / "config.json").read_text())["model"]
    assert config | model == config
    rows = metrics(tmp_path / "run")
    assert float(rows[1]["train_loss"]) < float(rows[0]["train_loss"])


def test_a_conditional_model_of_sprites_is_drawn_per_shape(monkeypatch, tmp_path):
    monkeypatch.setattr(experiment, "NUM_TEST_SPRITES", 60)
    grids = {}
    monkeypatch.setattr(
        pictures, "save_image_grid", lambda path, rows, *rest: grids.update({path.name: np.array(rows)})
    )
    flags = ["--conditional", "--data", "sprites32", "--train-images", 40, "--epochs", 1, "--out", "run", *ON_CPU]
    assert run("vae_paper", *flags, cwd=tmp_path).code == 0
    assert grids["samples.png"].shape == (3, 10, 1, 32, 32)
    assert not np.array_equal(grids["samples.png"][0], grids["samples.png"][1])


@pytest.mark.parametrize("size", [32, 64])
def test_a_batch_of_sprites_is_what_render_draws(size):
    numbers = np.random.default_rng(0).integers(0, NUM_SPRITES, 50)
    images = RenderedSprites(numbers, size, CPU)
    assert len(images) == 50
    assert images.image_shape == (1, size, size)
    for index in (torch.tensor([7, 0, 7, 49]), slice(3, 9)):
        x, labels = images.batch(index)
        chosen = numbers[index.numpy() if isinstance(index, torch.Tensor) else index]
        assert x.dtype == torch.float32
        np.testing.assert_array_equal(x, render(chosen, size) / 255)
        np.testing.assert_array_equal(labels, factors_of(chosen)[:, 0])


def test_the_label_of_a_sprite_is_its_shape():
    third = NUM_SPRITES // 3
    images = RenderedSprites(np.array([0, third - 1, third, 2 * third, NUM_SPRITES - 1]), 32, CPU)
    assert images.labels.dtype == torch.int64
    assert images.labels.tolist() == [0, 0, 1, 2, 2]


def test_no_sprite_is_in_both_splits(monkeypatch):
    drawn = []

    def spy(numbers, size):
        drawn.append(np.asarray(numbers))
        return np.zeros((len(numbers), 1, size, size), np.uint8)

    monkeypatch.setattr(experiment, "render", spy)
    test = load_resident("sprites32", "test", CPU)
    train_images = load_resident("sprites32", "train", CPU)
    shown = np.concatenate(drawn)
    assert len(test) == len(shown) == 5000
    both = np.concatenate([shown, train_images.numbers])
    np.testing.assert_array_equal(np.sort(both), np.arange(NUM_SPRITES))  # each once
    np.testing.assert_array_equal(test.labels, factors_of(shown)[:, 0])
    shapes = np.bincount(factors_of(shown)[:, 0])
    assert abs(shapes - 5000 / 3).max() < 5 * math.sqrt(5000 * 2 / 9)  # drawn at random, not the first ones


@pytest.mark.parametrize("limit", [1, 7, 99, 199, 200])
def test_a_limit_keeps_images_spread_evenly_over_the_set(limit):
    everything = load_resident("digits", "train", CPU)
    some = load_resident("digits", "train", CPU, limit=limit)
    assert len(some) == len(some.images) == limit
    kept = [i * 200 // limit for i in range(limit)]
    assert torch.equal(some.images, everything.images[kept])
    assert torch.equal(some.labels, everything.labels[kept])


def test_a_limit_of_sprites_is_spread_too():
    everything, some = load_resident("sprites", "train", CPU), load_resident("sprites", "train", CPU, limit=1000)
    assert len(some) == 1000
    positions = np.flatnonzero(np.isin(everything.numbers, some.numbers))
    assert set(np.diff(positions)) <= {732, 733}  # 732,280 / 1000
    assert positions[-1] >= 732_280 - 733


@pytest.mark.parametrize(("data", "there"), [("digits", 200), ("sprites32", NUM_SPRITES - 5000)])
def test_a_limit_above_the_set_is_refused(data, there):
    assert len(load_resident(data, "train", CPU, limit=there)) == there
    with pytest.raises(ValueError, match=f"--train-images {there + 1}: there are {there}"):
        load_resident(data, "train", CPU, limit=there + 1)


# --- Binarisation ----------------------------------------------------------------------------------------------------


def test_without_binarisation_pixels_are_grey_values():
    images = load_resident("digits", "test", CPU)
    x, labels = images.batch(slice(None))
    assert images.draw_thresholds(3, torch.Generator()) is None
    assert x.dtype == torch.float32
    np.testing.assert_array_equal(x, load_images("digits", "test")[0])
    np.testing.assert_array_equal(labels, load_images("digits", "test")[1])
    assert 0.1 < ((x > 0) & (x < 1)).float().mean() < 0.9


def assert_drawn_from(white, grey):
    """Whether independent pixels came out white as often as their grey values say: five standard deviations."""
    grey = grey.double()
    spread = (grey * (1 - grey)).sum().sqrt()
    assert abs((white - grey).sum()) < 5 * spread
    # And bright pixels more often than dark ones, weighed by how bright they are.
    spread = (grey**3 * (1 - grey)).sum().sqrt()
    assert abs((grey * (white - grey)).sum()) < 5 * spread


@pytest.mark.parametrize("split", ["train", "test"])
def test_fixed_binarisation_is_drawn_once_from_the_seed(split):
    grey = load_resident("digits", split, CPU).batch(slice(None))[0]
    images = {seed: load_resident("digits", split, CPU, "fixed", seed) for seed in (0, 1)}
    x = {seed: data.batch(slice(None))[0] for seed, data in images.items()}
    assert images[0].draw_thresholds(3, torch.Generator()) is None
    for white in x.values():
        assert torch.isin(white, torch.tensor([0.0, 1.0])).all()
        assert_drawn_from(white, grey)
        assert (white[grey == 0] == 0).all()
        assert (white[grey == 1] == 1).all()
    assert torch.equal(x[0], load_resident("digits", split, CPU, "fixed", 0).batch(slice(None))[0])
    different = (x[0] != x[1]).double()
    assert_drawn_from(different, 2 * grey.double() * (1 - grey.double()))  # two independent draws
    assert torch.equal(images[0].labels, load_resident("digits", split, CPU).labels)


def test_fixed_binarisation_takes_the_same_images_with_a_limit():
    whole = load_resident("digits", "train", CPU)
    limited = load_resident("digits", "train", CPU, "fixed", 0, limit=50)
    grey = whole.batch(torch.arange(0, 200, 4))[0]
    assert_drawn_from(limited.batch(slice(None))[0], grey)
    assert (limited.batch(slice(None))[0][grey == 0] == 0).all()


def test_fresh_binarisation_draws_white_with_the_grey_values_probability():
    ramp = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16)
    images = ResidentImages(ramp, torch.zeros(1, dtype=torch.int64), "fresh")
    draws, generator = 4000, torch.Generator().manual_seed(0)
    index = torch.zeros(draws, dtype=torch.int64)
    x = images.batch(index, images.draw_thresholds(draws, generator))[0].double()
    assert torch.isin(x, torch.tensor([0.0, 1.0], dtype=torch.float64)).all()
    grey = ramp[0].double() / 255
    deviation = (x.mean(0) - grey).abs()
    assert (deviation <= 5 * (grey * (1 - grey) / draws).sqrt()).all()  # zero for black and for white
    assert_drawn_from(x, grey.expand_as(x))
    # Every pixel by itself: the variance of the number of white ones is the sum of the pixels' variances.
    expected = (grey * (1 - grey)).sum().item()
    assert x.flatten(1).sum(1).var().item() == pytest.approx(expected, rel=5 * math.sqrt(2 / draws))


class Recorder(TrainableModel):
    """Stands in for a model, and remembers which images it saw."""

    noise_shape = (2,)
    num_classes = 60  # so that it is told which image is which

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.trained, self.tested = [], []

    def terms(self, x, eps, c=None, step=None):
        (self.trained if torch.is_grad_enabled() else self.tested).append((x, c, eps))
        return {"loss": x.flatten(1).sum(1) + self.weight}


def recorded(binarisation, seed=0):
    """What a model saw in two epochs of training: [epoch] -> images by number; the same of the evaluations."""
    grey = load_resident("digits", "train", CPU).images
    sets = [
        ResidentImages(grey[start : start + count], torch.arange(count), binarisation)
        for start, count in ((0, 60), (60, 30))
    ]
    model = Recorder()
    train(model, *sets, TrainingConfig(epochs=2, batch_size=20, seed=seed, binarisation=binarisation))

    def by_number(calls):
        x, c = (torch.cat(parts) for parts in list(zip(*calls, strict=True))[:2])
        return x[c.argsort()]

    assert len(model.trained) == 6
    assert len(model.tested) == 2
    epochs = [by_number(model.trained[:3]), by_number(model.trained[3:])]
    return SimpleNamespace(
        epochs=epochs, tests=[by_number([call]) for call in model.tested], calls=model.trained, sets=sets, model=model
    )


def test_fresh_training_batches_differ_from_epoch_to_epoch():
    seen = recorded("fresh")
    first, second = seen.epochs
    grey = seen.sets[0].images / 255
    for x in seen.epochs:
        assert x.shape == (60, 1, 28, 28)
        assert torch.isin(x, torch.tensor([0.0, 1.0])).all()
        assert_drawn_from(x, grey)
    assert (first != second).flatten(1).any(1).all()
    assert_drawn_from((first != second).double(), 2 * grey.double() * (1 - grey.double()))


def test_fresh_evaluation_draws_the_same_every_time():
    seen = recorded("fresh")
    assert torch.equal(*seen.tests)
    assert torch.isin(seen.tests[0], torch.tensor([0.0, 1.0])).all()
    assert_drawn_from(seen.tests[0], seen.sets[1].images / 255)
    for seed, same in ((0, True), (1, False)):
        evaluate(seen.model, seen.sets[1], seed)
        assert torch.equal(seen.model.tested[-1][0], seen.tests[0]) == same


def test_without_binarisation_every_epoch_sees_the_grey_values():
    seen = recorded("none")
    for x in seen.epochs:
        assert torch.equal(x, seen.sets[0].images / 255)


def test_fresh_binarisation_leaves_sprites_as_they_are(monkeypatch):
    monkeypatch.setattr(experiment, "NUM_TEST_SPRITES", 20)
    for split, limit in (("train", 20), ("test", None)):
        images = load_resident("sprites32", split, CPU, "fresh", 0, limit)
        thresholds = images.draw_thresholds(20, torch.Generator().manual_seed(0))
        assert thresholds.shape == (20, 1, 32, 32)
        index = torch.arange(20)
        assert torch.equal(images.batch(index, thresholds)[0], images.batch(index)[0])


@pytest.mark.parametrize(
    ("flags", "named", "drawn_with"),
    [
        ([], "grey (not binarised)", None),
        (["--binarisation", "fixed"], "binarised once with seed 5", 5),
        (["--binarisation", "fresh"], "binarised for this report with seed 5", 5),
    ],
    ids=["none", "fixed", "fresh"],
)
def test_the_report_of_the_vae_is_about_the_images_it_names(trained, tmp_path, flags, named, drawn_with):
    path = trained("vae_paper").folder / "model.safetensors"
    done = run("vae_paper", "--weights", path, "--seed", 5, *flags, *ON_CPU, cwd=tmp_path)
    header, numbers, _ = parsed(done.stdout)
    assert header == f"digits, test set: 50 images, {named}, noise seed 5"
    x = torch.from_numpy(load_images("digits", "test")[0])
    if drawn_with is not None:
        x = (torch.rand(x.shape, generator=torch.Generator().manual_seed(drawn_with)) < x).float()
    model = vae_paper.load_model(path)
    with torch.no_grad():
        mu, logvar = model.encode(x)
        eps = np.random.default_rng(5).standard_normal((50, 3)).astype(np.float32)
        p = Bernoulli(logits=model.decode(mu + (logvar / 2).exp() * torch.from_numpy(eps)), validate_args=False)
        nll = -p.log_prob(x).sum() / 50
    assert numbers["reconstruction"] == pytest.approx(nll.item(), abs=2e-3)


# --- Precision -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("script", PAPERS)
def test_float64_gives_float64_weights(trained, no_pictures, tmp_path, script):
    paper = PAPERS[script]
    flags = [*paper.flags, *paper.shared, *ON_CPU, "--precision", "float64", "--out", "run", "--epochs", 1]
    done = run(script, *flags, "--train-images", 50, cwd=tmp_path)
    assert done.code == 0, done.stderr
    weights, single = (load_file(f / "model.safetensors") for f in (tmp_path / "run", trained(script).folder))
    assert {name: tensor.shape for name, tensor in weights.items()} == {
        name: tensor.shape for name, tensor in single.items()
    }
    assert {tensor.dtype for tensor in weights.values()} == {torch.float64}
    assert {tensor.dtype for tensor in single.values()} == {torch.float32}
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["precision"] == "float64"
    again = run(script, "--weights", tmp_path / "run" / "model.safetensors", *paper.shared, *ON_CPU, cwd=tmp_path)
    assert again.stdout == done.stdout


@pytest.mark.parametrize("script", ["vae_paper", "vq_vae"])
def test_bf16_trains_like_float32_and_keeps_its_parameters(trained, no_pictures, tmp_path, monkeypatch, script):
    single = metrics(trained(script).folder)
    seen = []
    cls = {"vae_paper": vae_paper.VAE, "vq_vae": vq_vae.VQVAE}[script]
    terms = cls.terms

    def spy(self, *args):
        result = terms(self, *args)
        if torch.is_grad_enabled():
            seen.append((torch.is_autocast_enabled("cpu"), {term.dtype for term in result.values()}))
        return result

    monkeypatch.setattr(cls, "terms", spy)
    paper = PAPERS[script]
    flags = [*paper.flags, *paper.shared, *ON_CPU, "--precision", "bf16", "--out", "run", "--epochs", 2]
    assert run(script, *flags, cwd=tmp_path).code == 0
    assert seen == 8 * [(True, {torch.float32})]
    assert {tensor.dtype for tensor in load_file(tmp_path / "run" / "model.safetensors").values()} == {torch.float32}
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["precision"] == "bf16"
    rows = metrics(tmp_path / "run")
    for row, other in zip(rows, single, strict=True):
        for name in ("train_reconstruction_nll", "test_reconstruction_nll"):
            assert float(row[name]) == pytest.approx(float(other[name]), abs=4), name
    assert rows != single  # the arithmetic was another


@pytest.mark.parametrize("script", PAPERS)
def test_under_bf16_networks_take_it_and_terms_do_not(script):
    module, images = importlib.import_module(script), load_resident("digits", "train", CPU, limit=20)
    [config] = [value for value in vars(module).values() if is_own_config(value)]
    options = {"discriminator_width": 32, "k": 3, "num_codes": 16}
    known = {option.name for option in fields(config)}
    config = config(**{name: value for name, value in options.items() if name in known})
    model = experiment.initialised(module.build_model, config, images)
    inner = []
    for layer in model.modules():
        if isinstance(layer, torch.nn.Linear | torch.nn.Conv2d):
            layer.register_forward_hook(lambda layer, args, output: inner.append(output.dtype))
    x, eps = (
        images.batch(slice(None))[0],
        torch.randn(20, *model.noise_shape, generator=torch.Generator().manual_seed(0)),
    )
    model.train()
    if script == "vq_vae":
        model.terms(x, eps)  # puts the codebook onto the images' vectors
    model.eval()
    exact = model.terms(x, eps)
    inner.clear()
    with torch.autocast("cpu", torch.bfloat16):
        terms = model.terms(x, eps)
    # The masked convolutions of the code prior bypass their layer's forward, not autocast.
    assert torch.bfloat16 in inner
    assert {name: term.dtype for name, term in terms.items()} == dict.fromkeys(exact, torch.float32)
    assert {name: term.shape for name, term in terms.items()} == {name: term.shape for name, term in exact.items()}
    assert terms["loss"].mean().item() == pytest.approx(exact["loss"].mean().item(), rel=0.02)
    terms["loss"].sum().backward()
    grads = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    assert grads
    assert all(grad.dtype == torch.float32 and grad.isfinite().all() for grad in grads)


def is_own_config(value):
    return isinstance(value, type) and issubclass(value, TrainingConfig) and value is not TrainingConfig


# --- A user's mistakes -----------------------------------------------------------------------------------------------


@pytest.fixture
def refused(tmp_path, monkeypatch, no_training):
    """A function that runs a script, expects it to refuse without a trace on the disk, and gives the message."""

    def below():
        return {path: path.read_bytes() if path.is_file() else None for path in tmp_path.rglob("*")}

    def call(script, *args, own=True):
        before = below()
        done = run(script, *args, cwd=tmp_path)
        assert done.code == 2, done.stderr
        assert done.stdout == ""
        assert "Traceback" not in done.stderr
        assert below() == before
        if own:  # tyro's own messages stand in a box
            assert done.stderr.startswith(f"{script}.py: error: ")
            assert done.stderr.count("\n") == 1
            assert done.stderr.endswith("\n")
        return done.stderr

    return call


MISTAKES = [
    ("iwae", ["--k", 0], "k must be an integer of at least 1, got 0"),
    ("iwae", ["--latent-dim", 0], "latent_dim must be an integer of at least 1, got 0"),
    ("iwae", ["--hidden-dims", 16, 0], "hidden_dims[1] must be an integer of at least 1, got 0"),
    ("factor_vae", ["--gamma", -1], "gamma must be a finite number of at least 0, got -1"),
    ("factor_vae", ["--gamma", "nan"], "gamma must be a finite number of at least 0, got nan"),
    ("factor_vae", ["--discriminator-width", 0], "width and depth of at least 1, got 0, 6"),
    ("factor_vae", ["--batch-size", 1], "a FactorVAE needs batches of at least"),
    ("beta_tcvae", ["--alpha", "nan"], "alpha must be a finite number of at least 0, got nan"),
    ("beta_tcvae", ["--gamma", "inf"], "gamma must be a finite number of at least 0, got inf"),
    ("beta_tcvae", ["--beta", -2], "beta must be a finite number of at least 0, got -2"),
    ("beta_tcvae", ["--batch-size", 1], "a BetaTCVAE needs batches of at least 2 images"),
    ("beta_tcvae", ["--train-images", 1], "a BetaTCVAE needs batches of at least 2 images"),
    ("vq_vae", ["--num-codes", 0], "num_codes must be an integer of at least 1, got 0"),
    ("vq_vae", ["--code-dim", -1], "code_dim must be an integer of at least 1, got -1"),
    ("vq_vae", ["--decay", 1], "decay must lie in [0, 1), got 1"),
    ("vq_vae", ["--commitment", "nan"], "commitment must be a finite number of at least 0, got nan"),
    ("vae_paper", ["--train-images", 201], "--train-images 201: there are 200"),
    ("vq_vae", ["--train-images", 10**6], "--train-images 1000000: there are 200"),
    ("vae_paper", ["--autoencoder", "--beta", 2], "an autoencoder has no KL for beta to weigh: leave out beta"),
    ("vae_paper", ["--autoencoder", "--free-bits", 1], "an autoencoder has no KL"),
    ("vae_paper", ["--autoencoder", "--conditional"], "--autoencoder and --conditional: choose one"),
    (
        "vae_paper",
        ["--capacity", 5, "--kl-steps", 100, "--beta", 4],
        "capacity weighs the KL by gamma: leave out beta",
    ),
    ("vae_paper", ["--capacity", 5], "--kl-schedule and --capacity go together with --kl-steps above 1"),
    ("vae_paper", ["--kl-steps", 5], "--kl-schedule and --capacity go together with --kl-steps above 1"),
    ("vae_paper", ["--capacity", 5, "--kl-steps", 9, "--free-bits", 1], "leave out the annealing schedule"),
    ("vae_paper", ["--capacity-gamma", 3], "--capacity-gamma belongs to --capacity"),
    ("vae_paper", ["--sigma", 0.1], "sigma belongs to the gaussian likelihood"),
    ("vae_paper", ["--likelihood", "gaussian", "--sigma", 0], "sigma must be a number above 0"),
]  # script, options, what the message says


@pytest.mark.parametrize(
    ("script", "args", "named"), MISTAKES, ids=[" ".join(map(str, [script, *args])) for script, args, _ in MISTAKES]
)
def test_options_that_cannot_be_are_one_line_on_stderr(refused, script, args, named):
    assert named in refused(script, *args, "--out", "new")


@pytest.mark.parametrize("flag", ["--train-images", "--epochs", "--batch-size"])
@pytest.mark.parametrize("script", PAPERS)
def test_a_count_of_zero_is_named(refused, script, flag):
    assert flag in refused(script, flag, 0, "--out", "new", own=False)


@pytest.mark.parametrize(
    ("script", "args"),
    [
        ("iwae", ["--objective", "elbo"]),
        ("beta_tcvae", ["--estimator", "exact"]),
        ("vq_vae", ["--codebook", "none"]),
        ("factor_vae", ["--precision", "float16"]),
        ("vae_paper", ["--binarisation", "always"]),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_a_word_that_is_no_choice_is_named(refused, script, args):
    message = refused(script, *args, "--out", "new", own=False)
    assert args[0] in message
    assert args[1] in message


@pytest.mark.parametrize("damage", ["missing folder", "empty folder", "empty", "cut", "text", "another pickle"])
def test_a_run_that_cannot_be_resumed(trained, refused, tmp_path, damage):
    folder = tmp_path / "run"
    state = folder / "resume.pt"
    if damage != "missing folder":
        folder.mkdir()
    if damage == "empty":
        state.touch()
    elif damage == "cut":
        whole = (trained("iwae").folder / "resume.pt").read_bytes()
        state.write_bytes(whole[: len(whole) // 2])
    elif damage == "text":
        state.write_text("no state at all\n" * 20)
    elif damage == "another pickle":
        torch.save([1, 2, 3], state)
    message = refused("iwae", "--resume", folder, "--epochs", 3)
    if damage.endswith("folder"):
        assert f"no resume.pt in {folder}: --resume expects the folder of a run that was saved" in message
    else:
        assert f"{state} is not the whole state of a run" in message


# --- The command line ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("script", PAPERS)
def test_help_explains_every_flag_of_every_paper(tmp_path, script):
    done = run(script, "--help", cwd=tmp_path)
    assert (done.code, done.stderr) == (0, "")
    assert not list(tmp_path.iterdir())
    # Each flag begins a line and is followed, up to the next one, by its argument and its explanation.
    text = re.sub("[│╭╮╰╯─|]", " ", done.stdout)
    explained = {}
    for entry in re.split(r"\n +(?=--?[a-z])", text)[1:]:
        bare = re.sub(r"\(default:[^)]*\)|\{.*?\}|\[.*?\]|--[\w-]+|\b[A-Z_]+\b", " ", entry, flags=re.DOTALL)
        explained[entry.split()[0].strip(",")] = len(re.findall("[A-Za-z]{2,}", bare))
    [config] = [value for value in vars(importlib.import_module(script)).values() if is_own_config(value)]
    for option in fields(config):
        flag = "--" + option.name.replace("_", "-")
        assert explained.get(flag, 0) >= 2, flag
    shared = {"--data", "--train-images", "--binarisation", "--epochs", "--batch-size", "--lr", "--seed", "--device"}
    assert explained.keys() >= shared | {"--precision", "--out", "--save-seconds", "--resume", "--weights", "-h"}
    assert PAPERS[script].own_option[0] in explained


def test_help_of_the_pictures_explains_its_flags(tmp_path):
    done = run("pictures", "--help", cwd=tmp_path)
    assert (done.code, done.stderr) == (0, "")
    for part in ("--runs", "The folders of the runs", "--out", "The PNG to write"):
        assert part in done.stdout


# --- Between two codes -----------------------------------------------------------------------------------------------


def codes(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("size", [2, 3, 20])
def test_on_unit_vectors_the_arc_is_scipys(size):
    start, end = (code / code.norm() for code in codes(2, size))
    t = np.linspace(0, 1, 11)
    ours = pictures.slerp(start, end, torch.from_numpy(t)[:, None])
    assert ours.dtype == torch.float64
    theirs = scipy.spatial.geometric_slerp(start.numpy(), end.numpy(), t)
    np.testing.assert_allclose(ours, theirs, atol=1e-12)


def angle(a, b):
    """Between vectors (..., Z), exact for small angles too."""
    a, b = a / a.norm(dim=-1, keepdim=True), b / b.norm(dim=-1, keepdim=True)
    return 2 * torch.atan2((a - b).norm(dim=-1), (a + b).norm(dim=-1))


def test_the_arc_turns_at_constant_speed_while_its_norm_goes_straight():
    start, end = 3 * codes(12), 0.5 * codes(12, seed=1)
    t = torch.linspace(0, 1, 21, dtype=torch.float64)
    arc = pictures.slerp(start, end, t[:, None])
    assert arc.shape == (21, 12)
    torch.testing.assert_close(angle(arc, start), t * angle(start, end), rtol=0, atol=1e-10)
    torch.testing.assert_close(angle(arc, end), (1 - t) * angle(start, end), rtol=0, atol=1e-10)
    torch.testing.assert_close(arc.norm(dim=1), (1 - t) * start.norm() + t * end.norm())
    torch.testing.assert_close(arc[[0, -1]], torch.stack([start, end]))


def test_the_line_is_straight():
    start, end = codes(12), codes(12, seed=1)
    t = torch.linspace(0, 1, 5, dtype=torch.float64)[:, None]
    line = pictures.lerp(start, end, t)
    assert torch.equal(line[[0, -1]], torch.stack([start, end]))
    torch.testing.assert_close(line.diff(dim=0), ((end - start) / 4).expand(4, 12))


def test_a_batch_of_arcs_is_arc_by_arc():
    start, end = codes(4, 1, 6), codes(4, 1, 6, seed=1)
    t = torch.linspace(0, 1, 7, dtype=torch.float64)[:, None]
    together = pictures.slerp(start, end, t)
    assert together.shape == (4, 7, 6)
    for i in range(4):
        for j in range(7):
            torch.testing.assert_close(together[i, j], pictures.slerp(start[i, 0], end[i, 0], t[j]))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("factor", [1.0, 2.5, 1 + 1e-7, -1.0, -0.3], ids=lambda factor: f"times {factor:g}")
def test_codes_without_an_arc_are_joined_by_the_line(dtype, factor):
    start = codes(9).to(dtype)
    end = factor * start
    t = torch.linspace(0, 1, 9, dtype=dtype)[:, None]
    way = pictures.slerp(start, end, t)
    assert way.dtype == dtype
    assert way.isfinite().all()
    torch.testing.assert_close(way, pictures.lerp(start, end, t), rtol=1e-3, atol=1e-3)


def test_an_arc_from_or_to_zero_is_finite():
    zero, code = torch.zeros(5, dtype=torch.float64), codes(5)
    t = torch.linspace(0, 1, 9, dtype=torch.float64)[:, None]
    for start, end in ((zero, code), (code, zero), (zero, zero)):
        assert pictures.slerp(start, end, t).isfinite().all()


# --- Rate and distortion ---------------------------------------------------------------------------------------------


def write_summary(folder, rate, distortion):
    folder.mkdir()
    last = {"epoch": 3, "test_loss": 0.0, "test_kl_divergence": rate, "test_reconstruction_nll": distortion}
    (folder / "summary.json").write_text(json.dumps({"last_epoch": last, "seed": 0}))
    return folder


@pytest.fixture
def two_runs(tmp_path):
    return [write_summary(tmp_path / "beta-1", 20.0, 80.0), write_summary(tmp_path / "beta-4", 9.5, 110.0)]


def test_runs_are_put_onto_one_picture(two_runs, tmp_path):
    done = run("pictures", "--runs", *two_runs, "--out", "curve.png", cwd=tmp_path)
    assert (done.code, done.stderr) == (0, "")
    assert_is_a_picture(tmp_path / "curve.png")
    assert {path.name for path in tmp_path.iterdir()} == {"beta-1", "beta-4", "curve.png"}


def test_each_run_is_a_point_of_its_rate_and_distortion(two_runs, tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(pictures, "save_rate_distortion", lambda *args: drawn.append(args))
    run("pictures", "--runs", *two_runs, "--out", tmp_path / "curve.png", cwd=tmp_path)
    assert drawn == [(tmp_path / "curve.png", [20.0, 9.5], [80.0, 110.0], ["beta-1", "beta-4"])]


def test_a_finished_run_of_every_vae_can_be_drawn(trained, tmp_path):
    folders = [trained(script).folder for script in PAPERS if script != "vq_vae"]
    assert run("pictures", "--runs", *folders, "--out", "curve.png", cwd=tmp_path).code == 0
    assert_is_a_picture(tmp_path / "curve.png")


def test_a_run_without_a_summary_is_refused(two_runs, refused, tmp_path):
    (tmp_path / "beta-4" / "summary.json").unlink()
    message = refused("pictures", "--runs", *two_runs, "--out", "curve.png")
    assert f"no summary.json in {two_runs[1]}" in message


def test_a_picture_that_exists_is_not_overwritten(two_runs, refused, tmp_path):
    (tmp_path / "curve.png").write_text("do not lose me")
    assert "--out curve.png exists" in refused("pictures", "--runs", *two_runs, "--out", "curve.png")


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"last_epoch": 3}', '{"last_epoch": {"test_kl_divergence": 1}}'])
def test_a_summary_that_is_no_vaes_is_refused(two_runs, refused, content):
    path = two_runs[0] / "summary.json"
    path.write_text(content)
    assert f"{path} is not that of a VAE" in refused("pictures", "--runs", *two_runs, "--out", "curve.png")


def test_a_run_of_another_model_is_refused(trained, two_runs, refused):
    folder = trained("vq_vae").folder
    message = refused("pictures", "--runs", two_runs[0], folder, "--out", "curve.png")
    assert f"{folder / 'summary.json'} is not that of a VAE" in message


@pytest.mark.parametrize("out", ["absent/curve.png", "curve.words"])
def test_a_picture_that_cannot_be_written_is_refused(two_runs, refused, out):
    assert "--out" in refused("pictures", "--runs", *two_runs, "--out", out)


def test_no_runs_are_refused(refused):
    assert "--runs" in refused("pictures", "--runs", "--out", "curve.png")
