"""What happens in a node's sandbox, told as scenarios that run with real namespaces, for whoever runs this file.

Only the standard library and `podling.sandbox` are needed, so any interpreter that the user may read will do:

    python sandbox_scenarios.py SCENARIO TIER DIRECTORY      prints what was seen, as JSON
"""

# ruff: noqa: ASYNC230, ASYNC240  nothing else runs on these loops that a short look at a file would hold up

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "src"))

from podling.sandbox import boot, capabilities, oneshot
from podling.sandbox.client import Attachment, Conflict, HostHelper, NotFound, Sandbox, SandboxError, StartError

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
GATEWAY = "10.244.0.1"


class Bench:
    """A node of its own, with a client."""

    def __init__(self, directory: Path, tier: str | None) -> None:
        self.directory = directory
        self.tier = tier
        self.run_directory = directory / "run"
        self.run_directory.mkdir(parents=True, exist_ok=True)
        self.services: list[dict[str, Any]] = []
        self.ends: dict[str, asyncio.Future[dict[str, Any]]] = {}
        self.sandbox: Sandbox
        self.node: boot.NodeHandle

    def start_node(self) -> None:
        self.node = boot.start_node(
            boot.NodeConfig(
                name=f"test-{os.getpid()}",
                hostname="podling-test",
                run_directory=str(self.run_directory),
                cache_directory=str(self.directory / "cache"),
                services=self.services,
                tier=self.tier,
            )
        )

    async def connect(self) -> Sandbox:
        self.sandbox = await Sandbox.connect(self.node.zygote_socket)
        self.sandbox.on_exit(lambda state: self.end(state["id"]).set_result(state))
        return self.sandbox

    def end(self, container: str) -> asyncio.Future[dict[str, Any]]:
        return self.ends.setdefault(container, asyncio.get_running_loop().create_future())

    async def pod(self, name: str = "p", number: int = 2, **more: Any) -> None:
        spec = {"id": name, "hostname": name, "ip": f"10.244.0.{number}", "gateway": GATEWAY, **more}
        await self.sandbox.create_pod({key: value for key, value in spec.items() if value is not None})

    def spec(self, container: str, *args: str, pod: str = "p", **more: Any) -> dict[str, Any]:
        directory = self.directory / "containers" / container
        directory.mkdir(parents=True, exist_ok=True)
        return {
            "id": container,
            "pod": pod,
            "lowers": [],
            "host_base": True,
            "directory": str(directory),
            "args": list(args),
            "env": {"PATH": PATH},
            "cwd": "/",
            "uid": 0,
            "gid": 0,
            "groups": [],
            "mounts": [],
            "capabilities": list(capabilities.DEFAULT),
            "no_new_privileges": False,
            "read_only_root": False,
            "tty": False,
            "stdin": False,
            "log_path": str(self.directory / "logs" / f"{container}.log"),
            **more,
        }

    async def run(self, container: str, script: str, **more: Any) -> dict[str, Any]:
        """Run a shell script to its end: its exit code and the lines that it printed."""
        await self.sandbox.start(self.spec(container, "sh", "-c", script, **more))
        state = await asyncio.wait_for(self.end(container), 20)
        return {"code": state["exit_code"], "lines": self.lines(container), "state": state}

    def lines(self, container: str, stream: str | None = None) -> list[str]:
        path = self.directory / "logs" / f"{container}.log"
        rows = [row.split(" ", 3) for row in path.read_text().splitlines()] if path.exists() else []
        return [row[3] for row in rows if stream in (None, row[1])]

    async def exec(self, container: str, *args: str, **more: Any) -> dict[str, Any]:
        process = await self.sandbox.exec(container, args, **more)
        output = await asyncio.to_thread(read_all, process.stdout)
        errors = await asyncio.to_thread(read_all, process.stderr) if process.stderr is not None else ""
        return {"code": await process.wait(), "output": output, "errors": errors}


def read_all(descriptor: int) -> str:
    """Everything until the end, which on a terminal is an error; then closed."""
    parts: list[bytes] = []
    with contextlib.suppress(OSError):
        while data := os.read(descriptor, 65536):
            parts.append(data)
    os.close(descriptor)
    return b"".join(parts).decode()


def read_until(descriptor: int, text: str) -> str:
    seen = ""
    while text not in seen:
        data = os.read(descriptor, 65536)
        if not data:
            raise AssertionError(f"ended before {text!r}: {seen!r}")
        seen += data.decode()
    return seen


@contextlib.asynccontextmanager
async def node(bench: Bench) -> AsyncIterator[Bench]:
    bench.start_node()
    try:
        await bench.connect()
        yield bench
    finally:
        boot.stop_node(str(bench.run_directory))


