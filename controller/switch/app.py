"""The OSKenApp: events of switches and requests of people in, bytes out. Nothing is decided here.

It is os-ken's own OFPHandler (hello, features, ports, echo), listening where we say and handing on to `fleet`.
"""
from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import socket
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final

import eventlet
from eventlet.event import Event
from eventlet.greenio import GreenSocket
from os_ken.base.app_manager import AppManager
from os_ken.controller import ofp_event
from os_ken.controller.controller import CONF, Datapath
from os_ken.controller.handler import CONFIG_DISPATCHER, HANDSHAKE_DISPATCHER, MAIN_DISPATCHER, set_ev_handler
from os_ken.controller.ofp_handler import OFPHandler
from os_ken.ofproto import ofproto_v1_4 as ofp

from controller.switch import wire
from controller.switch.control import Control, Unanswerable
from controller.switch.events import Command, Drop, Log, ReadFlows, Row, Write
from controller.switch.fleet import Fleet

LOG: Final = logging.getLogger("tunbridge")
_DUMP_TIMEOUT: Final = 30  # seconds that a person waits for a switch
_REQUEST_LIMIT: Final = 64 << 20  # bytes of one control request; a topology of 20,000 VMs has 3 MB


class _UnixSocket:
    """A Unix socket for os-ken, which sets TCP_NODELAY on whatever it is given."""

    def __init__(self, sock: Any) -> None:
        self._sock = sock

    def setsockopt(self, *_: object) -> None:
        """There is no delay to switch off."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)


@dataclass
class _Dump:
    """A flow-stats request under way: the reply comes in parts."""

    done: Callable[[list[Any]], None]
    parts: list[Any] = field(default_factory=list)


class App(OFPHandler):  # type: ignore[misc]  # os-ken has no types
    """One per daemon."""

    OFP_VERSIONS = (wire.VERSION,)

    def __init__(self, fleet: Fleet) -> None:
        super().__init__()
        self.control = Control(fleet, self.obey, self.dump)
        self._fleet = fleet
        self._dumps: dict[int, _Dump] = {}  # transaction id -> what waits for it
        self._blame: dict[Any, dict[int, str]] = {}  # connection -> transaction id -> what that message was
        self._first_error: dict[Any, str] = {}
        self._bundles = 0
        self._connections: set[Any] = set()

    def start(self) -> None:
        """os-ken's own start would listen on every address; `listen` is ours."""

    # ---- sockets

    def listen(self, server: Any) -> None:
        """Accept switches on a listening socket, forever."""
        self._accept(server, self._serve)

    def listen_control(self, server: Any) -> None:
        """Accept people's requests on a listening Unix socket, forever."""
        self._accept(server, self._answer)

    def _accept(self, server: Any, handle: Callable[[Any, Any], None]) -> None:
        while True:
            sock, address = server.accept()
            eventlet.spawn(_guarded, handle, sock, address)

    def _serve(self, sock: Any, address: Any) -> None:
        with contextlib.closing(Datapath(_UnixSocket(sock) if sock.family == socket.AF_UNIX else sock,
                                         address)) as datapath:
            self._connections.add(datapath)
            try:
                datapath.serve()
            finally:
                self._connections.discard(datapath)
                self._blame.pop(datapath, None)
                self._first_error.pop(datapath, None)
                self.obey(self._fleet.disconnected(datapath))

    def _answer(self, sock: Any, _: Any) -> None:
        with contextlib.closing(sock), contextlib.suppress(BrokenPipeError, ConnectionResetError):
            stream = sock.makefile("rwb")
            line = stream.readline(_REQUEST_LIMIT)
            try:
                request = json.loads(line)
            except ValueError:
                request = None
            answer = (self.control.answer(request) if isinstance(request, dict)
                      else {"error": "A request is one line with one JSON object."})
            stream.write(json.dumps(answer).encode() + b"\n")
            stream.flush()

    # ---- commands out

    def obey(self, commands: Iterable[Command]) -> None:
        """Carry out what the fleet decided, in order."""
        for command in commands:
            match command:
                case Log(level, event, about):
                    words = "".join(f" {key}={_word(value)}" for key, value in about.items())
                    LOG.log(logging.getLevelNamesMapping()[level.upper()], "%s%s", event, words)
                case ReadFlows(conn):
                    self._request_flows(conn, partial(self._flows_read, conn))
                case Write(conn, plan):
                    self._bundles += 1
                    bundle = wire.bundle(conn, self._bundles, plan)
                    self._blame[conn] = bundle.blame
                    conn.send(bundle.data)
                case Drop(conn):
                    conn.close()

    def _flows_read(self, conn: Any, rows: list[Any]) -> None:
        self.obey(self._fleet.flows_read(conn, map(wire.installed, rows)))

    def _request_flows(self, conn: Any, done: Callable[[list[Any]], None]) -> int:
        request = wire.read_flows(conn)
        xid: int = conn.set_xid(request)
        self._dumps[xid] = _Dump(done)
        conn.send_msg(request)
        return xid

    def dump(self, conn: Any) -> list[Row]:
        """All flows of a switch, as rows for people; waits for the answer. Unanswerable if none comes."""
        arrived = Event()
        xid = self._request_flows(conn, arrived.send)
        patience = eventlet.Timeout(_DUMP_TIMEOUT)
        try:
            return [wire.row(stats) for stats in arrived.wait()]
        except eventlet.Timeout:
            sentence = f"The switch did not answer within {_DUMP_TIMEOUT} s; is its ovs-vswitchd running?"
            raise Unanswerable(sentence, missing=True) from None
        finally:
            patience.cancel()
            self._dumps.pop(xid, None)

    # ---- events in

    @set_ev_handler(ofp_event.EventOFPPortDescStatsReply, CONFIG_DISPATCHER)  # type: ignore[untyped-decorator]
    def multipart_reply_handler(self, ev: Any) -> None:
        """The last part of the port list ends os-ken's handshake: a switch has connected."""
        super().multipart_reply_handler(ev)
        datapath = ev.msg.datapath
        if datapath.state == MAIN_DISPATCHER:
            ports = {port.name.decode(): number for number, port in datapath.ports.items()}
            self.obey(self._fleet.connected(datapath, datapath.id, ports))

    @set_ev_handler(ofp_event.EventOFPPortStatus, MAIN_DISPATCHER)  # type: ignore[untyped-decorator]
    def port_status_handler(self, ev: Any) -> None:
        """A port came, went or changed."""
        super().port_status_handler(ev)
        gone = ev.msg.reason == ofp.OFPPR_DELETE
        change = {ev.msg.desc.name.decode(): None if gone else ev.msg.desc.port_no}
        self.obey(self._fleet.ports_changed(ev.msg.datapath, change))

    @set_ev_handler(ofp_event.EventOFPFlowStatsReply, MAIN_DISPATCHER)  # type: ignore[untyped-decorator]
    def flow_stats_handler(self, ev: Any) -> None:
        """Part of a dump."""
        dump = self._dumps.get(ev.msg.xid)
        if dump is None:
            return
        dump.parts += ev.msg.body
        if not ev.msg.flags & ofp.OFPMPF_REPLY_MORE:
            del self._dumps[ev.msg.xid]
            dump.done(dump.parts)

    @set_ev_handler(ofp_event.EventOFPBundleCtrlMsg, MAIN_DISPATCHER)  # type: ignore[untyped-decorator]
    def bundle_handler(self, ev: Any) -> None:
        """A bundle is in, or what the switch could read of it: one that it could not is left out, not the bundle."""
        conn = ev.msg.datapath
        if ev.msg.type == ofp.OFPBCT_COMMIT_REPLY:
            self._blame.pop(conn, None)
            reason = self._first_error.pop(conn, None)
            self.obey(self._fleet.refused(conn, reason) if reason else self._fleet.committed(conn))

    @set_ev_handler(ofp_event.EventOFPErrorMsg,  # type: ignore[untyped-decorator]
                    [HANDSHAKE_DISPATCHER, CONFIG_DISPATCHER, MAIN_DISPATCHER])
    def error_msg_handler(self, ev: Any) -> None:
        """A complaint: about a message of a bundle, about the bundle, or about something else."""
        conn = ev.msg.datapath
        blamed = self._blame.get(conn, {}).get(ev.msg.xid)
        reason = wire.error_words(ev.msg.type, ev.msg.code)
        if blamed == "commit":
            self._blame.pop(conn, None)
            self.obey(self._fleet.refused(conn, self._first_error.pop(conn, reason)))
        elif blamed:
            self._first_error.setdefault(conn, f"{reason}: {blamed}")
        else:
            self.obey(self._fleet.complained(conn, reason))

    def close(self) -> None:
        """End all connections; the switches keep their flows."""
        for connection in list(self._connections):
            connection.close()


