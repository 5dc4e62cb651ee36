"""The writer of the page: one file that holds everything, and one line for what cannot become one."""

import base64
import hashlib
import json
import re

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load

import page
from course import find
from image_data import load_uint8_images
from vae_paper import VAE, Autoencoder
from vq_vae import VQVAE

MLP = {"architecture": "mlp", "hidden_dims": (5,)}


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A run of a small VAE, in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    VAE(latent_dim=2, **MLP).save(tmp_path / "small")
    return tmp_path / "small"


def written(*arguments):
    page.main([*map(str, arguments), "--no-open"])


def data_of(path):
    return json.loads(re.search(r'id="data">(.*?)</script>', path.read_text(encoding="utf-8"))[1])


def test_the_file_holds_everything_and_allows_nothing_else(run, tmp_path):
    written("--run", run, "--out", tmp_path / "a" / "page.html")
    text = (tmp_path / "a" / "page.html").read_text(encoding="utf-8")
    assert not re.search(r'(src|href)="(?!#)[^"]*"', re.sub(r"<script.*?</script>", "", text, flags=re.DOTALL))
    assert not re.search(r"https?://", re.sub(r'id="data">.*?</script>', "", text, flags=re.DOTALL))
    assert "import " not in re.search(r'<script type="module">(.*?)</script>', text, re.DOTALL)[1].split("function")[0]
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', text)[1]
    assert policy.startswith("default-src 'none';")
    for tag in ('script type="module"', "style"):
        content = re.search(rf"<{tag}>(.*?)</{tag.split()[0]}>", text, re.DOTALL)[1]
        assert base64.b64encode(hashlib.sha256(content.encode()).digest()).decode() in policy
    assert "unsafe" not in policy


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_weights_images_and_lines_are_what_they_say(run, tmp_path, dtype):
    written("--run", run, "--out", tmp_path / "page.html", "--dtype", dtype)
    data = data_of(tmp_path / "page.html")
    [model] = data["models"]
    tensors = load(base64.b64decode(model["weights"]))
    for name, tensor in VAE.load(run).state_dict().items():
        assert tensors[name].dtype == getattr(torch, dtype)
        torch.testing.assert_close(tensors[name].float(), tensor.to(getattr(torch, dtype)).float(), rtol=0, atol=0)
    assert model["title"] == "VAE of small"
    (tmp_path / "sheet.png").write_bytes(base64.b64decode(data["images"]["sheet"].partition(",")[2]))
    sheet = np.asarray(Image.open(tmp_path / "sheet.png"))
    pixels, labels = load_uint8_images("digits", "test")
    assert data["images"]["labels"] == labels[:350].tolist()
    for i in (0, 26, 349):
        row, column = divmod(i, data["images"]["columns"])
        part = sheet[28 * row : 28 * (row + 1), 28 * column : 28 * (column + 1)]
        np.testing.assert_array_equal(part, pixels[i, 0])
    for layer, line in data["lines"].items():
        code = (page.HERE.parent / line["file"]).read_text(encoding="utf-8").splitlines()[line["number"] - 1]
        assert code.strip() == line["code"]
        assert "." not in layer or layer.split(".")[1] in line["code"] or "hidden" in line["code"]
    assert {"x", "z", "image", "encoder.conv1", "encoder.logvar", "decoder.deconv2", "encoder.hidden.*"} <= set(
        data["lines"]
    )


def test_a_run_of_level_2_and_several_runs(run, tmp_path, capsys):
    Autoencoder(latent_dim=3, **MLP).save(tmp_path / "other")
    written("--run", run, "--run", tmp_path / "other" / "model.safetensors", "--out", "two.html")
    assert [model["title"] for model in data_of(tmp_path / "two.html")["models"]] == [
        "VAE of small", "autoencoder of other",
    ]  # fmt: skip
    assert data_of(tmp_path / "two.html")["tour"] == []  # it speaks of models that are not there
    assert re.fullmatch(r"two.html, 0\.\d MB\n", capsys.readouterr().err)


def test_without_a_name_the_next_free_one_is_taken(run, tmp_path):
    written("--run", run)
    written("--run", run)
    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == ["page-001.html", "page-002.html"]


