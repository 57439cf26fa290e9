"""What an encoder wrote about itself into the stream: x264 and x265 put their settings before the first frame."""

from __future__ import annotations

import re

from rcan_video.media.files import open_input
from rcan_video.media.packets import demux
from rcan_video.media.probe import best_video

# The text of their SEI message (user data unregistered), which ends with a zero byte.
_NOTE = re.compile(rb"(x26[45] [ -~]{0,200}?options: [ -~]{1,4000})")


def encoder_note(path: str) -> str | None:
    """The version and the options of x264 or x265, None where there is no such text. Raises InputError."""
    with open_input(path) as container:
        stream = best_video(container, path)
        packet = next((p for p in demux(container, [stream]) if p.size), None)
        data = (stream.codec_context.extradata or b"") + (b"" if packet is None else bytes(packet))
    found = _NOTE.search(data)
    return None if found is None else found.group(1).decode("ascii")
