"""What goes in by the RPC: operations, blocks, simulations, and the streams that tell of it."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from signers.formats import base58, operation
from signers.formats.block_header import BlockHeader
from signers.formats.hashes import blake2b_32
from signers.formats.networks import MAVRYK, TEZOS
from signers.formats.signable import Kind
from workers.sandbox.names import text

HEAD = "/chains/main/blocks/head"
PENDING = "/chains/main/mempool/pending_operations"
BOTH = pytest.mark.parametrize("network", [MAVRYK, TEZOS], ids=["mavryk", "tezos"])


def hash_text(signed: bytes) -> str:
    return text(base58.OPERATION_HASH, blake2b_32(signed))


def contents_of(signed: bytes, network: Any) -> dict[str, Any]:
    """Branch, contents and signature as JSON."""
    return operation.to_json(operation.decode_operation(signed, network), network)


@asynccontextmanager
async def lines(rpc: Any, path: str, **query: Any) -> AsyncIterator[Any]:
    """The JSON values of a stream, one by one; None at its end."""
    async with rpc.http.stream("GET", path, params=query or None) as response:
        assert response.status_code == 200
        assert response.headers["content-type"] == "application/json"
        assert response.headers["transfer-encoding"] == "chunked"
        found = response.aiter_lines()

        async def following() -> Any:
            async with asyncio.timeout(5):
                line = await anext(found, None)
            return None if line is None else json.loads(line)

        yield following


# -- operations --


def test_an_operation_from_injection_to_inclusion(
    bakery: Any, serve: Callable[..., None], accounts: list[Any]
) -> None:
    bakery.bake_to(3)
    signed = bakery.transfer(accounts[1])

    async def scenario(rpc: Any) -> None:
        hash = await rpc.post("/injection/operation", signed.hex())
        assert hash == hash_text(signed)
        assert await rpc.post("/injection/operation", signed.hex(), chain="main") == hash
        pending = await rpc.get(PENDING)
        assert list(pending) == [
            "validated",
            "refused",
            "outdated",
            "branch_refused",
            "branch_delayed",
            "unprocessed",
        ]
        (waiting,) = pending["validated"]
        assert waiting == {"hash": hash, **contents_of(signed, rpc.bakery.network)}
        assert (await rpc.get(PENDING, validated="false"))["validated"] == []
        assert (await rpc.get(PENDING, validation_pass=0))["validated"] == []
        await rpc.bake([signed])
        assert (await rpc.get(PENDING))["validated"] == []
        assert await rpc.get(f"{HEAD}/operation_hashes/3") == [hash]

    serve(bakery, scenario)


@BOTH
def test_a_refused_operation(
    new_bakery: Callable[..., Any], serve: Callable[..., None], accounts: list[Any], network: Any
) -> None:
    bakery = new_bakery(network)
    bakery.bake_to(3)
    signed = bakery.transfer(accounts[1], counter=0)
    source = accounts[1].address_text(network)

    async def scenario(rpc: Any) -> None:
        for flag in ("False", "false", "no"):
            trace = await rpc.refused("/injection/operation?async=" + flag, signed.hex())
            assert len(trace) == (2 if network is TEZOS else 1)
            if network is TEZOS:
                assert trace[0] == {"kind": "permanent", "id": "async_injection_failed"}
            assert trace[-1] == {
                "kind": "temporary",
                "id": "failure",
                "msg": f"Error while validating injected operation {hash_text(signed)}:\n"
                f"Counter 0 already used for contract {source} (expected 1)",
            }
        for flag in ("?async", "?async=True", "?async=yes"):
            hash = await rpc.post(f"/injection/operation{flag}", signed.hex())
            assert hash == hash_text(signed)
        (refused,) = (await rpc.get(PENDING))["branch_refused"]
        prefix = "proto.025-PsUshuai." if network is TEZOS else "proto.002-PtBoreas."
        assert refused["protocol"].startswith(prefix.split("-")[1].rstrip("."))
        assert refused["error"] == [
            {
                "kind": "branch",
                "id": f"{prefix}contract.counter_in_the_past",
                "contract": source,
                "expected": "1",
                "found": "0",
            }
        ]

    serve(bakery, scenario)


def test_bodies_that_are_no_operation(bakery: Any, serve: Callable[..., None]) -> None:
    async def scenario(rpc: Any) -> None:
        for body in ("zz", "abc"):
            assert (await rpc.http.post("/injection/operation", json=body)).status_code == 400
        response = await rpc.http.post("/injection/operation", json={"x": 1})
        assert response.status_code == 400
        trace = await rpc.refused("/injection/operation", "00" * 100)
        assert trace[-1]["msg"] == "Can't parse the operation"
        response = await rpc.http.post("/injection/operation?async=perhaps", json="00")
        assert response.status_code == 400
        trace = await rpc.refused("/injection/operation?chain=NetXdQprcVkpaWU", "00" * 100)
        assert "Unknown chain" in trace[-1]["msg"]

    serve(bakery, scenario)


# -- blocks --


def test_a_refused_block(bakery: Any, serve: Callable[..., None]) -> None:
    bakery.bake_to(3)
    passes = bakery.passes(())
    raw = bakery.signed(bakery.header(passes))

    async def scenario(rpc: Any) -> None:
        response = await rpc.inject_block(raw, passes)
        assert response.status_code == 500
        outer, inner = response.json()
        assert outer["id"] == "validator.invalid_block"
        assert inner["id"] == "proto.002-PtBoreas.validate.block.not_enough_attestations"
        response = await rpc.inject_block(raw, passes, **{"async": "yes"})
        assert response.status_code == 200, "a bad block, and its hash all the same"
        assert response.json() == outer["invalid_block"]
        assert (await rpc.get(f"{HEAD}/header"))["level"] == 3
        statistics = await rpc.get("/sandbox/statistics")
        assert statistics["refused"]["blocks"] == {"validate.block.not_enough_attestations": 2}
        for body in ({}, {"data": "zz", "operations": []}, {"data": "00", "operations": [[{}]]}):
            response = await rpc.http.post("/injection/block", json=body)
            assert response.status_code == 400
        trace = await rpc.refused(
            "/injection/block", {"data": "00", "operations": [[], [], [], []]}
        )
        assert trace[-1]["msg"] == "Cannot parse block header."

    serve(bakery, scenario)


# -- streams --


def test_heads(bakery: Any, serve: Callable[..., None]) -> None:
    bakery.bake_to(3)

    async def scenario(rpc: Any) -> None:
        protocol = "PtBoreasK2KPuKbeYtXeEdudEHS7YcMFHE9amwheUc4kejTxgRi"
        async with lines(rpc, "/monitor/heads/main", next_protocol=protocol) as heads:
            first = await heads()
            header = await rpc.get(f"{HEAD}/header")
            shell = await rpc.get(f"{HEAD}/header/shell")
            data = await rpc.get(f"{HEAD}/header/protocol_data/raw")
            assert first == {"hash": header["hash"], **shell, "protocol_data": data}
            root = rpc.bakery.head
            await rpc.bake()
            assert (await heads())["level"] == 4
            await rpc.bake(predecessor=root, round=1)
            assert (await heads())["fitness"][-1] == "00000001"
        async with lines(rpc, "/monitor/heads/main", next_protocol="another") as nothing:
            await rpc.bake()
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.05):
                    await nothing()

    serve(bakery, scenario)


def test_validated_blocks(bakery: Any, serve: Callable[..., None], accounts: list[Any]) -> None:
    bakery.bake_to(3)

    async def scenario(rpc: Any) -> None:
        async with lines(rpc, "/monitor/validated_blocks", chain="main") as blocks:
            root = rpc.bakery.head
            await rpc.bake([rpc.bakery.transfer(accounts[1])], round=1)
            block = await blocks()
            assert block["header"]["level"] == 4
            assert block["header"]["protocol_data"]
            assert [len(each) for each in block["operations"]] == [5, 0, 0, 1]
            assert set(block["operations"][3][0]) == {"branch", "data"}
            # A block that loses is validated as well.
            passes = rpc.bakery.passes(rpc.bakery.attestations(root))
            raw = rpc.bakery.signed(rpc.bakery.header(passes, predecessor=root))
            assert (await rpc.inject_block(raw, passes)).status_code == 200
            assert (await blocks())["header"]["fitness"][-1] == "00000000"
            assert (await rpc.get(f"{HEAD}/helpers/round")) == 1

    serve(bakery, scenario)


def test_bootstrapped_is_one_line(bakery: Any, serve: Callable[..., None]) -> None:
    async def scenario(rpc: Any) -> None:
        async with lines(rpc, "/monitor/bootstrapped") as told:
            assert (await told())["block"] == await rpc.get(f"{HEAD}/hash")
            assert await told() is None

    serve(bakery, scenario)


def test_waiting_operations_are_told_until_the_head_moves(
    bakery: Any, serve: Callable[..., None], accounts: list[Any]
) -> None:
    bakery.bake_to(3)
    path = "/chains/main/mempool/monitor_operations"

    async def scenario(rpc: Any) -> None:
        async with lines(rpc, path) as told, lines(rpc, path, refused="yes", validated="no") as bad:
            assert await told() == []
            assert await bad() == []
            good, poor = rpc.bakery.transfer(accounts[1]), rpc.bakery.transfer(accounts[2], fee=1)
            await rpc.post("/injection/operation", good.hex())
            await rpc.refused("/injection/operation", poor.hex())
            (one,) = await told()
            assert one["hash"] == hash_text(good)
            assert one["protocol"].startswith("PtBoreas")
            assert "error" not in one
            (one,) = await bad()
            assert one["error"][0]["id"] == "proto.002-PtBoreas.prefilter.fees_too_low"
            await rpc.bake()
            assert await told() is None
            assert await bad() is None
        async with lines(rpc, path, validation_pass=3) as told:
            assert [each["hash"] for each in await told()] == [hash_text(good)]
            (vote, *_) = rpc.bakery.attestations(rpc.bakery.head)
            await rpc.post("/injection/operation", vote.hex())
            other = rpc.bakery.transfer(accounts[3])
            await rpc.post("/injection/operation", other.hex())
            assert (await told())[0]["hash"] == hash_text(other)

    serve(bakery, scenario)


def test_a_node_that_stops_ends_its_streams(bakery: Any, serve: Callable[..., None]) -> None:
    ended = []

    async def scenario(rpc: Any) -> None:
        opened = asyncio.Event()

        async def listen() -> None:
            async with lines(rpc, "/monitor/validated_blocks") as blocks:
                opened.set()
                ended.append(await blocks())

        listening = asyncio.create_task(listen())
        await opened.wait()
        await rpc.stop()
        await listening

    serve(bakery, scenario)
    assert ended == [None]


# -- helpers --


@BOTH
def test_simulation(
    new_bakery: Callable[..., Any],
    serve: Callable[..., None],
    accounts: list[Any],
    strangers: list[Any],
    network: Any,
) -> None:
    bakery = new_bakery(network)
    bakery.bake_to(3)
    signature = base58.encode(base58.ED25519_SIGNATURE, b"anything" * 8)

    async def scenario(rpc: Any) -> None:
        async def simulate(signed: bytes, verb: str = "simulate_operation", **fields: Any) -> Any:
            sent = {**contents_of(signed, network), "signature": signature}
            for content in sent["contents"]:
                content.update(fields)
            body = {"operation": sent, "chain_id": await rpc.get("/chains/main/chain_id")}
            return await rpc.http.post(f"{HEAD}/helpers/scripts/{verb}", json=body)

        # As Taquito asks: no fee, all the gas there is, a signature of nothing.
        generous = {"fee": "0", "gas_limit": "1040000", "storage_limit": "60000"}
        new = strangers[0].address
        transfer = rpc.bakery.transfer(accounts[1], destination=new)
        answer = rpc.read(await simulate(transfer, **generous))
        result = answer["contents"][0]["metadata"]["operation_result"]
        assert result["status"] == "applied"
        assert result["allocated_destination_contract"] is True
        assert "balance_updates" not in answer["contents"][0]["metadata"]
        gas = -(-int(result["consumed_milligas"]) // 1000)
        # What was simulated is enough for the real thing.
        real = rpc.bakery.transfer(
            accounts[1], destination=new, gas_limit=gas, storage_limit=257, fee=1000
        )
        await rpc.bake([real])
        block = await rpc.get(f"{HEAD}/operations/3/0")
        applied = block["contents"][0]["metadata"]["operation_result"]
        assert applied["consumed_milligas"] == result["consumed_milligas"]
        # Refused by validation: an error. Refused by application: a result.
        response = await simulate(rpc.bakery.transfer(accounts[1], counter=1), "run_operation")
        assert response.status_code == 500
        assert response.json()[-1]["id"].endswith(".contract.counter_in_the_past")
        response = await simulate(rpc.bakery.transfer(accounts[1], amount=10**14))
        (failed,) = response.json()["contents"]
        assert failed["metadata"]["operation_result"]["status"] == "failed"
        (vote, *_) = rpc.bakery.attestations(rpc.bakery.head)
        response = await simulate(vote)
        assert response.json()[-1]["id"].endswith(
            "run_operation_does_not_support_consensus_operations"
        )
        response = await simulate(transfer, fee=100)
        assert response.status_code == 400, "amounts are strings"

    serve(bakery, scenario)


@BOTH
def test_preapplied_operations(
    new_bakery: Callable[..., Any], serve: Callable[..., None], accounts: list[Any], network: Any
) -> None:
    bakery = new_bakery(network)
    bakery.bake_to(3)
    path = f"{HEAD}/helpers/preapply/operations"
    protocol = network.protocol.hash

    async def scenario(rpc: Any) -> None:
        def sent(signed: bytes) -> dict[str, Any]:
            return {"protocol": protocol, **contents_of(signed, network)}

        reveal = sent(rpc.bakery.transfer(accounts[6], reveal=True))
        (applied,) = await rpc.post(path, [reveal])
        kinds = [content["kind"] for content in applied["contents"]]
        assert kinds == ["reveal", "transaction"]
        assert applied["contents"][1]["metadata"]["operation_result"]["status"] == "applied"
        wrong = {**reveal, "signature": sent(rpc.bakery.transfer(accounts[1]))["signature"]}
        trace = await rpc.refused(path, [wrong])
        assert trace[-1]["id"].endswith(".operation.invalid_signature")
        response = await rpc.http.post(path, json=[{**reveal, "protocol": "P" * 51}])
        assert response.status_code == 400

    serve(bakery, scenario)


def header_json(header: BlockHeader, protocol: str) -> dict[str, Any]:
    """The protocol data of a draft, as bakers send it."""
    return {
        "protocol": protocol,
        "payload_hash": base58.encode(base58.PAYLOAD_HASH, header.payload_hash),
        "payload_round": header.payload_round,
        "proof_of_work_nonce": "0000000500000000",
        "liquidity_baking_toggle_vote": "pass",
        "adaptive_issuance_vote": "pass",
        "signature": base58.encode(base58.GENERIC_SIGNATURE, bytes(64)),
    }


def test_a_preapplied_block_is_the_block(
    bakery: Any, serve: Callable[..., None], accounts: list[Any]
) -> None:
    bakery.bake_to(3)
    protocol = bakery.network.protocol.hash
    path = f"{HEAD}/helpers/preapply/block"

    async def scenario(rpc: Any) -> None:
        bakery = rpc.bakery
        votes = bakery.attestations(bakery.head)
        transfers = [bakery.transfer(accounts[1]), bakery.transfer(accounts[2])]
        hopeless = bakery.transfer(accounts[3], counter=7)
        no_payload = base58.encode(base58.PAYLOAD_HASH, bytes(32))
        passes = bakery.passes(votes, transfers)
        header = bakery.header(passes)

        def draft(managers: list[bytes], **changes: Any) -> Any:
            return {
                "protocol_data": {
                    **header_json(header, protocol),
                    "payload_hash": no_payload,
                    **changes,
                },
                "operations": [
                    [
                        {"protocol": protocol, **contents_of(signed, bakery.network)}
                        for signed in one_pass
                    ]
                    for one_pass in (votes, (), (), managers)
                ],
            }

        body = draft([*transfers, hopeless])
        answer = await rpc.post(path, body, timestamp=header.timestamp)
        shell = answer["shell_header"]
        assert shell["operations_hash"] == text(base58.OPERATIONS_HASH, header.operations_hash)
        assert shell["fitness"] == [each.hex() for each in header.fitness.elements]
        assert shell["context"] == text(base58.CONTEXT_HASH, header.context)
        assert (shell["level"], shell["proto"], shell["validation_pass"]) == (4, 1, 4)
        applied = answer["operations"][3]["applied"]
        assert [each["hash"] for each in applied] == [hash_text(signed) for signed in transfers]
        assert applied[0]["data"] == transfers[0][32:].hex()
        (delayed,) = answer["operations"][3]["branch_delayed"]
        assert delayed["error"][-1]["id"].endswith("counter_in_the_future")
        assert set(answer["operations"][0]) == {
            "applied",
            "refused",
            "outdated",
            "branch_refused",
            "branch_delayed",
        }
        # Without a time it is the round that runs.
        bakery.now = float(header.timestamp + 1)
        running = await rpc.post(path, body)
        assert running["shell_header"]["fitness"][-1] == "00000001"
        wrong_time = await rpc.refused(path, body, timestamp=header.timestamp + 2)
        assert wrong_time[-1]["id"].endswith("block_header.wrong_timestamp")
        few = {**body, "operations": [[], [], [], []]}
        trace = await rpc.refused(path, few, timestamp=header.timestamp)
        assert trace[-1]["id"].endswith("not_enough_attestations")
        assert (await rpc.http.post(path, json=draft([], protocol="P" * 51))).status_code == 400
        # The block is what the node built.
        assert (await rpc.inject_block(bakery.signed(header), passes)).status_code == 200

    serve(bakery, scenario)


def test_a_preapplied_reproposal_has_its_lock_in_the_fitness(
    bakery: Any, serve: Callable[..., None]
) -> None:
    predecessor = bakery.bake_to(3)
    votes = bakery.attestations(predecessor)
    proposal = bakery.bake()
    preattestations = bakery.preattestations(proposal)
    protocol = bakery.network.protocol.hash

    async def scenario(rpc: Any) -> None:
        bakery = rpc.bakery
        passes = bakery.passes([*votes, *preattestations])
        header = bakery.header(
            passes, predecessor=predecessor, round=1, payload_round=0, locked_round=0
        )
        body = {
            "protocol_data": header_json(header, protocol),
            "operations": [
                [
                    {"protocol": protocol, **contents_of(signed, bakery.network)}
                    for signed in one_pass
                ]
                for one_pass in passes
            ],
        }
        path = f"{HEAD}~1/helpers/preapply/block"
        answer = await rpc.post(path, body, timestamp=header.timestamp)
        assert answer["shell_header"]["fitness"] == [each.hex() for each in header.fitness.elements]
        assert answer["shell_header"]["fitness"][2] == "00000000"

    serve(bakery, scenario)


@BOTH
def test_forging_and_parsing(
    new_bakery: Callable[..., Any], serve: Callable[..., None], accounts: list[Any], network: Any
) -> None:
    bakery = new_bakery(network)
    bakery.bake_to(3)

    async def scenario(rpc: Any) -> None:
        for signed in (
            rpc.bakery.transfer(accounts[6], reveal=True),
            rpc.bakery.attestations(rpc.bakery.head)[0],
            rpc.bakery.votes(Kind.PREATTESTATION, rpc.bakery.head, slots=[0])[0],
        ):
            shown = contents_of(signed, network)
            sent = {"branch": shown["branch"], "contents": shown["contents"]}
            forged = await rpc.post(f"{HEAD}/helpers/forge/operations", sent)
            assert forged == signed[:-64].hex()
            body = {"operations": [{"branch": shown["branch"], "data": signed[32:].hex()}]}
            (parsed,) = await rpc.post(f"{HEAD}/helpers/parse/operations", body)
            assert parsed == shown
            await rpc.post(f"{HEAD}/helpers/parse/operations", {**body, "check_signature": True})
            response = await rpc.http.post(f"{HEAD}/helpers/forge/signed_operations", json=shown)
            if network is TEZOS:
                assert rpc.read(response) == signed.hex()
            else:
                assert response.status_code == 404

    serve(bakery, scenario)


def test_slow_paths_and_origins(bakery: Any, serve: Callable[..., None]) -> None:
    async def scenario(rpc: Any) -> None:
        loop = asyncio.get_running_loop()
        before = loop.time()
        response = await rpc.http.get("/version")
        assert loop.time() - before >= 0.2
        assert response.headers["access-control-allow-origin"] == "*"
        before = loop.time()
        chain_id = (await rpc.http.get("/chains/main/chain_id")).json()
        assert loop.time() - before < 0.2
        await rpc.http.get(f"/chains/{chain_id}/mempool/filter")
        assert loop.time() - before >= 0.2, "a chain's id is a name for main, slow or not"
        before = loop.time()
        response = await rpc.http.options(f"{HEAD}/hash")
        assert (response.status_code, response.headers["allow"]) == (200, "GET")
        assert loop.time() - before < 0.2

    slow_s = {"/version": 0.2, "/chains/main/mempool": 0.2}
    serve(bakery, scenario, slow_s=slow_s, cors_origin="*")
