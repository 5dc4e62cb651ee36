"""Small models, a few images for them, and their terms by torch.distributions, for the files that test training."""

import numpy as np
import torch
from torch.distributions import Bernoulli, Normal
from torch.distributions import kl_divergence as torch_kl_divergence

import trainer
from training_images import ResidentImages
from vae_paper import VAE

LATENT_DIM = 4
SIDE = 8
SMALL = {"latent_dim": LATENT_DIM, "architecture": "mlp", "hidden_dims": (6,), "image_shape": (1, SIDE, SIDE)}


def new_model(cls=VAE, gain=1.0, **options):
    """A small model in float64 with weights that depend on nothing else; a gain moves its outputs away from zero."""
    options = SMALL | options
    if options["architecture"] == "conv":
        options.pop("hidden_dims")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = cls(**options).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(gain)
    return model


def random_batch(model, n=5, seed=0):
    """Grey images, their noise, and labels where the model takes them."""
    rng = np.random.default_rng(seed)
    x, eps = rng.random((n, *model.image_shape)), rng.standard_normal((n, model.latent_dim))
    c = torch.tensor(rng.integers(0, model.num_classes, n)) if model.num_classes else None
    return torch.tensor(x), torch.tensor(eps), c


def few_images(num_train=10, num_test=5, shape=(1, SIDE, SIDE)):
    """Random training and test images of ten classes: with a batch size of 4 an epoch has three steps, one short."""
    generator = torch.Generator().manual_seed(0)
    count = num_train + num_test
    pixels = torch.randint(0, 256, (count, *shape), dtype=torch.uint8, generator=generator)
    labels, names = torch.arange(count) % 10, tuple("0123456789")
    return tuple(
        ResidentImages(pixels[part], labels[part], class_names=names)
        for part in (slice(num_train), slice(num_train, None))
    )


def nll_and_kl(model, x, eps, c=None):
    """-log p(x|z) (N,) and the KL per latent (N, Z), by torch.distributions."""
    mu, logvar = model.encode(x, c)
    q = Normal(mu, logvar.exp().sqrt())
    logits = model.decode(q.loc + q.scale * eps, c)
    p = Bernoulli(logits=logits, validate_args=False)
    if model.options.likelihood == "gaussian":
        p = Normal(logits, torch.as_tensor(model.log_sigma).double().exp())
    return -p.log_prob(x).sum(dim=(1, 2, 3)), torch_kl_divergence(q, Normal(0.0, 1.0))


def column(*values):
    return torch.tensor(values, dtype=torch.float64)


def assert_close(got, want, tolerance=1e-12):
    assert got.shape == want.shape
    assert got.dtype == want.dtype
    torch.testing.assert_close(got, want, rtol=tolerance, atol=tolerance)


def assert_same_weights(a, b):
    assert a.state_dict().keys() == b.state_dict().keys()
    for name, tensor in a.state_dict().items():
        assert tensor.dtype == b.state_dict()[name].dtype, name
        assert torch.equal(tensor, b.state_dict()[name]), name


def without_clock(rows):
    return [{name: value for name, value in row.items() if name != "seconds"} for row in rows]


class PowerCutError(Exception):
    """The process ends here."""


def cut_after(monkeypatch, number):
    """The power goes right after the resume state is committed for the given time, before anything else is written."""
    commits, write = [], trainer.write_state

    def write_and_die(folder, state):
        write(folder, state)
        commits.append(folder)
        if len(commits) == number:
            raise PowerCutError

    monkeypatch.setattr(trainer, "write_state", write_and_die)
