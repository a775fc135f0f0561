"""What the host's package managers are set up with, for RUN steps on a base that the host stands in for.

`pip install` in such a step must work as it does on the host: with its package index, its certificates, its proxy.
System-wide settings come with the host's `/etc`; this adds the user's own: a few environment variables, `pip.conf` and
`.npmrc`, and directories of packages that they point to. All of it is there during the step only, never in the image.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

_PREFIXES = ("PIP_", "UV_", "NPM_CONFIG_", "npm_config_")
_NAMES = frozenset(
    (
        *("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "NODE_EXTRA_CA_CERTS"),
        *("GIT_SSL_CAINFO", "GOPROXY", "GOSUMDB", "GONOSUMDB", "GOPRIVATE", "GONOPROXY"),
    )
)
_OF_THE_HOST = re.compile(r"(CACHE|CONFIG_FILE|USERCONFIG|PREFIX|PYTHON|TARGET|ROOT|LOG|TOOL|VIRTUAL)", re.IGNORECASE)
"""Variables that say where on the host something is to be put."""

_DIRECTORY = "/run/podling"
_PATH = re.compile(r"(?:file://)?(/[^\s,;'\"]+)")
_COMES_ALONG = ("/etc/", "/usr/", "/proc/", "/dev/", "/bin/", "/lib/")


@dataclass(frozen=True, slots=True)
class Setup:
    """What a step gets besides its own."""

    environment: dict[str, str]
    files: dict[str, str]
    """Text by path in the container."""
    paths: tuple[str, ...]
    """Directories and files of the host, to be bound at their own path."""


def setup(home: Path, environment: Mapping[str, str]) -> Setup:
    """The settings of the user with that home and environment."""
    chosen = {name: value for name, value in environment.items() if _is_setting(name)}
    files: dict[str, str] = {}
    for variable, name, candidates in (
        ("PIP_CONFIG_FILE", "pip.conf", _pip_configurations(home, environment)),
        ("NPM_CONFIG_USERCONFIG", "npmrc", [home / ".npmrc"]),
    ):
        text = next((text for path in candidates if (text := _text(path))), "")
        if text:
            files[f"{_DIRECTORY}/{name}"] = text
            chosen[variable] = f"{_DIRECTORY}/{name}"
    system = _text(Path("/etc/pip.conf"))
    named = [path for text in (*chosen.values(), *files.values(), system) for path in _paths(text)]
    return Setup(chosen, files, tuple(dict.fromkeys(path for path in named if not path.startswith(_DIRECTORY))))


def _is_setting(name: str) -> bool:
    return name in _NAMES or (name.startswith(_PREFIXES) and not _OF_THE_HOST.search(name))


def _pip_configurations(home: Path, environment: Mapping[str, str]) -> list[Path]:
    named = environment.get("PIP_CONFIG_FILE")
    base = Path(environment.get("XDG_CONFIG_HOME") or home / ".config")
    return [*([Path(named)] if named else []), base / "pip/pip.conf", home / ".pip/pip.conf"]


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return ""


def _paths(text: str) -> Iterator[str]:
    """Packages on the host's own disk: what exists and does not come along with the system directories."""
    for found in _PATH.findall(text):
        path = Path(found)
        if found.startswith(_COMES_ALONG) or len(path.parts) < 3 or not path.exists():
            continue
        # The pages of an index (PEP 503) are in `simple`, and link to files beside it.
        beside = path.parent if path.name == "simple" and len(path.parts) > 3 else path
        yield str(beside)
