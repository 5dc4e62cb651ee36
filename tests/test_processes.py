"""Two real processes against one: the same training of every paper, the same gathered rows, the same gradients."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import train_in_processes
from processes import LostProcessError, agreed, all_reduced, from_first, gathered, own_part, sum_gradients, summed
from train_in_processes import EPOCHS, MODELS, NUM_IMAGES, coupled_gradients, stopped_and_resumed, trained

LIMIT = 120  # seconds for the two processes; they take a tenth of them


def in_processes(number, folder):
    """What `train_in_processes` leaves in each of some processes."""
    start = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(number)]
    done = subprocess.run(
        [*start, train_in_processes.__file__, str(folder)],
        env=os.environ | {"OMP_NUM_THREADS": "1", "TQDM_DISABLE": "1"}, capture_output=True, text=True, timeout=LIMIT,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "Warning" not in done.stderr
    return [torch.load(folder / f"{rank}.pt", weights_only=False) for rank in range(number)]


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    return in_processes(2, tmp_path_factory.mktemp("two"))


def without_clock(rows):
    return [{name: value for name, value in row.items() if name != "seconds"} for row in rows]


def assert_same_training(run, expected):
    assert run["state"].keys() == expected["state"].keys()
    for name, tensor in expected["state"].items():
        assert run["state"][name].dtype == tensor.dtype == torch.float64
        torch.testing.assert_close(
            run["state"][name], tensor, rtol=0, atol=1e-8, msg=lambda text, name=name: f"{name}: {text}"
        )
    rows, expected_rows = without_clock(run["rows"]), without_clock(expected["rows"])
    assert len(rows) == EPOCHS
    for row, other in zip(rows, expected_rows, strict=True):
        assert row == pytest.approx(other, abs=1.1e-4)  # the table rounds to four digits


@pytest.mark.parametrize("num_images", NUM_IMAGES)
@pytest.mark.parametrize("name", MODELS)
def test_two_processes_take_the_steps_of_one(two, name, num_images):
    expected = trained(name, num_images)
    for found in two:
        assert_same_training(found["runs"][name, num_images], expected)


@pytest.mark.parametrize("name", MODELS)
def test_every_process_has_the_same_bits(two, name):
    for count in NUM_IMAGES:
        first, second = (found["runs"][name, count] for found in two)
        assert without_clock(first["rows"]) == without_clock(second["rows"])
        for key, tensor in first["state"].items():
            assert torch.equal(tensor, second["state"][key]), key


def test_two_processes_that_were_stopped_go_on_bit_for_bit(two):
    for found in two:
        assert found["resumed"]["stopped_at"] == (3, 3)
        whole = found["runs"]["VQVAE, ema", 83]
        assert without_clock(found["resumed"]["rows"]) == without_clock(whole["rows"])
        for key, tensor in whole["state"].items():
            assert torch.equal(found["resumed"]["state"][key], tensor), key


def test_one_process_is_stopped_at_the_same_step(tmp_path):
    assert stopped_and_resumed(tmp_path)["stopped_at"] == (3, 3)


def test_a_disk_that_is_full_ends_every_process_as_such(two):
    first, second = two
    assert "No space left" in first["full disk"]  # this one says so
    assert second["full disk"] == "the first process could not save the run"


def test_a_number_that_is_none_is_named_by_every_process(two):
    for found in two:
        assert found["first bad"] == (3, "kl")  # the second process's; the first's comes a step later


def test_training_starts_from_the_first_processs_weights(two):
    expected = train_in_processes.trained_again()
    for found in two:
        for key, tensor in expected.items():
            torch.testing.assert_close(found["again"][key], tensor, rtol=0, atol=1e-8, msg=key)


@pytest.mark.parametrize("count", [7, 2, 1])  # the second of two processes has three rows, one, none
def test_rows_are_gathered_in_order_with_the_whole_losss_gradients(two, count):
    expected = coupled_gradients(count)
    for name in ("rows", "total"):
        for found in two:
            torch.testing.assert_close(found["coupled"][count][name], expected[name], rtol=0, atol=1e-14)
    parts = [found["coupled"][count]["gradient"] for found in two]
    assert [len(part) for part in parts] == [-(-count // 2), count // 2]
    torch.testing.assert_close(torch.cat(parts), expected["gradient"], rtol=0, atol=1e-12)


def test_parts_may_be_as_uneven_as_they_like(two):
    expected = coupled_gradients(5)
    first, last = (found["all with the last"] for found in two)
    assert torch.equal(first["rows"], expected["rows"])
    assert len(first["gradient"]) == 0
    torch.testing.assert_close(last["gradient"], expected["gradient"], rtol=0, atol=1e-12)


def test_what_else_processes_tell_each_other(two):
    for found in two:
        assert found["integers"].tolist() == [0, 1, 2, 3, 4]
        assert found["gradient"].tolist() == [[3.0, 3.0], [3.0, 3.0]]  # 1 of one, 2 of the other
        assert found["agreed"] == (True, False, True)
        assert found["from first"] == Path("0")


@pytest.mark.skipif(sys.platform != "linux", reason="looks for threads in /proc")
def test_the_groups_threads_end_with_it(two):
    """One that is left frees its tensors whenever it likes, and where Python is gone by then, the process aborts."""
    for found in two:
        before, after = (sum("gloo" in name for name in names) for names in found["threads"])
        assert before > 0
        assert after == 0


def test_a_process_that_is_alone_gets_back_what_it_gave():
    tensor = torch.zeros(3, 2, requires_grad=True)
    assert gathered(tensor) is tensor
    assert summed(tensor) is tensor
    assert own_part(tensor).data_ptr() == tensor.data_ptr()
    assert agreed(True, False) == (True, False)
    assert from_first("text") == "text"
    tensor.grad = torch.ones(3, 2)
    sum_gradients([tensor])
    assert torch.equal(tensor.grad, torch.ones(3, 2))


def test_a_message_that_fails_is_a_lost_process(monkeypatch):
    def closed(*args):
        raise RuntimeError("[pair.cc:561] Connection closed by peer")

    monkeypatch.setattr(torch.distributed, "all_reduce", closed)
    with pytest.raises(LostProcessError, match=r"^another process of this run has ended or does not answer$"):
        all_reduced(torch.zeros(1))
    # An OSError, so that a process that waits for the first's folder while that refuses it ends without a traceback.
    assert issubclass(LostProcessError, OSError)
