"""The classes of a model in configs, checkpoints and metadata: values by hand, errors."""

import pytest
from detectron2.data import Metadata, MetadataCatalog

from mask2former.classes import Classes, list_some, metadata_of
from mask2former.config import get_config, load_config

RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)
CLASSES = Classes(("cat", "sky", "dog"), (0, 2), (RED, GREEN, BLUE))
THINGS = {"thing_classes": ["cat", "dog"], "thing_colors": [RED, BLUE]}
ALL = {"stuff_classes": ["cat", "sky", "dog"], "stuff_colors": [RED, GREEN, BLUE]}
IDS = {"thing_dataset_id_to_contiguous_id": {9: 2, 7: 0}}


@pytest.fixture(autouse=True)
def _own_catalog(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MetadataCatalog, "data", {})


@pytest.mark.parametrize(
    ("entries", "names", "expected"),
    [
        (THINGS | ALL | IDS, ALL["stuff_classes"], CLASSES),
        (THINGS | ALL | IDS, ["cat", "dog"], Classes(("cat", "dog"), (0, 1), (RED, BLUE))),
        (THINGS, ["cat", "dog"], Classes(("cat", "dog"), (0, 1), (RED, BLUE))),
        (ALL, ALL["stuff_classes"], Classes(("cat", "sky", "dog"), (), (RED, GREEN, BLUE))),
        ({"stuff_classes": ["sky"]}, ["sky"], Classes(("sky",))),
        # Stuff with numbers of its own, as detectron2's separated panoptic datasets have it.
        ({"stuff_classes": ["things", "sky"], **THINGS, **IDS}, ["things", "sky"],
         Classes(("things", "sky"))),
    ],
)  # fmt: skip
def test_from_metadata(entries, names, expected):
    assert Classes.from_metadata(Metadata(name="x", **entries), names) == expected


def test_to_metadata_and_back():
    metadata = CLASSES.to_metadata("mine")
    assert metadata.as_dict() == {
        "name": "mine",
        "stuff_classes": ["cat", "sky", "dog"],
        "stuff_colors": [[255, 0, 0], [0, 255, 0], [0, 0, 255]],
        "stuff_dataset_id_to_contiguous_id": {0: 0, 1: 1, 2: 2},
        "thing_classes": ["cat", "dog"],
        "thing_colors": [[255, 0, 0], [0, 0, 255]],
        "thing_dataset_id_to_contiguous_id": {0: 0, 2: 2},
    }
    assert Classes.from_metadata(metadata, ["cat", "sky", "dog"]) == CLASSES
    # Without things nothing is said about them, so that panoptic output asks which they are.
    assert "thing_dataset_id_to_contiguous_id" not in Classes(("sky",)).to_metadata().as_dict()


def test_through_a_config_file(tmp_path):
    """Names that yaml would read as something else survive, as do signs of other scripts."""
    classes = Classes(("off", "1", "null", "狗", "a: b"), (0, 3))
    cfg = get_config()
    assert Classes.from_config(cfg) is None
    cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES = 5
    written = classes.in_config(cfg)
    assert cfg.MODEL.CLASSES.NAMES == []
    (tmp_path / "c.yaml").write_text(written.dump())
    assert Classes.from_config(load_config(tmp_path / "c.yaml")) == classes


def test_through_a_checkpoint():
    assert Classes.from_checkpoint({"classes": CLASSES.to_plain(), "iteration": 3}) == CLASSES


@pytest.mark.parametrize(
    "entry",
    [None, 7, "cat", "[1]", "[" * 9999, ["cat"], {}, *({"names": n} for n in ([], {0: "a"}, [2j]))],
)
def test_entries_of_other_projects_are_passed_over(entry):
    assert Classes.from_checkpoint({"classes": entry}) is None
    assert Classes.from_checkpoint({}) is None


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"NAMES": ["cat", False]}, "MODEL.CLASSES: names, position 1: the name of a class has to"),
        ({"NAMES": ["cat", "cat"]}, "names: the name 'cat' is at the positions 0 and 1"),
        ({"NAMES": "cat"}, "names expects a list, got 'cat'"),
        ({"THING_IDS": [0, 2]}, r"thing_ids expects positions in names, 0 to 1, got 2"),
        ({"THING_IDS": [True]}, "thing_ids expects positions in names, 0 to 1, got True"),
        ({"COLORS": [[1, 2, 3]]}, "colors expects .* for each of the 2 names, or nothing"),
        ({"COLORS": [[1, 2, 3], [1, 2, 256]]}, "colors expects .* in 0 to 255"),
        ({"COLORS": [[1, 2, 3], [1, 2]]}, "colors expects"),
    ],
)
def test_configs_that_cannot_be_used(values, message):
    cfg = get_config()
    cfg.MODEL.CLASSES.NAMES = ["cat", "dog"]
    for key, value in values.items():
        cfg.MODEL.CLASSES[key] = value
    with pytest.raises(ValueError, match=message):
        Classes.from_config(cfg)


def test_difference():
    ours, theirs = Classes(("cat", "dog", "cow", "hen")), Classes(("dog", "cat", "cow", "ox"))
    assert ours.moved(theirs) == ["cat", "dog"]
    assert ours.difference(theirs, "a", "b") == (
        "only in a: hen; only in b: ox; at other positions (in a, in b): cat (0, 1), dog (1, 0)"
    )
    assert ours.difference(Classes(ours.names, (1,)), "a", "b") == ""


def test_long_lists_of_names_are_cut():
    assert list_some("abcdefg") == "a, b, c, d, e and 2 more"
    assert list_some([]) == list_some(None) == "none"


def test_metadata_of_a_dataset_fit_only_in_the_order_of_the_model():
    cfg = get_config()
    known = MetadataCatalog.get("mine").set(**ALL)
    assert metadata_of(cfg, "mine") is known
    assert metadata_of(cfg, None) is None
    CLASSES.write(cfg)
    assert metadata_of(cfg, "mine") is known
    for dataset in ("gone", None):
        assert metadata_of(cfg, dataset).stuff_classes == ["cat", "sky", "dog"]
    other = MetadataCatalog.get("other").set(stuff_classes=["sky", "cat", "dog"])
    assert metadata_of(cfg, "other") is not other
    assert metadata_of(cfg, "other").stuff_colors == [list(RED), list(GREEN), list(BLUE)]
