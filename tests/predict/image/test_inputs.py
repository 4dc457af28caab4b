"""Images in every form that the predictor takes, worked out by hand; errors with their message."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mask2former.predict.image import Predictor
from tests.predict.image.conftest import BLUE, COLOUR, GREEN, RED, colour_that_arrived


@pytest.fixture(params=["path", "str", "pil", "bgr array", "rgb array"])
def source(request, photo: Image.Image, tmp_path: Path):
    """The photo in every form, and the order of channels to tell the predictor."""
    path = tmp_path / "photo.png"
    photo.save(path)
    rgb = np.asarray(photo)
    forms = {"path": path, "str": str(path), "pil": photo}
    forms |= {"bgr array": rgb[:, :, ::-1], "rgb array": rgb}
    return forms[request.param], "RGB" if request.param == "rgb array" else "BGR"


@pytest.mark.parametrize(
    ("model_format", "expected"), [("RGB", (RED, GREEN, BLUE)), ("BGR", (BLUE, GREEN, RED))]
)
def test_the_model_gets_its_order_of_channels(cfg, source, model_format: str, expected):
    cfg.INPUT.FORMAT = model_format
    image, array_format = source
    predictor = Predictor(cfg, array_format=array_format)
    assert predictor(image)["size"] == (8, 12)
    assert colour_that_arrived(predictor) == expected


def test_arrays_are_bgr_unless_told(cfg, photo: Image.Image):
    cfg.INPUT.FORMAT = "BGR"
    predictor = Predictor(cfg)
    predictor(np.asarray(photo))
    assert colour_that_arrived(predictor) == COLOUR


@pytest.mark.parametrize("form", ["L", "LA", "RGBA", "P", "CMYK"])
def test_other_modes(cfg, form: str, tmp_path: Path):
    cfg.INPUT.FORMAT = "RGB"
    # 102 is a grey that the palette of "P" has.
    grey = Image.new("RGB", (12, 8), (102, 102, 102)).convert(form)
    path = tmp_path / ("grey.tif" if form == "CMYK" else "grey.png")
    grey.save(path)
    predictor = Predictor(cfg)
    for image in (grey, path):
        predictor(image)
        assert colour_that_arrived(predictor) == (102, 102, 102)
    predictor(np.full((8, 12), 102, np.uint8))
    assert colour_that_arrived(predictor) == (102, 102, 102)


def test_sixteen_bits(cfg, tmp_path: Path):
    """65535 is white; Pillow alone would clip all above 255."""
    image = Image.fromarray(np.full((8, 12), 102 * 257, np.uint16))
    image.save(tmp_path / "grey.png")
    predictor = Predictor(cfg)
    for given in (image, tmp_path / "grey.png"):
        predictor(given)
        assert colour_that_arrived(predictor) == (102, 102, 102)


RAMP = np.arange(96, dtype=np.uint8).reshape(8, 12) * np.uint8(2)


@pytest.mark.parametrize(
    "array",
    [
        RAMP,
        RAMP * np.uint16(16),
        RAMP * np.uint16(257),
        RAMP.astype(np.int16) * np.int16(16),
        (RAMP / 255).astype(np.float32),
        RAMP.astype(np.float32),
        RAMP > 90,
    ],
)
def test_a_photo_is_the_same_as_file_and_image_and_array(cfg, array, tmp_path: Path):
    photo = Image.fromarray(array)
    photo.save(tmp_path / "photo.tif")
    predictor = Predictor(cfg)
    forms = [tmp_path / "photo.tif", photo, array, np.dstack([array] * 3)]
    predictor(forms)
    arrived = [x["image"] for x in predictor.model.calls[0]]
    expected = RAMP if array.dtype != bool else array * np.uint8(255)
    for image in arrived:
        np.testing.assert_array_equal(image, np.stack([expected] * 3))


def test_very_thin_photos_keep_a_pixel(cfg):
    predictor = Predictor(cfg)
    predictor([np.zeros((1, 10000, 3), np.uint8), np.zeros((10000, 1, 3), np.uint8)])
    shapes = [tuple(x["image"].shape) for call in predictor.model.calls for x in call]
    assert shapes == [(3, 1, 100), (3, 100, 1)]


@pytest.mark.parametrize("value", [None, 3, b"a.png", {"image": 1}, torch.zeros(8, 12, 3), [None]])
def test_what_is_no_image_is_named(cfg, value):
    name = type(value[0] if isinstance(value, list) else value).__name__
    with pytest.raises(TypeError, match=f"expected an image as a path, .* got {name}"):
        Predictor(cfg)(value)


@pytest.mark.parametrize("frames", [None, "clip.mp4", Image.new("RGB", (4, 4))])
def test_what_is_no_clip_is_named(cfg, frames):
    with pytest.raises(TypeError, match=f"the frames of a video, got {type(frames).__name__}"):
        Predictor(cfg).predict_clip(frames)


def test_exif_rotation_can_be_turned_off(cfg, photo: Image.Image, tmp_path: Path):
    exif = Image.Exif()
    exif[0x0112] = 6
    photo.save(tmp_path / "turned.jpg", exif=exif)
    cfg.INPUT.EXIF_ROTATION = False
    predictor = Predictor(cfg)
    for given in (tmp_path / "turned.jpg", Image.open(tmp_path / "turned.jpg")):
        assert predictor(given)["size"] == (8, 12)


def test_exif_rotation(cfg, photo: Image.Image, tmp_path: Path):
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees
    photo.save(tmp_path / "turned.jpg", exif=exif)
    predictor = Predictor(cfg)
    assert predictor(tmp_path / "turned.jpg")["size"] == (12, 8)
    assert predictor(Image.open(tmp_path / "turned.jpg"))["size"] == (12, 8)


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((8, 12, 3), np.complex64),
        np.zeros((3, 8, 12), np.uint8),
        np.zeros((8, 12, 4), np.uint8),
        np.zeros((0, 12, 3), np.uint8),
        np.zeros(8, np.uint8),
    ],
)
def test_other_arrays_are_refused(cfg, array: np.ndarray):
    with pytest.raises(ValueError, match=r"expected an image as an array \(H, W, 3\)") as info:
        Predictor(cfg)(array)
    assert f"{array.shape} of {array.dtype}" in str(info.value)


def test_bad_files(cfg, tmp_path: Path, photo: Image.Image):
    predictor = Predictor(cfg)
    with pytest.raises(FileNotFoundError, match=r"absent\.png"):
        predictor(tmp_path / "absent.png")
    (tmp_path / "text.png").write_text("no image")
    with pytest.raises(ValueError, match=r"text\.png"):
        predictor([photo, tmp_path / "text.png"])


def test_formats_are_checked(cfg):
    with pytest.raises(ValueError, match="array_format is 'BGR' or 'RGB', got 'HSV'"):
        Predictor(cfg, array_format="HSV")
    cfg.INPUT.FORMAT = "L"
    with pytest.raises(ValueError, match=r"INPUT\.FORMAT is 'BGR' or 'RGB' here, got 'L'"):
        Predictor(cfg)
