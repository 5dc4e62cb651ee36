"""A model's options, each by its type and range, and the files that hold a model: what they say and what is refused."""

import json
import math
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import safetensors.torch
import torch

import trainable
from beta_tcvae import BetaTCVAE
from comparison import assert_one_line
from factor_vae import FactorVAE
from iwae import IWAE
from run_files import read_weights_metadata
from small_models import LATENT_DIM, SIDE, assert_same_weights, new_model, random_batch
from trainable import Options, option
from vae_paper import VAE, Autoencoder, BaseVAE, ConditionalVAE, EncoderDecoder

# --- Options ---------------------------------------------------------------------------------------------------------


@dataclass
class Some(Options):
    """One option of each kind."""

    whole: int = option(3, least=1, most=5)
    number: float = option(0.5, above=0, below=1)
    free: float = 0.0
    perhaps: float | None = option(None, least=0)
    mixed: float | Literal["learned"] = option(1.0, above=0)
    word: Literal["a", "b"] = "a"
    one_of: Literal[1, 3] | None = None
    text: str = "x"
    flag: bool = False
    sizes: tuple[int, ...] = option((4, 4), least=1)
    path: Path | None = None


GOOD = {
    "whole": [1, 3, 5],
    "number": [0.5, 1e-9, 0.999],
    "free": [-1e9, 0, 3],
    "perhaps": [None, 0, 0.0, 7],
    "mixed": ["learned", 0.1, 2],
    "word": ["a", "b"],
    "one_of": [None, 1, 3],
    "text": ["", "y"],
    "flag": [True, False],
    "sizes": [(), (1,), (5, 6, 7), [8, 9]],
    "path": [None, Path("p")],
}
BAD = {
    "whole": [0, 6, 2.0, "3", None, True, math.nan, [3], 10**30],
    "number": [0, 1, 0.0, 1.0, -0.5, math.nan, math.inf, "0.5", None, True],
    "free": [math.nan, math.inf, -math.inf, "0", None, False],
    "perhaps": [-1, math.nan, math.inf, "none", True],
    "mixed": [0, -1.0, "fixed", "", math.nan, math.inf, None, True],
    "word": ["c", "", None, 1, ["a"]],
    "one_of": [2, 1.0, True, "1", 0],
    "text": [3, None, True],
    "flag": [0, 1, "true", None],
    "sizes": [(0,), (4, -1), (2.5,), ("a",), 4, "44", None, (True,)],
    "path": ["p", 3],
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in GOOD.items() for value in values])
def test_an_option_within_its_range_is_taken(name, value):
    some = Some(**{name: value})
    some.check()
    some.check(flags=True)
    assert getattr(some, name) == (tuple(value) if isinstance(value, list) else value)


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in BAD.items() for value in values])
def test_an_option_out_of_its_range_is_refused_by_name(name, value):
    for flags, called in ((False, name), (True, f"--{name.replace('_', '-')}")):
        with pytest.raises(ValueError, match=f"{called}.* must be ") as error:
            Some(**{name: value}).check(flags)
        assert str(error.value).startswith(called)
        assert_one_line(error)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"whole": 0}, "whole must be an integer of at least 1 up to 5, got 0"),
        ({"number": 1.0}, "number must be a finite number above 0 below 1, got 1.0"),
        ({"perhaps": -1.0}, "perhaps must be a finite number of at least 0, got -1.0"),
        ({"mixed": "fixed"}, "mixed must be a finite number above 0 or learned, got 'fixed'"),
        ({"word": "c"}, "word must be a or b, got 'c'"),
        ({"one_of": 2}, "one_of must be 1 or 3, got 2"),
        ({"text": 3}, "text must be a text, got 3"),
        ({"flag": 0}, "flag must be true or false, got 0"),
        ({"sizes": (4, 0)}, "sizes[1] must be an integer of at least 1, got 0"),
        ({"sizes": 4}, "sizes must be a sequence, got 4"),
        ({"path": 3}, "path must be a path, got 3"),
    ],
    ids=str,
)
def test_a_refusal_says_what_was_expected(options, message):
    with pytest.raises(ValueError) as error:  # noqa: PT011 - the whole sentence is looked at
        Some(**options).check()
    assert str(error.value) == message


def test_a_new_option_is_one_line_and_its_use():
    """The constructor, --help's dataclass, the description and the check all follow from the field."""

    @dataclass
    class LouderOptions(VAE.Options):
        loudness: float = option(2.0, least=1)
        """How loud."""

    class Louder(VAE):
        Options = LouderOptions

    assert Louder(loudness=3).config()["loudness"] == 3
    assert Louder.from_options(LouderOptions(loudness=5.0, beta=2.0)).options == LouderOptions(loudness=5.0, beta=2.0)
    with pytest.raises(ValueError, match="loudness must be a finite number of at least 1, got 0"):
        Louder(loudness=0)
    with pytest.raises(TypeError, match="VAE has no option 'loudness'"):
        VAE(loudness=3)


