"""What is wrong with a pod, in the words, at the places and in the order of the real API server."""

# ruff: noqa: E501  the messages are Kubernetes' and stay in one piece

from __future__ import annotations

import copy

import pytest

LABEL = (
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with "
    "an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is "
    "'[a-z0-9]([-a-z0-9]*[a-z0-9])?')"
)
ONE_VOLUME = "Forbidden: may not specify more than 1 volume type"
NOT_EPHEMERAL = "Forbidden: cannot be set for an Ephemeral Container"
NOT_WINDOWS = "Forbidden: cannot be set for a windows pod"


def pod(spec=None, **metadata):
    return {
        "metadata": {"name": "p", **metadata},
        "spec": {"containers": [{"name": "c", "image": "i"}], **(spec or {})},
    }


def with_container(**fields):
    return pod({"containers": [{"name": "c", "image": "i", **fields}]})


def with_volume(source, **spec):
    return pod({"volumes": [{"name": "v", **source}], **spec})


@pytest.mark.parametrize(
    ("source", "told"),
    [
        (
            {"emptyDir": {"sizeLimit": "-1"}},
            ["emptyDir.sizeLimit: Forbidden: SizeLimit field must be a valid resource quantity"],
        ),
        (
            {"hostPath": {"path": "", "type": "X"}},
            [
                "hostPath.path: Required value",
                'hostPath.type: Unsupported value: "X": supported values: "", "BlockDevice", "CharDevice", "Directory", '
                '"DirectoryOrCreate", "File", "FileOrCreate", "Socket"',
            ],
        ),
        (
            {"gcePersistentDisk": {"partition": 256}},
            [
                "persistentDisk.pdName: Required value",
                "persistentDisk.partition: Invalid value: 256: must be between 0 and 255, inclusive",
            ],
        ),
        (
            {"nfs": {}},
            [
                "nfs.server: Required value",
                "nfs.path: Required value",
                'nfs.path: Invalid value: "": must be an absolute path',
            ],
        ),
        (
            {"iscsi": {"iqn": "iqn.x", "lun": 256, "chapAuthSession": True, "initiatorName": "x"}},
            [
                "iscsi.targetPortal: Required value",
                'iscsi.iqn: Invalid value: "iqn.x": must be valid format',
                "iscsi.lun: Invalid value: 256: must be between 0 and 255, inclusive",
                "iscsi.secretRef: Required value",
                'iscsi.initiatorname: Invalid value: "x": must be valid format starting with iqn, eui, or naa',
            ],
        ),
        (
            {"fc": {"targetWWNs": ["a"], "wwids": ["b"]}},
            [
                'fc.targetWWNs: Invalid value: ["a"]: targetWWNs and wwids can not be specified simultaneously',
                "fc.lun: Required value: lun is required if targetWWNs is specified",
            ],
        ),
        (
            {"flocker": {"datasetName": "a/b", "datasetUUID": "c"}},
            [
                'flocker: Invalid value: "resource": datasetName and datasetUUID can not be specified simultaneously',
                "flocker.datasetName: Invalid value: \"a/b\": must not contain '/'",
            ],
        ),
        (
            {"quobyte": {"registry": "r:1,x"}},
            [
                'quobyte.registry: Invalid value: "r:1,x": must be a host:port pair or multiple pairs separated by commas',
                "quobyte.volume: Required value",
            ],
        ),
        (
            {"flexVolume": {"options": {"kubernetes.io/x": "y"}}},
            [
                "flexVolume.driver: Required value",
                'flexVolume.options[kubernetes.io/x]: Invalid value: "kubernetes.io/x": kubernetes.io and k8s.io namespaces are reserved',
            ],
        ),
        ({"cinder": {"secretRef": {}}}, ["cinder.volumeID: Required value", "cinder.secretRef.name: Required value"]),
        (
            {"azureDisk": {"diskName": "d", "diskURI": "x", "kind": "Managed", "cachingMode": "Y"}},
            [
                'azureDisk.cachingMode: Unsupported value: "Y": supported values: "None", "ReadOnly", "ReadWrite"',
                'azureDisk.diskURI: Unsupported value: "x": supported values: "/subscriptions/{sub-id}/resourcegroups/{group-name}/providers/'
                'microsoft.compute/disks/{disk-id}"',
            ],
        ),
        ({"storageos": {"volumeName": "A"}}, [f'storageos.volumeName: Invalid value: "A": {LABEL}']),
        (
            {"configMap": {"items": [{"path": ".."}], "defaultMode": 512}},
            [
                "configMap.name: Required value",
                "configMap.defaultMode: Invalid value: 512: must be a number between 0 and 0777 (octal), both inclusive",
                "configMap.items[0].key: Required value",
                "configMap.items[0].path: Invalid value: \"..\": must not contain '..'",
                "configMap.items[0].path: Invalid value: \"..\": must not start with '..'",
            ],
        ),
        (
            {"downwardAPI": {"items": [{"path": "/a"}, {"path": "b", "resourceFieldRef": {"resource": "limits.cpu"}}]}},
            [
                'downwardAPI.path: Invalid value: "/a": must be a relative path',
                "downwardAPI: Required value: one of fieldRef and resourceFieldRef is required",
                "downwardAPI.resourceFieldRef.containerName: Required value",
            ],
        ),
        (
            {
                "projected": {
                    "sources": [
                        {
                            "secret": {"items": [{"key": "k", "path": "p"}]},
                            "configMap": {"name": "m", "items": [{"key": "k", "path": "p"}]},
                        },
                        {"serviceAccountToken": {"expirationSeconds": 5}},
                    ]
                }
            },
            [
                "projected.sources[0].secret.name: Required value",
                'projected: Invalid value: "m": conflicting duplicate paths',
                "projected.sources[0]: Forbidden: may not specify more than 1 volume type per source",
                "projected.sources[1].serviceAccountToken.expirationSeconds: Invalid value: 5: may not specify a duration "
                "less than 10 minutes",
                "projected.path: Required value",
            ],
        ),
        (
            {"csi": {"nodePublishSecretRef": {"name": "A_"}}},
            [
                "csi.driver: Required value",
                'csi.name: Invalid value: "A_": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '
                "'-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for "
                r"validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')",
            ],
        ),
        (
            {"image": {"pullPolicy": "X"}},
            [
                'image.pullPolicy: Unsupported value: "X": supported values: "Always", "IfNotPresent", "Never"',
                "image.reference: Required value",
            ],
        ),
        (
            {"cephfs": {"monitors": ["m"]}, "downwardAPI": {}, "rbd": {}},
            [
                f"cephFS: {ONE_VOLUME}",
                f"downwarAPI: {ONE_VOLUME}",
                "rbd.monitors: Required value",
                "rbd.image: Required value",
            ],
        ),
    ],
)
def test_each_kind_of_volume_has_its_rules(kinds, problems, source, told) -> None:
    said = problems(kinds["pods/v1"], with_volume(source, serviceAccountName="a"))
    assert sorted(said) == sorted(f"spec.volumes[0].{text}" for text in told)


