"""The gateway on its sockets: `async with serve(…)` starts everything, and drains and stops it at the end."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final, NamedTuple

from aiohttp import web

from streamhub.config import Settings
from streamhub.errors import UserError
from streamhub.gateway.app import Kinds, create_app, create_operations_app
from streamhub.gateway.gateway import Gateway
from streamhub.metrics import Metrics
from streamhub.postgres.connections import Pool
from streamhub.tail import Tail
from streamhub.web.access import AccessLog
from streamhub.web.auth import Authenticator, Issuer, Keys, PemKeys, pem_keys
from streamhub.web.connection import LONGEST_LINE, Runner
from streamhub.web.connections import Connections, allow_open_files
from streamhub.web.jwks import JwksKeys
from streamhub.web.listening import Listening

log = logging.getLogger(__name__)

SHUTDOWN_WITHIN: Final = 5.0  # seconds, after the drain
STOPS_WITHIN: Final = 0.75  # seconds, after that
ANSWERED_WITHIN: Final = 0.1  # seconds that a connection which was just made has to send its request


class RunningGateway(NamedTuple):
    """`url` without a slash at its end; `port` is the one bound, also where 0 was asked for."""

    gateway: Gateway
    kinds: Kinds
    url: str
    port: int


def authenticator_of(settings: Settings, development_key: tuple[str, bytes] | None = None) -> Authenticator:
    """What verifies tokens by these settings. `development_key` is (issuer, public key in PEM). Raises UserError."""
    issuers = []
    if settings.jwt_issuers:
        keys: Keys
        if settings.jwt_jwks_url is not None:
            keys = JwksKeys(settings.jwt_jwks_url)
        elif settings.jwt_public_key_file is not None:
            keys = pem_keys(settings.jwt_public_key_file)
        else:
            raise UserError("STREAMHUB_JWT_ISSUERS is set, but no key to verify their tokens with")
        issuers.append(Issuer(frozenset(settings.jwt_issuers), keys))
    if development_key is not None:
        name, pem = development_key
        issuers.append(Issuer(frozenset({name}), PemKeys(pem, "the development key")))
    return Authenticator(issuers, settings.jwt_audience, settings.jwt_leeway.total_seconds())


@asynccontextmanager
async def serve(
    settings: Settings,
    hub: Pool,
    tail: Tail,
    authenticator: Authenticator,
    *,
    host: str | None = None,
    port: int | None = None,
    reuse_port: bool = False,
    metrics: Metrics | None = None,
    sources: Mapping[str, str] | None = None,
) -> AsyncIterator[RunningGateway]:
    """Serve until the block ends, then drain. The tail is the caller's to start and stop, as is the pool.

    `host` and `port` win over the settings'; port 0 takes a free one. `metrics` are the process's, `sources` the
    databases beside the hub's own, by name. With `reuse_port` other processes may listen on the same ports. Raises
    UserError where it cannot listen, and what asyncpg raises while the database is away.
    """
    host = settings.host if host is None else host
    port = settings.port if port is None else port
    files = allow_open_files()
    gateway = Gateway(settings, hub, tail, authenticator, metrics, sources)
    gateway.connections = Connections(files)
    kinds = Kinds(gateway)
    own_port = None if settings.operations_port == port else settings.operations_port
    public = _runner(
        create_app(gateway, kinds, with_operations=own_port is None),
        gateway,
        access_log_class=AccessLog,
        max_line_size=LONGEST_LINE,
        max_field_size=LONGEST_LINE,
    )
    runners = [public]
    listening: list[Listening] = []
    try:
        authenticator.start()
        await gateway.start()
        kinds.start()
        await public.setup()
        bound = await _listen(listening, public, host, port, reuse_port)
        if own_port is not None:
            runners.append(_runner(create_operations_app(gateway), gateway, access_log=None))
            await runners[-1].setup()
            await _listen(listening, runners[-1], host, own_port, reuse_port)
        log.info("%d files may be open in this process, so up to %d streams", files, gateway.connections.most_streams)
        yield RunningGateway(gateway, kinds, f"http://{_for_url(host)}:{bound}", bound)
    finally:
        began = time.monotonic()
        await gateway.drain()
        for port_of_ours in listening:
            await port_of_ours.stop()  # what has been accepted is answered
        await asyncio.sleep(ANSWERED_WITHIN)
        for each in runners:
            await each.cleanup()
        await _stop_soon(gateway, kinds, authenticator)
        log.info("the gateway stopped in %.1f s", time.monotonic() - began)


def _runner(app: web.Application, gateway: Gateway, **kwargs: Any) -> Runner:
    return Runner(
        app,
        gateway.connections,
        lambda: gateway.node.trusted,
        gateway.metrics,
        shutdown_timeout=SHUTDOWN_WITHIN,
        auto_decompress=False,  # a small body can become a huge one, on the loop, although no handler reads it
        **kwargs,
    )


async def _stop_soon(gateway: Gateway, kinds: Kinds, authenticator: Authenticator) -> None:
    """Within STOPS_WITHIN, whether the database answers or not."""
    stopping = asyncio.create_task(_stop(gateway, kinds, authenticator))
    await asyncio.wait({stopping}, timeout=STOPS_WITHIN)
    if not stopping.done():
        log.warning("the database does not answer: leases and this node's row are left to expire")
        stopping.cancel()
    elif (error := stopping.exception()) is not None:
        log.error("the gateway did not stop in order", exc_info=error)


async def _stop(gateway: Gateway, kinds: Kinds, authenticator: Authenticator) -> None:
    await kinds.stop()
    await gateway.stop()
    await authenticator.stop()


async def _listen(listening: list[Listening], runner: web.AppRunner, host: str, port: int, reuse_port: bool) -> int:
    """The port."""
    assert runner.server is not None
    listening.append(Listening(runner.server))
    try:
        return await listening[-1].start(host, port, reuse_port=reuse_port)
    except OSError as error:
        raise UserError(f"cannot listen on {host} port {port}: {error.strerror or error}; try another port") from None


def _for_url(host: str) -> str:
    if host in ("0.0.0.0", "::", ""):  # noqa: S104
        return "127.0.0.1"
    return f"[{host}]" if ":" in host else host
