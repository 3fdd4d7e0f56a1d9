# Sourced by scripts/demo, scripts/bench, scripts/test and scripts/check: everything they need from a Debian or Ubuntu
# machine, made once. A second run finds it all in place in a fraction of a second. Progress and errors go to stderr.

set -euo pipefail
unset CDPATH PYTHONHOME PYTHONPATH PYTHONSAFEPATH
umask 022
PATH=$PATH:/usr/sbin:/sbin
export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1 PIP_USER=0 DEBIAN_FRONTEND=noninteractive

root=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd -P)
venv=$root/.venv
log=

# A probe is a command's name or a file's path; behind the colon is the package that brings it.
run_tools=(ip:iproute2 ping:iputils-ping iperf3:iperf3 tcpdump:tcpdump ethtool:ethtool nsenter:util-linux)
bench_tools=("${run_tools[@]}" gcc:gcc /usr/include/stdio.h:libc6-dev)
test_tools=("${run_tools[@]}" gcc:gcc /usr/include/stdio.h:libc6-dev /usr/include/xen/io/netif.h:libxen-dev
    xenstore-ls:xenstore-utils dnsmasq:dnsmasq-base busybox:busybox curl:curl
    vde_plug2tap:vde2 socat:socat)

say() { printf 'xnet: %s\n' "$*" >&2; }

die() {
    say "$*"
    exit 1
}

need_root() {
    [ "$(id -u)" -eq 0 ] || die "network namespaces and TAPs need root: sudo $0${*:+ $*}"
}

# Run quietly, without our lock's descriptor; on failure show the end of the log and keep it.
quietly() {
    [ -n "$log" ] || log=$(mktemp "${TMPDIR:-/tmp}/xnet-setup.XXXXXX")
    printf '+ %s\n' "$*" >>"$log"
    "$@" >>"$log" 2>&1 </dev/null 9<&- && return
    tail -n 30 "$log" >&2
    die "set-up failed at: $* (all of it in $log)"
}

# The packages whose probe is not there.
missing() {
    local pair probe
    for pair; do
        probe=${pair%%:*}
        case $probe in
        /*) [ -e "$probe" ] ;;
        *) command -v "$probe" >/dev/null ;;
        esac || printf '%s\n' "${pair#*:}"
    done | sort -u
}

install() {
    command -v apt-get >/dev/null || die "please install what provides: $*"
    [ "$(id -u)" -eq 0 ] || die "missing packages: sudo apt-get install $*"
    say "installing $*"
    if [ -z "${lists_are_fresh:-}" ]; then
        quietly apt-get -o DPkg::Lock::Timeout=600 update
        lists_are_fresh=1
    fi
    quietly apt-get -o DPkg::Lock::Timeout=600 install -y --no-install-recommends "$@"
    hash -r
}

need_tools() {
    local packages
    mapfile -t packages < <(missing "$@")
    [ ${#packages[@]} -eq 0 ] || install "${packages[@]}"
}

tun_opens() { (exec 3<>/dev/net/tun) 2>/dev/null; }

need_tun() {
    tun_opens && return
    say "loading the tun driver"
    need_tools modprobe:kmod
    modprobe tun 2>/dev/null || true
    if [ ! -e /dev/net/tun ]; then
        mkdir -p /dev/net
        mknod /dev/net/tun c 10 200 && chmod 666 /dev/net/tun
    fi
    tun_opens || die "/dev/net/tun does not open: this kernel has no tun driver," \
        "or this container lacks it (docker run --privileged, or --device /dev/net/tun --cap-add NET_ADMIN,SYS_ADMIN)"
}

# The first Python >= 3.11 that can run the code given; its path on stdout. The distribution's own goes first: it was
# built for speed, which one that somebody built from source often was not (a fifth of the CPU a frame).
python_with() {
    local name
    for name in /usr/bin/python3 python3 python3.14 python3.13 python3.12 python3.11; do
        if "$name" -c "import sys; assert sys.version_info >= (3, 11); $1" 2>/dev/null; then
            "$name" -c 'import sys; print(sys.executable)'
            return
        fi
    done
    return 1
}

# A Python that can make a virtual environment, in $python.
need_python() {
    python=$(python_with 'import venv, ensurepip') && return
    if python=$(python_with 'pass'); then
        install "python$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')-venv"
    else
        install python3 python3-venv
    fi
    python=$(python_with 'import venv, ensurepip') ||
        die "Python 3.11 or later with its venv module is needed, and $(python3 -V 2>&1) is what there is"
}

# The requirements that pyproject.toml names: of the build and of the package; of reports for "bench"; of the tests too
# for all others but "run".
requirements='
import sys, tomllib
with open(sys.argv[1], "rb") as file:
    said = tomllib.load(file)
project = said["project"]
extra = {"run": None, "bench": "report"}.get(sys.argv[2], "dev")
more = project["optional-dependencies"][extra] if extra else []
print(*said["build-system"]["requires"], *project["dependencies"], *more, sep="\n")
'

# .venv with what xnet needs, renewed when pyproject.toml or the checkout's place has changed. $1: run, bench or dev.
need_venv() {
    local stamp=$venv/.xnet-$1 want have= needs
    want=$(sha256sum <"$root/pyproject.toml")
    want="${want%% *} $root"
    if "$venv/bin/python" -c '' 2>/dev/null; then
        [ ! -e "$stamp" ] || have=$(<"$stamp")
        [ "$have" != "$want" ] || return 0
        [ -z "$have" ] || [ "${have#* }" = "$root" ] || rm -rf -- "$venv"
    else
        rm -rf -- "$venv"
    fi
    if [ ! -d "$venv" ]; then
        need_python
        say "making .venv with $("$python" -V)"
        quietly "$python" -m venv "$venv"
    fi
    say "installing into .venv what xnet needs"
    mapfile -t needs < <("$venv/bin/python" -c "$requirements" "$root/pyproject.toml" "$1")
    quietly "$venv/bin/python" -m pip install -q "${needs[@]}"
    printf '%s\n' "$want" >"$venv/.xnet-run"
    printf '%s\n' "$want" >"$stamp"
}

# Whether the C compiler works, and Python's headers are there; what it may lack otherwise, in $lacks.
compiler_works() {
    local headers
    headers=$("$venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("include"))')
    gcc -fsyntax-only -I"$headers" -x c - <<<'#include <Python.h>' 2>/dev/null && return
    mapfile -t lacks < <(missing gcc:gcc /usr/include/stdio.h:libc6-dev "$headers/Python.h:${headers##*/}-dev")
    return 1
}

