"""The relay: one leader a hub reads every source's outbox and appends what changed to history, in one order."""

from streamhub.relay.relay import Relay, Source

__all__ = ["Relay", "Source"]
