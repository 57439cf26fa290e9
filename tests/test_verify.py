"""The check of the written file: what is whole passes, what differs is named."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import pytest
from clips import make_clip

from rcan_video.errors import OutputError, VerificationError
from rcan_video.media.verify import Ledger, Track, verify

TICK = Fraction(1, 25)


def remux(source: Path, target: Path, earlier: Fraction = Fraction(0)) -> tuple[Ledger, str]:
    """Packets of ``source``, ``earlier`` by so many seconds, through a ledger into ``target``, and FFmpeg's name of its
    container."""
    with av.open(str(source)) as file, av.open(str(target), "w") as output:
        streams = {s.index: output.add_stream_from_template(s) for s in file.streams}
        ledger = Ledger()
        for packet in file.demux():
            if packet.size:
                packet.stream = streams[packet.stream_index]
                ticks = round(earlier / Fraction(packet.time_base))
                packet.pts = None if packet.pts is None else packet.pts - ticks
                packet.dts = None if packet.dts is None else packet.dts - ticks
                ledger.note(packet)
                output.mux(packet)
        return ledger, output.format.name


def test_uneven_frames_in_nut_pass(tmp_path: Path) -> None:
    """It has no durations: a reader takes the last frame to last as long as the rate says."""
    ledger, container = remux(make_clip(tmp_path / "in.mp4", pts=[0, 1, 5, 6], last_duration=4), tmp_path / "out.nut")
    verify(tmp_path / "out.nut", "out.nut", container, ledger)
    ledger.video.last = (ledger.video.last or 0) + TICK
    with pytest.raises(VerificationError, match=r"^the video of out.nut has its last packet at "):
        verify(tmp_path / "out.nut", "out.nut", container, ledger)


@pytest.mark.parametrize("name", ["out.mp4", "out.mov", "out.mkv", "out.nut", "out.ts", "out.avi", "out.h264"])
@pytest.mark.parametrize("reordered", [True, False])
def test_what_is_whole_passes(tmp_path: Path, name: str, reordered: bool) -> None:
    audio = 0 if name in ("out.avi", "out.h264") else 2
    codec = "mpeg4" if name == "out.avi" else "libx264"
    options = {"bf": "2" if reordered and name != "out.avi" else "0"}
    clip = make_clip(tmp_path / "in.mkv", codec=codec, frames=10, audio=audio, options=options)
    ledger, container = remux(clip, tmp_path / name)
    verify(tmp_path / name, name, container, ledger)
    assert ledger.tracks[0].packets == 10


def test_sound_that_is_cut_anew_passes(tmp_path: Path) -> None:
    """PCM in packets of other lengths (AVI, MXF, DV): the muxers of the MP4 family cut it by themselves."""
    clip = make_clip(tmp_path / "in.mkv", frames=10, audio=1, audio_codec="pcm_s16le")
    ledger, container = remux(clip, tmp_path / "out.mov")
    with av.open(str(tmp_path / "out.mov")) as file:
        read = [p for p in file.demux(file.streams.audio[0]) if p.size]
    assert len(read) != ledger.tracks[1].packets
    verify(tmp_path / "out.mov", "out.mov", container, ledger)
    ledger.tracks[1].end = (ledger.tracks[1].end or 0) + TICK
    with pytest.raises(VerificationError, match=r"^audio stream 1 of out.mov ends at 0.400 s, where 0.440 s"):
        verify(tmp_path / "out.mov", "out.mov", container, ledger)


def test_a_file_whose_streams_were_moved_together_passes(tmp_path: Path) -> None:
    """Matroska stores no negative times: FFmpeg moves everything so that AAC's first packet comes at zero."""
    clip = make_clip(tmp_path / "in.mp4", frames=10, audio=1)
    ledger, container = remux(clip, tmp_path / "out.mkv")
    assert (ledger.tracks[1].first or 0) < 0
    verify(tmp_path / "out.mkv", "out.mkv", container, ledger)


def later(track: Track) -> Track:
    return replace(track, **{k: (getattr(track, k) or 0) + TICK for k in ("first", "last", "end")})


