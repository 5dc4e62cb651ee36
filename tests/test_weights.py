"""Weights travel between the levels unchanged; a file that is not what it should be is refused in one line."""

import json
import os
from functools import partial

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file
from safetensors.torch import save_file as save_torch_file

import vae_lowlevel
import vae_numpy
import vae_paper
from comparison import LEVELS, assert_one_line, forget_description, paper_model, random_params, to_tensors
from vae_paper import VAE, ConditionalVAE

LATENT_DIM = 3
DTYPES = [np.float32, np.float64]


def write(level, path, params):
    if level == "numpy":
        vae_numpy.save_weights(path, params)
    elif level == "lowlevel":
        leaves = {name: tensor.requires_grad_() for name, tensor in to_tensors(params).items()}  # as after training
        vae_lowlevel.save_weights(path, leaves)
    else:
        paper_model(to_tensors(params)).save_weights(path)


def read(level, path):
    """What one level makes of a file: {name: array}."""
    if level == "numpy":
        return vae_numpy.load_weights(path)
    if level == "lowlevel":
        tensors = vae_lowlevel.load_weights(path)
        assert all(tensor.requires_grad for tensor in tensors.values())
    else:
        model = VAE(latent_dim=LATENT_DIM)
        model.load_weights(path)
        tensors = model.state_dict()
    return {name: tensor.detach().numpy() for name, tensor in tensors.items()}


def assert_same(got, want):
    assert list(got) == list(want)
    for name, array in want.items():
        assert got[name].dtype == array.dtype, name
        np.testing.assert_array_equal(got[name], array, err_msg=name)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("reader", LEVELS)
@pytest.mark.parametrize("writer", LEVELS)
def test_each_level_reads_what_each_level_writes(writer, reader, dtype, tmp_path):
    params = random_params(0, LATENT_DIM, dtype)
    path = tmp_path / "model.safetensors"
    write(writer, path, params)
    assert_same(read(reader, path), params)
    assert [file.name for file in tmp_path.iterdir()] == [path.name]  # nothing else is left behind


@pytest.mark.parametrize("writer", LEVELS)
def test_the_file_holds_the_parameters_and_nothing_else(writer, tmp_path):
    """Read by safetensors itself, in case a level's reader and writer share a mistake; str paths are paths too."""
    params = random_params(0, LATENT_DIM, np.float32)
    path = str(tmp_path / "model.safetensors")
    write(writer, path, params)
    stored = load_file(path)
    assert_same({name: stored.pop(name) for name in params}, params)
    assert stored == {}


@pytest.mark.parametrize("level", LEVELS)
def test_values_are_written_whatever_their_layout_in_memory(level, tmp_path):
    """A file has one layout; training may leave another in memory, such as channels_last."""
    params, path = random_params(0, LATENT_DIM), tmp_path / "model.safetensors"
    arrays = {name: np.asfortranarray(array) for name, array in params.items()}
    tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
    assert not tensors["encoder.conv2.weight"].is_contiguous()
    if level == "numpy":
        vae_numpy.save_weights(path, arrays)
    elif level == "lowlevel":
        vae_lowlevel.save_weights(path, tensors)
    else:
        paper_model(tensors).save_weights(path)
    assert_same(read("numpy", path), params)


# --- VAE.save and VAE.load -------------------------------------------------------------------------------------------

