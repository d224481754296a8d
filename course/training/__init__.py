"""Code shared by all training scripts: callbacks and plugins for Lightning's Trainer, one file per concern.

run            the run's folder, new or resumed; its logger, and its summary at the end
history        a row of metrics and a printed line for each epoch
exact          reproducible noise and stored sums, to resume a stopped run exactly
checkpoints    best.ckpt and last.ckpt
pictures       the figures, and when they are drawn
finite         stops a run whose loss is no longer finite
extras         Trainer arguments for flags, machine or cluster: fused optimizers, a progress bar, limits
entry          turns errors and signals into one line and an exit status
problems       errors and signals that stop a run

These modules import others only when needed: folders (creating or locking a run's folder), board (TensorBoard), record
(summary.json and the report, at the end), speed (optimizations for all runs), on_device (data on a GPU), resuming
(--resume), midepoch (stopping within an epoch), several (--devices above 1), slurm (SLURM jobs), explain (error
messages), network (--channels_last, --compile), recipe (--recipe fast), progress (a bar).

A run can be stopped at any time and resumed exactly (on the CPU, bit for bit), because it does not depend on state that
is hard to save: noise depends on the seed and step, and the order of the data on the seed and epoch. The checkpoint
contains the sums of the unfinished epoch, and event files are truncated to match it.
"""
