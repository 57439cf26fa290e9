"""Draw one frame of a video before and after: bicubic interpolation beside RCAN, the same detail enlarged.

    python examples/demo_picture.py SOURCE RESULT OUT.png [--time SECONDS]

RESULT is what rcan-video made of SOURCE. Without ``--time`` the frame is taken two fifths into the video.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
from av.video.reformatter import ColorRange, Colorspace, Interpolation

from rcan_video.errors import InputError, RcanVideoError
from rcan_video.frames import ColorSpec, ColorTags, PlaneLayout
from rcan_video.metrics import Pixels
from rcan_video.report import before_after, write_png

DEFAULT_PLACE = Fraction(2, 5)
TICK = Fraction(1, 1000)  # Matroska keeps times to the millisecond: frames this close are the same one
UNSPECIFIED = 2  # matrix code point of H.273
MATRICES = {
    1: Colorspace.ITU709,
    4: Colorspace.FCC,
    5: Colorspace.ITU601,
    6: Colorspace.ITU601,
    7: Colorspace.SMPTE240M,
    9: Colorspace.BT2020,
}


@dataclass(frozen=True, slots=True)
class Still:
    """One decoded frame, and its presentation time in seconds as the file has it."""

    frame: av.VideoFrame
    time: Fraction


def main() -> None:
    parser = argparse.ArgumentParser(description="Draw bicubic beside RCAN for one frame of a video.")
    parser.add_argument("source", type=Path, help="the video that was upscaled")
    parser.add_argument("result", type=Path, help="what rcan-video made of it")
    parser.add_argument("picture", type=Path, help="the PNG to write")
    parser.add_argument("--time", type=Fraction, metavar="SECONDS", help="presentation time (default: two fifths in)")
    args = parser.parse_args()
    try:
        compare(args.source, args.result, args.picture, args.time)
    except RcanVideoError as error:
        print(f"demo_picture: {error}", file=sys.stderr)
        sys.exit(error.exit_code)


def compare(source: Path, result: Path, picture: Path, seconds: Fraction | None = None) -> None:
    """Write ``picture`` from the frame that both videos show at ``seconds``; None is two fifths into the source."""
    before = still(source, seconds)
    after = still(result, before.time)
    if abs(after.time - before.time) > TICK:
        raise InputError(
            f"{result}: has no frame at {float(before.time):.3f} s, where {source} has one; "
            "give the video that was made from it, whole"
        )
    # An untagged stream's matrix is guessed from its size, and upscaling may carry the size across that line.
    matrix = _spec(before.frame, UNSPECIFIED).matrix
    write_png(picture, before_after(_rgb(before.frame, matrix), _rgb(after.frame, matrix)))


def still(path: Path, seconds: Fraction | None) -> Still:
    """The first frame shown at or after a presentation time, or the last one where there is none so late.

    None is two fifths into the video. Raises InputError if the file cannot be read or holds no video.
    """
    try:
        with av.open(str(path), metadata_errors="replace") as container:
            video = container.streams.best("video")
            if video is None:
                raise InputError(f"{path}: holds no video; give a file that does")
            start = (video.start_time or 0) * video.time_base
            wanted = seconds if seconds is not None else start + DEFAULT_PLACE * _duration(container, video)
            if wanted > start:
                container.seek(int(wanted / video.time_base), stream=video)
            last = None
            for frame in container.decode(video):
                if frame.pts is None:
                    raise InputError(f"{path}: its frames carry no times; put it into a container that keeps them")
                last = Still(frame, frame.pts * frame.time_base)
                if last.time > wanted - TICK:
                    break
    except (av.FFmpegError, OSError) as error:
        raise InputError(f"{path}: cannot be read as video ({error.strerror}); check the path and the file") from error
    if last is None:
        raise InputError(f"{path}: not one frame can be decoded; check the file in a player")
    return last


def _duration(container: av.container.InputContainer, video: av.VideoStream) -> Fraction:
    """Seconds, by the stream or else by the container; 0 where neither knows."""
    if video.duration:
        return video.duration * video.time_base
    return Fraction(container.duration or 0, av.time_base)


def _spec(frame: av.VideoFrame, untagged: int) -> ColorSpec:
    """What the frame's samples mean; ``untagged`` is the matrix to take where it does not say."""
    layout = PlaneLayout.parse(frame.format.name) or PlaneLayout("rgb" if frame.format.is_rgb else "yuv")
    matrix = untagged if frame.colorspace == UNSPECIFIED else int(frame.colorspace)
    return ColorSpec.resolve(ColorTags(matrix=matrix, range=int(frame.color_range)), layout, frame.width, frame.height)


def _rgb(frame: av.VideoFrame, untagged: int) -> Pixels:
    spec = _spec(frame, untagged)
    # Without ACCURATE_RND swscale's fast path comes out a whole code too dark on average.
    picture = frame.reformat(
        format="rgb24",
        src_colorspace=MATRICES[spec.matrix],
        src_color_range=ColorRange.JPEG if spec.full_range else ColorRange.MPEG,
        dst_color_range=ColorRange.JPEG,
        interpolation=Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT,
    )
    return picture.to_ndarray()


if __name__ == "__main__":
    main()
