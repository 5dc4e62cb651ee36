"""Mutual information from counts, the gap between the two best latents, and a rotation that no image shows.

With z' = Q z and Q^T Q = I, a decoder that begins with W' = W Q^T computes W' z' = W Q^T Q z = W z, and an encoder that
ends with Q (M h + b) gives Q mu. A standard Gaussian looks the same from every side, so that z' is N(0, I) as z is.
"""

import numpy as np


def entropy(labels):
    """Of the values in labels (N,), a NumPy array, with their frequencies as probabilities: a number, nats.

    The labels are any integers from minus a million to a million. They are names: only how often each occurs counts.
    """
    counts = np.unique(labels, return_counts=True)[1]
    p = counts / len(labels)
    return -np.sum(p * np.log(p))


def mutual_information(a, b):
    """What one column says about the other: a, b (N,), labels as those of entropy -> a number, nats.

    The probabilities are frequencies. Some pairs of values may never occur: they add nothing.
    """
    pairs = np.unique(np.stack([a, b], axis=1), axis=0, return_inverse=True)[1]  # a name for each pair
    return entropy(a) + entropy(b) - entropy(pairs.reshape(-1))


def mig(information, entropies):
    """The mutual information gap: information (Z, F), entropies (F,), nats -> a number, the mean over the factors.

    Both are NumPy arrays, and stay as they are. Two latents may know equally much, which leaves a gap of 0. If there is
    one latent only, its second best knows 0. A factor that does not vary has the entropy 0, and is left out of the
    mean; at least one factor varies, and each that does has an entropy of 0.001 or more.
    """
    second, first = np.sort(np.pad(information, [(1, 0), (0, 0)]), axis=0)[-2:]  # padded: one latent has a second
    varying = entropies > 1e-9  # a constant column may have 1e-16
    return np.mean((first - second)[varying] / entropies[varying])


def rotate(decoder_weight, mu_weight, mu_bias, Q):
    """The weights of a VAE with the codes z' = Q z and the same images: the three in this order, as new tensors.

    decoder_weight (H, Z): the decoder's first layer, decoder_weight @ z + a bias, and this bias stays. mu_weight (Z, D)
    and mu_bias (Z,): the encoder's last, mu = mu_weight @ h + mu_bias. Q (Z, Z): any orthogonal matrix, a rotation or a
    reflection, so that Q.T @ Q is the identity. The arguments stay as they are.
    """
    return decoder_weight @ Q.T, Q @ mu_weight, Q @ mu_bias
