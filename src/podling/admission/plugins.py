"""The plugins in Kubernetes' order."""

from __future__ import annotations

import random

from podling.admission import defaults, pods
from podling.admission.podsecurity.plugin import pod_security
from podling.api.admission import Admission


def builtin(generator: random.Random) -> Admission:
    """`generator` is for the names of token volumes."""
    return Admission(
        mutating=[
            pods.ServiceAccounts(generator),
            defaults.taint_new_node,
            defaults.protect_while_in_use,
            pods.priority,
            pods.default_tolerations,
            pods.runtime_class,
            defaults.default_ingress_class,
            defaults.default_storage_class,
        ],
        validating=[pod_security],
    )
