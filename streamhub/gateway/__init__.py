"""What clients connect to: live streams, replays, publishing, and the pages for operators.

server.py      sockets, start and stop
app.py         the table of routes, and what each kind of stream, and publishing, owns
admission.py   what every route of an organization asks first
api_keys.py    API keys as tokens, and the end of their streams
gateway.py     what all requests share; streams by kind and state
streams/       what any stream needs
live/          GET /{org}
broadcast/     GET /{org}/events/stream
replay/        GET /{org}/replay
pages/         what browsers load: the client at /-/client.js
publishing/    POST /{org}/events
"""
