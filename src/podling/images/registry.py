"""Fetches images from registries: the OCI distribution protocol, as far as pulling needs it.

Every transfer is checked against its digest. A download that breaks is taken up where it stopped. Whether a registry
*answers* is a question of its own: a machine without a way to registries must find out quickly, once, and then live
with what it has, so `RegistryUnreachable` is told apart from every other refusal and remembered for a while.
(github.com/opencontainers/distribution-spec; token authentication: distribution.github.io/distribution/spec/auth.)
"""

from __future__ import annotations

import gzip
import hashlib
import http.client
import json
import platform
import re
import shutil
import socket
import ssl
import subprocess
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Generator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, NoReturn

from podling.images import config, layers
from podling.images.credentials import Credentials, Login
from podling.images.references import DEFAULT_DOMAIN, Reference
from podling.images.store import Image, Store

Connect = Callable[[str, int, float], socket.socket]
"""(host, port, timeout in seconds) -> a connected socket; raises `OSError`."""

_HUB = "registry-1.docker.io"
_CONNECT_TIMEOUT = 3.0
_READ_TIMEOUT = 60.0
_SILENCE = 300.0
"""Seconds for which a registry that did not answer is not asked again."""
_ATTEMPTS = 4
_PARALLEL = 3
_MAX_REDIRECTS = 5
_MAX_DOCUMENT = 8 << 20
_CHUNK = 1 << 20
_INDEXES = ("application/vnd.oci.image.index.v1+json", "application/vnd.docker.distribution.manifest.list.v2+json")
_MANIFESTS = ("application/vnd.oci.image.manifest.v1+json", "application/vnd.docker.distribution.manifest.v2+json")
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "i686": "386"}


class RegistryError(Exception):
    """A registry's refusal, or an answer that makes no sense."""

    not_found = False


class NotFound(RegistryError):
    """The registry does not have it."""

    not_found = True


class RegistryUnreachable(RegistryError):
    """Nothing that is a registry answered."""


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class _Repository:
    """One repository at one registry, and how to speak to it."""

    reference: Reference
    login: Login | None

    @property
    def host(self) -> str:
        return _HUB if self.reference.domain == DEFAULT_DOMAIN else self.reference.domain

    @property
    def base(self) -> str:
        """Plain HTTP only to this machine itself, as Docker and containerd have it."""
        scheme = "http" if _is_loopback(self.host) else "https"
        return f"{scheme}://{self.host}/v2/{self.reference.path}"


