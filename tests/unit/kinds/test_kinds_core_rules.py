"""What is wrong with the other kinds of the core group, in the words, at the places and in the order of the real API
server; and what it only warns of."""

# ruff: noqa: E501  the messages are Kubernetes' and stay in one piece

from __future__ import annotations

import asyncio
import base64
import copy
from datetime import UTC, datetime

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from podling.api.errors import ApiError

ONLY_BALANCER = "Forbidden: may only be used when `type` is 'LoadBalancer'"
HINTS, MODE = "service.kubernetes.io/topology-aware-hints", "service.kubernetes.io/topology-mode"
RANGES = "service.beta.kubernetes.io/load-balancer-source-ranges"
NOT_FOR_NAMES = "Forbidden: may not be set for ExternalName services"
MISAPPLIED = "unsupported scope applied to resource"
FINALIZER = "name is neither a standard finalizer name nor is it fully qualified"
FUTURE = "will be considered invalid in a future Kubernetes release"
IP, CIDR = (
    "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)",
    "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)",
)


def service(spec=None, **metadata):
    return {"metadata": metadata, "spec": {"ports": [{"port": 80}], **(spec or {})}}


@pytest.mark.parametrize(
    ("spec", "told"),
    [
        ({"ports": []}, ["ports: Required value"]),
        ({"type": "LoadBalancer", "ports": [{"port": 10250}]}, []),
        (
            {"type": "NodePort", "clusterIP": "None"},
            ["clusterIPs[0]: Invalid value: \"None\": may not be set to 'None' for NodePort services"],
        ),
        (
            {"type": "ExternalName", "clusterIP": "None", "ipFamilies": ["IPv4"], "ipFamilyPolicy": "SingleStack"},
            [
                f"clusterIPs: {NOT_FOR_NAMES}",
                f"ipFamilies: {NOT_FOR_NAMES}",
                f"ipFamilyPolicy: {NOT_FOR_NAMES}",
                "externalName: Required value",
            ],
        ),
        (
            {"ports": [{"port": 80, "name": "a"}, {"port": 80, "name": "a"}]},
            [
                'ports[1].name: Duplicate value: "a"',
                'ports[1]: Duplicate value: {"Name":"","Protocol":"TCP","AppProtocol":null,"Port":80,"TargetPort":0,"NodePort":0}',
            ],
        ),
        (
            {"sessionAffinity": "ClientIP", "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 0}}},
            [
                "sessionAffinityConfig.clientIP.timeoutSeconds: Invalid value: 0: must be greater than 0 and less than 86400"
            ],
        ),
        ({"sessionAffinity": "ClientIP", "sessionAffinityConfig": {"clientIP": {}}}, []),
        (
            {"clusterIPs": ["10.96.0.9"]},
            ['clusterIPs: Invalid value: ["10.96.0.9"]: must be empty when `clusterIP` is not specified'],
        ),
        (
            {"clusterIP": "10.96.0.9", "clusterIPs": ["10.96.0.8"]},
            ['clusterIPs: Invalid value: ["10.96.0.8"]: first value must match `clusterIP`'],
        ),
        (
            {"ipFamilies": ["IPv4", "IPv5", "IPv4"], "ipFamilyPolicy": "Two"},
            [
                'ipFamilies[1]: Unsupported value: "IPv5": supported values: "IPv4", "IPv6"',
                'ipFamilies[2]: Duplicate value: "IPv4"',
                'ipFamilyPolicy: Unsupported value: "Two": supported values: "PreferDualStack", "RequireDualStack", "SingleStack"',
            ],
        ),
        (
            {"clusterIP": "None", "clusterIPs": ["None", "1.2.3.4"]},
            ['clusterIPs: Invalid value: ["None","1.2.3.4"]: \'None\' must be the first and only value'],
        ),
        (
            {"clusterIP": "1.2.3.4", "clusterIPs": ["1.2.3.4", "1.2.3.5", "::1"]},
            [
                'clusterIPs: Invalid value: ["1.2.3.4","1.2.3.5","::1"]: may only hold up to 2 values',
                'clusterIPs: Invalid value: ["1.2.3.4","1.2.3.5","::1"]: may specify no more than one IP for each IP family',
            ],
        ),
        (
            {"clusterIP": "1.2.3.4", "ipFamilies": ["IPv6"]},
            [
                'clusterIPs[0]: Invalid value: "1.2.3.4": expected an IPv6 value as indicated by `ipFamilies[0]`',
            ],
        ),
        (
            {"externalIPs": ["01.2.3.4", "127.0.0.1"]},
            [
                'externalIPs[0]: Invalid value: "01.2.3.4": must not have leading 0s',
                'externalIPs[1]: Invalid value: "127.0.0.1": may not be in the loopback range (127.0.0.0/8, ::1/128)',
            ],
        ),
        (
            {"loadBalancerSourceRanges": [" 10.0.0.0/8 ", "10.0.0.1/8"]},
            [
                f"LoadBalancerSourceRanges: {ONLY_BALANCER}",
                'LoadBalancerSourceRanges[1]: Invalid value: "10.0.0.1/8": must not have bits set beyond the prefix length',
            ],
        ),
        (
            {"allocateLoadBalancerNodePorts": False, "loadBalancerClass": "a/b"},
            [f"allocateLoadBalancerNodePorts: {ONLY_BALANCER}", f"loadBalancerClass: {ONLY_BALANCER}"],
        ),
        (
            {"externalTrafficPolicy": "Local", "internalTrafficPolicy": "Far", "trafficDistribution": "Near"},
            [
                'externalTrafficPolicy: Invalid value: "Local": may only be set for externally-accessible services',
                'internalTrafficPolicy: Unsupported value: "Far": supported values: "Cluster", "Local"',
                'trafficDistribution: Unsupported value: "Near": supported values: "PreferClose", "PreferSameZone", "PreferSameNode"',
            ],
        ),
    ],
)
def test_a_service_has_its_rules(kinds, problems, spec, told) -> None:
    assert problems(kinds["services/v1"], service(spec)) == [f"spec.{text}" for text in told]


@pytest.mark.parametrize(
    ("annotations", "told"),
    [
        (
            {MODE: "a", HINTS: "b"},
            [f'[{MODE}]: Invalid value: "a": must match annotations[{HINTS}] when both are specified'],
        ),
        ({RANGES: "10.0.0.0/8, x"}, [f"[{RANGES}]: {ONLY_BALANCER}", f'[{RANGES}]: Invalid value: "x": {CIDR}']),
    ],
)
def test_annotations_of_a_service_have_rules(kinds, problems, annotations, told) -> None:
    assert problems(kinds["services/v1"], service(annotations=annotations)) == [
        f"metadata.annotations{text}" for text in told
    ]


KEPT = "may not change once set"
BALANCER = {"type": "LoadBalancer", "externalTrafficPolicy": "Local", "healthCheckNodePort": 30000}


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        (
            {"clusterIP": "10.96.0.8", "ipFamilies": ["IPv4"]},
            {"clusterIP": "10.96.0.9", "clusterIPs": ["10.96.0.8"], "ipFamilies": ["IPv6"]},
            [
                f'clusterIPs[0]: Invalid value: ["10.96.0.9"]: {KEPT}',
                f'ipFamilies[0]: Invalid value: ["IPv6"]: {KEPT}',
                'clusterIPs[0]: Invalid value: "10.96.0.9": expected an IPv6 value as indicated by `ipFamilies[0]`',
            ],
        ),
        (
            {"clusterIP": "10.96.0.8", "clusterIPs": ["10.96.0.8", "fd00::8"], "ipFamilyPolicy": "PreferDualStack"},
            {"clusterIP": "10.96.0.8", "clusterIPs": ["10.96.0.8"], "ipFamilyPolicy": "PreferDualStack"},
            [
                "ipFamilyPolicy: Invalid value: \"PreferDualStack\": must be set to 'SingleStack' when releasing the secondary clusterIP"
            ],
        ),
        (
            {"type": "LoadBalancer"},
            {"type": "LoadBalancer", "loadBalancerClass": "a/b"},
            [f'loadBalancerClass: Invalid value: "a/b": {KEPT}'],
        ),
        (BALANCER, {**BALANCER, "healthCheckNodePort": 30001}, ["healthCheckNodePort: Forbidden: field is immutable"]),
        ({"externalIPs": ["01.2.3.4"]}, {"externalIPs": ["01.2.3.4"]}, []),
        ({"type": "ExternalName", "externalName": "a"}, {"clusterIP": "10.96.0.8"}, []),
    ],
)
def test_a_service_changes_by_these_rules(kinds, writes, problems, before, after, told) -> None:
    kind = kinds["services/v1"]
    old = writes(kind, service(before)).new
    assert problems(kind, service(after), old) == [f"spec.{text}" for text in told]


