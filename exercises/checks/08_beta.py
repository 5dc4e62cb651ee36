"""Checks of exercise 8. The references are explicit loops and the standard library, not the solutions."""

from statistics import correlation

import numpy as np
from scipy.stats import t

from checking import Function, Special

MANY = "There may be many of them: does a number stand in your code that they exceed?"
LENGTH_1 = "Is an axis lost where it has length 1?"

# --- The loss --------------------------------------------------------------------------------------------------------


def terms(rng):
    n, z = rng.integers(2, 6, 2)
    return {
        "reconstruction_nll": rng.uniform(1, 9, n),
        "kl_per_latent": rng.uniform(0, 3, (n, z)) * rng.uniform(0, 1, (n, 1)),
        "beta": float(rng.uniform(2, 6)),
    }


def costs(reconstruction_nll, kl_per_latent, beta=4.0):
    return {"reconstruction_nll": np.array(reconstruction_nll), "kl_per_latent": np.array(kl_per_latent), "beta": beta}


TWO_IMAGES = [5.0, 2.5], [[1.0, 0.5, 2.0], [0.25, 3.0, 1.5]]


def loss_by_loop(reconstruction_nll, kl_per_latent, beta):
    loss = reconstruction_nll.copy()
    for n, latents in enumerate(kl_per_latent):
        for kl in latents:
            loss[n] += beta * kl
    return loss


