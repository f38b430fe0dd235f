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
import sys

# `mn --custom` executes this text without a __file__ and without our directory on the path.
sys.path.insert(0, os.path.dirname(os.path.abspath(inspect.currentframe().f_code.co_filename)))

from hypervisor import HypervisorError
from jobs import running, write_json
from nodes import MARK
from views import TunbridgeTopo, prompt

topos = {"tunbridge": TunbridgeTopo}


def obey(plan_path, state_path):
    """`lab.py obey`: exit code 0, or 1 with one last line that says why."""
    def say(value):
        print(json.dumps(value), flush=True)
    try:
        lab = running(plan_path, state_path)
        lab.obey(json.load(sys.stdin), say, lambda: write_json(state_path, {"nodes": lab.records()}))
    except (HypervisorError, OSError, RuntimeError) as error:
        say({"error": str(error)})
        return 1
    return 0


if __name__ == "__main__":
    COMMANDS = {"obey": obey, "cli": prompt}
    if len(sys.argv) != 4 or sys.argv[1] not in COMMANDS:
        sys.exit(__doc__)
    os.environ[MARK] = os.path.dirname(os.path.abspath(sys.argv[3]))
    sys.exit(COMMANDS[sys.argv[1]](sys.argv[2], sys.argv[3]))