def test_what_a_service_no_longer_needs_goes(kinds, writes) -> None:
    kind = kinds["services/v1"]
    old = writes(kind, service({**BALANCER, "clusterIP": "10.96.0.8"})).new
    old["spec"]["ports"][0]["nodePort"] = 30002
    old["status"] = {"loadBalancer": {"ingress": [{"ip": "1.2.3.4"}]}}
    new = copy.deepcopy(old)
    new["spec"] |= {"type": "ClusterIP"}
    changed = writes(kind, new, old).new
    gone = {"externalTrafficPolicy", "healthCheckNodePort", "allocateLoadBalancerNodePorts"}
    assert not gone & changed["spec"].keys()
    assert "nodePort" not in changed["spec"]["ports"][0]
    assert changed["status"] == {"loadBalancer": {}}


def test_node_ports_are_kept_by_the_name_of_the_port(kinds, writes) -> None:
    kind = kinds["services/v1"]
    ports = [{"name": "a", "port": 80, "nodePort": 30001}, {"name": "b", "port": 81, "nodePort": 30002}]
    old = writes(kind, service({"type": "NodePort", "ports": ports})).new
    new = service({"type": "NodePort", "ports": [{"name": "b", "port": 90}, {"name": "c", "port": 80}]})
    assert [p.get("nodePort") for p in writes(kind, new, old).new["spec"]["ports"]] == [30002, None]


