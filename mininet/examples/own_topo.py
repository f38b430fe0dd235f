#!/usr/bin/python3
"""A Topo of one's own whose hypervisors are served by a running daemon.

    r1 (red)  --+                                    +-- r2 (red)
                left ===== VXLAN over the wire ===== right
    g1 (grey) --+

First `tunbridge run mininet/examples/own_topo.yaml` as root, then one of these, with the same TUNBRIDGE_RUNDIR if any:

    python3 mininet/examples/own_topo.py
    mn --custom mininet/examples/own_topo.py --topo own --controller none

r1 reaches r2; g1 is another tenant and reaches nobody, although all three addresses are of one subnet.
Each hypervisor is plumbed inside its own namespace by the command that plumbs a real host.
"""
import inspect
import os
import shutil
import sys

# `mn --custom` executes this text without a __file__.
sys.path.insert(0, os.path.abspath(os.path.join(inspect.currentframe().f_code.co_filename, "..", "..")))

from hypervisor import Hypervisor
from mininet.cli import CLI
from mininet.net import Mininet
from mininet.topo import Topo

CLOUD = os.path.join(sys.path[0], "examples", "own_topo.yaml")
TUNBRIDGE = shutil.which("tunbridge") or os.path.join(sys.path[0], "..", ".venv", "bin", "tunbridge")


class PlumbedHypervisor(Hypervisor):
    """A hypervisor whose bridges are those of the topology file."""

    def start(self, controllers):
        """The daemons first, then everything that the file says about this host."""
        super().start(controllers)
        self.run(TUNBRIDGE, "plumb", "--host", self.name, "--topology", CLOUD, "--underlay-device", self.uplink)


class OwnTopo(Topo):
    """Two hypervisors, three hosts of two tenants."""

    def build(self):
        """The order of the links gives the interfaces the names that the file pins."""
        left, right = (self.addSwitch(name, cls=PlumbedHypervisor, bridge=None) for name in ("left", "right"))
        self.addLink(left, right)
        for name, where, number in (("r1", left, 11), ("r2", right, 12), ("g1", left, 13)):
            host = self.addHost(name, ip=f"10.0.1.{number}/24", mac=f"02:00:00:00:01:{number}")
            self.addLink(host, where)


topos = {"own": OwnTopo}

if __name__ == "__main__":
    net = Mininet(topo=OwnTopo(), controller=None)
    try:
        net.start()
        if sys.stdin.isatty():
            CLI(net)
        else:
            net.pingAll()
    finally:
        net.stop()
