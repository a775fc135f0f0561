"""The plugins that complete a new pod: service account, priority, runtime class, tolerations."""

from __future__ import annotations

import random
from collections.abc import Collection, Mapping
from typing import Any, Final

from podling.admission.refusals import refuse
from podling.api import meta, quantity
from podling.api.resources import Reader, Write
from podling.auth.nodes import references
from podling.kinds.core.podannotations import MIRROR
from podling.store.types import Object

TOKEN_MOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"
TOKEN_SECONDS = 3607
"""One hour and a few seconds, by which Kubernetes tells these tokens from those that users asked for."""
TOLERATED_SECONDS = 300
NAME_ALPHABET = "bcdfghjklmnpqrstvwxz2456789"
"""Letters of generated names: no vowels, so that no words come about (apimachinery, util/rand)."""
MOUNTABLE_ONLY = "kubernetes.io/enforce-mountable-secrets"

_NOT_READY = "node.kubernetes.io/not-ready"
_UNREACHABLE = "node.kubernetes.io/unreachable"


def is_new_pod(write: Write) -> bool:
    return write.operation == "CREATE" and not write.subresource and write.resource.group_resource == "pods"


def is_new_debugger(write: Write) -> bool:
    """Whether a pod may get ephemeral containers."""
    return write.subresource == "ephemeralcontainers" and write.resource.group_resource == "pods"


_TOKEN_VOLUME: Final = "kube-api-access-"


class ServiceAccounts:
    """ServiceAccount: every pod runs as one, and has its token unless it does not want it."""

    def __init__(self, generator: random.Random) -> None:
        self._random = generator

    def __call__(self, write: Write) -> None:
        if is_new_debugger(write):
            self._check_debuggers(write)
        if not is_new_pod(write):
            return
        if MIRROR in meta.annotations(write.new):
            _check_mirror(write)
            return
        spec = write.new["spec"]
        name = spec.get("serviceAccountName") or "default"
        spec["serviceAccountName"] = spec["serviceAccount"] = name
        account = self._account(write, name)
        if spec.get("automountServiceAccountToken", account.get("automountServiceAccountToken", True)):
            self._mount_token(spec)
        if not spec.get("imagePullSecrets") and account.get("imagePullSecrets"):
            spec["imagePullSecrets"] = [{**s} for s in meta.items(account, "imagePullSecrets")]
        if _names_its_secrets(account):
            _check_mountable(write, account)

    def _check_debuggers(self, write: Write) -> None:
        account = self._account(write, meta.spec(write.new).get("serviceAccountName", ""))
        if _names_its_secrets(account):
            listed = {s.get("name") for s in meta.items(account, "secrets")}
            for container in meta.items(write.new, "spec", "ephemeralContainers"):
                _check_variables(write, container, "ephemeral container", meta.name(account), listed)

    def _account(self, write: Write, name: str) -> Object:
        namespace = write.new["metadata"]["namespace"]
        account = write.reader.get("serviceaccounts", namespace, name)
        if account is None:
            missing = f'error looking up service account {namespace}/{name}: serviceaccount "{name}" not found'
            raise refuse(write, missing)
        return account

    def _mount_token(self, spec: Object) -> None:
        containers = [c for key in ("initContainers", "containers") for c in meta.items(spec, key)]
        wanting = [c for c in containers if not _mounts_at(c, TOKEN_MOUNT)]
        if not wanting:
            return
        volumes = meta.items(spec, "volumes")
        present = next((v["name"] for v in volumes if v["name"].startswith(_TOKEN_VOLUME)), "")
        volume = present or _TOKEN_VOLUME + "".join(self._random.choices(NAME_ALPHABET, k=5))
        for container in wanting:
            mount = {"name": volume, "readOnly": True, "mountPath": TOKEN_MOUNT}
            container["volumeMounts"] = [*meta.items(container, "volumeMounts"), mount]
        if not present:
            spec["volumes"] = [*volumes, _token_volume(volume)]


def _names_its_secrets(account: Object) -> bool:
    return meta.annotations(account).get(MOUNTABLE_ONLY, "").lower() in ("1", "t", "true")


def _check_mirror(write: Write) -> None:
    """What a node runs of its own accord has no identity in the cluster."""
    spec = meta.spec(write.new)
    if spec.get("serviceAccountName"):
        raise refuse(write, "a mirror pod may not reference service accounts")
    if any(resource == "secrets" for resource, _ in references(write.new)):
        raise refuse(write, "a mirror pod may not reference secrets")
    sources = [s for volume in meta.items(spec, "volumes") for s in meta.items(volume, "projected", "sources")]
    if any(source.get("serviceAccountToken") is not None for source in sources):
        raise refuse(write, "a mirror pod may not use ServiceAccountToken volume projections")


def _check_mountable(write: Write, account: Object) -> None:
    """The account's pods use no other secrets than those that it lists."""
    spec, name = meta.spec(write.new), meta.name(account)
    listed = {s.get("name") for s in meta.items(account, "secrets")}
    for volume in meta.items(spec, "volumes"):
        secret = meta.part(volume, "secret").get("secretName")
        if secret and secret not in listed:
            why = f"because service account {name} does not reference that secret"
            raise refuse(write, f'volume with secret.secretName="{secret}" is not allowed {why}')
    for key, word in (("initContainers", "init container"), ("containers", "container")):
        for container in meta.items(spec, key):
            _check_variables(write, container, word, name, listed)
    pulled = {s.get("name") for s in meta.items(account, "imagePullSecrets")}
    for index, secret in enumerate(meta.items(spec, "imagePullSecrets")):
        if secret.get("name") not in pulled:
            which = f'imagePullSecrets[{index}].name="{secret.get("name", "")}"'
            why = f"because service account {name} does not reference that imagePullSecret"
            raise refuse(write, f"{which} is not allowed {why}")


