"""`podling up`: from a directory of ordinary files to a running system."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import click

from podling.api import quantity
from podling.api.meta import part
from podling.cli import cluster, kubeconfig, manifests, status, workloads
from podling.cli.api import RequestFailed
from podling.cli.cluster import Cluster, Wishes, name_option
from podling.cli.manifests import Manifest, Target
from podling.cli.progress import Progress, counted
from podling.layout import DEFAULT_NAME, Layout
from podling.node.capacity import MOST_NODES, complaint

DEFAULT_WAIT = 120
URL_PATIENCE = 2.0
FASTEST = 1440
"""A day in a minute. Pods need real time to start, so that faster schedules would only be missed."""


def capacity_of(_context: click.Context, _option: click.Parameter, text: str | None) -> dict[str, str] | None:
    """By resource, of `cpu=2,memory=4Gi`."""
    if text is None:
        return None
    found: dict[str, str] = {}
    for word in text.split(","):
        resource, _, amount = word.partition("=")
        problem = complaint(resource, amount)
        if problem:
            raise click.BadParameter(f'"{word}" {problem}')
        found[resource] = quantity.canonical(amount)
    return found


@click.command("up", help="Build, start and apply what PROJECT (a directory; by default this one) says.")
@click.argument("project", required=False, type=click.Path(exists=True, file_okay=False, path_type=Path))
@name_option
@click.option("--empty", is_flag=True, help="A cluster with nothing in it.")
@click.option(
    "--no-addons",
    is_flag=True,
    help="A new cluster has no default storage class, no snapshots, no metrics API, no VerticalPodAutoscalers, and "
    "nothing that gives Services of type LoadBalancer an address.",
)
@click.option(
    "--time-scale",
    type=click.IntRange(1, FASTEST),
    metavar="N",
    help="A new cluster's time runs N times faster: with 60, an hour of CronJobs passes in a minute.",
)
@click.option(
    "--nodes",
    type=click.IntRange(min=1, max=MOST_NODES),
    metavar="N",
    help="How many nodes this machine passes for; by default as many as before, or one.",
)
@click.option(
    "--node-capacity",
    "capacity",
    callback=capacity_of,
    metavar="RESOURCE=QUANTITY,...",
    help="What each node has: cpu=2,memory=4Gi. By default an equal part of the machine.",
)
@click.option(
    "--node-monitor-grace-period",
    "grace",
    type=click.FloatRange(min=1),
    metavar="SECONDS",
    help="After how long without a sign of life a new cluster gives a node up; by default 50, as in Kubernetes.",
)
@click.option(
    "--wait",
    type=click.IntRange(min=0),
    default=DEFAULT_WAIT,
    show_default=True,
    metavar="SECONDS",
    help="How long to wait until everything is ready; 0: not at all.",
)
@click.option("-v", "--verbose", is_flag=True, help="Show what build steps print.")
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text", show_default=True)
def command(
    project: Path | None,
    name: str,
    empty: bool,
    no_addons: bool,
    time_scale: int | None,
    nodes: int | None,
    capacity: dict[str, str] | None,
    grace: float | None,
    wait: int,
    verbose: bool,
    output: str,
) -> None:
    if empty and project is not None:
        raise click.UsageError("--empty starts a cluster with nothing in it, so it takes no PROJECT")
    layout = cluster.layout_of(name)
    progress = Progress()
    with cluster.plain_errors():
        try:
            wishes = Wishes(addons=not no_addons, time_scale=time_scale, nodes=nodes, capacity=capacity, grace=grace)
            start = partial(_started, layout, progress, wishes)
            facts = _up(None if empty else project or Path(), layout, progress, wait, verbose, start)
        except RequestFailed as error:
            raise click.ClickException(str(error)) from error
    if output == "json":
        click.echo(json.dumps(facts, indent=2))
    else:
        _epilogue(facts, progress)


def _up(
    project: Path | None, layout: Layout, progress: Progress, wait: int, verbose: bool, start: Callable[[], Cluster]
) -> dict[str, Any]:
    """What `podling status` shows of the cluster when everything is ready."""
    with cluster.exclusively(layout):
        if project is None:
            running, objects = start(), list[Manifest]()
        else:
            running, objects = _system(project, progress, verbose, start)
    if wait and objects:
        with progress.step("Waiting until everything is ready") as step:
            workloads.wait(running.api(), objects, step, wait)
    return _with_urls(running, {f"{m.namespace}/{m.name}" for m in objects if m.kind == "Service" and _is_reachable(m)})


def _with_urls(running: Cluster, services: set[str]) -> dict[str, Any]:
    """The status, when the daemon has said of each of the services where it answers on this machine, or why not."""
    deadline = time.monotonic() + URL_PATIENCE
    while True:
        facts = status.describe(running)
        known = {entry["service"] for entry in facts["urls"] if status.is_explained(entry)}
        if services <= known or time.monotonic() > deadline:
            break
        time.sleep(0.05)  # what is waited for is an event or a file: of several kinds, and there after milliseconds
    unreachable = [entry["note"] for entry in facts["urls"] if entry["service"] in services and not entry["url"]]
    if unreachable:
        raise click.ClickException("\n".join(unreachable))
    return facts


def _is_reachable(service: Manifest) -> bool:
    return part(service.object, "spec").get("type") in status.HOST_PORT_TYPES


def _system(
    project: Path, progress: Progress, verbose: bool, start: Callable[[], Cluster]
) -> tuple[Cluster, list[Manifest]]:
    """Everything that can be known to be wrong is found before the cluster is started or touched."""
    from podling.images import skaffold
    from podling.images.errors import BuildError

    try:
        plan = skaffold.load(project)
    except BuildError as error:
        raise click.ClickException(str(error)) from error
    objects = manifests.read(plan.manifests, plan.kustomizations)
    built = _build(plan, objects, progress, verbose)
    manifests.mark_built(objects, built)
    running = start()
    with progress.step(f"Applying {counted(len(objects), 'object')} from {plan.source}"):
        Target(running.api()).apply(objects)
    return running, objects


def _build(plan: Any, objects: list[Manifest], progress: Progress, verbose: bool) -> dict[str, str]:
    """Builds the project's images under the names that the manifests use. Gives their ids by name."""
    from podling.cli.build import local_images, run_build

    images = local_images()
    wanted = manifests.images(objects)
    ids: dict[str, str] = {}
    for artifact in plan.artifacts:
        tags = [w for w in wanted if w == artifact.image or w.rpartition(":")[0] == artifact.image] or [artifact.image]
        image = run_build(
            images,
            artifact.context,
            tags,
            progress,
            dockerfile=artifact.dockerfile,
            build_args=artifact.build_args,
            target=artifact.target,
            no_cache=artifact.no_cache,
            verbose=verbose,
        )
        ids.update(dict.fromkeys(tags, image.id))
    return ids


