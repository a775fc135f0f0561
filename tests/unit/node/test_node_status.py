"""`Pod.status` from what is known of a pod, field by field as the kubelet writes it."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from node_fakes import make_pod

from podling.node.lifecycle import spec_hash
from podling.node.state import Instance, Slot, Waiting, containers_of
from podling.node.status import Facts, pod_status

NOW = datetime(2026, 11, 21, 4, 28, 30, tzinfo=UTC)
START = NOW.timestamp() - 10


def facts_of(pod: dict[str, Any], **fields: Any) -> Facts:
    slots = {c["name"]: Slot(c["name"], role) for c, role in containers_of(pod)}
    return Facts(**{"slots": slots, "started_at": START, "host_ip": "10.244.0.1", "ip": "10.244.0.9", **fields})


def run(pod: dict[str, Any], facts: Facts, name: str, code: int | None = None, **fields: Any) -> Instance:
    spec = next(c for c, _ in containers_of(pod) if c["name"] == name)
    instance = Instance(name * 8, 0, spec_hash(spec), START, image="app:v1", image_id="sha256:0", groups=[0])
    instance.started_at = START + 1
    if code is not None:
        instance.exit_code, instance.finished_at = code, START + 2
    for key, value in fields.items():
        setattr(instance, key, value)
    facts.slots[name].renew(instance)
    return instance


def conditions(status: dict[str, Any]) -> dict[str, tuple[str, str | None, str | None]]:
    return {c["type"]: (c["status"], c.get("reason"), c.get("message")) for c in status["conditions"]}


def container(name: str, **fields: Any) -> dict[str, Any]:
    return {"name": name, "image": "app:v1", **fields}


def test_before_anything_runs_containers_are_being_created() -> None:
    pod = make_pod()
    status = pod_status(pod, facts_of(pod, ip=""), NOW)
    assert status["phase"] == "Pending"
    assert status["containerStatuses"][0]["state"] == {"waiting": {"reason": "ContainerCreating"}}
    assert "podIP" not in status
    assert conditions(status)["PodReadyToStartContainers"] == ("False", None, None)
    assert conditions(status)["Initialized"] == ("True", None, None)
    expected = ("False", "ContainersNotReady", "containers with unready status: [app]")
    assert conditions(status)["Ready"] == conditions(status)["ContainersReady"] == expected


def test_a_running_pod_in_full() -> None:
    mount = {"name": "t", "mountPath": "/t", "readOnly": True}
    pod = make_pod(containers=[container("app", volumeMounts=[mount])])
    facts = facts_of(pod, sandbox=True)
    run(pod, facts, "app")
    status = pod_status(pod, facts, NOW)
    assert status["startTime"] == "2026-11-21T04:28:20Z"
    assert status["observedGeneration"] == 1
    assert status["containerStatuses"] == [
        {
            "name": "app",
            "state": {"running": {"startedAt": "2026-11-21T04:28:21Z"}},
            "lastState": {},
            "ready": True,
            "restartCount": 0,
            "image": "app:v1",
            "imageID": "sha256:0",
            "containerID": "podling://" + "app" * 8,
            "started": True,
            "resources": {},
            "volumeMounts": [{"name": "t", "mountPath": "/t", "readOnly": True, "recursiveReadOnly": "Disabled"}],
            "user": {"linux": {"uid": 0, "gid": 0, "supplementalGroups": [0]}},
        }
    ]
    assert all(c["lastProbeTime"] is None and c["observedGeneration"] == 1 for c in status["conditions"])


def test_conditions_that_stay_keep_their_time() -> None:
    pod = make_pod()
    facts = facts_of(pod, sandbox=True)
    first = pod_status(pod, facts, NOW)
    run(pod, facts, "app")
    later = NOW.replace(minute=40)
    second = pod_status({**pod, "status": first}, facts, later)
    times = {c["type"]: c["lastTransitionTime"] for c in second["conditions"]}
    assert times["Ready"] == "2026-11-21T04:40:30Z"
    assert times["Initialized"] == "2026-11-21T04:28:30Z"


def test_conditions_of_others_are_kept_before_its_own() -> None:
    gate = {"type": "www.example.com/gate", "status": "True"}
    pod = make_pod()
    status = pod_status({**pod, "status": {"conditions": [gate]}}, facts_of(pod), NOW)
    assert status["conditions"][0] == gate


def test_readiness_gates_hold_the_pod_back() -> None:
    pod = make_pod(readinessGates=[{"conditionType": "a"}, {"conditionType": "b"}])
    facts = facts_of(pod, sandbox=True)
    run(pod, facts, "app")
    gated = {**pod, "status": {"conditions": [{"type": "b", "status": "False"}]}}
    seen = conditions(pod_status(gated, facts, NOW))
    assert seen["ContainersReady"][0] == "True"
    assert seen["Ready"] == (
        "False",
        "ReadinessGatesNotReady",
        'corresponding condition of pod readiness gate "a" does not exist., '
        'the status of pod readiness gate "b" is not "True", but False',
    )


def test_one_of_two_that_has_finished_makes_the_pod_unready() -> None:
    pod = make_pod(restartPolicy="Never", containers=[container("b"), container("a")])
    facts = facts_of(pod, sandbox=True)
    run(pod, facts, "a", 0)
    run(pod, facts, "b")
    status = pod_status(pod, facts, NOW)
    assert status["phase"] == "Running"
    assert [c["name"] for c in status["containerStatuses"]] == ["a", "b"], "sorted by name"
    assert conditions(status)["Ready"][2] == "containers with unready status: [a]"
    assert status["containerStatuses"][0]["state"]["terminated"]["reason"] == "Completed"


def test_a_failed_init_container_fails_a_pod_that_never_restarts() -> None:
    pod = make_pod(restartPolicy="Never", initContainers=[container("i")])
    facts = facts_of(pod, ended=True)
    run(pod, facts, "i", 7)
    status = pod_status(pod, facts, NOW)
    assert status["phase"] == "Failed"
    seen = conditions(status)
    assert seen["Initialized"] == ("False", "ContainersNotInitialized", "containers with incomplete status: [i]")
    assert seen["Ready"] == seen["ContainersReady"] == ("False", "PodFailed", None)
    assert status["containerStatuses"][0]["state"] == {"waiting": {"reason": "PodInitializing"}}
    init = status["initContainerStatuses"][0]
    assert (init["ready"], init["started"], init["state"]["terminated"]["exitCode"]) == (False, False, 7)


def test_finished_init_containers_are_ready_but_not_started() -> None:
    pod = make_pod(initContainers=[container("i")])
    facts = facts_of(pod, sandbox=True)
    run(pod, facts, "i", 0)
    run(pod, facts, "app")
    status = pod_status(pod, facts, NOW)
    init = status["initContainerStatuses"][0]
    assert (init["ready"], init["started"]) == (True, False)
    assert (status["phase"], conditions(status)["Initialized"][0]) == ("Running", "True")


def test_a_crash_loop_keeps_the_pod_running_and_shows_the_last_end() -> None:
    pod = make_pod()
    facts = facts_of(pod, sandbox=True)
    run(pod, facts, "app", 3, message="oops")
    facts.slots["app"].waiting = Waiting("CrashLoopBackOff", "back-off 10s ...")
    status = pod_status(pod, facts, NOW)
    entry = status["containerStatuses"][0]
    assert status["phase"] == "Running"
    assert entry["state"] == {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 10s ..."}}
    assert (entry["lastState"]["terminated"]["exitCode"], entry["lastState"]["terminated"]["message"]) == (3, "oops")


def test_the_phase_of_an_ended_pod_never_changes_again() -> None:
    pod = {**make_pod(), "status": {"phase": "Succeeded"}}
    assert pod_status(pod, facts_of(pod), NOW)["phase"] == "Succeeded"


def test_a_stopped_pod_of_restart_policy_always_has_succeeded_or_failed() -> None:
    for code, phase in ((0, "Succeeded"), (143, "Failed")):
        pod = make_pod()
        facts = facts_of(pod, ended=True)
        run(pod, facts, "app", code)
        assert pod_status(pod, facts, NOW)["phase"] == phase


def test_a_pod_that_the_node_ended_says_why() -> None:
    pod = make_pod()
    facts = facts_of(pod, failure=Waiting("DeadlineExceeded", "too long"), ended=True)
    run(pod, facts, "app", 0)
    status = pod_status(pod, facts, NOW)
    assert (status["phase"], status["reason"], status["message"]) == ("Failed", "DeadlineExceeded", "too long")


def test_a_pod_whose_sidecar_still_runs_has_not_succeeded_yet() -> None:
    pod = make_pod(initContainers=[container("s", restartPolicy="Always")], restartPolicy="Never")
    pod["status"] = {"phase": "Running"}
    facts = facts_of(pod, sandbox=True)
    run(pod, facts, "s")
    run(pod, facts, "app", 0)
    status = pod_status(pod, facts, NOW)
    assert status["phase"] == "Running"
    assert conditions(status)["Ready"] == ("False", "PodCompleted", None)
    assert pod_status(pod, replace(facts, ended=True), NOW)["phase"] == "Succeeded"


def test_a_sidecar_must_have_started_for_the_pod_to_be_initialized() -> None:
    sidecar = container("s", restartPolicy="Always", startupProbe={"tcpSocket": {"port": 1}})
    pod = make_pod(initContainers=[sidecar])
    facts = facts_of(pod, sandbox=True)
    run(pod, facts, "s")
    status = pod_status(pod, facts, NOW)
    assert status["phase"] == "Pending"
    assert conditions(status)["Initialized"][0] == "False"
    assert conditions(status)["Ready"][2] == "containers with unready status: [s app]"


def test_requests_are_shown_as_allocated_while_it_runs() -> None:
    wanted = {"requests": {"cpu": "100m"}, "limits": {"memory": "64Mi"}}
    pod = make_pod(containers=[container("app", resources=wanted)])
    facts = facts_of(pod, sandbox=True)
    run(pod, facts, "app")
    entry = pod_status(pod, facts, NOW)["containerStatuses"][0]
    assert entry["resources"] == wanted
    assert entry["allocatedResources"] == {"cpu": "100m"}
