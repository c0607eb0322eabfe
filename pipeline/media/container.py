"""How FFmpeg opens a file: as a container that holds its media itself, never as one that names other files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from av.container import InputContainer

CONTAINERS = (
    "mov,matroska,avi,flv,live_flv,kux,mpeg,mpegts,mpegvideo,m4v,h261,h263,h264,hevc,vvc,av1,obu,ivf,vc1,mjpeg,dirac,"
    "asf,ogg,nut,nsv,nuv,rm,mxf,gxf,dv,wtv,swf,yuv4mpegpipe,gif,apng,"
    "wav,w64,mp3,aac,loas,ac3,eac3,dts,dtshd,truehd,mlp,flac,ape,wv,tta,tak,aiff,au,caf,amr,amrnb,amrwb,mpc,mpc8,voc,"
    "dsf,oma,qcp"
)
"""FFmpeg's names of the formats that are opened. Others are not, as FFmpeg has some that read further files, devices
or addresses which the file names: concat, hls, dash, image2, imf, sdp, vobsub, lavfi and more with each release."""


def open_media(path: Path, *, edits: bool = True) -> InputContainer:
    """Opens a file by PyAV. A format outside `CONTAINERS` is refused before FFmpeg reads anything the file names.

    The name of a file proves nothing: FFmpeg goes by content, and takes a script named `.mp4` for what it is.

    Args:
        path: the file, absolute.
        edits: whether FFmpeg applies the edit lists of mp4 and mov (see `edits.py`).

    Raises:
        av.error.FFmpegError: it cannot be opened; `av.error.ArgumentError` where the format is refused.
    """
    import av

    # `file` keeps what a container still refers to on this machine, whichever protocols FFmpeg was built with.
    allowed = {"protocol_whitelist": "file", "format_whitelist": CONTAINERS}
    options = allowed if edits else {**allowed, "ignore_editlist": "1"}
    return av.open(str(path), metadata_errors="replace", options=options)