@pytest.mark.parametrize(
    ("ingress", "told"),
    [
        ({"ip": "x", "ipMode": "VIP"}, [f'ip: Invalid value: "x": {IP}']),
        ({"ip": "1.2.3.4", "ipMode": "Far"}, ['ipMode: Unsupported value: "Far": supported values: "Proxy", "VIP"']),
        ({"ipMode": "VIP"}, ["ipMode: Forbidden: may not be specified when `ip` is not set"]),
        ({"hostname": "1.2.3.4"}, ['hostname: Invalid value: "1.2.3.4": must be a DNS name, not an IP address']),
    ],
)
def test_the_status_of_a_service_has_its_rules(kinds, writes, problems, ingress, told) -> None:
    kind = kinds["services/v1"]
    old = writes(kind, service({"type": "LoadBalancer"})).new
    new = {**copy.deepcopy(old), "status": {"loadBalancer": {"ingress": [ingress]}}}
    assert problems(kind, new, old, subresource="status") == [f"status.loadBalancer.ingress[0].{text}" for text in told]


POLICY = "spec.ipFamilyPolicy: Invalid value: "
SEVERAL = "must be 'RequireDualStack' or 'PreferDualStack' when multiple {} are specified"


@pytest.mark.parametrize(
    ("spec", "told"),
    [
        (
            {"ipFamilyPolicy": "RequireDualStack"},
            POLICY + '"RequireDualStack": this cluster is not configured for dual-stack services',
        ),
        ({"ipFamilies": ["IPv6"]}, 'spec.ipFamilies[0]: Invalid value: "IPv6": not configured on this cluster'),
        (
            {"clusterIP": "fd00::1"},
            'spec.clusterIPs[0]: Invalid value: ["fd00::1"]: IPv6 is not configured on this cluster',
        ),
        ({"ipFamilies": ["IPv4", "IPv6"]}, POLICY + '"SingleStack": ' + SEVERAL.format("IP families")),
        (
            {"clusterIP": "10.96.0.9", "clusterIPs": ["10.96.0.9", "fd00::1"], "ipFamilies": ["IPv4", "IPv6"]},
            POLICY + '"SingleStack": ' + SEVERAL.format("cluster IPs"),
        ),
        (
            {
                "type": "NodePort",
                "ports": [{"name": "a", "port": 1, "nodePort": 30009}, {"name": "b", "port": 2, "nodePort": 30009}],
            },
            "spec.ports[1].nodePort: Invalid value: 30009: provided port is already allocated",
        ),
        (
            {"type": "NodePort", "ports": [{"port": 1, "nodePort": 80}]},
            "spec.ports[0].nodePort: Invalid value: 80: provided port is not in the valid range. The range of valid ports is 30000-32767",
        ),
        (
            {**BALANCER, "healthCheckNodePort": 80},
            "Internal error occurred: failed to allocate requested HealthCheck NodePort 80: provided port is not in the valid range. The range of valid ports is 30000-32767",
        ),
    ],
)
def test_what_a_cluster_cannot_give_is_refused(kinds, writes, spec, told) -> None:
    kind = kinds["services/v1"]
    with pytest.raises(ApiError) as refused:
        asyncio.run(kind.strategy.allocate(writes(kind, service(spec))))
    assert told in str(refused.value)