class Registry:
    """Pulls images. May be used by several threads; remembers tokens, and who did not answer."""

    def __init__(
        self,
        *,
        connect: Connect | None = None,
        tls: ssl.SSLContext | None = None,
        clock: Callable[[], float] = time.monotonic,
        architecture: str = "",
    ) -> None:
        self._connect = connect or _connect
        self._tls = tls
        self._clock = clock
        self.architecture = architecture or _ARCHITECTURES.get(platform.machine(), platform.machine())
        self._tokens: dict[tuple[str, str], str] = {}
        self._silent: dict[str, tuple[float, str]] = {}

    def pull(self, reference: Reference, store: Store, credentials: Credentials) -> Image:
        """Fetches an image into the store under its name. Raises `RegistryError`, `OSError` for the disk."""
        repository = _Repository(reference, credentials.login(reference.domain, reference.path))
        self._refuse_silent(repository)
        try:
            manifest, digest = self._manifest(repository)
            document = self._blob_bytes(repository, manifest["config"])
            diff_ids = config.decode(document).diff_ids
            descriptors: list[dict[str, Any]] = manifest["layers"]
        except (KeyError, TypeError, ValueError) as error:
            raise RegistryError(f"the manifest of {reference} makes no sense: {error!r}") from error
        if len(diff_ids) != len(descriptors):
            raise RegistryError(f"{len(descriptors)} layers, but {len(diff_ids)} diff_ids in the configuration")
        self._fetch_layers(repository, store, dict(zip(diff_ids, descriptors, strict=True)))
        return store.add(document, [reference], origin="pulled", digest=digest)

    def _manifest(self, repository: _Repository) -> tuple[dict[str, Any], str]:
        """The manifest for this machine, and the digest that the name stands for."""
        reference = repository.reference
        try:
            answer = self._manifest_answer(repository, reference.version)
        except NotFound:
            raise NotFound(f'failed to resolve reference "{reference}": {reference}: not found') from None
        except RegistryUnreachable:
            raise
        except RegistryError as error:
            raise RegistryError(f'failed to resolve reference "{reference}": {error}') from error
        digest = config.digest_of(answer.body)
        if reference.digest and reference.digest != digest:
            raise RegistryError(f"digest mismatch: got {digest} for {reference}")
        document = json.loads(answer.body)
        if _media_type(answer, document) in _INDEXES:
            chosen = self._for_this_machine(reference, document)
            answer = self._manifest_answer(repository, chosen)
            _check_digest(chosen, answer.body)
            document = json.loads(answer.body)
        if _media_type(answer, document) not in _MANIFESTS:
            raise RegistryError(f"unsupported manifest media type {_media_type(answer, document)!r}")
        return document, digest

    def _manifest_answer(self, repository: _Repository, version: str) -> _Answer:
        accept = ", ".join((*_MANIFESTS, *_INDEXES))
        return self._get(repository, f"{repository.base}/manifests/{version}", {"Accept": accept})

    def _for_this_machine(self, reference: Reference, index: Mapping[str, Any]) -> str:
        for entry in index["manifests"]:
            place: Mapping[str, Any] = entry.get("platform") or {}
            if place.get("os") == "linux" and place.get("architecture") == self.architecture:
                return str(entry["digest"])
        raise NotFound(
            f'failed to resolve reference "{reference}": no match for platform in manifest: not found '
            f"(linux/{self.architecture})"
        )

    def _blob_bytes(self, repository: _Repository, descriptor: Mapping[str, Any]) -> bytes:
        answer = self._get(repository, f"{repository.base}/blobs/{descriptor['digest']}", {})
        _check_digest(str(descriptor["digest"]), answer.body)
        return answer.body

    # Layers

    def _fetch_layers(self, repository: _Repository, store: Store, wanted: Mapping[str, dict[str, Any]]) -> None:
        missing = {diff_id: entry for diff_id, entry in wanted.items() if not store.has_layer(diff_id)}
        downloads = store.root / "downloads"
        downloads.mkdir(exist_ok=True)
        with ThreadPoolExecutor(_PARALLEL) as pool:
            jobs = {d: pool.submit(self._download, repository, e, downloads) for d, e in missing.items()}
            for diff_id, job in jobs.items():
                blob = job.result()
                _unpack(store, blob, str(missing[diff_id].get("mediaType", "")), diff_id)
                blob.unlink(missing_ok=True)

    def _download(self, repository: _Repository, descriptor: Mapping[str, Any], directory: Path) -> Path:
        digest = str(descriptor["digest"])
        if not re.fullmatch(r"sha256:[0-9a-f]{64}", digest):
            raise RegistryError(f"unsupported digest {digest!r}")
        target = directory / digest.replace(":", "-")
        for attempt in range(_ATTEMPTS):
            try:
                self._continue_download(repository, digest, target)
                break
            except (OSError, http.client.HTTPException) as error:
                if attempt == _ATTEMPTS - 1:
                    raise RegistryError(f"download of {digest} broke off: {error}") from error
        with target.open("rb") as content:
            found = "sha256:" + hashlib.file_digest(content, "sha256").hexdigest()
        if found != digest:
            target.unlink()
            raise RegistryError(f"digest mismatch: got {found} instead of {digest}")
        return target

    def _continue_download(self, repository: _Repository, digest: str, target: Path) -> None:
        have = target.stat().st_size if target.exists() else 0
        headers = {"Range": f"bytes={have}-"} if have else {}
        url = f"{repository.base}/blobs/{digest}"
        with self._request(repository, url, headers) as response:
            if response.status == 416:
                return  # all of it is here already
            if response.status not in (200, 206):
                _refuse(response.status, dict(response.headers.items()), response.read(_MAX_DOCUMENT), url)
            with target.open("ab" if response.status == 206 else "wb") as file:
                while chunk := response.read(_CHUNK):
                    file.write(chunk)
            if response.length:
                raise http.client.IncompleteRead(b"", response.length)

    # Requests

    def _get(self, repository: _Repository, url: str, headers: Mapping[str, str]) -> _Answer:
        try:
            with self._request(repository, url, headers) as response:
                answer = _Answer(response.status, dict(response.headers.items()), response.read(_MAX_DOCUMENT))
        except (OSError, http.client.HTTPException) as error:
            self._silence(repository, _describe(url, error))
        if answer.status != 200:
            self._refuse_answer(repository, answer, url)
        return answer

    def _refuse_answer(self, repository: _Repository, answer: _Answer, url: str) -> NoReturn:
        try:
            _refuse(answer.status, answer.headers, answer.body, url)
        except RegistryUnreachable as error:
            self._silence(repository, str(error))

    def _silence(self, repository: _Repository, why: str) -> NoReturn:
        self._silent[repository.host] = (self._clock(), why)
        raise _unreachable(repository, why)

    def _refuse_silent(self, repository: _Repository) -> None:
        since, why = self._silent.get(repository.host, (0.0, ""))
        if why and self._clock() - since < _SILENCE:
            raise _unreachable(repository, why)

    @contextmanager
    def _request(
        self, repository: _Repository, url: str, headers: Mapping[str, str]
    ) -> Generator[http.client.HTTPResponse]:
        """A GET with authentication and redirects. The answer may have any status but those two cases."""
        key = (repository.host, repository.reference.path)
        with self._redirected(url, {**headers, **_authorization(self._tokens.get(key))}) as response:
            if response.status != 401:
                yield response
                return
            challenge = response.headers.get("WWW-Authenticate", "")
            response.read(_MAX_DOCUMENT)
        self._tokens[key] = self._authenticate(repository, challenge)
        with self._redirected(url, {**headers, **_authorization(self._tokens[key])}) as response:
            yield response

    @contextmanager
    def _redirected(self, url: str, headers: Mapping[str, str]) -> Generator[http.client.HTTPResponse]:
        """Blobs often lie elsewhere; the registry's token is not for that place."""
        for _ in range(_MAX_REDIRECTS):
            connection, path = self._open(url)
            try:
                connection.request("GET", path, headers={"User-Agent": "podling", "Host": _netloc(url), **headers})
                response = connection.getresponse()
                if response.status not in (301, 302, 303, 307, 308):
                    yield response
                    return
                following = urllib.parse.urljoin(url, response.headers.get("Location", ""))
            finally:
                connection.close()
            if _netloc(following) != _netloc(url):
                headers = {name: value for name, value in headers.items() if name != "Authorization"}
            url = following
        raise RegistryError(f"too many redirects from {url}")

    def _open(self, url: str) -> tuple[http.client.HTTPConnection, str]:
        parts = urllib.parse.urlsplit(url)
        secure = parts.scheme == "https"
        host, port = parts.hostname or "", parts.port or (443 if secure else 80)
        connection = http.client.HTTPConnection(host, port, timeout=_READ_TIMEOUT)
        connection.sock = self._dial(host, port, secure=secure)
        return connection, urllib.parse.urlunsplit(("", "", parts.path, parts.query, ""))

    def _dial(self, host: str, port: int, *, secure: bool) -> socket.socket:
        """A socket to the place, through the proxy that the environment names for it."""
        proxy = _proxy_for(host, secure=secure)
        stream = self._connect(*(proxy or (host, port)), _CONNECT_TIMEOUT)
        stream.settimeout(_READ_TIMEOUT)
        try:
            if proxy and secure:
                _tunnel(stream, host, port)
            if not secure:
                return stream
            context = self._tls or ssl.create_default_context()
            return context.wrap_socket(stream, server_hostname=host)
        except BaseException:
            stream.close()
            raise

    # Authentication

    def _authenticate(self, repository: _Repository, challenge: str) -> str:
        """The value of the Authorization header for a challenge."""
        scheme, _, rest = challenge.partition(" ")
        fields = dict(re.findall(r'(\w+)="([^"]*)"', rest))
        if scheme.lower() == "basic":
            if repository.login is None:
                raise RegistryError("pull access denied: no basic auth credentials")
            return repository.login.basic()
        if scheme.lower() != "bearer" or "realm" not in fields:
            raise RegistryError(f"unknown authentication challenge {challenge!r}")
        return "Bearer " + self._token(repository, fields)

    def _token(self, repository: _Repository, fields: Mapping[str, str]) -> str:
        scope = fields.get("scope") or f"repository:{repository.reference.path}:pull"
        query = urllib.parse.urlencode({"service": fields.get("service", ""), "scope": scope})
        headers = {"Authorization": repository.login.basic()} if repository.login and repository.login.user else {}
        with self._redirected(f"{fields['realm']}?{query}", headers) as response:
            body = response.read(_MAX_DOCUMENT)
            if response.status != 200:
                message = f"unexpected status: {response.status} {response.reason}"
                raise RegistryError(f"failed to authorize: failed to fetch anonymous token: {message}")
        answer = json.loads(body)
        return str(answer.get("token") or answer["access_token"])


