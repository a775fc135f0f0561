"""The autoscaler's kinds as CustomResourceDefinitions, as clusters get them from the autoscaler's project."""

from __future__ import annotations

from podling.store.types import Object

GROUP = "autoscaling.k8s.io"
RESOURCE = f"verticalpodautoscalers.{GROUP}"
CHECKPOINTS = f"verticalpodautoscalercheckpoints.{GROUP}"
DEFINITIONS = "customresourcedefinitions.apiextensions.k8s.io"
MODES = ("Off", "Initial", "Recreate", "InPlaceOrRecreate", "Auto")
_FIRST = ".status.recommendation.containerRecommendations[0].target"


def definitions() -> list[Object]:
    return [
        _definition("VerticalPodAutoscaler", "vpa", _version()),
        _definition("VerticalPodAutoscalerCheckpoint", "vpacheckpoint", _checkpoint_version()),
    ]


def _definition(kind: str, short: str, version: Object) -> Object:
    singular = kind.lower()
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {
            "name": f"{singular}s.{GROUP}",
            "annotations": {"api-approved.kubernetes.io": "https://github.com/kubernetes/kubernetes/pull/63797"},
            "labels": {"addonmanager.kubernetes.io/mode": "EnsureExists"},
        },
        "spec": {
            "group": GROUP,
            "names": {
                "kind": kind,
                "listKind": f"{kind}List",
                "plural": f"{singular}s",
                "shortNames": [short],
                "singular": singular,
            },
            "scope": "Namespaced",
            "versions": [version],
        },
    }


def _version() -> Object:
    provided = ".status.conditions[?(@.type=='RecommendationProvided')].status"
    return {
        "name": "v1",
        "served": True,
        "storage": True,
        "subresources": {"status": {}},
        "additionalPrinterColumns": [
            {"name": "Mode", "type": "string", "jsonPath": ".spec.updatePolicy.updateMode"},
            {"name": "CPU", "type": "string", "jsonPath": f"{_FIRST}.cpu"},
            {"name": "Mem", "type": "string", "jsonPath": f"{_FIRST}.memory"},
            {"name": "Provided", "type": "string", "jsonPath": provided},
            {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"},
        ],
        "schema": {
            "openAPIV3Schema": _object(
                {
                    "apiVersion": _STRING,
                    "kind": _STRING,
                    "metadata": {"type": "object"},
                    "spec": _spec(),
                    "status": _status(),
                },
                required=["spec"],
            )
        },
    }


_STRING: Object = {"type": "string"}
_NUMBER = r"(\+|-)?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))"
_QUANTITY: Object = {
    "anyOf": [{"type": "integer"}, {"type": "string"}],
    "pattern": rf"^{_NUMBER}(([KMGTPE]i)|[numkMGTPE]|([eE]{_NUMBER}))?$",
    "x-kubernetes-int-or-string": True,
}
_AMOUNTS: Object = {"type": "object", "additionalProperties": _QUANTITY}


def _object(properties: Object, required: list[str] | None = None) -> Object:
    found: Object = {"type": "object", "properties": properties}
    if required:
        found["required"] = required
    return found


def _list(items: Object) -> Object:
    return {"type": "array", "items": items}


def _one_of(*values: str) -> Object:
    return {"type": "string", "enum": list(values)}


def _spec() -> Object:
    policy = _object(
        {
            "containerName": _STRING,
            "mode": _one_of("Auto", "Off"),
            "minAllowed": _AMOUNTS,
            "maxAllowed": _AMOUNTS,
            "controlledResources": _list(_one_of("cpu", "memory")),
            "controlledValues": _one_of("RequestsAndLimits", "RequestsOnly"),
        }
    )
    requirement = _object(
        {
            "resources": _list(_STRING),
            "changeRequirement": _one_of("TargetHigherThanRequests", "TargetLowerThanRequests"),
        },
        required=["resources", "changeRequirement"],
    )
    return _object(
        {
            "targetRef": {
                **_object({"apiVersion": _STRING, "kind": _STRING, "name": _STRING}, required=["kind", "name"]),
                "x-kubernetes-map-type": "atomic",
            },
            "updatePolicy": _object(
                {
                    "updateMode": _one_of(*MODES),
                    "minReplicas": {"type": "integer", "format": "int32"},
                    "evictionRequirements": _list(requirement),
                }
            ),
            "resourcePolicy": _object({"containerPolicies": _list(policy)}),
            "recommenders": _list(_object({"name": _STRING}, required=["name"])),
        },
        required=["targetRef"],
    )


def _status() -> Object:
    container = _object(
        {
            "containerName": _STRING,
            "target": _AMOUNTS,
            "lowerBound": _AMOUNTS,
            "upperBound": _AMOUNTS,
            "uncappedTarget": _AMOUNTS,
        },
        required=["target"],
    )
    condition = _object(
        {
            "type": _STRING,
            "status": _STRING,
            "reason": _STRING,
            "message": _STRING,
            "lastTransitionTime": {"type": "string", "format": "date-time"},
        },
        required=["type", "status"],
    )
    return _object(
        {
            "recommendation": _object({"containerRecommendations": _list(container)}),
            "conditions": _list(condition),
        }
    )


def _checkpoint_version() -> Object:
    time: Object = {"type": "string", "format": "date-time"}
    weights: Object = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    histogram = _object({"referenceTimestamp": time, "bucketWeights": weights, "totalWeight": {"type": "number"}})
    status = _object(
        {
            "version": _STRING,
            "lastUpdateTime": time,
            "firstSampleStart": time,
            "lastSampleStart": time,
            "totalSamplesCount": {"type": "integer"},
            "cpuHistogram": histogram,
            "memoryHistogram": histogram,
        }
    )
    spec = _object({"vpaObjectName": _STRING, "containerName": _STRING})
    parts = {"apiVersion": _STRING, "kind": _STRING, "metadata": {"type": "object"}, "spec": spec, "status": status}
    return {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": _object(parts)}}
