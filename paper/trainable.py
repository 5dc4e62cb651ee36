"""What a model is to the training loop, and to the files that hold it: its options, its terms, its weights.

A paper's model derives from `TrainableModel`. Its options stand in one dataclass, each written once: name, type,
default, range, and beneath it the words that `--help` shows. The same dataclass is what the constructor takes by
keyword, what the command line offers and what is written with the weights, so that a new option is one line and its
use.
"""

import contextlib
import json
import math
import os
from dataclasses import asdict, dataclass, field, fields
from importlib import import_module
from pathlib import Path
from types import MappingProxyType, UnionType
from typing import Literal, Union, get_args, get_origin, get_type_hints

import torch
from torch import nn

from input_checks import require_memory
from level_script import note
from run_files import read_weights_metadata, weights_metadata, write_beside, write_config

MODELS = {  # the file that holds each model: a run is loaded by the name of its class, whatever was imported before
    "VAE": "vae_paper",
    "ConditionalVAE": "vae_paper",
    "Autoencoder": "vae_paper",
    "IWAE": "iwae",
    "BetaTCVAE": "beta_tcvae",
    "FactorVAE": "factor_vae",
    "VQVAE": "vq_vae",
    "TricksIWAE": "reproductions.iwae_tricks",
    "QuadrantCVAE": "reproductions.cvae_quadrants",
    "PixelVAE": "reproductions.collapse",
    "KingmaVAE": "reproductions.kingma_fig2",
    "TwoStageVQVAE": "reproductions.vq_vae_codebooks",
    "HigginsVAE": "reproductions.beta_vae_score",
    "WatchedFactorVAE": "reproductions.total_correlation",
}


# --- Options ---------------------------------------------------------------------------------------------------------


def option(default, least=None, above=None, below=None, most=None):
    """A field of an `Options` dataclass with its range: least <= value <= most, above < value < below."""
    limits = {"least": least, "above": above, "below": below, "most": most}
    return field(default=default, metadata={name: value for name, value in limits.items() if value is not None})


@dataclass
class Options:
    """Settings by name. `check` looks at each by its type and range; a class adds what several of them say together."""

    def __post_init__(self):
        for name, value in vars(self).items():
            if isinstance(value, list):  # as JSON has them
                setattr(self, name, tuple(value))

    def check(self, flags=False):
        """Raises ValueError for a value out of range, which is called by its name, or as the command line's flag."""
        hints = get_type_hints(type(self))
        for each in fields(self):
            name = flag(each.name) if flags else each.name
            value, limits = getattr(self, each.name), each.metadata
            if get_origin(hints[each.name]) is tuple:
                require(isinstance(value, tuple), f"{name} must be a sequence, got {value!r}")
                for place, entry in enumerate(value):
                    check_option(f"{name}[{place}]", entry, get_args(hints[each.name])[0], limits)
            else:
                check_option(name, value, hints[each.name], limits)


def parse_options(kind, argv, script, **default):
    """The options of a command line, an instance of `kind`. None is said by leaving an option out, not by typing it."""
    import tyro

    settings = (tyro.conf.DisallowNone, tyro.conf.OmitArgPrefixes)
    return tyro.cli(kind, args=argv, prog=script, config=settings, **default)


def flag(name):
    """The command line's flag for an option's name."""
    return "--" + name.replace("_", "-")