@pytest.mark.parametrize("name", trainable.MODELS)
def test_a_model_takes_its_options_by_name_alone(name):
    cls = trainable.model_class(name)
    data = {"dataset_size": 70} if name == "BetaTCVAE" else {}
    with pytest.raises((TypeError, ValueError)) as error:
        cls(1, 2)  # the first may be what the data decides
    assert_one_line(error)
    with pytest.raises(TypeError, match=f"^{name} has no option 'cosine': it has ") as error:
        cls(**data, cosine=1)
    assert_one_line(error)


# --- Saved and loaded again ------------------------------------------------------------------------------------------

LINEAR = {"beta": 4.0, "kl_schedule": "linear", "kl_steps": 7, "free_bits": 0.25, "group_size": 2}
SAVED = {
    "linear with free bits": LINEAR,
    "cyclical": {"kl_schedule": "cyclical", "kl_steps": 400},
    "capacity": {"kl_steps": 9, "capacity": 25.0, "capacity_gamma": 30.0},
    "fixed sigma": {"likelihood": "gaussian", "sigma": 0.1},
    "learned sigma": {"likelihood": "gaussian", "sigma": "learned"},
    "tanh": {"activation": "tanh", "hidden_dims": (5, 4)},
    "linear VAE": {"hidden_dims": (), "likelihood": "gaussian", "sigma": "learned"},
    "autoencoder": {"cls": Autoencoder},
    "conditional": {"cls": ConditionalVAE, "num_classes": 3, "kl_schedule": "sigmoid", "kl_steps": 5},
    "64x64": {"architecture": "conv", "image_shape": (1, 64, 64)},
    "colour": {"architecture": "conv", "image_shape": (3, 8, 8)},
    "iwae": {"cls": IWAE, "k": 3, "objective": "dreg"},
    "beta-tcvae": {"cls": BetaTCVAE, "alpha": 0.5, "dataset_size": 70},
    "factor_vae": {"cls": FactorVAE, "gamma": 0.0, "discriminator_width": 7, "discriminator_depth": 2},
}
EACH_SAVED = pytest.mark.parametrize("options", SAVED.values(), ids=SAVED)


@EACH_SAVED
def test_a_saved_model_is_loaded_with_all_its_options(tmp_path, options):
    model = new_model(gain=2.0, **options)
    if getattr(model.options, "sigma", None) == "learned":
        model.log_sigma.data.fill_(-1.25)
    model.save(tmp_path)
    loaded = VAE.load(tmp_path)  # any relative, by the name of its class
    assert type(loaded) is type(model)
    assert loaded.options == model.options
    assert loaded.config() == model.config()
    assert_same_weights(loaded, model)
    x, _, c = random_batch(model)
    eps = torch.tensor(np.random.default_rng(1).standard_normal((len(x), *model.noise_shape)))
    with torch.no_grad():
        for step in (0, 3, None):
            again = loaded.terms(x, eps, c, step)
            for name, term in model.terms(x, eps, c, step).items():
                assert torch.equal(again[name], term), name
    for name, parameter in model.named_parameters():
        assert dict(loaded.named_parameters())[name].requires_grad == parameter.requires_grad, name


@EACH_SAVED
def test_a_description_names_every_option_with_the_value_it_was_given(tmp_path, options):
    model = new_model(**options)
    model.save(tmp_path, "s.py", {"data": "digits"})
    [described] = [read_weights_metadata(tmp_path / "model.safetensors")]
    assert described == json.loads(json.dumps(model.config()))
    assert described.keys() == {"class", *vars(model.options), *type(model).from_data}
    for name, value in options.items():
        if name != "cls":
            assert described[name] == (list(value) if isinstance(value, tuple) else value)
    assert described["class"] == options.get("cls", VAE).__name__
    written = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))
    assert written == {"script": "s.py", "model": described, "training": {"data": "digits"}}


def test_the_file_says_what_it_holds_whatever_lies_beside_it(tmp_path):
    model = new_model(beta=4.0)
    model.save(tmp_path)
    (tmp_path / "config.json").write_text("not a config", encoding="utf-8")
    assert VAE.load(tmp_path).config() == model.config()
    (tmp_path / "config.json").unlink()
    assert VAE.load_file(tmp_path / "model.safetensors").options.beta == 4.0


LOAD_ALL = """
import sys
from trainable import TrainableModel
from vae_paper import VAE
for name, module in zip(sys.argv[1::2], sys.argv[2::2]):
    before = module in sys.modules
    try:
        loaded = VAE.load(name)
    except ValueError as error:
        print(str(error).partition(" (")[2])
        loaded = TrainableModel.load(name)
    print(type(loaded).__name__, before, module in sys.modules)
"""


