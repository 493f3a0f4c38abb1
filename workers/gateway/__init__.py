"""The octez-signer protocol in front of the pool, for bakers and wallets that speak nothing else.

A client of the broker in a process of its own; it holds no secret key.

    http_listener, socket_listener     bytes of a connection
        http_protocol, socket_protocol     to a request, and an answer to bytes (pure)
            desk                           one request at a time to its answer
                gate                       what may pass, and as what (pure)
                pool_clients               the broker's client, one for each who has authenticated
                tally                      what is counted (pure)
"""
