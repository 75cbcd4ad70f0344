"""Credentials are found wherever they stand, and nothing else is taken for one."""

import random
import string
import time

import pytest

from hf_distill.text.credentials import REMOVED, find_credential, names_credential, without_credentials

ALNUM = string.ascii_letters + string.digits
HEX = "0123456789abcdef"


def drawn(seed, length, alphabet=ALNUM):
    """Random characters, with a letter and a digit among the first."""
    source = random.Random(seed)
    return "a1" + "".join(source.choices(alphabet, k=length - 2))


# As their makers write them; what follows the start is drawn.
SHAPES = {
    "hf_": 34, "hf_oauth_": 40, "api_org_": 34, "ghp_": 36, "gho_": 36, "github_pat_": 82, "glpat-": 20, "gldt-": 20,
    "xoxb-": 40, "xapp-": 40, "AIza": 35, "ya29.": 60, "GOCSPX-": 28, "sk-": 48, "sk-ant-api03-": 90, "sk-proj-": 60,
    "gsk_": 52, "r8_": 37, "npm_": 36, "dop_v1_": 64, "shpat_": 32, "nvapi-": 64, "hvs.": 90, "SG.": 0, "AKIA": 16,
    "sk_live_": 24, "sq0csp-": 43, "dapi": 32,
}  # fmt: skip


def token(start, seed):
    if start == "SG.":
        return f"SG.{drawn(seed, 22)}.{drawn(seed + 1, 43)}"
    alphabet = {"AKIA": string.ascii_uppercase + string.digits, "dapi": HEX}.get(start, ALNUM)
    return start + (drawn(seed, SHAPES[start], alphabet) if start != "AKIA" else drawn(seed, 16, alphabet).upper())


@pytest.mark.parametrize("start", SHAPES)
def test_tokens_are_known_by_their_shape(start):
    for seed in range(30):
        secret = token(start, seed)
        for around in (
            "{}",
            "a {} b",
            "'{}'",
            '["{}"]',
            "x={}",
            "({})",
            "`{}`.",
            "https://host/{}/x",
            "line\n{}\nline",
        ):
            text = around.format(secret)
            assert secret not in without_credentials(text), text
            assert find_credential(text, with_names=False) == text.index(secret), text


NAMES = [
    "password", "DB_PASSWORD", "pwd", "passwd", "client_secret", "api_key", "apiKey", "API-Key", "wandb-key", "WANDB_API_KEY",
    "HF_TOKEN", "hub_token", "access_token", "credentials", "aws_secret_access_key", "auth_token", "model.hub_token",
    "AccountKey", "private_key", "user_pass", "http_auth",
]  # fmt: skip
FORMS = [
    "{name}={value}", "export {name}={value}", "--{name} {value}", "--{name}={value}", '{{"{name}": "{value}", "n": 1}}',
    "{{'{name}': '{value}'}}", '{name} = "{value}"', "{name}: {value}", '  {name}: "{value}"', "https://host/a?{name}={value}&n=1",
    "f(a, {name}='{value}')", '{{\\"{name}\\": \\"{value}\\"}}', "x\n{name}={value}\ny",
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("form", FORMS)
def test_values_are_known_by_the_name_before_them(name, form):
    for seed in range(10):
        value = drawn(seed, 4 + seed, ALNUM + "-_.:/+!@%~")
        text = form.format(name=name, value=value)
        cleaned = without_credentials(text)
        assert value not in cleaned and REMOVED in cleaned and name in cleaned, text
        assert without_credentials(cleaned) == cleaned and find_credential(cleaned) == -1
        assert find_credential(text) == text.index(value, text.index(name))


@pytest.mark.parametrize("scheme", ["https", "postgres", "git+https", "s3", "redis"])
def test_who_somebody_is_in_addresses(scheme):
    for seed in range(100):
        secret = drawn(seed, 3 + seed % 20, ALNUM + ":/!@%~+=?#" if seed % 2 else ALNUM)
        for who in (secret if seed % 2 == 0 else None, f"anna:{secret}", f":{secret}"):
            if who is not None:
                text = f"see {scheme}://{who}@host.example.org:8080/a/b?c=1 and on"
                cleaned = without_credentials(text)
                assert secret not in cleaned and "host.example.org:8080/a/b?c=1 and on" in cleaned, (text, cleaned)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("https://TOKEN@host/x", f"https://{REMOVED}@host/x"),
        ("https://host/x?access_token=abc&n=1", f"https://host/x?access_token={REMOVED}&n=1"),
        ("https://host/x?n=1&sig=a%2Fb#top", f"https://host/x?n=1&sig={REMOVED}#top"),
        ("https://host/?X-Amz-Credential=AK/1/s3&X-Amz-Signature=12ab", f"https://host/?X-Amz-Credential={REMOVED}&X-Amz-Signature={REMOVED}"),
        ("https://anna:pass:with/signs@host.org/x", f"https://{REMOVED}@host.org/x"),
        ("https://anna:12/34@host.org/x", f"https://{REMOVED}@host.org/x"),
        ("sort_key=" + "0123456789abcdef" * 2 + "01234567", f"sort_key={REMOVED}"),
        ('{"key": "' + "0123456789abcdef" * 2 + '01234567"}', f'{{"key": "{REMOVED}"}}'),
        ("Authorization: Basic YTpi", f"Authorization: {REMOVED}"),
        ("--password 'two words' --n 1", f"--password '{REMOVED}' --n 1"),
        ("--password 'a'\"'\"'b c' --n 1", f"--password {REMOVED} --n 1"),
        ("-----BEGIN RSA PRIVATE KEY-----\nMIIE\n-----END RSA PRIVATE KEY----- on", f"{REMOVED} on"),
    ],
)  # fmt: skip
def test_as_they_are_written(given, expected):
    assert without_credentials(given) == expected


