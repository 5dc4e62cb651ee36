"""A beta-TCVAE and a FactorVAE of 2x2 images, and what the tests of both ask of them."""

import numpy as np
import torch

from beta_tcvae import BetaTCVAE
from comparison import normals, seeded
from factor_vae import FactorVAE
from training_images import ResidentImages

TINY = {"architecture": "mlp", "hidden_dims": (8,), "image_shape": (1, 2, 2), "latent_dim": 3}


def tiny_model(name, **options):
    """A beta-TCVAE or a FactorVAE of 2x2 images in float64."""
    torch.manual_seed(0)
    if name == "BetaTCVAE":
        return BetaTCVAE(**{"dataset_size": 50} | TINY | options).double()
    return FactorVAE(**{"gamma": 7.0, "discriminator_width": 8, "discriminator_depth": 2} | TINY | options).double()


def random_batch(model, count, seed=0):
    x = torch.rand(count, *model.image_shape, generator=seeded(seed), dtype=torch.float64)
    return x, normals(seed + 1, count, *model.noise_shape)


def some_images(count):
    """Images that are all different, of 2x2 pixels."""
    pixels = np.random.default_rng(count).permutation(256)[: 4 * count].astype(np.uint8)
    return ResidentImages(torch.from_numpy(pixels).view(count, 1, 2, 2), torch.zeros(count, dtype=torch.long))


def correlated(r, latent_dim=2):
    return torch.eye(latent_dim, dtype=torch.float64).add(r * (1 - torch.eye(latent_dim, dtype=torch.float64)))
