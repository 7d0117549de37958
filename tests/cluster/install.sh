#!/usr/bin/env bash
# Makes Slurm's programs available. Where that is not possible, says why in one line and fails.
set -euo pipefail
[ "$(id -u)" = 0 ] || { echo "a private Slurm is started as root, and this is user $(id -un)"; exit 1; }
"$(dirname "$0")/../debian.sh" Slurm "slurm-wlm munge" munged slurmctld slurmd sbatch squeue srun
