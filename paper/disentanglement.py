"""How well the latents of a trained VAE come apart into the factors that the images were made from.

    python paper/disentanglement.py --run runs/beta_tcvae-001                     all scores of a run on the sprites

Five scores, each from codes (N, Z), of the whole set and computed once, and factors (N, F), integers:

    Higgins       which factor do pairs of images share? A linear classifier on |mu_1 - mu_2|      (Higgins 2017)
    FactorVAE     which factor is fixed? The latent that varies least says it                      (Kim & Mnih 2018)
    MIG           the information about a factor in its best latent, less that in the second       (Chen 2018)
    DCI           is a latent important for one factor only, and one latent only for a factor?     (Eastwood 2018)

Factors may depend on each other. `given` says so, {factor: factor}: the visible orientation of a sprite says something
about its shape (sprites.py), and a perfect latent for the one would count as the second-best for the other. So MIG asks
for the information about a factor *given* the other one, I(z; v | w) / H(v | w), which is 1 for a perfect code again.
The two scores that fix a factor do so only at values that leave all others free: an orientation that only hearts have
fixes the shape as well, and "which factor is fixed?" has two right answers. DCI needs nothing of the kind: a tree that
has the right latent asks no other.

A random subset of all images is as good as the whole: images that share one factor still have all others at random. The
smaller it is, the fewer different pairs there are, and the higher is the information that independent columns seem to
share, by about (values - 1) (bins - 1) / 2N nats, times the values of a factor that is given.

Papers: Higgins et al. 2017, "beta-VAE: Learning Basic Visual Concepts with a Constrained Variational Framework", ICLR;
Kim & Mnih 2018, "Disentangling by Factorising", arXiv:1802.05983; Chen et al. 2018, "Isolating Sources of
Disentanglement in VAEs", arXiv:1802.04942; Eastwood & Williams 2018, "A Framework for the Quantitative Evaluation of
Disentangled Representations", ICLR; Locatello et al. 2019, "Challenging Common Assumptions in the Unsupervised Learning
of Disentangled Representations", arXiv:1811.12359, whose protocol (sizes, bins) is followed where papers leave it open
"""

from level_script import run_as_script  # before all others: it sees to Ctrl-C

# isort: split

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from tqdm import tqdm

from experiment import header, pick_device
from level_script import one_line_errors
from likelihood import load_vae
from sprites import FACTORS, NUM_SPRITES, SHAPES, visible_factors_of
from trainable import Options, option, parse_options, require
from training_images import SPLITS, SPRITES, ImageOptions, RenderedSprites, listed, trained_images

AT_ONCE = 10_000_000  # numbers in the largest array of a step, which bounds the memory

# --- Codes, factors, and images that share a value -------------------------------------------------------------------


def checked(codes, factors):
    """codes (N, Z); factors (N, F) with the values of each counted from 0; which factors vary, (F',) columns.

    Raises ValueError unless codes are finite numbers, factors integers, and there are two latents and two such factors.
    """
    codes, factors = np.asarray(codes), np.asarray(factors)
    alike = codes.ndim == factors.ndim == 2 and len(codes) == len(factors) > 0
    require(alike, f"expected codes (N, Z) and factors (N, F), got {codes.shape} and {factors.shape}")
    require(codes.dtype.kind == "f" and np.isfinite(codes).all(), "the codes must be finite floats")
    require(factors.dtype.kind in "iu", f"the factors must be integers, got {factors.dtype}")
    counted = np.stack([np.unique(column, return_inverse=True)[1] for column in factors.T], axis=1)
    varying = np.flatnonzero(counted.max(axis=0) > 0)
    require(codes.shape[1] >= 2, "one latent has nothing to come apart from: expected at least 2")
    require(len(varying) >= 2, f"{len(varying)} of the factors vary: expected at least 2")
    return codes, counted, varying


def standardised(codes):
    """Each latent with mean 0 and standard deviation 1, so that its unit does not matter; a constant one is 0."""
    spread = codes.std(axis=0)
    return (codes - codes.mean(axis=0)) / np.where(spread > 0, spread, 1)


