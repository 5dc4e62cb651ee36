"""Turn the latents of a trained model by hand and watch the decoded image.

    from explorer import explore
    explore(model)

In a notebook with ipywidgets there is one slider per latent; anywhere else there is a still picture instead: the
decoded plane of a model with two latents, or one latent at a time along each row.
"""

import io
import sys

import matplotlib.pyplot as plt
import numpy as np
import torch

from pictures import manifold_codes

MOST_SLIDERS = 8
REACH = 3.0  # sigma of the prior, to both sides


def explore(model, latents=None):
    """Show the images that the model (any VAE of vae_paper) makes of the codes that you choose.

    latents: which to turn, at most 8, by default the first ones; the others stay at 0. A conditional model has one more
    slider, its class. Raises ValueError for latents that the model does not have.
    """
    latents = list(range(min(model.latent_dim, MOST_SLIDERS)) if latents is None else map(int, latents))
    if not 1 <= len(latents) <= MOST_SLIDERS or not set(latents) <= set(range(model.latent_dim)):
        raise ValueError(
            f"latents must be 1 to {MOST_SLIDERS} of the numbers 0 to {model.latent_dim - 1}, got {latents}"
        )
    if widgets := notebook_widgets():
        show_sliders(widgets, model, latents)
    else:
        show_picture(model, latents)


def notebook_widgets():
    """The package ipywidgets if it is installed and a notebook's kernel is running, or else None."""
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    if getattr(shell, "kernel", None) is None:
        return None
    try:
        import ipywidgets
    except ImportError:
        return None
    return ipywidgets


@torch.no_grad()
def decoded(model, z, label=0):
    """The images of codes z (..., Z): (..., H, W) in [0, 1], the first channel; label is for conditional models."""
    weight = next(model.parameters())
    z = torch.as_tensor(z, dtype=weight.dtype, device=weight.device)
    c = torch.full(z.shape[:-1], label, device=z.device).flatten() if model.num_classes else None
    return model.sample(z.flatten(0, -2), c)[:, 0].unflatten(0, z.shape[:-1]).cpu().numpy()


def show_sliders(widgets, model, latents):
    from IPython.display import display

    sliders = [
        widgets.FloatSlider(min=-REACH, max=REACH, step=0.1, description=f"z[{latent}]", readout_format="+.1f")
        for latent in latents
    ]
    label = widgets.IntSlider(max=max(model.num_classes - 1, 0), description="class")
    picture = widgets.Image(format="png", width=224)

    def draw(_=None):
        z = torch.zeros(1, model.latent_dim)
        z[0, latents] = torch.tensor([slider.value for slider in sliders])
        picture.value = as_png(decoded(model, z, label.value)[0])

    for slider in (*sliders, label):
        slider.observe(draw, names="value")
    draw()
    shown = [*sliders, label] if model.num_classes else sliders
    display(widgets.HBox([widgets.VBox(shown), picture]))


def as_png(image):
    file = io.BytesIO()
    plt.imsave(file, np.kron(image, np.ones((8, 8))), cmap="gray", vmin=0, vmax=1, format="png")
    return file.getvalue()


def show_picture(model, latents):
    """The plane of a model with two latents, or rows in which one latent goes from -3 to 3 and the others stay at 0."""
    axes = plt.figure(
        figsize=(6, 6 if model.latent_dim == 2 else 1 + 0.52 * len(latents)), layout="constrained"
    ).add_subplot()
    if model.latent_dim == 2:
        codes = manifold_codes(12)
        axes.set(title="The decoded latent plane, in steps of equal probability", xlabel="z[0]", ylabel="z[1]")
    else:
        codes = torch.zeros(len(latents), 11, model.latent_dim)
        for row, latent in enumerate(latents):
            codes[row, :, latent] = torch.linspace(-REACH, REACH, 11)
        axes.set(title="One latent at a time, the others at 0", xlabel=f"from -{REACH:.0f} to +{REACH:.0f}")
    tiles = decoded(model, codes)  # (R, C, H, W)
    rows, columns, height, width = tiles.shape
    axes.imshow(tiles.swapaxes(1, 2).reshape(rows * height, columns * width), cmap="gray", vmin=0, vmax=1)
    axes.set_xticks([])
    names = [] if model.latent_dim == 2 else [f"z[{latent}]" for latent in latents]
    axes.set_yticks((np.arange(len(names)) + 0.5) * height, names)
    plt.show()
