"""Find released code that gives an answer away because one place contains every part of a blank's solution.

A place is a function, the top level of a script, a notebook cell or a block of Python in Markdown. Its names are those
of its variables and attributes, and: "name()" for a call, "@" for a matrix product, "**2" for a square, "exp(2*" for
the exponential of a doubled value, "+ noise *" for a sum with a multiple of noise, "(@) @" for a matrix product whose
left factor contains another one, "mask[a - b:" and "tril(a - b)" for the rows of a mask that start at a difference,
"a * x + (1 - a) * y" for a weighted mean, "arange() + 0.5" for midpoints, and "[*a.parameters(), *b.parameters()]" for
the parameters of two networks.
"""

import ast
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass

from staff.release.build import Files

NOISE = "randn()|randn_like()|normal()|normal_()"
PRODUCT = "@|matmul()|bmm()|einsum()"
LOGITS_LOSS = "binary_cross_entropy_with_logits()|BCEWithLogitsLoss()|softplus()|logsigmoid()|Bernoulli()"

EXPONENTIALS = ("exp", "expm1")


@dataclass(frozen=True)
class Solution:
    """The solution of a blank: each part is a name, or several names separated by |, any of which is sufficient."""

    question: str
    blank: str
    parts: tuple[str, ...]


SOLUTIONS = [
    Solution("1.7", "sample_reparameterize", ("+ noise *", "mean|mu|loc", "std|sigma|log_std")),
    Solution(
        "1.7", "KLD_per_dim", ("exp(2*", "**2|square()|pow()", "log_std|log_var|logvar|log_sigma|sigma", "mean|mu")
    ),
    Solution("1.7", "KLD", ("KLD_per_dim()", "sum()")),
    Solution("1.7", "elbo_to_bpd", ("log()|log2()", "prod()|numel()|PIXELS", "elbo|bpd|nats")),
    Solution("1.7", "VAE.forward", ("sample_reparameterize()", "KLD()", "elbo_to_bpd()")),
    Solution("1.7", "VAE.forward", ("sample_reparameterize()", "exp()")),
    Solution("1.7", "VAE.forward", ("sample_reparameterize()", "_reconstruction()")),
    Solution("1.7", "VAE._reconstruction", ("cross_entropy()|nll_loss()", "sum()", "imgs|images")),
    Solution("1.7", "CNNEncoder", ("Conv2d()", "Linear()", "flatten()|Flatten()|view()|reshape()")),
    Solution("1.7", "CNNDecoder", ("ConvTranspose2d()|Upsample()", "Linear()")),
    Solution("1.8", "VAE.sample", ("softmax()", "multinomial()", "permute()|movedim()|transpose()", "decoder")),
    Solution("1.9", "visualize_manifold", ("ndtri()|ppf()|icdf()|erfinv()", "cartesian_prod()|meshgrid()", "decoder")),
    Solution("1.9", "visualize_manifold", ("cartesian_prod()|meshgrid()", "decoder()", "make_grid()|grid()")),
    Solution("1.9", "visualize_manifold", ("arange() + 0.5",)),
    Solution("2.4", "AdversarialAE.forward", ("encoder()", "decoder()", "recon_x")),
    Solution("2.4", "configure_optimizers", ("Adam()", "encoder", "decoder", "parameters()", "betas|hparams")),
    Solution("2.4", "configure_optimizers", ("[*a.parameters(), *b.parameters()]", "encoder", "decoder")),
    Solution("2.4", "training_step", ("get_loss_autoencoder()", "_step()")),
    Solution("2.4", "LitAAE._step", ("zero_grad()", "manual_backward()", "step()")),
    Solution("2.5", "Discriminator", ("Linear()", "z_dim|discriminator", "LeakyReLU()|ReLU()|GELU()")),
    Solution("2.5", "get_loss_autoencoder", (LOGITS_LOSS, "discriminator")),
    Solution(
        "2.5", "get_loss_discriminator", ("detach()", "fake|z_fake", "real()|z_real|prior()", "step()|backward()")
    ),
    Solution("2.5", "get_loss_discriminator", (LOGITS_LOSS, "ones_like()|ones()", "zeros_like()|zeros()")),
    Solution("2.5", "get_loss_autoencoder", ("a * x + (1 - a) * y", "recon|recon_loss|gen|gen_loss|lambda_")),
    Solution("2.5", "AdversarialAE.sample", (NOISE, "decoder()", "z_dim")),
    Solution("2.5", "configure_optimizers", ("SGD()", "discriminator", "parameters()")),
    Solution("2.5", "training_step", ("get_loss_discriminator()", "_step()")),
    Solution("3.2", "CausalSelfAttention", ("softmax()", PRODUCT, "sqrt()|**0.5|rsqrt()")),
    Solution("3.2", "CausalSelfAttention", ("softmax()", PRODUCT, "masked_fill()|where()|tril()|triu()")),
    Solution("3.2", "CausalSelfAttention", ("mask[a - b:|tril(a - b)",)),
    Solution("3.2", "CausalSelfAttention", ("softmax()|normalize()", "(@) @")),
    Solution("3.3", "next_token", ("softmax()", "multinomial()", "argmax()|topk()|max()")),
]


