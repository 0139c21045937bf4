/** Health: what the hub tells of itself, charts of the last minutes, and the checks of `streamhub doctor`. */
import { html, useEffect, useRef, useState } from "./htm-preact.js";
import { operations } from "./api.js";
import { Chart } from "./charts.js";
import { Checks } from "./checks.js";
import { parsed, quantile, rate, sum } from "./metrics.js";
import { Problem, State, count, span, useEvery } from "./parts.js";

const EVERY = 2_000; // milliseconds
const READINGS = 150; // five minutes
const KINDS = ["live", "broadcast", "replay"]; // of streams
const MOVED = "The health pages are not on this port: OPERATIONS_PORT has moved /-/ready and /-/metrics to one for "
  + "operators alone.";

export function Health({ session }) {
  const [ready, setReady] = useState(null);
  const [error, setError] = useState(null);
  const [isMoved, setIsMoved] = useState(false);
  const readings = useRef([]);
  const look = async () => {
    try {
      const [state, text] = await Promise.all([operations("ready"), operations("metrics")]);
      if (state.status === 404 || text.status === 404) {
        setIsMoved(true);
        return;
      }
      readings.current = [...readings.current, { at: Date.now() / 1000, metrics: parsed(await text.text()) }]
        .slice(-READINGS);
      setReady(await state.json());
      setError(null);
    } catch (failure) {
      setError(failure);
    }
  };
  useEffect(() => void look(), [session]);
  useEvery(EVERY, () => {
    if (!isMoved) void look();
  }, [isMoved]);
  return html`<h1>Health</h1>
    ${isMoved && html`<p class="note">${MOVED}</p>`}
    ${!isMoved && html`<${Problem} error=${error} title="The hub does not answer" />`}
    ${ready && html`<${Cards} ready=${ready} metrics=${readings.current.at(-1).metrics} />
      <${Charts} readings=${readings.current} hasKafka=${ready.broker !== null} />`}
    ${!ready && !error && !isMoved && html`<p class="empty">Reading …</p>`}
    <${Checks} session=${session} />`;
}

function Cards({ ready, metrics }) {
  const depth = sum(metrics, "streamhub_outbox_depth");
  const lag = ready.lag_seconds;
  const cards = [
    ["Hub", ready.status === "ready" ? "ok" : "fail", ready.draining ? "shutting down" : ready.status],
    ["Database", ready.database === "ok" ? "ok" : "fail", ready.database === "ok" ? "answers" : ready.database],
    ["Relay", ready.leader === null ? "unknown" : ready.leader ? "ok" : "fail",
      ready.leader === null ? "unknown" : ready.leader ? "leads" : "none leads", epoch(metrics)],
    ["Log", ready.seconds_since_last_event === null ? "unknown" : "ok",
      ready.seconds_since_last_event === null ? "no event yet" : `${span(ready.seconds_since_last_event)} ago`,
      ready.seconds_since_last_event === null ? "" : "the last event"],
    ["Outbox", depth === undefined ? "unknown" : "ok", depth === undefined ? "unknown" : `${count(depth)} waiting`,
      sources(metrics)],
    ["Lag", lag === null ? "unknown" : lag > 300 ? "fail" : lag > 10 ? "warn" : "ok",
      lag === null ? "unknown" : span(lag), "the oldest unpublished change"],
    ["Kafka", ready.broker === null ? "unused" : ready.broker === "ok" ? "ok" : "fail", ready.broker ?? "not used",
      ready.broker_lag_seconds === null ? "" : `${span(ready.broker_lag_seconds)} behind`],
    ["Tail", ready.tail === "ok" ? "ok" : "warn", ready.tail],
    ["Streams", "ok", `${count(ready.live_streams)} live, ${count(ready.broadcast_streams)} broadcast`,
      "of the process that answered"],
    ["Replays", "ok", `${count(ready.replays)} under way`, "of the process that answered"],
  ];
  return html`<dl class="cards">${cards.map(([name, state, value, more]) => html`<div key=${name}>
    <dt>${name}</dt><dd><${State} state=${state}>${value}</${State}>
      ${more && html`<span class="hint">${more}</span>`}</dd></div>`)}</dl>`;
}

function epoch(metrics) {
  const found = sum(metrics, "streamhub_relay_epoch");
  return found === undefined ? "" : `epoch ${count(found)}`;
}

/** Outboxes by their source, where there are several. */
function sources(metrics) {
  const found = metrics.get("streamhub_outbox_depth") ?? [];
  return found.length < 2 ? "" : found.map(({ labels, value }) => `${labels.source} ${count(value)}`).join(", ");
}

function whole(n) {
  if (n >= 10_000) return `${Math.round(n / 1000)}k`;
  return n >= 10 || Number.isInteger(n) ? String(Math.round(n)) : n.toFixed(1);
}

const short = (seconds) => (seconds === 0 ? "0" : seconds < 1 ? `${Math.round(seconds * 1000)} ms` : span(seconds));

function Charts({ readings, hasKafka }) {
  const times = readings.map(({ at }) => at);
  const of = (name, labels) => readings.map(({ metrics }) => sum(metrics, name, labels) ?? null);
  const between = (find) => readings.map((now, n) => (n === 0 ? null : find(readings[n - 1], now)));
  const growth = (name, labels) => between((a, b) => rate(a.metrics, b.metrics, b.at - a.at, name, labels));
  const p99 = (name) => between((a, b) => quantile(0.99, a.metrics, b.metrics, name));
  const oldest = readings.map(({ metrics }) => {
    const ages = (metrics.get("streamhub_outbox_age_seconds") ?? []).map(({ value }) => value);
    return ages.length === 0 ? null : Math.max(...ages);
  });
  return html`<div class="charts">
    <${Chart} title="Published, events/s" times=${times} shown=${whole}
      series=${[{ name: "published", values: growth("streamhub_published_events_total") }]} />
    <${Chart} title="Sent, events/s" times=${times} shown=${whole} series=${KINDS.map((stream) =>
      ({ name: stream, values: growth("streamhub_sent_events_total", { stream }) }))} />
    <${Chart} title="Outbox, changes waiting" times=${times} shown=${whole}
      series=${[{ name: "waiting", values: of("streamhub_outbox_depth") }]} />
    <${Chart} title="Lag" times=${times} shown=${short} series=${[{ name: "outbox", values: oldest },
      ...(hasKafka ? [{ name: "Kafka", values: of("streamhub_kafka_lag_seconds") }] : [])]} />
    <${Chart} title="Latency, p99" times=${times} shown=${short} series=${[
      { name: "to history", values: p99("streamhub_commit_to_publish_seconds") },
      { name: "to clients", values: p99("streamhub_publish_to_client_seconds") }]} />
    <${Chart} title="Streams, all processes" times=${times} shown=${whole} series=${[
      { name: "live", values: of("streamhub_live_streams") },
      { name: "broadcast", values: of("streamhub_broadcast_streams") },
      { name: "replays", values: of("streamhub_replays") }]} />
  </div>`;
}
