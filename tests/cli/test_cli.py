"""The command line under bad input and faults: one clear sentence with the cure, the right exit code, nothing lost."""
from __future__ import annotations

import configparser
import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from controller.model import reading
from controller.tools.daemon import tcp_addresses
from controller.tools.errors import BAD_INPUT, Refusal
from tests.commands import NOBODY, PATIENCE, ROOT, Done, finish, place, run, start

DEMO = ROOT / "topology.yaml"
READS_FILE = (  # every command that takes a topology, with {} for it
    ("check", "{}"), ("check", "--json", "{}"), ("flows", "--intended", "--topology", "{}"),
    ("trace", "web1", "web2", "--topology", "{}"), ("why-not", "web1", "shop1", "--topology", "{}"),
    ("run", "--listen", "none", "{}"), ("apply", "{}"),
    ("plumb", "--host", "compute1", "--topology", "{}"), ("lab", "up", "{}"), ("lab", "plan", "{}"), ("demo", "{}"))


@pytest.fixture
def rundir() -> Iterator[Path]:
    with place() as made:
        yield made


def unprivileged() -> tuple[str, ...]:
    return NOBODY if os.geteuid() == 0 else ()


def all_that_read(file: Path, rundir: Path, **more: object) -> list[Done]:
    """Every command that takes a topology, with this one; all at once, since most of their time is start-up."""
    assert not reading.load(file).ok, "a valid one would start a demo"
    begun = [start(*(word.format(file) for word in words), rundir=rundir, **more) for words in READS_FILE]
    return [finish(each) for each in begun]


# ---- files

@pytest.mark.parametrize(("name", "content", "complaint"), [
    ("missing.yaml", None, "there is no such file"),
    ("half.yaml", DEMO.read_bytes()[:DEMO.read_bytes().rindex(b"}")], "a comma or a closing bracket is missing"),
    ("latin1.yaml", b"cloud: caf\xe9\n", "the byte 0xe9 is not UTF-8"),
])
def test_a_file_that_cannot_be_used_is_refused_by_every_command(
        rundir: Path, name: str, content: bytes | None, complaint: str) -> None:
    file = rundir / name
    if content is not None:
        file.write_bytes(content)
    for done in all_that_read(file, rundir):
        if done.arguments[0] == "apply" and content is not None:
            done.refused(3, "No daemon runs")  # it is the daemon who judges
        elif done.arguments[0] == "check":
            done.refused(2, "1 error")
            assert complaint in done.out
        else:
            done.refused(2, complaint)
            assert not done.out
    assert not [path for path in rundir.iterdir() if path != file], "nothing was made for a file that is no topology"


@pytest.mark.parametrize("words", [("check",), ("apply",), ("run", "--listen", "none")])
def test_a_file_that_cannot_be_read_to_its_end_is_refused(rundir: Path, words: tuple[str, ...]) -> None:
    secret = rundir / "secret.yaml"
    secret.write_bytes(DEMO.read_bytes())
    secret.chmod(0)
    # Root may read everything, unless the right to is given away.
    before = ("setpriv", "--bounding-set=-all", "--inh-caps=-all") if os.geteuid() == 0 else ()
    for file, complaint in ((secret, "permission denied"), (rundir, "is a directory"), ("/dev/zero", "too big")):
        done = run(*words, str(file), rundir=rundir, before=before)
        done.refused(2)
        assert complaint in done.words + done.out


# ---- usage

@pytest.mark.parametrize("words", [
    "", "bogus", "--bogus", "check --bogus", "check a b", "flows --intended --diff", "status --wait soon", "apply",
    "plumb", "lab bogus", "lab exec web1", "lab reach --sample -1", "trace web1",
    "trace web1 web2 --tcp 80 --icmp", "flows compute1/nowhere --intended"])
