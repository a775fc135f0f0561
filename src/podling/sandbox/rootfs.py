"""A container's root: its layers, its volumes, /proc, /dev, and no way back to the host's.

Runs in the container's first process, in a mount namespace of its own, before the command is executed. Two kinds of
image, one way: an overlay of the image's layers is the root. Images that the *host* stands in for get a copy of the
host's /etc as their lowest layer and a second overlay on /usr with the host's own /usr at its bottom (an overlay over
the host's `/` does not work: it may not be cloned in a user namespace, and overlays do not cross mounts).

Four rules keep a hostile image or volume from reaching the host:

* sources are opened as detached mount trees *before* the root is changed, targets are looked up *after* it, so a
  symbolic link in an image leads nowhere but into the image;
* a `sub_path` is opened with RESOLVE_BENEATH, so a link in a volume does not lead out of it;
* no device made in an image or a volume can be opened, since a container's root may make them: those in /dev are bound;
* the old root is detached at the end.

In a user namespace the files of the host's /usr belong to nobody, and overlayfs would refuse to create anything in its
directories. The *skeleton*, a layer with the same directories owned by us, cures that.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import stat
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import NamedTuple

from podling.sandbox import syscalls
from podling.sandbox.spec import ContainerSpec, Mount

_DEVICES = ("null", "zero", "full", "random", "urandom", "tty")
_DEVICE_LINKS = {
    "fd": "/proc/self/fd",
    "stdin": "/proc/self/fd/0",
    "stdout": "/proc/self/fd/1",
    "stderr": "/proc/self/fd/2",
    "ptmx": "pts/ptmx",
}
_MASKED = (
    *("/proc/acpi", "/proc/asound", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats"),
    *("/proc/sched_debug", "/proc/scsi", "/proc/timer_list", "/proc/timer_stats"),
    *("/sys/devices/virtual/powercap", "/sys/firmware"),
)
_READ_ONLY = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")
_HOST_TOPS = ("usr", "bin", "sbin", "lib", "lib32", "lib64", "libx32")
"""What of the host lies below a host-based image; on most systems all but `usr` are links into it."""

_COMMON_DIRECTORIES = ("dev", "etc", "proc", "run", "sys", "tmp")
_SECRET_DIRECTORIES = frozenset({"/etc/ssl/private", "/etc/kubernetes", "/etc/sudoers.d", "/etc/wireguard"})
_PAGE = 4096
_SKELETON_VERSION = 1


class Bases(NamedTuple):
    """Directories that lie below every image's layers; made once, by `prepare_bases`."""

    common: str
    """The mount points that every container needs, so that its writable layer stays free of them."""
    host: str
    """For host-based images: the host's /etc and the skeleton of its /usr and /var."""


class RootOptions(NamedTuple):
    """What the node knows about how roots are built here."""

    bases: Bases
    rootless: bool
    unified_cgroup: bool
    """Whether the container may see its own cgroup at /sys/fs/cgroup."""


def enter(spec: ContainerSpec, options: RootOptions) -> None:
    """Build the root of `spec` and make it this process's; needs a fresh mount namespace. Raises `OSError`."""
    os.umask(0o022)
    syscalls.mount("none", "/", flags=syscalls.MS_REC | syscalls.MS_SLAVE)
    attachments = [*_host_paths(spec), *_files(spec), *_volumes(spec)]
    devices = [(name, syscalls.open_tree(f"/dev/{name}")) for name in _DEVICES]
    root = _assemble(spec, options)
    old = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    os.chdir(root)
    syscalls.pivot_root(".", ".")
    _mount_kernel_filesystems(options)
    _mount_devices(devices)
    for attach in attachments:
        attach()
    if not spec.get("privileged"):
        _hide_kernel_interfaces()
    os.makedirs(os.path.realpath(spec["cwd"] or "/"), exist_ok=True)
    if spec["read_only_root"]:
        _make_read_only(spec)
    os.fchdir(old)
    syscalls.mount("none", ".", flags=syscalls.MS_REC | syscalls.MS_PRIVATE)
    syscalls.unmount(".")
    os.close(old)
    os.chdir("/")


