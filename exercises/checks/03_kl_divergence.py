"""Checks of exercise 3. The references are level 1's code and torch.distributions, not the solutions."""

import numpy as np
import torch
from torch.distributions import Normal

import vae_numpy
from checking import Function, Misconception


def posteriors(rng):
    n, z = rng.integers(2, 6), rng.integers(2, 5)
    return {"mu": rng.standard_normal((n, z)), "logvar": rng.standard_normal((n, z))}


def posteriors_and_noise(rng):
    case = posteriors(rng)
    return case | {"eps": rng.standard_normal((rng.integers(3, 7), *case["mu"].shape))}


def terms(mu, logvar):
    return mu**2 + np.exp(logvar) - 1 - logvar


def monte_carlo(mu, logvar, eps):
    mu, logvar, eps = (torch.from_numpy(array) for array in (mu, logvar, eps))
    q = Normal(mu, torch.exp(logvar / 2))
    z = q.loc + q.scale * eps
    return (q.log_prob(z) - Normal(0.0, 1.0).log_prob(z)).sum(2).mean(0).numpy()


def draws(mu, logvar, eps, sigma=None):
    return mu + (np.exp(logvar / 2) if sigma is None else sigma) * eps


def log_normal(z, mu, logvar):
    return -0.5 * (np.log(2 * np.pi) + logvar + (z - mu) ** 2 / np.exp(logvar))


def estimate(z, mu, logvar, reduce=lambda r: r.sum(2).mean(0)):
    return reduce(log_normal(z, mu, logvar) - log_normal(z, 0.0, np.zeros_like(logvar)))


def gradient(mu, logvar):
    mu, logvar = (torch.from_numpy(array.copy()).requires_grad_(True) for array in (mu, logvar))
    kl = torch.distributions.kl_divergence(Normal(mu, torch.exp(logvar / 2)), Normal(torch.zeros_like(mu), 1.0)).sum()
    return tuple(found.numpy() for found in torch.autograd.grad(kl, [mu, logvar]))


