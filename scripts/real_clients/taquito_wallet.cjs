// Use Taquito as a wallet does, on a sandbox chain that is being baked.
//
// The node's address and the secret keys of two funded accounts come as JSON on standard input.
// Prints one line for each step; the first one that fails is the last, and the status is 1.
'use strict';

const assert = require('node:assert/strict');
const { randomBytes } = require('node:crypto');
const { readFileSync } = require('node:fs');
const { LocalForger } = require('@taquito/local-forging');
const { InMemorySigner, generateSecretKey } = require('@taquito/signer');
const { TezosOperationError, TezosToolkit } = require('@taquito/taquito');

const AMOUNT = 1_000_003; // mutez
// What a new account costs: 257 bytes of 250 mutez.
const BURN = 64_250;
const GENERIC_WATERMARK = new Uint8Array([3]);
const ED25519_PATH = "44'/1729'/0'/0'";

const { url, secret_keys } = JSON.parse(readFileSync(0, 'utf8'));

/** A toolkit that signs with one account's key. */
async function owner(secretKey) {
  const tezos = new TezosToolkit(url);
  tezos.setSignerProvider(new InMemorySigner(secretKey));
  tezos.address = await tezos.signer.publicKeyHash();
  return tezos;
}

const newcomer = () =>
  owner(generateSecretKey(randomBytes(32).toString('hex'), ED25519_PATH, 'ed25519'));

async function balance(tezos) {
  return (await tezos.tz.getBalance(tezos.address)).toNumber();
}

/** The operation as its block has it. */
async function inBlock(tezos, { hash, includedInBlock }) {
  const block = await tezos.rpc.getBlock({ block: `${includedInBlock}` });
  return block.operations[3].find((operation) => operation.hash === hash);
}

/** The transfer of an amount, in mutez. */
const to = (payee, amount) => ({ to: payee.address, amount, mutez: true });

const steps = {
  async 'reads head, constants, protocols'({ payer }) {
    const block = await payer.rpc.getBlock();
    const header = await payer.rpc.getBlockHeader({ block: block.hash });
    assert.equal(header.level, block.header.level);
    assert.equal(block.operations.length, 4);
    const constants = await payer.rpc.getConstants();
    assert.equal(constants.hard_gas_limit_per_operation.toNumber(), 1_040_000);
    const { next_protocol } = await payer.rpc.getProtocols();
    return `level ${header.level}, next protocol ${next_protocol.slice(0, 8)}`;
  },

  async 'reads balances'({ payer }) {
    assert.equal(await balance(await newcomer()), 0);
    const found = await balance(payer);
    assert.ok(found > 0);
    return `${found}, 0 of a new key`;
  },

  async 'estimates and transfers'({ payer, payee }) {
    const before = [await balance(payer), await balance(payee)];
    const estimate = await payer.estimate.transfer(to(payee, AMOUNT));
    assert.equal(estimate.burnFeeMutez, 0);
    const operation = await payer.contract.transfer(to(payee, AMOUNT));
    assert.equal(operation.fee, estimate.suggestedFeeMutez);
    await operation.confirmation(1);
    assert.equal(operation.status, 'applied');
    const after = [await balance(payer), await balance(payee)];
    assert.deepEqual(after, [before[0] - AMOUNT - operation.fee, before[1] + AMOUNT]);
    assert.equal((await inBlock(payer, operation)).contents.length, 1);
    return `${AMOUNT} in block ${operation.includedInBlock}, fee ${operation.fee}, gas ${estimate.gasLimit}`;
  },

  async 'transfers through the wallet API, two confirmations'({ payer, payee }) {
    const before = await balance(payee);
    const operation = await payer.wallet.transfer(to(payee, AMOUNT)).send();
    const { currentConfirmation, completed } = await operation.confirmation(2);
    assert.ok(completed && currentConfirmation >= 2);
    assert.equal(await balance(payee), before + AMOUNT);
    return operation.opHash;
  },

  async 'funds a new account, which reveals itself with its first transfer'({ payer, payee }) {
    const fresh = await newcomer();
    const before = await balance(payer);
    const funded = await payer.contract.transfer(to(fresh, AMOUNT));
    await funded.confirmation(1);
    assert.equal(await balance(payer), before - AMOUNT - funded.fee - BURN);
    assert.equal(await fresh.rpc.getManagerKey(fresh.address), null);
    const operation = await fresh.contract.transfer(to(payee, 1000));
    await operation.confirmation(1);
    const { contents } = await inBlock(fresh, operation);
    assert.deepEqual(
      contents.map(({ kind }) => kind),
      ['reveal', 'transaction'],
    );
    assert.equal(await fresh.rpc.getManagerKey(fresh.address), await fresh.signer.publicKey());
    const fees = contents.reduce((sum, { fee }) => sum + Number(fee), 0);
    assert.equal(await balance(fresh), AMOUNT - 1000 - fees);
    return `paid ${BURN}, then ${operation.hash} with reveal, fees ${fees}`;
  },

  async 'is refused: more than it has'({ payer, payee }) {
    const amount = (await balance(payer)) + 1;
    const error = await payer.contract.transfer(to(payee, amount)).catch((raised) => raised);
    assert.ok(error instanceof TezosOperationError, `${error}`);
    assert.ok(error.id.endsWith('.tez.subtraction_underflow'), error.id);
    return `TezosOperationError, ${error.id}`;
  },

  async 'is refused: a signature of another'({ payer, payee }) {
    const limits = { fee: 1000, gasLimit: 400, storageLimit: 0 };
    const prepared = await payer.prepare.transaction({ ...to(payee, AMOUNT), ...limits });
    const operation = payer.prepare.toForge(prepared);
    const bytes = await new LocalForger(prepared.opOb.protocol).forge(operation);
    assert.equal(await payer.rpc.forgeOperations(operation), bytes);
    const { sbytes } = await payee.signer.sign(bytes, GENERIC_WATERMARK);
    const error = await payer.rpc.injectOperation(sbytes).catch((raised) => raised);
    assert.equal(error.name, 'HttpResponseError', `${error}`);
    assert.equal(error.status, 500);
    const trace = JSON.parse(error.body);
    assert.equal(trace.at(-1).id, 'failure');
    const reason = trace.at(-1).msg.split('\n').at(-1);
    assert.match(reason, /signature/);
    return `${error.name}, ${reason}`;
  },
};

async function main() {
  const [payer, payee] = await Promise.all(secret_keys.map(owner));
  for (const [title, step] of Object.entries(steps)) {
    try {
      console.log(`taquito: ${title}: ${await step({ payer, payee })}`);
    } catch (error) {
      console.error(error);
      console.log(`taquito: ${title}: FAILED`);
      return 1;
    }
  }
  return 0;
}

main().then((status) => process.exit(status));
