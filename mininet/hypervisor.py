"""A Mininet node with an Open vSwitch of its own: its own namespace, database, daemons and tunnels.

Mininet's OVSSwitch shares one Open vSwitch with the whole machine, in the root namespace; two of its switches
cannot stand for two hosts. A Hypervisor can. It needs nothing else of this project:

    net = Mininet(topo=None, controller=None)
    left = net.addSwitch("left", cls=Hypervisor, tunnel_ip="192.0.2.1/24")

Its links to hosts become ports of its bridge; its first link to another switch or hypervisor is the underlay.
"""
import contextlib
import hashlib
import ipaddress
import os
import select
import shutil
import signal
import subprocess
import tempfile

from mininet.node import Switch

SCHEMA = "/usr/share/openvswitch/vswitch.ovsschema"
DAEMONS = ("ovs-vswitchd", "ovsdb-server")  # in the order in which they end
PATIENCE = 20  # seconds for a daemon to come or go


class HypervisorError(Exception):
    """A command in a hypervisor failed; the text names the node, the command and what it said."""


class Hypervisor(Switch):
    """A host of virtual machines. Works with `addSwitch(cls=Hypervisor)`, in a Topo and in a plain script.

    rundir      where its daemons live (default: a temporary directory, removed by `stop`)
    datapath    netdev (default; needs no kernel module) or system
    bridge      the bridge that links are attached to at the start; None: make none, attach nothing
    tunnel_ip   192.0.2.1/24: the address of its tunnels, on the underlay link
    uplink      the underlay link's interface, if it is not the first link to another switch
    remotes     tunnel addresses of other hypervisors; each becomes a VXLAN port at the start
    controller  where the bridge connects to; without one it is a learning switch
    """

    def __init__(self, name, rundir=None, datapath="netdev", bridge="br-int", controller=None, tunnel_ip=None,
                 uplink=None, remotes=(), **params):
        self.made_rundir = rundir is None
        self.rundir = rundir or tempfile.mkdtemp(prefix=f"{name}-ovs-")
        self.datapath, self.bridge, self.controller = datapath, bridge, controller
        self.tunnel_ip, self.uplink, self.remotes = tunnel_ip, uplink, remotes
        params["inNamespace"] = True
        # Mininet takes the datapath id from a number in the name, and refuses names without one.
        params.setdefault("dpid", hashlib.sha256(name.encode()).hexdigest()[:16])
        super().__init__(name, **params)
        self.controlIntf = None

    # Commands.

    def environment(self):
        """The environment in which ovs-vsctl, ovs-ofctl and ovs-appctl find this node's daemons."""
        return {**os.environ, "OVS_RUNDIR": self.rundir, "OVS_DBDIR": self.rundir, "OVS_LOGDIR": self.rundir}

    def _popen(self, cmd, **params):
        """Mininet's shell, `cmd` and `popen` all start here: all of them get our environment."""
        params.setdefault("env", self.environment())
        return super()._popen(cmd, **params)

    def run(self, *argv, stdin=None):
        """Run a command in this node without a shell; its output. HypervisorError if it fails."""
        done = subprocess.run(["mnexec", "-a", str(self.pid), *argv], input=stdin, env=self.environment(),
                              capture_output=True, text=True, check=False)
        if done.returncode:
            raise HypervisorError(f"{self.name}: `{' '.join(argv)}` failed: {(done.stderr or done.stdout).strip()}")
        return done.stdout

    def vsctl(self, *args):
        """ovs-vsctl on this node's database."""
        return self.run("ovs-vsctl", f"--timeout={PATIENCE}", *args)

    def ofctl(self, *args):
        """ovs-ofctl on this node's bridges."""
        return self.run("ovs-ofctl", *args)

    def appctl(self, *args):
        """ovs-appctl to this node's ovs-vswitchd."""
        return self.run("ovs-appctl", f"--timeout={PATIENCE}", *args)

    # Daemons.

    def start_ovs(self):
        """Start this node's ovsdb-server and ovs-vswitchd on a database of their own."""
        os.makedirs(self.rundir, mode=0o700, exist_ok=True)
        database = os.path.join(self.rundir, "conf.db")
        if not os.path.exists(database):
            self.run("ovsdb-tool", "create", database, SCHEMA)
        self._daemon("ovsdb-server", database, f"--remote=punix:{self.rundir}/db.sock")
        # One thread of each kind: dozens of these share a machine.
        self.vsctl("--no-wait", "init", "--", "set", "Open_vSwitch", ".", f"external_ids:hostname={self.name}",
                   "other_config:n-handler-threads=1", "other_config:n-revalidator-threads=1")
        self._start_vswitchd()

    def _start_vswitchd(self):
        """It is told its one route: of what it reads of the kernel's, it forgets all whenever a device comes or goes,
        and loses packets until it has read it anew.
        """
        self._daemon("ovs-vswitchd", "--disable-system-route")

    def _daemon(self, program, *args):
        self.run(program, *args, "--detach", "--no-chdir", "--pidfile", "--log-file", "-vconsole:off")

    def stop_ovs(self, hard=False):
        """End this node's daemons and wait until they are gone; `hard` means without a chance to clean up."""
        for program in DAEMONS:
            end_daemon(self.rundir, program, signal.SIGKILL if hard else signal.SIGTERM)

    def restart_vswitchd(self, hard=True):
        """End ovs-vswitchd and start it anew; the database keeps its bridges and ports."""
        end_daemon(self.rundir, "ovs-vswitchd", signal.SIGKILL if hard else signal.SIGTERM)
        self._start_vswitchd()

    # Bridges and ports.

    def add_bridge(self, name, controller=None):
        """A bridge; with a controller it forwards nothing until told, without one it is a learning switch."""
        mode = "secure" if controller else "standalone"
        command = ["--may-exist", "add-br", name, "--", "set", "Bridge", name, f"datapath_type={self.datapath}",
                   f"fail_mode={mode}", "other_config:disable-in-band=true"]
        if controller:
            command += ["--", "set-controller", name, self._reachable(controller)]
        self.vsctl(*command)

    def _reachable(self, controller):
        """OVS takes a `unix:` controller in its own run directory only, so a link there leads to it."""
        kind, _, path = controller.partition(":")
        if kind != "unix":
            return controller
        link = os.path.join(self.rundir, "tunbridge.sock")
        with contextlib.suppress(FileExistsError):
            os.symlink(os.path.abspath(path), link)
        return f"unix:{link}"

    def add_port(self, port, bridge=None):
        """Attach a network device of this node to a bridge of it."""
        self.vsctl("--may-exist", "add-port", bridge or self.bridge, str(port))

    def add_vxlan(self, remote, bridge=None, key="flow", **options):
        """A VXLAN port to the hypervisor with that tunnel address; its name. `key` is a VNI, or `flow`.

        Tunnels do not forward to each other, or three hypervisors would make a loop.
        """
        name = "vx" + hashlib.sha256(remote.encode()).hexdigest()[:10]
        bridge = bridge or self.bridge
        if not self.controller and key == "flow":
            key = 1  # a learning switch sets no tunnel id
        settings = {"key": key, "remote_ip": remote, **options}
        if self.datapath != "netdev":  # there the route says it
            settings["local_ip"] = self.tunnel_ip.partition("/")[0]
        self.vsctl("--may-exist", "add-port", bridge, name, "--", "set", "Port", name, "protected=true",
                   "--", "set", "Interface", name, "type=vxlan",
                   *(f'options:{key}="{value}"' for key, value in settings.items()))
        return name

    def add_underlay(self, device):
        """Put the tunnel address where the datapath looks for it: userspace on a bridge over the device."""
        holder = device
        if self.datapath == "netdev":
            holder = "br-phy"
            self.add_bridge(holder)
            self.add_port(device, holder)
        self.run("ip", "address", "replace", self.tunnel_ip, "dev", holder)
        self.run("ip", "link", "set", "dev", holder, "up")
        if self.datapath == "netdev":
            self.appctl("version")  # in the turn of its main loop that answers, it hears of the address
            self.appctl("ovs/route/add", str(ipaddress.ip_interface(self.tunnel_ip).network), holder)

    # Mininet's life of a switch.

    def start(self, _controllers):
        """Start the daemons and attach all links."""
        self.start_ovs()
        if self.uplink is None:
            self.uplink = next((intf.name for intf in self.intfList() if isinstance(far_node(intf), Switch)), None)
        for intf in self.intfList():
            if isinstance(far_node(intf), Switch):
                # Room for the tunnels' headers, so that hosts can keep Ethernet's usual 1500.
                self.run("ip", "link", "set", "dev", intf.name, "mtu", "1600", "up")
        if self.bridge is not None:
            self.add_bridge(self.bridge, self.controller)
        for intf in self.intfList():
            if intf.name not in ("lo", self.uplink):
                self.attach(intf)
        if self.bridge is not None and self.tunnel_ip and self.uplink:
            self.add_underlay(self.uplink)
        for remote in self.remotes:
            self.add_vxlan(remote)

    def attach(self, intf):
        """Attach a Mininet interface, also later than at the start."""
        if self.bridge is not None:
            self.add_port(intf, self.bridge)
        host = far_node(intf)
        if host is not None and not isinstance(host, Switch):
            # The userspace datapath hands frames on as they are; a host that leaves checksums to the
            # hardware of a veth would send them wrong, and TCP would hang.
            host.cmd("ethtool", "-K", far_end(intf).name, "tx", "off")

    def detach(self, intf):
        """Take an interface off the bridge."""
        self.vsctl("--if-exists", "del-port", self.bridge, str(intf))

    def connected(self):
        """Whether the bridge has its controller; always so if it needs none."""
        return not self.controller or "true" in self.vsctl("get", "Controller", self.bridge, "is_connected")

    def stop(self, deleteIntfs=True):
        """End the daemons; the directory goes, too, if it was ours to make."""
        self.stop_ovs()
        if self.made_rundir:
            shutil.rmtree(self.rundir, ignore_errors=True)
        super().stop(deleteIntfs)


