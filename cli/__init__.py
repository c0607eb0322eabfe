"""The command line: one thin file per command group. Nothing else in avpipe prints."""
