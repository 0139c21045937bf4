"""Webhooks: each event by signed POST to the endpoints that an organization has registered.

endpoint.py    what an endpoint may be, and every fault of one
store.py       endpoints, and what their owners do with them: rows made, changed, tested, retried
deliveries.py  the rows of deliveries, as dispatchers read and write them
fan_out.py     from history into deliveries, by one cursor
behind.py      endpoints that the cursor goes past, as they are locked
addresses.py   which addresses may be dialled
posting.py     one attempt: a POST and what came of it
queue.py       one endpoint's deliveries in a process that has them
bodies.py      the bodies of events that are sent, bounded in bytes
shares.py      how much an organization may use of attempts and memory
attempts.py    the attempts that are under way
results.py     what came of them, until it is written down
dispatcher.py  the role `webhooks`: takes endpoints and keeps all of this going
census.py      how all of it stands, for metrics
notices.py     the e-mail to an owner whose endpoint was disabled
"""
