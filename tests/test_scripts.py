"""The three scripts from end to end, on a few of the digits: what they print and write, and what they leave alone."""

import contextlib
import functools
import importlib
import io
import json
import re
import struct
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import sklearn.datasets
import torch
from PIL import Image
from safetensors.numpy import load_file
from torch.distributions import Bernoulli, Normal, kl_divergence

import experiment
import level_script
import vae_lowlevel
import vae_numpy
import vae_paper
from experiment import initialised
from image_data import load_images
from training_images import load_resident

REPOSITORY = Path(__file__).resolve().parent.parent
FOLDERS = {"vae_numpy": "numpy", "vae_lowlevel": "pytorch_lowlevel", "vae_paper": "paper"}
ON_CPU = {"vae_paper": ["--device", "cpu"]}  # where a seed gives the same bits each time

DIGITS, LABELS = sklearn.datasets.load_digits(return_X_y=True)


@contextlib.contextmanager
def few_digits():
    """Scikit-learn gives its first 250 digits only: 200 to train, 50 to test."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sklearn.datasets, "load_digits", lambda return_X_y: (DIGITS[:250], LABELS[:250]))
        yield


@pytest.fixture(autouse=True)
def use_few_digits():
    with few_digits():
        yield


def names_in(folder):
    """The files of a run, without the lock that its owner leaves there."""
    return {path.name for path in folder.iterdir()} - {".lock"}


def run(script, *args, cwd):
    """Call main() in a folder. Returns its exit code, its stdout and its stderr."""
    out, err, code = io.StringIO(), io.StringIO(), 0
    with contextlib.chdir(cwd), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            importlib.import_module(script).main([*map(str, args), *ON_CPU.get(script, [])])
        except SystemExit as stop:
            code = stop.code or 0
    return SimpleNamespace(code=code, stdout=out.getvalue(), stderr=err.getvalue())


# --- The report ------------------------------------------------------------------------------------------------------

NATS, VALUES = r" +(-?\d+\.\d{3})", r" +((?: *-?\d+\.\d{4}){1,5})"
REPORT = re.compile(
    r"(?P<data>\w+), test set: (?P<count>\d+) images, grey \(not binarised\), noise seed (?P<seed>\d+)\n"
    r"mean over the images, in nats per image\n"
    rf"  -ELBO{NATS}\n  reconstruction{NATS}\n  KL{NATS}\nthe first values\n"
    rf"  mu\[0, :5\]{VALUES}\n  logvar\[0, :5\]{VALUES}\n  z\[0, :5\]{VALUES}\n  logits\[0, 0, 0, :5\]{VALUES}\n"
)


def parsed(stdout):
    """The numbers of a report, which must be all that is on stdout."""
    match = REPORT.fullmatch(stdout)
    assert match, stdout
    elbo, reconstruction, kl = map(float, match.groups()[3:6])
    mu, logvar, z, logits = (np.array(values.split(), float) for values in match.groups()[6:])
    assert elbo == pytest.approx(reconstruction + kl, abs=1.1e-3)  # whatever beta was in training
    return SimpleNamespace(
        data=match["data"], count=int(match["count"]), seed=int(match["seed"]), elbo=elbo,
        reconstruction=reconstruction, kl=kl, mu=mu, logvar=logvar, z=z, logits=logits,
    )  # fmt: skip


def assert_same_report(a, b):
    """Equal as text, but for one in the last digit of a number."""
    number = r"-?\d+\.(\d+)"
    assert re.sub(rf" *{number}", "#", a) == re.sub(rf" *{number}", "#", b)
    for left, right in zip(re.finditer(number, a), re.finditer(number, b), strict=True):
        assert float(left[0]) == pytest.approx(float(right[0]), abs=1.1 * 10.0 ** -len(left[1]))


# --- Training --------------------------------------------------------------------------------------------------------

LEVEL_2_FILES = {"model.safetensors", "config.json", "loss_curves.png", "reconstructions.png", "samples.png"}
LEVEL_3_FILES = LEVEL_2_FILES | {
    "resume.pt", "metrics.csv", "summary.json", "latent_space.png", "interpolation.png", "traversal.png"
}  # fmt: skip
RUNS = {  # name: script, flags, files, configuration of the model
    "level 2": ("vae_lowlevel", [], LEVEL_2_FILES, {}),
    "level 2, Z=3": ("vae_lowlevel", ["--latent-dim", 3], LEVEL_2_FILES, {"latent_dim": 3}),
    "level 3": ("vae_paper", [], LEVEL_3_FILES, {}),
    "beta": ("vae_paper", ["--beta", 4], LEVEL_3_FILES, {"beta": 4.0}),
    "conditional": ("vae_paper", ["--conditional"], LEVEL_3_FILES, {"class": "ConditionalVAE", "num_classes": 10}),
    "mlp": (
        "vae_paper",
        ["--architecture", "mlp", "--hidden-dims", 32, 16],
        LEVEL_3_FILES,
        {"architecture": "mlp", "hidden_dims": (32, 16)},
    ),
    "plane": ("vae_paper", ["--latent-dim", 2], LEVEL_3_FILES | {"manifold.png"}, {"latent_dim": 2}),
}
LEVEL_3_RUNS = [name for name, (script, *_) in RUNS.items() if script == "vae_paper"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A function that trains one of RUNS for an epoch, once, and gives its output and its folder."""

    @functools.cache
    def train_once(name):
        script, flags, _, _ = RUNS[name]
        cwd = tmp_path_factory.mktemp("run")
        with few_digits():
            done = run(script, *flags, "--epochs", 1, "--batch-size", 50, "--out", "run", cwd=cwd)
        assert done.code == 0, done.stderr
        done.folder = cwd / "run"
        return done

    return train_once


