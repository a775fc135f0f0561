"""Kubernetes' own types: quantities, addresses, URLs, versions, named formats (`k8s.io/apiserver/pkg/cel/library`)."""

# The functions of the table are one-line lambdas over values that the checker has typed already.
# pyright: reportUnknownLambdaType=false, reportUnknownMemberType=false, reportUnknownArgumentType=false
# pyright: reportUnknownVariableType=false

from __future__ import annotations

import ipaddress
import re
import urllib.parse
from collections.abc import Callable, Iterable
from fractions import Fraction
from typing import Any, Final

from podling.api import quantity
from podling.api.gotext import quoted
from podling.api.gourl import request_uri
from podling.cel.standard import INT_HIGH, INT_LOW
from podling.cel.values import CelError, Opaque, Optional, Quantity


def _quantity(text: str) -> Quantity:
    try:
        return Quantity(Fraction(quantity.of(text).nanos, 10**9), text)
    except quantity.QuantityError as error:
        raise CelError(str(error)) from None


def _is(parse: Callable[[str], Any]) -> Callable[[str], bool]:
    def check(text: str) -> bool:
        try:
            parse(text)
        except CelError:
            return False
        return True

    return check


def _whole(value: Quantity) -> int:
    if value.amount.denominator != 1 or not INT_LOW <= value.amount <= INT_HIGH:
        raise CelError("cannot convert value to integer")
    return int(value.amount)


def _as_quantity(amount: Fraction) -> Quantity:
    return Quantity(amount, str(int(amount)) if amount.denominator == 1 else f"{int(amount * 1000)}m")


def _added(value: Quantity, other: Quantity | int, sign: int = 1) -> Quantity:
    more = other.amount if isinstance(other, Quantity) else Fraction(other)
    return _as_quantity(value.amount + sign * more)


def _compared(one: Any, other: Any) -> int:
    return (one > other) - (one < other)


def _ip(text: str) -> Opaque:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        why = f"ParseAddr({quoted(text)}): {_ip_problem(text)}"
        words = "parse error during conversion from string"
        raise CelError(f"IP Address {quoted(text)} {words}: {why}") from None
    if "%" in text:
        raise CelError(f"IP address {quoted(text)} with zone value is not allowed")
    _refuse_mapped(text, address)
    return Opaque("net.IP", address)


def _ip_problem(text: str) -> str:
    """Go's words for the commonest mistakes."""
    if ":" not in text and "." not in text:
        return "unable to parse IP"
    if ":" in text:
        return "each colon-separated field must have at least one digit"
    parts = text.split(".")
    if any(part.isdecimal() and int(part) > 255 for part in parts):
        return "IPv4 field has value >255"
    if any(part.isdecimal() and len(part) > 1 and part.startswith("0") for part in parts):
        return "IPv4 field has octet with leading zero"
    if any(not part.isdecimal() for part in parts if part):
        odd = next(c for c in text if not c.isdecimal() and c != ".")
        return f"unexpected character (at {quoted(text[text.index(odd) :])})"
    return "IPv4 address too short" if len(parts) < 4 else "IPv4 address too long"


def _refuse_mapped(text: str, address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> None:
    if address.version == 6 and address.ipv4_mapped is not None:
        raise CelError(f"IPv4-mapped IPv6 address {quoted(text)} is not allowed")


def _cidr(text: str) -> Opaque:
    try:
        if "/" not in text:
            raise ValueError("no '/'")
        interface = ipaddress.ip_interface(text)
    except ValueError as error:
        why = f"netip.ParsePrefix({quoted(text)}): {'no ' + repr('/') if '/' not in text else error}"
        raise CelError(f"network address parse error during conversion from string: {why}") from None
    _refuse_mapped(text, interface.ip)
    return Opaque("net.CIDR", interface)


def _holds_ip(net: Opaque, address: Opaque) -> bool:
    network = net.value.network
    return bool(address.value.version == network.version and address.value in network)


def _holds_net(net: Opaque, other: Opaque) -> bool:
    outer, inner = net.value.network, other.value.network
    return bool(outer.version == inner.version and inner.subnet_of(outer))


_PATH: Final = re.compile(r"[\w.~!$&'()*+,;=:@\[\]/%-]*", re.ASCII)


def _url(text: str) -> Opaque:
    try:
        return Opaque("kubernetes.URL", request_uri(text))
    except ValueError as error:
        raise CelError(f"URL parse error during conversion from string: parse {quoted(text)}: {error}") from None


def _host(url: Opaque) -> str:
    return str(url.value.netloc.rpartition("@")[2])


def _port(url: Opaque) -> str:
    name, colon, port = _host(url).rpartition(":")
    return port if colon and not name.endswith(":") and "]" not in port else ""


def _hostname(url: Opaque) -> str:
    host, port = _host(url), _port(url)
    return host.removesuffix(f":{port}" if port else ":").removeprefix("[").removesuffix("]")


def _escaped_path(url: Opaque) -> str:
    path: str = url.value.path
    return path if _PATH.fullmatch(path) else urllib.parse.quote(urllib.parse.unquote(path), safe="$&+,/:;=@~")


def _query(url: Opaque) -> dict[str, list[str]]:
    return urllib.parse.parse_qs(url.value.query, keep_blank_values=True)


_SEMVER: Final = re.compile(
    r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)(?:-([0-9A-Za-z.-]+))?(?:\+[0-9A-Za-z.-]+)?", re.ASCII
)


