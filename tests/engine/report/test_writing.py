"""Pages about runs: what is on them, that nothing is loaded from elsewhere, errors."""

import base64
import io
import json
import re
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from mask2former.engine.report import write_report
from mask2former.engine.report.command import main
from mask2former.engine.report.pictures import worst_pictures
from mask2former.engine.report.run import read_run
from mask2former.errors import UserError
from mask2former.formats.rle import encode_masks


def make_run(folder: Path, count: int = 50, speed: float = 0.5, **details: dict) -> Path:
    """A folder as a training leaves it."""
    folder.mkdir(parents=True)
    layers = {f"loss_{name}_{i}": 1.0 for name in ("ce", "mask", "dice") for i in range(9)}
    lines = [
        {"iteration": 20 * i + 19, "total_loss": 50 / (i + 1), "lr": 1e-4, "time": speed, **layers}
        for i in range(count)
    ]
    lines += [{"iteration": 499, "segm/AP": 20.0}, {"iteration": 20 * count, "segm/AP": 30.0}]
    lines.sort(key=lambda line: line["iteration"])
    (folder / "metrics.json").write_text("\n".join(map(json.dumps, lines)))
    (folder / "config.yaml").write_text(f"SOLVER:\n  MAX_ITER: {20 * count}\nSEED: 7\n")
    (folder / "inference").mkdir()
    scores = {"segm": {"AP": 30.0, "AP-<cat>": 10.0, "AP-dog": 50.0}}
    (folder / "inference" / "results.json").write_text(json.dumps({"results": scores}))
    for task, content in details.items():
        (folder / "inference" / f"{task}_details.json").write_text(json.dumps(content))
    return folder


def worst(path: Path, score: float = 0.25) -> dict:
    mask = np.zeros((40, 60), bool)
    mask[10:30, 10:30] = True
    rle = encode_masks(mask[None])[0]
    item = {"category": "cat", "label": 0, "isthing": True, "segmentation": rle}
    return {
        "file_name": str(path),
        "score": score,
        "prediction": [item | {"score": 0.875}],
        "truth": [item],
    }


def test_a_page_holds_everything(tmp_path: Path) -> None:
    photo = tmp_path / "photo.png"
    Image.fromarray(np.full((40, 60, 3), 90, np.uint8)).save(photo)
    recall = np.linspace(0, 1, 101).tolist()
    curves = {"recall": recall, "0.50": recall[::-1], "0.75": recall[::-1], "mean": recall[::-1]}
    segm = {"curves": curves, "worst": [worst(photo), worst(tmp_path / "gone.jpg", 0.5)]}
    confusion = {"classes": ["sky", "sea"], "confusion": [[70, 30, 0], [0, 9, 1]]}
    path = write_report(make_run(tmp_path / "run", segm=segm, sem_seg=confusion))
    text = path.read_text()
    assert path == tmp_path / "run" / "report.html"
    assert "finished: 1000 iterations" in text
    assert re.search(r"segm</td><td>AP</td><td class=number>30.00</td><td class=number>30.00", text)
    assert text.index("&lt;cat&gt;") < text.index("dog")  # the worst class first
    assert "<td>sky</td><td>sea</td><td>30.0 %</td>" in text
    assert "photo.png: 0.25" in text and text.count("data:image/jpeg") == 2
    assert "gone.jpg" in text  # with the reason in its place
    assert "<td>SEED</td><td>-1</td><td>7</td>" in text
    assert "run.json is missing" in text and "Scores over the training" in text
    assert text.count("data:image/svg") >= 7
    assert not re.search(r'(src|href)="(?!data:)|url\(|<script', text)


@pytest.mark.parametrize("planned", [1000, 2000, None])
def test_the_evaluation_at_the_end_belongs_to_the_last_iteration(
    tmp_path: Path, planned: int | None
) -> None:
    folder = make_run(tmp_path / "run")
    keys = "SEED: 7" if planned is None else f"SOLVER:\n  MAX_ITER: {planned}"
    (folder / "config.yaml").write_text(keys)
    scores = read_run(folder).metrics()["segm"]["AP"]
    last = 999 if planned == 1000 else 1000  # counted from 0; the others say nothing of an end
    assert (scores.iterations.tolist(), scores.values.tolist()) == ([499, last], [20.0, 30.0])


