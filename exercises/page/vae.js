/**
 * Level 1 once more, in plain JavaScript: the forward pass of a variational autoencoder, for the browser and for Node.
 *
 * Read it from top to bottom beside `numpy/vae_numpy.py`: the same functions in the same order, held against it by
 * tests. What NumPy does to whole arrays is a loop here.
 *
 *     x       images in [0, 1]                                  (N, 1, 28, 28)
 *     mu      mean of q(z|x) = N(mu, diag(exp(logvar)))         (N, Z)
 *     logvar  its log variance, log sigma^2                     (N, Z)
 *     eps     standard normal noise, always passed in           (N, Z)
 *     z       latent code, mu + exp(logvar / 2) * eps           (N, Z)
 *     logits  log-odds that a pixel is white, under p(x|z)      (N, 1, 28, 28)    (of a Gaussian p(x|z): its mean)
 *     c       class labels, for the conditional model           N integers
 *
 * A tensor is {data, shape}: a Float32Array or Float64Array in row-major order, and its sizes. Results have the dtype
 * of the weights, or of the first argument where there are none.
 */

// --- Tensors ---------------------------------------------------------------------------------------------------------

export function tensor(data, shape) {
  require(data.length === size(shape), `${data.length} numbers do not make the shape (${shape.join(", ")})`);
  return { data, shape };
}

function zeros(shape, like) {
  return { data: new like.data.constructor(size(shape)), shape };
}

function size(shape) {
  return shape.reduce((product, length) => product * length, 1);
}

/** f of every number, and of the numbers at the same place in the other tensors. */
function map(f, x, ...others) {
  const y = zeros(x.shape, x);
  for (let i = 0; i < y.data.length; i++) y.data[i] = f(x.data[i], ...others.map((other) => other.data[i]));
  return y;
}

/** a (M, K) times the transpose of b (P, K), all as flat arrays: y (M, P), each entry a sum along two rows. */
function product(a, b, y, m, k, p) {
  for (let i = 0; i < m; i++) {
    for (let j = 0; j < p; j++) {
      let s0 = 0, s1 = 0, s2 = 0, s3 = 0; // four sums at once: the processor does not wait for one addition
      let l = i * k, r = j * k;
      const end = l + k;
      for (; l + 3 < end; l += 4, r += 4) {
        s0 += a[l] * b[r];
        s1 += a[l + 1] * b[r + 1];
        s2 += a[l + 2] * b[r + 2];
        s3 += a[l + 3] * b[r + 3];
      }
      for (; l < end; l++, r++) s0 += a[l] * b[r];
      y[i * p + j] = s0 + s1 + (s2 + s3);
    }
  }
}

// --- Layers ----------------------------------------------------------------------------------------------------------
// Shapes are PyTorch's, (N, C, H, W), and here the numbers lie in memory in just that order. A kernel (C, k, k) and the
// patch under an output pixel are then rows of the same length, and every convolution is one matrix product.

/**
 * Cross-correlate images with k x k kernels, what deep learning calls a convolution.
 *
 * x (N, C, H, W), weight (O, C, k, k), bias (O) -> (N, O, H', W') with H' = floor((H + 2 padding - k) / stride) + 1.
 */
export function conv2d(x, weight, bias, stride = 2, padding = 1) {
  const [n, c, h, w] = x.shape;
  const [o, , k] = weight.shape;
  const outH = Math.floor((h + 2 * padding - k) / stride) + 1;
  const outW = Math.floor((w + 2 * padding - k) / stride) + 1;
  const y = zeros([n, o, outH, outW], weight);
  for (let image = 0; image < n; image++) {
    // im2col: the patch under each output pixel becomes one row of a matrix.
    const rows = zeros([outH * outW, c * k * k], weight);
    let place = 0;
    for (let top = -padding; top <= h + padding - k; top += stride) {
      for (let left = -padding; left <= w + padding - k; left += stride) {
        for (let channel = 0; channel < c; channel++) {
          for (let i = top; i < top + k; i++) {
            for (let j = left; j < left + k; j++, place++) {
              const inside = i >= 0 && i < h && j >= 0 && j < w;
              if (inside) rows.data[place] = x.data[((image * c + channel) * h + i) * w + j];
            }
          }
        }
      }
    }
    const images = y.data.subarray(image * o * outH * outW, (image + 1) * o * outH * outW); // (O, H' W')
    product(weight.data, rows.data, images, o, c * k * k, outH * outW);
  }
  return addToChannels(y, bias);
}

