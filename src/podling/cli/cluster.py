"""Starting, finding and ending a cluster: what several commands share."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import http.client
import json
import os
import select
import socket
import sys
import time
from collections import deque
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from pathlib import Path

import click

from podling.cli.api import Api, RequestFailed
from podling.cli.progress import Progress
from podling.layout import (
    DEFAULT_NAME,
    NODE_GRACE,
    BadClusterName,
    ClusterRecord,
    Layout,
    cluster_names,
    write_record,
)
from podling.sandbox import boot, oneshot
from podling.sandbox.process import StartFailure
from podling.sandbox.services import Service

READY_PATIENCE = 60.0
"""Seconds from the start of the processes to an API that answers; a daemon that ends is noticed at once."""
RETURN_PATIENCE = 15.0
"""Seconds for a running cluster's daemon to come back: longer than the longest pause between its restarts."""
ABSENCE_PATIENCE = 1.0
"""Seconds without a daemon process: longer than the first pauses between restarts."""
ANSWER_PATIENCE = 3.0
LINES_SHOWN = 25
"""Of a log, with an error."""

SERVICES = {"daemon": "podling.daemon", "proxy": "podling.network.proxy"}
"""What the zygote keeps running, each a module."""

name_option = click.option(
    "--name", default=DEFAULT_NAME, show_default=True, metavar="NAME", help="Which cluster; several run side by side."
)


@dataclass(frozen=True, slots=True)
class Cluster:
    """A running cluster."""

    layout: Layout
    record: ClusterRecord
    tier: str

    @property
    def server(self) -> str:
        return f"https://127.0.0.1:{self.record['api_port']}"

    def api(self, timeout: float = 30.0) -> Api:
        return Api(self.layout, self.record["api_port"], timeout=timeout)


def layout_of(name: str) -> Layout:
    try:
        return Layout.of(name)
    except BadClusterName as error:
        raise click.BadParameter(str(error), param_hint="--name") from error


def find(layout: Layout) -> Cluster | None:
    """The cluster, if it runs."""
    node = boot.find_node(str(layout.run))
    record = read_record(layout)
    return Cluster(layout, record, node.tier) if node and record else None


def require(layout: Layout) -> Cluster:
    """The cluster. Ends the command with the mend where it does not run."""
    cluster = find(layout)
    if cluster is not None:
        return cluster
    option = "" if layout.name == DEFAULT_NAME else f" --name {layout.name}"
    others = [n for n in cluster_names() if n != layout.name]
    hint = f" (there is also: {', '.join(others)}; choose it with --name)" if others else ""
    raise click.ClickException(f"cluster {layout.name} does not run{hint}. Start it: podling up{option}")


@dataclass(frozen=True, slots=True)
class Wishes:
    """What `podling up` was told about the cluster. `None`: as it is, or as is usual."""

    addons: bool = True
    """Of a new cluster; one that was kept stays as it was made."""
    time_scale: int | None = None
    """Of a new cluster too."""
    nodes: int | None = None
    capacity: Mapping[str, str] | None = None
    """Of each node, by resource."""
    grace: float | None = None
    """Of a new cluster: seconds without a sign of life until a node counts as dead."""


def start(layout: Layout, wishes: Wishes) -> Cluster:
    """Starts the cluster and returns when its API answers. Raises `click.ClickException` with the reason and the mend.

    Where that fails or is interrupted, no process of it is left. One that was kept has the nodes that it had: see
    `resize`.
    """
    record = read_record(layout) or _new_record(layout, wishes)
    for directory in (layout.state, layout.run, layout.logs, layout.images):
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    if layout.run.stat().st_uid != os.geteuid():  # it can lie in a directory that everyone may write to
        raise click.ClickException(f"{layout.run} belongs to another user: set PODLING_HOME to a shorter directory")
    if not _is_free(record["api_port"]):
        record["api_port"] = _free_port()
    write_record(layout, record)
    said = _Tail(layout.logs / "daemon.log")
    with _readiness(layout) as ready:
        try:
            boot.stop_node(str(layout.run), grace=0)  # what a crash may have left
            layout.stopped_nodes.unlink(missing_ok=True)
            node = boot.start_node(_config(layout, record))
            _await_api(layout, ready, said)
        except boot.NodeError as error:
            raise click.ClickException(f"cluster {layout.name} did not start: {error}") from error
        except BaseException:
            boot.stop_node(str(layout.run), grace=0)
            raise
    return Cluster(layout, record, node.tier)