def check_option(name, value, kind, limits):
    """Raises ValueError unless the value is of its kind (a type, a Literal, or a union of them) and in its range."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    inside = not number or (
        limits.get("least", -math.inf) <= value <= limits.get("most", math.inf)
        and limits.get("above", -math.inf) < value < limits.get("below", math.inf)
    )
    if not (inside and any(is_of_kind(value, each) for each in alternatives(kind))):
        words = " or ".join(word for each in alternatives(kind) for word in in_words(each, limits))
        raise ValueError(f"{name} must be {words}, got {value!r}")


def alternatives(kind):
    """The members of a union such as `float | Literal["learned"]`, or the kind alone."""
    return get_args(kind) if isinstance(kind, UnionType) or get_origin(kind) is Union else (kind,)


def is_of_kind(value, kind):
    if get_origin(kind) is Literal:
        return any(value == word and type(value) is type(word) for word in get_args(kind))
    if kind is float:
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return isinstance(value, kind) and (kind is bool or not isinstance(value, bool))


def in_words(kind, limits):
    if get_origin(kind) is Literal:
        return [str(word) for word in get_args(kind)]
    if kind not in (int, float):
        return {bool: ["true or false"], str: ["a text"], Path: ["a path"]}.get(kind, [])
    texts = {"least": "of at least", "above": "above", "most": "up to", "below": "below"}
    noun = "an integer" if kind is int else "a finite number"
    return [" ".join([noun, *(f"{text} {limits[name]}" for name, text in texts.items() if name in limits)])]


# --- A model ---------------------------------------------------------------------------------------------------------


class TrainableModel(nn.Module):
    """What the loop asks of a model. A paper's model derives from it and adds its own networks and `terms`.

    Options         the dataclass of its options, an instance of which is `model.options`
    from_data       the arguments that the images decide, not a user; image_shape is (C, H, W)
    noise_shape     the shape of the standard normal noise that one image needs in a step; eps is (N, *noise_shape)
    num_classes     0, or the number of classes of a model that wants the labels c
    class_names     their names, if they have any
    couples_batch   whether an image's terms depend on the other images of its batch, of which another process may have
                    some (processes.gathered); such a model is evaluated in batches of the training size
    smallest_batch  the fewest images that `terms` makes sense for; a shorter last batch joins the one before it
    validate        as in torch.distributions, whether inputs are looked at, which makes a GPU wait; off while training
    elbo_terms      the terms whose sum is -ELBO in nats, if there are any
    far_to_go       names of parameters that take ten times the step: Adam moves each by about lr, these need more
    units           {term: unit} of the terms that are not in nats per image

    options: the fields of `Options` by name. Raises ValueError for one that is out of range.
    """

    Options = Options
    from_data = ("image_shape",)
    noise_shape = ()
    num_classes = 0
    class_names = ()
    couples_batch = False
    smallest_batch = 1
    validate = True
    elbo_terms = ("reconstruction_nll", "kl_divergence")
    far_to_go = ()
    units = MappingProxyType({})

    def __init__(self, image_shape=(1, 28, 28), **options):
        super().__init__()
        require_options(type(self).__name__, self.Options, options)
        self.options = self.Options(**options)
        self.options.check()
        self.image_shape = tuple(image_shape)
        require(
            len(self.image_shape) == 3 and all(isinstance(size, int) and size >= 1 for size in self.image_shape),
            f"image_shape must be (C, H, W), got {self.image_shape}",
        )

    @classmethod
    def from_options(cls, options, **data):
        """A new model with those fields of any dataclass that are its options; data: what `from_data` names."""
        return cls(**{each.name: getattr(options, each.name) for each in fields(cls.Options)}, **data)

    def terms(self, x, eps, c=None, step=None):
        """Each term of the objective, (N,) nats per image, as {"loss": what is minimised, name: term, ...}.

        x (N, C, H, W), eps (N, *noise_shape), c (N,) or None. step: the training steps done so far, for schedules;
        None is their end.
        """
        raise NotImplementedError

    def start_from(self, images, generator):
        """What a model takes from the training images before its first step: nothing, unless a paper says so.

        images: a training_images.ResidentImages; generator: for its batches.
        """

    def after_epoch(self, train_images, seed):
        """What a row of metrics.csv says beside the means of the terms, {name: number}: nothing, unless a paper asks.

        train_images: a training_images.ResidentImages; seed: of the noise, so that the training's own is left alone.
        """
        return {}

    def optimizers(self, lr):
        """{term: the optimiser that lowers its mean}, in the order in which they take their step."""
        return {"loss": torch.optim.Adam(self.parameter_groups(lr), lr=lr, fused=True)}

    def parameter_groups(self, lr, without=()):
        """All parameters but `without`, as an optimiser takes them, those with far to go with their own step."""
        left = set(map(id, without))
        named = [(name, parameter) for name, parameter in self.named_parameters() if id(parameter) not in left]
        groups = [{"params": [parameter for name, parameter in named if name not in self.far_to_go]}]
        return groups + [{"params": [parameter], "lr": 10 * lr} for name, parameter in named if name in self.far_to_go]

    def config(self):
        """The arguments that build this model again, with the name of its class, as JSON takes them."""
        from_data = {name: getattr(self, name) for name in self.from_data}
        return {"class": type(self).__name__} | asdict(self.options) | from_data

    # Weights and what they are, never pickled.

    def save(self, folder, script=None, training=None):
        """Write model.safetensors, which `load` reads, and config.json, which says the same to people."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        self.save_weights(folder / "model.safetensors")
        write_config(folder, script, self.config(), training)

    def save_weights(self, path):
        """Write all parameters, and what model they are of, as a .safetensors file; an older one stays until then."""
        from safetensors.torch import save

        tensors = {name: tensor.contiguous() for name, tensor in self.state_dict().items()}
        write_beside(path, save(tensors, weights_metadata(self.config())))

    @classmethod
    def load(cls, folder):
        """The model that `save` wrote into a folder, of the class named there. Raises as `load_file` does."""
        return cls.load_file(Path(folder) / "model.safetensors")

    @classmethod
    def load_file(cls, path):
        """The model behind a .safetensors file, as the file describes it, or an older one's config.json beside it.

        Raises FileNotFoundError or ValueError, before anything is built, if a file is missing, damaged or another's.
        """
        weights = read_weights(path)
        model = cls.from_config(*read_description(path))
        model.load_tensors(weights, path)
        return model

    @classmethod
    def from_config(cls, config, source):
        """A model as `config()` describes it, with new random weights. source: the file to name in a ValueError."""
        try:
            options = dict(config)
            found = model_class(options.pop("class"))
            if not issubclass(found, cls.family()):
                raise ValueError(f"it is of class {found.__name__}")
            return built(lambda: found(**options))
        except (ValueError, KeyError, TypeError, RuntimeError) as error:
            reason = str(error).partition("\n")[0]  # PyTorch's words may go on with a stack trace
            raise ValueError(f"{source} does not describe a {cls.__name__} ({reason})") from None

    @classmethod
    def family(cls):
        """The class that `load` expects, itself or one that derives from it."""
        return cls

    def load_weights(self, path):
        """Read parameters that any level wrote, strictly: every name and shape must fit. Takes on the file's dtype."""
        weights = read_weights(path)
        if (described := read_weights_metadata(path)) is not None:
            same_computation(self.config(), described, path)
        self.load_tensors(weights, path)

    def load_tensors(self, weights, path):
        expected = self.state_dict()
        if wrong := sorted(expected.keys() ^ weights.keys()):
            raise ValueError(f"{path} does not fit this {type(self).__name__}: {wrong[0]} is missing or unknown")
        for name, tensor in expected.items():
            got, want = tuple(weights[name].shape), tuple(tensor.shape)
            require(got == want, f"{path}: {name} has shape {got}, expected {want}")
            require(bool(torch.isfinite(weights[name]).all()), f"{path}: {name} holds NaN or infinity")
        self.to(next(iter(weights.values())).dtype).load_state_dict(weights)


