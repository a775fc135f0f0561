"""Users and groups are looked up in the image's own files."""

import pytest

from podling.images.accounts import Account, UnknownAccount, resolve

PASSWD = "root:x:0:0:root:/root:/bin/sh\napp:x:1000:1001:App:/home/app:/bin/sh\nbroken\n"
GROUP = "root:x:0:\napp:x:1001:\nweb:x:33:app,other\n"


@pytest.mark.parametrize(
    ("user", "account"),
    [
        ("", Account(0, 0, (), "/root")),
        ("root", Account(0, 0, (), "/root")),
        ("app", Account(1000, 1001, (33,), "/home/app")),
        ("1000", Account(1000, 1001, (33,), "/home/app")),
        ("app:web", Account(1000, 33, (), "/home/app")),
        ("app:5", Account(1000, 5, (), "/home/app")),
        ("10001", Account(10001, 0, (), "/")),
        ("10001:10002", Account(10001, 10002, (), "/")),
    ],
)
def test_a_user_is_found(user: str, account: Account) -> None:
    assert resolve(user, PASSWD, GROUP) == account


def test_a_name_that_is_not_there_is_an_error() -> None:
    with pytest.raises(UnknownAccount, match="unable to find user nope: no matching entries in passwd file"):
        resolve("nope", PASSWD, GROUP)
    with pytest.raises(UnknownAccount, match="unable to find group nope: no matching entries in group file"):
        resolve("app:nope", PASSWD, GROUP)
