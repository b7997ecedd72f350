#!/usr/bin/env bash
# Trains on all hosts of a Cloud TPU slice.
#
#   export TPU_NAME=deblur ZONE=europe-west4-b
#   launch/tpu_pod.sh setup         copies this folder to every host and installs it there
#   launch/tpu_pod.sh [--dry-run] --config=configs/nafnet.py:gopro --workdir=/mnt/shared/run [...]
#
# Create the slice first (gcloud compute tpus tpu-vm create). --workdir and the data must be in a
# folder that all hosts see, such as a Filestore share. The same command resumes a run that was
# stopped, also on a slice of another size.
set -euo pipefail
cd "$(dirname "$0")/.."

dry_run=
arguments=()
for argument in "$@"; do
  if [[ $argument == --dry-run ]]; then
    dry_run=1
  else
    arguments+=("$argument")
  fi
done
set -- ${arguments[@]+"${arguments[@]}"}
if (($# == 0)) || [[ ! ${TPU_NAME:-} || ! ${ZONE:-} ]]; then
  sed -n '2,/^set/{/^#/s/^# \{0,1\}//p}' "$0" >&2
  exit 2
fi

run() {
  if [[ $dry_run ]]; then
    printf '%q ' "$@"
    echo
  else
    "$@"
  fi
}

on_all() {
  run gcloud compute tpus tpu-vm ssh "$TPU_NAME" --zone="$ZONE" --worker=all --command="$1"
}

if [[ $1 == setup ]]; then
  on_all 'mkdir -p deblur_jax'
  run gcloud compute tpus tpu-vm scp --recurse configs deblur_jax pyproject.toml README.md LICENSE \
    "$TPU_NAME:deblur_jax/" --zone="$ZONE" --worker=all
  on_all "cd deblur_jax && pip install '.[tpu]'"
  exit
fi
if [[ " $* " != *" --workdir"* ]]; then
  echo 'error: requires --workdir, a folder that all hosts see' >&2
  exit 2
fi
on_all "cd deblur_jax && python3 -m deblur_jax.main --distributed $(printf '%q ' "$@")"
