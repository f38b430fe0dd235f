"""Mininet's views of a lab: its prompt on one that runs, and a Topo for `mn --custom`."""
import os
import sys

from jobs import Lab, read_json, running
from mininet.cli import CLI
from mininet.log import output
from mininet.net import Mininet
from mininet.topo import Topo
from nodes import LabHypervisor, LabInternet, LabRouter, LabUnderlay, LabVm

DEFAULT_PLAN = os.path.join(os.environ.get("TUNBRIDGE_RUNDIR", "/run/tunbridge"), "lab", "plan.json")


class Wire:
    """What `net` and `links` of Mininet's prompt ask of a link."""

    def __init__(self, intf1, intf2):
        self.intf1, self.intf2 = intf1, intf2
        intf1.link = intf2.link = self

    def __str__(self):
        return f"{self.intf1.node}:{self.intf1}<->{self.intf2.node}:{self.intf2}"

    def status(self):
        """As Mininet's links say it."""
        return "(OK OK)"

    def stop(self):
        """The lab's own business."""


def know_wires(plan, nodes):
    """Tell Mininet's nodes which interfaces they have and how they are joined."""
    cards = {(vm, card["interface"]): card for vm, value in plan["vms"].items() for card in value["cards"]}
    wires = []
    for host, devices in plan["hypervisors"].items():
        for link in devices["links"]:
            far = link["far"]
            if far is None:
                continue
            card = cards.get((far["node"], far["interface"]), {"address": "", "mac": far["mac"]})
            wires.append(Wire(nodes[far["node"]].know(far["interface"], card["address"], card["mac"]),
                              nodes[host].know(link["name"], "", None)))
    return wires


def know_legs(plan, router, nodes):
    """The same of a router's legs, which have one name at both ends."""
    return [Wire(router.know(leg["name"], leg["addresses"][0], leg["mac"]),
                 nodes[plan["host"]].know(leg["name"], "", None)) for leg in plan["shown"]["legs"]]


def routers(lab):
    """Those that are namespaces, by name; a node of the same name goes first."""
    found = {}
    for name, router in lab.plan["routers"].items():
        if router["driver"] == "namespace" and router["shown"]["legs"] and name not in lab.nodes:
            found[name] = LabRouter(name, router["shown"]["name"], anchor=lab.nodes[router["host"]].pid,
                                    lab=lab.directory)
    return found


class Prompt(CLI):
    """Mininet's, which believes every echo; in a cloud whose tenants share addresses that is too much."""

    def do_pingall(self, line):
        """Ping between all hosts, and say what an answer means here."""
        super().do_pingall(line)
        output("*** Tenants may share addresses: an answer can come from a namesake, or from the VM itself.\n"
               "*** `tunbridge lab reach`, in another terminal, counts what the destination itself has heard.\n")


def prompt(plan_path, state_path):
    """`lab.py cli`: Mininet's prompt; leaving it leaves the lab running."""
    lab = running(plan_path, state_path)
    net = Mininet(topo=None, build=False, controller=None)
    net.built = True
    for name, node in lab.nodes.items():
        net.nameToNode[name] = node
        (net.hosts if isinstance(node, LabVm) else net.switches).append(node)
    for name, router in routers(lab).items():
        net.nameToNode[name] = router
        net.switches.append(router)
        net.links += know_legs(lab.plan["routers"][name], router, lab.nodes)
    net.links += know_wires(lab.plan, lab.nodes)
    Prompt(net)
    for node in net.nameToNode.values():
        node.terminate()
    return 0


class TunbridgeTopo(Topo):
    """`mn --custom mininet/lab.py --topo tunbridge[,PLAN]`: a lab that lives as long as `mn`."""

    def build(self, plan=DEFAULT_PLAN):
        """All nodes of the plan; the plan's own stages wire them when Mininet starts the switches."""
        # Not by an exception: `mn` would answer with a clean-up that kills all Mininets of this machine.
        if not os.path.exists(plan):
            sys.exit(f"There is no plan {plan}; `tunbridge lab plan > FILE` writes one for `--topo tunbridge,FILE`.")
        value = read_json(plan)
        lab = Lab(value.get("directory") or os.path.dirname(os.path.abspath(plan)), value)
        os.makedirs(lab.directory, mode=0o700, exist_ok=True)
        if os.path.exists(os.path.join(lab.directory, "state.json")):
            sys.exit(f"The lab of {plan} runs already; `tunbridge lab cli` opens its prompt.")
        for name in value["vms"]:
            self.addHost(name, cls=PlannedVm, cloud=lab)
        switches = {**dict.fromkeys(value["hypervisors"], PlannedHypervisor), value["underlay"]: PlannedUnderlay}
        if value["outside"]:
            switches[value["outside"]["name"]] = PlannedInternet
        for name, cls in switches.items():
            self.addSwitch(name, cls=cls, cloud=lab)


class Planned:
    """A node that `mn` makes: known to the lab, and gone with `mn`."""

    def __init__(self, name, cloud, **params):
        self.cloud = cloud
        super().__init__(name, lab=cloud.directory, **params)
        cloud.nodes[name] = self

    def start(self, _controllers):
        """The first switch to start sets all of the plan in motion: by then Mininet has made all nodes."""
        stages = [stage for stage in self.cloud.plan.pop("stages", ()) if stage["what"] != "starting"]
        self.cloud.obey(stages, lambda _: None, lambda: None)
        know_wires(self.cloud.plan, self.cloud.nodes)

    def stop(self, deleteIntfs=False):
        """The end of the node is `terminate`, which takes its devices along."""

    def terminate(self):
        """The shell, and the namespace with all that is in it."""
        super().terminate()
        if self.name in self.cloud.nodes:
            self.cloud.stop({"node": self.name})


class PlannedVm(Planned, LabVm):
    """A virtual machine under `mn`."""

    def __init__(self, name, cloud, **params):
        super().__init__(name, cloud, **params)
        for card in cloud.plan["vms"][name]["cards"]:
            self.know(card["interface"], card["address"], card["mac"])

    def config(self, **_params):
        """Nothing: the plan gives it its addresses."""


class PlannedHypervisor(Planned, LabHypervisor):
    """A hypervisor under `mn`."""

    def __init__(self, name, cloud, **params):
        super().__init__(name, cloud, rundir=os.path.join(cloud.directory, name), **params)


class PlannedInternet(Planned, LabInternet):
    """The world outside under `mn`."""

    def __init__(self, name, cloud, **params):
        super().__init__(name, cloud, rundir=os.path.join(cloud.directory, name), **params)


class PlannedUnderlay(Planned, LabUnderlay):
    """The underlay under `mn`."""
