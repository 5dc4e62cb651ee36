"""Checks of exercise 11. The references are scikit-learn and paper/likelihood.py, not the solutions."""

import numpy as np
import torch
from scipy.stats import mannwhitneyu, norm
from sklearn.metrics import confusion_matrix, roc_auc_score

from checking import Function, Special
from likelihood import anomaly_threshold

CLOSE = "A small difference is one too: do you round, or compare with a tolerance?"
NEGATIVE = "Scores may be negative: what is special about zero in yours?"
MANY = 200 + 10 * np.sin(np.arange(1100.0) ** 2)
MANY_ADVICE = "There may be many images, whose scores are close together: do you take all, and each as it is?"
LENGTH_1 = "Is an axis lost where it has length 1, or a group too small?"

# --- The area --------------------------------------------------------------------------------------------------------


def two_groups(rng, sizes=None):
    """Scores in steps of half a nat, so that there are ties, also in float32. Either group may score higher."""
    n = rng.integers(4, 10)
    n, m = (n, rng.choice([n, 13 - n, n])) if sizes is None else sizes
    return groups(rng.integers(400, 405, n) / 2, (rng.integers(400, 405, m) + rng.integers(-2, 3)) / 2)


def groups(normal, anomalous):
    return {"normal_scores": np.array(normal, dtype=float), "anomalous_scores": np.array(anomalous, dtype=float)}


def labels_and_scores(normal, anomalous):
    return np.repeat([0, 1], [len(normal), len(anomalous)]), np.concatenate([normal, anomalous])


def area(normal_scores, anomalous_scores):
    return np.float64(roc_auc_score(*labels_and_scores(normal_scores, anomalous_scores)))


def under_curve(normal, anomalous, thresholds, tie, alarm=np.greater, ends=False):
    """The area under the rates at some thresholds, by trapezoids (tie: 1/2) or rectangles (0: from the left, 1)."""
    levels = np.sort(thresholds)[::-1, None]
    false, found = alarm(normal, levels).mean(1), alarm(anomalous, levels).mean(1)
    if ends:
        false, found = np.concatenate([[0], false, [1]]), np.concatenate([[0], found, [1]])
    return np.diff(false) @ (tie * found[1:] + (1 - tie) * found[:-1])


