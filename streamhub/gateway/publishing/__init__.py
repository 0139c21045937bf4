"""Events that applications publish.

routes.py    POST /{org}/events
request.py   the body: events, and every fault in it
store.py     into the outbox of the hub's database
"""
