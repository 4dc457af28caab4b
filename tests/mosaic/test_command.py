"""Options of tiles that do not go together: refused before anything is read or written."""

import argparse

import pytest

from mask2former.mosaic.command import add_tile_arguments, check_tile_arguments, tile_options


def parse(*options):
    parser = argparse.ArgumentParser(prog="demo")
    add_tile_arguments(parser)
    args = parser.parse_args(options)
    check_tile_arguments(parser, args)
    return tile_options(args)


@pytest.mark.parametrize(
    ("options", "tile", "overlap"),
    [
        ((), None, None),
        (("--tile", "2"), 2, None),
        (("--tile", "331"), 331, None),
        (("--tile", "70", "--tile-overlap", "35"), 70, 35),
    ],
)
def test_options(options, tile, overlap):
    assert parse(*options) == {"tile": tile, "overlap": overlap, "channels": []}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--tile-overlap", "3"), "belong to --tile"),
        (("--channels", "3"), "belong to --tile"),
        (("--tile", "70", "--tile-overlap", "36"), "got tiles of 70 pixels and an overlap of 36"),
        (("--tile", "70", "--tile-overlap", "69"), "at least twice as large as their overlap"),
        (("--tile", "70", "--tile-overlap", "0"), "overlap by 1 pixel or more"),
        (("--tile", "1"), "got tiles of 1 pixels"),
        (("--tile", "-5"), "got tiles of -5 pixels"),
    ],
)
def test_what_does_not_go_together(options, message, capsys):
    with pytest.raises(SystemExit) as caught:
        parse(*options)
    assert caught.value.code == 2 and message in capsys.readouterr().err
