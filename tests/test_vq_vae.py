"""The VQ-VAE: its codebook, its losses and its prior against loops in NumPy, sums over every code, and
torch.distributions; then training, resuming, saving and the script as a whole.
"""

import itertools
import json
import re
from dataclasses import fields

import numpy as np
import pytest
import scipy.stats
import sklearn.datasets
import torch
from PIL import Image
from torch.distributions import Bernoulli

import pictures
import vq_vae
from comparison import assert_one_line
from experiment import TrainingConfig, report_of_terms
from image_data import load_images
from in_process import few_digits, run_main
from resume import read_state
from small_models import PowerCutError, assert_same_weights, cut_after, without_clock
from trainer import train
from training_images import ResidentImages
from vq_vae import VQVAE, Codebook, CodePrior, MaskedConv2d, VqConfig, nearest, perplexity, straight_through

KINDS = ("ema", "gradient")


def random(*shape, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape))


def uniform(*shape, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).random(shape))


def new_model(codebook="ema", **options):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return VQVAE(**{"num_codes": 6, "code_dim": 3, "codebook": codebook} | options)


def nearest_in_loops(vectors, entries):
    """The index of the first entry at the smallest distance."""
    return np.array([np.argmin([np.sum((v - e) ** 2) for e in entries]) for v in vectors])


def rows(z):
    """(N, D, h, w) -> (N h w, D) in NumPy, the images one after the other, each row by row."""
    return np.array([z[n, :, i, j].tolist() for n, i, j in np.ndindex(z.shape[0], *z.shape[2:])])


# --- Choosing an entry -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("offset", [0.0, 5.0, 1e4], ids=["centred", "offset 5", "offset 10,000"])
@pytest.mark.parametrize(("count", "num_codes", "dim"), [(200, 17, 4), (50, 1, 3), (60, 64, 1)])
def test_nearest_is_the_smallest_distance(count, num_codes, dim, offset):
    vectors, entries = offset + random(count, dim, seed=1), offset + random(num_codes, dim, seed=2)
    codes = nearest(vectors, entries)
    assert codes.shape == (count,)
    assert codes.dtype == torch.int64
    np.testing.assert_array_equal(codes, nearest_in_loops(vectors.numpy(), entries.numpy()))
    if num_codes > 1:
        assert len(codes.unique()) > 5


def test_of_equally_near_entries_the_first_is_chosen():
    entries = torch.tensor([[4.0, 0.0], [0.0, 0.0], [2.0, 0.0], [0.0, 0.0], [2.0, 0.0]])
    vectors = torch.tensor([[0.0, 1.0], [2.0, 1.0], [1.0, 0.0], [3.0, -1.0], [9.0, 9.0]])
    assert nearest(vectors, entries).tolist() == [1, 2, 1, 0, 0]


def test_straight_through_is_z_q_forward_and_z_e_backward():
    z_e, z_q = (random(2, 3, 4, 5, seed=seed).requires_grad_() for seed in (1, 2))
    incoming = random(2, 3, 4, 5, seed=3)
    out = straight_through(z_e, z_q)
    torch.testing.assert_close(out, z_q, rtol=0, atol=1e-15)
    to_e, to_q = torch.autograd.grad(out, (z_e, z_q), incoming, allow_unused=True)
    assert torch.equal(to_e, incoming)
    assert to_q is None or not to_q.any()


@pytest.mark.parametrize(
    ("counts", "expected"),
    [([0, 0, 7], 1.0), ([5, 5, 5, 5], 4.0), ([1], 1.0), ([3, 0, 3, 0], 2.0)],
    ids=["one code", "all alike", "a codebook of one", "half of them"],
)
def test_perplexity_counts_the_codes_in_use(counts, expected):
    assert perplexity(torch.tensor(counts).double()).item() == pytest.approx(expected, rel=1e-14)


@pytest.mark.parametrize("seed", range(3))
def test_perplexity_is_exp_of_the_entropy(seed):
    counts = np.random.default_rng(seed).poisson(2.0, 50).astype(float)
    assert (counts == 0).any()
    value = perplexity(torch.from_numpy(counts))
    assert value.shape == ()
    assert value.item() == pytest.approx(np.exp(scipy.stats.entropy(counts)), rel=1e-13)


# --- The terms -------------------------------------------------------------------------------------------------------


