"""The autoscaler: observe the target and its metrics, decide a size, change the target's `spec.replicas`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from fractions import Fraction
from math import ceil

from podling.api import meta
from podling.api.client import Client
from podling.api.quantity import NANO, Quantity, of
from podling.controllers import targets
from podling.controllers.actions import Action, Announce, Emit, Patch, Requeue
from podling.controllers.hpa import replicas
from podling.controllers.hpa.behavior import Past, limited
from podling.controllers.hpa.metrics import Metrics, MetricsUnavailable
from podling.controllers.runtime import Context, Controller, ObjectKey, Watch, service_account
from podling.controllers.statuses import replace_condition, write_status
from podling.store.types import Change, ChangeType, Object

RESOURCE = "horizontalpodautoscalers.autoscaling"
PERIOD = 15.0
_MESSAGES = {
    "TooFewReplicas": "the desired replica count is less than the minimum replica count",
    "TooManyReplicas": "the desired replica count is more than the maximum replica count",
    "ScaleUpLimit": "the desired replica count is increasing faster than the maximum scale rate",
    "ScaleDownLimit": "the desired replica count is decreasing faster than the maximum scale rate",
    "DesiredWithinRange": "the desired count is within the acceptable range",
    "ScaleUpStabilized": (
        "recent recommendations were lower than current one, applying the lowest recent recommendation"
    ),
    "ScaleDownStabilized": (
        "recent recommendations were higher than current one, applying the highest recent recommendation"
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    hpa: Object
    resource: str
    """The target's resource; for a kind that is not served, the best guess at it."""
    target: Object | None
    pods: Sequence[Object]
    metrics: Metrics


def observe(client: Client, metrics: Metrics, key: ObjectKey) -> Snapshot | None:
    hpa = client.get(RESOURCE, key.namespace, key.name)
    if hpa is None:
        return None
    found = targets.find(client, key.namespace, meta.spec(hpa)["scaleTargetRef"])
    return Snapshot(hpa=hpa, resource=found.resource, target=found.object, pods=found.pods, metrics=metrics)


@dataclass(frozen=True, slots=True)
class _Proposal:
    size: int
    name: str
    """What asked for it, in words."""
    status: Object


def decide(snapshot: Snapshot, past: Past, now: datetime) -> list[Action]:
    return [*_Look(snapshot, past, now).decide(), Requeue(why="the next look at the metrics", seconds=PERIOD)]


