"""What `streamhub doctor` looks at: facts about a hub, each judged, with the way to fix what is wrong."""

from __future__ import annotations

import math
import os
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

from streamhub.capture import faults, list_captures, unfinished_backfills
from streamhub.config import PREFIX, unknown_variables
from streamhub.core.cutting import COMPILED
from streamhub.errors import UserError
from streamhub.extras import install
from streamhub.health import facts
from streamhub.health.findings import Check, Finding, Patient, Verdict
from streamhub.health.incidents import TABLE, latest
from streamhub.health.serving_checks import gateways, replays, streams, webhooks
from streamhub.history.counters import COUNTERS
from streamhub.history.partitions import Week, default_holds_events, existing
from streamhub.kafka.publication import TOPICS
from streamhub.leases.leader import LEADER
from streamhub.organizations import store as registry
from streamhub.postgres.migrate import pending
from streamhub.postgres.ownership import hub_id, owner, remedy
from streamhub.urls import shown
from streamhub.web.auth import pem_keys
from streamhub.web.jwks import JwksError, read

OLDEST_POSTGRES = 14
OUTBOX_SLOW, OUTBOX_STUCK = timedelta(seconds=10), timedelta(minutes=5)
NOTIFICATIONS_MANY = 0.5  # of the queue
OUTBOX_MANY = 100_000  # rows; counted no further
CLOCK_OFF, CLOCK_WRONG = 1.0, 60.0  # seconds
INCIDENTS_OF = timedelta(hours=24)
# Settings without which a commit does not outlive a crash, and how each is fixed. Our sessions ask for the second one
# as they begin, so where it is off somebody in between has left that out.
DURABLE = {
    "fsync": "fsync = on in postgresql.conf",
    "synchronous_commit": (
        "ALTER ROLE … SET synchronous_commit = on, as a pooler does not pass on what sessions ask for"
    ),
}


async def database(patient: Patient) -> AsyncIterator[Finding]:
    for name, connection in patient.sources.items():
        version = connection.get_server_version()
        where = await connection.fetchval(
            "SELECT current_setting('server_version') || ', ' || current_database() || ' as ' || current_user"
        )
        text = f"{name}: PostgreSQL {where}"
        if version.major < OLDEST_POSTGRES:
            yield Finding("database", "fail", text, f"PostgreSQL {OLDEST_POSTGRES} or later is needed: upgrade it")
        elif await connection.fetchval("SELECT pg_is_in_recovery()"):
            yield Finding("database", "fail", f"{text}: a standby", "name the primary, which can be written to")
        else:
            yield Finding("database", "ok", text)


async def durability(patient: Patient) -> AsyncIterator[Finding]:
    for name, connection in patient.sources.items():
        off = [
            setting for setting in DURABLE if await connection.fetchval("SELECT current_setting($1)", setting) == "off"
        ]
        if not off:
            yield Finding("durability", "ok", f"{name}: what is committed outlives a crash")
        for setting in off:
            text = f"{name}: {setting} is off: a crash can take back what was sent"
            yield Finding("durability", "fail", text, DURABLE[setting])


async def migrations(patient: Patient) -> AsyncIterator[Finding]:
    missing = await pending(patient.hub, "hub")
    if missing:
        yield Finding("migrations", "fail", f"hub: {', '.join(missing)} not applied", "streamhub migrate")
    for name, connection in patient.sources.items():
        missing = await pending(connection, "source")
        if missing:
            command = "streamhub migrate" if name == "hub" else f"streamhub migrate --source {name}"
            yield Finding("migrations", "fail", f"{name}: {', '.join(missing)} not applied", command)
        else:
            yield Finding("migrations", "ok", f"{name}: up to date")


async def owners(patient: Patient) -> AsyncIterator[Finding]:
    ours = await hub_id(patient.hub)
    for name, connection in patient.sources.items():
        found = await owner(connection)
        if found in (ours, None):
            yield Finding(
                "owner", "ok", f"{name}: " + ("no relay has come yet" if found is None else "this hub's outbox")
            )
        else:
            text = f"{name}: its outbox belongs to the hub {found}, and this is {ours}: nothing is read from it"
            yield Finding("owner", "fail", text, remedy(name, in_hub=name == "hub"))


