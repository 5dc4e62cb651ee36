"""Many processes that train one model: each has its part of every batch, and asks the others for what it needs of it.

    own_part   the whole batch -> this process's rows
    gathered   this process's rows -> those of the whole batch
    summed     this process's sum -> the whole batch's

The last two carry gradients: the loss is a sum over the images of all processes, so what reaches a row is the sum of
what every process's images have to say about it. Parts may be uneven, and a process may have none. Whoever asks, all
processes must ask, in the same order. A process that is alone gets back what it gave.

torchrun starts the processes; `experiment.process_group` introduces them to each other.
"""

import contextlib

import torch
import torch.distributed as dist


class LostProcessError(ConnectionError):
    """Another process has ended, or has not answered in time."""


def num_processes():
    """How many processes train together, 1 without torchrun."""
    return dist.get_world_size() if dist.is_initialized() else 1


def rank():
    """This process's number; 0 writes the files and the report."""
    return dist.get_rank() if dist.is_initialized() else 0


def own_part(batch):
    """This process's rows of a tensor that covers the whole batch."""
    return batch.tensor_split(num_processes())[rank()]


def gathered(part):
    """The rows of all processes in their order: this process's (n, ...) -> (N, ...), with gradients."""
    if num_processes() == 1:
        return part
    sizes = torch.zeros(num_processes(), dtype=torch.int64)  # a message between the CPUs, which no GPU waits for
    sizes[rank()] = len(part)
    sizes = all_reduced(sizes).tolist()
    # Everybody's rows in their place among zeros: uneven parts, and none at all, add up like all others.
    before, after = sum(sizes[: rank()]), sum(sizes[rank() + 1 :])
    return summed(torch.cat([part.new_zeros(before, *part.shape[1:]), part, part.new_zeros(after, *part.shape[1:])]))


def summed(tensor):
    """The sum over all processes of a tensor that has the same shape in each, with gradients."""
    return tensor if num_processes() == 1 else Sum.apply(tensor)


class Sum(torch.autograd.Function):
    """Forwards the tensors of all processes are added up, backwards their gradients (torch.distributed has none)."""

    @staticmethod
    def forward(ctx, tensor):
        return all_reduced(tensor.clone(memory_format=torch.contiguous_format))

    @staticmethod
    def backward(ctx, gradient):
        return Sum.apply(gradient)


def sum_gradients(parameters):
    """Add up the parameters' gradients over all processes, in one message."""
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    if num_processes() == 1 or not gradients:
        return
    sums = all_reduced(torch.cat([gradient.flatten() for gradient in gradients]))
    for gradient, total in zip(gradients, sums.split([gradient.numel() for gradient in gradients]), strict=True):
        gradient.copy_(total.view(gradient.shape))


def agreed(*flags):
    """Each flag, set if it is set in any process; a message between the CPUs that no GPU waits for."""
    if num_processes() == 1:
        return flags
    return tuple(all_reduced(torch.tensor(flags, dtype=torch.uint8), dist.ReduceOp.MAX).bool().tolist())


def from_first(value):
    """The first process's value (numbers, text, a path), in every process."""
    if num_processes() == 1:
        return value
    values = [value]
    with lost_processes():
        dist.broadcast_object_list(values, src=0)
    return values[0]


def copy_first(tensors):
    """Overwrite each tensor with the first process's."""
    if num_processes() > 1:
        for tensor in tensors:
            sent = tensor.contiguous()  # whatever its memory format
            with lost_processes():
                dist.broadcast(sent, src=0)
            tensor.copy_(sent)


def all_reduced(tensor, operation=dist.ReduceOp.SUM):
    """The tensor (contiguous), after it was added to, or compared with, those of all processes in place."""
    with lost_processes():
        dist.all_reduce(tensor, operation)
    return tensor


@contextlib.contextmanager
def lost_processes():
    """Around every message: LostProcessError where it fails."""
    try:
        yield
    except RuntimeError as error:
        # gloo's words name a line of its source; nccl's last line may be something that a user can mend.
        reason = f" ({str(error).splitlines()[-1]})" if isinstance(error, dist.DistBackendError) else ""
        raise LostProcessError(f"another process of this run has ended or does not answer{reason}") from error