def test_wrong_usage_is_told_plainly(rundir: Path, words: str) -> None:
    done = run(*words.split(), rundir=rundir)
    done.refused(2)
    assert done.words or "Usage" in done.out
    assert not set("╭│╰\x1b") & set(done.words + done.out), "boxes and colours are for terminals"


@pytest.mark.parametrize("listen", [
    "tcp", "tcp:", "tcp:127.0.0.1", "tcp:127.0.0.1:", "tcp:127.0.0.1:0", "tcp:127.0.0.1:65536", "tcp:127.0.0.1:-1",
    "tcp:127.0.0.1:६", "udp:127.0.0.1:6653", "127.0.0.1:6653", "tcp::6653", "", "tcp:256.1.1.1:6653"])
def test_a_wrong_listen_value_is_refused(listen: str) -> None:
    with pytest.raises(Refusal, match=f"--listen {listen}.*127.0.0.1") as refusal:
        tcp_addresses(("none", listen))
    assert refusal.value.code == BAD_INPUT


def test_listen_values_are_addresses_and_none_is_none() -> None:
    assert tcp_addresses(("none", "tcp:127.0.0.1:6653", "tcp:[::1]:6653", "tcp:127.0.0.1:6653", "none")) == (
        ("127.0.0.1", 6653), ("::1", 6653))


@pytest.mark.parametrize(("words", "said"), [
    ("flows nowhere --intended", "compute1, compute2, network1"),
    ("flows compute1/br-ex --intended", "br-int, br-tun"),
    ("trace nobody web1", "web1"),
    ("trace web1 nobody", "nobody"),
    ("routers r3", "r1"),
    ("plumb --host nowhere", "compute1, compute2, network1"),
    ("run --listen none --host nowhere", "compute1, compute2, network1")])
def test_an_unknown_name_is_answered_with_the_known_ones(rundir: Path, words: str, said: str) -> None:
    run(*words.split(), rundir=rundir).refused(2, said)


def test_routers_are_told_without_a_daemon_as_far_as_they_are_known(rundir: Path) -> None:
    done = run("routers", "--json", rundir=rundir)
    assert done.code == 0, done.words
    found = json.loads(done.out)["routers"]
    assert [(one["name"], one["driver"], one["sessions"]) for one in found] == [
        ("r1", "simulated", None), ("r2", "namespace", None)]
    only = run("routers", "r2", rundir=rundir)
    assert only.code == 0
    assert "r2  namespace on network1" in only.out
    assert "r1" not in only.out


# ---- what is not there

@pytest.mark.parametrize("words", ["status", "status --json", "status --wait 0.1", "status --wait nan", "recompute",
                                   "flows", "flows compute1 --json", "flows --diff", "apply topology.yaml"])
def test_without_a_daemon_the_cure_is_to_start_one(rundir: Path, words: str) -> None:
    done = run(*words.split(), rundir=rundir)
    done.refused(3, f"No daemon runs at {rundir}", "`tunbridge run`")
    assert not done.out


@pytest.mark.parametrize("words", ["lab exec web1 -- true", "lab cli", "lab reach", "lab reach --json"])
def test_without_a_lab_the_cure_is_to_bring_one_up(rundir: Path, words: str) -> None:
    done = run(*words.split(), rundir=rundir)
    done.refused(3, "No lab runs", "`tunbridge lab up`")
    assert not done.out


def test_a_stale_control_socket_is_no_daemon(rundir: Path) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(rundir / "control.sock"))
    run("status", rundir=rundir).refused(3, "No daemon runs")


@pytest.mark.parametrize("words", ["lab up", "lab down", "demo", "plumb --host compute1",
                                   "plumb --host compute1 --dry-run"])
def test_without_root_the_cure_is_sudo(rundir: Path, words: str) -> None:
    run(*words.split(), rundir=rundir / "new", before=unprivileged()).refused(3, "root", "sudo")


def test_a_machine_without_root_still_checks_and_computes(rundir: Path) -> None:
    for words in (("check",), ("flows", "--intended"), ("trace", "web1", "web2")):
        done = run(*words, rundir=rundir / "new", before=unprivileged())
        assert done.code == 0, done


