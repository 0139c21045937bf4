"""Replays: the request, the job, the stream and its routes."""
