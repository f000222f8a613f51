// The mock of the IPFS Pinning Service API, on loopback. A pin is what its name begins with: queued-, pinning-, pinned-, failed-.
//   node pinning.cjs '{"http": PORT, "token": TEXT}'
const { setup } = require('mock-ipfs-pinning-service')

const options = JSON.parse(process.argv[2])
setup({ token: options.token, loglevel: 'error', strict: false }).then((service) => {
  service.listen(options.http, '127.0.0.1', () => process.stdout.write('{}\n'))
})
process.stdin.resume().on('close', () => process.exit(0))
