/** The page: what moves, is drawn on or dropped becomes numbers of `vae.js`, and these become pictures and words. */

import {
  decode,
  encode,
  forward,
  importanceWeightedBound,
  klPerLatent,
  loadWeights,
  logSigma,
  logWeights,
  meanImage,
  nllPerPixel,
  sample,
  tensor,
} from "./vae.js";
import {
  Plane,
  REACH,
  asImageData,
  drawBound,
  drawImage,
  grey,
  signed,
  theme,
  tiles,
} from "./canvas.js";

const data = JSON.parse(document.getElementById("data").textContent);
const part = (id) => document.getElementById(id);
const PIXELS = 784;

// --- Small things ----------------------------------------------------------------------------------------------------

/** A number for readers: a true minus, and digits enough to compare with the other levels' reports. */
function shown(number, digits = 2) {
  return number
    .toFixed(digits)
    .replace(/^-(?=0\.?0*$)/, "")
    .replace("-", "−");
}

function listed(numbers, digits = 2) {
  return `(${[...numbers].map((number) => shown(number, digits)).join(", ")})`;
}

function total(numbers) {
  return Array.from(numbers).reduce((a, b) => a + b, 0);
}

function bytesOf(base64) {
  const letters = atob(base64);
  const bytes = new Uint8Array(letters.length);
  for (let i = 0; i < bytes.length; i++) bytes[i] = letters.charCodeAt(i);
  return bytes.buffer;
}

/** Standard normal numbers and numbers in [0, 1), the same ones at every visit. */
class Random {
  constructor(seed) {
    this.state = seed;
  }

  uniform() {
    this.state = (this.state + 0x6d2b79f5) | 0; // mulberry32, a generator of 32 bits
    let t = Math.imul(this.state ^ (this.state >>> 15), 1 | this.state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  }

  normal(shape) {
    const count = shape.reduce((a, b) => a * b, 1);
    const numbers = Float64Array.from({ length: count }, () => {
      const radius = Math.sqrt(-2 * Math.log(1 - this.uniform())); // Box and Muller
      return radius * Math.cos(2 * Math.PI * this.uniform());
    });
    return tensor(numbers, shape);
  }
}

const waiting = new Set();

/** Draw these parts before the next frame, each once. */
function redraw(...parts) {
  if (!waiting.size) {
    requestAnimationFrame(() => {
      const now = [...waiting];
      waiting.clear();
      now.forEach((draw) => draw());
    });
  }
  parts.forEach((draw) => waiting.add(draw));
}

/** work(0), work(1), ... while `wanted()`, and the page stays alive meanwhile. */
async function inSlices(count, work, wanted) {
  for (let i = 0; i < count;) {
    const start = performance.now();
    while (i < count && performance.now() - start < 12) work(i++);
    await new Promise((resume) => setTimeout(resume));
    if (!wanted()) return false;
  }
  return true;
}

// --- Models and images -----------------------------------------------------------------------------------------------

/** A model of the list: its parameters, the code that the sliders show, and where the test images lie. */
class Model {
  constructor(title, note, load) {
    Object.assign(this, { title, note, load, known: 0, readers: [] });
  }

  get params() {
    this.loaded ??= this.load();
    return this.loaded;
  }

  get model() {
    return this.params.model;
  }

  get latents() {
    return this.model.latent_dim;
  }

  get hasBound() {
    return this.model.class !== "Autoencoder";
  }

  /** The code at hand, and the two latents that the plane shows; the second is -1 if there is one latent only. */
  get code() {
    this.current ??= new Float64Array(this.latents);
    return this.current;
  }

  get axes() {
    this.chosen ??= this.latents > 1 ? [0, 1] : [0, -1];
    return this.chosen;
  }

  set axes(pair) {
    this.chosen = pair;
  }

  onPlane(code) {
    return this.axes.map((latent) => (latent < 0 ? 0 : code[latent]));
  }

  moveTo(pair) {
    this.current = this.along(pair);
  }

  /** A code with this pair on the plane's two axes; its other latents are those at hand, or of another code. */
  along(pair, others = this.code) {
    const code = Float64Array.from(others);
    this.axes.forEach((latent, i) => {
      if (latent >= 0) code[latent] = pair[i];
    });
    return code;
  }

  get axisNames() {
    return this.axes.map((latent) => (latent < 0 ? "" : `z${subscript(latent + 1)}`));
  }

  condition(label) {
    return this.model.num_classes ? [Math.min(label, this.model.num_classes - 1)] : null;
  }

  className(label) {
    return this.model.class_names[label] ?? String(label);
  }

  /** The mean image of a code, 784 numbers. */
  imageOf(code, label) {
    return sample(this.params, tensor(code, [1, this.latents]), this.condition(label)).data;
  }

  /** Encode the test images, once and a few at a time: their means, and the latents in the order of their KL. */
  async findCodes(reader) {
    this.readers.push(reader);
    if (this.means) return; // it is done already, or under way
    const after = () => this.readers.forEach((each) => each());
    this.means = [];
    const price = new Float64Array(this.latents);
    const eps = new Random(3);
    let nll = 0;
    const work = (i) => {
      const x = images.at(i);
      const noise = eps.normal([1, this.latents]);
      const { mu, logvar, logits } = forward(this.params, x, noise, this.condition(images.labels[i]));
      this.means.push(Float64Array.from(mu.data));
      klPerLatent(mu, logvar).data.forEach((nats, latent) => (price[latent] += nats / images.count));
      nll += total(nllPerPixel(logits, x, logSigma(this.params)).data) / images.count;
      this.known = i + 1;
      if (this.known % 40 === 0) after();
    };
    await inSlices(images.count, work, () => true);
    this.price = price;
    this.nll = nll;
    this.byPrice = [...price.keys()].sort((a, b) => price[b] - price[a]);
    if (this.latents > 2) this.axes = this.byPrice.slice(0, 2);
    this.reach = this.farthest();
    after();
    this.readers = [];
  }

  /** What the test images cost on average, once that is known. */
  get average() {
    if (!this.price) return "";
    const kl = total(this.price);
    const rest = this.hasBound ? ` + KL ${shown(kl)} = −ELBO ${shown(this.nll + kl)} nats` : " nats, no KL";
    return `Mean of ${images.count} test images: −log p(x|z) ${shown(this.nll)}${rest}.`;
  }

