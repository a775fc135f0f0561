"""The rules that many kinds share, and some that only one has."""

from __future__ import annotations

from datetime import UTC, datetime

import orjson
import pytest

from podling.api.errors import ApiError
from podling.kinds import builtin
from podling.kinds.apiextensions import structural
from podling.kinds.autoscaling import horizontalpodautoscaler_v1 as v1
from podling.kinds.core.endpoints import repacked
from podling.kinds.events import event
from podling.kinds.validation import cron, names


@pytest.mark.parametrize(
    ("rule", "good", "bad"),
    [
        (names.dns1123_label, ["a", "a-1"], ["", "A", "-a", "a.b", "a" * 64]),
        (names.dns1123_subdomain, ["a.b", "a-1.c"], ["", "a..b", "a_b", ".a"]),
        (names.dns1035_label, ["a1"], ["1a", "a-"]),
        (names.qualified_name, ["a", "example.com/Name", "a_b.c"], ["", "a/b/c", "/a", "a b", "EXAMPLE.com/a"]),
        (names.label_value, ["", "a.b_c"], ["a b", "-a"]),
        (names.config_map_key, ["a.b", "_x"], ["..", "a/b", "..a"]),
        (names.port_name, ["http", "p-1"], ["HTTP", "1", "a--b", "-a", "a" * 16]),
        (names.ip, ["1.2.3.4", "::1"], ["x", "1.2.3", "1.2.3.4/8"]),
        (names.cidr, ["10.0.0.0/8", "::/0"], ["10.0.0.0", "10.0.0.0/33", "10.0.0.0/08"]),
        (names.percent, ["5%", "100%"], ["-5%", "5", "x%"]),
    ],
)
def test_a_name_rule_knows_good_from_bad(rule, good, bad) -> None:
    assert [value for value in good if rule(value)] == []
    assert [value for value in bad if not rule(value)] == []


@pytest.mark.parametrize("schedule", ["* * * * *", "*/5 0 1,15 jan-mar mon", "@daily", "@every 1h30m", "0 0 ? * 0-6/2"])
def test_a_good_schedule_has_no_problem(schedule) -> None:
    assert cron.problem(schedule) == ""


@pytest.mark.parametrize(
    ("schedule", "says"),
    [
        ("* * * *", "expected exactly 5 fields, found 4"),
        ("60 * * * *", "end of range (60) above maximum (59): 60"),
        ("* * 0 * *", "beginning of range (0) below minimum (1): 0"),
        ("5-1 * * * *", "beginning of range (5) beyond end of range (1): 5-1"),
        ("*/0 * * * *", "step of range should be a positive number: */0"),
        ("x * * * *", "failed to parse int from x"),
        ("@sometimes", "unrecognized descriptor: @sometimes"),
    ],
)
def test_a_bad_schedule_is_told_apart(schedule, says) -> None:
    assert cron.problem(schedule).startswith(says)


def test_every_row_fits_its_columns() -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    for resource in builtin():
        if resource.row is not None:
            obj = {"metadata": {"name": "x", "creationTimestamp": "2026-01-01T00:00:00Z"}}
            unseen = resource.kind == "IPAddress"  # has an age without a column, in Kubernetes too
            assert len(resource.row(obj, now)) == len(resource.columns) + unseen, resource.plural


def test_metadata_is_checked_for_every_kind_that_is_stored(problems) -> None:
    reviews = {"bindings", "componentstatuses", "events"}
    for resource in builtin():
        if "update" not in resource.verbs or resource.plural in reviews:
            continue
        new = {"metadata": {"name": "x", "labels": {"a b": "c"}}}
        assert any(p.startswith("metadata.labels") for p in problems(resource, new)), resource.plural


def test_an_immutable_config_map_stays_as_it_is(kinds, problems) -> None:
    kind = kinds["configmaps/v1"]
    old = {"metadata": {"name": "x", "namespace": "default"}, "data": {"a": "1"}, "immutable": True}
    new = {"metadata": dict(old["metadata"]), "data": {"a": "2"}, "immutable": True}
    assert problems(kind, new, old)[-1] == "data: Forbidden: field is immutable when `immutable` is set"