def resize(running: Cluster, wishes: Wishes, progress: Progress) -> None:
    """Gives the cluster the nodes that are wished for. Raises `RequestFailed`."""
    record = running.record
    count, capacity = wishes.nodes or record.get("nodes", 1), wishes.capacity
    if (count, capacity or record.get("node_capacity")) == (record.get("nodes", 1), record.get("node_capacity")):
        return
    body = json.dumps({"count": count, "capacity": capacity}).encode()
    with progress.step(f"Changing the nodes of cluster {running.layout.name}") as step:
        running.api().request("POST", "/podling/nodes", body, content="application/json")
        step.detail(f"({count})")


def stop(layout: Layout, *, keep: bool = False) -> None:
    """Ends the cluster's processes and removes its files, or keeps them for another `start`.

    Harmless where there is none, also after a crash.
    """
    if layout.run.is_dir():
        try:
            boot.stop_node(str(layout.run))
        except boot.NodeError as error:
            raise click.ClickException(str(error)) from error
    for directory in (layout.run,) if keep else (layout.run, layout.state):
        _remove(directory)


@contextlib.contextmanager
def exclusively(layout: Layout) -> Generator[None]:
    """One command at a time starts or ends a cluster. The lock's file goes with the cluster."""
    layout.lock.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    lock = _lock(layout)
    try:
        yield
    finally:
        if not layout.state.exists():
            layout.lock.unlink(missing_ok=True)
        os.close(lock)