class _Look:
    """One decision in the making."""

    def __init__(self, snapshot: Snapshot, past: Past, now: datetime) -> None:
        self.snapshot = snapshot
        self.hpa = snapshot.hpa
        self.spec = meta.spec(self.hpa)
        self.past = past
        self.now = now
        self.conditions: list[Object] = list(meta.conditions(self.hpa))
        self.actions: list[Action] = []

    def decide(self) -> list[Action]:
        target = self.snapshot.target
        if target is None:
            return self._no_target()
        self._condition(
            "AbleToScale", "True", "SucceededGetScale", "the HPA controller was able to get the target's current scale"
        )
        current: int = meta.spec(target).get("replicas", 1)
        low = self.spec.get("minReplicas")
        low = 1 if low is None else low
        if current == 0 and low != 0:
            message = "scaling is disabled since the replica count of the target is zero"
            self._condition("ScalingActive", "False", "ScalingDisabled", message)
            return [*self.actions, *self._status(current, 0, [])]
        if current > self.spec["maxReplicas"]:
            return self._resize(
                current, self.spec["maxReplicas"], "Current number of replicas above Spec.MaxReplicas", []
            )
        if current < low:
            reason = "Current number of replicas below Spec.MinReplicas"
            return self._resize(current, low, reason, [])
        return self._by_metrics(current)

    def _no_target(self) -> list[Action]:
        name = self.spec["scaleTargetRef"]["name"]
        problem = f'{self.snapshot.resource} "{name}" not found'
        message = f"the HPA controller was unable to get the target's current scale: {problem}"
        self._condition("AbleToScale", "False", "FailedGetScale", message)
        self._tell("FailedGetScale", problem)
        return [*self.actions, *self._status(meta.status(self.hpa).get("currentReplicas", 0), None, None)]

    def _by_metrics(self, current: int) -> list[Action]:
        proposals: list[_Proposal] = []
        problems: list[tuple[str, str]] = []
        for metric in meta.items(self.hpa, "spec", "metrics"):
            try:
                proposals.append(self._propose(metric, current))
            except MetricsUnavailable as error:
                problems.append((_failure_reason(metric), f"{_failure_prefix(metric)}: {error}"))
        best = max(proposals, key=lambda p: p.size, default=None)
        if best is None or (problems and best.size < current):
            return self._no_metrics(current, problems)
        message = f"the HPA was able to successfully calculate a replica count from {best.name}"
        self._condition("ScalingActive", "True", "ValidMetricFound", message)
        outcome = limited(self.hpa, current, best.size, self.past, self.now)
        if outcome.stabilized:
            self._condition("AbleToScale", "True", outcome.stabilized, _MESSAGES[outcome.stabilized])
        else:
            self._condition("AbleToScale", "True", "ReadyForNewScale", "recommended size matches current size")
        within = outcome.limit == "DesiredWithinRange"
        self._condition("ScalingLimited", "False" if within else "True", outcome.limit, _MESSAGES[outcome.limit])
        reason = f"{best.name} above target" if outcome.size > current else "All metrics below target"
        return self._resize(current, outcome.size, reason, [p.status for p in proposals])

    def _no_metrics(self, current: int, problems: Sequence[tuple[str, str]]) -> list[Action]:
        reason, message = problems[0] if problems else ("FailedGetResourceMetric", "no metrics")
        text = f"the HPA was unable to compute the replica count: {message}"
        self._condition("ScalingActive", "False", reason, text)
        self._tell(reason, message)
        count = len(problems)
        self._tell(
            "FailedComputeMetricsReplicas",
            f"invalid metrics ({count} invalid out of {len(meta.items(self.hpa, 'spec', 'metrics'))}), "
            f"first error is: {message}",
        )
        return [*self.actions, *self._status(current, meta.status(self.hpa).get("desiredReplicas", 0), [])]

    # Metrics

    def _propose(self, metric: Object, current: int) -> _Proposal:
        match metric["type"]:
            case "Resource":
                return self._propose_resource(metric["resource"], None, current, "resource")
            case "ContainerResource":
                source = metric["containerResource"]
                return self._propose_resource(source, source["container"], current, "containerResource")
            case "Pods":
                return self._propose_pods(metric["pods"], current)
            case "Object":
                return self._propose_object(metric["object"], current)
            case _:
                return self._propose_external(metric["external"], current)

    def _tolerances(self) -> replicas.Tolerances:
        def of_direction(direction: str) -> Fraction:
            text = meta.part(self.hpa, "spec", "behavior", direction).get("tolerance")
            return Fraction(of(text).nanos, NANO) if text is not None else replicas.TOLERANCE

        return replicas.Tolerances(of_direction("scaleUp"), of_direction("scaleDown"))

    def _selector(self) -> Object:
        target = self.snapshot.target
        return targets.selector(target) if target is not None else {}

    def _propose_resource(self, source: Object, container: str | None, current: int, field: str) -> _Proposal:
        name, target, namespace = source["name"], source["target"], meta.namespace(self.hpa)
        samples = self.snapshot.metrics.resource(namespace, self._selector(), name, container)
        groups = replicas.group(self.snapshot.pods, samples, name, self.now)
        average = sum(groups.measured.values()) // len(groups.measured) if groups.measured else 0
        shown: Object = {"averageValue": _quantity(average)}
        if target["type"] == "Utilization":
            live = [
                p for p in self.snapshot.pods if meta.name(p) in {*groups.measured, *groups.missing, *groups.unready}
            ]
            full = replicas.requested(live, name, container, 100)
            total = sum(full[n] for n in groups.measured)
            shown["averageUtilization"] = sum(groups.measured.values()) * 100 // total if total else 0
            goal = replicas.requested(live, name, container, target["averageUtilization"])
            size = replicas.wanted(current, groups, goal, self._tolerances())
            words = f"{name} resource utilization (percentage of request)"
        else:
            size = replicas.wanted(current, groups, _milli(target["averageValue"]), self._tolerances())
            words = f"{name} resource"
        status: Object = {"name": name, "current": shown}
        if container is not None:
            status["container"] = container
            words = words.replace(" resource", " container resource", 1)
        return _Proposal(size, words, {"type": field[0].upper() + field[1:], field: status})

    def _propose_pods(self, source: Object, current: int) -> _Proposal:
        metric = source["metric"]
        samples = self.snapshot.metrics.pods(meta.namespace(self.hpa), self._selector(), metric)
        groups = replicas.group(self.snapshot.pods, samples, None, self.now)
        size = replicas.wanted(current, groups, _milli(source["target"]["averageValue"]), self._tolerances())
        average = sum(groups.measured.values()) // max(1, len(groups.measured))
        status: Object = {"metric": metric, "current": {"averageValue": _quantity(average)}}
        return _Proposal(size, f"pods metric {metric['name']}", {"type": "Pods", "pods": status})

    def _propose_object(self, source: Object, current: int) -> _Proposal:
        metric, reference = source["metric"], source["describedObject"]
        value = self.snapshot.metrics.object(meta.namespace(self.hpa), reference, metric)
        size, shown = self._by_value(source["target"], value, current)
        status: Object = {"metric": metric, "describedObject": reference, "current": shown}
        words = f"{reference['kind']} metric {metric['name']}"
        return _Proposal(size, words, {"type": "Object", "object": status})

    def _propose_external(self, source: Object, current: int) -> _Proposal:
        metric = source["metric"]
        value = self.snapshot.metrics.external(meta.namespace(self.hpa), metric)
        size, shown = self._by_value(source["target"], value, current)
        status: Object = {"metric": metric, "current": shown}
        selector = f"(&LabelSelector{metric['selector']})" if metric.get("selector") else "(nil)"
        return _Proposal(size, f"external metric {metric['name']}{selector}", {"type": "External", "external": status})

    def _by_value(self, target: Object, value: int, current: int) -> tuple[int, Object]:
        """One value for all: as a total, or as an average over the replicas."""
        if target["type"] == "AverageValue":
            ratio = Fraction(value, _milli(target["averageValue"]) * max(1, current))
            size = current if self._tolerances().near(ratio) else ceil(Fraction(value, _milli(target["averageValue"])))
            return size, {"averageValue": _quantity(ceil(Fraction(value, max(1, current))))}
        ratio = Fraction(value, _milli(target["value"]))
        ready = sum(meta.condition_is(p, "Ready") for p in self.snapshot.pods)
        size = current if self._tolerances().near(ratio) else ceil(ratio * ready)
        return size, {"value": _quantity(value)}

    # Writes

    def _resize(self, current: int, size: int, reason: str, shown: Sequence[Object]) -> list[Action]:
        if size != current:
            self.past.changes.append((self.now, size - current))
            message = f"New size: {size}; reason: {reason}"
            self.actions.append(
                Patch(
                    why=reason,
                    resource=self.snapshot.resource,
                    namespace=meta.namespace(self.hpa),
                    name=self.spec["scaleTargetRef"]["name"],
                    patch={"spec": {"replicas": size}},
                    done=Announce(regarding=self.hpa, reason="SuccessfulRescale", message=message),
                    failed=Announce(
                        regarding=self.hpa,
                        reason="FailedRescale",
                        message=f"{message}; error: {{error}}",
                        type="Warning",
                    ),
                )
            )
            told = f"the HPA controller was able to update the target scale to {size}"
            self._condition("AbleToScale", "True", "SucceededRescale", told)
        return [*self.actions, *self._status(current, size, shown, resized=size != current)]

    def _condition(self, type: str, status: str, reason: str, message: str) -> None:
        fresh = {"type": type, "status": status, "reason": reason, "message": message}
        self.conditions = replace_condition(self.conditions, fresh, self.now)

    def _tell(self, reason: str, message: str) -> None:
        event = Announce(regarding=self.hpa, reason=reason, message=message, type="Warning")
        self.actions.append(Emit(why=message, event=event))

    def _status(
        self, current: int, desired: int | None, shown: Sequence[Object] | None, *, resized: bool = False
    ) -> list[Action]:
        old = meta.status(self.hpa)
        status: Object = {
            **old,
            "currentReplicas": current,
            "desiredReplicas": old.get("desiredReplicas", 0) if desired is None else desired,
            "conditions": self.conditions,
        }
        if shown is not None:
            status["currentMetrics"] = list(shown) or None
        if resized:
            status["lastScaleTime"] = meta.timestamp(self.now)
        return [*write_status(RESOURCE, self.hpa, status, "what it saw and wants")]


