"""The page in a real browser, driven as a person would drive it, against level 1 and level 3 on the page's own weights.

Where there is no Chromium these tests are skipped, unless BROWSER_REQUIRED is set, as continuous integration does.
"""

import base64
import io
import json
import os
import re
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load

import page
import vae_numpy
from image_data import load_images
from vae_paper import VAE, Autoencoder, ConditionalVAE
from vq_vae import VQVAE

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
DRIVER = shutil.which("chromedriver")
NONE = "no Chromium and chromedriver: the page is not tried in a browser"
if not (BROWSER and DRIVER):
    if os.environ.get("BROWSER_REQUIRED"):
        raise RuntimeError(NONE)
    pytest.skip(NONE, allow_module_level=True)

from axe_core_python.selenium import Axe  # noqa: E402
from selenium import webdriver  # noqa: E402
from selenium.webdriver import ActionChains  # noqa: E402
from selenium.webdriver.common.by import By  # noqa: E402
from selenium.webdriver.common.keys import Keys  # noqa: E402
from selenium.webdriver.support.ui import Select, WebDriverWait  # noqa: E402

pytestmark = pytest.mark.browser
OFFLINE = "--disable-background-networking --disable-component-update --disable-sync --disable-quic --no-first-run"
REACH = 3.6  # of the plane
GREY = 1.01 / 255  # a level of grey


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The page of the tour's models after two epochs each, and these models with the page's float16 weights."""
    folder = tmp_path_factory.mktemp("page")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COURSE_WORK", str(folder / "work"))
        patch.setattr(page, "TOUR", [(title, note, {**options, "epochs": 2}) for title, note, options in page.TOUR])
        page.main(["--out", str(folder / "page.html"), "--no-open"])
    return folder / "page.html"


@pytest.fixture(scope="module")
def models(built):
    data = json.loads(re.search(r'id="data">(.*?)</script>', built.read_text(encoding="utf-8"))[1])
    found = []
    for each in data["models"]:
        content = base64.b64decode(each["weights"])
        described = json.loads(
            json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])["__metadata__"]["model"]
        )
        kind = {"VAE": VAE, "ConditionalVAE": ConditionalVAE, "Autoencoder": Autoencoder}[described["class"]]
        model = kind.from_config(described, "the page")
        model.load_state_dict({name: tensor.float() for name, tensor in load(content).items()})
        found.append(model.double())
    return found


@pytest.fixture(scope="module")
def test_images():
    return load_images("digits", "test", np.dtype("float64"))


@pytest.fixture(scope="module")
def chromium():
    options = webdriver.ChromeOptions()
    options.binary_location = BROWSER
    for flag in ["--headless=new", "--no-sandbox", "--window-size=1280,1000", *OFFLINE.split()]:
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options, webdriver.ChromeService(DRIVER))
    yield driver
    driver.quit()


@pytest.fixture
def browser(chromium, built):
    """The page, freshly opened; afterwards nothing may have been complained of or asked for over a network."""
    chromium.get_log("performance")
    chromium.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    chromium.get(built.as_uri())
    until(chromium, lambda: chromium.execute_script("return document.documentElement.dataset.ready"))
    yield chromium
    complaints = [entry["message"] for entry in chromium.get_log("browser")]
    complaints = [each for each in complaints if "willReadFrequently" not in each]  # it is these tests that read
    events = [json.loads(entry["message"])["message"] for entry in chromium.get_log("performance")]
    asked = [each["params"]["request"]["url"] for each in events if each["method"] == "Network.requestWillBeSent"]
    assert complaints == []
    assert [url for url in asked if not re.match("file:|data:|blob:", url)] == []


def until(driver, condition, seconds=20):
    return WebDriverWait(driver, seconds, 0.05).until(lambda _: condition())


def settled(browser):
    """After the frame in which what was asked for is drawn."""
    browser.execute_async_script(
        "const done = arguments[0]; requestAnimationFrame(() => requestAnimationFrame(() => done()))"
    )


def part(browser, name):
    return browser.find_element(By.ID, name)


def words(browser, name):
    return browser.execute_script("return document.getElementById(arguments[0]).textContent", name)


def pixels(browser, name):
    """A canvas as an array (H, W) of its red levels in [0, 1], in its own pixels."""
    width, height, levels = browser.execute_script(
        """const canvas = document.getElementById(arguments[0]);
        const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
        return [canvas.width, canvas.height, Array.from(data.filter((_, i) => i % 4 === 0))];""",
        name,
    )
    return np.array(levels).reshape(height, width) / 255


def press(browser, element):
    browser.execute_script("arguments[0].scrollIntoView({block: 'center', behavior: 'instant'})", element)
    element.click()
    settled(browser)


def choose(browser, select, title):
    Select(part(browser, select)).select_by_visible_text(title)
    settled(browser)


def at(browser, canvas, code, reach=REACH):
    """The offset from a plane's centre where a code lies, in whole CSS pixels, and the code that is there exactly."""
    element = part(browser, canvas)
    browser.execute_script("arguments[0].scrollIntoView({block: 'center', behavior: 'instant'})", element)
    box = browser.execute_script(
        "const b = arguments[0].getBoundingClientRect(); return [b.left, b.top, b.width, b.height]", element
    )
    middle = [int(box[0] + box[2] / 2), int(box[1] + box[3] / 2)]
    offset = [round(code[0] / reach * box[2] / 2), round(-code[1] / reach * box[3] / 2)]
    x, y = middle[0] + offset[0], middle[1] + offset[1]
    exact = ((2 * (x - box[0]) / box[2] - 1) * reach, (1 - 2 * (y - box[1]) / box[3]) * reach)
    return x, y, exact