def writable_layers(directory: str) -> list[tuple[str, str]]:
    """Where in a container's `directory` its writes ended up: (path in the image, path of the overlay upper)."""
    found = [("/", f"{directory}/upper")]
    tops = f"{directory}/tops"
    if os.path.isdir(tops):
        found += [(f"/{top}", f"{tops}/{top}") for top in sorted(os.listdir(tops))]
    return found


# The root itself


def _assemble(spec: ContainerSpec, options: RootOptions) -> str:
    directory = spec["directory"]
    root = f"{directory}/root"
    for name in ("root", "upper", "work"):
        os.makedirs(f"{directory}/{name}", exist_ok=True)
    lowers = list(spec["lowers"])
    if spec["host_base"]:
        lowers.append(options.bases.host)
    lowers.append(options.bases.common)
    _mount_overlay(root, lowers, f"{directory}/upper", f"{directory}/work", options.rootless)
    if spec["host_base"]:
        for top in _host_tops():
            _mount_host_top(root, top, spec, options)
    return root


def _host_tops() -> list[str]:
    return [top for top in _HOST_TOPS if os.path.isdir(f"/{top}") and not os.path.islink(f"/{top}")]


def _mount_host_top(root: str, top: str, spec: ContainerSpec, options: RootOptions) -> None:
    upper, work = f"{spec['directory']}/tops/{top}", f"{spec['directory']}/tops-work/{top}"
    os.makedirs(upper, exist_ok=True)
    os.makedirs(work, exist_ok=True)
    candidates = [f"{layer}/{top}" for layer in spec["lowers"]]
    if options.rootless:
        candidates.append(f"{options.bases.host}/{top}")
    lowers = [path for path in candidates if os.path.isdir(path) and not os.path.islink(path)] + [f"/{top}"]
    targets = [mount["target"] for mount in spec["mounts"]] + list(spec.get("host_paths", []))
    if options.rootless:
        for target in targets:
            _make_in_upper(os.path.normpath(target), top, upper, lowers)
    try:
        _mount_overlay(f"{root}/{top}", lowers, upper, work, options.rootless)
    except OSError:
        if spec["lowers"]:
            raise
        # Kernels without overlays in user namespaces still show the host's tools, read-only.
        syscalls.mount(f"/{top}", f"{root}/{top}", flags=syscalls.MS_BIND | syscalls.MS_REC)
        syscalls.mount_setattr(
            syscalls.AT_FDCWD, f"{root}/{top}", attributes=syscalls.MOUNT_ATTR_RDONLY, recursive=True
        )


def _make_in_upper(target: str, top: str, upper: str, lowers: Sequence[str]) -> None:
    """Make the directories of a mount point below a host directory before the overlay exists: later is refused.

    Directories that a lower layer has keep its mode: in an overlay the topmost directory's attributes count.
    """
    if not target.startswith(f"/{top}/"):
        return
    path = ""
    for part in target.removeprefix(f"/{top}/").split("/")[:-1]:
        path += f"/{part}"
        existing = next((lower + path for lower in lowers if os.path.lexists(lower + path)), None)
        if existing is not None and not os.path.isdir(existing):
            return
        if not os.path.isdir(upper + path):
            os.mkdir(upper + path)
            os.chmod(upper + path, stat.S_IMODE(os.stat(existing).st_mode) if existing else 0o755)


def _mount_overlay(target: str, lowers: Sequence[str], upper: str, work: str, rootless: bool) -> None:
    """Mount an overlay. The kernel takes one page of options, so many long paths are given through short links."""
    options = f",upperdir={_escaped(upper)},workdir={_escaped(work)}" + (",userxattr" if rootless else "")
    lower = "lowerdir=" + ":".join(_escaped(path) for path in lowers)
    if len(lower) + len(options) < _PAGE:
        syscalls.mount("overlay", target, "overlay", syscalls.MS_NODEV, lower + options)
        return
    links = f"{target}.layers"
    os.makedirs(links)
    for number, path in enumerate(lowers):
        os.symlink(path, f"{links}/{number}")
    os.chdir(links)
    lower = "lowerdir=" + ":".join(str(number) for number in range(len(lowers)))
    syscalls.mount("overlay", target, "overlay", syscalls.MS_NODEV, lower + options)
    os.chdir("/")
    shutil.rmtree(links)


