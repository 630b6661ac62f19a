import pytest

from progress import progress


@pytest.mark.parametrize(("counted", "shown"), [(True, "2/3"), (False, "0:00:00")])
def test_the_bar_says_what_goes_on_and_how_far_it_is(
    counted: bool, shown: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("FORCE_COLOR", "1")  # as on a terminal
    with progress(3, "the lab comes up", counted=counted) as step:
        step("one", 0)
        step("two", 1)
        step("three", 1)
    out, err = capsys.readouterr()
    assert out == ""
    assert shown in err
    assert "three" in err
