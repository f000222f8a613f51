// A bundler of Arweave with a gateway, on loopback: it takes data items that arbundles finds valid, as Turbo's API has it,
// and shows them by their ids and by GraphQL, whose queries are checked against Arweave's schema.
//   node archive.mjs '{"http": PORT}'
import { createHash, generateKeyPairSync } from 'node:crypto'
import http from 'node:http'
import * as arbundles from '@dha-team/arbundles'
import { buildSchema, graphql } from 'graphql'
import { obey, say } from './commands.mjs'

const { ArweaveSigner, createData, DataItem } = arbundles.default ?? arbundles
const options = JSON.parse(process.argv[2])

// By id, the oldest one first.
const items = new Map()
const known = { uploads: 0, requests: 0, cut: 0, receipt: undefined, hidden: false, status: { status: 'FINALIZED' } }

const hash = (bytes) => createHash('sha256').update(bytes).digest('base64url')

const keep = (item) => {
  items.set(item.id, { type: item.signatureType, owner: hash(item.rawOwner), tags: item.tags, data: item.rawData })
}

const schema = buildSchema(`
  type Query { transactions(ids: [ID!], owners: [String!], tags: [TagFilter!], first: Int = 10, after: String, sort: SortOrder): TransactionConnection! }
  enum SortOrder { HEIGHT_ASC HEIGHT_DESC }
  input TagFilter { name: String!, values: [String!]! }
  type TransactionConnection { edges: [TransactionEdge!]! }
  type TransactionEdge { node: Transaction! }
  type Transaction { id: ID! }
`)

const transactions = ({ owners, tags = [], first, sort }) => {
  const tagged = (item) => tags.every(({ name, values }) => item.tags.some((tag) => tag.name === name && values.includes(tag.value)))
  const found = [...items].filter(([, item]) => (owners === undefined || owners.includes(item.owner)) && tagged(item))
  if (sort !== 'HEIGHT_ASC') found.reverse()
  return { edges: known.hidden ? [] : found.slice(0, first).map(([id]) => ({ node: { id } })) }
}

const body = async (request) => {
  const chunks = []
  for await (const chunk of request) chunks.push(chunk)
  return Buffer.concat(chunks)
}

const take = async (request, answer) => {
  const bytes = await body(request)
  if (Number(request.headers['content-length']) !== bytes.length) return answer(400, 'Request content has no length')
  if (request.headers['content-type'] !== 'application/octet-stream') return answer(400, 'Invalid Content Type')
  known.uploads++
  if (!await DataItem.verify(bytes)) return answer(400, 'Invalid Data Item!')
  const item = new DataItem(bytes)
  if (items.has(item.id)) return answer(202, '')
  keep(item)
  if (known.cut > 0) {
    known.cut--
    return request.socket.destroy()
  }
  answer(200, JSON.stringify({ id: known.receipt ?? item.id, owner: items.get(item.id).owner, dataCaches: ['arweave.net'] }))
}

const show = (request, id, answer) => {
  const item = items.get(id)
  if (item === undefined || known.hidden) return answer(404, 'Not found')
  const size = item.data.length
  const range = /^bytes=(\d+)-(\d+)$/.exec(request.headers.range ?? '')
  if (range === null) return answer(200, item.data)
  const from = Number(range[1])
  const to = Math.min(Number(range[2]), size - 1)
  if (from > to) return answer(416, '', { 'content-range': `bytes */${size}` })
  answer(206, item.data.subarray(from, to + 1), { 'content-range': `bytes ${from}-${to}/${size}` })
}

const serve = async (request, answer) => {
  const path = request.url
  const status = /^\/v1\/tx\/([\w-]{43})\/status$/.exec(path)
  const id = /^\/([\w-]{43})$/.exec(path)
  if (request.method === 'POST' && path === '/v1/tx') return take(request, answer)
  if (request.method === 'POST' && path === '/graphql') {
    const { query, variables } = JSON.parse(await body(request))
    return answer(200, JSON.stringify(await graphql({ schema, source: query, rootValue: { transactions }, variableValues: variables })))
  }
  if (status !== null) return items.has(status[1]) ? answer(200, JSON.stringify(known.status)) : answer(404, "TX doesn't exist")
  if (id !== null) return show(request, id[1], answer)
  answer(404, 'Not found')
}

const server = http.createServer((request, response) => {
  known.requests++
  const answer = (status, content, headers = {}) => {
    response.writeHead(status, { 'content-length': Buffer.byteLength(content), ...headers })
    response.end(content)
  }
  serve(request, answer).catch((error) => answer(500, error.message))
})

const commands = {
  // How often items were sent, how often it was asked anything, and what it has.
  state: () => ({
    uploads: known.uploads,
    requests: known.requests,
    items: [...items].map(([id, { type, owner, tags, data }]) => ({ id, type, owner, tags, bytes: data.length }))
  }),
  // What it does from now on.
  be: ({ how }) => { Object.assign(known, how) },
  // Somebody else's item with any tags and data.
  forge: async ({ tags, data }) => {
    const signer = new ArweaveSigner(generateKeyPairSync('rsa', { modulusLength: 4096 }).privateKey.export({ format: 'jwk' }))
    const item = createData(Buffer.from(data), signer, { tags })
    await item.sign(signer)
    keep(item)
    return item.id
  },
  wallet: () => JSON.stringify(generateKeyPairSync('rsa', { modulusLength: 4096 }).privateKey.export({ format: 'jwk' }))
}

server.listen(options.http, '127.0.0.1', () => say({}))
obey(commands)