def _started(layout: Layout, progress: Progress, wishes: Wishes) -> Cluster:
    """The cluster, started if need be, and the kubeconfig that leads to it."""
    cluster.check(layout, wishes)
    running = cluster.find(layout)
    if running is None:
        with progress.step(f"Starting cluster {layout.name}") as step:
            running = cluster.start(layout, wishes)
            step.detail(f"({running.tier})")
    elif not cluster.answers(running):
        with progress.step(f"Waiting for cluster {layout.name} to come back"):
            cluster.await_api(running)
    kubeconfig.merge(kubeconfig.user_file(), kubeconfig.for_cluster(layout, running.server))
    cluster.resize(running, wishes, progress)
    return running


def _epilogue(facts: dict[str, Any], progress: Progress) -> None:
    progress.say()
    for entry in facts["urls"]:
        progress.say(f"  {entry['service']:<32} {click.style(entry['url'], bold=True)}")
        if entry["note"]:
            progress.say(f"  {'':<32} {entry['note']}")
    option = "" if facts["name"] == DEFAULT_NAME else f" --name {facts['name']}"
    context = "" if facts["name"] == DEFAULT_NAME else f" --context {facts['context']}"
    progress.say(f"Next: kubectl get pods{context}, podling status{option}, podling down{option}")
