"""Objects: what can be set before they are loaded, what is shared by pins, what the verifier says."""

import struct

import pytest

from l4lb.datapath.libbpf import LibbpfError, Object

FRAME = bytes(64)

REFUSED = """
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
char gpl[] SEC("license") = "GPL";
SEC("xdp") int unchecked(struct xdp_md *ctx)
{
	volatile int sum = 0;
	for (int i = 0; i < 50; i++)
		sum += i;
	return *(volatile char *)(long)ctx->data + sum;
}
"""

OTHER_HASH = """
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
char gpl[] SEC("license") = "GPL";
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(key_size, 6);
	__uint(value_size, 16);
	__uint(max_entries, 1000);
	__uint(map_flags, BPF_F_NO_PREALLOC);
} hash SEC(".maps");
SEC("xdp") int use(struct xdp_md *ctx)
{
	__u64 key = ctx->data;
	return bpf_map_lookup_elem(&hash, &key) ? 1 : 2;
}
"""


@pytest.fixture
def opened(installed):
    """Open objects that are closed after the test."""
    objects = []

    def open_object(*arguments, **options):
        objects.append(Object.open(*arguments, **options))
        return objects[-1]

    yield open_object
    for each in objects:
        each.close()


@pytest.mark.lab
def test_constants_are_those_of_the_source_unless_set(possible, opened, sample_file):
    sample = opened(sample_file, rodata={"small": 0xFE, "large": 2**63, "negative": -5})
    sample.load()
    run = sample.programs["constants"].test_run(FRAME)
    assert run.data[:17] == struct.pack("=BIQi", 0xFE, 2, 2**63, -5)


@pytest.mark.lab
def test_the_same_object_is_opened_with_different_constants(possible, opened, sample_file):
    first, second = (opened(sample_file, rodata={"middle": number}) for number in (10, 20))
    for number, each in ((10, first), (20, second)):
        each.load()
        assert each.programs["constants"].test_run(FRAME).data[1:5] == struct.pack("=I", number)


def test_a_constant_that_is_not_there(opened, sample_file):
    with pytest.raises(LibbpfError, match=r"has no constant other, unknown$"):
        opened(sample_file, rodata={"unknown": 1, "small": 1, "other": 2})


def test_a_constant_too_large(opened, sample_file):
    with pytest.raises(OverflowError):
        opened(sample_file, rodata={"small": 256})


def test_a_map_that_is_not_there(opened, sample_file):
    with pytest.raises(LibbpfError, match=r"has no map unknown$"):
        opened(sample_file, max_entries={"hash": 5, "unknown": 1})


@pytest.mark.lab
def test_sizes_of_maps_are_set(possible, opened, sample_file):
    sample = opened(sample_file, max_entries={"hash": 2})
    sample.load()
    assert sample.maps["hash"].max_entries == 2
    with pytest.raises(LibbpfError, match="it is full, with 2 entries"):
        sample.maps["hash"].update_batch((bytes([n] * 6), bytes(12)) for n in range(3))


def test_a_file_that_is_not_there(opened, tmp_path):
    with pytest.raises(LibbpfError, match=r"open .*/none.bpf.o: No such file or directory$") as caught:
        opened(tmp_path / "none.bpf.o")
    assert caught.value.errno == 2


def test_a_file_that_is_no_object(opened, tmp_path, capfd):
    path = tmp_path / "text.bpf.o"
    path.write_text("not an object")
    with pytest.raises(LibbpfError, match=rf"^open {path}: .*text.bpf.o.*") as caught:
        opened(path)
    assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


@pytest.mark.lab
def test_an_array_in_memory(possible, opened, sample_file):
    sample = opened(sample_file, in_memory=["counters"])
    sample.load()
    memory = sample.maps["counters"].memory()
    for runs in (1, 2):
        sample.programs["constants"].test_run(FRAME)
        assert memory[:8] == struct.pack("=Q", runs)
    sample.maps["counters"].update((49).to_bytes(4, "little"), b"twelve bytes")
    assert memory[49 * 16 : 49 * 16 + 12] == b"twelve bytes"
    assert len(memory) == 50 * 16


@pytest.mark.lab
def test_pinned_maps_are_shared_and_outlive_their_object(possible, opened, sample_file, pins):
    first = opened(sample_file, pins=pins)
    first.load()
    first.maps["hash"].update(b"key..1", b"twelve bytes")
    second = opened(sample_file, pins=pins)
    second.load()
    assert second.maps["hash"].lookup(b"key..1") == b"twelve bytes"
    assert second.maps["hash"].id == first.maps["hash"].id
    first.close()
    second.close()
    third = opened(sample_file, pins=pins)
    third.load()
    assert third.maps["hash"].lookup(b"key..1") == b"twelve bytes"
    assert {path.name for path in pins.iterdir()} == third.maps.keys()


@pytest.mark.lab
def test_constants_are_an_objects_own_also_where_maps_are_shared(possible, opened, sample_file, pins):
    for number in (10, 20):
        each = opened(sample_file, pins=pins, rodata={"middle": number})
        each.load()
        assert each.programs["constants"].test_run(FRAME).data[1:5] == struct.pack("=I", number)


@pytest.mark.lab
def test_a_pinned_map_of_another_layout_is_not_taken(possible, opened, sample_file, compile_source, pins):
    opened(sample_file, pins=pins).load()
    other = opened(compile_source(OTHER_HASH, "other"), pins=pins)
    with pytest.raises(LibbpfError, match=r"load .*other.bpf.o: .*hash.*parameter mismatch"):
        other.load()
    assert other.maps == {}


@pytest.mark.lab
def test_pins_outside_a_bpf_file_system(possible, opened, sample_file, tmp_path):
    with pytest.raises(LibbpfError, match="is not on BPF FS"):
        opened(sample_file, pins=tmp_path / "maps").load()


@pytest.mark.lab
def test_pins_where_no_directory_can_be_made(possible, opened, sample_file, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(
        LibbpfError, match=r"cannot make .*/file/maps: Not a directory \(is a BPF file system"
    ):
        opened(sample_file, pins=tmp_path / "file" / "maps").load()


@pytest.mark.lab
def test_a_program_that_the_verifier_refuses(possible, opened, compile_source, capfd):
    refused = opened(compile_source(REFUSED, "refused"))
    with pytest.raises(LibbpfError) as caught:
        refused.load()
    first, *log = str(caught.value).splitlines()
    assert first.endswith("refused.bpf.o: the kernel's verifier refuses it; its log ends:")
    assert len(log) == 15
    assert "invalid access to packet" in "\n".join(log[-5:])
    assert capfd.readouterr() == ("", "")


@pytest.mark.lab
def test_what_is_closed_has_given_back_maps_and_programs(possible, opened, sample_file):
    sample = opened(sample_file)
    sample.load()
    sample.close()
    sample.close()
    with pytest.raises(LibbpfError, match="Bad file descriptor"):
        sample.maps["hash"].lookup(b"key..1")
    with pytest.raises(LibbpfError, match="Bad file descriptor"):
        sample.programs["constants"].test_run(FRAME)
