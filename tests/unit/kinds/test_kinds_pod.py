"""Pods: what they become by default, what is refused, what may change, and what is printed."""

from __future__ import annotations

import copy
from datetime import UTC, datetime

import pytest

from podling.kinds.core.pod import graceful_deletion
from podling.kinds.core.poddefaults import pull_policy


def pod(**spec):
    return {"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "app:1"}], **spec}}


@pytest.mark.parametrize(
    ("image", "policy"),
    [
        ("nginx", "Always"),
        ("nginx:latest", "Always"),
        ("nginx:1.25", "IfNotPresent"),
        ("registry:5000/team/app", "Always"),
        ("app@sha256:" + "a" * 64, "IfNotPresent"),
        ("Not A Reference", "IfNotPresent"),
    ],
)
def test_an_image_whose_tag_moves_is_always_pulled(image: str, policy: str) -> None:
    assert pull_policy(image) == policy


def test_requests_follow_limits_only_in_pods(kinds, writes) -> None:
    limited = {"name": "c", "image": "a:1", "resources": {"limits": {"cpu": "1"}}}
    in_pod = writes(kinds["pods/v1"], pod(containers=[copy.deepcopy(limited)])).new
    template = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [copy.deepcopy(limited)]}}
    spec = {"selector": {"matchLabels": {"a": "b"}}, "template": template}
    in_template = writes(kinds["deployments.apps/v1"], {"spec": spec}).new["spec"]["template"]
    assert in_pod["spec"]["containers"][0]["resources"]["requests"] == {"cpu": "1"}
    assert "requests" not in in_template["spec"]["containers"][0]["resources"]


@pytest.mark.parametrize(
    ("resources", "expected"),
    [
        ({}, "BestEffort"),
        ({"requests": {"cpu": "1"}}, "Burstable"),
        ({"limits": {"cpu": "1", "memory": "1Gi"}}, "Guaranteed"),
        ({"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "1"}}, "Guaranteed"),
        ({"limits": {"cpu": "1"}}, "Burstable"),
    ],
)
def test_the_class_of_service_follows_from_requests_and_limits(kinds, writes, resources, expected) -> None:
    container = {"name": "c", "image": "a:1", "resources": resources}
    assert writes(kinds["pods/v1"], pod(containers=[container])).new["status"]["qosClass"] == expected


def test_a_good_pod_has_no_problems(kinds, problems) -> None:
    assert problems(kinds["pods/v1"], pod()) == []


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({"containers": []}, "spec.containers: Required value"),
        ({"restartPolicy": "Sometimes"}, 'spec.restartPolicy: Unsupported value: "Sometimes": supported values: '),
        ({"volumes": [{"name": "v", "secret": {}}]}, "spec.volumes[0].secret.secretName: Required value"),
        (
            {"volumes": [{"name": "v", "emptyDir": {}, "hostPath": {"path": "/"}}]},
            "spec.volumes[0].hostPath: Forbidden: may not specify more than 1 volume type",
        ),
        ({"hostname": "a.b"}, 'spec.hostname: Invalid value: "a.b": must not contain dots'),
        ({"securityContext": {"runAsUser": -1}}, "spec.securityContext.runAsUser: Invalid value: -1: must be between"),
        ({"tolerations": [{"operator": "Equal"}]}, "spec.tolerations[0].operator: Invalid value"),
    ],
)
def test_a_wrong_field_is_named(kinds, problems, spec, expected) -> None:
    found = problems(kinds["pods/v1"], pod(**spec))
    assert any(text.startswith(expected) for text in found), found


def test_a_request_above_its_limit_is_refused(kinds, problems) -> None:
    resources = {"limits": {"cpu": "1"}, "requests": {"cpu": "1500m"}}
    container = {"name": "c", "image": "a:1", "resources": resources}
    assert problems(kinds["pods/v1"], pod(containers=[container])) == [
        'spec.containers[0].resources.requests: Invalid value: "1500m": must be less than or equal to cpu limit of 1'
    ]


def changed(old, **spec):
    return {**old, "metadata": dict(old["metadata"]), "spec": {**copy.deepcopy(old["spec"]), **spec}}


def test_a_running_pod_may_change_its_images_and_shorten_its_deadline(kinds, writes, problems) -> None:
    old = writes(kinds["pods/v1"], pod(activeDeadlineSeconds=50)).new
    containers = [{**old["spec"]["containers"][0], "image": "app:2"}]
    assert problems(kinds["pods/v1"], changed(old, containers=containers, activeDeadlineSeconds=40), old) == []
    (told,) = problems(kinds["pods/v1"], changed(old, activeDeadlineSeconds=60), old)
    assert told.endswith("must be less than or equal to previous value")


