"""`podling node stop|start NAME`: one of the cluster's nodes fails as a machine does, and comes back."""

from __future__ import annotations

from http import HTTPStatus

import click

from podling.cli import cluster
from podling.cli.api import RequestFailed
from podling.cli.cluster import name_option
from podling.cli.progress import Progress
from podling.layout import DEFAULT_NAME


@click.group("node", help="Let a node fail, and come back.")
def command() -> None:
    pass


@command.command("stop", help="NODE fails like a machine without power: its pods freeze, and nothing reaches them.")
@click.argument("node")
@name_option
def stop(node: str, name: str) -> None:
    _switch(name, node, "stop")
    again = f"podling node start {node}" + ("" if name == DEFAULT_NAME else f" --name {name}")
    Progress().say(f"The cluster notices by itself. Next: {_look(name)}, {again}")


@command.command("start", help="NODE is back; one that was deleted (kubectl delete node) is registered again.")
@click.argument("node")
@name_option
def start(node: str, name: str) -> None:
    _switch(name, node, "start")
    Progress().say(f"It runs. Next: {_look(name)}")


def _switch(name: str, node: str, verb: str) -> None:
    running = cluster.require(cluster.layout_of(name))
    with cluster.plain_errors():
        api = running.api()
        try:
            api.request("POST", f"/podling/nodes/{node}/{verb}", b"")
        except RequestFailed as error:
            hint = ""
            if error.code == HTTPStatus.NOT_FOUND:
                hint = f"; there are: {', '.join(n['name'] for n in api.get('/podling/nodes')['items'])}"
            raise click.ClickException(f"{error}{hint}") from error


def _look(name: str) -> str:
    """How to see what the cluster makes of it, whichever context is the current one."""
    return "kubectl get nodes -w" + ("" if name == DEFAULT_NAME else f" --context {cluster.layout_of(name).context}")
