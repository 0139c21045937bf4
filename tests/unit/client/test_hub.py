"""What a client refuses before it connects, and what importing it takes."""

import subprocess
import sys
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from streamhub.client import StreamHub
from streamhub.client.endpoint import LONGEST_WAIT, Endpoint, _seconds

URL = "http://127.0.0.1:8080"


@pytest.mark.parametrize("url", ["", "127.0.0.1:8080", "ftp://hub", "http://", "/my-org"])
def test_an_address_that_is_none_is_named(url: str) -> None:
    with pytest.raises(ValueError, match=r"no address of a hub, such as http://127\.0\.0\.1:8080") as wrong:
        StreamHub(url, org="my-org", token="t")
    assert repr(url) in str(wrong.value)


def test_an_address_with_a_password_is_refused_without_showing_it() -> None:
    with pytest.raises(ValueError, match="give a token instead") as wrong:
        StreamHub("http://me:secret@hub", org="my-org", token="t")
    assert "secret" not in str(wrong.value)


def test_an_empty_organization_is_refused() -> None:
    with pytest.raises(ValueError, match="org is empty"):
        StreamHub(URL, org="", token="t")


@pytest.mark.parametrize("token", ["", " ", "ey\nJ", "schlüssel", "two words"])
def test_a_token_that_no_header_can_hold_is_refused_without_showing_it(token: str) -> None:
    with pytest.raises(ValueError, match="token is empty, or holds a character") as wrong:
        StreamHub(URL, org="my-org", token=token)
    assert "ey" not in str(wrong.value).replace("key", "")
    assert "schlüssel" not in str(wrong.value)


def test_a_hub_may_stand_below_a_path() -> None:
    assert Endpoint("https://example.com/hub/", "my-org", "t").url == "https://example.com/hub"
    assert Endpoint(URL, "my/org", "t").path("events", "stream") == "/my%2Forg/events/stream"


def test_a_time_without_a_zone_is_refused() -> None:
    with pytest.raises(ValueError, match="has no time zone"):
        StreamHub(URL, org="my-org", token="t").replay(date_from=datetime(2026, 11, 22))  # noqa: DTZ001 - what is refused


@pytest.mark.parametrize(
    ("header", "seconds"),
    [(None, None), ("6", 6), ("0", 0), ("-3", 0), ("99999999999", LONGEST_WAIT), ("soon", None), ("nan", None)],
)
def test_retry_after_is_read_and_bounded(header: str | None, seconds: float | None) -> None:
    assert _seconds(header) == seconds


def test_retry_after_may_be_a_date() -> None:
    found = _seconds(format_datetime(datetime.now(UTC) + timedelta(seconds=60), usegmt=True))
    assert found is not None
    assert 50 < found <= 60


def test_the_client_and_the_fake_hub_need_nothing_of_the_server() -> None:
    """What pip leaves out without extras cannot be imported here."""
    script = """
import sys
for name in "aiokafka asyncpg click jwt msgspec prometheus_client pydantic pytest rich uvloop".split():
    sys.modules[name] = None
import streamhub.client, streamhub.testing
with streamhub.testing.FakeHub() as fake:
    print(fake.url)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout.startswith("http://127.0.0.1:"), done.stderr
