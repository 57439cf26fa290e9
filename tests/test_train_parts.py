"""The parts of training: reduction bit for bit, compressed clips, stored data, patches, factors and short tails."""

from __future__ import annotations

import math
import os
import re
import signal
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from clips import make_clip, needs_encoder
from torch import nn
from train_helpers import small_options, texture, write_textures

from rcan_video import errors, pictures
from rcan_video.metrics import Pixels, psnr
from rcan_video.network.fold import FoldedTail
from rcan_video.network.rcan import RCAN, ChannelAttention, RCANConfig
from rcan_video.resize import reduce
from rcan_video.train import data as train_data
from rcan_video.train import filters, store, video
from rcan_video.train.data import Pair, Patches, Pool, detail, turned
from rcan_video.train.loop import unsteadiness
from rcan_video.train.prepare import prepare
from rcan_video.train.reparam import collapsed, factorise
from rcan_video.train.start import starting_point, structure
from rcan_video.train.tails import official, short_form, shortened, standard_form

# --- video ------------------------------------------------------------------------------------------------------------


def footage(frames: Pixels, folder: Path) -> store.Footage:
    return store.Footage(folder / "x.png", "key", frames, folder)


@pytest.fixture
def still(tmp_path: Path) -> store.Footage:
    return footage(texture(0, 700)[None], tmp_path)


@pytest.mark.parametrize("codec", ["libx264", "libx265"])
def test_compression_costs_more_at_a_higher_crf_and_keeps_the_order(codec: str) -> None:
    needs_encoder(codec)
    gray = [texture(seed, 128)[:, :, :1].repeat(3, axis=2) for seed in range(5)]  # 4:2:0 costs colour more than any CRF
    frames = np.stack([reduce(picture, 2) for picture in gray])
    fine, coarse = (
        np.stack(list(pictures.compressed(frames, codec, {"crf": crf, "preset": "veryfast"}, 1))) for crf in ("4", "38")
    )
    assert fine.shape == coarse.shape == frames.shape and fine.dtype == np.uint8
    for k, frame in enumerate(frames):
        assert psnr(frame, fine[k]) > psnr(frame, coarse[k]) + 3
        assert max(range(5), key=lambda other: psnr(frames[other], fine[k])) == k


def test_colours_survive_the_way_through_an_encoder() -> None:
    needs_encoder("libx264")
    flat = np.empty((3, 32, 32, 3), np.uint8)
    flat[:] = (200, 60, 30)
    for matrix in (1, 6):
        back = np.stack(list(pictures.compressed(flat, "libx264", {"crf": "1"}, matrix)))
        assert np.abs(back.astype(int) - flat).max() <= 2


def test_sequences_are_a_function_of_their_numbers(still: store.Footage) -> None:
    needs_encoder("libx265")
    small, large = video.sequence([still], 2, np.random.default_rng((1, 5)))
    again, _ = video.sequence([still], 2, np.random.default_rng((1, 5)))
    other, _ = video.sequence([still], 2, np.random.default_rng((1, 6)))
    assert small.shape == (3, 192, 192, 3) and large.shape == (3, 384, 384, 3)
    assert np.array_equal(small, again) and not np.array_equal(small, other)


def test_small_and_large_frames_belong_together(still: store.Footage) -> None:
    """Not one pixel off, in place or in time: the reduced large frame is nearer than the shifted one."""
    needs_encoder("libx265")
    for seed in range(6):
        small, large = video.sequence([still], 2, np.random.default_rng((2, seed)))
        for lr, hr in zip(small, large, strict=True):
            near = psnr(lr[2:-2, 2:-2], reduce(hr, 2)[2:-2, 2:-2])
            for dy, dx in ((0, 1), (1, 0), (0, -1), (-1, 0)):
                moved = np.roll(reduce(hr, 2), (dy, dx), (0, 1))
                assert near > psnr(lr[2:-2, 2:-2], moved[2:-2, 2:-2])


def test_stills_move_and_clips_stay_clips(still: store.Footage, tmp_path: Path) -> None:
    differences = []
    for seed in range(40):
        frames = video.moving(still, 384, np.random.default_rng(seed))
        assert frames.shape == (store.RUN, 384, 384, 3)
        differences.append(float(np.abs(np.diff(frames.astype(int), axis=0)).mean()))
    assert 2 <= sum(d == 0 for d in differences) <= 20
    clip = footage(np.stack([np.full((40, 40, 3), n, np.uint8) for n in range(2 * store.RUN)]), tmp_path)
    values = video.moving(clip, 32, np.random.default_rng(0))[:, 0, 0, 0]
    assert np.array_equal(np.diff(values), np.ones(store.RUN - 1)) and values[0] % store.RUN == 0