def move_to(browser, canvas, code, reach=REACH):
    x, y, exact = at(browser, canvas, code, reach)
    actions = ActionChains(browser)
    actions.w3c_actions.pointer_action.move_to_location(x, y)
    actions.perform()
    settled(browser)
    return exact


def decoded(model, z, label=None):
    c = None if label is None else torch.tensor([label])
    with torch.no_grad():
        return model.sample(torch.tensor([z], dtype=torch.float64), c)[0, 0].numpy()


def prices(browser):
    rows = browser.execute_script(
        "return [...document.querySelectorAll('#prices tbody tr')]"
        ".map((row) => [...row.cells].map((cell) => cell.textContent))"
    )
    return {name: None if value == "–" else float(value.replace("−", "-")) for name, value in rows}


# --- 1. The plane ----------------------------------------------------------------------------------------------------


def test_it_is_interactive_within_a_second(chromium, built):
    """From the disk, measured by the browser itself; a loaded machine may take twice as long."""
    chromium.get(built.as_uri())
    until(chromium, lambda: chromium.execute_script("return document.documentElement.dataset.ready"))
    milliseconds = chromium.execute_script("return performance.getEntriesByName('ready')[0].startTime")
    print(f"interactive after {milliseconds:.0f} ms")
    assert milliseconds < 2000


@pytest.mark.parametrize("code", [(0.0, 0.0), (1.2, -0.7), (-2.5, 2.0), (3.5, -3.5)])
def test_the_image_under_the_pointer_is_what_level_1_decodes(browser, models, code):
    exact = move_to(browser, "plane-canvas", code)
    params = {name: tensor.numpy() for name, tensor in models[0].state_dict().items()}
    want = vae_numpy.sample(params, np.array([exact]))[0, 0]
    assert np.abs(pixels(browser, "decoded") - want).max() <= GREY
    shown = re.search(r"z = \((.*), (.*)\)$", words(browser, "decoded-words")).groups()
    assert [float(each.replace("−", "-")) for each in shown] == pytest.approx(exact, abs=0.0051)


def test_arrow_keys_move_too(browser, models):
    plane = part(browser, "plane-canvas")
    plane.send_keys(Keys.ARROW_RIGHT * 3 + Keys.ARROW_UP)
    plane.send_keys(Keys.SHIFT + Keys.ARROW_DOWN)
    settled(browser)
    assert words(browser, "decoded-words") == "Mean of p(x|z) at z = (0.30, −0.40)"
    assert np.abs(pixels(browser, "decoded") - decoded(models[0], (0.3, -0.4))).max() <= GREY


