"""Somebody between a switch and the daemon, who sees every OpenFlow message and may change, cut or keep it."""
from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from labkit import Cloud

TO_SWITCH, TO_DAEMON = "to the switch", "to the daemon"
_HEADER = 8  # bytes of an OpenFlow message before its body; its length is in bytes 2 and 3

Meddle = Callable[[str, bytes], bytes]  # (direction, message) -> what goes on; Cut and Hold as below


class Cut(Exception):
    """Raised by a meddler: this much of a message goes on, and then the connection ends."""

    def __init__(self, rest: bytes) -> None:
        super().__init__()
        self.rest = rest


class Hold(Exception):
    """Raised by a meddler: from now on nothing is read on this way any more, and nothing is closed."""


class Between:
    """Listens where the switches of a host look for the daemon, until it is closed."""

    def __init__(self, cloud: Cloud, host: str, meddle: Meddle) -> None:
        self._meddle = meddle
        self._link = cloud.rundir / "lab" / host / "tunbridge.sock"
        self._there = Path(os.readlink(self._link))
        self._here = cloud.rundir / f"between-{host}.sock"
        self._server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._server.bind(str(self._here))
        self._server.listen(16)
        self._open: list[socket.socket] = []
        self._point_to(self._here)
        threading.Thread(target=self._accept, daemon=True).start()
        _reconnect(cloud, host)

    def _point_to(self, path: Path) -> None:
        point(self._link, path)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                switch = self._server.accept()[0]
                daemon = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
                self._open += [switch, daemon]
                try:
                    daemon.connect(str(self._there))
                except OSError:
                    switch.close()
                    continue
                for source, target, way in ((switch, daemon, TO_DAEMON), (daemon, switch, TO_SWITCH)):
                    threading.Thread(target=self._carry, args=(source, target, way), daemon=True).start()

    def _carry(self, source: socket.socket, target: socket.socket, way: str) -> None:
        try:
            for message in _messages(source):
                target.sendall(self._meddle(way, message))
        except Hold:
            return
        except Cut as cut:
            with contextlib.suppress(OSError):
                target.sendall(cut.rest)
        except OSError:
            pass
        for each in (source, target):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """The switches find the daemon itself again."""
        self._point_to(self._there)
        self._server.close()
        self._here.unlink()
        for each in self._open:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()


def point(link: Path, path: Path) -> None:
    """A symbolic link leads elsewhere from now on."""
    new = link.with_suffix(".new")
    new.unlink(missing_ok=True)
    new.symlink_to(path)
    new.replace(link)


def _reconnect(cloud: Cloud, host: str) -> None:
    for bridge in cloud.topology.hosts[host].datapath_ids:
        cloud.run(host, "ovs-appctl", "-t", "ovs-vswitchd", "bridge/reconnect", bridge)


def _messages(source: socket.socket) -> Iterator[bytes]:
    data = b""
    while more := source.recv(1 << 16):
        data += more
        while len(data) >= _HEADER and len(data) >= (length := max(int.from_bytes(data[2:4], "big"), _HEADER)):
            yield data[:length]
            data = data[length:]


@contextlib.contextmanager
def between(cloud: Cloud, host: str, meddle: Meddle) -> Iterator[Between]:
    """Somebody in between meanwhile."""
    with contextlib.closing(Between(cloud, host, meddle)) as made:
        yield made
