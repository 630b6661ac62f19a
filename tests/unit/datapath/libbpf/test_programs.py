"""Programs that run on packets in a real kernel."""

import struct

import pytest

from l4lb.datapath.libbpf import LibbpfError, Program, iterate

pytestmark = pytest.mark.lab

FRAME = bytes(range(64))
MARK = slice(8, 12)  # of struct __sk_buff


def test_a_run_gives_what_the_program_made_of_the_packet(sample):
    run = sample.programs["constants"].test_run(FRAME)
    assert run.retval == 7
    assert run.data == struct.pack("=BIQi", 1, 2, 3, -1) + FRAME[17:]
    assert run.ctx == b""


def test_verdicts_are_unsigned(sample):
    assert sample.programs["constants"].test_run(FRAME[:14]).retval == 0xFFFFFFFF
    assert sample.programs["drop"].test_run(FRAME).retval == 1


def test_the_context_goes_in_and_comes_out(sample):
    context = bytearray(192)
    context[MARK] = (41).to_bytes(4, "little")
    run = sample.programs["constants"].test_run(FRAME, ctx=bytes(context), ctx_out_size=192)
    assert len(run.ctx) == 192
    assert int.from_bytes(run.ctx[MARK], "little") == 42


def test_a_packet_may_grow(sample):
    run = sample.programs["longer"].test_run((1000).to_bytes(2, "little") + FRAME)
    assert (run.retval, len(run.data)) == (0, 1066)
    assert run.data[66:] == bytes(1000)


def test_a_program_is_run_repeatedly(sample):
    sample.programs["constants"].test_run(FRAME, repeat=20)
    counts = sample.maps["counters"].lookup_percpu(bytes(4))
    assert sum(int.from_bytes(count[:8], "little") for count in counts) == 20


def test_live_frames_go_through_without_coming_back(sample):
    context = struct.pack("=6I", 0, 64, 0, 1, 0, 0)
    run = sample.programs["drop"].test_run(FRAME, ctx=context, repeat=64, flags=2)
    assert run.data == b""


def test_a_frame_that_is_none_is_refused(sample):
    with pytest.raises(LibbpfError, match="run constants: Invalid argument"):
        sample.programs["constants"].test_run(b"")


def test_info_names_a_program_and_its_maps(sample):
    info = sample.programs["constants"].info()
    assert info.name == "constants"
    assert sample.maps["counters"].id in info.map_ids
    assert len(info.map_ids) == 2  # and .rodata, which libbpf binds to all programs
    assert len(info.tag) == 16
    assert info.tag != sample.programs["longer"].info().tag
    assert len(sample.programs["drop"].info().map_ids) == 1


def test_a_program_is_found_again_by_its_pin(sample, pins):
    pins.mkdir(parents=True)
    number = sample.programs["constants"].info().id
    sample.programs["constants"].pin(pins / "program")
    sample.close()
    found = Program.from_pin(pins / "program")
    assert (found.name, found.info().id) == ("constants", number)
    assert found.test_run(FRAME).retval == 7
    found.close()


def test_an_iterator_runs_over_all_entries_in_steps(sample):
    hashed = sample.maps["hash"]
    keys = [number.to_bytes(6, "big") for number in range(500)]
    hashed.update_batch((key, bytes(12)) for key in keys)
    parts = list(iterate(sample.programs["keys"], hashed, step=600))
    assert max(map(len, parts)) <= 600
    written = b"".join(parts)
    assert sorted(written[at : at + 6] for at in range(0, len(written), 6)) == keys


def test_an_iterator_can_be_left_early(sample):
    hashed = sample.maps["hash"]
    hashed.update_batch((number.to_bytes(6, "big"), bytes(12)) for number in range(500))
    running = iterate(sample.programs["keys"], hashed, step=60)
    assert len(next(running)) == 60
    running.close()


def test_only_an_iterator_runs_over_a_map(sample):
    with pytest.raises(LibbpfError, match="run drop over the map hash: "):
        next(iterate(sample.programs["drop"], sample.maps["hash"]))


def test_a_program_is_found_again_by_its_id(sample):
    found = Program.from_id(sample.programs["longer"].info().id)
    assert found.info() == sample.programs["longer"].info()
    found.close()
