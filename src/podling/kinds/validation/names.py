"""What names, labels, addresses and ports may look like.

Each function takes one value and returns the sentences that Kubernetes says about it, none when it is fine
(k8s.io/apimachinery/pkg/util/validation). Who calls them adds the path.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from functools import cache
from typing import Final

NameRule = Callable[[str, bool], list[str]]
"""A rule for `metadata.name`; the flag says that the value is a prefix (`generateName`)."""

_LABEL: Final = "[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_LABEL_1035: Final = "[a-z]([-a-z0-9]*[a-z0-9])?"
_SUBDOMAIN: Final = rf"{_LABEL}(\.{_LABEL})*"
_QUALIFIED: Final = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]"
_LABEL_VALUE: Final = f"({_QUALIFIED})?"
_CONFIG_KEY: Final = "[-._a-zA-Z0-9]+"
_PATH_IN_DOMAIN: Final = r"[A-Za-z0-9/\-._~%!$&'()*+,;=:]+"
_CIDENTIFIER: Final = "[A-Za-z_][A-Za-z0-9_]*"
_HEADER: Final = "[-A-Za-z0-9]+"
_UNDERSCORED_LABEL: Final = "_?[a-z0-9]([-_a-z0-9]*[a-z0-9])?"
_UNDERSCORED: Final = rf"{_UNDERSCORED_LABEL}(\.{_UNDERSCORED_LABEL})*"
_PERCENT: Final = "[0-9]+%"
_CASE_INSENSITIVE_SUBDOMAIN: Final = (
    r"[A-Za-z0-9]([-A-Za-z0-9]*[A-Za-z0-9])?(\.[A-Za-z0-9]([-A-Za-z0-9]*[A-Za-z0-9])?)*"
)

_LINK_LOCAL_GROUP_4: Final = ipaddress.ip_network("224.0.0.0/24")
_LINK_LOCAL_GROUP_6: Final = ipaddress.ip_network("ff02::/16")

SUBDOMAIN_MAX: Final = 253
LABEL_MAX: Final = 63


def _matches(pattern: str, value: str) -> bool:
    return _compiled(pattern).fullmatch(value) is not None


@cache
def _compiled(pattern: str) -> re.Pattern[str]:
    """`re` remembers patterns as well, but takes longer to find one than to match a name."""
    return re.compile(pattern, re.ASCII)


def regex_text(message: str, pattern: str, *examples: str) -> str:
    """The sentence about a value that does not match `pattern`, with its examples."""
    if not examples:
        return f"{message} (regex used for validation is '{pattern}')"
    shown = " or ".join(f"'{e}', " for e in examples)
    return f"{message} (e.g. {shown}regex used for validation is '{pattern}')"


def max_len(limit: int) -> str:
    return f"must be no more than {limit} characters"


def max_bytes(limit: int) -> str:
    return f"must be no more than {limit} bytes"


_LABEL_MESSAGE: Final = (
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', "
    "and must start and end with an alphanumeric character"
)
_SUBDOMAIN_MESSAGE: Final = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', "
    "and must start and end with an alphanumeric character"
)
_LABEL_1035_MESSAGE: Final = (
    "a DNS-1035 label must consist of lower case alphanumeric characters or '-', "
    "start with an alphabetic character, and end with an alphanumeric character"
)
_QUALIFIED_MESSAGE: Final = (
    "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character"
)


def dns1123_label(value: str) -> list[str]:
    errors = [max_len(LABEL_MAX)] if len(value) > LABEL_MAX else []
    if _matches(_LABEL, value):
        return errors
    if _matches(_SUBDOMAIN, value):
        return [*errors, "must not contain dots"]
    return [*errors, regex_text(_LABEL_MESSAGE, _LABEL, "my-name", "123-abc")]


def dns1123_subdomain(value: str) -> list[str]:
    errors = [max_len(SUBDOMAIN_MAX)] if len(value) > SUBDOMAIN_MAX else []
    if not _matches(_SUBDOMAIN, value):
        errors.append(regex_text(_SUBDOMAIN_MESSAGE, _SUBDOMAIN, "example.com"))
    return errors


def wildcard_dns1123_subdomain(value: str) -> list[str]:
    pattern = rf"\*\.{_SUBDOMAIN}"
    errors = [max_len(SUBDOMAIN_MAX)] if len(value) > SUBDOMAIN_MAX else []
    if not _matches(pattern, value):
        message = (
            "a wildcard DNS-1123 subdomain must start with '*.', followed by a valid DNS subdomain, "
            "which must consist of lower case alphanumeric characters, '-' or '.' "
            "and end with an alphanumeric character"
        )
        errors.append(regex_text(message, pattern, "*.example.com"))
    return errors


def dns1035_label(value: str) -> list[str]:
    errors = [max_len(LABEL_MAX)] if len(value) > LABEL_MAX else []
    if not _matches(_LABEL_1035, value):
        errors.append(regex_text(_LABEL_1035_MESSAGE, _LABEL_1035, "my-name", "abc-123"))
    return errors


def _name_part(name: str) -> list[str]:
    if not name:
        errors = ["name part must be non-empty"]
    elif len(name) > LABEL_MAX:
        errors = [f"name part {max_bytes(LABEL_MAX)}"]
    else:
        errors = []
    if not _matches(_QUALIFIED, name):
        errors.append("name part " + regex_text(_QUALIFIED_MESSAGE, _QUALIFIED, "MyName", "my.name", "123-abc"))
    return errors


def qualified_name(value: str) -> list[str]:
    """A name with an optional DNS prefix: label and annotation keys, resource names, finalizers."""
    parts = value.split("/")
    if len(parts) == 1:
        return _name_part(parts[0])
    if len(parts) > 2:
        text = regex_text(_QUALIFIED_MESSAGE, _QUALIFIED, "MyName", "my.name", "123-abc")
        return [f"a valid label key {text} with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')"]
    prefix, name = parts
    if not prefix:
        errors = ["prefix part must be non-empty"]
    else:
        errors = [f"prefix part {e}" for e in dns1123_subdomain(prefix)]
    return errors + _name_part(name)


def label_value(value: str) -> list[str]:
    errors = [max_bytes(LABEL_MAX)] if len(value) > LABEL_MAX else []
    if not _matches(_LABEL_VALUE, value):
        message = (
            "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', "
            "and must start and end with an alphanumeric character"
        )
        errors.append(regex_text(message, _LABEL_VALUE, "MyValue", "my_value", "12345"))
    return errors


def config_map_key(value: str) -> list[str]:
    errors = [max_len(SUBDOMAIN_MAX)] if len(value) > SUBDOMAIN_MAX else []
    if not _matches(_CONFIG_KEY, value):
        message = "a valid config key must consist of alphanumeric characters, '-', '_' or '.'"
        errors.append(regex_text(message, _CONFIG_KEY, "key.name", "KEY_NAME", "key-name"))
    if value == ".":
        errors.append("must not be '.'")
    elif value == "..":
        errors.append("must not be '..'")
    elif value.startswith(".."):
        errors.append("must not start with '..'")
    return errors


def env_var_name(value: str) -> list[str]:
    if value and all(" " <= c <= "~" and c != "=" for c in value):
        return []
    return ["a valid environment variable name must consist only of printable ASCII characters other than '='"]


def port_name(value: str) -> list[str]:
    """An IANA service name: what a container's or service's target port may be called."""
    errors: list[str] = []
    if len(value) > 15:
        errors.append(max_len(15))
    if not _matches("[-a-z0-9]+", value):
        errors.append("must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)")
    if not re.search("[a-z]", value):
        errors.append("must contain at least one letter (a-z)")
    if "--" in value:
        errors.append("must not contain consecutive hyphens")
    if value and (value[0] == "-" or value[-1] == "-"):
        errors.append("must not begin or end with a hyphen")
    return errors


def port_number(value: int) -> list[str]:
    return [] if 1 <= value <= 65535 else ["must be between 1 and 65535, inclusive"]


def percent(value: str) -> list[str]:
    if _matches(_PERCENT, value):
        return []
    message = "a valid percent string must be a numeric string followed by an ending '%'"
    return [regex_text(message, _PERCENT, "1%", "93%")]


def c_identifier(value: str) -> list[str]:
    if _matches(_CIDENTIFIER, value):
        return []
    message = (
        "a valid C identifier must start with alphabetic character or '_', followed by a string of alphanumeric "
        "characters or '_'"
    )
    return [regex_text(message, _CIDENTIFIER, "my_name", "MY_NAME", "MyName")]


def interface_address(value: str) -> list[str]:
    """An address with the length of its network: `10.9.8.7/24`."""
    address, _, bits = value.partition("/")
    try:
        canonical = str(ipaddress.ip_interface(f"{address}/{int(bits)}"))
    except ValueError:
        return ["must be a valid address in CIDR form, (e.g. 10.9.8.7/24 or 2001:db8::1/64)"]
    return [] if value == canonical else [f'must be in canonical form ("{canonical}")']


def path_segment(value: str, prefix: bool = False) -> list[str]:
    """The least that any name must be: something that stands between two slashes of a URL."""
    if value in (".", ".."):
        return [f"may not be '{value}'"] if not prefix else []
    return [f"may not contain '{c}'" for c in "/%" if c in value]


_IP_MESSAGE: Final = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"
_CIDR_MESSAGE: Final = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)"
_LEADING_ZEROS: Final = "(?<![0-9])0+(?=[0-9])"

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def _without_leading_zeros(value: str) -> str:
    """The decimal numbers of an address without the zeros before them, which Go used to read over."""
    head, colon, tail = value.rpartition(":")
    return head + colon + (re.sub(_LEADING_ZEROS, "", tail) if "." in tail else tail)


def parse_ip(value: str) -> Address | None:
    """An address as Kubernetes has always read it: with zeros before its numbers, and without a zone."""
    try:
        return None if "%" in value else ipaddress.ip_address(_without_leading_zeros(value))
    except ValueError:
        return None


def _mapped(address: Address) -> ipaddress.IPv4Address | None:
    """The IPv4 address that an IPv6 address stands for (`::ffff:1.2.3.4`)."""
    return address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None


def plain(address: Address) -> Address:
    """Go has one value for an IPv4 address and the IPv6 address that stands for it."""
    return _mapped(address) or address


def ip(value: str) -> list[str]:
    address = parse_ip(value)
    if address is None:
        return [_IP_MESSAGE]
    if _without_leading_zeros(value) != value:
        return ["must not have leading 0s"]
    return ["must not be an IPv4-mapped IPv6 address"] if _mapped(address) else []


def parse_cidr(value: str) -> tuple[Address, Network] | None:
    """The address and the range around it."""
    address, slash, bits = value.partition("/")
    found = parse_ip(address)
    if found is None or not slash or not _matches("[0-9]+", bits) or int(bits) > found.max_prefixlen:
        return None
    return found, ipaddress.ip_network(f"{found}/{int(bits)}", strict=False)


def cidr(value: str) -> list[str]:
    parsed = parse_cidr(value)
    if parsed is None:
        return [_CIDR_MESSAGE]
    address, network = parsed
    given, _, bits = value.partition("/")
    if _without_leading_zeros(given) != given or str(int(bits)) != bits:
        return ["must not have leading 0s in IP or prefix length"]
    if _mapped(address):
        return ["must not have an IPv4-mapped IPv6 address"]
    return [] if address == network.network_address else ["must not have bits set beyond the prefix length"]


def ip_warnings(path: str, value: str) -> list[str]:
    """What is said about an address that is accepted, and yet not written as it should be."""
    address = parse_ip(value)
    if address is None:
        return []
    if _without_leading_zeros(value) != value or _mapped(address):
        says = "will be considered invalid in a future Kubernetes release"
        return [f'{path}: non-standard IP address "{value}" {says}: use "{plain(address)}"']
    if address.version == 6 and str(address) != value:
        return [f'{path}: IPv6 address "{value}" should be in RFC 5952 canonical format ("{address}")']
    return []


def cidr_warnings(path: str, value: str) -> list[str]:
    parsed = parse_cidr(value)
    if parsed is None:
        return []
    address, network = parsed
    shown = f"{plain(network.network_address)}/{network.prefixlen}"
    warnings: list[str] = []
    if address != network.network_address:
        alone = f"{plain(address)}/{address.max_prefixlen}"
        meant = f'should be "{shown}" or "{alone}"?'
        warnings.append(f'{path}: CIDR value "{value}" is ambiguous in this context ({meant})')
    given, _, bits = value.partition("/")
    if _without_leading_zeros(given) != given or str(int(bits)) != bits or _mapped(address):
        says = "will be considered invalid in a future Kubernetes release"
        warnings.append(f'{path}: non-standard CIDR value "{value}" {says}: use "{shown}"')
    if not warnings and address.version == 6 and f"{address}/{bits}" != value:
        canonical = f"{address}/{bits}"
        warnings.append(f'{path}: IPv6 CIDR value "{value}" should be in RFC 5952 canonical format ("{canonical}")')
    return warnings


def special_ip(value: str) -> list[str]:
    """Problems of an address that traffic is to be sent to: not this machine, not a group of machines."""
    parsed = parse_ip(value)
    if parsed is None:
        return ["must be a valid IP address"]
    address = plain(parsed)
    errors: list[str] = []
    if address.is_unspecified:
        errors.append(f"may not be unspecified ({value})")
    if address.is_loopback:
        errors.append("may not be in the loopback range (127.0.0.0/8, ::1/128)")
    if address.is_link_local:
        errors.append("may not be in the link-local range (169.254.0.0/16, fe80::/10)")
    if address in (_LINK_LOCAL_GROUP_4 if address.version == 4 else _LINK_LOCAL_GROUP_6):
        errors.append("may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)")
    return errors


def fully_qualified_domain(value: str) -> list[str]:
    """A domain of at least three segments, as webhook names and finalizer prefixes must be."""
    errors = dns1123_subdomain(value)
    if errors:
        return errors
    if len(value.split(".")) < 3:
        return ["should be a domain with at least three segments separated by dots"]
    return []


def http_header(value: str) -> list[str]:
    if _matches(_HEADER, value):
        return []
    message = "a valid HTTP header must consist of alphanumeric characters or '-'"
    return [regex_text(message, _HEADER, "X-Header-Name")]


def dns_search(value: str) -> list[str]:
    """A domain that names are looked for in: underscores are taken there."""
    errors = [max_len(SUBDOMAIN_MAX)] if len(value) > SUBDOMAIN_MAX else []
    if not _matches(_UNDERSCORED, value):
        message = _SUBDOMAIN_MESSAGE.replace("'-' or '.'", "'_', '-' or '.'")
        errors.append(regex_text(message, _UNDERSCORED, "example.com"))
    return errors


def http_path_in_domain(value: str) -> list[str]:
    return [] if _matches(_PATH_IN_DOMAIN, value) else [regex_text("Invalid path", _PATH_IN_DOMAIN, "acme.io/foo")]


# Rules for metadata.name. A prefix may end in a dash, because a suffix follows it.


def _mask(value: str, prefix: bool) -> str:
    return value[:-1] + "a" if prefix and len(value) > 1 and value.endswith("-") else value


def subdomain_name(value: str, prefix: bool) -> list[str]:
    return dns1123_subdomain(_mask(value, prefix))


def label_name(value: str, prefix: bool) -> list[str]:
    return dns1123_label(_mask(value, prefix))


def segment_name(value: str, prefix: bool) -> list[str]:
    return path_segment(value, prefix)