/**
 * The transpose of `conv2d` as a linear map: every input pixel stamps its k x k kernel onto the output.
 *
 * x (N, C, H, W), weight (C, O, k, k), bias (O) -> (N, O, H', W')
 * with H' = (H - 1) stride - 2 padding + k + outputPadding.
 */
export function convTranspose2d(x, weight, bias, stride = 2, padding = 1, outputPadding = 1) {
  const [n, c, h, w] = x.shape;
  const [, o, k] = weight.shape;
  const outH = (h - 1) * stride - 2 * padding + k + outputPadding;
  const outW = (w - 1) * stride - 2 * padding + k + outputPadding;
  const y = zeros([n, o, outH, outW], weight);
  const kernels = transposed(weight.data, c, o * k * k); // (O k k, C)
  const stamps = zeros([o * k * k, h * w], weight);
  for (let image = 0; image < n; image++) {
    const pixels = transposed(x.data.subarray(image * c * h * w, (image + 1) * c * h * w), c, h * w); // (H W, C)
    product(kernels, pixels, stamps.data, o * k * k, c, h * w);
    let place = 0;
    for (let channel = 0; channel < o; channel++) {
      for (let i = 0; i < k; i++) {
        for (let j = 0; j < k; j++) {
          // Entry (i, j) of all stamps of this channel: their pixels lie `stride` apart.
          for (let row = i - padding; row < i - padding + stride * h; row += stride) {
            for (let column = j - padding; column < j - padding + stride * w; column += stride, place++) {
              const inside = row >= 0 && row < outH && column >= 0 && column < outW;
              if (inside) y.data[((image * o + channel) * outH + row) * outW + column] += stamps.data[place];
            }
          }
        }
      }
    }
  }
  return addToChannels(y, bias);
}

/** x (N, I), weight (O, I), bias (O) -> (N, O). */
export function linear(x, weight, bias) {
  const [n, inputs] = x.shape;
  const [outputs] = weight.shape;
  const y = zeros([n, outputs], weight);
  product(x.data, weight.data, y.data, n, inputs, outputs);
  return addToChannels(y, bias);
}

export function relu(x) {
  return map((value) => Math.max(value, 0), x);
}

/** log(1 + exp(x)), without overflow for large |x|. */
export function softplus(x) {
  return map(softplusOf, x);
}

function softplusOf(value) {
  return Math.max(value, 0) + Math.log1p(Math.exp(-Math.abs(value)));
}

/** 1 / (1 + exp(-x)), written so that exp never overflows: log sigmoid(x) = -softplus(-x). */
export function sigmoid(x) {
  return map((value) => Math.exp(-softplusOf(-value)), x);
}

/** y (N, O, ...) plus bias (O), in place. */
function addToChannels(y, bias) {
  const [n, o] = y.shape;
  const each = y.data.length / (n * o);
  for (let i = 0; i < y.data.length; i++) y.data[i] += bias.data[Math.floor(i / each) % o];
  return y;
}

/** A matrix (rows, columns) as a flat array -> (columns, rows). */
function transposed(flat, rows, columns) {
  const turned = new flat.constructor(flat.length);
  for (let i = 0; i < rows; i++) for (let j = 0; j < columns; j++) turned[j * rows + i] = flat[i * columns + j];
  return turned;
}

// --- Parameters ------------------------------------------------------------------------------------------------------
// params: the tensors by name, as in a .safetensors file, and under `model` what they are:
//     class           "VAE", "ConditionalVAE", "Autoencoder", or a relative of the VAE that was only trained otherwise
//     architecture    "conv" or "mlp"; hidden_dims, activation: of the latter
//     likelihood      "bernoulli", or "gaussian" with `sigma` (a number, or "learned": then params hold log_sigma)
//     latent_dim, num_classes (0 without a condition), class_names

const VAES = ["VAE", "IWAE", "BetaTCVAE", "FactorVAE", "ConditionalVAE"];
const DEFAULT_MODEL = {
  class: "VAE", architecture: "conv", hidden_dims: [400, 400], activation: "relu", likelihood: "bernoulli", sigma: 1,
  latent_dim: 20, num_classes: 0, class_names: [], image_shape: [1, 28, 28],
};