@pytest.mark.parametrize(
    "harmless",
    ["keyboard=us", "--tokenizer_name bert --max_tokens 100 --key_padding 3 --num_key_value_heads 4", "--sort_key length",
     "commit 19b99b8f9c0d1e2f3a4b5c6d7e8f9a0b1c2d3e4f", '{"weights_sha256": "' + HEX * 4 + '"}', '"train_fingerprint": "9a1b"',
     '{"bos_token": "<s>", "mask_token": "[MASK]", "pad_token_id": 0}', "hf_datasets hf_distill hf_transformers",
     "sk-sentiment-bert-base-uncased-v2", "Helsinki-NLP/opus-mt-sk-en", "google/bert_uncased_L-2_H-128_A-2", "git@github.com:a/b",
     "git+ssh://git@github.com/a/b", "https://medium.com/@anna/post", "https://host:8080/@anna", "http://[::1]:80/@x",
     "https://h:4873/pkg/-/pkg@1.2.3", "The secret: distill more", "the bearer of news", "ACCAGTACCATGACCATTGA", "key=value",
     "password=$PASSWORD", "token=<HUB_TOKEN>", "API_KEY=YOUR_API_KEY", "`--token` is an option", "pass a --token here",
     "def f(key=len, token=None)", "monkey: 1", "1234567890:12", "3e-05", "2026-01-02T03:04:05", "keys: a, b", REMOVED],
)  # fmt: skip
def test_the_rest_stays(harmless):
    assert without_credentials(harmless) == harmless and find_credential(harmless) == -1


def test_numbers_that_a_record_holds_are_no_credentials():
    for seed in range(300):
        source = random.Random(seed)
        sha1, sha256 = ("".join(source.choices(HEX, k=size)) for size in (40, 64))
        for text in (
            sha1,
            sha256,
            f"sha256:{sha256}",
            f'{{"commit": "{sha1}", "weights_sha256": "{sha256}"}}',
            f"run-{sha1[:8]}",
        ):
            assert without_credentials(text) == text
        bases = "".join(source.choices("ACGT", k=60))
        assert without_credentials(bases) == bases


def test_keys_of_mappings():
    assert (
        names_credential("api_key", "a") and names_credential("hub_token", "abc") and names_credential("PASSWORD", "1")
    )
    for key, value in {
        "api_key": None,
        "hub_token": True,
        "max_tokens": "3",
        "mask_token": "[MASK]",
        "key": "f1",
    }.items():
        assert not names_credential(key, value)


def test_long_texts_take_no_long_time():
    for text in (
        "a" * 200_000,
        "a_" * 100_000,
        "://a:" * 40_000,
        "token=" * 40_000,
        "sk-" * 60_000,
        '\\"' * 100_000,
        "-" * 200_000,
        "password=" * 20_000,
        "a b=" * 50_000,
        "eyJ-" * 50_000,
        'token="' * 30_000,
        "https://a@" * 20_000,
        "xoxb-1-" * 20_000,
        "-----BEGIN PRIVATE KEY-----" * 8_000,
        "authorization: " * 14_000,
        "bearer " * 30_000,
        "hf_a_" * 40_000,
    ):
        started = time.monotonic()
        without_credentials(text)
        assert time.monotonic() - started < 10, text[:10]