@pytest.mark.parametrize(
    ("spec", "policy", "families"),
    [
        ({}, "SingleStack", ["IPv4"]),
        ({"ipFamilyPolicy": "PreferDualStack"}, "PreferDualStack", ["IPv4"]),
        ({"clusterIP": "None"}, "RequireDualStack", ["IPv4", "IPv6"]),
        ({"clusterIP": "None", "selector": {"a": "b"}}, "SingleStack", ["IPv4"]),
        ({"clusterIP": "None", "ipFamilies": ["IPv6"], "ipFamilyPolicy": "SingleStack"}, "SingleStack", ["IPv6"]),
    ],
)
def test_address_families_follow_from_the_service(kinds, writes, spec, policy, families) -> None:
    kind = kinds["services/v1"]
    write = writes(kind, service(spec))
    asyncio.run(kind.strategy.allocate(write))
    assert (write.new["spec"]["ipFamilyPolicy"], write.new["spec"]["ipFamilies"]) == (policy, families)


def test_two_protocols_of_one_port_share_a_node_port(kinds, writes) -> None:
    kind = kinds["services/v1"]
    ports = [{"name": "t", "port": 53}, {"name": "u", "port": 53, "protocol": "UDP"}, {"name": "m", "port": 9}]
    write = writes(kind, service({"type": "NodePort", "ports": ports}))
    asyncio.run(kind.strategy.allocate(write))
    given = [p["nodePort"] for p in write.new["spec"]["ports"]]
    assert given[0] == given[1] != given[2]


def quota(hard=None, **spec):
    return {"spec": {"hard": hard or {}, **spec}}


def selected(**expression):
    return {"scopeSelector": {"matchExpressions": [expression]}}


AT = "spec.scopeSelector.matchExpressions"


@pytest.mark.parametrize(
    ("spec", "told"),
    [
        (
            quota({"x": "1"}),
            [
                'spec.hard[x]: Invalid value: "x": must be a standard resource type or fully qualified',
                'spec.hard[x]: Invalid value: "x": must be a standard resource for quota',
            ],
        ),
        (
            quota({"storage": "1"}),
            ['spec.hard[storage]: Invalid value: "storage": must be a standard resource for quota'],
        ),
        (quota({"requests.hugepages-2Mi": "2Mi"}), []),
        (quota({"pods": "1.5"}), ['spec.hard[pods]: Invalid value: "1500m": must be an integer']),
        (
            quota({"services": "1"}, scopes=["BestEffort"]),
            [f'spec.scopes: Invalid value: ["BestEffort"]: {MISAPPLIED}'],
        ),
        (quota(scopes=["Odd"]), ['spec.scopes: Invalid value: ["Odd"]: unsupported scope']),
        (
            quota(scopes=["Terminating", "NotTerminating"]),
            ['spec.scopes: Invalid value: ["Terminating","NotTerminating"]: conflicting scopes'],
        ),
        (
            quota(**selected(scopeName="CrossNamespacePodAffinity", operator="In", values=["a"])),
            [
                f"{AT}.operator: Invalid value: \"In\": must be 'Exists' when scope is any of ResourceQuotaScopeTerminating, ResourceQuotaScopeNotTerminating, ResourceQuotaScopeBestEffort, ResourceQuotaScopeNotBestEffort or ResourceQuotaScopeCrossNamespacePodAffinity"
            ],
        ),
        (
            quota({"services": "1"}, **selected(scopeName="PriorityClass", operator="Exists", values=["a"])),
            [
                f'{AT}: Invalid value: {{"MatchExpressions":[{{"ScopeName":"PriorityClass","Operator":"Exists","Values":["a"]}}]}}: {MISAPPLIED}',
                f"{AT}.values: Invalid value: [\"a\"]: must be no value when `operator` is 'Exist' or 'DoesNotExist' for scope selector",
            ],
        ),
        (
            quota(**selected(scopeName="Odd", operator="NotIn")),
            [
                f'{AT}.scopeName: Invalid value: "Odd": unsupported scope',
                f"{AT}.values: Required value: must be at least one value when `operator` is 'In' or 'NotIn' for scope selector",
            ],
        ),
        (
            quota(**selected(scopeName="PriorityClass", operator="Like")),
            [f'{AT}.operator: Invalid value: "Like": not a valid selector operator'],
        ),
    ],
)
def test_a_quota_has_its_rules(kinds, problems, spec, told) -> None:
    assert problems(kinds["resourcequotas/v1"], spec) == told


