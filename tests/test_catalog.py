"""The bundled weights: their index, the ways to name a model, and the scores that the model card promises."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import safetensors.torch
import torch

from rcan_video.errors import WeightsError
from rcan_video.evaluate.measure import evaluate
from rcan_video.network import catalog, checkpoint
from rcan_video.network.rcan import RCAN, RCANConfig
from rcan_video.options import EvalOptions

SET5 = Path(__file__).parents[2] / "shared" / "data" / "sr" / "Set5"
BUNDLED = [
    ("base", 2),
    ("base", 3),
    ("base", 4),
    ("base-video", 2),
    ("base-video", 4),
    ("fast", 2),
    ("fast", 3),
    ("fast", 4),
    ("fast-video", 2),
    ("fast-video", 4),
]
SMALL = RCANConfig(groups=1, blocks=1, features=8, reduction=4, upscale=3)


@pytest.fixture
def x3_file(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    path = tmp_path / "mine.safetensors"
    checkpoint.save(RCAN(SMALL), path)
    return path


def test_the_index_tells_the_truth() -> None:
    bundled = catalog.entries()
    assert [(entry.name, entry.scale) for entry in bundled] == BUNDLED
    for entry in bundled:
        net = checkpoint.load(entry.path)
        assert asdict(net.config) == entry.config
        assert net.config.scale == entry.scale
        assert hashlib.sha256(entry.path.read_bytes()).hexdigest() == entry.sha256


def test_the_model_card_has_the_scores_of_the_index() -> None:
    card = (catalog.entries()[0].path.parent / "MODEL_CARD.md").read_text(encoding="utf-8")
    for entry in catalog.entries():
        scores = entry.scores["Set5"]
        assert f"| {entry.name} x{entry.scale} | {scores['psnr_y']:.3f} | {scores['bicubic']:.3f} |" in card


def test_listing_loads_no_torch() -> None:
    code = "import sys; from rcan_video.network import catalog; catalog.entries(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_bundled_by_name(scale: int) -> None:
    loaded = catalog.load_model("fast", scale)
    assert (loaded.name, loaded.net.config.scale) == ("fast", scale)
    assert loaded.sha256 == hashlib.sha256(loaded.path.read_bytes()).hexdigest()


def test_bundled_is_x2_unless_told() -> None:
    assert catalog.load_model("fast", None).net.config.scale == 2


@pytest.mark.parametrize("scale", [None, 3])
def test_by_path(x3_file: Path, scale: int | None) -> None:
    loaded = catalog.load_model(str(x3_file), scale)
    assert (loaded.name, loaded.path, loaded.net.config) == ("mine", x3_file, SMALL)
    assert loaded.sha256 == hashlib.sha256(x3_file.read_bytes()).hexdigest()


def test_a_path_of_another_scale(x3_file: Path) -> None:
    with pytest.raises(WeightsError, match=r"mine\.safetensors: is a x3 model, and x2 is asked for; give --scale 3"):
        catalog.load_model(str(x3_file), 2)


def test_no_bundled_weights_of_that_scale() -> None:
    with pytest.raises(
        WeightsError, match=r"fast: no x8 weights are bundled; bundled are: base x2, .*fast x4, fast-video x2"
    ):
        catalog.load_model("fast", 8)


@pytest.mark.parametrize("name", ["fats", "no/such.pth", "", "a\0b"])
def test_neither_a_name_nor_a_file(name: str) -> None:
    with pytest.raises(WeightsError) as caught:
        catalog.load_model(name, None)
    assert "\n" not in str(caught.value)


def test_an_unknown_name_lists_what_there_is() -> None:
    with pytest.raises(
        WeightsError, match=r"fats: there is no such file, nor .*bundled are: base x2, .*fast x2, fast x3, fast x4"
    ):
        catalog.load_model("fats", None)


def test_bundled_weights_that_were_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    changed = tuple(replace(entry, sha256="0" * 64) for entry in catalog.entries())
    monkeypatch.setattr(catalog, "entries", lambda: changed)
    with pytest.raises(WeightsError, match="sha256 differs"):
        catalog.load_model("fast", 2)


@pytest.mark.parametrize("text", ["", "[{}]", "[1]", "{"])
def test_a_damaged_index(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "index.json").write_text(text)
    monkeypatch.setattr(catalog, "_folder", lambda: tmp_path)
    with pytest.raises(WeightsError, match=r"index\.json: cannot be read .* install rcan-video anew"):
        catalog.entries()


def test_weights_inside_the_package_come_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = tmp_path / "rcan_video" / "network" / "catalog.py"
    monkeypatch.setattr(catalog, "__file__", str(module))
    with pytest.raises(WeightsError, match="the bundled weights are missing"):
        catalog.entries()
    for folder in (tmp_path / "weights", tmp_path / "rcan_video" / "weights"):  # checkout, then wheel
        folder.mkdir(parents=True)
        item = {"name": "a", "scale": 2, "file": "f", "sha256": "", "config": {}}
        item |= {"trained_on": "", "licence": "", "scores": {}}
        (folder / "index.json").write_text(json.dumps([item]))
        assert catalog.entries()[0].path == folder / "f"


@pytest.mark.skipif(not SET5.is_dir(), reason="needs ../shared/data/sr/Set5")
@pytest.mark.parametrize(("name", "scale"), BUNDLED)
def test_scores_on_set5(name: str, scale: int) -> None:
    (scores,) = [entry.scores["Set5"] for entry in catalog.entries() if (entry.name, entry.scale) == (name, scale)]
    options = EvalOptions((str(SET5 / f"HR/x{scale}"),), lr=str(SET5 / f"LRBI/x{scale}"), scale=scale, models=(name,))
    found = evaluate(options, lambda text: None)
    measured = {"psnr_y": found.mean("", name).psnr_y, "bicubic": found.mean("", "bicubic").psnr_y}
    assert measured == pytest.approx(dict(scores), abs=0.001)


@pytest.mark.skipif(not SET5.is_dir(), reason="needs ../shared/data/sr/Set5")
@pytest.mark.parametrize(("name", "scale"), BUNDLED)
def test_storage_loses_nothing_on_set5(name: str, scale: int, tmp_path: Path) -> None:
    """Saved and loaded: nothing at all. With the body, or all of the file, in half precision: below 0.001 dB."""
    net = catalog.load_model(name, scale).net
    checkpoint.save(net, tmp_path / "saved.safetensors")
    for part in ("body", ""):
        mixed = {key: t.half() if key.startswith(part) else t for key, t in net.state_dict().items()}
        safetensors.torch.save_file(mixed, tmp_path / f"half-{part}.safetensors")
    files = ("saved.safetensors", "half-body.safetensors", "half-.safetensors")
    models = (name, *(str(tmp_path / file) for file in files))
    options = EvalOptions((str(SET5 / f"HR/x{scale}"),), lr=str(SET5 / f"LRBI/x{scale}"), models=models, scale=scale)
    found = evaluate(options, lambda text: None)
    reference, saved, *halves = (found.mean("", method) for method in found.methods[2:])
    assert saved == reference
    for half in halves:
        assert half != reference and half.psnr_y == pytest.approx(reference.psnr_y, abs=1e-3)
