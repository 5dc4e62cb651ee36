"""Checks of exercise 11. The references are scikit-learn and paper/likelihood.py, not the solutions."""

import numpy as np
import torch
from scipy.stats import norm
from sklearn.metrics import confusion_matrix, roc_auc_score

from checking import Function, Misconception
from likelihood import anomaly_threshold


def two_groups(rng):
    """Scores in steps of half a nat, so that there are ties, also in float32."""
    n, m = rng.integers(6, 12), rng.integers(3, 6)
    return {"normal_scores": rng.integers(398, 410, n) / 2, "anomalous_scores": rng.integers(402, 414, m) / 2}


def groups_and_threshold(rng):
    case = two_groups(rng)
    scores = np.concatenate([case["normal_scores"], case["anomalous_scores"]])
    return case | {"threshold": float(np.sort(scores)[rng.integers(3, len(scores) - 3)])}  # one of the scores


def training_scores(rng):
    scores = 200 + 10 * rng.standard_normal(rng.integers(15, 30))
    return {"training_scores": scores, "false_alarm_rate": float(rng.uniform(0.1, 0.4))}


def labels_and_scores(normal, anomalous):
    return np.repeat([0, 1], [len(normal), len(anomalous)]), np.concatenate([normal, anomalous])


def area(normal_scores, anomalous_scores):
    return np.float64(roc_auc_score(*labels_and_scores(normal_scores, anomalous_scores)))


def pairs(normal_scores, anomalous_scores, tie=0.5):
    """How often the anomaly scores higher, over all pairs."""
    return sum((a > n) + tie * (a == n) for a in anomalous_scores for n in normal_scores)


def share(normal_scores, anomalous_scores, tie=0.5):
    return pairs(normal_scores, anomalous_scores, tie) / (len(normal_scores) * len(anomalous_scores))


def accuracy(normal_scores, anomalous_scores):
    middle = (normal_scores.mean() + anomalous_scores.mean()) / 2
    right = np.sum(anomalous_scores > middle) + np.sum(normal_scores <= middle)
    return right / (len(normal_scores) + len(anomalous_scores))


def level_3_threshold(training_scores, false_alarm_rate):
    return np.float64(anomaly_threshold(torch.from_numpy(training_scores), 1 - false_alarm_rate))


def counted(normal_scores, anomalous_scores, threshold):
    """True negatives, false positives, false negatives, true positives."""
    labels, scores = labels_and_scores(normal_scores, anomalous_scores)
    return confusion_matrix(labels, scores > threshold, labels=[0, 1]).ravel().astype(np.float64)


def rates(normal_scores, anomalous_scores, threshold):
    tn, fp, fn, tp = counted(normal_scores, anomalous_scores, threshold)
    return tp / (tp + fn), fp / (tn + fp)


def from_counts(combine):
    """A wrong answer that is made of the right counts."""
    return lambda normal_scores, anomalous_scores, threshold: combine(
        *counted(normal_scores, anomalous_scores, threshold)
    )