def loss_model(choose, reconstruction_nll, kl_per_latent, beta):
    nll, kl = reconstruction_nll, kl_per_latent
    latents, images = kl.shape[1], np.arange(len(nll))
    rate = choose(
        kl.sum(1),
        ("mean over the latents", kl.mean(1),
         "you average the KL over the latents, so the price of a nat depends on how many latents there are."),
        ("the KL summed over the images", kl.sum(0),
         "you sum the KL over the images. Each image has a rate of its own: which axis holds the latents?"),
        ("the KL averaged over the images", kl.mean(0),
         "you average the KL over the images. Each image has a rate of its own: which axis holds the latents?"),
        ("the rate of the whole batch", kl.sum(), "every image pays for the code of the whole batch. Keep them apart."),
        ("the mean rate of the batch", kl.sum(1).mean(), "every image pays the mean rate. Keep the images apart."),
        ("the mean of the whole KL", kl.mean(), "one number stands for the rate of all images. Keep them apart."),
        ("the KL not summed", kl, "the KL comes in one column per latent. What does the code of an image cost?"),
        ("the rate as a column", kl.sum(1, keepdims=True),
         "every image meets the rate of every other one: a column (N, 1) and a row (N,) make a table."),
        ("a running total of the rates", kl.sum(1).cumsum(),
         "each image also pays for the codes of those before it: is a sum not set back to zero?"),
        ("images and latents mixed up", kl.reshape(latents, -1).sum(0),
         "a reshape does not turn rows into columns. Which numbers belong to one image?"),
        ("the first latent only", kl[:, 0], "only the first latent is paid for. An image's code has more of them."),
        ("the last latent only", kl[:, -1], "only the last latent is paid for. An image's code has more of them."),
        ("without the first latent", kl[:, 1:].sum(1), "the first latent costs nothing in yours."),
        ("without the last latent", kl[:, :-1].sum(1), "the last latent costs nothing: where does the range end?"),
        ("the dearest latent only", kl.max(1), "you pay for the dearest latent only. The nats of a code add up."),
        ("the cheapest latent only", kl.min(1), "you pay for the cheapest latent only. The nats of a code add up."),
        ("the median of the latents", np.median(kl, 1), "you take the median of the latents. Their nats add up."),
        ("the rate divided by the images", kl.sum(1) / len(kl),
         "each image pays for its own code, not for a share of it."),
        ("the square of the rate", kl.sum(1) ** 2, "you square the rate. Two nats cost twice as much as one."),
        ("the length of the KL", np.sqrt((kl**2).sum(1)), "you take the length of a vector. How do nats add up?"),
        ("the product of the latents", kl.prod(1), "you multiply the latents' nats. How do they add up?"),
        ("the rate in bits", kl.sum(1) / np.log(2), "the rate is in bits, the reconstruction in nats."),
        *((name.format(nats), value, f"every nat of the code has a price: what are the {nats:.1f} nats for?")
          for nats in (1, 2, 5) for name, value in (
              ("a target of {:.1f} nats", np.abs(kl.sum(1) - nats)),
              ("{:.1f} nats of the code for nothing", np.maximum(kl.sum(1) - nats, 0)),
              ("{:.1f} nats of the code at least", np.maximum(kl.sum(1), nats)))),
        *((name.format(nats), value, f"every nat of a latent has a price: what are the {nats:.1f} nats for?")
          for nats in (0.1, 0.5, 1, 2) for name, value in (
              ("{:.1f} nats of each latent for nothing", np.maximum(kl - nats, 0).sum(1)),
              ("{:.1f} nats of each latent at least", np.maximum(kl, nats).sum(1)))),
    )  # fmt: skip
    distortion = choose(
        nll,
        ("the distortion of the whole batch", nll.sum(),
         "every image pays for all the reconstructions. Keep them apart."),
        ("the reconstruction once for each latent", latents * nll,
         "the reconstruction is counted once for each latent. It is there only once."),
        ("a running total of the distortions", nll.cumsum(),
         "each image also pays for the reconstructions before it: is a sum not set back to zero?"),
        ("the reconstruction divided by the images", nll / len(nll), "each image pays for itself, not for a share."),
        ("the reconstruction divided by the latents", nll / latents,
         "you divide the reconstruction by the number of latents. It has nothing to do with them."),
        *((f"the reconstruction over {pixels} pixels", nll / pixels,
           "the reconstruction counts whole images, as the rate does: no number of pixels has a part in it.")
          for pixels in (784, 1024)),
        ("the reconstruction in bits", nll / np.log(2), "the reconstruction is in bits, the rate in nats."),
    )  # fmt: skip
    loss = choose(
        lambda d, r: d + beta * r,
        ("beta on the wrong term", lambda d, r: beta * d + r,
         "a larger beta now asks for better images. Which of the two terms should become dearer?"),
        ("beta on both terms", lambda d, r: beta * (d + r),
         "a factor in front of the whole loss changes no minimum. What does beta weigh?"),
        ("divided by beta", lambda d, r: d + r / beta,
         "here a larger beta makes the code cheaper. It is the price of a nat of rate."),
        ("the reconstruction divided by beta", lambda d, r: d / beta + r,
         "the ratio of the two prices is right. The weight of the reconstruction should not change with beta."),
        ("everything divided by beta", lambda d, r: (d + r) / beta,
         "a factor in front of the whole loss changes no minimum. What does beta weigh?"),
        ("a reward for the rate", lambda d, r: d - beta * r,
         "this loss falls as the KL grows. The ELBO has a minus there, but this is what you minimise."),
        ("a reward for the distortion", lambda d, r: beta * r - d,
         "this loss falls as the images get worse. Both terms are costs."),
        ("the objective to maximise", lambda d, r: -d - beta * r,
         "every value has the wrong sign: a loss is what you minimise, and both terms are costs."),
        ("weights that add up to one", lambda d, r: (1 - beta) * d + beta * r,
         "you mix the two terms. Beta is a price and may be above one; the first term keeps its weight."),
        ("a mixture the other way round", lambda d, r: beta * d + (1 - beta) * r,
         "you mix the two terms, and beta weighs the wrong one. It is a price, and may be above one."),
        ("divided by 1 + beta", lambda d, r: (d + beta * r) / (1 + beta),
         "you divide by the sum of the weights. Beta is a price; the first term keeps its weight."),
        ("averaged over all the terms", lambda d, r: (d + beta * r) / (1 + latents),
         "you divide by the number of terms. They are costs, which add up."),
        ("beta left out", lambda d, r: d + r, "this is minus the ELBO, whatever beta is."),
        ("beta and one", lambda d, r: d + (1 + beta) * r, "the rate is paid twice: at the price beta, and once more."),
        ("beta less one", lambda d, r: d + (beta - 1) * r,
         "at beta = 1 the rate costs nothing in yours. There the loss should be minus the ELBO."),
        ("no reconstruction", lambda d, r: beta * r + 0 * d, "only the rate is left. What keeps the images good?"),
        ("no rate", lambda d, r: d + 0 * r, "the rate costs nothing in yours, at any beta."),
        ("beta added", lambda d, r: d + beta + r, "you add beta. A price is no number of nats."),
        ("the rate to the power beta", lambda d, r: d + r**beta,
         "you raise the rate to a power. Two nats cost twice one."),
        ("beta for a target rate", lambda d, r: d + np.abs(r - beta), "you take beta for the rate to be reached."),
        ("the rate once for each latent", lambda d, r: d + latents * beta * r, "the rate counts once for each latent."),
        ("beta on the first latent only", lambda d, r: d + r + (beta - 1) * kl[:, 0],
         "only the first latent has the price beta. All of them have the same."),
        ("beta on the last latent only", lambda d, r: d + r + (beta - 1) * kl[:, -1],
         "only the last latent has the price beta. All of them have the same."),
        ("beta on all but the first latent", lambda d, r: d + beta * r + (1 - beta) * kl[:, 0],
         "the first latent has the price 1. All of them have the same."),
        ("another price for each latent", lambda d, r: d + kl @ beta ** np.arange(1.0, latents + 1),
         "each latent has another power of beta for its price. All of them have the same."),
        *((name.format(pixels), lambda d, r, factor=factor / pixels: d + factor * beta * r,
           "you scale beta by a size. It is the price of one nat, however many latents or pixels there are.")
          for pixels in (784, 1024)
          for name, factor in (("beta over {} pixels", 1), ("beta times latents over {} pixels", latents))),
        ("beta without its fraction", lambda d, r: d + np.floor(beta) * r, "a price need not be a whole number."),
        ("the larger of both", lambda d, r: np.maximum(d, beta * r), "you take the larger cost. Both have to be paid."),
        ("the product of both", lambda d, r: beta * d * r, "you multiply the two costs. A sum of costs is asked for."),
        ("the ratio of both", lambda d, r: d / (beta * r), "you divide one cost by the other. A sum is asked for."),
    )(distortion, rate)  # fmt: skip
    return choose(
        loss,
        ("averaged over the batch", loss.mean(), "one number comes out for the whole batch. Keep the images apart."),
        ("summed over the batch", loss.sum(), "one number comes out for the whole batch. Keep the images apart."),
        ("a running total of the losses", loss.cumsum(),
         "each loss holds those before it: is a sum not set back to zero?"),
        ("the last image not counted", np.where(images == len(nll) - 1, 0, loss),
         "the last image has no loss in yours."),
        ("the first image not counted", np.where(images == 0, 0, loss), "the first image has no loss in yours."),
        ("the last image without its rate", np.where(images == len(nll) - 1, distortion, loss),
         "the last image does not pay for its code: where does the range end?"),
        ("the first image only", np.where(images == 0, loss, distortion), "only the first image pays for its code."),
        ("latents kept apart", nll[:, None] + beta * kl,
         "the reconstruction is now counted once for each latent. One number per image should be left."),
        ("the reconstruction shared by the latents", nll[:, None] / latents + beta * kl,
         "there is one number for each latent. One number per image should be left."),
        ("both terms side by side", np.stack([distortion + 0 * rate, beta * rate + 0 * distortion], axis=-1),
         "you return two terms. The loss is one number per image."),
    )  # fmt: skip


def loss_terms(reconstruction_nll, kl_per_latent, beta):
    parts = {
        "nll": reconstruction_nll,
        "sum(KL)": kl_per_latent.sum(1),
        "mean(KL)": kl_per_latent.mean(1),
        "sum(KL^2)": (kl_per_latent**2).sum(1),
    }
    factors = {"": 1.0, "beta ": beta, "beta^2 ": beta**2, "1/beta ": 1 / beta}
    products = {words + name: factor * part for name, part in parts.items() for words, factor in factors.items()}
    return products | {"1": 1.0, "beta": beta}


# --- The front -------------------------------------------------------------------------------------------------------


def models(rng):
    """A front of whole numbers, and for each of its models some that it alone beats; the first and last are on it."""
    steps = rng.integers(2, 5, (rng.integers(3, 7), 2)).cumsum(0) * 1.0
    front = rng.permutation(np.column_stack([steps[:, 0], steps[::-1, 1]]))
    worse = [[0, 1], [1, 0], [1, 1]]
    beaten = [model + step for model in front for step in rng.permutation(worse)[: rng.integers(1, 3)]]
    return points(front[0], *rng.permutation([*front[1:-1], *beaten, rng.choice(front)]), front[-1])


