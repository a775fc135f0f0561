"""Workloads: what is said of specs, changes and statuses that are wrong, in Kubernetes' words."""

from __future__ import annotations

import copy

import pytest

LABELS = {"app": "a"}
POD = {"containers": [{"name": "c", "image": "i"}]}
TEMPLATE = {"metadata": {"labels": LABELS}, "spec": POD}
WORKLOAD = {"selector": {"matchLabels": LABELS}, "template": TEMPLATE}
JOB = {"template": {"spec": {**POD, "restartPolicy": "Never"}}}
INDEXED = {**JOB, "completionMode": "Indexed", "completions": 3}


def changed(obj: dict, change: dict) -> dict:
    """`obj` with the fields of `change`, deeply; `None` takes one away."""
    result = copy.deepcopy(obj)
    for key, value in change.items():
        if isinstance(value, dict) and isinstance(result.get(key), dict):
            result[key] = changed(result[key], value)
        elif value is None:
            result.pop(key, None)
        else:
            result[key] = copy.deepcopy(value)
    return result


BAD_VALUE = {"matchLabels": {"app": "a b"}}
UNUSABLE = 'spec.selector: Invalid value: {"matchLabels":{"app":"a b"}}'


@pytest.mark.parametrize(
    ("kind", "spec", "said"),
    [
        ("deployments.apps/v1", {"selector": BAD_VALUE}, f"{UNUSABLE}: invalid label selector"),
        ("replicasets.apps/v1", {"selector": BAD_VALUE}, f"{UNUSABLE}: invalid label selector"),
        ("statefulsets.apps/v1", {"selector": BAD_VALUE}, UNUSABLE),
        (
            "replicasets.apps/v1",
            {"selector": {"matchLabels": None}},
            "spec.selector: Invalid value: {}: empty selector is invalid for deployment",
        ),
        (
            "daemonsets.apps/v1",
            {"updateStrategy": {"rollingUpdate": {"maxUnavailable": "101%"}}},
            'spec.updateStrategy.rollingUpdate.maxUnavailable: Invalid value: "101%": must not be greater than 100%',
        ),
    ],
)
def test_a_workload_is_told_what_is_wrong(kinds, problems, kind, spec, said) -> None:
    assert problems(kinds[kind], {"spec": changed(WORKLOAD, spec)})[-1] == said


def test_a_template_behind_a_malformed_selector_is_not_looked_at(kinds, problems) -> None:
    spec = changed(WORKLOAD, {"selector": BAD_VALUE, "template": {"spec": {"containers": []}}})
    said = problems(kinds["deployments.apps/v1"], {"spec": spec})
    assert not [line for line in said if line.startswith("spec.template")]


def test_a_daemon_set_keeps_a_selector_that_would_be_refused_today(kinds, writes) -> None:
    kind = kinds["daemonsets.apps/v1"]
    spec = changed(WORKLOAD, {"selector": {"matchLabels": {"b": "a b"}}})
    old = writes(kind, {"spec": copy.deepcopy(spec)}).new
    said = [str(e) for e in kind.strategy.validate(writes(kind, {"spec": spec}, old))]
    assert not [line for line in said if line.startswith("spec.selector")]


@pytest.mark.parametrize("plural", ["replicasets", "daemonsets"])
def test_a_change_is_held_to_the_rules_once(kinds, writes, plural) -> None:
    kind = kinds[f"{plural}.apps/v1"]
    old = writes(kind, {"spec": copy.deepcopy(WORKLOAD)}).new
    new = changed(old, {"spec": {"minReadySeconds": -1}})
    fields = [e.field for e in kind.strategy.validate(writes(kind, new, old))]
    assert fields == ["spec.minReadySeconds"]


