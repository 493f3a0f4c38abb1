"""The RPC over a real socket: forms, blocks, state, rights."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from signers.formats.networks import MAVRYK, TEZOS
from signers.formats.signable import Kind

HEAD = "/chains/main/blocks/head"


def test_forms_of_answers(bakery: Any, serve: Callable[..., None]) -> None:
    async def scenario(rpc: Any) -> None:
        assert await rpc.get("/chains/main//chain_id/") == await rpc.get("/chains/main/chain_id")
        http = rpc.http
        for path in ("/nothing", "/chains/main", f"{HEAD}~5/hash", "/chains/test/chain_id"):
            response = await http.get(path)
            assert (response.status_code, response.content) == (404, b"")
            assert response.headers["content-length"] == "0"
        response = await http.post("/version", json={})
        assert (response.status_code, response.headers["allow"]) == (405, "GET")
        assert response.content == b""
        response = await http.get("/chains/main/blocks/zorglub/hash")
        assert response.status_code == 400
        assert response.headers["content-type"] == "text/plain"
        assert response.text.startswith("Failed to parsed an argument in path.")
        for path in ("/chains/zorglub/chain_id", f"{HEAD}/helpers/validators?level=x"):
            assert (await http.get(path)).status_code == 400
        response = await http.post(f"{HEAD}/helpers/forge/operations", content=b"{")
        assert response.status_code == 400
        assert response.text.startswith("Failed to parse the request body")
        # One connection serves them all.
        assert response.headers.get("connection") != "close"

    serve(bakery, scenario)


def test_unknown_content_types_and_queries_are_let_pass(
    bakery: Any, serve: Callable[..., None]
) -> None:
    async def scenario(rpc: Any) -> None:
        body = json.dumps({"branch": hash_of(rpc.bakery), "contents": []})
        response = await rpc.http.post(
            f"{HEAD}/helpers/forge/operations?whatever=1",
            content=body,
            headers={"content-type": "application/json; charset=utf-8"},
        )
        assert response.status_code == 400, "no contents"
        assert "contents" in response.text

    serve(bakery, scenario)


def hash_of(bakery: Any) -> str:
    from workers.sandbox.node import hash_text

    return hash_text(bakery.head)


@pytest.mark.parametrize("network", [MAVRYK, TEZOS], ids=["mavryk", "tezos"])
def test_what_clients_ask_first(
    new_bakery: Callable[..., Any], serve: Callable[..., None], network: Any
) -> None:
    async def scenario(rpc: Any) -> None:
        version = await rpc.get("/version")
        assert "SANDBOXED" in version["network_version"]["chain_name"]
        assert ("build" in version["version"]) is (network is TEZOS)
        chain_id = await rpc.get("/chains/main/chain_id")
        assert await rpc.get(f"/chains/{chain_id}/chain_id") == chain_id
        assert await rpc.get("/chains/main/is_bootstrapped") == {
            "bootstrapped": True,
            "sync_state": "synced",
        }
        assert await rpc.get("/config/network/user_activated_upgrades") == []
        peer_id = await rpc.get("/network/self")
        assert (peer_id[:2], len(peer_id)) == ("id", 30)
        constants = await rpc.get(f"{HEAD}/context/constants")
        assert constants["minimal_block_delay"] == "1"
        assert constants["hard_gas_limit_per_operation"] == "1040000"
        assert isinstance(constants["blocks_per_cycle"], int)
        nano = "nanotez" if network is TEZOS else "nanomav"
        assert await rpc.get("/chains/main/mempool/filter", include_default="true") == {
            "minimal_fees": "100",
            f"minimal_{nano}_per_gas_unit": ["100", "1"],
            f"minimal_{nano}_per_byte": ["1000", "1"],
            "replace_by_fee_factor": ["21", "20"],
            "max_operations": 10000,
            "max_total_bytes": 10000000,
        }
        assert await rpc.get(f"{HEAD}~0/hash") == await rpc.get(f"{HEAD}/hash")
        assert (await rpc.http.get(f"{HEAD}~115/hash")).status_code == 404

    serve(new_bakery(network), scenario)


def test_constants_are_those_that_were_recorded(
    new_bakery: Callable[..., Any], serve: Callable[..., None]
) -> None:
    bakeries = [(new_bakery(MAVRYK, 0), 79), (new_bakery(MAVRYK, 1), 72), (new_bakery(TEZOS), 87)]
    for bakery, count in bakeries:

        async def scenario(rpc: Any, count: int = count) -> None:
            constants = await rpc.get(f"{HEAD}/context/constants")
            assert len(constants) == count
            threshold = constants.get(
                "consensus_threshold_size", constants.get("consensus_threshold")
            )
            assert threshold == 171

        serve(bakery, scenario)


def test_genesis_and_activation(bakery: Any, serve: Callable[..., None]) -> None:
    async def scenario(rpc: Any) -> None:
        genesis = await rpc.get("/chains/main/blocks/genesis/header")
        assert genesis["hash"] == genesis["predecessor"]
        assert (genesis["level"], genesis["proto"], genesis["fitness"]) == (0, 0, [])
        assert "payload_hash" not in genesis
        head = await rpc.get(HEAD)
        assert head["header"]["level"] == 1
        assert head["header"]["content"]["command"] == "activate"
        assert head["protocol"].startswith("PrihK96n")
        protocols = await rpc.get(f"{HEAD}/protocols")
        assert protocols["protocol"] == head["protocol"]
        assert protocols["next_protocol"].startswith("PtBoreas")
        assert head["header"]["content"]["hash"] == protocols["next_protocol"]
        assert len(head["operations"]) == 4
        assert "level_info" not in head["metadata"]
        # Raw bytes hash to the block's name.
        from signers.formats import base58
        from signers.formats.hashes import blake2b_32

        raw = bytes.fromhex(await rpc.get(f"{HEAD}/header/raw"))
        assert base58.encode(base58.BLOCK_HASH, blake2b_32(raw)) == head["hash"]
        shell = len(raw) - len(await rpc.get(f"{HEAD}/header/protocol_data/raw")) // 2
        assert shell == 147
        activation = await rpc.get("/chains/main/protocols")
        assert [each["proto_level"] for each in activation] == [0, 1]

    serve(bakery, scenario)


@pytest.mark.parametrize("network", [MAVRYK, TEZOS], ids=["mavryk", "tezos"])
def test_a_block_and_its_parts(
    new_bakery: Callable[..., Any],
    serve: Callable[..., None],
    accounts: list[Any],
    strangers: list[Any],
    network: Any,
) -> None:
    bakery = new_bakery(network)
    bakery.bake_to(8)
    new = strangers[0].address
    bakery.bake(
        [
            bakery.transfer(accounts[6], reveal=True),
            bakery.transfer(accounts[1], destination=new, storage_limit=257),
            bakery.transfer(accounts[2], amount=10**14),
        ]
    )

    async def scenario(rpc: Any) -> None:
        block = await rpc.get(HEAD)
        header = await rpc.get(f"{HEAD}/header")
        shell = await rpc.get(f"{HEAD}/header/shell")
        assert set(shell) == {
            "level",
            "proto",
            "predecessor",
            "timestamp",
            "validation_pass",
            "operations_hash",
            "fitness",
            "context",
        }
        assert (shell["proto"], shell["validation_pass"]) == (1, 4)
        assert shell["fitness"] == ["02", "00000009", "", "ffffffff", "00000000"]
        assert header == {
            "protocol": block["protocol"],
            "chain_id": block["chain_id"],
            "hash": block["hash"],
            **block["header"],
        }
        assert ("adaptive_issuance_vote" in header) is (network is MAVRYK)
        assert "seed_nonce_hash" not in header
        assert (await rpc.get("/chains/main/blocks/8/header"))["seed_nonce_hash"].startswith("nce")
        assert header["signature"].startswith("sig")
        assert header["context"] == await rpc.get(f"{HEAD}~1/resulting_context_hash")
        assert await rpc.get(f"{HEAD}/operations") == block["operations"]
        assert await rpc.get(f"{HEAD}/operations/3") == block["operations"][3]
        assert await rpc.get(f"{HEAD}/operations/3/1") == block["operations"][3][1]
        assert (await rpc.http.get(f"{HEAD}/operations/3/9")).status_code == 404
        assert (await rpc.http.get(f"{HEAD}/operations/4")).status_code == 404
        hashes = [[each["hash"] for each in one_pass] for one_pass in block["operations"]]
        assert await rpc.get(f"{HEAD}/operation_hashes") == hashes
        assert await rpc.get(f"{HEAD}/operation_hashes/3/0") == hashes[3][0]
        assert await rpc.get(f"{HEAD}/metadata") == block["metadata"]
        check_metadata(block["metadata"], network)
        check_operations(block["operations"], network)
        never = await rpc.get(HEAD, metadata="never")
        assert "metadata" not in never["operations"][3][0]["contents"][0]
        assert "metadata" in never

    serve(bakery, scenario)


def check_metadata(metadata: Any, network: Any) -> None:
    assert metadata["level_info"] == {
        "level": 9,
        "level_position": 8,
        "cycle": 1,
        "cycle_position": 0,
        "expected_commitment": False,
    }
    assert metadata["max_operation_list_length"][1] == {"max_size": 32768}
    assert metadata["nonce_hash"] is None
    assert (metadata["attestations"] if network is TEZOS else None) == (
        {"total_committee_power": "256", "threshold": "171", "recorded_power": "256"}
        if network is TEZOS
        else None
    )
    assert ("adaptive_issuance_vote_ema" in metadata) is (network is MAVRYK)
    changes = [int(update["change"]) for update in metadata["balance_updates"]]
    assert sum(changes) == 0
    assert {update.get("category") for update in metadata["balance_updates"]} == {
        "block fees",
        "baking rewards",
        "baking bonuses",
        None,
    }


def check_operations(operations: Any, network: Any) -> None:
    assert [len(one_pass) for one_pass in operations] == [5, 0, 0, 3]
    vote = operations[0][0]["contents"][0]
    assert vote["kind"] == "attestation"
    assert vote["level"] == 8
    assert vote["metadata"]["consensus_power"] > 0
    reveal, transfer = operations[3][0]["contents"]
    assert reveal["metadata"]["operation_result"].keys() == {"status", "consumed_milligas"}
    assert transfer["counter"] == "2"
    result = transfer["metadata"]["operation_result"]
    # What has its default is left out: a false here would make wallets pay.
    assert result.keys() == {"status", "balance_updates", "consumed_milligas"}
    allocating = operations[3][1]["contents"][0]["metadata"]["operation_result"]
    assert allocating["allocated_destination_contract"] is True
    assert allocating["balance_updates"][-1] == {
        "kind": "burned",
        "category": "storage fees",
        "change": "64250",
        "origin": "block",
    }
    failed = operations[3][2]["contents"][0]["metadata"]
    assert failed["balance_updates"][0]["change"] == "-400"
    coin, prefix = (
        ("tez", "proto.025-PsUshuai.") if network is TEZOS else ("mav", "proto.002-PtBoreas.")
    )
    assert failed["operation_result"]["status"] == "failed"
    assert [each["id"] for each in failed["operation_result"]["errors"]] == [
        f"{prefix}contract.balance_too_low",
        f"{prefix}{coin}.subtraction_underflow",
    ]


def test_old_names_exist_on_mavryk_alone(
    new_bakery: Callable[..., Any], serve: Callable[..., None]
) -> None:
    async def on_mavryk(rpc: Any) -> None:
        block = await rpc.get(HEAD, version="0")
        assert block["operations"][0][0]["contents"][0]["kind"] == "endorsement"
        await rpc.post("/injection/operation", rpc.bakery.attestations(rpc.bakery.head)[0].hex())
        pending = await rpc.get("/chains/main/mempool/pending_operations", version="1")
        assert pending["applied"][0]["contents"][0]["kind"] == "endorsement"
        assert "validated" not in pending

    async def on_tezos(rpc: Any) -> None:
        assert (await rpc.http.get(HEAD, params={"version": "0"})).status_code == 400
        path = "/chains/main/mempool/pending_operations"
        assert (await rpc.http.get(path, params={"version": "1"})).status_code == 400

    for network, scenario in ((MAVRYK, on_mavryk), (TEZOS, on_tezos)):
        bakery = new_bakery(network)
        bakery.bake_to(4)
        serve(bakery, scenario)


def test_names_of_blocks(bakery: Any, serve: Callable[..., None]) -> None:
    root = bakery.bake_to(5)
    side = bakery.bake(predecessor=root)
    bakery.bake(predecessor=root, round=1)
    bakery.bake()

    async def scenario(rpc: Any) -> None:
        async def level(name: str) -> Any:
            response = await rpc.http.get(f"/chains/main/blocks/{name}/header")
            return response.json()["level"] if response.status_code == 200 else response.status_code

        from signers.formats import base58

        head, on_side = hash_of(rpc.bakery), base58.encode(base58.BLOCK_HASH, side.hash)
        for name, expected in (
            ("head", 7),
            ("head~7", 0),
            ("head-2", 5),
            ("head~8", 404),
            ("head+1", 400),
            ("genesis", 0),
            ("genesis+3", 3),
            ("genesis~1", 400),
            ("3", 3),
            ("3~2", 1),
            ("3+2", 5),
            ("3-4", 404),
            ("9", 404),
            ("3~1~1", 400),
            ("-1", 400),
            ("checkpoint", 5),
            ("checkpoint~1", 4),
            ("caboose", 1),
            ("savepoint+1", 2),
            (head, 7),
            (f"{head}~3", 4),
            (f"{head}~8", 404),
            (f"{head}+1", 404),
            (on_side, 6),
            (f"{on_side}~1", 5),
            (f"{on_side}+1", 404),
            (f"{head}~3+1", 400),
            (head[:-1] + "x", 400),
            ("HEAD", 400),
        ):
            assert (name, await level(name)) == (name, expected)
        listed = await rpc.get("/chains/main/blocks", length=3, head=[head, on_side])
        assert [len(branch) for branch in listed] == [3, 3]
        assert listed[1][0] == on_side
        assert listed[0][2] == listed[1][1]
        assert await rpc.get("/chains/main/blocks") == [[head]]
        assert await rpc.get("/chains/main/levels/checkpoint") == {
            "block_hash": listed[0][2],
            "level": 5,
        }

    serve(bakery, scenario)


@pytest.mark.parametrize("network", [MAVRYK, TEZOS], ids=["mavryk", "tezos"])
def test_accounts(
    new_bakery: Callable[..., Any],
    serve: Callable[..., None],
    accounts: list[Any],
    strangers: list[Any],
    network: Any,
) -> None:
    bakery = new_bakery(network)
    bakery.bake_to(2)
    bakery.bake([bakery.transfer(accounts[1])])
    baker = bakery.baker(2, 0)
    known, unrevealed, nobody, baker_name = (
        key.address_text(network) for key in (accounts[1], accounts[6], strangers[0], baker)
    )

    async def scenario(rpc: Any) -> None:
        async def contract(name: str, field: str = "") -> Any:
            response = await rpc.http.get(f"{HEAD}/context/contracts/{name}{field}")
            return rpc.read(response) if response.status_code == 200 else response.status_code

        revealed = {"revealed": True} if network is TEZOS else {}
        balance = str(10_000_000_000 - 400 - 1_000_000)
        assert await contract(known) == {"balance": balance, "counter": "1", **revealed}
        never = {"revealed": False} if network is TEZOS else {}
        assert await contract(nobody) == {"balance": "0", "counter": "1", **never}
        assert await contract(known, "/balance") == balance
        assert await contract(nobody, "/balance") == "0"
        assert await contract(known, "/counter") == "1"
        assert await contract(known, "/manager_key") == accounts[1].public_key_text
        assert await contract(unrevealed, "/manager_key") is None
        assert await contract(nobody, "/manager_key") is None
        assert await contract(known, "/delegate") == 404
        assert await contract(baker_name, "/delegate") == baker_name
        assert await contract(known, "/script") == 404
        assert await contract("KT1BEqzn5Wx8uJrZNvKS9DVHvwDmwPdDAXbW"[:-1]) == 400
        assert await contract("zorglub") == 400
        other = TEZOS if network is MAVRYK else MAVRYK
        assert await contract(accounts[1].address_text(other)) == 400
        assert known in await rpc.get(f"{HEAD}/context/contracts")
        # A state is that of its block.
        before = await rpc.get(f"{HEAD}~1/context/contracts/{known}/balance")
        assert before == "10000000000"
        delegate = await rpc.get(f"{HEAD}/context/delegates/{baker_name}")
        assert delegate["deactivated"] is False
        assert await rpc.get(f"{HEAD}/context/delegates/{baker_name}/deactivated") is False
        assert len(await rpc.get(f"{HEAD}/context/delegates")) == 5
        response = await rpc.http.get(f"{HEAD}/context/delegates/{known}")
        assert response.status_code == 404
        staked = int(await contract(baker_name, "/staked_balance"))
        assert staked == 4_000_000_000_000 // 20

    serve(bakery, scenario)


def test_nonces(bakery: Any, serve: Callable[..., None]) -> None:
    bakery.bake_to(5)

    async def scenario(rpc: Any) -> None:
        missing = await rpc.get(f"{HEAD}/context/nonces/4")
        assert missing["hash"].startswith("nce")
        assert await rpc.get(f"{HEAD}/context/nonces/3") == {}
        assert await rpc.get(f"{HEAD}/context/seed_computation")
        period = await rpc.get(f"{HEAD}/votes/current_period")
        assert period["voting_period"]["kind"] == "proposal"

    serve(bakery, scenario)


@pytest.mark.parametrize("network", [MAVRYK, TEZOS], ids=["mavryk", "tezos"])
def test_levels_and_rights(
    new_bakery: Callable[..., Any], serve: Callable[..., None], network: Any
) -> None:
    bakery = new_bakery(network)
    bakery.bake_to(6)
    committee = bakery.chain.rules.rights.committee(7)
    baker = bakery.baker(7, 0).address_text(network)

    async def scenario(rpc: Any) -> None:
        helpers = f"{HEAD}/helpers"
        assert (await rpc.get(f"{helpers}/current_level"))["level"] == 6
        following = await rpc.get(f"{helpers}/current_level", offset=2)
        assert (following["level"], following["expected_commitment"]) == (8, True)
        response = await rpc.http.get(f"{helpers}/current_level", params={"offset": -1})
        assert response.status_code == 500
        assert await rpc.get(f"{helpers}/levels_in_current_cycle") == {"first": 1, "last": 8}
        assert await rpc.get(f"{helpers}/round") == 0
        rights = await rpc.get(f"{helpers}/baking_rights")
        assert rights[0]["delegate"] == rights[0]["consensus_key"] == baker
        assert rights[0]["round"] == 0
        assert len(rights) == len({right["delegate"] for right in rights})
        assert rights[0]["estimated_time"] == "2027-01-15T08:00:06Z"
        every = await rpc.get(f"{helpers}/baking_rights", all="", max_round=9)
        assert [right["round"] for right in every] == list(range(10))
        past = await rpc.get(f"{helpers}/baking_rights", level=3)
        assert "estimated_time" not in past[0]
        cycle = await rpc.get(f"{helpers}/baking_rights", cycle=1, delegate=baker, max_round=0)
        assert all(9 <= right["level"] <= 16 for right in cycle)
        attesting = (await rpc.get(f"{helpers}/attestation_rights", level=7))[0]
        power = "attesting_power" if network is TEZOS else "attestation_power"
        assert sum(each[power] for each in attesting["delegates"]) == 256
        validators = await rpc.get(f"{helpers}/validators", level=7)
        if network is TEZOS:
            (level,) = validators
            assert level["consensus_threshold"] == "171"
            slots = {each["delegate"]: each["rounds"] for each in level["delegates"]}
            assert all(each["attestation_slot"] == each["rounds"][0] for each in level["delegates"])
        else:
            slots = {each["delegate"]: each["slots"] for each in validators}
        assert slots[baker] == list(committee.slots[committee.baker(0)])
        alone = await rpc.get(f"{helpers}/validators", level=7, delegate=baker)
        assert len(alone[0]["delegates"] if network is TEZOS else alone) == 1
        two = await rpc.get(f"{helpers}/validators?level=6&level=7")
        assert {each["level"] for each in two} == {6, 7}

    serve(bakery, scenario)


def test_live_blocks(new_bakery: Callable[..., Any], serve: Callable[..., None]) -> None:
    bakery = new_bakery(max_operations_time_to_live=8)
    bakery.bake_to(12)

    async def scenario(rpc: Any) -> None:
        live = await rpc.get(f"{HEAD}/live_blocks")
        listed = (await rpc.get("/chains/main/blocks", length=9))[0]
        assert len(live) == 9
        assert set(live) == set(listed)
        assert len(await rpc.get("/chains/main/blocks/3/live_blocks")) == 4

    serve(bakery, scenario)


def test_statistics(bakery: Any, serve: Callable[..., None], accounts: list[Any]) -> None:
    block = bakery.bake_to(4)
    for vote in bakery.attestations(block):
        bakery.inject_operation(vote)
    bakery.inject_operation(bakery.votes(Kind.ATTESTATION, block, slots=[0], round=7)[0])
    bakery.inject_operation(
        bakery.votes(Kind.ATTESTATION, block, slots=[0], payload_hash=bytes(32))[0]
    )
    bakery.inject_operation(bakery.transfer(accounts[1], fee=1))
    bakery.bake([bakery.transfer(accounts[2])])

    async def scenario(rpc: Any) -> None:
        statistics = await rpc.get("/sandbox/statistics")
        assert statistics["head"]["level"] == 5
        assert statistics["blocks"] == 4
        assert statistics["rounds_over_zero"] == 0
        assert statistics["attestations"] == {"seen": 3 * 5 + 1, "included": 3 * 5}
        assert statistics["operations"]["included_by_kind"] == {"transaction": 1}
        assert statistics["refused"]["operations"] == {
            "prevalidation.operation_conflict": 1,
            "prefilter.fees_too_low": 1,
        }
        assert statistics["conflicting_signatures"] == 1
        (conflict,) = statistics["conflicts"]
        assert (conflict["kind"], conflict["level"], conflict["round"]) == ("attestation", 4, 0)
        assert [level["level"] for level in statistics["levels"]] == [2, 3, 4, 5]
        arrivals = statistics["levels"][2]["arrivals"]
        assert {arrival["kind"] for arrival in arrivals} == {"block", "attestation"}
        last = await rpc.get("/sandbox/statistics", levels=1)
        assert [level["level"] for level in last["levels"]] == [5]

    serve(bakery, scenario)
