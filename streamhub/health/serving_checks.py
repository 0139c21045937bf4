"""What `streamhub doctor` looks at where clients are served: gateways, the streams that they hold, replays."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from typing import Final

from streamhub.core.lease import ENDED_WITHIN
from streamhub.core.replays import AT_ONCE as REPLAYS_AT_ONCE
from streamhub.health.findings import Finding, Patient

MOST_NAMED: Final = 3
GONE_FOR: Final = 60.0  # seconds since a node expired in which its consumers may well be coming back
QUEUED_FOR: Final = 30.0  # seconds; a replay that finds room waits for none of them
CUT_OFF_WITHIN: Final = 24 * 3600.0  # seconds; older ones are nobody's concern any more
LOOK_EVERY: Final = 0.5  # seconds

_NODES: Final = """
SELECT host, pid, streamhub_hub.lease_holds(expires_at) AS alive,
       greatest(0, extract(epoch FROM clock_timestamp())::float8 - extract(epoch FROM expires_at)::float8) AS gone
  FROM streamhub_hub.nodes ORDER BY alive DESC, least(expires_at, now()) DESC, host, pid
"""
_STREAMS: Final = """
SELECT stream.organization_id, coalesce(streamhub_hub.lease_holds(node.expires_at), false) AS alive,
       extract(epoch FROM clock_timestamp())::float8
       - extract(epoch FROM coalesce(node.expires_at, stream.cursor_at))::float8 AS gone
  FROM streamhub_hub.streams AS stream LEFT JOIN streamhub_hub.nodes AS node ON node.id = stream.node
 WHERE stream.node IS NOT NULL
"""
_COUNT_STREAMS: Final = f"""
SELECT count(*) FILTER (WHERE alive) AS held, count(*) FILTER (WHERE gone > $1) AS left_behind,
       max(gone) FILTER (WHERE NOT alive) AS longest,
       (array_agg(organization_id ORDER BY gone DESC) FILTER (WHERE gone > $1))[:{MOST_NAMED}] AS organizations
  FROM ({_STREAMS}) AS streams
"""
_ASKED: Final = """
SELECT stream.organization_id, stream.epoch, node.host, node.pid
  FROM streamhub_hub.streams AS stream
  JOIN streamhub_hub.nodes AS node ON node.id = stream.node AND streamhub_hub.lease_holds(node.expires_at)
 WHERE stream.ending_epoch = stream.epoch ORDER BY 1
"""
_REPLAYS: Final = """
SELECT node.host, node.pid, coalesce(streamhub_hub.lease_holds(node.expires_at), false) AS alive,
       count(*) FILTER (WHERE state = 'running') AS running, count(*) FILTER (WHERE state = 'queued') AS queued,
       count(*) FILTER (WHERE age < $1) AS recent,
       coalesce(max(age) FILTER (WHERE state = 'queued'), 0) AS longest
  FROM (SELECT *, extract(epoch FROM clock_timestamp())::float8 - extract(epoch FROM created_at)::float8 AS age
          FROM streamhub_hub.replays WHERE state IN ('queued', 'running')) AS replay
  LEFT JOIN streamhub_hub.nodes AS node ON node.id = replay.node
 GROUP BY node.id ORDER BY node.host, node.pid
"""


async def gateways(patient: Patient) -> AsyncIterator[Finding]:
    nodes = await patient.hub.fetch(_NODES)
    alive = [f"{node['host']} (process {node['pid']})" for node in nodes if node["alive"]]
    if alive:
        yield Finding("gateways", "ok", ", ".join(alive))
    else:
        yield Finding("gateways", "warn", "none runs, so nobody can connect", "streamhub serve")
    for node in nodes[len(alive) : len(alive) + MOST_NAMED]:
        yield Finding(
            "gateways",
            "warn",
            f"{node['host']} (process {node['pid']}) has not renewed its lease for {node['gone']:.0f} s",
            "if it runs, it was stopped or cannot reach the database; if it was killed, this goes within an hour",
        )


async def streams(patient: Patient) -> AsyncIterator[Finding]:
    found = await patient.hub.fetchrow(_COUNT_STREAMS, GONE_FOR)
    assert found is not None
    yield Finding("streams", "ok", f"{found['held']} held")
    if found["left_behind"]:
        yield Finding(
            "streams",
            "warn",
            f"{found['left_behind']} of gateways that are gone, for up to {found['longest']:.0f} s: "
            f"{_named(found['organizations'], found['left_behind'])}",
            "they are free: see why their consumers do not connect again",
        )
    for organization, _, host, pid in (await _never_ended(patient))[:MOST_NAMED]:
        yield Finding(
            "streams",
            "fail",
            f"{organization} was asked to end, and {host} (process {pid}) has not ended it in {ENDED_WITHIN:.0f} s",
            f"restart process {pid} on {host}; its streams are free once it has ended",
        )


async def _never_ended(patient: Patient) -> list[tuple[str, int, str, int]]:
    """The streams whose holders are alive and let all the time pass that they have for an end they were asked for."""
    asked = {tuple(row) for row in await patient.hub.fetch(_ASKED)}
    give_up = time.monotonic() + ENDED_WITHIN
    while asked and time.monotonic() < give_up:
        await asyncio.sleep(LOOK_EVERY)
        asked &= {tuple(row) for row in await patient.hub.fetch(_ASKED)}
    return sorted(asked)


async def replays(patient: Patient) -> AsyncIterator[Finding]:
    nodes = await patient.hub.fetch(_REPLAYS, CUT_OFF_WITHIN)
    alive = [node for node in nodes if node["alive"]]
    running, queued = sum(node["running"] for node in alive), sum(node["queued"] for node in alive)
    yield Finding("replays", "ok", f"{running} running, {queued} queued")
    cut_off = sum(node["recent"] for node in nodes if not node["alive"])
    if cut_off:
        yield Finding(
            "replays",
            "warn",
            f"{cut_off} of the last 24 hours were cut off when their processes died, and count no more",
            "their clients resume with Last-Event-ID; see why the processes died",
        )
    for node in alive:
        where = f"{node['host']} (process {node['pid']})"
        if node["longest"] > QUEUED_FOR and node["running"] < REPLAYS_AT_ONCE:
            yield Finding(
                "replays",
                "fail",
                f"{node['queued']} queued for up to {node['longest']:.0f} s at {where}, which runs only "
                f"{node['running']} of {REPLAYS_AT_ONCE}",
                f"restart process {node['pid']} on {node['host']}; clients resume with Last-Event-ID",
            )
        elif node["longest"] > QUEUED_FOR:
            yield Finding(
                "replays",
                "warn",
                f"{node['queued']} queued for up to {node['longest']:.0f} s at {where}, which runs {node['running']}",
                "run more processes: streamhub serve --workers, or gateways on more machines",
            )


def _named(organizations: Sequence[str], count: int) -> str:
    more = count - len(organizations)
    return ", ".join(organizations) + (f" and {more} more" if more else "")
