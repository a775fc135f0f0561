"""`podling status`: clusters, their URLs, workloads and processes."""

from __future__ import annotations

import contextlib
import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from podling.api.meta import annotations, condition_is, controller_reference, items, part, timestamp
from podling.cli import cluster, workloads
from podling.cli.api import Api
from podling.cli.cluster import Cluster, name_option
from podling.cli.progress import counted
from podling.cli.workloads import COUNTS
from podling.clock import cluster_clock
from podling.layout import Layout, cluster_names
from podling.sandbox import boot
from podling.store.types import Object

HOST_PORTS = "podling.dev/host-ports"
HOST_PORT_TYPES = ("LoadBalancer", "NodePort")
LOG_LINES = 15
WORKLOADS = {
    "Deployment": "/apis/apps/v1/deployments",
    "StatefulSet": "/apis/apps/v1/statefulsets",
    "DaemonSet": "/apis/apps/v1/daemonsets",
}


JOBS = "/apis/batch/v1/jobs"
CRON_JOBS = "/apis/batch/v1/cronjobs"


def urls(api: Api, layout: Layout) -> list[dict[str, str]]:
    """Where services answer on this machine.

    `[{"service": "default/web", "port": "80/TCP", "url": "http://localhost:8080", "note": "127.0.0.1:8080 on ..."}]`;
    the note says why a port is not the one that was asked for; the url is empty where there is none.
    """
    services = [s for s in api.get("/api/v1/services")["items"] if s["spec"].get("type") in HOST_PORT_TYPES]
    notes = _notes(api) if services else {}
    node_ports = _node_ports(layout) if services else {}
    found: list[dict[str, str]] = []
    for service in services:
        name = f"{service['metadata']['namespace']}/{service['metadata']['name']}"
        note = notes.get(service["metadata"]["uid"], "")
        ports = _balanced_ports(service) if service["spec"]["type"] == "LoadBalancer" else node_ports.get(name, {})
        for port, number in ports.items():
            entry = {"service": name, "port": port, "url": url(port, number), "note": ""}
            found.append({**entry, "note": "" if is_explained(entry) else note})
        if not ports and note:
            found.append({"service": name, "port": "", "url": "", "note": f"service {name}: {note}"})
    return found


def is_explained(entry: dict[str, str]) -> bool:
    """Whether the port of this entry of `urls` is the one that was asked for, or the note says why it is not."""
    number = entry["port"].partition("/")[0]
    return bool(entry["note"]) or entry["url"] == url(entry["port"], int(number))


def _balanced_ports(service: Object) -> dict[str, int]:
    written = annotations(service).get(HOST_PORTS)
    ports: dict[str, int] = json.loads(written) if written else {}
    return ports


def _node_ports(layout: Layout) -> dict[str, dict[str, int]]:
    """Those that are open on the host, by service; the API shows only which were given."""
    found: dict[str, dict[str, int]] = {}
    with contextlib.suppress(OSError, ValueError):
        for service, number, is_node_port, chosen in json.loads((layout.state / "host-ports.json").read_text()):
            if is_node_port:
                found.setdefault(service, {})[f"{number}/TCP"] = chosen
    return found


def _notes(api: Api) -> dict[str, str]:
    """The last word of the daemon on the host ports of each service, by uid."""
    events: list[Object] = api.get("/api/v1/events", fieldSelector="involvedObject.kind=Service")["items"]
    found: dict[str, str] = {}
    for event in sorted(events, key=lambda e: e.get("lastTimestamp") or ""):
        if event.get("reason") in ("HostPort", "HostPortUnavailable"):
            found[event["involvedObject"].get("uid", "")] = event.get("message", "")
    return found


def url(port: str, host_port: int) -> str:
    scheme = "https" if port.partition("/")[0] in ("443", "8443", "6443") else "http"
    default = {"http": 80, "https": 443}[scheme]
    return f"{scheme}://localhost" + ("" if host_port == default else f":{host_port}")


