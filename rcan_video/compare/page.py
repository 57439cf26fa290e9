"""The report as one HTML file: pictures, drawings, style and script inside, nothing from anywhere else."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Iterable, Sequence
from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template

from rcan_video.compare import facts
from rcan_video.compare.clips import Clip
from rcan_video.compare.facts import Row
from rcan_video.compare.measure import KERNEL_NAME, Comparison, Figures, Still, enlarged
from rcan_video.compare.plots import Curve, mean, plot
from rcan_video.metrics import Pixels
from rcan_video.report import most_detailed, pack_jpeg
from rcan_video.version import __version__

_WIDEST, _HIGHEST = 1920, 1080  # a larger picture is shown in part: its most detailed one
_MOST_BYTES = 24 << 20  # of all pictures together, as they lie in the page
_EYE = 72  # side of what the zoom shows at first, in pixels of the picture
_QUALITIES = (95, 90, 80, 65)


def page(source: Clip, output: Clip, found: Comparison, seconds: float) -> str:
    """The whole file. ``seconds`` is what measuring took. Raises OutputError where OpenCV cannot pack pictures."""
    before, after = source.info, output.info
    names = [Path(info.path).name for info in (before, after)]
    style, script = (_resource(name) for name in ("page.css", "page.js"))
    plain = f"{names[0]}, {KERNEL_NAME} {facts.scale_text(before, after)}"
    stills, note, kept = _stills(found.stills)
    return Template(_resource("page.html")).substitute(
        style_hash=_hash(style),
        script_hash=_hash(script),
        style=style,
        script=script,
        title=escape(f"{names[0]} and {names[1]}"),
        source=escape(names[0]),
        output=escape(names[1]),
        plain=escape(plain),
        warning="" if found.alike else _warning(names),
        stills=stills,
        choices=_choices(found.stills[:kept]),
        note=escape(note),
        plots="\n".join(_plots(found, found.stills[:kept])),
        streams=_table(facts.streams(before, after)),
        properties=_table(facts.properties(source, output)),
        tags=_table(facts.tags(before, after)),
        settings="\n".join(
            f"<dt>{escape(k)}</dt><dd>{escape(v)}</dd>" for k, v in facts.settings(output, seconds, found)
        ),
        version=escape(__version__),
    )


def _resource(name: str) -> str:
    return files("rcan_video.compare").joinpath(name).read_text(encoding="utf-8")


def _hash(content: str) -> str:
    """By which the page's policy knows its own style and script."""
    return "sha256-" + base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()


def _warning(names: Sequence[str]) -> str:
    text = (
        f"{names[1]} does not look as if it had been made of {names[0]}: where only a part was upscaled, make this "
        "report with the same --start."
    )
    return f'<p class="warning" role="alert">{escape(text)}</p>'


def _stills(stills: Sequence[Still]) -> tuple[str, str, int]:
    """The pictures as elements, a sentence about them, and how many of ``stills`` there was room for."""
    pairs = [_pair(still) for still in stills]
    part = any(pair[0].shape != still.output.shape for pair, still in zip(pairs, stills, strict=True))
    for quality in _QUALITIES:
        packed = [tuple(_data(pack_jpeg(picture, quality)) for picture in pair) for pair in pairs]
        if _size(packed) <= _MOST_BYTES:
            break
    while len(packed) > 1 and _size(packed) > _MOST_BYTES:
        packed.pop()
    shown = f" Of larger pictures the most detailed {_WIDEST}x{_HIGHEST} pixels are shown." if part else ""
    elements = []
    for number, ((plain, after), still) in enumerate(zip(packed, stills, strict=False)):
        hidden = " hidden" if number else ""
        at = escape(_label(still))
        x, y = _eye(pairs[number][1])
        elements.append(
            f'<div class="pair" data-x="{x}" data-y="{y}"{hidden}>'
            f'<img class="after" alt="Output, {at}" src="{after}">'
            f'<img class="before" alt="Source enlarged, {at}" src="{plain}"></div>'
        )
    note = (
        f"Times count from the output's first frame; the hardest frame is the least faithful one. Pictures are JPEG of "
        f"quality {quality} with colours at full resolution, packed after everything was measured.{shown}"
    )
    return "\n".join(elements), note, len(packed)


