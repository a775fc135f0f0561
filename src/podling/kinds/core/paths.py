"""Rules for paths inside containers and volumes."""

from __future__ import annotations

from podling.api.errors import FieldError, invalid_value


def backsteps(value: str, path: str) -> list[FieldError]:
    return [invalid_value(path, value, "must not contain '..'")] if ".." in value.split("/") else []


def relative_path(value: str, path: str) -> list[FieldError]:
    """A path that cannot leave the directory that it begins in."""
    errors = [invalid_value(path, value, "must be a relative path")] if value.startswith("/") else []
    return errors + backsteps(value, path)


def local_path(value: str, path: str) -> list[FieldError]:
    """A path below a volume: names that begin with two dots are the kubelet's own."""
    errors = relative_path(value, path)
    if value.startswith("..") and not value.startswith("../"):
        errors.append(invalid_value(path, value, "must not start with '..'"))
    return errors
