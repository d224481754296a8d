"""Symptoms that a diagnosis can name, shared by several test files."""

from pathlib import Path

from course.runs import diagnose
from course.runs import folder as runs

SYMPTOMS = {  # symptom -> a phrase in its remark
    "averaged": "averaged over the pixels instead of summed",
    "sum": "is a term missing or weighted",
    "bits": "check elbo_to_bpd",
    "sign": "the KL divergence may have the wrong sign",
    "limited": "after the decoder's last layer",
    "collapse": "posterior collapse",
    "cheap": "so small a KL divergence",
    "slow": "should be below 2 after two",
    "above": "even one blurred image",
    "blurred": "the decoder may make little use of z",
    "nothing": "the model learns nothing",
    "small rate": "the learning rate may be far too low",
    "large rate": "the learning rate may be far too high",
    "not finite": "if the loss became NaN",
    "overfitting": "this may be overfitting",
    "rising": "the training loss rises too",
    "summed": "it may be summed over the pixels or the batch",
    "black": "a black image gives",
    "mean image": "the mean of all images gives",
    "0.05": "with z_dim 8, it should be below 0.05",
    "lambda": "lambda_ may be on the wrong term",
    "helps": "the encoder may help the discriminator",
    "never fooled": "the encoder may not be learning to fool the discriminator",
    "not trained": "it may not be trained at all",
    "disc slow": "it learns more slowly than the encoder",
    "chance": "it may give every code the same answer",
    "mask": "attention may see later tokens",
    "shift": "are they shifted by one",
    "characters": "the model may be ignoring the context",
}


def symptoms(folder: Path) -> set[str]:
    """Return the symptoms named in the diagnosis of a run, except in minor notes."""
    said = [remark.look + remark.seen for remark in diagnose.remarks(runs.read(folder)) if not remark.minor]
    found = [{name for name, phrase in SYMPTOMS.items() if phrase in text} for text in said]
    assert all(len(names) == 1 for names in found), said
    return set().union(*found)