def test_runs_are_loaded_in_a_process_that_knows_their_classes_by_name_alone(tmp_path):
    """What was imported before does not matter."""
    names = ["ConditionalVAE", "Autoencoder", "IWAE", "BetaTCVAE", "FactorVAE", "VQVAE"]
    for name in names:
        options = {"num_codes": 5, "code_dim": 3} if name == "VQVAE" else {"latent_dim": 2}
        options |= {"dataset_size": 70} if name == "BetaTCVAE" else {}
        trainable.model_class(name)(**options).save(tmp_path / name)
    arguments = [word for name in names for word in (name, trainable.MODELS[name])]
    command = [sys.executable, "-c", LOAD_ALL, *arguments]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    expected = [f"{name} {trainable.MODELS[name] == 'vae_paper'} True" for name in names]
    expected.insert(-1, "it is of class VQVAE)")  # which is no VAE
    assert done.stdout.splitlines() == expected
    assert done.stderr == ""


def test_every_model_of_the_table_is_there_and_no_other_class_of_the_papers():
    found = {name: trainable.model_class(name) for name in trainable.MODELS}
    assert {name: cls.__name__ for name, cls in found.items()} == {name: name for name in found}
    assert {name: cls.__module__ for name, cls in found.items()} == trainable.MODELS
    papers = {cls for cls in trainable.descendants(trainable.TrainableModel) if cls.__module__ in found_modules()}
    assert papers - set(found.values()) == {EncoderDecoder, BaseVAE}  # nobody trains these


def found_modules():
    return set(trainable.MODELS.values())


@pytest.mark.parametrize("name", ["os", "os.system", "trainable", "VAE2", "", None, 3, ["VAE"], {"VAE": 1}])
def test_a_class_that_is_not_in_the_table_is_never_looked_for(tmp_path, monkeypatch, name):
    new_model().save(tmp_path)
    weights, described = trainable.read_weights(tmp_path / "model.safetensors"), new_model().config()
    rewrite(tmp_path, weights, described | {"class": name})
    monkeypatch.setattr(trainable, "import_module", lambda module: pytest.fail(f"imported {module}"))
    with pytest.raises(ValueError, match="does not describe a VAE") as error:
        VAE.load(tmp_path)
    assert_one_line(error, tmp_path)


def rewrite(folder, weights, description):
    """Put another description on the same tensors, or none."""
    metadata = {} if description is None else {"model": json.dumps(description)}
    (folder / "model.safetensors").write_bytes(safetensors.torch.save(weights, metadata))


@pytest.mark.parametrize(
    "change",
    [
        {"kl_schedule": "cosine"},
        {"kl_schedule": 3},
        {"kl_schedule": ["linear"]},
        {"kl_schedule": {"steps": 0}},
        {"kl_steps": 0},
        {"beta": -1},
        {"beta": None},
        {"latent_dim": "4"},
        {"latent_dim": 5.0},
        {"hidden_dims": 6},
        {"image_shape": [1, 8]},
        {"image_shape": 8},
        {"image_shape": "188"},
        {"cosine": 1},
        {"class": "VQVAE"},
    ],
    ids=str,
)
def test_a_description_that_no_model_writes_is_refused(tmp_path, change):
    model = new_model()
    model.save(tmp_path)
    weights = trainable.read_weights(tmp_path / "model.safetensors")
    rewrite(tmp_path, weights, model.config() | change)
    with pytest.raises(ValueError, match="does not describe a VAE") as error:
        VAE.load(tmp_path)
    assert_one_line(error, tmp_path)


@pytest.mark.parametrize(("cls", "other"), [(IWAE, VAE), (FactorVAE, IWAE), (ConditionalVAE, Autoencoder)])
def test_a_class_reads_its_own_runs_alone(tmp_path, cls, other):
    new_model(other).save(tmp_path)
    with pytest.raises(ValueError, match=f"does not describe a {cls.__name__} .it is of class {other.__name__}"):
        cls.load(tmp_path)


# --- Weights of a model that computes something else -----------------------------------------------------------------


def test_weights_of_the_same_shapes_and_another_computation_are_refused(tmp_path):
    """An IWAE's or a beta-VAE's weights are those of a VAE; an autoencoder's or a Gaussian model's are not."""
    path = tmp_path / "model.safetensors"
    same = [{}, {"beta": 4.0}, {"cls": IWAE, "k": 2, "activation": "relu"}]
    for options in same:
        model = new_model(**options)
        model.save_weights(path)
        reader = new_model()
        reader.load_weights(path)
        assert_same_weights(reader, model)
    for options, named in (
        ({"likelihood": "gaussian"}, "likelihood"),
        ({"activation": "tanh"}, "activation"),
        ({"cls": Autoencoder}, "an autoencoder"),
    ):
        new_model(**options).save_weights(path)
        before = new_model()
        with pytest.raises(ValueError, match=named) as error:
            before.load_weights(path)
        assert_one_line(error, path)
        assert_same_weights(before, new_model())


