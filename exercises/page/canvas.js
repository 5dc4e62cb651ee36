/** Drawing: images of numbers, the latent plane, a line chart. Coordinates are CSS pixels, whatever the screen has. */

export const REACH = 3.6; // how far the plane goes, in sigma of the prior

// Ten colours that differ for colour-blind readers too (after Paul Tol's "muted"), for light and for dark paper. The
// marks on the plane are digits besides, so that no reader needs the colour.
const CLASSES = {
  light: "#8a2846 #332288 #8a6d00 #117733 #1f7a9c #882255 #1b7a6d #6b6b12 #99338a #555555".split(" "),
  dark: "#ff8fa3 #a99bff #ddcc77 #63c27d #88ccee #e58bb5 #5fd0bd #b9b95a #d993d0 #c9c9c9".split(" "),
};

export function theme() {
  const style = getComputedStyle(document.documentElement);
  const colour = (name) => style.getPropertyValue(`--${name}`).trim();
  return {
    ink: colour("ink"),
    soft: colour("soft"),
    line: colour("line"),
    card: colour("card"),
    accent: colour("accent"),
    classes: CLASSES[document.documentElement.dataset.theme === "dark" ? "dark" : "light"],
  };
}

/** Make the canvas as sharp as the screen; height: of the width, or in CSS pixels if above 3. */
export function surface(canvas, height) {
  const width = canvas.clientWidth || 300;
  const high = height > 3 ? height : Math.round(width * height);
  const scale = window.devicePixelRatio || 1;
  canvas.style.height = `${high}px`;
  canvas.width = Math.round(width * scale);
  canvas.height = Math.round(high * scale);
  const context = canvas.getContext("2d");
  context.scale(scale, scale);
  const rem = parseFloat(getComputedStyle(document.documentElement).fontSize) / 16; // larger on a projector
  context.font = `${13 * rem}px ${getComputedStyle(document.body).fontFamily}`;
  return { context, width, height: high, rem };
}

/** Numbers in [0, 1], a square number of them, as a grey image of its own size in a canvas that CSS enlarges. */
export function drawImage(canvas, numbers, colour = grey) {
  const side = Math.round(Math.sqrt(numbers.length));
  canvas.width = canvas.height = side;
  const context = canvas.getContext("2d");
  context.putImageData(asImageData(numbers, side, side, colour), 0, 0);
}

export function asImageData(numbers, width, height, colour = grey) {
  const image = new ImageData(width, height);
  numbers.forEach((number, i) => image.data.set([...colour(number), 255], 4 * i));
  return image;
}

export function grey(number) {
  const level = Math.round(255 * number);
  return [level, level, level];
}

/** From -1, blue, over 0, white, to 1, red-brown: two hues that colour-blind readers tell apart. */
export function signed(number) {
  const to = number < 0 ? [33, 102, 172] : [178, 74, 10];
  return to.map((level) => Math.round(255 + (level - 255) * Math.min(Math.abs(number), 1)));
}

/** Many small images, each (height, width), one beside the other in rows: a canvas of their own pixels, and gaps. */
export function tiles(canvas, images, height, width, colour, columns) {
  const rows = Math.ceil(images.length / columns);
  const gap = height * width > 1 ? 1 : 0;
  canvas.width = columns * (width + gap) + gap;
  canvas.height = rows * (height + gap) + gap;
  canvas.style.height = "auto";
  canvas.style.aspectRatio = `${canvas.width} / ${canvas.height}`;
  canvas.style.imageRendering = "pixelated";
  const context = canvas.getContext("2d");
  context.fillStyle = theme().line;
  context.fillRect(0, 0, canvas.width, canvas.height);
  images.forEach((image, i) => {
    const left = gap + (i % columns) * (width + gap);
    const top = gap + Math.floor(i / columns) * (height + gap);
    context.putImageData(asImageData(image, width, height, colour), left, top);
  });
}

/** The square of latent space that a canvas shows: where a code lies on it, and which code a point is. */
export class Plane {
  constructor(canvas, reach = REACH, names = ["z₁", "z₂"]) {
    Object.assign(this, { canvas, reach, names });
    Object.assign(this, surface(canvas, 1), { colours: theme() });
  }

  at(a, b) {
    return [((a / this.reach + 1) * this.width) / 2, ((1 - b / this.reach) * this.height) / 2];
  }

  static codeAt(canvas, event, reach) {
    const box = canvas.getBoundingClientRect();
    const across = (2 * (event.clientX - box.left)) / box.width - 1;
    const up = 1 - (2 * (event.clientY - box.top)) / box.height;
    return [across * reach, up * reach].map((value) => Math.max(-reach, Math.min(reach, value)));
  }

  axes() {
    const { context, colours } = this;
    context.fillStyle = colours.soft;
    context.strokeStyle = colours.line;
    context.textAlign = "center";
    context.textBaseline = "middle";
    const step = [0.5, 1, 2, 5, 10, 20, 50, 100, 200].find((each) => this.reach / each <= 4) ?? 500;
    for (let value = step * Math.ceil(-this.reach / step); value <= this.reach; value += step) {
      const [x, y] = this.at(value, value);
      this.line([x, this.height - 5], [x, this.height], colours.soft);
      this.line([0, y], [5, y], colours.soft);
      const words = String(value).replace("-", "−");
      if (x > 30 && x < this.width - 30) this.write(words, x, this.height - 13);
      if (y > 30 && y < this.height - 30) this.write(words, 18, y);
    }
    this.write(this.names[0], this.width - 16, this.height - 13);
    this.write(this.names[1], 16, 14);
  }

