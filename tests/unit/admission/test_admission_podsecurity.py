"""PodSecurity: which pods a level forbids, and what its plugin does with a namespace's labels."""

from __future__ import annotations

from typing import Any

import pytest
from admitting import Cluster, pod, refusal

from podling.admission.podsecurity.levels import Level, policy_of, violations
from podling.admission.podsecurity.plugin import pod_security
from podling.store.types import Object

BASELINE, RESTRICTED = Level("baseline"), Level("restricted")
SAFE: Object = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
SAFE_POD: Object = {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}


def label(cluster: Cluster, **labels: str) -> None:
    named = {f"pod-security.kubernetes.io/{key.replace('_', '-')}": value for key, value in labels.items()}
    cluster.add("namespaces", {"metadata": {"name": "shop", "labels": named}})


def container(name: str = "a", **security: Any) -> Object:
    return {"name": name, "image": "i", "securityContext": security}


def safe(*containers: Object, **spec: Any) -> Object:
    """A pod that restricted allows but for what is given."""
    given = containers or (container(**SAFE),)
    return pod("p", *given, **{"securityContext": SAFE_POD, **spec})


@pytest.mark.parametrize(
    ("forbidden", "words"),
    [
        (pod("p", {"name": "a"}, hostNetwork=True, hostPID=True), "host namespaces (hostNetwork=true, hostPID=true)"),
        (
            pod("p", container("a", privileged=True), container("b", privileged=True)),
            'privileged (containers "a", "b" must not set securityContext.privileged=true)',
        ),
        (
            pod("p", container("a", capabilities={"add": ["SYS_ADMIN", "NET_ADMIN", "CHOWN"]})),
            'non-default capabilities (container "a" must not include "NET_ADMIN", "SYS_ADMIN" in '
            "securityContext.capabilities.add)",
        ),
        (pod("p", {"name": "a"}, volumes=[{"name": "v", "hostPath": {}}]), 'hostPath volumes (volume "v")'),
        (
            pod("p", {"name": "a", "ports": [{"hostPort": 80}, {"hostPort": 8080}]}, {"name": "b"}),
            'hostPort (container "a" uses hostPorts 80, 8080)',
        ),
        (
            pod("p", {"name": "a", "livenessProbe": {"httpGet": {"host": "10.0.0.1"}}}),
            'probe or lifecycle host (container "a" uses probe or lifecycle host "10.0.0.1")',
        ),
        (
            pod("p", container("a", procMount="Unmasked")),
            'procMount (container "a" must not set securityContext.procMount to "Unmasked")',
        ),
        (
            pod(
                "p",
                container("a", seLinuxOptions={"type": "spc_t", "user": "u"}),
                securityContext={"seLinuxOptions": {"role": "r"}},
            ),
            'seLinuxOptions (pod and container "a" set forbidden securityContext.seLinuxOptions: type "spc_t"; '
            "user may not be set; role may not be set)",
        ),
        (
            pod("p", container("a", seccompProfile={"type": "Unconfined"})),
            'seccompProfile (container "a" must not set securityContext.seccompProfile.type to "Unconfined")',
        ),
        (
            pod("p", {"name": "a"}, securityContext={"appArmorProfile": {"type": "Unconfined"}}),
            'forbidden AppArmor profile (pod must not set AppArmor profile type to "Unconfined")',
        ),
        (
            pod("p", {"name": "a"}, securityContext={"sysctls": [{"name": "kernel.msgmax"}, {"name": "a.b"}]}),
            "forbidden sysctls (kernel.msgmax, a.b)",
        ),
        (
            pod("p", container("a", windowsOptions={"hostProcess": True})),
            'hostProcess (container "a" must not set securityContext.windowsOptions.hostProcess=true)',
        ),
    ],
)
def test_baseline_says_what_it_forbids(cluster: Cluster, forbidden: Object, words: str) -> None:
    label(cluster, enforce="baseline")
    message = refusal(pod_security, cluster.write("pods", forbidden))
    assert message == f'pods "p" is forbidden: violates PodSecurity "baseline:latest": {words}'


