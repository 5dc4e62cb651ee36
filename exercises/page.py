"""The VAE a fourth time, in the browser: writes one HTML file that holds everything, and opens it.

python exercises/page.py                            the tour's models, trained in about a minute and kept
python exercises/page.py --run runs/a --run runs/b  the models of these runs, of images of 28x28 pixels
"""

from level_script import one_line_errors, run_as_script, some_path  # before all others: it sees to Ctrl-C
from run_files import write_beside

# isort: split

import argparse
import base64
import hashlib
import io
import itertools
import json
import os
import re
import sys
import webbrowser
from importlib.util import find_spec
from pathlib import Path

from course import HERE, find

SOURCES = HERE / "page"
COLUMNS = 25  # of the sheet of test images
IMAGES = 350
TITLES = {"VAE": "VAE", "ConditionalVAE": "conditional VAE", "Autoencoder": "autoencoder"}
SMALL = {"epochs": 60, "lr": 0.01, "architecture": "mlp", "hidden_dims": (128,)}
TOUR = [  # title, what it says of itself, options of `trained_vae`
    ("VAE, convolutional", "2 latents, 30 epochs of the repository's digits.", {"epochs": 30, "lr": 0.004}),
    ("VAE, fully connected", "One hidden layer of 128 units, 2 latents, 60 epochs.", SMALL),
    ("autoencoder, fully connected", "The same network without noise and KL.", SMALL | {"autoencoder": True}),
    ("VAE, beta = 4, fully connected", "The same network; the KL counted four times.", SMALL | {"beta": 4.0}),
    ("conditional VAE, fully connected", "The same network, told the class.", SMALL | {"conditional": True}),
]


def main(argv=None):
    parser = argparse.ArgumentParser(
        prog="page.py",
        description="Write one HTML file in which a VAE runs, offline, in any browser, and open it. Without --run it "
        "trains what the page's tour needs, in about a minute, and keeps it.",
    )
    parser.add_argument(
        "--run", type=some_path, metavar="DIR", action="append", default=[],
        help="a run of vae_paper.py or vae_lowlevel.py on images of 28x28 pixels; may be given several times",
    )  # fmt: skip
    parser.add_argument("--out", type=some_path, metavar="FILE", help="the file to write (default: next free in runs/)")
    parser.add_argument(
        "--dtype", choices=("float16", "float32"), default="float16", help="of the weights in it (default: float16)"
    )
    parser.add_argument(
        "--course",
        metavar="URL",
        help="where the exercises lie as web pages, for the tour's links (default: the texts here)",
    )
    parser.add_argument("--no-open", action="store_true", help="only write it")
    options = parser.parse_args(argv)
    with one_line_errors("page.py"):
        out = free_place(options.out)
        text = page(models(options.run), options, out)
        free_place(out)  # training took a while
        write_beside(out, text)
    print(f"{out}, {out.stat().st_size / 1e6:.1f} MB", file=sys.stderr)
    if not options.no_open:
        webbrowser.open(out.resolve().as_uri())


def free_place(out):
    """The path to write to, which nothing has yet. Raises FileExistsError, or OSError where it cannot be written."""
    if out is None:
        out = next(path for n in itertools.count(1) if not (path := Path("runs", f"page-{n:03d}.html")).exists())
    out = Path(out)
    if out.exists():
        raise FileExistsError(f"--out {out} is there already and is not overwritten: choose a new file")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.touch()
        out.unlink()
    except OSError as error:
        raise OSError(f"cannot write to --out {out} ({error.strerror}): choose a file you may write to") from None
    return out


# --- What goes into the page -----------------------------------------------------------------------------------------


def models(runs):
    """(title, note, model) of each run, or of each model of the tour. Raises ValueError for one that does not fit."""
    if not runs:
        from course import trained_vae

        return [(title, note, trained_vae(latent_dim=2, **options)) for title, note, options in TOUR]
    from vae_paper import load_model

    found = []
    for run in runs:
        path = Path(run)
        model = load_model(path / "model.safetensors" if path.is_dir() else path)
        if model.image_shape != (1, 28, 28):
            raise ValueError(f"--run {run} is of images {model.image_shape}, and the page shows (1, 28, 28) only")
        name, size = type(model).__name__, model.latent_dim
        words = f"{run}: {name}, {model.options.architecture}, {size} latent{'s' * (size > 1)}."
        folder = path.resolve() if path.is_dir() else path.resolve().parent
        found.append((f"{TITLES.get(name, name)} of {folder.name}", words, model))
    return found