  /** How far the plane has to go for nearly all codes: the prior's place, but an autoencoder's lie where they like. */
  farthest() {
    const far = this.means.map((mean) => Math.max(...this.onPlane(mean).map(Math.abs))).sort((a, b) => a - b);
    return Math.max(REACH, 1.1 * far[Math.floor(0.98 * far.length)]);
  }
}

function subscript(number) {
  return [...String(number)].map((digit) => "₀₁₂₃₄₅₆₇₈₉"[digit]).join("");
}

const images = {
  labels: data.images.labels,
  count: data.images.labels.length,
  /** One test image as the models take it. */
  at(i) {
    return tensor(this.pixels.subarray(i * PIXELS, (i + 1) * PIXELS), [1, 1, 28, 28]);
  },
  async read() {
    const sheet = new Image();
    sheet.src = data.images.sheet;
    await sheet.decode();
    const canvas = document.createElement("canvas");
    Object.assign(canvas, { width: sheet.width, height: sheet.height });
    const context = canvas.getContext("2d");
    context.drawImage(sheet, 0, 0);
    const levels = context.getImageData(0, 0, sheet.width, sheet.height).data;
    this.pixels = new Float32Array(this.count * PIXELS);
    for (let i = 0; i < this.pixels.length; i++) {
      const [image, pixel] = [Math.floor(i / PIXELS), i % PIXELS];
      const across = (image % data.images.columns) * 28 + (pixel % 28);
      const down = Math.floor(image / data.images.columns) * 28 + Math.floor(pixel / 28);
      this.pixels[i] = levels[4 * (down * sheet.width + across)] / 255;
    }
  },
};

const models = data.models.map(
  ({ title, note, weights }) => new Model(title, note, () => loadWeights(bytesOf(weights))),
);

const state = {
  model: models[0],
  label: 3, // that the decoder is told, where it wants one
  path: [],
  told: 3, // the class of the image in part 2, as the model is told
  random: new Random(1),
  penAt: [14, 14],
  layer: null,
};

/** Select a model for all parts but the third. */
function choose(model) {
  state.model = model;
  state.path = [];
  state.eps = state.random.normal([1, model.latents]);
  part("model").value = models.indexOf(model);
  showNote();
  for (const [id, value] of [
    ["class", state.label],
    ["told", state.told],
  ]) {
    part(id).max = Math.max(0, model.model.num_classes - 1);
    part(id).value = value;
  }
  part("class-slider").hidden = part("condition").hidden = !model.model.num_classes;
  showLatents();
  redraw(drawPlane, drawDecoded, drawStrip, drawImageParts, drawLayers);
  model.findCodes(() => {
    if (state.model === model) {
      if (model.price) showLatents();
      showNote();
      redraw(drawPlane, drawPosterior, drawDecoded);
    }
    redraw(drawPair);
  });
}

function showNote() {
  part("model-note").textContent = `${state.model.note} ${state.model.average}`;
}

// --- 1. The plane ----------------------------------------------------------------------------------------------------

/** A canvas that follows pointer and arrow keys: move(code), begin(code) and end(code) of a drag or of Space. */
function followed(canvas, reach, here, { move, begin = () => {}, end = () => {} }) {
  let dragging = false;
  const codeOf = (event) => Plane.codeAt(canvas, event, reach());
  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    dragging = true;
    begin(codeOf(event));
    move(codeOf(event));
  });
  canvas.addEventListener("pointermove", (event) => move(codeOf(event)));
  for (const name of ["pointerup", "pointercancel"]) {
    canvas.addEventListener(name, (event) => {
      if (dragging) end(codeOf(event));
      dragging = false;
    });
  }
  canvas.addEventListener("keydown", (event) => {
    const step = (event.shiftKey ? 0.5 : 0.1) * (reach() / REACH);
    const by = { ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, step], ArrowDown: [0, -step] }[event.key];
    if (by) move(here().map((value, i) => Math.max(-reach(), Math.min(reach(), value + by[i]))));
    if (event.key === " ") {
      dragging = !dragging;
      (dragging ? begin : end)(here());
    }
    if (by || event.key === " ") event.preventDefault();
  });
}

const reach = (model = state.model) => model.reach ?? REACH;

function drawPlane() {
  const { model } = state;
  const plane = new Plane(part("plane-canvas"), reach(), model.axisNames);
  if (part("show-tiles").checked) drawTiles(plane, model);
  if (part("show-prior").checked) plane.prior();
  if (part("show-codes").checked) drawCodes(plane, model);
  plane.axes();
  plane.path(state.path, plane.colours.accent);
  plane.cross(model.onPlane(model.code), plane.colours.accent);
}

function drawCodes(plane, model, size = 11) {
  for (let i = 0; i < model.known; i++) {
    const label = images.labels[i];
    plane.mark(model.onPlane(model.means[i]), String(label), plane.colours.classes[label % 10], size);
  }
}

const TILES = 15; // in each direction

/** The plane's images in the background, at the codes in the middle of each tile. */
function drawTiles(plane, model) {
  const light = document.documentElement.dataset.theme === "light"; // paper, on which they are dark on white
  const key = JSON.stringify([
    light,
    model.axes,
    model.model.num_classes && state.label,
    reach(),
    [...model.code].map((value, i) => (model.axes.includes(i) ? 0 : value)),
  ]);
  if (model.tilesKey !== key) {
    model.tilesKey = key;
    const sheet = (model.tiles = document.createElement("canvas"));
    sheet.width = sheet.height = TILES * 28;
    const context = sheet.getContext("2d");
    const work = (i) => {
      const [column, row] = [i % TILES, Math.floor(i / TILES)];
      const centre = [(2 * column + 1) / TILES - 1, 1 - (2 * row + 1) / TILES].map((value) => value * reach(model));
      const image = model.imageOf(model.along(centre), state.label);
      const colour = light ? (number) => grey(1 - number) : grey;
      context.putImageData(asImageData(image, 28, 28, colour), column * 28, row * 28);
    };
    inSlices(TILES ** 2, work, () => model.tilesKey === key && state.model === model).then((whole) => {
      if (!whole) model.tilesKey = null;
      redraw(drawPlane);
    });
  }
  plane.context.globalAlpha = part("show-codes").checked ? 0.3 : 1; // pale behind the codes
  plane.context.drawImage(model.tiles, 0, 0, plane.width, plane.height);
  plane.context.globalAlpha = 1;
}

