"""The commands that transcripts are written in."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import yaml
from meter import Meter
from world import World

from podling.api import meta
from podling.api.errors import ApiError
from podling.controllers.addons import DEFINITIONS
from podling.controllers.vpa import definition
from podling.store.types import Key, Object

PLURALS = {
    "Deployment": "deployments.apps",
    "ReplicaSet": "replicasets.apps",
    "StatefulSet": "statefulsets.apps",
    "DaemonSet": "daemonsets.apps",
    "Job": "jobs.batch",
    "CronJob": "cronjobs.batch",
    "PodDisruptionBudget": "poddisruptionbudgets.policy",
    "EndpointSlice": "endpointslices.discovery.k8s.io",
    "HorizontalPodAutoscaler": "horizontalpodautoscalers.autoscaling",
    "Lease": "leases.coordination.k8s.io",
    "ClusterRole": "clusterroles.rbac.authorization.k8s.io",
    "StorageClass": "storageclasses.storage.k8s.io",
    "PriorityClass": "priorityclasses.scheduling.k8s.io",
    "Endpoints": "endpoints",
    "VerticalPodAutoscaler": definition.RESOURCE,
    "CustomResourceDefinition": DEFINITIONS,
    "VolumeSnapshot": "volumesnapshots.snapshot.storage.k8s.io",
    "VolumeSnapshotContent": "volumesnapshotcontents.snapshot.storage.k8s.io",
    "VolumeSnapshotClass": "volumesnapshotclasses.snapshot.storage.k8s.io",
}


def plural(kind: str) -> str:
    return PLURALS.get(kind, kind.lower() + "s")


CLUSTER_SCOPED = {
    "Namespace",
    "Node",
    "PersistentVolume",
    "ClusterRole",
    "StorageClass",
    "PriorityClass",
    "CustomResourceDefinition",
    "VolumeSnapshotContent",
    "VolumeSnapshotClass",
}


def words(command: str) -> tuple[list[str], dict[str, Any]]:
    """Bare words and `key=value` options, values as YAML."""
    bare: list[str] = []
    options: dict[str, Any] = {}
    for word in command.split()[1:]:
        key, equals, value = word.partition("=")
        if equals:
            options[key] = yaml.safe_load(value)
        else:
            bare.append(word)
    return bare, options


def template(app: str, options: dict[str, Any]) -> Object:
    container: Object = {"name": "c", "image": options.get("image", "a:1")}
    requests = {name: str(options[name]) for name in ("cpu", "memory") if name in options}
    if requests:
        container["resources"] = {"requests": requests}
    return {"metadata": {"labels": {"app": app}}, "spec": {"containers": [container]}}


def deployment(name: str, options: dict[str, Any]) -> Object:
    spec: Object = {
        "replicas": options.get("replicas", 1),
        "selector": {"matchLabels": {"app": name}},
        "template": template(name, options),
        "strategy": {"type": options.get("strategy", "RollingUpdate")},
        "progressDeadlineSeconds": options.get("deadline", 600),
        "revisionHistoryLimit": options.get("history", 10),
    }
    if spec["strategy"]["type"] == "RollingUpdate":
        spec["strategy"]["rollingUpdate"] = {
            "maxSurge": options.get("surge", "25%"),
            "maxUnavailable": options.get("unavailable", "25%"),
        }
    if "minready" in options:
        spec["minReadySeconds"] = options["minready"]
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": "default"},
        "spec": spec,
    }


def replicaset(name: str, options: dict[str, Any]) -> Object:
    return {
        "apiVersion": "apps/v1",
        "kind": "ReplicaSet",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {
            "replicas": options.get("replicas", 1),
            "selector": {"matchLabels": {"app": name}},
            "template": template(name, options),
            **({"minReadySeconds": options["minready"]} if "minready" in options else {}),
        },
    }


class Commands:
    def __init__(self, world: World, meter: Meter | None = None) -> None:
        self.world = world
        self.meter = meter or Meter()
        self.meter.watch(lambda: world.cluster.list("pods"), world.clock.now)
        self.shows: dict[str, Callable[[Object], str]] = {
            "replicasets.apps": _show_replicaset,
            "deployments.apps": _show_status,
            "pods": _show_pod,
            "endpointslices.discovery.k8s.io": _show_slice,
        }

    async def __call__(self, lines: list[str]) -> list[str]:
        verb = lines[0].split()[0]
        bare, options = words(lines[0])
        result = await getattr(self, verb.replace("-", "_"))(bare, options, lines)
        if result is not None:
            return result
        await self.world.settle()
        return self.world.take_log()

    async def deployment(self, bare, options, lines) -> None:
        await self._create(deployment(bare[0], options))

    async def replicaset(self, bare, options, lines) -> None:
        await self._create(replicaset(bare[0], options))

    async def apply(self, bare, options, lines) -> None:
        """YAML documents below the command; an object that is there gets its spec and metadata merged."""
        for obj in yaml.safe_load_all("\n".join(lines[1:])):
            await self._create(obj)

    async def _create(self, obj: Object) -> None:
        resource = plural(obj["kind"])
        if obj["kind"] not in CLUSTER_SCOPED:
            obj["metadata"].setdefault("namespace", "default")
        key = Key(resource, meta.namespace(obj), meta.name(obj))
        if key in self.world.cluster.objects:
            await self.world.cluster.patch(resource, key.namespace, key.name, obj)
        else:
            await self.world.cluster.create(resource, obj)

    async def node(self, bare, options, lines) -> None:
        """node NAME cpu=2 memory=4Gi pods=110 [zone=z]"""
        labels = {"kubernetes.io/hostname": bare[0]}
        if "zone" in options:
            labels["topology.kubernetes.io/zone"] = options["zone"]
        sizes = {"cpu": 2, "memory": "4Gi", "pods": 110}
        allocatable = {name: str(options.get(name, size)) for name, size in sizes.items()}
        metadata = {"name": bare[0], "labels": labels}
        node = {"apiVersion": "v1", "kind": "Node", "metadata": metadata, "spec": {}}
        await self._create({**node, "status": {"allocatable": allocatable}})

    async def pod(self, bare, options, lines) -> None:
        """pod NAME [cpu=1] [priority=10] [port=80], more of its spec as YAML below"""
        container = {"name": "c", "image": "a:1"}
        if "cpu" in options:
            container["resources"] = {"requests": {"cpu": str(options["cpu"])}}
        if "port" in options:
            container["ports"] = [{"containerPort": options["port"], "hostPort": options["port"]}]
        spec = {"containers": [container], "priority": options.get("priority", 0)}
        spec |= yaml.safe_load("\n".join(lines[1:])) or {}
        metadata = {"name": bare[0], "labels": {"app": options.get("app", bare[0])}}
        await self._create({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})

    def _find(self, resource: str, name: str) -> Key:
        """The object of that name, in whichever namespace it is."""
        return next(k for k in sorted(self.world.cluster.objects) if (k.resource, k.name) == (resource, name))

    async def patch(self, bare, options, lines) -> None:
        """patch RESOURCE NAME {json}"""
        _, resource, name, text = lines[0].split(maxsplit=3)
        await self.world.cluster.patch(*self._find(resource, name), json.loads(text))

    async def status(self, bare, options, lines) -> None:
        """status RESOURCE NAME {json}: what a kubelet would write"""
        _, resource, name, text = lines[0].split(maxsplit=3)
        key = self._find(resource, name)
        await self.world.cluster.patch(*key, {"status": json.loads(text)}, subresource="status")

    async def own(self, bare, options, lines) -> None:
        """own RESOURCE NAME OWNER: NAME is owned by OWNER, which its presence blocks"""
        resource, name, owner = bare
        reference = meta.new_controller_reference(self.world.cluster.objects[self._find(resource, owner)])
        patch = {"metadata": {"ownerReferences": [reference]}}
        await self.world.cluster.patch(*self._find(resource, name), patch)

    async def delete(self, bare, options, lines) -> None:
        await self.world.cluster.delete(*self._find(*bare), propagation=options.get("propagation"))

    async def ready(self, bare, options, lines) -> None:
        """ready COUNT|all [PREFIX]: pods that are not ready become so"""
        count = 10**6 if bare[0] == "all" else int(bare[0])
        prefix = bare[1] if len(bare) > 1 else ""
        pods = [p for p in self.world.cluster.list("pods") if meta.name(p).startswith(prefix)]
        waiting = [p for p in pods if not meta.condition_is(p, "Ready") and not meta.deleting(p)]
        for pod in waiting[:count]:
            self._pod_status(pod, ready=True)

    async def unready(self, bare, options, lines) -> None:
        self._pod_status(self.world.cluster.objects[Key("pods", "default", bare[0])], ready=False)

    def _pod_status(self, pod: Object, *, ready: bool) -> None:
        moment = meta.timestamp(self.world.clock.now())
        condition = {"type": "Ready", "status": str(ready), "lastTransitionTime": moment}
        number = int(meta.uid(pod).removeprefix("uid-"))
        ip = f"10.244.0.{number}"
        status = {"phase": "Running", "conditions": [condition], "podIP": ip, "podIPs": [{"ip": ip}]}
        status["startTime"] = meta.status(pod).get("startTime") or moment
        self.world.cluster.put_status("pods", meta.namespace(pod), meta.name(pod), status)

    async def hpa(self, bare, options, lines) -> None:
        """hpa NAME min=1 max=9 [cpu=50] [target=Deployment/NAME], metrics and behavior as YAML below"""
        kind, _, name = options.get("target", f"Deployment/{bare[0]}").partition("/")
        target = {"type": "Utilization", "averageUtilization": options.get("cpu", 50)}
        spec = {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": kind, "name": name},
            "minReplicas": options.get("min", 1),
            "maxReplicas": options.get("max", 9),
            "metrics": [{"type": "Resource", "resource": {"name": "cpu", "target": target}}],
            **(yaml.safe_load("\n".join(lines[1:])) or {}),
        }
        kind = "HorizontalPodAutoscaler"
        await self._create({"apiVersion": "autoscaling/v2", "kind": kind, "metadata": {"name": bare[0]}, "spec": spec})

    async def vpa(self, bare, options, lines) -> None:
        """vpa NAME [mode=Recreate] [target=Deployment/NAME], more of its spec as YAML below"""
        mode = options.get("mode", "Recreate") or "Off"  # which YAML takes for a boolean
        kind, _, name = options.get("target", f"Deployment/{bare[0]}").partition("/")
        spec = {
            "targetRef": {"apiVersion": "apps/v1", "kind": kind, "name": name},
            "updatePolicy": {"updateMode": mode},
            **(yaml.safe_load("\n".join(lines[1:])) or {}),
        }
        kind = "VerticalPodAutoscaler"
        metadata = {"name": bare[0]}
        await self._create({"apiVersion": "autoscaling.k8s.io/v1", "kind": kind, "metadata": metadata, "spec": spec})
        for kind in definition.definitions():
            await self._create(kind)

    async def use(self, bare, options, lines) -> None:
        """use PREFIX cpu=100m memory=1Gi: what such pods use from now on; `cpu=null` is not measured"""
        self.meter.use(bare[0], options)

    async def measure(self, bare, options, lines) -> None:
        """measure SUBJECT metric=10: of pods (by prefix), of an object (Kind/NAME) or of `external`"""
        self.meter.measure(bare[0], options)

    async def refuse(self, bare, options, lines) -> None:
        """refuse RESOURCE why: it cannot be written from now on; `refuse nothing`"""
        self.world.cluster.refused = {} if bare[0] == "nothing" else {bare[0]: " ".join(bare[1:])}

    async def refuse_create(self, bare, options, lines) -> None:
        """refuse-create RESOURCE why: none is admitted from now on; `refuse-create nothing`"""

        def refuse(resource: str, _obj: Object) -> None:
            if resource == bare[0]:
                raise ApiError(403, "Forbidden", " ".join(bare[1:]), {})

        self.world.cluster.refusals = [refuse]

    async def finish(self, bare, options, lines) -> None:
        """finish POD [failed] [exit=1]: its containers end"""
        failed = "failed" in bare
        moment = meta.timestamp(self.world.clock.now())
        ended = {"exitCode": options.get("exit", int(failed)), "finishedAt": moment}
        status = {
            "phase": "Failed" if failed else "Succeeded",
            "containerStatuses": [{"name": "c", "restartCount": 0, "state": {"terminated": ended}}],
        }
        self.world.cluster.put_status("pods", "default", bare[0], status)

    async def gone(self, bare, options, lines) -> None:
        self.world.cluster.gone(*self._find("pods", bare[0])[1:])

    async def kubelet(self, bare, options, lines) -> None:
        """kubelet on: deleted pods that run wait until they are `gone`"""
        self.world.cluster.grace = bare[0] == "on"

    async def advance(self, bare, options, lines) -> None:
        await self.world.advance(float(bare[0].removesuffix("s")))

    async def show(self, bare, options, lines) -> list[str]:
        """show RESOURCE [FIELD]: one line for each object"""
        shower = self.shows.get(bare[0], _show_status)
        if len(bare) > 1:
            shower = lambda o: f"{meta.name(o)} {json.dumps(_field(o, bare[1]), sort_keys=True)}"  # noqa: E731
        return [shower(o) for o in self.world.cluster.list(bare[0])]


def _field(obj: Any, path: str) -> Any:
    for part in path.split("."):
        obj = (obj or {}).get(part)
    return obj


def _show_replicaset(set: Object) -> str:
    status = meta.status(set)
    revision = meta.annotations(set).get("deployment.kubernetes.io/revision", "-")
    return (
        f"{meta.name(set)} revision {revision}: wants {set['spec']['replicas']}, has {status.get('replicas', 0)}, "
        f"ready {status.get('readyReplicas', 0)}, available {status.get('availableReplicas', 0)}"
    )


def _show_status(obj: Object) -> str:
    status = meta.status(obj)
    counts = " ".join(f"{k}={json.dumps(v)}" for k, v in sorted(status.items()) if k != "conditions")
    lines = [f"{meta.name(obj)}: {counts}"]
    for condition in meta.conditions(obj):
        reason = " ".join(filter(None, (condition.get("reason"), condition.get("message"))))
        lines.append(f"{condition['type']}={condition['status']} {reason}".rstrip())
    return "; ".join(lines)


def _show_slice(slice: Object) -> str:
    ports = ",".join(f"{p.get('name')}:{p['port']}" for p in slice.get("ports") or [])
    endpoints = [
        e["addresses"][0] + "".join(f" {name}" for name, value in e["conditions"].items() if value)
        for e in slice["endpoints"]
    ]
    return f"{meta.name(slice)} [{ports}] {'; '.join(endpoints)}"


def _show_pod(pod: Object) -> str:
    ready = "ready" if meta.condition_is(pod, "Ready") else "not ready"
    ending = ", terminating" if meta.deleting(pod) else ""
    return f"{meta.name(pod)} {meta.status(pod).get('phase')} {ready}{ending}"
