"""The daemon without a switch: its life, its log, and garbage on every socket."""
from __future__ import annotations

import json
import random
import re
import resource
import signal
import socket
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.commands import PATIENCE, ROOT, Daemon, daemon, place, run

DEMO = ROOT / "topology.yaml"
LINE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z (DEBUG|INFO|WARNING|ERROR) .+")
SOCKETS = ("openflow.sock", "control.sock")


@pytest.fixture
def rundir() -> Iterator[Path]:
    with place() as made:
        yield made


@pytest.fixture
def file(rundir: Path) -> Path:
    made = rundir / "topology.yaml"
    made.write_bytes(DEMO.read_bytes())
    return made


@pytest.fixture
def running(rundir: Path, file: Path) -> Iterator[Daemon]:
    with daemon(rundir, file) as made:
        yield made


@pytest.fixture(scope="module")
def lasting() -> Iterator[Daemon]:
    """One daemon for all the garbage there is."""
    with place() as made, daemon(made, DEMO) as found:
        yield found


def asked(of: Daemon) -> dict[str, object]:
    """Its status, without the cost of a command."""
    return json.loads(of.asks(b'{"do": "status"}\n'))


def status(rundir: Path) -> dict[str, object]:
    done = run("status", "--json", rundir=rundir)
    assert done.code == 1, "no switch is connected"
    return json.loads(done.out)


# ---- its life

@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_cleanly(running: Daemon, number: int) -> None:
    assert all((running.rundir / name).is_socket() for name in SOCKETS)
    assert running.end(number) == 0
    assert not any((running.rundir / name).exists() for name in SOCKETS)
    assert 'INFO stopped flows="stay in place"' in running.words()


def test_signals_one_upon_the_other_end_it_cleanly_as_well(running: Daemon) -> None:
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        running.process.send_signal(number)
    assert running.end() == 0


def test_what_a_killed_daemon_leaves_is_replaced(running: Daemon, file: Path) -> None:
    assert running.end(signal.SIGKILL) == -signal.SIGKILL
    assert all((running.rundir / name).is_socket() for name in SOCKETS), "stale sockets and a stale lock are there"
    run("status", rundir=running.rundir).refused(3, "No daemon runs")
    with daemon(running.rundir, file):
        assert status(running.rundir)["errors"] == 0


def test_a_second_daemon_is_refused_and_the_first_lives_on(running: Daemon) -> None:
    run("run", str(DEMO), "--listen", "none", rundir=running.rundir).refused(
        3, f"process {running.process.pid}", f"already runs at {running.rundir}", "--rundir")
    assert status(running.rundir)["topology"] == str(running.rundir / "topology.yaml")


def test_two_daemons_with_different_run_directories_do_not_meet(running: Daemon) -> None:
    with place() as other, daemon(other, DEMO):
        assert status(other)["topology"] == str(DEMO)
        assert status(running.rundir)["topology"] == str(running.rundir / "topology.yaml")


def test_strangers_to_the_machine_may_not_ask_it(running: Daemon) -> None:
    assert [(running.rundir / name).stat().st_mode & 0o777 for name in SOCKETS] == [0o600, 0o600]


# ---- its topology

def test_an_invalid_topology_is_refused_whole_and_status_tells(running: Daemon, file: Path) -> None:
    bad = running.rundir / "bad.yaml"
    bad.write_text("cloud: x\nhosts: {}\nbogus: 1\n")
    done = run("apply", str(bad), rundir=running.rundir)
    done.refused(2, "hosts: there must be at least one host", 'unknown key "bogus"', 'the key "networks" is missing',
                 "Nothing has changed", "    bogus: 1\n    ^")
    told = status(running.rundir)
    assert told["topology"] == str(file)
    assert told["last_apply"] == {"ok": False, "file": str(bad), "problems": 4, "in_force": str(file)}
    text = run("status", rundir=running.rundir).out
    assert f"the last change was refused: {bad} has 4 errors (`tunbridge check {bad}`); {file} stays in force" in text


