"""Kinds of values that options of several commands take."""

from __future__ import annotations

from datetime import timedelta

import click

from streamhub.config import parse_duration


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
