/** Webhooks: the endpoints of this environment, and a form for another one. */
import { html, useState } from "./htm-preact.js";
import { Code, Copy, Field, Problem, State, When, useLoaded } from "./parts.js";

export const SCOPE = "webhooks:manage";
const MOST_NAMED = 4;

export function Webhooks({ session }) {
  const [endpoints, error, reload] = useLoaded((signal) => session.data("/webhooks", { signal }), [session]);
  const [adds, setAdds] = useState(false);
  const [made, setMade] = useState(null);
  const isMissing = error?.status === 404;
  return html`<div class="heading"><h1>Webhooks</h1><span class="grow"></span>
      ${endpoints && !adds && html`<button type="button" class="primary" onClick=${() => {
        setMade(null);
        setAdds(true);
      }}>Add an endpoint</button>`}</div>
    ${isMissing ? html`<p class="note">This hub serves no webhooks.</p>`
      : html`<${Problem} error=${error} session=${session} scope=${SCOPE} />`}
    ${made && html`<${Secret} endpoint=${made} />`}
    ${adds && html`<${Create} session=${session} onCancel=${() => setAdds(false)} onMade=${(endpoint) => {
      setMade(endpoint);
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
        <td class="mono">${each.events.slice(0, MOST_NAMED).join(", ")}${each.events.length > MOST_NAMED
          && html` <span class="hint">and ${each.events.length - MOST_NAMED} more</span>`}</td>
        <td><${When} at=${each.created_at} /></td></tr>`)}</tbody></table></div>`}`;
}

/** The one time that a secret is shown. */
export function Secret({ endpoint, since = "created" }) {
  return html`<div class="secret" role="status">
    <p><strong>The endpoint's ${since === "created" ? "" : "new "}secret</strong>, shown this once. Deliveries are
      signed with it: keep it where the receiver reads it.</p>
    <p class="actions"><code>${endpoint.secret}</code> <${Copy} text=${endpoint.secret} label="Copy the secret" />
      ${since === "created" && html`<a href="#/webhooks/${endpoint.id}">Open the endpoint</a>`}</p>
  </div>`;
}

function Create({ session, onCancel, onMade }) {
  const [types] = useLoaded((signal) => session.data("/types", { signal }).catch(() => []), [session]);
  const [given, setGiven] = useState({ url: "", description: "", order: "none", max_in_flight: "", rate: "",
    owner_email: "", more: "" });
  const [all, setAll] = useState(true);
  const [picked, setPicked] = useState(new Set());
  const [error, setError] = useState(null);
  const set = (name) => (event) => setGiven({ ...given, [name]: event.target.value });
  const submit = async (event) => {
    event.preventDefault();
    try {
      onMade(await session.data("/webhooks", { method: "POST", body: bodyOf(given, all, picked) }));
    } catch (failure) {
      setError(failure);
    }
  };
  const wrong = (name) => detailOf(error, name);
  const text = (name, placeholder, more = {}) => (tie) => html`<input ...${tie} type="text" spellcheck=${false}
    autocomplete="off" value=${given[name]} placeholder=${placeholder} onInput=${set(name)} ...${more} />`;
  return html`<form class="panel spaced form" onSubmit=${submit}>
    <h2>A new endpoint</h2>
    <${Field} label="URL" error=${wrong("url")} render=${text("url", "https://shop.example.com/hooks",
      { required: true })} />
    <${Events} types=${types ?? []} all=${all} setAll=${setAll} picked=${picked} setPicked=${setPicked}
      more=${given.more} onMore=${set("more")} error=${wrong("events")} />
    <${Field} label="Description" error=${wrong("description")} render=${text("description", "optional")} />
    <details><summary>Order, limits, owner</summary><div class="row">
      <${Field} label="Order" hint="By resource: the next event of a resource goes once the one before was taken."
        render=${(tie) => html`<select ...${tie} value=${given.order} onChange=${set("order")}>
          <option value="none">none, the fastest</option><option value="resource">by resource</option></select>`} />
      <${Field} label="At most in flight" error=${wrong("max_in_flight")} render=${text("max_in_flight", "10",
        { inputmode: "numeric" })} />
      <${Field} label="Attempts in a second" error=${wrong("rate")} render=${text("rate", "no limit",
        { inputmode: "numeric" })} />
      <${Field} label="Owner's e-mail" hint="Is told when the endpoint is disabled." error=${wrong("owner_email")}
        render=${text("owner_email", "optional")} />
    </div></details>
    <${Problem} error=${error} session=${session} scope=${SCOPE} title="The endpoint was not made" />
    <p class="actions"><button class="primary">Create</button>
      <button type="button" onClick=${onCancel}>Cancel</button></p>
  </form>`;
}

function Events({ types, all, setAll, picked, setPicked, more, onMore, error }) {
  const toggle = (type) => (event) => {
    const changed = new Set(picked);
    if (event.target.checked) changed.add(type);
    else changed.delete(type);
    setPicked(changed);
  };
  return html`<fieldset><legend>Events</legend>
    <label class="choice"><input type="radio" name="which" checked=${all} onChange=${() => setAll(true)} />
      All events</label>
    <label class="choice"><input type="radio" name="which" checked=${!all} onChange=${() => setAll(false)} />
      These types</label>
    ${!all && html`<div class="types">${types.map((type) => html`<label class="choice" key=${type}>
        <input type="checkbox" checked=${picked.has(type)} onChange=${toggle(type)} />
        <span class="mono">${type}</span></label>`)}
      ${types.length === 0 && html`<p class="hint">No type was seen in the last 30 days, or the token does not open
        their list (scope <code>events:read</code>).</p>`}</div>
      <${Field} label="Others" hint="Also types that had no event yet, and patterns such as skus.*"
        render=${(tie) => html`<input ...${tie} type="text" spellcheck=${false} autocomplete="off" value=${more}
          placeholder="skus.*, *.destroy" onInput=${onMore} />`} />`}
    ${error && html`<p class="wrong" role="alert">${error}</p>`}
  </fieldset>`;
}

/** What was not given is left to the hub. */
function bodyOf(given, all, picked) {
  const more = given.more.split(",").map((each) => each.trim()).filter(Boolean);
  const number = (text) => (/^\d+$/.test(text.trim()) ? Number(text) : text);
  const body = { url: given.url.trim(), events: all ? ["*"] : [...new Set([...picked, ...more])] };
  if (given.order !== "none") body.order = given.order;
  for (const name of ["description", "owner_email"]) if (given[name].trim()) body[name] = given[name].trim();
  for (const name of ["max_in_flight", "rate"]) if (given[name].trim()) body[name] = number(given[name]);
  return body;
}

/** What the hub says of this member. */
function detailOf(error, name) {
  const found = (error?.errors ?? []).filter(({ source }) => source?.pointer?.split("/")[1] === name);
  return found.map(({ detail }) => detail).join(" ") || null;
}
