"""What a trained VAE says about images: log p(x), the latents it uses, images that surprise it, pixels that it doubts.

    python paper/likelihood.py log-likelihood --run runs/iwae-001                 log p(x) with 5000 samples per image
    python paper/likelihood.py anomalies --run runs/vae_paper-001                 the most anomalous test images
    python paper/likelihood.py uncertainty --run runs/vae_paper-001               where the decoded images are in doubt

It reads the folder of any run of vae_paper.py, iwae.py, factor_vae.py or beta_tcvae.py, and uses the run's own data and
binarisation unless told otherwise.

Paper: Burda, Grosse & Salakhutdinov 2015, "Importance Weighted Autoencoders", arXiv:1509.00519
"""

import json
import math
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import torch
import tyro
from tqdm import tqdm

import beta_tcvae
import factor_vae
import iwae
from experiment import describe, load_resident, pick_device
from level_script import one_line_errors, report_terms, save_image_grid
from trainer import require, require_positive_ints, unchecked
from vae_paper import VAE

PAPERS = (iwae, factor_vae, beta_tcvae)  # their models derive from VAE, so that VAE.load knows them


# --- log p(x) --------------------------------------------------------------------------------------------------------


@torch.no_grad()
def log_likelihood(model, x, num_samples, generator, c=None, rows=2500):
    """log p(x) by importance sampling from q(z|x): the k-sample bound with a large k (Burda 2015, section 5).

        log p(x) ~ log 1/k sum_i p(x, z_i) / q(z_i|x),  z_i ~ q(z|x)

    Unbiased for p(x), so in the mean below log p(x), and nearer for more samples. x: (N, C, H, W). num_samples: k,
    taken exactly. generator: draws the noise, on x's device. c: (N,) for a conditional model. rows: (image, sample)
    pairs that are decoded at once, which bounds the memory. Returns (N,) nats. Shows a progress bar on a terminal.
    """
    require_positive_ints(num_samples=num_samples, rows=rows)
    model.check_images(x)
    results = []
    with unchecked(model), tqdm(total=len(x), desc="log p(x)", unit="image", disable=None) as progress:
        for part in torch.arange(len(x)).split(max(1, rows // num_samples)):
            log_sum = torch.full((len(part),), -math.inf, dtype=x.dtype, device=x.device)
            for start in range(0, num_samples, rows):
                shape = (len(part), min(rows, num_samples - start), model.latent_dim)
                eps = torch.randn(shape, generator=generator, dtype=x.dtype, device=x.device)
                log_w = model.log_weights(x[part], eps, None if c is None else c[part])
                log_sum = torch.logaddexp(log_sum, torch.logsumexp(log_w, dim=1))
            results.append(log_sum - math.log(num_samples))
            progress.update(len(part))
    return torch.cat(results)


@torch.no_grad()
def posteriors(model, x, c=None):
    """mu, logvar of all images, (N, Z) each, encoded a thousand at a time."""
    parts = torch.arange(len(x)).split(1000)
    encoded = [model.encode(x[part], None if c is None else c[part]) for part in parts]
    return tuple(torch.cat(tensors) for tensors in zip(*encoded, strict=True))


def active_units(mu, threshold=0.01):
    """Which latents say anything: Var_x(E_q[z_d]) > threshold (Burda 2015, section 5). mu: (N, Z) -> (Z,) booleans."""
    return mu.var(dim=0) > threshold


# --- Anomalies -------------------------------------------------------------------------------------------------------

SCORES = ("elbo", "likelihood", "reconstruction")


@torch.no_grad()
def anomaly_scores(model, x, kind, num_samples, generator, c=None):
    """How much each image surprises the model: (N,) nats, higher is stranger.

    kind: "elbo", -ELBO with the KL in closed form; "likelihood", -log p(x) by importance sampling; "reconstruction",
    -log p(x|z) alone, which forgives a strange code. Each from num_samples samples of z. Other arguments:
    log_likelihood's.
    """
    require(kind in SCORES, f"the score must be one of {', '.join(SCORES)}, got {kind!r}")
    require_positive_ints(num_samples=num_samples)
    model.check_images(x)
    if kind == "likelihood":
        return -log_likelihood(model, x, num_samples, generator, c)
    scores = []
    with unchecked(model):
        for part in torch.arange(len(x)).split(max(1, 1000 // num_samples)):
            shape = (len(part), num_samples, model.latent_dim)
            eps = torch.randn(shape, generator=generator, dtype=x.dtype, device=x.device)
            mu, logvar, _, log_likelihoods = model.posterior_samples(x[part], eps, None if c is None else c[part])
            nll = -log_likelihoods.mean(dim=1)
            scores.append(nll + model.kl_divergence(mu, logvar) if kind == "elbo" else nll)
    return torch.cat(scores)


def anomaly_threshold(training_scores, quantile=0.95):
    """The score above which an image is called anomalous: so that 1 - quantile of the training images would be.

    training_scores: (N,) -> a scalar. The share of false alarms on new images is about that, if they are like them.
    """
    require(0 < quantile < 1, f"the quantile must lie between 0 and 1, got {quantile}")
    return torch.quantile(training_scores, quantile)


# --- Doubt -----------------------------------------------------------------------------------------------------------


@torch.no_grad()
def pixel_uncertainty(model, x, eps, c=None):
    """What the model predicts for each pixel after it has seen x, and how sure it is.

    eps: (N, K, Z), K samples of the code. Returns mean, code_std and total_std, each (N, C, H, W), of the pixel's grey
    value: code_std is the spread of the decoded means, the doubt that comes from not knowing the code; total_std adds
    the decoder's own doubt about a pixel of which it knows the code:
    Var[x] = Var_z[E[x|z]] + E_z[Var[x|z]], with Var[x|z] = p (1 - p) for Bernoulli and sigma^2 for Gaussian pixels.
    """
    n, k, _ = eps.shape
    _, _, z, _ = model.posterior_samples(x, eps, c)
    means = model.sample(z.flatten(0, 1), None if c is None else c.repeat_interleave(k)).unflatten(0, (n, k))
    if model.likelihood == "bernoulli":
        within = (means * (1 - means)).mean(dim=1)
    else:
        within = torch.as_tensor(2 * model.log_sigma, dtype=x.dtype, device=x.device).exp()
    code_variance = means.var(dim=1, correction=0)
    return means.mean(dim=1), code_variance.sqrt(), (code_variance + within).sqrt()


# --- The script ------------------------------------------------------------------------------------------------------


@dataclass
class RunImages:
    """What all three commands take."""

    run: Path
    """The folder of a finished run."""
    data: Literal["digits", "mnist", "fashion", "sprites", "sprites32"] | None = None
    """The images; by default those that the run was trained on."""
    images: int | None = None
    """Look at this many test images only, spread evenly; by default at all."""
    seed: int = 0
    """Seed of the noise."""
    device: str = "auto"
    """cpu, cuda, mps, or auto for the best of them that is there."""


@dataclass
class LogLikelihood(RunImages):
    """Estimate log p(x) of the test images by importance sampling, and count the active units."""

    k: int = 5000
    """Samples of z per image."""


@dataclass
class Anomalies(RunImages):
    """Show the test images that surprise the model most, and how many lie above a threshold set on training images."""

    score: Literal["elbo", "likelihood", "reconstruction"] = "elbo"
    """-ELBO, -log p(x), or -log p(x|z) alone."""
    k: int = 10
    """Samples of z per image; 100 or more for --score likelihood."""
    quantile: float = 0.95
    """Of the training scores: images above it are called anomalous."""
    out: Path = Path("anomalies.png")
    """The picture to write; it must not exist yet."""


@dataclass
class Uncertainty(RunImages):
    """Draw the first test images with what the model predicts for each pixel and how sure it is."""

    k: int = 100
    """Samples of z per image."""
    out: Path = Path("uncertainty.png")
    """The picture to write; it must not exist yet."""


COMMANDS = (
    Annotated[LogLikelihood, tyro.conf.subcommand("log-likelihood")]
    | Annotated[Anomalies, tyro.conf.subcommand("anomalies")]
    | Annotated[Uncertainty, tyro.conf.subcommand("uncertainty")]
)


def main(argv=None):
    with one_line_errors("likelihood.py"):
        config = tyro.cli(COMMANDS, args=argv, prog="likelihood.py", config=(tyro.conf.OmitArgPrefixes,))
        require_positive_ints(k=config.k)
        require(config.seed >= 0, f"--seed must be at least 0, got {config.seed}")
        if out := getattr(config, "out", None):
            require(not out.exists(), f"--out {out} exists and is not overwritten: choose another name")
            writable = out.suffix == ".png" and out.parent.is_dir()
            require(writable, f"cannot write --out {out}: expected a .png in a folder that exists")
        quantile = getattr(config, "quantile", 0.5)
        require(0 < quantile < 1, f"--quantile must lie between 0 and 1, got {quantile}")
        device = pick_device(config.device)
        model = VAE.load(config.run).to(device)
        require(model.elbo_terms, "an autoencoder has no distribution over codes, hence no likelihood")
        settings = json.loads((config.run / "config.json").read_text()).get("training")
        require(
            settings, f"{config.run}/config.json does not say what the model was trained on: expected a run's folder"
        )
        config.data = config.data or settings["data"]
        test = load(config.data, "test", model, settings, config.seed, config.images)
        train = None
        if isinstance(config, Anomalies):
            train = load(settings["data"], "train", model, settings, config.seed, 2000)
        require(
            tuple(test[0].shape[1:]) == model.image_shape,
            f"--data {config.data} has images {tuple(test[0].shape[1:])}, the model takes {model.image_shape}",
        )
    # What is fixed was drawn with the run's seed, what is fresh with this report's.
    seed = settings["seed"] if settings["binarisation"] == "fixed" else config.seed
    words = describe(config.data, settings["binarisation"], seed)
    header = f"{config.data}, test set: {len(test[0])} images, {words}, noise seed {config.seed}"
    generator = torch.Generator(device).manual_seed(config.seed)
    command = {LogLikelihood: report_likelihood, Anomalies: show_anomalies, Uncertainty: show_uncertainty}
    command[type(config)](model, config, header, generator, test, train)


def load(data, split, model, settings, seed, limit):
    """x, labels of a split: in the model's precision, binarised as the run's settings say, `limit` images of them."""
    parameter = next(model.parameters())
    images = load_resident(data, split, parameter.device, settings["binarisation"], settings["seed"])
    require(limit is None or limit >= 1, f"--images must be at least 1, got {limit}")
    count = min(len(images), limit or len(images))
    index = torch.arange(count, device=parameter.device) * len(images) // count  # spread evenly over the set
    thresholds = images.draw_thresholds(count, torch.Generator(parameter.device).manual_seed(seed))
    x, labels = images.batch(index, thresholds)
    return x.to(parameter.dtype), labels


def report_likelihood(model, config, header, generator, test, _):
    x, labels = test
    c = labels if model.num_classes else None
    log_p = log_likelihood(model, x, config.k, generator, c).double()
    minus_elbo = anomaly_scores(model, x, "elbo", 10, generator, c).double().mean()
    print(report_terms(header, {f"-log p(x), k={config.k}": -log_p.mean(), "-ELBO": minus_elbo}))
    if len(x) > 1:  # one image has no spread
        print(f"standard error over the images: {log_p.std() / len(x) ** 0.5:.3f} nats")
        active = active_units(posteriors(model, x, c)[0])
        print(f"active units: {int(active.sum())} of {model.latent_dim}")


def show_anomalies(model, config, header, generator, test, train):
    scores = [
        anomaly_scores(model, x, config.score, config.k, generator, labels if model.num_classes else None).cpu()
        for x, labels in (train, test)
    ]
    threshold = anomaly_threshold(scores[0], config.quantile)
    x, labels = test
    strange = scores[1] > threshold
    print(header)
    print(f"score: {config.score}, {config.k} samples per image, in nats")
    print(f"threshold: {threshold:.1f}, the {config.quantile:.0%} quantile of {len(train[0])} training images")
    print(f"above it: {int(strange.sum())} of {len(x)} test images ({strange.double().mean():.1%})")
    order = scores[1].argsort(descending=True)[:20].to(x.device)
    for place, index in enumerate(order.tolist()[:5], start=1):
        print(f"  {place}. score {scores[1][index]:.1f}, class {labels[index]}")
    shown = x[order].cpu()
    rows = torch.stack([shown, *decoded_means(model, test, order)])
    title = f"The {len(order)} most anomalous of {len(x)} test images (score: {config.score})"
    save_image_grid(config.out, rows.numpy(), title, ["x", "decoded"])
    print(f"picture in {config.out}", file=sys.stderr)


@torch.no_grad()
def decoded_means(model, images, index):
    x, labels = images
    c = labels[index] if model.num_classes else None
    return model.sample(model.encode(x[index], c)[0], c)[None].cpu()


def show_uncertainty(model, config, header, generator, test, _):
    x, labels = test[0][:10], test[1][:10] if model.num_classes else None
    eps = torch.randn(len(x), config.k, model.latent_dim, generator=generator, dtype=x.dtype, device=x.device)
    mean, code_std, total_std = pixel_uncertainty(model, x, eps, labels)
    rows = torch.stack([x, mean, 2 * code_std, 2 * total_std])  # a std of a value in [0, 1] is at most a half
    names = ["x", "mean", "2 x std, code", "2 x std, total"]
    title = f"What the model predicts, over {config.k} codes of each image"
    save_image_grid(config.out, rows.clamp(0, 1).cpu().numpy(), title, names)
    print(header)
    print(f"mean over pixels of the standard deviation: code {code_std.mean():.4f}, total {total_std.mean():.4f}")
    print(f"picture in {config.out}", file=sys.stderr)


if __name__ == "__main__":
    main()
