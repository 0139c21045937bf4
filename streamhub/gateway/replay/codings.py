"""Content codings of a replay: zstd and gzip (RFC 9110, section 8.4).

A response is one zstd frame or one gzip member, as many clients stop at the end of the first. It is flushed after each
piece, so all that was written can be decoded as it arrives, and what is alike across pages is still found.

Levels and window are chosen by measuring (docs/benchmarks.md): more costs more time than it saves bytes.
"""

import sys
import zlib
from collections.abc import Callable, Mapping
from typing import Final

from streamhub.core.accept import weights
from streamhub.gateway.streams.coding import Coding

if sys.version_info >= (3, 14):
    from compression.zstd import CompressionParameter, ZstdCompressor
else:
    from backports.zstd import CompressionParameter, ZstdCompressor

# At once in a process. A compressor takes about 0.8 MB; a replay beyond these comes as it is.
MOST_CODED: Final = 128
_ZSTD: Final[dict[int, int]] = {CompressionParameter.compression_level: 1, CompressionParameter.window_log: 19}
_GZIP_LEVEL: Final = 1
_GZIP_HEADER: Final = 16  # added to the size of the window, it asks zlib for gzip's header and trailer


class Zstd:
    """See Coding."""

    name: Final = "zstd"

    def __init__(self) -> None:
        self._compressor = ZstdCompressor(options=_ZSTD)

    def encode(self, data: bytes) -> bytes:
        return self._compressor.compress(data, ZstdCompressor.FLUSH_BLOCK)

    def end(self) -> bytes:
        return self._compressor.flush()


class Gzip:
    """See Coding."""

    name: Final = "gzip"

    def __init__(self) -> None:
        self._compressor = zlib.compressobj(_GZIP_LEVEL, wbits=_GZIP_HEADER + zlib.MAX_WBITS)

    def encode(self, data: bytes) -> bytes:
        return self._compressor.compress(data) + self._compressor.flush(zlib.Z_SYNC_FLUSH)

    def end(self) -> bytes:
        return self._compressor.flush()


# The better one first: it is taken where a client weighs both alike.
_CODINGS: Final[Mapping[str, Callable[[], Coding]]] = {"zstd": Zstd, "gzip": Gzip}


def preferred(accept_encoding: str) -> Callable[[], Coding] | None:
    """What makes the coding that an Accept-Encoding header (RFC 9110, section 12.5.3) asks for; None for none: where
    there is no such header, it names neither zstd nor gzip, or `identity` has a greater weight."""
    asked = weights(accept_encoding)
    if "gzip" not in asked and "x-gzip" in asked:
        asked = {**asked, "gzip": asked["x-gzip"]}
    best = max(_CODINGS, key=lambda name: asked.get(name, asked.get("*", 0.0)))
    weight = asked.get(best, asked.get("*", 0.0))
    return _CODINGS[best] if weight > 0 and weight >= asked.get("identity", 0.0) else None