def test_scopes_of_a_quota_stay_and_its_selector_may_change(kinds, writes, problems) -> None:
    kind = kinds["resourcequotas/v1"]
    old = writes(kind, quota(scopes=["Terminating"])).new
    new = quota(scopes=["NotTerminating"], **selected(scopeName="PriorityClass", operator="Exists"))
    assert problems(kind, new, old) == ['spec.scopes: Invalid value: ["NotTerminating"]: field is immutable']


def limits(**item):
    return {"spec": {"limits": [{"type": "Container", **item}]}}


@pytest.mark.parametrize(
    ("obj", "told"),
    [
        (limits(type="Odd"), ['type: Invalid value: "Odd": must be a standard limit type or fully qualified']),
        (
            limits(type="Pod", max={"storage": "1"}, default={"cpu": "1"}),
            [
                'max[storage]: Invalid value: "storage": must be a standard resource for containers',
                "default: Forbidden: may not be specified when `type` is 'Pod'",
            ],
        ),
        (limits(type="x.y/z", max={"services": "1"}), []),
        (
            limits(type="PersistentVolumeClaim"),
            ["limits: Required value: either minimum or maximum storage value is required, but neither was provided"],
        ),
        (
            limits(default={"x.y/z": "1"}, defaultRequest={"x.y/z": "0"}),
            [
                'defaultRequest[x.y/z]: Invalid value: "0": default value 1 must equal to defaultRequest value 0 in x.y/z'
            ],
        ),
        (
            limits(type="Pod", min={"cpu": "2"}, max={"cpu": "1"}, maxLimitRequestRatio={"cpu": "0.5"}),
            [
                'min[cpu]: Invalid value: "2": min value 2 is greater than max value 1',
                'maxLimitRequestRatio[cpu]: Invalid value: "500m": ratio 500m is less than 1',
            ],
        ),
    ],
)
def test_a_limit_range_has_its_rules(kinds, problems, obj, told) -> None:
    assert problems(kinds["limitranges/v1"], obj) == [f"spec.limits[0].{text}" for text in told]


def test_a_limit_range_without_a_name_is_given_one(kinds, writes) -> None:
    assert len(writes(kinds["limitranges/v1"], {"metadata": {"name": ""}}).new["metadata"]["name"]) == 36


def encoded(text):
    return base64.b64encode(text.encode()).decode()


REDACTED = 'Invalid value: "<secret contents redacted>": '


@pytest.mark.parametrize(
    ("secret", "told"),
    [
        ({"type": "kubernetes.io/dockercfg"}, ["data[.dockercfg]: Required value"]),
        (
            {"type": "kubernetes.io/dockercfg", "data": {".dockercfg": encoded("[]")}},
            [
                f"data[.dockercfg]: {REDACTED}json: cannot unmarshal array into Go value of type map[string]interface {{}}"
            ],
        ),
        (
            {"type": "kubernetes.io/dockerconfigjson", "data": {".dockerconfigjson": encoded("{a")}},
            [f"data[.dockerconfigjson]: {REDACTED}invalid character 'a' looking for beginning of object key string"],
        ),
    ],
)
def test_a_secret_has_its_rules(kinds, problems, secret, told) -> None:
    assert problems(kinds["secrets/v1"], secret) == told


def key_of(curve) -> bytes:
    shape = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    return ec.generate_private_key(curve).private_bytes(*shape)


def test_a_text_of_many_beginnings_is_read_as_fast_as_any(kinds, writes) -> None:
    data = {"tls.crt": encoded("-----BEGIN CERTIFICATE-----\n" * 30_000), "tls.key": encoded("")}
    write = writes(kinds["secrets/v1"], {"type": "kubernetes.io/tls", "data": data})
    kinds["secrets/v1"].strategy.warn(write)
    assert write.warnings == ["tls: failed to find any PEM data in certificate input"]


def test_a_tls_secret_that_holds_no_pair_is_warned_of(kinds, writes) -> None:
    kind = kinds["secrets/v1"]

    def warned(certificate, key):
        data = {"tls.crt": encoded(certificate), "tls.key": encoded(key)}
        write = writes(kind, {"type": "kubernetes.io/tls", "data": data})
        kind.strategy.warn(write)
        return write.warnings

    key = key_of(ec.SECP256R1()).decode()
    certificate = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
    assert warned("", "") == ["tls: failed to find any PEM data in certificate input"]
    assert warned(certificate, "") == ["tls: failed to find any PEM data in key input"]
    assert warned(certificate, certificate) == [
        "tls: found a certificate rather than a key in the PEM for the private key"
    ]
    assert warned(key, key) == [
        "tls: failed to find certificate PEM data in certificate input, but did find a private key; PEM inputs may have been switched"
    ]
    assert warned(certificate, key) == ["x509: malformed certificate"]


