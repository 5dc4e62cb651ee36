"""Checks of exercise 9. The references are torch.distributions and explicit loops, not the solutions."""

import math

import numpy as np
import torch
from torch.distributions import Normal, kl_divergence

from checking import Function, Misconception


def posteriors(rng):
    n, z = rng.choice(np.arange(2, 8), size=2, replace=False)  # a mean over the wrong axis has the wrong shape
    return {"mu": rng.standard_normal((n, z)), "logvar": rng.standard_normal((n, z))}


def whole_steps(rng, steps):
    """Steps before the end, and some after it."""
    count = rng.integers(8, 14)
    return np.concatenate([rng.choice(steps, count), [0.0, steps - 1.0], steps + rng.choice(steps, 3)])


def annealing(rng):
    steps = int(rng.integers(50, 200))
    return {"step": whole_steps(rng, steps).astype(np.float64), "steps": steps}


def cycling(rng):
    # Cycles of a length that is a power of two: the edges of a cycle are exact in float32 too.
    cycles, ramp = int(rng.integers(3, 6)), float(rng.choice([0.25, 0.375, 0.75]))
    steps = 64 * cycles
    return {"step": whole_steps(rng, steps).astype(np.float64), "steps": steps, "cycles": cycles, "ramp": ramp}


def kls(rng):
    n, z = rng.choice(np.arange(3, 9), size=2, replace=False)
    return {"kl": rng.exponential(rng.uniform(0.1, 1.5, z), (n, z)), "nats": float(rng.uniform(0.4, 0.7))}


def mean_kl(mu, logvar):
    mu, logvar = torch.from_numpy(mu), torch.from_numpy(logvar)
    prior = Normal(torch.zeros_like(mu), torch.ones_like(mu))
    return kl_divergence(Normal(mu, torch.exp(logvar / 2)), prior).mean(0).numpy()


def terms(mu, logvar):
    return 0.5 * (mu**2 + np.exp(logvar) - 1 - logvar)


def each_step(weight):
    """A function of one step as a function of an array of them."""

    def weights(step, *args, **kwargs):
        return np.array([weight(float(s), *args, **kwargs) for s in step], step.dtype)

    return weights


def one_linear_weight(step, steps):
    return 1.0 if step >= steps else step / steps


def one_cyclical_weight(step, steps, cycles, ramp):
    if step >= steps:
        return 1.0
    length = steps / cycles
    while step >= length:
        step -= length
    return step / (ramp * length) if step < ramp * length else 1.0


def floored(kl, nats):
    total = 0.0
    for latent in kl.T:
        average = math.fsum(latent) / len(latent)
        total += average if average > nats else nats
    return kl.dtype.type(total)


def phase(step, steps, cycles):
    return step * cycles / steps % 1


