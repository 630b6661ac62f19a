"""The config in force, the file, and edits to one or both."""

from __future__ import annotations

import pytest

from l4lb.control.config.config import ConfigError
from l4lb.control.config.edits import (
    AddBackend,
    AddService,
    Conflict,
    NotFound,
    RemoveBackend,
    RemoveService,
    SetWeight,
)
from l4lb.control.desired import DesiredState, FileChanged
from l4lb.model import Endpoint

A, B, C = (Endpoint.parse(f"10.2.0.1{n}:80") for n in (1, 2, 3))

TEXT = """\
# The shop's front door.
[[services]]
name = "web"
address = "10.1.0.100:80"   # announced by us

[[services.backends]]
address = "10.2.0.11:80"    # rack 1

[[services.backends]]
address = "10.2.0.12:80"
weight = 2
"""


IS_THERE = "it is there by --runtime only: repeat the command with --runtime, or add it to the file"


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "l4lb.toml"
    path.write_text(TEXT)
    return path


@pytest.fixture
def desired(path):
    return DesiredState(path)


def do(desired, edit, *, runtime=False):
    desired.take(desired.edited(edit, runtime=runtime))


def weights(desired):
    """Of the backends in force, by the last digit of the address."""
    return {
        int(backend.address.host[-1]): backend.weight
        for service in desired.config.services
        for backend in service.backends
    }


@pytest.mark.parametrize(
    ("edit", "after"),
    [
        (AddBackend("web", C, 5), {1: 1, 2: 2, 3: 5}),
        (RemoveBackend("web", A), {2: 2}),
        (SetWeight("web", B, 0), {1: 1, 2: 0}),
        (RemoveService("web"), {}),
    ],
)
def test_an_edit_is_in_force_and_in_the_file(desired, path, edit, after):
    do(desired, edit)
    assert weights(desired) == after
    assert weights(DesiredState(path)) == after


def test_comments_stay(desired, path):
    do(desired, AddBackend("web", C, 5))
    do(desired, SetWeight("web", A, 7))
    text = path.read_text()
    for comment in ("# The shop's front door.", "# announced by us", "# rack 1"):
        assert comment in text


def test_a_service_is_added_with_the_keys_of_the_file(desired, path):
    fields = {
        "name": "dns",
        "address": "10.1.0.100:53",
        "protocol": "udp",
        "backends": [{"address": "10.2.0.13:53"}],
    }
    do(desired, AddService(fields))
    assert [service.name for service in DesiredState(path).config.services] == ["web", "dns"]
    assert weights(desired) == {1: 1, 2: 2, 3: 1}


@pytest.mark.parametrize(
    "edit",
    [AddBackend("web", C, 5), RemoveBackend("web", A), SetWeight("web", B, 0), RemoveService("web")],
)
def test_a_runtime_edit_leaves_the_file_alone_and_ends_with_a_reload(desired, path, edit):
    before = weights(desired)
    do(desired, edit, runtime=True)
    assert weights(desired) != before
    assert path.read_text() == TEXT
    desired.take(desired.reread())
    assert weights(desired) == before


def test_a_file_that_is_being_written_does_not_end_all_services(desired, path):
    path.write_text("\n")
    with pytest.raises(ConfigError, match="empty, which would end all services"):
        desired.reread()
    path.write_text("# nothing any more\n")
    desired.take(desired.reread())
    assert desired.config.services == ()
    path.write_text("")
    desired.take(desired.reread())
    assert DesiredState(path).config.services == ()


@pytest.mark.parametrize("runtime", [False, True])
@pytest.mark.parametrize(
    ("edit", "error", "line"),
    [
        (
            AddBackend("web", A, 5),
            Conflict,
            "service 'web' already has backend 10.2.0.11:80",
        ),
        (AddBackend("shop", C, 5), NotFound, "there is no service 'shop' (services: web)"),
        (RemoveBackend("web", C), NotFound, "service 'web' has no backend 10.2.0.13:80"),
        (SetWeight("web", C, 1), NotFound, "service 'web' has no backend 10.2.0.13:80"),
        (RemoveService("shop"), NotFound, "there is no service 'shop' (services: web)"),
        (AddService({"name": "web"}), Conflict, "there already is a service 'web'"),
    ],
)
def test_an_edit_that_makes_no_sense(desired, path, edit, error, line, runtime):
    with pytest.raises(error) as caught:
        desired.edited(edit, runtime=runtime)
    assert str(caught.value) == line
    assert path.read_text() == TEXT


