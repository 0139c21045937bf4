"""Live streams: one consumer an organization, its lease and its cursor.

routes.py   GET and DELETE /{org}
status.py   GET /{org}/status
stream.py   the stream
upkeep.py   cursors, lost leases, ends that were asked for
shared.py   what the streams of one process share
"""
