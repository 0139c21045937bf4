"""Connections to PostgreSQL, what its refusals mean, and the schemas of hub and source."""
