"""`podling down`."""

from __future__ import annotations

import click

from podling.cli import cluster, kubeconfig
from podling.cli.cluster import name_option
from podling.cli.progress import Progress


@click.command("down", help="End a cluster: its pods, processes, files and kubeconfig context are gone.")
@name_option
@click.option("-q", "--quiet", is_flag=True, help="Say nothing.")
def command(name: str, quiet: bool) -> None:
    layout = cluster.layout_of(name)
    progress = Progress(quiet=quiet)
    with cluster.plain_errors(), cluster.exclusively(layout):
        existed = layout.state.exists() or layout.run.exists()
        if existed:
            with progress.step(f"Ending cluster {name}"):
                cluster.stop(layout)
        else:
            cluster.stop(layout)
        kubeconfig.remove(kubeconfig.user_file(), layout.context)
    if not existed:
        progress.say(f"There is no cluster {name}; nothing to do.")