async def notifications(patient: Patient) -> AsyncIterator[Finding]:
    """The queue belongs to the whole server, and one session that listens and reads nothing keeps it from emptying."""
    used = await patient.hub.fetchval("SELECT pg_notification_queue_usage()")
    text = f"hub: {used:.0%} of the server's queue of notifications is used"
    if used < NOTIFICATIONS_MANY:
        yield Finding("notifications", "ok", text)
        return
    remedy = (
        "end the session that listens and is idle in a transaction: SELECT pid, usename, datname, xact_start FROM "
        "pg_stat_activity WHERE state LIKE 'idle in transaction%' ORDER BY xact_start, then pg_terminate_backend(pid)"
    )
    yield Finding("notifications", "warn", f"{text}; when it is full, nothing is appended any more", remedy)


async def captures(patient: Patient) -> AsyncIterator[Finding]:
    for name, connection in patient.sources.items():
        captured = [capture.table for capture in await list_captures(connection)]
        found = await faults(connection)
        for fault in found:
            yield Finding("capture", "fail", f"{name}: {fault.table} {fault.fault}", fault.remedy)
        if captured and not found:
            yield Finding("capture", "ok", f"{name}: {len(captured)} tables, triggers as they should be")
        elif not captured and (name != "hub" or len(patient.sources) == 1):
            fix = "streamhub capture add public.skus --resource-type skus --org my-org"
            yield Finding("capture", "warn", f"{name}: no table is captured", fix)


async def all_table_publications(patient: Patient) -> AsyncIterator[Finding]:
    """A subscriber's own triggers write to its outbox, so what it is sent of ours collides there, and it sticks."""
    for name, connection in patient.sources.items():
        for row in await connection.fetch("SELECT quote_ident(pubname) AS name FROM pg_publication WHERE puballtables"):
            text = f"{name}: the publication {row['name']} is FOR ALL TABLES, streamhub's own among them"
            remedy = (
                "CREATE PUBLICATION … FOR TABLES IN SCHEMA public in its place: a subscriber of this one "
                "can stop for good"
            )
            yield Finding("publication", "warn", text, remedy)


async def backfills(patient: Patient) -> AsyncIterator[Finding]:
    for name, connection in patient.sources.items():
        for each in await unfinished_backfills(connection):
            text = f"{name}: {each.table}, {each.rows} rows sent"
            if each.running:
                yield Finding("backfill", "ok", f"{text}, runs")
            else:
                source = "" if name == "hub" else f" --source {name}"
                yield Finding(
                    "backfill",
                    "warn",
                    f"{text}, stopped {each.idle.total_seconds():.0f} s ago before its end",
                    f"streamhub capture backfill {each.table}{source} goes on from there",
                )


async def organizations(patient: Patient) -> AsyncIterator[Finding]:
    registered, enterprise = await registry.count(patient.hub)
    text = f"{registered} registered, {enterprise} of them enterprise"
    if enterprise:
        yield Finding("organizations", "ok", text)
    else:
        yield Finding("organizations", "warn", f"{text}: no change is stored", "streamhub org add my-org")


async def relay(patient: Patient) -> AsyncIterator[Finding]:
    row = await patient.hub.fetchrow(LEADER)
    assert row is not None
    if row["alive"]:
        yield Finding("relay", "ok", f"{row['holder']} leads, epoch {row['epoch']}")
    else:
        since = _since(row["holder"], row["gone"])
        yield Finding("relay", "fail", f"no relay leads ({since}), so no change is published", "streamhub serve")


def _since(holder: str | None, gone: float) -> str:
    """`gone` for so many seconds; infinite where the holder gave the lease up, negative where it was dated ahead."""
    if holder is None:
        return "none ever led"
    if math.isinf(gone):
        return f"the last one, {holder}, has stopped"
    if gone < 0:
        return f"the lease of the last one, {holder}, is dated {-gone:.0f} s ahead of the clock, so it has expired"
    return f"the last one, {holder}, is gone for {gone:.0f} s"