@pytest.mark.parametrize(
    ("forbidden", "words"),
    [
        (
            safe(container("a", capabilities={"drop": ["ALL"]})),
            'allowPrivilegeEscalation != false (container "a" must set securityContext.allowPrivilegeEscalation=false)',
        ),
        (
            safe(container("a", allowPrivilegeEscalation=False, capabilities={"add": ["CHOWN"]})),
            'unrestricted capabilities (container "a" must set securityContext.capabilities.drop=["ALL"]; container '
            '"a" must not include "CHOWN" in securityContext.capabilities.add)',
        ),
        (
            safe(volumes=[{"name": "v", "hostPath": {}}, {"name": "w", "nfs": {}}, {"name": "x", "emptyDir": {}}]),
            'restricted volume types (volumes "v", "w" use restricted volume types "hostPath", "nfs")',
        ),
        (
            safe(securityContext={**SAFE_POD, "runAsNonRoot": None}),
            'runAsNonRoot != true (pod or container "a" must set securityContext.runAsNonRoot=true)',
        ),
        (
            safe(container("a", **SAFE, runAsNonRoot=False)),
            'runAsNonRoot != true (container "a" must not set securityContext.runAsNonRoot=false)',
        ),
        (
            safe(securityContext={**SAFE_POD, "runAsUser": 0}),
            "runAsUser=0 (pod must not set runAsUser=0)",
        ),
        (
            safe(container("a", **SAFE), container("b", **SAFE), securityContext={"runAsNonRoot": True}),
            'seccompProfile (pod or containers "a", "b" must set securityContext.seccompProfile.type to '
            '"RuntimeDefault" or "Localhost")',
        ),
    ],
)
def test_restricted_says_what_it_forbids_beyond_that(cluster: Cluster, forbidden: Object, words: str) -> None:
    label(cluster, enforce="restricted")
    message = refusal(pod_security, cluster.write("pods", forbidden))
    assert message == f'pods "p" is forbidden: violates PodSecurity "restricted:latest": {words}'


def test_a_safe_pod_passes_everything() -> None:
    assert violations(RESTRICTED, safe()) == []
    assert violations(Level(), pod("p", container("a", privileged=True), hostNetwork=True)) == []


def test_a_version_pins_the_controls_of_its_time() -> None:
    reserved = safe(securityContext={**SAFE_POD, "sysctls": [{"name": "net.ipv4.ip_local_reserved_ports"}]})
    assert [f.reason for f in violations(Level("baseline", 26), reserved)] == ["forbidden sysctls"]
    assert violations(Level("baseline", 27), reserved) == []
    assert violations(Level("restricted", 22), safe(securityContext={**SAFE_POD, "runAsUser": 0})) == []


def test_root_in_a_user_namespace_is_harmless() -> None:
    root = safe(securityContext={**SAFE_POD, "runAsUser": 0, "runAsNonRoot": False}, hostUsers=False)
    assert violations(RESTRICTED, root) == []
    assert [f.reason for f in violations(Level("restricted", 34), root)] == ["runAsNonRoot != true", "runAsUser=0"]


def test_windows_pods_need_no_linux_settings() -> None:
    windows = pod("p", {"name": "a"}, os={"name": "windows"}, securityContext={"runAsNonRoot": True})
    assert violations(RESTRICTED, windows) == []


def test_a_workload_is_let_in_and_warned_about(cluster: Cluster) -> None:
    label(cluster, enforce="restricted", warn="baseline", warn_version="v1.30")
    template = {"spec": {"containers": [{"name": "c"}], "hostPID": True}}
    write = cluster.write("deployments.apps", {"metadata": {"namespace": "shop"}, "spec": {"template": template}})
    pod_security(write)
    assert write.warnings == ['would violate PodSecurity "baseline:v1.30": host namespaces (hostPID=true)']


