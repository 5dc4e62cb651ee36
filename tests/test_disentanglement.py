"""The scores of disentanglement.py: calibrated on codes of which the right score is known, held against scikit-learn,
SciPy and integrals, and its script.
"""

import functools
import inspect
import re
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import scipy.special
import scipy.stats
import torch
from sklearn.metrics import mutual_info_score

import disentanglement
from disentanglement import (
    GIVEN,
    dci_scores,
    disentanglement_scores,
    encode_all,
    factor_vae_score,
    higgins_score,
    leaving_others_free,
    mig_of_means,
    mig_of_samples,
    reference_scores,
    sharing,
)
from in_process import assert_refused, run_main
from sprites import NUM_SPRITES, SHAPES, factors_of, render, visible_factors_of
from training_images import RenderedSprites
from vae_paper import VAE, Autoencoder, ConditionalVAE

# --- Calibration: codes of which the right score is known ------------------------------------------------------------

rng = np.random.default_rng(0)
FACTORS = np.stack([rng.integers(0, size, 4000) for size in (6, 6, 10, 10)], axis=1)
UNIT = (FACTORS - FACTORS.mean(axis=0)) / FACTORS.std(axis=0)
NOISE = rng.standard_normal((4000, 6))
ORDER, SCALE = [4, 2, 0, 5, 3, 1], np.array([-3.0, 0.1, 1.0, 20.0, -0.4, 1.0])


def turned(degrees):
    """The perfect code with its first two latents rotated into each other, and its last two."""
    angle = np.radians(degrees)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return UNIT @ np.kron(np.eye(2), turn)


# Each with log sigma^2 of the samples.
CODES = {
    "perfect": (UNIT[:, [2, 0, 3, 1]] * SCALE[:4], np.log(SCALE[:4] ** 2) - 9),
    "noise": (NOISE, -2.0),
    "turned by 30": (turned(30), -9.0),
    "turned by 45": (turned(45), -9.0),
    "mixed": (UNIT @ (np.eye(4) + 0.3), -9.0),
    "half": (np.where([True, False, True, False], UNIT, NOISE[:, :4]), np.array([-9.0, -2.0, -9.0, -2.0])),
    "untidy": (NOISE + 2 * UNIT @ np.random.default_rng(1).standard_normal((4, 6)), -2.0),
}
METRICS = list(reference_scores(FACTORS))


def scores_of(codes, logvar, factors=FACTORS, given=None, seed=0):
    logvar = np.broadcast_to(logvar, codes.shape)
    return disentanglement_scores(codes, factors, np.random.default_rng(seed), logvar, given)


@functools.cache
def scores(kind):
    return scores_of(*CODES[kind])


@pytest.mark.parametrize("metric", METRICS)
def test_a_perfect_code_in_any_order_and_unit(metric):
    least = 0.95 if metric.startswith("MIG") else 0.99
    assert least <= scores("perfect")[metric] <= 1 + (0.02 if metric == "MIG (samples)" else 1e-9)  # which are drawn


@pytest.mark.parametrize("metric", METRICS)
def test_independent_noise_is_at_chance(metric):
    chance, perfect = reference_scores(FACTORS)[metric]
    assert scores("noise")[metric] == pytest.approx(chance, abs=0.05)
    assert perfect - chance > 0.7


def test_chance_and_perfect_are_those_of_their_formulas():
    references = reference_scores(FACTORS)
    assert references["Higgins"] == references["FactorVAE"] == (1 / 4, 1)
    assert references["DCI informativeness"] == (pytest.approx((1 / 6 + 1 / 10) / 2, abs=1e-3), 1)
    assert references["MIG (means)"] == (0, pytest.approx(1, abs=0.005))  # six and ten values fit into twenty bins


@pytest.mark.parametrize("metric", METRICS)
def test_order_unit_and_sign_of_latents_change_nothing(metric):
    """An untidy code has no ties, which might fall on either side."""
    assert changed()[metric] == pytest.approx(scores("untidy")[metric], abs=0.01)
    chance, perfect = reference_scores(FACTORS)[metric]
    if metric not in ("MIG (means)", "MIG (samples)", "DCI disentanglement", "DCI completeness"):
        assert chance + 0.1 < scores("untidy")[metric] < perfect - 0.02  # where a difference would show