def page(chosen, options, out):
    """The whole file: the sources of page/ in one, and the data that they need."""
    data = {
        "models": [
            {"title": title, "note": note, "weights": weights(model, options.dtype, title)}
            for title, note, model in chosen
        ],
        "images": test_images(),
        "lines": code_lines(),
        "tour": [] if options.run else tour(options.course, out),
        "colophon": f"Weights as {options.dtype}. The test images are scikit-learn's handwritten digits, enlarged from "
        "8 × 8 pixels.",
    }
    style = (SOURCES / "page.css").read_text(encoding="utf-8")
    script = bundle(SOURCES / "page.js")
    policy = (
        f"default-src 'none'; script-src {hashed(script)}; style-src {hashed(style)}; img-src data: blob:; "
        "base-uri 'none'; form-action 'none'"
    )
    charset, body = '<meta charset="utf-8">', "  </body>"
    inside = {
        charset: f'{charset}\n    <meta http-equiv="Content-Security-Policy" content="{policy}">',
        '<link rel="stylesheet" href="page.css">': f"<style>{style}</style>",
        '<script type="module" src="page.js"></script>': "",
        body: f'    <script type="application/json" id="data">{as_json(data)}</script>\n'
        f'    <script type="module">{script}</script>\n{body}',
    }
    text = (SOURCES / "page.html").read_text(encoding="utf-8")
    for place, content in inside.items():
        assert text.count(place) == 1, place
        text = text.replace(place, content)
    return text


def weights(model, dtype, title):
    """The model's .safetensors file in base64. Raises ValueError where float16 cannot hold a weight."""
    import torch
    from safetensors.torch import save

    from run_files import weights_metadata

    tensors = {name: tensor.contiguous().to(getattr(torch, dtype)) for name, tensor in model.state_dict().items()}
    if not all(torch.isfinite(tensor).all() for tensor in tensors.values()):
        raise ValueError(f"{title} has weights that are too large for {dtype}: choose --dtype float32")
    return base64.b64encode(save(tensors, weights_metadata(model.config()))).decode()


def test_images():
    """Test images as one PNG file, a sheet with COLUMNS in each row, and their labels."""
    import numpy as np
    from PIL import Image

    from image_data import load_uint8_images

    pixels, labels = load_uint8_images("digits", "test")
    rows = pixels[:IMAGES, 0].reshape(-1, COLUMNS, 28, 28).swapaxes(1, 2).reshape(-1, COLUMNS * 28)
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(rows)).save(file, "PNG", optimize=True)
    sheet = f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"
    return {"sheet": sheet, "columns": COLUMNS, "labels": labels[:IMAGES].tolist()}


def code_lines():
    """Where each layer is computed: {layer: {file, number, code}}, in level 1, or level 3 for what it alone has."""
    from vae_numpy import weight_shapes

    level_1 = {layer: rf'\(.*weight\["{re.escape(layer)}"\]' for layer in weight_shapes()}
    level_1 |= {
        "x": r"check_images\(np.ndarray, x, like",
        "z": r"^ +z = mu \+ sigma",
        "image": r"return sigmoid\(decode",
    }
    level_3 = {
        "encoder.hidden.*": r"h = self.hidden\(append\(x.flatten",
        "decoder.hidden.*": r"return self.logits\(self.hidden",
        "decoder.logits": r"return self.logits\(self.hidden",
    }
    found = {}
    for module, patterns in (("vae_numpy", level_1), ("vae_paper", level_3)):
        path = Path(find_spec(module).origin)
        lines = path.read_text(encoding="utf-8").splitlines()
        for layer, pattern in patterns.items():
            number, code = next((i, line) for i, line in enumerate(lines, start=1) if re.search(pattern, line))
            found[layer] = {"file": f"{path.parent.name}/{path.name}", "number": number, "code": code.strip()}
    return found


def tour(course, out):
    """The stops of page/tour.json, each with a link to its exercise."""
    stops = json.loads((SOURCES / "tour.json").read_text(encoding="utf-8"))
    for stop in stops:
        exercise = find(stop["exercise"])
        here = Path(os.path.relpath(exercise.path, out.resolve().parent)).as_posix()
        stop["link"] = f"{course.rstrip('/')}/{exercise.name}.html" if course else here
        stop["exercise"] = f"Exercise {exercise.number}: {exercise.title}"
    return stops


# --- One file --------------------------------------------------------------------------------------------------------


def bundle(path, seen=()):
    """A JavaScript module and those that it imports from beside it, each once, as one module without imports."""
    parts, done = [], set(seen)

    def add(path):
        if path in done:
            return
        done.add(path)
        text = path.read_text(encoding="utf-8")
        for name in re.findall(r'^import \{[^}]*\} from "\./([\w.]+)";$', text, re.MULTILINE):
            add(path.with_name(name))
        text = re.sub(r'^import \{[^}]*\} from "[^"]+";\n', "", text, flags=re.MULTILINE)
        parts.append(re.sub(r"^export ", "", text, flags=re.MULTILINE))

    add(path)
    return "\n".join(parts)


def hashed(text):
    """What a Content-Security-Policy calls a script or style of this text."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def as_json(data):
    """JSON that may stand in an HTML script: no `</script>` ends it early."""
    return json.dumps(data, ensure_ascii=False).replace("<", "\\u003c")


if __name__ == "__main__":
    run_as_script(main)
