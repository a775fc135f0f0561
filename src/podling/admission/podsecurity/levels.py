"""Which controls make up a level of the Pod Security Standards in which version, and how labels name a level."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

from podling.admission.podsecurity import checks
from podling.admission.podsecurity.checks import Check, Finding
from podling.api.errors import FieldError, invalid_value
from podling.store.types import Object

PREFIX = "pod-security.kubernetes.io/"
LEVELS = ("privileged", "baseline", "restricted")
LATEST = 10**6
"""The minor version that `latest` stands for: later than any."""

_VERSION = re.compile(r"v1\.([0-9]|[1-9][0-9]*)")


class Level(NamedTuple):
    """A level in a version: `restricted:v1.30`."""

    name: str = "privileged"
    minor: int = LATEST

    @property
    def rank(self) -> int:
        return LEVELS.index(self.name)

    def __str__(self) -> str:
        return f"{self.name}:{'latest' if self.minor == LATEST else f'v1.{self.minor}'}"


ALLOW_ALL = Level()


@dataclass(frozen=True, slots=True)
class Policy:
    """What a namespace's labels say; `problems` of labels that say nothing known."""

    enforce: Level = ALLOW_ALL
    warn: Level = ALLOW_ALL
    problems: tuple[FieldError, ...] = ()


def policy_of(labels: Mapping[str, str]) -> Policy:
    """Unknown levels enforce what is strictest, and warn of nothing."""
    problems: list[FieldError] = []
    enforce = _level(labels, "enforce", "restricted", problems)
    _level(labels, "audit", "privileged", problems)
    warn = _level(labels, "warn", "privileged", problems)
    is_known = labels.get(f"{PREFIX}enforce") in LEVELS
    if f"{PREFIX}warn" not in labels and is_known and enforce.rank > warn.rank:
        minor = warn.minor if f"{PREFIX}warn-version" in labels else enforce.minor
        warn = Level(enforce.name, minor)
    return Policy(enforce, warn, tuple(problems))


def _level(labels: Mapping[str, str], mode: str, unknown: str, problems: list[FieldError]) -> Level:
    name, minor = labels.get(f"{PREFIX}{mode}", "privileged"), LATEST
    if name not in LEVELS:
        problems.append(_problem(mode, name, f"must be one of {', '.join(LEVELS)}"))
        name = unknown
    version = labels.get(f"{PREFIX}{mode}-version", "latest")
    if version != "latest":
        match = _VERSION.fullmatch(version)
        if match is None:
            problems.append(_problem(f"{mode}-version", version, 'must be "latest" or "v1.x"'))
        else:
            minor = int(match[1])
    return Level(name, minor)


def _problem(key: str, value: str, why: str) -> FieldError:
    return invalid_value(f"metadata.labels[{PREFIX}{key}]", value, why)


class _Since(NamedTuple):
    """A control as it is from a minor version on."""

    minor: int
    check: Check


@dataclass(frozen=True, slots=True)
class _Control:
    name: str
    versions: tuple[_Since, ...]
    replaces: str = ""
    """The baseline control that a restricted one stands in for."""

    def at(self, minor: int) -> Check | None:
        return next((since.check for since in reversed(self.versions) if since.minor <= minor), None)


_SELINUX = ("container_t", "container_init_t", "container_kvm_t")
_SYSCTLS = (
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.ping_group_range",
    "net.ipv4.ip_unprivileged_port_start",
)
_SYSCTLS_27 = (*_SYSCTLS, "net.ipv4.ip_local_reserved_ports")
_SYSCTLS_29 = (
    *_SYSCTLS_27,
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
)
_SYSCTLS_32 = (*_SYSCTLS_29, "net.ipv4.tcp_rmem", "net.ipv4.tcp_wmem")

_BASELINE = (
    _Control("appArmorProfile", (_Since(0, checks.app_armor),)),
    _Control("capabilities_baseline", (_Since(0, checks.default_capabilities),)),
    _Control("hostNamespaces", (_Since(0, checks.host_namespaces),)),
    _Control("hostPathVolumes", (_Since(0, checks.host_path),)),
    _Control("hostPorts", (_Since(0, checks.host_ports),)),
    _Control("hostProbesAndHostLifecycle", (_Since(34, checks.probe_hosts),)),
    _Control("privileged", (_Since(0, checks.privileged),)),
    _Control("procMount", (_Since(0, checks.proc_mount), _Since(35, checks.not_in_user_namespace(checks.proc_mount)))),
    _Control(
        "seLinuxOptions",
        (_Since(0, checks.selinux(_SELINUX)), _Since(31, checks.selinux((*_SELINUX, "container_engine_t")))),
    ),
    _Control("seccompProfile_baseline", (_Since(0, checks.seccomp_annotations), _Since(19, checks.seccomp_allowed))),
    _Control(
        "sysctls",
        (
            _Since(0, checks.sysctls(_SYSCTLS)),
            _Since(27, checks.sysctls(_SYSCTLS_27)),
            _Since(29, checks.sysctls(_SYSCTLS_29)),
            _Since(32, checks.sysctls(_SYSCTLS_32)),
        ),
    ),
    _Control("windowsHostProcess", (_Since(0, checks.host_process),)),
)
_RESTRICTED = (
    _Control(
        "allowPrivilegeEscalation",
        (_Since(8, checks.no_escalation), _Since(25, checks.not_on_windows(checks.no_escalation))),
    ),
    _Control(
        "capabilities_restricted",
        (_Since(22, checks.dropped_capabilities), _Since(25, checks.not_on_windows(checks.dropped_capabilities))),
        replaces="capabilities_baseline",
    ),
    _Control("procMount_restricted", (_Since(35, checks.proc_mount),), replaces="procMount"),
    _Control("restrictedVolumes", (_Since(0, checks.restricted_volumes),), replaces="hostPathVolumes"),
    _Control("runAsNonRoot", (_Since(0, checks.non_root), _Since(35, checks.not_in_user_namespace(checks.non_root)))),
    _Control(
        "runAsUser",
        (_Since(23, checks.non_root_user), _Since(35, checks.not_in_user_namespace(checks.non_root_user))),
    ),
    _Control(
        "seccompProfile_restricted",
        (_Since(19, checks.seccomp_set), _Since(25, checks.not_on_windows(checks.seccomp_set))),
        replaces="seccompProfile_baseline",
    ),
)
"""Both in the order in which Kubernetes tells what it found: by name, those of the baseline first."""


@lru_cache(maxsize=64)
def checks_of(level: Level) -> tuple[Check, ...]:
    if level.name == "privileged":
        return ()
    restricted = _RESTRICTED if level.name == "restricted" else ()
    effective = [(control, check) for control in restricted if (check := control.at(level.minor)) is not None]
    replaced = {control.replaces for control, _ in effective}
    baseline = [c.at(level.minor) for c in _BASELINE if c.name not in replaced]
    return (*filter(None, baseline), *(check for _, check in effective))


def violations(level: Level, pod: Object) -> list[Finding]:
    """What the pod (or template) does that the level forbids."""
    return [finding for check in checks_of(level) if (finding := check(pod)) is not None]


def in_words(findings: list[Finding]) -> str:
    return ", ".join(f"{f.reason} ({f.detail})" if f.detail else f.reason for f in findings)
