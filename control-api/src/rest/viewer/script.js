// Renders /openapi.json. Text only becomes text: nothing of the document is taken for HTML.
'use strict';

let schemas = {};

function element(name, children = [], attributes = {}) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...[children].flat());
  return made;
}

const code = (text, attributes) => element('code', text, attributes);
const nameOf = (reference) => reference.split('/').pop();
const anchor = (name) => name.replace(/[^A-Za-z0-9]+/g, '-');

// A type in words, as nodes; named schemas are links.
function type(schema) {
  if (!schema) return ['anything'];
  if (schema.$ref) return [element('a', nameOf(schema.$ref), { href: '#schema-' + anchor(nameOf(schema.$ref)) })];
  const several = schema.oneOf ?? schema.anyOf ?? schema.allOf;
  if (several) return several.flatMap((one, at) => (at ? [' or ', ...type(one)] : type(one)));
  if (schema.enum) return [schema.enum.map((value) => JSON.stringify(value)).join(', ')];
  const names = [schema.type ?? 'anything'].flat();
  return names.flatMap((name, at) => [at ? ' or ' : '', ...(name === 'array' ? ['list of ', ...type(schema.items)] : [name])]);
}

function table(head, rows) {
  const row = (cell) => (cells) => element('tr', cells.map((one) => element(cell, one)));
  return element('table', [element('thead', row('th')(head)), element('tbody', rows.map(row('td')))]);
}

const needed = (type, isRequired) => (isRequired ? [...type, ', required'] : type);

function properties(schema) {
  const required = schema.required ?? [];
  const rows = Object.entries(schema.properties ?? {}).map(([name, one]) => [
    code(name), needed(type(one), required.includes(name)), one.description ?? '',
  ]);
  return rows.length ? [table(['Field', 'Type', 'Meaning'], rows)] : [element('p', type(schema))];
}

// What a body may look like. Schemas that contain themselves end.
function sample(schema, depth = 0) {
  if (!schema || depth > 6) return null;
  if (schema.$ref) return sample(schemas[nameOf(schema.$ref)], depth + 1);
  if (schema.enum) return schema.enum[0];
  const one = (schema.oneOf ?? schema.anyOf ?? schema.allOf ?? []).find((one) => one.type !== 'null');
  if (one) return sample(one, depth + 1);
  const kind = [schema.type ?? 'object'].flat().find((name) => name !== 'null');
  if (kind === 'array') return [sample(schema.items, depth + 1)];
  if (kind !== 'object') return { string: '…', integer: 0, number: 0, boolean: false }[kind] ?? null;
  const fields = Object.entries(schema.properties ?? {}).filter(([name]) => (schema.required ?? []).includes(name));
  return Object.fromEntries(fields.map(([name, one]) => [name, sample(one, depth + 1)]));
}

const quoted = (text) => "'" + text.replaceAll("'", "'\\''") + "'";

function curl(method, path, operation, isPublic) {
  const needed = (operation.parameters ?? []).filter((one) => one.in === 'query' && one.required);
  const query = needed.map((one) => one.name + '=' + one.name.toUpperCase()).join('&');
  const words = ['curl'];
  if (method !== 'get') words.push('-X ' + method.toUpperCase());
  if (!isPublic) words.push('-H "authorization: Bearer $AF_TOKEN"');
  const [kind, content] = Object.entries(operation.requestBody?.content ?? {})[0] ?? [];
  if (kind === 'multipart/form-data') words.push('-F file=@FILE');
  else if (kind === 'application/json') words.push("-H 'content-type: application/json'", '-d ' + quoted(JSON.stringify(sample(content.schema))));
  else if (kind) words.push(`-H 'content-type: ${kind}'`, '--data-binary @FILE');
  words.push(quoted(location.origin + path + (query && '?' + query)));
  return words.join(' \\\n  ');
}

function operationShown(method, path, operation) {
  const parameters = (operation.parameters ?? []).map((one) => [
    code(one.name), one.in, needed(type(one.schema), one.required), one.description ?? '',
  ]);
  const bodies = Object.entries(operation.requestBody?.content ?? {});
  const answers = Object.entries(operation.responses ?? {}).map(([status, one]) => {
    const kinds = Object.entries(one.content ?? {}).flatMap(([kind, content]) => [code(kind), ' ', ...type(content.schema), ' ']);
    return [code(status), kinds, one.description ?? ''];
  });
  // `security` with nothing in it: nobody has to be signed in.
  const isPublic = (operation.security ?? []).some((one) => Object.keys(one).length === 0);
  return element('details', [
    element('summary', [element('span', method.toUpperCase(), { class: 'method' }), code(path), ' ', operation.summary ?? '']),
    element('p', [operation.description ?? '', isPublic ? ' Needs no token.' : '']),
    ...(parameters.length ? [element('h3', 'Parameters'), table(['Name', 'In', 'Type', 'Meaning'], parameters)] : []),
    ...(bodies.length ? [element('h3', 'Body'), table(['Type', 'Schema'], bodies.map(([kind, one]) => [code(kind), type(one.schema)]))] : []),
    element('h3', 'Answers'),
    table(['Status', 'Content', 'Meaning'], answers),
    element('h3', 'Example'),
    element('pre', code(curl(method, path, operation, isPublic))),
  ], { id: anchor(method + path) });
}

function show(api) {
  schemas = api.components?.schemas ?? {};
  document.title = api.info.title;
  document.querySelector('h1').textContent = api.info.title;
  document.querySelector('#about').replaceChildren(api.info.description ?? '', ' ', element('a', '/openapi.json', { href: '/openapi.json' }));
  const tags = new Map();
  for (const [path, item] of Object.entries(api.paths)) {
    for (const method of ['get', 'post', 'put', 'patch', 'delete'].filter((method) => item[method])) {
      const tag = item[method].tags?.[0] ?? 'other';
      tags.set(tag, [...(tags.get(tag) ?? []), operationShown(method, path, item[method])]);
    }
  }
  tags.set('schemas', Object.entries(schemas).map(([name, schema]) => element('details', [
    element('summary', code(name)), element('p', schema.description ?? ''), ...properties(schema),
  ], { id: 'schema-' + anchor(name) })));
  for (const [tag, shown] of tags) {
    document.querySelector('nav').append(element('a', tag, { href: '#' + anchor(tag) }));
    document.querySelector('main').append(element('section', [element('h2', tag, { id: anchor(tag) }), ...shown]));
  }
  open();
}

// What a link leads to is unfolded.
function open() {
  const target = location.hash && document.getElementById(location.hash.slice(1));
  if (target?.tagName === 'DETAILS') target.open = true;
  target?.scrollIntoView?.();
}

addEventListener('hashchange', open);
fetch('/openapi.json')
  .then((answer) => { if (!answer.ok) throw new Error('it answers ' + answer.status); return answer.json(); })
  .then(show)
  .catch((error) => { document.querySelector('#about').textContent = '/openapi.json cannot be shown: ' + error.message; });
