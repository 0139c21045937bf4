"""`streamhub serve --workers 2`: two processes on one port, one of them killed, and all of them stopped."""

import os
import re
import signal
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import NamedTuple

import asyncpg
import pytest
from prometheus_client.parser import text_string_to_metric_families

from streamhub.runtime.workers import metrics_directory
from tests.integration.conftest import Answer, Client
from tests.support.consumer import Consumer, consuming
from tests.support.hub import Hub, Process, alive, hub_over, new_database, resident, traffic, until

ASKED = 32  # connections: enough for either of two workers to get one, but for one time in 2 ** 31


def workers(process: Process) -> dict[int, int]:
    """The process that serves in each place."""
    found = re.findall(r"worker (\d) \(process (\d+)\) serves$", process.logged(), re.MULTILINE)
    return {int(number): int(pid) for number, pid in found}


async def ask(process: Process, path: str, token: str = "") -> Answer:
    client = await Client.open(process.port, path, [("Authorization", f"Bearer {token}")] if token else [])
    return await client.answer()


async def metrics(process: Process) -> dict[tuple[str, ...], float]:
    """By name and labels' values."""
    text = (await ask(process, "/-/metrics")).body.decode()
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


async def one_row(hub: Hub, statement: str) -> asyncpg.Record | None:
    connection = await asyncpg.connect(hub.url)
    try:
        return await connection.fetchrow(statement)
    finally:
        await connection.close()


class Group(NamedTuple):
    hub: Hub
    process: Process


@pytest.fixture(scope="module")
async def group(postgres_url: str, template: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Group]:
    async with (
        new_database(postgres_url, template) as url,
        hub_over(url, tmp_path_factory.mktemp("workers")) as hub,
    ):
        await hub.prepare()
        yield Group(hub, await hub.start("--workers", "2"))


async def test_all_workers_answer_on_the_one_port(group: Group) -> None:
    for _ in range(ASKED):
        assert (await ask(group.process, "/-/healthy")).status == 200
        assert (await ask(group.process, "/org-6")).status == 401
    answering = re.findall(r"\[(\d)\] aiohttp\.access: 127\.0\.0\.1 GET /org-6 401", group.process.logged())
    assert set(answering) == {"1", "2"}


async def test_a_second_consumer_is_refused_whichever_worker_it_reaches(group: Group) -> None:
    token = group.hub.token("org-7")
    client = await Client.open(group.process.port, "/org-7", [("Authorization", f"Bearer {token}")])
    assert client.status == 200
    answers = [await ask(group.process, "/org-7", token) for _ in range(ASKED)]
    client.close()
    assert {answer.status for answer in answers} == {409}
    refusing = re.findall(r"\[(\d)\] aiohttp\.access: 127\.0\.0\.1 GET /org-7 409", group.process.logged())
    assert set(refusing) == {"1", "2"}


