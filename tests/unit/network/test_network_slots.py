from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from podling.network.slots import SMALLEST, Backend, assign, changed, size_for

backends = st.lists(st.integers(1, 200), min_size=1, max_size=40, unique=True).map(
    lambda numbers: [Backend(f"10.244.0.{n}", 80) for n in numbers]
)


def three(*numbers: int) -> list[Backend]:
    return [Backend(f"10.244.0.{n}", 80) for n in numbers]


@given(backends, backends)
def test_shares_differ_by_one_at_most_whatever_was_before(before: list[Backend], after: list[Backend]) -> None:
    size = size_for(len(after), size_for(len(before)))
    old = assign([], before, size)
    new = assign(old, after, size)
    shares = Counter(new)
    assert set(shares) == set(after)
    assert max(shares.values()) - min(shares.values()) <= 1


@given(backends, backends)
def test_no_slot_moves_that_need_not(before: list[Backend], after: list[Backend]) -> None:
    size = size_for(len(after), size_for(len(before)))
    old = assign([], before, size)
    new = assign(old, after, size)
    missing = sum((Counter(new) - Counter(old)).values())
    assert len(changed(old, new)) == missing


def test_the_same_backends_in_another_order_change_nothing() -> None:
    old = assign([], three(1, 2, 3), SMALLEST)
    assert assign(old, three(3, 1, 2), SMALLEST) == old


def test_one_of_three_leaving_moves_only_its_own_slots() -> None:
    old = assign([], three(1, 2, 3), SMALLEST)
    new = assign(old, three(1, 3), SMALLEST)
    assert len(changed(old, new)) == 20
    assert all(old[i] == Backend("10.244.0.2", 80) for i in changed(old, new))


def test_a_map_grows_before_shares_get_uneven_and_never_shrinks() -> None:
    assert size_for(1) == size_for(12) == 60
    assert size_for(13) == 240
    assert size_for(100) == 960
    assert size_for(1, 960) == 960


def test_growing_keeps_where_each_hash_leads() -> None:
    old = assign([], three(1, 2, 3), 60)
    grown = assign(old, three(1, 2, 3), 240)
    assert all(grown[h % 240] == old[h % 60] for h in range(1000))
