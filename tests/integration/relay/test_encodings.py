"""Bytes that are no text stop nothing: the row is an event with an error, and those around it arrive as they are."""

import os
from collections.abc import AsyncIterator
from itertools import count
from urllib.parse import urlsplit

import asyncpg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from streamhub.postgres.migrate import migrate_hub, migrate_source
from streamhub.relay import Relay, Source
from streamhub.relay.texts import codec_of
from tests.support.stage import Event, Stage, kinds, running

_numbers = count(1)
ERROR = "the row holds bytes that are no text in its database's encoding"
ENCODINGS = {"SQL_ASCII": ("utf-8", b"\xe9"), "WIN1252": ("cp1252", b"\x81"), "UTF8": ("utf-8", b"\xed\xa0\x80")}
CAST = "CREATE CAST (bytea AS text) WITHOUT FUNCTION"
UNCHECKED = "'\\x{}'::bytea::text"
# The texts of a row's columns: what is text in any of the encodings, and bytes that are not in some of them.
BYTES = st.one_of(
    st.text(st.characters(codec="ascii", exclude_characters="\0"), max_size=6).map(str.encode),
    st.binary(max_size=6).map(lambda data: data.replace(b"\0", b"")),
)


async def encoded(postgres_url: str, encoding: str) -> str:
    name = f"streamhub_encoded_{os.getpid()}_{next(_numbers)}"
    server = await asyncpg.connect(postgres_url)
    await server.execute(
        f"CREATE DATABASE {name} ENCODING '{encoding}' LOCALE 'C' LOCALE_PROVIDER libc TEMPLATE template0"
    )
    await server.close()
    return urlsplit(postgres_url)._replace(path=f"/{name}").geturl()


@pytest.fixture(params=ENCODINGS)
async def source(request: pytest.FixtureRequest, postgres_url: str) -> AsyncIterator[tuple[Stage, str, bytes]]:
    """A source in this encoding, the name of the codec that reads it, and bytes that are no text in it."""
    url = await encoded(postgres_url, request.param)
    connection = await asyncpg.connect(url)
    await migrate_source(connection)
    await connection.execute(CAST)
    await connection.execute("CREATE TABLE skus (id text PRIMARY KEY, organization_id text, note text, number int)")
    stage = Stage(url, connection)
    await stage.add()
    yield stage, *ENCODINGS[request.param]
    await connection.close()
    server = await asyncpg.connect(postgres_url)
    await server.execute(f"DROP DATABASE {urlsplit(url).path[1:]} WITH (FORCE)")
    await server.close()


def json_of(text: bytes) -> bytes:
    """As row_to_json writes it."""
    escaped = text.replace(b"\\", b"\\\\").replace(b'"', b'\\"')
    return b'"%b"' % b"".join(b"\\u%04x" % byte if byte < 32 else bytes([byte]) for byte in escaped)


async def write(source: Stage, *rows: tuple[bytes, bytes, bytes, bytes]) -> None:
    """Rows as the capture leaves them: key, organization, note, who. No client could send some of the bytes to some of
    the servers, so they are put into the outbox unchecked."""
    for key, organization, note, who in rows:
        text = b'{"id":%b,"organization_id":%b,"note":%b,"number":1}' % tuple(map(json_of, (key, organization, note)))
        await source.sql(f"INSERT INTO skus VALUES ('row {next(_numbers)}', 'x', 'x', 1)")
        await source.sql(
            "UPDATE streamhub.outbox SET "
            f"who = {UNCHECKED.format(who.hex())}, new_row = {UNCHECKED.format(text.hex())} "
            "WHERE seq = (SELECT max(seq) FROM streamhub.outbox)"
        )


async def relayed(stage: Stage, source: Stage) -> list[Event]:
    async with running(Relay(stage.url, [Source("other", source.url, in_hub=False)], announce=stage.announced.append)):
        await source.drained()
    return await stage.new_events()


