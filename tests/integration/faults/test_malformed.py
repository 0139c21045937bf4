"""3,000 malformed requests to one gateway: what it answers, what is left of it, and what it logs of them.

One run; the tests look at what came of it. STREAMHUB_TEST_SEED repeats a run's requests.
"""

import asyncio
import os
import random
import re
import time
from collections import Counter
from contextlib import suppress
from typing import NamedTuple

import pytest

from tests.integration.faults.malformed import Generator, Malformed
from tests.support.error_schema import checked_errors
from tests.support.hub import Hub, Process, hub_over, new_database

REQUESTS = 3_000
AT_ONCE = 16
ANSWERED_WITHIN = 10.0  # seconds
MOST_GROWTH = 12 * 2**20  # bytes, from the thousandth request to the last: 6 KiB for each


class Run(NamedTuple):
    """`wrong`: requests whose answer was none, or not as the contract has it. RSS in bytes."""

    seed: int
    wrong: list[str]
    statuses: Counter[int]
    alive: bool
    rss_after_1000: int
    rss_at_the_end: int
    log: str
    secrets: set[str]
    seconds: float


async def answer_to(port: int, request: bytes) -> tuple[int, dict[str, str], bytes]:
    """Raises EOFError or ConnectionError where there is no whole answer, TimeoutError where none comes."""
    async with asyncio.timeout(ANSWERED_WITHIN):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            status, *fields = head.decode("latin-1").rstrip("\r\n").split("\r\n")
            assert re.match(r"HTTP/1\.[01] \d{3} ", status), status
            headers = {name.lower(): value.strip() for name, _, value in (field.partition(":") for field in fields)}
            without_body = request.startswith(b"HEAD ") or status[9:12] in ("200", "204")
            return (
                int(status[9:12]),
                headers,
                b"" if without_body else await reader.readexactly(int(headers["content-length"])),
            )
        finally:
            writer.close()


async def judge(process: Process, malformed: Malformed, statuses: Counter[int]) -> str | None:
    try:
        status, headers, body = await answer_to(process.port, malformed.request)
        statuses[status] += 1
        if malformed.request.startswith(b"HEAD "):
            assert headers["content-type"] == "application/vnd.api+json"
        else:
            checked_errors(status, headers, body)
    except (AssertionError, KeyError, ValueError, EOFError, OSError, TimeoutError) as error:
        return f"{malformed.kind}: {error!r} to {malformed.request[:300]!r}"
    return None


@pytest.fixture(scope="module")
async def run(postgres_url: str, template: str, tmp_path_factory: pytest.TempPathFactory) -> Run:
    seed = int(os.environ.get("STREAMHUB_TEST_SEED", random.randrange(2**32)))
    print(f"STREAMHUB_TEST_SEED={seed}")
    async with new_database(postgres_url, template) as url, hub_over(url, tmp_path_factory.mktemp("malformed")) as hub:
        return await _run(hub, seed)


async def _run(hub: Hub, seed: int) -> Run:
    process = await hub.start(roles="gateway")
    expired, foreign = hub.token(exp=1), hub.token("other")
    generator = Generator(seed, hub.token(), expired, foreign)
    requests = [generator.next() for _ in range(REQUESTS)]
    left = iter(requests)
    wrong: list[str] = []
    statuses: Counter[int] = Counter()
    done = rss_after_1000 = 0

    async def work() -> None:
        nonlocal done, rss_after_1000
        for malformed in left:
            if (fault := await judge(process, malformed, statuses)) is not None:
                wrong.append(fault)
            done += 1
            if done == 1_000:
                rss_after_1000 = process.rss()

    began = time.monotonic()
    await asyncio.gather(*(work() for _ in range(AT_ONCE)))
    seconds = time.monotonic() - began
    alive = False
    with suppress(OSError, EOFError, TimeoutError):
        healthy = await answer_to(process.port, b"GET /-/healthy HTTP/1.1\r\nHost: h\r\n\r\n")
        alive = healthy[0] == 200
    rss = process.rss()
    print(f"{seconds:.1f} s, {dict(statuses)}, RSS {rss_after_1000 >> 20} MiB, at the end {rss >> 20} MiB")
    secrets = {secret for malformed in requests for secret in malformed.secrets}
    return Run(seed, wrong, statuses, alive, rss_after_1000, rss, process.logged(), secrets, seconds)


async def test_every_answer_is_an_error_as_the_contract_has_it(run: Run) -> None:
    assert not run.wrong, f"seed {run.seed}: {len(run.wrong)}, of which the first are:\n" + "\n".join(run.wrong[:20])


async def test_no_malformed_request_is_answered_as_an_internal_error(run: Run) -> None:
    assert not [status for status in run.statuses if status >= 500]


async def test_the_gateway_lives(run: Run) -> None:
    assert run.alive


async def test_its_memory_does_not_grow_with_them(run: Run) -> None:
    assert run.rss_at_the_end - run.rss_after_1000 < MOST_GROWTH


async def test_its_log_holds_no_traceback(run: Run) -> None:
    assert "Traceback" not in run.log, run.log[run.log.index("Traceback") - 500 :][:3_000]


async def test_its_log_holds_no_token_nor_a_part_of_one(run: Run) -> None:
    parts = {part for secret in run.secrets for part in secret.split(".") if len(part) >= 20}
    assert parts
    # Only a log that holds something of such a length is worth searching.
    words = set(re.findall(r"[\w-]{20,}", run.log))
    assert not [part for part in parts if any(part[:20] in word for word in words)]