def test_compressed_data_is_made_once_and_goes_on_where_it_stopped(
    still: store.Footage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[int] = []

    def fake(*_: object) -> tuple[Pixels, Pixels]:
        made.append(1)
        if len(made) == 4:
            raise KeyboardInterrupt
        return np.full((3, 8, 8, 3), len(made), np.uint8), np.full((3, 16, 16, 3), len(made), np.uint8)

    monkeypatch.setattr(video, "sequence", fake)
    monkeypatch.setattr(video, "_CHUNK", 2)
    with pytest.raises(KeyboardInterrupt):
        video.compressed_pairs([still], 2, 4, 1, tmp_path, lambda _: None)
    pairs = video.compressed_pairs([still], 2, 4, 1, tmp_path, lambda _: None)
    assert len(made) == 6  # two, two that were lost with their file, and these again
    assert [pair.lr.shape for pair in pairs] == [(6, 8, 8, 3)] * 2
    video.compressed_pairs([still], 2, 4, 1, tmp_path, lambda _: None)
    assert len(made) == 6


def test_what_is_validated_on_is_compressed_once(
    still: store.Footage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[float] = []

    def fake(footage: Sequence[store.Footage], scale: int, rng: np.random.Generator) -> tuple[Pixels, Pixels]:
        made.append(rng.random())
        return np.full((3, 8, 8, 3), len(made), np.uint8), np.full((3, 16, 16, 3), len(made), np.uint8)

    monkeypatch.setattr(video, "sequence", fake)
    first, again = (video.compressed_examples([still, still], 2, tmp_path, lambda _: None) for _ in range(2))
    assert made == [np.random.default_rng((0, n)).random() for n in range(2)]  # as a training of any seed has them
    for pairs in (first, again):
        assert [(pair.lr.shape, pair.hr.shape) for pair in pairs] == [((3, 8, 8, 3), (3, 16, 16, 3))] * 2
        assert [int(pair.lr[0, 0, 0, 0]) for pair in pairs] == [1, 2]
    assert video.compressed_examples([still], 2, tmp_path, lambda _: None)[0].lr[0, 0, 0, 0] == 3  # other content
    assert video.compressed_examples([], 2, tmp_path, lambda _: None) == []


def test_the_video_degradation_mixes_clean_and_compressed(tmp_path: Path) -> None:
    needs_encoder("libx265")
    folder = write_textures(tmp_path / "pictures", 1, 400)
    options = small_options(folder, degradation="video", sequences=3, valid=str(folder), filtered=0.8)
    prepared = prepare(options, lambda _: None)
    clean, made = prepared.patches.pools
    assert (clean.share, made.share) == (0.3, 0.7) and (clean.filtered, made.filtered) == (0.8, 0.0)
    assert made.pairs[0].lr.shape == (9, 192, 192, 3)
    assert set(prepared.validation.sets) == {"psnr_y", "psnr_y_video"}


# --- store ------------------------------------------------------------------------------------------------------------


def test_files_are_decoded_once_and_known_by_their_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_textures(tmp_path / "pictures", 2)
    (folder / "again.png").write_bytes((folder / "0.png").read_bytes())
    (folder / "notes.txt").write_text("no picture")
    cache = tmp_path / "cache"
    paths = pictures.find([str(folder)])
    assert [path.name for path in paths] == ["0.png", "1.png", "again.png"]
    first = list(store.load(paths, cache, lambda _: None))
    assert [np.array_equal(f.frames[0], texture(k)) for k, f in enumerate(first)] == [True, True]
    assert np.array_equal(first[1].reduced(3)[0], reduce(texture(1), 3))
    monkeypatch.setattr(store, "_decode", lambda *_: pytest.fail("decoded again"))
    monkeypatch.setattr(store, "reduce", lambda *_: pytest.fail("reduced again"))
    renamed = (folder / "1.png").rename(folder / "z.png")
    (again,) = store.load([renamed], cache, lambda _: None)
    assert again.key == first[1].key and np.array_equal(again.reduced(3), first[1].reduced(3))


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(b"PK\3\4" + bytes(60)),
        lambda path: path.write_bytes(path.read_bytes().replace(b"'shape': (1, ", b"'shape': (1,((")),
        lambda path: path.write_bytes(path.read_bytes()[:200]),
        lambda path: np.save(path, np.zeros((1, 20, 20, 3), np.uint8)),
        lambda path: np.save(path, np.zeros((36, 36))),
    ],
    ids=["empty", "zip", "header", "cut off", "other size", "other type"],
)
@pytest.mark.parametrize("name", ["hr.npy", "bicubic-x2.npy"])
def test_damage_in_the_cache_is_named(name: str, damage: Callable[[Path], None], tmp_path: Path) -> None:
    options = small_options(write_textures(tmp_path / "pictures", 1))
    prepare(options, lambda _: None)
    if name == "hr.npy":  # what is made from it knows the size that it had
        options = replace(options, patch=8)
    (path,) = (tmp_path / "cache").glob(f"*/{name}")
    damage(path)
    words = rf"is damaged \(.*\); delete {re.escape(str(path.parent))}, it is made anew"
    with pytest.raises(errors.InputError, match=words):
        prepare(options, lambda _: None)


