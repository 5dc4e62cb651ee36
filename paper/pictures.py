"""The pictures of a trained model: what it reconstructs, what it dreams up, and how its latent space is laid out.

Each function draws one picture from plain arrays and writes it as a PNG; `draw_all` asks a model for those arrays.
Images are (..., C, H, W) in [0, 1], grey or colour. As a script it puts finished runs onto one rate-distortion curve:

    python paper/pictures.py --runs runs/beta-1 runs/beta-4 runs/beta-10 --out curve.png
"""

from level_script import run_as_script  # before all others: it sees to Ctrl-C

# isort: split

import json
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure

from level_script import report_noise, save_figure, save_image_grid, save_loss_curves


def save_reconstructions(path, x, reconstructions):
    """Images above what the model makes of them. x, reconstructions: (N, C, H, W)."""
    save_image_grid(path, np.stack([x, reconstructions]), "Test images and their reconstructions", ["x", "decoded"])


def save_samples(path, images, class_names=(), source="z drawn from the prior N(0, I)"):
    """Decoded draws from the prior. images: (R, K, C, H, W); class_names: of the rows, whose columns share one z."""
    if class_names:
        title = "Samples: each row one class, each column one z from the prior"
        save_image_grid(path, images, title, list(map(short, class_names)))
    else:
        save_image_grid(path, images, f"Samples: {source}, decoded")


def short(name):
    """A class's name as it fits beside a picture, in which matplotlib sees no formula."""
    name = f"class {name}" if name.isdigit() else name if len(name) <= 16 else f"{name[:15]}…"
    return name.replace("$", r"\$")


def save_latent_space(path, mu, labels, class_names=()):
    """The codes of images coloured by class. mu: (N, Z), labels: (N,). For Z > 2 their two first principal components.

    class_names: one for each label; without them all have one colour.
    """
    if mu.shape[1] > 2 and len(mu) > 2:  # fewer points have no two directions
        centred = mu - mu.mean(axis=0)
        _, scale, directions = np.linalg.svd(centred, full_matrices=False)
        points = centred @ directions[:2].T
        share = scale**2 / np.sum(scale**2)
        names = [f"principal component {i + 1} ({share[i]:.0%} of the variance)" for i in range(2)]
    else:
        points = np.column_stack([mu, np.zeros(len(mu))])[:, :2]
        names = ["z[0]", "z[1]" if mu.shape[1] == 2 else ""]
    figure = Figure(figsize=(7, 6), layout="constrained")
    axes = figure.add_subplot(title="The codes of the test images (means)", xlabel=names[0], ylabel=names[1])
    for label in np.unique(labels):
        name = short(class_names[label]).removeprefix("class ") if class_names else None
        axes.scatter(*points[labels == label].T, s=8, color=f"C{label % 10}", label=name, rasterized=True)
    axes.set_aspect("equal", adjustable="datalim")
    if 0 < len(np.unique(labels)) <= 20 and class_names:  # more would be neither readable nor of different colours
        axes.legend(title="class", markerscale=2, loc="center left", bbox_to_anchor=(1, 0.5))
    save_figure(figure, path)


def manifold_codes(side):
    """The codes behind a picture of a 2-D manifold: (side, side, 2), equally spaced in probability under the prior.

    A linear grid on the unit square through the inverse Gaussian CDF (Kingma 2013, figure 4): z[0] grows to the right,
    z[1] upwards.
    """
    quantiles = torch.special.ndtri((torch.arange(side, dtype=torch.float64) + 0.5) / side)
    return torch.stack(torch.meshgrid(quantiles.flip(0), quantiles, indexing="ij")[::-1], dim=-1).float()


def save_manifold(path, images, condition=""):
    """The decoded `manifold_codes`. images: (side, side, C, H, W), C 1 or 3."""
    figure = Figure(figsize=(7, 7.2), layout="constrained")
    draw_manifold(figure.add_subplot(title=f"The decoded latent plane{condition}"), images)
    save_figure(figure, path)