def _netloc(url: str) -> str:
    return urllib.parse.urlsplit(url).netloc


def _authorization(value: str | None) -> dict[str, str]:
    return {"Authorization": value} if value else {}


def _refuse(status: int, headers: Mapping[str, str], body: bytes, url: str) -> NoReturn:
    """An answer that is no registry's, such as a filter's page, counts as none."""
    errors = _registry_errors(body)
    names = {name.lower() for name in headers}
    if not errors and "docker-distribution-api-version" not in names and status != 404:
        raise RegistryUnreachable(f"unexpected status {status}, which is no registry's answer")
    if status == 404:
        raise NotFound("not found")
    if status in (401, 403):
        raise RegistryError(
            "pull access denied, repository does not exist or may require authorization: "
            f"server message: {errors or 'authorization failed'}"
        )
    raise RegistryError(f"unexpected status from GET request to {url}: {status}: {errors}")


def _registry_errors(body: bytes) -> str:
    try:
        found: list[dict[str, Any]] = json.loads(body)["errors"]
        return ", ".join(f"{error['code'].lower()}: {error.get('message', '')}" for error in found)
    except (ValueError, KeyError, TypeError, AttributeError):
        return ""


def _media_type(answer: _Answer, document: Mapping[str, Any]) -> str:
    header = next((value for name, value in answer.headers.items() if name.lower() == "content-type"), "")
    return str(document.get("mediaType") or header.partition(";")[0].strip())