def describe(running: Cluster) -> dict[str, Any]:
    """All that `-o json` shows of a running cluster; `"ready": False` where its API does not answer."""
    facts: dict[str, Any] = {
        "name": running.layout.name,
        "running": True,
        "ready": cluster.answers(running),
        "tier": running.tier,
        "time_scale": running.record.get("time_scale", 1),
        "time": timestamp(cluster_clock(running.record).now()),
        "context": running.layout.context,
        "server": running.server,
        "state": str(running.layout.state),
        "urls": [],
        "nodes": [],
        "workloads": [],
        "jobs": [],
        "cron_jobs": [],
        "pods": [],
        "processes": _processes(running),
    }
    if facts["ready"]:
        api = running.api()
        facts["urls"] = urls(api, running.layout)
        facts["workloads"] = _workloads(api)
        facts |= jobs(api)
        pods = api.get("/api/v1/pods")["items"]
        facts["pods"] = [_pod(p) for p in pods]
        facts["nodes"] = _nodes(api, Counter(p["spec"].get("nodeName", "") for p in pods))
    return facts


def _workloads(api: Api) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for kind, path in WORKLOADS.items():
        for obj in api.get(path)["items"]:
            ready, wanted = COUNTS[kind](obj)
            metadata = obj["metadata"]
            found.append(
                {
                    "kind": kind,
                    "namespace": metadata["namespace"],
                    "name": metadata["name"],
                    "ready": ready,
                    "wanted": wanted,
                }
            )
    return found


def jobs(api: Api) -> dict[str, list[dict[str, Any]]]:
    return {
        "jobs": [_job(job) for job in api.get(JOBS)["items"]],
        "cron_jobs": [_cron_job(job) for job in api.get(CRON_JOBS)["items"]],
    }


def _job(job: Object) -> dict[str, Any]:
    spec, status, owner = job["spec"], part(job, "status"), controller_reference(job) or {}
    ends = [c["type"] for c in items(status, "conditions") if c["status"] == "True"]
    return {
        "namespace": job["metadata"]["namespace"],
        "name": job["metadata"]["name"],
        "cron_job": owner.get("name", "") if owner.get("kind") == "CronJob" else "",
        "state": next((word for word in ("Complete", "Failed", "Suspended") if word in ends), "Running"),
        "succeeded": status.get("succeeded", 0),
        "wanted": spec.get("completions", 1),
        "failed": status.get("failed", 0),
    }


def _cron_job(job: Object) -> dict[str, Any]:
    return {
        "namespace": job["metadata"]["namespace"],
        "name": job["metadata"]["name"],
        "schedule": job["spec"]["schedule"],
        "suspended": job["spec"].get("suspend", False),
        "active": len(items(job, "status", "active")),
        "last": part(job, "status").get("lastScheduleTime"),
    }


def _nodes(api: Api, pods: Mapping[str, int]) -> list[dict[str, Any]]:
    """Those of this machine, with what the cluster knows of them."""
    known = {node["metadata"]["name"]: node for node in api.get("/api/v1/nodes")["items"]}
    return [
        {
            "name": entry["name"],
            "running": entry["running"],
            "registered": entry["name"] in known,
            "ready": condition_is(known.get(entry["name"], {}), "Ready"),
            "schedulable": not part(known.get(entry["name"], {}), "spec").get("unschedulable", False),
            "allocatable": dict(part(known.get(entry["name"], {}), "status", "allocatable")),
            "pods": pods.get(entry["name"], 0),
        }
        for entry in api.get("/podling/nodes")["items"]
    ]


def _pod(pod: Object) -> dict[str, Any]:
    status = part(pod, "status")
    restarts = sum(c.get("restartCount", 0) for c in items(status, "containerStatuses"))
    ready = any(c["type"] == "Ready" and c["status"] == "True" for c in items(status, "conditions"))
    return {
        "namespace": pod["metadata"]["namespace"],
        "name": pod["metadata"]["name"],
        "phase": status.get("phase", "Pending"),
        "reason": workloads.reason(pod),
        "ready": ready,
        "ip": status.get("podIP", ""),
        "restarts": restarts,
    }


def _processes(running: Cluster) -> list[dict[str, Any]]:
    """podling's own, with the host's process ids and their memory (PSS, bytes)."""
    node = boot.find_node(str(running.layout.run))
    if node is None:
        return []
    pids = {"helper": node.helper_pid, "zygote": node.zygote_pid, **cluster.service_pids(node.zygote_pid)}
    return [{"name": name, "pid": pid, "memory": memory(pid)} for name, pid in pids.items()]


