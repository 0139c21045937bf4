"""The rules of Streamhub as pure functions and values: no asyncio, sockets, clocks or randomness.

Time and chance come in as arguments, so every rule here can be tested as one.
"""
