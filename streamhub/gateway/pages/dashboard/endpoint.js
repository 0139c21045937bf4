/** One endpoint: what it is, what its owner may do with it, and its deliveries. */
import { html, useState } from "./htm-preact.js";
import { Deliveries } from "./deliveries.js";
import { Confirm, Problem, State, When, useEvery, useLoaded, useReturn, utcOf } from "./parts.js";
import { SCOPE, Settings } from "./settings.js";
import { Secret } from "./webhooks.js";

export function EndpointPage({ session, id }) {
  const path = `/webhooks/${encodeURIComponent(id)}`;
  const [endpoint, error, reload] = useLoaded((signal) => session.data(path, { signal }), [session, id]);
  const [failure, setFailure] = useState(null);
  const [secret, setSecret] = useState(null);
  const [said, setSaid] = useState("");
  const [turn, setTurn] = useState(0); // of the deliveries
  const [edits, setEdits] = useState(false);
  const opener = useReturn(edits);
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
        meanwhile is kept, and goes out once the endpoint is enabled.</p>`}
      <${Actions} endpoint=${endpoint} ask=${ask}><button type="button" ref=${opener} aria-expanded=${edits}
        onClick=${() => setEdits(!edits)}>Edit</button></${Actions}>
      <p role="status" class="hint said">${said}</p>
      <${Problem} error=${failure} session=${session} scope=${SCOPE} />
      ${secret && html`<${Secret} endpoint=${secret} since="rotated" />`}
      ${edits ? html`<${Settings} session=${session} endpoint=${endpoint} onSaved=${saved} onCancel=${() =>
        setEdits(false)} />` : html`<${Facts} endpoint=${endpoint} />`}
      <${Deliveries} session=${session} path=${path} turn=${turn}
        isDisabled=${endpoint.state === "disabled"} />`}`;
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
  const opener = useReturn(opens);
  const [since, setSince] = useState(() => new Date(Date.now() - 3_600_000).toISOString().slice(0, 19));
  if (!opens) return html`<button type="button" ref=${opener} onClick=${() => setOpens(true)}>Recover</button>`;
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
    ["Events", endpoint.events.includes("*") ? "all" : html`<span class="mono">${endpoint.events.join(", ")}</span>`,
      "all"],
    ["Filters", Object.keys(filters).length > 0 && html`<span class="mono">
      ${Object.entries(filters).map(([name, value]) => `${name}=${value}`).join(", ")}</span>`],
    ["Order", endpoint.order === "none" ? "none" : "one resource's events one by one"],
    ["Deliveries at once, at most", endpoint.max_in_flight],
    ["Attempts per second, at most", endpoint.rate ?? "no limit"],
    ["Headers", Object.keys(headers).length > 0 && html`<span class="mono">${Object.keys(headers).join(", ")}</span>`],
    ["Disabled after six failed attempts", endpoint.auto_disable ? "yes" : "no"],
    ["Owner", endpoint.owner_email],
    ["Environment", endpoint.test ? "test" : "live"],
    ["Created", html`<${When} at=${endpoint.created_at} />`],
  ];
  return html`<dl class="facts spaced">${facts.filter(([, value]) => value).map(([name, value, wide]) => html`
    <div key=${name} class=${wide}><dt>${name}</dt><dd>${value}</dd></div>`)}</dl>`;
}
