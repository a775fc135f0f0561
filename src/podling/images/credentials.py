"""Who we are to a registry: a pod's pull secrets first, else what `docker login` left in `~/.docker/config.json`.

Format: docs.docker.com/reference/cli/docker/login. Credential helpers are the small programs of Docker's own protocol
(`docker-credential-NAME get`); a helper that knows nothing, or is not installed, means anonymous.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from podling.images.references import DEFAULT_DOMAIN

_HUB_KEYS = ("https://index.docker.io/v1/", "index.docker.io", "docker.io", "registry-1.docker.io")
_HELPER_TIMEOUT = 10.0
_TOKEN_USER = "<token>"
"""The user name by which helpers say that the secret is an identity token (Docker's own convention)."""


@dataclass(frozen=True, slots=True)
class Login:
    """`token`: an identity token for the OAuth flow, instead of user and password."""

    user: str = ""
    password: str = ""
    token: str = ""

    def basic(self) -> str:
        return "Basic " + base64.b64encode(f"{self.user}:{self.password}".encode()).decode()


@dataclass(frozen=True, slots=True)
class Credentials:
    """Documents in Docker's configuration format, the first that knows a registry wins."""

    documents: Sequence[Mapping[str, Any]] = field(default_factory=lambda: tuple[Mapping[str, Any], ...]())

    def login(self, domain: str, repository: str) -> Login | None:
        """For `docker.io` and `library/nginx`. A secret may be for a registry or for a path in it; longest first."""
        for document in (*self.documents, _user_document()):
            found = _from_document(document, domain, repository)
            if found is not None:
                return found
        return None


def _user_document() -> Mapping[str, Any]:
    directory = os.environ.get("DOCKER_CONFIG") or Path(os.environ.get("HOME", "/"), ".docker")
    try:
        document = json.loads(Path(directory, "config.json").read_bytes())
    except (OSError, ValueError):
        return {}
    return document if isinstance(document, dict) else {}  # pyright: ignore[reportUnknownVariableType]  JSON


def _from_document(document: Mapping[str, Any], domain: str, repository: str) -> Login | None:
    entries: Mapping[str, Any] = document.get("auths") or {}
    keys = _HUB_KEYS if domain == DEFAULT_DOMAIN else _keys(domain, repository)
    by_place = {_place(key): value for key, value in entries.items()}
    for key in keys:
        login = _from_entry(by_place.get(_place(key)) or {})
        if login is not None:
            return login
    helpers: Mapping[str, Any] = document.get("credHelpers") or {}
    helper = helpers.get(domain) or document.get("credsStore")
    return _ask_helper(str(helper), keys[-1] if domain != DEFAULT_DOMAIN else keys[0]) if helper else None


def _keys(domain: str, repository: str) -> tuple[str, ...]:
    parts = repository.split("/")
    return (*(f"{domain}/{'/'.join(parts[:count])}" for count in range(len(parts), 0, -1)), domain)


def _place(key: str) -> str:
    """`https://ghcr.io/v2/` and `ghcr.io` are the same registry."""
    text = key.partition("://")[2] or key
    for suffix in ("/", "/v1", "/v2"):
        text = text.removesuffix(suffix)
    return text


def _from_entry(entry: Mapping[str, Any]) -> Login | None:
    if entry.get("identitytoken"):
        return Login(token=str(entry["identitytoken"]))
    if entry.get("username"):
        return Login(str(entry["username"]), str(entry.get("password", "")))
    if not entry.get("auth"):
        return None
    try:
        user, _, password = base64.b64decode(str(entry["auth"])).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return None
    return Login(user, password.rstrip("\x00"))


def _ask_helper(name: str, server: str) -> Login | None:
    try:
        done = subprocess.run(
            [f"docker-credential-{name}", "get"], input=server.encode(), capture_output=True, timeout=_HELPER_TIMEOUT
        )
        answer: dict[str, Any] = json.loads(done.stdout) if done.returncode == 0 else {}
    except (OSError, subprocess.SubprocessError, ValueError):
        return None
    user, secret = str(answer.get("Username", "")), str(answer.get("Secret", ""))
    if not secret:
        return None
    return Login(token=secret) if user == _TOKEN_USER else Login(user, secret)
