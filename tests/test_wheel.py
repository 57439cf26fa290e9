"""The wheel, away from the checkout: what is in it, and that the main job runs from it alone."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from clips import make_clip, read_video

ROOT = Path(__file__).parents[1]
SUFFIXES = (".py", ".typed", ".html", ".css", ".js")

pytestmark = pytest.mark.slow


def python(*arguments: object, cwd: Path, path: Path | None = None) -> str:
    environment = {**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1"} | ({"PYTHONPATH": str(path)} if path else {})
    line = [sys.executable, *map(str, arguments)]
    done = subprocess.run(line, cwd=cwd, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("hatchling", reason="the build backend is not installed here")
    folder = tmp_path_factory.mktemp("wheel")
    python("-m", "hatchling", "build", "-t", "wheel", "-d", folder, cwd=ROOT)
    (found,) = folder.glob("*.whl")
    return found


def test_it_holds_the_package_and_the_weights_and_nothing_else(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    expected = {str(p.relative_to(ROOT)) for p in (ROOT / "rcan_video").rglob("*") if p.suffix in SUFFIXES}
    expected |= {f"rcan_video/weights/{p.name}" for p in (ROOT / "weights").iterdir()}
    data = "rcan_video-0.1.0.data/data/share/man/man1"
    expected |= {f"{data}/{page.name}" for page in (ROOT / "docs" / "man").iterdir()}
    (info,) = {name.partition("/")[0] for name in names if ".dist-info/" in name}
    expected |= {f"{info}/{name}" for name in ("METADATA", "RECORD", "WHEEL", "entry_points.txt", "licenses/LICENSE")}
    assert names == expected
    assert {
        "rcan_video/py.typed",
        "rcan_video/compare/page.html",
        "rcan_video/weights/index.json",
        "rcan_video/weights/fast-x2.safetensors",
    } <= names


def test_the_main_job_runs_from_it_alone(wheel: Path, tmp_path: Path) -> None:
    target, elsewhere = tmp_path / "installed", tmp_path / "elsewhere"
    elsewhere.mkdir()
    python("-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", target, wheel, cwd=elsewhere)
    clip = make_clip(elsewhere / "in.mp4", size=(48, 32), frames=4, audio=1)
    code = "import rcan_video; print(rcan_video.__file__); print(rcan_video.load_model('fast', 3).path)"
    package, weights = python("-c", code, cwd=elsewhere, path=target).splitlines()
    assert package == str(target / "rcan_video" / "__init__.py")
    assert weights == str(target / "rcan_video" / "weights" / "fast-x3.safetensors")
    said = python(target / "bin" / "rcan-video", clip, "out.mp4", "--quiet", cwd=elsewhere, path=target)
    assert said == ""
    assert [planes[0].shape for _, planes in read_video(elsewhere / "out.mp4")] == [(64, 96)] * 4
