"""Merging of masks: a 6x6 panoptic example worked out by hand, plain references, edges."""

import math

import pytest
import torch
from torch.nn import functional as F

from mask2former.modeling.postprocessing import canvas
from mask2former.modeling.postprocessing.mergers import (
    Canvas,
    InstanceMerger,
    PanopticMerger,
    SemanticMerger,
    merge_masks,
)

SIX = Canvas((6, 6), (6, 6), (6, 6))
IS_THING = torch.tensor([True, False, True])  # classes: cat, sky, dog


def certain(labels, confidence):
    """Class logits (Q, 4) whose probability is `confidence` at the labels; 3 is no-object."""
    probs = torch.full((len(labels), 4), (1 - confidence) / 3)
    probs[range(len(labels)), labels] = confidence
    return probs.log()


def box_logits(*boxes, value=5.0):
    """Mask logits (n, 6, 6), positive inside of (y0, y1, x0, x1)."""
    masks = torch.full((len(boxes), 6, 6), -value)
    for mask, (y0, y1, x0, x1) in zip(masks, boxes):
        mask[y0:y1, x0:x1] = value
    return masks


def panoptic(class_logits, mask_logits, overlap=0.8, threshold=0.5):
    merger = PanopticMerger(class_logits, (6, 6), IS_THING, threshold, overlap)
    merge_masks(mask_logits, SIX, [merger])
    return merger.result()


def test_panoptic_6x6_by_hand():
    """Two pieces of sky, a cat over them, a dog almost hidden by the cat, an unsure query."""
    labels = [1, 0, 2, 1, 0]
    class_logits = certain(labels, 0.9)
    class_logits[1] = certain([0], 0.95)  # the cat wins where it overlaps
    class_logits[4] = certain([0], 0.4)  # below the threshold of 0.5
    masks = box_logits((0, 2, 0, 6), (1, 4, 1, 4), (2, 4, 2, 5), (4, 6, 0, 3), (0, 6, 0, 6))
    ids, segments = panoptic(class_logits, masks)
    # The dog wins 2 of its 6 pixels, less than 0.8, so these become void; sky keeps 9 of 12,
    # less than 0.8 too. The second sky is whole.
    expected = torch.zeros(6, 6, dtype=torch.int32)
    expected[1:4, 1:4] = 1
    expected[4:6, 0:3] = 2
    assert ids.dtype == torch.int32
    assert ids.tolist() == expected.tolist()
    assert segments == [
        {"id": 1, "isthing": True, "category_id": 0},
        {"id": 2, "isthing": False, "category_id": 1},
    ]


def test_stuff_shares_a_segment_and_things_do_not():
    masks = box_logits((0, 2, 0, 6), (2, 4, 0, 3), (2, 4, 3, 6), (4, 6, 0, 6))
    ids, segments = panoptic(certain([1, 0, 0, 1], 0.9), masks)
    assert [s["category_id"] for s in segments] == [1, 0, 0]
    assert ids[0, 0] == ids[5, 5] == 1
    assert (ids[2, 0], ids[2, 5]) == (2, 3)


def test_won_pixels_below_one_half_are_void():
    masks = torch.full((1, 6, 6), -0.1)
    masks[0, :3] = 2.0  # the lone query wins all 36 pixels, its mask has 18
    ids, segments = panoptic(certain([0], 0.9), masks)
    assert len(segments) == 1
    assert (ids[:3] == 1).all()
    assert (ids[3:] == 0).all()


def test_scores_of_segments():
    """A thing has that of its query, stuff the highest of its queries."""
    logits = torch.cat(
        [certain([label], p) for label, p in ((1, 0.9), (0, 0.7), (0, 0.8), (1, 0.95))]
    )
    merger = PanopticMerger(logits, (6, 6), IS_THING, 0.5, 0.8, scored=True)
    masks = box_logits((0, 2, 0, 6), (2, 4, 0, 3), (2, 4, 3, 6), (4, 6, 0, 6))
    merge_masks(masks, SIX, [merger])
    segments = merger.result()[1]
    assert [s["category_id"] for s in segments] == [1, 0, 0]
    assert [s["score"] for s in segments] == pytest.approx([0.95, 0.7, 0.8])


