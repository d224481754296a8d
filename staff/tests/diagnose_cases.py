"""What a diagnosis says, for several tests."""

from pathlib import Path

from course.runs import diagnose
from course.runs import folder as runs

SYMPTOMS = {  # a phrase of the remark that belongs to it
    "averaged": "averaged over the pixels where it should be summed",
    "sum": "one term left out or weighted",
    "bits": "look at elbo_to_bpd",
    "sign": "the KL divergence may have the wrong sign",
    "collapse": "posterior collapse",
    "cheap": "so cheap a code is suspicious",
    "slow": "should be below 2 after two",
    "above": "even the same blurred image",
    "blurred": "the decoder may hardly use z",
    "nothing": "nothing is learned",
    "small rate": "the learning rate may be far too small",
    "large rate": "the learning rate may be far too large",
    "not finite": "a loss that is no longer finite asks for a smaller rate",
    "overfitting": "this may be overfitting",
    "rising": "training rises too",
    "summed": "it may be summed over the pixels or the batch",
    "black": "a black image has",
    "mean image": "the mean of all images has",
    "0.05": "with z_dim 8 it should be below 0.05",
    "lambda": "lambda_ may be on the wrong half",
    "helps": "the encoder may help the discriminator",
    "never fooled": "the encoder may not learn to fool it",
    "not trained": "it may not be trained at all",
    "disc slow": "it learns more slowly than the encoder",
    "chance": "it may say the same of every code",
    "mask": "attention may see later tokens",
    "shift": "are they shifted by one",
    "characters": "the model may not look at what stands before",
}


def symptoms(folder: Path) -> set[str]:
    """Which of the phrases are said, notes apart."""
    said = [remark.look + remark.seen for remark in diagnose.remarks(runs.read(folder)) if not remark.minor]
    found = [{name for name, phrase in SYMPTOMS.items() if phrase in text} for text in said]
    assert all(len(names) == 1 for names in found), said
    return set().union(*found)