def _check_digest(digest: str, body: bytes) -> None:
    found = config.digest_of(body)
    if found != digest:
        raise RegistryError(f"digest mismatch: got {found} instead of {digest}")


def _unpack(store: Store, blob: Path, media_type: str, diff_id: str) -> None:
    """Into the store, if what comes out of the compression has the digest that the configuration promises."""
    with store.staging() as staging, _decompressed(blob, media_type) as stream:
        tree = staging / "layer"
        tree.mkdir()
        reader = _HashingReader(stream)
        try:
            layers.unpack(reader, tree)  # pyright: ignore[reportArgumentType]  tarfile's stream mode only reads
            reader.drain()
        except (layers.LayerError, gzip.BadGzipFile, EOFError) as error:
            raise RegistryError(f"failed to extract layer {diff_id}: {error}") from error
        if reader.digest() != diff_id:
            raise RegistryError(f"wrong diff id calculated on extraction {reader.digest()!r}, expected {diff_id!r}")
        store.commit(tree, diff_id)


class _HashingReader:
    """Reads through and hashes."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self._digest = hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        data = self._stream.read(size)
        self._digest.update(data)
        return data

    def drain(self) -> None:
        """What follows the archive's end mark belongs to the digest too."""
        while self.read(_CHUNK):
            pass

    def digest(self) -> str:
        return "sha256:" + self._digest.hexdigest()


