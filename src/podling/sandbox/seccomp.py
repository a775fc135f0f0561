"""Seccomp filters: programs in classic BPF that decide on every system call of a container.

Two are needed. `fake_root`: with a single user id mapped (rootless without subordinate ids) the kernel refuses chown,
setuid, setgroups and mknod even to a container's root, and many programs (nginx, apt, tar) give up on that; the filter
answers success and does nothing. `runtime_default`: keeps from a container what the RuntimeDefault profile of container
runtimes keeps from it, as a list of refused calls; a list of allowed ones would have to grow with every kernel.
"""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Mapping

AUDIT = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
"""How the kernel names the machine's call convention in a filter's input."""

_MACHINES = ("x86_64", "aarch64")

FAKE_ROOT: Mapping[str, tuple[int | None, int | None]] = {
    "chown": (92, None),
    "fchown": (93, 55),
    "lchown": (94, None),
    "fchownat": (260, 54),
    "setuid": (105, 146),
    "setgid": (106, 144),
    "setreuid": (113, 145),
    "setregid": (114, 143),
    "setgroups": (116, 159),
    "setresuid": (117, 147),
    "setresgid": (119, 149),
    "setfsuid": (122, 151),
    "setfsgid": (123, 152),
    "capset": (126, 91),
    "mknod": (133, None),
    "mknodat": (259, 33),
}
"""Calls answered with success; their numbers on the machines of `_MACHINES`, None where one does not have it."""

REFUSED: Mapping[str, tuple[int | None, int | None]] = {
    "acct": (163, 89),
    "add_key": (248, 217),
    "bpf": (321, 280),
    "clock_adjtime": (305, 266),
    "clock_settime": (227, 112),
    "create_module": (174, None),
    "delete_module": (176, 106),
    "finit_module": (313, 273),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fsopen": (430, 430),
    "fspick": (433, 433),
    "get_kernel_syms": (177, None),
    "init_module": (175, 105),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "io_uring_setup": (425, 425),
    "ioperm": (173, None),
    "iopl": (172, None),
    "kcmp": (312, 272),
    "kexec_file_load": (320, 294),
    "kexec_load": (246, 104),
    "keyctl": (250, 219),
    "lookup_dcookie": (212, 18),
    "mount": (165, 40),
    "mount_setattr": (442, 442),
    "move_mount": (429, 429),
    "nfsservctl": (180, 42),
    "open_by_handle_at": (304, 265),
    "open_tree": (428, 428),
    "perf_event_open": (298, 241),
    "pivot_root": (155, 41),
    "query_module": (178, None),
    "quotactl": (179, 60),
    "quotactl_fd": (443, 443),
    "reboot": (169, 142),
    "request_key": (249, 218),
    "setdomainname": (171, 162),
    "sethostname": (170, 161),
    "setns": (308, 268),
    "settimeofday": (164, 170),
    "swapoff": (168, 225),
    "swapon": (167, 224),
    "_sysctl": (156, None),
    "sysfs": (139, None),
    "syslog": (103, 116),
    "umount2": (166, 39),
    "unshare": (272, 97),
    "uselib": (134, None),
    "userfaultfd": (323, 282),
    "ustat": (136, None),
    "vhangup": (153, 58),
}
"""Calls that a container is refused with EPERM."""

_CLONE = (56, 220)
_CLONE3 = (435, 435)
_NAMESPACE_FLAGS = 0x7E020000

_LOAD, _JUMP_EQUAL, _JUMP_AT_LEAST, _JUMP_ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000
_OFFSET_NUMBER, _OFFSET_ARCHITECTURE, _OFFSET_FIRST_ARGUMENT = 0, 4, 16
_X32_BIT = 0x40000000


def fake_root(machine: str | None = None) -> bytes:
    """The program that answers ownership and identity calls with success. Foreign call conventions pass."""
    index, audit = _machine(machine)
    return b"".join(
        (
            _instruction(_LOAD, _OFFSET_ARCHITECTURE),
            _instruction(_JUMP_EQUAL, audit, 1, 0),
            _instruction(_RETURN, _ALLOW),
            _instruction(_LOAD, _OFFSET_NUMBER),
            *(_answer(numbers[index], 0) for numbers in FAKE_ROOT.values()),
            _instruction(_RETURN, _ALLOW),
        )
    )


def runtime_default(machine: str | None = None) -> bytes:
    """The program that refuses `REFUSED`, new namespaces by clone, and foreign call conventions.

    clone3 passes its flags in memory, which a filter cannot read: it does not exist (ENOSYS), and C libraries fall back
    to clone.
    """
    index, audit = _machine(machine)
    return b"".join(
        (
            _instruction(_LOAD, _OFFSET_ARCHITECTURE),
            _instruction(_JUMP_EQUAL, audit, 1, 0),
            _instruction(_RETURN, _ERRNO | errno.ENOSYS),
            _instruction(_LOAD, _OFFSET_NUMBER),
            _instruction(_JUMP_AT_LEAST, _X32_BIT, 0, 1),
            _instruction(_RETURN, _ERRNO | errno.ENOSYS),
            _answer(_CLONE3[index], errno.ENOSYS),
            *(_answer(numbers[index], errno.EPERM) for numbers in REFUSED.values()),
            _instruction(_JUMP_EQUAL, _CLONE[index], 0, 3),
            _instruction(_LOAD, _OFFSET_FIRST_ARGUMENT),
            _instruction(_JUMP_ANY_BIT, _NAMESPACE_FLAGS, 0, 1),
            _instruction(_RETURN, _ERRNO | errno.EPERM),
            _instruction(_RETURN, _ALLOW),
        )
    )


def _machine(machine: str | None) -> tuple[int, int]:
    name = machine or os.uname().machine
    if name not in _MACHINES:
        raise OSError(errno.ENOSYS, f"podling has no seccomp filter for {name}")
    return _MACHINES.index(name), AUDIT[name]


def _answer(number: int | None, error: int) -> bytes:
    if number is None:
        return b""
    return _instruction(_JUMP_EQUAL, number, 0, 1) + _instruction(_RETURN, _ERRNO | error)


def _instruction(code: int, value: int, true: int = 0, false: int = 0) -> bytes:
    return struct.pack("=HBBI", code, true, false, value)
