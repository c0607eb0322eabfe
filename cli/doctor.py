"""`avpipe doctor`: one pasteable page about this machine."""

from __future__ import annotations

from typing import Annotated

import typer

from avpipe.cli import render


def doctor_command(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show decoders, GPU, disk and versions; exits 6 where something essential is lacking."""
    from avpipe.pipeline.cache.locate import default_root
    from avpipe.pipeline.doctor import examine
    from avpipe.pipeline.errors import EnvironmentLacking

    facts = examine(default_root())
    if as_json:
        render.emit_json(facts)
    else:
        disk = facts["disk"]
        rows = [
            ("python", f"{facts['python']} on {facts['platform']}"),
            ("cores", facts["cores"]),
            ("memory", render.human_bytes(facts["memory_bytes"])),
            ("gpu", facts["gpu"]),
            ("disk", f"{disk['folder']}: {render.human_bytes(disk['free_bytes'])} free"),
        ]
        if "error" not in disk:
            speeds = f"write+fsync {disk['write_fsync_mb_s']} MB/s, read (warm) {disk['read_warm_mb_s']} MB/s"
            rows.append(("disk speed", speeds))
        rows += [(f"decoder {name}", state) for name, state in facts["decoders"].items()]
        rows += list(facts["packages"].items())
        rows += [("LACKING", text) for text in facts["lacking"]]
        render.table(["what", "found"], rows)
    if facts["lacking"]:
        raise typer.Exit(EnvironmentLacking.exit_code)
