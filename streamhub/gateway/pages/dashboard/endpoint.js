/** One endpoint: what it is, what its owner may do with it, and its deliveries. */
import { html, useEffect, useRef, useState } from "./htm-preact.js";
import { Deliveries, endOf } from "./deliveries.js";
import { Failing } from "./failing.js";
import { Confirm, Field, Problem, State, When, useEvery, useLoaded, useReturn, utcOf } from "./parts.js";
import { SCOPE, Settings } from "./settings.js";
import { Secret } from "./webhooks.js";

const OVERLAP = 24 * 3_600_000; // milliseconds that the secret before stays valid

export function EndpointPage({ session, id }) {
  const path = `/webhooks/${encodeURIComponent(id)}`;
  const [endpoint, error, reload] = useLoaded((signal) => session.data(path, { signal }), [session, id]);
  const [failure, setFailure] = useState(null);
  const [secret, setSecret] = useState(null);
  const [said, setSaid] = useState("");
  const [turn, setTurn] = useState(0); // of the deliveries
  const [edits, setEdits] = useState(false);
  const opener = useReturn(edits);
  const test = useRef(null); // the test event that is followed
  useEffect(() => () => test.current?.abort(), []);
  useEvery(5_000, reload); // its state changes by itself
  /** Throws where the hub refuses. */
  const act = async (action, done, options = { method: "POST" }) => {
    const found = await session.data(`${path}${action}`, options);
    test.current?.abort();
    setFailure(null);
    setSaid(done);
    if (options.method === "DELETE") location.hash = "#/webhooks";
    else reload();
    setTurn((n) => n + 1);
    return found;
  };
  const attempt = (work) => async (...given) => {
    try {
      await work(...given);
    } catch (refusal) {
      setSaid("");
      setFailure(refusal);
    }
  };
  const rotate = async () => {
    const found = await act("/rotate-secret", "");
    setSecret({ ...found, validUntil: Date.now() + OVERLAP });
  };
  const sendTest = async () => {
    const sent = await act("/test", "The test event is on its way.");
    const mine = test.current = new AbortController();
    const delivery = await endOf(session, path, sent.id, mine.signal);
    if (mine.signal.aborted) return;
    setSaid(toldOf(delivery));
    setTurn((n) => n + 1);
  };
  const saved = (_, warnings) => {
    setSaid(["The settings are saved.", ...warnings].join(" "));
    setFailure(null);
    setEdits(false);
    reload();
  };
  return html`<p class="crumbs"><a href="#/webhooks">Webhooks</a></p>
    <${Problem} error=${error} session=${session} scope=${SCOPE} title="This endpoint cannot be shown" />
    ${endpoint && html`<div class="heading"><h1 class="address">${endpoint.url}</h1>
        <${State} state=${endpoint.state} /></div>
      ${endpoint.description && html`<p class="hint">${endpoint.description}</p>`}
      ${endpoint.disabled_reason && html`<p class="note">Disabled by the hub: ${endpoint.disabled_reason}. What comes
        meanwhile is kept, and goes out once the endpoint is enabled. What had failed before needs Recover.</p>`}
      ${endpoint.state === "failing" && html`<${Failing} session=${session} path=${path} />`}
      <${Actions} endpoint=${endpoint} ask=${attempt(act)} act=${act} onRotate=${attempt(rotate)}
        onTest=${attempt(sendTest)}><button type="button" ref=${opener} aria-expanded=${edits}
        onClick=${() => setEdits(!edits)}>Edit</button></${Actions}>
      <p role="status" class="hint said">${said}</p>
      <${Problem} error=${failure} session=${session} scope=${SCOPE} />
      ${secret && html`<${Secret} endpoint=${secret} since="rotated" />`}
      ${edits ? html`<${Settings} session=${session} endpoint=${endpoint} onSaved=${saved} onCancel=${() =>
        setEdits(false)} />` : html`<${Facts} endpoint=${endpoint} />`}
      <${Deliveries} session=${session} path=${path} turn=${turn}
        state=${endpoint.state} />`}`;
}

