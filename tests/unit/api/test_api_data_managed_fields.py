"""Field ownership and server-side apply."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from podling.api import field_sets, managed_fields
from podling.api.errors import ApiError
from podling.api.resources import STATUS_APART
from podling.api.schema import Schemas
from podling.api.structs import shape
from podling.store.types import Object

SCHEMAS = Schemas.load()
CONFIG_MAP = SCHEMAS.node("io.k8s.api.core.v1.ConfigMap")
DEPLOYMENT = SCHEMAS.node("io.k8s.api.apps.v1.Deployment")
NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def config_map(data: Object | None = None, **metadata: Any) -> Object:
    obj: Object = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c", **metadata}}
    return obj if data is None else {**obj, "data": data}


def applied(live: Object | None, config: Object, manager: str, *, force: bool = False, now: datetime = NOW) -> Object:
    return managed_fields.apply(live, config, CONFIG_MAP, manager=manager, force=force, api_version="v1", now=now)


def updated(old: Object | None, new: Object, manager: str, **more: Any) -> Object:
    return managed_fields.track_update(old, new, CONFIG_MAP, manager=manager, api_version="v1", now=NOW, **more)


def stored(obj: Object) -> Object:
    return {**obj, "metadata": {**obj["metadata"], "uid": "u"}}


def owners(obj: Object) -> dict[str, Object]:
    entries = obj["metadata"].get("managedFields", [])
    return {f"{entry['manager']} {entry['operation']}": entry["fieldsV1"] for entry in entries}


def entry_of(obj: Object, manager: str) -> Object:
    return next(entry for entry in obj["metadata"]["managedFields"] if entry["manager"] == manager)


# Updates


def test_a_create_owns_all_that_it_set() -> None:
    obj = updated(None, config_map({"a": "1"}, labels={"x": "y"}), "creator")
    assert obj["metadata"]["managedFields"] == [
        {
            "manager": "creator",
            "operation": "Update",
            "apiVersion": "v1",
            "time": "2026-01-02T03:04:05Z",
            "fieldsType": "FieldsV1",
            "fieldsV1": {
                "f:data": {".": {}, "f:a": {}},
                "f:metadata": {"f:labels": {".": {}, "f:x": {}}},
            },
        }
    ]


def test_what_go_always_holds_is_not_added_by_the_first_who_sets_something_in_it() -> None:
    spec = {
        "selector": {"matchLabels": {"a": "b"}},
        "template": {"spec": {"containers": [{"name": "c", "image": "i"}]}},
    }
    body = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"}, "spec": spec}
    new, _ = shape(body, DEPLOYMENT)
    obj = managed_fields.track_update(None, new, DEPLOYMENT, manager="m", api_version="apps/v1", now=NOW)
    container = {".": {}, "f:image": {}, "f:name": {}, "f:resources": {}}
    template = {"f:spec": {"f:containers": {'k:{"name":"c"}': container}}}
    assert owners(obj) == {"m Update": {"f:spec": {"f:selector": {}, "f:template": template}}}


def test_a_change_moves_a_field_to_its_new_owner() -> None:
    old = stored(updated(None, config_map({"a": "1", "b": "1"}), "one"))
    obj = updated(old, stored(config_map({"a": "2", "c": "1"})), "two")
    assert owners(obj) == {
        "one Update": {"f:data": {}},
        "two Update": {"f:data": {"f:a": {}, "f:c": {}}},
    }


def test_a_write_without_a_change_owns_nothing() -> None:
    old = stored(updated(None, config_map({"a": "1"}), "one"))
    obj = updated(old, stored(config_map({"a": "1"})), "two")
    assert list(owners(obj)) == ["one Update"]


def test_an_empty_list_clears_ownership() -> None:
    old = stored(updated(None, config_map({"a": "1"}), "one"))
    obj = updated(old, stored(config_map({"a": "1"}, managedFields=[])), "two")
    assert "managedFields" not in obj["metadata"]


def test_an_object_whose_ownership_was_cleared_is_not_tracked_until_it_is_applied() -> None:
    old = stored(config_map({"a": "1"}))
    assert owners(updated(old, stored(config_map({"a": "2"})), "one")) == {}
    obj = applied(old, config_map({"b": "1"}), "two")
    assert owners(obj) == {
        "two Apply": {"f:data": {"f:b": {}}},
        "before-first-apply Update": {"f:data": {".": {}, "f:a": {}}},
    }


def test_status_is_owned_only_through_its_subresource() -> None:
    body = {"metadata": {"name": "d"}, "spec": {"replicas": 1}, "status": {"replicas": 1}}
    old, _ = shape({"metadata": {"name": "d"}}, DEPLOYMENT)
    new, _ = shape(body, DEPLOYMENT)

    def track(subresource: str) -> dict[str, Object]:
        resets = STATUS_APART[subresource]
        return owners(
            managed_fields.track_update(
                old,
                new,
                DEPLOYMENT,
                manager="m",
                api_version="apps/v1",
                now=NOW,
                subresource=subresource,
                reset_fields=resets,
            )
        )

    assert track("") == {"m Update": {"f:spec": {"f:replicas": {}}}}
    assert track("status") == {"m Update": {"f:status": {"f:replicas": {}}}}


def test_the_oldest_of_many_updaters_are_joined() -> None:
    obj = stored(updated(None, config_map({"k0": "1"}), "m0"))
    for number in range(1, 15):
        data = {**obj["data"], f"k{number}": "1"}
        new = {**obj, "data": data}
        obj = managed_fields.track_update(
            obj, new, CONFIG_MAP, manager=f"m{number}", api_version="v1", now=NOW + timedelta(seconds=number)
        )
    assert len(owners(obj)) == 10
    assert owners(obj)["ancient-changes Update"] == {"f:data": {".": {}, **{f"f:k{number}": {} for number in range(6)}}}


# Apply


def test_an_apply_owns_leaves_and_items() -> None:
    obj = applied(None, config_map({"a": "1"}, finalizers=["x/y"]), "m")
    assert owners(obj) == {"m Apply": {"f:data": {"f:a": {}}, "f:metadata": {"f:finalizers": {'v:"x/y"': {}}}}}


def test_a_field_that_is_given_up_goes() -> None:
    live = stored(applied(None, config_map({"a": "1", "b": "1"}), "m"))
    obj = applied(live, config_map({"a": "1"}), "m")
    assert obj["data"] == {"a": "1"}


def test_a_field_that_another_also_owns_stays() -> None:
    live = stored(applied(None, config_map({"a": "1", "b": "1"}), "m"))
    live = applied(live, config_map({"b": "1"}), "other")
    obj = applied(live, config_map({"a": "1"}), "m")
    assert obj["data"] == {"a": "1", "b": "1"}
    assert owners(obj) == {"m Apply": {"f:data": {"f:a": {}}}, "other Apply": {"f:data": {"f:b": {}}}}


def test_conflicts_name_the_owner_and_the_fields() -> None:
    live = stored(applied(None, config_map({"a": "1", "b": "1"}), "m"))
    with pytest.raises(ApiError) as caught:
        applied(live, config_map({"a": "2", "b": "2"}), "other")
    error = caught.value
    assert (error.code, error.reason) == (409, "Conflict")
    assert error.message == 'Apply failed with 2 conflicts: conflicts with "m":\n- .data.a\n- .data.b'
    assert error.status()["details"]["causes"][0] == {
        "reason": "FieldManagerConflict",
        "message": 'conflict with "m"',
        "field": ".data.a",
    }


def test_a_conflict_with_an_updater_tells_the_version() -> None:
    live = stored(updated(None, config_map({"a": "1"}), "one"))
    with pytest.raises(ApiError, match=r'conflict with "one" using v1: \.data\.a'):
        applied(live, config_map({"a": "2"}), "two")


def test_force_takes_the_field_over() -> None:
    live = stored(applied(None, config_map({"a": "1"}), "m"))
    obj = applied(live, config_map({"a": "2"}), "other", force=True)
    assert owners(obj) == {"other Apply": {"f:data": {"f:a": {}}}}
    assert obj["data"] == {"a": "2"}


def test_list_items_keep_the_order_of_the_configuration_around_the_live_ones() -> None:
    def deployment(*names: str) -> Object:
        containers = [{"name": name, "image": "i"} for name in names]
        return {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": "d"},
            "spec": {"template": {"spec": {"containers": containers}}},
        }

    live = managed_fields.apply(
        None, deployment("a", "b", "c"), DEPLOYMENT, manager="m", force=False, api_version="apps/v1", now=NOW
    )
    obj = managed_fields.apply(
        live, deployment("n", "c", "a"), DEPLOYMENT, manager="o", force=False, api_version="apps/v1", now=NOW
    )
    assert [item["name"] for item in obj["spec"]["template"]["spec"]["containers"]] == ["b", "n", "c", "a"]


def test_kubectl_may_take_over_what_its_client_side_apply_set() -> None:
    last = orjson.dumps(config_map({"a": "1"})).decode()
    annotations = {managed_fields.LAST_APPLIED: last}
    live = stored(updated(None, config_map({"a": "1"}, annotations=annotations), "kubectl-client-side-apply"))
    obj = applied(live, config_map({"a": "2"}), "kubectl")
    assert obj["data"] == {"a": "2"}
    assert orjson.loads(obj["metadata"]["annotations"][managed_fields.LAST_APPLIED])["data"] == {"a": "2"}
    with pytest.raises(ApiError):
        applied(live, config_map({"a": "2"}), "somebody-else")


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"a": 1}, ".data.a: expected string, got &value.valueUnstructured{Value:1}"),
        ("x", ".data: expected map, got &{x}"),
        ([], ".data: expected map, got &{[]}"),
    ],
)
def test_a_configuration_that_does_not_fit_is_refused(data: Any, words: str) -> None:
    with pytest.raises(ApiError) as caught:
        applied(None, config_map(data), "m")
    assert caught.value.message == f"failed to create typed patch object (/c; /v1, Kind=ConfigMap): {words}"
    assert (caught.value.code, caught.value.reason) == (500, "")


def test_unknown_fields_and_repeated_items_are_refused() -> None:
    with pytest.raises(ApiError, match=r"\.foo: field not declared in schema"):
        applied(None, {**config_map(), "foo": 1}, "m")
    with pytest.raises(ApiError, match=r'\.metadata\.finalizers: duplicate entries for key \[="x/y"\]'):
        applied(None, config_map(finalizers=["x/y", "x/y"]), "m")


def test_a_configuration_may_not_bring_managed_fields() -> None:
    with pytest.raises(ApiError, match=r"metadata\.managedFields must be nil"):
        applied(None, config_map(managedFields=[{"manager": "x"}]), "m")


def test_times_alone_are_no_change() -> None:
    old = stored(applied(None, config_map({"a": "1"}), "m"))
    entries = [{**entry, "time": "2030-01-01T00:00:00Z"} for entry in old["metadata"]["managedFields"]]
    new = {**old, "metadata": {**old["metadata"], "managedFields": entries}}
    assert managed_fields.keep_times(old, new) == old
    changed = {**new, "data": {"a": "2"}}
    assert managed_fields.keep_times(old, changed) is changed


# Laws

data_maps = st.dictionaries(st.sampled_from("abcd"), st.sampled_from("12"), max_size=4)
managers = st.sampled_from(["m", "o", "p"])


@given(st.lists(st.tuples(managers, data_maps), min_size=1, max_size=6))
def test_applying_the_same_again_changes_nothing(steps: list[tuple[str, Object]]) -> None:
    live: Object | None = None
    for manager, data in steps:
        before = orjson.dumps([live, data])
        obj = stored(applied(live, config_map(data or None), manager, force=True))
        assert orjson.dumps([live, data]) == before
        later = applied(obj, config_map(data or None), manager, force=True, now=NOW + timedelta(hours=1))
        assert later == obj
        assert all(obj.get("data", {}).get(key) == value for key, value in data.items())
        live = obj


@given(data_maps, data_maps, managers, managers)
def test_every_value_has_an_owner_who_is_known(first: Object, second: Object, one: str, other: str) -> None:
    obj = stored(applied(None, config_map(first), one))
    obj = applied(obj, config_map(second), other, force=True)
    owned = {key[2:] for fields in owners(obj).values() for key in fields.get("f:data", {}) if key != "."}
    assert owned == set(obj.get("data") or {})


names = st.sampled_from(["f:a", "f:b", 'k:{"n":1}'])
sets = st.recursive(
    st.just({}),
    lambda inner: st.dictionaries(names | st.just("."), inner, min_size=1, max_size=3).map(
        lambda node: {**node, ".": {}} if "." in node else node
    ),
    max_leaves=6,
).filter(lambda node: "." not in node)


def members(node: Object) -> set[tuple[str, ...]]:
    return set(field_sets.paths(node))


def well_formed(node: Object) -> Object:
    return {key: {} if set(child) == {"."} else well_formed(child) for key, child in node.items()}


@given(sets.map(well_formed), sets.map(well_formed))
def test_the_algebra_of_field_sets_is_that_of_sets(left: Object, right: Object) -> None:
    assert members(field_sets.union(left, right)) == members(left) | members(right)
    assert members(field_sets.difference(left, right)) == members(left) - members(right)
    assert members(field_sets.intersection(left, right)) == members(left) & members(right)


@pytest.mark.parametrize("value", [-1, "x", {"a": 1}])
def test_what_stands_for_a_list_without_being_one_has_no_items_to_own(value: Any) -> None:
    pod = SCHEMAS.node("io.k8s.api.core.v1.Pod")
    change = field_sets.compare({}, {"spec": {"containers": value, "nodeName": "n"}}, pod)
    assert change.added["f:spec"]["f:nodeName"] == {}


CUSTOM = SCHEMAS.custom(
    {
        "type": "object",
        "properties": {
            "items": {
                "type": "array",
                "x-kubernetes-list-type": "map",
                "x-kubernetes-list-map-keys": ["k"],
                "items": {"type": "object", "properties": {"k": {"type": "integer"}, "v": {"type": "string"}}},
            },
            "free": {"x-kubernetes-preserve-unknown-fields": True},
            "whole": {"type": "object", "x-kubernetes-map-type": "atomic", "additionalProperties": {"type": "string"}},
        },
    }
)


def of_custom(old: Object | None, new: Object, **options: Any) -> Object:
    return managed_fields.track_update(old, new, CUSTOM, manager="m", api_version="x/v1", now=NOW, **options)


def custom(**fields: Any) -> Object:
    return {"metadata": {"name": "n", "uid": "u"}, **fields}


def test_items_that_share_their_keys_are_owned_as_one() -> None:
    twice = [{"k": 1, "v": "a"}, {"k": 1, "v": "b"}, {"k": 2}]
    created = of_custom(None, custom(items=twice))
    owned = owners(created)["m Update"]["f:items"]
    assert owned == {".": {}, 'k:{"k":1}': {}, 'k:{"k":2}': {".": {}, "f:k": {}}}
    once = field_sets.compare(custom(items=twice), custom(items=[{"k": 1, "v": "a"}]), CUSTOM)
    assert once.added == {"f:items": {'k:{"k":1}': {".": {}, "f:k": {}, "f:v": {}}}}
    assert once.removed["f:items"]['k:{"k":1}'] == {}
    changed = field_sets.compare(custom(items=twice), custom(items=[*twice[1::-1], twice[2]]), CUSTOM)
    assert (changed.added, changed.modified, changed.removed) == ({}, {"f:items": {'k:{"k":1}': {}}}, {})


def test_an_applied_item_takes_the_place_of_those_that_share_its_keys() -> None:
    live = custom(items=[{"k": 1, "v": "a"}, {"k": 2}, {"k": 1, "v": "b"}])
    merged = field_sets.merge(live, {"items": [{"k": 1, "v": "c"}]}, CUSTOM)
    assert merged["items"] == [{"k": 1, "v": "c"}, {"k": 2}]


@pytest.mark.parametrize(
    ("old", "new", "added", "modified", "removed"),
    [
        ({"a": 1}, "text", {}, {"f:free": {}}, {"f:free": {"f:a": {}}}),
        ("text", {"a": 1}, {"f:free": {"f:a": {}}}, {"f:free": {}}, {}),
        ({"a": 1}, None, {}, {}, {"f:free": {"f:a": {}}}),
        (None, {"a": 1}, {"f:free": {"f:a": {}}}, {}, {}),
        ({}, None, {}, {"f:free": {}}, {}),
        ([1], {}, {}, {"f:free": {}}, {}),
    ],
)
def test_a_value_without_schema_may_change_its_type(
    old: Any, new: Any, added: Any, modified: Any, removed: Any
) -> None:
    change = field_sets.compare(custom(free=old), custom(free=new), CUSTOM)
    assert (change.added, change.modified, change.removed) == (added, modified, removed)


def test_null_applied_over_a_map_without_schema_keeps_it() -> None:
    assert field_sets.merge({"free": {"a": 1}}, {"free": None}, CUSTOM) == {"free": {"a": 1}}
    assert field_sets.merge({"free": {}}, {"free": None}, CUSTOM) == {"free": None}


def test_conflicts_are_listed_by_the_size_of_numbers() -> None:
    members = {f'k:{{"k":{number}}}': {} for number in (443, 80, 8080)} | {"f:b": {}, "f:a": {}, 'v:"x"': {}, "v:1": {}}
    listed = [field_sets.path_text(path) for path in field_sets.paths(members)]
    assert listed == [".a", ".b", "[k=80]", "[k=443]", "[k=8080]", "[=1]", '[="x"]']


def test_sent_sets_are_brought_into_form() -> None:
    sent = {'k:{"b": 1, "a": 2}': {".": {}}, "x:new": {}, "f:a": {"x:new": {}}, "f:b": {".": {}, "f:c": {}}}
    assert field_sets.decoded(sent) == {'k:{"a":2,"b":1}': {}, "f:a": {}, "f:b": {".": {}, "f:c": {}}}


@pytest.mark.parametrize("sent", [{"a": {}}, {"v:{": {}}, {"k:3": {}}, {"f:a": 3}, [1]])
def test_a_set_that_is_none_leaves_the_owners_as_they_were(sent: Any) -> None:
    with pytest.raises(ValueError):
        field_sets.decoded(sent)
    old = of_custom(None, custom(free={"a": 1}))
    entry = {**old["metadata"]["managedFields"][0], "manager": "other", "fieldsV1": sent}
    new = {**old, "metadata": {**old["metadata"], "managedFields": [entry]}}
    assert owners(of_custom(old, new)) == owners(old)


def test_what_became_atomic_is_owned_as_a_whole() -> None:
    old = custom(whole={"a": "1"}, free=1)
    entry = {
        "manager": "o",
        "operation": "Apply",
        "apiVersion": "x/v1",
        "fieldsType": "FieldsV1",
        "fieldsV1": {"f:whole": {"f:a": {}}},
    }
    old["metadata"]["managedFields"] = [entry]
    new = {**old, "free": 2}
    assert owners(of_custom(old, new))["o Apply"] == {"f:whole": {}}


def test_what_a_version_owns_that_is_gone_is_forgotten() -> None:
    old = of_custom(None, custom(free=1))
    entry = {**old["metadata"]["managedFields"][0], "manager": "old", "apiVersion": "x/v0"}
    old["metadata"]["managedFields"].append(entry)
    kept = of_custom(old, {**old, "free": 2}, elsewhere={"x/v0": None})
    assert owners(kept) == {"m Update": {"f:free": {}}}
    applied = managed_fields.apply(
        old, {"free": 3}, CUSTOM, manager="m", force=True, api_version="x/v1", now=NOW, elsewhere={"x/v0": None}
    )
    assert owners(applied) == {"m Apply": {"f:free": {}}}


def test_what_is_emptied_stays_empty() -> None:
    gone = {"f:items": {'k:{"k":1}': {}}, "f:free": {"f:a": {}}, "f:whole": {"f:a": {}}}
    value = {"items": [{"k": 1}], "free": {"a": 1}, "whole": {"a": "1"}}
    assert field_sets.remove(value, gone, CUSTOM) == {"items": [], "free": {}, "whole": {}}


def test_the_annotation_of_client_side_apply_is_written_as_go_does_and_dropped_when_too_large() -> None:
    live = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d", "uid": "u"}}
    live["metadata"]["annotations"] = {managed_fields.LAST_APPLIED: "{}"}

    def annotations(value: str) -> Object:
        config = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d", "annotations": {"v": value}}}
        applied = managed_fields.apply(
            live, config, DEPLOYMENT, manager="kubectl", force=True, api_version="apps/v1", now=NOW
        )
        return applied["metadata"]["annotations"]

    assert '"v":"a\\u003cb"' in annotations("a<b")[managed_fields.LAST_APPLIED]
    assert managed_fields.LAST_APPLIED not in annotations("x" * (200 << 10))


def test_a_client_is_named_by_what_can_be_printed_of_its_user_agent() -> None:
    assert managed_fields.manager_of("curl\x07y/8.0 (x)") == "curly"
    assert managed_fields.manager_of("ä" * 100) == "ä" * 64


def test_a_configuration_whose_metadata_is_no_object_is_refused_not_a_fault() -> None:
    with pytest.raises(ApiError):
        applied(stored(config_map({"a": "1"})), {"apiVersion": "v1", "kind": "ConfigMap", "metadata": "x"}, "me")
