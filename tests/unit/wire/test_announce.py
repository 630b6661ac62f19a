"""The announcements, read by scapy and compared with what scapy itself would build."""

from ipaddress import ip_address

import pytest
from scapy.layers.inet6 import ICMPv6ND_NA, ICMPv6NDOptDstLLAddr, IPv6
from scapy.layers.l2 import ARP, Ether

from l4lb.wire.announce import gratuitous_arp, unsolicited_na

MAC = bytes.fromhex("02a0b1c2d3e4")
MAC_TEXT = "02:a0:b1:c2:d3:e4"


@pytest.mark.parametrize(
    ("reply", "operation", "target"), [(False, 1, "00:00:00:00:00:00"), (True, 2, MAC_TEXT)]
)
def test_gratuitous_arp_names_the_same_address_as_sender_and_target(reply, operation, target):
    frame = gratuitous_arp(MAC, ip_address("10.1.0.100").packed, reply=reply)

    assert frame == bytes(
        Ether(src=MAC_TEXT, dst="ff:ff:ff:ff:ff:ff")
        / ARP(op=operation, hwsrc=MAC_TEXT, psrc="10.1.0.100", hwdst=target, pdst="10.1.0.100")
    )


@pytest.mark.parametrize("vip", ["2001:db8::100", "fd00:1:2:3:4:5:6:7", "::ffff"])
def test_unsolicited_na_is_what_scapy_builds_checksum_included(vip):
    frame = unsolicited_na(MAC, ip_address(vip).packed)

    assert frame == bytes(
        Ether(src=MAC_TEXT, dst="33:33:00:00:00:01")
        / IPv6(src=vip, dst="ff02::1", hlim=255)
        / ICMPv6ND_NA(tgt=vip, R=1, S=0, O=1)
        / ICMPv6NDOptDstLLAddr(lladdr=MAC_TEXT)
    )