@functools.cache
def changed():
    codes, logvar = CODES["untidy"]
    return scores_of((codes * SCALE)[:, ORDER], (logvar + np.log(SCALE**2))[ORDER])


SEES = {  # a rotation of the axes: by what angle
    "Higgins": {45},
    "FactorVAE": {45},
    "MIG (means)": {30, 45},
    "MIG (samples)": {30, 45},
    "DCI disentanglement": {30, 45},
    "DCI completeness": {30, 45},
    "DCI informativeness": set(),
}


@pytest.mark.parametrize("degrees", [30, 45])
@pytest.mark.parametrize("metric", METRICS)
def test_a_rotated_code_is_seen_by_those_that_ask_for_axes(metric, degrees):
    """By 30 degrees a fixed factor still moves one latent least; by 45 two latents are alike to all but the forest."""
    score = scores(f"turned by {degrees}")[metric]
    assert score < 0.6 if degrees in SEES[metric] else score > 0.98


@pytest.mark.parametrize("metric", METRICS)
def test_half_a_code_has_half_the_score(metric):
    """Two factors in a latent each and two in none."""
    want = {
        "Higgins": 0.75,  # the classifier has to guess between the two
        "MIG (means)": 0.5,
        "MIG (samples)": 0.5,
        "DCI informativeness": (2 + 1 / 6 + 1 / 10) / 4,
    }
    chance = reference_scores(FACTORS)[metric][0]
    if metric in want:
        assert scores("half")[metric] == pytest.approx(want[metric], abs=0.03)
    assert chance + 0.2 < scores("half")[metric] < 0.8


@pytest.mark.parametrize("metric", METRICS)
def test_a_linear_mix_lies_between_for_those_that_ask_for_axes(metric):
    """Each latent has 1.3 of its own factor and 0.3 of each other one."""
    score = scores("mixed")[metric]
    assert 0.05 < score < 0.6 if 30 in SEES[metric] else score > 0.95


def test_half_a_code_by_hand_for_factor_vae():
    """A latent without a factor has the least variance only where its factor or its neighbour's is fixed.

    Then all four vary alike, so each gets a quarter of these votes: the two good latents keep their own factor, and the
    two empty ones can stand for the same or for different factors, which leaves 1/2 + 1/8 to 1/2 + 1/4 of the votes.
    """
    assert 0.6 < scores("half")["FactorVAE"] < 0.77


def test_another_seed_gives_other_numbers():
    other = scores_of(*CODES["untidy"], seed=1)
    assert {name for name in METRICS if other[name] == scores("untidy")[name]} == {"MIG (means)"}  # draws nothing


@pytest.mark.parametrize("score", [higgins_score, factor_vae_score, mig_of_samples])
def test_chunks_change_nothing(monkeypatch, score):
    codes, logvar = CODES["untidy"]
    arguments = [codes] + [np.full(codes.shape, logvar)] * (score is mig_of_samples) + [FACTORS]
    sizes = {"samples": 20} if score is mig_of_samples else {"train": 300, "test": 100}
    want = score(*arguments, np.random.default_rng(3), **sizes)
    monkeypatch.setattr(disentanglement, "AT_ONCE", 7 * max(codes.size, 64 * 6))
    assert score(*arguments, np.random.default_rng(3), **sizes) == pytest.approx(want, abs=1e-12)


@pytest.mark.parametrize("score", [higgins_score, factor_vae_score])
def test_what_was_learned_by_heart_does_not_count(score):
    """A dozen points of noise are told apart with ease, others are not."""
    found = [score(NOISE, FACTORS, np.random.default_rng(seed), train=12, test=200) for seed in range(20)]
    assert np.mean(found) == pytest.approx(1 / 4, abs=0.04)


def test_a_point_of_higgins_is_the_mean_distance_of_pairs_that_share_a_factor(monkeypatch):
    """Zero in the latent of the factor they share, and in the others what all pairs of images have on average."""
    asked = []

    class Classifier:
        def __init__(self, **_):
            pass

        def fit(self, points, labels):
            asked.append((points, labels))
            return self

        def score(self, points, labels):
            asked.append((points, labels))
            return 0.625

    monkeypatch.setattr(disentanglement, "LogisticRegression", Classifier)
    codes = 3 - 5 * UNIT
    assert higgins_score(codes, FACTORS, np.random.default_rng(0), train=900, test=300) == 0.625
    assert [len(points) for points, _ in asked] == [900, 300]
    points, labels = (np.concatenate(arrays) for arrays in zip(*asked, strict=True))
    distances = np.abs(UNIT[:300, None] - UNIT)
    for k in range(4):
        assert (labels == k).sum() == pytest.approx(300, abs=60)
        mean = points[labels == k].mean(axis=0)
        np.testing.assert_allclose(mean, np.where(np.arange(4) == k, 0, distances.mean(axis=(0, 1))), atol=0.05)
        spread = points[labels == k].std(axis=0)[np.arange(4) != k].mean()
        assert spread == pytest.approx(distances.std(axis=(0, 1)).mean() / 8, rel=0.15)  # of a mean of 64


