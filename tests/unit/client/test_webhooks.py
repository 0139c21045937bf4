"""What a receiver of webhooks is given to verify them with."""

import time
from typing import Any

import pytest

from streamhub.client import InvalidSignature, verify_webhook
from streamhub.core import signing

SECRET = signing.secret_of(b"a key of at least 24 bytes, as they say")
BODY = b'{"id":"1","type":"skus.create","created_at":"2026-11-30T10:00:00.000000Z","data":{"n":1}}'


def test_a_delivery_is_returned_once_it_is_verified() -> None:
    headers = signing.sign(BODY, "1", int(time.time()), [SECRET])
    assert verify_webhook(BODY, headers, SECRET)["data"] == {"n": 1}
    assert verify_webhook(BODY, headers, [signing.secret_of(b"another"), SECRET])["type"] == "skus.create"


def test_an_old_delivery_is_refused() -> None:
    headers = signing.sign(BODY, "1", int(time.time()) - 400, [SECRET])
    with pytest.raises(InvalidSignature, match="s old; up to 300 s is right"):
        verify_webhook(BODY, headers, SECRET)
    assert verify_webhook(BODY, headers, SECRET, tolerance=1000)


@pytest.mark.parametrize("body", [BODY.decode(), {"id": "1"}])
def test_a_body_that_was_decoded_is_refused_with_what_would_be_right(body: Any) -> None:
    with pytest.raises(TypeError, match=r"^body is (str|dict): give the bytes as they came"):
        verify_webhook(body, signing.sign(BODY, "1", int(time.time()), [SECRET]), SECRET)


def test_a_secret_that_is_not_set_is_told() -> None:
    unset: Any = None
    with pytest.raises(ValueError, match="no secret was given"):
        verify_webhook(BODY, signing.sign(BODY, "1", int(time.time()), [SECRET]), unset)
