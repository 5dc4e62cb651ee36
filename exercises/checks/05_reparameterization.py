"""Checks of exercise 5. The references are autograd, torch.distributions and level 2's code, not the solutions."""

import numpy as np
import torch
from torch.distributions import Normal

import vae_lowlevel
from checking import Function, Special

# --- Inputs ----------------------------------------------------------------------------------------------------------


LIMITS = {"mu": 2.0, "logvar": 4.0, "eps": 3.0}


def spread_out(rng, **shapes):
    """Spread evenly: where something is cut off, many values show it."""
    return {name: rng.uniform(-LIMITS[name], LIMITS[name], shape) for name, shape in shapes.items()}


def draws(rng):
    k, z = rng.integers(2, 7, 2)
    return spread_out(rng, mu=z, logvar=z, eps=(k, z))


def draws_and_values(rng):
    case = draws(rng)
    return case | {"values": rng.standard_normal(len(case["eps"]))}


def posteriors_and_noise(rng):
    shape = (int(rng.integers(3, 8)), int(rng.integers(2, 6)))
    case = spread_out(rng, mu=shape, logvar=shape, eps=shape)
    return {name: torch.from_numpy(array) for name, array in case.items()}


def arrays(**lists):
    return {name: np.array(each, dtype=float) for name, each in lists.items()}


def tensors(**lists):
    return {name: torch.tensor(each, dtype=torch.float64) for name, each in lists.items()}


THREE_DRAWS = [[1.0, -2.0], [0.5, 3.0], [2.0, 0.1]]
AN_AXIS = "is an axis lost where it has length 1?"
LOGVAR_HAS_NO_LIMITS = "logvar has no limits: is something cut off, added, or lost to rounding?"
KEEP_APART = "the draws are put together. Keep them apart: the exercise wants to see their spread."
ONE_FOR_EACH_LATENT = "one number per draw is left. Each latent has a mu of its own, and so a gradient of its own."
BASELINE = "a baseline has been taken off. That comes later, and not inside this function."
NO_NOISE = "the noise may be 0: do you divide by it, or take its log?"
AT_THE_MINIMUM = "a slope may be 0: do you divide by it, or take its log?"
MU_IS_ZERO = "mu may be 0: do you divide by it, or treat it as missing?"
WHICH_AXIS = "which axis holds the draws? With sizes that differ it seems to be clear."
ONE_DRAW = "one draw is an estimate, too: is something averaged, or an axis lost?"

# --- References ------------------------------------------------------------------------------------------------------


def autograd_of_the_score(mu, logvar, eps, values):
    """Draw by draw: the gradient of f(z) log q(z), with z taken as a constant."""
    mu, logvar, eps, values = (torch.tensor(array) for array in (mu, logvar, eps, values))
    rows = []
    with torch.enable_grad():
        for noise, value in zip(eps, values, strict=True):
            q = Normal(mu.clone().requires_grad_(), torch.exp(logvar / 2))
            z = (q.loc + q.scale * noise).detach()
            rows += torch.autograd.grad(value * q.log_prob(z).sum(), q.loc)
    return torch.stack(rows).numpy()


def autograd_along_the_path(mu, logvar, eps):
    """Level 2's draw and autograd: each row of the copies is one draw."""
    mu, logvar, eps = (torch.tensor(array) for array in (mu, logvar, eps))
    with torch.enable_grad():
        mu, logvar = (tensor.expand(eps.shape).clone().requires_grad_() for tensor in (mu, logvar))
        z = vae_lowlevel.reparameterize(mu, logvar, eps)
        return tuple(found.numpy() for found in torch.autograd.grad((z - 1).square().sum(), [mu, logvar]))


# --- What may be done instead ----------------------------------------------------------------------------------------

# fmt: off


