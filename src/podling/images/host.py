"""Images that the host stands in for when no registry answers: `python:3.12-slim` from the Python that is here.

A stand-in is the host's own system directories (put below by the sandbox, read-only) with one layer on top, which makes
them look like the official image: the tool in `/usr/local`, the same environment, the same users. So a Dockerfile
written for the official image builds and runs unchanged. It is never silent: `note` says what stands in for what.

How Python gets there deserves a word. Its binary is copied to `/usr/local/bin`, and `/usr/local/lib/python3.X` is
filled with links to the host's standard library: that makes `/usr/local` its prefix, as in the official image, with a
`site-packages` of its own that the host's packages do not leak into. Debian's Python is patched to have other
directories as soon as it is not in a virtual environment, so there `/usr/local` becomes one.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import stat
import subprocess
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from podling.images import layers, overlay, tools
from podling.images.config import ImageConfig
from podling.images.references import DEFAULT_DOMAIN, Reference
from podling.images.tools import Tool, Version

_DEBIAN_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_LOCAL = Path("/usr/local")
_RECIPES_VERSION = "3"
"""Part of every stand-in's key: to be raised when a recipe changes."""


@dataclass(frozen=True, slots=True)
class Standin:
    """An image to be made from the host."""

    config: ImageConfig
    what: str
    """What stands in: `Python 3.12.1`."""
    host_paths: tuple[str, ...]
    write: Callable[[Path], None]
    """Fills a directory with the layer."""


@dataclass(frozen=True, slots=True)
class Offer:
    """What the host could do for an image; `make` looks closer, and runs the tool to ask for its version."""

    key: str
    """Equal keys give equal images."""
    make: Callable[[], Standin]
    """May raise `NothingFits`."""


@dataclass(frozen=True, slots=True)
class Host:
    """The machine, as far as images are concerned."""

    home: Path
    environment: Mapping[str, str]

    @classmethod
    def current(cls) -> Host:
        return cls(Path(os.environ.get("HOME", "/")), dict(os.environ))


class NothingFits(Exception):
    """The host has nothing to stand in with; the text says what would help."""


def offer(reference: Reference, host: Host) -> Offer | None:
    """What the host can do for an image; None for images it knows nothing about.

    Raises `NothingFits` when it knows the image, but lacks the tool.
    """
    recipe = _RECIPES.get(_image_name(reference))
    return recipe(reference, host) if recipe else None


def _image_name(reference: Reference) -> str:
    """Official images, wherever they are mirrored to; `registry.k8s.io/pause`."""
    if reference.domain == DEFAULT_DOMAIN and not reference.path.startswith("library/"):
        return ""
    return reference.path.rpartition("/")[2]


def wanted_version(tag: str) -> Version:
    """The version a tag begins with: `3.12-slim` -> (3, 12); none for `slim` or `latest`."""
    match = re.match(r"\d+(?:\.\d+)*", tag)
    return tuple(int(part) for part in match[0].split(".")) if match else ()


# Python


def _python(reference: Reference, host: Host) -> Offer:
    wanted = wanted_version(reference.tag)
    if wanted and wanted[0] != 3:
        raise NothingFits("only Python 3 images can be stood in for")
    tool = tools.best(tools.find_pythons(host.home, host.environment), wanted)
    if tool is None:
        raise NothingFits("this host has no complete Python 3; install python3 with its venv module")
    alias = ".".join(str(part) for part in wanted[:2]) if len(wanted) >= 2 else ""
    return Offer(_key("python", tool, alias), lambda: _make_python(tool, alias))


def _make_python(tool: Tool, alias: str) -> Standin:
    """`alias`: the series that the image was asked for, under whose name the directories are found too."""
    probe = _probe_python(tool)
    series = ".".join(probe.version.split(".")[:2])
    environment = (
        f"PATH=/usr/local/bin:{_DEBIAN_PATH}",
        "LANG=C.UTF-8",
        f"PYTHON_VERSION={probe.version}",
    )
    return Standin(
        ImageConfig(env=environment, cmd=("python3",)),
        f"Python {probe.version}",
        _own_paths(tool),
        lambda tree: _write_python(tree, tool, probe, series, alias or series),
    )