function drawDecoded() {
  const { model } = state;
  drawImage(part("decoded"), model.imageOf(model.code, state.label));
  const where =
    model.latents > 2
      ? `${model.axisNames.join(", ")} = ${listed(model.onPlane(model.code))}`
      : `z = ${listed(model.code)}`;
  part("decoded-words").textContent = `${model.hasBound ? "Mean of p(x|z)" : "Decoded"} at ${where}`;
  part("plane-canvas").setAttribute("aria-label", `The latent plane, now at ${where}`);
  part("class-value").textContent = model.className(state.label);
}

const STEPS = 12; // images along a path

/** Codes at equal distances along a path of points. */
function evenly(path, count) {
  const lengths = [0];
  for (let i = 1; i < path.length; i++) {
    lengths.push(lengths[i - 1] + Math.hypot(path[i][0] - path[i - 1][0], path[i][1] - path[i - 1][1]));
  }
  return Array.from({ length: count }, (_, step) => {
    const at = (lengths.at(-1) * step) / (count - 1);
    const i = Math.max(
      1,
      lengths.findIndex((length) => length >= at),
    );
    const share = lengths[i] > lengths[i - 1] ? (at - lengths[i - 1]) / (lengths[i] - lengths[i - 1]) : 0;
    return [0, 1].map((axis) => path[i - 1][axis] + share * (path[i][axis] - path[i - 1][axis]));
  });
}

function drawStrip() {
  const { model, path } = state;
  const drawn = path.length > 1;
  const points = drawn
    ? path
    : [
        [-2, 0],
        [2, 0],
      ];
  const codes = evenly(points, STEPS);
  tiles(
    part("strip"),
    codes.map((code) => model.imageOf(model.along(code), state.label)),
    28,
    28,
    grey,
    STEPS,
  );
  const [from, to] = [points[0], points.at(-1)].map((point) => listed(point, 1));
  part("strip-words").textContent = drawn
    ? `${STEPS} images at equal distances along your path, from ${from} to ${to}.`
    : `${STEPS} images at equal distances from ${from} to ${to}. Drag over the plane for a path of your own.`;
}

/** Selects of the two axes, and a slider for each other latent, sorted by what it costs. */
function showLatents() {
  const { model } = state;
  part("latents").hidden = model.latents <= 2;
  if (model.latents <= 2) return;
  const order = model.byPrice ?? [...model.code.keys()];
  const words = (latent) => `z${subscript(latent + 1)}${model.price ? `, ${shown(model.price[latent])} nats` : ""}`;
  for (const [i, id] of ["axis-x", "axis-y"].entries()) {
    part(id).replaceChildren(...order.map((latent) => new Option(words(latent), latent)));
    part(id).value = model.axes[i];
  }
  const sliders = order
    .filter((latent) => !model.axes.includes(latent))
    .map((latent) => {
      const row = document.createElement("div");
      row.className = "slider";
      const label = document.createElement("label");
      const input = Object.assign(document.createElement("input"), {
        type: "range",
        min: -REACH,
        max: REACH,
        step: 0.05,
      });
      input.value = model.code[latent];
      const output = document.createElement("output");
      output.textContent = shown(model.code[latent]);
      label.append(words(latent), input);
      row.append(label, output);
      input.addEventListener("input", () => {
        model.code[latent] = Number(input.value);
        output.textContent = shown(model.code[latent]);
        redraw(drawPlane, drawDecoded, drawStrip);
      });
      return row;
    });
  part("sliders").replaceChildren(...sliders);
}

function preparePlane() {
  const canvas = part("plane-canvas");
  let begun = null;
  const move = (code) => {
    state.model.moveTo(code);
    if (begun) state.path.push(code);
    redraw(drawPlane, drawDecoded);
  };
  const begin = (code) => {
    begun = code;
    state.path = [code];
  };
  const end = (code) => {
    begun = null;
    if (state.path.at(-1) !== code) state.path.push(code);
    const length = Math.max(...state.path.map((point) => Math.hypot(point[0] - code[0], point[1] - code[1])));
    if (length < 0.05 * reach()) state.path = []; // a click
    redraw(drawPlane, drawStrip);
  };
  followed(canvas, reach, () => state.model.onPlane(state.model.code), { move, begin, end });
  for (const id of SHOWN) {
    part(id).addEventListener("change", () => redraw(drawPlane));
  }
  part("class").addEventListener("input", () => {
    state.label = Number(part("class").value);
    redraw(drawPlane, drawDecoded, drawStrip);
  });
  for (const [i, id] of ["axis-x", "axis-y"].entries()) {
    part(id).addEventListener("change", () => {
      const { model } = state;
      const latent = Number(part(id).value);
      const pair = [...model.axes];
      if (pair[1 - i] === latent) pair[1 - i] = pair[i]; // they change places
      pair[i] = latent;
      model.axes = pair;
      state.path = [];
      showLatents();
      redraw(drawPlane, drawDecoded, drawStrip, drawPosterior);
    });
  }
  part("zero-latents").addEventListener("click", () => {
    state.model.code.fill(0);
    showLatents();
    redraw(drawPlane, drawDecoded, drawStrip);
  });
}

// --- 2. An image in --------------------------------------------------------------------------------------------------

const FINE = 10; // the pad's pixels in each direction for one of the image's
const pad = Object.assign(document.createElement("canvas"), { width: 28 * FINE, height: 28 * FINE });
const ink = pad.getContext("2d", { willReadFrequently: true });
const undone = [];

/** The pad as the models take it: the mean of the fine pixels in each of the 28 x 28. */
function padImage() {
  const levels = ink.getImageData(0, 0, pad.width, pad.height).data;
  const sums = new Float64Array(PIXELS);
  for (let i = 0; i < levels.length / 4; i++) {
    const [across, down] = [i % pad.width, Math.floor(i / pad.width)];
    sums[Math.floor(down / FINE) * 28 + Math.floor(across / FINE)] += levels[4 * i];
  }
  return tensor(
    Float32Array.from(sums, (sum) => sum / (FINE ** 2 * 255)),
    [1, 1, 28, 28],
  );
}

