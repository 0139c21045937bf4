"""Webhook endpoints over HTTP, with the scope `webhooks:manage`.

routes.py    `/{org}/webhooks`
shared.py    what the requests of a process share
"""
