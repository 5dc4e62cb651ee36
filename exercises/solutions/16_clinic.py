"""Solutions of exercise 16. What the patients have, A to H:

A  the nats of the pixels averaged: the KL weighs 784 times what it should, and nothing is worth its price.
B  exp(logvar) for sigma: the noise has the standard deviation sigma^2, so the KL charges for half the precision.
C  a second sigmoid: no pixel can be more certain than sigmoid(0) = 1/2 or sigmoid(1) = 0.73.
D  test images divided by 255 twice: the network is healthy, and sees black.
E  an optimiser without the encoder: its output, and so the KL, stays what it was at the start.
F  a KL without its half: beta = 2.
G  no noise: sigma = 1 costs nothing, and mu can be as small as it likes, for the decoder sees all its digits.
H  a KL with the wrong sign: it is paid for being far away, without limit.
"""

import torch
from torch.nn.functional import binary_cross_entropy_with_logits, linear


def diagnoses():
    """The number (1 to 14) of each patient's fault: a dictionary {"A": ..., "B": ..., and so on to "H"} of numbers.

    0 where you do not know yet.
    """
    return {"A": 7, "B": 3, "C": 6, "D": 2, "E": 11, "F": 8, "G": 4, "H": 10}


def mend_a(logits, x):
    """The nll of each image, logits and x (N, D) -> (N,) nats: x from 0 to 1 (grey too), logits as large as 1000."""
    return binary_cross_entropy_with_logits(logits, x, reduction="none").sum(dim=1)


def mend_b(logvar):
    """The standard deviation of q: logvar (N, Z), the log of the variance -> (N, Z)."""
    return torch.exp(logvar / 2)


def mend_c(h, weight, bias):
    """The last layer: h (N, H), weight (D, H), bias (D,) -> the pixels' logits (N, D), real numbers without limits."""
    return linear(h, weight, bias)


def mend_d(pixels):
    """Test images for the network, as the training images are: pixels (N, D), uint8, 0 to 255 -> (N, D), 0 to 1.

    255 is 1 always, whatever the brightest pixel of the batch.
    """
    return pixels / 255


def mend_e(names):
    """Which parameters the optimiser gets, so that the whole model learns: names, a list of P strings.

    The names are such as "encoder.0.weight" and "decoder.2.bias" -> a list of P truth values, in the same order.
    """
    return [True for _ in names]


def mend_f(mu, logvar):
    """KL(N(mu, exp(logvar)) || N(0, I)) of each image: mu and logvar (N, Z) -> (N,) nats, the sum over the latents."""
    return 0.5 * (mu**2 + torch.exp(logvar) - 1 - logvar).sum(dim=1)


def mend_g(mu, sigma, eps):
    """A draw from q for each image: mu, sigma and eps (N, Z), the noise that is to be used -> (N, Z)."""
    return mu + sigma * eps


def mend_h(nll, kl):
    """What is minimised, -ELBO, as a mean over the images: nll and kl (N,) nats -> a tensor with one number."""
    return (nll + kl).mean()
