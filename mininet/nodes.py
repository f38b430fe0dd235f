"""Mininet nodes that outlive the process that made them.

A node of Mininet is a shell, and its namespace dies with the shell. A lab goes on after `lab up` has ended, so each
of its nodes is an anchor: a sleeping process that holds the namespace and does nothing else. Whoever wants to
work in the node enters it by the anchor's pid; a Mininet shell is opened only when somebody talks to it.
"""
import os
import subprocess

from hypervisor import Hypervisor
from mininet.link import Intf
from mininet.node import Host, Node, Switch

MARK = "TUNBRIDGE_LAB"  # in the environment of every process of a lab: which lab it belongs to
TITLE = "tunbridge:"  # how an anchor's command line starts


def start_anchor(name, environment):
    """A process in network and mount namespaces of its own; its pid. `ps` shows it as `tunbridge:<name>`.

    Not as `mininet:<name>`: `mn -c`, which Mininet also calls when anybody's script fails, kills all of those.
    """
    sleeper = ["mnexec", "-cdn", "bash", "-c", 'exec -a "$0" sleep infinity', f"{TITLE}{name}"]
    anchor = subprocess.Popen(sleeper, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                              stderr=subprocess.DEVNULL, cwd="/")
    _await_namespace(anchor)
    return anchor.pid


def _await_namespace(anchor):
    """Until the anchor sleeps it may still be on its way into its namespace."""
    while True:
        with open(f"/proc/{anchor.pid}/cmdline", "rb") as file:
            if file.read().startswith(TITLE.encode()):
                return
        if anchor.poll() is not None:
            raise RuntimeError("mnexec could not make a namespace; it needs root and CAP_SYS_ADMIN.")
        os.sched_yield()


class Anchored(Node):
    """A node whose namespace is held by an anchor: `anchor` is its pid, or None to make one."""

    def __init__(self, name, anchor=None, lab=None, **params):
        self.anchor, self.lab = anchor, lab
        super().__init__(name, **params)

    def environment(self):
        """What processes of this node find in their environment."""
        return {**os.environ, MARK: self.lab} if self.lab else dict(os.environ)

    def _popen(self, cmd, **params):
        params.setdefault("env", self.environment())
        return super()._popen(cmd, **params)

    def startShell(self, mnopts=None):
        """Only the anchor; the shell waits until it is needed, since a lab has a hundred nodes."""
        if self.anchor is None:
            self.anchor = start_anchor(self.name, self.environment())
        self.pid = self.anchor

    def mountPrivateDirs(self):
        """None here, and asking would open the shell."""

    unmountPrivateDirs = mountPrivateDirs

    def _open_shell(self):
        if self.shell is None:
            self.inNamespace = False  # enter the anchor's namespace instead of a new one
            super().startShell(f"-cda{self.anchor}")
            self.inNamespace, self.pid = True, self.anchor

    def sendCmd(self, *args, **kwargs):
        self._open_shell()
        return super().sendCmd(*args, **kwargs)

    def cmd(self, *args, **kwargs):
        self._open_shell()
        return super().cmd(*args, **kwargs)

    def know(self, interface, address, mac):
        """Take note of an interface that the plan makes, so that Mininet's prompt can show and substitute it."""
        if interface in self.nameToIntf:
            return self.nameToIntf[interface]
        intf = Intf(interface, node=self, moveIntfFn=lambda *_: None, up=False)
        intf.ip, _, intf.prefixLen = address.partition("/")
        intf.mac = mac
        return intf


class LabVm(Anchored, Host):
    """A virtual machine of a lab."""


class LabUnderlay(Anchored, Switch):
    """The node whose Linux bridge joins the hypervisors."""

    def __init__(self, name, **params):
        super().__init__(name, dpid="1", **{**params, "inNamespace": True})
        self.controlIntf = None

    def start(self, _controllers):
        """Nothing: the plan says what to do."""


class LabHypervisor(Anchored, Hypervisor):
    """A hypervisor of a lab; its bridges come from the plan."""

    def __init__(self, name, **params):
        super().__init__(name, bridge=None, **params)

    def environment(self):
        """The lab's mark and the place of the daemons."""
        return {**Hypervisor.environment(self), **({MARK: self.lab} if self.lab else {})}


class LabInternet(LabHypervisor):
    """The world outside the cloud: a node with switches of its own, too."""


class LabRouter(Anchored, Switch):
    """A router that is a namespace inside a hypervisor, for Mininet's prompt; `anchor` is the hypervisor's."""

    def __init__(self, name, namespace, **params):
        self.namespace = namespace
        super().__init__(name, dpid="1", **{**params, "inNamespace": True})
        self.controlIntf = None

    def _popen(self, cmd, **params):
        """Behind `mnexec` and its options, which enter the hypervisor, it goes on into the namespace."""
        entered = 3 if cmd[1] == "-da" else 2
        return super()._popen([*cmd[:entered], "ip", "netns", "exec", self.namespace, *cmd[entered:]], **params)

    def start(self, _controllers):
        """Nothing: the plan says what to do."""


KINDS = {"vm": LabVm, "hypervisor": LabHypervisor, "underlay": LabUnderlay,
         "internet": LabInternet}
