"""Why a hub cannot be reached, in words."""

import errno
import socket
import ssl
from unittest.mock import Mock

import aiohttp
import pytest

from streamhub.client.errors import reason_of


def failed(error: OSError) -> aiohttp.ClientConnectorError:
    return aiohttp.ClientConnectorError(Mock(host="hub.example", port=443), error)


def certificate() -> ssl.SSLCertVerificationError:
    error = ssl.SSLCertVerificationError(1, "[SSL: CERTIFICATE_VERIFY_FAILED]")
    error.verify_message = "self-signed certificate"
    return error


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (socket.gaierror(socket.EAI_NONAME, "Name or service not known"), "the name cannot be resolved"),
        (ConnectionRefusedError(errno.ECONNREFUSED, "Connect call failed"), "Connection refused"),
        (certificate(), "its certificate is not accepted, self-signed certificate"),
        (ssl.SSLError(1, "[SSL: WRONG_VERSION_NUMBER] wrong version number"), "TLS fails, [ssl: wrong version number]"),
        (OSError("Multiple exceptions: one, another"), "Multiple exceptions: one, another"),
    ],
)
def test_why_a_hub_cannot_be_reached_is_told_in_words(error: OSError, words: str) -> None:
    assert reason_of(failed(error)).startswith("hub.example:443 cannot be reached: ")
    assert words in reason_of(failed(error))
