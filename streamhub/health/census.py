"""Counts and sizes over the whole hub, for metrics. They cost more than other facts, so they are kept for longer."""

from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple

import asyncpg
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric

from streamhub.health import incidents
from streamhub.history import partitions
from streamhub.keys import store as keys
from streamhub.leases import nodes, streams
from streamhub.webhooks import census as webhooks
from streamhub.webhooks.census import WebhookCensus

KEPT_FOR: Final = 10.0  # seconds

CENSUS: Final = f"""
SELECT (SELECT count(*) FROM ({nodes.ALIVE}) AS alive) AS nodes, ({streams.HELD}) AS leases,
       ({incidents.OF_LAST_DAY}) AS incidents, ({partitions.SIZE}) AS history_bytes, k.*, w.*
  FROM ({keys.COUNTS}) AS k, ({webhooks.CENSUS}) AS w
"""
"""One row."""


class Census(NamedTuple):
    """`leases`: live streams that a gateway has; `incidents` of the last 24 hours; `api_keys` by state."""

    nodes: int
    leases: int
    incidents: int
    history_bytes: int
    api_keys: Mapping[str, int]
    webhooks: WebhookCensus


NOTHING: Final = Census(
    0, 0, 0, 0, dict.fromkeys(keys.STATES, 0), WebhookCensus({"ok": 0, "failing": 0, "disabled": 0}, 0, 0.0, 0.0)
)


def census_of(row: asyncpg.Record) -> Census:
    return Census(
        row["nodes"], row["leases"], row["incidents"], row["history_bytes"],
        {state: row[f"{state}_keys"] for state in keys.STATES}, webhooks.census_of(row),
    )  # fmt: skip


def families(census: Census) -> Iterator[Metric]:
    yield GaugeMetricFamily("streamhub_nodes", "Processes whose row in the hub holds.", value=census.nodes)
    yield GaugeMetricFamily("streamhub_live_leases", "Live streams that a gateway has.", value=census.leases)
    yield GaugeMetricFamily("streamhub_recent_incidents", "Incidents of the last 24 hours.", value=census.incidents)
    yield GaugeMetricFamily(
        "streamhub_history_bytes", "Size of history on disk, with its indexes.", value=census.history_bytes
    )
    yield _by_state("streamhub_api_keys", "API keys, by state.", census.api_keys)
    yield _by_state("streamhub_webhook_endpoints", "Webhook endpoints, by state.", census.webhooks.endpoints)
    yield GaugeMetricFamily(
        "streamhub_webhook_pending_deliveries",
        f"Deliveries still to be made, those that wait for a retry among them; counted up to {webhooks.MOST_COUNTED}.",
        value=census.webhooks.pending,
    )
    yield GaugeMetricFamily(
        "streamhub_webhook_due_age_seconds",
        "Time since the oldest delivery that is due was due, of endpoints that are ok.",
        value=census.webhooks.due_age,
    )
    yield GaugeMetricFamily(
        "streamhub_webhook_fan_out_lag_seconds",
        "Time since the last id up to which events were made deliveries; 0 where all were.",
        value=census.webhooks.fan_out_lag,
    )


def _by_state(name: str, documentation: str, counts: Mapping[str, int]) -> Metric:
    family = GaugeMetricFamily(name, documentation, labels=["state"])
    for state, count in counts.items():
        family.add_metric([state], count)
    return family
