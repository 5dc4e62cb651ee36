"""Settings for all tests, and what several of them use to look at a script that refuses."""

import contextlib
import importlib
import io
import os

import pytest
import torch
from small_models import few_images
from threadpoolctl import threadpool_limits

# The tests' batches are small: a second thread gains nothing, and where the cores are shared, waiting for it costs ten
# times the work itself. One thread also adds numbers up in one order.
os.environ["OMP_NUM_THREADS"] = "1"  # for the scripts that the tests start
torch.set_num_threads(1)
threadpool_limits(1)


def files_below(folder):
    return {path: path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


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

    def call(script, *args, own=True):
        before = files_below(tmp_path)
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), pytest.raises(SystemExit) as stopped:
            importlib.import_module(script).main([str(arg) for arg in args])
        message = err.getvalue()
        assert stopped.value.code == 2
        assert "Traceback" not in message
        assert out.getvalue() == ""
        assert files_below(tmp_path) == before
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
