"""Capture: which tables are captured and how, their triggers, and backfills."""

from streamhub.capture.backfills import (
    RATE,
    BackfillResult,
    Progress,
    UnfinishedBackfill,
    backfill,
    unfinished_backfills,
)
from streamhub.capture.captures import (
    AddResult,
    ListedCapture,
    RemoveResult,
    add,
    forget_dropped,
    list_captures,
    remove,
)
from streamhub.capture.faults import CaptureFault, faults, fix, fix_all
from streamhub.capture.spec import CaptureSpec, check_type

__all__ = [
    "RATE",
    "AddResult",
    "BackfillResult",
    "CaptureFault",
    "CaptureSpec",
    "ListedCapture",
    "Progress",
    "RemoveResult",
    "UnfinishedBackfill",
    "add",
    "backfill",
    "check_type",
    "faults",
    "fix",
    "fix_all",
    "forget_dropped",
    "list_captures",
    "remove",
    "unfinished_backfills",
]
