"""`tunbridge` that waits for nothing as long as a site would, so that tests of what comes after need not wait, either.

    hasty_daemon.py run FILE ...          the daemon
    hasty_daemon.py lives RUNDIR FILE N   a nursery of daemons

A nursery reads lines, `sparse` or `crowded:SALT`; for each it starts a daemon of that topology and writes its pid. FILE
is the sparse one; in a crowded one, host c2 also has N VMs on the network `crowd`, whose MACs and addresses depend
on the last letter of the salt. What a daemon does before it listens has been done by then.
"""
from __future__ import annotations

import gc
import os
import signal
import sys
import warnings
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path
from uuid import NAMESPACE_OID, uuid5

from controller.model import names, reading
from controller.model.topology import Address, Port, Topology, Vm

QUICKLY = 1.5  # seconds instead of a minute


def hurry() -> None:
    """Shorten what a daemon waits for."""
    from controller.switch import patience, roles
    patience.LIMIT = QUICKLY  # type: ignore[misc]
    roles._FIRST_WAIT = roles._GRACE = 0.5  # type: ignore[misc]


def crowded(sparse: Topology, count: int, salt: str) -> Topology:
    """The same cloud, with so many VMs more."""
    one = next(port for port in sparse.ports() if port.network == "crowd")
    first, which = int(sparse.subnets[one.subnet].cidr[1]), ord(salt[-1]) % 3
    vms = (_vm(one, number, ip_address(first + number), f"fa163e{number:06x}")
           for number in range(which * count, (which + 1) * count))
    return replace(sparse, vms={**sparse.vms, **{vm.name: vm for vm in vms}})


def _vm(like: Port, number: int, address: Address, mac: str) -> Vm:
    name, identity = f"crowd{number}", uuid5(NAMESPACE_OID, mac)
    port = replace(like, name=name, path=f"vms.{name}", id=identity, vm=name, host="c2", ip=address,
                   mac=":".join(mac[at:at + 2] for at in range(0, len(mac), 2)),
                   device=names.device("qvo", identity))
    return Vm(name, "c2", (port,), line=0)


def lives(rundir: Path, file: str, count: int) -> None:
    """The nursery."""
    warnings.filterwarnings("ignore", message=r"\s*Eventlet is deprecated")
    os.environ["OSKEN_HUB_TYPE"] = "eventlet"
    from controller.switch import fleet, serving  # noqa: F401
    from controller.tools import daemon, topologies
    from controller.tools.rundir import Rundir
    found = reading.load(file)
    assert found.topology
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for them
    known = {"sparse": found.topology}
    gc.freeze()
    while words := os.read(0, 1 << 12).decode().split():
        for word in words:
            if word not in known:
                known[word] = crowded(found.topology, count, word)
                gc.freeze()
            pid = os.fork()
            if not pid:
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                topologies.read = lambda _, topology=known[word]: (topology, found)  # type: ignore[misc]
                hurry()
                daemon.run(daemon.Options(file, Rundir(rundir), ("none",)))
                os._exit(0)
            os.write(1, f"{pid}\n".encode())


if __name__ == "__main__":
    if sys.argv[1] == "lives":
        lives(Path(sys.argv[2]), sys.argv[3], int(sys.argv[4]))
    else:
        from controller.tools import cli
        hurry()
        cli.main()