function remember() {
  if (state.x) undone.push(ink.getImageData(0, 0, pad.width, pad.height));
  if (undone.length > 50) undone.shift();
}

/** Put an image of 784 numbers on the pad. */
function place(numbers) {
  remember();
  const small = Object.assign(document.createElement("canvas"), { width: 28, height: 28 });
  small.getContext("2d").putImageData(asImageData(numbers, 28, 28), 0, 0);
  ink.imageSmoothingEnabled = false;
  ink.drawImage(small, 0, 0, pad.width, pad.height);
  imageChanged();
}

/** A stroke from one point to another, in pixels of the image. */
function stroke(from, to) {
  const pen = document.querySelector("[name=tool]:checked").value === "pen";
  ink.lineCap = "round";
  ink.shadowColor = "white"; // a halo makes the pen as soft as the digits
  ink.shadowBlur = pen ? 1.4 * FINE : 0;
  ink.strokeStyle = pen ? "white" : "black";
  ink.lineWidth = (pen ? 2.6 : 4) * FINE;
  ink.beginPath();
  ink.moveTo(from[0] * FINE, from[1] * FINE);
  ink.lineTo(to[0] * FINE, to[1] * FINE);
  ink.stroke();
  ink.shadowBlur = 0;
  imageChanged();
}

function imageChanged() {
  state.x = padImage();
  part("undo").disabled = !undone.length;
  redraw(drawImageParts, drawPair, drawLayers);
}

/** What the model says of the image at hand, with the noise at hand. */
function answer() {
  const { model, x, eps } = state;
  const c = model.condition(state.told);
  const layers = [];
  const note = (layer, result) => (layers.push([layer, result]), result);
  return { ...forward(model.params, x, eps, c, note), layers };
}

function drawImageParts() {
  const { model, x } = state;
  drawImage(part("pad"), x.data);
  if (document.activeElement === part("pad") && state.penSeen) {
    const context = part("pad").getContext("2d");
    context.fillStyle = theme().accent;
    context.fillRect(Math.floor(state.penAt[0]), Math.floor(state.penAt[1]), 1, 1);
  }
  part("told-value").textContent = model.className(state.told);
  const { mu, logvar, logits } = (state.answer = answer());
  const mean = meanImage(model.params, logits).data;
  drawImage(part("mean"), mean);
  const random = new Random(Math.round(1e6 * Math.abs(state.eps.data[0]))); // one draw for each eps
  const spread = logSigma(model.params);
  const drawn = Float64Array.from(mean, (p) => {
    if (spread === null) return Number(random.uniform() < p);
    return Math.max(0, Math.min(1, p + Math.exp(spread) * random.normal([1]).data[0]));
  });
  drawImage(part("draw"), drawn);
  const costs = nllPerPixel(logits, x, spread);
  const most = costs.data.reduce((a, b) => Math.max(a, b), 1e-9);
  drawImage(
    part("costs"),
    Float64Array.from(costs.data, (nats) => nats / most),
    signed,
  );
  part("costs-words").textContent = `nats of each pixel, white 0 to dark ${shown(most)}`;
  showPrices(mu, logvar, costs);
  drawPosterior();
  startBound();
}

function drawPosterior() {
  const { model, answer: found } = state;
  if (!found || found.mu.data.length !== model.latents) return;
  const plane = new Plane(part("posterior"), reach(), model.axisNames);
  plane.context.globalAlpha = 0.35;
  drawCodes(plane, model, 10);
  plane.context.globalAlpha = 1;
  plane.axes();
  part("posterior").dataset.z = JSON.stringify([...found.z.data]); // the code itself, for who wants all its digits
  const mean = model.onPlane(found.mu.data);
  const sigma = model
    .onPlane(found.logvar.data.map((value) => Math.exp(value / 2)))
    .map((value, i) => (model.axes[i] < 0 ? 0 : value));
  const axes = model.latents > 2 ? ` (${model.axisNames.join(", ")})` : "";
  if (model.hasBound) {
    for (const times of [1, 2])
      plane.ellipse(
        mean,
        sigma.map((value) => times * value),
        plane.colours.accent,
        times === 2,
        2,
      );
    plane.dot(model.onPlane(found.z.data), plane.colours.ink);
    part("posterior-words").textContent =
      `q(z|x)${axes}: mean ${listed(mean)}, σ ${listed(sigma)}; ellipses at 1 and 2 σ. The dot is z = μ + σ ε.`;
  } else {
    plane.dot(mean, plane.colours.ink);
    part("posterior-words").textContent = `The autoencoder’s code${axes} ${listed(mean)}: a point, without noise.`;
  }
  part("again").hidden = !model.hasBound;
}

const MOST_ROWS = 8; // latents in the table

function showPrices(mu, logvar, costs) {
  const { model } = state;
  const nll = total(costs.data);
  const kl = Array.from(klPerLatent(mu, logvar).data);
  const rows = [["−log p(x|z), the reconstruction", nll]];
  if (model.hasBound) {
    const order = [...kl.keys()];
    const few = order.length > MOST_ROWS ? order.sort((a, b) => kl[b] - kl[a]).slice(0, MOST_ROWS - 1) : order;
    rows.push(...few.map((latent) => [`KL of z${subscript(latent + 1)}`, kl[latent]]));
    const others = order.slice(few.length);
    if (others.length)
      rows.push([`KL of the ${others.length} other latents`, total(others.map((latent) => kl[latent]))]);
    rows.push(["−ELBO with this draw, the sum", nll + total(kl), "total"]);
    rows.push(["−ELBO in bits per pixel", (nll + total(kl)) / (PIXELS * Math.LN2), "", 4]);
  } else {
    rows.push(["no KL: a point is no distribution, and there is no bound of log p(x)", null, "total"]);
  }
  if (logSigma(model.params) === null) {
    rows.push(["what these grey pixels cost at least, whatever the model", total(state.x.data.map(entropyOf))]);
  }
  part("prices").caption.textContent = model.hasBound
    ? "The price of this image, with this one draw of ε"
    : "The price of this image";
  const body = rows.map(([words, number, kind = "", digits = 2]) => {
    const row = document.createElement("tr");
    row.className = kind;
    const head = Object.assign(document.createElement("th"), { scope: "row", textContent: words });
    const cell = Object.assign(document.createElement("td"), {
      textContent: number === null ? "–" : shown(number, digits),
    });
    row.append(head, cell);
    return row;
  });
  part("prices").tBodies[0].replaceChildren(...body);
}

