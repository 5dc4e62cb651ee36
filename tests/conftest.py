"""Settings for all tests, and what several of them use to look at a script that refuses."""

import contextlib
import functools
import importlib
import io
import os

import pytest
import torch
from threadpoolctl import threadpool_limits

import script_runs
from in_process import contents
from in_process import few_digits as digits_cut_short
from small_models import few_images

# The tests' batches are small: a second thread gains nothing, and where the cores are shared, waiting for it costs ten
# times the work itself. One thread also adds numbers up in one order.
os.environ["OMP_NUM_THREADS"] = "1"  # for the scripts that the tests start
torch.set_num_threads(1)
threadpool_limits(1)


@pytest.fixture
def refused(tmp_path, monkeypatch):
    """A function that runs a script, expects it to refuse, and gives the message."""

    import experiment
    import vae_lowlevel

    def no_training(*args, **kwargs):
        raise AssertionError("started to train")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(vae_lowlevel, "train", no_training)
    monkeypatch.setattr(experiment, "train", no_training)

    def call(script, *args, own=True, noted=False):
        before = contents(tmp_path)
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), pytest.raises(SystemExit) as stopped:
            importlib.import_module(script).main([str(arg) for arg in args])
        message = err.getvalue()
        if noted:  # that an older file does not say what it holds
            note, message = message.split("\n", 1)
            assert note.startswith("note: ")
        assert stopped.value.code == 2
        assert "Traceback" not in message
        assert out.getvalue() == ""
        assert contents(tmp_path) == before
        if own:  # our own message is one line; those of argparse and tyro also show the usage
            assert message.startswith(f"{script}.py: error: ")
            assert message.count("\n") == 1
            assert message.endswith("\n")
        assert len(message.splitlines()) < 20
        return message

    return call


@pytest.fixture(scope="session")
def images():
    """Ten training and five test images, 8x8."""
    return few_images()


@pytest.fixture
def few_digits():
    """Scikit-learn gives its first 250 digits only: 200 to train, 50 to test."""
    with digits_cut_short():
        yield


@pytest.fixture
def no_pictures(monkeypatch):
    """Most of a short run's time goes into them."""
    monkeypatch.setattr("pictures.draw_all", lambda *args: None)
    monkeypatch.setattr("vq_vae.draw", lambda *args: None)


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """A function that trains a paper for two epochs on few digits, once, and gives its output and its folder."""

    @functools.cache
    def train_once(script):
        cwd, paper = tmp_path_factory.mktemp(script), script_runs.PAPERS[script]
        flags = [*paper.flags, *paper.shared, *script_runs.ON_CPU, "--epochs", 2, "--out", "run"]
        with digits_cut_short(), script_runs.nothing_replaced():
            done = script_runs.run(script, *flags, cwd=cwd)
        assert done.code == 0, done.stderr
        done.folder = cwd / "run"
        return done

    return train_once
