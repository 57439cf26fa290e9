import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from types import ModuleType

import av
import cv2
import example_shell
import numpy as np
import pytest
import torch
from example_blocks import PAGES, ROOT, Block, blocks, furnish, without_blocks
from example_shell import make_stubs
from train_helpers import Watched, write_textures

from rcan_video.metrics import psnr, psnr_y
from rcan_video.network import checkpoint
from rcan_video.network.catalog import load_model
from rcan_video.options import TrainOptions
from rcan_video.pictures import read_picture
from rcan_video.train.loop import train

EXAMPLES = Path(__file__).parents[1] / "examples"
SAMPLE = EXAMPLES / "sample.mp4"
Trained = Callable[..., dict[int, dict[str, torch.Tensor]]]


def example(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up there
    spec.loader.exec_module(module)
    return module


make_sample = example("make_sample")
demo_picture = example("demo_picture")
make_shapes = example("make_shapes")
train_scales = example("train_scales")


def upscaled(path: Path, scale: int = 2, shift: int = 0, size: tuple[int, int] | None = None) -> Path:
    """A stand-in for a result: the sample enlarged by pixel repetition, losslessly, its times moved by ``shift``."""
    with av.open(str(SAMPLE)) as source, av.open(str(path), "w") as output:
        video = output.add_stream("libx264", rate=25, options={"qp": "0", "preset": "ultrafast"})
        video.width, video.height = size or (320 * scale, 180 * scale)
        video.pix_fmt = "yuv420p"
        video.codec_context.time_base = source.streams.video[0].time_base
        video.codec_context.colorspace, video.codec_context.color_range = 1, 1
        for frame in source.decode(video=0):
            large = frame.reformat(video.width, video.height, interpolation="POINT")
            large.pts, large.time_base = frame.pts + shift, frame.time_base
            large.pict_type = av.video.frame.PictureType.NONE
            output.mux(video.encode(large))
        output.mux(video.encode(None))
    return path


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return upscaled(tmp_path_factory.mktemp("examples") / "result.mp4")


def test_the_sample_is_what_the_readme_says() -> None:
    assert SAMPLE.stat().st_size < 500_000
    with av.open(str(SAMPLE)) as container:
        (video,), (audio,) = container.streams.video, container.streams.audio
        context = video.codec_context
        assert (context.name, context.pix_fmt, context.width, context.height) == ("h264", "yuv420p", 320, 180)
        assert (context.colorspace, context.color_primaries, context.color_trc, context.color_range) == (1, 1, 1, 1)
        assert (audio.codec_context.name, audio.rate, audio.layout.name) == ("aac", 48_000, "stereo")
        times = [frame.pts * frame.time_base for frame in container.decode(video)]
    assert times == [Fraction(n, 25) for n in range(75)]


def test_the_tone_is_440_hz_and_fades() -> None:
    with av.open(str(SAMPLE)) as container:
        sound = np.concatenate([frame.to_ndarray() for frame in container.decode(audio=0)], axis=1)
    assert sound.shape[0] == 2 and abs(sound.shape[1] - 144_000) <= 1024
    middle = sound[0, 48_000:96_000]
    assert int(np.argmax(np.abs(np.fft.rfft(middle)))) == 440  # a second long: a bin is a hertz
    assert np.abs(sound[:, :500]).max() < 0.01 < 0.15 < np.abs(middle).max()


def test_drawing_is_deterministic_and_moves() -> None:
    first = make_sample.draw(20)
    make_sample.draw(3)  # what is drawn in between leaves no trace
    assert first.shape == (180, 320, 3) and first.dtype == np.uint8
    assert np.array_equal(make_sample.draw(20), first)
    again = example("make_sample")  # nothing cached
    assert np.array_equal(again.draw(20), first)
    assert psnr(make_sample.draw(21), first) < 30


@pytest.mark.parametrize("index", [0, 37, 74])
def test_the_sample_shows_what_the_script_draws(index: int) -> None:
    still = demo_picture.still(SAMPLE, Fraction(index, 25))
    assert still.time == Fraction(index, 25)
    assert psnr_y(make_sample.draw(index), demo_picture._rgb(still.frame, 2), 0) > 36


def test_the_script_writes_a_clip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(make_sample, "FRAMES", 5)
    make_sample.write(tmp_path / "clip.mp4")
    with av.open(str(tmp_path / "clip.mp4")) as container:
        assert sum(1 for _ in container.decode(video=0)) == 5
        assert container.streams.audio[0].duration == 5 * 48_000 // 25


def test_the_demo_picture(tmp_path: Path, result: Path) -> None:
    picture = tmp_path / "demo.png"
    demo_picture.compare(SAMPLE, result, picture)
    drawn = cv2.imdecode(np.frombuffer(picture.read_bytes(), np.uint8), cv2.IMREAD_COLOR)
    assert drawn.shape[1] > 1000


def test_the_same_frame_of_both_is_taken(result: Path) -> None:
    before = demo_picture.still(SAMPLE, None)
    assert before.time == Fraction(30, 25)
    after = demo_picture.still(result, before.time)
    assert after.time == before.time
    small, large = demo_picture._rgb(before.frame, 2), demo_picture._rgb(after.frame, 2)
    beside = demo_picture._rgb(demo_picture.still(SAMPLE, Fraction(31, 25)).frame, 2)
    assert psnr(small, large[::2, ::2]) > psnr(small, beside) + 6
    late = demo_picture.still(SAMPLE, Fraction(99))
    assert late.time == Fraction(74, 25)


def test_untagged_sources_are_read_by_one_matrix() -> None:
    """Untagged 640x360 is BT.601 by custom and 1280x720 is BT.709: the picture must not show that as a change."""
    plane = np.concatenate([np.full((360, 640), 81), np.full((90, 640), 90), np.full((90, 640), 240)]).astype(np.uint8)
    small = av.VideoFrame.from_ndarray(plane, format="yuv420p")
    large = small.reformat(1280, 720)
    matrix = demo_picture._spec(small, 2).matrix
    assert matrix == 6
    before, after = demo_picture._rgb(small, matrix), demo_picture._rgb(large, matrix)
    assert np.abs(before.mean((0, 1)) - after.mean((0, 1))).max() < 0.6
    assert np.abs(before.mean((0, 1)) - (255, 0, 0)).max() < 2


@pytest.mark.parametrize(
    ("source", "result", "code", "words"),
    [
        ("missing.mp4", SAMPLE, 3, "missing.mp4: cannot be read as video (No such file or directory)"),
        (EXAMPLES / "make_sample.py", SAMPLE, 3, "make_sample.py: cannot be read as video (Invalid data"),
        (SAMPLE, EXAMPLES, 3, "examples: cannot be read as video (Is a directory)"),
        (SAMPLE, "tone.wav", 3, "tone.wav: holds no video"),
        (SAMPLE, "late.mp4", 3, "late.mp4: has no frame at 1.200 s"),
        (SAMPLE, "wide.mp4", 3, "a result of 642x360 is no whole multiple of its source of 320x180"),
        (SAMPLE, SAMPLE, 4, "demo.png: cannot be written"),
    ],
)
def test_one_sentence_when_it_cannot_be_drawn(
    source: Path | str,
    result: Path | str,
    code: int,
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    if result == "tone.wav":
        with av.open("tone.wav", "w") as output:
            stream = output.add_stream("pcm_s16le", rate=48_000, layout="mono")
            sound = av.AudioFrame.from_ndarray(np.zeros((1, 4800), np.int16), format="s16", layout="mono")
            sound.sample_rate = 48_000
            output.mux(stream.encode(sound))
            output.mux(stream.encode(None))
    elif result == "late.mp4":
        upscaled(Path(result), shift=200)
    elif result == "wide.mp4":
        upscaled(Path(result), size=(642, 360))
    monkeypatch.setattr(sys, "argv", ["demo_picture.py", str(source), str(result), "nowhere/demo.png"])
    with pytest.raises(SystemExit) as stopped:
        demo_picture.main()
    said = capsys.readouterr()
    assert stopped.value.code == code
    assert words in said.err and said.err.count("\n") == 1 and not said.out


# --- the examples of the documentation

_OTHERS = "of a data set or a checkpoint that is not part of the repository"
NOT_RUN = {
    ("README.md", "make demo"): "installs into a new environment; CI runs both commands",
    ("docs/cluster.md", "pip install"): "installs, and needs machines of a cluster",
    ("docs/cluster.md", "#!/bin/bash"): "is for a Slurm cluster",
    ("docs/evaluation.md", "rcan-video-eval HR --lr"): _OTHERS,
    ("docs/evaluation.md", "rcan-video-eval D/sr/Set5"): _OTHERS,
    ("docs/evaluation.md", "rcan-video-eval CLIP"): _OTHERS,
    ("docs/fidelity.md", "python benchmarks/fidelity.py"): _OTHERS,
    ("docs/models.md", "rcan-video in.mp4 out.mp4 --model RCAN_BIX2.pt"): _OTHERS,
    ("docs/recipes.md", "rcan-video in.mp4 out.mp4 --device cuda:0,cuda:1"): "needs two GPUs",
    ("docs/training.md", "python benchmarks/training.py"): "trains four networks",
    ("docs/training.md", "rcan-video-train PICTURES"): _OTHERS,
}
"""Blocks with the mark ``no-run``, by page and the beginning of the first line, and why."""

BLOCKS = [block for page in PAGES for block in blocks(page) if block.language in ("sh", "python")]
RUN = [block for block in BLOCKS if block.runs]


def called(block: Block) -> str:
    return f"{block.page}:{block.line}"


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The environment of a shell that finds the commands, and they their defaults: one thread of the CPU."""
    if shutil.which("bash") is None or sys.platform != "linux":
        pytest.skip("examples are for bash, and run in forks of a process with torch, which is safe on Linux alone")
    folder = Path(tempfile.mkdtemp(prefix="rv"))  # short: the address of a socket has some 100 characters
    address = str(folder / "s")
    stubs = tmp_path_factory.mktemp("bin")
    make_stubs(stubs, address)
    environment = {
        **os.environ,
        "PATH": f"{stubs}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "PYTHONWARNINGS": "ignore",  # that a process with threads forks
        "OMP_NUM_THREADS": "1",
        "CUDA_VISIBLE_DEVICES": "",
        "RCAN_VIDEO_DEVICE": "cpu",
        "RCAN_VIDEO_ENGINE": "torch",
        "RCAN_VIDEO_THREADS": "1",
    }
    server = subprocess.Popen(
        [sys.executable, example_shell.__file__, address], env=environment, stdout=subprocess.PIPE, text=True
    )
    try:
        assert server.stdout is not None and server.stdout.readline() == "ready\n"
        yield environment
    finally:
        server.kill()
        server.communicate()
        shutil.rmtree(folder)


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the files that examples name are kept."""
    return tmp_path_factory.mktemp("pool")


@pytest.mark.parametrize("block", RUN, ids=called)
def test_an_example_runs(block: Block, shell: dict[str, str], pool: Path, tmp_path: Path) -> None:
    if "ffmpeg" in block.code and shutil.which("ffmpeg") is None:
        pytest.skip("no ffmpeg on this machine")
    furnish(block, tmp_path, pool)
    code, script = block.code, tmp_path / f".example.{block.language}"
    script.write_text(code, encoding="utf-8")
    command = ["bash", "-eu", "-o", "pipefail"] if block.language == "sh" else ["python"]
    done = subprocess.run(
        [*command, str(script)],
        cwd=tmp_path,
        env=shell,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, f"{called(block)}\n{done.stdout}\n{done.stderr}"
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("block", [b for page in PAGES for b in blocks(page) if b.language == "toml"], ids=called)
def test_standing_choices_are_read(block: Block, shell: dict[str, str], pool: Path, tmp_path: Path) -> None:
    (tmp_path / "rcan-video.toml").write_text(block.code, encoding="utf-8")
    use = Block(block.page, block.line, "sh", "rcan-video season1 --out-dir up\n")
    test_an_example_runs(use, shell, pool, tmp_path)
    assert len(list((tmp_path / "up").iterdir())) == 2


def test_what_is_not_run_is_marked_and_known() -> None:
    marked = [(block.page, block.first) for block in BLOCKS if not block.runs]
    known = [[key for key in NOT_RUN if key[0] == page and first.startswith(key[1])] for page, first in marked]
    assert [mark for mark, keys in zip(marked, known, strict=True) if len(keys) != 1] == []
    assert {key for keys in known for key in keys} == set(NOT_RUN) and len(marked) == len(NOT_RUN)
    assert len(RUN) > 20


def test_no_example_hides_from_the_tests() -> None:
    """Commands stand in blocks that say what they are, not in bare or indented ones."""
    command = re.compile(r"(\$ )?(rcan-video|ffmpeg|python|pip|make|import|from) ")
    for page in PAGES:
        for block in blocks(page):
            assert block.language in ("sh", "python", "toml", "yaml", "json", "") and (
                block.language or not any(command.match(line) for line in block.code.splitlines())
            ), called(block)
        for line in without_blocks(page).splitlines():
            assert not (line.startswith("    ") and command.match(line.strip())), f"{page.name}: {line}"


def test_a_wrong_example_fails(shell: dict[str, str], pool: Path, tmp_path: Path) -> None:
    for language, code in (("sh", "rcan-video in.mp4 out.mp4 --scael 2 | cat\ntrue\n"), ("python", "1 / 0\n")):
        (tmp_path / language).mkdir()
        with pytest.raises(AssertionError, match=r"there is no option --scael|ZeroDivisionError"):
            test_an_example_runs(Block("README.md", 1, language, code), shell, pool, tmp_path / language)


def test_shapes_to_train_on(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "argv", ["make_shapes.py", str(tmp_path / "shapes"), "2"])
    make_shapes.main()
    first, second = (read_picture(tmp_path / "shapes" / f"shapes{number:03}.png") for number in range(2))
    assert np.array_equal(first, make_shapes.shapes(0)[:, :, ::-1])  # a function of the number alone
    assert psnr(first, second) < 20
    steps = np.abs(np.diff(first.astype(np.int16), axis=1)).max(axis=2)
    assert np.percentile(steps, 99) > 60  # grey levels from pixel to pixel: there are sharp edges


@pytest.fixture
def scales_trained(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Trained:
    """Runs train_scales.py on two pictures; what comes of it, by scale."""
    pictures = write_textures(tmp_path / "pictures", 2)

    def trained(out: str, *more: str, scales: str = "2,3") -> dict[int, dict[str, torch.Tensor]]:
        rest = f"--scales {scales} --init fast --teacher fast --iterations 5 --batch 2 --patch 16 --validate-every 1"
        paths = ["--valid", str(pictures), "--cache", str(tmp_path / "cache")]
        words = ["train_scales.py", str(pictures), str(tmp_path / out), *rest.split(), *paths, *more]
        monkeypatch.setattr(sys, "argv", words)
        train_scales.main()
        files = {int(scale): tmp_path / f"{out}-x{scale}.safetensors" for scale in scales.split(",")}
        return {scale: checkpoint.load(path).state_dict() for scale, path in files.items()}

    return trained


def test_a_body_for_two_scales(
    scales_trained: Trained,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Both files have it, all of it has learned, and a training that was cut off ends as one that was not."""
    whole = scales_trained("whole", "--filtered", "1")
    with monkeypatch.context() as cut:
        cut.setattr(train_scales, "say", lambda _, step, *__: 1 / 0 if step == 4 else None)
        with pytest.raises(ZeroDivisionError):
            scales_trained("cut", "--filtered", "1")
    for other, words in (("--filtered", "another x2 filtered"), ("--lr", "another x2 learning_rate")):
        with pytest.raises(SystemExit):
            scales_trained("cut", "--filtered", "1", other, "0.5")
        assert words in capsys.readouterr().err
    again = scales_trained("cut", "--filtered", "1")
    begun = load_model("fast", 2).net.state_dict()
    for name, tensor in whole[2].items():
        assert torch.equal(tensor, again[2][name]) and torch.equal(whole[3][name], again[3][name])
        if not name.startswith("tail"):
            assert torch.equal(tensor, whole[3][name])
        assert not begun[name].any() or name.startswith("tail.1") or not torch.equal(tensor, begun[name])


def test_one_scale_alone_is_as_rcan_video_train(scales_trained: Trained, tmp_path: Path) -> None:
    mine = scales_trained("mine", "--seed", "5", scales="2")[2]
    options = train_scales_options(tmp_path)
    train(options, Watched())
    for name, tensor in checkpoint.load(options.output).state_dict().items():
        assert torch.equal(tensor, mine[name])


def train_scales_options(folder: Path) -> TrainOptions:
    """What ``scales_trained`` asks for, with ``--seed 5`` and x2 alone."""
    return TrainOptions(
        data=(str(folder / "pictures"),),
        output=str(folder / "theirs.safetensors"),
        init=("fast",),
        teacher="fast",
        factors=False,
        optimizer="muon",
        iterations=5,
        batch=2,
        patch=16,
        warmup=100,
        decay=0.9,
        filtered=0.8,
        seed=7,
        device="cpu",
        precision="single",
        cache=str(folder / "cache"),
    )
