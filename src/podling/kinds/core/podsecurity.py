"""Validation of the security contexts of pods and containers."""

from __future__ import annotations

import re
from typing import Any, Final

from podling.api.errors import FieldError, duplicate, forbidden_field, invalid_value, not_supported, required, too_long
from podling.kinds.core.internal import STRUCTS
from podling.kinds.core.paths import relative_path
from podling.kinds.validation import fields, names
from podling.kinds.validation.fields import each, entries, part, text
from podling.store.types import Object

_ID_RANGE: Final = "must be between 0 and 2147483647, inclusive"
_LONGEST_CREDENTIALS: Final = 64 * 1024
_LONGEST_DOMAIN: Final = 256
_LONGEST_USER: Final = 104
_LONGEST_PATH: Final = 4095
_MAX_ID: Final = 2**31 - 1
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
    for key in ("fsGroup", "runAsUser", "runAsGroup"):
        errors += _id(f"{path}.{key}", context.get(key))
    for at, group in each(f"{path}.supplementalGroups", context.get("supplementalGroups")):
        errors += _id(at, group)
    if spec.get("shareProcessNamespace") and spec.get("hostPID"):
        detail = "ShareProcessNamespace and HostPID cannot both be enabled"
        errors.append(invalid_value(f"{path}.shareProcessNamespace", True, detail))
    errors += _sysctls(context.get("sysctls"), spec, f"{path}.sysctls")
    if (policy := context.get("fsGroupChangePolicy")) is not None:
        errors += fields.one_of(f"{path}.fsGroupChangePolicy", policy, ("Always", "OnRootMismatch"))
    errors += _seccomp(context.get("seccompProfile"), f"{path}.seccompProfile")
    errors += _windows(context.get("windowsOptions"), f"{path}.windowsOptions")
    errors += app_armor(context.get("appArmorProfile"), f"{path}.appArmorProfile")
    if (policy := context.get("supplementalGroupsPolicy")) is not None:
        errors += fields.one_of(f"{path}.supplementalGroupsPolicy", policy, ("Merge", "Strict"))
    if (policy := context.get("seLinuxChangePolicy")) is not None:
        # The other one, MountOption, belongs to a feature that is off.
        errors += fields.one_of(f"{path}.seLinuxChangePolicy", policy, ("Recursive",))
    return errors


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
    errors += _seccomp(context.get("seccompProfile"), f"{path}.seccompProfile")
    errors += _escalation(context, path)
    errors += _windows(context.get("windowsOptions"), f"{path}.windowsOptions")
    return errors + app_armor(context.get("appArmorProfile"), f"{path}.appArmorProfile")


def _escalation(context: Object, path: str) -> list[FieldError]:
    if context.get("allowPrivilegeEscalation") is not False:
        return []
    errors: list[FieldError] = []
    if context.get("privileged"):
        detail = "cannot set `allowPrivilegeEscalation` to false and `privileged` to true"
        errors.append(invalid_value(path, STRUCTS.shown("SecurityContext", context), detail))
    detail = "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN"
    added: list[str] = entries(part(context, "capabilities"), "add")
    return errors + [
        invalid_value(path, STRUCTS.shown("SecurityContext", context), detail)
        for name in added
        if name == "CAP_SYS_ADMIN"
    ]


_PROFILES: Final = ("Localhost", "RuntimeDefault", "Unconfined")


def _seccomp(profile: Object | None, path: str) -> list[FieldError]:
    if profile is None:
        return []
    kind, local = text(profile, "type"), profile.get("localhostProfile")
    detail = "type is required when seccompProfile is set"
    errors = fields.one_of(f"{path}.type", kind, _PROFILES) if kind else [required(f"{path}.type", detail)]
    at = f"{path}.localhostProfile"
    if kind == "Localhost":
        if local is None:
            return [*errors, required(at, "must be set when seccomp type is Localhost")]
        return errors + relative_path(local, at)
    if local is not None:
        shown = STRUCTS.shown("SeccompProfile", profile)
        errors.append(invalid_value(at, shown, "can only be set when seccomp type is Localhost"))
    return errors


def app_armor(profile: Object | None, path: str) -> list[FieldError]:
    if profile is None:
        return []
    kind, local, at = text(profile, "type"), profile.get("localhostProfile"), f"{path}.localhostProfile"
    match kind:
        case "Localhost":
            return _app_armor_file(local, at)
        case "RuntimeDefault" | "Unconfined":
            detail = "can only be set when AppArmor type is Localhost"
            return [] if local is None else [invalid_value(at, local, detail)]
        case "":
            return [required(f"{path}.type", "type is required when appArmorProfile is set")]
        case _:
            return [not_supported(f"{path}.type", kind, _PROFILES)]


def _app_armor_file(local: str | None, path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    if not local:
        return [required(path, "must be set when AppArmor type is Localhost")]
    if local.strip() != local:
        errors.append(invalid_value(path, local, "must not be padded with whitespace"))
    if len(local) > _LONGEST_PATH:
        errors.append(too_long(path, _LONGEST_PATH))
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
    if (user := options.get("runAsUserName")) is not None:
        errors += fields.check(f"{path}.runAsUserName", user, _windows_user)
    return errors


def _windows_user(name: str) -> list[str]:
    """`user` or `DOMAIN\\user`."""
    if not name:
        return ["runAsUserName cannot be an empty string"]
    if re.search(r"[\x00-\x1f\x7f]", name):
        return ["runAsUserName cannot contain control characters"]
    if name.count("\\") > 1:
        return ["runAsUserName cannot contain more than one backslash"]
    domain, backslash, user = name.rpartition("\\")
    problems = _windows_domain(domain) if backslash else []
    if not user:
        problems.append("runAsUserName's User cannot be empty")
    elif len(user) > _LONGEST_USER:
        problems.append(f"runAsUserName's User length must not be longer than {_LONGEST_USER} characters")
    if re.fullmatch(r"[. ]+", user):
        problems.append("runAsUserName's User cannot contain only periods or spaces")
    if re.search(r'["/\\:;|=,+*?<>@\[\]]', user):
        problems.append("runAsUserName's User cannot contain the following characters: \"/\\:;|=,+*?<>@[]")
    return problems


_NETBIOS: Final = r'[^\\/:*?"<>|.][^\\/:*?"<>|]{0,14}'
_DOMAIN_LABEL: Final = "[a-zA-Z0-9](?:[a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?"


def _windows_domain(domain: str) -> list[str]:
    problems: list[str] = []
    if len(domain) >= _LONGEST_DOMAIN:
        problems.append(f"runAsUserName's Domain length must be under {_LONGEST_DOMAIN} characters")
    if not re.fullmatch(rf"{_NETBIOS}|{_DOMAIN_LABEL}(?:\.{_DOMAIN_LABEL})*", domain):
        problems.append("runAsUserName's Domain doesn't match the NetBios nor the DNS format")
    return problems


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
    """`hostUsers: false` cannot be had together with the host's other namespaces, nor with raw devices."""
    if spec.get("hostUsers") is not False:
        return []
    detail = "when `hostUsers` is false"
    # Kubernetes writes two of these paths so.
    shown = {"hostNetwork": "hostNetwork", "hostPID": "HostPID", "hostIPC": "HostIPC"}
    errors = [forbidden_field(f"{path}.{name}", detail) for key, name in shown.items() if spec.get(key)]
    for key in ("initContainers", "containers", "ephemeralContainers"):
        for at, container in each(f"{path}.{key}", spec.get(key)):
            if container.get("volumeDevices"):
                errors.append(forbidden_field(f"{at}.volumeDevices", detail))
    return errors
