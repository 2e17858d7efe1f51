// The faces beside the picture: a list, and of the chosen one its probabilities, now and over time.

import { drawPlot, percent, PLOTTED } from "./drawing.js";

const $ = (selector) => document.querySelector(selector);
const histories = new Map(); // by number of a face: [[time, probabilities]]
let chosen; // number of the face whose probabilities are shown
let latest = [[], []];

/** The colours of a custom property. */
export function colors(name) {
  const style = getComputedStyle(document.documentElement);
  return style.getPropertyValue(name).split(",").map((color) => color.trim());
}

export function forgetFaces() {
  histories.clear();
  chosen = undefined;
  listFaces([], latest[1]);
}

/** Keeps what the plot shows of a stream. */
export function remember(faces, time) {
  for (const { track, probabilities } of faces) {
    if (!histories.has(track)) histories.set(track, []);
    histories.get(track).push([time, probabilities]);
  }
  for (const [track, history] of histories) {
    while (history.length && time - history[0][0] > PLOTTED) history.shift();
    if (!history.length) histories.delete(track);
  }
}

/** Lists faces; what is listed already is changed in place, so that it keeps the focus. */
export function listFaces(faces, classNames) {
  latest = [faces, classNames];
  const numbers = faces.map((face, i) => face.track ?? i + 1);
  $("#none").hidden = faces.length > 0;
  for (const item of [...$("#faces").children]) if (!numbers.includes(+item.dataset.number)) item.remove();
  faces.forEach((face, i) => {
    const item = $(`#faces [data-number="${numbers[i]}"]`) ?? newItem(numbers[i]);
    item.querySelector("b").textContent = classNames[face.label];
    item.querySelector("em").textContent = percent(face.probabilities[face.label]);
    Object.assign(item.dataset, { box: JSON.stringify(face.box), probabilities: Array.from(face.probabilities).join() });
  });
  if (!numbers.includes(chosen)) [chosen] = numbers;
  for (const { dataset, firstChild } of $("#faces").children)
    firstChild.setAttribute("aria-pressed", +dataset.number === chosen);
  $("#details").hidden = !faces.length;
  if (faces.length) detail(faces[numbers.indexOf(chosen)], classNames);
}

function newItem(number) {
  const item = document.createElement("li");
  const palette = colors("--face");
  item.dataset.number = number;
  item.innerHTML = '<button type="button"><i></i><span></span><b></b><em></em></button>';
  item.querySelector("i").style.background = palette[(number - 1) % palette.length];
  item.querySelector("span").textContent = `Face ${number}`;
  item.firstChild.addEventListener("click", () => {
    chosen = number;
    listFaces(...latest);
  });
  $("#faces").append(item);
  return item;
}

function detail(face, classNames) {
  const history = histories.get(chosen) ?? [];
  const plot = $("#plot");
  $("#whose").textContent = `Face ${chosen}`;
  plot.hidden = !history.length;
  if (history.length) drawPlot(plot, history, colors("--class"));
  const bars = $("#bars");
  if (bars.dataset.names !== classNames.join()) drawBars(bars, classNames);
  face.probabilities.forEach((p, i) => {
    bars.children[i].querySelector("i").style.width = `${100 * p}%`;
    bars.children[i].querySelector("span").textContent = percent(p);
  });
}

function drawBars(bars, classNames) {
  const palette = colors("--class");
  bars.dataset.names = classNames.join();
  const rows = classNames.map((name, i) => {
    const row = document.createElement("div");
    row.innerHTML = "<dt></dt><dd><i></i><span></span></dd>";
    row.querySelector("dt").textContent = name;
    row.querySelector("i").style.background = palette[i % palette.length];
    return row;
  });
  bars.replaceChildren(...rows);
}

matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
  delete $("#bars").dataset.names;
  listFaces(...latest);
});
