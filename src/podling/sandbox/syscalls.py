"""The system calls that Python does not offer: namespaces, mounts, prctl, seccomp; by ctypes on the C library.

`os.unshare` and `os.setns` exist only from Python 3.12; the mount calls not at all. Every function raises `OSError`
with the kernel's number and says in its text what was tried. Call numbers from 424 on are the same on all machines.
"""

from __future__ import annotations

import array
import ctypes
import os
import socket
import struct

CLONE_NEWNS = 0x00020000
CLONE_NEWCGROUP = 0x02000000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000

MS_RDONLY = 0x1
MS_NOSUID = 0x2
MS_NODEV = 0x4
MS_NOEXEC = 0x8
MS_BIND = 0x1000
MS_REC = 0x4000
MS_PRIVATE = 0x40000
MS_SLAVE = 0x80000
MS_SHARED = 0x100000
MNT_DETACH = 2

AT_FDCWD = -100
AT_EMPTY_PATH = 0x1000
AT_RECURSIVE = 0x8000
OPEN_TREE_CLONE = 1
OPEN_TREE_CLOEXEC = os.O_CLOEXEC
MOVE_MOUNT_F_EMPTY_PATH = 4
MOUNT_ATTR_RDONLY = 1
MOUNT_ATTR_NODEV = 4

RESOLVE_NO_MAGICLINKS = 0x02
RESOLVE_BENEATH = 0x08

PR_SET_PDEATHSIG = 1
PR_CAPBSET_DROP = 24
PR_SET_SECCOMP = 22
PR_SET_NAME = 15
PR_SET_CHILD_SUBREAPER = 36
PR_SET_NO_NEW_PRIVS = 38

_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}
_OPEN_TREE = 428
_MOVE_MOUNT = 429
_OPENAT2 = 437
_MOUNT_SETATTR = 442

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mount.argtypes = [ctypes.c_char_p, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_ulong, ctypes.c_char_p]
_libc.syscall.restype = ctypes.c_long
_libc.prctl.argtypes = [ctypes.c_int] + [ctypes.c_ulong] * 4


