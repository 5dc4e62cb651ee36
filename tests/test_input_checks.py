"""The checks that all levels share, where levels 1 and 2 do not reach them; their rows are in test_hostile.py."""

import numpy as np
import pytest
import torch

from comparison import assert_one_line
from input_checks import check_arrays, check_finite, check_images, check_labels, check_latents, require_memory

KINDS = {np.ndarray: np.asarray, torch.Tensor: torch.tensor}
GOOD_LABELS = [[0, 3], [2, 2]]
BAD_LABELS = {
    "negative": ([-1, 0], "classes from 0 to 3, got -1 to 0"),
    "too large": ([0, 4], "classes from 0 to 3, got 0 to 4"),
    "floats": ([0.0, 1.0], "integers of shape"),
    "booleans": ([True, False], "integers of shape .* got bool"),
    "one too few": ([0], "integers of shape"),
    "a column": ([[0], [1]], "integers of shape"),
    "a scalar": (1, "integers of shape"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_labels(kind):
    for labels in GOOD_LABELS:
        check_labels(kind, KINDS[kind](labels), 2, 4)
    check_labels(kind, KINDS[kind](np.array([0, 3], np.uint8)), 2, 4)


@pytest.mark.parametrize("name", BAD_LABELS)
@pytest.mark.parametrize("kind", KINDS)
def test_bad_labels(kind, name):
    labels, says = BAD_LABELS[name]
    with pytest.raises(ValueError, match=f"c must be {says}") as error:
        check_labels(kind, KINDS[kind](labels), 2, 4)
    assert_one_line(error)


@pytest.mark.parametrize("labels", [[0, 1], None, np.array([0, 1])])
def test_labels_of_another_kind(labels):
    with pytest.raises(ValueError, match="c must be integers") as error:
        check_labels(torch.Tensor, labels, 2, 4)
    assert_one_line(error, type(labels).__name__)


@pytest.mark.parametrize("kind", KINDS)
def test_images_of_other_sizes_and_ranges(kind):
    x = KINDS[kind](np.linspace(-1, 2, 2 * 3 * 8 * 4, dtype=np.float32).reshape(2, 3, 8, 4))
    check_images(kind, x, image_shape=(3, 8, 4), bounds=None)
    check_images(kind, x.clip(0, 1), image_shape=[3, 8, 4])
    with pytest.raises(ValueError, match=r"x must be floats in \[0, 1\], got -1.0 to 2.0") as error:
        check_images(kind, x, image_shape=(3, 8, 4))
    assert_one_line(error)
    with pytest.raises(ValueError, match=r"shape \(N, 3, 4, 8\), got \(2, 3, 8, 4\)"):
        check_images(kind, x, image_shape=(3, 4, 8), bounds=None)
    with pytest.raises(ValueError, match="x must be finite"):
        check_images(kind, x * float("inf"), image_shape=(3, 8, 4), bounds=None)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_one_entry_is_enough(kind, value):
    array = np.zeros((4, 5))
    array[2, 3] = value
    with pytest.raises(ValueError, match="a must be finite"):
        check_finite("a", KINDS[kind](array))
    with pytest.raises(ValueError, match="mu must be finite"):
        check_latents(kind, mu=KINDS[kind](array))


def test_a_tensor_with_gradients_or_of_a_derived_class_is_a_tensor():
    parameter = torch.nn.Parameter(torch.zeros(2, 3))
    check_latents(torch.Tensor, like=parameter, latent_dim=3, z=parameter * 2, mu=parameter)


def test_another_device_is_named():
    with pytest.raises(ValueError, match=r"z must have the dtype and device of the parameters \(float32, meta\), got"):
        check_arrays(torch.Tensor, like=torch.zeros(1, device="meta"), z=torch.zeros(1))


def test_memory_that_is_there_is_not_refused():
    require_memory(2**20, "this")
    with pytest.raises(MemoryError, match="this would need 1,073,741,824 GiB of memory, and this machine has"):
        require_memory(2**60, "this")
