"""Training and evaluation of a config, on detectron2's DefaultTrainer."""

import logging
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.engine import HookBase, TrainerBase, default_writers, hooks
from detectron2.evaluation import verify_results
from detectron2.utils import comm
from detectron2.utils.events import EventWriter
from torch import nn

from ..checkpoints.average_entry import ENTRY as AVERAGE
from ..checkpoints.checkpointer import Checkpointer
from ..config.architecture import meta_architecture
from ..config.loading import changed
from ..data import loaders
from ..data.agreement.class_order import match_classes
from ..modeling.build import resolve_device
from ..overrides import is_replaced
from .accumulation import scale_to_batch
from .auto_batch import fit_batch
from .defaults import validate
from .distributed import wrap_model
from .evaluation import EvaluatingTrainer
from .hooks import (
    EvalHook,
    LRScheduler,
    PeriodicCheckpointer,
    StopOnSignal,
    TargetCounter,
)
from .mask_annealing import MaskAnnealing, has_masks
from .optimizer import build_lr_scheduler, build_optimizer
from .replay.saving import FOLDER, Failure, save_failure
from .report.hook import ReportHook
from .resume import RunState
from .selection.average import build_average
from .selection.best import BestWeights, StoppedEarly
from .selection.scores import averaged, check_best_metric, scored
from .selection.validation_loss import check_has_losses
from .step import LossNotFiniteError, TrainStep, choose_autocast_dtype
from .watching.lasting import LastingWriter
from .watching.progress import PROGRESS, Clock, ProgressPrinter
from .watching.trackers import build_trackers

logger = logging.getLogger(__name__)


