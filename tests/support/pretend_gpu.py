"""A pretended GPU: tensors that say they are on it, and refuse every operation that real ones refuse."""

from contextlib import contextmanager
from functools import cache

import torch
from torch.overrides import TorchFunctionMode

CPU, GPU = torch.device("cpu"), torch.device("cuda", 0)
ASSIGNMENTS = ("aten::fill_", "aten::copy_", "aten::index_put_")
"""Operations that take scalars of the CPU, as arithmetic does."""
UNORDERED = ("aten::index_add_", "aten::index_add", "aten::cumsum")
"""Operations that on a GPU add floats in another order at each run."""


class OnGPU(torch.Tensor):
    """A tensor on the pretended GPU, which computes on one on the CPU.

    To C++ it is on the CPU, as autograd needs a real device; to Python, and to every operation, it is not.
    """

    @staticmethod
    def __new__(cls, inner):
        kind = {"dtype": inner.dtype, "requires_grad": inner.requires_grad, "strides": inner.stride()}
        return torch.Tensor._make_wrapper_subclass(cls, inner.size(), **kind)

    def __init__(self, inner):
        self.inner = inner

    @property
    def device(self):
        return GPU

    def __repr__(self):
        return f"{self.inner!r} on {GPU}"

    @classmethod
    def __torch_dispatch__(cls, operation, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        values = [*args, *kwargs.values()]
        on_cpu = [one for value in values for one in _each(value) if type(one) is torch.Tensor]
        takes_scalars = _takes_scalars(operation) and not (
            operation._schema.is_mutable and type(args[0]) is torch.Tensor
        )
        if any(one.dim() or not takes_scalars for one in on_cpu):
            shapes = ", ".join(str(tuple(one.shape)) for one in on_cpu)
            raise RuntimeError(f"{operation}: tensors {shapes} are on the CPU, others on {GPU}")
        if operation._schema.name in UNORDERED and args[0].is_floating_point():
            raise RuntimeError(f"{operation}: its last bits differ from run to run on {GPU}")
        if operation.namespace == "c10d":
            every = [one for value in values for one in _each(value) if isinstance(one, OnGPU)]
            assert all(one.is_contiguous() for one in every), "NCCL takes contiguous tensors alone"
        found = operation(*map(_inner, args), **{name: _inner(value) for name, value in kwargs.items()})
        return _on_gpu(found)


@cache
def _takes_scalars(operation):
    """Whether CUDA takes scalars () on the CPU; it copies indices and tensors to assign, too, unseen."""
    return torch.Tag.pointwise in operation.tags or operation._schema.name in ASSIGNMENTS


def _each(value):
    return value if isinstance(value, (list, tuple)) else (value,)


def _inner(value):
    if isinstance(value, (list, tuple)):
        return [_inner(one) for one in value]
    return value.inner if isinstance(value, OnGPU) else value


def _on_gpu(value):
    if isinstance(value, (list, tuple)):
        return type(value)(_on_gpu(one) for one in value)
    return OnGPU(value) if type(value) is torch.Tensor else value


class _Placement(TorchFunctionMode):
    """Do what moves tensors between devices, or makes them on one."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if function is torch.Tensor.to:
            return _to(args[0], [*args[1:], *kwargs.values()])
        if function is torch.Tensor.tolist:
            return _moved(args[0], CPU).tolist()
        if function is torch.Tensor.cpu:
            return _moved(args[0], CPU)
        if function is torch.Tensor.pin_memory:
            assert args[0].device == CPU, "only memory of the CPU is pinned"
            return args[0]
        if function is torch.nn.functional.one_hot and args[0].device == GPU:
            return OnGPU(function(args[0].inner, *args[1:]))  # its C++ makes numbers where it thinks x is
        if function is torch.Tensor.numpy and args[0].device == GPU:
            raise TypeError(f"can't convert {GPU} device type tensor to numpy")
        if kwargs.get("device") is not None:
            return _moved(function(*args, **{**kwargs, "device": CPU}), torch.device(kwargs["device"]))
        return function(*args, **kwargs)


def _to(tensor, targets):
    """What `tensor.to` does with a device, a type, or another tensor that has both."""
    for target in targets:
        if isinstance(target, torch.Tensor):
            tensor = _moved(tensor.to(target.dtype), target.device)
        elif isinstance(target, torch.dtype):
            tensor = tensor.to(target)
        elif isinstance(target, (str, torch.device)):
            tensor = _moved(tensor, torch.device(target))
    return tensor


def _moved(tensor, device):
    if tensor.device == device:
        return tensor
    assert not tensor.requires_grad, "no test moves what is differentiated"
    return OnGPU(tensor) if device == GPU else tensor.inner


@contextmanager
def pretend_gpu():
    """Let tensors be moved to a GPU that is not there, and made on it."""
    with _Placement():
        yield GPU
