#!/usr/bin/env bash
# Makes the environment that the project's scripts run in: system packages, .venv, torch, tracekit. Source it.
#
# Everything here looks before it acts, so that a second call changes nothing and needs no network. Variables it reads:
#   TRACEKIT_TORCH_INDEX  the package index to take torch from on a machine without an NVIDIA GPU: PyTorch's CPU index
#                         (its builds are a tenth of the size of the default ones). Without it: pip's own index.
#   VIRTUAL_ENV           an active environment whose torch is recent enough lends it to .venv instead of a second one.

set -euo pipefail

ROOT=$(dirname "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")")
VENV=$ROOT/.venv
TESTED_TORCH=2.13.0 # the release that the tests were last run with
TORCH_FLOOR=2.11    # pyproject.toml's; tests/test_scripts.py compares them
PYTHON_FLOOR=3.11   # pyproject.toml's, too
PYTHON_CEILING=3.14 # the first release that is not supported
MISSING=4           # exit code: something this machine lacks, as in tracekit.errors

say() { printf '==> %s\n' "$*" >&2; }

fail() { # EXIT_CODE MESSAGE
  printf 'tracekit: %s\n' "$2" >&2
  exit "$1"
}

run() {
  printf '+' >&2
  printf ' %q' "$@" >&2
  printf '\n' >&2
  "$@"
}

# Whether an interpreter is one that tracekit runs on.
python_fits() { # PYTHON
  "$1" -c '
import sys
floor, ceiling = (tuple(map(int, text.split("."))) for text in sys.argv[1:])
sys.exit(not floor <= sys.version_info < ceiling)' "$PYTHON_FLOOR" "$PYTHON_CEILING" 2>/dev/null
}

# Prints the folder an interpreter imports torch from, if that torch is recent enough. Reads its metadata: importing
# torch takes seconds.
torch_folder() { # PYTHON
  "$1" -c '
import importlib.metadata, re, sys
torch = importlib.metadata.distribution("torch")
found, floor = (tuple(map(int, re.findall(r"\d+", text)[:2])) for text in (torch.version, sys.argv[1]))
found >= floor or sys.exit(1)
print(torch.locate_file(""))' "$TORCH_FLOOR" 2>/dev/null
}

# Prints the interpreter to build .venv from: the first that has torch, else the first that fits.
find_python() {
  local candidate first=
  for candidate in ${VIRTUAL_ENV:+"$VIRTUAL_ENV/bin/python"} python3 python python3.13 python3.12 python3.11; do
    python_fits "$candidate" || continue
    if torch_folder "$candidate" >/dev/null; then
      command -v "$candidate"
      return
    fi
    first=${first:-$candidate}
  done
  [[ -n $first ]] || fail "$MISSING" "needs Python $PYTHON_FLOOR or newer, below $PYTHON_CEILING, as python3 or python3.N"
  command -v "$first"
}

# Prints the Debian packages without which .venv or the emulated device's C++ extension cannot be built.
missing_packages() { # PYTHON
  local binary version
  binary=$("$1" -c 'import os, sys; print(os.path.realpath(sys._base_executable))')
  version=${binary##*python}
  if ! "$1" -c 'import ensurepip, venv' 2>/dev/null; then
    echo "python$version-venv"
  fi
  if ! "$1" -c 'import os, sysconfig; os.stat(sysconfig.get_path("include") + "/Python.h")' 2>/dev/null; then
    [[ $binary == /usr/bin/* ]] || fail "$MISSING" "$binary has no Python.h: use a Python that came with its headers"
    echo "python$version-dev"
  fi
  command -v "${CXX:-g++}" >/dev/null || echo g++
}

# Installs Debian packages as root or through a sudo that asks nothing, else says in one line what to paste.
install_packages() { # PACKAGE...
  (($#)) || return 0
  local -a privilege=()
  command -v apt-get >/dev/null || fail "$MISSING" "needs what Debian calls $*: install it with this system's package manager"
  if ((EUID)); then
    privilege=(sudo -n)
    "${privilege[@]}" true 2>/dev/null ||
      fail "$MISSING" "needs $*; paste this: sudo apt-get update && sudo apt-get install -y $*"
  fi
  say "Installing what this machine lacks: $*"
  run "${privilege[@]}" apt-get -q update >&2
  run "${privilege[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -q install -y --no-install-recommends "$@" >&2 ||
    fail "$MISSING" "apt-get could not install $*"
}

# Makes .venv where there is none, and lends it the torch of the interpreter it was made from.
make_venv() {
  local python folder
  local -a packages
  if "$VENV/bin/python" -c 'import pip' 2>/dev/null; then
    python_fits "$VENV/bin/python" ||
      fail "$MISSING" "$VENV is not of Python $PYTHON_FLOOR or newer, below $PYTHON_CEILING: remove that folder"
    python=$VENV/bin/python
  else
    python=$(find_python)
  fi
  mapfile -t packages < <(missing_packages "$python")
  wait $! # the exit status of missing_packages
  install_packages "${packages[@]}"
  [[ $python != "$VENV/bin/python" ]] || return 0
  say "Making $VENV with $python"
  run "$python" -m venv "$VENV"
  if folder=$(torch_folder "$python"); then
    say "Reusing torch from $folder"
    # addsitedir also follows that folder's own .pth files, which an editable or a vendor's torch may need.
    "$VENV/bin/python" -c '
import pathlib, sys, sysconfig
hook = pathlib.Path(sysconfig.get_path("purelib"), "reused-torch.pth")
hook.write_text(f"import site; site.addsitedir({sys.argv[1]!r})\n")' "$folder"
  fi
}

has_nvidia_gpu() { [[ -e /dev/nvidia0 ]] || nvidia-smi -L >/dev/null 2>&1; }

install_torch() {
  if torch_folder "$VENV/bin/python" >/dev/null; then
    return
  fi
  if has_nvidia_gpu; then
    run "$VENV/bin/python" -m pip install "torch>=$TORCH_FLOOR" >&2
  elif [[ -n ${TRACEKIT_TORCH_INDEX:-} ]]; then
    run "$VENV/bin/python" -m pip install --index-url "$TRACEKIT_TORCH_INDEX" "torch==$TESTED_TORCH" >&2
  else
    say "No NVIDIA GPU. Set TRACEKIT_TORCH_INDEX to PyTorch's CPU index for a much smaller download."
    run "$VENV/bin/python" -m pip install "torch==$TESTED_TORCH" >&2
  fi
}

# Installs tracekit from this clone, unless .venv has it with these dependencies already.
install_tracekit() { # '' or an extra in brackets, such as '[dev]'
  local stamp=$VENV/.tracekit$1 state
  state=$(printf '%s ' "$ROOT" && cksum <"$ROOT/pyproject.toml")
  if [[ -f $stamp && $(<"$stamp") == "$state" ]]; then
    return
  fi
  run "$VENV/bin/python" -m pip install -e "$ROOT$1" >&2
  printf '%s\n' "$state" >"$stamp"
}

# The whole set-up; afterwards .venv's commands come first on PATH (ninja among them: a dependency brings it).
set_up() { # '' or an extra in brackets
  export PIP_DISABLE_PIP_VERSION_CHECK=1
  make_venv
  install_torch
  install_tracekit "$1"
  export VIRTUAL_ENV=$VENV PATH=$VENV/bin:$PATH
  say "$VENV is ready: $("$VENV/bin/python" --version), torch $("$VENV/bin/python" -c '
import importlib.metadata
print(importlib.metadata.version("torch"))')"
}