@pytest.mark.parametrize(
    ("plural", "status", "said"),
    [
        (
            "deployments",
            {"replicas": 2, "availableReplicas": 1},
            "status.availableReplicas: Invalid value: 1: cannot be greater than readyReplicas",
        ),
        (
            "replicasets",
            {"replicas": 2, "availableReplicas": 1},
            "status.availableReplicas: Invalid value: 1: cannot be greater than readyReplicas",
        ),
        (
            "statefulsets",
            {"replicas": 2, "availableReplicas": 1},
            "status.availableReplicas: Invalid value: 1: cannot be greater than status.readyReplicas",
        ),
        ("deployments", {"collisionCount": 1}, "status.collisionCount: Invalid value: 1: cannot be decremented"),
        ("daemonsets", {"collisionCount": 0}, "status.collisionCount: Invalid value: 0: cannot be decremented"),
        ("statefulsets", {}, "status.collisionCount: Invalid value: 0: cannot be decremented"),
    ],
)
def test_a_status_is_held_to_its_own_numbers(kinds, writes, problems, plural, status, said) -> None:
    kind = kinds[f"{plural}.apps/v1"]
    old = writes(kind, {"spec": copy.deepcopy(WORKLOAD)}).new
    old["status"] = {"collisionCount": 2} if "collision" in said else {}
    assert problems(kind, {**old, "status": status}, old, subresource="status") == [said]


def test_a_revision_is_checked_whole_when_it_changes(kinds, problems) -> None:
    kind = kinds["controllerrevisions.apps/v1"]
    assert problems(kind, {"revision": 1}) == ["data: Required value: data is mandatory"]
    old = {"metadata": {"name": "x", "namespace": "default", "uid": "u"}, "data": {"a": 1}, "revision": 1}
    said = problems(kind, {**copy.deepcopy(old), "data": {"a": 2}, "revision": -1}, old)
    assert said == [
        "revision: Invalid value: -1: must be greater than or equal to 0",
        'data: Invalid value: {"a":2}: field is immutable',
    ]


@pytest.mark.parametrize(
    ("plural", "warned"),
    [("deployments", True), ("replicasets", True), ("statefulsets", False), ("daemonsets", False)],
)
def test_a_name_with_dots_is_warned_of_where_pods_get_it(kinds, writes, plural, warned) -> None:
    write = writes(kinds[f"{plural}.apps/v1"], {"metadata": {"name": "a.b"}, "spec": copy.deepcopy(WORKLOAD)})
    write.resource.strategy.warn(write)
    says = (
        "metadata.name: this is used in Pod names and hostnames, which can result in surprising behavior; "
        "a DNS label is recommended: [must not contain dots]"
    )
    assert write.warnings == ([says] if warned else [])


def test_a_stateful_set_is_warned_of_what_it_will_not_like(kinds, writes) -> None:
    claim = {"metadata": {"name": "d"}, "spec": {"resources": {"requests": {"storage": "1500m"}}}}
    spec = {**WORKLOAD, "revisionHistoryLimit": -1, "volumeClaimTemplates": [claim]}
    write = writes(kinds["statefulsets.apps/v1"], {"spec": copy.deepcopy(spec)})
    write.resource.strategy.warn(write)
    assert write.warnings == [
        'spec.volumeClaimTemplates[0].resources.requests[storage]: fractional byte value "1500m" is invalid, '
        "must be an integer",
        "spec.revisionHistoryLimit: a negative value retains all historical revisions; a value >= 0 is recommended",
    ]


# Jobs

RULES = "spec.podFailurePolicy.rules"
PATTERN = {"type": "Ready", "status": "True"}


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        (
            {"template": {"spec": {"restartPolicy": "Sometimes"}}},
            'spec.template.spec.restartPolicy: Unsupported value: "Sometimes": supported values: "OnFailure", "Never"',
        ),
        (
            {"podFailurePolicy": {"rules": [{"onPodConditions": [PATTERN]}]}},
            f'{RULES}[0].action: Required value: valid values: ["Count" "FailIndex" "FailJob" "Ignore"]',
        ),
        (
            {"podFailurePolicy": {"rules": [{"action": "Ignore", "onExitCodes": {"values": [1]}}]}},
            f'{RULES}[0].onExitCodes.operator: Required value: valid values: ["In" "NotIn"]',
        ),
        (
            {"podFailurePolicy": {"rules": [{"action": "Ignore", "onPodConditions": [PATTERN] * 21}]}},
            f"{RULES}[0].onPodConditions: Too many: 21: must have at most 20 items",
        ),
        (
            {"template": {"metadata": {"labels": {"job-name": "other"}}}},
            'spec.template.metadata.labels[job-name]: Invalid value: {"batch.kubernetes.io/controller-uid":"u",'
            '"batch.kubernetes.io/job-name":"j","controller-uid":"u","job-name":"other"}: must be \'j\'',
        ),
    ],
)
def test_a_job_is_told_what_is_wrong(kinds, problems, spec, said) -> None:
    job = {"metadata": {"name": "j", "uid": "u"}, "spec": changed(JOB, spec)}
    assert said in problems(kinds["jobs.batch/v1"], job)


