"""Validation of probes and lifecycle handlers."""

from __future__ import annotations

import re
from typing import Final

from podling.api.errors import FieldError, forbidden_field, invalid_value, required
from podling.kinds.validation import fields
from podling.kinds.validation.fields import each, text
from podling.store.types import Object

_COUNTS: Final = ("initialDelaySeconds", "timeoutSeconds", "periodSeconds", "successThreshold", "failureThreshold")
_SCHEMES: Final = ("HTTP", "HTTPS")
_HEADER: Final = "[-A-Za-z0-9]+"


def _probe(probe: Object, grace_period: int, path: str) -> list[FieldError]:
    errors = handler(probe, path, grace_period, kinds=("exec", "httpGet", "tcpSocket", "grpc"))
    for key in _COUNTS:
        errors += fields.non_negative(f"{path}.{key}", probe.get(key))
    return errors + fields.positive(f"{path}.terminationGracePeriodSeconds", probe.get("terminationGracePeriodSeconds"))


def liveness_like(probe: Object | None, grace_period: int, path: str) -> list[FieldError]:
    """Liveness and startup probes: one success is enough by definition."""
    if probe is None:
        return []
    errors = _probe(probe, grace_period, path)
    if probe.get("successThreshold") != 1:
        errors.append(invalid_value(f"{path}.successThreshold", probe.get("successThreshold") or 0, "must be 1"))
    return errors


def readiness(probe: Object | None, grace_period: int, path: str) -> list[FieldError]:
    if probe is None:
        return []
    errors = _probe(probe, grace_period, path)
    period = probe.get("terminationGracePeriodSeconds")
    if period is not None:
        detail = "must not be set for readinessProbes"
        errors.append(invalid_value(f"{path}.terminationGracePeriodSeconds", period, detail))
    return errors


def handler(
    action: Object, path: str, grace_period: int, kinds: tuple[str, ...] = ("exec", "httpGet", "tcpSocket", "sleep")
) -> list[FieldError]:
    """Exactly one action, and that one well formed."""
    given = [kind for kind in kinds if action.get(kind) is not None]
    if not given:
        return [required(path, "must specify a handler type")]
    errors = _action(given[0], action[given[0]], f"{path}.{given[0]}", grace_period)
    return errors + [
        forbidden_field(f"{path}.{kind}", "may not specify more than 1 handler type") for kind in given[1:]
    ]


def _action(kind: str, action: Object, path: str, grace_period: int) -> list[FieldError]:
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
    for _, header in each(f"{path}.httpHeaders", action.get("httpHeaders")):
        name = text(header, "name")
        if not re.fullmatch(_HEADER, name):
            detail = (
                "a valid HTTP header must consist of alphanumeric characters or '-' (e.g. 'X-Header-Name', "
                f"regex used for validation is '{_HEADER}')"
            )
            errors.append(invalid_value(f"{path}.httpHeaders", name, detail))
    return errors


def _sleep(action: Object, path: str, grace_period: int) -> list[FieldError]:
    seconds = action.get("seconds") or 0
    if 0 <= seconds <= grace_period:
        return []
    detail = f"must be non-negative and less than terminationGracePeriodSeconds ({grace_period})."
    return [invalid_value(path, seconds, detail)]
