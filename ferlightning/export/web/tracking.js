// Who is who from frame to frame, and what a followed face expresses: as ferlightning.deploy does it.
// `k` has the constants of that package.

import { shared } from "./yunet.js";

export class Tracker {
  constructor(k) {
    this.k = k;
    this.tracks = [];
    this.last = 0;
  }

  /** Matches the faces found in a frame with those that are known; the others are new if they are sure. */
  update(found, time, minScore) {
    const { k } = this;
    const pairs = this.tracks.flatMap((track) => {
      const expected = where(track, time, k);
      return found.map((face) => ({ track, face, overlap: shared(expected, face.box) }));
    });
    pairs.sort((one, other) => other.overlap - one.overlap);
    const taken = new Set();
    for (const { track, face, overlap } of pairs) {
      if (overlap < k.LEAST_OVERLAP || taken.has(track) || taken.has(face)) continue;
      taken.add(track).add(face);
      const seconds = time - track.time;
      if (seconds > 0)
        track.velocity = track.velocity.map((v, i) => v + k.DAMPING * ((face.box[i] - track.box[i]) / seconds - v));
      Object.assign(track, { box: face.box, time, score: face.score });
    }
    this.tracks = this.tracks.filter((track) => time - track.time <= k.KEPT);
    const fresh = found.filter((face) => !taken.has(face) && face.score >= minScore);
    for (const { box, score } of fresh.sort((one, other) => one.box[0] - other.box[0])) {
      this.last += 1;
      this.tracks.push({ number: this.last, box, score, time, velocity: [0, 0, 0, 0], clip: [] });
    }
  }

  /** The faces of a frame, each where it was found in it or is expected. */
  shown(time) {
    const seen = this.tracks.filter((track) => time - track.time <= this.k.SHOWN);
    return seen.map((track) => ({ track, box: where(track, time, this.k), score: track.score }));
  }
}

function where(track, time, k) {
  const seconds = Math.min(time - track.time, k.KEPT);
  return track.box.map((side, i) => side + track.velocity[i] * seconds);
}

/** Adds a frame's probabilities to the exponential mean of a track; its label changes once another has led a while. */
export function smooth(track, probabilities, time, k) {
  if (!track.probabilities) {
    track.probabilities = Array.from(probabilities);
    track.label = track.rival = leader(probabilities);
    track.since = time;
  } else {
    const share = 1 - Math.exp(-Math.max(time - track.classified, 0) / k.SMOOTHED);
    track.probabilities = track.probabilities.map((p, i) => p + share * (probabilities[i] - p));
  }
  track.classified = time;
  const first = leader(track.probabilities);
  if (first !== track.rival) Object.assign(track, { rival: first, since: time });
  if (first !== track.label && time - track.since >= k.STEADY) track.label = first;
}

/** Index of the largest. */
export function leader(probabilities) {
  return probabilities.indexOf(Math.max(...probabilities));
}
