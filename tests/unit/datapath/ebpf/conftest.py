"""Fixtures of the tests that look into the kernel's maps."""

from tests.unit.datapath.ebpf.kernel import bpf_possible, compiled, maps, processors

__all__ = ["bpf_possible", "compiled", "maps", "processors"]