def left_behind(bench: Bench) -> list[str]:
    """Traces of a node on the host."""
    groups = (Path(above) / name for above, below, _ in os.walk("/sys/fs/cgroup") for name in below)
    found = [str(path) for path in groups if path.name.startswith(f"podling-test-{os.getpid()}-")]
    found += [name for name in os.listdir(bench.run_directory) if name.endswith((".sock", ".json"))]
    with open("/proc/mounts", encoding="utf-8") as mounts:
        found += [line for line in mounts if str(bench.directory) in line]
    for pid in (bench.node.helper_pid, bench.node.zygote_pid):
        with contextlib.suppress(FileNotFoundError):
            status = Path(f"/proc/{pid}/stat").read_text()
            if status.rpartition(")")[2].split()[0] != "Z":  # a zombie waits for the machine's init only
                found.append(f"process {status}")
    return found


async def life(bench: Bench) -> dict[str, Any]:
    async with node(bench):
        await bench.pod()
        seen: dict[str, Any] = {"tier": bench.node.tier}
        seen["hello"] = await bench.run("hello", "echo out; echo err >&2; hostname; exit 7")
        seen["terminated"] = await bench.run("terminated", "sh -c 'kill -TERM $$'; exit $?")
        await bench.sandbox.start(bench.spec("sleeper", "sleep", "1000"))
        seen["exec"] = await bench.exec("sleeper", "sh", "-c", "ps -o pid=,args= -p 1; echo bad >&2; exit 3")
        seen["descriptors"] = (await bench.exec("sleeper", "ls", "/proc/1/fd"))["output"].split()
        seen["running"] = [state["id"] for state in await bench.sandbox.containers() if "exit_code" not in state]
        with contextlib.suppress(Conflict):
            await bench.sandbox.remove("sleeper")
            seen["removed while running"] = True
        await bench.sandbox.signal("sleeper", signal.SIGKILL)
        seen["killed"] = await bench.end("sleeper")
        await bench.sandbox.remove("sleeper")
        seen["after removal"] = sorted(state["id"] for state in await bench.sandbox.containers())
        await bench.sandbox.remove_pod("p")
        seen["pods"] = await bench.sandbox.pods()
        with contextlib.suppress(NotFound):
            await bench.sandbox.start(bench.spec("late", "true"))
            seen["started without pod"] = True
    seen["left"] = left_behind(bench)
    return seen


async def refusals(bench: Bench) -> dict[str, Any]:
    """What a container that cannot run says."""
    async with node(bench):
        await bench.pod()
        script = bench.directory / "script"
        script.write_text("#!/nowhere/interpreter\n")
        script.chmod(0o755)
        text = bench.directory / "text"
        text.write_text("neither a script nor a program\n")
        text.chmod(0o755)
        mounts = [{"type": "bind", "source": str(p), "target": f"/{p.name}"} for p in (script, text)]
        seen: dict[str, Any] = {}
        for command in ("nosuch", "/nosuch", "/etc/passwd", "/tmp", "/script", "/text"):
            try:
                await bench.sandbox.start(bench.spec("refused", command, mounts=mounts))
            except StartError as error:
                seen[command] = [error.message, error.exit_code]
        try:
            await bench.sandbox.start(bench.spec("refused", "true", capabilities=["NO_SUCH"]))
        except StartError as error:
            seen["capability"] = [error.message, error.exit_code]
        await bench.sandbox.start(bench.spec("sleeper", "sleep", "1000"))
        try:
            await bench.sandbox.exec("sleeper", ["nosuch"])
        except StartError as error:
            seen["exec"] = [error.message, error.exit_code]
        seen["containers"] = [state["id"] for state in await bench.sandbox.containers()]
    return seen


async def users(bench: Bench) -> dict[str, Any]:
    async with node(bench):
        await bench.pod()
        volume = bench.directory / "volume"
        volume.mkdir()
        volume.chmod(0o777)
        mounts = [{"type": "bind", "source": str(volume), "target": "/data"}]
        person = {"uid": 999, "gid": 998, "groups": [998, 2000]}
        seen: dict[str, Any] = {}
        script = "id -u; id -g; touch /data/mine && stat -c %u /data/mine; grep CapEff /proc/self/status; "
        script += "echo again >/dev/stderr"
        seen["person"] = await bench.run("person", script, mounts=mounts, **person)
        seen["port"] = await bench.run(
            "port", "python3 -c 'import socket; socket.socket().bind((\"0.0.0.0\", 80)); print(1)'", **person
        )
        await bench.sandbox.start(bench.spec("sleeper", "sleep", "1000", **person))
        seen["exec"] = (await bench.exec("sleeper", "id", "-u"))["output"]
        seen["root"] = await bench.run(
            "root",
            "id -u; touch /tmp/f && chown 33:33 /tmp/f && echo chowned; grep -E 'Cap(Eff|Inh)' /proc/self/status",
        )
        none = {"capabilities": [], "no_new_privileges": True}
        seen["none"] = await bench.run("none", "grep -E 'CapEff|NoNewPrivs' /proc/self/status", **none)
        seen["home"] = await bench.run("home", "echo $HOME")
        refused = "unshare -U true; unshare -m true; (exec 2>&1; mount -t tmpfs none /mnt) | grep -c denied; true"
        seen["filtered"] = await bench.run("filtered", refused, seccomp="runtime-default", capabilities=["ALL"])
        seen["unfiltered"] = await bench.run("unfiltered", "unshare -U true && echo made")
    return seen