def auroc_model(choose, normal_scores, anomalous_scores):
    normal, anomalous = choose(
        (normal_scores, anomalous_scores),
        ("the wrong side", (anomalous_scores, normal_scores),
         "this is the share of pairs in which the normal image scores higher. Which of the two should?"),
        ("different scores only", (np.unique(normal_scores), np.unique(anomalous_scores)),
         "equal scores of one group count once only. Each image counts."),
        *((f"{words} whole nats", (cut(normal_scores), cut(anomalous_scores)), "you turn the scores into whole nats.")
          for words, cut in (("cut to", np.floor), ("rounded to", np.round))),
    )  # fmt: skip
    n, m, both = len(normal), len(anomalous), np.concatenate([normal, anomalous])
    higher, equal = anomalous[:, None] > normal, anomalous[:, None] == normal
    tie = choose(
        0.5,
        ("ties as wins", 1.0,
         "a pair with equal scores counts as a full success. A score that is always zero would then be perfect."),
        ("ties as losses", 0.0,
         "a pair with equal scores counts nothing. What would you get by tossing a coin for it?"),
        ("ties twice", 1.5, "a pair with equal scores counts twice: is it among the higher ones already?"),
        ("ties against", -0.5, "a pair with equal scores is taken off."),
        ("a quarter for ties", 0.25, "a pair with equal scores counts too little."),
    )  # fmt: skip
    pairs = higher + tie * equal
    share, gap = pairs.mean(), anomalous.mean() - normal.mean()
    middle = (normal.mean() + anomalous.mean()) / 2
    alarms = both >= np.sort(both)[::-1, None]  # for each score as threshold
    found, false = alarms[:, n:].mean(1), alarms[:, :n].mean(1)
    precision = alarms[:, n:].sum(1) / alarms.sum(1)
    right = (m * found + n * (1 - false)) / (n + m)
    lowest, highest = (both > both[:, None]).sum(0) + 1.0, (both >= both[:, None]).sum(0)  # ranks
    ranks, least = (lowest + highest)[n:] / 2, m * (m + 1) / 2

    def spread(ddof):
        return np.sqrt(normal.var(ddof=ddof) + anomalous.var(ddof=ddof))

    order_is_chance = "you compare the first with the first and so on. The order of the images is chance."
    all_pairs, no_threshold = "Every anomaly meets every normal image.", "The AUROC knows of no threshold."
    return choose(
        lambda: share,
        ("a count of pairs", lambda: pairs.sum(),
         "this is the number of pairs that are in order. A probability is a share: of how many pairs?"),
        ("divided by the anomalies only", lambda: pairs.sum() / m,
         "the result grows with the number of normal images. How many pairs are there in all?"),
        ("divided by the normal images only", lambda: pairs.sum() / n,
         "the result grows with the number of anomalies. How many pairs are there in all?"),
        *((f"divided by the square of the {words}", lambda size=size: pairs.sum() / size**2,
           "you divide by the square of the size of one group. How many pairs are there?")
          for words, size in (("anomalies", m), ("normal images", n))),
        ("divided by all images", lambda: pairs.sum() / (n + m), "you divide by the images. How many pairs are there?"),
        ("divided by all pairs of images", lambda: pairs.sum() / ((n + m) * (n + m - 1) / 2),
         "you divide by all pairs of images. In how many of them is one normal and one not?"),
        ("ties left out", lambda: higher.sum() / (~equal).sum(),
         "pairs with equal scores are left out altogether. What would you get by tossing a coin for them?"),
        *((f"ties divided by the {words} only", lambda size=size: higher.mean() + tie * equal.sum() / size,
           "wins and ties are shares of the same number of pairs.")
          for words, size in (("anomalies", m), ("normal images", n))),
        ("ties not divided", lambda: higher.mean() + tie * equal.sum(), "the ties are a count, not a share, in yours."),
        ("never below one half", lambda: max(share, 1 - share),
         "yours is never below one half. A score that points the wrong way should be told from one that does not."),
        ("all or nothing", lambda: float(share == 1),
         "yours is 1 if every pair is in order, and 0 if one is not. A share lies between."),
        ("always zero", lambda: 0.0, "yours is always 0. Where does it get lost?"),
        ("wins less losses", lambda: 2 * share - 1,
         "yours is zero for a coin toss, and may be negative."),
        ("wins less losses, without sign", lambda: abs(2 * share - 1),
         "yours is zero for a coin toss. What should it be?"),
        ("one number for each anomaly", lambda: pairs.mean(1), "there is one number for each anomaly. What about all?"),
        ("one number for each normal image", lambda: pairs.mean(0), "there is one number for each normal image."),
        ("the table of pairs", lambda: pairs, "you return the table of pairs. What share of it is in order?"),
        ("only pairs in the same place", lambda: np.diagonal(pairs).mean(), order_is_chance),
        ("sorted, in the same place",
         lambda: np.mean([(a > b) + tie * (a == b) for a, b in zip(sorted(anomalous), sorted(normal), strict=False)]),
         f"you compare lowest with lowest and so on. {all_pairs}"),
        ("pairs in the same place", lambda: np.diagonal(pairs).mean() if n == m else None, order_is_chance),
        *((f"the {words} only", lambda part=part: part().mean(), f"only one image of a group counts. {all_pairs}")
          for words, part in (("first anomaly", lambda: pairs[0]), ("last anomaly", lambda: pairs[-1]),
                              ("first normal image", lambda: pairs.T[0]), ("last normal image", lambda: pairs.T[-1]))),
        *((f"the {words} not counted", lambda part=part: part.sum() / (n * m), "one image of a group does not count.")
          for words, part in (("first anomaly", pairs[1:]), ("last anomaly", pairs[:-1]),
                              ("first normal image", pairs[:, 1:]), ("last normal image", pairs[:, :-1]))),
        *((f"an anomaly against the {words} only", lambda score=score: (anomalous > score()).mean(),
           f"this is the share of anomalies above one number. {all_pairs}")
          for words, score in (("mean", normal.mean), ("median", lambda: np.median(normal)), ("largest", normal.max),
                               ("smallest", normal.min))),
        *((f"a normal image against the {words} only", lambda score=score: (normal < score()).mean(),
           f"this is the share of normal images below one number. {all_pairs}")
          for words, score in (("mean", anomalous.mean), ("median", lambda: np.median(anomalous)),
                               ("largest", anomalous.max), ("smallest", anomalous.min))),
        *((f"the comparison of {words}", lambda one=one: np.float64(one(anomalous) > one(normal)),
           f"you compare two numbers, one for each group. {all_pairs}")
          for words, one in (("means", np.mean), ("medians", np.median), ("largest scores", np.max))),
        ("accuracy between the means", lambda: (np.sum(anomalous > middle) + np.sum(normal <= middle)) / (n + m),
         f"this is the accuracy at one threshold. {no_threshold}"),
        ("the best accuracy", lambda: max(right.max(), n / (n + m)), f"this is the best accuracy. {no_threshold}"),
        ("the best balanced accuracy", lambda: (1 + max((found - false).max(), 0)) / 2,
         f"this is the best accuracy, with equal weights. {no_threshold}"),
        ("the largest difference of the rates", lambda: max((found - false).max(), 0),
         f"this is the largest distance of two curves. {no_threshold}"),
        ("the largest difference, without sign", lambda: np.abs(found - false).max(),
         f"this is the largest distance of two curves. {no_threshold}"),
        *((f"a p-value ({words})", lambda words=words: mannwhitneyu(anomalous, normal, alternative=words).pvalue,
           "this is a p-value: how likely so large a share is by chance. The share itself is asked for.")
          for words in ("less", "greater", "two-sided")),
        ("soft wins", lambda: (1 / (1 + np.exp(np.subtract.outer(-anomalous, -normal)))).mean(),
         "a large difference counts more than a small one in yours. Who is higher is all that counts."),
        ("a search in scores not sorted", lambda: np.mean([np.searchsorted(normal, anomalous, side)
                                                           for side in ("left", "right")]) / n,
         "you search by halves, which asks for sorted scores."),
        ("average precision", lambda: np.diff(found, prepend=0) @ precision,
         "this is the area under precision and recall. It depends on how many anomalies there are."),
        ("the area under precision and recall", lambda: np.trapezoid([1, *precision], [0, *found]),
         "this is the area under precision and recall. It depends on how many anomalies there are."),
        ("the difference of means", lambda: gap, f"you compare two means, in nats. {all_pairs}"),
        *((f"a Gaussian rule{words}", lambda ddof=ddof: norm.cdf(gap / spread(ddof)),
           "mean and standard deviation tell all only if the scores are Gaussian. Ask the scores themselves.")
          for ddof, words in enumerate(("", ", N - 1"))),
        *((f"means in units of the spread{words}", lambda ddof=ddof: gap / spread(ddof) * np.sqrt(2),
           f"you compare two means. {all_pairs}") for ddof, words in enumerate(("", ", N - 1"))),
        *((f"the {words} ranks of ties", lambda some=some: (some()[n:].sum() - least) / (n * m),
           "which rank has a score that occurs more than once? Equal scores share what they have together.")
          for words, some in (("lowest", lambda: lowest), ("highest", lambda: highest),
                              ("dense", lambda: np.unique(both, return_inverse=True)[1] + 1))),
        ("the rank sum with its least value", lambda: ranks.sum() / (n * m),
         "a sum of ranks is never zero. What is the least that it can be, and is it taken off?"),
        ("ranks from zero", lambda: (ranks.sum() - m - least) / (n * m), "do the ranks begin at zero or at one?"),
        ("the other group's least rank sum", lambda: (ranks.sum() - n * (n + 1) / 2) / (n * m),
         "the least value of a sum of ranks depends on how many are added."),
        ("a curve without its end at (1, 1)", lambda: under_curve(normal, anomalous, both, tie),
         "your curve does not go all the way from (0, 0) to (1, 1). Which thresholds belong to its ends?"),
        ("a curve without its end at (0, 0)", lambda: under_curve(normal, anomalous, both, tie, np.greater_equal),
         "your curve does not go all the way from (0, 0) to (1, 1). Which thresholds belong to its ends?"),
        *((f"thresholds at the {words} scores only",
           lambda some=some: under_curve(normal, anomalous, some, tie, ends=True),
           "your curve takes a short cut: which thresholds change one of the two rates?")
          for words, some in (("normal", normal), ("anomalous", anomalous))),
        *((f"rounded to {digits} digits", lambda digits=digits: np.round(share, digits),
           "you round. The number is asked for as it is.") for digits in (1, 2, 3)),
    )()  # fmt: skip


