"""A relay that is told to end ends, even where the database goes at the same moment."""

import asyncio
import subprocess
from contextlib import suppress
from functools import partial
from typing import Any

import asyncpg
import pytest

from streamhub import cancellation
from streamhub.embedded import installed_binaries
from streamhub.history.append import Appended
from streamhub.relay import relay
from tests.support.stage import Stage, until

pytestmark = pytest.mark.runs_once

RELAYS = "FROM pg_stat_activity WHERE application_name ~ '^streamhub relay'"
APPENDING = f"SELECT EXISTS (SELECT {RELAYS} AND wait_event_type = 'Lock')"
CUT = f"SELECT pg_terminate_backend(pid, 10000) {RELAYS}"


def cut(url: str) -> None:
    """End a relay's connections, and return when they have ended: its loop learns of all of them at once."""
    subprocess.run([installed_binaries() / "psql", url, "-qc", CUT], check=True, stdout=subprocess.DEVNULL)


@pytest.mark.parametrize("turns", range(4))
async def test_a_relay_that_is_stopped_as_its_connections_are_lost_in_an_append_ends(stage: Stage, turns: int) -> None:
    """`turns` of the event loop pass between the two; what comes of it hangs on nothing else."""
    await stage.shop()
    await stage.sql("INSERT INTO skus VALUES (0, 'org_1', 1, 'a')")
    stop = asyncio.Event()
    relaying = asyncio.create_task(stage.relay().run(stop))
    await stage.drained()
    holder = await asyncpg.connect(stage.url)
    async with holder.transaction():
        await holder.execute("SELECT FROM streamhub_hub.log_epoch FOR UPDATE")
        await stage.sql("INSERT INTO skus VALUES (1, 'org_1', 1, 'a')")
        await until(lambda: stage.value(APPENDING), "an append waits for log_epoch")
        cut(stage.url)
        for _ in range(turns):
            await asyncio.sleep(0)
        stop.set()
        await asyncio.wait({relaying}, timeout=3)
    ended = relaying.done()
    relaying.cancel()
    await holder.close()
    assert ended


class Deaf:
    """A publisher that loses the first cancellation, as a wait does whose result comes with it."""

    def __init__(self) -> None:
        self.runs = asyncio.Event()

    def announce(self, appended: Appended) -> None:
        pass

    async def keep_pace(self) -> None:
        pass

    async def run(self, hub: Any, report: Any) -> None:  # noqa: ARG002
        with suppress(asyncio.CancelledError):
            self.runs.set()
            await asyncio.Event().wait()
        await asyncio.Event().wait()


async def test_a_relay_ends_though_one_of_its_tasks_loses_a_cancellation(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relay, "ended", partial(cancellation.ended, again_every=0.05))
    publisher, stop = Deaf(), asyncio.Event()
    relaying = asyncio.create_task(stage.relay(publisher).run(stop))
    await publisher.runs.wait()
    stop.set()
    await asyncio.wait({relaying}, timeout=20)
    ended = relaying.done()
    relaying.cancel()
    assert ended
