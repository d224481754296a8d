"""One blank open, all others filled in: what the graded tests then say."""

import ast
import contextlib
import io
import json
import multiprocessing
import os
import shutil
import sys
from functools import partial
from pathlib import Path

import pytest

from small_runs import PARTS, REPOSITORY
from test_mistakes import SLOW_IMPORTS

ENCODER = {"test_encoder_depends_on_its_input", "test_encoder_gradients", "test_encoder_shapes"}
DECODER = {"test_decoder_depends_on_its_input", "test_decoder_gradients", "test_decoder_shapes"}
FORWARD = {"test_vae_forward_gradients", "test_vae_forward_losses", "test_vae_forward_samples_from_the_posterior"}
KL = {"test_kld_extreme_values", "test_kld_gradients", "test_kld_values"}
NOISE = {
    "test_reparameterize_gradients",
    "test_reparameterize_mean_and_spread",
    "test_reparameterize_noise_is_independent",
}
AAE_ENCODER = {"test_aae_encoder_depends_on_its_input", "test_aae_encoder_shapes"}
AAE_DECODER = {"test_aae_decoder_depends_on_its_input", "test_aae_decoder_shapes_and_range"}
DISCRIMINATOR = {"test_discriminator_depends_on_its_input", "test_discriminator_shapes"}
AUTOENCODER_LOSS = {"test_autoencoder_loss_gradients", "test_generator_loss", "test_losses_are_stable"}
STEPS = {"test_adversarial_step", "test_autoencoder_step"}
# the blank -> the tests that need it, whatever else is done
NEEDED = {
    "part1_vae/cnn_encoder_decoder.py CNNEncoder.__init__ Q1.7": ENCODER,
    "part1_vae/cnn_encoder_decoder.py CNNEncoder.forward Q1.7": ENCODER,
    "part1_vae/cnn_encoder_decoder.py CNNDecoder.__init__ Q1.7": DECODER,
    "part1_vae/cnn_encoder_decoder.py CNNDecoder.forward Q1.7": DECODER,
    "part1_vae/train.py VAE.forward Q1.7": FORWARD,
    "part1_vae/train.py VAE._reconstruction Q1.7": FORWARD,
    "part1_vae/train.py VAE.sample Q1.8": {"test_vae_sample"},
    "part1_vae/utils.py sample_reparameterize Q1.7": FORWARD | NOISE,
    "part1_vae/utils.py KLD Q1.7": FORWARD | KL,
    "part1_vae/utils.py KLD_per_dim Q1.7": FORWARD | KL,
    "part1_vae/utils.py visualize_manifold Q1.9": {"test_manifold", "test_manifold_leaves_the_decoder_alone"},
    "part1_vae/utils.py elbo_to_bpd Q1.7": FORWARD | {"test_bpd"},
    "part2_aae/models.py ConvEncoder.__init__ Q2.4": AAE_ENCODER,
    "part2_aae/models.py ConvEncoder.forward Q2.4": AAE_ENCODER,
    "part2_aae/models.py ConvDecoder.__init__ Q2.4": AAE_DECODER,
    "part2_aae/models.py ConvDecoder.forward Q2.4": AAE_DECODER,
    "part2_aae/models.py Discriminator.__init__ Q2.5": DISCRIMINATOR,
    "part2_aae/models.py Discriminator.forward Q2.5": DISCRIMINATOR,
    "part2_aae/models.py AdversarialAE.forward Q2.4": STEPS | {"test_aae_forward"},
    "part2_aae/models.py AdversarialAE.get_loss_autoencoder Q2.4": AUTOENCODER_LOSS
    | STEPS
    | {"test_reconstruction_loss"},
    "part2_aae/models.py AdversarialAE.get_loss_autoencoder Q2.5": AUTOENCODER_LOSS | {"test_adversarial_step"},
    "part2_aae/models.py AdversarialAE.get_loss_discriminator Q2.5": {
        "test_adversarial_step",
        "test_discriminator_accuracy",
        "test_discriminator_loss",
        "test_discriminator_loss_gradients",
        "test_losses_are_stable",
        "test_prior_is_standard_normal",
    },
    "part2_aae/models.py AdversarialAE.sample Q2.5": {"test_aae_sample"},
    "part2_aae/train.py LitAAE.configure_optimizers Q2.4": STEPS,
    "part2_aae/train.py LitAAE.configure_optimizers Q2.5": {"test_adversarial_step"},
    "part2_aae/train.py LitAAE.training_step Q2.4": STEPS,
    "part2_aae/train.py LitAAE.training_step Q2.5": {"test_adversarial_step"},
    "part2_aae/train.py LitAAE._step Q2.4": STEPS,
    "part3_gpt/gpt.py choose Q3.3": {
        "test_generate_crops_the_context",
        "test_generate_draws_are_fresh",
        "test_generate_greedy",
        "test_generate_greedy_is_not_random",
        "test_generate_sampling_frequencies",
        "test_generate_shapes",
        "test_generate_top_k",
        "test_generate_top_p",
        "test_generate_with_a_generator",
        "test_generate_with_and_without_cache",
    },
    "part3_gpt/gpt.py CausalSelfAttention.attention Q3.2": {
        "test_attention_dropout",
        "test_attention_gradients",
        "test_attention_is_causal",
        "test_attention_is_written_out",
        "test_attention_output",
        "test_attention_scale",
        "test_attention_weights_sum_to_one",
        "test_attention_with_cache",
        "test_gpt_is_causal",
        "test_masked_scores_have_no_weight",
    },
}