@pytest.mark.parametrize("name", RUNS)
def test_training_reports_on_stdout_and_all_else_goes_to_stderr(trained, name):
    done = trained(name)
    report = parsed(done.stdout)
    assert (report.data, report.count, report.seed) == ("digits", 50, 0)
    assert "training" in done.stderr
    assert "weights and pictures in run" in done.stderr


@pytest.mark.parametrize("name", RUNS)
def test_training_writes_its_files_and_nothing_beside_them(trained, name):
    folder = trained(name).folder
    assert names_in(folder) == RUNS[name][2]
    assert list(folder.parent.iterdir()) == [folder]
    for path in folder.glob("*.png"):
        with Image.open(path) as image:
            picture = np.asarray(image.convert("L"))
        assert 60 < min(picture.shape) <= max(picture.shape) < 2500, path
        # Neither one flat colour nor an empty frame: much of it is not the background.
        values, counts = np.unique(picture, return_counts=True)
        assert len(values) > 20, path
        assert counts.max() < 0.99 * counts.sum(), path


@pytest.mark.parametrize("name", RUNS)
def test_the_folder_of_a_run_loads_as_the_model_that_was_trained(trained, name):
    folder = trained(name).folder
    model = vae_paper.VAE.load(folder)
    default = {"class": "VAE", "latent_dim": 20, "beta": 1.0, "architecture": "conv", "image_shape": (1, 28, 28)}
    config = model.config()
    assert config | default | RUNS[name][3] == config
    stored = load_file(folder / "model.safetensors")
    assert stored.keys() == model.state_dict().keys()
    for key, tensor in model.state_dict().items():
        np.testing.assert_array_equal(tensor.numpy(), stored[key])
    training = json.loads((folder / "config.json").read_text())["training"]
    assert training | {"epochs": 1, "batch_size": 50, "seed": 0, "lr": 1e-3, "data": "digits"} == training


