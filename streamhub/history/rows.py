"""An event as the values of a row of the history table."""

from typing import Any

from streamhub.core.events import StoredEvent, resource_key


def values(event: StoredEvent) -> tuple[Any, ...]:
    """One value for each of `core.drafts.COLUMNS`."""
    key = resource_key(event.organization, event.resource_type or "", event.resource_id or "")
    return (
        event.organization, event.id, event.test, key, event.type, event.resource_type, event.resource_id, event.frame
    )  # fmt: skip
