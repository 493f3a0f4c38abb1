"""Keys on a Ledger with the Tezos or Mavryk baking app: commands, framing, transports, signer."""
