"""Requests with a method that aiohttp's parser does not know.

It takes them for no HTTP at all. A method is any token, though (RFC 9110, section 9.1), and one that a route does not
have is 405, whatever its name.
"""

import re
from typing import Final

from aiohttp import HttpVersion10, HttpVersion11, hdrs
from aiohttp.http import RawRequestMessage
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

_LINE: Final = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]{1,64}) (/[!-~]*) HTTP/1\.([01])\r?\n")


def message_of(data: bytes) -> RawRequestMessage | None:
    """A request without its headers, after which the connection closes; None where `data` does not begin with the
    first line of one."""
    line = _LINE.match(data)
    if line is None or line[1].decode("ascii") in hdrs.METH_ALL:
        return None  # in the second case it is a later request's method that is unknown
    target = line[2].decode("ascii")
    path, _, query = target.partition("#")[0].partition("?")
    return RawRequestMessage(
        method=line[1].decode("ascii"),
        path=target,
        version=HttpVersion11 if line[3] == b"1" else HttpVersion10,
        headers=CIMultiDictProxy(CIMultiDict()),
        raw_headers=(),
        should_close=True,
        compression=None,
        upgrade=False,
        chunked=False,
        url=URL.build(path=path, query_string=query, encoded=True),
    )
