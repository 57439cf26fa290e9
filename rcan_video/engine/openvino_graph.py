"""From a module of torch to a model of OpenVINO, for planes of one shape.

The frontend is called directly. ``openvino.convert_model`` would trace with a check that computes everything three
times, and report that it was used.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

from rcan_video.engine.openvino_silent import openvino

# isort: split
import torch
from openvino import opset13
from openvino.frontend import FrontEndManager
from openvino.frontend.pytorch import ConversionExtension
from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder
from torch import nn
from torch.jit import TracerWarning, trace  # type: ignore[attr-defined]

_ELEMENTS = {torch.uint8: "u8", torch.uint16: "u16", torch.int32: "i32", torch.float32: "f32", torch.bool: "boolean"}

# How a trace stores a type: torch's ScalarType, which its Python names do not give away.
_TRACED = {0: "u8", 3: "i32", 4: "i64", 6: "f32", 7: "f64", 11: "boolean", 27: "u16"}


def convert(net: nn.Module, shapes: Sequence[tuple[int, int]], dtype: torch.dtype) -> Any:
    """An ``openvino.Model`` of ``net``, whose inputs are planes (1, H, W) of these ``shapes`` and this type.

    ``net`` is in eval mode. It is traced on zero frames where that can be: with the real shapes, but without computing
    anything. Raises RuntimeError for what OpenVINO has no operation for.
    """
    # torch (2.13) gives an empty tensor back as it was instead of unshuffling it.
    frames = 1 if any(isinstance(module, nn.PixelUnshuffle) for module in net.modules()) else 0
    examples = tuple(torch.zeros((frames, *shape), dtype=dtype) for shape in shapes)
    # A function, because torch would first compile all modules of a module: half of the time.
    with torch.no_grad(), warnings.catch_warnings():
        # That it is deprecated, and that Python branches on shapes: those are constant here.
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.simplefilter("ignore", TracerWarning)
        traced = trace(lambda *planes: net(*planes), examples, check_trace=False)  # type: ignore[no-untyped-call]
    frontend = FrontEndManager().load_by_framework("pytorch")
    frontend.add_extension(ConversionExtension("aten::to", _to))
    decoder = TorchScriptPythonDecoder(traced)  # kept until the end: the frontend calls it, but does not own it
    model = frontend.load(decoder)
    for place, shape in zip(model.get_inputs()[-len(shapes) :], shapes, strict=True):
        model.set_partial_shape(place, openvino.PartialShape([1, *shape]))
        model.set_element_type(place, getattr(openvino.Type, _ELEMENTS[dtype]))
    converted = frontend.convert(model)
    del decoder
    return converted


def _to(node: Any) -> Any:
    """``Tensor.to(dtype)``, because OpenVINO's own translation knows no uint16."""
    return opset13.convert(node.get_input(0), _TRACED[node.get_values_from_const_input(1)]).outputs()