def _pair(still: Still) -> tuple[Pixels, Pixels]:
    """Source and output at one size, the part that is shown."""
    plain, after = enlarged(still), still.output
    height, width = min(after.shape[0], _HIGHEST), min(after.shape[1], _WIDEST)
    if (height, width) == after.shape[:2]:
        return plain, after
    crop = most_detailed(after, width, height)
    here = slice(crop.y, crop.y + height), slice(crop.x, crop.x + width)
    return plain[here], after[here]


def _eye(picture: Pixels) -> tuple[int, int]:
    """Where the zoom begins: the middle of the most detailed part."""
    crop = most_detailed(picture, min(_EYE, picture.shape[1]), min(_EYE, picture.shape[0]))
    return crop.x + crop.width // 2, crop.y + crop.height // 2


def _size(packed: Sequence[Sequence[str]]) -> int:
    return sum(len(picture) for pair in packed for picture in pair)


def _data(content: bytes) -> str:
    return "data:image/jpeg;base64," + base64.b64encode(content).decode()


def _label(still: Still) -> str:
    return f"{still.figures.at:.2f} s, {', '.join(still.reasons)}"


def _choices(stills: Sequence[Still]) -> str:
    lines = []
    for number, still in enumerate(stills):
        pressed = "false" if number else "true"
        label = f"{still.figures.at:.2f} s <span>{escape(', '.join(still.reasons))}</span>"
        lines.append(f'<button type="button" aria-pressed="{pressed}">{label}</button>')
    return "\n".join(lines)


def _plots(found: Comparison, stills: Sequence[Still]) -> Iterable[str]:
    figures = found.figures
    marks = [(still.figures.at, _label(still)) for still in stills]
    times = [f.at for f in figures]

    def curves(after: Callable[[Figures], float | None], plain: Callable[[Figures], float | None]) -> list[Curve]:
        return [
            Curve(f"source, {KERNEL_NAME}", "before", [plain(f) for f in figures]),
            Curve("output", "after", [after(f) for f in figures]),
        ]

    sharp = curves(lambda f: f.sharpness, lambda f: f.sharpness_plain)
    why = "Root mean square of the gradient of luma; noise, too, is sharp."
    yield _drawing("Sharpness", "grey levels per pixel", times, sharp, marks, why)
    if figures[0].psnr is not None:
        curve = curves(lambda f: f.psnr, lambda f: f.psnr_plain)
        yield _drawing("PSNR against the reference", "dB", times, curve, marks, "Of luma; higher is closer.")
        curve = curves(lambda f: f.ssim, lambda f: f.ssim_plain)
        yield _drawing("SSIM against the reference", "", times, curve, marks, "Of luma; 1 is the reference itself.")
    fidelity = [Curve("output, reduced, against the source", "after", [f.fidelity for f in figures])]
    why = "PSNR of luma of the output, reduced by bicubic to the source's size: what was changed or lost on the way."
    yield _drawing("Faithfulness to the source", "dB", times, fidelity, marks, why)


def _drawing(
    title: str, unit: str, times: Sequence[float], curves: Sequence[Curve], marks: Sequence[tuple[float, str]], why: str
) -> str:
    keys = []
    for curve in curves:
        value = mean(curve.values)
        figure = "" if value is None else f": {value:.4g} {unit}".rstrip() + " on average"
        keys.append(f'<li class="{curve.kind}">{escape(curve.name + figure)}</li>')
    head = f'<h3>{escape(title)}</h3><ul class="key">{"".join(keys)}</ul>'
    return f"<figure>{head}{plot(title, unit, times, curves, marks)}<figcaption>{escape(why)}</figcaption></figure>"


def _list(pairs: Sequence[tuple[str, str]]) -> str:
    return "\n".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in pairs)


def _table(rows: Sequence[Row]) -> str:
    if not rows:
        return "<p>None.</p>"
    lines = []
    for row in rows:
        same = ' class="same"' if row.before == row.after else ""
        cells = f"<td>{escape(row.before)}</td><td>{escape(row.after)}</td>"
        lines.append(f'<tr{same}><th scope="row">{escape(row.what)}</th>{cells}</tr>')
    head = '<tr><td></td><th scope="col">source</th><th scope="col">output</th></tr>'
    return f'<div class="scroll"><table><thead>{head}</thead><tbody>{"".join(lines)}</tbody></table></div>'
