"""The files of a run: its folder, which has one owner at a time, and what they say about the model in them.

Every file is written beside its place and renamed into it, so that it is always the old one or the new one, whole.
"""

import contextlib
import itertools
import json
import math
import os
import tempfile
from pathlib import Path

from input_checks import check_finite, dtype_name

# --- The folder of a run ---------------------------------------------------------------------------------------------


def write_beside(path, content):
    """Write bytes, or text as UTF-8, so that `path` is always either the old file or the whole new one.

    Raises OSError, for example when the disk is full; nothing of the new file is left then.
    """
    beside = Path(f"{path}.tmp")
    try:
        with beside.open("wb") as file:
            file.write(content if isinstance(content, bytes) else content.encode())
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            beside.unlink()
        if isinstance(error, OSError):
            raise OSError(f"cannot write {path} ({error.strerror or error})") from None
        raise


def write_or_rescue(path, write):
    """write(path); where that fails, write into a new folder of the system's temporary ones and raise OSError."""
    try:
        write(path)
    except OSError as error:
        rescued = Path(tempfile.mkdtemp(prefix="rescued-"), Path(path).name)
        try:
            write(rescued)
        except OSError as again:
            rescued.parent.rmdir()
            raise OSError(f"{error}; and {again}: they are lost") from None
        raise OSError(f"{error}; they were saved as {rescued}") from None


@contextlib.contextmanager
def claim_run_folder(out, script):
    """Make the folder that one run owns and lock it; gives its path: `out`, or the next free `runs/<script>-NNN`.

    Of several processes that want one folder at the same moment one gets it, the others FileExistsError; those that
    number themselves get a folder each. The lock is the system's own (flock) on the file `.lock` in the folder, so it
    ends with its process, whatever ended that. A folder that holds nothing else counts as empty. If the block ends in
    an exception and nothing was written, what was made here is removed.

    Raises FileExistsError if the folder holds something (nothing is ever overwritten) or belongs to a run that is
    still going, OSError if it cannot be written to. Not covered: two machines on a network drive without locks.
    """
    out = out if out is None else Path(os.path.expanduser(out))
    if out and out.is_dir():
        _require_empty(out)  # before a lock is put into it
    with contextlib.ExitStack() as stack:
        folder, made = _make_run_folder(out, script)
        _lock(stack, folder, f"--out {folder} belongs to a run that is still going: choose a new folder")
        _require_empty(folder)  # another run may have had it first, and be done already
        try:
            yield folder
        except BaseException:
            if _is_empty(folder):
                (folder / ".lock").unlink()
                with contextlib.suppress(OSError):  # a parent may have got another child by now
                    for path in made:
                        path.rmdir()
            raise


@contextlib.contextmanager
def lock_run_folder(folder):
    """Lock the folder of a run that is there, to go on with it; gives its path. The lock is `claim_run_folder`'s.

    Raises FileNotFoundError if there is no such folder, FileExistsError if another process is at work in it, OSError if
    it cannot be written to.
    """
    folder = Path(os.path.expanduser(folder))
    if not folder.is_dir():
        raise FileNotFoundError(f"no run in {folder}: expected a folder that a training script wrote")
    with contextlib.ExitStack() as stack:
        _lock(stack, folder, f"another process is at work on the run in {folder}: wait for its end, or stop it")
        yield folder


def _make_run_folder(out, script):
    """The run's folder, new or found there, and the list of what had to be made."""
    for number in itertools.count(1):
        folder = out or Path("runs", f"{script}-{number:03d}")
        try:
            made = [path for path in (folder, *folder.parents) if not path.exists()]
            folder.mkdir(parents=True, exist_ok=out is not None)
            return folder, made
        except OSError as error:
            if out or not isinstance(error, FileExistsError):  # mkdir is atomic: a number is taken by one process
                raise _not_writable(folder, error) from None


def _lock(stack, folder, taken):
    """Hold the folder's lock as long as `stack`. Raises FileExistsError with the line `taken` if another has it."""
    from filelock import FileLock, Timeout

    try:
        stack.enter_context(FileLock(folder / ".lock", timeout=0))
    except Timeout:
        raise FileExistsError(taken) from None
    except OSError as error:
        raise _not_writable(folder, error) from None


