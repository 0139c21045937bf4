"""Roles that are no superuser's, each with a connection of its own, and functions that tell who ran them."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final, NamedTuple
from urllib.parse import quote, urlsplit

import asyncpg

from streamhub.postgres.migrate import CAPTURE_ROLE
from tests.support.database import Connection
from tests.support.stage import Stage

PASSWORD: Final = "x"


class Role(NamedTuple):
    """A role of the server and a session that it logged in with."""

    name: str
    connection: Connection

    async def sql(self, *statements: str) -> None:
        for statement in statements:
            await self.connection.execute(statement)


@asynccontextmanager
async def role(stage: Stage, prefix: str, options: str = "") -> AsyncIterator[Role]:
    """A role that may create schemas in the database and nothing else. It is gone at the end with all that it owns."""
    database = await stage.value("SELECT current_database()")
    name = f"{prefix}_{database}"
    await stage.sql(
        f"CREATE ROLE {name} LOGIN PASSWORD '{PASSWORD}' {options}", f"GRANT CREATE ON DATABASE {database} TO {name}"
    )
    connection = await asyncpg.connect(url_of(stage.url, name))
    try:
        yield Role(name, connection)
    finally:
        connection.terminate()
        await stage.sql("RESET SESSION AUTHORIZATION", f"DROP OWNED BY {name} CASCADE", f"DROP ROLE {name}")


def url_of(url: str, name: str) -> str:
    """The same database for another role."""
    split = urlsplit(url)
    return split._replace(netloc=f"{quote(name)}:{PASSWORD}@{split.hostname}:{split.port}").geturl()


# A sequence advances even when the transaction fails, so no run is missed.
_WITNESS: Final = """
CREATE SCHEMA app;
GRANT USAGE ON SCHEMA app TO PUBLIC;
CREATE TABLE app.runs (who text, how text);
GRANT INSERT, SELECT ON app.runs TO PUBLIC;
{sequences}
GRANT ALL ON ALL SEQUENCES IN SCHEMA app TO PUBLIC;
CREATE FUNCTION app.attack(how text) RETURNS void LANGUAGE plpgsql VOLATILE AS $$
BEGIN
  PERFORM nextval(format('app.%I', 'run_as_' || current_user));
  BEGIN INSERT INTO app.runs VALUES (current_user, how); EXCEPTION WHEN OTHERS THEN NULL; END;
  BEGIN EXECUTE 'RESET ROLE'; EXCEPTION WHEN OTHERS THEN NULL; END;
  BEGIN EXECUTE 'ALTER ROLE {name} SUPERUSER'; EXCEPTION WHEN OTHERS THEN NULL; END;
  BEGIN INSERT INTO streamhub.outbox (origin) VALUES ('forged'); EXCEPTION WHEN OTHERS THEN NULL; END;
END $$;
"""


class Attacker(NamedTuple):
    """An application's role, which owns its tables, types and functions; `app.attack` is what they run."""

    stage: Stage
    role: Role
    others: tuple[str, ...]

    @property
    def name(self) -> str:
        return self.role.name

    async def sql(self, *statements: str) -> None:
        await self.role.sql(*statements)

    async def runs_as_others(self) -> dict[str, int]:
        """Who else ran one of its functions, and how often."""
        return {who: n for who in self.others if (n := await self._runs(who))}

    async def runs_as_itself(self) -> int:
        return await self._runs(self.name)

    async def has_gained(self) -> list[str]:
        found = []
        if await self.stage.value("SELECT rolsuper FROM pg_roles WHERE rolname = $1", self.name):
            found.append("superuser")
        if await self.stage.value("SELECT count(*) FROM streamhub.outbox WHERE origin = 'forged'"):
            found.append("outbox")
        return found

    async def got_nothing(self) -> bool:
        """Fails, saying what it got, where it got anything."""
        assert await self.runs_as_others() == {}, await self.stage.rows("SELECT * FROM app.runs")
        assert await self.has_gained() == []
        return True

    async def _runs(self, who: str) -> int:
        last: int = await self.stage.value(f'SELECT last_value FROM app."run_as_{who}" WHERE is_called') or 0
        return last


@asynccontextmanager
async def attacker(stage: Stage) -> AsyncIterator[Attacker]:
    async with role(stage, "app") as its:
        others = (await stage.value("SELECT current_user"), CAPTURE_ROLE)
        sequences = "".join(f'CREATE SEQUENCE app."run_as_{who}"; ' for who in (its.name, *others))
        await its.sql(_WITNESS.format(sequences=sequences, name=its.name))
        yield Attacker(stage, its, others)
