"""The kinds of batch."""

from podling.api.resources import Resource
from podling.kinds.batch import cronjob, job


def resources() -> tuple[Resource, ...]:
    return (
        cronjob.resource(),
        job.resource(),
    )
