"""What must never happen, whatever the story: garbage collection, identities, budgets."""

from __future__ import annotations

import asyncio

import yaml
from commands import Commands
from hypothesis import given, settings
from hypothesis import strategies as st
from stage import CAST, SERVED
from world import World

from podling.api import errors, meta
from podling.controllers import disruption
from podling.store.types import Change, Key

NAMES = [f"c{n}" for n in range(6)]
owners = st.lists(st.sets(st.sampled_from(range(6)), max_size=2), min_size=6, max_size=6)
deletions = st.lists(
    st.tuples(st.sampled_from(NAMES), st.sampled_from(["Background", "Foreground", "Orphan"])), max_size=4
)


@settings(max_examples=60, deadline=None)
@given(owners=owners, deletions=deletions)
def test_what_has_a_living_owner_or_never_had_one_is_never_collected(
    owners: list[set[int]], deletions: list[tuple[str, str]]
) -> None:
    """Owners come before what they own, so each object's number is above its owners'."""
    asyncio.run(_collect([{o for o in of if o < number} for number, of in enumerate(owners)], deletions))


async def _collect(owners: list[set[int]], deletions: list[tuple[str, str]]) -> None:
    world = World([CAST["garbage"]()], SERVED)
    world.start()
    for name, of in zip(NAMES, owners, strict=True):
        references = [_reference(world, NAMES[owner]) for owner in sorted(of)]
        metadata = {"name": name, "namespace": "default", "ownerReferences": references}
        await world.cluster.create("configmaps", {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata})
    await world.settle()
    doomed: set[str] = set()
    for name, propagation in deletions:
        if Key("configmaps", "default", name) in world.cluster.objects:
            doomed.add(name)
            await world.cluster.delete("configmaps", "default", name, propagation=propagation)
            await world.settle()
    await world.advance(60)
    left = {meta.name(o) for o in world.cluster.list("configmaps")}
    for name, of in zip(NAMES, owners, strict=True):
        reachable = not of or any(NAMES[owner] in left for owner in of)
        if name not in doomed and reachable:
            assert name in left, f"{name} was collected, though it is reachable"
    await world.stop()


def _reference(world: World, name: str) -> dict:
    owner = world.cluster.objects[Key("configmaps", "default", name)]
    return {"apiVersion": "v1", "kind": "ConfigMap", "name": name, "uid": meta.uid(owner)}


SET = """
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: db}
spec:
  replicas: %d
  serviceName: db
  podManagementPolicy: %s
  selector: {matchLabels: {app: db}}
  template: {metadata: {labels: {app: db}}, spec: {containers: [{name: c, image: "a:%d"}]}}
  updateStrategy: {type: RollingUpdate, rollingUpdate: {partition: 0}}
"""
acts = st.lists(
    st.one_of(
        st.tuples(st.just("ready"), st.just(0)),
        st.tuples(st.just("delete"), st.integers(0, 3)),
        st.tuples(st.just("gone"), st.integers(0, 3)),
        st.tuples(st.just("scale"), st.integers(0, 4)),
        st.tuples(st.just("image"), st.integers(1, 3)),
    ),
    max_size=15,
)


@settings(max_examples=40, deadline=None)
@given(policy=st.sampled_from(["OrderedReady", "Parallel"]), story=acts)
def test_an_identity_of_a_stateful_set_has_at_most_one_pod(policy: str, story: list[tuple[str, int]]) -> None:
    """A pod that ends still has its name: the next one of that name comes when it is gone."""
    asyncio.run(_identities(policy, story))


async def _identities(policy: str, story: list[tuple[str, int]]) -> None:
    world = World([CAST["statefulset"]()], SERVED)
    world.cluster.grace = True
    alive: dict[str, str] = {}

    def watch(change: Change) -> None:
        pod = change.entry.object
        if change.type == "DELETED":
            assert alive.pop(meta.name(pod)) == meta.uid(pod)
        else:
            assert alive.setdefault(meta.name(pod), meta.uid(pod)) == meta.uid(pod)

    world.cluster.subscribe("pods", watch)
    world.start()
    perform = Commands(world)
    size, image = 3, 0
    await perform._create(yaml.safe_load(SET % (size, policy, image)))
    for act, number in story:
        await world.settle()
        name = f"db-{number}"
        if act == "ready":
            for pod in world.cluster.list("pods"):
                perform._pod_status(pod, ready=True)
        elif act == "delete" and name in alive:
            await world.cluster.delete("pods", "default", name)
        elif act == "gone" and name in alive and meta.deleting(world.cluster.objects[Key("pods", "default", name)]):
            world.cluster.gone("default", name)
        elif act in ("scale", "image"):
            size, image = (number, image) if act == "scale" else (size, number)
            await perform._create(yaml.safe_load(SET % (size, policy, image)))
    await world.settle()
    assert all(int(name.removeprefix("db-")) <= 3 for name in alive)
    await world.stop()


BUDGET = """
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata: {name: web}
spec: {minAvailable: %d, selector: {matchLabels: {app: web}}}
"""


@settings(max_examples=40, deadline=None)
@given(size=st.integers(1, 5), least=st.integers(0, 5), order=st.lists(st.integers(0, 6), max_size=12))
def test_evictions_never_leave_fewer_healthy_pods_than_the_budget_wants(
    size: int, least: int, order: list[int]
) -> None:
    asyncio.run(_evict(size, least, order))


async def _evict(size: int, least: int, order: list[int]) -> None:
    """Some evictions come before the controller has counted again: the budget remembers them."""
    world = World([CAST["disruption"](), CAST["replicaset"]()], SERVED)
    world.start()
    perform = Commands(world)
    await perform([f"replicaset web replicas={size}"])
    await perform._create(yaml.safe_load(BUDGET % least))
    await perform(["ready all"])
    for step in order:
        pods = [p for p in world.cluster.list("pods") if not meta.deleting(p)]
        if step == 0 or not pods:
            await world.settle()
            continue
        healthy = _healthy(world)
        evicted = await _try_to_evict(world, pods[step % len(pods)])
        if evicted and healthy:
            assert _healthy(world) >= min(least, healthy), "a budget was violated"
    await world.stop()


def _healthy(world: World) -> int:
    return sum(meta.condition_is(p, "Ready") and not meta.deleting(p) for p in world.cluster.list("pods"))


async def _try_to_evict(world: World, pod: dict) -> bool:
    """As the eviction API does it."""
    if not meta.condition_is(pod, "Ready"):
        return False
    budgets = disruption.budgets_of(pod, world.cluster.list(disruption.RESOURCE, "default"))
    judged = disruption.judge(pod, budgets, world.clock.now())
    if not isinstance(judged, disruption.Allowed):
        return False
    try:
        if judged.budget is not None:
            await world.cluster.update_status(disruption.RESOURCE, judged.budget)
        await world.cluster.delete("pods", "default", meta.name(pod))
    except errors.ApiError:
        return False
    return True
