"""Databases that came from elsewhere: restored from a dump, with or without owners, or moved to another host."""

import asyncio
import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final, NamedTuple

import asyncpg
import pytest

from servers.postgres import DebianPostgres, NoPostgresError
from streamhub import capture
from streamhub.config import load
from streamhub.embedded import installed_binaries
from streamhub.health.doctor import examine, fix_captures
from streamhub.postgres import migrate
from streamhub.postgres.migrate import CAPTURE_ROLE
from tests.conftest import database_of, missing
from tests.integration.capture.roles import role, url_of
from tests.migration.conftest import NewDatabase
from tests.support.stage import Stage, kinds

ELSEWHERE: Final = "xx_XX.utf8"  # a locale that no host has
A_LOCALE: Final = Path("/usr/lib/locale/C.utf8")  # of Debian's libc-bin, which is on every host


def dumped(url: str, *options: str, programs: Path | None = None) -> bytes:
    """`programs` are those of the server, where it may be newer than the one that we bring."""
    pg_dump = str((programs or installed_binaries()) / "pg_dump")
    return subprocess.run([pg_dump, *options, url], check=True, capture_output=True, timeout=60).stdout


def restore(dump: bytes, into: str) -> None:
    psql = [str(installed_binaries() / "psql"), "-q", "-v", "ON_ERROR_STOP=1", into]
    known = dump.replace(b"SET transaction_timeout = 0;\n", b"")  # before PostgreSQL 17 there is none
    restored = subprocess.run(psql, input=known, check=False, capture_output=True, timeout=60)
    assert restored.returncode == 0, restored.stderr


async def copy(url: str, into: str, *options: str) -> None:
    await asyncio.to_thread(lambda: restore(dumped(url, *options), into))


async def test_a_database_that_was_restored_from_a_dump_fails_closed_until_captures_are_added_again(
    new_database: NewDatabase,
) -> None:
    """Columns are held by number and tables by oid; after a restore both mean something else."""
    url = await new_database()
    original = Stage(url, await asyncpg.connect(url))
    await migrate.migrate_hub(original.connection)
    await migrate.migrate_source(original.connection)
    await original.sql(
        "CREATE TABLE skus (gone int, id int PRIMARY KEY, organization_id text, secret text, note text)",
        "ALTER TABLE skus DROP gone",  # so that every number is another one in the restored table
    )
    await original.add(exclude=["secret"])
    await original.sql("INSERT INTO skus VALUES (1, 'org_1', 'SECRET', 'a')")
    await original.connection.close()
    restored_url = await new_database()
    await copy(url, restored_url, "--no-owner")
    restored = Stage(restored_url, await asyncpg.connect(restored_url))
    await restored.sql("INSERT INTO skus VALUES (2, 'org_1', 'SECRET', 'b')", "UPDATE skus SET note = 'c'")
    await restored.relayed()
    assert not [frame for frame in await restored.frames() if b"SECRET" in frame]
    await restored.add(exclude=["secret"])
    await restored.sql("INSERT INTO skus VALUES (3, 'org_1', 'SECRET', 'd')")
    events = await restored.relayed()
    assert kinds(events) == [("create", "3")]
    assert events[0]["resource"] == {"id": 3, "organization_id": "org_1", "note": "d"}
    await restored.connection.close()


@pytest.mark.parametrize("again", [False, True])
async def test_in_a_restored_database_a_capture_can_be_removed(new_database: NewDatabase, again: bool) -> None:
    url, restored_url = await new_database(), await new_database()
    original = Stage(url, await asyncpg.connect(url))
    await migrate.migrate_hub(original.connection)
    await migrate.migrate_source(original.connection)
    await original.shop()
    await original.connection.close()
    await copy(url, restored_url, "--no-owner")
    restored = Stage(restored_url, await asyncpg.connect(restored_url))
    if again:
        await restored.add()
    await capture.remove(restored.connection, "skus")
    await restored.sql("INSERT INTO skus VALUES (1, 'org_1', 1, 'a')")
    assert await restored.outbox_is_empty()
    assert await restored.rows("SELECT id FROM streamhub.captures WHERE removed_at IS NULL") == []
    await restored.connection.close()


async def findings(url: str, *checks: str) -> list[tuple[str, str]]:
    """(state, remedy) of what `doctor` finds with these checks."""
    return [(each.state, each.fix) for each in await examine(load(database_url=url)) if each.check in checks]


async def test_a_dump_that_was_restored_with_its_owners_is_captured_again_by_doctor_fix(
    new_database: NewDatabase, template: str
) -> None:
    url, restored_url = await new_database(), await new_database()
    original = Stage(url, await asyncpg.connect(url))
    async with role(original, "hub") as hub, role(original, "app") as app:
        await original.sql(f"GRANT {CAPTURE_ROLE} TO {hub.name}")
        await migrate.migrate_hub(hub.connection)
        await migrate.migrate_source(hub.connection)
        await app.sql(
            "CREATE SCHEMA app", "CREATE TABLE app.skus (id int PRIMARY KEY, organization_id text, secret text)",
            f"GRANT USAGE ON SCHEMA app TO {CAPTURE_ROLE}", f"GRANT SELECT ON app.skus TO {CAPTURE_ROLE}",
            f"GRANT TRIGGER ON app.skus TO {hub.name}",
        )  # fmt: skip
        await Stage(url, hub.connection).add("app.skus", exclude=["secret"])
        await copy(url, restored_url)
        reader = Stage(restored_url, await asyncpg.connect(restored_url))
        restored = Stage(url_of(restored_url, hub.name), await asyncpg.connect(url_of(restored_url, app.name)))
        try:
            await restored.sql("INSERT INTO app.skus VALUES (1, 'org_1', 'SECRET')")  # writers write on
            assert [state for state, _ in await findings(restored.url, "migrations")] == ["ok"]
            (remedy,) = [fix for state, fix in await findings(restored.url, "capture") if state == "fail"]
            assert remedy.startswith("streamhub capture add app.skus ")
            assert remedy.endswith("streamhub doctor --fix")
            await fix_captures(load(database_url=restored.url))
            assert [state for state, _ in await findings(restored.url, "capture")] == ["ok"]
            await restored.sql("INSERT INTO app.skus VALUES (2, 'org_1', 'SECRET')", "TRUNCATE app.skus")
            async with restored.relaying():
                await reader.drained()
            events = await reader.new_events()
            assert "error" in events[0]
            assert kinds(events[1:]) == [("create", "2"), ("destroy", "1"), ("destroy", "2")]
            assert [
                event["resource"] for event in events[1:] if "error" in event or "secret" in event["resource"]
            ] == []
        finally:
            restored.connection.terminate()
            await reader.sql(f"DROP OWNED BY {hub.name}, {app.name} CASCADE")
            reader.connection.terminate()