@pytest.mark.parametrize(("size", "count", "room"), [(16, 1, 0), (16, 1, 200), (30, 30, 4000), (200, 2, 130_000)])
def test_a_full_disk_is_said_and_leaves_nothing(size: int, count: int, room: int, tmp_path: Path) -> None:
    """A limit on the size of files stands in for the disk: before the header, behind it, between and within frames."""
    resource = pytest.importorskip("resource")
    pid, said = os.fork(), ""
    if not pid:
        try:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (room, room))
            store.keep(tmp_path / "hr.npy", [texture(n, size) for n in range(count)])
        except errors.OutputError as error:
            said = str(error)
        finally:
            os._exit("hr.npy: cannot be written (File too large); make room" not in said)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert list(tmp_path.iterdir()) == []


def test_what_killed_processes_left_is_cleared_away(tmp_path: Path) -> None:
    picture = write_textures(tmp_path / "pictures", 1) / "0.png"
    cache = tmp_path / "cache"
    (first,) = store.load([picture], cache, lambda _: None)
    old, young, foreign = first.folder / ".hr.1.part", first.folder / ".hr.2.part", cache / ".film.part"
    for part in (old, young, foreign):
        part.write_bytes(b"half")
    for part in (old, foreign):
        os.utime(part, (0, 0))
    (again,) = store.load([picture], cache, lambda _: None)
    assert np.array_equal(again.frames, first.frames)
    assert (old.exists(), young.exists(), foreign.exists()) == (False, True, True)


def test_a_clip_gives_runs_of_frames(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "clip.mp4", frames=23, size=(64, 48))
    (found,) = store.load(pictures.find([str(clip)]), tmp_path / "cache", lambda _: None)
    assert found.frames.shape == (20, 48, 64, 3) and found.moving
    steps = np.abs(np.diff(found.frames.astype(int), axis=0)).mean(axis=(1, 2, 3))
    assert (steps > 0).all()
    assert not list((tmp_path / "cache").rglob("*.raw"))


def test_a_clip_shorter_than_a_run_gives_a_picture(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "clip.mp4", frames=3, size=(64, 48))
    (found,) = store.load([clip], tmp_path / "cache", lambda _: None)
    assert found.frames.shape == (1, 48, 64, 3) and not found.moving


def test_a_clip_with_alpha_gives_its_colours(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "clip.mkv", codec="ffv1", pix_fmt="bgra", frames=12, size=(64, 48))
    (found,) = store.load([clip], tmp_path / "cache", lambda _: None)
    assert found.frames.shape == (10, 48, 64, 3)
    with av.open(str(clip)) as container:
        colours = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert np.array_equal(found.frames, colours[:10])


def test_a_clip_whose_size_changes_is_refused(tmp_path: Path) -> None:
    parts = [make_clip(tmp_path / f"{n}.h264", size=size) for n, size in enumerate([(64, 48), (32, 32)])]
    clip = tmp_path / "clip.ts"
    clip.write_bytes(b"".join(part.read_bytes() for part in parts))
    with pytest.raises(errors.InputError, match=r"clip\.ts changes from 64x48 .* at frame 12: cut it there"):
        list(store.load([clip], tmp_path / "cache", lambda _: None))
    assert not list((tmp_path / "cache").rglob("*.*"))


@pytest.mark.parametrize("kind", ["alpha", "16 bits", "16 bits with alpha", "gray", "gray of 16 bits"])
def test_pictures_of_other_kinds_become_8_bit_rgb(tmp_path: Path, kind: str) -> None:
    picture = texture(0, 37)
    if "gray" in kind:
        picture = picture[..., :1].repeat(3, axis=2)
    stored = picture[..., 0] if "gray" in kind else picture[..., ::-1]
    if "alpha" in kind:
        stored = np.dstack([stored, np.arange(37 * 37, dtype=np.uint8).reshape(37, 37)])
    if "16" in kind:
        stored = stored.astype(np.uint16) * 257
    (tmp_path / "x.png").write_bytes(cv2.imencode(".png", stored)[1].tobytes())
    assert np.array_equal(pictures.read_picture(tmp_path / "x.png"), picture)


