"""The pictures of a trained model: what it reconstructs, what it dreams up, and how its latent space is laid out.

Each function draws one picture from plain arrays and writes it as a PNG; `draw_all` asks a model for those arrays.
Images are (..., 1, H, W) in [0, 1].
"""

import numpy as np
import torch
from matplotlib.figure import Figure

from level_script import report_noise, save_image_grid, save_loss_curves


def save_reconstructions(path, x, reconstructions):
    """Images above what the model makes of them. x, reconstructions: (N, 1, H, W)."""
    save_image_grid(path, np.stack([x, reconstructions]), "Test images and their reconstructions", ["x", "decoded"])


def save_samples(path, images, per_class=False):
    """Decoded draws from the prior. images: (R, C, 1, H, W); per_class: row i is class i, a column shares one z."""
    if per_class:
        title = "Samples: each row one class, each column one z from the prior"
        save_image_grid(path, images, title, [f"class {i}" for i in range(len(images))])
    else:
        save_image_grid(path, images, "Samples: z drawn from the prior N(0, I), decoded")


def save_latent_space(path, mu, labels):
    """Posterior means coloured by class. mu: (N, Z), labels: (N,). For Z > 2 their first two principal components."""
    if mu.shape[1] > 2:
        centred = mu - mu.mean(axis=0)
        _, scale, directions = np.linalg.svd(centred, full_matrices=False)
        points = centred @ directions[:2].T
        share = scale**2 / np.sum(scale**2)
        names = [f"principal component {i + 1} ({share[i]:.0%} of the variance)" for i in range(2)]
    else:
        points = np.column_stack([mu, np.zeros(len(mu))])[:, :2]
        names = ["z[0]", "z[1]" if mu.shape[1] == 2 else ""]
    figure = Figure(figsize=(7, 6), layout="constrained")
    axes = figure.add_subplot(title="Posterior means of the test images", xlabel=names[0], ylabel=names[1])
    for label in np.unique(labels):
        axes.scatter(*points[labels == label].T, s=8, color=f"C{label % 10}", label=str(label), rasterized=True)
    axes.set_aspect("equal", adjustable="datalim")
    axes.legend(title="class", markerscale=2, loc="center left", bbox_to_anchor=(1, 0.5))
    figure.savefig(path, dpi=120)


def manifold_codes(side):
    """The codes behind a picture of a 2-D manifold: (side, side, 2), equally spaced in probability under the prior.

    A linear grid on the unit square through the inverse Gaussian CDF (Kingma 2013, figure 4): z[0] grows to the right,
    z[1] upwards.
    """
    quantiles = torch.special.ndtri((torch.arange(side, dtype=torch.float64) + 0.5) / side)
    return torch.stack(torch.meshgrid(quantiles.flip(0), quantiles, indexing="ij")[::-1], dim=-1).float()


