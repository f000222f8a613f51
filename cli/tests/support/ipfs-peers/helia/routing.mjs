// A delegated routing server (Routing V1) on loopback. It knows what it is told.
//   node routing.mjs '{"http": PORT, "providers": {CID: [MULTIADDR]}}'
import { createDelegatedRoutingV1HttpApiServer } from '@helia/delegated-routing-v1-http-api-server'
import { generateKeyPairFromSeed } from '@libp2p/crypto/keys'
import { peerIdFromPrivateKey, peerIdFromString } from '@libp2p/peer-id'
import { multiaddr } from '@multiformats/multiaddr'
import { obey, say } from './commands.mjs'

const options = JSON.parse(process.argv[2])
const providers = new Map(Object.entries(options.providers))

// An address can end with the peer's id; HTTP providers need none, but the format wants one.
const peerId = async (address) => {
  const found = address.match(/\/p2p\/([^/]+)$/)
  if (found !== null) return peerIdFromString(found[1])
  const seed = new Uint8Array(32)
  seed.set(new TextEncoder().encode(address).slice(-32))
  return peerIdFromPrivateKey(await generateKeyPairFromSeed('Ed25519', seed))
}

async function * findProviders (cid) {
  for (const address of providers.get(cid.toString()) ?? []) {
    yield { id: await peerId(address), multiaddrs: [multiaddr(address)] }
  }
}

await createDelegatedRoutingV1HttpApiServer({ routing: { findProviders } }, { listen: { host: '127.0.0.1', port: options.http } })
say({})
obey({ provide: ({ cid, addresses }) => { providers.set(cid, addresses) } })
