"""Benchmarks of a hub on one machine: `python -m benchmarks [NAME …]`; docs/benchmarks.md has the last results."""
