"""How the KL enters the loss: curves, free bits and capacity against values worked out by hand, training against a loop
that follows them.
"""

import math

import pytest
import torch

import schedules
from comparison import assert_one_line
from experiment import TrainingConfig
from resume import read_state
from schedules import KLSchedule
from small_models import (
    LATENT_DIM,
    PowerCutError,
    assert_close,
    assert_same_weights,
    column,
    cut_after,
    new_model,
    nll_and_kl,
    random_batch,
    without_clock,
)
from trainer import train
from vae_paper import ConditionalVAE

# --- The annealing curves --------------------------------------------------------------------------------------------

CYCLE = [0, 0.2, 0.4, 0.6, 0.8, 1, 1, 1, 1, 1]  # of ten steps: half of it rises


@pytest.mark.parametrize(
    ("shape", "steps", "expected"),
    [
        ("constant", 10, {0: 1, 1: 1, 10: 1, 99: 1}),
        ("linear", 10, {0: 0, 1: 0.1, 5: 0.5, 9: 0.9, 10: 1, 11: 1, 1000: 1}),
        ("linear", 1, {0: 0, 1: 1, 2: 1}),
        # 1 / (1 + e^6) and 1 / (1 + e^3), and what these lack to 1
        ("sigmoid", 4, {0: 0.0024726231566, 1: 0.0474258731776, 2: 0.5, 3: 0.9525741268224, 4: 1, 5: 1, 400: 1}),
        ("cyclical", 40, dict(enumerate(4 * CYCLE)) | {40: 1, 41: 1, 45: 1, 4000: 1}),
    ],
    ids=["constant", "linear", "linear in one step", "sigmoid", "cyclical"],
)
def test_a_curve_has_the_values_worked_out_by_hand(shape, steps, expected):
    curve = schedules.SHAPES[shape]
    for step, value in expected.items():
        assert curve(step, steps) == pytest.approx(value, rel=1e-10, abs=1e-13), step


def test_the_sigmoid_is_the_logistic_function_up_to_its_last_step():
    for steepness in (2.0, 12.0, 30.0):
        for step in range(50):
            logit = torch.tensor(steepness * (step - 25) / 50, dtype=torch.float64)
            got = schedules.sigmoid(step, 50, steepness)
            assert got == pytest.approx(torch.sigmoid(logit).item(), rel=1e-12)


@pytest.mark.parametrize("steps", [1, 2, 7, 100])
@pytest.mark.parametrize("shape", ["constant", "linear", "sigmoid"])
def test_a_curve_rises_from_0_to_1_and_stays(shape, steps):
    values = [schedules.SHAPES[shape](step, steps) for step in range(2 * steps + 1)]
    assert values == sorted(values)
    assert min(values) >= 0
    assert set(values[steps:]) == {1.0}
    if shape != "constant":
        assert values[0] < 0.003


@pytest.mark.parametrize("cycles", [1, 3, 4])
@pytest.mark.parametrize("ramp", [0.25, 0.5, 1.0])
def test_cyclical_starts_at_0_once_per_cycle_and_rises_within_it(cycles, ramp):
    steps = 20 * cycles
    values = [schedules.cyclical(step, steps, cycles, ramp) for step in range(steps)]
    assert [step for step, value in enumerate(values) if value == 0] == list(range(0, steps, 20))
    for start in range(0, steps, 20):
        cycle = values[start : start + 20]
        assert cycle == pytest.approx([min(1, step / (20 * ramp)) for step in range(20)], abs=1e-12)
    assert schedules.cyclical(steps, steps, cycles, ramp) == 1


@pytest.mark.parametrize("shape", schedules.SHAPES)
def test_no_step_is_the_end_of_the_schedule(shape):
    kl = column([1.0, 2.0], [0.5, 0.0])
    plain, floored_too = (KLSchedule(3.0, shape, kl_steps=20, free_bits=nats) for nats in (0.0, 0.5))
    for schedule in (plain, floored_too):
        assert_close(schedule.penalty(kl, None), schedule.penalty(kl, 20))
        assert_close(schedule.penalty(kl, None), schedule.penalty(kl, 10**9))
    assert_close(plain.penalty(kl, None), column(9.0, 1.5))


# --- The step size ---------------------------------------------------------------------------------------------------


def test_the_cosine_is_pytorchs():
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=1.0)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=70)
    for step in range(70):
        assert schedules.LR_SCHEDULES["cosine"](step / 70) == pytest.approx(scheduler.get_last_lr()[0], abs=1e-12)
        optimizer.step()
        scheduler.step()