@pytest.mark.parametrize(
    ("stream", "change", "sentence"),
    [
        (
            0,
            lambda t: replace(t, last=t.last + TICK),
            "the video of out.mp4 has its last packet at 0.360 s, where",
        ),
        (0, lambda t: replace(t, end=t.end - TICK), "the video of out.mp4 ends at 0.400 s, where 0.360 s"),
        (1, later, "audio stream 1 of out.mp4 begins at -0.021 s, where 0.019 s was written: please report this"),
        (2, lambda t: replace(t, end=t.end + TICK), "audio stream 2 of out.mp4 ends at "),
    ],
)
def test_what_differs_is_named(tmp_path: Path, stream: int, change: Callable[[Track], Track], sentence: str) -> None:
    ledger, container = remux(make_clip(tmp_path / "in.mp4", frames=10, audio=2), tmp_path / "out.mp4")
    verify(tmp_path / "out.mp4", "out.mp4", container, ledger)
    ledger.tracks[stream] = change(ledger.tracks[stream])
    with pytest.raises(VerificationError) as caught:
        verify(tmp_path / "out.mp4", "out.mp4", container, ledger)
    assert str(caught.value).startswith(sentence)


def test_a_stream_that_never_arrived(tmp_path: Path) -> None:
    ledger, _ = remux(make_clip(tmp_path / "in.mp4", frames=10, audio=1), tmp_path / "out.mp4")
    silent = make_clip(tmp_path / "silent.mp4", frames=10)
    with pytest.raises(VerificationError, match=r"out.mp4 holds 0 audio streams, not 1"):
        verify(silent, "out.mp4", "mp4", ledger)


def test_a_stream_without_packets_may_be_left_out(tmp_path: Path) -> None:
    """As MP4's muxer does, and so the streams behind it have another index than they were given."""
    clip = make_clip(tmp_path / "in.mp4", frames=10, audio=2)
    with av.open(str(clip)) as file, av.open(str(tmp_path / "out.mp4"), "w") as output:
        streams = {s.index: output.add_stream_from_template(s) for s in file.streams}
        ledger = Ledger()
        for packet in file.demux(file.streams[0], file.streams[2]):
            if packet.size:
                packet.stream = streams[packet.stream_index]
                ledger.note(packet)
                output.mux(packet)
    with av.open(str(tmp_path / "out.mp4")) as file:
        assert [s.type for s in file.streams] == ["video", "audio"]
    verify(tmp_path / "out.mp4", "out.mp4", "mp4", ledger)


def test_a_missing_frame(tmp_path: Path) -> None:
    ledger, container = remux(make_clip(tmp_path / "in.mp4", frames=9), tmp_path / "part.mp4")
    ledger.video.packets += 1
    with pytest.raises(VerificationError) as caught:
        verify(tmp_path / "part.mp4", "out.mp4", container, ledger)
    assert str(caught.value) == "out.mp4 holds 9 frames, but 10 were upscaled: please report this"


def test_frames_that_an_edit_list_hides_are_missing(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "in.mp4", frames=12, options={"bf": "0"})
    ledger, container = remux(clip, tmp_path / "out.mp4", 4 * TICK)
    with pytest.raises(VerificationError, match=r"^out.mp4 holds 8 frames, but 12 were upscaled"):
        verify(tmp_path / "out.mp4", "out.mp4", container, ledger)


def test_a_file_that_is_none_or_has_gone(tmp_path: Path) -> None:
    ledger, container = remux(make_clip(tmp_path / "in.mp4", frames=2), tmp_path / "part.mp4")
    (tmp_path / "part.mp4").write_bytes(b"nothing to see")
    with pytest.raises(VerificationError, match=r"^out.mp4 cannot be read back"):
        verify(tmp_path / "part.mp4", "out.mp4", container, ledger)
    (tmp_path / "part.mp4").unlink()
    with pytest.raises(OutputError, match=r"^out.mp4 cannot be written: its folder or the unfinished file"):
        verify(tmp_path / "part.mp4", "out.mp4", container, ledger)
