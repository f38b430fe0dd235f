"""The life of the daemon once it has its topology: listen, serve, heed signals, and end with all flows in place."""
from __future__ import annotations

import logging
import signal
import time
from collections.abc import Callable
from typing import Final

import eventlet
from eventlet.event import Event
from os_ken.base.app_manager import AppManager
from os_ken.controller.controller import CONF

from controller.switch import answers, roles, signals, sockets
from controller.switch.app import App, word
from controller.switch.fleet import Fleet
from controller.switch.signals import Signals

LOG: Final = logging.getLogger("tunbridge")


def run(fleet: Fleet, where: sockets.Listeners, prepare: Callable[[App, Callable[[], None]], Signals]) -> None:
    """Serve until the function that `prepare` is given is called.

    `prepare` gets the app and that function, and returns what to do on which signal. CannotListen if a socket
    cannot be had.
    """
    CONF.set_override("echo_request_interval", 5.0)  # a peer that is silent for 20 s is dropped
    CONF.set_override("maximum_unreplied_echo_requests", 3)
    CONF.set_override("socket_timeout", 15.0)  # and so is one that takes nothing
    answers.register()
    fleet.generation = roles.generation(time.time_ns())
    app = AppManager.get_instance().instantiate(App, fleet)
    stopped = Event()
    with sockets.listening(where) as (switches, people):
        app.control.listening = where.words
        greenlets = [eventlet.spawn(sockets.accept, server, app.serve_switch) for server in switches]
        greenlets.append(eventlet.spawn(sockets.accept, people, app.serve_person))
        greenlets.append(eventlet.spawn(app.alarm.run))
        actions = prepare(app, lambda: stopped.ready() or stopped.send())
        greenlets.append(eventlet.spawn(signals.heed, signals.caught(actions), actions))
        LOG.info("ready topology=%s hosts=%d listening=%s", word(fleet.topology.source), len(fleet.hosts),
                 ",".join(where.words))
        try:
            stopped.wait()
        finally:
            for number in actions:
                signal.signal(number, signal.SIG_IGN)  # a second SIGTERM must not cut the end short
            for greenlet in greenlets:
                greenlet.kill()
            app.close()
