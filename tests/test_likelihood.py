"""What likelihood.py says about images: log p(x) against models whose evidence is a closed formula, scores and doubt
against densities written out per sample, and its script.
"""

import csv
import errno
import json
import math
import re
from functools import partial

import matplotlib.image
import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch.distributions import Normal
from torch.distributions import kl_divergence as torch_kl_divergence

import iwae
import likelihood
import training_images
import vae_paper
import vq_vae
from comparison import close, normals, seeded
from image_data import ImageSet
from in_process import assert_refused, contents, run_main
from likelihood import active_units, anomaly_scores, anomaly_threshold, log_likelihood, pixel_uncertainty
from linear_gaussian import (
    LINEAR,
    SHAPE,
    SIGMA,
    Z,
    evidence,
    exact_elbo,
    grey_images,
    images_near,
    linear_model,
    log_p_of_pixels,
    small_iwae,
)
from training_images import ImageOptions, load_resident
from vae_paper import VAE, Autoencoder, BaseVAE, ConditionalVAE

# --- log p(x) --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sigma", [SIGMA, "learned"])
@pytest.mark.parametrize("k", [1, 2, 7, 50])
def test_with_the_exact_posterior_any_number_of_samples_gives_the_evidence(k, sigma):
    model = linear_model(sigma=sigma)
    x = images_near(model, 5)
    close(log_likelihood(model, x, k, seeded(1)), evidence(model, x))


@pytest.mark.parametrize("rows", [50_000, 999], ids=["at once", "in chunks"])
def test_log_likelihood_converges_to_the_evidence(rows):
    """With 20000 samples the standard error is a relative one of p(x): the weights' spread / sqrt(20000)."""
    model, k = linear_model(exact=False), 20_000
    x = images_near(model, 3)
    want = evidence(model, x)
    with torch.no_grad():
        spread = torch.exp(model.log_weights(x, normals(1, 3, 20_000, Z)) - want[:, None]).std(dim=1)
    error = spread / k**0.5
    assert error.max() < 0.05
    got = log_likelihood(model, x, k, seeded(2), rows=rows)
    assert ((got - want).abs() < 4 * error).all()
    assert ((want - exact_elbo(model, x)) > 20 * error).all()  # the ELBO would not pass for it


@pytest.mark.parametrize(("k", "rows"), [(1, 1), (7, 3), (10, 10), (10, 25), (5, 1000), (1000, 999), (6, 2)])
def test_log_likelihood_takes_its_samples_exactly(monkeypatch, k, rows):
    """However they are cut: each image gets k samples, no more than `rows` at once, and their log-mean-exp."""
    model, count = linear_model(exact=False), 5
    x = images_near(model, count)
    calls, log_weights = [], model.log_weights

    def recorded(images, eps, c=None):
        calls.append((images, eps))
        return log_weights(images, eps, c)

    monkeypatch.setattr(model, "log_weights", recorded)
    got = log_likelihood(model, x, k, seeded(0), rows=rows)
    assert all(eps.shape[0] * eps.shape[1] <= rows for _, eps in calls)
    for image, value in zip(x, got, strict=True):
        noise = [eps[images.eq(image).flatten(1).all(dim=1)] for images, eps in calls]
        noise = torch.cat([part for part in noise if len(part)], dim=1)
        assert noise.shape == (1, k, Z)
        assert len(noise.flatten().unique()) == k * Z  # no draw is used twice
        with torch.no_grad():
            log_w = log_weights(image[None], noise)
        close(value, torch.log(torch.exp(log_w - log_w.max()).mean()) + log_w.max())
    assert model.validate


def test_log_likelihood_draws_images_in_order_from_the_generator():
    model, generator = linear_model(exact=False), seeded(3)
    x = images_near(model, 5)
    want = []
    for start in (0, 2, 4):  # 10 samples in 25 rows: two images at a time
        images = x[start : start + 2]
        eps = torch.randn(len(images), 10, Z, generator=generator, dtype=torch.float64)
        with torch.no_grad():
            want.append(torch.logsumexp(model.log_weights(images, eps), dim=1) - math.log(10))
    close(log_likelihood(model, x, 10, seeded(3), rows=25), torch.cat(want), 1e-12)


@pytest.mark.parametrize("rows", [1, 2, 4, 7, 1000])
def test_each_image_is_weighed_under_its_own_class(rows):
    model = linear_model(ConditionalVAE, num_classes=3)
    x, c = images_near(model, 7), torch.tensor([0, 1, 2, 2, 1, 0, 2])
    want = evidence(model, x, c)
    close(log_likelihood(model, x, 3, seeded(0), c, rows=rows), want)
    assert (evidence(model, x, (c + 1) % 3) - want).abs().min() > 0.1
    with torch.no_grad():
        close(model.log_weights(x, normals(0, 7, 4, Z), c), want[:, None].expand(7, 4))


@pytest.mark.parametrize(("k", "rows"), [(0, 10), (-1, 10), (2.0, 10), (5, 0)])
def test_log_likelihood_refuses_counts_below_one(k, rows):
    model = linear_model()
    with pytest.raises(ValueError, match="must be an integer of at least 1"):
        log_likelihood(model, images_near(model, 2), k, seeded(0), rows=rows)


# --- Active units, anomalies, doubt ----------------------------------------------------------------------------------


