"""The OSKenApp: events of switches and requests of people in, bytes out. Nothing is decided here.

It is os-ken's own OFPHandler (hello, features, ports, echo), listening where we say and handing on to `fleet`.
"""
from __future__ import annotations

import contextlib
import json
import logging
import signal
import socket
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

import eventlet
from eventlet.event import Event
from os_ken.base.app_manager import AppManager
from os_ken.controller import ofp_event
from os_ken.controller.controller import CONF, Datapath
from os_ken.controller.handler import CONFIG_DISPATCHER, HANDSHAKE_DISPATCHER, MAIN_DISPATCHER, set_ev_handler
from os_ken.controller.ofp_handler import OFPHandler
from os_ken.ofproto import ofproto_v1_4 as ofp
from os_ken.ofproto import ofproto_v1_4_parser as parser

from controller.switch import answers, bundles, listing, outbox, packing, signals, sockets, wire
from controller.switch.alarm import Alarm
from controller.switch.control import Control, Unanswerable
from controller.switch.diff import Plan
from controller.switch.events import Command, Counted, Drop, Log, ReadFlows, Row, Write
from controller.switch.fleet import Fleet
from controller.switch.signals import Signals
from flows.host import Meter
from flows.tables import Table

LOG: Final = logging.getLogger("tunbridge")
_DUMP_TIMEOUT: Final = 30  # seconds that a person waits for a switch
_REQUEST_LIMIT: Final = 64 << 20  # bytes of one control request; a topology of 20,000 VMs has 3 MB
_REQUEST_TIMEOUT: Final = 60.0  # seconds for each part of a request, and for each part of its answer


@dataclass
class _Dump:
    """A request under way whose reply comes in parts."""

    done: Callable[[list[Any]], None]
    parts: list[Any] = field(default_factory=list)


