"""Replays as zstd and gzip: decoded piece by piece as they come, and the same events as without."""

import asyncio
import hashlib
import json
import subprocess
import sys
import threading
import zlib
from datetime import timedelta
from typing import Any

import pytest

from streamhub.gateway.replay import codings, jobs, shared
from tests.integration.conftest import Client, Hub, StartHub
from tests.integration.gateway.replay.test_replay import lately

if sys.version_info >= (3, 14):
    from compression.zstd import ZstdDecompressor
else:
    from backports.zstd import ZstdDecompressor

BOTH = pytest.mark.parametrize("coding", ["zstd", "gzip"])


class Decoded:
    """A replay of the last hour whose chunks are decoded one by one, as they come."""

    def __init__(self, client: Client, coding: str) -> None:
        assert client.status == 200
        assert client.headers["content-encoding"] == coding
        self.client = client
        self.decoder: Any = ZstdDecompressor() if coding == "zstd" else zlib.decompressobj(wbits=31)

    @classmethod
    async def open(cls, hub: Hub, coding: str, headers: dict[str, str] | None = None) -> "Decoded":
        client = await hub.open(await lately(hub), headers={"Accept-Encoding": coding, **(headers or {})})
        return cls(client, coding)

    async def piece(self) -> bytes:
        """The next chunk, decoded; nothing at the end of the response."""
        return self.decoder.decompress(await asyncio.wait_for(self.client._more(), 10))

    async def rest(self) -> list[bytes]:
        pieces = []
        while not self.client.ended:
            chunk = await asyncio.wait_for(self.client._more(), 10)
            self.client.ended = not chunk
            pieces.append(self.decoder.decompress(chunk) if chunk else b"")
        assert self.decoder.eof, "the coding says its end"
        return [piece for piece in pieces if piece]


def events(text: bytes) -> list[bytes]:
    """The frames of server-sent events but for control frames."""
    return [frame + b"\n\n" for frame in text.split(b"\n\n") if b"\nid: " in frame]


@BOTH
async def test_each_piece_is_whole_frames_and_together_they_are_what_was_stored(
    hub: Hub, organization: int, coding: str
) -> None:
    stored = [event for _ in range(3) for event in (await hub.history.append(organization, 600, size=2_000)).events]
    pieces = await (await Decoded.open(hub, coding)).rest()
    assert len(pieces) > 3
    assert all(piece.endswith(b"\n\n") for piece in pieces)
    frames = events(b"".join(pieces))
    assert frames == [event.frame for event in stored]
    complete = json.loads(pieces[-1].partition(b"data: ")[2])
    assert complete["sha256"] == hashlib.sha256(b"".join(frames)).hexdigest()


async def test_ndjson_is_compressed_too(hub: Hub, organization: int) -> None:
    await hub.history.append(organization, 3)
    pieces = await (await Decoded.open(hub, "zstd", {"Accept": "application/x-ndjson"})).rest()
    started, *lines, complete = b"".join(pieces).splitlines(keepends=True)
    assert json.loads(started)["event"] == "replay_started"
    assert [json.loads(line)["n"] for line in lines] == [0, 1, 2]
    assert json.loads(complete)["data"]["sha256"] == hashlib.sha256(b"".join(lines)).hexdigest()


@BOTH
async def test_a_heartbeat_comes_through_at_once(start_hub: StartHub, organization: int, coding: str) -> None:
    hub = await start_hub(heartbeat_interval=timedelta(milliseconds=100))
    async with hub.kinds.replay.closing_windows:  # the job waits for it
        replay = await Decoded.open(hub, coding)
        assert (await replay.piece()).startswith(b"event: replay_started\n")
        for _ in range(3):
            assert (await replay.piece()).startswith(b"event: heartbeat\n")


@BOTH
async def test_an_end_before_its_time_can_be_read(hub: Hub, organization: int, coding: str) -> None:
    async with hub.kinds.replay.closing_windows:
        replay = await Decoded.open(hub, coding)
        job = json.loads((await replay.piece()).partition(b"data: ")[2])["job_id"]
        assert (await hub.get(f"/my-org/replays/{job}", method="DELETE")).status == 204
        assert b'"code":"REPLAY_CANCELLED"' in (await replay.rest())[-1]


