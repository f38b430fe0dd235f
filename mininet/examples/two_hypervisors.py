#!/usr/bin/python3
"""Two hypervisors, VXLAN between them, one host behind each: no daemon, no other part of this project.

    h1 --- left ===== VXLAN over 192.0.2.0/24 ===== right --- h2

Run it as root: `python3 mininet/examples/two_hypervisors.py`.
"""
import sys
from pathlib import Path

from mininet.net import Mininet

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from hypervisor import Hypervisor

net = Mininet(topo=None, controller=None)
left = net.addSwitch("left", cls=Hypervisor, tunnel_ip="192.0.2.1/24", remotes=["192.0.2.2"])
right = net.addSwitch("right", cls=Hypervisor, tunnel_ip="192.0.2.2/24", remotes=["192.0.2.1"])
net.addLink(left, right)
net.addLink(net.addHost("h1"), left)
net.addLink(net.addHost("h2"), right)
try:
    net.start()
    lost = net.pingAll()
finally:
    net.stop()
sys.exit(0 if lost == 0 else 1)