# ---- the run directory

def test_a_run_directory_with_too_long_a_path_is_refused_at_once(rundir: Path) -> None:
    long = rundir / ("x" * 100)
    for words in (("run", str(DEMO)), ("status",), ("lab", "up")):
        run(*words, rundir=long).refused(2, "too long a path", "--rundir of at most")


def test_a_run_directory_that_cannot_be_used_is_refused(rundir: Path) -> None:
    (rundir / "file").touch()
    run("run", str(DEMO), rundir=rundir / "file").refused(3, "is not a directory", "--rundir")
    run("run", str(DEMO), rundir=rundir / "file" / "below").refused(3, "cannot be used", "--rundir")
    rundir.chmod(0o555)
    for where in (rundir, rundir / "new"):
        run("run", str(DEMO), rundir=where, before=unprivileged()).refused(3, "ermission denied", "--rundir")


def test_what_is_in_the_way_of_the_lock_or_a_socket_is_named(rundir: Path) -> None:
    for name in ("daemon.lock", "openflow.sock", "control.sock"):
        (rundir / name).mkdir()
        run("run", str(DEMO), "--listen", "none", rundir=rundir).refused(3, str(rundir / name), "--rundir")
        (rundir / name).rmdir()
        (rundir / "daemon.lock").unlink(missing_ok=True)
        assert not list(rundir.iterdir()), "no half-made socket stays"


def test_an_existing_directory_keeps_its_mode_and_a_new_one_is_private(rundir: Path) -> None:
    rundir.chmod(0o755)
    (rundir / "control.sock").mkdir()
    run("run", str(DEMO), "--listen", "none", rundir=rundir).refused(3)
    assert rundir.stat().st_mode & 0o777 == 0o755
    new = rundir / "new"
    with socket.create_server(("127.0.0.1", 0)) as busy:
        run("run", str(DEMO), "--listen", f"tcp:127.0.0.1:{busy.getsockname()[1]}", rundir=new).refused(3)
    assert new.stat().st_mode & 0o777 == 0o700