def test_the_staircase_is_the_papers_written_out():
    """3^i epochs with 10^(-i/7), i = 0 to 7 (Burda 2015, section 5), looked at several times in each epoch."""
    epochs = [10 ** (-i / 7) for i in range(8) for _ in range(3**i)]
    assert len(epochs) == 3280
    for epoch, factor in enumerate(epochs):
        for step in range(5):
            assert schedules.staircase((epoch + step / 5) / 3280) == pytest.approx(factor, rel=1e-12), epoch


def test_steps_stay_as_they_are_unless_asked():
    assert {schedules.LR_SCHEDULES["constant"](done / 7) for done in range(7)} == {1.0}


# --- Free bits -------------------------------------------------------------------------------------------------------

TURNS = [[0.0, 2.0], [2.0, 0.0]]  # each latent speaks about one image of the two
NEIGHBOURS = [[0.0, 0.2, 1.0, 3.0], [0.2, 0.0, 3.0, 1.0]]  # means 0.1, 0.1, 2, 2


@pytest.mark.parametrize(
    ("kl", "nats", "group_size", "expected"),
    [
        (TURNS, 0.0, 1, 2.0),
        (TURNS, 0.5, 1, 2.0),  # the maximum before the mean would give (0.5 + 2) / 2 twice: 2.5
        (TURNS, 1.5, 1, 3.0),  # and here (1.5 + 2) / 2 twice: 3.5
        (TURNS, 1.5, 2, 2.0),
        (TURNS, 3.0, 2, 3.0),
        (NEIGHBOURS, 1.0, 1, 6.0),
        (NEIGHBOURS, 1.0, 2, 5.0),  # latents 0 and 1 are one group: 0.2, raised to 1, and 4
        (NEIGHBOURS, 1.0, 4, 4.2),
        (NEIGHBOURS, 5.0, 4, 5.0),
    ],
)
def test_free_bits_by_hand(kl, nats, group_size, expected):
    assert_close(schedules.free_bits(column(*kl), nats, group_size), column(expected)[0])


def test_a_group_below_its_free_bits_gets_no_gradient_and_the_others_the_kls_own():
    kl = column(*NEIGHBOURS).requires_grad_()
    schedules.free_bits(kl, 1.0, group_size=2).backward()
    assert_close(kl.grad, column([0, 0, 0.5, 0.5], [0, 0, 0.5, 0.5]))  # 1 / N
    kl = column([0.1, 3.0, 0.3], [0.1, 0.0, 2.5]).requires_grad_()
    KLSchedule(4.0, "linear", kl_steps=10, free_bits=1.0).penalty(kl, 5).backward()
    assert_close(kl.grad, column([0, 1, 1], [0, 1, 1]))  # beta 4, halfway, over two images


@pytest.mark.parametrize(("latents", "group_size"), [(3, 2), (4, 3), (2, 4)])
def test_groups_that_do_not_divide_the_latents_are_refused(latents, group_size):
    message = f"{latents} latents do not make groups of {group_size}"
    with pytest.raises(ValueError, match=message):
        schedules.free_bits(torch.ones(5, latents), 1.0, group_size)
    with pytest.raises(ValueError, match=message):
        new_model(latent_dim=latents, free_bits=1.0, group_size=group_size)


# --- Capacity --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("step", "expected"), [(0, 8), (20, 4), (40, 0), (70, 6), (99, 11.8), (100, 12), (101, 12), (None, 12)]
)
def test_capacity_by_hand(step, expected):
    """The images say 3 and 5 nats, 4 on average; C grows to 10 nats in 100 steps; gamma is 2."""
    kl = column([1.0, 2.0], [5.0, 0.0])
    schedule = KLSchedule(kl_steps=100, capacity=10.0, capacity_gamma=2.0)
    assert_close(schedule.penalty(kl, step), column(expected)[0])


@pytest.mark.parametrize(("step", "sign"), [(0, 1), (39, 1), (41, -1), (1000, -1)])
def test_capacity_pulls_the_mean_kl_towards_it_from_both_sides(step, sign):
    kl = column([1.0, 2.0], [5.0, 0.0]).requires_grad_()
    KLSchedule(kl_steps=100, capacity=10.0, capacity_gamma=2.0).penalty(kl, step).backward()
    assert_close(kl.grad, torch.full((2, 2), sign * 1.0, dtype=torch.float64))  # gamma / N


