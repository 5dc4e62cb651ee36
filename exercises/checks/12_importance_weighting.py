"""Checks of exercise 12. The references are scipy's logsumexp and softmax, in explicit loops over images and groups."""

import math

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from scipy.special import entr, logsumexp, softmax

from checking import Function, Special

# --- Inputs ----------------------------------------------------------------------------------------------------------


def log_weights(rng):
    n = int(rng.integers(2, 6))
    k = int(rng.choice([k for k in range(3, 8) if k != n]))
    return {"log_w": 1.5 * rng.standard_normal((n, k)) - rng.uniform(2, 6, (n, 1))}


def pools(rng):
    k = int(rng.integers(2, 5))
    groups = k + int(rng.integers(1, 4))  # never k groups of k: the two must not be confused
    n = int(rng.choice([n for n in range(2, 7) if n not in (k, groups)]))
    return {"log_w": 1.5 * rng.standard_normal((n, groups * k)) - 4, "k": k}


SPREAD = np.array([[0.0, 1.0, 3.0, -2.0], [0.5, -1.0, 0.2, 2.0], [1.0, 0.1, -0.3, 0.4]])
OUTLIERS = np.array([[0.0, 1.0, 3.0, -1200.0], [2000.0, 0.0, 1.0, -1.0], [-1200.0, 0.5, -0.5, 2.0]])
EXTREMES = [
    ("weights as large as exp(1000)", 1000 + SPREAD),
    ("weights as small as exp(-1000)", SPREAD - 1000),
    ("weights as small as exp(-100000)", SPREAD - 1e5),
    ("images whose weights lie far apart", SPREAD + np.array([[1000.0], [-1000.0], [0.0]])),
    ("samples of one image whose weights lie far apart", OUTLIERS),
]
SIZES = (
    "Which is the largest number, and which the smallest, that your exp meets there? Does another image have a say in "
    "it?"
)
IS_LOST = "Is an axis lost where it has length 1, or does something divide by zero?"
SMALL = [
    Special("one image", {"log_w": SPREAD[:1]}, IS_LOST),
    Special("one sample for each image", {"log_w": SPREAD[:, :1]}, IS_LOST),
    Special(
        "equal weights", {"log_w": np.array([[-7.0] * 4, [-1, -2, -1, -2]])}, "Does each of some equal ones count?"
    ),
]
OF_ONE_MATRIX = [Special(what, {"log_w": log_w}, SIZES) for what, log_w in EXTREMES] + SMALL
FAR_GROUPS = np.array([[1000.0, 1001.0, -1000.0, -1002.0], [-1.0, 0.5, 1000.0, 999.0], [2.0, 1.0, 0.0, -1.0]])

# --- References ------------------------------------------------------------------------------------------------------


def per_image(function):
    """The same for (N, K), image by image."""
    return lambda log_w: np.array([function(row) for row in log_w], dtype=log_w.dtype)


def mean_of_groups(log_w, k):
    bounds = []
    for row in log_w:
        starts = range(0, len(row), k)
        bounds.append(np.mean([logsumexp(row[start : start + k]) - math.log(k) for start in starts]))
    return np.array(bounds, dtype=log_w.dtype)


# --- What may be done instead ----------------------------------------------------------------------------------------


COLUMN_AND_ROW = (
    "a column (N, 1) meets a row (N,), so that every image is combined with every other. What did keepdims keep?"
)
SCALED_APART = (
    "the samples of one image are scaled by different numbers in yours, each by what other images have there."
)