@pytest.mark.parametrize("name", RUNS)
def test_the_report_agrees_with_torch_distributions(trained, name):
    done = trained(name)
    model, report = vae_paper.VAE.load(done.folder), parsed(done.stdout)
    images, labels = load_images("digits", "test")
    x, c = torch.from_numpy(images), torch.from_numpy(labels) if model.num_classes else None
    eps = np.random.default_rng(0).standard_normal((50, model.latent_dim)).astype(np.float32)
    with torch.no_grad():
        mu, logvar = model.encode(x, c)
        q = Normal(mu, torch.exp(logvar / 2))
        z = q.loc + q.scale * torch.from_numpy(eps)
        logits = model.decode(z, c)
        nll = -Bernoulli(logits=logits, validate_args=False).log_prob(x).sum() / 50
        kl = kl_divergence(q, Normal(0.0, 1.0)).sum() / 50
    assert report.reconstruction == pytest.approx(nll.item(), abs=2e-3)
    assert report.kl == pytest.approx(kl.item(), abs=2e-3)
    for ours, theirs in (
        (report.mu, mu[0]), (report.logvar, logvar[0]), (report.z, z[0]), (report.logits, logits[0, 0, 0])
    ):  # fmt: skip
        np.testing.assert_allclose(ours, theirs[:5], atol=2e-4)


@pytest.mark.parametrize("name", RUNS)
def test_weights_report_again_what_training_reported(trained, tmp_path, name):
    done = trained(name)
    again = run(RUNS[name][0], "--weights", done.folder / "model.safetensors", cwd=tmp_path)
    assert again.stdout == done.stdout


@pytest.mark.parametrize("name", ["level 2", "level 3"])
def test_training_improves_the_elbo(trained, tmp_path, name):
    if name == "level 2":
        vae_lowlevel.save_weights(tmp_path / "start.safetensors", vae_lowlevel.init_params(0))
    else:
        config = vae_paper.VaeConfig(seed=0)
        start = initialised(vae_paper.build_model, config, load_resident(config, "train"))
        start.save_weights(tmp_path / "start.safetensors")
    start = run("vae_numpy", "--weights", "start.safetensors", cwd=tmp_path)
    assert parsed(trained(name).stdout).elbo < 0.95 * parsed(start.stdout).elbo


def test_beta_is_in_the_objective_and_not_in_the_report(trained):
    done = trained("beta")
    row = json.loads((done.folder / "summary.json").read_text())["last_epoch"]
    assert row["test_loss"] == pytest.approx(row["test_reconstruction_nll"] + 4 * row["test_kl_divergence"], abs=1e-2)
    report = parsed(done.stdout)  # and parsed() checks that -ELBO = reconstruction + KL
    # The report's noise is another, so the numbers are near, not equal.
    assert report.elbo == pytest.approx(row["test_reconstruction_nll"] + row["test_kl_divergence"], rel=0.02)


def test_beta_changes_what_is_learned(trained):
    assert parsed(trained("beta").stdout).kl < parsed(trained("level 3").stdout).kl


def test_level_2s_loss_curves_are_its_own_numbers(monkeypatch, tmp_path, no_pictures):
    drawn = []
    monkeypatch.setattr(level_script, "save_loss_curves", lambda path, terms: drawn.append(terms))
    run("vae_lowlevel", "--epochs", 2, "--seed", 3, "--out", "run", cwd=tmp_path)
    [terms] = drawn
    assert list(terms) == ["-ELBO", "reconstruction", "KL"]
    assert all(values.shape == (2, 2) for values in terms.values())
    np.testing.assert_allclose(terms["-ELBO"], terms["reconstruction"] + terms["KL"])
    params = vae_lowlevel.load_weights(tmp_path / "run" / "model.safetensors")
    x = torch.from_numpy(load_images("digits", "test")[0])
    test = vae_lowlevel.evaluate(params, (255 * x).round().to(torch.uint8), seed=3)
    np.testing.assert_allclose([terms["reconstruction"][-1, 1], terms["KL"][-1, 1]], test, rtol=1e-6)


# --- Seeds and folders -----------------------------------------------------------------------------------------------


@pytest.fixture
def no_pictures(monkeypatch):
    """Most of a short run's time goes into them."""
    monkeypatch.setattr("pictures.draw_all", lambda *args: None)
    for name in ("save_image_grid", "save_loss_curves"):
        monkeypatch.setattr(level_script, name, lambda *args: None)