FUNCTIONS = [
    Function(
        "kl_divergence",
        vae_numpy.kl_divergence,
        posteriors,
        [
            Misconception(
                "the sign",
                lambda mu, logvar: -0.5 * terms(mu, logvar).sum(1),
                "your KL is the negative of the right one, and a KL is never below zero. Which density goes first?",
            ),
            Misconception(
                "the missing half",
                lambda mu, logvar: terms(mu, logvar).sum(1),
                "every value is twice too large. Each log density of a Gaussian has a factor in front of its square.",
            ),
            Misconception(
                "mean instead of sum",
                lambda mu, logvar: 0.5 * terms(mu, logvar).mean(1),
                "you average over the latents. The nats of independent latents add up.",
            ),
            Misconception(
                "summed over the batch",
                lambda mu, logvar: 0.5 * terms(mu, logvar).sum(),
                "one number comes out for the whole batch. Keep the images apart: which axis holds the latents?",
            ),
            Misconception(
                "the wrong axis",
                lambda mu, logvar: 0.5 * terms(mu, logvar).sum(0),
                "you sum over the images, so that one number per latent is left. It should be one per image.",
            ),
            Misconception(
                "not summed",
                lambda mu, logvar: 0.5 * terms(mu, logvar),
                "there is still one number for each latent. What is the price of the whole code?",
            ),
            Misconception(
                "sigma instead of its square",
                lambda mu, logvar: 0.5 * (mu**2 + np.exp(logvar / 2) - 1 - logvar).sum(1),
                "one term holds sigma where the variance belongs. What is logvar the logarithm of?",
            ),
            Misconception(
                "logvar taken for log sigma",
                lambda mu, logvar: 0.5 * (mu**2 + np.exp(2 * logvar) - 1 - 2 * logvar).sum(1),
                "you treat logvar as the log of sigma; it is the log of sigma squared.",
            ),
            Misconception(
                "the forgotten constant",
                lambda mu, logvar: 0.5 * (mu**2 + np.exp(logvar) - logvar).sum(1),
                "try mu = 0 and sigma = 1: there the two Gaussians are the same. What must the KL be?",
            ),
            Misconception(
                "mu not squared",
                lambda mu, logvar: 0.5 * (mu + np.exp(logvar) - 1 - logvar).sum(1),
                "a code at mu = -3 is as far from the prior as one at mu = 3. Does your formula know?",
            ),
            Misconception(
                "the other way round",
                lambda mu, logvar: 0.5 * ((1 + mu**2) / np.exp(logvar) - 1 + logvar).sum(1),
                "this is KL(prior || q). The mean has to be taken over the codes that the encoder proposes.",
            ),
        ],
        special=[("a code equal to the prior", {"mu": np.zeros((2, 3)), "logvar": np.zeros((2, 3))})],
    ),
    Function(
        "kl_monte_carlo",
        monte_carlo,
        posteriors_and_noise,
        [
            Misconception(
                "std = exp(logvar)",
                lambda mu, logvar, eps: estimate(draws(mu, logvar, eps, np.exp(logvar)), mu, logvar),
                "your draws have the wrong spread: exp(logvar) is the variance, and a draw is scaled by sigma.",
            ),
            Misconception(
                "noise not scaled",
                lambda mu, logvar, eps: estimate(mu + eps, mu, logvar),
                "your draws all have spread 1. They should come from q, not from the prior moved to mu.",
            ),
            Misconception(
                "draws from the prior",
                lambda mu, logvar, eps: estimate(eps, mu, logvar),
                "you evaluate the densities at the noise itself. The mean is over codes from q.",
            ),
            Misconception(
                "the sign",
                lambda mu, logvar, eps: -estimate(draws(mu, logvar, eps), mu, logvar),
                "the difference is the wrong way round: this estimates minus the KL.",
            ),
            Misconception(
                "mean over the latents",
                lambda mu, logvar, eps: estimate(draws(mu, logvar, eps), mu, logvar, lambda r: r.mean(2).mean(0)),
                "you average over the latents. The log density of a code is the sum of its latents' log densities.",
            ),
            Misconception(
                "summed over the draws",
                lambda mu, logvar, eps: estimate(draws(mu, logvar, eps), mu, logvar, lambda r: r.sum(2).sum(0)),
                "the result grows with the number of draws. An estimate of a mean should not.",
            ),
            Misconception(
                "only log q",
                lambda mu, logvar, eps: log_normal(draws(mu, logvar, eps), mu, logvar).sum(2).mean(0),
                "this is the mean of log q alone. Where does the prior come in?",
            ),
        ],
    ),
    Function(
        "kl_gradient",
        gradient,
        posteriors,
        [
            Misconception(
                "the missing half",
                lambda mu, logvar: (2 * mu, np.exp(logvar) - 1),
                "both are twice too large: what happened to the factor in front of the sum?",
            ),
            Misconception(
                "the gradient by sigma squared",
                lambda mu, logvar: (mu.copy(), 0.5 * (1 - np.exp(-logvar))),
                "the second is the derivative by the variance, the network gives its logarithm: use the chain rule.",
            ),
            Misconception(
                "the gradient by sigma",
                lambda mu, logvar: (mu.copy(), np.exp(logvar / 2) - np.exp(-logvar / 2)),
                "the second is the derivative by sigma. The network's output is logvar: use the chain rule.",
            ),
            Misconception(
                "the sign",
                lambda mu, logvar: (-mu, -0.5 * (np.exp(logvar) - 1)),
                "both point downhill. The gradient points to where the KL grows.",
            ),
            Misconception(
                "the forgotten log",
                lambda mu, logvar: (mu.copy(), 0.5 * np.exp(logvar)),
                "your second gradient is never zero, so the spread would shrink for ever. A term of the KL is missing.",
            ),
            Misconception(
                "the wrong order",
                lambda mu, logvar: (0.5 * (np.exp(logvar) - 1), mu.copy()),
                "the two come in the wrong order: first mu, then logvar.",
            ),
        ],
    ),
]
