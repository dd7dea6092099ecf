#!/usr/bin/env bash
# Train on Slurm and survive its time limit: sbatch [options of sbatch] tools/slurm_train.sh CONFIG [arguments of tools/train.py]
# For example two nodes of eight GPUs: sbatch --nodes 2 --gres gpu:8 --ntasks-per-node 8 tools/slurm_train.sh CONFIG --amp
#SBATCH --job-name repvgg_seg
#SBATCH --nodes 1
#SBATCH --ntasks-per-node 1
#SBATCH --gres gpu:1
#SBATCH --cpus-per-task 8
#SBATCH --time 24:00:00
# Two minutes before the end every process gets SIGTERM, saves a checkpoint and ends with 143; the job goes on in the queue.
#SBATCH --signal TERM@120
#SBATCH --requeue
#SBATCH --open-mode append
set -uo pipefail

export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"
# With --kill-on-bad-exit one process that dies ends all of them, which otherwise would wait for it.
srun --kill-on-bad-exit=1 --cpus-per-task "${SLURM_CPUS_PER_TASK:-8}" \
    "${PYTHON:-python}" tools/train.py "$@" --launcher slurm --resume
code=$?
if [ "$code" -eq 143 ]; then
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