def sigma_of(choose, lib, logvar):
    """sigma, by the functions of `lib`, NumPy or PyTorch, and logvar as it is used."""
    low, high = (
        choose(limit, *(
            (f"logvar {words} {sign * most}", sign * most, "logvar has no limits: what is beyond yours is lost.")
            for most in (2, 3)
        ))
        for words, sign, limit in (("at least", -1, -np.inf), ("at most", 1, np.inf))
    )
    logvar = lib.clip(logvar, low, high)
    sigma = lib.exp(logvar / 2)
    return logvar, choose(
        lambda: sigma,
        ("logvar taken for sigma", lambda: logvar,
         "you take logvar for sigma itself, which cannot be negative. It is a logarithm: undo it first."),
        ("|logvar| taken for sigma", lambda: lib.abs(logvar),
         "you take the size of logvar for sigma. It is a logarithm: undo it first."),
        ("logvar taken for the variance", lambda: lib.sqrt(logvar),
         "you take the root of logvar, which may be negative. It is a logarithm: undo it first."),
        ("|logvar| taken for the variance", lambda: lib.sqrt(lib.abs(logvar)),
         "you take the root of |logvar|. logvar is a logarithm: undo it first."),
        ("half of logvar for sigma", lambda: logvar / 2, "half of logvar is a logarithm still: undo it."),
        ("logvar halved once too often", lambda: lib.sqrt(sigma),
         "your sigma is the root of the right one: logvar is halved once too often."),
        ("logvar doubled", lambda: sigma**4, "you double logvar where you should halve it."),
        ("half of the variance", lambda: sigma**2 / 2, "you halve the variance. What of it is sigma?"),
        ("softplus in place of exp", lambda: lib.log1p(lib.exp(logvar)),
         "softplus makes positive numbers, but it does not undo a logarithm."),
        ("softplus of half of logvar", lambda: lib.log1p(sigma),
         "softplus makes positive numbers, but it does not undo a logarithm."),
        ("the root of softplus", lambda: lib.sqrt(lib.log1p(lib.exp(logvar))),
         "softplus makes positive numbers, but it does not undo a logarithm."),
        ("sigmoid in place of exp", lambda: 1 / (1 + lib.exp(-logvar)),
         "a sigmoid makes positive numbers, but it does not undo a logarithm."),
        ("base 2", lambda: 2 ** (logvar / 2), "the logarithm has base e, your power has base 2."),
        ("base 10", lambda: 10 ** (logvar / 2), "the logarithm has base e, your power has base 10."),
        ("sigma less 1", lambda: sigma - 1, "your spread is sigma less 1."),
        ("sigma and 1", lambda: sigma + 1, "your spread is never below 1."),
        ("a straight line for exp", lambda: 1 + logvar / 2, "a straight line is like the exponential near 0 only."),
        ("a parabola for exp", lambda: 1 + logvar / 2 + logvar**2 / 8,
         "a parabola is like the exponential near 0 only."),
        ("a cubic for exp", lambda: 1 + logvar / 2 + logvar**2 / 8 + logvar**3 / 48,
         "a few terms of the series are like the exponential near 0 only."),
        ("no sigma above 1", lambda: lib.clip(sigma, 0, 1),
         "your sigma is never above 1. The encoder may be less sure than the prior."),
        ("no sigma below 1", lambda: lib.clip(sigma, 1, np.inf),
         "your sigma is never below 1. The encoder may be more sure than the prior."),
        ("sigma averaged over the latents", lambda: sigma.mean(-1)[..., None] + 0 * sigma,
         "all latents share one sigma. Each has its own."),
        ("the variance averaged over the latents", lambda: lib.sqrt((sigma**2).mean(-1)[..., None]) + 0 * sigma,
         "all latents share one variance. Each has its own."),
    )()


def noise_of(choose, lib, eps):
    limit = choose(np.inf, *(
        (f"noise cut off at {most}", most, "noise far out is cut off. A normal distribution has no limits.")
        for most in (1.5, 2, 2.5)
    ))
    return lib.clip(eps, -limit, limit)


def draw_model(choose, mu, sigma, eps):
    spread = choose(
        sigma,
        ("draws as wide as the variance", sigma**2,
         "your draws have the wrong spread: noise is scaled by sigma, not by the variance."),
        ("noise not scaled", np.ones_like(sigma),
         "your draws all have spread 1. The draws of q have a spread of their own."),
        ("noise divided by sigma", 1 / sigma, "you divide the noise by sigma. A wide q should have draws far out."),
    )
    return choose(
        mu + spread * eps,
        ("the noise subtracted", mu - spread * eps,
         "you subtract the noise. That is as good a draw, but not this one: the text's draw is mu + sigma eps."),
        ("mu scaled as well", spread * (mu + eps),
         "without noise a draw should be mu. What is scaled, and what is only shifted?"),
        ("draws around zero", spread * eps, "your draws do not lie around mu. Where does q have its middle?"),
        ("draws from the prior", eps + 0 * mu, "you take the noise itself for the draw. The draws come from q."),
        ("mu for each draw", mu + 0 * eps, "you take mu for each draw. Where did the draw fall?"),
    )


def reduced(choose, *gradients):
    """Each draw's gradients (K, Z), and what may become of the draws."""
    reduce = choose(
        lambda each: each,
        ("averaged over the draws", lambda each: each.mean(0), KEEP_APART),
        ("summed over the draws", lambda each: each.sum(0), KEEP_APART),
        ("summed over the latents", lambda each: each.sum(1), ONE_FOR_EACH_LATENT),
        ("averaged over the latents", lambda each: each.mean(1), ONE_FOR_EACH_LATENT),
        ("a running mean", lambda each: each.cumsum(0) / np.arange(1, len(each) + 1)[:, None], KEEP_APART),
        ("one sum for all", np.sum, "one number is left. Each draw and each latent has its own."),
        ("one mean for all", np.mean, "one number is left. Each draw and each latent has its own."),
        ("the first draw only", lambda each: each[0], "only the first draw is left."),
        ("rows filled with columns", lambda each: each.T.reshape(each.shape),
         "the numbers are right, but in other places: a reshape is no transpose."),
        ("a third axis", lambda each: each[:, None], "there is an axis too many."),
    )
    return tuple(map(reduce, gradients))


