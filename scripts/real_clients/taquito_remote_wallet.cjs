// Use Taquito with a key that forgepool's gateway holds, through @taquito/remote-signer.
//
// JSON on standard input: the node's `url`, the `gateway`, the public `key` and hash (`remote`) of the
// account whose secret the pool has, the secret key of another account (`secret_key`), and the
// chain's id in hex (`chain`).
// Prints one line for each step; the first one that fails is the last, and the status is 1.
'use strict';

const assert = require('node:assert/strict');
const { readFileSync } = require('node:fs');
const { RemoteSigner } = require('@taquito/remote-signer');
const { InMemorySigner } = require('@taquito/signer');
const { TezosToolkit } = require('@taquito/taquito');

const AMOUNT = 1_000_005; // mutez
const NOBODY = 'tz1SodoUsWVe1Yey9eMFbqRUtNpBWfir5NRr'; // the first of Octez' key_encoding_vectors

const { url, gateway, key, remote, secret_key, chain } = JSON.parse(readFileSync(0, 'utf8'));

const signer = new RemoteSigner(remote, gateway);
const tezos = new TezosToolkit(url);
tezos.setProvider({ signer });

async function failure(promise) {
  const raised = await promise.then(
    () => assert.fail('it was not refused'),
    (error) => error,
  );
  if (raised instanceof assert.AssertionError) throw raised;
  return raised;
}

/** An attestation of level 7, round 0, without its watermark; it is not for the chain. */
const vote = (content) => '00'.repeat(32) + '150001' + '00000007' + '00000000' + content.repeat(32);

const steps = {
  async 'asks the gateway for the public key'() {
    assert.equal(await signer.publicKey(), key);
    return key;
  },

  async 'transfers, signed by the pool'() {
    const to = await new InMemorySigner(secret_key).publicKeyHash();
    const before = (await tezos.tz.getBalance(to)).toNumber();
    const operation = await tezos.contract.transfer({ to, amount: AMOUNT, mutez: true });
    await operation.confirmation(1);
    assert.equal((await tezos.tz.getBalance(to)).toNumber(), before + AMOUNT);
    return `${AMOUNT} in block ${operation.includedInBlock}, ${operation.hash}`;
  },

  async 'votes through the gateway'() {
    const watermark = Buffer.from(`13${chain}`, 'hex');
    const first = await signer.sign(vote('0a'), watermark);
    const again = await signer.sign(vote('0a'), watermark);
    assert.equal(again.prefixSig, first.prefixSig);
    const error = await failure(signer.sign(vote('0b'), watermark));
    assert.equal(error.status, 409, `${error}`);
    const [{ msg }] = JSON.parse(error.body);
    return `${first.prefixSig.slice(0, 12)}… twice; another: 409 ${msg.slice(0, 60)}…`;
  },

  async 'is refused by the gateway'() {
    const nobody = await failure(new RemoteSigner(NOBODY, gateway).publicKey());
    assert.equal(nobody.name, 'PublicKeyNotFoundError', `${nobody}`);
    const garbage = await failure(signer.sign('1313', new Uint8Array([0x13])));
    assert.equal(garbage.name, 'BadSigningData', `${garbage}`);
    return `${nobody.name}, ${garbage.name}`;
  },
};

async function main() {
  for (const [title, step] of Object.entries(steps)) {
    try {
      console.log(`taquito: ${title}: ${await step()}`);
    } catch (error) {
      console.error(error);
      console.log(`taquito: ${title}: FAILED`);
      return 1;
    }
  }
  return 0;
}

main().then((status) => process.exit(status));
