"""Checks of exercise 3. The references are level 1's code and torch.distributions, not the solutions."""

import numpy as np
import torch
from torch.distributions import Normal

import vae_numpy
from checking import Function, Special
from formulas import sums_and_means
from mistakes import advised, read_logvar, total, variance_in_kl

# --- Inputs ----------------------------------------------------------------------------------------------------------


def posteriors(rng):
    n, z = rng.integers(2, 6), rng.integers(2, 5)
    return {"mu": rng.standard_normal((n, z)), "logvar": rng.standard_normal((n, z))}


def posteriors_and_noise(rng):
    case = posteriors(rng)
    return case | {"eps": rng.standard_normal((rng.integers(3, 7), *case["mu"].shape))}


def one_code(mu, logvar):
    return {"mu": np.array([[mu]]), "logvar": np.array([[logvar]])}


FAR = {"mu": np.array([[9.0, -7.0]]), "logvar": np.array([[1.0, -1.0]])}
EXTREMES = {"mu": np.zeros((2, 2)), "logvar": np.array([[12.0, -110.0], [-12.0, 6.0]])}
ALONE = Special("one image with one latent", one_code(1.0, -1.0), "is an axis lost where it has length 1?")
LIMITS = Special(
    "codes that are very sure or very vague", EXTREMES, "logvar has no limits: is something cut off, or rounded?"
)

# --- References ------------------------------------------------------------------------------------------------------


def monte_carlo(mu, logvar, eps):
    mu, logvar, eps = (torch.from_numpy(array).double() for array in (mu, logvar, eps))
    q = Normal(mu, torch.exp(logvar / 2))
    z = q.loc + q.scale * eps
    return (q.log_prob(z) - Normal(0.0, 1.0).log_prob(z)).sum(2).mean(0).numpy()


def gradient(mu, logvar):
    with torch.enable_grad():
        mu, logvar = (torch.from_numpy(array.copy()).requires_grad_(True) for array in (mu, logvar))
        kl = torch.distributions.kl_divergence(Normal(mu, torch.exp(logvar / 2)), Normal(torch.zeros_like(mu), 1.0))
        return tuple(found.numpy() for found in torch.autograd.grad(kl.sum(), [mu, logvar]))


# --- What may be done instead ----------------------------------------------------------------------------------------


def kl_model(choose, mu, logvar):
    turned = ("the sign of logvar", -logvar, "a large logvar makes a narrow cloud in yours. It should be a wide one.")
    log_variance = read_logvar(choose, logvar, turned)
    variance = variance_in_kl(choose, log_variance)
    squares = choose(
        mu**2,
        ("mu not squared", mu, "a code at mu = -3 is as far from the prior as one at mu = 3. Does your formula know?"),
        ("the absolute value of mu", np.abs(mu), "being twice as far away costs more than twice as much."),
        ("no mu", 0 * mu, "your price does not depend on mu. A code far from the prior should be dear."),
        ("mu over sigma", mu**2 / np.exp(logvar), "you measure mu in sigmas of q. How far it is counts for the prior."),
    )
    whole = choose(
        squares + variance - 1 - log_variance,
        ("the other way round", (1 + mu**2) / np.exp(logvar) - 1 + logvar,
         "this is KL(prior || q). The mean has to be taken over the codes that the encoder proposes."),
        ("the forgotten constant", squares + variance - log_variance,
         "try mu = 0 and sigma = 1: there the two Gaussians are the same. What must the KL be?"),
        ("the sign of the logarithm", squares + variance - 1 + log_variance,
         "try mu = 0 and two values of sigma, one small and one large: a KL is never below zero."),
        ("no logarithm", squares + variance - 1,
         "the narrower a code is, the cheaper it is in yours. A term is missing."),
    )  # fmt: skip
    half = choose(
        0.5,
        ("the sign", -0.5, "yours is minus the KL, which is never below zero. Which density goes first?"),
        ("the missing half", 1.0, "every value is twice too large. Each log density has a factor before its square."),
        ("in bits", 0.5 / np.log(2), "these are bits. The logarithm of a nat has another base."),
    )  # fmt: skip
    latents = half * whole
    latents = choose(
        latents,
        *advised("every nat counts, in each latent for itself: is something free, or cut off?", {
            "a free tenth of a nat": np.maximum(latents, 0.1), "a free quarter": np.maximum(latents, 0.25),
            "a free half": np.maximum(latents, 0.5), "a free nat": np.maximum(latents, 1.0),
        }),
    )  # fmt: skip
    return total(choose, latents)


