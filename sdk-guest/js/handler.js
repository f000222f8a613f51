// Turns a user's module, of whichever of the accepted shapes, into a `fetch` event listener:
//   export default { fetch(request, env, ctx) }       Workers
//   export default async function (request)           Alternate Futures
//   export const main = (request) => …                Fleek
// A module that calls addEventListener('fetch', …) itself needs nothing.

import { getEnvironment } from 'wasi:cli/environment@0.2.12';

export function listen(module) {
  const handle = pick(module);
  if (handle) {
    addEventListener('fetch', (event) => event.respondWith(handle(event.request, environment(), context(event))));
  }
}

function pick(module) {
  if (typeof module.default?.fetch === 'function') return module.default.fetch.bind(module.default);
  if (typeof module.default === 'function') return module.default;
  if (typeof module.main === 'function') return (request) => fleek(module.main, request);
  return undefined;
}

// The function's settings, as Workers have them. Read for each request: a component holds none that is built ahead.
function environment() {
  return Object.fromEntries(getEnvironment());
}

function context(event) {
  return { waitUntil: (promise) => event.waitUntil(promise), passThroughOnException() {} };
}

async function fleek(main, request) {
  const url = new URL(request.url);
  const query = {};
  for (const key of new Set(url.searchParams.keys())) {
    const values = url.searchParams.getAll(key);
    query[key] = values.length > 1 ? values : values[0];
  }
  const text = await request.text();
  const json = request.headers.get('content-type')?.includes('json');
  const answer = await main({
    method: request.method,
    headers: Object.fromEntries(request.headers),
    path: url.pathname,
    query,
    body: json && text ? JSON.parse(text) : text,
  });
  if (answer === null || typeof answer !== 'object') return new Response(String(answer ?? ''));
  const { status = 200, headers = {}, body = '' } = answer;
  return new Response(typeof body === 'object' ? JSON.stringify(body) : String(body), { status, headers });
}
