// What is drawn: boxes with labels over a picture, and probabilities over time.

export const PLOTTED = 10; // seconds
export const percent = (p) => `${(100 * p).toFixed(0)} %`;

/** Draws a box, label and probability for each face. */
export function drawFaces(canvas, faces, classNames, colors) {
  const context = canvas.getContext("2d");
  const unit = canvas.width / (canvas.clientWidth || canvas.width); // of the canvas in one of the screen
  context.font = `600 ${14 * unit}px system-ui, sans-serif`;
  context.textBaseline = "middle";
  context.lineWidth = 2.5 * unit;
  faces.forEach((face, i) => {
    const [left, top, right, bottom] = face.box;
    const color = colors[((face.track ?? i + 1) - 1) % colors.length];
    const text = `${face.track ?? i + 1}  ${classNames[face.label]} ${percent(face.probabilities[face.label])}`;
    const [w, h] = [context.measureText(text).width + 12 * unit, 22 * unit];
    const x = Math.min(Math.max(left, 0), Math.max(0, canvas.width - w));
    const y = top > h ? top - h : Math.min(bottom, canvas.height - h);
    context.strokeStyle = context.fillStyle = color;
    context.strokeRect(left, top, right - left, bottom - top);
    context.fillRect(x - context.lineWidth / 2, y, w, h);
    context.fillStyle = "#000";
    context.fillText(text, x + 5 * unit, y + h / 2);
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
