// verified-fetch as a client of a gateway on loopback: what it gets, it has verified.
//   node fetch.mjs '{"gateway": URL, "what": "CID/path", "out": PATH}'
import fs from 'node:fs'
import { createVerifiedFetch } from '@helia/verified-fetch'
import { identify } from '@libp2p/identify'
import { noise } from '@libp2p/noise'
import { tcp } from '@libp2p/tcp'
import { yamux } from '@libp2p/yamux'
import { blake3 as hash } from '@noble/hashes/blake3.js'
import { from } from 'multiformats/hashes/hasher'
import { say } from './commands.mjs'

const options = JSON.parse(process.argv[2])
const verifiedFetch = await createVerifiedFetch({
  gateways: [options.gateway],
  routers: [],
  allowLocal: true,
  allowInsecure: true,
  hashers: [from({ name: 'blake3', code: 0x1e, encode: (bytes) => hash(bytes) })],
  libp2pConfig: {
    addresses: { listen: [] },
    transports: [tcp()],
    connectionEncrypters: [noise()],
    streamMuxers: [yamux()],
    peerDiscovery: [],
    connectionGater: { denyDialMultiaddr: (address) => !address.toString().startsWith('/ip4/127.0.0.1/') },
    services: { identify: identify() }
  }
})
try {
  const response = await verifiedFetch(`ipfs://${options.what}`, { signal: AbortSignal.timeout(30_000) })
  fs.writeFileSync(options.out, Buffer.from(await response.arrayBuffer()))
  say({ done: response.status })
} catch (error) {
  say({ failed: `${error.name}: ${error.message}` })
}
process.exit(0)