# --- The threshold ---------------------------------------------------------------------------------------------------


def training_scores(rng):
    scores = 200 + 10 * rng.standard_normal(rng.integers(8, 30))
    return training(scores, float(rng.uniform(0.05, 0.45)))


def training(scores, rate):
    return {"training_scores": np.array(scores, dtype=float), "false_alarm_rate": rate}


def level_3_threshold(training_scores, false_alarm_rate):
    return np.float64(anomaly_threshold(torch.from_numpy(training_scores), 1 - false_alarm_rate))


def threshold_model(choose, training_scores, false_alarm_rate):
    rate, n = false_alarm_rate, len(training_scores)
    share = choose(
        1 - rate,
        ("quantile at the rate", rate,
         "almost every training image would be called anomalous. Which share of them lies below the threshold?"),
        ("a share taken for percent", (1 - rate) / 100,
         "this is close to the smallest score: your function wants percent and was given a share."),
        ("the rate taken for percent", rate / 100,
         "this is close to the smallest score: your function wants percent and was given a share."),
        ("100 less the rate", 1 - rate / 100, "this is close to the largest score: the rate is a share, not percent."),
        ("two tails", 1 - rate / 2,
         "you leave half of the rate for the low scores. Does a low score raise an alarm here?"),
        ("the lower of two tails", rate / 2, "this is a limit for low scores. Which scores raise an alarm?"),
        ("twice the rate", max(1 - 2 * rate, 0), "you allow twice as many false alarms as asked for."),
        *((f"always {percent} %", percent / 100, "yours is the same at any rate. Which one was asked for?")
          for percent in (90, 95, 99)),
        *((f"{words} percent", turn(100 * (1 - rate)) / 100, "you turn the rate into whole percent.")
          for words, turn in (("rounded to", np.round), ("cut to", np.floor))),
    )  # fmt: skip
    scores = choose(
        np.sort(training_scores),
        ("scores not sorted", training_scores,
         "you take the score of one image at a place in the list. The order of the list is chance."),
    )  # fmt: skip
    ends = "you go linearly, but not over the whole way: which share do the smallest and the largest score stand for?"
    place = choose(
        share * (len(scores) - 1),
        ("a place counted from N", share * len(scores), ends),
        ("a place one too low", share * len(scores) - 1, ends),
        ("a place one lower", share * (len(scores) - 1) - 1, "you take the scores one place too low."),
        ("a place one higher", share * (len(scores) - 1) + 1, "you take the scores one place too high."),
        ("a place counted from N + 1", share * (len(scores) + 1) - 1, ends),
        ("a place half a step lower", share * len(scores) - 0.5, ends),
        ("a place a third of a step lower", share * (len(scores) + 1 / 3) - 2 / 3, ends),
        ("a place from the other end", (len(scores) - 1) - share * len(scores), ends),
    )  # fmt: skip
    place = np.clip(place, 0, len(scores) - 1)
    low, high = scores[int(np.floor(place))], scores[int(np.ceil(place))]
    jumps = "Between two scores go linearly, so that the threshold never jumps."
    value = choose(
        low + (place % 1) * (high - low),
        *((f"{words} times the share", scores[np.clip(int(share * len(scores)) + step, 0, len(scores) - 1)],
           f"you take a single score. {jumps}")
          for words, step in (("the score at N", 0), ("the score below N", -1), ("the score above N", 1))),
        ("the score below", low, f"that is the nearest score below. {jumps}"),
        ("the score above", high, f"that is the nearest score above. {jumps}"),
        ("the nearest score", scores[int(np.round(place))], f"that is the nearest score. {jumps}"),
        ("the middle of two scores", (low + high) / 2, f"that is the middle of two scores. {jumps}"),
        ("weights exchanged", high + (place % 1) * (low - high),
         "between two scores you go the wrong way: to which of them is the place nearer?"),
    )  # fmt: skip
    smallest, largest, mean = training_scores.min(), training_scores.max(), training_scores.mean()
    above, gaussian = training_scores[training_scores > value], norm.ppf(share)
    median = np.median(training_scores)
    quarters = np.quantile(training_scores, [0.25, 0.75])
    own = "Ask the scores themselves."
    return choose(
        value,
        ("the largest score", largest,
         "no training image lies above this, whatever rate was asked for. One odd image sets it."),
        ("the smallest score", smallest, "all training images but one lie above this, whatever rate was asked for."),
        ("the mean", mean, "this is the mean score, whatever rate was asked for."),
        ("the median", median, "this is the median score, whatever rate was asked for."),
        *((f"a Gaussian rule{words}", mean + gaussian * training_scores.std(ddof=d),
           f"mean and standard deviation give the rate only if the scores are Gaussian. {own}")
          for words, d in (("", 0), (", N - 1", 1))),
        *((f"the mean and {factor:g} standard deviations{words}", mean + factor * training_scores.std(ddof=d),
           f"this does not depend on the rate that was asked for. {own}")
          for factor in (1, 1.645, 1.96, 2, 3) for words, d in (("", 0), (", N - 1", 1))),
        ("the rate in standard deviations", mean + share * training_scores.std(), f"a share is no such number. {own}"),
        ("a robust Gaussian rule", median + gaussian * 1.4826 * np.median(np.abs(training_scores - median)),
         f"median and deviation give the rate only if the scores are Gaussian. {own}"),
        ("a rule for outliers", quarters[1] + 1.5 * np.diff(quarters)[0], f"this does not depend on the rate. {own}"),
        ("a share of the range", smallest + share * (largest - smallest),
         "you go down by a share of the range from smallest to largest. The rate is a share of the images."),
        ("a share of the largest score", share * largest, "a share of the largest score is not a share of the images."),
        ("a share of the mean", share * mean, "a share of the mean score is not a share of the images."),
        ("more than the mean by the rate", (1 + rate) * mean,
         "a share of the mean score is not a share of the images."),
        ("a share of the sum", share * training_scores.sum(), "a share of all nats is not a share of the images."),
        ("a rank in place of a score", place,
         "this is a place in the sorted scores. Which score, in nats, stands there?"),
        ("a count", rate * n, "this is a number of images. Which score do so many exceed?"),
        ("the mean of the scores above", above.mean() if len(above) else np.nan,
         "this is the mean of the scores that raise an alarm. Where do they begin?"),
        ("the scores above", above, "these are the scores that raise an alarm. Where do they begin?"),
        ("who is above", training_scores > value, "you tell who raises an alarm. The threshold is asked for."),
        ("half way to the largest", (value + largest) / 2, "you are between the right place and the largest score."),
        *((f"rounded to {digits} digits", np.round(value, digits), "you round. Nats are no whole numbers.")
          for digits in (1, 2)),
    )  # fmt: skip