def _semver(text: str, normalize: bool = False) -> Opaque:
    if normalize:
        text = text.removeprefix("v")
        numbers, mark, rest = re.fullmatch(r"([\d.]*)(.?)(.*)", text, re.DOTALL).groups()  # type: ignore[union-attr]
        parts = [str(int(p or 0)) for p in [*numbers.split("."), "0", "0"][:3]]
        text = ".".join(parts) + mark + rest
    match = _SEMVER.fullmatch(text)
    if match is None:
        raise CelError("No Major.Minor.Patch elements found")
    return Opaque("kubernetes.Semver", _SemverKey(match))


class _SemverKey:
    def __init__(self, match: re.Match[str]) -> None:
        self.numbers = tuple(int(match[at]) for at in (1, 2, 3))
        before = match[4]
        pieces = before.split(".") if before else []
        self.rank = (not before, [(not p.isdecimal(), int(p) if p.isdecimal() else 0, p) for p in pieces])
        self.key = (*self.numbers, *self.rank)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _SemverKey) and self.key == other.key

    def __hash__(self) -> int:
        return hash(self.numbers)

    def __lt__(self, other: _SemverKey) -> bool:
        return self.key < other.key

    def __gt__(self, other: _SemverKey) -> bool:
        return self.key > other.key


def _is_whole(value: Quantity) -> bool:
    return value.amount.denominator == 1 and INT_LOW <= value.amount <= INT_HIGH


def _is_link_local_multicast(address: Opaque) -> bool:
    networks = {4: "224.0.0.0/24", 6: "ff02::/16"}
    return address.value in ipaddress.ip_network(networks[address.value.version])


def _is_global_unicast(address: Opaque) -> bool:
    value = address.value
    return not (value.is_unspecified or value.is_loopback or value.is_multicast or value.is_link_local)


_LABEL: Final = "[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?"


_NAMED_RULES: Final = {
    "dns1123Label": (_LABEL, 63),
    "dns1123Subdomain": (rf"{_LABEL}(\.{_LABEL})*", 253),
    "dns1035Label": ("[a-z]([-a-z0-9]*[a-z0-9])?", 63),
    "dns1123LabelPrefix": ("[a-z0-9][-a-z0-9]*", 63),
    "dns1123SubdomainPrefix": (rf"({_LABEL}\.)*[a-z0-9][-a-z0-9]*", 253),
    "dns1035LabelPrefix": ("[a-z][-a-z0-9]*", 63),
    "qualifiedName": (rf"({_LABEL}(\.{_LABEL})*/)?[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?", 317),
    "labelValue": ("([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?", 63),
    "uri": (r"([A-Za-z][A-Za-z0-9+.-]*:|/)\S*", 1000),
    "uuid": ("[0-9a-fA-F]{8}-?[0-9a-fA-F]{4}-?[0-9a-fA-F]{4}-?[0-9a-fA-F]{4}-?[0-9a-fA-F]{12}", 45),
    "byte": ("([A-Za-z0-9+/]{4})*([A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?", 1 << 20),
    "date": (r"\d{4}-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])", 10),
    "datetime": (
        r"\d{4}-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])[Tt ]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:?\d\d)",
        64,
    ),
}
"""Pattern and greatest length of each format."""


_NAMED_FORMAT: Final = "kubernetes.NamedFormat"


def _named_format(name: str) -> Optional:
    return Optional(Opaque(_NAMED_FORMAT, name), True) if name in _NAMED_RULES else Optional()