@dataclass(frozen=True, slots=True)
class _Probe:
    """What an interpreter says about itself."""

    version: str
    library: Path
    include: Path
    wheels: tuple[Path, ...]
    patched: bool
    """Whether a distribution moved its directories."""
    packages: tuple[Path, ...]
    """Directories of the distribution's own packages."""


_PROBE = """
import ensurepip, glob, json, os, site, sys, sysconfig
bundled = os.path.join(os.path.dirname(ensurepip.__file__), "_bundled")
shared = sysconfig.get_config_var("WHEEL_PKG_DIR")
names = [os.path.join(d, n + "-*.whl") for d in (bundled, shared) if d for n in ("pip", "setuptools")]
json.dump({
    "version": "%d.%d.%d" % sys.version_info[:3],
    "library": sysconfig.get_path("stdlib"),
    "include": sysconfig.get_path("include", "posix_prefix"),
    "wheels": [wheel for name in names for wheel in glob.glob(name)],
    "patched": bool({"deb_system", "rpm_prefix"} & set(sysconfig.get_scheme_names())),
    "packages": site.getsitepackages(),
}, sys.stdout)
"""


def _probe_python(tool: Tool) -> _Probe:
    command = [str(tool.path), "-I", "-S", "-c", _PROBE]
    try:
        done = subprocess.run(command, capture_output=True, timeout=20, check=True, env={"PATH": _DEBIAN_PATH})
        found: dict[str, Any] = json.loads(done.stdout)
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        raise NothingFits(f"{tool.path} does not run: {error}") from error
    return _Probe(
        found["version"],
        Path(found["library"]),
        Path(found["include"]),
        tuple(Path(wheel) for wheel in found["wheels"]),
        found["patched"],
        tuple(Path(directory) for directory in found["packages"]),
    )


def _write_python(tree: Path, tool: Tool, probe: _Probe, series: str, alias: str) -> None:
    _write_basics(tree, tool)
    if tool.prefix == _LOCAL:
        return  # already where the official image has it
    local = tree / "usr/local"
    library = local / "lib" / f"python{series}"
    (library / "site-packages").mkdir(parents=True)
    program = local / "bin" / f"python{series}"
    if probe.patched:
        _write_environment(tree, program, tool, probe)
    else:
        _write_prefix(local, program, library, tool, probe)
    for name in ("python3", "python"):
        (local / "bin" / name).symlink_to(program.name)
    _install_wheels(library / "site-packages", local / "bin", program.name, series, probe)
    if alias != series:
        (local / "lib" / f"python{alias}").symlink_to(library.name)
        (local / "bin" / f"python{alias}").symlink_to(program.name)


def _write_prefix(local: Path, program: Path, library: Path, tool: Tool, probe: _Probe) -> None:
    shutil.copy2(tool.path.resolve(), program)
    program.chmod(0o755)
    for entry in probe.library.iterdir():
        if entry.name not in ("site-packages", "EXTERNALLY-MANAGED"):
            (library / entry.name).symlink_to(entry)
    for shared in tool.prefix.glob("lib/libpython*.so*"):
        (local / "lib" / shared.name).symlink_to(shared)
    if probe.include.is_dir():
        (local / "include").mkdir(exist_ok=True)
        (local / "include" / probe.include.name).symlink_to(probe.include)


def _write_environment(tree: Path, program: Path, tool: Tool, probe: _Probe) -> None:
    """The distribution's own packages count as system packages of the environment, so they are hidden.

    (System packages must be allowed, or `pip install --user` would be refused.)
    """
    program.symlink_to(tool.path.resolve())
    lines = (
        f"home = {tool.path.resolve().parent}",
        "include-system-site-packages = true",
        f"version = {probe.version}",
    )
    (tree / "usr/local/pyvenv.cfg").write_text("\n".join(lines) + "\n")
    for directory in probe.packages:
        if directory.is_dir() and not directory.is_relative_to("/usr/local"):
            hidden = tree / str(directory)[1:]
            hidden.mkdir(parents=True)
            overlay.make_opaque(hidden)


