"""A GPU to pretend: tensors that say they are on it, and refuse every operation that real ones refuse."""

from contextlib import contextmanager

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves, tree_map

GPU = torch.device("cuda", 0)


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

    device = property(lambda self: GPU)
    is_cuda = property(lambda self: True)

    def __repr__(self):
        return f"{self.inner!r} on {GPU}"

    @classmethod
    def __torch_dispatch__(cls, operation, types, args=(), kwargs=None):
        _check(operation, args, kwargs or {})
        found = operation(*tree_map(_inner, args), **tree_map(_inner, kwargs or {}))
        return tree_map(_on_gpu, found)


def _check(operation, args, kwargs):
    """Refuse a mix with tensors on the CPU, except scalars () in arithmetic, as CUDA does."""
    on_cpu = [one for one in tree_leaves((args, kwargs)) if type(one) is torch.Tensor]
    scalars_only = torch.Tag.pointwise in operation.tags and type(args[0]) is OnGPU
    if any(one.dim() or not scalars_only for one in on_cpu):
        shapes = ", ".join(str(tuple(one.shape)) for one in on_cpu)
        raise RuntimeError(f"{operation}: tensors {shapes} are on the CPU, others on {GPU}")


def _inner(value):
    return value.inner if isinstance(value, OnGPU) else value


def _on_gpu(value):
    return OnGPU(value) if type(value) is torch.Tensor else value


class _Placement(TorchFunctionMode):
    """Do what moves tensors between devices, or makes them on one."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        name = getattr(function, "__name__", "")
        if function in (torch.Tensor.cpu, torch.Tensor.pin_memory):
            assert name == "cpu" or type(args[0]) is torch.Tensor, "only memory of the CPU is pinned"
            return _to(args[0], torch.device("cpu"))
        if function is torch.Tensor.numpy and isinstance(args[0], OnGPU):
            raise TypeError(f"can't convert {GPU} device type tensor to numpy")
        if function is torch.Tensor.to:
            targets = [one for one in (*args[1:], *kwargs.values()) if hasattr(one, "device")]
            targets = [one.device for one in targets] or [
                torch.device(one) for one in (*args[1:], *kwargs.values()) if isinstance(one, (str, torch.device))
            ]
            rest = [one.dtype if isinstance(one, torch.Tensor) else one for one in args[1:]]
            rest = [one for one in rest if not isinstance(one, (str, torch.device))]
            moved = _to(args[0], targets[0]) if targets else args[0]
            return moved.to(*rest) if rest else moved
        if "device" in kwargs and kwargs["device"] is not None:
            device = torch.device(kwargs.pop("device"))
            return _to(function(*args, **kwargs), device)
        return function(*args, **kwargs)


class _Move(torch.autograd.Function):
    @staticmethod
    def forward(context, x, device):
        context.source = x.device
        return OnGPU(x.detach()) if device == GPU else x.inner.detach()

    @staticmethod
    def backward(context, gradient):
        return _to(gradient, context.source), None


def _to(tensor, device):
    return tensor if tensor.device == device else _Move.apply(tensor, device)


@contextmanager
def pretend_gpu():
    """Let tensors be moved to a GPU that is not there, and made on it."""
    with _Placement():
        yield GPU
