"""Checks of exercise 5. The references are autograd, torch.distributions and level 2's code, not the solutions."""

import numpy as np
import torch
from torch.distributions import Normal

import vae_lowlevel
from checking import Function, Misconception


def draws(rng):
    k, z = rng.integers(2, 6), rng.integers(2, 5)
    eps = rng.standard_normal((k, z))
    return {"mu": rng.standard_normal(z), "logvar": rng.standard_normal(z), "eps": eps}


def draws_and_values(rng):
    case = draws(rng)
    return case | {"values": rng.standard_normal(len(case["eps"]))}


def posteriors_and_noise(rng):
    shape = (int(rng.integers(2, 6)), int(rng.integers(2, 5)))
    return {name: torch.from_numpy(rng.standard_normal(shape)) for name in ("mu", "logvar", "eps")}


def autograd_of_the_score(mu, logvar, eps, values):
    """Draw by draw: the gradient of f(z) log q(z), with z taken as a constant."""
    mu, logvar, eps, values = (torch.tensor(array) for array in (mu, logvar, eps, values))
    rows = []
    for noise, value in zip(eps, values, strict=True):
        q = Normal(mu.clone().requires_grad_(), torch.exp(logvar / 2))
        z = (q.loc + q.scale * noise).detach()
        rows += torch.autograd.grad(value * q.log_prob(z).sum(), q.loc)
    return torch.stack(rows).numpy()


def autograd_along_the_path(mu, logvar, eps):
    """Level 2's draw and autograd: each row of the copies is one draw."""
    mu, logvar, eps = (torch.tensor(array) for array in (mu, logvar, eps))
    mu, logvar = (tensor.expand(eps.shape).clone().requires_grad_() for tensor in (mu, logvar))
    z = vae_lowlevel.reparameterize(mu, logvar, eps)
    return tuple(found.numpy() for found in torch.autograd.grad((z - 1).square().sum(), [mu, logvar]))


def sigma(logvar):
    return np.exp(logvar / 2)


def slope(mu, logvar, eps):
    return 2 * (mu + sigma(logvar) * eps - 1)


def path(mu, logvar, eps):
    s = slope(mu, logvar, eps)
    return s, s * sigma(logvar) * eps / 2


def wide_path(mu, logvar, eps):
    s = 2 * (mu + np.exp(logvar) * eps - 1)
    return s, s * np.exp(logvar) * eps


def unscaled_path(mu, logvar, eps):
    s = 2 * (mu + eps - 1)
    return s, s * sigma(logvar) * eps / 2


