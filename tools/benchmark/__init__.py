"""The benchmark: l4lb beside other balancers on the lab, and its parts on their own.

Used by ``tools/bench``, and its figures by ``tools/simulate``; needs the development packages of ``.venv``.
A room knows those below it only:

    main, arguments    the command line
    report/            all that was measured, as tables, a picture and JSON, and the targets
    latency/           latency while servers are slow, stall or recover
    endurance/         a thousand transfers under a flood of SYNs, and while the daemon is away
    profile/           where the packet process spends its time under each load
    compare/           peers in turns, under the loads of clients and by small packets
    alone/             l4lb alone: its programs and its Python
    peers/             who is measured: l4lb, nftables, IPVS, proxies, bare redirect
    bpf/               the generator of packets and the other programs in C
    lab/               where it is measured: the machine, hosts with servers, hosts with cables alone
    figures/           metrics, statistics, and how they look

What the README tells of is in ``results/``.
"""

from __future__ import annotations


class BenchError(Exception):
    """The benchmark could not go on. The message is one line for people."""
