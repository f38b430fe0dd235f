"""The OSKenApp: events of switches and requests of people in, bytes out. Nothing is decided here.

It is os-ken's own OFPHandler (hello, features, ports, echo), listening where we say and handing on to `fleet`.
"""
from __future__ import annotations

import contextlib
import json
import logging
import signal
import socket
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
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
from os_ken.ofproto import ofproto_v1_4_parser as parser

from controller.switch import answers, listing, sockets, wire
from controller.switch.control import Control, Unanswerable
from controller.switch.events import Command, Drop, Log, ReadFlows, Row, Write
from controller.switch.fleet import Fleet

LOG: Final = logging.getLogger("tunbridge")
_DUMP_TIMEOUT: Final = 30  # seconds that a person waits for a switch
_REQUEST_LIMIT: Final = 64 << 20  # bytes of one control request; a topology of 20,000 VMs has 3 MB
_REQUEST_TIMEOUT: Final = 60.0  # seconds for each part of a request, and for each part of its answer


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
        self._dumps: dict[tuple[Any, int], _Dump] = {}  # (connection, transaction id) -> what waits for it
        self._blame: dict[Any, dict[int, str]] = {}  # connection -> transaction id -> what that message was
        self._first_error: dict[Any, str] = {}
        self._bundles = 0
        self._connections: set[Any] = set()

    def start(self) -> None:
        """os-ken's own start would listen on every address; `listen` is ours."""

    # ---- connections

    def serve_switch(self, sock: Any, peer: str) -> None:
        """The whole life of a switch's connection."""
        plain = sockets.UnixSocket(sock) if sock.family == socket.AF_UNIX else sock
        with contextlib.closing(Datapath(plain, peer)) as datapath:
            self._connections.add(datapath)
            try:
                datapath.serve()
            except answers.Unreadable as error:
                LOG.warning("not OpenFlow peer=%s why=%s", peer, _word(error))
            finally:
                self._connections.discard(datapath)
                self._blame.pop(datapath, None)
                self._first_error.pop(datapath, None)
                for key in [key for key in self._dumps if key[0] is datapath]:
                    del self._dumps[key]
                self.obey(self._fleet.disconnected(datapath))

    def serve_person(self, sock: Any, _: str) -> None:
        """A request and its answer."""
        sock.settimeout(_REQUEST_TIMEOUT)
        with contextlib.suppress(BrokenPipeError, ConnectionResetError, TimeoutError):
            stream = sock.makefile("rwb")
            answer = self.control.answer_line(stream.readline(_REQUEST_LIMIT))
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
        self.obey(self._fleet.flows_read(conn, map(answers.installed, rows)))

    def _request_flows(self, conn: Any, done: Callable[[list[Any]], None]) -> int:
        request = wire.read_flows(conn)
        xid: int = conn.set_xid(request)
        self._dumps[conn, xid] = _Dump(done)
        conn.send_msg(request)
        return xid

    def dump(self, conn: Any) -> list[Row]:
        """All flows of a switch, as rows for people; waits for the answer. Unanswerable if none comes."""
        arrived = Event()
        xid = self._request_flows(conn, arrived.send)
        patience = eventlet.Timeout(_DUMP_TIMEOUT)
        try:
            return [listing.row(stats) for stats in arrived.wait()]
        except eventlet.Timeout:
            sentence = f"The switch did not answer within {_DUMP_TIMEOUT} s; is its ovs-vswitchd running?"
            raise Unanswerable(sentence, missing=True) from None
        finally:
            patience.cancel()
            self._dumps.pop((conn, xid), None)

    # ---- events in

    @set_ev_handler(ofp_event.EventOFPPortDescStatsReply, CONFIG_DISPATCHER)  # type: ignore[untyped-decorator]
    def multipart_reply_handler(self, ev: Any) -> None:
        """The last part of the port list ends os-ken's handshake: a switch has connected."""
        super().multipart_reply_handler(ev)
        datapath = ev.msg.datapath
        if datapath.state == MAIN_DISPATCHER:
            ports = {_name(port): number for number, port in datapath.ports.items()}
            self.obey(self._fleet.connected(datapath, datapath.id, ports))

    @set_ev_handler(ofp_event.EventOFPPortStatus, MAIN_DISPATCHER)  # type: ignore[untyped-decorator]
    def port_status_handler(self, ev: Any) -> None:
        """A port came, went or changed."""
        super().port_status_handler(ev)
        gone = ev.msg.reason == ofp.OFPPR_DELETE
        change = {_name(ev.msg.desc): None if gone else ev.msg.desc.port_no}
        self.obey(self._fleet.ports_changed(ev.msg.datapath, change))

    @set_ev_handler(ofp_event.EventOFPFlowStatsReply, MAIN_DISPATCHER)  # type: ignore[untyped-decorator]
    def flow_stats_handler(self, ev: Any) -> None:
        """Part of a dump."""
        key = ev.msg.datapath, ev.msg.xid  # another switch may count its transactions alike, or guess them
        dump = self._dumps.get(key)
        if dump is None:
            return
        dump.parts += ev.msg.body
        if not ev.msg.flags & ofp.OFPMPF_REPLY_MORE:
            del self._dumps[key]
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
        reason = answers.error_words(ev.msg.type, getattr(ev.msg, "code", 0))  # an experimenter's error has no code
        if blamed == "commit":
            self._blame.pop(conn, None)
            self.obey(self._fleet.refused(conn, self._first_error.pop(conn, reason)))
        elif blamed:
            self._first_error.setdefault(conn, f"{reason}: {blamed}")
        else:
            self.obey(self._fleet.complained(conn, reason))

    def _hello_failed(self, datapath: Any, error_desc: str) -> None:
        """As os-ken's, but a stranger's version is no error of ours."""
        LOG.warning("wrong version peer=%s cure=%s", datapath.address,
                    _word("ovs-vsctl set bridge BRIDGE protocols=OpenFlow14"))
        refusal = parser.OFPErrorMsg(datapath, ofp.OFPET_HELLO_FAILED, ofp.OFPHFC_INCOMPATIBLE,
                                     data=error_desc.encode())
        datapath.send_msg(refusal, close_socket=True)

    def close(self) -> None:
        """End all connections; the switches keep their flows."""
        for connection in list(self._connections):
            connection.close()


