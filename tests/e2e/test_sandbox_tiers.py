"""What podling says on machines that do not let it work: imitated by a filter on system calls."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from podling.sandbox import boot, seccomp, syscalls

PROGRAM = Path(boot.__file__).with_name("__main__.py")


def deny_like_a_container() -> None:
    syscalls.prctl(syscalls.PR_SET_NO_NEW_PRIVS, 1)
    syscalls.install_filter(seccomp.runtime_default())


def probe(directory: Path) -> dict[str, str]:
    command = [sys.executable, "-S", "-E", str(PROGRAM), "probe", str(directory)]
    outcome = subprocess.run(command, capture_output=True, text=True, check=False, preexec_fn=deny_like_a_container)
    return json.loads(outcome.stdout)


def test_a_container_that_refuses_namespaces_is_told_apart_with_the_mend(tmp_path: Path):
    seen = probe(tmp_path)
    assert "namespaces do not work: " in seen["error"]
    assert "Operation not permitted" in seen["error"]
    assert "machine of your own" in seen["error"] or "sysctl" in seen["error"]
    assert os.listdir(tmp_path) == []


def test_a_node_that_cannot_start_says_so_and_leaves_nothing(tmp_path: Path):
    (tmp_path / "run").mkdir()
    inner = tmp_path / "inner.py"
    inner.write_text(
        f"import os, sys\nsys.path.insert(0, {str(PROGRAM.parents[2])!r})\n"
        "from podling.sandbox import seccomp, syscalls\n"
        "syscalls.prctl(syscalls.PR_SET_NO_NEW_PRIVS, 1)\nsyscalls.install_filter(seccomp.runtime_default())\n"
        "os.execv(sys.executable, ['python', *sys.argv[1:]])\n"
    )
    filtered = tmp_path / "python"
    filtered.write_text(f'#!/bin/sh\nexec {sys.executable} {inner} "$@"\n')
    filtered.chmod(0o755)
    config = boot.NodeConfig(
        name=f"refused-{os.getpid()}",
        hostname="refused",
        run_directory=str(tmp_path / "run"),
        cache_directory=str(tmp_path / "cache"),
        python=str(filtered),
    )
    with pytest.raises(boot.NodeError, match="namespaces do not work"):
        boot.start_node(config)
    assert not boot.is_running(str(tmp_path / "run"))
    boot.stop_node(str(tmp_path / "run"))
    assert list(Path("/sys/fs/cgroup").glob(f"**/podling-refused-{os.getpid()}-*")) == []


def test_a_path_that_is_too_long_for_a_socket_is_refused_with_the_mend(tmp_path: Path):
    directory = tmp_path / ("long" * 30)
    directory.mkdir()
    with pytest.raises(boot.NodeError, match="PODLING_HOME"):
        boot.start_node(
            boot.NodeConfig(name="x", hostname="x", run_directory=str(directory), cache_directory=str(tmp_path))
        )