/** The least that a pixel between black and white costs under a Bernoulli, in nats: 0 for black or white. */
function entropyOf(p) {
  return p <= 0 || p >= 1 ? 0 : -p * Math.log(p) - (1 - p) * Math.log(1 - p);
}

const SAMPLES = 256; // for the bound of k samples
let boundTimer = null;
let boundRun = 0;

/** Once the image rests for a moment, draw codes and let the bound grow with their number. */
function startBound() {
  clearTimeout(boundTimer);
  boundRun += 1;
  const run = boundRun;
  const { model, x } = state;
  part("bound").parentElement.hidden = !model.hasBound;
  if (!model.hasBound) return;
  boundTimer = setTimeout(() => {
    const eps = new Random(2).normal([SAMPLES, model.latents]).data;
    const c = model.condition(state.told);
    const found = new Float64Array(SAMPLES);
    const at = 8;
    const work = (i) => {
      const some = tensor(eps.slice(i * at * model.latents, (i + 1) * at * model.latents), [1, at, model.latents]);
      found.set(logWeights(model.params, x, some, c).data, i * at);
      showBound(found.subarray(0, (i + 1) * at), (i + 1) * at === SAMPLES);
    };
    inSlices(SAMPLES / at, work, () => run === boundRun);
  }, 250);
}

/** The mean bound of groups of k of the samples, for every power of two that they are enough for. */
function showBound(logW, done) {
  const points = [];
  for (let k = 1; k <= logW.length; k *= 2) {
    const groups = Math.floor(logW.length / k);
    const bounds = importanceWeightedBound(tensor(logW.slice(0, groups * k), [groups, k])).data;
    points.push([k, bounds.reduce((a, b) => a + b, 0) / groups]);
  }
  drawBound(part("bound"), points, points[0][1]);
  const [k, best] = points.at(-1);
  part("bound-words").textContent =
    `The bound of k samples of q(z|x), each point the mean over groups of the same ${logW.length} draws: ` +
    `${shown(points[0][1])} nats with 1, which is the ELBO (dashed), ${shown(best)} with ${k}. ` +
    `It climbs towards log p(x), from which it may still be far if the image is a strange one.` +
    `${done ? "" : " More draws are coming."}`;
  part("bound").dataset.done = done;
}

const LEAST = 8; // pixels on the longer side of a picture that can hold anything

/** A picture of any size, as an image of the models' kind: grey, on black, its longer side 28 pixels. */
async function openPicture(blob, name) {
  let picture;
  try {
    picture = await createImageBitmap(blob);
  } catch {
    part("picture-words").textContent = `${name} is no picture that this browser can read: try a PNG or JPEG file.`;
    return;
  }
  const size = `${picture.width} by ${picture.height} pixels`;
  if (Math.max(picture.width, picture.height) < LEAST) {
    part("picture-words").textContent = `${name}, ${size}, is too small: ${LEAST} pixels at least.`;
    return;
  }
  const canvas = Object.assign(document.createElement("canvas"), { width: 28, height: 28 });
  const context = canvas.getContext("2d");
  const scale = 28 / Math.max(picture.width, picture.height);
  const [width, height] = [picture.width * scale, picture.height * scale];
  const [left, top] = [(28 - width) / 2, (28 - height) / 2];
  context.imageSmoothingQuality = "high";
  context.drawImage(picture, left, top, width, height);
  const levels = context.getImageData(0, 0, 28, 28).data;
  const light = new Float64Array(PIXELS);
  const cover = new Float64Array(PIXELS); // how much of a pixel is not transparent
  for (let i = 0; i < PIXELS; i++) {
    const [red, green, blue, alpha] = levels.subarray(4 * i, 4 * i + 4);
    light[i] = (0.299 * red + 0.587 * green + 0.114 * blue) / 255;
    cover[i] = alpha / 255;
  }
  const inside = [...light.keys()].filter((i) => {
    const [across, down] = [i % 28, Math.floor(i / 28)];
    return across + 1 > left && across < left + width && down + 1 > top && down < top + height;
  });
  const mean = (numbers, weights) => total(numbers.map((number, i) => number * weights[i])) / (total(weights) || 1);
  // What shines through: dark ink wants white paper.
  const paper = mean(light, cover) < 0.5 && total(cover) < 0.9 * inside.length ? 1 : 0;
  const seen = light.map((level, i) => cover[i] * level + (1 - cover[i]) * paper);
  const edge = inside.filter((i) => {
    const [across, down] = [i % 28, Math.floor(i / 28)];
    return across < left + 1 || across >= left + width - 1 || down < top + 1 || down >= top + height - 1;
  });
  const bright = total(edge.map((i) => seen[i])) / edge.length > 0.5;
  const image = new Float64Array(PIXELS);
  for (const i of inside) image[i] = bright ? 1 - seen[i] : seen[i];
  place(image);
  part("picture-words").textContent =
    `${name}, ${size}, as 28 by 28 grey ones${bright ? ", dark for bright because its edge is bright" : ""}.`;
}

