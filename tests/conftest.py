"""A real PostgreSQL and a real Kafka for the whole run, and a fresh, migrated database for each test that needs one."""

import os
import shutil
import signal
from collections.abc import AsyncIterator, Iterator
from typing import NoReturn
from urllib.parse import urlsplit

import asyncpg
import pytest

from servers import containers
from servers import postgres as debian
from servers.access import Access
from servers.clusters import cluster_directory
from servers.kafka import Broker, NoBrokerError
from streamhub.embedded import EmbeddedPostgres
from streamhub.history import head
from streamhub.history.partitions import Partitions
from streamhub.postgres.migrate import migrate_hub, migrate_source
from tests.support.database import Connection, Pool
from tests.support.fresh_databases import FreshDatabases

TEMPLATE = f"streamhub_template_{os.getpid()}"

ON_BOTH = (
    "tests/integration/capture/",
    "tests/integration/relay/",
    "tests/integration/history/",
    "tests/integration/health/test_doctor.py",
    "tests/integration/postgres/test_sessions.py",
    "tests/migration/",
)
"""What runs on the PostgreSQL that we bring and on Debian's, which is older and has the settings that it comes with."""
ON_ONE = ("needs_postgres_18", "needs_fsync", "runs_once")


def pytest_configure(config: pytest.Config) -> None:
    # Where a shell started this in the background, SIGINT is ignored, and every command under test inherits that.
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    config.addinivalue_line("markers", "needs_postgres_18: what it tests came with PostgreSQL 18")
    config.addinivalue_line("markers", "runs_once: one server is enough; it moves much data, or tests our own code")
    config.addinivalue_line("markers", "from_nothing: its command finds no cluster, and creates one")
    config.addinivalue_line("markers", "needs_fsync: it judges fsync, which Debian's runs without here")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Tests of ON_BOTH that use the shared server run twice. Tests with a server of their own use the embedded one."""
    path = metafunc.definition.path.relative_to(metafunc.config.rootpath).as_posix()
    if "postgres_url" in metafunc.fixturenames and path.startswith(ON_BOTH) and "TEST_DATABASE_URL" not in os.environ:
        servers = ["postgres18"]
        if not any(metafunc.definition.get_closest_marker(name) for name in ON_ONE):
            servers.append(f"postgres{_older_major()}")
        metafunc.parametrize("postgres_url", servers, indirect=True, scope="session")


def _older_major() -> int:
    """Of the server that is not ours; the same in a container, so that tests have the same names everywhere."""
    found = debian.installed()
    return found[0] if found else debian.OLDEST


def database_of(url: str, name: str) -> str:
    """The same server's database of that name."""
    return urlsplit(url)._replace(path=f"/{name}").geturl()


@pytest.fixture(scope="session")
def _newest_url() -> Iterator[str]:
    """PostgreSQL 18: in a container where a Docker engine answers, else of the wheel that we bring."""
    if containers.place(None) == "container":
        with containers.postgres(18, fsync=True) as url:
            yield url
        return
    # Not pytest's directory: it is closed to the user that PostgreSQL runs as where we are root.
    directory = cluster_directory()
    postgres = EmbeddedPostgres(directory)
    postgres.start()
    try:
        yield postgres.url
    finally:
        postgres.stop("immediate")
        shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture(scope="session")
def debian_url() -> Iterator[str]:
    """Debian's PostgreSQL. Not installed: a failure with REQUIRE_POSTGRES_15=1, else a skip."""
    try:
        postgres = debian.DebianPostgres()
    except debian.NoPostgresError as error:
        missing(str(error), "REQUIRE_POSTGRES_15")
    postgres.start()
    try:
        yield postgres.url
    finally:
        postgres.stop()


@pytest.fixture(scope="session")
def _older_url(request: pytest.FixtureRequest) -> Iterator[str]:
    """An older PostgreSQL: in a container where a Docker engine answers, else Debian's."""
    if containers.place(None) == "container":
        with containers.postgres(_older_major(), fsync=False) as url:
            yield url
        return
    yield request.getfixturevalue("debian_url")