def _name(port: Any) -> str:
    """A port's name; OpenFlow cuts it to 15 bytes, be that in the middle of a character."""
    return str(port.name.decode(errors="replace"))


def _word(value: object) -> str:
    text = str(value)
    plain = text.isprintable() and not set(text) & set(' "')
    return text if plain else json.dumps(text, ensure_ascii=not text.isprintable())


Signals = Mapping[int, Callable[[], None]]


def run(fleet: Fleet, where: sockets.Listeners, prepare: Callable[[App, Callable[[], None]], Signals]) -> None:
    """Serve until the function that `prepare` is given is called.

    `prepare` gets the app and that function, and returns what to do on which signal. CannotListen if a socket
    cannot be had.
    """
    CONF.set_override("echo_request_interval", 5.0)  # a peer that is silent for 20 s is dropped
    CONF.set_override("maximum_unreplied_echo_requests", 3)
    CONF.set_override("socket_timeout", 30.0)
    answers.register()
    app = AppManager.get_instance().instantiate(App, fleet)
    stopped = Event()
    with sockets.listening(where) as (switches, people):
        app.control.listening = where.words
        greenlets = [eventlet.spawn(sockets.accept, server, app.serve_switch) for server in switches]
        greenlets.append(eventlet.spawn(sockets.accept, people, app.serve_person))
        actions = prepare(app, lambda: stopped.ready() or stopped.send())
        greenlets.append(eventlet.spawn(_heed, _caught(actions), actions))
        LOG.info("ready topology=%s hosts=%d listening=%s", _word(fleet.topology.source), len(fleet.hosts),
                 ",".join(where.words))
        try:
            stopped.wait()
        finally:
            for number in actions:
                signal.signal(number, signal.SIG_IGN)  # a second SIGTERM must not cut the end short
            for greenlet in greenlets:
                greenlet.kill()
            app.close()


def _caught(signals: Iterable[int]) -> Any:
    """The green socket on which these signals arrive from now on, a byte each.

    A Python signal handler alone would not wake eventlet's poll.
    """
    reader, writer = socket.socketpair()
    writer.setblocking(False)
    signal.set_wakeup_fd(writer.detach())
    for number in signals:
        signal.signal(number, lambda *_: None)
    return GreenSocket(reader)


def _heed(arriving: Any, actions: Signals) -> None:
    while True:
        for number in arriving.recv(16):
            if number in actions:
                sockets.guarded(f"signal {number} failed", actions[number])
