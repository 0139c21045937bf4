"""PostgreSQL and Kafka in containers, where a Docker engine answers.

Tried: the choice (tests/unit/test_servers.py), on machines without an engine. Not tried: the containers themselves, of
which this file holds as little as possible.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any, Final, Literal

ANSWERS_WITHIN: Final = 2.0  # seconds
KAFKA_IMAGE: Final = "confluentinc/cp-kafka:8.1.0"
# As the servers that run without an engine: enough connections, and what is lost when the machine fails is lost.
POSTGRES_COMMAND: Final = "postgres -c max_connections=200 -c fsync={fsync}"


def ping() -> None:
    """Raises an error where Docker cannot be used: no engine, no rights, or no testcontainers."""
    import docker
    import testcontainers.core.container  # noqa: F401 - that it can be imported is what is asked

    docker.from_env(timeout=int(ANSWERS_WITHIN)).ping()


def answers(ping: Callable[[], object] = ping, within: float = ANSWERS_WITHIN) -> bool:
    """Whether an engine answers, in so many seconds; one that hangs counts as none."""
    answered = threading.Event()

    def ask() -> None:
        try:
            ping()
        except Exception:  # noqa: BLE001 - without Docker there is another way
            return
        answered.set()

    asking = threading.Thread(target=ask, daemon=True, name="Docker: ping")
    asking.start()
    asking.join(within)
    return answered.is_set()


engine_answers: Final = cache(answers)
"""Asked once a process."""


def place(
    given: str | None, engine_answers: Callable[[], bool] = engine_answers
) -> Literal["given", "container", "here"]:
    """Where a test server runs: the one that is `given` wins, then a container; else it is started on this machine."""
    if given:
        return "given"
    return "container" if engine_answers() else "here"


@contextmanager
def postgres(major: int, *, fsync: bool) -> Iterator[str]:
    """The URL of a superuser, with the locale and the encoding that test servers have."""
    from testcontainers.community.postgres import PostgresContainer

    container = PostgresContainer(f"postgres:{major}", username="postgres", dbname="postgres", driver=None)
    container.with_env("POSTGRES_INITDB_ARGS", "--encoding=UTF8 --locale=C.UTF-8")
    container.with_command(POSTGRES_COMMAND.format(fsync="on" if fsync else "off"))
    with container:
        yield str(container.get_connection_url(driver=None))


@contextmanager
def kafka() -> Iterator[str]:
    """host:port."""
    from testcontainers.community.kafka import KafkaContainer

    container: Any = KafkaContainer(KAFKA_IMAGE).with_kraft()
    with container:
        yield str(container.get_bootstrap_server())
