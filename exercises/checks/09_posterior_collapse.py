"""Checks of exercise 9. The references are torch.distributions and explicit loops, not the solutions."""

import math

import numpy as np
import torch
from torch.distributions import Normal, kl_divergence

from checking import Function, Special
from formulas import sums_and_means
from mistakes import read_logvar, variance_in_kl

# --- Inputs ----------------------------------------------------------------------------------------------------------


def posteriors(rng):
    n, z = rng.permutation([2, 3, 4, 5, 6, 7])[:2]
    return {"mu": rng.standard_normal((n, z)), "logvar": rng.standard_normal((n, z))}


def annealing(rng):
    steps = 2 * int(rng.integers(25, 100)) + 1
    before = np.append(rng.integers(0, steps, rng.integers(6, 11)), [0, steps - 1])
    after = np.append(steps + rng.integers(1, 3 * steps, 3), steps)
    both = np.concatenate([before, after])
    step = rng.permutation([before, both, both, both, both, after][rng.integers(6)])
    return {"step": step.astype(float), "steps": steps}


def cycling(rng):
    case = annealing(rng)
    step, steps, cycles = case["step"], case["steps"], int(rng.integers(3, 7))
    step = step[(step * cycles % steps != 0) | (step == 0) | (step >= steps)]  # at an edge every rounding error counts
    return {"step": step, "steps": steps, "cycles": cycles, "ramp": float(rng.choice([0.25, 0.375, 0.6, 0.75]))}


def kls(rng):
    n, z = rng.permutation([3, 4, 5, 6, 7, 8])[:2]
    return {"kl": rng.exponential(rng.uniform(0.1, 1.5, z), (n, z)), "nats": float(rng.uniform(0.4, 0.7))}


# --- References ------------------------------------------------------------------------------------------------------


def mean_kl(mu, logvar):
    mu, logvar = torch.from_numpy(mu), torch.from_numpy(logvar)
    prior = Normal(torch.zeros_like(mu), torch.ones_like(mu))
    return kl_divergence(Normal(mu, torch.exp(logvar / 2)), prior).mean(0).numpy()


def each_step(weight):
    """A function of one step as a function of an array of them."""
    return lambda step, *schedule: np.array([weight(float(each), *schedule) for each in step])


def one_linear_weight(step, steps):
    return 1.0 if step >= steps else step / steps


def one_cyclical_weight(step, steps, cycles, ramp):
    if step >= steps:
        return 1.0
    length = steps / cycles
    while step >= length:
        step -= length
    return min(1.0, step / (ramp * length))


def floored(kl, nats):
    total = 0.0
    for latent in kl.T:
        average = math.fsum(latent) / len(latent)
        total += average if average > nats else nats
    return total


# --- What may be done instead ----------------------------------------------------------------------------------------