MODELS = {
    "default": partial(VAE),
    "beta": partial(VAE, latent_dim=2, beta=4.0),
    "mlp": partial(VAE, latent_dim=2, architecture="mlp", hidden_dims=(32, 16)),
    "32x32 colour": partial(VAE, latent_dim=2, image_shape=(3, 32, 32)),
    "conditional": partial(ConditionalVAE, num_classes=4, latent_dim=2, beta=0.5),
    "conditional mlp": partial(ConditionalVAE, num_classes=4, architecture="mlp", hidden_dims=(16,)),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", MODELS)
def test_save_and_load_give_the_model_back(name, dtype, tmp_path):
    model = MODELS[name]().to(dtype)
    folder = tmp_path / "new" / "folder"
    model.save(folder, script="a.py", training={"out": folder})
    loaded = VAE.load(folder)
    assert type(loaded) is type(model)
    assert loaded.config() == model.config()
    assert_same(
        {k: v.numpy() for k, v in loaded.state_dict().items()}, {k: v.numpy() for k, v in model.state_dict().items()}
    )
    assert json.loads((folder / "config.json").read_text())["script"] == "a.py"
    x = torch.rand(2, *model.image_shape, dtype=dtype, generator=torch.Generator().manual_seed(0))
    eps = torch.ones(2, model.latent_dim, dtype=dtype)
    c = torch.tensor([0, 3]) if model.num_classes else None
    torch.testing.assert_close(loaded.elbo(x, eps, c=c), model.elbo(x, eps, c=c), rtol=0, atol=0)


def test_load_returns_the_class_in_the_folder(tmp_path):
    VAE(latent_dim=LATENT_DIM).save(tmp_path / "plain")
    ConditionalVAE(latent_dim=LATENT_DIM).save(tmp_path / "conditional")
    assert type(VAE.load(tmp_path / "plain")) is VAE
    assert type(VAE.load(tmp_path / "conditional")) is ConditionalVAE
    assert type(ConditionalVAE.load(tmp_path / "conditional")) is ConditionalVAE
    with pytest.raises(ValueError, match="ConditionalVAE") as error:
        ConditionalVAE.load(tmp_path / "plain")
    assert_one_line(error, tmp_path / "plain")


def change_config(folder, **changes):
    content = json.loads((folder / "config.json").read_text())
    content["model"] |= changes
    (folder / "config.json").write_text(json.dumps(content))


BROKEN_FOLDERS = {
    "no folder": (FileNotFoundError, lambda folder: folder.rename(folder.with_name("elsewhere"))),
    "no config": (FileNotFoundError, lambda folder: (folder / "config.json").unlink()),
    "no weights": (FileNotFoundError, lambda folder: (folder / "model.safetensors").unlink()),
    "empty config": (ValueError, lambda folder: (folder / "config.json").write_text("")),
    "config that is a list": (ValueError, lambda folder: (folder / "config.json").write_text("[1, 2]")),
    "config without model": (ValueError, lambda folder: (folder / "config.json").write_text('{"a": 1}')),
    "binary config": (ValueError, lambda folder: (folder / "config.json").write_bytes(b"\xff\xfe\x00")),
    "unknown class": (ValueError, lambda folder: change_config(folder, **{"class": "GAN"})),
    "unknown option": (ValueError, lambda folder: change_config(folder, depth=3)),
    "option of another type": (ValueError, lambda folder: change_config(folder, latent_dim="three")),
    "option out of range": (ValueError, lambda folder: change_config(folder, latent_dim=0)),
    "another latent size": (ValueError, lambda folder: change_config(folder, latent_dim=4)),
    "another architecture": (ValueError, lambda folder: change_config(folder, architecture="mlp")),
}


@pytest.mark.parametrize("name", BROKEN_FOLDERS)
def test_a_broken_folder_is_refused(name, tmp_path):
    folder = tmp_path / "run"
    VAE(latent_dim=LATENT_DIM).save(folder)
    forget_description(folder / "model.safetensors")
    error_type, damage = BROKEN_FOLDERS[name]
    damage(folder)
    with pytest.raises(error_type) as error:
        VAE.load(folder)
    assert_one_line(error, folder)


def test_load_model_takes_the_folder_or_the_file_alone(tmp_path):
    """With config.json beside it a file becomes the model described there, alone the default one of its latent size."""
    ConditionalVAE(num_classes=4, latent_dim=2).save(tmp_path)
    assert vae_paper.load_model(tmp_path / "model.safetensors").num_classes == 4
    (tmp_path / "alone").mkdir()
    vae_numpy.save_weights(tmp_path / "alone" / "a.safetensors", random_params(0, 7))
    model = vae_paper.load_model(tmp_path / "alone" / "a.safetensors")
    assert (type(model), model.latent_dim, next(model.parameters()).dtype) == (VAE, 7, torch.float64)


# --- Files that are something else -----------------------------------------------------------------------------------


def damaged(**changes):
    """A writer of the right file with some tensors changed, added, or left out (None)."""

    def write_to(path):
        params = random_params(0, LATENT_DIM, np.float32) | {name.replace("__", "."): v for name, v in changes.items()}
        save_file({name: array for name, array in params.items() if array is not None}, path)

    return write_to


def cut_to(fraction):
    def write_to(path):
        damaged()(path)
        content = path.read_bytes()
        path.write_bytes(content[: int(len(content) * fraction)])

    return write_to


def all_as(dtype):
    def write_to(path):
        save_file({name: array.astype(dtype) for name, array in random_params(0, LATENT_DIM, gain=9.0).items()}, path)

    return write_to


def one_value(value):
    bias = np.zeros(256, np.float32)
    bias[17] = value
    return damaged(encoder__fc__bias=bias)


BROKEN_FILES = {
    "missing": lambda path: None,
    "a folder": lambda path: path.mkdir(),
    "empty": lambda path: path.write_bytes(b""),
    "text": lambda path: path.write_text("These are not weights.\nNot at all.\n" * 100),
    "short text": lambda path: path.write_text("no"),
    "half of it": cut_to(0.5),
    "all but its last bytes": cut_to(0.999999),
    "its first bytes": cut_to(0.00001),
    "no tensors": lambda path: save_file({}, path),
    "other keys": lambda path: save_file({"weight": np.zeros((3, 3)), "bias": np.zeros(3)}, path),
    "one key too many": damaged(encoder__fc__extra=np.zeros(3, np.float32)),
    "one key missing": damaged(decoder__deconv2__bias=None),
    "no encoder.mu.bias": damaged(encoder__mu__bias=None),
    "wrong shape": damaged(encoder__fc__weight=np.zeros((256, 3137), np.float32)),
    "transposed": damaged(decoder__fc2__weight=np.zeros((256, 3136), np.float32)),
    "two latent sizes": damaged(encoder__logvar__bias=np.zeros(LATENT_DIM + 1, np.float32)),
    "a scalar": damaged(encoder__mu__bias=np.array(1, np.float32)),
    "no latents": damaged(encoder__mu__bias=np.zeros(0, np.float32)),
    "NaN": one_value(np.nan),
    "infinity": one_value(-np.inf),
    "mixed dtypes": damaged(decoder__fc1__bias=np.zeros(256, np.float64)),
    "integers": all_as(np.int32),
    "booleans": all_as(bool),
}


@pytest.mark.parametrize("name", BROKEN_FILES)
@pytest.mark.parametrize("level", LEVELS)
def test_a_broken_file_is_refused(level, name, tmp_path):
    path = tmp_path / "model.safetensors"
    BROKEN_FILES[name](path)
    with pytest.raises(FileNotFoundError if name in ("missing", "a folder") else ValueError) as error:
        read(level, path)
    assert_one_line(error, path)


@pytest.mark.parametrize(
    "name", ["missing", "empty", "half of it", "other keys", "no encoder.mu.bias", "a scalar", "NaN"]
)
def test_load_model_refuses_a_broken_file(name, tmp_path):
    """It asks the file for its latent size first, which must not fail in its own way."""
    path = tmp_path / "model.safetensors"
    BROKEN_FILES[name](path)
    with pytest.raises((FileNotFoundError, ValueError)) as error:
        vae_paper.load_model(path)
    assert_one_line(error, path)


def test_numpy_refuses_bfloat16(tmp_path):
    """PyTorch's levels read it; NumPy has no such numbers and says so."""
    path = tmp_path / "model.safetensors"
    tensors = to_tensors(random_params(0, LATENT_DIM, np.float32))
    save_torch_file({name: tensor.bfloat16() for name, tensor in tensors.items()}, path)
    with pytest.raises(ValueError, match=r"bfloat16|BF16") as error:
        read("numpy", path)
    assert_one_line(error, path)


@pytest.mark.parametrize("name", ["mlp", "conditional", "conditional mlp", "32x32 colour"])
@pytest.mark.parametrize("level", LEVELS)
def test_the_default_model_refuses_another_model(level, name, tmp_path):
    MODELS[name]().save(tmp_path)
    with pytest.raises(ValueError) as error:  # noqa: PT011 - the message is looked at below
        read(level, tmp_path / "model.safetensors")
    assert_one_line(error, tmp_path / "model.safetensors")


def test_paper_refuses_another_latent_size_and_keeps_its_weights(tmp_path):
    path = tmp_path / "model.safetensors"
    write("numpy", path, random_params(0, LATENT_DIM + 1, np.float32))
    model = VAE(latent_dim=LATENT_DIM)
    before = {name: tensor.clone().numpy() for name, tensor in model.state_dict().items()}
    with pytest.raises(ValueError, match=r"encoder\.mu") as error:
        model.load_weights(path)
    assert_one_line(error, path)
    assert_same({name: tensor.numpy() for name, tensor in model.state_dict().items()}, before)


# --- A save that fails -----------------------------------------------------------------------------------------------


def fail(*args, **kwargs):
    raise OSError("no space left on device")


@pytest.mark.parametrize("level", LEVELS)
def test_a_failing_save_leaves_the_old_file(level, tmp_path, monkeypatch):
    path = tmp_path / "model.safetensors"
    write(level, path, random_params(0, LATENT_DIM))
    old = path.read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", fail)
        with pytest.raises(OSError, match="no space"):
            write(level, path, random_params(1, LATENT_DIM))
    assert path.read_bytes() == old
    assert_same(read(level, path), random_params(0, LATENT_DIM))
    write(level, path, random_params(1, LATENT_DIM))  # what the failure left behind is in nobody's way
    assert_same(read(level, path), random_params(1, LATENT_DIM))


@pytest.mark.parametrize("level", LEVELS)
def test_loaded_weights_do_not_follow_the_file(level, tmp_path):
    """A loaded array is a copy in memory: overwriting the file later must not change a model that runs."""
    path = tmp_path / "model.safetensors"
    write(level, path, random_params(0, LATENT_DIM))
    loaded = read(level, path)
    write(level, path, random_params(1, LATENT_DIM))
    assert_same(loaded, random_params(0, LATENT_DIM))


def test_load_model_reads_the_file_it_was_given(tmp_path):
    """Weights of another name beside a config.json are that model's, whether or not model.safetensors is there too."""
    model = vae_paper.ConditionalVAE(num_classes=4, latent_dim=LATENT_DIM)
    model.save(tmp_path)
    (tmp_path / "model.safetensors").rename(tmp_path / "best.safetensors")
    loaded = vae_paper.load_model(tmp_path / "best.safetensors")
    assert loaded.config() == model.config()
    for name, tensor in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor)
