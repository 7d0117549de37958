#!/usr/bin/env bash
# properties = {properties}
# Kubernetes tells the first process of a pod alone that it is to end, which is this one.
set -m
( trap : TERM; {exec_job} ) &
job=$!
trap 'kill -TERM -- "-$job"' TERM
# A signal ends the waiting, and not the job.
while :; do
    wait "$job"
    code=$?
    kill -0 "$job" 2> /dev/null || exit "$code"
done
