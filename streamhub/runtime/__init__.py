"""Processes and workers: how a hub starts, runs and stops."""