def draw_manifold(axes, images):
    """The same into a matplotlib Axes, without a title."""
    side, _, channels, height, width = images.shape
    mosaic = images.transpose(0, 3, 1, 4, 2).reshape(side * height, side * width, channels)
    axes.imshow(mosaic, cmap="gray", vmin=0, vmax=1, extent=(0, 1, 0, 1))
    axes.set(xlabel="z[0]", ylabel="z[1]")
    z = torch.tensor([-1.5, -1, -0.5, 0, 0.5, 1, 1.5])
    at = torch.special.ndtr(z).tolist()  # the axes are even in probability
    names = [f"{each:g}" for each in z.tolist()]
    axes.set_xticks(at, names)
    axes.set_yticks(at, names)


def lerp(start, end, t):
    """The straight line (1 - t) start + t end. start, end: (..., Z), t broadcasts against them."""
    return (1 - t) * start + t * end


def slerp(start, end, t):
    """From start to end with constant angular speed, the norm going from one's to the other's in a straight line.

    Draws from N(0, I) in Z dimensions have norms near sqrt(Z); halfway along a straight line between two of them the
    norm is smaller by sqrt(2), where the prior has hardly any mass. On this arc it is not. start, end: (..., Z); t
    broadcasts against (..., 1). Codes that point (almost) the same or the opposite way have no arc: between them it is
    `lerp`.
    """
    norms = [code.norm(dim=-1, keepdim=True) for code in (start, end)]
    a, b = (code / norm.clamp(min=torch.finfo(code.dtype).tiny) for code, norm in zip((start, end), norms, strict=True))
    cosine = (a * b).sum(dim=-1, keepdim=True).clamp(-1, 1)
    angle = torch.arccos(cosine)
    sine = torch.sin(angle)
    arc = (torch.sin((1 - t) * angle) * a + torch.sin(t * angle) * b) / sine * lerp(*norms, t)
    return torch.where(sine > 1e-4, arc, lerp(start, end, t))


def save_interpolation(path, images, condition="", row_labels=None):
    """Ways through latent space. images: (R, K, C, H, W), from the first column's code to the last one's."""
    save_image_grid(path, images, f"From one test image's mean to another's{condition}", row_labels)


def save_traversal(path, images, values, names):
    """One latent moved at a time. images: (R, K, C, H, W); values: (K,) that it takes; names: (R,) of the rows."""
    title = f"One latent at a time, from {values[0]:+.0f} to {values[-1]:+.0f}, the others as encoded"
    save_image_grid(path, images, title, names)


def save_codebook_use(path, counts):
    """How often each codebook entry is chosen, the most used first. counts: (K,)."""
    share = np.sort(counts / counts.sum())[::-1]
    perplexity = np.exp(-np.sum(share[share > 0] * np.log(share[share > 0])))
    figure = Figure(figsize=(7, 3.2), layout="constrained")
    axes = figure.add_subplot(
        title=f"Codebook use: {np.sum(counts > 0)} of {len(counts)} entries, perplexity {perplexity:.1f}",
        xlabel="entry, the most used first",
        ylabel="share of all places (%)",
    )
    axes.bar(np.arange(1, len(share) + 1), 100 * share, width=1.0)
    axes.axhline(100 / len(share), color="C1", label="all alike")
    axes.set_xlim(0, len(share) + 1)
    axes.legend()
    save_figure(figure, path)


