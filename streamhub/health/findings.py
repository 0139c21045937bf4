"""What the checks of `streamhub doctor` are given, and what they find.

A check is an async function over the `Patient`; it yields Findings.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Literal, NamedTuple

from streamhub.config import Settings
from streamhub.postgres.connections import Connection

Verdict = Literal["ok", "warn", "fail"]


class Finding(NamedTuple):
    """`fix` says what to do; empty where there is nothing to do."""

    check: str
    state: Verdict
    detail: str
    fix: str = ""


class Patient(NamedTuple):
    """`sources` has every database that could be reached and may hold an outbox, the hub's own under `hub`."""

    settings: Settings
    hub: Connection
    sources: dict[str, Connection]


Check = Callable[[Patient], AsyncIterator[Finding]]
