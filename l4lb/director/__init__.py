"""The path of a packet: parse, lookup, select, track, translate. Pure: time is an argument, no I/O."""
