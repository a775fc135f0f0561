"""Validation of the security contexts of pods and containers."""

from __future__ import annotations

import re
from typing import Any, Final

from podling.api.errors import FieldError, duplicate, forbidden_field, invalid_value, not_supported, required
from podling.kinds.validation import fields, names
from podling.kinds.validation.fields import each, entries, part, text
from podling.store.types import Object

_ID_RANGE: Final = "must be between 0 and 2147483647, inclusive"
_LONGEST_CREDENTIALS: Final = 64 * 1024
_MAX_ID: Final = 2**31 - 1
_SECCOMP: Final = ("Localhost", "RuntimeDefault", "Unconfined")
_SYSCTL: Final = r"([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?"
_SYSCTL_SHOWN: Final = r"^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$"
_NAMESPACED: Final = {
    "hostIPC": ("kernel.shm", "kernel.msg", "kernel.sem", "fs.mqueue."),
    "hostNetwork": ("net.",),
}


def _id(path: str, value: Any) -> list[FieldError]:
    return [] if value is None or 0 <= value <= _MAX_ID else [invalid_value(path, value, _ID_RANGE)]


def pod_security(spec: Object, path: str) -> list[FieldError]:
    context: Object = part(spec, "securityContext")
    errors: list[FieldError] = []
    errors += _id(f"{path}.fsGroup", context.get("fsGroup"))
    errors += _id(f"{path}.runAsUser", context.get("runAsUser"))
    errors += _id(f"{path}.runAsGroup", context.get("runAsGroup"))
    for at, group in each(f"{path}.supplementalGroups", context.get("supplementalGroups")):
        errors += _id(at, group)
    if (policy := context.get("supplementalGroupsPolicy")) is not None:
        errors += fields.one_of(f"{path}.supplementalGroupsPolicy", policy, ("Merge", "Strict"))
    if spec.get("shareProcessNamespace") and spec.get("hostPID"):
        detail = "ShareProcessNamespace and HostPID cannot both be enabled"
        errors.append(invalid_value(f"{path}.shareProcessNamespace", True, detail))
    errors += _sysctls(context.get("sysctls"), spec, f"{path}.sysctls")
    if (policy := context.get("fsGroupChangePolicy")) is not None:
        errors += fields.one_of(f"{path}.fsGroupChangePolicy", policy, ("Always", "OnRootMismatch"))
    if (policy := context.get("seLinuxChangePolicy")) is not None:
        errors += fields.one_of(f"{path}.seLinuxChangePolicy", policy, ("MountOption", "Recursive"))
    errors += _profile(context.get("seccompProfile"), f"{path}.seccompProfile")
    errors += _profile(context.get("appArmorProfile"), f"{path}.appArmorProfile")
    return errors + _windows(context.get("windowsOptions"), f"{path}.windowsOptions")


def container_security(context: Object | None, path: str, host_users: bool) -> list[FieldError]:
    if not context:
        return []
    errors = _id(f"{path}.runAsUser", context.get("runAsUser"))
    errors += _id(f"{path}.runAsGroup", context.get("runAsGroup"))
    if (mount := context.get("procMount")) is not None:
        errors += fields.one_of(f"{path}.procMount", mount, ("Default", "Unmasked"))
        if mount == "Unmasked" and host_users:
            detail = "`hostUsers` must be false to use `Unmasked`"
            errors.append(invalid_value(f"{path}.procMount", mount, detail))
    errors += _profile(context.get("seccompProfile"), f"{path}.seccompProfile")
    errors += _escalation(context, path)
    errors += _windows(context.get("windowsOptions"), f"{path}.windowsOptions")
    return errors + _profile(context.get("appArmorProfile"), f"{path}.appArmorProfile")


def _escalation(context: Object, path: str) -> list[FieldError]:
    if context.get("allowPrivilegeEscalation") is not False:
        return []
    errors: list[FieldError] = []
    if context.get("privileged"):
        detail = "cannot set `allowPrivilegeEscalation` to false and `privileged` to true"
        errors.append(invalid_value(path, _shown(context), detail))
    if "CAP_SYS_ADMIN" in (entries(part(context, "capabilities"), "add")):
        detail = "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN"
        errors.append(invalid_value(path, _shown(context), detail))
    return errors


_GO_FIELDS: Final = (
    "capabilities",
    "privileged",
    "seLinuxOptions",
    "windowsOptions",
    "runAsUser",
    "runAsGroup",
    "runAsNonRoot",
    "readOnlyRootFilesystem",
    "allowPrivilegeEscalation",
    "procMount",
    "seccompProfile",
    "appArmorProfile",
)


def _shown(context: Object) -> Object:
    """The context as an internal Go value."""
    shown = {key[0].upper() + key[1:]: context.get(key) for key in _GO_FIELDS}
    capabilities: Object | None = context.get("capabilities")
    if capabilities is not None:
        shown["Capabilities"] = {"Add": capabilities.get("add"), "Drop": capabilities.get("drop")}
    return shown