def filled_model(codebook, training=False, commitment=0.7):
    """In float64, its entries near the encoder's vectors and all of them alive, with a batch x, eps."""
    model = new_model(codebook, commitment=commitment, decay=0.9).double().train(training)
    x, eps = uniform(4, 1, 28, 28, seed=1), random(4, 49, seed=2)
    with torch.no_grad():
        # Blank, half-blank and noisy images lie further apart than noisy ones do.
        x[0], x[1, :, :, :14] = 0, 1
        vectors = rows(model.encoder(x))
        chosen = torch.from_numpy(vectors[:: len(vectors) // 6][:6])
        model.codebook.entries.copy_(chosen + 0.1 * vectors.std() * random(6, 3, seed=3))
        model.codebook.counts.fill_(30.0)
        if codebook == "ema":
            model.codebook.sums.copy_(30 * model.codebook.entries)
    return model, x, eps


def parts_written_out(model, x):
    """z_e, codes and z_q, computed without the codebook's own code."""
    with torch.no_grad():
        z_e, entries = model.encoder(x), model.codebook.entries.clone()
    codes = torch.from_numpy(nearest_in_loops(rows(z_e), entries.numpy())).view(len(x), 7, 7)
    assert len(codes.unique()) >= 4
    return z_e, codes, entries[codes].permute(0, 3, 1, 2)


def prior_in_loops(prior, codes):
    """-log p(codes), (N,): minus the log softmax at every code, one by one."""
    log_p = torch.log_softmax(prior(codes), dim=1)
    return torch.stack(
        [-sum(log_p[n, codes[n, i, j], i, j] for i, j in np.ndindex(*codes.shape[1:])) for n in range(len(codes))]
    )


def bernoulli_nll(logits, x):
    return -Bernoulli(logits=logits, validate_args=False).log_prob(x).sum(dim=(1, 2, 3))


@pytest.mark.parametrize("training", [False, True], ids=["evaluation", "training"])
@pytest.mark.parametrize("codebook", KINDS)
def test_every_term_is_its_formula(codebook, training):
    model, x, eps = filled_model(codebook, training)
    z_e, codes, z_q = parts_written_out(model, x)
    with torch.no_grad():
        nll, prior_nll = bernoulli_nll(model.decoder(z_q), x), prior_in_loops(model.prior, codes)
        terms = model.terms(x, eps)
    distance = torch.stack([((z_e[n] - z_q[n]) ** 2).sum() for n in range(4)])
    assert distance.min() > 1e-4
    expected = {
        "loss": nll + 0.7 * distance + prior_nll + (distance if codebook == "gradient" else 0),
        "reconstruction_nll": nll,
        "prior_nll": prior_nll,
        "distance": distance,
        "perplexity": torch.full((4,), np.exp(scipy.stats.entropy(np.bincount(codes.flatten()))), dtype=torch.float64),
    }
    assert list(terms) == list(expected)
    for name, values in expected.items():
        assert terms[name].dtype == torch.float64, name
        torch.testing.assert_close(terms[name], values, rtol=1e-11, atol=1e-11, msg=name)


@pytest.mark.parametrize("codebook", KINDS)
def test_every_network_gets_the_gradient_of_its_own_terms(codebook):
    model, x, eps = filled_model(codebook, training=True)
    z_e, codes, z_q = parts_written_out(model, x)
    z_q.requires_grad_()
    nll = bernoulli_nll(model.decoder(z_q), x).sum()
    to_z_q, *decoder = torch.autograd.grad(nll, [z_q, *model.decoder.parameters()])
    z_q = z_q.detach()
    expected = {
        "decoder": decoder,
        # The decoder's gradient straight through, and the commitment.
        "encoder": torch.autograd.grad(
            model.encoder(x), list(model.encoder.parameters()), to_z_q + 2 * 0.7 * (z_e - z_q)
        ),
        "prior": torch.autograd.grad(prior_in_loops(model.prior, codes).sum(), list(model.prior.parameters())),
    }
    assert to_z_q.abs().max() > 1e-2
    if codebook == "gradient":
        to_entries = torch.zeros(6, 3).double()
        for code, difference in zip(codes.flatten(), rows(z_q - z_e), strict=True):
            to_entries[code] += 2 * torch.from_numpy(difference)
        expected["codebook"] = [to_entries]
    model.terms(x, eps)["loss"].sum().backward()
    assert sum(map(len, expected.values())) == len(list(model.parameters()))
    for name, gradients in expected.items():
        for parameter, gradient in zip(getattr(model, name).parameters(), gradients, strict=True):
            error = (parameter.grad - gradient).norm() / gradient.norm()
            assert error < 1e-11, name


@pytest.mark.parametrize(
    ("term", "reached"),
    [("reconstruction_nll", {"encoder", "decoder"}), ("distance", {"encoder"}), ("prior_nll", {"prior"})],
)
@pytest.mark.parametrize("codebook", KINDS)
def test_a_term_reaches_only_the_networks_it_is_meant_for(codebook, term, reached):
    model, x, eps = filled_model(codebook, training=True)
    model.terms(x, eps)[term].sum().backward()
    touched = {name.split(".")[0] for name, p in model.named_parameters() if p.grad is not None and p.grad.any()}
    assert touched == reached


def test_only_a_codebook_learned_by_gradients_is_a_parameter():
    names = {kind: {name for name, _ in new_model(kind).codebook.named_parameters()} for kind in KINDS}
    assert names == {"ema": set(), "gradient": {"entries"}}
    buffers = {kind: {name for name, _ in new_model(kind).codebook.named_buffers()} for kind in KINDS}
    assert buffers == {"ema": {"entries", "sums", "counts"}, "gradient": {"counts"}}


@pytest.mark.parametrize("codebook", KINDS)
def test_encode_and_decode_are_what_terms_does(codebook):
    model, x, _ = filled_model(codebook)
    _, codes, z_q = parts_written_out(model, x)
    assert torch.equal(model.encode(x), codes)
    torch.testing.assert_close(model.decode(codes), model.decoder(z_q), rtol=1e-12, atol=1e-12)


# --- The codebook learns ---------------------------------------------------------------------------------------------


def new_codebook(kind, num_codes=5, dim=3, decay=0.9):
    return Codebook(num_codes, dim, kind, decay).double()


def alive_codebook(kind, entries, fair, decay=0.9):
    book = new_codebook(kind, *entries.shape, decay)
    with torch.no_grad():
        book.entries.copy_(entries)
        book.counts.fill_(fair)
        if kind == "ema":
            book.sums.copy_(fair * entries)
    return book


@pytest.mark.parametrize("kind", KINDS)
def test_the_codebook_follows_its_running_means(kind):
    """Six batches of 12 vectors, from the empty codebook on; 0.9^6 > 0.1, so no entry dies on the way."""
    book, decay, fair = new_codebook(kind), 0.9, 12 / 5
    for step in range(6):
        z_e, keys = random(2, 3, 2, 3, seed=step), random(2, 6, seed=100 + step)
        vectors = rows(z_e)
        if step == 0:
            entries = vectors[np.argsort(keys.flatten().numpy())[:5]]
            counts, sums = np.full(5, fair), fair * entries
        z_q, codes = book(z_e, keys)

        expected = nearest_in_loops(vectors, entries)
        np.testing.assert_array_equal(codes.flatten(), expected)
        assert codes.shape == (2, 2, 3)
        np.testing.assert_allclose(rows(z_q), entries[expected], rtol=1e-12)  # as they were before this batch
        seen, seen_sums = np.zeros(5), np.zeros((5, 3))
        for vector, code in zip(vectors, expected, strict=True):
            seen[code] += 1
            seen_sums[code] += vector
        counts, sums = decay * counts + (1 - decay) * seen, decay * sums + (1 - decay) * seen_sums
        np.testing.assert_allclose(book.counts, counts, rtol=1e-12)
        if kind == "ema":
            smoothed = (counts + 1e-5) / (counts.sum() + 5 * 1e-5) * counts.sum()
            entries = sums / smoothed[:, None]
            np.testing.assert_allclose(book.sums, sums, rtol=1e-12)
        np.testing.assert_allclose(book.entries.detach(), entries, rtol=1e-11)
    assert len(np.unique(expected)) > 2


def test_after_many_equal_batches_an_entry_is_the_mean_of_its_vectors():
    book, z_e = new_codebook("ema", decay=0.5), random(4, 3, 3, 3)
    for step in range(60):
        _, codes = book(z_e, random(4, 9, seed=step))
    assert len(codes.unique()) == 5
    for code in range(5):
        mean = rows(z_e)[codes.flatten().numpy() == code].mean(axis=0)
        np.testing.assert_allclose(book.entries[code], mean, rtol=1e-5)


@pytest.mark.parametrize("training", [False, True], ids=["evaluation", "training"])
@pytest.mark.parametrize("kind", KINDS)
def test_networks_in_bfloat16_do_not_coarsen_the_codebook(kind, training):
    z_e, keys = random(4, 8, 5, 5).float(), random(4, 25, seed=1).float()
    books = [alive_codebook(kind, random(32, 8, seed=2), fair=3.0).float().train(training) for _ in range(2)]
    exact = books[0](z_e, keys)
    with torch.autocast("cpu", torch.bfloat16):
        z_q, codes = books[1](z_e, keys)
    assert z_q.dtype == torch.float32
    assert torch.equal(codes, exact[1])
    assert torch.equal(z_q, exact[0])
    assert_same_weights(*books)


@pytest.mark.parametrize("codebook", KINDS)
def test_evaluation_leaves_the_model_as_it_is(codebook):
    model, x, eps = filled_model(codebook)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    model.terms(x, eps)
    model.encode(x)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    model.train()
    model.encode(x)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    model.terms(x, eps)
    changed = {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])}
    expected = {"ema": {"entries", "sums", "counts"}, "gradient": {"counts"}}
    assert changed == {f"codebook.{name}" for name in expected[codebook]}