async def roots(bench: Bench) -> dict[str, Any]:
    async with node(bench):
        await bench.pod()
        seen: dict[str, Any] = {}
        seen["writable"] = await bench.run(
            "writable",
            "touch /etc/new /usr/local/bin/new /new /var/lib/new && mkdir -p /app/deep && rm /etc/debian_version "
            "&& echo 'a:x:5:5::/:/bin/sh' >> /etc/passwd && tail -1 /etc/passwd; ls /home; cat /etc/hostname",
            files={"/etc/hostname": "me\n", "/etc/resolv.conf": "nameserver 10.96.0.10\n"},
        )
        seen["host unchanged"] = not any(
            Path(p).exists() for p in ("/etc/new", "/usr/local/bin/new", "/new", "/app/deep")
        )
        seen["fresh"] = await bench.run("fresh", "ls /new /app; test -e /etc/debian_version && echo there")
        seen["read only"] = await bench.run(
            "readonly", "touch /new; touch /usr/new; touch /tmp/x; touch /dev/shm/fine && echo shm", read_only_root=True
        )
        seen["secrets"] = await bench.run(
            "secrets", "cat /etc/shadow; ls /root/ | wc -l; ls -d /work /farm /var/log/*.log"
        )
        seen["hidden"] = await bench.run(
            "hidden",
            "wc -c < /proc/kcore; echo 1 > /proc/sys/kernel/hostname; echo b > /proc/sysrq-trigger; ls /sys/firmware",
        )
        seen["made device"] = await bench.run("mknod", "mknod /d c 1 5; head -c 1 /d | wc -c", capabilities=["ALL"])
        seen["devices"] = await bench.run(
            "devices", "ls /dev; echo x > /dev/null; head -c 3 /dev/zero | wc -c; ls -d /dev/pts/ptmx"
        )
        image = make_image(bench.directory / "image")
        upper_layer = bench.directory / "image2"
        (upper_layer / "bin").mkdir(parents=True)
        (upper_layer / "bin" / "greeting").write_text("#!/bin/sh\necho hello from a layer\n")
        (upper_layer / "bin" / "greeting").chmod(0o755)
        (upper_layer / "run").mkdir()
        full = {"lowers": [str(upper_layer), str(image)], "host_base": False}
        seen["image"] = await bench.run("image", "echo /*; greeting; cd /var/run; pwd -P", **full)
        many = [str(bench.directory / f"{'layer' * 20}-{number:03d}") for number in range(45)]
        for path in many:
            Path(path).mkdir()
        seen["many layers"] = await bench.run("many", "echo fine", lowers=[*many, str(image)], host_base=False)
        seen["directory"] = await bench.run("directory", "pwd", cwd="/not/there/yet")
    seen["left"] = left_behind(bench)
    return seen


def make_image(path: Path) -> Path:
    """A small image of its own: a shell with its libraries."""
    (path / "bin").mkdir(parents=True)
    (path / "var").mkdir()
    (path / "var" / "run").symlink_to("/run")
    shell = Path(shutil.which("dash") or "/bin/sh").resolve()
    shutil.copy(shell, path / "bin" / "sh")
    listed = subprocess.run(["ldd", str(shell)], capture_output=True, text=True, check=True).stdout.split()
    for word in {word for word in listed if word.startswith("/")}:
        target = path / word.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(word, target)
    return path


