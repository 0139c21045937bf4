"""How far a replay is, drawn on stderr."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, SpinnerColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from streamhub.client import Event


@contextmanager
def progress(done: Callable[[str], float | None] | None) -> Iterator[Callable[[list[Event]], None]]:
    """Yields what is called with the events that came. It shows how many, how many a second, and where `done` tells
    which part (0 to 1) lies before an event, how much is done and how long the rest will take."""
    columns: list[ProgressColumn] = [_Count()]
    if done is None:
        columns = [SpinnerColumn(), *columns]
    else:
        columns = [
            BarColumn(),
            TextColumn("{task.percentage:3.0f} %"),
            *columns,
            TimeRemainingColumn(),
            TextColumn("left"),
        ]
    with Progress(*columns, console=Console(stderr=True), transient=True) as drawn:
        task = drawn.add_task("", total=None if done is None else 1.0, events=0)
        count, began = 0, time.monotonic()

        def show(events: list[Event]) -> None:
            nonlocal count
            count += len(events)
            rate = count / max(time.monotonic() - began, 0.001)
            part = 0.0 if done is None else done(events[-1].id) or 0.0
            drawn.update(task, completed=part, events=count, rate=rate)

        yield show


class _Count(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(f"{task.fields['events']:,} events, {task.fields.get('rate', 0):,.0f} a second")