def test_a_claim_made_for_a_volume_is_named_after_pod_and_volume(kinds, problems) -> None:
    template = {"spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}}
    volumes = [
        {"name": "v", "ephemeral": {"volumeClaimTemplate": {**template, "metadata": {"name": "x"}}}},
        {"name": "w", "persistentVolumeClaim": {"claimName": "p-v"}},
    ]
    assert problems(kinds["pods/v1"], pod({"volumes": volumes})) == [
        "spec.volumes[0].ephemeral.volumeClaimTemplate.metadata.name: Forbidden: cannot be set",
        'spec.volumes[1].persistentVolumeClaim.claimName: Invalid value: "p-v": must not reference a PVC that gets '
        "created for an ephemeral volume",
    ]


@pytest.mark.parametrize(
    ("container", "told"),
    [
        (
            {"terminationMessagePolicy": "X"},
            ['terminationMessagePolicy: Unsupported value: "X": supported values: "File", "FallbackToLogsOnError"'],
        ),
        ({"image": " i"}, ['image: Invalid value: " i": must not have leading or trailing whitespace']),
        (
            {"env": [{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "spec.x['a']"}}}]},
            [
                "env[0].valueFrom.fieldRef.fieldPath: Invalid value: \"spec.x['a']\": error converting fieldPath: field label does "
                "not support subscript: spec.x['a']"
            ],
        ),
        (
            {"env": [{"name": "A", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu", "divisor": "2"}}}]},
            [
                'env[0].valueFrom.resourceFieldRef.divisor: Invalid value: "limits.cpu": only divisor\'s values 1m and 1 are '
                "supported with the cpu resource"
            ],
        ),
        (
            {"env": [{"name": "A", "valueFrom": {"fileKeyRef": {"key": "K", "volumeName": "no", "path": "../x"}}}]},
            [
                "env[0].valueFrom.fileKeyRef.path: Invalid value: \"../x\": must not contain '..'",
                'env[0].valueFrom.fileKeyRef.volumeName: Not found: "no"',
            ],
        ),
        ({"envFrom": [{"secretRef": {"name": "a-"}}]}, []),
        (
            {"volumeMounts": [{"name": "v", "recursiveReadOnly": "Enabled"}]},
            [
                'volumeMounts[0].name: Not found: "v"',
                "volumeMounts[0].mountPath: Required value",
                "volumeMounts.recursiveReadOnly: Forbidden: may only be specified when readOnly is true",
            ],
        ),
        (
            {"resources": {"limits": {"foo": "1", "a b": "1"}}},
            [
                'resources.limits[foo]: Invalid value: "foo": must be a standard resource type or fully qualified',
                'resources.limits[foo]: Invalid value: "foo": must be a standard resource for containers',
                "resources.limits[a b]: Invalid value: \"a b\": name part must consist of alphanumeric characters, '-', '_' or '.', and "
                "must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for "
                "validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')",
                'resources.limits[a b]: Invalid value: "a b": must be a standard resource for containers',
                'resources.requests[foo]: Invalid value: "foo": must be a standard resource type or fully qualified',
                'resources.requests[foo]: Invalid value: "foo": must be a standard resource for containers',
                "resources.requests[a b]: Invalid value: \"a b\": name part must consist of alphanumeric characters, '-', '_' or '.', and "
                "must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for "
                "validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')",
                'resources.requests[a b]: Invalid value: "a b": must be a standard resource for containers',
            ],
        ),
        (
            {"resources": {"requests": {"example.com/gpu": "1"}}},
            ["resources.limits: Required value: Limit must be set for non overcommitable resources"],
        ),
        (
            {"resources": {"claims": [{"name": "a"}, {"name": "a", "request": "r"}]}},
            [
                'resources.claims[0]: Not found: "a": must be one of the names in pod.spec.resourceClaims which is empty',
                'resources.claims[1]: Duplicate value: "a"',
                'resources.claims[1]: Not found: "a": must be one of the names in pod.spec.resourceClaims which is empty',
            ],
        ),
        (
            {"resizePolicy": [{"resourceName": "disk", "restartPolicy": ""}]},
            [
                'resizePolicy: Unsupported value: "disk": supported values: "cpu", "memory"',
                "resizePolicy: Required value",
            ],
        ),
        (
            {"restartPolicyRules": [{"action": "Stop", "exitCodes": {"operator": "Is"}}]},
            [
                "restartPolicy: Required value: must specify restartPolicy when restart rules are used",
                'restartPolicyRules[0].action: Unsupported value: "Stop": supported values: "Restart", "RestartAllContainers"',
                'restartPolicyRules[0].exitCodes.operator: Unsupported value: "Is": supported values: "In", "NotIn"',
            ],
        ),
        (
            {
                "restartPolicy": "Always",
                "restartPolicyRules": [{"action": "Restart", "exitCodes": {"operator": "In"}}] * 21,
            },
            ["restartPolicyRules: Too many: 21: must have at most 20 items"],
        ),
        (
            {"lifecycle": {"preStop": {"sleep": {"seconds": 31}}}},
            [
                "lifecycle.preStop.sleep: Invalid value: 31: must be non-negative and less than terminationGracePeriodSeconds (30)"
            ],
        ),
        (
            {
                "livenessProbe": {
                    "exec": {},
                    "grpc": {"port": 1},
                    "successThreshold": 2,
                    "terminationGracePeriodSeconds": 0,
                }
            },
            [
                "livenessProbe.exec.command: Required value",
                "livenessProbe.grpc: Forbidden: may not specify more than 1 handler type",
                "livenessProbe.terminationGracePeriodSeconds: Invalid value: 0: must be greater than 0",
                "livenessProbe.successThreshold: Invalid value: 2: must be 1",
            ],
        ),
        (
            {"readinessProbe": {"httpGet": {"port": 1, "scheme": "FTP", "httpHeaders": [{"name": "a b"}]}}},
            [
                'readinessProbe.httpGet.scheme: Unsupported value: "FTP": supported values: "HTTP", "HTTPS"',
                'readinessProbe.httpGet.httpHeaders: Invalid value: "a b": a valid HTTP header must consist of alphanumeric characters or '
                "'-' (e.g. 'X-Header-Name', regex used for validation is '[-A-Za-z0-9]+')",
            ],
        ),
    ],
)
def test_each_part_of_a_container_has_its_rules(kinds, problems, container, told) -> None:
    said = problems(kinds["pods/v1"], with_container(**container))
    assert sorted(said) == sorted(f"spec.containers[0].{text}" for text in told)


@pytest.mark.parametrize(
    ("context", "told"),
    [
        (
            {"seccompProfile": {"type": "RuntimeDefault", "localhostProfile": "x"}},
            [
                'seccompProfile.localhostProfile: Invalid value: {"Type":"RuntimeDefault","LocalhostProfile":"x"}: can only be set '
                "when seccomp type is Localhost"
            ],
        ),
        (
            {"appArmorProfile": {"type": ""}},
            ["appArmorProfile.type: Required value: type is required when appArmorProfile is set"],
        ),
        (
            {"appArmorProfile": {"type": "Localhost", "localhostProfile": " x"}},
            ['appArmorProfile.localhostProfile: Invalid value: " x": must not be padded with whitespace'],
        ),
        (
            {"seLinuxChangePolicy": "MountOption"},
            ['seLinuxChangePolicy: Unsupported value: "MountOption": supported values: "Recursive"'],
        ),
        (
            {"windowsOptions": {"runAsUserName": "a\\b\\c"}},
            [
                'windowsOptions.runAsUserName: Invalid value: "a\\\\b\\\\c": runAsUserName cannot contain more than one backslash'
            ],
        ),
        (
            {"windowsOptions": {"runAsUserName": ".\\..."}},
            [
                "windowsOptions.runAsUserName: Invalid value: \".\\\\...\": runAsUserName's Domain doesn't match the NetBios nor "
                "the DNS format",
                'windowsOptions.runAsUserName: Invalid value: ".\\\\...": runAsUserName\'s User cannot contain only periods or spaces',
            ],
        ),
        (
            {"sysctls": [{"name": "a..b"}]},
            [
                'sysctls[0].name: Invalid value: "a..b": must have at most 253 characters and match regex '
                r"^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$"
            ],
        ),
    ],
)
def test_the_security_of_a_pod_has_its_rules(kinds, problems, context, told) -> None:
    said = problems(kinds["pods/v1"], pod({"securityContext": context}))
    assert said == [f"spec.securityContext.{text}" for text in told]


def test_a_refused_security_context_is_shown_as_the_server_holds_it(kinds, problems) -> None:
    context = {"allowPrivilegeEscalation": False, "privileged": True, "seccompProfile": {"type": "Unconfined"}}
    (said,) = problems(kinds["pods/v1"], with_container(securityContext=context))
    assert said == (
        'spec.containers[0].securityContext: Invalid value: {"Capabilities":null,"Privileged":true,"SELinuxOptions":null,'
        '"WindowsOptions":null,"RunAsUser":null,"RunAsGroup":null,"RunAsNonRoot":null,"ReadOnlyRootFilesystem":null,'
        '"AllowPrivilegeEscalation":false,"ProcMount":null,"SeccompProfile":{"Type":"Unconfined","LocalhostProfile":null},'
        '"AppArmorProfile":null}: cannot set `allowPrivilegeEscalation` to false and `privileged` to true'
    )


@pytest.mark.parametrize(
    ("spec", "told"),
    [
        (
            {"dnsPolicy": "X"},
            [
                'spec.dnsPolicy: Unsupported value: "X": supported values: "ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"'
            ],
        ),
        ({"os": {"name": "plan9"}}, ['spec.os: Unsupported value: "plan9": supported values: "linux", "windows"']),
        (
            {"os": {"name": "windows"}, "hostPID": True, "securityContext": {"fsGroup": 1}},
            [
                f"spec.hostPID: {NOT_WINDOWS}",
                f"spec.securityContext.fsGroup: {NOT_WINDOWS}",
            ],
        ),
        (
            {"hostUsers": False, "hostNetwork": True, "hostPID": True},
            [
                "spec.hostNetwork: Forbidden: when `hostUsers` is false",
                "spec.HostPID: Forbidden: when `hostUsers` is false",
            ],
        ),
        (
            {"hostnameOverride": "a_", "setHostnameAsFQDN": True, "hostNetwork": True},
            [
                "spec.hostnameOverride: Forbidden: may not be specified when setHostnameAsFQDN is true",
                "spec.hostnameOverride: Forbidden: may not be specified when hostNetwork is true",
                'spec.hostnameOverride: Invalid value: "a_": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '
                "'-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for "
                r"validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')",
            ],
        ),
        (
            {"overhead": {"cpu": "-1"}},
            ['spec.overhead.limits[cpu]: Invalid value: "-1": must be greater than or equal to 0'],
        ),
        (
            {"resources": {"claims": [], "limits": {"cpu": "1"}, "requests": {"example.com/x": "1"}}},
            [
                "spec.resources.claims: Forbidden: claims may not be set for Resources at pod-level",
                'spec.resources.requests[example.com/x]: Unsupported value: "example.com/x": supported values: "cpu", "hugepages-", "memory"',
                "spec.resources.limits: Required value: Limit must be set for non overcommitable resources",
            ],
        ),
        (
            {"resourceClaims": [{"name": "a"}]},
            [
                'spec.resourceClaims[0]: Invalid value: {"Name":"a","ResourceClaimName":null,"ResourceClaimTemplateName":null}: '
                "must specify one of: `resourceClaimName`, `resourceClaimTemplateName`"
            ],
        ),
        (
            {"tolerations": [{"key": "a", "value": "b c"}, {"key": "a", "operator": "Gt"}]},
            [
                'spec.tolerations[0].operator: Invalid value: "b c": a valid label must be an empty string or consist of alphanumeric '
                "characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or "
                "'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')",
                'spec.tolerations[1].operator: Unsupported value: "Gt": supported values: "Equal", "Exists", "Lt", "Gt"',
            ],
        ),
        (
            {"dnsPolicy": "None", "dnsConfig": {"searches": ["a b"]}},
            [
                "spec.dnsConfig.nameservers: Required value: must provide at least one DNS nameserver when `dnsPolicy` is None"
            ],
        ),
        (
            {"dnsConfig": {"nameservers": ["010.0.0.1", "::ffff:1.2.3.4"], "searches": ["_a.b.", "."]}},
            [
                'spec.dnsConfig.nameservers[0]: Invalid value: "010.0.0.1": must not have leading 0s',
                'spec.dnsConfig.nameservers[1]: Invalid value: "::ffff:1.2.3.4": must not be an IPv4-mapped IPv6 address',
            ],
        ),
        (
            {
                "topologySpreadConstraints": [
                    {
                        "maxSkew": 1,
                        "topologyKey": "k",
                        "whenUnsatisfiable": "DoNotSchedule",
                        "nodeTaintsPolicy": "X",
                        "matchLabelKeys": ["a"],
                    }
                ]
            },
            [
                'spec.topologySpreadConstraints[0].nodeTaintsPolicy: Unsupported value: "X": supported values: "Honor", "Ignore"',
                "spec.topologySpreadConstraints[0].matchLabelKeys: Forbidden: must not be specified when labelSelector is not set",
            ],
        ),
        (
            {
                "ephemeralContainers": [
                    {
                        "name": "c",
                        "image": "i",
                        "ports": [{"containerPort": 1}],
                        "lifecycle": {"postStart": {"exec": {"command": ["x"]}}},
                    }
                ]
            },
            [
                'spec.ephemeralContainers[0].name: Duplicate value: "c"',
                f"spec.ephemeralContainers[0].ports: {NOT_EPHEMERAL}",
                f"spec.ephemeralContainers[0].lifecycle: {NOT_EPHEMERAL}",
                "spec.ephemeralContainers: Forbidden: cannot be set on create",
            ],
        ),
        (
            {
                "initContainers": [
                    {
                        "name": "i",
                        "image": "i",
                        "resizePolicy": [{"resourceName": "cpu", "restartPolicy": "RestartContainer"}],
                    }
                ]
            },
            [
                'spec.initContainers[0].resizePolicy[0].restartPolicy: Invalid value: "RestartContainer": must not be set to '
                "'RestartContainer' for non-sidecar initContainers"
            ],
        ),
    ],
)
def test_each_part_of_a_pod_has_its_rules(kinds, problems, spec, told) -> None:
    assert problems(kinds["pods/v1"], pod(spec)) == told


def test_pod_level_amounts_are_enough_for_all_containers(kinds, problems) -> None:
    container = {"name": "c", "image": "i", "resources": {"requests": {"cpu": "2"}, "limits": {"cpu": "3"}}}
    resources = {"requests": {"cpu": "1"}, "limits": {"cpu": "1"}}
    assert problems(kinds["pods/v1"], pod({"containers": [container], "resources": resources})) == [
        'spec.resources.requests[cpu]: Invalid value: "1": must be greater than or equal to aggregate container requests of 2',
        'spec.resources.containers[0][cpu].limits: Invalid value: "3": must be less than or equal to pod limits of 1',
    ]


@pytest.mark.parametrize(
    ("annotations", "told"),
    [
        (
            {"kubernetes.io/config.mirror": "x"},
            [
                'metadata.annotations[kubernetes.io/config.mirror]: Invalid value: "x": must set spec.nodeName if mirror pod '
                "annotation is set"
            ],
        ),
        (
            {"controller.kubernetes.io/pod-deletion-cost": "+1"},
            [
                'metadata.annotations[controller.kubernetes.io/pod-deletion-cost]: Invalid value: "+1": must be a 32bit integer'
            ],
        ),
        (
            {"seccomp.security.alpha.kubernetes.io/pod": "x"},
            [
                'metadata.annotations.seccomp.security.alpha.kubernetes.io/pod: Invalid value: "x": must be a valid seccomp profile'
            ],
        ),
        (
            {"container.apparmor.security.beta.kubernetes.io/d": "x"},
            [
                'metadata.annotations[container.apparmor.security.beta.kubernetes.io/d]: Invalid value: "d": container not found',
                'metadata.annotations[container.apparmor.security.beta.kubernetes.io/d]: Invalid value: "x": invalid AppArmor '
                'profile name: "x"',
            ],
        ),
    ],
)
def test_annotations_that_mean_something_have_rules(kinds, problems, annotations, told) -> None:
    assert problems(kinds["pods/v1"], pod(annotations=annotations)) == told


def test_a_template_is_held_to_a_little_less(kinds, problems) -> None:
    container = {"name": "c", "image": " i", "ports": [{"containerPort": 80}]}
    spec = {"containers": [container], "hostNetwork": True, "volumes": [{"name": "v", "image": {}}]}
    template = {"metadata": {"labels": {"a": "b"}}, "spec": spec}
    deployment = {"spec": {"selector": {"matchLabels": {"a": "b"}}, "template": template}}
    assert problems(kinds["deployments.apps/v1"], deployment) == []


@pytest.mark.parametrize(
    ("spec", "left"),
    [
        ({"schedulingGroup": {"podGroupName": "g"}}, None),
        ({"containers": [{"name": "c", "image": "i", "lifecycle": {"stopSignal": "SIGINT"}}]}, None),
    ],
)
def test_fields_of_features_that_are_off_are_dropped(kinds, writes, spec, left) -> None:
    kept = writes(kinds["pods/v1"], pod(spec)).new["spec"]
    assert (kept.get("schedulingGroup"), kept["containers"][0].get("lifecycle")) == (left, left)
    template = {"metadata": {"labels": {"a": "b"}}, "spec": pod(spec)["spec"]}
    deployment = {"spec": {"selector": {"matchLabels": {"a": "b"}}, "template": template}}
    kept = writes(kinds["deployments.apps/v1"], deployment).new["spec"]["template"]["spec"]
    assert (kept.get("schedulingGroup"), kept["containers"][0].get("lifecycle")) == (left, left)


def test_label_keys_of_a_new_pod_become_expressions(kinds, writes) -> None:
    term = {"topologyKey": "k", "labelSelector": {}, "matchLabelKeys": ["a"], "mismatchLabelKeys": ["b", "none"]}
    affinity = {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}
    new = writes(kinds["pods/v1"], pod({"affinity": affinity}, labels={"a": "1", "b": "2"})).new
    (held,) = new["spec"]["affinity"]["podAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    assert held["labelSelector"]["matchExpressions"] == [
        {"key": "a", "operator": "In", "values": ["1"]},
        {"key": "b", "operator": "NotIn", "values": ["2"]},
    ]


def test_an_app_armor_annotation_becomes_a_field(kinds, writes) -> None:
    annotations = {"container.apparmor.security.beta.kubernetes.io/c": "localhost/x"}
    write = writes(kinds["pods/v1"], pod(annotations=annotations))
    profile = write.new["spec"]["containers"][0]["securityContext"]["appArmorProfile"]
    assert profile == {"type": "Localhost", "localhostProfile": "x"}
    assert write.warnings == [
        "metadata.annotations[container.apparmor.security.beta.kubernetes.io/c]: deprecated since v1.30; use the "
        '"appArmorProfile" field instead'
    ]


# Changes


def change(old, **spec):
    return {**old, "metadata": dict(old["metadata"]), "spec": {**copy.deepcopy(old["spec"]), **spec}}


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        (
            {"schedulingGates": [{"name": "a"}]},
            {"schedulingGates": [{"name": "b"}]},
            ["spec.schedulingGates[0].name: Forbidden: only deletion is allowed, but found new scheduling gate 'b'"],
        ),
        (
            {"schedulingGates": [{"name": "a"}], "nodeSelector": {"a": "b"}},
            {"nodeSelector": {"a": "c"}},
            [
                'spec.nodeSelector: Invalid value: {"a":"c"}: only additions to spec.nodeSelector are allowed (no mutations or '
                "deletions)"
            ],
        ),
        ({"schedulingGates": [{"name": "a"}]}, {"nodeSelector": {"a": "c"}}, []),
        (
            {},
            {"containers": [{"name": "c", "image": "", "imagePullPolicy": "Always"}]},
            ["spec.containers[0].image: Required value"],
        ),
    ],
)
def test_a_pod_changes_by_these_rules(kinds, writes, problems, before, after, told) -> None:
    kind = kinds["pods/v1"]
    old = writes(kind, pod(before)).new
    assert problems(kind, change(old, **after), old) == told


