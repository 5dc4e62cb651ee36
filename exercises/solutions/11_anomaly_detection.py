"""Anomaly detection. The area under the ROC curve is a probability, so that it can be counted over pairs.

Let F be the share of normal scores above a threshold t (false alarms) and D that of anomalous ones (found). While t
falls past one normal score, F grows by 1 / N, at the height D(t). The area under D(F) is therefore the mean of D over
the normal scores: the share of all pairs in which the anomaly has the higher score. Where the two are equal, D and F
grow together along a slope, which leaves half of the pair below the curve.
"""

import numpy as np


def auroc(normal_scores, anomalous_scores):
    """P(anomaly scores higher than normal image), ties count half: (N,), (M,) nats -> a number in [0, 1]."""
    difference = anomalous_scores[:, None] - normal_scores  # (M, N): every pair
    return np.mean(0.5 * (1 + np.sign(difference)))


def threshold(training_scores, false_alarm_rate):
    """The score above which a share false_alarm_rate of the training images lies: (N,) nats -> nats."""
    return np.quantile(training_scores, 1 - false_alarm_rate)


def detection_rates(normal_scores, anomalous_scores, threshold):
    """Share of anomalies above the threshold, share of normal images above it: (N,), (M,), a number -> two numbers."""
    return np.mean(anomalous_scores > threshold), np.mean(normal_scores > threshold)