def points(*pairs):
    rate, distortion = np.array(pairs, dtype=float).T.copy()
    return {"rate": rate, "distortion": distortion}


def front_by_loop(rate, distortion):
    pairs = list(zip(rate, distortion, strict=True))
    return np.array([not any(r <= a and d <= b and (r, d) != (a, b) for r, d in pairs) for a, b in pairs])


def best_for_some_beta(rate, distortion, corners):
    """Which models have the least distortion + beta * rate for some beta > 0 (for more than one, if `corners`)."""
    more, saved = rate - rate[:, None], distortion[:, None] - distortion
    with np.errstate(all="ignore"):
        slope = saved / more  # of the line to each other model
    low = np.where(more > 0, slope, 0).max(1, initial=0)
    high = np.where(more < 0, slope, np.inf).min(1)
    cheapest = ((more != 0) | (saved <= 0)).all(1)
    return cheapest & (high > 0) & (low < high if corners else low <= high)


def front_model(choose, rate, distortion):
    r, d = choose(
        (rate, distortion),
        ("the costly side", (-rate, -distortion),
         "you mark the models that beat no other one. Rate and distortion are both costs: less is better."),
        ("distortion taken for quality", (rate, -distortion),
         "you treat a high distortion as good. It is what the image still costs once the code is known."),
        ("rate taken for quality", (-rate, distortion),
         "you treat a high rate as good. It is what the code of an image costs."),
    )  # fmt: skip
    m, itself, place = len(r), np.eye(len(r), dtype=bool), np.arange(len(r))
    order, second = choose(
        (np.lexsort((d, r)), d),
        ("sorted by the rate alone, equals anyhow", (np.argsort(r), d),
         "which of two models with the same rate is first?"),
        ("sorted by the rate alone", (np.argsort(r, kind="stable"), d),
         "which of two models with the same rate is first?"),
        ("sorted by the distortion alone", (np.argsort(d, kind="stable"), r),
         "which of two equal distortions is first?"),
        ("not sorted", (place, d), "you go through the models in the order in which they come, which is chance."),
        ("not sorted, the rate compared", (place, r), "you go through the models as they come, which is chance."),
        ("sorted from the largest rate, distortions too", (np.argsort(-r, kind="stable"), -d),
         "you begin with the worst."),
        ("sorted from the largest rate", (np.argsort(-r, kind="stable"), d), "you begin with the largest rate."),
    )  # fmt: skip
    rank = np.argsort(order)
    before, neighbour = rank < rank[:, None], rank == rank[:, None] - 1  # [i, j]: j comes (just) before i
    lower, no_higher = second < second[:, None], second <= second[:, None]
    less_rate, less_distortion = r < r[:, None], d < d[:, None]
    no_more_rate, no_more_distortion = r <= r[:, None], d <= d[:, None]
    no_worse, better = no_more_rate & no_more_distortion, less_rate | less_distortion
    right = no_worse & better
    one_by_one = "a model is compared with one other only. Any other may beat it."
    first_of_two = "pairs are compared by their first entries; the second ones decide only between equals."
    beats = choose(
        right,
        ("nothing on the front", right | True,
         "nothing is left on the front. Is each model no worse than itself? What else must beating ask for?"),
        ("all on the front", right & False,
         "no model is ever beaten in yours. Does that take more than one that beats it, or is it never true?"),
        ("equal models beat each other", no_worse & ~itself,
         "two models with the same two numbers knock each other out. Neither is better than the other."),
        ("of equal models the first only", before & no_higher,
         "of models with the same two numbers only the first stays. Neither is better than the other."),
        ("of equal models the last only", no_worse & (better | (place > place[:, None])),
         "of models with the same two numbers only the last stays. Neither is better than the other."),
        ("better in both only", less_rate & less_distortion,
         "a model may be better in one and equal in the other. Is the worse one still on your front?"),
        ("better in one is enough", better,
         "you drop every model that some other undercuts in one of the two. Who pays for it in the other?"),
        ("better in exactly one", no_worse & (less_rate ^ less_distortion),
         "a model that is better in both does not beat the other one in yours."),
        ("the same rate is not beaten", less_rate & no_more_distortion,
         "two models may have the same rate and differ in distortion. Is the worse one still on your front?"),
        ("equal in one, worse in the other, but kept", before & lower,
         "two models may have the same distortion, or the same rate. Is the worse one still on your front?"),
        ("the rate first, then the distortion", less_rate | (no_more_rate & less_distortion), first_of_two),
        ("the distortion first, then the rate", less_distortion | (no_more_distortion & less_rate), first_of_two),
        ("only the rate", less_rate, "only the lowest rate is left. Distortion is a cost too."),
        ("only the distortion", less_distortion, "only the lowest distortion is left. Rate is a cost too."),
        ("compared at the same rate only", no_more_rate & ~less_rate & less_distortion,
         "a model is compared only with those of the same rate. One with a lower rate may beat it too."),
        ("compared at the same distortion only", no_more_distortion & ~less_distortion & less_rate,
         "a model is compared only with those of the same distortion. One with a lower distortion may beat it too."),
        ("compared with its neighbour only", neighbour & no_higher,
         "you compare with the neighbour in order only. One further away may beat the model too."),
        ("compared with its neighbour, equals kept", neighbour & lower,
         "you compare with the neighbour in order only. One further away may beat the model too."),
        ("compared with earlier models only", right & (place < place[:, None]),
         "a model is compared only with those before it in the list. A later one may beat it."),
        ("beaten by earlier models, equal ones too", no_worse & (place < place[:, None]),
         "a model is compared only with those before it in the list, and beaten by one that is equal."),
        ("compared with later models only", right & (place > place[:, None]),
         "a model is compared only with those after it in the list. An earlier one may beat it."),
        ("compared with the one before only", right & (place == place[:, None] - 1), one_by_one),
        ("compared with the next one only", right & (place == place[:, None] + 1), one_by_one),
        ("compared with the last model only", right & (place == m - 1),
         "only the comparison with the last model counts: does a loop overwrite what it found before?"),
        ("compared with the first model only", right & (place == 0),
         "only the comparison with the first model counts: does a loop end too early?"),
        ("not compared with the last model", right & (place < m - 1),
         "the last model never beats another in yours: where does the range end?"),
        ("not compared with the first model", right & (place > 0),
         "the first model never beats another in yours: where does the range begin?"),
    )  # fmt: skip
    free, ends = ~beats.any(1), (r == r.min()) | (d == d.min())
    losses = [d + beta * r for beta in (1, 4, 12, 40)]
    different = np.unique(np.column_stack([rate, distortion]), axis=0, return_index=True)[1]
    front = choose(
        free,
        ("the beaten ones", ~free, "you mark the models that some other beats. Mark those that none does."),
        ("beaten by all others", ~(beats | itself).all(1),
         "a model leaves your front only if all others beat it. How many does it take?"),
        ("beaten by two", beats.sum(1) < 2, "a model with one that beats it stays on your front. One is enough."),
        ("those that beat another", beats.any(0),
         "you mark the models that beat some other. On the front are those that none beats: that is another question."),
        ("those that beat most others", beats.sum(0) == beats.sum(0).max(),
         "you mark the models that beat most others. On the front are those that none beats."),
        ("those that beat all others", (beats | itself).all(0),
         "you ask that a model beats all others. Few fronts have such a one: it is enough not to be beaten."),
        ("the lowest sum", losses[0] == losses[0].min(),
         "this finds the best loss for beta = 1 only. The front is about every beta at once."),
        ("one lowest sum", place == losses[0].argmin(),
         "this finds the best loss for beta = 1 only. The front is about every beta at once."),
        ("best at one of the four betas", np.any([loss == loss.min() for loss in losses], axis=0),
         "you mark what is best at the betas that were trained. Nobody has to name a beta for the front."),
        ("best for some beta", best_for_some_beta(r, d, corners=False),
         "these are the models that some beta would choose. A model in a dent of the curve is not beaten either."),
        ("the corners of the convex hull", best_for_some_beta(r, d, corners=True),
         "you mark corners of the convex hull. A model in a dent of the curve is not beaten either."),
        *((f"the lowest {words}", one == one.min(), "you make one number of each model. The front needs none.")
          for words, one in (("product", rate * distortion), ("distance from 0", r**2 + d**2),
                             ("larger", np.maximum(r, d)), ("ratio", d / np.maximum(r, 1e-9)))),
        ("sums below their mean", losses[0] <= losses[0].mean(),
         "you make one number of each model. The front needs none."),
        ("the corners of the convex hull, each once",
         best_for_some_beta(r, d, corners=True) & ~(no_worse & no_worse.T & (place < place[:, None])).any(1),
         "you mark corners of the convex hull. A model in a dent of the curve is not beaten either."),
        ("lowest in one of the two", ends, "only the two ends of the front are left. What lies between them?"),
        ("the ends of the front", ends & free, "only the two ends of the front are left. What lies between them?"),
        *((f"below the {words} in {which}", combine(r <= middle(r), d <= middle(d)),
           f"you compare with the {words} of the models. What beats a model is another one.")
          for words, middle in (("mean", np.mean), ("median", np.median))
          for which, combine in (("both", np.logical_and), ("one of the two", np.logical_or))),
    )  # fmt: skip
    whose = "your truth values are in the order of the sorted models. Whose are they then?"
    one_each = "Return one True or False for each model."
    return choose(
        front,
        ("positions instead of booleans", np.flatnonzero(front), f"you return the positions of the models. {one_each}"),
        ("in the order of the rates", front[order], whose),
        ("ordered back by the wrong order", front[rank], "you put the truth values back by the wrong permutation."),
        ("in the order of the distortions", front[np.argsort(d, kind="stable")], whose),
        ("equal models only once", front[different], f"models with the same two numbers come only once. {one_each}"),
        ("the models themselves", np.stack([rate[front], distortion[front]]),
         f"you return the rates and distortions of the front. {one_each}"),
        ("the rates of the front", rate[front], f"you return rates. {one_each}"),
        ("how many beat it", beats.sum(1), f"you return how many models beat each one. {one_each}"),
        ("a table", beats, f"you return a table of who beats whom. {one_each}"),
        ("how many there are", front.sum(), f"you count them. {one_each}"),
    )  # fmt: skip


