"""Runs a command in a container and gathers what it prints: exec probes and lifecycle hooks."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Sequence

from podling.api.gotext import quoted
from podling.node.checks import Outcome, Verdict
from podling.node.interfaces import ExecProcess, Sandbox
from podling.node.state import Instance
from podling.sandbox.client import SandboxError

OUTPUT_LIMIT = 10 * 1024


async def run(sandbox: Sandbox, instance: Instance, command: Sequence[str], timeout: float | None) -> tuple[int, str]:
    """Exit code and output of a command, with the container's own environment.

    Raises `TimeoutError`, after which the command is killed, and what the sandbox raises when it cannot be run.
    """
    process = await sandbox.exec(instance.id, command, env=instance.env, cwd=instance.cwd)
    gathering = asyncio.gather(*(_read(fd) for fd in (process.stdout, process.stderr) if fd is not None))
    try:
        async with asyncio.timeout(timeout):
            code = await process.wait()
            output = b"".join(await gathering)
    except (TimeoutError, asyncio.CancelledError):
        gathering.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await gathering
        await process.kill()
        raise
    finally:
        _close(process)
    return code, output[:OUTPUT_LIMIT].decode(errors="replace")


def _close(process: ExecProcess) -> None:
    for fd in (process.stdin, process.stdout, process.stderr):
        if fd is not None:
            with contextlib.suppress(OSError):
                os.close(fd)


async def _read(fd: int) -> bytes:
    """Everything until the end, of which the beginning is kept."""
    loop = asyncio.get_running_loop()
    os.set_blocking(fd, False)
    gathered = bytearray()
    readable = asyncio.Event()
    loop.add_reader(fd, readable.set)
    try:
        while True:
            await readable.wait()
            readable.clear()
            try:
                chunk = os.read(fd, 65536)
            except BlockingIOError:
                continue
            except OSError:  # a terminal whose other side is gone
                return bytes(gathered)
            if not chunk:
                return bytes(gathered)
            if len(gathered) < OUTPUT_LIMIT:
                gathered += chunk
    finally:
        loop.remove_reader(fd)


async def check_exec(sandbox: Sandbox, instance: Instance, command: Sequence[str], timeout: float) -> Outcome:
    """An exec probe, with the kubelet's messages."""
    try:
        code, output = await run(sandbox, instance, command, timeout)
    except TimeoutError:
        text = f"command timed out: {quoted(' '.join(command))} timed out after {timeout:g}s"
        return Outcome(Verdict.FAILURE, text)
    except (OSError, SandboxError) as error:
        return Outcome(Verdict.UNKNOWN, str(error))
    return Outcome(Verdict.SUCCESS if code == 0 else Verdict.FAILURE, output)
