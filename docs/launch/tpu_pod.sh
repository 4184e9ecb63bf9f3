#!/bin/bash
# One training run over all hosts of a TPU pod slice: the same command on each of its workers.
#   docs/launch/tpu_pod.sh NAME ZONE experiments/translation_multi30k_transformer.py gs-fuse-mount/runs/wide
# The workers get their numbers from the pod's metadata, which --distributed reads. The run folder must be visible to all
# (a mounted bucket or a network file system); the library and the data must be on each.
# For a v5litepod-64: 16 workers of 4 chips. A second call resumes the run.
set -euo pipefail
name=$1 zone=$2 config=$3 run_dir=$4

on() { gcloud compute tpus tpu-vm ssh "$name" --zone "$zone" --worker "$1" --command "cd ~/transformer_jax && $2"; }

# Checked once: a worker that starts later would find the config that the first has just written.
words="--run-dir '$run_dir' --distributed"
if on 0 "test -e '$run_dir/config.json'"; then
  words="$words --resume"
else
  words="'$config' $words --set 'train.sharding={\"data\": 16, \"fsdp\": 4}'"
fi
on all ".venv/bin/transformer-jax train $words"
