"""One report: both videos opened, measured, and the page written."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack

from rcan_video.compare.clips import Clip
from rcan_video.compare.measure import measure
from rcan_video.compare.page import page
from rcan_video.errors import UsageError
from rcan_video.media.files import PIPE, PartFile, check_output, output_errors
from rcan_video.options import CompareOptions


def compare(options: CompareOptions, say: Callable[[str], None]) -> bool:
    """Write the report that ``options`` ask for; ``say`` hears how far it is. Returns whether the output looks as if it
    had been made of the source.

    Raises RcanVideoError: usage, input, output.
    """
    if options.report == PIPE:
        raise UsageError("the report is a file: name one with -o")
    if not options.report.lower().endswith((".html", ".htm")):
        raise UsageError(f"-o {options.report}: the report is a page, give it an ending of .html")
    for path in filter(None, (options.source, options.output, options.reference)):
        check_output(path, options.report, overwrite=options.overwrite)
    begun = time.perf_counter()
    with ExitStack() as stack:
        source = stack.enter_context(Clip(options.source, start=options.start, deinterlace=options.deinterlace))
        output = stack.enter_context(Clip(options.output, like=source.info))
        reference = None
        if options.reference is not None:
            reference = stack.enter_context(Clip(options.reference, start=options.start, like=source.info))
        say(f"measuring {output.info.path} against {source.info.path}")
        found = measure(source, output, reference, options)
        content = page(source, output, found, time.perf_counter() - begun)
    with PartFile(options.report, overwrite=options.overwrite) as part:
        with output_errors(options.report):
            part.path.write_text(content, encoding="utf-8", newline="\n")
        part.commit()
    return found.alike
