"""Image names: how `my-monitor-app:v1` becomes `docker.io/library/my-monitor-app:v1`.

The grammar and its error texts are those of the distribution project (github.com/distribution/reference), which
containerd, Docker and the kubelet all share; the kubelet puts its own sentence around them (`InvalidImageName`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from podling.images.errors import ImageError

DEFAULT_DOMAIN = "docker.io"
DEFAULT_TAG = "latest"
_LEGACY_DOMAIN = "index.docker.io"
_OFFICIAL = "library/"
_MAX_NAME_LENGTH = 255

_DOMAIN_NAME = r"(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])"
_DOMAIN = rf"(?:{_DOMAIN_NAME}(?:\.{_DOMAIN_NAME})*|\[(?:[a-fA-F0-9:]+)\])(?::[0-9]+)?"
_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_REFERENCE = re.compile(
    rf"(?P<domain>{_DOMAIN})/(?P<path>{_COMPONENT}(?:/{_COMPONENT})*)"
    r"(?::(?P<tag>[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}))?"
    r"(?:@(?P<digest>[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{32,}))?"
)
_BARE_ID = re.compile(r"[a-f0-9]{64}")
_DIGEST_LENGTHS = {"sha256": 64, "sha384": 96, "sha512": 128}


class InvalidReference(ValueError):
    """A name that is not an image reference; the text is the distribution project's."""


@dataclass(frozen=True, slots=True)
class Reference:
    """A complete image reference: `domain/path[:tag][@digest]`."""

    domain: str
    path: str
    tag: str = ""
    digest: str = ""

    @property
    def name(self) -> str:
        """Where the image lives, without version: `docker.io/library/nginx`."""
        return f"{self.domain}/{self.path}"

    @property
    def familiar(self) -> str:
        """As people write it: `nginx:1.27`, `quay.io/org/app:v1`."""
        name = self.name
        if self.domain == DEFAULT_DOMAIN:
            name = self.path.removeprefix(_OFFICIAL) if self.path.count("/") == 1 else self.path
        return name + self._version()

    @property
    def version(self) -> str:
        """What the registry is asked for: the digest where there is one, else the tag."""
        return self.digest or self.tag

    def with_default_tag(self) -> Reference:
        """`:latest` where neither tag nor digest is given (kubelet and Docker alike)."""
        return self if self.tag or self.digest else replace(self, tag=DEFAULT_TAG)

    def _version(self) -> str:
        return (f":{self.tag}" if self.tag else "") + (f"@{self.digest}" if self.digest else "")

    def __str__(self) -> str:
        return self.name + self._version()


def parse(text: str) -> Reference:
    """A reference in its normal form, without adding a tag; raises `InvalidReference`."""
    if _BARE_ID.fullmatch(text):
        raise InvalidReference(f"invalid repository name ({text}), cannot specify 64-byte hexadecimal strings")
    domain, remainder = _split_domain(text)
    _refuse_uppercase(remainder)
    match = _REFERENCE.fullmatch(f"{domain}/{remainder}")
    if match is None:
        raise InvalidReference("invalid reference format")
    if len(match["domain"]) + 1 + len(match["path"]) > _MAX_NAME_LENGTH:
        raise InvalidReference(f"repository name must not be more than {_MAX_NAME_LENGTH} characters")
    digest = match["digest"] or ""
    if digest:
        _check_digest(digest)
    return Reference(match["domain"], match["path"], match["tag"] or "", digest)


def parse_image(text: str) -> Reference:
    """The `image` of a container as the kubelet takes it: with the default tag; raises `InvalidImageName`."""
    try:
        return parse(text).with_default_tag()
    except InvalidReference as error:
        message = f'Failed to apply default image tag "{text}": couldn\'t parse image name "{text}": {error}'
        raise ImageError("InvalidImageName", message) from error


def _split_domain(text: str) -> tuple[str, str]:
    """The registry is what stands before the first `/`, if it looks like a host rather than a user name."""
    first, slash, rest = text.partition("/")
    is_host = "." in first or ":" in first or first == "localhost" or first.lower() != first
    if not slash or not is_host:
        domain, remainder = DEFAULT_DOMAIN, text
    else:
        domain, remainder = first, rest
    if domain == _LEGACY_DOMAIN:
        domain = DEFAULT_DOMAIN
    if domain == DEFAULT_DOMAIN and "/" not in remainder:
        remainder = _OFFICIAL + remainder
    return domain, remainder


def _refuse_uppercase(remainder: str) -> None:
    name = remainder.partition("@")[0].partition(":")[0]
    if name.lower() != name:
        raise InvalidReference(f"invalid reference format: repository name ({name}) must be lowercase")


def _check_digest(digest: str) -> None:
    algorithm, _, value = digest.partition(":")
    length = _DIGEST_LENGTHS.get(algorithm)
    if length is None:
        raise InvalidReference("unsupported digest algorithm")
    if len(value) != length:
        raise InvalidReference("invalid checksum digest length")
    if value.lower() != value:
        raise InvalidReference("invalid checksum digest format")
