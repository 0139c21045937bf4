/** Webhooks: the endpoints of this environment, and the form for another one. */
import { html, useState } from "./htm-preact.js";
import { Copy, Problem, State, When, useEvery, useLoaded, useReturn } from "./parts.js";
import { SCOPE, Settings } from "./settings.js";

const MOST_NAMED = 4;

export function Webhooks({ session }) {
  const [endpoints, error, reload] = useLoaded((signal) => session.data("/webhooks", { signal }), [session]);
  const [adds, setAdds] = useState(false);
  const [made, setMade] = useState(null);
  const opener = useReturn(adds);
  const isMissing = error?.status === 404;
  useEvery(5_000, () => { // states change by themselves, and a hub that was away comes back
    if (!error?.isFinal) reload();
  }, [error]);
  return html`<div class="heading"><h1>Webhooks</h1><span class="grow"></span>
      ${endpoints && !adds && html`<button type="button" class="primary" ref=${opener} onClick=${() => {
        setMade(null);
        setAdds(true);
      }}>Add an endpoint</button>`}</div>
    ${isMissing ? html`<p class="note">This hub serves no webhooks.</p>`
      : html`<${Problem} error=${error} session=${session} scope=${SCOPE} />`}
    ${made && html`<${Secret} endpoint=${made.endpoint} />
      ${made.warnings.map((each) => html`<p class="note">${each}</p>`)}`}
    ${adds && html`<${Settings} session=${session} onCancel=${() => setAdds(false)} onSaved=${(endpoint, warnings) => {
      setMade({ endpoint, warnings });
      setAdds(false);
      reload();
    }} />`}
    ${endpoints?.length === 0 && !adds && html`<p class="empty">No endpoint yet. The hub posts each event to the
      addresses that you add here, and tries again where one does not answer.</p>`}
    ${endpoints?.length > 0 && html`<div class="wide spaced" role="region" aria-label="Endpoints" tabindex="0"><table>
      <thead><tr><th scope="col">State</th><th scope="col">Endpoint</th><th scope="col">Events</th>
        <th scope="col">Created</th></tr></thead>
      <tbody>${endpoints.map((each) => html`<tr key=${each.id}>
        <td><${State} state=${each.state} /></td>
        <td class="address"><a href="#/webhooks/${each.id}">${each.url}</a>
          ${each.description && html`<p class="hint">${each.description}</p>`}</td>
        <td><${Events} types=${each.events} /></td>
        <td><${When} at=${each.created_at} /></td></tr>`)}</tbody></table></div>`}`;
}

function Events({ types }) {
  if (types.includes("*")) return "all";
  const others = types.length - MOST_NAMED;
  return html`<span class="mono">${types.slice(0, MOST_NAMED).join(", ")}</span>${others > 0
    && html` <span class="hint">and ${others} more</span>`}`;
}

/** The one time that a secret is shown. */
export function Secret({ endpoint, since = "created" }) {
  return html`<div class="secret" role="status">
    <p><strong>The endpoint's ${since === "created" ? "" : "new "}secret</strong>, shown this once. Deliveries are
      signed with it: keep it where the receiver reads it.${endpoint.validUntil && html` The one before stays valid
        until <${When} at=${endpoint.validUntil} /> UTC; until then, deliveries carry a signature by each.`}</p>
    <p class="actions"><code>${endpoint.secret}</code> <${Copy} text=${endpoint.secret} label="Copy the secret" />
      ${since === "created" && html`<a href="#/webhooks/${endpoint.id}">Open the endpoint</a>`}</p>
  </div>`;
}
