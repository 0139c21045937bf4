"""Events put into history by hand."""

from collections.abc import Sequence
from typing import Any

from streamhub.core.drafts import COLUMNS
from streamhub.core.events import StoredEvent
from streamhub.history import rows


async def insert(connection: Any, events: Sequence[StoredEvent]) -> None:
    """The events of one append or of many, in any order, without a notification."""
    await connection.copy_records_to_table(
        "history", schema_name="streamhub_hub", columns=COLUMNS, records=map(rows.values, events)
    )


async def move_head(connection: Any, ms: int, counter: int = 0) -> None:
    """Move the one order to there, where it is not so far yet."""
    await connection.execute(
        "INSERT INTO streamhub_hub.log_heads SELECT $1, $2, event_ms, event_counter FROM streamhub_hub.log_head "
        "WHERE (last_ms, last_counter) < ($1, $2)",
        ms, counter,
    )  # fmt: skip