async def volumes(bench: Bench) -> dict[str, Any]:
    async with node(bench):
        await bench.pod()
        volume = bench.directory / "volume"
        (volume / "inner").mkdir(parents=True)
        (volume / "inner" / "file").write_text("content\n")
        (volume / "link").symlink_to("inner")
        (volume / "escape").symlink_to("/etc")
        (volume / "climb").symlink_to("../../../../../etc")

        def mounts(target: str, **more: Any) -> list[dict[str, Any]]:
            return [{"type": "bind", "source": str(volume), "target": target, **more}]

        seen: dict[str, Any] = {}
        seen["bind"] = await bench.run(
            "bind", "cat /deep/er/inner/file; echo new > /deep/er/new", mounts=mounts("/deep/er")
        )
        seen["written"] = (volume / "new").read_text()
        seen["read only"] = await bench.run("ro", "cat /v/new; touch /v/x", mounts=mounts("/v", read_only=True))
        seen["below usr"] = await bench.run(
            "usr", "cat /usr/share/deep/volume/new", mounts=mounts("/usr/share/deep/volume")
        )
        seen["through a link"] = await bench.run(
            "varrun", "cat /run/secrets/x/new", mounts=mounts("/var/run/secrets/x")
        )
        seen["file"] = await bench.run(
            "file", "cat /etc/app/config.txt", mounts=mounts("/etc/app/config.txt", sub_path="inner/file")
        )
        seen["sub path"] = await bench.run("sub", "cat /v/file", mounts=mounts("/v", sub_path="link"))
        seen["made"] = await bench.run("made", "echo 1 > /v/f", mounts=mounts("/v", sub_path="a/b/c"))
        seen["made there"] = (volume / "a" / "b" / "c" / "f").exists()
        for name in ("escape", "climb", "../x", "escape/ssl"):
            try:
                await bench.run("escaped", "ls /v", mounts=mounts("/v", sub_path=name))
                seen[name] = "mounted"
            except StartError as error:
                seen[name] = error.message
        seen["tmpfs"] = await bench.run(
            "tmpfs",
            "df -k /v | tail -1 | awk '{print $2}'; dd if=/dev/zero of=/v/x bs=1k count=2000 2>/dev/null || echo full",
            mounts=[{"type": "tmpfs", "target": "/v", "size": 1024 * 1024}],
        )
        seen["empty"] = await bench.run("empty", "touch /v/x; ls /v", mounts=[{"type": "empty", "target": "/v"}])
        seen["order"] = await bench.run(
            "order", "ls /v/t/inner", mounts=[{"type": "tmpfs", "target": "/v"}, *mounts("/v/t")]
        )
    return seen


async def terminals(bench: Bench) -> dict[str, Any]:
    async with node(bench):
        await bench.pod()
        seen: dict[str, Any] = {}
        await bench.sandbox.start(bench.spec("sleeper", "sleep", "1000"))
        process = await bench.sandbox.exec("sleeper", ["sh"], tty=True)
        await process.resize(100, 40)
        os.write(process.stdout, b"tty; stty size; exit 4\n")
        seen["exec"] = await asyncio.to_thread(read_until, process.stdout, "40 100")
        seen["exec code"] = await process.wait()
        os.close(process.stdout)
        process = await bench.sandbox.exec("sleeper", ["cat"], stdin=True)
        os.write(process.stdin, b"through\n")
        os.close(process.stdin)
        seen["cat"] = [await asyncio.to_thread(read_all, process.stdout), await process.wait()]
        process = await bench.sandbox.exec("sleeper", ["sleep", "1000"])
        await process.kill()
        seen["killed exec"] = await process.wait()

        await bench.sandbox.start(bench.spec("cat", "cat", stdin=True, stdin_once=True))
        attached: Attachment = await bench.sandbox.attach("cat")
        os.write(attached.stdin, b"said\n")
        seen["attached"] = await asyncio.to_thread(read_until, attached.stdout, "said")
        os.close(attached.stdin)
        seen["after stdin"] = await asyncio.wait_for(attached.wait(), 5)
        seen["log"] = bench.lines("cat")

        await bench.sandbox.start(bench.spec("shell", "sh", tty=True, stdin=True))
        attached = await bench.sandbox.attach("shell")
        await attached.resize(90, 30)
        os.write(attached.stdin, b"stty size; exit 0\n")
        seen["terminal"] = await asyncio.to_thread(read_until, attached.stdout, "30 90")
        seen["terminal code"] = await asyncio.wait_for(attached.wait(), 5)
        seen["late"] = await asyncio.wait_for((await bench.sandbox.attach("shell")).wait(), 5)
    return seen


