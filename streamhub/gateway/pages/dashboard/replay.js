/** Replay: a piece of history, its progress, the check of what came, and the file. Below it the jobs there were. */
import { html, useEffect, useRef, useState } from "./htm-preact.js";
import { Filters, NOTHING_ASKED, choiceOf, isAtFields, wordsOf } from "./filters.js";
import { queryOf } from "./history.js";
import {
  Confirm, Field, Problem, State, When, bytes, count, plural, span, useEvery, useLoaded, utcOf,
} from "./parts.js";
import { MOST_KEPT, Replaying } from "./replaying.js";

const PRESETS = [["15 min", 15 * 60_000], ["1 hour", 3_600_000], ["1 day", 86_400_000], ["7 days", 604_800_000]];
const PAINT_EVERY = 250; // milliseconds

/** As an input of type datetime-local has it, in UTC. */
const inputOf = (ms) => new Date(ms).toISOString().slice(0, 19);
const upToNow = (length) => ({ from: inputOf(Date.now() - length + 1000), to: inputOf(Date.now() + 1000) });

/** It stays when another page is shown, so the replay under way goes on: one at a time, at most MOST_KEPT bytes of it.
 * `onState` is told the state of a replay that is not in sight: null where there is none, or its end was seen. */
export function Replay({ session, isShown, onState }) {
  const [range, setRange] = useState(() => upToNow(3_600_000));
  const [asked, setAsked] = useState(NOTHING_ASKED);
  const [, setPaints] = useState(0);
  const current = useRef(null);
  const [types] = useLoaded((signal) => session.data("/types", { signal }), [session]);
  const [jobs, jobsError, reload] = useLoaded((signal) => session.data("/replays", { signal }), [session]);
  useEvery(3_000, () => {
    if (isShown && jobsError && !jobsError.isFinal) reload();
  }, [jobsError, isShown]);
  const wasShown = useRef(isShown);
  useEffect(() => {
    if (isShown && !wasShown.current) reload();
    wasShown.current = isShown;
  }, [isShown]);
  const run = current.current;
  const refusal = run?.isRefused ? run.problem : null;
  const form = useRef();
  useEffect(() => {
    if (isShown) form.current.querySelector("[aria-invalid]")?.focus();
  }, [refusal]);
  const seen = useRef(null); // the run whose end was seen
  if (isShown && run?.isOver) seen.current = run;
  const state = run !== null && run !== seen.current ? run.state : null;
  useEffect(() => onState(isShown ? null : state), [isShown, state]);
  useEffect(() => () => {
    current.current?.cancel();
    onState(null);
  }, []);
  const start = (event) => {
    event.preventDefault();
    const mine = current.current = new Replaying();
    mine.choice = choiceOf(asked);
    const query = [["date_from", range.from], ["date_to", range.to]].filter(([, at]) => at)
      .map(([name, at]) => [name, utcOf(at)]).concat(queryOf(mine.choice));
    let timer = null;
    void mine.run(session, query, () => {
      timer ??= setTimeout(() => {
        timer = null;
        setPaints((n) => n + 1);
        if (mine.isOver) reload();
      }, PAINT_EVERY);
    });
    setPaints((n) => n + 1);
  };
  const set = (name) => (event) => setRange({ ...range, [name]: event.target.value });
  const preset = (length) => () => setRange(upToNow(length));
  const time = (name) => (tie) => html`<input ...${tie} type="datetime-local" step="1" value=${range[name]}
    onInput=${set(name)} />`;
  return html`<h1>Replay</h1>
    <p class="hint">All events of a window of time, at most 7 days, checked against the hub's sha256.</p>
    <form class="panel spaced" ref=${form} onSubmit=${start}>
      <div class="row">
        <${Field} label="From (UTC)" name="date_from" error=${wordsOf(refusal, "date_from")} render=${time("from")} />
        <${Field} label="To (UTC)" name="date_to" error=${wordsOf(refusal, "date_to")} render=${time("to")} />
        <div class="field" role="group" aria-label="Windows up to now"><span class="label">Up to now</span>
          <span class="presets">${PRESETS.map(([name, length]) => html`
            <button key=${name} type="button" onClick=${preset(length)}>${name}</button>`)}</span></div>
      </div>
      <${Filters} value=${asked} onChange=${setAsked} types=${types ?? []} error=${refusal} />
      <p class="actions"><button class="primary" disabled=${run && !run.isOver}>Start</button>
        ${run && !run.isOver && html`<button type="button" onClick=${() => { run.cancel(); }}>Cancel</button>`}</p>
    </form>
    ${refusal && !isAtFields(refusal, run.choice, ["date_from", "date_to"]) && html`
      <${Problem} error=${refusal} session=${session} title="The replay was not started" />`}
    ${run && !refusal && html`<${Run} key=${run.startedAt} run=${run} session=${session} />`}
    <h2>Jobs of this environment</h2>
    <${Problem} error=${jobsError} session=${session} title="The jobs cannot be listed" />
    ${jobs && html`<${Jobs} jobs=${jobs} session=${session} isShown=${isShown} onChange=${reload} />`}`;
}