def test_a_selector_that_misses_its_template_is_refused(kinds, problems) -> None:
    template = {"metadata": {"labels": {"app": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
    spec = {"selector": {"matchLabels": {"app": "a"}}, "template": template}
    expected = 'spec.template.metadata.labels: Invalid value: {"app":"b"}: `selector` does not match template `labels`'
    for plural in ("deployments.apps/v1", "replicasets.apps/v1", "statefulsets.apps/v1", "daemonsets.apps/v1"):
        assert problems(kinds[plural], {"spec": dict(spec)}) == [expected]


def test_a_job_selects_its_own_pods(kinds, writes) -> None:
    template = {"spec": {"containers": [{"name": "c", "image": "i"}], "restartPolicy": "Never"}}
    job = writes(kinds["jobs.batch/v1"], {"metadata": {"name": "j", "uid": "u"}, "spec": {"template": template}}).new
    assert job["spec"]["selector"] == {"matchLabels": {"batch.kubernetes.io/controller-uid": "u"}}
    assert job["spec"]["template"]["metadata"]["labels"]["batch.kubernetes.io/job-name"] == "j"


def test_an_autoscaler_survives_the_old_form() -> None:
    metric = {
        "type": "Pods",
        "pods": {"metric": {"name": "rps"}, "target": {"type": "AverageValue", "averageValue": "5"}},
    }
    cpu = {"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 50}}}
    policy = {"type": "Pods", "value": 4, "periodSeconds": 15}
    rules = {"stabilizationWindowSeconds": 0, "selectPolicy": "Max", "policies": [policy]}
    spec = {"maxReplicas": 3, "metrics": [metric, cpu], "behavior": {"scaleUp": rules}}
    stored = {
        "apiVersion": "autoscaling/v2",
        "metadata": {"name": "h"},
        "spec": spec,
        "status": {"desiredReplicas": 1, "currentMetrics": None},
    }
    old = v1.from_v2(stored)
    assert old["spec"]["targetCPUUtilizationPercentage"] == 50
    assert v1.to_v2(old) == stored


def test_what_an_autoscaler_measured_survives_the_old_form() -> None:
    mails = {"name": "queue", "selector": {"matchLabels": {"kind": "mail"}}}
    service = {"apiVersion": "v1", "kind": "Service", "name": "web"}
    share = {"averageValue": "5"}
    measured = [
        {"type": ""},
        {"type": "Pods", "pods": {"metric": mails, "current": share}},
        {"type": "Object", "object": {"metric": mails, "describedObject": service, "current": share}},
        {"type": "Object", "object": {"metric": mails, "describedObject": service, "current": {"value": "7"}}},
        {"type": "External", "external": {"metric": mails, "current": share}},
        {"type": "ContainerResource", "containerResource": {"name": "memory", "container": "c", "current": share}},
    ]
    status = {"desiredReplicas": 1, "currentMetrics": measured}
    stored = {"apiVersion": "autoscaling/v2", "metadata": {"name": "h"}, "spec": {"maxReplicas": 3}, "status": status}
    old = v1.from_v2(stored)
    annotation = orjson.loads(old["metadata"]["annotations"]["autoscaling.alpha.kubernetes.io/current-metrics"])
    assert annotation[0] == {"type": ""}
    assert annotation[4]["external"] == {
        "metricName": "queue",
        "metricSelector": mails["selector"],
        "currentAverageValue": "5",
    }
    assert v1.to_v2(old) == stored


def test_an_event_is_the_same_in_both_groups() -> None:
    new = {
        "apiVersion": "events.k8s.io/v1",
        "metadata": {"name": "e"},
        "regarding": {"kind": "Pod", "name": "p"},
        "note": "hello",
        "deprecatedSource": {},
        "reportingController": "x.y/z",
        "reportingInstance": "i",
    }
    core = event.to_core(new)
    assert core["involvedObject"]["name"] == "p"
    assert core["message"] == "hello"
    shown = event.from_core(core)
    assert {k: shown[k] for k in new} == new


EVENT = {
    "regarding": {"kind": "Pod", "name": "p", "namespace": "default"},
    "eventTime": "2026-01-01T00:00:00.000000Z",
    "reportingController": "x.y/z",
    "reportingInstance": "i",
    "action": "a",
    "reason": "r",
    "type": "Normal",
}
SERIES = {"count": 2, "lastObservedTime": "2026-01-01T00:00:00.000000Z"}


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({}, []),
        ({"series": SERIES}, []),
        (
            {"series": {"count": 1}},
            [
                'series.count: Invalid value: "": should be at least 2',
                "series.lastObservedTime: Required value",
            ],
        ),
        ({"deprecatedSource": {"host": "h"}}, ['source: Invalid value: "": needs to be unset']),
        ({"deprecatedCount": 3}, ['count: Invalid value: "": needs to be unset']),
        ({"reason": "ä" * 65}, ['reason: Invalid value: "": can have at most 128 characters']),
        ({"type": "Odd"}, ['type: Invalid value: "": has invalid value: Odd']),
    ],
)
def test_a_new_event_is_held_to_the_new_rules(kinds, writes, change, told) -> None:
    kind = kinds["events.events.k8s.io/v1"]
    assert _told(kind, writes(kind, {**EVENT, **change})) == told


def test_of_an_event_only_its_series_may_change(kinds, writes) -> None:
    kind = kinds["events.events.k8s.io/v1"]
    old = writes(kind, dict(EVENT)).new
    assert _told(kind, writes(kind, {**EVENT, "metadata": dict(old["metadata"]), "series": SERIES}, old)) == []
    changed = {**EVENT, "metadata": dict(old["metadata"]), "note": "n", "reportingController": "x.y/a", "related": {}}
    assert _told(kind, writes(kind, changed, old)) == [
        'message: Invalid value: "n": field is immutable',
        'reportingController: Invalid value: "x.y/a": field is immutable',
    ]


def _told(kind, write) -> list[str]:
    """This kind refuses in the name of another."""
    try:
        return [str(error) for error in kind.strategy.validate(write)]
    except ApiError as error:
        return [f"{cause['field']}: {cause['message']}" for cause in error.details["causes"]]


@pytest.mark.parametrize(
    ("owner", "told"),
    [
        ({"apiVersion": "a/b/c"}, ["apiVersion: Invalid value: \"a/b/c\": version must not be empty"]),
        ({"kind": ""}, ["kind: Invalid value: \"\": must not be empty"]),
        ({"uid": ""}, ["uid: Invalid value: \"\": must not be empty"]),
    ],
)  # fmt: skip
def test_an_owner_is_named_completely(kinds, problems, owner, told) -> None:
    owners = [{"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "u", **owner}]
    found = problems(kinds["configmaps/v1"], {"metadata": {"name": "x", "ownerReferences": owners}})
    assert found == [f"metadata.ownerReferences.{problem}" for problem in told]


def test_an_event_owns_nothing(kinds, problems) -> None:
    owners = [{"uid": "u", "name": "e", "kind": "Event", "apiVersion": "v1"}]
    assert problems(kinds["configmaps/v1"], {"metadata": {"name": "x", "ownerReferences": owners}}) == [
        'metadata.ownerReferences: Invalid value: {"apiVersion":"v1","kind":"Event","name":"e","uid":"u"}: '
        "/v1, Kind=Event is disallowed from being an owner"
    ]


def test_endpoints_with_the_same_ports_are_one_subset() -> None:
    ports = [{"port": 80, "protocol": "TCP"}]
    subsets = [
        {"addresses": [{"ip": "10.0.0.2"}], "ports": ports},
        {"addresses": [{"ip": "10.0.0.1"}], "ports": ports},
    ]
    assert repacked(subsets) == [{"addresses": [{"ip": "10.0.0.1"}, {"ip": "10.0.0.2"}], "ports": ports}]


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        ({"type": "object"}, []),
        ({}, ["s.type: Required value: must not be empty at the root"]),
        (
            {"type": "object", "properties": {"a": {"type": "array"}}},
            ["s.properties[a].items: Required value: must be specified"],
        ),
        (
            {"type": "object", "properties": {"a": {"type": "string", "default": 1}}},
            ['s.properties[a].default: Invalid value: "integer":  in body must be of type string: "integer"'],
        ),
        ({"type": "object", "properties": {"a": {"x-kubernetes-int-or-string": True}}}, []),
    ],
)
def test_a_schema_tells_the_type_of_every_value(schema, expected) -> None:
    assert [str(e) for e in structural.schema(schema, "s")] == expected
