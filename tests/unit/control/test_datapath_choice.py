"""Which datapath a config gets, and what becomes of the others."""

import asyncio
import logging
from pathlib import Path

import pytest

from l4lb import privileges
from l4lb.control import datapath_choice
from l4lb.control.config.config import Config, GatewayConfig
from l4lb.control.datapath_choice import choose_datapath, mount_for
from l4lb.datapath.base import DatapathError
from l4lb.datapath.libbpf import LibbpfError, library
from l4lb.privileges import Capability


class Host:
    def __init__(self):
        self.refusal = None
        self.events = []
        self.attached = set()  # by a daemon before
        self.absent = set()
        self.lacking = set()

    def look_for(self, name):
        if name in self.absent:
            raise LibbpfError(f"{name} is not installed")


@pytest.mark.parametrize(("wanted", "mounted"), [("auto", 1), ("tc", 1), ("xdp", 1), ("raw", 0)])
def test_the_file_system_of_pins_is_mounted_early_for_who_may_want_it(monkeypatch, wanted, mounted):
    """Why it cannot be is told later, by who misses it."""

    def mount():
        tried.append(1)
        raise DatapathError("there is none")

    tried = []
    monkeypatch.setattr("l4lb.datapath.ebpf.pins.mount", mount)
    mount_for(Config(GatewayConfig(datapath=wanted), (), Path("l4lb.toml")))
    assert len(tried) == mounted


class Fake:
    def __init__(self, name):
        self.name = name


@pytest.fixture
def host(monkeypatch):
    """What happened, and a reason for which eBPF cannot be loaded, if there is one."""

    host = Host()
    monkeypatch.setattr(datapath_choice, "attached_before", lambda: host.attached)
    monkeypatch.setattr(library, "library", lambda: host.look_for("libbpf"))
    monkeypatch.setattr(privileges, "held", lambda: frozenset(Capability) - host.lacking)

    def make(watch, kind, limits, *, remove_others):
        datapath = Fake(kind)

        def load():
            if host.refusal:
                raise DatapathError(host.refusal)
            host.events.append(f"load {kind}")

        datapath.load = load
        return datapath

    def clean_up():
        host.events.append("remove eBPF")
        return ["the eBPF programs"]

    make.clean_up = clean_up
    monkeypatch.setattr("l4lb.datapath.ebpf.datapath.EbpfDatapath", make)

    def make_raw(watch, state_prefix, hold, *, remove_others):
        datapath = Fake("raw")
        datapath.remove_others = remove_others
        return datapath

    monkeypatch.setattr("l4lb.datapath.raw.datapath.RawDatapath", make_raw)
    return host


def choose(tmp_path, name):
    config = Config(GatewayConfig(datapath=name), (), tmp_path / "l4lb.toml")
    return choose_datapath(config, None, tmp_path / "l4lb")


def chosen(tmp_path, name):
    return choose(tmp_path, name).name


@pytest.mark.parametrize("name", ["tc", "xdp"])
def test_one_that_is_named_is_loaded(host, tmp_path, name):
    assert chosen(tmp_path, name) == name
    assert host.events == [f"load {name}"]


@pytest.mark.parametrize("name", ["tc", "xdp"])
def test_one_that_is_named_and_cannot_run_is_an_error(host, tmp_path, name):
    host.refusal = "no clang"
    with pytest.raises(DatapathError, match="no clang"):
        chosen(tmp_path, name)


def test_raw_removes_what_an_ebpf_datapath_has_left_when_it_takes_its_place(host, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    host.attached = {2, 3}
    datapath = choose(tmp_path, "raw")
    assert (datapath.name, host.events) == ("raw", [])
    asyncio.run(datapath.remove_others())
    assert host.events == ["remove eBPF"]
    assert caplog.messages == ["another datapath before: removed the eBPF programs"]


def test_auto_takes_the_best_that_loads_and_says_so(host, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(datapath_choice, "AUTO", ("tc", "raw"))
    caplog.set_level(logging.INFO)
    assert chosen(tmp_path, "auto") == "tc"
    assert caplog.messages == ["datapath auto: tc, the best that runs here"]


def test_auto_falls_back_with_one_line_that_names_the_reason(host, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(datapath_choice, "AUTO", ("tc", "raw"))
    host.refusal = "libbpf.so.1 is not installed"
    assert chosen(tmp_path, "auto") == "raw"
    assert caplog.messages == ["datapath tc cannot run here: libbpf.so.1 is not installed"]


def test_auto_leaves_alone_what_forwards_if_it_cannot_load_now(host, tmp_path):
    host.attached = {2, 3}
    host.refusal = "load tc.bpf.o: Cannot allocate memory"
    with pytest.raises(DatapathError) as refused:
        chosen(tmp_path, "auto")
    assert host.events == []
    (line,) = str(refused.value).splitlines()
    assert line.startswith(f"datapath tc cannot be loaded: {host.refusal}; the programs of the daemon be")
    assert "'l4lb stop'" in line
    host.refusal = None
    assert chosen(tmp_path, "auto") == "tc"
    assert host.events == ["load tc"]


def test_programs_of_another_version_forward_too(tmp_path, monkeypatch):
    monkeypatch.setattr("l4lb.datapath.ebpf.pins.is_mounted", lambda: True)
    monkeypatch.setattr("l4lb.datapath.ebpf.pins.namespace_directory", lambda: tmp_path / "net-1")
    assert datapath_choice.attached_before() == set()
    for version, index in (("layout-0", 7), ("layout-8", 9)):
        links = tmp_path / "net-1" / version / "links"
        links.mkdir(parents=True)
        (links / f"clsact-{index}").mkdir()
    assert datapath_choice.attached_before() == {7, 9}


def test_auto_takes_the_place_of_what_forwards_if_l4lb_has_no_programs(host, tmp_path, monkeypatch):
    monkeypatch.setattr("l4lb.datapath.ebpf.programs.are_installed", lambda: False)
    host.attached, host.refusal = {2, 3}, "l4lb was installed without its eBPF programs"
    assert chosen(tmp_path, "auto") == "raw"


@pytest.mark.parametrize(
    ("absent", "lacking"),
    [("libbpf", None), (None, Capability.BPF), (None, Capability.PERFMON)],
    ids=["libbpf", "CAP_BPF", "CAP_PERFMON"],
)
def test_auto_takes_the_place_of_what_forwards_if_it_could_never_load(host, tmp_path, absent, lacking):
    host.attached = {2, 3}
    host.refusal = "it is missing"
    host.absent, host.lacking = {absent}, {lacking, Capability.SYS_ADMIN}
    assert chosen(tmp_path, "auto") == "raw"


def test_the_last_choice_of_auto_runs_anywhere():
    assert datapath_choice.AUTO[-1] == "raw"
