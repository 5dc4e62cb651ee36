"""Checks of exercise 13. The references are torch.distributions, loops and beta_tcvae.py, not the solutions."""

import math

import numpy as np
import torch
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal

from beta_tcvae import stratified_log_weights
from checking import Function, Special
from mistakes import advised


def normal(rng, *shape):
    return torch.from_numpy(rng.standard_normal(shape))


def doubles(values):
    return torch.tensor(values, dtype=torch.float64)


IS_LOST = "Is an axis lost where it has length 1, or does something divide by zero?"

# --- The exact total correlation -------------------------------------------------------------------------------------


def codes_and_posteriors(rng, codes=None, images=None, latents=None):
    n = images or int(rng.integers(3, 9))
    b = codes or int(rng.choice([b for b in range(2, 7) if b != n]))
    z = latents or int(rng.choice([z for z in range(2, 6) if z not in (b, n)]))
    return {"z": normal(rng, b, z), "all_mu": normal(rng, n, z), "all_logvar": normal(rng, n, z)}


def mixture_total_correlation(z, all_mu, all_logvar):
    every = Categorical(logits=torch.zeros_like(all_mu[:, 0]))
    sigma = torch.exp(all_logvar / 2)
    log_q_z = MixtureSameFamily(every, Independent(Normal(all_mu, sigma), 1)).log_prob(z)
    for d in range(z.shape[1]):
        log_q_z = log_q_z - MixtureSameFamily(every, Normal(all_mu[:, d], sigma[:, d])).log_prob(z[:, d])
    return log_q_z.mean()


def narrow_posteriors():
    n = torch.arange(12, dtype=torch.float64)
    return {
        "z": doubles([[3.0, 4.0], [-2.0, 5.0]]),
        "all_mu": torch.sin(n).reshape(6, 2),
        "all_logvar": -9 + torch.cos(n).reshape(6, 2),
    }


def many_latents(logvar):
    """Codes in the middle of one posterior each, and in 300 latents not far from the others."""
    mu = torch.sin(torch.arange(900, dtype=torch.float64)).reshape(3, 300)
    mu = mu * math.exp(logvar / 2)
    return {"z": mu[:2] * 0.9, "all_mu": mu, "all_logvar": torch.full_like(mu, logvar)}


def seeded(**sizes):
    return codes_and_posteriors(np.random.default_rng(0), **sizes)


FAR_OUT = {
    "z": doubles([[0.1, 0.2], [60.0, -70.0], [-50.0, 0.0]]),
    "all_mu": doubles([[0.0, 0.5], [1.0, -0.5], [-1.0, 0.0], [0.3, 0.2]]),
    "all_logvar": doubles([[0.0, 0.1], [-0.2, 0.0], [0.2, 0.3], [0.1, -0.1]]),
}
SURE_OR_VAGUE = {
    "z": doubles([[0.5, 2.0], [1.0, -40.0]]),
    "all_mu": doubles([[0.5 + 1e-8, 1.0], [1.0, 3.0], [-1.0, 0.5]]),
    "all_logvar": doubles([[-30.0, 2.0], [0.0, 14.0], [9.0, -0.5]]),
}
SAME = {"z": doubles([[0.5, 2.0], [1.0, -4.0], [0.0, 0.0]]), "all_mu": torch.ones(4, 2).double()}
SAME["all_logvar"] = -SAME["all_mu"]  # one Gaussian


ONE_GAUSSIAN = "What is the total correlation of one Gaussian, and is something added to it?"
VANISHES = "What becomes of a density too small for a float?"
PRIOR = "you compare with a standard Gaussian. The product is that of the q(z_d)."
ONE_IMAGE = "you keep one image of all. Over what is the density a mean?"
LOG_INSIDE = "it is a mean of densities, and your log is inside that mean."
WEIGHED = "the codes are drawn from q(z) already: do not weigh them with it once more."
BELOW_ZERO = "single codes may count below zero; only the mean over many may not."
IS_A_MEAN = "it is a mean, but over what, and how many are these?"


def densities(choose, z, mu, logvar):
    """log q(z_d|x_n), (B, N, Z)."""
    spread = "your posteriors have the wrong spread: all_logvar is the log of sigma squared."
    logvar = choose(logvar, ("logvar taken for log sigma", 2 * logvar, spread))
    difference = z[:, None] - mu
    distance = choose(
        difference**2,
        ("distances not squared", difference, "the distance of a code from mu enters without its square."),
    )
    square = choose(
        distance * np.exp(-logvar),
        ("sigma for the variance", distance * np.exp(-logvar / 2), "in the exponent the square is divided by sigma."),
        ("the variance squared", distance * np.exp(-2 * logvar), "in the exponent the variance is squared once more."),
        ("times the variance", distance * np.exp(logvar),
         "the wider a posterior is, the faster it falls off in yours."),
        ("exponents without a width", distance + 0 * logvar, "in the exponent the width of the posterior is missing."),
        ("the missing half", 2 * distance * np.exp(-logvar), "the square weighs twice too much in your densities."),
        ("the sign of the square", -distance * np.exp(-logvar), "your densities grow with the distance."),
    )  # fmt: skip
    height = choose(
        logvar,
        ("heights that do not depend on the width", 0 * logvar, "a narrow Gaussian is a high one. Is it in yours?"),
        ("the variance in the height", 2 * logvar, "the height of a Gaussian goes with sigma, not with its square."),
        ("the sign of the height", -logvar, "is a narrow Gaussian high or low?"),
    )
    constant = choose(
        math.log(2 * math.pi),
        ("densities without pi", 0.0, "a constant of the log density is missing; here it counts."),
    )
    return choose(
        -0.5 * (square + height + constant),
        ("log densities doubled", -(square + height + constant), "the factor in front of the log density is missing."),
    )