def test_a_collapsed_latent_gets_no_vote():
    """Here it would get many, as its mean follows a factor, by very little."""
    half = CODES["half"][0]
    codes = np.concatenate([half, 0.049 * UNIT[:, 1:2]], axis=1)
    ask = partial(factor_vae_score, factors=FACTORS, train=1000, test=1000)
    kept = ask(codes, rng=np.random.default_rng(0), threshold=0.0)
    left_out, alone = (ask(each, rng=np.random.default_rng(0)) for each in (codes, half))
    assert left_out == alone < kept - 0.05


def test_a_code_that_says_nothing_at_all_is_at_chance():
    found = scores_of(np.full((4000, 3), 0.7), -2.0)
    for metric, (chance, _) in reference_scores(FACTORS).items():
        assert found[metric] == pytest.approx(chance, abs=0.08), metric


# --- Which images are compared ---------------------------------------------------------------------------------------


def test_partners_share_the_value_and_are_drawn_alike():
    column = np.array([2, 0, 1, 2, 0, 2, 2])
    index = np.tile(np.arange(7), (3, 4000, 1))
    found = sharing(column, index, np.random.default_rng(0))
    assert found.shape == index.shape
    assert np.array_equal(column[found], column[index])
    for i in range(7):
        group = np.flatnonzero(column == column[i])
        counts = np.bincount(found[..., i].ravel(), minlength=7)[group]
        np.testing.assert_allclose(counts / 12_000, 1 / len(group), atol=0.02)


def test_a_factor_is_fixed_only_where_the_others_are_free():
    factors = np.array([[0, 0], [0, 1], [1, 0], [1, 2], [2, 2], [2, 2], [0, 1]])
    varying = np.array([0, 1])
    assert leaving_others_free(factors, varying, 0).tolist() == [0, 1, 2, 3, 6]
    assert leaving_others_free(factors, varying, 1).tolist() == [0, 2, 3, 4, 5]
    random = np.random.default_rng(0).integers(0, [2, 3, 9], (30, 3))
    for k in range(3):
        free = [
            n
            for n, row in enumerate(random)
            if all(len(set(random[random[:, k] == row[k], other])) > 1 for other in {0, 1, 2} - {k})
        ]
        assert leaving_others_free(random, np.arange(3), k).tolist() == free
        assert 0 < len(free) < 30 or k < 2


def test_a_constant_factor_is_not_asked_for():
    padded = np.insert(FACTORS, 1, 7, axis=1)
    codes, logvar = CODES["perfect"]
    assert scores_of(codes, logvar, padded) == scores("perfect")
    assert reference_scores(padded) == reference_scores(FACTORS)


def test_the_same_seed_gives_the_same_numbers_whatever_the_values_are_called():
    codes, logvar = CODES["perfect"]
    assert scores_of(codes, logvar, 5 * FACTORS - 17) == scores("perfect")


# --- The numbers themselves ------------------------------------------------------------------------------------------


def information(score, monkeypatch, *args, **options):
    """The matrix (Z, F) of mutual information that a score is made of."""
    monkeypatch.setattr(disentanglement, "gap", lambda matrix, *_: matrix)
    return score(*args, **options)


def conditional_mutual_info(z, v, w):
    """The mean over the values of w of scikit-learn's mutual information among the images with that value, nats."""
    return sum((w == value).mean() * mutual_info_score(z[w == value], v[w == value]) for value in np.unique(w))


