"""The environment of a container: its `env` and `envFrom`, the services of its namespace, and `$(VAR)` references.

What other objects say is asked through a `Reader`. What is missing raises `ConfigError`, which becomes
`CreateContainerConfigError` in the status.
"""

from __future__ import annotations

import base64
import re
from collections import ChainMap
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from podling.api import meta, quantity
from podling.api.gotext import quoted
from podling.api.resources import Reader
from podling.node import env_file
from podling.node.state import container_of, part
from podling.store.types import Object


class ConfigError(Exception):
    """A container cannot be made as its spec says; the message is the kubelet's."""


@dataclass(frozen=True, slots=True)
class PodContext:
    """What downward fields can show of a pod that the object itself may not say yet."""

    pod: Object
    ip: str
    host_ip: str
    allocatable: Mapping[str, str]
    """Of the node: what a container without a limit may use at most."""


_REFERENCE = re.compile(r"\$\$|\$\(([^()]*)\)")


def expand(text: str, values: Mapping[str, str]) -> str:
    """Replaces `$(NAME)` by its value; a name that is not known stays as written, and `$$` is one `$`."""

    def one(match: re.Match[str]) -> str:
        if match.group(0) == "$$":
            return "$"
        return values.get(match.group(1), match.group(0))

    return _REFERENCE.sub(one, text)


def names_in(text: str) -> list[str]:
    """The names of all `$(NAME)` in a text."""
    return [match.group(1) for match in _REFERENCE.finditer(text) if match.group(0) != "$$"]


VolumePath = Callable[[str], Path | None]
"""Where a volume of the pod lies, by its name; `None` where there is none."""


def container_environment(
    container: Object, context: PodContext, reader: Reader, volumes: VolumePath
) -> dict[str, str]:
    """The variables of a container, without those of its image."""
    services = service_variables(context.pod, reader)
    result = _env_from(container, context, reader)
    known = ChainMap(result, services)
    for variable in container.get("env") or ():
        source = part(variable, "valueFrom")
        if source:
            value = _value_from(source, container, context, reader, volumes)
        else:
            value = expand(variable.get("value", ""), known)
        if value is not None:
            result[variable["name"]] = value
    return {**services, **result}


def _value_from(
    source: Object, container: Object, context: PodContext, reader: Reader, volumes: VolumePath
) -> str | None:
    """`None` for an optional reference to what is not there."""
    if "fieldRef" in source:
        return field_value(source["fieldRef"]["fieldPath"], context)
    if "resourceFieldRef" in source:
        return resource_value(source["resourceFieldRef"], container, context)
    if "configMapKeyRef" in source:
        return _key_of(source["configMapKeyRef"], "ConfigMap", meta.namespace(context.pod), reader)
    if "secretKeyRef" in source:
        return _key_of(source["secretKeyRef"], "Secret", meta.namespace(context.pod), reader)
    return _file_value(source["fileKeyRef"], volumes)


_RESOURCES = {"ConfigMap": "configmaps", "Secret": "secrets"}


def _key_of(reference: Object, kind: str, namespace: str, reader: Reader) -> str | None:
    data = texts_of(reference.get("name", ""), kind, namespace, reader, optional=bool(reference.get("optional")))
    if data is None:
        return None
    if reference["key"] in data:
        return data[reference["key"]]
    if reference.get("optional"):
        return None
    raise ConfigError(f"couldn't find key {reference['key']} in {kind} {namespace}/{reference.get('name', '')}")


def _file_value(reference: Object, volumes: VolumePath) -> str | None:
    """Of a file that another container of the pod has written, so no link in it leads out of the volume."""
    name, optional = reference["volumeName"], bool(reference.get("optional"))
    volume = volumes(name)
    if volume is None:
        raise ConfigError(f'cannot find the volume "{name}" referenced by FileKeyRef')
    file = volume / reference["path"]
    try:
        if not file.resolve().is_relative_to(volume.resolve()):
            raise ValueError(f"{file} leads out of the volume")
        value = env_file.value_of(file.read_text(), reference["key"])
    except FileNotFoundError:
        if optional:
            return None
        raise ConfigError("couldn't parse env file") from None
    except (OSError, ValueError) as error:
        raise ConfigError("couldn't parse env file") from error
    if not value and not optional:
        raise ConfigError(f'environment variable key "{reference["key"]}" not found in file "{file}"')
    return value or None


def texts_of(name: str, kind: str, namespace: str, reader: Reader, *, optional: bool) -> dict[str, str] | None:
    """The data of a ConfigMap or Secret as text; `None` if it is optional and not there."""
    found = reader.get(_RESOURCES[kind], namespace, name)
    if found is None:
        if optional:
            return None
        raise ConfigError(f'{kind.lower()} "{name}" not found')
    data: dict[str, str] = found.get("data") or {}
    if kind == "ConfigMap":
        return data
    return {key: base64.b64decode(value).decode("utf-8", "surrogateescape") for key, value in data.items()}