def test_annotations_that_confine_a_pod_stay(kinds, writes, problems) -> None:
    kind, key = kinds["pods/v1"], "container.apparmor.security.beta.kubernetes.io/c"
    old = writes(kind, pod(annotations={key: "unconfined"})).new
    new = change(old)
    new["metadata"] = {**new["metadata"], "annotations": {}}
    assert problems(kind, new, old) == [
        f"metadata.annotations[{key}]: Forbidden: may not remove or update AppArmor annotations"
    ]


def resources(cpu, **more):
    return {"requests": {"cpu": cpu, **more}}


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        (resources("1"), resources("2"), []),
        (
            resources("1", memory="1Mi"),
            resources("2"),
            ["spec.containers[0].resources.requests: Forbidden: resource requests cannot be removed"],
        ),
        (
            resources("1"),
            {"requests": {"cpu": "1", "ephemeral-storage": "1"}},
            ["spec: Forbidden: only cpu and memory resources are mutable"],
        ),
        (
            resources("1"),
            {},
            [
                'spec: Invalid value: "Burstable": Pod QOS Class may not change as a result of resizing',
                "spec.containers[0].resources.requests: Forbidden: resource requests cannot be removed",
            ],
        ),
    ],
)
def test_a_pod_is_resized_by_these_rules(kinds, writes, problems, before, after, told) -> None:
    kind = kinds["pods/v1"]
    old = writes(kind, with_container(resources=before)).new
    container = {**old["spec"]["containers"][0], "resources": after}
    assert problems(kind, change(old, containers=[container]), old, subresource="resize") == told