/** The shape of every weight, by the name of its layer, in the order in which they are used. */
export function weightShapes(model) {
  const { architecture, latent_dim: z, num_classes: classes } = model;
  if (architecture === "conv") {
    return {
      "encoder.conv1": [32, 1, 3, 3],
      "encoder.conv2": [64, 32, 3, 3],
      "encoder.fc": [256, 3136 + classes],
      "encoder.mu": [z, 256],
      "encoder.logvar": [z, 256],
      "decoder.fc1": [256, z + classes],
      "decoder.fc2": [3136, 256],
      "decoder.deconv1": [64, 32, 3, 3],
      "decoder.deconv2": [32, 1, 3, 3],
    };
  }
  const shapes = {};
  const hidden = (network, sizes) => {
    for (let i = 0; i + 1 < sizes.length; i++) shapes[`${network}.hidden.${2 * i}`] = [sizes[i + 1], sizes[i]];
    return sizes.at(-1);
  };
  const last = hidden("encoder", [784 + classes, ...model.hidden_dims]);
  shapes["encoder.mu"] = [z, last];
  shapes["encoder.logvar"] = [z, last];
  shapes["decoder.logits"] = [784, hidden("decoder", [z + classes, ...[...model.hidden_dims].reverse()])];
  return shapes;
}

// --- The model -------------------------------------------------------------------------------------------------------

/** q(z|x), or q(z|x, c): x (N, 1, 28, 28) in [0, 1] -> {mu, logvar}, each (N, Z). Throws for anything else. */
export function encode(params, x, c = null, note = unnoted) {
  checkImages(x);
  const { weight, bias } = byLayer(params);
  const condition = oneHot(params.model, c, x);
  let h = x;
  if (params.model.architecture === "conv") {
    h = note("encoder.conv1", relu(conv2d(h, weight["encoder.conv1"], bias["encoder.conv1"]))); // (N, 32, 14, 14)
    h = note("encoder.conv2", relu(conv2d(h, weight["encoder.conv2"], bias["encoder.conv2"]))); // (N, 64, 7, 7)
    h = append(flattened(h), condition); // (N, 3136), in (64, 7, 7) order
    h = note("encoder.fc", relu(linear(h, weight["encoder.fc"], bias["encoder.fc"]))); // (N, 256)
  } else {
    h = hiddenLayers(params, "encoder", append(flattened(h), condition), note);
  }
  const mu = note("encoder.mu", linear(h, weight["encoder.mu"], bias["encoder.mu"]));
  const logvar = note("encoder.logvar", linear(h, weight["encoder.logvar"], bias["encoder.logvar"]));
  return { mu, logvar };
}

/** z = mu + sigma * eps, a sample of q(z|x) (Kingma & Welling, section 2.4). All (N, Z). */
export function reparameterize(mu, logvar, eps) {
  checkSameShapes({ mu, logvar, eps });
  const sigma = map((value) => Math.exp(value / 2), logvar); // the square root of the variance: hence the half
  const z = map((mean, spread, noise) => mean + spread * noise, mu, sigma, eps);
  return checkFinite("z = mu + exp(logvar / 2) * eps", z);
}

/** p(x|z), or p(x|z, c): z (N, Z) -> logits (N, 1, 28, 28), of a Gaussian the mean. */
export function decode(params, z, c = null, note = unnoted) {
  const { latent_dim: latentDim, architecture } = params.model;
  require(z.shape.length === 2 && z.shape[1] === latentDim, `z must have the shape (N, ${latentDim}), got ${words(z)}`);
  const { weight, bias } = byLayer(params);
  let h = append(z, oneHot(params.model, c, z));
  if (architecture === "conv") {
    h = note("decoder.fc1", relu(linear(h, weight["decoder.fc1"], bias["decoder.fc1"]))); // (N, 256)
    h = note("decoder.fc2", relu(linear(h, weight["decoder.fc2"], bias["decoder.fc2"]))); // (N, 3136)
    h = tensor(h.data, [z.shape[0], 64, 7, 7]);
    h = relu(convTranspose2d(h, weight["decoder.deconv1"], bias["decoder.deconv1"])); // (N, 32, 14, 14)
    note("decoder.deconv1", h);
    h = convTranspose2d(h, weight["decoder.deconv2"], bias["decoder.deconv2"]); // (N, 1, 28, 28)
    note("decoder.deconv2", h);
  } else {
    h = hiddenLayers(params, "decoder", h, note);
    h = tensor(linear(h, weight["decoder.logits"], bias["decoder.logits"]).data, [z.shape[0], 1, 28, 28]);
    note("decoder.logits", h);
  }
  return checkFinite("logits", h);
}

