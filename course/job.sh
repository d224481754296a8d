# What the parts' train.job have in common. Sourced by them, in the folder of the repository, with
#   part   the folder of the part            program   its name in --log_dir
# and the flags of train.py as arguments.
#
# Some time before the job's time is up (or when it is preempted) SLURM sends SIGTERM; train.py then writes a checkpoint
# and leaves with status 143, the job is queued again, and goes on where it was.

logs="logs/job_$SLURM_JOB_ID" # of this job alone, so that `--resume last` is its own run
if [[ " $* " == *" --log_dir"* ]]; then
    echo "error: --log_dir: a job looks for its checkpoint in $logs; make logs a link if it should be elsewhere" >&2
    exit 2
fi

has_checkpoint() {
    compgen -G "$logs/$program/version_*/checkpoints/last.ckpt" >/dev/null
}

resume=()
if has_checkpoint; then
    resume=(--resume last)
fi

# sbatch's --cpus-per-task: from SLURM 22.05 on, srun does not inherit it, and a task that is bound to cores gets one
if [ -n "${SLURM_CPUS_PER_TASK:-}" ]; then
    export SRUN_CPUS_PER_TASK="$SLURM_CPUS_PER_TASK"
fi

srun "${PYTHON:-.venv/bin/python}" "$part/train.py" --accelerator gpu --no-progress_bar --log_dir "$logs" \
    "$@" "${resume[@]}" # a --resume of the user's was for the first time
status=$?
if [ "$status" -eq 143 ]; then
    # otherwise a job whose time is too short would be requeued forever; a resumed run has its checkpoint elsewhere
    if [ "${SLURM_RESTART_COUNT:-0}" -ge 2 ] && ! has_checkpoint && [[ " $* " != *" --resume"* ]]; then
        echo "error: stopped three times before the first checkpoint; give sbatch a longer --time" >&2
        exit "$status"
    fi
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$status"
