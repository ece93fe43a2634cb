"""Two servers behind one address: PostgreSQL holds what they know, Redis what they tell each other."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import socketserver
import subprocess
import threading
from dataclasses import dataclass, field

from free_port import free_port
from site_under_test import Deployment, until

SERVERS = 2


class Front(socketserver.ThreadingTCPServer):
    """Leads every connection to one of the servers that answer, in turn, as a reverse proxy does."""

    daemon_threads = True
    request_queue_size = 100

    def __init__(self, port: int, ports: list[int]) -> None:
        self.ports = ports
        super().__init__(("127.0.0.1", port), Lead)


class Lead(socketserver.BaseRequestHandler):
    server: Front

    def handle(self) -> None:
        ports = self.server.ports
        ports.append(ports.pop(0))
        for port in [*ports]:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)) as behind:
                there = threading.Thread(target=pump, args=(self.request, behind))
                there.start()
                pump(behind, self.request)
                there.join()
                return


def pump(source: socket.socket, target: socket.socket) -> None:
    """Copies until either side has gone, and takes the other with it."""
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
    for end in (source, target):
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)


@dataclass
class SeveralServers(Deployment):
    """As docs/deployment.md says. `server` is the one that was started last."""

    redis: subprocess.Popen[bytes] | None = None
    services: subprocess.Popen[bytes] | None = None
    servers: dict[int, subprocess.Popen[bytes] | None] = field(default_factory=dict)
    """By port, the next to be killed first."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.redis_port = free_port()
        url = f"redis://127.0.0.1:{self.redis_port}"
        self.extra |= {
            "PREFECT_MESSAGING_BROKER": "prefect_redis.messaging",
            "PREFECT_MESSAGING_CACHE": "prefect_redis.messaging",
            "PREFECT_SERVER_EVENTS_CAUSAL_ORDERING": "prefect_redis.ordering",
            "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect_redis.lease_storage",
            "PREFECT_REDIS_MESSAGING_URL": f"{url}/0",
            "PREFECT_SERVER_DOCKET_URL": f"{url}/1",
        }
        self.servers = {free_port(): None for _ in range(SERVERS)}
        self.front = Front(self.port, [*self.servers])
        threading.Thread(target=self.front.serve_forever, daemon=True).start()

    def start_server(self) -> None:
        """Those that do not run, and at first Redis and the services."""
        if self.redis is None:
            words = ["--port", str(self.redis_port), "--bind", "127.0.0.1", "--save", "", "--dir", str(self.folder)]
            self.redis = subprocess.Popen(["redis-server", *words], stdout=subprocess.DEVNULL)
            until(lambda: answers(self.redis_port), "Redis answers")
        for port, process in self.servers.items():
            if process is None or process.poll() is not None:
                words = ["--host", "127.0.0.1", "--port", str(port), "--no-services"]
                self.servers[port] = self.server = self.start("server", "-m", "prefect", "server", "start", *words)
                until(lambda port=port: answers(port), "the server answers")
        if self.services is None:
            self.services = self.start("services", "-m", "prefect", "server", "services", "start")

    def kill_server(self) -> None:
        """One of them; the other goes on."""
        port, process = next(iter(self.servers.items()))
        assert process is not None
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        self.servers[port] = self.servers.pop(port)

    def serves(self, pid: int) -> bool:
        try:
            group = os.getpgid(pid)
        except ProcessLookupError:
            return False
        return group in {process.pid for process in (self.services, *self.servers.values()) if process is not None}

    def stop(self) -> None:
        self.front.shutdown()
        self.front.server_close()
        super().stop()
        if self.redis is not None:
            self.redis.kill()
            self.redis.wait()


def answers(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
        return True
    return False
