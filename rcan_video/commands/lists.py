"""What there is to choose from, as tables on standard output: models, devices, codecs."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any


def models() -> str:
    from rcan_video.network.catalog import entries

    rows: list[Sequence[object]] = [("MODEL", "SCALE", "PSNR-Y", "BICUBIC", "FILE")]
    for entry in entries():
        scores = entry.scores.get("Set5", {})
        own, bicubic = (f"{scores[name]:.2f} dB" if name in scores else "" for name in ("psnr_y", "bicubic"))
        rows.append((entry.name, f"x{entry.scale}", own, bicubic, entry.path.name))
    note = "PSNR-Y: on Set5. Any RCAN checkpoint does as well: --model PATH (docs/models.md)."
    return f"{table(rows)}\n\n{note}"


def devices() -> str:
    import torch

    from rcan_video.engine.backend import ACCELERATORS, resolve_device
    from rcan_video.engine.choice import openvino_installed

    engines = "openvino, torch" if openvino_installed() else "torch"
    rows: list[Sequence[object]] = [("DEVICE", "WHAT", "MEMORY", "ENGINES")]
    rows.append(("cpu", f"{os.cpu_count()} cores", "", engines))
    for kind in ACCELERATORS:
        module: Any = getattr(torch, kind, None)
        count = module.device_count() if module is not None and module.is_available() else 0
        for number in range(count):
            name = kind if kind == "mps" else f"{kind}:{number}"
            properties = module.get_device_properties(number) if hasattr(module, "get_device_properties") else None
            memory = f"{properties.total_memory / 1e9:.1f} GB" if properties is not None else ""
            rows.append((name, getattr(properties, "name", ""), memory, "torch"))
    return f"{table(rows)}\n\nauto is {resolve_device('auto')}. torch {torch.__version__}."


def codecs() -> str:
    from rcan_video.media.listing import encoders

    rows: list[Sequence[object]] = [("ENCODER", "--crf", "--preset", "ALPHA", "WHAT")]
    for encoder in encoders():
        crf = "no" if encoder.crf is None else f"{encoder.crf:g}"
        alpha = "yes" if encoder.alpha else "no"
        rows.append((encoder.name, crf, "yes" if encoder.presets else "no", alpha, encoder.what))
    note = "--crf: the default, where the encoder has a constant quality. Any other video encoder of FFmpeg goes, too."
    return f"{table(rows)}\n\n{note}"


def table(rows: Sequence[Sequence[object]]) -> str:
    """Columns, two spaces apart."""
    widths = [max(len(str(cell)) for cell in column) for column in zip(*rows, strict=True)]
    lines = ("  ".join(str(cell).ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)
    return "\n".join(line.rstrip() for line in lines)
