"""When lines of events have colors. What they say is in integration/cli/test_listen.py."""

import io
import sys

import pytest

from streamhub.cli.lines import EventLines
from streamhub.client import Event

ID = "01a202b2-c57c-7000-8000-00000000002a"
RAW = b'{"id":"%b","type":"skus.update","event":"update","resource_id":"a","test":true,"delta":null}' % ID.encode()


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("environment", "has_colors"),
    [({}, True), ({"NO_COLOR": "1"}, False), ({"NO_COLOR": ""}, True), ({"TERM": "dumb"}, False)],
)
def test_a_terminal_gets_colors_unless_it_or_its_user_has_none(
    environment: dict[str, str], has_colors: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    EventLines().show(Event((b"update", ID.encode(), RAW)))
    assert ("\x1b[" in terminal.getvalue()) is has_colors
    assert "test" in terminal.getvalue()
