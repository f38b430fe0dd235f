"""The jobs of a plan, done: nodes started and stopped, daemons started, commands run."""
import json
import os
import re
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

from hypervisor import HypervisorError
from nodes import KINDS, LabHypervisor

HERE = os.path.dirname(os.path.abspath(__file__))
HANDS = 8  # jobs at once; most of a job is waiting for a command


class Lab:
    """The nodes of one lab, and what can be done with them."""

    def __init__(self, directory, plan):
        self.directory, self.plan = directory, plan
        self.nodes = {}

    def attach(self, name, record):
        """Know a node that runs. RuntimeError if it has died, whoever has its pid now."""
        if not os.path.exists(f"/proc/{record['pid']}") or start_time(record["pid"]) != record["start"]:
            raise RuntimeError(f"{name} has died.")
        self.nodes[name] = self.make(name, record["kind"], anchor=record["pid"])

    def make(self, name, kind, cls=None, **params):
        """A node of a kind; with an anchor it is one that runs already."""
        if kind in ("hypervisor", "internet"):
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
        self.do(self.nodes[job["node"]], job["steps"])

    def do(self, node, steps):
        """Run steps in a node. HypervisorError at the first that fails."""
        for step in steps:
            argv = ["mnexec", "-a", str(node.pid), *step["argv"]]
            if step["background"]:
                begin(argv, node)
                continue
            lines = "".join(f"{self.resolved(line)}\n" for line in step["lines"])
            done = subprocess.run(argv, input=lines, env=node.environment(), capture_output=True, text=True,
                                  check=False)
            if done.returncode and not step["tolerant"]:
                said = (done.stderr or done.stdout).strip()
                raise HypervisorError(f"{node.name}: {step['why']}: {complaint(step, said)}")

    def resolved(self, line):
        """A plan names nodes; the kernel wants pids."""
        return re.sub(r"\bpid:(\S+)", lambda found: str(self.nodes[found[1]].pid), line)

    def serve(self, job):
        """Start a node's web server and wait until it listens; it goes on by itself."""
        node = self.nodes[job["node"]]
        argv = ["mnexec", "-a", str(node.pid), sys.executable, os.path.join(HERE, "web.py")]
        server = begin(argv, node, stdout=subprocess.PIPE)
        with server.stdout:
            if not server.stdout.readline():
                raise RuntimeError(f"{node.name}: the web server did not start; is port 80 of that node taken?")
        write_json(os.path.join(node.rundir, "web.json"), {"pid": server.pid, "start": start_time(server.pid)})

    def obey(self, stages, say, keep):
        """Do all stages in order, the jobs of each side by side; `keep` is told after every stage.

        A job that names a namespace may fail: then its `otherwise` is done, that is said, and nothing else is done
        for that namespace.
        """
        total, done, failed = sum(len(stage["jobs"]) for stage in stages), 0, set()

        def attempt(job):
            """Do a job; of a router that has failed, nothing more is done."""
            which = (job["node"], job.get("namespace"))
            try:
                if which not in failed:
                    getattr(self, job["do"])(job)
            except HypervisorError as error:
                if which[1] is None:
                    raise
                failed.add(which)
                self.do(self.nodes[job["node"]], job.get("otherwise", ()))
                say({"failed": which, "error": str(error)})

        with ThreadPoolExecutor(HANDS) as pool:
            for stage in stages:
                try:
                    for _ in pool.map(attempt, stage["jobs"]):
                        done += 1
                        say({"stage": stage["what"], "done": done, "of": total})
                finally:
                    keep()

    def records(self):
        """The nodes that run, as they are written down."""
        kinds = {cls: kind for kind, cls in KINDS.items()}
        return {name: {"pid": node.pid, "start": start_time(node.pid), "kind": kinds[type(node)]}
                for name, node in sorted(self.nodes.items())}


def complaint(step, said):
    """Which command failed and what it said, on one line; of a batch of `ip`, the one command of it."""
    words, command = said.splitlines(), " ".join(step["argv"])
    found = re.fullmatch(r"Command failed -:(\d+)", words[-1]) if words and step["lines"] else None
    if found:
        command = f"{' '.join(step['argv'][:-2])} {step['lines'][int(found[1]) - 1]}"
        words = words[:-1] or ["it did not say why"]
    return f"`{command}` failed: {'; '.join(words)}"


def begin(argv, node, stdout=subprocess.DEVNULL):
    """Start a process of a node that goes on by itself."""
    return subprocess.Popen(argv, env=node.environment(), stdin=subprocess.DEVNULL, stdout=stdout,
                            stderr=subprocess.DEVNULL, start_new_session=True)


def start_time(pid):
    """When a process started, in clock ticks since boot (proc(5), stat, field 22): with the pid, its identity."""
    with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
        return int(file.read().rpartition(")")[2].split()[19])


def end_namespace(anchor):
    """End every process in the network namespace that an anchor holds, and in those made inside, the anchor last."""
    namespace = os.readlink(f"/proc/{anchor}/ns/net")
    if namespace == os.readlink("/proc/self/ns/net"):
        raise RuntimeError(f"Process {anchor} is in no namespace of its own; it is left alone.")
    rooms = {namespace, *inner_namespaces(anchor)}
    inside = [int(pid) for pid in os.listdir("/proc") if pid.isdigit() and _namespace(pid) in rooms]
    for pid in sorted(inside, key=lambda pid: pid == anchor):
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue


def inner_namespaces(anchor):
    """The namespaces that `ip netns` has made in a hypervisor, which has a directory of its own for them."""
    there, here = f"/proc/{anchor}/root/run/netns", "/run/netns"
    if not os.path.isdir(there) or (os.path.isdir(here) and os.path.samefile(there, here)):
        return []
    return [f"net:[{os.stat(entry).st_ino}]" for entry in os.scandir(there)]


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
