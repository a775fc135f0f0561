"""Annotations of pods that mean something to Kubernetes: what was a field once, or became one later."""

from __future__ import annotations

import re
from typing import Any, Final, cast

from podling.api import gojson
from podling.api.errors import FieldError, forbidden_field, invalid_value
from podling.kinds.core import scheduling
from podling.kinds.core.containers import visit
from podling.kinds.core.paths import relative_path
from podling.kinds.validation.fields import part, text
from podling.store.types import Object

MIRROR: Final = "kubernetes.io/config.mirror"
_TOLERATIONS: Final = "scheduler.alpha.kubernetes.io/tolerations"
_DELETION_COST: Final = "controller.kubernetes.io/pod-deletion-cost"
SECCOMP_POD: Final = "seccomp.security.alpha.kubernetes.io/pod"
SECCOMP_CONTAINER: Final = "container.seccomp.security.alpha.kubernetes.io/"
APP_ARMOR: Final = "container.apparmor.security.beta.kubernetes.io/"
_LOCALHOST: Final = "localhost/"
_RUNTIME_DEFAULT: Final = ("runtime/default", "docker/default")
_UNCONFINED: Final = "unconfined"


def rules(annotations: Object, spec: Object, path: str) -> list[FieldError]:
    """What each of them must look like."""
    errors: list[FieldError] = []
    if MIRROR in annotations and not text(spec, "nodeName"):
        detail = "must set spec.nodeName if mirror pod annotation is set"
        errors.append(invalid_value(f"{path}[{MIRROR}]", annotations[MIRROR], detail))
    if written := annotations.get(_TOLERATIONS):
        errors += _tolerations(written, path)
    cost = annotations.get(_DELETION_COST)
    if cost is not None and not _is_cost(cost):
        errors.append(invalid_value(f"{path}[{_DELETION_COST}]", cost, "must be a 32bit integer"))
    for key, value in annotations.items():
        if key == SECCOMP_POD or key.startswith(SECCOMP_CONTAINER):
            errors += _seccomp(value, f"{path}.{key}")
    names = {text(container, "name") for _, container in visit(spec, "")}
    for key, value in annotations.items():
        if key.startswith(APP_ARMOR):
            errors += _app_armor(key.removeprefix(APP_ARMOR), value, names, f"{path}[{key}]")
    return errors


def _is_cost(value: str) -> bool:
    return re.fullmatch("0|-[0-9]+|[1-9][0-9]*", value, re.ASCII) is not None and -(2**31) <= int(value) < 2**31


def _tolerations(written: str, path: str) -> list[FieldError]:
    try:
        tolerations: Any = gojson.loads(written.encode())
    except gojson.JsonError as error:
        return [invalid_value(path, _TOLERATIONS, str(error))]
    listed = cast(list[Any], tolerations) if isinstance(tolerations, list) else []
    return scheduling.tolerations([cast(Object, t) for t in listed if isinstance(t, dict)], f"{path}.{_TOLERATIONS}")


def _seccomp(profile: str, path: str) -> list[FieldError]:
    if profile in (*_RUNTIME_DEFAULT, _UNCONFINED):
        return []
    if profile.startswith(_LOCALHOST):
        return relative_path(profile.removeprefix(_LOCALHOST), path)
    return [invalid_value(path, profile, "must be a valid seccomp profile")]


def _app_armor(container: str, profile: str, names: set[str], path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    if container not in names:
        errors.append(invalid_value(path, container, "container not found"))
    if profile and profile not in (_RUNTIME_DEFAULT[0], _UNCONFINED) and not profile.startswith(_LOCALHOST):
        errors.append(invalid_value(path, profile, f'invalid AppArmor profile name: "{profile}"'))
    return errors


def changes(after: Object, before: Object, path: str) -> list[FieldError]:
    """What a running pod is, and what confines it, stays."""
    errors: list[FieldError] = []
    kinds = ((APP_ARMOR, "AppArmor annotations"), (MIRROR, "mirror pod annotation"))
    for key, value in before.items():
        if after.get(key) != value:
            errors += [
                forbidden_field(f"{path}[{key}]", f"may not remove or update {called}")
                for prefix, called in kinds
                if _is_of(key, prefix)
            ]
    for key in after.keys() - before.keys():
        errors += [
            forbidden_field(f"{path}[{key}]", f"may not add {called}")
            for prefix, called in kinds
            if _is_of(key, prefix)
        ]
    return errors


def _is_of(key: str, prefix: str) -> bool:
    return key.startswith(prefix) if prefix.endswith("/") else key == prefix


# Profiles, which are annotations and fields


def profiles_match(annotations: Object, spec: Object, path: str) -> list[FieldError]:
    """Who writes a profile twice means the same one."""
    errors = _seccomp_match(annotations.get(SECCOMP_POD), part(spec, "securityContext"), f"{path}.securityContext")
    for at, container in visit(spec, path):
        key = SECCOMP_CONTAINER + text(container, "name")
        errors += _seccomp_match(annotations.get(key), part(container, "securityContext"), f"{at}.securityContext")
    if text(part(spec, "os"), "name") == "windows":
        return errors
    of_pod = part(spec, "securityContext").get("appArmorProfile")
    for at, container in visit(spec, path):
        profile = part(container, "securityContext").get("appArmorProfile") or of_pod
        written = annotations.get(APP_ARMOR + text(container, "name"))
        if profile is not None and written is not None:
            errors += _match(
                written, profile, f"{at}.securityContext.appArmorProfile", "apparmor", ("runtime/default",)
            )
    return errors


def _seccomp_match(written: str | None, context: Object, path: str) -> list[FieldError]:
    profile = context.get("seccompProfile")
    if written is None or profile is None:
        return []
    return _match(written, profile, f"{path}.seccompProfile", "seccomp", _RUNTIME_DEFAULT)


def _match(written: str, profile: Object, path: str, called: str, defaults: tuple[str, ...]) -> list[FieldError]:
    match text(profile, "type"):
        case "Unconfined":
            same = written == _UNCONFINED
        case "RuntimeDefault":
            same = written in defaults
        case "Localhost":
            same = written.startswith(_LOCALHOST)
            if same and written.removeprefix(_LOCALHOST) != profile.get("localhostProfile"):
                detail = f"{called} profile in annotation and field must match"
                return [forbidden_field(f"{path}.localhostProfile", detail)]
        case _:
            same = True
    return [] if same else [forbidden_field(f"{path}.type", f"{called} type in annotation and field must match")]


def app_armor_profile(written: str) -> Object | None:
    """The field that an annotation stands for; `None` for one that stands for nothing."""
    if written.startswith(_LOCALHOST):
        local = written.removeprefix(_LOCALHOST)
        return {"type": "Localhost", "localhostProfile": local} if local else None
    return {"runtime/default": {"type": "RuntimeDefault"}, _UNCONFINED: {"type": "Unconfined"}}.get(written)
