"""The patients of exercise 16: one broken piece each. Do not read on before you have named what they have.

`patient("A")` gives the pieces of patient A by name, for `train(**pieces)` in the exercise's text.
"""

import torch
from torch.nn.functional import binary_cross_entropy_with_logits, linear


def a(logits, x):
    return binary_cross_entropy_with_logits(logits, x, reduction="none").mean(dim=1)


def b(logvar):
    return torch.exp(logvar)


def c(h, weight, bias):
    return torch.sigmoid(linear(h, weight, bias))


def d(pixels):
    images = pixels / 255
    return images / 255


def e(names):
    return ["decoder" in name for name in names]


def f(mu, logvar):
    return (mu**2 + torch.exp(logvar) - 1 - logvar).sum(dim=1)


def g(mu, sigma, eps):
    return mu


def h(nll, kl):
    return (nll - kl).mean()


PATIENTS = {
    "A": {"nll": a},
    "B": {"spread": b},
    "C": {"pixel_logits": c},
    "D": {"prepare_test": d},
    "E": {"trainable": e},
    "F": {"kl": f},
    "G": {"codes": g},
    "H": {"loss": h},
}


def patient(letter):
    """{name: function}: the pieces in which the program of this patient differs from the healthy one."""
    if letter not in PATIENTS:
        raise ValueError(f"there is no patient {letter!r}: expected one of {', '.join(PATIENTS)}")
    return dict(PATIENTS[letter])