def test_an_indexed_job_has_a_name_that_its_pods_can_have(kinds, problems) -> None:
    job = {"metadata": {"name": "a.b"}, "spec": copy.deepcopy(INDEXED)}
    detail = 'metadata.name: Invalid value: "a.b": will not able to create pod with invalid DNS label: a.b-2'
    assert problems(kinds["jobs.batch/v1"], job) == [detail]


@pytest.fixture
def stored_job(kinds, writes):
    """A job in the store, its spec and status as given."""

    def make(spec: dict, status: dict | None = None) -> dict:
        job = writes(kinds["jobs.batch/v1"], {"metadata": {"name": "j", "uid": "u"}, "spec": copy.deepcopy(spec)}).new
        return {**job, "status": status or {}}

    return make


@pytest.mark.parametrize(
    ("change", "mutable"),
    [
        ({"nodeSelector": {"a": "b"}}, True),
        ({"affinity": {"nodeAffinity": {}}}, True),
        ({"containers": [{"name": "c", "image": "i", "resources": {"limits": {"cpu": "1"}}}]}, True),
        ({"affinity": {"podAffinity": {}}}, False),
        ({"containers": [{"name": "c", "image": "other"}]}, False),
    ],
)
def test_a_suspended_job_may_still_be_told_where_to_run(kinds, problems, stored_job, change, mutable) -> None:
    old = stored_job({**JOB, "suspend": True})
    new = changed(old, {"spec": {"template": {"spec": change}}})
    said = problems(kinds["jobs.batch/v1"], new, old)
    assert [line for line in said if line.endswith("field is immutable")] == [] if mutable else said


def test_a_job_that_runs_keeps_its_template(kinds, problems, stored_job) -> None:
    old = stored_job(JOB, {"startTime": "2026-01-01T00:00:00Z"})
    new = changed(old, {"spec": {"template": {"spec": {"nodeSelector": {"a": "b"}}}}})
    assert [line.partition(":")[0] for line in problems(kinds["jobs.batch/v1"], new, old)] == ["spec.template"]


def conditions(*kinds: str) -> dict:
    return {"conditions": [{"type": kind, "status": "True"} for kind in kinds]}


TIMES = {"startTime": "2026-01-01T00:00:00Z", "completionTime": "2026-01-01T00:01:00Z"}
START = {"startTime": TIMES["startTime"]}
DONE = {**TIMES, **conditions("SuccessCriteriaMet", "Complete")}
LOST = {**START, **conditions("FailureTarget", "Failed")}
AT = "status.conditions: Invalid value: cannot"