NODE = {
    "taints": {"spec": {"taints": [{"key": "a", "effect": "No"}]}},
    "twice": {"spec": {"taints": [{"key": "a", "effect": "NoExecute"}, {"key": "a", "effect": "NoExecute"}]}},
}
OLD_TAINTS, AVOIDED = "scheduler.alpha.kubernetes.io/taints", "scheduler.alpha.kubernetes.io/preferAvoidPods"


@pytest.mark.parametrize(
    ("node", "told"),
    [
        (
            NODE["taints"],
            [
                'metadata.taints[0].effect: Unsupported value: "No": supported values: "NoSchedule", "PreferNoSchedule", "NoExecute"'
            ],
        ),
        (
            NODE["twice"],
            [
                'metadata.taints[1]: Duplicate value: {"Key":"a","Value":"","Effect":"NoExecute","TimeAdded":null}: taints must be unique by key and effect pair'
            ],
        ),
        (
            {"status": {"capacity": {"pods": "1.5"}, "allocatable": {"cpu": "-1"}}},
            [
                'status.capacity.pods: Invalid value: "1500m": must be an integer',
                'status.allocatable.cpu: Invalid value: "-1": must be greater than or equal to 0',
            ],
        ),
        (
            {"status": {"nodeInfo": {"swap": {"capacity": 0}}}},
            ["metadata.nodeSwapStatus.capacity: Invalid value: 0: must be greater than 0"],
        ),
        (
            {"status": {"declaredFeatures": ["B", "A", "A", "c"]}},
            [
                'status.declaredFeatures[1]: Invalid value: "A": list must be sorted alphabetically',
                'status.declaredFeatures[2]: Duplicate value: "A"',
                'status.declaredFeatures[3]: Invalid value: "c": invalid feature name "c": must start with an UpperCamelCase segment, with subsequent segments separated by \'/\' (e.g., MyFeature or MyFeature/mySubFeature), and contain only alphanumeric characters and slashes',
            ],
        ),
        (
            {"spec": {"podCIDR": "10.0.0.1/24", "podCIDRs": ["10.0.0.1/24", "10.1.0.0/24"]}},
            [
                'spec.podCIDRs[0]: Invalid value: "10.0.0.1/24": must not have bits set beyond the prefix length',
                'spec.podCIDRs: Invalid value: ["10.0.0.1/24","10.1.0.0/24"]: may specify no more than one CIDR for each IP family',
            ],
        ),
        (
            {"spec": {"podCIDRs": ["10.0.0.0/24", "x"]}},
            [
                'spec.podCIDRs[1]: Invalid value: "x": must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)',
                "spec.podCIDRs: Internal error: invalid PodCIDRs. failed to check with dual stack with error:invalid CIDR[1]: <nil> (invalid CIDR address: x)",
                'spec.podCIDRs: Invalid value: ["10.0.0.0/24","x"]: may specify no more than one CIDR for each IP family',
            ],
        ),
        (
            {"metadata": {"annotations": {OLD_TAINTS: "x", AVOIDED: '{"preferAvoidPods": [{}]}'}}},
            [
                f"metadata.annotations: Invalid value: \"{OLD_TAINTS}\": invalid character 'x' looking for beginning of value",
                f"metadata.annotations.{AVOIDED}[0].PodSignature: Required value",
            ],
        ),
    ],
)
def test_a_node_has_its_rules(kinds, problems, node, told) -> None:
    assert problems(kinds["nodes/v1"], node) == told


CHANGED_NODE = {
    "spec": {"podCIDRs": ["10.2.0.0/24"], "externalID": "e", "configSource": {"configMap": {}}},
    "status": {"addresses": [{"type": "InternalIP", "address": "1.2.3.4"}] * 2},
}


def test_a_node_changes_by_these_rules(kinds, writes, problems) -> None:
    kind = kinds["nodes/v1"]
    old = writes(kind, {"spec": {"podCIDR": "10.0.0.0/24", "providerID": "p"}}).new
    new = copy.deepcopy(CHANGED_NODE)
    assert problems(kind, new, old, subresource="status") == [
        'status.addresses[1]: Duplicate value: {"Type":"InternalIP","Address":"1.2.3.4"}',
        'spec.podCIDRs: Forbidden: node updates may not change podCIDR except from "" to valid',
        'spec.providerID: Forbidden: node updates may not change providerID except from "" to valid',
        "spec.externalID: Forbidden: may not be updated",
    ]
    assert "configSource" not in new["spec"]


