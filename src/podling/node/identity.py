"""As whom a container runs and what it may do: security contexts against the image's own user.

Names are looked up in the image's `/etc/passwd` and `/etc/group`, as container runtimes do.
Pure: the files come as text.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from podling.api import meta
from podling.node.environment import ConfigError
from podling.node.state import full_name, part
from podling.store.types import Object

DEFAULT_CAPABILITIES = (
    "AUDIT_WRITE",
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "MKNOD",
    "NET_BIND_SERVICE",
    "NET_RAW",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
)
"""What container runtimes leave to a container that asks for nothing."""

ALL_CAPABILITIES = (
    *DEFAULT_CAPABILITIES,
    "AUDIT_CONTROL",
    "AUDIT_READ",
    "BLOCK_SUSPEND",
    "BPF",
    "CHECKPOINT_RESTORE",
    "DAC_READ_SEARCH",
    "IPC_LOCK",
    "IPC_OWNER",
    "LEASE",
    "LINUX_IMMUTABLE",
    "MAC_ADMIN",
    "MAC_OVERRIDE",
    "NET_ADMIN",
    "NET_BROADCAST",
    "PERFMON",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_MODULE",
    "SYS_NICE",
    "SYS_PACCT",
    "SYS_PTRACE",
    "SYS_RAWIO",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "SYSLOG",
    "WAKE_ALARM",
)


class UnknownAccount(Exception):
    """The image does not know the user or group that its configuration names; the message is the runtime's."""


@dataclass(frozen=True, slots=True)
class Identity:
    uid: int
    gid: int
    groups: tuple[int, ...]
    """Supplementary groups, with the primary one, sorted."""
    home: str
    """From the image's passwd; `/` for a user that it does not know."""


ReadFile = Callable[[str], str]
"""Gives a text file of the image by absolute path; `""` when it is not there."""


def effective(container: Object, pod: Object, field: str) -> object:
    """A field of the container's security context, else of the pod's."""
    own = part(container, "securityContext")
    if own.get(field) is not None:
        return own[field]
    return part(meta.spec(pod), "securityContext").get(field)


def identify(container: Object, pod: Object, image_user: str, read: ReadFile) -> Identity:
    """Raises `ConfigError` for a user that may be root and must not, and `UnknownAccount`."""
    _check_non_root(container, pod, image_user.partition(":")[0])
    passwd = _rows(read("/etc/passwd"), 7)
    group_rows = _rows(read("/etc/group"), 4)
    user_text, _, group_text = image_user.partition(":")
    run_as = effective(container, pod, "runAsUser")
    row = _passwd_row(passwd, str(run_as) if run_as is not None else user_text or "0")
    uid = _user_id(row, str(run_as) if run_as is not None else user_text or "0")
    gid = _group_id(container, pod, row, group_text if run_as is None else "", group_rows)
    names = {row[0]} if row else set[str]()
    groups = {gid, *_member_of(group_rows, names, pod), *_extra_groups(pod)}
    return Identity(uid, gid, tuple(sorted(groups)), row[5] if row and row[5] else "/")


def _rows(text: str, width: int) -> list[list[str]]:
    rows = (line.split(":") for line in text.splitlines() if line and not line.startswith("#"))
    return [row for row in rows if len(row) >= width]


def _passwd_row(passwd: Iterable[list[str]], user: str) -> list[str] | None:
    column = 2 if user.isdigit() else 0
    return next((row for row in passwd if row[column] == user), None)


def _user_id(row: list[str] | None, user: str) -> int:
    if user.isdigit():
        return int(user)
    if row is None:
        raise UnknownAccount(f"unable to find user {user}: no matching entries in passwd file")
    return int(row[2])


def _group_id(
    container: Object, pod: Object, row: list[str] | None, group: str, group_rows: Iterable[list[str]]
) -> int:
    wanted = effective(container, pod, "runAsGroup")
    if isinstance(wanted, int):
        return wanted
    if group.isdigit():
        return int(group)
    if group:
        found = next((entry for entry in group_rows if entry[0] == group), None)
        if found is None:
            raise UnknownAccount(f"unable to find group {group}: no matching entries in group file")
        return int(found[2])
    return int(row[3]) if row else 0


def _check_non_root(container: Object, pod: Object, image_user: str) -> None:
    if not effective(container, pod, "runAsNonRoot"):
        return
    where = f'(pod: "{full_name(pod)}", container: {container["name"]})'
    explicit = effective(container, pod, "runAsUser")
    if explicit == 0:
        raise ConfigError(f"container's runAsUser breaks non-root policy {where}")
    if explicit is not None:
        return
    if image_user and not image_user.isdigit():
        text = f"container has runAsNonRoot and image has non-numeric user ({image_user})"
        raise ConfigError(f"{text}, cannot verify user is non-root {where}")
    if not int(image_user or 0):
        raise ConfigError(f"container has runAsNonRoot and image will run as root {where}")


def _member_of(group_rows: Iterable[list[str]], names: set[str], pod: Object) -> set[int]:
    """Groups that the image puts the user into, unless the pod wants only its own (`Strict`)."""
    context = part(meta.spec(pod), "securityContext")
    if context.get("supplementalGroupsPolicy") == "Strict":
        return set()
    return {int(row[2]) for row in group_rows if names & set(row[3].split(","))}


def _extra_groups(pod: Object) -> set[int]:
    context = part(meta.spec(pod), "securityContext")
    extra: set[int] = set(context.get("supplementalGroups") or ())
    if context.get("fsGroup") is not None:
        extra.add(context["fsGroup"])
    return extra


def capabilities(container: Object) -> list[str]:
    """The names without `CAP_`; `drop` comes before `add`, and `ALL` is all."""
    context = part(container, "securityContext")
    if context.get("privileged"):
        return sorted(ALL_CAPABILITIES)
    wanted = part(context, "capabilities")
    added = {_plain(name) for name in wanted.get("add") or ()}
    dropped = {_plain(name) for name in wanted.get("drop") or ()}
    base: set[str] = set(ALL_CAPABILITIES if "ALL" in added else DEFAULT_CAPABILITIES)
    kept = set[str]() if "ALL" in dropped else base - dropped
    return sorted(kept | (added - {"ALL"}) | (base - dropped if "ALL" in added else set()))


def _plain(name: str) -> str:
    return name.upper().removeprefix("CAP_")


def no_new_privileges(container: Object) -> bool:
    return part(container, "securityContext").get("allowPrivilegeEscalation") is False
