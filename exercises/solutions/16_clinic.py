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
    return {"A": 7, "B": 3, "C": 6, "D": 2, "E": 11, "F": 8, "G": 4, "H": 10}


def mend_a(logits, x):
    return binary_cross_entropy_with_logits(logits, x, reduction="none").sum(dim=1)


def mend_b(logvar):
    return torch.exp(logvar / 2)


def mend_c(h, weight, bias):
    return linear(h, weight, bias)


def mend_d(pixels):
    return pixels / 255


def mend_e(names):
    return [True for _ in names]


def mend_f(mu, logvar):
    return 0.5 * (mu**2 + torch.exp(logvar) - 1 - logvar).sum(dim=1)


def mend_g(mu, sigma, eps):
    return mu + sigma * eps


def mend_h(nll, kl):
    return (nll + kl).mean()
