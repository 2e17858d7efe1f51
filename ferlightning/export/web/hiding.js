// Faces hidden, in pictures and over the whole time that a face is in a stream: as ferlightning.deploy does it.

import { resize } from "./pixels.js";

/** Hides faces on a canvas. `how` is box, which paints them black, or blur or pixelate, which leave something. */
export function hide(canvas, boxes, how, k) {
  const context = canvas.getContext("2d");
  for (const [left, top, right, bottom] of boxes) {
    const [x0, y0] = [left - k.GROWN * (right - left), top - k.GROWN * (bottom - top)].map((v) => Math.max(0, Math.trunc(v)));
    const x1 = Math.min(canvas.width, Math.ceil(right + k.GROWN * (right - left)));
    const y1 = Math.min(canvas.height, Math.ceil(bottom + k.GROWN * (bottom - top)));
    const [w, h] = [x1 - x0, y1 - y0];
    if (w <= 0 || h <= 0) continue;
    if (how === "box") {
      context.fillStyle = "#000";
      context.fillRect(x0, y0, w, h);
      continue;
    }
    // Blurring a picture reduced to 32 pixels a face is as strong, and takes no kernel of hundreds of pixels.
    const scale = how === "blur" ? Math.min(1, 32 / (right - left)) : k.CELLS / w;
    const part = context.getImageData(x0, y0, w, h);
    const small = resize(part, Math.max(1, Math.round(scale * w)), Math.max(1, Math.round(scale * h)), true);
    const weak = how === "blur" ? blurred(small, k.SIGMA * (right - left) * scale) : small;
    const cells = Object.assign(document.createElement("canvas"), { width: weak.width, height: weak.height });
    const pixels = new ImageData(weak.width, weak.height);
    for (let i = 0; i < pixels.data.length; i++) pixels.data[i] = i % 4 < 3 ? weak.data[(i >> 2) * 3 + (i % 4)] : 255;
    cells.getContext("2d").putImageData(pixels, 0, 0);
    context.imageSmoothingEnabled = how === "blur";
    context.drawImage(cells, x0, y0, w, h);
  }
}

/** A Gaussian blur; beyond the border, its pixels are repeated. */
function blurred(image, sigma) {
  const reach = Math.ceil(4 * sigma);
  const weights = Array.from({ length: 2 * reach + 1 }, (_, i) => Math.exp(-((i - reach) ** 2) / (2 * sigma ** 2)));
  const total = weights.reduce((sum, weight) => sum + weight);
  let { data } = image;
  for (const [step, count] of [[3, image.width], [3 * image.width, image.height]]) {
    const out = new Float32Array(data.length);
    for (let i = 0; i < data.length; i++) {
      const place = Math.floor(i / step) % count;
      for (let n = -reach; n <= reach; n++) {
        const other = Math.min(Math.max(place + n, 0), count - 1);
        out[i] += (weights[n + reach] / total) * data[i + (other - place) * step];
      }
    }
    data = out;
  }
  return { ...image, data: Uint8ClampedArray.from(data) };
}

/** A stream half a second late, so that a face is hidden before it is found first, too. */
export class Hider {
  constructor(k) {
    this.k = k;
    this.waiting = [];
    this.seen = new Map(); // of each face, when and where it was found: [{time, box}]
  }

  /** Takes a frame with its faces; gives those that are now old enough: [{image, time, faces, boxes}]. */
  push(image, time, faces) {
    this.waiting.push({ image, time, faces });
    for (const { track, box, found } of faces) {
      if (found) this.seen.set(track, [...(this.seen.get(track) ?? []), { time, box }]);
    }
    const ready = [];
    while (time - this.waiting[0].time > this.k.DELAY) ready.push(this.oldest());
    return ready;
  }

  oldest() {
    const { k, seen } = this;
    const frame = this.waiting.shift();
    const boxes = [...frame.faces.map((face) => face.box), ...places([...seen.values()], frame.time, k)];
    for (const [track, found] of seen) {
      if (found[found.length - 1].time < frame.time - k.KEPT) seen.delete(track);
      else seen.set(track, found.filter((one) => one.time >= frame.time - 2 * k.KEPT));
    }
    return { ...frame, boxes };
  }
}

/** Where the faces may be that are not found at a time, but before or after it. */
function places(seen, time, k) {
  const [boxes, lost, fresh] = [[], [], []];
  for (const found of seen) {
    const before = found.filter((one) => one.time <= time);
    const after = found.filter((one) => one.time > time).reverse();
    if (before.length && before[before.length - 1].time === time) continue;
    const sides = [before, after].filter((side) => side.length);
    const ends = sides.map((side) => side[side.length - 1]);
    const away = ends.map((end) => Math.abs(end.time - time));
    const nearest = Math.min(...away);
    const { box } = ends[away.indexOf(nearest)];
    const more = [0, 1].map((i) => k.SPREAD * nearest * (box[i + 2] - box[i]));
    boxes.push(around([...ends.map((end) => end.box), ...sides.map((side) => expected(side, time, k))], more));
    if (!after.length) lost.push(box);
    if (!before.length) fresh.push(box);
  }
  for (const one of lost) // a face that moved too far to be known again
    for (const other of fresh) if (near(one, other, k)) boxes.push(around([one, other], [0, 0]));
  return boxes;
}

/** Where a face is that moves on as it did when it was found last, or first. */
function expected(found, time, k) {
  const end = found[found.length - 1];
  const other = found.find((one) => Math.abs(end.time - one.time) <= k.SHOWN);
  if (other === end) return end.box;
  return end.box.map((side, i) => side + ((side - other.box[i]) / (end.time - other.time)) * (time - end.time));
}

function near(one, other, k) {
  return [0, 1].every((i) => {
    const far = Math.abs(other[i] + other[i + 2] - one[i] - one[i + 2]) / 2;
    return far <= k.NEAR * Math.max(one[i + 2] - one[i], other[i + 2] - other[i]);
  });
}

/** What is around all of the boxes, and more on each side. */
function around(boxes, more) {
  return [0, 1, 2, 3].map((i) => (i < 2 ? Math.min : Math.max)(...boxes.map((box) => box[i])) + (i < 2 ? -1 : 1) * more[i % 2]);
}
