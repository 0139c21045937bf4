"""Where the tests of several hosts cannot run, they say why; with REQUIRE_NETNS=1 they fail instead."""

import os

import pytest

from tests.support.network import why_there_are_none


@pytest.fixture(scope="session", autouse=True)
def namespaces() -> None:
    reason = why_there_are_none()
    if reason is None:
        return
    if os.environ.get("REQUIRE_NETNS") == "1":
        pytest.fail(f"{reason}, and REQUIRE_NETNS=1 requires it")
    pytest.skip(reason)
