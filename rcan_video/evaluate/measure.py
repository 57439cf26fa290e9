"""The run: every frame of every item through every method, and the scores of what comes out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import islice, zip_longest
from pathlib import Path

import torch

from rcan_video.engine.memory import is_oom
from rcan_video.errors import InputError, OutOfMemory, OutputError, UsageError
from rcan_video.evaluate import tables
from rcan_video.evaluate.items import Item, collect
from rcan_video.evaluate.methods import Method, open_methods, short_names
from rcan_video.evaluate.results import Crops, Evaluation, Series
from rcan_video.media.files import PIPE, PartFile, check_output, output_errors
from rcan_video.metrics import SSIM_WINDOW, Meter, Pixels, Score
from rcan_video.options import EvalOptions
from rcan_video.pictures import compressed, read_frames
from rcan_video.report import SHEET_CROP, most_detailed, sheet, write_png
from rcan_video.resize import reduce

_BT709 = 1
_ENCODER, _PRESET = "libx264", "medium"
_SHEET_ROWS = 24


def evaluate(options: EvalOptions, say: Callable[[str], None]) -> Evaluation:
    """Measure as ``options`` say, and see to it that the files that they name can be written; ``say`` hears what is
    being done.

    Raises RcanVideoError: usage, input, output, weights, device, memory.
    """
    if options.crf and (options.lr is not None or options.results):
        raise UsageError("--video-crf makes the small pictures itself: leave out --lr and --sr")
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    scale, methods = open_methods(options)
    names = [*(method.name for method in methods), *short_names(options.results)]
    if twice := {name for name in names if names.count(name) > 1}:
        raise UsageError(f"two columns would be called {', '.join(sorted(twice))}: give each once, or rename it")
    items = collect(options.hr, options.lr, options.results, scale)
    _check_outputs(options, items)
    conditions: dict[str, float | None] = {f"CRF {crf:g}": crf for crf in options.crf} or {"": None}

    series: list[Series] = []
    crops: list[Crops] = []
    for number, item in enumerate(items, 1):
        for condition, crf in conditions.items():
            title = f"{item.name} {condition}".rstrip()
            say(f"measuring {number}/{len(items)}: {title}")
            scores, last = _measure(item, crf, scale, methods, names, options.frames)
            series += [Series(item.name, condition, name, tuple(found)) for name, found in scores.items()]
            if options.sheet is not None and len(crops) < _SHEET_ROWS:
                labels = ["original", *(f"{name} {found[-1].psnr_y:.2f} dB" for name, found in scores.items())]
                crops.append((title, _cropped(labels, last)))
    item_names = tuple(item.name for item in items)
    return Evaluation(scale, tuple(names), tuple(conditions), item_names, tuple(series), tuple(crops))


def write_files(options: EvalOptions, found: Evaluation) -> None:
    """Write ``found`` into the files that ``options`` name. Raises OutputError."""
    for target, text in ((options.csv, tables.csv_text), (options.json, tables.json_text)):
        if target is not None:
            with PartFile(target, overwrite=options.overwrite) as part:
                with output_errors(target):  # a name that is not UTF-8 is escaped: in JSON, as JSON does it
                    part.path.write_text(text(found), encoding="utf-8", errors="backslashreplace", newline="")
                part.commit()
    if options.sheet is not None:
        with PartFile(options.sheet, overwrite=options.overwrite) as part:
            write_png(part.path, sheet(found.crops))
            part.commit()


def _check_outputs(options: EvalOptions, items: list[Item]) -> None:
    """Before hours of work. Raises OutputError for what cannot be written, is read or is written already,
    UsageError for a sheet by the name of another format."""
    named = {"--csv": options.csv, "--json": options.json, "--sheet": options.sheet}
    if empty := [name for name, target in named.items() if target == ""]:
        raise UsageError(f"{empty[0]} has an empty name, perhaps a variable of the shell: name a file, or leave it out")
    targets = [target for target in named.values() if target is not None]
    if PIPE in targets:
        raise OutputError("standard output carries the table: name a file in place of -")
    if len({Path(target).resolve() for target in targets}) < len(targets):
        raise OutputError(
            f"{', '.join(targets)}: one file cannot hold two of --csv, --json and --sheet; give each its own"
        )
    read = {str(path) for item in items for path in (item.hr, item.lr, *item.results) if path is not None}
    for target in targets:
        for source in sorted(read | set(options.models)):
            check_output(source, target, overwrite=options.overwrite)
    if options.sheet is not None and not options.sheet.lower().endswith(".png"):
        raise UsageError(f"--sheet writes a PNG: give it an ending of .png, not {options.sheet}")


def _measure(
    item: Item, crf: float | None, scale: int, methods: list[Method], names: list[str], frames: int | None
) -> tuple[dict[str, list[Score]], list[Pixels]]:
    """Scores by name (``methods``, then what the item has), and the last frame of the original and of each."""
    meters = {name: Meter(shave=scale) for name in names}
    scores: dict[str, list[Score]] = {name: [] for name in names}
    hr, outputs = None, list[Pixels]()
    for hr, lr, *given in _together(item, crf, scale, frames):
        outputs = [*(_enlarged(method, lr, item) for method in methods), *given]
        for name, sr in zip(names, outputs, strict=True):
            _same_size(hr, sr, item, name)
            scores[name].append(meters[name](hr, sr))
    if hr is None:
        raise InputError(f"{item.hr}: not one frame of it can be decoded; give another")
    return scores, [hr, *outputs]


def _cropped(labels: list[str], pictures: list[Pixels]) -> list[tuple[str, Pixels]]:
    """The part that has the most detail in the first of ``pictures``, of each: copies, that let the whole ones go."""
    hr = pictures[0]
    height, width = (min(size, SHEET_CROP) for size in hr.shape[:2])
    crop = most_detailed(hr, width, height)
    here = slice(crop.y, crop.y + height), slice(crop.x, crop.x + width)
    return [(label, picture[here].copy()) for label, picture in zip(labels, pictures, strict=True)]


def _together(item: Item, crf: float | None, scale: int, frames: int | None) -> Iterator[tuple[Pixels, ...]]:
    """Each frame's original, small form and given enlargements."""
    # An encoder of 4:2:0 takes even sizes.
    step = scale if crf is None else 2 * scale

    def read(path: Path) -> Iterator[Pixels]:
        return islice(read_frames(path), frames)

    def originals() -> Iterator[Pixels]:
        return (_cut(frame, step, scale, item.hr) for frame in read(item.hr))

    small: Iterable[Pixels]
    small = read(item.lr) if item.lr is not None else (reduce(frame, scale) for frame in originals())
    if crf is not None:
        small = compressed(small, _ENCODER, {"crf": f"{crf:g}", "preset": _PRESET}, _BT709)
    results = (map(_of_step(step), read(path)) for path in item.results)
    for group in zip_longest(originals(), small, *results):
        if any(frame is None for frame in group):
            raise InputError(f"{item.hr}: what belongs to it has another number of frames; give its own, or --frames")
        yield group


