"""A kind of the user's own, by kubectl: made, explained, applied, printed, taken away."""

from __future__ import annotations

from collections.abc import Callable, Generator
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from support.people import Person

CLUSTER = "crd"
Kubectl = Callable[..., CompletedProcess[str]]

DEFINITION = """
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: crontabs.stable.example.com}
spec:
  group: stable.example.com
  scope: Namespaced
  names: {plural: crontabs, singular: crontab, kind: CronTab, shortNames: [ct]}
  versions:
  - name: v1
    served: true
    storage: true
    schema:
      openAPIV3Schema:
        type: object
        properties:
          spec:
            type: object
            required: [cronSpec]
            properties:
              cronSpec: {type: string, description: When it runs., pattern: '^.+ .+ .+ .+ .+$'}
              replicas: {type: integer, minimum: 1, default: 1}
    additionalPrinterColumns:
    - {name: Spec, type: string, jsonPath: .spec.cronSpec}
    - {name: Replicas, type: integer, jsonPath: .spec.replicas}
"""


def crontab(spec: str) -> str:
    return f"apiVersion: stable.example.com/v1\nkind: CronTab\nmetadata: {{name: mine}}\nspec: {{cronSpec: '{spec}'}}\n"


@pytest.fixture(scope="module")
def kubectl(person: Person) -> Generator[Kubectl]:
    person.podling("up", "--empty", "--name", CLUSTER)

    def run(*args: str | Path, **options: object) -> CompletedProcess[str]:
        return person.run("kubectl", *args, **options)  # type: ignore[arg-type]

    try:
        run("apply", "-f", "-", stdin=DEFINITION)
        run("wait", "--for=condition=Established", "crd/crontabs.stable.example.com", "--timeout=10s")
        yield run
    finally:
        person.podling("down", "--name", CLUSTER)


def test_it_is_explained(kubectl: Kubectl) -> None:
    shown = kubectl("explain", "crontabs.spec").stdout
    assert "cronSpec" in shown
    assert "When it runs." in shown


def test_an_object_that_does_not_fit_is_refused(kubectl: Kubectl) -> None:
    refused = kubectl("apply", "-f", "-", stdin=crontab("often"), check=False)
    assert refused.returncode != 0
    assert "spec.cronSpec in body should match" in refused.stderr


def test_a_good_object_is_stored_with_defaults_and_printed_in_columns(kubectl: Kubectl) -> None:
    kubectl("apply", "-f", "-", stdin=crontab("* * * * 5"))
    head, row = kubectl("get", "ct").stdout.splitlines()
    assert head.split() == ["NAME", "SPEC", "REPLICAS"]
    assert row.split() == ["mine", "*", "*", "*", "*", "5", "1"]


def test_the_definition_goes_and_takes_its_objects_with_it(kubectl: Kubectl) -> None:
    kubectl("delete", "crd", "crontabs.stable.example.com", "--timeout=20s")
    gone = kubectl("get", "ct", check=False)
    assert gone.returncode != 0
    assert "the server" in gone.stderr  # could not find it, or has no such type: as kubectl's cache of discovery has it
