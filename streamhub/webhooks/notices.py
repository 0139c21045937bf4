"""The e-mail to an owner whose endpoint was disabled.

That it is to be sent stands in the endpoint's queue from the transaction on that disables it. What takes it puts it off
until the next try, so that it is sent again where the process dies, and forgotten after the last try. Without SMTP_URL,
or without an address, it is counted alone.
"""

import logging
import socket
from datetime import UTC, datetime
from email.message import EmailMessage
from email.utils import format_datetime, make_msgid, parseaddr
from typing import Any, Final
from urllib.parse import parse_qs, unquote, urlsplit

import aiosmtplib
import asyncpg

from streamhub.metrics import Metrics
from streamhub.organizations import ORGANIZATIONS
from streamhub.postgres.connections import Pool

log = logging.getLogger(__name__)

TIMEOUT: Final = 10.0  # seconds
SENT_WITHIN: Final = 20.0
PAUSES: Final = (60.0, 300.0, 1_800.0, 7_200.0, 21_600.0)  # seconds between tries; the last of them is the sixth

_TAKE: Final = f"""
WITH taken AS (
  SELECT endpoint FROM streamhub_hub.webhook_queues WHERE notice_due_at <= statement_timestamp()
   ORDER BY notice_due_at LIMIT 1 FOR NO KEY UPDATE SKIP LOCKED)
UPDATE streamhub_hub.webhook_queues AS q
   SET notice_attempts = notice_attempts + 1,
       notice_due_at = clock_timestamp() + make_interval(secs => (1 + random() / 10)
                       * ($1::float8[])[least(notice_attempts, cardinality($1) - 1) + 1])
  FROM taken, streamhub_hub.webhook_endpoints AS e JOIN ({ORGANIZATIONS}) AS o ON o.key = e.organization
 WHERE q.endpoint = taken.endpoint AND e.id = taken.endpoint
RETURNING e.id::text, o.slug, e.test, e.url, e.owner_email,
          coalesce(e.disabled_reason, 'its deliveries failed') AS reason, q.notice_attempts AS attempts
"""
_DONE: Final = """
UPDATE streamhub_hub.webhook_queues SET notice_due_at = NULL WHERE endpoint = $1 AND notice_attempts = $2
"""


class Notices:
    """`url`: smtp://user:password@host:port?from=hub@example.com, or smtps."""

    def __init__(self, pool: Pool, url: str | None, metrics: Metrics) -> None:
        self._pool = pool
        self._url = url
        self._metrics = metrics

    async def step(self) -> bool:
        """Tell one owner; whether there was one to be told. Raises what asyncpg raises."""
        row = await self._pool.fetchrow(_TAKE, list(PAUSES), timeout=TIMEOUT)
        if row is None:
            return False
        told = await self._told(row)
        if told or told is None or row["attempts"] > len(PAUSES):
            await self._pool.execute(_DONE, row["id"], row["attempts"], timeout=TIMEOUT)
            self._metrics.webhook_disabled(told=bool(told))
        return True

    async def _told(self, row: asyncpg.Record) -> bool | None:
        """None where nobody can be told."""
        if self._url is None or row["owner_email"] is None:
            why = "SMTP_URL is not set" if self._url is None else "it has no owner_email"
            log.warning("no owner was told by e-mail that webhook endpoint %s was disabled: %s", row["id"], why)
            return None
        try:
            await self._send(self._url, message_of(row), row["owner_email"])
        except (aiosmtplib.SMTPException, OSError, ValueError) as error:
            log.warning(
                "try %d of %d to tell the owner of webhook endpoint %s by e-mail failed: %r",
                row["attempts"], len(PAUSES) + 1, row["id"], error,
            )  # fmt: skip
            return False
        return True

    async def _send(self, url: str, message: EmailMessage, owner: str) -> None:
        parts = urlsplit(url)
        sender = parse_qs(parts.query).get("from", [f"streamhub@{socket.gethostname()}"])[0]
        message["From"] = sender
        message["To"] = owner
        message["Date"] = format_datetime(datetime.now(UTC))
        message["Message-ID"] = make_msgid(domain=parseaddr(sender)[1].rpartition("@")[2] or None)
        message["Auto-Submitted"] = "auto-generated"  # RFC 3834: no out-of-office reply
        secure = parts.scheme == "smtps"
        given: dict[str, Any] = {
            "username": None if parts.username is None else unquote(parts.username),
            "password": None if parts.password is None else unquote(parts.password),
        }
        await aiosmtplib.send(
            message,
            hostname=parts.hostname,
            port=parts.port or (465 if secure else 25),
            use_tls=secure,
            timeout=SENT_WITHIN,
            **given,
        )


def message_of(row: asyncpg.Record) -> EmailMessage:
    """Of the URL its host alone, as the rest may hold a secret. No text of the endpoint's, such as its description: it
    would make the hub send anything to anyone."""
    message = EmailMessage()
    whose = f"{row['slug']}{' (test environment)' if row['test'] else ''}"
    message["Subject"] = f"A webhook endpoint of {row['slug']} was disabled"
    message.set_content(
        f"The webhook endpoint {row['id']} of {whose} was disabled: {row['reason']}.\n\n"
        f"  {urlsplit(row['url']).hostname}\n\n"
        "Events that come from now on are kept. Once the endpoint answers again, enable it: then they are delivered.\n"
        f"What had failed is delivered by `recover`.\n\n  streamhub webhook enable {row['id']}\n"
    )
    return message