def built(make, copies=1):
    """make(), a new model, once it is known that the machine can hold so many copies of its parameters.

    A model is built without memory first. Raises MemoryError if one with memory would not fit.
    """
    try:
        with torch.device("meta"):
            size = sum(tensor.numel() * tensor.element_size() for tensor in make().state_dict().values())
    except (TypeError, RuntimeError) as error:  # 10^30 is no size that PyTorch could count
        require("verflow" not in str(error), "this model is larger than any machine: choose smaller sizes")
        raise
    require_memory(copies * size, "this model" if copies == 1 else "this model, with its gradients and optimiser,")
    return make()


# --- Which model a file holds ----------------------------------------------------------------------------------------


def model_class(name):
    """The class of that name: one of MODELS, or one that somebody derived from TrainableModel. Raises ValueError."""
    if name in MODELS:
        return getattr(import_module(MODELS[name]), name)
    own = {known.__name__: known for known in descendants(TrainableModel)}
    require(name in own, f"unknown model {name!r}: expected one of {', '.join(MODELS)}")
    return own[name]


def descendants(cls):
    """All classes that derive from one."""
    return [each for child in cls.__subclasses__() for each in (child, *descendants(child))]


def read_description(path):
    """What a .safetensors file holds, as `TrainableModel.config` describes it, and the file that says so.

    That is the file itself, or for one of an older version the config.json beside it. Raises FileNotFoundError if there
    is neither, ValueError for a damaged one.
    """
    if (config := read_weights_metadata(path)) is not None:
        return config, path
    beside = Path(path).with_name("config.json")
    if not beside.is_file():
        raise FileNotFoundError(f"{path} does not say what model it holds, and no config.json lies beside it")
    note(f"{path} does not say what model it holds: it is read as {beside} describes it")
    return in_todays_words(read_config(beside)["model"]), beside


