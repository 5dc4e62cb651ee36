"""Van den Oord 2017's codebooks: a prior that is trained afterwards against the model whose codes it is trained on, the
measures against counts in NumPy, the claims on made-up results, and all of it on runs of a second.
"""

import math
import shlex
from dataclasses import replace

import numpy as np
import pytest
import torch

from in_process import few_digits
from reproduce import collect
from reproduction import Results, Trained, carry_out
from reproductions import find, vq_vae_codebooks
from reproductions.vq_vae_codebooks import BUDGETS, REPRODUCTION, SIZES, TwoStageConfig, TwoStageVQVAE, label
from resume import read_state
from script_runs import assert_is_a_picture
from small_models import PowerCutError, assert_same_weights, cut_after, few_images, without_clock
from trainer import evaluate, train
from training_images import load_resident
from vq_vae import VQVAE, VqConfig

KINDS = ("ema", "gradient")
IMAGES = few_images()  # three steps an epoch in batches of 4

# --- The model -------------------------------------------------------------------------------------------------------


def new_model(cls, codebook="ema", **options):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return cls(image_shape=(1, 8, 8), num_codes=5, code_dim=3, codebook=codebook, **options)


def trained(cls, epochs, codebook="ema", folder=None, state=None, **options):
    """A model after so many epochs of three steps, and the rows of its training."""
    model = new_model(cls, codebook, **options)
    config = (TwoStageConfig if options else VqConfig)(epochs=epochs, batch_size=4, save_seconds=0.0, lr=1e-2)
    return model, train(model, *IMAGES, config, folder, state, "s")


def split(model):
    """The tensors of the prior, and all others, each {name: tensor}."""
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    prior = {name: tensor for name, tensor in state.items() if name.startswith("prior.")}
    return prior, {name: tensor for name, tensor in state.items() if name not in prior}


def assert_equal(got, want):
    assert got.keys() == want.keys()
    for name, tensor in want.items():
        assert got[name] is tensor is None or torch.equal(got[name], tensor), name


def assert_moved(got, before):
    assert all(not torch.equal(got[name], tensor) for name, tensor in before.items())


@pytest.mark.parametrize("codebook", KINDS)
def test_the_codes_are_those_of_a_vq_vae_and_then_stay(codebook):
    start_prior, start_rest = split(new_model(VQVAE, codebook))
    joint, joint_rows = trained(VQVAE, 2, codebook)
    first, first_rows = trained(TwoStageVQVAE, 2, codebook, code_steps=6)
    whole, rows = trained(TwoStageVQVAE, 4, codebook, code_steps=6)
    assert_equal(split(first)[1], split(joint)[1])
    assert_equal(split(first)[0], start_prior)
    assert_equal(split(whole)[1], split(joint)[1])
    assert_moved(split(whole)[0], start_prior)
    learned = ("encoder.0.weight", "codebook.entries", "decoder.0.weight")
    assert_moved(split(joint)[1], {name: start_rest[name] for name in learned})
    assert without_clock(rows)[:2] == without_clock(first_rows)
    for name in ("reconstruction_nll", "distance", "perplexity"):
        test = [row[f"test_{name}"] for row in rows]
        assert test[:2] == [row[f"test_{name}"] for row in joint_rows]
        assert test[1] == test[2] == test[3]
    assert rows[3]["test_prior_nll"] != rows[1]["test_prior_nll"]


@pytest.mark.parametrize("codebook", KINDS)
@pytest.mark.parametrize("step", [0, 5, 6, 100, None])
def test_the_terms_are_those_of_the_vq_vae_at_any_step(codebook, step):
    plain, two = (new_model(cls, codebook, **more).double() for cls, more in CLASSES)
    x = IMAGES[0].batch(slice(None))[0].double()
    eps = torch.from_numpy(np.random.default_rng(0).standard_normal((len(x), 4)))
    for model in (plain, two):
        model.train()
        VQVAE.terms(model, x, eps)  # the entries start on vectors of a batch
        model.eval()
    want, got = plain.terms(x, eps), two.terms(x, eps, None, step)
    assert list(got) == list(want)
    for name, term in want.items():
        torch.testing.assert_close(got[name], term, rtol=0, atol=0)


