"""Which events of its organization a reader asked for: those of some types, for which all field filters hold."""

from typing import NamedTuple

from streamhub.core import frames
from streamhub.core.filters import Filters
from streamhub.core.type_patterns import TypePatterns
from streamhub.core.view import View
from streamhub.history.reader import Page


class Choice(NamedTuple):
    """`types` is None for all types. False where it chooses every event."""

    types: TypePatterns | None = None
    filters: Filters = Filters()

    def __bool__(self) -> bool:
        return self.types is not None or bool(self.filters)

    def matches(self, data: bytes) -> bool:
        """`data` is an event's object."""
        if self.types is not None and not self.types.matches(frames.type_in(data)):
            return False
        return not self.filters or self.filters.matches(View(data))

    def of(self, page: Page) -> Page:
        """The page with the chosen events alone. `read_to` and `complete` stay as they are."""
        if not self or not page.events:
            return page
        chosen = [frame for frame in frames.each_of(page.frames) if self.matches(frames.data_of(frame))]
        if not chosen:
            return page._replace(frames=b"", events=0, first_id=None, last_id=None)
        first, last = frames.first_id(chosen[0]), frames.last_id(chosen[-1])
        return page._replace(frames=b"".join(chosen), events=len(chosen), first_id=first, last_id=last)