def test_a_resize_changes_nothing_else(kinds, writes) -> None:
    kind = kinds["pods/v1"]
    old = writes(kind, with_container(resources=resources("1"))).new
    container = {**old["spec"]["containers"][0], "resources": resources("2"), "image": "other"}
    new = change(old, containers=[container], nodeName="n")
    new["metadata"] = {**new["metadata"], "labels": {"a": "b"}}
    kept = writes(kind, new, old, subresource="resize").new
    assert kept["spec"]["containers"][0]["image"] == "i" and "nodeName" not in kept["spec"]
    assert kept["spec"]["containers"][0]["resources"] == resources("2") and "labels" not in kept["metadata"]


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        (
            {},
            {"conditions": [{"type": "a b", "observedGeneration": -1}]},
            [
                "status.conditions[0].observedGeneration: Invalid value: -1: must be a non-negative integer",
                "status.conditions[0].Type: Invalid value: \"a b\": name part must consist of alphanumeric characters, '-', '_' or '.', and "
                "must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for "
                "validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')",
            ],
        ),
        (
            {},
            {"podIPs": [{"ip": "1.1.1.1"}, {"ip": "1.1.1.2"}]},
            [
                'status.podIPs: Invalid value: [{"IP":"1.1.1.1"},{"IP":"1.1.1.2"}]: may specify no more than one IP for each IP family'
            ],
        ),
        (
            {},
            {"hostIP": "1.1.1.1", "hostIPs": [{"ip": "1.1.1.2"}]},
            ['status.hostIPs[0].ip: Invalid value: "1.1.1.2": must be equal to `hostIP`'],
        ),
        (
            {},
            {"resourceClaimStatuses": [{"name": "x"}]},
            [
                'status.resourceClaimStatuses[0].name: Invalid value: "x": must match the name of an entry in `spec.resourceClaims`'
            ],
        ),
        (
            {"containerStatuses": [{"name": "c", "state": {"terminated": {"exitCode": 0}}}]},
            {"containerStatuses": [{"name": "c", "state": {"running": {}}}]},
            ["status.containerStatuses[0].state: Forbidden: may not be transitioned to non-terminated state"],
        ),
    ],
)
def test_the_status_of_a_pod_has_its_rules(kinds, writes, problems, before, after, told) -> None:
    kind = kinds["pods/v1"]
    old = writes(kind, pod({"restartPolicy": "OnFailure"})).new
    old = {**old, "status": {**old["status"], **before}}
    new = {**old, "metadata": dict(old["metadata"]), "status": {**old["status"], **after}}
    assert problems(kind, new, old, subresource="status") == told


