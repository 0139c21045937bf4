/** Sign in, then one of the pages, by the address's fragment. */
import { html, render, useEffect, useRef, useState } from "./htm-preact.js";
import { Session, isApiKey, tokenCommand } from "./api.js";
import { EndpointPage } from "./endpoint.js";
import { EventPage } from "./event.js";
import { Events } from "./events.js";
import { Health } from "./health.js";
import { Code, Field, Problem, span, useEvery } from "./parts.js";
import { Replay } from "./replay.js";
import { Webhooks } from "./webhooks.js";

const PAGES = [["events", "Events"], ["replay", "Replay"], ["webhooks", "Webhooks"], ["health", "Health"]];

const NEEDS = [
  ["Events", html`<code>events:read</code>`],
  ["Replay", "the token of an integration, no API key"],
  ["Webhooks", html`<code>webhooks:manage</code>`],
  ["Health", html`none; its checks <code>operations:read</code>, no API key`],
];

function SignIn({ onSession, ended }) {
  const [pasted, setPasted] = useState("");
  const [org, setOrg] = useState("");
  const [error, setError] = useState(ended);
  const [asks, setAsks] = useState(false);
  const token = tokenIn(pasted);
  const submit = async (event) => {
    event.preventDefault();
    setError(null);
    setAsks(true);
    try {
      const session = new Session(token, org, (over) => onSession(null, over));
      await tryOut(session);
      onSession(session);
    } catch (failure) {
      setError(failure);
    }
    setAsks(false);
  };
  return html`<main class="signin" id="main">
    <form onSubmit=${submit}>
      <h1 class="brand"><img src="dashboard/icon.svg" alt="" width="26" height="26" />${" "}Streamhub</h1>
      <p>Paste a token of your organization. It stays in this page's memory, and is gone with it.</p>
      <${Field} label="Token" hint="A JWT, or an API key." render=${(tie) => html`
        <input ...${tie} type="password" autocomplete="off" spellcheck=${false} required autofocus value=${pasted}
          onInput=${(event) => setPasted(event.target.value)} />`} />
      ${isApiKey(token) && html`<${Field} label="Organization" hint="Its slug: an API key does not tell it."
        render=${(tie) => html`<input ...${tie} type="text" spellcheck=${false} autocomplete="off" required value=${org}
          placeholder="my-org" onInput=${(event) => setOrg(event.target.value)} />`} />`}
      <${Problem} error=${error} title=${titleOf(error)} />
      <button class="primary" disabled=${asks}>${asks ? "Asking the hub …" : "Sign in"}</button>
      <div class="hint"><p>In development, this prints one for all pages:</p>
        <${Code}>${tokenCommand("my-org")}</${Code}>
        <dl class="needs">${NEEDS.map(([page, needed]) => html`<div key=${page}><dt>${page}</dt>
          <dd>${needed}</dd></div>`)}</dl></div>
    </form>
  </main>`;
}

