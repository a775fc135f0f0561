"""The stage on which transcripts play: a fake cluster, controllers, a virtual clock, and a log in words."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from datetime import timedelta

from fakecluster import FakeCluster, VirtualClock

from podling.api import meta
from podling.api.resources import Resource
from podling.controllers.runtime import Controller, Decision, Decisions, Manager, ObjectKey
from podling.scheduler.scheduler import Scheduler
from podling.store.types import Object


class LoggedDecisions(Decisions):
    def __init__(self, log: list[str]) -> None:
        super().__init__()
        self._lines = log

    def add(self, resource: str, key: ObjectKey, decision: Decision) -> None:
        super().add(resource, key, decision)
        if "/status " in decision.sentence or "checkpoints.autoscaling.k8s.io " in decision.sentence:
            return  # `show` tells the status at the end; every step to it would drown the story
        self._lines.append(f"{decision.controller.removesuffix('-controller')} {key.name}: {decision.sentence}")


class World:
    def __init__(
        self, controllers: Iterable[Controller], resources: Sequence[Resource] = (), *, scheduling: bool = False
    ) -> None:
        self.clock = VirtualClock()
        self.cluster = FakeCluster(self.clock, resources)
        self.log: list[str] = []
        self.manager = Manager(
            controllers,
            clients=lambda _user: self.cluster,
            recorders=lambda _name: self.record,
            clock=self.clock,
            decisions=LoggedDecisions(self.log),
        )
        self.scheduler = (
            Scheduler(self.cluster, self.record, self.clock, LoggedDecisions(self.log)) if scheduling else None
        )

    def start(self) -> None:
        self.manager.start()
        if self.scheduler:
            self.scheduler.start()

    async def stop(self) -> None:
        await self.manager.stop()
        if self.scheduler:
            await self.scheduler.stop()

    @property
    def idle(self) -> bool:
        return self.manager.idle and (self.scheduler is None or self.scheduler.idle)

    def record(self, regarding: Object, type: str, reason: str, message: str, **_: str) -> None:
        self.log.append(f"  {type} {reason} ({regarding['kind']} {meta.name(regarding)}): {message}")

    def take_log(self) -> list[str]:
        lines, self.log[:] = list(self.log), []
        return lines

    async def settle(self) -> None:
        """Until no controller has anything to do before some time passes; half a second of retries counts as now."""
        soon = self.clock.now() + timedelta(seconds=0.5)
        for _ in range(20_000):
            await asyncio.sleep(0)
            if self.idle and not self.clock.fire_next(soon):
                return
        raise AssertionError("the controllers never come to rest")

    async def advance(self, seconds: float) -> None:
        until = self.clock.now() + timedelta(seconds=seconds)
        await self.settle()
        while self.clock.fire_next(until):
            await self.settle()
        self.clock.moment = max(self.clock.moment, until)