def _profile(profile: Object | None, path: str) -> list[FieldError]:
    """A seccomp or AppArmor profile: `localhostProfile` belongs to type Localhost and to no other."""
    if profile is None:
        return []
    seccomp = path.endswith("seccompProfile")
    kind, local = text(profile, "type"), profile.get("localhostProfile")
    errors: list[FieldError] = []
    if not kind:
        errors.append(required(f"{path}.type", "type is required when seccompProfile is set" if seccomp else ""))
    elif kind not in _SECCOMP:
        errors.append(not_supported(f"{path}.type", kind, _SECCOMP))
    if kind == "Localhost":
        errors += _local_profile(local, f"{path}.localhostProfile", seccomp)
    elif local is not None:
        detail = f"can only be set when {'seccomp' if seccomp else 'AppArmor'} type is Localhost"
        errors.append(invalid_value(f"{path}.localhostProfile", local, detail))
    return errors


def _local_profile(local: str | None, path: str, seccomp: bool) -> list[FieldError]:
    if local is None:
        word = "seccomp" if seccomp else "AppArmor"
        return [required(path, f"must be set when {word} type is Localhost")]
    if not seccomp and not local.strip():
        return [required(path, "must be set when AppArmor type is Localhost")]
    errors: list[FieldError] = []
    if seccomp and local.startswith("/"):
        errors.append(invalid_value(path, local, "must be a relative path"))
    if ".." in local.split("/"):
        errors.append(invalid_value(path, local, "must not contain '..'"))
    return errors


def _sysctls(items: list[Object] | None, spec: Object, path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    seen: set[str] = set()
    for at, item in each(path, items):
        name = text(item, "name")
        if not name:
            errors.append(required(f"{at}.name"))
        elif len(name) > 253 or not re.fullmatch(_SYSCTL, name):
            detail = f"must have at most 253 characters and match regex {_SYSCTL_SHOWN}"
            errors.append(invalid_value(f"{at}.name", name, detail))
        elif name in seen:
            errors.append(duplicate(f"{at}.name", name))
        errors += _host_sysctl(name.replace("/", "."), spec, f"{at}.name")
        seen.add(name)
    return errors


def _host_sysctl(name: str, spec: Object, path: str) -> list[FieldError]:
    for key, prefixes in _NAMESPACED.items():
        if spec.get(key) and name.startswith(prefixes):
            return [invalid_value(path, name, f"may not be specified when '{key}' is true")]
    return []


def _windows(options: Object | None, path: str) -> list[FieldError]:
    if not options:
        return []
    errors: list[FieldError] = []
    if (name := options.get("gmsaCredentialSpecName")) is not None:
        errors += fields.check(f"{path}.gmsaCredentialSpecName", name, names.dns1123_subdomain)
    credentials: str | None = options.get("gmsaCredentialSpec")
    if credentials == "":
        errors.append(invalid_value(f"{path}.gmsaCredentialSpec", "", "gmsaCredentialSpec cannot be an empty string"))
    elif credentials is not None and len(credentials) > _LONGEST_CREDENTIALS:
        detail = f"gmsaCredentialSpec size must be under {_LONGEST_CREDENTIALS // 1024} KiB"
        errors.append(invalid_value(f"{path}.gmsaCredentialSpec", credentials, detail))
    user = options.get("runAsUserName")
    if user == "":
        errors.append(invalid_value(f"{path}.runAsUserName", user, "runAsUserName cannot be an empty string"))
    elif user is not None and re.search(r"[\x00-\x1f\x7f]", user):
        errors.append(invalid_value(f"{path}.runAsUserName", user, "runAsUserName cannot contain control characters"))
    return errors


def host_process(spec: Object, path: str) -> list[FieldError]:
    """Windows containers that run in the host: all of a pod or none, and only in the host's network."""
    whole = part(spec, "securityContext", "windowsOptions").get("hostProcess")
    errors: list[FieldError] = []
    count = held = 0
    for key in ("initContainers", "containers", "ephemeralContainers"):
        for at, container in each(f"{path}.{key}", spec.get(key)):
            own = part(container, "securityContext", "windowsOptions").get("hostProcess")
            if whole is not None and own is not None and whole != own:
                detail = f"pod hostProcess value must be identical if both are specified, was {str(whole).lower()}"
                errors.append(invalid_value(f"{at}.securityContext.windowsOptions.hostProcess", own, detail))
            count += 1
            held += bool(own if own is not None else whole)
    if held and held != count:
        detail = "If pod contains any hostProcess containers then all containers must be HostProcess containers"
        errors.append(invalid_value(path, "", detail))
    if held and not spec.get("hostNetwork"):
        detail = "hostNetwork must be true if pod contains any hostProcess containers"
        errors.append(invalid_value(f"{path}.hostNetwork", False, detail))
    return errors


def host_users(spec: Object, path: str) -> list[FieldError]:
    """`hostUsers: false` cannot be had together with the host's other namespaces."""
    if spec.get("hostUsers") is not False:
        return []
    errors: list[FieldError] = []
    for key in ("hostNetwork", "hostPID", "hostIPC"):
        if spec.get(key):
            errors.append(forbidden_field(f"{path}.{key}", "when `hostUsers` is false"))
    return errors
