"""A plugin of pytest: the fixture `fake_hub`."""

from collections.abc import Iterator

import pytest

from streamhub.testing.fake_hub import FakeHub


@pytest.fixture
def fake_hub() -> Iterator[FakeHub]:
    """A hub of this test's own, which has ended after."""
    with FakeHub() as hub:
        yield hub
