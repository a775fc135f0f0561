"""Validation of probes and lifecycle handlers."""

from __future__ import annotations

from typing import Final

from podling.api.errors import FieldError, forbidden_field, invalid_value, required
from podling.kinds.validation import fields, names
from podling.kinds.validation.fields import entries, text
from podling.store.types import Object

_COUNTS: Final = ("initialDelaySeconds", "timeoutSeconds", "periodSeconds", "successThreshold", "failureThreshold")
_SCHEMES: Final = ("HTTP", "HTTPS")
_PROBE_HANDLERS: Final = ("exec", "httpGet", "tcpSocket", "grpc")
_HOOK_HANDLERS: Final = ("exec", "httpGet", "tcpSocket", "sleep")


def _probe(probe: Object, path: str) -> list[FieldError]:
    errors = _one_of(_PROBE_HANDLERS, probe, path, None)
    for key in _COUNTS:
        errors += fields.non_negative(f"{path}.{key}", probe.get(key))
    return errors + fields.positive(f"{path}.terminationGracePeriodSeconds", probe.get("terminationGracePeriodSeconds"))


def liveness_like(probe: Object | None, path: str) -> list[FieldError]:
    """Liveness and startup probes: one success is enough by definition."""
    if probe is None:
        return []
    errors = _probe(probe, path)
    if probe.get("successThreshold") != 1:
        errors.append(invalid_value(f"{path}.successThreshold", probe.get("successThreshold") or 0, "must be 1"))
    return errors


def readiness(probe: Object | None, path: str) -> list[FieldError]:
    if probe is None:
        return []
    errors = _probe(probe, path)
    period = probe.get("terminationGracePeriodSeconds")
    if period is not None:
        detail = "must not be set for readinessProbes"
        errors.append(invalid_value(f"{path}.terminationGracePeriodSeconds", period, detail))
    return errors


def handler(action: Object, path: str, grace_period: int | None) -> list[FieldError]:
    """What runs after a container's start, or before its end."""
    return _one_of(_HOOK_HANDLERS, action, path, grace_period)


def _one_of(kinds: tuple[str, ...], action: Object, path: str, grace_period: int | None) -> list[FieldError]:
    """Exactly one action, and that one well formed."""
    given = [kind for kind in kinds if action.get(kind) is not None]
    if not given:
        return [required(path, "must specify a handler type")]
    errors = _action(given[0], action[given[0]], f"{path}.{given[0]}", grace_period)
    return errors + [
        forbidden_field(f"{path}.{kind}", "may not specify more than 1 handler type") for kind in given[1:]
    ]


def _action(kind: str, action: Object, path: str, grace_period: int | None) -> list[FieldError]:
    match kind:
        case "exec":
            return [] if action.get("command") else [required(f"{path}.command")]
        case "httpGet":
            return _http_get(action, path)
        case "sleep":
            return _sleep(action, path, grace_period)
        case "grpc":
            return fields.port(f"{path}.port", action.get("port") or 0)
        case _:
            return fields.port_or_name(f"{path}.port", action.get("port", 0))


def _http_get(action: Object, path: str) -> list[FieldError]:
    errors = [] if action.get("path") else [required(f"{path}.path")]
    errors += fields.port_or_name(f"{path}.port", action.get("port", 0))
    errors += fields.one_of(f"{path}.scheme", text(action, "scheme"), _SCHEMES)
    for header in entries(action, "httpHeaders"):
        errors += fields.check(f"{path}.httpHeaders", text(header, "name"), names.http_header)
    return errors


def _sleep(action: Object, path: str, grace_period: int | None) -> list[FieldError]:
    seconds = action.get("seconds") or 0
    if grace_period is None or 0 <= seconds <= grace_period:
        return []
    detail = f"must be non-negative and less than terminationGracePeriodSeconds ({grace_period})"
    return [invalid_value(path, seconds, detail)]