async def pods(bench: Bench) -> dict[str, Any]:
    """What containers of a pod share, and what pods do not."""
    async with node(bench):
        seen: dict[str, Any] = {}
        await bench.pod("a", 2)
        await bench.pod("b", 3, share_pid=True, sysctls={"net.core.somaxconn": "77"})
        await bench.pod("n", 0, ip=None)
        serve = (
            "import http.server,sys; http.server.test(http.server.SimpleHTTPRequestHandler, port=5000, bind='0.0.0.0')"
        )
        for pod in ("a", "b"):
            await bench.sandbox.start(bench.spec(f"web-{pod}", "python3", "-c", serve, pod=pod, cwd="/etc"))
        seen["answers"] = [await ask(bench, pod) for pod in ("a", "b")]
        fetch = "python3 -c 'import urllib.request as u; print(u.urlopen(\"http://{}:5000/hostname\").status)'"
        seen["to the other"] = await bench.run("fetch", fetch.format("10.244.0.3"), pod="a")
        seen["to the neighbour"] = await bench.run("local", fetch.format("127.0.0.1"), pod="a")
        await bench.pod("guest", 0, ip=None, network="b")
        seen["in the other's network"] = await bench.run("guest", fetch.format("127.0.0.1"), pod="guest")
        seen["from the node"] = await bench.run("node", fetch.format("10.244.0.2"), pod="n")
        seen["processes"] = await bench.run("processes", "ps -o args= -A | grep -c [S]impleHTTP", pod="b")
        seen["no processes"] = await bench.run("alone", "ps -o args= -A | grep -c [S]impleHTTP", pod="a")
        seen["sysctl"] = await bench.run("sysctl", "cat /proc/sys/net/core/somaxconn", pod="b")
        await bench.sandbox.remove_pod("a")
        gone = time.monotonic()
        seen["refused"] = await bench.run("gone", fetch.format("10.244.0.2") + " 2>&1 | tail -1", pod="b")
        seen["refused after"] = time.monotonic() - gone
        await bench.pod("again", 2)
        seen["same address"] = (await bench.run("same", "ip -br addr show eth0 | awk '{print $3}'", pod="again"))[
            "lines"
        ]
    seen["left"] = left_behind(bench)
    return seen


async def ask(bench: Bench, pod: str) -> str:
    """One request over a connection made inside the pod, once it listens."""
    for _ in range(500):
        try:
            connection = await bench.sandbox.dial(pod, 5000)
        except ConnectionRefusedError:
            await asyncio.sleep(0.01)
            continue
        with connection:
            loop = asyncio.get_running_loop()
            await loop.sock_sendall(connection, b"GET /hostname HTTP/1.0\r\n\r\n")
            return (await loop.sock_recv(connection, 100)).decode().split("\r\n")[0]
    raise AssertionError("nobody listens")


async def outside(bench: Bench) -> dict[str, Any]:
    """The host helper."""
    async with node(bench):
        seen: dict[str, Any] = {}
        helper = await HostHelper.open(bench.node.helper_socket)
        listener = await helper.listen("127.0.0.1", 0)
        port = listener.getsockname()[1]
        connection = await helper.connect("127.0.0.1", port)
        peer, _ = await asyncio.get_running_loop().sock_accept(listener)
        seen["connected"] = peer.getpeername()[1] == connection.getsockname()[1]
        with socket.socket() as direct:
            direct.connect(("127.0.0.1", port))
            seen["from the host"] = True
        try:
            await helper.listen("127.0.0.1", port)
        except OSError as error:
            seen["taken"] = error.errno
        listener.close()
        try:
            await helper.connect("127.0.0.1", port)
        except OSError as error:
            seen["refused"] = error.errno
        seen["resolved"] = await helper.resolve("localhost")
        try:
            await helper.resolve("no-such-name.invalid")
        except socket.gaierror as error:
            seen["unresolved"] = error.errno != 0
        seen["status"] = await helper.status() == {"helper": bench.node.helper_pid, "zygote": bench.node.zygote_pid}
        helper.close()
        for one in (connection, peer):
            one.close()
    return seen


async def survival(bench: Bench) -> dict[str, Any]:
    """The daemon is killed, its successor finds everything."""
    marks = bench.directory / "marks"
    service = (
        "import os,time; f=open(os.environ['MARKS'],'a'); f.write(f'{os.getpid()}\\n'); f.flush(); time.sleep(1000)"
    )
    bench.services = [
        {
            "name": "daemon",
            "argv": [sys.executable, "-S", "-c", service],
            "env": {"MARKS": str(marks)},
            "log": str(bench.directory / "daemon.log"),
        }
    ]
    async with node(bench):
        seen: dict[str, Any] = {}
        await bench.pod()
        await bench.sandbox.start(bench.spec("stays", "sleep", "1000"))
        await bench.sandbox.start(bench.spec("ends", "sh", "-c", "read x < /gate/pipe; exit 9", mounts=[gate(bench)]))
        before = (await bench.sandbox.describe())["services"]["daemon"]
        bench.sandbox.close()
        bench.ends.clear()
        with open(bench.directory / "gate" / "pipe", "w", encoding="ascii") as pipe:
            pipe.write("go\n")
        successor = await bench.connect()
        for _ in range(200):
            states = {state["id"]: state for state in await successor.containers()}
            if "exit_code" in states["ends"]:
                break
            await asyncio.sleep(0.01)
        seen["missed"] = states["ends"]["exit_code"]
        seen["still runs"] = "exit_code" not in states["stays"]
        seen["pods"] = [pod["id"] for pod in await successor.pods()]
        seen["exec"] = (await bench.exec("stays", "echo", "alive"))["output"]
        await bench.pod("hostpid", 9, host_pid=True)
        seen["kill"] = await bench.run("killer", f"kill -9 {before['pid']}", pod="hostpid")
        for _ in range(300):
            after = (await successor.describe())["services"]["daemon"]
            if after["starts"] == 2 and marks.read_text().count("\n") == 2:
                break
            await asyncio.sleep(0.01)
        seen["starts"] = after["starts"]
        seen["other pid"] = after["pid"] != before["pid"]
        seen["untouched"] = "exit_code" not in {s["id"]: s for s in await successor.containers()}["stays"]
    seen["left"] = left_behind(bench)
    return seen


