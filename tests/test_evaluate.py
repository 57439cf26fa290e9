"""``rcan-video-eval``: known answers from published pictures, pairs by name, videos, compression, files."""

from __future__ import annotations

import csv
import json
import math
import os
import re
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from clips import SHARED, make_clip, needs_encoder
from train_helpers import texture, write_textures

from rcan_video import errors
from rcan_video.evaluate import tables
from rcan_video.evaluate.items import collect
from rcan_video.evaluate.measure import evaluate, write_files
from rcan_video.evaluate.results import Evaluation
from rcan_video.metrics import FIGURES, Meter, psnr_y
from rcan_video.network import checkpoint
from rcan_video.network.rcan import RCAN, RCANConfig
from rcan_video.options import EvalOptions
from rcan_video.pictures import compressed, read_frames, read_picture
from rcan_video.report import write_png
from rcan_video.resize import enlarge, reduce

ROOT = Path(__file__).parents[1]
SET5 = SHARED / "data/sr/Set5"
SECONDS = 120.0


def run(*hr: Path | str, **options: Any) -> Evaluation:
    wanted = EvalOptions(tuple(map(str, hr)), **options)
    found = evaluate(wanted, lambda text: None)
    write_files(wanted, found)
    return found


# --- known answers ----------------------------------------------------------------------------------------------------


def published(method: str, scale: int) -> dict[str, tuple[float, float]]:
    """PSNR and SSIM by picture from the results file, where the picture "Mean" is the mean."""
    figures, current = {}, ""
    for line in (SET5 / "PSNR_SSIM_Results_BI_model.txt").read_text().splitlines():
        if line.startswith("Method"):
            current = re.split(r"[ ;]+", line)[1]
        found = re.fullmatch(rf"x{scale}(?:: | \d (\w+)_{method}_x\d\.png: )PSNR= ([\d.]+) SSIM= ([\d.]+)\s*", line)
        if found and current == method:
            figures[found[1] or "Mean"] = float(found[2]), float(found[3])
    assert len(figures) == 6
    return figures


@pytest.mark.skipif(not SET5.is_dir(), reason="the Set5 pictures are not here (../shared/data/sr/Set5)")
@pytest.mark.parametrize("scale", [2, 3, 4, 8])
def test_published_figures_of_published_pictures(scale: int) -> None:
    """Every line of the results file: PSNR to 1e-5 dB, SSIM to 1e-5. The originals of x8 are cut from whole ones."""
    hr = SET5 / f"HR/x{scale}" if scale < 8 else SET5 / "orig"
    places = {method: str(SET5 / f"SR_{method}/x{scale}") for method in ("RCAN", "RCANplus")}
    found = run(hr, results=tuple(places.values()), scale=scale)
    for method, column in zip(places, found.methods[2:], strict=True):
        got = {s.item: (s.mean.psnr_y, s.mean.ssim_y) for s in found.of("", column)}
        mean = found.mean("", column)
        got["Mean"] = mean.psnr_y, mean.ssim_y
        assert got == {name: pytest.approx(value, abs=1e-5) for name, value in published(method, scale).items()}


# --- pictures ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def hr(tmp_path: Path) -> Path:
    return write_textures(tmp_path / "hr", 2, 49)


def test_originals_are_cut_and_reduced_where_no_small_ones_are_given(hr: Path, tmp_path: Path) -> None:
    (tmp_path / "lr").mkdir()
    for name in ("0", "1"):
        write_png(tmp_path / "lr" / f"{name}_LRBI_x2.png", reduce(read_picture(hr / f"{name}.png"), 2))
    alone, pairs = run(hr), run(hr, lr=str(tmp_path / "lr"))
    assert alone == pairs
    assert alone.methods == ("bicubic", "Lanczos", "fast") and alone.items == ("0", "1") and alone.scale == 2
    cut = read_picture(hr / "1.png")[:48, :48]
    for method, kernel in (("bicubic", "bicubic"), ("Lanczos", "lanczos")):
        assert alone.of("", method)[1].frames == (Meter(2)(cut, enlarge(reduce(cut, 2), 2, kernel)),)
    assert alone.mean("", "fast").psnr_y > alone.mean("", "bicubic").psnr_y
    means = [s.mean.psnr_y for s in alone.of("", "fast")]
    assert alone.mean("", "fast").psnr_y == pytest.approx(sum(means) / 2)


