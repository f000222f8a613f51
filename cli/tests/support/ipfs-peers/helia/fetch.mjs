// verified-fetch as a client of a gateway on loopback: what it gets, it has verified.
//   node fetch.mjs '{"gateway": URL, "what": "CID/path", "out": PATH}'
import fs from 'node:fs'
import { withHTTP } from '@helia/http'
import { createVerifiedFetch } from '@helia/verified-fetch'
import * as dagCbor from '@ipld/dag-cbor'
import * as dagJson from '@ipld/dag-json'
import { blake3 as hash } from '@noble/hashes/blake3.js'
import { createHeliaLight } from 'helia'
import { from } from 'multiformats/hashes/hasher'
import { say } from './commands.mjs'

const options = JSON.parse(process.argv[2])
const blake3 = from({ name: 'blake3', code: 0x1e, encode: (bytes) => hash(bytes) })
const light = createHeliaLight({ hashers: [blake3], codecs: [dagCbor, dagJson] })
// Nobody but the gateway: no libp2p, and so no wait for peers who might have what the gateway has not.
const helia = withHTTP(light, { delegatedRouters: [], recursiveGateways: [options.gateway], allowLocal: true, allowInsecure: true })
// It waits for good where gateways are all that it has.
helia.addRouter({ name: 'nobody', findProviders: async function * () {} })
const verifiedFetch = await createVerifiedFetch(await helia.start())
try {
  // A session would look for other gateways until the time is up.
  const response = await verifiedFetch(`ipfs://${options.what}`, { session: false, signal: AbortSignal.timeout(30_000) })
  const bytes = Buffer.from(await response.arrayBuffer())
  if (!response.ok) throw new Error(`status ${response.status}, ${bytes}`)
  fs.writeFileSync(options.out, bytes)
  say({ done: response.status })
} catch (error) {
  say({ failed: `${error.name}: ${error.message}` })
}
process.exit(0)
