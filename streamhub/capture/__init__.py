"""Capture: which tables are captured, how, and the triggers that do it."""

from streamhub.capture.backfills import RATE, BackfillResult, Progress, backfill
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
    "add",
    "backfill",
    "check_type",
    "faults",
    "list_captures",
    "remove",
]
