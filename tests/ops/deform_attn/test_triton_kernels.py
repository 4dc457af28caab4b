"""Triton kernels: in Triton's interpreter against float64 grid_sample, compiled for GPUs that need
not be there, and on a GPU where there is one.

Run as a script, with TRITON_INTERPRET=1, this file prints the interpreter's errors as json: Triton
reads the variable at its import, so that it needs a process of its own.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from mask2former.ops.deform_attn import (
    ENVIRONMENT_VARIABLE,
    deformable_attention,
    deformable_attention_grid_sample,
    use_implementation,
)

ROOT = Path(__file__).resolve().parents[3]
SIZES = ((3, 4), (1, 1))  # a level of one pixel
KINDS = ("float32", "bfloat16", "float16")
pytestmark = pytest.mark.timeout(300)  # for the interpreter, and the compiler, on a busy machine
on_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


def make_inputs(sizes=SIZES, *, queries=5, dim=5, points=2):
    """float32 values, locations and weights; neither queries nor channels fill a block."""
    generator = torch.Generator().manual_seed(0)
    shape = (2, queries, 2, len(sizes), points)
    value = torch.randn(2, sum(h * w for h, w in sizes), 2, dim, generator=generator)
    locations = torch.rand(*shape, 2, generator=generator) * 2 - 0.5
    locations[0, 0] *= 1e6  # far outside
    return value, locations, torch.rand(*shape, generator=generator)


def run(operator, inputs, sizes=SIZES):
    """The output of an operator, and the gradients of all inputs for a fixed gradient of it."""
    leaves = [x.detach().requires_grad_() for x in inputs]
    out = operator(leaves[0], sizes, *leaves[1:])
    grad = torch.linspace(-1, 1, out.numel(), dtype=torch.float64).view_as(out)
    grad = grad.to(torch.bfloat16).to(out)  # exact in every type
    return out.detach(), *torch.autograd.grad(out, leaves, grad)


def errors(kind, **options):
    """Largest differences of output and gradients from float64 grid_sample, over their sizes."""
    value, locations, weights = make_inputs(**options)
    inputs = (value.to(getattr(torch, kind)), locations, weights)
    expected = run(deformable_attention_grid_sample, [x.double() for x in inputs])
    got = run(deformable_attention, inputs)
    assert [x.dtype for x in got] == [inputs[0].dtype] * 2 + [torch.float32] * 2
    return [((a - b).abs().max() / b.abs().max()).item() for a, b in zip(got, expected)]


@pytest.fixture(scope="module")
def interpreted():
    """Errors in the interpreter, by type."""
    pytest.importorskip("triton", reason="needs Triton")
    environment = os.environ | {
        "TRITON_INTERPRET": "1",
        ENVIRONMENT_VARIABLE: "triton",
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
    }
    done = subprocess.run(
        [sys.executable, "-W", "ignore", __file__], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("kind", KINDS)
def test_interpreted_kernels_agree_with_grid_sample(interpreted, kind):
    out, d_value, d_locations, d_weights = interpreted[kind]
    rounding = 1e-6 if kind == "float32" else torch.finfo(getattr(torch, kind)).eps
    assert max(out, d_value) < rounding
    assert max(d_locations, d_weights) < 2e-6  # float32 whatever the values are


def test_deterministic_backward_agrees_too(interpreted):
    assert max(interpreted["deterministic"]) < 2e-6


@pytest.mark.parametrize(("capability", "kind"), [(80, "fp32"), (80, "bf16"), (90, "fp16")])
def test_kernels_compile_for_gpus(capability, kind):
    """The interpreter takes more than the compiler does."""
    pytest.importorskip("triton", reason="needs Triton")
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from mask2former.ops.deform_attn import triton_kernels as kernels

    if kernels.INTERPRETED:
        pytest.skip("TRITON_INTERPRET is set")
    types = dict.fromkeys(("value", "out", "grad"), f"*{kind}") | {"levels": "*i32"}
    constants = {"M": 8, "L": 3, "P": 4, "D": 32, "BLOCK_D": 32, "BLOCK_Q": 16}
    for kernel in (kernels._forward_kernel, kernels._backward_kernel):
        names = kernel.fn.arg_names
        signature = {n: types.get(n, "*fp32") for n in names} | {"Q": "i32", "S": "i32"}
        signature |= dict.fromkeys(constants, "constexpr")
        places = {(names.index(n),): x for n, x in constants.items()}
        source = ASTSource(fn=kernel.fn, signature=signature, constexprs=places)
        assert triton.compile(source, target=GPUTarget("cuda", capability, 32)).asm["cubin"]


@on_gpu
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["triton", "bag"])
def test_agrees_with_grid_sample_on_a_gpu(name, kind):
    value, locations, weights = make_inputs(queries=300, dim=32, points=4)
    inputs = [x.cuda() for x in (value.to(getattr(torch, kind)), locations, weights)]
    expected = run(deformable_attention_grid_sample, [x.double() for x in inputs])
    with use_implementation(name):
        got = run(deformable_attention, inputs)
    for a, b in zip(got, expected):
        rounding = 1e-5 if a.dtype == torch.float32 else torch.finfo(a.dtype).eps
        assert (a - b).abs().max() < rounding * b.abs().max()


@on_gpu
@pytest.mark.parametrize("name", ["triton", "bag"])
def test_nothing_waits_for_the_gpu(name):
    inputs = [x.cuda() for x in make_inputs()]
    with use_implementation(name):
        run(deformable_attention, inputs)  # compiles and tunes
        leaves = [x.requires_grad_() for x in inputs]
        grad = torch.ones(2, 5, 10, device="cuda")
        try:
            torch.cuda.set_sync_debug_mode("error")
            out = deformable_attention(leaves[0], ((1, 12), (1, 1)), *leaves[1:])  # new sizes
            torch.autograd.grad(out, leaves, grad)
        finally:
            torch.cuda.set_sync_debug_mode("default")


@on_gpu
def test_deterministic_backward_repeats_on_a_gpu():
    inputs = [x.cuda() for x in make_inputs(queries=5000, dim=32, points=4)]
    torch.use_deterministic_algorithms(True)
    try:
        with use_implementation("triton"):
            first, second = (run(deformable_attention, inputs) for _ in range(2))
    finally:
        torch.use_deterministic_algorithms(False)
    assert all(torch.equal(a, b) for a, b in zip(first, second))


def main():
    """Print the errors in the interpreter."""
    results = {"float32": errors("float32")}
    few = {"queries": 3, "points": 1}  # the interpreter is slow
    results |= {kind: errors(kind, **few) for kind in KINDS[1:]}
    torch.use_deterministic_algorithms(True)
    results["deterministic"] = errors("float32", **few)
    print(json.dumps(results))


if __name__ == "__main__":
    main()
