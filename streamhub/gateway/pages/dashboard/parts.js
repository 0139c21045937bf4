/** Small parts that the pages share. Whatever comes from events is text here, never HTML. */
import { html, useEffect, useRef, useState } from "./htm-preact.js";
import { tokenCommand } from "./api.js";

const NUMBER = new Intl.NumberFormat("en-US");

export const count = (n) => NUMBER.format(n);
export const plural = (n, word) => `${count(n)} ${word}${n === 1 ? "" : "s"}`;

export function bytes(n) {
  const units = ["B", "KiB", "MiB", "GiB"];
  let value = n;
  while (value >= 1024 && units.length > 1) {
    value /= 1024;
    units.shift();
  }
  return `${value < 10 && units[0] !== "B" ? value.toFixed(1) : Math.round(value)} ${units[0]}`;
}

/** Of seconds, short: `0.4 s`, `12 s`, `3 min`, `2 h`, `5 d`. */
export function span(seconds) {
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  if (seconds < 120) return `${Math.round(seconds)} s`;
  if (seconds < 7200) return `${Math.round(seconds / 60)} min`;
  if (seconds < 172_800) return `${Math.round(seconds / 3600)} h`;
  return `${Math.round(seconds / 86_400)} d`;
}

const two = (n) => String(n).padStart(2, "0");

/** All times are UTC, as they are in events and in queries. */
export function clock(ms) {
  const at = new Date(ms);
  const milliseconds = String(at.getUTCMilliseconds()).padStart(3, "0");
  return `${two(at.getUTCHours())}:${two(at.getUTCMinutes())}:${two(at.getUTCSeconds())}.${milliseconds}`;
}

/** The day, too, where it is not today. */
export function moment(ms) {
  const day = new Date(ms).toISOString().slice(0, 10);
  return day === new Date().toISOString().slice(0, 10) ? clock(ms) : `${day} ${clock(ms)}`;
}

/** The time of an input of type datetime-local, which leaves out seconds that are 0, as the hub takes it. */
export const utcOf = (input) => `${input}${input.length === 16 ? ":00" : ""}Z`;

export function When({ at }) {
  const ms = typeof at === "number" ? at : Date.parse(at);
  const text = new Date(ms).toISOString();
  return html`<time class="mono" dateTime=${text} title=${text}>${moment(ms)}</time>`;
}

const TONES = {
  ok: "good", connected: "good", completed: "good", delivered: "good", ready: "good", enabled: "good",
  warn: "fair", paused: "fair", connecting: "fair", failing: "fair", pending: "fair", running: "fair", queued: "fair",
  fail: "poor", failed: "poor", disabled: "poor", disconnected: "poor", ended: "poor",
};

/** A state is told by its word; the colour of the dot is beside it. */
export function State({ state, children }) {
  return html`<span class="state ${TONES[state] ?? "none"}">${children ?? state}</span>`;
}

const KINDS = { create: "good", update: "plain", destroy: "poor" };

export function Type({ type, event }) {
  return html`<span class="type ${KINDS[event] ?? "other"}">${type}</span>`;
}

export function Copy({ text, label = "Copy" }) {
  const [copied, setCopied] = useState(false);
  if (!navigator.clipboard) return null; // a page that did not come over TLS nor from this machine
  const copy = async () => {
    await navigator.clipboard.writeText(text);
    setCopied(true);
    setTimeout(() => setCopied(false), 1_500);
  };
  return html`<button type="button" class="small" onClick=${copy} aria-label=${label}>
    ${copied ? "Copied" : "Copy"}</button>`;
}

/** Asks once more before it does what cannot be taken back. */
export function Confirm({ label, question, sure, onSure, disabled }) {
  const [asks, setAsks] = useState(false);
  const yes = useRef();
  const opener = useReturn(asks);
  useEffect(() => {
    if (asks) yes.current.focus();
  }, [asks]);
  if (!asks) {
    return html`<button type="button" class="danger" ref=${opener} disabled=${disabled} onClick=${() =>
      setAsks(true)}>${label}</button>`;
  }
  return html`<span class="confirm" role="group" aria-label=${question}>${question}
    <button type="button" class="danger" ref=${yes} onClick=${() => { setAsks(false); onSure(); }}>${sure}</button>
    <button type="button" onClick=${() => setAsks(false)}>Keep</button></span>`;
}