CLASSES = ((VQVAE, {}), (TwoStageVQVAE, {"code_steps": 6}))


@pytest.mark.parametrize("codebook", KINDS)
def test_who_gets_a_gradient(codebook):
    """In the first stage what the VQ-VAE's loss without its prior gives, in the second that of log p(codes)."""
    plain, two = (new_model(cls, codebook, **more).double() for cls, more in CLASSES)
    x = IMAGES[0].batch(slice(None))[0].double()
    eps = torch.from_numpy(np.random.default_rng(0).standard_normal((len(x), 4)))

    def gradients(model, term):
        model.zero_grad(set_to_none=True)
        term.mean().backward()
        return {name: parameter.grad for name, parameter in model.named_parameters()}

    for model in (plain, two):
        model.train()
    first, want = gradients(two, two.terms(x, eps, None, 5)["loss"]), gradients(plain, plain.terms(x, eps)["loss"])
    placed = {name: tensor.clone() for name, tensor in two.state_dict().items()}
    assert_equal(placed, plain.state_dict())
    second = gradients(two, two.terms(x, eps, None, 6)["loss"])
    assert_equal(two.state_dict(), placed)  # no running mean has moved
    assert_equal(gradients(two, two.terms(x, eps)["loss"]), second)  # None is the end
    want_second = gradients(plain, plain.prior.nll(plain.encode(x)))
    for name in want:
        prior = name.startswith("prior.")
        learning, waiting = (second, first) if prior else (first, second)
        torch.testing.assert_close(
            learning[name], (want_second if prior else want)[name], rtol=1e-12, atol=1e-14, msg=name
        )
        assert waiting[name] is None, name


def test_adam_counts_the_steps_of_each_stage(tmp_path):
    model, _ = trained(TwoStageVQVAE, 3, folder=tmp_path, code_steps=4)
    moments = read_state(tmp_path, "s")["optimizers"]["loss"]["state"]
    counts = {name: int(moments[place]["step"]) for place, (name, _) in enumerate(model.named_parameters())}
    assert {count for name, count in counts.items() if name.startswith("prior.")} == {5}
    assert {count for name, count in counts.items() if not name.startswith("prior.")} == {4}


@pytest.mark.parametrize("commit", [1, 3, 4, 5, 8])  # the second stage begins with the step after the fourth
def test_a_run_goes_on_to_the_same_end(tmp_path, monkeypatch, commit):
    whole, rows = trained(TwoStageVQVAE, 3, code_steps=3)
    with monkeypatch.context() as patch:
        cut_after(patch, commit)
        with pytest.raises(PowerCutError):
            trained(TwoStageVQVAE, 3, folder=tmp_path, code_steps=3)
    state = read_state(tmp_path, "s")
    resumed, resumed_rows = trained(TwoStageVQVAE, 3, folder=tmp_path, state=state, code_steps=3)
    assert_same_weights(whole, resumed)
    assert without_clock(resumed_rows) == without_clock(rows)


def test_an_evaluation_between_two_steps_changes_nothing():
    model = new_model(TwoStageVQVAE, code_steps=6).train()
    x, eps = IMAGES[0].batch(slice(None))[0], torch.zeros(10, 4)
    model.terms(x, eps, None, 0)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    evaluate(model, IMAGES[1], 0, step=6)
    assert_equal(model.state_dict(), before)
    model.terms(x, eps, None, 1)
    assert not torch.equal(model.codebook.counts, before["codebook.counts"])  # learns again


def test_a_number_of_steps_out_of_range_is_refused():
    with pytest.raises(ValueError, match="code_steps must be an integer of at least 1, got 0"):
        TwoStageVQVAE(code_steps=0)


