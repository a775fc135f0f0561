"""From a fork of the zygote to the container's command: what happens in the child, in the order that the kernel needs.

The child reports over `status`, a socket that closes by itself at exec: nothing before its end means success, a message
with "pty" carries the terminal's master, one with "error" the reason why there is no command running.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import resource
import select
import signal
import socket
import stat
import termios
from collections.abc import Callable, Mapping, Sequence
from typing import Literal, NamedTuple, NoReturn

from podling.sandbox import capabilities, rootfs, seccomp, syscalls, wire
from podling.sandbox.cgroups import Cgroups
from podling.sandbox.spec import ContainerSpec

Tier = Literal["root", "rootless-subuid", "rootless-single"]

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

NOT_FOUND, NOT_EXECUTABLE, FAILED = 127, 126, 128
"""Exit codes of containers that never ran, as container runtimes give them."""


class StartFailure(Exception):
    """The command cannot run; the text is what users of containers know from runc."""

    def __init__(self, message: str, exit_code: int = FAILED) -> None:
        super().__init__(message)
        self.message = message
        self.exit_code = exit_code


class Settings(NamedTuple):
    """What every child needs to know of its node."""

    tier: Tier
    cache_directory: str
    """Where the base layers of roots are kept."""
    open_files: tuple[int, int]
    """The limits on open files that containers get: the zygote raises its own."""


class Place(NamedTuple):
    """Where a container runs."""

    namespaces: Sequence[int]
    """Descriptors of the pod's network, IPC and UTS namespaces."""
    cgroups: Cgroups
    group: str


class User(NamedTuple):
    uid: int
    gid: int
    groups: Sequence[int]


def needs_own_user_namespace(tier: Tier, user: User) -> bool:
    """With one mapped id, another one exists only in a nested namespace that maps it to the same outer id."""
    return tier == "rootless-single" and (user.uid, user.gid) != (0, 0)


def reporting(status: socket.socket, work: Callable[[], None]) -> NoReturn:
    """Run a child's work, which ends in exec; what goes wrong is told over `status`."""
    try:
        work()
    except StartFailure as failure:
        message, exit_code = failure.message, failure.exit_code
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        message, exit_code = where + (error.strerror or str(error)), FAILED
    except BaseException as error:  # noqa: BLE001  the child must end here, never return into the zygote's loop
        message, exit_code = f"{type(error).__name__}: {error}", FAILED
    else:
        message, exit_code = "the command was not executed", FAILED
    with contextlib.suppress(OSError):
        wire.send(status, {"error": message, "exit_code": exit_code})
    os._exit(exit_code)


def die_with_parent(line: socket.socket) -> None:
    """Let the kernel end this process with its parent, who holds the other end of `line`.

    The signal is only for a death that is still to come: of one that was before, the end of the line tells.
    """
    syscalls.prctl(syscalls.PR_SET_PDEATHSIG, signal.SIGKILL)
    hangup = select.poll()
    hangup.register(line, 0)
    if hangup.poll(0):
        os._exit(FAILED)


def run_container(
    spec: ContainerSpec, settings: Settings, place: Place, stdio: Sequence[int], status: socket.socket
) -> None:
    """Become the container's first process. `stdio` is empty when a terminal is wanted."""
    os.setsid()
    place.cgroups.join(place.group)
    for descriptor in place.namespaces:
        syscalls.setns(descriptor)
    syscalls.unshare(syscalls.CLONE_NEWNS | syscalls.CLONE_NEWCGROUP)
    rootless = not syscalls.in_initial_user_namespace()
    bases = rootfs.prepare_bases(settings.cache_directory, rootless=rootless)
    unified = place.cgroups.describe()["version"] == 2
    rootfs.enter(spec, rootfs.RootOptions(bases, rootless, unified))
    user = User(spec["uid"], spec["gid"], spec["groups"])
    _connect_stdio(stdio, status, user, spec["tty"])
    _set_oom_score(spec.get("oom_score_adj"))
    if needs_own_user_namespace(settings.tier, user):
        enter_single_user_namespace(user)
    execute(spec, settings, user, status)


def run_in_container(
    spec: ContainerSpec,
    settings: Settings,
    place: Place,
    pidfd: int,
    stdio: Sequence[int],
    status: socket.socket,
) -> None:
    """Become another process of a running container, given by a pidfd of one of its processes."""
    os.setsid()
    place.cgroups.join(place.group)
    syscalls.setns(
        pidfd,
        syscalls.CLONE_NEWNS
        | syscalls.CLONE_NEWNET
        | syscalls.CLONE_NEWIPC
        | syscalls.CLONE_NEWUTS
        | syscalls.CLONE_NEWCGROUP,
    )
    user = User(spec["uid"], spec["gid"], spec["groups"])
    _connect_stdio(stdio, status, user, spec["tty"])
    if needs_own_user_namespace(settings.tier, user):
        syscalls.setns(pidfd, syscalls.CLONE_NEWUSER)
    os.close(pidfd)
    execute(spec, settings, user, status)


def enter_single_user_namespace(user: User) -> None:
    """A nested user namespace that maps only this user, to the one outer id that there is."""
    outer_uid, outer_gid = os.geteuid(), os.getegid()
    syscalls.unshare(syscalls.CLONE_NEWUSER)
    syscalls.write_file("/proc/self/setgroups", "deny")
    syscalls.write_file("/proc/self/uid_map", f"{user.uid} {outer_uid} 1")
    syscalls.write_file("/proc/self/gid_map", f"{user.gid} {outer_gid} 1")