def test_what_is_enforced_is_also_warned_about_unless_the_labels_say_otherwise() -> None:
    prefix = "pod-security.kubernetes.io/"
    assert policy_of({f"{prefix}enforce": "baseline"}).warn == BASELINE
    assert policy_of({f"{prefix}enforce": "baseline", f"{prefix}warn": "privileged"}).warn == Level()
    assert policy_of({}).enforce == Level()
    assert policy_of({f"{prefix}enforce": "bogus"}).warn == Level()


@pytest.mark.parametrize(
    ("labels", "problem"),
    [
        (
            {"enforce": "bogus"},
            '[pod-security.kubernetes.io/enforce]: Invalid value: "bogus": must be one of '
            "privileged, baseline, restricted",
        ),
        (
            {"warn_version": "1.2"},
            '[pod-security.kubernetes.io/warn-version]: Invalid value: "1.2": must be "latest" or "v1.x"',
        ),
    ],
)
def test_labels_that_mean_nothing_are_refused(cluster: Cluster, labels: dict[str, str], problem: str) -> None:
    label(cluster, **labels)
    new = cluster.get("namespaces", "", "shop")
    assert new is not None
    message = refusal(pod_security, cluster.write("namespaces", new))
    assert message == f'Namespace "shop" is invalid: metadata.labels{problem}'
    pod_security(cluster.write("namespaces", new, old=new))  # they may stay where they are


def test_a_stricter_namespace_names_the_pods_that_would_not_be_let_in_any_more(cluster: Cluster) -> None:
    old = cluster.get("namespaces", "", "shop")
    for name in ("web-2", "web-1", "web-3"):
        cluster.add("pods", pod(name, {"name": "a"}, hostNetwork=True))
    cluster.add("pods", pod("db", container("a", privileged=True)))
    label(cluster, enforce="baseline")
    write = cluster.write("namespaces", cluster.objects["namespaces", "", "shop"], old=old)
    pod_security(write)
    assert write.warnings == [
        'existing pods in namespace "shop" violate the new PodSecurity enforce level "baseline:latest"',
        "db: privileged",
        "web-1 (and 2 other pods): host namespaces",
    ]


def test_an_update_that_changes_nothing_of_weight_is_not_judged_again(cluster: Cluster) -> None:
    old = cluster.add("pods", pod("p", {"name": "a", "image": "i:1"}, hostNetwork=True))
    label(cluster, enforce="baseline")
    pod_security(cluster.write("pods", {**old, "metadata": {**old["metadata"], "labels": {"a": "b"}}}, old=old))
    newer = pod("p", {"name": "a", "image": "i:2"}, hostNetwork=True)
    assert "host namespaces" in refusal(pod_security, cluster.write("pods", newer, old=old))


def test_of_containers_for_debugging_only_new_ones_are_judged(cluster: Cluster) -> None:
    label(cluster, enforce="baseline")
    spec = {"hostNetwork": True, "ephemeralContainers": [{"name": "debug", "image": "i"}]}
    old = cluster.add("pods", pod("p", {"name": "a", "image": "i"}, **spec))
    without = pod("p", {"name": "a", "image": "i"}, hostNetwork=True)
    pod_security(cluster.write("pods", without, old=old, subresource="ephemeralcontainers"))
    more = cluster.write("pods", old, old=without, subresource="ephemeralcontainers")
    assert "host namespaces" in refusal(pod_security, more)


def test_an_annotation_is_told_with_its_value(cluster: Cluster) -> None:
    label(cluster, enforce="baseline")
    obj = pod("p", {"name": "a"})
    obj["metadata"]["annotations"] = {"container.apparmor.security.beta.kubernetes.io/a": "unconfined"}
    assert refusal(pod_security, cluster.write("pods", obj)) == (
        'pods "p" is forbidden: violates PodSecurity "baseline:latest": forbidden AppArmor profile (annotation must '
        'not set AppArmor profile type to "container.apparmor.security.beta.kubernetes.io/a="unconfined"")'
    )