def score_model(choose, mu, logvar, eps, values):
    k, eps = len(eps), noise_of(choose, np, eps)
    logvar, sigma = sigma_of(choose, np, logvar)
    z = mu + sigma * eps
    distance = choose(
        z - mu,
        ("z instead of z - mu", z,
         "your score is large for codes far from zero. What counts is how far they are from the middle of q."),
        ("the sign of z - mu", mu - z,
         "it points the wrong way: moving mu towards a draw makes the draw more probable."),
        ("z + mu", z + mu,
         "your score is large for codes far from -mu. What counts is how far they are from the middle of q."),
        ("the noise less mu", eps - mu, "the noise is no draw of q yet, and you subtract mu from it."),
        ("mu scaled as well", sigma * (mu + eps) - mu,
         "without noise a draw should be mu. What is scaled, and what is only shifted?"),
        ("the noise over the variance", eps + 0 * sigma,
         "your score is the noise over the variance. Is the noise taken for z - mu, or logvar for the log of sigma?"),
        ("sigma instead of z - mu", sigma + 0 * eps,
         "your score is the same for every draw. It has to know on which side of mu the draw fell."),
        ("mu instead of z - mu", mu + 0 * eps,
         "your score is the same for every draw. It has to know on which side of mu the draw fell."),
        ("the distance without its sign", np.abs(z - mu),
         "your score does not know on which side of mu the draw fell."),
        ("the distance squared", (z - mu) ** 2, "a square is left in your score. What is the derivative of a square?"),
        ("z - 1", z - 1,
         "your score measures from 1, as the f of the text does. It never learns what f is; q has another middle."),
    )
    below = choose(
        sigma**2,
        ("z - mu itself", np.ones_like(sigma),
         "you weigh with z - mu itself. In the exponent of the Gaussian this difference is measured in sigmas."),
        ("the noise itself", sigma,
         "your score ignores how wide q is. Differentiate (z - mu)^2 / (2 sigma^2) again: what stays below?"),
        ("the variance squared below", sigma**4,
         "you square once too often below the fraction bar. What is exp(logvar) already?"),
        ("multiplied by the variance", sigma**-2.0,
         "a narrow q should have a large score. Do you multiply where you should divide?"),
        ("a 2 left below", 2 * sigma**2, "a 2 is left below the fraction bar. What is the derivative of a square?"),
        ("a 2 on top", sigma**2 / 2, "every value is twice too large: what becomes of the 2 below the fraction bar?"),
        ("the root of 2 pi below", sigma**2 * np.sqrt(2 * np.pi),
         "the constant of the density is left in yours. What does it do to the derivative of a logarithm?"),
        ("logvar below", logvar, "logvar itself stands below the fraction bar. It is a logarithm: undo it first."),
        ("half of logvar below", logvar / 2,
         "half of logvar stands below the fraction bar. It is a logarithm: undo it first."),
    )
    square = ((z - mu) / sigma) ** 2
    def log_q():
        return -np.log(sigma) - 0.5 * np.log(2 * np.pi) - 0.5 * square

    score = choose(
        lambda: distance / below,
        ("the score of logvar", lambda: (square - 1) / 2,
         "this is the derivative of log q by logvar. The text asks for mu."),
        ("the score of sigma", lambda: (square - 1) / sigma,
         "this is the derivative of log q by sigma. The text asks for mu."),
        ("the score of the variance", lambda: (square - 1) / (2 * sigma**2),
         "this is the derivative of log q by the variance. The text asks for mu."),
        ("log q itself", log_q, "this is log q, latent by latent, not its derivative."),
        ("log q of the draw", lambda: log_q().sum(1, keepdims=True) + 0 * eps, "this is log q, not its derivative."),
        ("the exponent itself", lambda: -0.5 * square, "this is the exponent of q, not its derivative."),
        ("q itself", lambda: np.exp(log_q()), "this is the density q, not the derivative of its logarithm."),
        ("the derivative of q", lambda: np.exp(log_q()) * distance / below,
         "this is the derivative of q, latent by latent. The score is that of its logarithm."),
        ("the derivative of the whole q", lambda: np.exp(log_q().sum(1, keepdims=True)) * distance / below,
         "this is the derivative of q. The score is that of its logarithm."),
        ("the score of all latents", lambda: (distance / below).sum(1, keepdims=True) + 0 * eps,
         "every latent gets the sum of the scores. Each has its own."),
        ("the score of z", lambda: -distance / below - z,
         "a second density has slipped in: only log q is differentiated."),
        ("the slope of f", lambda: 2 * (z - 1), "you use the slope of the text's f. This estimator knows values only."),
        ("no score", lambda: 1 + 0 * eps, "the score is missing: this holds the values alone."),
    )()
    weight = choose(
        lambda: values[:, None],
        ("only the score", lambda: 1.0,
         "this is the gradient of log q alone; its mean is zero whatever f is. Where do the values come in?"),
        ("values less their mean", lambda: (values - values.mean())[:, None], BASELINE),
        ("values less those of the others", lambda: ((values - values.mean()) * k / (k - 1))[:, None], BASELINE),
        ("standardised values", lambda: ((values - values.mean()) / values.std())[:, None],
         "the values are standardised: that changes the gradient's size."),
        ("standardised values, one draw less", lambda: ((values - values.mean()) / values.std(ddof=1))[:, None],
         "the values are standardised: that changes the gradient's size."),
        ("the first value as baseline", lambda: (values - values[0])[:, None], BASELINE),
        ("the smallest value as baseline", lambda: (values - values.min())[:, None], BASELINE),
        ("the largest value as baseline", lambda: (values - values.max())[:, None], BASELINE),
        ("the mean value for all", lambda: values.mean(), "all draws get the mean value. Each draw has its own."),
        ("the summed value for all", lambda: values.sum(),
         "all draws get the sum of the values. Each draw has its own."),
        ("the first value for all", lambda: values[0], "all draws get the value of the first. Each draw has its own."),
        ("another draw's value", lambda: np.roll(values, 1)[:, None], "each draw gets the value of the one before."),
        ("the next draw's value", lambda: np.roll(values, -1)[:, None], "each draw gets the value of the one after."),
        ("values in other places", lambda: np.resize(values, eps.shape),
         "the values fill the rows one after the other: whose value does each latent get?"),
        ("the size of the values", lambda: np.abs(values)[:, None],
         "a value below zero counts as if it were above. Its sign matters."),
        ("exponential weights", lambda: (np.exp(values) / np.exp(values).sum())[:, None],
         "the values became weights that add up to 1. They come as they are."),
        ("values backwards", lambda: values[::-1, None], "the values come in the opposite order."),
        ("an f of your own", lambda: ((z - 1) ** 2).sum(1, keepdims=True),
         "you use the text's f in the place of the values. This estimator never learns what f is."),
        ("an f for each latent", lambda: (z - 1) ** 2,
         "you use the text's f in the place of the values. This estimator never learns what f is."),
        ("values shared out", lambda: values[:, None] / len(mu),
         "the value of a draw is shared out among its latents. Each gets the whole."),
    )()
    product = choose(
        lambda: weight * score,
        ("the sum of value and score", lambda: weight + score,
         "you add the value to the score. What does the text do with them?"),
        ("divided by the score", lambda: weight / score, "you divide by the score. What does the text do with it?"),
        ("divided by the value", lambda: score / weight, "you divide by the value. What does the text do with it?"),
        ("the slope along the path", lambda: 2 * (z - 1) + 0 * values[:, None],
         "this is the pathwise gradient for the text's f. This one knows values only."),
        ("the outer product of all", lambda: (score.T @ values)[None] + 0 * eps,
         "every row holds the sum over all draws. Keep them apart."),
        ("only positive values", lambda: np.maximum(weight, 0) * score,
         "draws with values below zero count nothing. They have something to say as well."),
    )()
    return reduced(choose, product)[0]


