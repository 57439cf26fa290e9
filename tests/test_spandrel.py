"""The bundled weights in another program's reader: spandrel, which chaiNNer and others load RCAN checkpoints with."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from rcan_video.network.catalog import entries

ROOT = Path(__file__).parent.parent
PACKAGES = ROOT / "build" / "spandrel"  # put there by make: no dependency of this project, nor in its environment


@pytest.mark.slow
@pytest.mark.skipif(
    not (PACKAGES / "spandrel").is_dir(), reason="spandrel is not there: make build/spandrel/.installed"
)
def test_every_bundled_file_makes_the_same_picture(tmp_path: Path) -> None:
    picture = tmp_path / "noise.png"
    assert cv2.imwrite(str(picture), np.random.default_rng(0).integers(0, 256, (40, 56, 3), np.uint8))
    ran = subprocess.run(
        [sys.executable, ROOT / "benchmarks" / "spandrel_weights.py", picture],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, (str(PACKAGES), os.environ.get("PYTHONPATH"))))},
        timeout=300,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr  # 1 where two pictures differ
    for entry in entries():
        assert f"| `{entry.path.name}` | RCAN x{entry.scale}, " in ran.stdout
