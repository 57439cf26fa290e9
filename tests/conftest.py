"""Fixtures and rules for all tests."""

from __future__ import annotations

import os
import signal

# A shell that runs the tests in its background has SIGINT ignored, for them and for what they start and interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# As the command does it: idle OpenMP threads that spin for long take the cores from the encoder. Read on import.
os.environ.setdefault("GOMP_SPINCOUNT", "10000")

from collections.abc import Iterator

import pytest
import torch

REQUIRE_CUDA = "RCAN_VIDEO_REQUIRE_CUDA"


@pytest.fixture(scope="session", autouse=True)
def cache_of_its_own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What tests compile stays out of the user's cache folder, and what is there, and the user's standing choices, out
    of the tests; processes that they start inherit it."""
    folder = str(tmp_path_factory.mktemp("cache"))
    with pytest.MonkeyPatch.context() as patch:
        for name in ("XDG_CACHE_HOME", "LOCALAPPDATA", "XDG_CONFIG_HOME", "APPDATA"):
            patch.setenv(name, folder)
        for name in [name for name in os.environ if name.startswith("RCAN_VIDEO_") and name != REQUIRE_CUDA]:
            patch.delenv(name)
        yield


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Tests marked ``cuda`` are skipped without CUDA, but fail where the environment promises it: a GPU that has
    fallen away must not pass for tested."""
    if item.get_closest_marker("cuda") is None or torch.cuda.is_available():
        return
    if os.environ.get(REQUIRE_CUDA):
        pytest.fail(f"{REQUIRE_CUDA} is set, but torch {torch.__version__} sees no CUDA device")
    pytest.skip(f"no CUDA device (set {REQUIRE_CUDA}=1 to fail instead)")
