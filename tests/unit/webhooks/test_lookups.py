"""Names of hosts are looked up beside each other, one that hangs among them."""

import asyncio
import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest

from streamhub.webhooks import addresses
from streamhub.webhooks.addresses import Addresses
from streamhub.webhooks.lookups import Lookups, asking_organization


class Silent:
    """The name servers of `….silent.example`: a lookup of such a name hangs, until `answer`. `asked`: all lookups."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked: list[str] = []
        self._answers = threading.Event()
        self._real = socket.getaddrinfo
        monkeypatch.setattr(socket, "getaddrinfo", self._getaddrinfo)

    def answer(self) -> None:
        self._answers.set()

    def _getaddrinfo(self, host: str, *more: Any, **named: Any) -> Any:
        self.asked.append(host)
        if host.endswith(".silent.example"):
            self._answers.wait(60)
            raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
        return self._real("127.0.0.1", *more, **named)


@pytest.fixture
def silent(monkeypatch: pytest.MonkeyPatch) -> Iterator[Silent]:
    servers = Silent(monkeypatch)
    yield servers
    servers.answer()


async def test_names_whose_servers_are_silent_hold_up_no_other_name(silent: Silent) -> None:
    judged = Addresses(development=True)
    hanging = [asyncio.create_task(judged.resolve(f"a{n}.silent.example", 443)) for n in range(40)]
    async with asyncio.timeout(5):
        found = await judged.resolve("shop.example.com", 443)
    assert found[0][4][0] == "127.0.0.1"
    assert not any(each.done() for each in hanging)
    silent.answer()
    await asyncio.gather(*hanging, return_exceptions=True)


async def test_a_name_is_looked_up_once_at_a_time_by_all_who_ask(silent: Silent) -> None:
    judged = Addresses(development=True)
    hanging = [asyncio.create_task(judged.resolve("a.silent.example", 443)) for _ in range(10)]
    await judged.resolve("shop.example.com", 443)
    silent.answer()
    for each in hanging:
        with pytest.raises(socket.gaierror):
            await each
    assert silent.asked.count("a.silent.example") == 1
    with pytest.raises(socket.gaierror):
        await judged.resolve("a.silent.example", 443)
    assert silent.asked.count("a.silent.example") == 2


async def test_a_lookup_without_an_answer_ends_as_one_that_may_succeed_later(
    silent: Silent, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(addresses, "RESOLVED_WITHIN", 0.05)
    with pytest.raises(socket.gaierror) as raised:
        await Addresses().resolve("a.silent.example", 443)
    assert raised.value.errno == socket.EAI_AGAIN
    assert silent.asked == ["a.silent.example"]


async def test_an_organization_has_its_share_of_lookups_and_waits_for_its_own(silent: Silent) -> None:
    lookups = Lookups(most=4)  # of which one organization alone has half

    async def find(organization: int, host: str) -> None:
        asking_organization.set(organization)
        with suppress(socket.gaierror):
            await lookups.find(host, 443, socket.AF_INET)

    hanging = [asyncio.create_task(find(1, f"a{n}.silent.example")) for n in range(10)]
    async with asyncio.timeout(5):
        await asyncio.create_task(find(2, "shop.example.com"))
    assert len(silent.asked) == 3
    silent.answer()
    async with asyncio.timeout(5):
        await asyncio.gather(*hanging)
    assert len(silent.asked) == 11