@pytest.mark.parametrize("name", ["level 2", "level 3", "conditional"])
def test_a_seed_gives_the_same_bits_and_another_seed_others(trained, tmp_path, no_pictures, name):
    script, flags, _, _ = RUNS[name]
    weights = {"first": load_file(trained(name).folder / "model.safetensors")}
    for out, seed in (("same", 0), ("other", 1)):
        # A script must not depend on the state that other code left behind, nor change it.
        torch.manual_seed(99 + seed)
        np.random.seed(99 + seed)  # noqa: NPY002 - the global state is the point
        before = torch.get_rng_state()
        run(script, *flags, "--epochs", 1, "--batch-size", 50, "--seed", seed, "--out", out, cwd=tmp_path)
        assert torch.equal(torch.get_rng_state(), before)
        weights[out] = load_file(tmp_path / out / "model.safetensors")
    for key, array in weights["first"].items():
        np.testing.assert_array_equal(array, weights["same"][key], err_msg=key)
        assert not np.array_equal(array, weights["other"][key]), key


@pytest.mark.parametrize("script", ["vae_lowlevel", "vae_paper"])
def test_the_seed_is_that_of_the_initial_parameters_too(tmp_path, no_pictures, script):
    run(script, "--epochs", 1, "--lr", 1e-12, "--seed", 3, "--latent-dim", 2, "--out", "run", cwd=tmp_path)
    if script == "vae_lowlevel":
        start = vae_lowlevel.init_params(3, 2)
    else:
        config = vae_paper.VaeConfig(seed=3, latent_dim=2)
        start = initialised(vae_paper.build_model, config, load_resident(config, "train")).state_dict()
    for key, array in load_file(tmp_path / "run" / "model.safetensors").items():
        np.testing.assert_allclose(array, start[key].detach(), atol=1e-8, err_msg=key)


@pytest.mark.parametrize("script", ["vae_lowlevel", "vae_paper"])
def test_each_run_takes_the_next_free_folder(tmp_path, no_pictures, script):
    (tmp_path / "runs" / f"{script}-002").mkdir(parents=True)
    (tmp_path / "runs" / f"{script}-003").touch()
    for _ in range(2):
        done = run(script, "--epochs", 1, "--batch-size", 200, "--latent-dim", 1, cwd=tmp_path)
        assert done.code == 0
    runs = tmp_path / "runs"
    assert {path.name for path in runs.iterdir()} == {f"{script}-{n:03d}" for n in (1, 2, 3, 4)}
    assert f"in {Path('runs', script)}-004" in done.stderr
    assert (runs / f"{script}-001" / "model.safetensors").is_file()
    assert (runs / f"{script}-004" / "model.safetensors").is_file()
    assert not list((runs / f"{script}-002").iterdir())


@pytest.mark.parametrize("script", FOLDERS)
def test_an_empty_folder_may_be_named_and_a_new_one_is_made_with_its_parents(tmp_path, script):
    (tmp_path / "empty").mkdir()
    vae_numpy.save_weights(tmp_path / "model.safetensors", vae_numpy.init_params(0, 2))
    for out in ("empty", "new/and/deep"):
        done = run(script, "--weights", "model.safetensors", "--out", out, cwd=tmp_path)
        assert done.code == 0
        assert (tmp_path / out / "samples.png").is_file()
        assert f"pictures in {out}" in done.stderr


# --- Reports on given weights ----------------------------------------------------------------------------------------


def write_fashion(root):
    """A few random pictures as Fashion-MNIST's test set, in the files that torchvision reads."""
    rng = np.random.default_rng(0)
    raw = root / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    for part in ("train", "t10k"):
        header = struct.pack(">HBB3I", 0, 8, 3, 9, 28, 28)
        (raw / f"{part}-images-idx3-ubyte").write_bytes(header + rng.bytes(9 * 784))
        (raw / f"{part}-labels-idx1-ubyte").write_bytes(struct.pack(">HBBI", 0, 8, 1, 9) + bytes(range(9)))


