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

/** Adds a frame's probabilities to the mean of a track; its label changes once another has been ahead for a while. */
export function smooth(track, probabilities, time, k) {
  const fresh = Array.from(probabilities);
  if (!track.probabilities) {
    Object.assign(track, { probabilities: fresh, label: leader(fresh), ahead: fresh.map(() => 0) });
  } else {
    const seconds = Math.max(time - track.classified, 0);
    const kept = Math.exp(-seconds / k.SMOOTHED);
    track.probabilities = track.probabilities.map((p, i) => fresh[i] + kept * (p - fresh[i]));
    track.ahead = track.ahead.map((sum, i) => Math.max(sum + seconds * (fresh[i] - fresh[track.label]), 0));
    if (Math.max(...track.ahead) >= k.STEADY)
      Object.assign(track, { label: leader(track.ahead), ahead: fresh.map(() => 0) });
  }
  track.classified = time;
}

/** Index of the largest. */
export function leader(probabilities) {
  return probabilities.indexOf(Math.max(...probabilities));
}
