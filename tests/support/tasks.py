"""The tasks of a test."""

from functools import partial
from typing import Final

from streamhub import cancellation

AGAIN_EVERY: Final = 1  # second: a test waits no longer than it has to

ended = partial(cancellation.ended, again_every=AGAIN_EVERY)