def save_manifold(path, images, condition=""):
    """The decoded `manifold_codes`. images: (side, side, 1, H, W)."""
    tiles = images[:, :, 0]
    mosaic = tiles.transpose(0, 2, 1, 3).reshape(tiles.shape[0] * tiles.shape[2], -1)
    side = len(images)
    figure = Figure(figsize=(7, 7.2), layout="constrained")
    axes = figure.add_subplot(title=f"The decoded latent plane{condition}")
    axes.imshow(mosaic, cmap="gray", vmin=0, vmax=1, extent=(0, 1, 0, 1))
    axes.set(xlabel="z[0]", ylabel="z[1]")
    at = (np.array([0, side // 4, side // 2, side - 1 - side // 4, side - 1]) + 0.5) / side
    names = [f"{z:.1f}" for z in torch.special.ndtri(torch.from_numpy(at)).tolist()]
    axes.set_xticks(at, names)
    axes.set_yticks(at, names)
    figure.savefig(path, dpi=120)


def save_interpolation(path, images, condition=""):
    """Straight lines in latent space. images: (R, C, 1, H, W), from the first column's code to the last one's."""
    save_image_grid(path, images, f"From one test image's mean to another's, on a straight line{condition}")


def save_traversal(path, images, values, names):
    """One latent moved at a time. images: (R, C, 1, H, W); values: (C,) that it takes; names: (R,) of the rows."""
    title = f"One latent at a time, from {values[0]:+.0f} to {values[-1]:+.0f}, the others as encoded"
    save_image_grid(path, images, title, names)


@torch.no_grad()
def draw_all(folder, model, images, seed, rows=()):
    """Every picture of a trained VAE or CVAE, into `folder`.

    images: the test images, a trainer.ResidentImages. rows: the epochs of its training, for the loss curves.
    """
    conditional = model.num_classes > 0
    x, labels = images.batch(slice(None))
    x = x.to(next(iter(model.state_dict().values())).dtype)
    labels_or_none = labels if conditional else None
    mu, logvar = model.encode(x, labels_or_none)

    def decoded(z, c=None):
        """Images of codes z (..., Z) as NumPy, whatever the leading shape; c broadcasts against it."""
        z = torch.as_tensor(z, dtype=mu.dtype, device=mu.device)
        c = torch.as_tensor(c, device=mu.device).expand(z.shape[:-1]).flatten() if conditional else None
        return model.sample(z.flatten(0, -2), c).unflatten(0, z.shape[:-1]).cpu().numpy()

    if rows:
        save_loss_curves(folder / "loss_curves.png", loss_curves(rows))
    save_reconstructions(folder / "reconstructions.png", x[:10].cpu(), decoded(mu[:10], labels[:10]))
    if conditional:
        z = report_noise(seed + 1, 10, model.latent_dim)[None].repeat(model.num_classes, axis=0)
        save_samples(folder / "samples.png", decoded(z, torch.arange(model.num_classes)[:, None]), per_class=True)
    else:
        save_samples(folder / "samples.png", decoded(report_noise(seed + 1, 80, model.latent_dim).reshape(8, 10, -1)))
    save_latent_space(folder / "latent_space.png", mu.cpu().numpy(), labels.cpu().numpy())

    # From a test image of each class to one of the next class; a conditional model keeps the first one's class.
    first = torch.stack([(labels == label).nonzero()[0, 0] for label in labels.unique()])
    start, end = mu[first], mu[first.roll(-1)]
    t = torch.linspace(0, 1, 10, device=mu.device, dtype=mu.dtype)[None, :, None]
    same = ", class kept" if conditional else ""
    lines = decoded((1 - t) * start[:, None] + t * end[:, None], labels[first][:, None])
    save_interpolation(folder / "interpolation.png", lines, same)

    # The latents that carry most, by their share of the KL.
    kl = 0.5 * (mu**2 + logvar.exp() - 1 - logvar).mean(dim=0)  # (Z,) nats
    chosen = kl.argsort(descending=True)[:10]
    values = torch.linspace(-3, 3, 11, device=mu.device, dtype=mu.dtype)
    moved = mu[0].repeat(len(chosen), len(values), 1)
    for row, latent in enumerate(chosen):
        moved[row, :, latent] = values
    names = [f"z[{latent}], KL {kl[latent]:.1f}" for latent in chosen.tolist()]
    save_traversal(folder / "traversal.png", decoded(moved, labels[0]), values.tolist(), names)

    if model.latent_dim == 2:
        one = f" of class {labels[0]}" if conditional else ""
        save_manifold(folder / "manifold.png", decoded(manifold_codes(20), labels[0]), one)


def loss_curves(rows):
    """The epochs of a run as {term: (epochs, 2)}, columns train and test."""
    terms = [name.removeprefix("train_") for name in rows[0] if name.startswith("train_")]
    return {term: np.array([[row[f"train_{term}"], row[f"test_{term}"]] for row in rows]) for term in terms}
