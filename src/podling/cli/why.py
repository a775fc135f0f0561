"""`podling why`: what was decided about an object, and the reasons."""

from __future__ import annotations

import json
from datetime import datetime

import click

from podling.cli import cluster
from podling.cli.api import Object, RequestFailed
from podling.cli.cluster import name_option


@click.command(
    "why", help="What was decided about KIND/NAME and all that belongs to it, and the reasons. Oldest first."
)
@click.argument("subject", metavar="KIND/NAME")
@click.option("-n", "--namespace", default="default", show_default=True, help="Where the object is.")
@name_option
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text", show_default=True)
def command(subject: str, namespace: str, name: str, output: str) -> None:
    kind, slash, called = subject.partition("/")
    if not (kind and slash and called):
        raise click.UsageError(f'"{subject}" is no KIND/NAME, such as deployment/web')
    running = cluster.require(cluster.layout_of(name))
    with cluster.plain_errors():
        try:
            story = running.api().get("/podling/why", kind=kind, namespace=namespace, name=called)["items"]
        except RequestFailed as error:
            raise click.ClickException(str(error)) from error
    if output == "json":
        click.echo(json.dumps(story, indent=2))
    elif not story:
        click.echo("Nothing was decided about it since the control plane was started.")
    else:
        _show(story)


def _show(story: list[Object]) -> None:
    """Each object in a paragraph of its own sentences would hide their order: one line each, the subject before it."""
    about = max(len(told["about"]) for told in story)
    for told in story:
        moment = datetime.fromisoformat(told["time"]).astimezone().strftime("%H:%M:%S")
        click.echo(f"{moment}  {told['about']:<{about}}  {told['sentence']} ({told['by']})")
