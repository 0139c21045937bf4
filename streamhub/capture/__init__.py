"""Capture: which tables are captured, how, and the triggers that do it."""

from streamhub.capture.backfills import (
    RATE,
    BackfillResult,
    Progress,
    UnfinishedBackfill,
    backfill,
    unfinished_backfills,
)
from streamhub.capture.captures import AddResult, CaptureSpec, ListedCapture, add, check_type, list_captures, remove
from streamhub.capture.triggers import TriggerFault, faults

__all__ = [
    "RATE",
    "AddResult",
    "BackfillResult",
    "CaptureSpec",
    "ListedCapture",
    "Progress",
    "TriggerFault",
    "UnfinishedBackfill",
    "add",
    "backfill",
    "check_type",
    "faults",
    "list_captures",
    "remove",
    "unfinished_backfills",
]
