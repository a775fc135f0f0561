"""Webhook configurations and admission policies: what is said of wrong ones, in Kubernetes' words."""

from __future__ import annotations

import copy

import pytest

HOOK = {
    "name": "a.b.c",
    "clientConfig": {"url": "https://x/y"},
    "sideEffects": "None",
    "admissionReviewVersions": ["v1"],
}
RULE = {"apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"], "operations": ["CREATE"]}
POLICY = {"matchConstraints": {"resourceRules": [RULE]}, "validations": [{"expression": "true"}]}
URL = "webhooks[0].clientConfig.url"
RESOURCES = "webhooks[0].rules[0].resources"
BOTH = "name and selector are mutually exclusive"


def kind_of(kinds, plural):
    return kinds[f"{plural}.admissionregistration.k8s.io/v1"]


def service(**members):
    return {"clientConfig": {"service": members}}


def resources(*names):
    return {"rules": [{**RULE, "resources": list(names)}]}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            {"clientConfig": {"url": "http://u:p@/x?a#b"}},
            [
                f"{URL}: Invalid value: \"http\": 'https' is the only allowed URL scheme; "
                "desired format: https://host[/path]",
                f'{URL}: Invalid value: "": host must be specified; desired format: https://host[/path]',
                f'{URL}: Invalid value: "u:p": user information is not permitted in the URL',
                f'{URL}: Invalid value: "b": fragments are not permitted in the URL',
                f'{URL}: Invalid value: "a": query parameters are not permitted in the URL',
            ],
        ),
        (service(namespace="n"), ["webhooks[0].clientConfig.service.namespace: Required value"]),
        (service(name="n"), ["webhooks[0].clientConfig.service.name: Required value"]),
        (
            {"admissionReviewVersions": ["v2", "v2"]},
            [
                'webhooks[0].admissionReviewVersions[1]: Invalid value: "v2": duplicate version',
                'webhooks[0].admissionReviewVersions: Invalid value: ["v2","v2"]: must include at least one of '
                "v1, v1beta1",
            ],
        ),
        (resources("pods/status", "pods/*"), []),
        (
            resources("pods/*", "pods/status", "*/scale", "jobs/scale"),
            [
                f"{RESOURCES}[1]: Invalid value: \"pods/status\": if 'pods/*' is present, must not specify pods/status",
                f"{RESOURCES}[3]: Invalid value: \"jobs/scale\": if '*/scale' is present, must not specify jobs/scale",
            ],
        ),
        (
            resources("*", "pods"),
            [
                f'{RESOURCES}: Invalid value: ["*","pods"]: if \'*\' is present, must not specify other resources '
                "without subresources"
            ],
        ),
        (resources("pods", "*"), []),
        (resources("pods", "pods"), []),
    ],
)
def test_a_webhook_is_told_what_is_wrong(kinds, problems, change, said) -> None:
    obj = {"webhooks": [{**HOOK, **copy.deepcopy(change)}]}
    assert problems(kind_of(kinds, "validatingwebhookconfigurations"), obj) == said


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            {"matchConstraints": {"resourceRules": [{**RULE, "resourceNames": ["a", "a", "b/c"]}]}},
            [
                'spec.matchConstraints.resourceRules[0].resourceNames[1]: Duplicate value: "a"',
                "spec.matchConstraints.resourceRules[0].resourceNames[2]: Invalid value: \"b/c\": may not contain '/'",
            ],
        ),
        (
            {"paramKind": {"apiVersion": "A_/", "kind": "a b"}},
            [
                'spec.paramKind.apiVersion: Invalid value: "A_": a lowercase RFC 1123 subdomain',
                'spec.paramKind.apiVersion: Invalid value: "A_/": version must be specified',
                'spec.paramKind.kind: Invalid value: "a b": may have mixed case, but should otherwise match: a DNS',
            ],
        ),
        (
            {"validations": [{"expression": "true", "messageExpression": " ", "message": "a\rb"}]},
            [
                'spec.validations[0].messageExpression: Invalid value: " ": must be non-empty if specified',
                'spec.validations[0].message: Invalid value: "a\\rb": message must not contain line breaks',
            ],
        ),
        ({"validations": [{"expression": "true ||\nfalse"}]}, []),
        (
            {"auditAnnotations": [{"key": "a", "valueExpression": f"'{'x' * 5119}'"}]},
            ["spec.auditAnnotations[0].valueExpression: Required value: must not exceed 5120 bytes in length"],
        ),
    ],
)
def test_a_policy_is_told_what_is_wrong(kinds, problems, change, said) -> None:
    found = problems(kind_of(kinds, "validatingadmissionpolicies"), {"spec": {**copy.deepcopy(POLICY), **change}})
    assert len(found) == len(said), found
    assert all(line.startswith(start) for line, start in zip(found, said, strict=True)), found


def test_a_policy_has_at_most_twenty_audit_annotations(kinds, problems) -> None:
    annotations = [{"key": f"a{i}", "valueExpression": "'x'"} for i in range(21)]
    found = problems(
        kind_of(kinds, "validatingadmissionpolicies"),
        {"spec": {**copy.deepcopy(POLICY), "auditAnnotations": annotations}},
    )
    assert [line.partition(":")[0] for line in found] == ["spec.auditAnnotations"]
    assert found[0].endswith("must not have more than 20 auditAnnotations")


def test_the_status_of_a_policy_is_checked(kinds, problems) -> None:
    kind = kind_of(kinds, "validatingadmissionpolicies")
    meta = {"name": "x", "uid": "11111111-1111-1111-1111-111111111111"}
    old = {"metadata": meta, "spec": copy.deepcopy(POLICY), "status": {}}
    warnings = {"typeChecking": {"expressionWarnings": [{"fieldRef": " "}]}, "conditions": [{"type": "A"}]}
    found = problems(kind, {**copy.deepcopy(old), "status": warnings}, old, subresource="status")
    assert [line.partition(":")[0] for line in found] == [
        "status.typeChecking.expressionWarnings[0].warning",
        "status.typeChecking.expressionWarnings[0].fieldRef",
        "status.conditions[0].status",
        "status.conditions[0].lastTransitionTime",
        "status.conditions[0].reason",
    ]


@pytest.mark.parametrize("plural", ["validatingadmissionpolicybindings", "mutatingadmissionpolicybindings"])
def test_a_binding_is_told_what_is_wrong(kinds, problems, plural) -> None:
    spec = {
        "policyName": "p",
        "validationActions": ["Deny"],
        "paramRef": {"name": "a", "selector": {}, "parameterNotFoundAction": "X"},
        "matchResources": {"matchPolicy": "Y"},
    }
    assert problems(kind_of(kinds, plural), {"spec": spec}) == [
        f"spec.paramRef.name: Forbidden: {BOTH}",
        f"spec.paramRef.selector: Forbidden: {BOTH}",
        'spec.paramRef.parameterNotFoundAction: Unsupported value: "X": supported values: "Deny", "Allow"',
        'spec.matchResources.matchPolicy: Unsupported value: "Y": supported values: "Equivalent", "Exact"',
    ]
