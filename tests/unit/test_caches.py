"""How an ovs-vswitchd is asked to empty its cache; what that does is in system/test_edge_oracle.py."""
from __future__ import annotations

import json
import os
import socket
import threading
from pathlib import Path

import pytest

from controller.switch.caches import purge


def asked(rundir: Path, answer: bytes) -> tuple[str | None, bytes]:
    """What `purge` says of an ovs-vswitchd that gives this answer, and what that one was asked."""
    (rundir / "ovs-vswitchd.pid").write_text(f"{os.getpid()}\n")
    heard: list[bytes] = []
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(rundir / f"ovs-vswitchd.{os.getpid()}.ctl"))
        server.listen()

        def serve() -> None:
            channel, _ = server.accept()
            with channel:
                heard.append(channel.recv(4096))
                channel.sendall(answer)
        thread = threading.Thread(target=serve)
        thread.start()
        said = purge(rundir)
        thread.join()
    return said, heard[0]


def test_the_switch_is_asked_as_ovs_appctl_asks(tmp_path: Path) -> None:
    said, heard = asked(tmp_path, b'{"id":0,"result":"","error":null}')
    assert said is None
    assert json.loads(heard) == {"id": 0, "method": "revalidator/purge", "params": []}


@pytest.mark.parametrize(("answer", "words"), [
    (b'{"id":0,"result":null,"error":"no such command"}', "no such command"),
    (b"rubbish", "ovs-vswitchd answers b'rubbish'"),
])
def test_what_the_switch_does_not_do_is_said(tmp_path: Path, answer: bytes, words: str) -> None:
    assert asked(tmp_path, answer)[0] == words


def test_where_nobody_runs_there_is_nothing_to_do(tmp_path: Path) -> None:
    assert purge(tmp_path) is None
    (tmp_path / "ovs-vswitchd.pid").write_text("4194304\n")
    assert purge(tmp_path) is None
