"""Writes l4lb's manual pages from its commands: one for the program, one for each command of it.

A command, `python tools/build_man.py FOLDER`, and a part of the build hook of hatch, which has the pages in
the wheel (share/man/man1), so that `man l4lb` finds them where l4lb is on the PATH. What is said of a
command is its help; only what no help has is written here. The language is man(7).
"""

import inspect
import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

ROOT = Path(__file__).resolve().parent.parent

if TYPE_CHECKING:
    import click

PROGRAM = "l4lb"

FILES = (
    ("/etc/l4lb/l4lb.toml", "What is balanced; 'l4lb install-service' writes a first one with every key."),
    ("/run/l4lb/l4lb.sock", "The daemon's control socket, for root."),
    ("/sys/fs/bpf/l4lb", "Programs, maps and links of the eBPF datapaths: they outlive the daemon."),
)
EXIT_STATUS = (("0", "done"), ("1", "refused or failed"), ("2", "wrong usage"))


def pages(main: "click.Group", version: str) -> dict[str, str]:
    """The pages by their file names."""
    import click

    top = click.Context(main, info_name=PROGRAM, **main.context_settings)
    texts = {PROGRAM: _page(top, version)}
    for name, context in _commands(top):
        texts[f"{PROGRAM}-{name}"] = _page(context, version)
    return {f"{name}.1": text for name, text in texts.items()}


def write(folder: Path, version: str) -> list[Path]:
    """Writes the pages of the l4lb beside this file.

    Raises ImportError where click is not installed.
    """
    sys.path.insert(0, str(ROOT))
    try:
        from l4lb.cli.main import main
    finally:
        sys.path.remove(str(ROOT))
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name, text in pages(main, version).items():
        (folder / name).write_text(text, encoding="utf-8")
        written.append(folder / name)
    return written


def _commands(context: "click.Context") -> Iterator[tuple[str, "click.Context"]]:
    import click

    assert isinstance(context.command, click.Group)
    for name in context.command.list_commands(context):
        command = context.command.get_command(context, name)
        assert command is not None
        yield name, click.Context(command, info_name=name, parent=context)


def _page(context: "click.Context", version: str) -> str:
    import click

    command, path = context.command, context.command_path
    title = path.replace(" ", "-")
    first, rest = _help(command)
    lines = [
        # No date: the same sources give the same page.
        f'.TH "{_plain(title.upper())}" 1 "" "{PROGRAM} {version}" "{PROGRAM}"',
        ".SH NAME",
        f"{_plain(title)} \\- {_plain(first[0].lower() + first[1:].removesuffix('.'))}",
        ".SH SYNOPSIS",
        *_synopsis(context),
    ]
    if rest:
        lines += [".SH DESCRIPTION", *_paragraphs(rest)]
    lines += [".SH OPTIONS", *_options(context)]
    if isinstance(command, click.Group):
        lines.append(".SH COMMANDS")
        if context.parent is None:
            for name, each in _commands(context):
                lines += _entry(f"\\fB{_plain(f'{PROGRAM}-{name}')}\\fR(1)", _help(each.command)[0])
        else:
            for _, each in _commands(context):
                lines += _section(each)
    if context.parent is None:
        lines += _of_the_program(context)
    else:
        lines += [".SH SEE ALSO", f".BR {PROGRAM} (1)"]
    return "\n".join(lines) + "\n"


def _section(context: "click.Context") -> list[str]:
    """A command of a group, on the group's page."""
    first, rest = _help(context.command)
    return [
        f".SS {_plain(context.command_path)}",
        *_synopsis(context),
        *(".PP", _plain(first)),
        *([".PP", *_paragraphs(rest)] if rest else []),
        *_options(context, besides=context.parent),
    ]


def _of_the_program(context: "click.Context") -> list[str]:
    lines = [".SH ENVIRONMENT"]
    for parameter in context.command.params:
        if isinstance(parameter.envvar, str):
            option = max(parameter.opts, key=len)
            lines += _entry(f"\\fB{_plain(parameter.envvar)}\\fR", f"Where {option} is not given.")
    lines.append(".SH FILES")
    for path, text in FILES:
        lines += _entry(f"\\fI{_plain(path)}\\fR", text)
    lines.append(".SH EXIT STATUS")
    for status, text in EXIT_STATUS:
        lines += _entry(f"\\fB{status}\\fR", text)
    return lines


def _synopsis(context: "click.Context") -> list[str]:
    pieces = " ".join(context.command.collect_usage_pieces(context))
    return [f"\\fB{_plain(context.command_path)}\\fR {_plain(pieces)}"]


def _options(context: "click.Context", besides: "click.Context | None" = None) -> list[str]:
    """What can be given, but for arguments without a help and for what was said of the command it belongs
    to; words in bold, values in italics."""
    import click

    def records(each: "click.Context") -> list[tuple[str, str]]:
        found = []
        for parameter in each.command.get_params(each):
            record = parameter.get_help_record(each)
            if record is not None and (record[1] or isinstance(parameter, click.Option)):
                found.append(record)
        return found

    known = records(besides) if besides is not None else []
    lines = []
    for names, text in records(context):
        if (names, text) not in known:
            lines += _entry(_marked(names), text)
    return lines


def _marked(names: str) -> str:
    words = re.split(r"([^ ,/]+)", names)
    return "".join(
        f"\\f{'B' if word.startswith('-') else 'I'}{_plain(word)}\\fR" if index % 2 else _plain(word)
        for index, word in enumerate(words)
    )


def _entry(term: str, text: str) -> list[str]:
    return [".TP", term, _plain(" ".join(text.split())) or "\\&"]


def _help(command: "click.Command") -> tuple[str, list[str]]:
    """The first sentence of a command's help, and the paragraphs that follow."""
    paragraphs = inspect.cleandoc(command.help or "").split("\f")[0].strip().split("\n\n")
    first, _, more = " ".join(paragraphs[0].split()).partition(". ")
    rest = [more, *paragraphs[1:]] if more else paragraphs[1:]
    return first.removesuffix(".") + ".", [paragraph for paragraph in rest if paragraph]


def _paragraphs(paragraphs: Iterable[str]) -> list[str]:
    """Those after a line with \\b keep their lines, as in the help."""
    lines: list[str] = []
    for paragraph in paragraphs:
        lines += [".PP"] if lines else []
        if paragraph.startswith("\b"):
            lines += [".nf", *map(_plain, paragraph.splitlines()[1:]), ".fi"]
        else:
            lines.append(_plain(" ".join(paragraph.split())))
    return lines


def _plain(text: str) -> str:
    """Text in which man(7) sees no requests and no typographic marks."""
    text = text.replace("\\", "\\e").replace("-", "\\-").replace("'", "\\(aq").replace('"', "\\(dq")
    return f"\\&{text}" if text.startswith(".") else text


if __name__ == "__main__":
    from importlib.metadata import version

    write(Path(sys.argv[1]), version(PROGRAM))
