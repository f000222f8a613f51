// Builds a JavaScript function into a component: node build.mjs INPUT.js OUTPUT.wasm
import { mkdtemp, realpath, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { componentize } from '@bytecodealliance/componentize-js';
import { build } from 'esbuild';

const here = dirname(fileURLToPath(import.meta.url));

async function main([input, output]) {
  if (!input || !output) throw new Error('usage: node build.mjs INPUT.js OUTPUT.wasm');
  const work = await mkdtemp(join(tmpdir(), 'af-js-'));
  try {
    const bundle = join(work, 'bundle.js');
    await bundleTo(bundle, await realpath(resolve(input)));
    const { component } = await componentize({
      sourcePath: bundle,
      witPath: process.env.AF_WIT ?? join(here, '../wit'),
      worldName: 'function',
    });
    await writeFile(output, component);
  } finally {
    await rm(work, { recursive: true, force: true });
  }
}

async function bundleTo(outfile, input) {
  const entry = `
    import { listen } from ${JSON.stringify(join(here, 'handler.js'))};
    import * as module from ${JSON.stringify(input)};
    listen(module);`;
  await build({
    stdin: { contents: entry, resolveDir: dirname(input) },
    bundle: true,
    format: 'esm',
    platform: 'neutral',
    external: ['wasi:*'],
    mainFields: ['module', 'main'],
    target: 'es2022',
    tsconfigRaw: {},
    outfile,
    logLevel: 'warning',
    plugins: [node, ...(process.env.AF_JS_SEALED ? [sealed(input)] : [])],
  });
}

// What Fleek's CLI imports in every function that it bundles.
const node = {
  name: 'node',
  setup(build) {
    build.onResolve({ filter: /^node:(buffer|async_hooks|perf_hooks)$/ }, () => ({ path: join(here, 'node.js') }));
  },
};

// A server builds code of others, which must not read its files: an import is a way to have one in the component. What they
// send is bundled already.
function sealed(input) {
  const ours = new Set([input, join(here, 'handler.js'), join(here, 'node.js')]);
  const refuse = ({ path }) => ({ errors: [{ text: `${path} cannot be imported here; bundle it into the file` }] });
  return {
    name: 'sealed',
    setup(build) {
      build.onResolve({ filter: /.*/ }, (args) =>
        args.importer === input && !args.path.startsWith('wasi:') ? refuse(args) : undefined,
      );
      // Nothing of the file's own directory or those above it.
      build.onLoad({ filter: /.*/ }, ({ path }) => (ours.has(path) ? undefined : refuse({ path })));
    },
  };
}

try {
  await main(process.argv.slice(2));
} catch (error) {
  console.error(`error: ${error.message}`);
  process.exit(1);
}