def test_stuff_has_the_colours_that_the_evaluation_noted(tmp_path: Path) -> None:
    photo = tmp_path / "photo.png"
    Image.fromarray(np.full((40, 60, 3), 255, np.uint8)).save(photo)
    image = worst(photo)
    for entry in (*image["prediction"], *image["truth"]):
        entry |= {"isthing": False, "category": "sky", "label": 1}

    def middle(colours: dict[str, list[int]]) -> np.ndarray:
        ((_, left, right, note),) = worst_pictures([image], colours)
        assert left == right and not note
        data = base64.b64decode(left.partition(",")[2])
        pixels = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"), float)
        scale = pixels.shape[0] / 40
        return pixels[int(24 * scale) : int(28 * scale), int(12 * scale) : int(28 * scale)]

    red = middle({"sky": [255, 0, 0]}).mean((0, 1))
    assert red[0] > 250 and red[1] < 200 and red[2] < 200
    by_number = middle({}).mean((0, 1))  # of an evaluation of before: (0.85, 0.325, 0.098)
    assert by_number[0] > by_number[1] + 20 > by_number[2] + 30


def test_size_of_the_page_does_not_grow_with_the_run(tmp_path: Path) -> None:
    short = write_report(make_run(tmp_path / "a", count=1000)).stat().st_size
    long = write_report(make_run(tmp_path / "b", count=18_437)).stat().st_size
    assert long < 1.3 * short < 5e6


