"""Servers that tests, benchmarks and `make crash` run, and kill."""
