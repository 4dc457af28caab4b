"""Start of a function in this process, in those of torchrun or of detectron2's launcher."""

import argparse
import inspect
import logging
import os
import socket
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.distributed as dist
from detectron2.engine import create_ddp_model
from detectron2.engine import launch as launch_on_gpus
from detectron2.utils import comm
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from ..errors import UserError
from .peers import named_when_lost

logger = logging.getLogger(__name__)


def launch(
    main: Callable[[argparse.Namespace], Any], args: argparse.Namespace, *, device: str = "cuda"
) -> Any:
    """Call ``main(args)`` in every process that ``args`` and the environment ask for.

    Under torchrun, each process joins the group that torchrun made, with NCCL on CUDA and gloo on
    CPUs, on one machine or several. Else detectron2's launcher starts ``--num-gpus`` processes on
    each of ``--num-machines``. Else there is this process alone.

    Args:
        args: with num_gpus, num_machines, machine_rank and dist_url, as parsed by detectron2's
            ``default_argument_parser``. The first two are not read under torchrun.
        device: MODEL.DEVICE; without CUDA, the CPU is used.

    Returns:
        What ``main`` returns, or None where other processes were started for it.

    Raises:
        UserError: if more GPUs are asked for than there are, or another process has ended before
            its time.
    """
    on_gpu = device.startswith("cuda") and torch.cuda.is_available()
    if is_under_torchrun():
        _join_torchrun(on_gpu)
        result = _in_group(main, args)
        dist.destroy_process_group()
        return result
    if args.num_gpus * args.num_machines <= 1:
        return main(args)
    if not on_gpu:
        raise UserError(_no_cuda_message(args))
    if args.num_gpus > torch.cuda.device_count():
        raise UserError(
            f"--num-gpus is {args.num_gpus}, but this machine has {torch.cuda.device_count()}"
        )
    return launch_on_gpus(
        partial(_in_group, main),
        args.num_gpus,
        num_machines=args.num_machines,
        machine_rank=args.machine_rank,
        dist_url=args.dist_url,
        args=(args,),
    )


def is_under_torchrun() -> bool:
    """Return whether torchrun, or what sets the same variables, started several processes."""
    needed = ("RANK", "WORLD_SIZE", "LOCAL_RANK")
    return all(name in os.environ for name in needed) and int(os.environ["WORLD_SIZE"]) > 1


def wrap_model(model: nn.Module) -> nn.Module:
    """Wrap ``model`` in DistributedDataParallel if there are several processes.

    Buffers, such as those of batch norms, are each process's own in training, as in detectron2;
    `share_buffers` gives all those that checkpoints have.
    """
    device = next(model.parameters()).device
    device_ids = [comm.get_local_rank()] if device.type == "cuda" else None
    known = inspect.signature(DistributedDataParallel.__init__).parameters
    flag = "forward_sync_buffers" if "forward_sync_buffers" in known else "broadcast_buffers"
    return create_ddp_model(model, device_ids=device_ids, **{flag: False})


def share_buffers(model: nn.Module) -> None:
    """Give a model of all processes the buffers of the first one, whose are saved in checkpoints.

    Else parts of one evaluation would be scored with other statistics of batch norms, and not with
    those of any checkpoint. Every process has to call this.
    """
    if comm.get_world_size() == 1:
        return
    device = next(model.parameters()).device
    for buffer in model.buffers():
        value = buffer.detach().to(device)
        dist.broadcast(value, 0)
        buffer.copy_(value)


def _in_group(main: Callable[[argparse.Namespace], Any], args: argparse.Namespace) -> Any:
    with named_when_lost():
        return main(args)


def _join_torchrun(on_gpu: bool) -> None:
    if on_gpu:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    dist.init_process_group("nccl" if on_gpu else "gloo", init_method="env://")
    _set_local_group()
    comm.synchronize()  # else the first slow process lets the others run into their timeout
    logger.debug("Process %d of %d has joined", dist.get_rank(), dist.get_world_size())


def _set_local_group() -> None:
    """Give detectron2 the group of this machine, from which it tells the local ranks."""
    machine = os.environ.get("GROUP_RANK") or socket.gethostname()
    machines: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(machines, machine)
    for name in sorted(set(machines)):  # every process takes part in making every group
        group = dist.new_group([rank for rank, m in enumerate(machines) if m == name])
        if name == machine:
            comm._LOCAL_PROCESS_GROUP = group


def _no_cuda_message(args: argparse.Namespace) -> str:
    several = f"--nnodes {args.num_machines} --node-rank RANK --master-addr HOST "
    machines = several if args.num_machines > 1 else ""
    return (
        f"--num-gpus {args.num_gpus} --num-machines {args.num_machines} needs CUDA, which is not "
        "available or not chosen (MODEL.DEVICE). For several CPU processes, use "
        f"torchrun {machines}--nproc_per_node {args.num_gpus} train_net.py ... without --num-gpus"
    )
