"""The plugins in Kubernetes' order (AllOrderedPlugins). Webhooks, policies and quotas come behind them."""

from __future__ import annotations

import random

from podling.admission import defaults, limitranger, nodes, pods
from podling.admission.certificates import SignerRights, restrict_subject
from podling.admission.claims import resize_claims
from podling.admission.noderestriction import NodeRestriction
from podling.admission.podsecurity.plugin import pod_security
from podling.api.admission import Admission
from podling.api.requests import Authorize


def builtin(generator: random.Random, authorize: Authorize) -> Admission:
    """`generator` is for the names of token volumes, `authorize` decides about the use of certificate signers and what
    kubelets may have beyond their own.
    """
    restriction = NodeRestriction(authorize)
    return Admission(
        mutating=[
            limitranger.default_resources,
            pods.ServiceAccounts(generator),
            restriction,
            nodes.taint_new_nodes,
            pods.priority,
            pods.default_tolerations,
            defaults.default_storage_class,
            defaults.protect_while_in_use,
            pods.runtime_class,
            defaults.default_ingress_class,
            nodes.topology_labels,
        ],
        validating=[
            limitranger.limit_resources,
            pods.check_account,
            pod_security,
            pods.one_default_priority,
            resize_claims,
            pods.check_overhead,
            SignerRights(authorize),
            restrict_subject,
            nodes.check_resize,
        ],
        connecting=[restriction],
    )