FUNCTIONS = [
    Function(
        "kl_per_latent",
        mean_kl,
        posteriors,
        [
            Misconception(
                "summed over the latents",
                lambda mu, logvar: terms(mu, logvar).sum(1),
                "this is the price of each image. Now the latents stay apart, and the images are averaged.",
            ),
            Misconception(
                "not averaged",
                lambda mu, logvar: terms(mu, logvar),
                "there is still one number for each image and latent. What does a latent cost on average?",
            ),
            Misconception(
                "summed over the images",
                lambda mu, logvar: terms(mu, logvar).sum(0),
                "the result grows with the number of images. A price per image should not.",
            ),
            Misconception(
                "one number for all",
                lambda mu, logvar: terms(mu, logvar).sum(1).mean(),
                "this is the KL of the whole code. It cannot say which latent is silent.",
            ),
            Misconception(
                "the mean posterior",
                lambda mu, logvar: terms(mu.mean(0), logvar.mean(0)),
                "you average mu and logvar first. A latent at -2 for half of the images and at 2 for the rest would "
                "then cost nothing.",
            ),
            Misconception(
                "the missing half",
                lambda mu, logvar: 2 * terms(mu, logvar).mean(0),
                "every value is twice too large. Compare with your formula of exercise 3.",
            ),
            Misconception(
                "logvar taken for log sigma",
                lambda mu, logvar: terms(mu, 2 * logvar).mean(0),
                "you treat logvar as the log of sigma; it is the log of sigma squared.",
            ),
            Misconception(
                "the mean's variance",
                lambda mu, logvar: mu.var(0),
                "how much mu varies between the images tells active from silent too, but it is not a number of nats.",
            ),
        ],
        special=[("a latent equal to the prior", {"mu": np.zeros((3, 2)), "logvar": np.zeros((3, 2))})],
    ),
    Function(
        "linear_weight",
        each_step(one_linear_weight),
        annealing,
        [
            Misconception(
                "weight above 1 after the end",
                lambda step, steps: step / steps,
                "it goes on rising when the warm-up is over. What should the objective be from then on?",
            ),
            Misconception(
                "maximum for minimum",
                lambda step, steps: np.maximum(1, step / steps),
                "your weight is never below 1. Which of the two values should win, the smaller or the larger?",
            ),
            Misconception(
                "the way down",
                lambda step, steps: np.maximum(0, 1 - step / steps),
                "the KL starts with its full weight and loses it. The start is where it does the damage.",
            ),
            Misconception(
                "back to 0 after the end",
                lambda step, steps: np.where(step < steps, step / steps, 0),
                "after the warm-up the KL is gone. What you train then is not a VAE.",
            ),
            Misconception(
                "a switch",
                lambda step, steps: np.where(step < steps, 0.0, 1.0),
                "the weight jumps from 0 to 1. It should grow by the same amount in each step.",
            ),
            Misconception(
                "always 1",
                lambda step, steps: np.ones_like(step),
                "this is no annealing: the weight does not depend on the step.",
            ),
            Misconception(
                "one step ahead",
                lambda step, steps: np.minimum(1, (step + 1) / steps),
                "`step` counts the steps that are done. Before the first one it is 0, and so is the weight.",
            ),
        ],
        special=[
            ("the first step, the middle, the end and later", {"step": np.array([0.0, 50, 100, 300]), "steps": 100})
        ],
    ),
    Function(
        "cyclical_weight",
        each_step(one_cyclical_weight),
        cycling,
        [
            Misconception(
                "cycle not restarting",
                lambda step, steps, cycles, ramp: np.minimum(1, step * cycles / steps / ramp),
                "only the first cycle is there. The second has to begin at 0 again.",
            ),
            Misconception(
                "cycles after the end",
                lambda step, steps, cycles, ramp: np.minimum(1, phase(step, steps, cycles) / ramp),
                "it goes on with its cycles when the annealing is over. Which objective should the training end with?",
            ),
            Misconception(
                "weight above 1",
                lambda step, steps, cycles, ramp: np.where(step >= steps, 1, phase(step, steps, cycles) / ramp),
                "within a cycle the weight rises above 1. What is the second part of a cycle for?",
            ),
            Misconception(
                "no plateau",
                lambda step, steps, cycles, ramp: np.where(step >= steps, 1, phase(step, steps, cycles)),
                "each cycle rises to its very end. Where does `ramp` come in?",
            ),
            Misconception(
                "the ramp multiplied",
                lambda step, steps, cycles, ramp: np.where(step >= steps, 1, phase(step, steps, cycles) * ramp),
                "a shorter ramp must be steeper. Yours is flatter, and never gets to 1.",
            ),
            Misconception(
                "back to 0 in the plateau",
                lambda step, steps, cycles, ramp: np.where(
                    step >= steps,
                    1,
                    np.where(phase(step, steps, cycles) < ramp, phase(step, steps, cycles) / ramp, 0),
                ),
                "when a ramp is done, the weight falls back to 0. In the rest of the cycle the full ELBO is trained.",
            ),
            Misconception(
                "cycles and their length mixed up",
                lambda step, steps, cycles, ramp: np.where(
                    step >= steps, 1, np.minimum(1, step % cycles / cycles / ramp)
                ),
                "you start again every `cycles` steps. How long is one cycle, if there are `cycles` of them?",
            ),
            Misconception(
                "a triangle",
                lambda step, steps, cycles, ramp: np.where(
                    step >= steps, 1, 1 - np.abs(2 * phase(step, steps, cycles) - 1)
                ),
                "your weight comes down as slowly as it went up. It should stay at the top, then drop at once.",
            ),
        ],
        special=[
            (
                "the edges of the cycles",
                {"step": np.array([0.0, 25, 49, 50, 75, 99, 100, 300]), "steps": 100, "cycles": 2, "ramp": 0.5},
            )
        ],
    ),
    Function(
        "free_bits",
        floored,
        kls,
        [
            Misconception(
                "maximum before the mean",
                lambda kl, nats: np.maximum(kl, nats).mean(0).sum(),
                "you look at each image by itself. A latent that says much about a few images and nothing about the "
                "others should not pay for more than its average.",
            ),
            Misconception(
                "minimum for maximum",
                lambda kl, nats: np.minimum(kl.mean(0), nats).sum(),
                "yours stops charging the latents that speak, and charges the silent ones. It should be the opposite.",
            ),
            Misconception(
                "sum before the maximum",
                lambda kl, nats: np.maximum(kl.mean(0).sum(), nats),
                "all latents share one allowance, and one latent can use it up. Each should have its own.",
            ),
            Misconception(
                "nats subtracted",
                lambda kl, nats: np.maximum(kl.mean(0) - nats, 0).sum(),
                "the gradient is the same, but the value is not: here a latent never costs less than its allowance.",
            ),
            Misconception(
                "silent latents dropped",
                lambda kl, nats: np.where(kl.mean(0) > nats, kl.mean(0), 0).sum(),
                "a latent below its allowance costs you nothing, so that the penalty jumps when it gets there.",
            ),
            Misconception(
                "mean over the latents",
                lambda kl, nats: np.maximum(kl.mean(0), nats).mean(),
                "the nats of the latents add up. Over what is the average?",
            ),
            Misconception(
                "mean over the wrong axis",
                lambda kl, nats: np.maximum(kl.mean(1), nats).sum(),
                "you average over the latents and sum over the images. It is the other way round.",
            ),
            Misconception(
                "the plain KL",
                lambda kl, nats: kl.mean(0).sum(),
                "this is the KL itself, whatever `nats` is.",
            ),
        ],
        special=[
            ("latents that are all silent", {"kl": np.array([[0.1, 0.05], [0.05, 0.1], [0.0, 0.1]]), "nats": 0.5}),
            ("a latent that speaks about one image only", {"kl": np.array([[4.0, 0], [0, 0], [0, 0]]), "nats": 0.5}),
        ],
    ),
]