def test_a_path_gives_its_images(browser, models):
    x, y, start = at(browser, "plane-canvas", (-2, 1))
    to_x, to_y, end = at(browser, "plane-canvas", (2, 1))
    actions = ActionChains(browser, duration=0)
    pointer = actions.w3c_actions.pointer_action
    pointer.move_to_location(x, y).pointer_down().move_to_location(to_x, to_y).pointer_up()
    actions.perform()
    settled(browser)
    assert "along your path, from (−2.0, 1.0) to (2.0, 1.0)" in words(browser, "strip-words")
    strip = pixels(browser, "strip")
    for i, share in enumerate(np.linspace(0, 1, 12)):
        z = [a + share * (b - a) for a, b in zip(start, end, strict=True)]
        image = strip[1:29, 1 + 29 * i : 29 + 29 * i]
        assert np.abs(image - decoded(models[0], z)).max() <= GREY


def test_a_path_from_the_keyboard(browser):
    plane = part(browser, "plane-canvas")
    plane.send_keys(" " + Keys.ARROW_RIGHT * 10 + " ")
    settled(browser)
    assert "along your path, from (0.0, 0.0) to (1.0, 0.0)" in words(browser, "strip-words")


def test_codes_tiles_and_prior_can_be_shown_and_hidden(browser):
    until(browser, lambda: len(np.unique(pixels(browser, "plane-canvas"))) > 50)
    time.sleep(2)  # all codes are there
    pictures = [pixels(browser, "plane-canvas")]
    for name in ("show-codes", "show-prior", "show-tiles"):
        press(browser, part(browser, name))
        if name == "show-tiles":
            time.sleep(3)
        pictures.append(pixels(browser, "plane-canvas"))
        assert (pictures[-1] != pictures[-2]).mean() > 0.001, name
    press(browser, part(browser, "show-codes"))
    assert (pixels(browser, "plane-canvas") != pictures[-1]).any()


# --- 2. An image in --------------------------------------------------------------------------------------------------


def test_a_test_image_and_its_price(browser, models, test_images):
    x, labels = test_images
    choose(browser, "another-class", "7")
    first = int(np.flatnonzero(labels == 7)[0])
    np.testing.assert_allclose(pixels(browser, "pad"), x[first, 0], atol=1e-9)
    image = torch.from_numpy(x[first : first + 1])
    z = torch.tensor([json.loads(part(browser, "posterior").get_attribute("data-z"))], dtype=torch.float64)
    model = models[0]
    with torch.no_grad():
        mu, logvar = model.encode(image)
        nll = model.reconstruction_nll(model.decode(z), image).item()
        kl = model.kl_per_latent(mu, logvar)[0].tolist()
        mean = model.sample(z)[0, 0].numpy()
    table = prices(browser)
    assert table["−log p(x|z), the reconstruction"] == pytest.approx(nll, abs=0.011)
    assert [table["KL of z₁"], table["KL of z₂"]] == pytest.approx(kl, abs=0.0051)
    assert table["−ELBO with this draw, the sum"] == pytest.approx(nll + sum(kl), abs=0.011)
    assert table["−ELBO in bits per pixel"] == pytest.approx((nll + sum(kl)) / (784 * np.log(2)), abs=1e-4)
    assert np.abs(pixels(browser, "mean") - mean).max() <= GREY
    assert set(np.unique(pixels(browser, "draw"))) <= {0.0, 1.0}
    sigma = torch.exp(logvar / 2)[0].tolist()
    for value in (*mu[0].tolist(), *sigma):
        assert f"{value:.2f}".replace("-", "−") in words(browser, "posterior-words")


def test_noise_drawn_again_changes_the_reconstruction_and_not_the_kl(browser):
    before = prices(browser)
    press(browser, part(browser, "again"))
    after = prices(browser)
    assert after["−log p(x|z), the reconstruction"] != before["−log p(x|z), the reconstruction"]
    assert after["KL of z₁"] == before["KL of z₁"]