@pytest.mark.parametrize(
    ("source", "seed", "data"),
    [
        ("level 2", 0, "digits"),
        ("level 3", 0, "digits"),
        ("level 3", 12345, "fashion"),
        ("beta", 7, "digits"),
        ("plane", 1, "digits"),
        ((1, np.float32), 0, "digits"),
        ((20, np.float64), 3, "digits"),
        ((33, np.float64), 3, "fashion"),
    ],
)
def test_the_three_levels_report_the_same(trained, tmp_path, monkeypatch, source, seed, data):
    if isinstance(source, str):
        path = trained(source).folder / "model.safetensors"
    else:
        path = tmp_path / "model.safetensors"
        params = vae_numpy.init_params(5, *source)
        vae_numpy.save_weights(path, {name: 1.5 * array for name, array in params.items()})  # a KL well above 0
    monkeypatch.setenv("VAE_DATA", str(tmp_path))
    write_fashion(tmp_path)
    reports = [run(script, "--weights", path, "--seed", seed, "--data", data, cwd=tmp_path) for script in FOLDERS]
    report = parsed(reports[0].stdout)
    assert (report.data, report.seed, report.count) == (data, seed, {"digits": 50, "fashion": 9}[data])
    for other in reports[1:]:
        assert_same_report(other.stdout, reports[0].stdout)


def test_another_seed_is_other_noise(trained, tmp_path):
    path = trained("level 3").folder / "model.safetensors"
    a, b = (parsed(run("vae_numpy", "--weights", path, "--seed", seed, cwd=tmp_path).stdout) for seed in (0, 1))
    assert a.kl == b.kl
    assert a.reconstruction != b.reconstruction
    assert not np.array_equal(a.z, b.z)


@pytest.mark.parametrize("script", FOLDERS)
def test_weights_are_never_trained(trained, tmp_path, monkeypatch, script):
    def refuse(*args, **kwargs):
        raise AssertionError("tried to train")

    monkeypatch.setattr(vae_lowlevel, "train", refuse)
    monkeypatch.setattr(experiment, "train", refuse)
    path = trained("level 2").folder / "model.safetensors"
    before = path.read_bytes(), path.stat().st_mtime_ns
    done = run(script, "--weights", path, cwd=tmp_path)
    assert parsed(done.stdout)
    assert done.stderr == ""
    assert (path.read_bytes(), path.stat().st_mtime_ns) == before
    assert not list(tmp_path.iterdir())  # no folder unless --out asks for one


@pytest.mark.parametrize(
    ("script", "files"),
    [
        ("vae_numpy", {"reconstructions.png", "samples.png"}),
        ("vae_lowlevel", {"reconstructions.png", "samples.png"}),
        ("vae_paper", {name for name in LEVEL_3_FILES if name.endswith(".png")} - {"loss_curves.png"}),
    ],
)
def test_weights_and_out_write_pictures_alone(trained, tmp_path, script, files):
    done = run(script, "--weights", trained("level 2").folder / "model.safetensors", "--out", "new", cwd=tmp_path)
    assert names_in(tmp_path / "new") == files
    assert done.stdout == trained("level 2").stdout or script == "vae_numpy"
    assert done.stderr == "pictures in new\n"


@pytest.mark.parametrize("script", ["vae_numpy", "vae_lowlevel"])
def test_levels_1_and_2_draw_what_level_3_computes(trained, tmp_path, monkeypatch, script):
    drawn = {}
    monkeypatch.setattr(level_script, "save_image_grid", lambda path, rows, *rest: drawn.update({path.name: rows}))
    folder = trained("level 3").folder
    run(script, "--weights", folder / "model.safetensors", "--seed", 4, "--out", "new", cwd=tmp_path)

    model, x = vae_paper.VAE.load(folder), torch.from_numpy(load_images("digits", "test")[0])
    eps, prior = (
        torch.from_numpy(np.random.default_rng(seed).standard_normal((count, 20)).astype(np.float32))
        for seed, count in ((4, 50), (5, 50))
    )
    with torch.no_grad():
        logits = model(x, eps)[-1][:10]
        expected = {
            "reconstructions.png": torch.stack([x[:10], torch.sigmoid(logits)]),
            "samples.png": model.sample(prior).view(5, 10, 1, 28, 28),
        }
    assert drawn.keys() == expected.keys()
    for name, rows in expected.items():
        np.testing.assert_allclose(np.asarray(drawn[name]), rows, atol=1e-5)


