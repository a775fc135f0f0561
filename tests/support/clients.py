"""Other people's clients: each in its own environment, installed by name once and kept for the next run.

A story is a function of a script in `tests/clients/stories`, which runs in the client's environment and knows nothing
of pytest: it takes the name of a fresh namespace and fails by raising.
"""

from __future__ import annotations

import ast
import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from support.kubectl import Kubectl
from support.people import Person

STORIES = Path(__file__).resolve().parents[1] / "clients" / "stories"
INSTALLING = 600.0
"""Seconds that an installation may take."""


@dataclass(frozen=True)
class Client:
    """What tells a story: the words before its script."""

    command: tuple[str | Path, ...]
    environment: Path

    def binary(self, name: str) -> Path:
        """A program that the client's packages brought along."""
        return self.environment / "bin" / name


@dataclass(frozen=True)
class Cluster:
    """A running podling cluster that clients share, each in a namespace of its own."""

    person: Person
    name: str
    kubectl: Kubectl

    def status(self) -> Any:
        """What `podling status` tells of it."""
        return self.person.podling_json("status", "--name", self.name)

    def tell(self, client: Client, script: str, story: str, namespace: str, timeout: float = 60) -> str:
        """Runs one story; what it printed. Raises with all its output where it fails."""
        __tracebackhide__ = True
        command = [*client.command, STORIES / script, story, namespace]
        done = self.person.run(*command, timeout=timeout, check=False)
        if done.returncode != 0:
            pytest.fail(f"{story} ended with {done.returncode}\n{done.stdout}\n{done.stderr}", pytrace=False)
        return done.stdout


def stories(script: str) -> list[str]:
    """The names of a script's stories in their order: what it exports; in Python its public functions."""
    text = (STORIES / script).read_text()
    if script.endswith(".mjs"):
        return re.findall(r"^export async function (\w+)", text, re.MULTILINE)
    functions = [n for n in ast.parse(text).body if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]
    return [f.name for f in functions if not f.name.startswith("_")]


def python_client(*requirements: str) -> Client:
    """A virtual environment with these packages of the Python index."""

    def install(directory: Path) -> None:
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", directory], check=True)
        pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", directory / "bin" / "python"]
        _installed(
            [*pip, "install", "--quiet", *requirements], [*pip, "download", "--no-deps", "--no-cache-dir", "six"]
        )

    directory = _kept("python", [sys.version, *requirements], install)
    return Client((directory / "bin" / "python", STORIES / "runner.py"), directory)


def javascript_client(*packages: str) -> Client:
    """A directory with these packages of the npm registry, the first of which the stories are handed."""
    npm, node = shutil.which("npm"), shutil.which("node")
    if npm is None or node is None:
        pytest.skip("no Node.js on PATH: the JavaScript client cannot run here")

    def install(directory: Path) -> None:
        directory.mkdir()
        quiet = ["--no-audit", "--no-fund", "--loglevel=error"]
        _installed([npm, "install", *quiet, "--prefix", directory, *packages], [npm, "view", "is-number", "version"])

    directory = _kept("javascript", packages, install)
    return Client((node, STORIES / "runner.mjs", directory, packages[0].rpartition("@")[0]), directory)


def _kept(language: str, ingredients: Sequence[str], install: Callable[[Path], None]) -> Path:
    """The directory that `install` filled, now or in an earlier run; several runs may ask at once."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "podling-tests"
    cache.mkdir(parents=True, exist_ok=True)
    key = hashlib.sha256("\n".join(ingredients).encode()).hexdigest()[:16]
    directory, complete = cache / f"{language}-{key}", cache / f"{language}-{key}.complete"
    with (cache / f"{language}-{key}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not complete.exists():
            shutil.rmtree(directory, ignore_errors=True)
            install(directory)
            complete.touch()
    return directory


def _installed(command: Sequence[str | Path], control: Sequence[str | Path]) -> None:
    """Runs an installation. It may fail only where the index cannot be reached, which the `control` tells: it asks for
    something small that is certainly there."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=INSTALLING, check=False)
    if done.returncode == 0:
        return
    with tempfile.TemporaryDirectory() as elsewhere:
        reached = subprocess.run(control, cwd=elsewhere, capture_output=True, check=False).returncode == 0
    if not reached:
        pytest.skip(f"no package index can be reached, so this client cannot be installed: {command[-1]}")
    raise AssertionError(f"{' '.join(map(str, command))}\n{done.stdout}\n{done.stderr}")