def _checked(result: int, what: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return result


def _call(what: str, number: int, *arguments: int | bytes | ctypes.Array[ctypes.c_char] | None) -> int:
    """syscall(2). Whole numbers are widened to a register: an int would leave its upper half undefined."""
    wide = [ctypes.c_long(a) if isinstance(a, int) else a for a in arguments]
    return _checked(_libc.syscall(ctypes.c_long(number), *wide), what)


def unshare(flags: int) -> None:
    _checked(_libc.unshare(flags), f"unshare 0x{flags:x}")


def setns(descriptor: int, flags: int = 0) -> None:
    """Enter the namespace of `descriptor`; of a pidfd: all those in `flags`. CLONE_NEWPID concerns only children."""
    _checked(_libc.setns(descriptor, flags), f"setns 0x{flags:x}")


def mount(source: str, target: str, kind: str | None = None, flags: int = 0, data: str | None = None) -> None:
    result = _libc.mount(
        os.fsencode(source),
        os.fsencode(target),
        kind.encode() if kind else None,
        flags,
        os.fsencode(data) if data else None,
    )
    _checked(result, f"mount {kind or 'bind'} {source} on {target}")


def unmount(target: str, flags: int = MNT_DETACH) -> None:
    _checked(_libc.umount2(os.fsencode(target), flags), f"umount {target}")


def pivot_root(new: str, old: str) -> None:
    _call(f"pivot_root {new}", _PIVOT_ROOT[os.uname().machine], os.fsencode(new), os.fsencode(old))


def sethostname(name: str) -> None:
    raw = name.encode()
    _checked(_libc.sethostname(raw, len(raw)), "sethostname")


def prctl(option: int, argument: int = 0) -> int:
    return _checked(_libc.prctl(option, argument, 0, 0, 0), f"prctl {option}")


def set_process_name(name: str) -> None:
    """At most 15 characters; what `ps -o comm` shows."""
    block = ctypes.create_string_buffer(name.encode())
    prctl(PR_SET_NAME, ctypes.addressof(block))


def open_tree(path: str, *, directory: int = AT_FDCWD, recursive: bool = True) -> int:
    """A detached copy of the mounts at `path` (an empty path: at the descriptor `directory` itself).

    A user namespace may copy a tree that it did not mount only as a whole, hence recursive.
    """
    flags = OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC
    flags |= AT_RECURSIVE if recursive else 0
    flags |= 0 if path else AT_EMPTY_PATH
    return _call(f"open_tree {path}", _OPEN_TREE, directory, os.fsencode(path), flags)


def move_mount(tree: int, target: str) -> None:
    """Attach a detached tree at a path."""
    _call(f"mount on {target}", _MOVE_MOUNT, tree, b"", AT_FDCWD, os.fsencode(target), MOVE_MOUNT_F_EMPTY_PATH)


def mount_setattr(
    descriptor: int, path: str, *, attributes: int = 0, propagation: int = 0, recursive: bool = False
) -> None:
    """Set attributes (MOUNT_ATTR_*) and propagation (MS_PRIVATE, MS_SLAVE, MS_SHARED) of a mount or of a tree."""
    flags = (AT_RECURSIVE if recursive else 0) | (0 if path else AT_EMPTY_PATH)
    block = struct.pack("=QQQQ", attributes, 0, propagation, 0)
    _call(f"mount_setattr {path}", _MOUNT_SETATTR, descriptor, os.fsencode(path), flags, block, len(block))


def openat2(directory: int, path: str, flags: int, resolve: int, mode: int = 0) -> int:
    """open(2) below a directory with a restriction on where the path may lead (RESOLVE_*)."""
    block = struct.pack("=QQQ", flags | os.O_CLOEXEC, mode, resolve)
    return _call(f"open {path}", _OPENAT2, directory, os.fsencode(path), block, len(block))


def install_filter(program: bytes) -> None:
    """Install a seccomp filter: `program` is its BPF instructions. Needs CAP_SYS_ADMIN or no_new_privs."""
    instructions = ctypes.create_string_buffer(program, len(program))
    header = struct.pack("@HP", len(program) // 8, ctypes.addressof(instructions))
    block = ctypes.create_string_buffer(header, len(header))
    seccomp_mode_filter = 2
    _checked(_libc.prctl(PR_SET_SECCOMP, seccomp_mode_filter, ctypes.addressof(block), 0, 0), "seccomp")


def capset(effective: int, permitted: int, inheritable: int) -> None:
    """Set the capability sets of this process, as bit masks."""
    version_3 = 0x20080522
    header = struct.pack("=Ii", version_3, 0)
    sets = (effective, permitted, inheritable)
    data = struct.pack("=6I", *(s & 0xFFFFFFFF for s in sets), *(s >> 32 for s in sets))
    _checked(_libc.capset(header, data), "capset")


def in_initial_user_namespace() -> bool:
    """Whether this process's ids are the machine's own: overlays, for one, keep their marks differently elsewhere."""
    with open("/proc/self/uid_map", encoding="ascii") as file:
        return file.read().split() == ["0", "0", "4294967295"]


def write_file(path: str, content: str) -> None:
    """Write in a single call, as files below /proc and /sys want it."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(descriptor, content.encode())
    finally:
        os.close(descriptor)


def receive(connection: socket.socket, size: int, descriptors: int = 16) -> tuple[bytes, list[int]]:
    """One message with the descriptors that came with it, closed on exec.

    `socket.recv_fds` would leave them inheritable: it drops its flags argument, and they would leak into containers.
    """
    data, ancillary, _, _ = connection.recvmsg(size, socket.CMSG_SPACE(descriptors * 4), socket.MSG_CMSG_CLOEXEC)
    found = array.array("i")
    for level, kind, payload in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            found.frombytes(payload[: len(payload) - len(payload) % found.itemsize])
    return data, list(found)
