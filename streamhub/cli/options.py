"""What several commands are made of: kinds of values that options take, and groups."""

from __future__ import annotations

from datetime import timedelta

import click

from streamhub.core.durations import parse_duration


class Group(click.Group):
    """Its help has the whole first sentence of each command, where click's own would cut it."""

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        with formatter.section("Commands"):
            formatter.write_dl([(name, each.get_short_help_str(1_000)) for name, each in self.commands.items()])


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
