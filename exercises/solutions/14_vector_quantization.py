"""Vector quantisation. |v - e|^2 = |v|^2 - 2 v e + |e|^2, and |v|^2 is the same for every entry."""

import numpy as np


def nearest_code(vectors, codebook):
    """The entry nearest to each vector: (M, D), (K, D) NumPy arrays -> (M,) integers (int64)."""
    return np.argmin((codebook**2).sum(axis=1) - 2 * vectors @ codebook.T, axis=1)


def straight_through(z_e, z_q):
    """z_q in value, with the gradient of z_e: two tensors of one shape -> a tensor of that shape."""
    return z_e + (z_q - z_e).detach()


def ema_update(counts, sums, vectors, codes, decay):
    """One step of the running means: the new counts (K,), sums (K, D) and codebook (K, D)."""
    chosen = np.eye(len(counts), dtype=vectors.dtype)[codes]  # (M, K)
    counts = decay * counts + (1 - decay) * chosen.sum(axis=0)
    sums = decay * sums + (1 - decay) * chosen.T @ vectors
    return counts, sums, sums / counts[:, None]


def perplexity(counts):
    """exp(-sum p log p) with p = counts / sum: (K,) -> a number. Entries with count 0 add nothing."""
    share = counts[counts > 0] / counts.sum()
    return np.exp(-np.sum(share * np.log(share)))
