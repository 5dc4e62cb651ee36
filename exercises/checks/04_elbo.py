"""Checks of exercise 4. The references are PyTorch's, and for the ELBO log p(x) minus the gap."""

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch.distributions import MultivariateNormal, Normal

from checking import Function, Misconception
from vae_numpy import kl_divergence, sigmoid, softplus

# --- Bernoulli pixels ------------------------------------------------------------------------------------------------


def grey_images(rng):
    shape = (rng.integers(2, 6), 1, rng.integers(2, 5), rng.integers(2, 5))
    return {"logits": 2 * rng.standard_normal(shape), "x": rng.uniform(size=shape)}


def binary_cross_entropy(logits, x):
    logits, x = torch.from_numpy(logits), torch.from_numpy(x)
    return F.binary_cross_entropy_with_logits(logits, x, reduction="none").sum((1, 2, 3)).numpy()


def cross_entropy(logits, x):
    return softplus(logits) - x * logits


def from_probabilities(p, x):
    return -np.sum(x * np.log(p) + (1 - x) * np.log(1 - p), axis=(1, 2, 3))


SURE = np.array([[1000.0, -1000.0], [1000.0, -1000.0]]).reshape(2, 1, 1, 2)
RIGHT_AND_WRONG = np.array([[1.0, 0.0], [0.0, 1.0]]).reshape(2, 1, 1, 2)

# --- Gaussian pixels, and the linear model ---------------------------------------------------------------------------


def vectors(rng):
    shape = (rng.integers(2, 6), rng.integers(3, 7))
    return {
        "mean": rng.standard_normal(shape),
        "x": rng.standard_normal(shape),
        "sigma": float(rng.choice([rng.uniform(0.3, 0.8), rng.uniform(1.2, 2)])),
    }


def normal_nll(mean, x, sigma):
    return -Normal(torch.from_numpy(mean), sigma).log_prob(torch.from_numpy(x)).sum(1).numpy()


def linear_models(rng):
    n, d, z = rng.integers(2, 6), rng.integers(4, 7), rng.integers(2, 4)
    return {
        "x": rng.standard_normal((n, d)),
        "mu": rng.standard_normal((n, z)),
        "logvar": rng.standard_normal((n, z)),
        "W": rng.standard_normal((d, z)),
        "b": rng.standard_normal(d),
        "sigma": float(rng.choice([rng.uniform(0.5, 0.8), rng.uniform(1.2, 2)])),
    }


def evidence_minus_gap(x, mu, logvar, W, b, sigma):
    """log p(x) - KL(q || p(z|x)), from two Gaussians with full covariance."""
    x, mu, logvar, W, b = (torch.from_numpy(array) for array in (x, mu, logvar, W, b))
    d, z = W.shape
    evidence = MultivariateNormal(b, W @ W.T + sigma**2 * torch.eye(d, dtype=W.dtype)).log_prob(x)
    precision = torch.eye(z, dtype=W.dtype) + W.T @ W / sigma**2
    posterior = MultivariateNormal(torch.linalg.solve(precision, W.T @ (x - b).T / sigma**2).T, precision.inverse())
    q = MultivariateNormal(mu, torch.diag_embed(torch.exp(logvar)))
    return (evidence - torch.distributions.kl_divergence(q, posterior)).numpy()


def mistaken_elbo(spread=None, average=False, sign=1, kl_weight=1):
    """An ELBO with one mistake. spread(var, W, sigma) -> (N,): what is added to the cost of the mean code."""

    def function(x, mu, logvar, W, b, sigma):
        cost = normal_nll(mu @ W.T + b, x, sigma) + (spread or right_spread)(np.exp(logvar), W, sigma)
        return sign * (-cost / (len(b) if average else 1) - kl_weight * kl_divergence(mu, logvar))

    return function


def right_spread(variance, W, sigma):
    return (variance[:, None] * W**2).sum((1, 2)) / (2 * sigma**2)


# --- Units -----------------------------------------------------------------------------------------------------------


def costs(rng):
    num_pixels = int(rng.integers(50, 900))
    return {"nats": num_pixels * rng.standard_normal(rng.integers(2, 6)), "num_pixels": num_pixels}


def log2_of_inverse_probability(nats, num_pixels):
    return np.log2(np.exp(nats / num_pixels))


