"""Linux capabilities: their names as manifests write them, and how a container is reduced to its set."""

from __future__ import annotations

import ctypes
import errno
from collections.abc import Iterable

from podling.sandbox import syscalls

NAMES = (
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
)
"""In the order of their numbers (capabilities(7))."""

DEFAULT = (
    "CHOWN",
    "DAC_OVERRIDE",
    "FSETID",
    "FOWNER",
    "MKNOD",
    "NET_RAW",
    "SETGID",
    "SETUID",
    "SETFCAP",
    "SETPCAP",
    "NET_BIND_SERVICE",
    "SYS_CHROOT",
    "KILL",
    "AUDIT_WRITE",
)
"""What container runtimes give a container that asks for nothing."""


def numbers(names: Iterable[str]) -> frozenset[int]:
    """Names with or without `CAP_`, in any case, or `ALL`. Raises `ValueError` for one that Linux does not have."""
    found: set[int] = set()
    for name in names:
        plain = name.upper().removeprefix("CAP_")
        if plain == "ALL":
            return frozenset(range(len(NAMES)))
        if plain not in NAMES:
            raise ValueError(f'unknown capability "{name}"')
        found.add(NAMES.index(plain))
    return frozenset(found)


def mask(kept: Iterable[int]) -> int:
    """The set as bits."""
    return sum(1 << number for number in kept)


def limit_bounding(kept: frozenset[int]) -> None:
    """Drop every other capability from the bounding set: no program that this process executes gets it back.

    This alone reduces a root user's set at the next exec, which takes its permitted set from the bounding set.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    for number in range(64):
        if number in kept:
            continue
        if libc.prctl(syscalls.PR_CAPBSET_DROP, ctypes.c_ulong(number), 0, 0, 0) < 0:
            if ctypes.get_errno() == errno.EINVAL:
                return  # beyond the last one that this kernel knows
            raise OSError(ctypes.get_errno(), "drop capability")