# --- Entries that nobody chooses -------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_at_the_start_all_entries_lie_on_vectors_of_the_batch(kind):
    book, z_e, keys = new_codebook(kind), random(2, 3, 2, 3), random(2, 6, seed=1)
    z_q, codes = book(z_e, keys)
    chosen = np.argsort(keys.flatten().numpy())[:5]
    # At a distance of zero each of these vectors chooses the entry that was put on it.
    np.testing.assert_array_equal(codes.flatten()[chosen], np.arange(5))
    np.testing.assert_array_equal(rows(z_q)[chosen], rows(z_e)[chosen])
    if kind == "gradient":
        np.testing.assert_array_equal(book.entries.detach(), rows(z_e)[chosen])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("decay", "batches"), [(0.8, 11), (0.5, 4), (0.9, 22)])  # the first n with decay^n < 0.1
def test_an_entry_that_is_never_chosen_comes_back_when_its_share_has_decayed(kind, decay, batches):
    entries = torch.tensor([[0.0, 0.0], [4.0, 0.0], [500.0, 500.0], [0.0, 4.0]]).double()
    book = alive_codebook(kind, entries, fair=6.0, decay=decay)
    for step in range(batches + 1):
        centres = entries[[0, 1, 3]].repeat(8, 1)  # 24 vectors, so that a fair share is 6
        vectors, keys = centres + 0.1 * random(24, 2, seed=step), random(4, 6, seed=100 + step)
        z_e = vectors.view(4, 2, 3, 2).permute(0, 3, 1, 2)
        z_q, codes = book(z_e, keys)
        if step < batches:
            np.testing.assert_allclose(book.entries[2].detach(), 500.0, rtol=1e-3)
            assert book.counts[2].item() == pytest.approx(6 * decay ** (step + 1))
    third = np.argsort(keys.flatten().numpy())[2]
    assert codes.flatten()[third] == 2
    np.testing.assert_array_equal(rows(z_q)[third], vectors[third])
    assert book.entries[2].norm() < 5
    assert book.counts[2] > 0.5 * 6 * decay