def _install_wheels(packages: Path, programs: Path, interpreter: str, series: str, probe: _Probe) -> None:
    """pip, and setuptools where the interpreter still brings it along (before 3.12), as in the official images."""
    names: set[str] = set()
    for wheel in probe.wheels:
        name = wheel.name.partition("-")[0]
        if name not in names:
            names.add(name)
            zipfile.ZipFile(wheel).extractall(packages)
    script = f"#!/usr/local/bin/{interpreter}\nimport sys\nfrom pip._internal.cli.main import main\nsys.exit(main())\n"
    for name in ("pip", "pip3", f"pip{series}") if "pip" in names else ():
        (programs / name).write_text(script)
        (programs / name).chmod(0o755)


# Node.js and Go


def _node(reference: Reference, host: Host) -> Offer:
    tool = tools.best(tools.find_nodes(host.home, host.environment), wanted_version(reference.tag))
    if tool is None:
        raise NothingFits("this host has no Node.js; install nodejs and npm")
    return Offer(_key("node", tool), lambda: _make_node(tool))


def _make_node(tool: Tool) -> Standin:
    version = _output_of(tool, "--version").removeprefix("v")
    environment = (f"PATH={_DEBIAN_PATH}", f"NODE_VERSION={version}")
    return Standin(
        ImageConfig(env=environment, cmd=("node",)),
        f"Node.js {version}",
        _own_paths(tool),
        lambda tree: _write_node(tree, tool),
    )


def _write_node(tree: Path, tool: Tool) -> None:
    _write_basics(tree, tool, ("node", 1000, "/home/node", "/bin/bash"))
    if tool.prefix != _LOCAL:
        _link_programs(tree, tool.path.parent, ("node", "nodejs", "npm", "npx", "corepack", "yarn"))


def _go(reference: Reference, host: Host) -> Offer:
    tool = tools.best(tools.find_gos(host.home, host.environment), wanted_version(reference.tag))
    if tool is None:
        raise NothingFits("this host has no Go; install golang")
    return Offer(_key("golang", tool), lambda: _make_go(tool))


def _make_go(tool: Tool) -> Standin:
    version = _output_of(tool, "version").split()[2].removeprefix("go")
    root = tool.path.resolve().parent.parent
    environment = (
        f"PATH=/go/bin:/usr/local/go/bin:{_DEBIAN_PATH}",
        f"GOLANG_VERSION={version}",
        "GOTOOLCHAIN=local",
        "GOPATH=/go",
    )
    return Standin(
        ImageConfig(env=environment, cmd=("bash",), working_dir="/go"),
        f"Go {version}",
        _own_paths(tool),
        lambda tree: _write_go(tree, tool, root),
    )


def _write_go(tree: Path, tool: Tool, root: Path) -> None:
    _write_basics(tree, tool)
    for name in ("src", "bin"):
        directory = tree / "go" / name
        directory.mkdir(parents=True)
        directory.chmod(0o1777)
    if not root.is_relative_to(_LOCAL):
        (tree / "usr/local/go").symlink_to(root)


# Servers


def _postgres(reference: Reference, host: Host) -> Offer:
    tool = tools.best(tools.find_postgres(host.home, host.environment), wanted_version(reference.tag))
    if tool is None:
        raise NothingFits("this host has no PostgreSQL server; install postgresql")
    return Offer(_key("postgres", tool), lambda: _make_postgres(tool))


