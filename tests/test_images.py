"""Pictures in, pictures out. OpenCV writes and judges them; tags are built and found by plain readers of this file."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
from clips import make_clip
from numpy.typing import NDArray
from test_job import Listener, left_in

from rcan_video import (
    DeviceOptions,
    EncodeOptions,
    FrameOptions,
    ModelOptions,
    Options,
    Report,
    SizeOptions,
    StreamOptions,
    upscale,
)
from rcan_video.errors import InputError, OutputError, RcanVideoError, UsageError, VerificationError
from rcan_video.frames import ColorSpec, ColorTags, Frame, PlaneLayout
from rcan_video.media import images
from rcan_video.video import VideoInfo

Image = NDArray[Any]
SIZE = WIDTH, HEIGHT = 33, 24  # odd: subsampled chroma has half a column more
MODEL = ModelOptions(scale=2)
ENDINGS = ("png", "jpg", "webp", "tif")
CHANNELS = {"gray": 1, "rgb": 3, "rgba": 4}
ICC = bytes(range(256)) * 300  # more than one JPEG segment holds


def drawn(kind: str, depth: int, size: tuple[int, int] = SIZE, shift: int = 0) -> Image:
    """A picture in OpenCV's order, B G R A: ramps over nearly the whole range, smooth enough to survive JPEG."""
    y, x = np.mgrid[: size[1], : size[0]] / max(size)
    planes = [0.05 + 0.9 * x, 0.9 - 0.8 * y, 0.3 + 0.3 * x + 0.2 * y, 0.25 + 0.7 * x]
    top = (1 << depth) - 1
    picture = np.stack(planes[: CHANNELS[kind]], -1) * (1 - 0.1 * shift) * top
    return np.squeeze(picture.round().astype(np.uint8 if depth == 8 else np.uint16))


def saved(path: Path, picture: Image, *options: int) -> Path:
    assert cv2.imwrite(str(path), picture, options)
    return path


def loaded(path: Path) -> Image:
    picture: Any = cv2.imdecode(np.frombuffer(path.read_bytes(), np.uint8), cv2.IMREAD_UNCHANGED)
    return np.asarray(picture)


def as_opencv_shows(path: Path, picture: Image) -> Image:
    """What OpenCV is to make of ``picture`` at ``path``: it multiplies colours by alpha, in TIFFs of 8 bits that say
    that this was not done."""
    if path.suffix == ".tif" and picture.shape[-1:] == (4,) and loaded(path).dtype == np.uint8:
        assert tiff_entries(path.read_bytes())[338][2] == 2
        return np.dstack([picture[..., :3] * (picture[..., 3:] / 255), picture[..., 3]])
    return picture


