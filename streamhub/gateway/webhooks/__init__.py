"""Webhook endpoints over HTTP, with the scope `webhooks:manage`.

table.py     which path is served by what
routes.py    `/{org}/webhooks`
answers.py   what they take and answer, for the reference
shared.py    what the requests of a process share
"""