async def kafka(patient: Patient) -> AsyncIterator[Finding]:
    settings = patient.settings
    topic = settings.publication_topic
    if topic is None:
        for row in await patient.hub.fetch(TOPICS):
            left = await facts.progress_over(patient.hub, row["topic"])
            if left is not None and left.lag > 0:
                text = f"topic {row['topic']} was published to and is {left.lag:.0f} s behind, and no broker is named"
                yield Finding(
                    "kafka", "warn", text, f"{PREFIX}KAFKA_BOOTSTRAP_SERVERS=kafka-1:9092, if events are to go there"
                )
        return
    brokers = ", ".join(settings.kafka_bootstrap_servers)
    try:
        from streamhub.kafka.brokers import Brokers, RefusedError  # noqa: PLC0415 - an extra
        from streamhub.kafka.consumer import require_readable  # noqa: PLC0415 - an extra
        from streamhub.kafka.topic import ERRORS, find_topic  # noqa: PLC0415 - an extra
    except ImportError:
        yield Finding("kafka", "fail", "the client for Kafka is not installed", install("kafka"))
        return
    try:
        access = Brokers.of(settings)
        found = await find_topic(access, topic, settings.max_event_bytes)
        if found is not None and "gateway" in settings.roles:
            await require_readable(access, topic)
    except UserError as error:
        yield Finding("kafka", "fail", "serve will not start", str(error))
        return
    except RefusedError as error:
        yield Finding(
            "kafka", "fail", str(error), "correct what is named; the relay and the gateways go on by themselves"
        )
    except ERRORS as error:
        fix = f"see that a broker runs there, and that {PREFIX}KAFKA_BOOTSTRAP_SERVERS is right"
        yield Finding("kafka", "fail", str(error) or type(error).__name__, fix)
    else:
        if found is None:
            yield Finding("kafka", "warn", f"{brokers}: topic {topic} is not there yet", "the relay makes it: serve")
        else:
            for problem in found.problems:
                yield Finding("kafka", "fail", problem.what, problem.fix)
            if not found.problems:
                yield Finding("kafka", "ok", f"{brokers}: topic {topic}, {found.partitions} partitions")
    published = await facts.progress_over(patient.hub, topic)
    if published is not None and published.fault is not None:
        fix = "see the broker (above); the relay goes on by itself"
        yield Finding("kafka", "fail", f"the relay cannot publish: {published.fault}", fix)
    if published is not None:
        state: Verdict = "fail" if published.lag > 60 else "warn" if published.lag > 10 else "ok"
        text = (
            f"topic {topic} has all events" if not published.lag else f"topic {topic} is {published.lag:.1f} s behind"
        )
        yield Finding(
            "kafka", state, text, "" if state == "ok" else "see that a relay runs (relay, above) and its logs"
        )


async def outbox(patient: Patient) -> AsyncIterator[Finding]:
    for name, connection in patient.sources.items():
        row = await connection.fetchrow(
            f"""SELECT (SELECT count(*) FROM (SELECT FROM streamhub.outbox LIMIT {OUTBOX_MANY}) AS counted) AS rows,
                       clock_timestamp() - (SELECT created_at FROM streamhub.outbox ORDER BY seq LIMIT 1) AS age,
                       pg_size_pretty(pg_total_relation_size('streamhub.outbox')) AS size"""
        )
        assert row is not None
        age: timedelta = row["age"] or timedelta(0)
        many = "or more " if row["rows"] == OUTBOX_MANY else ""
        text = f"{name}: {row['rows']} {many}rows, {row['size']}"
        if row["rows"]:
            text += f", the oldest for {max(0.0, age.total_seconds()):.1f} s"
        fix = "see that a relay runs (relay, above) and what it logs"
        state: Verdict = "fail" if age > OUTBOX_STUCK else "warn" if age > OUTBOX_SLOW or many else "ok"
        yield Finding("outbox", state, text, "" if state == "ok" else fix)


async def history(patient: Patient) -> AsyncIterator[Finding]:
    now = await patient.hub.fetchval("SELECT clock_timestamp()")
    weeks = await existing(patient.hub)
    missing = [week.name for week in (Week.of(now), Week.of(now + timedelta(days=7))) if week not in weeks]
    if missing:
        fix = "a relay makes them: streamhub serve, and see what it logs"
        yield Finding("history", "warn" if not weeks else "fail", f"partition missing: {', '.join(missing)}", fix)
    else:
        yield Finding("history", "ok", f"{len(weeks)} weekly partitions, ahead until {weeks[-1].end:%Y-%m-%d}")
    if await default_holds_events(patient.hub):
        yield Finding(
            "history",
            "fail",
            "the default partition holds events, whose weeks had no partition",
            "set the hub's clock right; the relay moves them when it makes those weeks",
        )


async def clocks(patient: Patient) -> AsyncIterator[Finding]:
    for name, connection in patient.sources.items():
        before = time.time()
        there = await connection.fetchval("SELECT extract(epoch FROM clock_timestamp())::float8")
        away = there - (before + time.time()) / 2
        text = f"{name}: {abs(away):.3f} s {'ahead of' if away > 0 else 'behind'} this machine"
        state: Verdict = "fail" if abs(away) > CLOCK_WRONG else "warn" if abs(away) > CLOCK_OFF else "ok"
        yield Finding("clock", state, text, "" if state == "ok" else "run NTP (chrony) on both machines")


