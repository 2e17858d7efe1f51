// The page: where pictures come from, and what is shown of them.

import { drawFaces } from "./drawing.js";
import { colors, forgetFaces, listFaces, remember } from "./faces.js";
import { hide, Hider } from "./hiding.js";
import { Recognizer, Told } from "./recognizer.js";

const MOST_PIXELS = 16e6; // more than some browsers hold in a canvas
const $ = (selector) => document.querySelector(selector);
const [video, stage] = ["video", "#stage canvas"].map($);
const read = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
let recognizer, shownPicture; // {image: ImageData, name}
let turn = 0; // counts what was begun, so that what came before ends
let working = Promise.resolve(); // the network runs once at a time
let announcedAt = 0;
let changed = false; // whether what is shown is to be computed again, by other options

function say(text) {
  if ($("#status").textContent !== text) $("#status").textContent = text;
}

function fail(error) {
  if (!(error instanceof Told)) console.error(error);
  $("#error").textContent = error instanceof Told ? error.message : `This went wrong: ${error.message}`;
}

/** Ends what goes on, then does something else, unless another thing is begun meanwhile. */
function begin(work) {
  const mine = ++turn;
  $("#error").textContent = "";
  end();
  working = working.then(async () => {
    try {
      if (mine === turn) await work(() => mine === turn);
    } catch (error) {
      if (mine === turn) end();
      fail(error);
    }
  });
}

function end() {
  video.pause();
  for (const track of video.srcObject?.getTracks() ?? []) track.stop();
  if (video.src) URL.revokeObjectURL(video.src);
  video.srcObject = null;
  video.removeAttribute("src");
  shownPicture = undefined;
  recognizer?.reset();
  forgetFaces();
  $("#camera").textContent = "Start camera";
  $("#pause").hidden = $("#cameras").hidden = true;
  $("#rate").textContent = "";
}

/** The pixels of a picture, or of the present frame of a video. */
function pixels(source, width, height) {
  const scale = Math.min(1, Math.sqrt(MOST_PIXELS / (width * height)));
  const [w, h] = [width, height].map((side) => Math.max(1, Math.round(scale * side)));
  if (read.canvas.width !== w || read.canvas.height !== h) Object.assign(read.canvas, { width: w, height: h });
  read.drawImage(source, 0, 0, w, h);
  return read.getImageData(0, 0, w, h);
}

function show(image, faces, boxes) {
  if (stage.width !== image.width || stage.height !== image.height)
    Object.assign(stage, { width: image.width, height: image.height });
  $("#stage").classList.remove("empty");
  stage.getContext("2d", { willReadFrequently: true }).putImageData(image, 0, 0);
  if (boxes) hide(stage, boxes, $("#how").value, recognizer.k);
  drawFaces(stage, faces, recognizer.classNames, colors("--face"));
}

/** Takes the classes that are chosen; true if they are others than before. */
function changeView() {
  const { value } = $("#views select");
  if (value === recognizer.view) return false;
  recognizer.view = value;
  recognizer.reset();
  forgetFaces();
  return true;
}

async function showPicture(image, name) {
  changeView();
  const faces = await recognizer.picture(image);
  show(image, faces, $("#hide").checked && (await recognizer.detectToHide(image)).map((face) => face.box));
  shownPicture = { image, name };
  listFaces(faces, recognizer.classNames);
  say(`${name}: ${summary(faces)}`);
}

function openFile(file) {
  begin(async (mine) => {
    if (file.type.startsWith("video/")) {
      video.src = URL.createObjectURL(file);
      return follow(mine, file.name);
    }
    say(`Reading ${file.name}…`);
    const bitmap = await createImageBitmap(file, { colorSpaceConversion: "none" }).catch(() => {
      say("");
      throw new Told(`${file.name} is no picture or video that this browser can read. Choose a JPEG, PNG, MP4 or WebM.`);
    });
    await showPicture(pixels(bitmap, bitmap.width, bitmap.height), file.name);
  });
}

const CAMERA = {
  NotAllowedError: "The camera was denied. Allow it for this page in the browser's settings, or choose a picture.",
  NotFoundError: "There is no camera here. Choose a picture or video.",
  NotReadableError: "The camera cannot be read. Does another program use it?",
};

function startCamera(deviceId) {
  begin(async (mine) => {
    if (!navigator.mediaDevices)
      throw new Told("Browsers give the camera to pages that come by https or from http://localhost only. Open this page there.");
    say("Waiting for the camera…");
    const wanted = { width: { ideal: 640 }, height: { ideal: 480 }, ...(deviceId ? { deviceId } : { facingMode: "user" }) };
    const stream = await navigator.mediaDevices.getUserMedia({ video: wanted, audio: false }).catch((error) => {
      say("");
      throw new Told(CAMERA[error.name] ?? `The camera cannot be used: ${error.message}`);
    });
    if (!mine()) return stream.getTracks().forEach((track) => track.stop());
    video.srcObject = stream;
    $("#camera").textContent = "Stop camera";
    const devices = (await navigator.mediaDevices.enumerateDevices()).filter(({ kind }) => kind === "videoinput");
    const used = stream.getVideoTracks()[0].getSettings().deviceId;
    const select = $("#cameras select");
    select.replaceChildren(...devices.map((d, i) => new Option(d.label || `${i + 1}`, d.deviceId, false, d.deviceId === used)));
    $("#cameras").hidden = devices.length < 2;
    await follow(mine, "The camera");
  });
}

