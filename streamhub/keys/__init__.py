"""API keys: how they look, where they are stored, and how requests look them up.

key.py      the text of a key, and how it is kept out of logs
store.py    the rows: made, listed, revoked, found
lookup.py   keys by their id for requests and open streams, read by few statements
"""