def blanks() -> list[tuple[str, str, str]]:
    """Each blank: its place, such as "part1_vae/utils.py KLD Q1.7", the file, and the text with this blank open."""
    from staff.release.markers import regions, template  # not above: the judging processes may not import course

    found = []
    for part in PARTS.values():
        for path in sorted((REPOSITORY / part).glob("*.py")):
            file, text = path.relative_to(REPOSITORY).as_posix(), path.read_text("utf-8")
            for region in regions(text, file):
                lines = text.splitlines(keepends=True)
                # the others keep their solution, and lose their marks
                for other in regions(text, file):
                    if other != region:
                        lines[other.begin - 1] = lines[other.end - 1] = "\n"
                place = f"{file} {_function(text, region.begin)} Q{region.question}"
                found.append((place, file, template("".join(lines), file)))
    return found


def _function(text: str, line: int) -> str:
    """The class and function that a line is in."""
    kinds = ast.ClassDef | ast.FunctionDef
    around = [node for node in ast.walk(ast.parse(text)) if isinstance(node, kinds)]
    return ".".join(node.name for node in around if node.lineno <= line <= node.end_lineno)


def failed(folder: Path, blank: tuple[str, str, str]) -> tuple[str, dict[str, str]]:
    """Run in a process of its own: the tests of the part that fail with this blank open, and their messages."""
    import torch

    place, file, text = blank
    folder = folder / str(os.getpid())
    for name in ("course", "tests", *PARTS.values(), "staff/hidden", "staff/oracles"):
        shutil.copytree(REPOSITORY / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("conftest.py", "setup.cfg", "staff/__init__.py"):
        shutil.copy(REPOSITORY / name, folder / name)
    (folder / file).write_text(text, "utf-8")
    torch.set_num_threads(1)
    os.chdir(folder)
    sys.path.insert(0, str(folder))
    suites = [str(path) for path in sorted(Path().glob(f"*/**/test_part{file[4]}_*.py"))]
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(out):
        status = pytest.main(["-q", "-p", "no:cacheprovider", *suites, "--points-json", "points.json"])
    assert status == 1, f"{place}: {out.getvalue()[-3000:]}"
    tests = json.loads(Path("points.json").read_text())["tests"]
    shutil.rmtree(folder)
    return place, {test["name"]: test["message"] for test in tests if test["outcome"] != "passed"}


@pytest.mark.slow
def test_an_open_blank_costs_only_what_needs_it(tmp_path):
    """All other tests pass, and those that fail name a blank."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(SLOW_IMPORTS)
    with context.Pool(os.cpu_count(), maxtasksperchild=1) as pool:
        found = dict(pool.imap_unordered(partial(failed, tmp_path), blanks()))
    unclear = {place: m for place, tests in found.items() for m in tests.values() if "is not filled in yet" not in m}
    assert not unclear, unclear
    assert {place: set(tests) for place, tests in found.items()} == NEEDED


def test_the_table_has_all_blanks():
    assert {place for place, *_ in blanks()} == set(NEEDED)