def gate(bench: Bench) -> dict[str, Any]:
    (bench.directory / "gate").mkdir()
    os.mkfifo(bench.directory / "gate" / "pipe")
    return {"type": "bind", "source": str(bench.directory / "gate"), "target": "/gate"}


async def crashes(bench: Bench) -> dict[str, Any]:
    """Any part is killed: nothing goes on, and the next start finds a clean place."""
    seen: dict[str, Any] = {}
    for victim in ("helper", "zygote"):
        bench.start_node()
        await bench.connect()
        await bench.pod(cgroup="burstable/podp")
        await bench.sandbox.start(bench.spec(f"victim-{victim}", "sleep", "1000"))
        await bench.sandbox.freeze(
            f"victim-{victim}", victim == "zygote"
        )  # what is frozen must not keep it from ending
        pid = bench.node.helper_pid if victim == "helper" else bench.node.zygote_pid
        watched = [os.pidfd_open(p) for p in (bench.node.helper_pid, bench.node.zygote_pid)]
        os.kill(pid, signal.SIGKILL)
        await asyncio.wait_for(asyncio.gather(*(readable(descriptor) for descriptor in watched)), 10)
        await asyncio.wait_for(asyncio.shield(bench.sandbox.closed), 5)
        seen[f"{victim}: running"] = boot.is_running(str(bench.run_directory))
        boot.stop_node(str(bench.run_directory))
        seen[f"{victim}: left"] = left_behind(bench)
    async with node(bench):
        seen["starts again"] = bench.node.tier
        try:
            bench.start_node()
        except boot.NodeError as error:
            seen["second"] = str(error)
    boot.stop_node(str(bench.run_directory))
    seen["left"] = left_behind(bench)
    return seen


async def readable(descriptor: int) -> None:
    done = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().add_reader(descriptor, lambda: done.done() or done.set_result(None))
    await done
    asyncio.get_running_loop().remove_reader(descriptor)
    os.close(descriptor)


async def noise(bench: Bench) -> dict[str, Any]:
    """Two containers write as fast as they can, and somebody attached does not read: others do not notice."""
    async with node(bench):
        await bench.pod()
        noisy = {"log_max_bytes": 1_000_000, "log_max_files": 3}
        for name in ("noisy-1", "noisy-2"):
            await bench.sandbox.start(bench.spec(name, "yes", "a line of some length that is repeated", **noisy))
        stuck = await bench.sandbox.attach("noisy-1")
        times: list[float] = []
        for number in range(20):
            start = time.monotonic()
            await bench.sandbox.start(bench.spec(f"quiet-{number}", "true"))
            times.append(time.monotonic() - start)
        states = {state["id"]: state for state in await bench.sandbox.containers()}
        seen = {"slowest start": max(times), "noisy runs": "exit_code" not in states["noisy-1"]}
        seen["cut off"] = len(await asyncio.to_thread(read_all, stuck.stdout)) < 3_000_000
        for name in ("noisy-1", "noisy-2"):
            await bench.sandbox.signal(name, signal.SIGKILL)
            await bench.end(name)
        files = sorted((bench.directory / "logs").glob("noisy-1.log*"))
        seen["files"] = len(files)
        seen["largest"] = max(path.stat().st_size for path in files)
        lines = [line for path in files for line in path.read_text().splitlines()]
        wrong = [line for line in lines if line.split(" ", 3)[3] != "a line of some length that is repeated"]
        seen["broken lines"] = len(wrong)
        seen["long line"] = (await bench.run("long", "head -c 40000 /dev/zero | tr '\\0' x; echo; printf end"))["code"]
        tags = [line.split(" ")[2] for line in (bench.directory / "logs" / "long.log").read_text().splitlines()]
        seen["tags"] = tags
    return seen


