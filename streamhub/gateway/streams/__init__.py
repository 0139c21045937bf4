"""What any stream needs.

stream.py        a kind, a state, one task that feeds one channel until something ends it
following.py     a stream that follows without end: history, then the tail
channel.py       the response to one client
coding.py        how a response is encoded on its way
choice.py        which events a reader asked for
resources.py     the parameters that name resources
gap.py           what the consumer of a following stream missed
endings.py       ends that other requests asked for
timer_wheel.py   what is done for every stream at an interval
"""