# Warnings


def warned(writes, kind, obj, old=None):
    write = writes(kind, obj, old)
    kind.strategy.warn(write)
    return write.warnings


@pytest.mark.parametrize(
    ("spec", "told"),
    [
        (
            {"nodeSelector": {"node-role.kubernetes.io/master": ""}},
            ['spec.nodeSelector[node-role.kubernetes.io/master]: use "node-role.kubernetes.io/control-plane" instead'],
        ),
        (
            {"affinity": {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [{"topologyKey": "k"}]}}},
            [
                "spec.affinity.podAffinity.requiredDuringSchedulingIgnoredDuringExecution[0].labelSelector: a null labelSelector "
                "results in matching no pod"
            ],
        ),
        (
            {"volumes": [{"name": "v", "storageos": {}}]},
            ["spec.volumes[0].storageOS: deprecated in v1.22, non-functional in v1.25+"],
        ),
        (
            {
                "volumes": [
                    {
                        "name": "v",
                        "configMap": {"name": "m", "items": [{"key": "a", "path": "x/"}, {"key": "b", "path": "x/y"}]},
                    }
                ]
            },
            ['volume "v" (ConfigMap "m"): overlapping paths: "x/y" with "x"'],
        ),
        (
            {"volumes": [{"name": "v", "projected": {"sources": [{}]}}]},
            ['volume "v" (Projected) has no sources provided'],
        ),
        (
            {"overhead": {"memory": "500m"}},
            ['spec.overhead[memory]: fractional byte value "500m" is invalid, must be an integer'],
        ),
        (
            {
                "containers": [
                    {
                        "name": "c",
                        "image": "i",
                        "ports": [
                            {"containerPort": 80, "hostPort": 80},
                            {"containerPort": 80, "hostPort": 80, "hostIP": "1.1.1.1"},
                            {"containerPort": 80, "name": "a"},
                            {"containerPort": 81, "name": "a"},
                        ],
                    }
                ]
            },
            [
                "spec.containers[0].ports[1]: dangerously ambiguous port definition with spec.containers[0].ports[0]",
                "spec.containers[0].ports[2]: overlapping port definition with spec.containers[0].ports[0]",
                "spec.containers[0].ports[2]: overlapping port definition with spec.containers[0].ports[1]",
                'spec.containers[0].ports[3]: duplicate port name "a" with spec.containers[0].ports[2], services and probes that '
                "select ports by name will use spec.containers[0].ports[2]",
            ],
        ),
        (
            {"dnsConfig": {"nameservers": ["2001:DB8::1"]}},
            [
                'spec.dnsConfig.nameservers[0]: IPv6 address "2001:DB8::1" should be in RFC 5952 canonical format ("2001:db8::1")'
            ],
        ),
        (
            {"terminationGracePeriodSeconds": -1},
            ["spec.terminationGracePeriodSeconds: must be >= 0; negative values are invalid and will be treated as 1"],
        ),
    ],
)
def test_what_is_accepted_and_yet_odd_is_warned_of(kinds, writes, spec, told) -> None:
    assert warned(writes, kinds["pods/v1"], pod(spec)) == told


