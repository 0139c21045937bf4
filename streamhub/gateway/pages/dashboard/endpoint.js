/** One endpoint: what it is, what its owner may do with it, and its deliveries with their attempts. */
import { html, useEffect, useRef, useState } from "./htm-preact.js";
import { Confirm, Problem, State, When, plural, span, useEvery, useLoaded, utcOf } from "./parts.js";
import { SCOPE, Settings } from "./settings.js";
import { Secret } from "./webhooks.js";

const PAGE = 50;

export function EndpointPage({ session, id }) {
  const path = `/webhooks/${encodeURIComponent(id)}`;
  const [endpoint, error, reload] = useLoaded((signal) => session.data(path, { signal }), [session, id]);
  const [failure, setFailure] = useState(null);
  const [secret, setSecret] = useState(null);
  const [said, setSaid] = useState("");
  const [turn, setTurn] = useState(0); // of the deliveries
  const [edits, setEdits] = useState(false);
  const edit = useRef();
  const leave = () => {
    setEdits(false);
    edit.current.focus();
  };
  useEvery(5_000, reload); // its state changes by itself
  const ask = async (action, done, options = { method: "POST" }) => {
    try {
      const found = await session.data(`${path}${action}`, options);
      setFailure(null);
      setSaid(done);
      if (action === "/rotate-secret") setSecret(found);
      if (options.method === "DELETE") location.hash = "#/webhooks";
      else reload();
      setTurn((n) => n + 1);
    } catch (refusal) {
      setFailure(refusal);
    }
  };
  return html`<p class="crumbs"><a href="#/webhooks">Webhooks</a></p>
    <${Problem} error=${error} session=${session} scope=${SCOPE} title="This endpoint cannot be shown" />
    ${endpoint && html`<div class="heading"><h1 class="address">${endpoint.url}</h1>
        <${State} state=${endpoint.state} /></div>
      ${endpoint.description && html`<p class="hint">${endpoint.description}</p>`}
      ${endpoint.disabled_reason && html`<p class="note">Disabled by the hub: ${endpoint.disabled_reason}. What comes
        meanwhile is kept, and goes out once the endpoint is enabled.</p>`}
      <${Actions} endpoint=${endpoint} ask=${ask}><button type="button" ref=${edit} aria-expanded=${edits}
        onClick=${() => setEdits(!edits)}>Edit</button></${Actions}>
      <p role="status" class="hint">${said}</p>
      <${Problem} error=${failure} session=${session} scope=${SCOPE} />
      ${secret && html`<${Secret} endpoint=${secret} since="rotated" />`}
      ${edits ? html`<${Settings} session=${session} endpoint=${endpoint} onCancel=${leave} onSaved=${() => {
        setSaid("The settings are saved.");
        setFailure(null);
        leave();
        reload();
      }} />` : html`<${Facts} endpoint=${endpoint} />`}
      <${Deliveries} session=${session} path=${path} turn=${turn} />`}`;
}

function Actions({ endpoint, ask, children }) {
  return html`<div class="actions">
    ${children}
    ${endpoint.enabled
      ? html`<button type="button" onClick=${() => ask("/disable", "The endpoint is disabled.")}>Disable</button>`
      : html`<button type="button" class="primary" onClick=${() => ask("/enable",
          "The endpoint is enabled: what came meanwhile is delivered now.")}>Enable</button>`}
    <button type="button" disabled=${!endpoint.enabled} onClick=${() => ask("/test", "A test event is on its way.")}>
      Send a test event</button>
    <${Confirm} label="Rotate the secret" question="Make a new secret? The one before stays valid for 24 h."
      sure="Rotate" onSure=${() => ask("/rotate-secret", "")} />
    <${Recover} ask=${ask} />
    <${Confirm} label="Delete" question="Delete the endpoint and its deliveries?" sure="Delete it"
      onSure=${() => ask("", "", { method: "DELETE" })} />
  </div>`;
}

function Recover({ ask }) {
  const [opens, setOpens] = useState(false);
  const [since, setSince] = useState(() => new Date(Date.now() - 3_600_000).toISOString().slice(0, 19));
  if (!opens) return html`<button type="button" onClick=${() => setOpens(true)}>Recover</button>`;
  const send = (event) => {
    event.preventDefault();
    setOpens(false);
    void ask("/recover", "What failed or was missed since then is delivered again.",
      { method: "POST", query: [["since", utcOf(since)]] });
  };
  return html`<form class="confirm" onSubmit=${send}>
    <label>Deliver again what failed since <input type="datetime-local" step="1" required value=${since}
      onInput=${(event) => setSince(event.target.value)} /> UTC</label>
    <button class="primary">Recover</button>
    <button type="button" onClick=${() => setOpens(false)}>Cancel</button></form>`;
}

