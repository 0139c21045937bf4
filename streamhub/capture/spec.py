"""The specification of a capture, and the rules for the names of event types."""

import re
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from streamhub.core import control
from streamhub.core.rendering import EVENTS
from streamhub.errors import UserError

_TYPE: Final = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*")
_LONGEST_TYPE: Final = 255


class CaptureSpec(NamedTuple):
    """What to capture and how, by names of columns. `organization_id` is a registered organization's id.

    Exactly one of `organization_column` and `organization_id` is given; `id_columns` empty means the primary key.
    """

    table: str
    resource_type: str
    id_columns: Sequence[str] = ()
    organization_column: str | None = None
    organization_id: str | None = None
    test_column: str | None = None
    test: bool = False
    exclude: Sequence[str] = ()
    redact: Sequence[str] = ()
    type_names: Mapping[str, str] = {}
    anonymization_column: str | None = None


def check_type(name: str) -> None:
    """Raises UserError unless `name` is allowed as an event's type."""
    if not _TYPE.fullmatch(name) or len(name) > _LONGEST_TYPE:
        raise UserError(
            f"{name!r} is not a type: letters, digits, - and _ in segments joined by dots, at most {_LONGEST_TYPE} "
            "characters, for example product.updated"
        )
    if control.is_reserved(name):
        raise UserError(f"{name!r} is not a type: {name.rpartition('.')[2]!r} is the name of a control frame")


def check_names(spec: CaptureSpec) -> None:
    """Raises UserError for a contradiction in the spec. tables.py checks it against the table."""
    check_type(spec.resource_type)
    for event, name in spec.type_names.items():
        if event not in EVENTS:
            raise UserError(f"{event!r} is not an event of a row: use one of {', '.join(EVENTS)}")
        check_type(name)
    if (spec.organization_column is None) == (spec.organization_id is None):
        raise UserError("give either the column of the organization's id (--org-column) or one organization (--org)")
    if spec.test and spec.test_column is not None:
        raise UserError("give either the column of the environment (--test-column) or --test, not both")