@pytest.mark.parametrize("kind", KINDS)
def test_revival_leaves_live_entries_alone(kind):
    """A fair share is 2, so that an entry lives from a count of 0.2 on."""
    book = alive_codebook(kind, random(5, 3, seed=1), fair=2.0)
    with torch.no_grad():
        book.counts.copy_(torch.tensor([0.2001, 0.1999, 7.0, 0.0, 2.0]))
    before = {name: tensor.clone() for name, tensor in book.state_dict().items()}
    vectors, keys = random(10, 3, seed=2), random(10, seed=3)
    book.revive(vectors, keys)
    after, drawn, live = book.state_dict(), vectors[np.argsort(keys.numpy())[:5]], [0, 2, 4]
    for name, tensor in after.items():
        assert torch.equal(tensor[live], before[name][live]), name
    assert torch.equal(after["entries"][[1, 3]], drawn[[1, 3]])
    assert after["counts"][[1, 3]].tolist() == [2.0, 2.0]
    if kind == "ema":
        assert torch.equal(after["sums"][[1, 3]], 2 * drawn[[1, 3]])


def test_the_order_of_the_keys_alone_chooses_the_vectors():
    vectors, keys = random(20, 3, seed=1), random(20, seed=2)

    def revived(keys, seed=0):
        torch.manual_seed(seed)
        state, book = torch.get_rng_state(), new_codebook("ema")
        book.revive(vectors, keys)
        assert torch.equal(torch.get_rng_state(), state)
        return book.entries

    assert torch.equal(revived(keys, seed=1), revived(keys, seed=2))
    assert torch.equal(revived(keys), revived(keys.exp()))
    assert not torch.equal(revived(keys), revived(-keys))
    assert len(revived(keys).unique(dim=0)) == 5  # no vector twice


@pytest.mark.parametrize("kind", KINDS)
def test_fewer_vectors_than_entries_are_shared(kind):
    book, z_e, keys = new_codebook(kind, num_codes=7), random(1, 3, 1, 3), random(1, 3, seed=1)
    _, codes = book(z_e, keys)
    assert sorted(codes.flatten().tolist()) == [0, 1, 2]  # of equal entries the first
    order = np.argsort(keys.flatten().numpy())
    np.testing.assert_allclose(book.entries.detach(), rows(z_e)[np.resize(order, 7)], rtol=1e-4)
    for step in range(30):
        book(z_e, random(1, 3, seed=step))
    assert torch.isfinite(book.entries).all()


# --- The prior over the codes ----------------------------------------------------------------------------------------


