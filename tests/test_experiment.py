"""What every paper's script does around its model: options, devices, refusals and the words of --help."""

import json
import re
from dataclasses import fields

import numpy as np
import pytest
import torch
from PIL import Image

import pictures
from experiment import pick_device
from in_process import contents
from script_runs import ON_CPU, PAPERS, metrics, own_config, run
from trainable import TrainableModel

pytestmark = pytest.mark.usefixtures("few_digits")

# --- The device ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "cuda", "mps", "expected"),
    [
        ("cpu", 0, False, "cpu"),
        ("cpu", 2, True, "cpu"),
        ("auto", 0, False, "cpu"),
        ("auto", 0, True, "mps"),
        ("auto", 1, False, "cuda"),
        ("auto", 1, True, "cuda"),
        ("cuda", 1, False, "cuda"),
        ("cuda:1", 2, False, "cuda:1"),
        ("mps", 0, True, "mps"),
    ],
)
def test_pick_device_takes_what_is_there(machine, name, cuda, mps, expected):
    machine(cuda, mps)
    assert pick_device(name) == torch.device(expected)


@pytest.mark.parametrize(
    ("name", "cuda", "message"),
    [
        ("cuda", 0, "--device cuda is not on this machine.*it has cpu"),
        ("cuda:2", 2, "--device cuda:2 is not on this machine.*it has cpu, cuda"),
        ("mps", 1, "--device mps is not on this machine.*it has cpu, cuda"),
        ("nonsense", 0, "unknown --device nonsense: expected auto, cpu, cuda, cuda:N or mps"),
        ("meta", 0, "unknown --device meta"),
        ("", 0, "unknown --device"),
    ],
)
def test_pick_device_refuses_what_is_not(machine, name, cuda, message):
    machine(cuda, mps=False)
    with pytest.raises(ValueError, match=message):
        pick_device(name)


@pytest.fixture
def machine(monkeypatch):
    """Pretend to be a machine with so many GPUs."""

    def pretend(cuda, mps):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: cuda)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)

    return pretend


# --- A user's mistakes -----------------------------------------------------------------------------------------------


MISTAKES = [
    ("iwae", ["--k", 0], "--k must be an integer of at least 1, got 0"),
    ("iwae", ["--latent-dim", 0], "--latent-dim must"),
    ("iwae", ["--hidden-dims", 16, 0], "--hidden-dims[1] must"),
    ("iwae", ["--architecture", "conv", "--hidden-dims", 5], "--hidden-dims and --activation belong to"),
    ("factor_vae", ["--gamma", -1], "--gamma must be a finite number of at least 0, got -1"),
    ("factor_vae", ["--gamma", "nan"], "--gamma must be a finite number of at least 0, got nan"),
    ("factor_vae", ["--discriminator-width", 0], "--discriminator-width must be an integer of at least 1, got 0"),
    ("factor_vae", ["--discriminator-depth", 0], "--discriminator-depth must"),
    ("factor_vae", ["--batch-size", 1], "a FactorVAE needs batches of at least 4 images, got 1"),
    ("beta_tcvae", ["--alpha", "nan"], "--alpha must be a finite number of at least 0, got nan"),
    ("beta_tcvae", ["--gamma", "inf"], "--gamma must"),
    ("beta_tcvae", ["--beta", -2], "--beta must"),
    ("beta_tcvae", ["--batch-size", 1], "a BetaTCVAE needs batches of at least 2 images, got 1"),
    ("beta_tcvae", ["--train-images", 1], "a BetaTCVAE needs batches of at least 2 images"),
    ("vq_vae", ["--num-codes", 0], "--num-codes must"),
    ("vq_vae", ["--code-dim", -1], "--code-dim must"),
    ("vq_vae", ["--decay", 1], "--decay must be a finite number of at least 0 below 1, got 1"),
    ("vq_vae", ["--commitment", "nan"], "--commitment must"),
    ("vae_paper", ["--train-images", 201], "--train-images 201: expected 1 to 200, as many as there are"),
    ("vq_vae", ["--train-images", 10**6], "--train-images 1000000: expected 1 to 200"),
    ("vae_paper", ["--autoencoder", "--beta", 2], "an autoencoder has no KL"),
    ("vae_paper", ["--autoencoder", "--free-bits", 1], "an autoencoder has no KL"),
    ("vae_paper", ["--autoencoder", "--conditional"], "--autoencoder and --conditional: choose one"),
    ("vae_paper", ["--capacity", 5, "--kl-steps", 100, "--beta", 4], "leave out --beta"),
    ("vae_paper", ["--capacity", 5], "--kl-schedule and --capacity go together with --kl-steps above 1"),
    ("vae_paper", ["--kl-steps", 5], "--kl-schedule and --capacity go together"),
    ("vae_paper", ["--capacity", 5, "--kl-steps", 9, "--free-bits", 1], "leave out --kl-schedule and --free-bits"),
    ("vae_paper", ["--capacity-gamma", 3], "--capacity-gamma belongs to --capacity"),
    ("vae_paper", ["--group-size", 2], "--group-size belongs to --free-bits"),
    ("vae_paper", ["--sigma", 0.1], "--sigma belongs to"),
    ("vae_paper", ["--likelihood", "gaussian", "--sigma", 0], "--sigma must be a finite number above 0 or learned"),
    ("vae_paper", ["--seed", 2**63], "--seed must be an integer of at least 0 up to 9223372036854775807, got"),
    ("vae_paper", ["--seed", -1], "--seed must"),
    ("vae_paper", ["--lr", "inf"], "--lr must be a finite number above 0, got inf"),
    ("vae_paper", ["--save-seconds", -1], "--save-seconds must"),
    ("vae_paper", ["--image-size", 4], "--image-size must be an integer of at least 8, got 4"),
    ("vae_paper", ["--data", "sprites", "--image-size", 32], "--data sprites are 64x64 and grey"),
    ("vae_paper", ["--data", "sprites", "--channels", 3], "--data sprites are 64x64 and grey"),
    ("vae_paper", ["--device", "tpu"], "unknown --device tpu"),
    ("vae_paper", ["--device", "cuda:77"], "--device cuda:77 is not on this machine"),
    ("vae_paper", ["--resume", ""], "--resume is empty: expected a path, or leave it out"),
    ("vae_paper", ["--weights", ""], "--weights is empty"),
    ("vae_paper", ["--data", ""], "--data is empty"),
    ("vae_paper", ["--resume="], "--resume is empty"),
]  # script, options, what the message says