def test_small_ones_that_are_given_are_what_is_enlarged(hr: Path, tmp_path: Path) -> None:
    blank = tmp_path / "blank"
    blank.mkdir()
    for name in ("0", "1"):
        write_png(blank / f"{name}.png", np.full((24, 24, 3), 128, np.uint8))
    assert run(hr, lr=str(blank)).mean("", "bicubic").psnr_y < run(hr).mean("", "bicubic").psnr_y - 1


def test_a_self_ensemble_is_a_column_of_its_own(hr: Path) -> None:
    found = run(hr, self_ensemble=True)
    assert found.methods[2:] == ("fast", "fast+")
    assert found.mean("", "fast+") != found.mean("", "fast")
    assert found.mean("", "fast+").psnr_y == pytest.approx(found.mean("", "fast").psnr_y, abs=1.0)


def test_results_alone_need_no_network(hr: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rcan_video.evaluate.methods.load_model", None)
    found = run(hr, results=(str(hr),), scale=3)  # the originals themselves: nothing is better
    assert found.methods == ("bicubic", "Lanczos", f"{tmp_path.name}/hr") and found.scale == 3
    assert found.mean("", found.methods[2]).psnr_y == math.inf
    assert found.mean("", found.methods[2]).ssim_rgb == 1


def touch(folder: Path, *names: str) -> str:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return str(folder)


def test_a_file_belongs_to_the_longer_of_two_names(tmp_path: Path) -> None:
    hr = touch(tmp_path / "hr", "img.png", "img_2.png", "city.png")
    lr = touch(tmp_path / "lr", "imgx2.png", "img_2x2.png", "city_a/cityx2.png", "city_LRBI_x2.png")
    found = {item.name: item.lr for item in collect([hr], lr, [], 2)}
    assert found == {name: Path(lr) / f"{file}.png" for name, file in PARTNERS.items()}
    (tmp_path / "lr" / "imgx2.png").unlink()
    with pytest.raises(errors.InputError, match="lr: holds nothing for img; name it img, or imgx2"):
        collect([hr], lr, [], 2)


PARTNERS = {"img": "imgx2", "img_2": "img_2x2", "city": "city_LRBI_x2"}


def test_partners_by_name(tmp_path: Path) -> None:
    hr = touch(tmp_path / "hr", "1.png", "10.png", "city/1.png")
    lr = touch(tmp_path / "lr", "1x2.png", "1x3.png", "10_LRBI_x2.webp", "city/1.png", "city/10x2.png")
    found = {item.name: item.lr and item.lr.relative_to(lr).as_posix() for item in collect((hr,), lr, (), 2)}
    assert found == {"1": "1x2.png", "10": "10_LRBI_x2.webp", "city/1": "city/1.png"}


def test_a_single_file_belongs_to_a_single_original(tmp_path: Path) -> None:
    touch(tmp_path, "a.mp4", "b.mkv")
    (item,) = collect((str(tmp_path / "a.mp4"),), None, (str(tmp_path / "b.mkv"),), 2)
    assert (item.name, item.results) == ("a", (tmp_path / "b.mkv",))


# --- videos -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    return make_clip(tmp_path / "clip.mp4", size=(66, 50), frames=6, options={"crf": "4"})


def test_a_pair_of_videos(clip: Path, tmp_path: Path) -> None:
    other = make_clip(tmp_path / "other.mkv", size=(66, 50), frames=6, options={"crf": "35"})
    found = run(clip, results=(str(other),), scale=2)
    (series,) = found.of("", found.methods[2])
    meter = Meter(2)
    assert series.frames == tuple(meter(h, s) for h, s in zip(read_frames(clip), read_frames(other), strict=True))
    assert len(series.frames) == 6 and series.frames[0].temporal is None
    assert all(score.temporal and score.temporal > 0.1 for score in series.frames[1:])
    assert series.mean.psnr_y == pytest.approx(np.mean([score.psnr_y for score in series.frames]))


def test_frames_take_the_first_ones(clip: Path) -> None:
    whole, part = run(clip), run(clip, frames=2)
    for method in whole.methods:
        assert part.of("", method)[0].frames == whole.of("", method)[0].frames[:2]


def test_more_compression_is_worse_and_clean_is_best(clip: Path) -> None:
    needs_encoder("libx264")
    found = run(clip, crf=(10.0, 40.0))
    assert found.conditions == ("CRF 10", "CRF 40") and found.items == ("clip",)
    clean = run(clip)
    for method in found.methods:
        fine, coarse = (found.mean(condition, method).psnr_y for condition in found.conditions)
        assert clean.mean("", method).psnr_y > fine > coarse + 1


def test_compression_is_that_of_the_half_sized_clip(clip: Path) -> None:
    """By hand, in one go: sizes are even after halving, so 50 rows become 48."""
    needs_encoder("libx264")
    hr = [frame[:48, :64] for frame in read_frames(clip)]
    small = compressed([reduce(frame, 2) for frame in hr], "libx264", {"crf": "23", "preset": "medium"}, 1)
    wanted = [psnr_y(h, enlarge(lr, 2), 2) for h, lr in zip(hr, small, strict=True)]
    (series,) = run(clip, crf=(23.0,)).of("CRF 23", "bicubic")
    assert [score.psnr_y for score in series.frames] == wanted


def test_compression_gives_the_same_bits_every_time(clip: Path) -> None:
    """With x264's assembly, one run in six differs for these frames (32x24)."""
    needs_encoder("libx264")
    small = [reduce(frame[:48, :64], 2) for frame in read_frames(clip)]
    runs = (compressed(small, "libx264", {"crf": "23", "preset": "medium"}, 1) for _ in range(30))
    assert len({b"".join(frame.tobytes() for frame in frames) for frames in runs}) == 1


def test_compression_takes_frames_as_they_come_and_gives_them_all() -> None:
    """More than an encoder holds back, so that some must come out before the last has gone in."""
    needs_encoder("libx264")
    taken = 0

    def frames() -> Any:
        nonlocal taken
        for k in range(80):
            taken += 1
            yield np.full((32, 32, 3), 3 * k, np.uint8)

    early, levels = None, []
    for frame in compressed(frames(), "libx264", {"crf": "10", "preset": "veryfast"}, 1):
        early = taken if early is None else early
        levels.append(float(frame.mean()))
    assert early is not None and early < 80 == taken == len(levels)
    assert np.abs(np.array(levels) - 3 * np.arange(80)).max() < 3


# --- what is written --------------------------------------------------------------------------------------------------


def test_csv_json_and_markdown_hold_the_same(clip: Path) -> None:
    found = run(clip, crf=(30.0,), frames=3)
    rows = list(csv.DictReader(tables.csv_text(found).splitlines()))
    assert [(r["item"], r["frame"]) for r in rows if r["method"] == "fast"] == [
        *[("clip", frame) for frame in ("0", "1", "2", "mean")],
        ("mean", ""),
    ]
    whole = json.loads(tables.json_text(found))
    mean = found.mean("CRF 30", "fast")
    (stated,) = [m for m in whole["means"] if m["method"] == "fast"]
    assert stated == {"condition": "CRF 30", "method": "fast", **asdict(mean)}
    assert all(float(rows[-1][name]) == pytest.approx(stated[name], abs=1e-6) for name in (*FIGURES, "temporal"))
    (series,) = [s for s in whole["series"] if s["method"] == "fast"]
    assert len(series["frames"]) == 3 and series["frames"][0]["temporal"] is None
    text = tables.markdown(found)
    assert f"| {mean.psnr_y:.3f} / {mean.ssim_y:.4f} |" in text and "CRF 30" in text
    assert f"| fast | {mean.psnr_y:.3f} | {mean.ssim_y:.4f} |" in text and f"| {mean.temporal:.4f} |" in text


def test_identical_pictures_are_valid_json(hr: Path) -> None:
    found = run(hr, results=(str(hr),), scale=2)
    whole = json.loads(tables.json_text(found), parse_constant=lambda name: pytest.fail(name))
    assert [m["psnr_y"] for m in whole["means"] if m["method"] == found.methods[2]] == [None]
    assert ",inf," in tables.csv_text(found) and "inf / 1.0000" in tables.markdown(found)


def test_files_appear_and_are_kept_unless_told(hr: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    targets = {kind: str(tmp_path / f"out.{kind}") for kind in ("csv", "json")} | {"sheet": str(tmp_path / "out.png")}
    found = run(hr, **targets)
    assert (tmp_path / "out.csv").read_text() == tables.csv_text(found)
    assert (tmp_path / "out.json").read_text() == tables.json_text(found)
    sheet = read_picture(tmp_path / "out.png")
    best = read_picture(hr / "0.png")[:48, :48].repeat(4, axis=0).repeat(4, axis=1)
    corners = np.argwhere(np.all(sheet == best[0, 0], axis=2))
    assert any(np.array_equal(sheet[y : y + 192, x : x + 192], best) for y, x in corners)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["hr", "out.csv", "out.json", "out.png"]
    monkeypatch.setattr("rcan_video.evaluate.measure._measure", None)  # refused before anything is computed
    with pytest.raises(errors.OutputError, match=r"out\.csv exists already"):
        run(hr, csv=targets["csv"])


def test_what_is_read_is_not_written_over(hr: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Originals, small ones, results and weights, also under another name of theirs."""
    monkeypatch.chdir(tmp_path)
    for folder, size in (("lr", 48), ("sr", 96)):
        Path(folder).mkdir()
        for name in sorted(path.name for path in hr.iterdir()):
            write_png(Path(folder) / name, texture(0, size))
    checkpoint.save(RCAN(RCANConfig(1, 1, 8, 4, rgb_range=1.0, mean_shift=False)), "mine.safetensors")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.*")}
    for target in ("hr/1.png", "lr/1.png", "sr/../sr/1.png", "mine.safetensors"):
        for kind in ("csv", "sheet"):
            options = {"lr": "lr", "results": ("sr",), "models": ("mine.safetensors",), kind: target}
            with pytest.raises(errors.OutputError, match="is the input itself"):
                run("hr", **options, overwrite=True)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*.*")} == before


def test_a_name_stays_in_its_cell() -> None:
    row = tables._row(["a|b\nc", "1"])
    assert row == "| a\\|b c | 1 |"


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"csv": "one", "json": "./one"}, errors.OutputError, "one, ./one: one file cannot hold two of --csv"),
        ({"csv": ""}, errors.UsageError, "--csv has an empty name, perhaps a variable of the shell: name a file"),
        ({"json": "/dev/null"}, errors.OutputError, "/dev/null is a pipe or a device: name a file"),
        ({"csv": "-"}, errors.OutputError, "standard output carries the table: name a file in place of -"),
        ({"sheet": "sheet.jpg"}, errors.UsageError, "--sheet writes a PNG: give it an ending of .png, not sheet.jpg"),
        ({"lr": ""}, errors.InputError, "one of the names is empty"),
        ({"results": ("hr",)}, errors.UsageError, "nothing tells the scale"),
        ({"results": ("hr",), "scale": 2, "self_ensemble": True}, errors.UsageError, "is for a network"),
        ({"crf": (23.0,), "lr": "hr"}, errors.UsageError, "--video-crf makes the small pictures itself"),
        ({"models": ("fast", "fast")}, errors.UsageError, "two columns would be called fast"),
        ({"models": ("nothing",)}, errors.WeightsError, "nothing: there is no such file"),
        ({"lr": "hr"}, errors.InputError, "0: bicubic is 98x98, not 48x48"),
        ({"lr": "small"}, errors.InputError, "small: holds nothing for 0"),
        ({"lr": "both"}, errors.InputError, "both: holds 2 files for 0"),
        ({"lr": "nowhere"}, errors.InputError, "nowhere: there is no such file or folder"),
        ({"hr": ("hr", "hr/0.png")}, errors.InputError, "0 is also"),
        ({"hr": ("tiny.png",)}, errors.InputError, "tiny.png: 14x14 is too small to be measured at x2"),
        ({"hr": ("junk.png",)}, errors.InputError, "junk.png: is no picture"),
        ({"hr": ("clip.mp4",), "results": ("short.mp4",), "scale": 2}, errors.InputError, "another number of frames"),
        ({"device": "nonsense"}, errors.DeviceError, "no device is called 'nonsense'"),
    ],
)
def test_what_cannot_be_done_is_said_in_a_sentence(
    options: dict[str, Any], error: type[Exception], words: str, hr: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(hr.parent)
    touch(Path("small"), "9.png")
    touch(Path("both"), "0_a_x2.png", "0_b_x2.png")
    write_png(Path("tiny.png"), texture(0, 14))
    Path("junk.png").write_text("no picture")
    make_clip(Path("clip.mp4"), frames=3)
    make_clip(Path("short.mp4"), frames=2)
    with pytest.raises(error, match=re.escape(words)) as raised:
        run(*options.pop("hr", ("hr",)), **options)
    assert "\n" not in str(raised.value)


# --- the command ------------------------------------------------------------------------------------------------------


def command(monkeypatch: pytest.MonkeyPatch, *line: str) -> int:
    from rcan_video.commands.evaluate import main

    monkeypatch.setattr(sys, "argv", ["rcan-video-eval", *line])
    with pytest.raises(SystemExit) as exit:
        main()
    assert isinstance(exit.value.code, int)
    return exit.value.code


def test_the_table_is_all_that_standard_output_carries(
    hr: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(monkeypatch, str(hr), "--scale", "2") == 0
    said = capsys.readouterr()
    assert said.out == tables.markdown(run(hr)) + "\n"
    assert said.err.splitlines() == [f"rcan-video-eval: measuring {n + 1}/2: {n}" for n in range(2)]
    assert command(monkeypatch, str(hr), "--quiet") == 0
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("line", "code", "words"),
    [
        ([], 2, "HR"),
        (["hr", "--video-crf", "18,x"], 2, "no list of numbers"),
        (["hr", "--video-crf", "18,18"], 2, "different numbers"),
        (["hr", "--video-crf", "nan"], 2, "from 0 to 51"),
        (["nowhere"], 3, "nowhere: there is no such file or folder"),
        (["hr", "--csv", "nowhere/a.csv"], 4, "does not exist"),
        (["hr", "--scale", "8"], 5, "no x8 weights"),
        (["hr", "--device", "cuda:99"], 6, "device"),
    ],
)
def test_exit_codes(
    line: list[str],
    code: int,
    words: str,
    hr: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(hr.parent)
    assert command(monkeypatch, *line) == code
    said = capsys.readouterr().err
    assert said.startswith("rcan-video-eval: ") and words in said and said.count("\n") == 1


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_table_that_cannot_be_printed(hr: Path) -> None:
    line = [sys.executable, "-c", "from rcan_video.commands.evaluate import main; main()", str(hr), "-q"]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(line, stdout=full, stderr=subprocess.PIPE, text=True, cwd=ROOT, timeout=SECONDS)
    assert done.returncode == 4
    assert done.stderr == "rcan-video-eval: standard output cannot be written: the disk is full\n"
    ours, theirs = os.pipe()
    os.close(ours)
    done = subprocess.run(line, stdout=theirs, stderr=subprocess.PIPE, text=True, cwd=ROOT, timeout=SECONDS)
    os.close(theirs)
    assert (done.returncode, done.stderr) == (4, "")  # as the main command: whoever closed it knows


def test_help_is_quick() -> None:
    code = (
        "import sys; sys.argv = ['rcan-video-eval', '--help']\n"
        "import atexit; atexit.register(lambda: print({'torch', 'av', 'cv2', 'rich', 'numpy'} & set(sys.modules)))\n"
        "from rcan_video.commands.evaluate import main; main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, timeout=SECONDS)
    assert done.returncode == 0 and "--self-ensemble" in done.stdout
    assert done.stdout.rstrip().endswith("set()")
