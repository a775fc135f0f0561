"""Names that a pod knows: its host name, `/etc/hosts` and `/etc/resolv.conf`. Pure.

Rules: Kubernetes' "DNS for Services and Pods".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from podling.api import meta
from podling.store.types import Object

HOST_NAME_LIMIT = 63


def host_name(pod: Object, node_name: str) -> str:
    spec = meta.spec(pod)
    if spec.get("hostnameOverride"):
        return spec["hostnameOverride"]
    if spec.get("hostNetwork"):
        return node_name
    short: str = spec.get("hostname") or meta.name(pod)[:HOST_NAME_LIMIT].rstrip("-.")
    return full_host_name(pod, short, "") if spec.get("setHostnameAsFQDN") else short


def full_host_name(pod: Object, short: str, domain: str) -> str:
    """`web-0.web.shop.svc.cluster.local` for a pod with a subdomain, else its short name."""
    subdomain = meta.spec(pod).get("subdomain")
    if not subdomain:
        return short
    return ".".join(filter(None, (short, subdomain, meta.namespace(pod), "svc", domain or "cluster.local")))


def hosts_file(pod: Object, ip: str, domain: str) -> str:
    spec = meta.spec(pod)
    short: str = spec.get("hostname") or meta.name(pod)[:HOST_NAME_LIMIT].rstrip("-.")
    full = full_host_name(pod, short, domain)
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
        lines.append(f"{ip}\t{full}\t{short}" if full != short else f"{ip}\t{short}")
    aliases: Sequence[Object] = spec.get("hostAliases") or ()
    if aliases:
        lines += ["", "# Entries added by HostAliases."]
        lines += ["\t".join((alias["ip"], *(alias.get("hostnames") or ()))) for alias in aliases]
    return "\n".join(lines) + "\n"


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
