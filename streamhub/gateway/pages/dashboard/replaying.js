/** One replay under way: NDJSON as it comes, counted, hashed and kept for the download. */
import { Sha256 } from "./sha256.js";

export const MOST_KEPT = 512 * 1024 * 1024; // bytes: more is for the command line
const LF = 10;
const CONTROL = new TextEncoder().encode('{"event":"'); // an event's line begins with its id

export class Replaying {
  state = "queued";
  jobId = null;
  events = 0;
  bytes = 0;
  complete = null; // what `stream_complete` told
  sha256 = null; // of the events that came
  problem = null;
  isRefused = false; // it has never started
  isTooLarge = false;
  #parts = [];
  #hash = new Sha256();
  #rest = new Uint8Array(0);
  #attempt = new AbortController();

  /** Never throws: `problem` says what went wrong. `changed` is called after each piece. */
  async run(session, query, changed) {
    this.startedAt = performance.now();
    addEventListener("beforeunload", warn);
    let response = null;
    try {
      response = await session.request("/replay", {
        query, headers: { Accept: "application/x-ndjson" }, signal: this.#attempt.signal,
      });
      const reader = response.body.getReader();
      while (this.complete === null) {
        const { done, value } = await reader.read();
        if (done) throw new Error("The connection ended before the replay did.");
        this.#take(value);
        changed();
      }
      this.state = this.isRight ? "completed" : "failed";
    } catch (error) {
      if (this.state !== "cancelled") {
        this.state = "failed";
        this.isRefused = response === null;
        this.problem = session.judge(error);
      }
    }
    removeEventListener("beforeunload", warn);
    this.endedAt = performance.now();
    changed();
  }

  cancel() {
    if (this.isOver) return;
    this.state = "cancelled";
    this.#attempt.abort();
  }

  get isOver() {
    return ["completed", "failed", "cancelled"].includes(this.state);
  }

  /** Whether what came is what the hub says it sent. */
  get isRight() {
    return this.complete !== null && this.complete.sha256 === this.sha256 && this.complete.events === this.events;
  }

  /** A file of the events; null where they were too many to be kept. */
  file() {
    return this.isTooLarge ? null : new Blob(this.#parts, { type: "application/x-ndjson" });
  }

  #take(chunk) {
    const data = new Uint8Array(this.#rest.length + chunk.length);
    data.set(this.#rest);
    data.set(chunk, this.#rest.length);
    let [from, at] = [0, 0]; // events from `from` up to `at` are not taken yet
    for (let end = data.indexOf(LF); end >= 0; end = data.indexOf(LF, at)) {
      if (isControl(data, at)) {
        this.#keep(data.subarray(from, at));
        this.#control(JSON.parse(new TextDecoder().decode(data.subarray(at, end))));
        from = end + 1;
      } else {
        this.events += 1;
      }
      at = end + 1;
    }
    this.#keep(data.subarray(from, at));
    this.#rest = data.slice(at);
    if (this.complete !== null) this.sha256 = this.#hash.hex();
  }

  #keep(lines) {
    if (lines.length === 0) return;
    this.bytes += lines.length;
    this.#hash.update(lines);
    if (this.bytes > MOST_KEPT) {
      this.isTooLarge = true;
      this.#parts = [];
    } else {
      this.#parts.push(new Blob([lines])); // a browser may keep it on disk
    }
  }

  #control({ event, data }) {
    if (event === "replay_started") {
      this.state = "running";
      this.jobId = data.job_id;
      this.window = data;
    } else if (event === "stream_complete") {
      this.complete = data;
    } else if (event === "stream_error") {
      throw Object.assign(new Error(data.detail), data);
    }
  }
}

/** The browser asks whether to leave: a reload would end the replay. */
const warn = (event) => event.preventDefault();

function isControl(data, at) {
  return CONTROL.every((byte, n) => data[at + n] === byte);
}
