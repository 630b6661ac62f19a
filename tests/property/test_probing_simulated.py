"""1,000 backends and traffic of every kind, simulated: the probes stay within their budget.

Four minutes of each scene with SYN probes, three packets each. *Part* is probe packets over forwarded
packets, *asked* how many backends were probed at least once, *heaviest* the most packets in a second.

    scene                                              forwarded/s   probes   part     asked   heaviest
    idle      nothing is forwarded                               0       79   -           79          3
    steady    all backends get connections                  50,000        0   0           0          0
    few       10 backends get all of it                     50,000    3,983   0.100%    990         51
    bursts    the same for 10 s of every 30 s               50,000    1,386   0.104%    990         51
    falling   the same, halved every 30 s                   50,000      738   0.102%    738         48
    flood     the same, worth more than the ceiling      5,000,000   23,727   0.006%    990        525
"""

from collections import Counter
from itertools import accumulate
from random import Random
from types import SimpleNamespace

import pytest

from l4lb.health.budget import Budget
from l4lb.health.probes.result import Outcome, ProbeResult
from l4lb.health.probing import Probing
from l4lb.health.rise_fall import Health, HealthState
from l4lb.health.traffic_age import TrafficAge
from l4lb.model import Backend, Counters, Endpoint, Probes, Service, Times, Traffic, Verdict

BACKENDS = [Endpoint(bytes((10, 2, n >> 8, n & 255)), 80) for n in range(1_000)]
SERVICE = Service("web", Endpoint.parse("10.1.0.100:80"), backends=tuple(map(Backend, BACKENDS)))
SECONDS = 240
STEP = 0.02
ANSWERED = ProbeResult(Outcome.ANSWERED, 0.001, 3)
UP = Health(HealthState.UP, -1e6)


def simulate(packets_per_second, busy):
    """Four minutes with so many packets in each second, to the first ``busy`` backends."""
    limits = Probes()
    probing = Probing(
        Budget(limits, 0.0),
        random=Random(1),
        freshness=TrafficAge(),
        shunned=lambda service, backend: False,
    )
    probing.update([SERVICE], 0.0, enabled=True)
    forwarded, connections = 0, [0] * len(BACKENDS)
    spent, asked, heads = Counter(), Counter(), [0]
    for second in range(SECONDS):
        probing.look(counters(forwarded, connections), lambda service, backend: UP, float(second))
        for step in range(round(1 / STEP)):
            now = second + step * STEP
            while (probe := probing.next(now)) is not None:
                asked[probe.backend] += 1
                spent[second] += ANSWERED.packets
                probing.finish(probe, ANSWERED, now)
        forwarded += packets_per_second(second)
        heads.append(forwarded)
        if packets_per_second(second):
            for index in range(busy):
                connections[index] += 1
    by_second = [spent[second] for second in range(SECONDS)]
    report = probing.report(float(SECONDS))
    return SimpleNamespace(
        limits=limits, forwarded=heads, spent=[0, *accumulate(by_second)], asked=asked, report=report
    )


def counters(forwarded, connections):
    traffic = {
        ("web", backend): Traffic(handshakes=Times(count))
        for backend, count in zip(BACKENDS, connections, strict=True)
    }
    return Counters(traffic, {Verdict.FORWARD: forwarded}, {})


SCENES = {
    "idle": (lambda second: 0, 0),
    "steady": (lambda second: 50_000, 1_000),
    "few": (lambda second: 50_000, 10),
    "bursts": (lambda second: 50_000 * (second % 30 < 10), 10),
    "falling": (lambda second: int(50_000 * 0.5 ** (second / 30)), 10),
    "flood": (lambda second: 5_000_000, 10),
}


@pytest.fixture(scope="module", params=list(SCENES))
def scene(request):
    done = simulate(*SCENES[request.param])
    done.name = request.param
    return done


def test_no_window_sees_more_than_the_budget(scene):
    limits = scene.limits
    for length in (1, 2, 5, 20, 60, SECONDS):
        for begin in range(SECONDS - length + 1):
            packets = scene.spent[begin + length] - scene.spent[begin]
            share = limits.share * (scene.forwarded[begin + length] - scene.forwarded[max(0, begin - 1)])
            assert packets <= limits.burst + share + limits.floor * length
            assert packets <= limits.burst + limits.ceiling * length


def test_the_part_of_the_probes_is_the_share_or_what_the_floor_makes_of_it(scene):
    packets, floor = scene.spent[-1], scene.limits.floor * SECONDS
    assert packets == scene.report.packets
    assert packets <= max(scene.limits.share * scene.forwarded[-1], 0) + floor
    if scene.name in ("few", "steady", "flood"):
        assert packets <= scene.limits.share * scene.forwarded[-1]


def test_what_is_allowed_is_used_where_it_is_needed(scene):
    busy = SCENES[scene.name][1]
    idle = BACKENDS[busy:]
    asked = {backend for _, backend in scene.asked} & set(idle)
    if scene.name == "idle":
        assert len(asked) == sum(scene.asked.values()) == 79, "three seconds each, and none of them twice"
        assert scene.report.withheld > 10_000
    elif scene.name == "steady":
        assert not scene.asked, "traffic measures all of them"
    elif scene.name == "falling":
        assert len(asked) > 700, "none twice before all were asked"
        assert max(scene.asked.values()) == 1
    else:
        assert len(asked) == len(idle)
    if scene.name == "few":
        assert scene.spent[-1] >= 0.98 * scene.limits.share * scene.forwarded[-2]
        assert all(("web", backend) not in scene.asked for backend in BACKENDS[:busy])