def find_solutions(files: Files) -> list[str]:
    """Return the places in released files that contain every part of a solution: "file:line: ..."."""
    found = []
    for file, content in files.items():
        for line, what, names in places(file, content):
            found += [
                f"{file}:{line}: {what} contains every part of the solution to Q{each.question}, {each.blank}: "
                + ", ".join(sorted(names & set().union(*map(_any, each.parts))))
                for each in SOLUTIONS
                if all(names & _any(part) for part in each.parts)
            ]
    return found


def _any(part: str) -> set[str]:
    return set(part.split("|"))


def places(file: str, content: bytes) -> Iterator[tuple[int, str, set[str]]]:
    """Yield the line, a description and the names of each place in a file that may have code."""
    if file.endswith(".py"):
        yield from _of_source(content.decode(), 1, "the top level")
    elif file.endswith(".md"):
        for block in re.finditer(r"^ *(```+|~~~+) *(?:python|py)\b[^\n]*\n(.*?)^ *\1", content.decode(), re.M | re.S):
            line = content.decode()[: block.start(2)].count("\n") + 1
            yield from _of_source(_dedented(block[2]), line, "a block of Python")
    elif file.endswith(".ipynb"):
        for number, cell in enumerate(json.loads(content).get("cells", []), 1):
            if cell.get("cell_type") == "code":
                source = re.sub(r"^[%!].*$", "", "".join(cell["source"]), flags=re.M)
                yield from _of_source(source, 1, f"cell {number}")


def _dedented(text: str) -> str:
    """Remove the indentation of a list item."""
    margin = re.match(r" *", text)[0]
    return re.sub(rf"^{margin}", "", text, flags=re.M)


def _of_source(source: str, first: int, what: str) -> Iterator[tuple[int, str, set[str]]]:
    """Yield a place for each function in a source, and one for the code outside functions."""
    try:
        tree = ast.parse(source)
    except SyntaxError:  # an excerpt: only its words can be used
        calls = {f"{name}()" for name in re.findall(r"(\w+)\(", source)}
        yield first, what, set(re.findall(r"\w+|@|\*\*2", source)) | calls
        return
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    inside = {id(node) for function in functions for node in ast.walk(function)}
    yield first, what, set().union(*(_names(node) for node in ast.walk(tree) if id(node) not in inside))
    for function in functions:
        line = first + function.lineno - 1
        yield line, f"{function.name}()", set().union(*(_names(node) for node in ast.walk(function)))


