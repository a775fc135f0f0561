"""The arithmetic of rollouts: pure functions of numbers and replica sets.

Sources: the API reference of `DeploymentStrategy`, and "Proportional scaling" in the Deployment documentation.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fractions import Fraction

from podling.api import meta
from podling.controllers.numbers import round_half_away, scaled
from podling.store.types import Object

HASH_LABEL = "pod-template-hash"
REVISION = "deployment.kubernetes.io/revision"
REVISION_HISTORY = "deployment.kubernetes.io/revision-history"
DESIRED_REPLICAS = "deployment.kubernetes.io/desired-replicas"
MAX_REPLICAS = "deployment.kubernetes.io/max-replicas"
ROLLBACK_TO = "deprecated.deployment.rollback.to"


def replicas(obj: Object) -> int:
    """`spec.replicas` of a deployment or replica set."""
    return meta.spec(obj).get("replicas", 1)


def is_rolling(deployment: Object) -> bool:
    return meta.part(deployment, "spec", "strategy").get("type", "RollingUpdate") == "RollingUpdate"


def fenceposts(deployment: Object) -> tuple[int, int]:
    """maxSurge (rounded up) and maxUnavailable (rounded down) as counts; never both 0, or nothing could move."""
    rolling = meta.part(deployment, "spec", "strategy", "rollingUpdate")
    wanted = replicas(deployment)
    surge = scaled(rolling.get("maxSurge", "25%"), wanted, round_up=True)
    unavailable = scaled(rolling.get("maxUnavailable", "25%"), wanted, round_up=False)
    if surge == 0 and unavailable == 0:
        unavailable = 1
    return surge, unavailable


def max_surge(deployment: Object) -> int:
    return fenceposts(deployment)[0] if is_rolling(deployment) else 0


def max_unavailable(deployment: Object) -> int:
    if not is_rolling(deployment) or replicas(deployment) == 0:
        return 0
    return min(fenceposts(deployment)[1], replicas(deployment))


def max_pods(deployment: Object) -> int:
    return replicas(deployment) + max_surge(deployment)


def min_available(deployment: Object) -> int:
    return replicas(deployment) - max_unavailable(deployment)


def same_template(one: Object, other: Object) -> bool:
    """Whether two pod templates are equal but for the hash label."""
    return bare_template(one) == bare_template(other)


def bare_template(template: Object) -> Object:
    labels = {key: value for key, value in meta.labels(template).items() if key != HASH_LABEL}
    metadata = {key: value for key, value in meta.metadata(template).items() if value and key != "labels"}
    return {**template, "metadata": {**metadata, "labels": labels} if labels else metadata}


def by_age(sets: Iterable[Object]) -> list[Object]:
    """Oldest first; those of one second by name."""
    return sorted(sets, key=lambda s: (meta.metadata(s).get("creationTimestamp", ""), meta.name(s)))


def find_new(deployment: Object, sets: Iterable[Object]) -> Object | None:
    """The replica set of the deployment's present template: the oldest, should there be several."""
    template: Object = meta.spec(deployment)["template"]
    return next((s for s in by_age(sets) if same_template(meta.spec(s)["template"], template)), None)


def revision(obj: Object) -> int:
    try:
        return int(meta.annotations(obj).get(REVISION, "0"))
    except ValueError:
        return 0


def last_revision(sets: Iterable[Object]) -> int:
    """The revision before the newest; 0 if there is none."""
    return sorted([0, 0, *(revision(s) for s in sets)])[-2]


def rollback_to(deployment: Object) -> int | None:
    """The revision that somebody asks to come back, 0 for the one before the present; `None` if nobody does."""
    try:
        return int(meta.annotations(deployment)[ROLLBACK_TO])
    except (KeyError, ValueError):
        return None


def new_set_size(deployment: Object, total: int, current: int) -> int:
    """How large the new replica set may be, if all sets together have `total` replicas and it has `current`."""
    if not is_rolling(deployment):
        return replicas(deployment)
    room = max_pods(deployment) - total
    if room <= 0:
        return current
    return current + min(room, replicas(deployment) - current)


def available(set: Object) -> int:
    return meta.status(set).get("availableReplicas", 0)


def is_saturated(deployment: Object, new: Object | None) -> bool:
    """Whether the new replica set has all replicas that the deployment wants, all of them available."""
    if new is None or meta.annotations(new).get(DESIRED_REPLICAS) != str(replicas(deployment)):
        return False
    return replicas(new) == replicas(deployment) == available(new)


def proportional_sizes(deployment: Object, sets: Sequence[Object]) -> dict[str, int]:
    """The size of each active replica set, by name, after a scaling in the middle of a rollout.

    What is to be added or taken away is shared in proportion to the sets' sizes, larger sets first; what rounding
    leaves goes to the first.
    """
    allowed = max_pods(deployment) if replicas(deployment) > 0 else 0
    to_add = allowed - sum(replicas(s) for s in sets)
    ordered = _newest_first(sets) if to_add > 0 else by_age(sets)
    ordered.sort(key=replicas, reverse=True)
    sizes: dict[str, int] = {}
    added = 0
    for set in ordered:
        share = _share(deployment, set, to_add, added)
        sizes[meta.name(set)] = replicas(set) + share
        added += share
    if ordered and to_add != 0:
        first = meta.name(ordered[0])
        sizes[first] = max(0, sizes[first] + to_add - added)
    return sizes


def _newest_first(sets: Iterable[Object]) -> list[Object]:
    return by_age(sets)[::-1]


def _share(deployment: Object, set: Object, to_add: int, added: int) -> int:
    if replicas(set) == 0 or to_add == 0 or to_add == added:
        return 0
    fraction = _fraction(deployment, set)
    return min(fraction, to_add - added) if to_add > 0 else max(fraction, to_add - added)


def _fraction(deployment: Object, set: Object) -> int:
    """By how much this set would change if every set changed as the deployment's maximum does."""
    if replicas(deployment) == 0:
        return -replicas(set)
    before = int(meta.annotations(set).get(MAX_REPLICAS, "0")) or meta.status(deployment).get("replicas", 0)
    if before == 0:
        return 0
    return round_half_away(Fraction(replicas(set) * max_pods(deployment), before)) - replicas(set)
