"""A VAE whose log p(x) is known: a linear Gaussian one is probabilistic PCA, with its evidence, its posterior and its
maximum-likelihood solution as closed formulas. And densities of somebody else, one image and one sample at a time.
"""

import math

import torch
from torch.distributions import Bernoulli, MultivariateNormal, Normal
from torch.distributions import kl_divergence as torch_kl_divergence

from comparison import normals, seeded
from iwae import IWAE
from vae_paper import VAE

SHAPE, NUM_PIXELS, Z = (1, 2, 3), 6, 2
SIGMA = 0.5
LINEAR = {"latent_dim": Z, "architecture": "mlp", "hidden_dims": (), "image_shape": SHAPE}


def orthogonal_weight(scales=(1.5, 0.4), seed=0):
    """(6, 2) with orthogonal columns, so that the posterior has no correlation that the encoder could not have."""
    return torch.linalg.qr(normals(seed, NUM_PIXELS, Z)).Q * torch.tensor(scales, dtype=torch.float64)


def exact_encoder(weight, sigma=SIGMA):
    """q(z|x) = N(A (x - b), diag(v)), the posterior of x = W z + b + sigma noise: A (2, 6), v (2,)."""
    v = 1 / (1 + weight.square().sum(dim=0) / sigma**2)
    return v[:, None] * weight.T / sigma**2, v


def linear_model(cls=VAE, exact=True, num_classes=0, sigma=SIGMA, **options):
    """The model with an exact encoder, or with one that is wrong in mean and variance, and for each x differently."""
    classes = {"num_classes": num_classes} if num_classes else {}
    model = cls(**LINEAR, likelihood="gaussian", sigma=sigma, **classes, **options).double()
    weight, offset, of_class = orthogonal_weight(), normals(1, NUM_PIXELS), normals(2, NUM_PIXELS, num_classes)
    a, v = exact_encoder(weight)
    encoder, decoder = model.encoder, model.decoder
    with torch.no_grad():
        if sigma == "learned":
            model.log_sigma.fill_(math.log(SIGMA))
        decoder.logits.weight.copy_(torch.cat([weight, of_class], dim=1))
        decoder.logits.bias.copy_(offset)
        encoder.mu.weight.copy_(torch.cat([a, -a @ of_class], dim=1))
        encoder.mu.bias.copy_(-a @ offset)
        encoder.logvar.weight.zero_()
        encoder.logvar.bias.copy_(v.log())
        if not exact:
            encoder.mu.weight.mul_(0.8)
            encoder.mu.bias.add_(torch.tensor([0.2, -0.3]))
            encoder.logvar.weight.copy_(0.1 * normals(3, *encoder.logvar.weight.shape))
            encoder.logvar.bias.add_(torch.tensor([0.7, -0.4]))
    return model


def decoder_of(model):
    """W, b and sigma as the model's state holds them."""
    state = model.state_dict()
    weight, bias = state["decoder.logits.weight"], state["decoder.logits.bias"]
    sigma = state["log_sigma"].exp() if "log_sigma" in state else torch.tensor(model.options.sigma, dtype=torch.float64)
    return weight, bias, sigma


def evidence(model, x, c=None):
    """log p(x) = log N(x; b, W W^T + sigma^2 I), with a class the mean moved by its column: (N,) nats."""
    weight, bias, sigma = decoder_of(model)
    of_class = torch.zeros(NUM_PIXELS, dtype=torch.float64) if c is None else weight[:, Z:].T[c]
    weight = weight[:, :Z]
    covariance = weight @ weight.T + sigma**2 * torch.eye(NUM_PIXELS, dtype=torch.float64)
    return MultivariateNormal(bias + of_class, covariance).log_prob(x.flatten(1))


def exact_elbo(model, x):
    """E_q[log p(x|z)] - KL: the squared error's expectation is that at mu plus the variance that W lets through."""
    weight, bias, sigma = decoder_of(model)
    with torch.no_grad():
        mu, logvar = model.encode(x)
    error = (x.flatten(1) - bias - mu @ weight.T).square().sum(dim=1) + logvar.exp() @ weight.square().sum(dim=0)
    expected = -error / (2 * sigma**2) - NUM_PIXELS * torch.log(sigma * math.sqrt(2 * math.pi))
    prior = Normal(torch.zeros_like(mu), torch.ones_like(mu))
    return expected - torch_kl_divergence(Normal(mu, torch.exp(logvar / 2)), prior).sum(dim=1)


def images_near(model, count, seed=10):
    """Images that the model itself might have made, somewhat more spread out."""
    weight, bias, sigma = decoder_of(model)
    z, noise = 1.2 * normals(seed, count, Z), normals(seed + 1, count, NUM_PIXELS)
    return (z @ weight[:, :Z].T + bias + sigma * noise).unflatten(1, SHAPE)


def small_iwae(k=4, objective="iwae", **options):
    """A network with a bend in it, whose samples differ in weight."""
    torch.manual_seed(0)
    model = IWAE(k=k, objective=objective, latent_dim=2, hidden_dims=(5,), image_shape=SHAPE, **options).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return model


def grey_images(count, seed=0):
    return torch.rand(count, *SHAPE, generator=seeded(seed), dtype=torch.float64)


def log_p_of_pixels(model, mean, x):
    if model.options.likelihood == "bernoulli":
        return Bernoulli(logits=mean, validate_args=False).log_prob(x).sum()
    return Normal(mean, torch.exp(torch.as_tensor(model.log_sigma, dtype=x.dtype))).log_prob(x).sum()