def test_a_good_topology_takes_force_from_a_file_and_from_stdin(running: Daemon) -> None:
    assert run("apply", str(DEMO), rundir=running.rundir).code == 0
    assert status(running.rundir)["last_apply"] == {"ok": True, "file": str(DEMO), "problems": 0,
                                                    "in_force": str(DEMO)}
    with DEMO.open() as opened:
        assert run("apply", "-", rundir=running.rundir, stdin=opened).code == 0
    assert status(running.rundir)["topology"] == "-"
    with (ROOT / "setup.cfg").open() as opened:
        run("apply", "-", rundir=running.rundir, stdin=opened).refused(2, "-:2:1:", "Nothing has changed")


def test_a_topology_that_is_not_utf8_is_refused_with_its_byte(running: Daemon) -> None:
    (running.rundir / "latin1.yaml").write_bytes(b"cloud: caf\xe9\n")
    run("apply", str(running.rundir / "latin1.yaml"), rundir=running.rundir).refused(2, "the byte 0xe9 is not UTF-8")


def test_sighup_reads_the_file_again_broken_missing_and_good(running: Daemon, file: Path) -> None:
    for breakage in (b"cloud: [", None):
        file.unlink()
        if breakage is not None:
            file.write_bytes(breakage)
        before = running.words().count("reload refused")
        running.process.send_signal(signal.SIGHUP)
        assert running.waits_for("reload refused", before + 1)
        assert asked(running)["last_apply"] == {"ok": False, "file": str(file), "problems": 1, "in_force": str(file)}
    file.write_bytes(DEMO.read_bytes())
    running.process.send_signal(signal.SIGHUP)
    assert running.waits_for("apply")
    assert asked(running)["last_apply"] == {"ok": True, "file": str(file), "problems": 0, "in_force": str(file)}


@pytest.mark.parametrize(("words", "code", "said"), [
    ("flows nowhere", 2, "compute1, compute2, network1"), ("flows compute1/br-int", 3, "is not connected"),
    ("recompute", 3, "No switch is connected"), ("status --wait 0.2", 1, "")])
def test_without_a_switch_commands_say_so(running: Daemon, words: str, code: int, said: str) -> None:
    run(*words.split(), rundir=running.rundir).refused(code, said)


# ---- its log

def test_the_log_is_one_line_an_event_with_time_and_level(running: Daemon) -> None:
    run("apply", str(DEMO), rundir=running.rundir)
    running.end()
    assert running.words().count("\n") >= 3
    for line in running.words().splitlines():
        assert LINE.fullmatch(line), line
        assert "DEBUG" not in line


def test_verbose_adds_debug_lines(rundir: Path, file: Path) -> None:
    with daemon(rundir, file, "--listen", "none", "--verbose") as talkative:
        assert talkative.waits_for("ready")
    lines = talkative.words().splitlines()
    assert all(LINE.fullmatch(line) for line in lines)
    assert any(" DEBUG " in line for line in lines)


# ---- garbage

def hello(version: int = 5, elements: bytes = b"") -> bytes:
    return struct.pack("!BBHI", version, 0, 8 + len(elements), 1) + elements


def message(kind: int, body: bytes = b"") -> bytes:
    return struct.pack("!BBHI", 5, kind, 8 + len(body), 1) + body


FEATURES = message(6, struct.pack("!QIBB2xII", 0xDEAD, 0, 254, 0, 0, 0))
PORTS = message(19, struct.pack("!HH4x", 13, 0))
ENDLESS = struct.pack("!HHI", 1, 0, 1 << 5)


class Peer:
    """Something that connects as a switch does."""

    def __init__(self, where: Path, data: bytes) -> None:
        self._sock = socket.socket(socket.AF_UNIX)
        self._sock.connect(str(where / "openflow.sock"))
        self._sock.settimeout(PATIENCE)
        self._sock.sendall(data)

    def is_sent_away(self) -> bool:
        """Reads until the daemon has closed its side."""
        try:
            while self._sock.recv(65536):
                pass
        except ConnectionResetError:
            pass  # it did not even read all that we said
        self._sock.close()
        return True

    def close(self) -> None:
        self._sock.close()


