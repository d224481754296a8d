"""Check the flags that depend on the machine; imported only if one of them is given."""

import argparse
import os

import torch


def check_machine(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """Exit with an error message if this machine does not support the given --accelerator, --devices or --precision."""
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    mps = torch.backends.mps.is_available()
    kind = args.accelerator
    if kind == "auto":
        kind = "gpu" if gpus else "mps" if mps else "cpu"
    if kind == "cpu" and args.precision == "16-mixed":
        parser.error("--precision 16-mixed: needs a GPU; on CPUs, use bf16-mixed")
    present = {"gpu": gpus, "mps": int(mps), "cpu": os.cpu_count() or 1}[kind]
    if present == 0:
        parser.error(f"--accelerator {args.accelerator}: PyTorch finds no such hardware on this machine")
    asked = args.devices
    if isinstance(asked, list) and kind == "cpu":
        parser.error(f"--devices {','.join(map(str, asked))}: CPUs are not numbered; give the number of processes")
    missing = [number for number in asked if number >= present] if isinstance(asked, list) else asked > present
    if missing:
        text = ",".join(map(str, asked)) if isinstance(asked, list) else asked
        what = {"gpu": "GPUs", "mps": "MPS devices", "cpu": "CPU cores (and no GPU that PyTorch can use)"}[kind]
        parser.error(f"--devices {text}: this machine has {present} {what}")
