"""Make the sample clip of this project: a fair at dusk, 3 s of 320x180 at 25 frames a second, with a tone.

    python examples/make_sample.py examples/sample.mp4

The scene holds what tells upscalers apart: spokes and stays that run together, rows of lit windows, lettering, leaves,
a smooth sky and saturated colours, all moving by fractions of a pixel. It is drawn four times as large and reduced by
area, so that the small picture is what a camera would see, without stairs or aliasing. Nothing in it is random from run
to run.
"""

from __future__ import annotations

import math
import sys
from fractions import Fraction
from functools import cache
from pathlib import Path

import av
import cv2
import numpy as np
import numpy.typing as npt
from av.video.reformatter import ColorRange

WIDTH, HEIGHT, RATE, FRAMES = 320, 180, 25, 75
FINE = 4  # drawn this many times as large
SOUND_RATE, TONE, FADE = 48_000, 440.0, 0.25  # Hz, Hz, seconds

Picture = npt.NDArray[np.uint8]
Colour = tuple[int, ...]  # RGB, or RGBA on a layer

# All places and sizes below are in pixels of the small picture, all speeds in its pixels a second.
HORIZON = 138.0
SUN = (134.0, 86.0)
WHEEL = (222.0, 89.0)
GONDOLAS: tuple[Colour, ...] = (
    (226, 28, 38),
    (255, 196, 0),
    (0, 150, 80),
    (20, 90, 220),
    (240, 110, 0),
    (170, 40, 160),
)
BANNER = "SUPER-RESOLUTION, FRAME BY FRAME"


def draw(index: int) -> Picture:
    """Frame ``index`` of the clip: (180, 320, 3) uint8 RGB."""
    time = index / RATE
    scene = _sky().copy()
    _over(scene, _skyline("far"), -12.0 - 3.1 * time)
    _bridge(scene, 58.0 - 6.3 * time)
    _wheel(scene, time)
    _over(scene, _skyline("near"), -7.7 * time)
    _plane(scene, 222.0 + 17.3 * time, 15.5 + 1.4 * math.sin(2.1 * time))
    _over(scene, _hedge(), -21.7 * time)
    return cv2.resize(scene, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA)


# --- drawing -------------------------------------------------------------------------------------------------------

_SHIFT = 6  # OpenCV takes coordinates as whole numbers of 1/64 pixel of the large picture


def _points(*points: tuple[float, float]) -> npt.NDArray[np.int32]:
    # The centre of pixel 0 is at 0 for OpenCV and at half a pixel for everybody else.
    return np.rint((np.array(points) * FINE - 0.5) * (1 << _SHIFT)).astype(np.int32)


def _polygon(image: Picture, colour: Colour, *points: tuple[float, float]) -> None:
    cv2.fillPoly(image, [_points(*points)], colour, cv2.LINE_AA, _SHIFT)


def _box(image: Picture, colour: Colour, x: float, y: float, width: float, height: float) -> None:
    _polygon(image, colour, (x, y), (x + width, y), (x + width, y + height), (x, y + height))


def _line(image: Picture, colour: Colour, a: tuple[float, float], b: tuple[float, float], width: float) -> None:
    (ax, ay), (bx, by) = a, b
    length = math.hypot(bx - ax, by - ay)
    nx, ny = (by - ay) / length * width / 2, (ax - bx) / length * width / 2
    _polygon(image, colour, (ax + nx, ay + ny), (bx + nx, by + ny), (bx - nx, by - ny), (ax - nx, ay - ny))


def _disc(image: Picture, colour: Colour, x: float, y: float, radius: float) -> None:
    (centre,) = _points((x, y))
    cv2.circle(image, centre.tolist(), round(radius * FINE * (1 << _SHIFT)), colour, cv2.FILLED, cv2.LINE_AA, _SHIFT)


def _ring(image: Picture, colour: Colour, x: float, y: float, radius: float, width: float) -> None:
    turns = np.linspace(0, 2 * math.pi, 181)
    rims = [
        _points(*zip(x + r * np.cos(turns), y + r * np.sin(turns), strict=True))
        for r in (radius + width / 2, radius - width / 2)
    ]
    cv2.fillPoly(image, rims, colour, cv2.LINE_AA, _SHIFT)