def test_active_units_are_those_whose_mean_varies():
    """Columns of +-a around an offset have the variance a^2 N / (N - 1) exactly."""
    signs = torch.tensor([1.0, -1.0]).repeat(10)[:, None].double()
    variances = torch.tensor([0.0101, 0.0099, 0.0, 4.0, 0.05], dtype=torch.float64)
    mu = 5 + signs * torch.sqrt(variances * 19 / 20)
    assert active_units(mu).tolist() == [True, False, False, True, True]
    assert active_units(mu, threshold=1.0).tolist() == [False, False, False, True, False]


def scores_by_hand(model, x, kind, k, seed, c=None):
    """Image by image and sample by sample, with the noise that the generator gives a thousand pairs at a time."""
    generator, scores = seeded(seed), []
    for part in torch.arange(len(x)).split(max(1, 1000 // k)):
        noise = torch.randn(len(part), k, model.latent_dim, generator=generator, dtype=x.dtype)
        for n, eps in zip(part.tolist(), noise, strict=True):
            own = x[n : n + 1], None if c is None else c[n : n + 1]
            mu, logvar = model.encode(*own)
            q = Normal(mu[0], torch.exp(logvar[0]).sqrt())
            z = mu + torch.exp(logvar).sqrt() * eps
            means = [model.decode(sample[None], own[1]) for sample in z]
            log_p = torch.stack([log_p_of_pixels(model, mean, own[0]) for mean in means])
            prior = Normal(torch.zeros(model.latent_dim).double(), torch.ones(model.latent_dim).double())
            if kind == "elbo":
                scores.append(-log_p.mean() + torch_kl_divergence(q, prior).sum())
            elif kind == "reconstruction":
                scores.append(-log_p.mean())
            else:
                log_w = log_p + prior.log_prob(z).sum(dim=1) - q.log_prob(z).sum(dim=1)
                scores.append(-torch.log(torch.exp(log_w).mean()))
    return torch.stack(scores)


@pytest.mark.parametrize("k", [4, 400], ids=["one chunk", "three chunks"])
@pytest.mark.parametrize("kind", likelihood.SCORES)
def test_anomaly_scores_are_those_written_out(kind, k):
    model, x = small_iwae(), grey_images(5)
    with torch.no_grad():
        want = scores_by_hand(model, x, kind, k, seed=7)
    close(anomaly_scores(model, x, kind, k, seeded(7)), want)
    assert want.std() > 1e-2


@pytest.mark.parametrize("kind", likelihood.SCORES)
def test_anomaly_scores_look_at_the_class(kind):
    model = linear_model(ConditionalVAE, exact=False, num_classes=3)
    x, c = images_near(model, 5), torch.tensor([2, 0, 1, 1, 0])
    with torch.no_grad():
        want = scores_by_hand(model, x, kind, 3, seed=7, c=c)
        other = scores_by_hand(model, x, kind, 3, seed=7, c=(c + 1) % 3)
    close(anomaly_scores(model, x, kind, 3, seeded(7), c), want)
    assert (want - other).abs().min() > 1e-2


@pytest.mark.parametrize("wrong", [-1, 3], ids=str)
@pytest.mark.parametrize("ask", ["log_likelihood", *likelihood.SCORES, "doubt"])
def test_a_class_that_the_model_does_not_have_is_refused(ask, wrong):
    """Of -1 the last class would be taken."""
    model = linear_model(ConditionalVAE, num_classes=3)
    x, c = images_near(model, 2), torch.tensor([0, wrong])
    with pytest.raises(ValueError, match="c must be classes from 0 to 2, got"):
        {
            "log_likelihood": lambda: log_likelihood(model, x, 2, seeded(0), c),
            "doubt": lambda: pixel_uncertainty(model, x, normals(0, 2, 3, Z), c),
        }.get(ask, lambda: anomaly_scores(model, x, ask, 2, seeded(0), c))()
    assert model.validate


@pytest.mark.parametrize(("kind", "k"), [("surprise", 3), ("elbo", 0), ("likelihood", 0), ("reconstruction", -2)])
def test_anomaly_scores_refuse_what_they_do_not_know(kind, k):
    with pytest.raises(ValueError, match="must be"):
        anomaly_scores(small_iwae(), grey_images(2), kind, k, seeded(0))


def test_the_threshold_is_the_quantile_of_the_training_scores():
    scores = normals(0, 2001)
    for quantile in (0.05, 0.5, 0.95, 0.999):
        threshold = anomaly_threshold(scores, quantile)
        assert threshold.shape == ()
        assert threshold.item() == pytest.approx(np.quantile(scores.numpy(), quantile), abs=1e-12)
        assert (scores > threshold).double().mean().item() == pytest.approx(1 - quantile, abs=1 / 2000)
    assert torch.equal(anomaly_threshold(scores), anomaly_threshold(scores, 0.95))


@pytest.mark.parametrize("quantile", [0.0, 1.0, 1.5, -0.1, math.nan])
def test_a_threshold_outside_the_scores_is_refused(quantile):
    with pytest.raises(ValueError, match="the quantile must lie between 0 and 1"):
        anomaly_threshold(normals(0, 10), quantile)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_scores_that_are_no_numbers_set_no_threshold(bad):
    """Nothing is above NaN: no image would ever be called anomalous."""
    with pytest.raises(ValueError, match="the training scores hold NaN or infinity"):
        anomaly_threshold(torch.tensor([1.0, bad, 2.0]))
    with pytest.raises(ValueError, match="no training scores"):
        anomaly_threshold(torch.empty(0))


@pytest.mark.parametrize("k", [10**9, 10**18, 10**30], ids=["10^9", "10^18", "10^30"])
def test_more_samples_than_memory_holds_are_refused_before_it_is_asked_for(k):
    model, x = small_iwae(), grey_images(2)
    with pytest.raises(MemoryError, match=f"{k} samples of an image would need .* GiB"):
        anomaly_scores(model, x, "elbo", k, seeded(0))


@pytest.mark.parametrize("kind", ["bernoulli", "gaussian"])
def test_uncertainty_is_the_law_of_total_variance(kind):
    """Moments of pixels drawn from p(x|z), for the very codes that the model was given."""
    model = small_iwae(likelihood=kind, **({"sigma": 0.2} if kind == "gaussian" else {}))
    with torch.no_grad():
        model.decoder.logits.weight.mul_(2.0 if kind == "bernoulli" else 0.1)  # a Gaussian's means must stay in [0, 1]
        model.decoder.logits.bias.fill_(0.3 if kind == "bernoulli" else 0.5)
    x, eps, repeats = grey_images(2), normals(1, 2, 20, 2), 20_000
    mean, code_std, total_std = pixel_uncertainty(model, x, eps)
    assert mean.shape == code_std.shape == total_std.shape == x.shape
    assert mean.dtype == code_std.dtype == total_std.dtype == x.dtype
    with torch.no_grad():
        z = model.posterior_samples(x, eps)[2]
        decoded = torch.stack([model.decode(codes) for codes in z])  # (2, 20, C, H, W)
    if kind == "bernoulli":
        decoded = torch.sigmoid(decoded)
        want_total = torch.sqrt(decoded.mean(dim=1) * (1 - decoded.mean(dim=1)))  # of a 0 or 1, whatever the code
        pixels = (torch.rand(repeats, *decoded.shape, generator=seeded(2)) < decoded).double()
    else:
        assert decoded.min() >= 0
        assert decoded.max() <= 1
        want_total = torch.sqrt(decoded.var(dim=1, correction=0) + 0.2**2)
        pixels = decoded + 0.2 * torch.randn(repeats, *decoded.shape, generator=seeded(2))
    close(mean, decoded.mean(dim=1), 1e-12)
    close(code_std, decoded.std(dim=1, correction=0), 1e-12)
    assert ((pixels.mean(dim=(0, 2)) - mean).abs() < 4 * total_std / (20 * repeats) ** 0.5).all()
    torch.testing.assert_close(pixels.transpose(0, 1).flatten(1, 2).std(dim=1), total_std, rtol=0.01, atol=0)
    assert (code_std > 0.02 * total_std).all()
    close(total_std, want_total, 1e-12)


def test_uncertainty_of_a_learned_sigma_without_doubt_about_the_code():
    """All codes alike: what is left is the decoder's own sigma."""
    model = linear_model(sigma="learned")
    _, code_std, total_std = pixel_uncertainty(model, images_near(model, 3), normals(0, 3, 1, Z).repeat(1, 5, 1))
    assert code_std.max() < 1e-7
    close(total_std, torch.full_like(total_std, SIGMA), 1e-12)


def test_uncertainty_decodes_each_code_under_its_images_class():
    model = linear_model(ConditionalVAE, num_classes=3)
    x, c, eps = images_near(model, 4), torch.tensor([2, 0, 1, 2]), normals(0, 4, 3, Z)
    mean, _, _ = pixel_uncertainty(model, x, eps, c)
    with torch.no_grad():
        for n in range(4):
            z = model.posterior_samples(x[n : n + 1], eps[n : n + 1], c[n : n + 1])[2][0]
            close(mean[n], model.decode(z, c[n].expand(3)).clamp(0, 1).mean(dim=0), 1e-12)


@pytest.mark.parametrize("options", [{}, {"likelihood": "gaussian", "sigma": 0.5}], ids=["bernoulli", "gaussian"])
def test_uncertainty_stays_on_the_images_device(options):
    """The meta device stands in for a card: it holds no numbers, but refuses to mix with the CPU as any other."""
    model = VAE(**LINEAR, **options).to("meta")
    model.validate = False  # there are no values to look at
    x, eps = torch.zeros(2, *SHAPE, device="meta"), torch.zeros(2, 4, Z, device="meta")
    for tensor in pixel_uncertainty(model, x, eps):
        assert (tensor.device.type, tensor.shape) == ("meta", x.shape)


# --- The script ------------------------------------------------------------------------------------------------------


def call(main, *args):
    """What a script's main printed: (stdout, stderr)."""
    done = run_main(main, *args)
    assert done.code == 0, done.stderr
    return done.stdout, done.stderr


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The folder of a small trained VAE."""
    folder = tmp_path_factory.mktemp("runs") / "vae"
    training = ["--epochs", 4, "--batch-size", 50, "--lr", 3e-3]
    call(vae_paper.main, *training, "--architecture", "mlp", "--hidden-dims", 16, "--out", folder, "--device", "cpu")
    return folder


@pytest.fixture(scope="module")
def iwae_run(tmp_path_factory):
    """The folder of a small importance weighted autoencoder, trained on images that are binarised anew each time."""
    folder = tmp_path_factory.mktemp("runs") / "iwae"
    network = ["--k", 3, "--latent-dim", 4, "--hidden-dims", 16, "--objective", "dreg"]
    call(iwae.main, "--epochs", 1, *network, "--binarisation", "fresh", "--out", folder, "--device", "cpu")
    return folder


def digits(split, count):
    """Images and labels as the script spreads them over the set."""
    images = load_resident("digits", split)
    index = [position * len(images) // count for position in range(count)]
    return images.images[index].float() / 255, images.labels[index]


@pytest.mark.parametrize("kind", likelihood.SCORES)
def test_noise_is_stranger_than_digits(run, kind):
    model = VAE.load(run)
    x, _ = digits("test", 50)
    noise = torch.rand(x.shape, generator=seeded(0))
    usual, strange = (anomaly_scores(model, images, kind, 10, seeded(1)) for images in (x, noise))
    assert strange.min() > usual.max()


def numbers_after(label, text):
    (line,) = [line for line in text.splitlines() if line.strip().startswith(label)]
    return [float(number) for number in re.findall(r"-?\d+\.?\d*", line.strip().removeprefix(label))]


def test_log_likelihood_reports_the_estimate_its_error_and_the_active_units(run):
    args = ["--run", run, "--images", 40, "--k", 30, "--seed", 3, "--device", "cpu"]
    out, _ = call(likelihood.main, "log-likelihood", *args)
    model, (x, _) = VAE.load(run), digits("test", 40)
    generator = seeded(3)
    log_p = log_likelihood(model, x, 30, generator).double()
    minus_elbo = anomaly_scores(model, x, "elbo", 10, generator).double().mean().item()
    assert out.startswith("digits, test set: 40 images, grey (not binarised), noise seed 3\n")
    assert numbers_after("-log p(x), k=30", out) == [pytest.approx(-log_p.mean().item(), abs=0.002)]
    assert numbers_after("-ELBO", out) == [pytest.approx(minus_elbo, abs=0.002)]
    error = np.std(log_p.numpy(), ddof=1) / math.sqrt(40)
    assert numbers_after("standard error over the images:", out) == [pytest.approx(error, abs=0.002)]
    with torch.no_grad():
        active = int((np.var(model.encode(x)[0].numpy(), axis=0, ddof=1) > 0.01).sum())
    assert numbers_after("active units:", out) == [active, 20]
    assert 0 < active <= 20
    assert -log_p.mean() < minus_elbo


def test_log_likelihood_reads_an_iwae_and_its_binarisation(iwae_run):
    args = ["--run", iwae_run, "--images", 30, "--k", 5, "--device", "cpu"]
    out, _ = call(likelihood.main, "log-likelihood", *args)
    assert out.startswith("digits, test set: 30 images, binarised for this report with seed 0, noise seed 0\n")
    model, (grey, _) = VAE.load(iwae_run), digits("test", 30)
    x = (torch.rand(grey.shape, generator=seeded(0)) < grey).float()
    want = -log_likelihood(model, x, 5, seeded(0)).double().mean().item()
    assert numbers_after("-log p(x), k=5", out) == [pytest.approx(want, abs=0.002)]
    with (iwae_run / "metrics.csv").open() as file:
        assert {"test_loss", "test_kl_divergence"} <= set(next(csv.reader(file)))


@pytest.mark.parametrize("score", likelihood.SCORES)
def test_anomalies_shows_the_highest_scores(run, tmp_path, monkeypatch, score):
    picture, drawn, draw = tmp_path / "strange.png", [], likelihood.save_image_grid
    monkeypatch.setattr(likelihood, "save_image_grid", lambda *args: (drawn.append(args), draw(*args)))
    args = ["--run", run, "--images", 60, "--k", 4, "--score", score, "--quantile", 0.8, "--seed", 5]
    out, err = call(likelihood.main, "anomalies", *args, "--device", "cpu", "--out", picture)
    model, (x, labels), generator = VAE.load(run), digits("test", 60), seeded(5)
    known = anomaly_scores(model, digits("train", 1440)[0], score, 4, generator)
    scores = anomaly_scores(model, x, score, 4, generator)
    threshold = np.quantile(known.numpy(), 0.8)
    above = int((scores > threshold).sum())
    lines = [line.strip() for line in out.splitlines()]
    assert lines[0] == "digits, test set: 60 images, grey (not binarised), noise seed 5"
    assert lines[1] == f"score: {score}, 4 samples per image, in nats"
    assert lines[2] == f"threshold: {threshold:.1f}, the 80% quantile of 1440 training images"
    assert lines[3] == f"above it: {above} of 60 images ({above / 60:.1%})"
    assert 0 < above < 30
    order = scores.argsort(descending=True)[:5].tolist()
    assert lines[4:] == [
        f"{place}. image {n * 357 // 60}, class {labels[n].item()}: score {scores[n]:.1f}"
        for place, n in enumerate(order, start=1)
    ]
    table = tmp_path / "strange.csv"
    assert err == f"picture in {picture}, all scores in {table}\n"
    with table.open(newline="") as file:
        header, *rows = csv.reader(file)
    assert header == ["image", "class", f"{score} score (nats)", f"above the threshold of {threshold:.4f}"]
    assert [row[0] for row in rows] == [f"image {n * 357 // 60}" for n in scores.argsort(descending=True).tolist()]
    assert [row[1] for row in rows] == [str(labels[n].item()) for n in scores.argsort(descending=True).tolist()]
    np.testing.assert_allclose([float(row[2]) for row in rows], scores.sort(descending=True).values, atol=1e-4)
    assert [row[3] for row in rows] == above * ["yes"] + (60 - above) * ["no"]
    [(_, grid, _, names, above_images)] = drawn
    shown = scores.argsort(descending=True)[:20]
    assert names == ["x", "decoded"]
    np.testing.assert_array_equal(grid[0], x[shown])
    assert above_images == [f"{scores[n]:.1f}" for n in shown.tolist()]
    assert matplotlib.image.imread(picture)[..., :3].std() > 0.1


def test_uncertainty_draws_what_it_measures(run, tmp_path):
    picture = tmp_path / "doubt.png"
    args = ["--run", run, "--images", 12, "--k", 20, "--seed", 2, "--device", "cpu", "--out", picture]
    out, err = call(likelihood.main, "uncertainty", *args)
    model, (x, _) = VAE.load(run), digits("test", 12)
    eps = torch.randn(10, 20, model.latent_dim, generator=seeded(2))
    _, code_std, total_std = pixel_uncertainty(model, x[:10], eps)
    head, values = out.splitlines()
    assert head.startswith("digits, test set: 12 images, ")
    want = f"code {code_std.mean():.4f}, total {total_std.mean():.4f}"
    assert values == f"mean over pixels of the standard deviation: {want}"
    assert err == f"picture in {picture}\n"
    assert matplotlib.image.imread(picture)[..., :3].std() > 0.1


def hand_made_run(folder, model, **training):
    """A run's folder, as far as the script reads it."""
    model.save(folder, training={"data": "digits", "binarisation": "none", "seed": 0} | training)
    return folder


def tiny(cls=VAE, **options):
    torch.manual_seed(0)
    return cls(latent_dim=2, architecture="mlp", hidden_dims=(4,), **options)


COMMANDS = ("log-likelihood", "anomalies", "uncertainty")


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("variant", ["conditional", "gaussian", "double"])
def test_each_command_reads_each_kind_of_run(tmp_path, monkeypatch, command, variant):
    monkeypatch.chdir(tmp_path)
    model = {
        "conditional": lambda: tiny(ConditionalVAE, num_classes=10),
        "gaussian": lambda: tiny(likelihood="gaussian", sigma=0.3),
        "double": lambda: tiny().double(),
    }[variant]()
    hand_made_run(tmp_path / "run", model)
    out, _ = call(likelihood.main, command, "--run", "run", "--images", 5, "--k", 2, "--device", "cpu")
    assert out.startswith("digits, test set: 5 images")
    written = {
        "log-likelihood": set(),
        "anomalies": {"anomalies.png", "anomalies.csv"},
        "uncertainty": {"uncertainty.png"},
    }[command]
    assert {path.name for path in tmp_path.iterdir()} == {"run"} | written
    assert all((tmp_path / name).stat().st_size > (1000 if name.endswith("png") else 50) for name in written)


def test_images_binarised_once_are_those_that_the_run_saw(tmp_path, monkeypatch):
    """They were drawn with the run's seed; --seed is that of the noise."""
    seen = []
    monkeypatch.setattr(likelihood, "report_likelihood", lambda *args: seen.append(args[4].images))
    folder = hand_made_run(tmp_path / "run", tiny(), binarisation="fixed", seed=5)
    call(likelihood.main, "log-likelihood", "--run", folder, "--k", 1, "--device", "cpu")
    want = load_resident(ImageOptions(binarisation="fixed", seed=5), "test").images
    assert torch.equal(seen[0], want)


@pytest.mark.parametrize(
    ("binarisation", "words"),
    [("fixed", "binarised once with seed 5"), ("fresh", "binarised for this report with seed 3")],
)
def test_the_report_names_the_seed_that_its_images_were_drawn_with(tmp_path, binarisation, words):
    """Once, when the run began; or for this report."""
    folder = hand_made_run(tmp_path / "run", tiny(), binarisation=binarisation, seed=5)
    small = ["--images", 2, "--k", 1, "--seed", 3, "--device", "cpu"]
    out, _ = call(likelihood.main, "log-likelihood", "--run", folder, *small)
    assert out.startswith(f"digits, test set: 2 images, {words}, noise seed 3\n")


def test_a_single_image_has_a_score_too(tmp_path):
    """Though there is no spread over one image to speak of."""
    folder = hand_made_run(tmp_path / "run", tiny())
    out, _ = call(likelihood.main, "log-likelihood", "--run", folder, "--images", 1, "--k", 2, "--device", "cpu")
    assert "1 images" in out
    assert "nan" not in out


# --- What the script refuses ------------------------------------------------------------------------------------------


@pytest.fixture
def refused(tmp_path):
    """A function that runs the script on a bad request: one line, exit code 2, and nothing on the disk."""
    return partial(assert_refused, likelihood.main, "likelihood.py", cwd=tmp_path)


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["--k", 0], "--k must be an integer of at least 1, got 0"),
        (["--k", -3], "--k must be"),
        (["--images", 0], "--images must be an integer of at least 1, got 0"),
        (["--images", 358], "--images 358: expected 1 to 357"),
        (["--seed", -1], "--seed must be"),
        (["--seed", 2**63], "--seed must be"),
        (["--data", "sprites"], "--data sprites"),
        (["--data", "no such set"], "no such set"),
        (["--device", "abacus"], "abacus"),
    ],
    ids=["k 0", "k -3", "images 0", "images", "seed -1", "seed 2^63", "sprites", "unknown set", "device"],
)
def test_a_bad_option_is_one_line(refused, tmp_path, command, options, named):
    hand_made_run(tmp_path / "run", tiny())
    assert named in refused(command, "--run", "run", *options)