# --- The correlations ------------------------------------------------------------------------------------------------


def codes_and_factors(rng):
    (z, f), n = rng.integers(2, 6, 2), rng.integers(12, 20)
    factors = rng.standard_normal((n, f)) * rng.uniform(1, 4, f) + rng.uniform(1, 5, f)
    mu = factors @ rng.standard_normal((f, z)) + rng.standard_normal((n, z))
    return {"mu": mu, "factors": factors}


def columns(mu, factors):
    return {"mu": np.column_stack(mu), "factors": np.column_stack(factors)}


WAVES, FEW = np.arange(1100.0), np.arange(40.0)
STEPS, JUMPS = np.arange(5.0), np.array([1.0, 4.0, 2.0, 5.0, 3.0])


def correlations_by_pairs(mu, factors):
    pairs = [[abs(correlation(code, factor)) for factor in factors.T.tolist()] for code in mu.T.tolist()]
    return np.array(pairs, dtype=mu.dtype)


def ranks(array):
    return array.argsort(axis=0).argsort(axis=0).astype(float)


def orders(array):
    """For each two images whether the second has more: the correlation of these signs is Kendall's."""
    return np.sign(array - array[:, None]).reshape(-1, array.shape[1])


def correlations_model(choose, mu, factors):
    z, f = mu.shape[1], factors.shape[1]
    both, is_mu = np.hstack([mu, factors]), np.arange(z + f) < z
    columns = choose(
        lambda: both,
        ("ranks", lambda: ranks(both),
         "this is the correlation of the ranks (Spearman). Pearson's takes the values as they are."),
        ("orders", lambda: orders(both),
         "this is the correlation of the orders (Kendall). Pearson's takes the values."),
        ("sorted columns", lambda: np.sort(both, axis=0),
         "you sort each column for itself: which code belongs to which factors?"),
        ("absolute values", lambda: np.abs(both),
         "you take absolute values before anything else. Only the table has no signs."),
        ("differences of neighbours", lambda: np.diff(both, axis=0),
         "you take differences of images, whose order is chance."),
        ("without the first image", lambda: both[1:], "the first image does not count in yours."),
        ("without the last image", lambda: both[:-1], "the last image does not count: where does the range end?"),
    )()  # fmt: skip

    def row_means(part):
        return part.mean(1, keepdims=True)

    def row_lengths(part):
        return np.linalg.norm(part, axis=1, keepdims=True)

    def by_part(array, function):
        """What a function makes of the latents and of the factors, side by side."""
        return np.hstack([np.broadcast_to(function(part), part.shape) for part in np.split(array, [z], axis=1)])

    n, mean = len(columns), columns.mean(0)
    own = columns - mean
    centred = choose(
        lambda: own,
        ("not centred", lambda: columns,
         "this is the cosine of the angle between columns. A correlation does not change if you add a constant."),
        ("the latents not centred", lambda: np.where(is_mu, columns, own),
         "the latents keep their mean. A correlation does not change if you add a constant to a latent."),
        ("the factors not centred", lambda: np.where(is_mu, own, columns),
         "the factors keep their mean. A correlation does not change if you add a constant to a factor."),
        *((f"{which} centred by rows", lambda here=here: np.where(here, columns - by_part(columns, row_means), own),
           "you take off the mean of each image. Which axis holds the images?")
          for which, here in (("both", True), ("the latents", is_mu), ("the factors", ~is_mu))),
        *((f"{words} for all columns", lambda function=function: columns - by_part(columns, function),
           "you take off one mean for all columns.")
          for words, function in (("one mean", np.mean), ("the first mean", lambda part: part[:, 0].mean()),
                                  ("the last mean", lambda part: part[:, -1].mean()))),
        *((f"the {words} instead of the mean", lambda function=function: columns - function(columns),
           f"you take off the {words}, not the mean.")
          for words, function in (("median", lambda all: np.median(all, 0)), ("smallest", lambda all: all.min(0)),
                                  ("first", lambda all: all[0]))),
    )()  # fmt: skip
    lengths, ones = np.linalg.norm(centred, axis=0), np.ones(z + f)
    units, slope = "your values change with the units of the", "It changes with the units: a correlation does not."
    whole = np.where(is_mu, np.linalg.norm(lengths[:z]), np.linalg.norm(lengths[z:]))
    left, right = choose(
        (lengths, lengths),
        ("covariance", (ones * n, ones),
         "your values change with the units of the factors. A correlation has none: what is missing?"),
        ("covariance over N - 1", (ones * (n - 1), ones),
         "your values change with the units of the factors. A correlation has none: what is missing?"),
        ("no lengths", (ones, ones), "these are sums of products, which change with units and number of images."),
        ("the factors' lengths missing", (lengths, ones), f"{units} factors."),
        ("the latents' lengths missing", (ones, lengths), f"{units} latents."),
        ("variances for lengths", (lengths**2, lengths**2),
         "you divide by both variances. What has the same unit as a product of two columns?"),
        ("the latents' lengths squared", (lengths**2, lengths), f"{units} latents. Is a root missing?"),
        ("the factors' lengths squared", (lengths, lengths**2), f"{units} factors. Is a root missing?"),
        ("slopes over the latents", (lengths**2, ones), f"this is the slope of a line through the factor. {slope}"),
        ("slopes over the factors", (ones, lengths**2), f"this is the slope of a line through the latent. {slope}"),
        ("roots of lengths", (np.sqrt(lengths), np.sqrt(lengths)), "you take one square root too many."),
        *((words, (other, other), advice) for words, other, advice in (
            ("lengths before centring", np.linalg.norm(columns, axis=0), "you divide by lengths that hold the mean."),
            ("lengths after centring only", np.linalg.norm(own, axis=0),
             "you centre the lengths only."),
            ("one spread for all columns", by_part(columns, np.std)[0] * np.sqrt(n),
             "you divide by one spread for all columns."),
            ("one length for all columns", whole, "you divide by one length for all columns. Each has its own."),
            ("one length for all latents", np.where(is_mu, whole, lengths), "each latent has a length of its own."),
            ("one length for all factors", np.where(is_mu, lengths, whole), "each factor has a length of its own."),
            ("ranges for lengths", np.ptp(columns, axis=0), "you divide by the range from smallest to largest."),
            ("largest values for lengths", np.abs(centred).max(0), "you divide by the largest value of a column."),
            ("absolute values for lengths", np.abs(centred).sum(0), "you measure a column by its absolute values."),
            ("mean absolute values for lengths", np.abs(centred).mean(0) * np.sqrt(n),
             "you measure the spread by a mean of absolute values."),
            ("means for lengths", mean * np.sqrt(n), "you divide by the means of the columns."),
        )),
    )  # fmt: skip
    left, right = choose(
        lambda: (centred / left, centred / right),
        ("unit rows", lambda: (by_rows := centred / by_part(centred, row_lengths), by_rows),
         "you give each image the length 1. Which axis holds the images?"),
        ("the mean of unit rows", lambda: (by_rows := centred / by_part(centred, row_lengths), by_rows / n),
         "you give each image the length 1. Which axis holds the images?"),
        ("the last image not in the sum", lambda: (centred[:-1] / left, centred[:-1] / right),
         "the last image does not count in your sum: where does the range end?"),
        ("the first image not in the sum", lambda: (centred[1:] / left, centred[1:] / right),
         "the first image does not count in your sum."),
        ("absolute products", lambda: (np.abs(centred / left), np.abs(centred / right)),
         "you take the absolute value of each image's product. Then they cannot cancel where they should."),
    )()  # fmt: skip
    grows, shrinks = (f"your values {change} with the number of images." for change in ("grow", "shrink"))
    factor = choose(
        1.0,
        ("N in one place, N - 1 in the other", n / (n - 1),
         "your values are a little too large for small N. Do the covariance and the spread divide by the same?"),
        ("N - 1 in one place, N in the other", (n - 1) / n,
         "your values are a little too small for small N. Do the covariance and the spread divide by the same?"),
        ("N - 1 in one of two spreads", np.sqrt((n - 1) / n), "do the two spreads divide by the same number?"),
        ("N - 1 in the covariance and one spread", np.sqrt(n / (n - 1)), "do the two spreads divide by the same?"),
        ("summed over the images", float(n), f"{grows} A correlation is at most one."),
        ("summed over the images, N - 1 in the spreads", n - 1.0, f"{grows} A correlation is at most one."),
        ("divided by N", 1 / n, f"{shrinks} Is an N in the lengths already?"),
        ("divided by N - 1", 1 / (n - 1), f"{shrinks} Is an N in the lengths already?"),
        ("the root of N", np.sqrt(n), f"{grows} A correlation is at most one."),
        ("divided by the root of N", 1 / np.sqrt(n), shrinks),
    )  # fmt: skip
    signed = factor * left.T @ right
    matrix = choose(
        np.abs,
        ("signed", lambda r: r,
         "some of your values are negative. Whether a latent grows or falls with a factor is chance."),
        ("0 for negative ones", lambda r: np.maximum(r, 0),
         "a latent that falls with a factor counts as 0. Whether it grows or falls is chance."),
        ("squared", np.square, "your values are the squares of the right ones, the share of variance explained."),
        ("p-values", lambda r: 2 * t.sf(np.abs(r) * np.sqrt((n - 2) / (1 - r**2)), n - 2),
         "these are p-values: how likely so large a correlation is by chance. The correlation itself is asked for."),
        ("Fisher's z", lambda r: np.arctanh(np.abs(r)), "your values go beyond one: that is Fisher's transform."),
        ("angles", lambda r: np.arccos(np.abs(r)), "these are angles between columns. Their cosine is asked for."),
        ("lengths added", lambda r: np.abs(r) / np.add.outer(1 / lengths, 1 / lengths),
         "you divide by a sum of lengths. How does the unit of both columns drop out?"),
        *((f"rounded to {digits} digits", lambda r, digits=digits: np.abs(r).round(digits),
           "you round. The table is asked for as it is.") for digits in (1, 2, 3, 4)),
    )(signed)  # fmt: skip
    table = matrix[:z, z:]
    images = np.corrcoef(mu, factors) if z == f else None
    which_axis = "you correlate images with images. Does your function take rows or columns for the variables?"
    return choose(
        table,
        ("factors in the rows", matrix[z:, :z], "your table is transposed: latents go down, factors go across."),
        ("latents with latents", matrix[:z, :z],
         "you compare the latents with each other, so the diagonal is one. Take another block of the matrix."),
        ("factors with factors", matrix[z:, z:],
         "you compare the factors with each other, so the diagonal is one. Take another block of the matrix."),
        ("the wrong corner", matrix[:z, :f],
         "your block begins at the matrix's corner. Which columns are the factors?"),
        ("Z and F exchanged", matrix[:f, f:],
         "you cut the matrix at the number of factors. How many latents come first?"),
        ("the whole matrix", matrix,
         "the matrix holds latents and factors against both. Only one of its blocks was asked for."),
        ("images with images", None if images is None else np.abs(images[:z, z:]), which_axis),
        ("images with images, signed", None if images is None else images[:z, z:], which_axis),
        ("all images with all images", None if images is None else np.abs(images), which_axis),
        ("pairs in the wrong order", matrix[z:, :z].reshape(z, f),
         "the right numbers, in the wrong places: a reshape does not turn rows into columns."),
        ("only the same place", np.diagonal(table),
         "you compare the first with the first, the second with the second. Every pair was asked for."),
        ("each row by its sum", table / table.sum(1, keepdims=True),
         "the values of each latent add up to one in yours."),
        ("each column by its sum", table / table.sum(0), "the values of each factor add up to one in yours."),
        ("each row by its largest", table / table.max(1, keepdims=True),
         "the largest value of each latent is one in yours."),
        ("each column by its largest", table / table.max(0), "the largest value of each factor is one in yours."),
        ("only the best factor", np.where(table == table.max(1, keepdims=True), table, 0),
         "only the largest value of each latent is left. Every pair was asked for."),
        ("only the best latent", np.where(table == table.max(0), table, 0),
         "only the largest value of each factor is left. Every pair was asked for."),
        ("one number per factor", table.max(0),
         "one number per factor is left. The table has one for each latent too."),
        ("a mean over the latents", table.mean(0), "you average over the latents. Every pair was asked for."),
        ("a mean over the factors", table.mean(1), "you average over the factors. Every pair was asked for."),
        ("one number per latent", table.max(1),
         "one number per latent is left. The table has one for each factor too."),
    )  # fmt: skip


