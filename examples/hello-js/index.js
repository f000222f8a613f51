// The smallest function in JavaScript: a `fetch` handler, as on other platforms.
export default {
  async fetch(request, env) {
    const { pathname } = new URL(request.url);
    if (pathname === '/echo') {
      return new Response(request.body, { headers: { 'content-type': 'application/octet-stream' } });
    }
    if (pathname === '/settings') return Response.json(env);
    return new Response('Hello from JavaScript!\n', { headers: { 'content-type': 'text/plain' } });
  },
};
