"""What every event looks like: the schema of docs/reference, which clients check events with."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from jsonschema import Draft202012Validator

_FILE: Final = Path(__file__).parents[2] / "docs" / "reference" / "event.schema.json"
VALIDATOR: Final = Draft202012Validator(json.loads(_FILE.read_text("utf-8")))

MOST_CHECKED: Final = 50  # of the many events that a test may have


def check_events(events: Sequence[Mapping[str, Any]]) -> None:
    """Fails at an event that is not as the schema says."""
    for event in events[:MOST_CHECKED]:
        wrong = next(VALIDATOR.iter_errors(event), None)
        assert wrong is None, f"{wrong.message[:500]} at {wrong.json_path} of {str(event)[:500]}"
