"""Deformable attention: agreement with grid_sample, gradients, borders, types, errors."""

import pytest
import torch

from mask2former.ops.deform_attn import (
    bag,
    deformable_attention,
    deformable_attention_grid_sample,
    use_implementation,
)


def make_inputs(sizes, *, batch=2, queries=5, heads=2, points=3, dim=4, dtype=torch.float64):
    """Random values and weights, and locations of which many lie outside of the maps."""
    generator = torch.Generator().manual_seed(0)
    tokens = sum(h * w for h, w in sizes)

    def rand(*shape):
        return torch.rand(*shape, generator=generator, dtype=dtype)

    value = rand(batch, tokens, heads, dim) - 0.5
    locations = rand(batch, queries, heads, len(sizes), points, 2) * 2 - 0.5
    weights = rand(batch, queries, heads, len(sizes), points)
    return value, locations, weights


def run(operator, sizes, inputs):
    """The output of an operator, and the gradients of all inputs for a fixed gradient of it."""
    value, locations, weights = (x.detach().requires_grad_() for x in inputs)
    out = operator(value, sizes, locations, weights)
    grad = torch.linspace(-1, 1, out.numel(), dtype=torch.float64).view_as(out).to(out.dtype)
    return out.detach(), *torch.autograd.grad(out, (value, locations, weights), grad)


SIZES = [((4, 6),), ((1, 1),), ((3, 5), (2, 3), (1, 1)), ((7, 2), (1, 9), (4, 4), (2, 1))]


@pytest.mark.parametrize("sizes", SIZES)
def test_agrees_with_grid_sample(sizes):
    value, locations, weights = make_inputs(sizes)
    expected = deformable_attention_grid_sample(value, sizes, locations, weights)
    got = deformable_attention(value, sizes, locations, weights)
    assert got.shape == (2, 5, 8)
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("sizes", SIZES)
def test_gradients_agree_with_grid_sample(sizes):
    inputs = make_inputs(sizes)
    expected = run(deformable_attention_grid_sample, sizes, inputs)
    for a, b in zip(run(deformable_attention, sizes, inputs), expected):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-11)


def test_gradcheck():
    sizes = ((3, 2), (1, 2))
    value, locations, weights = (
        x.requires_grad_() for x in make_inputs(sizes, batch=1, queries=2, points=2, dim=3)
    )
    assert torch.autograd.gradcheck(
        lambda v, x, w: deformable_attention(v, sizes, x, w), (value, locations, weights)
    )


def test_operator_keeps_the_rules_of_pytorch():
    """Schema, shapes without data, gradients, and tracing with any shapes."""
    value, locations, weights = (x.requires_grad_() for x in make_inputs(((3, 2), (1, 2))))
    arguments = (value, [3, 2, 1, 2], locations, weights)
    torch.library.opcheck(torch.ops.mask2former.deform_attn_bag.default, arguments)


@pytest.mark.parametrize("chunk", [1, 20, 50, 10_000])
def test_chunks_do_not_change_anything(monkeypatch, chunk):
    """One query at a time, some queries of a head, whole heads, all heads."""
    sizes = ((4, 3), (2, 2))
    inputs = make_inputs(sizes, queries=7, heads=3, points=2)  # 28 samples a head
    expected = run(deformable_attention_grid_sample, sizes, inputs)
    monkeypatch.setattr(bag, "_FORWARD_CHUNK", chunk)
    monkeypatch.setattr(bag, "_BACKWARD_CHUNK", chunk)
    for a, b in zip(run(deformable_attention, sizes, inputs), expected):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-12)


def test_path_for_other_devices_agrees(monkeypatch):
    """What GPUs run in place of kernels that exist for CPUs alone."""
    sizes = ((4, 3), (2, 2))
    inputs = make_inputs(sizes)
    expected = run(deformable_attention, sizes, inputs)
    monkeypatch.setattr(bag, "_GPU_CHUNK", 50)
    monkeypatch.setattr(bag, "_dots_with_rows", bag._dots_by_gather)
    monkeypatch.setattr(bag, "_first_of_each", bag._first_by_search)
    for a, b in zip(run(deformable_attention, sizes, inputs), expected):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-12)