def _word(value: object) -> str:
    text = str(value)
    return json.dumps(text, ensure_ascii=False) if " " in text or '"' in text else text


def _guarded(handle: Callable[[Any, Any], None], sock: Any, address: Any) -> None:
    """A connection's failure is logged whole and ends that connection only."""
    try:
        handle(sock, address)
    except Exception:  # the last frame of a greenlet: whatever it is must reach the log
        LOG.exception("connection failed address=%s", address)
        sock.close()


@dataclass(frozen=True)
class Listeners:
    """Where the daemon listens: Unix sockets for switches and for people, and (address, port) pairs."""

    openflow: Path
    control: Path
    tcp: tuple[tuple[str, int], ...] = ()


class CannotListen(Exception):
    """A socket cannot be had; str() is the sentence."""


def unix_server(path: Path) -> Any:
    """A listening Unix socket, for its owner only. The caller holds the lock, so what is there is stale."""
    path.unlink(missing_ok=True)
    old = os.umask(0o177)
    try:
        return eventlet.listen(str(path), family=socket.AF_UNIX, backlog=128)
    except OSError as error:
        raise CannotListen(f"Cannot listen on {path}: {error.strerror or error}. Choose a shorter or writable "
                           "--rundir.") from None
    finally:
        os.umask(old)