function Facts({ endpoint }) {
  const { filters, headers } = endpoint;
  const facts = [
    ["Events", html`<span class="mono">${endpoint.events.join(", ")}</span>`, "all"],
    ["Filters", Object.keys(filters).length > 0 && html`<span class="mono">
      ${Object.entries(filters).map(([name, value]) => `${name}=${value}`).join(", ")}</span>`],
    ["Order", endpoint.order === "none" ? "none" : "one resource's events one by one"],
    ["Deliveries at the same time", endpoint.max_in_flight],
    ["Attempts in a second, at most", endpoint.rate ?? "no limit"],
    ["Headers", Object.keys(headers).length > 0 && html`<span class="mono">${Object.keys(headers).join(", ")}</span>`],
    ["Disabled after six failed attempts", endpoint.auto_disable ? "yes" : "no"],
    ["Owner", endpoint.owner_email],
    ["Environment", endpoint.test ? "test" : "live"],
    ["Created", html`<${When} at=${endpoint.created_at} />`],
  ];
  return html`<dl class="facts spaced">${facts.filter(([, value]) => value).map(([name, value, wide]) => html`
    <div key=${name} class=${wide}><dt>${name}</dt><dd>${value}</dd></div>`)}</dl>`;
}

function Deliveries({ session, path, turn }) {
  const [state, setState] = useState("");
  return html`<div class="heading spaced"><h2 id="deliveries">Deliveries</h2><span class="grow"></span>
      <label class="hint">State <select value=${state} onChange=${(event) => setState(event.target.value)}>
        <option value="">all</option><option>pending</option><option>delivered</option><option>failed</option>
      </select></label></div>
    <${Log} key=${state} session=${session} path=${path} turn=${turn} state=${state} />`;
}

/** The deliveries of one state, or of all. */
function Log({ session, path, turn, state }) {
  const [found, setFound] = useState(null);
  const [error, setError] = useState(null);
  const [brought, setBrought] = useState(0);
  const list = useRef();
  const load = async (before) => {
    const query = Object.entries({ state, before, limit: PAGE }).filter(([, value]) => value);
    try {
      const page = await session.data(`${path}/deliveries`, { query });
      const isRead = Boolean(list.current?.querySelector("details[open]"));
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
      const retried = await session.data(`${path}/deliveries/${id}/retry`, { method: "POST" });
      setFound((now) => ({ ...now, rows: now.rows.map((each) => (each.id === id ? retried : each)) }));
      await load();
    } catch (failure) {
      setError(failure);
    }
  };
  const newer = found?.newer.length ?? 0;
  return html`<${Problem} error=${error} session=${session} scope=${SCOPE} />
    ${found?.rows.length === 0 && html`<p class="empty">No delivery${state ? ` is ${state}` : " yet"}.</p>`}
    <p role="status">${newer > 0 && html`<button type="button" class="small" onClick=${bring}>
      ${newer === PAGE ? `${PAGE} or more newer` : `${newer} newer`}</button>`}</p>
    ${found?.rows.length > 0 && html`<ul class="deliveries" ref=${list} aria-labelledby="deliveries">
        ${found.rows.map((each) => html`
          <${Delivery} key=${each.id} delivery=${each} onRetry=${() => retry(each.id)} />`)}</ul>
      ${!found.isAll && html`<p class="actions"><button type="button" onClick=${() => load(found.rows.at(-1).id)}>
        Older deliveries</button></p>`}`}`;
}

/** What is shown once a page came: the newest one, or the one `before` an id. While a delivery is open, or after older
 * ones were asked for, nothing moves: newer ones wait until they are asked for. */
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

function Delivery({ delivery, onRetry }) {
  const { id, type, state, attempts, next_attempt_at: next } = delivery;
  const last = attempts.at(-1);
  return html`<li><details><summary>
      <${State} state=${state} /><span class="mono type">${type}</span>
      <span class="hint">${last ? outcomeOf(last) : "no attempt yet"}</span>
      <${When} at=${delivery.created_at} /></summary>
    <div class="attempts">
      <p class="id"><code>${id}</code> ${type !== "webhook.test" && html`<a href="#/events/${id}">The event</a>`}
        <button type="button" class="small" onClick=${onRetry}>Retry now</button></p>
      ${next && state === "pending" && html`<p class="hint">The next attempt is ${inTime(Date.parse(next))}.</p>`}
      ${attempts.length > 0 && html`<p class="hint">${plural(attempts.length, "attempt")}</p>
        <ol>${attempts.map((each, n) => html`<li key=${n}><${When} at=${each.at} />${" "}
          <strong>${outcomeOf(each)}</strong> <span class="hint">${each.latency_ms} ms</span>
          ${each.response && html`<pre class="code" tabindex="0"><code>${each.response}</code></pre>`}</li>`)}</ol>`}
    </div></details></li>`;
}

const outcomeOf = ({ status, error }) => status ?? error;

function inTime(ms) {
  const seconds = (ms - Date.now()) / 1000;
  return seconds > 1 ? `in ${span(seconds)}` : "due now";
}