@pytest.mark.parametrize("given", [None, {0: 2, 2: 0}], ids=["alone", "given another"])
def test_the_information_of_histograms_is_that_of_scikit_learn(monkeypatch, given):
    codes = CODES["untidy"][0]
    got = information(mig_of_means, monkeypatch, codes, FACTORS, given, bins=7)
    for j, latent in enumerate(codes.T):
        edges = np.linspace(latent.min(), latent.max(), 8)
        binned = np.digitize(latent, edges[1:-1])
        for k in range(4):
            known = FACTORS[:, given[k]] if given and k in given else np.zeros(4000)
            assert got[j, k] == pytest.approx(conditional_mutual_info(binned, FACTORS[:, k], known), abs=1e-10)


def test_the_gap_is_that_of_the_two_best_latents_by_the_factors_entropy():
    matrix = np.array([[0.1, 0.5], [0.9, 0.2], [0.3, 0.45]])
    factors = np.array([[0, 0], [0, 1], [0, 0], [1, 2]])
    h = [scipy.stats.entropy([3, 1]), scipy.stats.entropy([2, 1, 1])]
    want = (0.6 / h[0] + 0.05 / h[1]) / 2
    assert disentanglement.gap(matrix, factors, np.arange(2), None) == pytest.approx(want, abs=1e-12)
    within = 3 / 4 * scipy.stats.entropy([2, 1])  # H(v_1 | v_0)
    want = (0.6 / h[0] + 0.05 / within) / 2
    assert disentanglement.gap(matrix, factors, np.arange(2), {1: 0}) == pytest.approx(want, abs=1e-12)


def small_posteriors():
    mu = np.array([[-1.0, 0.3], [-0.8, -1.0], [0.5, 0.9], [1.5, 0.0], [0.4, -0.6], [2.0, 1.2]])
    logvar = np.log(np.array([[0.3, 1.0], [0.5, 0.4], [0.2, 0.7], [0.9, 0.3], [0.6, 0.5], [0.4, 0.8]]) ** 2)
    return mu, logvar, np.array([[0, 0], [0, 1], [1, 0], [1, 1], [1, 1], [0, 0]])


@pytest.mark.parametrize("given", [None, {0: 1}], ids=["alone", "given another"])
def test_the_information_of_samples_is_that_of_integrals(monkeypatch, given):
    """Six images, each a thousand times: the mixtures are those of the six, the mean is over many samples."""
    mu, logvar, factors = small_posteriors()
    copies = [np.tile(array, (1000, 1)) for array in (mu, logvar, factors)]
    rng = np.random.default_rng(0)
    got = information(mig_of_samples, monkeypatch, *copies, rng, given, samples=6000)
    grid = np.linspace(-8, 9, 4001)
    for j in range(2):
        densities = scipy.stats.norm.pdf(grid, mu[:, j, None], np.exp(logvar[:, j, None] / 2))  # (6, grid)
        for k in range(2):
            known = factors[:, given[k]] if given and k in given else np.zeros(6)
            want = 0
            for v, w in {*zip(factors[:, k], known, strict=True)}:
                here = known == w
                q_v, q = densities[here & (factors[:, k] == v)].mean(axis=0), densities[here].mean(axis=0)
                share = (here & (factors[:, k] == v)).mean()
                want += share * np.trapezoid(scipy.special.rel_entr(q_v, q), grid)
            assert got[j, k] == pytest.approx(want, abs=0.025), (j, k)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_the_information_of_samples_is_that_written_out(monkeypatch, dtype):
    """Sample by sample and image by image, with the same draws."""
    mu, logvar, factors = (np.tile(array, (3, 1)) for array in small_posteriors())
    mu, logvar = (mu + np.arange(18)[:, None] / 10).astype(dtype), logvar.astype(dtype)
    got = information(mig_of_samples, monkeypatch, mu, logvar, factors, np.random.default_rng(5), {1: 0}, samples=7)
    rng = np.random.default_rng(5)
    rows = rng.choice(18, 7, replace=False)
    z = mu[rows] + np.exp(logvar[rows] / 2) * rng.standard_normal((7, 2)).astype(dtype)
    want = np.zeros((2, 2))
    for row, code in zip(rows, z, strict=True):
        for j in range(2):
            q = scipy.stats.norm.pdf(code[j], mu[:, j], np.exp(logvar[:, j] / 2)).astype(float)
            same = factors == factors[row]
            want[j, 0] += np.log(q[same[:, 0]].mean() / q.mean()) / 7
            want[j, 1] += np.log(q[same.all(axis=1)].mean() / q[same[:, 0]].mean()) / 7
    np.testing.assert_allclose(got, want, atol=1e-12 if dtype == np.float64 else 1e-5)


