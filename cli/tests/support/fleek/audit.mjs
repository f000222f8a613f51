// Audits a GraphQL server over HTTP, and subscribes with the published clients: node audit.mjs URL TOKEN DEPLOYMENT
// Prints JSON: what the audit found amiss, and what each client was told first.
import { createClient as sse } from 'graphql-sse';
import { auditServer } from 'graphql-http';
import { createClient as ws } from 'graphql-ws';
import WebSocket from 'ws';

const [url, token, deployment] = process.argv.slice(2);
const results = await auditServer({ url });
const amiss = results.filter((result) => result.status !== 'ok').map(({ id, name, status, reason }) => ({ id, name, status, reason }));

const query = 'subscription($id: ID!) { deploymentStatus(deploymentId: $id) { deploymentId status reason } }';
const first = (client, request) =>
  new Promise((resolve) => {
    const stop = client.subscribe(request, {
      next: (told) => { stop(); resolve(told); },
      error: (error) => resolve({ error: String(error?.message ?? JSON.stringify(error)) }),
      complete: () => {},
    });
  });

const socket = (connectionParams) =>
  ws({ url: url.replace('http', 'ws'), webSocketImpl: WebSocket, connectionParams, retryAttempts: 0 });
const signedIn = socket({ authorization: `Bearer ${token}` });
const events = sse({ url, headers: { authorization: `Bearer ${token}` }, retryAttempts: 0 });
const told = {
  ws: await first(signedIn, { query, variables: { id: deployment } }),
  wsQuery: await first(signedIn, { query: '{ me { id } }' }),
  wsNobody: await first(socket({}), { query, variables: { id: deployment } }),
  wsStranger: await first(socket({ authorization: 'af_live_of_nobody' }), { query: '{ __typename }' }),
  sse: await first(events, { query, variables: { id: deployment } }),
  sseQuery: await first(events, { query: '{ me { id } }' }),
};
await signedIn.dispose();
console.log(JSON.stringify({ audited: results.length, amiss, told }));
process.exit(0);
