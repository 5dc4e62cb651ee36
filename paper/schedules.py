"""How the KL enters the loss while a VAE trains: annealed, kept from collapsing, or held at a capacity.

Everything here is a pure function of the training step, so nothing advances when the test images are evaluated, and a
run that resumes at a step has the weight of that step. `step` counts the training steps done so far; None stands for
the end of the schedule. The last part is about the optimiser's step size, in the same manner.

Papers, cited below by their first author and year:
    Burda et al. 2015, "Importance Weighted Autoencoders", arXiv:1509.00519 (staircase)
    Bowman et al. 2016, "Generating Sentences from a Continuous Space", arXiv:1511.06349 (sigmoid)
    Sonderby et al. 2016, "Ladder Variational Autoencoders", arXiv:1602.02282 (linear warm-up)
    Kingma et al. 2016, "Improving Variational Inference with Inverse Autoregressive Flow", arXiv:1606.04934 (free bits)
    Burgess et al. 2018, "Understanding disentangling in beta-VAE", arXiv:1804.03599 (capacity)
    Fu et al. 2019, "Cyclical Annealing Schedule", arXiv:1903.10145 (cyclical)
"""

import math
from dataclasses import dataclass
from typing import Literal

from processes import gathered
from trainable import Options, flag, option, require


def constant(step, steps):
    """1, from the first step on."""
    return 1.0


def linear(step, steps):
    """From 0 to 1 in equal increments over `steps` steps, then 1 (Sonderby 2016)."""
    return min(1.0, step / steps)


def sigmoid(step, steps, steepness=12.0):
    """From nearly 0 to nearly 1 along a logistic curve, 1/2 in the middle of `steps` steps, then 1 (Bowman 2016).

    It starts and ends at sigmoid(-+ steepness / 2): 0.0025 and 0.9975 for 12.
    """
    return 1.0 if step >= steps else 1 / (1 + math.exp(-steepness * (step / steps - 0.5)))


def cyclical(step, steps, cycles=4, ramp=0.5):
    """`cycles` times from 0 to 1 over `steps` steps, then 1 (Fu 2019).

    Of each cycle the first part, `ramp`, rises linearly, and the rest stays at 1.
    """
    if step >= steps:
        return 1.0
    return min(1.0, step * cycles / steps % 1 / ramp)


SHAPES = {"constant": constant, "linear": linear, "sigmoid": sigmoid, "cyclical": cyclical}


def free_bits(kl, nats, group_size=1):
    """The KL of a batch, of which each group of latents may spend `nats` for free (Kingma 2016, appendix).

        sum over groups g of max(lambda, mean over the batch of KL_g)

    The mean is taken before the maximum: a group is let off when it says little on average, however much about one
    image. kl: (N, Z) nats per image and latent -> a scalar, nats. Raises ValueError if the groups do not divide the
    latents.
    """
    if kl.shape[1] % group_size:
        raise ValueError(f"{kl.shape[1]} latents do not make groups of {group_size}")
    per_group = kl.mean(dim=0).view(-1, group_size).sum(dim=1)  # (Z / group_size,)
    return per_group.clamp(min=nats).sum()


@dataclass
class KLSchedule(Options):
    """The KL's part of the loss: by default beta * KL, from the first step on.

    With `capacity` it is instead capacity_gamma * |KL - C|, where C grows linearly from 0 to that many nats over
    `kl_steps` steps (Burgess 2018).
    """

    beta: float = option(1.0, least=0)
    """Weight of the KL in training; 1 is the VAE, more asks for a simpler code. Reports always use 1."""
    kl_schedule: Literal["constant", "linear", "sigmoid", "cyclical"] = "constant"
    """How the KL's weight rises to beta over the first --kl-steps training steps."""
    kl_steps: int = option(1, least=1)
    """Training steps that --kl-schedule or --capacity takes."""
    free_bits: float = option(0.0, least=0)
    """Nats that each latent may spend for free, against posterior collapse."""
    group_size: int = option(1, least=1)
    """Latents that share their --free-bits."""
    capacity: float | None = option(None, least=0)
    """Train with gamma * |KL - C| instead of beta * KL, with C growing from 0 to this many nats over --kl-steps."""
    capacity_gamma: float = option(1000.0, least=0)
    """The gamma of --capacity."""

    def check(self, flags=False):
        super().check(flags)
        name = flag if flags else str
        alone = self.capacity is None
        require(alone or self.beta == 1, f"capacity weighs the KL by gamma: leave out {name('beta')}")
        annealed = self.kl_schedule != "constant"
        require(
            alone or not (annealed or self.free_bits),
            f"capacity sets the whole KL: leave out {name('kl_schedule')} and {name('free_bits')}",
        )
        default = type(self).capacity_gamma
        require(not alone or self.capacity_gamma == default, f"{name('capacity_gamma')} belongs to {name('capacity')}")
        require(
            self.free_bits > 0 or self.group_size == 1,
            f"{name('group_size')} belongs to {name('free_bits')}: give both",
        )
        # A schedule of one step would be no schedule, and steps without one would be ignored.
        require(
            (annealed or not alone) == (self.kl_steps > 1),
            f"{name('kl_schedule')} and {name('capacity')} go together with {name('kl_steps')} above 1",
        )

    @property
    def couples_batch(self):
        """Free bits and capacity look at the KL's mean over the batch, not at each image's."""
        return self.free_bits > 0 or self.capacity is not None

    def penalty(self, kl, step):
        """kl: (N, Z) nats per image and latent -> (N,) nats per image, or a scalar where the batch is coupled.

        With many processes, kl is this one's part, and such a scalar is of the whole batch.
        """
        if self.capacity is not None:
            target = self.capacity * linear(self.kl_steps if step is None else step, self.kl_steps)
            return self.capacity_gamma * (gathered(kl).sum(dim=1).mean() - target).abs()
        weight = self.beta * (1.0 if step is None else SHAPES[self.kl_schedule](step, self.kl_steps))
        if self.free_bits:
            return weight * free_bits(gathered(kl), self.free_bits, self.group_size)
        return weight * kl.sum(dim=1)


# --- The step size ---------------------------------------------------------------------------------------------------
# What it is multiplied with when this part of the run, from 0 to 1, is done.


def falling_cosine(done):
    """From 1 to 0 along half a cosine: long steps first, and none that undoes the last ones."""
    return (1 + math.cos(math.pi * done)) / 2


def staircase(done, stairs=8):
    """Eight stairs from 1 to 1/10, each three times as long as the one before (Burda 2015, section 5).

    There it is 10^(-i/7) for 3^i epochs, i = 0 to 7, 3,280 epochs in all; here their lengths follow those of the run.
    """
    stair = math.floor(math.log(1 + done * (3**stairs - 1), 3) + 1e-9)  # i of them end at (3^i - 1) / (3^8 - 1)
    return 10 ** (-min(stair, stairs - 1) / (stairs - 1))


LR_SCHEDULES = {"constant": lambda done: 1.0, "cosine": falling_cosine, "staircase": staircase}
