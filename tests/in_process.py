"""A script's main() called in the tests' own process, and what must be true when it refuses."""

import contextlib
import io
from types import SimpleNamespace

import pytest
import sklearn.datasets

DIGITS, LABELS = sklearn.datasets.load_digits(return_X_y=True)


def run_main(main, *args, cwd="."):
    """Call main() in a folder: its exit code, its stdout and its stderr."""
    out, err, code = io.StringIO(), io.StringIO(), 0
    with contextlib.chdir(cwd), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main([str(arg) for arg in args])
        except SystemExit as stop:
            code = stop.code or 0
    return SimpleNamespace(code=code, stdout=out.getvalue(), stderr=err.getvalue())


@contextlib.contextmanager
def few_digits():
    """Scikit-learn gives its first 250 digits only: 200 to train, 50 to test."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sklearn.datasets, "load_digits", lambda return_X_y: (DIGITS[:250], LABELS[:250]))
        yield


def assert_refused(main, script, *args, cwd):
    """One line on stderr, which is returned, exit code 2, and a folder that is as it was."""
    before = contents(cwd)
    done = run_main(main, *args, cwd=cwd)
    assert (done.code, done.stdout) == (2, "")
    assert done.stderr.startswith(f"{script}: error: ")
    assert done.stderr.endswith("\n")
    assert len(done.stderr.splitlines()) == 1
    assert contents(cwd) == before
    return done.stderr


def contents(folder):
    return {path: path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}
