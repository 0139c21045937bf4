/** What it means that an endpoint is failing: its last error, and when the hub tries again. */
import { html } from "./htm-preact.js";
import { When, span, useEvery, useLoaded } from "./parts.js";

const PAGE = 100;
const MOST_PAGES = 5; // the oldest that wait were tried, and they come last

export function Failing({ session, path }) {
  const [found, , again] = useLoaded((signal) => lookUp(session, path, signal), [session, path]);
  useEvery(10_000, again);
  return html`<div class="note"><p>Failing: ten or more attempts in a row have failed. The hub tries one delivery at a
      time now, with pauses of up to a minute, until one succeeds. What comes meanwhile waits.</p>
    ${found?.last && html`<p>Last error, at <${When} at=${found.last.at} />: <strong>${found.last.error}</strong>. Next
      try: ${inTime(found.next)}.</p>`}</div>`;
}

/** The attempt that failed last, and when the next one is due, in milliseconds; null where it is not known. */
async function lookUp(session, path, signal) {
  const listed = (query) => session.data(`${path}/deliveries`, { query, signal });
  const found = await listed([["state", "failed"], ["limit", 20]]);
  const pending = [];
  for (let n = 0; n < MOST_PAGES; n += 1) {
    const before = n > 0 ? [["before", pending.at(-1).id]] : [];
    const page = await listed([["state", "pending"], ["limit", PAGE], ...before]);
    pending.push(...page);
    if (page.length < PAGE) break;
  }
  const failures = [...found, ...pending].map(({ attempts }) => attempts.at(-1)).filter((each) => each?.error);
  const dues = pending.map(({ next_attempt_at: at }) => Date.parse(at)).filter((ms) => !Number.isNaN(ms));
  return {
    last: failures.reduce((last, each) => (last === null || each.at > last.at ? each : last), null),
    next: dues.length > 0 ? Math.min(...dues) : null,
  };
}

function inTime(ms) {
  const seconds = ms === null ? 0 : (ms - Date.now()) / 1000;
  return seconds > 60 ? `in ${span(seconds)}` : "within about a minute";
}
