"""The papers' scripts from end to end, as a user runs them: reports, weights, resume, sprites, precision.

Reports are held against torch.distributions.
"""

import importlib
import json
import math
import re
from dataclasses import fields

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch.distributions import Bernoulli, Categorical, Normal, kl_divergence

import experiment
import pictures
import training_images
import vae_paper
import vq_vae
from image_data import load_images
from script_runs import FIXED, FRESH, GREY, ON_CPU, PAPERS, assert_is_a_picture, metrics, own_config, parsed, run
from trainable import TrainableModel
from training_images import ImageOptions, load_resident

pytestmark = pytest.mark.usefixtures("few_digits")


def assert_same_tensors(a, b):
    assert a.keys() == b.keys()
    for name in a:
        assert a[name].dtype == b[name].dtype, name
        assert torch.equal(a[name], b[name]), name


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
    written = {".lock", "model.safetensors", "config.json", "resume.pt", "metrics.csv", "summary.json"}
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
    summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    kind = {GREY: "none", FRESH: "fresh", FIXED: "fixed"}[PAPERS[script].binarised]
    expected = {"data": "digits", "binarisation": kind, "precision": "float32", "seed": 0, "device": "cpu"}
    assert summary | expected | {"processes": 1, "threads": 1} == summary
    last = {name: str(value) for name, value in summary["last_epoch"].items() if name != "seconds"}
    assert last == metrics(folder)[-1]
    assert json.loads((folder / "config.json").read_text(encoding="utf-8"))["training"]["batch_size"] == 50


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
    assert f"--weights names a model: leave out {flag}, which is " in message


@pytest.mark.parametrize("script", PAPERS)
def test_weights_of_another_paper_are_refused(trained, refused, script):
    other = "iwae" if script == "vq_vae" else "vq_vae"
    assert "does not describe a" in refused(script, "--weights", trained(other).folder / "model.safetensors")


@pytest.mark.parametrize("script", PAPERS)
def test_weights_for_small_images_are_refused_for_sprites(trained, refused, monkeypatch, script):
    monkeypatch.setattr(training_images, "NUM_TEST_SPRITES", 10)
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
    monkeypatch.setattr(training_images, "NUM_TEST_SPRITES", 60)
    done = run(
        script, *flags, "--data", data, "--train-images", 40, "--epochs", 2, "--out", "run", *ON_CPU, cwd=tmp_path
    )
    assert done.code == 0, done.stderr
    header, numbers, _ = parsed(done.stdout)
    assert header == f"{data}, test set: 60 images, black and white, noise seed 0"
    assert all(map(math.isfinite, numbers.values()))
    config = json.loads((tmp_path / "run" / "config.json").read_text(encoding="utf-8"))["model"]
    assert config | model == config
    rows = metrics(tmp_path / "run")
    assert float(rows[1]["train_loss"]) < float(rows[0]["train_loss"])


def test_a_conditional_model_of_sprites_is_drawn_per_shape(monkeypatch, tmp_path):
    monkeypatch.setattr(training_images, "NUM_TEST_SPRITES", 60)
    grids = {}
    monkeypatch.setattr(
        pictures, "save_image_grid", lambda path, rows, *rest: grids.update({path.name: np.array(rows)})
    )
    flags = ["--conditional", "--data", "sprites32", "--train-images", 40, "--epochs", 1, "--out", "run", *ON_CPU]
    assert run("vae_paper", *flags, cwd=tmp_path).code == 0
    assert grids["samples.png"].shape == (3, 10, 1, 32, 32)
    assert not np.array_equal(grids["samples.png"][0], grids["samples.png"][1])


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
    assert json.loads((tmp_path / "run" / "summary.json").read_text(encoding="utf-8"))["precision"] == "float64"
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
    assert json.loads((tmp_path / "run" / "summary.json").read_text(encoding="utf-8"))["precision"] == "bf16"
    rows = metrics(tmp_path / "run")
    for row, other in zip(rows, single, strict=True):
        for name in ("train_reconstruction_nll", "test_reconstruction_nll"):
            assert float(row[name]) == pytest.approx(float(other[name]), abs=4), name
    assert rows != single  # the arithmetic was another


@pytest.mark.parametrize("script", PAPERS)
def test_under_bf16_networks_take_it_and_terms_do_not(script):
    module, images = importlib.import_module(script), load_resident(ImageOptions(train_images=20), "train")
    config = own_config(script)
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