def test_the_first_range_of_a_node_counts(kinds, writes) -> None:
    new = writes(kinds["nodes/v1"], {"spec": {"podCIDR": "10.1.0.0/24", "podCIDRs": ["10.2.0.0/24"]}}).new
    assert new["spec"]["podCIDRs"] == ["10.1.0.0/24"]


def test_finalizers_of_a_namespace_have_their_rule_where_they_are_set(kinds, writes, problems) -> None:
    kind = kinds["namespaces/v1"]
    wrong = f'Invalid value: "odd": {FINALIZER}'
    new = {"metadata": {"name": "n"}, "spec": {"finalizers": ["odd"]}}
    assert problems(kind, copy.deepcopy(new)) == [f"spec.finalizers: {wrong}"]
    old = writes(kind, {"metadata": {"name": "n"}}).new
    assert problems(kind, new, old, subresource="finalize") == [f"spec.finalizers[0]: {wrong}"]


def endpoints(*addresses, **subset):
    return {"subsets": [{"addresses": [{"ip": ip} for ip in addresses], **subset}]}


@pytest.mark.parametrize(
    ("obj", "told"),
    [
        (endpoints(), [": Required value: must specify `addresses` or `notReadyAddresses`"]),
        (
            endpoints("10.0.0.9", "x", "127.0.0.1"),
            [
                f'.addresses[1].ip: Invalid value: "x": {IP}',
                '.addresses[1].ip: Invalid value: "x": must be a valid IP address',
                '.addresses[2].ip: Invalid value: "127.0.0.1": may not be in the loopback range (127.0.0.0/8, ::1/128)',
            ],
        ),
    ],
)
def test_endpoints_have_their_rules(kinds, writes, problems, obj, told) -> None:
    kind = kinds["endpoints/v1"]
    assert problems(kind, obj) == [f"subsets[0]{text}" for text in told]
    assert problems(kind, copy.deepcopy(obj), writes(kind, copy.deepcopy(obj)).new) == []


def test_a_replication_controller_needs_a_template(kinds, problems) -> None:
    assert problems(kinds["replicationcontrollers/v1"], {"spec": {}}) == [
        "spec.selector: Required value",
        "spec.template: Required value",
    ]


def test_a_changed_replication_controller_is_warned_of_by_its_old_template(kinds, writes) -> None:
    kind = kinds["replicationcontrollers/v1"]

    def made(old=None, **spec):
        pod = {"containers": [{"name": "c", "image": "i"}], **spec}
        new = {"spec": {"template": {"metadata": {"labels": {"a": "b"}}, "spec": pod}}}
        new["metadata"] = {"generation": 2 if old else 1}
        write = writes(kind, new, old)
        kind.strategy.warn(write)
        return write

    first = made(serviceAccount="a", nodeSelector={"beta.kubernetes.io/os": "linux"})
    told = (
        'spec.template.spec.nodeSelector[beta.kubernetes.io/os]: deprecated since v1.14; use "kubernetes.io/os" instead'
    )
    assert told in first.warnings
    assert told in made(first.new).warnings


def test_an_account_keeps_only_the_names_of_its_secrets(kinds, writes) -> None:
    secrets = [{"name": "a", "namespace": "n", "kind": "Secret"}]
    assert writes(kinds["serviceaccounts/v1"], {"secrets": secrets}).new["secrets"] == [{"name": "a"}]


LISTED = "kubernetes.io/enforce-mountable-secrets"


