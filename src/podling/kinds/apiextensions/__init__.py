"""The kinds of apiextensions.k8s.io."""

from podling.api.resources import Resource
from podling.kinds.apiextensions import customresourcedefinition


def resources() -> tuple[Resource, ...]:
    return (customresourcedefinition.resource(),)