@pytest.mark.parametrize("runtime", [False, True])
@pytest.mark.parametrize(
    ("edit", "line"),
    [
        (
            AddBackend("web", Endpoint.parse("0.0.0.0:80"), 1),
            "services[web].backends[2].address: '0.0.0.0' is the unspecified address",
        ),
        (
            SetWeight("web", A, 1 << 20),
            "services[web].backends[0].weight: 1048576 is too large: at most 65535",
        ),
        (
            AddService({"name": "other", "address": "10.1.0.100:80"}),
            "services[other].address: service 'web' already has 10.1.0.100:80 (tcp)",
        ),
        (AddService({"name": "other"}), "services[other].address: missing"),
        (AddService({"address": "10.1.0.100:81"}), "services[1].name: missing"),
    ],
)
def test_an_edit_with_a_bad_result_changes_nothing(desired, path, edit, line, runtime):
    before = desired.config
    with pytest.raises(ConfigError) as caught:
        do(desired, edit, runtime=runtime)
    assert caught.value.errors == [line]  # without a line number: the file has nothing of it
    assert desired.config == before
    assert path.read_text() == TEXT


def test_a_file_that_cannot_be_written_changes_nothing(desired, path, monkeypatch):
    def read_only(path, before, text):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr("l4lb.files.rewrite", read_only)
    with pytest.raises(ConfigError, match="Read-only file system; --runtime leaves it alone"):
        do(desired, AddBackend("web", C, 5))
    assert weights(desired) == {1: 1, 2: 2}


def test_edits_by_hand_are_kept_and_wait_for_the_reload(desired, path):
    path.write_text(TEXT.replace("weight = 2", "weight = 9  # by hand"))
    do(desired, AddBackend("web", C, 5))
    assert weights(desired) == {1: 1, 2: 2, 3: 5}
    assert "weight = 9  # by hand" in path.read_text()
    desired.take(desired.reread())
    assert weights(desired) == {1: 1, 2: 9, 3: 5}


def test_an_edit_by_hand_during_an_edit_is_kept_and_the_edit_refused(desired, path):
    change = desired.edited(AddBackend("web", C, 5), runtime=False)
    path.write_text(by_hand := TEXT + "# by hand\n")
    with pytest.raises(FileChanged, match=r"l4lb.toml: somebody else changed it .*: repeat the command$"):
        desired.take(change)
    assert path.read_text() == by_hand
    assert weights(desired) == {1: 1, 2: 2}


def test_a_file_broken_by_hand_is_not_edited(desired, path):
    path.write_text(TEXT + "weight = \n")
    with pytest.raises(ConfigError, match="not valid TOML") as caught:
        do(desired, AddBackend("web", C, 5))
    last = "nothing was changed: mend the file, or repeat the command with --runtime"
    assert caught.value.errors[-1] == last
    assert path.read_text() == TEXT + "weight = \n"
    do(desired, AddBackend("web", C, 5), runtime=True)
    assert weights(desired) == {1: 1, 2: 2, 3: 5}


def test_edits_of_the_file_keep_what_was_done_at_runtime(desired, path):
    do(desired, SetWeight("web", A, 0), runtime=True)
    do(desired, AddBackend("web", C, 5))
    assert weights(desired) == {1: 0, 2: 2, 3: 5}
    assert weights(DesiredState(path)) == {1: 1, 2: 2, 3: 5}


@pytest.mark.parametrize(
    ("at_runtime", "in_file", "after"),
    [
        pytest.param(AddBackend("web", C, 5), AddBackend("web", C, 6), {1: 1, 2: 2, 3: 6}, id="add"),
        pytest.param(RemoveBackend("web", A), RemoveBackend("web", A), {2: 2}, id="remove"),
        pytest.param(SetWeight("web", A, 0), SetWeight("web", A, 3), {1: 3, 2: 2}, id="weight"),
        pytest.param(RemoveService("web"), RemoveService("web"), {}, id="remove service"),
        pytest.param(
            AddService({"name": "b", "address": "10.1.0.100:81"}),
            AddService(
                {"name": "b", "address": "10.1.0.100:82", "backends": [{"address": "10.2.0.13:80"}]}
            ),
            {1: 1, 2: 2, 3: 1},
            id="add service",
        ),
    ],
)
def test_what_was_done_at_runtime_can_be_done_to_the_file_too(desired, at_runtime, in_file, after):
    do(desired, at_runtime, runtime=True)
    do(desired, in_file)
    assert weights(desired) == after