@pytest.mark.parametrize(
    ("kind", "obj", "told"),
    [
        (
            "services",
            service(annotations={HINTS: "Auto"}),
            [f"annotation {HINTS} is deprecated, please use {MODE} instead"],
        ),
        (
            "services",
            service({"clusterIP": "010.96.0.9", "clusterIPs": ["010.96.0.9"]}),
            [f'spec.clusterIPs[0]: non-standard IP address "010.96.0.9" {FUTURE}: use "10.96.0.9"'],
        ),
        (
            "services",
            service({"loadBalancerIP": "FD00::1", "loadBalancerSourceRanges": ["10.0.0.1/8"]}),
            [
                'spec.loadBalancerIP: IPv6 address "FD00::1" should be in RFC 5952 canonical format ("fd00::1")',
                'spec.loadBalancerSourceRanges[0]: CIDR value "10.0.0.1/8" is ambiguous in this context (should be "10.0.0.0/8" or "10.0.0.1/32"?)',
            ],
        ),
        (
            "services",
            service({"externalName": "a"}),
            ['spec.externalName is ignored when spec.type is not "ExternalName"'],
        ),
        (
            "services",
            service({"type": "ExternalName", "externalName": "a", "externalIPs": ["1.2.3.4"]}),
            ['spec.externalIPs is ignored when spec.type is "ExternalName"'],
        ),
        (
            "services",
            service({"clusterIP": "None", "externalIPs": ["1.2.3.4"], "loadBalancerIP": "1.2.3.4"}),
            [
                "spec.loadBalancerIP is ignored for headless services",
                "spec.externalIPs is ignored for headless services",
            ],
        ),
        (
            "endpoints",
            endpoints("FD00::1"),
            ['subsets[0].addresses[0].ip: IPv6 address "FD00::1" should be in RFC 5952 canonical format ("fd00::1")'],
        ),
        (
            "resourcequotas",
            quota({"cpu": "2", "limits.cpu": "1"}),
            ["ResourceQuota cpu (2) should be less than limits.cpu (1)"],
        ),
        (
            "nodes",
            {"spec": {"externalID": "e", "podCIDRs": ["10.0.0.1/24"]}},
            [
                "spec.externalID: this field is deprecated, and is unused by Kubernetes",
                'spec.podCIDRs[0]: CIDR value "10.0.0.1/24" is ambiguous in this context (should be "10.0.0.0/24" or "10.0.0.1/32"?)',
            ],
        ),
        (
            "serviceaccounts",
            {"metadata": {"annotations": {LISTED: "true"}}},
            [
                f"metadata.annotations[{LISTED}]: deprecated in v1.32+; prefer separate namespaces to isolate access to mounted secrets"
            ],
        ),
    ],
)
def test_some_things_are_accepted_with_a_warning(kinds, writes, kind, obj, told) -> None:
    resource = kinds[f"{kind}/v1"]
    write = writes(resource, obj)
    resource.strategy.warn(write)
    assert write.warnings == told


POD_LEVEL = {
    "name": "c",
    "image": "i",
    "resources": {"requests": {"cpu": "1"}, "limits": {"cpu": "1", "hugepages-2Mi": "2Mi"}},
}


@pytest.mark.parametrize(
    ("resources", "kept"),
    [
        (
            {"limits": {"cpu": "4", "memory": "1Gi"}},
            {
                "limits": {"cpu": "4", "memory": "1Gi", "hugepages-2Mi": "2Mi"},
                "requests": {"cpu": "1", "memory": "1Gi", "hugepages-2Mi": "2Mi"},
            },
        ),
        (
            {"requests": {"cpu": "2"}},
            {"limits": {"hugepages-2Mi": "2Mi"}, "requests": {"cpu": "2", "hugepages-2Mi": "2Mi"}},
        ),
        ({}, {}),
    ],
)
def test_what_a_whole_pod_asks_for_follows_from_its_containers(kinds, writes, resources, kept) -> None:
    spec = {"containers": [copy.deepcopy(POD_LEVEL)], "resources": resources}
    assert writes(kinds["pods/v1"], {"spec": spec}).new["spec"]["resources"] == kept


@pytest.mark.parametrize(
    ("kind", "obj", "cells"),
    [
        ("endpoints", {"subsets": [{"notReadyAddresses": [{"ip": "1.2.3.4"}]}]}, ["x", ""]),
        ("persistentvolumes", {"spec": {}}, ["x", "0"]),
        ("persistentvolumeclaims", {"spec": {"volumeName": "v"}}, ["x", "", "v", "0"]),
        ("services", {"spec": {"type": "Odd"}}, ["x", "Odd", "<none>", "<unknown>"]),
        ("persistentvolumeclaims", {"spec": {"volumeAttributesClassName": ""}}, ["x", "", "", "", "", "", ""]),
        ("endpointslices.discovery.k8s.io", {"ports": [{"name": ""}]}, ["x", "", "<unset>", "<unset>"]),
        ("csidrivers.storage.k8s.io", {"spec": {"tokenRequests": [{"audience": ""}]}}, ["x", True, False, False, ""]),
        ("storageclasses.storage.k8s.io", {"provisioner": "p"}, ["x", "p", "Delete", "Immediate"]),
    ],
)
def test_rows_of_incomplete_objects(kinds, kind, obj, cells) -> None:
    row = kinds[f"{kind}/v1"].row({"metadata": {"name": "x"}, **obj}, datetime(2026, 1, 2, tzinfo=UTC))
    assert row[: len(cells)] == cells
