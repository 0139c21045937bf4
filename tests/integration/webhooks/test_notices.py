"""An owner whose endpoint was disabled is told by e-mail: by whichever process lives, and again where it failed."""

import asyncio
import logging
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from email import message_from_bytes
from email.message import Message
from email.utils import parsedate_to_datetime
from typing import Any

import pytest
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, Session

from streamhub.metrics import Metrics
from streamhub.webhooks import store
from streamhub.webhooks.notices import PAUSES, Notices
from tests.integration.conftest import History, eventually
from tests.integration.webhooks.conftest import Owner, Receiver, Start

GONE = "UPDATE streamhub_hub.webhook_queues SET notice_due_at = clock_timestamp() WHERE notice_due_at IS NOT NULL"


class Mailbox:
    """`answer` is what the server says to a message."""

    def __init__(self) -> None:
        self.messages: list[tuple[Envelope, Message]] = []
        self.answer = "250 OK"
        self.logins: list[tuple[bytes, bytes]] = []

    async def handle_DATA(self, _server: SMTP, _session: Session, envelope: Envelope) -> str:  # noqa: N802 - aiosmtpd's
        assert isinstance(envelope.content, bytes)
        if self.answer.startswith("250"):
            self.messages.append((envelope, message_from_bytes(envelope.content)))
        return self.answer

    def authenticate(self, _server: Any, _session: Any, _envelope: Any, _mechanism: str, given: Any) -> AuthResult:
        self.logins.append((given.login, given.password))
        return AuthResult(success=True)


pytestmark = pytest.mark.filterwarnings("ignore:Requiring AUTH while not requiring TLS:UserWarning")


@pytest.fixture
def mailbox() -> Mailbox:
    return Mailbox()


@pytest.fixture
async def mail_url(mailbox: Mailbox) -> AsyncIterator[str]:
    def protocol() -> SMTP:
        return SMTP(mailbox, authenticator=mailbox.authenticate, auth_require_tls=False, auth_required=True)

    server = await asyncio.get_running_loop().create_server(protocol, "127.0.0.1", 0)
    yield f"smtp://hub:s%40crt@127.0.0.1:{server.sockets[0].getsockname()[1]}?from=hub@example.com"
    server.close()


def told(metrics: Metrics, answer: str) -> float:
    lines = metrics.exposition([]).decode().splitlines()
    name = f'streamhub_webhook_endpoints_disabled_total{{told="{answer}"}}'
    return float(next(line for line in lines if line.startswith(name)).rpartition(" ")[2])


async def disabled(owner: Owner, **fields: Any) -> str:
    """An endpoint that was disabled by failures, its owner not told yet."""
    id_ = str((await owner.add(owner_email="owner@example.com", **fields))["id"])
    await owner.pool.execute(
        "UPDATE streamhub_hub.webhook_endpoints SET enabled = false, disabled_reason = 'it answered 410' WHERE id = $1",
        id_,
    )
    await owner.pool.execute(
        "UPDATE streamhub_hub.webhook_queues SET notice_due_at = clock_timestamp() WHERE endpoint = $1", id_
    )
    return id_


async def test_the_owner_is_told_once_why_and_what_to_do(
    history: History, organization: int, receiver: Receiver, owner: Owner, start: Start, mailbox: Mailbox,
    mail_url: str,
) -> None:  # fmt: skip
    receiver.answers["/a"] = 410
    id_ = (await owner.add(owner_email="owner@example.com"))["id"]
    await start(smtp=mail_url)
    await start(smtp=mail_url)
    await history.append(organization)

    async def is_told() -> bool:
        return bool(mailbox.messages)

    await eventually(is_told, 15)

    async def is_done() -> bool:
        return not await owner.pool.fetchval(
            "SELECT count(*) FROM streamhub_hub.webhook_queues WHERE notice_due_at IS NOT NULL"
        )

    await eventually(is_done)
    ((envelope, message),) = mailbox.messages
    assert (envelope.mail_from, envelope.rcpt_tos) == ("hub@example.com", ["owner@example.com"])
    assert (message["From"], message["To"]) == ("hub@example.com", "owner@example.com")
    text = message.get_payload(decode=True)
    assert isinstance(text, bytes)
    assert f"The webhook endpoint {id_} of my-org was disabled: it answered 410." in text.decode()
    assert mailbox.logins == [(b"hub", b"s@crt")]


