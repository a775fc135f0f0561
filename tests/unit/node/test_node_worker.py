"""A pod's life on a node of fakes, in virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from node_fakes import EPOCH, FakeExec, Rig, Story, make_pod, make_rig, now, run_virtually, teller, until

from podling.api import meta
from podling.api.errors import conflict
from podling.node.logs import LogOptions
from podling.node.node import Node
from podling.node.pod_sandbox import host_ports
from podling.sandbox.client import StartError


@pytest.fixture
def tell(tmp_path: Path) -> Callable[[Story], None]:
    """Runs a story on a node that has started."""
    return teller(tmp_path)


def ready(rig: Rig) -> bool:
    return rig.condition("Ready")["status"] == "True"


def test_a_plain_pod_becomes_ready(tell: Callable[[Story], None]) -> None:
    async def story(rig: Rig) -> None:
        rig.client.put("pods", make_pod())
        await until(lambda: ready(rig))
        status = rig.pod()["status"]
        assert status["phase"] == "Running"
        assert status["podIP"] == "10.244.0.2"
        assert status["hostIPs"] == [{"ip": "10.244.0.1"}]
        assert [c["type"] for c in status["conditions"]] == [
            "PodReadyToStartContainers",
            "Initialized",
            "Ready",
            "ContainersReady",
            "PodScheduled",
        ]
        entry = rig.container()
        assert entry["containerID"] == f"podling://{1:064x}"
        assert (entry["ready"], entry["started"], entry["restartCount"]) == (True, True, 0)
        assert rig.recorder.events == [
            ("Normal", "Pulled", 'Container image "app:v1" already present on machine and can be accessed by the pod'),
            ("Normal", "Created", "Container created"),
            ("Normal", "Started", "Container started"),
        ]

    tell(story)


def test_a_container_that_fails_is_restarted_then_backs_off(tell: Callable[[Story], None]) -> None:
    async def story(rig: Rig) -> None:
        rig.client.put("pods", make_pod())
        await until(lambda: ready(rig))
        rig.sandbox.end("serve", 3)
        await until(lambda: rig.container()["restartCount"] == 1 and ready(rig))
        assert rig.container()["lastState"]["terminated"]["exitCode"] == 3
        again = now()
        rig.sandbox.end("serve", 3)
        await until(lambda: rig.container()["state"]["waiting"]["reason"] == "CrashLoopBackOff")
        assert rig.pod()["status"]["phase"] == "Running"
        assert ("Warning", "BackOff", "Back-off restarting failed container app in pod web_default(uid-web)") in (
            rig.recorder.events
        )
        await until(lambda: rig.container()["restartCount"] == 2)
        assert 9.9 < now() - again < 10.5

    tell(story)


def test_a_crash_takes_the_pod_out_of_its_services_until_it_is_ready_again(tell: Callable[[Story], None]) -> None:
    async def story(rig: Rig) -> None:
        rig.client.put("pods", make_pod())
        await until(lambda: ready(rig))
        rig.sandbox.end("serve", 1)
        await until(lambda: "admit 10.244.0.2" in rig.sandbox.journal)
        tail = rig.sandbox.journal[rig.sandbox.journal.index("withdraw 10.244.0.2") :]
        assert tail == ["withdraw 10.244.0.2", "start serve", "admit 10.244.0.2"]

    tell(story)


def test_deletion_withdraws_drains_signals_and_removes_in_this_order(tell: Callable[[Story], None]) -> None:
    async def story(rig: Rig) -> None:
        hook = {"preStop": {"exec": {"command": ["bye"]}}}
        rig.client.put("pods", make_pod(containers=[{"name": "app", "image": "app:v1", "lifecycle": hook}]))
        await until(lambda: ready(rig))
        rig.sandbox.journal.clear()
        rig.sandbox.queue = [2, 1]
        await rig.client.delete("pods", "default", "web")
        await until(lambda: rig.client.get("pods", "default", "web") is None)
        assert rig.sandbox.journal == [
            "exec bye",
            "withdraw 10.244.0.2",
            "listen queue",
            "listen queue",
            "listen queue",
            "SIGTERM serve",
            "detach 10.244.0.2",
            "remove pod uid-web.0",
        ]
        assert ("Normal", "Killing", "Stopping container app") in rig.recorder.events

    tell(story)


def test_the_last_status_is_written_before_the_object_goes(tell: Callable[[Story], None]) -> None:
    async def story(rig: Rig) -> None:
        rig.client.put("pods", make_pod())
        await until(lambda: ready(rig))
        await rig.client.delete("pods", "default", "web")
        await until(lambda: rig.client.get("pods", "default", "web") is None)
        _, _, last = rig.client.writes[-1]
        assert last["status"]["phase"] == "Failed"
        assert last["status"]["containerStatuses"][0]["state"]["terminated"]["exitCode"] == 143

    tell(story)


def test_a_container_that_ignores_the_signal_is_killed_after_its_grace(tell: Callable[[Story], None]) -> None:
    async def story(rig: Rig) -> None:
        rig.sandbox.ignores_term = True
        rig.client.put("pods", make_pod(terminationGracePeriodSeconds=7))
        await until(lambda: ready(rig))
        began = now()
        await rig.client.delete("pods", "default", "web")
        await until(lambda: rig.client.get("pods", "default", "web") is None)
        assert 7 <= now() - began < 7.5
        assert "SIGKILL serve" in rig.sandbox.journal

    tell(story)


def test_a_force_deletion_leaves_two_seconds(tell: Callable[[Story], None]) -> None:
    async def story(rig: Rig) -> None:
        rig.sandbox.ignores_term = True
        rig.client.put("pods", make_pod())
        await until(lambda: ready(rig))
        began = now()
        rig.client.drop("pods", "default", "web")
        await until(lambda: not rig.sandbox.pod_specs)
        assert 2 <= now() - began < 2.5
        await until(lambda: not (rig.surroundings.directory / "pods" / "uid-web").exists())

    tell(story)


def test_sidecars_stop_after_the_containers_they_serve(tell: Callable[[Story], None]) -> None:
    async def story(rig: Rig) -> None:
        sidecars = [
            {"name": name, "image": "app:v1", "command": [name], "restartPolicy": "Always"} for name in ("s1", "s2")
        ]
        rig.client.put("pods", make_pod(initContainers=sidecars))
        await until(lambda: ready(rig))
        await rig.client.delete("pods", "default", "web")
        await until(lambda: rig.client.get("pods", "default", "web") is None)
        assert [entry for entry in rig.sandbox.journal if entry.startswith("SIG")] == [
            "SIGTERM serve",
            "SIGTERM s2",
            "SIGTERM s1",
        ]

    tell(story)


def test_a_pod_that_has_done_its_work_succeeds_and_frees_its_sandbox(tell: Callable[[Story], None]) -> None:
    async def story(rig: Rig) -> None:
        rig.client.put("pods", make_pod(restartPolicy="Never"))
        await until(lambda: ready(rig))
        rig.sandbox.end("serve", 0)
        await until(lambda: rig.condition("PodReadyToStartContainers")["status"] == "False")
        assert rig.pod()["status"]["phase"] == "Succeeded"
        assert rig.condition("Ready")["reason"] == "PodCompleted"
        assert rig.condition("Initialized")["reason"] == "PodCompleted"
        assert rig.pod()["status"]["podIP"] == "10.244.0.2"
        assert not rig.sandbox.pod_specs

    tell(story)


def test_a_missing_config_map_is_waited_for(tell: Callable[[Story], None]) -> None:
    async def story(rig: Rig) -> None:
        volume = {"name": "v", "configMap": {"name": "cfg"}}
        mount = {"name": "v", "mountPath": "/v"}
        container = {"name": "app", "image": "app:v1", "volumeMounts": [mount]}
        rig.client.put("pods", make_pod(volumes=[volume], containers=[container]))
        await until(lambda: "FailedMount" in rig.recorder.reasons)
        message = 'MountVolume.SetUp failed for volume "v" : configmap "cfg" not found'
        assert rig.recorder.events[0] == ("Warning", "FailedMount", message)
        assert rig.container()["state"]["waiting"]["reason"] == "ContainerCreating"
        metadata = {"name": "cfg", "namespace": "default"}
        rig.client.put("configmaps", {"metadata": metadata, "data": {"k": "1"}})
        await until(lambda: ready(rig), 0.2)
        source = Path(rig.sandbox.specs[rig.sandbox.id_of("serve")]["mounts"][0].get("source", ""))
        assert (source / "k").read_text() == "1"
        rig.client.put("configmaps", {"metadata": metadata, "data": {"k": "2"}})
        await until(lambda: (source / "k").read_text() == "2", 0.2)

    tell(story)


def test_a_missing_secret_of_a_variable_is_a_config_error(tell: Callable[[Story], None]) -> None:
    async def story(rig: Rig) -> None:
        source = {"secretKeyRef": {"name": "s", "key": "k"}}
        container = {"name": "app", "image": "app:v1", "env": [{"name": "A", "valueFrom": source}]}
        rig.client.put("pods", make_pod(containers=[container]))
        await until(lambda: rig.container()["state"]["waiting"]["reason"] == "CreateContainerConfigError")
        assert rig.container()["state"]["waiting"]["message"] == 'secret "s" not found'
        assert ("Warning", "Failed", 'Error: secret "s" not found') in rig.recorder.events
        rig.client.put("secrets", {"metadata": {"name": "s", "namespace": "default"}, "data": {"k": "eA=="}})
        await until(lambda: ready(rig), 0.2)
        assert rig.sandbox.specs[rig.sandbox.id_of("serve")]["env"]["A"] == "x"

    tell(story)


def test_an_image_that_cannot_be_pulled_backs_off(tell: Callable[[Story], None]) -> None:
    async def story(rig: Rig) -> None:
        rig.client.put("pods", make_pod(containers=[{"name": "app", "image": "nope:1"}]))
        await until(lambda: rig.container()["state"]["waiting"]["reason"] == "ErrImagePull")
        await until(lambda: rig.container()["state"]["waiting"]["reason"] == "ImagePullBackOff")
        assert rig.pod()["status"]["phase"] == "Pending"
        assert rig.recorder.events == [
            ("Normal", "Pulling", 'Pulling image "nope:1"'),
            ("Warning", "Failed", 'Failed to pull image "nope:1": no such image'),
            ("Warning", "Failed", "Error: ErrImagePull"),
            ("Normal", "BackOff", 'Back-off pulling image "nope:1"'),
            ("Warning", "Failed", "Error: ImagePullBackOff"),
        ]
        await asyncio.sleep(75)
        assert rig.images.pulls == 4, "at 0, 10, 30 and 70 s"

    tell(story)


@pytest.mark.parametrize(
    ("image", "reason", "event", "message"),
    [
        (
            "a::b",
            "InvalidImageName",
            "InspectFailed",
            'Failed to apply default image tag "a::b": couldn\'t parse image name "a::b": invalid reference format',
        ),
        (
            "absent:v1",
            "ErrImageNeverPull",
            "ErrImageNeverPull",
            'Container image "absent:v1" is not present with pull policy of Never',
        ),
    ],
)
def test_an_image_that_will_never_be_there_is_told_in_one_sentence(
    tell: Callable[[Story], None], image: str, reason: str, event: str, message: str
) -> None:
    async def story(rig: Rig) -> None:
        rig.client.put("pods", make_pod(containers=[{"name": "app", "image": image, "imagePullPolicy": "Never"}]))
        await until(lambda: rig.container()["state"].get("waiting", {}).get("reason") == reason)
        assert rig.container()["state"]["waiting"]["message"] == message
        assert rig.recorder.events == [("Warning", event, message), ("Warning", "Failed", f"Error: {reason}")]

    tell(story)


def test_missing_pull_secrets_are_told_when_the_pull_fails(tell: Callable[[Story], None]) -> None:
    async def story(rig: Rig) -> None:
        container = {"name": "app", "image": "absent:v1"}
        rig.client.put("pods", make_pod(containers=[container], imagePullSecrets=[{"name": "a"}, {"name": "b"}]))
        text = "Unable to retrieve some image pull secrets (a, b); attempting to pull the image may not succeed."
        await until(lambda: ("Warning", "FailedToRetrieveImagePullSecret", text) in rig.recorder.events)

    tell(story)


def test_a_program_that_cannot_be_run_is_a_run_error_and_backs_off(tell: Callable[[Story], None]) -> None:
    async def story(rig: Rig) -> None:
        rig.sandbox.failures["serve"] = StartError('exec: "serve": executable file not found in $PATH', 127)
        rig.client.put("pods", make_pod())
        await until(lambda: rig.container()["state"]["waiting"]["reason"] == "RunContainerError")
        last, waiting = rig.container()["lastState"]["terminated"], rig.container()["state"]["waiting"]
        assert (last["exitCode"], last["reason"]) == (128, "StartError")
        assert last["startedAt"] == "1970-01-01T00:00:00Z", "it never began"
        assert waiting["message"] == last["message"]
        assert waiting["message"].startswith(
            "failed to create containerd task: failed to create shim task: OCI runtime"
        )
        assert waiting["message"].endswith(
            'error during container init: exec: "serve": executable file not found in $PATH'
        )
        await until(lambda: rig.container()["state"]["waiting"]["reason"] == "CrashLoopBackOff")
        assert rig.container()["restartCount"] == 1
        assert now() - EPOCH < 5, "the first restart comes at once"

    tell(story)


def test_a_deadline_ends_a_pod_also_while_it_waits_for_a_volume(tell: Callable[[Story], None]) -> None:
    async def story(rig: Rig) -> None:
        volume = {"name": "v", "configMap": {"name": "none"}}
        rig.client.put("pods", make_pod(volumes=[volume], activeDeadlineSeconds=20))
        await until(lambda: rig.pod()["status"]["phase"] == "Failed")
        assert rig.pod()["status"]["reason"] == "DeadlineExceeded"
        assert 19.9 < now() - EPOCH < 21

    tell(story)


def test_a_pod_has_failed_when_nothing_of_it_runs_any_more(tell: Callable[[Story], None]) -> None:
    async def story(rig: Rig) -> None:
        rig.sandbox.ignores_term = True
        rig.client.put("pods", make_pod(activeDeadlineSeconds=5, terminationGracePeriodSeconds=10))
        await until(lambda: rig.condition("Ready").get("reason") == "PodFailed")
        assert (rig.pod()["status"]["phase"], rig.pod()["status"].get("reason")) == ("Running", None)
        await until(lambda: rig.pod()["status"]["phase"] == "Failed")
        assert rig.pod()["status"]["reason"] == "DeadlineExceeded"
        assert now() - EPOCH > 14.9

    tell(story)


def test_a_failing_liveness_probe_restarts_the_container(tell: Callable[[Story], None]) -> None:
    async def story(rig: Rig) -> None:
        rig.sandbox.exec_result = lambda _command: FakeExec(1)
        probe = {"exec": {"command": ["check"]}, "periodSeconds": 1, "failureThreshold": 2}
        container: dict[str, Any] = {"name": "app", "image": "app:v1", "livenessProbe": probe}
        rig.client.put("pods", make_pod(containers=[container]))
        await until(lambda: rig.container()["restartCount"] == 1)
        events = rig.recorder.events
        killing = events.index(("Normal", "Killing", "Container app failed liveness probe, will be restarted"))
        assert events[:killing].count(("Warning", "Unhealthy", "Liveness probe failed: ")) == 2
        assert rig.container()["lastState"]["terminated"]["exitCode"] == 143

    tell(story)


def test_readiness_follows_its_probe_both_ways(tell: Callable[[Story], None]) -> None:
    async def story(rig: Rig) -> None:
        codes = {"now": 1}
        rig.sandbox.exec_result = lambda _command: FakeExec(codes["now"])
        probe = {"exec": {"command": ["check"]}, "periodSeconds": 10, "failureThreshold": 1}
        container: dict[str, Any] = {"name": "app", "image": "app:v1", "readinessProbe": probe}
        rig.client.put("pods", make_pod(containers=[container]))
        await until(lambda: rig.pod()["status"]["phase"] == "Running")
        assert rig.condition("Ready")["message"] == "containers with unready status: [app]"
        codes["now"] = 0
        await until(lambda: ready(rig), 9)
        codes["now"] = 1
        await until(lambda: not ready(rig), 11)

    tell(story)


def test_a_failing_post_start_hook_restarts_the_container(tell: Callable[[Story], None]) -> None:
    async def story(rig: Rig) -> None:
        results = iter([FakeExec(5), FakeExec(0)])
        rig.sandbox.exec_result = lambda _command: next(results)
        hook = {"postStart": {"exec": {"command": ["hello"]}}}
        rig.client.put("pods", make_pod(containers=[{"name": "app", "image": "app:v1", "lifecycle": hook}]))
        await until(lambda: ready(rig))
        assert ("Warning", "FailedPostStartHook", "PostStartHook failed") in rig.recorder.events
        assert rig.container()["restartCount"] == 1

    tell(story)


def test_a_pod_that_is_active_too_long_fails(tell: Callable[[Story], None]) -> None:
    async def story(rig: Rig) -> None:
        rig.client.put("pods", make_pod(activeDeadlineSeconds=20))
        await until(lambda: ready(rig))
        await until(lambda: rig.pod()["status"]["phase"] == "Failed", 25)
        assert rig.pod()["status"]["reason"] == "DeadlineExceeded"

    tell(story)


class TestFasterTime:
    """Sixty times as fast: what the API shows is the cluster's time, what a program gets is the machine's."""

    def test_a_deadline_is_the_cluster_s(self, tmp_path: Path) -> None:
        async def story(rig: Rig) -> None:
            rig.client.put("pods", make_pod(activeDeadlineSeconds=600))
            began = now()
            await until(lambda: rig.pod()["status"].get("reason") == "DeadlineExceeded", 11)
            assert 9.9 < now() - began < 10.5

        teller(tmp_path, pace=60)(story)

    def test_a_back_off_is_the_cluster_s(self, tmp_path: Path) -> None:
        async def story(rig: Rig) -> None:
            rig.client.put("pods", make_pod())
            await until(lambda: ready(rig))
            rig.sandbox.end("serve", 3)
            await until(lambda: rig.container()["restartCount"] == 1 and ready(rig))
            again = now()
            rig.sandbox.end("serve", 3)
            await until(lambda: rig.container()["restartCount"] == 2)
            assert 0.1 < now() - again < 1

        teller(tmp_path, pace=60)(story)

    def test_containers_start_and_end_in_the_cluster_s_time(self, tmp_path: Path) -> None:
        async def story(rig: Rig) -> None:
            rig.client.put("pods", make_pod(restartPolicy="Never"))
            await until(lambda: ready(rig))
            await asyncio.sleep(10)
            rig.sandbox.end("serve", 0)
            await until(lambda: rig.pod()["status"]["phase"] == "Succeeded")
            ended = rig.container()["state"]["terminated"]
            ran = meta.parse_time(ended["finishedAt"]) - meta.parse_time(ended["startedAt"])
            assert 600 <= ran.total_seconds() <= 610
            assert meta.parse_time(ended["finishedAt"]).timestamp() >= EPOCH + 600

        teller(tmp_path, pace=60)(story)


class TestAdoption:
    """A daemon ends without a word; another takes over."""

    def test_what_runs_is_not_touched(self, tmp_path: Path) -> None:
        async def main() -> None:
            rig = make_rig(tmp_path)
            first = Node(rig.surroundings)
            await first.start()
            rig.client.put("pods", make_pod())
            await until(lambda: ready(rig))
            rig.sandbox.end("serve", 1)
            await until(lambda: rig.container()["restartCount"] == 1 and ready(rig))
            await first.stop()
            before = rig.pod()
            rig.sandbox.journal.clear()
            rig.network.addresses.clear()
            second = Node(rig.surroundings)
            await second.start()
            await asyncio.sleep(5)
            assert rig.sandbox.journal == []
            assert rig.network.addresses == {"uid-web": "10.244.0.2"}
            assert rig.pod()["status"] == before["status"]
            await second.stop()

        run_virtually(main)

    def test_what_ended_meanwhile_is_noticed(self, tmp_path: Path) -> None:
        async def main() -> None:
            rig = make_rig(tmp_path)
            first = Node(rig.surroundings)
            await first.start()
            rig.client.put("pods", make_pod(restartPolicy="Never"))
            await until(lambda: ready(rig))
            await first.stop()
            rig.sandbox.callback = lambda _state: None
            rig.sandbox.end("serve", 4)
            second = Node(rig.surroundings)
            await second.start()
            await until(lambda: rig.pod()["status"]["phase"] == "Failed")
            assert rig.container()["state"]["terminated"]["exitCode"] == 4
            await second.stop()

        run_virtually(main)

    def test_what_nobody_asks_for_any_more_is_removed(self, tmp_path: Path) -> None:
        async def main() -> None:
            rig = make_rig(tmp_path)
            first = Node(rig.surroundings)
            await first.start()
            rig.client.put("pods", make_pod())
            await until(lambda: ready(rig))
            await first.stop()
            rig.client.drop("pods", "default", "web")
            second = Node(rig.surroundings)
            await second.start()
            assert not rig.sandbox.pod_specs
            assert not (tmp_path / "pods" / "uid-web").exists()
            await second.stop()

        run_virtually(main)

    def test_after_the_machine_itself_everything_starts_anew(self, tmp_path: Path) -> None:
        async def main() -> None:
            rig = make_rig(tmp_path)
            init = {"name": "i", "image": "app:v1", "command": ["prepare"]}
            first = Node(rig.surroundings)
            await first.start()
            rig.client.put("pods", make_pod(initContainers=[init]))
            await until(lambda: "start prepare" in rig.sandbox.journal)
            rig.sandbox.end("prepare", 0)
            await until(lambda: ready(rig))
            await first.stop()
            rig.sandbox.states.clear()
            rig.sandbox.pod_specs.clear()
            rig.sandbox.journal.clear()
            second = Node(rig.surroundings)
            await second.start()
            await until(lambda: "start prepare" in rig.sandbox.journal)
            rig.sandbox.end("prepare", 0)
            await until(lambda: ready(rig))
            assert rig.container()["restartCount"] == 1
            assert rig.container()["lastState"]["terminated"]["exitCode"] == 255
            assert "SandboxChanged" in rig.recorder.reasons
            await second.stop()

        run_virtually(main)


def test_logs_of_a_container_that_waits_say_why(tmp_path: Path) -> None:
    async def main() -> None:
        rig = make_rig(tmp_path)
        node = Node(rig.surroundings)
        await node.start()
        rig.client.put("pods", make_pod(containers=[{"name": "app", "image": "nope:1"}]))
        await until(lambda: rig.container()["state"]["waiting"]["reason"] == "ErrImagePull")
        with pytest.raises(
            Exception, match=r'container "app" in pod "web" is waiting to start: image can\'t be pulled'
        ):
            node.logs("default", "web", LogOptions(container="app"))
        await node.stop()

    run_virtually(main)


def test_a_status_that_conflicts_waits_for_the_other_write(tell: Callable[[Story], None]) -> None:
    """The store refuses without ever yielding until the event loop has turned: a retry must let it turn."""

    async def story(rig: Rig) -> None:
        accepted = rig.client.update_status
        committed = False

        def commit() -> None:
            nonlocal committed
            committed = True

        async def busy(resource: str, obj: dict[str, Any]) -> dict[str, Any]:
            if not committed:
                raise conflict(resource, "", "web", "modified")
            return await accepted(resource, obj)

        rig.client.update_status = busy  # pyright: ignore[reportAttributeAccessIssue]
        asyncio.get_running_loop().call_later(0.05, commit)
        rig.client.put("pods", make_pod())
        await until(lambda: ready(rig))

    tell(story)


def test_ports_of_the_node_lead_to_the_pod_but_for_those_of_its_loopback() -> None:
    ports = [
        {"containerPort": 80, "hostPort": 8080},
        {"containerPort": 53, "hostPort": 53, "protocol": "UDP", "hostIP": "10.244.1.1"},
        {"containerPort": 81, "hostPort": 8081, "hostIP": "127.0.0.1"},
        {"containerPort": 82},
    ]
    pod = make_pod(containers=[{"name": "app", "image": "app:v1", "ports": ports}])
    assert list(host_ports(pod, "10.244.1.1")) == [("TCP", 8080, 80), ("UDP", 53, 53)]