def per_latent_model(choose, mu, logvar):
    moments = mu.mean(0, keepdims=True), logvar.mean(0, keepdims=True)
    spread = np.log(np.exp(logvar).mean(0, keepdims=True) + mu.var(0))
    mu, logvar = choose(
        (mu, logvar),
        ("the mean posterior", moments,
         "you average mu and logvar first. A latent at -2 for half of the images and at 2 for the rest would then "
         "cost nothing."),
        ("all posteriors as one Gaussian", (moments[0], spread),
         "you compare one Gaussian for all images with the prior. First the price of each image, then the mean."),
        ("the spread of mu for sigma", (moments[0], np.log(mu.var(0, keepdims=True))),
         "you take how much mu varies for the spread of q. Each image has a spread of its own: logvar."),
        ("the mean of mu", (moments[0] + 0 * mu, logvar),
         "you average mu before you square it: images on both sides of zero then cost nothing."),
        ("the mean of logvar", (mu, moments[1] + 0 * mu),
         "you average logvar first. Each image has a spread of its own."),
    )  # fmt: skip
    log_variance = read_logvar(choose, logvar)
    twice = ("the variance not halved", 2 * np.exp(log_variance), "one term lacks the half that the others have.")
    variance = variance_in_kl(choose, log_variance, twice)
    squares = choose(
        mu**2,
        ("mu not squared", mu, "a code at mu = -3 is as far from the prior as one at mu = 3. Does your formula know?"),
        ("the absolute value of mu", np.abs(mu), "being twice as far away costs more than twice as much."),
        ("mu^2 not halved", 2 * mu**2, "one term lacks the half that the others have."),
        ("mu^2 times the variance", mu**2 * variance, "how wide q is has no part in the price of mu."),
        ("mu times the variance", mu * variance, "how wide q is has no part in the price of mu."),
        ("no mu", 0 * mu, "your price does not depend on mu. A latent far from the prior should be dear."),
        ("the sign of mu squared", -(mu**2), "a latent far from the prior is cheap in yours. It should be dear."),
    )
    logarithm = choose(
        log_variance,
        ("the sign of the logarithm", -log_variance,
         "try mu = 0 and two values of sigma, one small and one large: a KL is never below zero."),
        ("no logarithm", 0 * logvar, "the narrower a latent is, the cheaper it is in yours. A term is missing."),
        ("the logarithm not halved", 2 * log_variance, "one term lacks the half that the others have."),
        ("the logarithm of the mean variance", np.log(np.exp(log_variance).mean(0, keepdims=True)),
         "one logarithm is that of a mean. First the price of each image, then the mean."),
        ("the logarithm of sigma", log_variance / 2,
         "one term holds the log of sigma where that of the variance belongs."),
        ("the absolute value of the logarithm", np.abs(log_variance),
         "a logarithm may be negative: which sign has it for a narrow Gaussian?"),
        ("the logarithm of logvar", np.log(log_variance), "logvar is a logarithm already."),
    )  # fmt: skip
    constant = choose(
        1.0,
        ("the forgotten constant", 0.0,
         "try mu = 0 and sigma = 1: there a latent is equal to the prior. What must it cost?"),
        ("the constant not halved", 2.0,
         "try mu = 0 and sigma = 1: there a latent is equal to the prior. What must it cost?"),
        ("the sign of the constant", -1.0,
         "try mu = 0 and sigma = 1: there a latent is equal to the prior. What must it cost?"),
    )  # fmt: skip
    whole = choose(
        squares + variance - constant - logarithm,
        ("the other way round", (1 + mu**2) / variance - 1 + log_variance,
         "this is KL(prior || q). The mean has to be taken over the codes that the encoder proposes."),
    )  # fmt: skip
    kl = whole * choose(
        0.5,
        ("the missing half", 1.0, "every value is twice too large. Compare with your formula of exercise 3."),
        ("the sign", -0.5, "your KL is the negative of the right one, and a KL is never below zero."),
        ("half of a half", 0.25, "every value is half of what it should be."),
    )
    return choose(
        lambda: kl.mean(0),
        ("summed over the images", lambda: kl.sum(0),
         "the result grows with the number of images. A price per image should not."),
        ("summed over the latents", lambda: kl.sum(1),
         "this is the price of each image. Now the latents stay apart, and the images are averaged."),
        ("averaged over the latents", lambda: kl.mean(1), "you average over the latents. Which axis holds the images?"),
        ("not averaged", lambda: kl,
         "there is still one number for each image and latent. What does a latent cost on average?"),
        ("the KL of the whole code", lambda: kl.sum(1).mean(),
         "this is the KL of the whole code. It cannot say which latent is silent."),
        ("one mean for all latents", lambda: kl.mean(),
         "one number cannot say which latent is silent. Keep them apart."),
        ("one sum for all latents", lambda: kl.sum(), "one number cannot say which latent is silent. Keep them apart."),
        ("kept as a row", lambda: kl.mean(0, keepdims=True),
         "the values are right, their shape is not: one number per latent makes (Z,)."),
        ("divided by the latents", lambda: kl.sum(0) / kl.shape[1],
         "you divide by the number of latents. How many numbers do you add?"),
        ("divided by one image less", lambda: kl.sum(0) / (len(kl) - 1),
         "you divide by the number of images minus one. That belongs to a variance."),
        ("the median", lambda: np.median(kl, 0), "you take the median of the images. The text asks for their mean."),
        ("the middle of the range", lambda: (kl.max(0) + kl.min(0)) / 2,
         "you take the middle between the dearest and the cheapest. The text asks for the mean."),
        ("the root of the mean square", lambda: np.sqrt((kl**2).mean(0)), "you take another mean than the plain one."),
        ("the geometric mean", lambda: np.exp(np.log(kl).mean(0)), "you take another mean than the plain one."),
        ("the harmonic mean", lambda: 1 / (1 / kl).mean(0), "you take another mean than the plain one."),
        ("every second image", lambda: kl[::2].mean(0), "only every second image counts in your mean."),
        ("images and latents mixed up", lambda: kl.T.reshape(kl.shape).mean(0),
         "reshaping does not ask which image a number belongs to."),
        ("the largest image", lambda: kl.max(0), "you look at the dearest image only. The text asks for the mean."),
        ("the smallest image", lambda: kl.min(0), "you look at the cheapest image only. The text asks for the mean."),
        ("the first image", lambda: kl[0], "you look at the first image only."),
        ("the last image", lambda: kl[-1], "you look at the last image only."),
        ("the last image, divided by all", lambda: kl[-1] / len(kl),
         "only the last image is left in your sum: is something overwritten?"),
        ("divided by 64", lambda: kl.sum(0) / 64, "you divide by a number that is none of the sizes of this batch."),
        ("without the first latent", lambda: kl.mean(0)[1:], "the first latent is missing."),
        ("without the last latent", lambda: kl.mean(0)[:-1], "the last latent is missing."),
        ("0 for the last latent", lambda: np.append(kl.mean(0)[:-1], 0),
         "the last latent is 0 in yours: where does the range end?"),
        ("0 for silent latents", lambda: np.where(kl.mean(0) > 0.1, kl.mean(0), 0),
         "a latent that costs little costs nothing in yours."),
        ("active or not", lambda: kl.mean(0) > 0.1, "you say which latents are active. What does each cost?"),
        ("half of the images", lambda: kl[: max(len(kl) // 2, 1)].mean(0),
         "only the first half of the images counts in your mean."),
        ("every new image for half", lambda: each_for_half(kl),
         "your running mean gives every new image the same weight as all those before it."),
        ("without the first image", lambda: kl[1:].sum(0) / (len(kl) - 1),
         "the first image does not count in your mean."),
        ("without the last image", lambda: kl[:-1].sum(0) / (len(kl) - 1),
         "the last image does not count in your mean."),
        ("the spread over the images", lambda: kl.std(0),
         "you measure how much the KL varies between the images. What is it on average?"),
        ("the variance of mu", lambda: mu.var(0),
         "how much mu varies between the images tells active from silent too, but it is no number of nats."),
        ("the spread of mu", lambda: mu.std(0),
         "how much mu varies between the images tells active from silent too, but it is no number of nats."),
        ("places by price", lambda: np.argsort(kl.mean(0)), "these are places, not nats."),
        ("places by price, the dearest first", lambda: np.argsort(-kl.mean(0)), "these are places, not nats."),
        ("added up over the latents", lambda: np.cumsum(kl.mean(0)),
         "you add up the latents from the first on. Keep them apart."),
        ("less the cheapest", lambda: kl.mean(0) - kl.mean(0).min(),
         "the price of the cheapest latent has been taken off."),
        ("compared with the dearest", lambda: kl.mean(0) / kl.mean(0).max(),
         "these are shares of the dearest latent's price. How many nats does a latent cost?"),
        ("rounded to tenths", lambda: np.round(kl.mean(0), 1), "the values are rounded."),
        ("shares of the sum", lambda: kl.mean(0) / kl.mean(0).sum(),
         "these are shares of the whole price. How many nats does a latent cost?"),
        ("the dearest first", lambda: -np.sort(-kl.mean(0)), "the order of the latents is lost."),
    )()  # fmt: skip


def each_for_half(kl):
    average = kl[0]
    for image in kl[1:]:
        average = (average + image) / 2
    return average


def per_latent_terms(mu, logvar):
    variance = np.exp(logvar)
    parts = {
        "mu": mu, "mu^2": mu**2, "|mu|": np.abs(mu), "sigma": np.sqrt(variance), "sigma^2": variance,
        "sigma^4": variance**2, "1/sigma": variance**-0.5, "1/sigma^2": 1 / variance, "mu^2/sigma^2": mu**2 / variance,
        "mu^2 sigma^2": mu**2 * variance, "log sigma^2": logvar, "(log sigma^2)^2": logvar**2,
    }  # fmt: skip
    terms = sums_and_means(parts, axis=0)
    terms |= {"N": terms.pop("Z"), "mean(mu)^2": mu.mean(0) ** 2, "mean(sigma)^2": np.sqrt(variance).mean(0) ** 2}
    return terms | {"exp(mean(log sigma^2))": np.exp(logvar.mean(0)), "log mean(sigma^2)": np.log(variance.mean(0))}


def counted(choose, step):
    """The steps done, in both schedules."""
    return choose(
        step,
        ("one step ahead", step + 1,
         "`step` counts the steps that are done. Before the first one it is 0, and so is the weight."),
        ("one step behind", step - 1, "`step` counts the steps that are done. At which one is the weight 0?"),
        ("one step behind, but not below 0", np.maximum(step - 1, 0), "the weight is 0 at step 0 and at step 1."),
        ("the place in the array from 1 on", np.arange(len(step)) + 1,
         "your weight depends on where a step stands in the array, not on the step."),
        ("the steps added up", np.cumsum(step), "you add up the steps. Each of them is a count already."),
        ("the place in the array", np.arange(len(step)),
         "your weight depends on where a step stands in the array, not on the step."),
    )  # fmt: skip


def the_end(choose, step, steps):
    """The number of steps, in both schedules."""
    asked = "the schedule ends at `steps`, whichever steps you are asked about."
    return choose(
        steps,
        ("one step too few", steps - 1, "your schedule is one step too short. At which step does it end?"),
        ("one step too many", steps + 1, "your schedule is one step too long. At which step does it end?"),
        ("the largest step for the end", step.max(), asked),
        ("the last step in the array for the end", step[-1], asked),
        ("the number of values for the end", len(step), asked),
        ("the end not before the largest step", max(steps, step.max()), asked),
        ("the end not before the last step in the array", max(steps, step[-1]), asked),
        ("always a hundred steps", 100, "your number of steps is fixed. Where does `steps` come in?"),
        ("always a thousand steps", 1000, "your number of steps is fixed. Where does `steps` come in?"),
        ("twice the length", 2 * steps, "your schedule takes twice as long as it should."),
        ("half the length", steps / 2, "your schedule is over when half of the steps are done."),
    )  # fmt: skip


BENT = "the weight should grow by the same amount in each step."
CURVES = {
    "a square": np.square,
    "a cube": lambda share: share**3,
    "a root": np.sqrt,
    "a cosine": lambda share: (1 - np.cos(np.pi * share)) / 2,
    "a quarter of a cosine": lambda share: 1 - np.cos(np.pi / 2 * share),
    "a quarter of a sine": lambda share: np.sin(np.pi / 2 * share),
    "a sigmoid": lambda share: 1 / (1 + np.exp(-12 * (share - 0.5))),
    "a sigmoid, less steep": lambda share: 1 / (1 + np.exp(-10 * (share - 0.5))),
    "a smooth step": lambda share: share**2 * (3 - 2 * share),
    "a decay": lambda share: 1 - np.exp(-share),
    "a decay, five times as fast": lambda share: 1 - np.exp(-5 * share),
    "an exponential": lambda share: np.expm1(share) / np.expm1(1),
    "a logarithm": lambda share: np.log1p(share) / np.log(2),
    "an exponential of base 10": lambda share: (10**share - 1) / 9,
    "a falling exponential": lambda share: np.exp(-share),
    "tanh": np.tanh,
}


def bent(choose):
    """The weight at a share of the way up: that share, or what else rises."""
    return choose(lambda share: share, *((name, curve, f"your weight bends: {BENT}") for name, curve in CURVES.items()))


def linear_model(choose, step, steps):
    done, end = counted(choose, step), the_end(choose, step, steps)
    share = choose(
        done / end,
        ("the logarithms divided", np.log1p(done) / np.log1p(end), f"your weight bends: {BENT}"),
        ("divided by the sum of the steps", done / done.sum(), "the weight of a step does not depend on the others."),
        ("upside down", end / done, "what is divided by what?"),
        ("counted in steps", done, "you count in steps. What is the weight after half of them?"),
    )
    way = bent(choose)
    curve = way(share)
    after_all = "What should the objective be when the warm-up is over?"
    rise = choose(
        curve,
        ("silent before the end", 0 * share,
         "the weight jumps from 0 to 1. It should grow by the same amount in each step."),
        ("1 before the end", np.ones(len(step)), "before the end your weight is 1, and does not grow."),
        ("falling before the end", 1 - curve,
         "the KL starts with its full weight and loses it. The start is where it does the damage."),
        ("up and down before the end", 1 - np.abs(2 * share - 1), "your weight comes down before the warm-up is over."),
        ("silent in the first half", np.maximum(0, 2 * share - 1),
         "your weight is 0 until half of the steps are done."),
        ("0 again at the end itself", share % 1, "what is the weight at step `steps` itself?"),
        ("from 1/2 to 1", 0.5 + curve / 2, "what is the weight at step 0?"),
    )  # fmt: skip
    after = choose(
        1.0,
        ("rising after the end", curve, f"it goes on rising. {after_all}"),
        ("0 after the end", 0.0, f"after the warm-up the KL is gone. {after_all}"),
        ("the number of steps after the end", end, f"the weight of a loss is no number of steps. {after_all}"),
        ("the step itself after the end", done, f"the weight of a loss is no number of steps. {after_all}"),
        ("starting again after the end", share % 1, f"after the warm-up it starts again. {after_all}"),
        ("rising again after the end", np.minimum(1, share - 1), f"after the warm-up it starts again. {after_all}"),
        ("falling after the end", np.maximum(0, 2 - share), f"after the warm-up the weight falls again. {after_all}"),
        ("falling below 0 after the end", 2 - share, f"after the warm-up the weight falls again. {after_all}"),
        ("the curve's last value after the end", way(1.0), f"your curve does not end at 1. {after_all}"),
        ("1/2 after the end", 0.5, f"your weight stays at 1/2. {after_all}"),
    )  # fmt: skip
    apart = "Each step has its own weight."
    over = choose(
        share >= 1,
        ("the end itself counted as before the end", share > 1, "what is the weight at step `steps` itself?"),
        ("over for all steps if for one", np.full(len(step), (step >= end).any()),
         f"you decide once for the whole array. {apart}"),
        ("over for all steps or for none", np.full(len(step), (step >= end).all()),
         f"you decide once for the whole array. {apart}"),
        ("over when half of the steps are done", share >= 0.5, "your warm-up is over too early."),
    )  # fmt: skip
    weight = choose(
        np.where(over, after, rise),
        ("before and after exchanged", np.where(over, rise, after), "which of the two values belongs to which steps?"),
        ("a number of steps", np.minimum(done, end),
         "the weight of a loss is no number of steps. What is it at the end?"),
        ("a division without a rest", np.floor(share), "the weight jumps: what stands behind the point?"),
    )  # fmt: skip
    return choose(
        weight,
        ("whole numbers if the first weight is one", np.floor(weight) if weight[0] == 1 else weight,
         "the type of the first value decides for all: an integer?"),
        ("in tenths", np.floor(10 * weight) / 10, "your weight is a staircase."),
        ("in fifths", np.floor(5 * weight) / 5, "your weight is a staircase."),
        ("in quarters", np.floor(4 * weight) / 4, "your weight is a staircase."),
        ("in halves", np.floor(2 * weight) / 2, "your weight is a staircase."),
        ("rounded to tenths", np.round(weight, 1), "your weight is rounded."),
        ("without the last step", weight[:-1], "the last step of the array has no weight: where does the range end?"),
        ("one 1 for all steps", 1.0, f"one number comes out. {apart}"),
        ("the way down", 1 - weight,
         "the KL starts with its full weight and loses it. The start is where it does the damage."),
        ("the smallest weight for all steps", weight.min(), f"one number comes out. {apart}"),
        ("the largest weight for all steps", weight.max(), f"one number comes out. {apart}"),
        ("the weight of the first step for all", weight[0], f"one number comes out. {apart}"),
        ("from 0 to 1 along the array", np.linspace(0, 1, len(step)),
         "your weight depends on where a step stands in the array, not on the step."),
        ("the order of the steps lost", np.sort(weight), "the weights come in order of size: whose are they then?"),
    )  # fmt: skip


def linear_terms(step, steps):
    t = step / steps
    return {
        "min(1, t)": np.minimum(1, t), "t": t, "t^2": t**2, "sqrt(t)": np.sqrt(t), "t after the end": t * (t >= 1),
        "1 after the end": t >= 1, "1": 1.0,
    }  # fmt: skip


def cyclical_terms(step, steps, cycles, ramp):
    t = step / steps
    p = t * cycles % 1
    weight = np.minimum(1, p / ramp)
    parts = {
        "w": weight, "p": p, "p/ramp": p / ramp, "p in the ramp": p * (p < ramp), "1 after the ramp": p >= ramp,
        "t": t, "1": 1.0 + 0 * t,
    }  # fmt: skip
    parts |= {f"ramp {name}" if name != "1" else "ramp": ramp * part for name, part in parts.items()}
    return {f"{name} before the end": part * (t < 1) for name, part in parts.items()} | {"1 after the end": t >= 1}


def cyclical_model(choose, step, steps, cycles, ramp):
    done, end = counted(choose, step), the_end(choose, step, steps)
    end = choose(
        end,
        ("`cycles` times all the steps", end * cycles, "each of your cycles takes as many steps as there are for all."),
    )
    cycles, ramp = choose(
        (cycles, ramp),
        ("cycles and ramp exchanged", (ramp, cycles), "`cycles` and `ramp` are exchanged."),
    )
    number = choose(
        cycles,
        ("one cycle too many", cycles + 1, "count your cycles: there is one too many."),
        ("one cycle too few", max(cycles - 1, 0.5), "count your cycles: there is one too few."),
        ("one cycle only", 1, "there is one long cycle. Where does `cycles` come in?"),
        ("twice as many cycles", 2 * cycles, "count your cycles: there are twice as many."),
        ("half as many cycles", cycles / 2, "count your cycles: there are half as many."),
        ("always four cycles", 4, "your number of cycles is fixed. Where does `cycles` come in?"),
        ("always five cycles", 5, "your number of cycles is fixed. Where does `cycles` come in?"),
    )
    rest = "your cycles are a whole number of steps long. Do they fill all steps if that division leaves a rest?"
    length = choose(
        lambda: end / number,
        ("a cycle rounded down", lambda: max(end // number, 1), rest),
        ("a cycle rounded up", lambda: -(-end // number), rest),
        ("a cycle rounded", lambda: max(np.round(end / number), 1), rest),
        ("a cycle rounded down, and one step more", lambda: end // number + 1,
         "your cycles are too long. How many of them do you get?"),
        ("a cycle one step too long", lambda: end / number + 1, "your cycles are one step too long."),
        ("a cycle one step too short", lambda: max(end / number - 1, 0.5), "your cycles are one step too short."),
        ("cycles and their length mixed up", lambda: number,
         "you start again every `cycles` steps. How long is one cycle, if there are `cycles` of them?"),
        ("steps times cycles", lambda: end * number,
         "a cycle longer than all steps together? More cycles must be shorter ones."),
        ("the length without the plateau", lambda: end / number * ramp,
         "the next cycle begins when the ramp is done. There is a second part."),
        ("the ramp for the length", lambda: end * ramp,
         "a cycle is as long as `ramp` of all steps in yours. Where do the cycles come in?"),
        ("a plateau after the cycle", lambda: end / number * (1 + ramp),
         "the ramp is a part of the cycle. Your cycles are longer than they should be."),
        ("one step each", lambda: 1,
         "your cycles are one step long: how long are they, if there are `cycles` of them in `steps`?"),
    )()  # fmt: skip
    turns = done / length
    into = done % length
    phase = choose(
        lambda: turns % 1,
        ("not restarting", lambda: turns, "only the first cycle is there. The second has to begin at 0 again."),
        ("an edge belongs to the cycle before", lambda: np.where((turns % 1 == 0) & (turns > 0), 1, turns % 1),
         "which cycle does a step belong to that ends one and begins the next?"),
        ("the number of the cycle", lambda: np.floor(turns),
         "this is the number of the cycle. How far into it is the step?"),
        ("counted in steps", lambda: into, "you count the steps in the cycle. Which fraction of it is that?"),
        ("the fraction of all steps", lambda: into / steps,
         "how far into its cycle a step is must be a fraction of that cycle, not of all steps."),
        ("divided by the number of cycles", lambda: into / cycles,
         "how far into its cycle a step is must be a fraction of that cycle: what is its length?"),
        ("two lengths", lambda: into / (steps / cycles), "the length of a cycle comes in twice. Are both the same?"),
        ("the last step of a cycle for its end", lambda: into / max(length - 1, 0.5),
         "the last step of a cycle is not its end: the next one begins a step later."),
        ("whole steps, and the last of a cycle for its end", lambda: np.floor(into) / max(steps // cycles - 1, 1),
         "the last step of a cycle is not its end: the next one begins a step later."),
        ("one step further in each cycle", lambda: (into + 1) / length,
         "the first step of a cycle is at its beginning."),
        ("whole steps in a cycle", lambda: np.floor(into) / length,
         "the step in its cycle is rounded down to a whole one."),
        ("what is left of the cycle", lambda: 1 - turns % 1, "the weight falls in each cycle."),
        ("every second cycle backwards", lambda: 1 - np.abs(1 - turns % 2),
         "every second cycle runs backwards. After a cycle it drops to 0 at once."),
        ("a start at every second cycle only", lambda: turns % 2, "every second cycle is missing."),
        ("a start after every ramp", lambda: turns % ramp,
         "the next cycle begins when the ramp is done. There is a second part."),
        ("half a cycle ahead", lambda: (turns + 0.5) % 1, "your cycles do not begin at step 0."),
        ("a sine wave", lambda: np.abs(np.sin(np.pi * turns)), f"it swings in yours: {BENT}"),
        ("a cosine wave", lambda: (1 - np.cos(2 * np.pi * turns)) / 2, f"it swings in yours: {BENT}"),
    )()  # fmt: skip
    part = choose(
        lambda: ramp,
        ("no plateau", lambda: 1, "each cycle rises to its very end. Where does `ramp` come in?"),
        ("the ramp multiplied", lambda: 1 / ramp,
         "a shorter ramp must be steeper. Yours is flatter, and never gets to 1."),
        ("the rest for the ramp", lambda: 1 - ramp,
         "your weight rises for as long as it should stay at 1, and the other way round."),
        ("the ramp in steps", lambda: ramp * steps,
         "`ramp` is a fraction of the cycle. Which unit has what you divide by it?"),
        ("the ramp in steps of the cycle", lambda: ramp * steps / cycles,
         "two units meet: one is a fraction of the cycle, the other a number of steps."),
        ("the ramp divided by the cycles", lambda: ramp / cycles, "`ramp` is a fraction of the cycle already."),
        ("the ramp squared", lambda: ramp**2, "`ramp` comes in twice."),
        ("half the ramp", lambda: ramp / 2, "your ramp is half as long as it should be."),
        ("always half a cycle", lambda: 0.5, "your ramp has a fixed length. Where does `ramp` come in?"),
        ("the ramp one step shorter", lambda: max(ramp - cycles / steps, 1e-9),
         "the first part of a cycle is a step too short in yours."),
        ("the ramp one step longer", lambda: ramp + cycles / steps,
         "the first part of a cycle is a step too long in yours."),
        ("the ramp in whole steps", lambda: max(np.floor(ramp * length), 1) / length,
         "your ramp is a whole number of steps long. Why round it?"),
        ("the ramp in whole steps, rounded", lambda: max(np.round(ramp * length), 1) / length,
         "your ramp is a whole number of steps long. Why round it?"),
    )()  # fmt: skip
    share = phase / part
    way = bent(choose)
    curve = way(share)
    jump = "the weight jumps when the ramp is done. At which value does a linear rise end there?"
    rise = choose(
        lambda: curve,
        ("a rise to ramp", lambda: phase, jump),
        ("a rise to the square of ramp", lambda: phase * ramp, jump),
        ("silent in the first part", lambda: 0 * phase, f"the weight jumps: {BENT}"),
        ("no rise at all", lambda: 1 + 0 * phase, "your weight does not grow within a cycle. This is no annealing."),
        ("falling in the first part", lambda: 1 - curve,
         "in each cycle the weight falls. The start is where the KL does the damage."),
        ("a later start not at 0", lambda: np.where(turns >= 1, 0.5 + curve / 2, curve),
         "only the first cycle begins at 0. Each should."),
    )()  # fmt: skip
    plateau = choose(
        lambda: 1.0,
        ("weight above 1", lambda: curve,
         "within a cycle the weight rises above 1. What is the second part of a cycle for?"),
        ("the curve's last value in the plateau", lambda: way(1.0),
         "your curve does not end at 1. Where should the weight stay?"),
        ("back to 0 in the plateau", lambda: 0.0,
         "when a ramp is done, the weight falls back to 0. In the rest of the cycle the full ELBO is trained."),
        ("a plateau at ramp", lambda: ramp, "your weight stays at `ramp`. It should get to 1."),
        ("down in the second part", lambda: (1 - phase) / (1 - part),
         "in the second part of a cycle your weight comes down. It should stay."),
        ("down in the second part as it came up", lambda: np.maximum(0, 2 - share),
         "in the second part of a cycle your weight comes down. It should stay."),
        ("up again in the second part", lambda: share % 1,
         "when a ramp is done, the next begins at once. What is the second part of a cycle for?"),
        ("a rise in the second part", lambda: (phase - part) / (1 - part),
         "the second part of a cycle rises in yours. It should stay."),
        ("the phase for the plateau", lambda: phase, "the second part of a cycle rises in yours. It should stay."),
    )()  # fmt: skip
    first = choose(
        lambda: phase < part,
        ("one part for the whole array", lambda: np.full(len(step), (phase < part).all()),
         "you decide once for the whole array. Each step has its own weight."),
        ("the plateau first", lambda: phase >= 1 - part, "the two parts of a cycle come in the wrong order."),
    )()  # fmt: skip
    within = choose(
        lambda: np.where(first, rise, plateau),
        ("the two parts exchanged", lambda: np.where(first, plateau, rise), "the two parts of a cycle are exchanged."),
        ("silent, then a rise", lambda: np.maximum(0, phase - part) / (1 - part),
         "the weight is 0 in the first part and rises in the second. Which part rises?"),
        ("silent, then the ramp", lambda: np.maximum(0, phase - (1 - part)) / part,
         "the ramp comes at the end of the cycle in yours."),
        ("below 0, then the ramp", lambda: 1 - (1 - phase) / part, "the ramp comes at the end of the cycle in yours."),
        ("cycles shared among each other", lambda: np.minimum(1, share) / number,
         "how high a cycle goes does not depend on how many there are."),
        ("1, then the ramp", lambda: np.where(phase < 1 - part, 1, (phase - (1 - part)) / part),
         "the ramp comes at the end of the cycle in yours."),
        ("never above ramp", lambda: np.minimum(ramp, phase), "your weight stays at `ramp`. It should get to 1."),
        ("a triangle", lambda: 1 - np.abs(2 * phase - 1),
         "your weight comes down as slowly as it went up. It should stay at the top, then drop at once."),
        ("a triangle within the ramp", lambda: np.maximum(0, 1 - np.abs(2 * share - 1)),
         "your weight comes down before the ramp is done."),
        ("higher with each cycle", lambda: (np.floor(turns) + np.minimum(1, share)) / number,
         "each cycle begins where the last one ended. It has to begin at 0."),
        ("a higher top in each cycle", lambda: (np.floor(turns) + 1) / number * np.minimum(1, share),
         "your cycles differ in their height. Each goes from 0 to 1."),
        ("a lower top in each cycle", lambda: np.minimum(1, share) / (np.floor(turns) + 1),
         "your cycles differ in their height. Each goes from 0 to 1."),
        ("a linear warm-up", lambda: done / end, "this is the first remedy. Where do the cycles come in?"),
        ("the whole way down", lambda: np.maximum(0, 1 - share),
         "in each cycle the weight falls. The start is where the KL does the damage."),
    )()  # fmt: skip
    cycle_of_end = np.floor(step / length) >= number
    once = "you decide once for the whole array. Each step has its own weight."
    over = choose(
        lambda: step >= end,
        ("the end itself counted with the cycles", lambda: step > end,
         "the cycles take the steps before `steps`. What is the weight when that many are done?"),
        ("cycles after the end", lambda: np.zeros(len(step), bool),
         "it goes on with its cycles when the annealing is over. Which objective should the training end with?"),
        ("over at the end itself only", lambda: step == end,
         "it goes on with its cycles when the annealing is over. Which objective should the training end with?"),
        ("over one step early", lambda: step >= end - 1, "your last cycle is a step too short."),
        ("over one cycle early", lambda: step >= end - length, "count your cycles: the last one is missing."),
        ("over one cycle late", lambda: step >= end + length, "count your cycles: there is one after the end."),
        ("over after `cycles` steps", lambda: step >= cycles, "you compare a number of steps with a number of cycles."),
        ("over when the cycles are counted", lambda: cycle_of_end,
         "you count cycles to find the end. Is it where it should be?"),
        ("over for all steps if for one", lambda: np.full(len(step), (step >= end).any()), once),
        ("over for all steps or for none", lambda: np.full(len(step), (step >= end).all()), once),
    )()  # fmt: skip
    objective = "Which objective should the training end with?"
    after = choose(
        lambda: 1.0,
        ("0 after the end", lambda: 0.0, f"after the annealing the KL is gone. {objective}"),
        ("ramp after the end", lambda: ramp, f"your weight stays at `ramp`. {objective}"),
        ("the last step goes on", lambda: np.minimum(1, (steps - 1) / length % 1 / part),
         "after the end you hold the weight of the last step before it. Is that 1 for any `ramp`?"),
        ("rising after the end", lambda: done / end, f"it rises above 1 when the annealing is over. {objective}"),
        ("a warm-up after the end", lambda: np.minimum(1, (done - end) / end),
         f"after the annealing another warm-up begins. {objective}"),
        ("the number of cycles after the end", lambda: cycles, f"your weight is a number of cycles. {objective}"),
        ("1/2 after the end", lambda: 0.5, f"your weight stays at 1/2. {objective}"),
        ("NaN after the end", lambda: np.nan, f"your weight is no number there. {objective}"),
    )()  # fmt: skip
    weight = choose(
        lambda: np.where(over, after, within),
        ("before and after exchanged", lambda: np.where(over, within, after),
         "the weight is 1 where the cycles should be. Which value is for which steps?"),
    )()  # fmt: skip
    return choose(
        weight,
        ("whole numbers if the first weight is one", np.floor(weight) if weight[0] == 1 else weight,
         "the type of the first value decides for all: an integer?"),
        ("in tenths", np.floor(10 * weight) / 10, "your weight is a staircase."),
        ("rounded to tenths", np.round(weight, 1), "your weight is rounded."),
        ("one 1 for all steps", 1.0, "one number comes out. Each step has its own weight."),
        ("the way down", 1 - weight, "in each cycle the weight falls. The start is where the KL does the damage."),
        ("the smallest weight for all steps", weight.min(), "one number comes out. Each step has its own weight."),
        ("the largest weight for all steps", weight.max(), "one number comes out. Each step has its own weight."),
        ("times the ramp", weight * ramp, "your weight never gets to 1."),
        ("the order of the steps lost", np.sort(weight), "the weights come in order of size: whose are they then?"),
    )  # fmt: skip


def free_bits_model(choose, kl, nats):
    n, z = kl.shape
    allowance = choose(
        nats,
        ("shared among the latents", nats / z, "you share the allowance among the latents. Each has its own."),
        ("once for each latent", nats * z, "each latent has the allowance of all in yours."),
        ("shared among the images", nats / n, "you share the allowance among the images. What is it compared with?"),
        ("once for each image", nats * n,
         "you multiply the allowance by the number of images. What is it compared with?"),
        ("in bits", nats * np.log(2), "the allowance is in nats already, whatever its name."),
        ("into bits", nats / np.log(2), "the allowance is in nats already, and so is the KL."),
    )  # fmt: skip
    each = choose(
        lambda: kl,
        ("maximum before the mean", lambda: np.maximum(kl, allowance),
         "you look at each image by itself. A latent that says much about a few images and nothing about the others "
         "should not pay for more than its average."),
        ("silent images dropped", lambda: np.where(kl > allowance, kl, 0),
         "you look at each image by itself, and drop the silent ones. What is the latent's average?"),
        ("subtracted before the mean", lambda: np.maximum(kl - allowance, 0),
         "you take the allowance off each image by itself. It is the latent's, on average."),
    )()  # fmt: skip
    spent = choose(
        lambda: each.mean(0),
        ("summed over the images", lambda: each.sum(0),
         "the result grows with the number of images. The mean over the batch comes first."),
        ("mean over the latents", lambda: each.mean(1),
         "you average over the latents. The mean is one over the images."),
        ("images for latents", lambda: each.sum(1),
         "you have one number for each image, and give each image an allowance. It belongs to the latents."),
        ("no mean over the images", lambda: each.ravel(),
         "each image's latent has an allowance of its own. The mean over the batch comes first."),
        ("one mean for all", lambda: each.mean(keepdims=True).ravel(),
         "you average over the latents as well. Each has its own allowance."),
        ("one sum for all", lambda: each.sum(keepdims=True).ravel(),
         "you add everything up before you compare. Each latent has its own allowance."),
        ("the whole code", lambda: each.sum(1).mean(keepdims=True),
         "all latents share one allowance, and one latent can use it up. Each should have its own."),
        ("the first image", lambda: each[0], "you look at the first image only."),
        ("the last image", lambda: each[-1], "you look at the last image only."),
        ("half of the images", lambda: each[: max(n // 2, 1)].mean(0),
         "only the first half of the images counts in your mean."),
        ("the median", lambda: np.median(each, 0), "you take the median of the images. The formula has their mean."),
        ("the largest image", lambda: each.max(0), "you look at the dearest image only. The formula has the mean."),
        ("the smallest image", lambda: each.min(0), "you look at the cheapest image only. The formula has the mean."),
        ("divided by the latents", lambda: each.sum(0) / z,
         "you divide by the number of latents. How many numbers do you add?"),
        ("divided by one image less", lambda: each.sum(0) / max(n - 1, 1),
         "you divide by the number of images minus one. That belongs to a variance."),
        ("without the last image", lambda: each[:-1].mean(0) if n > 1 else each[0],
         "the last image does not count in your mean."),
    )()  # fmt: skip
    floor = np.full(len(spent), allowance)
    paid = choose(
        lambda: np.maximum(spent, allowance),
        ("minimum for maximum", lambda: np.minimum(spent, allowance),
         "yours stops charging the latents that speak, and charges the silent ones. It should be the opposite."),
        ("the plain KL", lambda: spent, "this is the KL itself, whatever `nats` is."),
        ("nats subtracted", lambda: np.maximum(spent - allowance, 0),
         "the gradient is the same, but the value is not: here a latent never costs less than its allowance."),
        ("nats subtracted, without a floor", lambda: spent - allowance,
         "a latent below its allowance gets something back. It should pay the same whatever it says."),
        ("nats added", lambda: spent + allowance,
         "you charge the allowance on top. It is what a silent latent pays, and no other."),
        ("nats added to the rest", lambda: np.maximum(spent, 0) + np.maximum(allowance - spent, 0) + allowance,
         "the allowance counts twice."),
        ("the distance from nats", lambda: np.abs(spent - allowance),
         "you charge the distance from the allowance, on both sides."),
        ("silent latents dropped", lambda: np.where(spent > allowance, spent, 0),
         "a latent below its allowance costs you nothing, so that the penalty jumps when it gets there."),
        ("speaking latents dropped", lambda: np.where(spent > allowance, 0, spent),
         "a latent above its allowance costs you nothing. It should pay for what it says."),
        ("nats for the silent ones only", lambda: np.where(spent > allowance, 0, allowance),
         "a latent above its allowance costs you nothing. It should pay for what it says."),
        ("nats for the speaking ones only", lambda: np.where(spent > allowance, allowance, 0),
         "a latent pays the allowance, or nothing. What does one pay that says more?"),
        ("nats off the speaking ones", lambda: np.where(spent > allowance, spent - allowance, spent),
         "a latent just above its allowance pays less in yours than one just below."),
        ("nats off, nats for the silent", lambda: np.where(spent > allowance, spent - allowance, allowance),
         "a latent just above its allowance pays less in yours than one below."),
        ("nats for all", lambda: floor, "your penalty does not depend on the KL."),
        ("each image cut off at nats", lambda: np.minimum(kl, allowance).mean(0),
         "you cut off what an image says about a latent. The allowance is a floor, and the latent's."),
        ("one floor for all if one is silent", lambda: floor if (spent < allowance).any() else spent,
         "you decide once for all latents. Each has its own allowance."),
        ("one floor for all or for none", lambda: floor if (spent < allowance).all() else spent,
         "you decide once for all latents. Each has its own allowance."),
        ("a soft maximum", lambda: np.logaddexp(spent, allowance),
         "your maximum is a soft one, above both of its values."),
        ("the mean for the maximum", lambda: (spent + allowance) / 2, "you take the mean of the KL and the allowance."),
        ("the sum of KL and nats above nats", lambda: np.where(spent > allowance, spent + allowance, allowance),
         "a latent above its allowance pays the allowance on top."),
        ("nothing for latents that say nothing", lambda: np.where(spent > 0, np.maximum(spent, allowance), 0),
         "what does a latent cost that says nothing at all?"),
        ("whole nats", lambda: np.floor(np.maximum(spent, allowance)), "what stands behind the point is lost."),
        ("rounded nats", lambda: np.round(np.maximum(spent, allowance)), "the nats are rounded."),
        ("the number of speaking latents", lambda: np.where(spent > allowance, 1, 0),
         "you count the latents above their allowance. What do they pay?"),
    )()  # fmt: skip
    return choose(
        lambda: paid.sum(),
        ("mean over what is left", lambda: paid.mean(), "the nats of the latents add up. Over what is the average?"),
        ("not summed", lambda: paid, "there is still one number for each latent. What does the code pay?"),
        ("one allowance for all together", lambda: np.maximum(spent.sum(), z * allowance),
         "the latents share their allowances: one of them can use up what the others leave. Each should have its "
         "own."),
        ("an allowance for each image", lambda: np.maximum(each.sum(1), allowance).mean(),
         "you give each image an allowance, for all latents together. It belongs to the latents."),
        ("each penalty once", lambda: np.unique(paid).sum(), "two latents that pay the same count once in your sum."),
        ("the product", lambda: paid.prod(), "you multiply. The nats of the latents add up."),
        ("the root of the sum of squares", lambda: np.sqrt((paid**2).sum()),
         "you add squares. The nats of the latents add up."),
        ("without the cheapest latent", lambda: paid.sum() - paid.min(),
         "the cheapest latent does not count in your sum."),
        ("without the dearest latent", lambda: paid.sum() - paid.max(),
         "the dearest latent does not count in your sum."),
        ("the first latent", lambda: paid[0], "one latent's penalty comes out. The nats of the latents add up."),
        ("the last latent", lambda: paid[-1], "one latent's penalty comes out. The nats of the latents add up."),
        ("the largest latent", lambda: paid.max(), "you keep only the largest. The nats of the latents add up."),
        ("without the last latent", lambda: paid[:-1].sum(), "the last latent does not count in your sum."),
        ("without the first latent", lambda: paid[1:].sum(), "the first latent does not count in your sum."),
        ("divided by the images again", lambda: paid.sum() / n, "you divide by the number of images once too often."),
        ("times the images", lambda: paid.sum() * n,
         "the result grows with the number of images. It is a mean over the batch."),
        ("the allowance taken off the sum", lambda: paid.sum() - allowance, "you take the allowance off at the end."),
        ("the allowance added to the sum", lambda: paid.sum() + allowance, "you add the allowance at the end."),
        ("in brackets", lambda: paid.sum(keepdims=True),
         "the value is right, its shape is not: the penalty is one number."),
    )()  # fmt: skip


def free_bits_terms(kl, nats):
    means, (n, z) = kl.mean(0), kl.shape
    return {
        "sum(max(nats, mean KL))": np.maximum(nats, means).sum(),
        "sum(mean KL)": means.sum(),
        "nats": nats,
        "Z nats": z * nats,
        "N nats": n * nats,
        "sum(max(nats, KL))": np.maximum(nats, kl).sum(),
        "mean over the images(sum(max(nats, KL)))": np.maximum(nats, kl).sum() / n,
        "max(nats, sum(mean KL))": max(nats, means.sum()),
        "sum(KL)": kl.sum(),
        "number of latents above nats": (means > nats).sum(),
        "nats times that number": nats * (means > nats).sum(),
        "Z": z,
        "N": n,
        "1": 1.0,
    }


def steps_of(*step, dtype=float):
    return {"step": np.array(step, dtype), "steps": 64}


def codes(mu, logvar):
    return {"mu": np.array(mu, float), "logvar": np.array(logvar, float)}


def spending(*kl, nats=0.5):
    return {"kl": np.array(kl, float), "nats": nats}


def many(count):
    return np.random.default_rng(count).standard_normal((337, 24))


EDGES = steps_of(0, 15, 16, 17, 31, 32, 47, 48, 49, 63, 64, 65, 80, 128) | {"cycles": 4}
FUNCTIONS = [
    Function(
        "kl_per_latent",
        mean_kl,
        posteriors,
        per_latent_model,
        special=[
            Special("a latent equal to the prior", {"mu": np.zeros((3, 2)), "logvar": np.zeros((3, 2))},
                "what does a latent cost that says nothing?"),
            Special("one image", codes([[1.0, -2.0]], [[-1.0, 0.5]]),
                "is an axis lost where it has length 1, or something divided by 0?"),
            Special("one latent", codes([[1.0], [-2.0]], [[-1.0], [0.5]]),
                "is an axis lost where it has length 1?"),
            Special("latents far from the prior", codes([[9.0, -70.0]] * 2, [[1.0, -1.0]] * 2),
                "mu has no limits: is something cut off?"),
            Special("latents that are very sure or very vague", codes([[0, 0], [0, 0]], [[12, -30], [-12, 6]]),
                "logvar has no limits: is something cut off, or rounded?"),
            Special("latents that are nearly silent", codes([[0.1, 2], [-0.2, 1]], [[0.01, -1], [-0.1, 0]]),
                "a small price is a price: is something cut off or rounded?"),
            Special("many images and latents", {"mu": many(1), "logvar": many(2)},
                "is one of the sizes fixed in your code?"),
        ],
        terms=per_latent_terms,
        probe="Put mu = 1, sigma = 2 into it, and into the integral: which term disagrees? And what is averaged?",
    ),
    Function(
        "linear_weight",
        each_step(one_linear_weight),
        annealing,
        linear_model,
        terms=linear_terms,
        probe="Here t is step / steps. What should it be before the end, and what after it?",
        special=[
            Special("steps that are all before the end", steps_of(63, 5, 32),
                "does the weight of one step depend on the others?"),
            Special("steps that are all after the end", steps_of(70, 64, 1000),
                "does the weight of one step depend on the others?"),
            Special("the end itself", steps_of(64, 1, 64), "what is the weight at step `steps`?"),
            Special("the first step alone", steps_of(0),
                "what is the weight before the first step? And is an axis lost where it has length 1?"),
            Special("one step in the middle", steps_of(16),
                "does the weight of one step depend on the others? And is an axis lost where it has length 1?"),
            Special("steps far beyond the end", steps_of(1e6, 0), "when the warm-up is over, it stays over."),
            Special("steps in an array of integers", steps_of(0, 16, 63, 70, dtype=int),
                "weights are no whole numbers: of which dtype are they if `step` holds integers?"),
        ],
    ),
    Function(
        "cyclical_weight",
        each_step(one_cyclical_weight),
        cycling,
        cyclical_model,
        terms=cyclical_terms,
        probe="Here t is step / steps, p how far into its cycle a step is, and w the right weight within a cycle.",
        special=[
            Special("the edges of the cycles", EDGES | {"ramp": 0.5},
                "which cycle does a step belong to that ends one and begins the next? And what is the weight at step"
                " `steps`?"),
            Special("a ramp as long as its cycle", EDGES | {"ramp": 1.0},
                "then there is no plateau. What is the weight just before the end of a cycle, and what at the end of"
                " all?"),
            Special("a short ramp", EDGES | {"ramp": 0.0625}, "here the ramp takes one step of each cycle."),
            Special("one cycle", steps_of(0, 10, 32, 63, 64, 100) | {"cycles": 1, "ramp": 0.75},
                "this is a linear warm-up: is it, in yours?"),
            Special("steps that are all before the end", steps_of(63, 5, 37) | {"cycles": 4, "ramp": 0.75},
                "does the weight of one step depend on the others?"),
            Special("steps that are all after the end", steps_of(70, 1000) | {"cycles": 4, "ramp": 0.75},
                "does the weight of one step depend on the others?"),
            Special("one step", steps_of(5) | {"cycles": 4, "ramp": 0.75},
                "does the weight of one step depend on the others? And is an axis lost where it has length 1?"),
            Special("steps far beyond the end", steps_of(640, 1000005, 3) | {"cycles": 4, "ramp": 0.75},
                "when the cycles are over, they stay over."),
            Special("steps in an array of integers", steps_of(0, 21, 63, 70, dtype=int) | {"cycles": 4, "ramp": 0.75},
                "weights are no whole numbers: of which dtype are they if `step` holds integers?"),
        ],
    ),
    Function(
        "free_bits",
        floored,
        kls,
        free_bits_model,
        special=[
            Special("latents that are all silent", spending([0.1, 0.05], [0.05, 0.1], [0.0, 0.1]),
                "what does a latent cost that says less than its allowance?"),
            Special("latents that all speak", spending([3.0, 5.0], [2.0, 1.0], [1.0, 4.0]),
                "what does a latent cost that says more than its allowance?"),
            Special("a latent that speaks about one image only", spending([4.0, 0], [0, 0], [0, 0]),
                "what comes first, the mean or the maximum?"),
            Special("no allowance", spending([0.1, 0.5], [0.0, 2.0], [0.2, 1.0], nats=0.0),
                "without an allowance this should be the KL itself."),
            Special("a large allowance", spending([0.1, 0.5, 3.0], [0.0, 2.0, 8.0], nats=20.0),
                "what does a latent cost that says less than its allowance?"),
            Special("one image with one latent", spending([0.7]),
                "is an axis lost where it has length 1?"),
            Special("latents that say nothing at all", {"kl": np.zeros((3, 2)), "nats": 0.5},
                "what does a latent cost that says nothing?"),
            Special("latents that pay the same", spending([1.0, 3.0, 0.1, 0.2], [3.0, 1.0, 0.2, 0.1]),
                "each latent pays for itself, whatever the others pay."),
            Special("many images and latents", {"kl": many(3) ** 2, "nats": 1.0},
                "is one of the sizes fixed in your code?"),
        ],
        terms=free_bits_terms,
        probe="Compare it with the formula of the text, from the inside to the outside.",
    ),
]  # fmt: skip
