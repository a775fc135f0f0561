"""The kinds of policy."""

from podling.api.resources import Resource
from podling.kinds.policy import poddisruptionbudget


def resources() -> tuple[Resource, ...]:
    return (poddisruptionbudget.resource(),)
