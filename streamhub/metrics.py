"""A process's own metrics, for Prometheus. No label names an organization.

Where several processes serve one port, prometheus-client's multiprocess mode (PROMETHEUS_MULTIPROC_DIR) sums their
metrics in each answer. Each process counts in files named by its process id or, as a worker, by its number
(`name_worker`), so that a restarted worker continues the counts of the one before.
"""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final, Literal, Protocol, TypeAlias

import prometheus_client
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest, values
from prometheus_client.metrics_core import Metric
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

from streamhub import __version__

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
MULTIPROCESS: Final = "PROMETHEUS_MULTIPROC_DIR"
# Seconds. Fine for normal latencies, coarse for those of a problem.
BUCKETS: Final = (0.001, 0.002, 0.005, 0.01, 0.02, 0.04, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)

Mode: TypeAlias = Literal["livesum", "livemax", "livemin"]

# Omit the creation time of each counter.
prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]


def name_worker(number: int) -> None:
    """Count under this number. Call it before any Metrics are created; no other running worker may have the number."""
    values.ValueClass = values.MultiProcessValue(lambda: number)  # type: ignore[no-untyped-call]


def forget_worker(number: int, directory: Path) -> None:
    """Call it when the worker has ended. Its counters stay in the sums, its gauges do not."""
    mark_process_dead(number, str(directory))  # type: ignore[no-untyped-call]


class Sent:
    """Counters of what one kind of stream sent."""

    __slots__ = ("_bytes", "_events")

    def __init__(self, events: Counter, size: Counter, stream: str) -> None:
        self._events, self._bytes = events.labels(stream), size.labels(stream)

    def count(self, events: int, size: int) -> None:
        self._events.inc(events)
        self._bytes.inc(size)


class SizedPool(Protocol):
    """A pool of connections, as asyncpg has it."""

    def get_size(self) -> int: ...
    def get_idle_size(self) -> int: ...
    def get_max_size(self) -> int: ...


