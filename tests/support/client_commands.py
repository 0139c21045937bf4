"""Client commands of a hub, run beside the test that plays the hub."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Self

from click.testing import CliRunner, Result

from streamhub.cli import main
from streamhub.testing import FakeHub

PATIENCE = 20.0  # seconds
ROOT = Path(__file__).parents[2]


class Command:
    """One command in a thread of its own: it needs one that has no event loop. It ends in the `with`."""

    def __init__(self, arguments: list[str], environment: dict[str, str], written: str | None = None) -> None:
        self._runner = CliRunner()
        self._arguments = arguments
        self._environment = environment
        self._written = written
        self._result: Result | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        self._result = self._runner.invoke(
            main, self._arguments, input=self._written, env=self._environment, prog_name="streamhub"
        )

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.join(PATIENCE)

    @property
    def result(self) -> Result:
        """Once it has ended. An error that the command line does not expect is raised here."""
        self._thread.join(PATIENCE)
        assert self._result is not None, f"still runs after {PATIENCE} s"
        error = self._result.exception
        if error is not None and not isinstance(error, SystemExit):
            raise error
        return self._result


class Cli:
    """Client commands of a fake hub."""

    def __init__(self, fake: FakeHub) -> None:
        self.fake = fake

    def start(self, *arguments: str, written: str | None = None, **environment: str) -> Command:
        known = {"STREAMHUB_URL": self.fake.url, "STREAMHUB_ORG": self.fake.org, "STREAMHUB_TOKEN": self.fake.token}
        return Command(list(arguments), {**known, **environment}, written)

    def run(self, *arguments: str, written: str | None = None, **environment: str) -> Result:
        with self.start(*arguments, written=written, **environment) as command:
            return command.result

    def listen(self, *arguments: str, then: Callable[[], object], kind: str = "broadcast") -> Result:
        """`listen`: once it is connected, `then` happens, and once that was sent the organization is deleted, which
        ends the command."""
        with self.start("listen", *arguments) as command:
            self.fake.wait_for(1, "live" if kind == "live" else "broadcast", within=PATIENCE)
            then()
            self.fake.end_streams("DELETED", resumable=False)
            return command.result


def until(condition: Callable[[], bool], what: str) -> None:
    gives_up = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < gives_up, f"not within {PATIENCE} s: {what}"
        time.sleep(0.01)


def environment(fake: FakeHub, **more: str) -> dict[str, str]:
    """Of a process that is a client of it."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("STREAMHUB_")}
    return {
        **clean, "STREAMHUB_URL": fake.url, "STREAMHUB_ORG": fake.org, "STREAMHUB_TOKEN": fake.token,
        "PYTHONPATH": str(ROOT), **more,
    }  # fmt: skip