def test_dci_is_the_papers_formula_of_the_importances(monkeypatch):
    """Of a forest that says so, with SciPy's entropies. The last latent is of no importance to any factor."""
    importances = np.array([[0.7, 0.1, 0.0], [0.2, 0.1, 0.0], [0.1, 0.8, 1.0], [0.0, 0.0, 0.0]])
    learned = []

    class Forest:
        def __init__(self, *_, **__):
            pass

        def fit(self, codes, values):
            self.feature_importances_ = importances[:, len(learned)]
            learned.append((codes, values))

        def score(self, codes, values):
            assert not set(codes[:, 0]) & set(learned[-1][0][:, 0])  # nothing that it has seen
            assert (len(learned[-1][0]), len(codes)) == (400, 200)
            return [0.5, 0.6, 1.0][len(learned) - 1]

    monkeypatch.setattr(disentanglement, "RandomForestClassifier", Forest)
    got = dci_scores(NOISE[:600, :4], FACTORS[:600, :3], np.random.default_rng(0))
    rows = [1 - scipy.stats.entropy(row, base=3) for row in importances[:3]]
    columns = [1 - scipy.stats.entropy(column, base=4) for column in importances.T]
    weights = importances.sum(axis=1)[:3] / 3
    assert got == (pytest.approx(weights @ rows), pytest.approx(np.mean(columns)), pytest.approx(0.7))
    for k, (codes, values) in enumerate(learned):  # each factor's own values, by the images' own codes
        places = [NOISE[:600, 0].tolist().index(code) for code in codes[:, 0]]
        assert np.array_equal(values, FACTORS[places, k])


# --- The sprites' factors --------------------------------------------------------------------------------------------


def some_sprites(count):
    return np.random.default_rng(0).choice(NUM_SPRITES, count, replace=False)


@functools.cache
def perfect_sprites():
    """Factors, a perfect code, log sigma^2 and the scores."""
    factors = visible_factors_of(some_sprites(20_000))
    codes = (factors[:, [3, 0, 4, 2, 1]] * np.array([0.1, 1, -2, 0.5, 3])).astype(np.float32)
    logvar = np.full_like(codes, -16)
    return factors, codes, logvar, scores_of(codes, logvar, factors, GIVEN)


@pytest.mark.parametrize("metric", METRICS)
def test_a_perfect_code_of_the_sprites_scores_as_promised(metric):
    """Though its latent for the orientation knows something of the shape. Twenty bins cannot tell 40 values apart."""
    factors, _, _, found = perfect_sprites()
    promised = reference_scores(factors, GIVEN)[metric][1]
    assert found[metric] == pytest.approx(promised, abs=0.03 if metric == "MIG (samples)" else 0.005)
    assert promised == (1 if metric != "MIG (means)" else pytest.approx(0.89, abs=0.01))


def test_without_the_condition_a_perfect_code_would_lose_a_tenth():
    factors, codes, logvar, found = perfect_sprites()
    assert mig_of_means(codes, factors) < found["MIG (means)"] - 0.05
    rng = np.random.default_rng(0)
    assert mig_of_samples(codes, logvar, factors, rng, samples=500) < found["MIG (samples)"] - 0.05


def test_the_orientation_as_it_is_drawn_is_not_to_be_known():
    """The best code of the pictures there is, asked for the angle that drew them."""
    numbers = some_sprites(20_000)
    codes = visible_factors_of(numbers).astype(float)
    _, _, told = dci_scores(codes, factors_of(numbers), np.random.default_rng(0), train=4000, test=2000)
    assert told < 0.93


# --- The script ------------------------------------------------------------------------------------------------------


def hand_made_run(folder, model, **training):
    model.save(folder, training={"data": "sprites32", "binarisation": "none", "seed": 0} | training)
    return folder


def tiny(cls=VAE, side=32, **options):
    torch.manual_seed(0)
    return cls(latent_dim=3, architecture="mlp", hidden_dims=(4,), image_shape=(1, side, side), **options)


@pytest.fixture
def quick(monkeypatch):
    """Scores that show what they were asked for, and take no time."""
    calls = []

    def score(codes, factors, rng, logvar, given):
        calls.append(SimpleNamespace(codes=codes, factors=factors, first=rng.random(), logvar=logvar, given=given))
        return {name: calls[-1].first + place for place, name in enumerate(METRICS)}

    monkeypatch.setattr(disentanglement, "disentanglement_scores", score)
    return calls