/** What became of a test event. */
function toldOf(delivery) {
  if (delivery === null) return "The test event has no outcome yet: see its delivery below.";
  const { status, error, latency_ms: took } = delivery.attempts.at(-1) ?? {};
  return delivery.state === "delivered"
    ? html`<${State} state="delivered">The test event was delivered: ${status} in ${took} ms.</${State}>`
    : html`<${State} state="failed">The test event failed: ${error} (${took} ms).</${State}>`;
}

/** `act` throws where the hub refuses, `ask` shows the refusal. */
function Actions({ endpoint, ask, act, onRotate, onTest, children }) {
  return html`<div class="actions">
    ${children}
    ${endpoint.enabled
      ? html`<button type="button" onClick=${() => ask("/disable", "The endpoint is disabled.")}>Disable</button>`
      : html`<button type="button" class="primary" onClick=${() => ask("/enable",
          "The endpoint is enabled: what came meanwhile is delivered now.")}>Enable</button>`}
    <button type="button" onClick=${onTest}>Send a test event</button>
    <${Confirm} label="Rotate the secret" question="Make a new secret? The one before stays valid for 24 h."
      sure="Rotate" onSure=${onRotate} />
    <${Recover} act=${act} />
    <${Confirm} label="Delete" question="Delete the endpoint and its deliveries?" sure="Delete it"
      onSure=${() => ask("", "", { method: "DELETE" })} />
  </div>`;
}

function Recover({ act }) {
  const [opens, setOpens] = useState(false);
  const [error, setError] = useState(null);
  const opener = useReturn(opens);
  const [since, setSince] = useState(() => new Date(Date.now() - 3_600_000).toISOString().slice(0, 19));
  if (!opens) return html`<button type="button" ref=${opener} onClick=${() => {
    setError(null);
    setOpens(true);
  }}>Recover</button>`;
  const send = async (event) => {
    event.preventDefault();
    setError(null);
    try {
      await act("/recover", "What failed or was missed since then is delivered again.",
        { method: "POST", query: [["since", utcOf(since)]] });
      setOpens(false);
    } catch (refusal) {
      setError(refusal);
    }
  };
  return html`<form class="recover" onSubmit=${send}>
    <${Field} label="Deliver again what failed since (UTC)" error=${error?.detail ?? error?.message}
      render=${(tie) => html`<input ...${tie} type="datetime-local" step="1" required value=${since}
        onInput=${(event) => setSince(event.target.value)} />`} />
    <button class="primary">Recover</button>
    <button type="button" onClick=${() => setOpens(false)}>Cancel</button></form>`;
}

function Facts({ endpoint }) {
  const { filters, headers } = endpoint;
  const facts = [
    ["Events", endpoint.events.includes("*") ? "all" : html`<span class="mono">${endpoint.events.join(", ")}</span>`,
      "all"],
    ["Filters", Object.keys(filters).length > 0 && html`<span class="mono">
      ${Object.entries(filters).map(([name, value]) => `${name}=${value}`).join(", ")}</span>`],
    ["Order", endpoint.order === "none" ? "none" : "one resource's events one by one"],
    ["Deliveries at once, at most", endpoint.max_in_flight],
    ["Attempts per second, at most", endpoint.rate ?? "no limit"],
    ["Headers", Object.keys(headers).length > 0 && html`<span class="mono">${Object.keys(headers).join(", ")}</span>`],
    ["Disabled once a delivery has failed for the last time", endpoint.auto_disable ? "yes" : "no"],
    ["Owner", endpoint.owner_email],
    ["Environment", endpoint.test ? "test" : "live"],
    ["Created", html`<${When} at=${endpoint.created_at} />`],
  ];
  return html`<dl class="facts spaced">${facts.filter(([, value]) => value).map(([name, value, wide]) => html`
    <div key=${name} class=${wide}><dt>${name}</dt><dd>${value}</dd></div>`)}</dl>`;
}
