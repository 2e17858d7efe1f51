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
    this.last = new Map();
  }

  /** Takes a frame with its faces; gives those that are now old enough: [{image, time, faces, boxes}]. */
  push(image, time, faces) {
    const { DELAY } = this.k;
    const now = { image, time, faces, boxes: faces.map((face) => face.box) };
    for (const { track, box } of faces) {
      const before = this.last.get(track);
      for (const old of this.waiting) {
        if (!before) old.boxes.push(box);
        else if (old.time > before.time) {
          const share = (old.time - before.time) / (time - before.time);
          old.boxes.push(before.box.map((side, i) => side + share * (box[i] - side)));
        }
      }
      this.last.set(track, { time, box });
    }
    for (const [track, seen] of this.last) {
      if (time > seen.time && time - seen.time <= DELAY) now.boxes.push(seen.box);
      if (time - seen.time > 4 * DELAY) this.last.delete(track);
    }
    this.waiting.push(now);
    const ready = [];
    while (time - this.waiting[0].time > DELAY) ready.push(this.waiting.shift());
    return ready;
  }
}
