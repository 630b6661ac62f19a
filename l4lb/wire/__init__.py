"""Packet headers and checksums: bytes only. No I/O, no clock, no state."""