FUNCTIONS = [
    Function(
        "auroc",
        area,
        two_groups,
        [
            Misconception(
                "the wrong side",
                lambda normal_scores, anomalous_scores: share(anomalous_scores, normal_scores),
                "this is the share of pairs in which the normal image scores higher. Which of the two should?",
            ),
            Misconception(
                "ties as wins",
                lambda normal_scores, anomalous_scores: share(normal_scores, anomalous_scores, tie=1),
                "a pair with equal scores counts as a full success. A score that is always zero would then be perfect.",
            ),
            Misconception(
                "ties as losses",
                lambda normal_scores, anomalous_scores: share(normal_scores, anomalous_scores, tie=0),
                "a pair with equal scores counts nothing. What would you get by tossing a coin for it?",
            ),
            Misconception(
                "a count of pairs",
                lambda normal_scores, anomalous_scores: pairs(normal_scores, anomalous_scores),
                "this is the number of pairs that are in order. A probability is a share: of how many pairs?",
            ),
            Misconception(
                "divided by the anomalies only",
                lambda normal_scores, anomalous_scores: pairs(normal_scores, anomalous_scores) / len(anomalous_scores),
                "the result grows with the number of normal images. How many pairs are there in all?",
            ),
            Misconception(
                "percent",
                lambda normal_scores, anomalous_scores: 100 * share(normal_scores, anomalous_scores),
                "the result is in percent. A probability lies between 0 and 1.",
            ),
            Misconception(
                "accuracy instead",
                accuracy,
                "this is the accuracy at one threshold, between the two means. The AUROC knows of no threshold.",
            ),
            Misconception(
                "the comparison of means",
                lambda normal_scores, anomalous_scores: np.float64(anomalous_scores.mean() > normal_scores.mean()),
                "you compare the two means, one pair in all. Compare every anomaly with every normal image.",
            ),
            Misconception(
                "only pairs in the same place",
                lambda normal_scores, anomalous_scores: np.mean(
                    [(a > n) + 0.5 * (a == n) for a, n in zip(anomalous_scores, normal_scores, strict=False)]
                ),
                "you compare the first with the first, the second with the second. The order of the images is chance.",
            ),
        ],
        special=[
            ("groups that do not overlap", {"normal_scores": np.arange(3.0), "anomalous_scores": np.arange(4.0) + 9}),
            ("scores that are all equal", {"normal_scores": np.ones(4), "anomalous_scores": np.ones(3)}),
        ],
    ),
    Function(
        "threshold",
        level_3_threshold,
        training_scores,
        [
            Misconception(
                "quantile at the rate",
                lambda training_scores, false_alarm_rate: np.quantile(training_scores, false_alarm_rate),
                "almost every training image would be called anomalous. Which share of them lies below the threshold?",
            ),
            Misconception(
                "a share taken for percent",
                lambda training_scores, false_alarm_rate: np.percentile(training_scores, 1 - false_alarm_rate),
                "this is close to the smallest score: your function wants percent and was given a share.",
            ),
            Misconception(
                "the largest score",
                lambda training_scores, false_alarm_rate: training_scores.max(),
                "no training image lies above this, whatever rate was asked for. One odd image sets it.",
            ),
            Misconception(
                "a Gaussian rule",
                lambda training_scores, false_alarm_rate: (
                    training_scores.mean() + norm.ppf(1 - false_alarm_rate) * training_scores.std()
                ),
                "mean and standard deviation give the rate only if the scores are Gaussian. Ask the scores themselves.",
            ),
            Misconception(
                "two tails",
                lambda training_scores, false_alarm_rate: np.quantile(training_scores, 1 - false_alarm_rate / 2),
                "you leave half of the rate for the low scores. Does a low score raise an alarm here?",
            ),
            Misconception(
                "a share of the range",
                lambda training_scores, false_alarm_rate: (
                    training_scores.max() - false_alarm_rate * np.ptp(training_scores)
                ),
                "you go down by a share of the range from smallest to largest. The rate is a share of the images.",
            ),
            Misconception(
                "a rank in place of a score",
                lambda training_scores, false_alarm_rate: (1 - false_alarm_rate) * (len(training_scores) - 1),
                "this is a place in the sorted scores. Which score, in nats, stands there?",
            ),
            Misconception(
                "scores not sorted",
                lambda training_scores, false_alarm_rate: training_scores[
                    int((1 - false_alarm_rate) * len(training_scores))
                ],
                "you take the score of one image at a place in the list. The order of the list is chance.",
            ),
            Misconception(
                "no interpolation",
                lambda training_scores, false_alarm_rate: np.sort(training_scores)[
                    int(np.ceil((1 - false_alarm_rate) * (len(training_scores) - 1)))
                ],
                "that is the nearest score above. Between two scores go linearly, so that the threshold never jumps.",
            ),
        ],
    ),
    Function(
        "detection_rates",
        rates,
        groups_and_threshold,
        [
            Misconception(
                "rates swapped",
                from_counts(lambda tn, fp, fn, tp: (fp / (tn + fp), tp / (tp + fn))),
                "both numbers are there, in the wrong order: the anomalies found come first.",
            ),
            Misconception(
                "at the threshold counted",
                lambda normal_scores, anomalous_scores, threshold: (
                    np.mean(anomalous_scores >= threshold),
                    np.mean(normal_scores >= threshold),
                ),
                "an image exactly at the threshold is not above it. What does your comparison say of equal numbers?",
            ),
            Misconception(
                "the wrong side",
                lambda normal_scores, anomalous_scores, threshold: (
                    np.mean(anomalous_scores < threshold),
                    np.mean(normal_scores < threshold),
                ),
                "you call the low scores anomalous. A score says how much an image surprises the model.",
            ),
            Misconception(
                "counts",
                from_counts(lambda tn, fp, fn, tp: (tp, fp)),
                "these are numbers of images. A rate is a share of its own group.",
            ),
            Misconception(
                "percent",
                from_counts(lambda tn, fp, fn, tp: (100 * tp / (tp + fn), 100 * fp / (tn + fp))),
                "the rates are in percent. A share lies between 0 and 1.",
            ),
            Misconception(
                "shares of all images",
                from_counts(lambda tn, fp, fn, tp: (tp / (tn + fp + fn + tp), fp / (tn + fp + fn + tp))),
                "both are shares of all images together. They would change if you only added normal images.",
            ),
            Misconception(
                "precision",
                from_counts(lambda tn, fp, fn, tp: (tp / (tp + fp), fp / (tn + fp))),
                "the first is the share of alarms that are right. Asked for is the share of anomalies that give one.",
            ),
            Misconception(
                "wrong alarms among the alarms",
                from_counts(lambda tn, fp, fn, tp: (tp / (tp + fn), fp / (tp + fp))),
                "the second is the share of alarms that are false. How many of the normal images give an alarm?",
            ),
            Misconception(
                "normal images kept",
                from_counts(lambda tn, fp, fn, tp: (tp / (tp + fn), tn / (tn + fp))),
                "the second is the share of normal images that pass in peace. What happens to the others?",
            ),
        ],
        special=[
            (
                "a score exactly at the threshold",
                {
                    "normal_scores": np.array([1.0, 2.0, 3.0]),
                    "anomalous_scores": np.array([3.0, 4.0]),
                    "threshold": 3.0,
                },
            )
        ],
    ),
]
