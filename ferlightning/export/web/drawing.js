// What is drawn: boxes with labels over a picture, and probabilities over time.

export const PLOTTED = 10; // seconds
export const percent = (p) => `${(100 * p).toFixed(0)} %`;

/**
 * Where labels go, [x, y] each: above their boxes, else below, else as near as no other label is in the way.
 * `widths` are those of the labels, which are `h` high; all in pixels of a picture of `width` x `height`.
 */
export function placeLabels(boxes, widths, h, width, height) {
  const taken = [];
  return boxes.map(([left, top, right, bottom], i) => {
    const w = widths[i];
    const columns = [left, right - w].map((x) => Math.min(Math.max(x, 0), Math.max(0, width - w)));
    const below = Math.min(bottom, height - h);
    const above = top > h ? top - h : below;
    const rows = [above, below];
    for (let step = h / 4; step < height; step += h / 4) rows.push(above - step, below + step);
    for (let y = above; y < below; y += h / 4) rows.push(y); // over the face itself
    const inside = rows.filter((y, n) => n < 2 || (y >= 0 && y + h <= height));
    const places = inside.flatMap((y) => columns.map((x) => [x, y]));
    const free = ([x, y]) => taken.every(([a, b, wide]) => x + w <= a || a + wide <= x || y + h <= b || b + h <= y);
    const [x, y] = places.find(free) ?? places[0];
    taken.push([x, y, w]);
    return [x, y];
  });
}

/** Draws a box, label and probability for each face. */
export function drawFaces(canvas, faces, classNames, colors) {
  const context = canvas.getContext("2d");
  const unit = canvas.width / (canvas.clientWidth || canvas.width); // of the canvas in one of the screen
  context.font = `600 ${14 * unit}px system-ui, sans-serif`;
  context.textBaseline = "middle";
  context.lineWidth = 2.5 * unit;
  const h = 22 * unit;
  const texts = faces.map(
    (face, i) => `${face.track ?? i + 1}  ${classNames[face.label]} ${percent(face.probabilities[face.label])}`,
  );
  const widths = texts.map((text) => context.measureText(text).width + 12 * unit);
  const boxes = faces.map(({ box }) => box);
  const places = placeLabels(boxes, widths, h, canvas.width, canvas.height);
  const color = (i) => colors[((faces[i].track ?? i + 1) - 1) % colors.length];
  boxes.forEach(([left, top, right, bottom], i) => {
    context.strokeStyle = color(i);
    context.strokeRect(left, top, right - left, bottom - top);
  });
  places.forEach(([x, y], i) => {
    context.fillStyle = color(i);
    context.fillRect(x - context.lineWidth / 2, y, widths[i], h);
    context.fillStyle = "#000";
    context.fillText(texts[i], x + 5 * unit, y + h / 2);
  });
}

/** Draws the probabilities of a face over the last seconds. `history` is [[time, probabilities]]. */
export function drawPlot(canvas, history, colors) {
  const ratio = window.devicePixelRatio || 1;
  const [width, height] = [canvas.clientWidth, canvas.clientHeight];
  canvas.width = width * ratio;
  canvas.height = height * ratio;
  const context = canvas.getContext("2d");
  context.scale(ratio, ratio);
  const style = getComputedStyle(canvas);
  context.font = `12px ${style.fontFamily}`;
  context.fillStyle = style.color;
  context.strokeStyle = style.borderColor;
  const [left, top, right, bottom] = [40, 8, width - 4, height - 20];
  const y = (p) => bottom - p * (bottom - top);
  context.beginPath();
  for (const p of [0, 0.5, 1]) {
    context.moveTo(left, y(p));
    context.lineTo(right, y(p));
    context.fillText(percent(p), 0, y(p) + 4);
  }
  context.stroke();
  context.fillText(`${PLOTTED} s ago`, left, height - 4);
  context.textAlign = "right";
  context.fillText("now", right, height - 4);
  if (!history.length) return;
  const [now] = history[history.length - 1];
  const x = (time) => right - ((now - time) / PLOTTED) * (right - left);
  context.lineWidth = 2;
  history[0][1].forEach((_, i) => {
    context.strokeStyle = colors[i % colors.length];
    context.setLineDash(i < colors.length ? [] : [5, 3]);
    context.beginPath();
    for (const [time, probabilities] of history)
      if (now - time <= PLOTTED) context.lineTo(x(time), y(probabilities[i]));
    context.stroke();
  });
}
