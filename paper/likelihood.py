"""What a trained VAE says about images: log p(x), the latents it uses, images that surprise it, pixels that it doubts.

    python paper/likelihood.py log-likelihood --run runs/iwae-001                 log p(x) with 5000 samples per image
    python paper/likelihood.py anomalies --run runs/vae_paper-001                 the most anomalous test images
    python paper/likelihood.py uncertainty --run runs/vae_paper-001               where the decoded images are in doubt

It reads the folder of any run of vae_paper.py, iwae.py, factor_vae.py or beta_tcvae.py, and uses the run's own data and
binarisation unless told otherwise.

Paper: Burda, Grosse & Salakhutdinov 2015, "Importance Weighted Autoencoders", arXiv:1509.00519
"""

from level_script import run_as_script  # before all others: it sees to Ctrl-C

# isort: split

import csv
import io
import math
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import torch
import tyro
from tqdm import tqdm

from experiment import header, pick_device
from input_checks import require_memory
from level_script import one_line_errors, report_terms, save_image_grid
from run_files import write_beside
from trainable import Options, option, parse_options, require, require_new_picture, require_positive_ints
from trainer import unchecked
from training_images import NAMES, load_resident, spread, trained_images
from vae_paper import VAE, BaseVAE

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
    model.check_images(x, next(model.parameters()))
    model.one_hot(c, x)  # while labels are still looked at
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
    result = torch.cat(results)
    model.check_finite("log p(x)", result)
    return result


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
    model.check_images(x, next(model.parameters()))
    model.one_hot(c, x)
    if kind == "likelihood":
        return -log_likelihood(model, x, num_samples, generator, c)
    require_room(model, x, num_samples, "an image")
    scores = []
    with unchecked(model):
        for part in torch.arange(len(x)).split(max(1, 1000 // num_samples)):
            shape = (len(part), num_samples, model.latent_dim)
            eps = torch.randn(shape, generator=generator, dtype=x.dtype, device=x.device)
            mu, logvar, _, log_likelihoods = model.posterior_samples(x[part], eps, None if c is None else c[part])
            nll = -log_likelihoods.mean(dim=1)
            scores.append(nll + model.kl_divergence(mu, logvar) if kind == "elbo" else nll)
    scores = torch.cat(scores)
    model.check_finite("the scores", scores)
    return scores


def require_room(model, x, count, of):
    """Raises MemoryError if so many codes, decoded at once, cannot fit: at the least their pixels, logits and nll."""
    size = 3 * math.prod(model.image_shape) * x.element_size()
    require_memory(count * size, f"{count} samples of {of}")


def anomaly_threshold(training_scores, quantile=0.95):
    """The score above which an image is called anomalous: so that 1 - quantile of the training images would be.

    training_scores: (N,) -> a scalar. The share of false alarms on new images is about that, if they are like them.
    """
    require(0 < quantile < 1, f"the quantile must lie between 0 and 1, got {quantile}")
    require(len(training_scores) > 0, "there are no training scores to set a threshold on")
    require(bool(torch.isfinite(training_scores).all()), "the training scores hold NaN or infinity")
    return torch.quantile(training_scores, quantile)


# --- Doubt -----------------------------------------------------------------------------------------------------------


@torch.no_grad()
def pixel_uncertainty(model, x, eps, c=None):
    """What the model predicts for each pixel after it has seen x, and how sure it is.

    eps: (N, K, Z), K samples of the code. Returns mean, code_std and total_std, each (N, C, H, W), of the pixel's grey
    value: code_std is the spread of the decoded means, the doubt that comes from not knowing the code; total_std adds
    the decoder's own doubt about a pixel of which it knows the code:
    Var[x] = Var_z[E[x|z]] + E_z[Var[x|z]], with Var[x|z] = sigma^2 for Gaussian pixels, and for Bernoulli pixels
    p (1 - p), the variance of a black or white draw: of a grey value with that mean it is the upper limit.
    """
    n, k, _ = eps.shape
    _, _, z, _ = model.posterior_samples(x, eps, c)
    means = model.sample(z.flatten(0, 1), None if c is None else c.repeat_interleave(k)).unflatten(0, (n, k))
    if model.options.likelihood == "bernoulli":
        within = (means * (1 - means)).mean(dim=1)
    else:
        within = torch.as_tensor(2 * model.log_sigma, dtype=x.dtype, device=x.device).exp()
    code_variance = means.var(dim=1, correction=0)
    return means.mean(dim=1), code_variance.sqrt(), (code_variance + within).sqrt()


# --- The script ------------------------------------------------------------------------------------------------------


@dataclass
class RunImages(Options):
    """What all three commands take."""

    run: Path
    """The folder of a finished run."""
    data: str | None = None
    """The images, the name of a set or the path of your own; by default those that the run was trained on."""
    images: int | None = option(None, least=1)
    """Look at this many test images only, spread evenly; by default all."""
    seed: int = option(0, least=0, most=2**63 - 1)
    """Seed of the noise."""
    device: str = "auto"
    """cpu, cuda, mps, or auto for the best of them that is there."""
    k: int = option(100, least=1)
    """Samples of z per image."""


@dataclass
class LogLikelihood(RunImages):
    """Estimate log p(x) of the test images by importance sampling, and count the active units."""

    k: int = option(5000, least=1)
    """Samples of z per image."""


@dataclass
class Anomalies(RunImages):
    """Show the test images that surprise the model most, and how many lie above a threshold set on training images.

    With --data, all of those images are looked at: which are unlike what the model was trained on?
    """

    score: Literal["elbo", "likelihood", "reconstruction"] = "elbo"
    """-ELBO, -log p(x), or -log p(x|z) alone."""
    k: int = option(10, least=1)
    """Samples of z per image; 100 or more for --score likelihood."""
    quantile: float = option(0.95, above=0, below=1)
    """Of the training scores: images above it are called anomalous."""
    out: Path = Path("anomalies.png")
    """The picture to write, and beside it a table of all scores as .csv; neither may exist yet."""


@dataclass
class Uncertainty(RunImages):
    """Draw the first test images with what the model predicts for each pixel and how sure it is."""

    out: Path = Path("uncertainty.png")
    """The picture to write; it must not exist yet."""


COMMANDS = (
    Annotated[LogLikelihood, tyro.conf.subcommand("log-likelihood")]
    | Annotated[Anomalies, tyro.conf.subcommand("anomalies")]
    | Annotated[Uncertainty, tyro.conf.subcommand("uncertainty")]
)


def main(argv=None):
    with one_line_errors("likelihood.py"):
        config = parse_options(COMMANDS, argv, "likelihood.py")
        config.check(flags=True)
        check_out(config)
        device = pick_device(config.device)
        config.run = config.run.expanduser()
        model = load_vae(config.run).to(device)
        trained_on, fingerprints = trained_images(config.run)
        looked_at = trained_on if config.data is None else replace(trained_on, data=config.data)
        if config.data is not None:  # other images come in the size and the colours that the model takes
            channels, height, _ = model.image_shape
            looked_at = replace(looked_at, image_size=height, channels=channels)
        own = config.data is not None and looked_at.data not in NAMES  # of which all are new to the model
        test = load_resident(looked_at, "all" if own else "test", device)
        require_same(test, fingerprints[1] if config.data is None else None, config.run)
        if model.class_names:
            test = test.in_classes(model.class_names)
        require(
            test.image_shape == model.image_shape,
            f"--data {looked_at.data} has images {test.image_shape}, the model takes {model.image_shape}",
        )
        require(
            model.num_classes in (0, len(test.class_names)),
            f"--data {looked_at.data} has {len(test.class_names)} classes, the model needs the class of each image, "
            f"one of {model.num_classes}",
        )
        train = load_resident(trained_on, "train", device) if isinstance(config, Anomalies) else None
        require_same(train, fingerprints[0], config.run)
        # What is fixed was drawn with the run's seed, what is fresh with this report's.
        seed = trained_on.seed if trained_on.binarisation == "fixed" else config.seed
        words = header(replace(looked_at, seed=seed), test, config.seed, config.images)
        generator = torch.Generator(device).manual_seed(config.seed)
        command = {LogLikelihood: report_likelihood, Anomalies: show_anomalies, Uncertainty: show_uncertainty}
        command[type(config)](model, config, words, generator, test, train)


def load_vae(run):
    """The model of a run. Raises ValueError for an autoencoder."""
    model = VAE.load(run)
    require(
        isinstance(model, BaseVAE),
        f"{run} holds an autoencoder, which has no distribution over codes: expected the run of a VAE",
    )
    return model


def check_out(config):
    """Raises ValueError, before anything is computed, if what is to be written exists or cannot be."""
    if out := getattr(config, "out", None):
        config.out = out = out.expanduser()
        require_new_picture(out, *([".csv"] if isinstance(config, Anomalies) else []))


def require_same(images, fingerprint, run):
    """Raises ValueError if these are not the images that the run saw. Without a fingerprint nobody can tell."""
    if images and fingerprint:
        same = images.fingerprint == fingerprint
        require(same, f"the {images.split} of {run} has changed since it was trained: put it back, or name --data")


def chosen_images(images, limit, model, seed):
    """x (N, C, H, W) in the model's precision, labels (N,) and their positions: `limit` of the images, or all."""
    parameter = next(model.parameters())
    index = torch.from_numpy(spread(np.arange(len(images)), limit, "--images")).to(parameter.device)
    x, labels = images.batch(index, torch.Generator(parameter.device).manual_seed(seed))
    return x.to(parameter.dtype), labels, index


def report_likelihood(model, config, header, generator, test, _):
    x, labels, _ = chosen_images(test, config.images, model, config.seed)
    c = labels if model.num_classes else None
    log_p = log_likelihood(model, x, config.k, generator, c).double()
    minus_elbo = anomaly_scores(model, x, "elbo", 10, generator, c).double().mean()
    print(report_terms(header, {f"-log p(x), k={config.k}": -log_p.mean(), "-ELBO": minus_elbo}))
    if len(x) > 1:  # one image has no spread
        print(f"standard error over the images: {log_p.std() / len(x) ** 0.5:.3f} nats")
        active = active_units(posteriors(model, x, c)[0])
        print(f"active units: {int(active.sum())} of {model.latent_dim}")


def show_anomalies(model, config, header, generator, test, train):
    training, looked_at = (
        chosen_images(train, min(2000, len(train)), model, config.seed),
        chosen_images(test, config.images, model, config.seed),
    )
    scores = [
        anomaly_scores(model, x, config.score, config.k, generator, labels if model.num_classes else None).cpu()
        for x, labels, _ in (training, looked_at)
    ]
    threshold = anomaly_threshold(scores[0], config.quantile)
    x, labels, positions = looked_at
    strange = scores[1] > threshold
    order = scores[1].argsort(descending=True)
    names = [test.files[i] if test.files else f"image {i}" for i in positions.tolist()]
    classes = [test.class_names[label] if test.class_names else "" for label in labels.tolist()]
    print(header)
    print(f"score: {config.score}, {config.k} samples per image, in nats")
    print(f"threshold: {threshold:.1f}, the {config.quantile:.0%} quantile of {len(training[0])} training images")
    print(f"above it: {int(strange.sum())} of {len(x)} images ({strange.double().mean():.1%})")
    for place, i in enumerate(order[:5].tolist(), start=1):
        print(f"  {place}. {names[i]}{f', class {classes[i]}' if classes[i] else ''}: score {scores[1][i]:.1f}")
    shown = order[:20].to(x.device)
    rows = torch.stack([x[shown].cpu(), decoded_means(model, x[shown], labels[shown])])
    title = f"The {len(shown)} most anomalous of {len(x)} images, and their scores ({config.score}, nats)"
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(["image", "class", f"{config.score} score (nats)", f"above the threshold of {threshold:.4f}"])
    writer.writerows(
        (names[i], classes[i], f"{scores[1][i]:.4f}", "yes" if strange[i] else "no") for i in order.tolist()
    )
    above = [f"{scores[1][i]:.1f}" for i in order[:20].tolist()]
    save_image_grid(config.out, rows.clamp(0, 1).numpy(), title, ["x", "decoded"], above)
    try:
        write_beside(config.out.with_suffix(".csv"), table.getvalue())
    except OSError:  # both or neither, so that a second try finds their names free
        config.out.unlink()
        raise
    print(f"picture in {config.out}, all scores in {config.out.with_suffix('.csv')}", file=sys.stderr)


@torch.no_grad()
def decoded_means(model, x, labels):
    c = labels if model.num_classes else None
    return model.sample(model.embed(x, c), c).cpu()


def show_uncertainty(model, config, header, generator, test, _):
    x, labels, _ = chosen_images(test, config.images, model, config.seed)
    x, labels = x[:10], labels[:10] if model.num_classes else None
    require_room(model, x, len(x) * config.k, f"{len(x)} images")
    eps = torch.randn(len(x), config.k, model.latent_dim, generator=generator, dtype=x.dtype, device=x.device)
    mean, code_std, total_std = pixel_uncertainty(model, x, eps, labels)
    rows = torch.stack([x, mean, 2 * code_std, 2 * total_std])  # a std of a value in [0, 1] is at most a half
    names = ["x", "mean", "2 x std, code", "2 x std, total"]
    title = f"What the model predicts, over {config.k} codes of each image (black 0, white 1)"
    save_image_grid(config.out, rows.clamp(0, 1).cpu().numpy(), title, names)
    print(header)
    print(f"mean over pixels of the standard deviation: code {code_std.mean():.4f}, total {total_std.mean():.4f}")
    print(f"picture in {config.out}", file=sys.stderr)


if __name__ == "__main__":
    run_as_script(main)