@pytest.fixture(scope="session")
def postgres_url(request: pytest.FixtureRequest) -> str:
    """A server that tests may do anything with: TEST_DATABASE_URL where given, else PostgreSQL 18 or an older one."""
    given = os.environ.get("TEST_DATABASE_URL")
    if given:
        return given
    newest = getattr(request, "param", "postgres18") == "postgres18"
    url: str = request.getfixturevalue("_newest_url" if newest else "_older_url")
    return url


@pytest.fixture(scope="session")
async def template(postgres_url: str) -> AsyncIterator[str]:
    """The name of a database with the schemas of a hub and of a source in it, and with the weeks of history that the
    first relay makes; copying it is quick."""
    server = await asyncpg.connect(postgres_url)
    await server.execute(f"DROP DATABASE IF EXISTS {TEMPLATE}")
    await server.execute(f"CREATE DATABASE {TEMPLATE}")
    connection = await asyncpg.connect(database_of(postgres_url, TEMPLATE))
    await migrate_hub(connection)
    await migrate_source(connection)
    await Partitions(connection).ensure(await head.now_ms(connection))
    await connection.close()
    yield TEMPLATE
    await server.execute(f"DROP DATABASE IF EXISTS {TEMPLATE} WITH (FORCE)")
    await server.close()


@pytest.fixture(scope="session")
async def _fresh(postgres_url: str, template: str) -> AsyncIterator[FreshDatabases]:
    async with FreshDatabases(postgres_url, template) as databases:
        yield databases


@pytest.fixture
async def database_url(postgres_url: str, _fresh: FreshDatabases) -> AsyncIterator[str]:
    """A database of this test's own: hub and source in one."""
    name = await _fresh.take()
    yield database_of(postgres_url, name)
    await _fresh.drop(name)


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[Pool]:
    async with asyncpg.create_pool(database_url, min_size=1, max_size=10) as pool:
        yield pool


@pytest.fixture
async def connection(database_url: str) -> AsyncIterator[Connection]:
    connection = await asyncpg.connect(database_url)
    yield connection
    connection.terminate()


@pytest.fixture(scope="session")
def access(tmp_path_factory: pytest.TempPathFactory) -> Access:
    """Certificates, and users that may do nothing until `allow` grants it."""
    return Access(tmp_path_factory.mktemp("access"), {"hub": "its-password", "stranger": "another-one"})


@pytest.fixture(scope="session")
def _broker(access: Access) -> Iterator[Broker]:
    try:
        broker = Broker(access=access)
        broker.start()
    except NoBrokerError as error:
        no_kafka(error)
    yield broker
    broker.close()


@pytest.fixture(scope="session")
def kafka(request: pytest.FixtureRequest) -> Iterator[str]:
    """Bootstrap servers of a Kafka that topics may be made on: KAFKA_BOOTSTRAP_SERVERS where given, else one in a
    container where a Docker engine answers, else one from Maven Central. Without any: a failure with REQUIRE_KAFKA=1,
    else a skip.
    """
    given = os.environ.get("KAFKA_BOOTSTRAP_SERVERS")
    match containers.place(given):
        case "given":
            assert given is not None
            yield given
        case "container":
            with containers.kafka() as bootstrap:
                yield bootstrap
        case "here":
            yield request.getfixturevalue("_broker").bootstrap


@pytest.fixture
def broker(_broker: Broker) -> Iterator[Broker]:
    """A broker on this machine that a test may stop, kill and suspend; it runs again after the test."""
    _broker.start()
    yield _broker
    if _broker.pid is not None:
        _broker.resume()
    _broker.start()


def no_kafka(reason: NoBrokerError) -> NoReturn:
    """A failure with REQUIRE_KAFKA=1, else a skip."""
    missing(str(reason), "REQUIRE_KAFKA")


def missing(reason: str, required_by: str) -> NoReturn:
    """A failure where the environment has `required_by` as 1, else a skip."""
    if os.environ.get(required_by) == "1":
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)
