"""OpenVINO as this package uses it: without its telemetry, which would otherwise begin with the import.

The package of that name writes an identity into the user's home folder and tells Google Analytics of every import, in a
process of its own for which the interpreter waits at its end. Where it is not installed, OpenVINO does without.
"""

import sys

if "openvino" in sys.modules:  # somebody else's decision, and made
    import openvino
else:
    _before = sys.modules.get("openvino_telemetry")
    sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]  # importing it fails
    try:
        import openvino
    finally:
        del sys.modules["openvino_telemetry"]
        if _before is not None:
            sys.modules["openvino_telemetry"] = _before

__all__ = ["openvino"]
