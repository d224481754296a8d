"""Tests of `--recipe fast`: Muon, the learning rates, the flag, and the exact resumption of a stopped run."""

import json
import signal

import pytest
import torch
from resuming_cases import assert_same_end, strike_at
from scipy import stats
from torch import nn, optim
from torch.testing import assert_close

from course.training import recipe
from part1_vae import options as part1
from part2_aae import options as part2
from part2_aae.train import LitAAE
from part3_gpt import options as part3


@pytest.mark.parametrize("shape", [(8, 8), (6, 20), (20, 6)])
def test_orthogonalize(shape):
    """The singular vectors stay the same, and all singular values move close to 1, even small ones."""
    rank = min(shape)
    left = torch.from_numpy(stats.ortho_group(shape[0], seed=1).rvs())[:, :rank].float()
    right = torch.from_numpy(stats.ortho_group(shape[1], seed=2).rvs())[:, :rank].float()
    sizes = torch.logspace(0, -2, rank)
    made = recipe.orthogonalize(7 * left @ torch.diag(sizes) @ right.T)
    inner = left.T @ made @ right  # diagonal if the singular vectors are unchanged
    assert made.shape == shape
    assert_close(inner, torch.diag(inner.diag()), rtol=0, atol=1e-3)
    assert 0.6 < inner.diag().min() and inner.diag().max() < 1.3
    assert_close(recipe.orthogonalize(torch.zeros(shape)), torch.zeros(shape))


def moved(start: list[torch.Tensor], gradients: list[list[torch.Tensor]], make) -> list[torch.Tensor]:
    """Return the parameters after one step for each list of gradients."""
    parameters = [nn.Parameter(value.clone()) for value in start]
    optimizer = make(parameters)
    for of_step in gradients:
        for parameter, gradient in zip(parameters, of_step, strict=True):
            parameter.grad = gradient.clone()
        optimizer.step()
    return [parameter.detach() for parameter in parameters]


def test_kernels_move_as_pytorchs_muon_moves_matrices():
    torch.manual_seed(0)
    shape = (24, 8, 1, 1)
    start, gradients = [torch.randn(shape)], [[torch.randn(shape)] for _ in range(4)]
    ours = moved(start, gradients, lambda parameters: recipe.with_muon(optim.Adam(parameters)))[0].flatten(1)
    matrices = [value.flatten(1) for value in start], [[value.flatten(1) for value in step] for step in gradients]
    settings = {"lr": recipe.KERNEL_LR, "weight_decay": 0, "momentum": 0.95}
    theirs = moved(*matrices, lambda parameters: optim.Muon(parameters, **settings))[0]  # computes in bfloat16
    way = theirs - matrices[0][0]
    assert (ours - theirs).norm() < 0.02 * way.norm()


def test_all_else_moves_as_with_adam():
    torch.manual_seed(0)
    shapes = [(5, 3), (7,), (8, 1, 3, 3)]  # a kernel with one channel belongs to the first or last layer
    start, gradients = [torch.randn(s) for s in shapes], [[torch.randn(s) for s in shapes] for _ in range(4)]
    settings = {"lr": 0.1, "betas": (0.5, 0.99)}
    with_kernel = [*start, torch.randn(4, 4, 3, 3)], [[*step, torch.randn(4, 4, 3, 3)] for step in gradients]
    ours = moved(*with_kernel, lambda parameters: recipe.with_muon(optim.Adam(parameters, **settings)))
    theirs = moved(start, gradients, lambda parameters: optim.Adam(parameters, **settings))
    assert_close(ours[:-1], theirs)
    assert not torch.equal(ours[-1], with_kernel[0][-1])


def test_share():
    """The share rises and then falls linearly, as with PyTorch's schedulers."""
    optimizer = optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    up = optim.lr_scheduler.LinearLR(optimizer, start_factor=0.25, total_iters=3)
    down = optim.lr_scheduler.LinearLR(optimizer, start_factor=1, end_factor=0, total_iters=196)
    theirs = optim.lr_scheduler.SequentialLR(optimizer, [up, down], milestones=[4])
    for step in range(200):
        assert recipe.share(step, 200) == pytest.approx(theirs.get_last_lr()[0]), step
        optimizer.step()
        theirs.step()
    assert recipe.share(0, 1) == 1


def test_the_flag(capsys):
    assert part1.parse_args([]).recipe == "assignment" and part1.parse_args([]).epochs == 80
    for part, program in ((part1, "vae"), (part2, "aae")):
        fast = vars(part.parse_args(["--recipe", "fast"]))
        assert {name: fast[name] for name in part.FAST} == part.FAST, program
    args = part1.parse_args(["--epochs", "3", "--recipe", "fast"])
    assert args.epochs == 3 and args.lr == part1.FAST["lr"], "explicit flags take precedence in any position"
    for argv in (["--recipe", "quick"], ["--recipe"]):
        with pytest.raises(SystemExit) as stop:
            part1.parse_args(argv)
        assert stop.value.code == 2 and "--recipe" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        part3.parse_args(["--recipe", "fast"])


def test_the_optimizers_of_a_fast_run():
    lit = LitAAE(d_lr=0.25)
    recipe.Fast().setup(None, lit, "fit")
    ours, of_discriminator = lit.configure_optimizers()
    kernels = [p for group in ours.param_groups if group.get("kernels") for p in group["params"]]
    assert len(kernels) == 8, "all ten convolutions except the first and the last"
    assert {id(p) for group in ours.param_groups for p in group["params"]} == {
        id(p) for part in (lit.model.encoder, lit.model.decoder) for p in part.parameters()
    }
    [group] = of_discriminator.param_groups
    assert [id(p) for p in group["params"]] == [id(p) for p in lit.model.discriminator.parameters()]
    assert isinstance(of_discriminator, optim.Adam) and "kernels" not in group and group["lr"] == 0.25


@pytest.mark.parametrize("program", ["vae", pytest.param("aae", marks=pytest.mark.slow)], indirect=True)
@pytest.mark.usefixtures("without_pictures")
def test_a_fast_run_goes_on_exactly(program, tmp_path, monkeypatch, capsys, one_thread):
    flags = ("--recipe", "fast", "--epochs", "2")
    assert program(*flags, log_dir=tmp_path / "whole") == 0
    whole = program.run(tmp_path / "whole")
    with monkeypatch.context() as patch:
        patch.setattr(program.train, "Figures", strike_at(program.train, signal.SIGTERM, 1, 2))
        assert program(*flags, log_dir=tmp_path / "stopped") == 128 + signal.SIGTERM
    run = program.run(tmp_path / "stopped")
    with pytest.raises(SystemExit):
        program("--recipe", "assignment", "--resume", str(run))
    assert "--recipe assignment: the run being resumed has fast" in capsys.readouterr().err
    assert program("--resume", str(run)) == 0
    assert_same_end(whole, run)
    summary = json.loads((run / "summary.json").read_text())
    fast = {"vae": part1, "aae": part2}[program.name].FAST
    peak = fast.get("lr") or fast["ae_lr"]
    rates = [row["train/lr"] for row in summary["history"]]
    assert rates == pytest.approx([peak * recipe.share(step, 12) for step in (5, 11)])
    assert summary["flags"]["recipe"] == "fast"