def _escaped(path: str) -> str:
    """A path inside overlay options, where colons and commas separate."""
    return path.replace("\\", "\\\\").replace(":", "\\:").replace(",", "\\,")


# What is mounted inside


def _mount_kernel_filesystems(options: RootOptions) -> None:
    flags = syscalls.MS_NOSUID | syscalls.MS_NODEV | syscalls.MS_NOEXEC
    syscalls.mount("proc", _directory("/proc"), "proc", flags)
    with contextlib.suppress(OSError):  # needs a network namespace of our own: a build step's is the host's
        syscalls.mount("sysfs", _directory("/sys"), "sysfs", flags | syscalls.MS_RDONLY)
        if options.unified_cgroup:
            syscalls.mount("cgroup", "/sys/fs/cgroup", "cgroup2", flags | syscalls.MS_RDONLY)


def _mount_devices(devices: list[tuple[str, int]]) -> None:
    no_programs = syscalls.MS_NOSUID | syscalls.MS_NOEXEC
    syscalls.mount("tmpfs", _directory("/dev"), "tmpfs", no_programs | syscalls.MS_NODEV, "mode=0755,size=65536k")
    for name, tree in devices:
        _attach(tree, _file(f"/dev/{name}"))
    for name, destination in _DEVICE_LINKS.items():
        os.symlink(destination, f"/dev/{name}")
    for name in ("pts", "shm", "mqueue"):
        os.mkdir(f"/dev/{name}")
    syscalls.mount("devpts", "/dev/pts", "devpts", no_programs, "newinstance,ptmxmode=0666,mode=0620")
    syscalls.mount("shm", "/dev/shm", "tmpfs", no_programs | syscalls.MS_NODEV, "mode=1777,size=65536k")
    with contextlib.suppress(OSError):  # needs an IPC namespace of our own, and is not in every kernel
        syscalls.mount("mqueue", "/dev/mqueue", "mqueue", no_programs | syscalls.MS_NODEV)


def _host_paths(spec: ContainerSpec) -> Iterator[Callable[[], None]]:
    for path in spec.get("host_paths", []):
        yield _bound(syscalls.open_tree(path), path, is_directory=os.path.isdir(path), read_only=True)


def _files(spec: ContainerSpec) -> Iterator[Callable[[], None]]:
    directory = f"{spec['directory']}/files"
    os.makedirs(directory, exist_ok=True)
    for number, (target, content) in enumerate(spec.get("files", {}).items()):
        source = f"{directory}/{number}"
        with open(source, "w", encoding="utf-8") as file:
            file.write(content)
        yield _bound(syscalls.open_tree(source), target, is_directory=False)


def _volumes(spec: ContainerSpec) -> Iterator[Callable[[], None]]:
    for number, mount in enumerate(spec["mounts"]):
        if mount["type"] == "tmpfs":
            yield _tmpfs(mount)
            continue
        source = mount.get("source", "")
        if mount["type"] == "empty":
            source = f"{spec['directory']}/volumes/{number}"
            os.makedirs(source, exist_ok=True)
        tree, is_directory = _open_source(source, mount.get("sub_path", ""))
        yield _bound(
            tree,
            mount["target"],
            is_directory=is_directory,
            read_only=mount.get("read_only"),
            slave=mount.get("propagation", "none") != "none",
            # A path of the host may name a device; one below a volume may have been made by a container.
            device=not is_directory and not mount.get("sub_path"),
        )


def _open_source(source: str, sub_path: str) -> tuple[int, bool]:
    if not sub_path:
        return syscalls.open_tree(source), os.path.isdir(source)
    inner = open_below(source, sub_path)
    try:
        return syscalls.open_tree("", directory=inner), stat.S_ISDIR(os.fstat(inner).st_mode)
    finally:
        os.close(inner)


