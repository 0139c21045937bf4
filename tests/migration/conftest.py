"""Databases with nothing in them."""

import os
from collections.abc import AsyncIterator, Awaitable, Callable
from urllib.parse import urlsplit

import asyncpg
import pytest

NewDatabase = Callable[[], Awaitable[str]]


@pytest.fixture
async def new_database(postgres_url: str) -> AsyncIterator[NewDatabase]:
    """Makes databases with nothing in them."""
    server = await asyncpg.connect(postgres_url)
    made: list[str] = []

    async def make() -> str:
        made.append(f"streamhub_bare_{os.getpid()}_{len(made)}")
        await server.execute(f"CREATE DATABASE {made[-1]}")
        return urlsplit(postgres_url)._replace(path=f"/{made[-1]}").geturl()

    yield make
    for name in made:
        await server.execute(f"DROP DATABASE {name} WITH (FORCE)")
    await server.close()
