// Builds a JavaScript function into a component: node build.mjs INPUT.js OUTPUT.wasm
import { cp, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { componentize } from '@bytecodealliance/componentize-js';
import { build } from 'esbuild';

const here = dirname(fileURLToPath(import.meta.url));

// componentize-js 0.23 finds the handler under this version only; the interfaces are those of 0.2.12.
const HTTP_VERSION = '0.2.10';

async function main([input, output]) {
  if (!input || !output) throw new Error('usage: node build.mjs INPUT.js OUTPUT.wasm');
  const work = await mkdtemp(join(tmpdir(), 'af-js-'));
  try {
    await copyWit(join(work, 'wit'));
    const bundle = join(work, 'bundle.js');
    await bundleTo(bundle, resolve(input));
    const { component } = await componentize({
      sourcePath: bundle,
      witPath: join(work, 'wit'),
      worldName: 'function',
    });
    await writeFile(output, component);
  } finally {
    await rm(work, { recursive: true, force: true });
  }
}

async function copyWit(to) {
  const wasi = join(here, 'node_modules/@bytecodealliance/jco/lib/wit/builtin/0.2.12');
  for (const name of ['cli', 'clocks', 'filesystem', 'http', 'io', 'random', 'sockets']) {
    await cp(join(wasi, `wasi-${name}`), join(to, 'deps', `wasi-${name}`), { recursive: true });
  }
  const http = join(to, 'deps/wasi-http/package.wit');
  const text = await readFile(http, 'utf8');
  await writeFile(http, text.replaceAll(/(wasi:http(?:\/[a-z-]+)?@)0\.2\.12/g, `$1${HTTP_VERSION}`));
  await cp(process.env.AF_WIT ?? join(here, '../wit/function.wit'), join(to, 'function.wit'));
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
    mainFields: ['module', 'main'],
    target: 'es2022',
    outfile,
    logLevel: 'warning',
  });
}

await main(process.argv.slice(2));
