"""What the evaluators share: ids and names of classes, checks of outputs, gathering."""

from collections.abc import Mapping, Sequence
from typing import Any, Self, TypeVar

from detectron2.data import MetadataCatalog
from detectron2.evaluation import DatasetEvaluator
from detectron2.structures import Instances
from detectron2.utils import comm
from torch import Tensor

from ..errors import UserError
from ..overrides import is_replaced, refuse_overrides
from ..results.classes import CategoryIds, class_name  # noqa: F401 (evaluators import it here)

# Of detectron2's COCOEvaluator, which the published evaluators extend.
_COCO_METHODS = (
    "_tasks_from_predictions",
    "_eval_predictions",
    "_eval_box_proposals",
    "_derive_coco_results",
)


class DatasetIds(CategoryIds):
    """The category ids of a registered dataset; see `CategoryIds`."""

    @classmethod
    def of_things(cls, dataset_name: str, categories: Sequence[Mapping[str, Any]]) -> Self:
        """Return the ids of the thing classes; without metadata, categories in ascending order."""
        ids = MetadataCatalog.get(dataset_name).get("thing_dataset_id_to_contiguous_id")
        ids = ids or {k: i for i, k in enumerate(sorted(c["id"] for c in categories))}
        return cls(ids, dataset_name, "thing")


Value = TypeVar("Value")

_DIVERGED = "the training may have diverged, or the precision be too low"


def refuse_coco_overrides(evaluator: DatasetEvaluator, but: str = "") -> None:
    """Raise a TypeError where a subclass replaces steps of detectron2's COCOEvaluator, which ours
    do not have but for one, and has no `evaluate` of its own."""
    if not is_replaced(evaluator, "evaluate"):
        names = [name for name in _COCO_METHODS if name != but]
        refuse_overrides(evaluator, names, "Override evaluate.")


def required(output: Mapping[str, Any], key: str, flag: str) -> Any:
    """Return an entry of a model's output.

    Raises:
        UserError: it is missing; names the flag of MODEL.MASK_FORMER.TEST that turns it on.
    """
    if key not in output:
        raise UserError(
            f"output: expected {key!r}, got {sorted(output)}; set MODEL.MASK_FORMER.TEST.{flag}"
        )
    return output[key]


def check_instances(instances: Instances, where: str) -> None:
    """Check that the scores and boxes of a model are numbers; matching would count them as hits.

    Raises:
        UserError: one is NaN or infinite; says which.
    """
    columns = {"scores": instances.scores[:, None]}
    if instances.has("pred_boxes"):
        columns["pred_boxes"] = instances.pred_boxes.tensor
    for key, values in columns.items():
        wrong = (~values.isfinite()).any(dim=1).nonzero()
        if len(wrong):
            i = int(wrong[0])
            raise UserError(
                f"{where}: {key} of instance {i}: expected finite numbers, got "
                f"{values[i].tolist()}; {_DIVERGED}"
            )


def check_scores(scores: Tensor, labels: Tensor, where: str) -> None:
    """Check the best scores of pixels; NaN is the best of all.

    Args:
        scores: (K, H, W).
        labels: (H, W), the indices of the best.

    Raises:
        UserError: one is NaN or infinite.
    """
    if not scores.gather(0, labels[None]).isfinite().all():
        raise _not_finite(where)


def check_labels(labels: Tensor, num_classes: int, where: str) -> None:
    """Check the classes (H, W) of pixels, -1 where the best score is no finite number.

    Raises:
        UserError: there is one of -1, or beyond the classes.
    """
    lowest, highest = (int(x) for x in labels.aminmax())
    if lowest < 0:
        raise _not_finite(where)
    if highest >= num_classes:
        raise UserError(
            f"{where}: sem_seg has class {highest}, the dataset has {num_classes} classes; set "
            "MODEL.SEM_SEG_HEAD.NUM_CLASSES"
        )


def _not_finite(where: str) -> UserError:
    return UserError(f"{where}: sem_seg has scores that are no finite numbers; {_DIVERGED}")


def takes_labels(evaluator: DatasetEvaluator) -> bool:
    """Tell whether semantic results may be classes (H, W) instead of scores (K, H, W).

    So it is where the class whose `process` is called says `takes_semantic_labels`.
    """
    for part in getattr(evaluator, "_evaluators", [evaluator]):
        owner = next(c for c in type(part).__mro__ if "process" in vars(c))
        if not vars(owner).get("takes_semantic_labels", False) or "process" in vars(part):
            return False
    return True


def gather(value: Value, distributed: bool = True) -> list[Value]:
    """Return the values of all processes on the main one, and [] on the others.

    Args:
        distributed: False returns the value of this process alone.
    """
    if not distributed:
        return [value]
    comm.synchronize()
    return comm.gather(value)
