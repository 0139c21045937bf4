"""The identities of a batch: packed small, and read as they were."""

from hypothesis import given
from hypothesis import strategies as st

from streamhub.core.identities import Identity, common, pack, unpack

NUMBERS = st.integers(0, 2**62 - 1)
IDENTITIES = st.lists(st.builds(Identity, NUMBERS, NUMBERS, st.integers(-(2**60), 2**60)), min_size=1, max_size=50)


@given(IDENTITIES)
def test_identities_are_read_as_they_were_packed(identities: list[Identity]) -> None:
    assert list(unpack(pack(identities))) == identities


def test_a_full_batch_takes_a_few_bytes_a_row() -> None:
    batch = [Identity(1000 + n, 500 + n // 3, 1_790_000_000_000_000 + n * 137 % 1000 + n * 900) for n in range(2000)]
    assert len(pack(batch)) < 8 * len(batch)


@given(IDENTITIES, IDENTITIES)
def test_what_two_batches_have_in_common_is_found_without_unpacking_the_rest(
    one: list[Identity], other: list[Identity]
) -> None:
    mixed = {*other[::2], *one[::2], *(identity._replace(xid=identity.xid ^ 1) for identity in one[1::2])}
    assert common(pack(one), {identity.seq for identity in mixed}, mixed) == {*one} & mixed
