"""Starting, finding and ending a cluster: what several commands share."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import select
import shutil
import socket
import sys
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path

import click

from podling.cli.api import Api
from podling.layout import DEFAULT_NAME, BadClusterName, ClusterRecord, Layout, cluster_names
from podling.sandbox import boot
from podling.sandbox.services import Service

READY_PATIENCE = 60.0
"""Seconds from the start of the processes to an API that answers."""

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

    def api(self) -> Api:
        return Api(self.layout, self.record["api_port"])


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


def start(layout: Layout) -> Cluster:
    """Starts the cluster and returns when its API answers. Raises `click.ClickException` with the mend."""
    record = read_record(layout) or _new_record(layout)
    for directory in (layout.state, layout.run, layout.logs, layout.pods, layout.images):
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    if not _is_free(record["api_port"]):
        record["api_port"] = _free_port()
    layout.record.write_text(json.dumps(record))
    with _readiness(layout) as ready:
        try:
            node = boot.start_node(_config(layout, record))
        except boot.NodeError as error:
            raise click.ClickException(str(error)) from error
        _await_api(layout, ready)
    return Cluster(layout, record, node.tier)


def stop(layout: Layout) -> None:
    """Ends the cluster's processes and removes its files. Harmless where there is none, also after a crash."""
    if layout.run.is_dir():
        try:
            boot.stop_node(str(layout.run))
        except boot.NodeError as error:
            raise click.ClickException(str(error)) from error
    for directory in (layout.run, layout.state):
        _remove(directory)
    layout.lock.unlink(missing_ok=True)


@contextlib.contextmanager
def exclusively(layout: Layout) -> Generator[None]:
    """One command at a time starts or ends a cluster."""
    layout.lock.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    lock = os.open(layout.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise click.ClickException(
                f"another podling command is starting or ending cluster {layout.name}; wait for it, then try again"
            ) from None
        yield
    finally:
        os.close(lock)


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


def _new_record(layout: Layout) -> ClusterRecord:
    return {"name": layout.name, "node": layout.context, "api_port": _free_port()}


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
    services: list[Service] = [
        {
            "name": name,
            "argv": [sys.executable, "-m", module, *arguments[name]],
            "env": environment,
            "log": str(layout.logs / f"{name}.log"),
        }
        for name, module in SERVICES.items()
    ]
    return boot.NodeConfig(
        name=layout.name,
        hostname=record["node"],
        run_directory=str(layout.run),
        cache_directory=str(layout.images),
        services=services,
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


def _await_api(layout: Layout, ready: int) -> None:
    readable, _, _ = select.select([ready], [], [], READY_PATIENCE)
    message = os.read(ready, 65536).decode() if readable else ""
    if message == "ready\n":
        return
    boot.stop_node(str(layout.run))
    why = message.strip() or f"the API did not answer within {READY_PATIENCE:.0f} s"
    raise click.ClickException(f"cluster {layout.name} did not start: {why}\nIts log: {layout.logs / 'daemon.log'}")


def _remove(directory: Path) -> None:
    if directory.is_dir():
        shutil.rmtree(directory, onerror=_make_writable)


def _make_writable(_function: object, path: str, _failure: object) -> None:
    """Containers leave directories without write permission, which their owner may give back."""
    Path(path).parent.chmod(0o700)
    if Path(path).is_dir() and not Path(path).is_symlink():
        Path(path).chmod(0o700)
        shutil.rmtree(path)
    else:
        Path(path).unlink(missing_ok=True)
