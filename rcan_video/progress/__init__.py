"""What people and programs learn while a job runs; all of it goes to standard error, or to another descriptor.

``base`` says what a job tells, ``estimate`` makes figures of it, and ``plain``, ``bar`` and ``events`` show them:
lines, a live bar on a terminal, JSON. ``several`` shows them in more than one way at once.
"""

from rcan_video.progress.base import (
    LEFT_OUT,
    Display,
    FileResult,
    Progress,
    Silent,
    Stage,
    StreamRow,
    duration_text,
    summary,
)

__all__ = [
    "LEFT_OUT",
    "Display",
    "FileResult",
    "Progress",
    "Silent",
    "Stage",
    "StreamRow",
    "duration_text",
    "summary",
]
