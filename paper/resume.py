"""The one file of a run that counts, resume.pt: a run goes on from it alone, and every other file follows from it.

    write_state     a run's state -> the file, and behind it a checksum
    read_state      the file -> the state, if it is whole and the script's own
    read_options    the state -> the options of its run
    check_fits      what PyTorch would take and stumble over later
    prepare_resume  the number of threads, and what else the last digits depend on

A file comes from a disk, from another machine, from another version: whatever it holds, the answer is a state that a
run can go on from, or one line.
"""

import contextlib
import hashlib
import io
import pickle
import platform
from dataclasses import fields
from pathlib import Path

import torch

from level_script import note
from processes import num_processes
from run_files import write_beside
from trainable import require

RESUME_STATE = "resume.pt"
DAMAGES = (RuntimeError, pickle.UnpicklingError, EOFError, LookupError, TypeError, AttributeError, ValueError)
STATE = {  # what a resume state holds, and of which type
    "script": str,
    "config": dict,
    "model": dict,
    "optimizers": dict,
    "order": torch.Tensor,
    "noise": torch.Tensor,
    "device": str,
    "epoch": int,
    "step": int,
    "seconds": float,
    "permutation": torch.Tensor,
    "sums": dict,
    "rows": list,
    "threads": int,
    "processes": int,
    "images": list,
    "versions": dict,
}
MOMENTS = {  # what an optimiser keeps of a parameter: the number of its steps, and tensors of the parameter's shape
    torch.optim.Adam: {"step", "exp_avg", "exp_avg_sq"},
    torch.optim.Adagrad: {"step", "sum"},
}


def write_state(folder, state):
    """Commit a run's state: its bytes and behind them their checksum, since a flipped bit would train on unnoticed."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    content = buffer.getvalue()
    write_beside(folder / RESUME_STATE, content + hashlib.sha256(content).digest())


def read_state(folder, script):
    """The resume state of a run that `script` left in a folder.

    Raises FileNotFoundError if there is none, ValueError if it is damaged or another script's.
    """
    path = Path(folder) / RESUME_STATE
    if not path.is_file():
        raise FileNotFoundError(f"no {RESUME_STATE} in {folder}: --resume expects the folder of a run that was saved")
    content = path.read_bytes()
    content, checksum = content[:-32], content[-32:]
    try:
        require(hashlib.sha256(content).digest() == checksum, "its checksum does not fit")
        state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
        require(isinstance(state, dict), f"it is a {type(state).__name__}")
        for name, kind in STATE.items():
            require(isinstance(state.get(name), kind), f"its {name!r} is missing or damaged")
        require(
            min(state["epoch"], state["threads"], state["processes"]) >= 1 and state["threads"] <= 4096,
            "its counters are damaged",
        )
        require([row_number(row) for row in state["rows"]] == list(range(1, state["epoch"])), "its 'rows' are damaged")
        require(len({tuple(row) for row in state["rows"]}) <= 1, "its 'rows' differ in their columns")
    except DAMAGES as error:
        raise not_a_state(path, error) from None
    if state["script"] != script:
        raise ValueError(f"{path} was left by {state['script']}: go on with that script, not with {script}")
    return state


def read_options(state, config_class, folder):
    """The options in a resume state. Raises ValueError if they are not those of a run of this script."""
    config = state["config"]
    unknown = sorted(map(str, config.keys() - {each.name for each in fields(config_class)}))
    try:
        require(not unknown, f"unknown options: {', '.join(unknown)}")
        options = config_class(**config)
        options.check(flags=True)
    except ValueError as error:
        raise not_a_state(Path(folder) / RESUME_STATE, error) from None
    return options


def not_a_state(path, error):
    """The ValueError to raise for a resume state that cannot be what a run saved."""
    reason = " ".join(str(error).split())
    return ValueError(f"{path} is not the whole state of a run ({reason}): start a new one")


def row_number(row):
    """The epoch that a row of the table is about, or None if it is no row: numbers by name, with the seconds."""
    numbers = isinstance(row, dict) and all(isinstance(value, int | float) for value in row.values())
    return row.get("epoch") if numbers and "seconds" in row else None


def check_fits(state, optimizers, num_images, steps):
    """Raises ValueError for a state that PyTorch takes, and stumbles over in a later step or silently ignores.

    optimizers: by the name of their term, after they took in theirs. num_images, steps: of an epoch.
    """
    order, step, sums = state["permutation"].sort().values, state["step"], state["sums"]
    require(torch.equal(order, torch.arange(num_images)), "its data order is that of other images")
    require(0 <= step < steps, f"its epoch has no step {step}")
    begun = (state["epoch"], step) > (1, 0)
    for name, optimizer in optimizers.items():
        kind = type(optimizer)
        require(kind in MOMENTS, f"what {kind.__name__} keeps of a parameter is not in resume.MOMENTS")
        for parameter, moments in optimizer.state.items():
            require(moments.keys() == MOMENTS[kind], f"the optimizer of {name} is not {kind.__name__}'s")
            for moment_name, moment in moments.items():
                shape = () if moment_name == "step" else parameter.shape
                require(getattr(moment, "shape", None) == shape, f"the optimizer of {name} is of another shape")
        # By their steps: Adam makes a parameter's moments in its first one, Adagrad all of them when it is built.
        seen = any(moments["step"] > 0 for moments in optimizer.state.values())
        require(seen == begun, f"the optimizer of {name} has not seen the run's steps")
        num_parameters = sum(len(group["params"]) for group in optimizer.param_groups)
        whole = kind is not torch.optim.Adagrad or len(optimizer.state) == num_parameters
        require(whole, f"the optimizer of {name} lacks parameters")
    require(sums.keys() == {"names", "totals", "counts"}, "its sums are damaged")
    totals, names = sums["totals"], sums["names"]
    whole = totals is None if step == 0 else totals.shape == (len(sums["counts"]), len(set(names)))
    require(whole and len(set(names)) == len(names), "its sums are damaged")


def prepare_resume(state):
    """Use the run's number of threads, which the last digits depend on; say which version or machine has changed."""
    torch.set_num_threads(state["threads"])
    now = versions() | {"processes": num_processes()}
    for name, was in (state["versions"] | {"processes": state["processes"]}).items():
        if was != now.get(name):
            note(f"the run was started with {name} {was}, this is {now.get(name)}: last digits may differ")


def versions():
    """What the last digits depend on beside the seed: the versions, and the type of the CPU."""
    return {"python": platform.python_version(), "torch": str(torch.__version__), "cpu": cpu_type()}


def cpu_type():
    """The processor's name, as far as the system tells."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