function prepareImage() {
  const canvas = part("pad");
  const pointOf = (event) => {
    const box = canvas.getBoundingClientRect();
    return [(28 * (event.clientX - box.left)) / box.width, (28 * (event.clientY - box.top)) / box.height];
  };
  let last = null;
  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    remember();
    last = pointOf(event);
    stroke(last, last);
  });
  canvas.addEventListener("pointermove", (event) => {
    if (!last) return;
    stroke(last, pointOf(event));
    last = pointOf(event);
  });
  for (const name of ["pointerup", "pointercancel"]) canvas.addEventListener(name, () => (last = null));
  let down = false;
  canvas.addEventListener("keydown", (event) => {
    const by = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    if (by) {
      const from = state.penAt;
      state.penAt = from.map((value, i) => Math.max(0.5, Math.min(27.5, value + by[i])));
      if (down) stroke(from, state.penAt);
    }
    if (event.key === " ") {
      down = !down;
      if (down) {
        remember();
        stroke(state.penAt, state.penAt);
      }
    }
    if (by || event.key === " ") {
      state.penSeen = true;
      event.preventDefault();
      redraw(drawImageParts);
    }
  });
  canvas.addEventListener("blur", () => {
    down = state.penSeen = false;
    redraw(drawImageParts);
  });
  part("undo").addEventListener("click", () => {
    ink.putImageData(undone.pop(), 0, 0);
    imageChanged();
  });
  part("clear").addEventListener("click", () => place(new Float64Array(PIXELS)));
  const classes = [...new Set(images.labels)].sort((a, b) => a - b);
  part("another-class").append(new Option("any class", ""), ...classes.map((label) => new Option(label, label)));
  let at = -1;
  part("another").addEventListener("click", () => {
    const wanted = part("another-class").value;
    do at = (at + 1) % images.count;
    while (wanted !== "" && images.labels[at] !== Number(wanted));
    pick(at);
  });
  part("another-class").addEventListener("change", () => part("another").click());
  part("picture").addEventListener("change", () => {
    const [file] = part("picture").files;
    if (file) openPicture(file, file.name);
    part("picture").value = "";
  });
  document.addEventListener("paste", (event) => {
    const file = [...event.clipboardData.files].find(({ type }) => type.startsWith("image/"));
    if (file) openPicture(file, "the picture from the clipboard");
  });
  part("again").addEventListener("click", () => {
    state.eps = state.random.normal([1, state.model.latents]);
    redraw(drawImageParts, drawLayers);
  });
  part("told").addEventListener("input", () => {
    state.told = Number(part("told").value);
    redraw(drawImageParts, drawLayers, drawPair);
  });
}

/** Test image i on the pad; a conditional model is told its class. */
function pick(i) {
  state.told = images.labels[i];
  part("told").value = state.told;
  place(images.at(i).data);
}

// --- 3. Two models side by side --------------------------------------------------------------------------------------

const sides = [];
const DRAWS = 10; // of the prior
const both = { code: [0, 0], label: 3, random: new Random(4) };
both.draws = both.random.normal([DRAWS, 2]).data;

function sameCode() {
  return document.querySelector("[name=same]:checked").value === "z";
}

function preparePair() {
  for (const [i, name] of ["Left", "Right"].entries()) {
    const make = (tag, properties) => Object.assign(document.createElement(tag), properties);
    const box = make("div", {});
    const label = make("label", { textContent: `${name} ` });
    const select = make("select", { id: `pair-${i}` });
    label.append(select);
    const plane = make("canvas", { id: `pair-plane-${i}`, className: "touch", tabIndex: 0 });
    const image = make("canvas", { id: `pair-image-${i}`, className: "image" });
    const words = make("p", { id: `pair-words-${i}`, className: "note" });
    const slider = make("div", { className: "slider" });
    const sliderLabel = make("label", { textContent: "class " });
    const input = make("input", { id: `pair-class-${i}`, type: "range", min: 0, max: 9, step: 1, value: both.label });
    const output = make("output", {});
    sliderLabel.append(input);
    slider.append(sliderLabel, output);
    const pictures = make("div", { className: "pair" });
    pictures.append(plane, image);
    const average = make("p", { className: "note" });
    const draws = make("canvas", { id: `pair-draws-${i}` });
    const drawsWords = make("p", {
      className: "note",
      textContent: "Codes drawn from N(0, I), the same on both sides.",
    });
    box.append(label, pictures, words, average, slider, draws, drawsWords);
    part("pair-sides").append(box);
    for (const [canvas, what] of [
      [plane, "latent plane"],
      [image, "image"],
      [draws, "draws of N(0, I)"],
    ]) {
      canvas.setAttribute("role", canvas === plane ? "application" : "img");
      canvas.setAttribute("aria-label", `${name}: ${what}`);
    }
    const side = { select, plane, image, words, average, draws, slider, input, output };
    sides.push(side);
    select.addEventListener("change", () => {
      side.model = models[select.value];
      side.model.findCodes(() => redraw(drawPair));
      redraw(drawPair);
    });
    input.addEventListener("input", () => {
      both.label = Number(input.value);
      redraw(drawPair);
    });
    const move = (code) => {
      if (!sameCode()) return;
      both.code = code;
      redraw(drawPair);
    };
    followed(
      plane,
      () => reach(side.model),
      () => both.code,
      { move },
    );
  }
  document.querySelectorAll("[name=same]").forEach((radio) => radio.addEventListener("change", () => redraw(drawPair)));
  part("draw-prior").addEventListener("click", () => {
    both.draws = both.random.normal([DRAWS, 2]).data;
    redraw(drawPair);
  });
}

function comparePair(left, right, same = "z") {
  document.querySelector(`[name=same][value=${same}]`).checked = true;
  [left, right].forEach((model, i) => {
    sides[i].model = model;
    model.findCodes(() => redraw(drawPair));
  });
  redraw(drawPair);
}

function drawPair() {
  for (const side of sides) {
    const { model } = side;
    side.select.value = models.indexOf(model);
    side.slider.hidden = !model.model.num_classes || !sameCode(); // an image comes with its class, in part 2
    side.input.max = Math.max(0, model.model.num_classes - 1);
    side.input.value = both.label;
    side.output.textContent = model.className(both.label);
    const plane = new Plane(side.plane, reach(model), model.axisNames);
    plane.prior();
    drawCodes(plane, model, 9);
    plane.axes();
    const nowhere = new Float64Array(model.latents); // where the latents are that no axis shows
    const c = model.condition(sameCode() ? both.label : state.told);
    if (sameCode()) {
      drawImage(side.image, model.imageOf(model.along(both.code, nowhere), both.label));
      plane.cross(both.code, plane.colours.accent);
      const told = c ? `, class ${model.className(c[0])}` : "";
      side.words.textContent = `Decoded at ${model.axisNames.join(", ")} = ${listed(both.code)}${told}.`;
    } else {
      const { mu, logvar } = encode(model.params, state.x, c);
      const logits = decode(model.params, mu, c);
      drawImage(side.image, meanImage(model.params, logits).data);
      const mean = model.onPlane(mu.data);
      const sigma = model.onPlane(logvar.data.map((value) => Math.exp(value / 2)));
      if (model.hasBound) plane.ellipse(mean, sigma, plane.colours.accent, false, 2);
      plane.dot(mean, plane.colours.ink);
      const nll = total(nllPerPixel(logits, state.x, logSigma(model.params)).data);
      const kl = model.hasBound ? `, KL ${shown(total(klPerLatent(mu, logvar).data))} nats` : ", no KL";
      side.words.textContent = `The image of part 2, decoded at its mean: −log p(x|z) ${shown(nll)} nats${kl}.`;
    }
    side.average.textContent = model.average;
    const codes = Array.from({ length: DRAWS }, (_, i) => both.draws.subarray(2 * i, 2 * i + 2));
    tiles(
      side.draws,
      codes.map((pair) => model.imageOf(model.along(pair, nowhere), both.label)),
      28,
      28,
      grey,
      DRAWS,
    );
  }
}