/** KL(q(z|x) || N(0, I)) in closed form: (N) nats, summed over the Z latents (Kingma & Welling, appendix B). */
export function klDivergence(mu, logvar) {
  return checkFinite("the KL divergence", summed(klPerLatent(mu, logvar)));
}

/** Its summands, (N, Z) nats. */
export function klPerLatent(mu, logvar) {
  checkSameShapes({ mu, logvar });
  // KL = 1/2 sum_d (mu_d^2 + sigma_d^2 - 1 - log sigma_d^2)
  return map((mean, log) => 0.5 * (mean ** 2 + Math.exp(log) - 1 - log), mu, logvar);
}

/**
 * -log p(x|z): (N) nats, summed over the pixels.
 *
 * logits, x: (N, 1, 28, 28). Of a Bernoulli decoder (Kingma & Welling, appendix C.1), x in [0, 1]; with `logSigma`, a
 * number, of a Gaussian one whose mean is `logits`.
 */
export function reconstructionNll(logits, x, logSigma = null) {
  return checkFinite("the reconstruction's nll", summed(nllPerPixel(logits, x, logSigma)));
}

/** Its summands, (N, 1, 28, 28) nats. */
export function nllPerPixel(logits, x, logSigma = null) {
  checkImages(x, logSigma === null);
  checkSameShapes({ logits, x });
  if (logSigma === null) {
    // With p = sigmoid(l): -x log p - (1 - x) log(1 - p) = softplus(l) - x l, which no large |l| can overflow.
    return map((logit, pixel) => softplusOf(logit) - pixel * logit, logits, x);
  }
  const constant = logSigma + Math.log(2 * Math.PI) / 2;
  return map((mean, pixel) => ((pixel - mean) * Math.exp(-logSigma)) ** 2 / 2 + constant, logits, x);
}

/** Encode, sample, decode: x (N, 1, 28, 28), eps (N, Z) -> {mu, logvar, z, logits}; an autoencoder's z is its mu. */
export function forward(params, x, eps, c = null, note = unnoted) {
  const { mu, logvar } = encode(params, x, c, note);
  const z = params.model.class === "Autoencoder" ? mu : reparameterize(mu, logvar, eps);
  const logits = decode(params, z, c, note);
  return { mu, logvar, z, logits };
}

/**
 * The evidence lower bound, log p(x) >= ELBO, estimated with one z per image: (N) nats.
 *
 * ELBO = E_q[log p(x|z)] - beta KL(q(z|x) || p(z)), equation (3) of Kingma & Welling; beta = 1 is the bound itself,
 * another beta the objective of Higgins et al. (2017), equation (4). Throws for an autoencoder, which has no bound.
 */
export function elbo(params, x, eps, beta = 1, c = null) {
  require(params.model.class !== "Autoencoder", "an autoencoder has no ELBO: its code is a point and no distribution");
  const { mu, logvar, logits } = forward(params, x, eps, c);
  const nll = reconstructionNll(logits, x, logSigma(params));
  return checkFinite("the ELBO", map((cost, kl) => -cost - beta * kl, nll, klDivergence(mu, logvar)));
}

/**
 * log w = log p(x|z) + log p(z) - log q(z|x) of K samples z of q(z|x): eps (N, K, Z) -> (N, K) nats.
 *
 * E_q[w] = p(x), so that their log-mean-exp over K bounds log p(x) from below (Burda et al. 2015, equation 8).
 */
