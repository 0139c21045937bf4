/** The page of one event: what changed, and what else happened to its resource. */
import { html, useMemo, useState } from "./htm-preact.js";
import { known, newerOf } from "./events.js";
import { eventOf, isId, msOf, ofResource } from "./history.js";
import { Copy, Problem, Type, When, moment, useEvery, useLoaded } from "./parts.js";

export function EventPage({ session, id }) {
  if (isId(id)) return html`<${Sought} session=${session} id=${id} />`;
  return html`<p class="crumbs"><a href="#/events">Events</a></p>
    <p class="empty">${JSON.stringify(id)} is no event's id: give one such as
      ${" "}01a202b2-c57c-7000-8000-00000000002a.</p>`;
}

function Sought({ session, id }) {
  const [event, error] = useLoaded(async (signal) => known(id) ?? await eventOf(session, id, signal), [session, id]);
  return html`<p class="crumbs"><a href="#/events">Events</a></p>
    ${error && html`<${Problem} error=${error} session=${session} title="This event cannot be shown" />`}
    ${event === undefined && !error && html`<p class="empty">Looking for the event …</p>`}
    ${event === null && html`<p class="empty">There is no event ${id} in this environment${session.isIntegration ? ""
      : " within the last 30 minutes, which is how far this token goes back"}.</p>`}
    ${event && html`<${Shown} event=${event} session=${session} />`}`;
}

function Shown({ event, session }) {
  return html`<div class="heading"><h1><${Type} type=${event.type} event=${event.event} /></h1>
      ${event.test && html`<span class="tag test">test</span>`}
      ${event.backfill && html`<span class="tag">backfill</span>`}</div>
    <p class="id"><code>${event.id}</code> <${Copy} text=${event.id} label="Copy the id" /></p>
    <div class="split">
      <div>
        <${Facts} event=${event} />
        <${Body} event=${event} />
        <${Raw} event=${event} />
      </div>
      ${event.resource_id && html`<${Beside} event=${event} session=${session} />`}
    </div>`;
}

function Facts({ event }) {
  const facts = [
    ["Resource", event.resource_id && html`<span class="mono">${event.resource_type} ${event.resource_id}</span>`],
    ["Written", html`<${When} at=${event.created_at} />`],
    ["Published", html`<${When} at=${msOf(event.id)} />`],
    ["Transaction", event.transaction_id && html`<span class="mono">${event.transaction_id}</span>`],
    ["Publish id", event.publish_id && html`<span class="mono">${event.publish_id}</span>`],
    ["Who", event.who !== null && event.who !== undefined && html`<code>${typeof event.who === "string"
      ? event.who : JSON.stringify(event.who)}</code>`],
  ];
  return html`<dl class="facts">${facts.filter(([, value]) => value).map(([name, value]) => html`
    <div key=${name}><dt>${name}</dt><dd>${value}</dd></div>`)}</dl>`;
}

function Body({ event }) {
  if (event.too_large) return html`<p class="note">The event is too large to be carried: read the row itself.</p>`;
  if (event.error) return html`<p class="note">The event could not be rendered: ${textOf(event.error)}</p>`;
  if (event.data !== undefined) {
    return html`<h2>Data</h2><pre class="code" tabindex="0"><code>${JSON.stringify(event.data, null, 2)}</code></pre>`;
  }
  return html`<${Diff} event=${event} />`;
}

/** The delta as a diff; below it the columns that did not change. */
function Diff({ event }) {
  const changed = Object.entries(event.delta ?? {});
  const rest = Object.entries(event.resource ?? {}).filter(([name]) => !(name in (event.delta ?? {})));
  return html`<h2>Changes</h2>
    ${changed.length === 0 && html`<p class="hint">No column that may be shown has changed.</p>`}
    ${changed.length > 0 && html`<div class="wide" role="region" aria-label="Changes" tabindex="0"><table class="diff">
      <thead><tr><th scope="col">Column</th><th scope="col">Before</th><th scope="col">After</th></tr></thead>
      <tbody>${changed.map(([name, { from, to }]) => html`<tr key=${name}><th scope="row">${name}</th>
        <${Side} value=${from} sign="−" tone="minus" /><${Side} value=${to} sign="+" tone="plus" /></tr>`)}</tbody>
    </table></div>`}
    ${rest.length > 0 && html`<details class="rest" open=${changed.length === 0}>
      <summary>Unchanged columns (${rest.length})</summary>
      <div class="wide" role="region" aria-label="Unchanged columns" tabindex="0"><table class="diff">
        <thead><tr><th scope="col">Column</th><th scope="col">Value</th></tr></thead>
        <tbody>${rest.map(([name, value]) => html`<tr key=${name}><th scope="row">${name}</th>
          <td>${value === null ? html`<span class="null">null</span>`
            : html`<code>${textOf(value)}</code>`}</td></tr>`)}
        </tbody></table></div></details>`}`;
}

function Side({ value, sign, tone }) {
  if (value === null || value === undefined) return html`<td><span class="null">null</span></td>`;
  const spoken = tone === "plus" ? "after" : "before";
  return html`<td class=${tone}><span aria-label=${spoken} role="img">${sign}</span>${" "}
    <code>${textOf(value)}</code></td>`;
}

function textOf(value) {
  return typeof value === "string" ? value : JSON.stringify(value, null, typeof value === "object" ? 2 : 0);
}

function Raw({ event }) {
  const text = useMemo(() => JSON.stringify(event, null, 2), [event]);
  return html`<details class="rest"><summary>The whole event</summary>
    <p class="actions"><${Copy} text=${text} label="Copy the event" /></p>
    <pre class="code" tabindex="0" aria-label="The event as JSON"><code>${text}</code></pre></details>`;
}

function Beside({ event, session }) {
  const [history, error, again] = useLoaded((signal) => ofResource(session, event, signal), [session, event.id]);
  const [newer, setNewer] = useState(0);
  const last = history && !history.isCut ? history.events[0]?.id ?? event.id : null; // null: more may lie between
  const count = () => setNewer(last === null ? 0 : newerOf(event.resource_type, event.resource_id, last));
  useEvery(1_000, count, [last]);
  return html`<aside aria-labelledby="beside"><h2 id="beside">History of ${event.resource_id}</h2>
    ${error && html`<${Problem} error=${error} session=${session} title="It cannot be shown" />`}
    ${!history && !error && html`<p class="hint">Reading …</p>`}
    ${newer > 0 && html`<p><button type="button" class="small" onClick=${() => { setNewer(0); again(); }}>
      ${newer} newer</button></p>`}
    ${history && html`<ol class="history">${history.events.map((each) => html`<li key=${each.id}
        aria-current=${each.id === event.id ? "true" : undefined}>
        <a href="#/events/${each.id}"><${Type} type=${each.event} event=${each.event} /></a>
        <span class="mono hint">${moment(msOf(each.id))}</span>
        <span class="hint names">${namesIn(each)}</span></li>`)}</ol>
      <p class="hint">${history.events.length === 0 ? "Nothing " : "Its events "}${history.reach}${history.isCut
        ? ", the nearest ones" : ""}.</p>`}
  </aside>`;
}

/** Which columns an update touched. */
function namesIn(event) {
  return event.event === "create" || event.event === "destroy" ? "" : Object.keys(event.delta ?? {}).join(", ");
}

