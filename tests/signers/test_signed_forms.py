"""A signature's way into the operation or the block: the hashes that the network knows it by.

Keys, messages and signatures as in `test_signable`; each signature was made with two
independent libraries, the hashes of Ed25519 by the rule that real operations confirm.
"""

import pytest

from signers.formats import base58, block_header, operation
from signers.formats.hashes import blake2b_32
from signers.formats.networks import MAVRYK, TEZOS, Network
from signers.formats.signable import Kind
from signers.formats.vote import VoteTemplate, read_signed_vote

PRE = bytes.fromhex(
    "12ed9d217c2f50673bab6b20dfb0a88ca93b4a0c72a34c807af5dffbece2cba3d2b509835f14006000000002"
    "000000041f1ebb39759cc957216f88fb4d005abc206fb00a53f8d57ac01be00c084cba97"
)
ATT = bytes.fromhex(
    "13ed9d217cfc81eee810737b04018acef4db74d056b79edc43e6be46cae7e4c217c22a82f01500120000518d"
    "0000000003e7ea1f67dbb0bb6cfa372cb092cd9cf786b4f1b5e5139da95b915fb95e698d"
)
BLK = bytes.fromhex(
    "11ed9d217c0000518e0118425847ac255b6d7c30ce8fec23b8eaf13b741de7d18509ac2ef83c741209630000"
    "000061947af504805682ea5d089837764b3efcc90b91db24294ff9ddb66019f332ccba17cc47410000002100"
    "00000102000000040000518e0000000000000004ffffffff0000000400000000eb1320a71e8bf8b0162a3ec3"
    "15461e9153a38b70d00d5dde2df85eb92748f8d068d776e356683a9e23c186ccfb72ddc6c9857bb170448797"
    "2922e7c89a7121f800000000a8e1dd3c000000000000"
)
SIGNED = [
    ("ed  PRE", PRE,
     "d53848de8dbf9ee77ddb41f179f6bb9760f10fe682b25345355f72750a5ac9e418fd052f8f37905833e8e5ede2f035cced921aca3aaadfd09a8fdddf370deb0f",
     "edsigu1hgjBLcPsnpMMNzmcAiR2uUAQ1fAXHEoWJZjw8K9g3TuBLMGSYJuyWdrSW32ddcDHF5imnNPZ8dBWcJAmA2fYPyqgc4Ld",
     "opKLPrQMk3VskseJtEeaigmykhbhYKqYmG4mfNRvKJdnbCZLy1j"),
    ("ed  ATT", ATT,
     "fd6d9ba06ee15b14b0e19e14fb3ce4616f8d22fb65b6b00f2ec7a44d35f34d20bce6e18d050007825a2a40b65ecc9891781b3bf4c44642cd2ab8b97ea6643207",
     "edsigu6xngKrHXkiwJtXqeMdyMRNxQunXf2FDiSBwHMZHnztwXitNWZ8ekTYt8Te6Ypmy5Q9mEcRAb6XJLoXTuyFhQUMokvNnva",
     "oovqUtD9jNqFz5xfrSoLyovVTbJVNi9qM7AAjzcrDrYszYZ7Z7Z"),
    ("ed  BLK", BLK,
     "5696d10e42fec936f4a8e3c950d2128b7d73a853726a903986fed004984f2f801fd50368cba26f20c50bc733a1d8c8a8c7e6b0ecf3ca2820ee5c35840b607903",
     "edsigtj8of7yhruc6EtYzh9KNGNnfffx4QdreXp44aiK4o6So4uYq2QZAxbdwzGvM9LM7bv5S7VnYbCX9WkW1KwSyq6U6fBpp2n",
     "BLqmqRvFQRfAJaQEnRuNefxPVg8wCwkNMKpdYpQAFdadraL7Rr1"),
    ("sp  PRE", PRE,
     "ce6dd038628a8a9c5d03a0851d10cc79c4edca772fd49436a555156c2571b4ae713fa026211d421c5dd6feba3376be0d9c361497899735ea310fe37260783403",
     "spsig1YpNDCAybr6JeJLkHmE6wagvyLYkERtVats7VuoUMJCLWkx1M3AZ6dVqTkd1VNHDX9xSLwTF6nyR6XQX6doyzVoXa39QUK",
     "opJjhoEMDg7RN8swWmafs6wgis3WcsqNJLUs6Kz6MvjdzPkr5MW"),
    ("sp  ATT", ATT,
     "291647bedd1ffd29a9119c28619a7b3cb6fce366de9a80f81e66e43314bd6c6c2ebdb47bf7b54d1cbe79c0a069874c59f0a2480eb187b5df2960bf3584d4d95f",
     "spsig1BBk5L1fUZcpiUKFPhd7QTYxMijhSJudpGq6go5nsCVBFdd338GKLyTHDAU662nEcV6uFHsosHGpkHMZrEGgFWnfmFeN6g",
     "opTGLcd9FLPoSWWmfJkbaU4hoQrUcDVWJQHe7UAztUnviKkfUhN"),
    ("sp  BLK", BLK,
     "aeee6e586baa19ca775204e00c708eb398dd2eb0b74a8316a466e86adcda61c44c6625d5eab7d1b06c8f8079a8a842e66a72ff5512854e42b6940c4b43b7dba4",
     "spsig1UhMuLFjrcaF8Kg2M8JUTJbX7z7RiM8oVTsdy84hF6cNca8HsgdFWt53Tdf4YWWNuRepDnce9Bq5ryFcPsdtAs3jbtDH5f",
     "BMXBNxvVTpHdHw2HcCPP1juQsL6qKLVtsUBiqHpV843jNnaGFjC"),
    ("p2  PRE", PRE,
     "3ac54c7624c8ac409c6a5fefd309d03a37ed7853412ae38e27e412367db3a66c4f15d075268791db681ecf2b665f27fd59a85673bcdfc9b5b650062ca282c66f",
     "p2sigUzUJE5HKZTEmeAy8GCQsAXK3gxLmJmghQb13vzVzo2TTmrtWrjh9krBHxAyteGi3pmageLs6FuBu1jnTRg1fsYKw9CyJH",
     "oo3mDJLsFctCTHXuvwx7dQmymUfS9yZbucG9eWAPuLxLjeWmiSg"),
    ("p2  ATT", ATT,
     "0f5923cc52670d1ec6bbdf9e35a5a53d5fffdf6a365389b0639451e59c5f26e91d2f266844d86297fb1534813b4876c9d12d2b9783aceac5b3bd0a41a438279b",
     "p2sigPJykiS6An2uwXLhaqA93XkUxTgiHvi2hHtmYeCHRQrboGh5zRskkDqxkRtFmpVfsA5f5HmUaTBqmEQLAVffv7wVxi57zG",
     "opDBRXbUMRZG1ELJpZoaHuzGcuxFxp2Zekqfxo4w3AnVGu28Ses"),
    ("p2  BLK", BLK,
     "1d80e8e79b5d4c05e7c0280843692dc90e4b7fc1d09b8c7da3ae87152b94e8112dae50f95c1e951ca484465d1d1e8ac8e55455f286a89ac9da90a3723584bf23",
     "p2sigRAPd7UjrCoEUfTCjuTWXq9mZmB9QYkf33xcqBdcJWjNqDMac2Whb2n22rjhe99d4Jd8eAqqb6DJK7k4NSWFdqyhaKo6vp",
     "BKpiZhGDSZQUQ6taGWbj2DEKUR75FGPNFcrQSJM2RCJp1qG2v4Y"),
    ("BLS POP PRE", PRE,
     "8b2560660147b5f5fedcce773d782aaa3901aa74214faf4825d9eaa008e083da46ef2de435ea82ceaedd83e466d1d0580de8a4557f970213224f7ebfdd4be55f5ed9f5b9f7558466b5d7f15e2942b375062fbbbc25e0f1a4c251bc0edbb70d5c",
     "BLsig9wSD1NWswD7eCy1KtFj4Lz6WTUXM8DJmQESyimSV2HMMKgywVCARbmuaQ1aQ66XHViSVFHDhW99npy4DFD8RLT1JnR9HHpPA1NPSJdqSyrTQDqPT7aPytcQY4cunUNqyABryjurVb",
     "opCvth39mNimShP7sNUgXDEGXCQMmmPTYA2Bp4jpfo2byKczi23"),
    ("BLS POP ATT", ATT,
     "996055a2f2c518e181bfa4d08c85c46096c777ee404900c7ed76fec9f4806da9c6836187295ce54057e428e60966f51902d6c9f8576b8297b1797d8772543a3080391a263e0cc974fa325059d4788b22b225914c49f6789718c976a6096d3e13",
     "BLsigAVWfWWxQy16Lvd3Z8HE6Bu9q2Bt2scHyjS8oiwqjvow97GdYrVpKsGYzsKq2EfuHGJL5pWUw86aU6Kvmk2u8KkVnwm2i1UrBSbD6ZhjgoAFLutNytAMYFg1uDdsHk6QXpLEfMnW8n",
     "onoHz8uUvZ8uyBfXpCe7dNY8xcG4ZVxLjjfjoehNcnxBpDUcsTC"),
    ("BLS POP BLK", BLK,
     "a2b6215babf8309684670df4d41bba40b5a3d8e88146c5bd8d8ba6a7cedad66353f4e61c84e41e0afceadce38d51aa960cc82911016eed6ed5f0dfc9cb339620292a38af89cd3a9aae0e8d121b4d18b16e4ad63343b8027c72ef64cec52d6ea2",
     "BLsigArZ8dXCbxhDHG6FV8A9BNiZiHvfe1htmEa4CwQaHdChcDC3XhHTjq5xfxZGTKXxLee6DPPwVA7jarx9DEGhPES8iVgttusbyjyuWDyDhDWGqxB4xaCdzRrBiN1pUZpAhyGw79oCKb",
     "BM72QjW4F7Jf5K3aAWYUKkWHk4XyxvEUdNxGKt2m7z6bHPCVA7H"),
    ("BLS AUG PRE", PRE,
     "95eabb831be0d77838c0f9af6c3b916be7d00be68e82bba12f2135c117ebacde35948d0813026afd71752bc3180c75fd00ef34463c77eece313498f8f42b78a5dcff8de5e3a5bc002b0f08bb2a76d09d956732f74b9cb66a9867aea69f646ccd",
     "BLsigAMiPUBkjva7gDzeTuEkvtACTFjTxybJYYFU5B4aJ9ubdkdWYeNRCUJcKACBbVefC942KB9jZbBPtV9GdsEYcPt5qpgGBfXrAbznwLZUo7dNk2gBbQcrKL3Mp6C1sSy4kT21DjN8Vf",
     "opYbccjzd37SNiX1QnzHurjrVoXHU6WQKXZ3HUh44fGsXcs35Ka"),
    ("BLS AUG ATT", ATT,
     "b3d9279e1dd3a4ee1e1fda1b504ae2a4125f68569a4aefa6ca915f3ec111beb4feed86da65b5313fa54c28b0b0a9c22d01cfa0991e5fe26e42e540a7d72be55511f3c252bc35c94b71d5d298ba0f17d38fe4c971e5b4311e3cc45a5502f1ce02",
     "BLsigBXBaosC96Qqg16hz1oz6zmaKPwNAKS2D6dLyU2ZrcNWjrtMh7fdSgMbsUNeLGCuoRXb7C28KHdswLKWVuvUDmVTiZQXwfQmtGbauZXGuBovmHbDBXKRpwf9zFsB8znyiZSgi9cKdK",
     "oo9fZciPmNRjsjPCfH5YJRnxAKeAWsHpwP6uAiZvx1zqWFZBJRC"),
    ("BLS AUG BLK", BLK,
     "91239278a1e9f3aacbc5de4951f8f722fc928142e31474cc4dfe8752d69fdf7bd60d673de54332b2475fbc705aa284d10f636ef926a2e91adfacaf30757ec64c67b72a6592a36c5502501b0bca1a92f0da8d7784a9e444e1ed2398271c623af3",
     "BLsigAAwim2u3Tq5FhyxsBRUrfmTBMRcQKFD8jisueygM3HG1bmmRUqo8h8Cyp4vn8kCak6PUsWm8A6un5rXHaaVreXZDFQKC6kh4DtrrkKEGPTfuJ9ZRvwLHjWXvage2HmB7Hw38mXhmZ",
     "BLh1M6ADWoYrrP5h8rt9T5eXm8igBHQt1GysZny8HaogSQoUFPR"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("_name", "message", "signature", "text", "hash_"), SIGNED, ids=[row[0] for row in SIGNED]
)
def test_a_signature_makes_an_operation_or_a_block(
    _name: str, message: bytes, signature: str, text: str, hash_: str
) -> None:
    raw = bytes.fromhex(signature)
    kinds = (
        base58.ED25519_SIGNATURE,
        base58.SECP256K1_SIGNATURE,
        base58.P256_SIGNATURE,
        base58.BLS_SIGNATURE,
    )
    assert base58.decode(kinds, text) == raw
    if message is BLK:
        header = block_header.decode(BLK[5:] + raw)
        assert base58.encode(base58.BLOCK_HASH, block_header.block_hash(header)) == hash_
        return
    kind = Kind.PREATTESTATION if message is PRE else Kind.ATTESTATION
    slot, level, round_ = (96, 2, 4) if message is PRE else (18, 20877, 0)
    template = VoteTemplate(kind, message[1:5], message[5:37], level, round_, message[48:])
    signed = template.operation(slot, raw)
    assert base58.encode(base58.OPERATION_HASH, blake2b_32(signed)) == hash_
    assert read_signed_vote(signed).signature == raw


@pytest.mark.parametrize("network", [TEZOS, MAVRYK], ids=lambda network: network.name)
def test_both_networks_carry_votes_alike(network: Network) -> None:
    for _, message, signature, _, hash_ in SIGNED:
        if message is BLK:
            continue
        suffix = operation.signature_suffix(bytes.fromhex(signature))
        read = operation.decode_operation(message[5:] + suffix, network)
        assert base58.encode(base58.OPERATION_HASH, operation.hash(read)) == hash_