def test_equal_queries_the_first_wins():
    masks = box_logits((0, 6, 0, 6), (0, 6, 0, 6))
    ids, segments = panoptic(certain([0, 2], 0.9), masks)
    assert [s["category_id"] for s in segments] == [0]
    assert (ids == 1).all()


def test_no_query_is_sure():
    ids, segments = panoptic(certain([3, 3], 0.9), box_logits((0, 6, 0, 6), (0, 3, 0, 3)))
    assert segments == []
    assert ids.dtype == torch.int32
    assert (ids == 0).all()


def random_case(queries=7, classes=4, seed=0):
    generator = torch.Generator().manual_seed(seed)
    class_logits = torch.randn(queries, classes + 1, generator=generator) * 2
    return class_logits, torch.randn(queries, 5, 7, generator=generator) * 3


CANVAS = Canvas(padded=(20, 28), image=(17, 25), output=(11, 31))


def resized(mask_logits):
    """Both resizes of the published order, for all masks."""
    x = F.interpolate(mask_logits[None], (20, 28), mode="bilinear", align_corners=False)
    x = x[:, :, :17, :25]
    return F.interpolate(x, (11, 31), mode="bilinear", align_corners=False)[0]


@pytest.fixture(autouse=True, params=[True, False], ids=["with_grad", "without"])
def gradients(request):
    """Without gradients memory is used again from block to block."""
    with torch.set_grad_enabled(request.param):
        yield


def test_semantic_agrees_with_the_plain_sum(monkeypatch):
    class_logits, mask_logits = random_case()
    probs = class_logits.softmax(-1)[:, :-1]
    expected = torch.einsum("qk,qhw->khw", probs, resized(mask_logits).sigmoid())
    for pixels in (1, 700, 10**6):  # one row at a time, three, all
        monkeypatch.setattr(canvas, "_PIXELS_PER_BLOCK", {"cpu": pixels})
        monkeypatch.setattr(canvas, "_MIN_ROWS", 1)
        merger = SemanticMerger(class_logits, CANVAS.output)
        merge_masks(mask_logits, CANVAS, [merger])
        torch.testing.assert_close(merger.result(), expected)


@pytest.mark.parametrize("topk", [3, 12, 1000])
@pytest.mark.parametrize("things_only", [False, True])
def test_instances_agree_with_a_loop(topk, things_only):
    class_logits, mask_logits = random_case()
    is_thing = torch.tensor([True, False, True, False]) if things_only else None
    merger = InstanceMerger(class_logits, CANVAS.output, topk, is_thing)
    merge_masks(mask_logits, CANVAS, [merger])
    got = merger.result()

    probs, masks = class_logits.softmax(-1)[:, :-1], resized(mask_logits)
    pairs = sorted(((p.item(), i) for i, p in enumerate(probs.flatten())), reverse=True)[:topk]
    expected = []
    for p, i in pairs:
        query, label = divmod(i, 4)
        if things_only and not is_thing[label]:
            continue
        mask = masks[query] > 0
        quality = (masks[query].sigmoid() * mask).sum() / (mask.sum() + 1e-6)
        expected.append((p * quality.item(), label, mask))
    order = got.scores.argsort(descending=True)
    expected.sort(key=lambda x: -x[0])
    assert len(got) == len(expected)
    for i, (score, label, mask) in zip(order.tolist(), expected):
        assert got.scores[i].item() == pytest.approx(score, abs=1e-5)
        assert got.pred_classes[i] == label
        assert torch.equal(got.pred_masks[i], mask)
        ys, xs = mask.nonzero(as_tuple=True)
        box = [xs.min(), ys.min(), xs.max() + 1, ys.max() + 1] if mask.any() else [0] * 4
        assert got.pred_boxes.tensor[i].tolist() == [float(v) for v in box]


def test_outputs_together_equal_outputs_alone(monkeypatch):
    monkeypatch.setattr(canvas, "_PIXELS_PER_BLOCK", {"cpu": 700})
    monkeypatch.setattr(canvas, "_MIN_ROWS", 1)
    class_logits, mask_logits = random_case()
    is_thing = torch.tensor([True, False, True, False])

    def make():
        return [
            SemanticMerger(class_logits, CANVAS.output),
            PanopticMerger(class_logits, CANVAS.output, is_thing, 0.3, 0.5),
            InstanceMerger(class_logits, CANVAS.output, 4),
        ]

    together, alone = make(), make()
    merge_masks(mask_logits, CANVAS, together)
    for merger in alone:
        merge_masks(mask_logits, CANVAS, [merger])
    torch.testing.assert_close(together[0].result(), alone[0].result())
    (ids, segments), (other_ids, other_segments) = together[1].result(), alone[1].result()
    assert torch.equal(ids, other_ids)
    assert segments == other_segments
    assert segments  # the case is not empty
    assert torch.equal(together[2].result().pred_masks, alone[2].result().pred_masks)


