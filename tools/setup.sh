#!/usr/bin/env bash
# Makes .venv with everything the Makefile's targets need, from PyPI. On a machine with ROS 2
# sourced, that ROS is used; elsewhere its wheels. What is missing is said in one line.
#   usage: tools/setup.sh STAMP        PYTHON=python3.12 chooses the interpreter
set -u -o pipefail
cd "$(dirname "$0")/.." || exit 1
stamp=$1
venv=.venv
log=$venv/setup.log
need_mb=3000  # what the finished environment takes, and pip while it unpacks

fail() { echo "setup: $*" >&2; exit 1; }

# Is ROS 2 sourced, and is its rclpy not just the wheel of the environment we run in?
ros_sourced() {
  [ -n "${ROS_DISTRO:-}" ] && [ -n "${AMENT_PREFIX_PATH:-}" ] && python3 -c '
import sys, rclpy
sys.exit(sys.prefix != sys.base_prefix and rclpy.__file__.startswith(sys.prefix))' 2>/dev/null
}

supported() { "$1" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null; }

# The first interpreter that really runs (pyenv leaves shims that only fail), is of a supported
# version and can make environments. 3.10 comes before 3.12: pybullet has wheels for it.
choose_python() {
  local name venvless=
  for name in $1; do
    supported "$name" || continue
    "$name" -c 'import venv, ensurepip' 2>/dev/null && { echo "$name"; return; }
    venvless=$name
  done
  [ -z "$venvless" ] || fail "$venvless has no venv module: install it (Debian, Ubuntu: apt install $(basename "$venvless")-venv)"
  fail "needs Python 3.10 to 3.13, found $(python3 --version 2>/dev/null || echo none): install python3.11, or name yours: make PYTHON=/path/to/python3.11"
}

# pip's last words, translated.
explain() {
  if grep -qiE 'No space left|Errno 28|Disk quota' "$log"; then
    fail "the disk is full ($(df -Pm . | awk 'NR==2 {print $4}') MB free here, ${TMPDIR:-/tmp} $(df -Pm "${TMPDIR:-/tmp}" | awk 'NR==2 {print $4}') MB): about $need_mb MB are needed; then run make again"
  elif grep -qiE 'Retrying \(Retry|ConnectionError|NewConnectionError|ProxyError|ReadTimeout|Name or service not known|name resolution' "$log"; then
    fail "no network: the Python package index could not be reached; connect (or set PIP_INDEX_URL) and run make again"
  fi
  fail "pip failed: $(grep -iE 'error' "$log" | tail -1) (all of it: $log)"
}

system=
extras='sim,train,dev'
if ros_sourced; then
  mode="ROS 2 $ROS_DISTRO of this machine"
  system=--system-site-packages
  wanted=${PYTHON:-python3}
else
  mode='ROS 2 wheels'
  wanted=${PYTHON:-python3.11 python3.10 python3.12 python3.13 python3}
  # pip would find no ROS wheel anywhere else
  if [ "$(uname -sm)" = 'Linux x86_64' ]; then extras+=',ros'; else mode="no ROS 2 (no wheels for $(uname -sm))"; fi
fi

# Keep an environment that works, unless it was made for another ROS.
ros=${stamp##*-}
if supported $venv/bin/python && $venv/bin/python -c 'import pip' 2>/dev/null \
    && [ "$(cat $venv/.ros 2>/dev/null || echo "$ros")" = "$ros" ]; then
  python=$venv/bin/python
else
  python=$(choose_python "$wanted") || exit 1
  rm -rf $venv
fi

include=$("$python" -c 'import sysconfig; print(sysconfig.get_paths()["include"])')
if "$python" -c 'import sys; sys.exit(sys.version_info < (3, 12))' && ! { command -v c++ >/dev/null && [ -f "$include/Python.h" ]; }; then
  fail "pybullet has no wheel for $("$python" --version), so it is compiled: install a C++ compiler and the Python headers (Debian, Ubuntu: apt install g++ python3-dev), or use python3.11"
fi

free_mb=$(df -Pm . | awk 'NR==2 {print $4}')
[ -d $venv ] || [ "$free_mb" -ge $need_mb ] \
  || fail "the disk is too full: $free_mb MB free in $PWD, about $need_mb MB are needed"

echo "setup: $("$python" --version), $mode; the first time takes minutes and up to 1 GB of downloads"
{ mkdir -p $venv && : > $log; } 2>/dev/null || fail "cannot write to $PWD/$venv"
if [ "$python" != $venv/bin/python ]; then
  "$python" -m venv $system $venv >> $log 2>&1 || explain
fi
echo "$ros" > $venv/.ros

locks=constraints.txt
if [ -n "$system" ]; then
  # The lock is for the wheels. Here ROS's own modules are compiled against the system's numpy,
  # and its launch_testing plugins break pytest 9.
  locks=$venv/ros-constraints.txt
  { grep '^torch==' constraints.txt; echo 'pytest<9'
    $venv/bin/python -c 'import numpy; print("numpy<2" if numpy.__version__ < "2" else "numpy>=2")' 2>/dev/null; } > $locks
fi
$venv/bin/python -m pip install --disable-pip-version-check -c $locks -e ".[$extras]" >> $log 2>&1 || explain
touch "$stamp"