@pytest.mark.parametrize(("name", "words"), [("broken.png", "no picture that OpenCV can read"), ("broken.mp4", "mp4")])
def test_what_cannot_be_read_is_named(tmp_path: Path, name: str, words: str) -> None:
    (tmp_path / name).write_bytes(b"nothing of the kind")
    with pytest.raises(errors.InputError, match=words):
        list(store.load([tmp_path / name], tmp_path / "cache", lambda _: None))
    assert not list((tmp_path / "cache").rglob("*.npy"))


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(errors.InputError, match="holds no picture and no video"):
        pictures.find([str(tmp_path)])


# --- data -------------------------------------------------------------------------------------------------------------


def addressed_pair(size: int, scale: int, mark: int) -> Pair:
    """A pair whose pixels tell where they are; the large picture repeats the small one's."""
    y, x = np.mgrid[:size, :size]
    lr = np.stack([y, x, np.full_like(x, mark)], -1).astype(np.uint8)[None]
    return Pair(lr, lr.repeat(scale, 1).repeat(scale, 2))


@pytest.fixture
def patches() -> Patches:
    pools = [Pool([addressed_pair(40, 2, 0), addressed_pair(60, 2, 1)], 0.3), Pool([addressed_pair(50, 2, 2)], 0.7)]
    return Patches(pools, 2, 10, seed=1)


def test_a_batch_is_a_function_of_seed_step_and_place(patches: Patches) -> None:
    small, large = patches.batch(7, range(8))
    assert small.shape == (8, 3, 10, 10) and large.shape == (8, 3, 20, 20) and small.dtype == torch.uint8
    halves = [patches.batch(7, places) for places in (range(4), range(4, 8))]
    assert torch.equal(torch.cat([half[0] for half in halves]), small)
    assert torch.equal(torch.cat([half[1] for half in halves]), large)
    assert not torch.equal(patches.batch(8, range(8))[0], small)
    assert not torch.equal(Patches(patches.pools, 2, 10, seed=2).batch(7, range(8))[0], small)


def test_both_patches_are_the_same_place_in_the_same_position(patches: Patches) -> None:
    small, large = patches.batch(0, range(200))
    assert torch.equal(large, small.repeat_interleave(2, 2).repeat_interleave(2, 3))
    corners = {tuple(torch.sign(s[:2, 0, 0].int() - s[:2, -1, -1].int()).tolist()) for s in small}
    transposed = {bool(s[0, 0, 0] == s[0, -1, 0]) for s in small}
    assert len(corners) == 4 and transposed == {True, False}  # all eight positions


def test_pools_have_their_shares_and_large_pictures_more_patches(patches: Patches) -> None:
    marks = [int(s[2, 0, 0]) for step in range(20) for s in patches.batch(step, range(50))[0]]
    shares = [marks.count(mark) / len(marks) for mark in range(3)]
    assert shares == pytest.approx([0.3 * 40 / 100, 0.3 * 60 / 100, 0.7], abs=0.05)


def test_two_frames_of_a_sequence_are_seen_at_the_same_place() -> None:
    """Frames 0 to 2 and 3 to 5 are sequences: never one frame twice, never two of both, always one place."""
    lr = np.concatenate([addressed_pair(40, 2, mark).lr for mark in range(6)])
    sequences = Pair(lr, lr.repeat(2, 1).repeat(2, 2), run=3)
    small, large = Patches([Pool([sequences])], 2, 10, seed=1, frames=2).batch(0, range(200))
    assert torch.equal(small[0::2, :2], small[1::2, :2])
    assert torch.equal(large, small.repeat_interleave(2, 2).repeat_interleave(2, 3))
    seen = {(int(a), int(b)) for a, b in zip(small[0::2, 2, 0, 0], small[1::2, 2, 0, 0], strict=True)}
    assert seen == {(0, 1), (1, 2), (2, 0), (3, 4), (4, 5), (5, 3)}
    alone = Patches([Pool([addressed_pair(40, 2, 0)])], 2, 10, seed=1, frames=2).batch(0, range(4))[0]
    assert torch.equal(alone[0], alone[1]) and not torch.equal(alone[1], alone[2])


def test_unsteadiness_is_blind_to_errors_that_stay() -> None:
    error = torch.rand(1, 3, 4, 4).repeat(2, 1, 1, 1)
    assert unsteadiness(error) == 0
    error[1] += 0.25
    assert unsteadiness(error) == pytest.approx(0.25)


def test_detail_is_preferred() -> None:
    picture = np.full((1, 40, 80, 3), 128, np.uint8)
    picture[:, :, 40:] = texture(0, 40)
    found = Patches([Pool([Pair(picture, picture)])], 1, 10, seed=1).batch(0, range(200))[0]
    busy = sum(detail(patch.permute(1, 2, 0).numpy()) > 0 for patch in found) / 200
    assert busy > 0.7  # 0.57 of all places