def test_a_busy_port_is_refused_and_leaves_no_socket_behind(rundir: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as busy:
        where = f"tcp:127.0.0.1:{busy.getsockname()[1]}"
        done = run("run", str(DEMO), "--listen", where, rundir=rundir)
    done.refused(3, f"Cannot listen on {where}", "End what uses it", "--listen")
    assert len(done.words.splitlines()) == 1
    assert [path.name for path in rundir.iterdir()] == ["daemon.lock"]


def test_an_address_of_another_machine_is_refused(rundir: Path) -> None:
    run("run", str(DEMO), "--listen", "tcp:192.0.2.1:6653", rundir=rundir).refused(
        3, "No interface of this machine has that address")


# ---- output

@pytest.mark.parametrize("words", [("flows", "--intended"), ("flows", "--intended", "--json"),
                                   ("check", "--json"), ("--help",), ("trace", "web1", "web2")])
def test_a_reader_that_leaves_changes_nothing(rundir: Path, words: tuple[str, ...]) -> None:
    process = start(*words, rundir=rundir)
    assert process.stdout and process.stderr
    process.stdout.close()
    with process.stderr:
        said = process.stderr.read()
    assert process.wait(PATIENCE) == 0
    assert "rror" not in said and "Traceback" not in said


def test_the_answer_stays_the_exit_code_when_nobody_reads_it(rundir: Path) -> None:
    process = start("check", str(ROOT / "tests/errors/name-unknown-host.yaml"), rundir=rundir)
    assert process.stdout and process.stderr
    process.stdout.close()
    process.stderr.close()
    assert process.wait(PATIENCE) == 2


@pytest.mark.parametrize("words", [("flows", "--intended"), ("check", "--json"), ("--help",)])
def test_a_full_disk_is_told_in_a_sentence(rundir: Path, words: tuple[str, ...]) -> None:
    with open("/dev/full", "w") as full:
        done = run(*words, rundir=rundir, stdout=full)
    done.refused(3, "The output cannot be written: No space left on device.")


def test_closed_streams_are_no_fault(rundir: Path) -> None:
    for closed in (">&-", "<&- >&- 2>&-"):
        done = subprocess.run(["sh", "-c", f'exec "$0" -m controller check --json {closed}', sys.executable],
                              cwd=ROOT, capture_output=True, timeout=PATIENCE,
                              env={**os.environ, "TUNBRIDGE_RUNDIR": str(rundir)}, check=False)
        assert done.returncode == 0, closed
        assert b"Traceback" not in done.stderr, closed


def test_names_that_the_terminal_cannot_show_are_escaped(rundir: Path) -> None:
    done = run("check", "[bold]caf\u00e9", rundir=rundir, env={"PYTHONIOENCODING": "ascii"})
    done.refused(2)
    assert "[bold]caf\\xe9:1:1:" in done.out


@pytest.mark.parametrize("words", ["check --json", "flows --intended --json", "flows compute1/br-tun --intended --json",
                                   "trace web1 web2 --json", "lab plan"])
def test_json_is_all_of_stdout(rundir: Path, words: str) -> None:
    assert json.loads(run(*words.split(), rundir=rundir).out)


# ---- interrupted

def test_control_c_ends_a_waiting_status_without_a_word(rundir: Path) -> None:
    with socket.socket(socket.AF_UNIX) as mute:
        mute.bind(str(rundir / "control.sock"))
        mute.listen()
        process = start("status", "--wait", "600", rundir=rundir)
        mute.settimeout(PATIENCE)
        asked, _ = mute.accept()
        process.send_signal(signal.SIGINT)
        done = finish(process)
        asked.close()
    assert (done.code, done.out, done.words) == (130, "", "")


def test_a_daemon_that_dies_while_it_is_asked_is_reported(rundir: Path) -> None:
    with socket.socket(socket.AF_UNIX) as dying:
        dying.bind(str(rundir / "control.sock"))
        dying.listen()
        process = start("recompute", rundir=rundir)
        dying.settimeout(PATIENCE)
        asked, _ = dying.accept()
        asked.close()
        finish(process).refused(3, "ended while it was asked")


# ---- start-up

def imported(*words: str) -> set[str]:
    """The packages that a command imports."""
    done = subprocess.run([sys.executable, "-X", "importtime", "-m", "controller", *words], cwd=ROOT, text=True,
                          capture_output=True, timeout=PATIENCE, check=True)
    return {name.split(".")[0] for name in re.findall(r"\| +(\S+)$", done.stderr, re.MULTILINE)}


def test_help_imports_nothing_heavy() -> None:
    assert not imported("--help") & {"os_ken", "eventlet", "pydantic", "yaml", "rich", "ovs", "asyncio"}


def test_what_needs_no_switch_imports_no_openflow() -> None:
    for words in (("check",), ("flows", "--intended"), ("trace", "web1", "web2")):
        assert not imported(*words) & {"os_ken", "eventlet", "ovs"}


def test_python_dash_m_controller_is_tunbridge(rundir: Path) -> None:
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    module, _, function = config["options.entry_points"]["console_scripts"].split("=")[1].strip().partition(":")
    script = f"import sys; from {module} import {function}; sys.argv[0] = 'tunbridge'; {function}()"
    for words in (("check", "nowhere.yaml"), ("status",)):
        command = subprocess.run([sys.executable, "-c", script, *words], cwd=ROOT, text=True, capture_output=True,
                                 timeout=PATIENCE, env={**os.environ, "TUNBRIDGE_RUNDIR": str(rundir)}, check=False)
        done = run(*words, rundir=rundir)
        assert (command.returncode, command.stdout, command.stderr) == (done.code, done.out, done.words)