# --- What is run and measured ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("budget", REPRODUCTION.budgets)
def test_the_prior_has_as_many_steps_afterwards_as_along_with_the_codes(budget):
    def number(run, name):
        words = shlex.split(run.options)
        return int(words[words.index(name) + 1]) if name in words else None

    runs = REPRODUCTION.runs(budget)
    epochs, images, sizes = BUDGETS[budget]
    assert len(runs) == 2 * len(SIZES) + len(sizes)
    for size in sizes:
        along, later = runs[label(size, "ema")], runs[label(size, "afterwards")]
        assert (along.script, later.script) == ("vq_vae", "reproductions.vq_vae_codebooks")
        batch = number(later, "--batch-size")
        steps = len(torch.arange(number(later, "--train-images") or 60_000).split(batch))
        assert number(later, "--code-steps") == epochs * steps
        assert (number(along, "--epochs"), number(later, "--epochs")) == (epochs, 2 * epochs)
        assert number(along, "--num-codes") == number(later, "--num-codes") == size
        assert later.options.startswith(along.options.partition(" --epochs")[0])
        assert "--codebook ema" in along.options
        assert "--codebook ema" in later.options
    assert f"{images:,} images" in REPRODUCTION.protocol(budget)
    assert find("vq-vae") is REPRODUCTION


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """The folders of all runs of the quick budget, each on a few digits, and their results."""
    where = tmp_path_factory.mktemp("vq")
    runs = {}
    for name, run in REPRODUCTION.runs("quick").items():
        words = shlex.split(run.options)
        words[words.index("--train-images") + 1] = "128"
        words[words.index("--epochs") + 1] = "2" if "--code-steps" in words else "1"
        words[words.index("mnist")] = "digits"
        if "--code-steps" in words:
            words[words.index("--code-steps") + 1] = "2"
        runs[name] = replace(run, options=" ".join(words))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vq_vae_codebooks.VQVAECodebooks, "runs", lambda self, budget: runs)
        for module in ("vq_vae", "reproductions.vq_vae_codebooks"):
            patch.setattr(f"{module}.draw", lambda *args: None)
        folders = {(name, 0): where / str(i) for i, name in enumerate(runs)}
        with few_digits():
            for (name, seed), folder in folders.items():
                carry_out(REPRODUCTION, name, seed, "quick", folder, "cpu")
        yield folders, Results(collect(REPRODUCTION, folders, "quick", [0]))


def test_the_measures_of_a_run(tiny):
    folders, results = tiny
    name = label(32, "afterwards")
    model = VQVAE.load(folders[name, 0]).eval()
    assert type(model) is TwoStageVQVAE
    with few_digits():
        x = load_resident(replace(TwoStageConfig(), binarisation="fixed"), "test").batch(slice(None))[0]
    with torch.no_grad():
        codes = model.encode(x)
        prior = model.prior.nll(codes).double().mean().item()
        logits = model.decode(codes).double()
    nll = torch.nn.functional.binary_cross_entropy_with_logits(logits, x.double(), reduction="sum").item() / len(x)
    share = np.bincount(codes.numpy().flatten(), minlength=32) / codes.numel()
    measures = {key: values[0] for key, values in results.runs[name]["measures"].items()}
    assert measures["reconstruction"] == pytest.approx(nll, rel=1e-4)
    assert measures["prior"] == pytest.approx(prior, rel=1e-4)
    assert measures["total"] == pytest.approx(nll + prior, rel=1e-4)
    assert measures["bits per code"] == pytest.approx(prior / 49 / math.log(2), rel=1e-4)
    assert measures["perplexity"] == pytest.approx(np.exp(-np.sum(share[share > 0] * np.log(share[share > 0]))))
    assert measures["used"] == (share > 0).sum()


def test_both_priors_have_the_same_codes(tiny):
    _, results = tiny
    for size in (32, 512):
        for name in ("reconstruction", "perplexity", "used"):
            assert results[label(size, "afterwards"), name] == results[label(size, "ema"), name]
        assert results[label(size, "afterwards"), "prior"] != results[label(size, "ema"), "prior"]


