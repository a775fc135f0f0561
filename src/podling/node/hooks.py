"""Lifecycle hooks: what `postStart` and `preStop` ask for, carried out once."""

from __future__ import annotations

import asyncio

from podling.node import checks, execution
from podling.node.interfaces import Sandbox
from podling.node.state import Instance
from podling.sandbox.client import SandboxError
from podling.store.types import Object


class HookError(Exception):
    """The hook did not succeed."""


async def run_hook(hook: Object, container: Object, instance: Instance, ip: str, sandbox: Sandbox, agent: str) -> None:
    """Raises `HookError`. The caller bounds the time."""
    if "exec" in hook:
        await _run_exec(hook["exec"].get("command") or [], instance, sandbox)
    elif "httpGet" in hook:
        await _run_http(hook["httpGet"], container, ip, agent)
    elif "sleep" in hook:
        await asyncio.sleep(hook["sleep"].get("seconds", 0))


async def _run_exec(command: list[str], instance: Instance, sandbox: Sandbox) -> None:
    try:
        code, output = await execution.run(sandbox, instance, command, None)
    except (OSError, SandboxError) as error:
        raise HookError(str(error)) from error
    if code != 0:
        raise HookError(f"command exited with {code}: {output}")


async def _run_http(action: Object, container: Object, ip: str, agent: str) -> None:
    """Any answer will do but an error of the connection."""
    target = checks.http_target(action, container, ip)
    if target is None:
        raise HookError(f"no port named {action['port']}")
    try:
        await checks.get(target, agent)
    except checks.HttpProblem as problem:
        raise HookError(str(problem)) from problem
