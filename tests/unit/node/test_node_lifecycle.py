"""Which containers start, stop and wait: transcripts of `lifecycle.decide`."""

from __future__ import annotations

from typing import Any

from node_fakes import make_pod

from podling.node.backoff import NONE, Backoff, after_attempt, until
from podling.node.lifecycle import decide, duration, may_restart, spec_hash
from podling.node.state import Instance, Slot, containers_of

NOW = 1000.0


def slots_of(pod: dict[str, Any]) -> dict[str, Slot]:
    return {c["name"]: Slot(c["name"], role) for c, role in containers_of(pod)}


def container(name: str, **fields: Any) -> dict[str, Any]:
    return {"name": name, "image": "app:v1", **fields}


def run(
    pod: dict[str, Any], slots: dict[str, Slot], name: str, *, attempt: int = 0, code: int | None = None
) -> Instance:
    """Puts the container into a run that began at NOW - 5 and, with `code`, ended at NOW - 2."""
    spec = next(c for c, _ in containers_of(pod) if c["name"] == name)
    instance = Instance(f"id-{name}-{attempt}", attempt, spec_hash(spec), NOW - 5, started_at=NOW - 5)
    if code is not None:
        instance.exit_code, instance.finished_at = code, NOW - 2
    slots[name].renew(instance)
    return instance


class TestMainContainers:
    def test_all_start_together(self) -> None:
        pod = make_pod(containers=[container("a"), container("b")])
        assert decide(pod, slots_of(pod), NOW).start == ["a", "b"]

    def test_what_runs_is_left_alone(self) -> None:
        pod = make_pod()
        slots = slots_of(pod)
        run(pod, slots, "app")
        plan = decide(pod, slots, NOW)
        assert (plan.start, plan.kill, plan.stop_pod, plan.wake_at) == ([], [], False, None)

    def test_the_first_end_is_followed_by_a_start_at_once(self) -> None:
        pod = make_pod()
        slots = slots_of(pod)
        run(pod, slots, "app", code=1)
        assert decide(pod, slots, NOW).start == ["app"]

    def test_the_second_end_waits_ten_seconds(self) -> None:
        pod = make_pod()
        slots = slots_of(pod)
        run(pod, slots, "app", attempt=1, code=1)
        slots["app"].restart_backoff = after_attempt(NONE, NOW - 6, NOW - 6)
        plan = decide(pod, slots, NOW)
        assert plan.start == []
        assert plan.waiting["app"].reason == "CrashLoopBackOff"
        expected = "back-off 10s restarting failed container=app pod=web_default(uid-web)"
        assert plan.waiting["app"].message == expected
        assert plan.wake_at == NOW - 2 + 10
        assert decide(pod, slots, NOW + 8).start == ["app"]

    def test_the_end_itself_is_shown_before_the_back_off(self) -> None:
        pod = make_pod()
        slots = slots_of(pod)
        run(pod, slots, "app", attempt=1, code=1)
        slots["app"].restart_backoff = Backoff(10, NOW - 6)
        plan = decide(pod, slots, NOW - 1.5)
        assert plan.waiting == {}
        assert plan.wake_at == NOW - 1

    def test_a_pod_that_never_restarts_is_finished_when_all_have_ended(self) -> None:
        pod = make_pod(restartPolicy="Never", containers=[container("a"), container("b")])
        slots = slots_of(pod)
        run(pod, slots, "a", code=0)
        run(pod, slots, "b")
        assert not decide(pod, slots, NOW).stop_pod
        run(pod, slots, "b", code=3)
        assert decide(pod, slots, NOW).stop_pod

    def test_one_that_is_just_being_started_keeps_the_pod(self) -> None:
        pod = make_pod(restartPolicy="Never", containers=[container("a"), container("b")])
        slots = slots_of(pod)
        run(pod, slots, "a", code=0)
        run(pod, slots, "b").started_at = 0.0
        plan = decide(pod, slots, NOW)
        assert not plan.stop_pod
        assert plan.start == []

    def test_on_failure_restarts_only_failures(self) -> None:
        pod = make_pod(restartPolicy="OnFailure", containers=[container("a"), container("b")])
        slots = slots_of(pod)
        run(pod, slots, "a", code=0)
        run(pod, slots, "b", code=1)
        assert decide(pod, slots, NOW).start == ["b"]

    def test_a_container_policy_overrules_that_of_the_pod(self) -> None:
        pod = make_pod(containers=[container("a", restartPolicy="Never")])
        assert not may_restart(pod["spec"]["containers"][0], pod, 1)

    def test_a_restart_rule_overrules_both(self) -> None:
        rule = {"action": "Restart", "exitCodes": {"operator": "In", "values": [42]}}
        pod = make_pod(restartPolicy="Never", containers=[container("a", restartPolicyRules=[rule])])
        assert may_restart(pod["spec"]["containers"][0], pod, 42)
        assert not may_restart(pod["spec"]["containers"][0], pod, 1)

    def test_a_failed_liveness_probe_kills_and_restarts(self) -> None:
        pod = make_pod()
        slots = slots_of(pod)
        run(pod, slots, "app")
        slots["app"].liveness = False
        (kill,) = decide(pod, slots, NOW).kill
        assert kill.message == "Container app failed liveness probe, will be restarted"
        assert kill.reason == "LivenessProbe"

    def test_a_failed_startup_probe_ends_a_pod_that_never_restarts(self) -> None:
        pod = make_pod(restartPolicy="Never")
        slots = slots_of(pod)
        run(pod, slots, "app")
        slots["app"].startup = False
        plan = decide(pod, slots, NOW)
        assert plan.stop_pod
        assert plan.kill == []

    def test_a_new_image_replaces_the_container_whatever_the_policy(self) -> None:
        pod = make_pod(restartPolicy="Never")
        slots = slots_of(pod)
        run(pod, slots, "app")
        changed = make_pod(restartPolicy="Never", containers=[container("app", image="app:v2")])
        (kill,) = decide(changed, slots, NOW).kill
        assert kill.message == "Container app definition changed, will be restarted"

    def test_a_failed_pull_waits_and_says_so(self) -> None:
        from podling.node.state import Waiting

        pod = make_pod()
        slots = slots_of(pod)
        slot = slots["app"]
        slot.waiting = Waiting("ErrImagePull", "refused")
        slot.pull_error = "ErrImagePull: refused"
        slot.pull_backoff, slot.retry_at = Backoff(10, NOW), NOW + 10
        plan = decide(pod, slots, NOW + 2)
        assert plan.start == []
        assert plan.waiting["app"] == ("ImagePullBackOff", 'Back-off pulling image "app:v1": ErrImagePull: refused')
        assert decide(pod, slots, NOW + 10).start == ["app"]


