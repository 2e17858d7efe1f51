// Faces and what they express, in single pictures and in streams: ferlightning.Recognizer for browsers.

import { cropFace, planes, resize } from "./pixels.js";
import { leader, smooth, Tracker } from "./tracking.js";
import { findFaces } from "./yunet.js";

const DETECT_EVERY = 3; // frames
const PICTURE_SIZE = 1280; // longer side to which a single picture is reduced to find faces
const STREAM_SIZE = 320;

/** Something that the user must be told, in words. */
export class Told extends Error {}

/** Fetches a file of the page. */
async function get(name) {
  const answer = await fetch(name).catch(() => ({ ok: false, statusText: "the server does not answer" }));
  if (!answer.ok) throw new Told(missing(name, answer));
  return answer;
}

function missing(name, answer) {
  const why = answer.status ? `${answer.status} ${answer.statusText}` : answer.statusText;
  return `The file ${name} of this page is missing (${why}). Export the page again, and serve the whole folder.`;
}

export class Recognizer {
  /** Loads the networks. What cannot be had is told. */
  static async load() {
    if (typeof WebAssembly !== "object")
      throw new Told("This browser has no WebAssembly, by which the page runs its networks, or it is turned off.");
    const self = new Recognizer();
    const known = await (await get("model.json")).json();
    Object.assign(self, { known, k: known.constants, view: "probabilities" });
    const networks = known.detector.file ? ["model.onnx", known.detector.file] : ["model.onnx"];
    try {
      self.ort = await import("./ort.wasm.bundle.min.mjs");
      self.ort.env.wasm.numThreads = 1; // more need headers that a plain server does not send
      self.ort.env.wasm.wasmPaths = { wasm: new URL("ort-wasm-simd-threaded.wasm", location.href).href };
      const options = { executionProviders: ["wasm"], enableCpuMemArena: false, logSeverityLevel: 3 };
      const files = await Promise.all(networks.map(async (name) => (await get(name)).arrayBuffer()));
      self.sessions = [];
      for (const file of files) self.sessions.push(await self.ort.InferenceSession.create(file, options));
    } catch (error) {
      if (error instanceof Told) throw error;
      for (const name of known.files) {
        const answer = await fetch(name, { method: "HEAD" }).catch(() => null);
        if (answer && !answer.ok) throw new Told(missing(name, answer));
      }
      throw new Told(`This browser cannot run the networks: ${error.message}`);
    }
    self.reset();
    return self;
  }

  /** Forgets the faces of a stream. */
  reset() {
    this.tracker = new Tracker(this.k);
    this.frames = 0;
    this.searched = 0;
  }

  /** The classes that are told: the model's own, or those of a view. */
  get classNames() {
    return this.known.views[this.view] ?? this.known.class_names;
  }

  /** Finds faces, not yet classified: [{box, score}]. */
  async detect(image, size = PICTURE_SIZE, minScore = this.known.detector.min_score) {
    if (!this.known.detector.file) return [{ box: [0, 0, image.width, image.height], score: 1 }];
    const run = (input, width, height) =>
      this.sessions[1].run({ input: new this.ort.Tensor("float32", input, [1, 3, height, width]) });
    return findFaces(run, image, size, minScore, this.k.OVERLAP);
  }

  /** Where faces must not be missed: a single picture's, searched with less certainty asked for. */
  async detectToHide(image) {
    return this.detect(image, PICTURE_SIZE, Math.min(this.known.detector.min_score, this.k.HIDING_SCORE));
  }

  /** The faces of one picture, from left to right: [{box, score, label, probabilities}]. */
  async picture(image) {
    const faces = (await this.detect(image)).sort((one, other) => one.box[0] - other.box[0]);
    const rows = await this.classify(faces.map((face) => [this.crop(image, face.box)]));
    return faces.map((face, i) => ({ ...face, probabilities: rows[i], label: leader(rows[i]) }));
  }

  /**
   * The faces of the next frame of a stream, from left to right, each with the number that stays its own.
   * @param time in seconds.
   * @param hiding searches every frame, at twice the size and with less certainty asked for.
   * @param slow searches no more often than faces would vanish, and classifies each in every third frame only.
   */
  async frame(image, time, hiding, slow = false) {
    const { k, tracker } = this;
    const [rarely, everyFace] = slow ? [k.SHOWN, 3] : [k.RARELY, 1];
    let { min_score: sure } = this.known.detector;
    let [every, size] = [DETECT_EVERY, STREAM_SIZE];
    if (hiding) [every, size, sure] = [1, k.HIDING_SIZE, Math.min(sure, k.HIDING_SCORE)];
    if (this.frames % every === 0 || time - this.searched > rarely) {
      this.searched = time;
      const closer = this.frames % (every * k.CLOSER) ? 1 : 2;
      tracker.update(await this.detect(image, closer * size, k.UNSURE * sure), time, sure);
    }
    this.frames += 1;
    const shown = tracker.shown(time);
    const due = shown.filter(({ track }) => !track.clip.length || (this.frames + track.number) % everyFace === 0);
    for (const { track, box } of due) {
      track.clip.push(this.crop(image, box));
      if (track.clip.length > (this.known.input.clips ? k.CLIP : 1)) track.clip.shift();
    }
    const rows = await this.classify(due.map(({ track }) => track.clip));
    due.forEach(({ track }, i) => smooth(track, rows[i], time, k));
    const faces = shown.map(({ track, box, score }) => {
      const { number, label, probabilities } = track;
      return { box, score, track: number, label, probabilities, found: track.time === time };
    });
    return faces.sort((one, other) => one.box[0] - other.box[0]);
  }

  /** One face as the network takes it. */
  crop(image, box) {
    const { input, detector } = this.known;
    const read = input.read_size || Math.max(...input.size);
    let face = cropFace(image, box, detector.crop * (1 + input.margin), read);
    const [side] = input.size;
    if (read !== side) face = resize(face, side, side, read > side);
    return planes(face, [0, 1, 2], !input.color);
  }

  /** Probabilities of the classes, a row for each clip; of stills, a clip has one face. */
  async classify(clips) {
    if (!clips.length) return [];
    const { input } = this.known;
    const length = Math.max(...clips.map((clip) => clip.length));
    const each = input.channels * input.size[0] * input.size[1];
    const bytes = new Uint8Array(clips.length * length * each);
    const mask = new Uint8Array(clips.length * length);
    clips.forEach((clip, n) => {
      for (let t = 0; t < length; t++) {
        bytes.set(clip[Math.min(t, clip.length - 1)], (n * length + t) * each);
        mask[n * length + t] = t < clip.length;
      }
    });
    const { Tensor } = this.ort;
    const frames = input.clips ? [clips.length, length] : [clips.length];
    const given = { image: new Tensor("uint8", bytes, [...frames, input.channels, ...input.size]) };
    if (this.sessions[0].inputNames.includes("mask")) given.mask = new Tensor("bool", mask, frames);
    const { data } = (await this.sessions[0].run(given, [this.view]))[this.view];
    const count = this.classNames.length;
    return clips.map((_, n) => data.slice(n * count, (n + 1) * count));
  }
}
