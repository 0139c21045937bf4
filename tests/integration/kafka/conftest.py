"""A stage with a topic of its own, on a broker that may be stopped where a test asks for `broker` too."""

import itertools
import os
from collections.abc import AsyncIterator

import asyncpg
import pytest

from tests.support.topics import Broadcasting

_numbers = itertools.count(1)


@pytest.fixture
def topic() -> str:
    return f"streamhub.test-{os.getpid()}-{next(_numbers)}"


@pytest.fixture
async def stage(database_url: str, kafka: str, topic: str) -> AsyncIterator[Broadcasting]:
    connection = await asyncpg.connect(database_url)
    yield Broadcasting(database_url, connection, kafka, topic)
    connection.terminate()