def kl_terms(mu, logvar):
    variance = np.exp(logvar)
    parts = {
        "mu": mu, "mu^2": mu**2, "|mu|": np.abs(mu), "sigma": np.sqrt(variance), "sigma^2": variance,
        "sigma^4": variance**2, "1/sigma": variance**-0.5, "1/sigma^2": 1 / variance, "mu^2/sigma^2": mu**2 / variance,
        "mu^2 sigma^2": mu**2 * variance, "log sigma^2": logvar,
        "|log sigma^2|": np.abs(logvar), "(log sigma^2)^2": logvar**2,
    }  # fmt: skip
    z = mu.shape[1]
    return sums_and_means(parts) | {
        "sum(mu)^2": mu.sum(1) ** 2,
        "sum(sigma)^2": np.sqrt(variance).sum(1) ** 2,
        "Z^2": z**2,
    }


def monte_carlo_model(choose, mu, logvar, eps):
    sigma = np.exp(logvar / 2)
    spread = choose(
        sigma,
        ("std = exp(logvar)", sigma**2, "your draws have the wrong spread: exp(logvar) is the variance."),
        ("noise not scaled", np.ones_like(sigma), "your draws all have spread 1, as if logvar were 0."),
        ("logvar taken for sigma", logvar, "you scale the noise by a logarithm, which may be negative."),
        ("the sign of logvar", 1 / sigma, "a large logvar makes a narrow cloud in yours. It should be a wide one."),
    )
    centre = choose(mu, ("draws around zero", 0 * mu, "your draws do not lie around mu. Where does q have its middle?"))
    z = choose(
        centre + spread * eps,
        ("draws from the prior", eps, "you evaluate the densities at the noise itself. The mean is over codes from q."),
        ("mu scaled as well", spread * (mu + eps), "without noise a draw should be mu. What is scaled?"),
        ("the noise subtracted", centre - spread * eps,
         "you subtract the noise. That is as good a draw, but not this one: the check uses your eps."),
        ("mu in place of the draws", mu + 0 * eps, "you evaluate at mu itself, the same for every draw."),
    )  # fmt: skip
    scale_of_q = choose(
        sigma,
        ("the variance given as sigma", sigma**2,
         "the log density of q is that of another width: it takes sigma, not the variance."),
        ("q of width 1", np.ones_like(sigma), "the log density of q has width 1 in yours. Its own is sigma."),
        ("the root of sigma", np.sqrt(sigma),
         "the width of your q is the root of the right one: logvar is halved once too often."),
    )  # fmt: skip
    centre_of_q = choose(
        mu, ("q around zero", 0 * mu, "the log density of q lies around zero in yours. Its middle is mu.")
    )
    square = ((z - centre_of_q) / scale_of_q) ** 2
    log_2pi = np.log(2 * np.pi)
    log_q = choose(
        -0.5 * (log_2pi + 2 * np.log(scale_of_q) + square),
        ("log q without its width", -0.5 * (log_2pi + square),
         "in log q a term is missing: a narrow Gaussian is a high one."),
        ("log q without its pi", -np.log(scale_of_q) - 0.5 * square, "log q lacks a constant that log p has."),
        ("log q without its half", -0.5 * log_2pi - np.log(scale_of_q) - square,
         "in log q the square weighs too much."),
        ("the width in log q twice", -0.5 * log_2pi - 2 * np.log(scale_of_q) - 0.5 * square,
         "in log q the height is that of another width."),
        ("the sign of the width in log q", -0.5 * log_2pi + np.log(scale_of_q) - 0.5 * square,
         "is a narrow Gaussian high or low? Look at log q."),
        ("the width to another power", -0.5 * (log_2pi + 2 * np.log(scale_of_q) + (z - centre_of_q) ** 2 / scale_of_q),
         "in the exponent of q the distance is divided by sigma once only."),
        ("log q as density", np.exp(-0.5 * (log_2pi + 2 * np.log(scale_of_q) + square)),
         "one term is a density itself, without its logarithm."),
        ("no log q", 0 * z, "this is the mean of log p alone. What is it compared with?"),
    )  # fmt: skip
    log_p = choose(
        -0.5 * (log_2pi + z**2),
        ("only log q", 0 * z, "this is the mean of log q alone. Where does the prior come in?"),
        ("log p without its pi", -0.5 * z**2, "log p lacks a constant that log q has."),
        ("log p without its half", -0.5 * log_2pi - z**2, "in log p the square weighs too much."),
        ("the prior at the noise", -0.5 * (log_2pi + eps**2) + 0 * z,
         "the prior is evaluated at the noise. It has to judge the codes."),
        ("the prior as wide as q", -0.5 * (log_2pi + logvar + z**2 / sigma**2),
         "your prior has the width of q. Its own is 1."),
        ("the prior around mu", -0.5 * (log_2pi + (z - mu) ** 2), "your prior lies around mu. Its middle is 0."),
    )  # fmt: skip
    difference = choose(
        log_q - log_p,
        ("the sign", log_p - log_q, "the difference is the wrong way round: this estimates minus the KL."),
        ("the sum of both", log_q + log_p, "you add the two log densities. How do they come into a ratio?"),
        ("the absolute difference", np.abs(log_q - log_p),
         "single draws may be negative, only their mean may not: take no absolute value."),
        ("the ratio of the densities", np.exp(log_q - log_p),
         "the KL is the mean of a logarithm; yours is that of the ratio itself."),
    )  # fmt: skip
    code = choose(
        difference.sum(2),
        ("mean over the latents", difference.mean(2),
         "you average over the latents. The log density of a code is the sum of its latents' log densities."),
        ("without the last latent", difference[:, :, :-1].sum(2), "the last latent does not count in your sum."),
        ("without the first latent", difference[:, :, 1:].sum(2), "the first latent does not count in your sum."),
    )  # fmt: skip
    draws = len(eps)
    return choose(
        code.mean(0),
        ("summed over the draws", code.sum(0), "the result grows with the number of draws. A mean does not."),
        ("the first draw only", code[0], "you look at one draw only."),
        ("the median of the draws", np.median(code, 0), "you take the median of the draws. The KL is a mean."),
        *advised("you divide by another number than that of the draws.", {
            "divided by one draw less": code.sum(0) / (draws - 1),
            "divided by one draw more": code.sum(0) / (draws + 1),
        }),
        *advised("an estimate of something positive may be negative itself: cut nothing off, or its mean is wrong.", {
            "not below zero": np.maximum(code.mean(0), 0),
            "no draw below zero": np.maximum(code, 0).mean(0),
            "the absolute mean": np.abs(code.mean(0)),
            "absolute values of the draws": np.abs(code).mean(0),
        }),
        ("weighted by the ratio", (np.exp(code) * code).mean(0), "the draws come from q already: weigh none of them."),
        ("weighted shares", (np.exp(code) * code).sum(0) / np.exp(code).sum(0), "every draw from q counts the same."),
        ("the log of a mean", np.log(np.exp(code).mean(0)), "your logarithm stands outside the mean."),
        ("averaged over the images", np.full(code.shape[1], code.mean()), "you average over the images as well."),
        ("one number for each draw", code.mean(1), "there is one number per draw. Which axis holds the draws?"),
    )  # fmt: skip