@pytest.mark.parametrize("seed", [0, 6])
def test_level_1_without_weights_reports_on_level_2s_initial_parameters(tmp_path, seed):
    random = run("vae_numpy", "--seed", seed, cwd=tmp_path)
    assert "random" in random.stderr
    assert not list(tmp_path.iterdir())
    vae_lowlevel.save_weights(tmp_path / "model.safetensors", vae_lowlevel.init_params(seed))
    stored = run("vae_lowlevel", "--weights", "model.safetensors", "--seed", seed, cwd=tmp_path)
    assert_same_report(random.stdout, stored.stdout)


# --- The command line itself -----------------------------------------------------------------------------------------

FLAGS = {
    "vae_numpy": {"-h", "--weights", "--seed", "--data", "--out"},
    "vae_lowlevel": {
        "-h", "--weights", "--seed", "--data", "--out", "--epochs", "--batch-size", "--lr", "--latent-dim"
    },
    "vae_paper": {
        "-h", "--weights", "--seed", "--data", "--out", "--epochs", "--batch-size", "--lr", "--latent-dim",
        "--device", "--beta", "--conditional", "--architecture", "--hidden-dims", "--resume", "--save-seconds",
        "--train-images", "--binarisation", "--precision", "--autoencoder", "--likelihood", "--sigma",
        "--kl-schedule", "--kl-steps", "--free-bits", "--capacity", "--capacity-gamma", "--group-size", "--activation",
        "--image-size", "--channels", "--skip-bad", "--lr-schedule",
    },
}  # fmt: skip


@pytest.mark.parametrize("script", FOLDERS)
def test_help_explains_every_flag(tmp_path, script):
    done = run(script, "--help", cwd=tmp_path)
    assert done.code == 0
    assert done.stderr == ""
    assert not list(tmp_path.iterdir())
    # Each flag begins a line and is followed, up to the next one, by its argument and its explanation.
    text = re.sub("[│╭╮╰╯─|]", " ", done.stdout)
    explanations = {}
    for entry in re.split(r"\n +(?=--?[a-z])", text)[1:]:
        flag, _, rest = entry.partition(" ")
        bare = re.sub(r"\(default:[^)]*\)|\{.*?\}|\[.*?\]|--[\w-]+|\b[A-Z_]+\b", " ", rest, flags=re.DOTALL)
        explanations[flag.strip(",")] = re.findall(r"[A-Za-z]{2,}", bare)
    assert explanations.keys() == FLAGS[script]
    for flag, words in explanations.items():
        assert len(words) >= 2, f"{flag} is not explained: {words}"


# Levels 2 and 3 train. The README's lines, which run them too, are executed by `make course`.
@pytest.mark.parametrize(
    "script", [pytest.param(name, marks=[pytest.mark.slow] * (name != "vae_numpy")) for name in FOLDERS]
)
def test_the_script_as_a_user_runs_it(tmp_path, script):
    flags = {"vae_numpy": []}.get(script, ["--epochs", "1", "--batch-size", "500"])
    command = [sys.executable, f"{FOLDERS[script]}/{script}.py", *flags, "--out", str(tmp_path / "run")]
    before = set(REPOSITORY.glob("runs/*"))
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    report = parsed(done.stdout)
    assert (report.data, report.count) == ("digits", 357)
    assert f"pictures in {tmp_path / 'run'}" in done.stderr
    assert "Warning" not in done.stderr
    files = {"vae_numpy": {"reconstructions.png", "samples.png"}, "vae_lowlevel": LEVEL_2_FILES}
    assert names_in(tmp_path / "run") == files.get(script, LEVEL_3_FILES)
    assert set(REPOSITORY.glob("runs/*")) == before


def test_level_1_runs_without_pytorch(tmp_path, trained):
    """It only asks for NumPy, safetensors, matplotlib and the digits: nothing of PyTorch is loaded on the way."""
    weights = trained("level 2").folder / "model.safetensors"
    code = (
        f"import sys, vae_numpy; vae_numpy.main(['--weights', {str(weights)!r}, '--out', 'run']); "
        "sys.exit('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert parsed(done.stdout).count == 357
