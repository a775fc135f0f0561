"""`podling up`: from a directory of ordinary files to a running system."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from podling.cli import cluster, kubeconfig, manifests, status, workloads
from podling.cli.api import RequestFailed
from podling.cli.cluster import Cluster, name_option
from podling.cli.manifests import Manifest, Target
from podling.cli.progress import Progress
from podling.layout import DEFAULT_NAME, Layout

DEFAULT_WAIT = 120


@click.command("up", help="Build, start and apply what PROJECT (a directory; by default this one) says.")
@click.argument("project", required=False, type=click.Path(exists=True, file_okay=False, path_type=Path))
@name_option
@click.option("--empty", is_flag=True, help="A cluster with nothing in it.")
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
def command(project: Path | None, name: str, empty: bool, wait: int, verbose: bool, output: str) -> None:
    if empty and project is not None:
        raise click.UsageError("--empty starts a cluster with nothing in it, so it takes no PROJECT")
    layout = cluster.layout_of(name)
    progress = Progress()
    with cluster.plain_errors():
        try:
            facts = _up(None if empty else project or Path(), layout, progress, wait, verbose)
        except RequestFailed as error:
            raise click.ClickException(str(error)) from error
    if output == "json":
        click.echo(json.dumps(facts, indent=2))
    else:
        _epilogue(facts, progress)


def _up(project: Path | None, layout: Layout, progress: Progress, wait: int, verbose: bool) -> dict[str, Any]:
    """What `podling status` shows of the cluster when everything is ready."""
    with cluster.exclusively(layout):
        if project is None:
            running, objects = _started(layout, progress), list[Manifest]()
        else:
            running, objects = _system(project, layout, progress, verbose)
    if wait and objects:
        with progress.step("Waiting until everything is ready") as step:
            workloads.wait(running.api(), objects, step, wait)
    return status.describe(running)


def _system(project: Path, layout: Layout, progress: Progress, verbose: bool) -> tuple[Cluster, list[Manifest]]:
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
    running = _started(layout, progress)
    with progress.step(f"Applying {len(objects)} objects from {plan.source}"):
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


def _started(layout: Layout, progress: Progress) -> Cluster:
    """The cluster, started if need be, and the kubeconfig that leads to it."""
    running = cluster.find(layout)
    if running is None:
        with progress.step(f"Starting cluster {layout.name}") as step:
            running = cluster.start(layout)
            step.detail(f"({running.tier})")
    elif not cluster.answers(running):
        with progress.step(f"Waiting for cluster {layout.name} to come back"):
            cluster.await_api(running)
    kubeconfig.merge(kubeconfig.user_file(), kubeconfig.for_cluster(layout, running.server))
    return running


def _epilogue(facts: dict[str, Any], progress: Progress) -> None:
    progress.say()
    for entry in facts["urls"]:
        progress.say(f"  {entry['service']:<32} {click.style(entry['url'], bold=True)}")
    option = "" if facts["name"] == DEFAULT_NAME else f" --name {facts['name']}"
    context = "" if facts["name"] == DEFAULT_NAME else f" --context {facts['context']}"
    progress.say(f"Next: kubectl get pods{context}, podling status{option}, podling down{option}")
