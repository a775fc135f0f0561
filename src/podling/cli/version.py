"""`podling version`."""

from __future__ import annotations

import json

import click

from podling import KUBERNETES_VERSION, __version__


@click.command("version", help="Print the version of podling and of the Kubernetes API that it serves.")
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text", show_default=True)
def command(output: str) -> None:
    facts = {"podling": __version__, "kubernetes": KUBERNETES_VERSION}
    if output == "json":
        click.echo(json.dumps(facts))
    else:
        click.echo("\n".join(f"{name}: {version}" for name, version in facts.items()))
