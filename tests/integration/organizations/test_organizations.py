"""The registry of organizations, in a real database."""

from __future__ import annotations

import asyncio

import pytest

from streamhub import organizations
from streamhub.errors import UserError
from streamhub.organizations import Organization
from tests.support.database import Connection, Pool, Pooled


async def seen_first(connection: Connection | Pooled, id: str) -> Organization:
    return (await organizations.register_on_first_sight(connection, [id]))[id]


async def test_one_is_added_under_its_slug(connection: Connection) -> None:
    added = await organizations.add(connection, "my-org")
    assert added == Organization(added.key, "my-org", "my-org", False, True)
    assert await organizations.list_(connection) == [added]


async def test_one_has_an_id_of_its_own_where_given(connection: Connection) -> None:
    added = await organizations.add(connection, "my-org", "org_42", enterprise=False)
    assert (added.id, added.enterprise) == ("org_42", False)
    assert await organizations.with_id(connection, "org_42") == await organizations.with_slug(connection, "my-org")


@pytest.mark.parametrize("slug", ["", "-a", "a-", "A", "a_b", "a" * 64, "ü", "a\n"])
async def test_what_is_no_slug_is_refused_and_named(connection: Connection, slug: str) -> None:
    with pytest.raises(UserError) as caught:
        await organizations.add(connection, slug)
    assert repr(slug) in str(caught.value)
    assert await organizations.list_(connection) == []


@pytest.mark.parametrize("id", ["", " a", "a\n", "x" * 256])
async def test_what_is_no_id_is_refused_and_named(connection: Connection, id: str) -> None:
    with pytest.raises(UserError, match="is no organization id"):
        await organizations.add(connection, "my-org", id)


async def test_a_taken_slug_is_refused_and_its_holder_named(connection: Connection) -> None:
    await organizations.add(connection, "my-org", "org_1")
    with pytest.raises(UserError, match=r"'my-org' is taken by the organization with the id 'org_1'"):
        await organizations.add(connection, "my-org", "org_2")


async def test_a_taken_id_is_refused_and_its_slug_named(connection: Connection) -> None:
    await organizations.add(connection, "my-org", "org_1")
    with pytest.raises(UserError, match=r"'org_1' is registered already, with the slug 'my-org'"):
        await organizations.add(connection, "other", "org_1")


async def test_where_there_is_none_of_this_slug_the_nearest_one_is_named(connection: Connection) -> None:
    for slug in ("acme-outfitters", "northwind"):
        await organizations.add(connection, slug)
    outfitters = "acme-outfitters"
    for given, meant in {"nortwind": "northwind", "acme": outfitters, "acme-outfiters": outfitters}.items():
        with pytest.raises(UserError, match=f"did you mean {meant}[?] streamhub org add {given} registers it"):
            await organizations.require(connection, given)
    with pytest.raises(UserError, match="there is no organization 'globex': streamhub org list shows them all"):
        await organizations.set_(connection, "globex", enterprise=False)


async def test_slug_and_enterprise_can_be_changed(connection: Connection) -> None:
    await organizations.add(connection, "my-org", "org_1")
    changed = await organizations.set_(connection, "my-org", new_slug="new", enterprise=False)
    assert (changed.slug, changed.enterprise, changed.slug_is_made) == ("new", False, False)


async def test_a_made_slug_that_is_changed_is_chosen_from_then_on(connection: Connection) -> None:
    made = await seen_first(connection, "Org 1")
    assert not (await organizations.set_(connection, made.slug, new_slug="chosen")).slug_is_made


async def test_enterprise_alone_leaves_a_made_slug_made(connection: Connection) -> None:
    made = await seen_first(connection, "Org 1")
    assert (await organizations.set_(connection, made.slug, enterprise=False)).slug_is_made


async def test_a_slug_cannot_be_changed_to_a_taken_one(connection: Connection) -> None:
    await organizations.add(connection, "a")
    await organizations.add(connection, "b")
    with pytest.raises(UserError, match="'b' is taken"):
        await organizations.set_(connection, "a", new_slug="b")


async def test_changing_one_that_is_not_there_names_it(connection: Connection) -> None:
    with pytest.raises(UserError, match="no organization 'nobody'"):
        await organizations.set_(connection, "nobody", enterprise=True)


async def test_one_seen_first_is_registered_as_enterprise_under_a_made_slug(connection: Connection) -> None:
    seen = await seen_first(connection, "Org_42")
    assert seen == Organization(seen.key, "Org_42", "org-42", True, True)
    assert await seen_first(connection, "Org_42") == seen


async def test_a_made_slug_that_is_taken_gets_a_number(connection: Connection) -> None:
    slugs = [(await seen_first(connection, id)).slug for id in ("a b", "a_b", "a.b")]
    assert slugs == ["a-b", "a-b-2", "a-b-3"]


async def test_a_long_made_slug_that_is_taken_stays_a_slug(connection: Connection) -> None:
    slugs = [(await seen_first(connection, "x" * 70 + end)).slug for end in "ab"]
    assert slugs == ["x" * 63, "x" * 53 + "-2"]


async def test_a_conflict_does_not_end_the_transaction_it_happens_in(connection: Connection) -> None:
    await organizations.add(connection, "a-b")
    async with connection.transaction():
        assert (await seen_first(connection, "a b")).slug == "a-b-2"
        assert await connection.fetchval("SELECT 1") == 1


async def test_many_at_once_get_one_registration_for_each_id(pool: Pool) -> None:
    async def see(id: str) -> Organization:
        async with pool.acquire() as connection:
            return await seen_first(connection, id)

    seen = await asyncio.gather(*(see(id) for id in ["o 1", "o_1", "o 1", "o.1", "o_1", "o 1"]))
    assert len(set(seen)) == 3
    assert {organization.slug for organization in seen} == {"o-1", "o-1-2", "o-1-3"}


async def test_many_that_give_one_slug_are_registered_in_three_round_trips(connection: Connection) -> None:
    ids = [f"{'.' * n}org{'.' * (300 - n)}"[:255] for n in range(250)]
    await organizations.add(connection, "org-7")
    asked: list[str] = []
    with connection.query_logger(lambda query: asked.append(query.query)):
        seen = await organizations.register_on_first_sight(connection, ids)
        await asyncio.sleep(0)  # a logger is called at the loop's next turn
    assert len(asked) == 3
    assert [seen[id].slug for id in ids] == ["org", *(f"org-{n}" for n in range(2, 252) if n != 7)]


async def test_made_slugs_of_one_batch_never_collide(connection: Connection) -> None:
    """An id may spell the slug that another one of the batch is given for being second."""
    for ids in (["a b", "a_b", "a-b-2", "a.b"], ["c-2", "c", "C"], ["x" * 70, "x" * 71, "x" * 53 + "-2"]):
        seen = await organizations.register_on_first_sight(connection, ids)
        assert len({organization.slug for organization in seen.values()}) == len(ids)
