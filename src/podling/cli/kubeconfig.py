"""The merging of a cluster into the user's own kubeconfig, and out of it again.

As kind does it: one context for a cluster, made current by `up`, removed by `down`; everything else in the file is
kept as it is. The file is locked as client-go locks it (`<file>.lock`, made exclusively) and replaced in one step.
"""

from __future__ import annotations

import base64
import contextlib
import os
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any, cast

import click
import yaml

from podling.cli import cluster
from podling.cli.cluster import name_option
from podling.layout import Layout

LOCK_PATIENCE = 5.0
"""Seconds to wait for another program's lock; client-go holds it for milliseconds."""
LOCK_RETRY = 0.05

Config = dict[str, Any]


def for_cluster(layout: Layout, server: str) -> Config:
    """A whole kubeconfig for just this cluster's administrator, with the certificates inside."""

    def data(name: str) -> str:
        return base64.b64encode((layout.pki / name).read_bytes()).decode()

    name = layout.context
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": name, "cluster": {"certificate-authority-data": data("ca.crt"), "server": server}}],
        "contexts": [{"name": name, "context": {"cluster": name, "user": name}}],
        "current-context": name,
        "preferences": {},
        "users": [
            {
                "name": name,
                "user": {"client-certificate-data": data("admin.crt"), "client-key-data": data("admin.key")},
            }
        ],
    }


def dump(config: Config) -> str:
    return yaml.dump(config, Dumper=getattr(yaml, "CSafeDumper", yaml.SafeDumper), sort_keys=False)


def user_file() -> Path:
    """The file to change: the first of $KUBECONFIG's list, else ~/.kube/config."""
    named = [part for part in os.environ.get("KUBECONFIG", "").split(os.pathsep) if part]
    return Path(named[0]).absolute() if named else Path.home() / ".kube" / "config"


def merge(file: Path, ours: Config) -> None:
    """Puts the cluster, user and context of `ours` into `file`, and makes the context current."""
    with _locked(file):
        config = _load(file)
        for part in ("clusters", "contexts", "users"):
            mine = ours[part][0]
            config[part] = [e for e in _entries(config, part) if e.get("name") != mine["name"]] + [mine]
        config["current-context"] = ours["current-context"]
        _replace(file, {"apiVersion": "v1", "kind": "Config", **config})


def remove(file: Path, name: str) -> None:
    """Takes the cluster, user and context called `name` out of `file`; harmless where they are not."""
    if not file.exists():
        return
    with _locked(file):
        config = _load(file)
        before = {part: _entries(config, part) for part in ("clusters", "contexts", "users")}
        after = {part: [e for e in entries if e.get("name") != name] for part, entries in before.items()}
        was_current = config.get("current-context") == name
        if before == after and not was_current:
            return
        config.update(after)
        if was_current:
            config["current-context"] = ""
        _replace(file, config)


def _entries(config: Config, part: str) -> list[Config]:
    return cast(list[Config], config.get(part) or [])


def _load(file: Path) -> Config:
    try:
        text = file.read_text()
    except FileNotFoundError:
        return {}
    try:
        loaded: object = yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except yaml.YAMLError as error:
        raise click.ClickException(f"{file} is no valid YAML, so it is left alone: {error}") from error
    if loaded is None:
        return {}
    if not isinstance(loaded, dict):
        raise click.ClickException(f"{file} is no kubeconfig (it holds no mapping), so it is left alone")
    return cast(Config, loaded)


def _replace(file: Path, config: Config) -> None:
    target = file.resolve()  # a kubeconfig that is a link stays one
    temporary = target.with_name(f".{target.name}.{os.getpid()}")
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as out:
        out.write(dump(config))
    temporary.replace(target)


@contextlib.contextmanager
def _locked(file: Path) -> Generator[None]:
    file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    lock = file.with_name(file.name + ".lock")
    deadline = time.monotonic() + LOCK_PATIENCE
    while True:
        try:
            os.close(os.open(lock, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
            break
        except FileExistsError:
            if time.monotonic() > deadline:
                raise click.ClickException(
                    f"{file} is locked by another program; if none is running, remove {lock}"
                ) from None
            time.sleep(LOCK_RETRY)  # a lock file cannot be waited for in any other way
    try:
        yield
    finally:
        lock.unlink(missing_ok=True)


@click.command("kubeconfig", help="Print a cluster's kubeconfig, for another user, tool or KUBECONFIG file.")
@name_option
def command(name: str) -> None:
    running = cluster.require(cluster.layout_of(name))
    click.echo(dump(for_cluster(running.layout, running.server)), nl=False)
