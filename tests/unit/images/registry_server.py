"""A small registry on loopback, which can be told to misbehave."""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import json
import tarfile
import threading
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

OCI = "application/vnd.oci.image."
MANIFEST, INDEX = OCI + "manifest.v1+json", OCI + "index.v1+json"


def sha256(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


def tar(**files: str) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for name, text in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(text.encode())
            archive.addfile(info, io.BytesIO(text.encode()))
    return stream.getvalue()


@dataclass
class Shelf:
    """What the registry has and how it behaves. `requests` are the paths that were asked for, in order."""

    blobs: dict[str, bytes] = field(default_factory=dict[str, bytes])
    manifests: dict[str, tuple[str, bytes]] = field(default_factory=dict[str, tuple[str, bytes]])
    requests: list[str] = field(default_factory=list[str])
    ranges: list[str] = field(default_factory=list[str])
    port: int = 0
    login: str = ""
    """`user:password` that the token server wants; `anonymous` for a token without."""
    basic: bool = False
    break_after: int = 0
    """Bytes after which the next blob breaks off, once."""
    status: int = 0
    body: bytes = b""
    """An answer to everything, when `status` is set."""
    redirect_to: str = ""

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.port}"

    def put(self, data: bytes) -> dict[str, Any]:
        self.blobs[sha256(data)] = data
        return {"digest": sha256(data), "size": len(data)}

    def manifest(self, name: str, document: dict[str, Any], kind: str = MANIFEST) -> str:
        data = json.dumps(document).encode()
        self.manifests[name] = self.manifests[sha256(data)] = (kind, data)
        return sha256(data)

    def image(
        self, name: str, *layers: bytes, compress: bool = True, diff_ids: list[str] | None = None, **settings: Any
    ) -> str:
        """Puts an image of uncompressed layers there; gives the manifest's digest."""
        config = {
            "architecture": "amd64",
            "os": "linux",
            "config": settings,
            "rootfs": {"type": "layers", "diff_ids": diff_ids or [sha256(layer) for layer in layers]},
        }
        media = OCI + "layer.v1.tar" + ("+gzip" if compress else "")
        blobs = [gzip.compress(layer, mtime=0) if compress else layer for layer in layers]
        document = {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": {"mediaType": OCI + "config.v1+json", **self.put(json.dumps(config).encode())},
            "layers": [{"mediaType": media, **self.put(blob)} for blob in blobs],
        }
        return self.manifest(name, document)


class _Handler(BaseHTTPRequestHandler):
    shelf: Shelf

    def do_GET(self) -> None:
        shelf = self.shelf
        shelf.requests.append(self.path)
        if self.path.startswith("/token"):
            return self._token()
        if shelf.status:
            return self._answer(shelf.status, shelf.body, "text/html")
        if not self._authorized():
            return self._challenge()
        kind, _, name = self.path.removeprefix("/v2/").rpartition("/")
        if kind.endswith("/manifests") and name in shelf.manifests:
            media, data = shelf.manifests[name]
            return self._answer(200, data, media)
        if kind.endswith("/blobs") and name in shelf.blobs:
            return self._blob(shelf.blobs[name])
        error = {"errors": [{"code": "MANIFEST_UNKNOWN", "message": "manifest unknown"}]}
        return self._answer(404, json.dumps(error).encode(), "application/json")

    def _authorized(self) -> bool:
        shelf = self.shelf
        given = self.headers.get("Authorization", "")
        if shelf.basic:
            return given == "Basic " + base64.b64encode(shelf.login.encode()).decode()
        return not shelf.login or given == "Bearer good"

    def _challenge(self) -> None:
        self.send_response(401)
        bearer = f'Bearer realm="http://{self.shelf.host}/token",service="test",scope="repository:app:pull"'
        self.send_header("WWW-Authenticate", 'Basic realm="x"' if self.shelf.basic else bearer)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _token(self) -> None:
        wanted = "Basic " + base64.b64encode(self.shelf.login.encode()).decode()
        good = self.shelf.login == "anonymous" or self.headers.get("Authorization") == wanted
        self._answer(200 if good else 401, b'{"token":"good"}' if good else b"{}", "application/json")

    def _blob(self, data: bytes) -> None:
        shelf = self.shelf
        if shelf.redirect_to:
            self.send_response(307)
            self.send_header("Location", f"{shelf.redirect_to}{self.path}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        wanted = self.headers.get("Range", "")
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted else 0
        if wanted:
            shelf.ranges.append(wanted)
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(data) - start))
        self.end_headers()
        cut, shelf.break_after = shelf.break_after, 0
        self.wfile.write(data[start : start + cut] if cut else data[start:])
        self.close_connection = True

    def _answer(self, status: int, data: bytes, kind: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:
        """Quiet."""


@contextmanager
def serving() -> Generator[Shelf]:
    shelf = Shelf()
    handler = type("Handler", (_Handler,), {"shelf": shelf})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    shelf.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield shelf
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
