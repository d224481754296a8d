# Shared code of the parts' train.job scripts, which source it in the folder of the repository, with the variables
#   part   the folder of the part            program   its name in --log_dir
# and the flags of train.py as arguments.
#
# Before the job's time limit (or when the job is preempted), SLURM sends SIGTERM. Then train.py writes a checkpoint and
# exits with status 143, and the job is queued again and continues from the checkpoint.

logs="logs/job_$SLURM_JOB_ID" # used only by this job, so that `--resume last` finds its run
if [[ " $* " == *" --log_dir"* ]]; then
    echo "error: --log_dir: a job looks for its checkpoint in $logs; to write elsewhere, make logs a symbolic link" >&2
    exit 2
fi

has_checkpoint() {
    compgen -G "$logs/$program/version_*/checkpoints/last.ckpt" >/dev/null
}

resume=()
if has_checkpoint; then
    resume=(--resume last)
fi

# since SLURM 22.05, srun does not inherit sbatch's --cpus-per-task, so a task that is bound to cores would get one core
if [ -n "${SLURM_CPUS_PER_TASK:-}" ]; then
    export SRUN_CPUS_PER_TASK="$SLURM_CPUS_PER_TASK"
fi

srun "${PYTHON:-.venv/bin/python}" "$part/train.py" --accelerator gpu --no-progress_bar --log_dir "$logs" \
    "$@" "${resume[@]}" # overrides the user's --resume, which was for the first start
status=$?
if [ "$status" -eq 143 ]; then
    # without this, a job with too short a time limit would be requeued forever; a resumed run's checkpoint is elsewhere
    if [ "${SLURM_RESTART_COUNT:-0}" -ge 2 ] && ! has_checkpoint && [[ " $* " != *" --resume"* ]]; then
        echo "error: stopped three times before the first checkpoint; give sbatch a longer --time" >&2
        exit "$status"
    fi
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$status"