def test_any_memory_layout():
    sizes = ((4, 3), (2, 2))
    value, locations, weights = make_inputs(sizes)
    expected = run(deformable_attention, sizes, (value, locations, weights))
    strided = (
        value.permute(2, 1, 3, 0).contiguous().permute(3, 1, 0, 2),
        locations.flip(1).contiguous().flip(1).transpose(1, 2).contiguous().transpose(1, 2),
        torch.cat([weights, weights], -1)[..., : weights.shape[-1]],
    )
    assert not any(x.is_contiguous() for x in strided)
    for a, b in zip(run(deformable_attention, sizes, strided), expected):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", ["bag", "grid_sample", "gather"])
def test_half_precision_values_with_float32_locations(name, dtype):
    """As under autocast: sums in float32, so that only inputs and results are rounded."""
    sizes = ((9, 7), (3, 4))
    value, locations, weights = make_inputs(sizes, dtype=torch.float32)
    value = value.to(dtype)
    with use_implementation(name):
        got = run(deformable_attention, sizes, (value, locations, weights))
    assert [x.dtype for x in got] == [dtype, dtype, torch.float32, torch.float32]
    expected = run(
        deformable_attention_grid_sample, sizes, [x.double() for x in (value, locations, weights)]
    )
    step = torch.finfo(dtype).eps
    for a, b in zip(got, expected):
        rounding = step if a.dtype == dtype else 1e-5
        # The gradient that comes in is rounded to the type too.
        torch.testing.assert_close(a.double(), b, rtol=2 * step, atol=4 * rounding + step / 2)


def test_under_autocast_nothing_becomes_less_exact():
    sizes = ((4, 3), (2, 2))
    inputs = make_inputs(sizes, dtype=torch.float32)
    expected = run(deformable_attention, sizes, inputs)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got = run(deformable_attention, sizes, inputs)
    for a, b in zip(got, expected):
        torch.testing.assert_close(a, b, rtol=0, atol=0)


def test_only_some_inputs_need_gradients():
    sizes = ((4, 3), (2, 2))
    value, locations, weights = make_inputs(sizes)
    out = deformable_attention(value, sizes, locations, weights.requires_grad_())
    out.sum().backward()
    assert weights.grad is not None and value.grad is None and locations.grad is None


def test_results_do_not_depend_on_threads():
    sizes = ((30, 41), (15, 20))
    inputs = make_inputs(sizes, queries=1500, heads=4, points=4, dim=32, dtype=torch.float32)
    threads, results = torch.get_num_threads(), []
    try:
        for count in (1, 2):
            torch.set_num_threads(count)
            results.append(run(deformable_attention, sizes, inputs))
    finally:
        torch.set_num_threads(threads)
    for a, b in zip(*results):
        assert torch.equal(a, b)


@pytest.mark.parametrize("mode", ["forward", "backward"])
def test_compiles_into_one_graph(mode):
    sizes = ((4, 3), (2, 2))
    compiled = torch.compile(deformable_attention, fullgraph=True, backend="aot_eager")
    inputs = make_inputs(sizes)
    if mode == "forward":
        torch.testing.assert_close(
            compiled(inputs[0], sizes, *inputs[1:]),
            deformable_attention(inputs[0], sizes, *inputs[1:]),
        )
        return
    for a, b in zip(run(compiled, sizes, inputs), run(deformable_attention, sizes, inputs)):
        torch.testing.assert_close(a, b)


