"""The e-mail to an owner whose endpoint was disabled. Without SMTP_URL, or where it fails, it is logged and counted."""

import logging
import socket
from email.message import EmailMessage
from typing import Final
from urllib.parse import parse_qs, unquote, urlsplit

import aiosmtplib

from streamhub.metrics import Metrics

log = logging.getLogger(__name__)

SENT_WITHIN: Final = 20.0  # seconds


class Notices:
    """`url`: smtp://user:password@host:port?from=hub@example.com, or smtps."""

    def __init__(self, url: str | None, metrics: Metrics) -> None:
        self._url = url
        self._metrics = metrics

    async def disabled(self, endpoint: str, url: str, owner: str | None, reason: str) -> None:
        """Raises nothing but CancelledError."""
        log.warning("webhook endpoint %s was disabled: %s", endpoint, reason)
        told = False
        if self._url is not None and owner is not None:
            try:
                await self._send(endpoint, url, owner, reason)
                told = True
            except (aiosmtplib.SMTPException, OSError, ValueError) as error:
                log.warning("the owner of webhook endpoint %s was not told by e-mail: %r", endpoint, error)
        self._metrics.webhook_disabled(told=told)

    async def _send(self, endpoint: str, url: str, owner: str, reason: str) -> None:
        assert self._url is not None, "the caller has looked"
        parts = urlsplit(self._url)
        sender = parse_qs(parts.query).get("from", [f"streamhub@{socket.getfqdn()}"])[0]
        message = EmailMessage()
        message["From"], message["To"] = sender, owner
        message["Subject"] = "A webhook endpoint of yours was disabled"
        message.set_content(
            f"The webhook endpoint {endpoint} was disabled: {reason}.\n\n  {urlsplit(url).hostname}\n\n"
            "Events that come from now on are kept. Once the endpoint answers again, enable it: "
            "then they are delivered.\n"
            f"What had failed is delivered by `recover`.\n\n  streamhub webhook enable {endpoint}\n"
        )
        secure = parts.scheme == "smtps"
        await aiosmtplib.send(
            message,
            hostname=parts.hostname,
            port=parts.port or (465 if secure else 25),
            username=None if parts.username is None else unquote(parts.username),
            password=None if parts.password is None else unquote(parts.password),
            use_tls=secure,
            timeout=SENT_WITHIN,
        )
