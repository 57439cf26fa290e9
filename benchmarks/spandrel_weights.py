"""Every bundled file of weights in another program's reader, spandrel, against this project's network on a picture.

    make build/spandrel/.installed
    PYTHONPATH=build/spandrel .venv/bin/python benchmarks/spandrel_weights.py PICTURE...

spandrel is no dependency of this project, so it lies beside the environment. Where its ``torchvision`` cannot be
imported (it has no build for every torch), an empty one stands in: architectures other than RCAN alone use it.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import sys
import types
from pathlib import Path

import numpy as np
import torch

from rcan_video.network.catalog import entries, load_model
from rcan_video.network.fold import FoldedRCAN
from rcan_video.pictures import read_picture, to_pixels

LIMIT = (
    0.01  # codes of 255 between two ways of adding up the same products in float32; a wrong weight makes whole codes
)


def stand_in_for_torchvision() -> bool:
    """Whether the real one was missing or broken, and an empty one is there now."""
    try:
        importlib.import_module("torchvision.transforms.functional")
    except (ImportError, RuntimeError):  # RuntimeError: built for another torch
        for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
            del sys.modules[name]
        for name in ("torchvision", "torchvision.transforms", "torchvision.transforms.functional"):
            sys.modules[name] = types.ModuleType(name)
        functional = sys.modules["torchvision.transforms.functional"]
        for name in ("InterpolationMode", "normalize", "rotate"):  # what spandrel's modules import by name
            setattr(functional, name, None)
        return True
    return False


@torch.inference_mode()
def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pictures", nargs="+", type=Path, metavar="PICTURE")
    args = parser.parse_args()
    if importlib.util.find_spec("spandrel") is None:
        print(
            "spandrel cannot be imported: make build/spandrel/.installed, and set PYTHONPATH to that folder",
            file=sys.stderr,
        )
        return 2
    stub = stand_in_for_torchvision()
    from spandrel import ImageModelDescriptor, ModelLoader

    versions = [f"{name} {importlib.metadata.version(name)}" for name in ("spandrel", "torch")]
    print(", ".join(versions) + (", an empty module for torchvision" if stub else ""))
    print("\n| file | read as | largest difference, codes of 255 | 8-bit samples that differ |\n|---|---|---|---|")
    worst = 0.0
    for entry in entries():
        loaded = load_model(entry.name, entry.scale)
        ours = FoldedRCAN(loaded.net)
        theirs = ModelLoader("cpu").load_from_file(entry.path)
        assert isinstance(theirs, ImageModelDescriptor)
        largest, differing, count = 0.0, 0, 0
        for path in args.pictures:
            picture = torch.from_numpy(read_picture(path)).permute(2, 0, 1)[None].float() / 255
            mine, other = ours(picture).clamp_(0, 1), theirs(picture)
            largest = max(largest, float((mine - other).abs().max()) * 255)
            rounded = to_pixels(mine), to_pixels(other)
            differing += int(np.count_nonzero(rounded[0] != rounded[1]))
            count += rounded[0].size
        size = f"{theirs.architecture.name} x{theirs.scale}, {theirs.tags[0]}"
        print(f"| `{entry.path.name}` | {size} | {largest:.1e} | {differing} of {count} |")
        worst = max(worst, largest)
    return 0 if worst <= LIMIT else 1


if __name__ == "__main__":
    sys.exit(main())
