"""PriorityLevelConfiguration: how many requests of a level are served at once. Stored for clients that manage it."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from podling.api.errors import FieldError, forbidden_field, required
from podling.api.resources import Column, Resource, Strategy, Write
from podling.kinds.core.workload import keep_status
from podling.kinds.printing import NONE, age, age_column, doc, name, name_column
from podling.kinds.validation import fields
from podling.kinds.validation.fields import part, text
from podling.kinds.validation.meta import object_meta
from podling.store.types import Object

_QUEUING = {"queues": 64, "handSize": 8, "queueLengthLimit": 50}


def default(obj: Object) -> None:
    spec: Object = obj.setdefault("spec", {})
    limited: Object | None = spec.get("limited")
    if limited is not None:
        for key, value in (("nominalConcurrencyShares", 30), ("lendablePercent", 0)):
            if limited.get(key) is None:
                limited[key] = value
        for key, value in _QUEUING.items():
            queuing: Object | None = part(limited, "limitResponse").get("queuing")
            if queuing is not None and not queuing.get(key):
                queuing[key] = value
    exempt: Object | None = spec.get("exempt")
    if exempt is not None:
        for key in ("nominalConcurrencyShares", "lendablePercent"):
            exempt.setdefault(key, 0)
    obj.setdefault("status", {})


def validate(write: Write) -> list[FieldError]:
    errors = object_meta(write)
    spec = part(write.new, "spec")
    kind = text(spec, "type")
    if kind == "Exempt" and spec.get("limited") is not None:
        errors.append(forbidden_field("spec.limited", "must be nil if the type is not Limited"))
    if kind == "Limited" and spec.get("exempt") is not None:
        errors.append(forbidden_field("spec.exempt", "must be nil if the type is Limited"))
    if kind == "Limited" and spec.get("limited") is None:
        errors.append(required("spec.limited", "must not be empty when type is Limited"))
    return errors + fields.one_of("spec.type", kind, ("Exempt", "Limited"))


def _columns() -> tuple[Column, ...]:
    return (
        name_column(),
        Column("Type", description=doc("flowcontrol.v1.PriorityLevelConfigurationSpec.type")),
        Column(
            "NominalConcurrencyShares",
            description=doc("flowcontrol.v1.LimitedPriorityLevelConfiguration.nominalConcurrencyShares"),
        ),
        Column("Queues", description=doc("flowcontrol.v1.QueuingConfiguration.queues")),
        Column("HandSize", description=doc("flowcontrol.v1.QueuingConfiguration.handSize")),
        Column("QueueLengthLimit", description=doc("flowcontrol.v1.QueuingConfiguration.queueLengthLimit")),
        age_column(),
    )


def row(obj: Object, now: datetime) -> list[Any]:
    spec = part(obj, "spec")
    limited = part(spec, "limited")
    queuing = part(limited, "limitResponse", "queuing")
    shares = limited.get("nominalConcurrencyShares", NONE)
    queues = [queuing.get(key, NONE) for key in ("queues", "handSize", "queueLengthLimit")]
    return [name(obj), text(spec, "type"), shares, *queues, age(obj, now)]


def resource() -> Resource:
    return Resource(
        group="flowcontrol.apiserver.k8s.io",
        version="v1",
        kind="PriorityLevelConfiguration",
        plural="prioritylevelconfigurations",
        singular="prioritylevelconfiguration",
        namespaced=False,
        schema="io.k8s.api.flowcontrol.v1.PriorityLevelConfiguration",
        status=True,
        strategy=Strategy(default=default, prepare=keep_status, validate=validate),
        columns=_columns(),
        row=row,
    )