async def test_the_message_tells_which_endpoint_and_is_whole_as_mail_servers_ask(
    organization: int, owner: Owner, mailbox: Mailbox, mail_url: str
) -> None:
    """RFC 5322 asks for a date; filters of spam ask for an id."""
    await disabled(owner, description="no text of the owner's")
    assert await Notices(owner.pool, mail_url, Metrics()).step()
    ((_, message),) = mailbox.messages
    assert message["Subject"] == "A webhook endpoint of my-org was disabled"
    text = message.get_payload(decode=True)
    assert isinstance(text, bytes)
    assert " of my-org was disabled: it answered 410.\r\n\r\n  127.0.0.1\r\n" in text.decode()
    assert b"no text" not in text
    sent = parsedate_to_datetime(message["Date"])
    assert abs((datetime.now(UTC) - sent).total_seconds()) < 60
    assert message["Message-ID"].endswith("@example.com>")
    assert message["Auto-Submitted"] == "auto-generated"


async def test_what_a_process_that_died_had_not_sent_is_sent_by_another(
    organization: int, owner: Owner, mailbox: Mailbox, mail_url: str
) -> None:
    await disabled(owner)

    class DiedError(Exception):
        pass

    class Dying(Notices):
        async def _send(self, *_: Any) -> None:
            raise DiedError

    with pytest.raises(DiedError):
        await Dying(owner.pool, mail_url, Metrics()).step()
    other, metrics = Notices(owner.pool, mail_url, Metrics()), Metrics()
    assert not await other.step()  # it is put off, as the first may be sending it
    await owner.pool.execute(GONE)
    other = Notices(owner.pool, mail_url, metrics)
    assert await other.step()
    assert not await other.step()
    assert len(mailbox.messages) == 1
    assert (told(metrics, "yes"), told(metrics, "no")) == (1, 0)


async def test_a_server_that_refuses_is_asked_again_after_pauses_and_given_up(
    organization: int, owner: Owner, mailbox: Mailbox, mail_url: str
) -> None:
    await disabled(owner)
    mailbox.answer = "451 later"
    metrics = Metrics()
    notices = Notices(owner.pool, mail_url, metrics)
    for pause in PAUSES:
        assert await notices.step()
        waits = await owner.pool.fetchval(
            "SELECT extract(epoch FROM notice_due_at - clock_timestamp())::float8 FROM streamhub_hub.webhook_queues"
        )
        assert pause - 5 < waits <= pause * 1.1
        assert told(metrics, "no") == 0
        await owner.pool.execute(GONE)
    assert await notices.step()
    assert not await notices.step()
    assert await owner.pool.fetchval("SELECT notice_due_at FROM streamhub_hub.webhook_queues") is None
    assert (told(metrics, "yes"), told(metrics, "no")) == (0, 1)


async def test_without_a_mail_server_it_is_logged_and_counted(
    organization: int, owner: Owner, caplog: pytest.LogCaptureFixture
) -> None:
    id_ = await disabled(owner)
    metrics = Metrics()
    with caplog.at_level(logging.WARNING):
        assert await Notices(owner.pool, None, metrics).step()
    assert f"webhook endpoint {id_} was disabled: SMTP_URL is not set" in caplog.text
    assert told(metrics, "no") == 1
    assert not await Notices(owner.pool, None, metrics).step()


async def test_an_endpoint_that_was_enabled_meanwhile_needs_no_notice(
    organization: int, owner: Owner, mailbox: Mailbox, mail_url: str
) -> None:
    id_ = await disabled(owner)
    async with owner.pool.acquire() as connection:
        await store.change(connection, owner.scope, id_, {"enabled": True})
    assert not await Notices(owner.pool, mail_url, Metrics()).step()
    assert not mailbox.messages


async def test_a_password_of_the_mail_server_is_in_no_log(
    organization: int, owner: Owner, caplog: pytest.LogCaptureFixture
) -> None:
    await disabled(owner)
    with caplog.at_level(logging.DEBUG):
        assert await Notices(owner.pool, "smtp://hub:s3cret@127.0.0.1:1", Metrics()).step()
    assert "failed" in caplog.text
    assert "s3cret" not in caplog.text
