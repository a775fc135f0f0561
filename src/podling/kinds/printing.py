"""What `kubectl get` prints: shared columns, ages, and the ways in which lists and selectors become text.

The cells follow Kubernetes' `pkg/printers/internalversion/printers.go`. Most column descriptions are the API's own
field documentation; `doc` reads them from a file that `tools/build_column_docs.py` makes from the published schema.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any, Final, cast

import orjson

from podling.api.ages import UNKNOWN as UNKNOWN
from podling.api.ages import age as age
from podling.api.ages import duration as duration
from podling.api.ages import since as since
from podling.api.resources import Column
from podling.kinds.validation.fields import entries, part, text
from podling.store.types import Object

NONE: Final = "<none>"
UNSET: Final = "<unset>"
_DOCS: Final = Path(__file__).parent / "data" / "column_docs.json"


@cache
def _docs() -> Mapping[str, str]:
    return cast(Mapping[str, str], orjson.loads(_DOCS.read_bytes()))


def doc(field: str) -> str:
    """The documentation of an API field: `doc("core.v1.PodStatus.podIP")`."""
    return _docs()[field]


def name_column(priority: int = 0) -> Column:
    return Column("Name", format="name", description=doc("meta.v1.ObjectMeta.name"), priority=priority)


def age_column() -> Column:
    return Column("Age", description=doc("meta.v1.ObjectMeta.creationTimestamp"))


def template_columns(selector: str = "") -> tuple[Column, ...]:
    """The wide columns of a workload; `selector` documents its selector."""
    columns = (
        Column("Containers", description="Names of each container in the template.", priority=1),
        Column("Images", description="Images referenced by each container in the template.", priority=1),
    )
    return (*columns, Column("Selector", description=selector, priority=1)) if selector else columns


def name(obj: Object) -> str:
    return text(part(obj, "metadata"), "name")


def joined(items: Sequence[str] | None, limit: int = 0) -> str:
    """`a,b`; with a limit: `a,b,c + 2 more...`."""
    values = list(items or ())
    if not values:
        return NONE
    if limit and len(values) > limit:
        return f"{','.join(values[:limit])} + {len(values) - limit} more..."
    return ",".join(values)


def labels(values: Mapping[str, str] | None) -> str:
    """`a=b,c=d`, sorted."""
    return ",".join(f"{k}={v}" for k, v in sorted((values or {}).items())) or NONE


def selector(value: Object | None) -> str:
    """A label selector in the notation of `kubectl -l`."""
    if value is None:
        return NONE
    requirements = [(k, f"{k}={v}") for k, v in part(value, "matchLabels").items()]
    requirements += [(text(e, "key"), _requirement(e)) for e in entries(value, "matchExpressions")]
    return ",".join(shown for _, shown in sorted(requirements, key=lambda r: r[0])) or NONE


def _requirement(expression: Object) -> str:
    key = text(expression, "key")
    values = ",".join(sorted(expression.get("values") or ()))
    match expression.get("operator"):
        case "In":
            return f"{key} in ({values})"
        case "NotIn":
            return f"{key} notin ({values})"
        case "DoesNotExist":
            return f"!{key}"
        case _:
            return key


def containers(template: Object) -> list[str]:
    """The cells of the columns Containers and Images."""
    items: Sequence[Object] = entries(part(template, "spec"), "containers")
    return [",".join(text(c, key) for c in items) for key in ("name", "image")]


def boolean(value: Any) -> str:
    return "True" if value else "False"


def created_columns() -> tuple[Column, ...]:
    return (name_column(), Column("Created At", "date", description=doc("meta.v1.ObjectMeta.creationTimestamp")))


def created_row(obj: Object, now: datetime) -> list[Any]:  # noqa: ARG001  a Row: it shows a time, not an age
    """The row of the kinds that print when they were made."""
    return [name(obj), part(obj, "metadata").get("creationTimestamp")]


def age_row(obj: Object, now: datetime) -> list[Any]:
    """The row of the kinds that print only name and age."""
    return [name(obj), age(obj, now)]


def age_columns() -> tuple[Column, ...]:
    return (name_column(), age_column())


def replica_row(obj: Object, now: datetime, selector_text: str) -> list[Any]:
    """The cells of the kinds that keep a number of pods: ReplicaSet and ReplicationController."""
    spec, status = part(obj, "spec"), part(obj, "status")
    counts = [spec.get("replicas", 0), status.get("replicas", 0), status.get("readyReplicas", 0)]
    return [name(obj), *counts, age(obj, now), *containers(part(spec, "template")), selector_text]
