// A Helia node on loopback: bitswap over TCP, and a trustless and path gateway, whose responses are verified-fetch's.
//   node helia.mjs '{"repo": DIR, "http": PORT, "tcp": PORT, "files": [PATH]}'
import fs from 'node:fs'
import http from 'node:http'
import path from 'node:path'
import { Readable } from 'node:stream'
import { withBitswap } from '@helia/bitswap'
import { withLibp2pLight } from '@helia/libp2p'
import { globSource, unixfs } from '@helia/unixfs'
import { createVerifiedFetch } from '@helia/verified-fetch'
import * as dagCbor from '@ipld/dag-cbor'
import * as dagJson from '@ipld/dag-json'
import { generateKeyPair, privateKeyFromProtobuf, privateKeyToProtobuf } from '@libp2p/crypto/keys'
import { identify } from '@libp2p/identify'
import { noise } from '@libp2p/noise'
import { tcp } from '@libp2p/tcp'
import { yamux } from '@libp2p/yamux'
import { multiaddr } from '@multiformats/multiaddr'
import { blake3 as hash } from '@noble/hashes/blake3.js'
import { FsBlockstore } from 'blockstore-fs'
import { createHeliaLight } from 'helia'
import { CID } from 'multiformats/cid'
import { from } from 'multiformats/hashes/hasher'
import { obey, say } from './commands.mjs'

const options = JSON.parse(process.argv[2])
const blake3 = from({ name: 'blake3', code: 0x1e, encode: (bytes) => hash(bytes) })

// The same peer after a restart.
const privateKey = async () => {
  const file = path.join(options.repo, 'key')
  if (fs.existsSync(file)) return privateKeyFromProtobuf(fs.readFileSync(file))
  const key = await generateKeyPair('Ed25519')
  fs.writeFileSync(file, privateKeyToProtobuf(key))
  return key
}

const blockstore = new FsBlockstore(path.join(options.repo, 'blocks'))
await blockstore.open()
const light = createHeliaLight({ blockstore, hashers: [blake3], codecs: [dagCbor, dagJson] })
// No bootstrap, no DHT, no mDNS, no relay; and it dials this machine only.
const helia = withBitswap(withLibp2pLight(light, {
  privateKey: await privateKey(),
  addresses: { listen: [`/ip4/127.0.0.1/tcp/${options.tcp}`] },
  transports: [tcp()],
  connectionEncrypters: [noise()],
  streamMuxers: [yamux()],
  connectionGater: { denyDialMultiaddr: (address) => !address.toString().startsWith('/ip4/127.0.0.1/') },
  services: { identify: identify() }
}))
await helia.start()
const files = unixfs(helia)

// Under the profile unixfs-v1-2025, which is the default here.
const add = async (file) => {
  if (!fs.statSync(file).isDirectory()) return (await files.addByteStream(fs.createReadStream(file))).toString()
  let last
  for await (const entry of files.addAll(globSource(file, '**/*', { hidden: true }), { wrapWithDirectory: true })) last = entry
  return last.cid.toString()
}

// verified-fetch looks at Accept only; the specification says that `format` comes first.
const accepted = (url, accept) => {
  const format = url.searchParams.get('format')
  const type = {
    raw: 'application/vnd.ipld.raw',
    car: 'application/vnd.ipld.car; version=1; order=dfs; dups=n',
    tar: 'application/x-tar',
    'dag-json': 'application/vnd.ipld.dag-json',
    'dag-cbor': 'application/vnd.ipld.dag-cbor'
  }[format]
  return type === undefined || accept?.includes(type.split(';')[0]) ? accept : type
}

const verifiedFetch = await createVerifiedFetch(helia)
const serve = async (request, response) => {
  const gone = new AbortController()
  response.on('close', () => gone.abort())
  try {
    const url = new URL(request.url, 'http://localhost')
    const found = url.pathname.match(/^\/ipfs\/([^/]+)(.*)$/)
    if (found === null) return response.writeHead(404).end('not found\n')
    const headers = {}
    for (const name of ['accept', 'range', 'if-none-match']) if (request.headers[name]) headers[name] = request.headers[name]
    const accept = accepted(url, headers.accept)
    if (accept !== undefined) headers.accept = accept
    const answer = await verifiedFetch(`ipfs://${found[1]}${found[2]}${url.search}`, { headers, method: request.method, redirect: 'manual', signal: gone.signal })
    response.writeHead(answer.status, Object.fromEntries(answer.headers))
    if (answer.body === null || request.method === 'HEAD') return response.end()
    Readable.fromWeb(answer.body).on('error', () => response.destroy()).pipe(response)
  } catch (error) {
    if (!response.headersSent) response.writeHead(error.name === 'AbortError' ? 504 : 500, { 'content-type': 'text/plain' })
    response.end(`${error.name}: ${error.message}\n`)
  }
}

const added = []
for (const file of options.files) added.push(await add(file))
await new Promise((listening) => http.createServer(serve).listen(options.http, '127.0.0.1', listening))
say({ peer: helia.libp2p.peerId.toString(), addresses: helia.libp2p.getMultiaddrs().map(String), added })
obey({
  add: ({ path }) => add(path),
  connect: async ({ address }) => { await helia.libp2p.dial(multiaddr(address)) },
  fetch: async ({ cid, path, timeout }) => {
    const out = fs.openSync(path, 'w')
    try {
      for await (const bytes of files.cat(CID.parse(cid), { signal: AbortSignal.timeout(timeout) })) fs.writeSync(out, bytes)
    } finally {
      fs.closeSync(out)
    }
  }
}, () => helia.stop())