def halved(picture: Image) -> Image:
    """Means of 2x2 pixels, in codes of 8 bits."""
    high, wide = picture.shape[:2]
    means = picture.reshape(high // 2, 2, wide // 2, 2, -1).astype(float).mean((1, 3))
    return np.squeeze(means) / (257 if picture.dtype == np.uint16 else 1)


def options(source: Path | str, out: Path | str, **changes: object) -> Options:
    quick = Options(str(source), str(out), model=MODEL, device=DeviceOptions("cpu", threads=1, engine="torch"))
    return replace(quick, **changes)  # type: ignore[arg-type]


def run(source: Path | str, out: Path | str, **changes: object) -> tuple[Report, Listener]:
    listener = Listener()
    return upscale(options(source, out, **changes), listener), listener


# Size, depth and colour


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("depth", [8, 16])
@pytest.mark.parametrize("kind", CHANNELS)
def test_depth_alpha_and_colour(tmp_path: Path, kind: str, depth: int, ending: str) -> None:
    picture = drawn(kind, depth)
    out = tmp_path / f"out.{ending}"
    report, listener = run(saved(tmp_path / "in.png", picture), out)
    back = loaded(out)
    keeps_alpha = ending != "jpg"
    gray = kind == "gray" and ending != "webp"  # which has no grey of its own
    channels = 1 if gray and ending != "jpg" else 4 if kind == "rgba" and keeps_alpha else 3
    assert back.shape[:2] == (2 * HEIGHT, 2 * WIDTH) == (report.height, report.width)
    assert (back.shape[2] if back.ndim == 3 else 1) == channels
    assert back.dtype == (np.uint16 if depth == 16 and ending in ("png", "tif") else np.uint8)
    source = picture / (257 if depth == 16 else 1)
    if channels == 3:
        source = np.repeat(source[..., None], 3, -1) if kind == "gray" else source[..., :3]
    assert np.abs(halved(back) - as_opencv_shows(out, source)).mean() < (1.0 if ending == "jpg" else 0.6)
    words = " ".join(listener.notices)
    assert ("transparency is left out" in words) == (kind == "rgba" and ending == "jpg")
    assert ("16 bits become 8" in words) == (depth == 16 and ending in ("jpg", "webp"))
    assert left_in(tmp_path) == ["in.png", out.name]


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("source", ["gray.jpg", "rgb.jpg", "rgb.webp", "lossless.webp", "gray.tif", "rgba.tif"])
def test_every_format_is_read_in_its_own_range_and_matrix(tmp_path: Path, source: str, ending: str) -> None:
    """Of which none says much in a way that FFmpeg passes on: grey and JPEG have full range, WebP has BT.601."""
    kind = source.partition(".")[0].replace("lossless", "rgb")
    quality = (cv2.IMWRITE_WEBP_QUALITY, 90) if source == "rgb.webp" else ()
    path = saved(tmp_path / source, drawn(kind, 8), *quality)
    out = tmp_path / f"out.{ending}"
    run(path, out)
    before, after = loaded(path), halved(loaded(out))
    if after.ndim == 3 and before.ndim == 2:
        before = np.repeat(before[..., None], 3, -1)
    if after.shape[-1] < before.shape[-1]:
        before = before[..., :3]
    assert np.abs(after - as_opencv_shows(out, before)).mean() < 1.5  # two lossy formats


def test_a_large_webp_is_bt601_too(tmp_path: Path) -> None:
    """From 1280 columns on a video without tags is BT.709."""
    path = saved(tmp_path / "in.webp", drawn("rgb", 8, (1280, 16)), cv2.IMWRITE_WEBP_QUALITY, 90)
    run(path, tmp_path / "out.png")
    assert np.abs(halved(loaded(tmp_path / "out.png")) - loaded(path)).mean() < 1.0


def test_a_large_picture_without_tags_is_bt601_in_full_range() -> None:
    """TIFF in YUV, which nothing here writes."""
    layout = PlaneLayout("yuv", 8, 1, 1)
    color = ColorSpec.resolve(ColorTags(), layout, 1280, 720)
    info = VideoInfo(
        path="in.tif",
        container="tiff_pipe",
        index=0,
        codec="tiff",
        width=1280,
        height=720,
        pix_fmt="yuv420p",
        layout=layout,
        color=color,
        time_base=Fraction(1, 25),
        rate=Fraction(25),
        start=0,
        duration=None,
        frames=1,
    )
    found = images._color_of(info)
    assert (color.matrix, color.full_range) == (1, False)
    assert (found.matrix, found.full_range, found.siting) == (5, True, "center")


def test_another_size(tmp_path: Path) -> None:
    run(
        saved(tmp_path / "in.png", drawn("rgb", 8)),
        tmp_path / "out.png",
        model=ModelOptions(),
        size=SizeOptions(size=(50, 37)),
    )
    assert loaded(tmp_path / "out.png").shape == (37, 50, 3)


def test_the_same_bytes_again(tmp_path: Path) -> None:
    path = saved(tmp_path / "in.png", drawn("rgba", 16))
    for ending in ENDINGS:
        for name in ("a", "b"):
            run(path, tmp_path / f"{name}.{ending}")
        assert (tmp_path / f"a.{ending}").read_bytes() == (tmp_path / f"b.{ending}").read_bytes()


# Profile, EXIF, orientation


def exif(orientation: int, order: str = "MM") -> bytes:
    """Orientation, a maker's name that lies apart, and the size in EXIF's own directory."""
    mark = ">" if order == "MM" else "<"
    name = b"A camera\0"
    at = 8 + 2 + 3 * 12 + 4
    first = [(271, 2, len(name), at), (274, 3, 1, None), (34665, 4, 1, at + 10)]
    data = order.encode() + struct.pack(f"{mark}HIH", 42, 8, len(first))
    for tag, kind, count, value in first:
        data += struct.pack(f"{mark}HHI", tag, kind, count)
        data += struct.pack(f"{mark}I", value) if value is not None else struct.pack(f"{mark}HH", orientation, 0)
    data += bytes(4) + name + b"\0" + struct.pack(f"{mark}H", 2)
    for tag, value in ((40962, WIDTH), (40963, HEIGHT)):
        data += struct.pack(f"{mark}HHIHH", tag, 3, 1, value, 0)
    return data + bytes(4)


def png_chunks(data: bytes) -> dict[bytes, bytes]:
    found, at = {}, 8
    while at < len(data):
        (length,) = struct.unpack_from(">I", data, at)
        name, body = data[at + 4 : at + 8], data[at + 8 : at + 8 + length]
        assert struct.unpack_from(">I", data, at + 8 + length)[0] == zlib.crc32(name + body)
        found[name] = body
        at += 12 + length
    return found


def tagged_png(data: bytes, profile: bytes, tags: bytes) -> bytes:
    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    head = 8 + 12 + 13
    more = chunk(b"iCCP", b"some name\0\0" + zlib.compress(profile)) + (chunk(b"eXIf", tags) if tags else b"")
    return data[:head] + more + data[head:]


def tagged_jpeg(data: bytes, profile: bytes, tags: bytes) -> bytes:
    def segment(marker: int, body: bytes) -> bytes:
        return struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body

    parts = [profile[:50_000], profile[50_000:]]
    pieces = [segment(0xE2, b"ICC_PROFILE\0" + bytes((n, len(parts))) + part) for n, part in enumerate(parts, 1)]
    return data[:2] + segment(0xE1, b"Exif\0\0" + tags) + b"".join(reversed(pieces)) + data[2:]


def riff_chunks(data: bytes) -> dict[bytes, bytes]:
    assert data[:4] == b"RIFF" and struct.unpack_from("<I", data, 4)[0] == len(data) - 8
    found, at = {}, 12
    while at < len(data):
        (length,) = struct.unpack_from("<I", data, at + 4)
        found[data[at : at + 4]] = data[at + 8 : at + 8 + length]
        at += 8 + length + length % 2
    return found


def tagged_webp(data: bytes, profile: bytes, tags: bytes) -> bytes:
    chunks = {name: body for name, body in riff_chunks(data).items() if name != b"VP8X"}
    head = struct.pack("<I", 0x28) + (WIDTH - 1).to_bytes(3, "little") + (HEIGHT - 1).to_bytes(3, "little")
    body = b"WEBP"
    for name, part in ((b"VP8X", head), (b"ICCP", profile), *chunks.items(), (b"EXIF", tags)):
        body += name + struct.pack("<I", len(part)) + part + b"\0" * (len(part) % 2)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def tiff_entries(data: bytes) -> dict[int, tuple[int, int, int]]:
    """Type, count and value (or place) of each entry of the first directory, which stand in order."""
    mark = "<" if data[:2] == b"II" else ">"
    (at,) = struct.unpack_from(f"{mark}I", data, 4)
    (count,) = struct.unpack_from(f"{mark}H", data, at)
    rows = []
    for k in range(count):
        tag, kind, number = struct.unpack_from(f"{mark}HHI", data, at + 2 + 12 * k)
        (value,) = struct.unpack_from(mark + ("H" if kind == 3 and number == 1 else "I"), data, at + 10 + 12 * k)
        rows.append((tag, (kind, number, value)))
    assert [tag for tag, _ in rows] == sorted({tag for tag, _ in rows})
    assert struct.unpack_from(f"{mark}I", data, at + 2 + 12 * count) == (0,)
    return dict(rows)


def tagged_tiff(data: bytes, profile: bytes, tags: bytes) -> bytes:
    """The same file with a directory of its own behind everything."""
    mark = "<" if data[:2] == b"II" else ">"
    entries = tiff_entries(data)
    place = len(data) + len(data) % 2
    body = data + b"\0" * (len(data) % 2) + profile
    entries[34675] = (7, len(profile), place)
    entries[274] = (3, 1, found_orientation(tags))
    rows = b""
    for tag, (kind, number, value) in sorted(entries.items()):
        short = kind == 3 and number == 1
        rows += struct.pack(f"{mark}HHI", tag, kind, number)
        rows += struct.pack(f"{mark}HH", value, 0) if short else struct.pack(f"{mark}I", value)
    body += struct.pack(f"{mark}H", len(entries)) + rows + bytes(4)
    return body[:4] + struct.pack(f"{mark}I", place + len(profile)) + body[8:]


TAGGED: Mapping[str, Callable[[bytes, bytes, bytes], bytes]] = {
    "png": tagged_png,
    "jpg": tagged_jpeg,
    "webp": tagged_webp,
    "tif": tagged_tiff,
}


def jpeg_segments(data: bytes) -> Iterator[tuple[int, bytes]]:
    at = 2
    while data[at + 1] != 0xDA:
        (length,) = struct.unpack_from(">H", data, at + 2)
        yield data[at + 1], data[at + 4 : at + 2 + length]
        at += 2 + length


def found_in(path: Path) -> tuple[bytes, bytes | int]:
    """Profile and EXIF data; of a TIFF the orientation alone."""
    data = path.read_bytes()
    if path.suffix == ".png":
        chunks = png_chunks(data)
        name, packed = chunks[b"iCCP"].split(b"\0\0", 1)
        assert 1 <= len(name) <= 79 and b"sRGB" not in chunks
        return zlib.decompress(packed), chunks[b"eXIf"]
    if path.suffix == ".jpg":
        segments = list(jpeg_segments(data))
        assert segments[0][0] == 0xE0
        icc = [body for marker, body in segments if marker == 0xE2]
        assert [tuple(body[12:14]) for body in icc] == [(n, len(icc)) for n in range(1, len(icc) + 1)]
        (tags,) = [body.removeprefix(b"Exif\0\0") for marker, body in segments if marker == 0xE1]
        return b"".join(body[14:] for body in icc), tags
    if path.suffix == ".webp":
        chunks = riff_chunks(data)
        assert chunks[b"VP8X"][0] & 0x28 == 0x28
        return chunks[b"ICCP"], chunks[b"EXIF"]
    entries = tiff_entries(data)
    _, length, place = entries[34675]
    return data[place : place + length], entries[274][2]


def found_orientation(tags: bytes) -> int:
    return tiff_entries(tags)[274][2]


def resized(tags: bytes) -> bytes:
    """What ``exif`` says of a picture of twice the size: the last two entries, as long numbers."""
    mark = ">" if tags[:2] == b"MM" else "<"
    rows = [struct.pack(f"{mark}HHII", tag, 4, 1, 2 * side) for tag, side in ((40962, WIDTH), (40963, HEIGHT))]
    return tags[:-28] + b"".join(rows) + tags[-4:]


@pytest.mark.parametrize("after", ENDINGS)
@pytest.mark.parametrize("before", ENDINGS)
def test_profile_and_exif_are_kept(tmp_path: Path, before: str, after: str) -> None:
    path = saved(tmp_path / f"in.{before}", drawn("rgb", 8))
    tags = exif(6, "II" if before == "jpg" else "MM")
    path.write_bytes(TAGGED[before](path.read_bytes(), ICC, tags))
    out = tmp_path / f"out.{after}"
    run(path, out)
    icc, kept = found_in(out)
    assert icc == ICC
    if after == "tif":
        assert kept == 6
    elif before == "tif":
        assert isinstance(kept, bytes) and found_orientation(kept) == 6
    else:
        assert kept == resized(tags)
    # Pixels lie as they lay: whoever reads tags turns both pictures the same way.
    assert stored_size(out) == (2 * WIDTH, 2 * HEIGHT)
    turned: Any = loaded(out) if after == "tif" else cv2.imread(str(out), cv2.IMREAD_COLOR)
    assert np.abs(halved(turned) - np.rot90(drawn("rgb", 8), -1)).mean() < 1.5


def test_alpha_and_tags_together_in_webp(tmp_path: Path) -> None:
    """Its header says both, and FFmpeg writes a short one for a lossless picture."""
    path = saved(tmp_path / "in.png", drawn("rgba", 8))
    path.write_bytes(tagged_png(path.read_bytes(), ICC, exif(3)))
    run(path, tmp_path / "out.webp")
    chunks = riff_chunks((tmp_path / "out.webp").read_bytes())
    head = chunks[b"VP8X"]
    assert head[0] == 0x38
    sides = [int.from_bytes(head[at : at + 3], "little") + 1 for at in (4, 7)]
    assert sides == [2 * WIDTH, 2 * HEIGHT]
    assert loaded(tmp_path / "out.webp").shape == (2 * HEIGHT, 2 * WIDTH, 4)


def test_a_profile_of_grey_goes_with_grey_alone(tmp_path: Path) -> None:
    profile = ICC[:16] + b"GRAY" + ICC[20:]
    path = saved(tmp_path / "in.png", drawn("gray", 8))
    path.write_bytes(tagged_png(path.read_bytes(), profile, b""))
    for ending, keeps in (("png", True), ("tif", True), ("webp", False), ("jpg", False)):
        out = tmp_path / f"out.{ending}"
        _, listener = run(path, out)
        assert (b"GRAY" in out.read_bytes() or ending == "png") == keeps
        assert [f"{path} loses its ICC profile" in text for text in listener.notices] == [True] * (not keeps)
    assert zlib.decompress(png_chunks((tmp_path / "out.png").read_bytes())[b"iCCP"].split(b"\0\0", 1)[1]) == profile


def test_exif_too_long_for_a_jpeg(tmp_path: Path) -> None:
    path = saved(tmp_path / "in.png", drawn("rgb", 8))
    path.write_bytes(tagged_png(path.read_bytes(), ICC, exif(8) + bytes(70_000)))
    _, listener = run(path, tmp_path / "out.jpg")
    icc, kept = found_in(tmp_path / "out.jpg")
    assert icc == ICC and isinstance(kept, bytes) and found_orientation(kept) == 8 and len(kept) < 100
    assert any("too long for a JPEG" in text for text in listener.notices)


def test_a_height_is_that_of_the_picture_as_it_is_shown(tmp_path: Path) -> None:
    for orientation in (1, 6):
        path = saved(tmp_path / f"in{orientation}.png", drawn("rgb", 8))
        path.write_bytes(tagged_png(path.read_bytes(), ICC, exif(orientation)))
        out = tmp_path / f"out{orientation}.png"
        run(path, out, model=ModelOptions(), size=SizeOptions(height=36))
        assert stored_size(out)[orientation < 5] == 36


def stored_size(path: Path) -> tuple[int, int]:
    """(width, height) before anything is turned."""
    with av.open(str(path)) as file:
        frame = next(file.decode(video=0))
        return frame.width, frame.height


@pytest.mark.parametrize("ending", ENDINGS)
def test_damaged_tags_are_no_reason_to_refuse_a_picture(tmp_path: Path, ending: str) -> None:
    path = saved(tmp_path / f"in.{ending}", drawn("rgb", 8))
    broken = b"" if ending == "png" else exif(6)[:20]  # FFmpeg refuses a PNG for it
    if ending == "tif":
        path.write_bytes(tagged_tiff(path.read_bytes(), ICC[:40], exif(6)).replace(ICC[:40], b"\xff" * 40))
    else:
        path.write_bytes(TAGGED[ending](path.read_bytes(), ICC[:70], broken))
    for after in ENDINGS:
        _, listener = run(path, tmp_path / f"out.{after}")
        assert all("EXIF data the orientation alone: they are damaged" in text for text in listener.notices)
        assert stored_size(tmp_path / f"out.{after}") == (2 * WIDTH, 2 * HEIGHT)


# What is refused


def cmyk(path: Path) -> Path:
    """A JPEG whose frame header counts four components."""
    data = saved(path, drawn("rgb", 8)).read_bytes()
    at = next(k for k in range(len(data)) if data[k : k + 2] in (b"\xff\xc0", b"\xff\xc2"))
    (length,) = struct.unpack_from(">H", data, at + 2)
    body = bytearray(data[at + 4 : at + 2 + length]) + bytes((4, 0x11, 0))
    body[5] = 4
    path.write_bytes(data[:at] + data[at : at + 2] + struct.pack(">H", length + 3) + body + data[at + 2 + length :])
    return path


def cut(path: Path, part: float = 0.6) -> Path:
    data = saved(path, drawn("rgb", 8, (200, 150))).read_bytes()
    path.write_bytes(data[: int(part * len(data))])
    return path


def strips(path: Path) -> Path:
    """A grey TIFF of four strips whose directory comes first, cut off in the last one."""
    entries = [(256, 3, 1, 32), (257, 3, 1, 16), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1)]
    end = 8 + 2 + 9 * 12 + 4
    entries += [(273, 4, 4, end), (277, 3, 1, 1), (278, 3, 1, 4), (279, 4, 4, end + 16)]
    data = b"II*\0" + struct.pack("<IH", 8, len(entries)) + b"".join(struct.pack("<HHII", *row) for row in entries)
    data += bytes(4) + struct.pack("<4I", *(end + 32 + 128 * k for k in range(4))) + struct.pack("<4I", *[128] * 4)
    path.write_bytes(data + bytes(range(128)) * 4)
    assert images.read_image(str(path), 1, None).info.height == 16
    path.write_bytes((data + bytes(range(128)) * 4)[:-40])
    return path