# --- The rates -------------------------------------------------------------------------------------------------------


def groups_and_threshold(rng):
    """The threshold is one of the scores. Above it are some of each group, its first and its last among them."""
    case = two_groups(rng, rng.choice([6, 7, 9, 11, 12, 13], 2, replace=False))
    for part in case.values():
        part[[0, -1]] = part.max()
    scores = np.unique(np.concatenate(list(case.values())))
    below = scores[scores < min(map(np.max, case.values()))]
    return case | {"threshold": float(rng.choice(below[-6:]) if len(below) else scores[0] - 1)}


def rates(normal_scores, anomalous_scores, threshold):
    labels, scores = labels_and_scores(normal_scores, anomalous_scores)
    tn, fp, fn, tp = confusion_matrix(labels, scores > threshold, labels=[0, 1]).ravel().astype(np.float64)
    return tp / (tp + fn), fp / (tn + fp)


def rates_model(choose, normal_scores, anomalous_scores, threshold):
    def step(right, *slips):
        """What is chosen for the anomalies and for the normal images: one slip for both, or for one of them."""
        both = choose(right, *slips)
        return [
            choose(both, *((f"{name} ({group})", value, advice) for name, value, advice in slips))
            for group in ("anomalies", "normal images")
        ]

    low_ones = "you call the low scores anomalous. A score says how much an image surprises the model."
    alarms = step(
        np.greater,
        ("at the threshold counted", np.greater_equal,
         "an image exactly at the threshold is not above it. What does your comparison say of equal numbers?"),
        ("the wrong side", np.less, low_ones),
        ("at the threshold only", np.equal, "you count the images at the threshold. Which ones raise an alarm?"),
    )  # fmt: skip
    both, other = np.concatenate([normal_scores, anomalous_scores]), "the threshold is given. You take another one."
    level = choose(
        lambda: threshold,
        *((f"the {words} for a threshold", number, other) for words, number in (
            ("mean of the normal", normal_scores.mean), ("median of the normal", lambda: np.median(normal_scores)),
            ("largest normal score", normal_scores.max), ("mean of all scores", both.mean),
            ("95 % quantile of the normal", lambda: np.quantile(normal_scores, 0.95)))),
    )()  # fmt: skip
    counts = step(
        lambda part, alarm: alarm(part, level).sum(),
        ("the first not counted", lambda part, alarm: alarm(part[1:], level).sum(), "the first image does not count."),
        ("the last not counted", lambda part, alarm: alarm(part[:-1], level).sum(), "the last image does not count."),
        ("a search in scores not sorted",
         lambda part, alarm: len(part) - np.searchsorted(part, level, "right" if alarm is np.greater else "left"),
         "you search by halves, which asks for sorted scores."),
        ("the mean above the threshold", lambda part, alarm: len(part) * alarm(part.mean(), level),
         "you compare the mean of a group. How many of its images are above?"),
        ("mean score of the alarms", lambda part, alarm: len(part) * part[alarm(part, level)].mean(),
         "this is a mean of scores, in nats. How many of them are there?"),
        ("mean distance from the threshold", lambda part, alarm: len(part) * (part.mean() - level),
         "this is a mean of nats above the threshold. How many images are above it?"),
        ("no mean", lambda part, alarm: len(part) * alarm(part, level), "you tell who raises an alarm, not how many."),
        ("different scores only", lambda part, alarm: alarm(np.unique(part), level).mean() * len(part),
         "equal scores count once only. Each image counts."),
    )  # fmt: skip
    among = "this is a share of the alarms, which depends on how many images of each kind there are."
    alike = "this number is about all images together. Each rate looks at its own group only."
    shares = step(
        lambda high, size, other_high, others: high / size,
        ("counts", lambda high, size, other_high, others: high,
         "this is a number of images. A rate is a share of its own group."),
        ("a share of all images", lambda high, size, other_high, others: high / (size + others),
         "this is a share of all images together. It would change if you only added images of the other kind."),
        ("divided by the other group", lambda high, size, other_high, others: high / others,
         "you divide by the size of the other group."),
        ("one image too few", lambda high, size, other_high, others: high / (size - 1),
         "you divide by one less than the size of the group."),
        ("one image too many", lambda high, size, other_high, others: high / (size + 1),
         "you divide by one more than the size of the group."),
        ("a share of the alarms", lambda high, size, other_high, others: high / (high + other_high),
         f"{among} Of the group, how many give an alarm?"),
        ("those without an alarm", lambda high, size, other_high, others: (size - high) / size,
         "this is the share of images that pass in peace. What about the others?"),
        ("a share of those without an alarm",
         lambda high, size, other_high, others: (size - high) / (size - high + others - other_high),
         "this is a share of the images that pass in peace. Which ones raise an alarm?"),
        ("odds", lambda high, size, other_high, others: high / (size - high),
         "you divide by the other part of the group. A share is one of the whole."),
        ("the rate of the other group", lambda high, size, other_high, others: other_high / others,
         "which group comes first? The anomalies found do."),
        ("all alarms", lambda high, size, other_high, others: (high + other_high) / (size + others), alike),
        ("accuracy", lambda high, size, other_high, others: (high + others - other_high) / (size + others), alike),
        ("balanced accuracy",
         lambda high, size, other_high, others: (high / size + 1 - other_high / others) / 2, alike),
        ("F1", lambda high, size, other_high, others: 2 * high / (high + size + other_high), f"it mixes two: {among}"),
        ("any alarm at all", lambda high, size, other_high, others: float(high > 0),
         "you ask whether there is any alarm. How many are there?"),
        ("alarms for all", lambda high, size, other_high, others: float(high == size),
         "you ask whether all give an alarm. How many do?"),
        ("the difference of the rates", lambda high, size, other_high, others: high / size - other_high / others,
         "two rates are asked for, not their difference."),
        ("the ratio of the rates", lambda high, size, other_high, others: high / size / (other_high / others),
         "two rates are asked for, not their ratio."),
    )  # fmt: skip
    parts = anomalous_scores, normal_scores
    found, false = (count(part, alarm) for count, part, alarm in zip(counts, parts, alarms, strict=True))
    m, n = map(len, parts)
    rates = shares[0](found, m, false, n), shares[1](false, n, found, m)
    return choose(
        rates,
        *((f"rounded to {digits} digits", tuple(np.round(rate * 1.0, digits) for rate in rates), "you round.")
          for digits in (1, 2, 3)),
    )  # fmt: skip


