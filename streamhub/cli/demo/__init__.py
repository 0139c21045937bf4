"""`streamhub demo`: a sample shop with traffic, the hub, and a view of what comes out of it."""

from streamhub.cli.demo.command import command

__all__ = ["command"]