def pages(path: Path) -> Path:
    assert cv2.imwritemulti(str(path), [drawn("rgb", 8), drawn("rgb", 8, shift=1)])
    return path


def animated(path: Path) -> Path:
    with av.open(str(path), "w", format="apng") as file:
        stream: Any = file.add_stream("apng", rate=5)
        stream.width, stream.height, stream.pix_fmt = *SIZE, "rgb24"
        for k in range(3):
            frame = av.VideoFrame.from_ndarray(drawn("rgb", 8, shift=k), "rgb24")
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    return path


def text(path: Path) -> Path:
    path.write_text("no picture, whatever its name says\n")
    return path


def none(path: Path) -> Path:
    return path


REFUSED: list[tuple[str, Callable[[Path], Path], str]] = [
    ("in.jpg", cmyk, "CMYK"),
    ("in.png", cut, "cut off"),
    ("in.jpg", cut, "cut off"),
    ("in.webp", cut, "cut off"),
    ("in.tif", cut, "cut off|damaged|cannot be (decoded|read)"),
    ("in.tif", strips, "cut off"),
    ("in.tif", pages, "several pictures"),
    ("in.png", animated, "several pictures"),
    ("in.png", text, "is no PNG, JPEG, WebP, TIFF"),
    ("in.jpg", text, "is no PNG, JPEG, WebP, TIFF"),
    ("in.tif", text, "is no PNG, JPEG, WebP, TIFF"),
    ("in.webp", text, "is no PNG, JPEG, WebP, TIFF"),
    ("in.png", none, "no such file"),
]