def shifts(choose, log_w, *more):
    """What the log weights (..., K) of each row are lowered by before exp: (..., 1)."""
    largest, others = log_w.max(-1, keepdims=True), "the others are not made any smaller by it: exp may meet anything."
    return choose(
        largest,
        ("exp without a shift", 0 * largest,
         "right on paper, but exp overflows to infinity or rounds to zero. What could you divide by first?"),
        ("one shift for the whole batch", 0 * largest + log_w.max(),
         "an image far below the best image of the batch loses all its weights. The images know nothing of each "
         "other."),
        ("the smallest subtracted", log_w.min(-1, keepdims=True), f"you subtract the smallest log weight; {others}"),
        ("the mean subtracted", log_w.mean(-1, keepdims=True), f"you subtract the mean log weight; {others}"),
        ("the first subtracted", log_w[..., :1], f"you subtract the first log weight; {others}"),
        ("the last subtracted", log_w[..., -1:], f"you subtract the last log weight; {others}"),
        ("the largest absolute value subtracted", np.abs(log_w).max(-1, keepdims=True),
         "you look for the largest distance from zero. Log weights may be negative: which is the largest?"),
        *more,
    )  # fmt: skip


def log_sum(log_w):
    largest = log_w.max(-1)
    return largest + np.log(np.exp(log_w - largest[..., None]).sum(-1))


def median(array):
    array, middle = np.sort(array, -1), array.shape[-1] // 2
    return (array[..., middle] + array[..., -middle - 1]) / 2


def log_of_mean(choose, log_w, *more_shifts, images=1):
    """log of the mean of exp(log_w) over the last axis."""
    k, shift = log_w.shape[-1], shifts(choose, log_w, *more_shifts)
    column = shift[..., 0]
    w = choose(
        np.exp(log_w - shift),
        ("each sample's largest subtracted", np.exp(log_w - log_w.max(0, keepdims=True)), SCALED_APART),
        ("minus the shifted weights", np.exp(shift - log_w), "you take exp of minus the log weights."),
    )  # fmt: skip
    mean = choose(
        w.mean(-1),
        ("a sum in place of the mean", w.sum(-1), "the result grows when every sample counts twice. A mean would not."),
        ("divided by one sample less", w.sum(-1) / (k - 1), "you divide by one less than the number of weights."),
        ("divided by one sample more", w.sum(-1) / (k + 1), "you divide by one more than the number of weights."),
        ("divided by the number of images", w.sum(-1) / images, "your mean divides by the number of images."),
        ("the median", median(w), "you take the median of the weights. It is their mean that is unbiased."),
        ("the largest left out", (w.sum(-1) - w.max(-1)) / k,
         "the largest weight does not count in your mean, and it is worth more than any other."),
        ("one added to the sum", (w.sum(-1) + 1) / k,
         "you add a one to the sum. If it stands for the largest weight: is that in the sum already?"),
        ("without the first", w[..., 1:].sum(-1) / (k - 1), "the first sample does not count in your mean."),
        ("without the last", w[..., :-1].sum(-1) / (k - 1), "the last sample does not count in your mean."),
        ("the first alone", w[..., 0], "you look at one sample only."),
        ("squared weights", (w**2).mean(-1), "you average squares. The bound speaks of the weights."),
        ("one over the mean of 1 / w", 1 / (1 / w).mean(-1),
         "you average one over the weights. The mean of the weights themselves is wanted."),
        ("the deviation", w.std(-1), "this is how much the weights scatter, not their mean."),
    )  # fmt: skip
    log = choose(
        np.log(mean),
        ("no logarithm", mean, "the logarithm is missing. The result should be in nats."),
        ("log(1 + x)", np.log1p(mean), "log1p adds a one, and nothing is added here."),
        ("log2 for log", np.log2(mean), "the logarithm has another base than exp."),
        ("log10 for log", np.log10(mean), "the logarithm has another base than exp."),
    )
    summed, total = np.log(w.sum(-1)), log_sum(log_w)
    return choose(
        column + log,
        ("the shift not undone", log, "your result does not change when every log weight grows by 5 nats. Should it?"),
        ("the shift undone twice", 2 * column + log, "you add back more than you have taken away."),
        ("the shift subtracted again", log - column, "you take the shift away a second time. Where does it go?"),
        ("multiplied with the shift", column * log, "you multiply with what has been subtracted. How is it undone?"),
        ("the shift inside the logarithm", np.log(mean + column),
         "you add the shift to a mean of weights, but it is a logarithm. On which side of the log does it belong?"),
        ("exp(shift) inside the logarithm", np.log(mean + np.exp(column)),
         "inside the logarithm a factor is undone by a factor, not by adding."),
        ("undone by the largest of all", log_w.max() + log,
         "you add the largest log weight of the whole batch. What was taken from this image?"),
        ("undone by the mean", log_w.mean(-1) + log,
         "you add back the mean log weight. Is it what you have subtracted?"),
        ("a sum that begins with log 1", np.logaddexp(0, total) - math.log(k),
         "before anything is added, your sum of weights is exp(0), which is a weight of one."),
        ("a mean with the shares as weights", (np.exp(log_w - total[..., None]) * log_w).sum(-1),
         "you average the logs, the good samples more than the others. It is the weights that are averaged."),
        ("divided outside the logarithm", total / k,
         "you divide the logarithm of the sum. It is the sum that has to be divided."),
        ("the log of the sum divided by K", column + summed / k,
         "you divide a logarithm by the number of samples. It is the sum that has to be divided."),
        ("the mean of the logs", log_w.mean(-1),
         "this is the ELBO. Here the weights are averaged first, and the logarithm comes last."),
        ("the largest alone", log_w.max(-1),
         "this is the largest log weight. Where the weights differ, their mean is lower."),
        ("the smallest alone", log_w.min(-1), "this is the smallest log weight. All of them count."),
        ("the median of the logs", median(log_w), "you take the median. Which mean does the bound speak of?"),
        ("divided by log K", total / np.log(k), "the log of a quotient is no quotient of logs."),
        ("a column added to a row", np.add.outer(column, log), COLUMN_AND_ROW),
        ("less the number of samples", total - k, "you subtract the number itself, after the logarithm."),
        ("log K with the wrong sign", total + math.log(k), "a mean is smaller than a sum. Yours is larger."),
        ("the logarithm forgotten", np.exp(total - math.log(k)),
         "this is the mean of the weights themselves. The result should be in nats."),
        ("exp forgotten", np.log(log_w.mean(-1)),
         "you average the log weights and take a logarithm again. Where do the weights themselves come in?"),
        ("up to the variance", log_w.mean(-1) + log_w.var(-1) / 2,
         "this would be right for Gaussian log weights. Here it is an approximation."),
    )  # fmt: skip


