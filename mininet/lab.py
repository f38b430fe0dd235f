"""The lab: obeys a JSON plan that the controller wrote.

    lab.py obey PLAN STATE   do the stages that come on standard input; progress goes to standard output as JSON lines
    lab.py cli PLAN STATE    Mininet's prompt on a lab that runs
    mn --custom mininet/lab.py --topo tunbridge,PLAN

STATE is where the nodes that run are written down: name -> pid, start time, kind. Both files lie in the lab's
directory, and the directory's path is the mark by which all processes of the lab are known.
"""
import inspect
import json
import os
import re
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

# `mn --custom` executes this text without a __file__ and without our directory on the path.
sys.path.insert(0, os.path.dirname(os.path.abspath(inspect.currentframe().f_code.co_filename)))

from hypervisor import HypervisorError
from mininet.cli import CLI
from mininet.net import Mininet
from mininet.topo import Topo
from nodes import KINDS, MARK, LabHypervisor, LabUnderlay

HERE = sys.path[0]
HANDS = 8  # jobs at once; most of a job is waiting for a command
DEFAULT_PLAN = os.path.join(os.environ.get("TUNBRIDGE_RUNDIR", "/run/tunbridge"), "lab", "plan.json")


class Lab:
    """The nodes of one lab, and what can be done with them."""

    def __init__(self, directory, plan):
        self.directory, self.plan = directory, plan
        self.nodes = {}

    def attach(self, name, record):
        """Know a node that runs."""
        self.nodes[name] = self.make(name, record["kind"], anchor=record["pid"])

    def make(self, name, kind, cls=None, **params):
        """A node of a kind; with an anchor it is one that runs already."""
        if kind == "hypervisor":
            params["rundir"] = os.path.join(self.directory, name)
        return (cls or KINDS[kind])(name, lab=self.directory, **params)

    # Jobs: one method each, named after what the plan says.

    def start(self, job):
        """Make a node."""
        self.nodes[job["node"]] = self.make(job["node"], job["kind"])

    def stop(self, job):
        """End a node and all that runs in it."""
        node = self.nodes.pop(job["node"])
        if isinstance(node, LabHypervisor):
            node.stop_ovs()
            for file in os.scandir(node.rundir):
                os.unlink(file)
            os.rmdir(node.rundir)
        end_namespace(node.pid)

    def ovs(self, job):
        """Start a hypervisor's daemons; a link in their directory leads to the controller."""
        node = self.nodes[job["node"]]
        os.makedirs(node.rundir, mode=0o700, exist_ok=True)
        link = os.path.join(node.rundir, "tunbridge.sock")
        if not os.path.islink(link):
            os.symlink(os.path.join(os.path.dirname(self.directory), "openflow.sock"), link)
        node.start_ovs()

    def run(self, job):
        """Run the steps of a plan in a node, in order."""
        node = self.nodes[job["node"]]
        for step in job["steps"]:
            argv = ["mnexec", "-a", str(node.pid), *step["argv"]]
            lines = "".join(f"{self.resolved(line)}\n" for line in step["lines"])
            done = subprocess.run(argv, input=lines, env=node.environment(), capture_output=True, text=True,
                                  check=False)
            if done.returncode and not step["tolerant"]:
                raise HypervisorError(f"{node.name}: {step['why']}: `{' '.join(step['argv'])}` failed: "
                                      f"{(done.stderr or done.stdout).strip()}")

    def resolved(self, line):
        """A plan names nodes; the kernel wants pids."""
        return re.sub(r"\bpid:(\S+)", lambda found: str(self.nodes[found[1]].pid), line)

    def announce(self, job):
        """Let a VM tell where it is now; it goes on by itself while we go on."""
        node = self.nodes[job["node"]]
        for interface, mac, address in job["cards"]:
            subprocess.Popen(["mnexec", "-cda", str(node.pid), sys.executable, os.path.join(HERE, "announce.py"),
                              interface, mac, address], env=node.environment(), stdin=subprocess.DEVNULL,
                             stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def obey(self, stages, say, keep):
        """Do all stages in order, the jobs of each side by side; `keep` is told after every stage."""
        total, done = sum(len(stage["jobs"]) for stage in stages), 0
        with ThreadPoolExecutor(HANDS) as pool:
            for stage in stages:
                try:
                    for _ in pool.map(lambda job: getattr(self, job["do"])(job), stage["jobs"]):
                        done += 1
                        say({"stage": stage["what"], "done": done, "of": total})
                finally:
                    keep()

    def records(self):
        """The nodes that run, as they are written down."""
        kinds = {cls: kind for kind, cls in KINDS.items()}
        return {name: {"pid": node.pid, "start": start_time(node.pid), "kind": kinds[type(node)]}
                for name, node in sorted(self.nodes.items())}


def start_time(pid):
    """When a process started, in clock ticks since boot (proc(5), stat, field 22): with the pid, its identity."""
    with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
        return int(file.read().rpartition(")")[2].split()[19])


def end_namespace(anchor):
    """End every process in the network namespace that an anchor holds, the anchor last."""
    namespace = os.readlink(f"/proc/{anchor}/ns/net")
    inside = [int(pid) for pid in os.listdir("/proc") if pid.isdigit() and _namespace(pid) == namespace]
    for pid in sorted(inside, key=lambda pid: pid == anchor):
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue


def _namespace(pid):
    try:
        return os.readlink(f"/proc/{pid}/ns/net")
    except OSError:
        return None


def read_json(path):
    """What a JSON file holds."""
    with open(path, encoding="utf-8") as file:
        return json.load(file)


def write_json(path, value):
    """Write a JSON file whole or not at all."""
    with open(f"{path}.new", "w", encoding="utf-8") as file:
        json.dump(value, file, indent=1)
    os.replace(f"{path}.new", path)


def running(plan_path, state_path):
    """The lab that is written down."""
    lab = Lab(os.path.dirname(os.path.abspath(state_path)), read_json(plan_path) if os.path.exists(plan_path) else {})
    if os.path.exists(state_path):
        for name, record in read_json(state_path)["nodes"].items():
            lab.attach(name, record)
    return lab


def obey(plan_path, state_path):
    """`lab.py obey`: exit code 0, or 1 with one last line that says why."""
    lab = running(plan_path, state_path)

    def say(value):
        print(json.dumps(value), flush=True)
    try:
        lab.obey(json.load(sys.stdin), say, lambda: write_json(state_path, {"nodes": lab.records()}))
    except (HypervisorError, OSError, RuntimeError) as error:
        say({"error": str(error)})
        return 1
    return 0


# Mininet's views of a lab.

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


def prompt(plan_path, state_path):
    """`lab.py cli`: Mininet's prompt; leaving it leaves the lab running."""
    lab = running(plan_path, state_path)
    net = Mininet(topo=None, build=False, controller=None)
    net.built = True
    for name, node in lab.nodes.items():
        net.nameToNode[name] = node
        (net.hosts if isinstance(node, KINDS["vm"]) else net.switches).append(node)
    net.links += know_wires(lab.plan, lab.nodes)
    CLI(net)
    for node in lab.nodes.values():
        node.terminate()
    return 0


class TunbridgeTopo(Topo):
    """`mn --custom mininet/lab.py --topo tunbridge[,PLAN]`: a lab that lives as long as `mn`."""

    def build(self, plan=DEFAULT_PLAN):
        """All nodes of the plan; the plan's own stages wire them when Mininet starts the switches."""
        value = read_json(plan)
        lab = Lab(os.path.dirname(os.path.abspath(plan)), value)
        if os.path.exists(os.path.join(lab.directory, "state.json")):
            sys.exit(f"The lab of {plan} runs already; `tunbridge lab cli` opens its prompt.")
        for name in value["vms"]:
            self.addHost(name, cls=PlannedVm, cloud=lab, ip=None)
        for name in value["hypervisors"]:
            self.addSwitch(name, cls=PlannedHypervisor, cloud=lab)
        self.addSwitch(value["underlay"], cls=PlannedUnderlay, cloud=lab)


class Planned:
    """A node that `mn` makes: known to the lab, and gone with `mn`."""

    kind = ""

    def __init__(self, name, cloud, **params):
        if self.kind == "hypervisor":
            params["rundir"] = os.path.join(cloud.directory, name)
        self.cloud = cloud
        super().__init__(name, lab=cloud.directory, **params)
        cloud.nodes[name] = self

    def terminate(self):
        """The shell, and the namespace with all that is in it."""
        super().terminate()
        if os.path.exists(f"/proc/{self.pid}"):
            end_namespace(self.pid)


class PlannedVm(Planned, KINDS["vm"]):
    """A virtual machine under `mn`."""

    kind = "vm"

    def config(self, **_params):
        """Nothing: the plan gives it its addresses."""


class PlannedHypervisor(Planned, LabHypervisor):
    """A hypervisor under `mn`."""

    kind = "hypervisor"


class PlannedUnderlay(Planned, LabUnderlay):
    """The underlay under `mn`: the last switch to start, so everything is there when it does."""

    kind = "underlay"

    def start(self, _controllers):
        """All of the plan but the making of nodes, which Mininet has done, and of daemons, which they have."""
        stages = [stage for stage in self.cloud.plan["stages"] if stage["what"] not in ("starting", "switches")]
        self.cloud.obey(stages, lambda _: None, lambda: None)
        know_wires(self.cloud.plan, self.cloud.nodes)


topos = {"tunbridge": TunbridgeTopo}

if __name__ == "__main__":
    COMMANDS = {"obey": obey, "cli": prompt}
    if len(sys.argv) != 4 or sys.argv[1] not in COMMANDS:
        sys.exit(__doc__)
    os.environ[MARK] = os.path.dirname(os.path.abspath(sys.argv[3]))
    sys.exit(COMMANDS[sys.argv[1]](sys.argv[2], sys.argv[3]))
