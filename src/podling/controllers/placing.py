"""Whether a pod may be on a node by labels: node selectors and required node affinity.

The scheduler asks it for every pod, DaemonSets for every node, volumes for theirs.
"""

from __future__ import annotations

from collections.abc import Mapping

from podling.api import meta
from podling.controllers.tolerating import compares
from podling.store.types import Object


def matches_node(pod: Object, node: Object) -> bool:
    """`spec.nodeSelector` and the required node affinity."""
    if not meta.matches_labels(meta.part(pod, "spec", "nodeSelector"), meta.labels(node)):
        return False
    affinity = meta.part(pod, "spec", "affinity", "nodeAffinity")
    required = affinity.get("requiredDuringSchedulingIgnoredDuringExecution")
    return required is None or matches_node_selector(required, node)


def matches_node_selector(selector: Object, node: Object) -> bool:
    """A `NodeSelector`: one of its terms; a term without expressions matches nothing."""
    return any(matches_node_term(term, node) for term in meta.items(selector, "nodeSelectorTerms"))


def matches_node_term(term: Object, node: Object) -> bool:
    expressions, fields = meta.items(term, "matchExpressions"), meta.items(term, "matchFields")
    if not expressions and not fields:
        return False
    labels = meta.labels(node)
    names = {"metadata.name": meta.name(node)}
    return all(_matches_requirement(e, labels) for e in expressions) and all(
        _matches_requirement(f, names) for f in fields
    )


def _matches_requirement(requirement: Object, have: Mapping[str, str]) -> bool:
    operator, key = requirement["operator"], requirement["key"]
    if operator in ("Gt", "Lt"):
        return key in have and compares(operator, have[key], requirement["values"][0])
    return meta.matches_selector({"matchExpressions": [requirement]}, have)
