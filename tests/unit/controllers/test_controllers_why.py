"""`podling why`: the story of an object and of what belongs to it."""

from __future__ import annotations

import asyncio

from commands import Commands
from stage import CAST, SERVED
from world import World

from podling.controllers.why import find_resource, story


def allowed(*_: object) -> bool:
    return True


async def told(*commands: str, about: str, may=allowed) -> list[str]:
    """The story after these commands, each sentence with its subject; generated names end in their number."""
    world = World([CAST[name]() for name in ("deployment", "replicaset")], SERVED, scheduling=True)
    world.start()
    decisions = world.manager.decisions
    assert world.scheduler is not None
    world.scheduler._decisions = decisions
    perform = Commands(world)
    for command in commands:
        await perform(command.split("\n"))
    kind, _, name = about.partition("/")
    resource = find_resource(world.cluster, kind)
    assert resource is not None
    found = story(world.cluster, decisions, resource, "default", name, may)
    await world.stop()
    return [f"{t.about}: {t.sentence} ({t.by})" for t in found]


def test_a_deployment_tells_why_its_pods_wait() -> None:
    sentences = asyncio.run(told("deployment web replicas=1", about="deployment/web"))
    assert any(s.startswith("deployment/web: create replicasets.apps web-") for s in sentences)
    assert any(s.startswith("replicaset/web-") and "0 of 1 replicas are there" in s for s in sentences)
    assert any(s.startswith("pod/web-") and "waits: no nodes available" in s for s in sentences)


def test_a_sentence_is_told_once_by_the_one_who_acted() -> None:
    sentences = asyncio.run(told("node n", "deployment web replicas=1", about="deployment/web"))
    assert len(sentences) == len(set(sentences))
    assert sum("create replicasets.apps" in s for s in sentences) == 1


def test_a_pod_that_is_gone_still_says_who_deleted_it_and_why() -> None:
    pod = "p"
    sentences = asyncio.run(
        told(
            "apply\napiVersion: v1\nkind: Pod\nmetadata: {name: p, labels: {app: web}}\nspec: {containers: []}",
            "replicaset web replicas=0",
            about=f"pod/{pod}",
        )
    )
    assert any("delete pods p: 1 replicas are there, 0 are wanted (replicaset-controller)" in s for s in sentences)


def test_who_may_not_get_the_parts_hears_of_the_whole_only() -> None:
    def only_deployments(resource, verb, namespace, name) -> bool:
        return resource.kind == "Deployment"

    sentences = asyncio.run(told("deployment web replicas=1", about="deployment/web", may=only_deployments))
    assert {s.partition("/")[0] for s in sentences} == {"deployment"}


def test_kinds_are_named_as_kubectl_names_them() -> None:
    world = World([], SERVED)
    for word in ("deployment", "deployments", "Deployment", "deployments.apps"):
        found = find_resource(world.cluster, word)
        assert found is not None and found.kind == "Deployment"
    assert find_resource(world.cluster, "deployments.batch") is None