def drag(browser, canvas, points):
    """A stroke through points in shares of the canvas."""
    element = part(browser, canvas)
    browser.execute_script("arguments[0].scrollIntoView({block: 'center', behavior: 'instant'})", element)
    left, top, width = browser.execute_script(
        "const b = arguments[0].getBoundingClientRect(); return [b.left, b.top, b.width]", element
    )
    actions = ActionChains(browser, duration=0)
    pointer = actions.w3c_actions.pointer_action
    for i, (a, b) in enumerate(points):
        pointer.move_to_location(int(left + a * width), int(top + b * width))
        if i == 0:
            pointer.pointer_down()
    pointer.pointer_up()
    actions.perform()
    settled(browser)


def test_strokes_eraser_undo_and_clear(browser):
    first = prices(browser)["−ELBO with this draw, the sum"]
    press(browser, part(browser, "clear"))
    assert pixels(browser, "pad").max() == 0
    empty = prices(browser)["−ELBO with this draw, the sum"]
    drag(browser, "pad", [(0.5, 0.15), (0.5, 0.85)])
    drawn = pixels(browser, "pad")
    assert drawn[14, 14] > 0.9
    assert drawn[:, :8].max() == 0
    one = prices(browser)["−ELBO with this draw, the sum"]
    assert len({first, empty, one}) == 3
    press(browser, browser.find_element(By.CSS_SELECTOR, "[name=tool][value=eraser]"))
    drag(browser, "pad", [(0.4, 0.5), (0.6, 0.5)])
    assert pixels(browser, "pad")[14, 14] == 0
    press(browser, part(browser, "undo"))
    np.testing.assert_array_equal(pixels(browser, "pad"), drawn)
    for _ in range(2):
        press(browser, part(browser, "undo"))
    assert prices(browser)["−ELBO with this draw, the sum"] == first


def test_drawing_with_the_keyboard(browser):
    press(browser, part(browser, "clear"))
    before = prices(browser)["−ELBO with this draw, the sum"]
    part(browser, "pad").send_keys(" " + Keys.ARROW_DOWN * 6 + " ")
    settled(browser)
    assert prices(browser)["−ELBO with this draw, the sum"] != before
    press(browser, part(browser, "undo"))
    assert prices(browser)["−ELBO with this draw, the sum"] == before


def test_a_picture_of_ones_own(browser, tmp_path):
    """A dark stroke on white paper becomes a bright one on black, in its shape; what is no picture is one sentence."""
    array = np.full((300, 150, 3), 255, np.uint8)
    array[60:240, 60:90] = (20, 20, 20)
    Image.fromarray(array).save(tmp_path / "one.png")
    part(browser, "picture").send_keys(str(tmp_path / "one.png"))
    until(browser, lambda: "150 by 300 pixels" in words(browser, "picture-words"))
    settled(browser)
    image = pixels(browser, "pad")
    assert image[14, 14] > 0.85
    assert image[:, :11].max() < 0.05
    assert "dark for bright because its edge is bright" in words(browser, "picture-words")
    (tmp_path / "no.png").write_bytes(b"no picture")
    part(browser, "picture").send_keys(str(tmp_path / "no.png"))
    until(browser, lambda: "no.png is no picture that this browser can read" in words(browser, "picture-words"))
    np.testing.assert_array_equal(pixels(browser, "pad"), image)


HAND_OVER = """
const [kind, name, type, base64] = arguments;
const file = new File([Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0))], name, { type });
const dataTransfer = new DataTransfer();
dataTransfer.items.add(file);
const event = kind === "paste"
  ? new ClipboardEvent("paste", { clipboardData: dataTransfer, bubbles: true })
  : new DragEvent("drop", { dataTransfer, bubbles: true, cancelable: true });
document.body.dispatchEvent(event);
"""