@pytest.mark.parametrize(("cls", "side"), [(VAE, 32), (VAE, 64), (ConditionalVAE, 32)])
def test_all_images_are_encoded_in_their_order(cls, side):
    model = tiny(cls, side, **({"num_classes": 3} if cls is ConditionalVAE else {})).double()
    numbers = some_sprites(1203)
    mu, logvar = encode_all(model, RenderedSprites(numbers, side, "cpu"))
    assert mu.shape == logvar.shape == (1203, 3)
    x = torch.from_numpy(render(numbers, side) / 255.0)
    c = torch.from_numpy(factors_of(numbers)[:, 0]) if cls is ConditionalVAE else None
    with torch.no_grad():
        want = model.encode(x, c)
    np.testing.assert_allclose(mu, want[0].numpy(), atol=1e-12)
    np.testing.assert_allclose(logvar, want[1].numpy(), atol=1e-12)


def test_the_script_scores_a_run(tmp_path):
    model = tiny()
    hand_made_run(tmp_path / "run", model)
    args = ["--run", "run", "--images", 1500, "--seeds", 2, "--seed", 4, "--device", "cpu"]
    done = run_main(disentanglement.main, *args, cwd=tmp_path)
    assert (done.code, done.stderr) == (0, "")
    first, second, names, *lines = done.stdout.splitlines()
    assert first == "sprites32, training and test set: 1500 images, black and white, noise seed 4"
    assert second == "factors: shape, scale, orientation, x, y (orientation as it can be seen); 3 latents"
    assert names.split() == ["2", "seeds", "chance", "perfect"]
    numbers = np.random.default_rng(4).choice(NUM_SPRITES, 1500, replace=False)
    factors = visible_factors_of(numbers)
    mu, logvar = encode_all(model, RenderedSprites(numbers, 32, "cpu"))
    runs = [disentanglement_scores(mu, factors, np.random.default_rng(4 + i), logvar, {0: 2, 2: 0}) for i in (0, 1)]
    for line, (name, ends) in zip(lines, reference_scores(factors, GIVEN).items(), strict=True):
        own = [each[name] for each in runs]
        assert line.strip().startswith(name)
        shown = [float(number) for number in re.findall(r"\d\.\d{3}", line)]
        assert shown == pytest.approx([np.mean(own), abs(own[0] - own[1]) / 2**0.5, *ends], abs=6e-4)


def test_codes_are_computed_once_and_seeds_differ(tmp_path, quick):
    hand_made_run(tmp_path / "run", tiny())
    args = ["--run", "run", "--images", 1000, "--seeds", 3, "--device", "cpu"]
    done = run_main(disentanglement.main, *args, cwd=tmp_path)
    assert done.code == 0, done.stderr
    assert len(quick) == 3
    assert len({id(call.codes) for call in quick}) == 1
    draws = [call.first for call in quick]
    assert draws == [np.random.default_rng(seed).random() for seed in range(3)]
    assert f"{np.mean(draws):.3f} ± {np.std(draws, ddof=1):.3f}" in done.stdout


def test_one_seed_has_no_spread_and_other_data_may_be_named(tmp_path, quick):
    hand_made_run(tmp_path / "run", tiny(side=64), data="digits")
    args = ["--run", "run", "--data", "sprites", "--images", 1000, "--seeds", 1, "--device", "cpu"]
    done = run_main(disentanglement.main, *args, cwd=tmp_path)
    assert done.code == 0, done.stderr
    assert done.stdout.startswith("sprites, training and test set: 1000 images, black and white, noise seed 0\n")
    assert "±" not in done.stdout
    assert "nan" not in done.stdout


def test_a_conditional_model_is_told_the_shape(tmp_path, quick):
    model = tiny(ConditionalVAE, num_classes=3, class_names=SHAPES)
    hand_made_run(tmp_path / "run", model)
    args = ["--run", "run", "--images", 1000, "--seeds", 1, "--device", "cpu"]
    assert run_main(disentanglement.main, *args, cwd=tmp_path).code == 0
    numbers = np.random.default_rng(0).choice(NUM_SPRITES, 1000, replace=False)
    c = torch.from_numpy(factors_of(numbers)[:, 0])
    with torch.no_grad():
        want = model.encode(torch.from_numpy(render(numbers, 32)).float() / 255, c)[0]
    np.testing.assert_allclose(quick[0].codes, want.numpy(), atol=1e-5)


