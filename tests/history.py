"""Events put into history by hand."""

from collections.abc import Sequence
from typing import Any

from streamhub.core.events import StoredEvent
from streamhub.history import rows


async def insert(connection: Any, events: Sequence[StoredEvent]) -> None:
    """Those of one append or of many, in any order; nobody is told."""
    await connection.copy_records_to_table(
        "history", schema_name="streamhub_hub", columns=rows.COLUMNS, records=map(rows.values, events)
    )
