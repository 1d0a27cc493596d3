"""The shell and the path of one batch: transport, merge, wire, decisions, command line."""
