"""The kinds of the smaller groups: what is said of objects and changes that are wrong, in Kubernetes' words."""

from __future__ import annotations

import copy

import pytest

META = {"name": "x", "namespace": "default", "uid": "11111111-1111-1111-1111-111111111111"}
SERVICE = {"name": "s", "port": {"number": 80}}
BACKEND = "spec.defaultBackend"
POOL = {"name": "p", "resourceSliceCount": 1}
SLICE = {"driver": "d.example.com", "pool": POOL, "nodeName": "n"}
REQUEST = "spec.devices.requests[0]"
RULE = {"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]}
FLOW = {"priorityLevelConfiguration": {"name": "l"}}
LEVEL = {"type": "Limited", "limited": {"limitResponse": {"type": "Queue", "queuing": {"queues": 8, "handSize": 8}}}}
SUBJECTS = [{"kind": "User", "user": {"name": "ann"}}]
API = {"group": "a.example.com", "version": "v1", "groupPriorityMinimum": 1, "versionPriority": 1}


def named(kinds, plural):
    (found,) = [resource for resource in kinds.values() if resource.plural == plural]
    return found


def resource_rule(**change):
    rule = {"verbs": ["get"], "apiGroups": [""], "resources": ["pods"], "namespaces": ["*"], **change}
    return {**FLOW, "rules": [{"subjects": SUBJECTS, "resourceRules": [rule]}]}


def url_rule(*urls):
    return {
        **FLOW,
        "rules": [{"subjects": SUBJECTS, "nonResourceRules": [{"verbs": ["get"], "nonResourceURLs": urls}]}],
    }


def subject(**members):
    rule = {"verbs": ["*"], "nonResourceURLs": ["*"]}
    return {**FLOW, "rules": [{"subjects": [members], "nonResourceRules": [rule]}]}


def request(**wanted):
    return {"devices": {"requests": [{"name": "r", "exactly": {"deviceClassName": "c", **wanted}}]}}


def device(**members):
    return {**SLICE, "devices": [{"name": "d", **members}]}


@pytest.mark.parametrize(
    ("kind", "obj", "said"),
    [
        # networking
        (
            "ingresses",
            {"spec": {"defaultBackend": {"service": {"name": "s"}}}},
            f"{BACKEND}: Required value: port name or number is required",
        ),
        (
            "ingresses",
            {"spec": {"defaultBackend": {"service": {"name": "s", "port": {"name": "a", "number": 1}}}}},
            f'{BACKEND}: Invalid value: "": cannot set both port name & port number',
        ),
        (
            "ingresses",
            {"spec": {"defaultBackend": {}}},
            f'{BACKEND}: Invalid value: "": resource or service backend is required',
        ),
        (
            "ingresses",
            {"spec": {"defaultBackend": {"resource": {"apiGroup": "", "kind": "B", "name": "b"}}}},
            f'{BACKEND}.resource.apiGroup: Invalid value: ""',
        ),
        (
            "ingresses",
            {"spec": {"rules": [{"http": {"paths": [{"pathType": "", "backend": {"service": SERVICE}}]}}]}},
            'spec.rules[0].http.paths[0].pathType: Unsupported value: "": supported values: "Exact", "Implementation',
        ),
        (
            "ingressclasses",
            {"spec": {"controller": "a.example.com/" + "c" * 250}},
            "spec.controller: Too long: may not be more than 250 bytes",
        ),
        (
            "networkpolicies",
            {"spec": {"ingress": [{"ports": [{"endPort": 9}]}]}},
            "spec.ingress[0].ports[0].endPort: Invalid value: 9: may not be specified when `port` is not specified",
        ),
        (
            "servicecidrs",
            {"spec": {"cidrs": ["10.0.0.0/8", "11.0.0.0/8"]}},
            'spec.cidrs: Invalid value: {"CIDRs":["10.0.0.0/8","11.0.0.0/8"]}: may specify no more than one IP for e',
        ),
        ("ipaddresses", {"metadata": {"name": "10.0.0.1"}, "spec": {}}, "spec.parentRef: Required value"),
        # storage
        (
            "storageclasses",
            {"provisioner": "a.b/c", "allowedTopologies": [{}]},
            'allowedTopologies[0].matchLabelExpressions: Duplicate value: ""',
        ),
        (
            "volumeattributesclasses",
            {"driverName": "a b", "parameters": {"a": "b"}},
            'driverName: Invalid value: "a b": name part must consist',
        ),
        (
            "volumeattributesclasses",
            {"driverName": "d"},
            "parameters: Required value: must contain at least one key/value pair",
        ),
        (
            "volumeattachments",
            {"spec": {"attacher": "d", "nodeName": "n", "source": {}}},
            "spec.source: Required value: must specify exactly one of inlineVolumeSpec and persistentVolumeName",
        ),
        (
            "volumeattachments",
            {
                "spec": {
                    "attacher": "d",
                    "nodeName": "n",
                    "source": {"inlineVolumeSpec": {}, "persistentVolumeName": "p"},
                }
            },
            "spec.source: Forbidden: must specify exactly one of inlineVolumeSpec and persistentVolumeName",
        ),
        (
            "volumeattachments",
            {"spec": {"attacher": "d", "nodeName": "n", "source": {"inlineVolumeSpec": {}}}},
            "spec.source.inlineVolumeSpec.csi: Required value: has to be specified in the context of inline volumes",
        ),
        # policy, discovery, node, apiregistration
        (
            "poddisruptionbudgets",
            {"spec": {"selector": {"matchLabels": {"a": "b c"}}}},
            'spec.selector.matchLabels: Invalid value: "b c"',
        ),
        (
            "endpointslices",
            {"addressType": "FQDN", "endpoints": [{"addresses": ["a"]}]},
            'endpoints[0].addresses[0]: Invalid value: "a": should be a domain with at least two segments separated ',
        ),
        (
            "endpointslices",
            {"addressType": "IPv4", "endpoints": [{"addresses": ["::1"]}]},
            'endpoints[0].addresses: Invalid value: "::1": must be an IPv4 address',
        ),
        (
            "endpointslices",
            {"addressType": "IPv4", "endpoints": [{"addresses": ["::1"]}]},
            'endpoints[0].addresses[0]: Invalid value: "::1": may not be in the loopback range',
        ),
        (
            "endpointslices",
            {"addressType": "IPv4", "endpoints": [{"addresses": ["1.1.1.1"], "hints": {"forNodes": [{"name": "A"}]}}]},
            'endpoints[0].hints.forNodes[0].name: Invalid value: "A": a lowercase RFC 1123 subdomain must consist',
        ),
        (
            "endpointslices",
            {"addressType": "IPv4", "ports": [{"protocol": ""}]},
            'ports[0].protocol: Unsupported value: "": supported values: "SCTP", "TCP", "UDP"',
        ),
        ("runtimeclasses", {}, "handler: Required value"),
        (
            "runtimeclasses",
            {"handler": "h", "scheduling": {"tolerations": [{"key": "k", "tolerationSeconds": n} for n in (0, 1)]}},
            'scheduling.tolerations[1]: Duplicate value: {"Key":"k","Operator":"","Value":"","Effect":"","Toleration',
        ),
        ("priorityclasses", {"preemptionPolicy": ""}, "preemptionPolicy: Required value"),
        (
            "ingresses",
            {"spec": {"defaultBackend": {"resource": {"name": "n"}}}},
            "spec.defaultBackend.resource.kind: Required value",
        ),
        (
            "certificatesigningrequests",
            {"spec": {}},
            "spec.request: Invalid value: null: PEM block type must be CERTIFICATE REQUEST",
        ),
        (
            "runtimeclasses",
            {"handler": "h", "scheduling": {"tolerations": [{"key": "k", "operator": "Exists"}] * 2}},
            'scheduling.tolerations[1]: Duplicate value: {"Key":"k","Operator":"Exists","Value":"","Effect":"","Tole',
        ),
        (
            "runtimeclasses",
            {"handler": "h", "overhead": {"podFixed": {"cpu": "-1"}}},
            'overhead.limits[cpu]: Invalid value: "-1": must be greater than or equal to 0',
        ),
        (
            "apiservices",
            {"spec": API},
            'metadata.name: Invalid value: "x": must be `spec.version+"."+spec.group`: "v1.a.example.com"',
        ),
        (
            "apiservices",
            {"spec": {**API, "group": "", "version": "v2"}},
            "spec.group: Required value: only v1 may have an empty group and it better be legacy kube",
        ),
        (
            "apiservices",
            {"spec": {**API, "caBundle": "YWJj"}},
            'spec.caBundle: Invalid value: "3 bytes": local APIServices may not have a caBundle',
        ),
        (
            "apiservices",
            {"spec": {**API, "service": {"name": "s", "namespace": "n", "port": 0}}},
            "spec.service.port: Invalid value: 0: port is not valid: must be between 1 and 65535, inclusive",
        ),
        # rbac
        (
            "clusterroles",
            {"rules": [RULE], "aggregationRule": {"clusterRoleSelectors": [{"matchLabels": {"a b": "c"}}]}},
            "aggregationRule.clusterRoleSelectors[0]: Invalid value: null: invalid label selector.",
        ),
        # flowcontrol
        (
            "flowschemas",
            {"spec": {**FLOW, "distinguisherMethod": {"type": "X"}}},
            'spec.distinguisherMethod.type: Unsupported value: {"Type":"X"}: supported values: "ByNamespace", "ByUser"',
        ),
        (
            "flowschemas",
            {"spec": {**FLOW, "rules": [{}]}},
            "spec.rules[0].subjects: Required value: subjects must contain at least one value",
        ),
        (
            "flowschemas",
            {"spec": resource_rule(verbs=["use"])},
            'spec.rules[0].resourceRules[0].verbs: Unsupported value: ["use"]',
        ),
        (
            "flowschemas",
            {"spec": resource_rule(verbs=["*", "get"])},
            'spec.rules[0].resourceRules[0].verbs: Invalid value: ["*","get"]: if \'*\' is present, must not specify',
        ),
        (
            "flowschemas",
            {"spec": resource_rule(namespaces=["a.b"])},
            'spec.rules[0].resourceRules[0].namespaces[0]: Invalid value: "a.b": each member of this list must be',
        ),
        (
            "flowschemas",
            {"spec": resource_rule(namespaces=[])},
            "spec.rules[0].resourceRules[0].namespaces: Required value: resource rules that are not cluster scoped",
        ),
        (
            "flowschemas",
            {"spec": url_rule("/a*")},
            'spec.rules[0].nonResourceRules[0].nonResourceURLs[0]: Invalid value: "/a*": wildcard can only do suffix',
        ),
        (
            "flowschemas",
            {"spec": subject(kind="Group", user={"name": "a"})},
            "spec.rules[0].subjects[0].group: Required value: group is required when subject kind is 'Group'",
        ),
        (
            "flowschemas",
            {"spec": subject(kind="ServiceAccount", serviceAccount={"name": "*"})},
            "spec.rules[0].subjects[0].serviceAccount.namespace: Required value: must specify namespace",
        ),
        (
            "prioritylevelconfigurations",
            {"spec": {"type": "Exempt"}},
            "spec.type: Invalid value: \"Exempt\": type must be 'Exempt' if and only if name is 'exempt'",
        ),
        (
            "prioritylevelconfigurations",
            {"spec": {**LEVEL, "limited": {"limitResponse": {"type": "Reject", "queuing": {}}}}},
            "spec.limited.limitResponse.queuing: Forbidden",
        ),
        (
            "prioritylevelconfigurations",
            {
                "spec": {
                    **LEVEL,
                    "limited": {"limitResponse": {"type": "Queue", "queuing": {"queues": 9999, "handSize": 9}}},
                }
            },
            "spec.limited.limitResponse.queuing.handSize: Invalid value: 9: required entropy bits",
        ),
        (
            "prioritylevelconfigurations",
            {"spec": {**LEVEL, "limited": {**LEVEL["limited"], "lendablePercent": 101}}},
            "spec.limited.lendablePercent: Invalid value: 101: must be between 0 and 100, inclusive",
        ),
        # resource
        (
            "resourceclaims",
            {"spec": {"devices": {"requests": [{"name": "r"}]}}},
            f"{REQUEST}: Required value: exactly one of `exactly` or `firstAvailable` is required",
        ),
        (
            "resourceclaims",
            {"spec": request(allocationMode="All", count=2)},
            f"{REQUEST}.exactly.count: Invalid value: 2: must not be specified when allocationMode is 'All'",
        ),
        (
            "resourceclaims",
            {"spec": request(allocationMode="X")},
            f'{REQUEST}.exactly.allocationMode: Unsupported value: "X": supported values: "All", "ExactCount"',
        ),
        (
            "resourceclaims",
            {"spec": request(selectors=[{"cel": {"expression": "device.driver"}}])},
            f'{REQUEST}.exactly.selectors[0].cel.expression: Invalid value: "device.driver": must evaluate to bool o',
        ),
        (
            "resourceclaims",
            {"spec": request(tolerations=[{"operator": "Exists", "value": "v"}])},
            f'{REQUEST}.exactly.tolerations[0].value: Invalid value: "v": must be empty for operator `Exists`',
        ),
        (
            "resourceclaims",
            {"spec": request(adminAccess=True)},
            f"{REQUEST}.exactly.adminAccess: Forbidden: admin access to devices requires",
        ),
        (
            "resourceclaims",
            {"spec": {"devices": {"constraints": [{"requests": ["r"], "matchAttribute": "a"}]}}},
            'spec.devices.constraints[0].requests[0]: Invalid value: "r": must be the name of a request',
        ),
        (
            "resourceclaims",
            {"spec": {"devices": {"config": [{"opaque": {"driver": "d", "parameters": 1}}]}}},
            'spec.devices.config[0].opaque.parameters: Invalid value: "<value omitted>": must be a valid JSON object',
        ),
        (
            "resourceclaimtemplates",
            {"spec": {"spec": {"devices": {"requests": [{"name": "R"}]}}}},
            'spec.spec.devices.requests[0].name: Invalid value: "R"',
        ),
        (
            "deviceclasses",
            {"spec": {"extendedResourceName": "cpu"}},
            'spec.extendedResourceName: Invalid value: "cpu": must be a valid extended resource name',
        ),
        (
            "resourceslices",
            {"spec": {**SLICE, "nodeName": None}},
            "spec: Required value: exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` i",
        ),
        (
            "resourceslices",
            {"spec": {**SLICE, "allNodes": True}},
            'spec: Invalid value: "{`nodeName`, `allNodes`}": exactly one of',
        ),
        (
            "resourceslices",
            {"spec": {**SLICE, "pool": {"name": "p"}}},
            "spec.pool.resourceSliceCount: Invalid value: 0: must be greater than zero",
        ),
        (
            "resourceslices",
            {"spec": device(attributes={"a-b": {"int": 1}})},
            'spec.devices[0].attributes[a-b]: Invalid value: "a-b": a valid C identifier',
        ),
        (
            "resourceslices",
            {"spec": device(attributes={"a": {"version": "1"}})},
            'spec.devices[0].attributes[a].version: Invalid value: "1": must be a string compatible with semver.org ',
        ),
        (
            "resourceslices",
            {"spec": device(attributes={"a": {}})},
            'spec.devices[0].attributes[a]: Invalid value: "": exactly one value must be specified',
        ),
        (
            "resourceslices",
            {"spec": device(capacity={"a": {"value": "1", "requestPolicy": {}}})},
            "spec.devices[0].capacity[a].requestPolicy: Forbidden: allowMultipleAllocations must be true",
        ),
        (
            "resourceslices",
            {"spec": device(allNodes=True)},
            "spec.devices[0]: Invalid value: null: `nodeName`, `nodeSelector` and `allNodes` can only be set",
        ),
        (
            "resourceslices",
            {"spec": device(bindingConditions=["a"])},
            "spec.devices[0].bindingFailureConditions: Invalid value: null: bindingFailureConditions are required",
        ),
        ("resourceslices", {"spec": device(taints=[{"key": "k"}])}, "spec.devices[0].taints[0].effect: Required value"),
        (
            "resourceslices",
            {
                "spec": device(
                    allowMultipleAllocations=True,
                    capacity={
                        "a": {"value": "9", "requestPolicy": {"default": "2", "validRange": {"min": "1", "step": "2"}}}
                    },
                )
            },
            'spec.devices[0].capacity[a].requestPolicy.validRange.step: Invalid value: "2": value is not a multiple ',
        ),
    ],
)
def test_a_new_object_is_told_what_is_wrong(kinds, problems, kind, obj, said) -> None:
    found = problems(named(kinds, kind), copy.deepcopy(obj))
    assert [line for line in found if line.startswith(said)], found


@pytest.mark.parametrize(
    ("kind", "obj", "change", "fields"),
    [
        ("roles", {"rules": [RULE]}, {"rules": [{}]}, ["verbs", "apiGroups", "resources"]),
        ("networkpolicies", {"spec": {}}, {"spec": {"policyTypes": ["X"]}}, ["policyTypes[0]"]),
        ("storageclasses", {"provisioner": "a"}, {"provisioner": "b"}, ["provisioner"]),
        ("csistoragecapacities", {"storageClassName": "a"}, {"storageClassName": "b"}, ["storageClassName"]),
        ("volumeattributesclasses", {"driverName": "d", "parameters": {"a": "b"}}, {"driverName": "e"}, ["driverName"]),
        (
            "ipaddresses",
            {"metadata": {"name": "10.0.0.1"}, "spec": {"parentRef": {"resource": "services", "name": "a"}}},
            {"spec": {"parentRef": {"resource": "services", "name": "b"}}},
            ["parentRef"],
        ),
        ("resourceclaims", {"spec": {}}, {"spec": {"devices": {"requests": [{"name": "r"}]}}}, ["spec", "requests[0]"]),
        ("ingressclasses", {"spec": {"controller": "a.b/c"}}, {"spec": {"controller": "a.b/d"}}, ["controller"]),
        ("runtimeclasses", {"handler": "a"}, {"handler": "b"}, ["handler"]),
    ],
)
def test_a_change_is_checked_as_often_as_kubernetes_does_it(kinds, writes, kind, obj, change, fields) -> None:
    kind = named(kinds, kind)
    old = writes(kind, copy.deepcopy(obj)).new
    new = writes(kind, {**copy.deepcopy(old), **copy.deepcopy(change)}, old)
    assert [e.field.rpartition(".")[2] for e in kind.strategy.validate(new)] == fields


def test_owners_and_keys_of_labels_are_told_as_kubernetes_tells_them(kinds, problems) -> None:
    owners = [{"apiVersion": "a/b/c"}, {"apiVersion": "v1", "kind": "Event", "name": "e", "uid": "u"}]
    whole = {"metadata": {"name": "l", "labels": {"a/b/c": ""}, "ownerReferences": owners}}
    label, *found = problems(named(kinds, "leases"), whole)
    assert label.startswith('metadata.labels: Invalid value: "a/b/c": a valid label key must consist of alphanumeric')
    assert found == [
        'metadata.ownerReferences.apiVersion: Invalid value: "a/b/c": version must not be empty',
        'metadata.ownerReferences.kind: Invalid value: "": must not be empty',
        'metadata.ownerReferences.name: Invalid value: "": must not be empty',
        'metadata.ownerReferences.uid: Invalid value: "": must not be empty',
        'metadata.ownerReferences: Invalid value: {"apiVersion":"v1","kind":"Event","name":"e","uid":"u"}: '
        "/v1, Kind=Event is disallowed from being an owner",
    ]


@pytest.mark.parametrize(("kind", "taken"), [("leases", True), ("ingressclasses", False)])
def test_a_finalizer_without_domain_is_for_kinds_with_the_machinerys_rules(kinds, problems, kind, taken) -> None:
    obj = {"metadata": {"name": "n", "finalizers": ["mine"]}, "spec": {"controller": "a.b/c"}}
    assert (problems(named(kinds, kind), obj) == []) is taken


def test_topology_of_endpoints_is_not_written(kinds, writes) -> None:
    slices = named(kinds, "endpointslices")
    old = {"endpoints": [{"addresses": ["1.1.1.1"], "deprecatedTopology": {"kubernetes.io/hostname": "n"}}]}
    new = copy.deepcopy(old)
    new["endpoints"].append({"addresses": ["1.1.1.2"], "deprecatedTopology": {"kubernetes.io/hostname": "other"}})
    write = writes(slices, new, old)
    slices.strategy.prepare(write)
    assert write.new["endpoints"] == [{"addresses": ["1.1.1.1"], "nodeName": "n"}, {"addresses": ["1.1.1.2"]}]
    kept = writes(slices, copy.deepcopy(old), old)
    slices.strategy.prepare(kept)
    assert kept.new["endpoints"] == old["endpoints"]


def test_a_budget_leaves_its_metadata_for_last(kinds, problems) -> None:
    kind = kinds["poddisruptionbudgets.policy/v1"]
    named = {"metadata": {"name": "Any Name", "labels": {"a b": "c"}}, "spec": {}}
    assert [line.partition(":")[0] for line in problems(kind, copy.deepcopy(named))] == ["metadata.labels"]
    wrong = {**named, "spec": {"minAvailable": -1}}
    assert [line.partition(":")[0] for line in problems(kind, wrong)] == ["spec.minAvailable"]


def test_conditions_of_a_status_are_held_to_the_common_rules(kinds, problems) -> None:
    kind = kinds["poddisruptionbudgets.policy/v1"]
    old = {"metadata": dict(META), "spec": {}, "status": {}}
    condition = {"type": "A", "status": "Maybe", "reason": "not so"}
    found = problems(kind, {**old, "status": {"conditions": [condition, condition]}}, old, subresource="status")
    assert [line.partition(" ")[0] for line in found] == [
        *("status.conditions[0].status:", "status.conditions[0].lastTransitionTime:", "status.conditions[0].reason:"),
        *("status.conditions[1].type:", "status.conditions[1].status:", "status.conditions[1].lastTransitionTime:"),
        "status.conditions[1].reason:",
    ]


def test_a_claim_asks_for_one_device_unless_it_says_otherwise(kinds, writes) -> None:
    new = writes(kinds["resourceclaims.resource.k8s.io/v1"], {"spec": request()}).new
    wanted = {"deviceClassName": "c", "allocationMode": "ExactCount", "count": 1}
    assert new["spec"]["devices"]["requests"][0]["exactly"] == wanted


@pytest.mark.parametrize(
    ("status", "said"),
    [
        ({"reservedFor": [{}]}, "status.reservedFor[0].resource: Required value"),
        ({"reservedFor": [{"resource": "pods", "name": "p", "uid": "u"}]}, "status.reservedFor: Forbidden: may not be"),
        ({"devices": [{"driver": "d", "pool": "p", "device": "x"}]}, 'status.devices[0]: Invalid value: "d/p/x": must'),
        (
            {"allocation": {"devices": {"results": [{"request": "q", "driver": "d", "pool": "p", "device": "x"}]}}},
            'status.allocation.devices.results[0].request: Invalid value: "q": must be the name of a request',
        ),
    ],
)
def test_a_claim_is_given_what_it_asked_for(kinds, problems, status, said) -> None:
    old = {"metadata": dict(META), "spec": request(), "status": {}}
    found = problems(kinds["resourceclaims.resource.k8s.io/v1"], {**old, "status": status}, old, subresource="status")
    assert [line for line in found if line.startswith(said)], found


def test_what_this_server_serves_itself_is_available_at_once(kinds, writes) -> None:
    new = writes(kinds["apiservices.apiregistration.k8s.io/v1"], {"spec": dict(API)}).new
    assert [c["reason"] for c in new["status"]["conditions"]] == ["Local"]


def test_some_kinds_are_only_replaced_by_who_has_seen_them(kinds) -> None:
    careful = {
        *("poddisruptionbudgets", "csidrivers", "csinodes", "csistoragecapacities", "volumeattachments"),
        *("runtimeclasses", "leases", "apiservices", "customresourcedefinitions"),
        *("validatingwebhookconfigurations", "mutatingwebhookconfigurations", "validatingadmissionpolicies"),
        *("validatingadmissionpolicybindings", "mutatingadmissionpolicies", "mutatingadmissionpolicybindings"),
    }
    assert {r.plural for r in kinds.values() if not r.strategy.unconditional_update} == careful


def test_some_kinds_are_made_by_a_put(kinds) -> None:
    made = {"events", "endpoints", "services", "limitranges", "leases", "runtimeclasses"}
    made |= {"roles", "rolebindings", "clusterroles", "clusterrolebindings"}
    assert {r.plural for r in kinds.values() if r.strategy.create_on_update} == made