@pytest.mark.parametrize("kind", ["paste", "drop"])
def test_a_picture_is_pasted_or_dropped(browser, kind):
    """A dark drawing without a ground is one on white paper; of 28 x 28 pixels each keeps its place."""
    array = np.zeros((28, 28, 4), np.uint8)
    array[5:20, 10:14] = (90, 90, 90, 255)
    array[5:20, 14:18] = (255, 0, 0, 255)
    file = io.BytesIO()
    Image.fromarray(array).save(file, "PNG")
    content = base64.b64encode(file.getvalue()).decode()
    browser.execute_script(HAND_OVER, kind, "two.png", "image/png", content)
    until(browser, lambda: "28 by 28 pixels" in words(browser, "picture-words"))
    settled(browser)
    want = np.zeros((28, 28))
    want[5:20, 10:14], want[5:20, 14:18] = 1 - 90 / 255, 1 - 0.299
    assert np.abs(pixels(browser, "pad") - want).max() <= GREY


def test_weights_are_dropped(browser, tmp_path):
    Autoencoder(latent_dim=1, architecture="mlp", hidden_dims=(3,)).save(tmp_path)
    content = base64.b64encode((tmp_path / "model.safetensors").read_bytes()).decode()
    browser.execute_script(HAND_OVER, "drop", "model.safetensors", "", content)
    until(browser, lambda: "It is the model of this page now" in words(browser, "file-words"))
    settled(browser)
    assert "no KL" in words(browser, "prices")
    assert Select(part(browser, "model")).first_selected_option.text == "your Autoencoder 1"


def test_undo_ends_where_it_began(browser):
    assert not part(browser, "undo").is_enabled()
    first = pixels(browser, "pad")
    press(browser, part(browser, "clear"))
    press(browser, part(browser, "undo"))
    np.testing.assert_array_equal(pixels(browser, "pad"), first)
    assert not part(browser, "undo").is_enabled()


@pytest.mark.parametrize(
    ("name", "sentence"), [("tiny", "too small: 8 pixels at least"), ("white", "28 by 28 grey ones.")]
)
def test_pictures_that_show_little(browser, tmp_path, name, sentence):
    """Too few pixels are refused; white ink without a ground stays white."""
    array = np.zeros((3, 3, 4) if name == "tiny" else (56, 28, 4), np.uint8)
    array[1:-1, 1:-1] = 255
    Image.fromarray(array).save(tmp_path / f"{name}.png")
    before = pixels(browser, "pad")
    part(browser, "picture").send_keys(str(tmp_path / f"{name}.png"))
    until(browser, lambda: sentence in words(browser, "picture-words"))
    settled(browser)
    if name == "tiny":
        np.testing.assert_array_equal(pixels(browser, "pad"), before)
    else:
        assert pixels(browser, "pad")[14, 14] == 1
        assert pixels(browser, "pad")[:, :6].max() == 0


def test_grey_pixels_have_a_least_price(browser, test_images):
    x, labels = test_images
    p = np.clip(x[int(np.flatnonzero(labels == 3)[0])], 1e-300, 1 - 1e-16)
    least = -(p * np.log(p) + (1 - p) * np.log1p(-p)).sum()
    assert prices(browser)["what these grey pixels cost at least, whatever the model"] == pytest.approx(least, abs=0.01)


