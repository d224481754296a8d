"""Code shared by the training scripts of all parts: callbacks and plugins for Lightning's Trainer, one concern a file.

run            the run's folder, new or resumed; its logger, and its summary at the end
history        a row and a printed line for each epoch
exact          noise, data order and sums, to resume a stopped run exactly
checkpoints    best.ckpt and last.ckpt
pictures       the figures, and when they are drawn
finite         stops a run whose loss is no longer finite
extras         options of the flags, the machine or the cluster: fused optimizers, a progress bar, limits
entry          turns errors and signals into one line and an exit status
speed          memory, fused optimizers, data on the GPU
problems, signals are small helpers

Imported only when needed: resuming (--resume), several (--devices above 1), explain (error messages), network
(--channels_last, --compile), recipe (--recipe fast), progress (a bar), board (TensorBoard's layout and HPARAMS tab),
record (summary.json and the report, at the end).

A run can be stopped at any time and resumed exactly (on the CPU, bit for bit), because nothing depends on state that is
hard to save: noise depends on seed and step, the order of the data on seed and epoch, the sums of an epoch are in the
checkpoint, and event files are truncated to match it.
"""
