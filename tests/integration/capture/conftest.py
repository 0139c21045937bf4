"""The stages of the tests of capture."""

import shutil
from collections.abc import AsyncIterator, Iterator

import asyncpg
import pytest

from servers.clusters import cluster_directory
from streamhub.embedded import EmbeddedPostgres
from streamhub.postgres.migrate import migrate_hub, migrate_source
from tests.support.stage import Stage


@pytest.fixture
async def stage(database_url: str) -> AsyncIterator[Stage]:
    connection = await asyncpg.connect(database_url)
    yield Stage(database_url, connection)
    connection.terminate()


@pytest.fixture(scope="module")
def own_postgres() -> Iterator[EmbeddedPostgres]:
    """A server with settings that the shared one does not have."""
    directory = cluster_directory()
    postgres = EmbeddedPostgres(directory, {"max_prepared_transactions": 5, "fsync": "off"})
    postgres.start()
    yield postgres
    postgres.stop("immediate")
    shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture
async def own_stage(own_postgres: EmbeddedPostgres) -> AsyncIterator[Stage]:
    connection = await asyncpg.connect(own_postgres.url)
    await migrate_hub(connection)
    await migrate_source(connection)
    yield Stage(own_postgres.url, connection)
    connection.terminate()