# --- The traversal ---------------------------------------------------------------------------------------------------


def code_and_values(rng):
    z, which, v = rng.integers(2, 6, 3)
    latent = (0, z - 1, z // 2, 0)[which - 2]
    return {"mu": rng.standard_normal(z), "latent": int(latent), "values": rng.standard_normal(v)}


def code(*values, mu=(0.5, -1.5, 2.5), latent=1):
    return {"mu": np.array(mu), "latent": latent, "values": np.array(values)}


def codes_by_loop(mu, latent, values):
    return np.array([[value if d == latent else mu[d] for d in range(len(mu))] for value in values], dtype=mu.dtype)


def traversal_model(choose, mu, latent, values):
    z, v = len(mu), len(values)
    place, row = np.arange(z), np.arange(v)[:, None]
    others = choose(
        np.tile(mu, (v, 1)),
        ("the others at zero", np.zeros((v, z)),
         "the other latents lost their place, so this is no longer the image you started from."),
        ("the others at one", np.ones((v, z)), "the other latents are all 1: this is no longer the same image."),
        ("the others at their mean", np.full((v, z), mu.mean()),
         "the other latents share one number: keep each of them."),
        ("copies in the wrong order", np.repeat(mu, v).reshape(v, z),
         "the rows are no copies of the code: its entries are repeated one by one, and then cut into rows."),
        ("copies cut the wrong way", np.tile(mu, v).reshape(z, v).T,
         "the rows are no copies of the code: a reshape does not turn rows into columns."),
        ("the others moved as well", mu + values[:, None], "the other latents move as well. Only one should."),
        ("the others scaled as well", mu * values[:, None], "the other latents are scaled. Only one should change."),
    )  # fmt: skip
    old, column = np.tile(mu, (v, 1)), values[:, None]
    new = choose(
        column,
        ("added instead of set", old + column,
         "you move the latent by the values. Set it to them, so that all images share one scale."),
        ("subtracted instead of set", old - column, "you move the latent by the values. Set it to them."),
        ("the distance from the code", column - old, "you take the code's own entry off the values. Set it to them."),
        ("multiplied", old * column, "you scale the latent by the values: where it is zero, nothing would move."),
        ("nothing moves", old, "all the codes are still the one you started from."),
        ("centred on the code", old + column - values.mean(),
         "you move the values to where the code is. Set the latent."),
        ("half of the way", (old + column) / 2, "the latent goes half of the way only."),
        ("the last value everywhere", values[-1],
         "all rows are the same: they share one array, which is changed again and again. Copy it for each."),
        ("the first value everywhere", values[0], "all rows take the first value: which belongs to which?"),
        ("values summed up", column.cumsum(0), "the values pile up from row to row. Each row starts from the code."),
        ("moved again and again", old + column.cumsum(0), "the moves pile up from row to row. Set the latent."),
        ("an even row", np.linspace(values.min(), values.max(), v)[:, None],
         "the values are given: they need not be evenly spaced."),
        ("an even row from first to last", np.linspace(values[0], values[-1], v)[:, None],
         "the values are given: they need not be evenly spaced."),
        ("the values' places", np.arange(float(v))[:, None], "you use the places of the values, not the values."),
        ("values in the code's unit", column * mu.std(),
         "you scale the values. They are in the unit of the prior already."),
    )  # fmt: skip
    new = np.broadcast_to(new, (v, z))
    one_latent = "in each row another latent moves. It is the same one in all."
    where = choose(
        place == latent,
        ("the latent before", place == (latent - 1) % z, "another latent moves: they are counted from zero."),
        ("the latent before, if there is one", place == latent - 1,
         "another latent moves, or none: they are counted from zero."),
        ("the next latent", place == (latent + 1) % z, "another latent moves: they are counted from zero."),
        ("counted from the end", place == z - 1 - latent, "another latent moves: you count from the end."),
        ("the first latent", place == 0, "it is always the first latent that moves. Which one was asked for?"),
        ("the last latent", place == z - 1, "it is always the last latent that moves. Which one was asked for?"),
        ("latent 0 never", (place == latent) & (latent > 0),
         "latent 0 never moves. They are counted from zero: is 0 taken for none?"),
        ("the last latent never", (place == latent) & (latent < z - 1),
         "the last latent never moves: where does the range end?"),
        ("counted backwards", place == -latent % z, "another latent moves: you count backwards from zero."),
        ("all latents at once", place >= 0,
         "every latent takes the value. Then the picture does not tell you which of them did what."),
        ("all but the latent", place != latent, "all the others take the value, and the latent stays as it is."),
        ("the latents from there on", place >= latent, "the later latents move as well. Only one should."),
        ("the latents up to there", place <= latent, "the earlier latents move as well. Only one should."),
        ("the latents before it", place < latent, "the earlier latents move, the latent itself does not."),
        ("a further latent in each row", place == (latent + row) % z, one_latent),
        ("more latents in each row", (place >= latent) & (place <= latent + row), "more latents move from row to row."),
        ("the diagonal", place == row % z, one_latent),
        ("the first row only", (place == latent) & (row == 0), "only the first row is changed."),
        ("the last row only", (place == latent) & (row == v - 1), "only the last row is changed: is each row a copy?"),
        ("not the first row", (place == latent) & (row > 0),
         "the first row is the code as it was. Its value is missing."),
        ("not the last row", (place == latent) & (row < v - 1),
         "the last row is the code as it was. Its value is missing."),
        ("as many rows as latents", (place == latent) & (row < z),
         "the later rows are the code as it was: how many are there?"),
        ("a row for a column", (row == latent) if latent < v else np.empty(0),
         "you overwrite a row, which is one code. The latent is the same column of all."),
    )  # fmt: skip
    codes, there = np.where(where, new, others), new[:, latent]
    moved, rest = np.insert(others, latent, there, axis=1), np.delete(others, latent, axis=1)
    return choose(
        codes,
        ("codes in the columns", codes.T, "your result is transposed: one code per row."),
        ("the values as a row", np.where(row == latent, values, others) if z == v else None,
         "you write the values into one row. The latent is the same column of all codes."),
        ("the original first", np.vstack([mu, codes]), "there is one row too many: the code as it was comes along."),
        ("the original last", np.vstack([codes, mu]), "there is one row too many: the code as it was comes along."),
        ("inserted instead of replaced", moved,
         "the codes are longer by one: the value is put in between. It replaces an entry."),
        ("inserted, the last latent lost", moved[:, :-1],
         "the value is put in between, and the later latents move by one. It replaces an entry."),
        ("appended instead of replaced", np.column_stack([others, there]),
         "the codes are longer by one: the value is put at the end. It replaces an entry."),
        ("the latent taken out", rest, "the codes are shorter by one. Where is the value?"),
        ("the value in front of the others", np.column_stack([there, rest]),
         "the value stands in front of the others. It belongs where the latent was."),
        ("the value behind the others", np.column_stack([rest, there]),
         "the value stands behind the others. It belongs where the latent was."),
        ("an axis too many", codes[:, None], "there is one axis too many: one row for each code."),
        ("one column only", there[:, None], "you return the values of one latent. The others belong to a code too."),
        ("one code only", codes[-1], "you return one code. There is one for each of the values."),
        ("cut to whole numbers", np.trunc(codes), "what stands behind the point is lost: of which type is your array?"),
        ("all in one row", codes.ravel(), "all the codes stand in one row. One row for each of them."),
        ("every latent in turn", np.where(np.eye(z, dtype=bool)[:, None], new, others),
         "you move every latent in turn. One of them was asked for."),
    )  # fmt: skip


def traversal_terms(mu, latent, values):
    copies, column = np.tile(mu, (len(values), 1)), values[:, None]
    parts = {
        "mu": copies, "the latent's mu": mu[latent], "the mean of mu": mu.mean(), "the value": column,
        "the mean of the values": values.mean(), "mu times the value": copies * column, "1": np.ones_like(copies),
    }  # fmt: skip
    there = np.arange(len(mu)) == latent
    places = {"in the latent's column": there, "in the others": ~there}
    return {
        f"{name} {words}": np.where(here, part, 0) for name, part in parts.items() for words, here in places.items()
    }


FUNCTIONS = [
    Function(
        "beta_loss",
        loss_by_loop,
        terms,
        loss_model,
        special=[
            *(
                Special(
                    f"a beta {words}", costs(*TWO_IMAGES, beta), "A price below one is allowed: what does yours do?"
                )
                for words, beta in (("of 0", 0.0), ("below 1", 0.25))
            ),
            Special("a beta of 1, a whole number", costs(*TWO_IMAGES, 1), "What is the loss when beta is 1?"),
            Special(
                "latents that are nearly switched off",
                costs([5.0, 2.0, 1.0], [[1e-3, 2.0], [0.0, 1e-2], [0.05, 0.2]]),
                "A latent with few nats has a price as well: do you leave it out, or raise it?",
            ),
            Special(
                "large costs",
                costs([900.0, 20000.0], [[300.0, 5.0, 40.0], [0.5, 2500.0, 1.0]], 250.0),
                "Nats and prices have no upper limit: is something cut off?",
            ),
            Special("one latent", costs([3.0, 1.0, 2.0], [[2.0], [0.5], [1.0]]), LENGTH_1),
            Special("one image", costs([3.0], [[2.0, 0.5, 1.0]]), LENGTH_1),
            Special("many images with many latents", costs(np.arange(130.0), np.eye(130, 40) + 0.5), MANY),
        ],
        terms=loss_terms,
        probe="Put beta = 0 and beta = 1 into it: which loss should be left, and which one is?",
    ),
    Function(
        "rate_distortion_front",
        front_by_loop,
        models,
        front_model,
        special=[
            Special(
                "models with the same rate",
                points((2, 5), (2, 4), (1, 7), (3, 4)),
                "What does your comparison say of equal rates?",
            ),
            Special(
                "models with the same distortion",
                points((5, 2), (4, 2), (7, 1), (4, 3)),
                "What does your comparison say of equal distortions?",
            ),
            Special(
                "three equal models",
                points((3, 3), (1, 5), (3, 3), (4, 4), (3, 3)),
                "Two equal models do not beat each other. How many of them are on your front?",
            ),
            Special(
                "a model that beats all others",
                points((3, 5), (1, 2), (4, 4)),
                "How many models are on the front if one beats all others?",
            ),
            Special(
                "two equal models that beat all others",
                points((1, 2), (3, 5), (1, 2), (2, 2)),
                "Two equal models do not beat each other. How many of them are on your front?",
            ),
            Special(
                "a front with a dent",
                points((10, 60), (20, 55), (30, 50), (40, 28), (50, 35), (60, 20)),
                "The front may be bent in any way: does your rule ask for more than not to be beaten?",
            ),
            Special(
                "models on a straight line",
                points((2, 3.5), (4, 1), (1, 4), (3, 2), (2, 3)),
                "Which models on a falling line does another one beat?",
            ),
            Special(
                "models that only the first one beats",
                points((1, 3), (1, 5), (4, 3), (5, 1)),
                "Does every model meet every other one, the first too?",
            ),
            Special(
                "models that only the last one beats",
                points((5, 4), (1, 7), (4, 5), (4, 4)),
                "Does every model meet every other one, the last too?",
            ),
            Special(
                "models that differ by little",
                points((100, 40), (100.0002, 40), (90, 50), (90, 50.0001)),
                "A small difference is one too: do you round, or compare with a tolerance?",
            ),
            Special(
                "many nats",
                points((5e6, 9e7), (6e6, 9e7), (7e6, 8e7), (8e6, 8.5e7)),
                "Nats have no upper limit: what does your search start from?",
            ),
            Special("many models", points(*((7 * i % 130, 37 * i % 130) for i in range(1, 130))), MANY),
        ],
    ),
    Function(
        "factor_correlations",
        correlations_by_pairs,
        codes_and_factors,
        correlations_model,
        special=[
            Special(
                "columns far from zero",
                columns([30_000 + np.sin(FEW), 10_000 - np.cos(FEW)], [20_000 + np.sin(2 * FEW), FEW]),
                "a difference of two large numbers loses its digits: take off the means first, in float64.",
            ),
            Special("many images", columns([np.sin(WAVES), np.cos(WAVES) ** 3], [WAVES % 7, WAVES]), MANY),
            Special("one latent", columns([JUMPS], [STEPS, JUMPS**2]), LENGTH_1),
            Special("one factor", columns([STEPS, JUMPS**2], [JUMPS]), LENGTH_1),
            Special(
                "more latents than images",
                columns([[0.5, 1.5, -0.5], [-1, 0.25, 2], [2, -1, 0.5], [1, 0, 3.0]], [[0, 1, 3.0], [2, 5, 1.0]]),
                "Do you tell the axes apart by their lengths?",
            ),
            Special(
                "latents that hardly move",
                columns([1e-5 * JUMPS, 1e-5 * JUMPS**2], [STEPS]),
                "A correlation has no unit, however small the numbers: is something added, rounded, or taken for zero?",
            ),
            Special(
                "large factors",
                columns([JUMPS, JUMPS**2], [1e5 * STEPS]),
                "A correlation has no unit, however large the numbers are.",
            ),
            Special(
                "a latent that is a factor turned around",
                columns([3 - 2 * JUMPS, JUMPS**2], [JUMPS, STEPS]),
                "What is the correlation of a column with a multiple of itself?",
            ),
        ],
        tolerance=1e-6,
    ),
    Function(
        "traversal_codes",
        codes_by_loop,
        code_and_values,
        traversal_model,
        special=[
            Special("latent 0", code(-1.0, 0.5, latent=0), "Latents are counted from zero: is 0 taken for none?"),
            Special("the last latent", code(-1.0, 0.5, latent=2), "What comes after the last latent?"),
            Special("one value", code(0.5), LENGTH_1),
            Special("many values", code(*np.sin(np.arange(1, 131))), MANY),
            Special("one latent", code(-1.0, 0.5, mu=[0.5], latent=0), LENGTH_1),
            Special(
                "a code in which two latents are equal",
                code(-1.0, 0.25, mu=[0.5, 0.5, 2.0], latent=1),
                "which latent is replaced is said by its number.",
            ),
            Special("as many values as latents", code(2.0, 0.25, -1.0), "Do you tell the axes apart by their lengths?"),
            Special("a value that comes twice", code(2.0, 0.5, 2.0, 2.0), "Equal values have a row each."),
            Special("a value of 0", code(-1.0, 0.0), "Zero is a value like any other: is it taken for none?"),
            Special("whole numbers", code(-2, -1, 1, 2), "Values may be integers: which numbers can your array hold?"),
            Special("values far out", code(-50.0, 0.1, 1e3), "A latent may take any value: is something cut off?"),
            Special(
                "a value that the code has already", code(-1.5, 1.0), "Each value has a row, that of the code too."
            ),
        ],
        terms=traversal_terms,
        probe="In the latent's column belongs the value, in the others the code.",
    ),
]