def score_terms(mu, logvar, eps, values):
    sigma, f = np.exp(logvar / 2), values[:, None]
    powers = {"": 0, " sigma": 1, " sigma^2": 2, " / sigma": -1, " / sigma^2": -2, " / sigma^3": -3}
    bases = {"f eps": f * eps, "f mu": f * mu, "f eps^2": f * eps**2, "f": f, "eps": eps}
    parts = {a + words: b * sigma**n for a, b in bases.items() for words, n in powers.items()}
    z = mu + sigma * eps
    return parts | {"f z^2": f * z**2, "f logvar": f * logvar, "mu": mu, "1": 1.0, "E[f]": values.mean()}


def pathwise_model(choose, mu, logvar, eps):
    eps = noise_of(choose, np, eps)
    logvar, sigma = sigma_of(choose, np, logvar)
    sigma = choose(
        sigma,
        ("std = exp(logvar)", sigma**2, "exp(logvar) is the variance. By what is noise scaled?"),
        ("the sign of logvar", 1 / sigma, "a large logvar makes a narrow q in yours. It should be a wide one."),
        ("1 for sigma", np.ones_like(sigma), "logvar does not matter in yours. How wide is q?"),
        ("half of sigma", sigma / 2, "your sigma is half of the right one: a half has slipped out of the exponent."),
    )
    z = draw_model(choose, mu, sigma, eps)
    slope = choose(
        2 * (z - 1),
        ("the forgotten factor of the square", z - 1,
         "the slope is half of what it should be: what is the derivative of a square?"),
        ("f for its slope", (z - 1) ** 2, "this is f, latent by latent, where its slope belongs."),
        ("f of the draw for its slope", ((z - 1) ** 2).sum(1, keepdims=True) + 0 * eps,
         "this is f where its slope belongs."),
        ("the slope of z squared", 2 * z, "your slope is zero at z = 0. Where is f smallest?"),
        ("the slope on the other side", 2 * (z + 1), "your slope is zero at z = -1. Where is f smallest?"),
        ("a slope downhill", 2 * (1 - z), "both point downhill. The gradient points to where f grows."),
        ("the 1 not doubled", 2 * z - 1, "the slope of f is zero at z = 1/2 in yours. Where is f smallest?"),
        ("the slopes added", 2 * (z - 1).sum(1, keepdims=True) + 0 * eps,
         "every latent gets the sum of the slopes. Each stands alone."),
        ("the slope divided by the latents", 2 * (z - 1) / len(mu),
         "the slope is divided by the number of latents. f is their sum."),
        ("the sign of the slope", np.sign(z - 1), "your slope does not grow with the distance from 1."),
        ("a constant slope", 2 + 0 * z, "the slope is the same at each draw: that is a second derivative."),
        ("the slope of a cube", 3 * (z - 1) ** 2, "your slope is that of a cube. How is f made?"),
    )
    by_mu = choose(
        lambda: slope,
        ("the slope by mu at mu", lambda: 2 * (mu - 1) + 0 * eps,
         "you take the slope of f at the middle of q, the same for all draws. Take it where the draw fell."),
        ("dz / dmu as sigma", lambda: slope * sigma,
         "z does not move by sigma when mu moves by 1. Differentiate z = mu + sigma eps by mu."),
        ("dz / dmu as noise", lambda: slope * eps,
         "z does not move by the noise when mu moves by 1. Differentiate z = mu + sigma eps by mu."),
        ("dz / dmu as mu", lambda: slope * mu,
         "z does not move by mu when mu moves by 1. Differentiate z = mu + sigma eps by mu."),
        ("dz / dmu as z", lambda: slope * z,
         "z does not move by z when mu moves by 1. Differentiate z = mu + sigma eps by mu."),
        ("dz / dmu as 1 + sigma eps", lambda: slope * (1 + sigma * eps),
         "what does not contain mu has no part in the derivative by mu."),
        ("measured in sigmas", lambda: slope / sigma,
         "the slope is divided by sigma. Differentiate z = mu + sigma eps by mu."),
        ("measured in variances", lambda: slope / sigma**2,
         "the slope is divided by the variance. Differentiate z = mu + sigma eps by mu."),
        ("the score function for mu", lambda: ((z - 1) ** 2).sum(1, keepdims=True) * eps / sigma,
         "this is the score function's estimate. Here you know the slope of f."),
        ("the mean gradient by mu", lambda: 2 * (mu - 1) + 2 * eps.mean(0) * sigma + 0 * eps,
         "every row is the mean over the draws. Each draw has its own."),
        ("the KL's part in mu", lambda: slope + mu, "the gradient of the KL is added. Only f is asked for."),
    )()
    own = choose(
        slope,
        ("the slope by logvar at mu", 2 * (mu - 1) + 0 * eps,
         "you take the slope of f at the middle of q for logvar. Take it where the draw fell."),
        ("half the slope for logvar", slope / 2,
         "one half too many is in the second: what is the derivative of a square, and what that of sigma?"),
        ("the value for the slope in logvar", (z - 1) ** 2, "in the second stands f where its slope belongs."),
        ("the sign of the slope by logvar", -slope, "it points downhill. The gradient points to where f grows."),
        ("no slope for logvar", 1 + 0 * slope, "this is dz by logvar alone. Where does f come in?"),
    )
    by_logvar = choose(
        lambda: own * sigma * eps / 2,
        ("the missing half", lambda: own * sigma * eps,
         "the second is twice too large: write sigma as a power of e, and differentiate it by logvar."),
        ("the gradient by sigma", lambda: own * eps,
         "the second is the derivative by sigma. The network's output is logvar: use the chain rule once more."),
        ("the gradient by sigma, halved", lambda: own * eps / 2,
         "in the second sigma is missing: differentiate a power of e again."),
        ("the gradient by the variance", lambda: own * eps / (2 * sigma),
         "the second is the derivative by the variance. The network's output is its logarithm: use the chain rule "
         "once more."),
        ("the noise forgotten", lambda: own * sigma / 2,
         "in the second the noise is missing. A wider q moves a draw outwards, on whichever side of mu it is."),
        ("noise and half forgotten", lambda: own * sigma,
         "in the second the noise is missing. A wider q moves a draw outwards, on whichever side of mu it is."),
        ("the same gradient twice", lambda: own,
         "the second is the slope of f again. By how much does z move when logvar does?"),
        ("half of the slope", lambda: own / 2,
         "the second is a multiple of the slope of f. By how much does z move when logvar does?"),
        ("the variance for sigma in the second", lambda: own * sigma**2 * eps,
         "in the second stands the variance. By how much does z move when logvar does?"),
        ("half of the variance in the second", lambda: own * sigma**2 * eps / 2,
         "in the second stands the variance. By how much does z move when logvar does?"),
        ("logvar in the second", lambda: own * logvar * eps / 2,
         "in the second stands logvar itself. By how much does z move when logvar does?"),
        ("the noise squared in the second", lambda: own * sigma * eps**2 / 2,
         "in the second the noise is squared. It comes in once."),
        ("the noise's size in the second", lambda: own * sigma * np.abs(eps) / 2,
         "in the second the noise has lost its sign: a draw below mu moves down when q grows wider."),
        ("z in the second", lambda: own * z / 2, "mu has no part in how z moves when logvar does."),
        ("z whole in the second", lambda: own * z, "mu has no part in how z moves when logvar does."),
        ("divided by sigma in the second", lambda: own * eps / sigma,
         "in the second you divide by sigma. By how much does z move when logvar does?"),
        ("logvar in the chain", lambda: own * sigma * eps * logvar / 2,
         "logvar itself has no part as a factor. What is the derivative of a power of e?"),
        ("the half inside the power", lambda: own * np.exp(logvar / 2 - 1) * eps * logvar / 2,
         "a power of e is no power of logvar: its derivative has the same exponent."),
        ("the score function for logvar", lambda: ((z - 1) ** 2).sum(1, keepdims=True) * (eps**2 - 1) / 2,
         "this is the score function's estimate. Here you know the slope of f."),
        ("the mean over the draws by logvar", lambda: np.mean(own * sigma * eps / 2, 0) + 0 * eps,
         "every row is the mean over the draws. Each draw has its own."),
        ("the KL's part in logvar", lambda: own * sigma * eps / 2 + (sigma**2 - 1) / 2,
         "the gradient of the KL is added. Only f is asked for."),
        ("the expected gradient by logvar", lambda: sigma**2 + 0 * eps,
         "this is the mean over all draws that could be. Each draw has its own."),
        ("no gradient by logvar", lambda: 0 * eps, "the second is zero. By how much does z move when logvar does?"),
    )()
    by_mu, by_logvar = reduced(choose, by_mu, by_logvar)
    return choose(
        lambda: (by_mu, by_logvar),
        ("the wrong order", lambda: (by_logvar, by_mu), "the two come in the wrong order: first mu, then logvar."),
        ("the second twice", lambda: (by_logvar, by_logvar),
         "both are the gradient by logvar. Are they one array, changed in place?"),
        ("only the first averaged", lambda: (by_mu.mean(0), by_logvar), KEEP_APART),
        ("only the second averaged", lambda: (by_mu, by_logvar.mean(0)), KEEP_APART),
    )()