def test_a_capacity_of_0_holds_the_kl_at_0():
    kl = column([1.0, 2.0], [5.0, 0.0])
    schedule = KLSchedule(capacity=0.0, capacity_gamma=3.0)
    assert schedule.couples_batch  # 0 is a capacity, None is none
    assert_close(schedule.penalty(kl, 0), column(12.0)[0])


TOGETHER = "kl_schedule and capacity go together with kl_steps above 1"
CAPACITY = {"capacity": 5.0, "kl_steps": 10}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kl_schedule": "cosine"}, "kl_schedule must be constant or linear or sigmoid or cyclical, got 'cosine'"),
        ({"kl_schedule": None}, "kl_schedule"),
        ({"kl_schedule": {"shape": "linear"}}, "kl_schedule"),
        ({"kl_steps": 0}, "kl_steps must be an integer of at least 1, got 0"),
        ({"kl_steps": math.inf}, "kl_steps must be .* got inf"),
        ({"kl_steps": 2.5}, "kl_steps"),
        ({"kl_steps": None}, "kl_steps"),
        ({"group_size": 0}, "group_size must be an integer of at least 1, got 0"),
        ({"free_bits": -0.1}, "free_bits must be a finite number of at least 0, got -0.1"),
        ({"free_bits": math.nan}, "free_bits must be .* got nan"),
        ({"free_bits": None}, "free_bits"),
        ({"free_bits": True}, "free_bits"),
        ({"capacity": -1.0}, "capacity must be a finite number of at least 0, got -1.0"),
        ({"capacity": math.inf}, "capacity must be .* got inf"),
        ({"capacity": "25"}, "capacity must be .* got '25'"),
        (CAPACITY | {"capacity_gamma": -1.0}, "capacity_gamma must be a finite number of at least 0, got -1.0"),
        (CAPACITY | {"capacity_gamma": math.nan}, "capacity_gamma must be .* got nan"),
        ({"beta": -1.0}, "beta must be a finite number of at least 0, got -1.0"),
        ({"beta": math.nan}, "beta must be .* got nan"),
        ({"beta": math.inf}, "beta must be .* got inf"),
        (CAPACITY | {"beta": 4.0}, "capacity weighs the KL by gamma: leave out beta"),
        (CAPACITY | {"kl_schedule": "linear"}, "capacity sets the whole KL: leave out kl_schedule and free_bits"),
        (CAPACITY | {"free_bits": 0.1}, "capacity sets the whole KL"),
        ({"capacity_gamma": 10.0}, "capacity_gamma belongs to capacity"),
        ({"group_size": 2}, "group_size belongs to free_bits"),
        ({"capacity": 5.0}, TOGETHER),
        ({"capacity": 0.0}, TOGETHER),
        ({"kl_schedule": "linear"}, TOGETHER),
        ({"kl_schedule": "cyclical", "kl_steps": 1}, TOGETHER),
        ({"kl_steps": 10}, TOGETHER),
        ({"kl_steps": 10, "free_bits": 0.5}, TOGETHER),
    ],
    ids=lambda value: ", ".join(f"{k}={v}" for k, v in value.items()) if isinstance(value, dict) else "",
)
def test_a_schedule_out_of_range_is_refused(options, message):
    with pytest.raises(ValueError, match=message) as error:
        KLSchedule(**options).check()
    assert_one_line(error)
    with pytest.raises(ValueError, match=message.split()[0]):
        new_model(**options)


def test_the_command_line_reads_the_flags_of_a_schedule():
    for options, flags in (({"beta": -1.0}, ["--beta"]), ({"capacity": 5.0}, ["--kl-schedule", "--capacity"])):
        with pytest.raises(ValueError, match="--") as error:
            KLSchedule(**options).check(flags=True)
        assert_one_line(error, *flags)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"beta": 4},  # an integer is a number
        {"beta": 0.0},
        {"kl_schedule": "cyclical", "kl_steps": 2, "beta": 0.5},
        {"free_bits": 0.5, "group_size": 2},
        {"capacity": 0.0, "kl_steps": 2, "capacity_gamma": 0.0},
    ],
    ids=str,
)
def test_a_schedule_within_its_range_is_taken(options):
    KLSchedule(**options).check()
    model = new_model(**options)
    assert {name: getattr(model.options, name) for name in options} == options


# --- The terms of the model ------------------------------------------------------------------------------------------


def floored(kl, nats, group_size):
    """Free bits in a loop over the groups."""
    groups = [kl[:, start : start + group_size].sum(dim=1).mean() for start in range(0, kl.shape[1], group_size)]
    return sum(group if group > nats else torch.tensor(nats, dtype=kl.dtype) for group in groups)