def test_places_are_uniform_where_that_is_asked_for() -> None:
    picture = np.full((1, 40, 80, 3), 128, np.uint8)
    picture[:, :, 40:] = texture(0, 40)
    found = Patches([Pool([Pair(picture, picture)])], 1, 10, seed=1, uniform=True).batch(0, range(400))[0]
    busy = sum(detail(patch.permute(1, 2, 0).numpy()) > 0 for patch in found) / 400
    assert busy == pytest.approx(0.57, abs=0.06)


def test_positions_are_eight() -> None:
    picture = texture(0, 8)
    assert len({turned(picture, k).tobytes() for k in range(8)}) == 8 and turned(picture, 0) is picture


# --- filters ----------------------------------------------------------------------------------------------------------


def test_gains_are_what_they_say() -> None:
    """A lift around the center that stays behind it, and a loss towards the finest detail, in float64."""
    draws = np.random.default_rng(3)
    spans = ((-1, 6), (0.2, 0.34), (0.08, 0.16), (0, 1), (0, 8), (0.3, 0.42))
    lift, center, width, shelf, loss, edge = (draws.uniform(*span) for span in spans)
    found = filters.response(64, np.random.default_rng(3))
    assert found.shape == (64, 33)
    for y, x in ((0, 0), (0, 9), (20, 0), (7, 18), (0, 32), (32, 32)):
        f = np.hypot(y, x) / 64
        bell = np.exp(-((f - center) ** 2) / (2 * width**2))
        hill = max(bell, shelf + (1 - shelf) * bell) if f > center else bell
        decibels = lift * hill - loss * min(max((f - edge) / (0.5 - edge), 0), 1.4)
        assert 20 * np.log10(found[y, x]) == pytest.approx(decibels, abs=1e-4)
        assert found[-y, x] == found[y, x]
    loudest = [filters.response(64, np.random.default_rng(seed))[0].max() for seed in range(200)]
    assert 1.9 < max(loudest) <= 10 ** (6 / 20) + 1e-4 and min(loudest) < 1


def test_a_filter_multiplies_the_spectrum() -> None:
    """A wave comes out as high as its gain makes it and where it was, all else gone; rounded and clipped."""
    wave = np.cos(2 * np.pi * 9 * np.arange(64) / 64)[None, :, None] * np.ones((64, 1, 3))
    gains = np.zeros((64, 33), np.float32)
    gains[0, 0], gains[0, 9] = 1.0, 1.5
    slow = 20 * np.sin(2 * np.pi * np.arange(64) / 64)[:, None, None]
    picture = np.rint(128 + 40 * wave + slow).astype(np.uint8)
    assert np.abs(filters.apply(picture, gains).astype(float) - (128 + 60 * wave)).max() <= 1.5
    assert np.array_equal(filters.apply(picture, np.ones((64, 33), np.float32)), picture)
    gains[0, 9] = 5.0
    assert {0, 255} <= set(filters.apply(picture, gains).flat)