def other_axes(choose, log_w):
    """log_w with its samples on the last axis, or what stands there in their place."""
    wrong = choose.slip(
        "the wrong axis",
        "your sums go over the images, so that one number per sample is left. It should be one per image.",
    )
    whole = choose.slip(
        "the whole batch", "one number comes out for the whole batch. Which axis holds the samples of one image?"
    )
    same = choose.slip("the whole batch, for every image", "every image gets the number of all of them together.")
    if same:
        return np.tile(log_w.ravel(), (len(log_w), 1))
    return log_w.T if wrong else log_w.ravel() if whole else log_w


def log_mean_exp_model(choose, log_w):
    return log_of_mean(choose, other_axes(choose, log_w), images=len(log_w))


def log_mean_exp_terms(log_w):
    n, k = log_w.shape
    total = logsumexp(log_w, 1)
    return {
        "log mean w": total - math.log(k), "mean log w": log_w.mean(1), "max log w": log_w.max(1), "log K": math.log(k),
        "min log w": log_w.min(1), "log sum w / K": total / k, "var log w": log_w.var(1), "log N": math.log(n),
        "K": k, "1": 1.0, "mean log w^2": (log_w**2).mean(1), "log mean 1/w": logsumexp(-log_w, 1) - math.log(k),
        "log mean w^2": logsumexp(2 * log_w, 1) - math.log(k), "the largest of all": log_w.max(), "w_1": log_w[:, 0],
    }  # fmt: skip


