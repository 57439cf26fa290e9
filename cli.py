"""Launcher: ``python cli.py IN OUT`` from a checkout is the same as ``rcan-video IN OUT``."""

from rcan_video.commands.upscale import main

if __name__ == "__main__":
    main()