def test_weights_that_say_nothing_are_read_with_a_note(tmp_path, capsys):
    model = new_model(beta=4.0)
    model.save(tmp_path)
    rewrite(tmp_path, trainable.read_weights(tmp_path / "model.safetensors"), None)
    loaded = VAE.load(tmp_path)
    assert_same_weights(loaded, model)
    assert loaded.options.beta == 4.0  # config.json says so
    said = capsys.readouterr().err
    assert said.startswith("note: ")
    assert str(tmp_path / "config.json") in said
    (tmp_path / "config.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"does not say what model it holds, and no config\.json") as error:
        VAE.load(tmp_path)
    assert_one_line(error)


OLDER = {  # what an older version wrote, and what it means
    "a VAE": (
        {"class": "VAE", "beta": 1.0, "kl_schedule": {"shape": "constant", "steps": 1, "free_bits": 0.0,
         "group_size": 1, "capacity": None, "gamma": 1000.0}},
        VAE, {},
    ),
    "a schedule": (
        {"class": "VAE", "beta": 4.0, "kl_schedule": {"shape": "linear", "steps": 7, "free_bits": 0.25,
         "group_size": 2, "capacity": None, "gamma": 1000.0}},
        VAE, {"beta": 4.0, "kl_schedule": "linear", "kl_steps": 7, "free_bits": 0.25, "group_size": 2},
    ),
    "capacity": (
        {"class": "VAE", "beta": 1.0, "kl_schedule": {"shape": "constant", "steps": 9, "free_bits": 0.0,
         "group_size": 1, "capacity": 25.0, "gamma": 30.0}},
        VAE, {"kl_steps": 9, "capacity": 25.0, "capacity_gamma": 30.0},
    ),
    "an IWAE with a beta of 1": ({"class": "IWAE", "beta": 1.0, "k": 3, "kl_schedule": None}, IWAE, {"k": 3}),
    "an autoencoder": ({"class": "Autoencoder", "beta": 1.0}, Autoencoder, {}),
    "a FactorVAE's discriminator": (
        {"class": "FactorVAE", "width": 7, "depth": 2}, FactorVAE,
        {"discriminator_width": 7, "discriminator_depth": 2},
    ),
}  # fmt: skip


@pytest.mark.parametrize(("written", "cls", "options"), OLDER.values(), ids=OLDER)
def test_an_older_config_is_read_in_todays_words(tmp_path, written, cls, options):
    model = new_model(cls, **options)
    model.save(tmp_path)
    rewrite(tmp_path, trainable.read_weights(tmp_path / "model.safetensors"), None)
    networks = {
        "latent_dim": LATENT_DIM,
        "architecture": "mlp",
        "hidden_dims": [6],
        "activation": model.options.activation,
        "likelihood": "bernoulli",
        "sigma": 1.0,
        "image_shape": [1, SIDE, SIDE],
    }
    config = {"script": "vae_paper.py", "model": networks | written, "training": {"epochs": 3}}
    (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    loaded = VAE.load(tmp_path)
    assert loaded.config() == model.config()
    assert_same_weights(loaded, model)


@pytest.mark.parametrize("name", ["IWAE", "FactorVAE", "Autoencoder"])
def test_a_beta_that_an_older_model_had_and_todays_has_not_is_not_forgotten(tmp_path, name):
    """It was part of what the model computed: to read it as a model without a beta would be another one's run."""
    cls = trainable.model_class(name)
    new_model(cls).save(tmp_path)
    rewrite(tmp_path, trainable.read_weights(tmp_path / "model.safetensors"), None)
    config = {"model": new_model(cls).config() | {"beta": 2.0}}
    (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(ValueError, match="has no option 'beta'"):
        VAE.load(tmp_path)


@pytest.mark.parametrize(
    "content",
    ["", "x", "[]", "3", "null", "{}", '{"model": 3}', '{"model": []}', '{"model": null}',
     '{"model": {}, "training": "x"}', '{"model": {}, "training": [1]}', '{"model": {}}', "[" * 100_000],
    ids=lambda content: content[:30],
)  # fmt: skip
def test_a_config_that_is_no_runs_is_refused(tmp_path, content):
    new_model().save(tmp_path)
    rewrite(tmp_path, trainable.read_weights(tmp_path / "model.safetensors"), None)
    (tmp_path / "config.json").write_text(content, encoding="utf-8")
    with pytest.raises(ValueError, match=r"config\.json") as error:
        VAE.load(tmp_path)
    assert_one_line(error)
