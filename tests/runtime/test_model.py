"""The runtime gives what the predictor gives: the same model behind both, on the same images."""

import itertools

import numpy as np
import pytest
from PIL import Image

from mask2former.predict import VideoPredictor
from mask2former.runtime import Runtime
from mask2former.tracks.scores import QueryScores
from mask2former.tracks.windows import Windows
from tests.modeling.small import tiny_model, tiny_video_model
from tests.runtime.exported import NAMES, image, pair, write_file


def assert_same(found: dict, expected: dict) -> None:
    """Compare results; of ties at a threshold, a pixel may differ."""
    assert set(found) == set(expected)
    if "panoptic_seg" in expected:
        ids, segments = expected["panoptic_seg"]
        assert found["panoptic_seg"][1] == segments
        assert (found["panoptic_seg"][0] != ids.numpy()).mean() < 1e-3
    if "sem_seg" in expected:
        np.testing.assert_allclose(found["sem_seg"], expected["sem_seg"], atol=1e-4)
    if "instances" in expected:
        assert_same_instances(found["instances"], expected["instances"])


def assert_same_instances(mine, theirs) -> None:
    order = theirs.scores.argsort(descending=True, stable=True)
    mine, theirs = mine[np.argsort(-mine.scores, kind="stable")], theirs[order]
    np.testing.assert_allclose(mine.scores, theirs.scores, rtol=1e-3, atol=1e-5)
    np.testing.assert_array_equal(mine.pred_classes, theirs.pred_classes)
    np.testing.assert_allclose(mine.pred_boxes, theirs.pred_boxes.tensor, atol=1)
    assert (mine.pred_masks != theirs.pred_masks.numpy()).mean() < 1e-3
    assert [rle["size"] for rle in mine.rles()] == [list(theirs.image_size)] * len(theirs)


@pytest.mark.parametrize("channels", ["RGB", "BGR"])
@pytest.mark.parametrize("size", [(50, 70), (33, 200), (128, 96)])
def test_an_image(tmp_path, monkeypatch, size, channels):
    predictor, runtime = pair(tiny_model(), tmp_path, monkeypatch, channel_order=channels)
    assert_same(runtime(image(*size)), predictor(image(*size)))


def test_a_batch_is_one_canvas_of_each_size(tmp_path, monkeypatch):
    predictor, runtime = pair(tiny_model(), tmp_path, monkeypatch)
    images = [image(50, 70), image(70, 50, 1), image(30, 30, 2)]
    for found, expected in zip(runtime(images), predictor(images), strict=True):
        assert_same(found, expected)
    assert runtime._session.seen == [(3, 3, 64, 64)]
    runtime._session.seen.clear()
    images = [image(50, 70), image(32, 200, 1), image(30, 30, 2)]
    for found, expected in zip(runtime(images), predictor(images), strict=True):
        assert_same(found, expected)
    assert runtime._session.seen == [(2, 3, 64, 64), (1, 3, 32, 64)]
    assert runtime([]) == []


@pytest.mark.parametrize(
    "values",
    [
        {"pixel_mean": (90.0, 110.0, 120.0)},
        {"channel_order": "BGR"},
        {"min_size": 44},
        {"object_mask_threshold": 0.9},
        {"thing_ids": (0,)},
    ],
)
def test_a_wrong_value_is_seen(tmp_path, monkeypatch, values):
    predictor, _ = pair(tiny_model(), tmp_path, monkeypatch)
    _, runtime = pair(tiny_model(), tmp_path, monkeypatch, **values)
    with pytest.raises(AssertionError):
        assert_same(runtime(image(48, 40)), predictor(image(48, 40)))


def test_semantic_alone_is_merged_before_it_is_resized(tmp_path, monkeypatch):
    switches = {"panoptic_on": False, "instance_on": False}
    model = tiny_model(sem_seg_postprocess_before_inference=False, **switches)
    values = switches | {"resize_before_merge": False}
    predictor, runtime = pair(model, tmp_path, monkeypatch, **values)
    assert_same(runtime(image()), predictor(image()))
    labels = Runtime(tmp_path / "model.onnx", semantic_output="labels")(image())["sem_seg"]
    assert labels.dtype == np.int32
    assert (labels != predictor(image())["sem_seg"].argmax(0).numpy()).mean() < 1e-3


def test_instances_of_all_classes_without_panoptic(tmp_path, monkeypatch):
    switches = {"panoptic_on": False, "semantic_on": False}
    predictor, runtime = pair(tiny_model(**switches), tmp_path, monkeypatch, **switches)
    assert_same(runtime(image()), predictor(image()))


def test_uint8_pads_with_the_rounded_mean(tmp_path, monkeypatch):
    predictor, runtime = pair(tiny_model(), tmp_path, monkeypatch, dtype=np.uint8)
    assert_same(runtime(image(48, 40)), predictor(image(48, 40)))