def execute(spec: ContainerSpec, settings: Settings, user: User, status: socket.socket) -> None:
    """Reduce this process to what the container may do and execute its command.

    The order is the kernel's: capabilities while they may still be dropped; filters before the identity changes, since
    installing them needs a capability that goes with it; the death signal last, since changing identity clears it.
    """
    environment = _environment(spec["env"], user.uid)
    try:
        kept = capabilities.numbers(spec["capabilities"])
    except ValueError as error:
        raise StartFailure(str(error)) from error
    entered = _enter_directory(spec["cwd"] or "/", final=False)
    resource.setrlimit(resource.RLIMIT_NOFILE, settings.open_files)
    capabilities.limit_bounding(kept)
    if spec.get("seccomp") == "runtime-default" and not spec.get("privileged"):
        syscalls.install_filter(seccomp.runtime_default())
    if settings.tier == "rootless-single":
        if user.uid == 0:
            syscalls.install_filter(seccomp.fake_root())
    else:
        os.setgroups(list(user.groups))
        os.setresgid(user.gid, user.gid, user.gid)
        os.setresuid(user.uid, user.uid, user.uid)
    if not entered:
        _enter_directory(spec["cwd"] or "/", final=True)
    program = look_path(spec["args"], environment.get("PATH", DEFAULT_PATH))
    _reset_signals()
    if spec["no_new_privileges"]:
        syscalls.prctl(syscalls.PR_SET_NO_NEW_PRIVS, 1)
    die_with_parent(status)
    try:
        os.execve(program, spec["args"], environment)
    except OSError as error:
        code = NOT_FOUND if error.errno == errno.ENOENT else NOT_EXECUTABLE
        raise StartFailure(f"exec {program}: {_reason(error)}", code) from error


def look_path(args: Sequence[str], path: str) -> str:
    """The program's file, searched as Go's exec.LookPath does, whose messages container runtimes show."""
    if not args or not args[0]:
        raise StartFailure("no command specified")
    name = args[0]
    if "/" in name:
        _check_executable(name, name)
        return name
    for directory in path.split(":"):
        candidate = f"{directory or '.'}/{name}"
        with contextlib.suppress(StartFailure):
            _check_executable(candidate, name)
            return candidate
    raise StartFailure(f'exec: "{name}": executable file not found in $PATH', NOT_FOUND)


def _check_executable(path: str, name: str) -> None:
    try:
        mode = os.stat(path).st_mode
    except OSError as error:
        raise StartFailure(f'exec: "{name}": stat {path}: {_reason(error)}', NOT_FOUND) from error
    if stat.S_ISDIR(mode):
        raise StartFailure(f'exec: "{name}": is a directory', NOT_EXECUTABLE)
    if not mode & 0o111 or not os.access(path, os.X_OK):
        raise StartFailure(f'exec: "{name}": permission denied', NOT_EXECUTABLE)


def _reason(error: OSError) -> str:
    """The kernel's reason as Go words it."""
    return os.strerror(error.errno or 0).lower()


def _connect_stdio(stdio: Sequence[int], status: socket.socket, user: User, tty: bool) -> None:
    if tty:
        master, slave = os.openpty()
        wire.send(status, {"pty": True}, [master])
        os.close(master)
        fcntl.ioctl(slave, termios.TIOCSCTTY, 0)
        stdio = (slave, slave, slave)
    opened = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
    for number in range(3):
        source = stdio[number]
        os.dup2(source if source >= 0 else opened, number, inheritable=True)
        if user.uid != 0:
            with contextlib.suppress(OSError):  # so that the user may open /dev/stdout again
                os.fchown(number, user.uid, -1)


def _set_oom_score(score: int | None) -> None:
    if score is None:
        return
    with contextlib.suppress(PermissionError):  # lowering it takes a privilege that rootless nodes do not have
        syscalls.write_file("/proc/self/oom_score_adj", str(score))


def _environment(given: Mapping[str, str], uid: int) -> dict[str, str]:
    environment = dict(given)
    if not environment.get("HOME"):
        environment["HOME"] = _home(uid)
    return environment


def _home(uid: int) -> str:
    with contextlib.suppress(OSError), open("/etc/passwd", encoding="utf-8", errors="replace") as file:
        for line in file:
            fields = line.rstrip("\n").split(":")
            if len(fields) >= 6 and fields[2] == str(uid):
                return fields[5] or "/"
    return "/"


def _enter_directory(path: str, *, final: bool) -> bool:
    """Change the directory: once as root, and when root may not, again as the user; False when that is needed."""
    try:
        os.chdir(path)
    except OSError as error:
        if isinstance(error, PermissionError) and not final:
            return False
        raise StartFailure(f'chdir to cwd ("{path}") set in config.json failed: {_reason(error)}') from error
    return True


def _reset_signals() -> None:
    for number in (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGINT, signal.SIGTERM, signal.SIGCHLD, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])


def open_file_limits() -> tuple[int, int]:
    """How many files this process may open: now, and if it asks."""
    return resource.getrlimit(resource.RLIMIT_NOFILE)


def raise_open_files() -> tuple[int, int]:
    """Let this process open as many files as it may; returns the limits that were in force before."""
    limits = open_file_limits()
    resource.setrlimit(resource.RLIMIT_NOFILE, (limits[1], limits[1]))
    return limits