def test_changes_of_pods_are_not_warned_of(kinds, writes) -> None:
    kind = kinds["pods/v1"]
    old = writes(kind, pod()).new
    assert warned(writes, kind, change(old, terminationGracePeriodSeconds=-1), old) == []


def test_a_name_that_becomes_a_host_name_should_be_a_label(kinds, writes) -> None:
    obj = {**pod(), "metadata": {"name": "a.b"}}
    assert warned(writes, kinds["pods/v1"], obj) == [
        "metadata.name: this is used in the Pod's hostname, which can result in surprising behavior; a DNS label is "
        "recommended: [must not contain dots]"
    ]
    template = {"metadata": {"labels": {"a": "b"}}, "spec": pod()["spec"]}
    deployment = {"metadata": {"name": "a.b"}, "spec": {"selector": {"matchLabels": {"a": "b"}}, "template": template}}
    assert warned(writes, kinds["deployments.apps/v1"], deployment) == [
        "metadata.name: this is used in Pod names and hostnames, which can result in surprising behavior; a DNS label is "
        "recommended: [must not contain dots]"
    ]


@pytest.mark.parametrize(
    ("name", "path", "around"),
    [
        ("deployments.apps/v1", "spec.template", lambda t: {"selector": {"matchLabels": {"a": "b"}}, "template": t}),
        ("daemonsets.apps/v1", "spec.template", lambda t: {"selector": {"matchLabels": {"a": "b"}}, "template": t}),
        ("jobs.batch/v1", "spec.template", lambda t: {"template": t}),
        (
            "cronjobs.batch/v1",
            "spec.jobTemplate.spec.template",
            lambda t: {"schedule": "@daily", "jobTemplate": {"spec": {"template": t}}},
        ),
        ("replicationcontrollers/v1", "spec.template", lambda t: {"template": t}),
    ],
)
def test_a_template_is_told_by_its_own_path(kinds, writes, problems, name, path, around) -> None:
    restart = {"restartPolicy": "Never"} if "batch" in name else {}
    spec = {
        **pod({"containers": [{"name": "c", "image": "i", "resources": {"limits": {"memory": "500m"}}, "env": [{}]}]})[
            "spec"
        ],
        **restart,
    }
    template = {"metadata": {"labels": {"a": "b"}}, "spec": spec}
    obj = {"metadata": {"name": "x"}, "spec": around(template)}
    assert problems(kinds[name], copy.deepcopy(obj)) == [f"{path}.spec.containers[0].env[0].name: Required value"]
    assert warned(writes, kinds[name], obj) == [
        f'{path}.spec.containers[0].resources.limits[memory]: fractional byte value "500m" is invalid, must be an integer'
    ]
