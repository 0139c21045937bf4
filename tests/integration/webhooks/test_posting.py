"""Which addresses are dialled, what is read of an answer, and a proxy between: on real sockets."""

import asyncio
import base64
import contextlib
import ipaddress
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any, Final

import pytest
from aiohttp import web
from aiohttp.abc import AbstractResolver, ResolveResult
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from streamhub.core import signing
from streamhub.webhooks import posting
from streamhub.webhooks.addresses import Addresses
from streamhub.webhooks.posting import Outcome, Poster
from tests.integration.webhooks.conftest import Receiver, hanging

HOST: Final = "hooks.example.com"
PUBLIC: Final = "93.184.216.34"
SECRET: Final = signing.secret_of(b"k" * 32)
LOOPBACK: Final = [ipaddress.ip_network("127.0.0.0/8")]


class Names:
    """What the system's resolver answers: for each look the next list, the last one for ever."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *answers: list[str]) -> None:
        self.looks = 0
        self._answers = answers
        real = socket.getaddrinfo

        def getaddrinfo(host: Any, port: Any, *more: Any, **named: Any) -> Any:
            if host != HOST:
                return real(host, port, *more, **named)
            found = self._answers[min(self.looks, len(self._answers) - 1)]
            self.looks += 1
            return [
                (
                    socket.AF_INET6 if ":" in each else socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "",
                    (each, port, 0, 0) if ":" in each else (each, port),
                )
                for each in found
            ]  # fmt: skip

        monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)


class Certificates:
    """An authority, and a receiver's certificate for HOST and 127.0.0.1 by it."""

    def __init__(self, directory: Path) -> None:
        now = datetime.now(UTC)
        keys = [ec.generate_private_key(ec.SECP256R1()) for _ in range(2)]
        names = [x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, each)]) for each in ("authority", HOST)]
        made = []
        for n in range(2):
            builder = (
                x509.CertificateBuilder()
                .subject_name(names[n])
                .issuer_name(names[0])
                .public_key(keys[n].public_key())
                .serial_number(x509.random_serial_number())
                .not_valid_before(now - timedelta(hours=1))
                .not_valid_after(now + timedelta(hours=1))
                .add_extension(x509.BasicConstraints(ca=n == 0, path_length=None), critical=True)
            )
            if n == 1:
                addresses = [x509.DNSName(HOST), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
                builder = builder.add_extension(x509.SubjectAlternativeName(addresses), critical=False)
            made.append(builder.sign(keys[0], hashes.SHA256()))
        pem = serialization.Encoding.PEM
        chain = directory / "receiver.pem"
        chain.write_bytes(
            keys[1].private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
            + made[1].public_bytes(pem)
        )
        self.server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.server.load_cert_chain(chain)
        self.client = ssl.create_default_context(cadata=made[0].public_bytes(pem).decode())


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
async def secure(certificates: Certificates, receiver: Receiver) -> AsyncIterator[int]:
    """The port of the receiver over TLS."""
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", receiver.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=certificates.server).start()
    yield runner.addresses[0][1]
    await runner.cleanup()


async def post(poster: Poster, url: str) -> Outcome:
    async with asyncio.timeout(20):
        return await poster.post(url, b'{"id":"x"}', "x", [SECRET], {})


@asynccontextmanager
async def production(certificates: Certificates, *allowed: Any, proxy: str | None = None) -> AsyncIterator[Poster]:
    async with Poster(Addresses(allowed), proxy=proxy, tls=certificates.client) as poster:
        yield poster


@pytest.fixture
async def local() -> AsyncIterator[Poster]:
    async with Poster(Addresses(development=True)) as poster:
        yield poster


@pytest.fixture
def dialled(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Addresses for which a socket was opened."""
    found: list[str] = []
    real = Addresses.open_socket

    def noted(self: Addresses, info: tuple[Any, ...]) -> socket.socket:
        opened = real(self, info)
        found.append(str(info[4][0]))
        return opened

    monkeypatch.setattr(Addresses, "open_socket", noted)
    return found


async def test_an_allowed_address_is_dialled_over_tls_by_its_name(
    certificates: Certificates, secure: int, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    Names(monkeypatch, ["127.0.0.1"])
    async with production(certificates, *LOOPBACK) as poster:
        outcome = await post(poster, f"https://{HOST}:{secure}/a")
    assert outcome.succeeded, outcome
    assert receiver.received[0].headers["host"] == f"{HOST}:{secure}"


async def test_a_certificate_that_is_not_trusted_is_a_failure(secure: int, receiver: Receiver) -> None:
    async with Poster(Addresses(LOOPBACK)) as poster:
        outcome = await post(poster, f"https://127.0.0.1:{secure}/a")
    assert outcome.error == "its TLS certificate is not valid: unable to get local issuer certificate"
    assert not receiver.received


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1", "[::1]", "[::ffff:127.0.0.1]", "[64:ff9b::7f00:1]", "169.254.169.254", "[fd00:ec2::254]",
     "2130706433", "0x7f.1", "10.0.0.1", "localhost"],
)  # fmt: skip
async def test_an_address_in_the_url_is_judged(
    certificates: Certificates, secure: int, receiver: Receiver, dialled: list[str], address: str
) -> None:
    async with production(certificates) as poster:
        outcome = await post(poster, f"https://{address}:{secure}/a")
    assert outcome.error is not None
    assert not dialled, outcome
    assert not receiver.received


@pytest.mark.parametrize(
    "addresses",
    [["127.0.0.1"], [PUBLIC, "127.0.0.1"], ["127.0.0.1", PUBLIC], [PUBLIC, "::ffff:127.0.0.1"], ["64:ff9b::a9fe:a9fe"],
     ["169.254.169.254"], ["2002:7f00:1::"], [PUBLIC, "fd00:ec2::254"]],
    ids=" ".join,
)  # fmt: skip
async def test_a_name_with_an_address_that_is_not_public_is_refused_whole(
    certificates: Certificates, secure: int, receiver: Receiver, dialled: list[str],
    monkeypatch: pytest.MonkeyPatch, addresses: list[str],
) -> None:  # fmt: skip
    Names(monkeypatch, addresses)
    async with production(certificates) as poster:
        outcome = await post(poster, f"https://{HOST}:{secure}/a")
    assert outcome.error is not None
    assert outcome.error.endswith("the name has an address that is not public")  # which one is not told
    assert not dialled
    assert not receiver.received


async def test_a_name_that_changes_to_loopback_after_a_look_gains_nothing(
    certificates: Certificates, secure: int, receiver: Receiver, dialled: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is dialled is what was judged: no look is made in between."""
    names = Names(monkeypatch, [PUBLIC], ["127.0.0.1"])
    monkeypatch.setattr(posting, "CONNECTED_WITHIN", 0.5)
    async with production(certificates) as poster:
        await post(poster, f"https://{HOST}:{secure}/a")
        assert (dialled, names.looks) == ([PUBLIC], 1)
        outcome = await post(poster, f"https://{HOST}:{secure}/a")
    assert outcome.error is not None
    assert "the name has an address that is not public" in outcome.error
    assert not receiver.received


async def test_the_address_that_is_dialled_is_judged_whatever_the_resolver_said(
    certificates: Certificates, secure: int, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Careless(AbstractResolver):
        """It judges nothing."""

        def __init__(self, _addresses: Addresses) -> None: ...

        async def resolve(self, host: str, port: int = 0, family: Any = 0) -> list[ResolveResult]:  # noqa: ARG002
            return [
                ResolveResult(
                    hostname=host, host="127.0.0.1", port=port, family=socket.AF_INET, proto=0,
                    flags=socket.AI_NUMERICHOST,
                )
            ]  # fmt: skip

        async def close(self) -> None: ...

    monkeypatch.setattr(posting, "Resolver", Careless)
    async with production(certificates) as poster:
        outcome = await post(poster, f"https://{HOST}:{secure}/a")
    assert outcome.error is not None
    assert "127.0.0.1 is not a public address" in outcome.error
    assert not receiver.received


async def test_a_row_of_sql_with_another_scheme_is_refused(certificates: Certificates, receiver: Receiver) -> None:
    async with production(certificates, *LOOPBACK) as poster:
        for url in (receiver.url(), "file:///etc/passwd", "https://user:password@127.0.0.1/", "x"):
            outcome = await post(poster, url)
            assert outcome.error is not None
            assert outcome.error.startswith("the URL is refused")
    assert not receiver.received


# -- answers


async def test_of_a_long_answer_64_kib_are_read_and_4_kept(local: Poster, receiver: Receiver) -> None:
    """The receiver would send for ever: it notices that what follows is not read."""
    written = 0
    ended = asyncio.Event()

    async def endless(request: web.Request) -> web.StreamResponse:
        nonlocal written
        answer = web.StreamResponse()
        await answer.prepare(request)
        try:
            while True:
                await answer.write(b"x" * 16_384)
                written += 16_384
        finally:
            ended.set()

    receiver.answers["/a"] = endless
    outcome = await post(local, receiver.url())
    assert outcome.succeeded
    assert outcome.excerpt == "x" * 4_096
    async with asyncio.timeout(10):
        await ended.wait()
    assert written < 32 * 1024 * 1024  # what buffers of the system took


async def test_an_answer_whose_body_does_not_come_is_decided_by_its_status(
    local: Poster, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(posting, "BODY_WITHIN", 0.2)
    released = asyncio.Event()

    async def stalls(request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse(headers={"Content-Length": "100"})
        await answer.prepare(request)
        await answer.write(b"begun")
        await released.wait()
        return answer

    receiver.answers["/a"] = stalls
    outcome = await post(local, receiver.url())
    released.set()
    assert (outcome.status, outcome.error, outcome.excerpt) == (200, None, "begun")


async def test_no_answer_in_time_is_a_failure(
    local: Poster, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(posting, "ANSWERED_WITHIN", 0.2)
    hold = asyncio.Event()
    receiver.answers["/a"] = hanging(hold)
    outcome = await post(local, receiver.url())
    hold.set()
    assert (outcome.status, outcome.error) == (None, "no answer within 0.2 s")


@asynccontextmanager
async def answering(sent: bytes) -> AsyncIterator[str]:
    """The URL of a receiver that answers with these bytes."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b'{"id":"x"}')
        writer.write(sent)
        with contextlib.suppress(OSError):
            await writer.drain()
            await reader.read()
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"


@pytest.mark.parametrize(
    "sent", [b"Transfer-Encoding: chunked\r\n\r\nno size\r\n", b"Content-Length: 0\r\n\r\nmore"], ids=["chunk", "more"]
)
async def test_a_fault_behind_the_head_is_a_body_that_breaks_off_at_once(
    local: Poster, monkeypatch: pytest.MonkeyPatch, sent: bytes
) -> None:
    monkeypatch.setattr(posting, "BODY_WITHIN", 60.0)
    async with answering(b"HTTP/1.1 200 OK\r\n" + sent) as url:
        outcome = await post(local, url)
    assert (outcome.status, outcome.error) == (200, None)


def closed_by(*, reset: bool) -> Callable[[socket.socket], None]:
    def close(connection: socket.socket) -> None:
        read = b""
        while not read.endswith(b"}"):
            read += connection.recv(4096)
        if reset:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.close()

    return close


@pytest.mark.parametrize(
    ("reset", "words"), [(True, "it reset the connection"), (False, "it closed the connection without an answer")]
)
async def test_a_connection_that_breaks_off_is_told_in_plain_words(local: Poster, reset: bool, words: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        accepted = asyncio.get_running_loop().run_in_executor(None, lambda: closed_by(reset=reset)(server.accept()[0]))
        outcome = await post(local, f"http://127.0.0.1:{server.getsockname()[1]}/")
        await accepted
    assert outcome.error == words


async def test_a_port_without_a_server_a_name_that_is_unknown_and_a_server_without_tls_are_told_in_plain_words(
    local: Poster, receiver: Receiver
) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        refused = await post(local, f"http://127.0.0.1:{unused.getsockname()[1]}/")
    unknown = await post(local, "https://no-such-host.invalid/")
    plain = await post(local, f"https://127.0.0.1:{receiver.port}/")
    assert refused.error == "it refused the connection"
    assert unknown.error in ("its host name was not found", "its host name could not be looked up just now")
    assert (plain.error or "").startswith("the TLS handshake failed: ")


async def test_a_connection_that_is_not_made_in_time_is_told_apart_from_an_answer_that_does_not_come(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(posting, "CONNECTED_WITHIN", 0.1)
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full, ExitStack() as held:
        for _ in range(2):  # its queue holds one more than it is told to
            one = held.enter_context(socket.socket())
            one.setblocking(False)
            one.connect_ex(full.getsockname())
        async with Poster(Addresses(development=True)) as poster:
            outcome = await post(poster, f"http://127.0.0.1:{full.getsockname()[1]}/")
    assert outcome.error == "no connection within 0.1 s"


async def test_an_answer_that_is_not_http_is_told_without_the_url(local: Poster) -> None:
    """Its query may hold a secret."""
    async with answering(b"SSH-2.0-foo\r\n\r\n") as url:
        outcome = await post(local, f"{url}garbage?token=GEHEIM42")
    assert outcome.error is not None
    assert outcome.error.endswith("Bad status line: Expected HTTP/, RTSP/ or ICE/: b'SSH-2.0-foo'")  # in one line
    assert "GEHEIM42" not in outcome.error


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_not_followed(local: Poster, receiver: Receiver, status: int) -> None:
    async def redirect(request: web.Request) -> web.StreamResponse:
        return web.Response(status=status, headers={"Location": receiver.url("/elsewhere")})

    receiver.answers["/a"] = redirect
    outcome = await post(local, receiver.url())
    assert (outcome.succeeded, outcome.status) == (False, status)
    assert not receiver.on("/elsewhere")


async def test_retry_after_is_seconds_or_a_date(local: Poster, receiver: Receiver) -> None:
    at = format_datetime(datetime.now(UTC) + timedelta(seconds=120), usegmt=True)
    seen = []
    for text in ("120", at, "-5", "soon", "9" * 30):

        async def busy(request: web.Request, text: str = text) -> web.StreamResponse:
            return web.Response(status=503, headers={"Retry-After": text})

        receiver.answers["/a"] = busy
        seen.append((await post(local, receiver.url())).retry_after)
    assert seen[0] == 120
    assert seen[1] is not None
    assert 115 < seen[1] <= 121
    assert seen[2:] == [None, None, posting.LONGEST_RETRY_AFTER]


class Flood:
    """A receiver that answers with `sent` for ever. `ended` is set when it can no more, `written` are its bytes.

    `first`: what it sends before, and what it awaits then."""

    def __init__(self, sent: bytes, *first: tuple[bytes, asyncio.Event]) -> None:
        self.ended = asyncio.Event()
        self.written = 0
        self.url = ""
        self._sent = sent
        self._first = first

    async def __aenter__(self) -> "Flood":
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()

    async def is_cut_off(self) -> None:
        """At once, with no more sent than buffers of the system take."""
        async with asyncio.timeout(5):
            await self.ended.wait()
        assert self.written < 32 * 1024 * 1024

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            await reader.readuntil(b'{"id":"x"}')
            for each, then in self._first:
                writer.write(each)
                await then.wait()
            while True:
                writer.write(self._sent)
                await writer.drain()
                self.written += len(self._sent)
        self.ended.set()
        writer.close()


async def test_interim_answers_without_end_are_a_failure_at_once(local: Poster) -> None:
    async with Flood(b"HTTP/1.1 100 Continue\r\n\r\n" * 2_000) as flood:
        outcome = await post(local, flood.url)
        await flood.is_cut_off()
    assert outcome.error == "it sent over 10 answers to one request"


async def test_a_connection_that_goes_on_answering_without_a_request_is_closed(local: Poster) -> None:
    answer, goes_on = b"HTTP/1.1 204 No Content\r\n\r\n", asyncio.Event()
    async with Flood(answer * 2_000, (answer, goes_on)) as flood:
        assert (await post(local, flood.url)).succeeded
        goes_on.set()
        await flood.is_cut_off()


@pytest.mark.parametrize(
    ("sent", "first"),
    [
        (b"\r\n" * 30_000, b""),
        (b"\n" * 30_000, b""),
        (b"\r\n" * 30_000, b"HTTP/1.1 102 Processing\r\n\r\n"),
        (b"X-A: " + b"a" * 7_000 + b"\r\n", b"HTTP/1.1 200 OK\r\n"),
    ],
    ids=["blank", "lines", "interim", "headers"],
)
async def test_a_head_without_end_is_a_failure_at_once(local: Poster, sent: bytes, first: bytes) -> None:
    goes_on = asyncio.Event()
    goes_on.set()
    async with Flood(sent, (first, goes_on)) as flood:
        outcome = await post(local, flood.url)
        await flood.is_cut_off()
    assert (outcome.status, outcome.error) == (None, "its answer's head has no end within 64 KiB, or 4096 packets")


async def test_a_head_in_packets_of_a_byte_is_cut_off_by_their_number(local: Poster) -> None:
    sent = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        await reader.readuntil(b'{"id":"x"}')
        while not writer.is_closing():
            writer.write(b"\n")
            sent += 1
            await asyncio.sleep(0)  # it is read alone
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        outcome = await post(local, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/")
    assert outcome.error == "its answer's head has no end within 64 KiB, or 4096 packets"
    assert sent < posting.MOST_HEAD // 2


async def test_blank_lines_without_a_request_close_the_connection(local: Poster) -> None:
    goes_on = asyncio.Event()
    async with Flood(b"\r\n" * 30_000, (b"HTTP/1.1 204 No Content\r\n\r\n", goes_on)) as flood:
        assert (await post(local, flood.url)).succeeded
        goes_on.set()
        await flood.is_cut_off()


@pytest.mark.parametrize(
    ("sent", "first"),
    [
        (b"1;ext=" + b"e" * 60_000 + b"\r\nx\r\n", b"5\r\nbegun\r\n"),
        (b"X-A: " + b"a" * 7_000 + b"\r\n", b"5\r\nbegun\r\n0\r\n"),
    ],
    ids=["extensions", "trailers"],
)
@pytest.mark.parametrize("status", [200, 500])
async def test_framing_without_end_is_cut_off_and_the_status_decides(
    local: Poster, monkeypatch: pytest.MonkeyPatch, sent: bytes, first: bytes, status: int
) -> None:
    monkeypatch.setattr(posting, "BODY_WITHIN", 60.0)
    goes_on = asyncio.Event()
    goes_on.set()
    head = b"HTTP/1.1 %d X\r\nTransfer-Encoding: chunked\r\n\r\n" % status
    async with Flood(sent, (head + first, goes_on)) as flood:
        outcome = await post(local, flood.url)
        await flood.is_cut_off()
    assert (outcome.status, outcome.succeeded) == (status, status == 200)
    assert outcome.excerpt.startswith("begun")


async def test_a_long_body_in_one_packet_with_its_head_is_read_to_its_bound(local: Poster) -> None:
    size = 250_000
    async with answering(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size + b"x" * size) as url:
        outcome = await post(local, url)
    assert (outcome.status, outcome.error, outcome.excerpt) == (200, None, "x" * posting.MOST_KEPT)


async def test_a_few_interim_answers_are_passed_over(local: Poster, receiver: Receiver) -> None:
    async def hesitates(request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        request.transport.write(b"HTTP/1.1 102 Processing\r\n\r\n" * 5)
        return web.Response(status=202)

    receiver.answers["/a"] = hesitates
    outcomes = [await post(local, receiver.url()) for _ in range(3)]  # by one connection
    assert [each.status for each in outcomes] == [202, 202, 202]


# -- through a proxy


class ConnectProxy:
    """It takes CONNECT from who has the password, and joins it to `port` of loopback, whatever was asked."""

    def __init__(self, port: int) -> None:
        self.asked: list[str] = []
        self.heads: list[str] = []
        self._port = port
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> "ConnectProxy":
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()

    def url(self, credentials: str) -> str:
        assert self._server is not None
        return f"http://{credentials}@127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        self.heads.append(head)
        self.asked.append(head.splitlines()[0])
        right = base64.b64encode(b"hub:s@crt").decode()
        if f"Proxy-Authorization: Basic {right}" not in head or not head.startswith("CONNECT "):
            writer.write(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
            writer.close()
            return
        beyond, to = await asyncio.open_connection("127.0.0.1", self._port)
        writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        for source, target in ((reader, to), (beyond, writer)):
            task = asyncio.create_task(self._join(source, target))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    @staticmethod
    async def _join(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        try:
            while data := await source.read(65_536):
                target.write(data)
                await target.drain()
        except OSError:
            pass
        finally:
            target.close()


async def test_a_delivery_goes_through_the_proxy_by_name_and_with_its_credentials(
    certificates: Certificates, secure: int, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    Names(monkeypatch, [PUBLIC])
    async with (
        ConnectProxy(secure) as proxy,
        production(certificates, proxy=proxy.url("hub:s%40crt")) as poster,
    ):
        outcomes = [await post(poster, f"https://{HOST}/a") for _ in range(2)]
    assert [each.status for each in outcomes] == [204, 204]
    assert proxy.asked == [f"CONNECT {HOST}:443 HTTP/1.1"]  # once: the connection is used again
    assert len(receiver.received) == 2
    assert "proxy-authorization" not in receiver.received[0].headers
    assert SECRET not in proxy.heads[0]


async def test_a_name_that_is_not_public_is_not_asked_of_the_proxy(
    certificates: Certificates, secure: int, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    Names(monkeypatch, [PUBLIC, "169.254.169.254"])
    async with (
        ConnectProxy(secure) as proxy,
        production(certificates, proxy=proxy.url("hub:s%40crt")) as poster,
    ):
        outcome = await post(poster, f"https://{HOST}/a")
        literal = await post(poster, "https://[::ffff:10.0.0.1]/a")
    assert "the name has an address that is not public" in (outcome.error or "")
    assert "is not a public address" in (literal.error or "")
    assert not proxy.asked
    assert not receiver.received


async def test_loopback_in_development_is_this_machine_and_not_the_proxys(receiver: Receiver) -> None:
    async with (
        ConnectProxy(1) as proxy,
        Poster(Addresses(development=True), proxy=proxy.url("hub:s%40crt")) as poster,
    ):
        outcome = await post(poster, receiver.url())
    assert (outcome.status, proxy.asked, len(receiver.received)) == (204, [], 1)


async def test_an_owner_learns_nothing_of_the_proxy(
    certificates: Certificates, secure: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    Names(monkeypatch, [PUBLIC])
    async with ConnectProxy(secure) as proxy:
        url = proxy.url("hub:wr0ng")
        async with production(certificates, proxy=url) as poster:
            refused = await post(poster, f"https://{HOST}/a")
    async with production(certificates, proxy=url) as poster:  # it is gone
        away = await post(poster, f"https://{HOST}/a")
    assert (refused.error, away.error) == ("the proxy answered 407 to CONNECT", "the proxy was not reached")