FUNCTIONS = [
    Function(
        "bernoulli_nll",
        binary_cross_entropy,
        grey_images,
        [
            Misconception(
                "the sign",
                lambda logits, x: -cross_entropy(logits, x).sum((1, 2, 3)),
                "this is the log-likelihood, which is never above zero for such pixels. A cost is its negative.",
            ),
            Misconception(
                "mean over the pixels",
                lambda logits, x: cross_entropy(logits, x).mean((1, 2, 3)),
                "you average over the pixels. The nats of pixels that are independent, given z, add up.",
            ),
            Misconception(
                "summed over the batch",
                lambda logits, x: cross_entropy(logits, x).sum(),
                "one number comes out for the whole batch. Which axes belong to one image?",
            ),
            Misconception(
                "not summed",
                lambda logits, x: cross_entropy(logits, x),
                "there is still one number for each pixel. What does the whole image cost?",
            ),
            Misconception(
                "logits taken for probabilities",
                lambda logits, x: from_probabilities(logits, x),
                "you take logs of the logits themselves. They can be negative: what turns them into probabilities?",
            ),
            Misconception(
                "sigmoid twice",
                lambda logits, x: cross_entropy(sigmoid(logits), x).sum((1, 2, 3)),
                "a sigmoid is applied to what went through a sigmoid already. Is your formula for logits or for p?",
            ),
            Misconception(
                "only the white pixels",
                lambda logits, x: (x * softplus(-logits)).sum((1, 2, 3)),
                "a decoder that paints everything white would cost nothing. Who pays for the black pixels?",
            ),
            Misconception(
                "black and white exchanged",
                lambda logits, x: cross_entropy(logits, 1 - x).sum((1, 2, 3)),
                "try x = 1 and a large positive logit: that pixel was predicted well. What does yours cost?",
            ),
            Misconception(
                "the squared error",
                lambda logits, x: ((x - sigmoid(logits)) ** 2).sum((1, 2, 3)),
                "this is a squared error of probabilities. A sure and wrong pixel must be able to cost more than 1.",
            ),
            Misconception(
                "overflow of exp",
                lambda logits, x: (np.log(1 + np.exp(logits)) - x * logits).sum((1, 2, 3)),
                "the formula is right, but exp(1000) is no number any more. Which value should that term have there?",
            ),
            Misconception(
                "the log of zero",
                lambda logits, x: from_probabilities(1 / (1 + np.exp(-logits)), x),
                "the formula is right, but p rounds to 0 or 1 for a sure decoder. Can you do without p?",
            ),
            Misconception(
                "clipped probabilities",
                lambda logits, x: from_probabilities(np.clip(sigmoid(logits), 1e-7, 1 - 1e-7), x),
                "clipping hides the infinity and makes a wrong pixel too cheap (and its gradient zero). Can you do "
                "without p?",
            ),
        ],
        special=[("a decoder that is very sure of itself", {"logits": SURE, "x": RIGHT_AND_WRONG})],
    ),
    Function(
        "gaussian_nll",
        normal_nll,
        vectors,
        [
            Misconception(
                "the sign",
                lambda mean, x, sigma: -normal_nll(mean, x, sigma),
                "the further x is from the mean, the lower is your cost. It is the log density itself.",
            ),
            Misconception(
                "mean over the pixels",
                lambda mean, x, sigma: normal_nll(mean, x, sigma) / x.shape[1],
                "you average over the pixels. The nats of pixels that are independent, given z, add up.",
            ),
            Misconception(
                "summed over the batch",
                lambda mean, x, sigma: normal_nll(mean, x, sigma).sum(),
                "one number comes out for the whole batch. Keep the images apart.",
            ),
            Misconception(
                "a distance without a density",
                lambda mean, x, sigma: ((x - mean) ** 2).sum(1),
                "this is the squared distance, and sigma does not matter to it. Start from the density of one pixel.",
            ),
            Misconception(
                "only the squared error",
                lambda mean, x, sigma: (((x - mean) / sigma) ** 2 / 2).sum(1),
                "with a huge sigma everything would be free. What stands in front of the exponential in the density?",
            ),
            Misconception(
                "the forgotten pi",
                lambda mean, x, sigma: (((x - mean) / sigma) ** 2 / 2 + math.log(sigma)).sum(1),
                "you are off by the same number of nats for every image. Does your density integrate to one?",
            ),
            Misconception(
                "the forgotten log sigma",
                lambda mean, x, sigma: (((x - mean) / sigma) ** 2 / 2 + math.log(2 * math.pi) / 2).sum(1),
                "a wide Gaussian is a low one. Where does its height enter?",
            ),
            Misconception(
                "constants once for each image",
                lambda mean, x, sigma: (
                    (((x - mean) / sigma) ** 2 / 2).sum(1) + math.log(sigma) + math.log(2 * math.pi) / 2
                ),
                "the terms without x stand outside the sum. Each pixel has a density of its own.",
            ),
            Misconception(
                "sigma taken for the variance",
                lambda mean, x, sigma: normal_nll(mean, x, math.sqrt(sigma)),
                "you use sigma as if it were a variance. It is the standard deviation.",
            ),
            Misconception(
                "sigma not squared",
                lambda mean, x, sigma: (
                    normal_nll(mean, x, sigma) + ((x - mean) ** 2).sum(1) * (1 / (2 * sigma) - 1 / (2 * sigma**2))
                ),
                "the exponent has no unit: if x and sigma are both measured in something else, it must stay the same.",
            ),
            Misconception(
                "the missing half",
                lambda mean, x, sigma: normal_nll(mean, x, sigma) + (((x - mean) / sigma) ** 2 / 2).sum(1),
                "the squared error weighs twice too much. Compare with the exponent of the density.",
            ),
            Misconception(
                "log sigma subtracted",
                lambda mean, x, sigma: normal_nll(mean, x, sigma) - 2 * x.shape[1] * math.log(sigma),
                "for x = mean a narrower Gaussian has to be cheaper. Yours is dearer.",
            ),
        ],
    ),
    Function(
        "elbo",
        evidence_minus_gap,
        linear_models,
        [
            Misconception(
                "only the mean code",
                mistaken_elbo(lambda variance, W, sigma: 0),
                "you decode mu alone. That cost is too low: the codes are spread around mu, and the mean is over them.",
            ),
            Misconception(
                "the sign",
                mistaken_elbo(sign=-1),
                "this is the loss, minus the ELBO. Is yours a lower bound of log p(x)?",
            ),
            Misconception(
                "the KL added",
                mistaken_elbo(kl_weight=-1),
                "your bound rises when q leaves the prior. Is the KL a gain or a price?",
            ),
            Misconception(
                "no KL",
                mistaken_elbo(kl_weight=0),
                "this is the reconstruction term alone. What do the codes cost?",
            ),
            Misconception(
                "reconstruction averaged over the pixels",
                mistaken_elbo(average=True),
                "one term is a mean over pixels, the other a sum over latents. A sum of nats must not mix the two.",
            ),
            Misconception(
                "sigma where the variance belongs",
                mistaken_elbo(lambda variance, W, sigma: right_spread(np.sqrt(variance), W, sigma)),
                "the spread enters with the wrong power. Variances of independent things add, sigmas do not.",
            ),
            Misconception(
                "logvar where the variance belongs",
                mistaken_elbo(lambda variance, W, sigma: right_spread(np.log(variance), W, sigma)),
                "the spread of the codes can be negative in yours. What is logvar the logarithm of?",
            ),
            Misconception(
                "the spread before decoding",
                mistaken_elbo(lambda variance, W, sigma: variance.sum(1) / (2 * sigma**2)),
                "you add the variance of the codes. What counts is how far apart they are once they are decoded.",
            ),
            Misconception(
                "W not squared",
                mistaken_elbo(lambda variance, W, sigma: (variance @ W.T).sum(1) / (2 * sigma**2)),
                "if a number is multiplied by w, its variance grows by something else than w.",
            ),
            Misconception(
                "the length of a column not squared",
                mistaken_elbo(lambda variance, W, sigma: variance @ np.linalg.norm(W, axis=0) / (2 * sigma**2)),
                "double W, and the decoded codes lie twice as far apart. By which factor does the squared error grow?",
            ),
            Misconception(
                "the spread without sigma",
                mistaken_elbo(lambda variance, W, sigma: right_spread(variance, W, 1)),
                "the spread is part of the squared error, and has to be weighed as the rest of it.",
            ),
            Misconception(
                "the spread twice",
                mistaken_elbo(lambda variance, W, sigma: 2 * right_spread(variance, W, sigma)),
                "the spread weighs twice too much. It has the same factor as the squared error.",
            ),
            Misconception(
                "the spread as a gain",
                mistaken_elbo(lambda variance, W, sigma: -right_spread(variance, W, sigma)),
                "vague codes make your reconstruction better. Which sign has the variance in a mean squared error?",
            ),
        ],
    ),
    Function(
        "bits_per_dim",
        log2_of_inverse_probability,
        costs,
        [
            Misconception(
                "still nats",
                lambda nats, num_pixels: nats / num_pixels,
                "these are nats per pixel. A fair coin costs one bit; how many nats?",
            ),
            Misconception(
                "the wrong way round",
                lambda nats, num_pixels: nats / num_pixels * math.log(2),
                "a bit is less than a nat, so there must be more bits than nats. Yours are fewer.",
            ),
            Misconception(
                "bits of the whole image",
                lambda nats, num_pixels: nats / math.log(2),
                "these are the bits of the image. What is the share of one pixel?",
            ),
            Misconception(
                "the logarithm of the nats",
                lambda nats, num_pixels: np.log2(nats / num_pixels),
                "the nats are logarithms already. To change the base of a logarithm, you need no second one.",
            ),
            Misconception(
                "base ten",
                lambda nats, num_pixels: nats / (num_pixels * math.log(10)),
                "these are decimal digits per pixel. How many values has a bit?",
            ),
            Misconception(
                "the sign",
                lambda nats, num_pixels: -nats / (num_pixels * math.log(2)),
                "both are costs: changing the unit does not change the sign.",
            ),
            Misconception(
                "averaged over the batch",
                lambda nats, num_pixels: nats.mean() / (num_pixels * math.log(2)),
                "one number comes out for the whole batch. Keep the images apart.",
            ),
        ],
    ),
]
