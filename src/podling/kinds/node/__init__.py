"""The kinds of node.k8s.io."""

from podling.api.resources import Resource
from podling.kinds.node import runtimeclass


def resources() -> tuple[Resource, ...]:
    return (runtimeclass.resource(),)