@pytest.mark.parametrize(("name", "make", "words"), REFUSED)
def test_refused_with_one_sentence(tmp_path: Path, name: str, make: Callable[[Path], Path], words: str) -> None:
    path = make(tmp_path / name)
    before = left_in(tmp_path)
    with pytest.raises(InputError, match=words) as caught:
        run(path, tmp_path / "out.png")
    assert caught.value.exit_code == 3
    assert str(path) in str(caught.value) and "\n" not in str(caught.value) and len(str(caught.value)) < 250
    assert left_in(tmp_path) == before


@pytest.mark.parametrize("numbers", [(1, 2, 3), (1, 2, 4)])
def test_numbered_pictures_are_no_video(tmp_path: Path, numbers: tuple[int, ...]) -> None:
    """FFmpeg opens such a name, and stumbles over gaps; it is no file that could be read twice."""
    for number in numbers:
        saved(tmp_path / f"{number:03d}.png", drawn("rgb", 8))
    with pytest.raises(InputError, match=r"there is no such file, and numbered pictures are .* ffmpeg -framerate 25"):
        run(tmp_path / "%03d.png", tmp_path / "out.mp4")


@pytest.mark.parametrize("ending", ENDINGS)
def test_every_cut_is_seen(tmp_path: Path, ending: str) -> None:
    for part in (0.15, 0.5, 0.8, 0.97):
        path = cut(tmp_path / f"in.{ending}", part)
        with pytest.raises(InputError):
            images.read_image(str(path), 1, None)


