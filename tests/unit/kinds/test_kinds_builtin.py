"""The table of served kinds holds together."""

from podling.api.resources import ALL_VERBS
from podling.kinds import builtin


def test_every_resource_is_served_once() -> None:
    served = [(r.group, r.version, r.plural) for r in builtin()]
    assert len(served) == len(set(served))


def test_two_calls_share_no_state() -> None:
    assert all(a is not b for a, b in zip(builtin(), builtin(), strict=True))


def test_reviews_are_only_created() -> None:
    reviews = [r for r in builtin() if r.kind.endswith("Review")]
    assert len(reviews) == 6
    assert all(r.verbs == {"create"} for r in reviews)


def test_namespaces_are_never_deleted_as_a_collection() -> None:
    (namespaces,) = [r for r in builtin() if r.plural == "namespaces"]
    assert ALL_VERBS - namespaces.verbs == {"deletecollection"}


def test_events_of_both_groups_are_the_same_stored_objects() -> None:
    core, events = [r for r in builtin() if r.kind == "Event"]
    assert core.storage_key == events.storage_key == "events"


def test_a_row_has_a_cell_for_every_column() -> None:
    for resource in builtin():
        assert bool(resource.columns) == (resource.row is not None), resource.plural
