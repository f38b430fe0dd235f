"""`tunbridge check`."""
from __future__ import annotations

import sys

from controller.tools.commands.options import DEFAULT_FILE, File, JsonOption
from controller.tools.commands.output import say, show_json
from controller.tools.errors import BAD_INPUT


def check(file: File = DEFAULT_FILE, as_json: JsonOption = False) -> None:
    """Validate a topology: every problem of the file, each at its line and column."""
    from controller.model import reading
    from controller.model.problems import render, to_json

    found = reading.load(file)
    if as_json:
        show_json(to_json(found.problems, file))
    elif found.problems:
        print(render(found.problems))
    if found.topology is None:
        errors = sum(problem.severity == "error" for problem in found.problems)
        say(f"{file}: {errors} error{'s' * (errors != 1)}.")
        sys.exit(BAD_INPUT)
    cloud = found.topology
    say(f"{file} is valid: {len(cloud.hosts)} hosts, {len(cloud.networks)} networks, {len(cloud.vms)} VMs.")
