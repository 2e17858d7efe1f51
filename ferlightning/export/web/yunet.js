// The face detector YuNet (Wu, Peng and Yu 2023): what its outputs mean.

import { planes, resize, round } from "./pixels.js";

const STRIDES = [8, 16, 32];

/**
 * Finds faces.
 * @param run takes BGR planes as floats, their width and height, and gives YuNet's outputs by name.
 * @param size longer side to which the picture is reduced.
 * @param overlap of two boxes that share more than this (intersection over union), the better stays.
 * @returns [{box: [left, top, right, bottom], score}] in pixels of the picture.
 */
export async function findFaces(run, image, size, minScore, overlap) {
  const scale = Math.min(1, size / Math.max(image.width, image.height));
  const width = Math.max(1, round(scale * image.width));
  const height = Math.max(1, round(scale * image.height));
  const small = resize(image, width, height, true);
  const columns = Math.ceil(width / 32) * 32;
  const rows = Math.ceil(height / 32) * 32;
  const bytes = planes(small, [2, 1, 0]);
  const input = new Float32Array(3 * columns * rows);
  for (let line = 0; line < 3 * height; line++) {
    const at = (Math.floor(line / height) * rows + (line % height)) * columns;
    input.set(bytes.subarray(line * width, (line + 1) * width), at);
  }
  const outputs = await run(input, columns, rows);
  const found = STRIDES.flatMap((stride) => decode(outputs, stride, columns / stride, minScore));
  found.sort((one, other) => other.score - one.score);
  const kept = [];
  for (const face of found) if (kept.every((better) => shared(better.box, face.box) <= overlap)) kept.push(face);
  return kept.map(({ box, score }) => ({ box: box.map((side) => side / scale), score }));
}

function decode(outputs, stride, columns, minScore) {
  const [cls, obj, bbox] = ["cls", "obj", "bbox"].map((kind) => outputs[`${kind}_${stride}`].data);
  const found = [];
  for (let i = 0; i < cls.length; i++) {
    const score = Math.sqrt(Math.min(1, Math.max(0, cls[i])) * Math.min(1, Math.max(0, obj[i])));
    if (score < minScore) continue;
    const x = ((i % columns) + bbox[4 * i]) * stride;
    const y = (Math.floor(i / columns) + bbox[4 * i + 1]) * stride;
    const [w, h] = [2, 3].map((k) => Math.exp(Math.min(bbox[4 * i + k], Math.log(1e4))) * stride);
    found.push({ box: [x - w / 2, y - h / 2, x + w / 2, y + h / 2], score });
  }
  return found;
}

/** Intersection over union of two boxes. */
export function shared(one, other) {
  const w = Math.min(one[2], other[2]) - Math.max(one[0], other[0]);
  const h = Math.min(one[3], other[3]) - Math.max(one[1], other[1]);
  const both = Math.max(0, w) * Math.max(0, h);
  const area = (box) => Math.max(0, box[2] - box[0]) * Math.max(0, box[3] - box[1]);
  return both / Math.max(area(one) + area(other) - both, 1e-9);
}