# xnet in .venv, the hot modules compiled if there is or can be a compiler (and no XNET_PURE=1); renewed when anything
# that is installed has changed. Built from a copy, which stays: a library whose modules have not changed is not
# compiled again.
need_package() {
    local stamp=$venv/.xnet-package copy=$venv/build sources=(pyproject.toml setup.py README.md LICENSE xnet)
    local want lacks=() form=compiled
    cd -- "$root"
    want=$(find "${sources[@]}" -type f ! -name '*.pyc' -print0 | sort -z | xargs -0 sha256sum | sha256sum)
    [ -z "${XNET_PURE:-}" ] && compiler_works || form=plain
    [ ! -e "$stamp" ] || [ "$(<"$stamp")" != "$want $form" ] || return 0
    if [ ${#lacks[@]} -ne 0 ]; then
        say "installing ${lacks[*]}, to compile the hot modules"
        quietly true # the log is ours, then, and goes
        (install "${lacks[@]}") 2>/dev/null && compiler_works && form=compiled || true
    fi
    cmp -s setup.py "$copy/setup.py" && cmp -s pyproject.toml "$copy/pyproject.toml" || rm -rf -- "$copy"
    mkdir -p -- "$copy"
    rm -rf -- "$copy/xnet" "$copy"/*.egg-info "$copy/.mypy_cache"
    find "$copy" -name '*.py' -path '*/build/lib*' -delete
    cp -R -- "${sources[@]}" "$copy/"
    say "installing xnet into .venv, $form"
    [ $form = compiled ] || export XNET_PURE=1
    quietly "$venv/bin/python" -m pip install -q --no-deps --no-build-isolation --force-reinstall "$copy"
    "$venv/bin/python" -P -c 'import sys, xnet.compiled; sys.exit(not xnet.compiled.is_compiled())' ||
        say "no C compiler, or one that fails, or XNET_PURE: xnet is plain Python here: several times the CPU"
    printf '%s\n' "$want $form" >"$stamp"
}

# What root made in somebody else's checkout belongs to them.
give_back() {
    local owner
    owner=$(stat -c %u:%g -- "$root")
    [ "$(id -u)" -eq 0 ] && [ "${owner%%:*}" -ne 0 ] || return 0
    (
        cd -- "$root"
        shopt -s nullglob
        chown -Rh "$owner" .venv .*_cache .hypothesis 2>/dev/null || true
        find xnet tests -name __pycache__ -exec chown -Rh "$owner" {} +
    )
}

# All of it, one set-up at a time in this checkout. $1: run, bench, dev (tests), check or fuzz (no tools, no root).
set_up() {
    exec 9<"$root"
    flock -n 9 || {
        say "waiting for another set-up of this checkout"
        flock 9
    }
    case $1 in
    run)
        need_tools "${run_tools[@]}"
        need_tun
        need_venv run
        need_package
        ;;
    bench)
        need_tools "${bench_tools[@]}"
        need_tun
        need_venv bench
        need_package
        ;;
    dev)
        need_tools "${test_tools[@]}"
        need_tun
        need_venv dev
        need_package
        ;;
    check) need_venv dev ;;
    fuzz)
        need_venv dev
        need_package
        ;;
    esac
    give_back
    exec 9<&-
    [ -z "$log" ] || rm -f -- "$log"
}
