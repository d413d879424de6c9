"""The ways to compute a policy's forward pass for one observation; :mod:`.runtime` chooses.

Each is made from a policy in evaluation mode and an example batch of size 1 with its noise,
and called with a batch ``{key: (1, ...)}`` on the CPU and ``(1, N)`` noise on the policy's
device. The answer, normalised actions ``(T, D)``, is the caller's own array.
"""

from __future__ import annotations

import io
import warnings
from importlib.util import find_spec
from typing import Any, Protocol

import numpy as np
import torch
from torch import nn

from il_robot.policies.mlp import MLPPolicy
from il_robot.policies.policy import Batch, Policy
from il_robot.types import Float32


class UnavailableError(Exception):
    """This backend cannot run this policy on this machine; says why."""


class Backend(Protocol):
    """A policy ready to answer."""

    def __init__(self, policy: Policy, batch: Batch, noise: torch.Tensor) -> None:
        """Raises UnavailableError."""

    def __call__(self, batch: Batch, noise: torch.Tensor) -> Float32:
        """Normalised actions ``(T, D)``."""


class TorchBackend:
    """The policy as it was written; what all others are compared with."""

    def __init__(self, policy: Policy, batch: Batch, noise: torch.Tensor) -> None:
        self._policy = policy

    def __call__(self, batch: Batch, noise: torch.Tensor) -> Float32:
        """See the module."""
        with torch.inference_mode():
            moved = {key: value.to(noise.device) for key, value in batch.items()}
            return self._policy(moved, noise)[0].float().cpu().numpy()


class TraceBackend:
    """The recorded sequence of torch's operators, without Python; constants are computed once."""

    def __init__(self, policy: Policy, batch: Batch, noise: torch.Tensor) -> None:
        _only_features(batch)
        example = (batch['features'].to(noise.device), noise)
        with torch.no_grad(), warnings.catch_warnings():
            # torch 2.13 calls torch.jit deprecated; torch.compile would need a C++ compiler
            warnings.simplefilter('ignore')
            traced = torch.jit.trace(Positional(policy).eval(), example, check_trace=False)
            self._traced = torch.jit.freeze(traced)

    def __call__(self, batch: Batch, noise: torch.Tensor) -> Float32:
        """See the module."""
        with torch.inference_mode():
            return self._traced(batch['features'].to(noise.device), noise)[0].float().cpu().numpy()


class NumpyBackend:
    """A plain perceptron as matrix-vector products into arrays that are allocated once."""

    def __init__(self, policy: Policy, batch: Batch, noise: torch.Tensor) -> None:
        _only_features(batch)
        if type(policy) is not MLPPolicy or noise.device.type != 'cpu':
            raise UnavailableError('only for mlp and chunk_mlp, on a CPU')
        layers = [layer for layer in policy.trunk if isinstance(layer, nn.Linear)]
        self._layers = [
            (layer.weight.detach().numpy(), layer.bias.detach().numpy(),
             np.empty(layer.out_features, np.float32)) for layer in layers]
        self._shape = policy.chunk_size, -1

    def __call__(self, batch: Batch, noise: torch.Tensor) -> Float32:
        """See the module."""
        x = batch['features'].numpy().reshape(-1)
        for weight, bias, out in self._layers[:-1]:
            np.dot(weight, x, out=out)
            out += bias
            x = np.maximum(out, 0.0, out=out)
        weight, bias, out = self._layers[-1]
        np.dot(weight, x, out=out)
        return (out + bias).reshape(self._shape)


class OnnxBackend:
    """ONNX Runtime on a CPU, its inputs and output bound to fixed arrays."""

    def __init__(self, policy: Policy, batch: Batch, noise: torch.Tensor) -> None:
        arguments = _on_cpu(batch, noise)
        try:
            import onnxruntime
        except ImportError as error:
            raise UnavailableError(f"{error}: pip install 'il_robot[onnx]'") from None
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(
            onnx_graph(Positional(policy), arguments), options,
            providers=['CPUExecutionProvider'])
        self._inputs = [np.empty(a.shape, np.float32) for a in arguments]
        self._output = np.empty(self._session.get_outputs()[0].shape, np.float32)
        self._binding = self._session.io_binding()
        for name, array in zip(INPUTS, self._inputs):
            self._binding.bind_input(
                name, 'cpu', 0, np.float32, array.shape, array.ctypes.data)
        self._binding.bind_output(
            OUTPUT, 'cpu', 0, np.float32, self._output.shape, self._output.ctypes.data)

    def __call__(self, batch: Batch, noise: torch.Tensor) -> Float32:
        """See the module."""
        for array, value in zip(self._inputs, (batch['features'], noise)):
            array[:] = value.numpy()
        self._session.run_with_iobinding(self._binding)
        return self._output[0].copy()


