#!/usr/bin/env bash
# Trains on all devices of this machine, and restarts by itself after a crash.
#
#   launch/workstation.sh [--dry-run] --config=configs/nafnet.py:gopro [--config.steps=1000 ...]
#
# CUDA_VISIBLE_DEVICES=0,1 uses only these GPUs; PYTHON is the interpreter (default: python).
set -euo pipefail
cd "$(dirname "$0")/.."

dry_run=
if [[ ${1:-} == --dry-run ]]; then
  dry_run=1
  shift
fi
if (($# == 0)); then
  sed -n '2,/^set/{/^#/s/^# \{0,1\}//p}' "$0" >&2
  exit 2
fi
command=("${PYTHON:-python}" -m deblur_jax.main "$@")
if [[ $dry_run ]]; then
  printf '%q ' "${command[@]}"
  echo
  exit
fi
for wait in 10 60 600 0; do
  code=0
  "${command[@]}" || code=$?
  # 0 and 1 mean finished, or an error that a restart cannot fix; 130 and 143 that it was stopped.
  if ((code <= 1 || code == 130 || code == 143 || wait == 0)); then
    exit "$code"
  fi
  echo "exited with $code, restarting in $wait s" >&2
  sleep "$wait"
done