OBJECTIVES = {  # options, whether they couple the batch, penalty(kl per latent, step) worked out here
    "constant": ({"beta": 4.0}, False, lambda kl, step: 4 * kl.sum(1)),
    "linear": (
        {"beta": 4.0, "kl_schedule": "linear", "kl_steps": 10},
        False,
        lambda kl, step: 4 * min(step, 10) / 10 * kl.sum(1),
    ),
    "sigmoid": (
        {"kl_schedule": "sigmoid", "kl_steps": 10},
        False,
        lambda kl, step: (1 if step > 9 else 1 / (1 + math.exp(6 - 1.2 * step))) * kl.sum(1),
    ),
    "cyclical": (
        {"beta": 2.0, "kl_schedule": "cyclical", "kl_steps": 40},
        False,
        lambda kl, step: 2 * (CYCLE[step % 10] if step < 40 else 1) * kl.sum(1),
    ),
    "free bits": ({"free_bits": 2.5}, True, lambda kl, step: floored(kl, 2.5, 1)),
    "linear free bits in groups": (
        {"beta": 4.0, "kl_schedule": "linear", "kl_steps": 10, "free_bits": 12.0, "group_size": 2},
        True,
        lambda kl, step: 4 * min(step, 10) / 10 * floored(kl, 12.0, 2),
    ),
    "capacity": (
        {"kl_steps": 10, "capacity": 40.0, "capacity_gamma": 7.0},
        True,
        lambda kl, step: 7 * (kl.sum() / len(kl) - 4 * min(step, 10)).abs(),
    ),
}
CASES = pytest.mark.parametrize(("options", "coupled", "penalty"), OBJECTIVES.values(), ids=OBJECTIVES)


@pytest.mark.parametrize("step", [0, 3, 9, 10, 47])
@pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian"])
@CASES
def test_the_loss_is_the_nll_plus_the_penalty_and_so_are_its_gradients(options, coupled, penalty, likelihood, step):
    sigma = "learned" if likelihood == "gaussian" else 1.0
    model = new_model(gain=4.0, likelihood=likelihood, sigma=sigma, **options)
    x, eps, _ = random_batch(model)
    nll, kl = nll_and_kl(model, x, eps)
    expected = nll + penalty(kl, step)
    terms = model.terms(x, eps, None, step)
    assert list(terms) == ["loss", "reconstruction_nll", "kl_divergence"]
    assert_close(terms["reconstruction_nll"], nll)
    assert_close(terms["kl_divergence"], kl.sum(dim=1))  # in nats, whatever the schedule makes of it
    assert_close(terms["loss"], expected)
    parameters = list(model.parameters())
    got = torch.autograd.grad(terms["loss"].mean(), parameters)
    want = torch.autograd.grad(expected.mean(), parameters)
    for (name, _), ours, theirs in zip(model.named_parameters(), got, want, strict=True):
        assert_close(ours, theirs, 1e-10)
        if name == "encoder.mu.weight":
            assert ours.abs().max() > 1e-3


def test_the_examples_above_have_groups_on_both_sides_of_their_free_bits():
    """And a mean KL between the capacities at steps 3 and 9: otherwise they would show little."""
    model = new_model(gain=4.0)
    x, eps, _ = random_batch(model)
    kl = nll_and_kl(model, x, eps)[1].mean(dim=0)
    assert kl.min() < 2.5 < kl.max()
    pairs = kl.view(2, 2).sum(dim=1)
    assert pairs.min() < 12.0 < pairs.max()
    assert 12.0 < kl.sum() < 36.0


@CASES
def test_couples_batch_says_whether_an_images_loss_depends_on_the_others(options, coupled, penalty):
    model = new_model(gain=4.0, **options)
    x, eps, _ = random_batch(model)
    others = x.clone()
    others[1:] = 1 - others[1:]
    with torch.no_grad():
        loss, among_others = (model.terms(images, eps, None, 5)["loss"][0] for images in (x, others))
    assert model.couples_batch is coupled
    assert torch.isclose(loss, among_others, rtol=1e-12, atol=0) != coupled


def test_a_conditional_model_takes_the_schedule_too():
    model = new_model(ConditionalVAE, 4.0, num_classes=3, kl_schedule="linear", kl_steps=4, free_bits=1.0)
    x, eps, c = random_batch(model)
    nll, kl = nll_and_kl(model, x, eps, c)
    assert_close(model.terms(x, eps, c, 1)["loss"], nll + 0.25 * floored(kl, 1.0, 1))
    assert model.couples_batch


