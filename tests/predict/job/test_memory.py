"""Memory of a job does not grow with the number of its inputs."""

import os
from pathlib import Path

import psutil
import pytest
import torch
from detectron2.structures import Boxes, Instances

from mask2former.predict.job import run_job, running, worker
from tests.engine.conftest import restore_loggers  # noqa: F401 (a fixture that all tests use)
from tests.predict.job.test_inputs import png, write_tar
from tests.predict.job.tiny import settings

INPUTS = int(os.environ.get("MEMORY_INPUTS", 12_000))


class Model:
    """Stands for a model, whose memory is not in question here."""

    size_divisibility = 32

    def __call__(self, batch: list[dict]) -> list[dict]:
        return predict(batch)


def predict(batch: list[dict]) -> list[dict]:
    size = (batch[0]["height"], batch[0]["width"])
    masks = torch.zeros(3, *size, dtype=torch.bool)
    masks[:, 1:] = True
    more = {"pred_boxes": Boxes(torch.ones(3, 4)), "pred_classes": torch.zeros(3, dtype=torch.long)}
    scores = torch.tensor([0.9, 0.8, 0.7])
    return [{"instances": Instances(size, pred_masks=masks, scores=scores, **more)} for _ in batch]


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_memory_is_flat(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image = png(90)
    write_tar(tmp_path / "many.tar", {f"{i}.png": image for i in range(INPUTS)})
    made = settings(tmp_path / "out", outputs=("instances",), shard_size=64, batch=8)
    predictor = worker.build_predictor(made)
    predictor.model = Model()
    monkeypatch.setattr(worker, "build_predictor", lambda settings: predictor)
    seen: list[int] = []
    process = psutil.Process()

    class Watched(running.Worker):
        def __init__(self, made, job, place, on_images):
            def count(images: int) -> None:
                seen.append(process.memory_info().rss)
                on_images(images)

            super().__init__(made, job, place, count)

    monkeypatch.setattr(running, "Worker", Watched)
    outcome = run_job(made, [str(tmp_path / "many.tar")])
    seen.append(process.memory_info().rss)  # after the files have been written
    assert outcome.items == INPUTS and outcome.errors == 0
    with open(tmp_path / "out" / "instances.json") as file:
        assert sum(1 for _ in file) == 3 * INPUTS + 2
    early = max(seen[: len(seen) // 10])
    print(
        f"{INPUTS} inputs: {early / 2**20:.0f} MiB after a tenth, {max(seen) / 2**20:.0f} at most"
    )
    assert max(seen) - early < 10 * 2**20