def test_the_bound_of_k_samples_climbs(browser, models, test_images):
    x, labels = test_images
    until(browser, lambda: part(browser, "bound").get_attribute("data-done") == "true")
    said = words(browser, "bound-words").replace("−", "-")
    one, many = (float(number) for number in re.findall(r"(-\d+\.\d+)", said))
    image = torch.from_numpy(x[[int(np.flatnonzero(labels == 3)[0])]])
    eps = torch.randn(1, 4096, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        log_w = models[0].log_weights(image, eps)[0]
    assert many > one
    assert one == pytest.approx(log_w.mean().item(), abs=6 * log_w.std().item() / 16)
    exact = (torch.logsumexp(log_w, 0) - np.log(4096)).item()
    assert many == pytest.approx(exact, abs=1.0)


# --- 3. Two models ---------------------------------------------------------------------------------------------------


def test_two_models_on_the_same_code(browser, models):
    exact = move_to(browser, "pair-plane-0", (1.0, -1.5))
    for i, model in enumerate((models[1], models[2])):
        assert np.abs(pixels(browser, f"pair-image-{i}") - decoded(model, exact)).max() <= GREY


def test_the_same_draws_of_the_prior_on_both_sides(browser, models):
    before = pixels(browser, "pair-draws-1")
    press(browser, part(browser, "draw-prior"))
    assert (pixels(browser, "pair-draws-1") != before).any()
    choose(browser, "pair-1", "VAE, fully connected")
    np.testing.assert_array_equal(pixels(browser, "pair-draws-0"), pixels(browser, "pair-draws-1"))


def test_the_means_over_the_test_images(browser, models, test_images):
    """As level 3 finds them, but for the noise."""
    until(browser, lambda: "−ELBO" in words(browser, "model-note"))
    said = [float(number) for number in re.findall(r"\d+\.\d+", words(browser, "model-note").partition("images: ")[2])]
    x = torch.from_numpy(test_images[0][:350])
    with torch.no_grad():
        mu, logvar, _, logits = models[0](
            x, torch.randn(350, 2, dtype=x.dtype, generator=torch.Generator().manual_seed(1))
        )
        nll = models[0].reconstruction_nll(logits, x).mean().item()
        kl = models[0].kl_divergence(mu, logvar).mean().item()
    assert said[1] == pytest.approx(kl, abs=0.0051)
    assert said[0] == pytest.approx(nll, rel=0.02)
    assert said[2] == pytest.approx(said[0] + said[1], abs=0.011)


def test_two_models_on_the_same_image(browser, models, test_images):
    x, labels = test_images
    choose(browser, "pair-1", "VAE, beta = 4, fully connected")
    press(browser, browser.find_element(By.CSS_SELECTOR, "[name=same][value=x]"))
    image = torch.from_numpy(x[[int(np.flatnonzero(labels == 3)[0])]])
    for i, model in enumerate((models[1], models[3])):
        with torch.no_grad():
            mu, logvar = model.encode(image)
            nll = model.reconstruction_nll(model.decode(mu), image).item()
            kl = model.kl_divergence(mu, logvar).item()
        assert np.abs(pixels(browser, f"pair-image-{i}") - decoded(model, mu[0].tolist())).max() <= GREY
        assert f"−log p(x|z) {nll:.2f} nats, KL {kl:.2f} nats" in words(browser, f"pair-words-{i}")


def test_the_class_is_a_slider(browser, models):
    choose(browser, "pair-1", "conditional VAE, fully connected")
    slider = part(browser, "pair-class-1")
    slider.send_keys(Keys.HOME + Keys.ARROW_RIGHT * 2)
    settled(browser)
    assert np.abs(pixels(browser, "pair-image-1") - decoded(models[4], (0, 0), 2)).max() <= GREY
    choose(browser, "model", "conditional VAE, fully connected")
    part(browser, "class").send_keys(Keys.END)
    settled(browser)
    assert np.abs(pixels(browser, "decoded") - decoded(models[4], (0, 0), 9)).max() <= GREY


# --- 4. Inside -------------------------------------------------------------------------------------------------------


def test_every_layer_can_be_looked_at(browser, models):
    shapes = {
        "x": "(1, 28, 28)",
        "encoder.conv2": "(64, 7, 7)",
        "encoder.fc": "(256)",
        "z": "(2)",
        "decoder.fc2": "(3136)",
    }
    buttons = browser.find_elements(By.CSS_SELECTOR, "#layers button")
    found = {each.get_attribute("data-layer"): each.find_element(By.TAG_NAME, "small").text for each in buttons}
    assert len(found) == 12
    assert shapes.items() <= found.items()
    for layer in found:
        press(browser, browser.find_element(By.CSS_SELECTOR, f"[data-layer='{layer}']"))
        assert f"What {layer} holds" in words(browser, "activations-words")
        file, number, code = re.match(r"(\S+), line (\d+):  (.*)", words(browser, "layer-code")).groups()
        assert (page.HERE.parent / file).read_text(encoding="utf-8").splitlines()[int(number) - 1].strip() == code
        weighted = layer not in ("x", "z", "image")
        assert part(browser, "kernels").is_displayed() == weighted
        if weighted:
            shape = tuple(models[0].state_dict()[f"{layer}.weight"].shape)
            assert f"({', '.join(map(str, shape))})" in words(browser, "kernels-words")


def test_an_activation_is_what_level_1_computes(browser, models, test_images):
    x, labels = test_images
    params = {name: tensor.numpy() for name, tensor in models[0].state_dict().items()}
    image = x[[int(np.flatnonzero(labels == 3)[0])]]
    h = vae_numpy.relu(vae_numpy.conv2d(image, params["encoder.conv1.weight"], params["encoder.conv1.bias"]))[0]
    shown, columns = pixels(browser, "activations"), (pixels(browser, "activations").shape[1] - 1) // 15
    for channel in range(32):
        row, column = divmod(channel, columns)
        tile = shown[1 + 15 * row : 15 + 15 * row, 1 + 15 * column : 15 + 15 * column]
        assert np.abs(tile - h[channel] / h.max()).max() <= GREY


# --- 5. Own weights --------------------------------------------------------------------------------------------------


def test_own_weights_join_the_models(browser, tmp_path):
    torch.manual_seed(5)
    model = VAE(latent_dim=20, architecture="mlp", hidden_dims=(30,))
    model.save(tmp_path)
    part(browser, "file").send_keys(str(tmp_path / "model.safetensors"))
    until(browser, lambda: "It is the model of this page now" in words(browser, "file-words"))
    until(browser, lambda: "nats" in words(browser, "sliders"))
    assert Select(part(browser, "model")).first_selected_option.text == "your VAE 1"
    costs = [float(each) for each in re.findall(r"(\d+\.\d+) nats", words(browser, "axis-x"))]
    assert len(costs) == 20
    assert costs == sorted(costs, reverse=True)
    sliders = browser.find_elements(By.CSS_SELECTOR, "#sliders input")
    assert len(sliders) == 18
    before = pixels(browser, "decoded")
    sliders[0].send_keys(Keys.END)
    settled(browser)
    z = [0.0] * 20
    z[
        int("".join(str("₀₁₂₃₄₅₆₇₈₉".index(each)) for each in re.search("z([₀-₉]+)", words(browser, "sliders"))[1])) - 1
    ] = 3.6
    got = pixels(browser, "decoded")
    assert (got != before).any()
    assert np.abs(got - decoded(model.double(), z)).max() <= GREY
    press(browser, part(browser, "zero-latents"))
    np.testing.assert_array_equal(pixels(browser, "decoded"), before)


def test_a_foreign_file_is_refused_and_the_model_stays(browser, tmp_path):
    VQVAE(num_codes=5, code_dim=3).save(tmp_path)
    (tmp_path / "cut.safetensors").write_bytes((tmp_path / "model.safetensors").read_bytes()[:-3])
    (tmp_path / "alone.json").write_text("{}", encoding="utf-8")
    before = pixels(browser, "decoded")
    for name, sentence in {
        "model.safetensors": "the file holds a VQVAE, and this page computes a VAE",
        "cut.safetensors": "this is not a whole .safetensors file",
        "alone.json": "a config.json alone holds no weights",
    }.items():
        part(browser, "file").send_keys(str(tmp_path / name))
        until(browser, lambda sentence=sentence: sentence in words(browser, "file-words"))
        assert words(browser, "file-words").endswith("The model is still “VAE, convolutional”.")
    settled(browser)
    np.testing.assert_array_equal(pixels(browser, "decoded"), before)
    assert len(Select(part(browser, "model")).options) == 5


# --- 6. The tour, and the page as a whole ----------------------------------------------------------------------------


def test_the_tour_has_seven_stops_with_a_question_each(browser, built):
    press(browser, part(browser, "start-tour"))
    seen = []
    for stop in range(1, 8):
        title = words(browser, "tour-title")
        assert title.startswith(f"{stop} of 7 · ")
        assert words(browser, "tour-question").endswith("?")
        assert not part(browser, "tour-answer").is_displayed()
        press(browser, part(browser, "tour-question"))
        assert part(browser, "tour-answer").is_displayed()
        link = part(browser, "tour-link").get_attribute("href")
        assert re.fullmatch(r"\d\d_\w+\.md", link.rpartition("/")[2])
        assert Path(built.parent, os.path.relpath(page.HERE, built.parent), link.rpartition("/")[2]).is_file()
        seen.append(title)
        if stop < 7:
            press(browser, part(browser, "tour-next"))
    assert len(set(seen)) == 7
    assert not part(browser, "tour-next").is_displayed()
    press(browser, part(browser, "tour-end"))
    assert not part(browser, "tour").is_displayed()
    assert browser.switch_to.active_element.get_attribute("id") == "start-tour"


def emulate(browser, width, dark=False):
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500},
    )
    feature = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
    settled(browser)


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280, 1920])
def test_nobody_is_shut_out(browser, tmp_path, width, dark):
    """No serious violation of the accessibility rules that axe knows, nothing wider than the screen."""
    emulate(browser, width, dark)
    press(browser, part(browser, "start-tour"))
    found = Axe().run(browser)
    grave = [(each["id"], [node["html"][:90] for node in each["nodes"]]) for each in found["violations"]
             if each["impact"] in ("serious", "critical")]  # fmt: skip
    assert grave == []
    wide = browser.execute_script("return document.documentElement.scrollWidth - document.documentElement.clientWidth")
    assert wide == 0
    picture = Image.open(io.BytesIO(browser.get_screenshot_as_png())).convert("L")
    assert (np.asarray(picture).mean() < 128) == dark


