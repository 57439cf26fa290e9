"""``python -m rcan_video`` is ``rcan-video``."""

from rcan_video.commands.upscale import main

main()
