// Pixels as OpenCV computes them, so that the networks see here what they see in Python.
// A picture is ImageData, RGBA; what is cut out of it is {width, height, data}, RGB.

/** Rounds halves to the even number, as Python does. */
export function round(x) {
  const up = Math.round(x);
  return up - x === 0.5 && up % 2 ? up - 1 : up;
}

/**
 * For each of `out` places along a line, which of the `length` pixels count, and how much.
 * Where the line shrinks (`area`), each is a mean over its part of the line, else linear between two pixels.
 * Pixels start at `offset` of a line of `limit`, beyond whose ends its outermost pixels are repeated.
 */
function taps(length, out, area, offset, limit) {
  const scale = length / out;
  const width = area ? Math.ceil(scale) + !Number.isInteger(scale) : 2;
  const index = new Int32Array(out * width);
  const weight = new Float32Array(out * width);
  for (let i = 0; i < out; i++) {
    const start = area ? i * scale : Math.floor((i + 0.5) * scale - 0.5);
    const part = (i + 0.5) * scale - 0.5 - start;
    for (let k = 0; k < width; k++) {
      const j = Math.floor(start) + k;
      const share = Math.min(j + 1, start + scale, length) - Math.max(j, start);
      index[i * width + k] = clamp(offset + clamp(j, 0, length - 1), 0, limit - 1);
      weight[i * width + k] = area ? Math.max(0, share) / scale : k ? part : 1 - part;
    }
  }
  return { index, weight, width };
}

function clamp(x, low, high) {
  return Math.min(Math.max(x, low), high);
}

/** Cuts the rectangle at (x, y) of w times h pixels out and resizes it. Beyond the border, its pixels are repeated. */
export function resize(image, width, height, area, x = 0, y = 0, w = image.width, h = image.height) {
  const channels = image.data.length / image.width / image.height;
  const times = w / width;
  const up = times === 2 && h === 2 * height ? 0.1 : 0; // these halves OpenCV rounds up
  if (area && Number.isInteger(times) && h === times * height && w === image.width && h === image.height)
    return reduce(image, width, height, channels, times, up);
  const across = taps(w, width, area, x, image.width);
  const down = taps(h, height, area, y, image.height);
  const first = across.index[0]; // of the columns that count
  const line = new Float32Array((across.index[across.index.length - 1] + 1 - first) * channels);
  const data = new Uint8ClampedArray(width * height * 3); // it rounds halves to even, as OpenCV does
  for (let j = 0; j < height; j++) {
    line.fill(0);
    for (let k = j * down.width; k < (j + 1) * down.width; k++)
      add(line, image.data, (down.index[k] * image.width + first) * channels, down.weight[k]);
    narrow(line, first, channels, across, data, j * width * 3, up);
  }
  return { width, height, data };
}

/** The same for a whole picture and a whole number of pixels that become one, as of most frames; faster. */
function reduce({ data, width: wide }, width, height, channels, times, up) {
  const out = new Uint8ClampedArray(width * height * 3);
  const share = 1 / times ** 2;
  for (let j = 0, to = 0; j < height; j++) {
    for (let i = 0; i < width; i++, to += 3) {
      let red = 0, green = 0, blue = 0;
      for (let y = 0; y < times; y++) {
        let at = ((j * times + y) * wide + i * times) * channels;
        for (const end = at + times * channels; at < end; at += channels) {
          red += data[at];
          green += data[at + 1];
          blue += data[at + 2];
        }
      }
      out[to] = red * share + up;
      out[to + 1] = green * share + up;
      out[to + 2] = blue * share + up;
    }
  }
  return { width, height, data: out };
}

function add(line, data, start, share) {
  for (let i = 0; i < line.length; i++) line[i] += share * data[start + i];
}

function narrow(line, first, channels, { index, weight, width }, data, start, up) {
  for (let k = 0, at = start; k < index.length; at += 3) {
    let red = up, green = up, blue = up;
    for (const end = k + width; k < end; k++) {
      const i = (index[k] - first) * channels;
      red += weight[k] * line[i];
      green += weight[k] * line[i + 1];
      blue += weight[k] * line[i + 2];
    }
    data[at] = red;
    data[at + 1] = green;
    data[at + 2] = blue;
  }
}

/** The square around a box's centre whose side is a share of the box's height, as `size` times `size` pixels. */
export function cropFace(image, [left, top, right, bottom], share, size) {
  const side = Math.max(1, round(share * (bottom - top)));
  // A square that misses the picture altogether shows the border's pixels.
  const x = clamp(round((left + right - side) / 2), 1 - side, image.width - 1);
  const y = clamp(round((top + bottom - side) / 2), 1 - side, image.height - 1);
  return resize(image, size, size, side > size, x, y, side, side);
}

/** Planes one after the other, as networks take pixels: of grey one, else in the given order of colours. */
export function planes(image, order, grey = false) {
  const count = image.width * image.height;
  const { data } = image;
  const out = new Uint8Array(grey ? count : 3 * count);
  for (let i = 0; i < count; i++) {
    if (grey) out[i] = (9798 * data[3 * i] + 19235 * data[3 * i + 1] + 3735 * data[3 * i + 2] + 16384) >> 15;
    else for (let c = 0; c < 3; c++) out[c * count + i] = data[3 * i + order[c]];
  }
  return out;
}