@pytest.mark.parametrize("command", ["anomalies", "uncertainty"])
def test_more_samples_than_memory_holds_are_one_line(refused, tmp_path, command):
    """Of log-likelihood any number can be had, with patience: it takes them one after the other."""
    hand_made_run(tmp_path / "run", tiny())
    message = refused(command, "--run", "run", "--images", 3, "--k", 10**9)
    assert re.search(r"[13]000000000 samples .*would need .* GiB", message)


@pytest.mark.parametrize("quantile", [1.5, 0, 1, -0.5, "nan"])
def test_a_quantile_outside_0_to_1_is_one_line(refused, tmp_path, quantile):
    hand_made_run(tmp_path / "run", tiny())
    assert "--quantile" in refused("anomalies", "--run", "run", "--images", 3, "--k", 1, "--quantile", quantile)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_run_that_is_none_is_one_line(refused, tmp_path, command):
    assert "no weights at nowhere" in refused(command, "--run", "nowhere")
    (tmp_path / "file").write_text("")
    assert "no weights at file" in refused(command, "--run", "file")
    (tmp_path / "folders" / "model.safetensors").mkdir(parents=True)
    assert "no weights at folders" in refused(command, "--run", "folders")
    hand_made_run(tmp_path / "cut", tiny())
    weights = tmp_path / "cut" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    assert "cut/model.safetensors is not a whole .safetensors file" in refused(command, "--run", "cut")


