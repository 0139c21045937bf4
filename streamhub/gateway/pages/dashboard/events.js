/** Events: a live tail with filters and a pause, and seeking to a time or an id. */
import { html, useEffect, useRef, useState } from "./htm-preact.js";
import { parsed } from "./exact.js";
import { Filters, NOTHING_ASKED, choiceOf, conditions, isAtFields } from "./filters.js";
import { piece, placeOf } from "./history.js";
import { List } from "./list.js";
import { Problem, State, count, moment, plural, useLoaded } from "./parts.js";
import { KEPT, Tails, rowOf } from "./tail.js";

let textOf = () => undefined; // of the list that is there, by an event's id
let cameAfter = () => 0;

/** An event that the list still has; null where it has not. */
export function known(id) {
  const text = textOf(id);
  return text ? parsed(text) : null;
}

/** How many events of a resource the tail got after this id. */
export const newerOf = (resourceType, resource, id) => cameAfter(resourceType, resource, id);

export function Events({ session, isShown }) {
  const [asked, setAsked] = useState(NOTHING_ASKED);
  const [hasFilters, setHasFilters] = useState(false);
  const [, setPaints] = useState(0);
  const [sought, setSought] = useState(null);
  const [seekError, setSeekError] = useState(null);
  const tails = useRef(null);
  const form = useRef();
  const shown = useRef(isShown);
  shown.current = isShown;
  const [types] = useLoaded((signal) => session.data("/types", { signal }), [session]);
  useEffect(() => {
    const mine = tails.current = new Tails(session, () => {
      if (shown.current && !document.hidden) setPaints((n) => n + 1);
    });
    mine.open({});
    setPaints((n) => n + 1);
    return () => mine.close();
  }, [session]);
  useEffect(() => {
    const painted = () => setPaints((n) => n + 1);
    document.addEventListener("visibilitychange", painted);
    return () => document.removeEventListener("visibilitychange", painted);
  }, []);
  const tail = tails.current?.shown ?? null;
  const refusal = tails.current?.refusal ?? null;
  useEffect(() => {
    if (shown.current) form.current.querySelector("[aria-invalid]")?.focus();
  }, [refusal]);
  textOf = (id) => [sought?.rows, tail?.rows, tail?.shown].flatMap((rows) => rows ?? [])
    .find((row) => row.id === id)?.text;
  cameAfter = (resourceType, resource, id) => (tail?.rows ?? []).filter((row) =>
    row.id > id && row.resource === resource && row.resourceType === resourceType).length;
  const toLive = () => {
    setSought(null);
    setSeekError(null);
  };
  const apply = (given) => {
    toLive();
    setAsked(given);
    tails.current.open(choiceOf(given));
  };
  const choice = tail?.choice ?? {};
  const number = conditions(choice);
  return html`<h1>Events</h1>
    <div class="bar">
      <${Status} tail=${tail} isOpening=${tails.current?.isOpening} sought=${sought} />
      <span class="grow"></span>
      <button type="button" aria-expanded=${hasFilters} aria-controls="filters" onClick=${() =>
        setHasFilters(!hasFilters)}>Filters${number > 0 && html` <span class="tag">${number}</span>`}</button>
      <${Seek} session=${session} choice=${choice} sought=${sought} onSought=${setSought}
        error=${seekError} onError=${setSeekError} />
      <${Pause} tail=${tail} sought=${sought} onLive=${toLive} />
    </div>
    ${seekError && html`<p class="wrong said" id="seek-wrong" role="alert">${seekError.message}</p>`}
    <form id="filters" hidden=${!hasFilters} class="panel" ref=${form} onSubmit=${(event) => {
      event.preventDefault();
      apply(asked);
    }}>
      <${Filters} value=${asked} onChange=${setAsked} types=${types ?? []} error=${refusal?.error} />
      ${refusal && (isAtFields(refusal.error, refusal.choice)
        ? html`<p class="wrong said" role="alert">The filters were not applied; the list goes on as it was.</p>`
        : html`<${Problem} error=${refusal.error} session=${session} title="The filters were not applied" />`)}
      <p class="actions"><button class="primary">Apply</button>
        <button type="button" onClick=${() => apply(NOTHING_ASKED)}>Clear</button></p>
    </form>
    ${sought ? html`<${Found} session=${session} choice=${choice} sought=${sought} onSought=${setSought} />`
      : tail && html`<${Live} tail=${tail} session=${session} />`}`;
}

