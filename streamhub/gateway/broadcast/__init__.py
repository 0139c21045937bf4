"""Broadcast: many subscribers of one organization, each with a filter and an envelope, and no lease.

routes.py    GET /{org}/events/stream and GET /events/stream
request.py   what a subscriber asks for
fan.py       events of one append, filtered and enveloped once for all subscribers of an organization
pages.py     pages of history, read once for all that ask for the same
latest.py    of each resource only the newest event
stream.py    the stream
shared.py    what the streams of one process share
"""
