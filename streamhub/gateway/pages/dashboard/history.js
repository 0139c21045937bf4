/**
 * What is stored: pieces of history around a time, an id or a resource. An integration's token reads them by replays;
 * any other one by a broadcast stream that begins earlier, which goes back 30 minutes.
 */
import { parsed } from "./exact.js";

export const WINDOW = 30 * 60_000; // milliseconds that a broadcast stream goes back
const REPLAY_WINDOW = 7 * 86_400_000;
const QUIET = { before: 3_000, after: 1_000 }; // milliseconds without an event, before and after the first one
const CONTROL = new Set(["heartbeat", "gap", "replay_started", "stream_complete", "stream_error"]);

/** The time in an id: when the event was published, in milliseconds of the Unix epoch. */
export const msOf = (id) => Number.parseInt(id.slice(0, 8) + id.slice(9, 13), 16);

/** The position right before every event of this millisecond. */
export function positionBefore(ms) {
  const hex = Math.max(0, ms - 1).toString(16).padStart(12, "0");
  return `${hex.slice(0, 8)}-${hex.slice(8)}-7fff-bfff-ffffffffffff`;
}

const ID = /^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/;
const AGO = /^-?\s*(\d+(?:\.\d+)?)\s*(s|m|min|h|d)(?:\s*ago)?$/;
const TIME = /^(\d{4}-\d{2}-\d{2})?[t ]?(\d{1,2}:\d{2}(?::\d{2}(?:\.\d+)?)?)?(z|[+-]\d{2}:\d{2})?$/;
const UNITS = { s: 1e3, m: 6e4, min: 6e4, h: 3.6e6, d: 8.64e7 };

export const isId = (text) => ID.test(text);

/** Where a text points to: `{ms, id}`, the id null for a time. Throws TypeError that says what would be right. */
export function placeOf(text) {
  const given = text.trim().toLowerCase();
  if (ID.test(given)) return { ms: msOf(given), id: given };
  const ago = AGO.exec(given);
  if (ago) return { ms: Math.floor(Date.now() - Number(ago[1]) * UNITS[ago[2]]), id: null };
  const [, day, time, zone = "Z"] = TIME.exec(given) ?? [];
  const today = new Date().toISOString().slice(0, 10);
  const isPlace = (day || time) && isDay(day ?? today);
  const ms = isPlace ? Date.parse(`${day ?? today}T${padded(time ?? "00:00")}${zone.toUpperCase()}`) : Number.NaN;
  if (Number.isNaN(ms)) {
    const right = "a time in UTC such as 14:05 or 2026-11-22T14:05:00Z, a distance such as 10m, or an event's id";
    throw new TypeError(`${JSON.stringify(text)} is no place: give ${right}.`);
  }
  return { ms: !day && ms > Date.now() ? ms - UNITS.d : ms, id: null }; // 23:50 at 00:10 was yesterday
}

/** Date.parse takes February 30 for March 2. */
function isDay(day) {
  const ms = Date.parse(`${day}T00:00Z`);
  return !Number.isNaN(ms) && new Date(ms).toISOString().startsWith(day);
}

const padded = (time) => (time.indexOf(":") === 1 ? `0${time}` : time);

/** The parameters of a replay for what a tail is asked for. */
export function queryOf({ types, resourceTypeEq, resourceIdIn, filters = {} }) {
  const named = Object.entries({ types, resource_type_eq: resourceTypeEq, resource_id_in: resourceIdIn });
  return [...named.filter(([, value]) => value !== undefined), ...Object.entries(filters)];
}

/** Up to `most` events from `ms` on, the oldest first: `{events, more}`. `after`: go on behind this id. */
export async function piece(session, choice, ms, { after, most = 200, signal, until } = {}) {
  if (!session.isIntegration) {
    return await recent(session, choice, after ?? positionBefore(ms), most, { signal, until });
  }
  const events = [];
  const query = [["date_from", isoOf(ms)], ["date_to", isoOf(until ?? ms + REPLAY_WINDOW)], ...queryOf(choice)];
  for await (const event of replayed(session, query, { after, signal })) {
    if (events.length === most) return { events, more: true };
    events.push(event);
  }
  return { events, more: false };
}

