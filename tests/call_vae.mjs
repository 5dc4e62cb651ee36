// Calls functions of exercises/page/vae.js for test_vae_js.py. On stdin {arrays, calls} in JSON, each call a list
// [name, ...arguments], on stdout the list of results. An array is {shape, dtype, base64}, an argument that is one
// {array: its number}; params are {params: {name: array}, model}; the bytes of a file are {file: base64}. A call that
// throws gives {error}.

import { readFileSync } from "node:fs";

import * as vae from "../exercises/page/vae.js";

const ARRAYS = { float32: Float32Array, float64: Float64Array };

const { arrays, calls } = JSON.parse(readFileSync(0, "utf-8"));
const tensors = arrays.map(({ base64, dtype, shape }) => {
  const bytes = Uint8Array.from(Buffer.from(base64, "base64"));
  return vae.tensor(new ARRAYS[dtype](bytes.buffer), shape);
});

function read(value) {
  if (value?.array !== undefined) return tensors[value.array];
  if (value?.file !== undefined) return Uint8Array.from(Buffer.from(value.file, "base64")).buffer;
  if (value?.params) {
    const named = Object.entries(value.params).map(([name, each]) => [name, read(each)]);
    return { ...Object.fromEntries(named), model: value.model };
  }
  return value;
}

function written(value) {
  if (value?.data && value.shape) {
    const { buffer, byteOffset, byteLength } = value.data;
    const dtype = Object.keys(ARRAYS).find((name) => value.data instanceof ARRAYS[name]);
    return { base64: Buffer.from(buffer, byteOffset, byteLength).toString("base64"), dtype, shape: value.shape };
  }
  if (typeof value === "object" && value !== null && !Array.isArray(value)) {
    return Object.fromEntries(Object.entries(value).map(([name, each]) => [name, written(each)]));
  }
  return value;
}

const results = calls.map(([name, ...given]) => {
  try {
    return written(vae[name](...given.map(read)));
  } catch (error) {
    return { error: error.message };
  }
});
process.stdout.write(JSON.stringify(results));