@contextmanager
def _decompressed(blob: Path, media_type: str) -> Generator[IO[bytes]]:
    with blob.open("rb") as file:
        magic = file.read(4)
        file.seek(0)
        if magic.startswith(b"\x1f\x8b"):
            with gzip.GzipFile(fileobj=file) as stream:
                yield stream  # pyright: ignore[reportReturnType]  reads like one
        elif magic == b"\x28\xb5\x2f\xfd":
            with _zstd(blob) as stream:
                yield stream
        elif media_type.endswith(("+gzip", ".gzip", "+zstd")):
            raise RegistryError(f"layer is not {media_type}")
        else:
            yield file


@contextmanager
def _zstd(blob: Path) -> Generator[IO[bytes]]:
    """Python learns zstd in 3.14; until then the program that every distribution has."""
    program = shutil.which("zstd")
    if program is None:
        raise RegistryError("a layer is compressed with zstd; install the zstd program")
    with subprocess.Popen([program, "-dcq", str(blob)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        yield process.stdout


def _connect(host: str, port: int, timeout: float) -> socket.socket:
    """Like `socket.create_connection`, but a resolver that hangs cannot hold it up: names get `timeout` too."""
    found: list[Any] = []
    problem: list[OSError] = []

    def resolve() -> None:
        try:
            found.extend(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
        except OSError as error:
            problem.append(error)

    thread = threading.Thread(target=resolve, daemon=True, name=f"resolve {host}")
    thread.start()
    thread.join(timeout)
    if problem:
        raise problem[0]
    if not found:
        raise TimeoutError(f"lookup {host}: no answer")
    return socket.create_connection(found[0][4][:2], timeout)


def _proxy_for(host: str, *, secure: bool) -> tuple[str, int] | None:
    proxy = urllib.request.getproxies().get("https" if secure else "http")
    if not proxy or _is_loopback(host) or urllib.request.proxy_bypass(host):
        return None
    parts = urllib.parse.urlsplit(proxy if "://" in proxy else f"http://{proxy}")
    return (parts.hostname, parts.port or 80) if parts.hostname else None


def _tunnel(stream: socket.socket, host: str, port: int) -> None:
    stream.sendall(f"CONNECT {host}:{port} HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n".encode())
    answer = b""
    while b"\r\n\r\n" not in answer:
        piece = stream.recv(1)
        if not piece or len(answer) > 65536:
            raise ConnectionError("the proxy closed the connection")
        answer += piece
    status = answer.split(None, 2)[1:2]
    if status != [b"200"]:
        raise ConnectionError(f"the proxy refused: {answer.splitlines()[0].decode('latin-1')}")


def _is_loopback(host: str) -> bool:
    name = urllib.parse.urlsplit(f"//{host}").hostname or ""
    return name == "localhost" or name == "::1" or name.startswith("127.")


def _describe(url: str, error: Exception) -> str:
    """Why a request failed, in the words of Go's http client, which users of Kubernetes know."""
    parts = urllib.parse.urlsplit(url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    match error:
        case socket.gaierror():
            return f"dial tcp: lookup {parts.hostname}: no such host"
        case ConnectionRefusedError():
            return f"dial tcp {parts.hostname}:{port}: connect: connection refused"
        case TimeoutError():
            return f"dial tcp {parts.hostname}:{port}: i/o timeout"
        case _:
            return str(error) or type(error).__name__


def _unreachable(repository: _Repository, why: str) -> RegistryUnreachable:
    reference = repository.reference
    url = f"{repository.base}/manifests/{reference.version}"
    return RegistryUnreachable(f'failed to resolve reference "{reference}": failed to do request: Head "{url}": {why}')