// --- 4. Inside -------------------------------------------------------------------------------------------------------

function drawLayers() {
  if (!state.answer) return;
  const { model } = state;
  const { z, logits } = state.answer;
  // An autoencoder does not use its head for logvar.
  const layers = state.answer.layers.filter(([name]) => model.hasBound || name !== "encoder.logvar");
  const half = layers.findIndex(([name]) => name.startsWith("decoder"));
  const steps = [
    ["x", state.x],
    ...layers.slice(0, half),
    ...(model.hasBound ? [["z", z]] : []),
    ...layers.slice(half),
    ["image", meanImage(model.params, logits)],
  ];
  if (!steps.some(([name]) => name === state.layer)) state.layer = steps[1][0];
  const buttons = steps.map(([name, result]) => {
    const button = Object.assign(document.createElement("button"), { type: "button" });
    button.setAttribute("aria-pressed", name === state.layer);
    button.dataset.layer = name;
    const shape = Object.assign(document.createElement("small"), {
      textContent: `(${result.shape.slice(1).join(", ")})`,
    });
    button.append(name, shape);
    button.addEventListener("click", () => {
      state.layer = name;
      redraw(drawLayers);
      requestAnimationFrame(() => part("layers").querySelector("[aria-pressed=true]")?.focus());
    });
    return button;
  });
  part("layers").replaceChildren(...buttons);
  const [, result] = steps.find(([name]) => name === state.layer);
  showActivations(result);
  showKernels();
  const line = data.lines[state.layer] ?? data.lines[state.layer.replace(/\d+$/, "*")];
  part("layer-code").textContent = line ? `${line.file}, line ${line.number}:  ${line.code}` : "";
}

/** Factors of a count that make a rectangle no wider than a screen likes. */
function columnsFor(count, most = 32) {
  const best = Math.ceil(Math.sqrt(count * 1.6));
  for (let columns = Math.min(best, most); columns > 0; columns--)
    if (count % columns === 0 && columns >= best / 2) return columns;
  return Math.min(best, most);
}

function showActivations(result) {
  const [, ...shape] = result.shape;
  const [count, height, width] = shape.length === 3 ? shape : [shape[0], 1, 1];
  const least = result.data.reduce((a, b) => Math.min(a, b));
  const most = result.data.reduce((a, b) => Math.max(a, b));
  const negative = least < 0;
  const scale = Math.max(most, -least) || 1;
  const each = Array.from({ length: count }, (_, i) => {
    return Array.from(result.data.subarray(i * height * width, (i + 1) * height * width), (value) => value / scale);
  });
  tiles(part("activations"), each, height, width, negative ? signed : grey, columnsFor(count));
  const few = result.data.length <= 20 ? `: ${listed(result.data, 3)}` : "";
  const kind =
    height * width > 1 ? `${count} image${count > 1 ? "s" : ""} of ${height} × ${width}` : `${count} numbers`;
  part("activations-words").textContent =
    `What ${state.layer} holds for this image: ${kind}${few || `, from ${shown(least, 3)} to ${shown(most, 3)}`}` +
    `${negative ? "; blue is negative, brown positive" : "; black is 0"}.`;
}

function showKernels() {
  const { params } = state.model;
  const weight = params[`${state.layer}.weight`];
  part("kernels").parentElement.hidden = !weight;
  if (!weight || weight === state.kernels) return; // which have not changed since they were drawn
  state.kernels = weight;
  const [rows, columns, k = 0] = weight.shape;
  let each, height, width, across;
  const whole = Array.from(weight.data);
  if (k) {
    [height, width, across] = [k, k, Math.max(columns, columnsFor(rows * columns))];
    each = Array.from({ length: rows * columns }, (_, i) => whole.slice(i * k * k, (i + 1) * k * k));
  } else if (columns === PIXELS) {
    [height, width, across] = [28, 28, columnsFor(rows, 16)]; // what each unit looks for
    each = Array.from({ length: rows }, (_, i) => whole.slice(i * columns, (i + 1) * columns));
  } else if (rows === PIXELS) {
    [height, width, across] = [28, 28, columnsFor(columns, 16)]; // what each unit draws
    each = Array.from({ length: columns }, (_, i) => whole.filter((_, at) => at % columns === i));
  } else if (rows >= columns) {
    [each, height, width, across] = [[transposedFlat(whole, rows, columns)], columns, rows, 1];
  } else {
    [each, height, width, across] = [[whole], rows, columns, 1];
  }
  const ordered = whole.map(Math.abs).sort((a, b) => a - b);
  const scale = ordered[Math.floor(0.995 * (ordered.length - 1))] || 1; // a few large ones would leave the rest pale
  tiles(
    part("kernels"),
    each.map((tile) => tile.map((value) => value / scale)),
    height,
    width,
    signed,
    across,
  );
  part("kernels").style.imageRendering = each.length === 1 && width > 600 ? "auto" : "pixelated";
  part("kernels-words").textContent =
    `Its weights, ${listed(weight.shape, 0)}: blue is negative, brown positive, the darkest ±${shown(scale, 3)}.`;
}

function transposedFlat(flat, rows, columns) {
  return Array.from({ length: flat.length }, (_, i) => flat[(i % rows) * columns + Math.floor(i / rows)]);
}

// --- 5. Your own weights ---------------------------------------------------------------------------------------------

