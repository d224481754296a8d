"""What the training programs of all parts share: callbacks and plugins for Lightning's Trainer, one concern a file.

run            the run's folder: a new one, or the one that is resumed; its logger, and its summary at the end
history        a row and a printed line for each epoch
exact          noise, data order and sums, so that a stopped run is resumed exactly
checkpoints    best.ckpt and last.ckpt
pictures       the figures, and when they are drawn
finite         a run whose loss is no longer finite stops
extras         what flags, the machine or the cluster ask for: fused optimizers, a progress bar, limits
entry          errors and signals become one line and an exit status
speed          memory, fused optimizers, data on the GPU
events, problems, signals are small helpers

Imported only when a run needs them: network (--channels_last, --compile), recipe (--recipe fast), progress (a bar),
board (TensorBoard's layout and HPARAMS tab), record (summary.json and the report, at the end).

A run can be stopped at any moment and is resumed exactly (on the CPU, bit for bit), because nothing depends on state
that is hard to save: noise is a function of seed and step, the order of the data one of seed and epoch, the sums of an
epoch are in the checkpoint, and event files are cut back to its length.
"""