def monte_carlo_terms(mu, logvar, eps):
    z = mu + np.exp(logvar / 2) * eps
    parts = {
        "eps^2": eps**2,
        "z^2": z**2,
        "z": z,
        "eps": eps,
        "mu eps": mu * eps,
        "sigma eps": z - mu,
        "(z - mu)^2": (z - mu) ** 2,
    }
    parts = {f"E[{name}]": each.mean(0) for name, each in parts.items()}
    parts |= {"mu": mu, "mu^2": mu**2, "sigma": np.exp(logvar / 2), "sigma^2": np.exp(logvar), "log sigma^2": logvar}
    return sums_and_means(parts)


def gradient_model(choose, mu, logvar):
    variance, (n, z) = np.exp(logvar), mu.shape
    by_mu = choose(
        mu.copy(),
        ("the square of mu", mu**2, "this is the term itself, not its derivative."),
        ("mu cut off at 1", np.clip(mu, -1, 1), "the pull on mu has no limit."),
        ("the sign of mu", np.sign(mu), "the pull does not grow with the distance in yours."),
        ("mu measured in sigmas", mu / variance, "how wide q is does not matter to the pull of the prior on mu."),
    )
    by_logvar = choose(
        0.5 * (variance - 1),
        ("the gradient by sigma squared", 0.5 * (1 - 1 / variance),
         "it is the derivative by the variance, the network gives its logarithm: use the chain rule."),
        ("the gradient by sigma", np.sqrt(variance) - 1 / np.sqrt(variance),
         "it is the derivative by sigma. The network's output is logvar: use the chain rule."),
        ("the forgotten log", 0.5 * variance,
         "it is never zero, so the spread would shrink for ever. A term of the KL is missing."),
        ("only the log", -0.5 * np.ones_like(variance), "it is the same everywhere. A term of the KL is missing."),
        ("sigma instead of its square", 0.5 * (np.sqrt(variance) - 1), "sigma stands where the variance belongs."),
        ("logvar taken for log sigma", variance**2 - 1,
         "you treat logvar as the log of sigma; it is that of sigma squared."),
        ("logvar not undone", 0.5 * (logvar - 1), "logvar stands where the variance belongs."),
        *advised(
            "you approximate exp: it is no polynomial.",
            {
                "exp as a straight line": 0.5 * logvar,
                "exp as a parabola": 0.5 * (logvar + logvar**2 / 2),
            },
        ),
        *advised(
            "the pull on logvar has no upper limit: is something cut off?",
            {f"cut off at {most}": np.minimum(0.5 * (variance - 1), most) for most in (1, 2, 5, 10)},
        ),
        ("the sign of logvar", 0.5 * np.sign(logvar), "the pull does not grow with the distance in yours."),
        ("half of one term only", variance - 0.5, "the two terms of the sum have the same factor."),
    )  # fmt: skip
    factor = choose(
        1.0,
        ("the missing half", 2.0, "both are twice too large: what happened to the factor in front of the sum?"),
        ("the sign", -1.0, "both point downhill. The gradient points to where the KL grows."),
        ("a mean over the batch", 1 / n, "you divide by the number of images. Each of them has its own KL."),
        ("a mean over the latents", 1 / z, "you divide by the number of latents. The KL is their sum."),
        ("a mean over everything", 1 / (n * z), "you divide by the number of all values. Nothing is averaged here."),
    )  # fmt: skip
    mu_factor, logvar_factor = (
        choose(
            1.0,
            (f"the sign of the {name} gradient", -1.0,
             "it points downhill. The gradient points to where the KL grows."),
            (f"the {name} gradient doubled", 2.0, "it is twice too large."),
            (f"the {name} gradient halved", 0.5, "it is half of what it should be."),
        )
        for name in ("mu", "logvar")
    )  # fmt: skip
    return mu_factor * factor * by_mu, logvar_factor * factor * by_logvar