def test_a_running_pod_may_not_change_anything_else(kinds, writes, problems) -> None:
    old = writes(kinds["pods/v1"], pod()).new
    (told,) = problems(kinds["pods/v1"], changed(old, hostNetwork=True), old)
    assert told.startswith("spec: Forbidden: pod updates may not change fields other than `spec.containers[*].image`,")


def test_tolerations_may_be_added_but_not_taken_away(kinds, writes, problems) -> None:
    kind, held = kinds["pods/v1"], {"key": "a", "operator": "Exists"}
    old = writes(kind, pod(tolerations=[held])).new
    assert problems(kind, changed(old, tolerations=[held, {"key": "b", "operator": "Exists"}]), old) == []
    assert any("existing toleration" in told for told in problems(kind, changed(old, tolerations=[]), old))


@pytest.mark.parametrize(
    ("obj", "asked", "seconds"),
    [
        ({"spec": {"terminationGracePeriodSeconds": 30}}, None, 0),
        ({"spec": {"nodeName": "n", "terminationGracePeriodSeconds": 30}}, None, 30),
        ({"spec": {"nodeName": "n", "terminationGracePeriodSeconds": 30}}, 5, 5),
        ({"spec": {"nodeName": "n"}, "status": {"phase": "Succeeded"}}, 5, 0),
        ({"spec": {"nodeName": "n", "terminationGracePeriodSeconds": -1}}, None, 1),
    ],
)
def test_a_pod_gets_time_to_end_only_where_it_runs(obj, asked, seconds) -> None:
    assert graceful_deletion(obj, asked) == seconds


def printed(kinds, status, spec=None, **meta):
    obj = {
        "metadata": {"name": "p", "creationTimestamp": "2026-01-02T03:00:00Z", **meta},
        "spec": spec or {"containers": [{"name": "c"}]},
        "status": status,
    }
    return kinds["pods/v1"].row(obj, datetime(2026, 1, 2, 3, 5, tzinfo=UTC))[:5]


def test_a_crashing_container_shows_why_and_when_it_last_ended(kinds) -> None:
    status = {
        "phase": "Running",
        "containerStatuses": [
            {
                "name": "c",
                "restartCount": 3,
                "state": {"waiting": {"reason": "CrashLoopBackOff"}},
                "lastState": {"terminated": {"finishedAt": "2026-01-02T03:04:00Z"}},
            }
        ],
    }
    assert printed(kinds, status) == ["p", "0/1", "CrashLoopBackOff", "3 (60s ago)", "5m"]


def test_a_pod_that_still_initializes_shows_how_far_it_is(kinds) -> None:
    spec = {"containers": [{"name": "c"}], "initContainers": [{"name": "a"}, {"name": "b"}]}
    status = {
        "phase": "Pending",
        "initContainerStatuses": [
            {"name": "a", "state": {"terminated": {"exitCode": 0}}},
            {"name": "b", "state": {"running": {}}},
        ],
    }
    assert printed(kinds, status, spec)[2] == "Init:1/2"


def test_a_deleted_pod_is_terminating_until_it_has_ended(kinds) -> None:
    deleted = {"deletionTimestamp": "2026-01-02T03:04:00Z"}
    assert printed(kinds, {"phase": "Running"}, **deleted)[2] == "Terminating"
    assert printed(kinds, {"phase": "Succeeded"}, **deleted)[2] == "Succeeded"


@pytest.mark.parametrize(
    ("other", "ready", "shown"),
    [
        ({"running": {}}, True, "Running"),
        ({"running": {}}, False, "NotReady"),
        ({"terminated": {"exitCode": 1, "reason": "Error"}}, False, "Error"),
        ({"terminated": {"exitCode": 0, "reason": "Completed"}}, False, "Completed"),
    ],
)
def test_a_pod_with_a_completed_container_is_called_after_the_others(kinds, other, ready, shown) -> None:
    done = {"name": "a", "state": {"terminated": {"exitCode": 0, "reason": "Completed"}}}
    conditions = [{"type": "Ready", "status": "True"}] if ready else []
    status = {"phase": "Running", "containerStatuses": [done, {"name": "b", "ready": True, "state": other}]}
    assert printed(kinds, {**status, "conditions": conditions})[2] == shown
