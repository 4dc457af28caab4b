"""The prediction job on Ray Data: `python -m mask2former.predict.ray_job`, options as without Ray.

Ray starts actors with a model each, on all machines of its cluster, hands them shards of the
manifest, and starts those again that die. What comes of a shard goes to the folder of the job,
which all machines reach. These files are the checkpoint: a job goes on with Ray or without it,
whatever it was begun with.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from ..errors import MissingPackageError
from .command import job_settings, main
from .job.folder import JobFolder
from .job.running import Outcome, run_job
from .job.settings import Settings
from .job.worker import Worker


def run_on_ray(settings: Settings, inputs: Sequence[str], *, actors: int, **more: Any) -> Outcome:
    """Run a job as `run_job` does, by actors of Ray.

    Args:
        settings: of the job.
        inputs: as for `run_job`.
        actors: how many, each with a model, on a GPU of its own where the model is on one.
        more: other arguments of `run_job`.

    Raises:
        MissingPackageError: Ray is missing.
        UserError, OSError: as `run_job`.
    """
    ray = import_ray()
    settings = replace(settings, output=Path(settings.output).absolute())
    ray.init(ignore_reinit_error=True, log_to_driver=False)
    predict = _Predict(ray, settings, actors)
    return run_job(settings, inputs, predict=predict, **more)


class _Predict:
    """Have the shards of a job done that are left, by actors."""

    def __init__(self, ray: Any, settings: Settings, actors: int):
        self._ray = ray
        self._settings = settings
        self._actors = actors

    def __call__(self, job: JobFolder) -> None:
        left = [{"shard": shard} for shard in job.order(0.0) if not job.is_done(shard)]
        if not left:
            return
        on_gpu = torch.device(self._settings.cfg.MODEL.DEVICE).type == "cuda"
        shards = self._ray.data.from_items(left, override_num_blocks=len(left))
        done = shards.map_batches(
            _Actor,
            fn_constructor_args=(self._settings,),
            batch_size=1,
            compute=self._ray.data.ActorPoolStrategy(size=self._actors),
            num_gpus=1 if on_gpu else 0,
        )
        done.materialize()


class _Actor:
    """A worker of Ray, which does shards one after the other."""

    def __init__(self, settings: Settings):
        self._job = JobFolder(settings.output, settings.lease_seconds)
        self._worker = Worker(settings, self._job)

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        self._worker.run(batch["shard"].tolist())
        return batch


def import_ray() -> Any:
    """Return Ray with its `data`; raise MissingPackageError with what to install."""
    try:
        import ray
        import ray.data
    except ModuleNotFoundError as error:
        raise MissingPackageError("Ray is missing: pip install 'mask2former[ray]'") from error
    return ray


def run(args: argparse.Namespace) -> Outcome:
    """Run the job that the arguments ask for."""
    settings, workers = job_settings(args, alone=True)
    return run_on_ray(settings, args.inputs, actors=workers, overwrite=args.overwrite)


if __name__ == "__main__":
    sys.exit(main(run=run))
