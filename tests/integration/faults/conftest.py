"""Stages on which processes are killed and stopped."""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Protocol

import pytest

from tests.support.hub import Hub, hub_over


class OpenHub(Protocol):
    def __call__(self, **settings: str) -> AbstractAsyncContextManager[Hub]: ...


@pytest.fixture
async def hub(database_url: str, tmp_path: Path) -> AsyncIterator[Hub]:
    """A hub over this test's database, prepared; its processes are the test's to start."""
    async with hub_over(database_url, tmp_path) as hub:
        await hub.prepare()
        yield hub
