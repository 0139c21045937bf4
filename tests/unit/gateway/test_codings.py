"""Content codings: which one an Accept-Encoding header asks for, and that each piece can be decoded when it comes."""

import sys
import zlib
from collections.abc import Callable
from typing import Any, Final

import pytest

from streamhub.gateway.replay.codings import Gzip, Zstd, preferred

if sys.version_info >= (3, 14):
    from compression.zstd import ZstdDecompressor
else:
    from backports.zstd import ZstdDecompressor

DECODERS: Final[list[tuple[Any, Callable[[], Any]]]] = [
    (Zstd, ZstdDecompressor),
    (Gzip, lambda: zlib.decompressobj(wbits=31)),
]
PIECES: Final = [b"event: heartbeat\n\n", b"event: update\nid: 1\n\n" * 50_000, b"", b"\n", b"event: update\n\n"]


@pytest.mark.parametrize(("coding", "decoder"), DECODERS, ids=["zstd", "gzip"])
def test_each_piece_can_be_decoded_with_what_came_before_it(coding: Any, decoder: Callable[[], Any]) -> None:
    encoding, decoding = coding(), decoder()
    assert [decoding.decompress(encoding.encode(piece)) for piece in PIECES] == PIECES


@pytest.mark.parametrize(("coding", "decoder"), DECODERS, ids=["zstd", "gzip"])
def test_the_whole_is_one_frame_that_says_its_end(coding: Any, decoder: Callable[[], Any]) -> None:
    encoding, decoding = coding(), decoder()
    encoded = b"".join(map(encoding.encode, PIECES))
    decoding.decompress(encoded)
    assert not decoding.eof
    assert decoding.decompress(encoding.end()) == b""
    assert decoding.eof


@pytest.mark.parametrize(
    "header",
    ["zstd", "ZSTD", "gzip, deflate, br, zstd", "deflate, gzip;q=0.5, zstd;q=0.8", "*", "identity;q=0.5, zstd",
     "zstd;q=0.001"],
)  # fmt: skip
def test_zstd_is_chosen_where_it_is_weighed_most_or_as_much_as_gzip(header: str) -> None:
    assert preferred(header) is Zstd


@pytest.mark.parametrize(
    "header", ["gzip", "x-gzip", "gzip, deflate", "zstd;q=0.5, gzip", "*, zstd;q=0", "gzip;q=1.0, zstd;q=nonsense"]
)
def test_gzip_is_chosen_where_it_is_weighed_most(header: str) -> None:
    assert preferred(header) is Gzip


@pytest.mark.parametrize(
    "header", ["", "identity", "br", "zstd;q=0", "*;q=0", "gzip;q=0.5, identity", "identity, zstd;q=0.9", ",;,"]
)
def test_otherwise_there_is_none(header: str) -> None:
    assert preferred(header) is None