@pytest.mark.parametrize(
    ("at_runtime", "in_file", "advice"),
    [
        (AddBackend("web", C, 5), RemoveBackend("web", C), IS_THERE),
        (AddBackend("web", C, 5), SetWeight("web", C, 1), IS_THERE),
        (AddService({"name": "rt", "address": "10.1.0.100:81"}), AddBackend("rt", C, 1), IS_THERE),
        (
            RemoveBackend("web", A),
            AddBackend("web", A, 1),
            "it was removed with --runtime only: repeat the command with --runtime",
        ),
    ],
)
def test_an_edit_that_makes_sense_at_runtime_only_says_so(desired, path, at_runtime, in_file, advice):
    do(desired, at_runtime, runtime=True)
    with pytest.raises(Conflict, match=rf"in .*l4lb.toml, .*service '.*: {advice}$"):
        desired.edited(in_file, runtime=False)
    do(desired, in_file, runtime=True)
    assert path.read_text() == TEXT


def test_an_edit_of_what_was_taken_out_of_the_file_by_hand_asks_for_a_reload(desired, path):
    path.write_text(TEXT.replace("10.2.0.11:80", "10.2.0.13:80"))
    with pytest.raises(
        Conflict, match=r"no backend .*: reload first, or repeat the command with --runtime$"
    ):
        desired.edited(SetWeight("web", A, 3), runtime=False)


@pytest.mark.parametrize("edit", [SetWeight("web", C, 0), AddBackend("new", C, 1)])
def test_an_edit_of_what_is_in_the_file_and_not_in_force_is_refused(desired, path, edit):
    """Or it would look as if it were in force."""
    more = '[[services]]\nname = "new"\naddress = "10.1.0.100:81"\n'
    backend = "" if isinstance(edit, AddBackend) else '[[services.backends]]\naddress = "10.2.0.13:80"\n'
    path.write_text(text := TEXT + backend + more)
    with pytest.raises(Conflict, match=r"^in force, .*, though .*l4lb.toml has: reload first$"):
        do(desired, edit)
    assert path.read_text() == text


@pytest.mark.parametrize(
    ("at_runtime", "edit"),
    [
        (RemoveBackend("web", A), SetWeight("web", A, 3)),
        (RemoveService("web"), AddBackend("web", C, 2)),
    ],
)
def test_an_edit_of_what_was_removed_at_runtime_is_refused(desired, path, at_runtime, edit):
    """To reload would end all that was done at runtime."""
    do(desired, at_runtime, runtime=True)
    with pytest.raises(Conflict, match=r"removed with --runtime: add it again with --runtime, or reload$"):
        do(desired, edit)
    assert path.read_text() == TEXT


def test_what_the_config_said_at_the_start_stays(desired, path):
    path.write_text("[gateway]\nhold = 5\n" + TEXT)
    desired.take(desired.reread())
    assert (desired.config.gateway.hold, desired.at_start.hold) == (5.0, 30.0)


def test_where_a_backend_comes_from(desired):
    assert desired.in_file("web", A, 1)
    assert not desired.in_file("web", A, 0)  # drained at runtime
    assert not desired.in_file("web", C, 1)
    assert not desired.in_file("shop", A, 1)


def test_reading_a_bad_file_changes_nothing(desired, path):
    before = desired.config
    path.write_text("[[services]]\nname = 1\n")
    with pytest.raises(ConfigError) as caught:
        desired.reread()
    assert len(caught.value.errors) == 3
    last = "nothing was changed: what is in force stays, and can be changed with --runtime"
    assert caught.value.errors[-1] == last
    path.unlink()
    with pytest.raises(ConfigError, match="no such file"):
        desired.reread()
    assert desired.config == before