def pathwise_terms(mu, logvar, eps):
    sigma = np.exp(logvar / 2)
    bases = {"eps": eps, "eps^2": eps**2, "eps^3": eps**3, "mu eps": mu * eps, "mu eps^2": mu * eps**2}
    bases |= {"mu": mu, "mu^2": mu**2, "1": 1.0}
    powers = {"": 1.0, " sigma": sigma, " sigma^2": sigma**2, " sigma^3": sigma**3, " / sigma": 1 / sigma}
    parts = {a + words: b * power for a, b in bases.items() for words, power in powers.items()}
    parts |= {"logvar": logvar, "eps logvar": eps * logvar, "mu eps logvar": mu * eps * logvar}
    return parts, parts


def seeded_noise(shape, seed, dtype):
    return torch.randn(shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def reparameterize_model(choose, mu, logvar, eps):
    middle = choose(
        lambda: mu,
        ("detached middle", lambda: mu.detach(), "no gradient reaches mu. Which call cuts it off?"),
        ("the middle at zero", lambda: mu - mu.detach(),
         "your codes do not lie around mu. Where does q have its middle?"),
        ("exp(mu)", lambda: torch.exp(mu), "you undo a logarithm at mu. Only the variance comes as a logarithm."),
    )()
    log_variance = choose(
        lambda: logvar,
        ("detached spread", lambda: logvar.detach(),
         "no gradient reaches logvar: the encoder could never learn how sure to be."),
        ("one spread for all images", lambda: logvar[:1] + 0 * logvar,
         "every code has the spread of the first. Each has its own logvar."),
        ("sigma averaged over the images", lambda: 2 * torch.log(torch.exp(logvar / 2).mean(0)) + 0 * logvar,
         "all images share one spread. Each has its own logvar."),
        ("one spread for all latents", lambda: logvar[:, :1] + 0 * logvar,
         "every latent has the spread of the first. Each has its own logvar."),
    )()
    kept, sigma = sigma_of(choose, torch, log_variance)
    spread = choose(
        lambda: sigma,
        ("std = exp(logvar)", lambda: sigma**2,
         "exp(logvar) is the variance. By what is standard normal noise scaled?"),
        ("noise not scaled", lambda: torch.ones_like(sigma),
         "every code has spread 1, however sure the encoder is. Where does logvar come in?"),
        ("the sign of logvar", lambda: 1 / sigma,
         "a large logvar gives a small spread here. It should be the other way round."),
        ("one over the variance", lambda: sigma**-2,
         "a large logvar gives a small spread here. It should be the other way round."),
        ("the root and the half", lambda: sigma / 2,
         "your spread is half of sigma: the half belongs to one place only."),
        ("a slope of 1 through exp", lambda: kept + (sigma - kept).detach(),
         "the gradient passes the exponential as if it were not there."),
        ("twice the slope of sigma", lambda: 2 * sigma - sigma.detach(),
         "the gradient by logvar is that of a whole logvar in the exponent: it is twice too large."),
        ("half of the slope of sigma", lambda: (sigma + sigma.detach()) / 2,
         "the gradient by logvar is half of what it should be: one of two paths is cut."),
        ("the slope of the variance", lambda: sigma**2 + (sigma - sigma**2).detach(),
         "the values use sigma, but the gradient that of the variance."),
        ("no gradient for wide codes", lambda: torch.where(sigma > 1, sigma.detach(), sigma),
         "where sigma is above 1, no gradient reaches logvar."),
        ("no gradient for narrow codes", lambda: torch.where(sigma < 1, sigma.detach(), sigma),
         "where sigma is below 1, no gradient reaches logvar."),
        ("the slope of a logarithm", lambda: torch.log(sigma) + (sigma - torch.log(sigma)).detach(),
         "the gradient by logvar lacks sigma: what is the derivative of a power of e?"),
    )()
    drawn = noise_of(choose, torch, eps)
    noise = choose(
        lambda: drawn,
        ("detached noise", lambda: drawn.detach(), "the noise is cut off: no gradient reaches eps."),
        ("eps squared", lambda: eps**2, "the noise is squared: it never goes to the other side of mu."),
        ("noise of length 1", lambda: eps / eps.norm(dim=1, keepdim=True),
         "the noise is scaled to length 1. It is standard normal as it comes."),
        ("standardised noise", lambda: (eps - eps.mean()) / eps.std(),
         "you standardise the noise. It is standard normal as it comes."),
        ("the same noise for all images", lambda: eps[:1] + 0 * eps,
         "every image gets the noise of the first. Each has its own."),
        ("the same noise for all latents", lambda: eps[:, :1] + 0 * eps,
         "every latent gets the noise of the first. Each has its own."),
        *(
            (f"noise of your own, seed {seed}, {dtype}",
             lambda seed=seed, dtype=dtype: seeded_noise(eps.shape, seed, dtype),
             "you draw noise of your own and leave eps unused. The noise comes from outside.")
            for seed in (0, 1, 42)
            for dtype in (torch.float64, torch.float32)
        ),
    )()  # fmt: skip
    shift = choose(
        lambda: spread * noise,
        ("the noise ignored", lambda: 0 * noise * spread,
         "the code is always the middle of q, as in a plain autoencoder. It should be a draw."),
        ("the spread without noise", lambda: spread + 0 * noise,
         "the noise is missing: the code is always one sigma above the middle."),
        ("the spread and the noise added", lambda: spread + noise,
         "you add sigma to the noise. What does it do to the spread of the codes?"),
        ("the noise subtracted", lambda: -spread * noise,
         "you subtract the noise. That is as good a draw, but not this one: the text's z is mu + sigma eps."),
        ("the noise to the power of sigma", lambda: torch.abs(noise) ** spread,
         "sigma is an exponent in yours. It is a factor."),
        ("a slope of 1 by logvar", lambda: (spread * noise).detach() + kept - kept.detach(),
         "the gradient reaches logvar as if z were a sum with logvar: the noise and sigma are missing in it."),
        ("detached noise and sigma", lambda: (spread * noise).detach(),
         "only mu gets a gradient: sigma times the noise is cut off."),
        ("the slope of sigma without noise", lambda: (spread * noise).detach() + spread - spread.detach(),
         "in the gradient by logvar the noise is missing: a wider q moves a draw outwards, on whichever side of mu "
         "it is."),
    )()
    z = choose(
        lambda: middle + shift,
        ("mu scaled as well", lambda: spread * (middle + noise),
         "with eps = 0 the code should be mu. What is scaled, and what is only shifted?"),
        ("mu as a factor", lambda: middle * shift, "mu is a factor in yours. It is where q has its middle."),
        ("mu subtracted", lambda: shift - middle, "your codes lie around -mu. Where does q have its middle?"),
        ("mu and noise mixed", lambda: middle * noise + spread,
         "mu and sigma have changed places: which one scales the noise?"),
        ("a mixture of mu and noise", lambda: torch.sqrt(1 - sigma**2) * middle + shift,
         "mu is made smaller as the noise grows. Here it is only shifted."),
    )()
    code = choose(
        lambda: z,
        ("detached code", lambda: z.detach(), "the path to the encoder is cut: neither mu nor logvar gets a gradient."),
        ("only the first code with a gradient", lambda: torch.cat([z[:1], z[1:].detach()]),
         "only the first image's code passes a gradient."),
        ("only the last code with a gradient", lambda: torch.cat([z[:-1].detach(), z[-1:]]),
         "only the last image's code passes a gradient."),
        ("only the first latent with a gradient", lambda: torch.cat([z[:, :1], z[:, 1:].detach()], 1),
         "only the first latent passes a gradient."),
        ("only the last latent with a gradient", lambda: torch.cat([z[:, :-1].detach(), z[:, -1:]], 1),
         "only the last latent passes a gradient."),
        ("a squashed code", lambda: torch.tanh(z), "the code is squashed. A draw from a Gaussian has no limits."),
        ("a code between 0 and 1", lambda: torch.sigmoid(z),
         "the code is squashed. A draw from a Gaussian has no limits."),
        ("averaged over the images", lambda: z.mean(0), "one code is left, the mean. Each image has its own."),
        ("summed over the latents", lambda: z.sum(1), "one number per image is left. A code has Z of them."),
        ("the density of the draw", lambda: Normal(middle, sigma, validate_args=False).log_prob(z),
         "this is the log density at the code, not the code."),
    )()
    right = mu + torch.exp(logvar / 2) * eps
    if mu.requires_grad and (code.shape != mu.shape or not torch.allclose(code, right)):
        raise ValueError("gradients are compared where the values are right: this slip is no explanation")
    return code


# fmt: on

TWO = {"mu": [0.5, 2.0], "logvar": [1.0, -1.0]}
WIDE, NARROW = {"mu": [0.5, 2.0], "logvar": [12.0, 25.0]}, {"mu": [0.5, 2.0], "logvar": [-12.0, -25.0]}

FUNCTIONS = [
    Function(
        "score_function_gradient",
        autograd_of_the_score,
        draws_and_values,
        score_model,
        special=[
            Special("one draw", arrays(**TWO, eps=[[1.0, -2.0]], values=[100.0]), ONE_DRAW),
            Special(
                "four hundred latents",
                arrays(mu=np.zeros(400), logvar=np.cos(np.arange(400.0)), eps=np.sin(np.arange(800.0)).reshape(2, 400))
                | {"values": np.array([1.0, -2.0])},
                "the density of many latents is too small for a float. Their logarithms add up.",
            ),
            Special(
                "one latent", arrays(mu=[0.5], logvar=[1.0], eps=[[1.0], [-2.0], [0.5]], values=[1, 2, 3]), AN_AXIS
            ),
            Special("as many draws as latents", arrays(**TWO, eps=THREE_DRAWS[:2], values=[2, -1]), WHICH_AXIS),
            Special(
                "an f that is the same everywhere",
                arrays(**TWO, eps=THREE_DRAWS, values=[100] * 3),
                "what becomes of values that are all the same?",
            ),
            Special(
                "values that are zero",
                arrays(**TWO, eps=THREE_DRAWS, values=[0] * 3),
                "a value may be 0: do you divide by it, or take its log?",
            ),
            Special("a mu of zero", arrays(mu=[0, 0], logvar=[1, -1], eps=THREE_DRAWS, values=[1, 2, 3]), MU_IS_ZERO),
            Special("a very wide q", arrays(**WIDE, eps=THREE_DRAWS, values=[1, 2, 3]), LOGVAR_HAS_NO_LIMITS),
            Special("a very narrow q", arrays(**NARROW, eps=THREE_DRAWS, values=[1, 2, 3]), LOGVAR_HAS_NO_LIMITS),
            Special("draws without noise", arrays(**TWO, eps=[[0, 0]] * 3, values=[1, 2, 3]), NO_NOISE),
            Special(
                "draws far out",
                arrays(**TWO, eps=[[9, -8], [-7, 6]], values=[1, 2]),
                "a normal distribution has no limits: is something cut off, or too small for a float?",
            ),
        ],
        terms=score_terms,
        probe="f stands for the values. Compare it with the derivative of log q by mu, times f.",
    ),
    Function(
        "pathwise_gradient",
        autograd_along_the_path,
        draws,
        pathwise_model,
        special=[
            Special("one draw", arrays(**TWO, eps=[[1.0, -2.0]]), ONE_DRAW),
            Special("one latent", arrays(mu=[0.5], logvar=[1.0], eps=[[1.0], [-2.0], [0.5]]), AN_AXIS),
            Special("as many draws as latents", arrays(**TWO, eps=THREE_DRAWS[:2]), WHICH_AXIS),
            Special("a mu of zero", arrays(mu=[0, 0], logvar=[1, -1], eps=THREE_DRAWS), MU_IS_ZERO),
            Special("a very wide q", arrays(**WIDE, eps=THREE_DRAWS), LOGVAR_HAS_NO_LIMITS),
            Special("a very narrow q", arrays(**NARROW, eps=THREE_DRAWS), LOGVAR_HAS_NO_LIMITS),
            Special("draws without noise", arrays(**TWO, eps=[[0, 0]] * 3), NO_NOISE),
            Special(
                "draws at the minimum of f",
                arrays(mu=[0.5, 2], logvar=[0, 0], eps=[[0.5, -1], [1, -1]]),
                AT_THE_MINIMUM,
            ),
            Special(
                "draws far out",
                arrays(**TWO, eps=[[9, -8], [-7, 6]]),
                "a normal distribution has no limits: is something cut off?",
            ),
        ],
        terms=pathwise_terms,
        probe="Compare it with a difference quotient of f at z = mu + sigma eps, by mu and by logvar.",
        outputs=("the gradient by mu", "the gradient by logvar"),
    ),
    Function(
        "reparameterize",
        vae_lowlevel.reparameterize,
        posteriors_and_noise,
        reparameterize_model,
        special=[
            Special("a draw without noise", tensors(mu=[[1, 2]], logvar=[[1, -1]], eps=[[0, 0]]), NO_NOISE),
            Special("one code with one latent", tensors(mu=[[0.5]], logvar=[[1]], eps=[[-2]]), AN_AXIS),
            Special(
                "a very wide q",
                tensors(mu=[[1, 2]] * 2, logvar=[[12, 25]] * 2, eps=THREE_DRAWS[:2]),
                LOGVAR_HAS_NO_LIMITS,
            ),
            Special(
                "a very narrow q",
                tensors(mu=[[1e-6, 2e-6]] * 2, logvar=[[-12, -30]] * 2, eps=THREE_DRAWS[:2]),
                LOGVAR_HAS_NO_LIMITS,
            ),
            Special(
                "noise far out",
                tensors(mu=[[1, 2]], logvar=[[1, -1]], eps=[[7, -9]]),
                "a normal distribution has no limits: is something cut off?",
            ),
            Special(
                "the prior for q",
                tensors(mu=[[0, 0]], logvar=[[0, 0]], eps=[[1, -0.5]]),
                "mu and logvar may be 0: do you divide by one, or treat it as missing?",
            ),
        ],
        gradient=("mu", "logvar"),
    ),
]
