"""Maps of every kind that the datapaths use, in a real kernel."""

import struct

import pytest

from l4lb.datapath.libbpf import LibbpfError, Map

pytestmark = pytest.mark.lab

COUNT = 700  # several buckets of a hash at a time, and more than one batch


def entries_for(a_map, count):
    return [
        (number.to_bytes(a_map.key_size, "little"), number.to_bytes(a_map.value_size, "big"))
        for number in range(count)
    ]


def read_in_batches(a_map, size):
    cursor, entries, batches = None, [], 0
    while True:
        some, cursor = a_map.lookup_batch(cursor, size)
        entries += some
        batches += 1
        if cursor is None:
            return entries, batches


def test_a_map_knows_its_sizes(sample):
    found = {name: (m.key_size, m.value_size, m.max_entries) for name, m in sample.maps.items()}
    assert found == {
        "hash": (6, 12, 1000),
        "recent": (4, 8, 1000),
        "array": (4, 12, 100),
        "counters": (4, 12, 50),
        "counters_by_key": (4, 8, 1000),
        "prefixes": (8, 4, 1000),
        "of_maps": (4, 4, 8),
    }


def test_one_entry_is_written_read_and_deleted(sample):
    key, value = b"key..1", b"twelve bytes"
    hashed = sample.maps["hash"]
    assert hashed.lookup(key) is None
    hashed.update(key, value)
    assert hashed.lookup(key) == value
    assert hashed.delete(key) is True
    assert hashed.delete(key) is False
    assert hashed.lookup(key) is None


def test_flags_of_an_update_reach_the_kernel(sample):
    hashed = sample.maps["hash"]
    hashed.update(b"key..1", bytes(12), flags=1)
    with pytest.raises(LibbpfError, match="write to the map hash: File exists"):
        hashed.update(b"key..1", bytes(12), flags=1)
    with pytest.raises(LibbpfError, match="No such file"):
        hashed.update(b"key..2", bytes(12), flags=2)


@pytest.mark.parametrize("name", ["hash", "recent"])
@pytest.mark.parametrize("size", [1, 16, 4096])
def test_a_hash_is_read_whole_in_batches_of_any_size(sample, name, size):
    a_map = sample.maps[name]
    written = entries_for(a_map, COUNT)
    a_map.update_batch(written)
    entries, batches = read_in_batches(a_map, size)
    assert sorted(entries) == sorted(written)
    assert batches > COUNT // 64 or size == 4096


@pytest.mark.parametrize("size", [1, 7, 100, 4096])
def test_an_array_is_read_whole_in_batches_of_any_size(sample, size):
    array = sample.maps["array"]
    written = entries_for(array, 100)
    array.update_batch(written)
    assert read_in_batches(array, size)[0] == written


def test_an_empty_hash_has_no_entries(sample):
    assert sample.maps["hash"].lookup_batch(None, 10) == ([], None)
    assert list(sample.maps["hash"].items()) == []


def test_batches_may_be_empty(sample):
    sample.maps["hash"].update_batch([])
    assert sample.maps["hash"].delete_batch([]) == 0


def test_keys_and_items_are_those_of_all_batches(sample):
    hashed = sample.maps["hash"]
    written = entries_for(hashed, COUNT)
    hashed.update_batch(iter(written))
    assert sorted(hashed.items()) == sorted(written)
    assert sorted(hashed.keys()) == sorted(key for key, _ in written)


def test_deleting_a_batch_skips_what_is_not_there(sample):
    hashed = sample.maps["hash"]
    written = entries_for(hashed, 100)
    hashed.update_batch(written[::2])
    assert hashed.delete_batch(key for key, _ in written[:50]) == 25
    assert sorted(hashed.items()) == sorted(written[50::2])


def test_a_batch_for_which_there_is_no_place_says_how_far_it_came(sample):
    hashed = sample.maps["hash"]
    with pytest.raises(
        LibbpfError, match="write number 1001 of 1200 to the map hash: it is full, with 1000"
    ):
        hashed.update_batch(entries_for(hashed, 1200))
    assert len(list(hashed.keys())) == 1000


# The kernel has no batches for some maps of maps, depending on its version; none deletes from an array.
@pytest.mark.parametrize("name", ["prefixes", "hash", "array"])
def test_maps_without_batches_are_read_key_by_key(sample, name, monkeypatch):
    a_map = sample.maps[name]
    if name == "prefixes":
        written = [(struct.pack("=I4s", 32, bytes([10, 0, 0, n])), bytes([n] * 4)) for n in range(100)]
    else:
        written = entries_for(a_map, 100)
    a_map.update_batch(written)
    monkeypatch.setattr(a_map, "_in_batches", False)
    entries, batches = read_in_batches(a_map, 8)
    assert sorted(entries) == sorted(written)
    assert batches == 13