class App(OFPHandler):  # type: ignore[misc]  # os-ken has no types
    """One per daemon."""

    OFP_VERSIONS = (wire.VERSION,)

    def __init__(self, fleet: Fleet) -> None:
        super().__init__()
        self.control = Control(fleet, self.obey, self.dump, self.count)
        self._fleet = fleet
        self._dumps: dict[tuple[Any, int], _Dump] = {}  # (connection, transaction id) -> what waits for it
        self._blame: dict[Any, Mapping[int, str]] = {}  # connection -> transaction id -> what that message was
        self._first_error: dict[Any, str] = {}
        self._bundles = 0
        self._latest: dict[Any, int] = {}  # connection -> number of the bundle that was sent last
        self._connections: set[Any] = set()
        self.alarm = Alarm(lambda: fleet.due, lambda now: self.obey(fleet.tick(now)))
        self.purge: Callable[[str], str | None] = lambda host: None  # see `caches`; None, or why it failed

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
                self._latest.pop(datapath, None)
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
        for command in outbox.in_turns(commands):
            match command:
                case list():
                    self.control.lost_packets += outbox.send(command[0].conn, command)
                case Log(level, event, about):
                    words = "".join(f" {key}={_word(value)}" for key, value in about.items())
                    LOG.log(logging.getLevelNamesMapping()[level.upper()], "%s%s", event, words)
                case ReadFlows(conn, meters=True):
                    self._request(conn, wire.read_meters(conn), partial(self._meters_read, conn))
                case ReadFlows(conn):
                    self._request(conn, wire.read_flows(conn), partial(self._flows_read, conn, ()))
                case Write(conn, plan):
                    self._write(conn, plan)
                case Drop(conn):
                    conn.close()
        self.alarm.look()

    def _write(self, conn: Any, plan: Plan) -> None:
        self._bundles += 1
        try:
            bundle = bundles.bundle(conn, self._bundles, plan)
            data = b"".join(bundle.staged) + bundle.final
        except packing.TooLarge as error:
            self.obey(self._fleet.refused(conn, str(error)))
        else:
            self._blame[conn] = bundle.blame
            self._latest[conn] = self._bundles
            conn.send(data)

    def _meters_read(self, conn: Any, replies: list[Any]) -> None:
        meters = [meter for reply in replies for meter in answers.meters(reply.body).values()]
        self._request(conn, wire.read_flows(conn), partial(self._flows_read, conn, meters))

    def _flows_read(self, conn: Any, meters: Iterable[Meter], replies: list[Any]) -> None:
        rows = (answers.installed(row) for reply in replies for row in reply.body)
        self.obey(self._fleet.flows_read(conn, rows, meters))

    def _request(self, conn: Any, request: Any, done: Callable[[list[Any]], None]) -> int:
        xid: int = conn.set_xid(request)
        self._dumps[conn, xid] = _Dump(done)
        conn.send_msg(request)
        return xid

    def dump(self, conn: Any) -> list[Row]:
        """All flows of a switch, as rows for people; waits for the answer. Unanswerable if none comes."""
        return [listing.row(stats) for stats in self._read(conn, wire.read_flows(conn))]

    def count(self, conn: Any, tables: Iterable[Table]) -> dict[int, Counted]:
        """Cookie -> counters of our own flows in these tables; waits as `dump` does."""
        return {stats.cookie: Counted(stats.packet_count, stats.byte_count)
                for table in tables for stats in self._read(conn, wire.read_flows(conn, table.id))}

    def _read(self, conn: Any, request: Any) -> Iterator[Any]:
        arrived = Event()
        xid = self._request(conn, request, arrived.send)
        patience = eventlet.Timeout(_DUMP_TIMEOUT)
        try:
            replies = arrived.wait()
        except eventlet.Timeout:
            sentence = f"The switch did not answer within {_DUMP_TIMEOUT} s; is its ovs-vswitchd running?"
            raise Unanswerable(sentence, missing=True) from None
        finally:
            patience.cancel()
            self._dumps.pop((conn, xid), None)
        return (stats for reply in replies for stats in reply.body)

    # ---- events in

    @set_ev_handler(ofp_event.EventOFPPortDescStatsReply, CONFIG_DISPATCHER)  # type: ignore[untyped-decorator]
    def multipart_reply_handler(self, ev: Any) -> None:
        """The last part of the port list ends os-ken's handshake: a switch has connected."""
        super().multipart_reply_handler(ev)
        datapath = ev.msg.datapath
        if datapath.state == MAIN_DISPATCHER:
            ports = {_name(port): number for number, port in datapath.ports.items() if not _idle(port)}
            self.obey(self._fleet.connected(datapath, datapath.id, ports))

    @set_ev_handler(ofp_event.EventOFPPortStatus, MAIN_DISPATCHER)  # type: ignore[untyped-decorator]
    def port_status_handler(self, ev: Any) -> None:
        """A port came, went or changed."""
        super().port_status_handler(ev)
        gone = ev.msg.reason == ofp.OFPPR_DELETE or _idle(ev.msg.desc)
        change = {_name(ev.msg.desc): None if gone else ev.msg.desc.port_no}
        self.obey(self._fleet.ports_changed(ev.msg.datapath, change))

    @set_ev_handler(ofp_event.EventOFPPacketIn, MAIN_DISPATCHER)  # type: ignore[untyped-decorator]
    def packet_in_handler(self, ev: Any) -> None:
        """A packet that a switch cannot route alone."""
        asked = answers.asked(ev.msg)
        if asked is not None:
            self.obey(self._fleet.asked(ev.msg.datapath, asked, self.alarm.now()))
        eventlet.sleep(0)  # os-ken reads on as long as there is something to read, and there may always be

    @set_ev_handler(ofp_event.EventOFPFlowRemoved, MAIN_DISPATCHER)  # type: ignore[untyped-decorator]
    def flow_removed_handler(self, ev: Any) -> None:
        """A row of a learned neighbour is gone."""
        removed = answers.removed(ev.msg)
        if removed is not None:
            self.obey(self._fleet.removed(ev.msg.datapath, removed))

    @set_ev_handler([ofp_event.EventOFPFlowStatsReply,  # type: ignore[untyped-decorator]
                     ofp_event.EventOFPMeterConfigStatsReply], MAIN_DISPATCHER)
    def part_handler(self, ev: Any) -> None:
        """Part of a dump."""
        key = ev.msg.datapath, ev.msg.xid  # another switch may count its transactions alike, or guess them
        dump = self._dumps.get(key)
        if dump is None:
            return
        dump.parts.append(ev.msg)
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
            if reason:
                self.obey(self._fleet.refused(conn, reason))
            else:
                settle = partial(self._settle, conn, self._latest.get(conn))
                eventlet.spawn(sockets.guarded, "write not settled", settle)

    def _settle(self, conn: Any, number: int | None) -> None:
        """A bundle is in; it holds for packets, too, when nothing of before is cached."""
        host = self._fleet.host_of(conn)
        trouble = self.purge(host) if host is not None else None
        if trouble is not None:
            LOG.warning("cache not emptied host=%s why=%s cure=%s", host, _word(trouble),
                        _word("ovs-appctl revalidator/purge there"))
        if self._latest.get(conn) == number:  # else the switch has been read anew meanwhile, and written again
            self.obey(self._fleet.committed(conn))

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


def _idle(port: Any) -> bool:
    """Whether it is a bridge's own interface that nobody uses."""
    return bool(port.port_no == ofp.OFPP_LOCAL and port.config & ofp.OFPPC_PORT_DOWN)


def _word(value: object) -> str:
    text = str(value)
    plain = text.isprintable() and not set(text) & set(' "')
    return text if plain else json.dumps(text, ensure_ascii=not text.isprintable())


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
        greenlets.append(eventlet.spawn(app.alarm.run))
        actions = prepare(app, lambda: stopped.ready() or stopped.send())
        greenlets.append(eventlet.spawn(signals.heed, signals.caught(actions), actions))
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
