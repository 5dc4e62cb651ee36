"""What every level asks of its inputs, said once: kind, dtype, shape and range of arrays, and the memory they need.

Each check raises one sentence that names the argument, what was expected and what was got: ValueError, and MemoryError
for sizes that the machine does not have. They take NumPy's arrays and PyTorch's tensors alike; PyTorch is not imported.
"""

import os


def in_gib(num_bytes):
    """Bytes in the words of a message, rounded up. For integers of any size."""
    return f"{-(-num_bytes // 2**30):,} GiB"


def total_memory():
    """The bytes of memory in this machine, or None where Python cannot say."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):  # Windows has no sysconf, others not these names
        return None


def require_memory(num_bytes, what):
    """Raises MemoryError if this machine has less. Asking first matters: Linux grants memory that is not there."""
    if (there := total_memory()) and num_bytes > there:
        raise MemoryError(f"{what} would need {in_gib(num_bytes)} of memory, and this machine has {in_gib(there)}")