class Refusing:
    """The library of a kernel that has no batches for any map."""

    def __init__(self, real):
        self._real = real
        self.bpf_map_lookup_batch = self.bpf_map_update_batch = self.bpf_map_delete_batch = self.refuse

    def refuse(self, *arguments):
        return -524

    def __getattr__(self, name):
        return getattr(self._real, name)


def test_batches_that_the_kernel_refuses_are_done_one_by_one(sample, monkeypatch):
    from l4lb.datapath.libbpf import maps

    refusing = Refusing(maps.library())
    monkeypatch.setattr(maps, "library", lambda: refusing)
    hashed = sample.maps["hash"]
    written = entries_for(hashed, COUNT)
    hashed.update_batch(written)
    assert sorted(hashed.items()) == sorted(written)
    assert hashed.delete_batch([key for key, _ in written[10:]] + [b"absent"]) == COUNT - 10
    assert sorted(hashed.items()) == sorted(written[:10])


def test_values_per_cpu_come_apart(sample):
    counters = sample.maps["counters"]
    key = (3).to_bytes(4, "little")
    cpus = len(counters.lookup_percpu(key))
    assert cpus >= 1
    values = [bytes([cpu + 1] * 12) for cpu in range(cpus)]
    counters.update(key, b"".join(value + bytes(4) for value in values))
    assert counters.lookup_percpu(key) == values
    assert dict(counters.items())[key] == b"".join(value + bytes(4) for value in values)
    assert len(list(counters.keys())) == 50


def test_a_key_without_values_per_cpu(sample):
    assert sample.maps["counters_by_key"].lookup_percpu(b"none") == []
    assert sample.maps["hash"].lookup_percpu(b"key..1") == []
    sample.maps["hash"].update(b"key..1", b"twelve bytes")
    assert sample.maps["hash"].lookup_percpu(b"key..1") == [b"twelve bytes"]


@pytest.mark.parametrize(
    "wrong",
    [
        lambda m: m.lookup(b"short"),
        lambda m: m.lookup(b"too long"),
        lambda m: m.update(b"key..1", b"eleven byte"),
        lambda m: m.delete(b""),
        lambda m: m.update_batch([(b"key..1", bytes(12)), (b"key..", bytes(12))]),
        lambda m: m.update_batch([(b"key..1", bytes(13))]),
        lambda m: m.delete_batch([b"key..1", b"key"]),
    ],
)
def test_the_kernel_is_given_no_bytes_of_a_wrong_length(sample, wrong):
    with pytest.raises(ValueError, match="hash takes"):
        wrong(sample.maps["hash"])


def test_inner_arrays_of_any_length_go_into_a_map_of_maps(sample):
    outer, key = sample.maps["of_maps"], bytes(4)
    for length in (1, 5, 9):
        inner = Map.create_array(4, length, inner=True)
        inner.update_batch((n.to_bytes(4, "little"), n.to_bytes(4, "little")) for n in range(length))
        outer.update(key, struct.pack("=i", inner.fd))
        inner.close()
        number = outer.lookup(key)
        found = Map.from_id(int.from_bytes(number, "little"))
        assert found.max_entries == length
        assert [value for _, value in found.items()] == [n.to_bytes(4, "little") for n in range(length)]
        assert found.id == int.from_bytes(number, "little")
        found.close()
    assert list(outer.items()) == [(key, number)]


def test_an_array_that_is_not_made_for_it_does_not_fit_into_a_map_of_maps(sample):
    array = Map.create_array(4, 5)
    with pytest.raises(LibbpfError, match="write to the map of_maps"):
        sample.maps["of_maps"].update(bytes(4), struct.pack("=i", array.fd))
    array.close()


def test_a_map_is_found_again_by_its_pin(sample, pins):
    pins.mkdir(parents=True)
    sample.maps["hash"].update(b"key..1", b"twelve bytes")
    sample.maps["hash"].pin(pins / "connections")
    sample.close()
    found = Map.from_pin(pins / "connections")
    assert (found.name, found.lookup(b"key..1")) == ("connections", b"twelve bytes")
    with pytest.raises(LibbpfError, match=r"pin .*/connections: File exists"):
        found.pin(pins / "connections")
    found.close()
    with pytest.raises(LibbpfError, match=r"open .*/nothing: No such file or directory$") as caught:
        Map.from_pin(pins / "nothing")
    assert caught.value.errno == 2


def test_closing_twice_closes_no_one_elses_descriptor(possible):
    first = Map.create_array(4, 1)
    first.close()
    second = Map.create_array(4, 1)  # has the descriptor that the first had
    first.close()
    assert second.lookup(bytes(4)) == bytes(4)
    second.close()


def test_what_is_closed_is_not_read(possible):
    array = Map.create_array(4, 1)
    array.close()
    with pytest.raises(LibbpfError, match="Bad file descriptor"):
        array.lookup(bytes(4))