def test_files_images_and_folders(tmp_path, monkeypatch):
    _, runtime = pair(tiny_model(), tmp_path, monkeypatch)
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in (2, 10, 1):
        Image.fromarray(image(seed=number)).save(folder / f"{number}.png")
    results = list(runtime(folder))
    for found, number in zip(results, (1, 2, 10), strict=True):
        for given in (folder / f"{number}.png", Image.open(folder / f"{number}.png")):
            same = runtime(given)["panoptic_seg"]
            np.testing.assert_array_equal(found["panoptic_seg"][0], same[0])
    with pytest.raises(ValueError, match="expected a folder of images, it has none"):
        runtime(tmp_path)


def test_values_can_be_changed(tmp_path, monkeypatch):
    pair(tiny_model(), tmp_path, monkeypatch)
    path = tmp_path / "model.onnx"
    changed = Runtime(path, object_mask_threshold=0.999, topk=2, semantic_on=False)
    result = changed(image())
    assert set(result) == {"panoptic_seg", "instances"}
    assert result["panoptic_seg"][1] == [] and len(result["instances"]) <= 2
    with pytest.raises(TypeError, match="unexpected keyword argument 'threshold'"):
        Runtime(path, threshold=0.5)
    with pytest.raises(ValueError, match="topk: expected 1 or more, got 0"):
        Runtime(path, topk=0)


CLIP = {"kind": "clip", "panoptic_on": False, "semantic_on": False, "embeddings": True}


@pytest.mark.parametrize(
    ("frames", "window", "options"),
    [
        (1, 0, {}),
        (3, 0, {}),
        (3, 4, {}),
        (9, 4, {}),
        (9, 4, {"mask_quality": True, "duplicate_iou": 0.3}),
        (3, 0, {"mask_quality": True, "duplicate_iou": 0.3}),
    ],
)
def test_a_clip(tmp_path, monkeypatch, frames, window, options):
    model = tiny_video_model()
    model.windows, model.query_scores = Windows(window, min(1, window)), QueryScores(**options)
    values = CLIP | options | {"window": window, "window_overlap": 1}
    predictor, runtime = pair(model, tmp_path, monkeypatch, **values)
    clip = [image(seed=t) for t in range(frames)]
    found, expected = runtime.predict_clip(clip), predictor.predict_clip(clip)
    assert found["image_size"] == expected["image_size"] == (50, 70)
    assert len(found["pred_masks"][0]) == frames
    np.testing.assert_allclose(found["pred_scores"], expected["pred_scores"], rtol=1e-4)
    assert found["pred_labels"] == expected["pred_labels"]
    for mask, other in zip(found["pred_masks"], expected["pred_masks"], strict=True):
        assert (mask != other.numpy()).mean() < 1e-3


def follow_both(predictor, runtime, clip, **windows):
    """Compare the results of a video, frame by frame, and return the ids of each."""
    predictor.score_threshold, predictor.max_overlap = 0.3, 0.6
    frames = runtime.predict_frames(clip, score_threshold=0.3, max_overlap=0.6, **windows)
    ids = []
    for found, expected in zip(frames, predictor(clip), strict=True):
        mine, theirs = found["instances"], expected["instances"]
        np.testing.assert_array_equal(mine.track_ids, theirs.track_ids)
        np.testing.assert_array_equal(mine.pred_classes, theirs.pred_classes)
        np.testing.assert_allclose(mine.scores, theirs.scores, rtol=1e-4)
        assert (mine.pred_masks != theirs.pred_masks.numpy()).mean() < 1e-3
        ids.append(mine.track_ids.tolist())
    return ids


@pytest.mark.parametrize("options", [{}, {"mask_quality": True, "duplicate_iou": 0.3}])
def test_frames_of_a_clip(tmp_path, monkeypatch, options):
    model = tiny_video_model()
    model.query_scores = QueryScores(**options)
    values = CLIP | options
    predictor, runtime = pair(model, tmp_path, monkeypatch, predictor=VideoPredictor, **values)
    follow_both(predictor, runtime, [image(seed=t) for t in range(4)])
    assert runtime._session.seen == [(4, 3, 64, 64)]


def test_a_video_that_is_longer_than_the_window(tmp_path, monkeypatch):
    predictor, runtime = pair(
        tiny_video_model(), tmp_path, monkeypatch, predictor=VideoPredictor, window=8, **CLIP
    )
    predictor.windows = Windows(4, 1)
    clip = [image(seed=t) for t in range(11)]
    ids = follow_both(predictor, runtime, clip, window=4, overlap=1)
    assert any(ids) and len(ids) == 11
    assert {shape[0] for shape in runtime._session.seen} == {4}
    # Without the embeddings other objects are joined than with them.
    with pytest.raises(AssertionError):
        _, without = pair(tiny_video_model(), tmp_path, monkeypatch, **CLIP | {"embeddings": False})
        follow_both(predictor, without, clip, window=4, overlap=1)


