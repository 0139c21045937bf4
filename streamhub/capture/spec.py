"""What is asked of a capture, by the names that people use, and the names that events may have."""

import re
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from streamhub.core import control
from streamhub.core.rendering import EVENTS
from streamhub.errors import UserError

_TYPE: Final = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*")
_LONGEST_TYPE: Final = 255


class CaptureSpec(NamedTuple):
    """What to capture and how, by the names that people use. `organization_id` is a registered organization's id.

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
    """Raises UserError unless `name` may be an event's type."""
    if not _TYPE.fullmatch(name) or len(name) > _LONGEST_TYPE:
        raise UserError(
            f"{name!r} is no type: letters, digits, - and _ in segments joined by dots, at most {_LONGEST_TYPE} "
            "characters, for example product.updated"
        )
    if control.is_reserved(name):
        raise UserError(f"{name!r} is no type: {name.rpartition('.')[2]!r} is the name of a control frame")


def check_names(spec: CaptureSpec) -> None:
    """Raises UserError unless the spec is right in itself; tables.py has what a table must be for it."""
    check_type(spec.resource_type)
    for event, name in spec.type_names.items():
        if event not in EVENTS:
            raise UserError(f"{event!r} is no event of a row: one of {', '.join(EVENTS)}")
        check_type(name)
    if (spec.organization_column is None) == (spec.organization_id is None):
        raise UserError(
            "name either the column that holds the organization's id (--org-column) or one organization (--org)"
        )
    if spec.test and spec.test_column is not None:
        raise UserError("name either the column that tells the environment (--test-column) or --test, not both")
