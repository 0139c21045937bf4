"""How a response is encoded on its way; gateway/replay/codings.py has the codings."""

from typing import Protocol


class Coding(Protocol):
    """A content coding of one response. Not for two threads at once."""

    @property
    def name(self) -> str:
        """As in Content-Encoding."""

    def encode(self, data: bytes) -> bytes:
        """With what came before it, this can be decoded to the end of `data`."""

    def end(self) -> bytes:
        """What comes last."""