class Metrics:
    """The metrics of one process. Times are in seconds."""

    def __init__(self) -> None:
        self._registry = own = CollectorRegistry()
        self._process = _ProcessOfMany(own) if MULTIPROCESS in os.environ else None
        if self._process is None:
            ProcessCollector(registry=own)
        build = Gauge(
            "streamhub_build_info", "1; its label tells the version.", ["version"], registry=own,
            multiprocess_mode="livemax",
        )  # fmt: skip
        build.labels(__version__).set(1)
        self._http = _HttpMetrics(own)
        self._state = _StateMetrics(own)
        self._relay_failures = Counter(
            "streamhub_relay_failures", "Errors after which a source was relayed again.", ["source"], registry=own
        )
        self._posted_events = Counter(
            "streamhub_posted_events", "Events taken by POST /{org}/events, repeats of a publish_id counted.",
            registry=own,
        )  # fmt: skip
        self._published_events = Counter("streamhub_published_events", "Events appended to history.", registry=own)
        self._published_bytes = Counter(
            "streamhub_published_bytes", "Bytes of the events appended to history.", registry=own
        )
        self._commit_to_publish = Histogram(
            "streamhub_commit_to_publish_seconds",
            "From the writing of an append's first change to the time of its id; one observation an append.",
            buckets=BUCKETS,
            registry=own,
        )
        self._kafka_events = Counter("streamhub_kafka_events", "Events sent to Kafka, repeats counted.", registry=own)
        self._kafka_failures = Counter(
            "streamhub_kafka_failures", "Errors after which the publisher began again.", registry=own
        )
        self._publish_to_client = Histogram(
            "streamhub_publish_to_client_seconds",
            "From the time of an event's id to its writing to the socket of a live stream; one observation a write, "
            "streams that catch up left out.",
            buckets=BUCKETS,
            registry=own,
        )
        events = Counter("streamhub_sent_events", "Events handed to clients' sockets.", ["stream"], registry=own)
        size = Counter(
            "streamhub_sent_bytes", "Bytes of the events handed to clients' sockets.", ["stream"], registry=own
        )
        self.live_sent = Sent(events, size, "live")
        self.broadcast_sent = Sent(events, size, "broadcast")
        self.replay_sent = Sent(events, size, "replay")

        def streams(name: str, documentation: str) -> Gauge:
            return Gauge(name, documentation, ["state"], registry=own, multiprocess_mode="livesum")

        self._streams = {
            "live": streams("streamhub_live_streams", "Live streams."),
            "broadcast": streams("streamhub_broadcast_streams", "Broadcast streams."),
            "replay": streams("streamhub_replays", "Replays that have not ended."),
        }
        self._live_ended = Counter(
            "streamhub_live_streams_ended", "Live streams that ended, by cause.", ["cause"], registry=own
        )
        self._broadcast_ended = Counter(
            "streamhub_broadcast_streams_ended", "Broadcast streams that ended, by cause.", ["cause"], registry=own
        )
        self._replays_ended = Counter("streamhub_replays_ended", "Replays that ended.", ["state"], registry=own)
        for state in ("completed", "cancelled", "failed"):
            self._replays_ended.labels(state)
        self._replay_wait = Histogram(
            "streamhub_replay_wait_seconds", "From the queueing of a replay to its first page.", buckets=BUCKETS,
            registry=own,
        )  # fmt: skip
        self._replay_duration = Histogram(
            "streamhub_replay_duration_seconds", "From the queueing of a replay to its end, however it ended.",
            buckets=(*BUCKETS, 1800, 7200), registry=own,
        )  # fmt: skip

        self._webhook_deliveries = Counter(
            "streamhub_webhook_deliveries", "Deliveries made of events, one an endpoint.", registry=own
        )
        self._webhook_ended = Counter(
            "streamhub_webhook_deliveries_ended",
            "Deliveries that ended: delivered, or given up after the last attempt.",
            ["state"],
            registry=own,
        )
        for state in ("delivered", "failed"):
            self._webhook_ended.labels(state)
        self._webhook_attempts = Counter(
            "streamhub_webhook_attempts", "Attempts to deliver that ended, by outcome.", ["outcome"], registry=own
        )
        self._webhook_outcomes = {each: self._webhook_attempts.labels(each) for each in ("delivered", "failed")}
        self._webhook_latency = Histogram(
            "streamhub_webhook_attempt_seconds", "Time that attempts to deliver took.", buckets=BUCKETS, registry=own
        )
        self._webhook_lag = Histogram(
            "streamhub_webhook_lag_seconds",
            "From the making of a delivery to the beginning of its first attempt.",
            buckets=BUCKETS,
            registry=own,
        )
        self._webhook_disabled = Counter(
            "streamhub_webhook_endpoints_disabled",
            "Endpoints that were disabled because deliveries failed, by whether the owner was told by e-mail.",
            ["told"],
            registry=own,
        )
        for told in ("yes", "no"):
            self._webhook_disabled.labels(told)

    def webhooks_fanned_out(self, deliveries: int) -> None:
        self._webhook_deliveries.inc(deliveries)

    def webhook_attempt(self, outcome: str, seconds: float, lag: float | None) -> None:
        """Count an attempt that ended. `lag`: seconds until it began, of a delivery's first."""
        self._webhook_outcomes[outcome].inc()
        self._webhook_latency.observe(seconds)
        if lag is not None:
            self._webhook_lag.observe(max(0.0, lag))

    def webhook_ended(self, state: str) -> None:
        self._webhook_ended.labels(state).inc()

    def webhook_disabled(self, *, told: bool) -> None:
        self._webhook_disabled.labels("yes" if told else "no").inc()

    def sent_to_kafka(self, events: int) -> None:
        self._kafka_events.inc(events)

    def kafka_failed(self) -> None:
        self._kafka_failures.inc()

    def published(self, events: int, size: int, waited: float) -> None:
        """Count an append. `waited`: seconds since its first change was written."""
        self._published_events.inc(events)
        self._published_bytes.inc(size)
        self._commit_to_publish.observe(max(0.0, waited))

    def delivered(self, after: float) -> None:
        """Count a write to a live stream, `after` seconds from the publication of its last event."""
        self._publish_to_client.observe(max(0.0, after))

    def live_ended(self, cause: str) -> None:
        self._live_ended.labels(cause).inc()

    def broadcast_ended(self, cause: str) -> None:
        self._broadcast_ended.labels(cause).inc()

    def replay_began(self, waited: float) -> None:
        """Count a replay that was queued for `waited` seconds."""
        self._replay_wait.observe(waited)

    def replay_ended(self, state: str, seconds: float) -> None:
        """Count a replay that ended, `seconds` after it was queued."""
        self._replays_ended.labels(state).inc()
        self._replay_duration.observe(seconds)

    def relay_failed(self, source: str) -> None:
        self._relay_failures.labels(source).inc()

    def posted(self, events: int) -> None:
        self._posted_events.inc(events)

    def answered(self, status: int, code: str | None, seconds: float | None) -> None:
        """Count a request. `code`: of its refusal; `seconds` until its answer, None of a stream."""
        self._http.answered(status, code, seconds)

    def authenticated(self, *, by_key: bool) -> None:
        """Count a request whose token was valid."""
        self._http.authenticated(by_key=by_key)

    def watch_pool(self, name: str, pool: SizedPool) -> None:
        """Tell of this pool's connections from now on."""
        self._state.pools[name] = pool

    def count_state(
        self, *, connections: int, most_connections: int, trusted: bool, degraded: bool, loop_lag: float
    ) -> None:
        """What the process is like now. `loop_lag`: by how many seconds the event loop was late."""
        self._state.count(connections, most_connections, trusted, degraded, loop_lag)

    def count_streams(self, kind: str, counts: Mapping[str, int]) -> None:
        """How many streams of a kind (`live`, `broadcast`, `replay`) there are now, by state."""
        for state, count in counts.items():
            self._streams[kind].labels(state).set(count)

    def count_process(self) -> None:
        """In multiprocess mode: update this process's memory, files and CPU time."""
        if self._process is not None:
            self._process.count()

    def exposition(self, facts: Iterable[Metric]) -> bytes:
        """All metrics in Prometheus's text format, with `facts`, which are not counted by this process."""
        registry = self._registry
        if MULTIPROCESS in os.environ:
            registry = CollectorRegistry()
            MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        others = CollectorRegistry()
        others.register(_Facts(list(facts)))
        return generate_latest(registry) + generate_latest(others)


