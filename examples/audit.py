"""A report of all that ever happened to one resource.

    python examples/audit.py orders gDxYhDhdWI

It is a replay of the resource's whole history, which is complete or fails. Each change must begin where the one before
ended; where it does not, the report says so.
"""

import os
import sys
from typing import Any

from streamhub.client import Event, StreamHub, StreamHubError


def report(event: Event, state: dict[str, Any]) -> list[str]:
    """The lines of an event. `state` is what the events before left of the resource, and is brought up to date."""
    lines = [f"{event.created_at:%Y-%m-%d %H:%M:%S}  {event.event:8}  by {event.who or 'somebody'}"]
    for column, change in (event.delta or {}).items():
        lines.append(f"    {column}: {change['from']} → {change['to']}")
        if state.get(column) != change["from"]:
            lines.append(f"    {column} WAS {state.get(column)}: a change in between was not captured")
        state[column] = change["to"]
    return lines


def main(resource_type: str, resource_id: str) -> int:
    state: dict[str, Any] = {}
    hub = StreamHub(os.environ["STREAMHUB_URL"], org=os.environ["STREAMHUB_ORG"], token=os.environ["STREAMHUB_TOKEN"])
    with hub.blocking() as blocking:
        history = blocking.replay(resource_type_eq=resource_type, resource_id_in=[resource_id])
        try:
            for event in history:
                print("\n".join(report(event, state)))
        except StreamHubError as error:
            print(f"NOT COMPLETE: {error}", file=sys.stderr)
            return 1
    print(f"complete: {history.stream.events} events, their number and sha256 are the hub's")
    return 0


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: python examples/audit.py RESOURCE_TYPE RESOURCE_ID")
    sys.exit(main(*sys.argv[1:]))
