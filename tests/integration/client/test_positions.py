"""Positions in files and in PostgreSQL."""

import os
from pathlib import Path

import pytest

from streamhub.client import FilePosition, PostgresPosition
from tests.support.database import Connection, Pool

ONE, TWO, THREE = (f"01a202b2-c57c-7000-8000-00000000000{n}" for n in (1, 2, 3))


async def test_a_file_holds_the_last_id(tmp_path: Path) -> None:
    position = FilePosition(tmp_path / "position")
    assert await position.load() is None
    await position.store(ONE)
    await position.store(TWO)
    assert await FilePosition(tmp_path / "position").load() == TWO
    assert os.listdir(tmp_path) == ["position"]  # noqa: PTH208 - a list is quicker to compare


async def test_a_file_that_holds_something_else_is_named(tmp_path: Path) -> None:
    path = tmp_path / "position"
    path.write_text("yesterday\n")
    with pytest.raises(ValueError, match=r"position holds 'yesterday', which is no event's id"):
        await FilePosition(path).load()


async def test_a_file_in_no_directory_is_an_error_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        await FilePosition(tmp_path / "missing" / "position").load()


async def test_a_file_whose_writing_was_cut_short_still_holds_the_old_id(tmp_path: Path) -> None:
    position = FilePosition(tmp_path / "position")
    await position.store(ONE)
    (tmp_path / "position.new").write_text("01a2")
    assert await position.load() == ONE


async def test_postgresql_holds_the_last_id_of_each_consumer(pool: Pool) -> None:
    position, other = PostgresPosition(pool, "search"), PostgresPosition(pool, "reports")
    assert (await position.load(), await other.load()) == (None, None)
    await position.store(TWO)
    await other.store(THREE)
    assert (await position.load(), await other.load()) == (TWO, THREE)


async def test_a_position_in_postgresql_moves_forward_alone(pool: Pool) -> None:
    position = PostgresPosition(pool, "search")
    await position.load()
    await position.store(TWO)
    await position.store(ONE)
    assert await position.load() == TWO


async def test_a_position_is_stored_in_the_transaction_of_the_effect(pool: Pool, connection: Connection) -> None:
    position = PostgresPosition(pool, "search")
    await position.load()
    transaction = connection.transaction()
    await transaction.start()
    await position.store(TWO, connection)
    assert await position.load() is None
    await transaction.rollback()
    assert await position.load() is None
    async with connection.transaction():
        await position.store(THREE, connection)
    assert await position.load() == THREE
