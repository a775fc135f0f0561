"""The certificate authority of a cluster."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509

from podling.auth import pki

NAMES = ["localhost", "127.0.0.1", "kubernetes.default.svc"]
NOW = datetime(2026, 1, 1, tzinfo=UTC)


def test_the_server_is_trusted_under_each_of_its_names(tmp_path: Path) -> None:
    made = pki.ensure(tmp_path, server_names=NAMES)
    ssl.create_default_context(cafile=str(made.ca_cert))
    server = x509.load_pem_x509_certificate(made.server_cert.read_bytes())
    names = server.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert [str(n.value) for n in names] == NAMES
    server.verify_directly_issued_by(x509.load_pem_x509_certificate(made.ca_cert.read_bytes()))


def test_the_administrator_is_kubernetes_own_superuser(tmp_path: Path) -> None:
    admin = x509.load_pem_x509_certificate(pki.ensure(tmp_path, server_names=NAMES).admin_cert.read_bytes())
    assert admin.subject.rfc4514_string() == "CN=kubernetes-admin,O=system:masters"


def test_keys_are_for_their_owner_only(tmp_path: Path) -> None:
    made = pki.ensure(tmp_path, server_names=NAMES)
    for key in (made.ca_key, made.server_key, made.admin_key, made.proxy_client_key, made.service_account_key):
        assert key.stat().st_mode & 0o777 == 0o600


def test_what_exists_is_kept_until_it_nears_its_end(tmp_path: Path) -> None:
    pki.ensure(tmp_path, server_names=NAMES, now=NOW)
    before = {f.name: f.read_bytes() for f in tmp_path.iterdir()}
    pki.ensure(tmp_path, server_names=NAMES, now=NOW + timedelta(days=300))
    assert {f.name: f.read_bytes() for f in tmp_path.iterdir()} == before
    pki.ensure(tmp_path, server_names=NAMES, now=NOW + timedelta(days=340))
    changed = {name for name, content in before.items() if (tmp_path / name).read_bytes() != content}
    assert changed == {
        f"{name}.{end}" for name in ("apiserver", "admin", "front-proxy-client") for end in ("crt", "key")
    }
