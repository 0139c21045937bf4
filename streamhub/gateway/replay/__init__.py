"""Replays: a bounded piece of history, as a job.

routes.py    GET /{org}/replay, and the jobs
request.py   the parameters
jobs.py      the jobs' rows
stream.py    the stream
codings.py   zstd and gzip
slots.py     how many run at once
upkeep.py    cancelled jobs end their responses
shared.py    what the replays of one process share
"""