async def limits(bench: Bench) -> dict[str, Any]:
    async with node(bench):
        description = await bench.sandbox.describe()
        seen: dict[str, Any] = {"version": description["cgroups"]["version"]}
        await bench.pod(cgroup="burstable/podp")
        eat = "python3 -c 'import time; x = bytearray(200 << 20); time.sleep(5); print(len(x))'; exit $?"
        seen["out of memory"] = await bench.run("eater", eat, limits={"memory_bytes": 50 << 20})
        seen["crowd"] = await bench.run(
            "crowd", "for i in 1 2 3 4 5 6 7 8; do sleep 1 & done; wait", limits={"pids": 5}
        )
        spin = "import time; t=time.monotonic()\nwhile time.monotonic()-t<0.6: pass\nprint(time.process_time())"
        seen["throttled"] = await bench.run("spin", f"python3 -c '{spin}'", limits={"cpu_millis": 200})
        count = "i=0; while :; do i=$((i+1)); echo $i; sleep 0.01; done"
        await bench.sandbox.start(bench.spec("counter", "sh", "-c", count))
        await bench.sandbox.freeze("counter", True)
        first = len(bench.lines("counter"))
        await asyncio.sleep(0.3)
        seen["while frozen"] = len(bench.lines("counter")) - first
        await bench.sandbox.freeze("counter", False)
        await asyncio.sleep(0.3)
        seen["afterwards"] = len(bench.lines("counter")) - first
        await bench.sandbox.freeze("counter", True)
        await bench.sandbox.signal("counter", signal.SIGKILL)
        seen["killed while frozen"] = (await asyncio.wait_for(bench.end("counter"), 5))["exit_code"]
    seen["left"] = left_behind(bench)
    return seen


async def inside(bench: Bench) -> dict[str, Any]:
    """What the daemon, inside the node, sees of connections and usage."""
    result = bench.directory / "result.json"
    bench.services = [
        {
            "name": "inside",
            "argv": [sys.executable, str(Path(__file__).resolve()), "_inside", bench.tier, str(bench.directory)],
            "env": {"PATH": PATH},
            "log": str(bench.directory / "inside.log"),
            "restart": False,
        }
    ]
    async with node(bench):
        with contextlib.suppress(KeyError):
            await asyncio.wait_for(bench.end("done"), 15)
    seen: dict[str, Any] = json.loads(result.read_text())
    return seen


async def observe(bench: Bench) -> None:
    bench.sandbox = await Sandbox.connect(str(bench.run_directory / "zygote.sock"))
    await bench.pod()
    serve = "import socket,time; s=socket.socket(); s.bind(('0.0.0.0',5000)); s.listen(5); "
    serve += "x=[i for i in range(300000)]; print(1, flush=True); time.sleep(1000)"
    await bench.sandbox.start(bench.spec("deaf", "python3", "-c", serve))
    seen: dict[str, Any] = {"tier": bench.tier}
    connections: list[socket.socket] = []
    while not connections:
        with contextlib.suppress(ConnectionRefusedError):
            seen["before"] = await bench.sandbox.listen_queue("p")
            connections.append(await bench.sandbox.dial("p", 5000))
        await asyncio.sleep(0.01)
    seen["one waits"] = await bench.sandbox.listen_queue("p")
    for connection in connections:
        connection.close()
    seen["stats"] = (await bench.sandbox.stats("p"))["deaf"]
    await bench.sandbox.remove_pod("p")
    seen["without pod"] = [await bench.sandbox.listen_queue("p"), await bench.sandbox.stats("p")]
    (bench.directory / "result.json").write_text(json.dumps(seen))
    await bench.pod("q", 3)
    await bench.sandbox.start(bench.spec("done", "true", pod="q"))


async def steps(bench: Bench) -> dict[str, Any]:
    """Build steps: no node."""
    seen: dict[str, Any] = {}

    def step(name: str, script: str, **more: Any) -> dict[str, Any]:
        network = more.pop("network", True)
        spec = bench.spec(name, "sh", "-c", script, **more)
        output = bench.directory / f"{name}.out"
        with output.open("wb") as file:
            code = oneshot.run_step(
                spec, file.fileno(), cache_directory=str(bench.directory / "cache"), network=network, tier=bench.tier
            )
        return {"code": code, "output": output.read_text(), "directory": spec["directory"]}

    first = step(
        "first",
        "mkdir /app; echo one > /app/file; chown 33:33 /app/file; echo '#!/bin/sh\necho tool' > /usr/local/bin/tool; "
        "chmod +x /usr/local/bin/tool; rm /etc/debian_version; echo said; echo cried >&2; exit 0",
        files={"/etc/resolv.conf": "nameserver 192.0.2.1\n"},
    )
    layer = f"{first['directory']}/layer"
    seen["first"] = first["output"]
    seen["in the directory"] = os.listdir(first["directory"])
    seen["layer"] = sorted(str(path.relative_to(layer)) for path in Path(layer).rglob("*"))
    second = step("second", "cat /app/file; tool; ls /etc/debian_version; exit 6", lowers=[layer])
    seen["second"] = [second["code"], second["output"]]
    own = os.readlink("/proc/self/ns/net")
    seen["host network"] = step("network", "readlink /proc/self/ns/net")["output"].strip() == own
    seen["no network"] = step("isolated", "ip -br link | wc -l", network=False)["output"].strip()
    try:
        step("missing", "", args=["no-such-command"])
    except oneshot.StartFailure as failure:
        seen["missing"] = [failure.message, failure.exit_code]
    for name in ("first", "second"):
        oneshot.remove_tree(str(bench.directory / "containers" / name))
    seen["removed"] = not (bench.directory / "containers" / "first").exists()
    return seen


