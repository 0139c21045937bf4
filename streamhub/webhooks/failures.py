"""Why an attempt got no answer, in plain English for the endpoint's owner."""

import errno
import os
import socket
import ssl
from typing import Final

import aiohttp

from streamhub.webhooks.addresses import RefusedAddressError

_SAID: Final = {
    errno.ECONNREFUSED: "it refused the connection",
    errno.ECONNRESET: "it reset the connection",
    errno.ECONNABORTED: "it reset the connection",
    errno.EPIPE: "it reset the connection",
    errno.EHOSTUNREACH: "there is no route to its host",
    errno.ENETUNREACH: "there is no route to its host",
}


def explained(error: Exception) -> str:
    """In one short sentence without a full stop, that names no class of Python and tells nothing of the operator's
    proxy."""
    return _explained(error).replace("\0", "\ufffd")


def _explained(error: Exception) -> str:
    if isinstance(error, aiohttp.ClientHttpProxyError):
        return f"the proxy answered {error.status} to CONNECT"
    if isinstance(error, aiohttp.ClientProxyConnectionError):
        return "the proxy was not reached"
    if isinstance(error, aiohttp.InvalidURL):
        return "the URL is refused: it is no URL"
    if isinstance(error, aiohttp.ClientResponseError):  # as text it shows the URL, whose query may hold a secret
        lines = (each.strip() for each in error.message.splitlines())
        return f"its answer is not HTTP: {' '.join(each for each in lines if each not in ('', '^'))[:300]}"
    if isinstance(error, aiohttp.ServerDisconnectedError):
        return "it closed the connection without an answer"
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return _of_the_system(error.certificate_error)
    return _of_the_system(getattr(error, "os_error", None) or error)


def _of_the_system(error: Exception) -> str:
    if isinstance(error, RefusedAddressError):
        return str(error)
    if isinstance(error, socket.gaierror):
        is_passing = error.errno == socket.EAI_AGAIN
        return "its host name could not be looked up just now" if is_passing else "its host name was not found"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its TLS certificate is not valid: {error.verify_message or 'it is not trusted'}"
    if isinstance(error, ssl.SSLError):
        why = (getattr(error, "reason", None) or "").replace("_", " ").lower()
        return f"the TLS handshake failed{f': {why}' if why else ''}"
    number = getattr(error, "errno", None)
    if isinstance(error, TimeoutError):
        return "the connection timed out"
    if number:
        return _SAID.get(number) or f"the connection failed: {os.strerror(number)}"
    return str(error)[:300] or "the connection failed"
