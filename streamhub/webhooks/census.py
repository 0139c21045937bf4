"""How webhooks stand over all organizations, for metrics: endpoints by state, what waits, how far history was read."""

from collections.abc import Mapping
from typing import Final, NamedTuple

import asyncpg

from streamhub.core import ids
from streamhub.history.head import HEAD, head_of
from streamhub.webhooks.store import FAILING_FROM

MOST_COUNTED: Final = 100_000  # deliveries

# Of one whose row cannot be used, its events are skipped as those of a disabled one.
_WORKS: Final = "e.enabled AND q.skipped_from IS NULL"

CENSUS: Final = f"""
SELECT e.ok, e.failing, e.disabled, h.last_ms, h.last_counter, h.event_ms, due.age,
       (SELECT count(*) FROM (SELECT FROM streamhub_hub.webhook_deliveries LIMIT {MOST_COUNTED}) AS counted) AS pending,
       coalesce(c.position, (SELECT again_from FROM streamhub_hub.webhook_queues WHERE again_from IS NOT NULL
                              ORDER BY again_from LIMIT 1))::text AS position,
       extract(epoch FROM clock_timestamp())::float8 AS clock
  FROM (SELECT count(*) FILTER (WHERE {_WORKS} AND q.failures < {FAILING_FROM}) AS ok,
               count(*) FILTER (WHERE {_WORKS} AND q.failures >= {FAILING_FROM}) AS failing,
               count(*) FILTER (WHERE NOT ({_WORKS})) AS disabled
          FROM streamhub_hub.webhook_endpoints AS e JOIN streamhub_hub.webhook_queues AS q ON q.endpoint = e.id) AS e,
       (SELECT extract(epoch FROM clock_timestamp() - min(d.due_at))::float8 AS age
          FROM streamhub_hub.webhook_endpoints AS e
          JOIN streamhub_hub.webhook_queues AS q ON q.endpoint = e.id AND q.failures < {FAILING_FROM}
         CROSS JOIN LATERAL (SELECT due_at FROM streamhub_hub.webhook_deliveries AS d
                              WHERE d.endpoint = e.id AND d.due_at <= clock_timestamp() ORDER BY d.due_at LIMIT 1) AS d
         WHERE {_WORKS}) AS due,
       streamhub_hub.webhook_cursor AS c, ({HEAD}) AS h
"""
"""One row, for other statements to embed; `census_of` reads it."""

UNWELL: Final = f"""
SELECT e.id::text, e.enabled, e.disabled_reason, q.failures
  FROM streamhub_hub.webhook_endpoints AS e JOIN streamhub_hub.webhook_queues AS q ON q.endpoint = e.id
 WHERE NOT e.enabled AND e.disabled_reason IS NOT NULL OR {_WORKS} AND q.failures >= {FAILING_FROM}
 ORDER BY e.enabled, e.id
"""
"""Endpoints that the hub has disabled, and those whose last attempts failed."""


class WebhookCensus(NamedTuple):
    """`pending` is counted up to MOST_COUNTED. `due_age`: seconds since the oldest delivery was due to an endpoint that
    answers; `fan_out_lag`: since the last id that was looked at for endpoints, 0 where all were."""

    endpoints: Mapping[str, int]
    pending: int
    due_age: float
    fan_out_lag: float


def census_of(row: asyncpg.Record) -> WebhookCensus:
    position = row["position"]
    lag = 0.0
    if position is not None and position < head_of(row):
        looked_at = ids.milliseconds(position) or row["event_ms"]  # 0: it stands where a new hub's history begins
        lag = max(0.0, row["clock"] - looked_at / 1000)
    endpoints = {state: row[state] for state in ("ok", "failing", "disabled")}
    return WebhookCensus(endpoints, row["pending"], max(0.0, row["age"] or 0.0), lag)
