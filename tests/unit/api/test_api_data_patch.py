"""JSON patch, JSON merge patch and strategic merge patch."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from podling.api import patch, patching
from podling.api.errors import ApiError
from podling.api.schema import Schemas
from podling.store.types import Object

SCHEMAS = Schemas.load()
DEPLOYMENT = SCHEMAS.node("io.k8s.api.apps.v1.Deployment")
POD_SPEC = SCHEMAS.node("io.k8s.api.core.v1.PodSpec")
SERVICE_SPEC = SCHEMAS.node("io.k8s.api.core.v1.ServiceSpec")
OBJECT_META = SCHEMAS.node("io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta")

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.sampled_from(["", "a", "b"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["a", "b", "c"]), inner, max_size=3),
    max_leaves=8,
)
json_objects = st.dictionaries(st.sampled_from(["a", "b", "c"]), json_values, max_size=3)


def names(items: list[Object]) -> list[str]:
    return [item["name"] for item in items]


def merged(target: Object, change: Object) -> Object:
    return patch.strategic_merge_patch(target, change, POD_SPEC)


def containers(*which: str) -> Object:
    return {"containers": [{"name": name, "image": f"{name}:1"} for name in which]}


# Merge patch


def test_a_merge_patch_replaces_merges_and_deletes() -> None:
    target = {"a": {"b": 1, "c": 2}, "d": [1, 2]}
    assert patch.merge_patch(target, {"a": {"b": None, "e": 3}, "d": [3]}) == {"a": {"c": 2, "e": 3}, "d": [3]}


def difference(old: Any, new: Any) -> Any:
    """The merge patch from one value to another."""
    if not isinstance(old, dict) or not isinstance(new, dict):
        return new
    changed = {key: difference(old.get(key), value) for key, value in new.items() if old.get(key, ...) != value}
    return {**dict.fromkeys(old.keys() - new.keys()), **changed}


def without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: without_nulls(item) for key, item in value.items() if item is not None}
    return [without_nulls(item) for item in value] if isinstance(value, list) else value


def without_nulls_in_lists(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: without_nulls_in_lists(item) for key, item in value.items()}
    return without_nulls(value)


def test_what_a_merge_patch_puts_in_a_place_loses_its_nulls_unless_it_replaces_a_map() -> None:
    change = {"a": [{"x": None, "y": [None, {"z": None}]}]}
    assert patch.merge_patch({}, change) == {"a": [{"y": [None, {}]}]}
    assert patch.merge_patch({"a": [1]}, change) == {"a": [{"y": [None, {}]}]}
    assert patch.merge_patch({"a": {"x": 1}}, change) == change


@given(json_objects, json_objects)
def test_a_difference_applied_gives_the_new_object(old: Object, new: Object) -> None:
    old, new = without_nulls(old), without_nulls(new)
    assert patch.merge_patch(old, difference(old, new)) == new


@given(json_objects, json_objects)
def test_a_merge_patch_changes_neither_argument_and_is_idempotent(target: Object, change: Object) -> None:
    before = orjson.dumps([target, change])
    once = patch.merge_patch(target, change)
    if change == without_nulls_in_lists(change):
        assert patch.merge_patch(once, change) == once
    assert orjson.dumps([target, change]) == before


# JSON patch


def test_operations_are_carried_out_in_order() -> None:
    target: Object = {"a": {"b": [1, 2]}, "c": "x"}
    operations = [
        {"op": "test", "path": "/c", "value": "x"},
        {"op": "add", "path": "/a/b/-", "value": 3},
        {"op": "add", "path": "/a/b/0", "value": 0},
        {"op": "remove", "path": "/a/b/1"},
        {"op": "copy", "from": "/a", "path": "/d"},
        {"op": "move", "from": "/c", "path": "/e~1f"},
        {"op": "replace", "path": "/d/b/0", "value": 9},
        {"op": "replace", "path": "/a/b/-1", "value": 8},
    ]
    assert patch.json_patch(target, operations) == {"a": {"b": [0, 2, 8]}, "d": {"b": [9, 2, 3]}, "e/f": "x"}
    assert target == {"a": {"b": [1, 2]}, "c": "x"}


@pytest.mark.parametrize(
    "operation",
    [
        {"op": "frob", "path": "/a"},
        {"op": "remove", "path": "/nope"},
        {"op": "test", "path": "/a", "value": 2},
        {"op": "test", "path": "/a", "value": True},
        {"op": "replace", "path": "/nope/x", "value": 1},
        {"op": "add", "path": "/list/5", "value": 1},
        {"op": "add", "path": "/list/x", "value": 1},
        {"op": "add", "path": "nowhere", "value": 1},
        {"op": "move", "from": "/nope", "path": "/b"},
        {"op": "move", "path": "/b"},
        {"op": "add", "path": "/a/b", "value": 1},
        {"op": "replace", "path": "", "value": "x"},
        {"op": "remove", "path": 1},
        {"op": "add", "path": "/list/1_0", "value": 1},
        {"op": "add", "path": "/list/ 0", "value": 1},
        {"op": "test", "path": "/a/b", "value": None},
        {"op": "test", "path": "/nope/x", "value": None},
        {"op": "copy", "from": "/a/b", "path": "/c"},
        {"op": "copy", "from": "/list/1", "path": "/c"},
    ],
)
def test_an_operation_that_does_not_fit_is_unprocessable(operation: Object) -> None:
    with pytest.raises(ApiError) as caught:
        patch.json_patch({"a": 1, "list": [1]}, [operation])
    assert caught.value.code == 422
    assert caught.value.message == "the server rejected our request due to an error in our request"
    assert caught.value.status()["details"] == {}


def test_too_many_operations_are_too_large() -> None:
    with pytest.raises(ApiError) as caught:
        patch.json_patch({}, [{"op": "test", "path": "/a"}] * 10_001)
    assert caught.value.code == 413


@given(json_objects, json_objects)
def test_replacing_each_member_gives_the_new_object(old: Object, new: Object) -> None:
    before = orjson.dumps(old)
    operations = [{"op": "remove", "path": f"/{key}"} for key in old]
    operations += [{"op": "add", "path": f"/{key}", "value": value} for key, value in new.items()]
    assert patch.json_patch(old, operations) == new
    assert orjson.dumps(old) == before


# Strategic merge patch


def test_list_items_merge_by_key_and_new_ones_come_first() -> None:
    result = merged(
        containers("a", "b"), {"containers": [{"name": "n", "image": "n:1"}, {"name": "b", "image": "b:2"}]}
    )
    assert names(result["containers"]) == ["n", "a", "b"]
    assert result["containers"][2]["image"] == "b:2"
    assert names(merged(containers("a"), containers("n"))["containers"]) == ["n", "a"]


def test_an_item_is_deleted_by_directive() -> None:
    result = merged(containers("a", "b"), {"containers": [{"name": "a", "$patch": "delete"}]})
    assert names(result["containers"]) == ["b"]


def test_a_list_is_replaced_by_directive() -> None:
    result = merged(containers("a", "b"), {"containers": [{"name": "c"}, {"$patch": "replace"}]})
    assert names(result["containers"]) == ["c"]


def test_an_order_is_followed_and_the_servers_items_keep_their_place() -> None:
    order = [{"name": "c"}, {"name": "a"}]
    result = merged(containers("a", "b", "c"), {"$setElementOrder/containers": order})
    assert names(result["containers"]) == ["b", "c", "a"]


def test_an_order_that_contradicts_the_patch_is_refused() -> None:
    change = {"$setElementOrder/containers": [{"name": "a"}, {"name": "b"}], **containers("b", "a")}
    with pytest.raises(ApiError, match="The order in patch list") as caught:
        merged(containers("a", "b"), change)
    assert caught.value.code == 500


@pytest.mark.parametrize(
    ("change", "code", "message"),
    [
        ({"$setElementOrder/containers": "x"}, 500, "expected a []interface {}, but received a string"),
        ({"$setElementOrder/containers": None}, 500, "expected a []interface {}, but received a %!s(<nil>)"),
        ({"$setElementOrder/containers": [], "containers": 3}, 500, "expected a []interface {}, but received a int64"),
        (
            {"$setElementOrder/containers": [{"name": "a"}], "containers": None},
            500,
            "expected a []interface {}, but received a %!s(<nil>)",
        ),
        (
            {"$setElementOrder/containers": ["a"], "containers": [{"name": "a"}]},
            500,
            "expected a map[string]interface {}, but received a string",
        ),
        (
            {"$setElementOrder/containers": [{"image": "x"}], "containers": [{"name": "a"}]},
            500,
            "map: map[image:x] does not contain declared merge key: name",
        ),
        (
            {"$setElementOrder/strange": []},
            500,
            'unable to find api field in struct PodSpec for the json field "strange"',
        ),
        ({"$setElementOrder": []}, 400, "invalid patch format of setElementOrder list"),
        ({"$deleteFromPrimitiveList": []}, 400, "invalid patch format of primitive list"),
        ({"$patch": 5}, 500, "unknown patch type: %!s(int64=5) in map: map[$patch:5]"),
        ({"containers": [{"name": "a", "$patch": None}]}, 500,
         "unknown patch type: %!s(<nil>) in map: map[$patch:<nil> name:a]"),
        ({"containers": [{"$patch": "merge"}]}, 500, "merging lists cannot yet be specified in the patch"),
        ({"containers": ["a"]}, 500, "list element types are not identical: [[map[image:a:1 name:a]] [a]]"),
        ({"$retainKeys": "containers"}, 400, "invalid patch format of retainKeys"),
    ],
)  # fmt: skip
def test_what_cannot_be_merged_is_refused(change: Object, code: int, message: str) -> None:
    with pytest.raises(ApiError) as caught:
        merged(containers("a"), change)
    assert (caught.value.code, caught.value.message) == (code, message)


def test_lists_of_lists_are_refused() -> None:
    with pytest.raises(ApiError) as caught:
        patch.strategic_merge_patch({"finalizers": ["a"]}, {"finalizers": [["b"]]}, OBJECT_META)
    assert (caught.value.code, caught.value.message) == (500, "list element types are not identical: [[a] [[b]]]")
    with pytest.raises(ApiError) as caught:
        patch.strategic_merge_patch({"finalizers": [["a"]]}, {"finalizers": [["b"]]}, OBJECT_META)
    assert caught.value.code == 422


def test_a_list_to_delete_from_meets_what_is_there() -> None:
    old = {"finalizers": ["x/a", "x/b"], "name": "n"}

    def deleted(change: Object) -> Object:
        return patch.strategic_merge_patch(old, change, OBJECT_META)

    assert deleted({"$deleteFromPrimitiveList/finalizers": None}) == {"name": "n"}
    assert deleted({"$deleteFromPrimitiveList/finalizers": "x/a"}) == old
    assert deleted({"$deleteFromPrimitiveList/ownerReferences": ["x"]}) == old


def test_a_replaced_list_keeps_its_own_items_in_their_order() -> None:
    change = {"containers": [{"name": "c"}, {"$patch": "replace"}, {"name": "a", "image": "x"}]}
    assert merged(containers("a", "b"), change)["containers"] == [{"name": "c"}, {"name": "a", "image": "x"}]


def test_new_items_that_an_empty_order_does_not_name_come_first() -> None:
    result = merged(containers("a", "b"), {"$setElementOrder/containers": [], **containers("x", "y")})
    assert names(result["containers"]) == ["y", "x", "a", "b"]


def test_primitive_lists_merge_as_sets() -> None:
    old = {"finalizers": ["x/a", "x/b"]}
    result = patch.strategic_merge_patch(old, {"finalizers": ["x/c", "x/a"]}, OBJECT_META)
    assert result == {"finalizers": ["x/c", "x/a", "x/b"]}
    result = patch.strategic_merge_patch(old, {"$deleteFromPrimitiveList/finalizers": ["x/a"]}, OBJECT_META)
    assert result == {"finalizers": ["x/b"]}


def test_lists_without_a_strategy_are_replaced() -> None:
    old = {"containers": [{"name": "a", "args": ["1", "2"]}]}
    result = merged(old, {"containers": [{"name": "a", "args": ["3"]}]})
    assert result["containers"][0]["args"] == ["3"]


def test_retained_keys_drop_the_others() -> None:
    old = {"spec": {"strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}}}}
    change = {"spec": {"strategy": {"$retainKeys": ["type"], "type": "Recreate"}}}
    result = patch.strategic_merge_patch(old, change, DEPLOYMENT)
    assert result == {"spec": {"strategy": {"type": "Recreate"}}}
    with pytest.raises(ApiError, match="invalid patch format of retainKeys"):
        patch.strategic_merge_patch(old, {"spec": {"strategy": {"$retainKeys": [], "type": "x"}}}, DEPLOYMENT)


def test_a_map_is_replaced_or_emptied_by_directive() -> None:
    old = {"nodeSelector": {"a": "1"}, "hostPID": True}
    assert merged(old, {"nodeSelector": {"$patch": "replace", "b": "2"}})["nodeSelector"] == {"b": "2"}
    assert merged(old, {"nodeSelector": {"$patch": "delete"}})["nodeSelector"] == {}
    assert merged(old, {"hostPID": None}) == {"nodeSelector": {"a": "1"}}


def test_what_meets_nothing_loses_nulls_and_directives() -> None:
    change = {"securityContext": {"runAsUser": None, "runAsGroup": 1, "windowsOptions": {"$patch": "delete"}}}
    assert merged({}, change) == {"securityContext": {"runAsGroup": 1}}
    assert merged({}, {"volumes": [{"name": "v", "emptyDir": None}]}) == {"volumes": [{"name": "v"}]}


def test_directives_other_than_patch_are_left_where_they_meet_nothing() -> None:
    change = {"securityContext": {"$retainKeys": ["runAsUser"], "runAsUser": 1}}
    assert merged({}, change) == change


def test_an_item_without_its_key_is_refused() -> None:
    with pytest.raises(ApiError) as caught:
        merged(containers("a"), {"containers": [{"image": "noname"}]})
    assert caught.value.message == "map: map[image:noname] does not contain declared merge key: name"
    assert (caught.value.code, caught.value.reason) == (500, "")


def test_an_unknown_directive_is_refused() -> None:
    with pytest.raises(ApiError, match=r"unknown patch type: frob in map: map\[\$patch:frob\]"):
        merged({}, {"$patch": "frob"})


def test_ports_of_a_service_merge_by_number() -> None:
    old = {"ports": [{"port": 80, "name": "a"}, {"port": 81, "name": "b"}]}
    result = patch.strategic_merge_patch(old, {"ports": [{"port": 81, "targetPort": 8081}]}, SERVICE_SPEC)
    assert result["ports"] == [{"port": 80, "name": "a"}, {"port": 81, "name": "b", "targetPort": 8081}]


some_names = st.lists(st.sampled_from("abcdef"), unique=True, max_size=5)


@given(some_names, some_names, st.booleans())
def test_a_strategic_patch_changes_neither_argument_and_is_idempotent(
    live: list[str], wanted: list[str], ordered: bool
) -> None:
    target, change = containers(*live), containers(*wanted)
    if ordered and (live or wanted):
        change["$setElementOrder/containers"] = [{"name": name} for name in wanted]
    before = orjson.dumps([target, change])
    once = merged(target, change)
    assert orjson.dumps([target, change]) == before
    assert sorted(names(once["containers"])) == sorted({*live, *wanted})
    assert merged(once, change) == once


# How a refused outcome is shown


def test_the_refused_outcome_sorts_what_the_patch_touched() -> None:
    live = {"kind": "ConfigMap", "metadata": {"name": "c", "labels": {}}, "data": {"b": "1"}}
    new = patch.merge_patch(live, {"data": {"a": 5}})
    text = '{"data":{"a":5,"b":"1"},"kind":"ConfigMap","metadata":{"name":"c","labels":{}}}'
    assert patch.patched_json(live, new) == text
    error = patch.refused(text, "json: why")
    assert error.status()["details"]["causes"][0]["field"] == "patch"
    assert error.message.startswith(' "" is invalid: patch: Invalid value: "{')


def test_copies_cannot_double_a_document_without_end() -> None:
    bomb = [{"op": "copy", "from": "/list", "path": "/list/-"}] * 60
    with pytest.raises(ApiError) as caught:
        patch.json_patch({"list": ["x"]}, bomb)
    assert caught.value.code == 422


def test_moves_cannot_nest_a_document_without_end() -> None:
    deeper = [
        {"op": "add", "path": "/y", "value": {}},
        {"op": "move", "from": "/x", "path": "/y/x"},
        {"op": "move", "from": "/y", "path": "/x"},
    ]
    body = orjson.dumps([{"op": "add", "path": "/x", "value": {}}, *deeper * 1500])
    change = patching.patched(patching.JSON_PATCH, body, DEPLOYMENT)
    with pytest.raises(ApiError) as caught:
        change({"data": {}})
    assert caught.value.code in (400, 422)
