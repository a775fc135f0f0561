"""Who runs podling in a test: root, or an ordinary user of this machine that the test makes and removes."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[2]
KINDS = ("root", "rootless") if os.getuid() == 0 else ("rootless",)


@dataclass(frozen=True)
class Person:
    """Runs commands with an own home, kubeconfig and podling state. `uid` is None for whoever runs the tests."""

    kind: str
    home: Path
    bin: Path
    """Where `podling` and `python` are."""
    user: str | None = None
    extra: dict[str, str] = field(default_factory=dict[str, str])

    @property
    def env(self) -> dict[str, str]:
        kept = {k: v for k, v in os.environ.items() if k in ("PATH", "LANG", "TERM") or k.startswith("PIP_")}
        return {
            **kept,
            "HOME": str(self.home),
            "PODLING_HOME": str(self.home / "p"),
            "KUBECONFIG": str(self.home / "kubeconfig"),
            "PATH": f"{self.bin}:{kept.get('PATH', os.defpath)}",
            **self.extra,
        }

    @property
    def _identity(self) -> dict[str, Any]:
        """What makes a child process this person's: no program in between, so that it can be signalled."""
        if self.user is None:
            return {}
        entry = pwd.getpwnam(self.user)
        return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}

    def run(
        self,
        *args: str | Path,
        stdin: str | None = None,
        check: bool = True,
        timeout: float = 120,
        cwd: Path | None = None,
    ) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [str(a) for a in args],
            input=stdin,
            capture_output=True,
            text=True,
            env=self.env,
            timeout=timeout,
            cwd=cwd or self.home,
            check=False,
            **self._identity,
        )
        if check and done.returncode != 0:
            raise AssertionError(f"{' '.join(map(str, args))} -> {done.returncode}\n{done.stdout}\n{done.stderr}")
        return done

    def start(self, *args: str | Path, **options: Any) -> subprocess.Popen[str]:
        words = [str(a) for a in args]
        return subprocess.Popen(words, text=True, env=self.env, cwd=self.home, **self._identity, **options)

    def podling(self, *args: str | Path, **options: Any) -> subprocess.CompletedProcess[str]:
        return self.run(self.bin / "podling", *args, **options)

    def podling_json(self, *args: str | Path) -> Any:
        return json.loads(self.podling(*args, "-o", "json").stdout)

    def own(self, path: Path) -> Path:
        """Gives a tree of files to this person."""
        if self.user is not None:
            subprocess.run(["chown", "-R", f"{self.user}:", str(path)], check=True)
        return path

    def copy(self, source: Path, name: str | None = None) -> Path:
        """A copy of a directory in this person's home."""
        target = self.home / (name or source.name)
        shutil.rmtree(target, ignore_errors=True)  # of a test before
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__", ".pytest_cache"))
        return self.own(target)


@contextmanager
def myself() -> Generator[Person]:
    kind = "root" if os.getuid() == 0 else "rootless"
    with tempfile.TemporaryDirectory(prefix="podling-", dir="/tmp") as home:
        yield Person(kind, Path(home), Path(sys.executable).parent)


@contextmanager
def unprivileged() -> Generator[Person]:
    """A user made for the test (needs root), with podling installed where that user can read it."""
    home = Path(tempfile.mkdtemp(prefix="podling-user-", dir="/tmp"))
    user = f"podling-{home.name[-8:]}"
    try:
        subprocess.run(["useradd", "--no-create-home", "--home-dir", str(home), user], check=True)
        _install(home / "venv")
        subprocess.run(["chown", "-R", f"{user}:", str(home)], check=True)
        home.chmod(0o755)
        yield Person("rootless", home, home / "venv" / "bin", user)
    finally:
        subprocess.run(["userdel", "--force", user], check=False, capture_output=True)
        shutil.rmtree(home, ignore_errors=True)


def _install(venv: Path) -> None:
    """A virtual environment whose interpreter others may read: the one of the tests can lie in a private home."""
    subprocess.run([_public_python(), "-m", "venv", "--without-pip", venv], check=True)
    pip = [sys.executable, "-m", "pip", "--python", venv / "bin" / "python", "install", "--quiet"]
    subprocess.run([*pip, REPOSITORY], check=True)


def _public_python() -> Path:
    candidates = [Path(sys.executable).resolve(), Path("/usr/bin/python3"), Path("/usr/local/bin/python3")]
    for candidate in candidates:
        if _everyone_may_run(candidate):
            return candidate
    raise RuntimeError(f"no Python 3.11 or newer that every user may run, among {candidates}")


def _everyone_may_run(python: Path) -> bool:
    try:
        probe = subprocess.run(
            [python, "-c", "import sys; sys.exit(sys.version_info < (3, 11))"],
            user=pwd.getpwnam("nobody").pw_uid,
            capture_output=True,
            cwd="/",
            check=False,
        )
    except (FileNotFoundError, PermissionError):
        return False
    return probe.returncode == 0
