"""Who `USER app`, `--chown=app:www-data` and `runAsUser` are: names looked up in the image's own account files.

The rules are those of runc and BuildKit: `user[:group]`, each a name or a number; a number needs no entry; the group
defaults to the user's own, or to 0.
"""

from __future__ import annotations

from dataclasses import dataclass


class UnknownAccount(ValueError):
    """A name that the image does not know."""


@dataclass(frozen=True, slots=True)
class Account:
    """A resolved user. `groups`: the supplementary ones."""

    uid: int
    gid: int
    groups: tuple[int, ...] = ()
    home: str = "/"


def resolve(user: str, passwd: str, group: str) -> Account:
    """`user` as in USER or --chown; `passwd` and `group` the texts of the files. The empty user is root."""
    name, _, group_name = user.partition(":")
    entry = _find(passwd, name or "0")
    if entry is None and not name.isdigit() and name:
        raise UnknownAccount(f"unable to find user {name}: no matching entries in passwd file")
    uid = int(entry[2]) if entry else int(name or 0)
    gid = int(entry[3]) if entry and entry[3].isdigit() else 0
    home = entry[5] if entry and len(entry) > 5 and entry[5] else "/root" if uid == 0 else "/"
    if group_name:
        return Account(uid, _group_id(group_name, group), (), home)
    own = entry[0] if entry else ""
    return Account(uid, gid, _memberships(own, group) if own else (), home)


def _group_id(name: str, group: str) -> int:
    entry = _find(group, name)
    if entry is not None:
        return int(entry[2])
    if name.isdigit():
        return int(name)
    raise UnknownAccount(f"unable to find group {name}: no matching entries in group file")


def _find(text: str, wanted: str) -> list[str] | None:
    """By name, else by number."""
    entries = [line.split(":") for line in text.splitlines() if line and not line.startswith("#")]
    usable = [
        entry for entry in entries if len(entry) >= 4 and entry[2].isdigit() and (entry[3].isdigit() or len(entry) == 4)
    ]
    by_name = next((entry for entry in usable if entry[0] == wanted), None)
    return by_name or next((entry for entry in usable if entry[2] == wanted), None)


def _memberships(user: str, group: str) -> tuple[int, ...]:
    found: list[int] = []
    for line in group.splitlines():
        fields = line.split(":")
        if len(fields) == 4 and fields[2].isdigit() and user in fields[3].split(","):
            found.append(int(fields[2]))
    return tuple(found)