def _cut(frame: Pixels, step: int, scale: int, path: Path) -> Pixels:
    cut = _of_step(step)(frame)
    if min(cut.shape[:2]) - 2 * scale < SSIM_WINDOW:
        raise InputError(
            f"{path}: {frame.shape[1]}x{frame.shape[0]} is too small to be measured at x{scale}; leave it out"
        )
    return cut


def _of_step(step: int) -> Callable[[Pixels], Pixels]:
    """Leaves out the rows and columns beyond the last multiple of ``step``, as MATLAB code of the field does."""
    return lambda frame: frame[: frame.shape[0] // step * step, : frame.shape[1] // step * step]


def _enlarged(method: Method, lr: Pixels, item: Item) -> Pixels:
    try:
        return method.enlarge(lr)
    except (RuntimeError, MemoryError) as error:
        if not is_oom(error):
            raise
        height, width = lr.shape[:2]
        raise OutOfMemory(
            f"memory ran out in {method.name} for {item.name}, {width}x{height}: give smaller ones, or --device cpu"
        ) from error


def _same_size(hr: Pixels, sr: Pixels, item: Item, name: str) -> None:
    if hr.shape != sr.shape:
        (height, width), (has, wide) = hr.shape[:2], sr.shape[:2]
        raise InputError(
            f"{item.name}: {name} is {wide}x{has}, not {width}x{height}; give files of one source, or another --scale"
        )