async def leaks(bench: Bench) -> dict[str, Any]:
    """Forty pods come and go, with everything that can go wrong in them."""

    def held() -> dict[str, int]:
        return {
            name: len(os.listdir(f"/proc/{pid}/fd"))
            for name, pid in (("zygote", bench.node.zygote_pid), ("helper", bench.node.helper_pid))
        }

    async def cycle(number: int) -> None:
        pod = f"p{number}"
        await bench.pod(pod, 2 + number % 4, share_pid=number % 5 == 0, cgroup=f"burstable/{pod}")
        with contextlib.suppress(StartError):
            await bench.sandbox.start(bench.spec(f"bad{number}", "nosuch", pod=pod))
        await bench.sandbox.start(bench.spec(f"c{number}", "sh", pod=pod, stdin=True, tty=number % 2 == 0))
        attached = await bench.sandbox.attach(f"c{number}")
        await bench.exec(f"c{number}", "echo", "hello")
        with contextlib.suppress(StartError):
            await bench.sandbox.exec(f"c{number}", ["nosuch"])
        await bench.sandbox.exec(f"c{number}", ["sleep", "1000"])
        for descriptor in {attached.stdin, attached.stdout, attached.stderr} - {None}:
            os.close(descriptor)
        with contextlib.suppress(ConnectionRefusedError):
            await bench.sandbox.dial(pod, 1)
        await bench.sandbox.remove_pod(pod)

    async with node(bench):
        for number in range(5):
            await cycle(number)
        before = held()
        for number in range(5, 45):
            await cycle(number)
        return {"before": before, "after": held(), "containers": await bench.sandbox.containers()}


async def detection(bench: Bench) -> dict[str, Any]:
    """The node finds its tier by itself."""
    wanted, bench.tier = bench.tier, None
    async with node(bench):
        seen = {"chosen": bench.node.tier, "wanted": wanted}
    seen["left"] = sorted(os.listdir(bench.run_directory))
    return seen


async def latency(bench: Bench) -> dict[str, Any]:
    async with node(bench):
        created: list[float] = []
        total: list[float] = []
        for number in range(40):
            start = time.monotonic()
            await bench.pod(f"p{number}", number + 2)
            created.append(time.monotonic() - start)
            await bench.sandbox.start(bench.spec(f"c{number}", "sleep", "1000", pod=f"p{number}"))
            total.append(time.monotonic() - start)
        start = time.monotonic()
        await bench.exec("c0", "true")
        execution = time.monotonic() - start
        pss = {
            name: int(
                next(
                    line.split()[1]
                    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
                    if line.startswith("Pss:")
                )
            )
            for name, pid in (("zygote", bench.node.zygote_pid), ("helper", bench.node.helper_pid))
        }
        start = time.monotonic()
        await asyncio.gather(*(bench.sandbox.remove_pod(f"p{number}") for number in range(40)))
        return {
            "tier": bench.node.tier,
            "create pod p50 ms": round(sorted(created)[20] * 1000, 2),
            "create and start p50 ms": round(sorted(total)[20] * 1000, 2),
            "create and start p90 ms": round(sorted(total)[36] * 1000, 2),
            "exec ms": round(execution * 1000, 2),
            "remove 40 pods ms": round((time.monotonic() - start) * 1000, 2),
            "pss KiB with 40 pods": pss,
        }


SCENARIOS = {
    scenario.__name__: scenario
    for scenario in (
        *(life, refusals, users, roots, volumes, terminals, pods, outside, survival, crashes, noise, limits, inside),
        *(steps, leaks, detection, latency),
    )
}


def main(name: str, tier: str, directory: str) -> None:
    bench = Bench(Path(directory), tier)
    if name == "_inside":
        asyncio.run(observe(bench))
        return
    try:
        seen = asyncio.run(SCENARIOS[name](bench))
    except SandboxError as error:
        raise SystemExit(f"{type(error).__name__}: {error}") from error
    print(json.dumps(seen))


if __name__ == "__main__":
    main(*sys.argv[1:])
