"""Broadcast: many subscribers of one organization, each with a filter and an envelope, and no lease.

routes.py    GET /{org}/events/stream and GET /events/stream
types.py     GET /{org}/types
request.py   what a subscriber asks for
stream.py    the stream
fan.py       events of one append, filtered and enveloped once for all subscribers of an organization
pages.py     pages of history, read once for all that ask for the same
latest.py    of each resource only the newest event
shared.py    what the streams of one process share
"""