def _make_postgres(tool: Tool) -> Standin:
    programs = tool.path.resolve().parent
    version = _output_of(tool, "--version").split()[2]
    environment = (
        f"PATH={_DEBIAN_PATH}:{programs}",
        "LANG=C.UTF-8",
        f"PG_MAJOR={version.partition('.')[0]}",
        f"PG_VERSION={version}",
        "PGDATA=/var/lib/postgresql/data",
    )
    config = ImageConfig(
        env=environment,
        entrypoint=("docker-entrypoint.sh",),
        cmd=("postgres",),
        user="postgres",
        stop_signal="SIGINT",
        exposed_ports=("5432/tcp",),
        volumes=("/var/lib/postgresql/data",),
    )
    return Standin(config, f"PostgreSQL {version}", _own_paths(tool), lambda tree: _write_postgres(tree, tool))


_POSTGRES_UID = 999
_POSTGRES_ENTRYPOINT = """\
#!/bin/sh
# Prepares a new data directory from POSTGRES_USER, POSTGRES_PASSWORD and POSTGRES_DB, then becomes the server.
set -eu
[ "${1#-}" = "$1" ] || set -- postgres "$@"
from_file() {
    eval "name=\\${$1:-} file=\\${$1_FILE:-}"
    if [ -n "$file" ]; then name=$(cat "$file"); fi
    printf %s "$name"
}
# A volume's own directory may belong to someone else; the server insists on one that is its own.
mkdir -p "$PGDATA" 2>/dev/null || :
if [ ! -O "$PGDATA" ]; then PGDATA=$PGDATA/pgdata; export PGDATA; fi
if [ "$1" = postgres ] && [ ! -s "$PGDATA/PG_VERSION" ]; then
    user=$(from_file POSTGRES_USER); user=${user:-postgres}
    password=$(from_file POSTGRES_PASSWORD)
    database=$(from_file POSTGRES_DB); database=${database:-$user}
    method=${POSTGRES_HOST_AUTH_METHOD:-scram-sha-256}
    if [ -z "$password" ] && [ "$method" != trust ]; then
        echo "Error: Database is uninitialized and superuser password is not specified." >&2
        echo "       Set POSTGRES_PASSWORD, or POSTGRES_HOST_AUTH_METHOD=trust." >&2
        exit 1
    fi
    mkdir -p "$PGDATA"
    chmod 700 "$PGDATA"
    secret=$(mktemp)
    printf '%s\\n' "$password" >"$secret"
    # shellcheck disable=SC2086
    initdb --username="$user" ${password:+--pwfile="$secret"} ${POSTGRES_INITDB_ARGS:-}
    rm -f "$secret"
    printf '\\nhost all all all %s\\n' "$method" >>"$PGDATA/pg_hba.conf"
    pg_ctl -D "$PGDATA" -o "-c listen_addresses='' -c unix_socket_directories=/tmp" -w start
    run() { PGHOST=/tmp psql -v ON_ERROR_STOP=1 --no-password --username "$user" "$@"; }
    if [ "$database" != postgres ]; then
        run --dbname postgres -v name="$database" <<'SQL'
CREATE DATABASE :"name";
SQL
    fi
    for script in /docker-entrypoint-initdb.d/*; do
        case "$script" in
            *.sh) if [ -x "$script" ]; then PGHOST=/tmp "$script"; else . "$script"; fi ;;
            *.sql) run --dbname "$database" -f "$script" ;;
            *.sql.gz) gunzip -c "$script" | run --dbname "$database" ;;
        esac
    done
    pg_ctl -D "$PGDATA" -m fast -w stop
fi
if [ "$1" = postgres ]; then
    shift
    set -- postgres -c unix_socket_directories=/var/run/postgresql,/tmp -c listen_addresses='*' "$@"
fi
exec "$@"
"""


def _write_postgres(tree: Path, tool: Tool) -> None:
    _write_basics(tree, tool, ("postgres", _POSTGRES_UID, "/var/lib/postgresql", "/bin/bash"))
    for name in ("var/lib/postgresql/data", "run/postgresql"):
        directory = tree / name
        directory.mkdir(parents=True)
        directory.chmod(0o1777)
        layers.set_owner(directory, _POSTGRES_UID, _POSTGRES_UID)
    (tree / "docker-entrypoint-initdb.d").mkdir()
    _write_program(tree / "usr/local/bin/docker-entrypoint.sh", _POSTGRES_ENTRYPOINT)