async def test_a_replay_that_is_cancelled_while_a_page_is_encoded_ends_with_an_error_that_can_be_read(
    hub: Hub, organization: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    await hub.history.append(organization, 600, size=2_000)
    begun, go_on, encode = threading.Event(), threading.Event(), codings.Zstd.encode

    def slowly(self: codings.Zstd, data: bytes) -> bytes:
        if threading.current_thread() is not threading.main_thread():
            begun.set()
            assert go_on.wait(10)
        return encode(self, data)

    monkeypatch.setattr(codings.Zstd, "encode", slowly)
    replay = await Decoded.open(hub, "zstd")
    job = json.loads((await replay.piece()).partition(b"data: ")[2])["job_id"]
    assert await asyncio.to_thread(begun.wait, 10)
    assert (await hub.get(f"/my-org/replays/{job}", method="DELETE")).status == 204
    go_on.set()
    *pages, last = await replay.rest()
    assert len(events(b"".join(pages))) > 0
    assert b'"code":"REPLAY_CANCELLED"' in last


async def test_a_cancelled_one_ends_its_job_and_gives_back_its_compressor_whether_the_database_answers_or_not(
    hub: Hub, organization: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    away, finish = asyncio.Event(), jobs.finish

    async def finished(*arguments: Any) -> str:
        if not away.is_set():
            raise OSError("the database is away")
        return await finish(*arguments)

    async with hub.kinds.replay.closing_windows:
        replay = await Decoded.open(hub, "zstd")
        job = json.loads((await replay.piece()).partition(b"data: ")[2])["job_id"]
        monkeypatch.setattr(jobs, "finish", finished)
        replay.client.writer.close()
        await hub.eventually(lambda: asyncio.sleep(0, hub.kinds.replay._coded == 0))
    away.set()

    async def cancelled() -> bool:
        shown = json.loads((await hub.get(f"/my-org/replays/{job}")).body)
        return bool(shown["data"]["state"] == "cancelled")

    await hub.eventually(cancelled)


@pytest.mark.parametrize("headers", [{}, {"Accept-Encoding": "br, identity"}])
async def test_without_a_coding_of_ours_it_comes_as_it_is_and_says_what_it_varies_with(
    hub: Hub, organization: int, headers: dict[str, str]
) -> None:
    client = await hub.open(await lately(hub), headers=headers)
    assert "content-encoding" not in client.headers
    assert client.headers["vary"] == "Accept, Accept-Encoding"
    assert (await client.rest())[-1].event == "stream_complete"


async def test_a_refusal_is_not_compressed(hub: Hub, organization: int) -> None:
    answer = await hub.get("/my-org/replay", headers={"Accept-Encoding": "zstd"})
    assert answer.codes == ["MISSING_DATE_RANGE"]
    assert "content-encoding" not in answer.headers


async def test_one_beyond_those_that_may_be_compressed_at_once_comes_as_it_is(
    hub: Hub, organization: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared, "MOST_CODED", 1)
    async with hub.kinds.replay.closing_windows:
        first = await Decoded.open(hub, "zstd")
        client = await hub.open(await lately(hub), headers={"Accept-Encoding": "zstd"})
        assert "content-encoding" not in client.headers
    await first.rest()
    await client.rest()
    await (await Decoded.open(hub, "zstd")).rest()


async def test_curl_decodes_it(hub: Hub, organization: int) -> None:
    append = await hub.history.append(organization, 100)
    command = ["curl", "-sSN", "--compressed", "-D", "/dev/stderr", "-H", f"Authorization: Bearer {hub.token()}"]
    url = f"http://127.0.0.1:{hub.port}{await lately(hub)}"
    done = await asyncio.to_thread(subprocess.run, [*command, url], capture_output=True, timeout=20, check=True)
    assert b"content-encoding: " in done.stderr.lower()
    assert events(done.stdout) == [event.frame for event in append.events]