def _milli(text: str) -> int:
    return of(text).nanos // 10**6


def _quantity(milli: int) -> str:
    return str(Quantity(milli * 10**6))


def _failure_reason(metric: Object) -> str:
    return {
        "Resource": "FailedGetResourceMetric",
        "ContainerResource": "FailedGetContainerResourceMetric",
        "Pods": "FailedGetPodsMetric",
        "Object": "FailedGetObjectMetric",
    }.get(metric["type"], "FailedGetExternalMetric")


def _failure_prefix(metric: Object) -> str:
    match metric["type"]:
        case "Resource":
            name = metric["resource"]["name"]
            kind = "utilization" if metric["resource"]["target"]["type"] == "Utilization" else "usage"
            return f"failed to get {name} {kind}"
        case "ContainerResource":
            return f"failed to get {metric['containerResource']['name']} container metric value"
        case "Pods":
            return "failed to get pods metric value"
        case "Object":
            return "failed to get object metric value"
        case _:
            return f"failed to get {metric['external']['metric']['name']} external metric"


def _of_spec(_client: Client, change: Change) -> list[ObjectKey]:
    """A new or changed autoscaler; its own status is not news, the period brings the rest."""
    old = change.previous
    if (
        change.type == ChangeType.MODIFIED
        and old is not None
        and meta.spec(old.object) == meta.spec(change.entry.object)
    ):
        return []
    return [ObjectKey(change.entry.key.namespace, change.entry.key.name)]


def controller(metrics: Metrics) -> Controller:
    past: dict[ObjectKey, Past] = {}

    async def reconcile(context: Context, key: ObjectKey) -> None:
        snapshot = observe(context.client, metrics, key)
        if snapshot is None:
            past.pop(key, None)
            return
        await context.act(key, decide(snapshot, past.setdefault(key, Past()), context.now()))

    return Controller(
        name="horizontal-pod-autoscaler",
        user=service_account("horizontal-pod-autoscaler"),
        resource=RESOURCE,
        watches=(Watch(resource=RESOURCE, keys=_of_spec),),
        reconcile=reconcile,
    )
