"""The controls of the Pod Security Standards: each says what is wrong with a pod, in Kubernetes' words.

A check is a pure function of the pod (or the template of one). What it finds is a reason and a detail.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from podling.api import meta
from podling.api.gotext import quoted
from podling.store.types import Object


class Finding(NamedTuple):
    reason: str
    detail: str


Check = Callable[[Object], Finding | None]

CONTAINER_LISTS = ("initContainers", "containers", "ephemeralContainers")


def containers(pod: Object) -> Iterator[Object]:
    for key in CONTAINER_LISTS:
        yield from meta.items(pod, "spec", key)


def context(part: Object) -> Object:
    return meta.part(part, "securityContext")


def _names(found: Iterable[Object]) -> list[str]:
    return [c["name"] for c in found]


def _where(pod: Object, wrong: Callable[[Object], bool]) -> list[str]:
    return _names(c for c in containers(pod) if wrong(context(c)))


# Words


def _quoted(texts: Iterable[str]) -> str:
    """As Kubernetes does it here: what is inside stays as it is."""
    return ", ".join(f'"{text}"' for text in texts)


def _plural(word: str, several: Collection[Any]) -> str:
    return word if len(several) == 1 else f"{word}s"


def _of_containers(names: Sequence[str]) -> str:
    return f"{_plural('container', names)} {_quoted(names)}"


def _setters(pod: bool, names: Sequence[str]) -> str:
    """Who set something: the pod, containers, or both."""
    return " and ".join([*(["pod"] if pod else []), *([_of_containers(names)] if names else [])])


# Baseline


_APPARMOR = "container.apparmor.security.beta.kubernetes.io/"
_APPARMOR_TYPES = ("RuntimeDefault", "Localhost")


def app_armor(pod: Object) -> Finding | None:
    def wrong(part: Object) -> str | None:
        profile = part.get("appArmorProfile")
        return None if profile is None or profile.get("type") in _APPARMOR_TYPES else profile.get("type", "")

    of_pod = wrong(context(meta.spec(pod)))
    names = _where(pod, lambda c: wrong(c) is not None)
    kinds = {kind for part in (meta.spec(pod), *containers(pod)) if (kind := wrong(context(part))) is not None}
    annotations = sorted(
        f"{key}={quoted(value)}" for key, value in meta.annotations(pod).items() if _is_wrong_profile(key, value)
    )
    setters = [_setters(of_pod is not None, names)] if of_pod is not None or names else []
    if annotations:
        setters.append(_plural("annotation", annotations))
    if not setters:
        return None
    values = [*sorted(kinds), *annotations]
    detail = f"{' and '.join(setters)} must not set AppArmor profile type to {_quoted(values)}"
    return Finding(_plural("forbidden AppArmor profile", values), detail)


def _is_wrong_profile(key: str, value: str) -> bool:
    return key.startswith(_APPARMOR) and value not in ("", "runtime/default") and not value.startswith("localhost/")


_DEFAULT_CAPABILITIES = frozenset(
    {
        "AUDIT_WRITE",
        "CHOWN",
        "DAC_OVERRIDE",
        "FOWNER",
        "FSETID",
        "KILL",
        "MKNOD",
        "NET_BIND_SERVICE",
        "SETFCAP",
        "SETGID",
        "SETPCAP",
        "SETUID",
        "SYS_CHROOT",
    }
)


def _added(pod: Object, allowed: Collection[str]) -> str:
    """Who adds capabilities beyond those allowed, and which; `""` for nobody."""
    extra = {
        c["name"]: [a for a in meta.part(context(c), "capabilities").get("add") or () if a not in allowed]
        for c in containers(pod)
    }
    names = [name for name, added in extra.items() if added]
    if not names:
        return ""
    added = sorted({a for some in extra.values() for a in some})
    return f"{_of_containers(names)} must not include {_quoted(added)} in securityContext.capabilities.add"


def default_capabilities(pod: Object) -> Finding | None:
    detail = _added(pod, _DEFAULT_CAPABILITIES)
    return Finding("non-default capabilities", detail) if detail else None


def host_namespaces(pod: Object) -> Finding | None:
    shared = [f"{field}=true" for field in ("hostNetwork", "hostPID", "hostIPC") if meta.spec(pod).get(field)]
    return Finding("host namespaces", ", ".join(shared)) if shared else None


def host_path(pod: Object) -> Finding | None:
    names = [v["name"] for v in meta.items(pod, "spec", "volumes") if v.get("hostPath") is not None]
    return Finding("hostPath volumes", f"{_plural('volume', names)} {_quoted(names)}") if names else None


def host_ports(pod: Object) -> Finding | None:
    used = {c["name"]: [p["hostPort"] for p in meta.items(c, "ports") if p.get("hostPort")] for c in containers(pod)}
    names = [name for name, ports in used.items() if ports]
    if not names:
        return None
    ports = sorted({str(port) for some in used.values() for port in some})
    use = "uses" if len(names) == 1 else "use"
    return Finding("hostPort", f"{_of_containers(names)} {use} {_plural('hostPort', ports)} {', '.join(ports)}")


_HANDLERS = (
    ("livenessProbe",),
    ("readinessProbe",),
    ("startupProbe",),
    ("lifecycle", "postStart"),
    ("lifecycle", "preStop"),
)


def probe_hosts(pod: Object) -> Finding | None:
    """Probes and hooks that go to another host than the pod."""
    found = {
        c["name"]: {
            host
            for way in _HANDLERS
            for kind in ("httpGet", "tcpSocket")
            if (host := meta.part(c, *way, kind).get("host"))
        }
        for c in containers(pod)
    }
    names = sorted(name for name, hosts in found.items() if hosts)
    if not names:
        return None
    hosts = sorted(set[str]().union(*found.values()))
    use = "uses" if len(names) == 1 else "use"
    what = f"{_plural('probe or lifecycle host', hosts)} {_quoted(hosts)}"
    return Finding("probe or lifecycle host", f"{_of_containers(names)} {use} {what}")


def privileged(pod: Object) -> Finding | None:
    names = _where(pod, lambda c: bool(c.get("privileged")))
    detail = f"{_of_containers(names)} must not set securityContext.privileged=true"
    return Finding("privileged", detail) if names else None


def proc_mount(pod: Object) -> Finding | None:
    names = _where(pod, lambda c: c.get("procMount") not in (None, "Default"))
    if not names:
        return None
    kinds = sorted({context(c)["procMount"] for c in containers(pod) if c["name"] in names})
    return Finding("procMount", f"{_of_containers(names)} must not set securityContext.procMount to {_quoted(kinds)}")


def selinux(types: Collection[str]) -> Check:
    """Of the types that containers may have besides none."""

    def check(pod: Object) -> Finding | None:
        parts = [o for p in (meta.spec(pod), *containers(pod)) if (o := context(p).get("seLinuxOptions"))]
        wrong = [o for o in parts if _selinux_wrong(o, types)]
        if not wrong:
            return None
        of_pod = _selinux_wrong(context(meta.spec(pod)).get("seLinuxOptions") or {}, types)
        names = _where(pod, lambda c: _selinux_wrong(c.get("seLinuxOptions") or {}, types))
        kinds = sorted({o["type"] for o in wrong if o.get("type") and o["type"] not in types})
        said = [f"{_plural('type', kinds)} {_quoted(kinds)}"] if kinds else []
        said += [f"{field} may not be set" for field in ("user", "role") if any(o.get(field) for o in wrong)]
        detail = f"{_setters(of_pod, names)} set forbidden securityContext.seLinuxOptions: {'; '.join(said)}"
        return Finding("seLinuxOptions", detail)

    return check


def _selinux_wrong(options: Object, types: Collection[str]) -> bool:
    kind = options.get("type")
    return bool((kind and kind not in types) or options.get("user") or options.get("role"))


_SECCOMP_TYPES = ("Localhost", "RuntimeDefault")
_SECCOMP_POD = "seccomp.security.alpha.kubernetes.io/pod"
_SECCOMP_CONTAINER = "container.seccomp.security.alpha.kubernetes.io/"


def seccomp_annotations(pod: Object) -> Finding | None:
    """How profiles were chosen up to 1.18."""
    annotations = meta.annotations(pod)
    keys = {_SECCOMP_POD, *(_SECCOMP_CONTAINER + c["name"] for c in containers(pod))}
    wrong = sorted(
        f"{key}={quoted(annotations[key])}"
        for key in keys & annotations.keys()
        if annotations[key] not in ("runtime/default", "docker/default")
        and not annotations[key].startswith("localhost/")
    )
    return Finding("seccompProfile", f"forbidden {_plural('annotation', wrong)} {', '.join(wrong)}") if wrong else None


def seccomp_allowed(pod: Object) -> Finding | None:
    """A profile that is set is a safe one."""
    of_pod = _seccomp_wrong(context(meta.spec(pod)))
    names = _where(pod, _seccomp_wrong)
    if not of_pod and not names:
        return None
    parts = [context(part) for part in (meta.spec(pod), *containers(pod))]
    kinds = sorted({part["seccompProfile"].get("type", "") for part in parts if _seccomp_wrong(part)})
    detail = f"{_setters(of_pod, names)} must not set securityContext.seccompProfile.type to {_quoted(kinds)}"
    return Finding("seccompProfile", detail)


def _seccomp_wrong(part: Object) -> bool:
    profile = part.get("seccompProfile")
    return profile is not None and profile.get("type") not in _SECCOMP_TYPES


def sysctls(allowed: Collection[str]) -> Check:
    def check(pod: Object) -> Finding | None:
        given = [s["name"] for s in meta.items(context(meta.spec(pod)), "sysctls")]
        wrong = [name for name in given if name not in allowed]
        return Finding("forbidden sysctls", ", ".join(wrong)) if wrong else None

    return check


def host_process(pod: Object) -> Finding | None:
    def wrong(part: Object) -> bool:
        return bool(meta.part(part, "windowsOptions").get("hostProcess"))

    of_pod, names = wrong(context(meta.spec(pod))), _where(pod, wrong)
    detail = f"{_setters(of_pod, names)} must not set securityContext.windowsOptions.hostProcess=true"
    return Finding("hostProcess", detail) if of_pod or names else None


# Restricted


def no_escalation(pod: Object) -> Finding | None:
    names = _where(pod, lambda c: c.get("allowPrivilegeEscalation") is not False)
    detail = f"{_of_containers(names)} must set securityContext.allowPrivilegeEscalation=false"
    return Finding("allowPrivilegeEscalation != false", detail) if names else None


def dropped_capabilities(pod: Object) -> Finding | None:
    names = _where(pod, lambda c: "ALL" not in (meta.part(c, "capabilities").get("drop") or ()))
    said = [f'{_of_containers(names)} must set securityContext.capabilities.drop=["ALL"]'] if names else []
    if added := _added(pod, ("NET_BIND_SERVICE",)):
        said.append(added)
    return Finding("unrestricted capabilities", "; ".join(said)) if said else None


_VOLUMES = frozenset(
    {
        "configMap",
        "csi",
        "downwardAPI",
        "emptyDir",
        "ephemeral",
        "image",
        "persistentVolumeClaim",
        "projected",
        "secret",
    }
)


def restricted_volumes(pod: Object) -> Finding | None:
    wrong = {v["name"]: _volume_type(v) for v in meta.items(pod, "spec", "volumes") if not _VOLUMES & _sources(v)}
    if not wrong:
        return None
    kinds = sorted(set(wrong.values()))
    use = "uses" if len(wrong) == 1 else "use"
    names = f"{_plural('volume', wrong)} {_quoted(wrong)}"
    detail = f"{names} {use} {_plural('restricted volume type', kinds)} {_quoted(kinds)}"
    return Finding("restricted volume types", detail)


def _sources(volume: Mapping[str, Any]) -> set[str]:
    return {key for key, value in volume.items() if key != "name" and value is not None}


def _volume_type(volume: Object) -> str:
    return min(_sources(volume), default="unknown")


def non_root(pod: Object) -> Finding | None:
    of_pod = context(meta.spec(pod)).get("runAsNonRoot")
    explicit = _where(pod, lambda c: c.get("runAsNonRoot") is False)
    if of_pod is False or explicit:
        detail = f"{_setters(of_pod is False, explicit)} must not set securityContext.runAsNonRoot=false"
        return Finding("runAsNonRoot != true", detail)
    silent = [] if of_pod else _where(pod, lambda c: c.get("runAsNonRoot") is None)
    detail = f"pod or {_of_containers(silent)} must set securityContext.runAsNonRoot=true"
    return Finding("runAsNonRoot != true", detail) if silent else None


def non_root_user(pod: Object) -> Finding | None:
    of_pod = context(meta.spec(pod)).get("runAsUser") == 0
    names = _where(pod, lambda c: c.get("runAsUser") == 0)
    detail = f"{_setters(of_pod, names)} must not set runAsUser=0"
    return Finding("runAsUser=0", detail) if of_pod or names else None


def seccomp_set(pod: Object) -> Finding | None:
    """Every container has a safe profile, its own or its pod's."""
    if (wrong := seccomp_allowed(pod)) is not None:
        return wrong
    if context(meta.spec(pod)).get("seccompProfile") is not None:
        return None
    names = _where(pod, lambda c: c.get("seccompProfile") is None)
    detail = (
        f"pod or {_of_containers(names)} must set securityContext.seccompProfile.type to "
        '"RuntimeDefault" or "Localhost"'
    )
    return Finding("seccompProfile", detail) if names else None


# Pods for which a control says nothing


def not_on_windows(check: Check) -> Check:
    return lambda pod: None if meta.part(pod, "spec", "os").get("name") == "windows" else check(pod)


def not_in_user_namespace(check: Check) -> Check:
    """Root inside a user namespace is nobody outside (KEP-127)."""
    return lambda pod: None if meta.spec(pod).get("hostUsers") is False else check(pod)
