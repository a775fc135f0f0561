#!/usr/bin/env python3
"""Gathers the field documentation that printed columns show, from the published schema of one Kubernetes minor.

Looks for `doc("...")` in the kinds, finds each field in the data of the `kubernetes-validate` package, and writes
`src/podling/kinds/data/column_docs.json`. Run it after a column was added.
"""

from __future__ import annotations

import json
import re
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

MINOR = "v1.36.0"
KINDS = Path(__file__).parent.parent / "src" / "podling" / "kinds"
PREFIXES = {
    "meta": "io.k8s.apimachinery.pkg.apis",
    "apiextensions": "io.k8s.apiextensions-apiserver.pkg.apis",
    "apiregistration": "io.k8s.kube-aggregator.pkg.apis",
}


def definitions() -> dict[str, Any]:
    spec = find_spec("kubernetes_validate")
    if spec is None or spec.origin is None:
        sys.exit("kubernetes-validate is not installed: pip install --group tools")
    data = Path(spec.origin).parent / "kubernetes-json-schema" / f"{MINOR}-local" / "_definitions.json"
    return json.loads(data.read_text())["$defs"]


def documented(fields: set[str]) -> dict[str, str]:
    known = definitions()
    docs: dict[str, str] = {}
    for field in sorted(fields):
        package, version, kind, name = field.split(".")
        definition = known[f"{PREFIXES.get(package, 'io.k8s.api')}.{package}.{version}.{kind}"]
        docs[field] = definition["properties"][name]["description"]
    return docs


def main() -> None:
    sources = [path.read_text() for path in KINDS.rglob("*.py") if path.name != "printing.py"]
    fields = {"meta.v1.ObjectMeta.name", "meta.v1.ObjectMeta.creationTimestamp"}
    fields |= {found for text in sources for found in re.findall(r'\bdoc\("([^"]+)"\)', text)}
    target = KINDS / "data" / "column_docs.json"
    target.write_text(json.dumps(documented(fields), indent=1, ensure_ascii=False) + "\n")
    print(f"{target.name}: {len(fields)} fields")


if __name__ == "__main__":
    main()
