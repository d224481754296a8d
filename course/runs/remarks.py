"""Remarks about a run's numbers, and the rules that apply to the runs of all parts."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from course.rubric import read as read_rubric
from course.runs.folder import USUAL, Run, fits, is_number
from course.runs.questions import part_of

LOSS = {"vae": "bpd", "aae": "recon_loss", "gpt": "bits_per_char"}  # the metric to minimize
LARGE_RATE, SMALL_RATE = 0.03, 1e-5  # the defaults of the parts are 0.001 and 0.003 (SGD 0.005)


@dataclass(frozen=True)
class Remark:
    """An observed number and its possible cause. `minor`: only a note, not a symptom."""

    seen: str
    look: str
    minor: bool = False


Remarks = Iterator[Remark]


def first_epoch(run: Run) -> Remarks:
    stopped = "if it stopped, the last line of its output says why; if the loss became NaN, try a lower learning rate"
    yield Remark(f"no epoch is done yet{rates(run)}", stopped, minor=not rate_is(run, lambda rate: rate > LARGE_RATE))


def rates(run: Run) -> str:
    """Format the learning rates among the flags, in parentheses."""
    found = [f"--{name} {run.flags[name]:g}" for name in ("lr", "ae_lr", "d_lr") if is_number(run.flags.get(name))]
    return f" ({', '.join(found)})" if found else ""


def rate_is(run: Run, so: Callable[[float], bool]) -> bool:
    return any(so(run.flags[name]) for name in ("lr", "ae_lr") if is_number(run.flags.get(name)))


def stuck(run: Run, tag: str) -> bool:
    """Return whether there are at least two epochs, and the last changed the metric by less than 2 %."""
    _, values = run.curve(tag)
    return len(values) > 1 and abs(values[-1] - values[-2]) < 0.02 * abs(values[-2])


def nothing_learned(run: Run) -> Remarks:
    """Report a run whose loss in the last epoch is hardly better than at the first step."""
    name = LOSS[run.program]
    first, (epochs, values) = run.first_step.get(f"train/{name}_step"), run.curve(f"train/{name}")
    if first is None or not values or min(values[-1], run.curve(f"val/{name}")[1][-1]) < 0.97 * first:
        return
    seen = f"train/{name} was {first:.4g} at the first step and is {values[-1]:.4g} in epoch {epochs[-1]}{rates(run)}"
    if rate_is(run, lambda rate: rate < SMALL_RATE):
        yield Remark(seen, "the learning rate may be far too low")
    elif values[-1] > 1.5 * first or rate_is(run, lambda rate: rate > LARGE_RATE):
        yield Remark(seen, "the learning rate may be far too high, or the loss has the wrong sign")
    else:
        cut = "does the optimizer step, does it have these parameters, is there a detach() or no_grad() in between?"
        limit = run.flags.get("limit_batches")
        few = is_number(limit) and limit * run.done < 100  # steps
        yield Remark(seen, f"the model learns nothing; the gradient may not reach the weights: {cut}", minor=few)


def jumps(run: Run) -> Remarks:
    """Report a first epoch that is far worse than the first step, even if the model learns later."""
    name = LOSS[run.program]
    first, (_, values) = run.first_step.get(f"train/{name}_step"), run.curve(f"train/{name}")
    if first is not None and values and values[0] > 1.2 * first > values[-1]:
        seen = f"train/{name} was {first:.4g} at the first step and {values[0]:.4g} on average in the first epoch"
        yield Remark(seen + rates(run), "the learning rate may be far too high")


def validation_rises(run: Run) -> Remarks:
    """Report a validation loss that rises: overfitting if the training loss still falls, else a high learning rate."""
    name = LOSS[run.program]
    (epochs, val), (_, train) = run.curve(f"val/{name}"), run.curve(f"train/{name}")
    if len(val) < 2 or len(train) != len(val):
        return
    best = val.index(min(val))
    if val[-1] <= val[best] + 0.02 * abs(val[best]):
        return
    seen = f"val/{name} was {val[best]:.4g} in epoch {epochs[best]} and is {val[-1]:.4g} in epoch {epochs[-1]}"
    if train[-1] < train[best]:
        seen += f", while train/{name} went from {train[best]:.4g} to {train[-1]:.4g}"
        yield Remark(
            seen, "this may be overfitting: checkpoints/best.ckpt has the better weights, and fewer epochs are enough"
        )
    else:
        yield Remark(seen + rates(run), "the training loss rises too: the learning rate may be too high")


def short(run: Run) -> Remarks:
    """Report reasons why the numbers are not final."""
    epochs, limit = run.flags.get("epochs"), run.flags.get("limit_batches")
    if limit:
        yield Remark(f"--limit_batches {limit}", "each epoch used only part of the data", minor=True)
    if is_number(epochs) and run.done < epochs:
        yield Remark(f"stopped after epoch {run.done} of {epochs}", "continue with --resume", minor=True)
    _, values = run.curve(f"val/{LOSS[run.program]}")
    if len(values) > 1 and values[-1] < 0.98 * values[-2]:
        seen = f"val/{LOSS[run.program]} fell from {values[-2]:.4g} to {values[-1]:.4g} in the last epoch"
        yield Remark(seen, "it may improve with more epochs", minor=True)


def other_than_asked(run: Run) -> Remarks:
    """Report flags that no question requires, and runs with fewer epochs than a question requires."""
    rubric = read_rubric()
    part = part_of(run, rubric)
    wanted = [(question, each) for question in rubric.questions.values() for each in question.runs]
    wanted = [(question, each) for question, each in wanted if question.part == part.number]
    answered = [(question, each) for question, each in wanted if fits(run.flags, each)]
    if wanted and not answered:
        odd = [name for name, value in USUAL.items() if run.flags.get(name, value) != value]
        names = odd or sorted({name for _, each in wanted for name in each if name != "epochs"})
        flags = " ".join(f"--{name} {run.flags.get(name)}" for name in names)
        yield Remark(flags, "no question asks for this run; see the part's README for the commands", minor=True)
    for question, each in answered:
        if is_number(run.flags.get("epochs")) and run.flags["epochs"] < each.get("epochs", 0):
            more = f"Q{question.id} asks for {each['epochs']}: continue with --resume and --epochs {each['epochs']}"
            yield Remark(f"--epochs {run.flags['epochs']}", more, minor=True)
            break


FOR_ALL: tuple[Callable[[Run], Remarks], ...] = (nothing_learned, jumps, validation_rises, short, other_than_asked)