# --- The steps that training counts ----------------------------------------------------------------------------------


def training_config(**options):
    return TrainingConfig(**{"epochs": 3, "batch_size": 4, "save_seconds": 0.0} | options)


def recorded(model):
    """A list that gets ("train" or "test", step, images) for every call of the model's terms."""
    calls, terms = [], model.terms

    def terms_and_record(x, eps, c=None, step=None):
        calls.append(("train" if torch.is_grad_enabled() else "test", step, len(x)))
        return terms(x, eps, c, step)

    model.terms = terms_and_record
    return calls


def expected_calls(coupled):
    calls = []
    for epoch in range(3):
        calls += [("train", 3 * epoch + i, size) for i, size in enumerate((4, 4, 2))]
        calls += [("test", 3 * epoch + 3, size) for size in ((4, 1) if coupled else (5,))]
    return calls


LINEAR = {"beta": 4.0, "kl_schedule": "linear", "kl_steps": 7}
RUNS = {
    "linear": LINEAR,
    "linear with free bits": LINEAR | {"free_bits": 0.06, "group_size": 2},
    "capacity": {"kl_steps": 7, "capacity": 2.0, "capacity_gamma": 100.0},
    "cyclical with learned sigma": {
        "kl_schedule": "cyclical",
        "kl_steps": 8,
        "likelihood": "gaussian",
        "sigma": "learned",
    },
}
EACH_RUN = pytest.mark.parametrize("options", RUNS.values(), ids=RUNS)


@EACH_RUN
def test_training_counts_its_steps_and_evaluation_advances_nothing(images, options):
    model = new_model(**options)
    calls = recorded(model)
    train(model, *images, training_config())
    assert calls == expected_calls(model.couples_batch)


@EACH_RUN
def test_train_takes_the_steps_of_a_loop_that_follows_the_schedule(images, options):
    model, expected = new_model(**options), new_model(**options)
    train(model, *images, training_config(precision="float64", lr=1e-2, seed=5))
    groups = [  # the learned sigma takes ten times the step
        {"params": [parameter], "lr": 0.1 if name == "log_sigma" else 0.01}
        for name, parameter in expected.named_parameters()
    ]
    optimizer = torch.optim.Adam(groups)
    order, noise = (torch.Generator().manual_seed(5) for _ in range(2))
    for step in range(9):
        if step % 3 == 0:
            batches = torch.randperm(10, generator=order).split(4)
        x = (images[0].images[batches[step % 3]].float() / 255).double()
        eps = torch.randn(len(x), LATENT_DIM, generator=noise, dtype=torch.float64)
        nll, kl = nll_and_kl(expected, x, eps)
        rise = min(1, step / 7)
        if "capacity" in options:
            penalty = 100 * (kl.sum(dim=1).mean() - 2 * rise).abs()
        elif "free_bits" in options:
            penalty = 4 * rise * floored(kl, 0.06, 2)
        elif options["kl_schedule"] == "linear":
            penalty = 4 * rise * kl.sum(dim=1).mean()
        else:  # four cycles of two steps: the first at 0, the second at the top of its ramp
            penalty = (step % 2 if step < 8 else 1) * kl.sum(dim=1).mean()
        optimizer.zero_grad()
        (nll.mean() + penalty).backward()
        optimizer.step()
    start = new_model(**options).state_dict()
    for name, parameter in expected.state_dict().items():
        assert_close(model.state_dict()[name], parameter, 1e-8)
        assert not torch.equal(start[name], parameter), name


@pytest.mark.parametrize("steps_done", [0, 2, 3, 5, 8])
@EACH_RUN
def test_a_resumed_run_goes_on_with_the_schedule(images, tmp_path, monkeypatch, options, steps_done):
    whole = new_model(**options)
    calls = recorded(whole)
    rows = train(whole, *images, training_config())
    with monkeypatch.context() as patch:
        cut_after(patch, steps_done + 1)  # the first commit comes before the first step
        with pytest.raises(PowerCutError):
            train(new_model(**options), *images, training_config(), tmp_path, script="s")
    resumed = new_model(**options)
    calls_after = recorded(resumed)
    more = train(resumed, *images, training_config(), tmp_path, read_state(tmp_path, "s"), "s")
    first = next(i for i, (kind, step, _) in enumerate(calls) if (kind, step) == ("train", steps_done))
    assert calls_after == calls[first:]
    assert_same_weights(whole, resumed)
    assert without_clock(more) == without_clock(rows)