def far_end(intf):
    """The interface at the other end of an interface's link; None without a link."""
    if not intf.link:
        return None
    return intf.link.intf2 if intf.link.intf1 is intf else intf.link.intf1


def far_node(intf):
    """The node at the other end of an interface's link; None without a link."""
    end = far_end(intf)
    return end.node if end else None


def end_daemon(rundir, program, signum):
    """End the daemon whose pid file lies in `rundir`, if it is that program, and wait until it is gone."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError, ValueError):
        with open(os.path.join(rundir, f"{program}.pid"), encoding="ascii") as file:
            pid = int(file.read())
        handle = os.pidfd_open(pid)
        try:
            # The pid file may be older than the process that has its number now.
            with open(f"/proc/{pid}/environ", "rb") as file:
                if f"OVS_RUNDIR={rundir}".encode() in file.read().split(b"\0"):
                    signal.pidfd_send_signal(handle, signum)
                    _await_end(handle, program, pid)
        finally:
            os.close(handle)


def _await_end(handle, program, pid):
    """A process handle becomes readable when its process has ended."""
    poll = select.poll()
    poll.register(handle, select.POLLIN)
    if not poll.poll(PATIENCE * 1000):
        raise HypervisorError(f"{program} (pid {pid}) does not end; `kill -9 {pid}` ends it.")
