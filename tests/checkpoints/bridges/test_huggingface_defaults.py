"""Keys that a config.json lacks: what transformers takes for them, and files that are odd."""

import json

import numpy as np
import pytest

from mask2former.checkpoints.bridges import convert
from mask2former.checkpoints.bridges.eomt_config import from_eomt_config
from mask2former.checkpoints.bridges.huggingface_config import (
    from_huggingface_config,
    to_huggingface_config,
)
from mask2former.checkpoints.bridges.huggingface_defaults import (
    DEFAULT_BACKBONE,
    DEFAULTS,
    NUM_LABELS,
)
from mask2former.errors import UserError
from tests.checkpoints.bridges.small_huggingface import assert_parity, randomise, small_config

transformers = pytest.importorskip("transformers")
# Keys of their classes that change neither outputs nor losses, or follow from others.
WITHOUT_INFLUENCE = {
    "mask2former": {"init_std", "init_xavier_std", "output_auxiliary_logits", "backbone_config"},
    "swin": {"initializer_range", "encoder_stride", "num_layers", "hidden_size"},
    "resnet": set(),
}
STAGES = {"out_features", "out_indices", "stage_names"}  # all four are needed
PLAIN = {"model_type": "mask2former"}
SWIN = {"model_type": "swin", "out_features": ["stage1", "stage2", "stage3", "stage4"]}
RESNET = SWIN | {"model_type": "resnet"}


def as_in_json(values):
    return {k: list(value) if isinstance(value, tuple) else value for k, value in values.items()}


@pytest.mark.parametrize("kind", ["mask2former", "swin", "resnet"])
def test_defaults_are_those_of_transformers(kind):
    """All keys of the class itself: those of every model's config are transformers' own."""
    theirs = as_in_json(transformers.CONFIG_MAPPING[kind]().to_dict())
    common = set(transformers.PreTrainedConfig().to_dict())
    keys = set(theirs) - common - WITHOUT_INFLUENCE[kind] - STAGES - {"model_type"}
    assert keys == set(DEFAULTS[kind])
    assert {key: theirs[key] for key in keys} == DEFAULTS[kind]


def test_default_backbone_and_classes_are_those_of_transformers():
    config = transformers.Mask2FormerConfig()
    backbone = as_in_json(config.backbone_config.to_dict())
    expected = DEFAULTS["swin"] | DEFAULT_BACKBONE
    assert {key: backbone[key] for key in expected} == expected
    assert config.num_labels == NUM_LABELS


def test_defaults_of_the_image_processor_are_those_of_transformers():
    theirs = as_in_json(transformers.Mask2FormerImageProcessor().to_dict())
    for kind, found in [("image processor", theirs), ("size", theirs["size"])]:
        assert {key: found[key] for key in DEFAULTS[kind]} == DEFAULTS[kind]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"do_rescale": False},
        {"rescale_factor": 1 / 127.5, "image_mean": [1.0] * 3, "image_std": [1.0] * 3},
        {"do_normalize": False},
        {"do_rescale": False, "do_normalize": False},
    ],
)
def test_pixels_are_those_of_the_image_processor(options, tmp_path):
    """Of images that keep their size."""
    processor = transformers.Mask2FormerImageProcessor(
        size={"shortest_edge": 64, "longest_edge": 96}, **options
    )
    processor.save_pretrained(tmp_path)
    saved = json.loads((tmp_path / "preprocessor_config.json").read_text())
    cfg = from_huggingface_config(PLAIN, saved)
    image = np.random.default_rng(0).integers(0, 256, (64, 96, 3), np.uint8)
    expected = processor(image, return_tensors="np")["pixel_values"][0]
    found = (image - np.array(cfg.MODEL.PIXEL_MEAN)) / np.array(cfg.MODEL.PIXEL_STD)
    np.testing.assert_allclose(found.transpose(2, 0, 1), expected, rtol=1e-4, atol=1e-4)


def test_two_classes_are_what_a_saved_folder_does_not_name(tmp_path):
    config, _ = to_huggingface_config(small_config("swin"))
    del config["id2label"], config["label2id"]
    theirs = transformers.Mask2FormerForUniversalSegmentation(
        transformers.Mask2FormerConfig.from_dict(config)
    )
    randomise(theirs).save_pretrained(tmp_path / "hf")
    saved = convert.read_folder(tmp_path / "hf")[1]
    assert "id2label" not in saved and "num_labels" not in saved
    model, cfg = convert.huggingface_to_ours(tmp_path / "hf", tmp_path / "ours.safetensors")
    assert cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES == 2 and cfg.MODEL.CLASSES.NAMES == []
    assert_parity(model, tmp_path / "hf")


