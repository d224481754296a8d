"""What the training programs of all parts share, one concern a file.

start          the run's folder: a new one, or the one that is resumed
fit            train, test the best checkpoint, draw, summarize
entry          errors and signals become one line and an exit status
trainer        Lightning's Trainer, made from the flags
metrics        means over an epoch: TensorBoard, the terminal, the history
pictures       the figures, and when they are drawn
checkpoints    last.ckpt and best.ckpt; a checkpoint when a signal arrives
events         TensorBoard's event files, cut back when a run is resumed
reproducible   the noise of a step depends on seed and step alone
finite         a run whose loss is no longer finite stops
speed          memory, fused optimizers, data on the GPU, compilation
recipe         --recipe fast: Muon, warm-up and decay
board          TensorBoard's layout and HPARAMS tab
summary        summary.json and report.html
run            the run itself; problems, signals and intervals are small helpers

A run can be stopped at any moment and is resumed exactly (on the CPU, bit for bit), because nothing depends on state
that is hard to save: noise is a function of seed and step, the order of the data one of seed and epoch, metrics have
their sums in the checkpoint, and event files are cut back to its length.
"""
