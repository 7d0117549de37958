#!/usr/bin/env bash
# Makes Slurm's programs available, by Debian's packages where they are missing. Where that is not possible, says why in
# one line and fails. Log of apt: the file named by the argument, if any.
set -euo pipefail
log=${1:-/dev/null}
[ "$(id -u)" = 0 ] || { echo "a private Slurm is started as root, and this is user $(id -un)"; exit 1; }
there() { type -P munged slurmctld slurmd sbatch squeue srun > /dev/null; }
there && exit 0
type -P apt-get > /dev/null || { echo "Slurm is not installed, and there is no apt-get to install it"; exit 1; }
{ apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends slurm-wlm munge; } \
	> "$log" 2>&1 || { echo "Slurm is not installed, and apt-get cannot install it (slurm-wlm, munge)"; exit 1; }
there || { echo "Debian's slurm-wlm and munge are installed and lack a program of Slurm"; exit 1; }