def test_comparison(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    folders = [make_run(tmp_path / "a"), make_run(tmp_path / "b", count=30, speed=0.25)]
    main([str(folder) for folder in folders])
    assert capsys.readouterr().out.strip() == "comparison.html"
    text = (tmp_path / "comparison.html").read_text()
    rows = re.findall(r"<tr><td>(a|b)</td>.*?</tr>", text)
    assert rows == ["a", "b"]
    assert "<td>SOLVER.MAX_ITER</td><td>1000</td><td>600</td>" in text
    assert "SEED" not in text  # equal in both
    assert "<td class=number>0.5</td>" in text and "<td class=number>0.25</td>" in text


def test_runs_with_long_names_are_told_apart(tmp_path: Path) -> None:
    names = [f"run_of_the_model_with_the_usual_rates_seed_{i}_and_batches_of_16" for i in (3, 4)]
    text = write_report([make_run(tmp_path / n) for n in names], tmp_path / "c.html").read_text()
    svgs = [base64.b64decode(m) for m in re.findall(r"svg\+xml;base64,([^\"]*)", text)]
    assert svgs and all(b">...3...<" in svg and b">...4...<" in svg for svg in svgs)


def test_runs_that_go_on(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    lines = (run / "metrics.json").read_text().splitlines()
    (run / "metrics.json").write_text("\n".join(lines[:5]) + "\n" + lines[5][:30])
    for file in (run / "inference").iterdir():
        file.unlink()
    text = write_report(run).read_text()
    assert "Losses and speed" in text
    assert "running or interrupted: 100 of 1000 iterations" in text
    assert "Scores over the training" not in text
    (run / "last_checkpoint").write_text("model_final.pth")
    assert "finished: 100 of 1000 iterations" in write_report(run).read_text()
    assert "There has been no evaluation yet" in text


def test_folders_without_measurements(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "started").mkdir()
    (tmp_path / "started" / "config.yaml").write_text("SEED: 1\n")
    expected = {
        "none": "no such folder; expected the OUTPUT_DIR of a training",
        "empty": "holds no training: expected metrics.json in it",
        "started": "has no measurements yet: the first come after SOLVER.LOG_PERIOD iterations",
    }
    for name, message in expected.items():
        with pytest.raises(SystemExit) as ended:
            main([str(tmp_path / name)])
        assert ended.value.code == 1
        assert message in capsys.readouterr().err
        assert not list(tmp_path.glob("**/*.html"))


def test_damaged_files_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = make_run(tmp_path / "run", segm={})
    (run / "inference" / "segm_details.json").write_text("{")
    with pytest.raises(SystemExit):
        main([str(run)])
    assert "segm_details.json: expected a json file" in capsys.readouterr().err


def test_files_of_another_form_are_an_error(tmp_path: Path) -> None:
    cases = [
        ("inference/sem_seg_details.json", {"classes": ["sky"], "confusion": [[1, 2, 3]]}),
        ("inference/sem_seg_details.json", {"confusion": [[1, 2]]}),
        ("inference/segm_details.json", {"curves": {"mean": [1.0]}}),
        ("run.json", {"changes": 5}),
        ("run.json", {"machine": [1]}),
    ]
    for i, (name, content) in enumerate(cases):
        run = make_run(tmp_path / str(i))
        (run / name).write_text(json.dumps(content))
        with pytest.raises(UserError, match="a file among run.json and inference/.* another form"):
            write_report(run)
    run = make_run(tmp_path / "config")
    (run / "config.yaml").write_text("SOLVER:\n  MAX_ITER: many\n")
    assert "1000 iterations" in write_report(run).read_text()


def charts(text: str) -> list[str]:
    """The text of every chart; each is sound XML."""
    found = re.findall(r"data:image/svg\+xml;base64,([^\"]+)", text)
    return ["".join(ElementTree.fromstring(base64.b64decode(x)).itertext()) for x in found]


def test_names_of_any_letters(tmp_path: Path) -> None:
    names = ["$", "a$$b", "cost $5 or $6", "x^{", "_hidden", "<b>&", "\u732b", "\x0b\x00", "\ud800"]
    names.append("long " * 100)
    confusion = np.ones((len(names), len(names) + 1)).tolist()
    run = make_run(tmp_path / "run $a_{$", sem_seg={"classes": names, "confusion": confusion})
    shown = "".join(charts(write_report(run).read_text()))
    for name in names[:7]:
        assert shown.count(name) >= 2, name
    others = [make_run(tmp_path / name) for name in ("_a", "$b$", "c")]
    shown = charts(write_report(others, tmp_path / "all.html").read_text())[0]
    assert all(name in shown for name in ("_a", "$b$", "c"))


def test_small_numbers_have_room_beside_the_axis(tmp_path: Path) -> None:
    text = write_report(make_run(tmp_path / "run")).read_text()
    (rates,) = [chart for chart in charts(text) if "learning rate" in chart]
    assert "1e-4" in rates and "1.02e-4" in rates and "0.0001" not in rates


def test_a_folder_that_is_given_twice_is_one_run(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    path = write_report([run, run / ".." / "run"])
    assert path == run / "report.html"


def test_the_end_is_that_of_the_scaled_schedule(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    (run / "config.yaml").write_text(
        "SOLVER: {MAX_ITER: 500, IMS_PER_BATCH: 4, REFERENCE_BATCH: 16}\n"
    )
    assert "running or interrupted: 1000 of 2000 iterations" in write_report(run).read_text()


def test_thousands_of_classes(tmp_path: Path) -> None:
    count = 1500
    confusion = np.zeros((count, count + 1), int)
    np.fill_diagonal(confusion, 10)
    confusion[700, 701], confusion[3, 9] = 30, 10
    names = [f"class {i}" for i in range(count)]
    run = make_run(tmp_path / "run", sem_seg={"classes": names, "confusion": confusion.tolist()})
    path = write_report(run)
    text = path.read_text()
    first = text.index("<td>class 700</td><td>class 701</td><td>75.0 %</td>")
    assert text.index("<td>class 3</td><td>class 9</td><td>50.0 %</td>") > first
    assert path.stat().st_size < 5e6
