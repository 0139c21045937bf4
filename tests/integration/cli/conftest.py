"""Commands on the database of a test."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from streamhub.cli import main
from streamhub.config import PREFIX, Settings

Run = Callable[..., Result]


@pytest.fixture
def run(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a command on this test's database; settings as keyword arguments."""
    for name in Settings.model_fields:
        monkeypatch.delenv(PREFIX + name.upper(), raising=False)
    monkeypatch.setenv("STREAMHUB_DATABASE_URL", database_url)
    monkeypatch.setenv("STREAMHUB_SIGNING_KEY_FILE", str(tmp_path / "key.pem"))

    def invoke(*arguments: str, **settings: str | None) -> Result:
        environment = {PREFIX + name: value for name, value in settings.items()}
        # A command runs an event loop of its own, so it needs a thread that has none.
        with ThreadPoolExecutor(1) as thread:
            return thread.submit(CliRunner().invoke, main, arguments, env=environment, prog_name="streamhub").result()

    return invoke


def rows(result: Result) -> list[dict[str, Any]]:
    assert result.exit_code == 0, result.output
    found: list[dict[str, Any]] = json.loads(result.stdout)
    return found
