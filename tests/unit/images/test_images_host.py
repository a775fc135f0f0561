"""Which of the host's tools stands in for an image, and what it is made to look like."""

from pathlib import Path

import pytest

from podling.images import host, hostsetup, overlay, references, tools
from podling.images.host import Host, NothingFits
from podling.images.tools import Tool


def tool(path: str, *version: int) -> Tool:
    return Tool(Path(path), version)


def program(path: Path, text: str = "#!/bin/sh\n") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return path


@pytest.mark.parametrize(
    ("tag", "version"),
    [("3.12-slim", (3, 12)), ("3.12.1-alpine3.19", (3, 12, 1)), ("3", (3,)), ("slim", ()), ("latest", ()), ("", ())],
)
def test_a_tag_begins_with_the_version(tag: str, version: tuple[int, ...]) -> None:
    assert host.wanted_version(tag) == version


@pytest.mark.parametrize(
    ("wanted", "path"),
    [
        ((3, 12), "/home/3.12"),
        ((3, 12, 1), "/home/3.12"),
        ((3, 11), "/usr/bin/3.11"),
        ((3, 11, 9), "/home/3.11.9"),
        ((3, 14), "/home/3.13"),
        ((3, 8), "/home/3.9"),
        ((3,), "/usr/bin/3.11"),
        ((), "/home/3.13"),
    ],
)
def test_the_nearest_version_stands_in(wanted: tuple[int, ...], path: str) -> None:
    found = [
        tool("/usr/bin/3.11", 3, 11),
        tool("/home/3.9", 3, 9, 1),
        tool("/home/3.11.9", 3, 11, 9),
        tool("/home/3.12", 3, 12, 1),
        tool("/home/3.13", 3, 13, 0),
    ]
    best = tools.best(found, wanted)
    assert best is not None
    assert str(best.path) == path


def test_nothing_is_best_of_nothing() -> None:
    assert tools.best([], (3, 12)) is None


def test_a_version_managers_pythons_are_found_if_they_are_complete(tmp_path: Path) -> None:
    for version, complete in (("3.99.1", True), ("3.98.1", False)):
        series = version.rpartition(".")[0]
        prefix = tmp_path / ".pyenv/versions" / version
        program(prefix / f"bin/python{series}")
        program(prefix / f"bin/python{series}-config")
        for module in ("venv", "ensurepip") if complete else ():
            program(prefix / f"lib/python{series}/{module}/__init__.py")
    found = [t for t in tools.find_pythons(tmp_path, {}) if t.path.is_relative_to(tmp_path)]
    assert [(t.path.name, t.version) for t in found] == [("python3.99", (3, 99, 1))]
    assert found[0].prefix == tmp_path / ".pyenv/versions/3.99.1"


def test_a_shim_is_no_tool(tmp_path: Path) -> None:
    shims = tmp_path / "shims"
    program(shims / "node")
    assert all(t.path.parent != shims for t in tools.find_nodes(tmp_path, {"PATH": str(shims)}))


@pytest.mark.parametrize("image", ["nobody/python:3", "my-app:1", "quay.io/x/unknown:1"])
def test_the_host_stands_in_for_known_images_only(image: str, tmp_path: Path) -> None:
    assert host.offer(references.parse(image), Host(tmp_path, {})) is None


def test_python_2_is_beyond_the_host(tmp_path: Path) -> None:
    with pytest.raises(NothingFits, match="only Python 3"):
        host.offer(references.parse("python:2.7"), Host(tmp_path, {}))


def test_a_lacking_tool_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tools, "find_gos", lambda home, environment: [])  # type: ignore[misc]
    with pytest.raises(NothingFits, match="this host has no Go; install golang"):
        host.offer(references.parse("golang:1.22"), Host(tmp_path, {}))


def test_node_is_where_the_official_image_has_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = program(tmp_path / "home/.nvm/versions/node/v99.1.2/bin/node", "#!/bin/sh\necho v99.1.2\n")
    monkeypatch.setattr(tools, "find_nodes", lambda home, environment: [Tool(found, (99, 1, 2))])  # type: ignore[misc]
    program(found.with_name("npm"))
    offer = host.offer(references.parse("node:99"), Host(tmp_path / "home", {"PATH": ""}))
    assert offer is not None
    made = offer.make()
    assert made.what == "Node.js 99.1.2"
    assert made.host_paths == (str(tmp_path / "home/.nvm/versions/node/v99.1.2"),)
    tree = tmp_path / "tree"
    tree.mkdir()
    made.write(tree)
    assert (tree / "usr/local/bin/npm").readlink() == found.with_name("npm")
    assert "\nnode:x:1000:1000:" in (tree / "etc/passwd").read_text()
    assert (tree / "home/node").is_dir()
    assert (tree / str(made.host_paths[0])[1:]).is_dir(), "the place where it is bound in"


def test_the_hosts_own_packages_do_not_leak_into_python(tmp_path: Path) -> None:
    offer = host.offer(references.parse("python:3"), Host(Path.home(), {}))
    assert offer is not None
    tree = tmp_path / "tree"
    tree.mkdir()
    made = offer.make()
    made.write(tree)
    local = tree / "usr/local"
    if not local.exists():
        pytest.skip("the host's Python is in /usr/local itself")
    assert overlay.is_opaque(local)
    [series] = [
        path.name for path in (local / "lib").iterdir() if path.name.startswith("python") and not path.is_symlink()
    ]
    packages = {path.name.partition("-")[0] for path in (local / "lib" / series / "site-packages").iterdir()}
    assert packages <= {"pip", "setuptools", "pkg_resources", "_distutils_hack", "distutils"}
    assert (local / "bin/pip").read_text().startswith(f"#!/usr/local/bin/{series}\n")
    assert not (local / "lib" / series / "EXTERNALLY-MANAGED").exists()
    assert made.config.environment()["PYTHON_VERSION"].startswith(series.removeprefix("python"))


def test_package_managers_find_what_the_host_has_set_up(tmp_path: Path) -> None:
    index = tmp_path / "packages/simple"
    index.mkdir(parents=True)
    (tmp_path / ".config/pip").mkdir(parents=True)
    (tmp_path / ".config/pip/pip.conf").write_text(f"[global]\nextra-index-url = file://{index}\n")
    (tmp_path / ".npmrc").write_text("registry=https://npm.example\n")
    environment = {
        "PIP_INDEX_URL": "https://pypi.example/simple",
        "PIP_CACHE_DIR": "/x",
        "SSL_CERT_FILE": "/etc/ssl/certs/ca.crt",
        "AWS_SECRET_ACCESS_KEY": "never",
        "HOME": str(tmp_path),
    }
    found = hostsetup.setup(tmp_path, environment)
    assert found.environment == {
        "PIP_INDEX_URL": "https://pypi.example/simple",
        "SSL_CERT_FILE": "/etc/ssl/certs/ca.crt",
        "PIP_CONFIG_FILE": "/run/podling/pip.conf",
        "NPM_CONFIG_USERCONFIG": "/run/podling/npmrc",
    }
    assert found.files["/run/podling/npmrc"] == "registry=https://npm.example\n"
    assert str(tmp_path / "packages") in found.paths
