"""What every level asks of its inputs, said once: kind, dtype, shape and range of arrays, and the memory they need.

Each check raises one sentence that names the argument, what was expected and what was got: ValueError, and MemoryError
for sizes that this machine does not have. Where `kind` is asked for it is np.ndarray or torch.Tensor; the checks use
only what both have in common, so PyTorch is not imported. `like` is an array, such as one of the weights, whose dtype
and device the others must have.
"""

import math
import os

FLOATS = ("float32", "float64", "bfloat16")  # the last in PyTorch alone; float16 overflows in a sum of 784 pixels


# --- Arrays ----------------------------------------------------------------------------------------------------------


def check_images(kind, x, like=None, image_shape=(1, 28, 28), bounds=(0, 1)):
    """x: at least one image, floats of shape (N, *image_shape) within the bounds; without bounds any finite ones."""
    check_arrays(kind, like, x=x)
    shape = tuple(x.shape)
    if len(shape) != 1 + len(image_shape) or shape[1:] != tuple(image_shape) or shape[0] == 0:
        raise ValueError(f"x must be at least one image, shape {_shape('N', *image_shape)}, got {shape}")
    if bounds is None:
        return check_finite("x", x)
    least, most = _extremes(x)
    if not (least >= bounds[0] and most <= bounds[1]):  # NaN fails every comparison
        raise ValueError(f"x must be floats in {list(bounds)}, got {least} to {most}: scale it, as x / 255")


def check_latents(kind, like=None, latent_dim=None, **latents):
    """Latents by name: finite floats, all of one shape (N, latent_dim); without a latent_dim any number of columns."""
    check_arrays(kind, like, **latents)
    shapes = {name: tuple(array.shape) for name, array in latents.items()}
    shape = next(iter(shapes.values()))
    if len(set(shapes.values())) > 1 or len(shape) != 2 or 0 in shape or latent_dim not in (None, shape[1]):
        got = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
        raise ValueError(f"expected shape {_shape('N', latent_dim or 'Z')}, got {got}")
    for name, array in latents.items():
        check_finite(name, array)


def check_logits(kind, logits, x):
    """logits: finite floats of the shape of x."""
    check_arrays(kind, logits=logits)
    if logits.shape != x.shape:
        raise ValueError(f"logits and x must have one shape, got {tuple(logits.shape)} and {tuple(x.shape)}")
    check_finite("logits", logits)


def check_labels(kind, c, num_images, num_classes):
    """c: one class for each image, integers of shape (N,), from 0 to num_classes - 1."""
    if not isinstance(c, kind) or "int" not in str(c.dtype) or tuple(c.shape) != (num_images,):
        got = f"{dtype_name(c)} {tuple(c.shape)}" if isinstance(c, kind) else _name(type(c))
        raise ValueError(f"c must be integers of shape ({num_images},), one class for each image, got {got}")
    least, most = _extremes(c)
    if not (least >= 0 and most < num_classes):
        raise ValueError(f"c must be classes from 0 to {num_classes - 1}, got {least} to {most}")


def check_arrays(kind, like=None, **arrays):
    """Arrays by name: of this kind, with floats, and of the dtype and on the device of `like`."""
    if not isinstance(like, kind | None):
        raise ValueError(f"the parameters must be {_name(kind)}, got {_name(type(like))}")
    for name, array in arrays.items():
        if not isinstance(array, kind):
            raise ValueError(f"{name} must be a {_name(kind)}, got {_name(type(array))}")
        if dtype_name(array) not in FLOATS:
            hint = ": scale it, as x / 255" if dtype_name(array) == "uint8" else ""
            raise ValueError(f"{name} must be float32 or float64, got {dtype_name(array)}{hint}")
        if like is not None and (array.dtype != like.dtype or array.device != like.device):
            want, got = (f"{dtype_name(a)}, {a.device}" for a in (like, array))
            raise ValueError(f"{name} must have the dtype and device of the parameters ({want}), got {got}")


def check_finite(name, array):
    least, most = (0, 0) if 0 in array.shape else _extremes(array)
    if not (least > -math.inf and most < math.inf):
        raise ValueError(f"{name} must be finite, got NaN or infinity: if training diverged, lower the learning rate")


def _extremes(array):
    """The least and the greatest entry; where an entry is NaN, both are."""
    if hasattr(array, "aminmax"):  # PyTorch finds both in one pass
        return array.detach().aminmax()
    return array.min(), array.max()


def dtype_name(array):
    return str(array.dtype).removeprefix("torch.")


def _name(kind):
    return f"{kind.__module__}.{kind.__qualname__}".removeprefix("builtins.")


def _shape(*sizes):
    return f"({', '.join(map(str, sizes))})"


# --- Numbers ---------------------------------------------------------------------------------------------------------


def check_beta(beta):
    """beta: the weight of the KL, a finite number of at least 0."""
    try:
        good = bool(0 <= beta < math.inf)  # NaN fails every comparison
    except (TypeError, ValueError, RuntimeError):  # no number at all, or many
        good = False
    if not good:
        raise ValueError(f"beta must be a finite number of at least 0, got {beta}")


def check_latent_dim(latent_dim, weight_shapes):
    """latent_dim: an integer of at least 1, for which this machine has the memory. weight_shapes: as at level 1."""
    try:
        good = int(latent_dim) == latent_dim >= 1 and not isinstance(latent_dim, float)
    except (TypeError, ValueError, OverflowError):
        good = False
    if not good:
        raise ValueError(f"latent_dim must be an integer of at least 1, got {latent_dim}")
    count = sum(map(math.prod, weight_shapes(int(latent_dim)).values()))
    require_memory(8 * count, f"latent_dim {latent_dim}")  # 8: they are drawn in float64


# --- Memory ----------------------------------------------------------------------------------------------------------


def require_memory(num_bytes, what):
    """Raises MemoryError if this machine has less. Asking first matters: Linux grants memory that is not there."""
    if (there := total_memory()) and num_bytes > there:
        raise MemoryError(f"{what} would need {in_gib(num_bytes)} of memory, and this machine has {in_gib(there)}")


def total_memory():
    """The bytes of memory in this machine, or None where Python cannot say."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):  # Windows has no sysconf, others not these names
        return None


def in_gib(num_bytes):
    """Bytes in the words of a message, rounded up. For integers of any size."""
    return f"{-(-num_bytes // 2**30):,} GiB"