class OpenVinoBackend:
    """OpenVINO on a CPU, in float32, its inputs in fixed arrays."""

    def __init__(self, policy: Policy, batch: Batch, noise: torch.Tensor) -> None:
        arguments = _on_cpu(batch, noise)
        try:
            import openvino
        except ImportError as error:
            raise UnavailableError(f"{error}: pip install 'il_robot[openvino]'") from None
        core = openvino.Core()
        model = core.read_model(onnx_graph(Positional(policy), arguments))
        self._request = core.compile_model(model, 'CPU', {
            'INFERENCE_PRECISION_HINT': 'f32',  # else bfloat16 where the processor has it
            'PERFORMANCE_HINT': 'LATENCY', 'NUM_STREAMS': 1,
            'INFERENCE_NUM_THREADS': torch.get_num_threads()}).create_infer_request()
        self._inputs = [np.empty(a.shape, np.float32) for a in arguments]
        for name, array in zip(INPUTS, self._inputs):
            self._request.set_tensor(name, openvino.Tensor(array, shared_memory=True))
        self._output = self._request.get_tensor(OUTPUT).data

    def __call__(self, batch: Batch, noise: torch.Tensor) -> Float32:
        """See the module."""
        for array, value in zip(self._inputs, (batch['features'], noise)):
            array[:] = value.numpy()
        self._request.infer()
        return self._output[0].copy()


class CudaGraphBackend:
    """All kernels launched at once, on fixed buffers; copies go through pinned memory."""

    def __init__(self, policy: Policy, batch: Batch, noise: torch.Tensor) -> None:
        if noise.device.type != 'cuda':
            raise UnavailableError('needs a CUDA device')
        self._pinned = {k: torch.empty_like(v, pin_memory=True) for k, v in batch.items()}
        self._inputs = {k: v.to(noise.device) for k, v in batch.items()}
        self._noise = noise.clone()
        self._graph = torch.cuda.CUDAGraph()
        with torch.no_grad():
            # what kernels set up when they first run must not be captured
            side = torch.cuda.Stream(noise.device)
            side.wait_stream(torch.cuda.current_stream(noise.device))
            with torch.cuda.stream(side):
                for _ in range(3):
                    policy(self._inputs, self._noise)
            torch.cuda.current_stream(noise.device).wait_stream(side)
            with torch.cuda.graph(self._graph):
                self._output = policy(self._inputs, self._noise)[0].float()
        self._answer = torch.empty(self._output.shape, pin_memory=True)

    def __call__(self, batch: Batch, noise: torch.Tensor) -> Float32:
        """See the module."""
        with torch.no_grad():
            for key, pinned in self._pinned.items():
                pinned.copy_(batch[key])
                self._inputs[key].copy_(pinned, non_blocking=True)
            self._noise.copy_(noise)
            self._graph.replay()
            self._answer.copy_(self._output, non_blocking=True)
            torch.cuda.current_stream(noise.device).synchronize()
            return self._answer.numpy().copy()


BACKENDS: dict[str, type[Backend]] = {
    'torch': TorchBackend, 'trace': TraceBackend, 'numpy': NumpyBackend, 'onnx': OnnxBackend,
    'openvino': OpenVinoBackend, 'cuda_graph': CudaGraphBackend,
}
INPUTS, OUTPUT = ('features', 'noise'), 'action'


class Positional(nn.Module):
    """A policy of features alone, with tensors as arguments."""

    def __init__(self, policy: Policy) -> None:
        super().__init__()
        self.policy = policy

    def forward(self, features: torch.Tensor, noise: torch.Tensor | None = None) -> torch.Tensor:
        """``(B, n_obs_steps, F)`` features and ``(B, N)`` noise, left out where N = 0."""
        if noise is None:
            noise = features.new_empty(len(features), 0)
        actions: torch.Tensor = self.policy({'features': features}, noise)
        return actions


def onnx_graph(module: nn.Module, arguments: tuple[torch.Tensor, ...]) -> bytes:
    """A module as an ONNX model for exactly these shapes.

    Raises:
        UnavailableError: the package onnx is missing, or an operator cannot be exported.
    """
    file: Any = io.BytesIO()
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter('ignore')
        try:
            torch.onnx.export(
                module.eval(), arguments, file, input_names=list(INPUTS[:len(arguments)]),
                output_names=[OUTPUT], opset_version=17,
                dynamo=False)  # the other exporter needs onnxscript
        except Exception as error:  # of many kinds, by torch's version
            if find_spec('onnx') is None:
                raise UnavailableError(
                    "onnx is not installed: pip install 'il_robot[onnx]'") from None
            why = (str(error).strip() or repr(error)).splitlines()[-1]
            raise UnavailableError(f'no export to ONNX: {why}') from None
    return file.getvalue()


def _on_cpu(batch: Batch, noise: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """The inputs of a graph: features, and noise where the policy samples."""
    _only_features(batch)
    if noise.device.type != 'cpu':
        raise UnavailableError('only on a CPU')
    return batch['features'], *((noise,) if noise.shape[1] else ())


def _only_features(batch: Batch) -> None:
    more = sorted(batch.keys() - {'features'})
    if more:
        raise UnavailableError(f'only for policies without {", ".join(more)}')