class Moved(NamedTuple):
    """A server whose host had ELSEWHERE as a locale, and which now runs on one that lacks it."""

    url: str
    dump: bytes  # from before


@pytest.fixture(scope="module")
async def moved() -> AsyncIterator[Moved]:
    """Its hub and two captured tables were made while the database's money was that of ELSEWHERE."""
    with tempfile.TemporaryDirectory(prefix="streamhub-locales-") as locales:
        await asyncio.to_thread(Path(locales).chmod, 0o755)  # PostgreSQL runs as another user where we are root
        shutil.copytree(A_LOCALE, Path(locales) / ELSEWHERE)
        try:
            postgres = DebianPostgres(locales=Path(locales))
        except NoPostgresError as error:
            missing(str(error), "REQUIRE_POSTGRES_15")
        await asyncio.to_thread(postgres.start)
        try:
            setting = await asyncpg.connect(postgres.url)
            await setting.execute(f"ALTER DATABASE postgres SET lc_monetary = '{ELSEWHERE}'")
            await setting.close()
            await captured_there(postgres.url)
            dump = await asyncio.to_thread(dumped, postgres.url, programs=postgres.programs)
            await asyncio.to_thread(postgres.move_here)
            yield Moved(postgres.url, dump)
        finally:
            postgres.stop()


async def captured_there(url: str) -> None:
    stage = Stage(url, await asyncpg.connect(url))
    await migrate.migrate_hub(stage.connection)
    await migrate.migrate_source(stage.connection)
    await stage.shop()
    await stage.sql("CREATE TABLE prices (id int PRIMARY KEY, organization_id text, price money)")
    await stage.add("prices")
    await stage.sql("INSERT INTO skus VALUES (1, 'org_1', 1, 'a')", "INSERT INTO prices VALUES (1, 'org_1', '1.50')")
    assert kinds(await stage.relayed()) == [("create", "1")] * 2
    assert await stage.value("SELECT count(*) FROM pg_proc WHERE strpos(prosrc, $1) > 0", ELSEWHERE) > 0
    await stage.connection.close()


async def lacks_the_locale(stage: Stage) -> bool:
    with pytest.raises(asyncpg.InvalidParameterValueError, match=ELSEWHERE):
        await stage.sql(f"SET lc_monetary = '{ELSEWHERE}'")
    return True


async def test_a_server_that_moved_to_a_host_without_the_locale_of_its_money_captures_as_before(moved: Moved) -> None:
    stage = Stage(moved.url, await asyncpg.connect(moved.url))
    assert await lacks_the_locale(stage)
    await stage.sql(
        "INSERT INTO skus VALUES (2, 'org_1', 1, 'a')", "INSERT INTO prices VALUES (2, 'org_1', '2.50')",
        "UPDATE prices SET price = '3.50' WHERE id = 2", "TRUNCATE prices",
    )  # fmt: skip
    events = (await stage.relayed())[2:]
    assert kinds(events) == [("create", "2"), ("create", "2"), ("update", "2"), ("destroy", "1"), ("destroy", "2")]
    assert [event["resource"]["price"] for event in events[1:]] == ["$2.50", "$3.50", "$1.50", "$3.50"]
    assert {state for state, _ in await findings(moved.url, "capture")} == {"ok"}
    await stage.connection.close()


async def test_a_dump_is_written_to_and_captured_again_where_the_locale_of_its_money_is_missing(moved: Moved) -> None:
    server = await asyncpg.connect(moved.url)
    await server.execute("CREATE DATABASE restored")
    await server.close()
    url = database_of(moved.url, "restored")
    await asyncio.to_thread(restore, moved.dump, url)
    stage = Stage(url, await asyncpg.connect(url))
    assert await lacks_the_locale(stage)
    await stage.relayed()
    await stage.sql("INSERT INTO skus VALUES (2, 'org_1', 1, 'a')", "INSERT INTO prices VALUES (2, 'org_1', '2.50')")
    assert ["error" in event for event in await stage.relayed()] == [True, True]
    await fix_captures(load(database_url=url))
    assert {state for state, _ in await findings(url, "capture")} == {"ok"}
    await stage.sql("INSERT INTO skus VALUES (3, 'org_1', 1, 'a')", "INSERT INTO prices VALUES (3, 'org_1', '3.50')")
    events = await stage.relayed()
    assert kinds(events) == [("create", "3")] * 2
    assert [event["resource"]["price"] for event in events] == ["1", "$3.50"]
    await stage.connection.close()
