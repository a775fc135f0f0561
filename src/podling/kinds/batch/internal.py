"""The structs of `pkg/apis/batch` that errors show."""

from __future__ import annotations

from typing import Final

from podling.kinds.validation.internal import Structs

STRUCTS: Final = Structs(
    {
        "PodFailurePolicy": "Rules:[]PodFailurePolicyRule",
        "PodFailurePolicyRule": (
            "Action OnExitCodes:*PodFailurePolicyOnExitCodesRequirement "
            "OnPodConditions:[]PodFailurePolicyOnPodConditionsPattern"
        ),
        "PodFailurePolicyOnExitCodesRequirement": "ContainerName:*string Operator Values:[]int",
        "PodFailurePolicyOnPodConditionsPattern": "Type Status",
        "SuccessPolicy": "Rules:[]SuccessPolicyRule",
        "SuccessPolicyRule": "SucceededIndexes:*string SucceededCount:*int",
    },
    {},
)
