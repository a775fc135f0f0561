"""PriorityLevelConfiguration: how many requests of a level are served at once. Stored for clients that manage it."""

from __future__ import annotations

import math
from datetime import datetime
from typing import Any, Final

from podling.api.errors import FieldError, forbidden_field, invalid_value, required
from podling.api.resources import STATUS_ALONE, Column, Resource, Strategy, Write
from podling.kinds.core.workload import keep_status
from podling.kinds.flowcontrol.flowschema import conditions
from podling.kinds.printing import NONE, age, age_column, doc, name, name_column
from podling.kinds.validation import fields
from podling.kinds.validation.fields import part, text
from podling.kinds.validation.meta import common, whole
from podling.store.types import Object

_EXEMPT: Final = "exempt"
_WHOLE: Final = 100
_POSITIVE: Final = "must be positive"
_MAX_QUEUES: Final = 10_000_000
_HASH_BITS: Final = 60
_QUEUING: Final = {"queues": 64, "handSize": 8, "queueLengthLimit": 50}


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
    status = conditions(part(write.new, "status"))
    if write.subresource == "status":
        return common(write) + status
    return common(write) + whole(write) + _spec(part(write.new, "spec"), name(write.new)) + status


def _spec(spec: Object, level: str) -> list[FieldError]:
    kind = text(spec, "type")
    limited: Object | None = spec.get("limited")
    exempt: Object | None = spec.get("exempt")
    errors: list[FieldError] = []
    if (level == _EXEMPT) != (kind == "Exempt"):
        errors.append(invalid_value("spec.type", kind, "type must be 'Exempt' if and only if name is 'exempt'"))
    match kind:
        case "Exempt":
            if limited is not None:
                errors.append(forbidden_field("spec.limited", "must be nil if the type is not Limited"))
            errors += _shares(exempt or {}, "spec.exempt") + _percents(exempt or {}, "spec.exempt")
        case "Limited":
            if exempt is not None:
                errors.append(forbidden_field("spec.exempt", "must be nil if the type is Limited"))
            if limited is None:
                errors.append(required("spec.limited", "must not be empty when type is Limited"))
            else:
                errors += _limited(limited, "spec.limited")
        case _:
            errors += fields.one_of("spec.type", kind, ("Exempt", "Limited"))
    return errors


def _shares(limits: Object, path: str) -> list[FieldError]:
    shares = limits.get("nominalConcurrencyShares") or 0
    if shares >= 0:
        return []
    return [invalid_value(f"{path}.nominalConcurrencyShares", shares, "must be a non-negative integer")]


def _percents(limits: Object, path: str) -> list[FieldError]:
    lendable, borrowed = limits.get("lendablePercent"), limits.get("borrowingLimitPercent")
    errors: list[FieldError] = []
    if lendable is not None and not 0 <= lendable <= _WHOLE:
        detail = f"must be between 0 and {_WHOLE}, inclusive"
        errors.append(invalid_value(f"{path}.lendablePercent", lendable, detail))
    if borrowed is not None and borrowed < 0:
        detail = "if specified, must be a non-negative integer"
        errors.append(invalid_value(f"{path}.borrowingLimitPercent", borrowed, detail))
    return errors


def _limited(limited: Object, path: str) -> list[FieldError]:
    errors = _shares(limited, path)
    errors += _response(part(limited, "limitResponse"), f"{path}.limitResponse")
    return errors + _percents(limited, path)


def _response(response: Object, path: str) -> list[FieldError]:
    """That the messages speak of `Limited` where they mean `Queue` is Kubernetes' own."""
    queuing: Object | None = response.get("queuing")
    match text(response, "type"):
        case "Reject":
            detail = "must be nil if limited.limitResponse.type is not Limited"
            return [forbidden_field(f"{path}.queuing", detail)] if queuing is not None else []
        case "Queue":
            if queuing is None:
                detail = "must not be empty if limited.limitResponse.type is Limited"
                return [required(f"{path}.queuing", detail)]
            return _queuing_rules(queuing, f"{path}.queuing")
        case other:
            return fields.one_of(f"{path}.type", other, ("Queue", "Reject"))


def _queuing_rules(queuing: Object, path: str) -> list[FieldError]:
    length, queues, hand = (queuing.get(key) or 0 for key in ("queueLengthLimit", "queues", "handSize"))
    errors = [] if length > 0 else [invalid_value(f"{path}.queueLengthLimit", length, _POSITIVE)]
    if queues <= 0:
        errors.append(invalid_value(f"{path}.queues", queues, _POSITIVE))
    elif queues > _MAX_QUEUES:
        errors.append(invalid_value(f"{path}.queues", queues, f"must not be greater than {_MAX_QUEUES}"))
    at = f"{path}.handSize"
    if hand <= 0:
        errors.append(invalid_value(at, hand, _POSITIVE))
    elif hand > queues:
        errors.append(invalid_value(at, hand, f"should not be greater than queues ({queues})"))
    elif _entropy_bits(queues, hand) > _HASH_BITS:
        needed = f"required entropy bits of deckSize {queues} and handSize {hand}"
        errors.append(invalid_value(at, hand, f"{needed} should not be greater than {_HASH_BITS}"))
    return errors


def _entropy_bits(queues: int, hand: int) -> int:
    """How many bits of a hash it takes to deal a hand (`shufflesharding.RequiredEntropyBits`)."""
    return math.ceil(math.log2(queues) * hand)


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
        strategy=Strategy(default=default, prepare=keep_status, validate=validate, resets=STATUS_ALONE),
        columns=_columns(),
        row=row,
    )
