"""The relay: one leader a hub reads every source's outbox and appends what changed to history, in one order."""

from streamhub.relay.relay import Publisher, Relay, Source

__all__ = ["Publisher", "Relay", "Source"]