# --- What is refused -------------------------------------------------------------------------------------------------


@pytest.fixture
def refused(tmp_path):
    return partial(assert_refused, disentanglement.main, "disentanglement.py", cwd=tmp_path)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["--images", 999], "--images must be an integer of at least 1000 up to 737280, got 999"),
        (["--images", 737281], "--images must be"),
        (["--seeds", 0], "--seeds must be an integer of at least 1, got 0"),
        (["--seed", -1], "--seed must be"),
        (["--device", "abacus"], "abacus"),
        (["--data", "digits"], "the factors of digits are unknown: expected --data sprites or sprites32"),
        (["--data", "/my/images"], "the factors of /my/images are unknown"),
        (["--data", "sprites"], "--data sprites has images (1, 64, 64), the model takes (1, 32, 32)"),
    ],
    ids=["few images", "many images", "seeds", "seed", "device", "digits", "path", "size"],
)
def test_a_bad_option_is_one_line(refused, tmp_path, options, named):
    hand_made_run(tmp_path / "run", tiny())
    assert named in refused("--run", "run", *options)


def test_a_run_that_cannot_be_scored_is_one_line(refused, tmp_path):
    assert "nowhere" in refused("--run", "nowhere")
    hand_made_run(tmp_path / "digits", tiny(), data="digits")
    assert "the factors of digits are unknown" in refused("--run", "digits")
    hand_made_run(tmp_path / "plain", tiny(Autoencoder))
    assert "plain holds an autoencoder, which has no distribution over codes" in refused("--run", "plain")
    hand_made_run(tmp_path / "ten", tiny(ConditionalVAE, num_classes=10))
    assert "ten is of a model with 10 classes: expected none, or square, ellipse and heart" in refused("--run", "ten")
    names = ("square", "heart", "ellipse")
    hand_made_run(tmp_path / "other", tiny(ConditionalVAE, num_classes=3, class_names=names))
    assert "other is of a model with the classes 'square', 'heart', 'ellipse': expected" in refused("--run", "other")


def test_a_model_that_overflows_is_one_line(refused, tmp_path):
    model = tiny()
    with torch.no_grad():
        for parameter in model.encoder.parameters():
            parameter.fill_(1e30)
    hand_made_run(tmp_path / "run", model)
    assert "finite" in refused("--run", "run", "--images", 1000, "--device", "cpu")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"codes": NOISE[:99]}, r"expected codes \(N, Z\) and factors \(N, F\), got \(99, 6\) and \(100, 4\)"),
        ({"codes": NOISE[:100, 0]}, "expected codes"),
        ({"codes": np.empty((0, 2)), "factors": np.empty((0, 2), int)}, "expected codes"),
        ({"codes": np.full((100, 2), np.nan)}, "the codes must be finite floats"),
        ({"codes": FACTORS[:100]}, "the codes must be finite floats"),
        ({"codes": NOISE[:100, :1]}, "one latent has nothing to come apart from"),
        ({"factors": UNIT[:100]}, "the factors must be integers, got float64"),
        ({"factors": np.ones((100, 3), int)}, "0 of the factors vary: expected at least 2"),
        ({"factors": FACTORS[:100, :1]}, "1 of the factors vary"),
        ({"factors": FACTORS[:100, [0, 0]]}, "factor 0 never has a value while all others vary"),
        ({"logvar": NOISE[:100, :2]}, r"mu and logvar must be \(N, Z\) alike"),
        ({"logvar": np.full((100, 6), np.inf)}, "logvar must be finite"),
        ({"factors": np.tile(np.arange(4) // [[2], [1]], 25).T, "given": {0: 1}}, "a factor is decided by the one"),
    ],
)
def test_arrays_that_cannot_be_scored_are_refused(change, message):
    arguments = {"codes": NOISE[:100], "factors": FACTORS[:100], "logvar": NOISE[:100], "given": None}
    arguments |= {"mu": arguments["codes"], "rng": np.random.default_rng(0)} | change
    score = mig_of_means if "given" in change else mig_of_samples if "logvar" in change else higgins_score
    taken = inspect.signature(score).parameters
    with pytest.raises(ValueError, match=message):
        score(**{name: value for name, value in arguments.items() if name in taken})
