"""What any route needs, whatever it serves.

auth.py, jwks.py      tokens that are valid
scopes.py             what a route asks of a valid token
parameters.py         what a route asks for: a table of parameters
bodies.py             what a request may send: how much, for how long
problems.py           every code of a refusal: its status, title and meaning
refusals.py           every exception as an answer
connection.py, …      HTTP connections: how many, how long, how many waiting
"""
