"""The autoscaler: observe the target and its metrics, decide a size, change the target's scale.

Source: "Horizontal Pod Autoscaling"; pkg/controller/podautoscaler, `reconcileAutoscaler`.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from podling.api import meta
from podling.api.client import Client
from podling.api.errors import ApiError
from podling.api.quantity import NANO, of
from podling.api.selectors import LabelSelector, parse_label_selector
from podling.controllers.actions import Action, Announce, Emit, Patch, Requeue
from podling.controllers.hpa import scale as scales
from podling.controllers.hpa.behavior import WITHIN, Past, bounds, limited
from podling.controllers.hpa.metrics import Metrics, Reading, read
from podling.controllers.hpa.proposals import Failure, Proposal, Subject, propose
from podling.controllers.hpa.replicas import TOLERANCE, Tolerances
from podling.controllers.hpa.scale import Scale, ScaleUnavailable
from podling.controllers.runtime import ActionFailed, Context, Controller, ObjectKey, Watch, key_of, service_account
from podling.controllers.statuses import replace_condition, write_status
from podling.store.types import Change, ChangeType, Object

log = logging.getLogger(__name__)

RESOURCE = "horizontalpodautoscalers.autoscaling"
PERIOD = 15.0
_MESSAGES = {
    "TooFewReplicas": "the desired replica count is less than the minimum replica count",
    "TooManyReplicas": "the desired replica count is more than the maximum replica count",
    "ScaleUpLimit": "the desired replica count is increasing faster than the maximum scale rate",
    "ScaleDownLimit": "the desired replica count is decreasing faster than the maximum scale rate",
    WITHIN: "the desired count is within the acceptable range",
    "ScaleUpStabilized": (
        "recent recommendations were lower than current one, applying the lowest recent recommendation"
    ),
    "ScaleDownStabilized": (
        "recent recommendations were higher than current one, applying the highest recent recommendation"
    ),
}


# Observe


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    hpa: Object
    scale: Scale | str
    """Of the target, or why there is none."""
    pods: Sequence[Object] = ()
    rivals: Sequence[ObjectKey] = ()
    """The autoscalers (this one among them) that scale some of these pods."""
    readings: Sequence[Reading] = ()
    """One for each of `spec.metrics`."""


async def observe(client: Client, metrics: Metrics, hpa: Object) -> Snapshot:
    namespace = meta.namespace(hpa)
    try:
        scale = scales.find(client, namespace, meta.spec(hpa)["scaleTargetRef"])
    except ScaleUnavailable as error:
        return Snapshot(hpa=hpa, scale=str(error))
    selector = _parsed(scale)
    low, high = bounds(hpa)
    if selector is None or not low <= scale.replicas <= high:
        return Snapshot(hpa=hpa, scale=scale)  # the metrics do not matter
    pods = [p for p in client.list("pods", namespace) if selector.matches(meta.labels(p))]
    rivals = _rivals(client, namespace, pods)
    readings: list[Reading] = []
    if len(rivals) < 2:
        readings = [await read(metrics, namespace, scale.selector, m) for m in meta.items(hpa, "spec", "metrics")]
    return Snapshot(hpa=hpa, scale=scale, pods=pods, rivals=rivals, readings=readings)


def _parsed(scale: Scale) -> LabelSelector | None:
    try:
        return parse_label_selector(scale.selector) if scale.selector else None
    except ApiError:
        return None


def _rivals(client: Client, namespace: str, pods: Sequence[Object]) -> list[ObjectKey]:
    found: list[ObjectKey] = []
    for hpa in client.list(RESOURCE, namespace):
        try:
            scale = scales.find(client, namespace, meta.spec(hpa)["scaleTargetRef"])
        except ScaleUnavailable:
            continue
        selector = _parsed(scale)
        if scale.replicas and selector is not None and any(selector.matches(meta.labels(pod)) for pod in pods):
            found.append(key_of(hpa))
    return sorted(found)


# Decide


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    events: Sequence[Action]
    resize: Patch | None = None
    conditions: Sequence[Object]
    status: Object
    """What else changes in the status."""
    past: Past
    """Once the target is resized."""
    unresized: Past
    """If it is not."""


def decide(snapshot: Snapshot, past: Past, now: datetime) -> Decision:
    return _Look(snapshot, past, now).decide()


def refused(decision: Decision, error: str, now: datetime) -> Decision:
    """What is left of a decision when the target would not be resized."""
    message = f"the HPA controller was unable to update the target scale: {error}"
    fresh = {"type": "AbleToScale", "status": "False", "reason": "FailedUpdateScale", "message": message}
    kept = {key: decision.status[key] for key in ("currentReplicas", "currentMetrics")}
    conditions = replace_condition(decision.conditions, fresh, now)
    return replace(decision, conditions=conditions, status=kept, past=decision.unresized)


class _Look:
    """One decision in the making."""

    def __init__(self, snapshot: Snapshot, past: Past, now: datetime) -> None:
        self.snapshot = snapshot
        self.hpa = snapshot.hpa
        self.past = past
        self.now = now
        self.conditions: list[Object] = list(meta.conditions(self.hpa))
        self.events: list[Action] = []

    def decide(self) -> Decision:
        scale = self.snapshot.scale
        if isinstance(scale, str):
            message = f"the HPA controller was unable to get the target's current scale: {scale}"
            self.condition("AbleToScale", "False", "FailedGetScale", message)
            self.warn("FailedGetScale", scale)
            return self.unchanged({})
        message = "the HPA controller was able to get the target's current scale"
        self.condition("AbleToScale", "True", "SucceededGetScale", message)
        if not self.past.recommendations:
            self.past = self.past.recommended(scale.replicas, self.now)
        low, high = bounds(self.hpa)
        if not scale.replicas and low:
            message = "scaling is disabled since the replica count of the target is zero"
            self.condition("ScalingActive", "False", "ScalingDisabled", message)
            return self.sized(scale, 0, "", ())
        if scale.replicas > high:
            return self.sized(scale, high, "Current number of replicas above Spec.MaxReplicas", ())
        if scale.replicas < low:
            return self.sized(scale, low, "Current number of replicas below Spec.MinReplicas", ())
        if problem := self.selector_problem(scale):
            return self.unmeasured(scale, problem, ())
        return self.by_metrics(scale)

    def selector_problem(self, scale: Scale) -> str:
        """Why the pods are not known for sure; `""` if they are."""
        if not scale.selector:
            problem = "selector is required"
            self.warn("SelectorRequired", problem)
            message = "the HPA target's scale is missing a selector"
            self.condition("ScalingActive", "False", "InvalidSelector", message)
            return problem
        if len(self.snapshot.rivals) > 1:
            names = " ".join(map(str, self.snapshot.rivals))
            return self.inactive(
                "AmbiguousSelector", f"pods by selector {scale.selector} are controlled by multiple HPAs: [{names}]"
            )
        try:
            parse_label_selector(scale.selector)
        except ApiError as error:
            message = f"couldn't convert selector into a corresponding internal selector object: {error.message}"
            return self.inactive("InvalidSelector", message)
        return ""

    def inactive(self, reason: str, message: str) -> str:
        self.warn(reason, message)
        self.condition("ScalingActive", "False", reason, message)
        return message

    def by_metrics(self, scale: Scale) -> Decision:
        outcomes = self.outcomes(scale)
        shown = [outcome.status for outcome in outcomes]
        failures = [o for o in outcomes if isinstance(o, Failure)]
        best = max((o for o in outcomes if isinstance(o, Proposal)), key=lambda o: o.size, default=None)
        for failure in failures:
            self.warn(failure.reason, failure.message)
        if best is None or (failures and best.size < scale.replicas):
            return self.failed(scale, failures, shown)
        message = f"the HPA was able to successfully calculate a replica count from {best.name}"
        self.condition("ScalingActive", "True", "ValidMetricFound", message)
        reason = "All metrics below target" if best.size < scale.replicas else ""
        if best.size > scale.replicas:
            reason = f"{best.name} above target"
        return self.sized(scale, self.limited(scale, best.size), reason, shown)

    def outcomes(self, scale: Scale) -> list[Proposal | Failure]:
        subject = Subject(
            namespace=meta.namespace(self.hpa),
            replicas=scale.replicas,
            present=scale.present,
            pods=self.snapshot.pods,
            tolerances=_tolerances(self.hpa),
            now=self.now,
        )
        metrics = meta.items(self.hpa, "spec", "metrics")
        return [
            propose(metric, reading, subject) for metric, reading in zip(metrics, self.snapshot.readings, strict=True)
        ]

    def limited(self, scale: Scale, recommended: int) -> int:
        outcome = limited(self.hpa, scale.replicas, recommended, self.past, self.now)
        self.past = self.past.recommended(recommended, self.now)
        if outcome.stabilized:
            self.condition("AbleToScale", "True", outcome.stabilized, _MESSAGES[outcome.stabilized])
        else:
            self.condition("AbleToScale", "True", "ReadyForNewScale", "recommended size matches current size")
        self.condition("ScalingLimited", str(outcome.limit != WITHIN), outcome.limit, _MESSAGES[outcome.limit])
        return outcome.size

    # What it comes to

    def failed(self, scale: Scale, failures: Sequence[Failure], shown: Sequence[Object]) -> Decision:
        first = failures[0]
        message = f"the HPA was unable to compute the replica count: {first.message}"
        self.condition("ScalingActive", "False", first.reason, message)
        count = f"{len(failures)} invalid out of {len(shown)}"
        return self.unmeasured(scale, f"invalid metrics ({count}), first error is: {first.error}", shown)

    def unmeasured(self, scale: Scale, problem: str, shown: Sequence[Object]) -> Decision:
        self.warn("FailedComputeMetricsReplicas", problem)
        return self.unchanged({"currentReplicas": scale.replicas, "currentMetrics": list(shown) or None})

    def unchanged(self, status: Object) -> Decision:
        return Decision(
            events=self.events, conditions=self.conditions, status=status, past=self.past, unresized=self.past
        )

    def sized(self, scale: Scale, size: int, reason: str, shown: Sequence[Object]) -> Decision:
        status: Object = {
            "currentReplicas": scale.replicas,
            "desiredReplicas": size,
            "currentMetrics": list(shown) or None,
        }
        if size == scale.replicas:
            return self.unchanged(status)
        told = f"the HPA controller was able to update the target scale to {size}"
        self.condition("AbleToScale", "True", "SucceededRescale", told)
        return Decision(
            events=self.events,
            resize=self.resize(scale, size, reason),
            conditions=self.conditions,
            status={**status, "lastScaleTime": meta.timestamp(self.now)},
            past=self.past.changed(size - scale.replicas, self.now),
            unresized=self.past,
        )

    def resize(self, scale: Scale, size: int, reason: str) -> Patch:
        message = f"New size: {size}; reason: {reason}"
        failure = f"{message}; error: {{error}}"
        return Patch(
            why=reason or "a recent recommendation was higher",
            resource=scale.resource,
            namespace=meta.namespace(self.hpa),
            name=scale.name,
            patch=scale.patch(size),
            subresource="scale",
            done=Announce(regarding=self.hpa, reason="SuccessfulRescale", message=message),
            failed=Announce(regarding=self.hpa, reason="FailedRescale", message=failure, type="Warning"),
        )

    def condition(self, type: str, status: str, reason: str, message: str) -> None:
        fresh = {"type": type, "status": status, "reason": reason, "message": message}
        self.conditions = replace_condition(self.conditions, fresh, self.now)

    def warn(self, reason: str, message: str) -> None:
        event = Announce(regarding=self.hpa, reason=reason, message=message, type="Warning")
        self.events.append(Emit(why=message, event=event))


def _tolerances(hpa: Object) -> Tolerances:
    def of_direction(direction: str) -> float:
        text = meta.part(hpa, "spec", "behavior", direction).get("tolerance")
        return of(text).nanos / NANO if text is not None else TOLERANCE

    return Tolerances(of_direction("scaleUp"), of_direction("scaleDown"))


# Act


async def _act(context: Context, key: ObjectKey, hpa: Object, decision: Decision) -> Past:
    """Carries a decision out; what is remembered after it."""
    await context.act(key, decision.events)
    if decision.resize is not None:
        try:
            await context.act(key, [decision.resize])
        except ActionFailed as failure:  # the next look, a period later, tries again
            log.info("%s: %s", key, failure)
            decision = refused(decision, failure.error.message, context.now())
    status: Object = {**meta.status(hpa), **decision.status, "conditions": list(decision.conditions)}
    await context.act(key, write_status(RESOURCE, hpa, status, "what it saw and wants"))
    return decision.past


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
    known: dict[ObjectKey, Past] = {}

    async def reconcile(context: Context, key: ObjectKey) -> None:
        hpa = context.client.get(RESOURCE, key.namespace, key.name)
        if hpa is None:
            known.pop(key, None)
            return
        await context.act(key, [Requeue(why="the next look at the metrics", seconds=PERIOD)])
        snapshot = await observe(context.client, metrics, hpa)
        decision = decide(snapshot, known.get(key, Past()), context.now())
        known[key] = await _act(context, key, hpa, decision)

    return Controller(
        name="horizontal-pod-autoscaler",
        user=service_account("horizontal-pod-autoscaler"),
        resource=RESOURCE,
        watches=(Watch(resource=RESOURCE, keys=_of_spec),),
        reconcile=reconcile,
    )
