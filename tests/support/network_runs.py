"""Runs a scenario of `network_scenarios` in a node of its own, as root and as a user without any right."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
NOBODY = 65534
PUBLIC_PYTHONS = (sys.executable, "/usr/bin/python3", "/usr/local/bin/python3")


@dataclass(frozen=True)
class Runner:
    """Runs scenarios with `python` as `user` (`None`: whoever runs the tests), from a copy that everybody may read."""

    directory: Path
    python: str
    user: int | None

    def __call__(self, scenario: str, *arguments: object) -> Any:
        return self.module("support.network_node", scenario, *arguments)

    def module(self, name: str, *arguments: object) -> Any:
        done = subprocess.run(
            [self.python, "-m", name, *map(str, arguments)],
            cwd=self.directory,
            env={"PYTHONPATH": str(self.directory), "PATH": os.defpath, "PYTHONDONTWRITEBYTECODE": "1"},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
            user=self.user,
            group=self.user,
            extra_groups=[] if self.user else None,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return json.loads(done.stdout)


@contextmanager
def runner(kind: str) -> Generator[Runner]:
    """`kind`: "root" or "rootless"."""
    user = NOBODY if kind == "rootless" and os.getuid() == 0 else None
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        directory = Path(name)
        shutil.copytree(REPOSITORY / "src" / "podling", directory / "podling")
        shutil.copytree(REPOSITORY / "tests" / "support", directory / "support")
        shutil.copytree(Path(orjson.__file__).parent, directory / "orjson")
        directory.chmod(0o755)
        yield Runner(directory, _python(user), user)


def _python(user: int | None) -> str:
    """An interpreter that the user may run: the one of the tests can lie in a private home."""
    if user is None:
        return sys.executable
    for candidate in PUBLIC_PYTHONS:
        same = f"import sys; sys.exit(sys.version_info[:2] != {sys.version_info[:2]})"
        try:
            if subprocess.run([candidate, "-I", "-c", same], user=user, cwd="/", check=False).returncode == 0:
                return candidate
        except OSError:
            continue
    pytest.skip(f"none of {PUBLIC_PYTHONS} is Python {sys.version_info[0]}.{sys.version_info[1]} for every user")


def kinds() -> list[str]:
    """As whom scenarios can be run here."""
    return ["root", "rootless"] if os.getuid() == 0 else ["rootless"]
