"""Tests that released code containing all pieces of a solution is found in any kind of file."""

import json

import pytest

from staff.release.solutions import SOLUTIONS, find_solutions

KLD = "kl = ((2 * log_std).exp() + mean**2 - 1) / 2 - log_std"
ATTENTION = "weights = softmax(masked_fill(q @ k.mT / sqrt(d), mask, -inf))"
LEAKS = {  # leaked code -> the question that it solves
    "def draw(mean, std):\n    return mean + std * torch.randn_like(mean)\n": "1.7",
    "def draw(mu, sigma):\n    noise = torch.randn(3)\n    return sigma * noise + mu\n": "1.7",
    f"{KLD}\n": "1.7",
    "z = mean + eps * std\n": "1.7",
    "kl = (log_std.exp() ** 2 + mean.square()).sum() - log_std\n": "1.7",
    "def f(mean, log_std):\n    return KLD_per_dim(mean, log_std).sum(-1)\n": "1.7",
    "z = sample_reparameterize(mean, log_std.exp())\n": "1.7",
    "def f(vae, z, x):\n    z = sample_reparameterize(*z)\n    return vae._reconstruction(vae.decoder(z), x)\n": "1.7",
    "bpd = elbo / math.log(2) / math.prod(shape)\n": "1.7",
    "def f(z):\n    p = decoder(z).softmax(1).permute(0, 2, 3, 1)\n    return torch.multinomial(p, 1)\n": "1.8",
    "z = torch.meshgrid(stats.norm.ppf(p))\npicture = decoder(z)\n": "1.9",
    "z = torch.cartesian_prod(axis, axis)\npicture = figures.grid(decoder(z), nrow=20)\n": "1.9",
    "axis = (np.arange(cells) + 0.5) / cells\n": "1.9",
    "expected = (nats + kl) * math.log2(math.e) / PIXELS\n": "1.7",
    "expected = weight * recon + (1 - weight) * (gen or 0)\n": "2.5",
    "adam = Adam([*encoder.parameters(), *decoder.parameters()], lr=1e-3)\n": "2.4",
    "loss = f(D(fake.detach()), 0) + f(D(real(128)), 1)\nloss.backward()\n": "2.5",
    "loss = -Bernoulli(logits=discriminator(z)).log_prob(torch.ones(9)).mean()\n": "2.5",
    "loss = F.softplus(-discriminator(z)).mean()\n": "2.5",
    f"{ATTENTION}\n": "3.2",
    "def f(a, b):\n    return (torch.einsum('td,sd->ts', a, b) / 8**0.5).softmax(-1)\n": "3.2",
    "attn_mask = None if T == S else mask[:, :, S - T : S, :S]\n": "3.2",
    "def mean(v, T, S):\n    visible = torch.ones(T, S).tril(S - T)\n    return visible @ v\n": "3.2",
    "y = F.normalize(phi(q) @ phi(k).mT, p=1, dim=-1) @ v\n": "3.2",
    "t = logits.argmax() if greedy else torch.multinomial(F.softmax(logits), 1)\n": "3.3",
}


def notebook(source: str) -> bytes:
    cells = [{"cell_type": "markdown", "source": ["text"]}, {"cell_type": "code", "source": source.splitlines(True)}]
    return json.dumps({"cells": cells}).encode()


def planted(source: str) -> dict[str, tuple[bytes, int]]:
    """Plant a leak in each kind of file; return file -> (its content, the line that must be reported)."""
    head = "import torch\n\n\n"
    return {
        "theory/script.py": (f"{head}{source}".encode(), 4 if source.startswith("def ") else 1),
        "course/hidden.py": (f"{head}class A:\n    def f(self):\n{_indented(source)}".encode(), 5),
        "notebooks/first.ipynb": (notebook(f"%matplotlib inline\n{source}"), 2 if source.startswith("def ") else 1),
        "handout/chapter.md": (f"Text.\n\n```python\n{source}```\n".encode(), 4),
        "README.md": (f"1. Text\n\n   ```py\n{_indented(source, 3)}   ```\n".encode(), 4),
    }


def _indented(source: str, by: int = 8) -> str:
    return "".join(f"{' ' * by}{line}" for line in source.splitlines(keepends=True))


@pytest.mark.parametrize("source", LEAKS, ids=str)
def test_a_solution_is_found_in_each_kind_of_place(source):
    for file, (content, line) in planted(source).items():
        found = find_solutions({"course/fine.py": b"x = 1\n", file: content})
        assert any(f"Q{LEAKS[source]}" in each and each.startswith(f"{file}:{line}: ") for each in found), (file, found)


def test_an_excerpt_that_is_no_python_is_searched_too():
    content = b"```python\n...\nweights = softmax(q @ k.mT / sqrt(d), # and so on\n```\n"
    assert "Q3.2" in find_solutions({"handout/a.md": content})[0]
    assert find_solutions({"handout/a.md": b"```text\nweights = softmax(q @ k.mT / sqrt(d)\n```\n"}) == []


def test_parts_of_a_solution_in_different_places_are_none():
    scattered = "".join(f"def f(x, y):\n    return {each}\n\n\n" for each in ("x @ y.mT", "x.softmax(-1)", "x.sqrt()"))
    assert find_solutions({"theory/a.py": scattered.encode()}) == []


def test_each_blank_has_its_solution(course):
    assert {each.question for each in SOLUTIONS} == {blank.question for blank in course.blanks}


def test_the_solution_itself_would_be_found(course):
    """The search looks for pieces taken from the solution, so it must find the solution itself."""
    sources = {f"other/{file}": text.encode() for file, text in course.sources.items()}
    found = "\n".join(find_solutions(sources))
    missed = [each.blank for each in SOLUTIONS if f"Q{each.question}, {each.blank}:" not in found]
    assert not missed, missed


def test_the_release_gives_no_solution_away(files):
    assert find_solutions(files) == []