NO_CONFIG = "does not say what the model was trained on"
DAMAGED = {
    "no text": (b"\xff\xfe", "is not the config.json of a run"),
    "empty": (b"", "is not the config.json of a run"),
    "half": (b"{", "is not the config.json of a run"),
    "deep": (100_000 * b"[", "is not the config.json of a run"),
    "a list": (b"[]", "does not describe a model"),
    "no model": (b'{"training": {"data": "digits"}}', "does not describe a model"),
    "training is text": ({"training": "digits"}, "training must be a table"),
    "training is a list": ({"training": ["digits"]}, "training must be a table"),
    "no training": ({"training": None}, NO_CONFIG),
    "no data": ({"training": {"seed": 0}}, NO_CONFIG),
    "data is a number": ({"training": {"data": 3}}, "data must be a text"),
    "data is null": ({"training": {"data": None}}, "data must be a text"),
    "data is a list": ({"training": {"data": ["digits"]}}, "data must be a text"),
    "binarisation": ({"training": {"data": "digits", "binarisation": "often"}}, "binarisation must be"),
    "seed is text": ({"training": {"data": "digits", "seed": "0"}}, "seed must be"),
    "seed is huge": ({"training": {"data": "digits", "seed": 10**30}}, "seed must be"),
    "seed is NaN": ({"training": {"data": "digits", "seed": math.nan}}, "seed must be"),
    "train_images": ({"training": {"data": "digits", "train_images": 10**12}}, "--train-images"),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_config_is_one_line(refused, tmp_path, name):
    content, named = DAMAGED[name]
    path = hand_made_run(tmp_path / "run", tiny()) / "config.json"
    if isinstance(content, dict):
        content = json.dumps(json.loads(path.read_text()) | content).encode()
    path.write_bytes(content)
    assert named in refused("anomalies", "--run", "run")


@pytest.mark.parametrize("place", ["nothing", "a folder"])
def test_a_run_without_a_config_is_one_line(refused, tmp_path, place):
    path = hand_made_run(tmp_path / "run", tiny()) / "config.json"
    path.unlink()
    if place == "a folder":
        path.mkdir()
    assert NO_CONFIG in refused("log-likelihood", "--run", "run")


@pytest.mark.parametrize(
    "change",
    [
        {"latent_dim": 10**12},
        {"latent_dim": 10**30},
        {"latent_dim": "2"},
        {"hidden_dims": [10**9, 10**9]},
        {"image_shape": [1, 10**9, 10**9]},
        {"image_shape": 28},
        {"class": "Wizard"},
        {"class": ["VAE"]},
        {"class": None},
        {"depth": 2},
    ],
    ids=str,
)
def test_weights_that_describe_no_model_are_one_line(refused, tmp_path, change):
    """The description is in the weights' own file."""
    path = hand_made_run(tmp_path / "run", tiny()) / "model.safetensors"
    with safe_open(path, "pt") as file:
        model = json.loads(file.metadata()["model"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    save_file(tensors, path, {"model": json.dumps(model | change)})
    message = refused("log-likelihood", "--run", "run")
    assert "run/model.safetensors" in message or "this model would need" in message
    assert "alloc" not in message  # memory is asked for after it was found to be there
    assert len(message) < 400


def test_a_run_of_vq_vae_is_one_line(refused, tmp_path):
    hand_made_run(tmp_path / "vq", vq_vae.VQVAE(num_codes=4, code_dim=2))
    assert "it is of class VQVAE" in refused("log-likelihood", "--run", "vq")


@pytest.mark.parametrize("command", COMMANDS)
def test_an_autoencoder_is_one_line(refused, tmp_path, command):
    hand_made_run(tmp_path / "plain", tiny(Autoencoder))
    assert "plain holds an autoencoder, which has no distribution over codes" in refused(command, "--run", "plain")


@pytest.mark.parametrize("command", ["anomalies", "uncertainty"])
@pytest.mark.parametrize("kind", ["file", "folder"])
def test_a_picture_is_never_overwritten(refused, tmp_path, command, kind):
    hand_made_run(tmp_path / "run", tiny())
    path = tmp_path / "mine.png"
    path.write_text("precious") if kind == "file" else path.mkdir()
    assert "--out mine.png exists" in refused(command, "--run", "run", "--out", "mine.png")


def test_a_table_is_never_overwritten(refused, tmp_path):
    hand_made_run(tmp_path / "run", tiny())
    (tmp_path / "mine.csv").write_text("precious")
    assert "--out mine.csv exists" in refused("anomalies", "--run", "run", "--out", "mine.png")
    small = ["--images", 3, "--k", 1, "--device", "cpu"]
    done = run_main(likelihood.main, "uncertainty", "--run", "run", "--out", "mine.png", *small, cwd=tmp_path)
    assert done.code == 0  # which writes no table


@pytest.mark.parametrize("command", ["anomalies", "uncertainty"])
@pytest.mark.parametrize("out", ["nowhere/mine.png", "run/config.json/mine.png", "mine.jpg", "mine", ""])
def test_a_picture_that_has_no_place_is_one_line(refused, tmp_path, monkeypatch, command, out):
    """Found out before the work is done, not when its result has no place to go."""
    monkeypatch.setattr(likelihood, "load_resident", lambda *_: pytest.fail("the work has begun"))
    hand_made_run(tmp_path / "run", tiny())
    assert "--out" in refused(command, "--run", "run", "--out", out)


@pytest.mark.parametrize("command", ["anomalies", "uncertainty"])
def test_a_folder_that_may_not_be_written_to_is_one_line(refused, tmp_path, monkeypatch, command):
    monkeypatch.setattr(likelihood, "load_resident", lambda *_: pytest.fail("the work has begun"))
    monkeypatch.setattr("os.access", lambda path, mode: False)  # the tests may run as root, who may always
    hand_made_run(tmp_path / "run", tiny())
    assert "--out anomalies.png" in refused("anomalies", "--run", "run")


@pytest.mark.parametrize("fails", ["picture", "table"])
def test_a_full_disk_leaves_neither_picture_nor_table(tmp_path, monkeypatch, fails):
    """The report was printed before, so that the work is not lost."""

    def full(path, *_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(likelihood, {"picture": "save_image_grid", "table": "write_beside"}[fails], full)
    hand_made_run(tmp_path / "run", tiny())
    before = contents(tmp_path)
    args = ["--run", "run", "--images", 3, "--k", 1, "--device", "cpu"]
    done = run_main(likelihood.main, "anomalies", *args, cwd=tmp_path)
    assert (done.code, done.stderr) == (2, "likelihood.py: error: [Errno 28] No space left on device\n")
    assert done.stdout.startswith("digits, test set: 3 images")
    assert contents(tmp_path) == before


@pytest.mark.parametrize("kind", ["log p(x)", *likelihood.SCORES])
def test_what_overflows_is_no_score(kind):
    """An image is not looked at for every sample; what comes out is."""
    model = tiny()
    with torch.no_grad():
        model.encoder.logvar.bias.fill_(200.0)
    x = torch.zeros(2, 1, 28, 28)
    ask = log_likelihood if kind == "log p(x)" else partial(anomaly_scores, kind=kind)
    with pytest.raises(ValueError, match="must be finite"):
        ask(model, x, num_samples=2, generator=seeded(0))
    assert model.validate


def test_a_model_that_overflows_is_one_line(refused, tmp_path):
    """Its weights are finite, but what it says about an image is not."""
    model = tiny()
    with torch.no_grad():
        model.encoder.logvar.bias.fill_(200.0)  # sigma^2 = e^200 is more than float32 holds
    hand_made_run(tmp_path / "run", model)
    small = ["--images", 3, "--k", 2, "--device", "cpu"]
    for command in ("log-likelihood", "anomalies", "uncertainty"):
        assert "must be finite" in refused(command, "--run", "run", *small)


# --- Other images ----------------------------------------------------------------------------------------------------


@pytest.fixture
def own_images(monkeypatch):
    """Stands in for a folder of eight pictures in two classes, "/mine", in the size that is asked for.

    Returns a list of what was asked: (data, split, image_size, channels).
    """
    asked, load = [], training_images.load_image_set

    def load_own(data, split, image_size=None, channels=None, skip_bad=False):
        asked.append((data, split, image_size, channels))
        if data != "/mine":
            return load(data, split, image_size, channels, skip_bad)
        size = (channels or 3, image_size or 8, image_size or 8)
        images = np.random.default_rng(0).integers(0, 256, (8, *size), dtype=np.uint8)
        files = tuple(f"cats/{i}.png" if i < 5 else f"dogs/{i}, old.png" for i in range(8))
        return ImageSet(images, (np.arange(8) >= 5).astype(np.int64), ("cats", "dogs"), files)

    monkeypatch.setattr(training_images, "load_image_set", load_own)
    return asked


def test_own_images_are_looked_at_whole_in_the_models_size_and_named_by_their_files(tmp_path, own_images):
    hand_made_run(tmp_path / "run", tiny())
    args = ["--run", "run", "--data", "/mine", "--k", 1, "--device", "cpu"]
    done = run_main(likelihood.main, "anomalies", *args, cwd=tmp_path)
    assert done.code == 0, done.stderr
    assert [each for each in own_images if each[0] == "/mine"] == [("/mine", "all", 28, 1)]
    assert [each[:2] for each in own_images if each[0] == "digits"] == [("digits", "train")]  # sets the threshold
    lines = done.stdout.splitlines()
    assert lines[0] == "/mine, training and test set: 8 images, grey (not binarised), noise seed 0"
    assert lines[2].endswith("quantile of 1440 training images")
    assert re.fullmatch(r"above it: \d+ of 8 images \(.+%\)", lines[3])
    assert re.fullmatch(r"  1\. (cats/\d\.png, class cats|dogs/\d, old\.png, class dogs): score \d+\.\d", lines[4])
    with (tmp_path / "anomalies.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    files = [f"cats/{i}.png" if i < 5 else f"dogs/{i}, old.png" for i in range(8)]
    assert sorted(row["image"] for row in rows) == sorted(files)
    scores = [float(row["elbo score (nats)"]) for row in rows]
    assert scores == sorted(scores, reverse=True)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_run_on_own_colour_images_is_looked_at_in_its_own_test_set(tmp_path, own_images, command):
    hand_made_run(tmp_path / "run", tiny(image_shape=(3, 8, 8)), data="/mine", image_size=None)
    args = ["--run", "run", "--k", 2, "--device", "cpu"]
    done = run_main(likelihood.main, command, *args, cwd=tmp_path)
    assert done.code == 0, done.stderr
    assert own_images[0] == ("/mine", "test", None, None)
    assert done.stdout.startswith("/mine, test set: 8 images, colour (not binarised), noise seed 0\n")


def test_a_run_of_a_lower_level_took_its_images_as_28x28_and_grey(tmp_path, own_images):
    """They write neither binarisation nor size, as they know only one of each."""
    model = VAE(latent_dim=2)
    model.save(tmp_path / "run", "vae_lowlevel.py", {"data": "/mine", "epochs": 1, "batch_size": 8, "seed": 0})
    args = ["--run", "run", "--k", 1, "--device", "cpu"]
    done = run_main(likelihood.main, "log-likelihood", *args, cwd=tmp_path)
    assert done.code == 0, done.stderr
    assert done.stdout.startswith("/mine, test set: 8 images, grey (not binarised), noise seed 0\n")
    assert own_images == [("/mine", "test", 28, 1)]


def test_a_run_of_an_older_version_is_read(tmp_path):
    """Its weights say nothing about themselves, and its config.json has other words."""
    model = tiny(kl_schedule="linear", kl_steps=9, beta=4.0)
    hand_made_run(tmp_path / "run", model)
    save_file(model.state_dict(), tmp_path / "run" / "model.safetensors")
    path = tmp_path / "run" / "config.json"
    config = json.loads(path.read_text())
    names = {"kl_schedule": "shape", "kl_steps": "steps", "capacity_gamma": "gamma"}
    names |= {name: name for name in ("free_bits", "group_size", "capacity")}
    schedule = {word: config["model"].pop(name) for name, word in names.items()}
    path.write_text(json.dumps(config | {"model": config["model"] | {"kl_schedule": schedule}}))
    args = ["--run", "run", "--images", 4, "--k", 3, "--device", "cpu"]
    done = run_main(likelihood.main, "log-likelihood", *args, cwd=tmp_path)
    assert done.code == 0, done.stderr
    assert done.stderr.startswith("note: run/model.safetensors does not say what model it holds")
    assert done.stderr.count("\n") == 1
    want = -log_likelihood(model, digits("test", 4)[0], 3, seeded(0)).mean().item()
    assert numbers_after("-log p(x), k=3", done.stdout) == [pytest.approx(want, abs=0.002)]


@pytest.mark.parametrize("classes", [3, 1])
def test_a_conditional_model_needs_as_many_classes_as_it_has(refused, tmp_path, own_images, classes):
    """Otherwise every image of two classes would be looked at as one of the model's first two."""
    hand_made_run(tmp_path / "run", tiny(ConditionalVAE, num_classes=classes))
    assert "/mine has 2 classes" in refused("anomalies", "--run", "run", "--data", "/mine")


@pytest.mark.parametrize("command", COMMANDS)
def test_images_binarised_afresh_reach_the_model_as_black_and_white(tmp_path, monkeypatch, command):
    seen, check = [], BaseVAE.posterior_samples

    def recorded(self, x, *rest):
        seen.append(x.unique().tolist())
        return check(self, x, *rest)

    monkeypatch.setattr(BaseVAE, "posterior_samples", recorded)
    hand_made_run(tmp_path / "run", tiny(), binarisation="fresh")
    small = ["--images", 4, "--k", 1, "--device", "cpu"]
    assert run_main(likelihood.main, command, "--run", "run", *small, cwd=tmp_path).code == 0
    assert seen
    assert all(values == [0.0, 1.0] for values in seen)