def bound_model(choose, log_w, k):
    n, pool = log_w.shape
    groups = choose(
        log_w.reshape(n, -1, k),
        ("one group of all samples", log_w[:, None],
         "this is the bound for k = K. If you average before the logarithm, groups make no difference."),
        ("the first group only", log_w[:, None, :k],
         "this is one estimate, from the first k samples. The other groups could make it less noisy."),
        ("the last group only", log_w[:, None, -k:], "this is one estimate, from the last k samples. Use them all."),
        ("without the first group", log_w[:, k:].reshape(n, -1, k) if pool > k else log_w.reshape(n, 1, k),
         "the first group does not count in yours: where does the range begin?"),
        ("without the last group", log_w[:, :-k].reshape(n, -1, k) if pool > k else log_w.reshape(n, 1, k),
         "the last group does not count in yours: where does the range end?"),
        ("every k-th sample", log_w[:, None, ::k],
         "you take one sample from every group. All samples of a group belong together."),
        ("k groups", log_w.reshape(n, k, -1), "you make k groups of K / k samples. It should be the other way round."),
        ("groups that are not neighbours", log_w.reshape(n, k, -1).swapaxes(1, 2),
         "every group has k samples, and the estimate is as good, but the task asks for neighbours in a group: "
         "which axis of a reshaped array runs fastest?"),
        ("k groups that are not neighbours", log_w.reshape(n, -1, k).swapaxes(1, 2),
         "inside the logarithm you average over the groups, and outside over the samples of one."),
        ("groups that overlap", sliding_window_view(log_w, k, axis=1),
         "your groups share samples: one begins at every sample. There should be K / k of them."),
        ("sorted into groups", np.sort(log_w, 1).reshape(n, -1, k),
         "you sort the samples first, so that the good ones meet in one group. Groups know nothing of the weights."),
        ("images mixed in a group", log_w.T.reshape(n, -1, k),
         "your groups hold weights of different images. Which axis runs fastest in a reshape?"),
    )  # fmt: skip
    rows = groups.shape[1]
    image = np.broadcast_to(groups.max((1, 2), keepdims=True), (n, rows, 1))
    each = log_of_mean(
        choose,
        groups,
        ("one shift for the groups of an image", image,
         "a group far below the best group of its image loses all its weights. Each group has its own scale."),
        images=n,
    )  # fmt: skip
    log_k = choose(
        0.0,
        ("log K for log k", math.log(groups.shape[2] / pool),
         "you divide each sum by the size of the pool. How many weights are in one sum?"),
        ("the number of groups for k", math.log(groups.shape[2] / rows),
         "you divide each sum by the number of groups. How many weights are in one sum?"),
    )  # fmt: skip
    each = each + log_k
    return choose(
        each.mean(1),
        ("a sum over the groups", each.sum(1),
         "the result grows with the number of groups. Each of them estimates the same quantity."),
        ("divided by k", each.sum(1) / k, "you divide by the size of a group. How many groups are averaged?"),
        ("divided by k as well", each.mean(1) / k, "the result is divided by k once too often: where does 1/k belong?"),
        ("the best group", each.max(1),
         "you keep the highest of the estimates. A maximum is too high in the mean, and is no lower bound."),
        ("the worst group", each.min(1), "you keep the lowest of the estimates. It is noisier, and too low."),
        ("the median group", median(each), "you take the median of the estimates, the bound is their mean."),
        ("groups not averaged", each, "there is still one number for each group. It should be one per image."),
        ("the groups of all images together", each.ravel(),
         "the groups of all images stand in one row. Which of them belong to one image?"),
        ("groups given to the wrong images", each.reshape(-1, n).mean(0),
         "the groups are right, but you average groups of different images. In which order do they come?"),
        ("averaged over the images", each.mean(0), "you average over the images. Keep them apart, and not the groups."),
        ("one number for the batch", each.mean(), "one number comes out for the whole batch. Keep the images apart."),
        ("a log of sums between the groups", log_sum(each),
         "between the groups you add up weights. Each group is an estimate of a logarithm."),
    )  # fmt: skip


