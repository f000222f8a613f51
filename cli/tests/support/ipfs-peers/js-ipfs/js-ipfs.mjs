// A js-ipfs node on loopback, with its swarm off: Kubo's RPC and a path gateway.
//   node js-ipfs.mjs '{"repo": DIR, "rpc": PORT, "http": PORT, "files": [PATH]}'
import fs from 'node:fs'
import { globSource } from 'ipfs-core'
import { Daemon } from 'ipfs-daemon'
import { obey, say } from './commands.mjs'

const options = JSON.parse(process.argv[2])
const local = (port) => `/ip4/127.0.0.1/tcp/${port}`
const daemon = new Daemon({
  repo: options.repo,
  init: { emptyRepo: true },
  preload: { enabled: false },
  silent: true,
  config: {
    Addresses: { Swarm: [], API: local(options.rpc), Gateway: local(options.http), RPC: local(0), Delegates: [] },
    Bootstrap: [],
    Discovery: { MDNS: { Enabled: false }, webRTCStar: { Enabled: false } },
    Pubsub: { Enabled: false },
    Routing: { Type: 'none' },
    Swarm: { DisableNatPortMap: true }
  }
})
await daemon.start()
const ipfs = daemon._ipfs

// Under the profile unixfs-v0-2015, which is the default here, but for what `how` says.
const add = async (file, how) => {
  if (!fs.statSync(file).isDirectory()) return (await ipfs.add(fs.createReadStream(file), how)).cid.toString()
  let last
  for await (const entry of ipfs.addAll(globSource(file, '**/*', { hidden: true }), { wrapWithDirectory: true, ...how })) last = entry
  return last.cid.toString()
}

const added = []
for (const file of options.files) added.push(await add(file, {}))
say({ added })
obey({ add: ({ path, how }) => add(path, how) }, () => daemon.stop())