def read_config(path):
    """config.json as `write_config` wrote it: a dict with the dicts "model" and "training". Raises ValueError."""
    try:
        config = json.loads(Path(path).read_text(encoding="utf-8"))
    except (ValueError, OSError, RecursionError) as error:
        raise ValueError(f"{path} is not the config.json of a run ({error}): expected what a training wrote") from None
    if not (isinstance(config, dict) and isinstance(config.get("model"), dict)):
        raise ValueError(f"{path} does not describe a model: expected what a training wrote")
    training = config.get("training")
    require(training is None or isinstance(training, dict), f"{path}: training must be a table, got {training!r}")
    return config


def in_todays_words(config):
    """What an older version wrote of a model: its schedule had names of its own, and every model had a beta."""
    config = dict(config)
    schedule = config.pop("kl_schedule", None)
    if isinstance(schedule, dict):
        names = {"shape": "kl_schedule", "steps": "kl_steps", "gamma": "capacity_gamma"}
        config |= {names.get(name, name): value for name, value in schedule.items()}
    name = config.get("class")
    kinds = model_class(name).Options if isinstance(name, str) and name in MODELS else Options
    known = {each.name for each in fields(kinds)}
    neutral = {"beta": 1.0, "kl_schedule": "constant", "kl_steps": 1, "free_bits": 0.0, "group_size": 1}
    neutral |= {"capacity": None, "capacity_gamma": 1000.0}
    config = {name: value for name, value in config.items() if name in known or neutral.get(name, config) != value}
    return {f"discriminator_{name}" if name in ("width", "depth") else name: value for name, value in config.items()}


def same_computation(config, described, path):
    """Raises ValueError if weights belong to a model that has the same shapes and computes something else."""
    for name in ("likelihood", "activation"):
        if name in config and name in described and config[name] != described[name]:
            raise ValueError(f"{path} holds a model whose {name} is {described[name]}, not {config[name]}")
    kinds = ["an autoencoder" if each["class"] == "Autoencoder" else "a VAE" for each in (described, config)]
    require(kinds[0] == kinds[1], f"{path} holds {kinds[0]}, not {kinds[1]}")


def read_weights(path):
    """The tensors of a .safetensors file by name. Raises FileNotFoundError, or ValueError for a damaged file."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if not Path(path).is_file():
        raise FileNotFoundError(f"no weights at {path}: expected a .safetensors file that a training script wrote")
    try:
        weights = load_file(path)
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is not a whole .safetensors file ({error}): train or copy it again") from None
    dtypes = {tensor.dtype for tensor in weights.values()}
    require(weights, f"{path} is empty: it holds no weights")
    require(
        len(dtypes) == 1 and next(iter(dtypes)).is_floating_point,
        f"{path} must hold floats of one dtype throughout, got {', '.join(sorted(map(str, dtypes)))}",
    )
    return weights


# --- What is asked of arguments --------------------------------------------------------------------------------------


def require(condition, message):
    if not condition:
        raise ValueError(message)


def require_new_picture(out, *endings):
    """Raises ValueError or OSError, before anything is computed, unless --out can be a new .png.

    endings: of files that are written beside it and may not exist either, such as ".csv".
    """
    writable = out.suffix == ".png" and out.parent.is_dir() and os.access(out.parent, os.W_OK)
    require(writable, f"cannot write --out {out}: expected a .png in a folder that exists and may be written to")
    for path in (out, *map(out.with_suffix, endings)):
        with contextlib.suppress(FileNotFoundError):
            path.lstat()  # a link to nowhere is something too
            raise ValueError(f"--out {path} exists and is not overwritten: choose another name")


def require_positive_ints(**values):
    for name, value in values.items():
        check_option(name, value, int, {"least": 1})


def require_options(name, kind, options):
    """Raises TypeError for an option that a model does not have."""
    known = [each.name for each in fields(kind)]
    for option_name in options:
        if option_name not in known:
            raise TypeError(f"{name} has no option {option_name!r}: it has {', '.join(known)}")
