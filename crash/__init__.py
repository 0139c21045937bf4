"""`python -m crash`: a whole hub under load, killed and stopped at random moments of a seed, and then audited.

Writers commit random transactions, and write an audit table in the same transactions. Relays and gateways run as
processes under a supervisor. Consumers retry for ever. The audit uses none of the hub's code.
"""
