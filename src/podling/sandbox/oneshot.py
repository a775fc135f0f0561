"""One command in a root of layers, without a node: what builds images.

The step runs in namespaces of its own but on the host's network, so that it can install packages; what it writes
becomes a layer. The work happens in a fresh process: the caller may have threads, and a process with threads can
neither enter a user namespace nor fork safely.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from typing import Any, TypedDict, cast

from podling.sandbox import netlink, process, rootfs, syscalls, tiers, wire
from podling.sandbox.cgroups import NoCgroups
from podling.sandbox.process import Settings, StartFailure, Tier
from podling.sandbox.spec import ContainerSpec


class Step(TypedDict):
    """What the fresh process is told; `remove` alone: delete a tree that belongs to subordinate ids."""

    spec: ContainerSpec | None
    cache_directory: str
    network: bool
    tier: Tier
    remove: str | None


def run_step(
    spec: ContainerSpec, output: int, *, cache_directory: str, network: bool = True, tier: Tier | None = None
) -> int:
    """Run the command of `spec` to its end and return its exit code, as a shell shows it.

    stdout and stderr go to the descriptor `output`. Afterwards `<spec["directory"]>/layer` holds what was written, in
    overlay format, and nothing else is left in the directory. `spec["pod"]` and limits mean nothing here; `tty` and
    `stdin` must be false. Raises `StartFailure` when the command cannot run, `TierError` when nothing can here.
    """
    directory = spec["directory"]
    step: Step = {
        "spec": spec,
        "cache_directory": cache_directory,
        "network": network,
        "tier": tier or tiers.choose(directory),
        "remove": None,
    }
    return _run(step, output)


def remove_tree(path: str) -> None:
    """Delete a tree of which parts may belong to subordinate ids, or be closed even to their owner."""
    if not os.path.lexists(path):
        return
    with contextlib.suppress(PermissionError):
        shutil.rmtree(path)
        return
    _run({"spec": None, "cache_directory": "", "network": True, "tier": tiers.candidates()[0], "remove": path}, 2)


def _run(step: Step, output: int) -> int:
    program = os.path.join(os.path.dirname(os.path.abspath(__file__)), "__main__.py")
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    with ours:
        with theirs:
            child = subprocess.Popen(
                [sys.executable, "-S", "-E", program, "step", str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                pass_fds=[theirs.fileno()],
                start_new_session=True,  # Ctrl-C is for the caller to hear, and to act upon
            )
        with child:
            try:
                with ours.makefile("rwb") as stream:
                    stream.write(json.dumps(step).encode() + b"\n")
                    stream.flush()
                    answer = stream.read()
            except KeyboardInterrupt:
                child.kill()  # and with it the command
                raise
            if not answer:
                raise StartFailure("the step was interrupted")
            message: dict[str, Any] = json.loads(answer)
    if "error" in message:
        raise StartFailure(message["error"], message["exit_code"])
    return message["exit_code"]


def main(descriptor: int) -> None:
    """In the fresh process: read the step, run it in a child, say how it ended."""
    with socket.socket(fileno=descriptor) as caller, caller.makefile("rwb") as stream:
        os.set_inheritable(descriptor, False)
        step = cast(Step, json.loads(stream.readline()))
        syscalls.prctl(syscalls.PR_SET_PDEATHSIG, signal.SIGKILL)
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        pid = os.fork()
        if pid == 0:
            ours.close()
            _enter(step, theirs)
        theirs.close()
        stream.write(json.dumps(_converse(step["tier"], pid, ours)).encode())


def _converse(tier: Tier, pid: int, line: socket.socket) -> dict[str, Any]:
    """Map the child's ids when it asks; its outcome."""
    outcome: dict[str, Any] = {"error": "the step was killed", "exit_code": process.FAILED}
    while (received := wire.receive(line)) is not None:
        message, _ = received
        if "map" not in message:
            outcome = message
            continue
        try:
            tiers.write_maps(tier, pid)
        except (OSError, tiers.TierError) as error:
            os.kill(pid, signal.SIGKILL)
            outcome = {"error": str(error), "exit_code": process.FAILED}
            break
        wire.send(line, {})
    os.waitpid(pid, 0)
    return outcome


def _enter(step: Step, line: socket.socket) -> None:
    """In the child: the user namespace, then the work."""

    def map_ids() -> None:
        wire.send(line, {"map": True})
        if wire.receive(line) is None:
            os._exit(1)

    def work() -> None:
        process.die_with_parent(line)
        tiers.enter_user_namespace(step["tier"], map_ids)
        process.die_with_parent(line)  # the change of identity took it back
        if step["remove"]:
            shutil.rmtree(step["remove"])
            wire.send(line, {"exit_code": 0})
        elif step["spec"] is not None:
            wire.send(line, {"exit_code": _run_to_end(step, step["spec"])})
        os._exit(0)

    process.reporting(line, work)


def _run_to_end(step: Step, spec: ContainerSpec) -> int:
    flags = syscalls.CLONE_NEWPID | syscalls.CLONE_NEWIPC | syscalls.CLONE_NEWUTS
    syscalls.unshare(flags | (0 if step["network"] else syscalls.CLONE_NEWNET))
    if not step["network"]:
        with netlink.Netlink() as connection:
            connection.transact([netlink.link_up(netlink.LOOPBACK_INDEX)])
    settings = Settings(step["tier"], step["cache_directory"], process.open_file_limits())
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    pid = os.fork()
    if pid == 0:
        ours.close()
        place = process.Place((), NoCgroups(), "")
        process.reporting(theirs, lambda: process.run_container(spec, settings, place, (-1, 1, 2), theirs))
    theirs.close()
    failure = wire.receive(ours)
    _, status = os.waitpid(pid, 0)
    if failure is not None:
        raise StartFailure(failure[0]["error"], failure[0]["exit_code"])
    _collect_layer(spec["directory"])
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


def _collect_layer(directory: str) -> None:
    """Make one tree of what was written through the overlays, as `layer`; the rest of the directory goes."""
    layer = f"{directory}/layer"
    for path, upper in rootfs.writable_layers(directory):
        target = layer + path.rstrip("/")
        if path != "/":
            if not os.listdir(upper):
                continue
            with contextlib.suppress(FileNotFoundError):
                shutil.rmtree(target)  # what lay hidden below the inner overlay
        os.rename(upper, target)
    for entry in os.listdir(directory):
        if entry != "layer":
            shutil.rmtree(f"{directory}/{entry}")