FUNCTIONS = [
    Function(
        "score_function_gradient",
        autograd_of_the_score,
        draws_and_values,
        [
            Misconception(
                "missing division by sigma^2",
                lambda mu, logvar, eps, values: values[:, None] * sigma(logvar) * eps,
                "you weigh with z - mu itself. In the exponent of the Gaussian this difference is measured in sigmas.",
            ),
            Misconception(
                "division by sigma only",
                lambda mu, logvar, eps, values: values[:, None] * eps,
                "your score ignores how wide q is. Differentiate (z - mu)^2 / (2 sigma^2) again: what stays below?",
            ),
            Misconception(
                "logvar taken for log sigma",
                lambda mu, logvar, eps, values: values[:, None] * eps / np.exp(logvar),
                "you treat logvar as the log of sigma; it is the log of sigma squared.",
            ),
            Misconception(
                "the variance squared",
                lambda mu, logvar, eps, values: values[:, None] * eps / sigma(logvar) ** 3,
                "you square once too often below the fraction bar. What is exp(logvar) already?",
            ),
            Misconception(
                "z instead of z - mu",
                lambda mu, logvar, eps, values: values[:, None] * (mu + sigma(logvar) * eps) / np.exp(logvar),
                "your score is large for codes far from zero. What counts is how far they are from the middle of q.",
            ),
            Misconception(
                "sigma instead of z - mu",
                lambda mu, logvar, eps, values: values[:, None] / sigma(logvar) * np.ones_like(eps),
                "your score is the same for every draw. It has to know on which side of mu the draw fell.",
            ),
            Misconception(
                "the sign",
                lambda mu, logvar, eps, values: -values[:, None] * eps / sigma(logvar),
                "it points the wrong way: moving mu towards a draw makes the draw more probable.",
            ),
            Misconception(
                "only the score",
                lambda mu, logvar, eps, values: eps / sigma(logvar),
                "this is the gradient of log q alone; its mean is zero whatever f is. Where do the values come in?",
            ),
            Misconception(
                "averaged over the draws",
                lambda mu, logvar, eps, values: (values[:, None] * eps / sigma(logvar)).mean(0),
                "the draws are averaged already. Keep them apart: the exercise wants to see their spread.",
            ),
            Misconception(
                "summed over the latents",
                lambda mu, logvar, eps, values: values * (eps / sigma(logvar)).sum(1),
                "one number per draw is left. Each latent has a mu of its own, and so a gradient of its own.",
            ),
        ],
        special=[
            (
                "an f that is the same everywhere",
                {"mu": np.zeros(2), "logvar": np.ones(2), "eps": np.array([[1.0, -2.0]]), "values": np.array([100.0])},
            )
        ],
    ),
    Function(
        "pathwise_gradient",
        autograd_along_the_path,
        draws,
        [
            Misconception(
                "std = exp(logvar)",
                wide_path,
                "your draws have the wrong spread: exp(logvar) is the variance, and a draw is scaled by sigma.",
            ),
            Misconception(
                "noise not scaled",
                unscaled_path,
                "you take the slope of f at mu + eps. The draws of q have a spread of their own, not 1.",
            ),
            Misconception(
                "the slope at mu",
                lambda mu, logvar, eps: (
                    2 * (mu - 1) * np.ones_like(eps),
                    (mu - 1) * sigma(logvar) * eps,
                ),
                "you take the slope of f at the middle of q, the same for all draws. Take it where the draw fell.",
            ),
            Misconception(
                "the missing half",
                lambda mu, logvar, eps: (slope(mu, logvar, eps), slope(mu, logvar, eps) * sigma(logvar) * eps),
                "the second is twice too large: write sigma as a power of e, and differentiate it by logvar.",
            ),
            Misconception(
                "the gradient by sigma",
                lambda mu, logvar, eps: (slope(mu, logvar, eps), slope(mu, logvar, eps) * eps),
                "the second is the derivative by sigma. The network's output is logvar: use the chain rule once more.",
            ),
            Misconception(
                "the noise forgotten",
                lambda mu, logvar, eps: (slope(mu, logvar, eps), slope(mu, logvar, eps) * sigma(logvar) / 2),
                "in the second the noise is missing. A wider q moves a draw outwards, on whichever side of mu it is.",
            ),
            Misconception(
                "the same gradient twice",
                lambda mu, logvar, eps: (slope(mu, logvar, eps), slope(mu, logvar, eps)),
                "the second is the slope of f again. By how much does z move when logvar does?",
            ),
            Misconception(
                "the forgotten factor of the square",
                lambda mu, logvar, eps: tuple(g / 2 for g in path(mu, logvar, eps)),
                "both are half of what they should be: what is the derivative of a square?",
            ),
            Misconception(
                "the sign",
                lambda mu, logvar, eps: tuple(-g for g in path(mu, logvar, eps)),
                "both point downhill. The gradient points to where f grows.",
            ),
            Misconception(
                "averaged over the draws",
                lambda mu, logvar, eps: tuple(g.mean(0) for g in path(mu, logvar, eps)),
                "the draws are averaged already. Keep them apart: the exercise wants to see their spread.",
            ),
            Misconception(
                "the wrong order",
                lambda mu, logvar, eps: path(mu, logvar, eps)[::-1],
                "the two come in the wrong order: first mu, then logvar.",
            ),
        ],
    ),
    Function(
        "reparameterize",
        vae_lowlevel.reparameterize,
        posteriors_and_noise,
        [
            Misconception(
                "std = exp(logvar)",
                lambda mu, logvar, eps: mu + torch.exp(logvar) * eps,
                "exp(logvar) is the variance. By what is standard normal noise scaled?",
            ),
            Misconception(
                "noise not scaled",
                lambda mu, logvar, eps: mu + eps,
                "every code has spread 1, however sure the encoder is. Where does logvar come in?",
            ),
            Misconception(
                "the noise ignored",
                lambda mu, logvar, eps: mu + 0,
                "the code is always the middle of q, as in a plain autoencoder. It should be a draw.",
            ),
            Misconception(
                "logvar taken for sigma",
                lambda mu, logvar, eps: mu + logvar * eps,
                "you scale by logvar itself, which may be negative. It is a logarithm: undo it first.",
            ),
            Misconception(
                "logvar taken for the variance",
                lambda mu, logvar, eps: mu + torch.sqrt(logvar) * eps,
                "you take the root of logvar, which may be negative. It is a logarithm: undo it first.",
            ),
            Misconception(
                "the sign of logvar",
                lambda mu, logvar, eps: mu + torch.exp(-logvar / 2) * eps,
                "a large logvar gives a small spread here. It should be the other way round.",
            ),
            Misconception(
                "mu scaled as well",
                lambda mu, logvar, eps: torch.exp(logvar / 2) * (mu + eps),
                "with eps = 0 the code should be mu. What is scaled, and what is only shifted?",
            ),
            Misconception(
                "detached spread",
                lambda mu, logvar, eps: mu + torch.exp(logvar / 2).detach() * eps,
                "the values are right, but no gradient reaches logvar: the encoder could never learn how sure to be.",
            ),
            Misconception(
                "noise drawn inside",
                lambda mu, logvar, eps: mu + torch.exp(logvar / 2) * torch.randn_like(mu),
                "you draw fresh noise and leave eps unused: two calls give two answers. The noise comes from outside.",
            ),
            Misconception(
                "detached middle",
                lambda mu, logvar, eps: mu.detach() + torch.exp(logvar / 2) * eps,
                "the values are right, but no gradient reaches mu. Which call cuts it off?",
            ),
            Misconception(
                "detached code",
                lambda mu, logvar, eps: (mu + torch.exp(logvar / 2) * eps).detach(),
                "the values are right, but the path to the encoder is cut: neither mu nor logvar gets a gradient.",
            ),
        ],
        special=[
            (
                "a draw without noise",
                {
                    "mu": torch.ones(1, 2).double(),
                    "logvar": torch.ones(1, 2).double(),
                    "eps": torch.zeros(1, 2).double(),
                },
            )
        ],
        gradient=True,
    ),
]
