"""schemathesis against the served OpenAPI v3 documents: it makes requests after the schemas, right and wrong ones."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from fuzz import expected
from fuzz.cases import DRY
from fuzz.ground import Ground
from fuzz.objects import NAMES, SPACES
from fuzz.wire import Wire
from support.clients import python_client

REQUIREMENT = "schemathesis>=4,<5"
LONGEST = 1800.0
"""Seconds for one document. Hardly any of it is the server's: schemathesis takes long to make a request after a schema.
(Its own `--max-time` would repeat the examples until that is over.)"""
_TOO_MUCH = ("/proxy", "/exec", "/attach", "/portforward", "/log", "/watch/", "/binding")
"""Paths that stream or reach for made-up addresses. A binding is a pod on a node that the fuzzer has made up."""
_CHOICES = {"namespace": SPACES, "name": NAMES}
"""Left to itself schemathesis would ask for namespaces and objects that nobody ever made."""


def faults(ground: Ground, examples: int, seed: int, groups: tuple[str, ...] = ()) -> list[str]:
    """Server errors and hangs, document by document (of all groups if none is named); `examples` for each operation."""
    program = python_client(REQUIREMENT).binary("schemathesis")
    found: list[str] = []
    with contextlib.closing(Wire(ground.place)) as wire:
        documents = {group: _bounded(_fetch(wire, f"/openapi/v3/{group}")) for group in groups or _served(wire)}
    for group, document in documents.items():
        operations = sum(isinstance(o, dict) for item in document["paths"].values() for o in item.values())
        if not operations:
            continue
        with tempfile.TemporaryDirectory(prefix="podling-") as directory:
            path = Path(directory) / "openapi.json"
            path.write_text(json.dumps(document))
            command = [program, "run", path, *_options(ground, examples, seed)]
            hooks = {"PYTHONPATH": str(Path(expected.__file__).parents[1]), "SCHEMATHESIS_HOOKS": expected.__name__}
            done = subprocess.run(
                command,
                cwd=directory,
                env={**os.environ, **hooks},
                capture_output=True,
                text=True,
                timeout=LONGEST,
                check=False,
            )
        tried = next((line.strip() for line in done.stdout.splitlines() if " generated" in line), "nothing tried")
        print(f"schemathesis {group}: {tried}", flush=True)
        if done.returncode != 0:
            told = "\n".join(line[:1000] for line in done.stdout.splitlines())
            found.append(f"schemathesis {group}:\n{told[-10_000:]}\n{done.stderr[-1000:]}")
            print(found[-1], flush=True)
    return found


def _fetch(wire: Wire, path: str) -> Any:
    return json.loads(wire.fetch("GET", path, b"", (("Accept", "application/json"),)).body)


def _served(wire: Wire) -> list[str]:
    """The group versions with resources; the other documents are of discovery alone."""
    return [path for path in _fetch(wire, "/openapi/v3")["paths"] if "/v" in path and not path.startswith(".")]


def _bounded(document: Any) -> Any:
    """Without what streams, and without deleting whole collections: a namespace must be left to try things in.

    Nor is anything written that changes what later requests are answered (webhooks, policies).
    """
    paths = {path: item for path, item in document["paths"].items() if not any(part in path for part in _TOO_MUCH)}
    for path, item in paths.items():
        if not path.endswith("}") or "/namespaces/{namespace}/" not in path:
            item.pop("delete", None)
        if DRY & set(path.split("/")):
            for method in ("post", "put", "patch", "delete"):
                item.pop(method, None)
        _aim(item)
        for operation in item.values():
            if isinstance(operation, dict):
                _aim(operation)
    return {**document, "paths": paths}


def _aim(holder: dict[str, Any]) -> None:
    """Parameters of paths get values that exist; watches are left out."""
    shown = holder.get("parameters", [])
    holder["parameters"] = [p for p in shown if p.get("name") not in ("watch", "timeoutSeconds")]
    for parameter in holder["parameters"]:
        if parameter.get("in") == "path" and parameter["name"] in _CHOICES:
            parameter["schema"] = {"type": "string", "enum": list(_CHOICES[parameter["name"]])}


def _options(ground: Ground, examples: int, seed: int) -> list[str]:
    pki = ground.place.pki
    return [
        *("--url", f"https://127.0.0.1:{ground.place.port}", "--tls-verify", str(pki / "ca.crt")),
        *("--request-cert", str(pki / "admin.crt"), "--request-cert-key", str(pki / "admin.key")),
        *("--checks", expected.answers_as_kubernetes.__name__, "--phases", "fuzzing"),
        *("--max-examples", str(examples), "--seed", str(seed)),
        *("--request-timeout", "5", "--no-shrink", "--generation-database", "none"),
        *("--suppress-health-check", "all", "--warnings", "off", "--no-color", "--continue-on-failure"),
    ]