class _HttpMetrics:
    """Requests, `/-/…` left out."""

    def __init__(self, registry: CollectorRegistry) -> None:
        requests = Counter(
            "streamhub_http_requests",
            "Requests answered, by class of status; a stream counts at its end. /-/… is left out.",
            ["status"],
            registry=registry,
        )
        self._requests = {n: requests.labels(f"{n}xx") for n in (2, 3, 4, 5)}
        self._seconds = Histogram(
            "streamhub_http_request_duration_seconds",
            "From a request's first handling to its answer; streams and /-/… are left out.",
            buckets=BUCKETS,
            registry=registry,
        )
        self._refusals = Counter(
            "streamhub_http_refusals", "Requests refused, by the code of the error.", ["code"], registry=registry
        )
        authenticated = Counter(
            "streamhub_http_authenticated", "Requests with a valid token, by its kind.", ["token"], registry=registry
        )
        self._authenticated = {by_key: authenticated.labels(("jwt", "api_key")[by_key]) for by_key in (False, True)}

    def answered(self, status: int, code: str | None, seconds: float | None) -> None:
        if (found := self._requests.get(status // 100)) is not None:
            found.inc()
        if code is not None:
            self._refusals.labels(code).inc()
        if seconds is not None:
            self._seconds.observe(seconds)

    def authenticated(self, *, by_key: bool) -> None:
        self._authenticated[by_key].inc()


class _StateMetrics:
    """What a process is like at a moment."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.pools: dict[str, SizedPool] = {}

        def gauge(name: str, documentation: str, labels: tuple[str, ...] = (), mode: Mode = "livesum") -> Gauge:
            return Gauge(name, documentation, labels, registry=registry, multiprocess_mode=mode)

        self._connections = gauge("streamhub_http_connections", "HTTP connections that are open.")
        self._most_connections = gauge(
            "streamhub_http_connections_limit", "HTTP connections that the limit of open files allows."
        )
        self._pool = gauge(
            "streamhub_database_connections", "Connections to the hub's database, by pool.", ("pool", "state")
        )
        self._most_pool = gauge("streamhub_database_connections_limit", "The most of them, by pool.", ("pool",))
        self._trusted = gauge(
            "streamhub_node_trusted", "1 where the hub's database renews what this process's leases rest on.",
            mode="livemin",
        )  # fmt: skip
        self._degraded = gauge(
            "streamhub_tail_degraded", "1 while streams are fed from history, as their engine fails.", mode="livemax"
        )
        self._loop_lag = gauge(
            "streamhub_event_loop_lag_seconds", "By how much the event loop was late, the last time it was looked at.",
            mode="livemax",
        )  # fmt: skip

    def count(self, connections: int, most: int, trusted: bool, degraded: bool, loop_lag: float) -> None:
        self._connections.set(connections)
        self._most_connections.set(most)
        self._trusted.set(trusted)
        self._degraded.set(degraded)
        self._loop_lag.set(loop_lag)
        for name, pool in self.pools.items():
            idle = pool.get_idle_size()
            self._pool.labels(name, "idle").set(idle)
            self._pool.labels(name, "busy").set(pool.get_size() - idle)
            self._most_pool.labels(name).set(pool.get_max_size())


class _ProcessOfMany:
    """Process metrics that sum over all processes; the start time is the youngest one's."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._own = ProcessCollector(registry=None)
        self._cpu_seconds = 0.0
        self._cpu = Counter("process_cpu_seconds", "User and system CPU time.", registry=registry)
        self._gauges = {
            name: Gauge(name, text, registry=registry, multiprocess_mode="livesum")
            for name, text in (
                ("process_resident_memory_bytes", "Resident memory."),
                ("process_virtual_memory_bytes", "Virtual memory."),
                ("process_open_fds", "Open file descriptors."),
                ("process_max_fds", "How many may be open."),
            )
        }
        name, text = "process_start_time_seconds", "When the youngest process started, since the epoch."
        self._gauges[name] = Gauge(name, text, registry=registry, multiprocess_mode="livemax")

    def count(self) -> None:
        for metric in self._own.collect():
            for sample in metric.samples:
                if sample.name == "process_cpu_seconds_total":
                    self._cpu.inc(sample.value - self._cpu_seconds)
                    self._cpu_seconds = sample.value
                elif sample.name in self._gauges:
                    self._gauges[sample.name].set(sample.value)


class _Facts:
    def __init__(self, facts: list[Metric]) -> None:
        self._facts = facts

    def collect(self) -> Iterable[Metric]:
        return self._facts
