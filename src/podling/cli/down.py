"""`podling down`."""

from __future__ import annotations

import click

from podling.cli import cluster, kubeconfig
from podling.cli.cluster import name_option
from podling.cli.progress import Progress
from podling.layout import DEFAULT_NAME


@click.command("down", help="End a cluster: its pods, processes, files and kubeconfig context are gone.")
@name_option
@click.option("--keep", is_flag=True, help="Keep its objects and volumes: `podling up` brings them back.")
@click.option("-q", "--quiet", is_flag=True, help="Say nothing.")
def command(name: str, keep: bool, quiet: bool) -> None:
    layout = cluster.layout_of(name)
    progress = Progress(quiet=quiet)
    with cluster.plain_errors(), cluster.exclusively(layout):
        existed = layout.state.exists() or layout.run.exists()
        if existed:
            with progress.step(f"Ending cluster {name}"):
                cluster.stop(layout, keep=keep)
        else:
            cluster.stop(layout)
        kubeconfig.remove(kubeconfig.user_file(), layout.context)
    if not existed:
        progress.say(f"There is no cluster {name}; nothing to do.")
    elif keep:
        option = "" if name == DEFAULT_NAME else f" --name {name}"
        progress.say(
            f"Its objects and volumes are kept in {layout.state}. Next: podling up{option}, podling down{option}"
        )
