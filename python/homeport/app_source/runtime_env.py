"""Finds the variables that config/runtime.exs reads and whether they are required, from its text; nothing is run.

A read is "always" only if that is certain. A read inside a condition that does not test config_env() is "perhaps"; one
inside `config_env() == :dev` is "never", because it does not happen on a host.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from homeport.app_source.elixir import Source

Need = Literal["always", "perhaps", "never"]
_WORSE: dict[Need, int] = {"always": 0, "perhaps": 1, "never": 2}

_TOKENS = re.compile(
    r"""
    (?<![\w.@:])
    (?: (?P<call>System\.(?:fetch_env!|fetch_env|get_env)|(?:Dotenvy\.)?env!)(?![\w?!])
      | (?P<head>if|unless|case|cond|with|for|try|receive|def\w*|quote)(?![\w?!:])
      | (?P<open>do|fn)(?![\w:?!])
      | (?P<other>else|rescue|catch|after)(?![\w:?!])
      | (?P<close>end)(?![\w:?!])
      | (?P<clause>:\w+\s*->)
    )
    """,
    re.VERBOSE,
)
_ARGUMENT = re.compile(r'\s*(?P<open>\()?\s*"(?P<name>[A-Za-z_][A-Za-z0-9_]*)"')
_PIPED = re.compile(r'"(?P<name>[A-Za-z_][A-Za-z0-9_]*)"\s*\|>\s*$')
_OR_RAISE = re.compile(r"\)?\s*\|\|\s*raise\b")
_CONDITION = re.compile(
    r"""
    (?P<word>if|unless) [\s(]+ (?:Config\.)?config_env\(\) \s*
    (?: (?P<sign>==|!=) \s* :(?P<name>\w+) | (?P<among>not\ in|in) \s* \[(?P<names>[\s:\w,]*)\] )
    [\s)]*
    """,
    re.VERBOSE,
)
_BY_ENVIRONMENT = re.compile(r"case[\s(]+(?:Config\.)?config_env\(\)[\s)]*")
# one of these on the same line before a read: the read is in one of two branches
_BRANCH = re.compile(r"\bdo:|\belse:|->|&&|\|\||\b(?:and|or|fn)\b")
_CONTINUED = re.compile(r"(\bdo:|\belse:|->|&&|\|\||=|\band|\bor)\s*\n\s*")


@dataclass(frozen=True)
class Read:
    """A variable, the line that reads it (from 1), and whether the app starts without it."""

    name: str
    line: int
    required: bool
    need: Need


@dataclass
class _Block:
    head: str
    need: Need


def reads(source: Source) -> list[Read]:
    """Every read of a literal name, in the order of the file, without those that never happen on a host."""
    return [read for read in _reads(source) if read.need != "never"]


def _reads(source: Source) -> Iterator[Read]:
    blocks, head = [_Block("", "always")], 0
    for token in _TOKENS.finditer(source.skeleton):
        if token["head"]:
            head = token.start()
        elif token["open"]:
            blocks.append(_block(blocks[-1], source.skeleton[head : token.start()], token["open"]))
        elif token["other"] and len(blocks) > 1:
            blocks[-1] = _Block("", _worse(blocks[-2].need, _below(blocks[-1].head, otherwise=True)))
        elif token["clause"] and _BY_ENVIRONMENT.fullmatch(blocks[-1].head):
            blocks[-1] = _Block(blocks[-1].head, _worse(blocks[-2].need, _clause(token["clause"])))
        elif token["close"]:
            blocks = blocks[:-1] or blocks
        elif token["call"] and (read := _read(source, token, blocks[-1].need)):
            yield read


def _block(around: _Block, head: str, word: str) -> _Block:
    condition = head.strip() if word == "do" else "fn"
    return _Block(condition, _worse(around.need, _below(condition, otherwise=False)))


def _worse(one: Need, other: Need) -> Need:
    return max(one, other, key=lambda need: _WORSE[need])


def _below(head: str, *, otherwise: bool) -> Need:
    """Whether the code inside a condition runs in a release, which is built with MIX_ENV=prod."""
    condition = _CONDITION.fullmatch(head)
    if condition is None:
        return "perhaps"
    names = [condition["name"]] if condition["name"] else re.findall(r":(\w+)", condition["names"])
    holds = ("prod" in names) == ((condition["sign"] or condition["among"]) in ("==", "in"))
    return "always" if (holds == (condition["word"] == "if")) != otherwise else "never"


def _clause(text: str) -> Need:
    return "always" if text.startswith(":prod") else "never"


def _read(source: Source, call: re.Match[str], need: Need) -> Read | None:
    written = _ARGUMENT.match(source.code, call.end()) or _PIPED.search(source.code[: call.start()])
    if written is None:
        return None
    line = source.code.count("\n", 0, call.start()) + 1
    before = _CONTINUED.sub(r"\1 ", source.skeleton[max(0, call.start() - 400) : call.start()]).rpartition("\n")[2]
    # the clause `:prod ->` is in `need` already
    own = _worse(need, "perhaps") if _BRANCH.search(before.rpartition(":prod ->")[2]) else need
    # Dotenvy also reads files, which may be part of the release
    dotenv = call["call"].endswith("env!") and "fetch" not in call["call"]
    return Read(written["name"], line, _is_required(source, call, written), _worse(own, "perhaps") if dotenv else own)


def _is_required(source: Source, call: re.Match[str], written: re.Match[str]) -> bool:
    word = call["call"].removeprefix("System.")
    if word == "fetch_env!":
        return True
    if word.endswith("env!"):
        return source.skeleton[call.end() : _end(source.skeleton, call.end())].count(",") < 2
    return word == "get_env" and bool(_OR_RAISE.match(source.skeleton, written.end()))


def _end(skeleton: str, start: int) -> int:
    """Where the call's arguments end: at the bracket that closes them, else with the line."""
    if not skeleton[start:].startswith("("):
        return skeleton.find("\n", start) % (len(skeleton) + 1)
    depth = 0
    for at in range(start, len(skeleton)):
        depth += (skeleton[at] in "([{") - (skeleton[at] in ")]}")
        if depth == 0:
            return at
    return len(skeleton)
