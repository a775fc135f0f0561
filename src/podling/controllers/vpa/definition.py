"""The autoscaler's kinds as CustomResourceDefinitions, as clusters get them from the autoscaler's project."""

from __future__ import annotations

from podling.controllers.addons import QUANTITY, STRING, TIME, definition, structure, version
from podling.store.types import Object

GROUP = "autoscaling.k8s.io"
RESOURCE = f"verticalpodautoscalers.{GROUP}"
CHECKPOINTS = f"verticalpodautoscalercheckpoints.{GROUP}"
MODES = ("Off", "Initial", "Recreate", "InPlaceOrRecreate", "Auto")
APPROVED_BY = "https://github.com/kubernetes/kubernetes/pull/63797"
_FIRST = ".status.recommendation.containerRecommendations[0].target"
_AMOUNTS: Object = {"type": "object", "additionalProperties": QUANTITY}


def definitions() -> list[Object]:
    return [
        definition(GROUP, "VerticalPodAutoscaler", ["vpa"], APPROVED_BY, _autoscaler(), "Namespaced"),
        definition(
            GROUP, "VerticalPodAutoscalerCheckpoint", ["vpacheckpoint"], APPROVED_BY, _checkpoint(), "Namespaced"
        ),
    ]


def _autoscaler() -> Object:
    columns = [
        ("Mode", "string", ".spec.updatePolicy.updateMode"),
        ("CPU", "string", f"{_FIRST}.cpu"),
        ("Mem", "string", f"{_FIRST}.memory"),
        ("Provided", "string", ".status.conditions[?(@.type=='RecommendationProvided')].status"),
    ]
    return version({"spec": _spec(), "status": _status()}, ["spec"], columns=columns, status=True)


def _list(items: Object) -> Object:
    return {"type": "array", "items": items}


def _one_of(*values: str) -> Object:
    return {"type": "string", "enum": list(values)}


def _spec() -> Object:
    policy = structure(
        {
            "containerName": STRING,
            "mode": _one_of("Auto", "Off"),
            "minAllowed": _AMOUNTS,
            "maxAllowed": _AMOUNTS,
            "controlledResources": _list(_one_of("cpu", "memory")),
            "controlledValues": _one_of("RequestsAndLimits", "RequestsOnly"),
        }
    )
    requirement = structure(
        {
            "resources": _list(STRING),
            "changeRequirement": _one_of("TargetHigherThanRequests", "TargetLowerThanRequests"),
        },
        required=["resources", "changeRequirement"],
    )
    return structure(
        {
            "targetRef": {
                **structure({"apiVersion": STRING, "kind": STRING, "name": STRING}, required=["kind", "name"]),
                "x-kubernetes-map-type": "atomic",
            },
            "updatePolicy": structure(
                {
                    "updateMode": _one_of(*MODES),
                    "minReplicas": {"type": "integer", "format": "int32"},
                    "evictionRequirements": _list(requirement),
                }
            ),
            "resourcePolicy": structure({"containerPolicies": _list(policy)}),
            "recommenders": _list(structure({"name": STRING}, required=["name"])),
        },
        required=["targetRef"],
    )


def _status() -> Object:
    container = structure(
        {
            "containerName": STRING,
            "target": _AMOUNTS,
            "lowerBound": _AMOUNTS,
            "upperBound": _AMOUNTS,
            "uncappedTarget": _AMOUNTS,
        },
        required=["target"],
    )
    condition = structure(
        {
            "type": STRING,
            "status": STRING,
            "reason": STRING,
            "message": STRING,
            "lastTransitionTime": TIME,
        },
        required=["type", "status"],
    )
    return structure(
        {
            "recommendation": structure({"containerRecommendations": _list(container)}),
            "conditions": _list(condition),
        }
    )


def _checkpoint() -> Object:
    weights: Object = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    histogram = structure({"referenceTimestamp": TIME, "bucketWeights": weights, "totalWeight": {"type": "number"}})
    status = structure(
        {
            "version": STRING,
            "lastUpdateTime": TIME,
            "firstSampleStart": TIME,
            "lastSampleStart": TIME,
            "totalSamplesCount": {"type": "integer"},
            "cpuHistogram": histogram,
            "memoryHistogram": histogram,
        }
    )
    spec = structure({"vpaObjectName": STRING, "containerName": STRING})
    return version({"spec": spec, "status": status}, status=False)
