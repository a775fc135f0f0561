"""Names that a pod knows: its host name, `/etc/hosts` and `/etc/resolv.conf`. Pure.

Rules: Kubernetes' "DNS for Services and Pods".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from podling.api import meta
from podling.store.types import Object

HOST_NAME_LIMIT = 63
FULL_NAME_LIMIT = 64
"""Characters that the kernel has for a host name."""


class NameTooLong(RuntimeError):
    """The pod wants its full name as its host name, which the kernel cannot hold."""


def host_name(pod: Object, node_name: str, domain: str) -> str:
    """Of the pod's processes. Raises `NameTooLong`."""
    spec = meta.spec(pod)
    if spec.get("hostNetwork"):
        return node_name
    short, subdomain = _names(pod, domain)
    if not subdomain or not spec.get("setHostnameAsFQDN"):
        return short
    full = f"{short}.{subdomain}"
    if len(full) > FULL_NAME_LIMIT:
        numbers = f"({FULL_NAME_LIMIT} characters is the max, {len(full)} characters requested)"
        why = f"FQDN {full} is too long {numbers}"
        raise NameTooLong(f"failed to construct FQDN from pod hostname and cluster domain, {why}")
    return full


def _names(pod: Object, domain: str) -> tuple[str, str]:
    """Its short name, and what follows it in the full one: `web-0` and `web.shop.svc.cluster.local`."""
    spec = meta.spec(pod)
    override: str = spec.get("hostnameOverride") or ""
    short = (override or spec.get("hostname") or meta.name(pod))[:HOST_NAME_LIMIT].rstrip("-.")
    if override or not spec.get("subdomain"):
        return short, ""
    return short, f"{spec['subdomain']}.{meta.namespace(pod)}.svc.{domain}"


def hosts_file(pod: Object, ip: str, domain: str) -> str:
    """Of a pod with a network of its own."""
    short, subdomain = _names(pod, domain)
    lines = [
        "# Kubernetes-managed hosts file.",
        "127.0.0.1\tlocalhost",
        "::1\tlocalhost ip6-localhost ip6-loopback",
        "fe00::0\tip6-localnet",
        "fe00::0\tip6-mcastprefix",
        "fe00::1\tip6-allnodes",
        "fe00::2\tip6-allrouters",
    ]
    if ip:
        lines.append(f"{ip}\t{short}.{subdomain}\t{short}" if subdomain else f"{ip}\t{short}")
    return "\n".join([*lines, *_aliases(pod)]) + "\n"


def node_hosts_file(pod: Object, of_machine: str, ip: str, node_name: str) -> str:
    """Of a pod on the node's network: the machine's file, in which the node has its name."""
    lines = ["# Kubernetes-managed hosts file (host network).", *of_machine.splitlines(), f"{ip}\t{node_name}"]
    return "\n".join([*lines, *_aliases(pod)]) + "\n"


def _aliases(pod: Object) -> list[str]:
    aliases = meta.items(pod, "spec", "hostAliases")
    if not aliases:
        return []
    lines = ["\t".join((alias["ip"], *(alias.get("hostnames") or ()))) for alias in aliases]
    return ["", "# Entries added by HostAliases.", *lines]


@dataclass(frozen=True, slots=True)
class Resolver:
    """What `/etc/resolv.conf` says."""

    nameservers: tuple[str, ...] = ()
    searches: tuple[str, ...] = ()
    options: tuple[str, ...] = ()

    def text(self) -> str:
        lines = [f"search {' '.join(self.searches)}"] if self.searches else []
        lines += [f"nameserver {server}" for server in self.nameservers]
        lines += [f"options {' '.join(self.options)}"] if self.options else []
        return "\n".join(lines) + "\n"


def parse_resolver(text: str) -> Resolver:
    """Of the node's own `/etc/resolv.conf`."""
    words = [line.split() for line in text.splitlines()]
    servers = tuple(row[1] for row in words if len(row) > 1 and row[0] == "nameserver")
    searches = next((tuple(row[1:]) for row in reversed(words) if row and row[0] in ("search", "domain")), ())
    options = tuple(word for row in words if row and row[0] == "options" for word in row[1:])
    return Resolver(servers, searches, options)


def resolver(pod: Object, nameservers: Sequence[str], domain: str, host: Resolver) -> Resolver:
    """The pod's resolver by its `dnsPolicy` and `dnsConfig`."""
    spec = meta.spec(pod)
    policy = spec.get("dnsPolicy", "ClusterFirst")
    if policy == "None":
        found = Resolver()
    elif policy == "Default" or (policy == "ClusterFirst" and spec.get("hostNetwork")):
        found = host
    else:
        local = (f"{meta.namespace(pod)}.svc.{domain}", f"svc.{domain}", domain)
        found = Resolver(tuple(nameservers), (*local, *host.searches), ("ndots:5",))
    return _with_config(found, spec.get("dnsConfig") or {})


def _with_config(base: Resolver, config: Object) -> Resolver:
    """Adds `dnsConfig`: lists are appended without repeats, options of one name replaced."""
    wanted = {
        option["name"]: f"{option['name']}:{option['value']}" if option.get("value") else option["name"]
        for option in config.get("options") or ()
    }
    kept = tuple(option for option in base.options if option.partition(":")[0] not in wanted)
    return Resolver(
        _unique(base.nameservers, config.get("nameservers") or ()),
        _unique(base.searches, config.get("searches") or ()),
        (*kept, *wanted.values()),
    )


def _unique(first: Sequence[str], second: Sequence[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys((*first, *second)))
