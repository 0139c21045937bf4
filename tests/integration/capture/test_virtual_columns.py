"""Columns that are computed when they are read (VIRTUAL, the default from PostgreSQL 18 on): no trigger sees them."""

from typing import Any

import pytest

from streamhub.errors import UserError
from tests.integration.capture.test_backfill import send
from tests.support.stage import Stage, kinds

pytestmark = pytest.mark.needs_postgres_18

# A row with a per of 0 can be written, and not be read with its share.
SHARES = """
CREATE TABLE shares (id int PRIMARY KEY, organization_id text, per int, share int GENERATED ALWAYS AS (100 / per));
"""


@pytest.mark.parametrize(
    ("options", "option"),
    [
        ({"organization_column": "owner"}, "--org-column"),
        ({"id_columns": ["number"]}, "--id-column"),
        ({"test_column": "is_test"}, "--test-column"),
        ({"anonymization_column": "gone_at"}, "--anonymization-column"),
    ],
)
async def test_a_virtual_column_does_not_tell_whose_a_row_is(
    stage: Stage, options: dict[str, Any], option: str
) -> None:
    await stage.sql(
        "CREATE TABLE t (id int PRIMARY KEY, organization_id text, at timestamptz, "
        "owner text GENERATED ALWAYS AS (organization_id), number int GENERATED ALWAYS AS (id), "
        "is_test boolean GENERATED ALWAYS AS (id > 9), gone_at timestamptz GENERATED ALWAYS AS (at))"
    )
    with pytest.raises(UserError, match=f"{option}: .* is a VIRTUAL column"):
        await stage.add("t", **options)


async def test_a_row_whose_virtual_column_cannot_be_computed_is_sent_by_a_backfill(stage: Stage) -> None:
    await stage.sql(SHARES, "INSERT INTO shares VALUES (1, 'org_1', 0), (2, 'org_1', 4)")
    await stage.add("shares")
    await send(stage, "shares")
    rows = [event["resource"] for event in await stage.relayed()]
    assert rows == [{"id": 1, "organization_id": "org_1", "per": 0}, {"id": 2, "organization_id": "org_1", "per": 4}]


async def test_a_row_whose_virtual_column_cannot_be_computed_is_destroyed_by_a_truncate(stage: Stage) -> None:
    await stage.sql(SHARES)
    await stage.add("shares")
    await stage.sql("INSERT INTO shares VALUES (1, 'org_1', 0), (2, 'org_1', 4)", "TRUNCATE shares")
    assert [kind for kind, _ in kinds(await stage.relayed())] == ["create", "create", "destroy", "destroy"]


async def test_dropped_columns_domains_and_an_odd_name_do_not_matter(stage: Stage) -> None:
    await stage.sql(
        "CREATE DOMAIN even AS int CHECK (VALUE % 2 = 0)",
        'CREATE TABLE "T" (gone int, id int PRIMARY KEY, organization_id text, n even, '
        "zero int, v int GENERATED ALWAYS AS (1 / zero), t varchar(3))",
        'ALTER TABLE "T" DROP gone',
        """INSERT INTO "T" VALUES (1, 'org_1', 2, 0, DEFAULT, 'abc')""",
    )
    await stage.add('"T"')
    await send(stage, '"T"')
    await stage.sql('TRUNCATE "T"')
    row = {"id": 1, "organization_id": "org_1", "n": 2, "zero": 0, "t": "abc"}
    assert [(event["event"], event["resource"]) for event in await stage.relayed()] == [
        ("create", row),
        ("destroy", row),
    ]
