#!/usr/bin/env bash
# Builds the package with colcon in a temporary workspace, plain and with --symlink-install, and
# checks that the installed share/ holds every file of config/, launch/ and urdf/, and that the
# installed package finds them and starts. Takes about a minute, so it is not part of the tests.
#   usage: test/peers/colcon_build.sh PYTHON      (an environment with the dependencies)
# colcon comes from PATH or, where there is none, from PyPI into build/colcon.
set -eu -o pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
python=$(cd "$(dirname "$1")" && pwd)/$(basename "$1")

colcon=$(command -v colcon) || {
  colcon=$root/build/colcon/bin/colcon
  [ -x "$colcon" ] || {
    "$python" -m venv "$root/build/colcon"
    "$root/build/colcon/bin/pip" install -q -c "$root/constraints.txt" \
      colcon-common-extensions
  }
  PATH=$root/build/colcon/bin:$PATH
}

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
for options in '' '--symlink-install'; do
  workspace=$dir/ws$options
  mkdir -p "$workspace/src"
  (cd "$root" && git ls-files -z --cached --others --exclude-standard |
    tar -c --null --files-from=- --ignore-failed-read) | tar -x -C "$workspace/src"
  (cd "$workspace" && "$colcon" --log-level error build $options)
  share=$workspace/install/il_robot/share/il_robot
  echo "== colcon build $options: $(cd "$share" && find config launch urdf -not -type d | sort | tr '\n' ' ')"
  (cd "$workspace/src" && find config launch urdf -type f -not -name '*.pyc') |
    while read -r file; do cmp "$workspace/src/$file" "$share/$file"; done
  (
    set +u  # colcon's own scripts read unset variables
    . "$workspace/install/setup.bash"
    cd "$dir"
    "$python" -c "
from il_robot import __file__ as package
from il_robot.resources import resource
assert package.startswith('$workspace'), package
print('package', package)
print('finds  ', resource('urdf', 'dual_arm.urdf.xacro'))"
    executable=${AMENT_PREFIX_PATH%%:*}/lib/il_robot/il_robot
    head -1 "$executable"
    PATH=$(dirname "$python"):$PATH "$executable" --version
  )
done