def test_new_sizes_do_not_compile_anew():
    graphs = []

    def backend(graph, example_inputs):
        graphs.append(graph)
        return graph

    compiled = torch.compile(deformable_attention, fullgraph=True, dynamic=True, backend=backend)
    for side in (4, 6, 9):
        sizes = ((side, side + 1), (side // 2, 3))
        value, locations, weights = make_inputs(sizes, queries=side)
        expected = deformable_attention_grid_sample(value, sizes, locations, weights)
        torch.testing.assert_close(compiled(value, sizes, locations, weights), expected)
    assert len(graphs) == 1
    with use_implementation("grid_sample"):  # but another choice does
        compiled(value, sizes, locations, weights)
    assert len(graphs) == 2


def test_exports_without_operators_of_our_own():
    class Module(torch.nn.Module):
        def forward(self, value, locations, weights):
            return deformable_attention(value, ((4, 3), (2, 2)), locations, weights)

    inputs = make_inputs(((4, 3), (2, 2)))
    program = torch.export.export(Module(), inputs)
    names = {str(node.target) for node in program.graph.nodes}
    assert any("grid_sampler" in name for name in names)
    assert not any("mask2former" in name for name in names)
    torch.testing.assert_close(program.module()(*inputs), Module()(*inputs))


def test_second_derivative_is_refused():
    sizes = ((4, 3),)
    value, locations, weights = (x.requires_grad_() for x in make_inputs(sizes))

    def penalty():
        out = deformable_attention(value, sizes, locations, weights)
        return torch.autograd.grad(out.square().sum(), value, create_graph=True)[0].square().sum()

    with pytest.raises(NotImplementedError, match="no second derivative.*'grid_sample'"):
        penalty().backward()
    with use_implementation("grid_sample"):
        penalty().backward()
    assert weights.grad is not None


def test_pixel_centre_reads_the_pixel_and_the_border_fades_to_zero():
    value = torch.tensor([[1.0, 2.0], [3.0, 4.0]]).view(1, 4, 1, 1)  # a 2x2 map
    places = torch.tensor(
        [
            [0.25, 0.25],  # centre of the first pixel
            [0.5, 0.5],  # the middle: the mean of all four
            [0.0, 0.25],  # half a pixel outside to the left: half of the first pixel
            [1.25, 0.25],  # a whole pixel outside to the right: nothing
        ]
    ).view(1, 4, 1, 1, 1, 2)
    out = deformable_attention(value, [(2, 2)], places, torch.ones(1, 4, 1, 1, 1))
    torch.testing.assert_close(out.flatten(), torch.tensor([1.0, 2.5, 0.5, 0.0]))


def test_far_outside_reads_zero_without_error():
    sizes = ((3, 3), (1, 2))
    value, locations, weights = make_inputs(sizes)
    out, *grads = run(deformable_attention, sizes, (value, locations * 1e30 + 1e30, weights))
    for x in (out, *grads):
        assert (x == 0).all()


def test_what_is_not_a_number_stays_so():
    """A training run that diverges is to see NaN, not a crash."""
    sizes = ((3, 3), (2, 2))
    value, locations, weights = make_inputs(sizes, dtype=torch.float32)
    locations[0, 2, 0, 1, 0, 1] = float("nan")
    locations[1, 3, 0, 0, 0, 0] = float("inf")
    out, *grads = run(deformable_attention, sizes, (value, locations, weights))
    assert out[0, 2, :4].isnan().all() and out.isnan().sum() == 4
    assert all(x.shape == y.shape for x, y in zip(grads, (value, locations, weights)))


def test_no_queries():
    sizes = ((3, 3),)
    value, locations, weights = make_inputs(sizes, queries=0)
    out, d_value, *_ = run(deformable_attention, sizes, (value, locations, weights))
    assert out.shape == (2, 0, 8) and (d_value == 0).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda v, x, w: (v[:, :-1], x, w), r"value must be \(B, 16, M, D\)"),
        (lambda v, x, w: (v, x[..., :1], w), "locations must be"),
        (lambda v, x, w: (v, x, w[:, :-1]), "weights must have the shape of locations"),
    ],
)
def test_wrong_shapes_are_named(change, message):
    sizes = ((3, 5), (1, 1))
    with pytest.raises(ValueError, match=message):
        value, locations, weights = change(*make_inputs(sizes))
        deformable_attention(value, sizes, locations, weights)
