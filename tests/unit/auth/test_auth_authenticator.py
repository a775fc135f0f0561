"""How a client that can set no headers shows its token."""

from __future__ import annotations

import base64

import pytest

from podling.api.errors import ApiError
from podling.auth.authenticator import offered_token

PROTOCOL = b"sec-websocket-protocol"
OFFER = b"base64url.bearer.authorization.k8s.io." + base64.urlsafe_b64encode(b"a.b?c").rstrip(b"=")


def test_the_token_among_the_protocols_of_a_websocket_is_taken_out() -> None:
    headers = {PROTOCOL: OFFER + b", v4.channel.k8s.io"}
    assert offered_token(headers) == "a.b?c"
    assert headers == {PROTOCOL: b"v4.channel.k8s.io"}
    assert offered_token(headers) == ""


@pytest.mark.parametrize("offered", [OFFER, b"base64url.bearer.authorization.k8s.io./w, x"])
def test_a_token_alone_or_of_no_bytes_of_text_is_refused(offered: bytes) -> None:
    with pytest.raises(ApiError) as refused:
        offered_token({PROTOCOL: offered})
    assert refused.value.code == 401
