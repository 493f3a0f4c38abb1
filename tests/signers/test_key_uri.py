"""Key URIs: every form of Octez and the one of RFC 7512, and what is wrong with the others."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from signers.backends.key_uri import (
    HARDENED,
    EncryptedKey,
    HttpKey,
    KeyUri,
    LedgerKey,
    MalformedKeyUri,
    Pkcs11Key,
    PlainKey,
    TcpKey,
    UnixKey,
    read_key_uri,
)
from signers.backends.signer_environment import RemoteSignerUnclear

TZ1 = "tz1SodoUsWVe1Yey9eMFbqRUtNpBWfir5NRr"
MV4 = "mv4exNvckxdb6QUqdaYycTabXyP4p2mNoios"
SECRET = "edsk3qAQSJaDBSYN2PCMdv7BuJoBKeRyDFq5uPAwDfFRAhQdwHxPMN"  # a test key of Octez
SQUIRREL = "major-squirrel-thick-hedgehog"


def read(text: str, **environment: str) -> KeyUri:
    return read_key_uri(text, environment)


@pytest.mark.parametrize(
    ("text", "key"),
    [
        (f"unencrypted:{SECRET}", PlainKey(SECRET)),
        (f"unencrypted://{SECRET}", PlainKey(SECRET)),
        ("encrypted:edesk1abc", EncryptedKey("edesk1abc")),
        ("aggregate_encrypted:BLesk1abc", EncryptedKey("BLesk1abc")),
        (f"http://signer/{TZ1}", HttpKey("http://signer:80", TZ1)),
        (f"http://Signer.Example:6732/{TZ1}", HttpKey("http://signer.example:6732", TZ1)),
        (f"https://h:1/a/b/{MV4}", HttpKey("https://h:1/a/b", MV4)),
        (f"https://[::1]/{MV4}", HttpKey("https://[::1]:443", MV4)),
        (f"tcp://127.0.0.1:7732/{TZ1}", TcpKey("127.0.0.1", 7732, TZ1)),
        (f"unix:/run/a signer?pkh={TZ1}", UnixKey("/run/a signer", TZ1)),
        (f"unix:///run/a%20signer?pkh={TZ1}", UnixKey("/run/a signer", TZ1)),
        (f"unix:///run/signer/{TZ1}", UnixKey("/run/signer", TZ1)),
        (f"ledger://{SQUIRREL}", LedgerKey(SQUIRREL, "ed25519", ())),
        (
            f"ledger://{TZ1}/bip25519/0h/1'",
            LedgerKey(TZ1, "bip25519", (HARDENED, HARDENED | 1)),
        ),
        (f"ledger://{SQUIRREL}/P-256/0/7h", LedgerKey(SQUIRREL, "p256", (0, HARDENED | 7))),
        (f"ledger://{SQUIRREL}/0h", LedgerKey(SQUIRREL, "ed25519", (HARDENED,))),
        (
            "pkcs11:token=signerpool;object=baker-1;type=private?module-path=/usr/lib/softhsm/"
            "libsofthsm2.so&pin-source=file:/run/secrets/hsm-pin",
            Pkcs11Key(
                token="signerpool",
                object="baker-1",
                module_path="/usr/lib/softhsm/libsofthsm2.so",
                pin_source="file:/run/secrets/hsm-pin",
            ),
        ),
        (
            "pkcs11:model=SoftHSM%20v2;manufacturer=SoftHSM%20project;serial=11e45e5877fdcd07;"
            "token=signerpool;id=%10%6B%31%ff;slot-id=3;x-vendor=1?pin-value=12%2634",
            Pkcs11Key(
                model="SoftHSM v2",
                manufacturer="SoftHSM project",
                serial="11e45e5877fdcd07",
                token="signerpool",
                id=b"\x10k1\xff",
                slot=3,
                pin="12&34",
            ),
        ),
        (
            "pkcs11:serial=1;id=%01?x-public-key=edpkabc&module-name=softhsm2",
            Pkcs11Key(serial="1", id=b"\x01", public_key="edpkabc", module_name="softhsm2"),
        ),
    ],
)
def test_each_form_says_where_its_key_is(text: str, key: KeyUri) -> None:
    assert read(text) == key
    assert read(f" {text}\n") == key


@pytest.mark.parametrize(
    ("variables", "key"),
    [
        ({"TEZOS_SIGNER_HTTP_HOST": "h"}, HttpKey("http://h:6732", TZ1)),
        ({"MAVRYK_SIGNER_HTTPS_HOST": "h"}, HttpKey("https://h:443", TZ1)),
        ({"TEZOS_SIGNER_TCP_HOST": "h", "TEZOS_SIGNER_TCP_PORT": "9"}, TcpKey("h", 9, TZ1)),
        ({"MAVRYK_SIGNER_UNIX_PATH": "/run/s"}, UnixKey("/run/s", TZ1)),
    ],
)
@pytest.mark.parametrize("text", [f"remote:{TZ1}", f"remote://{TZ1}", f"remote:/{TZ1}"])
def test_a_remote_key_is_with_the_signer_of_the_environment(
    text: str, variables: dict[str, str], key: KeyUri
) -> None:
    assert read_key_uri(text, variables) == key


def test_a_remote_key_without_a_signer_says_what_to_set() -> None:
    with pytest.raises(RemoteSignerUnclear, match="TEZOS_SIGNER_HTTP_HOST"):
        read(f"remote:{TZ1}")


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("", "scheme"),
        (SECRET, "scheme"),
        ("unencrypted:", "unencrypted: has no key"),
        ("encrypted:  ", "encrypted: has no key"),
        ("yubihsm:1", "'yubihsm'"),
        (f"http:///{TZ1}", "host is missing"),
        ("http://h:6732", "key hash"),
        ("http://h:6732/tz1abc", "key hash"),
        (f"http://h:0x1/{TZ1}", "port"),
        (f"http://h:99999/{TZ1}", "port"),
        (f"http://[::1/{TZ1}", "host"),
        (f"http://me:pass@h/{TZ1}", "password"),
        (f"http://h/{TZ1}?authentication=1", "no place"),
        (f"http://h/{TZ1}#x", "no place"),
        (f"tcp://h/{TZ1}", "port"),
        (f"tcp://h:1/a/{TZ1}", "key hash"),
        (f"tcp://h:1/{TZ1}?a", "no place"),
        ("unix:/run/signer", "key hash"),
        (f"unix:run/signer?pkh={TZ1}", "slash"),
        (f"unix:/run/signer?key={TZ1}", "pkh="),
        (f"unix://run/signer?pkh={TZ1}", "path of this host"),
        ("remote:", "key hash"),
        ("ledger:", "device is missing"),
        ("ledger://a-b-c-d/ed25519/0", "hardened"),
        ("ledger://a-b-c-d/secp256k1/x", "numbers"),
        ("ledger://a-b-c-d/secp256k1/2147483648", "numbers"),
        ("ledger://a-b-c-d/secp256k1/\u0661", "numbers"),
        ("ledger://a-b-c-d" + "/0h" * 9, "8 numbers"),
        ("pkcs11:object=a", "token"),
        ("pkcs11:token=a", "object"),
        ("pkcs11:token=a;object=b;object=c", "twice"),
        ("pkcs11:token=a;object=b;colour=c", "'colour'"),
        ("pkcs11:token=a;object=b?pin-value", "'pin-value'"),
        ("pkcs11:token=a;object=b;type=public", "type=private"),
        ("pkcs11:token=a;object=b;slot-id=one", "slot-id"),
        ("pkcs11:token=%ff;object=b", "UTF-8"),
        ("pkcs11:token=a;object=b?pin-value=1&pin-source=env:A", "exclude"),
        ("unencrypted:" + "a" * 9000, "longer"),
    ],
)
def test_what_is_wrong_is_said(text: str, what: str) -> None:
    with pytest.raises(MalformedKeyUri, match=what):
        read(text)


@pytest.mark.parametrize(
    "text",
    [
        SECRET, f"unencrypted:{SECRET}", f"unencryted:{SECRET}", f"encrypted:{SECRET}",
        f"http://a:{SECRET}@h/{TZ1}", f"http://h/{SECRET}", f"unix:/a?pkh={SECRET}",
        f"pkcs11:token=a;object=b?pin-value={SECRET}", f"pkcs11:token=a?pin-value={SECRET}",
    ],
)  # fmt: skip
def test_no_error_and_no_value_shows_a_secret(text: str) -> None:
    try:
        shown = repr(read(text))
    except MalformedKeyUri as e:
        shown = str(e)
    assert SECRET not in shown


@given(st.text(max_size=60), st.sampled_from(
    ["", "http://", "tcp://", "unix:", "ledger://", "pkcs11:", "pkcs11:token=a;object=b?"]
))  # fmt: skip
def test_any_text_is_a_uri_or_malformed(text: str, scheme: str) -> None:
    try:
        key = read(scheme + text)
    except (MalformedKeyUri, RemoteSignerUnclear):
        return
    assert key == read(scheme + text)


@pytest.mark.parametrize(
    ("text", "authority"),
    [
        (f"http://h:1/a/{TZ1}", "http://h:1/a"),
        (f"tcp://[::1]:1/{TZ1}", "tcp://[::1]:1"),
        (f"unix:/run/s?pkh={TZ1}", "unix:/run/s"),
        (f"ledger://{SQUIRREL}/ed25519/0h", f"ledger://{SQUIRREL}"),
        ("pkcs11:token=t;object=b?pin-value=1", "pkcs11:token=t"),
        (
            "pkcs11:id=%01;serial=a1;token=my%20t?pin-source=/p&module-path=/usr/lib/m.so",
            "pkcs11:token=my%20t;serial=a1?module-path=/usr/lib/m.so",
        ),
    ],
)
def test_keys_of_one_keeper_have_one_authority(text: str, authority: str) -> None:
    key = read(text)
    assert not isinstance(key, PlainKey | EncryptedKey)
    assert key.authority == authority


@pytest.mark.parametrize(
    "text",
    [
        "pkcs11:token=my%20t;serial=a1;slot-id=7;object=b%3B;id=%00%FFa?module-path=/usr/lib/m.so",
        "pkcs11:serial=1;manufacturer=m;model=v;id=%01?module-name=n&pin-source=/p&x-public-key=k",
        "pkcs11:token=t;object=b",
    ],
)
def test_a_key_of_a_token_is_written_as_it_was_read(text: str) -> None:
    key = read(text)
    assert isinstance(key, Pkcs11Key)
    assert key.uri() == text


def test_a_pin_is_not_written() -> None:
    key = read("pkcs11:token=t;object=b?pin-value=1234")
    assert isinstance(key, Pkcs11Key)
    assert key.uri() == "pkcs11:token=t;object=b"
