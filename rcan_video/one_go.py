"""A job without segments: what lies in a pipe, and what cannot be cut."""

from __future__ import annotations

from rcan_video.errors import VerificationError
from rcan_video.media.encode import Writer
from rcan_video.media.files import PartFile
from rcan_video.options import Report
from rcan_video.pipeline import run
from rcan_video.prepare import Job


def in_one_go(job: Job, writer: Writer, part: PartFile | None) -> Report:
    """Compute every frame of ``job`` into ``writer``, and give the file its name. Raises RcanVideoError."""
    report = None
    engine = job.engine(writer.target)
    try:
        job.announce(writer, engine.describe(), job.info.frames)
        frames = job.pace(job.source.frames())
        write = job.in_time(writer.write)
        counts = run(
            frames,
            engine,
            write,
            stop=job.stop,
            on_written=job.progress.update,
            watch=job.watch,
            devices=len(job.choices),
        )
        writer.finish()
        if job.index is not None:
            job.index.check_unchanged(job.options.input)
        ending = job.ending()
        if not ending.frames_out == counts.decoded == counts.written == writer.frames:
            raise VerificationError(
                f"{ending.frames_out} frames were decoded, {counts.written} upscaled and {writer.frames} encoded: "
                "please report this"
            )
        if part is not None:
            job.check(part, writer.container, writer.ledger)
        late = [*ending.notices, *writer.late_notices()]
        done = job.report(writer, ending, counts, late)
        if part is not None:
            part.commit()
        report = done
    finally:
        engine.close()
        job.progress.finish(report)
    return report