def correlation_model(choose, z, all_mu, all_logvar):
    z, mu, logvar = z.numpy(), all_mu.numpy(), all_logvar.numpy()
    (b, latents), n = z.shape, len(mu)
    log_q = densities(choose, z, mu, logvar)
    turned = choose.slip(
        "the wrong axis",
        "you add up the densities of different codes under one image. One code is judged by all the images.",
    )
    log_q = log_q.swapaxes(0, 1) if turned else log_q
    vanish = choose.slip(
        "densities that vanish",
        "it is right until a density is too small or too large for a float, and then its log is gone. Do not leave the "
        "logs.",
    )
    batch = choose.slip(
        "one shift for all",
        "where one code is far likelier than another, the other loses all its densities. Each has its own scale.",
    )

    def log_sum(logs, axis):
        shift = 0.0 if vanish else logs.max() if batch else logs.max(axis, keepdims=True)
        return np.log(np.exp(logs - shift).sum(axis)) + (shift.squeeze(axis) if np.ndim(shift) else shift)

    log_n = choose(
        math.log(n),
        ("log N left out, or once for all latents", 0.0,
         "nothing of log N is left in yours. q(z) and each q(z_d) are means over the N images."),
        ("divided by the batch", math.log(b), "you divide by the number of codes. Over what is q(z) a mean?"),
        ("log N with the wrong sign", -math.log(n), "your means are larger than the sums."),
        ("N for log N", n, "you subtract N itself from a logarithm."),
    )  # fmt: skip
    of_joint, of_latents = (
        choose(
            log_n,
            (f"log N left out of {name}", 0.0, f"{name} is a mean over the N images as well."),
            (f"{name} divided by the batch", math.log(b), f"{name}: {IS_A_MEAN}"),
        )
        for name in ("q(z)", "q(z_d)")
    )
    code = choose(
        log_q.sum(2),
        ("mean over the latents in q(z)", log_q.mean(2), "the log density of a code is the sum of its latents'."),
        ("latents added as densities", np.log(np.exp(log_q).sum(2)), "a code's density is no sum over its latents."),
    )
    joint = log_sum(code, 1) - of_joint
    joint = choose(
        joint,
        ("the mean of the logs in q(z)", code.mean(1), f"q(z): {LOG_INSIDE}"),
        ("the best image in q(z)", code.max(1) - of_joint, ONE_IMAGE),
        ("q(z) itself for its log", np.exp(joint), "q(z) stands there without its logarithm."),
    )
    prior = -0.5 * (z**2 + math.log(2 * math.pi))
    marginals = log_sum(log_q, 1) - of_latents
    marginals = choose(
        marginals,
        ("the mean of the logs", log_q.mean(1), f"each q(z_d): {LOG_INSIDE}"),
        ("the best image in q(z_d)", log_q.max(1) - of_latents, ONE_IMAGE),
        ("q(z_d) itself for its log", np.exp(marginals), "q(z_d) stands there without its log."),
        ("the prior for the q(z_d)", 0 * log_q[:, 0] + prior.mean(0), PRIOR),
    )
    product = choose(
        marginals.sum(1),
        ("mean over the latents", marginals.mean(1),
         "the product of the q(z_d) has a log that is a sum over the latents; you take their mean."),
        ("the product of the logs", marginals.prod(1), "you multiply the logs. What is the log of a product?"),
        ("without the last latent", marginals[:, :-1].sum(1), "the last q(z_d) does not count in yours."),
        ("without the first latent", marginals[:, 1:].sum(1), "the first q(z_d) does not count in yours."),
        ("the q(z_d) added up", np.log(np.exp(marginals).sum(1)), "you add the q(z_d). The formula has their product."),
    )  # fmt: skip
    ratio = joint - product
    ratio = choose(
        ratio,
        ("the sign", -ratio,
         "this is minus the total correlation. Which of the two densities did the codes come from?"),
        ("the sum of both", joint + product, "you add the two logs. How do they come into a ratio?"),
        ("only q(z)", joint, "this is the mean of log q(z) alone. What is it compared with?"),
        ("only the product", product, "this is the product of the q(z_d) alone. What is compared with it?"),
        ("the mutual information", code.max(1) - joint, "your first density is that of a single image: where is q(z)?"),
        ("the dimension-wise KL", product - prior.sum(1).mean(),
         "this compares the product of the q(z_d) with the prior."),
        ("the quotient of the logs", joint / product, "the log of a ratio is no ratio of logs."),
        ("the ratio itself", np.exp(ratio), "this is the mean of the ratio, not of its logarithm."),
        ("the absolute difference", np.abs(ratio), BELOW_ZERO),
        ("cut off at zero for each code", np.maximum(ratio, 0), BELOW_ZERO),
        ("the difference of the densities", np.exp(joint) - np.exp(product), "you subtract densities, not their logs."),
        ("weighted with q(z)", np.exp(joint) * ratio, WEIGHED),
        ("weighted with its share of q(z)", np.exp(joint) / np.exp(joint).mean() * ratio, WEIGHED),
        ("the codes averaged inside the logarithm",
         0 * ratio + np.log(np.exp(joint).mean()) - np.log(np.exp(marginals).mean(0)).sum(),
         "you average the densities over the codes. The mean over the codes is one of logs."),
        ("the same twice", 0 * ratio, "it is always zero. When come the sum over latents and the mean over images?"),
    )  # fmt: skip
    return choose(
        ratio.mean(),
        ("summed over the codes", ratio.sum(), "the result grows with the number of codes. A KL is a mean over them."),
        ("one number per code", ratio,
         "there is still one number for each code. The total correlation belongs to all of them together."),
        ("divided by N", ratio.sum() / n, "the mean is one over the codes. How many are there?"),
        ("divided by the latents", ratio.mean() / latents, "you divide by the number of latents. Their nats add up."),
        ("the median", np.sort(ratio)[(len(ratio) - 1) // 2], "you take the median over the codes. The KL is a mean."),
        ("the first code", ratio[0], "you look at one code only."),
        ("the last code", ratio[-1], "you look at one code only: is a variable overwritten in a loop?"),
        ("the log of the mean ratio", np.log(np.exp(ratio).mean()), "your logarithm is outside the mean."),
        ("not below zero", np.maximum(ratio.mean(), 0), "from a few codes it may come out below zero: why cut it off?"),
        ("divided by one code less", ratio.sum() / (len(ratio) - 1), "you divide by the number of codes minus one."),
    )  # fmt: skip


def correlation_terms(z, all_mu, all_logvar):
    z, mu, logvar = z.numpy(), all_mu.numpy(), all_logvar.numpy()
    (b, latents), n = z.shape, len(mu)
    log_q = -0.5 * ((z[:, None] - mu) ** 2 * np.exp(-logvar) + logvar + math.log(2 * math.pi))
    joint, marginals = np.log(np.exp(log_q.sum(2)).mean(1)), np.log(np.exp(log_q).mean(1))
    return {
        "E[log q(z)]": joint.mean(), "E[sum of log q(z_d)]": marginals.sum(1).mean(), "log N": math.log(n),
        "Z log N": latents * math.log(n), "log B": math.log(b), "Z log B": latents * math.log(b), "Z": latents,
        "E[log p(z)]": -0.5 * (z**2 + math.log(2 * math.pi)).sum(1).mean(), "1": 1.0, "N": n,
        "E[sum of log q(z_d)] / Z": marginals.mean(), "E[log q(z)] / Z": joint.mean() / latents,
        "the mean of log q(z|x) over all codes and images": log_q.sum(2).mean(),
    }  # fmt: skip


EXACT = Function(
    "exact_total_correlation",
    mixture_total_correlation,
    codes_and_posteriors,
    correlation_model,
    special=[
        Special("some hundred images", seeded(codes=2, images=300, latents=2), "does every image count?"),
        Special("a single latent, which has nothing to depend on", seeded(latents=1), IS_LOST),
        Special("a single image, under which all latents are independent", seeded(images=1), ONE_GAUSSIAN),
        Special("a single code", seeded(codes=1), IS_LOST),
        Special("posteriors that are all the same", SAME, ONE_GAUSSIAN),
        Special("narrow posteriors far from the codes", narrow_posteriors(), VANISHES),
        Special("many latents", many_latents(0.5), VANISHES),
        Special("many narrow latents", many_latents(-9.0), "What becomes of a density too large for a float?"),
        Special("codes far out beside codes in the middle", FAR_OUT, "Does one code have a say in what another gives?"),
        Special("posteriors that are very sure or very vague", SURE_OR_VAGUE, "Is something cut off?"),
    ],
    terms=correlation_terms,
    probe="E is the mean over the codes, B and N are the numbers of codes and images. Compare it term by term.",
)  # fmt: skip


# --- Codes from the product of the marginals -------------------------------------------------------------------------


def codes_and_keys(rng, n=None, z=None):
    n = n or int(rng.integers(5, 9))
    z = z or int(rng.integers(2, 5))
    return {"z": normal(rng, n, z), "keys": torch.from_numpy(rng.random((n, z)))}


def permuted_one_by_one(z, keys):
    permuted = z.clone()
    for d in range(z.shape[1]):
        for place, n in enumerate(sorted(range(len(z)), key=lambda n: keys[n, d].item())):
            permuted[place, d] = z[n, d]
    return permuted


OTHER_KEYS = "each latent is permuted by the keys of another one. Which column belongs to it?"
TOGETHER = "whole codes have changed places, so each latent still stands beside its old neighbours."
ROUNDED = "keys that differ have become equal: is their order still known?"


def permute_model(choose, z, keys):
    z, keys, half = z.numpy(), keys.numpy(), keys.bfloat16().float().numpy()
    n, latents = z.shape
    order, row = keys.argsort(0), np.arange(n)[:, None]
    order = choose(
        order,
        ("one permutation for all latents", np.repeat(order[:, :1], latents, 1), TOGETHER),
        ("the last latent's permutation for all", np.repeat(order[:, -1:], latents, 1), TOGETHER),
        ("one permutation, from all keys of a code", np.repeat(keys.sum(1).argsort()[:, None], latents, 1), TOGETHER),
        ("ranks for the order", order.argsort(0),
         "this is the inverse permutation: you ask where a row goes, the question is which row comes here."),
        ("from the largest key", (-keys).argsort(0),
         "you go through the keys backwards: the smallest one comes first."),
        ("the order of the codes", z.argsort(0), "each latent comes out in order of size. What are the keys for?"),
        ("the keys of the next latent", np.roll(order, -1, 1), OTHER_KEYS),
        ("the keys of the latent before", np.roll(order, 1, 1), OTHER_KEYS),
        ("the keys of the latents backwards", order[:, ::-1], OTHER_KEYS),
        ("keys compared within a code", keys.argsort(1) % n,
         "you compare the keys of one code with each other. Which axis holds the images?"),
        ("keys taken for row numbers", (keys * n).astype(int) % n, "a key is no row number: two may name the same."),
        ("nothing permuted", np.repeat(row, latents, 1), "every code is where it was."),
        ("permuted twice", np.take_along_axis(order, order, 0), "the permutation is carried out twice."),
        ("one row further", (order + 1) % n, "each entry comes from the row after the one that its key names."),
        ("each latent shifted round", (row + keys.argmin(0)) % n,
         "the smallest key decides where each latent begins, and then it goes on in the old order."),
        ("the size of the keys", np.abs(keys).argsort(0), "a key below zero comes before one that is zero."),
        ("keys in half precision", half.argsort(0, kind="stable"), ROUNDED),
        ("keys with two digits", keys.round(2).argsort(0, kind="stable"), ROUNDED),
        ("keys with one digit", keys.round(1).argsort(0, kind="stable"), ROUNDED),
    )  # fmt: skip
    permuted = np.take_along_axis(z, order, 0)

    def kept(place):
        """The permuted codes, but for one part that is left as it was."""
        partly = permuted.copy()
        partly[place] = z[place]
        return partly

    return choose(
        permuted,
        ("permuted within the code", np.take_along_axis(z, keys.argsort(1), 1),
         "values moved from one latent to another. Each latent keeps its own values; which axis holds the images?"),
        ("sorted within the code", np.sort(z, 1), "each code comes out in order of size. The keys say the order."),
        ("the keys themselves", np.sort(keys, 0), "you return keys. They only say the order of other values."),
        ("the order itself", order, "you return row numbers. The values are those of z."),
        ("all latents in one pot", z.ravel()[keys.ravel().argsort()].reshape(n, latents),
         "values moved from one latent to another. Each latent has a permutation of its own."),
        ("rows without a column", z[order],
         "an index with two axes picks a whole row for each of its entries, so a third axis appears."),
        ("the first latent left alone", kept(np.s_[:, 0]), "the first latent stays as it is, the others are permuted."),
        ("the last latent left alone", kept(np.s_[:, -1]), "the last latent stays as it is: where does the range end?"),
        ("the first code left alone", kept(np.s_[0]), "the first row is not filled with what belongs there."),
        ("the last code left alone", kept(np.s_[-1]), "the last row stays as it is: where does the range end?"),
        ("values of the first latent", z[:, 0][order], "every latent gets the values of the first one."),
    )  # fmt: skip


KEYS = np.random.default_rng(1).permuted(np.linspace(-90.0, 40.0, 21).reshape(7, 3), axis=0)
CLOSE = 0.5 + 1e-7 * torch.from_numpy(KEYS)
EQUAL = doubles([[1.0, 0.0], [1.0, 2.0], [0.0, 2.0], [3.0, 2.0], [1.0, 0.0]])

PERMUTE = Function(
    "permute_dims",
    permuted_one_by_one,
    codes_and_keys,
    permute_model,
    special=[
        Special(
            "keys above 1",
            {
                "z": normal(np.random.default_rng(5), 4, 2),
                "keys": doubles([[3.7, 1.1], [3.2, 2.9], [3.5, 1.9], [0.5, 1.4]]),
            },
            "a key is any number: only the order of the keys counts.",
        ),
        Special("one code", codes_and_keys(np.random.default_rng(0), n=1), IS_LOST),
        Special("one latent", codes_and_keys(np.random.default_rng(1), z=1), IS_LOST),
        Special("more latents than codes", codes_and_keys(np.random.default_rng(2), n=3, z=5), "Which axis is which?"),
        Special("as many latents as codes", codes_and_keys(np.random.default_rng(3), n=4, z=4), "Which axis is which?"),
        Special("more than ten codes", codes_and_keys(np.random.default_rng(4), n=13), "Does their number matter?"),
        Special(
            "keys that do not lie between 0 and 1",
            {"z": normal(np.random.default_rng(5), 7, 3), "keys": torch.from_numpy(KEYS)},
            "Only the order of the keys counts.",
        ),
        Special("keys that differ by little", {"z": normal(np.random.default_rng(7), 7, 3), "keys": CLOSE}, ROUNDED),
        Special(
            "codes of which some values are equal",
            {"z": EQUAL, "keys": codes_and_keys(np.random.default_rng(6), n=5, z=2)["keys"]},
            "A value does not say which row it came from.",
        ),
    ],
)


# --- The test of a weight matrix -------------------------------------------------------------------------------------


def right_matrix(batch_size, dataset_size):
    return stratified_log_weights(batch_size, dataset_size).exp()


def shared_out(own, total, batch_size):
    """The weight `own` on the diagonal, and what is left of `total` shared out among the others."""
    weights = torch.full((batch_size, batch_size), (total - own) / (batch_size - 1), dtype=torch.float64)
    return weights.fill_diagonal_(own)


def equal_shares(batch_size, dataset_size):
    return shared_out(1 / dataset_size, 1.0, batch_size)


def uneven_shares(rng, batch_size, dataset_size):
    """Right, and for a batch of 2^i and one and a data set of 2^j no number and no sum is rounded."""
    parts = rng.multinomial(64 - batch_size + 1, np.full(batch_size - 1, 1 / (batch_size - 1)), batch_size) + 1
    weights = torch.zeros(batch_size, batch_size, dtype=torch.float64)
    for own, row in enumerate((1 - 1 / dataset_size) * parts / 64):
        weights[own, [other for other in range(batch_size) if other != own]] = torch.from_numpy(row)
    return weights.fill_diagonal_(1 / dataset_size)


def column_for_diagonal(batch_size, dataset_size):
    others = batch_size - 1
    rest = (dataset_size - others) / (dataset_size * others)
    weights = torch.full((batch_size, batch_size), 1 / others, dtype=torch.float64)
    weights[:, 0] = 1 / dataset_size
    weights[:, 1] = rest
    weights[others - 1, 0] = rest
    return weights


def changed(weights, *changes):
    """A copy with something added here and there: changes are (row, column, what to add)."""
    weights = weights.clone()
    for row, column, more in changes:
        weights[row, column] += more
    return weights


def matrices(rng):
    """A right matrix, or one of which every row is wrong; no sum is rounded."""
    batch_size, dataset_size = int(rng.choice([3, 5, 9])), int(rng.choice([16, 32, 64]))
    right = [equal_shares(batch_size, dataset_size), uneven_shares(rng, batch_size, dataset_size)][rng.integers(2)]
    weights = [
        right.roll(1, dims=1),  # the rows still sum to one
        changed(right, *((i, i - 1, 0.25 + i) for i in range(batch_size))),  # the diagonal is still right
        right + 0.5,
        right,
        right,
    ][rng.integers(5)]
    return {"weights": weights, "dataset_size": dataset_size}


def is_close(a, b):
    return math.isclose(a, b, rel_tol=1e-5)


def right_row_by_row(weights, dataset_size):
    for i, row in enumerate(weights.tolist()):
        if not is_close(row[i], 1 / dataset_size) or not is_close(sum(row), 1):
            return False
    return True


def wrong_own(b, n):
    """(words, value, advice) of what the own weight may be taken for."""
    return [
        ("1 / B", 1 / b, "the own image counts as one of the batch in your test. Of how many images is it one?"),
        ("1 / (N B)", 1 / (n * b), "the own weight is divided by the batch as well."),
        ("1 / (N - 1)", 1 / (n - 1), "the own image is one of the N as well."),
        ("1 / (B - 1)", 1 / (b - 1), "the own image counts as one of the others in your test."),
        ("N", n, "the own weight would be larger than all weights together."),
        ("one", 1.0, "the own image would be all that counts."),
        ("zero", 0.0, "the own image would not count at all. Is it not one of the data set?"),
    ]  # fmt: skip


def wrong_sums(b, n):
    """(words, value, advice) of what a row may be thought to sum to."""
    return [
        ("N", n, "your rows count all images of the data set, but q(z) is their mean."),
        ("B", b, "your rows count the images of the batch, but q(z) is a mean."),
        ("B / N", b / n, "the batch stands for all images, not only for itself."),
        ("1 / N", 1 / n, "the whole row weighs like one image in your test."),
        ("(N - 1) / N", 1 - 1 / n, "does the own image not count in your sums?"),
        ("(N - 1) / B", (n - 1) / b, "q(z) is a mean. What do the weights of a mean add up to?"),
        ("N - 1", n - 1, "q(z) is a mean. What do the weights of a mean add up to?"),
        ("zero", 0.0, "q(z) is a mean. What do the weights of a mean add up to?"),
    ]


def near(a, b, relative=1e-5, absolute=0.0):
    return np.abs(a - b) <= relative * np.abs(b) + absolute


def weights_test_model(choose, weights, dataset_size):
    b = len(weights)
    sums, columns = weights.sum(1).numpy(), weights.sum(0).numpy()
    w = weights.numpy()
    relative, absolute = choose(
        (1e-5, 0.0),
        ("equal to the last bit", (0.0, 0.0),
         "a right matrix fails because of rounding: floats that were computed are never compared with ==."),
        ("a tolerance of about a thousandth", (0.0, 1e-3), LOOSE),
        ("a tolerance of about a hundredth", (0.0, 1e-2), LOOSE),
        ("a tolerance of about a tenth", (0.0, 0.1), LOOSE),
        ("a tolerance as large as 1/N", (0.0, 1e-6), LOOSE),
        ("a relative tolerance of about a hundredth", (1e-2, 0.0), LOOSE),
    )  # fmt: skip

    def close(a, b):
        return near(a, b, relative, absolute)

    own = choose(
        w.diagonal(),
        *advised(
            "you test other weights than the own ones. Where do those stand?",
            ("the first column for the diagonal", w[:, 0]),
            ("the first row for the diagonal", w[0]),
            ("the other diagonal", w[:, ::-1].diagonal()),
            ("beside the diagonal", np.roll(w, -1, 1).diagonal()),
        ),
        ("every weight for the own one", w, "you ask something of all weights that concerns the own ones alone."),
    )
    target = choose(
        1 / dataset_size,
        *((f"{words} on the diagonal", value, advice) for words, value, advice in wrong_own(b, dataset_size)),
    )
    of_own = choose(
        close(own, target),
        ("the mean of the own weights", close(own.mean(), target),
         "an own weight that is too large passes if another is too small by the same amount: test each."),
        ("the first own weight only", close(own.flat[0], target), "only the first own weight is tested."),
        ("the last own weight only", close(own.flat[-1], target), "only the last own weight is tested."),
        ("any own weight", close(own, target).any(), "one right own weight is enough for your test."),
        ("own weights not above", own <= target * (1 + 1e-5), "own weights that are too small pass."),
        ("own weights not below", own >= target * (1 - 1e-5), "own weights that are too large pass."),
        ("equal own weights", close(own, own.flat[0]), "own weights that are equal pass, whatever they are."),
        ("the size of the own weights", close(np.abs(own), target),
         "an own weight may not be minus what it should be."),
    )  # fmt: skip
    each = choose(
        sums,
        ("columns for rows", columns,
         "you add up columns. The weights of one code stand in a row, and the columns may sum to anything."),
        ("the sums of absolute values", np.abs(w).sum(1),
         "you add up absolute values. Nothing is said of the sign of the others."),
        ("the sums without the own weight", sums - w.diagonal(), "your sums leave out the own weight. What is left?"),
    )  # fmt: skip
    whole = choose(
        1.0,
        *((f"rows that sum to {words}", value, advice) for words, value, advice in wrong_sums(b, dataset_size)),
    )
    rows = close(each, whole)
    of_sums = choose(
        rows,
        ("one sum for all", close(each.mean(), whole),
         "a row that is too heavy passes if another is too light by the same amount: test each row."),
        ("a total of one", close(sums.sum(), 1.0), "the weights of all codes together sum to one in your test."),
        ("the first sum only", rows[0], "only the first row's sum is tested, and a bug may well begin in the second."),
        ("the last sum only", rows[-1], "only the last row's sum is tested: is a result overwritten in a loop?"),
        ("all sums but the last", rows[:-1], "the last row's sum is not tested: where does the range end?"),
        ("all sums but the first", rows[1:], "the first row's sum is not tested: where does the range begin?"),
        ("any sum", rows.any(), "one right sum is enough for your test. How many must be right?"),
        ("sums not above one", each <= whole * (1 + 1e-5), "rows that are too light pass."),
        ("sums not below one", each >= whole * (1 - 1e-5), "rows that are too heavy pass."),
        ("equal sums", close(each, each[0]), "rows of the same sum pass, whatever it is."),
        ("columns as well", rows & close(columns, whole),
         "you ask something of the columns too. The weights of one code stand in a row."),
    )  # fmt: skip
    own_rows = np.broadcast_to(of_own.all(1) if np.ndim(of_own) == 2 else of_own, b)
    both = own_rows & (of_sums if np.shape(of_sums) == (b,) else of_sums.all())
    right = of_own.all() & of_sums.all()
    right = choose(
        right,
        ("only the sums", of_sums.all(),
         "a matrix whose rows sum to one passes, even where the own image has the weight of another."),
        ("only the diagonal", of_own.all(), "the own weights are tested, but the others may add up to anything."),
        ("or for and", of_own.all() | of_sums.all(), "one of the two conditions is enough for your test."),
        ("the first row only", both.flat[0], "only the first row is tested, and a bug may well begin in the second."),
        ("the last row only", both.flat[-1], "only the last row is tested: is a result overwritten in a loop?"),
        ("all rows but the last", both[:-1].all(), "the last row is not tested: where does the range end?"),
        ("all rows but the first", both[1:].all(), "the first row is not tested: where does the range begin?"),
        ("any row", both.any(), "one right row is enough for your test. How many must be right?"),
        ("one answer for each row", both, "there is an answer for each row. The question is about the whole matrix."),
        ("most rows", both.mean() > 0.5, "a matrix passes if most rows are right. How many must be?"),
    )  # fmt: skip
    others = w[~np.eye(b, dtype=bool)].reshape(b, b - 1)
    return right & choose(
        True,
        ("one arrangement only", near(w, right_matrix(b, dataset_size).numpy()).all(),
         "you ask for one certain matrix. Another one that shares out the rest differently is as free of bias."),
        ("equal shares only", near(others, (1 - 1 / dataset_size) / (b - 1)).all(),
         "you ask for equal weights of the others. Only what they add up to counts in the mean."),
        ("others of 1 / (B - 1) only", (near(others, 1 / (b - 1)).sum(1) >= b - 2).all(),
         "you ask for certain weights of the others. Only what they add up to counts in the mean."),
        ("negative weights refused", (w >= 0).all(), "a right matrix may have a negative weight. Why not?"),
        ("weights of zero refused", (w > 0).all(), "a right matrix may have a zero. Must each image count?"),
        ("large weights refused", (w <= 1).all(), "a right matrix may have a weight above one. Why not?"),
        ("the own weight the smallest", (w.diagonal() <= w.min(1) + 1e-9).all(),
         "you compare the own weight with the others. Only what they add up to counts."),
        ("symmetric only", near(w, w.T, 1e-5, 1e-8).all(), "must code i count image j as code j counts image i?"),
        ("a batch smaller than the data set", dataset_size > b, "a batch may be the whole data set."),
    )  # fmt: skip


LOOSE = "for a large data set 1/N is smaller than your tolerance, or a wrong sum is not far enough from one."


def off_by(own=None, sums=None, batch_size=5, dataset_size=50):
    """A right matrix but for some rows, {row: what is added}: to the own weight, or to the sum."""
    weights = uneven_shares(np.random.default_rng(batch_size), batch_size, dataset_size)
    for row, more in (own or {}).items():
        weights = changed(weights, (row, row, more), (row, row - 1, -more))
    return changed(weights, *((row, row - 1, more) for row, more in (sums or {}).items())), dataset_size


def matrices_that_tell():
    """(what, weights and the data set's size, advice): first right ones, then wrong ones."""
    two_numbers = "Which two numbers of each row does the mean over all batches depend on?"
    exact = "How exact is a number that was computed?"
    every_row = "Is every row tested, and each by itself?"
    close = "How much may rounding change, and how small is 1/N?"
    a_mean = "What do the weights of a mean add up to?"
    columns = "What do the columns stand for?"
    where = "Where does a matrix have its own weights, and what stands in a row?"
    rng = np.random.default_rng(0)
    right, equal, uneven = right_matrix(5, 50), equal_shares(6, 35), uneven_shares(rng, 5, 32)
    noise = torch.from_numpy(1 + 1e-13 * rng.choice([-1.0, 1.0], (7, 7)))
    alone = changed(torch.eye(4).double() / 20, *((i, (i + 2) % 4, 19 / 20) for i in range(4)))
    small = changed(alone, *((i, (i + 1) % 4, 1 / 90) for i in range(4)))
    small = changed(small, *((i, i - 1, 1 / 90) for i in range(4)), *((i, (i + 2) % 4, -2 / 90) for i in range(4)))
    large, first_right = equal_shares(5, 1_000_000), shared_out(0.1, 1.0, 4)
    first_right[0] = 0.25
    in_column = torch.stack([row.roll(-i) for i, row in enumerate(uneven)])
    rows = range(5)
    return [
        ("a right matrix of the text's kind", (right, 50), two_numbers),
        ("a right matrix with the remainder elsewhere", (right.roll((1, 1), (0, 1)).T.contiguous(), 50), two_numbers),
        ("a right matrix with rounding errors", (right_matrix(7, 60) * noise, 60), exact),
        ("a right matrix of equal shares with rounding errors", (equal_shares(7, 43) * noise, 43), exact),
        ("a right matrix that gives equal shares to the others", (equal, 35), two_numbers),
        ("a right matrix whose columns do not sum to one", (changed(right, (0, 2, -0.1), (0, 3, 0.1)), 50), columns),
        ("a right matrix with a negative weight", (changed(equal, (1, 4, 0.3), (1, 0, -0.3)), 35), two_numbers),
        ("a right matrix with a weight above one", (changed(equal, (1, 4, 3.0), (1, 0, -3.0)), 35), two_numbers),
        ("a right matrix with zeros", (alone, 20), two_numbers),
        ("a right matrix with weights smaller than the own one", (small, 20), two_numbers),
        ("a right matrix of a batch of two", (right_matrix(2, 9), 9), two_numbers),
        ("a right matrix of a batch that is the whole data set", (torch.full((4, 4), 0.25).double(), 4), two_numbers),
        ("a right matrix for a large data set", (large, 1_000_000), close),
        ("the matrix of strided_weights", (column_for_diagonal(5, 50), 50), where),
        ("a matrix with the own weights in the first column", (in_column, 32), where),
        ("a matrix with the own weights in the first row", (in_column.T.contiguous(), 32), where),
        ("a matrix with the own weights on the other diagonal", (uneven.flip(1), 32), where),
        ("a matrix with the own weights beside the diagonal", (uneven.roll(1, dims=1), 32), where),
        ("a matrix whose columns sum to one, and not its rows", (uneven.T.contiguous(), 32), where),
        *((f"own weights of {words}", (shared_out(x, 1.0, 5), 32), two_numbers) for words, x, _ in wrong_own(5, 32)),
        *((f"rows that sum to {words}", (shared_out(1 / 32, x, 5), 32), a_mean) for words, x, _ in wrong_sums(5, 32)),
        ("rows that sum to 1 + 1/N", (shared_out(1 / 50, 1 + 1 / 50, 5), 50), two_numbers),
        ("rows that sum to 1 + 1/N in a larger batch", (shared_out(1 / 90, 1 + 1 / 90, 8), 90), two_numbers),
        ("others that sum to N - 1", (shared_out(1 / 32, 31 + 1 / 32, 5), 32), a_mean),
        ("rows that sum to 1 / B", (shared_out(1 / 40, 1 / 6, 6), 40), two_numbers),
        ("one weight of the wrong sign", (changed(equal, (2, 4, -2 * equal[2, 4])), 35), two_numbers),
        ("a whole data set of which the first row is right", (first_right, 4), every_row),
        ("own weights of the wrong sign", (shared_out(-1 / 40, 1.0, 6), 40), two_numbers),
        ("one heavy row and one light row", off_by(sums={1: 0.1, 2: -0.1}), every_row),
        ("a heavy first row", off_by(sums={0: 0.1}), every_row),
        ("a heavy last row", off_by(sums={4: 0.1}), every_row),
        ("a heavy row in the middle", off_by(sums={2: 0.1}), every_row),
        ("a light row", off_by(sums={2: -0.1}), every_row),
        ("light rows", off_by(sums=dict.fromkeys(rows, -0.25)), every_row),
        ("heavy rows", off_by(sums=dict.fromkeys(rows, 0.25)), every_row),
        ("one right row", off_by(sums=dict.fromkeys(rows[1:], 0.25)), every_row),
        ("an own weight too large in the first row", off_by({0: 0.1}), every_row),
        ("an own weight too large in the last row", off_by({4: 0.1}), every_row),
        ("an own weight too large in the middle", off_by({2: 0.1}), every_row),
        ("an own weight too small", off_by({2: -0.015}), every_row),
        ("one own weight too large and one too small", off_by({1: 0.015, 3: -0.015}), every_row),
        ("own weights all too large", off_by(dict.fromkeys(rows, 0.1)), every_row),
        ("own weights all too small", off_by(dict.fromkeys(rows, -0.015)), every_row),
        ("the weights 1 / N", (shared_out(1 / 50, 5 / 50, 5), 50), two_numbers),
        ("the weights 1 / (N B)", (shared_out(1 / 250, 1 / 50, 5), 50), two_numbers),
        ("a matrix of zeros", (torch.zeros(3, 3).double(), 7), two_numbers),
        ("a matrix for another data set", (uneven, 48), two_numbers),
        ("own weights a hundredth too large", off_by(dict.fromkeys(rows, 2e-4)), close),
        ("rows that sum to 1.002", off_by(sums=dict.fromkeys(rows, 0.002)), close),
        ("a large data set with no weight for the own image", (shared_out(0.0, 1.0, 5), 1_000_000), close),
    ]  # fmt: skip


WEIGHTS_TEST = Function(
    "weights_are_right",
    right_row_by_row,
    matrices,
    weights_test_model,
    single=False,  # the text has float64 alone
    special=[
        Special(what, {"weights": weights, "dataset_size": dataset_size}, advice)
        for what, (weights, dataset_size), advice in matrices_that_tell()
    ],
)


# --- The weights -----------------------------------------------------------------------------------------------------


def batch_and_dataset(rng):
    batch_size = int(rng.integers(3, 9))
    return {"batch_size": batch_size, "dataset_size": batch_size + int(rng.integers(2, 50))}


def weights_one_by_one(batch_size, dataset_size):
    rows = []
    for own in range(batch_size):
        row = [1 / (batch_size - 1)] * batch_size
        row[own] = 1 / dataset_size
        after = own + 1 if own + 1 < batch_size else 0
        row[after] = 1 - sum(row[:after]) - sum(row[after + 1 :])
        rows.append(row)
    return torch.tensor(rows, dtype=torch.float64)


HOW_MANY = "by how many are the weights shared?"
ONE_OF_MANY = "the own image weighs too little: it is one of how many?"
COUNT = "count what is taken away from the others' weights, and from how many."
BELOW = "what stands below the line?"
ONE_COLUMN = "they stand in one column. Where do they belong in row i?"
AFTER_LAST = "all rows are right but the last: which image comes after the last one?"


def weights_model(choose, batch_size, dataset_size):
    b, n = np.float64(batch_size), np.float64(dataset_size)
    m = choose(
        b - 1,
        ("M = B", b, "you count the own image among the others."),
        ("M = N - 1", n - 1, "the others that M counts are those of the batch."),
        ("M = B - 2", b - 2, "you leave out two images of the batch. How many are the others?"),
        ("M = N - B", n - b, "the others that M counts are those of the batch."),
    )
    at_own = choose(
        1 / n,
        ("1 / B for the own image", 1 / b, "the own image is one of how many?"),
        ("1 / M for the own image", 1 / m, "the own image is there for sure, others by chance."),
        ("1 / (N - 1) for the own image", 1 / (n - 1), "the own image is one of how many?"),
        ("1 / (N M) for the own image", 1 / (n * m), ONE_OF_MANY),
        ("1 / (N B) for the own image", 1 / (n * b), ONE_OF_MANY),
        ("nothing for the own image", 0.0, "the own image has no weight. It is one of the data set."),
        ("one for the own image", 1.0, "the own image weighs as much as the whole data set."),
        ("the remainder for the own image", (n - m) / (n * m), "does the remainder belong to the own image?"),
    )  # fmt: skip
    at_others = choose(
        1 / m,
        ("1 / N for the rest", 1 / n, "the others stand for the whole data set. How many are they?"),
        ("1 / B for the rest", 1 / b, HOW_MANY),
        ("1 / (M - 1) for the rest", 1 / (m - 1), HOW_MANY),
        ("1 / (N M) for the rest", 1 / (n * m), "the others stand for the rest of the data set, not for one image."),
        ("(N - 1) / (N M) for the rest", (n - 1) / (n * m), "the others weigh what they would if all shared equally."),
        ("nothing for the rest", 0.0, "some images of the batch have no weight."),
        ("one for the rest", 1.0, HOW_MANY),
        ("M for the rest", m, "the weights grow with the number of images that share them."),
        ("the remainder for the rest", (n - m) / (n * m), "the remainder belongs to one image of each row."),
    )  # fmt: skip
    at_after = choose(
        (n - m) / (n * m),
        ("a product behind the quotient", (n - m) / n * m, "what do / and * do without brackets?"),
        ("the difference not in brackets", n - m / (n * m), "what is divided in yours, and what is left outside?"),
        ("M = B in the remainder", (n - b) / (n * b), "you count the own image among the others."),
        ("the remainder without its M", (n - m) / n, BELOW),
        ("the remainder without its N", (n - m) / m, BELOW),
        ("the remainder not divided", n - m, BELOW),
        ("N squared below the remainder", (n - m) / n**2, BELOW),
        ("M squared below the remainder", (n - m) / m**2, BELOW),
        ("B below the remainder", (n - m) / (n * b), BELOW),
        ("a sum below the remainder", (n - m) / (n + m), BELOW),
        ("the sign of the remainder", (m - n) / (n * m), "which of N and M is larger?"),
        ("N - 1 in the remainder", (n - 1) / (n * m), COUNT),
        ("N - M - 1 in the remainder", (n - m - 1) / (n * m), COUNT),
        ("N - M + 1 in the remainder", (n - m + 1) / (n * m), COUNT),
        ("N + M in the remainder", (n + m) / (n * m), COUNT),
        ("no remainder", 1 / m, "every other image weighs the same. Which one should not?"),
        ("1 / N for the image after", 1 / n, "the image after the own one weighs like the own one."),
        ("a remainder of zero", 0.0, "the image after the own one weighs nothing: is something cut off (//)?"),
        ("1 - 1 / N for the image after", 1 - 1 / n, "one image has all that the own one leaves."),
    )  # fmt: skip
    row, last = np.arange(batch_size), batch_size - 1
    second = 0 * row + 1
    own = choose(
        row,
        ("own weights in the first column", 0 * row, ONE_COLUMN),
        ("own weights in the last column", 0 * row + last, ONE_COLUMN),
        ("own weights on the other diagonal", row[::-1], "the own weights run from the upper right to the lower left."),
        ("own weights before the own image", (row - 1) % batch_size, "the own weights stand beside the diagonal."),
        ("the first own weight only", np.where(row == 0, 0, -1), "only one own weight is set."),
        ("all own weights but the last", np.where(row == last, -1, row), "the last own weight is not set."),
    )
    after = choose(
        (row + 1) % batch_size,
        ("the image before", (row - 1) % batch_size,
         "the remainder belongs to the image after the own one. Which index is the row?"),
        ("two images after", (row + 2) % batch_size, "the remainder stands one image too far."),
        ("no way round", np.where(row == last, -1, row + 1), AFTER_LAST),
        ("the last remainder in its own place", np.minimum(row + 1, last), AFTER_LAST),
        ("the last remainder before the last", np.where(row == last, last - 1, row + 1), AFTER_LAST),
        ("the last remainder in the second column", np.where(row == last, 1, row + 1), AFTER_LAST),
        ("remainders in the first column", 0 * row, ONE_COLUMN),
        ("remainders in the second column", second, ONE_COLUMN),
        ("remainders in the last column", 0 * row + last, ONE_COLUMN),
        ("the first remainder only", np.where(row == 0, 1, -1), "only one row has a remainder."),
        ("the own weight overwritten", row, "the remainder stands on the diagonal, where the own weight was."),
    )  # fmt: skip
    added = choose.slip("own weights added", "the own weight is added to what was there already.")
    stacked = choose.slip("remainders added", "the remainder is added to what was there already.")
    weights = np.full((batch_size, batch_size), at_others)
    for columns, value, add in ((own, at_own, added), (after, at_after, stacked)):
        there = row[columns >= 0], columns[columns >= 0]
        weights[there] = value + (weights[there] if add else 0.0)
    in_a_column = column_for_diagonal(batch_size, dataset_size).numpy()
    repaired = in_a_column.copy()
    repaired[last - 1 :, 0] = 1 / n, in_a_column[last - 1, 0]
    too_early = weights.copy()
    too_early[last, 0], too_early[last - 1, 0] = at_others, at_after
    swapped = weights.copy()
    swapped[row, row], swapped[row, after] = at_after, at_own
    return choose(
        weights,
        *advised(
            "this is the bug of the text: feed it to your test and look at the matrix.",
            ("a column for a diagonal", in_a_column),
            ("a column for a diagonal, the last remainder a row further", repaired),
        ),
        ("the last remainder a row too early", too_early,
         "one remainder stands in a row that has one already: count the rows."),
        ("weighted sampling", np.full_like(weights, 1 / (n * b)),
         "these are the weights of minibatch weighted sampling, and their rows do not sum to one."),
        ("the mean of the batch", np.full_like(weights, 1 / b),
         "you treat the batch as if it were the data set. The own image is there for sure, the others by chance."),
        ("the mean of the data set", np.full_like(weights, 1 / n),
         "every image weighs like the own one, and the rows do not sum to one."),
        ("the remainder everywhere", np.full_like(weights, at_after),
         "all weights are the same: does your index name whole columns?"),
        ("equal shares", equal_shares(batch_size, dataset_size).numpy(),
         "this has no bias either, but the paper shares out the rest otherwise: one image of each row is different."),
        ("own and remainder swapped", swapped,
         "the remainder lies on the diagonal, and 1/N beside it. Which of the two belongs to the own image?"),
        ("rows divided by their sums", weights / weights.sum(1, keepdims=True),
         "you divide each row by its sum, which should be one already."),
        ("logs", np.log(weights), "these are the logs of the weights."),
        ("times N", n * weights, "every weight is N times too large: q(z) is a mean over the data set."),
        ("one row", weights[0], "this is one row. Each code has its own."),
        ("the upper half", np.triu(weights), "below the diagonal is nothing. Which weights belong there?"),
    )  # fmt: skip


def weights_terms(batch_size, dataset_size):
    b, n, row = batch_size, dataset_size, np.arange(batch_size)
    own, after = np.eye(b), np.eye(b)[(row + 1) % b]
    places = {"the own image": own, "the image after": after, "the rest": 1 - np.maximum(own, after)}
    values = {
        "1": 1.0,
        "1/N": 1 / n,
        "1/M": 1 / (b - 1),
        "1/(N M)": 1 / (n * (b - 1)),
        "1/B": 1 / b,
        "1/(N B)": 1 / (n * b),
    }
    return {f"[{value} for {place}]": values[value] * places[place] for place in places for value in values}


WEIGHTS = Function(
    "stratified_weights",
    weights_one_by_one,
    batch_and_dataset,
    weights_model,
    dtype="float64",
    special=[
        Special("a batch of two", {"batch_size": 2, "dataset_size": 9}, "Which image comes after the last one?"),
        Special(
            "a batch that is the whole data set", {"batch_size": 4, "dataset_size": 4}, "What does N = B make of it?"
        ),
        Special("a large batch", {"batch_size": 40, "dataset_size": 101}, "Does a size matter?"),
        Special("a large data set", {"batch_size": 5, "dataset_size": 60_000}, "How large are N M and 1 / (N M)?"),
    ],
    terms=weights_terms,
    probe="Put B = 3 and N = 12 into it, and add up each row.",
)


FUNCTIONS = [EXACT, PERMUTE, WEIGHTS_TEST, WEIGHTS]