@pytest.mark.parametrize("backbone", [None, SWIN, RESNET])
def test_an_empty_config_is_what_transformers_makes_of_it(backbone):
    given = PLAIN | ({"backbone_config": backbone} if backbone else {})
    cfg = from_huggingface_config(given, {})
    full = transformers.Mask2FormerConfig.from_dict(given).to_dict()
    assert from_huggingface_config(full, {}) == cfg  # of every key, written out
    assert cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES == 2
    if backbone is None:
        assert cfg.MODEL.SWIN.DEPTHS == [2, 2, 18, 2] and cfg.MODEL.SWIN.DROP_PATH_RATE == 0.3
    elif backbone is SWIN:
        assert cfg.MODEL.SWIN.DEPTHS == [2, 2, 6, 2] and cfg.MODEL.SWIN.DROP_PATH_RATE == 0.1


@pytest.mark.parametrize(
    ("labels", "number", "names"),
    [
        ({"num_labels": 3}, 3, []),
        ({"id2label": None, "num_labels": None}, 2, []),
        ({"id2label": {0: "cat", 1: "dog"}}, 2, ["cat", "dog"]),
        ({"id2label": {"1": "dog", "0": "cat"}, "num_labels": 5}, 2, ["cat", "dog"]),
        ({"num_labels": 100_000}, 100_000, []),
    ],
)
def test_classes(labels, number, names):
    cfg = from_huggingface_config(PLAIN | labels, {})
    assert number == cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES and names == cfg.MODEL.CLASSES.NAMES


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (
            {"id2label": ["a", "b"]},
            r"id2label: expected names of classes by number, got \['a', 'b'\]",
        ),
        ({"id2label": {}}, "id2label: expected names"),
        ({"id2label": {"a": 1}}, "id2label: expected names"),
        ({"num_labels": 0}, "num_labels: expected 1 to 100000, got 0"),
        ({"num_labels": "2"}, "num_labels: expected 1 to 100000, got '2'"),
        ({"num_labels": 10**15}, "num_labels: expected 1 to 100000, got 10"),
        ({"decoder_layers": 10**9}, "mask2former: decoder_layers: expected 1000 at most, got 10"),
        ({"hidden_dim": 10**9}, "mask2former: hidden_dim: expected 100000 at most, got 10"),
        ({"decoder_layers": "many"}, "mask2former: decoder_layers: .* such as 10, got 'many'"),
        ({"num_queries": -1}, "num_queries: expected a value such as 100, got -1"),
        ({"pre_norm": 1}, "pre_norm: expected a value such as False, got 1"),
        ({"common_stride": 0}, "common_stride: expected a value such as 4, got 0"),
        ({"common_stride": 16}, "mask2former: common_stride: expected 8 at most, got 16"),
        ({"num_queries": 0}, "num_queries: expected a value such as 100, got 0"),
        ({"dropout": 1.5}, "dropout: expected a value such as 0.0, got 1.5"),
        ({"backbone_config": SWIN | {"num_heads": [3, 0, 12, 24]}}, "swin: num_heads: "),
        ({"backbone_config": SWIN | {"drop_path_rate": 1.5}}, "swin: drop_path_rate: "),
        ({"feature_size": 64}, "feature_size and hidden_dim differ"),
        ({"activation_function": "gelu"}, "activation_function: 'relu' alone"),
        ({"encoder_feedforward_dim": 512}, "encoder_feedforward_dim: 1024 alone"),
        ({"enforce_input_projection": True}, "enforce_input_projection: False alone"),
        ({"feature_strides": [4, 8, 16, 64]}, "feature_strides: "),
        ({"backbone": "resnet50"}, "expected a swin or resnet backbone, got 'resnet50'"),
        ({"backbone_config": ["swin"]}, "expected a swin or resnet backbone"),
        ({"backbone_config": {}}, "expected a swin or resnet backbone, got None"),
        ({"backbone_config": {"model_type": "swin"}}, "out_features to be .*, got None"),
        ({"backbone_config": SWIN | {"depths": [2, 2]}}, "swin: depths: "),
        ({"backbone_config": SWIN | {"depths": [2, 10**9, 6, 2]}}, "depths: expected 1000 at most"),
        ({"backbone_config": SWIN | {"mlp_ratio": 1e9}}, "mlp_ratio: expected 100000 at most"),
        ({"backbone_config": SWIN | {"depths": 2}}, "swin: depths: .*got 2"),
        ({"backbone_config": SWIN | {"embed_dim": None, "patch_size": [4, 2]}}, "swin: patch_size"),
        ({"backbone_config": SWIN | {"layer_norm_eps": 1e-6}}, "layer_norm_eps: 1e-05 alone"),
        ({"backbone_config": SWIN | {"hidden_act": "relu"}}, "hidden_act: 'gelu' alone"),
        ({"backbone_config": RESNET | {"hidden_sizes": []}}, "resnet: hidden_sizes"),
        ({"backbone_config": RESNET | {"hidden_sizes": [1, 2, 4, 9]}}, "each twice the one before"),
        ({"backbone_config": RESNET | {"downsample_in_first_stage": True}}, "False alone"),
        ({"backbone_config": RESNET | {"depths": [1, 1, 1, 1]}}, "no ResNet with stages of"),
        (
            {
                "backbone_config": RESNET
                | {"layer_type": "basic", "depths": [2] * 4, "hidden_sizes": [16, 32, 64, 128]}
            },
            "from 64 on with basic layers",
        ),
        ({"backbone_config": RESNET | {"hidden_sizes": [6, 12, 24, 48]}}, "a multiple of 4"),
        ({"backbone_config": SWIN | {"patch_size": 2}}, "swin: patch_size: 4 alone"),
    ],
)
def test_odd_values_are_refused_by_name(config, message):
    with pytest.raises(UserError, match=message):
        from_huggingface_config(PLAIN | config, {})