def _lock(layout: Layout) -> int:
    while True:
        lock = os.open(layout.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            raise click.ClickException(
                f"another podling command is starting or ending cluster {layout.name}; wait for it, then try again"
            ) from None
        if os.fstat(lock).st_nlink:
            return lock
        os.close(lock)  # whoever held it has removed its file, so others would lock another one


@contextlib.contextmanager
def plain_errors() -> Generator[None]:
    """What the machine refuses, as a sentence instead of a traceback."""
    try:
        yield
    except OSError as error:
        raise click.ClickException(explain(error)) from error


def explain(error: OSError) -> str:
    where = f" ({error.filename})" if error.filename else ""
    mends = {
        errno.ENOSPC: "the disk is full: make room, then try again",
        errno.EDQUOT: "your disk quota is used up: make room, then try again",
        errno.EACCES: "no permission: choose a directory of your own with PODLING_HOME",
        errno.EPERM: "not permitted for this user",
        errno.EROFS: "the file system is read-only: choose another directory with PODLING_HOME",
    }
    what = error.strerror or str(error)
    mend = mends.get(error.errno or 0)
    return f"{what}{where}" + (f": {mend}" if mend else "")


def read_record(layout: Layout) -> ClusterRecord | None:
    try:
        record: ClusterRecord = json.loads(layout.record.read_text())
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise click.ClickException(
            f"{layout.record} is damaged ({error}); remove the cluster: podling down --name {layout.name}"
        ) from error
    return record


def check(layout: Layout, wishes: Wishes) -> None:
    """Ends the command where the cluster exists and was made otherwise than wished for: some things stay."""
    record = read_record(layout)
    if record is None:
        return
    if not wishes.addons and record.get("addons", True):
        raise _is_kept(layout, "with addons", "them")
    _check_stays(layout, "--time-scale", record.get("time_scale", 1), wishes.time_scale)
    _check_stays(layout, "--node-monitor-grace-period", record.get("node_grace", NODE_GRACE), wishes.grace)


def _check_stays(layout: Layout, option: str, made: float, wanted: float | None) -> None:
    if wanted in (None, made):
        return
    raise _is_kept(layout, f"with {option} {made:g}", "it")


def _is_kept(layout: Layout, made: str, what: str) -> click.ClickException:
    name = "" if layout.name == DEFAULT_NAME else f" --name {layout.name}"
    return click.ClickException(
        f"cluster {layout.name} was made {made}, and keeps {what}; remove it first: podling down{name}"
    )


def _new_record(layout: Layout, wishes: Wishes) -> ClusterRecord:
    record: ClusterRecord = {
        "name": layout.name,
        "node": layout.context,
        "api_port": _free_port(),
        "addons": wishes.addons,
        "nodes": wishes.nodes or 1,
        "node_capacity": dict(wishes.capacity or {}),
    }
    if wishes.time_scale not in (None, 1):
        record["time_scale"], record["since"] = wishes.time_scale, time.time()
    if wishes.grace is not None:
        record["node_grace"] = wishes.grace
    return record


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


def _is_free(port: int) -> bool:
    try:
        socket.create_server(("127.0.0.1", port)).close()
    except OSError:
        return False
    return True


def _config(layout: Layout, record: ClusterRecord) -> boot.NodeConfig:
    arguments = {
        "daemon": ["--home", str(layout.home), "--name", layout.name],
        "proxy": ["--run", str(layout.run)],
    }
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    services: dict[str, Service] = {
        name: {
            "name": name,
            "argv": [sys.executable, "-m", module, *arguments[name]],
            "env": environment,
            "log": str(layout.logs / f"{name}.log"),
        }
        for name, module in SERVICES.items()
    }
    services["daemon"]["watched"] = str(ready_path(layout))
    return boot.NodeConfig(
        name=layout.name,
        hostname=record["node"],
        run_directory=str(layout.run),
        cache_directory=str(layout.images),
        services=list(services.values()),
    )


def ready_path(layout: Layout) -> Path:
    """A FIFO: whoever starts the cluster reads from it, and the daemon writes one line to it."""
    return layout.run / "ready"


@contextlib.contextmanager
def _readiness(layout: Layout) -> Generator[int]:
    path = ready_path(layout)
    path.unlink(missing_ok=True)
    os.mkfifo(path, 0o600)
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
        path.unlink(missing_ok=True)


def _await_api(layout: Layout, ready: int, said: _Tail) -> None:
    """Hears the daemon's word, its end (nobody holds the FIFO open any more), or nothing."""
    readable, _, _ = select.select([ready], [], [], READY_PATIENCE)
    message = os.read(ready, 65536).decode() if readable else ""
    if message == "ready\n":
        return
    why = message.strip() or ("its daemon ended" if readable else f"no answer of its API within {READY_PATIENCE:.0f} s")
    lines = [] if message else said.lines()
    log = f"The whole log: {said.path}"
    raise click.ClickException("\n".join([f"cluster {layout.name} did not start: {why}", *lines, log]))


def await_api(cluster: Cluster) -> None:
    """Until the API of a running cluster answers: its daemon may be on its way back from a crash.

    One that ends again and again is waited for longer and longer before its next start; that is not waited for.
    """
    said = _Tail(cluster.layout.logs / "daemon.log")
    began = alive = time.monotonic()
    while not answers(cluster):
        now = time.monotonic()
        node = boot.find_node(str(cluster.layout.run))
        if node and "daemon" in service_pids(node.zygote_pid):
            alive = now
        if now > began + RETURN_PATIENCE or now > alive + ABSENCE_PATIENCE:
            why = f"the API of cluster {cluster.layout.name} does not answer; the end of its daemon's log:"
            raise click.ClickException("\n".join([why, *said.lines(since=0), f"The whole log: {said.path}"]))
        time.sleep(0.05)  # nothing tells of a port that is listened on again


def answers(cluster: Cluster) -> bool:
    """Whether the API answers."""
    try:
        cluster.api(timeout=ANSWER_PATIENCE).get("/version")
    except (OSError, RequestFailed, http.client.HTTPException):
        return False
    return True


def service_pids(zygote: int) -> dict[str, int]:
    """The zygote's children that are podling's own, by their program; the others are containers."""
    try:
        children = Path(f"/proc/{zygote}/task/{zygote}/children").read_text().split()
    except OSError:
        return {}
    found: dict[str, int] = {}
    for child in children:
        with contextlib.suppress(OSError):
            words = Path(f"/proc/{child}/cmdline").read_bytes().split(b"\0")
            for name, module in SERVICES.items():
                if words[1:3] == [b"-m", module.encode()]:
                    found[name] = int(child)
    return found


class _Tail:
    """The last lines of a log, as far as they were written since this was made."""

    def __init__(self, path: Path, limit: int = LINES_SHOWN) -> None:
        self.path = path
        self._limit = limit
        self._start = path.stat().st_size if path.exists() else 0

    def lines(self, since: int | None = None) -> list[str]:
        try:
            with self.path.open(errors="replace") as file:
                file.seek(self._start if since is None else since)
                return [f"  {line.rstrip()}" for line in deque(file, self._limit)]
        except OSError:
            return []


def tail(path: Path, limit: int) -> list[str]:
    """The last lines of a file; none where there is no such file."""
    return _Tail(path, limit).lines(since=0)


def _remove(directory: Path) -> None:
    """Also what belongs to the ids of containers, which only the user namespace may remove."""
    try:
        oneshot.remove_tree(str(directory))
    except StartFailure as error:
        raise click.ClickException(f"{directory} cannot be removed: {error}") from error
