/** The checks of `streamhub doctor`, what is wrong first, each with its remedy. */
import { html, useState } from "./htm-preact.js";
import { tokenCommand } from "./api.js";
import { Code, Copy, Problem, State, When, useLoaded } from "./parts.js";

const SCOPE = "operations:read";
const ORDER = { fail: 0, warn: 1, ok: 2 };

export function Checks({ session }) {
  const [found, error, again] = useLoaded(async () => await session.own("checks"), [session]);
  const [showsAll, setShowsAll] = useState(false);
  const findings = [...(found?.findings ?? [])].sort((a, b) => ORDER[a.state] - ORDER[b.state]);
  const wrong = findings.filter(({ state }) => state !== "ok");
  return html`<div class="heading spaced"><h2>Checks</h2>
      ${found && html`<span class="hint">of <${When} at=${found.checked_at} /></span>`}
      <span class="grow"></span><button type="button" class="small" onClick=${again}>Check again</button></div>
    ${!found && !error && html`<p class="hint" role="status">Checking databases, triggers, streams and keys …</p>`}
    ${error && error.code === "MISSING_SCOPE" ? html`<${Missing} session=${session} />`
      : html`<${Problem} error=${error} session=${session} title="The checks cannot be shown" />`}
    ${found && wrong.length === 0 && html`<p><${State} state="ok">all ${findings.length} checks passed</${State}></p>`}
    ${found && (wrong.length > 0 || showsAll) && html`<${Table} findings=${showsAll ? findings : wrong} />`}
    ${found && html`<p class="actions"><button type="button" class="small" aria-expanded=${showsAll}
      onClick=${() => setShowsAll(!showsAll)}>${showsAll ? "Show what is wrong alone"
        : `Show all ${findings.length} checks`}</button></p>`}`;
}

function Missing({ session }) {
  return html`<div class="note"><p>The checks tell of all organizations, tables and processes, so they need a token with
    the scope <code>${SCOPE}</code>. On the server, <code>streamhub doctor</code> prints the same. In development, this
    prints a token for all pages:</p><${Code}>${tokenCommand(session.org, session.isTest)}</${Code}></div>`;
}

function Table({ findings }) {
  return html`<div class="wide" role="region" aria-label="Checks" tabindex="0"><table class="checks">
    <thead><tr><th scope="col">State</th><th scope="col">Check</th><th scope="col">What was found</th></tr></thead>
    <tbody>${findings.map(({ check, state, detail, fix }, n) => html`<tr key=${n}>
      <td><${State} state=${state} /></td><th scope="row">${check}</th>
      <td>${detail}${fix && html`<p class="fix"><span>Remedy:</span> <code>${fix}</code>${" "}
        <${Copy} text=${fix} label="Copy the remedy" /></p>`}</td></tr>`)}</tbody>
  </table></div>`;
}
