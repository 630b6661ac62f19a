"""What comes from the packet process."""

import asyncio

from l4lb.datapath.raw.channel import pack
from l4lb.datapath.raw.packet_process import PacketProcess, _Pending
from tests.unit.test_turns import turns_of_others_during


def test_others_have_turns_while_an_answer_comes_in_many_parts():
    async def scenario():
        reader = asyncio.StreamReader(limit=1 << 20)
        for number in range(200):
            reader.feed_data(pack(("part", 1, [number])))
        reader.feed_data(pack(("answer", 1, 200)))
        reader.feed_eof()
        process = PacketProcess(lambda index, ip: None)
        pending = process._pending[1] = _Pending(asyncio.get_running_loop().create_future())
        assert await turns_of_others_during(process._read(reader)) == 200
        assert (pending.parts, await pending.future) == (list(range(200)), 200)

    asyncio.run(scenario())
