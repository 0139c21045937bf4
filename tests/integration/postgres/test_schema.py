"""docs/reference/schema.sql is what the migrations make."""

from __future__ import annotations

import asyncpg
import pytest

from docs import generate
from tests.conftest import database_of


@pytest.fixture
async def empty_database(_newest_url: str) -> str:
    """On the PostgreSQL that we bring, whatever server other tests use: the text of a dump depends on its version."""
    server = await asyncpg.connect(_newest_url)
    await server.execute("CREATE DATABASE streamhub_documented")
    await server.close()
    return database_of(_newest_url, "streamhub_documented")


async def test_the_documented_schema_is_what_the_migrations_make(empty_database: str) -> None:
    written = (generate.REFERENCE / "schema.sql").read_text("utf-8")
    assert written == await generate.schema(empty_database), "docs/reference/schema.sql is out of date: make docs"