def _nginx(reference: Reference, host: Host) -> Offer:
    del reference
    tool = tools.best(tools.find_nginx(host.home, host.environment), ())
    if tool is None:
        raise NothingFits("this host has no nginx; install nginx")
    return Offer(_key("nginx", tool), lambda: _make_nginx(tool))


def _make_nginx(tool: Tool) -> Standin:
    done = subprocess.run([str(tool.path), "-v"], capture_output=True, text=True, timeout=20, check=False)
    version = (wanted_version(done.stderr.rpartition("/")[2])) or (0,)
    text = ".".join(str(part) for part in version)
    config = ImageConfig(
        env=(f"PATH={_DEBIAN_PATH}", f"NGINX_VERSION={text}"),
        cmd=("nginx", "-g", "daemon off;"),
        stop_signal="SIGQUIT",
        exposed_ports=("80/tcp",),
    )
    return Standin(config, f"nginx {text}", _own_paths(tool), lambda tree: _write_nginx(tree, tool))


_NGINX_CONFIG = """\
user nginx;
worker_processes auto;
error_log /dev/stderr notice;
pid /run/nginx.pid;
events { worker_connections 1024; }
http {
    include /etc/nginx/mime.types;
    default_type application/octet-stream;
    access_log /dev/stdout;
    sendfile on;
    keepalive_timeout 65;
    include /etc/nginx/conf.d/*.conf;
}
"""
_NGINX_SITE = """\
server {
    listen 80;
    server_name localhost;
    location / {
        root /usr/share/nginx/html;
        index index.html index.htm;
    }
}
"""
_NGINX_PAGE = "<!DOCTYPE html>\n<title>Welcome to nginx!</title>\n<h1>Welcome to nginx!</h1>\n"


def _write_nginx(tree: Path, tool: Tool) -> None:
    _write_basics(tree, tool, ("nginx", 101, "/nonexistent", "/bin/false"))
    for name, text in (
        ("etc/nginx/nginx.conf", _NGINX_CONFIG),
        ("etc/nginx/conf.d/default.conf", _NGINX_SITE),
        ("usr/share/nginx/html/index.html", _NGINX_PAGE),
    ):
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_text(text)
    cache = tree / "var/cache/nginx"
    cache.mkdir(parents=True)
    cache.chmod(0o1777)


# Systems


def _system(reference: Reference, host: Host) -> Offer:
    del host
    shell = "/bin/bash" if reference.path.endswith(("debian", "ubuntu")) else "/bin/sh"
    config = ImageConfig(env=(f"PATH={_DEBIAN_PATH}",), cmd=(shell if shell == "/bin/sh" else "bash",))
    return Offer(_key("system", None, shell), lambda: Standin(config, _system_name(), (), _write_basics))


def _pause(reference: Reference, host: Host) -> Offer:
    """A process that does nothing until it is told to end; `sleep` as pid 1 would ignore that."""
    del reference, host
    command = ("/bin/sh", "-c", "trap 'exit 0' TERM INT; while :; do sleep 3600 & wait $!; done")
    config = ImageConfig(env=(f"PATH={_DEBIAN_PATH}",), entrypoint=command, user="65535:65535")
    return Offer(_key("pause", None), lambda: Standin(config, "shell", (), _write_basics))


def _system_name() -> str:
    try:
        text = Path("/etc/os-release").read_text(encoding="utf-8")
    except OSError:
        return "system"
    match = re.search(r'^PRETTY_NAME="?([^"\n]*)', text, re.MULTILINE)
    return match[1] if match else "system"


_RECIPES: dict[str, Callable[[Reference, Host], Offer]] = {
    "python": _python,
    "node": _node,
    "golang": _go,
    "postgres": _postgres,
    "nginx": _nginx,
    "debian": _system,
    "ubuntu": _system,
    "alpine": _system,
    "busybox": _system,
    "pause": _pause,
}