def test_a_video_without_end_is_read_no_further_than_a_window(tmp_path, monkeypatch):
    _, runtime = pair(tiny_video_model(), tmp_path, monkeypatch, window=0, **CLIP)
    read = []

    def frames():
        for t in itertools.count():
            read.append(t)
            yield image(seed=t % 2)

    results = runtime.predict_frames(frames(), window=4)
    next(results)
    assert len(read) == 4
    assert len(list(itertools.islice(results, 6))) == 6
    assert len(read) <= 8
    next(runtime.predict_frames(frames()))
    assert runtime._session.seen[-1][0] == 16


def test_a_folder_of_frames_for_a_video_model(tmp_path, monkeypatch):
    _, runtime = pair(tiny_video_model(), tmp_path, monkeypatch, kind="clip")
    (tmp_path / "frames").mkdir()
    for t in range(3):
        Image.fromarray(image(seed=t)).save(tmp_path / "frames" / f"{t}.png")
    found = list(runtime(tmp_path / "frames"))
    expected = list(runtime.predict_frames(image(seed=t) for t in range(3)))
    assert len(found) == 3
    for mine, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(mine["instances"].pred_masks, other["instances"].pred_masks)
    with pytest.raises(FileNotFoundError, match=r"no\.mp4: expected a video file"):
        runtime(tmp_path / "no.mp4")


def test_a_video_with_a_model_for_images(tmp_path, monkeypatch):
    predictor, runtime = pair(tiny_model(), tmp_path, monkeypatch, predictor=VideoPredictor)
    clip = [image(seed=t // 2) for t in range(6)]
    predictor.score_threshold = 0.1
    results = runtime.predict_frames(iter(clip), score_threshold=0.1)
    for found, expected in zip(results, predictor(clip), strict=True):
        assert_same(found, expected)
        mine, theirs = found["instances"], expected["instances"]
        assert sorted(mine.track_ids.tolist()) == sorted(theirs.track_ids.tolist())
        assert len(mine) > 0


def test_wrong_inputs(tmp_path, monkeypatch):
    _, runtime = pair(tiny_model(), tmp_path, monkeypatch)
    with pytest.raises(FileNotFoundError, match=r"no\.jpg"):
        runtime(tmp_path / "no.jpg")
    with pytest.raises(ValueError, match=r"Cannot read .*model\.onnx: not an image"):
        runtime(tmp_path / "model.onnx")
    for value in (3, None, b"x", {"image": 1}):
        with pytest.raises(TypeError, match="expected an image as a path, a PIL image or an array"):
            runtime(value)
    with pytest.raises(ValueError, match=r"got \(4, 4, 4\) of uint8"):
        runtime(np.zeros((4, 4, 4), np.uint8))
    with pytest.raises(ValueError, match="this model is one for images"):
        runtime.predict_clip([image()])
    with pytest.raises(ValueError, match="finds its own masks"):
        runtime(image(), masks=np.ones((1, 50, 70), bool))


def test_wrong_clips(tmp_path, monkeypatch):
    _, runtime = pair(tiny_video_model(), tmp_path, monkeypatch, kind="clip", window=2)
    with pytest.raises(ValueError, match="of one size, got 70x50, and 50x70 for frame 1"):
        runtime.predict_clip([image(), image(70, 50)])
    with pytest.raises(ValueError, match="got no frame"):
        runtime.predict_clip([])
    with pytest.raises(ValueError, match="got a window of 2 frames and an overlap of 0"):
        runtime.predict_clip([image()] * 3)
    with pytest.raises(ValueError, match="got no frame"):
        runtime.predict_frames([])
    with pytest.raises(ValueError, match=r"of one size, got 70x50, and 50x70 for frame 1"):
        list(runtime.predict_frames([image(), image(70, 50)]))
    with pytest.raises(TypeError, match="expected the frames of a video, got str"):
        runtime.predict_clip("clip.mp4")
    with pytest.raises(ValueError, match="give the frames to predict_clip"):
        runtime(image())


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        ("panoptic", {"overlap_threshold": 0.5}),
        ("instance", {"topk": 3}),
        ("semantic", {"label_threshold": 0.1}),
        ("semantic", {"panoptic_on": True}),
    ],
)
def test_values_that_the_graph_has_fixed_stay(tmp_path, kind, changes):
    write_file(tmp_path / "model.onnx", postprocess=kind)
    (name,) = changes
    with pytest.raises(ValueError, match=f"{name}: the graph of this file makes its {kind} result"):
        Runtime(tmp_path / "model.onnx", **changes)


def test_names_and_ids_of_classes(tmp_path, monkeypatch):
    values = {"thing_categories": ((7, 0), (9, 2)), "colors": ((1, 2, 3),) * 3}
    _, runtime = pair(tiny_model(), tmp_path, monkeypatch, **values)
    assert runtime.classes["stuff_classes"] == list(NAMES)
    assert runtime.classes["thing_classes"] == ["cup", "dog"]
    assert runtime.classes["thing_dataset_id_to_contiguous_id"] == {7: 0, 9: 2}
    assert runtime.classes["stuff_dataset_id_to_contiguous_id"] == {0: 0, 1: 1, 2: 2}
    assert runtime.classes["stuff_colors"] == [[1, 2, 3]] * 3
    assert runtime._segmenter._is_thing.tolist() == [True, False, True]
