"""The version, alone in a module so that the build backend and ``--version`` can read it without imports."""

__version__ = "0.1.0"