def _names(node: ast.AST) -> set[str]:
    """Return the names that a node adds to a place."""
    match node:
        case ast.Name(id=name) | ast.Attribute(attr=name) | ast.arg(arg=name) | ast.keyword(arg=str(name)):
            return {name}
        case ast.Call(func=ast.Name(id=name) | ast.Attribute(attr=name)):
            of = [*node.args, *([node.func.value] if isinstance(node.func, ast.Attribute) else [])]
            doubled = name in EXPONENTIALS and any(_is_doubled(each) for each in of)
            rows = name == "tril" and any(_is_difference(each) for each in node.args)
            return {f"{name}()"} | ({"exp(2*"} if doubled else set()) | ({"tril(a - b)"} if rows else set())
        case ast.BinOp(op=ast.MatMult(), left=left):
            nested = any(isinstance(each, ast.BinOp) and isinstance(each.op, ast.MatMult) for each in ast.walk(left))
            return {"@", "(@) @"} if nested else {"@"}
        case ast.Subscript(value=ast.Name(id="mask") | ast.Attribute(attr="mask"), slice=index):
            bounds = [each.lower for each in ast.walk(index) if isinstance(each, ast.Slice)]
            return {"mask[a - b:"} if any(map(_is_difference, bounds)) else set()
        case ast.BinOp(op=ast.Add()):
            return _sums(node.left, node.right)
        case ast.BinOp(op=ast.Pow(), right=ast.Constant(value=2)):
            return {"**2"} | ({"exp(2*"} if _called(node.left) in EXPONENTIALS else set())
        case ast.List(elts=[*elements]) if sum(_is_starred_parameters(each) for each in elements) > 1:
            return {"[*a.parameters(), *b.parameters()]"}
        case ast.BinOp(op=ast.Pow(), right=ast.Constant(value=0.5)):
            return {"**0.5"}
    return set()


def _called(node: ast.AST) -> str:
    """Return the name of the function that a node calls; "" if it calls none."""
    function = node.func if isinstance(node, ast.Call) else None
    return getattr(function, "attr", getattr(function, "id", ""))


def _sums(*sides: ast.AST) -> set[str]:
    """Return the names that a sum of two terms adds to a place."""
    noise = any(map(_is_scaled_noise, sides))
    middles = any(_called(each) == "arange" for each in sides) and any(map(_is_half, sides))
    weights, rests = ({ast.unparse(each) for side in sides for each in of(side)} for of in (_factors, _rests))
    found = {"+ noise *": noise, "arange() + 0.5": middles, "a * x + (1 - a) * y": weights & rests}
    return {name for name, so in found.items() if so}


def _factors(node: ast.AST) -> tuple[ast.AST, ...]:
    return (node.left, node.right) if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mult) else ()


def _rests(node: ast.AST) -> list[ast.AST]:
    """Return `a` for each factor `1 - a`."""
    ones = [each for each in _factors(node) if isinstance(each, ast.BinOp) and isinstance(each.op, ast.Sub)]
    return [each.right for each in ones if isinstance(each.left, ast.Constant) and each.left.value == 1]


def _is_starred_parameters(node: ast.AST) -> bool:
    return isinstance(node, ast.Starred) and _called(node.value) == "parameters"


def _is_half(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and node.value == 0.5


def _is_scaled_noise(node: ast.AST) -> bool:
    factors = _factors(node)
    return any(f"{_called(factor)}()" in _any(NOISE) or _named_noise(factor) for factor in factors)


def _named_noise(node: ast.AST) -> bool:
    return isinstance(node, ast.Name) and node.id in ("eps", "epsilon", "noise")


def _is_difference(node: ast.AST | None) -> bool:
    """Return whether a node is the difference between two terms that are not constants."""
    sides = (node.left, node.right) if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Sub) else ()
    return bool(sides) and not any(isinstance(each, ast.Constant) for each in sides)


def _is_doubled(node: ast.AST) -> bool:
    """Return whether a node is a product in which one factor is 2."""
    return any(isinstance(each, ast.Constant) and each.value == 2 for each in _factors(node))
