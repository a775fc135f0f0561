"""`podling logs`: of podling's own processes; those of pods are `kubectl logs`."""

from __future__ import annotations

import click

from podling.cli import cluster
from podling.cli.cluster import name_option

SOURCES = ("daemon", "proxy", "node")


@click.command("logs", help="What podling's own processes say. For pods: kubectl logs.")
@name_option
@click.argument("source", type=click.Choice(SOURCES), default="daemon")
@click.option(
    "-n", "--tail", type=click.IntRange(min=0), default=200, show_default=True, help="The last so many lines."
)
def command(name: str, source: str, tail: int) -> None:
    layout = cluster.layout_of(name)
    path = layout.run / "node.log" if source == "node" else layout.logs / f"{source}.log"
    try:
        lines = path.read_text(errors="replace").splitlines()
    except FileNotFoundError:
        raise click.ClickException(f"cluster {name} has no log of its {source}") from None
    for line in lines[max(0, len(lines) - tail) :]:
        click.echo(line)