@pytest.mark.parametrize("scale", [1, 2, 3, 4, 8])
@pytest.mark.parametrize("place", [(0, 0), (14, 10), (28, 19)], ids=["corner", "inside", "other corner"])
def test_a_filtered_patch_is_of_its_place_and_reduced_from_it(place: tuple[int, int], scale: int) -> None:
    picture = texture(5, 41 * scale)[: 40 * scale + 1, : 32 * scale - 1]  # 40 x 31 small pixels, and some beyond
    small, large = filters.filtered_patch(picture, place, 12, scale, np.random.default_rng(1))
    margin = 16 // scale * scale
    around = np.pad(picture, ((margin,) * 2, (margin,) * 2, (0, 0)), mode="symmetric")
    y, x, extent = place[0] * scale, place[1] * scale, 12 * scale + 2 * margin
    expected = filters.apply(around[y : y + extent, x : x + extent], filters.response(extent, np.random.default_rng(1)))
    assert np.array_equal(large, expected[margin:-margin, margin:-margin])
    assert np.array_equal(small, reduce(expected, scale)[margin // scale :, margin // scale :][:12, :12])
    assert np.array_equal(small[2:-2, 2:-2], reduce(large, scale)[2:-2, 2:-2])


def test_a_picture_of_one_patch_is_filtered_as_well() -> None:
    picture = texture(5, 24)
    small, large = filters.filtered_patch(picture, (0, 0), 12, 2, np.random.default_rng(1))
    gains = filters.response(56, np.random.default_rng(1))
    around = np.pad(picture, ((16, 16), (16, 16), (0, 0)), mode="symmetric")
    assert np.array_equal(large, filters.apply(around, gains)[16:-16, 16:-16]) and small.shape == (12, 12, 3)


Call = tuple[Pixels, tuple[int, int], int, int, tuple[float, ...]]


@pytest.fixture
def filtered(monkeypatch: pytest.MonkeyPatch) -> list[Call]:
    """Every filter that is asked for, with numbers that it would have drawn; nothing is changed."""
    calls: list[Call] = []

    def fake(
        picture: Pixels, place: tuple[int, int], size: int, scale: int, rng: np.random.Generator
    ) -> tuple[Pixels, Pixels]:
        calls.append((picture, place, size, scale, tuple(rng.random(6))))
        y, x = place
        large = picture[y * scale : (y + size) * scale, x * scale : (x + size) * scale]
        return large[::scale, ::scale], large

    monkeypatch.setattr(train_data, "filtered_patch", fake)
    return calls


def test_a_share_of_patches_is_filtered_each_in_its_own_way(filtered: list[Call]) -> None:
    wide = addressed_pair(60, 2, 0)
    wide = Pair(wide.lr[:, :40], wide.hr[:, :80])
    pools = [Pool([wide], 0.5, filtered=0.5), Pool([addressed_pair(40, 2, 1)], 0.5)]
    small, large = Patches(pools, 2, 10, seed=1).batch(0, range(400))
    assert torch.equal(large, small.repeat_interleave(2, 2).repeat_interleave(2, 3))  # of one place, in one position
    assert len(filtered) / 400 == pytest.approx(0.25, abs=0.06)  # of the second pool none
    assert {picture[0, 0, 2] for picture, *_ in filtered} == {0}
    assert {(size, scale) for _, _, size, scale, _ in filtered} == {(10, 2)}
    corners = {tuple(s[:2].flatten(1).min(1).values.tolist()) for s in small if s[2, 0, 0] == 0}
    assert {place for _, place, *_ in filtered} <= corners and len({place for _, place, *_ in filtered}) > 50
    assert len({draws for *_, draws in filtered}) == len(filtered)


def test_two_frames_of_a_sequence_are_behind_the_same_filter(filtered: list[Call]) -> None:
    lr = np.concatenate([addressed_pair(40, 2, mark).lr for mark in range(3)])
    sequences = Pair(lr, lr.repeat(2, 1).repeat(2, 2), run=3)
    Patches([Pool([sequences], filtered=1.0)], 2, 10, seed=1, frames=2).batch(0, range(40))
    seen = set()
    for (one, place, *_, draws), (two, its_place, *_, its_draws) in zip(filtered[0::2], filtered[1::2], strict=True):
        assert place == its_place and draws == its_draws
        seen.add((int(one[0, 0, 2]), int(two[0, 0, 2])))
    assert seen == {(0, 1), (1, 2), (2, 0)}


def test_pictures_to_train_on_are_filtered_and_those_to_validate_on_are_not(tmp_path: Path) -> None:
    folder = write_textures(tmp_path / "pictures", 2)
    options = small_options(folder, filtered=0.8, uniform=True, valid=str(folder))
    prepared = prepare(options, lambda _: None)
    assert [pool.filtered for pool in prepared.patches.pools] == [0.8] and prepared.patches.candidates == 1
    assert np.array_equal(prepared.validation.sets["psnr_y"][0].hr[0], texture(0))
    plain = prepare(replace(options, filtered=0.0, uniform=False), lambda _: None)
    assert [pool.filtered for pool in plain.patches.pools] == [0.0] and plain.patches.candidates == 2
    assert plain.digest == prepared.digest


# --- reparam, tails, start --------------------------------------------------------------------------------------------


def test_collapsed_factors_are_the_expanded_convolutions() -> None:
    """K0 beside B, K and A one after the other."""
    torch.manual_seed(0)
    conv = nn.Conv2d(5, 7, 3, padding=1).double()
    before = conv.weight.detach().clone()
    net = nn.Sequential(conv)
    factorise(net)
    factors = conv.parametrizations.weight[0].double()  # type: ignore[union-attr, index]
    conv.weight = before  # the sum is what was assigned, to float64's rounding
    assert torch.allclose(collapsed(net)["0.weight"], before, rtol=0, atol=1e-14)
    with torch.no_grad():
        factors.A.normal_()
    x = torch.randn(2, 5, 9, 9, dtype=torch.float64)
    inner = factors.K.shape[0]
    kernel = factors.K.view(inner, 3, 3, inner).permute(0, 3, 1, 2)
    expanded = F.conv2d(F.conv2d(x, factors.B[:, :, None, None]), kernel, padding=1)
    expanded = F.conv2d(expanded, factors.A[:, :, None, None])
    expanded = expanded + F.conv2d(x, conv.parametrizations.weight.original, conv.bias, padding=1)  # type: ignore[union-attr, arg-type]
    assert torch.allclose(net(x), expanded, rtol=0, atol=1e-12)
    assert torch.allclose(F.conv2d(x, collapsed(net)["0.weight"], conv.bias, padding=1), expanded, rtol=0, atol=1e-12)


def test_factorising_changes_neither_the_function_nor_the_plain_parameters() -> None:
    torch.manual_seed(0)
    net = shortened(RCAN(RCANConfig(1, 2, 8, 4, rgb_range=1.0, mean_shift=False))).double()
    x = torch.rand(1, 3, 8, 8, dtype=torch.float64)
    before, names = net(x), {name for name, _ in net.named_parameters()}
    factorise(net)
    assert torch.allclose(net.double()(x), before, rtol=0, atol=1e-6)  # the factors are born in float32
    assert collapsed(net).keys() == names
    net(x).sum().backward()
    assert all(p.grad is not None and bool(p.grad.abs().sum() > 0) for n, p in net.named_parameters() if "K" in n)


@pytest.mark.parametrize(("upscale", "features"), [(1, 3), (2, 3), (2, 16), (3, 4), (4, 12), (4, 16), (8, 48)])
def test_a_short_tail_in_the_official_layout_is_the_short_convolution(upscale: int, features: int) -> None:
    torch.manual_seed(0)
    config = RCANConfig(1, 1, features, 1, upscale=upscale, rgb_range=1.0, mean_shift=False)
    weight, bias = torch.randn(3 * upscale**2, features, 3, 3), torch.randn(3 * upscale**2)
    net = RCAN(config)
    net.tail.load_state_dict(standard_form(weight, bias, config))
    x = torch.randn(2, features, 6, 7, dtype=torch.float64)
    short = F.pixel_shuffle(F.conv2d(x, weight.double(), bias.double(), padding=1), upscale)
    with torch.no_grad():
        assert torch.allclose(net.tail.double()(x), short, rtol=0, atol=1e-12)
    form = short_form(net.float())
    assert form is not None
    assert torch.allclose(form[0], weight, atol=1e-6) and torch.allclose(form[1], bias, atol=1e-6)
    assert FoldedTail(net.tail.double(), config).border is None  # the fold finds the short path


def test_too_few_features_hold_no_short_tail() -> None:
    config = RCANConfig(1, 1, 11, 1, upscale=4)
    with pytest.raises(ValueError, match="a short tail for x4 takes 12 features, not 11"):
        standard_form(torch.zeros(48, 11, 3, 3), torch.zeros(48), config)


def test_a_structure_is_judged_before_memory_is_taken_for_it() -> None:
    assert structure(small_options(Path(), features=10**8), None).tail == "short"


def test_the_official_layout_of_a_short_network_is_the_same_function() -> None:
    torch.manual_seed(0)
    net = shortened(RCAN(RCANConfig(1, 1, 12, 4, upscale=4, unshuffle=2, rgb_range=1.0, mean_shift=False)))
    x = torch.rand(1, 3, 10, 12)
    with torch.no_grad():
        assert torch.allclose(official(net)(x), net(x), atol=1e-6)


def texture_patches(scale: int) -> Patches:
    pictures = [texture(seed, 24 * scale) for seed in range(3)]
    return Patches([Pool([Pair(reduce(p, scale)[None], p[None]) for p in pictures])], scale, 12, seed=1)


@pytest.mark.parametrize("tail", ["short", "standard"])
def test_a_new_network_has_no_dead_parts(tail: str) -> None:
    """Every kernel gets a gradient, the parts of a standard tail that its fit leaves at rest as well."""
    options = small_options(Path(), tail=tail)
    net = starting_point(structure(options, None), None, texture_patches(2), options)
    x = torch.rand(2, 3, 12, 12)
    net(x).square().mean().backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None and bool((parameter.grad != 0).any()), name
    weight = net.tail[0][0].weight if tail == "standard" else net.tail[0].weight  # type: ignore[index, union-attr]
    assert bool((weight != 0).all())


def test_a_checkpoints_own_tail_is_taken_over_exactly() -> None:
    torch.manual_seed(3)
    source = official(shortened(RCAN(RCANConfig(1, 1, 8, 4, rgb_range=1.0, mean_shift=False))))
    options = small_options(Path(), groups=None, blocks=None, features=None)
    net = starting_point(structure(options, source), source, texture_patches(2), options)
    x = torch.rand(1, 3, 9, 9)
    with torch.no_grad():
        assert torch.allclose(net(x), source(x), atol=1e-6)


NARROW = RCANConfig(1, 2, 12, 4, rgb_range=1.0, mean_shift=False)


def narrow(tail: str, **changes: Any) -> RCAN:
    torch.manual_seed(4)
    net = RCAN(replace(NARROW, **changes)).requires_grad_(False)
    if isinstance(net.sub_mean, nn.Conv2d):
        net.sub_mean.bias *= 1.1  # type: ignore[operator]  # a mean of its own
    return official(shortened(net)) if tail == "short" else net


def begun(init: RCAN, scale: int = 2, **changes: Any) -> RCAN:
    """The network that training with ``init`` and these options begins with."""
    like_init = {"init": ("narrow",), "groups": None, "blocks": None, "features": None, "scale": scale}
    options = small_options(Path(), **like_init | changes)
    return starting_point(structure(options, init), init, texture_patches(scale), options)


@pytest.mark.parametrize(
    ("init", "changes"),
    [
        (narrow("short"), {"features": 20}),
        (narrow("standard"), {"features": 20}),
        (narrow("short"), {"features": 13, "reduction": 3}),
        (narrow("standard"), {"features": 32, "reduction": 2}),
        (narrow("standard", rgb_range=255.0, mean_shift=True), {"features": 20}),
        (narrow("short", upscale=4, unshuffle=2), {"features": 20}),
        (narrow("standard", activation="silu", residual_scale=0.1), {"features": 20}),
        (narrow("short"), {"tail": "standard"}),
        (narrow("short", upscale=4), {"features": 20, "tail": "standard", "scale": 4}),
        (narrow("short"), {"blocks": 4}),
        (narrow("standard", rgb_range=255.0, mean_shift=True), {"groups": 3}),
        (narrow("short", residual_scale=0.1), {"groups": 2, "blocks": 3, "features": 20, "reduction": 5}),
    ],
    ids=[
        *("short", "standard", "squeezing to 4", "to 16", "mean shift", "unshuffle", "silu", "longer", "longer, x4"),
        *("more blocks", "more groups", "more of all"),
    ],
)
def test_a_larger_network_begins_as_the_smaller_one_and_all_of_it_trains(init: RCAN, changes: dict[str, Any]) -> None:
    net = begun(init, **changes)
    structure_asked = {name: value for name, value in changes.items() if name not in ("tail", "scale")}
    assert net.config == replace(init.config, **structure_asked)
    span = init.config.rgb_range
    x = span * (torch.randn(32, 3, 1, 1) + torch.randn(32, 3, 8, 8))
    with torch.no_grad():
        assert torch.allclose(net(x), init(x), rtol=0, atol=2e-6 * span)
        for module in net.modules():
            if isinstance(module, ChannelAttention):
                module.conv_du[0].bias += 2 * span  # open: a squeezed channel below zero hides what it sees,
                module.conv_du[2].weight /= span  # and so does a gate at one
    for name, parameter in net.body.named_parameters():  # new blocks begin as He has it
        if name.endswith("body.0.weight") and name not in dict(init.body.named_parameters()):
            assert parameter.std().item() == pytest.approx(math.sqrt(2 / (9 * net.config.features)), rel=0.2), name
    trainable = {name: parameter for name, parameter in net.named_parameters() if parameter.requires_grad}
    before = {name: parameter.detach().clone() for name, parameter in trainable.items()}
    optimizer = torch.optim.Adam(trainable.values(), lr=1e-3)
    for _ in range(4):  # what is multiplied by a zero moves once that one has
        optimizer.zero_grad()
        (net(x) / span).square().mean().backward()
        optimizer.step()
    for name, parameter in trainable.items():
        assert bool((parameter != before[name]).all()), name


def test_a_larger_network_of_another_scale_has_the_checkpoints_body() -> None:
    init = narrow("short")
    net = begun(init, scale=3, features=20, blocks=4, groups=2)
    x = torch.rand(1, 3, 9, 9)
    with torch.no_grad():
        features, wide = init.head(x), net.head(x)
        assert torch.equal(wide[:, :12], features)
        assert torch.allclose(net.body(wide)[:, :12], init.body(features), atol=1e-6)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"features": 11}, "has features 12, not 11; leave out --features"),
        ({"features": 20, "reduction": 8}, "its attention squeezes to 3 features; give less --reduction"),
        ({"reduction": 3}, "has reduction 4, not 3; leave out --reduction"),
        ({"features": 20, "blocks": 1}, "has blocks 2, not 1; leave out --blocks"),
        ({"blocks": 3, "reduction": 3}, "has reduction 4, not 3; leave out --reduction"),
    ],
)
def test_a_smaller_network_than_the_checkpoint_is_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(errors.UsageError, match=words):
        begun(narrow("short"), **changes)
