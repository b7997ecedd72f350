#!/usr/bin/env bash
# Trains on all devices of this machine, and goes on by itself after a crash.
#
#   launch/workstation.sh [--dry-run] --config=configs/nafnet.py:gopro [--config.steps=1000 ...]
#
# CUDA_VISIBLE_DEVICES=0,1 leaves the other GPUs alone; PYTHON is the interpreter (python).
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
  # Up to 1 it has ended or says what is wrong; 130 and 143 are those who asked it to leave.
  if ((code <= 1 || code == 130 || code == 143 || wait == 0)); then
    exit "$code"
  fi
  echo "ended with $code, goes on in $wait s" >&2
  sleep "$wait"
done