/** The event of this id; null where it is not (or no longer) to be had. */
export async function eventOf(session, id, signal) {
  const ms = msOf(id);
  if (!session.isIntegration && ms < Date.now() - WINDOW) return null;
  const { events } = await piece(session, {}, ms, { most: 1_000, signal, until: ms + 1 });
  return events.find((event) => event.id === id) ?? null;
}

/** The events of one resource, the newest first, and how far back they reach. */
export async function ofResource(session, { resource_type: type, resource_id: id, id: at }, signal) {
  const choice = { resourceTypeEq: type, resourceIdIn: id };
  if (!session.isIntegration) {
    const { events, more } = await recent(session, choice, positionBefore(Date.now() - WINDOW), 200, { signal });
    return { events: events.reverse(), reach: "of the last 30 minutes", isCut: more };
  }
  const found = [];
  let isCut = false;
  for await (const event of replayed(session, [["date_from", isoOf(msOf(at) - REPLAY_WINDOW)], ...queryOf(choice)],
    { signal })) {
    found.push(event);
    if (found.length > 1_000) {
      isCut = true;
      break;
    }
  }
  const around = found.findIndex((event) => event.id === at);
  const kept = found.slice(Math.max(0, (around < 0 ? found.length : around) - 100)).slice(0, 200);
  return { events: kept.reverse(), reach: "from 7 days before it on", isCut: isCut || kept.length < found.length };
}

const isoOf = (ms) => new Date(ms).toISOString();

/** Events of a replay. Ending the loop early ends the replay. */
async function* replayed(session, query, { after, signal }) {
  const attempt = new AbortController();
  const abort = () => attempt.abort();
  signal?.addEventListener("abort", abort, { once: true });
  try {
    const headers = { Accept: "application/x-ndjson", ...(after ? { "Last-Event-ID": after } : {}) };
    const response = await session.request("/replay", { query, headers, signal: attempt.signal });
    if (response.status === 204) return;
    for await (const line of linesOf(response.body)) {
      const found = parsed(line);
      if (CONTROL.has(found.event) && found.id === undefined) {
        if (found.event === "replay_started") session.looksUp(found.data.job_id);
        if (found.event === "stream_error") throw Object.assign(new Error(found.data.detail), found.data);
        if (found.event === "stream_complete") return;
      } else {
        yield found;
      }
    }
    throw new Error("The connection ended before the replay did. Try again.");
  } finally {
    attempt.abort();
    signal?.removeEventListener("abort", abort);
  }
}

async function* linesOf(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const lines = (rest + value).split("\n");
    rest = lines.pop();
    yield* lines.filter(Boolean);
  }
}

/** As `piece`, by a broadcast stream: it ends at `until`, or when it has told nothing for a while. */
function recent(session, choice, after, most, { signal, until = Infinity }) {
  return new Promise((resolve, reject) => {
    const events = [];
    const realtime = session.streams().realtime({ ...choice, envelope: "change", lastEventId: after });
    let timer;
    const end = (settle, value) => {
      clearTimeout(timer);
      realtime.destroy();
      settle(value);
    };
    const rest = () => {
      clearTimeout(timer);
      timer = setTimeout(end, events.length > 0 ? QUIET.after : QUIET.before, resolve, { events, more: false });
    };
    signal?.addEventListener("abort", () => end(reject, signal.reason), { once: true });
    realtime.onError((error) => end(reject, session.judge(error)));
    realtime.onGap((gap) => end(reject, Object.assign(new Error(gapText(gap)), { isGap: true })));
    realtime.onConnectionChange(rest);
    realtime.onAny((event) => {
      const isLast = msOf(event.id) >= until;
      if (isLast || events.length === most) {
        end(resolve, { events, more: !isLast });
        return;
      }
      events.push(event);
      rest();
    });
  });
}

const gapText = (gap) => `Events before ${gap.to} are older than what this token may go back to: 30 minutes. `
  + "The token of an integration reads all of history.";