def _over(scene: Picture, layer: Picture, x: float, y: float = 0.0) -> None:
    """Lay an RGBA layer over the scene with its top left corner at ``x``, ``y``.

    Drawing with soft edges on an empty layer fades colour and alpha alike, so layers are premultiplied.
    """
    top, bottom = max(math.floor(y * FINE), 0), min(math.ceil(y * FINE) + layer.shape[0], scene.shape[0])
    move = np.array([[1, 0, x * FINE], [0, 1, y * FINE - top]], np.float64)
    moved = cv2.warpAffine(layer, move, (scene.shape[1], bottom - top), flags=cv2.INTER_LINEAR).astype(np.float32)
    below = scene[top:bottom]
    below[:] = np.rint(np.minimum(below * (1 - moved[..., 3:] / 255) + moved[..., :3], 255))


def _strip(width: float) -> Picture:
    """An empty RGBA strip as high as the picture."""
    return np.zeros((HEIGHT * FINE, round(width * FINE), 4), np.uint8)


# --- the scene -----------------------------------------------------------------------------------------------------


@cache
def _sky() -> Picture:
    heights = np.array([0, 55, 100, 128, HORIZON + 6]) * FINE
    colours = np.array([(22, 28, 74), (78, 58, 128), (206, 104, 124), (255, 168, 104), (255, 208, 140)])
    y = np.arange(HEIGHT * FINE)
    column = np.stack([np.interp(y, heights, colours[:, c]) for c in range(3)], axis=1)
    sky = np.repeat(column[:, None], WIDTH * FINE, axis=1)
    x = np.arange(WIDTH * FINE)
    glow = np.exp(-np.hypot(x[None] - SUN[0] * FINE, y[:, None] - SUN[1] * FINE) / (40 * FINE))[..., None]
    sky += (np.array([255, 214, 150]) - sky) * 0.75 * glow
    # Under a reduction by 4 this noise averages to a quarter: enough to keep the smooth sky free of bands.
    sky += np.random.default_rng(1).normal(0, 2.0, sky.shape[:2])[..., None]
    picture = np.clip(np.rint(sky), 0, 255).astype(np.uint8)
    _disc(picture, (255, 246, 214), *SUN, 13)
    return picture


@cache
def _skyline(which: str) -> Picture:
    near = which == "near"
    random = np.random.default_rng(7 if near else 3)
    strip = _strip(WIDTH + 40)
    wall, x = ((38, 32, 62) if near else (126, 78, 122)), -4.0
    while x < WIDTH + 40:
        width = float(random.uniform(18, 34) if near else random.uniform(12, 26))
        height = float(random.uniform(12, 34) if near else random.uniform(18, 62))
        top = HORIZON + (14 if near else 4) - height
        shade = tuple(int(c + random.integers(-7, 8)) for c in wall)
        _box(strip, (*shade, 255), x, top, width, HEIGHT - top)
        if not near and random.random() < 0.5:
            _line(strip, (*shade, 255), (x + width / 2, top), (x + width / 2, top - random.uniform(6, 14)), 0.9)
        if near:
            _windows(strip, random, x, top, width)
        x += width + (float(random.uniform(0, 5)) if near else 0.0)
    return strip