def gradient_terms(mu, logvar):
    variance = np.exp(logvar)
    return {
        "mu": mu, "mu^2": mu**2, "sigma": np.sqrt(variance), "sigma^2": variance, "sigma^4": variance**2,
        "1/sigma": variance**-0.5, "1/sigma^2": 1 / variance, "log sigma^2": logvar, "mu sigma^2": mu * variance,
        "mu sigma": mu * np.sqrt(variance), "mu/sigma^2": mu / variance, "mu^2/sigma^2": mu**2 / variance,
        "mu log sigma^2": mu * logvar, "sigma^2 log sigma^2": variance * logvar, "1": 1.0,
    }  # fmt: skip


FUNCTIONS = [
    Function(
        "kl_divergence",
        vae_numpy.kl_divergence,
        posteriors,
        kl_model,
        special=[
            Special("a code equal to the prior", {"mu": np.zeros((2, 3)), "logvar": np.zeros((2, 3))}),
            ALONE,
            Special("codes far from the prior", FAR, "mu has no limits: is something cut off?"),
            LIMITS,
        ],
        terms=kl_terms,
        probe="Put mu = 1, sigma = 2 into it and into the integral: which term disagrees?",
    ),
    Function(
        "kl_monte_carlo",
        monte_carlo,
        posteriors_and_noise,
        monte_carlo_model,
        special=[
            Special("one draw", one_code(1.0, -1.0) | {"eps": np.array([[[0.5]]])}, ALONE.advice),
            Special(
                "draws far out",
                FAR | {"eps": np.array([[[3.0, -40.0]], [[1.0, 2.0]]])},
                "a density may be too small for a float; its logarithm is not. Stay with logarithms.",
            ),
            Special(
                LIMITS.what, EXTREMES | {"eps": np.array([[[0.5, -1.0]] * 2, [[1.0, 2.0]] * 2])}, LIMITS.advice
            ),
        ],
        terms=monte_carlo_terms,
        probe="E is the mean over the draws. Compare it with log q - log p, term by term.",
    ),
    Function(
        "kl_gradient",
        gradient,
        posteriors,
        gradient_model,
        special=[
            Special("a code equal to the prior", {"mu": np.zeros((2, 3)), "logvar": np.zeros((2, 3))}),
            Special("codes far from the prior", FAR, "mu has no limits: is something cut off?"),
            LIMITS,
        ],
        terms=gradient_terms,
        probe="Compare it with a difference quotient of your KL at mu = 1, sigma = 2.",
        outputs=("the gradient by mu", "the gradient by logvar"),
    ),
]  # fmt: skip
