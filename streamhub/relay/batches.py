"""From changes to a batch that can be appended: rendered, given to their organizations, counted.

What is learnt on the way (captures, shapes, the registry) is kept and read again when a change shows that it is stale.
"""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, Final, NamedTuple

import asyncpg

from streamhub.capture import catalog, triggers
from streamhub.core import frames
from streamhub.core.changes import Change, Origin
from streamhub.core.drafts import Drafts
from streamhub.core.rendering import Outcome, Rendered, Renderer, UnknownCaptureError, UnknownShapeError
from streamhub.core.shapes import Shape
from streamhub.core.texts import readable
from streamhub.errors import UserError
from streamhub.health import incidents
from streamhub.organizations.cache import Registry
from streamhub.relay.outbox import Ranges

log = logging.getLogger(__name__)

_SLICE: Final = 100  # changes rendered between two turns of the event loop: about a millisecond
_DRAFTED: Final = 500  # events drafted between two turns
REPORT_EVERY: Final = 60.0  # seconds between two incidents of one kind


class Batch(NamedTuple):
    """What one append takes: `changes` are consumed with it, whether or not they gave an event."""

    changes: Sequence[Change]
    ranges: Ranges
    drafts: Drafts
    counted: Counter[str]


class Preparer:
    """Prepares the batches of one source."""

    def __init__(
        self, source: str, connection: "asyncpg.Connection[Any]", hub: "asyncpg.Pool[Any]", registry: Registry,
        max_event_bytes: int,
    ) -> None:  # fmt: skip
        self._source = source
        self._connection = connection
        self._hub = hub
        self._registry = registry
        self._renderer = Renderer(max_event_bytes)
        self._silent_until: dict[str, float] = {}

    async def learn(self) -> None:
        """Read what the source has of captures and shapes, and store the shapes of this moment."""
        for capture in await catalog.read_captures(self._connection):
            self._renderer.captures[capture.id] = capture
        for shape in await catalog.known_shapes(self._connection):
            self._renderer.book.add(shape)
        await self._learn_shapes(await catalog.read_shapes(self._connection))

    async def prepare(self, changes: Sequence[Change], ranges: Ranges) -> Batch:
        """Render the changes, whose numbers are in `ranges`, in slices: the event loop turns while a large batch is
        worked on."""
        await self._learn_names(changes)
        events: list[Rendered] = []
        counted: Counter[str] = Counter()
        for start in range(0, len(changes), _SLICE):
            if start:
                await asyncio.sleep(0)
            for change in changes[start : start + _SLICE]:
                try:
                    outcome = self._renderer.render(change)
                except Exception as error:  # noqa: BLE001 - one row must never stop the line
                    outcome = await self._render_again(change, error)
                events += outcome.events
                if outcome.counted:
                    counted.update(outcome.counted)
                    await self._report_faults(change, outcome)
        if self._renderer.renamed:
            self._renderer.forget_plans()
            await catalog.store_shapes(self._connection, self._renderer.renamed)
            self._renderer.renamed.clear()
        del counted["unchanged"]
        organizations = await self._registry.organizations({rendered.organization_id for rendered in events})
        served = {
            id_: (its.key, frames.organization_of(its.id, its.slug))
            for id_, its in organizations.items()
            if its.enterprise
        }
        drafts = Drafts()
        for start in range(0, len(events), _DRAFTED):
            if start:
                await asyncio.sleep(0)
            for rendered in drafts.add(events[start : start + _DRAFTED], served):
                if rendered.organization_id in organizations:
                    counted["not_enterprise"] += 1
                    continue
                counted["invalid_organization"] += 1
                await self._report(
                    "invalid_organization",
                    f"a row of {rendered.kind.resource_type}, id {(rendered.resource_id or '')[:80]!r}: "
                    f"{rendered.organization_id[:80]!r} cannot be an organization's id",
                )
        return Batch(changes, ranges, drafts, counted)

    async def _render_again(self, change: Change, error: Exception) -> Outcome:
        """Having learnt what was missing. A row that cannot be rendered whatever is known never stops the line."""
        if isinstance(error, UnknownCaptureError):
            for capture in await catalog.read_captures(self._connection, [Origin.of(change.origin).capture]):
                self._renderer.captures[capture.id] = capture
        try:
            return self._renderer.render(change)
        except UnknownShapeError:
            pass
        except Exception as again:  # noqa: BLE001 - one row must never stop the line
            return _given_up(change, again)
        # Not within a try: what goes wrong with a connection says nothing about the row.
        origin = Origin.of(change.origin)
        self._renderer.types.update(await catalog.read_kinds(self._connection, origin.types))
        await self._learn_shapes(
            await catalog.read_shapes(self._connection, captures=[origin.capture], relations=[origin.relation])
        )
        try:
            return self._renderer.render(change, settle=True)
        except Exception as again:  # noqa: BLE001 - one row must never stop the line
            return _given_up(change, again)

    async def _learn_names(self, changes: Sequence[Change]) -> None:
        """The text of a record has no names in it, so a column that was renamed is looked for."""
        origins = [Origin.of(origin) for origin in {change.origin for change in changes}]
        places = {(each.capture, each.relation) for each in origins if each.is_nameless}
        if not places:
            return
        names = await catalog.read_names(self._connection, {relation for _, relation in places})
        book = self._renderer.book
        renamed = [place for place in places if not book.is_called(*place, names.get(place[1], ()))]
        if renamed:
            captures, relations = (list(each) for each in zip(*renamed, strict=True))
            await self._learn_shapes(
                await catalog.read_shapes(self._connection, captures=captures, relations=relations)
            )

    async def _learn_shapes(self, shapes: Iterable[Shape]) -> None:
        new = [shape for shape in shapes if self._renderer.book.add(shape)]
        self._renderer.forget_plans()
        if new:
            await catalog.store_shapes(self._connection, new)
            try:
                await triggers.renew_functions(self._connection, sorted({shape.relation for shape in new}))
            except (asyncpg.PostgresError, UserError) as error:  # writers are right without it, and slower
                log.info("the capture functions of %s stay as they are: %s", self._source, error)

    async def _report_faults(self, change: Change, outcome: Outcome) -> None:
        for kind in ("unattributable", "errors"):
            if kind in outcome.counted:
                fault = outcome.fault or "nothing tells whose row it is"
                await self._report(fault, f"{_named(change)}: {readable(fault)}")

    async def _report(self, fault: str, detail: str) -> None:
        """An incident, the first of its kind in a minute: the rest are counted."""
        now = time.monotonic()
        if now >= self._silent_until.get(fault, 0.0):
            self._silent_until[fault] = now + REPORT_EVERY
            await incidents.report(self._hub, "poison", self._source, detail)


def _named(change: Change) -> str:
    return f"change {change.seq} (transaction {change.xid}) of {change.origin}"


def _given_up(change: Change, error: Exception) -> Outcome:
    log.error("change %d of %s cannot be rendered", change.seq, change.origin, exc_info=error)
    return Outcome((), ("unattributable",))