def _env_from(container: Object, context: PodContext, reader: Reader) -> dict[str, str]:
    result: dict[str, str] = {}
    for source in container.get("envFrom") or ():
        kind = "ConfigMap" if "configMapRef" in source else "Secret"
        reference: Object = source.get("configMapRef") or source.get("secretRef") or {}
        optional = bool(reference.get("optional"))
        data = texts_of(reference.get("name", ""), kind, meta.namespace(context.pod), reader, optional=optional)
        prefix = source.get("prefix", "")
        result |= {prefix + key: value for key, value in (data or {}).items() if _usable(prefix + key)}
    return result


def _usable(name: str) -> bool:
    """A name that `execve` can carry; the API's relaxed rule: printable ASCII without `=`."""
    return bool(name) and "=" not in name and all(" " <= char <= "~" for char in name)


# Downward API

_SUBSCRIPT = re.compile(r"metadata\.(labels|annotations)\['(.*)'\]")


def field_value(path: str, context: PodContext) -> str:
    """A `fieldRef` as text, for variables and for files."""
    match = _SUBSCRIPT.fullmatch(path)
    if match is not None:
        found = meta.labels if match.group(1) == "labels" else meta.annotations
        return found(context.pod).get(match.group(2), "")
    pod, spec = context.pod, meta.spec(context.pod)
    match path:
        case "metadata.name":
            return meta.name(pod)
        case "metadata.namespace":
            return meta.namespace(pod)
        case "metadata.uid":
            return meta.uid(pod)
        case "metadata.labels":
            return _map_text(meta.labels(pod))
        case "metadata.annotations":
            return _map_text(meta.annotations(pod))
        case "spec.nodeName":
            return spec.get("nodeName", "")
        case "spec.serviceAccountName":
            return spec.get("serviceAccountName", "")
        case "status.hostIP" | "status.hostIPs":
            return context.host_ip
        case "status.podIP" | "status.podIPs":
            return context.ip
        case _:
            raise ConfigError(f"unsupported fieldPath: {path}")


def _map_text(values: Mapping[str, str]) -> str:
    """One `key="value"` a line, sorted, the value quoted as Go quotes it."""
    return "\n".join(f"{key}={quoted(value)}" for key, value in sorted(values.items()))


def resource_value(reference: Object, container: Object, context: PodContext) -> str:
    """A `resourceFieldRef`: a limit or request in units of its divisor, rounded up."""
    name = reference.get("containerName")
    target = container_of(context.pod, name) if name else container
    if target is None:
        raise ConfigError(f"container {name} not found")
    group, _, resource = reference["resource"].partition(".")
    value = part(part(target, "resources"), group).get(resource)
    if value is None and group == "limits":
        value = context.allocatable.get(resource)
    if value is None:
        return "0"
    divisor = quantity.of(reference.get("divisor") or 0).nanos or quantity.NANO
    return str(-(-quantity.of(value).nanos // divisor))


# Services


def service_variables(pod: Object, reader: Reader) -> dict[str, str]:
    """`WEB_SERVICE_HOST` and its kin, of the services of the namespace and of `kubernetes`."""
    services = {meta.name(master): master for master in _master_service(reader)}
    if meta.spec(pod).get("enableServiceLinks", True):
        services |= {meta.name(service): service for service in reader.list("services", meta.namespace(pod))}
    result: dict[str, str] = {}
    for service in services.values():
        if meta.spec(service).get("clusterIP") not in (None, "", "None"):
            result |= _variables_of(meta.name(service), meta.spec(service)["clusterIP"], meta.spec(service))
    return result


def _master_service(reader: Reader) -> Iterable[Object]:
    found = reader.get("services", "default", "kubernetes")
    return () if found is None else (found,)


def _variables_of(name: str, ip: str, spec: Object) -> dict[str, str]:
    ports: Sequence[Object] = spec.get("ports") or ()
    if not ports:
        return {}
    prefix = _variable_name(name)
    result = {f"{prefix}_SERVICE_HOST": ip, f"{prefix}_SERVICE_PORT": str(ports[0]["port"])}
    for port in ports:
        if port.get("name"):
            result[f"{prefix}_SERVICE_PORT_{_variable_name(port['name'])}"] = str(port["port"])
    for index, port in enumerate(ports):
        result |= _link_variables(prefix, ip, port, first=index == 0)
    return result


def _link_variables(prefix: str, ip: str, port: Object, *, first: bool) -> dict[str, str]:
    """The form that Docker links had, kept by Kubernetes."""
    protocol = port.get("protocol", "TCP")
    url = f"{protocol.lower()}://{ip}:{port['port']}"
    base = f"{prefix}_PORT_{port['port']}_{protocol}"
    return {
        **({f"{prefix}_PORT": url} if first else {}),
        base: url,
        f"{base}_PROTO": protocol.lower(),
        f"{base}_PORT": str(port["port"]),
        f"{base}_ADDR": ip,
    }


def _variable_name(text: str) -> str:
    return text.upper().replace("-", "_")
