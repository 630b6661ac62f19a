"""The weight that an agent tells HAProxy."""

import pytest

from l4lb.agent.report import Figures
from l4lb.agent.weight import LEAST, weight


@pytest.mark.parametrize(
    ("figures", "expected"),
    [
        (Figures(), 1.0),
        (Figures(cpu=0.0, memory=0.5, load=90.0, queue=0.0, application=0.0), 1.0),
        (Figures(cpu=0.25), 0.75),
        (Figures(application=0.6), 0.4),
        (Figures(queue=0.75), 0.25),
        (Figures(memory=0.8), 1.0),
        (Figures(memory=0.9), 0.5),
        (Figures(cpu=0.25, memory=0.95, queue=0.5), 0.25),
        (Figures(cpu=1.0), LEAST),
        (Figures(memory=1.0), LEAST),
    ],
)
def test_the_weight_is_the_least_room(figures: Figures, expected: float):
    assert weight(figures) == pytest.approx(expected)