def open_below(source: str, sub_path: str) -> int:
    """A descriptor (O_PATH) of `sub_path` in the directory `source`; missing directories are made with its mode.

    Raises `OSError` EXDEV when a link or `..` leads out of `source`.
    """
    resolve = syscalls.RESOLVE_BENEATH | syscalls.RESOLVE_NO_MAGICLINKS
    at = os.open(source, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with contextlib.suppress(FileNotFoundError):
            return syscalls.openat2(at, sub_path, os.O_PATH, resolve)
        mode = stat.S_IMODE(os.fstat(at).st_mode)
        parts = [part for part in sub_path.split("/") if part not in ("", ".")]
        for count in range(1, len(parts) + 1):
            path = "/".join(parts[:count])
            try:
                inner = syscalls.openat2(at, path, os.O_PATH, resolve)
            except FileNotFoundError:
                parent = syscalls.openat2(at, "/".join(parts[: count - 1]) or ".", os.O_PATH, resolve)
                os.mkdir(parts[count - 1], dir_fd=parent)
                inner = syscalls.openat2(parent, parts[count - 1], os.O_RDONLY | os.O_NOFOLLOW, resolve)
                os.fchmod(inner, mode)
                os.close(parent)
            os.close(inner)
        return syscalls.openat2(at, sub_path, os.O_PATH, resolve)
    finally:
        os.close(at)


def _bound(
    tree: int,
    target: str,
    *,
    is_directory: bool,
    read_only: bool | None = False,
    slave: bool = False,
    device: bool = False,
) -> Callable[[], None]:
    attributes = 0 if device else syscalls.MOUNT_ATTR_NODEV
    attributes |= syscalls.MOUNT_ATTR_RDONLY if read_only else 0
    propagation = syscalls.MS_SLAVE if slave else syscalls.MS_PRIVATE
    syscalls.mount_setattr(tree, "", attributes=attributes, propagation=propagation, recursive=True)

    def attach() -> None:
        _attach(tree, _directory(target) if is_directory else _file(target))

    return attach


def _tmpfs(mount: Mount) -> Callable[[], None]:
    def attach() -> None:
        flags = syscalls.MS_NOSUID | syscalls.MS_NODEV
        size = f",size={mount['size']}" if "size" in mount else ""
        target = _directory(mount["target"])
        syscalls.mount("tmpfs", target, "tmpfs", flags, f"mode=1777{size}")
        if mount.get("read_only"):
            syscalls.mount_setattr(syscalls.AT_FDCWD, target, attributes=syscalls.MOUNT_ATTR_RDONLY)

    return attach


def _attach(tree: int, target: str) -> None:
    syscalls.move_mount(tree, target)
    os.close(tree)


def _directory(target: str) -> str:
    """The real place of a mount point in the new root, made when it is missing."""
    real = os.path.realpath(target)
    os.makedirs(real, exist_ok=True)
    return real


def _file(target: str) -> str:
    real = os.path.realpath(target)
    if not os.path.lexists(real):
        os.makedirs(os.path.dirname(real), exist_ok=True)
        os.close(os.open(real, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o644))
    return real


# What is taken away


def _hide_kernel_interfaces() -> None:
    for path in _MASKED:
        with _tolerating():
            if os.path.isdir(path):
                syscalls.mount("tmpfs", path, "tmpfs", syscalls.MS_RDONLY, "size=0")
            else:
                syscalls.mount("/dev/null", path, flags=syscalls.MS_BIND)
    for path in _READ_ONLY:
        with _tolerating():
            syscalls.mount(path, path, flags=syscalls.MS_BIND | syscalls.MS_REC)
            syscalls.mount_setattr(syscalls.AT_FDCWD, path, attributes=syscalls.MOUNT_ATTR_RDONLY, recursive=True)


def _make_read_only(spec: ContainerSpec) -> None:
    tops = [f"/{top}" for top in _HOST_TOPS if spec["host_base"] and os.path.ismount(f"/{top}")]
    for path in ("/", *tops):
        syscalls.mount_setattr(syscalls.AT_FDCWD, path, attributes=syscalls.MOUNT_ATTR_RDONLY)


@contextlib.contextmanager
def _tolerating() -> Generator[None]:
    """For what not every kernel or every tier has, and no container needs to run."""
    with contextlib.suppress(PermissionError, FileNotFoundError, NotADirectoryError):
        yield


# The bases


def prepare_bases(cache: str, *, rootless: bool) -> Bases:
    """Make or find the base layers below the directory `cache`; safe to call from several processes at once.

    The host's part is named after the state of the host's /etc: when an account or a certificate is added there, the
    next container gets a new copy, and those that run keep theirs.
    """
    os.makedirs(cache, exist_ok=True)
    owner = f"{os.getuid()}{'r' if rootless else ''}"
    common = _made_once(f"{cache}/common-{_SKELETON_VERSION}-{owner}", _make_common)
    host = _made_once(f"{cache}/host-{_host_state()}-{owner}", lambda path: _make_host(path, rootless=rootless))
    return Bases(common, host)


def _made_once(path: str, make: Callable[[str], None]) -> str:
    if os.path.isdir(path):
        return path
    lock = os.open(f"{path}.lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not os.path.isdir(path):
            unfinished = f"{path}.unfinished"
            shutil.rmtree(unfinished, ignore_errors=True)
            os.makedirs(unfinished)
            make(unfinished)
            os.rename(unfinished, path)
    finally:
        os.close(lock)
    return path


def _host_state() -> str:
    digest = hashlib.sha256(f"{_SKELETON_VERSION}".encode())
    watched = ["/usr", "/usr/local", "/etc/passwd", "/etc/group", "/etc/nsswitch.conf", "/etc/ld.so.cache"]
    watched += sorted(entry.path for entry in os.scandir("/etc") if entry.is_dir(follow_symlinks=False))
    for path in ["/etc", *watched]:
        with _tolerating():
            digest.update(f"{path} {os.stat(path).st_mtime_ns}".encode())
    return digest.hexdigest()[:16]


def _make_common(path: str) -> None:
    for name in _COMMON_DIRECTORIES:
        os.makedirs(f"{path}/{name}")
    os.chmod(f"{path}/tmp", 0o1777)
    for name in ("hosts", "hostname", "resolv.conf"):
        os.close(os.open(f"{path}/etc/{name}", os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o644))


def _make_host(path: str, *, rootless: bool) -> None:
    _make_common(path)
    for name in ("home", "root", "mnt", "media", "srv", "opt", "run/lock"):
        os.makedirs(f"{path}/{name}", exist_ok=True)
    os.chmod(f"{path}/root", 0o700)
    for name in _HOST_TOPS:
        if os.path.islink(f"/{name}"):
            os.symlink(os.readlink(f"/{name}"), f"{path}/{name}")
        elif os.path.isdir(f"/{name}"):
            os.makedirs(f"{path}/{name}", exist_ok=True)
    if rootless:
        _copy_directories("/usr", path, depth=2)
        _copy_directories("/usr/local", path, depth=9)
    _copy_directories("/var", path, depth=4)
    _copy_links("/var", path)
    os.chmod(f"{path}/var/tmp", 0o1777)
    copy_public_files("/etc", path)


def _copy_directories(top: str, path: str, depth: int) -> None:
    for parent, directories, _ in os.walk(top):
        if parent.removeprefix(top).count("/") >= depth:
            directories.clear()
        os.makedirs(path + parent, exist_ok=True)
        with _tolerating():
            os.chmod(path + parent, stat.S_IMODE(os.stat(parent).st_mode) | stat.S_IRWXU)


def _copy_links(top: str, path: str) -> None:
    """Links at the top of a directory: /var/run and /var/lock."""
    for entry in os.scandir(top):
        if entry.is_symlink():
            os.symlink(os.readlink(entry.path), path + entry.path)


def copy_public_files(top: str, path: str) -> None:
    """A copy of what every user of the host may read: containers get no keys and no password hashes."""
    for parent, directories, files in os.walk(top):
        if parent in _SECRET_DIRECTORIES or not _others_may_enter(parent):
            directories.clear()
            continue
        os.makedirs(path + parent, exist_ok=True)
        links = [name for name in directories if os.path.islink(f"{parent}/{name}")]
        for name in [*links, *files]:
            with contextlib.suppress(OSError):  # gone or locked in the meantime: not worth a pod
                _copy_public_file(f"{parent}/{name}", f"{path}{parent}/{name}")


def _others_may_enter(directory: str) -> bool:
    try:
        return bool(os.stat(directory).st_mode & stat.S_IXOTH)
    except FileNotFoundError:
        return False


def _copy_public_file(source: str, target: str) -> None:
    status = os.lstat(source)
    if os.path.lexists(target):
        return
    if stat.S_ISLNK(status.st_mode):
        os.symlink(os.readlink(source), target)
    elif stat.S_ISREG(status.st_mode) and status.st_mode & stat.S_IROTH:
        shutil.copy2(source, target)
