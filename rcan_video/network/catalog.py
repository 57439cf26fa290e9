"""The bundled weights, and one door to them and to any checkpoint of the user's own.

Nothing here loads torch before somebody asks for the network itself: ``entries`` reads ``index.json`` alone, and
``load_model`` the file's bytes. A checkpoint of the user's own is built once to learn its scale, which is remembered.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from rcan_video import cache
from rcan_video.errors import WeightsError, did_you_mean
from rcan_video.network.files import read_bytes
from rcan_video.options import DEFAULT_SCALE, ModelOptions, SizeOptions
from rcan_video.size import check_scale, option_of

if TYPE_CHECKING:
    from rcan_video.network.rcan import RCAN


@dataclass(frozen=True, slots=True)
class Entry:
    """One bundled checkpoint. ``config`` holds the fields of ``RCANConfig``; ``scores`` gives, for each test set,
    "psnr_y" of these weights and of "bicubic" in dB."""

    name: str
    scale: int
    path: Path
    sha256: str
    config: Mapping[str, object]
    trained_on: str
    licence: str
    scores: Mapping[str, Mapping[str, float]]


@dataclass(frozen=True)
class LoadedModel:
    """A checkpoint that was read and found good: ``sha256`` is of its bytes, ``scale`` the factor it enlarges by."""

    name: str
    path: Path
    sha256: str
    scale: int
    content: bytes = field(repr=False)

    @cached_property
    def net(self) -> RCAN:
        """The network, ready to run (eval, float32, CPU). The first time loads torch; raises WeightsError."""
        return _build(self.content, self.path)


def entries() -> tuple[Entry, ...]:
    """What is bundled, sorted by name and scale. Raises WeightsError where the installation lacks it."""
    folder = _folder()
    try:
        found = [
            Entry(
                name=item["name"],
                scale=item["scale"],
                path=folder / item["file"],
                sha256=item["sha256"],
                config=item["config"],
                trained_on=item["trained_on"],
                licence=item["licence"],
                scores=item["scores"],
            )
            for item in json.loads((folder / "index.json").read_text(encoding="utf-8"))
        ]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise WeightsError(f"{folder / 'index.json'}: cannot be read ({error}); install rcan-video anew") from error
    return tuple(sorted(found, key=lambda entry: (entry.name, entry.scale)))


def scales(model: str) -> tuple[int, ...]:
    """The factors by which ``model`` enlarges, ascending: all that are bundled by that name, or the checkpoint's own.

    Raises WeightsError as ``load_model``.
    """
    bundled = tuple(entry.scale for entry in entries() if entry.name == model)
    return bundled or (load_model(model).scale,)


def usable_scales(model: ModelOptions, size: SizeOptions) -> tuple[int, ...]:
    """``scales`` of the model that is chosen. Raises UsageError for a size that is asked for in two ways or means
    nothing, WeightsError for a scale that none of them reaches."""
    option_of(model, size)
    found = scales(model.model)
    check_scale(model.model, found, model.scale)
    return found


def load_model(model: str, scale: int | None = None) -> LoadedModel:
    """The network called ``model``, a bundled name or else the path of a checkpoint.

    ``scale`` None means 2 for a bundled name and the checkpoint's own for a path. A file that has the name of
    bundled weights is reached as ``./name``. Raises WeightsError where there is no such model, where it has
    another scale, and where the file is damaged.
    """
    bundled = entries()
    if any(entry.name == model for entry in bundled):
        entry = _pick(bundled, model, DEFAULT_SCALE if scale is None else scale)
        return _load_bundled(entry)
    path = Path(model)
    if not model or not path.exists():
        raise WeightsError(
            f"{model or repr(model)}: there is no such file, nor are such weights bundled; "
            f"bundled are: {_listing(bundled)}{did_you_mean(model, (entry.name for entry in bundled))}"
        )
    loaded = _load_foreign(path)
    own = loaded.scale
    if scale is not None and scale != own:
        raise WeightsError(
            f"{model}: is a x{own} model, and x{scale} is asked for; give --scale {own} or a model for x{scale}"
        )
    return loaded


def _pick(bundled: tuple[Entry, ...], name: str, scale: int) -> Entry:
    for entry in bundled:
        if (entry.name, entry.scale) == (name, scale):
            return entry
    raise WeightsError(f"{name}: no x{scale} weights are bundled; bundled are: {_listing(bundled)}")


def _load_bundled(entry: Entry) -> LoadedModel:
    content = read_bytes(entry.path)
    if hashlib.sha256(content).hexdigest() != entry.sha256:
        raise WeightsError(f"{entry.path}: is not the file that was bundled (sha256 differs); install rcan-video anew")
    return LoadedModel(entry.name, entry.path, entry.sha256, entry.scale, content)


def _load_foreign(path: Path) -> LoadedModel:
    content = read_bytes(path)
    digest = hashlib.sha256(content).hexdigest()
    key = cache.key_of("scale", digest)
    known = cache.load(key)
    if known is not None:
        return LoadedModel(path.stem, path, digest, int(known), content)
    net = _build(content, path)
    cache.store(key, str(net.config.scale).encode())
    loaded = LoadedModel(path.stem, path, digest, net.config.scale, content)
    loaded.__dict__["net"] = net  # as cached_property keeps it
    return loaded


def _build(content: bytes, path: Path) -> RCAN:
    from rcan_video.network import checkpoint

    return checkpoint.from_bytes(content, str(path))


def _listing(bundled: tuple[Entry, ...]) -> str:
    return ", ".join(f"{entry.name} x{entry.scale}" for entry in bundled)


def _folder() -> Path:
    """``rcan_video/weights`` in an installed wheel, ``weights`` beside the package in a checkout."""
    package = Path(__file__).resolve().parents[1]
    for folder in (package / "weights", package.parent / "weights"):
        if (folder / "index.json").is_file():
            return folder
    raise WeightsError(f"{package / 'weights'}: the bundled weights are missing; install rcan-video anew")