@pytest.mark.parametrize(
    ("script", "args", "named"), MISTAKES, ids=[" ".join(map(str, [script, *args])) for script, args, _ in MISTAKES]
)
def test_options_that_cannot_be_are_one_line_on_stderr(refused, script, args, named):
    assert named in refused(script, *args, "--out", "new")


def test_an_empty_out_is_refused(refused):
    assert "--out is empty" in refused("vae_paper", "--out", "")


@pytest.mark.parametrize("flag", ["--train-images", "--epochs", "--batch-size"])
@pytest.mark.parametrize("script", PAPERS)
def test_a_count_of_zero_is_named(refused, script, flag):
    assert f"{flag} must be an integer of at least 1" in refused(script, flag, 0, "--out", "new")


@pytest.mark.parametrize(
    ("script", "args"),
    [
        ("iwae", ["--objective", "elbo"]),
        ("beta_tcvae", ["--estimator", "exact"]),
        ("vq_vae", ["--codebook", "none"]),
        ("factor_vae", ["--precision", "float16"]),
        ("vae_paper", ["--binarisation", "always"]),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_a_word_that_is_no_choice_is_named(refused, script, args):
    message = refused(script, *args, "--out", "new", own=False)
    assert args[0] in message
    assert args[1] in message


@pytest.mark.parametrize("damage", ["missing folder", "empty folder", "empty", "cut", "text", "another pickle"])
def test_a_run_that_cannot_be_resumed(trained, refused, tmp_path, damage):
    folder = tmp_path / "run"
    state = folder / "resume.pt"
    if damage != "missing folder":
        folder.mkdir()
    if damage == "empty":
        state.touch()
    elif damage == "cut":
        whole = (trained("iwae").folder / "resume.pt").read_bytes()
        state.write_bytes(whole[: len(whole) // 2])
    elif damage == "text":
        state.write_text("no state at all\n" * 20)
    elif damage == "another pickle":
        torch.save([1, 2, 3], state)
    message = refused("iwae", "--resume", folder, "--epochs", 3)
    if damage.endswith("folder"):
        assert f"no resume.pt in {folder}: --resume expects the folder of a run that was saved" in message
    else:
        assert f"{state} is not the whole state of a run" in message


# --- The command line ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("script", PAPERS)
def test_help_explains_every_flag_of_every_paper(tmp_path, script):
    done = run(script, "--help", cwd=tmp_path)
    assert (done.code, done.stderr) == (0, "")
    assert not list(tmp_path.iterdir())
    assert "{None" not in done.stdout  # what may be left out is not to be typed
    # Each flag begins a line and is followed, up to the next one, by its argument and its explanation.
    text = re.sub("[│╭╮╰╯─|]", " ", done.stdout)
    explained = {}
    for entry in re.split(r"\n +(?=--?[a-z])", text)[1:]:
        bare = re.sub(r"\(default:[^)]*\)|\{.*?\}|\[.*?\]|--[\w-]+|\b[A-Z_]+\b", " ", entry, flags=re.DOTALL)
        explained[entry.split()[0].strip(",")] = len(re.findall("[A-Za-z]{2,}", bare))
    for option in fields(own_config(script)):
        flag = "--" + option.name.replace("_", "-")
        assert explained.get(flag, 0) >= 2, flag
    shared = {"--data", "--train-images", "--binarisation", "--epochs", "--batch-size", "--lr", "--seed", "--device"}
    assert explained.keys() >= shared | {"--precision", "--out", "--save-seconds", "--resume", "--weights", "-h"}
    assert PAPERS[script].own_option[0] in explained


# --- Own images ------------------------------------------------------------------------------------------------------

MLP = ["--architecture", "mlp", "--hidden-dims", 8, "--latent-dim", 2]


@pytest.fixture
def pets(tmp_path):
    """Forty small colour pictures of two classes in a folder of their own."""
    rng = np.random.default_rng(0)
    for i in range(40):
        path = tmp_path / "pets" / ("cats" if i % 2 else "dogs") / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (8, 8, 3), np.uint8)).save(path)
    return tmp_path / "pets"


def test_own_images_are_trained_on_drawn_and_reported(pets, tmp_path, monkeypatch):
    grids = {}
    monkeypatch.setattr(
        pictures, "save_image_grid", lambda path, rows, title, names=None: grids.update({path.name: (rows, names)})
    )
    flags = ["--data", "pets", "--conditional", *MLP, *ON_CPU, "--epochs", 1, "--out", "run"]
    done = run("vae_paper", *flags, cwd=tmp_path)
    assert done.code == 0, done.stderr
    assert done.stdout.startswith(f"{pets}, test set: 4 images, colour (not binarised), noise seed 0\n")
    config = json.loads((tmp_path / "run" / "config.json").read_text(encoding="utf-8"))
    expected = {"class": "ConditionalVAE", "num_classes": 2, "image_shape": [3, 8, 8]}
    assert config["model"] | expected == config["model"]
    assert config["training"]["data"] == str(pets)
    rows, names = grids["samples.png"]
    assert rows.shape == (2, 10, 3, 8, 8)
    assert list(names) == ["cats", "dogs"]


def test_a_run_of_own_images_goes_on_from_any_folder_until_they_change(pets, tmp_path, no_pictures):
    first = run("vae_paper", "--data", "pets", *MLP, *ON_CPU, "--epochs", 1, "--out", "run", cwd=tmp_path)
    assert first.code == 0, first.stderr
    (tmp_path / "elsewhere").mkdir()
    again = run("vae_paper", "--resume", tmp_path / "run", "--epochs", 2, cwd=tmp_path / "elsewhere")
    assert again.code == 0, again.stderr
    assert len(metrics(tmp_path / "run")) == 2
    picture = pets / "cats" / "1.png"
    Image.new("RGB", (8, 8)).save(picture)
    before = contents(tmp_path)
    changed = run("vae_paper", "--resume", tmp_path / "run", "--epochs", 3, cwd=tmp_path)
    assert changed.code == 2
    assert f"the images of --data {pets} are not those that the run was started with" in changed.stderr
    assert contents(tmp_path) == before


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--data", "nowhere"], "nowhere"),
        (["--data", "pets", "--image-size", 10], "10"),
        (["--data", "flat", "--conditional"], "--conditional needs classes"),
    ],
    ids=lambda value: " ".join(map(str, value)) if isinstance(value, list) else "",
)
def test_own_images_that_cannot_be_used_are_one_line(pets, refused, tmp_path, flags, message):
    (tmp_path / "flat").mkdir()
    for path in pets.rglob("*.png"):
        (tmp_path / "flat" / path.name).write_bytes(path.read_bytes())
    assert message in refused("vae_paper", *flags, "--out", "new")


# --- Black and white -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("script", PAPERS)
def test_no_grey_pixel_reaches_a_model_of_black_and_white(trained, tmp_path, monkeypatch, script):
    """Neither the report's line nor a picture forgets the draws."""
    cls = type(TrainableModel.load(trained(script).folder))
    seen, encode = [], cls.encode

    def spy(self, x, *labels):
        seen.append(x)
        return encode(self, x, *labels)

    monkeypatch.setattr(cls, "encode", spy)
    weights = trained(script).folder / "model.safetensors"
    flags = ["--binarisation", "fresh", *ON_CPU, "--out", "drawn"]
    done = run(script, "--weights", weights, *flags, cwd=tmp_path)
    assert done.code == 0, done.stderr
    assert len(list((tmp_path / "drawn").glob("*.png"))) >= 3
    assert len(seen) >= 3
    for x in seen:
        assert torch.isin(x, torch.tensor([0.0, 1.0])).all()
        assert 0.05 < x.mean() < 0.6