export function logWeights(params, x, eps, c = null) {
  require(params.model.class !== "Autoencoder", "an autoencoder has no weights: its code is a point");
  const [n, k, latentDim] = eps.shape;
  const { mu, logvar } = encode(params, x, c);
  const all = repeated(c, k);
  const noise = tensor(eps.data, [n * k, latentDim]);
  const z = reparameterize(repeatedRows(mu, k), repeatedRows(logvar, k), noise);
  const nll = reconstructionNll(decode(params, z, all), repeatedRows(x, k), logSigma(params));
  // Of z = mu + sigma eps: log p(z) - log q(z|x) = sum_d (eps_d^2 + log sigma_d^2 - z_d^2) / 2; 2 pi cancels.
  const ratio = summed(map((e, log, code) => (e ** 2 + log - code ** 2) / 2, noise, repeatedRows(logvar, k), z));
  return tensor(map((difference, cost) => difference - cost, ratio, nll).data, [n, k]);
}

/** log 1/k sum_i w_i of log weights (N, k): (N) nats, stable for any weights (Burda et al. 2015, equation 8). */
export function importanceWeightedBound(logW) {
  const [n, k] = logW.shape;
  const bound = zeros([n], logW);
  for (let i = 0; i < n; i++) {
    const row = logW.data.subarray(i * k, (i + 1) * k);
    const largest = row.reduce((a, b) => Math.max(a, b));
    bound.data[i] = largest + Math.log(row.reduce((sum, value) => sum + Math.exp(value - largest), 0) / k);
  }
  return bound;
}

/** What one looks at: the mean image of p(x|z), in [0, 1]. z (N, Z) -> (N, 1, 28, 28). */
export function sample(params, z, c = null) {
  return meanImage(params, decode(params, z, c));
}

export function meanImage(params, logits) {
  return logSigma(params) === null ? sigmoid(logits) : map((mean) => Math.min(Math.max(mean, 0), 1), logits);
}

/** log sigma of a Gaussian decoder, a number; null for a Bernoulli one. */
export function logSigma(params) {
  if (params.model.likelihood === "bernoulli") return null;
  return params.model.sigma === "learned" ? params.log_sigma.data[0] : Math.log(params.model.sigma);
}

function hiddenLayers(params, network, h, note) {
  const activation = params.model.activation === "tanh" ? (x) => map(Math.tanh, x) : relu;
  for (let i = 0; i < params.model.hidden_dims.length; i++) {
    const layer = `${network}.hidden.${2 * i}`;
    h = note(layer, activation(linear(h, params[`${layer}.weight`], params[`${layer}.bias`])));
  }
  return h;
}

/** What looks at each layer's result, for those who do not: it hands the result on. */
function unnoted(layer, result) {
  return result;
}

/** Labels, N integers, to the matrix (N, num_classes) that the networks take; null for a model without a condition. */
function oneHot(model, c, like) {
  if (!model.num_classes) {
    require(c === null, `a ${model.class} takes no class labels c`);
    return null;
  }
  const [n] = like.shape;
  const known = (label) => Number.isInteger(label) && label >= 0 && label < model.num_classes;
  const fits = c !== null && c.length === n && [...c].every(known);
  require(fits, `c must be ${n} labels from 0 to ${model.num_classes - 1}`);
  const rows = zeros([n, model.num_classes], like);
  c.forEach((label, i) => (rows.data[i * model.num_classes + label] = 1));
  return rows;
}

/** h (N, I), condition (N, C) or null -> (N, I + C). */
function append(h, condition) {
  if (condition === null) return h;
  const [n, inputs] = h.shape;
  const [, classes] = condition.shape;
  const both = zeros([n, inputs + classes], h);
  for (let i = 0; i < n; i++) {
    both.data.set(h.data.subarray(i * inputs, (i + 1) * inputs), i * (inputs + classes));
    both.data.set(condition.data.subarray(i * classes, (i + 1) * classes), i * (inputs + classes) + inputs);
  }
  return both;
}

function flattened(x) {
  return tensor(x.data, [x.shape[0], x.data.length / x.shape[0]]);
}

/** (N, ...) -> (N), the sum over all other axes. */
function summed(x) {
  const [n] = x.shape;
  const each = x.data.length / n;
  const sums = zeros([n], x);
  for (let i = 0; i < n; i++) sums.data[i] = x.data.subarray(i * each, (i + 1) * each).reduce((a, b) => a + b, 0);
  return sums;
}