let fields = 0;

/** `render` gets the attributes that tie the control to its label and hint. `name` is what the API calls it. */
export function Field({ label, name, hint, error, render, wide }) {
  const [id] = useState(() => `field-${(fields += 1)}`);
  const described = [hint && `${id}-hint`, error && `${id}-error`].filter(Boolean).join(" ") || undefined;
  return html`<div class="field ${wide ? "wide" : ""}">
    <span class="named"><label for=${id}>${label}</label>${name && html` <${Named} name=${name} />`}</span>
    ${render({ id, "aria-describedby": described, "aria-invalid": error ? "true" : undefined })}
    ${hint && html`<p class="hint" id="${id}-hint">${hint}</p>`}
    ${error && html`<p class="wrong" id="${id}-error">${error}</p>`}
  </div>`;
}

export const Named = ({ name }) => html`<code class="name" title="What the API calls it">${name}</code>`;

export const Code = ({ children }) => html`<pre class="code" tabindex="0"><code>${children}</code></pre>`;

/** What the hub refused, in its own words, and what a token that may would be. */
export function Problem({ error, session, scope, title }) {
  if (!error) return null;
  const isRefusal = typeof error.code === "string";
  return html`<div class="problem" role="alert">
    <p><strong>${title ?? (isRefusal ? "The hub refused" : "The hub does not answer")}</strong>
      ${isRefusal && html` <code>${error.code}</code>`}</p>
    <p>${isRefusal ? error.detail : error.message}</p>
    ${session && html`<${Remedy} error=${error} session=${session} scope=${scope} />`}
  </div>`;
}

const IN_DEVELOPMENT = "In development, this prints one for all pages:";

function Remedy({ error, session, scope }) {
  const command = html`<${Code}>${tokenCommand(session.org, session.isTest)}</${Code}>`;
  if (error.code === "MISSING_SCOPE" && scope) {
    return html`<p>This page needs a token with the scope <code>${scope}</code>. ${IN_DEVELOPMENT}</p>${command}`;
  }
  if (error.code === "NOT_INTEGRATION") {
    return html`<p>This page needs the token of an integration; an API key does not open it. ${IN_DEVELOPMENT}</p>
      ${command}`;
  }
  return null;
}

/** A ref for the button that opens something: it gets the focus back once that is closed. */
export function useReturn(isOpen) {
  const opener = useRef();
  const wasOpen = useRef(false);
  useEffect(() => {
    if (wasOpen.current && !isOpen) opener.current?.focus();
    wasOpen.current = isOpen;
  }, [isOpen]);
  return opener;
}

/** Runs `load(signal)` at once and whenever `keys` change: `[value, error, again]`. Where the hub is away for a moment
 * the value stays, and with it what is being typed beside it. */
export function useLoaded(load, keys) {
  const [found, setFound] = useState({});
  const [turn, setTurn] = useState(0);
  useEffect(() => {
    const attempt = new AbortController();
    const tell = (result) => {
      if (!attempt.signal.aborted) setFound(result);
    };
    load(attempt.signal).then((value) => tell({ value }), (error) =>
      tell((now) => (error.isFinal ? { error } : { value: now.value, error })));
    return () => attempt.abort();
  }, [...keys, turn]);
  return [found.value, found.error, () => setTurn((n) => n + 1)];
}

/** Calls `work` every so many milliseconds while the page is seen. */
export function useEvery(milliseconds, work, keys = []) {
  useEffect(() => {
    const timer = setInterval(() => {
      if (!document.hidden) work();
    }, milliseconds);
    return () => clearInterval(timer);
  }, keys);
}
