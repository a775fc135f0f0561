"""How a client that can set no headers shows its token."""

from __future__ import annotations

import base64

import pytest

from podling.api.errors import ApiError
from podling.api.http import Certificate
from podling.api.resources import User
from podling.auth.authenticator import bearer_token, certificate_user, offered_token

PROTOCOL = b"sec-websocket-protocol"
OFFER = b"base64url.bearer.authorization.k8s.io." + base64.urlsafe_b64encode(b"a.b?c").rstrip(b"=")


def test_the_token_among_the_protocols_of_a_websocket_is_taken_out() -> None:
    headers = {PROTOCOL: OFFER + b", v4.channel.k8s.io"}
    assert offered_token(headers) == "a.b?c"
    assert headers == {PROTOCOL: b"v4.channel.k8s.io"}
    assert offered_token(headers) == ""


@pytest.mark.parametrize(
    "offered",
    [
        OFFER,
        OFFER + b", x, " + OFFER,
        *(b"base64url.bearer.authorization.k8s.io." + t + b", x" for t in (b"/w", b"_w")),
    ],
)
def test_a_token_alone_or_twice_or_of_no_bytes_of_text_is_refused(offered: bytes) -> None:
    with pytest.raises(ApiError) as refused:
        offered_token({PROTOCOL: offered})
    assert refused.value.code == 401


@pytest.mark.parametrize(
    ("header", "found"),
    [
        ("Bearer abc", ("abc", False)),
        ("  bearer abc def ", ("abc", False)),
        ("Bearer  abc", ("", True)),
        ("Bearer ", ("", False)),
        ("Bearer", ("", False)),
        ("Basic YTpi", ("", False)),
        ("", ("", False)),
    ],
)
def test_the_token_is_the_second_word_of_the_header(header: str, found: tuple[str, bool]) -> None:
    assert bearer_token(header) == found


def certificate(*fields: tuple[str, str]) -> Certificate:
    return {"subject": tuple((pair,) for pair in fields), "sha256": "f00d"}


def test_a_certificate_says_name_groups_and_uid() -> None:
    shown = certificate(
        ("organizationName", "dev"), ("commonName", "ann"), ("organizationName", "ops"), ("1.3.6.1.4.1.57683.2", "7")
    )
    extra = {"authentication.kubernetes.io/credential-id": ("X509SHA256=f00d",)}
    assert certificate_user(shown) == User("ann", ("dev", "ops", "system:authenticated"), "7", extra)


def test_a_certificate_without_a_name_is_nobody_s() -> None:
    assert certificate_user(certificate(("organizationName", "dev"))) is None


@pytest.mark.parametrize("uids", [("7", "8"), ("",)])
def test_a_certificate_has_one_uid_or_none(uids: tuple[str, ...]) -> None:
    with pytest.raises(ApiError) as refused:
        certificate_user(certificate(("commonName", "ann"), *(("1.3.6.1.4.1.57683.2", uid) for uid in uids)))
    assert refused.value.code == 401