def leaving_others_free(factors, varying, k):
    """The images, (M,) positions, whose value of factor k occurs with at least two values of each other factor.

    Raises ValueError if there are none.
    """
    table = factors[np.argsort(factors[:, k], kind="stable")]
    starts = np.searchsorted(table[:, k], np.arange(table[-1, k] + 1))  # where each value's images begin
    free = np.minimum.reduceat(table, starts) < np.maximum.reduceat(table, starts)  # (values, F)
    found = np.flatnonzero(free[:, varying[varying != k]].all(axis=1)[factors[:, k]])
    require(len(found) > 0, f"factor {k} never has a value while all others vary: more images are needed")
    return found


def sharing(column, index, rng):
    """For each image in `index`, of any shape, a random one of the same value in `column` (N,); it may be itself."""
    order, counts = np.argsort(column, kind="stable"), np.bincount(column)
    value = column[index]
    return order[(np.cumsum(counts) - counts)[value] + rng.integers(counts[value])]


def parts(count, numbers):
    """Slices of `count` things, of which each needs so many numbers."""
    step = max(1, AT_ONCE // numbers)
    return [slice(start, start + step) for start in range(0, count, step)]


# --- Which factor is the fixed one? ----------------------------------------------------------------------------------


def higgins_score(codes, factors, rng, train=10_000, test=5_000, pairs=64):
    """The accuracy with which a linear classifier tells the factor that pairs share (Higgins 2017, section 3).

    A point is the mean of |mu_1 - mu_2| over 64 pairs of images, each pair with a value of the factor in common;
    logistic regression learns from 10,000 such points and is tested on 5,000. Codes are standardised first, because its
    regularisation has a unit. Chance is 1 / F. It does not ask that latents be aligned with factors: of a rotation it
    only sees one by which two latents become alike, such as 45 degrees.
    """
    codes, factors, varying = checked(codes, factors)
    codes = standardised(codes)
    labels = rng.choice(varying, train + test)
    points = np.empty((train + test, codes.shape[1]))
    for k in varying:
        rows = np.flatnonzero(labels == k)
        first = rng.choice(leaving_others_free(factors, varying, k), (len(rows), pairs))
        second = sharing(factors[:, k], first, rng)
        for part in parts(len(rows), pairs * codes.shape[1]):
            points[rows[part]] = np.abs(codes[first[part]] - codes[second[part]]).mean(axis=1)
    classifier = LogisticRegression(max_iter=1000).fit(points[:train], labels[:train])
    return classifier.score(points[train:], labels[train:])


def factor_vae_score(codes, factors, rng, train=10_000, test=5_000, batch=64, threshold=0.05):
    """The accuracy with which the latent of least variance tells the fixed factor (Kim & Mnih 2018, section 4).

    A vote is the argmin, over the latents, of the variance of 64 codes that share a factor's value, relative to the
    variance of all codes. Each latent then stands for the factor that most of its 10,000 votes came from; the score is
    from 5,000 others. threshold: a latent whose standard deviation over all codes is below is left out, in units of the
    prior; it is the one thing here that depends on a latent's unit. Chance is 1 / F, also where no latent is left.
    """
    codes, factors, varying = checked(codes, factors)
    codes = standardised(codes)[:, codes.std(axis=0) >= threshold]
    labels = rng.choice(varying, train + test)
    votes = np.zeros(train + test, dtype=int)
    for k in varying if codes.shape[1] else ():
        rows = np.flatnonzero(labels == k)
        fixed = rng.choice(leaving_others_free(factors, varying, k), len(rows))
        images = sharing(factors[:, k], np.tile(fixed[:, None], batch), rng)  # (votes, batch)
        for part in parts(len(rows), batch * codes.shape[1]):
            votes[rows[part]] = codes[images[part]].var(axis=1).argmin(axis=1)
    counts = np.zeros((max(1, codes.shape[1]), factors.shape[1]), dtype=int)
    np.add.at(counts, (votes[:train], labels[:train]), 1)
    return (counts.argmax(axis=1)[votes[train:]] == labels[train:]).mean()


# --- Mutual information gap ------------------------------------------------------------------------------------------


def joint(columns):
    """One column (N,) that has the same value where all of these, of integers from 0, have."""
    return np.ravel_multi_index(columns, [column.max() + 1 for column in columns])


def entropy(*columns):
    """The joint entropy of columns of integers from 0, in nats, each row counted as equally probable."""
    counts = np.bincount(joint(columns))
    p = counts[counts > 0] / counts.sum()
    return -(p * np.log(p)).sum()


def conditions(factors, given):
    """For each factor the column (N,) that it is asked given; zeros, which say nothing, where `given` names none."""
    nothing = np.zeros(len(factors), dtype=int)
    return [factors[:, given[k]] if k in (given or {}) else nothing for k in range(factors.shape[1])]


def gap(information, factors, varying, given):
    """mean_k (I_1k - I_2k) / H(v_k | v_given) with the two largest of each column of information (Z, F).

    Chen 2018, section 4.1. Raises ValueError for a factor that the one it is given decides.
    """
    second, first = np.sort(information, axis=0)[-2:]
    known = conditions(factors, given)
    entropies = np.array([entropy(factors[:, k], known[k]) - entropy(known[k]) for k in varying])
    require(entropies.min() > 1e-9, "a factor is decided by the one that it is given: nothing is left to know of it")
    return ((first - second)[varying] / entropies).mean()


def mig_of_means(codes, factors, given=None, bins=20):
    """The mutual information gap of posterior means, from histograms (as in Locatello 2019).

    Each latent is cut into 20 bins of equal width between its smallest and its largest value, and the information is
    that of the table of counts. Chance is 0. Of a factor with more values than bins even a perfect latent keeps only
    what its bin says, so that the best score is below 1: `reference_scores` gives it.
    """
    codes, factors, varying = checked(codes, factors)
    low, high = codes.min(axis=0), codes.max(axis=0)
    shares = (codes - low) / np.where(high > low, high - low, 1)
    binned = np.minimum((bins * shares).astype(int), bins - 1)  # the largest value belongs to the last bin
    information = np.zeros((codes.shape[1], factors.shape[1]))
    known = conditions(factors, given)
    for k in varying:
        v, w = factors[:, k], known[k]
        of_factor = entropy(v, w) - entropy(w)
        for j, z in enumerate(binned.T):  # I(z; v | w) = H(v | w) - H(v | z, w)
            information[j, k] = of_factor - (entropy(v, z, w) - entropy(z, w))
    return gap(information, factors, varying, given)


def mig_of_samples(mu, logvar, factors, rng, given=None, samples=1000):
    """The mutual information gap of samples of q(z|x), without bins (Chen 2018, section 4.1).

        I(z_j; v_k) = E_q(z_j, v_k) [log 1/|X_v| sum_{x in X_v} q(z_j|x)] + H(z_j),   X_v: the images with v_k = v

    and H(z_j) = -E log 1/N sum_n q(z_j|x_n). The mixtures are exact for the set of these N images, each with all of its
    components; only the mean is over `samples` images, drawn without replacement, one z each. mu, logvar: (N, Z).
    Given another factor w, both mixtures are those of the images that also have z's own w. Chance is 0, perfect 1.
    """
    mu, factors, varying = checked(mu, factors)
    logvar, known = np.asarray(logvar, mu.dtype), conditions(factors, given)
    require(mu.shape == logvar.shape, f"mu and logvar must be (N, Z) alike, got {mu.shape} and {logvar.shape}")
    require(np.isfinite(logvar).all(), "logvar must be finite")
    rows = rng.choice(len(mu), min(samples, len(mu)), replace=False)
    eps = rng.standard_normal((len(rows), mu.shape[1])).astype(mu.dtype)
    z = mu[rows] + np.exp(logvar[rows] / 2) * eps  # (S, Z)
    alike = [joint([factors[:, k], known[k]]) for k in varying] + [known[k] for k in varying]
    alike = np.stack(alike, axis=1)  # (N, 2F'): images are in a mixture where these agree with z's own
    means, precisions = np.ascontiguousarray(mu.T), np.exp(-logvar.T)  # (Z, N)
    information = np.zeros((mu.shape[1], factors.shape[1]))
    for part in parts(len(rows), mu.size):
        density = (z[part, :, None] - means) ** 2
        density *= -precisions / 2
        density = np.exp(density - logvar.T / 2)  # (s, Z, N), without the constant, which cancels
        members = (alike[rows[part], None] == alike).astype(mu.dtype)  # (s, N, 2F')
        log_q = np.log(density @ members) - np.log(members.sum(axis=1))[:, None]  # (s, Z, 2F')
        numerator, denominator = np.split(log_q.astype(np.float64), 2, axis=2)
        information[:, varying] += (numerator - denominator).sum(axis=0) / len(rows)
    return gap(information, factors, varying, given)


# --- Disentanglement, completeness, informativeness ------------------------------------------------------------------


def dci_scores(codes, factors, rng, train=10_000, test=5_000, trees=10):
    """Disentanglement, completeness and informativeness (Eastwood & Williams 2018, section 2), three numbers.

    For each factor a random forest learns its value from the code; R (Z, F) is how much each latent contributes, as the
    forest's Gini importances say. Disentanglement is 1 - the entropy of a latent's row of R, base F, weighted by the
    latent's share of R; completeness is 1 - the entropy of a factor's column, base Z, averaged; informativeness is
    here the mean accuracy on images that the forest has not seen (as in Locatello 2019; the paper has an error). 10,000
    random images train and 5,000 test, or two thirds and one third of fewer. Ten trees that may look at every latent at
    each branch (scikit-learn's max_features=None): where they must choose among a random few, even a perfect code's
    other latents become important. Chance is 0, 0 and about the rate at which two random images agree in a factor.
    """
    codes, factors, varying = checked(codes, factors)
    chosen = rng.permutation(len(codes))[: train + test]
    learned, unseen = np.split(chosen, [len(chosen) * train // (train + test)])
    importances, accuracies = [], []
    for k in varying:
        forest = RandomForestClassifier(trees, max_features=None, random_state=int(rng.integers(2**31)))
        forest.fit(codes[learned], factors[learned, k])
        importances.append(forest.feature_importances_)
        accuracies.append(forest.score(codes[unseen], factors[unseen, k]))
    importance = np.stack(importances, axis=1)  # (Z, F'), columns sum to 1, or to 0 where no latent varies
    of_latents = focus(importance)
    weights = importance.sum(axis=1) / max(importance.sum(), 1e-12)
    return (weights * of_latents).sum(), focus(importance.T).mean(), np.mean(accuracies)


def focus(importance):
    """For each row 1 - its entropy as a distribution, in units of the largest: 1 for one entry, 0 for all alike."""
    total = importance.sum(axis=1, keepdims=True)
    p = np.where(total > 0, importance / np.where(total > 0, total, 1), 1 / importance.shape[1])
    return 1 + (p * np.log(np.where(p > 0, p, 1))).sum(axis=1) / np.log(importance.shape[1])


# --- All of them -----------------------------------------------------------------------------------------------------


def disentanglement_scores(codes, factors, rng, logvar=None, given=None):
    """All scores by name. codes: (N, Z), posterior means or any other code; factors: (N, F) integers.

    rng: a numpy Generator, for images, noise and forests. logvar: (N, Z), for the score from samples, which is left out
    without it. given: {factor: the factor it depends on}, as columns. A factor that is constant is not asked for.
    """
    scores = {
        "Higgins": higgins_score(codes, factors, rng),
        "FactorVAE": factor_vae_score(codes, factors, rng),
        "MIG (means)": mig_of_means(codes, factors, given),
    }
    names = ("DCI disentanglement", "DCI completeness", "DCI informativeness")
    scores |= dict(zip(names, dci_scores(codes, factors, rng), strict=True))
    if logvar is not None:
        scores["MIG (samples)"] = mig_of_samples(codes, logvar, factors, rng, given)
    return {name: float(score) for name, score in scores.items()}


def reference_scores(factors, given=None):
    """{name: (the score of a code that says nothing, the score of a perfect one)} for the factors (N, F) of a set."""
    codes = np.asarray(factors, dtype=float)
    _, counted, varying = checked(codes, factors)
    agree = np.mean([((np.bincount(counted[:, k]) / len(counted)) ** 2).sum() for k in varying])
    return {
        "Higgins": (1 / len(varying), 1.0),
        "FactorVAE": (1 / len(varying), 1.0),
        "MIG (means)": (0.0, float(mig_of_means(counted.astype(float), factors, given))),
        "MIG (samples)": (0.0, 1.0),
        "DCI disentanglement": (0.0, 1.0),
        "DCI completeness": (0.0, 1.0),
        "DCI informativeness": (float(agree), 1.0),
    }


@torch.no_grad()
def encode_all(model, images):
    """mu, logvar of a ResidentImages, NumPy arrays (N, Z), a thousand images at a time, with a progress bar.

    Pixels that are binarised afresh are drawn with seed 0.
    """
    dtype, device = next(model.parameters()).dtype, images.labels.device
    generator, encoded = torch.Generator(device).manual_seed(0), []
    for index in tqdm(torch.arange(len(images), device=device).split(1000), desc="encoding", disable=None):
        x, labels = images.batch(index, generator)
        encoded.append(model.encode(x.to(dtype), labels if model.num_classes else None))
    return tuple(torch.cat(tensors).cpu().numpy() for tensors in zip(*encoded, strict=True))


# --- The script ------------------------------------------------------------------------------------------------------

GIVEN = {0: 2, 2: 0}  # of the sprites: shape and visible orientation depend on each other


@dataclass
class DisentanglementConfig(Options):
    """Score how well the latents of a run come apart into the sprites' factors, as five papers measure it.

    Orientation counts as far as it can be seen: a square looks the same after a quarter turn. Expect two minutes on two
    cores: half a one to encode 50,000 images of 64x64, then a quarter for each seed.
    """

    run: Path
    """The folder of a finished run."""
    data: str | None = None
    """sprites or sprites32; by default what the run was trained on."""
    images: int = option(50_000, least=1000, most=NUM_SPRITES)
    """So many of the 737,280 sprites, drawn at random with the seed."""
    seeds: int = option(5, least=1)
    """Repeat every score with so many seeds of its own, --seed and those after it."""
    seed: int = option(0, least=0, most=2**63 - 1)
    """Seed of the images and of the first repetition."""
    device: str = "auto"
    """cpu, cuda, mps, or auto for the best of them that is there."""


def main(argv=None):
    with one_line_errors("disentanglement.py"):
        config = parse_options(DisentanglementConfig, argv, "disentanglement.py")
        config.check(flags=True)
        device = pick_device(config.device)
        config.run = config.run.expanduser()
        model = load_vae(config.run).to(device)
        data = trained_images(config.run)[0].data if config.data is None else config.data
        require(data in SPRITES, f"the factors of {data} are unknown: expected --data {' or '.join(SPRITES)}")
        numbers = np.random.default_rng(config.seed).choice(NUM_SPRITES, config.images, replace=False)
        images = RenderedSprites(numbers, SPRITES[data], device, split=SPLITS["all"])
        require(
            images.image_shape == model.image_shape,
            f"--data {data} has images {images.image_shape}, the model takes {model.image_shape}",
        )
        classes = f"the classes {listed(model.class_names)}" if model.class_names else f"{model.num_classes} classes"
        require(
            model.num_classes in (0, len(SHAPES)) and model.class_names in ((), SHAPES),
            f"{config.run} is of a model with {classes}: expected none, or square, ellipse and heart",
        )
        factors = visible_factors_of(numbers)
        mu, logvar = encode_all(model, images)
        runs = [
            disentanglement_scores(mu, factors, np.random.default_rng(config.seed + i), logvar, GIVEN)
            for i in tqdm(range(config.seeds), desc="scoring", unit="seed", disable=None)
        ]
        print(header(ImageOptions(data), images, config.seed))
        print(f"factors: {', '.join(FACTORS)} (orientation as it can be seen); {len(mu[0])} latents")
        print(table(runs, reference_scores(factors, GIVEN)))


def table(runs, references):
    """Scores of several seeds, [{name: score}], as lines of text: mean ± standard deviation, chance, perfect."""
    lines = [f"  {'':<22}{f'{len(runs)} seeds':^15}{'chance':>8}{'perfect':>9}"]
    for name, (chance, perfect) in references.items():
        scores = [run[name] for run in runs]
        spread = f" ± {np.std(scores, ddof=1):.3f}" if len(runs) > 1 else ""  # one seed has none
        lines.append(f"  {name:<22}{f'{np.mean(scores):.3f}{spread}':<15}{chance:8.3f}{perfect:9.3f}")
    return "\n".join(lines)


if __name__ == "__main__":
    run_as_script(main)
