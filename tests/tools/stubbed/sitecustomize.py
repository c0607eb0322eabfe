"""With this folder on PYTHONPATH every decode pool of every process decodes by `stub_decoders.decode_media`."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parent.parent))

import stub_decoders

from avpipe.pipeline.media.sandbox import DecodePool

DecodePool.__init__.__kwdefaults__["decode"] = stub_decoders.decode_media
