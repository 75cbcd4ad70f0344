"""Detection of passwords, tokens and keys in text: by their format, by the name before them, and in URLs."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from detect_secrets.plugins import (
    azure_storage_key,
    discord,
    github_token,
    gitlab_token,
    mailchimp,
    pypi_token,
    sendgrid,
    slack,
    square_oauth,
    stripe,
    telegram_token,
    twilio,
)

REMOVED = "[removed]"
# Detectors whose patterns match no DNA sequence, public address or version number.
_DETECTORS = (
    azure_storage_key.AzureStorageKeyDetector,
    discord.DiscordBotTokenDetector,
    github_token.GitHubTokenDetector,
    gitlab_token.GitLabTokenDetector,
    mailchimp.MailchimpDetector,
    pypi_token.PypiTokenDetector,
    sendgrid.SendGridDetector,
    slack.SlackDetector,
    square_oauth.SquareOAuthDetector,
    stripe.StripeDetector,
    telegram_token.TelegramBotTokenDetector,
    twilio.TwilioKeyDetector,
)
_OWN_SHAPES = (
    r"\b(?:hf|api_org)_(?:[a-z]+_)?(?:[A-Za-z0-9]{30,}|(?=[A-Za-z]*\d)[A-Za-z0-9]{8,})",
    r"\bgh[pousr]_(?=[A-Za-z]*\d)\w{16,}",
    r"\bgithub_pat_\w{20,}",
    r"\bgl(?:pat|dt|ft|soat|rt|cbt|ptt|agent|oas|imt)-[\w.-]{16,}",
    r"\bxox[a-z](?:\.xox[a-z])?-[\w-]{10,}",
    r"\bxapp-[\w-]{10,}",
    r"\bAIza[\w-]{30,}",
    r"\bya29\.[\w-]{20,}",
    r"\bGOCSPX-[\w-]{20,}",
    r"\bsk-(?=[\w-]{0,40}?(?<![A-Za-z0-9])(?=[A-Za-z]*\d)[A-Za-z0-9]{12})[\w-]{16,}",
    r"\bsk-(?:ant|proj|svcacct|admin)-[\w-]{20,}",
    r"\b(?:gsk|r8|npm|dop_v1|doo_v1|shp(?:at|ss|ca|pa)|wandb_v1|lsv2_[ps]t|pplx)_(?=[A-Za-z_]*\d)\w{20,}",
    r"\bnvapi-[\w-]{20,}",
    r"\bhvs\.[\w-]{20,}",
    r"\bdapi[0-9a-f]{32}\b",
    r"\b(?:AKIA|ASIA|ABIA)[0-9A-Z]{16}\b",
    r"\beyJ[\w-]{8,2000}\.eyJ[\w-]{8,}(?:\.[\w-]*)?",
    r"(?i:\bbearer\s+(?=\S*\d|\S{20})[\w.~+/=-]{6,})",
    r"-----BEGIN [A-Z0-9 ]*PRIVATE KEY(?s:.*?(?:-----END [A-Z0-9 ]*PRIVATE KEY[A-Z ]*-----|\Z))",
)
_SHAPES = [
    *(re.compile(shape) for shape in _OWN_SHAPES),
    *(pattern for detector in _DETECTORS for pattern in detector.denylist),
]
# User and password before the host of a URL; a password may contain characters that should have been escaped.
_IN_ADDRESSES = re.compile(
    r"(?<=://)(?!git@)(?:[^\s'\"<>/?#@]{0,999}@|[^\s'\"<>/?#@:\[]{0,999}:(?!\d{0,5}(?:[/?#]|$))[^\s'\"<>]{0,999}@"
    r"|[^\s'\"<>/?#@:\[]{0,999}:[^\s'\"<>@]{0,999}[^\s'\"<>@/]@(?=(?:[\w-]{1,63}\.){1,9}[A-Za-z]{2,}(?:[:/?#]|$)))"
    r"(?:[^\s'\"<>/?#@]{0,999}@)*"
)
_AUTHORIZATION = re.compile(
    r"(?i)\bauthorization[\"'\\]*\s*[:=]\s*[\"'\\]*((?:(?:bearer|basic|token|digest|apikey)\s+)?[^\s\"',\\]+)"
)
_SERVICES = (
    "access|account|admin|anthropic|api|app|auth|aws|azure|bot|client|comet|consumer|csrf|database|db|deploy|encryption|"
    "ftp|gcp|github|gitlab|google|gpg|hf|http|https|hub|huggingface|jwt|key|login|mail|master|mlflow|mysql|neptune|"
    "oauth|openai|personal|pg|postgres|private|proxy|redis|refresh|registry|root|secret|security|service|session|"
    "shared|signing|slack|smtp|ssh|storage|sudo|trackio|user|wandb"
)
_STRONG = re.compile(
    rf"(?:password|passwd|passphrase|passwort|pwd|secret|(?:^|_)(?:credentials?|creds|authorization)"
    rf"|(?:^|_)(?:{_SERVICES})_?(?:key|token|pass|auth))$"
)
_BARE = {"key", "token", "auth", "pass", "sig", "signature"}
_WEAK = re.compile(r"(?:^|_)(?:key|token|auth|pass|sig|signature|credential|secrets)$")
_WORDS = re.compile(r"[A-Z]+(?=[A-Z][a-z])|[A-Z]?[a-z]+|[A-Z]+|\d+")
_PLACEHOLDER = re.compile(
    r"(?i)(?:\[removed\].*|<[a-z_ -]*>|\*+|%\w|\{\w*\}|none|null|true|false|yes|no|\.*|…|x{3,}|[\W_]*"
    r"|(?:your|my|the|some|an?)[-_ ]?\w*?[-_ ]?(?:key|token|secret|password))|(?-i:\$\{?[A-Z_]+\}?)"
)
_NAMES = re.compile(
    r"(?<![\w.$-])(?P<name>-{0,2}[A-Za-z_][\w.-]*)(?P<closing>\\*[\"'`]?\]?)(?P<sign>\s*(?:=>|:=|={1,3}|:)\s*|\s+)(?=\S)"
)
_PIECE = r"\\+(?P<{0}>[\"'`]).*?\\+(?P={0})|(?P<{0}2>[\"'`])(?:\\.|(?!(?P={0}2))[^\\])*(?P={0}2)"
_QUOTED = re.compile(_PIECE.format("quote"))
_SHELL_WORD = re.compile(rf"(?:{_PIECE.format('quote')}|\\.|[^\s\"'`\\]|[\"'](?=\w))+")
_ENOUGH = 200  # characters of a value tell whether it is a credential
_SIGNATURES = ("sig", "signature", "credential")
_PLAIN_WORD, _OF_QUERY = re.compile(r"[^\s\"'`]+"), re.compile(r"[^\s&#\"'`<>]+")


def without_credentials(text: str) -> str:
    """The text with "[removed]" in place of every credential."""
    kept, end = [], 0
    for start, stop in _merged(sorted(_spans(text, with_names=True))):
        kept += [text[end:start], REMOVED]
        end = stop
    return "".join([*kept, text[end:]])


def cleaned(value: Any) -> Any:
    """Nested mappings, lists and strings with their credentials removed; other values are unchanged."""
    if isinstance(value, dict):
        return {key: REMOVED if names_credential(str(key), each) else cleaned(each) for key, each in value.items()}
    if isinstance(value, list):
        return [cleaned(each) for each in value]
    return without_credentials(value) if type(value) is str else value


def find_credential(text: str, with_names: bool = True) -> int:
    """The position of the first credential in a text.

    Args:
        text: The text to search.
        with_names: Detect credentials also by the name before them, as in `password: x`, not only by their format and
            in URLs.

    Returns:
        The index of its first character, -1 if there is none.
    """
    return min((start for start, _ in _spans(text, with_names)), default=-1)


def names_credential(name: str, value: object = None) -> bool:
    """Whether the key of a mapping indicates that the value, a string, is a credential."""
    return isinstance(value, str) and _is_credential(name, value, in_mapping=True)


def hides_value(flag: str, value: str) -> bool:
    """Whether the value of a command-line flag, or of a variable set on the command line, is a credential."""
    grade = _grade(flag.lstrip("-"))
    return grade in ("strong", "bare") or (grade == "weak" and _looks_random(value))


def _spans(text: str, with_names: bool) -> Iterator[tuple[int, int]]:
    """Start and end of every credential, in any order; they may overlap."""
    found = [match.span() for shape in _SHAPES for match in shape.finditer(text)]
    found += [(match.start(), match.end() - 1) for match in _IN_ADDRESSES.finditer(text)]
    if with_names:
        found += [*(match.span(1) for match in _AUTHORIZATION.finditer(text)), *_named(text)]
    return (span for span in found if not _PLACEHOLDER.fullmatch(text[slice(*span)]))


def _merged(spans: list[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    current = None
    for start, end in spans:
        if current is not None and start <= current[1]:
            current = current[0], max(current[1], end)
            continue
        if current is not None:
            yield current
        current = start, end
    if current is not None:
        yield current


def _named(text: str) -> Iterator[tuple[int, int]]:
    """Start and end of values after the name of a credential: `--token x`, `API_KEY=x`, `"password": "x"`, `?sig=x`."""
    end_of_word = 0
    for match in _NAMES.finditer(text):
        name, sign = match["name"], match["sign"].strip()
        if not _grade(name.lstrip("-")):
            continue
        before = text[match.start() - 1 : match.start()]
        is_flag = name.startswith("-")
        in_query = bool(before) and before in "?&;#" and match["sign"] == "="
        if (not sign and (not is_flag or match["closing"])) or (sign == ":" and is_flag):
            continue
        start, end = _value_at(text, match.end(), in_query, bool(match["closing"]) or sign == ":", end_of_word)
        end_of_word = max(end, end_of_word)
        value = text[start : min(end, start + _ENOUGH)]
        if in_query or (is_flag and sign) or (is_flag and not re.fullmatch("[a-z]+", value)):
            hides = hides_value(name, value) or (in_query and name.lower().endswith(_SIGNATURES))
        elif sign == ":" and not match["closing"]:
            hides = _is_credential(name, value) and (_is_key(text, match) or bool(re.search(r"\d|\W", value)))
        else:
            hides = not is_flag and _is_credential(name, value, in_mapping=sign == ":" or name.isupper())
        if hides and start < end:
            yield start, end


def _value_at(text: str, start: int, in_query: bool, in_mapping: bool, end_of_word: int) -> tuple[int, int]:
    """Start and end of the value at `start`, without quotes around it; `end_of_word` is the end of the word before."""
    if in_query:
        in_url = _OF_QUERY.match(text, start)
        return in_url.span() if in_url else (start, start)
    quoted = _QUOTED.match(text, start)
    if quoted and (in_mapping or not re.match(r"[\w\"'`\\]", text[quoted.end() : quoted.end() + 1])):
        opening = re.match(r"\\*.", quoted.group())
        assert opening is not None  # what is quoted begins with its quote
        quotes = len(opening.group())
        return start + quotes, max(quoted.end() - quotes, start + quotes)
    if start < end_of_word:
        return start, end_of_word
    word = (_PLAIN_WORD if in_mapping else _SHELL_WORD).match(text, start)
    return word.span() if word else (start, start)


def _is_key(text: str, match: re.Match) -> bool:
    """Whether a name before a colon is a key in a file or a header, not a word in a sentence."""
    line = text[text.rfind("\n", 0, match.start()) + 1 : match.start()]
    return not line.strip(" \t-{,\"'") or "_" in match["name"] or "-" in match["name"]


def _is_credential(name: str, value: str, in_mapping: bool = False) -> bool:
    grade = _grade(name)
    if not grade or _PLACEHOLDER.fullmatch(value):
        return False
    is_upper = in_mapping and name.isupper() and name.lower() != "key"
    return grade == "strong" or (grade == "bare" and is_upper) or _looks_random(value)


def _grade(name: str) -> str:
    """How clearly a name indicates a credential: "strong", "bare" (one word such as "key"), "weak" or "" (not)."""
    words = "_".join(_WORDS.findall(name)).lower()
    if _STRONG.search(words):
        return "strong"
    return "bare" if words in _BARE else "weak" if _WEAK.search(words) else ""


def _looks_random(value: str) -> bool:
    """Whether a value looks random: at least 16 characters, 12 in a row of mixed letters and digits."""
    return re.search(r"(?=[A-Za-z]*\d)(?=\d*[A-Za-z])[A-Za-z0-9]{12}", value) is not None and len(value) >= 16
