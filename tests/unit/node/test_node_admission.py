"""Pods that the node itself refuses, and pods that are resized where they run."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from node_fakes import FakeImage, Rig, Story, make_pod, make_rig, run_virtually, teller, until

from podling.node.node import Node
from podling.node.pod_worker import PodWorker
from podling.sandbox.client import Conflict
from podling.store.types import Object


def node_of(cpu: str = "2", pods: str = "10", labels: Object | None = None) -> Object:
    return {
        "kind": "Node",
        "metadata": {"name": "node1", "labels": labels or {}},
        "status": {"allocatable": {"cpu": cpu, "memory": "1Gi", "pods": pods}},
    }


def sized(name: str, cpu: str = "1", memory: str = "100Mi", **more: Any) -> Object:
    amounts = {"cpu": cpu, "memory": memory}
    container = {"name": "app", "image": "app:v1", "resources": {"requests": amounts, "limits": amounts}, **more}
    return make_pod(name, containers=[container])


@pytest.fixture
def tell(tmp_path: Path) -> Callable[[Story], None]:
    return teller(tmp_path, node_of())


def running(rig: Rig, name: str) -> bool:
    return rig.pod(name)["status"]["phase"] == "Running"


def refused(rig: Rig, name: str) -> tuple[str, str]:
    status = rig.pod(name)["status"]
    assert status["phase"] == "Failed"
    assert "containerStatuses" not in status
    return status["reason"], status["message"]


def resize(rig: Rig, name: str, cpu: str = "1", memory: str = "100Mi") -> None:
    pod = rig.pod(name)
    wanted = sized(name, cpu, memory)["spec"]["containers"][0]["resources"]
    containers = [{**pod["spec"]["containers"][0], "resources": wanted}]
    metadata = {**pod["metadata"], "generation": pod["metadata"]["generation"] + 1}
    rig.client.put("pods", {**pod, "metadata": metadata, "spec": {**pod["spec"], "containers": containers}})


def conditions(rig: Rig, name: str) -> dict[str, Object]:
    return {c["type"]: c for c in rig.pod(name)["status"]["conditions"]}


def test_a_pod_for_which_the_node_has_too_little_left_fails(tell: Callable[[Story], None]) -> None:
    async def story(rig: Rig) -> None:
        rig.client.put("pods", sized("first", "1500m"))
        await until(lambda: running(rig, "first"))
        rig.client.put("pods", sized("second", "600m"))
        await until(lambda: refused(rig, "second"))
        sentence = "Node didn't have enough resource: cpu, requested: 600, used: 1500, capacity: 2000"
        assert refused(rig, "second") == ("OutOfcpu", f"Pod was rejected: {sentence}")
        assert ("Warning", "OutOfcpu", sentence) in rig.recorder.events
        rig.client.put("pods", sized("third", "100m", "2Gi"))
        await until(lambda: refused(rig, "third"))
        assert refused(rig, "third")[0] == "OutOfmemory"
        assert not any("second" in line or "third" in line for line in rig.sandbox.journal)

    tell(story)


def test_a_refused_pod_can_be_deleted_and_leaves_room(tell: Callable[[Story], None]) -> None:
    async def story(rig: Rig) -> None:
        rig.client.put("pods", sized("big", "3"))
        await until(lambda: refused(rig, "big"))
        rig.client.put("pods", sized("small", "2"))
        await until(lambda: running(rig, "small"))
        await rig.client.delete("pods", "default", "big")
        await until(lambda: rig.client.get("pods", "default", "big") is None)

    tell(story)


def test_the_number_of_pods_their_ports_and_their_selectors_count_too(tell: Callable[[Story], None]) -> None:
    async def story(rig: Rig) -> None:
        port = {"ports": [{"containerPort": 80, "hostPort": 8080}]}
        rig.client.put("pods", sized("one", "100m", **port))
        await until(lambda: running(rig, "one"))
        rig.client.put("pods", sized("two", "100m", **port))
        rig.client.put("pods", make_pod("picky", nodeSelector={"disk": "ssd"}))
        rig.client.put("nodes", node_of(pods="1"))
        rig.client.put("pods", make_pod("late"))
        await until(lambda: refused(rig, "late") and refused(rig, "two") and refused(rig, "picky"))
        failed = "Pod was rejected: Predicate {0} failed: {1}"
        ports = "node(s) didn't have free ports for the requested pod ports"
        affinity = "node(s) didn't match Pod's node affinity/selector"
        assert refused(rig, "two") == ("NodePorts", failed.format("NodePorts", ports))
        assert refused(rig, "picky") == ("NodeAffinity", failed.format("NodeAffinity", affinity))
        sentence = "Node didn't have enough resource: pods, requested: 1, used: 1, capacity: 1"
        assert refused(rig, "late") == ("OutOfpods", f"Pod was rejected: {sentence}")

    tell(story)


@pytest.mark.parametrize(
    ("name", "spec", "problem"),
    [
        ("kernel.msgmax", {}, '"kernel.msgmax" not allowlisted'),
        ("net.ipv4.tcp_rmem", {"hostNetwork": True}, '"net.ipv4.tcp_rmem" not allowed with host net enabled'),
        ("kernel.shm_rmid_forced", {"hostIPC": True}, '"kernel.shm_rmid_forced" not allowed with host ipc enabled'),
    ],
)
def test_settings_of_the_kernel_that_are_not_the_pod_s_own_are_refused(
    tell: Callable[[Story], None], name: str, spec: Object, problem: str
) -> None:
    async def story(rig: Rig) -> None:
        rig.client.put("pods", make_pod("a", **spec, securityContext={"sysctls": [{"name": name, "value": "1"}]}))
        await until(lambda: rig.pod("a")["status"].get("reason") == "SysctlForbidden")
        assert refused(rig, "a")[1] == f"Pod was rejected: forbidden sysctl: {problem}"

    tell(story)


def test_a_running_container_gets_new_resources_in_place(tell: Callable[[Story], None]) -> None:
    async def story(rig: Rig) -> None:
        rig.client.put("pods", sized("web"))
        await until(lambda: running(rig, "web"))
        resize(rig, "web", "1500m", "200Mi")
        wanted = {"cpu": "1500m", "memory": "200Mi"}
        await until(lambda: rig.container()["resources"] == {"limits": wanted, "requests": wanted})
        assert rig.container()["allocatedResources"] == wanted
        assert rig.container()["restartCount"] == 0
        assert [line for line in rig.sandbox.journal if "update" in line] == [
            "update pod",
            "update serve",
            "update pod",
        ]
        limits = rig.sandbox.specs[rig.sandbox.id_of("serve")]["limits"]  # pyright: ignore[reportTypedDictNotRequiredAccess]
        assert (limits.get("cpu_millis"), limits.get("memory_bytes")) == (1500, 200 << 20)
        assert rig.recorder.reasons[-2:] == ["ResizeStarted", "ResizeCompleted"]
        expected = (
            'Pod resize completed: {"containers":[{"name":"app","resources":'
            '{"limits":{"cpu":"1500m","memory":"200Mi"},"requests":{"cpu":"1500m","memory":"200Mi"}}}],"generation":2}'
        )
        assert rig.recorder.events[-1][2] == expected
        assert "PodResizeInProgress" not in conditions(rig, "web")

    tell(story)


def test_a_policy_lets_the_container_restart_for_its_new_memory(tell: Callable[[Story], None]) -> None:
    async def story(rig: Rig) -> None:
        policy = {"resizePolicy": [{"resourceName": "memory", "restartPolicy": "RestartContainer"}]}
        rig.client.put("pods", sized("web", **policy))
        await until(lambda: running(rig, "web"))
        resize(rig, "web", "1", "300Mi")
        await until(lambda: rig.container()["restartCount"] == 1 and rig.container()["ready"])
        assert rig.container()["resources"]["limits"]["memory"] == "300Mi"
        assert ("Normal", "Killing", "Container app resize requires restart") in rig.recorder.events
        await until(lambda: rig.recorder.reasons[-1] == "ResizeCompleted")

    tell(story)


def test_what_can_never_fit_is_infeasible_and_what_does_not_fit_now_waits(tell: Callable[[Story], None]) -> None:
    async def story(rig: Rig) -> None:
        rig.client.put("pods", sized("web"))
        rig.client.put("pods", sized("other", "500m"))
        await until(lambda: running(rig, "web") and running(rig, "other"))
        resize(rig, "web", "5")
        await until(lambda: conditions(rig, "web")["PodResizePending"]["reason"] == "Infeasible")
        pending = conditions(rig, "web")["PodResizePending"]
        assert pending["message"] == "Node didn't have enough capacity: cpu, requested: 5000, capacity: 2000"
        resize(rig, "web", "2")
        await until(lambda: conditions(rig, "web")["PodResizePending"]["reason"] == "Deferred")
        pending = conditions(rig, "web")["PodResizePending"]
        assert pending["message"].endswith("cpu, requested: 2000, used: 500, capacity: 2000")
        assert rig.container()["allocatedResources"]["cpu"] == "1"
        await rig.client.delete("pods", "default", "other")
        await until(lambda: rig.container()["allocatedResources"]["cpu"] == "2")
        assert "PodResizePending" not in conditions(rig, "web")

    tell(story)


def test_memory_that_is_in_use_is_not_taken_away(tell: Callable[[Story], None]) -> None:
    async def story(rig: Rig) -> None:
        rig.client.put("pods", sized("web"))
        await until(lambda: running(rig, "web"))
        rig.sandbox.update_failures.append(Conflict("attempting to set memory limit below current usage"))
        resize(rig, "web", "1", "1Mi")
        await until(lambda: conditions(rig, "web")["PodResizeInProgress"]["reason"] == "Error")
        assert "below current usage" in conditions(rig, "web")["PodResizeInProgress"]["message"]
        assert rig.container()["resources"]["limits"]["memory"] == "100Mi"
        await asyncio.sleep(11)
        assert rig.container()["resources"]["limits"]["memory"] == "1Mi"
        assert "PodResizeInProgress" not in conditions(rig, "web")

    tell(story)


def test_directories_of_pods_that_nobody_knows_are_removed_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "pods" / "u-gone" / "volumes" / "empty" / "scratch").mkdir(parents=True)
    (tmp_path / "logs" / "default_web_u-gone" / "app").mkdir(parents=True)
    (tmp_path / "logs" / "daemon.log").touch()

    async def main() -> None:
        node = Node(make_rig(tmp_path).surroundings)
        await node.start()
        await node.stop()

    run_virtually(main)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["daemon.log", "logs", "pods"]


def test_a_pod_that_writes_more_than_its_volume_may_hold_is_evicted(tell: Callable[[Story], None]) -> None:
    async def story(rig: Rig) -> None:
        pod = sized("web", volumeMounts=[{"name": "data", "mountPath": "/data"}])
        pod["spec"]["volumes"] = [{"name": "data", "emptyDir": {"sizeLimit": "1Mi"}}]
        rig.client.put("pods", pod)
        await until(lambda: running(rig, "web"))
        volume = rig.surroundings.directory / "pods" / "uid-web" / "volumes" / "empty" / "data"
        (volume / "little").write_bytes(b"x" * 1000)
        await asyncio.sleep(25)
        assert running(rig, "web")
        (volume / "much").write_bytes(b"x" * (2 << 20))
        await until(lambda: rig.pod()["status"]["phase"] == "Failed")
        sentence = 'Usage of EmptyDir volume "data" exceeds the limit "1Mi". '
        assert (rig.pod()["status"]["reason"], rig.pod()["status"]["message"]) == ("Evicted", sentence)
        assert ("Warning", "Evicted", sentence) in rig.recorder.events

    tell(story)


def test_a_container_and_its_logs_count_for_ephemeral_storage(tell: Callable[[Story], None]) -> None:
    async def story(rig: Rig) -> None:
        pod = sized("web")
        pod["spec"]["containers"][0]["resources"]["limits"]["ephemeral-storage"] = "1Mi"
        rig.client.put("pods", pod)
        await until(lambda: running(rig, "web"))
        (rig.surroundings.log_directory(rig.pod()) / "app" / "0.log").write_bytes(b"x" * (2 << 20))
        await until(lambda: rig.pod()["status"]["phase"] == "Failed")
        sentence = "Pod ephemeral local storage usage exceeds the total limit of containers 1Mi. "
        assert rig.pod()["status"]["message"] == sentence

    tell(story)


def test_a_debugger_is_started_among_the_processes_of_its_target(tell: Callable[[Story], None]) -> None:
    async def story(rig: Rig) -> None:
        rig.client.put("pods", sized("web"))
        await until(lambda: running(rig, "web"))
        debugger = {"name": "dbg", "image": "app:v1", "command": ["look"], "targetContainerName": "app"}
        pod = rig.pod()
        rig.client.put("pods", {**pod, "spec": {**pod["spec"], "ephemeralContainers": [debugger]}})
        await until(lambda: rig.container(0, "ephemeralContainerStatuses")["state"]["running"])
        assert rig.sandbox.specs[rig.sandbox.id_of("look")].get("target") == rig.sandbox.id_of("serve")

    tell(story)


def test_volumes_that_stay_away_are_told_of_a_second_time_after_two_minutes(tell: Callable[[Story], None]) -> None:
    async def story(rig: Rig) -> None:
        rig.client.put("pods", make_pod("web", volumes=[{"name": "cfg", "configMap": {"name": "absent"}}]))
        await asyncio.sleep(300)
        lists = "unmounted volumes=[cfg], unattached volumes=[], failed to process volumes=[]"
        sentence = f"Unable to attach or mount volumes: {lists}: context deadline exceeded"
        assert ("Warning", "FailedMount", sentence) in rig.recorder.events

    tell(story)


def test_an_image_can_be_a_volume(tell: Callable[[Story], None]) -> None:
    async def story(rig: Rig) -> None:
        rig.images.images["data:v1"] = FakeImage(lowers=("/layers/data",))
        pod = sized("web", volumeMounts=[{"name": "data", "mountPath": "/data"}])
        pod["spec"]["volumes"] = [{"name": "data", "image": {"reference": "data:v1"}}]
        rig.client.put("pods", pod)
        await until(lambda: running(rig, "web"))
        mount = next(m for m in rig.sandbox.specs[rig.sandbox.id_of("serve")]["mounts"] if m["target"] == "/data")
        assert (mount.get("source"), mount.get("read_only")) == ("/layers/data", True)

    tell(story)


def test_a_rule_lets_all_containers_begin_anew_with_the_init_containers(tell: Callable[[Story], None]) -> None:
    async def story(rig: Rig) -> None:
        rule = {"action": "RestartAllContainers", "exitCodes": {"operator": "In", "values": [88]}}
        worker = {"name": "worker", "image": "app:v1", "command": ["work"], "restartPolicy": "Never"}
        pod = make_pod(
            initContainers=[{"name": "prepare", "image": "app:v1", "command": ["prepare"]}],
            containers=[
                {**worker, "restartPolicyRules": [rule]},
                {"name": "other", "image": "app:v1", "command": ["other"], "restartPolicy": "Never"},
            ],
            restartPolicy="Never",
        )
        rig.client.put("pods", pod)
        await until(lambda: rig.sandbox.id_of("prepare"))
        rig.sandbox.end("prepare", 0)
        await until(lambda: running(rig, "web") and all(c["ready"] for c in rig.pod()["status"]["containerStatuses"]))
        rig.sandbox.journal.clear()
        rig.sandbox.end("work", 88)
        await until(lambda: "start prepare" in rig.sandbox.journal)
        rig.sandbox.end("prepare", 0)
        await until(lambda: all(c["ready"] for c in rig.pod()["status"]["containerStatuses"]))
        begun = [line for line in rig.sandbox.journal if line.startswith(("start", "SIG"))]
        assert begun == ["SIGTERM other", "start prepare", "start work", "start other"]
        assert [c["restartCount"] for c in rig.pod()["status"]["containerStatuses"]] == [1, 1]

    tell(story)


def test_nothing_of_a_pod_stays_in_memory_when_it_has_gone(tmp_path: Path) -> None:
    async def main() -> int:
        rig = make_rig(tmp_path)
        node = Node(rig.surroundings)
        await node.start()
        for number in range(20):
            name = f"web-{number}"
            rig.client.put("pods", make_pod(name))
            await until(lambda name=name: running(rig, name))
            await rig.client.delete("pods", "default", name)
            await until(lambda name=name: rig.client.get("pods", "default", name) is None)
        await asyncio.sleep(5)
        gc.collect()
        left = sum(isinstance(thing, PodWorker) for thing in gc.get_objects())
        await node.stop()
        return left

    assert run_virtually(main) == 0
