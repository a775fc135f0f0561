"""A pod's place behind services, which it leaves before it is stopped and takes again when it is ready."""

from __future__ import annotations

import asyncio

from podling.node.local_pod import LocalPod
from podling.node.state import Role, containers_of, is_ready
from podling.node.surroundings import Surroundings

DRAIN_PATIENCE = 0.5
"""Seconds for which a pod may finish the connections that it has, before it is told to stop anyway."""
DRAIN_FIRST_LOOK = 0.002
DRAIN_LAST_LOOK = 0.03


class Traffic:
    def __init__(self, local: LocalPod, surroundings: Surroundings) -> None:
        self._local = local
        self._with = surroundings
        self._withdrawn = False

    async def withdraw(self) -> None:
        """Out of every service, until it is ready again."""
        ip = self._local.record.ip
        if ip and not self._local.shares_network and not self._withdrawn:
            self._withdrawn = True
            await self._with.network.withdraw(ip)

    async def readmit(self) -> None:
        """Back into them, once all its containers serve."""
        if self._withdrawn and self._serves():
            self._withdrawn = False
            await self._with.network.admit(self._local.record.ip)

    def _serves(self) -> bool:
        slots = self._local.slots
        return not any(slot.stopping for slot in slots.values()) and all(
            is_ready(container, slots[container["name"]])
            for container, role in containers_of(self._local.pod)
            if role in (Role.MAIN, Role.SIDECAR)
        )

    async def drain(self) -> None:
        """Returns when no new connection reaches the pod and those that waited have been accepted."""
        await self.withdraw()
        loop = asyncio.get_running_loop()
        until, pause = loop.time() + DRAIN_PATIENCE, DRAIN_FIRST_LOOK
        while not self._local.shares_network and loop.time() < until:
            if not await self._with.sandbox.listen_queue(self._local.record.sandbox):
                return
            await asyncio.sleep(pause)
            pause = min(pause * 2, DRAIN_LAST_LOOK)
