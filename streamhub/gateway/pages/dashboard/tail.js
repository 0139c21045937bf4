/**
 * The live tail: a broadcast stream into a list of bounded length. It paints at most every PAINT_EVERY: a page that
 * repaints at each event answers no click at 500 of them in a second.
 */
import { msOf } from "./history.js";

export const KEPT = 2_000; // rows
export const PAINT_EVERY = 250; // milliseconds
const LONGEST_TEXT = 16 * 1024; // characters of an event that are kept; a longer one is fetched when it is opened
const LONGEST_NOTE = 160;

/** What a row of the list shows. The event itself is kept as text, which takes less memory than its objects. */
export function rowOf(event) {
  const text = JSON.stringify(event);
  return {
    id: event.id,
    ms: msOf(event.id),
    type: event.type,
    event: event.event,
    resource: event.resource_id ?? "",
    resourceType: event.resource_type,
    note: noteOf(event),
    who: event.who === null || event.who === undefined ? "" : shortened(nameOf(event.who)),
    text: text.length <= LONGEST_TEXT ? text : null,
  };
}

/** As `streamhub listen` writes it: without what stands beside it in the row, and `updated_at`, where there is more. */
function noteOf(event) {
  if (event.too_large) return "too large to be carried";
  if (event.error) return "could not be rendered";
  if (event.data !== undefined) return shortened(JSON.stringify(event.data));
  const beside = new Set([event.resource_id, event.organization?.id]);
  const changes = Object.entries(event.delta ?? {});
  const others = changes.filter(
    ([name, { from, to }]) => name !== "updated_at" && !beside.has(from) && !beside.has(to),
  );
  return shortened((others.length > 0 ? others : changes).map(([name, { from, to }]) => {
    if (event.event === "create") return `${name} ${brief(to)}`;
    return event.event === "destroy" ? `${name} ${brief(from)}` : `${name} ${brief(from)} → ${brief(to)}`;
  }).join(", "));
}

function nameOf(who) {
  if (typeof who !== "object") return String(who);
  const first = who.application ?? who.user ?? who.name;
  return typeof first === "string" ? first : JSON.stringify(who);
}

function brief(value) {
  const text = typeof value === "string" ? value : JSON.stringify(value);
  return text.length > 40 ? `${text.slice(0, 39)}…` : text;
}

const shortened = (text) => (text.length > LONGEST_NOTE ? `${text.slice(0, LONGEST_NOTE - 1)}…` : text);

/** The tail that is shown, and one that takes its place once it is connected: a choice that the hub refuses leaves the
 * one before as it is. */
export class Tails {
  shown = null;
  refusal = null; // `{error, choice}` of the choice that was refused last
  #session;
  #paint;
  #next = null;

  /** `paint` is called after a change, at most every PAINT_EVERY. */
  constructor(session, paint) {
    this.#session = session;
    this.#paint = paint;
  }

  get isOpening() {
    return this.#next !== null;
  }

  open(choice) {
    this.#next?.close();
    this.refusal = null;
    const next = this.#next = new Tail(this.#session, choice, () => {
      if (next === this.#next) this.#settle(next);
      this.#paint();
    });
    if (this.shown === null || this.shown.state === "ended") this.#show(next);
    this.#paint();
  }

  close() {
    this.shown?.close();
    this.#next?.close();
  }

  #settle(next) {
    if (next.state === "ended") {
      next.close();
      this.#next = null;
      this.refusal = { error: next.problem, choice: next.choice };
    } else if (next.state === "connected" || next.problem !== null) {
      this.#show(next);
    }
  }

  #show(next) {
    this.shown?.close();
    this.shown = next;
    this.#next = null;
  }
}

export class Tail {
  rows = []; // the newest last
  total = 0;
  state = "connecting";
  problem = null;
  gap = null;
  #session;
  #realtime = null;
  #paint;
  #timer = null;
  #frozen = null; // rows and total when it was paused
  #marks = []; // [time, total] of the last paints, for the rate

  /** `paint` is called after a change, at most every PAINT_EVERY. */
  constructor(session, choice, paint) {
    this.choice = choice;
    this.#session = session;
    this.#paint = paint;
    this.#open(choice);
  }

  get isPaused() {
    return this.#frozen !== null;
  }

  /** Rows to show, and how many came since they were paused. */
  get shown() {
    return this.#frozen?.rows ?? this.rows;
  }

  get waiting() {
    return this.#frozen === null ? 0 : this.total - this.#frozen.total;
  }

  /** How many rows have come to the shown ones' end since the tail began. */
  get shownTotal() {
    return this.#frozen?.total ?? this.total;
  }

  /** Events in a second, over the last few. */
  get rate() {
    const [[from, before], [to, after]] = [this.#marks[0] ?? [0, 0], this.#marks.at(-1) ?? [0, 0]];
    return to > from ? ((after - before) * 1000) / (to - from) : 0;
  }

  pause() {
    this.#frozen = { rows: this.rows.slice(), total: this.total };
    this.#paint();
  }

  resume() {
    this.#frozen = null;
    this.#paint();
  }

  clear() {
    this.rows = [];
    if (this.#frozen !== null) this.#frozen = { rows: [], total: this.total };
    this.#paint();
  }

  close() {
    this.#realtime?.destroy();
    clearTimeout(this.#timer);
    clearInterval(this.marking);
  }

  #open(choice) {
    let realtime;
    try {
      realtime = this.#session.streams().realtime({ ...choice, envelope: "change" });
    } catch (error) {
      this.#fail(error);
      return;
    }
    this.#realtime = realtime;
    realtime.onError((error) => this.#fail(this.#session.judge(error)));
    realtime.onGap((gap) => {
      this.gap = gap;
      this.#soon();
    });
    realtime.onConnectionChange((connected) => {
      this.state = connected ? "connected" : "connecting";
      if (connected) this.problem = null;
      this.#soon();
    });
    realtime.onAny((event) => this.#take(event));
    this.marking = setInterval(() => this.#mark(), 1_000);
  }

  #fail(error) {
    if (error.isFinal || error instanceof TypeError) this.state = "ended";
    this.problem = error;
    this.#soon();
  }

  #take(event) {
    this.rows.push(rowOf(event));
    this.total += 1;
    if (this.rows.length >= KEPT * 1.25) this.rows = this.rows.slice(-KEPT); // not at each event
    this.#soon();
  }

  #mark() {
    this.#marks.push([performance.now(), this.total]);
    if (this.#marks.length > 6) this.#marks.shift();
    this.#soon();
  }

  #soon() {
    this.#timer ??= setTimeout(() => {
      this.#timer = null;
      this.#paint();
    }, PAINT_EVERY);
  }
}
