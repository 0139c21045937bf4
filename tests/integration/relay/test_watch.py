"""What is wrong with a capture becomes an incident, once, while the relay runs; what ended is forgotten."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest

from streamhub import capture
from streamhub.relay import watch
from tests.support.stage import SHOP, Stage, until
from tests.support.tasks import ended


@pytest.fixture(autouse=True)
def quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "FIRST", 0.05)
    monkeypatch.setattr(watch, "EVERY", 0.1)


async def test_a_capture_that_goes_wrong_is_an_incident_with_its_remedy(stage: Stage) -> None:
    await stage.shop()
    async with stage.relaying():
        await stage.sql("ALTER TABLE skus DISABLE TRIGGER ALL")

        async def told() -> bool:
            return any("ENABLE ALWAYS TRIGGER" in detail for detail in await stage.incidents("capture"))

        await until(told, "an incident")


async def test_a_fault_that_lasts_is_told_once(stage: Stage) -> None:
    await stage.shop()
    looks = 0

    async def connect() -> object:
        nonlocal looks
        looks += 1
        import asyncpg

        return await asyncpg.connect(stage.url)

    told: list[str] = []
    await stage.sql('DROP TRIGGER "!streamhub" ON skus')
    watching = asyncio.create_task(
        watch.watch_captures(connect, "shop", lambda _kind, _source, detail: told.append(detail))  # type: ignore[arg-type]
    )

    async def looked() -> bool:
        return looks >= 4

    await until(looked, "four looks")
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)
    assert len(told) == 1
    assert "has no capture trigger" in told[0]


async def test_it_ends_when_it_is_cancelled_whatever_error_the_connection_puts_in_the_cancellations_place() -> None:
    began = asyncio.Event()

    async def connect() -> "asyncpg.Connection[Any]":
        first = not began.is_set()
        began.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            if first:
                raise asyncpg.InterfaceError("another operation is in progress") from None
            raise
        raise AssertionError

    watching = asyncio.create_task(watch.watch_captures(connect, "shop", lambda *_: None))
    await began.wait()
    watching.cancel()
    _, pending = await asyncio.wait({watching}, timeout=5)
    await ended(watching)
    assert not pending


@pytest.fixture
async def new_owner(stage: Stage) -> AsyncIterator[str]:
    name = f"new_owner_{uuid.uuid4().hex}"
    await stage.sql(f"CREATE ROLE {name}", f"GRANT CREATE, USAGE ON SCHEMA public TO {name}")
    yield name
    await stage.sql(f"DROP OWNED BY {name} CASCADE", f"DROP ROLE {name}")


async def test_the_new_owner_of_a_captured_table_can_make_partitions_of_it(stage: Stage, new_owner: str) -> None:
    await stage.sql(f"{SHOP} PARTITION BY RANGE (id)")
    await stage.add()
    await stage.sql(f"ALTER TABLE skus OWNER TO {new_owner}")
    granted = f"SELECT has_function_privilege('{new_owner}', 'streamhub.capture_1()', 'EXECUTE')"
    assert not await stage.value(granted)
    async with stage.relaying():
        await until(lambda: stage.value(granted), "the new owner may copy the trigger")
    await stage.sql(
        f"SET ROLE {new_owner}", "CREATE TABLE skus_1 PARTITION OF skus FOR VALUES FROM (0) TO (10)", "RESET ROLE"
    )
    assert not await stage.incidents("capture")


async def test_a_capture_whose_table_was_dropped_ends_and_leaves_nothing(stage: Stage) -> None:
    await stage.shop()
    await stage.sql("DROP TABLE skus")
    await capture.forget_dropped(stage.connection)
    assert await stage.value("SELECT removed_at IS NOT NULL FROM streamhub.captures")
    await stage.sql("UPDATE streamhub.captures SET removed_at = removed_at - interval '2 hours'")
    await capture.forget_dropped(stage.connection)
    left = "SELECT (SELECT count(*) FROM streamhub.captures) + (SELECT count(*) FROM streamhub.shapes)"
    assert await stage.value(left) == 0
    assert await stage.value("SELECT count(*) FROM pg_proc WHERE proname ~ '^capture_[0-9]+$'") == 0


async def test_a_capture_with_changes_that_wait_is_kept(stage: Stage) -> None:
    await stage.shop()
    await stage.sql("INSERT INTO skus VALUES (1, 'org_1', 1, 'a')")
    await capture.remove(stage.connection, "skus")
    await stage.sql("UPDATE streamhub.captures SET removed_at = removed_at - interval '2 hours'")
    await capture.forget_dropped(stage.connection)
    (event,) = await stage.relayed()
    assert event["resource"] == {"id": "1", "organization_id": "org_1", "price": "1", "note": "a"}