function Run({ run, session }) {
  const [job, setJob] = useState(null);
  const [url, setUrl] = useState(null);
  useEvery(1_000, async () => {
    if (run.jobId !== null && !run.isOver) setJob(await session.data(`/replays/${run.jobId}`).catch(() => null));
  }, [run]);
  useEffect(() => {
    const file = run.state === "completed" ? run.file() : null;
    if (file === null) return undefined;
    const made = URL.createObjectURL(file);
    setUrl(made);
    return () => URL.revokeObjectURL(made);
  }, [run.state]);
  const seconds = ((run.endedAt ?? performance.now()) - run.startedAt) / 1000;
  const name = `${session.org}-${(run.window?.date_from ?? "resources").slice(0, 19).replace(/:/g, "")}.ndjson`;
  const done = run.state === "completed" ? 1 : run.isOver ? job?.progress ?? 0 : job?.progress;
  return html`<section class="panel" aria-label="The replay">
    <div class="heading"><${State} state=${run.state} /> <span class="grow"></span>
      <span class="hint">${plural(run.events, "event")}, ${bytes(run.bytes)} in ${span(seconds)}</span></div>
    <progress aria-label="Progress" max="1" value=${done}></progress>
    <${Problem} error=${run.problem} session=${session} title="The replay ended before its end" />
    ${run.complete && html`<${Result} run=${run} />`}
    ${url && html`<p class="actions"><a class="button" href=${url} download=${name}>Download ${bytes(run.bytes)}</a>
      <span class="hint">${name}, one event a line</span></p>`}
    ${run.isTooLarge && html`<p class="note">Over ${bytes(MOST_KEPT)} are too many to be kept in a page. The command
      writes them to a file: <code>streamhub replay -o events.ndjson</code></p>`}
  </section>`;
}

/** What the hub counted beside what came. */
function Result({ run }) {
  const { complete } = run;
  return html`<div role="status"><dl class="facts result">
    <div><dt>Check</dt><dd>${run.isRight
      ? html`<${State} state="ok">complete: the sha256 is the hub's</${State}>`
      : html`<${State} state="fail">what came is not what the hub sent: run it again</${State}>`}</dd></div>
    <div><dt>Events</dt><dd>${count(run.events)} of ${count(complete.events)}</dd></div>
    <div class="all"><dt>sha256</dt><dd class="mono">${run.sha256}</dd></div>
    ${!run.isRight && html`<div class="all"><dt>The hub's</dt><dd class="mono">${complete.sha256}</dd></div>`}
    ${complete.first_id && html`<div class="all"><dt>First and last</dt>
      <dd class="mono">${complete.first_id}<br />${complete.last_id}</dd></div>`}
  </dl></div>`;
}

function Jobs({ jobs, session, isShown, onChange }) {
  const [error, setError] = useState(null);
  const [showsAll, setShowsAll] = useState(false);
  const shown = showsAll ? jobs : jobs.filter(({ job_id: id }) => !session.lookUps.has(id));
  const left = jobs.length - shown.length;
  useEvery(3_000, () => {
    if (isShown && jobs.some(({ state }) => state === "running" || state === "queued")) onChange();
  }, [jobs, isShown]);
  const end = async (id) => {
    try {
      await session.request(`/replays/${id}`, { method: "DELETE" });
      setError(null);
    } catch (failure) {
      setError(failure);
    }
    onChange();
  };
  return html`<${Problem} error=${error} session=${session} />
    ${shown.length === 0 && html`<p class="empty">No replay has run yet.</p>`}
    ${shown.length > 0 && html`<div class="wide" role="region" aria-label="Jobs" tabindex="0"><table>
      <thead><tr><th scope="col">Created</th><th scope="col">State</th><th scope="col">Events</th>
        <th scope="col">Asked for</th><th scope="col"><span class="unseen">Action</span></th></tr></thead>
      <tbody>${shown.map((job) => html`<tr key=${job.job_id}>
        <td><${When} at=${job.created_at} /></td>
        <td><${State} state=${job.state}>${job.state}${job.state === "running"
          ? ` ${Math.floor(job.progress * 100)} %` : ""}</${State}></td>
        <td class="number">${count(job.events)}</td>
        <td class="mono asked">${askedIn(job.request)}</td>
        <td>${["queued", "running"].includes(job.state) && html`<${Confirm} label="Cancel" sure="Cancel it"
          question="End this replay?" onSure=${() => end(job.job_id)} />`}</td></tr>`)}</tbody>
    </table></div>`}
    ${left > 0 && html`<p class="actions"><span class="hint">${plural(left, "look-up")} of this dashboard (a seek, a
      resource's history) ${left === 1 ? "is" : "are"} left out.</span>
      <button type="button" class="small" onClick=${() => setShowsAll(true)}>Show all jobs</button></p>`}`;
}

function askedIn({ date_from: from, date_to: to, ...rest }) {
  const day = (at) => (at ? at.replace("T", " ").slice(0, 19) : "…");
  const others = Object.entries(rest).filter(([, value]) => value !== null)
    .map(([name, value]) => (name === "filters"
      ? Object.entries(value).map(([path, text]) => `${path}=${text}`).join(" ") : `${name}=${value}`));
  return [from || to ? `${day(from)} to ${day(to)}` : "", ...others].filter(Boolean).join(" ");
}
