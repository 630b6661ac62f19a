"""What ``tools/demo`` shows: the balancer's main job on the lab, each step seen to work."""

from __future__ import annotations
