"""Kinds of values that options of several commands take."""

from __future__ import annotations

import time
from datetime import timedelta

import click

from streamhub.config import parse_duration
from streamhub.core.window import parse_instant, timestamp


class DurationType(click.ParamType[timedelta]):
    """`2h`, `90d`, as in the settings."""

    name = "duration"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> timedelta:
        if isinstance(value, timedelta):
            return value
        try:
            duration = parse_duration(str(value))
        except ValueError:
            duration = timedelta(0)
        if duration <= timedelta(0):
            self.fail(f"{value!r} is not a duration with a unit (s, m, h, d), for example 2h", param, ctx)
        return duration


class InstantType(click.ParamType[str]):
    """A time, or how long ago it is: `2h`."""

    name = "time"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> str:
        text = str(value)
        try:
            return timestamp(int(time.time() * 1000 - parse_duration(text).total_seconds() * 1000))
        except (ValueError, OverflowError):
            pass
        try:
            parse_instant(text)
        except ValueError:
            self.fail(
                f"{text!r} is no time: give one with its zone, as 2026-11-22T10:00:00Z, or how long ago, as 2h",
                param,
                ctx,
            )
        return text
