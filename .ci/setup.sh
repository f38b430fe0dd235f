#!/bin/sh
# What a bare Debian 12 with git, make and python3 lacks, installed once. Called by the Makefile.
#
#   setup.sh all         the Debian packages (where root can be had) and the Python environment .venv
#   setup.sh venv        only .venv; no root is needed where python3-venv is installed
#   setup.sh root CMD..  run CMD as root: directly, or through sudo
#
# Exit 3: something is missing that this script cannot get; the last sentence says what cures it.
set -eu
cd "$(dirname "$0")/.."

PACKAGES="openvswitch-switch mininet dnsmasq-base iptables ethtool tcpdump iputils-ping iputils-arping iproute2
          iperf3 bridge-utils procps conntrack ipset busybox traceroute curl python3-venv"
POLICY=/usr/sbin/policy-rc.d
STAMP=.venv/tunbridge-stamp

say() { echo "set-up: $*" >&2; }
die() { say "$*"; exit 3; }

can_root() {
    [ "$(id -u)" -eq 0 ] && return 0
    command -v sudo >/dev/null 2>&1 || return 1
    sudo -n true 2>/dev/null && return 0
    [ -t 0 ] && say "root is needed; sudo may ask for your password." && sudo -v
}

# sudo empties the environment: what a run means by CI, its seed, its rundir and its proxy must survive.
as_root() {
    [ "$(id -u)" -ne 0 ] || exec "$@"
    kept="PYTHONDONTWRITEBYTECODE=1"  # root's caches in the user's checkout could not be removed by the user
    for name in CI TUNBRIDGE_SEED TUNBRIDGE_RUNDIR TERM COLORTERM NO_COLOR http_proxy https_proxy no_proxy; do
        eval "value=\${$name-}"
        case "$value" in "" | *[[:space:]]*) ;; *) kept="$kept $name=$value" ;; esac
    done
    # shellcheck disable=SC2086  # the words of $kept are separate arguments, and none has a space
    exec sudo -- env $kept "$@"
}

# A tool's words are shown if it fails.
quietly() {
    log=$(mktemp)
    "$@" </dev/null >"$log" 2>&1 && rm -f "$log" && return 0
    tail -n 20 "$log" >&2
    rm -f "$log"
    return 1
}

# Nothing is known to be missing where there is no dpkg: then the tools themselves say what they lack.
missing_packages() {
    command -v dpkg-query >/dev/null 2>&1 || return 0
    # shellcheck disable=SC2086
    installed=$(dpkg-query -W -f='${Package} ${db:Status-Status}\n' $PACKAGES 2>/dev/null || true)
    for package in $PACKAGES; do
        echo "$installed" | grep -qx "$package installed" || printf '%s ' "$package"
    done
}

# Runs as root. Our labs start their own Open vSwitch, so no service need start; and on a machine without an
# init system the start would fail the whole installation. A machine's own policy is left as it is.
install_packages() {
    if [ ! -e $POLICY ] || grep -q tunbridge $POLICY; then
        trap 'rm -f $POLICY' EXIT
        trap 'exit 130' HUP INT TERM
        printf '#!/bin/sh\n# made by the set-up of tunbridge; it is removed when the set-up ends\nexit 101\n' >$POLICY
        chmod 755 $POLICY
    fi
    export DEBIAN_FRONTEND=noninteractive
    quietly apt-get -qq -o DPkg::Lock::Timeout=120 update &&
        quietly apt-get -qq -o DPkg::Lock::Timeout=120 install --no-install-recommends "$@" ||
        die "apt-get could not install $*; look at its last words above, at the network and at /etc/apt/sources.list."
}

ensure_packages() {
    command -v dpkg-query >/dev/null 2>&1 ||
        say "this is no Debian: install Open vSwitch, Mininet, dnsmasq, iptables, ethtool and tcpdump by hand."
    wanted=$(missing_packages)
    [ -n "$wanted" ] || return 0
    if ! can_root; then
        say "without root these Debian packages stay missing: $wanted"
        return 0
    fi
    say "installing the Debian packages $wanted(about a minute)."
    # shellcheck disable=SC2086
    (as_root sh .ci/setup.sh install $wanted)
}

python() {
    for candidate in /usr/bin/python3 python3; do
        command -v $candidate >/dev/null 2>&1 || continue
        $candidate -c 'import sys; sys.exit(sys.version_info < (3, 11))' && echo $candidate && return 0
    done
    die "Python 3.11 or newer is needed; apt-get install python3."
}

# Several ways, because a user without root cannot install python3-venv.
create_venv() {
    rm -rf .venv
    if "$1" -c 'import ensurepip' 2>/dev/null; then
        "$1" -m venv .venv
    elif [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null 2>&1; then
        say "installing the Debian package python3-venv."
        (as_root sh .ci/setup.sh install python3-venv)
        "$1" -m venv .venv
    else
        "$1" -m venv --without-pip .venv
        "$1" -m pip --python .venv/bin/python install -q pip 2>/dev/null ||
            quietly .venv/bin/python .ci/get_pip.py ||
            die "Python cannot make an environment here; as root: apt-get install python3-venv, or set PIP_INDEX_URL."
    fi
}

ensure_venv() {
    interpreter=$(python)
    stamp=$({ pwd; $interpreter -VV; cat setup.cfg pyproject.toml; } | sha256sum)
    [ ! -e $STAMP ] || [ "$(cat $STAMP)" != "$stamp" ] || return 0
    say "making the Python environment .venv (under a minute)."
    create_venv "$interpreter"
    quietly .venv/bin/python -m pip install -q --disable-pip-version-check -e '.[dev]' ||
        die "pip could not install the Python packages of setup.cfg; look at its last words above and at the network."
    echo "$stamp" >$STAMP
}

command=${1:-all}
[ $# -eq 0 ] || shift
case "$command" in
all)
    ensure_packages
    ensure_venv
    say "everything is in place."
    ;;
venv) ensure_venv ;;
install) install_packages "$@" ;;
root)
    can_root || die "this needs root: run it as root or install sudo (make unit needs neither)."
    wanted=$(missing_packages)
    [ -z "$wanted" ] || die "run make setup as root; these Debian packages are missing: $wanted"
    as_root "$@"
    ;;
*) die "setup.sh knows all, venv and root, not $command." ;;
esac
