"""The plugins that complete a new pod: service account, priority, runtime class, tolerations."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Collection, Mapping, Sequence
from typing import Any, Final

from podling.admission.refusals import refuse
from podling.api import meta, quantity
from podling.api.answers import TRUE
from podling.api.errors import ApiError
from podling.api.resources import Reader, Write
from podling.auth.nodes import references
from podling.kinds.core.podannotations import MIRROR
from podling.kinds.validation import names
from podling.store.types import Object

TOKEN_MOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"
TOKEN_SECONDS = 3607
"""One hour and a few seconds, by which Kubernetes tells these tokens from those that users asked for."""
TOLERATED_SECONDS = 300
NAME_ALPHABET = "bcdfghjklmnpqrstvwxz2456789"
"""Letters of generated names: no vowels, so that no words come about (apimachinery, util/rand)."""
MOUNTABLE_ONLY = "kubernetes.io/enforce-mountable-secrets"
PRIORITY_CLASSES = "priorityclasses.scheduling.k8s.io"

_NOT_READY = "node.kubernetes.io/not-ready"
_UNREACHABLE = "node.kubernetes.io/unreachable"


def is_new_pod(write: Write) -> bool:
    return write.operation == "CREATE" and not write.subresource and write.resource.group_resource == "pods"


_TOKEN_VOLUME: Final = "kube-api-access-"


_WAITS: Final = 10
_LONGEST_PAUSE: Final = 0.2
"""Seconds between two looks for the account of a namespace that is just being made."""


class ServiceAccounts:
    """ServiceAccount: every pod runs as one, and has its token unless it does not want it."""

    def __init__(self, generator: random.Random) -> None:
        self._random = generator

    def __call__(self, write: Write) -> Awaitable[None] | None:
        """The mutating half. The default account comes with its namespace, a moment later: it is waited for."""
        if not is_new_pod(write):
            return None
        if MIRROR in meta.annotations(write.new):
            _check_mirror(write)
            return None
        spec = write.new["spec"]
        name = spec.get("serviceAccountName") or "default"
        spec["serviceAccountName"] = spec["serviceAccount"] = name
        if name == "default" and _find_account(write) is None:
            return self._later(write)
        self._complete(write)
        return None

    async def _later(self, write: Write) -> None:
        pause = self._random.uniform(_LONGEST_PAUSE / 2, _LONGEST_PAUSE)
        for _ in range(_WAITS - 1):
            await asyncio.sleep(pause)
            if _find_account(write) is not None:
                break
        self._complete(write)

    def _complete(self, write: Write) -> None:
        spec, account = write.new["spec"], _account(write)
        if spec.get("automountServiceAccountToken", account.get("automountServiceAccountToken", True)):
            self._mount_token(spec)
        if not spec.get("imagePullSecrets") and account.get("imagePullSecrets"):
            spec["imagePullSecrets"] = [{**s} for s in meta.items(account, "imagePullSecrets")]
        _check_references(write, account)

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


_NO_ACCOUNT: Final = 'serviceaccount "{}" not found'


def _find_account(write: Write) -> Object | None:
    return write.reader.get("serviceaccounts", write.namespace, meta.spec(write.new)["serviceAccountName"])


def _account(write: Write) -> Object:
    """Raises ApiError where there is none."""
    found = _find_account(write)
    if found is None:
        name = meta.spec(write.new)["serviceAccountName"]
        unusable = names.path_segment(name)
        why = f'invalid resource name "{name}": [{" ".join(unusable)}]' if unusable else _NO_ACCOUNT.format(name)
        raise refuse(write, f"error looking up service account {write.namespace}/{name}: {why}")
    return found


def check_account(write: Write) -> None:
    """The validating half: what others made of the pod since has an account too, and uses no secrets but its own."""
    if write.resource.group_resource != "pods":
        return
    if write.operation == "UPDATE" and write.subresource == "ephemeralcontainers":
        _check_debugging(write)
    elif not is_new_pod(write):
        return
    elif MIRROR in meta.annotations(write.new):
        _check_mirror(write)
    elif not meta.spec(write.new).get("serviceAccountName"):
        raise _nameless(write)
    else:
        _check_references(write, _account(write))


def _nameless(write: Write) -> ApiError:
    return refuse(write, f"no service account specified for pod {write.namespace}/{write.name}")


def _check_debugging(write: Write) -> None:
    """Of containers that come later the refusal is no 403, in Kubernetes neither."""
    if not meta.spec(write.new).get("serviceAccountName"):
        raise _nameless(write)
    account = _account(write)
    if not _lists_all_secrets(account):
        return
    for container in meta.items(write.new, "spec", "ephemeralContainers"):
        if why := _foreign_secret(container, "ephemeral container", account):
            raise ApiError(500, "", why)


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


def _lists_all_secrets(account: Object) -> bool:
    return meta.annotations(account).get(MOUNTABLE_ONLY, "") in TRUE


def _check_references(write: Write, account: Object) -> None:
    """Where the account says so, its pods use no other secrets than those that it lists."""
    if not _lists_all_secrets(account):
        return
    spec, name, listed = meta.spec(write.new), meta.name(account), _listed(account)
    for volume in meta.items(spec, "volumes"):
        if volume.get("secret") is not None:
            secret = volume["secret"].get("secretName", "")
            if secret not in listed:
                why = f"because service account {name} does not reference that secret"
                raise refuse(write, f'volume with secret.secretName="{secret}" is not allowed {why}')
    for key, word in (("initContainers", "init container"), ("containers", "container")):
        for container in meta.items(spec, key):
            if why := _foreign_secret(container, word, account):
                raise refuse(write, why)
    pulled = {s.get("name") for s in meta.items(account, "imagePullSecrets")}
    for index, secret in enumerate(meta.items(spec, "imagePullSecrets")):
        if secret.get("name") not in pulled:
            which = f'imagePullSecrets[{index}].name="{secret.get("name", "")}"'
            why = f"because service account {name} does not reference that imagePullSecret"
            raise refuse(write, f"{which} is not allowed {why}")


def _listed(account: Object) -> Collection[str]:
    return {s.get("name", "") for s in meta.items(account, "secrets")}


def _foreign_secret(container: Object, word: str, account: Object) -> str:
    """The refusal of a container with a secret in its environment that the account does not list; `""` for none."""
    listed = _listed(account)
    why = f"is not allowed because service account {meta.name(account)} does not reference that secret"
    for variable in meta.items(container, "env"):
        reference = meta.part(variable, "valueFrom").get("secretKeyRef")
        if reference is not None and (secret := reference.get("name", "")) not in listed:
            where = f"{word} {container['name']} with envVar {variable['name']}"
            return f'{where} referencing secret.secretName="{secret}" {why}'
    for source in meta.items(container, "envFrom"):
        reference = source.get("secretRef")
        if reference is not None and (secret := reference.get("name", "")) not in listed:
            return f'{word} {container["name"]} with envFrom referencing secret.secretName="{secret}" {why}'
    return ""


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
    """Priority: the number behind a priority class. An update that leaves it out means the one that there is."""
    if write.resource.group_resource != "pods" or write.subresource:
        return
    spec = write.new["spec"]
    if write.operation == "UPDATE":
        given = meta.spec(write.old or {})
        for field in ("priority", "preemptionPolicy"):
            if spec.get(field) is None and given.get(field) is not None:
                spec[field] = given[field]
    if write.operation != "CREATE":
        return
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
    found = write.reader.get(PRIORITY_CLASSES, "", name)
    if found is None:
        raise refuse(write, f"no PriorityClass with name {name} was found")
    return found


def _default_priority_class(reader: Reader) -> Object | None:
    """Of several global defaults the lowest counts."""
    defaults = [c for c in reader.list(PRIORITY_CLASSES) if c.get("globalDefault")]
    return min(defaults, key=lambda c: c["value"], default=None)


def one_default_priority(write: Write) -> None:
    """Of priority classes only one is the default."""
    if write.resource.group_resource != PRIORITY_CLASSES or write.operation == "DELETE":
        return
    default = _default_priority_class(write.reader) if write.new.get("globalDefault") else None
    if default is not None and (write.operation == "CREATE" or meta.name(default) != write.name):
        name = meta.name(default)
        raise refuse(write, f"PriorityClass {name} is already marked as default. Only one default can exist")


def runtime_class(write: Write) -> None:
    """RuntimeClass: its overhead, node selector and tolerations become the pod's."""
    if not is_new_pod(write):
        return
    spec, runtime = write.new["spec"], _runtime_class(write)
    if (fixed := _overhead(runtime)) is not None:
        if spec.get("overhead") and not _same_amounts(spec["overhead"], fixed):
            raise refuse(write, _OTHER_OVERHEAD)
        if fixed:
            spec["overhead"] = dict(fixed)
    if runtime is not None and runtime.get("scheduling") is not None:
        _set_scheduling(write, spec, runtime)


