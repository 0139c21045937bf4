/** The deliveries of an endpoint, the newest first, with their attempts. */
import { html, useEffect, useRef, useState } from "./htm-preact.js";
import { Problem, State, When, plural, span, useEvery } from "./parts.js";
import { SCOPE } from "./settings.js";

const PAGE = 50;
const TEST_WITHIN = 60_000; // milliseconds
const LOOKS_EVERY = 500; // milliseconds

/** `state`: the endpoint's. */
export function Deliveries({ session, path, turn, state: standing }) {
  const [state, setState] = useState("");
  return html`<div class="heading spaced"><h2 id="deliveries">Deliveries</h2><span class="grow"></span>
      <label class="hint">State <select value=${state} onChange=${(event) => setState(event.target.value)}>
        <option value="">all</option><option>pending</option><option>delivered</option><option>failed</option>
      </select></label></div>
    <${Log} key=${state} session=${session} path=${path} turn=${turn} state=${state}
      standing=${standing} />`;
}

/** The deliveries of one state, or of all. */
function Log({ session, path, turn, state, standing }) {
  const [found, setFound] = useState(null);
  const [error, setError] = useState(null);
  const [refused, setRefused] = useState({}); // a retry: the delivery's id, and what the hub said
  const [brought, setBrought] = useState(0);
  const list = useRef();
  const load = async (before) => {
    const query = Object.entries({ state, before, limit: PAGE }).filter(([, value]) => value);
    try {
      const page = await session.data(`${path}/deliveries`, { query });
      const box = list.current;
      const isRead = Boolean(box?.matches(":hover") || box?.querySelector("details[open], :focus-visible"));
      setFound((now) => grown(now, page, { before, isRead }));
      setError(null);
    } catch (failure) {
      setError(failure);
    }
  };
  useEffect(() => void load(), [path, turn]);
  useEvery(2_000, () => void load());
  useEffect(() => {
    if (brought > 0) list.current.querySelector("summary").focus(); // the button is gone
  }, [brought]);
  const bring = () => {
    setFound(withNewer);
    setBrought((n) => n + 1);
  };
  const retry = async (id) => {
    try {
      setRefused({});
      const retried = await session.data(`${path}/deliveries/${id}/retry`, { method: "POST" });
      setFound((now) => ({ ...now, rows: now.rows.map((each) => (each.id === id ? { ...each, ...retried } : each)) }));
      await load();
    } catch (failure) {
      setRefused({ id, failure });
    }
  };
  const newer = found?.newer.length ?? 0;
  return html`<${Problem} error=${error} session=${session} scope=${SCOPE} />
    ${found?.rows.length === 0 && html`<p class="empty">No delivery${state ? ` is ${state}` : " yet"}.</p>`}
    <p role="status">${newer > 0 && html`<button type="button" class="small" onClick=${bring}>
      ${newer === PAGE ? `${PAGE} or more newer` : `${newer} newer`}</button>`}</p>
    ${found?.rows.length > 0 && html`<ul class="deliveries" ref=${list} aria-labelledby="deliveries">
        ${found.rows.map((each) => html`
          <${Delivery} key=${each.id} delivery=${each} standing=${standing}
            refusal=${refused.id === each.id ? refused.failure : null} onRetry=${() => retry(each.id)} />`)}</ul>
      ${!found.isAll && html`<p class="actions"><button type="button" onClick=${() => load(found.rows.at(-1).id)}>
        Older deliveries</button></p>`}`}`;
}

/** What is shown once a page came: the newest one, or the one `before` an id. While a delivery is open, or a row is
 * pointed at, or after older ones were asked for, nothing moves: newer ones wait until they are asked for. */
function grown(now, page, { before, isRead }) {
  const isAll = page.length < PAGE;
  if (before) return { ...now, rows: [...now.rows, ...page], isAll, isOlder: true };
  if (now === null || !isRead && !now.isOlder) return { rows: page, newer: [], isAll, isOlder: false };
  const came = new Map(page.map((each) => [each.id, each]));
  const last = now.rows.at(-1)?.id ?? "";
  const shown = new Set(now.rows.map(({ id }) => id));
  return {
    ...now,
    rows: now.rows.map((each) => came.get(each.id) ?? each),
    newer: page.filter(({ id }) => id > last && !shown.has(id)),
  };
}

/** A page that is new altogether stands alone, as others may lie between. */
function withNewer({ rows, newer, isAll, isOlder }) {
  if (newer.length === PAGE) return { rows: newer, newer: [], isAll: false, isOlder: false };
  return { rows: [...newer, ...rows].sort((a, b) => (a.id < b.id ? 1 : -1)), newer: [], isAll, isOlder };
}

function Delivery({ delivery, standing, refusal, onRetry }) {
  const { id, type, state, attempts, next_attempt_at: next } = delivery;
  const last = attempts.at(-1);
  return html`<li><details><summary>
      <${State} state=${state} /><span class="mono type">${type}</span>
      <span class="hint">${last ? outcomeOf(last) : "no attempt yet"}</span>
      <${When} at=${delivery.created_at} /></summary>
    <div class="attempts">
      <p class="id"><code>${id}</code> ${type !== "webhook.test" && html`<a href="#/events/${id}">The event</a>`}
        <button type="button" class="small" onClick=${onRetry}>Retry now</button></p>
      <${Problem} error=${refusal} />
      ${state === "pending" && (standing === "disabled" || next) && html`<p class="hint">The next attempt
        ${" "}${nextOf(standing, Date.parse(next))}.</p>`}
      ${attempts.length > 0 && html`<p class="hint">${plural(attempts.length, "attempt")}</p>
        <ol>${attempts.map((each, n) => html`<li key=${n}><${When} at=${each.at} />${" "}
          <strong>${outcomeOf(each)}</strong> <span class="hint">${each.latency_ms} ms</span>
          ${each.response && html`<pre class="code" tabindex="0"><code>${each.response}</code></pre>`}</li>`)}</ol>`}
    </div></details></li>`;
}

const outcomeOf = ({ status, error }) => status ?? error;

function nextOf(standing, ms) {
  if (standing === "disabled") return "waits until the endpoint is enabled";
  const seconds = (ms - Date.now()) / 1000;
  if (seconds > 1) return `is in ${span(seconds)}`;
  return standing === "failing" ? "is due and waits for its turn: a failing endpoint gets one delivery at a time"
    : "is due now";
}

/** The delivery of a test event, which has one attempt, once it has ended; null where it has not within TEST_WITHIN. */
export async function endOf(session, path, id, signal) {
  const query = [["before", idAfter(id)], ["limit", 1]];
  const until = performance.now() + TEST_WITHIN;
  while (performance.now() < until && !signal.aborted) {
    const [delivery] = await session.data(`${path}/deliveries`, { query });
    if (delivery?.id === id && delivery.state !== "pending") return delivery;
    await new Promise((resolve) => setTimeout(resolve, LOOKS_EVERY));
  }
  return null;
}

/** The next larger UUID. */
function idAfter(id) {
  const digits = (BigInt(`0x${id.replaceAll("-", "")}`) + 1n).toString(16).padStart(32, "0");
  return digits.replace(/^(.{8})(.{4})(.{4})(.{4})/, "$1-$2-$3-$4-");
}