/** What is pasted may be a line of a shell's or of a configuration, with quotes, or a header; a terminal breaks lines. */
const tokenIn = (text) =>
  text.replace(/["']/g, "").trim().replace(/^(export\s+)?TOKEN=|^(Authorization:\s*)?Bearer\s+/i, "").replace(/\s/g, "");

function titleOf(error) {
  if (error?.status === 404) return "This process serves no streams: open the dashboard of one with the role gateway";
  return error instanceof TypeError ? "This token cannot be used" : undefined;
}

/** A token that lacks one scope is a valid one: each page says what it needs. */
async function tryOut(session) {
  try {
    await session.data("/types");
  } catch (error) {
    if (error.code !== "MISSING_SCOPE") throw error;
  }
}

function Left({ at }) {
  const [now, setNow] = useState(Date.now());
  useEvery(5_000, () => setNow(Date.now()));
  const left = (at - now) / 1000;
  return html`<span class="whole ${left < 300 ? "wrong" : ""}">
    ${left > 0 ? `expires in ${span(left)}` : "expired"}</span>`;
}

function Side({ session, page, replay, onSignOut }) {
  return html`<header class="side">
    <p class="brand"><img src="dashboard/icon.svg" alt="" width="22" height="22" /> Streamhub</p>
    <nav aria-label="Pages"><ul>${PAGES.map(([name, title]) => html`<li key=${name}>
      <a href="#/${name}" aria-current=${page === name ? "page" : undefined}>${title}${name === "replay" && replay
        && html`${" "}<span class="tag">${replay}</span>`}</a></li>`)}
    </ul></nav>
    <div class="session">
      <p><strong>${session.org}</strong> <span class="tag ${session.isTest ? "test" : "live"}">
        ${session.isApiKey ? "key" : session.isTest ? "test" : "live"}</span></p>
      <p class="hint">${session.kind}${session.expiresAt && html`, <${Left} at=${session.expiresAt} />`}</p>
      <p class="actions"><button type="button" class="small" onClick=${onSignOut}>Sign out</button>
        <a href="docs" target="_blank" rel="noopener">Routes<span class="unseen"> (in a new tab)</span></a></p>
    </div>
  </header>`;
}

/** `page` is null where there is none at this address. */
function routed() {
  const parts = location.hash.replace(/^#\/?/, "").split("/");
  try {
    const [page, ...rest] = parts.map(decodeURIComponent);
    return { page: PAGES.some(([name]) => name === page) ? page : page === "" ? "events" : null, rest };
  } catch {
    return { page: null, rest: parts }; // a percent sign that begins no escape
  }
}

function Shown({ session, page, rest }) {
  if (page === null) {
    return html`<h1>No such page</h1><p class="empty">There is no page at ${location.hash}. Go to
      ${" "}<a href="#/events">the events</a>.</p>`;
  }
  if (page === "replay") return null;
  if (page === "health") return html`<${Health} session=${session} />`;
  if (page === "webhooks") {
    return rest[0]
      ? html`<${EndpointPage} key=${rest[0]} session=${session} id=${rest[0]} />`
      : html`<${Webhooks} session=${session} />`;
  }
  return rest[0] && html`<${EventPage} key=${rest[0]} session=${session} id=${rest[0]} />`;
}

function App() {
  const [session, setSession] = useState(null);
  const [ended, setEnded] = useState(null);
  const [route, setRoute] = useState(routed);
  const [replay, setReplay] = useState(null); // the state of one under way
  const visited = useRef(null); // the session that has opened the replay's page
  const main = useRef();
  useEffect(() => {
    const change = () => setRoute(routed());
    addEventListener("hashchange", change);
    return () => removeEventListener("hashchange", change);
  }, []);
  const title = PAGES.find(([name]) => name === route.page)?.[1] ?? "No such page";
  const place = route.page === null ? location.hash : `${route.page}/${route.rest.join("/")}`;
  const first = useRef(place);
  useEffect(() => {
    document.title = session ? `${title} · ${session.org} · Streamhub` : "Streamhub";
    if (session && first.current !== place) main.current?.focus({ preventScroll: true });
    first.current = place;
  }, [session, place]);
  if (session === null) {
    return html`<${SignIn} ended=${ended} onSession=${(made, over = null) => { setEnded(over); setSession(made); }} />`;
  }
  const isList = route.page === "events" && !route.rest[0];
  const isReplay = route.page === "replay";
  if (isReplay) visited.current = session;
  return html`<a class="skip" href="#main" onClick=${(event) => { event.preventDefault(); main.current.focus(); }}>
      Skip to the page</a>
    <${Side} session=${session} page=${route.page} replay=${replay} onSignOut=${() => {
      setEnded(null);
      setSession(null);
    }} />
    <main id="main" tabindex="-1" ref=${main}>
      <div hidden=${!isList}><${Events} session=${session} isShown=${isList} /></div>
      ${visited.current === session && html`<div hidden=${!isReplay}>
        <${Replay} session=${session} isShown=${isReplay} onState=${setReplay} /></div>`}
      <${Shown} session=${session} page=${route.page} rest=${route.rest} />
    </main>`;
}

render(html`<${App} />`, document.getElementById("app"));