def bound_terms(log_w, k):
    n, pool = log_w.shape
    each = logsumexp(log_w.reshape(n, -1, k), 2) - math.log(k)
    return {
        "L_k": each.mean(1), "the sum of the groups": each.sum(1), "L_K": logsumexp(log_w, 1) - math.log(pool),
        "the ELBO": log_w.mean(1), "log k": math.log(k), "log K": math.log(pool), "k": k, "K/k": pool / k, "1": 1.0,
        "L_k / k": each.mean(1) / k, "max log w": log_w.max(1),
    }  # fmt: skip


def effective_model(choose, log_w):
    log_w = other_axes(choose, log_w)
    k, lowered = log_w.shape[-1], log_w - shifts(choose, log_w)
    w = choose(
        np.exp(lowered),
        ("squared log weights", log_w, "you add up and square the logarithms. The formula speaks of the weights."),
        ("shifted log weights", lowered, "you have forgotten to take exp, so it is logarithms that you square."),
        ("the root of the weights", np.exp(lowered / 2), "the weights enter as their roots in yours."),
        ("the weights squared first", np.exp(2 * lowered), "the weights are squares before anything is summed."),
        ("one over the weights", np.exp(-lowered), "a large weight is a small one in yours."),
        ("each sample's largest subtracted", np.exp(log_w - log_w.max(0, keepdims=True)), SCALED_APART),
        ("shares over the images", softmax(log_w, 0), SCALED_APART),
        ("without the first", np.exp(lowered[..., 1:]), "the first sample does not count in your sums."),
        ("without the last", np.exp(lowered[..., :-1]), "the last sample does not count in your sums."),
    )  # fmt: skip
    total, squares, shares, count = w.sum(-1), (w**2).sum(-1), w / w.sum(-1, keepdims=True), w.shape[-1]
    variance = ((w - (total / np.float64(count))[..., None]) ** 2).sum(-1) / np.float64(count)
    numerator = choose(
        total**2,
        ("the square of the sum forgotten", total,
         "your result changes with the scale of the weights. Count the powers of w above and below the line."),
        ("the squares above the line", squares, "above the line stands the square of a sum, not a sum of squares."),
        ("the mean above the line", (total / k) ** 2, "a mean has come above the line, and a sum stands below."),
        ("one above the line", np.ones_like(total), "this would be right for weights that sum to one."),
        ("all images above the line", 0 * total + w.sum() ** 2, "above the line stand the weights of all images."),
        ("a cube above the line", total**3, "your result changes with the scale of the weights: count powers."),
    )  # fmt: skip
    denominator = choose(
        squares,
        ("the sum, or the largest weight, below the line", total,
         "below the line the squares of all the weights are added up. Are they in yours?"),
        ("the mean below the line", squares / k, "a mean has come below the line, and a sum stands above."),
        ("all images below the line", 0 * total + squares.sum(), "below the line stand the weights of all images."),
        ("the root below the line", np.sqrt(squares), "there is a root below the line that the formula does not have."),
        ("the variance below the line", variance, "below the line stands how much the weights scatter."),
        ("a cube below the line", (w**3).sum(-1), "your result changes with the scale of the weights: count powers."),
        ("fourth powers below the line", (w**4).sum(-1), "below the line the weights are squared once too often."),
        ("the largest square below the line", (w**2).max(-1, initial=0), "below the line only the largest counts."),
    )  # fmt: skip
    cv = variance / (total / count) ** 2
    return choose(
        numerator / denominator,
        ("upside down", denominator / numerator, "your numbers lie between 1 / K and 1. Equal weights should give K."),
        ("a share of K", numerator / denominator / k,
         "your numbers lie below 1: this is a share. Asked for is a number of samples."),
        ("a column divided by a row", np.divide.outer(numerator, denominator), COLUMN_AND_ROW),
        ("less one", numerator / denominator - 1, "every number is too small by one: equal weights should give K."),
        ("still a logarithm", 2 * np.log(total) - np.log(squares),
         "this is the logarithm of the number. One sample of one should give 1, not 0."),
        ("the perplexity", np.exp(entr(shares).sum(-1)),
         "exp of the entropy of the shares counts too, but differently. The formula here has squares."),
        ("the perplexity, and the log of zero", np.exp(-(shares * np.log(shares)).sum(-1)),
         "exp of the entropy of the shares counts too, but differently (and not where a share is zero). The formula "
         "here has squares."),
        ("the entropy", entr(shares).sum(-1), "this is the entropy of the shares. The formula here has squares."),
        ("the deviation for its square", k / (1 + np.sqrt(cv)), "the spread of the weights enters without its square."),
        ("the variance of a sample", k / (1 + cv * k / (k - 1)),
         "the variance divides by K - 1 in yours. Does the formula follow from it then?"),
        ("the variance alone", k / (1 + variance), "the variance of the weights has a scale. What is it compared to?"),
        ("the variance of the shares", k / (1 + variance / total**2),
         "you compare the variance of the shares with one. What is the mean of K shares?"),
        ("all images in both sums", 0 * total + w.sum() ** 2 / (w**2).sum(),
         "every image gets the number of all of them together. Keep the images apart."),
        ("how many are above the mean", (shares > 1 / k).sum(-1), "you count the weights above their mean."),
        ("K times the squared shares", k * (shares**2).sum(-1), "equal weights should give K."),
        ("the shares not squared", 1 / shares.sum(-1), "the shares always add up to one. What is done to them first?"),
    )  # fmt: skip