async def test_any_worker_tells_the_streams_of_all(group: Group) -> None:
    clients = []
    for n in range(10, 10 + ASKED // 2):
        token = group.hub.token(f"org-{n}")
        clients.append(await Client.open(group.process.port, f"/org-{n}", [("Authorization", f"Bearer {token}")]))

    async def is_told() -> bool:
        found = [await metrics(group.process) for _ in range(ASKED // 2)]
        streams = [sum(value for name, value in each.items() if name[0] == "streamhub_live_streams") for each in found]
        return set(streams) == {len(clients)}

    await until(is_told, "every answer has the sum")
    for client in clients:
        client.close()


async def test_the_memory_that_is_told_is_that_of_all_workers(group: Group) -> None:
    told = (await metrics(group.process))["process_resident_memory_bytes",]
    assert told == pytest.approx(sum(resident(pid) for pid in workers(group.process).values()), rel=0.2)


class Killed(NamedTuple):
    """What came of kill -9 of the worker that held a stream under traffic."""

    group: Group
    number: int
    pid: int
    free_after: float
    log: list[str]
    published: list[str]
    sent_before: float
    sent_after: float


@pytest.fixture(scope="module")
async def killed(group: Group) -> Killed:
    hub, process = group
    consumer = Consumer(hub, [process])
    sent = ("streamhub_sent_events_total", "live")
    async with consuming(consumer), traffic(hub.url, ["org-0"], 50):
        await until(lambda: len(consumer.log) > 20, "events come")
        held = await one_row(
            hub,
            "SELECT pid FROM streamhub_hub.nodes JOIN streamhub_hub.streams ON node = nodes.id "
            "WHERE organization_id = 'org-0'",
        )
        assert held is not None
        ((number, pid),) = [each for each in workers(process).items() if each[1] == held["pid"]]
        sent_before = (await metrics(process))[sent]
        os.kill(pid, signal.SIGKILL)
        began = time.monotonic()
        await until(lambda: len(consumer.connections) == 2, "the stream is there again")
        free_after = consumer.connections[1].since - began
        await until(lambda: workers(process)[number] != pid, "the worker is replaced")
        before = len(consumer.log)
        await until(lambda: len(consumer.log) > before + 20, "events go on")
        sent_after = (await metrics(process))[sent]
        published = await hub.published()
        await until(lambda: consumer.has(published[-1]), "the last event is there")
    return Killed(group, number, pid, free_after, consumer.log, published, sent_before, sent_after)


async def test_a_worker_that_is_killed_frees_its_stream_within_6_s(killed: Killed) -> None:
    assert killed.free_after <= 6


async def test_through_the_death_of_a_worker_nothing_is_lost_and_nothing_comes_twice(killed: Killed) -> None:
    assert killed.log[: len(killed.published)] == killed.published


async def test_a_worker_that_is_killed_is_named_and_replaced(killed: Killed) -> None:
    assert (
        f"worker {killed.number} (process {killed.pid}) was killed by signal 9 (Killed)"
        in killed.group.process.logged()
    )
    assert alive(workers(killed.group.process)[killed.number])


async def test_what_a_killed_worker_had_counted_stays_in_the_sum(killed: Killed) -> None:
    assert killed.sent_after >= killed.sent_before + 20


async def test_a_single_worker_that_is_asked_to_stop_drains_and_is_replaced(group: Group) -> None:
    pid = workers(group.process)[1]
    os.kill(pid, signal.SIGTERM)
    await until(lambda: workers(group.process)[1] != pid, "another one takes its place")
    assert f"worker 1 (process {pid}) ended with exit code 0" in group.process.logged()


async def test_after_the_death_of_the_leading_worker_another_one_leads_within_5_s(group: Group) -> None:
    epoch = "SELECT epoch FROM streamhub_hub.relay_lease WHERE expires_at > clock_timestamp()"

    async def leads() -> asyncpg.Record | None:
        return await one_row(group.hub, epoch)

    await until(leads, "a relay leads")
    before = await leads()
    leading = re.findall(r"\[(\d)\] streamhub\.leases\.leader: leading", group.process.logged())[-1]
    os.kill(workers(group.process)[int(leading)], signal.SIGKILL)

    async def another_leads() -> bool:
        found = await leads()
        return found is not None and found != before

    await until(another_leads, "another one leads", within=5)


@pytest.mark.parametrize(
    ("number", "workers_too"),
    [(signal.SIGTERM, False), (signal.SIGINT, True)],
    ids=["SIGTERM to the parent", "SIGINT to all of them"],
)
async def test_a_signal_drains_the_streams_of_all_workers_and_leaves_nothing_running(
    hub: Hub, number: signal.Signals, workers_too: bool
) -> None:
    process = await hub.start("--workers", "2")
    pids = list(workers(process).values())
    clients = []
    for n in range(8):
        token = hub.token(f"org-{n}")
        clients.append(await Client.open(process.port, f"/org-{n}", [("Authorization", f"Bearer {token}")]))
    for pid in [process.pid, *(pids if workers_too else [])]:
        os.kill(pid, number)
    codes = [frame.data["code"] for client in clients for frame in await client.rest()]
    assert codes == ["DRAINING"] * len(clients)
    assert process.exit_code() == 0
    assert not any(alive(pid) for pid in pids)


async def test_a_second_signal_ends_all_at_once(hub: Hub) -> None:
    process = await hub.start("--workers", "2", drain_time="30s")
    pids = list(workers(process).values())
    for n in range(8):
        token = hub.token(f"org-{n}")
        await Client.open(process.port, f"/org-{n}", [("Authorization", f"Bearer {token}")])
    process.send(signal.SIGTERM)
    await until(lambda: "draining" in process.logged(), "they drain")
    process.send(signal.SIGTERM)
    assert process.exit_code(within=2) == 128 + signal.SIGTERM
    await until(lambda: not any(alive(pid) for pid in pids), "nothing runs", within=2)


def test_what_workers_counted_goes_with_their_end_or_with_the_next_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    left_behind = tmp_path / "streamhub-metrics-of-a-parent-that-was-killed"
    left_behind.mkdir()
    (left_behind / "lock").touch()
    with metrics_directory() as one, metrics_directory() as another:
        assert set(tmp_path.iterdir()) == {one, another}
    assert not list(tmp_path.iterdir())


async def test_what_keeps_workers_from_starting_is_said_once(hub: Hub, tmp_path: Path) -> None:
    key = tmp_path / "issuer.pem"
    key.write_text("no key\n")
    with pytest.raises(AssertionError):
        await hub.start("--workers", "3", jwt_issuers="https://issuer.example", jwt_public_key_file=str(key))
    (process,) = hub.processes
    assert process.exit_code() == 1
    assert process.logged().count(str(key)) == 1
    assert "Traceback" not in process.logged()