function Status({ tail, isOpening, sought }) {
  if (!tail || isOpening || sought?.isAsking) return html`<${State} state="connecting" />`;
  if (sought) return html`<${State} state="history">from ${moment(sought.ms)}</${State}>`;
  const state = tail.isPaused ? "paused" : tail.state;
  return html`<span role="status"><${State} state=${state}>${state === "connected" ? "live" : state}</${State}></span>
    ${state !== "ended" && html`<span class="hint">${plural(Math.round(tail.rate), "event")}/s</span>`}
    ${tail.waiting > 0 && html`<button type="button" class="small" onClick=${() => tail.resume()}>
        ${plural(tail.waiting, "newer event")}</button>
      ${tail.waiting > KEPT && html`<span class="hint">the newest ${count(KEPT)} are kept</span>`}`}`;
}

function Pause({ tail, sought, onLive }) {
  if (sought) return html`<button type="button" onClick=${onLive}>Back to live</button>`;
  if (!tail || tail.state === "ended") return null;
  return tail.isPaused
    ? html`<button type="button" class="primary" onClick=${() => tail.resume()}>Resume</button>`
    : html`<button type="button" onClick=${() => tail.pause()}>Pause</button>`;
}

function Live({ tail, session }) {
  const isEmpty = tail.shown.length === 0 && tail.state !== "ended";
  return html`<${Problem} error=${tail.problem} session=${session} scope="events:read" />
    ${tail.gap && html`<p class="note">Events from ${moment(Date.parse(tail.gap.from))} to
      ${moment(Date.parse(tail.gap.to))} were missed; a replay returns them.</p>`}
    ${isEmpty && html`<p class="empty">${tail.state === "connected"
      ? "Listening. Events appear here as they are published." : "Connecting to the hub …"}</p>`}
    <div hidden=${isEmpty || tail.state === "ended"}>
      <${List} rows=${tail.shown.slice(-KEPT)} total=${tail.shownTotal} newestFirst label="Events, newest first" />
    </div>`;
}

function Seek({ session, choice, sought, onSought, error, onError }) {
  const [text, setText] = useState("");
  const attempt = useRef(null);
  useEffect(() => () => attempt.current?.abort(), []);
  const go = async (event) => {
    event.preventDefault();
    attempt.current?.abort();
    const mine = attempt.current = new AbortController();
    onError(null);
    let place;
    try {
      place = placeOf(text);
    } catch (wrong) {
      onError(wrong);
      return;
    }
    onSought({ ...place, rows: sought?.rows ?? [], isAsking: true });
    onSought(await look(session, choice, place, mine.signal));
  };
  return html`<form class="seek" onSubmit=${go}>
    <input type="text" aria-label="Seek to a time or an id" aria-invalid=${error ? "true" : undefined}
      aria-describedby=${error ? "seek-wrong" : undefined} placeholder="14:05, 10m or an id" spellcheck=${false}
      autocomplete="off" required value=${text} onInput=${(event) => {
        setText(event.target.value);
        onError(null);
      }} />
    <button>Seek</button>
  </form>`;
}

async function look(session, choice, place, signal) {
  try {
    const { events, more } = await piece(session, choice, place.ms, { signal });
    const from = place.id === null ? events : events.filter((event) => event.id >= place.id);
    return { ...place, rows: from.map(rowOf), more };
  } catch (error) {
    return { ...place, rows: [], error: signal.aborted ? null : error };
  }
}

function Found({ session, choice, sought, onSought }) {
  const [isAsking, setIsAsking] = useState(false);
  const next = async () => {
    setIsAsking(true);
    try {
      const after = sought.rows.at(-1).id;
      const { events, more } = await piece(session, choice, sought.ms, { after });
      onSought({ ...sought, rows: [...sought.rows, ...events.map(rowOf)].slice(-KEPT), more });
    } catch (error) {
      onSought({ ...sought, error });
    }
    setIsAsking(false);
  };
  if (sought.isAsking) return html`<p class="empty">Looking from ${moment(sought.ms)} on …</p>`;
  const { rows: found, more, error } = sought;
  return html`<${Problem} error=${error} session=${session} title="These events cannot be shown" />
    ${!error && found.length === 0 && html`<p class="empty">No event from ${moment(sought.ms)} on.</p>`}
    ${found.length > 0 && html`<${List} rows=${found} total=${found.length} current=${sought.id}
      label="Events, oldest first" />
    <p class="actions"><span class="hint">${plural(found.length, "event")} from ${moment(sought.ms)} on, oldest first
      ${more ? "" : "; these are all until now"}</span>
      ${more && html`<button type="button" disabled=${isAsking} onClick=${next}>Next 200</button>`}</p>`}`;
}