def check_overhead(write: Write) -> None:
    """The validating half of RuntimeClass: only a class says what a pod costs beyond its containers."""
    if not is_new_pod(write):
        return
    given, fixed = meta.spec(write.new).get("overhead"), _overhead(_runtime_class(write))
    if fixed is None and given is not None:
        raise refuse(write, "pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead")
    if fixed is not None and not _same_amounts(given or {}, fixed):
        raise refuse(write, _OTHER_OVERHEAD)


_OTHER_OVERHEAD: Final = "pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead"


def _runtime_class(write: Write) -> Object | None:
    """Raises ApiError where the pod names one that is not there."""
    name = meta.spec(write.new).get("runtimeClassName")
    if name is None:
        return None
    found = write.reader.get("runtimeclasses.node.k8s.io", "", name)
    if found is None:
        raise refuse(write, f'pod rejected: RuntimeClass "{name}" not found')
    return found


def _overhead(runtime: Object | None) -> Object | None:
    return meta.part(runtime, "overhead", "podFixed") if (runtime or {}).get("overhead") is not None else None


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
    merged = _merged([*meta.items(spec, "tolerations"), *meta.items(runtime, "scheduling", "tolerations")])
    if merged:
        spec["tolerations"] = [{**t} for t in merged]


def _merged(tolerations: Sequence[Object]) -> list[Object]:
    """Without those that another one covers; of equals the first stays (`util/tolerations.MergeTolerations`)."""
    kept: list[Object] = []
    for at, one in enumerate(tolerations):
        later = (other for other in tolerations[at + 1 :] if other != one)
        if not any(_covers(other, one) for other in kept) and not any(_covers(other, one) for other in later):
            kept.append(one)
    return kept


def _covers(wide: Object, narrow: Object) -> bool:
    """Whether a toleration tolerates all that another one does."""
    if wide == narrow:
        return True
    exists = wide.get("operator") == "Exists"
    if wide.get("key") != narrow.get("key") and (wide.get("key") or not exists):
        return False
    if wide.get("effect") and wide.get("effect") != narrow.get("effect"):
        return False
    most, asked = wide.get("tolerationSeconds"), narrow.get("tolerationSeconds")
    if wide.get("effect") == "NoExecute" and most is not None and (asked is None or asked > most):
        return False
    if exists:
        return True
    if wide.get("operator") not in (None, "", "Equal"):
        return False
    return narrow.get("operator") == "Equal" and (narrow.get("value") or "") == (wide.get("value") or "")