def test_tiny_runs_are_judged_and_drawn(tiny, tmp_path):
    folders, results = tiny
    assert len(REPRODUCTION.claims(results)) == 4
    assert len(REPRODUCTION.table(results)[1]) == 10
    models = {name: [Trained(name, 0, "quick", folders[name, 0], "cpu")] for name in results.runs}
    REPRODUCTION.draw(results, models, tmp_path / "figure.png")
    assert_is_a_picture(tmp_path / "figure.png")


# --- What is claimed -------------------------------------------------------------------------------------------------

GOOD = {  # reconstruction and prior, nats
    "ema": {8: (100, 40), 32: (80, 60), 128: (65, 75), 512: (55, 90)},
    "gradient": {8: (101, 40), 32: (82, 59), 128: (66, 75), 512: (55, 88)},
    "afterwards": {32: (80, 59.25), 512: (55, 89.5)},
}


def made_up(changes=(), noise=(0.0,)):
    """Results with these reconstructions and priors; changes: {(size, kind): (reconstruction, prior)}."""
    runs = {}
    for kind, of_sizes in GOOD.items():
        for size, pair in of_sizes.items():
            reconstruction, prior = dict(changes).get((size, kind), pair)
            measures = {
                "reconstruction": [reconstruction + each for each in noise],
                "prior": [float(prior) for _ in noise],
                "total": [reconstruction + prior + each for each in noise],
                "bits per code": [prior / 49 / math.log(2) for _ in noise],
                "perplexity": [0.7 * size for _ in noise],
                "used": [size for _ in noise],
            }
            runs[label(size, kind)] = {"measures": measures}
    return Results({"budget": "quick", "seeds": list(range(len(noise))), "runs": runs})


@pytest.mark.parametrize(
    ("changes", "noise", "expected"),
    [
        ({}, (0.0,), [True, True, True, True]),
        ({(512, "gradient"): (66.5, 79)}, (0.0,), [False, True, True, True]),
        ({(32, "gradient"): (101.5, 40.5)}, (0.0,), [False, True, True, True]),
        ({(128, "gradient"): (82.0, 59)}, (0.0,), [False, False, True, True]),
        ({(8, "ema"): (81, 60.5)}, (0.0,), [True, False, True, True]),
        ({(8, "gradient"): (104, 39)}, (0.0,), [True, True, False, True]),
        ({(8, "gradient"): (97, 40)}, (0.0,), [True, True, False, True]),
        ({(32, "afterwards"): (80, 58.9)}, (0.0,), [True, True, True, False]),
        ({(512, "afterwards"): (55, 91.1)}, (0.0,), [True, True, True, False]),
        ({}, (-1.0, 1.0), [True, True, True, True]),
        ({}, (-8.0, 8.0), [False, True, True, True]),  # 10 nats between 128 and 512, within the seeds' 11.3
    ],
)
def test_claims(changes, noise, expected):
    assert [claim.holds for claim in REPRODUCTION.claims(made_up(changes, noise))] == expected


def test_claims_say_the_numbers_they_judge():
    ours = [claim.ours for claim in REPRODUCTION.claims(made_up())]
    assert ours[0] == "100.0 to 55.0 (running means), 101.0 to 55.0 nats (gradients) from 8 to 512 codes"
    assert ours[1] == "40.0 to 90.0 (running means), 40.0 to 88.0 nats (gradients)"
    assert ours[2] == "gradients minus running means: +1.0, +1.0, +1.0, -2.0 nats"
    assert ours[3] == "along minus afterwards: +0.75 nats (32 codes), +0.50 nats (512 codes)"


def test_the_table():
    header, rows = REPRODUCTION.table(made_up(noise=(-1.0, 1.0)))
    assert header[:4] == ["codebook", "reconstruction (nats)", "prior (nats)", "-ELBO (nats)"]
    assert len(rows) == 10
    assert rows[0][:4] == ["8 codes, running means", "100.0 ± 1.4", "40.0 ± 0.0", "140.0 ± 1.4"]
    assert rows[-1] == [
        "512 codes, running means, prior afterwards",
        *("55.0 ± 1.4", "89.5 ± 0.0", "144.5 ± 1.4", "2.64 ± 0.00", "358.4 ± 0.0", "512 ± 0"),
    ]