def test_the_tours_stops_lead_to_their_exercises(tmp_path, monkeypatch):
    tiny = [
        (title, note, {"epochs": 1, **MLP, **({"beta": 4.0} if "beta" in title else {})})
        for title, note, _ in page.TOUR
    ]
    monkeypatch.setattr(page, "TOUR", tiny)
    monkeypatch.setenv("COURSE_WORK", str(tmp_path / "work"))
    for course, place in ((None, "page.html"), ("https://example.org/course/", "published.html")):
        written("--out", tmp_path / place, *(["--course", course] if course else []))
        stops = data_of(tmp_path / place)["tour"]
        assert len(stops) == 7
        for stop, source in zip(
            stops, json.loads((page.SOURCES / "tour.json").read_text(encoding="utf-8")), strict=True
        ):
            exercise = find(source["exercise"])
            link = f"https://example.org/course/{exercise.name}.html"
            assert stop["link"] == link if course else (tmp_path / stop["link"]).resolve() == exercise.path
            assert exercise.title in stop["exercise"]


def test_it_is_opened_unless_asked_not_to(run, tmp_path, monkeypatch):
    opened = []
    monkeypatch.setattr("webbrowser.open", opened.append)
    page.main(["--run", str(run), "--out", "a b.html"])
    assert opened == [(tmp_path / "a b.html").as_uri()]


def refuses(capsys, folder, *arguments):
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    with pytest.raises(SystemExit) as stopped:
        written(*arguments)
    assert stopped.value.code == 2
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
    out, err = capsys.readouterr()
    assert out == ""
    return err


def test_what_cannot_be_written_is_one_line(run, tmp_path, capsys, monkeypatch):
    (tmp_path / "there.html").write_text("mine", encoding="utf-8")
    (tmp_path / "file").touch()
    VQVAE(num_codes=5, code_dim=3).save(tmp_path / "vq")
    VAE(image_shape=(1, 64, 64), latent_dim=2).save(tmp_path / "large")
    (tmp_path / "cut").mkdir()
    (tmp_path / "cut" / "model.safetensors").write_bytes((run / "model.safetensors").read_bytes()[:-7])
    big = VAE(latent_dim=2, **MLP)
    torch.nn.init.constant_(big.encoder.mu.bias, 1e6)
    big.save(tmp_path / "big")
    for words, arguments in {
        "--out there.html is there already and is not overwritten": ["--run", run, "--out", "there.html"],
        "cannot write to --out file/page.html": ["--run", run, "--out", "file/page.html"],
        "no weights at nowhere": ["--run", "nowhere", "--out", "new.html"],
        "VQVAE": ["--run", "vq", "--out", "new.html"],
        "--run large is of images (1, 64, 64), and the page shows (1, 28, 28) only": [
            "--run",
            "large",
            "--out",
            "new.html",
        ],
        "not a whole .safetensors file": ["--run", "cut", "--out", "new.html"],
        "weights that are too large for float16: choose --dtype float32": ["--run", "big", "--out", "new.html"],
    }.items():
        error = refuses(capsys, tmp_path, *arguments)
        assert words in error
        assert error.startswith("page.py: error: ")
        assert error.count("\n") == 1
    assert "invalid choice: 'int8'" in refuses(capsys, tmp_path, "--run", run, "--dtype", "int8")
    monkeypatch.setattr("run_files.os.replace", full)
    assert "cannot write" in refuses(capsys, tmp_path, "--run", run, "--out", "new.html")


def full(*paths):
    raise OSError(28, "No space left on device")


def test_words_in_the_data_cannot_end_the_script():
    assert json.loads(page.as_json({"a": "</script><b>"})) == {"a": "</script><b>"}
    assert "<" not in page.as_json("</script>")


def test_modules_are_put_together_each_once(tmp_path):
    (tmp_path / "a.js").write_text(
        'import {\n  b,\n} from "./b.js";\nimport { c } from "./c.js";\nexport const a = b + c;\n'
    )
    (tmp_path / "b.js").write_text('import { c } from "./c.js";\nexport const b = c;\n')
    (tmp_path / "c.js").write_text("export const c = 1;\n")
    lines = [line for line in page.bundle(tmp_path / "a.js").splitlines() if line]
    assert lines == ["const c = 1;", "const b = c;", "const a = b + c;"]
