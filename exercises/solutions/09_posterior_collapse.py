"""Posterior collapse: how to see it, and three ways against it.

Free bits: the penalty of latent d is max(lambda, KL_d), KL_d its mean over the batch. Its gradient with respect to
KL_d is 1 above lambda and 0 below, so that a latent that says less than lambda nats is not punished for speaking up.
Annealing puts a weight in front of the whole KL that is small while the decoder has yet to learn what the code is for.
"""

import numpy as np


def kl_per_latent(mu, logvar):
    """What each latent costs on average: mu, logvar (N, Z) -> (Z,) nats, the mean over the images."""
    return 0.5 * np.mean(mu**2 + np.exp(logvar) - 1 - logvar, axis=0)


def linear_weight(step, steps):
    """The KL's weight: from 0 at step 0 to 1 at step `steps`, then 1. step: an array (T,) -> (T,)."""
    return np.minimum(1, step / steps)


def cyclical_weight(step, steps, cycles, ramp):
    """`cycles` times from 0 to 1 within `steps` steps, then 1. step: an array (T,) -> (T,).

    Of each cycle the first part, `ramp` (a fraction between 0 and 1), rises linearly, and the rest stays at 1.
    """
    phase = step * cycles / steps % 1  # how far into its cycle a step is
    return np.where(step < steps, np.minimum(1, phase / ramp), 1)


def free_bits(kl, nats):
    """The penalty of a batch: kl (N, Z) nats, of which each latent may spend `nats` for free -> one number, nats."""
    return np.maximum(kl.mean(axis=0), nats).sum()