def small_prior(num_codes, gain=2.0, channels=8):
    """In float64, its weights enlarged so that it is far from uniform."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        prior = CodePrior(num_codes, channels, blocks=2).double()
    with torch.no_grad():
        for parameter in prior.parameters():
            parameter.mul_(gain)
    return prior


def all_codes(num_codes, height, width):
    """Every picture there is: (K^(h w), h, w)."""
    places = itertools.product(range(num_codes), repeat=height * width)
    return torch.tensor(list(places)).view(-1, height, width)


@pytest.mark.parametrize(
    ("itself", "expected"),
    [(False, [[1, 1, 1], [1, 0, 0], [0, 0, 0]]), (True, [[1, 1, 1], [1, 1, 0], [0, 0, 0]])],
    ids=["A", "B"],
)
def test_mask_b_is_mask_a_and_the_place_itself(itself, expected):
    assert MaskedConv2d(1, 1, 3, itself).mask.tolist() == expected
    layer = MaskedConv2d(2, 3, 7, itself).double()
    x = random(1, 2, 7, 7).requires_grad_()
    layer(x)[0, :, 3, 3].sum().backward()
    seen = x.grad[0].abs().sum(dim=0).flatten() > 0
    assert seen.tolist() == [place < 24 + itself for place in range(49)]
    assert layer(x).shape == (1, 3, 7, 7)


def test_a_code_changes_only_what_comes_after_it():
    prior = small_prior(5)
    codes = torch.from_numpy(np.random.default_rng(0).integers(0, 5, (4, 4)))
    with torch.no_grad():
        before = prior(codes[None])[0].flatten(1)
        assert before.shape == (5, 16)
        for place in range(16):
            changed = codes.clone()
            changed.view(-1)[place] += 1 - 5 * (codes.view(-1)[place] == 4)
            difference = (prior(changed[None])[0].flatten(1) - before).abs().amax(dim=0)
            assert difference[: place + 1].max() < 1e-12, place
            if place < 15:
                assert difference[place + 1] > 1e-6, place


@pytest.mark.parametrize(("num_codes", "height", "width"), [(2, 2, 2), (3, 2, 2), (3, 1, 3)])
def test_the_probabilities_of_all_codes_sum_to_one(num_codes, height, width):
    prior, codes = small_prior(num_codes), all_codes(num_codes, height, width)
    with torch.no_grad():
        nll = prior.nll(codes)
    assert nll.shape == (num_codes ** (height * width),)
    assert nll.std() > 0.1
    assert torch.exp(-nll).sum().item() == pytest.approx(1.0, abs=1e-12)


def test_the_priors_nll_is_minus_the_log_softmax_at_the_codes():
    prior = small_prior(6)
    codes = torch.from_numpy(np.random.default_rng(0).integers(0, 6, (3, 4, 5)))
    with torch.no_grad():
        nll, expected = prior.nll(codes), prior_in_loops(prior, codes)
    assert nll.dtype == torch.float64
    torch.testing.assert_close(nll, expected, rtol=1e-12, atol=1e-12)


def test_samples_have_the_priors_probabilities():
    prior, codes, count = small_prior(2, gain=1.4), all_codes(2, 2, 2), 20_000
    drawn = prior.sample(uniform(count, 2, 2))
    assert drawn.dtype == torch.int64
    seen = np.bincount((drawn.flatten(1) * torch.tensor([8, 4, 2, 1])).sum(dim=1), minlength=16)
    with torch.no_grad():
        expected = torch.softmax(-prior_in_loops(prior, codes), dim=0).numpy()
    assert count * expected.min() > 5
    assert scipy.stats.chisquare(seen, count * expected).pvalue > 1e-3
    assert scipy.stats.chisquare(seen, np.full(16, count / 16)).pvalue < 1e-3  # a uniform prior would be noticed


def test_a_sample_inverts_one_cdf_after_the_other():
    prior, u = small_prior(4), uniform(6, 2, 3, seed=1)
    codes = np.zeros((6, 2, 3), dtype=np.int64)
    for n, i, j in np.ndindex(codes.shape):
        with torch.no_grad():
            probabilities = torch.softmax(prior(torch.from_numpy(codes[n : n + 1]))[0, :, i, j], dim=0).numpy()
        codes[n, i, j] = np.searchsorted(np.cumsum(probabilities), u[n, i, j].item())
    assert len(np.unique(codes)) == 4
    np.testing.assert_array_equal(prior.sample(u), codes)


def test_a_uniform_number_just_below_one_is_the_last_code_at_most(monkeypatch):
    largest = 1 - 2**-24  # of the float32 below 1
    logits = random(1000, 500).float()
    monkeypatch.setattr(CodePrior, "forward", lambda self, codes: logits[:, :, None, None])
    u = torch.full((1000, 1, 1), largest)
    assert u.max() < 1
    gap = logits.softmax(dim=1).cumsum(dim=1)[:, -1] < largest
    assert gap.any()  # rounding does end some CDFs below
    codes = small_prior(500).sample(u)
    assert codes.min() >= 400
    assert codes.max() == 499


# --- Arguments -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("codebook", KINDS)
@pytest.mark.parametrize("image_shape", [(1, 32, 32), (3, 28, 28), (1, 8, 12)], ids=str)
def test_images_of_another_size(codebook, image_shape):
    model, grid = new_model(codebook, image_shape=image_shape), (image_shape[1] // 4, image_shape[2] // 4)
    x, places = uniform(3, *image_shape).float(), grid[0] * grid[1]
    assert model.noise_shape == (places,)
    terms = model.terms(x, random(3, places).float())
    for name, values in terms.items():
        assert values.shape == (3,), name
        assert values.dtype == torch.float32, name
        assert torch.isfinite(values).all(), name
    codes = model.encode(x)
    assert codes.shape == (3, *grid)
    assert model.decode(codes).shape == (3, *image_shape)
    with torch.no_grad():
        images = model.sample(uniform(2, *grid).float())
    assert images.shape == (2, *image_shape)
    assert images.min() >= 0
    assert images.max() <= 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_codes": 0}, "num_codes"),
        ({"num_codes": 2.5}, "num_codes"),
        ({"code_dim": 0}, "code_dim"),
        ({"codebook": "kmeans"}, "codebook must be ema or gradient, got 'kmeans'"),
        ({"decay": 1.0}, "decay"),
        ({"decay": -0.1}, "decay"),
        ({"decay": float("nan")}, "decay"),
        ({"commitment": -0.1}, "commitment"),
        ({"commitment": float("inf")}, "commitment"),
        ({"image_shape": (1, 30, 28)}, "multiples of 4"),
        ({"image_shape": (1, 28, 30)}, "multiples of 4"),
        ({"image_shape": (1, 0, 28)}, "image"),
    ],
    ids=str,
)
def test_arguments_out_of_range_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        VQVAE(**options)


BAD_IMAGES = {
    "below 0": (torch.full((2, 1, 28, 28), -0.01), "floats in [0, 1]"),
    "above 1": (torch.full((2, 1, 28, 28), 1.01), "floats in [0, 1]"),
    "NaN": (torch.full((2, 1, 28, 28), torch.nan), "floats in [0, 1]"),
    "another size": (torch.zeros(2, 1, 32, 32), "(N, 1, 28, 28), got (2, 1, 32, 32)"),
    "colour": (torch.zeros(2, 3, 28, 28), "(N, 1, 28, 28), got (2, 3, 28, 28)"),
    "no channel": (torch.zeros(2, 28, 28), "(N, 1, 28, 28), got (2, 28, 28)"),
    "none": (torch.zeros(0, 1, 28, 28), "at least one image"),
    "integers": (torch.zeros(2, 1, 28, 28, dtype=torch.uint8), "got uint8"),
    "float64": (torch.zeros(2, 1, 28, 28, dtype=torch.float64), "got float64"),
    "a list": ([[0.0]], "got list"),
}


@pytest.mark.parametrize("name", BAD_IMAGES)
def test_images_out_of_range_are_refused(name):
    model, (x, words) = new_model(), BAD_IMAGES[name]
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    for ask in (model.encode, lambda x: model.terms(x, torch.zeros(len(x), 49))):
        with pytest.raises(ValueError, match=re.escape(words)) as error:
            ask(x)
        assert_one_line(error, "x must")
    assert all(torch.equal(tensor, before[key]) for key, tensor in model.state_dict().items())


@pytest.mark.parametrize("option", ["latent_dim", "beta", "likelihood", "k"])
def test_what_a_vq_vae_does_not_have_it_does_not_take(option):
    with pytest.raises(TypeError, match=f"VQVAE has no option '{option}': it has num_codes, .*decay"):
        VQVAE(**{option: 1})
    assert option not in {each.name for each in fields(VqConfig)}


def test_a_codes_model_has_no_elbo_and_no_samples_of_a_posterior():
    """Its posterior is a single point: what the VAEs answer, it does not."""
    assert not any(hasattr(VQVAE, name) for name in ("elbo", "log_weights", "kl_divergence", "reparameterize", "embed"))


@pytest.mark.parametrize("codebook", KINDS)
def test_a_saved_model_loads_as_it_was(codebook, tmp_path):
    options = {"num_codes": 9, "code_dim": 5, "commitment": 0.5, "decay": 0.7, "image_shape": (1, 32, 28)}
    model = new_model(codebook, **options)
    x, eps = uniform(3, 1, 32, 28).float(), random(3, 56).float()
    model.terms(x, eps)  # training mode: fills the codebook
    assert model.codebook.entries.any()
    model.save(tmp_path)
    loaded = VQVAE.load(tmp_path)
    assert loaded.config() == model.config() == {"class": "VQVAE", "codebook": codebook} | options
    assert_same_weights(model, loaded)
    buffers = dict(loaded.named_buffers())
    assert all(torch.equal(tensor, buffers.pop(name)) for name, tensor in model.named_buffers())
    assert not buffers
    with torch.no_grad():
        ours, theirs = model.eval().terms(x, eps), loaded.eval().terms(x, eps)
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert loaded.codebook.decay == 0.7


# --- Training --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def digits():
    """200 digits to train, 50 to test."""
    pixels, labels = (torch.from_numpy(array[:250]) for array in sklearn.datasets.load_digits(return_X_y=True))
    images = (pixels * 255 / 16).to(torch.uint8).view(-1, 1, 8, 8)
    images = torch.nn.functional.interpolate(images, size=(28, 28))
    return ResidentImages(images[:200], labels[:200]), ResidentImages(images[200:], labels[200:])


@pytest.mark.parametrize("codebook", KINDS)
def test_training_makes_images_cheaper_and_uses_the_codebook(digits, codebook):
    model = new_model(codebook, num_codes=16, code_dim=8)
    table = train(model, *digits, TrainingConfig(epochs=6, batch_size=20))
    # By gradients the entries move by no more than lr in a step, which at first the encoder's vectors outrun: the
    # distance, and with it the loss, rises before it falls.
    falling = [("reconstruction_nll",), ("reconstruction_nll", "prior_nll")] + (
        [("loss",)] if codebook == "ema" else []
    )
    for split, terms in itertools.product(("train", "test"), falling):
        first, last = (sum(row[f"{split}_{term}"] for term in terms) for row in (table[0], table[-1]))
        assert last < 0.7 * first, (split, terms)
    assert table[-1]["test_perplexity"] > 2
    used = vq_vae.code_counts(model, digits[1], seed=0)
    assert used.sum() == 50 * 49
    assert (used > 0).sum() >= 5
    codes = model.encode(digits[1].batch(slice(None))[0])
    assert used.tolist() == [int((codes == code).sum()) for code in range(16)]


@pytest.mark.parametrize("codebook", KINDS)
def test_minus_the_elbo_is_the_reconstruction_and_the_codes(digits, codebook):
    model = new_model(codebook)
    train(model, *digits, TrainingConfig(epochs=1, batch_size=50))
    text = report_of_terms(model, digits[1], TrainingConfig(batch_size=25))
    report = {name: float(value) for name, value in re.findall(r"^  (\S+) +(-?[\d.]+)\b", text, re.MULTILINE)}
    assert list(report) == ["-ELBO", "loss", "reconstruction_nll", "prior_nll", "distance", "perplexity"]
    x = digits[1].batch(slice(None))[0]
    with torch.no_grad():
        codes = model.encode(x)
        nll, prior_nll = bernoulli_nll(model.decode(codes), x).mean(), prior_in_loops(model.prior, codes).mean()
    assert report["reconstruction_nll"] == pytest.approx(nll.item(), abs=2e-3)
    assert report["prior_nll"] == pytest.approx(prior_nll.item(), abs=2e-3)
    assert report["-ELBO"] == pytest.approx((nll + prior_nll).item(), abs=3e-3)


@pytest.mark.parametrize("precision", ["bf16", "float64"])
@pytest.mark.parametrize("codebook", KINDS)
def test_every_precision_trains(digits, codebook, precision):
    few = ResidentImages(digits[0].images[:8], digits[0].labels[:8])
    reference, model = new_model(codebook), new_model(codebook)
    [row] = train(model, few, few, TrainingConfig(epochs=1, batch_size=4, precision=precision))
    [expected] = train(reference, few, few, TrainingConfig(epochs=1, batch_size=4))
    # Other noise in float64, so other vectors are drawn at the start.
    assert row["train_reconstruction_nll"] == pytest.approx(expected["train_reconstruction_nll"], rel=0.05)
    assert model.codebook.counts.dtype == (torch.float64 if precision == "float64" else torch.float32)


@pytest.mark.parametrize("commit", [1, 3, 5, 8])  # before the first step; in the middle of an epoch; later
@pytest.mark.parametrize("codebook", KINDS)
def test_a_run_that_was_cut_off_goes_on_to_the_same_bits(digits, tmp_path, monkeypatch, codebook, commit):
    few = [ResidentImages(split.images[:10], split.labels[:10]) for split in digits]
    config = TrainingConfig(epochs=3, batch_size=4, save_seconds=0.0)
    options = {"decay": 0.5, "num_codes": 40}  # so that entries die and come back on the way
    whole = new_model(codebook, **options)
    table = train(whole, *few, config)

    with monkeypatch.context() as patch:
        cut_after(patch, commit)
        with pytest.raises(PowerCutError):
            train(new_model(codebook, **options), *few, config, tmp_path, script="s")
    state = read_state(tmp_path, "s")
    assert 3 * (state["epoch"] - 1) + state["step"] == commit - 1
    resumed = new_model(codebook, **options)
    with torch.no_grad():
        for tensor in resumed.codebook.state_dict().values():
            tensor.fill_(1.0)  # whatever is not restored shows
    resumed_table = train(resumed, *few, config, tmp_path, state, "s")
    assert_same_weights(whole, resumed)
    assert_same_weights(whole, VQVAE.load(tmp_path))
    assert without_clock(resumed_table) == without_clock(table)


# --- The script ------------------------------------------------------------------------------------------------------


def run(*args, cwd):
    """Call main() in a folder, on few digits: its exit code, its stdout and its stderr."""
    with few_digits():
        return run_main(vq_vae.main, *args, "--device", "cpu", cwd=cwd)


@pytest.fixture(scope="module", params=KINDS)
def trained(request, tmp_path_factory):
    """The script trained for an epoch: what it printed, and its folder."""
    cwd = tmp_path_factory.mktemp("run")
    flags = ["--epochs", 1, "--num-codes", 16, "--batch-size", 50, "--codebook", request.param, "--out", "run"]
    done = run(*flags, cwd=cwd)
    assert done.code == 0, done.stderr
    done.folder, done.codebook = cwd / "run", request.param
    return done


NUMBER = r" +(\d+\.\d{3})"
REPORT = re.compile(
    r"digits, test set: 50 images, grey \(not binarised\), noise seed 0\nmean over the images, in nats per image\n"
    rf"  -ELBO{NUMBER}\n  loss{NUMBER}\n  reconstruction_nll{NUMBER}\n  prior_nll{NUMBER}\n"
    rf"  distance{NUMBER} squared distance\n  perplexity{NUMBER} entries of a batch\n"
    r"codebook over the test set: perplexity (\d+\.\d), (\d+) of 16 entries used\n"
)
PICTURES = {"reconstructions.png", "samples.png", "codebook_use.png"}


def assert_pictures(folder, names):
    assert {path.name for path in folder.glob("*.png")} == names
    for name in names:
        with Image.open(folder / name) as image:
            picture = np.asarray(image.convert("L"))
        values, counts = np.unique(picture, return_counts=True)
        assert len(values) > 20, name
        assert counts.max() < 0.99 * counts.sum(), name


def test_the_script_reports_what_its_model_says(trained):
    match = REPORT.fullmatch(trained.stdout)
    assert match, trained.stdout
    elbo, loss, nll, prior_nll, distance, batch_perplexity, whole, used = map(float, match.groups())
    with few_digits():
        x = torch.from_numpy(load_images("digits", "test")[0])
    model = VQVAE.load(trained.folder).eval()
    with torch.no_grad():
        z_e, codes = model.encoder(x), model.encode(x)
        z_q = model.codebook.entries[codes].permute(0, 3, 1, 2)
        squared = (z_e - z_q).square().sum(dim=(1, 2, 3)).mean().item()
        expected = bernoulli_nll(model.decode(codes), x).mean().item(), prior_in_loops(model.prior, codes).mean().item()
    counts = np.bincount(codes.flatten(), minlength=16)
    assert (nll, prior_nll) == pytest.approx(expected, abs=2e-3)
    assert distance == pytest.approx(squared, abs=2e-3)
    assert elbo == pytest.approx(nll + prior_nll, abs=1.6e-3)
    weight = 1.25 if trained.codebook == "gradient" else 0.25
    assert loss == pytest.approx(nll + prior_nll + weight * distance, abs=3e-3)
    assert batch_perplexity == pytest.approx(np.exp(scipy.stats.entropy(counts)), abs=2e-3)  # one batch of 50
    assert whole == pytest.approx(np.exp(scipy.stats.entropy(counts)), abs=0.051)
    assert used == (counts > 0).sum()


def test_the_script_writes_its_files(trained):
    names = {path.name for path in trained.folder.iterdir()}
    assert names == PICTURES | {
        "loss_curves.png", "model.safetensors", "config.json", "metrics.csv", "summary.json", "resume.pt", ".lock"
    }  # fmt: skip
    assert_pictures(trained.folder, PICTURES | {"loss_curves.png"})
    model = json.loads((trained.folder / "config.json").read_text())["model"]
    assert model | {"class": "VQVAE", "num_codes": 16, "codebook": trained.codebook, "code_dim": 16} == model


def test_weights_report_again_what_training_reported(trained, tmp_path):
    weights = trained.folder / "model.safetensors"
    again = run("--weights", weights, "--batch-size", 50, "--out", "new", cwd=tmp_path)
    assert again.code == 0, again.stderr
    assert again.stdout == trained.stdout
    assert_pictures(tmp_path / "new", PICTURES)


def test_weights_refuse_the_options_of_another_model(trained, tmp_path):
    weights = trained.folder / "model.safetensors"
    stopped = run("--weights", weights, "--num-codes", 17, cwd=tmp_path)
    assert stopped.code == 2
    assert "leave out --num-codes, which is 16 there" in stopped.stderr
    assert not any(tmp_path.iterdir())
    assert run("--weights", weights, "--num-codes", 16, cwd=tmp_path).stdout  # says nothing else than the weights do


def test_the_pictures_show_what_the_model_computes(digits, tmp_path, monkeypatch):
    model, drawn = new_model().train(), {}
    model.terms(digits[0].batch(slice(0, 50))[0], random(50, 49).float())  # fills the codebook
    for name in ("save_reconstructions", "save_samples", "save_codebook_use"):
        monkeypatch.setattr(pictures, name, lambda path, *args, **options: drawn.update({path.name: args}))
    vq_vae.draw(tmp_path, model.eval(), digits[1], seed=3)
    assert drawn.keys() == PICTURES
    x = digits[1].batch(slice(None))[0]
    with torch.no_grad():
        codes = model.encode(x)
        decoded = torch.sigmoid(model.decoder(model.codebook.entries[codes].permute(0, 3, 1, 2)))
        u = torch.rand(80, 7, 7, generator=torch.Generator().manual_seed(3))
        images = torch.sigmoid(model.decode(model.prior.sample(u)))
    assert torch.equal(drawn["reconstructions.png"][0], x[:10])
    torch.testing.assert_close(drawn["reconstructions.png"][1], decoded[:10])
    torch.testing.assert_close(drawn["samples.png"][0], images.view(8, 10, 1, 28, 28))
    np.testing.assert_array_equal(drawn["codebook_use.png"][0], np.bincount(codes.flatten(), minlength=6))


@pytest.mark.parametrize("channels", [1, 3])
def test_images_binarised_afresh_reach_the_model_as_black_and_white(digits, tmp_path, monkeypatch, channels):
    """In the pictures, in the codebook's line and in the report, and the same ones each time."""
    grey = digits[1].images[:12].repeat(1, channels, 1, 1)
    images = ResidentImages(grey, digits[1].labels[:12], "fresh")
    model, seen, drawn = new_model(image_shape=(channels, 28, 28)).eval(), [], {}
    model.encoder.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    for name in ("save_reconstructions", "save_samples", "save_codebook_use"):
        monkeypatch.setattr(pictures, name, lambda path, *args, **options: drawn.update({path.name: args}))
    vq_vae.draw(tmp_path, model, images, seed=3)
    in_pictures = len(seen)
    vq_vae.report(model, images, VqConfig(binarisation="fresh", seed=3))
    assert in_pictures >= 2
    assert len(seen) > in_pictures
    assert all(x.unique().tolist() == [0, 1] for x in seen)
    thresholds = torch.rand(12, channels, 28, 28, generator=torch.Generator().manual_seed(3))
    want = (thresholds < grey.float() / 255).float()
    assert any(torch.equal(x, want) for x in seen[:in_pictures])  # of which the codebook's use is counted
    assert any(torch.equal(x, want) for x in seen[in_pictures:])
    assert torch.equal(drawn["reconstructions.png"][0].unique(), torch.tensor([0.0, 1.0]))
    assert drawn["samples.png"][0].shape == (8, 10, channels, 28, 28)


def test_the_codebooks_picture_shows_the_shares_in_falling_order(tmp_path, monkeypatch):
    figures = []
    monkeypatch.setattr(pictures, "save_figure", lambda figure, path: figures.append((path, figure)))
    counts = np.array([3, 0, 10, 1, 6])
    pictures.save_codebook_use(tmp_path / "use.png", counts)
    [(path, figure)] = figures
    [axes] = figure.axes
    assert path == tmp_path / "use.png"
    np.testing.assert_allclose([bar.get_height() for bar in axes.patches], [50, 30, 15, 5, 0])
    np.testing.assert_allclose([bar.get_x() + bar.get_width() / 2 for bar in axes.patches], [1, 2, 3, 4, 5])
    np.testing.assert_allclose(axes.lines[0].get_ydata(), 20)
    assert "4 of 5 entries" in axes.get_title()
    assert f"perplexity {np.exp(scipy.stats.entropy(counts)):.1f}" in axes.get_title()