@pytest.mark.parametrize(("data", "said"), [
    (b"GET / HTTP/1.1\r\n\r\n".ljust(0x6000, b"\n"), "WARNING not OpenFlow"),
    (hello() + message(6), "a message of type 6"),
    (hello() + message(12, b"\xff" * 8), "a message of type 12"),
    (hello() + b"\x04" + message(5)[1:], "a message of version 0x04"),
    (hello(elements=ENDLESS), "an item of 0 bytes"),
    (hello() + FEATURES + message(19, struct.pack("!HH4x", 13, 0) + bytes(64)), "an item of 0 bytes"),
    (hello() + FEATURES + PORTS + message(19, struct.pack("!HH4x", 16, 0) + bytes(64)), "an item of 0 bytes"),
    (hello(1), "WARNING wrong version"),
    (hello(4, struct.pack("!HHI", 1, 8, 1 << 4 | 1 << 1)), "protocols=OpenFlow14")])
def test_garbage_is_one_warning_and_the_end_of_its_connection(lasting: Daemon, data: bytes, said: str) -> None:
    before = lasting.words()
    assert Peer(lasting.rundir, data).is_sent_away()
    assert lasting.waits_for("peer=unix", before.count(" peer=unix") + 1)
    told = [line for line in lasting.words()[len(before):].splitlines() if "WARNING stranger" not in line]
    assert len(told) == 1
    assert said in told[0]
    assert asked(lasting)["errors"] == 0, "a stranger's mistake is no error of ours"


def test_a_stranger_is_reported_and_left_alone(running: Daemon) -> None:
    peer = Peer(running.rundir, hello() + FEATURES + PORTS)
    assert running.waits_for("stranger dpid=000000000000dead")
    assert status(running.rundir)["strangers"] == [
        {"dpid": "000000000000dead", "left_alone": "no bridge of the topology has this datapath id"}]
    assert "stranger datapath 000000000000dead is left alone" in run("status", rundir=running.rundir).out
    peer.close()


def test_random_bytes_silence_and_many_connections_cost_nothing_that_lasts(running: Daemon, seed: int) -> None:
    dice = random.Random(seed)
    for _ in range(200):
        Peer(running.rundir, b"").close()
    asked(running)
    memory, files = running.memory(), running.files()
    silent = [Peer(running.rundir, data) for data in (b"", b"\x05", hello()[:5], hello()[:2] + b"\xff\xff" + bytes(4),
                                                      hello() + message(6, bytes(4))[:10])]
    for _ in range(300):
        Peer(running.rundir, hello() + dice.randbytes(dice.randrange(8, 2000))).close()
        Peer(running.rundir, dice.randbytes(dice.randrange(8, 2000))).close()
    for peer in silent:
        peer.close()
    assert running.has_closed(files + 5)
    assert asked(running)["strangers"] == []
    assert running.memory() < memory + (32 << 20)
    assert all(LINE.fullmatch(line) for line in running.words().splitlines())


def test_when_file_descriptors_run_out_it_says_so_and_recovers(running: Daemon) -> None:
    # Its limit is lowered from outside, so that a few connections are too many.
    limit = running.files() + 4
    resource.prlimit(running.process.pid, resource.RLIMIT_NOFILE, (limit, limit))
    crowd = [Peer(running.rundir, hello()) for _ in range(20)]
    assert running.waits_for("ERROR cannot accept a connection: Too many open files")
    for peer in crowd:
        peer.close()
    assert asked(running)["topology"]


@pytest.mark.parametrize("line", [
    b"", b"\n", b"\xff\xfe\n", b"[]\n", b'"status"\n', b"{}\n", b'{"do": []}\n', b'{"do": {}}\n', b'{"do": ',
    b"[" * 100_000 + b"\n", b'{"do": "apply"}\n', b'{"do": "apply", "text": 5}\n',
    b'{"do": "apply", "text": "\\ud800"}\n',
    b'{"do": "apply", "text": "a: 1", "source": []}\n'])
def test_garbage_on_the_control_socket_is_answered_in_a_sentence(lasting: Daemon, line: bytes) -> None:
    answer = json.loads(lasting.asks(line))
    assert answer["error"].endswith("."), answer
    assert (asked(lasting)["errors"], asked(lasting)["last_apply"]) == (0, None)


def test_askers_that_leave_or_say_nothing_hold_nobody_up(lasting: Daemon) -> None:
    mute = []
    for _ in range(50):
        sock = socket.socket(socket.AF_UNIX)
        sock.connect(str(lasting.rundir / "control.sock"))
        mute.append(sock)
    for sock in mute[:25]:
        sock.sendall(b'{"do": "status"}\n')
        sock.close()
    assert asked(lasting)["errors"] == 0
    for sock in mute[25:]:
        sock.close()