# What recipes share

_ACCOUNTS = (
    ("root", 0, "/root", "/bin/bash"),
    ("daemon", 1, "/usr/sbin", "/usr/sbin/nologin"),
    ("bin", 2, "/bin", "/usr/sbin/nologin"),
    ("sys", 3, "/dev", "/usr/sbin/nologin"),
    ("mail", 8, "/var/mail", "/usr/sbin/nologin"),
    ("www-data", 33, "/var/www", "/usr/sbin/nologin"),
    ("nobody", 65534, "/nonexistent", "/usr/sbin/nologin"),
)
_GROUPS = (
    *(("root", 0), ("daemon", 1), ("bin", 2), ("sys", 3), ("adm", 4), ("tty", 5), ("mail", 8), ("sudo", 27)),
    *(("www-data", 33), ("shadow", 42), ("staff", 50), ("users", 100), ("nogroup", 65534)),
)


_User = tuple[str, int, str, str]
"""Name, number (of the group too), home, shell."""


def _write_basics(tree: Path, tool: Tool | None = None, *users: _User) -> None:
    """What every official image begins with: its own users, nothing in /usr/local, and the way to the tool.

    Where the tool itself is in /usr/local, what else the host has there cannot be hidden.
    """
    _write_accounts(tree, *users)
    if tool is None or not tool.path.resolve().is_relative_to(_LOCAL):
        local = tree / "usr/local"
        local.mkdir(parents=True)
        overlay.make_opaque(local)
        for name in ("bin", "etc", "games", "include", "lib", "sbin", "share", "src"):
            (local / name).mkdir()
    if tool is not None:
        _open_the_way(tree, tool)


def _write_accounts(tree: Path, *users: _User) -> None:
    """The image's own users, not the host's."""
    (tree / "etc").mkdir(exist_ok=True)
    groups = dict((*_GROUPS, *(user[:2] for user in users)))
    by_name = {**groups, "nobody": groups["nogroup"]}
    lines = [
        f"{name}:x:{number}:{by_name.get(name, number)}:{name}:{home}:{shell}"
        for name, number, home, shell in (*_ACCOUNTS, *users)
    ]
    (tree / "etc/passwd").write_text("\n".join(lines) + "\n")
    (tree / "etc/group").write_text("".join(f"{name}:x:{number}:\n" for name, number in groups.items()))
    for _, number, home, _ in users:
        if home.startswith("/home/"):
            directory = tree / home[1:]
            directory.mkdir(parents=True)
            layers.set_owner(directory, number, number)


def _link_programs(tree: Path, source: Path, names: Sequence[str]) -> None:
    target = tree / "usr/local/bin"
    for name in names:
        if (source / name).exists():
            (target / name).symlink_to(source / name)


def _write_program(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)


def _own_paths(tool: Tool) -> tuple[str, ...]:
    """The tool's installation, where it lies outside of what every container sees of the host."""
    return () if tool.prefix.is_relative_to("/usr") else (str(tool.prefix),)


def _open_the_way(tree: Path, tool: Tool) -> None:
    """The place where the tool is bound in, which every user of the image may reach.

    Also below /root, which is the image's own: nothing that the host has there is visible in it.
    """
    for path in _own_paths(tool):
        (tree / path[1:]).mkdir(parents=True)
    if tool.prefix.is_relative_to("/root"):
        (tree / "root").chmod(stat.S_IRWXU | stat.S_IXGRP | stat.S_IXOTH)


def _output_of(tool: Tool, argument: str) -> str:
    try:
        command = [str(tool.path), argument]
        return subprocess.run(command, capture_output=True, text=True, timeout=20, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError) as error:
        raise NothingFits(f"{tool.path} does not run: {error}") from error


def _key(recipe: str, tool: Tool | None, *details: str) -> str:
    return " ".join((_RECIPES_VERSION, recipe, tool.fingerprint() if tool else "", *details))