/** Each of the N rows k times in a row: (N, ...) -> (N k, ...). */
function repeatedRows(x, k) {
  const [n, ...rest] = x.shape;
  const each = size(rest);
  const rows = zeros([n * k, ...rest], x);
  for (let i = 0; i < n * k; i++) {
    const from = Math.floor(i / k) * each;
    rows.data.set(x.data.subarray(from, from + each), i * each);
  }
  return rows;
}

function repeated(c, k) {
  return c === null ? null : [...c].flatMap((label) => Array(k).fill(label));
}

/** The parameters as two objects, weight and bias, by the name of the layer. */
function byLayer(params) {
  const weight = {};
  const bias = {};
  for (const [name, value] of Object.entries(params)) {
    if (name.endsWith(".weight")) weight[name.slice(0, -".weight".length)] = value;
    if (name.endsWith(".bias")) bias[name.slice(0, -".bias".length)] = value;
  }
  return { weight, bias };
}

// --- Weights ---------------------------------------------------------------------------------------------------------

// What the numbers of a file are read as. They lie there with the lowest byte first, as in every browser's memory.
const KINDS = { F16: Uint16Array, F32: Float32Array, F64: Float64Array };

/**
 * Read the parameters that any level's script wrote: the bytes of a .safetensors file, an ArrayBuffer -> params.
 *
 * config: what a config.json says, as an object, for an older file that does not describe its model. float16 becomes
 * float32, exactly. Throws if the file is damaged, or holds another model than those above for images of 28x28.
 */
export function loadWeights(buffer, config = null) {
  const { header, start } = readHeader(buffer);
  const { __metadata__: metadata = {}, ...entries } = header;
  const model = describedModel(metadata, config, entries);
  // A FactorVAE's discriminator is of its training alone.
  const used = Object.entries(entries).filter(([name]) => !name.startsWith("discriminator."));
  const found = Object.fromEntries(used);
  const params = { model };
  for (const [name, shape] of Object.entries(expectedShapes(model))) {
    require(name in found, `the file does not hold ${aModel(model)}: ${name} is missing`);
    params[name] = readTensor(name, found[name], shape, buffer, start);
    delete found[name];
  }
  const [unknown] = Object.keys(found).sort();
  require(unknown === undefined, `the file does not hold ${aModel(model)}: ${brief(unknown)} is unknown`);
  const kinds = new Set(used.map(([, entry]) => entry.dtype));
  require(kinds.size === 1, `the file must hold numbers of one kind throughout, got ${[...kinds].sort().join(", ")}`);
  return params;
}

/** A safetensors file: 8 bytes that say how long the header is, the header in JSON, the numbers. */
function readHeader(buffer) {
  const damaged = (why) => new Error(`this is not a whole .safetensors file (${why}): train or copy it again`);
  if (buffer.byteLength < 8) throw damaged(`${buffer.byteLength} bytes`);
  const length = Number(new DataView(buffer).getBigUint64(0, true));
  if (length > buffer.byteLength - 8) throw damaged("its header is longer than the file");
  let header;
  try {
    header = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(new Uint8Array(buffer, 8, length)));
  } catch {
    throw damaged("its header is not JSON");
  }
  const table = isObject(header) && Object.values(header).every(isObject);
  if (!table) throw damaged("its header is not a table of tensors");
  const start = 8 + length;
  let end = start;
  for (const [name, entry] of Object.entries(header)) {
    if (name === "__metadata__") continue;
    const { dtype, shape, data_offsets: offsets } = entry;
    const whole = (array) => Array.isArray(array) && array.every((number) => Number.isInteger(number) && number >= 0);
    const fits = typeof dtype === "string" && whole(shape) && whole(offsets) && offsets.length === 2;
    if (!fits) throw damaged(`its header is wrong about ${brief(name)}`);
    const bytes = KINDS[dtype]?.BYTES_PER_ELEMENT;
    const length = offsets[1] - offsets[0];
    if (bytes && length !== bytes * size(shape)) throw damaged(`its header is wrong about ${brief(name)}`);
    end = Math.max(end, start + offsets[1]);
  }
  if (end !== buffer.byteLength) throw damaged(`${buffer.byteLength} bytes, its header says ${end}`);
  return { header, start };
}