def test_odd_image_processors():
    for key, value in [
        ("image_mean", "x"),
        ("image_std", [1.0]),
        ("image_std", [1.0, 1.0, float("inf")]),
        ("size_divisor", -1),
    ]:
        with pytest.raises(UserError, match=f"image processor: {key}"):
            from_huggingface_config(PLAIN, {key: value})
    for key, value in [("rescale_factor", 0.0), ("image_std", [0.0, 1.0, 1.0])]:
        with pytest.raises(UserError, match=f"image processor: {key}: expected more than 0"):
            from_huggingface_config(PLAIN, {key: value})
    with pytest.raises(UserError, match="size: shortest_edge"):
        from_huggingface_config(PLAIN, {"size": {"height": "x", "width": 4}})


@pytest.mark.parametrize(
    ("preprocessor", "expected"),
    [
        ({"size": None}, (800, 1333)),
        ({"size": 640}, (640, 1333)),
        ({"size": 640, "max_size": 2560}, (640, 2560)),  # as before transformers 4.27
        ({"size": {"height": 384, "width": 512}}, (384, 1333)),
        ({"size": {"height": 2000, "width": 3000}}, (2000, 3000)),
        ({"size": {"shortest_edge": 640}, "do_resize": False}, (0, 1333)),
    ],
)
def test_sizes_of_images(preprocessor, expected, caplog):
    cfg = from_huggingface_config(PLAIN, preprocessor)
    assert expected == (cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST)
    assert ("whatever their shape" in caplog.text) == ("height" in str(preprocessor))
    assert "resample" not in caplog.text
    from_huggingface_config(PLAIN, {"resample": 3})
    assert "resample 3: images are resized bilinearly here" in caplog.text


def test_stages_by_index_and_sides_as_pairs():
    backbone = {"model_type": "swin", "out_indices": [1, 2, 3, 4], "patch_size": [4, 4]}
    cfg = from_huggingface_config(PLAIN | {"backbone_config": backbone}, {})
    assert cfg.MODEL.SWIN.PATCH_SIZE == 4


@pytest.mark.parametrize("value", [10**400, 1e10], ids=["beyond floats", "1e10"])
@pytest.mark.parametrize("name", ["image_mean", "image_std", "rescale_factor"])
def test_numbers_that_no_pixel_has_are_refused(name, value):
    given = {name: value if name == "rescale_factor" else [0.5, value, 0.5]}
    with pytest.raises(UserError, match=f"image processor: {name}: expected numbers up to 1e"):
        from_huggingface_config(PLAIN, given)


@pytest.mark.parametrize("key", ["num_hidden_layers", "num_blocks", "num_upscale_blocks"])
def test_layers_that_no_model_has_are_refused(key):
    with pytest.raises(UserError, match=f"eomt: {key}: expected 1000 at most, got 1000000000"):
        from_eomt_config({"model_type": "eomt", key: 10**9}, {})


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"size": {"longest_edge": 10**9}}, "size: longest_edge: expected 100000 at most, got 10"),
        ({"size_divisor": 10**9}, "image processor: size_divisor: expected 100000 at most"),
    ],
)
def test_sides_that_no_photo_has_are_refused(given, message):
    with pytest.raises(UserError, match=message):
        from_huggingface_config(PLAIN, given)