def tcp_server(address: str, port: int) -> Any:
    """A listening TCP socket."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        return eventlet.listen((address, port), family=family, reuse_port=False)
    except OSError as error:
        raise CannotListen(f"Cannot listen on tcp:{address}:{port}: {error.strerror or error}. End what uses it, or "
                           "choose another --listen (`--listen none`: the Unix socket alone).") from None


Signals = Mapping[int, Callable[[], None]]


def run(fleet: Fleet, listeners: Listeners, prepare: Callable[[App, Callable[[], None]], Signals]) -> None:
    """Serve until the function that `prepare` is given is called.

    `prepare` gets the app and that function, and returns what to do on which signal. CannotListen if a socket
    cannot be had.
    """
    CONF.set_override("echo_request_interval", 5.0)
    CONF.set_override("maximum_unreplied_echo_requests", 3)
    CONF.set_override("socket_timeout", 30.0)
    app = AppManager.get_instance().instantiate(App, fleet)
    stopped = Event()
    servers = [(unix_server(listeners.openflow), app.listen), (unix_server(listeners.control), app.listen_control)]
    servers += [(tcp_server(address, port), app.listen) for address, port in listeners.tcp]
    app.control.listening = (f"unix:{listeners.openflow}", *(f"tcp:{host}:{port}" for host, port in listeners.tcp))
    greenlets = [eventlet.spawn(loop, server) for server, loop in servers]
    greenlets.append(eventlet.spawn(_heed, prepare(app, stopped.send)))
    try:
        stopped.wait()
    finally:
        for greenlet in greenlets:
            greenlet.kill()
        app.close()
        for server, _ in servers:
            server.close()
        listeners.openflow.unlink(missing_ok=True)
        listeners.control.unlink(missing_ok=True)


def _heed(actions: Signals) -> None:
    """Act on signals, in a greenlet: a Python signal handler would not wake eventlet's poll."""
    reader, writer = socket.socketpair()
    writer.setblocking(False)
    signal.set_wakeup_fd(writer.fileno())
    for number in actions:
        signal.signal(number, lambda *_: None)
    green = GreenSocket(reader)
    while True:
        for number in green.recv(16):
            if number in actions:
                actions[number]()