def memory(pid: int) -> int:
    """Proportional set size in bytes; 0 for a process that is gone or not ours."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:")), 0)


def _print(facts: dict[str, Any]) -> None:
    name = facts["name"]
    if not facts["running"]:
        click.echo(f"{name}: not running" + ("" if facts["exists"] else " (there is no such cluster)"))
        return
    total = sum(p["memory"] for p in facts["processes"])
    click.echo(f"{name}: running ({facts['tier']}, context {facts['context']}, podling itself {total / 2**20:.0f} MiB)")
    if facts["time_scale"] != 1:
        click.echo(f"  {'time':<12} {facts['time']}, {facts['time_scale']} times as fast as this machine's")
    if not facts["ready"]:
        click.echo("  its API does not answer: the daemon is starting, or cannot; the end of its log:")
        for line in cluster.tail(cluster.layout_of(name).logs / "daemon.log", LOG_LINES):
            click.echo(f"  {line}")
    rows = rows_of(facts)
    width = max((len(name) for _, name, _ in rows), default=0)
    for kind, name, state in rows:
        click.echo(f"  {kind:<12} {name:<{width}}   {state}")


Row = tuple[str, str, str]
"""Kind, name and state of something."""


def rows_of(facts: Mapping[str, Any]) -> list[Row]:
    """What the text tells: of nodes where there are several, of Jobs that CronJobs made and of pods what went wrong."""
    nodes: list[Any] = facts["nodes"] if len(facts["nodes"]) > 1 else []
    jobs: list[Any] = [job for job in facts["jobs"] if not job["cron_job"] or job["state"] == "Failed"]
    pods: list[Any] = [pod for pod in facts["pods"] if not pod["ready"] and pod["phase"] != "Succeeded"]
    rows = [("node", node["name"], f"{_node_state(node)}, {counted(node['pods'], 'pod')}") for node in nodes]
    rows += [(w["kind"].lower(), _place(w), f"{w['ready']}/{w['wanted']} ready") for w in facts["workloads"]]
    rows += [("cronjob", _place(job), _cron_job_state(job)) for job in facts["cron_jobs"]]
    rows += [("job", _place(job), f"{job['state']}, {job['succeeded']}/{job['wanted']} succeeded") for job in jobs]
    for entry in facts["urls"]:
        rows.append(("url", entry["service"], entry["url"]))
        rows += [("", "", entry["note"])] if entry["note"] else []
    return rows + [("pod", _place(pod), _pod_state(pod)) for pod in pods]


def _place(entry: Mapping[str, Any]) -> str:
    return f"{entry['namespace']}/{entry['name']}"


def _cron_job_state(job: Mapping[str, Any]) -> str:
    last = f"last at {job['last']}" if job["last"] else "not run yet"
    state = "suspended" if job["suspended"] else f"{job['active']} active"
    return f"{job['schedule']}, {state}, {last}"


def _pod_state(pod: Mapping[str, Any]) -> str:
    return f"{pod['reason'] or pod['phase']}, not ready, {counted(pod['restarts'], 'restart')}"


def _node_state(node: Mapping[str, Any]) -> str:
    words = ["Ready" if node["ready"] else "NotReady" if node["registered"] else "deleted"]
    words += [] if node["running"] else ["stopped"]
    words += [] if node["schedulable"] else ["cordoned"]
    return ", ".join(words)


@click.command("status", help="What runs, where it answers, and how it is.")
@name_option
@click.option("--all", "every", is_flag=True, help="Every cluster of this user.")
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text", show_default=True)
def command(name: str, every: bool, output: str) -> None:
    names = cluster_names() if every else [name]
    with cluster.plain_errors():
        facts = [_facts(n) for n in names]
    if output == "json":
        click.echo(json.dumps(facts if every else facts[0], indent=2))
    elif not facts:
        click.echo("There is no cluster. Make one: podling up")
    else:
        for entry in facts:
            _print(entry)
    if not every and not facts[0]["ready"]:
        raise SystemExit(1)


def _facts(name: str) -> dict[str, Any]:
    layout = cluster.layout_of(name)
    running = cluster.find(layout)
    if running:
        return describe(running)
    return {"name": name, "running": False, "ready": False, "exists": name in cluster_names(), "urls": []}
