"""What an event says, on a line for people at a terminal. Nothing in it can move the cursor or change a color."""

from collections.abc import Mapping, Set
from typing import Any, Final

import orjson

LONGEST: Final = 40
"""Characters of one value."""

MOST: Final = 12
"""Columns that are shown."""


def summary(data: Mapping[str, Any]) -> str:
    """Of an event's object.

    >>> summary({"event": "update", "delta": {"price": {"from": "10.00", "to": "12.50"}}})
    'price 10.00 → 12.50'
    """
    if data.get("too_large"):
        return "(too large: its values are left out)"
    if "error" in data:
        return f"(could not be rendered: {short(data['error'])})"
    if "publish_id" in data:
        return short(data.get("data"), LONGEST * 4)
    delta: Mapping[str, Mapping[str, Any]] = data.get("delta") or {}
    known = {data.get("resource_id"), data.get("organization", {}).get("id")} - {None}  # they stand beside the line
    names = [name for name in delta if name != "updated_at" and not _is_among(known, delta[name])] or list(delta)
    shown = ", ".join(_column(data["event"], name, delta[name]) for name in names[:MOST])
    return shown + (", …" if len(names) > MOST else "")


def _is_among(known: Set[str], change: Mapping[str, Any]) -> bool:
    return any(isinstance(value, str) and value in known for value in change.values())


def _column(event: str, name: str, change: Mapping[str, Any]) -> str:
    if event == "create":
        return f"{printable(name)} {short(change['to'])}"
    if event == "destroy":
        return f"{printable(name)} {short(change['from'])}"
    return f"{printable(name)} {short(change['from'])} → {short(change['to'])}"


def short(value: object, longest: int = LONGEST) -> str:
    """A JSON value in at most `longest` characters; a string without its quotation marks."""
    text = "null" if value is None else value if isinstance(value, str) else orjson.dumps(value).decode()
    if len(text) > longest:  # before escaping, which makes it longer
        text = text[: longest - 1] + "…"
    return printable(text)


def printable(text: str) -> str:
    """Control characters, and those that turn the direction of writing, as escapes: what stands in a row is not for the
    terminal to obey."""
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else _escaped(each) for each in text)


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")
