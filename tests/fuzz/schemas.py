"""schemathesis against the served OpenAPI v3 documents: it makes requests after the schemas, right and wrong ones."""

from __future__ import annotations

import json
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from fuzz.ground import Ground
from fuzz.wire import Wire
from support.clients import python_client

REQUIREMENT = "schemathesis>=4,<5"
SECONDS = 60
"""For one document."""
GROUPS = ("api/v1", "apis/apps/v1", "apis/batch/v1", "apis/networking.k8s.io/v1", "apis/fuzz.test/v1")
_TOO_MUCH = ("/proxy", "/exec", "/attach", "/portforward", "/log", "/watch/", "/binding")
"""Paths that stream, reach for made-up addresses, or (a binding without a target) are a 500 in Kubernetes too."""


def faults(ground: Ground, examples: int, seed: int) -> list[str]:
    """Server errors and hangs, document by document; `examples` for each operation."""
    program = python_client(REQUIREMENT).binary("schemathesis")
    wire = Wire(ground.place)
    found: list[str] = []
    for group in GROUPS:
        document = json.loads(wire.fetch("GET", f"/openapi/v3/{group}", b"", (("Accept", "application/json"),)).body)
        with tempfile.TemporaryDirectory(prefix="podling-") as directory:
            path = Path(directory) / "openapi.json"
            path.write_text(json.dumps(_bounded(document)))
            command = [program, "run", path, *_options(ground, examples, seed)]
            done = subprocess.run(command, cwd=directory, capture_output=True, text=True, timeout=600, check=False)
        print(f"schemathesis {group}: {'no fault' if done.returncode == 0 else 'faults'}", flush=True)
        if done.returncode != 0:
            found.append(f"schemathesis {group}:\n{done.stdout[-4000:]}\n{done.stderr[-1000:]}")
            print(found[-1], flush=True)
    return found


def _bounded(document: Any) -> Any:
    """Without what streams, and without deleting whole collections: a namespace must be left to try things in."""
    paths = {path: item for path, item in document["paths"].items() if not any(part in path for part in _TOO_MUCH)}
    for path, item in paths.items():
        if not path.endswith("}") or "/namespaces/{namespace}/" not in path:
            item.pop("delete", None)
        for operation in item.values():
            if isinstance(operation, dict):
                shown = operation.get("parameters", [])
                operation["parameters"] = [p for p in shown if p.get("name") not in ("watch", "timeoutSeconds")]
    return {**document, "paths": paths}


def _options(ground: Ground, examples: int, seed: int) -> list[str]:
    pki = ground.place.pki
    return [
        *("--url", f"https://127.0.0.1:{ground.place.port}", "--tls-verify", str(pki / "ca.crt")),
        *("--request-cert", str(pki / "admin.crt"), "--request-cert-key", str(pki / "admin.key")),
        *(
            "--checks",
            "not_a_server_error",
            "--phases",
            "fuzzing",
            "--max-examples",
            str(examples),
            "--seed",
            str(seed),
        ),
        *("--request-timeout", "5", "--max-time", str(SECONDS), "--no-shrink", "--generation-database", "none"),
        *("--suppress-health-check", "all", "--warnings", "off", "--no-color", "--continue-on-failure"),
    ]