class TestInitContainers:
    def test_they_run_one_after_the_other(self) -> None:
        pod = make_pod(initContainers=[container("i1"), container("i2")])
        slots = slots_of(pod)
        assert decide(pod, slots, NOW).start == ["i1"]
        run(pod, slots, "i1")
        assert decide(pod, slots, NOW).start == []
        run(pod, slots, "i1", code=0)
        assert decide(pod, slots, NOW).start == ["i2"]
        run(pod, slots, "i2", code=0)
        assert decide(pod, slots, NOW).start == ["app"]

    def test_a_failure_is_tried_again_unless_the_pod_never_restarts(self) -> None:
        pod = make_pod(initContainers=[container("i")])
        slots = slots_of(pod)
        run(pod, slots, "i", code=7)
        assert decide(pod, slots, NOW).start == ["i"]
        never = make_pod(initContainers=[container("i")], restartPolicy="Never")
        assert decide(never, slots, NOW).stop_pod

    def test_they_run_again_in_a_new_sandbox(self) -> None:
        pod = make_pod(initContainers=[container("i")])
        slots = slots_of(pod)
        run(pod, slots, "i", code=0)
        run(pod, slots, "app", code=255)
        for slot in slots.values():
            slot.stale = True
        assert decide(pod, slots, NOW).start == ["i"]


class TestSidecars:
    def test_what_follows_waits_until_the_sidecar_has_started(self) -> None:
        sidecar = container("s", restartPolicy="Always", startupProbe={"tcpSocket": {"port": 1}})
        pod = make_pod(initContainers=[sidecar])
        slots = slots_of(pod)
        assert decide(pod, slots, NOW).start == ["s"]
        run(pod, slots, "s")
        assert decide(pod, slots, NOW).start == []
        slots["s"].startup = True
        assert decide(pod, slots, NOW).start == ["app"]

    def test_one_that_ends_is_restarted_beside_running_containers(self) -> None:
        pod = make_pod(initContainers=[container("s", restartPolicy="Always")], restartPolicy="Never")
        slots = slots_of(pod)
        run(pod, slots, "s", code=0)
        run(pod, slots, "app")
        assert decide(pod, slots, NOW).start == ["s"]

    def test_it_does_not_keep_a_finished_pod_alive(self) -> None:
        pod = make_pod(initContainers=[container("s", restartPolicy="Always")], restartPolicy="Never")
        slots = slots_of(pod)
        run(pod, slots, "s", code=1)
        run(pod, slots, "app", code=0)
        plan = decide(pod, slots, NOW)
        assert plan.stop_pod
        assert plan.start == []


class TestBackoff:
    def test_it_doubles_up_to_five_minutes(self) -> None:
        state, delays = NONE, list[float]()
        now = 0.0
        for _ in range(8):
            state = after_attempt(state, now, now)
            delays.append(state.delay)
            now += state.delay
        assert delays == [10, 20, 40, 80, 160, 300, 300, 300]

    def test_a_long_run_is_forgiven(self) -> None:
        state = Backoff(300, 0)
        assert until(state, 601) == 601
        assert after_attempt(state, 601, 601).delay == 10

    def test_durations_read_as_go_prints_them(self) -> None:
        assert [duration(s) for s in (10, 80, 160, 300)] == ["10s", "1m20s", "2m40s", "5m0s"]
