"""Total correlation. If code i of a batch has the weight w_ij under image j, and the other images are drawn at random,

    E[sum_j w_ij q(z_i|x_j)] = w_ii q(z_i|x_i) + (sum_{j != i} w_ij) * mean of q(z_i|x_n) over the N - 1 other images

which is q(z_i) = 1/N sum_n q(z_i|x_n) for every z_i exactly if w_ii = 1/N and the others add up to (N - 1)/N. So two
questions decide whether a weight matrix is right: what is on its diagonal, and do its rows sum to one?
"""

import math

import torch


def exact_total_correlation(z, all_mu, all_logvar):
    """KL(q(z) || prod_d q(z_d)), the mean over the codes z (B, Z): a scalar, nats.

    all_mu, all_logvar: (N, Z), the posteriors of all images; q(z) is their mean.
    """
    square = (z[:, None] - all_mu) ** 2 * torch.exp(-all_logvar)
    log_q = -0.5 * (square + all_logvar + math.log(2 * math.pi))  # (B, N, Z): code b under image n, latent d
    log_n = math.log(len(all_mu))
    log_q_z = torch.logsumexp(log_q.sum(dim=2), dim=1) - log_n  # (B,)
    log_q_zd = torch.logsumexp(log_q, dim=1) - log_n  # (B, Z)
    return (log_q_z - log_q_zd.sum(dim=1)).mean()


def permute_dims(z, keys):
    """Each latent of z (N, Z) permuted by itself; the order of a column of keys (N, Z) is its permutation: (N, Z).

    Where the smallest key of a column stands in row n, z's row n of that column comes first.
    """
    return z.gather(0, keys.argsort(dim=0))


def weights_are_right(weights, dataset_size):
    """Whether weights (B, B) estimate q(z) of dataset_size images without bias, up to rounding: True or False."""
    own = torch.full_like(weights.diagonal(), 1 / dataset_size)
    sums = weights.sum(dim=1)
    return torch.allclose(weights.diagonal(), own) and torch.allclose(sums, torch.ones_like(sums))


def stratified_weights(batch_size, dataset_size):
    """The weights of minibatch stratified sampling: (B, B), float64; row i is for the code of image i.

    With M = B - 1: 1/N for the own image, (N - M) / (N M) for the image after it (after the last comes the first), 1/M
    for the rest.
    """
    others = batch_size - 1
    weights = torch.full((batch_size, batch_size), 1 / others, dtype=torch.float64)
    row = torch.arange(batch_size)
    weights[row, row] = 1 / dataset_size
    weights[row, (row + 1) % batch_size] = (dataset_size - others) / (dataset_size * others)
    return weights
