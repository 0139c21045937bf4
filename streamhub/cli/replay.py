"""`streamhub replay`: a piece of history, one JSON object a line, complete or exit code 1."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias

import click
import orjson

from streamhub.cli.database import say
from streamhub.cli.remote import Choice, Remote, choice_options, remote_options, spoken
from streamhub.core import ids
from streamhub.core.durations import parse_duration
from streamhub.core.type_patterns import TypePatterns
from streamhub.core.window import parse_instant, timestamp
from streamhub.errors import UserError

if TYPE_CHECKING:
    from streamhub.cli.replay_file import ReplayFile
    from streamhub.client import Event, IncompleteReplay, StreamHub

    Take: TypeAlias = Callable[[list[Event]], None]

STDOUT: Final = Path("-")


class InstantType(click.ParamType[str]):
    """A time, or how long ago it is: `2h`."""

    name = "time"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> str:
        text = str(value)
        try:
            return timestamp(_now() - int(parse_duration(text).total_seconds() * 1000))
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


def _now() -> int:
    """Behind the events that there are, in ms; one moment of a command, so that the last 7 days are 7 days."""
    now: int = click.get_current_context().meta.setdefault(__name__, int(time.time() * 1000) + 1)
    return now


class Window(NamedTuple):
    """Times as they are sent; None: unbounded."""

    start: str | None
    end: str | None

    @classmethod
    def of(cls, start: str | None, end: str | None, choice: Choice) -> Window:
        """Raises UsageError where that is no replay."""
        if choice.resource_ids is not None and choice.resource_type is None:
            raise click.UsageError("--resource-ids needs --resource-type: an id is one of a type")
        if start is None and choice.resource_ids is None:
            raise click.UsageError(
                "give --from, and --to (default: now), or --resource-type with --resource-ids; for example --from 2h"
            )
        if end is None and choice.resource_ids is None:
            end = timestamp(_now())
        return cls(start, end)

    @property
    def start_ms(self) -> int | None:
        return None if self.start is None else parse_instant(self.start).ms

    @property
    def end_ms(self) -> int | None:
        return None if self.end is None else parse_instant(self.end).ms

    def done(self, id_: str) -> float | None:
        """Which part of it lies before an event: 0 to 1; None where it has no bounds."""
        start, end = self.start_ms, self.end_ms
        if start is None or end is None:
            return None
        return min(max((ids.milliseconds(id_) - start) / max(end - start, 1), 0.0), 1.0)

    def wrong(self, id_: str) -> str | None:
        """Why an event is not in it."""
        ms = ids.milliseconds(id_)
        if self.start_ms is not None and ms < self.start_ms:
            return f"before {self.start}"
        if self.end_ms is not None and ms >= self.end_ms:
            return f"not before {self.end}"
        return None


@click.command("replay")
@remote_options
@click.option("--from", "start", type=InstantType(), metavar="TIME", help="2026-11-22T10:00:00Z, or how long ago: 2h.")
@click.option("--to", "end", type=InstantType(), metavar="TIME", help="The same. Default: now.")
@choice_options
@click.option("-o", "--output", type=click.Path(path_type=Path), metavar="FILE", help="Default: stdout.")
def command(*, remote: Remote, choice: Choice, start: str | None, end: str | None, output: Path | None) -> None:
    """Print a piece of history, one JSON object a line: up to 7 days, or all that happened to some resources.

    The number of events and their sha256 are compared with what the hub says it sent. It exits 1 where the replay did
    not come whole, after it has tried to resume it by itself.

    A FILE that is there is resumed: whole lines stay, and the replay goes on after the last. Give times, not how long
    ago, to be able to do that.

    \b
      streamhub replay --org my-org --from 2026-11-22T10:00:00Z --to 2026-11-23T10:00:00Z -o day.ndjson
      streamhub replay --org my-org --from 2h --types 'orders.*' | jq .delta
      streamhub replay --org my-org --resource-type skus --resource-ids a,b
    """
    import asyncio

    from streamhub.cli.replay_file import ReplayFile
    from streamhub.client import IncompleteReplay

    window = Window.of(start, end, choice)
    access = remote.access("events:read")
    hub = access.hub()
    with spoken(), ExitStack() as stack:
        show = stack.enter_context(_progress(window, output))
        file = None
        if output not in (None, STDOUT):
            file = stack.enter_context(ReplayFile(output, lambda line: _wrong(line, access.org, window, choice)))
        before = 0 if file is None else file.events
        take = _print if file is None else file.write
        began = time.monotonic()
        try:
            count = asyncio.run(_replay(hub, window, choice, file, [take, show]))
        except IncompleteReplay as error:
            raise UserError(f"{error}{_remedy(error, file)}") from None
        except (KeyboardInterrupt, asyncio.CancelledError):
            if file is not None:
                say(f"stopped after {file.events:,} events: run the same command to resume")
            raise
    kept = f" after {before:,} that {output} had" if before else ""
    say(f"complete: {count:,} events{kept}, number and sha256 are right; {time.monotonic() - began:.1f} s")


async def _replay(
    hub: StreamHub, window: Window, choice: Choice, file: ReplayFile | None, takes: Sequence[Take]
) -> int:
    """How many events came. Raises IncompleteReplay and Refused."""
    async with (
        hub,
        hub.replay(date_from=window.start, date_to=window.end, position=file, **choice.parameters) as replay,
    ):
        while events := await replay.batch():
            for take in takes:
                take(events)
        return replay.events


def _remedy(error: IncompleteReplay, file: ReplayFile | None) -> str:
    if file is None:
        return ""
    if not error.is_wrong:
        return "; run the same command to resume"
    file.forget()
    return f"; it is removed from {file.path}, run the same command again"


def _print(events: list[Event]) -> None:
    sys.stdout.buffer.write(b"".join([event.raw + b"\n" for event in events]))
    sys.stdout.buffer.flush()


def _wrong(line: bytes, org: str, window: Window, choice: Choice) -> str | None:
    """Why an event of a file cannot be of this replay."""
    from streamhub.core import filters
    from streamhub.core.view import View

    event = orjson.loads(line)
    if event["organization"]["slug"] != org:
        return f"of the organization {event['organization']['slug']}"
    if choice.types is not None and not TypePatterns.parse(choice.types).matches(event["type"]):
        return f"a {event['type']}"
    if choice.resource_type not in (None, event["resource_type"]):
        return f"of the resource type {event['resource_type']}"
    if choice.resource_ids is not None and event["resource_id"] not in choice.resource_ids.split(","):
        return f"of the resource {event['resource_id']}"
    if not filters.parse(list(choice.filters.items())).matches(View(line)):
        return "left out by the filters"
    return window.wrong(event["id"])


@contextmanager
def _progress(window: Window, output: Path | None) -> Iterator[Take]:
    """Yields what is called with the events that came. It draws on stderr where that is a terminal, and events do not
    go to one."""
    if sys.stderr.isatty() and (output not in (None, STDOUT) or not sys.stdout.isatty()):
        from streamhub.cli.progress import progress

        done = None if window.start is None or window.end is None else window.done
        with progress(done) as show:
            yield show
    else:
        yield lambda _: None