def save_rate_distortion(path, rate, distortion, names):
    """Models as points: rate (KL, nats) against distortion (reconstruction, nats), both per test image. Each (R,)."""
    figure = Figure(figsize=(6.5, 5), layout="constrained")
    axes = figure.add_subplot(
        title="Rate and distortion per test image",
        xlabel="rate: KL (nats)",
        ylabel="distortion: -log p(x|z) (nats)",
    )
    # The curve goes through the models that no other one beats in both.
    points = np.array(sorted(zip(rate, distortion, strict=True)))
    best = points[points[:, 1] <= np.minimum.accumulate(points[:, 1])]
    axes.plot(*best.T, color="0.8", zorder=0)
    for x, y, name in zip(rate, distortion, names, strict=True):
        axes.plot(x, y, "o")
        axes.annotate(name, (x, y), xytext=(6, 4), textcoords="offset points", parse_math=False)
    axes.margins(0.2, 0.15)
    axes.set_xlim(left=0)
    axes.set_ylim(axes.get_ylim())  # of the models alone: the lines are a background
    # The line of models with the best point's -ELBO: below it a model would be better. Its parallels are worse.
    total = np.add(rate, distortion)
    step = 10.0 ** math.floor(math.log10(max(np.ptp(total), 1.0)))
    for i in range(1, 10):
        label = f"{step:g} nats of -ELBO apart" if i == 1 else None
        axes.axline((0, total.min() + i * step), slope=-1, color="0.85", linewidth=0.8, zorder=0, label=label)
    axes.axline(
        (0, total.min()), slope=-1, linestyle=":", color="0.5", label=f"-ELBO = {total.min():.1f}, the lowest of these"
    )
    axes.legend()
    save_figure(figure, path)


@torch.no_grad()
def draw_all(folder, model, images, seed, rows=()):
    """Every picture of a trained VAE or CVAE, into `folder`.

    images: the test images, a training_images.ResidentImages; 2,000 of them are drawn. rows: the epochs of its
    training, for the loss curves. seed: of the draws from the prior, and of a fresh binarisation.
    """
    conditional = model.num_classes > 0
    parameter = next(model.parameters())
    x, labels = images.batch(slice(0, 2000), torch.Generator(parameter.device).manual_seed(seed))
    x = x.to(parameter.dtype)
    mu = model.embed(x, labels if conditional else None)

    def decoded(z, c=None):
        """Images of codes z (..., Z) as NumPy, whatever the leading shape; c broadcasts against it."""
        z = torch.as_tensor(z, dtype=mu.dtype, device=mu.device)
        c = torch.as_tensor(c, device=mu.device).expand(z.shape[:-1]).flatten() if conditional else None
        return model.sample(z.flatten(0, -2), c).unflatten(0, z.shape[:-1]).cpu().numpy()

    if rows:
        save_loss_curves(folder / "loss_curves.png", loss_curves(rows), model.units)
    save_reconstructions(folder / "reconstructions.png", x[:10].cpu(), decoded(mu[:10], labels[:10]))
    if conditional:
        names = images.class_names or tuple(map(str, range(model.num_classes)))
        shown = torch.arange(min(model.num_classes, 20))  # of hundreds of classes, the first
        z = report_noise(seed + 1, 10, model.latent_dim)[None].repeat(len(shown), axis=0)
        save_samples(folder / "samples.png", decoded(z, shown[:, None]), names[: len(shown)])
    else:
        save_samples(folder / "samples.png", decoded(report_noise(seed + 1, 80, model.latent_dim).reshape(8, 10, -1)))
    save_latent_space(folder / "latent_space.png", mu.cpu().numpy(), labels.cpu().numpy(), images.class_names)

    # From a test image of each class to one of the next class, both ways; a conditional model keeps the first one's
    # class.
    first = torch.stack([(labels == label).nonzero()[0, 0] for label in labels.unique()])[:5]
    if len(first) == 1:  # without classes: between the first images
        first = torch.arange(min(5, len(labels)), device=labels.device)
    t = torch.linspace(0, 1, 10, device=mu.device, dtype=mu.dtype)[:, None]
    start, end = mu[first, None], mu[first.roll(-1), None]
    ways = torch.stack([lerp(start, end, t), slerp(start, end, t)], dim=1)  # (5, 2, 10, Z)
    same = ", class kept" if conditional else ""
    lines = decoded(ways, labels[first][:, None, None])
    save_interpolation(
        folder / "interpolation.png", lines.reshape(-1, *lines.shape[2:]), same, len(first) * ["straight", "arc"]
    )

    # The latents that carry most: by their share of the KL, or, where there is no distribution, by their variance.
    if model.elbo_terms:
        carried, unit = model.kl_per_latent(*model.encode(x, labels if conditional else None)).mean(dim=0), "KL"
    else:
        carried, unit = mu.var(dim=0, correction=0), "variance"
    chosen = carried.argsort(descending=True)[:10]
    values = torch.linspace(-3, 3, 11, device=mu.device, dtype=mu.dtype)
    moved = mu[0].repeat(len(chosen), len(values), 1)
    for row, latent in enumerate(chosen):
        moved[row, :, latent] = values
    names = [f"z[{latent}], {unit} {carried[latent]:.1f}" for latent in chosen.tolist()]
    save_traversal(folder / "traversal.png", decoded(moved, labels[0]), values.tolist(), names)

    if model.latent_dim == 2:
        one = f" of {short(images.class_names[labels[0]])}" if conditional and images.class_names else ""
        save_manifold(folder / "manifold.png", decoded(manifold_codes(20), labels[0]), one)


