"""The kinds of autoscaling."""

from podling.api.resources import Resource
from podling.kinds.autoscaling import horizontalpodautoscaler_v1, horizontalpodautoscaler_v2


def resources() -> tuple[Resource, ...]:
    return (
        horizontalpodautoscaler_v2.resource(),
        horizontalpodautoscaler_v1.resource(),
    )
