"""Tables that commands print."""

from __future__ import annotations

import io

import pytest

from streamhub.cli.output import print_rows

ROW = {"id": "8b43f0b6-627f-4bd6-a9d5-9b8f3e5b1c11", "url": "http://127.0.0.1:3000/webhooks", "rate": None}


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def printed(monkeypatch: pytest.MonkeyPatch, *, width: int) -> str:
    monkeypatch.setattr("sys.stdout", terminal := Terminal())
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setenv("TERM", "xterm")
    print_rows([ROW, ROW], list(ROW), as_json=False)
    return terminal.getvalue()


def test_rows_that_fit_the_terminal_are_a_table(monkeypatch: pytest.MonkeyPatch) -> None:
    assert f"{ROW['id']}  {ROW['url']}" in printed(monkeypatch, width=90)


def test_rows_wider_than_the_terminal_are_whole_with_a_line_for_each_value(monkeypatch: pytest.MonkeyPatch) -> None:
    row = f"id    {ROW['id']}\nurl   {ROW['url']}\n"
    assert printed(monkeypatch, width=60) == f"{row}\n{row}"
