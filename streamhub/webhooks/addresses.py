"""Which addresses may be dialled: public ones, and those of WEBHOOK_ALLOW_ADDRESSES.

An address is judged when it is dialled, on the very address of the socket, so that a name which resolves to another one
the next time (DNS rebinding) gains nothing. A name with one address that is refused is refused whole. An endpoint whose
URL has an address for a host is not made where that would be refused.
"""

import asyncio
import ipaddress
import socket
from collections.abc import Sequence
from typing import Any, Final, Self

from streamhub.config import Settings
from streamhub.webhooks.lookups import Lookups

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

RESOLVED_WITHIN: Final = 10.0  # seconds
MOST_ADDRESSES: Final = 32  # of one name

# Addresses that carry an IPv4 address, which decides: where its 32 bits begin, counted from the lowest.
_CARRIERS: Final = (
    (ipaddress.IPv6Network("::ffff:0:0/96"), 0),  # IPv4-mapped (RFC 4291)
    (ipaddress.IPv6Network("::/96"), 0),  # IPv4-compatible, deprecated
    (ipaddress.IPv6Network("::ffff:0:0:0/96"), 0),  # IPv4-translated (RFC 2765)
    (ipaddress.IPv6Network("64:ff9b::/96"), 0),  # NAT64 (RFC 6052)
    (ipaddress.IPv6Network("2002::/16"), 80),  # 6to4 (RFC 3056)
)
# What `is_global` takes for public in one version of Python or another, and is none.
_REFUSED: Final = tuple(
    ipaddress.ip_network(each)
    for each in (
        "100.64.0.0/10", "168.63.129.16/32", "192.0.0.0/24", "192.88.99.0/24", "64:ff9b:1::/48", "2001::/32",
        "fec0::/10",
        "3fff::/20", "5f00::/16",
    )
)  # fmt: skip


class RefusedAddressError(OSError):
    """An address that is not public."""


class Addresses:
    """`allowed` are networks that may be dialled besides. `development`: 127.0.0.0/8 and ::1 may be, too."""

    def __init__(self, allowed: Sequence[Network] = (), *, development: bool = False) -> None:
        own = (ipaddress.ip_network("127.0.0.0/8"), ipaddress.ip_network("::1/128")) if development else ()
        self.development = development
        self._allowed = (*allowed, *own)
        self._lookups = Lookups()

    @classmethod
    def of(cls, settings: Settings) -> Self:
        return cls(settings.webhook_allow_addresses, development=settings.development_key_file is not None)

    def check(self, text: str) -> None:
        """Raises RefusedAddressError where the address, as text, may not be dialled."""
        address = ipaddress.ip_address(text.partition("%")[0])
        if any(address in network for network in self._allowed):
            return
        plain = _carried(address)
        if any(plain in network for network in self._allowed if network.version == plain.version):
            return
        if not _is_public(plain):
            raise RefusedAddressError(f"{address} is not a public address")

    def check_host(self, host: str) -> None:
        """Raises RefusedAddressError where the host of a URL is an address that may not be dialled; for no name."""
        address = _address(host)
        if address is not None:
            self.check(address)

    def open_socket(self, info: tuple[Any, ...]) -> socket.socket:
        """As aiohttp's `socket_factory`: a socket for the address that is about to be dialled."""
        family, kind, protocol, _, address = info
        self.check(str(address[0]))
        return socket.socket(family, kind, protocol)

    async def resolve(self, host: str, port: int, family: int = 0) -> list[tuple[Any, ...]]:
        """What `getaddrinfo` tells, once every address was found good. Raises OSError."""
        try:
            async with asyncio.timeout(RESOLVED_WITHIN):
                found = await self._lookups.find(host, port, family)
        except TimeoutError:
            raise socket.gaierror(socket.EAI_AGAIN, "its name servers did not answer") from None
        except UnicodeError:
            raise OSError(f"{host[:100]!r} is not the name of a host") from None
        if len(found) > MOST_ADDRESSES:
            raise OSError(f"{host[:100]!r} has {len(found)} addresses; at most {MOST_ADDRESSES} are looked at")
        for each in found:
            try:
                self.check(str(each[4][0]))
            except RefusedAddressError:
                if _address(host) is not None:
                    raise
                # Which one is not for the endpoint's owner to learn: it may be the operator's.
                raise RefusedAddressError("the name has an address that is not public") from None
        return found


def _address(host: str) -> str | None:
    """The address that a host is, in any form that the system's resolver takes for one (127.1, 0x7f000001, localhost);
    None where it is a name."""
    if host.removesuffix(".").rpartition(".")[2].lower() == "localhost":
        return "127.0.0.1"
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        pass
    try:
        return socket.inet_ntoa(socket.inet_aton(host))
    except (OSError, UnicodeError):
        return None


def _carried(address: IPAddress) -> IPAddress:
    """The IPv4 address that decides, where this one carries one. `::` and `::1` carry none."""
    if isinstance(address, ipaddress.IPv6Address) and int(address) > 1:
        for network, shift in _CARRIERS:
            if address in network:
                return ipaddress.IPv4Address((int(address) >> shift) & 0xFFFFFFFF)
    return address


def _is_public(address: IPAddress) -> bool:
    if any(address.version == network.version and address in network for network in _REFUSED):
        return False
    return address.is_global and not (
        address.is_multicast or address.is_private or address.is_reserved or address.is_unspecified
        or address.is_loopback or address.is_link_local
    )  # fmt: skip