FUNCTIONS = [
    Function(
        "auroc",
        area,
        two_groups,
        auroc_model,
        special=[
            Special(
                "groups that do not overlap",
                groups(range(3), [9, 10, 11, 12]),
                "Which share of the pairs is in order if every anomaly scores higher?",
            ),
            Special(
                "anomalies that all score lower",
                groups([9, 10, 11], range(4)),
                "Which share of the pairs is in order if every anomaly scores lower?",
            ),
            Special("scores that are all equal", groups([1] * 4, [1] * 3), "What does a pair of equal scores count?"),
            Special(
                "a highest and a lowest score that both groups have",
                groups([1, 1, 2, 4, 4], [1, 3, 4]),
                "Does your curve reach (0, 0) and (1, 1), if there is one?",
            ),
            Special(
                "a highest score that both groups have",
                groups([3, 1, 5, 5], [5, 2, 4]),
                "Does your curve begin at (0, 0), if there is one?",
            ),
            Special("one image in each group", groups([2], [3]), LENGTH_1),
            Special("two images with the same score", groups([2], [2]), LENGTH_1),
            Special("scores below zero", groups([-5, -3, -1.5, -2], [-4, -3, -0.5, 0]), NEGATIVE),
            Special(
                "one score far from the others",
                groups([200, 201, 202.5, 203], [200.5, 201, 202, 90000]),
                "Some scores are close together, others far apart: do you look at a grid of thresholds, or at bins?",
            ),
            Special(
                "scores that differ by little", groups([200, 200.0002, 200.0005], [200.0001, 200.0004, 200]), CLOSE
            ),
            Special("many images", groups(MANY, MANY[:130] + 3), MANY_ADVICE),
        ],
    ),
    Function(
        "threshold",
        level_3_threshold,
        training_scores,
        threshold_model,
        special=[
            Special(
                "a small rate",
                training([3, 1, 2, 5, 4, 9, 7], 0.005),
                "Any share may be asked for: is it cut off, or rounded?",
            ),
            Special(
                "a rate above one half",
                training([3, 1, 2, 5, 4, 9, 7], 0.83),
                "Any share may be asked for: is it cut off, or rounded?",
            ),
            Special("many images", training(MANY, 0.123), MANY_ADVICE),
            Special("two training images", training([5, 3], 0.2), "Is a group too small for yours?"),
            Special("equal scores", training([3, 1, 3, 3, 2, 1], 0.3), "Each image counts, with equal scores too."),
            Special("scores below zero", training([-3, -1, -7, -2.5, -4], 0.3), NEGATIVE),
            Special("scores on both sides of zero", training([-3, 1, -7, 2.5, -4, 0.5], 0.3), NEGATIVE),
            Special(
                "one score far from the others",
                training([200, 90000, 202, 203.5, 201], 0.3),
                "Some scores are close together, others far apart: do you look on a grid?",
            ),
        ],
    ),
    Function(
        "detection_rates",
        rates,
        groups_and_threshold,
        rates_model,
        outputs=("the share of anomalies", "the share of normal images"),
        special=[
            Special(
                "scores of 0 above a threshold below 0",
                groups([0, -3, 2, 0, -4], [0, 0, -5]) | {"threshold": -1.0},
                "a score of 0 is a score like any other.",
            ),
            Special(
                "a score exactly at the threshold",
                groups([1, 3, 2, 4, 3], [3, 4, 2]) | {"threshold": 3.0},
                "Is an image above the threshold if its score equals it?",
            ),
            Special(
                "a threshold that no score exceeds",
                groups([1, 2, 3], [3, 4]) | {"threshold": 9.0},
                "Which share of each group raises an alarm if no image does?",
            ),
            Special(
                "a threshold that all scores exceed",
                groups([1, 2, 3], [3, 4]) | {"threshold": 0.5},
                "Which share of each group raises an alarm if all images do?",
            ),
            Special(
                "a threshold of 0",
                groups([2, 0, 1, 0], [0, 2, 0]) | {"threshold": 0.0},
                "Zero is a threshold like any other: is it taken for none?",
            ),
            Special("scores below zero", groups([-5, -3, -1], [-4, -2]) | {"threshold": -3.5}, NEGATIVE),
            Special("scores on both sides of zero", groups([-5, 1, 3], [-6, 2, 4, 0]) | {"threshold": 2.5}, NEGATIVE),
            Special(
                "scores next to the threshold",
                groups([200, 200.0002, 199.9], [200.0001, 200.0004, 199.9999]) | {"threshold": 200.0},
                CLOSE,
            ),
            Special("one image in each group", groups([3], [4]) | {"threshold": 2.0}, LENGTH_1),
            Special("many images", groups(MANY, MANY[:130] + 3) | {"threshold": 207.0}, MANY_ADVICE),
        ],
    ),
]
