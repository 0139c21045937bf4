"""What `streamhub doctor` looks at where clients are served: gateways, streams that they hold, replays, webhooks."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from typing import Final

import asyncpg

from streamhub.core.lease import ENDED_WITHIN
from streamhub.core.replays import AT_ONCE as REPLAYS_AT_ONCE
from streamhub.health.findings import Finding, Patient
from streamhub.leases import jobs as job_rows
from streamhub.leases import nodes as node_rows
from streamhub.leases import streams as stream_rows
from streamhub.webhooks import census, store

MOST_NAMED: Final = 3
GONE_FOR: Final = 60.0  # seconds since a node expired in which its consumers may well be coming back
QUEUED_FOR: Final = 30.0  # seconds; a replay that finds room waits for none of them
CUT_OFF_WITHIN: Final = 24 * 3600.0  # seconds; older ones no longer matter
LOOK_EVERY: Final = 0.5  # seconds
LOOKED_AT_WITHIN: Final = 60.0  # seconds; a dispatcher looks within one


async def gateways(patient: Patient) -> AsyncIterator[Finding]:
    nodes = await patient.hub.fetch(node_rows.SEEN)
    alive = [f"{node['host']} (process {node['pid']})" for node in nodes if node["alive"]]
    if alive:
        yield Finding("gateways", "ok", ", ".join(alive))
    else:
        yield Finding("gateways", "warn", "none runs, so no client can connect", "streamhub serve")
    for node in nodes[len(alive) : len(alive) + MOST_NAMED]:
        yield Finding(
            "gateways",
            "warn",
            f"{node['host']} (process {node['pid']}) has not renewed its lease for {node['gone']:.0f} s",
            "if it runs, it was stopped or cannot reach the database; if it was killed, this goes within an hour",
        )


async def streams(patient: Patient) -> AsyncIterator[Finding]:
    found = await patient.hub.fetchrow(stream_rows.COUNT, GONE_FOR)
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
    asked = {tuple(row) for row in await patient.hub.fetch(stream_rows.NOT_ENDED)}
    give_up = time.monotonic() + ENDED_WITHIN
    while asked and time.monotonic() < give_up:
        await asyncio.sleep(LOOK_EVERY)
        asked &= {tuple(row) for row in await patient.hub.fetch(stream_rows.NOT_ENDED)}
    return sorted(asked)


async def replays(patient: Patient) -> AsyncIterator[Finding]:
    nodes = await patient.hub.fetch(job_rows.BY_NODE, CUT_OFF_WITHIN)
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


async def webhooks(patient: Patient) -> AsyncIterator[Finding]:
    row = await patient.hub.fetchrow(census.CENSUS)
    assert row is not None
    found = census.census_of(row)
    if found.fan_out_lag > LOOKED_AT_WITHIN and any(found.endpoints.values()):
        yield Finding(
            "webhooks",
            "fail",
            f"no event has been looked at for endpoints for {found.fan_out_lag:.0f} s",
            "run a process with the role webhooks: streamhub serve --roles webhooks",
        )
    elif found.due_age > LOOKED_AT_WITHIN:
        yield Finding(
            "webhooks",
            "warn",
            f"a delivery to an endpoint that answers is late by {found.due_age:.0f} s",
            "run more processes with the role webhooks, or raise max_in_flight or rate of the endpoint",
        )
    else:
        text = f"{found.endpoints['ok']} endpoints in order, {found.pending:,} deliveries pending"
        yield Finding("webhooks", "ok", text)
    for each in _first([_unwell(row) for row in await patient.hub.fetch(census.UNWELL)], "are failing or disabled"):
        yield each
    unusable = [
        Finding(
            "webhooks", "warn", f"endpoint {id_} of {slug} is treated as disabled: {why}",
            "set its row right; its events are kept, and delivered then",
        )
        for id_, slug, why in await store.unusable(patient.hub)
    ]  # fmt: skip
    for each in _first(unusable, "are treated as disabled, by what their rows hold"):
        yield each


def _unwell(row: asyncpg.Record) -> Finding:
    if row["enabled"]:
        text, advice = f"its last {row['failures']} attempts failed", "streamhub webhook deliveries"
    else:
        text, advice = f"it is disabled: {row['disabled_reason']}", "once it answers: streamhub webhook enable"
    return Finding("webhooks", "warn", f"endpoint {row['id']}: {text}", f"{advice} {row['id']}")


def _first(endpoints: Sequence[Finding], they: str) -> Sequence[Finding]:
    """The first of them, and how many more there are."""
    more = len(endpoints) - MOST_NAMED
    if more <= 0:
        return endpoints
    return [
        *endpoints[:MOST_NAMED],
        Finding("webhooks", "warn", f"{more} more endpoints {they}", "streamhub webhook list"),
    ]


def _named(organizations: Sequence[str], count: int) -> str:
    more = count - len(organizations)
    return ", ".join(organizations) + (f" and {more} more" if more else "")
