"""`python -m crash`: a whole hub under load, killed and stopped at seeded moments, and then audited.

Writers commit random transactions and keep an audit of their own in the same transactions; relays and gateways run as
processes under a supervisor; consumers never give up. The audit knows nothing of how the hub works.
"""