async def test_a_byte_that_is_no_text_is_an_event_with_an_error_and_the_rows_around_it_arrive_whole(
    stage: Stage, source: tuple[Stage, str, bytes]
) -> None:
    application, codec, bad = source
    fine = "é".encode(codec)
    await write(
        application, (b"1", b"o", fine, b""), (b"2", b"o", b"caf" + bad, fine), (fine, b"o", b"after", b"he " + bad)
    )
    events = await relayed(stage, application)
    assert kinds(events) == [("create", "1"), ("create", "2"), ("create", "é")]
    assert [event.get("error") for event in events] == [None, ERROR, None]
    assert [event["resource"] and event["resource"]["note"] for event in events] == ["é", None, "after"]
    assert [event["who"] for event in events] == [None, "é", "he " + "\ufffd" * len(bad)]
    assert len(await stage.incidents("poison")) == 1


async def test_a_key_with_such_a_byte_has_the_replacement_character_in_its_place(
    stage: Stage, source: tuple[Stage, str, bytes]
) -> None:
    application, _, bad = source
    await write(application, (b"k" + bad + b"k", b"o", b"", b""))
    (event,) = await relayed(stage, application)
    assert event["resource_id"] == "k" + "\ufffd" * len(bad) + "k"
    assert event["error"] == ERROR


async def test_an_organization_that_cannot_be_told_exactly_gets_no_event(
    stage: Stage, source: tuple[Stage, str, bytes]
) -> None:
    application, _, bad = source
    await write(application, (b"1", b"o" + bad, b"", b""), (b"2", "o\ufffd".encode("ascii", "replace"), b"", b""))
    assert kinds(await relayed(stage, application)) == [("create", "2")]
    assert await stage.counters() == {"unattributable": 1}
    assert len(await stage.incidents("poison")) == 1


@pytest.mark.runs_once
@settings(max_examples=15, derandomize=True, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(st.tuples(BYTES, BYTES, BYTES, BYTES), min_size=1, max_size=6))
async def test_whatever_bytes_a_row_holds_every_row_is_an_event_or_told_of_and_none_waits(
    stage: Stage, source: tuple[Stage, str, bytes], rows: list[tuple[bytes, bytes, bytes, bytes]]
) -> None:
    application, codec, _ = source
    await stage.sql("TRUNCATE streamhub_hub.history, streamhub_hub.counted")
    await write(application, *rows)
    await relayed(stage, application)
    events = await stage.history()
    for event in events:
        assert "error" in event or event["resource"]["number"] == 1
    given_ = {organization.decode(codec, "replace") for _, organization, _, _ in rows}
    assert {event["organization"]["id"] for event in events} <= given_
    lost = await stage.counters()
    assert len(events) + lost.get("unattributable", 0) + lost.get("invalid_organization", 0) == len(rows)
    notes = [note.decode(codec) for _, _, note, _ in rows if is_in(note, codec)]
    told = [event["resource"]["note"] for event in events if event["resource"]]
    assert set(told) <= set(notes)


def is_in(data: bytes, codec: str) -> bool:
    try:
        data.decode(codec)
    except UnicodeDecodeError:
        return False
    return True


async def test_a_database_without_an_encoding_is_captured_and_relayed(postgres_url: str) -> None:
    url = await encoded(postgres_url, "SQL_ASCII")
    connection = await asyncpg.connect(url)
    await migrate_hub(connection)
    await migrate_source(connection)
    both = Stage(url, connection)
    await both.shop()
    await both.sql(
        *(f"INSERT INTO skus VALUES ({n}, 'o', 1, {note})" for n, note in enumerate(("'a'", r"E'\xe9'", "'b'")))
    )
    events = await both.relayed()
    assert [event.get("error") for event in events] == [None, ERROR, None]
    assert kinds(events) == [("create", str(n)) for n in range(3)]
    await connection.close()


@pytest.mark.parametrize(
    "encoding", ["LATIN1", "WIN1251", "WIN874", "KOI8R", "EUC_JP", "ISO_8859_5", "EUC_TW", "MULE_INTERNAL"]
)
def test_every_encoding_of_a_server_has_a_codec_that_reads_ascii(encoding: str) -> None:
    assert b"plain {}".decode(codec_of(encoding)) == "plain {}"
