"""`podling node stop|start NAME`: one of the cluster's nodes fails as a machine does, and comes back."""

from __future__ import annotations

import click

from podling.cli import cluster
from podling.cli.api import RequestFailed
from podling.cli.cluster import name_option
from podling.cli.progress import Progress


@click.group("node", help="Let a node fail, and come back.")
def command() -> None:
    pass


@command.command("stop", help="NODE fails like a machine without power: its pods freeze, and nothing reaches them.")
@click.argument("node")
@name_option
def stop(node: str, name: str) -> None:
    _switch(name, node, "stop")
    Progress().say(
        f"The cluster notices by itself. Next: kubectl get nodes -w, podling node start {node}{_option(name)}"
    )


@command.command("start", help="NODE is back; one that was deleted (kubectl delete node) is registered again.")
@click.argument("node")
@name_option
def start(node: str, name: str) -> None:
    _switch(name, node, "start")


def _switch(name: str, node: str, verb: str) -> None:
    running = cluster.require(cluster.layout_of(name))
    with cluster.plain_errors():
        try:
            running.api().request("POST", f"/podling/nodes/{node}/{verb}", b"")
        except RequestFailed as error:
            raise click.ClickException(str(error)) from error


def _option(name: str) -> str:
    return "" if name == cluster.DEFAULT_NAME else f" --name {name}"