def _check_variables(write: Write, container: Object, word: str, account: str, listed: Collection[str | None]) -> None:
    why = f"is not allowed because service account {account} does not reference that secret"
    for variable in meta.items(container, "env"):
        secret = meta.part(variable, "valueFrom", "secretKeyRef").get("name")
        if secret and secret not in listed:
            where = f"{word} {container['name']} with envVar {variable['name']}"
            raise refuse(write, f'{where} referencing secret.secretName="{secret}" {why}')
    for source in meta.items(container, "envFrom"):
        secret = meta.part(source, "secretRef").get("name")
        if secret and secret not in listed:
            where = f"{word} {container['name']} with envFrom"
            raise refuse(write, f'{where} referencing secret.secretName="{secret}" {why}')


def _mounts_at(container: Object, path: str) -> bool:
    return any(m.get("mountPath") == path for m in meta.items(container, "volumeMounts"))


def _token_volume(name: str) -> Object:
    namespace = {"path": "namespace", "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}}
    return {
        "name": name,
        "projected": {
            "sources": [
                {"serviceAccountToken": {"expirationSeconds": TOKEN_SECONDS, "path": "token"}},
                {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
                {"downwardAPI": {"items": [namespace]}},
            ],
            "defaultMode": 0o644,
        },
    }


def default_tolerations(write: Write) -> None:
    """DefaultTolerationSeconds: a pod stays five minutes on a node that is not ready or not reached."""
    if write.operation == "DELETE" or write.subresource or write.resource.group_resource != "pods":
        return
    tolerations = [*meta.items(write.new, "spec", "tolerations")]
    for key in (_NOT_READY, _UNREACHABLE):
        if not any(_tolerates(t, key) for t in tolerations):
            tolerations.append(
                {"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": TOLERATED_SECONDS}
            )
    write.new["spec"]["tolerations"] = tolerations


def _tolerates(toleration: Object, key: str) -> bool:
    return toleration.get("key") in (key, None, "") and toleration.get("effect") in ("NoExecute", None, "")


def priority(write: Write) -> None:
    """Priority: the number behind a priority class."""
    if not is_new_pod(write):
        return
    spec = write.new["spec"]
    chosen = _priority_class(write, spec)
    value = chosen["value"] if chosen else 0
    policy = meta.part(chosen).get("preemptionPolicy") or "PreemptLowerPriority"
    given = spec.get("priority")
    if given is not None and given != value:
        raise refuse(
            write,
            f"the integer value of priority ({given}) must not be provided in pod spec; "
            f"priority admission controller computed {value} from the given PriorityClass name",
        )
    given_policy = spec.get("preemptionPolicy")
    if given_policy is not None and given_policy != policy:
        raise refuse(
            write,
            f"the string value of PreemptionPolicy ({given_policy}) must not be provided in pod spec; "
            f"priority admission controller computed {policy} from the given PriorityClass name",
        )
    spec["priority"], spec["preemptionPolicy"] = value, policy


def _priority_class(write: Write, spec: Object) -> Object | None:
    name = spec.get("priorityClassName")
    if not name:
        default = _default_priority_class(write.reader)
        if default is not None:
            spec["priorityClassName"] = default["metadata"]["name"]
        return default
    found = write.reader.get("priorityclasses.scheduling.k8s.io", "", name)
    if found is None:
        raise refuse(write, f"no PriorityClass with name {name} was found")
    return found


def _default_priority_class(reader: Reader) -> Object | None:
    """Of several global defaults the lowest counts."""
    defaults = [c for c in reader.list("priorityclasses.scheduling.k8s.io") if c.get("globalDefault")]
    return min(defaults, key=lambda c: c["value"], default=None)


def runtime_class(write: Write) -> None:
    """RuntimeClass: its overhead, node selector and tolerations become the pod's."""
    if not is_new_pod(write):
        return
    spec = write.new["spec"]
    name = spec.get("runtimeClassName")
    if not name:
        if spec.get("overhead"):
            raise refuse(write, "pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead")
        return
    found = write.reader.get("runtimeclasses.node.k8s.io", "", name)
    if found is None:
        raise refuse(write, f'pod rejected: RuntimeClass "{name}" not found')
    _set_overhead(write, spec, found)
    _set_scheduling(write, spec, found)


def _set_overhead(write: Write, spec: Object, runtime: Object) -> None:
    fixed = meta.part(runtime, "overhead", "podFixed")
    if not fixed:
        if spec.get("overhead"):
            raise refuse(write, "pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead")
        return
    given = spec.get("overhead")
    if given and not _same_amounts(given, fixed):
        raise refuse(write, "pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead")
    spec["overhead"] = dict(fixed)


def _same_amounts(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    return one.keys() == other.keys() and all(quantity.of(one[k]).nanos == quantity.of(other[k]).nanos for k in one)


def _set_scheduling(write: Write, spec: Object, runtime: Object) -> None:
    wanted = meta.part(runtime, "scheduling", "nodeSelector")
    selector = {**meta.part(spec, "nodeSelector")}
    for key, value in wanted.items():
        if selector.setdefault(key, value) != value:
            both = (
                f"runtimeClass.scheduling.nodeSelector[{key}] = {value}; pod.spec.nodeSelector[{key}] = {selector[key]}"
            )
            raise refuse(write, f"conflict: {both}")
    if selector:
        spec["nodeSelector"] = selector
    own = meta.items(spec, "tolerations")
    more = [{**t} for t in meta.items(runtime, "scheduling", "tolerations") if t not in own]
    if more:
        spec["tolerations"] = [*own, *more]