/** What the file says of its model, or else config.json, or else the default VAE of the levels, checked. */
function describedModel(metadata, config, entries) {
  let described = config?.model;
  if (metadata.model !== undefined) {
    try {
      described = JSON.parse(metadata.model);
    } catch {
      throw new Error("what the file says about its model is not JSON: train or copy it again");
    }
  }
  described ??= { latent_dim: entries["encoder.mu.bias"]?.shape[0] ?? 1 };
  require(isObject(described), "what the file says about its model must be a JSON object");
  const model = { ...DEFAULT_MODEL, ...described };
  require(
    [...VAES, "Autoencoder"].includes(model.class),
    `the file holds a ${brief(model.class)}, and this page computes a VAE, a conditional VAE or an autoencoder`,
  );
  const shape = brief([model.image_shape].flat().join(", "));
  require(shape === "1, 28, 28", `the file's images have the shape (${shape}), and this page shows (1, 28, 28)`);
  const sizes = [model.latent_dim, ...(Array.isArray(model.hidden_dims) ? model.hidden_dims : [NaN])];
  const known =
    sizes.every((number) => Number.isInteger(number) && number >= 1) &&
    Number.isInteger(model.num_classes) && model.num_classes >= 0 &&
    ["conv", "mlp"].includes(model.architecture) &&
    ["relu", "tanh"].includes(model.activation) &&
    ["bernoulli", "gaussian"].includes(model.likelihood) &&
    (model.sigma === "learned" || model.sigma > 0);
  require(known, "what the file says about its model cannot be: train or copy it again");
  return model;
}

function expectedShapes(model) {
  const shapes = {};
  for (const [layer, shape] of Object.entries(weightShapes(model))) {
    shapes[`${layer}.weight`] = shape;
    shapes[`${layer}.bias`] = [layer.includes("deconv") ? shape[1] : shape[0]];
  }
  if (model.likelihood === "gaussian" && model.sigma === "learned") shapes.log_sigma = [];
  return shapes;
}

function readTensor(name, entry, shape, buffer, start) {
  const Kind = KINDS[entry.dtype];
  require(Kind, `the numbers of ${name} must be float16, float32 or float64, got ${brief(entry.dtype)}`);
  require(
    String(entry.shape) === String(shape),
    `${name} has the shape (${entry.shape.join(", ")}), expected (${shape.join(", ")})`,
  );
  const [from, to] = entry.data_offsets;
  const stored = new Kind(buffer.slice(start + from, start + to));
  const data = entry.dtype === "F16" ? new Float32Array(stored.length) : stored;
  if (entry.dtype === "F16") for (let i = 0; i < data.length; i++) data[i] = FLOAT16[stored[i]];
  require(data.every(Number.isFinite), `${name} holds NaN or infinity`);
  return tensor(data, shape);
}

/** The number behind each pattern of sixteen bits: sign, five bits of exponent, ten of fraction. */
const FLOAT16 = Float32Array.from({ length: 1 << 16 }, (_, bits) => {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >> 10) & 31;
  const fraction = bits & 1023;
  if (exponent === 31) return fraction ? NaN : sign * Infinity;
  return exponent ? sign * 2 ** (exponent - 15) * (1 + fraction / 1024) : sign * 2 ** -24 * fraction;
});

// --- Checks: every mistake is told where it enters -------------------------------------------------------------------

function require(condition, message) {
  if (!condition) throw new Error(message);
}

function checkImages(x, unit = true) {
  const [n, ...rest] = x.shape;
  require(n > 0 && String(rest) === "1,28,28", `x must have the shape (N, 1, 28, 28), got ${words(x)}`);
  const fits = unit ? (value) => value >= 0 && value <= 1 : Number.isFinite;
  require(x.data.every(fits), unit ? "x must lie in [0, 1]" : "x must be finite");
}

function checkSameShapes(tensors) {
  const [[first, one], ...others] = Object.entries(tensors);
  for (const [name, other] of others) {
    const same = String(one.shape) === String(other.shape);
    require(same, `${name} must have the shape of ${first}, ${words(one)}, got ${words(other)}`);
  }
}

function checkFinite(name, x) {
  require(x.data.every(Number.isFinite), `${name} is not finite: weights or inputs are too large`);
  return x;
}

function isObject(value) {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function words(x) {
  return `(${x.shape.join(", ")})`;
}

function aModel(model) {
  return `the ${model.class} (${model.architecture}) that it describes`;
}

function brief(value) {
  return String(value).slice(0, 60);
}