def _windows(strip: Picture, random: np.random.Generator, x: float, top: float, width: float) -> None:
    columns = int((width - 3) // 3.4)
    left = x + (width - (columns * 3.4 - 1.4)) / 2
    for row in range(9):
        for column in range(columns):
            lit = random.random() < 0.62
            glass = (255, int(random.integers(190, 226)), int(random.integers(96, 150))) if lit else (70, 64, 104)
            _box(strip, (*glass, 255), left + 3.4 * column, top + 3 + 4.2 * row, 2.0, 2.6)


def _bridge(scene: Picture, x: float) -> None:
    steel, deck = (58, 40, 78), HORIZON - 10
    for n in range(1, 15):
        for side in (-1, 1):
            _line(scene, steel, (x, 52 + 2.1 * n), (x + side * 6.6 * n, deck), 0.75)
    _polygon(scene, steel, (x - 1.2, 44), (x + 1.2, 44), (x + 3.4, HEIGHT), (x - 3.4, HEIGHT))
    _box(scene, steel, 0, deck, WIDTH, 3.2)
    for n in range(-12, 40):
        _box(scene, (255, 222, 160), x + 9.1 * n, deck - 1.6, 1.3, 1.3)


def _wheel(scene: Picture, time: float) -> None:
    (x, y), radius, steel, light = WHEEL, 54.0, (232, 226, 240), (252, 244, 232)
    for side in (-1, 1):
        _line(scene, (70, 48, 92), (x, y), (x + side * 30, HEIGHT), 3.0)
    turn = math.radians(11.0) * time
    for n in range(36):
        angle = turn + n * math.tau / 36
        across = math.cos(angle), math.sin(angle)
        _line(
            scene, steel, (x + 6 * across[0], y + 6 * across[1]), (x + radius * across[0], y + radius * across[1]), 0.7
        )
    _ring(scene, light, x, y, radius, 1.6)
    _ring(scene, light, x, y, radius - 5, 0.8)
    _disc(scene, (96, 40, 84), x, y, 7.5)
    _disc(scene, (255, 206, 70), x, y, 4.5)
    for n in range(18):
        angle = turn + n * math.tau / 18
        gx, gy = x + (radius + 1) * math.cos(angle), y + (radius + 1) * math.sin(angle)
        colour = GONDOLAS[n % len(GONDOLAS)]
        _disc(scene, colour, gx, gy + 3.4, 3.7)
        _box(scene, (250, 240, 226), gx - 2.6, gy + 2.0, 5.2, 1.5)
        _polygon(scene, colour, (gx - 4.1, gy + 1.6), (gx, gy - 1.2), (gx + 4.1, gy + 1.6))


def _plane(scene: Picture, x: float, y: float) -> None:
    """A plane that tows a banner; ``x``, ``y`` is its nose."""
    red, white, ink = (214, 24, 34), (250, 246, 236), (20, 26, 74)
    banner = _banner(red, white, ink)
    tow = x - 34
    _line(scene, (60, 48, 80), (x - 18, y), (tow, y), 0.5)
    _polygon(
        scene, red, (x - 20, y - 5.4), (x - 16, y - 1.4), (x - 3, y - 2.0), (x, y), (x - 3, y + 1.8), (x - 18, y + 1.2)
    )
    _polygon(scene, white, (x - 13.5, y - 0.4), (x - 6, y - 0.4), (x - 9, y + 3.6), (x - 13, y + 3.6))
    _line(scene, (40, 34, 60), (x + 0.3, y - 4), (x + 0.3, y + 4), 0.6)
    height, width = (n / FINE for n in banner.shape[:2])
    _over(scene, banner, tow - width, y - height / 2)


@cache
def _banner(edge: Colour, cloth: Colour, ink: Colour) -> Picture:
    font, size, pad = cv2.FONT_HERSHEY_DUPLEX, 1.25, 3 * FINE
    (width, height), _ = cv2.getTextSize(BANNER, font, size, 2)
    banner = np.full((height + 2 * pad + 8, width + 3 * pad, 4), (*cloth, 255), np.uint8)
    banner[: FINE * 3 // 2] = banner[-FINE * 3 // 2 :] = (*edge, 255)
    cv2.putText(banner, BANNER, (pad * 3 // 2, pad + height), font, size, (*ink, 255), 2, cv2.LINE_AA)
    return cv2.copyMakeBorder(banner, 2, 2, 2, 2, cv2.BORDER_CONSTANT)


@cache
def _hedge() -> Picture:
    """Leaves laid over leaves, small ones on large ones: the statistics of edges in natural pictures."""
    random = np.random.default_rng(11)
    strip = _strip(WIDTH + 80)
    width = strip.shape[1] / FINE
    for n in range(2600):
        nearness = n / 2600
        x, depth = random.uniform(-8, width + 8), random.random() ** 0.8
        crest = HORIZON + 14 + 5 * math.sin(x / 21) + 3 * math.sin(x / 8.3 + 1)
        y = crest + depth * (HEIGHT + 4 - crest)
        length, angle = random.uniform(5, 11) * (0.7 + 0.5 * depth), random.uniform(0, math.tau)
        tint = np.array([(44, 62, 28), (86, 108, 34), (150, 128, 36), (190, 92, 30), (146, 44, 30)][random.integers(5)])
        light = (0.35 + 0.75 * nearness) * random.uniform(0.7, 1.15)
        _leaf(strip, x, y, length, angle, tint * light)
    return strip


def _leaf(strip: Picture, x: float, y: float, length: float, angle: float, tint: npt.NDArray[np.float64]) -> None:
    along = np.linspace(0, 1, 13)
    breadth = 0.30 * length * np.sin(math.pi * along**0.8)
    c, s = math.cos(angle), math.sin(angle)

    def place(u: npt.NDArray[np.float64], v: npt.NDArray[np.float64]) -> list[tuple[float, float]]:
        u = (u - 0.5) * length
        return [(x + c * p - s * q, y + s * p + c * q) for p, q in zip(u, v, strict=True)]

    def shade(factor: float) -> Colour:
        r, g, b = np.clip(tint * factor, 0, 255).astype(int).tolist()
        return r, g, b, 255

    upper, lower, spine = place(along, breadth), place(along, -breadth), place(along, 0 * along)
    _polygon(strip, shade(1.0), *upper, *reversed(spine))
    _polygon(strip, shade(0.78), *lower, *reversed(spine))
    _line(strip, shade(1.5), spine[0], spine[-1], 0.5)
    for k in (3, 5, 7, 9):
        for side in (upper, lower):
            _line(strip, shade(1.22), spine[k - 1], side[k + 1], 0.3)


# --- sound and file ------------------------------------------------------------------------------------------------


def tone() -> npt.NDArray[np.float32]:
    """The stereo tone of the clip: (2, samples), faded in and out."""
    time = np.arange(FRAMES * SOUND_RATE // RATE) / SOUND_RATE
    edge = np.clip(np.minimum(time, time[-1] - time) / FADE, 0, 1)
    wave = 0.2 * np.sin(2 * math.pi * TONE * time) * (0.5 - 0.5 * np.cos(math.pi * edge))
    return np.stack([wave, wave]).astype(np.float32)


def write(path: Path) -> None:
    """Encode the clip as H.264 and AAC in MP4, tagged BT.709, limited range."""
    with av.open(str(path), "w", format="mp4", container_options={"movflags": "+faststart"}) as output:
        options = {"crf": "16", "preset": "veryslow", "x264-params": "keyint=50"}
        video = output.add_stream("libx264", rate=RATE, options=options)
        video.width, video.height, video.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        video.codec_context.time_base = Fraction(1, RATE)
        context = video.codec_context
        context.color_primaries = context.color_trc = context.colorspace = 1  # BT.709 in H.273
        context.color_range = ColorRange.MPEG
        audio = output.add_stream("aac", rate=SOUND_RATE, layout="stereo", options={"b": "96k"})
        for index in range(FRAMES):
            output.mux(video.encode(_yuv(draw(index), index)))
        output.mux(video.encode(None))
        sound = av.AudioFrame.from_ndarray(tone(), format="fltp", layout="stereo")
        sound.sample_rate, sound.pts, sound.time_base = SOUND_RATE, 0, Fraction(1, SOUND_RATE)
        output.mux(audio.encode(sound))
        output.mux(audio.encode(None))


def _yuv(picture: Picture, index: int) -> av.VideoFrame:
    """BT.709, limited range, 4:2:0 with chroma sited left, which is what H.264 means where it says nothing.

    By hand, because swscale sites the chroma in the centre when it starts from RGB.
    """
    red_weight, blue_weight = 0.2126, 0.0722
    rgb = picture / 255
    luma = rgb @ [red_weight, 1 - red_weight - blue_weight, blue_weight]
    planes = [16 + 219 * luma]
    for channel, weight in ((2, blue_weight), (0, red_weight)):
        chroma = (rgb[..., channel] - luma) / (2 * (1 - weight))
        chroma = (chroma[0::2] + chroma[1::2]) / 2
        before = np.pad(chroma, ((0, 0), (1, 0)), mode="edge")[:, 0:-1:2]
        planes.append(128 + 224 * (before + 2 * chroma[:, 0::2] + chroma[:, 1::2]) / 4)
    samples = np.rint(np.concatenate([plane.ravel() for plane in planes])).astype(np.uint8)
    frame = av.VideoFrame.from_ndarray(samples.reshape(HEIGHT * 3 // 2, WIDTH), format="yuv420p")
    frame.pts, frame.time_base = index, Fraction(1, RATE)
    return frame


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python examples/make_sample.py OUT.mp4")
    write(Path(sys.argv[1]))
