"""Neutron's own bridge class and its native OpenFlow driver, run by the Python of its own environment.

    neutron_flows.py BRIDGE OVSDB_PORT OPENFLOW_PORT FLOWS RUNS

The agent's main program is started as it starts itself, with our function in the place of its loop: that gets the
bridge classes that the driver has made. Prints `ready`, then for each line of input programs the flows by
`install_unicast_to_tun`, one after the other as the agent does, and prints the seconds. `clear` is the caller's.
"""
from __future__ import annotations

import os
import sys
import time
from unittest import mock

from neutron.common import config as common_config
from neutron.conf.agent import common as agent_conf
from neutron.plugins.ml2.drivers.openvswitch.agent import ovs_neutron_agent
from neutron.plugins.ml2.drivers.openvswitch.agent.openflow.native import main as native
from oslo_config import cfg
from oslo_privsep import priv_context


def configure(ovsdb: str, openflow: str) -> None:
    """What the agent reads from its files."""
    common_config.register_common_config_options()
    cfg.CONF([], project="neutron")
    agent_conf.register_root_helper(cfg.CONF)
    for name, value in (("ovsdb_connection", f"tcp:127.0.0.1:{ovsdb}"), ("of_listen_address", "127.0.0.1"),
                        ("of_listen_port", int(openflow)), ("of_request_timeout", 300)):
        cfg.CONF.set_override(name, value, group="OVS")
    native.init_config()
    cfg.CONF.set_override("root_helper", "env", group="AGENT")
    priv_context.init(root_helper=["env"])


def serve(bridge: str, flows: int) -> object:
    """The function in the place of the agent's loop."""
    def loop(classes: dict[str, type], *_: object, **__: object) -> None:
        try:
            found = classes["br_tun"](bridge)
            found.setup_controllers(cfg.CONF)
            found.setup_default_table(1, False, False)
            print("ready", flush=True)
            for _ in sys.stdin:
                start = time.perf_counter()
                for number in range(flows):
                    vlan = number // 1000 + 1
                    mac = f"fa:16:3e:{number >> 16:02x}:{number >> 8 & 255:02x}:{number & 255:02x}"
                    found.install_unicast_to_tun(vlan, 1000 + vlan, number % 10 + 1, mac)
                print(time.perf_counter() - start, flush=True)
        finally:
            os._exit(0)  # its threads would not end
    return loop


def main() -> None:
    """See above."""
    bridge, ovsdb, openflow, flows = sys.argv[1:]
    configure(ovsdb, openflow)
    with mock.patch.object(ovs_neutron_agent, "main", serve(bridge, int(flows))):
        native.main()


if __name__ == "__main__":
    main()
