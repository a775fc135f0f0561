"""The kinds of admissionregistration.k8s.io."""

from podling.api.resources import Resource
from podling.kinds.admissionregistration import (
    mutatingadmissionpolicy,
    mutatingadmissionpolicybinding,
    mutatingwebhookconfiguration,
    validatingadmissionpolicy,
    validatingadmissionpolicybinding,
    validatingwebhookconfiguration,
)


def resources() -> tuple[Resource, ...]:
    return (
        mutatingadmissionpolicy.resource(),
        mutatingadmissionpolicybinding.resource(),
        mutatingwebhookconfiguration.resource(),
        validatingadmissionpolicy.resource(),
        validatingadmissionpolicybinding.resource(),
        validatingwebhookconfiguration.resource(),
    )