def test_what_the_decoder_reports_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A frame that came out all the same."""

    class Reporting(images.Source):
        def frames(self) -> Iterator[Frame]:
            yield next(super().frames())
            self.damage.packet(None)

    monkeypatch.setattr(images, "Source", Reporting)
    path = saved(tmp_path / "in.png", drawn("rgb", 8))
    with pytest.raises(InputError, match=r"in\.png is damaged: a part of it cannot be decoded"):
        run(path, tmp_path / "out.png")
    assert left_in(tmp_path) == ["in.png"]


def test_an_output_that_exists(tmp_path: Path) -> None:
    path = saved(tmp_path / "in.png", drawn("rgb", 8))
    out = text(tmp_path / "out.png")
    with pytest.raises(OutputError, match="exists already"):
        run(path, out)
    assert out.read_text().startswith("no picture")
    run(path, out, overwrite=True)
    assert loaded(out).shape == (2 * HEIGHT, 2 * WIDTH, 3)
    with pytest.raises(OutputError, match="is the input itself"):
        run(path, path, overwrite=True)


@pytest.mark.parametrize(
    ("out", "changes", "words"),
    [
        ("out_%03d.png", {}, "name one output"),
        ("out.png", {"encode": EncodeOptions(crf=10)}, "--crf is for videos"),
        ("out.png", {"encode": EncodeOptions(options={"nonsense": "1"})}, "has no option 'nonsense'"),
        ("out.png", {"max_time": 5.0}, "--max-time is for videos"),
        ("out.png", {"duration": 1}, "are for videos"),
    ],
)
def test_options_of_videos(tmp_path: Path, out: str, changes: dict[str, object], words: str) -> None:
    path = saved(tmp_path / "in.png", drawn("rgb", 8))
    with pytest.raises(UsageError, match=words):
        run(path, tmp_path / out, **changes)
    assert left_in(tmp_path) == ["in.png"]


def test_strict_refuses_what_would_be_lost(tmp_path: Path) -> None:
    path = saved(tmp_path / "in.png", drawn("rgba", 8))
    with pytest.raises(OutputError, match="--strict: transparency is left out"):
        run(path, tmp_path / "out.jpg", streams=StreamOptions(strict=True))
    assert left_in(tmp_path) == ["in.png"]


def test_too_large_for_webp(tmp_path: Path) -> None:
    path = saved(tmp_path / "in.png", drawn("gray", 8, (8200, 1)))
    with pytest.raises(OutputError, match=r"cannot have 16400x2 pixels: 16383 a side are the most; use \.png"):
        run(path, tmp_path / "out.webp")


@pytest.mark.parametrize("ending", ["png", "jpg"])
def test_what_was_written_is_read_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: str) -> None:
    """An encoder that writes another picture is caught, and its file does not get the name."""
    real = images._encoded

    def other(planes: Any, target: Any) -> bytes:
        cropped = replace(target, width=target.width - 2)
        wrong = [np.asarray(plane) ^ 1 for plane in planes]
        return real(wrong, target if ending == "png" else cropped)

    monkeypatch.setattr(images, "_encoded", other)
    path = saved(tmp_path / "in.png", drawn("rgb", 8))
    with pytest.raises(VerificationError, match=rf"holds .*; what was written is kept as .*out\.unverified\.{ending}"):
        run(path, tmp_path / f"out.{ending}")
    assert left_in(tmp_path) == ["in.png", f"out.unverified.{ending}"]


# Numbered pictures, and the frames of a video


def test_numbers_with_gaps_and_sizes_of_their_own(tmp_path: Path) -> None:
    (tmp_path / "up").mkdir()
    sizes = {7: SIZE, 8: SIZE, 12: (20, 30), 1003: SIZE}
    for number, size in sizes.items():
        saved(tmp_path / f"f{number:03d}.png", drawn("rgb", 8, size, shift=number % 5))
    (tmp_path / "f9.png").write_text("no number of three digits")
    (tmp_path / "f010.jpg").write_text("another ending")
    report, listener = run(tmp_path / "f%03d.png", tmp_path / "up" / "%04d.tif")
    assert left_in(tmp_path / "up") == [f"{number:04d}.tif" for number in sizes]
    for number, (wide, high) in sizes.items():
        back = loaded(tmp_path / "up" / f"{number:04d}.tif")
        assert back.shape == (2 * high, 2 * wide, 3)
        assert np.abs(halved(back) - drawn("rgb", 8, (wide, high), shift=number % 5)).mean() < 0.6
    assert (report.frames_in, report.frames_out) == (4, 4)
    assert listener.done[-1] == 4 and listener.done == sorted(listener.done)
    assert len(listener.started) == 1 and listener.finished == [report]


def test_a_damaged_one_ends_the_run_and_the_others_stay(tmp_path: Path) -> None:
    (tmp_path / "up").mkdir()
    for number in (1, 2):
        saved(tmp_path / f"{number}.png", drawn("rgb", 8))
    cut(tmp_path / "3.png")
    with pytest.raises(InputError, match=r"3\.png is cut off"):
        run(tmp_path / "%d.png", tmp_path / "up" / "%d.png")
    for name in left_in(tmp_path / "up"):
        assert name in ("1.png", "2.png")
        assert loaded(tmp_path / "up" / name).shape == (2 * HEIGHT, 2 * WIDTH, 3)


def test_numbered_outputs_that_exist(tmp_path: Path) -> None:
    (tmp_path / "up").mkdir()
    for number in (1, 2):
        saved(tmp_path / f"{number}.png", drawn("rgb", 8))
    text(tmp_path / "up" / "2.png")
    with pytest.raises(OutputError, match=r"2\.png exists already"):
        run(tmp_path / "%d.png", tmp_path / "up" / "%d.png")
    assert left_in(tmp_path / "up") == ["2.png"]


@pytest.mark.parametrize(
    ("source", "out", "error", "words"),
    [
        ("x%d.png", "up%d.png", InputError, "there is no file such as .*x1.png"),
        ("%d.png", "up.png", UsageError, "number the output, as up_%05d.png"),
        ("%d.png", "%d.png", OutputError, "is the input itself|exists already"),
    ],
)
def test_names_that_do_not_go_together(
    tmp_path: Path, source: str, out: str, error: type[RcanVideoError], words: str
) -> None:
    saved(tmp_path / "1.png", drawn("rgb", 8))
    with pytest.raises(error, match=words):
        run(tmp_path / source, tmp_path / out)
    assert left_in(tmp_path) == ["1.png"]


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_video_becomes_numbered_pictures(tmp_path: Path, ending: str) -> None:

    def draw(k: int) -> av.VideoFrame:
        return av.VideoFrame.from_ndarray(drawn("rgb", 8, (48, 32), shift=k), "bgr24")

    clip = make_clip(tmp_path / "in.mp4", size=(48, 32), frames=5, audio=1, options={"crf": "1"}, draw=draw)
    (tmp_path / "up").mkdir()
    report, listener = run(clip, tmp_path / "up" / f"%03d.{ending}")
    assert left_in(tmp_path / "up") == [f"{number:03d}.{ending}" for number in range(1, 6)]
    with av.open(str(clip)) as file:
        frames = [frame.to_ndarray(format="bgr24") for frame in file.decode(video=0)]
    for number, frame in enumerate(frames, 1):
        back = halved(loaded(tmp_path / "up" / f"{number:03d}.{ending}"))
        assert np.abs(back - frame).mean() < 3.0  # 8 bits of YUV 4:2:0 on the way, enlarged by two rules
    assert (report.frames_in, report.frames_out, report.damaged) == (5, 5, False)
    assert any("1 other stream" in text for text in listener.notices)


def test_a_part_of_a_video(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "in.mp4", size=(48, 32), frames=8)
    (tmp_path / "up").mkdir()
    run(clip, tmp_path / "up" / "%d.png", start=Fraction(2, 25), duration=Fraction(3, 25), frames=FrameOptions())
    assert left_in(tmp_path / "up") == ["1.png", "2.png", "3.png"]


def test_a_video_into_one_picture_is_refused(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "in.mp4", size=(48, 32), frames=2)
    with pytest.raises(UsageError, match=r"number the output, as out_%05d\.png"):
        run(clip, tmp_path / "out.png")
    assert left_in(tmp_path) == ["in.mp4"]