def loss_curves(rows):
    """The epochs of a run as {term: (epochs, 2)}, columns train and test."""
    terms = [name.removeprefix("train_") for name in rows[0] if name.startswith("train_")]
    return {term: np.array([[row[f"train_{term}"], row[f"test_{term}"]] for row in rows]) for term in terms}


@dataclass
class PictureConfig:
    """Put finished runs of the VAEs onto one picture: rate (KL) against distortion (reconstruction)."""

    runs: tuple[Path, ...]
    """The folders of the runs."""
    out: Path
    """The PNG to write; it must not exist yet."""


def main(argv=None):
    from level_script import one_line_errors
    from trainable import parse_options, require, require_new_picture

    with one_line_errors("pictures.py"):
        config = parse_options(PictureConfig, argv, "pictures.py")
        out, runs = config.out.expanduser(), [run.expanduser() for run in config.runs]
        require(runs, "--runs names no folder: expected the folders of finished runs")
        for place, run in enumerate(runs):
            before = [other.resolve() for other in runs[:place]]
            require(run.resolve() not in before, f"--runs names {run} twice: name each run once")
        require_new_picture(out)
        points, kinds = zip(*map(read_summary, runs), strict=True)
        for run, kind in zip(runs, kinds, strict=True):
            for name, first in kinds[0].items():
                require(
                    kind[name] == first,
                    f"{run} has {name} {kind[name]}, {runs[0]} has {first}: nats of the two do not compare",
                )
        save_rate_distortion(out, *map(list, zip(*points, strict=True)), [run.absolute().name for run in runs])


def read_summary(run):
    """A finished run's (rate, distortion), in nats, and what another run's must be the same in to compare, by name.

    Raises FileNotFoundError, or ValueError unless it is a VAE's.
    """
    from trainable import read_config

    path = run / "summary.json"
    if not path.is_file():
        raise FileNotFoundError(f"no summary.json in {run}: expected the folder of a run with at least one epoch")
    try:
        summary = json.loads(path.read_text(encoding="utf-8"))
        row = summary["last_epoch"]
        point = [float(row[f"test_{term}"]) for term in ("kl_divergence", "reconstruction_nll")]
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise ValueError(f"{path} is not that of a VAE: {error!r}") from None
    if not np.isfinite(sum(point)):
        raise ValueError(f"{path} holds NaN or infinity: expected the summary of a run that went well")
    config = run / "config.json"
    model = read_config(config)["model"] if config.is_file() else {}
    kind = {name: summary.get(name, model.get(name)) for name in ("data", "binarisation", "likelihood", "image_shape")}
    return point, kind


if __name__ == "__main__":
    run_as_script(main)