  /** Words that can be read on every ground. */
  write(words, x, y) {
    const { context, colours } = this;
    context.strokeStyle = colours.card;
    context.lineWidth = 4;
    context.lineJoin = "round";
    context.strokeText(words, x, y);
    context.fillText(words, x, y);
  }

  line(from, to, colour, width = 1) {
    const { context } = this;
    context.beginPath();
    context.moveTo(...from);
    context.lineTo(...to);
    context.strokeStyle = colour;
    context.lineWidth = width;
    context.stroke();
  }

  path(codes, colour) {
    for (let i = 1; i < codes.length; i++) this.line(this.at(...codes[i - 1]), this.at(...codes[i]), colour, 2.5);
  }

  /** An ellipse about a code; its half axes in units of the latents. */
  ellipse([a, b], [across, up], colour, dashed = false, width = 1.5) {
    const { context } = this;
    const [x, y] = this.at(a, b);
    context.beginPath();
    context.setLineDash(dashed ? [4, 4] : []);
    context.ellipse(x, y, (across * this.width) / (2 * this.reach), (up * this.height) / (2 * this.reach), 0, 0, 7);
    context.strokeStyle = colour;
    context.lineWidth = width;
    context.stroke();
    context.setLineDash([]);
  }

  /** N(0, I), by circles at 1, 2 and 3 sigma. */
  prior() {
    for (const radius of [1, 2, 3]) {
      this.ellipse([0, 0], [radius, radius], this.colours.card, false, 3);
      this.ellipse([0, 0], [radius, radius], this.colours.soft, true, 1.3);
    }
  }

  mark(code, word, colour, size = 11) {
    const { context } = this;
    const font = context.font;
    context.font = font.replace(/[\d.]+px/, `bold ${size * this.rem}px`);
    context.textAlign = "center";
    context.textBaseline = "middle";
    context.fillStyle = colour;
    context.fillText(word, ...this.at(...code));
    context.font = font;
  }

  /** A cross that is seen on every ground. */
  cross(code, colour) {
    const [x, y] = this.at(...code);
    for (const [width, ink] of [
      [5, this.colours.card],
      [2, colour],
    ]) {
      this.line([x - 9, y], [x + 9, y], ink, width);
      this.line([x, y - 9], [x, y + 9], ink, width);
    }
  }

  dot(code, colour) {
    const { context } = this;
    context.beginPath();
    context.arc(...this.at(...code), 5, 0, 7);
    context.fillStyle = colour;
    context.strokeStyle = this.colours.card;
    context.lineWidth = 1.5;
    context.fill();
    context.stroke();
  }
}

/** Points (x, y) joined by lines, x in steps of a factor of two, with a horizontal line for comparison. */
export function drawBound(canvas, points, level) {
  const { context, width, height } = surface(canvas, Math.min(260, Math.max(200, canvas.clientWidth * 0.4)));
  const colours = theme();
  const left = 84,
    right = width - 20,
    top = 16,
    bottom = height - 38;
  const values = [...points.map(([, y]) => y), ...(level === null ? [] : [level])];
  const low = Math.min(...values),
    high = Math.max(...values);
  const room = Math.max(0.15 * (high - low), 0.5);
  const last = Math.max(1, Math.log2(points.at(-1)[0]));
  const at = ([k, y]) => [
    left + ((right - left) * Math.log2(k)) / last,
    bottom - ((bottom - top) * (y - low + room)) / (high - low + 2 * room),
  ];
  const step =
    [0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500].find((each) => (high - low + 2 * room) / each <= 6) ?? 1000;
  context.textBaseline = "middle";
  context.textAlign = "right";
  for (let y = step * Math.ceil((low - room) / step); y <= high + room; y += step) {
    const [, height] = at([1, y]);
    context.strokeStyle = colours.line;
    context.lineWidth = 1;
    context.beginPath();
    context.moveTo(left, height);
    context.lineTo(right, height);
    context.stroke();
    context.fillStyle = colours.soft;
    context.fillText(y.toFixed(step < 1 ? 1 : 0).replace("-", "−"), left - 8, height);
  }
  context.textAlign = "center";
  for (const [k] of points) context.fillText(String(k), at([k, low])[0], bottom + 14);
  context.fillText("samples k", (left + right) / 2, bottom + 31);
  context.save();
  context.translate(14, (top + bottom) / 2);
  context.rotate(-Math.PI / 2);
  context.fillText("bound of log p(x), nats", 0, 0);
  context.restore();
  if (level !== null) {
    context.setLineDash([6, 5]);
    context.strokeStyle = colours.soft;
    context.beginPath();
    context.moveTo(...at([1, level]));
    context.lineTo(right, at([1, level])[1]);
    context.stroke();
    context.setLineDash([]);
  }
  context.strokeStyle = context.fillStyle = colours.accent;
  context.lineWidth = 2;
  context.beginPath();
  points.forEach((point) => context.lineTo(...at(point)));
  context.stroke();
  for (const point of points) {
    context.beginPath();
    context.arc(...at(point), 3.5, 0, 7);
    context.fill();
  }
}