def is_formatted(name: str) -> Callable[[str], bool]:
    pattern, longest = _NAMED_RULES[name]
    return lambda text: len(text) <= longest and re.fullmatch(pattern, text, re.ASCII) is not None


def _validated(form: Opaque, text: str) -> Optional:
    if is_formatted(form.value)(text):
        return Optional()
    return Optional([f"must be a valid {form.value}"], True)


def overloads() -> Iterable[tuple[str, Callable[..., Any]]]:
    q = "kubernetes.Quantity"
    yield f"quantity(string) {q}", _quantity
    yield "isQuantity(string) bool", _is(_quantity)
    yield f"{q}.isInteger() bool", _is_whole
    yield f"{q}.asInteger() int", _whole
    yield f"{q}.asApproximateFloat() double", lambda a: float(a.amount)
    yield f"{q}.sign() int", lambda a: _compared(a.amount, 0)
    for other in (q, "int"):
        yield f"{q}.add({other}) {q}", _added
        yield f"{q}.sub({other}) {q}", lambda a, b: _added(a, b, -1)
    yield f"{q}.isGreaterThan({q}) bool", lambda a, b: a.amount > b.amount
    yield f"{q}.isLessThan({q}) bool", lambda a, b: a.amount < b.amount
    yield f"{q}.compareTo({q}) int", lambda a, b: _compared(a.amount, b.amount)
    yield "ip(string) net.IP", _ip
    yield "isIP(string) bool", _is(_ip)
    yield "ip.isCanonical(string) bool", lambda text: str(_ip(text).value) == text
    yield "net.IP.family() int", lambda a: a.value.version
    yield "net.IP.isUnspecified() bool", lambda a: a.value.is_unspecified
    yield "net.IP.isLoopback() bool", lambda a: a.value.is_loopback
    yield "net.IP.isLinkLocalMulticast() bool", _is_link_local_multicast
    yield "net.IP.isLinkLocalUnicast() bool", lambda a: a.value.is_link_local
    yield "net.IP.isGlobalUnicast() bool", _is_global_unicast
    yield "cidr(string) net.CIDR", _cidr
    yield "isCIDR(string) bool", _is(_cidr)
    yield "net.CIDR.containsIP(net.IP) bool", _holds_ip
    yield "net.CIDR.containsIP(string) bool", lambda a, b: _holds_ip(a, _ip(b))
    yield "net.CIDR.containsCIDR(net.CIDR) bool", _holds_net
    yield "net.CIDR.containsCIDR(string) bool", lambda a, b: _holds_net(a, _cidr(b))
    yield "net.CIDR.ip() net.IP", lambda a: Opaque("net.IP", a.value.ip)
    yield "net.CIDR.masked() net.CIDR", lambda a: _cidr(str(a.value.network))
    yield "net.CIDR.prefixLength() int", lambda a: a.value.network.prefixlen
    u = "kubernetes.URL"
    yield f"url(string) {u}", _url
    yield "isURL(string) bool", _is(_url)
    yield f"{u}.getScheme() string", lambda a: a.value.scheme
    yield f"{u}.getHost() string", _host
    yield f"{u}.getHostname() string", _hostname
    yield f"{u}.getPort() string", _port
    yield f"{u}.getEscapedPath() string", _escaped_path
    yield f"{u}.getQuery() map<string,list<string>>", _query
    s = "kubernetes.Semver"
    yield f"semver(string) {s}", _semver
    yield f"semver(string, bool) {s}", _semver
    yield "isSemver(string) bool", _is(_semver)
    yield "isSemver(string, bool) bool", lambda a, b: _is(lambda text: _semver(text, b))(a)
    for at, part in enumerate(("major", "minor", "patch")):
        yield f"{s}.{part}() int", lambda a, at=at: a.value.numbers[at]
    yield f"{s}.isGreaterThan({s}) bool", lambda a, b: a.value > b.value
    yield f"{s}.isLessThan({s}) bool", lambda a, b: a.value < b.value
    yield f"{s}.compareTo({s}) int", lambda a, b: _compared(a.value, b.value)
    yield "format.named(string) ?kubernetes.NamedFormat", _named_format
    for name in _NAMED_RULES:
        yield f"format.{name}() kubernetes.NamedFormat", lambda name=name: Opaque(_NAMED_FORMAT, name)
    yield "kubernetes.NamedFormat.validate(string) ?list<string>", _validated
    yield "jsonpatch.escapeKey(string) string", lambda a: a.replace("~", "~0").replace("/", "~1")
