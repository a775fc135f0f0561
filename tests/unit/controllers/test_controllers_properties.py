"""Invariants that hold whatever happens: found by letting hypothesis write the story."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

from commands import Commands, deployment
from hypothesis import given, settings
from hypothesis import strategies as st
from stage import CAST, SERVED
from world import World

from podling.api import meta
from podling.controllers import disruption
from podling.controllers.deployment import rules
from podling.controllers.job import indexes
from podling.store.types import Key

limits = st.one_of(st.integers(0, 4), st.sampled_from(["0%", "25%", "50%", "100%"]))
steps = st.lists(st.sampled_from(["ready", "ready", "ready", "unready", "image"]), max_size=20)


@settings(max_examples=40, deadline=None)
@given(size=st.integers(1, 6), surge=limits, unavailable=limits, story=steps)
def test_a_rolling_update_never_has_too_many_pods_and_never_gives_up_too_many_available_ones(
    size: int, surge: int | str, unavailable: int | str, story: list[str]
) -> None:
    asyncio.run(_roll(size, surge, unavailable, story))


async def _roll(size: int, surge: int | str, unavailable: int | str, story: list[str]) -> None:
    world = World([CAST["deployment"](), CAST["replicaset"]()], SERVED)
    commands = Commands(world)
    world.start()
    options = {"replicas": size, "surge": surge, "unavailable": unavailable, "image": "a:1"}
    await commands._create(deployment("web", options))
    await world.settle()
    for pod in world.cluster.list("pods"):
        commands._pod_status(pod, ready=True)
    await world.settle()
    options["image"] = "a:2"
    await commands._create(deployment("web", options))
    for number, step in enumerate(story):
        before = len(_available(world))
        await _step(world, commands, options, step, number)
        await world.settle()
        present = world.cluster.objects[Key("deployments.apps", "default", "web")]
        lost = 1 if step == "unready" else 0
        assert len(_available(world)) >= min(before - lost, rules.min_available(present))
        assert sum(rules.replicas(s) for s in world.cluster.list("replicasets.apps")) <= rules.max_pods(present)
    await world.stop()


async def _step(world: World, commands: Commands, options: dict, step: str, number: int) -> None:
    pods = sorted(world.cluster.list("pods"), key=meta.name)
    waiting = [p for p in pods if not meta.condition_is(p, "Ready")]
    if step == "ready" and waiting:
        commands._pod_status(waiting[0], ready=True)
    elif step == "unready" and pods:
        commands._pod_status(pods[-1], ready=False)
    elif step == "image":
        options["image"] = f"a:{number % 3}"
        await commands._create(deployment("web", options))


def _available(world: World) -> list:
    return [p for p in world.cluster.list("pods") if meta.condition_is(p, "Ready") and not meta.deleting(p)]


NOW = datetime(2026, 1, 1, tzinfo=UTC)


@given(st.sets(st.integers(0, 60)))
def test_index_sets_survive_being_written_down(found: set[int]) -> None:
    assert indexes.parse(indexes.render(found)) == found


@given(allowed=st.integers(0, 5), evictions=st.integers(0, 10))
def test_evictions_never_spend_more_than_a_budget_allows(allowed: int, evictions: int) -> None:
    budget = {
        "metadata": {"name": "b", "namespace": "default", "generation": 1},
        "spec": {"selector": {"matchLabels": {"app": "web"}}},
        "status": {"observedGeneration": 1, "disruptionsAllowed": allowed},
    }
    done = 0
    for number in range(evictions):
        pod = {
            "metadata": {"name": f"p{number}", "namespace": "default", "labels": {"app": "web"}},
            "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]},
        }
        answer = disruption.judge(pod, [budget], NOW)
        if isinstance(answer, disruption.Allowed):
            assert answer.budget is not None
            budget = answer.budget
            done += 1
    assert done == min(allowed, evictions)


def test_back_to_work_after_a_controller_fails() -> None:
    """A look that raises is tried again; nothing else stops."""
    asyncio.run(_fails_once())


async def _fails_once() -> None:
    world = World([CAST["replicaset"]()], SERVED)
    refusals = ["first"]

    def refuse(resource: str, obj: dict) -> None:
        if resource == "pods" and refusals:
            refusals.pop()
            raise RuntimeError("a fault in the API")

    world.cluster.refusals.append(refuse)
    world.start()
    commands = Commands(world)
    await commands(["replicaset web replicas=2"])
    await world.advance(1)
    assert len(world.cluster.list("pods")) == 2
    await world.stop()
