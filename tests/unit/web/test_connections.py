"""The bounds of connections: who goes, who is refused, and what is kept for operators."""

import asyncio
import resource

import pytest

from streamhub.web.connections import FOR_OPERATORS, OTHER_FILES, Connections, allow_open_files


class Peer:
    def __init__(self, made_at: float = 0.0, idle: bool = True) -> None:
        self.made_at = made_at
        self.idle = idle
        self.refused = False
        self.closed = False

    def force_close(self) -> None:
        self.closed = True


def anonymous(connections: Connections, count: int, **more: bool) -> list[Peer]:
    peers = [Peer(**more) for _ in range(count)]
    for peer in peers:
        connections.made(peer)
    return peers


async def test_over_the_bound_of_those_without_a_token_the_one_that_was_idle_longest_goes() -> None:
    connections = Connections(OTHER_FILES + 200)
    peers = anonymous(connections, connections.most_anonymous + 1)
    assert [peer.closed for peer in peers[:3]] == [True, False, False]
    assert not any(peer.refused for peer in peers)


async def test_where_none_is_idle_the_new_one_is_refused() -> None:
    connections = Connections(OTHER_FILES + 200)
    *peers, last = anonymous(connections, connections.most_anonymous + 1, idle=False)
    assert last.refused
    assert not any(peer.closed for peer in peers)


async def test_what_was_just_accepted_is_not_closed_for_its_request_may_be_there() -> None:
    connections = Connections(OTHER_FILES + 200)
    now = asyncio.get_running_loop().time()
    peers = [Peer(now) for _ in range(connections.most_anonymous + 1)]
    for peer in peers:
        connections.made(peer)
    assert not any(peer.closed for peer in peers)
    assert peers[-1].refused


async def test_one_with_a_valid_token_is_not_counted_among_those_without() -> None:
    connections = Connections(OTHER_FILES + 200)
    for peer in anonymous(connections, connections.most_anonymous, idle=False):
        connections.authenticated(peer)
    assert not any(peer.refused for peer in anonymous(connections, FOR_OPERATORS, idle=False))


async def test_streams_end_before_the_connections_that_are_kept_for_operators() -> None:
    connections = Connections(OTHER_FILES + 200)
    for peer in anonymous(connections, connections.most_streams):
        connections.authenticated(peer)
    assert not connections.full
    anonymous(connections, 1)
    is_full: bool = connections.full  # by a name of its own: a type checker takes the property for unchanged
    assert is_full
    assert "limit of open files" in str(connections.refusal())


async def test_at_the_limit_idle_ones_make_room_for_an_operator() -> None:
    connections = Connections(OTHER_FILES + 200)
    for peer in anonymous(connections, connections.most_streams):
        connections.authenticated(peer)
    idle = anonymous(connections, FOR_OPERATORS)
    operator = Peer()
    connections.made(operator)
    assert (operator.closed, operator.refused, idle[0].closed) == (False, False, True)


def test_the_soft_limit_of_open_files_is_raised_to_the_hard_one() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 512), hard))
        assert allow_open_files() == resource.getrlimit(resource.RLIMIT_NOFILE)[0] >= min(hard, 1_048_576)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.parametrize("files", [64, 256, 1_024, 20_000, 1_048_576])
def test_whatever_the_limit_streams_and_strangers_leave_room_for_operators(files: int) -> None:
    connections = Connections(files)
    assert 0 < connections.most_streams < connections.most
    assert connections.most_anonymous <= connections.most // 2
