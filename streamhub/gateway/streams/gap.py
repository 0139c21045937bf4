"""Where a following stream begins, and what its consumer missed: what is older than the resume window is not sent.

A gap is judged by all events of the organization, whatever its environment and filters: it may be told where nothing
that was asked for lies in it, and never the other way round.
"""

from datetime import timedelta
from typing import Any

from streamhub.config import Settings
from streamhub.core import ids, window
from streamhub.gateway.places import Place
from streamhub.history.reader import Reader, Selection


def earlier(position: str, by: timedelta) -> str:
    """A position so much before another one: what was acknowledged lately may never have been read."""
    return min(position, window.before(ids.milliseconds(position) - by // timedelta(milliseconds=1)))


async def missed(
    reader: Reader, settings: Settings, slug: str, place: Place, position: str
) -> tuple[str, dict[str, Any] | None]:
    """Where to begin, and the gap's data where something after `position` is older than what is sent again."""
    millisecond = timedelta(milliseconds=1)
    floor_ms = place.now_ms - settings.resume_window // millisecond
    floor = window.before(floor_ms)
    if place.key is None or position >= floor:
        return position, None
    page = await reader.page(Selection(place.key), position, floor, max_rows=1)
    if page.first_id is None:
        return floor, None
    longest = settings.replay_max_window // millisecond
    from_ms, first_ms = ids.milliseconds(position), ids.milliseconds(page.first_id)
    if first_ms - from_ms > longest:
        from_ms = first_ms  # nothing was missed in between, and a position may lie years back
    replay = [
        f"/{slug}/replay?date_from={window.timestamp(start)}&date_to={window.timestamp(end)}"
        for start, end in window.cut(from_ms, floor_ms, longest)
    ]
    gap = {
        "after_id": position,
        "from": window.timestamp(from_ms),
        "to": window.timestamp(floor_ms),
        "replay": replay,
    }
    return floor, gap