/** The next frame of the video; it may be the same one where none comes. */
function nextFrame() {
  return new Promise((done) => {
    const timer = setTimeout(done, 250);
    const go = () => (clearTimeout(timer), done());
    if (video.requestVideoFrameCallback) video.requestVideoFrameCallback(go);
    else requestAnimationFrame(go);
  });
}

/** Shows the faces of the video's frames until something else is begun. */
async function follow(mine, name) {
  await video.play().catch(() => {
    if (mine()) throw new Told(`${name} cannot be played by this browser.`);
  });
  $("#pause").hidden = false;
  let hider, listed = 0, last = -1;
  const done = []; // times of the frames of the last second
  while (mine()) {
    await nextFrame();
    const live = video.srcObject !== null;
    if (live && !video.srcObject.active) throw new Told("The camera has stopped: it was taken away, or denied.");
    if (!mine() || document.hidden || !video.videoWidth) continue;
    if (!changed && (video.paused || video.currentTime === last)) continue;
    changed = false;
    const time = live ? performance.now() / 1000 : video.currentTime;
    if (!live && time < last) (recognizer.reset(), forgetFaces(), (hider = undefined));
    if (changeView()) hider = undefined;
    last = video.currentTime;
    const hiding = $("#hide").checked;
    const image = pixels(video, video.videoWidth, video.videoHeight);
    const slow = done.length > 1 && done[done.length - 1] - done[0] > 67 * (done.length - 1); // less than 15 a second
    const faces = await recognizer.frame(image, time, hiding, slow);
    if (!mine()) return;
    if (!hiding) hider = undefined;
    const newest = hider ? hider.push(image, time, faces).pop() : { image, faces, boxes: hiding && faces.map(({ box }) => box) };
    if (newest) show(newest.image, newest.faces, newest.boxes);
    if (hiding) hider ??= new Hider(recognizer.k);
    $("#stage").dataset.frames = recognizer.frames;
    remember(faces, time);
    const now = performance.now();
    done.push(now);
    while (now - done[0] > 1000) done.shift();
    if (now - listed > 200) {
      listed = now;
      listFaces(faces, recognizer.classNames);
      $("#rate").textContent = done.length > 2 ? `${((1000 * (done.length - 1)) / (now - done[0])).toFixed(0)} frames/s` : "";
      announce(summary(faces), now);
    }
  }
}

function summary(faces) {
  if (!faces.length) return "No face is found.";
  const labels = faces.map((face) => recognizer.classNames[face.label]).join(", ");
  return `${faces.length} ${faces.length === 1 ? "face" : "faces"}: ${labels}`;
}

/** Tells screen readers what has changed, not more often than they can read it out. */
function announce(text, now) {
  if (text === $("#status").textContent || now - announcedAt < 2000) return;
  announcedAt = now;
  say(text);
}

$("#camera").addEventListener("click", () => {
  if (!video.srcObject) return startCamera();
  begin(async () => say("The camera is off."));
});
$("#cameras select").addEventListener("change", (event) => startCamera({ exact: event.target.value }));
$("#pause").addEventListener("click", () => {
  if (video.paused || video.ended) video.play();
  else video.pause();
});
for (const name of ["play", "pause", "ended"])
  video.addEventListener(name, () => {
    $("#pause").textContent = video.ended ? "Play again" : video.paused ? "Go on" : "Pause";
    if (video.ended) say("The video has ended.");
  });
$("#file").addEventListener("change", ({ target }) => {
  if (target.files.length) openFile(target.files[0]);
  target.value = "";
});
document.addEventListener("dragover", (event) => event.preventDefault());
document.addEventListener("drop", (event) => {
  event.preventDefault();
  if (recognizer && event.dataTransfer.files.length) openFile(event.dataTransfer.files[0]);
});

function again() {
  const { image, name } = shownPicture ?? {};
  changed = true;
  if (image) begin(() => showPicture(image, name));
}

for (const id of ["#hide", "#how", "#views"]) $(id).addEventListener("change", again);

if (navigator.serviceWorker) navigator.serviceWorker.register("sw.js").catch(() => {}); // it works without, but not offline
try {
  recognizer = await Recognizer.load();
  const { known } = recognizer;
  $("#model").textContent = `${known.name}, ferlightning ${known.version}, recognised in this browser`;
  const select = $("#views select");
  select.append(new Option(`${known.class_names.length}, the model's`, "probabilities"));
  for (const [name, names] of Object.entries(known.views)) select.append(new Option(`${names.length}, ${name}`, name));
  $("#views").hidden = select.length < 2;
  $("#camera").disabled = $("#file").disabled = false;
  say("Ready.");
} catch (error) {
  say("");
  fail(error);
}
