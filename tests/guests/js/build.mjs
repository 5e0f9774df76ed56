// node build.mjs OUT.wasm: makes a component of service.js.
//
// The engine that componentize-js embeds exports one version of wasi:http and the component's world must name the same, so
// that version is read from the engine and written into a copy of the interfaces that jco brings.
import { cp, mkdtemp, readFile, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { componentize } from '@bytecodealliance/componentize-js';

const modules = join(dirname(fileURLToPath(import.meta.url)), 'node_modules/@bytecodealliance');
const interfaces = join(modules, 'jco/lib/wit/builtin');

async function engineVersion() {
  const engine = await readFile(join(modules, 'componentize-js/lib/starlingmonkey_embedding.wasm'), 'latin1');
  const found = engine.match(/wasi:http\/incoming-handler@(0\.2\.\d+)/);
  if (!found) throw new Error('the JavaScript engine exports no wasi:http/incoming-handler of 0.2');
  return found[1];
}

async function writeWorld(folder, version) {
  const known = (await readdir(interfaces)).filter((name) => name.startsWith('0.2.')).pop();
  await cp(join(interfaces, known), join(folder, 'deps'), { recursive: true });
  for (const name of await readdir(join(folder, 'deps'))) {
    const file = join(folder, 'deps', name, 'package.wit');
    await writeFile(file, (await readFile(file, 'utf8')).replaceAll(known, version));
  }
  const world = `package wisp:guests;\nworld service { export wasi:http/incoming-handler@${version}; }\n`;
  await writeFile(join(folder, 'world.wit'), world);
}

const wit = await mkdtemp(join(tmpdir(), 'wisp-wit-'));
try {
  await writeWorld(wit, await engineVersion());
  const options = { sourcePath: 'service.js', witPath: wit, worldName: 'service' };
  const { component } = await componentize({ ...options, enableFeatures: ['http', 'fetch-event'] });
  await writeFile(process.argv[2], component);
} finally {
  await rm(wit, { recursive: true });
}