/** Read a model.safetensors, with its config.json if that was dropped too; what does not fit changes nothing. */
async function openWeights(files) {
  const weights = files.find(({ name }) => !name.endsWith(".json"));
  const words = part("file-words");
  try {
    if (!weights) throw new Error("a config.json alone holds no weights: drop model.safetensors with it");
    const beside = files.find(({ name }) => name.endsWith(".json"));
    const config = beside ? asConfig(await beside.text(), beside.name) : null;
    const params = loadWeights(await weights.arrayBuffer(), config);
    const { model } = params;
    const count = models.filter(({ own }) => own).length + 1;
    const added = new Model(`your ${model.class} ${count}`, "", () => params);
    added.own = true;
    const latents = `${model.latent_dim} latent${model.latent_dim > 1 ? "s" : ""}`;
    added.note = `${weights.name}: ${model.class}, ${model.architecture}, ${latents}, ${model.likelihood} likelihood.`;
    added.imageOf(added.code, 0); // that fails here, if it fails
    models.push(added);
    listModels();
    choose(added);
    redraw(drawPair);
    words.textContent = `${added.note} It is the model of this page now.`;
  } catch (error) {
    const name = weights?.name ?? files[0].name;
    words.textContent = `${name}: ${error.message}. The model is still “${state.model.title}”.`;
  }
}

function asConfig(text, name) {
  try {
    return JSON.parse(text);
  } catch {
    throw new Error(`${name} is not JSON`);
  }
}

function prepareWeights() {
  part("file").addEventListener("change", () => {
    if (part("file").files.length) openWeights([...part("file").files]);
    part("file").value = "";
  });
  document.addEventListener("dragover", (event) => {
    event.preventDefault();
    part("drop").classList.add("over");
  });
  document.addEventListener("dragleave", () => part("drop").classList.remove("over"));
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    part("drop").classList.remove("over");
    const files = [...event.dataTransfer.files];
    if (!files.length) return;
    if (files[0].type.startsWith("image/")) openPicture(files[0], files[0].name);
    else openWeights(files);
  });
}

// --- 6. A tour -------------------------------------------------------------------------------------------------------

/** What each stop sets up, by its name in tour.json. */
const STOPS = {
  autoencoder: () => comparePair(byTitle("VAE, fully"), byTitle("autoencoder"), "z"),
  holes: () => {
    choose(models[0]);
    part("show-codes").checked = false;
  },
  sigma: () => choose(models[0]),
  price: () => comparePair(byTitle("VAE, fully"), byTitle("beta"), "x"),
  path: () => {
    choose(models[0]);
    state.path = evenly(
      [
        [-2, -1.5],
        [2, 1.5],
      ],
      30,
    );
    redraw(drawPlane, drawStrip);
  },
  style: () => choose(byTitle("conditional")),
  gap: () => choose(models[0]),
};

const SHOWN = ["show-codes", "show-tiles", "show-prior"];

function byTitle(words) {
  return models.find(({ title }) => title.toLowerCase().includes(words.toLowerCase())) ?? models[0];
}

let stop = null;
let before = null; // what was chosen before the tour

function showStop(number) {
  before ??= { model: state.model, shown: SHOWN.map((id) => part(id).checked) };
  stop = Math.max(0, Math.min(data.tour.length - 1, number));
  const { name, place: where, title, text, question, answer: reply, exercise, link } = data.tour[stop];
  part("tour-title").textContent = `${stop + 1} of ${data.tour.length} · ${title}`;
  part("tour-text").textContent = text;
  part("tour-question").textContent = question;
  part("tour-answer").textContent = reply;
  part("tour-more").open = false;
  part("tour-link").textContent = exercise;
  part("tour-link").href = link;
  part("tour-back").disabled = stop === 0;
  part("tour-next").hidden = stop === data.tour.length - 1;
  SHOWN.forEach((id) => (part(id).checked = true));
  STOPS[name]();
  part(where).before(part("tour"));
  part("tour").hidden = false;
  part("tour").scrollIntoView({ block: where === "strip-figure" ? "center" : "start" });
  part("tour-title").focus({ preventScroll: true });
}

function endTour() {
  part("tour").hidden = true;
  SHOWN.forEach((id, i) => (part(id).checked = before.shown[i]));
  choose(before.model);
  before = null;
  part("start-tour").focus();
}

function prepareTour() {
  part("start-tour").hidden = !data.tour.length;
  part("start-tour").addEventListener("click", () => showStop(0));
  part("tour-back").addEventListener("click", () => showStop(stop - 1));
  part("tour-next").addEventListener("click", () => showStop(stop + 1));
  part("tour-end").addEventListener("click", endTour);
  part("tour").addEventListener("keydown", (event) => event.key === "Escape" && endTour());
}

// --- The page --------------------------------------------------------------------------------------------------------

function listModels() {
  for (const select of [part("model"), ...sides.map((side) => side.select)]) {
    const chosen = select.value;
    select.replaceChildren(...models.map(({ title }, i) => new Option(title, i)));
    if (chosen) select.value = chosen;
  }
}

function drawAll() {
  redraw(drawPlane, drawDecoded, drawStrip, drawImageParts, drawPair, drawLayers);
}

function prepareTheme() {
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const set = () => {
    document.documentElement.dataset.theme = part("theme").value || (dark.matches ? "dark" : "light");
    state.kernels = null;
    if (state.x) drawAll();
  };
  part("theme").addEventListener("change", set);
  dark.addEventListener("change", set);
  set();
}

async function begin() {
  prepareTheme();
  await images.read();
  preparePlane();
  prepareImage();
  preparePair();
  listModels();
  part("model").addEventListener("change", () => choose(models[part("model").value]));
  prepareWeights();
  prepareTour();
  comparePair(byTitle("VAE, fully"), byTitle("autoencoder"));
  choose(models[0]);
  pick(images.labels.indexOf(3));
  part("colophon").textContent = data.colophon;
  let width = document.body.clientWidth;
  new ResizeObserver(() => {
    if (width !== document.body.clientWidth) drawAll(); // the canvases set their heights themselves
    width = document.body.clientWidth;
  }).observe(document.body);
  performance.mark("ready");
  document.documentElement.dataset.ready = "true";
}

begin();