class Trainer(EvaluatingTrainer):
    """Train and evaluate an image or video model as ``cfg`` says.

    Differs from detectron2's DefaultTrainer, whose methods may be overridden here too, in that it
    runs on CPUs and in CPU process groups, checks the config first, stops on signals with a
    checkpoint, and never saves weights that are not finite.

    Example:
        >>> trainer = Trainer(cfg)
        >>> trainer.resume_or_load(resume=False)
        >>> trainer.train()
    """

    _last_eval_results: dict[str, Any]

    def __init__(self, cfg: CfgNode) -> None:
        """
        Raises:
            OSError, UserError: see `mask2former.engine.defaults.validate`; or the evaluation will
                not give TEST.BEST.METRIC.
        """
        TrainerBase.__init__(self)  # DefaultTrainer's own needs CUDA for several processes
        cfg = scale_to_batch(self.auto_scale_workers(cfg, comm.get_world_size()))
        cfg = resolve_device(cfg)
        validate(cfg)
        if not is_replaced(type(self), "test", "build_evaluator"):  # else others give the metrics
            check_best_metric(cfg)
        data_loader = self.build_train_loader(cfg)
        if classes := match_classes(cfg):
            cfg = classes.in_config(cfg)
        model = self.build_model(cfg)
        if cfg.TEST.LOSS:
            check_has_losses(model)
        optimizer = self.build_optimizer(cfg, model)
        self.average = build_average(cfg, model, optimizer)
        device = next(model.parameters()).device
        dtype = choose_autocast_dtype(device.type, cfg.SOLVER.AMP.ENABLED, cfg.SOLVER.AMP.DTYPE)
        cfg = fit_batch(cfg, model, dtype)
        model = wrap_model(model)
        self._trainer = TrainStep(
            model,
            data_loader,
            optimizer,
            autocast_dtype=dtype,
            accumulate=cfg.SOLVER.ACCUMULATE,
        )
        self.run_state = RunState(data_loader, cfg.SOLVER.IMS_PER_BATCH, cfg.SEED)
        self.scheduler = self.build_lr_scheduler(cfg, optimizer)
        self.checkpointer = Checkpointer(
            model,
            cfg.OUTPUT_DIR,
            min_match=cfg.MODEL.WEIGHTS_MIN_MATCH,
            classes=classes,
            trainer=weakref.proxy(self),
            **({} if self.average is None else {AVERAGE: self.average}),
        )
        self.best = BestWeights.of_config(cfg, self.checkpointer)
        self._last_eval_results = {}
        self.start_iter = 0
        self.max_iter = cfg.SOLVER.MAX_ITER
        self.cfg = cfg
        self._clock = Clock(self.max_iter, cfg.TEST.EVAL_PERIOD)
        self.register_hooks(self.build_hooks())

    def resume_or_load(self, resume: bool = True) -> None:
        """Load the last checkpoint of OUTPUT_DIR with ``resume``, where there is one.

        Model, optimizer, schedule, iteration, order of the data and random numbers then go on where
        they were, exactly so with as many processes and images in a batch; the log says where it
        is not exact. Otherwise MODEL.WEIGHTS are loaded and training starts at iteration 0.
        """
        if resume and not self.checkpointer.has_checkpoint():
            logger.info("There is no checkpoint in %s to resume from", self.cfg.OUTPUT_DIR)
        elif self.checkpointer.has_checkpoint() and not resume:
            text = "%s holds checkpoints of an earlier run, which are overwritten without --resume"
            logger.warning(text, self.cfg.OUTPUT_DIR)
        super().resume_or_load(resume=resume)
        if self.start_iter == 0:
            return
        reasons = self.run_state.go_on(self.start_iter)
        logger.info(
            "Resumed after iteration %d and %d images, %s",
            self.start_iter - 1,
            self.run_state.images(self.start_iter),
            f"not bit for bit: {'; '.join(reasons)}" if reasons else "exactly where the run was",
        )

    def train(self) -> dict[str, Any]:
        """Train up to SOLVER.MAX_ITER.

        Returns:
            The results of the evaluation at the end, as `test` does.

        Raises:
            FloatingPointError: a loss or a weight is not finite.
            SystemExit: with 130 or 143, after SIGINT or SIGTERM.
            UserError: the evaluation does not give TEST.BEST.METRIC.
        """
        logger.info("Training from iteration %d to %d", self.start_iter, self.max_iter)
        loop = logging.getLogger("detectron2.engine.train_loop")
        level = loop.level
        loop.setLevel(logging.CRITICAL)  # it would log the errors that it passes on
        try:
            TrainerBase.train(self, self.start_iter, self.max_iter)
        except StoppedEarly as stop:
            self._end_early(str(stop))
        finally:
            loop.setLevel(level)
            if isinstance(self._trainer, TrainStep):  # which code of others may replace
                self._trainer.end_loading()
        if comm.is_main_process():
            verify_results(self.cfg, self._last_eval_results)
        return self._last_eval_results

    def _end_early(self, reason: str) -> None:
        has_trained = self._trainer.batch is not None
        if not has_trained and Path(self.checkpointer.get_checkpoint_file()).stem == "model_final":
            logger.info("Training had ended: %s", reason)
            return
        done = self.iter if has_trained else self.iter - 1
        logger.info("Training ends after iteration %d: %s", done, reason)
        self.run_state.gather(done)
        self.checkpointer.save("model_final", iteration=done)

    def run_step(self) -> None:
        try:
            super().run_step()
        except LossNotFiniteError as error:
            # None may exit, and so end the group, before the step is kept.
            kept = comm.all_gather(self._keep_failure(error))[error.process]
            last = self.checkpointer.get_checkpoint_file() or "none yet"
            raise FloatingPointError(
                f"{error}. Training has stopped; the last good checkpoint is {last}. A lower "
                f"SOLVER.BASE_LR, gradient clipping or SOLVER.AMP.ENABLED False may help{kept}"
            ) from None

    def _keep_failure(self, error: LossNotFiniteError) -> str:
        """Keep what the step was made of, where this process is the one; say how to repeat it."""
        if error.process != comm.get_rank():
            return ""
        step = self._trainer
        device, dtype = step.device.type, step.autocast_dtype
        failure = Failure(
            self.iter, error.process, str(error), device, dtype, step.batch, step.random_state
        )
        folder = Path(self.cfg.OUTPUT_DIR, FOLDER)
        try:
            save_failure(folder, failure, getattr(self.model, "module", self.model), self.cfg)
        except Exception as problem:  # of any kind, which must not hide that of the loss
            logger.warning("The failed step is not kept: %s", problem)
            return ""
        command = f"python -m mask2former.engine.replay {folder}"
        return f". The step is kept: {command} names the first tensor that is not finite"

    def build_hooks(self) -> list[HookBase]:
        """Return the hooks in the order in which they run: first state, then reports on it."""
        cfg = self.cfg
        stop = StopOnSignal(self.checkpointer)

        def evaluate() -> dict[str, Any]:
            done = min(self.iter, self.max_iter - 1)
            with self.run_state.kept(done), stop.interruptible():
                cfg = changed(self.cfg, "MODEL.WEIGHTS", self._checkpoint_of_now())
                average = None if self.average is None else self.average.model
                self._last_eval_results = scored(self.test, cfg, self.model, average)
            return self._last_eval_results

        anneals = cfg.MODEL.EOMT.MASK_ANNEALING and has_masks(self.model)
        found: list[HookBase] = [
            self._clock,
            hooks.IterationTimer(),
            *([MaskAnnealing()] if anneals else []),
            LRScheduler(),
            PeriodicCheckpointer(self.checkpointer, cfg.SOLVER.CHECKPOINT_PERIOD),
            stop,
            EvalHook(cfg.TEST.EVAL_PERIOD, evaluate, self.best, self._keep_best),
        ]
        if meta_architecture(cfg) != "MaskClassifier":  # whose queries are made of the targets
            found.append(TargetCounter(cfg.MODEL.MASK_FORMER.NUM_OBJECT_QUERIES))
        if comm.is_main_process():
            writers = [LastingWriter(writer) for writer in self.build_writers()]
            found.append(hooks.PeriodicWriter(writers, period=cfg.SOLVER.LOG_PERIOD))
            if cfg.TRAINING.REPORT:
                files = [w for w in writers if not isinstance(w.writer, ProgressPrinter)]
                found.append(ReportHook(cfg, flush=lambda: [w.write() for w in files]))
        return found

    @property
    def last_batch(self) -> Any:
        """The batch that this process has trained on last."""
        return self._trainer.batch

    def _keep_best(self) -> None:
        """Have the weights kept that were evaluated, if they are the best so far."""
        if self.best is None:
            return
        model = self.model
        if self.average is not None and averaged(self.cfg, self.best.metric):
            model = self.average.model
        self.best.update(self._last_eval_results, model, min(self.iter, self.max_iter - 1))

    def _checkpoint_of_now(self) -> str:
        """Return the file that holds the model as it is, "" if it was not saved."""
        done = min(self.iter + 1, self.max_iter)
        saved = done == self.max_iter or done % self.cfg.SOLVER.CHECKPOINT_PERIOD == 0
        return self.checkpointer.get_checkpoint_file() if saved else ""

    def build_writers(self) -> list[EventWriter]:
        """Return the writers of progress, of metrics.json, of TensorBoard and of trackers."""
        _, *to_files = default_writers(self.cfg.OUTPUT_DIR, self.max_iter)
        shown = PROGRESS[self.cfg.TRAINING.PROGRESS](self.max_iter, clock=self._clock)
        return [shown, *to_files, *build_trackers(self.cfg, lambda: self.start_iter > 0)]

    def state_dict(self) -> dict[str, Any]:
        state = TrainerBase.state_dict(self)
        run = self.run_state.state_dict(self.iter)
        return {**state, "_trainer": self._trainer.state_dict(), "run": run}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        TrainerBase.load_state_dict(self, state_dict)
        self._trainer.load_state_dict(state_dict["_trainer"])
        # Checkpoints of before have the seed alone.
        self.run_state.load_state_dict(
            state_dict.get("run", {"seed": state_dict.get("sampler_seed")})
        )

    @classmethod
    def build_optimizer(cls, cfg: CfgNode, model: nn.Module) -> torch.optim.Optimizer:
        return build_optimizer(cfg, model)

    @classmethod
    def build_lr_scheduler(cls, cfg: CfgNode, optimizer: torch.optim.Optimizer) -> Any:
        return build_lr_scheduler(cfg, optimizer)

    @classmethod
    def build_train_loader(cls, cfg: CfgNode) -> Any:
        return loaders.build_train_loader(cfg)