@pytest.mark.parametrize(
    ("spec", "before", "after", "said"),
    [
        (JOB, {}, DONE, ""),
        (JOB, {}, LOST, ""),
        (JOB, {}, {**DONE, **conditions("Complete")}, f"{AT} set Complete=True condition without"),
        (JOB, {}, {**LOST, **conditions("Failed")}, f"{AT} set Failed=True condition without the FailureTarget"),
        (JOB, {}, {**TIMES, **conditions("Complete", "Failed")}, f"{AT} set Complete=True and Failed=true"),
        (JOB, {}, conditions("SuccessCriteriaMet", "FailureTarget"), f"{AT} set SuccessCriteriaMet=True and FailureT"),
        (JOB, DONE, START, f"{AT} disable the terminal Complete=True condition"),
        (JOB, conditions("SuccessCriteriaMet"), {}, f"{AT} disable the SuccessCriteriaMet=True condition"),
        (JOB, {}, {**DONE, "completionTime": None}, "status.completionTime: Required value: completionTime is requir"),
        (JOB, {}, {**DONE, "startTime": None}, "status.startTime: Required value: startTime is required for finished"),
        (JOB, {}, {**DONE, "completionTime": "2025-01-01T00:00:00Z"}, 'status.completionTime: Invalid value: "2025-01'),
        (JOB, {}, TIMES, 'status.completionTime: Invalid value: "2026-01-01T00:01:00Z": cannot set completionTime'),
        (JOB, {}, {**DONE, "active": 1}, "status.active: Invalid value: 1: active>0 is invalid for finished job"),
        (JOB, {}, {**DONE, "terminating": 1}, "status.terminating: Invalid value: 1: terminating>0 is invalid"),
        (JOB, {}, {"active": 1, "ready": 2}, "status.ready: Invalid value: 2: cannot set more ready pods than active"),
        (JOB, {"failed": 2}, {"failed": 1}, "status.failed: Invalid value: 1: cannot decrease the failed counter"),
        (JOB, {"succeeded": 2}, {}, "status.succeeded: Invalid value: 0: cannot decrease the succeeded counter"),
        (JOB, START, {}, "status.startTime: Required value: startTime cannot be removed for unsuspended job"),
        (JOB, {}, {"completedIndexes": "0"}, 'status.completedIndexes: Invalid value: "0": cannot set non-empty'),
        (JOB, {}, {"failedIndexes": "0"}, 'status.failedIndexes: Invalid value: "0": cannot set non-null failedIndex'),
        (INDEXED, {}, {"completedIndexes": "0,9"}, 'status.completedIndexes: Invalid value: "0,9": error parsing comp'),
        (
            {**INDEXED, "backoffLimitPerIndex": 1},
            {},
            {"completedIndexes": "0-1", "failedIndexes": "1"},
            'status.failedIndexes: Invalid value: "1": failedIndexes and completedIndexes overlap at index: 1',
        ),
        (
            JOB,
            {},
            {"uncountedTerminatedPods": {"succeeded": ["a"], "failed": ["a"]}},
            'status.uncountedTerminatedPods.failed[0]: Duplicate value: "a"',
        ),
    ],
)
def test_a_status_of_a_job_is_what_its_history_allows(kinds, problems, stored_job, spec, before, after, said) -> None:
    old = stored_job(spec, before)
    status = {key: value for key, value in after.items() if value is not None}
    found = problems(kinds["jobs.batch/v1"], {**old, "status": status}, old, subresource="status")
    assert [line for line in found if line.startswith(said)] if said else found == []


CRON = {"schedule": "* * * * *", "jobTemplate": {"spec": JOB}}


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        (
            {"jobTemplate": {"spec": {"selector": {"matchLabels": {"a": "b"}}}}},
            'spec.jobTemplate.spec.selector: Invalid value: {"matchLabels":{"a":"b"}}: `selector` will be '
            "auto-generated",
        ),
        ({"timeZone": "../x"}, 'spec.timeZone: Invalid value: "../x": unknown time zone ../x'),
        ({"timeZone": "Europe/Nowhere"}, 'spec.timeZone: Invalid value: "Europe/Nowhere": unknown time zone'),
        (
            {"schedule": "TZ=UTC 0 * * * *"},
            'spec.schedule: Invalid value: "TZ=UTC 0 * * * *": cannot use TZ or CRON_TZ in schedule',
        ),
        (
            {"schedule": "CRON_TZ=Nowhere * * * * *"},
            'spec.schedule: Invalid value: "CRON_TZ=Nowhere * * * * *": provided bad location Nowhere: unknown',
        ),
    ],
)
def test_a_cron_job_is_told_what_is_wrong(kinds, problems, spec, said) -> None:
    assert problems(kinds["cronjobs.batch/v1"], {"spec": changed(CRON, spec)})[0].startswith(said)


def test_a_cron_job_keeps_the_zone_in_its_schedule(kinds, writes, problems) -> None:
    kind = kinds["cronjobs.batch/v1"]
    old = writes(kind, {"spec": changed(CRON, {"schedule": "TZ=UTC 0 * * * *"})}).new
    new = changed(old, {"spec": {"schedule": "TZ=UTC 1 * * * *"}})
    assert problems(kind, new, old) == []
    both = "cannot use both timeZone field and TZ or CRON_TZ in schedule"
    assert problems(kind, changed(new, {"spec": {"timeZone": "UTC"}}), old)[0].endswith(both)
    write = writes(kind, new, old)
    kind.strategy.warn(write)
    assert write.warnings[0].startswith("CRON_TZ or TZ used in spec.schedule is not officially supported")