async def keys(patient: Patient) -> AsyncIterator[Finding]:
    settings = patient.settings
    try:
        settings.require_verifiable_tokens()
    except UserError as error:
        yield Finding("keys", "fail", "serve will not start", str(error))
        return
    if settings.jwt_jwks_url is not None:
        async for finding in _jwks(settings.jwt_jwks_url):
            yield finding
    if settings.jwt_public_key_file is not None:
        try:
            pem_keys(settings.jwt_public_key_file)
        except UserError as error:
            yield Finding("keys", "fail", "serve will not start", str(error))
        else:
            yield Finding("keys", "ok", f"issuers {', '.join(settings.jwt_issuers)} by {settings.jwt_public_key_file}")
    development = settings.development_key_file
    if development is not None:
        if development.exists() and not os.access(development, os.R_OK):
            yield Finding("keys", "fail", f"{development} cannot be read", "run as the user that runs the server")
        else:
            state = "in use" if development.exists() else "will be made when it is first needed"
            yield Finding("keys", "ok", f"development key {development}: {state}")


async def _jwks(url: str) -> AsyncIterator[Finding]:
    where = f"the JWKS at {shown(url)}"
    try:
        found = await read(url)
    except JwksError as error:
        remedy = f"see that it can be reached from here, or set {PREFIX}JWT_JWKS_URL right"
        yield Finding("keys", "fail", f"{where} {error}", remedy)
        return
    many = sum(map(len, found.keys.values()))
    if many:
        yield Finding("keys", "ok", f"{where} has {many} keys that can be used")
    else:
        yield Finding("keys", "fail", f"{where} has no key that can be used", "see its issuer's settings")
    for each in found.left_out:
        yield Finding("keys", "ok" if many else "warn", f"{where}: {each}; it is left out")


async def variables(patient: Patient) -> AsyncIterator[Finding]:
    for sentence in unknown_variables():
        yield Finding("settings", "warn", sentence, "correct or remove the variable")
    where = shown(patient.settings.database_url) if patient.settings.database_url else "embedded PostgreSQL"
    yield Finding("settings", "ok", f"{where}, data in {patient.settings.data_dir}")
    interpreted = "interpreted, so the relay is slower: there was no C compiler at its installation, or it is off"
    yield Finding("core", "ok", "compiled" if COMPILED else interpreted)
    if patient.settings.embedded:
        free = _free_bytes(patient.settings.data_dir)
        state: Verdict = "fail" if free < 2**28 else "warn" if free < 2**32 else "ok"
        fix = "" if state == "ok" else f"free space, or move {PREFIX}DATA_DIR"
        yield Finding("disk", state, f"{free / 2**30:.1f} GiB free for {patient.settings.data_dir}", fix)


def _free_bytes(path: Path) -> int:
    found = os.statvfs(path)
    return found.f_bavail * found.f_frsize


async def incidents(patient: Patient) -> AsyncIterator[Finding]:
    rows = await latest(patient.hub, INCIDENTS_OF)
    if not rows:
        yield Finding("incidents", "ok", "none in the last 24 hours")
    for row in rows:
        source = f" ({row['source']})" if row["source"] else ""
        ago = (datetime.now(UTC) - row["at"]).total_seconds()
        yield Finding("incidents", "warn", f"{row['kind']}{source}, {ago:.0f} s ago: {row['detail']}")
    if rows and rows[0]["all"] > len(rows):
        yield Finding("incidents", "warn", f"and {rows[0]['all'] - len(rows)} more in {TABLE}")


async def counters(patient: Patient) -> AsyncIterator[Finding]:
    rows = await patient.hub.fetch(f"{COUNTERS} WHERE value > 0 ORDER BY name, source")
    if rows:
        yield Finding(
            "counters",
            "ok",
            ", ".join(f"{row['name']}{' of ' + row['source'] if row['source'] else ''} {row['value']}" for row in rows),
        )


CHECKS: tuple[Check, ...] = (
    variables,
    database,
    durability,
    migrations,
    keys,
    owners,
    captures,
    all_table_publications,
    backfills,
    organizations,
    relay,
    kafka,
    gateways,
    streams,
    replays,
    webhooks,
    outbox,
    history,
    notifications,
    clocks,
    incidents,
    counters,
)
