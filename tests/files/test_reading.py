"""JSON of others: of the types that were asked for, or one clear error that names the file and what is wrong."""

import json
import os
import random
from dataclasses import dataclass
from typing import Any

import pytest

from hf_distill.files import FileFormatError, as_dataclass, checked, parse_json, read_json
from hf_distill.files.reading import MAX_DEPTH

SOUND = {
    "weight_map": {"a": "x.safetensors", "b": "y.safetensors"},
    "rows": 3,
    "share": 0.5,
    "flops": 10**21,
    "names": ["a", None],
}
KEYS = {"weight_map": dict[str, str], "rows": int, "share": float, "names": list[str | None]}


@dataclass(frozen=True)
class Thing:
    name: str
    sizes: list[int]
    share: float | None = None


def test_what_is_sound_is_given_back(tmp_path):
    path = tmp_path / "x.json"
    path.write_text(json.dumps(SOUND))
    assert read_json(path, KEYS) == SOUND
    path.write_text("[1, 2]")
    assert read_json(path, kind=list[int]) == read_json(str(path), kind=Any) == [1, 2]
    path.write_text('{"loss": NaN}')
    assert str(read_json(path, finite=False)["loss"]) == "nan"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"[" * 100_000, f"more than {MAX_DEPTH} levels deep"),
        (b"[" * (MAX_DEPTH + 1) + b"]" * (MAX_DEPTH + 1), f"more than {MAX_DEPTH} levels deep"),
        (b"", "Expecting value"),
        (b'{"rows": 3', "Expecting"),
        ('{"rows": "é"}'.encode("latin-1"), "utf-8"),
        ('{"rows": 3}'.encode("utf-16"), "utf-8"),
        (b"[]", "must be dict, got"),
        (b"null", "must be dict, got None"),
        (b'{"rows": 3, "rows": 4}', "the key 'rows' twice"),
        (b'{"rows": NaN}', "a number that is nan"),
        (b'{"rows": [1e999]}', "a number that is inf"),
        (b'{"rows": %d}' % 2**1024, "a number beyond those that a float can be"),
        (b'{"rows": ' + b"9" * 5000 + b"}", "no JSON that can be read"),
        (b'{"rows": "\\ud800"}', "surrogates"),
        (b'{"\\ud800": 3}', "surrogates"),
        (b'{"size": 3}', "lacks 'rows'"),
        (b'{"rows": "3"}', "'rows' of .*x.json must be int, got '3'"),
        (b'{"rows": true}', "'rows' of .*x.json must be int, got True"),
        (b'{"rows": 3.0}', "'rows' of .*x.json must be int, got 3.0"),
    ],
)
def test_what_is_not_is_refused(tmp_path, content, message):
    (tmp_path / "x.json").write_bytes(content)
    with pytest.raises(FileFormatError, match=message) as refused:
        read_json(tmp_path / "x.json", {"rows": int})
    assert "x.json" in str(refused.value) and len(str(refused.value)) < 400


def test_files_that_do_not_end_are_not_read(tmp_path, monkeypatch):
    os.mkfifo(tmp_path / "pipe.json")
    for path in (tmp_path / "pipe.json", "/dev/zero", tmp_path):
        with pytest.raises(OSError, match=r"regular file|directory"):
            read_json(path)
    (tmp_path / "large.json").write_text(json.dumps(["x" * 100]))
    monkeypatch.setattr("hf_distill.files.reading.MAX_BYTES", 50)
    with pytest.raises(FileFormatError, match="more than 50 bytes"):
        read_json(tmp_path / "large.json")


def test_dataclasses_are_made_of_their_own_fields_alone():
    assert as_dataclass(Thing, {"name": "a", "sizes": [1]}, "x") == Thing("a", [1])
    assert as_dataclass(Thing, {"name": "a", "sizes": [], "share": 1}, "x") == Thing("a", [], 1)
    for content, message in (
        ([], "x must be dict"),
        ({"name": "a"}, r"x lacks \['sizes'\]"),
        ({"name": "a", "sizes": [1], "more": 1}, r"x has \['more'\]"),
        ({"name": "a", "sizes": [1, "2"]}, r"'sizes' of x must be list\[int\]"),
        ({"name": "a", "sizes": [1], "share": "1"}, r"'share' of x must be float \| None, got '1'"),
    ):
        with pytest.raises(FileFormatError, match=message):
            as_dataclass(Thing, content, "x")


def poisoned(chance: random.Random) -> str:
    """A sound file that somebody changed: a value, a key, some characters, or its end."""
    content = json.loads(json.dumps(SOUND))
    odd = [None, True, -1, 2**1030, 1e400, "", "\ud800", [], {}, [[[[]]]], {"a": {}}, "../x", "x" * 300]
    holder = chance.choice([content, content["weight_map"]])
    for _ in range(chance.randint(1, 3)):
        holder[chance.choice([*holder, "new"])] = chance.choice(odd)
    if chance.random() < 0.3:
        del content[chance.choice(sorted(content))]
    text = json.dumps(content)
    if chance.random() < 0.3:
        text = text[: chance.randrange(len(text))]
    if chance.random() < 0.3:
        place = chance.randrange(len(text) + 1)
        text = text[:place] + chance.choice(['"', "{", "[" * 3000, "\x00", "\ud800", "1e9999", ","]) + text[place:]
    return text


def test_poisoned_files_end_in_one_kind_of_error_or_are_sound():
    chance, refused = random.Random(0), 0
    for _ in range(400):
        text = poisoned(chance)
        try:
            content = parse_json(text.encode("utf-8", "surrogatepass"), "x.json", KEYS)
        except FileFormatError as error:
            refused += 1
            assert "x.json" in str(error) and len(str(error)) < 400
        else:
            assert all(checked(content[key], hint, key) is content[key] for key, hint in KEYS.items())
            json.dumps(content, allow_nan=False, ensure_ascii=False).encode()
    assert 200 < refused < 400