def effective_terms(log_w):
    w = softmax(log_w, 1)
    k = log_w.shape[1]
    return {
        "ESS": 1 / (w**2).sum(1), "ESS / K": 1 / (w**2).sum(1) / k, "1/ESS": (w**2).sum(1), "K": k, "1": 1.0,
        "1 / the largest share": 1 / w.max(1), "the largest share": w.max(1), "the perplexity": np.exp(entr(w).sum(1)),
    }  # fmt: skip


FUNCTIONS = [
    Function(
        "log_mean_exp",
        per_image(lambda row: logsumexp(row) - math.log(len(row))),
        log_weights,
        log_mean_exp_model,
        special=OF_ONE_MATRIX,
        terms=log_mean_exp_terms,
        probe="Put K equal weights into it: what is the log of their mean?",
    ),
    Function(
        "importance_weighted_bound",
        mean_of_groups,
        pools,
        bound_model,
        special=[
            Special("k = 1, where it is the ELBO", {"log_w": SPREAD - 5, "k": 1}, "What does one sample give?"),
            Special("k = K, one group of all samples", {"log_w": SPREAD - 5, "k": 4}, IS_LOST),
            Special("one image", {"log_w": SPREAD[:1] - 5, "k": 2}, IS_LOST),
            *(Special(what, {"log_w": log_w, "k": 2}, SIZES) for what, log_w in EXTREMES),
            Special(
                "groups of one image whose weights lie far apart",
                {"log_w": FAR_GROUPS, "k": 2},
                "Does another group have a say in what a group gives?",
            ),
        ],
        terms=bound_terms,
        probe="Put K equal weights into it: what is every group worth?",
    ),
    Function(
        "effective_sample_size",
        per_image(lambda row: 1 / sum(share**2 for share in softmax(row))),
        log_weights,
        effective_model,
        special=OF_ONE_MATRIX,
        terms=effective_terms,
        probe="Put K equal weights into it: it should give K.",
    ),
]  # fmt: skip
