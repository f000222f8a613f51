// Builds a JavaScript function into a component: node build.mjs INPUT.js OUTPUT.wasm
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
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
    await bundleTo(bundle, resolve(input));
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
    outfile,
    logLevel: 'warning',
  });
}

try {
  await main(process.argv.slice(2));
} catch (error) {
  console.error(`error: ${error.message}`);
  process.exit(1);
}
