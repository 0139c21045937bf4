"""Streamhub: committed PostgreSQL changes as ordered streams, live and by replay."""

__version__ = "0.1.0"