def test_the_keyboard_reaches_everything(browser):
    browser.execute_script("document.body.focus()")
    reached = set()
    for _ in range(80):
        ActionChains(browser).send_keys(Keys.TAB).perform()
        element = browser.switch_to.active_element
        reached.add(element.get_attribute("id") or element.get_attribute("data-layer") or element.tag_name)
    wanted = {
        "model", "theme", "start-tour", "plane-canvas", "show-tiles", "pad", "clear", "another", "picture",
        "again", "pair-0", "pair-plane-1", "encoder.conv1", "image", "file",
    }  # fmt: skip
    assert wanted <= reached


def test_colours_can_be_chosen(browser):
    choose(browser, "theme", "dark")
    assert browser.execute_script("return getComputedStyle(document.body).backgroundColor") == "rgb(20, 22, 26)"
    choose(browser, "theme", "light")
    assert browser.execute_script("return getComputedStyle(document.body).backgroundColor") == "rgb(251, 250, 247)"


TIMINGS = """
const done = arguments[1];
import("data:text/javascript;base64," + arguments[0]).then((vae) => {
  const model = { architecture: "conv", latent_dim: 2, num_classes: 0, class: "VAE", likelihood: "bernoulli" };
  const params = { model };
  for (const [layer, shape] of Object.entries(vae.weightShapes(model))) {
    const count = shape.reduce((a, b) => a * b);
    params[`${layer}.weight`] = vae.tensor(Float32Array.from({ length: count }, () => Math.random() - 0.5), shape);
    const bias = layer.includes("deconv") ? shape[1] : shape[0];
    params[`${layer}.bias`] = vae.tensor(new Float32Array(bias), [bias]);
  }
  const x = vae.tensor(new Float32Array(784).fill(0.5), [1, 1, 28, 28]);
  const z = vae.tensor(new Float32Array([0.3, -1]), [1, 2]);
  const median = (work) => {
    const times = Array.from({ length: 101 }, () => {
      const start = performance.now();
      work();
      return performance.now() - start;
    });
    return times.sort((a, b) => a - b)[50];
  };
  done([median(() => vae.decode(params, z)), median(() => vae.encode(params, x))]);
});
"""


def test_a_decode_and_an_encode_take_no_time_to_speak_of(chromium, capsys):
    """Medians, of one image through the convolutional model with two latents: 8 and 12 ms on an idle machine."""
    chromium.get("about:blank")
    source = base64.b64encode((page.SOURCES / "vae.js").read_bytes()).decode()
    decode, encode = chromium.execute_async_script(TIMINGS, source)
    with capsys.disabled():
        print(f" decode {decode:.2f} ms, encode {encode:.2f} ms", end="")
    assert decode < 2 * 8  # for a loaded one
    assert encode < 2 * 12