def _not_writable(folder, error):
    return OSError(f"cannot write to --out {folder} ({error.strerror}): choose a folder you may write to")


def _is_empty(folder):
    return all(path.name == ".lock" for path in folder.iterdir())


def _require_empty(folder):
    if not _is_empty(folder):
        raise FileExistsError(f"--out {folder} is not empty and nothing in it is overwritten: choose a new folder")


# --- What the files say about themselves -----------------------------------------------------------------------------


def write_config(folder, script, model, training):
    """Write config.json, for people and for level 3: who wrote the run, what its weights are, how they were trained.

    model: a dict as in `weights_metadata`. training: the options that were given.
    """
    content = {"script": script, "model": model, "training": training}
    write_beside(Path(folder, "config.json"), json.dumps(content, indent=2, default=str) + "\n")


def default_model(latent_dim):
    """What levels 1 and 2 write about their weights: a dict as in `weights_metadata`."""
    return {
        "class": "VAE",
        "latent_dim": latent_dim,
        "architecture": "conv",
        "image_shape": [1, 28, 28],
        "likelihood": "bernoulli",
    }


def weights_metadata(model):
    """A model's description as the metadata of its .safetensors file, text by name.

    model: its class by name and the options that its numbers depend on, {"class": "VAE", "latent_dim": 20, ...}.
    """
    return {"model": json.dumps(model)}


def read_weights_metadata(path):
    """The description that `weights_metadata` put into a .safetensors file, or None if there is none.

    Raises FileNotFoundError, or ValueError if the file is damaged or the description cannot be read.
    """
    from safetensors import SafetensorError, safe_open

    if not Path(path).is_file():
        raise FileNotFoundError(f"no weights at {path}: expected a .safetensors file that a training script wrote")
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
    except (SafetensorError, ValueError) as error:
        raise ValueError(f"{path} is not a whole .safetensors file ({error}): train or copy it again") from None
    try:
        model = json.loads(metadata.get("model", "null"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: what it says about its model is not JSON ({error})") from None
    if not isinstance(model, dict | None):
        raise ValueError(f"{path}: what it says about its model must be a JSON object, got {metadata['model']:.60}")
    return model


def read_params(path, load_file, weight_shapes):
    """The parameters of levels 1 and 2 as they are in a file of any level, by name and in order.

    load_file: safetensors' own, for NumPy or PyTorch. weight_shapes: the level's function.
    Raises FileNotFoundError, or ValueError if the file is damaged or holds another model.
    """
    model = read_weights_metadata(path) or {}
    name, likelihood = model.get("class", "VAE"), model.get("likelihood", "bernoulli")
    if name not in ("VAE", "IWAE", "BetaTCVAE") or likelihood != "bernoulli":  # these differ in their training alone
        raise ValueError(
            f"{path} holds another model, of class {name!r:.60} with likelihood {likelihood!r:.60}: "
            "levels 1 and 2 compute a VAE with likelihood 'bernoulli', for this one use level 3"
        )
    try:
        params = load_file(path)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} is not a whole .safetensors file ({error}): train or copy it again") from None
    latent_dim = math.prod(params["encoder.mu.bias"].shape) if "encoder.mu.bias" in params else 1
    expected = {}
    for layer, shape in weight_shapes(max(latent_dim, 1)).items():
        num_outputs = shape[1] if "deconv" in layer else shape[0]
        expected |= {f"{layer}.weight": shape, f"{layer}.bias": (num_outputs,)}
    if wrong := sorted(expected.keys() ^ params.keys()):
        raise ValueError(f"{path} does not hold the convolutional VAE: {wrong[0]} is missing or unknown")
    if (got := {dtype_name(array) for array in params.values()}) not in ({"float32"}, {"float64"}):
        raise ValueError(f"{path} must hold float32 or float64 numbers throughout, got {', '.join(sorted(got))}")
    for name, shape in expected.items():
        if (got := tuple(params[name].shape)) != shape:
            raise ValueError(f"{path}: {name} has shape {got}, expected {shape}")
        check_finite(f"{path}: {name}", params[name])
    return {name: params[name] for name in expected}