@pytest.fixture
def three_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


@torch.no_grad()
def test_the_number_of_threads_changes_no_bit(monkeypatch, three_threads):
    class_logits, mask_logits = random_case(queries=9)
    size = (97, 64)
    monkeypatch.setattr(canvas, "_PIXELS_PER_BLOCK", {"cpu": 9 * 64 * 4})  # 25 blocks
    results = []
    for threads in (3, 1):
        torch.set_num_threads(threads)
        panoptic = PanopticMerger(class_logits, size, IS_THING.repeat(2), 0.0, 0.1)
        mergers = [
            SemanticMerger(class_logits, size),
            panoptic,
            InstanceMerger(class_logits, size, 9),
        ]
        merge_masks(mask_logits, Canvas(size, size, size), mergers)
        results.append([merger.result() for merger in mergers])
    (scores, (ids, segments), found), (scores1, (ids1, segments1), found1) = results
    assert torch.equal(scores, scores1)
    assert torch.equal(ids, ids1)
    assert segments == segments1
    assert segments
    for name in ("pred_masks", "scores", "pred_classes"):
        assert torch.equal(found.get(name), found1.get(name))
    assert torch.equal(found.pred_boxes.tensor, found1.pred_boxes.tensor)


@torch.no_grad()
def test_a_merger_that_needs_rows_in_order_gets_them_so(monkeypatch, three_threads):
    class Rows:
        queries, seen = torch.arange(7), []

        def add(self, rows, mask_logits, mask_probs):
            self.seen.append(rows.start)

    class_logits, mask_logits = random_case()
    monkeypatch.setattr(canvas, "_PIXELS_PER_BLOCK", {"cpu": 1})
    size = (40, 30)
    merge_masks(mask_logits, Canvas(size, size, size), [Rows(), SemanticMerger(class_logits, size)])
    assert Rows.seen == list(range(0, 40, canvas._MIN_ROWS))


def test_panoptic_does_not_depend_on_the_order_of_queries():
    class_logits, mask_logits = random_case()
    is_thing = torch.tensor([True] * 4)
    order = torch.tensor([3, 0, 6, 1, 5, 2, 4])
    results = []
    for logits, masks in ((class_logits, mask_logits), (class_logits[order], mask_logits[order])):
        merger = PanopticMerger(logits, CANVAS.output, is_thing, 0.3, 0.3)
        merge_masks(masks, CANVAS, [merger])
        ids, segments = merger.result()
        table = torch.tensor([-1] + [s["category_id"] for s in segments])
        results.append(table[ids.long()])
    assert torch.equal(*results)
    assert results[0].max() >= 0


def test_no_instances_left():
    class_logits = torch.tensor([[-9.0, 9.0, -9.0, -9.0]])  # stuff only
    merger = InstanceMerger(class_logits, (6, 6), 1, torch.tensor([True, False, True]))
    merge_masks(torch.zeros(1, 6, 6), SIX, [merger])
    got = merger.result()
    assert len(got) == 0
    assert got.pred_masks.shape == (0, 6, 6)
    assert got.pred_boxes.tensor.shape == (0, 4)


def test_one_pixel():
    small = Canvas((32, 32), (1, 1), (1, 1))
    merger = SemanticMerger(torch.zeros(1, 3), small.output)
    merge_masks(torch.zeros(1, 8, 8), small, [merger])
    assert merger.result().flatten().tolist() == pytest.approx([1 / 6, 1 / 6])


def test_score_is_class_times_mask_probability_by_hand():
    merger = InstanceMerger(certain([0], 0.8), (6, 6), 1)
    merge_masks(box_logits((0, 1, 0, 2), value=math.log(3.0)), SIX, [merger])
    assert merger.result().scores.item() == pytest.approx(0.8 * 0.75, abs=1e-5)
